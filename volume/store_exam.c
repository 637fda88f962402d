/*
 * store_exam - does to a store all that a pool does to it, and judges the answers: `vpool backend
 * check`. The speed is measured by store_exam_speed.c.
 */
#include "volume/store_exam.h"

#include "common/thread.h"
#include "common/units.h"

#include <stdlib.h>
#include <string.h>

#define LARGE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define THREADS_DEFAULT	    4u
#define SMALL_BYTES	    ((size_t)16 << 10)
#define MANY		    20u
/* Clocks that differ by less are in step. */
#define CLOCK_SLACK_NS ((int64_t)5 * 1000000000)

/* --- words --------------------------------------------------------------------------------------- */

static int say(struct store_exam_step *s, enum store_exam_result result, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static int say(struct store_exam_step *s, enum store_exam_result result, const char *fmt, ...)
{
	va_list ap;

	s->result = result;
	va_start(ap, fmt);
	(void)vsnprintf(s->detail, sizeof(s->detail), fmt, ap);
	va_end(ap);
	return result == STORE_EXAM_FAILED ? -EIO : 0;
}

int exam_failed(struct store_exam_step *s, const char *what, int code, const struct err *e)
{
	return say(s, STORE_EXAM_FAILED, "%s: %s", what,
		   e->message[0] ? e->message : err_name(code));
}

const char *exam_name(const struct exam *x, char out[EXAM_NAME_BYTES], const char *part)
{
	(void)snprintf(out, EXAM_NAME_BYTES, "%s/%s", x->prefix, part);
	return out;
}

int exam_put(struct exam *x, const char *part, const void *data, size_t len_bytes,
	     unsigned int flags, struct err *e)
{
	struct backend_source source = { .data = data, .len_bytes = len_bytes };
	struct backend_put_result result;
	char name[EXAM_NAME_BYTES];

	return backend_put(x->backend, exam_name(x, name, part), &source, flags, &result, e);
}

static int get(struct exam *x, const char *part, uint64_t offset_bytes, void *dst, size_t len_bytes,
	       struct err *e)
{
	char name[EXAM_NAME_BYTES];

	return backend_get(x->backend, exam_name(x, name, part), offset_bytes, dst, len_bytes, e);
}

/* The object holds exactly these bytes. */
static int must_be(struct exam *x, struct store_exam_step *s, const char *part, const void *want,
		   size_t len_bytes)
{
	struct err e = { 0 };
	char *got = malloc(len_bytes + 1);
	int r;

	if (!got)
		return -ENOMEM;
	r = get(x, part, 0, got, len_bytes, &e);
	if (r < 0)
		r = exam_failed(s, "get", r, &e);
	else if (memcmp(got, want, len_bytes) != 0)
		r = say(s, STORE_EXAM_FAILED, "other bytes come back than were put");
	free(got);
	return r;
}

/* --- steps --------------------------------------------------------------------------------------- */

static int step_put(struct exam *x, struct store_exam_step *s)
{
	struct err e = { 0 };
	int r = exam_put(x, "small", x->bytes, SMALL_BYTES, 0, &e);

	if (r < 0) {
		x->hopeless = true;
		return exam_failed(s, "put", r, &e);
	}
	return must_be(x, s, "small", x->bytes, SMALL_BYTES);
}

static int step_replace(struct exam *x, struct store_exam_step *s)
{
	struct err e = { 0 };
	int r = exam_put(x, "replaced", x->bytes, SMALL_BYTES, 0, &e);

	if (r == 0)
		r = exam_put(x, "replaced", x->bytes + 1, SMALL_BYTES / 2, 0, &e);
	if (r < 0)
		return exam_failed(s, "put", r, &e);
	return must_be(x, s, "replaced", x->bytes + 1, SMALL_BYTES / 2);
}

static int step_range(struct exam *x, struct store_exam_step *s)
{
	char got[1000];
	struct err e = { 0 };
	int r = get(x, "small", 4097, got, sizeof(got), &e);

	if (r < 0)
		return exam_failed(s, "get of a range", r, &e);
	if (memcmp(got, x->bytes + 4097, sizeof(got)) != 0)
		return say(s, STORE_EXAM_FAILED, "the range has other bytes than were put there");
	r = get(x, "small", SMALL_BYTES - 10, got, 20, NULL);
	if (r != -EUCLEAN)
		return say(s, STORE_EXAM_FAILED, "a range beyond the end: %s, not %s",
			   r < 0 ? err_name(r) : "bytes", err_name(-EUCLEAN));
	return 0;
}

static int step_missing(struct exam *x, struct store_exam_step *s)
{
	struct backend_object object;
	char name[EXAM_NAME_BYTES], byte;
	int r = get(x, "missing", 0, &byte, 1, NULL);
	int head = backend_head(x->backend, exam_name(x, name, "missing"), &object, NULL);

	if (r == -ENOENT && head == -ENOENT)
		return 0;
	return say(s, STORE_EXAM_FAILED, "an object that is not there: get says %s, head %s",
		   r < 0 ? err_name(r) : "bytes", head < 0 ? err_name(head) : "that it is");
}

static int step_large(struct exam *x, struct store_exam_step *s)
{
	uint64_t len_bytes = x->options.large_bytes;
	char name[EXAM_NAME_BYTES], got[4096], size[UNITS_TEXT_BYTES];
	struct backend_object object = { 0 };
	struct err e = { 0 };
	uint8_t *bytes = malloc(len_bytes);
	int r;

	if (!bytes)
		return -ENOMEM;
	for (uint64_t at = 0; at < len_bytes; at += sizeof(at))
		memcpy(bytes + at, &at, min_u64(sizeof(at), len_bytes - at));
	r = exam_put(x, "large", bytes, len_bytes, 0, &e);
	if (r == 0)
		r = backend_head(x->backend, exam_name(x, name, "large"), &object, &e);
	for (uint64_t i = 0; i < 8 && r == 0; i++) {
		uint64_t at = i * ((len_bytes - sizeof(got)) / 7);

		r = get(x, "large", at, got, sizeof(got), &e);
		if (r == 0 && memcmp(got, bytes + at, sizeof(got)) != 0)
			r = err_set(&e, -EBADMSG, "wrong bytes at %" PRIu64, at);
	}
	free(bytes);
	if (r < 0)
		return exam_failed(s, "large object", r, &e);
	if (object.len_bytes != len_bytes)
		return say(s, STORE_EXAM_FAILED, "of %s the store has %" PRIu64 " bytes",
			   size_format(len_bytes, size), object.len_bytes);
	return say(s, STORE_EXAM_OK, "%s", size_format(len_bytes, size));
}

/* As `backend.h` orders them: byte by byte. */
static const char *const ordered[] = { "list/A",   "list/B",  "list/a-b", "list/a.b", "list/a/b",
				       "list/a/c", "list/a0", "list/aa",  "list/b",   "list/~" };

struct listing {
	struct exam *x;
	unsigned int seen;
	bool wrong;
	char after[EXAM_NAME_BYTES];
};

static int see_name(void *arg, const char *name, const struct backend_object *object)
{
	struct listing *l = arg;
	char want[EXAM_NAME_BYTES];

	if (l->seen >= ARRAY_SIZE(ordered) || object->len_bytes != l->seen ||
	    strcmp(name, exam_name(l->x, want, ordered[l->seen])) != 0) {
		l->wrong = true;
		return 1;
	}
	(void)snprintf(l->after, sizeof(l->after), "%s", name);
	l->seen++;
	return 0;
}

static int step_list(struct exam *x, struct store_exam_step *s)
{
	struct listing l = { .x = x };
	char prefix[EXAM_NAME_BYTES];
	struct err e = { 0 };
	int r = 0;

	/* Last name first, so the order is the store's own; the length says which it is. */
	for (size_t i = ARRAY_SIZE(ordered); i-- > 0 && r == 0;)
		r = exam_put(x, ordered[i], x->bytes, i, 0, &e);
	if (r < 0)
		return exam_failed(s, "put", r, &e);
	(void)exam_name(x, prefix, "list/");
	do
		r = backend_list(x->backend, prefix, l.after[0] ? l.after : NULL, 3, see_name, &l,
				 &e);
	while (r == 3);
	if (r < 0)
		return exam_failed(s, "list", r, &e);
	if (l.wrong || l.seen != ARRAY_SIZE(ordered))
		return say(s, STORE_EXAM_FAILED,
			   "names put just now come in another order, or not all of them");
	return 0;
}

static int step_delete(struct exam *x, struct store_exam_step *s)
{
	char name[EXAM_NAME_BYTES], byte;
	struct err e = { 0 };
	int r;

	(void)exam_name(x, name, "replaced");
	r = backend_delete(x->backend, name, &e);
	if (r == 0)
		r = backend_delete(x->backend, name, &e);
	if (r < 0)
		return exam_failed(s, "delete", r, &e);
	r = get(x, "replaced", 0, &byte, 1, NULL);
	if (r != -ENOENT)
		return say(s, STORE_EXAM_FAILED, "what was deleted can still be read");
	return 0;
}

/* Names that are there, and one that is not. */
static int step_delete_many(struct exam *x, struct store_exam_step *s)
{
	char names[MANY + 1][EXAM_NAME_BYTES], part[EXAM_NAME_BYTES], byte;
	const char *list[MANY + 1];
	struct err e = { 0 };
	int r = 0;

	for (unsigned int i = 0; i <= MANY && r == 0; i++) {
		(void)snprintf(part, sizeof(part), "many/%u", i);
		list[i] = exam_name(x, names[i], part);
		r = i < MANY ? exam_put(x, part, x->bytes, 1, 0, &e) : 0;
	}
	if (r < 0)
		return exam_failed(s, "put", r, &e);
	r = backend_delete_many(x->backend, list, MANY + 1, NULL, &e);
	if (r < 0)
		return exam_failed(s, "delete of many", r, &e);
	for (unsigned int i = 0; i < MANY; i++)
		if (backend_get(x->backend, names[i], 0, &byte, 1, NULL) != -ENOENT)
			return say(s, STORE_EXAM_FAILED, "what was deleted can still be read");
	if (backend_caps(x->backend) & BACKEND_CAP_DELETE_MANY)
		return say(s, STORE_EXAM_OK, "%u names in one request", MANY + 1);
	return say(s, STORE_EXAM_ABSENT, "the store has no delete of many: each takes a request");
}

static int step_claim(struct exam *x, struct store_exam_step *s)
{
	struct err e = { 0 };
	int r;

	if (!(backend_caps(x->backend) & BACKEND_CAP_PUT_IF_ABSENT))
		return say(s, STORE_EXAM_ABSENT,
			   "the store has no conditional put: a second daemon is noticed, "
			   "not kept out");
	r = exam_put(x, "claim", x->bytes, 100, BACKEND_PUT_IF_ABSENT, &e);
	if (r < 0)
		return exam_failed(s, "put if absent", r, &e);
	r = exam_put(x, "claim", x->bytes + 1, 100, BACKEND_PUT_IF_ABSENT, &e);
	if (r != -EEXIST)
		return say(s, STORE_EXAM_FAILED, "a second put of a name that is taken: %s",
			   r < 0 ? err_name(r) : "accepted");
	r = must_be(x, s, "claim", x->bytes, 100);
	x->result->can_fence = r == 0;
	return r;
}

static int step_clock(struct exam *x, struct store_exam_step *s)
{
	int64_t before_ns = env_now_real_ns(x->env), ahead_ns;
	struct backend_object object = { 0 };
	char name[EXAM_NAME_BYTES];
	struct err e = { 0 };
	int r = exam_put(x, "clock", x->bytes, 1, 0, &e);

	if (r == 0)
		r = backend_head(x->backend, exam_name(x, name, "clock"), &object, &e);
	if (r < 0)
		return exam_failed(s, "head", r, &e);
	if (object.modified_ns == 0)
		return say(s, STORE_EXAM_ABSENT, "the store does not say when an object was put");
	ahead_ns = object.modified_ns - before_ns;
	x->result->tells_time = true;
	x->result->clock_ahead_ns = ahead_ns;
	if (ahead_ns > -CLOCK_SLACK_NS && ahead_ns < CLOCK_SLACK_NS)
		return 0;
	return say(s, STORE_EXAM_OK, "the store's clock is %.0f seconds %s: set one of the clocks",
		   (double)(ahead_ns < 0 ? -ahead_ns : ahead_ns) / 1e9,
		   ahead_ns < 0 ? "behind" : "ahead");
}

/* --- all of it ----------------------------------------------------------------------------------- */

static int forget_one(void *arg, const char *name, const struct backend_object *object)
{
	struct exam *x = arg;

	(void)object;
	return backend_delete(x->backend, name, x->cleaning);
}

static int step_clean(struct exam *x, struct store_exam_step *s)
{
	struct err e = { 0 };
	char prefix[EXAM_NAME_BYTES];
	int r;

	x->cleaning = &e;
	(void)exam_name(x, prefix, "");
	do
		r = backend_list(x->backend, prefix, NULL, 1000, forget_one, x, &e);
	while (r > 0);
	return r < 0 ? exam_failed(s, "deleting what was put", r, &e) : 0;
}

static const struct {
	const char *name;
	int (*run)(struct exam *x, struct store_exam_step *s);
} steps[] = {
	{ "put and get", step_put },	 { "replace", step_replace },
	{ "range", step_range },	 { "missing object", step_missing },
	{ "large object", step_large },	 { "list in order", step_list },
	{ "delete", step_delete },	 { "delete many", step_delete_many },
	{ "put if absent", step_claim }, { "clock", step_clock },
	{ "speed", exam_speed },	 { "clean up", step_clean },
};
STATIC_ASSERT(ARRAY_SIZE(steps) <= STORE_EXAM_STEPS_MAX, "each step has a place");

static int run_step(struct exam *x, size_t i)
{
	struct store_exam_step *s = &x->result->steps[x->result->count];
	uint64_t start_ns = clock_mono_ns();
	int r;

	if (steps[i].run == exam_speed && x->options.speed_ns == 0)
		return 0;
	*s = (struct store_exam_step){ .name = steps[i].name };
	r = steps[i].run(x, s);
	if (r == -ENOMEM)
		return r;
	s->took_ns = clock_mono_ns() - start_ns;
	x->result->count++;
	if (x->options.step)
		x->options.step(x->options.arg, s);
	return 0;
}

int store_exam_run(struct backend *b, struct env *env, const struct store_exam_options *options,
		   struct store_exam *ret_exam, struct err *e)
{
	struct exam x = { .backend = b, .env = env, .options = *options, .result = ret_exam };
	uint64_t number;
	int r = 0;

	*ret_exam = (struct store_exam){ 0 };
	(void)snprintf(ret_exam->url, sizeof(ret_exam->url), "%s", backend_url(b));
	if (!x.options.large_bytes)
		x.options.large_bytes = LARGE_BYTES_DEFAULT;
	if (!x.options.threads)
		x.options.threads = THREADS_DEFAULT;
	env_random(env, &number, sizeof(number));
	(void)snprintf(x.prefix, sizeof(x.prefix), "check-%016" PRIx64, number);
	x.bytes = malloc(SMALL_BYTES + 1);
	if (!x.bytes)
		return err_set(e, -ENOMEM, "examining a store");
	env_random(env, x.bytes, SMALL_BYTES + 1);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0 && !x.hopeless; i++)
		r = run_step(&x, i);
	free(x.bytes);
	return r < 0 ? err_because(e, r, "examining a store") : 0;
}

int store_examine(struct env *env, const char *url, const struct store_exam_options *options,
		  struct store_exam *ret_exam, struct err *e)
{
	struct backend *b;
	int r = backend_open(env, url, NULL, &b, e);

	if (r < 0)
		return r;
	r = store_exam_run(b, env, options, ret_exam, e);
	backend_close(b);
	return r;
}
