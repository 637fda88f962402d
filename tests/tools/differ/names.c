/* Operations on names and attributes, and the opening of files. */
#include "differ.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_VALUE_MAX 200u
/* Fewer files are not removed. */
#define FILES_MIN 12u

static const char *const targets[] = { "f0", "0.raw", "in/f1", "nowhere", "l", "d", "e.raw/2.img" };
static const char *const attributes[] = { "user.a", "user.colour", "user.c.d", "user.\xc3\xbc" };

static bool mirror_stat(struct differ *d, unsigned int path, bool follow, struct stat *ret_stat)
{
	char text[PATH_BYTES];

	path_of(d, M, path, text);
	return (follow ? stat(text, ret_stat) : lstat(text, ret_stat)) == 0;
}

/* --- open files -------------------------------------------------------------------------------- */

static int open_flags(struct differ *d)
{
	static const int modes[] = { O_RDWR, O_RDWR, O_RDWR, O_RDWR,   O_RDWR,
				     O_RDWR, O_RDWR, O_RDWR, O_RDWR,   O_RDWR,
				     O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	int flags = modes[pick(d, ARRAY_SIZE(modes))];

	flags |= chance(d, 60) ? O_CREAT : 0;
	if (flags & O_CREAT)
		flags |= chance(d, 10) ? O_EXCL : 0;
	flags |= chance(d, 4) ? O_TRUNC : 0;
	flags |= chance(d, 8) ? O_APPEND : 0;
	flags |= chance(d, 30) ? O_DIRECT : 0;
	flags |= chance(d, 2) ? O_DSYNC : 0;
	flags |= chance(d, 1) ? O_NOFOLLOW : 0;
	return flags;
}

static bool pick_open(struct differ *d, struct op *op)
{
	struct stat st;

	op->h = (unsigned int)pick(d, HANDLES);
	op->arg = (uint64_t)open_flags(d);
	op->a = pick_path(d, false, chance(d, 70));
	op->ino = mirror_ino(d, op->a, true);
	op->ino2 = mirror_ino(d, op->a, false);
	/* Which filesystems open directories so is their business. */
	if (mirror_stat(d, op->a, true, &st) && S_ISDIR(st.st_mode))
		op->arg &= ~(uint64_t)O_DIRECT;
	return true;
}

static void apply_open(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];
	int flags = (int)op->arg | O_CLOEXEC;

	/* The mirror's filesystem may know no O_DIRECT, or align it otherwise; its syncs cost time. */
	if (side == M)
		flags &= ~(O_DIRECT | O_DSYNC);
	path_of(d, side, op->a, path);
	d->opened[side] = open(path, flags, 0640);
	set_result(r, d->opened[side] < 0 ? -1 : 0);
}

static void after_open(struct differ *d, const struct op *op)
{
	struct handle *h = &d->handles[op->h];
	struct stat st;

	handle_close(h);
	if (fstat(d->opened[M], &st) < 0)
		give_up("the mirror's '%s': %s", d->paths[op->a].text, strerror(errno));
	if (!S_ISREG(st.st_mode)) {
		(void)close(d->opened[V]);
		(void)close(d->opened[M]);
		return;
	}
	*h = (struct handle){
		.fd = { d->opened[V], d->opened[M] },
		.flags = (int)op->arg & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW),
		.ino = st.st_ino,
	};
	/* What a symbolic link leads to may have the name of a disk. */
	if (op->ino == 0)
		object_made(d, st.st_ino, d->paths[op->a].is_disk || op->ino2 != 0);
	if (op->arg & O_TRUNC)
		object_wrote(d, st.st_ino, MTIME_UNKNOWN);
}

static bool pick_close(struct differ *d, struct op *op)
{
	if (!pick_handle(d, &op->h))
		return false;
	op->ino = d->handles[op->h].ino;
	return true;
}

static void apply_close(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	int fd = d->handles[op->h].fd[side];

	d->handles[op->h].fd[side] = -1;
	set_result(r, close(fd));
}

/* --- making and removing ----------------------------------------------------------------------- */

static bool pick_new(struct differ *d, struct op *op, bool dir)
{
	op->a = pick_path(d, dir, false);
	op->arg = pick(d, 01000);
	return true;
}

static bool pick_mknod(struct differ *d, struct op *op)
{
	return pick_new(d, op, false);
}

static bool pick_mkdir(struct differ *d, struct op *op)
{
	return pick_new(d, op, true);
}

static void apply_mknod(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, mknod(path, S_IFREG | (mode_t)op->arg, 0));
}

static void apply_mkdir(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, mkdir(path, (mode_t)op->arg));
}

static void after_mknod(struct differ *d, const struct op *op)
{
	object_made(d, mirror_ino(d, op->a, false), d->paths[op->a].is_disk);
}

/* Whatever had the number before. */
static void after_made(struct differ *d, const struct op *op)
{
	uint64_t ino = mirror_ino(d, op->a, false);

	*object_of(d, ino) = (struct object){ .ino = ino };
}

static bool pick_symlink(struct differ *d, struct op *op)
{
	static const char name[] = "l";

	op->a = pick_path(d, false, false);
	if (chance(d, 80)) {
		const char *text = d->paths[op->a].text, *last = strrchr(text, '/');

		/* Mostly under a name of its own, so that files are not crowded out. */
		if (strcmp(last ? last + 1 : text, name) != 0)
			return false;
	}
	op->arg = pick(d, ARRAY_SIZE(targets));
	return true;
}

static void apply_symlink(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, symlink(targets[op->arg], path));
}

static bool pick_unlink(struct differ *d, struct op *op)
{
	unsigned int files = 0;

	for (unsigned int i = 0; i < d->path_count; i++)
		files += !d->paths[i].is_dir && mirror_ino(d, i, false) != 0;
	if (files < FILES_MIN)
		return false;
	op->a = pick_path(d, false, true);
	op->ino = mirror_ino(d, op->a, false);
	return true;
}

static bool pick_rmdir(struct differ *d, struct op *op)
{
	op->a = pick_path(d, true, true);
	op->ino = mirror_ino(d, op->a, false);
	return true;
}

/* The last name of a file with a sticky snapshot. */
static void refuse(struct result *r)
{
	*r = (struct result){ .value = -1, .error = EPERM };
}

static void apply_unlink(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	if (side == M && snap_keeps(d, path))
		refuse(r);
	else
		set_result(r, unlink(path));
}

static void apply_rmdir(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, rmdir(path));
}

/* --- linking and renaming ---------------------------------------------------------------------- */

static bool pick_two(struct differ *d, struct op *op, bool dir, bool to_existing)
{
	op->a = pick_path(d, dir, true);
	op->b = pick_path(d, dir, to_existing);
	op->ino = mirror_ino(d, op->a, false);
	op->ino2 = mirror_ino(d, op->b, false);
	return true;
}

static bool pick_link(struct differ *d, struct op *op)
{
	return pick_two(d, op, false, false);
}

static void apply_link(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char from[PATH_BYTES], to[PATH_BYTES];

	path_of(d, side, op->a, from);
	path_of(d, side, op->b, to);
	set_result(r, link(from, to));
}

static bool pick_rename(struct differ *d, struct op *op)
{
	return pick_two(d, op, chance(d, 15), chance(d, 30));
}

static bool pick_exchange(struct differ *d, struct op *op)
{
	op->arg = RENAME_EXCHANGE;
	return pick_two(d, op, chance(d, 30), chance(d, 80));
}

static bool pick_noreplace(struct differ *d, struct op *op)
{
	op->arg = RENAME_NOREPLACE;
	return pick_two(d, op, chance(d, 15), false);
}

static void apply_rename(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char from[PATH_BYTES], to[PATH_BYTES];

	path_of(d, side, op->a, from);
	path_of(d, side, op->b, to);
	/* Whatever else speaks against it is for the filesystem to tell. */
	if (side == M && d->res[V].error == EPERM && op->arg == 0 && snap_keeps(d, to))
		refuse(r);
	else
		set_result(r, renameat2(AT_FDCWD, from, AT_FDCWD, to, (unsigned int)op->arg));
}

static void after_rename(struct differ *d, const struct op *op)
{
	if (d->paths[op->b].is_disk)
		object_of(d, op->ino)->may_be_disk = true;
	if (op->arg == RENAME_EXCHANGE && d->paths[op->a].is_disk)
		object_of(d, op->ino2)->may_be_disk = true;
}

/* --- looking ----------------------------------------------------------------------------------- */

static bool pick_existing(struct differ *d, struct op *op)
{
	op->a = pick_path(d, chance(d, 10), chance(d, 95));
	op->ino = mirror_ino(d, op->a, false);
	return true;
}

static bool pick_list(struct differ *d, struct op *op)
{
	op->a = pick_path(d, true, true);
	op->ino = mirror_ino(d, op->a, false);
	return true;
}

static void apply_lstat(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	text_result(r, text_stat(d, side, path, -1));
}

static void apply_list(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	text_result(r, text_list(d, side, path));
}

static void apply_readlink(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, readlink(path, (char *)d->out[side], 4096));
	d->out_bytes[side] = r->value > 0 ? (size_t)r->value : 0;
}

/* --- attributes -------------------------------------------------------------------------------- */

static bool pick_setxattr(struct differ *d, struct op *op)
{
	static const uint64_t flags[] = { 0, 0, 0, XATTR_CREATE, XATTR_REPLACE };

	(void)pick_existing(d, op);
	op->arg = pick(d, ARRAY_SIZE(attributes));
	op->arg2 = flags[pick(d, ARRAY_SIZE(flags))];
	op->len = pick(d, XATTR_VALUE_MAX + 1);
	fill_data(op, d->data, op->len);
	return true;
}

static void apply_setxattr(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, lsetxattr(path, attributes[op->arg], d->data, op->len, (int)op->arg2));
}

static bool pick_xattr(struct differ *d, struct op *op)
{
	static const uint64_t room[] = { 0, 50, 4096, 4096, 4096 };

	(void)pick_existing(d, op);
	op->arg = pick(d, ARRAY_SIZE(attributes));
	op->len = room[pick(d, ARRAY_SIZE(room))];
	return true;
}

static void apply_getxattr(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, lgetxattr(path, attributes[op->arg], d->out[side], op->len));
	d->out_bytes[side] = r->value > 0 && op->len > 0 ? (size_t)r->value : 0;
}

static void apply_removexattr(struct differ *d, enum side side, const struct op *op,
			      struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, lremovexattr(path, attributes[op->arg]));
}

static void apply_listxattr(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	text_result(r, text_xattrs(d, side, path));
}

static bool pick_chmod(struct differ *d, struct op *op)
{
	struct stat st;

	(void)pick_existing(d, op);
	/* Of directories no bits that their content inherits. */
	op->arg = pick(d, mirror_stat(d, op->a, true, &st) && S_ISDIR(st.st_mode) ? 01000 : 010000);
	op->ino = mirror_ino(d, op->a, true);
	return true;
}

static void apply_chmod(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, chmod(path, (mode_t)op->arg));
}

static bool pick_utimens(struct differ *d, struct op *op)
{
	(void)pick_existing(d, op);
	op->arg = 1000000000 + pick(d, EXPLICIT_S_MAX - 1000000000);
	op->arg2 = pick(d, 1000000000);
	return true;
}

static void apply_utimens(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	const struct timespec t = { .tv_sec = (time_t)op->arg, .tv_nsec = (long)op->arg2 };
	const struct timespec times[2] = { t, t };
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static void after_utimens(struct differ *d, const struct op *op)
{
	object_of(d, op->ino)->mtime_ns = (int64_t)(op->arg * NS_PER_SEC + op->arg2);
	object_wrote(d, op->ino, MTIME_EXPLICIT);
}

static bool pick_truncate_path(struct differ *d, struct op *op)
{
	static const uint64_t sizes[] = { 0, 4095, 4096, 65537, MIB, 3 * MIB + 1, GIB, TIB };

	(void)pick_existing(d, op);
	op->ino = mirror_ino(d, op->a, true);
	op->arg = sizes[pick(d, ARRAY_SIZE(sizes))];
	return true;
}

static void apply_truncate_path(struct differ *d, enum side side, const struct op *op,
				struct result *r)
{
	char path[PATH_BYTES];

	path_of(d, side, op->a, path);
	set_result(r, truncate(path, (off_t)op->arg));
}

static void after_truncate_path(struct differ *d, const struct op *op)
{
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	if (op->arg > DISK_THRESHOLD)
		object_of(d, op->ino)->may_be_disk = true;
}

/*
 * Not here, since filesystems differ by right: ioctl, locks, st_blocks, sizes of directories, access
 * times, O_TMPFILE, collapsing and inserting ranges.
 */
const struct kind name_kinds[] = {
	{ "open", 45, GROUP_DATA, pick_open, apply_open, NULL, after_open },
	{ "close", 20, GROUP_DATA, pick_close, apply_close, NULL, NULL },
	{ "mknod", 8, GROUP_NAME, pick_mknod, apply_mknod, NULL, after_mknod },
	{ "unlink", 14, GROUP_NAME, pick_unlink, apply_unlink, NULL, NULL },
	{ "link", 10, GROUP_NAME, pick_link, apply_link, NULL, after_rename },
	{ "rename", 25, GROUP_NAME, pick_rename, apply_rename, NULL, after_rename },
	{ "rename, exchange", 10, GROUP_NAME, pick_exchange, apply_rename, NULL, after_rename },
	{ "rename, noreplace", 6, GROUP_NAME, pick_noreplace, apply_rename, NULL, after_rename },
	{ "mkdir", 5, GROUP_NAME, pick_mkdir, apply_mkdir, NULL, after_made },
	{ "rmdir", 4, GROUP_NAME, pick_rmdir, apply_rmdir, NULL, NULL },
	{ "symlink", 8, GROUP_NAME, pick_symlink, apply_symlink, NULL, after_made },
	{ "readlink", 5, GROUP_NAME, pick_existing, apply_readlink, NULL, NULL },
	{ "lstat", 25, GROUP_DATA, pick_existing, apply_lstat, same_stat, NULL },
	{ "readdir", 10, GROUP_DATA, pick_list, apply_list, NULL, NULL },
	{ "setxattr", 12, GROUP_NAME, pick_setxattr, apply_setxattr, NULL, NULL },
	{ "getxattr", 10, GROUP_DATA, pick_xattr, apply_getxattr, NULL, NULL },
	{ "listxattr", 6, GROUP_DATA, pick_existing, apply_listxattr, NULL, NULL },
	{ "removexattr", 8, GROUP_NAME, pick_xattr, apply_removexattr, NULL, NULL },
	{ "chmod", 8, GROUP_NAME, pick_chmod, apply_chmod, NULL, NULL },
	{ "utimensat", 10, GROUP_NAME, pick_utimens, apply_utimens, NULL, after_utimens },
	{ "truncate", 6, GROUP_NAME, pick_truncate_path, apply_truncate_path, NULL,
	  after_truncate_path },
};
const unsigned int name_kind_count = ARRAY_SIZE(name_kinds);
