#include "tests/sim/steps_impl.h"

#include "backend/backend_impl.h"
#include "tests/sim/allocs.h"
#include "tests/sim/resolved.h"
#include "tests/sim/rows.h"

#include <errno.h>
#include <execinfo.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(st, member) (void)__atomic_add_fetch(&(st)->totals->member, 1, __ATOMIC_RELAXED)

/* At each n-th step the pool goes on and is looked at again before all of it is deleted. */
#define GO_ON_EVERY 5u

#define CALLS_MAX 24

#define DRAIN_ROUNDS 12u
#define DRAIN_NS     UINT64_C(300000000)

/* Ways to die at a step. */
enum death {
	DEATH_KILL,	  /* before it; what the metadata had not made durable of itself is gone */
	DEATH_KILL_IN,	  /* with part of it */
	DEATH_POWER,	  /* before it; nothing is left but what was synced */
	DEATH_POWER_SOME, /* with part of it; any part of what was not synced is left, torn */
	DEATHS
};

static const char *const death_names[DEATHS] = { "killed before", "killed in", "power cut before",
						 "power cut in" };

void steps_fail(struct steps *st, const char *what, int r, const struct err *e)
{
	if (st->args->only)
		sim_dump_trace(st->w->sim, stderr, 200);
	fprintf(stderr, "%s: step %" PRIu64 " (%s): %s: %d %s\n", st->script->name, st->step,
		st->where, what, r, e ? e->message : "");
	_exit(1);
}

/* --- processes --------------------------------------------------------------------------------- */

static void choose_options(struct steps *st)
{
	struct pool_options *o = &st->w->options;

	o->sco_bytes = 131072;
	o->ring_frame_bytes = 16384;
	o->ring_bytes = 4096 + o->ring_frame_bytes * 12;
	o->metadata_cache_bytes = 1048576;
	o->flush_interval_ns = UINT64_C(40000000);
	o->checkpoint_interval_ns = UINT64_C(150000000);
	o->upload_interval_ns = UINT64_C(300000000);
	o->clean_target_percent = 150;
	o->grace_time_ns = 1;
	o->cache[0].size_bytes = o->sco_bytes * (st->script->small ? 14 : 40);
	o->fetch_min_bytes = 16384;
	o->fetches_max = st->script->small ? 2 : 0;
	o->map_piece_bytes = 100;
	o->resolve_layers = 1;
	o->merge_rows_min = o->merge_ratio = st->script->held;
	o->packs = st->script->packs;
	o->shm_dir = "/dev/shm";
	o->cache_count = 1;
}

static int open_backend(struct steps *st, struct err *e)
{
	struct backend_options bo = { .attempts_max = 2,
				      .backoff_first_ns = 100000,
				      .timeout_ns = 1000000000 };
	struct world *w = st->w;
	struct store *below;
	int r = store_open(sim_env(w->sim), w->store_url, &bo, &below, e);

	if (r == 0)
		r = steps_store_open(w->sim, below, &below);
	if (r == 0)
		r = backend_open_over(sim_env(w->sim), below, w->store_url, &bo, &w->backend, e);
	if (r < 0 && !st->failing)
		steps_fail(st, "opening the backend", r, e);
	w->options.backend = w->backend;
	return r;
}

static void close_stores(struct steps *st)
{
	meta_close(st->w->options.meta);
	backend_close(st->w->backend);
}

static int open_pool(struct steps *st, struct err *e)
{
	struct world *w = st->w;
	int r = meta_mem_open(w->disk, &w->options.meta, e);

	if (r < 0)
		steps_fail(st, "metadata", r, e);
	r = open_backend(st, e);
	if (r < 0) {
		meta_close(w->options.meta);
		return r;
	}
	w->in_open = true;
	r = pool_open(sim_env(w->sim), &w->options, &w->pool, e);
	w->in_open = false;
	if (r < 0)
		close_stores(st);
	return r;
}

static void open_surely(struct steps *st)
{
	struct err e = { 0 };
	int r = open_pool(st, &e);

	if (r < 0)
		steps_fail(st, "open", r, &e);
}

/* What is at rest agrees with itself. */
static void close_pool(struct steps *st)
{
	struct world *w = st->w;
	struct err e = { 0 };
	int r = pool_close(w->pool, &e);

	if (r < 0)
		steps_fail(st, "close", r, &e);
	if (!rows_agree(sim_env(w->sim), w->options.meta, &w->options))
		steps_fail(st, "rows and files do not agree", 0, NULL);
	if (!resolved_agree(w->options.meta))
		steps_fail(st, "resolved pages and rows do not agree", 0, NULL);
	if (!maps_agree(w->backend, w->options.meta))
		steps_fail(st, "maps and rows do not agree", 0, NULL);
	if (!root_before_is_whole(w->backend, w->options.meta))
		steps_fail(st, "the root before the newest is not whole", 0, NULL);
}

static void make_pool(void *arg)
{
	struct steps *st = arg;
	struct err e = { 0 };
	int r = meta_mem_open(st->w->disk, &st->w->options.meta, &e);

	if (r < 0)
		steps_fail(st, "metadata", r, &e);
	r = open_backend(st, &e);
	if (r == 0)
		r = pool_create(sim_env(st->w->sim), &st->w->options, &e);
	if (r < 0)
		steps_fail(st, "create", r, &e);
	close_stores(st);
}

static void set_up(void *arg)
{
	struct steps *st = arg;

	open_surely(st);
	steps_do(st, st->script->setup);
	steps_close_disks(st);
	if (st->script->killed)
		sim_crash_now(st->w->sim, SIM_KILL);
	close_pool(st);
	close_stores(st);
}

/* --- steps ------------------------------------------------------------------------------------- */

/* In the child. It comes back where only a part of the step is to be done. */
static void die(struct steps *st, enum death death, bool is_call)
{
	struct sim *sim = st->w->sim;

	st->child = true;
	st->keeps_nothing = death == DEATH_KILL || death == DEATH_POWER;
	sim_set_power_bias(sim, death == DEATH_POWER ? 0 : SIM_PICK, SIM_PICK);
	for (uint64_t i = st->step % 31; i > 0; i--)
		(void)sim_rand(sim, 2); /* all else is others' luck */
	sim_watch(sim, NULL, NULL);
	if (death == DEATH_KILL || (death == DEATH_KILL_IN && !is_call))
		sim_crash_now(sim, SIM_KILL);
	if (death == DEATH_POWER || (death == DEATH_POWER_SOME && !is_call))
		sim_crash_now(sim, SIM_POWER);
	sim_crash_in_call(sim, death == DEATH_KILL_IN ? SIM_KILL : SIM_POWER);
}

/* The call that is asked for, or, of the store, so many that the router gives up. */
static void fail(struct steps *st, int error)
{
	st->child = st->failing = st->w->faulty = true;
	sim_watch(st->w->sim, NULL, NULL);
	sim_fail_at(st->w->sim, 1, st->step % 3 + 1, error);
}

static void await(struct steps *st, pid_t pid, const char *how)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		steps_fail(st, "a child", -errno, NULL);
	if (status == 0)
		return;
	printf("FAILED: %s: %s step %" PRIu64 " (%s), %s %d\n", st->script->name, how, st->step,
	       st->where, WIFSIGNALED(status) ? "signal" : "exit",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (st->args->fail_fast) {
		(void)fflush(stdout);
		_exit(1);
	}
	COUNT(st, bad);
}

static void note_step(struct steps *st, const char *op, const char *path)
{
	st->step++;
	(void)snprintf(st->where, sizeof(st->where), "%s %.60s", op, path);
}

static bool is_wanted(const struct steps *st)
{
	if (st->args->only)
		return st->step == st->args->only;
	return st->step % st->args->every == 0;
}

/* A kill and a power cut, in turn before the step and in it; or all of them. */
static bool dies_so(const struct steps *st, enum death death)
{
	bool in = death == DEATH_KILL_IN || death == DEATH_POWER_SOME;

	return st->args->all_deaths || st->args->only ||
	       in == (st->step % 2 == (death < DEATH_POWER));
}

/* For addr2line. */
static void show_calls(void)
{
	void *calls[CALLS_MAX];

	backtrace_symbols_fd(calls, backtrace(calls, CALLS_MAX), STDERR_FILENO);
}

static void cut_off(struct steps *st, const char *op, const char *path)
{
	bool is_call = *path != 0; /* of the env: it can be done in part */

	note_step(st, op, path);
	for (unsigned int death = 0; is_wanted(st) && death < DEATHS; death++) {
		pid_t pid;

		if (!dies_so(st, (enum death)death))
			continue;
		pid = fork();
		if (pid == 0) {
			die(st, (enum death)death, is_call);
			return;
		}
		await(st, pid, death_names[death]);
		if (death < DEATH_POWER)
			COUNT(st, kills);
		else
			COUNT(st, power_cuts);
	}
}

static void let_fail(struct steps *st, const char *op, const char *path, bool allocates)
{
	note_step(st, op, path);
	for (unsigned int i = 0; is_wanted(st) && i < (allocates ? 2u : 1u); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			fail(st, i ? -ENOSPC : -EIO);
			return;
		}
		await(st, pid, i ? "no space at" : "failed");
		COUNT(st, failed_calls);
	}
}

/* Later ones have the memory that they ask for. */
static bool let_allocation_fail(void *arg, const char *name, uint64_t from)
{
	struct steps *st = arg;
	char place[32];
	pid_t pid;

	(void)snprintf(place, sizeof(place), "at 0x%" PRIx64, from);
	note_step(st, name, place);
	if (!is_wanted(st))
		return false;
	pid = fork();
	if (pid == 0) {
		st->child = st->failing = true;
		allocs_watch(NULL, NULL);
		if (st->args->only)
			show_calls();
		return true;
	}
	await(st, pid, "failed");
	COUNT(st, failed_calls);
	return false;
}

static void see_moment(void *arg, enum sim_moment moment, const char *op, const char *path,
		       bool allocates)
{
	struct steps *st = arg;

	if (moment == SIM_EFFECT && !st->args->calls)
		cut_off(st, op, path);
	if (moment == SIM_FAILURE && st->args->calls)
		let_fail(st, op, path, allocates);
}

/* --- behind a death ---------------------------------------------------------------------------- */

static void tell_problem(void *arg, const struct pool_problem *p)
{
	(void)arg;
	fprintf(stderr,
		"check: %s: object %" PRIu64 " at %" PRIu64 "+%" PRIu64 ", SCO %" PRIu64
		" slot %u\n",
		p->what, p->object, p->offset_bytes, p->len_bytes, p->sco, p->slot);
}

static void check(struct steps *st)
{
	struct pool_check_options options = { .data = true, .problem = tell_problem };
	struct pool_check_result result;
	struct err e = { 0 };
	int r = pool_check(st->w->pool, &options, &result, &e);

	if (r < 0)
		steps_fail(st, "the check", r, &e);
	if (result.errors || result.warnings)
		steps_fail(st, "the check found something", (int)result.errors, NULL);
}

/* A cluster of each disk, synced: the pool serves. */
static void write_to_all(struct steps *st)
{
	struct action list[2 * STEPS_DISKS + 2];
	unsigned int count = 0;
	struct err e = { 0 };
	int r;

	for (unsigned int i = 0; i < STEPS_DISKS; i++) {
		const struct disk_picture *d = &st->pictures[0].disks[i];

		if (!d->there || d->template)
			continue;
		list[count++] = (struct action){ .kind = ACT_WRITE,
						 .disk = i,
						 .from = (unsigned int)(st->step % 20),
						 .count = 1 };
		list[count++] = (struct action){ .kind = ACT_SYNC, .disk = i };
	}
	list[count++] = (struct action){ .kind = ACT_UPLOAD };
	list[count] = (struct action){ .kind = ACT_END };
	r = steps_open_disks(st, &e);
	if (r < 0)
		steps_fail(st, "opening a disk", r, &e);
	steps_do(st, list);
	steps_close_disks(st);
}

static void look_back(struct steps *st)
{
	open_surely(st);
	steps_look(st, st->power_cut ? st->synced : st->acked);
	check(st);
}

static void look_and_go_on(void *arg)
{
	struct steps *st = arg;

	look_back(st);
	write_to_all(st);
	steps_look(st, st->acked);
	close_pool(st);
	close_stores(st);
}

static void empty(void *arg)
{
	struct steps *st = arg;
	struct action list[STEPS_DISKS * (STEPS_SNAPS + 1) + 4];
	unsigned int count = 0;

	look_back(st);
	for (unsigned int i = 0; i < STEPS_DISKS; i++) {
		const struct disk_picture *d = &st->pictures[0].disks[i];

		for (unsigned int j = 0; j < d->snap_count; j++)
			if (d->snaps[j].sticky)
				list[count++] = (struct action){ .kind = ACT_STICKY,
								 .disk = i,
								 .name = d->snaps[j].name };
		if (d->there)
			list[count++] = (struct action){ .kind = ACT_DELETE, .disk = i };
	}
	list[count++] = (struct action){ .kind = ACT_SETTLE, .count = 2 };
	list[count++] = (struct action){ .kind = ACT_SCRUB };
	list[count++] = (struct action){ .kind = ACT_UPLOAD };
	list[count] = (struct action){ .kind = ACT_END };
	steps_do(st, list);
	close_pool(st);
	steps_look_for_leaks(st);
	close_stores(st);
}

/* --- the process that is watched --------------------------------------------------------------- */

/* All is on the backend, or the pool says why not. */
static bool drains(struct steps *st, struct err *e)
{
	struct pool_status status = { 0 };
	int r = 0;

	for (unsigned int i = 0; i < DRAIN_ROUNDS; i++) {
		r = pool_sync_backend(st->w->pool, e);
		pool_status(st->w->pool, &status);
		if (r == 0 && status.state == POOL_OK && status.dirty_bytes == 0)
			return true;
		sim_sleep_ns(st->w->sim, DRAIN_NS);
	}
	if (r == 0 && !status.reason[0])
		steps_fail(st, "it does not drain, and does not say why",
			   (int)(status.dirty_bytes >> 10), NULL);
	if (r == 0)
		(void)err_set(e, -EIO, "%s", status.reason);
	return false;
}

/* Something failed in it: it shows what it did, goes on as far as it can, and dies. What said that it
 * failed may be there after that, whole. */
static void after_failure(struct steps *st, int r)
{
	struct err e = { 0 };

	if (r < 0)
		COUNT(st, failed_actions);
	sim_fail_at(st->w->sim, 0, 0, 0); /* what is left of them */
	(void)steps_see(st, st->acked);
	if (!drains(st, &e))
		COUNT(st, stuck);
	st->keeps_nothing = true;
	sim_set_power_bias(st->w->sim, 0, SIM_PICK);
	sim_crash_now(st->w->sim, st->step % 2 ? SIM_KILL : SIM_POWER);
}

static void say_no_memory(struct steps *st, int r, const struct err *e)
{
	if (r < 0)
		COUNT(st, failed_actions);
	if (r < 0 && r != -ENOMEM && !(r == -EAGAIN && strstr(e->message, "no memory")))
		steps_fail(st, "an allocation failed, and an action says something else", r, e);
}

/* There is memory again, and nothing else was ever wrong: all goes on. It dies, or is closed and has
 * freed everything. */
static void after_no_memory(struct steps *st, int r, struct err *e)
{
	say_no_memory(st, r, e);
	st->failing = false;
	(void)steps_see(st, st->acked);
	if (!drains(st, e))
		steps_fail(st, "it does not go on", 0, e);
	steps_look(st, st->acked);
	check(st);
	write_to_all(st);
	steps_look(st, st->acked);
	if (st->step % 3) {
		st->keeps_nothing = true;
		sim_set_power_bias(st->w->sim, 0, SIM_PICK);
		sim_crash_now(st->w->sim, st->step % 3 == 1 ? SIM_KILL : SIM_POWER);
	}
	close_pool(st);
	close_stores(st);
	if (allocs_left(st->mark))
		steps_fail(st, "memory that nobody has", 0, NULL);
}

static void open_again(struct steps *st, int r, const struct err *e)
{
	say_no_memory(st, r, e);
	if (allocs_left(st->mark))
		steps_fail(st, "the open left memory that nobody has", 0, NULL);
	st->failing = false;
	open_surely(st);
}

static void open_watched(struct steps *st)
{
	struct err e = { 0 };
	int r;

	st->mark = allocs_mark();
	if (!st->script->opening)
		open_surely(st);
	st->watching = true;
	if (st->args->allocations)
		allocs_watch(let_allocation_fail, st);
	else
		sim_watch(st->w->sim, see_moment, st);
	r = st->script->opening ? open_pool(st, &e) : 0;
	if (r < 0 && !st->failing)
		steps_fail(st, "open", r, &e);
	if (r < 0 && st->args->allocations) {
		open_again(st, r, &e);
	} else if (r < 0) {
		COUNT(st, failed_actions);
		sim_crash_now(st->w->sim, SIM_KILL);
	}
}

static void do_steps(void *arg)
{
	struct steps *st = arg;
	struct err e = { 0 };
	int r;

	open_watched(st);
	r = steps_open_disks(st, &e);
	if (r == 0)
		r = steps_act(st, st->script->steps, &e);
	steps_close_disks(st);
	if (st->child && st->args->allocations) {
		after_no_memory(st, r, &e);
		return;
	}
	if (st->child)
		after_failure(st, r);
	allocs_watch(NULL, NULL);
	sim_watch(st->w->sim, NULL, NULL);
	sim_crash_now(st->w->sim, SIM_KILL);
}

/* --- a script ---------------------------------------------------------------------------------- */

static uint64_t pick(void *arg, uint64_t n)
{
	struct steps *st = arg;

	return st->keeps_nothing ? 0 : sim_rand(st->w->sim, n + 1);
}

/* A process, and what its death leaves. */
static void run(struct steps *st, void (*fn)(void *arg))
{
	uint64_t cuts = sim_stats(st->w->sim)->power_cuts;

	meta_trouble_forget(&st->w->trouble);
	(void)sim_run(st->w->sim, fn, st);
	sim_fail_at(st->w->sim, 0, 0, 0);
	st->power_cut = sim_stats(st->w->sim)->power_cuts > cuts;
	if (st->power_cut)
		meta_mem_power_cut(st->w->disk, pick, st);
	else
		meta_mem_kill_some(st->w->disk, pick, st);
	memset(st->open, 0, sizeof(st->open));
	sim_crash_cancel(st->w->sim);
}

static void run_script(struct steps *st)
{
	struct world *w = world_new(st->args->seed, NULL, false);

	st->w = w;
	if (st->args->allocations)
		allocs_note();
	st->images[st->image_count++].bytes = calloc(1, 1);
	choose_options(st);
	run(st, make_pool);
	run(st, set_up);
	run(st, do_steps);
	st->watching = st->failing = w->faulty = false;
	if (st->step % GO_ON_EVERY == 0 || st->args->all_deaths || st->args->only)
		run(st, look_and_go_on);
	run(st, empty);
	if (st->child)
		_exit(0);
	(void)__atomic_add_fetch(&st->totals->steps, st->step, __ATOMIC_RELAXED);
	printf("%-40s %6" PRIu64 " steps\n", st->script->name, st->step);
}

/* --- all of them ------------------------------------------------------------------------------- */

static bool is_chosen(const struct script *s, const struct steps_args *args)
{
	return !args->script || strcmp(args->script, s->name) == 0;
}

static void start(const struct script *s, const struct steps_args *args,
		  struct steps_totals *totals)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct steps *st = calloc(1, sizeof(*st));

		ASSERT(st);
		st->script = s;
		st->args = args;
		st->totals = totals;
		run_script(st);
		_exit(0);
	}
	ASSERT(pid > 0);
}

static void reap(struct steps_totals *totals)
{
	int status;

	if (wait(&status) > 0 && status == 0)
		totals->scripts++;
	else
		totals->bad++;
}

bool steps_run(const struct steps_args *args)
{
	struct steps_totals *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int running = 0;

	ASSERT(t != MAP_FAILED);
	/* Thousands of children: pages that come and go are most of what they cost. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 26);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 28);
	for (const struct script *s = script_next(NULL); s; s = script_next(s)) {
		if (!is_chosen(s, args))
			continue;
		if (running == args->jobs) {
			reap(t);
			running--;
		}
		start(s, args, t);
		running++;
	}
	for (; running > 0; running--)
		reap(t);
	printf("%-24s %" PRIu64 "\n%-24s %" PRIu64 "\n", "scripts", t->scripts, "steps", t->steps);
	if (args->calls || args->allocations)
		printf("%-24s %" PRIu64 "\n%-24s %" PRIu64 "\n%-24s %" PRIu64 "\n",
		       args->calls ? "calls that failed" : "allocations that failed",
		       t->failed_calls, "actions that said so", t->failed_actions,
		       "wait for a new process", t->stuck);
	else
		printf("%-24s %" PRIu64 "\n%-24s %" PRIu64 "\n", "kills", t->kills, "power cuts",
		       t->power_cuts);
	printf("%" PRIu64 " passed, %" PRIu64 " failed, 0 skipped\n", t->scripts, t->bad);
	return t->bad == 0 && t->scripts > 0 && t->steps > 0;
}
