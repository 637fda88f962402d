/* Big layers that lost their name: merged in many steps, beside calls. */
#include "support_snapshot.h"

#include "volume/call.h"

#include <check.h>

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void take(struct object *o, const char *name)
{
	struct snapshot_wanted wanted = { .object = o, .name = name };

	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), 0);
}

/* One cluster of each page, so that the merger has far more rows than one step takes. */
#define WIDE_PAGES 300u
#define WIDE_BYTES (WIDE_PAGES * PAGE_CLUSTERS * 4096ull)

static void write_wide(struct object *o, unsigned int each, uint64_t seed)
{
	uint8_t mem[4096];

	for (unsigned int i = 0; i < WIDE_PAGES; i += each) {
		pattern_fill(mem, sizeof(mem), seed + i);
		write_bytes(o, i * PAGE_CLUSTERS * 4096ull, mem, sizeof(mem));
	}
}

/* Pages that were written again by seed2, one in so many, the others by seed. */
static void expect_wide(struct object *o, uint64_t seed, unsigned int each, uint64_t seed2)
{
	uint8_t mem[4096];

	for (unsigned int i = 0; i < WIDE_PAGES; i++) {
		pattern_fill(mem, sizeof(mem), (i % each ? seed : seed2) + i);
		expect_bytes(o, i * PAGE_CLUSTERS * 4096ull, mem, sizeof(mem));
	}
}

/* Calls go before the merger's steps, but not for ever: one that hangs must not keep all space. */
START_TEST(a_layer_of_many_steps_is_merged_while_calls_wait)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	size_t layers = 2;

	ck_assert_int_eq(object_truncate(o, WIDE_BYTES, NULL), 0);
	write_wide(o, 1, 1000);
	take(o, "first");
	write_wide(o, 3, 5000);
	take(o, "second");
	write_wide(o, 1, 9000);
	call_begin(pf.pool);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "first", NULL), 0);
	wait_until(layers_are_left, &layers, 60, "the layer is merged");
	call_endp(&pf.pool);
	expect_wide(o, 9000, 1, 9000);
	ck_assert_int_eq(snapshot_rollback(o, "second", false, NULL), 0);
	expect_wide(o, 1000, 3, 5000);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_wide(o, 1000, 3, 5000);
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("merge");
	TCase *t = tcase_create("merge");
	SRunner *sr;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, a_layer_of_many_steps_is_merged_while_calls_wait);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
