/*
 * log - one event, one line, to standard error or a file:
 *
 *	2025-03-01T12:00:00.123Z warning volume: upload failed, retrying: container=812 attempt=3
 *
 * Write "module: event[, coping]: key=value ...: cause"; names quoted, no secrets, no user data.
 * error: data or service affected; warning: degraded but coping; info: life cycle. Control
 * characters and backslashes in the message come out as \n, \t, \\, \xNN, so a line stays a line.
 * Lines are cut at LOG_LINE_BYTES_MAX.
 *
 * Every call site may write LOG_SITE_LINES_MAX lines in LOG_SITE_WINDOW_NS; what it says beyond is
 * counted and told in one line when the window is over: with the next line of any site, or at
 * log_close().
 *
 * Threads: any, no lock needed; the lock inside is a leaf and is held during one write(2).
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/base.h"

#define LOG_LINE_BYTES_MAX 2048u
#define LOG_SITE_LINES_MAX 20u
#define LOG_SITE_WINDOW_NS (10 * UINT64_C(1000000000))

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* One per call site, made by the macros below; guarded by the log's own lock. */
struct log_site {
	const char *file;
	int line;
	enum log_level level;
	uint64_t window_start_ns;
	uint32_t window_lines;
	uint64_t suppressed_count;
	struct log_site *next_suppressed;
};

/*
 * Say where lines go from now on. Before the first call: standard error, level info.
 *
 * Owns:     path is borrowed; NULL or "" means standard error. A file is appended to, made with
 *           mode 0600 if need be, and never reached through a symbolic link.
 * Errors:   negative errno of open(2); the old target then stays.
 * Threads:  any.
 */
NODISCARD int log_open(const char *path, enum log_level level);

/* Tell what is still suppressed, close the file if there is one, go back to standard error. */
void log_close(void);

/* Lines above this level cost one load and one branch. */
void log_set_level(enum log_level level);

/*
 * What fails again and again and is tried again, told without flooding the log: a warning when it
 * begins, one a minute while it goes on, and a line with its length when it is over. Trouble that
 * comes and goes begins anew in the log once a minute at most. All zero at first; one thread.
 */
struct log_trouble {
	uint64_t failed_count; /* since it began; 0: there is none */
	uint64_t began_ns;
	uint64_t told_ns;
	bool told;	/* of the trouble there is */
	bool told_ever; /* told_ns is set */
};
#define LOG_TROUBLE_PAUSE_NS (60 * UINT64_C(1000000000))

/* It failed: "what: cause", where what is "module: event, coping". */
void log_trouble(struct log_trouble *t, const char *what, const char *cause);
/* It worked. what: as above. */
void log_trouble_over(struct log_trouble *t, const char *what);

/* For the macros. */
bool log_is_enabled(enum log_level level);
void log_write(struct log_site *site, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The last words of a process that is about to abort: unlimited, takes no lock, text as it is. */
void log_crash(const char *text);

#define LOG_AT(level_, ...)                                                                        \
	do {                                                                                       \
		static struct log_site log_site_ = { .file = __FILE__,                             \
						     .line = __LINE__,                             \
						     .level = (level_) };                          \
		if (log_is_enabled(level_))                                                        \
			log_write(&log_site_, __VA_ARGS__);                                        \
	} while (0)

#define log_error(...)	 LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) LOG_AT(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
