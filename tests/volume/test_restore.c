/* A pool from what its backend holds: what was synced is there, to the byte, and goes on living. */
#include "support_pool.h"

#include "backend/backend.h"
#include "common/crc32c.h"
#include "volume/pool_impl.h"
#include "volume/snapshot.h"
#include "volume/upload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pool_restored restored;
static struct backend *store; /* a second look at the same objects */

static void begin(void)
{
	struct backend_options bo = { .attempts_max = 1 };

	pf.options.backend_url = "mem:restore";
	pf.options.packs = PACKS_NEVER; /* objects are found by their names */
	pf.options.map_piece_bytes = 600;
	pf.options.grace_time_ns = 0;
	ck_assert_int_eq(backend_open(env_posix(), pf.options.backend_url, &bo, &store, NULL), 0);
}

static void end(void)
{
	backend_close(store);
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

/* --- losing a machine --------------------------------------------------------------------------- */

static void lose_machine(void)
{
	if (pf.pool)
		pool_fixture_close();
	remove_tree(pf.dir);
	ck_assert_int_eq(mkdir(pf.dir, 0700), 0);
}

static void restore(void)
{
	struct err e = { 0 };
	int r = pool_restore(env_posix(), &pf.options, NULL, &restored, &e);

	ck_assert_msg(r == 0, "%s", e.message);
}

static void restore_fails(int code, const char *text)
{
	struct err e = { 0 };
	int r = pool_restore(env_posix(), &pf.options, NULL, &restored, &e);

	ck_assert_msg(r == code, "%d: %s", r, e.message);
	ck_assert_msg(strstr(e.message, text), "'%s' says nothing of '%s'", e.message, text);
}

static void restore_and_open(void)
{
	lose_machine();
	restore();
	pool_fixture_open_quiet();
}

/* --- what there was ----------------------------------------------------------------------------- */

struct image {
	uint64_t id, allocated_bytes;
	enum object_class class;
	size_t size;
	uint8_t *bytes;
};

struct images {
	struct image *of;
	size_t count;
};

static struct images take_images(void)
{
	struct images im = { 0 };
	uint64_t *ids;

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	ck_assert_int_eq(pool_list_objects(pf.pool, &ids, &im.count, NULL), 0);
	im.of = calloc(im.count + 1, sizeof(*im.of));
	for (size_t i = 0; i < im.count; i++) {
		struct object *o = get_object(ids[i]);
		struct image *m = &im.of[i];
		struct object_stat st;
		struct err e = { 0 };
		ssize_t got;

		object_stat(o, &st);
		*m = (struct image){ .id = ids[i],
				     .allocated_bytes = st.allocated_bytes,
				     .class = st.class,
				     .size = st.size_bytes,
				     .bytes = aligned_mem(st.size_bytes + CLUSTER_BYTES) };
		got = object_read(o, 0, m->bytes, m->size, &e);
		ck_assert_msg(got == (ssize_t)m->size, "%zd: %s", got, e.message);
		object_close(o);
	}
	free(ids);
	return im;
}

static void free_images(struct images *im)
{
	for (size_t i = 0; i < im->count; i++)
		free(im->of[i].bytes);
	free(im->of);
}

/* Takes it. */
static void expect_images(struct images *im)
{
	struct images now = take_images();

	ck_assert_uint_eq(now.count, im->count);
	for (size_t i = 0; i < im->count; i++) {
		const struct image *a = &im->of[i], *b = &now.of[i];

		ck_assert_uint_eq(a->id, b->id);
		ck_assert_int_eq(a->class, b->class);
		ck_assert_uint_eq(a->size, b->size);
		ck_assert_uint_eq(a->allocated_bytes, b->allocated_bytes);
		ck_assert_msg(memcmp(a->bytes, b->bytes, a->size) == 0,
			      "object %" PRIu64 " has other bytes", a->id);
	}
	free_images(&now);
	free_images(im);
}

/* --- work ---------------------------------------------------------------------------------------- */

#define OBJECTS	     8u
#define OBJECT_BYTES (3 * MIB)
static uint64_t ids[OBJECTS];

static void make_objects(void)
{
	for (unsigned int i = 0; i < OBJECTS; i++) {
		struct object *o = make_object(i % 2 ? OBJECT_FILE : OBJECT_DISK);

		ids[i] = id_of(o);
		object_close(o);
	}
}

static void change_one(struct rng *r, uint64_t *id)
{
	struct object *o = get_object(*id);
	uint64_t at = rng_below(r, OBJECT_BYTES / 512) * 512;
	uint64_t len = (1 + rng_below(r, 256)) * 512;
	struct object_stat st;
	struct err e = { 0 };
	int rc = 0;
	uint8_t *mem;

	switch (rng_below(r, 20)) {
	case 0:
		rc = object_truncate(o, at, &e);
		break;
	case 1:
	case 2:
		rc = object_zero(o, at, len, false, &e);
		break;
	case 3:
		object_stat(o, &st);
		rc = object_set_class(o, st.class == OBJECT_DISK ? OBJECT_FILE : OBJECT_DISK, &e);
		break;
	case 4:
		object_close(o);
		ck_assert_int_eq(object_delete(pf.pool, *id, NULL), 0);
		o = make_object(rng_below(r, 2) ? OBJECT_FILE : OBJECT_DISK);
		*id = id_of(o);
		break;
	default:
		mem = pattern_mem(len, rng_next(r));
		write_bytes(o, at, mem, len);
		free(mem);
	}
	ck_assert_msg(rc == 0, "%s", e.message);
	object_close(o);
}

static void change_all(struct rng *r, unsigned int times)
{
	for (unsigned int i = 0; i < times; i++)
		change_one(r, &ids[rng_below(r, OBJECTS)]);
}

START_TEST(what_was_synced_is_there_and_what_came_after_is_not)
{
	struct rng r = { 1 };
	struct images im;

	open_fresh();
	make_objects();
	change_all(&r, 80);
	sync_backend();
	im = take_images();
	change_all(&r, 50);
	restore_and_open();
	expect_images(&im);
	pool_fixture_check();
}
END_TEST

/* A restore that goes on with a log copies the SCO at its end; cut off before the row knows, it begins
 * anew. No object of the store is wrong for that. */
START_TEST(a_copy_that_a_restore_left_is_no_damage)
{
	char name[SCO_FILE_NAME_MAX + 1], path[PATH_BYTES], in_cache[PATH_BYTES];
	static const uint8_t zeros[8192];
	struct rng r = { 2 };
	struct sco **list;
	struct images im;
	size_t count;

	open_fresh();
	make_objects();
	change_all(&r, 80);
	sync_backend();
	im = take_images();
	ck_assert_int_eq(sco_table_list(pf.pool->scos, 0, &list, &count), 0);
	ck_assert_uint_gt(count, 0);
	sco_file_name(name, list[0]->stream, list[0]->number, list[0]->version + 1);
	sco_list_free(pf.pool->scos, list, count);
	lose_machine();
	restore();
	(void)snprintf(in_cache, sizeof(in_cache), "cache/sco/%s", name);
	make_file(pool_path(path, in_cache), zeros, sizeof(zeros));
	pool_fixture_open_quiet();
	ck_assert_int_eq(access(path, F_OK), -1);
	expect_images(&im);
	pool_fixture_check();
}
END_TEST

/* Rounds with writes, roots, restarts between; restores of restores. */
START_TEST(every_generation_can_be_restored)
{
	struct rng r = { 100 + (uint64_t)_i };
	uint64_t synced[OBJECTS];

	open_fresh();
	make_objects();
	for (unsigned int generation = 0; generation < 3; generation++) {
		struct images im;

		for (uint64_t n = 1 + rng_below(&r, 4); n > 0; n--) {
			change_all(&r, 25);
			if (rng_below(&r, 2))
				ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
			sync_backend();
			if (rng_below(&r, 3) == 0)
				pool_fixture_restart();
		}
		sync_backend();
		im = take_images();
		memcpy(synced, ids, sizeof(ids));
		change_all(&r, (unsigned int)rng_below(&r, 40));
		restore_and_open();
		memcpy(ids, synced, sizeof(ids));
		expect_images(&im);
		pool_fixture_check();
	}
}
END_TEST

START_TEST(a_restored_pool_needs_no_backend_to_be_mounted)
{
	struct rng r = { 2 };
	struct object *o;

	open_fresh();
	make_objects();
	change_all(&r, 50);
	sync_backend();
	lose_machine();
	restore();
	pf.options.backend_url = "mem:empty";
	pool_fixture_open();
	o = make_object(OBJECT_FILE);
	ck_assert_uint_gt(id_of(o), ids[OBJECTS - 1] + 4096);
	write_bytes(o, 0, "new", 3);
	expect_bytes(o, 0, "new", 3);
	object_close(o);
	pool_fixture_close();
	pf.options.backend_url = "mem:restore";
	pool_fixture_open_quiet();
	pool_fixture_check();
}
END_TEST

/* --- what cannot be ----------------------------------------------------------------------------- */

struct names {
	char name[64][BACKEND_NAME_BYTES_MAX + 1];
	size_t count;
};

static int add_name(void *arg, const char *name, UNUSED const struct backend_object *object)
{
	struct names *n = arg;

	(void)snprintf(n->name[n->count++], sizeof(n->name[0]), "%s", name);
	return 0;
}

static struct names names_of(const char *prefix)
{
	struct names n = { 0 };

	ck_assert_int_ge(backend_list(store, prefix, NULL, 64, add_name, &n, NULL), 0);
	return n;
}

/* The last object whose name begins so. */
static const char *last_object(char name[BACKEND_NAME_BYTES_MAX + 1], const char *prefix)
{
	struct names n = names_of(prefix);

	ck_assert_uint_gt(n.count, 0);
	memcpy(name, n.name[n.count - 1], sizeof(n.name[0]));
	return name;
}

static uint8_t *get_bytes(const char *name, size_t *ret_len)
{
	struct backend_object object;
	uint8_t *bytes;

	ck_assert_int_eq(backend_head(store, name, &object, NULL), 0);
	bytes = malloc(object.len_bytes + 1);
	ck_assert_int_eq(backend_get(store, name, 0, bytes, object.len_bytes, NULL), 0);
	*ret_len = object.len_bytes;
	return bytes;
}

static void put_bytes(const char *name, const void *bytes, size_t len)
{
	struct backend_source source = { .data = bytes, .len_bytes = len };
	struct backend_put_result result;

	ck_assert_int_eq(backend_put(store, name, &source, 0, &result, NULL), 0);
}

static void damage(const char *name)
{
	size_t len;
	uint8_t *bytes = get_bytes(name, &len);

	bytes[len / 2] ^= 8;
	put_bytes(name, bytes, len);
	free(bytes);
}

START_TEST(what_is_no_store_of_a_pool_is_refused)
{
	char name[BACKEND_NAME_BYTES_MAX + 1];

	restore_fails(-ENOENT, "holds no pool");
	open_fresh();
	restore_fails(-EBUSY, "in use");
	pool_fixture_close();
	restore_fails(-EEXIST, "holds a pool already");
	lose_machine();
	while (names_of("root/").count)
		ck_assert_int_eq(backend_delete(store, last_object(name, "root/"), NULL), 0);
	restore_fails(-ENOENT, "never committed a root");
	put_bytes("pool.json", "{\"uuid\":\"x\"}", 12);
	restore_fails(-EUCLEAN, "no program that is known");
}
END_TEST

START_TEST(a_daemon_that_still_lives_is_fenced)
{
	struct pool_options old = pf.options;
	struct rng r = { 3 };
	struct pool *alive;
	struct images im;
	struct err e = { 0 };
	char dir[PATH_BYTES], roots[2];

	open_fresh();
	make_objects();
	change_all(&r, 50);
	sync_backend();
	im = take_images();
	alive = TAKE_PTR(pf.pool);
	pf.options.dir = root_path(dir, "other");
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	restore();
	roots[0] = (char)names_of("root/").count;
	ck_assert_int_eq(object_create(alive, OBJECT_FILE, &ids[0], NULL), 0);
	ck_assert_int_eq(pool_sync_backend(alive, &e), -ESTALE);
	roots[1] = (char)names_of("root/").count;
	ck_assert_int_eq(roots[0], roots[1]);
	ck_assert_int_eq(pool_close(alive, NULL), 0);
	/* Not even anew. */
	ck_assert_int_eq(pool_open(env_posix(), &old, &alive, NULL), 0);
	ck_assert_int_eq(pool_sync_backend(alive, &e), -ESTALE);
	ck_assert_int_eq(pool_close(alive, NULL), 0);
	pool_fixture_open_quiet();
	expect_images(&im);
	pool_fixture_check();
}
END_TEST

static void two_roots(struct images *first, struct images *second)
{
	struct rng r = { 4 };
	struct snapshot_wanted wanted = { .name = "before" };
	struct object_stat st;

	open_fresh();
	make_objects();
	change_all(&r, 40);
	sync_backend();
	*first = take_images();
	/* So that the map of the shared stream is another one, too. */
	wanted.object = get_object(ids[1]);
	object_stat(wanted.object, &st);
	ck_assert_int_eq(st.class, OBJECT_FILE);
	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), 0);
	object_close(wanted.object);
	change_all(&r, 40);
	sync_backend();
	*second = take_images();
	lose_machine();
}

/* Of the newest root something is wrong or gone. */
START_TEST(where_the_newest_root_is_not_whole_the_one_before_counts)
{
	/* Bytes of SCOs are looked at when they are read. */
	static const struct {
		const char *prefix;
		bool gone;
		uint64_t skipped;
	} cases[] = {
		{ "root/", false, 1 },
		{ "root/", true, 0 },
		{ "ns/", false, 1 },
		{ "00000001/manifest/", true, 1 },
		{ "00000001/manifest/", false, 1 },
		{ "00000001/sco/", true, 1 },
		{ "00000001/piece/", false, 1 },
		{ "00000001/map/", true, 1 },
	};
	char name[BACKEND_NAME_BYTES_MAX + 1];
	struct images first, second;
	uint64_t newest;

	two_roots(&first, &second);
	restore();
	newest = restored.root;
	lose_machine();
	last_object(name, cases[_i].prefix);
	if (cases[_i].gone)
		ck_assert_int_eq(backend_delete(store, name, NULL), 0);
	else
		damage(name);
	restore();
	ck_assert_uint_eq(restored.root, newest - 1);
	ck_assert_uint_eq(restored.roots_skipped, cases[_i].skipped);
	pool_fixture_open_quiet();
	expect_images(&first);
	free_images(&second);
	pool_fixture_check();
}
END_TEST

START_TEST(where_no_root_is_whole_it_says_why)
{
	struct images first, second;
	char name[BACKEND_NAME_BYTES_MAX + 1];

	two_roots(&first, &second);
	free_images(&first);
	free_images(&second);
	while (names_of("00000001/manifest/").count)
		ck_assert_int_eq(backend_delete(store, last_object(name, "00000001/manifest/"),
						NULL),
				 0);
	restore_fails(-ENOENT, "00000001/manifest/");
	pool_fixture_open_fails(-EUCLEAN, "restore again");
	restore_fails(-ENOENT, "00000001/manifest/");
}
END_TEST

/* --- entries behind the root -------------------------------------------------------------------- */

static struct root newest_root(char name[BACKEND_NAME_BYTES_MAX + 1])
{
	struct root root;
	size_t len;
	uint8_t *bytes = get_bytes(last_object(name, "root/"), &len);

	ck_assert_int_eq(root_decode(bytes, len, &root, NULL), 0);
	free(bytes);
	return root;
}

static struct manifest manifest_of(const struct root *root, uint32_t stream, unsigned int *ret_at)
{
	struct manifest m;
	unsigned int at = 0;
	uint8_t *bytes;
	size_t len;

	while (root->streams[at].stream != stream)
		at++;
	bytes = get_bytes(root->streams[at].manifest.name, &len);
	ck_assert_int_eq(manifest_decode(bytes, len, &m, NULL), 0);
	free(bytes);
	*ret_at = at;
	return m;
}

/*
 * The newest root commits so many LSNs less of a stream, as if a SCO that overlaps its last one had not
 * been there yet.
 */
static void commit_less(uint32_t stream, lsn_t less)
{
	char root_at[BACKEND_NAME_BYTES_MAX + 1];
	struct root root = newest_root(root_at);
	unsigned int at;
	struct manifest m = manifest_of(&root, stream, &at);
	struct buf out;

	ck_assert_uint_gt(m.lsn, m.map_lsn + less);
	m.lsn -= less;
	buf_init(&out, MIB);
	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	put_bytes(root.streams[at].manifest.name, out.data, out.len_bytes);
	root.streams[at].manifest.crc = crc32c(0, out.data, out.len_bytes);
	buf_clear(&out);
	ck_assert_int_eq(root_encode(&root, &out), 0);
	put_bytes(root_at, out.data, out.len_bytes);
	buf_done(&out);
	manifest_done(&m);
	root_done(&root);
}

static void write_one(struct object *o, uint64_t cluster, uint64_t seed)
{
	uint8_t *mem = pattern_mem(CLUSTER_BYTES, seed);

	write_bytes(o, cluster * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	free(mem);
}

static void expect_one(struct object *o, uint64_t cluster, uint64_t seed)
{
	uint8_t *mem = pattern_mem(CLUSTER_BYTES, seed);

	expect_bytes(o, cluster * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	free(mem);
}

START_TEST(entries_behind_the_root_never_come_back)
{
	struct object_stat st;
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ids[0] = id_of(o);
	write_one(o, 20, 1);
	sync_backend();
	for (unsigned int i = 0; i < 10; i++)
		write_one(o, i, 100 + i);
	write_one(o, 2, 300);
	sync_backend();
	object_stat(o, &st);
	object_close(o);
	lose_machine();
	commit_less(st.stream, 5); /* the last that counts is the write of cluster 5 */
	restore();
	ck_assert_uint_eq(restored.roots_skipped, 0);
	for (unsigned int generation = 0; generation < 3; generation++) {
		pool_fixture_open_quiet();
		o = get_object(ids[0]);
		for (unsigned int i = 0; i < 6; i++)
			expect_one(o, i, 100 + i);
		expect_zeros(o, 6 * CLUSTER_BYTES, 4 * CLUSTER_BYTES);
		expect_one(o, 20, 1);
		if (generation > 0)
			expect_one(o, 11, 400);
		else
			write_one(o, 11, 400); /* under an LSN that another had */
		object_close(o);
		pool_fixture_check();
		sync_backend();
		lose_machine();
		restore();
	}
}
END_TEST

START_TEST(a_log_that_only_grows_is_not_all_replayed)
{
	char root_at[BACKEND_NAME_BYTES_MAX + 1];
	struct images im;
	struct object_stat st;
	struct manifest m;
	struct object *o;
	struct root root;
	unsigned int at, above = 0;
	uint8_t *mem = pattern_mem(12 * MIB, 7);

	pf.options.sco_bytes = 128 * KIB;
	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, 64 * KIB);
	sync_backend();
	write_bytes(o, 64 * KIB, mem + 64 * KIB, 12 * MIB - 64 * KIB);
	sync_backend();
	object_stat(o, &st);
	object_close(o);
	im = take_images();
	root = newest_root(root_at);
	m = manifest_of(&root, st.stream, &at);
	for (uint32_t i = 0; i < m.sco_count; i++)
		above += m.scos[i].last_lsn > m.map_lsn;
	ck_assert_uint_gt(m.sco_count, 90);
	ck_assert_uint_le(above, 64);
	manifest_done(&m);
	root_done(&root);
	restore_and_open();
	expect_images(&im);
	free(mem);
}
END_TEST

/* arg: an object. It has one layer. */
static bool is_merged(void *arg)
{
	struct object *o = arg;
	bool merged;

	map_chain_hold(pf.pool->map);
	merged = !o->layer->parent;
	map_chain_release(pf.pool->map);
	return merged;
}

/* The shared stream's map on the store is older than what the object wrote there before it left. */
START_TEST(what_comes_back_to_a_stream_does_not_get_what_it_wrote_there_before)
{
	const size_t bytes = 64 * KIB;
	uint8_t *old = pattern_mem(bytes, 1), *new = pattern_mem(bytes, 2);
	uint8_t *more = pattern_mem(MIB, 3); /* its SCO stays as it is, and so does the map */
	struct object *o, *beside;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_FILE);
	id = id_of(o);
	beside = make_object(OBJECT_FILE);
	sync_backend();
	write_bytes(o, 0, old, bytes);
	write_bytes(beside, 0, more, MIB);
	object_close(beside);
	sync_backend();
	ck_assert_int_eq(object_set_class(o, OBJECT_DISK, NULL), 0);
	write_bytes(o, 0, new, bytes);
	job_kick(&pf.pool->merger);
	wait_until(is_merged, o, 60, "the layer below goes");
	sync_backend();
	ck_assert_int_eq(object_set_class(o, OBJECT_FILE, NULL), 0);
	sync_backend();
	object_close(o);
	restore_and_open();
	o = get_object(id);
	expect_bytes(o, 0, new, bytes);
	write_bytes(o, 0, old, CLUSTER_BYTES);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_bytes(o, 0, old, CLUSTER_BYTES);
	expect_bytes(o, CLUSTER_BYTES, new + CLUSTER_BYTES, bytes - CLUSTER_BYTES);
	object_close(o);
	pool_fixture_check();
	free(more);
	free(new);
	free(old);
}
END_TEST

/*
 * A stream that failed: the root has an older manifest of it, and names of now, with a layer that begins
 * where the log had come to since.
 */
START_TEST(what_was_rolled_back_behind_the_end_of_the_log_takes_new_entries)
{
	struct snapshot_wanted wanted = { .name = "a" };
	struct object *o;
	struct err e = { 0 };

	open_fresh();
	o = make_object(OBJECT_DISK);
	ids[0] = id_of(o);
	write_one(o, 1, 1);
	wanted.object = o;
	ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
	sync_backend();
	for (unsigned int i = 0; i < 10; i++)
		write_one(o, i, 100 + i);
	ck_assert_msg(snapshot_rollback(o, "a", false, &e) == 0, "%s", e.message);
	stream_poison(o->stream, -EIO, "a test");
	ck_assert_msg(upload_round(pf.pool, &e) == 0, "%s", e.message);
	object_close(o);
	restore_and_open();
	ck_assert_uint_eq(restored.roots_skipped, 0);
	o = get_object(ids[0]);
	expect_one(o, 1, 1);
	ck_assert_uint_eq(size_of(o), 2 * CLUSTER_BYTES);
	write_one(o, 3, 400); /* under an LSN that another had */
	sync_object(o);
	object_close(o);
	pool_fixture_restart();
	o = get_object(ids[0]);
	expect_one(o, 1, 1);
	expect_one(o, 3, 400);
	object_close(o);
	pool_fixture_check();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("restore");
	TCase *t = tcase_create("restore");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120);
	pool_fixture_add(t, begin);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, what_was_synced_is_there_and_what_came_after_is_not);
	tcase_add_test(t, a_copy_that_a_restore_left_is_no_damage);
	tcase_add_loop_test(t, every_generation_can_be_restored, 0, 3);
	tcase_add_test(t, a_restored_pool_needs_no_backend_to_be_mounted);
	tcase_add_test(t, what_is_no_store_of_a_pool_is_refused);
	tcase_add_test(t, a_daemon_that_still_lives_is_fenced);
	tcase_add_loop_test(t, where_the_newest_root_is_not_whole_the_one_before_counts, 0, 8);
	tcase_add_test(t, where_no_root_is_whole_it_says_why);
	tcase_add_test(t, entries_behind_the_root_never_come_back);
	tcase_add_test(t, a_log_that_only_grows_is_not_all_replayed);
	tcase_add_test(t, what_comes_back_to_a_stream_does_not_get_what_it_wrote_there_before);
	tcase_add_test(t, what_was_rolled_back_behind_the_end_of_the_log_takes_new_entries);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
