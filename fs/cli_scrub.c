/* `vpool scrub`: what is dead is given back now. */
#include "fs/cli_scrub.h"

#include "fs/query.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_AGAIN_NS 200000000

static void print_bytes(const char *what, const json_t *answer, const char *key)
{
	char size[CLI_SIZE_BYTES];

	(void)printf("%-14s%s\n", what, cli_size(cli_json_u64(answer, key), size));
}

/* "3 deleted, 2 moved ...", as far as it is; would: it was only looked. */
static int print_report(const struct cli *c, const json_t *answer)
{
	const char *would = c->dry_run ? "would be " : "";
	const char *trouble = cli_json_string(answer, "trouble");
	char size[CLI_SIZE_BYTES];

	if (!c->dry_run)
		(void)printf("%-14s%s\n", "state", cli_json_string(answer, "state"));
	(void)printf("%-14s%" PRIu64 " examined, %" PRIu64 " %sdeleted\n", "containers",
		     cli_json_u64(answer, "scos_examined"), cli_json_u64(answer, "scos_deleted"),
		     would);
	(void)printf("%-14s%s of %" PRIu64 " partly dead ones %smoved\n", "",
		     cli_size(cli_json_u64(answer, "moved_bytes"), size),
		     cli_json_u64(answer, "scos_shrunk"), would);
	print_bytes("flash freed", answer, "flash_bytes_freed");
	print_bytes("backend freed", answer, "backend_bytes_freed");
	(void)printf("%-14s%" PRIu64 " %sremoved, %" PRIu64 " too young\n", "orphans",
		     cli_json_u64(answer, "orphans_removed"), would,
		     cli_json_u64(answer, "orphans_spared"));
	if (trouble[0])
		(void)fprintf(stderr, "vpool: scrub: %s\n", trouble);
	return cli_finish_output(c);
}

void cli_print_scrub_status(const json_t *scrub)
{
	const char *state = cli_json_string(scrub, "state");
	char size[CLI_SIZE_BYTES], ended[CLI_TIME_BYTES];

	if (!state[0] || strcmp(state, "none") == 0)
		return;
	(void)printf("%-12s%s%s%s, %" PRIu64 " containers deleted, %s given back\n", "scrub", state,
		     json_is_true(json_object_get(scrub, "running")) ? "" : " ",
		     json_is_true(json_object_get(scrub, "running")) ?
			     "" :
			     cli_time(json_real_value(json_object_get(scrub, "ended")), ended),
		     cli_json_u64(scrub, "scos_deleted"),
		     cli_size(cli_json_u64(scrub, "bytes_freed"), size));
}

static void show_progress(const struct cli *c, const json_t *answer)
{
	char size[CLI_SIZE_BYTES];

	if (!c->json && isatty(STDERR_FILENO))
		(void)fprintf(stderr,
			      "\r%s: %" PRIu64 " deleted, %" PRIu64 " moved, %s given back ",
			      cli_json_string(answer, "state"),
			      cli_json_u64(answer, "scos_deleted"),
			      cli_json_u64(answer, "scos_shrunk"),
			      cli_size(cli_json_u64(answer, "bytes_freed"), size));
}

static json_t *request_of(const char *what)
{
	return json_pack("{s:s, s:s}", "verb", "scrub", "do", what);
}

/* Until the scrub is over. */
static int wait_for_end(const struct cli *c, const struct target *t, json_t **answer)
{
	const struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };
	int r = CLI_DONE;

	while (r == CLI_DONE && json_is_true(json_object_get(*answer, "running"))) {
		show_progress(c, *answer);
		(void)nanosleep(&pause, NULL);
		json_decref(*answer);
		*answer = NULL;
		r = query_target(c, t, request_of("status"), 0, answer);
	}
	if (!c->json && isatty(STDERR_FILENO))
		(void)fprintf(stderr, "\r\033[K");
	return r;
}

static int run_scrub(struct cli *c)
{
	const char *what = c->dry_run ? "look" : c->cancel ? "cancel" : "start";
	struct target t = { 0 };
	json_t *answer = NULL;
	int r;

	if (c->dry_run + c->cancel + c->wait > 1)
		return cli_fail(c, CLI_USAGE, "see 'vpool scrub --help'",
				"scrub: one of --dry-run, --wait and --cancel");
	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t, request_of(what), 0, &answer);
	if (r == CLI_DONE && c->wait)
		r = wait_for_end(c, &t, &answer);
	target_done(&t);
	if (r != CLI_DONE)
		return r;
	r = c->json ? cli_print_json(c, json_incref(answer)) : print_report(c, answer);
	/* What could be done was. */
	if (r == CLI_DONE && c->wait && cli_json_string(answer, "trouble")[0])
		r = CLI_PARTLY;
	json_decref(answer);
	return r;
}

static const struct argp_option scrub_options[] = {
	{ "dry-run", CLI_KEY_DRY_RUN, NULL, 0, "only tell what there is to do", 0 },
	{ "wait", CLI_KEY_WAIT, NULL, 0, "return when it is over", 0 },
	{ "cancel", CLI_KEY_CANCEL, NULL, 0, "end the one that runs", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_scrub = {
	.name = "scrub",
	.args = "TARGET",
	.summary = "give the space of what is dead back now, on flash and on the backend",
	.doc = "Containers without live data are deleted, what lives in those that are partly dead is "
	       "moved, small objects are packed again, and objects that nothing names are removed "
	       "once they are older than [backend] grace_time. The daemon does all this by itself "
	       "when there is enough of it ([cache] clean_target, scrub_hours); this does the rest. "
	       "It goes on in the background, at a quarter of the time while somebody reads or "
	       "writes; 'vpool status' tells how far it is. Cut off by --cancel, an unmount or a "
	       "crash it leaves what is done done.",
	.args_min = 1,
	.args_max = 1,
	.options = scrub_options,
	.run = run_scrub,
};
