/*
 * router - retries, limits, measures and verifies calls to one store.
 *
 * A call is tried until it succeeds, fails for good (err_is_retryable() says no), has been tried
 * attempts_max times, its time is over, or calls are refused (backend_refuse_calls()). Between tries
 * it holds no slot of the concurrency limit. A try that is under way is not cut short: stores bound
 * their own waiting.
 *
 * Unknown outcomes. A try that failed retryably may have been carried out all the same, its answer
 * lost. A repeated plain put or delete does the same again. A repeated PUT_IF_ABSENT finds the name
 * taken, perhaps by its own earlier try: then the object is read back and compared with the source,
 * and the same length and bytes are success. Who uses PUT_IF_ABSENT to decide a contest must hence
 * put bytes that nobody else would (a claim carries a random number). Only tries of the same call
 * are compared: a caller who repeats after -EAGAIN may be told -EEXIST about his own object. Where a
 * store needs a second step to be sure of a claim (confirm), that follows on either way to success.
 *
 * A get that is answered -EUCLEAN is judged by the object's length: when that suffices the body was
 * cut on its way, which is retryable.
 */
#include "backend/router_impl.h"

#include "backend/source.h"
#include "common/crc32c.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS ((uint64_t)1000 * 1000)

#define CONCURRENCY_DEFAULT	 8u
#define ATTEMPTS_DEFAULT	 5u
#define TIMEOUT_DEFAULT_NS	 (30000 * NS_PER_MS)
#define BACKOFF_FIRST_DEFAULT_NS (50 * NS_PER_MS)
#define BACKOFF_MAX_DEFAULT_NS	 (5000 * NS_PER_MS)

#define LIST_PAGE_COUNT	     4096u /* names held in memory while a list is under way */
#define COMPARE_BUFFER_BYTES (1u << 20)

static const struct metric_def router_metric_defs[] = {
	METRIC_COUNTER(struct router_metrics, put_bytes, "bytes", "Bytes of objects stored."),
	METRIC_COUNTER(struct router_metrics, get_bytes, "bytes", "Bytes fetched from objects."),
	METRIC_COUNTER(struct router_metrics, retries, "tries", "Tries after the first of a call."),
	METRIC_COUNTER(struct router_metrics, failures, "calls",
		       "Calls that ended in an error other than a name that is absent or taken."),
	METRIC_COUNTER(struct router_metrics, timeouts, "calls", "Calls whose time was over."),
	METRIC_COUNTER(struct router_metrics, checksum_failures, "fetches",
		       "Fetched or offered bytes that did not have their checksum."),
	METRIC_COUNTER(struct router_metrics, cut_reads, "tries",
		       "Reads that ended early although the object is long enough."),
	METRIC_COUNTER(struct router_metrics, lost_answers, "calls",
		       "Conditional puts that turned out to have succeeded in an earlier try."),
	METRIC_GAUGE(struct router_metrics, in_flight, "calls", "Tries under way in the store."),
	METRIC_GAUGE(struct router_metrics, waiting, "calls", "Tries that wait for their turn."),
	METRIC_HISTOGRAM(struct router_metrics, put_ns, "Time of a put, all tries together."),
	METRIC_HISTOGRAM(struct router_metrics, get_ns, "Time of a get, all tries together."),
	METRIC_HISTOGRAM(struct router_metrics, head_ns, "Time of a head, all tries together."),
	METRIC_HISTOGRAM(struct router_metrics, delete_ns, "Time of a delete, all tries together."),
	METRIC_HISTOGRAM(struct router_metrics, delete_many_ns,
			 "Time of a delete of many names at once, all tries together."),
	METRIC_HISTOGRAM(struct router_metrics, list_ns, "Time of one page of a list."),
};

/* ---- one call ------------------------------------------------------------------------------ */

void call_start(struct call *c, struct backend *b)
{
	uint64_t now_ns = clock_mono_ns();

	*c = (struct call){ .b = b,
			    .start_ns = now_ns,
			    .deadline_ns =
				    now_ns + min_u64(b->options.timeout_ns, WAIT_FOREVER - now_ns),
			    .backoff_ns = b->options.backoff_first_ns };
}

static int refused(struct err *e)
{
	return err_set(e, -ESHUTDOWN,
		       "the backend is not asked any more: the pool is being closed");
}

int call_enter(struct call *c, struct err *e)
{
	struct backend *b = c->b;
	int r;

	gauge_add(&b->metrics.waiting, 1);
	r = limiter_acquire(&b->limiter, c->deadline_ns);
	gauge_add(&b->metrics.waiting, -1);
	if (r == -ESHUTDOWN)
		return refused(e);
	if (r < 0)
		return err_set(e, r, "%u backend operations are under way, none ended in time",
			       b->options.concurrency_max);
	gauge_add(&b->metrics.in_flight, 1);
	return 0;
}

void call_leave(struct call *c)
{
	gauge_add(&c->b->metrics.in_flight, -1);
	limiter_release(&c->b->limiter);
}

/* Half of the present back-off and a random part of the other half; the next one is doubled. */
static uint64_t call_backoff(struct call *c)
{
	uint64_t half_ns = c->backoff_ns / 2, random;

	env_random(c->b->env, &random, sizeof(random));
	c->backoff_ns = min_u64(2 * c->backoff_ns, c->b->options.backoff_max_ns);
	return half_ns + random % (half_ns + 1);
}

bool call_again(struct call *c, int *r, struct err *e)
{
	struct backend *b = c->b;
	uint64_t now_ns, delay_ns, busy_until_ns;

	c->attempts++;
	if (*r >= 0 || !err_is_retryable(*r))
		return false;
	if (c->attempts >= b->options.attempts_max) {
		*r = err_wrap(e, *r == -ETIMEDOUT ? -ETIMEDOUT : -EAGAIN, "gave up after %u tries",
			      c->attempts);
		return false;
	}
	delay_ns = call_backoff(c);
	now_ns = clock_mono_ns();
	/* On top of what the store asked for, lest all come back in the same moment. */
	busy_until_ns = atomic_load(&b->store->busy_until_ns);
	if (busy_until_ns > now_ns)
		delay_ns += busy_until_ns - now_ns;
	/* A wait that outlasts the call would only keep its caller. */
	if (now_ns >= c->deadline_ns || delay_ns >= c->deadline_ns - now_ns) {
		*r = err_wrap(e, -ETIMEDOUT, "gave up after %u tries in %" PRIu64 " ms",
			      c->attempts, (now_ns - c->start_ns) / NS_PER_MS);
		return false;
	}
	counter_inc(&b->metrics.retries);
	if (limiter_sleep(&b->limiter, now_ns + delay_ns) < 0) {
		*r = refused(e);
		return false;
	}
	return true;
}

int call_end(struct call *c, struct histogram *latency, int r)
{
	histogram_record(latency, clock_mono_ns() - c->start_ns);
	if (r < 0 && r != -ENOENT && r != -EEXIST)
		counter_inc(&c->b->metrics.failures);
	if (r == -ETIMEDOUT)
		counter_inc(&c->b->metrics.timeouts);
	return r;
}

/* ---- put ----------------------------------------------------------------------------------- */

static int check_source(const char *name, const struct backend_source *source, struct err *e)
{
	uint32_t crc;

	ASSERT(!source->data || !source->file);
	ASSERT(source->data || source->file || source->len_bytes == 0);
	ASSERT(source->data == NULL || source->len_bytes <= SIZE_MAX);
	if (source->file_offset_bytes > INT64_MAX ||
	    source->len_bytes > INT64_MAX - source->file_offset_bytes)
		return err_set(e, -EINVAL, "'%s': source beyond the largest file", name);
	/* Bytes of a file are checked by the store while it copies them (source.h). */
	if (!source->has_crc || source->file)
		return 0;
	crc = crc32c(0, source->data, (size_t)source->len_bytes);
	if (crc == source->crc32c)
		return 0;
	return err_set(e, -EBADMSG, "'%s': source has checksum %08" PRIx32 ", expected %08" PRIx32,
		       name, crc, source->crc32c);
}

static int compare_part(struct backend *b, const char *name, uint64_t offset_bytes,
			const void *expected, void *buffer, size_t len_bytes, struct err *e)
{
	/* Twice, since a bit that flips on the way would make us deny our own object. */
	for (unsigned int i = 0; i < 2; i++) {
		int r = b->store->ops->get(b->store, name, offset_bytes, buffer, len_bytes, e);

		if (r < 0)
			return r;
		if (memcmp(expected, buffer, len_bytes) == 0)
			return 1;
	}
	return 0;
}

/* Does the object have the source's bytes? 1 yes, 0 no, or negative. */
static int object_is_source(struct backend *b, const char *name,
			    const struct backend_source *source, struct err *e)
{
	struct source_reader reader;
	struct backend_object object;
	char *buffer;
	ssize_t n = 0;
	int r = b->store->ops->head(b->store, name, &object, e);

	if (r < 0)
		return r;
	if (object.len_bytes != source->len_bytes)
		return 0;
	buffer = aligned_alloc(ENV_DIRECT_ALIGN, 2 * (size_t)COMPARE_BUFFER_BYTES);
	if (!buffer)
		return err_set(e, -EAGAIN, "no memory to compare objects");
	source_start(&reader, b->env, source);
	do {
		uint64_t offset_bytes = reader.done_bytes;

		r = 1;
		n = source_next(&reader, buffer, COMPARE_BUFFER_BYTES, e);
		if (n > 0)
			r = compare_part(b, name, offset_bytes, buffer,
					 buffer + COMPARE_BUFFER_BYTES, (size_t)n, e);
	} while (n > 0 && r == 1);
	free(buffer);
	return n < 0 ? (int)n : r;
}

/*
 * The name is taken and an earlier try of this call may have taken it: 0 it was ours, -EEXIST it
 * was not, or retryable.
 */
static int settle_lost_answer(struct backend *b, const char *name,
			      const struct backend_source *source,
			      struct backend_put_result *result, struct err *e)
{
	struct env_stat st;
	int r = object_is_source(b, name, source, e);

	if (r == -ENOENT || r == -EUCLEAN)
		return err_set(e, -EAGAIN, "'%s': object changed while it was compared", name);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -EEXIST, "'%s': object exists", name);

	counter_inc(&b->metrics.lost_answers);
	/* The answer that was lost said whether the file is shared; a second link tells as much. */
	if ((b->store->caps & BACKEND_CAP_LINK) && source->file && source->file_path) {
		r = env_stat(b->env, source->file, &st);
		if (r < 0)
			return err_set(e, r, "examining the source of '%s': %s", name, err_name(r));
		result->shares_file = st.link_count > 1;
	}
	return 0;
}

/* A conditional put went well, as far as the store can say at once: wait, and look again. */
static int confirm_claim(struct call *c, const char *name, const struct backend_source *source,
			 struct err *e)
{
	struct store *s = c->b->store;
	int r;

	if (!s->ops->confirm)
		return 0;
	/* Without a slot: it is no work. */
	if (s->settle_ns > 0 && limiter_sleep(&c->b->limiter, clock_mono_ns() + s->settle_ns) < 0)
		return refused(e);
	r = call_enter(c, e);
	if (r < 0)
		return r;
	r = s->ops->confirm(s, name, source, e);
	call_leave(c);
	return r;
}

int backend_put(struct backend *b, const char *name, const struct backend_source *source,
		unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct backend_put_result result = { .shares_file = false };
	bool outcome_unknown = false;
	struct call c;
	int r;

	ASSERT((flags & ~(unsigned int)BACKEND_PUT_IF_ABSENT) == 0);
	r = backend_check_name(name, e);
	if (r < 0)
		return r;
	if ((flags & BACKEND_PUT_IF_ABSENT) && !(b->store->caps & BACKEND_CAP_PUT_IF_ABSENT))
		return err_set(e, -EOPNOTSUPP, "'%s': this backend has no conditional put", b->url);

	call_start(&c, b);
	r = check_source(name, source, e);
	if (r == 0) {
		do {
			r = call_enter(&c, e);
			if (r < 0)
				break;
			r = b->store->ops->put(b->store, name, source, flags, &result, e);
			if (r == -EEXIST && outcome_unknown)
				r = settle_lost_answer(b, name, source, &result, e);
			call_leave(&c);
			if (r == 0 && (flags & BACKEND_PUT_IF_ABSENT))
				r = confirm_claim(&c, name, source, e);
			ASSERT(r <= 0);
			if (r < 0 && err_is_retryable(r))
				outcome_unknown = true;
		} while (call_again(&c, &r, e));
	}
	if (r == -EBADMSG)
		counter_inc(&b->metrics.checksum_failures);
	r = call_end(&c, &b->metrics.put_ns, r);
	if (r < 0)
		return r;
	ASSERT(!result.shares_file || (source->file && (b->store->caps & BACKEND_CAP_LINK)));
	counter_add(&b->metrics.put_bytes, source->len_bytes);
	if (ret_result)
		*ret_result = result;
	return 0;
}

/* ---- get ----------------------------------------------------------------------------------- */

/* A store says that the object ends early; believe it only if the object's length agrees. */
static int judge_short_read(struct backend *b, const char *name, uint64_t end_bytes, struct err *e)
{
	struct backend_object object;
	int r = b->store->ops->head(b->store, name, &object, e);

	if (r < 0)
		return r;
	if (object.len_bytes < end_bytes)
		return err_set(e, -EUCLEAN, "'%s': has %" PRIu64 " bytes, wanted up to %" PRIu64,
			       name, object.len_bytes, end_bytes);
	counter_inc(&b->metrics.cut_reads);
	return err_set(e, -EAGAIN, "'%s': the answer was cut short", name);
}

static int fetch(struct call *c, const char *name, uint64_t offset_bytes, void *dst,
		 size_t len_bytes, struct err *e)
{
	struct backend *b = c->b;
	int r;

	do {
		r = call_enter(c, e);
		if (r < 0)
			return r;
		r = b->store->ops->get(b->store, name, offset_bytes, dst, len_bytes, e);
		if (r == -EUCLEAN)
			r = judge_short_read(b, name, offset_bytes + len_bytes, e);
		call_leave(c);
		ASSERT(r <= 0);
	} while (call_again(c, &r, e));
	if (r == 0)
		counter_add(&b->metrics.get_bytes, len_bytes);
	return r;
}

static int check_range(const char *name, uint64_t offset_bytes, const void *dst, size_t len_bytes,
		       struct err *e)
{
	int r = backend_check_name(name, e);

	ASSERT(dst || len_bytes == 0);
	if (r < 0)
		return r;
	if (len_bytes > INT64_MAX || offset_bytes > INT64_MAX - len_bytes)
		return err_set(e, -EUCLEAN, "'%s': no object reaches to %" PRIu64, name,
			       offset_bytes);
	return 0;
}

int backend_get(struct backend *b, const char *name, uint64_t offset_bytes, void *dst,
		size_t len_bytes, struct err *e)
{
	struct call c;
	int r = check_range(name, offset_bytes, dst, len_bytes, e);

	if (r < 0)
		return r;
	call_start(&c, b);
	r = fetch(&c, name, offset_bytes, dst, len_bytes, e);
	return call_end(&c, &b->metrics.get_ns, r);
}

int backend_get_verified(struct backend *b, const char *name, uint64_t offset_bytes, void *dst,
			 size_t len_bytes, uint32_t crc, struct err *e)
{
	struct call c;
	int r = check_range(name, offset_bytes, dst, len_bytes, e);

	if (r < 0)
		return r;
	call_start(&c, b);
	for (unsigned int i = 0; i < 2; i++) {
		uint32_t got;

		/* The second fetch may fail as often as the first, within the same time. */
		c.attempts = 0;
		r = fetch(&c, name, offset_bytes, dst, len_bytes, e);
		if (r < 0)
			break;
		got = crc32c(0, dst, len_bytes);
		if (got == crc)
			break;
		counter_inc(&b->metrics.checksum_failures);
		r = err_set(e, -EBADMSG,
			    "'%s': %zu bytes at %" PRIu64 " have checksum %08" PRIx32
			    ", expected %08" PRIx32,
			    name, len_bytes, offset_bytes, got, crc);
	}
	return call_end(&c, &b->metrics.get_ns, r);
}

/* ---- head, list ---------------------------------------------------------------------------- */

int backend_head(struct backend *b, const char *name, struct backend_object *ret_object,
		 struct err *e)
{
	struct backend_object object;
	struct call c;
	int r = backend_check_name(name, e);

	if (r < 0)
		return r;
	call_start(&c, b);
	do {
		r = call_enter(&c, e);
		if (r < 0)
			break;
		r = b->store->ops->head(b->store, name, &object, e);
		call_leave(&c);
		ASSERT(r <= 0);
	} while (call_again(&c, &r, e));
	r = call_end(&c, &b->metrics.head_ns, r);
	if (r < 0)
		return r;
	*ret_object = object;
	return 0;
}

struct page_item {
	char *name;
	struct backend_object object;
};

/* Names that a store listed, kept until the try has succeeded: what fn saw can't be taken back. */
struct page {
	const char *prefix, *after;
	struct page_item *items;
	unsigned int count, count_max;
	char last[BACKEND_NAME_BYTES_MAX + 1]; /* name of the page before, once there is one */
	struct err *e;
};

static void page_clear(struct page *p)
{
	for (unsigned int i = 0; i < p->count; i++)
		free(p->items[i].name);
	p->count = 0;
}

static int page_add(void *arg, const char *name, const struct backend_object *object)
{
	struct page *p = arg;
	const char *last = p->count > 0 ? p->items[p->count - 1].name : p->after;

	/* The next page begins behind the last name: an order that is wrong would lose objects. */
	if (p->count == p->count_max || strncmp(name, p->prefix, strlen(p->prefix)) != 0 ||
	    (last && strcmp(name, last) <= 0) || backend_check_name(name, NULL) < 0)
		return err_set(p->e, -EUCLEAN, "the store listed a name out of turn after '%s'",
			       last ? last : "");
	p->items[p->count].name = strdup(name);
	if (!p->items[p->count].name)
		return err_set(p->e, -EAGAIN, "no memory for a listing");
	p->items[p->count++].object = *object;
	return 0;
}

static int page_fetch(struct backend *b, struct page *p)
{
	struct call c;
	int r;

	call_start(&c, b);
	do {
		r = call_enter(&c, p->e);
		if (r < 0)
			break;
		page_clear(p);
		r = b->store->ops->list(b->store, p->prefix, p->after, p->count_max, page_add, p,
					p->e);
		call_leave(&c);
		ASSERT(r < 0 || (unsigned int)r == p->count);
	} while (call_again(&c, &r, p->e));
	return call_end(&c, &b->metrics.list_ns, r);
}

static int list_pages(struct backend *b, struct page *p, unsigned int count_max,
		      int (*fn)(void *arg, const char *name, const struct backend_object *object),
		      void *arg)
{
	unsigned int given = 0;
	bool is_last = false;

	while (given < count_max && !is_last) {
		int r;

		p->count_max = (unsigned int)min_u64(count_max - given, LIST_PAGE_COUNT);
		r = page_fetch(b, p);
		if (r < 0)
			return r;
		is_last = p->count < p->count_max;
		for (unsigned int i = 0; i < p->count; i++) {
			r = fn(arg, p->items[i].name, &p->items[i].object);
			if (r != 0)
				return r;
			given++;
		}
		if (p->count > 0) {
			const char *last = p->items[p->count - 1].name;

			memcpy(p->last, last, strlen(last) + 1);
			p->after = p->last;
		}
	}
	return (int)given;
}

int backend_list(struct backend *b, const char *prefix, const char *after, unsigned int count_max,
		 int (*fn)(void *arg, const char *name, const struct backend_object *object),
		 void *arg, struct err *e)
{
	struct page page = { .prefix = prefix, .after = after, .e = e };
	int r;

	/* No name is that long, so none starts with it or sorts behind it in an own way. */
	if (strlen(prefix) > BACKEND_NAME_BYTES_MAX)
		return 0;
	if (after && strlen(after) > BACKEND_NAME_BYTES_MAX)
		return err_set(e, -EINVAL, "list: 'after' is longer than a name can be");
	count_max = (unsigned int)min_u64(count_max, INT_MAX);
	page.items = calloc(LIST_PAGE_COUNT, sizeof(*page.items));
	if (!page.items)
		return err_set(e, -EAGAIN, "no memory for a listing");
	r = list_pages(b, &page, count_max, fn, arg);
	page_clear(&page);
	free(page.items);
	return r;
}

/* ---- open and close ------------------------------------------------------------------------ */

static int check_options(const struct backend_options *given, struct backend_options *ret_options,
			 struct err *e)
{
	struct backend_options o = *given;

	if (o.copy_mode != BACKEND_COPY_LINK && o.copy_mode != BACKEND_COPY_REFLINK &&
	    o.copy_mode != BACKEND_COPY_BYTES)
		return err_set(e, -EINVAL, "backend options: unknown copy mode");
	if (o.concurrency_max > ROUTER_CONCURRENCY_MAX)
		return err_set(e, -EINVAL, "backend options: concurrency above %u",
			       ROUTER_CONCURRENCY_MAX);
	if (o.concurrency_max == 0)
		o.concurrency_max = CONCURRENCY_DEFAULT;
	if (o.attempts_max == 0)
		o.attempts_max = ATTEMPTS_DEFAULT;
	if (o.timeout_ns == 0)
		o.timeout_ns = TIMEOUT_DEFAULT_NS;
	if (o.backoff_max_ns == 0)
		o.backoff_max_ns = max_u64(BACKOFF_MAX_DEFAULT_NS, o.backoff_first_ns);
	if (o.backoff_max_ns > INT64_MAX)
		return err_set(e, -EINVAL, "backend options: back-off too long");
	if (o.backoff_first_ns == 0)
		o.backoff_first_ns = min_u64(BACKOFF_FIRST_DEFAULT_NS, o.backoff_max_ns);
	if (o.backoff_first_ns > o.backoff_max_ns)
		return err_set(e, -EINVAL, "backend options: first back-off above the largest");
	*ret_options = o;
	return 0;
}

/* A copy without "user:password@". */
static char *url_without_secrets(const char *url)
{
	char *copy = strdup(url);
	char *host, *at = NULL;

	host = copy ? strstr(copy, "://") : NULL;
	if (!host)
		return copy;
	host += 3;
	for (char *p = host; *p != '\0' && *p != '/' && *p != '?'; p++) {
		if (*p == '@')
			at = p;
	}
	if (at)
		memmove(host, at + 1, strlen(at + 1) + 1);
	return copy;
}

int backend_open_over(struct env *env, struct store *store, const char *url,
		      const struct backend_options *options, struct backend **ret_backend,
		      struct err *e)
{
	static const struct backend_options defaults;
	struct backend *b = calloc(1, sizeof(*b));
	int r = b ? check_options(options ? options : &defaults, &b->options, e) : -ENOMEM;

	if (r == 0) {
		b->url = url_without_secrets(url);
		if (!b->url)
			r = -ENOMEM;
	}
	if (r < 0) {
		free(b);
		store->ops->close(store);
		return r == -ENOMEM ? err_because(e, r, "opening a backend") : r;
	}
	b->env = env;
	b->store = store;
	b->metrics_group = (struct metrics_group){ .name = "backend",
						   .defs = router_metric_defs,
						   .def_count = ARRAY_SIZE(router_metric_defs),
						   .values = &b->metrics };
	limiter_init(&b->limiter, b->options.concurrency_max);
	atomic_init(&b->delete_many_now, UINT_MAX / 2);
	*ret_backend = b;
	return 0;
}

void backend_close(struct backend *b)
{
	if (!b)
		return;
	limiter_done(&b->limiter); /* asserts that no call is under way */
	b->store->ops->close(b->store);
	free(b->url);
	free(b);
}

void backend_refuse_calls(struct backend *b, bool refuse)
{
	limiter_close(&b->limiter, refuse);
}

unsigned int backend_caps(const struct backend *b)
{
	return b->store->caps |
	       (router_many_now(b) > 0 ? (unsigned int)BACKEND_CAP_DELETE_MANY : 0);
}

const char *backend_url(const struct backend *b)
{
	return b->url;
}

struct metrics_group *backend_metrics(struct backend *b)
{
	return &b->metrics_group;
}

const struct router_metrics *router_metrics(const struct backend *b)
{
	return &b->metrics;
}

unsigned int router_waiting(struct backend *b)
{
	return limiter_waiting(&b->limiter);
}
