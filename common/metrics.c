#include "common/metrics.h"

STATIC_ASSERT(HISTOGRAM_BUCKETS == 593, "15 lower values and 0, 36 octaves of 16, one above");

static size_t bucket_of(uint64_t ns)
{
	unsigned int top, shift;

	if (ns < HISTOGRAM_SUB)
		return (size_t)ns;
	if (ns >= HISTOGRAM_LIMIT_NS)
		return HISTOGRAM_BUCKETS - 1;
	top = 63u - (unsigned int)__builtin_clzll(ns);
	shift = top - HISTOGRAM_SUB_BITS;
	/* ns >> shift is in [SUB, 2 * SUB): octave and part in one number. */
	return (size_t)shift * HISTOGRAM_SUB + (size_t)(ns >> shift);
}

/* The largest value that bucket_of() puts there. */
static uint64_t bucket_top_ns(size_t bucket)
{
	size_t shift;

	if (bucket < HISTOGRAM_SUB)
		return bucket;
	if (bucket == HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	shift = bucket / HISTOGRAM_SUB - 1;
	return ((HISTOGRAM_SUB + bucket % HISTOGRAM_SUB + 1) << shift) - 1;
}

void histogram_record(struct histogram *h, uint64_t ns)
{
	uint64_t max;

	(void)__atomic_fetch_add(&h->bucket[bucket_of(ns)], 1, __ATOMIC_RELAXED);
	(void)__atomic_fetch_add(&h->sum_ns, ns, __ATOMIC_RELAXED);
	max = __atomic_load_n(&h->max_ns, __ATOMIC_RELAXED);
	while (UNLIKELY(ns > max)) {
		if (__atomic_compare_exchange_n(&h->max_ns, &max, ns, true, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			break;
	}
}

/* The smallest bucket top below which at least part_per_mille of all values lie. */
static uint64_t percentile_ns(const uint64_t *bucket, uint64_t count, uint64_t part_per_mille)
{
	/* Rounded up, and split so that no count overflows. */
	uint64_t rank =
		count / 1000 * part_per_mille + div_up_u64(count % 1000 * part_per_mille, 1000);
	uint64_t seen = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += bucket[i];
		if (seen >= rank)
			return bucket_top_ns(i);
	}
	return UINT64_MAX;
}

void histogram_snapshot(const struct histogram *h, struct histogram_snapshot *ret_snapshot)
{
	struct histogram_snapshot s = { 0 };
	uint64_t bucket[HISTOGRAM_BUCKETS];

	/* One copy, so that count and percentiles speak of the same values. */
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		bucket[i] = __atomic_load_n(&h->bucket[i], __ATOMIC_RELAXED);
		s.count += bucket[i];
	}
	s.sum_ns = __atomic_load_n(&h->sum_ns, __ATOMIC_RELAXED);
	s.max_ns = __atomic_load_n(&h->max_ns, __ATOMIC_RELAXED);
	if (s.count > 0) {
		s.p50_ns = min_u64(percentile_ns(bucket, s.count, 500), s.max_ns);
		s.p99_ns = min_u64(percentile_ns(bucket, s.count, 990), s.max_ns);
		s.p999_ns = min_u64(percentile_ns(bucket, s.count, 999), s.max_ns);
	}
	*ret_snapshot = s;
}

void metrics_registry_init(struct metrics_registry *r)
{
	mutex_init(&r->lock, 0);
	r->first = NULL;
}

void metrics_registry_done(struct metrics_registry *r)
{
	ASSERT(r->first == NULL);
	mutex_done(&r->lock);
}

void metrics_add(struct metrics_registry *r, struct metrics_group *g)
{
	struct metrics_group **end = &r->first;

	GUARD(&r->lock);
	for (; *end != NULL; end = &(*end)->next)
		ASSERT(*end != g);
	g->next = NULL;
	*end = g;
}

void metrics_remove(struct metrics_registry *r, struct metrics_group *g)
{
	struct metrics_group **at = &r->first;

	GUARD(&r->lock);
	while (*at != g) {
		ASSERT(*at != NULL);
		at = &(*at)->next;
	}
	*at = g->next;
	g->next = NULL;
}

static void value_read(const struct metrics_group *g, const struct metric_def *def,
		       struct metric_value *ret_value)
{
	const void *at = (const char *)g->values + def->offset;

	*ret_value = (struct metric_value){ .group = g->name, .def = def };
	switch (def->kind) {
	case METRIC_KIND_COUNTER:
		ret_value->counter = counter_get(at);
		break;
	case METRIC_KIND_GAUGE:
		ret_value->gauge = gauge_get(at);
		break;
	case METRIC_KIND_HISTOGRAM:
		histogram_snapshot(at, &ret_value->histogram);
		break;
	}
}

int metrics_for_each(struct metrics_registry *r,
		     int (*fn)(void *arg, const struct metric_value *value), void *arg)
{
	GUARD(&r->lock);
	for (const struct metrics_group *g = r->first; g != NULL; g = g->next) {
		for (size_t i = 0; i < g->def_count; i++) {
			struct metric_value value;
			int stop;

			value_read(g, &g->defs[i], &value);
			stop = fn(arg, &value);
			if (stop != 0)
				return stop;
		}
	}
	return 0;
}
