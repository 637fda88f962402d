/* `vpool backend check`: whether a pool can live on a store, what that can do, and how fast. */
#include "common/units.h"
#include "fs/cli.h"
#include "fs/json_out.h"
#include "volume/volume.h"

#include <stdlib.h>
#include <string.h>

#define SPEED_NS (2 * NS_PER_SEC)

static const char *const result_words[] = {
	[STORE_EXAM_OK] = "ok",
	[STORE_EXAM_ABSENT] = "absent",
	[STORE_EXAM_FAILED] = "failed",
};

/* One line as soon as it is known: a slow store takes its time. */
static void print_step(void *arg, const struct store_exam_step *s)
{
	const struct cli *c = arg;
	char took[CLI_SIZE_BYTES];

	if (c->json)
		return;
	(void)printf("%-16s%-8s%10s%s%s\n", s->name, result_words[s->result],
		     cli_seconds((double)s->took_ns / 1e9, took), s->detail[0] ? "  " : "",
		     s->detail);
	(void)fflush(stdout);
}

static void print_speed(const char *what, uint64_t bytes_per_s, uint64_t small_ns,
			unsigned int threads)
{
	char speed[CLI_SIZE_BYTES], small[CLI_SIZE_BYTES];

	(void)printf("%-16s%s/s by %u at a time; 4 KiB in %s\n", what, cli_size(bytes_per_s, speed),
		     threads, cli_seconds((double)small_ns / 1e9, small));
}

static unsigned int failures(const struct store_exam *x)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < x->count; i++)
		count += x->steps[i].result == STORE_EXAM_FAILED;
	return count;
}

static int print_words(const struct cli *c, const struct store_exam *x)
{
	if (x->put_bytes_per_s)
		print_speed("put", x->put_bytes_per_s, x->small_put_ns, x->threads);
	if (x->get_bytes_per_s)
		print_speed("get", x->get_bytes_per_s, x->small_get_ns, x->threads);
	if (x->count > 1) /* or nothing could be put at all */
		(void)printf("%-16s%s\n", "fencing", x->can_fence ? "prevents" : "detect only");
	return cli_finish_output(c);
}

static int print_document(const struct cli *c, const struct store_exam *x)
{
	json_t *steps = json_array(), *document;

	for (unsigned int i = 0; i < x->count && steps; i++) {
		const struct store_exam_step *s = &x->steps[i];

		if (json_array_append_new(steps, json_pack("{s:s, s:s, s:s, s:f}", "name", s->name,
							   "result", result_words[s->result],
							   "detail", s->detail, "seconds",
							   (double)s->took_ns / 1e9)) < 0) {
			json_decref(steps);
			steps = NULL;
		}
	}
	if (!steps)
		return cli_print_json(c, NULL);
	document = json_pack("{s:s, s:b, s:s, s:o}", "url", x->url, "usable", failures(x) == 0,
			     "fencing", x->can_fence ? "prevents" : "detect only", "steps", steps);
	if (x->tells_time)
		json_out_set(&document, "clock_ahead_seconds",
			     json_real((double)x->clock_ahead_ns / 1e9));
	if (x->get_bytes_per_s)
		json_out_set(&document, "speed",
			     json_pack("{s:i, s:I, s:I, s:f, s:f}", "threads", (int)x->threads,
				       "put_bytes_per_second", (json_int_t)x->put_bytes_per_s,
				       "get_bytes_per_second", (json_int_t)x->get_bytes_per_s,
				       "small_put_seconds", (double)x->small_put_ns / 1e9,
				       "small_get_seconds", (double)x->small_get_ns / 1e9));
	return cli_print_json(c, document);
}

static int run_backend(struct cli *c)
{
	struct store_exam_options o = { .speed_ns = SPEED_NS, .step = print_step, .arg = c };
	struct store_exam x;
	struct err e = { 0 };
	int r;

	if (strcmp(c->args[0], "check") != 0)
		return cli_fail(c, CLI_USAGE, NULL, "backend: '%s': expected check", c->args[0]);
	r = store_examine(env_posix(), c->args[1], &o, &x, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, "backend check");
	r = c->json ? print_document(c, &x) : print_words(c, &x);
	return r == CLI_DONE && failures(&x) ? CLI_FAILED : r;
}

const struct cli_verb cli_verb_backend = {
	.name = "backend",
	.args = "check URL",
	.summary = "try what a pool needs of a store, and how fast that is",
	.doc = "Puts, reads, lists and deletes objects whose names begin with check- and a random "
	       "number, some hundred MiB in all, and says of each step whether it is as a pool needs "
	       "it. Objects of others are not looked at. Fencing `detect only` means that the store "
	       "cannot keep a second daemon from writing, which then is noticed and stops. Secrets "
	       "never belong in the URL: see README.",
	.args_min = 2,
	.args_max = 2,
	.run = run_backend,
};
