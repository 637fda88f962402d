/* Everything compared: names, attributes, every byte that is no hole on both sides. */
#include "differ.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MAX 1024u

static bool same_bytes(struct differ *d, uint64_t ino, const int fd[SIDES], uint64_t at, size_t len)
{
	ssize_t n[SIDES];

	for (enum side s = V; s < SIDES; s++) {
		n[s] = pread(fd[s], d->out[s], len, (off_t)at);
		if (n[s] < 0)
			return differs(d, "reading %zu bytes at %" PRIu64 " from the %s: %s", len,
				       at, s == V ? "mount" : "mirror", strerrorname_np(errno));
		d->out_bytes[s] = (size_t)n[s];
	}
	d->why_ino = ino;
	return same_output(d, at);
}

/* Where the mount says that there is a hole the mirror must have zeros. */
static bool holes_are_zeros(struct differ *d, const int fd[SIDES], uint64_t from, uint64_t to)
{
	while (from < to) {
		off_t hole = lseek(fd[V], (off_t)from, SEEK_HOLE), data;

		if (hole < 0)
			return differs(d, "SEEK_HOLE at %" PRIu64 ": %s", from,
				       strerrorname_np(errno));
		if ((uint64_t)hole >= to)
			return true;
		data = lseek(fd[V], hole, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return differs(d, "SEEK_DATA at %lld: %s", (long long)hole,
				       strerrorname_np(errno));
		from = data < 0 ? to : min_u64((uint64_t)data, to);
		if (!mirror_is_zero(d, fd[M], (uint64_t)hole, from))
			return false;
	}
	return true;
}

/* What the mirror calls a hole was never written: the mount must not call it data. */
bool compare_data(struct differ *d, uint64_t ino, const int fd[SIDES], uint64_t size)
{
	uint64_t at = 0;

	d->why_ino = ino;
	while (at < size) {
		off_t v = lseek(fd[V], (off_t)at, SEEK_DATA),
		      m = lseek(fd[M], (off_t)at, SEEK_DATA);
		uint64_t end;

		if (v >= 0 && (m < 0 || v < m))
			return differs(d, "data at %lld where the mirror has a hole", (long long)v);
		if (m < 0)
			return true;
		end = (uint64_t)lseek(fd[M], m, SEEK_HOLE);
		for (at = (uint64_t)m; at < end; at += IO_BYTES_MAX)
			if (!same_bytes(d, ino, fd, at,
					round_up_u64(min_u64(end - at, IO_BYTES_MAX), CLUSTER)))
				return false;
		if (!holes_are_zeros(d, fd, (uint64_t)m, end))
			return false;
		at = end;
	}
	return true;
}

static bool compare_file(struct differ *d, const char *name)
{
	uint64_t ino = d->stat[M].st_ino, size = (uint64_t)d->stat[M].st_size;
	int fd[SIDES];
	bool same;

	for (enum side s = V; s < SIDES; s++) {
		char path[PATH_BYTES];

		full_path(d, s, name, path);
		fd[s] = open(path, O_RDONLY | O_NOFOLLOW);
		if (fd[s] < 0 && s == M)
			give_up("the mirror's '%s': %s", name, strerror(errno));
		if (fd[s] < 0)
			return differs(d, "opening '%s': %s", name, strerrorname_np(errno));
	}
	same = compare_data(d, ino, fd, size);
	(void)close(fd[V]);
	(void)close(fd[M]);
	return same;
}

typedef int text_fn(struct differ *d, enum side side, const char *path);

static int text_lstat(struct differ *d, enum side side, const char *path)
{
	return text_stat(d, side, path, -1);
}

static int text_link(struct differ *d, enum side side, const char *path)
{
	ssize_t n = readlink(path, (char *)d->out[side], OUT_BYTES);

	d->out_bytes[side] = n < 0 ? 0 : (size_t)n;
	return n < 0 ? errno : 0;
}

static bool compare_text(struct differ *d, const char *name, const char *what, text_fn *text)
{
	for (enum side s = V; s < SIDES; s++) {
		char path[PATH_BYTES];

		full_path(d, s, name, path);
		d->out_bytes[s] = 0;
		text_result(&d->res[s], text(d, s, path));
	}
	if (same_result(d))
		return true;
	(void)snprintf(d->why + strlen(d->why), sizeof(d->why) - strlen(d->why), " (%s of '%s')",
		       what, name);
	return false;
}

static bool compare_tree(struct differ *d, const char *dir);

static bool compare_inode(struct differ *d, const char *name)
{
	struct object *o;
	mode_t mode;

	if (!compare_text(d, name, "lstat", text_lstat))
		return false;
	d->why_ino = d->stat[M].st_ino;
	mode = d->stat[M].st_mode;
	if (!same_times(d))
		return false;
	if (S_ISLNK(mode))
		return compare_text(d, name, "target", text_link);
	if (S_ISREG(mode)) {
		o = object_of(d, d->stat[M].st_ino);
		if (o->compared == d->compares)
			return true;
		o->compared = d->compares;
		if (!compare_file(d, name))
			return false;
	}
	return compare_text(d, name, "attributes", text_xattrs) &&
	       (!S_ISDIR(mode) || compare_tree(d, name));
}

/* Names of a directory of the mirror; freed by the caller with their array. */
static size_t names_in(const struct differ *d, const char *dir, char *names[NAMES_MAX])
{
	char path[PATH_BYTES];
	struct dirent *e;
	size_t count = 0;
	DIR *list;

	full_path(d, M, dir, path);
	list = opendir(path);
	if (!list)
		give_up("'%s': %s", path, strerror(errno));
	while ((e = readdir(list)) && count < NAMES_MAX)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    asprintf(&names[count++], "%s%s%s", dir, dir[0] ? "/" : "", e->d_name) < 0)
			give_up("no memory");
	(void)closedir(list);
	return count;
}

static bool compare_tree(struct differ *d, const char *dir)
{
	char *names[NAMES_MAX];
	bool same = compare_text(d, dir, "names", text_list);
	size_t count = same ? names_in(d, dir, names) : 0;

	for (size_t i = 0; i < count; i++) {
		same = same && compare_inode(d, names[i]);
		free(names[i]);
	}
	return same;
}

/* Files that are open and have no name any more. */
static bool compare_nameless(struct differ *d)
{
	for (unsigned int i = 0; i < HANDLES; i++) {
		const struct handle *h = &d->handles[i];
		struct object *o;

		if (h->fd[M] < 0 || h->fd[V] < 0 || (h->flags & O_ACCMODE) == O_WRONLY)
			continue;
		o = object_of(d, h->ino);
		if (o->compared == d->compares)
			continue;
		o->compared = d->compares;
		d->why_ino = h->ino;
		for (enum side s = V; s < SIDES; s++)
			text_result(&d->res[s], text_stat(d, s, NULL, h->fd[s]));
		if (!same_result(d) || !same_times(d) ||
		    !compare_data(d, h->ino, h->fd, (uint64_t)d->stat[M].st_size))
			return false;
	}
	return true;
}

bool compare_all(struct differ *d)
{
	uint64_t start_ms = now_ms();
	bool same;

	d->compares++;
	same = compare_tree(d, "") && compare_nameless(d) && compare_snaps(d);
	d->compare_ms += now_ms() - start_ms;
	return same;
}
