/* Flash as a cache: SCOs whose bytes are on the backend only. */
#include "support_pool.h"

#include "backend/backend.h"
#include "volume/evict.h"
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES (8 * MIB)

/* The backend has copies of its own. */
static void begin(void)
{
	pf.options.backend_copy = BACKEND_COPY_BYTES;
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void checkpoint(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
}

/* A disk of this pattern, on the backend, and rows that say so. */
static uint64_t make_disk(uint64_t seed)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	void *mem = pattern_mem(DISK_BYTES, seed);

	write_bytes(o, 0, mem, DISK_BYTES);
	object_close(o);
	free(mem);
	sync_backend();
	checkpoint();
	return id;
}

/* The same of small batches: before the clusters of each there is its block. */
static uint64_t make_disk_of_batches(uint64_t seed)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	uint8_t *mem = pattern_mem(DISK_BYTES, seed);

	for (uint64_t at = 0; at < DISK_BYTES; at += 64 * KIB) {
		write_bytes(o, at, mem + at, 64 * KIB);
		sync_object(o);
	}
	object_close(o);
	free(mem);
	sync_backend();
	checkpoint();
	return id;
}

static void expect_disk(uint64_t id, uint64_t seed)
{
	struct object *o = get_object(id);
	void *mem = pattern_mem(DISK_BYTES, seed);

	expect_bytes(o, 0, mem, DISK_BYTES);
	object_close(o);
	free(mem);
}

static void remove_all_files(void)
{
	char path[PATH_BYTES];

	while (sco_count() > 0)
		ck_assert_int_eq(unlink(sco_path(path, 0)), 0);
}

START_TEST(files_that_the_backend_has_may_be_gone)
{
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	expect_disk(id, 1);
	ck_assert_uint_gt(pool_fixture_counter("fetches"), 0);
	pool_fixture_restart();
	expect_disk(id, 1);
}
END_TEST

START_TEST(a_damaged_file_that_the_backend_has_too_is_replaced)
{
	char path[PATH_BYTES];
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	flip_bit(sco_path(path, 0), file_size(sco_path(path, 0)) - 4000, 3); /* the footer */
	pool_fixture_open_quiet();
	expect_disk(id, 1);
}
END_TEST

static unsigned int objects_of(uint32_t stream)
{
	char name[64], path[PATH_BYTES];
	struct name_list l;
	unsigned int count;

	(void)snprintf(name, sizeof(name), "objects/%08x/sco", stream);
	if (access(pool_path(path, name), F_OK) < 0)
		return 0;
	name_list_read(path, &l);
	count = (unsigned int)l.count;
	name_list_free(&l);
	return count;
}

START_TEST(a_dead_absent_sco_is_buried_with_its_object)
{
	struct object_stat st;
	struct object *o;
	struct err e = { 0 };
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	o = get_object(id);
	object_stat(o, &st);
	object_close(o);
	ck_assert_uint_ge(objects_of(st.stream), DISK_BYTES / MIB);
	ck_assert_int_eq(object_delete(pf.pool, id, &e), 0);
	for (unsigned int i = 0; i < 3; i++) { /* condemned, then deleted with the root after */
		o = make_object(OBJECT_FILE);
		write_bytes(o, 0, "x", 1);
		object_close(o);
		checkpoint();
		sync_backend();
	}
	ck_assert_uint_eq(objects_of(st.stream), 0);
}
END_TEST

/* --- eviction ---------------------------------------------------------------------------------- */

#define CACHE_BYTES (16 * MIB)
#define LARGE_BYTES (2 * CACHE_BYTES + TEST_SCALE(2 * CACHE_BYTES))
#define PIECE_BYTES (4 * MIB)
/* Of all SCOs that fit, of which the smallest in use has 256 slots. */
#define INDEXES_BYTES (CACHE_BYTES / 32)

static void begin_small(void)
{
	static char path[PATH_BYTES];

	begin();
	pf.options.cache[0].path = pool_path(path, "cache");
	pf.options.cache[0].size_bytes = CACHE_BYTES;
	pf.options.cache_count = 1;
	pf.options.reserve_bytes = 4 * KIB;
}

static uint64_t make_large(void)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);

	for (uint64_t at = 0; at < LARGE_BYTES; at += PIECE_BYTES) {
		void *mem = pattern_mem(PIECE_BYTES, at);

		write_bytes(o, at, mem, PIECE_BYTES);
		free(mem);
	}
	object_close(o);
	return id;
}

static void expect_large(uint64_t id)
{
	struct object *o = get_object(id);

	for (uint64_t at = 0; at < LARGE_BYTES; at += PIECE_BYTES) {
		void *mem = pattern_mem(PIECE_BYTES, at);

		expect_bytes(o, at, mem, PIECE_BYTES);
		free(mem);
	}
	object_close(o);
}

START_TEST(a_pool_holds_more_than_its_flash)
{
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_large();
	/* A file gets its index when it is sealed: what is sealed late may pass the limit by that. */
	ck_assert_uint_le(flash_used_bytes(pf.pool->flash), CACHE_BYTES + INDEXES_BYTES);
	ck_assert_uint_le(tree_bytes(pf.options.cache[0].path), CACHE_BYTES + MIB);
	ck_assert_uint_ge(pool_fixture_counter("scos_evicted"), (LARGE_BYTES - CACHE_BYTES) / MIB);
	expect_large(id);
	pool_fixture_restart();
	expect_large(id);
	ck_assert_uint_le(tree_bytes(pf.options.cache[0].path), CACHE_BYTES + MIB);
}
END_TEST

/* Rounds of checkpoint and root, until the evictor has had its time, too. */
static void settle(void)
{
	sync_backend();
	checkpoint();
	sync_backend();
	job_kick(&pf.pool->evictor);
}

static uint64_t evicted(void)
{
	return pool_fixture_counter("scos_evicted");
}

static bool some_were_evicted(void *arg)
{
	job_kick(&pf.pool->evictor);
	return evicted() >= *(uint64_t *)arg;
}

/* 10 MiB of 16: flash is narrow, and nothing waits for room. */
static uint64_t make_narrow(void)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);

	for (uint64_t at = 0; at < 10 * MIB; at += MIB) {
		void *mem = pattern_mem(MIB, at);

		write_bytes(o, at, mem, MIB);
		free(mem);
	}
	object_close(o);
	return id;
}

static void expect_narrow(uint64_t id)
{
	struct object *o = get_object(id);

	for (uint64_t at = 0; at < 10 * MIB; at += MIB) {
		void *mem = pattern_mem(MIB, at);

		expect_bytes(o, at, mem, MIB);
		free(mem);
	}
	object_close(o);
}

/* From now on it is the test that runs it. */
static void take_evictor(void)
{
	job_stop(&pf.pool->evictor);
	pf.pool->evictor.stopping = false;
}

/* The evictor runs to its end, as often as it likes. */
static void let_evictor_run(void)
{
	for (unsigned int i = 0; i < 3; i++)
		(void)evictor_step(pf.pool);
}

START_TEST(nothing_goes_before_a_checkpoint_and_a_root_have_it)
{
	uint64_t id, want = 1;

	pf.options.dirty_limit_bytes = 64 * MIB; /* nobody hurries the uploader */
	pool_fixture_create();
	pool_fixture_open_quiet();
	take_evictor();
	id = make_narrow();
	checkpoint();
	let_evictor_run();
	ck_assert_uint_eq(evicted(), 0);
	sync_backend(); /* a root names them; that they are there is in no flushed row yet */
	let_evictor_run();
	for (struct sco *s = pf.pool->scos->by_number; s; s = s->hh.next)
		ck_assert(!s->absent || s->row_saved == s->row_change);
	settle();
	let_evictor_run();
	ck_assert(some_were_evicted(&want));
	expect_narrow(id);
}
END_TEST

START_TEST(a_fenced_pool_evicts_nothing)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
	take_evictor();
	(void)make_narrow();
	settle();
	__atomic_store_n(&pf.pool->fenced, true, __ATOMIC_RELAXED);
	let_evictor_run();
	ck_assert_uint_eq(evicted(), 0);
	__atomic_store_n(&pf.pool->fenced, false, __ATOMIC_RELAXED);
	let_evictor_run();
	ck_assert_uint_gt(evicted(), 0);
}
END_TEST

START_TEST(files_that_are_the_backends_objects_stay)
{
	pf.options.backend_copy = BACKEND_COPY_LINK;
	pool_fixture_create();
	pool_fixture_open_quiet();
	take_evictor();
	(void)make_narrow();
	settle();
	let_evictor_run();
	ck_assert_uint_eq(evicted(), 0);
}
END_TEST

START_TEST(an_evicted_file_gives_its_space_back)
{
	char path[PATH_BYTES];
	uint64_t before;
	size_t files;

	pool_fixture_create();
	pool_fixture_open_quiet();
	take_evictor();
	(void)make_narrow();
	settle();
	files = sco_count();
	before = tree_bytes(pool_path(path, "cache/sco"));
	let_evictor_run();
	ck_assert_uint_gt(evicted(), 2);
	ck_assert_uint_eq(sco_count(), files - evicted());
	ck_assert_uint_le(tree_bytes(path), before - evicted() * (MIB / 2));
}
END_TEST

static void write_and_evict(UNUSED int to_parent, void *arg)
{
	uint64_t want = 3, id;
	FILE *f = fopen(arg, "w");

	pool_fixture_open_quiet();
	id = make_narrow();
	settle();
	wait_until(some_were_evicted, &want, 20, "eviction");
	ck_assert_int_gt(fprintf(f, "%llu", (unsigned long long)id), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void create_pool(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
}

static void read_after(UNUSED int to_parent, void *arg)
{
	char *text = file_text(arg);

	pool_fixture_open_quiet();
	expect_narrow(strtoull(text, NULL, 10));
	free(text);
	pool_fixture_close();
}

START_TEST(what_was_evicted_is_there_after_a_crash)
{
	char path[PATH_BYTES];

	root_path(path, "id");
	in_child(create_pool, NULL);
	in_child_killed(write_and_evict, path);
	if (_i == 1)
		pretend_reboot();
	in_child(read_after, path);
}
END_TEST

START_TEST(wrong_bytes_in_the_cache_are_fetched_again)
{
	char path[PATH_BYTES];
	uint64_t id, size;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	expect_disk(id, 1);
	pool_fixture_close();
	pool_path(path, "cache/chunks");
	size = file_size(path);
	ck_assert_uint_ge(size, MIB);
	for (uint64_t at = 0; at < size; at += 4096)
		flip_bit(path, at + 100, 1);
	pool_fixture_open_quiet();
	expect_disk(id, 1);
	ck_assert_uint_gt(pool_fixture_counter("dropped"), 0);
}
END_TEST

/* --- the backend away -------------------------------------------------------------------------- */

struct waiting_read {
	uint64_t id;
	bool done; /* atomic */
	ssize_t result;
};

/* As a mount does it. */
static void read_waiting(void *arg)
{
	struct waiting_read *w = arg;
	struct object *o = get_object(w->id);
	void *mem = aligned_mem(MIB), *want = pattern_mem(MIB, 1);
	struct err e = { 0 };

	do
		w->result = object_read(o, 0, mem, MIB, &e);
	while (w->result == -EREMOTEIO);
	ck_assert_msg(w->result == (ssize_t)MIB, "%zd: %s", w->result, e.message);
	ck_assert_int_eq(memcmp(mem, want, MIB), 0);
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	object_close(o);
	free(mem);
	free(want);
}

static bool reads_wait(UNUSED void *arg)
{
	struct pool_description d;

	pool_describe(pf.pool, &d);
	return d.backend_failed_ns != 0;
}

static void move_objects(bool away)
{
	char here[PATH_BYTES], there[PATH_BYTES];

	pool_path(here, "objects");
	root_path(there, "objects-away");
	ck_assert_int_eq(away ? rename(here, there) : rename(there, here), 0);
}

static bool is_done(void *arg)
{
	return __atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE);
}

static void request_done(struct volume_request *r)
{
	__atomic_store_n((bool *)r->owner, true, __ATOMIC_RELEASE);
}

/* Without anything here, and nobody who looks at the backend by himself. */
static uint64_t make_absent(uint64_t (*make)(uint64_t seed))
{
	uint64_t id;

	pf.options.attempts_max = 1;
	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	return id;
}

static uint64_t make_absent_disk(void)
{
	return make_absent(make_disk);
}

START_TEST(reads_wait_for_the_backend_and_go_on_by_themselves)
{
	struct waiting_read w = { .id = make_absent_disk() };
	struct object *o = get_object(w.id);
	void *mem = pattern_mem(DISK_BYTES, 1);
	struct thread *t;

	expect_bytes(o, 4 * MIB, (uint8_t *)mem + 4 * MIB, 64 * KIB); /* it is in the cache now */
	move_objects(true);
	ck_assert_int_eq(thread_start("read", read_waiting, &w, &t), 0);
	wait_until(reads_wait, NULL, 20, "a read that waits");
	expect_bytes(o, 4 * MIB, (uint8_t *)mem + 4 * MIB, 64 * KIB);
	ck_assert(!is_done(&w.done));
	move_objects(false);
	wait_until(is_done, &w.done, 20, "the read");
	thread_join(t);
	ck_assert(!reads_wait(NULL));
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_merge_that_waits_for_the_backend_holds_up_nobody)
{
	uint64_t id = make_absent_disk();
	struct object *o = get_object(id), *other = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(DISK_BYTES, 1);
	bool done[3] = { false };
	struct volume_request part[2], whole;

	move_objects(true);
	for (unsigned int i = 0; i < 2; i++) {
		part[i] = (struct volume_request){ .object = o,
						   .write = true,
						   .offset_bytes = 100 + i * MIB,
						   .buf = mem + 5 * MIB,
						   .len_bytes = 1000,
						   .done = request_done,
						   .owner = &done[i] };
		ck_assert_int_eq(volume_submit(&part[i]), 0);
	}
	whole = (struct volume_request){ .object = other,
					 .write = true,
					 .offset_bytes = 0,
					 .buf = mem,
					 .len_bytes = 10000,
					 .done = request_done,
					 .owner = &done[2] };
	ck_assert_int_eq(volume_submit(&whole), 1);
	ck_assert_int_eq(whole.result, 10000);
	write_bytes(o, 4096, mem, 4096); /* beside it */
	wait_until(reads_wait, NULL, 20, "the merge");
	ck_assert(!is_done(&done[0]));
	volume_cancel(&part[1]);
	wait_until(is_done, &done[1], 20, "the merge that was given up");
	ck_assert_int_eq(part[1].result, -EINTR);
	move_objects(false);
	wait_until(is_done, &done[0], 20, "the merge");
	ck_assert_int_eq(part[0].result, 1000);
	memcpy(mem + 100, mem + 5 * MIB, 1000);
	expect_bytes(o, 0, mem, 4096);
	object_close(o);
	object_close(other);
	free(mem);
}
END_TEST

struct seen {
	unsigned int damaged;
};

static void see_problem(void *arg, const struct pool_problem *problem)
{
	((struct seen *)arg)->damaged += strstr(problem->what, "damaged") != NULL;
}

static struct pool_check_result check(struct seen *seen)
{
	struct pool_check_options o = { .data = true, .problem = see_problem, .arg = seen };
	struct pool_check_result result;
	struct err e = { 0 };

	ck_assert_msg(pool_check(pf.pool, &o, &result, &e) == 0, "%s", e.message);
	return result;
}

START_TEST(check_reads_what_is_absent_where_it_is)
{
	uint64_t id = make_absent_disk();
	struct object_stat st;
	struct object *o = get_object(id);
	struct seen seen = { 0 };
	char name[64], dir[PATH_BYTES], path[PATH_BYTES];
	struct pool_check_result result;
	struct name_list l;

	object_stat(o, &st);
	object_close(o);
	result = check(&seen);
	ck_assert_uint_eq(result.errors, 0);
	ck_assert_uint_eq(result.data_bytes, DISK_BYTES);
	ck_assert(result.backend_checked);

	expect_disk(id, 1); /* the cache has it all, and is not asked */
	(void)snprintf(name, sizeof(name), "objects/%08x/sco", st.stream);
	name_list_read(pool_path(dir, name), &l);
	(void)snprintf(path, sizeof(path), "%.600s/%.500s", dir, l.names[0]);
	name_list_free(&l);
	flip_bit(path, 3 * 4096 + 7, 1);
	result = check(&seen);
	ck_assert_uint_eq(result.errors, 1);
	ck_assert_uint_eq(seen.damaged, 1);
}
END_TEST

static bool was_read_ahead(UNUSED void *arg)
{
	return pool_fixture_counter("ahead_fetches") > 0;
}

START_TEST(a_reader_that_goes_on_finds_what_comes_next)
{
	uint64_t id = make_absent_disk();
	struct object *o = get_object(id);
	uint8_t *mem = pattern_mem(DISK_BYTES, 1), *got = aligned_mem(64 * KIB);

	for (unsigned int i = 0; i < 4; i++)
		ck_assert_int_eq(read_in_flight(o, i * 64 * KIB, got, 64 * KIB), 64 * KIB);
	wait_until(was_read_ahead, NULL, 20, "reading ahead");
	ck_assert_int_eq(memcmp(got, mem + 3 * 64 * KIB, 64 * KIB), 0);
	object_close(o);
	free(mem);
	free(got);
}
END_TEST

/* Not one request for each batch. */
START_TEST(what_is_read_ahead_comes_in_large_pieces)
{
	uint64_t id = make_absent(make_disk_of_batches);
	struct object *o = get_object(id);
	uint8_t *got = aligned_mem(64 * KIB);

	for (unsigned int i = 0; i < DISK_BYTES / (64 * KIB); i++)
		ck_assert_int_eq(read_in_flight(o, i * 64 * KIB, got, 64 * KIB), 64 * KIB);
	ck_assert_uint_gt(pool_fixture_counter("ahead_fetches"), 0);
	ck_assert_uint_le(pool_fixture_counter("ahead_fetches"), 4 * DISK_BYTES / MIB);
	object_close(o);
	free(got);
}
END_TEST

START_TEST(a_cut_in_a_cluster_that_is_absent_keeps_its_first_part)
{
	uint64_t id = make_absent_disk();
	struct object *o = get_object(id);
	void *mem = pattern_mem(DISK_BYTES, 1);
	struct err e = { 0 };

	ck_assert(!object_is_near(o, 2 * MIB + 100, 1));
	ck_assert_int_eq(object_truncate(o, 2 * MIB + 100, &e), 0);
	ck_assert_int_eq(object_zero(o, 100, 5000, false, &e), 0);
	memset((uint8_t *)mem + 100, 0, 5000);
	expect_bytes(o, 0, mem, 2 * MIB + 100);
	object_close(o);
	free(mem);
}
END_TEST

/* --- what is dead on the backend ---------------------------------------------------------------- */

#define SMALL_PIECE_BYTES (128 * KIB)

static uint64_t objects_bytes(void)
{
	char path[PATH_BYTES];

	return tree_bytes(pool_path(path, "objects"));
}

/* Rounds of checkpoint and root, which call the cleaner, until the backend holds no more than this. */
static bool backend_is_down_to(void *arg)
{
	sync_backend();
	checkpoint();
	job_kick(&pf.pool->cleaner);
	return objects_bytes() <= *(uint64_t *)arg;
}

START_TEST(garbage_that_only_the_backend_has_is_reclaimed)
{
	/* 1.6 of what lives, four SCOs of slack, two more of maps, names and roots. */
	uint64_t bound = LARGE_BYTES / 10 * 16 + 6 * MIB, id;
	uint8_t *pieces[LARGE_BYTES / PIECE_BYTES];
	struct object *o;
	uint32_t random = 1;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_large();
	o = get_object(id);
	for (uint64_t i = 0; i < ARRAY_SIZE(pieces); i++)
		pieces[i] = pattern_mem(PIECE_BYTES, i * PIECE_BYTES);
	/* Half of all pieces anew, others each time: no SCO dies whole. */
	for (uint64_t i = 0; i < 5 * LARGE_BYTES / SMALL_PIECE_BYTES / 2; i++) {
		uint64_t at;

		random = random * 1664525 + 1013904223;
		at = (uint64_t)(random >> 8) % (LARGE_BYTES / SMALL_PIECE_BYTES) *
		     SMALL_PIECE_BYTES;
		write_bytes(o, at, pieces[at / PIECE_BYTES] + at % PIECE_BYTES, SMALL_PIECE_BYTES);
	}
	for (uint64_t i = 0; i < ARRAY_SIZE(pieces); i++)
		free(pieces[i]);
	object_close(o);
	wait_until(backend_is_down_to, &bound, 50, "cleaning of the backend");
	expect_large(id);
	pool_fixture_restart();
	expect_large(id);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_cache");
	TCase *t = tcase_create("absent");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, files_that_the_backend_has_may_be_gone);
	tcase_add_test(t, a_damaged_file_that_the_backend_has_too_is_replaced);
	tcase_add_test(t, a_dead_absent_sco_is_buried_with_its_object);
	tcase_add_test(t, wrong_bytes_in_the_cache_are_fetched_again);
	tcase_add_test(t, reads_wait_for_the_backend_and_go_on_by_themselves);
	tcase_add_test(t, a_merge_that_waits_for_the_backend_holds_up_nobody);
	tcase_add_test(t, check_reads_what_is_absent_where_it_is);
	tcase_add_test(t, a_reader_that_goes_on_finds_what_comes_next);
	tcase_add_test(t, what_is_read_ahead_comes_in_large_pieces);
	tcase_add_test(t, a_cut_in_a_cluster_that_is_absent_keeps_its_first_part);
	suite_add_tcase(s, t);
	t = tcase_create("eviction");
	pool_fixture_add(t, begin_small);
	tcase_add_test(t, a_pool_holds_more_than_its_flash);
	tcase_add_test(t, nothing_goes_before_a_checkpoint_and_a_root_have_it);
	tcase_add_test(t, a_fenced_pool_evicts_nothing);
	tcase_add_test(t, files_that_are_the_backends_objects_stay);
	tcase_add_test(t, an_evicted_file_gives_its_space_back);
	tcase_add_test(t, garbage_that_only_the_backend_has_is_reclaimed);
	tcase_add_loop_test(t, what_was_evicted_is_there_after_a_crash, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
