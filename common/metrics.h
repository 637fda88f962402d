/*
 * metrics - counters, gauges and latency histograms, declared in tables.
 *
 * A module keeps its numbers in a struct of its own and describes them in one const table, a row
 * per member: kind, name, unit, sentence. The struct and its table are a *group*; the groups of one
 * process (or of one pool under test) hang in a registry, which is walked for `stats` and JSON.
 *
 *	struct upload_metrics { struct counter puts; struct gauge queued; struct histogram put_ns; };
 *	static const struct metric_def upload_metric_defs[] = {
 *		METRIC_COUNTER(struct upload_metrics, puts, "requests", "PUTs that succeeded."),
 *		METRIC_GAUGE(struct upload_metrics, queued, "SCOs", "SCOs that wait for upload."),
 *		METRIC_HISTOGRAM(struct upload_metrics, put_ns, "Time of one PUT."),
 *	};
 *
 * Changing a number is a relaxed atomic, from any thread, and never waits. Readers see each number
 * whole, but not all numbers of one instant. All structs start as zero bytes (static or calloc).
 */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H

#include "common/thread.h"

/* Only rises. */
struct counter {
	uint64_t value;
};

/* Goes up and down; the newest value counts. */
struct gauge {
	int64_t value;
};

static inline void counter_add(struct counter *c, uint64_t n)
{
	(void)__atomic_fetch_add(&c->value, n, __ATOMIC_RELAXED);
}
static inline void counter_inc(struct counter *c)
{
	counter_add(c, 1);
}
static inline uint64_t counter_get(const struct counter *c)
{
	return __atomic_load_n(&c->value, __ATOMIC_RELAXED);
}
static inline void gauge_set(struct gauge *g, int64_t value)
{
	__atomic_store_n(&g->value, value, __ATOMIC_RELAXED);
}
static inline void gauge_add(struct gauge *g, int64_t delta)
{
	(void)__atomic_fetch_add(&g->value, delta, __ATOMIC_RELAXED);
}
static inline int64_t gauge_get(const struct gauge *g)
{
	return __atomic_load_n(&g->value, __ATOMIC_RELAXED);
}

/*
 * Log-linear buckets: values below HISTOGRAM_SUB have a bucket each, every power of two above is
 * cut in HISTOGRAM_SUB parts, so a percentile is at most 1/16 too high, never too low. Values of
 * HISTOGRAM_LIMIT_NS (18 minutes) and more share the last bucket; max is exact always.
 */
#define HISTOGRAM_SUB_BITS 4u
#define HISTOGRAM_SUB	   (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_TOP_BITS 40u
#define HISTOGRAM_LIMIT_NS ((uint64_t)1 << HISTOGRAM_TOP_BITS)
#define HISTOGRAM_BUCKETS  ((HISTOGRAM_TOP_BITS - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB + 1)

struct histogram {
	uint64_t sum_ns; /* wraps after 584 years of latency */
	uint64_t max_ns;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

struct histogram_snapshot {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t p50_ns, p99_ns, p999_ns; /* 0 when count is 0; never above max_ns */
	uint64_t max_ns;
};

/* Two relaxed additions, and a third only for a new maximum. Any thread. */
void histogram_record(struct histogram *h, uint64_t ns);

/* Any thread; what is recorded meanwhile may or may not be seen. */
void histogram_snapshot(const struct histogram *h, struct histogram_snapshot *ret_snapshot);

enum metric_kind {
	METRIC_KIND_COUNTER,
	METRIC_KIND_GAUGE,
	METRIC_KIND_HISTOGRAM,
};

struct metric_def {
	enum metric_kind kind;
	const char *name; /* the member's name: lower_snake */
	const char *unit; /* "bytes", "requests"; "ns" for histograms */
	const char *text; /* one sentence */
	size_t offset;
};

#define METRIC_DEF(kind_, type, member, member_type, unit_, text_)                                 \
	{                                                                                          \
		.kind = (kind_), .name = #member, .unit = (unit_), .text = (text_),                \
		.offset = offsetof(type, member) +                                                 \
			  0 * sizeof((struct member_type *)0 == &((type *)0)->member)              \
	}
#define METRIC_COUNTER(type, member, unit, text)                                                   \
	METRIC_DEF(METRIC_KIND_COUNTER, type, member, counter, unit, text)
#define METRIC_GAUGE(type, member, unit, text)                                                     \
	METRIC_DEF(METRIC_KIND_GAUGE, type, member, gauge, unit, text)
#define METRIC_HISTOGRAM(type, member, text)                                                       \
	METRIC_DEF(METRIC_KIND_HISTOGRAM, type, member, histogram, "ns", text)

struct metrics_group {
	const char *name; /* the module: "volume"; names are shown as volume.puts */
	const struct metric_def *defs;
	size_t def_count;
	const void *values; /* the struct that the offsets of defs are in */

	struct metrics_group *next; /* the registry's */
};

struct metrics_registry {
	struct mutex lock; /* unranked leaf; guards all below */
	struct metrics_group *first;
};

/* What one metric holds now; strings are those of the tables. */
struct metric_value {
	const char *group;
	const struct metric_def *def;
	union {
		uint64_t counter;
		int64_t gauge;
		struct histogram_snapshot histogram;
	};
};

void metrics_registry_init(struct metrics_registry *r);

/* Every group must have been removed. */
void metrics_registry_done(struct metrics_registry *r);

/* Owns: g, its table and its values are borrowed until metrics_remove(). Any thread. */
void metrics_add(struct metrics_registry *r, struct metrics_group *g);
void metrics_remove(struct metrics_registry *r, struct metrics_group *g);

/*
 * Call fn for each metric, groups in the order they were added, metrics in that of their table.
 * fn != 0 ends the walk with that value, which is returned; else 0.
 * Threads:  any; fn runs under the registry's lock and must not call the registry.
 */
int metrics_for_each(struct metrics_registry *r,
		     int (*fn)(void *arg, const struct metric_value *value), void *arg);

#endif
