/*
 * sim_power - the end of a process, the end of the power, and the machine's beginning.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <unistd.h>

#define TORN_PPM 150000u

/* Nearly nothing, half, nearly all or all of what was not synced gets through. */
static const uint32_t keep_habits[] = { 50000, 300000, 500000, 700000, 950000, 1000000 };

static struct inode **all_inodes(struct sim *sim, size_t *ret_count)
{
	size_t count = 0;
	struct inode **all;

	for (struct inode *i = sim->inodes; i; i = i->next)
		count++;
	all = sim_alloc((count + 1) * sizeof(struct inode *));
	count = 0;
	for (struct inode *i = sim->inodes; i; i = i->next)
		all[count++] = inode_ref(i);
	*ret_count = count;
	return all;
}

/* Follow the names from a root, counting links. */
static void reach(struct inode *dir)
{
	dir->reached = true;
	for (size_t i = 0; i < dir->cur.count; i++) {
		struct inode *child = dir->cur.entries[i].inode;

		child->links++;
		if (child->is_dir && !child->reached)
			reach(child);
		child->reached = true;
	}
}

/* The names that are on the medium are the names that there are. */
static void names_from_medium(struct sim *sim, struct inode **all, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct inode *inode = all[i];

		inode->links = 0;
		inode->reached = false;
		dir_clear(sim, &inode->cur);
		for (size_t k = 0; k < inode->dur.count; k++)
			dir_set(sim, &inode->cur, inode->dur.entries[k].name,
				inode->dur.entries[k].inode);
	}
	for (size_t i = 0; i < sim->device_count; i++) {
		sim->devices[i].used_blocks = 0;
		sim->devices[i].root->links = 1;
		reach(sim->devices[i].root);
	}
}

static void bytes_from_medium(struct sim *sim, struct inode *inode)
{
	if (inode->reached) {
		store_cur_from_dur(sim, inode);
		return;
	}
	dir_clear(sim, &inode->cur);
	dir_clear(sim, &inode->dur);
	if (inode->gone)
		return;
	if (!inode->is_dir && !(inode->dev->flags & SIM_DEV_TMPFS))
		sim->stats.files_lost++;
	/* The recount left it out; dropping it takes it off once more. */
	inode->dev->used_blocks += inode->blocks + 1;
	store_drop_cur(sim, inode);
}

static void new_boot(struct sim *sim)
{
	int64_t real_ns = (int64_t)sim->now_ns + sim->real_offset_ns;
	uint64_t off_ns = 1 + rng_below(&sim->rng_disk, UINT64_C(300000000000));

	sim->boot_number++;
	sim->now_ns = UINT64_C(2000000000) + rng_below(&sim->rng_disk, UINT64_C(30000000000));
	sim->real_offset_ns = real_ns + (int64_t)off_ns - (int64_t)sim->now_ns;
}

void power_cut(struct sim *sim)
{
	uint32_t keep_ppm = sim->keep_ppm;
	uint32_t torn_ppm = sim->torn_ppm == SIM_PICK ? TORN_PPM : sim->torn_ppm;
	struct inode **all;
	size_t count;

	if (sim->files)
		sim_fail(sim, "the harness holds '%s' open over a power cut", sim->files->path);
	if (keep_ppm == SIM_PICK)
		keep_ppm = keep_habits[rng_below(&sim->rng_disk, ARRAY_SIZE(keep_habits))];
	sim->stats.power_cuts++;
	ioq_power_cut(sim);
	all = all_inodes(sim, &count);
	for (size_t i = 0; i < count; i++)
		if (!(all[i]->dev->flags & SIM_DEV_TMPFS))
			store_power_cut(sim, all[i], keep_ppm, torn_ppm);
	names_power_cut(sim, keep_ppm);
	names_from_medium(sim, all, count);
	for (size_t i = 0; i < count; i++)
		bytes_from_medium(sim, all[i]);
	for (size_t i = 0; i < count; i++)
		inode_unref(sim, all[i]);
	free(all);
	new_boot(sim);
}

static void close_files(struct sim *sim, bool count_them)
{
	struct env_file *f = sim->files;

	while (f) {
		struct env_file *next = f->next;

		if (f->of_process) {
			sim->stats.handles_left_open += count_them;
			fs_close(sim, f);
		}
		f = next;
	}
}

void power_process_ends(struct sim *sim, enum sim_crash kind)
{
	if (kind == 0)
		for (size_t i = 0; i < sim->co_count; i++)
			sim->stats.threads_left += sim->cos[i]->state != CO_DONE;
	sim_drop_threads(sim);
	if (kind == SIM_POWER) {
		ioq_power_cut(sim);
	} else {
		sim->stats.kills += kind == SIM_KILL;
		ioq_process_killed(sim);
	}
	close_files(sim, kind == 0);
	for (struct inode *i = sim->inodes; i; i = i->next)
		store_move_map(i);
	if (kind == SIM_POWER)
		power_cut(sim);
}

/* ---- the machine ---------------------------------------------------------------------------- */

static void set_defaults(struct sim_opts *opts)
{
	if (opts->preempt_ppm == 0)
		opts->preempt_ppm = SIM_PICK;
	if (opts->spurious_ppm == 0)
		opts->spurious_ppm = 2000;
	if (opts->sleep_ppm == 0)
		opts->sleep_ppm = 250000;
	if (opts->io_latency_max_ns == 0)
		opts->io_latency_max_ns = 400000;
	if (opts->root_bytes == 0)
		opts->root_bytes = UINT64_C(1) << 30;
	if (opts->steps_max == 0)
		opts->steps_max = 200000000;
	if (opts->late_calls_max == 0)
		opts->late_calls_max = 400;
}

struct sim *sim_new(uint64_t seed, const struct sim_opts *opts)
{
	struct sim *sim = sim_alloc(sizeof(*sim));

	sim->seed = seed;
	if (opts)
		sim->opts = *opts;
	set_defaults(&sim->opts);
	rng_init(&sim->rng_sched, seed, 1);
	rng_init(&sim->rng_fault, seed, 2);
	rng_init(&sim->rng_disk, seed, 3);
	rng_init(&sim->rng_env, seed, 4);
	rng_init(&sim->rng_work, seed, 5);
	sim->env.ops = &sim_env_ops;
	sim->keep_ppm = SIM_PICK;
	sim->torn_ppm = SIM_PICK;
	sim->late_next_call = SIM_NEVER;
	sim->real_offset_ns = INT64_C(1700000000000000000);
	sim->uid = (uint32_t)geteuid();
	sim->trace = sim_alloc(SIM_TRACE_LINES * sizeof(*sim->trace));
	sim_sched_init(sim);
	new_boot(sim);
	sim_add_device(sim, "/", sim->opts.root_bytes, 0);
	return sim;
}

void sim_free(struct sim *sim)
{
	if (!sim)
		return;
	ioq_free(sim);
	fs_free(sim);
	pages_free_all(sim);
	sim_sched_done(sim);
	free(sim->trace);
	free(sim);
}

struct env *sim_env(struct sim *sim)
{
	return &sim->env;
}

uint64_t sim_seed(const struct sim *sim)
{
	return sim->seed;
}

const struct sim_stats *sim_stats(const struct sim *sim)
{
	return &sim->stats;
}

uint64_t sim_rand(struct sim *sim, uint64_t bound)
{
	return rng_below(&sim->rng_work, bound);
}

void sim_set_power_bias(struct sim *sim, uint32_t keep_ppm, uint32_t torn_ppm)
{
	sim->keep_ppm = keep_ppm;
	sim->torn_ppm = torn_ppm;
}

void sim_step_real_clock(struct sim *sim, int64_t delta_ns)
{
	sim->real_offset_ns += delta_ns;
}
