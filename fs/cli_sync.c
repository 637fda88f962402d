/* `vpool sync`: returns when all that was acknowledged is on the backend. */
#include "fs/query.h"

static int run_sync(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	int r;

	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t, json_pack("{s:s}", "verb", "sync"), QUERY_OFFLINE, &answer);
	if (r == CLI_DONE && c->json)
		r = cli_print_json(c, json_incref(answer));
	json_decref(answer);
	target_done(&t);
	return r;
}

const struct cli_verb cli_verb_sync = {
	.name = "sync",
	.args = "TARGET|FILE",
	.summary = "bring all that was acknowledged to the backend",
	.doc = "Returns when it is there and could be restored from there. fsync(2) of a file does "
	       "less: it makes data durable on this machine. Of a FILE its whole pool is synced.",
	.args_min = 1,
	.args_max = 1,
	.run = run_sync,
};
