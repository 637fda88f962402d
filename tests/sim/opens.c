/* Opens whose calls fail, one after the other. */
#include "tests/sim/world_impl.h"

#include "backend/backend.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPENS_MORE 2u /* that may fail, too, behind the first */

/* An open that may fail, and how it goes on. */
static void try_to_open(void *arg)
{
	struct world *w = arg;
	struct err e = { 0 };
	int r = meta_mem_open(w->disk, &w->options.meta, &e);

	if (r < 0)
		world_fail(w, "metadata", r, &e);
	world_open_backend(w);
	w->in_open = true;
	r = pool_open(sim_env(w->sim), &w->options, &w->pool, &e);
	w->in_open = false;
	w->call_came = sim_fail_came(w->sim);
	if (r < 0 && !w->call_came)
		world_fail(w, "open", r, &e);
	if (r == 0) {
		sim_fail_at(w->sim, 0, 0, 0);
		meta_trouble_forget(&w->trouble);
		world_check_all(w);
	}
	TOTAL(w, opens, 1);
	TOTAL(w, opens_failed, r < 0);
	if (sim_rand(w->sim, 2))
		sim_crash_now(w->sim, sim_rand(w->sim, 3) ? SIM_KILL : SIM_POWER);
	if (r == 0 && pool_close(w->pool, &e) < 0)
		world_fail(w, "close", 0, &e);
	meta_close(w->options.meta);
	backend_close(w->backend);
}

/* In a child: the world is as it was for each. Whether the call came. */
static bool open_with_failure(struct world *w, uint64_t calls, int error)
{
	bool came;

	for (uint64_t i = calls % 31; i > 0; i--)
		(void)sim_rand(w->sim, 2); /* all else is others' luck */
	w->faulty = false;
	world_set_faults(w);
	sim_crash_cancel(w->sim);
	sim_fail_at(w->sim, calls, sim_rand(w->sim, 2) ? 1 : UINT64_MAX, error);
	world_run_to_its_end(w, try_to_open);
	came = w->call_came;
	for (unsigned int i = 0; i < OPENS_MORE && came; i++) {
		sim_fail_at(w->sim, 1 + sim_rand(w->sim, calls * 2), 1 + sim_rand(w->sim, 20),
			    sim_rand(w->sim, 2) ? -EIO : -ENOSPC);
		world_run_to_its_end(w, try_to_open);
	}
	sim_fail_at(w->sim, 0, 0, 0);
	w->process = PROCESSES - 1;
	w->brief = true;
	w->hasty = NULL;
	w->losing = false;
	if (came)
		world_run_process(w);
	return came;
}

/* Whether there may be a later one. */
static bool fork_open(struct world *w, uint64_t calls, int error)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(open_with_failure(w, calls, error) ? 0 : 2);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		world_fail(w, "a child", -errno, NULL);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 2))
		world_fail(w, "an open whose call fails", (int)calls, NULL);
	return WEXITSTATUS(status) == 0;
}

void world_run_opens(uint64_t seed, struct world_totals *totals, unsigned int calls_max)
{
	struct world *w = world_new(seed, totals, false);
	unsigned int before = 1 + (unsigned int)sim_rand(w->sim, PROCESSES - 2);
	uint64_t calls = 1;

	w->sync_fails = true; /* in an open, too */
	(void)sim_run(w->sim, world_make_pool, w);
	for (w->process = 0; w->process < before; w->process++)
		world_run_process(w);
	while ((calls_max == 0 || calls <= calls_max) && fork_open(w, calls, -EIO)) {
		(void)fork_open(w, calls, -ENOSPC); /* less of them may */
		calls++;
	}
}
