#include "tests/backend/support_watched.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the watched environment --------------------------------------------------------------- */

struct watched fx;

/* Note a call and say whether it is to fail. Paths are shown below the test's directory. */
static int watch(const char *call, const char *path)
{
	size_t used = strlen(fx.trace);

	if (fx.quiet)
		return 0;
	if (path && strncmp(path, fx.dir, strlen(fx.dir)) == 0)
		path += strlen(fx.dir);
	if (path && strstr(path, "/tmp/"))
		path = "TMP"; /* its name is random */
	(void)snprintf(fx.trace + used, TRACE_BYTES - used, "%s%s%s;", call, path ? " " : "",
		       path ? path : "");
	if (++fx.calls == fx.fail_at || (fx.fail_call && strcmp(call, fx.fail_call) == 0))
		return fx.fail_code;
	return 0;
}

static int w_open(struct env *env, const char *path, unsigned int flags, struct env_file **ret_file)
{
	int r = watch(flags & ENV_CREATE ? "create" : "open", path);

	return r < 0 ? r : fx.real->open(env, path, flags, ret_file);
}

static ssize_t w_pread(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
		       uint64_t offset_bytes)
{
	int r = watch("pread", NULL);

	return r < 0 ? r : fx.real->pread(env, f, buf, len_bytes, offset_bytes);
}

static int w_pwrite(struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
		    uint64_t offset_bytes)
{
	int r = watch("pwrite", NULL);

	fx.unsynced++;
	return r < 0 ? r : fx.real->pwrite(env, f, buf, len_bytes, offset_bytes);
}

static int w_fdatasync(struct env *env, struct env_file *f)
{
	int r = watch("fdatasync", NULL);

	if (r < 0)
		return r;
	fx.unsynced = 0;
	return fx.real->fdatasync(env, f);
}

static int w_stat(struct env *env, struct env_file *f, struct env_stat *ret_stat)
{
	int r = watch("stat", NULL);

	return r < 0 ? r : fx.real->stat(env, f, ret_stat);
}

static int w_copy_range(struct env *env, struct env_file *from, uint64_t from_offset_bytes,
			struct env_file *to, uint64_t to_offset_bytes, uint64_t len_bytes)
{
	int r = watch("copy_range", NULL);

	fx.unsynced++;
	return r < 0 ? r :
		       fx.real->copy_range(env, from, from_offset_bytes, to, to_offset_bytes,
					   len_bytes);
}

static int w_reflink(struct env *env, struct env_file *from, struct env_file *to)
{
	int r = watch("reflink", NULL);

	fx.unsynced++;
	return r < 0 ? r : fx.real->reflink(env, from, to);
}

/* A name may be given to durable bytes only. */
static void check_synced(void)
{
	ck_assert_msg(fx.quiet || fx.unsynced == 0, "named before its data was durable: %s",
		      fx.trace);
}

static int w_link(struct env *env, const char *from, const char *to)
{
	int r = watch("link", to);

	check_synced();
	return r < 0 ? r : fx.real->link(env, from, to);
}

static int w_rename(struct env *env, const char *from, const char *to)
{
	int r = watch("rename", to);

	check_synced();
	return r < 0 ? r : fx.real->rename(env, from, to);
}

static int w_unlink(struct env *env, const char *path)
{
	int r = watch("unlink", path);

	return r < 0 ? r : fx.real->unlink(env, path);
}

static int w_mkdir(struct env *env, const char *path)
{
	int r = watch("mkdir", path);

	return r < 0 ? r : fx.real->mkdir(env, path);
}

static int w_rmdir(struct env *env, const char *path)
{
	int r = watch("rmdir", path);

	return r < 0 ? r : fx.real->rmdir(env, path);
}

static int w_sync_dir(struct env *env, const char *path)
{
	int r = watch("sync_dir", path);

	return r < 0 ? r : fx.real->sync_dir(env, path);
}

static int w_list_dir(struct env *env, const char *path, int (*fn)(void *arg, const char *name),
		      void *arg)
{
	int r = watch("list_dir", path);

	return r < 0 ? r : fx.real->list_dir(env, path, fn, arg);
}

/* ---- fixture ------------------------------------------------------------------------------- */

void watched_calm(void)
{
	fx.calls = fx.fail_at = fx.unsynced = 0;
	fx.fail_code = 0;
	fx.fail_call = NULL;
	fx.trace[0] = '\0';
}

int watched_open_store(void)
{
	return store_open(&fx.env, fx.url, &fx.options, &fx.s, &fx.e);
}

void watched_setup(void)
{
	char template[] = "file-XXXXXX";

	fx.real = env_posix()->ops;
	fx.ops = *fx.real;
	fx.ops.open = w_open;
	fx.ops.pread = w_pread;
	fx.ops.pwrite = w_pwrite;
	fx.ops.fdatasync = w_fdatasync;
	fx.ops.stat = w_stat;
	fx.ops.copy_range = w_copy_range;
	fx.ops.reflink = w_reflink;
	fx.ops.link = w_link;
	fx.ops.rename = w_rename;
	fx.ops.unlink = w_unlink;
	fx.ops.mkdir = w_mkdir;
	fx.ops.rmdir = w_rmdir;
	fx.ops.sync_dir = w_sync_dir;
	fx.ops.list_dir = w_list_dir;
	fx.env.ops = &fx.ops;
	ck_assert_ptr_nonnull(mkdtemp(template));
	ck_assert_ptr_nonnull(realpath(template, fx.dir));
	(void)snprintf(fx.root, sizeof(fx.root), "%s/store", fx.dir);
	(void)snprintf(fx.url, sizeof(fx.url), "file://%s", fx.root);
	ck_assert_msg(watched_open_store() == 0, "%s", fx.e.message);
	watched_calm();
}

int watched_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void watched_teardown(void)
{
	if (fx.s)
		fx.s->ops->close(fx.s);
	ck_assert_int_eq(nftw(fx.dir, watched_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void watched_reopen(void)
{
	fx.s->ops->close(fx.s);
	fx.s = NULL;
	ck_assert_msg(watched_open_store() == 0, "%s", fx.e.message);
	watched_calm();
}

/* Paths of files below the root, for looking and meddling by hand. */
const char *watched_at_root(const char *relative)
{
	static char path[2][PATH_MAX + 300];
	static unsigned int turn;

	turn = !turn;
	(void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", fx.root, relative);
	return path[turn];
}

bool watched_is_there(const char *relative)
{
	struct stat st;

	return lstat(watched_at_root(relative), &st) == 0;
}

void watched_make_file(const char *relative)
{
	int fd = open(watched_at_root(relative), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(close(fd), 0);
}

int watched_put(const char *name, const char *text, unsigned int flags)
{
	struct backend_source source = { .data = text, .len_bytes = strlen(text) };
	struct backend_put_result result;

	return fx.s->ops->put(fx.s, name, &source, flags, &result, &fx.e);
}

/* What an object holds, "" if there is none. The result is good until the next call. */
const char *watched_held(const char *name)
{
	static char got[64];
	struct backend_object object;
	bool was_quiet = fx.quiet;

	fx.quiet = true;
	memset(got, 0, sizeof(got));
	if (fx.s->ops->head(fx.s, name, &object, &fx.e) == 0) {
		ck_assert_uint_lt(object.len_bytes, sizeof(got));
		ck_assert_int_eq(fx.s->ops->get(fx.s, name, 0, got, (size_t)object.len_bytes,
						&fx.e),
				 0);
	}
	fx.quiet = was_quiet;
	return got;
}

static int count_name(void *arg, const char *name)
{
	(void)name;
	++*(unsigned int *)arg;
	return 0;
}

unsigned int watched_tmp_count(void)
{
	unsigned int count = 0;

	ck_assert_int_eq(fx.real->list_dir(&fx.env, watched_at_root("tmp"), count_name, &count), 0);
	return count;
}

int watched_join_name(void *arg, const char *name, const struct backend_object *object)
{
	char *names = arg;

	(void)object;
	strncat(names, name, 1000 - strlen(names) - 1);
	strncat(names, " ", 1000 - strlen(names) - 1);
	return 0;
}

const char *watched_all_names(void)
{
	static char names[1000];

	names[0] = '\0';
	ck_assert_int_ge(fx.s->ops->list(fx.s, "", NULL, 100, watched_join_name, names, &fx.e), 0);
	return names;
}

struct env_file *watched_source_file(const char *text, char *ret_path, size_t path_bytes)
{
	struct env_file *file = NULL;

	fx.quiet = true;
	(void)snprintf(ret_path, path_bytes, "%s/source", fx.dir);
	ck_assert_int_eq(env_open(&fx.env, ret_path, ENV_READ | ENV_WRITE | ENV_CREATE, &file), 0);
	ck_assert_int_eq(env_pwrite(&fx.env, file, text, strlen(text), 0), 0);
	fx.quiet = false;
	fx.unsynced = 1; /* the store has to see to it */
	return file;
}
