/*
 * What backend.h promises, run unchanged over every store and every filter. A new store adds a row
 * to `variants` and a VARIANT below. Those with a url_variable are run by the argument "network",
 * under tests/peers/run_with_swift, all others without it.
 */
#include "common/crc32c.h"
#include "common/thread.h"
#include "tests/contract/support_backend.h"

#include <check.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct fault_plan no_faults;
/* What may go wrong without anyone noticing through the router. */
static const struct fault_plan moderate_faults = {
	.error_before = 8192, .error_after = 8192, .cut_read = 8192, .delay_ns_max = 20000
};

static const struct variant variants[] = {
	{ .title = "mem" },
	{ .title = "file link", .is_file = true, .copy_mode = BACKEND_COPY_LINK, .links = true },
	{ .title = "file reflink", .is_file = true, .copy_mode = BACKEND_COPY_REFLINK },
	{ .title = "file bytes", .is_file = true, .copy_mode = BACKEND_COPY_BYTES },
	{ .title = "fault filter without faults", .faults = &no_faults },
	{ .title = "mem with faults", .faults = &moderate_faults },
	{ .title = "file link with faults",
	  .is_file = true,
	  .copy_mode = BACKEND_COPY_LINK,
	  .links = true,
	  .faults = &moderate_faults },
	/* Stores of the network. */
	{ .title = "s3",
	  .url_variable = "VPOOL_TEST_S3_URL",
	  .url_more = "&part_size=5MiB", /* the smallest: the large object has three */
	  .no_put_if_absent = true },
	{ .title = "swift", .url_variable = "VPOOL_TEST_SWIFT_URL" },
};

/* ---- whole objects ------------------------------------------------------------------------- */

START_TEST(objects_of_all_sizes_come_back_as_they_were_put)
{
	static const size_t sizes[] = { 0, 1, 511, 4095, 4096, 4097, 65537, MIB, 4 * MIB + 13 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *data = contract_pattern(sizes[i], (uint32_t)i);
		char name[32];

		(void)snprintf(name, sizeof(name), "size/%zu", sizes[i]);
		contract_must_put(name, data, sizes[i]);
		contract_must_hold(fx.b, name, data, sizes[i]);
		free(data);
	}
}
END_TEST

START_TEST(a_large_object_comes_back_from_memory_and_from_a_file)
{
	size_t len_bytes = 11 * MIB + 4097;
	uint8_t *data = contract_pattern(len_bytes, 11);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, len_bytes, path);
	struct backend_source source = { .file = file,
					 .file_offset_bytes = 1,
					 .len_bytes = len_bytes - 1,
					 .crc32c = crc32c(0, data + 1, len_bytes - 1),
					 .has_crc = true };

	contract_must_put("large", data, len_bytes);
	contract_must_hold(fx.b, "large", data, len_bytes);
	ck_assert_int_eq(backend_put(fx.b, "large", &source, 0, NULL, &fx.e), 0);
	contract_must_hold(fx.b, "large", data + 1, len_bytes - 1);
	source.crc32c++;
	ck_assert_int_eq(backend_put(fx.b, "large", &source, 0, NULL, &fx.e), -EBADMSG);
	contract_must_hold(fx.b, "large", data + 1, len_bytes - 1);
	ck_assert_int_eq(backend_delete(fx.b, "large", &fx.e), 0);
	contract_must_be_absent("large");
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(an_empty_object_needs_no_source_memory)
{
	contract_must_put("empty", NULL, 0);
	contract_must_hold(fx.b, "empty", NULL, 0);
}
END_TEST

START_TEST(any_range_inside_an_object_comes_back)
{
	static const struct {
		uint64_t offset;
		size_t len;
	} ranges[] = { { 0, 1 },      { 1, 1 },	    { 4095, 2 },  { 4096, 4096 }, { 9999, 1 },
		       { 123, 9000 }, { 0, 10000 }, { 10000, 0 }, { 0, 0 } };
	uint8_t *data = contract_pattern(10000, 1), got[10000];

	contract_must_put("range", data, 10000);
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		ck_assert_int_eq(backend_get(fx.b, "range", ranges[i].offset, got, ranges[i].len,
					     &fx.e),
				 0);
		ck_assert(memcmp(got, data + ranges[i].offset, ranges[i].len) == 0);
	}
	free(data);
}
END_TEST

START_TEST(a_read_beyond_the_end_is_refused_whole)
{
	static const struct {
		uint64_t offset;
		size_t len;
	} ranges[] = { { 0, 101 },  { 99, 2 },	       { 100, 1 },	 { 101, 0 },
		       { 5000, 1 }, { UINT64_MAX, 1 }, { INT64_MAX, 1 }, { UINT64_MAX - 50, 100 } };
	uint8_t *data = contract_pattern(100, 2), got[101];

	contract_must_put("short", data, 100);
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		ck_assert_int_eq(backend_get(fx.b, "short", ranges[i].offset, got, ranges[i].len,
					     &fx.e),
				 -EUCLEAN);
	free(data);
}
END_TEST

START_TEST(what_was_never_put_is_absent)
{
	contract_must_be_absent("nothing");
	contract_must_be_absent("deep/down/nothing");
	contract_must_put("deep/down/something", "x", 1);
	contract_must_be_absent("deep/down");
	contract_must_be_absent("deep/down/nothing");
	contract_must_be_absent("deep/down/something/more");
}
END_TEST

START_TEST(a_second_put_replaces_the_whole_object)
{
	uint8_t *longer = contract_pattern(70000, 3), *shorter = contract_pattern(10, 4);

	contract_must_put("a/replaced", longer, 70000);
	contract_must_put("a/replaced", shorter, 10);
	contract_must_hold(fx.b, "a/replaced", shorter, 10);
	contract_must_put("a/replaced", longer, 70000);
	contract_must_hold(fx.b, "a/replaced", longer, 70000);
	free(longer);
	free(shorter);
}
END_TEST

START_TEST(objects_outlive_close_and_are_seen_by_other_clients)
{
	struct backend *other = contract_client_open();

	contract_must_put("kept/one", "first", 5);
	contract_must_hold(other, "kept/one", "first", 5);
	backend_close(fx.b);
	fx.b = contract_client_open();
	contract_must_hold(fx.b, "kept/one", "first", 5);
	contract_must_put("kept/one", "second", 6);
	contract_must_hold(other, "kept/one", "second", 6);
	backend_close(other);
}
END_TEST

/* ---- conditional put ----------------------------------------------------------------------- */

START_TEST(put_if_absent_refuses_a_name_that_is_taken)
{
	ck_assert(backend_caps(fx.b) & BACKEND_CAP_PUT_IF_ABSENT);
	ck_assert_int_eq(contract_put_if_absent("claim/1", "mine", 4), 0);
	ck_assert_int_eq(contract_put_if_absent("claim/1", "theirs", 6), -EEXIST);
	contract_must_hold(fx.b, "claim/1", "mine", 4);
	/* Identical bytes in another call are another claim. */
	if (fx.variant->faults != &moderate_faults)
		ck_assert_int_eq(contract_put_if_absent("claim/1", "mine", 4), -EEXIST);
	ck_assert_int_eq(backend_delete(fx.b, "claim/1", &fx.e), 0);
	ck_assert_int_eq(contract_put_if_absent("claim/1", "theirs", 6), 0);
	contract_must_hold(fx.b, "claim/1", "theirs", 6);
}
END_TEST

static struct {
	atomic_uint wins, losses, others;
	atomic_uint ready;
} claims;

static void claim(void *arg)
{
	unsigned int me = *(unsigned int *)arg;

	for (unsigned int round = 0; round < 20; round++) {
		char name[32], data[32];
		int r;

		(void)snprintf(name, sizeof(name), "claims/%u/x", round);
		(void)snprintf(data, sizeof(data), "claim of %u", me);

		struct backend_source source = { .data = data, .len_bytes = strlen(data) };

		r = backend_put(fx.b, name, &source, BACKEND_PUT_IF_ABSENT, NULL, NULL);
		atomic_fetch_add(r == 0	      ? &claims.wins :
				 r == -EEXIST ? &claims.losses :
						&claims.others,
				 1);
	}
}

static void run_threads(void (*fn)(void *arg))
{
	struct thread *threads[THREAD_COUNT];
	unsigned int ids[THREAD_COUNT];

	for (unsigned int i = 0; i < THREAD_COUNT; i++) {
		ids[i] = i;
		ck_assert_int_eq(thread_start("client", fn, &ids[i], &threads[i]), 0);
	}
	for (unsigned int i = 0; i < THREAD_COUNT; i++)
		thread_join(threads[i]);
}

START_TEST(one_of_many_claims_wins)
{
	run_threads(claim);
	ck_assert_uint_eq(atomic_load(&claims.others), 0);
	ck_assert_uint_eq(atomic_load(&claims.wins), 20);
	ck_assert_uint_eq(atomic_load(&claims.losses), UINT64_C(20) * (THREAD_COUNT - 1));
}
END_TEST

START_TEST(a_store_without_conditional_put_says_so_and_changes_nothing)
{
	ck_assert(!(backend_caps(fx.b) & BACKEND_CAP_PUT_IF_ABSENT));
	ck_assert_int_eq(contract_put_if_absent("claim/1", "mine", 4), -EOPNOTSUPP);
	contract_must_be_absent("claim/1");
	contract_must_put("claim/1", "there", 5);
	ck_assert_int_eq(contract_put_if_absent("claim/1", "mine", 4), -EOPNOTSUPP);
	contract_must_hold(fx.b, "claim/1", "there", 5);
}
END_TEST

/* ---- delete -------------------------------------------------------------------------------- */

START_TEST(a_deleted_object_is_gone_and_its_neighbours_stay)
{
	static const char *const left[] = { "d/e/g", "d/h" };

	contract_must_put("d/e/f", "f", 1);
	contract_must_put("d/e/g", "g", 1);
	contract_must_put("d/h", "h", 1);
	ck_assert_int_eq(backend_delete(fx.b, "d/e/f", &fx.e), 0);
	contract_must_be_absent("d/e/f");
	contract_must_list("", NULL, left, 2);
	contract_must_hold(fx.b, "d/e/g", "g", 1);
}
END_TEST

START_TEST(delete_of_what_is_not_there_is_success)
{
	ck_assert_int_eq(backend_delete(fx.b, "never", &fx.e), 0);
	ck_assert_int_eq(backend_delete(fx.b, "never/was/here", &fx.e), 0);
	contract_must_put("once", "x", 1);
	ck_assert_int_eq(backend_delete(fx.b, "once", &fx.e), 0);
	ck_assert_int_eq(backend_delete(fx.b, "once", &fx.e), 0);
}
END_TEST

START_TEST(many_names_are_deleted_by_one_call_and_their_neighbours_stay)
{
	static const char *const put[] = { "many/a",	"many/a b&<c>\"'", "many/a%2Fb", "many/b/c",
					   "many/b/c+", "many/d?x=y#z",	   "stays",	 "zz" };
	static const char *const condemned[] = { "many/d?x=y#z", "never/there", "many/a b&<c>\"'",
						 "many/b/c",	 "many/a",	"also/not" };
	static const char *const left[] = { "many/a%2Fb", "many/b/c+", "stays", "zz" };
	static const char *const with_bad[] = { "stays", "../zz" };
	bool gone[ARRAY_SIZE(condemned)] = { false };

	for (size_t i = 0; i < ARRAY_SIZE(put); i++)
		contract_must_put(put[i], "x", i % 2);
	ck_assert_msg(backend_delete_many(fx.b, condemned, ARRAY_SIZE(condemned), gone, &fx.e) == 0,
		      "%s", fx.e.message);
	for (size_t i = 0; i < ARRAY_SIZE(condemned); i++) {
		ck_assert(gone[i]);
		contract_must_be_absent(condemned[i]);
	}
	contract_must_list("", NULL, left, ARRAY_SIZE(left));
	/* None is left that it could find. */
	ck_assert_int_eq(backend_delete_many(fx.b, condemned, ARRAY_SIZE(condemned), NULL, &fx.e),
			 0);
	ck_assert_int_eq(backend_delete_many(fx.b, with_bad, 2, gone, &fx.e), -EINVAL);
	ck_assert(!gone[0] && !gone[1]);
	contract_must_list("", NULL, left, ARRAY_SIZE(left));
	if (fx.variant->url_variable)
		ck_assert_uint_ne(backend_caps(fx.b) & BACKEND_CAP_DELETE_MANY, 0);
}
END_TEST

START_TEST(a_name_may_become_a_prefix_after_its_delete_and_back)
{
	contract_must_put("turn", "leaf", 4);
	ck_assert_int_eq(backend_delete(fx.b, "turn", &fx.e), 0);
	contract_must_put("turn/deep/leaf", "below", 5);
	contract_must_hold(fx.b, "turn/deep/leaf", "below", 5);
	ck_assert_int_eq(backend_delete(fx.b, "turn/deep/leaf", &fx.e), 0);
	contract_must_put("turn", "leaf", 4);
	contract_must_hold(fx.b, "turn", "leaf", 4);
}
END_TEST

/* ---- sources ------------------------------------------------------------------------------- */

START_TEST(a_whole_file_is_shared_where_the_store_says_so)
{
	size_t len_bytes = 3 * MIB + 4096;
	uint8_t *data = contract_pattern(len_bytes, 5);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, len_bytes, path);
	struct backend_source source = { .file = file,
					 .file_path = path,
					 .len_bytes = len_bytes,
					 .crc32c = crc32c(0, data, len_bytes),
					 .has_crc = true };
	struct backend_put_result result = { .shares_file = !fx.variant->links };
	struct env_stat st;

	ck_assert_int_eq(!!(backend_caps(fx.b) & BACKEND_CAP_LINK), fx.variant->links);
	/* Twice: the second one meets its own object under the name. */
	for (unsigned int i = 0; i < 2; i++) {
		ck_assert_int_eq(backend_put(fx.b, "sco/1", &source, 0, &result, &fx.e), 0);
		ck_assert_int_eq(result.shares_file, fx.variant->links);
		contract_must_hold(fx.b, "sco/1", data, len_bytes);
		ck_assert_int_eq(env_stat(fx.env, file, &st), 0);
		ck_assert_uint_eq(st.link_count, fx.variant->links ? 2 : 1);
		ck_assert_uint_eq(st.size_bytes, len_bytes);
	}

	if (!fx.variant->links) { /* the object has bytes of its own */
		ck_assert_int_eq(env_pwrite(fx.env, file, "scribble", 8, 100), 0);
		contract_must_hold(fx.b, "sco/1", data, len_bytes);
	}
	env_close(fx.env, file);
	ck_assert_int_eq(backend_delete(fx.b, "sco/1", &fx.e), 0);
	ck_assert_int_eq(env_open(fx.env, path, ENV_READ, &file), 0); /* the source stays */
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(a_claim_may_be_a_whole_file)
{
	uint8_t *data = contract_pattern(9000, 6);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, 9000, path);
	struct backend_source source = { .file = file, .file_path = path, .len_bytes = 9000 };
	struct backend_put_result result;

	ck_assert_int_eq(backend_put(fx.b, "c/1", &source, BACKEND_PUT_IF_ABSENT, &result, &fx.e),
			 0);
	ck_assert_int_eq(result.shares_file, fx.variant->links);
	contract_must_hold(fx.b, "c/1", data, 9000);
	contract_must_put("c/2", "taken", 5);
	ck_assert_int_eq(backend_put(fx.b, "c/2", &source, BACKEND_PUT_IF_ABSENT, &result, &fx.e),
			 -EEXIST);
	contract_must_hold(fx.b, "c/2", "taken", 5);
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(a_range_of_a_file_is_copied_and_the_file_untouched)
{
	size_t file_bytes = 2 * MIB + 777;
	uint8_t *data = contract_pattern(file_bytes, 7), *after = malloc(file_bytes);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, file_bytes, path);
	static const struct {
		uint64_t offset;
		size_t len;
	} ranges[] = { { 0, 4096 },	   { 1, 1 },	     { 4096, MIB + 4096 },
		       { 12345, MIB + 1 }, { 2 * MIB, 777 }, { 100, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct backend_source source = { .file = file,
						 .file_path = path,
						 .file_offset_bytes = ranges[i].offset,
						 .len_bytes = ranges[i].len,
						 .crc32c = crc32c(0, data + ranges[i].offset,
								  ranges[i].len),
						 .has_crc = i % 2 == 0 };
		struct backend_put_result result = { .shares_file = true };

		ck_assert_msg(backend_put(fx.b, "part", &source, 0, &result, &fx.e) == 0, "%s",
			      fx.e.message);
		ck_assert(!result.shares_file);
		contract_must_hold(fx.b, "part", data + ranges[i].offset, ranges[i].len);
	}
	ck_assert_int_eq(env_pread(fx.env, file, after, file_bytes, 0), (ssize_t)file_bytes);
	ck_assert(memcmp(data, after, file_bytes) == 0);
	env_close(fx.env, file);
	free(data);
	free(after);
}
END_TEST

START_TEST(a_source_without_its_checksum_is_refused_and_nothing_changes)
{
	uint8_t *data = contract_pattern(50000, 8);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, 50000, path);
	struct backend_source memory = { .data = data, .len_bytes = 50000, .has_crc = true };
	/* Without a path, so never linked; and a part, which is never linked or cloned. */
	struct backend_source whole = { .file = file, .len_bytes = 50000, .has_crc = true };
	struct backend_source part = { .file = file,
				       .file_path = path,
				       .file_offset_bytes = 4096,
				       .len_bytes = 8192,
				       .has_crc = true };
	const struct backend_source *const sources[] = { &memory, &whole, &part };

	contract_must_put("there", "old", 3);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		struct backend_put_result result;

		ck_assert_int_eq(backend_put(fx.b, "new", sources[i], 0, &result, &fx.e), -EBADMSG);
		ck_assert_int_eq(backend_put(fx.b, "there", sources[i], 0, &result, &fx.e),
				 -EBADMSG);
		contract_must_be_absent("new");
		contract_must_hold(fx.b, "there", "old", 3);
	}
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(a_source_file_that_is_too_short_is_refused)
{
	uint8_t *data = contract_pattern(5000, 9);
	char path[PATH_MAX];
	struct env_file *file = contract_source_file("source", data, 5000, path);
	struct backend_source source = { .file = file, .file_path = path, .len_bytes = 5001 };
	struct backend_put_result result;

	ck_assert_int_eq(backend_put(fx.b, "new", &source, 0, &result, &fx.e), -EUCLEAN);
	contract_must_be_absent("new");
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(verified_reads_tell_right_from_wrong)
{
	uint8_t *data = contract_pattern(30000, 10), got[30000];

	contract_must_put("v", data, 30000);
	ck_assert_int_eq(backend_get_verified(fx.b, "v", 0, got, 30000, crc32c(0, data, 30000),
					      &fx.e),
			 0);
	ck_assert_int_eq(backend_get_verified(fx.b, "v", 100, got, 200, crc32c(0, data + 100, 200),
					      &fx.e),
			 0);
	ck_assert(memcmp(got, data + 100, 200) == 0);
	ck_assert_int_eq(backend_get_verified(fx.b, "v", 0, got, 30000, 12345, &fx.e), -EBADMSG);
	ck_assert_int_eq(backend_get_verified(fx.b, "w", 0, got, 1, 0, &fx.e), -ENOENT);
	ck_assert_int_eq(backend_get_verified(fx.b, "v", 1, got, 30000, 0, &fx.e), -EUCLEAN);
	free(data);
}
END_TEST

/* ---- many at once -------------------------------------------------------------------------- */

#define REPLACED_BYTES (192 * 1024 + 5)

static struct {
	atomic_bool done;
	atomic_uint torn, failed, reads;
} replacing;

/* Every byte of one put is the same, so a mixture of two shows. */
static void read_replaced(void *arg)
{
	uint8_t *got = malloc(REPLACED_BYTES);

	(void)arg;
	do {
		if (backend_get(fx.b, "replaced/often", 0, got, REPLACED_BYTES, NULL) < 0)
			atomic_fetch_add(&replacing.failed, 1);
		else if (memcmp(got, got + 1, REPLACED_BYTES - 1) != 0)
			atomic_fetch_add(&replacing.torn, 1);
		atomic_fetch_add(&replacing.reads, 1);
	} while (!atomic_load(&replacing.done));
	free(got);
}

START_TEST(readers_see_all_of_one_put_or_of_another)
{
	uint8_t *data = malloc(REPLACED_BYTES);
	struct thread *readers[3];
	int i = 0;

	memset(data, 0, REPLACED_BYTES);
	contract_must_put("replaced/often", data, REPLACED_BYTES);
	for (size_t t = 0; t < ARRAY_SIZE(readers); t++)
		ck_assert_int_eq(thread_start("reader", read_replaced, NULL, &readers[t]), 0);
	do {
		memset(data, ++i, REPLACED_BYTES);
		contract_must_put("replaced/often", data, REPLACED_BYTES);
	} while (i < 40 || (atomic_load(&replacing.reads) < 60 && i < 2000));
	atomic_store(&replacing.done, true);
	for (size_t t = 0; t < ARRAY_SIZE(readers); t++)
		thread_join(readers[t]);
	ck_assert_uint_eq(atomic_load(&replacing.failed), 0);
	ck_assert_uint_eq(atomic_load(&replacing.torn), 0);
	free(data);
}
END_TEST

static atomic_uint worker_faults;

static int count_one(void *arg, const char *name, const struct backend_object *object)
{
	(void)name;
	(void)object;
	++*(unsigned int *)arg;
	return 0;
}

/* All work below one directory, whose emptied parts vanish under the feet of the others. */
static void work(void *arg)
{
	unsigned int me = *(unsigned int *)arg;

	for (unsigned int round = 0; round < 25; round++) {
		struct backend_source source = { .data = &me, .len_bytes = sizeof(me) };
		unsigned int got = ~me, seen = 0;
		struct backend_object object;
		char name[64], prefix[64];
		bool ok = true;

		(void)snprintf(name, sizeof(name), "w/%u/sub/%u-%u", round % 3, me, round);
		(void)snprintf(prefix, sizeof(prefix), "w/%u/sub/%u-", round % 3, me);
		ok &= backend_put(fx.b, name, &source, 0, NULL, NULL) == 0;
		ok &= backend_get(fx.b, name, 0, &got, sizeof(got), NULL) == 0 && got == me;
		ok &= backend_list(fx.b, prefix, NULL, 10, count_one, &seen, NULL) == 1;
		ok &= backend_delete(fx.b, name, NULL) == 0;
		ok &= backend_head(fx.b, name, &object, NULL) == -ENOENT;
		if (!ok)
			atomic_fetch_add(&worker_faults, 1);
	}
}

START_TEST(eight_threads_do_not_disturb_each_other)
{
	run_threads(work);
	ck_assert_uint_eq(atomic_load(&worker_faults), 0);
	contract_must_list("", NULL, NULL, 0);
}
END_TEST

/* ---- running ------------------------------------------------------------------------------- */

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, objects_of_all_sizes_come_back_as_they_were_put);
	tcase_add_test(tc, a_large_object_comes_back_from_memory_and_from_a_file);
	tcase_add_test(tc, an_empty_object_needs_no_source_memory);
	tcase_add_test(tc, any_range_inside_an_object_comes_back);
	tcase_add_test(tc, a_read_beyond_the_end_is_refused_whole);
	tcase_add_test(tc, what_was_never_put_is_absent);
	tcase_add_test(tc, a_second_put_replaces_the_whole_object);
	tcase_add_test(tc, objects_outlive_close_and_are_seen_by_other_clients);
	contract_add_name_tests(tc);
	tcase_add_test(tc, a_deleted_object_is_gone_and_its_neighbours_stay);
	tcase_add_test(tc, delete_of_what_is_not_there_is_success);
	tcase_add_test(tc, many_names_are_deleted_by_one_call_and_their_neighbours_stay);
	tcase_add_test(tc, a_name_may_become_a_prefix_after_its_delete_and_back);
	tcase_add_test(tc, a_whole_file_is_shared_where_the_store_says_so);
	tcase_add_test(tc, a_range_of_a_file_is_copied_and_the_file_untouched);
	tcase_add_test(tc, a_source_without_its_checksum_is_refused_and_nothing_changes);
	tcase_add_test(tc, a_source_file_that_is_too_short_is_refused);
	tcase_add_test(tc, verified_reads_tell_right_from_wrong);
	tcase_add_test(tc, readers_see_all_of_one_put_or_of_another);
	tcase_add_test(tc, eight_threads_do_not_disturb_each_other);
}

static void add_conditional_tests(TCase *tc, const struct variant *variant)
{
	/* tests/peers/run_with_rgw has an s3: store that can. */
	if (variant->no_put_if_absent && !getenv("VPOOL_TEST_S3_CONDITIONAL")) {
		tcase_add_test(tc, a_store_without_conditional_put_says_so_and_changes_nothing);
		return;
	}
	tcase_add_test(tc, put_if_absent_refuses_a_name_that_is_taken);
	tcase_add_test(tc, one_of_many_claims_wins);
	tcase_add_test(tc, a_claim_may_be_a_whole_file);
}

/* check passes no argument to a fixture, so each variant has its own. */
#define VARIANT(i)                                                                                 \
	static void setup_##i(void)                                                                \
	{                                                                                          \
		contract_setup(&variants[i]);                                                      \
	}
VARIANT(0)
VARIANT(1)
VARIANT(2)
VARIANT(3)
VARIANT(4)
VARIANT(5)
VARIANT(6)
VARIANT(7)
VARIANT(8)

static void (*const setups[])(void) = { setup_0, setup_1, setup_2, setup_3, setup_4,
					setup_5, setup_6, setup_7, setup_8 };
STATIC_ASSERT(ARRAY_SIZE(setups) == ARRAY_SIZE(variants), "each variant has a fixture");

int main(int argc, char **argv)
{
	bool network = argc == 2 && strcmp(argv[1], "network") == 0;
	Suite *suite = suite_create("contract/backend");
	SRunner *runner;
	int failed;

	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		TCase *tc;

		if (!!variants[i].url_variable != network)
			continue;
		tc = tcase_create(variants[i].title);

		tcase_add_checked_fixture(tc, setups[i], contract_teardown);
		tcase_set_timeout(tc, 60);
		add_tests(tc);
		add_conditional_tests(tc, &variants[i]);
		suite_add_tcase(suite, tc);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
