#include "tests/sim/resolved.h"

#include <stdio.h>
#include <string.h>

#define VALUE_BYTES 65536u

struct judge {
	struct meta *meta;
	uint64_t moved; /* copies that are older need not hold */
	bool bad;
};

struct shown {
	loc_t loc[PAGE_CLUSTERS];
	bool said[PAGE_CLUSTERS];
};

static void take_run(void *arg, const struct page_run *run)
{
	struct shown *s = arg;

	for (unsigned int i = 0; run->loc != LOC_UNMAPPED && i < run->count; i++) {
		unsigned int at = run->first + i;

		if (!s->said[at])
			s->loc[at] = loc_is_place(run->loc) ? run->loc + i : LOC_UNMAPPED;
		s->said[at] = true;
	}
}

static int get(struct judge *j, enum meta_family family, const struct row_key *key,
	       struct buf *value)
{
	buf_init(value, VALUE_BYTES);
	return meta_get(j->meta, family, key, value, NULL);
}

static bool get_layer(struct judge *j, uint64_t id, struct layer_row *ret_row)
{
	struct row_key key = row_key_u64(ROW_LAYER, id);
	struct buf value;
	int r = get(j, META_NAMES, &key, &value);

	if (r == 0)
		r = layer_row_decode(value.data, value.len_bytes, ret_row, NULL);
	buf_done(&value);
	return r == 0;
}

/* What a layer shows, as FORMAT.md 7.2 has it. Origins are 0 (10.1). */
static bool put_together(struct judge *j, uint64_t layer, uint64_t page, struct shown *s)
{
	uint64_t first = page * PAGE_CLUSTERS;
	enum page_value_kind kind;
	struct layer_row row;
	int r = 0;

	memset(s, 0, sizeof(*s));
	for (; layer && r == 0; layer = row.parent) {
		struct row_key key = row_key_2u64(ROW_PAGE, layer, page);
		struct buf value;

		if (!get_layer(j, layer, &row))
			return false;
		r = get(j, META_STATE, &key, &value);
		if (r == 0)
			r = page_value_decode(value.data, value.len_bytes, &kind, take_run, s,
					      NULL);
		buf_done(&value);
		r = r == -ENOENT ? 0 : r;
		for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
			s->said[i] |= first + i >= row.parent_limit_clusters;
	}
	return r == 0;
}

static const char *flaw(struct judge *j, uint64_t layer, uint64_t page, const uint8_t *value,
			size_t value_bytes)
{
	struct resolved_row row;
	struct shown copy, truth;
	enum page_value_kind kind;
	struct layer_row l;

	memset(&copy, 0, sizeof(copy));
	if (resolved_row_decode(value, value_bytes, &row, NULL) < 0 ||
	    page_value_decode(row.page, row.page_bytes, &kind, take_run, &copy, NULL) < 0)
		return "does not decode";
	if (!get_layer(j, layer, &l))
		return "its layer is gone";
	if (l.state == LAYER_DROPPED)
		return NULL; /* goes with the next checkpoint */
	if (l.state != LAYER_FROZEN)
		return "its layer is not frozen";
	if (row.sequence < j->moved)
		return NULL;
	if (!put_together(j, layer, page, &truth))
		return "a row below it is missing";
	return memcmp(copy.loc, truth.loc, sizeof(copy.loc)) == 0 ? NULL : "names other places";
}

static int judge_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct judge *j = arg;
	const char *what = "its key";
	uint64_t layer = 0, page = 0;

	if (row_key_parse_2u64(key, key_bytes, ROW_RESOLVED, &layer, &page) == 0)
		what = flaw(j, layer, page, value, value_bytes);
	if (!what)
		return 0;
	fprintf(stderr, "resolved page %" PRIu64 " of layer %" PRIu64 ": %s\n", page, layer, what);
	j->bad = true;
	return 0;
}

bool resolved_agree(struct meta *meta)
{
	struct row_key from = { .bytes = { ROW_RESOLVED }, .len_bytes = 1 };
	struct row_key until = { .bytes = { ROW_RESOLVED + 1 }, .len_bytes = 1 };
	struct row_key key = row_key_u64(ROW_MOVED, 0);
	struct judge j = { .meta = meta };
	struct moved_row moved;
	struct buf value;
	int r = get(&j, META_STATE, &key, &value);

	if (r == 0)
		r = moved_row_decode(value.data, value.len_bytes, &moved, NULL);
	if (r == 0)
		j.moved = moved.sequence;
	buf_done(&value);
	if (r == 0 || r == -ENOENT)
		r = meta_iterate(meta, META_STATE, &from, &until, judge_row, &j, NULL);
	return r == 0 && !j.bad;
}
