/*
 * meta_mem under kills, power cuts and failing calls, against a model that keeps every state there
 * ever was: what is synced stays, what is not goes from the end, whole batches, each family for
 * itself.
 *
 * The model's rows are numbers: key i holds 64-bit values. A history is the list of states a family
 * went through since the newest durable one.
 */
#include "volume/meta.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define KEYS	     24u
#define HISTORY_MAX  512u
#define STEPS	     300u
#define VALUE_ABSENT UINT64_C(0)

struct version {
	uint64_t values[KEYS];
	uint64_t sequence;
};

struct history {
	struct version versions[HISTORY_MAX]; /* [0] is durable, [count - 1] is live */
	unsigned int count;
	/* Of a META_SYNC commit that failed in its sync: may come back at the next crash. */
	struct version ghost;
	bool has_ghost;
};

static struct {
	uint64_t random;
	struct meta_mem_disk *disk;
	struct meta *m;
	struct history families[2];
	uint64_t sequence, synced_seen;
	const char *fail; /* the call that the hook shall fail */
	unsigned int hook_calls;
	/* What the power cuts of this run did, so that the test knows that it tested something. */
	unsigned int cuts_that_lost, cuts_that_kept_some;
} fx;

static uint64_t random_below(uint64_t n)
{
	fx.random = fx.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (fx.random >> 33) % n;
}

static int fail_as_told(UNUSED void *arg, const char *call)
{
	fx.hook_calls++;
	return fx.fail != NULL && strcmp(fx.fail, call) == 0 ? -EIO : 0;
}

static void open_again(void)
{
	ck_assert_int_eq(meta_mem_open(fx.disk, &fx.m, NULL), 0);
}

static void setup(void)
{
	memset(&fx, 0, sizeof(fx));
	fx.families[META_NAMES].count = fx.families[META_STATE].count = 1;
	fx.disk = meta_mem_disk_new();
	ck_assert_ptr_nonnull(fx.disk);
	meta_mem_set_hook(fx.disk, fail_as_told, NULL);
	open_again();
}

static void teardown(void)
{
	meta_close(fx.m);
	meta_mem_disk_free(fx.disk);
}

/* ---- store and model side by side ---- */

static struct row_key key_of(enum meta_family family, uint64_t id)
{
	struct row_key key = { .len_bytes = 2 };

	key.bytes[0] = (uint8_t)(family == META_NAMES ? ROW_OBJECT : ROW_SCO);
	key.bytes[1] = (uint8_t)id;
	return key;
}

static struct history *history_of(enum meta_family family)
{
	return &fx.families[family];
}

static struct version *live_of(enum meta_family family)
{
	struct history *h = history_of(family);

	return &h->versions[h->count - 1];
}

static void history_settle(struct history *h, unsigned int durable)
{
	memmove(h->versions, h->versions + durable, (h->count - durable) * sizeof(h->versions[0]));
	h->count -= durable;
}

/* A random batch, in the store's words and applied to a copy of the model's live state. */
static struct meta_batch *random_batch(enum meta_family family, struct version *ret_after)
{
	struct meta_batch *batch = meta_batch_new(fx.m, family);
	const uint64_t rows = random_below(6);

	*ret_after = *live_of(family);
	ret_after->sequence = fx.sequence + rows;
	for (uint64_t i = 0; i < rows; i++) {
		const uint64_t id = random_below(KEYS);
		const struct row_key key = key_of(family, id);
		uint64_t number = 1 + random_below(UINT32_MAX);
		struct buf value;

		if (random_below(4) == 0) {
			number = VALUE_ABSENT;
			ck_assert_int_eq(meta_batch_delete(fx.m, batch, &key), 0);
		} else {
			buf_init(&value, sizeof(number));
			ck_assert_int_eq(buf_append(&value, &number, sizeof(number)), 0);
			ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &value), 0);
			buf_done(&value);
		}
		ret_after->values[id] = number;
	}
	return batch;
}

static void do_commit(enum meta_family family, unsigned int flags, const char *fail)
{
	struct history *h = history_of(family);
	struct version after;
	struct meta_batch *batch = random_batch(family, &after);
	int r;

	fx.fail = fail;
	r = meta_commit(fx.m, batch, flags, NULL);
	fx.fail = NULL;
	meta_batch_free(fx.m, batch);

	if (fail != NULL) {
		ck_assert_int_eq(r, -EIO);
		if (strcmp(fail, "sync") == 0) {
			h->ghost = after;
			h->has_ghost = true;
		}
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_lt(h->count, HISTORY_MAX);
	h->versions[h->count++] = after;
	h->has_ghost = false;
	fx.sequence = after.sequence;
	if (flags & META_SYNC)
		history_settle(h, h->count - 1);
}

static void do_sync(bool fails)
{
	struct history *h = history_of(META_NAMES);

	fx.fail = fails ? "sync" : NULL;
	ck_assert_int_eq(meta_sync(fx.m, NULL), fails ? -EIO : 0);
	fx.fail = NULL;
	if (!fails)
		history_settle(h, h->count - 1);
}

static void do_flush(bool fails)
{
	struct history *h = history_of(META_STATE);

	fx.fail = fails ? "flush" : NULL;
	ck_assert_int_eq(meta_flush(fx.m, NULL), fails ? -EIO : 0);
	fx.fail = NULL;
	if (!fails)
		history_settle(h, h->count - 1);
}

/* ---- what the store shows ---- */

static int read_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	uint64_t *values = arg;

	ck_assert_uint_eq(key_bytes, 2);
	ck_assert_uint_lt(key[1], KEYS);
	ck_assert_uint_eq(value_bytes, sizeof(values[0]));
	memcpy(&values[key[1]], value, sizeof(values[0]));
	return 0;
}

static void read_family(enum meta_family family, uint64_t values[KEYS])
{
	const struct row_key from = key_of(family, 0);

	memset(values, 0, KEYS * sizeof(values[0]));
	ck_assert_int_eq(meta_iterate(fx.m, family, &from, NULL, read_row, values, NULL), 0);
}

static bool same(const uint64_t a[KEYS], const struct version *b)
{
	return memcmp(a, b->values, sizeof(b->values)) == 0;
}

static void ck_live(void)
{
	uint64_t values[KEYS];

	read_family(META_NAMES, values);
	ck_assert(same(values, live_of(META_NAMES)));
	read_family(META_STATE, values);
	ck_assert(same(values, live_of(META_STATE)));
	ck_assert_uint_eq(meta_sequence(fx.m), fx.sequence);
	ck_assert_uint_eq(meta_synced_sequence(fx.m), max_u64(fx.families[0].versions[0].sequence,
							      fx.families[1].versions[0].sequence));
	fx.synced_seen = max_u64(fx.synced_seen, meta_synced_sequence(fx.m));
}

/* ---- crashes ---- */

struct picks {
	uint64_t asked[2], given[2];
	unsigned int count;
};

static uint64_t pick_at_random(void *arg, uint64_t n)
{
	struct picks *p = arg;
	const uint64_t given = random_below(3) == 0 ? n : random_below(n + 1);

	ck_assert_uint_lt(p->count, 2);
	p->asked[p->count] = n;
	p->given[p->count++] = given;
	return given;
}

/* The model's history ends after kept more commits than are durable. */
static void history_cut(struct history *h, uint64_t kept)
{
	if (h->has_ghost && kept == h->count)
		h->versions[h->count++] = h->ghost;
	ck_assert_uint_lt(kept, h->count);
	h->count = (unsigned int)kept + 1;
	h->has_ghost = false;
}

static void ck_after_crash(void)
{
	fx.sequence = max_u64(live_of(META_NAMES)->sequence, live_of(META_STATE)->sequence);
	open_again();
	ck_live();
	ck_assert_uint_ge(meta_sequence(fx.m), fx.synced_seen);
}

static void do_power_cut(void)
{
	struct history *names = history_of(META_NAMES), *state = history_of(META_STATE);
	struct picks p = { .count = 0 };

	meta_mem_power_cut(fx.disk, pick_at_random, &p);
	ck_assert_uint_eq(p.count, 2);
	/* It may lose what is not durable, all of it, and nothing else. */
	ck_assert_uint_eq(p.asked[0], names->count - 1 + (names->has_ghost ? 1 : 0));
	ck_assert_uint_eq(p.asked[1], state->count - 1);
	fx.cuts_that_lost += p.given[0] < p.asked[0] || p.given[1] < p.asked[1];
	fx.cuts_that_kept_some += p.given[0] > 0 || p.given[1] > 0;

	history_cut(names, p.given[0]);
	history_cut(state, p.given[1]);
	/* What is left is on the disk. */
	history_settle(names, names->count - 1);
	history_settle(state, state->count - 1);
	ck_after_crash();
}

static void do_kill(void)
{
	struct history *names = history_of(META_NAMES);

	meta_mem_kill(fx.disk);
	history_cut(names, names->count - 1 + (names->has_ghost ? 1 : 0));
	history_cut(history_of(META_STATE), 0);
	ck_after_crash();
}

static void random_step(void)
{
	const uint64_t what = random_below(100);

	if (what < 35)
		do_commit(META_NAMES, 0, NULL);
	else if (what < 70)
		do_commit(META_STATE, 0, NULL);
	else if (what < 75)
		do_commit(META_NAMES, META_SYNC, NULL);
	else if (what < 78)
		do_commit(META_NAMES, META_SYNC, "sync");
	else if (what < 80)
		do_commit((enum meta_family)random_below(2), 0, "commit");
	else if (what < 86)
		do_sync(random_below(4) == 0);
	else if (what < 92)
		do_flush(random_below(4) == 0);
	else if (what < 97)
		do_power_cut();
	else
		do_kill();
}

START_TEST(random_schedules_with_crashes_match_the_model)
{
	fx.random = (uint64_t)_i * 977 + 1;
	for (unsigned int step = 0; step < STEPS; step++) {
		random_step();
		ck_live();
	}
	ck_assert_uint_gt(fx.cuts_that_lost, 0);
	ck_assert_uint_gt(fx.cuts_that_kept_some, 0);
}
END_TEST

/* ---- the corners, one by one ---- */

static uint64_t pick_none(UNUSED void *arg, UNUSED uint64_t n)
{
	return 0;
}

static uint64_t pick_all(UNUSED void *arg, uint64_t n)
{
	return n;
}

static void put(enum meta_family family, uint64_t id, unsigned int flags)
{
	struct meta_batch *batch = meta_batch_new(fx.m, family);
	const struct row_key key = key_of(family, id);
	struct buf value;

	buf_init(&value, sizeof(id));
	ck_assert_int_eq(buf_append(&value, &id, sizeof(id)), 0);
	ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &value), 0);
	buf_done(&value);
	ck_assert_int_eq(meta_commit(fx.m, batch, flags, NULL), 0);
	meta_batch_free(fx.m, batch);
}

static bool is_there(enum meta_family family, uint64_t id)
{
	const struct row_key key = key_of(family, id);
	struct buf value;
	int r;

	buf_init(&value, sizeof(id));
	r = meta_get(fx.m, family, &key, &value, NULL);
	buf_done(&value);
	ck_assert(r == 0 || r == -ENOENT);
	return r == 0;
}

START_TEST(a_power_cut_that_keeps_nothing_keeps_what_was_synced)
{
	put(META_NAMES, 1, META_SYNC);
	put(META_NAMES, 2, 0);
	put(META_STATE, 1, 0);
	ck_assert_int_eq(meta_flush(fx.m, NULL), 0);
	put(META_STATE, 2, 0);

	meta_mem_power_cut(fx.disk, pick_none, NULL);
	open_again();

	ck_assert(is_there(META_NAMES, 1) && !is_there(META_NAMES, 2));
	ck_assert(is_there(META_STATE, 1) && !is_there(META_STATE, 2));
}
END_TEST

START_TEST(a_power_cut_that_keeps_all_leaves_it_durable)
{
	put(META_NAMES, 1, 0);
	put(META_STATE, 1, 0);

	meta_mem_power_cut(fx.disk, pick_all, NULL);
	open_again();
	meta_mem_power_cut(fx.disk, pick_none, NULL);
	open_again();

	ck_assert(is_there(META_NAMES, 1) && is_there(META_STATE, 1));
}
END_TEST

START_TEST(names_that_outlived_a_kill_are_still_unsynced)
{
	put(META_NAMES, 1, 0);
	meta_mem_kill(fx.disk);
	open_again();
	ck_assert(is_there(META_NAMES, 1));

	meta_mem_power_cut(fx.disk, pick_none, NULL);
	open_again();
	ck_assert(!is_there(META_NAMES, 1));
}
END_TEST

START_TEST(syncing_names_does_not_keep_state_nor_the_other_way)
{
	put(META_STATE, 1, 0);
	put(META_NAMES, 1, META_SYNC);
	meta_mem_power_cut(fx.disk, pick_none, NULL);
	open_again();
	ck_assert(is_there(META_NAMES, 1) && !is_there(META_STATE, 1));

	put(META_NAMES, 2, 0);
	put(META_STATE, 2, 0);
	ck_assert_int_eq(meta_flush(fx.m, NULL), 0);
	meta_mem_power_cut(fx.disk, pick_none, NULL);
	open_again();
	ck_assert(!is_there(META_NAMES, 2) && is_there(META_STATE, 2));
}
END_TEST

static void put_fails_in_its_sync(uint64_t id)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_NAMES);
	const struct row_key key = key_of(META_NAMES, id);
	struct buf none;

	buf_init(&none, 8);
	ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &none), 0);
	fx.fail = "sync";
	ck_assert_int_eq(meta_commit(fx.m, batch, META_SYNC, NULL), -EIO);
	fx.fail = NULL;
	meta_batch_free(fx.m, batch);
}

START_TEST(a_commit_that_failed_in_its_sync_may_come_back)
{
	put(META_NAMES, 1, 0);
	put_fails_in_its_sync(2);
	ck_assert(!is_there(META_NAMES, 2));

	meta_mem_kill(fx.disk);
	open_again();

	ck_assert(is_there(META_NAMES, 1) && is_there(META_NAMES, 2));
}
END_TEST

START_TEST(a_commit_that_failed_in_its_sync_is_buried_by_the_next)
{
	put_fails_in_its_sync(2);
	put(META_NAMES, 3, 0);

	meta_mem_power_cut(fx.disk, pick_all, NULL);
	open_again();

	ck_assert(!is_there(META_NAMES, 2) && is_there(META_NAMES, 3));
}
END_TEST

START_TEST(the_hook_sees_each_commit_sync_and_flush)
{
	put(META_STATE, 1, 0);
	ck_assert_uint_eq(fx.hook_calls, 1);
	put(META_NAMES, 1, META_SYNC); /* a commit and a sync */
	ck_assert_uint_eq(fx.hook_calls, 3);
	ck_assert_int_eq(meta_sync(fx.m, NULL), 0);
	ck_assert_int_eq(meta_flush(fx.m, NULL), 0);
	ck_assert_uint_eq(fx.hook_calls, 5);
}
END_TEST

START_TEST(a_batch_that_failed_may_be_committed_again)
{
	struct version after;
	struct meta_batch *batch;
	uint64_t values[KEYS];

	fx.random = 5;
	batch = random_batch(META_STATE, &after);
	fx.fail = "commit";
	ck_assert_int_eq(meta_commit(fx.m, batch, 0, NULL), -EIO);
	ck_assert_uint_eq(meta_sequence(fx.m), 0);
	fx.fail = NULL;
	ck_assert_int_eq(meta_commit(fx.m, batch, 0, NULL), 0);
	meta_batch_free(fx.m, batch);

	read_family(META_STATE, values);
	ck_assert(same(values, &after));
}
END_TEST

static int count_odd(void *arg, const uint8_t *key, size_t key_bytes, UNUSED const uint8_t *value,
		     size_t value_bytes)
{
	uint64_t *count = arg, id = 0;

	ck_assert_uint_eq(value_bytes, 0);
	ck_assert_int_eq(row_key_parse_u64(key, key_bytes, ROW_SCO, &id), 0);
	ck_assert_uint_eq(id, *count * 2 + 1);
	(*count)++;
	return 0;
}

START_TEST(six_thousand_rows_keep_their_order)
{
	const struct row_key from = { .len_bytes = 0 };
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
	struct row_key key;
	uint64_t count = 0;
	struct buf none;

	buf_init(&none, 8);
	for (uint64_t i = 0; i < 6000; i++) {
		key = row_key_u64(ROW_SCO, i);
		ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &none), 0);
		if (i % 1000 != 999)
			continue;
		ck_assert_int_eq(meta_commit(fx.m, batch, 0, NULL), 0);
		meta_batch_free(fx.m, batch);
		batch = meta_batch_new(fx.m, META_STATE);
	}
	for (uint64_t i = 0; i < 6000; i += 2) {
		key = row_key_u64(ROW_SCO, i);
		ck_assert_int_eq(meta_batch_delete(fx.m, batch, &key), 0);
	}
	ck_assert_int_eq(meta_commit(fx.m, batch, 0, NULL), 0);
	meta_batch_free(fx.m, batch);

	ck_assert_int_eq(meta_iterate(fx.m, META_STATE, &from, NULL, count_odd, &count, NULL), 0);
	ck_assert_uint_eq(count, 3000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume/meta_crash");
	TCase *random = tcase_create("random"), *corners = tcase_create("corners");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(random, setup, teardown);
	tcase_add_loop_test(random, random_schedules_with_crashes_match_the_model, 0, 20);
	suite_add_tcase(suite, random);

	tcase_add_checked_fixture(corners, setup, teardown);
	tcase_add_test(corners, a_power_cut_that_keeps_nothing_keeps_what_was_synced);
	tcase_add_test(corners, a_power_cut_that_keeps_all_leaves_it_durable);
	tcase_add_test(corners, names_that_outlived_a_kill_are_still_unsynced);
	tcase_add_test(corners, syncing_names_does_not_keep_state_nor_the_other_way);
	tcase_add_test(corners, a_commit_that_failed_in_its_sync_may_come_back);
	tcase_add_test(corners, a_commit_that_failed_in_its_sync_is_buried_by_the_next);
	tcase_add_test(corners, the_hook_sees_each_commit_sync_and_flush);
	tcase_add_test(corners, a_batch_that_failed_may_be_committed_again);
	tcase_add_test(corners, six_thousand_rows_keep_their_order);
	suite_add_tcase(suite, corners);

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
