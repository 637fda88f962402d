/* Operations on snapshots and clones: asked of the daemon by its socket, and done with the model. */
#include "differ.h"

#include "common/err.h"
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/json_out.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VIEW ".snapshots"
/* What was closed is closed for the daemon a moment later. */
#define CLOSED_LIMIT_MS 20000u
#define ANSWER_LIMIT_MS 120000
#define STEP_NS		2000000
/* Copied in one operation; above what the kernel lets one call copy. */
#define COPIED_BYTES_MAX (UINT64_C(9) * GIB)

#define NONE	    UINT_MAX /* of paths and names */
#define CLONE_NOW   0u
#define CLONE_NAME  1u
#define CLONE_SHOWN 2u

/* --- asking ------------------------------------------------------------------------------------ */

/* The daemon's words are all that tells errors of one exit code from each other. */
static int errno_of(const char *said, int64_t code)
{
	static const struct {
		const char *words;
		int error;
	} known[] = {
		{ "younger snapshot", ENOTEMPTY },
		{ "already", EEXIST },
		{ "the name is taken", EEXIST },
	};

	if (code == CLI_NOT_FOUND)
		return ENOENT;
	if (code == CLI_BUSY)
		return EBUSY;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strstr(said, known[i].words))
			return known[i].error;
	return EIO;
}

/* Owns: takes the request; the answer is the caller's, NULL after an error, with *r filled in. */
static json_t *ask(struct differ *d, json_t *request, struct result *r)
{
	struct err e = { 0 };
	json_t *answer = NULL, *error;
	int code = control_ask(d->pool, request, ANSWER_LIMIT_MS, &answer, &e);

	d->said[0] = '\0';
	if (code < 0) {
		/* There is no daemon, or none any more. */
		bool gone = code == -ECONNREFUSED || code == -ECONNRESET || code == -EPROTO ||
			    code == -EPIPE;

		*r = (struct result){ .value = -1, .error = gone ? ENOTCONN : -code };
		return NULL;
	}
	error = json_object_get(answer, "error");
	*r = (struct result){ .value = 0 };
	if (!error)
		return answer;
	(void)snprintf(d->said, sizeof(d->said), "%s", json_string_value(error));
	*r = (struct result){
		.value = -1,
		.error = errno_of(d->said, json_integer_value(json_object_get(answer, "code"))),
	};
	json_decref(answer);
	return NULL;
}

static uint64_t mount_ino(const struct differ *d, const char *name, struct result *r)
{
	char path[PATH_BYTES];
	struct stat st;

	full_path(d, V, name, path);
	if (lstat(path, &st) < 0) {
		set_result(r, -1);
		return 0;
	}
	return st.st_ino;
}

static void put_name(json_t *request, const char *key, const char *name)
{
	if (!request || json_out_name(request, key, name, strlen(name)) < 0)
		give_up("no memory");
}

/* The name of the file that an operation is about: directories are renamed, so it may be anywhere. */
static void owner_name(struct differ *d, const struct op *op, char name[PATH_BYTES])
{
	if (!find_ino(d, op->ino, name))
		give_up("a file of the mirror has no name");
}

/* A request about that file; NULL, with *r: there is none. */
static json_t *request_of(struct differ *d, const char *what, const struct op *op, struct result *r)
{
	char name[PATH_BYTES];
	uint64_t ino;

	owner_name(d, op, name);
	ino = mount_ino(d, name, r);

	return ino ? json_pack("{s:s, s:s, s:I}", "verb", "snapshot", "do", what, "ino",
			       (json_int_t)ino) :
		     NULL;
}

static void fail(struct result *r, int error)
{
	*r = (struct result){ .value = error ? -1 : 0, .error = error };
}

/* --- choosing ---------------------------------------------------------------------------------- */

/* A regular file that is no symbolic link, and not too large to be copied. */
static bool is_file(struct differ *d, unsigned int path, uint64_t *ret_ino)
{
	char text[PATH_BYTES];
	struct stat st;

	path_of(d, M, path, text);
	if (lstat(text, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_blocks * 512 > SNAP_DATA_MAX)
		return false;
	*ret_ino = st.st_ino;
	return true;
}

static bool pick_file(struct differ *d, unsigned int *ret_path, uint64_t *ret_ino)
{
	*ret_path = pick_path(d, false, true);
	return is_file(d, *ret_path, ret_ino);
}

/* One that has snapshots. */
static bool pick_owner(struct differ *d, struct op *op)
{
	unsigned int count = snaps_count(d), n;
	const struct snap *s = d->snaps;

	if (!count)
		return false;
	for (n = (unsigned int)pick(d, count); s->ino == 0 || n > 0; s++)
		n -= s->ino != 0;
	op->a = op->b = NONE;
	op->ino = s->ino;
	op->arg = s->name;
	return true;
}

/* Mostly one that is there. */
static bool pick_snap(struct differ *d, struct op *op)
{
	if (!pick_owner(d, op))
		return false;
	if (chance(d, 8))
		op->arg = pick(d, snap_name_count);
	return true;
}

/* A name for a new file, below a directory that is there. */
static bool pick_new_name(struct differ *d, unsigned int *ret_path)
{
	char text[PATH_BYTES], *slash;
	struct stat st;

	*ret_path = pick_path(d, false, false);
	path_of(d, M, *ret_path, text);
	slash = strrchr(text, '/');
	*slash = '\0';
	return stat(text, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- create ------------------------------------------------------------------------------------ */

static bool pick_create(struct differ *d, struct op *op)
{
	if (snaps_count(d) + 2 > SNAPS_MAX || !pick_file(d, &op->a, &op->ino))
		return false;
	op->b = NONE;
	if (chance(d, 25) && (!pick_file(d, &op->b, &op->ino2) || op->ino2 == op->ino))
		return false;
	op->arg = pick(d, snap_name_count);
	op->arg2 = chance(d, 10);
	return true;
}

static void ask_create(struct differ *d, const struct op *op, struct result *r)
{
	const unsigned int paths[] = { op->a, op->b };
	json_t *inos = json_array(), *request;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		uint64_t ino;

		if (paths[i] == NONE)
			continue;
		ino = mount_ino(d, d->paths[paths[i]].text, r);
		if (!ino) {
			json_decref(inos);
			return;
		}
		(void)json_array_append_new(inos, json_integer((json_int_t)ino));
	}
	request = json_pack("{s:s, s:s, s:o, s:b}", "verb", "snapshot", "do", "create", "inos",
			    inos, "sticky", (int)op->arg2);
	put_name(request, "name", snap_names[op->arg]);
	json_decref(ask(d, request, r));
}

static void apply_create(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	unsigned int name = (unsigned int)op->arg;
	char path[PATH_BYTES];

	if (side == V) {
		ask_create(d, op, r);
		return;
	}
	fail(r, snap_find(d, op->ino, name) || snap_find(d, op->ino2, name) ? EEXIST : 0);
	if (r->error)
		return;
	path_of(d, M, op->a, path);
	snap_add(d, path, name, op->arg2);
	if (op->b == NONE)
		return;
	path_of(d, M, op->b, path);
	snap_add(d, path, name, op->arg2);
}

/* --- delete, rename, sticky -------------------------------------------------------------------- */

static void apply_delete(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	json_t *request, *names, *answer, *item = json_object();

	if (side == M) {
		fail(r, s ? 0 : ENOENT);
		if (s)
			snap_drop(d, s);
		json_decref(item);
		return;
	}
	put_name(item, "name", snap_names[op->arg]);
	names = json_pack("[o]", item);
	request = request_of(d, "delete", op, r);
	if (!request) {
		json_decref(names);
		return;
	}
	(void)json_object_set_new(request, "names", names);
	answer = ask(d, request, r);
	item = json_array_get(json_object_get(answer, "failed"), 0);
	if (item) {
		const char *error = json_string_value(json_object_get(item, "error"));

		(void)snprintf(d->said, sizeof(d->said), "%s", error);
		fail(r, errno_of(error, json_integer_value(json_object_get(item, "code"))));
	}
	json_decref(answer);
}

static bool pick_rename(struct differ *d, struct op *op)
{
	if (!pick_snap(d, op))
		return false;
	op->arg2 = pick(d, snap_name_count);
	return true;
}

static void apply_rename(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	json_t *request;

	if (side == M) {
		bool taken = op->arg != op->arg2 &&
			     snap_find(d, op->ino, (unsigned int)op->arg2) != NULL;

		fail(r, !s ? ENOENT : taken ? EEXIST : 0);
		if (r->error == 0)
			s->name = (unsigned int)op->arg2;
		return;
	}
	request = request_of(d, "rename", op, r);
	if (!request)
		return;
	put_name(request, "name", snap_names[op->arg]);
	put_name(request, "to", snap_names[op->arg2]);
	json_decref(ask(d, request, r));
}

static bool pick_sticky(struct differ *d, struct op *op)
{
	if (!pick_snap(d, op))
		return false;
	op->arg2 = chance(d, 25);
	return true;
}

static void apply_sticky(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	json_t *request;

	if (side == M) {
		fail(r, s ? 0 : ENOENT);
		if (s)
			s->sticky = op->arg2;
		return;
	}
	request = request_of(d, "sticky", op, r);
	if (!request)
		return;
	put_name(request, "name", snap_names[op->arg]);
	(void)json_object_set_new(request, "on", json_boolean(op->arg2));
	json_decref(ask(d, request, r));
}

/* --- rollback ---------------------------------------------------------------------------------- */

static bool pick_rollback(struct differ *d, struct op *op)
{
	if (!pick_snap(d, op))
		return false;
	op->arg2 = chance(d, 60);
	return true;
}

static bool is_open(const struct differ *d, uint64_t ino)
{
	for (unsigned int i = 0; i < HANDLES; i++)
		if (d->handles[i].fd[V] >= 0 && d->handles[i].ino == ino)
			return true;
	return false;
}

/* As the command does: then it looks at the file, so that the kernel learns its size. */
static void ask_rollback(struct differ *d, const struct op *op, struct result *r)
{
	char name[PATH_BYTES];
	struct result looked;
	uint64_t end_ms = now_ms() + CLOSED_LIMIT_MS;

	owner_name(d, op, name);
	do {
		const struct timespec step = { .tv_nsec = STEP_NS };
		json_t *request = request_of(d, "rollback", op, r);

		if (!request)
			return;
		put_name(request, "name", snap_names[op->arg]);
		(void)json_object_set_new(request, "force", json_boolean(op->arg2));
		json_decref(ask(d, request, r));
		if (r->error == 0)
			(void)mount_ino(d, name, &looked);
		if (r->error != EBUSY || is_open(d, op->ino))
			return;
		(void)nanosleep(&step, NULL);
	} while (now_ms() < end_ms);
}

static void roll_back(struct differ *d, const struct op *op, const struct snap *s)
{
	char name[PATH_BYTES], path[PATH_BYTES];
	struct snap *younger;
	struct stat st;
	int fd;

	owner_name(d, op, name);
	full_path(d, M, name, path);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || fstat(s->copy, &st) < 0)
		give_up("the mirror's '%s': %s", path, strerror(errno));
	copy_sparse(s->copy, fd, (uint64_t)st.st_size);
	(void)close(fd);
	while ((younger = snap_after(d, s->ino, s->number)))
		snap_drop(d, younger);
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	if ((uint64_t)st.st_size > DISK_THRESHOLD)
		object_of(d, op->ino)->may_be_disk = true;
}

static void apply_rollback(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	const struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);

	if (side == V) {
		ask_rollback(d, op, r);
		return;
	}
	if (!op->arg2 && is_open(d, op->ino))
		fail(r, EBUSY);
	else if (!s)
		fail(r, ENOENT);
	else if (!op->arg2 && snap_after(d, s->ino, s->number))
		fail(r, ENOTEMPTY);
	else
		fail(r, 0);
	if (r->error == 0)
		roll_back(d, op, s);
}

/* A name as a document shows it: U+FFFD for what is not UTF-8. */
static void printable(const char *name, char text[PATH_BYTES])
{
	static const char unknown[] = "\xef\xbf\xbd";
	size_t at = 0;

	for (; *name; name++) {
		bool plain = (uint8_t)*name < 0x80;

		memcpy(text + at, plain ? name : unknown, plain ? 1 : sizeof(unknown) - 1);
		at += plain ? 1 : sizeof(unknown) - 1;
	}
	text[at] = '\0';
}

/* Who is refused is told which would be lost. */
static bool same_rollback(struct differ *d, const struct op *op)
{
	const struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	char name[PATH_BYTES];

	if (!same_result(d) || d->res[V].error != ENOTEMPTY)
		return d->res[V].error == d->res[M].error;
	while ((s = snap_after(d, s->ino, s->number))) {
		printable(snap_names[s->name], name);
		if (!strstr(d->said, name))
			return differs(d, "a younger snapshot is not named: %s", d->said);
	}
	return true;
}

/* --- clone ------------------------------------------------------------------------------------- */

static bool pick_clone(struct differ *d, struct op *op)
{
	op->arg2 = pick(d, 3);
	if (op->arg2 == CLONE_NOW ? !pick_file(d, &op->a, &op->ino) : !pick_snap(d, op))
		return false;
	return pick_new_name(d, &op->b);
}

/* Path of what .snapshots shows of it. */
static void shown_name(struct differ *d, const struct op *op, char text[PATH_BYTES])
{
	char name[PATH_BYTES];

	owner_name(d, op, name);
	if (snprintf(text, PATH_BYTES, VIEW "/%s/%s", name, snap_names[op->arg]) >= (int)PATH_BYTES)
		give_up("the path of '%s' is too long", name);
}

static void ask_clone(struct differ *d, const struct op *op, struct result *r)
{
	const char *to = d->paths[op->b].text, *slash = strrchr(to, '/');
	char name[PATH_BYTES], path[PATH_BYTES];
	uint64_t ino;
	struct stat st;
	json_t *request;

	(void)snprintf(name, sizeof(name), "%.*s", slash ? (int)(slash - to) : 0, to);
	full_path(d, V, name, path);
	if (stat(path, &st) < 0) {
		set_result(r, -1);
		return;
	}
	if (op->arg2 == CLONE_SHOWN)
		shown_name(d, op, name);
	else
		owner_name(d, op, name);
	ino = mount_ino(d, name, r);
	if (!ino)
		return;
	request = json_pack("{s:s, s:I, s:I}", "verb", "clone", "ino", (json_int_t)ino, "parent",
			    (json_int_t)st.st_ino);
	put_name(request, "name", slash ? slash + 1 : to);
	if (op->arg2 == CLONE_NAME)
		put_name(request, "snapshot", snap_names[op->arg]);
	json_decref(ask(d, request, r));
}

static void apply_clone(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	const struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	char name[PATH_BYTES], path[PATH_BYTES];
	struct stat st;
	int from, to;

	if (side == V) {
		ask_clone(d, op, r);
		return;
	}
	if (op->arg2 != CLONE_NOW && !s) {
		fail(r, ENOENT);
		return;
	}
	owner_name(d, op, name);
	full_path(d, M, name, path);
	from = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		give_up("the mirror's '%s': %s", path, strerror(errno));
	path_of(d, M, op->b, path);
	to = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
	set_result(r, to < 0 ? -1 : 0);
	if (to >= 0) {
		int source = op->arg2 == CLONE_NOW ? from : s->copy;

		if (fstat(source, &st) < 0)
			give_up("the mirror: %s", strerror(errno));
		copy_sparse(source, to, (uint64_t)st.st_size);
		(void)close(to);
	}
	(void)close(from);
}

static void after_clone(struct differ *d, const struct op *op)
{
	object_made(d, mirror_ino(d, op->b, false), true);
}

/* --- looking ----------------------------------------------------------------------------------- */

static bool pick_read(struct differ *d, struct op *op)
{
	const struct snap *s;
	struct handle h = { 0 };

	if (!pick_snap(d, op))
		return false;
	s = snap_find(d, op->ino, (unsigned int)op->arg);
	h.ino = op->ino;
	h.fd[M] = s ? s->copy : -1;
	op->len = pick_length(d);
	op->off = pick_offset(d, &h, op->len);
	if (chance(d, 30)) {
		op->arg2 = O_DIRECT;
		op->off -= op->off % CLUSTER;
		op->len = min_u64(round_up_u64(op->len, CLUSTER), IO_BYTES_MAX);
	}
	return true;
}

static void apply_read(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	const struct snap *s = snap_find(d, op->ino, (unsigned int)op->arg);
	char name[PATH_BYTES], path[PATH_BYTES];
	int fd;

	if (side == M && !s) {
		fail(r, ENOENT);
		return;
	}
	shown_name(d, op, name);
	full_path(d, V, name, path);
	fd = side == M ? s->copy : open(path, O_RDONLY | O_CLOEXEC | (int)op->arg2);
	set_result(r, fd < 0 ? -1 : pread(fd, d->out[side], op->len, (off_t)op->off));
	d->out_bytes[side] = r->value > 0 ? (size_t)r->value : 0;
	if (side == V && fd >= 0)
		(void)close(fd);
}

static bool pick_list(struct differ *d, struct op *op)
{
	return chance(d, 80) ? pick_owner(d, op) : pick_file(d, &op->a, &op->ino);
}

/* In their order. */
static void put_snap(struct differ *d, enum side side, const char *name, uint64_t size, bool sticky)
{
	d->out_bytes[side] += (size_t)snprintf((char *)d->out[side] + d->out_bytes[side],
					       OUT_BYTES - d->out_bytes[side],
					       "%s %" PRIu64 " %d\n", name, size, sticky);
}

static void ask_list(struct differ *d, const struct op *op, struct result *r)
{
	json_t *request = request_of(d, "list", op, r), *answer, *s;
	char name[NAME_MAX + 1];
	size_t i;

	if (!request)
		return;
	answer = ask(d, request, r);
	json_array_foreach(json_object_get(answer, "snapshots"), i, s)
	{
		if (json_out_name_back(s, "name", name, sizeof(name)) < 0)
			fail(r, EPROTO);
		else
			put_snap(d, V, name,
				 (uint64_t)json_integer_value(json_object_get(s, "size_bytes")),
				 json_is_true(json_object_get(s, "sticky")));
	}
	json_decref(answer);
}

static void apply_list(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	if (side == V) {
		ask_list(d, op, r);
		return;
	}
	fail(r, 0);
	for (const struct snap *s = snap_after(d, op->ino, 0); s;
	     s = snap_after(d, op->ino, s->number)) {
		struct stat st;

		if (fstat(s->copy, &st) < 0)
			give_up("a copy: %s", strerror(errno));
		put_snap(d, M, snap_names[s->name], (uint64_t)st.st_size, s->sticky);
	}
}

/* --- copying whole disks ----------------------------------------------------------------------- */

static int fd_of(const struct differ *d, enum side side, unsigned int handle)
{
	return d->handles[handle].fd[side];
}

/* Of the rest of a file, all or whole clusters: bytes that fill parts of two make data of a hole. */
static uint64_t pick_part(struct differ *d, uint64_t left, unsigned int all_percent)
{
	uint64_t part = chance(d, all_percent) ? left : round_up_u64(1 + pick(d, left), CLUSTER);

	return min_u64(min_u64(part, left), COPIED_BYTES_MAX);
}

/* What op->off and op->len say is copied next; half of the time something of it changes first. */
static void pick_change(struct differ *d, struct op *op)
{
	op->off2 = round_up_u64(op->off + pick(d, op->len), CLUSTER);
	if (op->off2 + CLUSTER <= mirror_size(&d->handles[op->h]) && chance(d, 50))
		op->arg2 = CLUSTER;
	fill_data(op, d->data, op->arg2);
}

static void change(struct differ *d, enum side side, const struct op *op)
{
	/* Where the handle may only read, it changes nothing on either side. */
	if (op->arg2 && pwrite(fd_of(d, side, op->h), d->data, op->arg2, (off_t)op->off2) < 0 &&
	    side == M && errno != EBADF)
		give_up("writing the mirror: %s", strerror(errno));
}

/* op->arg bytes from the beginning, then, if that is not all, op->len from there. */
static bool pick_copy(struct differ *d, struct op *op)
{
	uint64_t size;

	if (!pick_handle(d, &op->h) || d->handles[op->h].flags & (O_WRONLY | O_APPEND))
		return false;
	op->ino = d->handles[op->h].ino;
	size = mirror_size(&d->handles[op->h]);
	op->h2 = (unsigned int)pick(d, HANDLES);
	if (size < MIB || op->h2 == op->h || !pick_new_name(d, &op->b))
		return false;
	if (mirror_ino(d, op->b, false) != 0 && chance(d, 90))
		return false;
	op->a = NONE;
	op->arg = pick_part(d, size, 25);
	if (op->arg == size || chance(d, 30))
		return true;
	op->off = op->arg;
	op->len = pick_part(d, size - op->off, 70);
	pick_change(d, op);
	return true;
}

/* The mount is to do it without moving data, so that it is fast; holes of the mirror stay holes. */
static void copy_part(struct differ *d, enum side side, const struct op *op, int to, off_t at,
		      uint64_t len, struct result *r)
{
	int from = fd_of(d, side, op->h);
	off_t from_at = at;
	uint64_t done = 0;
	ssize_t n = 1;

	if (side == M) {
		copy_sparse(from, to, (uint64_t)at + len);
		*r = (struct result){ .value = (int64_t)len };
		return;
	}
	while (done < len && n > 0) {
		n = copy_file_range(from, &from_at, to, &at, len - done, 0);
		done += n > 0 ? (uint64_t)n : 0;
	}
	set_result(r, n < 0 ? -1 : (int64_t)done);
}

static void apply_copy(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->b, path);
	d->opened[side] = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	set_result(r, d->opened[side] < 0 ? -1 : 0);
	if (r->error == 0)
		copy_part(d, side, op, d->opened[side], 0, op->arg, r);
	if (r->error == 0 && op->len) {
		change(d, side, op);
		copy_part(d, side, op, d->opened[side], (off_t)op->off, op->len, r);
	}
}

static void after_copy(struct differ *d, const struct op *op)
{
	struct handle *h = &d->handles[op->h2];
	struct stat st;

	handle_close(h);
	if (fstat(d->opened[M], &st) < 0)
		give_up("the mirror's '%s': %s", d->paths[op->b].text, strerror(errno));
	*h = (struct handle){ .fd = { d->opened[V], d->opened[M] },
			      .flags = O_RDWR,
			      .ino = st.st_ino };
	object_made(d, st.st_ino, true);
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	d->copied_from = op->ino;
	d->copied_to = st.st_ino;
}

static unsigned int handle_of(const struct differ *d, uint64_t ino, int not_mode)
{
	for (unsigned int i = 0; i < HANDLES; i++) {
		const struct handle *h = &d->handles[i];

		if (h->fd[M] >= 0 && h->ino == ino && (h->flags & O_ACCMODE) != not_mode &&
		    !(h->flags & O_APPEND))
			return i;
	}
	return NONE;
}

/* More of the same file, whatever both went through meanwhile. */
static bool pick_copy_on(struct differ *d, struct op *op)
{
	uint64_t from_size;

	if (!d->copied_from)
		return false;
	op->h = handle_of(d, d->copied_from, O_WRONLY);
	op->h2 = handle_of(d, d->copied_to, O_RDONLY);
	if (op->h == NONE || op->h2 == NONE)
		return false;
	op->a = op->b = NONE;
	op->ino = d->handles[op->h].ino;
	op->ino2 = d->handles[op->h2].ino;
	op->off = mirror_size(&d->handles[op->h2]);
	from_size = mirror_size(&d->handles[op->h]);
	if (op->off >= from_size || op->off % CLUSTER != 0)
		return false;
	op->len = pick_part(d, from_size - op->off, 50);
	pick_change(d, op);
	return true;
}

static void apply_copy_on(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	change(d, side, op);
	copy_part(d, side, op, fd_of(d, side, op->h2), (off_t)op->off, op->len, r);
}

static void after_copy_on(struct differ *d, const struct op *op)
{
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	object_wrote(d, op->ino2, MTIME_UNKNOWN);
}

const struct kind snap_kinds[] = {
	{ "snapshot", 3, GROUP_SNAPSHOT, pick_create, apply_create, NULL, NULL },
	{ "snapshot delete", 2, GROUP_SNAPSHOT, pick_snap, apply_delete, NULL, NULL },
	{ "snapshot rename", 1, GROUP_SNAPSHOT, pick_rename, apply_rename, NULL, NULL },
	{ "snapshot sticky", 1, GROUP_SNAPSHOT, pick_sticky, apply_sticky, NULL, NULL },
	{ "rollback", 2, GROUP_SNAPSHOT, pick_rollback, apply_rollback, same_rollback, NULL },
	{ "clone", 1, GROUP_SNAPSHOT, pick_clone, apply_clone, NULL, after_clone },
	{ "snapshot read", 6, GROUP_DATA, pick_read, apply_read, NULL, NULL },
	{ "snapshot list", 2, GROUP_DATA, pick_list, apply_list, NULL, NULL },
	{ "copy whole", 3, GROUP_DATA, pick_copy, apply_copy, NULL, after_copy },
	{ "copy on", 5, GROUP_DATA, pick_copy_on, apply_copy_on, NULL, after_copy_on },
};
const unsigned int snap_kind_count = ARRAY_SIZE(snap_kinds);
