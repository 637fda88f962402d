/* `vpool upgrade`: the program that runs this command takes a mount over from the one that serves it. */
#include "common/thread.h"
#include "common/units.h"
#include "fs/control.h"
#include "fs/json_out.h"
#include "fs/query.h"
#include "fs/target.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LOOK_TIMEOUT_MS 10000
#define LOOK_PAUSE_MS	20
#define TAKE_OVER_NS	(120 * NS_PER_SEC)

/* The worker that serves now, and its program; -EAGAIN: none answers. */
static int look(const char *pool_dir, uint64_t *ret_worker, char program[PATH_MAX])
{
	json_t *status = NULL;

	if (control_ask(pool_dir, json_pack("{s:s}", "verb", "status"), LOOK_TIMEOUT_MS, &status,
			NULL) < 0)
		return -EAGAIN;
	*ret_worker = cli_json_u64(status, "worker_pid");
	(void)snprintf(program, PATH_MAX, "%s", cli_json_string(status, "program"));
	json_decref(status);
	return *ret_worker ? 0 : -EAGAIN;
}

static int tell(const struct cli *c, uint64_t worker, const char *program)
{
	if (c->json)
		return cli_print_json(c, json_pack("{s:s, s:I}", "program", program, "worker_pid",
						   (json_int_t)worker));
	(void)printf("'%s' serves it now\n", program);
	return cli_finish_output(c);
}

static int wait_for_next(const struct cli *c, const char *pool_dir, uint64_t before,
			 const char *wanted)
{
	uint64_t deadline_ns = clock_mono_ns() + TAKE_OVER_NS, worker;
	char program[PATH_MAX];

	while (look(pool_dir, &worker, program) < 0 || worker == before) {
		if (clock_mono_ns() >= deadline_ns)
			return cli_fail(c, CLI_FAILED, "the log of the daemon tells more",
					"upgrade: the next daemon does not answer yet");
		(void)poll(NULL, 0, LOOK_PAUSE_MS);
	}
	if (strcmp(program, wanted) != 0)
		return cli_fail(c, CLI_FAILED, "the log of the daemon tells why",
				"upgrade: '%s' does not start, '%s' goes on", wanted, program);
	return tell(c, worker, program);
}

static int run_upgrade(struct cli *c)
{
	char program[PATH_MAX], before_program[PATH_MAX];
	struct target t = { 0 };
	json_t *answer = NULL;
	uint64_t before;
	ssize_t n;
	int r;

	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n < 0)
		return cli_fail(c, CLI_FAILED, NULL, "upgrade: which program this is: %s",
				err_name(-errno));
	program[n] = '\0';
	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	if (look(t.pool_dir, &before, before_program) < 0)
		r = cli_fail(c, CLI_NOT_FOUND, NULL, "upgrade: no daemon of '%s' answers",
			     t.pool_dir);
	else
		r = query_target(c, &t,
				 json_pack("{s:s, s:s}", "verb", "upgrade", "program", program), 0,
				 &answer);
	if (r == CLI_DONE)
		r = wait_for_next(c, t.pool_dir, before, program);
	json_decref(answer);
	target_done(&t);
	return r;
}

const struct cli_verb cli_verb_upgrade = {
	.name = "upgrade",
	.args = "TARGET",
	.summary = "have this program serve a mount, without unmounting",
	.doc = "The daemon ends, and the program of this very command takes its place; who uses the mount "
	       "waits meanwhile. Should it not start, the old one goes on. The process that holds the mount "
	       "stays, with its own program, until the next mount.",
	.args_min = 1,
	.args_max = 1,
	.run = run_upgrade,
};
