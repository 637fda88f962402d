/*
 * read_ahead - who reads an object from front to back finds what only the backend has in the cache: a
 * window ahead of him, which grows while he goes on, is asked for before he comes.
 */
#include "volume/absent.h"
#include "volume/pool_impl.h"

#define WINDOW_FIRST_BYTES UINT64_C(524288)
/* Places of one SCO with no more than so many slots between them come with one request: the block of
 * a batch stands before its clusters. */
#define GAP_SLOTS 4u
/* Reads of one stream overtake each other by so much. */
#define SLACK_BYTES UINT64_C(2097152)

static uint64_t load(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static void store(uint64_t *value, uint64_t to)
{
	__atomic_store_n(value, to, __ATOMIC_RELAXED);
}

/* False: no more is taken now. */
static bool want_run(struct pool *p, struct sco *s, uint32_t slot, unsigned int count)
{
	struct cache_sco name;
	uint64_t index_bytes;
	bool no_index;

	absent_name(p, s, &name);
	mutex_lock(&p->scos->lock);
	no_index = s->table_offset_bytes == 0;
	mutex_unlock(&p->scos->lock);
	/* What stands behind the data, as a rule; a guess costs no more than the bytes. */
	index_bytes = (uint64_t)s->next_slot * CLUSTER_BYTES;
	if (no_index && index_bytes < name.file_bytes)
		(void)cache_want(p->cache, &name, index_bytes,
				 (size_t)(name.file_bytes - index_bytes), true);
	return cache_want(p->cache, &name, (uint64_t)slot * CLUSTER_BYTES,
			  (size_t)count * CLUSTER_BYTES, true) != -EAGAIN;
}

/* Places of an absent SCO that are wished for together. */
struct run {
	struct sco *sco; /* referenced; NULL: nothing is gathered */
	uint32_t slot, count;
	uint64_t cluster; /* of the object, which the first one is */
};

static bool want_gathered(struct pool *p, struct run *run)
{
	struct sco *s = TAKE_PTR(run->sco);
	bool more = !s || want_run(p, s, run->slot, run->count);

	sco_unref(p->scos, s);
	return more;
}

/* Takes over the reference. False: what was gathered before is not taken now. */
static bool gather(struct pool *p, struct run *run, struct sco *s, uint32_t slot,
		   unsigned int count, uint64_t cluster)
{
	uint32_t end = run->slot + run->count;

	if (run->sco == s && slot >= end && slot - end <= GAP_SLOTS) {
		run->count = slot + count - run->slot;
		sco_unref(p->scos, s);
		return true;
	}
	if (!want_gathered(p, run)) {
		sco_unref(p->scos, s);
		return false;
	}
	*run = (struct run){ .sco = s, .slot = slot, .count = count, .cluster = cluster };
	return true;
}

/* Clusters of one page. False: there is no room for more wishes, or no map. */
static bool gather_page(struct object *o, struct run *run, uint64_t first, unsigned int count)
{
	struct pool *p = o->pool;
	struct io_places m;
	struct err unused;
	bool more = true;

	if (io_look_up(o, first, count, &m, &unused) < 0)
		return false;
	for (unsigned int i = 0, n; i < count && more; i += n) {
		struct sco *s;

		n = io_run_length(&m, i, count);
		if (!loc_is_place(m.locs[i]))
			continue;
		s = sco_get(p->scos, loc_sco(m.locs[i]));
		if (s && sco_is_absent(p->scos, s))
			more = gather(p, run, s, loc_slot(m.locs[i]), n, first + i);
		else
			sco_unref(p->scos, s);
	}
	return more;
}

static void want(struct object *o, uint64_t from_bytes, uint64_t to_bytes)
{
	uint64_t at = from_bytes >> CLUSTER_SHIFT, end = div_up_u64(to_bytes, CLUSTER_BYTES);
	struct run run = { 0 };
	bool more = true;

	while (at < end && more) {
		uint64_t page_end = round_up_u64(at + 1, PAGE_CLUSTERS);
		unsigned int count = (unsigned int)(min_u64(page_end, end) - at);

		more = gather_page(o, &run, at, count);
		at += more ? count : 0;
	}
	/* What was not taken is asked for again. */
	if (!want_gathered(o->pool, &run) || !more)
		at = min_u64(at, run.cluster);
	store(&o->ahead_until_bytes, min_u64(at << CLUSTER_SHIFT, to_bytes));
}

/* Whether the reader goes on where he was; the window that he has then. */
static bool goes_on(struct object *o, uint64_t offset, uint64_t end, uint64_t window_max,
		    uint64_t *ret_window)
{
	uint64_t next = load(&o->ahead_next_bytes), window = load(&o->ahead_window_bytes);

	store(&o->ahead_next_bytes, end);
	if (next == 0 || offset > next + SLACK_BYTES || offset + SLACK_BYTES < next) {
		store(&o->ahead_window_bytes, 0);
		store(&o->ahead_until_bytes, 0);
		return false;
	}
	window = window ? min_u64(2 * window, window_max) : min_u64(WINDOW_FIRST_BYTES, window_max);
	store(&o->ahead_window_bytes, window);
	*ret_window = window;
	return true;
}

void read_ahead(struct object *o, uint64_t offset, uint64_t len)
{
	struct pool *p = o->pool;
	uint64_t window_max = p->options.read_ahead_bytes, end = offset + len, window, from, to;

	if (window_max == 0 || !__atomic_load_n(&p->scos->any_absent, __ATOMIC_RELAXED) ||
	    !goes_on(o, offset, end, window_max, &window))
		return;
	from = max_u64(load(&o->ahead_until_bytes), end);
	to = min_u64(end + window, load(&o->size_bytes));
	/* Not for every read: half a window at a time. */
	if (from > end + window / 2 || to <= from)
		return;
	want(o, from, to);
}
