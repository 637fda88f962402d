/* Roots while others work: a store that takes its time holds up neither writers nor checkpoints, and
 * what changes meanwhile belongs to the next root. */
#include "support_pool.h"

#include "backend/backend.h"
#include "common/crc32c.h"
#include "common/thread.h"
#include "tests/sim/rows.h"
#include "volume/upload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct object *disk;
static uint8_t *mem;
static struct backend *store; /* a second look at the same objects */

/* --- a store that is held ------------------------------------------------------------------------ */

static struct env_ops held_ops;
static struct env held_env = { &held_ops };
static struct {
	struct mutex lock;
	struct cond changed;
	bool held;	  /* the next root stops */
	bool stopped;	  /* it has come */
	bool lose_answer; /* the next root is put, and the put fails */
	bool cancel;	  /* with the next manifest uploads are */
	bool hold_scos;
	unsigned int scos; /* that are held */
} gate;

/* A root gets its name last. */
static int hold_roots(UNUSED struct env *env, const char *from, const char *to)
{
	int r;

	if (strstr(to, "/objects/root/")) {
		mutex_lock(&gate.lock);
		gate.stopped = gate.held;
		cond_broadcast(&gate.changed);
		while (gate.held)
			cond_wait(&gate.changed, &gate.lock, WAIT_FOREVER);
		gate.stopped = false;
		mutex_unlock(&gate.lock);
	}
	if (gate.cancel && strstr(to, "/manifest/"))
		pool_cancel_uploads(pf.pool);
	r = env_rename(env_posix(), from, to);
	return r == 0 && gate.lose_answer && strstr(to, "/objects/root/") ? -EIO : r;
}

static int hold_scos(UNUSED struct env *env, const char *from, const char *to)
{
	mutex_lock(&gate.lock);
	gate.scos++;
	while (gate.hold_scos)
		cond_wait(&gate.changed, &gate.lock, WAIT_FOREVER);
	gate.scos--;
	mutex_unlock(&gate.lock);
	return env_link(env_posix(), from, to);
}

static void set_scos_held(bool held)
{
	GUARD(&gate.lock);
	gate.hold_scos = held;
	cond_broadcast(&gate.changed);
}

static void set_held(bool held)
{
	GUARD(&gate.lock);
	gate.held = held;
	cond_broadcast(&gate.changed);
}

static void begin(void)
{
	struct backend_options bo = { .attempts_max = 1 };
	char path[PATH_BYTES], url[PATH_BYTES];
	struct err e = { 0 };

	mutex_init(&gate.lock, 0);
	cond_init(&gate.changed);
	held_ops = *env_posix()->ops;
	held_ops.rename = hold_roots;
	held_ops.link = hold_scos;
	pf.options.sco_bytes = 128 * KIB;
	pf.options.map_piece_bytes = 600;
	pf.options.attempts_max = 1;
	pool_fixture_create();
	ck_assert_msg(pool_open(&held_env, &pf.options, &pf.pool, &e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	(void)snprintf(url, sizeof(url), "file://%.1000s", pool_path(path, "objects"));
	ck_assert_int_eq(backend_open(env_posix(), url, &bo, &store, NULL), 0);
	mem = pattern_mem(2 * MIB, 1);
	disk = make_object(OBJECT_DISK);
}

static void end(void)
{
	object_close(disk);
	pool_fixture_close();
	backend_close(store);
	free(mem);
	cond_done(&gate.changed);
	mutex_done(&gate.lock);
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void sync_main(void *arg)
{
	*(int *)arg = pool_sync_backend(pf.pool, NULL);
}

/* A root on its way, which has all but its own name. */
static struct thread *begin_root(int *ret_result)
{
	struct thread *t;

	set_held(true);
	ck_assert_int_eq(thread_start("root", sync_main, ret_result, &t), 0);
	mutex_lock(&gate.lock);
	while (!gate.stopped)
		cond_wait(&gate.changed, &gate.lock, WAIT_FOREVER);
	mutex_unlock(&gate.lock);
	return t;
}

static void finish_root(struct thread *t, const int *result)
{
	set_held(false);
	thread_join(t);
	ck_assert_int_eq(*result, 0);
}

static void checkpoint(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
}

static size_t objects_in(const char *dir)
{
	char path[PATH_BYTES];
	struct name_list l;
	size_t count;

	name_list_read(pool_path(path, dir), &l);
	count = l.count;
	name_list_free(&l);
	return count;
}

START_TEST(a_root_comes_behind_all_that_it_names)
{
	struct thread *t;
	size_t scos;
	int result;

	write_bytes(disk, 0, mem, MIB);
	t = begin_root(&result);
	scos = objects_in("objects/00000010/sco");
	ck_assert_uint_ge(scos, MIB / pf.options.sco_bytes);
	ck_assert_uint_eq(objects_in("objects/00000010/manifest"), 1);
	finish_root(t, &result);
	ck_assert_uint_eq(objects_in("objects/00000010/sco"), scos);
}
END_TEST

/* --- what changes meanwhile ---------------------------------------------------------------------- */

START_TEST(what_dies_while_a_root_is_put_stays_until_no_root_needs_it)
{
	uint64_t deleted;
	struct thread *t;
	int result;

	write_bytes(disk, 0, mem, MIB);
	t = begin_root(&result);
	/* All that the root names dies, in checkpoints that do not wait for it. */
	deleted = pool_fixture_counter("scos_deleted");
	write_bytes(disk, 0, mem + 4096, MIB);
	checkpoint();
	checkpoint();
	ck_assert_uint_gt(pool_fixture_counter("scos_deleted"), deleted);
	finish_root(t, &result);
	/* The root after it shows none of that, and is not yet the last that needs it. */
	sync_backend();
	ck_assert(root_before_is_whole(store, pf.pool->meta));
	expect_bytes(disk, 0, mem + 4096, MIB);
}
END_TEST

START_TEST(what_changes_while_a_root_is_put_is_marked_for_the_next_one)
{
	struct thread *t;
	int result;

	/* A SCO comes and dies, so the next root puts a map. */
	write_bytes(disk, 0, mem, MIB);
	sync_backend();
	write_bytes(disk, 0, mem + 4096, MIB);
	t = begin_root(&result);
	write_bytes(disk, 2 * MIB, mem, 16 * KIB);
	checkpoint();
	finish_root(t, &result);
	ck_assert(maps_agree(store, pf.pool->meta));
	/* Nothing was marked that the next map does not show. */
	write_bytes(disk, 0, mem, MIB);
	sync_backend();
	ck_assert(maps_agree(store, pf.pool->meta));
	ck_assert(root_before_is_whole(store, pf.pool->meta));
}
END_TEST

START_TEST(a_root_that_fails_leaves_all_as_it_was)
{
	char path[PATH_BYTES];
	struct err e = { 0 };

	write_bytes(disk, 0, mem, MIB);
	sync_backend();
	write_bytes(disk, 0, mem + 4096, MIB / 2);
	/* A file where the root's directory was: no root can be put, its parts can. */
	(void)pool_path(path, "objects/root");
	copy_tree(path, pool_path((char[PATH_BYTES]){ 0 }, "kept"));
	remove_tree(path);
	make_file(path, "x", 1);
	ck_assert_int_lt(pool_sync_backend(pf.pool, &e), 0);
	write_bytes(disk, MIB, mem, MIB / 2);
	checkpoint();
	ck_assert_int_eq(remove(path), 0);
	copy_tree(pool_path((char[PATH_BYTES]){ 0 }, "kept"), path);
	for (unsigned int i = 0; i < 3; i++) {
		write_bytes(disk, 0, mem + i * 4096, MIB / 2);
		sync_backend();
		ck_assert(maps_agree(store, pf.pool->meta));
		ck_assert(root_before_is_whole(store, pf.pool->meta));
	}
}
END_TEST

/* --- attempts that come to nothing --------------------------------------------------------------- */

#define STORED_MAX 1000u
struct stored {
	char name[OBJECT_NAME_MAX + 1]; /* first, to be compared */
	uint32_t crc;
};
struct listing {
	struct stored objects[STORED_MAX];
	size_t count;
};

/* Of an object; 0: it is not there. */
static uint32_t crc_of(const char *name)
{
	struct backend_object object;
	uint32_t crc;
	uint8_t *bytes;
	int r = backend_head(store, name, &object, NULL);

	if (r == -ENOENT)
		return 0;
	ck_assert_int_eq(r, 0);
	bytes = malloc((size_t)object.len_bytes + 1);
	ck_assert_int_eq(backend_get(store, name, 0, bytes, (size_t)object.len_bytes, NULL), 0);
	/* All end with their own, which would make it the same for all. */
	ck_assert_uint_gt(object.len_bytes, sizeof(crc));
	crc = crc32c(0, bytes, (size_t)object.len_bytes - sizeof(crc));
	free(bytes);
	return crc;
}

static int take_name(void *arg, const char *name, UNUSED const struct backend_object *object)
{
	struct listing *l = arg;

	(void)snprintf(l->objects[l->count++].name, sizeof(l->objects->name), "%s", name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool is_listed(const struct listing *l, const char *name)
{
	return bsearch(name, l->objects, l->count, sizeof(*l->objects), by_name) != NULL;
}

static void list_store(struct listing *ret_list)
{
	ret_list->count = 0;
	ck_assert_int_lt(backend_list(store, "", NULL, STORED_MAX, take_name, ret_list, NULL),
			 STORED_MAX);
}

/* What came since, SCOs apart. */
static void list_since(const struct listing *before, struct listing *ret_list)
{
	static struct listing now;

	list_store(&now);
	ret_list->count = 0;
	for (size_t i = 0; i < now.count; i++) {
		struct stored *o = &ret_list->objects[ret_list->count];

		if (is_listed(before, now.objects[i].name) || strstr(now.objects[i].name, "/sco/"))
			continue;
		*o = now.objects[i];
		o->crc = crc_of(o->name);
		ret_list->count++;
	}
}

static const char *one_of(const struct listing *l, const char *part)
{
	for (size_t i = 0; i < l->count; i++)
		if (strstr(l->objects[i].name, part))
			return l->objects[i].name;
	ck_abort_msg("no object is a '%s'", part);
	return NULL;
}

/* A change that the next root shows in each of its parts. */
static void change_all(unsigned int n)
{
	write_bytes(disk, 0, mem + n * (size_t)4096, MIB);
	object_close(make_object(OBJECT_FILE));
}

static struct listing before_it, tried;

/* Some roots, then an attempt that fails. */
static void fail_one(bool *how)
{
	for (unsigned int i = 0; i < 3; i++) {
		change_all(i);
		sync_backend();
	}
	list_store(&before_it);
	change_all(3);
	*how = true;
	ck_assert_int_lt(pool_sync_backend(pf.pool, NULL), 0);
	*how = false;
	list_since(&before_it, &tried);
	(void)one_of(&tried, "ns/");
	(void)one_of(&tried, "/piece/");
	(void)one_of(&tried, "/map/");
	(void)one_of(&tried, "/manifest/");
}

/* If this machine is lost before the next root is put, it is what a restore follows. */
START_TEST(a_root_whose_answer_was_lost_stays_whole_until_two_came_after_it)
{
	struct pool_status st;

	fail_one(&gate.lose_answer);
	pool_status(pf.pool, &st);
	ck_assert_uint_eq(strtoull(strchr(one_of(&tried, "root/"), '-') + 1, NULL, 16),
			  st.root + 1);
	for (unsigned int i = 0; i < 2; i++) {
		ck_assert(root_is_whole(store, one_of(&tried, "root/")));
		for (size_t j = 0; j < tried.count; j++)
			ck_assert_msg(crc_of(tried.objects[j].name) == tried.objects[j].crc,
				      "'%s' was changed or removed", tried.objects[j].name);
		ck_assert(i == 0 || root_before_is_whole(store, pf.pool->meta));
		change_all(4 + i);
		sync_backend();
	}
	for (size_t i = 0; i < tried.count; i++)
		ck_assert_msg(!crc_of(tried.objects[i].name), "'%s' is left",
			      tried.objects[i].name);
	ck_assert(root_before_is_whole(store, pf.pool->meta));
	ck_assert(maps_agree(store, pf.pool->meta));
}
END_TEST

static int take_condemned(void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
			  const uint8_t *value, size_t value_bytes)
{
	struct listing *l = arg;

	ck_assert_uint_lt(l->count, STORED_MAX);
	return condemned_row_decode(value, value_bytes, l->objects[l->count++].name, NULL);
}

/* Names that the metadata of the closed pool condemns. */
static void list_condemned(struct listing *ret_list)
{
	const struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	const struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);
	struct meta_options mo = { .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20 };
	char path[PATH_BYTES];
	struct meta *meta;

	ret_list->count = 0;
	ck_assert_int_eq(meta_rocksdb_open(pool_path(path, "meta"), &mo, &meta, NULL), 0);
	ck_assert_int_eq(meta_iterate(meta, META_NAMES, &from, &until, take_condemned, ret_list,
				      NULL),
			 0);
	meta_close(meta);
	qsort(ret_list->objects, ret_list->count, sizeof(*ret_list->objects), by_name);
}

START_TEST(a_round_that_is_cancelled_leaves_nothing_that_nobody_names)
{
	static struct listing condemned;
	uint64_t id = id_of(disk);

	fail_one(&gate.cancel);
	object_close(disk);
	pool_fixture_close();
	list_condemned(&condemned);
	for (size_t i = 0; i < tried.count; i++)
		ck_assert_msg(is_listed(&condemned, tried.objects[i].name),
			      "'%s' is named by nothing", tried.objects[i].name);
	/* The first round of the next process brings one root. */
	pool_fixture_open_quiet();
	disk = get_object(id);
	change_all(4);
	sync_backend();
	for (size_t i = 0; i < tried.count; i++)
		ck_assert_msg(!crc_of(tried.objects[i].name), "'%s' is left",
			      tried.objects[i].name);
}
END_TEST

static bool four_are_held(UNUSED void *arg)
{
	GUARD(&gate.lock);
	return gate.scos == 4;
}

START_TEST(several_scos_travel_at_the_same_time)
{
	struct thread *t;
	int result;

	ck_assert_uint_eq(pf.options.uploads_max, 4);
	write_bytes(disk, 0, mem, MIB);
	set_scos_held(true);
	ck_assert_int_eq(thread_start("round", sync_main, &result, &t), 0);
	wait_until(four_are_held, NULL, 30, "four SCOs on their way");
	set_scos_held(false);
	thread_join(t);
	ck_assert_int_eq(result, 0);
	ck_assert_uint_ge(objects_in("objects/00000010/sco"), MIB / pf.options.sco_bytes);
}
END_TEST

/* --- when there is nothing to show ---------------------------------------------------------------- */

START_TEST(roots_end_when_nothing_changes_and_begin_again_when_something_does)
{
	uint64_t roots, idle;

	write_bytes(disk, 0, mem, MIB);
	sync_backend();
	for (unsigned int i = 0; i < 8; i++)
		sync_backend();
	idle = pool_fixture_counter("roots");
	for (unsigned int i = 0; i < 3; i++)
		sync_backend();
	ck_assert_uint_eq(pool_fixture_counter("roots"), idle);
	write_bytes(disk, 0, mem + 4096, 4096);
	sync_backend();
	roots = pool_fixture_counter("roots");
	ck_assert_uint_gt(roots, idle);
	/* A name alone is something, too. */
	for (unsigned int i = 0; i < 8; i++)
		sync_backend();
	roots = pool_fixture_counter("roots");
	object_close(make_object(OBJECT_FILE));
	sync_backend();
	ck_assert_uint_gt(pool_fixture_counter("roots"), roots);
}
END_TEST

/* Name of the newest snapshot of the namespace: one is put only when it differs. */
static void newest_namespace(char out[PATH_BYTES])
{
	char path[PATH_BYTES];
	struct name_list l;

	name_list_read(pool_path(path, "objects/ns"), &l);
	ck_assert_uint_gt(l.count, 0);
	(void)snprintf(out, PATH_BYTES, "%s", l.names[l.count - 1]);
	name_list_free(&l);
}

START_TEST(a_name_that_comes_while_a_root_is_put_is_in_the_next)
{
	char before[PATH_BYTES], after[PATH_BYTES];
	struct thread *t;
	int result;

	write_bytes(disk, 0, mem, MIB);
	t = begin_root(&result);
	object_close(make_object(OBJECT_FILE));
	finish_root(t, &result);
	newest_namespace(before);
	sync_backend();
	newest_namespace(after);
	ck_assert_str_gt(after, before);
	sync_backend();
	newest_namespace(before);
	ck_assert_str_eq(after, before);
}
END_TEST

/* Equal lengths, equal checksums (an image ends with its own), other names. */
START_TEST(names_that_change_without_the_length_of_all_are_in_the_next_root)
{
	char before[PATH_BYTES], after[PATH_BYTES];
	struct object *o = make_object(OBJECT_FILE);

	sync_backend();
	for (unsigned int i = 0; i < 3; i++) {
		newest_namespace(before);
		ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
		object_close(o);
		o = make_object(OBJECT_FILE);
		sync_backend();
		newest_namespace(after);
		ck_assert_str_gt(after, before);
	}
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_roots");
	TCase *t = tcase_create("roots");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, NULL);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_root_comes_behind_all_that_it_names);
	tcase_add_test(t, what_dies_while_a_root_is_put_stays_until_no_root_needs_it);
	tcase_add_test(t, what_changes_while_a_root_is_put_is_marked_for_the_next_one);
	tcase_add_test(t, a_root_that_fails_leaves_all_as_it_was);
	tcase_add_test(t, a_root_whose_answer_was_lost_stays_whole_until_two_came_after_it);
	tcase_add_test(t, a_round_that_is_cancelled_leaves_nothing_that_nobody_names);
	tcase_add_test(t, several_scos_travel_at_the_same_time);
	tcase_add_test(t, roots_end_when_nothing_changes_and_begin_again_when_something_does);
	tcase_add_test(t, a_name_that_comes_while_a_root_is_put_is_in_the_next);
	tcase_add_test(t, names_that_change_without_the_length_of_all_are_in_the_next_root);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
