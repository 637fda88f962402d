/* store_exam_speed - how fast a store puts and gets, by several callers, and how soon it answers one. */
#include "volume/store_exam.h"

#include "common/thread.h"
#include "common/units.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES ((size_t)4 << 20) /* like SCOs, only sooner done */
#define SMALL_BYTES ((size_t)4096)
#define SMALL_TIMES 21u
#define THREADS_MAX 64u

struct runner {
	struct exam *x;
	unsigned int number;
	bool gets;
	uint8_t *bytes; /* PIECE_BYTES */
	uint64_t until_ns;
	uint64_t done_bytes;
	struct thread *thread;
	int result;
	struct err error;
};

static void run(void *arg)
{
	struct runner *r = arg;
	char part[32], name[EXAM_NAME_BYTES];

	(void)snprintf(part, sizeof(part), "speed/%u", r->number);
	(void)exam_name(r->x, name, part);
	do {
		r->result = r->gets ? backend_get(r->x->backend, name, 0, r->bytes, PIECE_BYTES,
						  &r->error) :
				      exam_put(r->x, part, r->bytes, PIECE_BYTES, 0, &r->error);
		r->done_bytes += PIECE_BYTES;
	} while (r->result == 0 && clock_mono_ns() < r->until_ns);
}

/* All runners at once; bytes a second. */
static int measure(struct exam *x, struct runner *runners, bool gets, uint64_t *ret_speed,
		   struct err *e)
{
	uint64_t start_ns = clock_mono_ns(), done_bytes = 0, took_ns;
	int r = 0;

	for (unsigned int i = 0; i < x->options.threads && r == 0; i++) {
		runners[i].gets = gets;
		runners[i].done_bytes = 0;
		runners[i].until_ns = start_ns + x->options.speed_ns;
		r = thread_start("exam", run, &runners[i], &runners[i].thread);
		if (r < 0)
			err_because(e, r, "starting a thread");
	}
	for (unsigned int i = 0; i < x->options.threads && runners[i].thread; i++) {
		thread_join(TAKE_PTR(runners[i].thread));
		done_bytes += runners[i].done_bytes;
		if (runners[i].result < 0 && r == 0)
			r = err_set(e, runners[i].result, "%s", runners[i].error.message);
	}
	took_ns = max_u64(clock_mono_ns() - start_ns, 1);
	*ret_speed = (uint64_t)((double)done_bytes * 1e9 / (double)took_ns);
	return r;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int measure_small(struct exam *x, bool gets, uint64_t *ret_median_ns, struct err *e)
{
	uint64_t took_ns[SMALL_TIMES];
	char name[EXAM_NAME_BYTES], bytes[SMALL_BYTES];

	(void)exam_name(x, name, "speed/0");
	memset(bytes, 1, sizeof(bytes));
	for (unsigned int i = 0; i < SMALL_TIMES; i++) {
		uint64_t start_ns = clock_mono_ns();
		int r = gets ? backend_get(x->backend, name, i * UINT64_C(65536), bytes,
					   sizeof(bytes), e) :
			       exam_put(x, "speed/small", bytes, sizeof(bytes), 0, e);

		if (r < 0)
			return r;
		took_ns[i] = clock_mono_ns() - start_ns;
	}
	qsort(took_ns, SMALL_TIMES, sizeof(took_ns[0]), by_value);
	*ret_median_ns = took_ns[SMALL_TIMES / 2];
	return 0;
}

static int measure_all(struct exam *x, struct runner *runners, struct err *e)
{
	struct store_exam *result = x->result;
	int r = measure(x, runners, false, &result->put_bytes_per_s, e);

	if (r == 0)
		r = measure(x, runners, true, &result->get_bytes_per_s, e);
	if (r == 0)
		r = measure_small(x, false, &result->small_put_ns, e);
	if (r == 0)
		r = measure_small(x, true, &result->small_get_ns, e);
	result->threads = x->options.threads;
	return r;
}

int exam_speed(struct exam *x, struct store_exam_step *s)
{
	struct runner *runners;
	struct err e = { 0 };
	int r = 0;

	x->options.threads = (unsigned int)min_u64(x->options.threads, THREADS_MAX);
	runners = calloc(x->options.threads, sizeof(*runners));
	if (!runners)
		return -ENOMEM;
	for (unsigned int i = 0; i < x->options.threads && r == 0; i++) {
		runners[i] = (struct runner){ .x = x, .number = i, .bytes = malloc(PIECE_BYTES) };
		if (runners[i].bytes)
			env_random(x->env, runners[i].bytes, PIECE_BYTES);
		else
			r = -ENOMEM;
	}
	if (r == 0)
		r = measure_all(x, runners, &e);
	for (unsigned int i = 0; i < x->options.threads; i++)
		free(runners[i].bytes);
	free(runners);
	return r < 0 && r != -ENOMEM ? exam_failed(s, "measuring", r, &e) : r;
}
