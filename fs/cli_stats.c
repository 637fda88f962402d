/* `vpool stats`: counters and latencies of the daemon. */
#include "fs/query.h"

#include <string.h>
#include <time.h>

static void print_numbers(const json_t *numbers, const json_t *before)
{
	const char *name;
	const json_t *value;
	void *at;

	for (at = json_object_iter(json_object_get(numbers, "counters")); at;
	     at = json_object_iter_next(json_object_get(numbers, "counters"), at)) {
		const json_t *old;

		name = json_object_iter_key(at);
		value = json_object_iter_value(at);
		old = json_object_get(json_object_get(before, "counters"), name);
		(void)printf("%-32s%20" JSON_INTEGER_FORMAT, name, json_integer_value(value));
		if (before)
			(void)printf("%+20" JSON_INTEGER_FORMAT "/s",
				     json_integer_value(value) - json_integer_value(old));
		(void)putchar('\n');
	}
	for (at = json_object_iter(json_object_get(numbers, "gauges")); at;
	     at = json_object_iter_next(json_object_get(numbers, "gauges"), at))
		(void)printf("%-32s%20" JSON_INTEGER_FORMAT "\n", json_object_iter_key(at),
			     json_integer_value(json_object_iter_value(at)));
}

static void print_histograms(json_t *histograms)
{
	const char *name;
	json_t *h;

	(void)printf("\n%-32s%12s%12s%12s%12s%12s\n", "TIMES", "COUNT", "P50", "P99", "P99.9",
		     "MAX");
	json_object_foreach(histograms, name, h)
	{
		static const char *const keys[] = { "p50", "p99", "p999", "max" };
		char text[CLI_SIZE_BYTES];

		(void)printf("%-32s%12" PRIu64, name, cli_json_u64(h, "count"));
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			(void)printf("%12s",
				     cli_seconds(json_real_value(json_object_get(h, keys[i])),
						 text));
		(void)putchar('\n');
	}
}

static int show(const struct cli *c, json_t *answer, const json_t *before)
{
	if (c->json)
		return cli_print_json(c, json_incref(answer));
	if (before)
		(void)printf("\033[H\033[2J"); /* home, clear: a page that renews itself */
	print_numbers(answer, before);
	print_histograms(json_object_get(answer, "histograms"));
	return cli_finish_output(c);
}

static int ask(const struct cli *c, const struct target *t, json_t **ret_answer)
{
	return query_target(c, t, json_pack("{s:s}", "verb", "stats"), 0, ret_answer);
}

/* Until the daemon ends, or the user. */
static int watch(const struct cli *c, const struct target *t, json_t *before)
{
	const struct timespec second = { .tv_sec = 1 };
	int r = CLI_DONE;

	while (r == CLI_DONE) {
		json_t *answer = NULL;

		(void)nanosleep(&second, NULL);
		r = ask(c, t, &answer);
		if (r == CLI_DONE)
			r = show(c, answer, before);
		json_decref(before);
		before = answer;
	}
	json_decref(before);
	return r;
}

static int run_stats(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	int r;

	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	r = ask(c, &t, &answer);
	if (r == CLI_DONE)
		r = show(c, answer, NULL);
	if (r == CLI_DONE && c->watch)
		r = watch(c, &t, answer);
	else
		json_decref(answer);
	target_done(&t);
	return r;
}

static const struct argp_option options[] = {
	{ "watch", CLI_KEY_WATCH, NULL, 0, "Again every second; with --json a document a line", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_stats = {
	.name = "stats",
	.args = "TARGET",
	.summary = "show counters and latencies of a mounted pool",
	.doc = "Counted since the mount. Times are upper bounds within 6 %.",
	.args_min = 1,
	.args_max = 1,
	.options = options,
	.run = run_stats,
};
