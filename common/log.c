#include "common/log.h"

#include "common/thread.h"
#include "common/units.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A plain mutex and not struct mutex: logging must not be a scheduling point of a simulator. */
static struct {
	pthread_mutex_t lock;	     /* guards all below and every log_site; see log.h */
	int fd;			     /* also read without the lock, by log_crash() */
	struct log_site *suppressed; /* sites with suppressed_count > 0 */
} log_state = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO };

static int log_level_now = LOG_LEVEL_INFO; /* atomic, relaxed */

/* A line under construction, always with room for the cut mark and the newline. */
struct line {
	size_t len_bytes;
	char text[LOG_LINE_BYTES_MAX];
};

static const char cut_mark[] = "...";
#define LINE_BODY_BYTES_MAX (LOG_LINE_BYTES_MAX - (sizeof(cut_mark) - 1) - 1)

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "error";
}

static void line_begin(struct line *line, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t len;

	ASSERT(clock_gettime(CLOCK_REALTIME, &now) == 0);
	if (gmtime_r(&now.tv_sec, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	len = strftime(line->text, sizeof(line->text), "%Y-%m-%dT%H:%M:%S", &tm);
	len += (size_t)snprintf(line->text + len, sizeof(line->text) - len, ".%03dZ %s ",
				(int)(now.tv_nsec / 1000000), level_name(level));
	line->len_bytes = len;
}

/* How one byte of a message is shown; at most 4 characters. */
static size_t escape(unsigned char byte, char shown[5])
{
	if (byte == '\n')
		return (size_t)snprintf(shown, 5, "\\n");
	if (byte == '\t')
		return (size_t)snprintf(shown, 5, "\\t");
	if (byte == '\\')
		return (size_t)snprintf(shown, 5, "\\\\");
	if (byte < 0x20 || byte == 0x7f)
		return (size_t)snprintf(shown, 5, "\\x%02x", byte);
	shown[0] = (char)byte;
	return 1;
}

static void line_add_escaped(struct line *line, const char *message, bool is_cut)
{
	for (; *message != '\0'; message++) {
		char shown[5];
		size_t len = escape((unsigned char)*message, shown);

		if (line->len_bytes + len > LINE_BODY_BYTES_MAX) {
			is_cut = true;
			break;
		}
		memcpy(line->text + line->len_bytes, shown, len);
		line->len_bytes += len;
	}
	if (is_cut) {
		memcpy(line->text + line->len_bytes, cut_mark, sizeof(cut_mark) - 1);
		line->len_bytes += sizeof(cut_mark) - 1;
	}
}

static void line_write(struct line *line, int fd)
{
	ssize_t n;

	line->text[line->len_bytes++] = '\n';
	/* One call, so that lines of several processes stay whole; a log that cannot be written
	 * has nowhere to complain, and must not stop the work. */
	do {
		n = write(fd, line->text, line->len_bytes);
	} while (n < 0 && errno == EINTR);
}

/* "volume/ring.c" of whatever path the compiler was given. */
static const char *file_name(const char *path)
{
	const char *name = path, *parent = path;

	for (const char *p = path; *p != '\0'; p++) {
		if (*p == '/') {
			parent = name;
			name = p + 1;
		}
	}
	return parent;
}

static void tell_suppressed_locked(struct log_site *site)
{
	struct line line;
	char message[512];

	(void)snprintf(message, sizeof(message),
		       "log: repeated too often, lines left out: site=%s:%d count=%" PRIu64,
		       file_name(site->file), site->line, site->suppressed_count);
	line_begin(&line, site->level);
	line_add_escaped(&line, message, false);
	line_write(&line, log_state.fd);
	site->suppressed_count = 0;
}

/* Also when the clock went back, as it does from one simulated run to the next. */
static bool window_is_over(const struct log_site *site, uint64_t now_ns)
{
	return now_ns - site->window_start_ns >= LOG_SITE_WINDOW_NS;
}

/* Tell of the sites whose window is over, or of all; they leave the list. */
static void tell_all_suppressed_locked(uint64_t now_ns, bool also_open_windows)
{
	struct log_site **at = &log_state.suppressed;

	while (*at != NULL) {
		struct log_site *site = *at;

		if (!also_open_windows && !window_is_over(site, now_ns)) {
			at = &site->next_suppressed;
			continue;
		}
		*at = site->next_suppressed;
		site->next_suppressed = NULL;
		tell_suppressed_locked(site);
	}
}

/* Count a line of this site; false when it is one too many. */
static bool site_admits_locked(struct log_site *site, uint64_t now_ns)
{
	if (site->window_lines == 0 || window_is_over(site, now_ns)) {
		site->window_start_ns = now_ns;
		site->window_lines = 0;
	}
	if (site->window_lines < LOG_SITE_LINES_MAX) {
		site->window_lines++;
		return true;
	}
	if (site->suppressed_count == 0) {
		site->next_suppressed = log_state.suppressed;
		log_state.suppressed = site;
	}
	site->suppressed_count++;
	return false;
}

bool log_is_enabled(enum log_level level)
{
	return (int)level <= __atomic_load_n(&log_level_now, __ATOMIC_RELAXED);
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_level_now, (int)level, __ATOMIC_RELAXED);
}

static void lock(void)
{
	ASSERT(pthread_mutex_lock(&log_state.lock) == 0);
}

static void unlock(void)
{
	ASSERT(pthread_mutex_unlock(&log_state.lock) == 0);
}

static void target_set_locked(int fd)
{
	int old = log_state.fd;

	__atomic_store_n(&log_state.fd, fd, __ATOMIC_RELAXED);
	if (old != STDERR_FILENO)
		(void)close(old); /* what it could report went unread line by line */
}

int log_open(const char *path, enum log_level level)
{
	int fd = STDERR_FILENO;

	if (path != NULL && path[0] != '\0') {
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY,
			  0600);
		if (fd < 0)
			return -errno;
	}
	lock();
	target_set_locked(fd);
	unlock();
	log_set_level(level);
	return 0;
}

void log_close(void)
{
	lock();
	tell_all_suppressed_locked(0, true);
	target_set_locked(STDERR_FILENO);
	unlock();
}

void log_write(struct log_site *site, const char *fmt, ...)
{
	uint64_t now_ns;
	char message[LOG_LINE_BYTES_MAX];
	struct line line;
	va_list ap;
	int len;

	lock();
	/* Read here, where the times of all threads come in order: see window_is_over(). */
	now_ns = clock_mono_ns();
	tell_all_suppressed_locked(now_ns, false);
	if (site_admits_locked(site, now_ns)) {
		va_start(ap, fmt);
		len = vsnprintf(message, sizeof(message), fmt, ap);
		va_end(ap);
		if (len < 0)
			message[0] = '\0';
		line_begin(&line, site->level);
		line_add_escaped(&line, message, len >= (int)sizeof(message));
		line_write(&line, log_state.fd);
	}
	unlock();
}

void log_crash(const char *text)
{
	struct line line;

	line_begin(&line, LOG_LEVEL_ERROR);
	line_add_escaped(&line, text, false);
	line_write(&line, __atomic_load_n(&log_state.fd, __ATOMIC_RELAXED));
}

void log_trouble(struct log_trouble *t, const char *what, const char *cause)
{
	uint64_t now_ns = clock_mono_ns();

	if (t->failed_count++ == 0) {
		t->began_ns = now_ns;
		t->told = false;
	}
	/* A clock that went back ends the pause, too. */
	if (t->told_ever && now_ns - t->told_ns < LOG_TROUBLE_PAUSE_NS)
		return;
	if (t->told)
		log_warning("%s: still: failed=%" PRIu64 " for_s=%" PRIu64 ": %s", what,
			    t->failed_count, (now_ns - t->began_ns) / NS_PER_SEC, cause);
	else
		log_warning("%s: %s", what, cause);
	t->told = t->told_ever = true;
	t->told_ns = now_ns;
}

void log_trouble_over(struct log_trouble *t, const char *what)
{
	if (t->failed_count > 0 && t->told)
		log_info("%s: over: failed=%" PRIu64 " for_s=%" PRIu64, what, t->failed_count,
			 (clock_mono_ns() - t->began_ns) / NS_PER_SEC);
	t->failed_count = 0;
}
