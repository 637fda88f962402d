/* What can be seen of a name, as texts that must be the same on both sides. */
#include "differ.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define LINES_MAX 1024u

int text_stat(struct differ *d, enum side side, const char *path, int fd)
{
	struct stat *st = &d->stat[side];

	if ((path ? lstat(path, st) : fstat(fd, st)) < 0)
		return errno;
	d->out_bytes[side] =
		(size_t)snprintf((char *)d->out[side], OUT_BYTES,
				 "mode %o, %lu links, owner %u:%u, size %lld", st->st_mode,
				 (unsigned long)st->st_nlink, st->st_uid, st->st_gid,
				 S_ISDIR(st->st_mode) ? 0LL : (long long)st->st_size);
	return 0;
}

bool same_times(struct differ *d)
{
	const struct stat *v = &d->stat[V];
	struct object *o = object_of(d, d->stat[M].st_ino);
	int64_t ns = (int64_t)v->st_mtim.tv_sec * (int64_t)NS_PER_SEC + v->st_mtim.tv_nsec;

	d->why_ino = o->ino;
	if (o->v_ino == 0)
		o->v_ino = v->st_ino;
	if (o->v_ino != v->st_ino)
		return differs(d, "the inode number was %" PRIu64 ", is %lu", o->v_ino, v->st_ino);
	if (!S_ISREG(v->st_mode))
		return true;
	if (o->mtime == MTIME_EXPLICIT && o->mtime_ns != ns)
		return differs(d, "the time was set to %" PRId64 " ns and is %" PRId64, o->mtime_ns,
			       ns);
	if (o->mtime == MTIME_MOVED && v->st_mtim.tv_sec < EXPLICIT_S_MAX)
		return differs(d, "the time was not moved by a write: %" PRId64 " ns", ns);
	return true;
}

bool same_stat(struct differ *d, const struct op *op)
{
	(void)op;
	return same_result(d) && (d->res[V].error != 0 || same_times(d));
}

/* --- lists ------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, since the order is left to filesystems. */
static void put_lines(struct differ *d, enum side side, char **lines, size_t count)
{
	char *out = (char *)d->out[side];
	size_t at = 0;

	qsort(lines, count, sizeof(*lines), by_text);
	for (size_t i = 0; i < count; i++) {
		at += (size_t)snprintf(out + at, OUT_BYTES - at, "%s\n", lines[i]);
		free(lines[i]);
	}
	d->out_bytes[side] = at;
}

int text_list(struct differ *d, enum side side, const char *path)
{
	char *lines[LINES_MAX];
	DIR *dir = opendir(path);
	size_t count = 0;
	struct dirent *e;
	int r;

	if (!dir)
		return errno;
	for (errno = 0; (e = readdir(dir)) && count < LINES_MAX; errno = 0)
		if (asprintf(&lines[count++], "%s %u", e->d_name, e->d_type) < 0)
			give_up("no memory");
	r = errno;
	(void)closedir(dir);
	put_lines(d, side, lines, count);
	return r;
}

static char *attribute_line(const char *path, const char *name)
{
	uint8_t value[4096];
	ssize_t n = lgetxattr(path, name, value, sizeof(value));
	char *line = malloc(strlen(name) + 2 * sizeof(value) + 16);
	int at;

	if (!line)
		give_up("no memory");
	at = snprintf(line, strlen(name) + 16, "%s %zd ", name, n);
	for (ssize_t i = 0; i < n; i++)
		at += snprintf(line + at, 3, "%02x", value[i]);
	return line;
}

int text_xattrs(struct differ *d, enum side side, const char *path)
{
	static char names[65536];
	char *lines[LINES_MAX];
	ssize_t n = llistxattr(path, names, sizeof(names));
	size_t count = 0;

	if (n < 0)
		return errno;
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1)
		/* Others are the kernel's business. */
		if (strncmp(names + at, "user.", 5) == 0 && count < LINES_MAX)
			lines[count++] = attribute_line(path, names + at);
	put_lines(d, side, lines, count);
	return 0;
}
