/*
 * The map against arrays: layers with parents, all operations, checkpoints that succeed and fail,
 * caches that hold next to nothing. After each good checkpoint a second map is opened on the rows
 * and must equal the arrays as they were when the checkpoint was staged.
 */
#include "support_map.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define PAGES	   12u
#define CLUSTERS   (PAGES * PAGE_CLUSTERS)
#define LAYERS_MAX 6u
#define STEPS	   2500u

#undef MUST
#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg("%s:%d step %u: %s", __func__, __LINE__, fx.step, #x);        \
	} while (0)

struct model_layer {
	struct layer *layer;
	int parent; /* index, -1: none */
	uint64_t id;
	bool frozen;
	loc_t loc[CLUSTERS]; /* effective; no place: LOC_UNMAPPED */
	/* As of the last stage. */
	bool was_staged;
	uint64_t staged_limit;
	loc_t staged_loc[CLUSTERS];
};

static struct fixture {
	struct meta_mem_disk *disk;
	struct meta *meta;
	struct map *map;
	struct model_layer layers[LAYERS_MAX];
	unsigned int layer_count;
	uint64_t rng;
	uint64_t next_id;
	lsn_t lsn;
	unsigned int step;
	enum { IDLE, BEGUN, STAGED } phase;
	bool changed_before_stage; /* the rows will be a mixture that only a replay makes right */
} fx;

static uint64_t pick(uint64_t n)
{
	fx.rng ^= fx.rng << 13;
	fx.rng ^= fx.rng >> 7;
	fx.rng ^= fx.rng << 17;
	return (fx.rng >> 16) % n;
}

static void open_map(struct map **ret, uint64_t cache_bytes)
{
	struct map_options options = { .cache_bytes = cache_bytes, .shards = 4 };

	MUST(map_open(fx.meta, &options, ret) == 0);
}

static void setup(void)
{
	memset(&fx, 0, sizeof(fx));
	fx.rng = 0x9e3779b97f4a7c15u;
	fx.disk = meta_mem_disk_new();
	MUST(meta_mem_open(fx.disk, &fx.meta, NULL) == 0);
	open_map(&fx.map, 10 << 20);
}

static void teardown(void)
{
	for (unsigned int i = 0; i < fx.layer_count; i++)
		layer_unref(fx.map, fx.layers[i].layer);
	map_close(fx.map);
	meta_close(fx.meta);
	meta_mem_disk_free(fx.disk);
}

/* The checksum of the cluster at a place, whatever origin it is seen from. */
static uint32_t crc_of(loc_t loc)
{
	return (uint32_t)((loc & ((UINT64_C(1) << 52) - 1)) * 2654435761u);
}

static lsn_t publish(void *arg)
{
	unsigned int *calls = arg;

	(*calls)++;
	return ++fx.lsn;
}

static loc_t plain(loc_t loc)
{
	return loc_is_place(loc) ? loc : LOC_UNMAPPED;
}

static int new_layer(int parent)
{
	struct model_layer *n = &fx.layers[fx.layer_count];
	uint64_t limit = parent < 0 ? 0 : pick(2) ? UINT64_MAX : pick(CLUSTERS);
	uint32_t base = parent < 0 ? 0 : (uint32_t)pick(3);

	memset(n, 0, sizeof(*n));
	n->id = 100 + fx.next_id++;
	n->parent = parent;
	MUST(map_layer_new(fx.map, n->id, parent < 0 ? NULL : fx.layers[parent].layer, limit, base,
			   &n->layer) == 0);
	if (parent >= 0) {
		fx.layers[parent].frozen = true;
		for (uint64_t c = 0; c < CLUSTERS; c++) {
			loc_t loc = fx.layers[parent].loc[c];

			if (c < limit && loc_is_place(loc))
				n->loc[c] = loc + ((loc_t)base << 52);
		}
	}
	return (int)fx.layer_count++;
}

static struct model_layer *pick_live(void)
{
	for (;;) {
		struct model_layer *l = &fx.layers[pick(fx.layer_count)];

		if (!l->frozen)
			return l;
	}
}

static void check_lookup(struct map *m, struct layer *l, const loc_t *want, uint64_t first,
			 unsigned int count)
{
	loc_t locs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];

	MUST(map_lookup(m, l, first, count, locs, crcs, known, NULL) == 0);
	for (unsigned int i = 0; i < count; i++) {
		MUST(plain(locs[i]) == want[first + i]);
		MUST(loc_is_place(locs[i]) || locs[i] == LOC_ZERO || locs[i] == LOC_UNMAPPED);
		if (known[i / 8] >> (i % 8) & 1)
			MUST(loc_is_place(locs[i]) && crcs[i] == crc_of(locs[i]));
	}
}

static void check_all(struct map *m, struct layer *l, const loc_t *want)
{
	for (uint64_t c = 0; c < CLUSTERS; c += PAGE_CLUSTERS)
		check_lookup(m, l, want, c, PAGE_CLUSTERS);
}

static void do_lookup(void)
{
	struct model_layer *l = &fx.layers[pick(fx.layer_count)];
	uint64_t first = pick(CLUSTERS);
	unsigned int count = 1 + (unsigned int)pick(PAGE_CLUSTERS - first % PAGE_CLUSTERS);

	check_lookup(fx.map, l->layer, l->loc, first, pick(2) ? 1 : count);
}

static bool expectation_holds(const struct model_layer *l, const struct map_update *u)
{
	for (unsigned int i = 0; i < u->count; i++)
		if (l->loc[u->first + i] !=
		    (loc_is_place(u->expect) ? u->expect + i : LOC_UNMAPPED))
			return false;
	return true;
}

static void do_update(void)
{
	static const unsigned int longest[] = { 1, 1, 1, 7, 30, PAGE_CLUSTERS };
	struct model_layer *l = pick_live();
	uint64_t first = pick(CLUSTERS);
	uint64_t room = PAGE_CLUSTERS - first % PAGE_CLUSTERS;
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int calls = 0;
	lsn_t lsn = 0;
	struct map_update u = { .publish = publish, .arg = &calls, .first = first };
	int r;

	u.count = (unsigned int)min_u64(room, 1 + pick(longest[pick(6)]));
	u.loc = pick(8) == 0 ? pick(2) : loc_make(0, 1 + pick(4), 1 + (uint32_t)first);
	for (unsigned int i = 0; i < u.count; i++)
		crcs[i] = crc_of(u.loc + i);
	u.crcs = pick(4) ? crcs : NULL;
	u.conditional = pick(3) == 0;
	u.expect = pick(4) ? l->loc[first] : loc_make(0, 9, 9);
	r = map_update(fx.map, l->layer, &u, &lsn, NULL);
	if (u.conditional && !expectation_holds(l, &u)) {
		MUST(r == -ESTALE && calls == 0 && lsn == 0);
		return;
	}
	MUST(r == 0 && calls == 1 && lsn == fx.lsn);
	for (unsigned int i = 0; i < u.count; i++)
		l->loc[first + i] = loc_is_place(u.loc) ? u.loc + i : LOC_UNMAPPED;
}

static void do_range(void)
{
	struct model_layer *l = pick_live();
	uint64_t first = pick(CLUSTERS);
	uint64_t end = first + 1 + pick(pick(2) ? 600 : CLUSTERS);
	unsigned int calls = 0;
	lsn_t lsn = 0;

	if (pick(3) == 0)
		first -= first % PAGE_CLUSTERS;
	if (pick(3) == 0)
		end = round_up_u64(end, PAGE_CLUSTERS);
	if (pick(4) == 0)
		end = CLUSTER_MAX;
	else
		end = min_u64(end, CLUSTERS);
	MUST(map_range(fx.map, l->layer, first, end, pick(2) ? LOC_ZERO : LOC_UNMAPPED, publish,
		       &calls, &lsn, NULL) == 0);
	MUST(calls == 1 && lsn == fx.lsn);
	for (uint64_t c = first; c < end && c < CLUSTERS; c++)
		l->loc[c] = LOC_UNMAPPED;
}

static void do_seek(void)
{
	struct model_layer *l = &fx.layers[pick(fx.layer_count)];
	uint64_t from = pick(CLUSTERS), want = from, got = 0;
	uint64_t end = pick(2) ? CLUSTERS : from + pick(CLUSTERS - from + 1);
	bool data = pick(2);

	while (want < end && loc_is_place(l->loc[want]) != data)
		want++;
	MUST(map_seek(fx.map, l->layer, from, end, data, &got, NULL) == 0);
	MUST(got == want);
}

static void stage_checkpoint(void)
{
	mini_checkpoint_stage(fx.map);
	fx.phase = STAGED;
	for (unsigned int i = 0; i < fx.layer_count; i++) {
		struct model_layer *l = &fx.layers[i];

		l->was_staged = true;
		l->staged_limit = l->layer->parent_limit_clusters;
		memcpy(l->staged_loc, l->loc, sizeof(l->loc));
	}
}

static void begin_checkpoint(void)
{
	map_checkpoint_begin(fx.map);
	fx.phase = BEGUN;
	fx.changed_before_stage = pick(4) == 0;
	if (!fx.changed_before_stage)
		stage_checkpoint();
}

/* A new process: the rows, and limits as the layer rows would have them. */
static void check_restart(void)
{
	struct layer *again[LAYERS_MAX] = { NULL };
	struct map *m;

	open_map(&m, pick(2) ? 0 : 1 << 20);
	for (unsigned int i = 0; i < fx.layer_count; i++) {
		const struct model_layer *l = &fx.layers[i];

		if (!l->was_staged)
			continue;
		MUST(map_layer_new(m, l->id, l->parent < 0 ? NULL : again[l->parent],
				   l->staged_limit, l->layer->parent_origin_base, &again[i]) == 0);
	}
	for (unsigned int i = 0; i < fx.layer_count; i++) {
		loc_t rows[PAGE_CLUSTERS];

		if (!again[i])
			continue;
		check_all(m, again[i], fx.layers[i].staged_loc);
		for (unsigned int page = 0; page < PAGES; page++) {
			MUST(map_read_rows(m, again[i], page, false, rows, NULL) == 0);
			for (unsigned int c = 0; c < PAGE_CLUSTERS; c++)
				MUST(plain(rows[c]) ==
				     fx.layers[i].staged_loc[page * PAGE_CLUSTERS + c]);
		}
		map_check(m);
	}
	for (unsigned int i = 0; i < fx.layer_count; i++)
		layer_unref(m, again[i]);
	map_close(m);
}

static void end_checkpoint(void)
{
	enum mini_fail fail = pick(3) ? MINI_DONE : (enum mini_fail)pick(MINI_FAIL_COUNT);

	mini_checkpoint_finish(fx.map, fx.meta, fail);
	fx.phase = IDLE;
	map_check(fx.map);
	if (fail == MINI_DONE && !fx.changed_before_stage)
		check_restart();
}

/* Let a layer go and come back: what it keeps must be found again. */
static void do_reopen(void)
{
	struct model_layer *l = pick_live();
	struct layer *again;
	uint64_t limit = l->layer->parent_limit_clusters;
	uint32_t base = l->layer->parent_origin_base;
	struct layer *parent = l->layer->parent;

	layer_unref(fx.map, l->layer);
	MUST(map_layer_new(fx.map, l->id, parent, limit, base, &again) == 0);
	l->layer = again;
}

static void random_step(void)
{
	uint64_t op = pick(1000);

	if (op < 500)
		do_update();
	else if (op < 800)
		do_lookup();
	else if (op < 880)
		do_range();
	else if (op < 920)
		do_seek();
	else if (op < 930)
		do_reopen();
	else if (op < 936 && fx.layer_count < LAYERS_MAX)
		new_layer(pick(4) ? (int)(pick_live() - fx.layers) : (int)pick(fx.layer_count));
	else if (op >= 950 && fx.phase == IDLE)
		begin_checkpoint();
	else if (op >= 950 && fx.phase == BEGUN)
		stage_checkpoint();
	else if (op >= 950)
		end_checkpoint();
	if (op % 20 == 0)
		map_check(fx.map);
}

START_TEST(the_map_equals_arrays_through_everything)
{
	static const uint64_t caches[] = { 0, 3000, 40000, 10 << 20 };

	fx.rng += (uint64_t)_i * 104729;
	map_close(fx.map);
	open_map(&fx.map, caches[_i % 4]);
	new_layer(-1);
	new_layer(-1);
	for (fx.step = 0; fx.step < STEPS; fx.step++) {
		/* Every live layer may have become a parent. */
		if (fx.layers[fx.layer_count - 1].frozen && fx.layer_count < LAYERS_MAX)
			new_layer((int)fx.layer_count - 1);
		random_step();
	}
	if (fx.phase == BEGUN)
		stage_checkpoint();
	if (fx.phase == STAGED)
		end_checkpoint();
	mini_checkpoint(fx.map, fx.meta);
	for (unsigned int i = 0; i < fx.layer_count; i++)
		check_all(fx.map, fx.layers[i].layer, fx.layers[i].loc);
	map_check(fx.map);
}
END_TEST

static Suite *model_suite(void)
{
	Suite *s = suite_create("volume/map_model");
	TCase *tc = tcase_create("model");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, the_map_equals_arrays_through_everything, 0, 24);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(model_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
