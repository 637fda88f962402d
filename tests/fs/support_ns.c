#include "support_ns.h"

#include "common/units.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct ns_fixture nf;
__thread struct err t_err;

/* --- life -------------------------------------------------------------------------------------- */

static int remove_one(const char *path, UNUSED const struct stat *st, UNUSED int type,
		      UNUSED struct FTW *at)
{
	return remove(path);
}

static void make_directory(void)
{
	char here[400];

	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	(void)snprintf(nf.root, sizeof(nf.root), "%s/ns-XXXXXX", here);
	ck_assert_ptr_nonnull(mkdtemp(nf.root));
}

static void remove_directory(void)
{
	(void)nftw(nf.root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void ns_fixture_prepare(void)
{
	remove_directory();
	(void)snprintf(nf.dir, sizeof(nf.dir), "%s/pool", nf.root);
	ck_assert_int_eq(mkdir(nf.root, 0700), 0);
	ck_assert_int_eq(mkdir(nf.dir, 0700), 0);
	pool_options_default(&nf.pool_options, nf.dir);
	nf.pool_options.shm_dir = "";
	nf.pool_options.sco_bytes = MIB;
	nf.pool_options.ring_bytes = 4 * MIB;
	nf.pool_options.metadata_cache_bytes = 32 * MIB;
	nf.pool_options.reserve_bytes = MIB;
	nf.pool_options.upload_interval_ns = NS_PER_HOUR;
	ns_options_default(&nf.options);
	nf.options.root_owner = (struct ns_cred){ 0 };
}

void ns_fixture_create(void)
{
	must(pool_create(env_posix(), &nf.pool_options, &t_err));
}

void ns_fixture_open(void)
{
	must(pool_open(env_posix(), &nf.pool_options, &nf.pool, &t_err));
	must(ns_open(env_posix(), nf.pool, &nf.options, &nf.ns, &t_err));
}

void ns_fixture_close(void)
{
	ns_close(TAKE_PTR(nf.ns));
	must(pool_close(TAKE_PTR(nf.pool), &t_err));
}

void ns_fixture_reopen(void)
{
	ns_fixture_close();
	ns_fixture_open();
}

static void tell_problem(UNUSED void *arg, const struct ns_problem *p)
{
	(void)fprintf(stderr, "inode %" PRIu64 ": %s\n", p->ino, p->what);
}

void ns_fixture_check(void)
{
	struct ns_check_result result;

	must(ns_check(nf.ns, tell_problem, NULL, &result, &t_err));
	ck_assert_uint_eq(result.errors, 0);
	ck_assert_uint_eq(result.warnings, 0);
}

static void begin(void)
{
	ns_fixture_prepare();
	ns_fixture_create();
	ns_fixture_open();
}

static void end(void)
{
	if (!nf.ns)
		return;
	ns_fixture_check();
	ns_fixture_close();
}

void ns_fixture_add(TCase *t)
{
	tcase_add_unchecked_fixture(t, make_directory, remove_directory);
	tcase_add_checked_fixture(t, begin, end);
}

void ns_fixture_add_empty(TCase *t)
{
	tcase_add_unchecked_fixture(t, make_directory, remove_directory);
	tcase_add_checked_fixture(t, ns_fixture_prepare, end);
}

/* --- words ------------------------------------------------------------------------------------- */

static int uncounted(int r, const struct ns_attr *attr)
{
	if (r == 0)
		ns_forget(nf.ns, attr->ino, 1);
	return r;
}

int t_mkdir(uint64_t parent, const char *name)
{
	struct ns_attr attr = { 0 };

	return uncounted(ns_mkdir(nf.ns, parent, name, strlen(name), 0755, (struct ns_cred){ 0 },
				  &attr, NULL),
			 &attr);
}

int t_create(uint64_t parent, const char *name)
{
	struct ns_new new = { .mode = S_IFREG | 0644 };
	struct ns_attr attr = { 0 };

	return uncounted(ns_create(nf.ns, parent, name, strlen(name), &new, &attr, NULL), &attr);
}

int t_unlink(uint64_t parent, const char *name)
{
	return ns_unlink(nf.ns, parent, name, strlen(name), NULL);
}

int t_rmdir(uint64_t parent, const char *name)
{
	return ns_rmdir(nf.ns, parent, name, strlen(name), NULL);
}

int t_link(uint64_t ino, uint64_t parent, const char *name)
{
	struct ns_attr attr = { 0 };

	return uncounted(ns_link(nf.ns, ino, parent, name, strlen(name), &attr, NULL), &attr);
}

int t_rename(uint64_t from, const char *name, uint64_t to, const char *new_name, unsigned int flags)
{
	struct ns_name a = { .parent = from, .name = name, .name_bytes = strlen(name) };
	struct ns_name b = { .parent = to, .name = new_name, .name_bytes = strlen(new_name) };

	return ns_rename(nf.ns, &a, &b, flags, NULL);
}

uint64_t t_ino(const char *path)
{
	uint64_t ino = 0;

	(void)!ns_path_find(nf.ns, path, strlen(path), &ino, NULL); /* 0 tells it */
	return ino;
}

struct ns_attr t_attr(uint64_t ino)
{
	struct ns_attr attr;

	must(ns_getattr(nf.ns, ino, &attr, &t_err));
	return attr;
}

void t_write(uint64_t ino, uint64_t offset_bytes, const char *text)
{
	struct object *o;

	must(ns_object_get(nf.ns, ino, &o, &t_err));
	must(object_write(o, offset_bytes, text, strlen(text), &t_err));
	ns_object_put(nf.ns, ino);
}

const char *t_read(uint64_t ino)
{
	static char text[4096];
	struct object *o;
	ssize_t got;

	must(ns_object_get(nf.ns, ino, &o, &t_err));
	got = object_read(o, 0, text, sizeof(text) - 1, &t_err);
	ns_object_put(nf.ns, ino);
	ck_assert_int_ge(got, 0);
	text[got] = 0;
	return text;
}
