/*
 * The model of snapshots: which there are, and of each a copy of what its file was. Copies are files of
 * the evidence; one is the same in its holes.
 */
#include "differ.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VIEW	  ".snapshots"
#define LINES_MAX 1024u

/* Few, so that they meet. */
const char *const snap_names[] = { "a", "b", "2026-01-01T000000Z", "\xff\x01 @s", ".c" };
const unsigned int snap_name_count = ARRAY_SIZE(snap_names);

static void copy_path(const struct differ *d, uint64_t number, char path[PATH_BYTES])
{
	(void)snprintf(path, PATH_BYTES, "%s/copies/%" PRIu64, d->evidence, number);
}

void snaps_init(struct differ *d)
{
	char path[PATH_BYTES];

	(void)snprintf(path, sizeof(path), "%s/copies", d->evidence);
	if (d->pool && mkdir(path, 0700) < 0 && errno != EEXIST)
		give_up("'%s': %s", path, strerror(errno));
}

unsigned int snaps_count(struct differ *d)
{
	unsigned int count = 0;

	snaps_sweep(d);
	for (unsigned int i = 0; i < SNAPS_MAX; i++)
		count += d->snaps[i].ino != 0;
	return count;
}

struct snap *snap_find(struct differ *d, uint64_t ino, unsigned int name)
{
	for (unsigned int i = 0; ino && i < SNAPS_MAX; i++)
		if (d->snaps[i].ino == ino && d->snaps[i].name == name)
			return &d->snaps[i];
	return NULL;
}

struct snap *snap_after(struct differ *d, uint64_t ino, uint64_t number)
{
	struct snap *next = NULL;

	for (unsigned int i = 0; ino && i < SNAPS_MAX; i++) {
		struct snap *s = &d->snaps[i];

		if (s->ino == ino && s->number > number && (!next || s->number < next->number))
			next = s;
	}
	return next;
}

void snap_drop(struct differ *d, struct snap *s)
{
	char path[PATH_BYTES];

	copy_path(d, s->number, path);
	(void)unlink(path);
	(void)close(s->copy);
	(void)close(s->held);
	*s = (struct snap){ 0 };
}

void snaps_sweep(struct differ *d)
{
	for (unsigned int i = 0; i < SNAPS_MAX; i++) {
		struct snap *s = &d->snaps[i];
		struct stat st;

		if (s->ino && fstat(s->held, &st) < 0)
			give_up("the file of a snapshot: %s", strerror(errno));
		if (s->ino && st.st_nlink == 0)
			snap_drop(d, s);
	}
}

bool snap_keeps(struct differ *d, const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1)
		return false;
	for (unsigned int i = 0; i < SNAPS_MAX; i++)
		if (d->snaps[i].ino == st.st_ino && d->snaps[i].sticky)
			return true;
	return false;
}

/* --- copies ------------------------------------------------------------------------------------ */

static void copy_run(int from, int to, off_t at, off_t end)
{
	while (at < end) {
		off_t to_at = at;
		ssize_t n = copy_file_range(from, &at, to, &to_at, (size_t)(end - at), 0);

		if (n <= 0)
			give_up("copying %lld..%lld of the mirror: %s", (long long)at,
				(long long)end, n < 0 ? strerror(errno) : "its end came");
	}
}

void copy_sparse(int from, int to, uint64_t until)
{
	off_t at = lseek(to, 0, SEEK_END), end = (off_t)until;

	while (at >= 0 && at < end) {
		off_t data = lseek(from, at, SEEK_DATA);

		if (data < 0 || data >= end)
			break;
		at = lseek(from, data, SEEK_HOLE);
		if (at > end)
			at = end;
		copy_run(from, to, data, at);
	}
	if (at < 0 || ftruncate(to, end) < 0)
		give_up("copying the mirror: %s", strerror(errno));
}

void snap_add(struct differ *d, const char *file, unsigned int name, bool sticky)
{
	struct snap *s = d->snaps;
	char path[PATH_BYTES];
	struct stat st;

	while (s < d->snaps + SNAPS_MAX && s->ino != 0)
		s++;
	ASSERT(s < d->snaps + SNAPS_MAX);
	*s = (struct snap){ .number = ++d->snaps_made, .name = name, .sticky = sticky };
	copy_path(d, s->number, path);
	s->held = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	s->copy = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->held < 0 || s->copy < 0 || fstat(s->held, &st) < 0)
		give_up("a snapshot of the mirror's '%s' in '%s': %s", file, path, strerror(errno));
	copy_sparse(s->held, s->copy, (uint64_t)st.st_size);
	s->ino = st.st_ino;
}

/* --- comparing --------------------------------------------------------------------------------- */

struct lines {
	char *line[LINES_MAX];
	size_t count;
};

static void add_line(struct lines *l, const char *dir, const char *name, const char *kind)
{
	if (l->count == LINES_MAX ||
	    asprintf(&l->line[l->count++], "%s/%s %s\n", dir, name, kind) < 0)
		give_up("too many names, or no memory");
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_lines(struct differ *d, enum side side, struct lines *l)
{
	size_t at = 0, len;

	qsort(l->line, l->count, sizeof(l->line[0]), by_text);
	for (size_t i = 0; i < l->count; i++) {
		len = strlen(l->line[i]);
		if (at + len > OUT_BYTES)
			give_up("too many names");
		memcpy(d->out[side] + at, l->line[i], len);
		at += len;
		free(l->line[i]);
	}
	d->out_bytes[side] = at;
}

static DIR *open_dir(const struct differ *d, enum side side, const char *dir)
{
	char path[PATH_BYTES];
	DIR *list;

	full_path(d, side, dir, path);
	list = opendir(path);
	if (!list && side == M)
		give_up("'%s': %s", path, strerror(errno));
	return list;
}

static bool is_dot(const struct dirent *e)
{
	return strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
}

/* All below .snapshots/DIR of the mount. Errno; 0: done. */
static int shown_below(struct differ *d, const char *dir, struct lines *l)
{
	char below[PATH_BYTES];
	struct dirent *e;
	DIR *list;
	int r = 0;

	(void)snprintf(below, sizeof(below), VIEW "/%s", dir);
	list = open_dir(d, V, below);
	if (!list)
		return errno;
	while (r == 0 && (errno = 0, e = readdir(list))) {
		if (is_dot(e))
			continue;
		add_line(l, dir, e->d_name, e->d_type == DT_DIR ? "dir" : "file");
		(void)snprintf(below, sizeof(below), "%s/%s", dir, e->d_name);
		if (e->d_type == DT_DIR)
			r = shown_below(d, below, l);
	}
	if (r == 0)
		r = errno;
	(void)closedir(list);
	return r;
}

/* The same as it must be: of each directory, and of each file with snapshots. */
static void expected_below(struct differ *d, const char *dir, struct lines *l)
{
	char below[PATH_BYTES];
	DIR *list = open_dir(d, M, dir);
	struct dirent *e;

	while ((e = readdir(list))) {
		struct snap *s = e->d_type == DT_REG ? snap_after(d, e->d_ino, 0) : NULL;

		if (is_dot(e) || (e->d_type != DT_DIR && !s))
			continue;
		add_line(l, dir, e->d_name, "dir");
		(void)snprintf(below, sizeof(below), "%s/%s", dir, e->d_name);
		if (e->d_type == DT_DIR)
			expected_below(d, below, l);
		for (; s; s = snap_after(d, s->ino, s->number))
			add_line(l, below, snap_names[s->name], "file");
	}
	(void)closedir(list);
}

static bool compare_names(struct differ *d)
{
	static struct lines lines[SIDES];

	for (enum side s = V; s < SIDES; s++)
		lines[s].count = 0;
	text_result(&d->res[V], shown_below(d, "", &lines[V]));
	expected_below(d, "", &lines[M]);
	text_result(&d->res[M], 0);
	for (enum side s = V; s < SIDES; s++)
		put_lines(d, s, &lines[s]);
	if (same_result(d))
		return true;
	(void)snprintf(d->why + strlen(d->why), sizeof(d->why) - strlen(d->why),
		       " (names below '" VIEW "', '%.*s' and '%.*s')", 200, (char *)d->out[V], 200,
		       (char *)d->out[M]);
	return false;
}

static bool compare_snap(struct differ *d, const struct snap *s)
{
	char name[PATH_BYTES], shown[2 * PATH_BYTES], path[PATH_BYTES];
	struct stat v, m;
	int fd[SIDES];
	bool same;

	d->why_ino = s->ino;
	if (!find_ino(d, s->ino, name))
		give_up("a snapshot of no file");
	(void)snprintf(shown, sizeof(shown), VIEW "/%s/%s", name, snap_names[s->name]);
	full_path(d, V, shown, path);
	fd[M] = s->copy;
	fd[V] = open(path, O_RDONLY | O_CLOEXEC);
	if (fd[V] < 0)
		return differs(d, "opening '%s': %s", shown, strerrorname_np(errno));
	if (fstat(fd[V], &v) < 0 || fstat(fd[M], &m) < 0)
		same = differs(d, "fstat of '%s': %s", shown, strerrorname_np(errno));
	else if (v.st_size != m.st_size)
		same = differs(d, "%lld bytes, not %lld", (long long)v.st_size,
			       (long long)m.st_size);
	else
		same = compare_data(d, s->ino, fd, (uint64_t)m.st_size);
	(void)close(fd[V]);
	if (!same)
		(void)snprintf(d->why + strlen(d->why), sizeof(d->why) - strlen(d->why),
			       " (snapshot %" PRIu64 ", '%s')", s->number, shown);
	return same;
}

bool compare_snaps(struct differ *d)
{
	bool same = true;

	if (!d->pool)
		return true;
	snaps_sweep(d);
	same = compare_names(d);
	for (unsigned int i = 0; i < SNAPS_MAX && same; i++)
		same = d->snaps[i].ino == 0 || compare_snap(d, &d->snaps[i]);
	return same;
}
