/*
 * The router over a store that fails by script. Waiting runs in virtual time where one thread is
 * enough: a scheduler is installed whose clock jumps to each deadline.
 */
#include "backend/router.h"
#include "common/crc32c.h"
#include "tests/backend/support_scripted.h"

#include <check.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static uint64_t dice; /* what env_random() gives, in its first 8 bytes */

static struct fx {
	struct env env;
	struct env_ops env_ops;
	struct backend *b;
	struct err e;
} fx;

static void fixed_random(struct env *env, void *buf, size_t len_bytes)
{
	(void)env;
	memset(buf, 0, len_bytes);
	memcpy(buf, &dice, len_bytes < sizeof(dice) ? len_bytes : sizeof(dice));
}

/* ---- fixture ------------------------------------------------------------------------------- */

static const struct backend_options quick = { .attempts_max = 5,
					      .timeout_ns = 1000 * MS,
					      .backoff_first_ns = 2 * MS,
					      .backoff_max_ns = 8 * MS };

static void prepare_store(const char *url)
{
	static const struct backend_options defaults;

	fx.env_ops = *env_posix()->ops;
	fx.env_ops.random = fixed_random;
	fx.env.ops = &fx.env_ops;
	ck_assert_int_eq(store_open(&fx.env, url, &defaults, &scripted.below, &fx.e), 0);
	scripted.store = (struct store){ .ops = &scripted_ops, .caps = scripted.below->caps };
}

static void open_router(const struct backend_options *options)
{
	ck_assert_int_eq(backend_open_over(&fx.env, &scripted.store, "mem:", options, &fx.b, &fx.e),
			 0);
}

static void setup(void)
{
	prepare_store("mem:");
	open_router(&quick);
}

static void setup_virtual(void)
{
	virtual_now_ns = 1000 * MS;
	sched_hook = &virtual_sched;
	setup();
}

static void teardown(void)
{
	backend_close(fx.b);
	sched_hook = NULL;
}

static void script(const struct step *steps, size_t count)
{
	struct scripted *s = &scripted;

	ck_assert_uint_le(count, STEPS_MAX);
	memcpy(s->steps, steps, count * sizeof(*steps));
	s->step_count = (unsigned int)count;
	s->next = 0;
	s->calls = s->puts = s->gets = s->heads = s->dels = s->lists = s->confirms = 0;
}
#define SCRIPT(...)                                                                                \
	script((const struct step[]){ __VA_ARGS__ },                                               \
	       sizeof((const struct step[]){ __VA_ARGS__ }) / sizeof(struct step))

static int put(const char *name, const void *data, size_t len_bytes, unsigned int flags)
{
	struct backend_source source = { .data = data, .len_bytes = len_bytes };

	return backend_put(fx.b, name, &source, flags, NULL, &fx.e);
}

static uint64_t metric(const struct counter *c)
{
	return counter_get(c);
}

/* ---- retries ------------------------------------------------------------------------------- */

START_TEST(retryable_failures_are_tried_again)
{
	char got[4];

	SCRIPT({ FAIL, -EAGAIN }, { FAIL, -ETIMEDOUT }, { FAIL, -EBUSY }, { FAIL, -EINTR });
	ck_assert_int_eq(put("a", "data", 4, 0), 0);
	ck_assert_uint_eq(scripted.puts, 5);
	SCRIPT({ FAIL, -EAGAIN }, { FAIL, -EAGAIN });
	ck_assert_int_eq(backend_get(fx.b, "a", 0, got, 4, &fx.e), 0);
	ck_assert_uint_eq(scripted.gets, 3);
	SCRIPT({ FAIL, -EAGAIN }, { LOSE, -EAGAIN });
	ck_assert_int_eq(backend_delete(fx.b, "a", &fx.e), 0);
	ck_assert_uint_eq(scripted.dels, 3);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->retries), 4 + 2 + 2);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->failures), 0);
}
END_TEST

START_TEST(a_call_gives_up_after_its_last_try)
{
	struct backend_object object = { .len_bytes = 4711 };

	SCRIPT({ FAIL, -EAGAIN }, { FAIL, -EAGAIN }, { FAIL, -EAGAIN }, { FAIL, -EAGAIN },
	       { FAIL, -EBUSY }, { FAIL, -EAGAIN });
	ck_assert_int_eq(backend_head(fx.b, "a", &object, &fx.e), -EAGAIN);
	ck_assert_uint_eq(scripted.heads, 5);
	ck_assert_uint_eq(object.len_bytes, 4711);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "5 tries"));
	ck_assert_ptr_nonnull(strstr(fx.e.message, "scripted"));
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->failures), 1);
}
END_TEST

START_TEST(failures_for_good_are_not_tried_again)
{
	static const int codes[] = { -ENOSPC, -EIO, -EBADMSG, -EACCES, -ESHUTDOWN, -EISDIR };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		SCRIPT({ FAIL, codes[i] });
		ck_assert_int_eq(put("a", "data", 4, 0), codes[i]);
		ck_assert_uint_eq(scripted.puts, 1);
	}
}
END_TEST

static void fail_all(void)
{
	struct step steps[STEPS_MAX];

	for (size_t i = 0; i < STEPS_MAX; i++)
		steps[i] = (struct step){ FAIL, -EAGAIN };
	script(steps, STEPS_MAX);
}

START_TEST(waits_double_up_to_the_longest_and_jitter_by_half)
{
	static const uint64_t full[] = { 2 * MS, 4 * MS, 8 * MS, 8 * MS };

	/* half + dice % (half + 1): dice 0 gives the shortest wait, dice = half the longest. */
	for (unsigned int longest = 0; longest < 2; longest++) {
		for (size_t i = 0; i < ARRAY_SIZE(full); i++) {
			uint64_t wait_ns;

			/* The dice that is right for this wait; the waits before it are any. */
			dice = longest ? full[i] / 2 : 0;
			fail_all();
			ck_assert_int_eq(put("a", "data", 4, 0), -EAGAIN);
			wait_ns = scripted.call_ns[i + 1] - scripted.call_ns[i];
			ck_assert_uint_eq(wait_ns, longest ? full[i] : full[i] / 2);
		}
	}
}
END_TEST

START_TEST(a_store_that_asks_for_time_gets_it)
{
	dice = 1 * MS; /* the longest first wait, 2 ms */
	atomic_store(&scripted.store.busy_until_ns, virtual_now_ns + 300 * MS);
	SCRIPT({ FAIL, -EAGAIN }, { FAIL, -EAGAIN });
	ck_assert_int_eq(put("a", "data", 4, 0), 0);
	ck_assert_uint_eq(scripted.call_ns[1] - scripted.call_ns[0], 302 * MS);
	ck_assert_uint_le(scripted.call_ns[2] - scripted.call_ns[1], 4 * MS);
	/* More than the call has: its caller is not kept. */
	atomic_store(&scripted.store.busy_until_ns, virtual_now_ns + 1001 * MS);
	SCRIPT({ FAIL, -EAGAIN });
	ck_assert_int_eq(put("a", "data", 4, 0), -ETIMEDOUT);
	ck_assert_uint_eq(scripted.puts, 1);
}
END_TEST

START_TEST(a_call_ends_when_its_time_is_over)
{
	struct backend_options options = quick;
	uint64_t start_ns = virtual_now_ns;

	backend_close(fx.b);
	prepare_store("mem:");
	options.attempts_max = 1000;
	options.timeout_ns = 50 * MS;
	dice = 0; /* waits 1, 2, 4, 4 ... ms: 0 1 3 7 11 ... 47, and 51 would be late */
	open_router(&options);
	fail_all();
	ck_assert_int_eq(put("a", "data", 4, 0), -ETIMEDOUT);
	ck_assert_uint_eq(virtual_now_ns - start_ns, 47 * MS);
	ck_assert_uint_eq(scripted.puts, 14);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "47 ms"));
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->timeouts), 1);
}
END_TEST

/* ---- lost answers -------------------------------------------------------------------------- */

START_TEST(a_claim_whose_answer_was_lost_is_found_to_be_ours)
{
	SCRIPT({ LOSE, -EAGAIN });
	ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), 0);
	ck_assert_uint_eq(scripted.puts, 2);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->lost_answers), 1);

	SCRIPT({ LOSE, -EAGAIN });
	ck_assert_int_eq(put("empty claim", NULL, 0, BACKEND_PUT_IF_ABSENT), 0);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->lost_answers), 2);
}
END_TEST

START_TEST(a_claim_of_somebody_else_is_not_taken_for_ours)
{
	static const char *const theirs[] = { "sein", "longer than mine", "" };

	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
		SCRIPT({ LOSE, 0 });
		ck_assert_int_eq(put("claim", theirs[i], strlen(theirs[i]), 0), 0);
		SCRIPT({ FAIL, -EAGAIN });
		ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), -EEXIST);
	}
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->lost_answers), 0);
}
END_TEST

START_TEST(a_first_try_that_finds_the_name_taken_is_not_compared)
{
	ck_assert_int_eq(put("claim", "mine", 4, 0), 0);
	SCRIPT({ LOSE, -EEXIST });
	ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), -EEXIST);
	ck_assert_uint_eq(scripted.calls, 1);
}
END_TEST

START_TEST(comparing_a_claim_survives_faults_of_its_own)
{
	/* put lost, put finds it taken, head fails; put, head, get with a flip, get. */
	SCRIPT({ LOSE, -EAGAIN }, { LOSE, -EEXIST }, { FAIL, -EAGAIN }, { LOSE, -EEXIST },
	       { LOSE, 0 }, { FLIP, 0 });
	ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), 0);
	ck_assert_uint_eq(scripted.puts, 3);
	ck_assert_uint_eq(scripted.gets, 2);

	/* The name is free again before it could be compared: the next try takes it. */
	SCRIPT({ FAIL, -EAGAIN }, { FAIL, -EEXIST });
	ck_assert_int_eq(put("gone", "mine", 4, BACKEND_PUT_IF_ABSENT), 0);
	ck_assert_uint_eq(scripted.puts, 3);
}
END_TEST

START_TEST(a_claim_is_confirmed_when_the_store_has_settled)
{
	scripted.store.settle_ns = 7 * MS;
	SCRIPT({ LOSE, 0 });
	ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), 0);
	ck_assert_uint_eq(scripted.confirms, 1);
	ck_assert_uint_eq(scripted.call_ns[1] - scripted.call_ns[0], 7 * MS);

	SCRIPT({ LOSE, 0 }, { FAIL, -EEXIST });
	ck_assert_int_eq(put("lost", "mine", 4, BACKEND_PUT_IF_ABSENT), -EEXIST);
	ck_assert_uint_eq(scripted.puts, 1);

	SCRIPT({ LOSE, 0 });
	ck_assert_int_eq(put("plain", "mine", 4, 0), 0);
	ck_assert_uint_eq(scripted.confirms, 0);
	scripted.store.settle_ns = 0;
}
END_TEST

START_TEST(a_claim_is_not_ours_before_it_is_confirmed)
{
	/* put, confirming fails, put finds it taken, head, get, confirm: somebody else's. */
	SCRIPT({ LOSE, 0 }, { FAIL, -EAGAIN }, { LOSE, -EEXIST }, { LOSE, 0 }, { LOSE, 0 },
	       { FAIL, -EEXIST });
	ck_assert_int_eq(put("claim", "mine", 4, BACKEND_PUT_IF_ABSENT), -EEXIST);
	ck_assert_uint_eq(scripted.confirms, 2);

	/* An answer that was lost needs confirming as well. */
	SCRIPT({ LOSE, -EAGAIN }, { LOSE, -EEXIST }, { LOSE, 0 }, { LOSE, 0 }, { FAIL, -EEXIST });
	ck_assert_int_eq(put("another", "mine", 4, BACKEND_PUT_IF_ABSENT), -EEXIST);
	ck_assert_uint_eq(scripted.confirms, 1);
}
END_TEST

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

START_TEST(a_lost_answer_about_a_link_still_says_that_the_file_is_shared)
{
	char template[] = "router-XXXXXX", dir[PATH_MAX], url[PATH_MAX + 16], path[PATH_MAX + 16];
	struct backend_source source = { .file_path = path, .len_bytes = 5 };
	struct backend_put_result result = { .shares_file = false };

	backend_close(fx.b);
	ck_assert_ptr_nonnull(mkdtemp(template));
	ck_assert_ptr_nonnull(realpath(template, dir));
	(void)snprintf(url, sizeof(url), "file://%s/store", dir);
	(void)snprintf(path, sizeof(path), "%s/source", dir);
	prepare_store(url);
	open_router(&quick);
	ck_assert_int_eq(env_open(&fx.env, path, ENV_READ | ENV_WRITE | ENV_CREATE, &source.file),
			 0);
	ck_assert_int_eq(env_pwrite(&fx.env, source.file, "bytes", 5, 0), 0);
	dice = 1;
	SCRIPT({ LOSE, -EAGAIN });
	ck_assert_int_eq(backend_put(fx.b, "s", &source, BACKEND_PUT_IF_ABSENT, &result, &fx.e), 0);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->lost_answers), 1);
	ck_assert(result.shares_file);
	env_close(&fx.env, source.file);
	ck_assert_int_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}
END_TEST

/* ---- verification -------------------------------------------------------------------------- */

START_TEST(a_corrupted_source_never_reaches_the_store)
{
	char data[] = "some bytes";
	struct backend_source source = {
		.data = data, .len_bytes = 10, .crc32c = crc32c(0, data, 10), .has_crc = true
	};
	struct backend_put_result result = { .shares_file = true };

	data[3] ^= 1;
	ck_assert_int_eq(backend_put(fx.b, "a", &source, 0, &result, &fx.e), -EBADMSG);
	ck_assert_uint_eq(scripted.calls, 0);
	ck_assert(result.shares_file); /* untouched */
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->checksum_failures), 1);
}
END_TEST

START_TEST(wrong_bytes_are_fetched_once_more)
{
	char got[8];

	ck_assert_int_eq(put("a", "12345678", 8, 0), 0);
	SCRIPT({ FLIP, 0 }, { FAIL, -EAGAIN });
	ck_assert_int_eq(backend_get_verified(fx.b, "a", 0, got, 8, crc32c(0, "12345678", 8),
					      &fx.e),
			 0);
	ck_assert(memcmp(got, "12345678", 8) == 0);
	ck_assert_uint_eq(scripted.gets, 3);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->checksum_failures), 1);
}
END_TEST

START_TEST(bytes_that_stay_wrong_are_reported)
{
	char got[8];

	ck_assert_int_eq(put("a", "12345678", 8, 0), 0);
	SCRIPT({ FLIP, 0 }, { FLIP, 0 });
	ck_assert_int_eq(backend_get_verified(fx.b, "a", 0, got, 8, crc32c(0, "12345678", 8),
					      &fx.e),
			 -EBADMSG);
	ck_assert_uint_eq(scripted.gets, 2);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->checksum_failures), 2);
}
END_TEST

START_TEST(a_body_that_was_cut_is_fetched_again)
{
	char got[8];

	ck_assert_int_eq(put("a", "12345678", 8, 0), 0);
	SCRIPT({ FAIL, -EUCLEAN });
	ck_assert_int_eq(backend_get(fx.b, "a", 0, got, 8, &fx.e), 0);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->cut_reads), 1);
}
END_TEST

START_TEST(an_object_that_is_too_short_is_not_fetched_again)
{
	char got[9];

	ck_assert_int_eq(put("a", "12345678", 8, 0), 0);
	SCRIPT({ LOSE, -EUCLEAN });
	ck_assert_int_eq(backend_get(fx.b, "a", 0, got, 9, &fx.e), -EUCLEAN);
	ck_assert_uint_eq(scripted.gets, 1);
}
END_TEST

/* ---- lists --------------------------------------------------------------------------------- */

static int append_name(void *arg, const char *name, const struct backend_object *object)
{
	char *names = arg;

	(void)object;
	strncat(names, name, 100 - strlen(names) - 1);
	return 0;
}

START_TEST(a_list_that_fails_halfway_gives_each_name_once)
{
	char names[100] = "";

	ck_assert_int_eq(put("a", "", 0, 0), 0);
	ck_assert_int_eq(put("b", "", 0, 0), 0);
	ck_assert_int_eq(put("c", "", 0, 0), 0);
	SCRIPT({ HALF_LIST, -EAGAIN }, { LOSE, -EAGAIN });
	ck_assert_int_eq(backend_list(fx.b, "", NULL, 100, append_name, names, &fx.e), 3);
	ck_assert_str_eq(names, "abc");
	ck_assert_uint_eq(scripted.lists, 3);
}
END_TEST

START_TEST(a_list_out_of_order_is_refused_before_anyone_sees_it)
{
	char names[100] = "";

	SCRIPT({ SWAP_LIST, 0 });
	ck_assert_int_eq(backend_list(fx.b, "", NULL, 100, append_name, names, &fx.e), -EUCLEAN);
	ck_assert_str_eq(names, "");
}
END_TEST

static int expect_next(void *arg, const char *name, const struct backend_object *object)
{
	unsigned int *next = arg;
	char expected[32];

	(void)object;
	(void)snprintf(expected, sizeof(expected), "n%08u", (*next)++);
	ck_assert_str_eq(name, expected);
	return 0;
}

START_TEST(long_lists_are_joined_from_pages)
{
	unsigned int next = 0;

	for (unsigned int i = 0; i < 10000; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "n%08u", i);
		ck_assert_int_eq(put(name, "", 0, 0), 0);
	}
	scripted.lists = 0;
	ck_assert_int_eq(backend_list(fx.b, "n", NULL, UINT_MAX, expect_next, &next, &fx.e), 10000);
	ck_assert_uint_eq(next, 10000);
	ck_assert_uint_ge(scripted.lists, 3);
	next = 0;
	ck_assert_int_eq(backend_list(fx.b, "n", NULL, 4097, expect_next, &next, &fx.e), 4097);
}
END_TEST

/* ---- refused calls ------------------------------------------------------------------------- */

static atomic_int refused_code;

static void wanting_client(void *arg)
{
	char byte;

	atomic_store(&refused_code, backend_get(fx.b, "x", *(unsigned int *)arg, &byte, 1, NULL));
}

START_TEST(who_waits_for_the_next_try_ends_when_calls_are_refused)
{
	static const struct backend_options patient = { .attempts_max = 5,
							.timeout_ns = 7200000 * MS,
							.backoff_first_ns = 3600000 * MS,
							.backoff_max_ns = 3600000 * MS };
	struct thread *waiter;
	unsigned int id = 0;

	prepare_store("mem:");
	open_router(&patient);
	SCRIPT({ FAIL, -EAGAIN });
	ck_assert_int_eq(thread_start("waiter", wanting_client, &id, &waiter), 0);
	while (metric(&router_metrics(fx.b)->retries) == 0)
		(void)sched_yield();
	backend_refuse_calls(fx.b, true);
	thread_join(waiter);
	ck_assert_int_eq(atomic_load(&refused_code), -ESHUTDOWN);
	ck_assert_uint_eq(scripted.gets, 1);
	backend_close(fx.b);
}
END_TEST

/* ---- open, names, metrics ------------------------------------------------------------------ */

START_TEST(bad_urls_and_options_are_refused)
{
	static const struct {
		const char *url;
		int code;
	} urls[] = { { "", -EINVAL },
		     { "mem", -EINVAL },
		     { ":x", -EINVAL },
		     { "file:relative", -EINVAL },
		     { "file://host/dir", -EINVAL },
		     { "file:///", -EINVAL },
		     { "files:///x", -EPROTONOSUPPORT },
		     { "ftp://user:geheim@host/x", -EPROTONOSUPPORT } };
	const struct backend_options bad[] = {
		{ .copy_mode = (enum backend_copy_mode)99 },
		{ .concurrency_max = ROUTER_CONCURRENCY_MAX + 1 },
		{ .backoff_first_ns = 2, .backoff_max_ns = 1 },
		{ .backoff_max_ns = UINT64_MAX },
	};
	struct backend *b = NULL;

	backend_close(fx.b);
	prepare_store("mem:");
	scripted.closes = 0;
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_int_eq(backend_open(env_posix(), urls[i].url, NULL, &b, &fx.e),
				 urls[i].code);
		ck_assert_ptr_null(strstr(fx.e.message, "geheim"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(backend_open(env_posix(), "mem:", &bad[i], &b, &fx.e), -EINVAL);
		ck_assert_int_eq(backend_open_over(&fx.env, &scripted.store, "mem:", &bad[i], &b,
						   &fx.e),
				 -EINVAL);
		ck_assert_uint_eq(scripted.closes, i + 1); /* taken over all the same */
		prepare_store("mem:");
	}
	ck_assert_ptr_null(b);
	open_router(NULL);
}
END_TEST

START_TEST(the_url_is_shown_without_its_secrets)
{
	static const struct {
		const char *given, *shown;
	} urls[] = { { "mem:", "mem:" },
		     { "file:///a@b/c", "file:///a@b/c" },
		     { "s3://key:se@cret@host/b@c", "s3://host/b@c" },
		     { "s3://bucket?x=a@b", "s3://bucket?x=a@b" } };

	backend_close(fx.b);
	prepare_store("mem:");
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_int_eq(backend_open_over(&fx.env, &scripted.store, urls[i].given, NULL,
						   &fx.b, &fx.e),
				 0);
		ck_assert_str_eq(backend_url(fx.b), urls[i].shown);
		backend_close(fx.b);
		prepare_store("mem:");
	}
	open_router(NULL);
}
END_TEST

START_TEST(a_conditional_put_needs_a_store_that_can)
{
	scripted.store.caps = 0;
	ck_assert_int_eq(put("a", "x", 1, BACKEND_PUT_IF_ABSENT), -EOPNOTSUPP);
	ck_assert_uint_eq(scripted.calls, 0);
}
END_TEST

static int see_metric(void *arg, const struct metric_value *value)
{
	unsigned int *seen = arg;

	ck_assert_str_eq(value->group, "backend");
	if (strcmp(value->def->name, "put_ns") == 0 || strcmp(value->def->name, "get_ns") == 0)
		*seen += (unsigned int)value->histogram.count;
	if (strcmp(value->def->name, "put_bytes") == 0)
		*seen += (unsigned int)value->counter;
	return 0;
}

START_TEST(calls_are_counted_and_timed)
{
	struct metrics_registry registry;
	unsigned int seen = 0;
	char got[4];

	metrics_registry_init(&registry);
	metrics_add(&registry, backend_metrics(fx.b));
	ck_assert_int_eq(put("a", "data", 4, 0), 0);
	ck_assert_int_eq(put("b", "data", 4, 0), 0);
	ck_assert_int_eq(backend_get(fx.b, "a", 0, got, 4, &fx.e), 0);
	ck_assert_int_eq(backend_get(fx.b, "nope", 0, got, 4, &fx.e), -ENOENT);
	ck_assert_int_eq(metrics_for_each(&registry, see_metric, &seen), 0);
	ck_assert_uint_eq(seen, 2 + 2 + 8);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->failures), 0);
	ck_assert_uint_eq(metric(&router_metrics(fx.b)->get_bytes), 4);
	metrics_remove(&registry, backend_metrics(fx.b));
	metrics_registry_done(&registry);
}
END_TEST

static void add_virtual_tests(Suite *suite)
{
	TCase *tc = tcase_create("one thread, virtual time");

	tcase_add_checked_fixture(tc, setup_virtual, teardown);
	tcase_add_test(tc, retryable_failures_are_tried_again);
	tcase_add_test(tc, a_call_gives_up_after_its_last_try);
	tcase_add_test(tc, failures_for_good_are_not_tried_again);
	tcase_add_test(tc, waits_double_up_to_the_longest_and_jitter_by_half);
	tcase_add_test(tc, a_store_that_asks_for_time_gets_it);
	tcase_add_test(tc, a_call_ends_when_its_time_is_over);
	tcase_add_test(tc, a_claim_whose_answer_was_lost_is_found_to_be_ours);
	tcase_add_test(tc, a_claim_of_somebody_else_is_not_taken_for_ours);
	tcase_add_test(tc, a_first_try_that_finds_the_name_taken_is_not_compared);
	tcase_add_test(tc, comparing_a_claim_survives_faults_of_its_own);
	tcase_add_test(tc, a_claim_is_confirmed_when_the_store_has_settled);
	tcase_add_test(tc, a_claim_is_not_ours_before_it_is_confirmed);
	tcase_add_test(tc, a_lost_answer_about_a_link_still_says_that_the_file_is_shared);
	tcase_add_test(tc, a_corrupted_source_never_reaches_the_store);
	tcase_add_test(tc, wrong_bytes_are_fetched_once_more);
	tcase_add_test(tc, bytes_that_stay_wrong_are_reported);
	tcase_add_test(tc, a_body_that_was_cut_is_fetched_again);
	tcase_add_test(tc, an_object_that_is_too_short_is_not_fetched_again);
	tcase_add_test(tc, a_list_that_fails_halfway_gives_each_name_once);
	tcase_add_test(tc, a_list_out_of_order_is_refused_before_anyone_sees_it);
	tcase_add_test(tc, long_lists_are_joined_from_pages);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("backend/router");
	TCase *tc = tcase_create("threads");
	SRunner *runner;
	int failed;

	add_virtual_tests(suite);
	tcase_add_test(tc, who_waits_for_the_next_try_ends_when_calls_are_refused);
	suite_add_tcase(suite, tc);
	tc = tcase_create("open");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bad_urls_and_options_are_refused);
	tcase_add_test(tc, the_url_is_shown_without_its_secrets);
	tcase_add_test(tc, a_conditional_put_needs_a_store_that_can);
	tcase_add_test(tc, calls_are_counted_and_timed);
	suite_add_tcase(suite, tc);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
