/*
 * The file behind struct config. inih splits lines into section, key and value; what it would
 * overlook (lines longer than its buffer, sections without keys, NUL bytes) is caught by the reader
 * that feeds it.
 */
#include "common/buf.h"
#include "common/config.h"

#include <fcntl.h>
#include <ini.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_STEP_BYTES 16384u
#define OPTIONS_MAX	64

#define NAME_BYTES_MAX 80 /* of a path in a message, so that the reason still fits */

struct loader {
	const char *name;
	const char *text; /* what is left to read */
	size_t text_len_bytes;
	unsigned int line; /* that was read last, from 1 */

	struct config config;
	bool seen[OPTIONS_MAX]; /* by row of the table */

	int r; /* of the first thing wrong; nothing is read after it */
	unsigned int r_line;
	struct err *e;
};

/* inih keeps its limits in globals of the library; they get the same values in every process. */
static void inih_set_up(void)
{
	ini_max_line = CONFIG_LINE_BYTES_MAX + 2; /* newline and NUL */
}

/* The end of a path tells more than its beginning. */
static const char *name_in_message(const char *name)
{
	size_t len = strlen(name);

	return len <= NAME_BYTES_MAX ? name : name + (len - NAME_BYTES_MAX);
}

static int fail(struct loader *l, int r)
{
	l->r = r;
	l->r_line = l->line;
	(void)err_wrap(l->e, r, "%s:%u", l->name, l->line);
	return r;
}

static bool section_is_known(const char *name, size_t len)
{
	size_t count;
	const struct option_def *defs = config_options(&count);

	for (size_t i = 0; i < count; i++) {
		if (strlen(defs[i].section) == len && memcmp(defs[i].section, name, len) == 0)
			return true;
	}
	return false;
}

static int check_section(struct loader *l, const char *line)
{
	size_t len = strcspn(line + 1, "]");
	const char *after = line + 1 + len;

	if (*after == '\0') {
		(void)err_set(l->e, -EINVAL, "'%.80s': ] is missing", line);
		return fail(l, -EINVAL);
	}
	after++;
	after += strspn(after, " \t\r");
	if (*after != '\0' && *after != ';' && *after != '#') {
		(void)err_set(l->e, -EINVAL, "'%.80s': unexpected text after ]", line);
		return fail(l, -EINVAL);
	}
	if (!section_is_known(line + 1, len)) {
		(void)err_set(l->e, -EINVAL, "[%.*s]: unknown section", (int)min_u64(len, 80),
			      line + 1);
		return fail(l, -EINVAL);
	}
	return 0;
}

/* fgets() for inih: one line without the blanks before it, which inih would take for a sign that
 * the line above continues. */
static char *read_line(char *line, int line_size, void *loader)
{
	struct loader *l = loader;
	const char *newline;
	size_t len, blanks = 0;

	if (l->r < 0 || l->text_len_bytes == 0)
		return NULL;
	newline = memchr(l->text, '\n', l->text_len_bytes);
	len = newline != NULL ? (size_t)(newline - l->text) : l->text_len_bytes;
	l->line++;

	if (memchr(l->text, '\0', len) != NULL) {
		(void)err_set(l->e, -EINVAL, "NUL byte in the line");
		(void)fail(l, -EINVAL);
		return NULL;
	}
	if (len > CONFIG_LINE_BYTES_MAX || len + 2 > (size_t)line_size) {
		(void)err_set(l->e, -EINVAL, "line is longer than %d bytes", CONFIG_LINE_BYTES_MAX);
		(void)fail(l, -EINVAL);
		return NULL;
	}
	while (blanks < len && (l->text[blanks] == ' ' || l->text[blanks] == '\t'))
		blanks++;
	memcpy(line, l->text + blanks, len - blanks);
	line[len - blanks] = '\0';
	l->text += newline != NULL ? len + 1 : len;
	l->text_len_bytes -= newline != NULL ? len + 1 : len;

	if (line[0] == '[' && check_section(l, line) < 0)
		return NULL;
	return line;
}

/* inih's way to hand over a key; 0 means refused. */
static int take_value(void *loader, const char *section, const char *key, const char *value)
{
	struct loader *l = loader;
	const struct option_def *def;
	size_t count, row;
	int r;

	if (l->r < 0)
		return 0;
	if (section[0] == '\0') {
		(void)err_set(l->e, -EINVAL, "'%.80s': key before the first [section]", key);
		(void)fail(l, -EINVAL);
		return 0;
	}
	def = config_option_find(section, key);
	if (def != NULL) {
		row = (size_t)(def - config_options(&count));
		ASSERT(row < OPTIONS_MAX);
		if (l->seen[row] && def->type != OPTION_STRLIST) {
			(void)err_set(l->e, -EINVAL, "[%s] %s = '%.80s': key given twice", section,
				      key, value);
			(void)fail(l, -EINVAL);
			return 0;
		}
		l->seen[row] = true;
	}
	r = config_set(&l->config, section, key, value, l->e);
	if (r < 0)
		(void)fail(l, r);
	return r == 0;
}

static int load(struct loader *l, struct config *ret_config)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int bad_line, r;

	ASSERT(pthread_once(&once, inih_set_up) == 0);
	config_defaults(&l->config);

	/* inih goes on after a line that it cannot split; what it found first counts. */
	bad_line = ini_parse_stream(read_line, l, take_value, l);
	if (bad_line < 0)
		return err_set(l->e, -ENOMEM, "%s: %s", l->name, err_name(-ENOMEM));
	if (bad_line > 0 && (l->r == 0 || (unsigned int)bad_line < l->r_line))
		return err_set(l->e, -EINVAL,
			       "%s:%d: expected [section], key = value, or a comment", l->name,
			       bad_line);
	if (l->r < 0)
		return l->r;
	r = config_check(&l->config, l->e);
	if (r < 0)
		return err_wrap(l->e, r, "%s", l->name);
	*ret_config = l->config;
	return 0;
}

int config_load_text(const char *name, const char *text, size_t text_len_bytes,
		     struct config *ret_config, struct err *e)
{
	/* On the heap for its size; e may be NULL, which err_set() takes. */
	struct loader *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return err_set(e, -ENOMEM, "%s: %s", name_in_message(name), err_name(-ENOMEM));
	l->name = name_in_message(name);
	l->text = text;
	l->text_len_bytes = text_len_bytes;
	l->e = e;
	r = load(l, ret_config);
	free(l);
	return r;
}

static int read_all(int fd, struct buf *text)
{
	for (;;) {
		size_t had = text->len_bytes;
		size_t step = min_u64(READ_STEP_BYTES, text->max_bytes - had);
		uint8_t *p;
		ssize_t n;

		if (step == 0)
			return -EFBIG;
		p = buf_extend(text, step);
		if (p == NULL)
			return -ENOMEM;
		do {
			n = read(fd, p, step);
		} while (n < 0 && errno == EINTR);
		text->len_bytes = had + (n > 0 ? (size_t)n : 0);
		if (n <= 0)
			return n < 0 ? -errno : 0;
	}
}

int config_load(const char *path, struct config *ret_config, struct err *e)
{
	AUTO(buf_done) struct buf text;
	int fd, r;

	/* One more than is good, so that a file of just the maximum is told from a longer one. */
	buf_init(&text, CONFIG_FILE_BYTES_MAX + 1);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	if (fd < 0) {
		r = -errno;
		return err_set(e, r, "%s: %s", name_in_message(path), err_name(r));
	}
	r = read_all(fd, &text);
	(void)close(fd); /* only read from */
	if (r < 0)
		return err_set(e, r, "%s: %s", name_in_message(path), err_name(r));
	return config_load_text(path, (const char *)text.data, text.len_bytes, ret_config, e);
}
