/*
 * sim - a machine in one thread: scheduler, clock, disks, faults and sudden death from one seed.
 *
 * A sim implements `struct sched` (common/thread.h) and `struct env` (common/env.h). Threads of the
 * code under test become coroutines; which of them runs next, how long a write takes, which write
 * fails and what a power cut leaves on the disk are all drawn from the seed. Same seed, same run:
 * nothing depends on addresses, real time or uninitialised memory.
 *
 *	static void process(void *arg)			 // the main thread of one process
 *	{
 *		struct test *t = arg;			 // ordinary memory: outlives the process
 *		struct thread *client;
 *
 *		engine_open(sim_env(t->sim), "/pool", &t->engine);
 *		for (int i = 0; i < 300; i++) {
 *			sim_note(t->sim, "write %d", i);  // shows in the trace
 *			engine_write(...);		  // may never return: see sim_crash_at
 *			model_acked(t, i);
 *		}
 *		engine_close(t->engine);
 *	}
 *
 *	int one_seed(uint64_t seed)
 *	{
 *		struct sim *sim = sim_new(seed, NULL);
 *
 *		sim_add_device(sim, "/pool", 256 << 20, 0);
 *		sim_add_device(sim, "/dev/shm", 64 << 20, SIM_DEV_TMPFS);
 *		sim_set_faults(sim, &(struct sim_faults){ .path_prefix = "/pool/cache",
 *							  .eio_write_ppm = 500 });
 *		do {
 *			sim_crash_at(sim, 1 + sim_rand(sim, 2000),
 *				     sim_rand(sim, 2) ? SIM_POWER : SIM_KILL);
 *			r = sim_run(sim, process, &t);	   // each call is one process
 *		} while (r == SIM_CRASHED && ++crashes < 5);
 *		sim_free(sim);
 *	}
 *
 * A crash abandons the process's coroutines where they stand; what they had on the heap leaks. A
 * runner of many seeds forks a child for every few dozen of them, which gives that memory back.
 *
 * Outside sim_run() (and so in the gaps between processes) the env may be used to look at the disk
 * or to prepare it: there are no faults, delays, crashes and preemptions then, and fdatasync and
 * sync_dir work as always. thread.h is the real thing then: don't touch a dead process's locks.
 *
 * What is found by itself: a deadlock or a wait that nothing ends, unaligned use of ENV_DIRECT
 * (-EINVAL), a buffer changed while its write is in flight, a lock left held by a finished thread,
 * stack overflow, pointers kept in shared memory (it moves from process to process); with
 * ranks_checked a lock out of rank; in sim_stats descriptors and threads left at exit.
 *
 * Not modelled: symbolic links, permissions, EMFILE; cond_signal wakes all waiters, since struct
 * sched does not tell it from a broadcast; a thread is never stopped between two plain memory
 * accesses, only at calls.
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "common/env.h"
#include "common/thread.h"

#include <stdio.h>

struct sim;

/* "Draw it from the seed": each seed gets its own habit, so the set of seeds covers them all. */
#define SIM_PICK UINT32_MAX

struct sim_opts {		    /* 0 is the default; a chance of 1 ppm is practically none */
	uint32_t preempt_ppm;	    /* chance to switch at each call; default SIM_PICK */
	uint32_t spurious_ppm;	    /* chance that cond_wait returns for no reason; 2,000 */
	uint32_t sleep_ppm;	    /* chance that an I/O call takes its time; 250,000 */
	uint64_t io_latency_max_ns; /* 400,000 */
	uint64_t root_bytes;	    /* size of the device "/"; 1 GiB */
	uint64_t steps_max;	    /* more scheduler steps in one sim_run: "no progress"; 200 M */
	/* Asked then: true kills the process instead, as whoever runs it would; NULL: never. */
	bool (*waits_for_a_start)(void *arg);
	void *arg;
	uint32_t stack_bytes;	 /* of a coroutine; 256 KiB (1 MiB when sanitized) */
	uint32_t late_calls_max; /* late writes land within that many env calls; 400 */
	bool full_hash;		 /* the fingerprint covers every byte read and written */
	bool ranks_checked;	 /* abort on a lock out of rank (trylock counts as lock) */
	bool leaks_checked;	 /* let LeakSanitizer see what is allocated in sim_run */
};

enum sim_device_flags {
	SIM_DEV_TMPFS = 1 << 0,	  /* survives SIM_KILL, vanishes at SIM_POWER; no O_DIRECT rules */
	SIM_DEV_REFLINK = 1 << 1, /* has FICLONE (clones are charged in full) */
};

enum sim_crash {
	SIM_KILL = 1, /* SIGKILL: page cache stays, writes in flight may land in the next process */
	SIM_POWER = 2, /* power cut: what was not synced is kept, dropped or torn, piece by piece */
};

enum sim_result {
	SIM_DONE = 0,	 /* fn returned */
	SIM_CRASHED = 1, /* the process died as ordered */
};

/*
 * Rates in parts per million of the calls they concern; 0 is never. A prefix limits them to paths
 * that begin with it (a file counts by the path under which it was opened; NULL is everything).
 */
struct sim_faults {
	const char *path_prefix; /* borrowed until the next sim_set_faults */
	uint32_t eio_read_ppm;
	uint32_t eio_write_ppm; /* pwrite, queued writes, fallocate, punch, truncate, copies */
	uint32_t eio_sync_ppm;	/* fdatasync, sync_dir */
	uint32_t eio_name_ppm;	/* open with ENV_CREATE, link, rename, unlink, mkdir, rmdir */
	uint32_t enospc_ppm;	/* what may allocate */
	uint32_t delay_ppm;	/* any call with a path or file takes up to delay_max_ns longer */
	uint64_t delay_max_ns;
	uint32_t spawn_ppm;    /* thread_start says -EAGAIN; no path */
	uint32_t flip_ppm;     /* one bit of what pread returns, not of what is stored */
	uint32_t lie_data_ppm; /* fdatasync says 0 and does nothing: proves that a test can fail */
	uint32_t lie_dir_ppm;  /* the same for sync_dir */
};

/* Only ever rise, over the life of the sim. */
struct sim_stats {
	uint64_t steps, env_calls, effect_calls, switches;
	uint64_t runs, kills, power_cuts;
	uint64_t crashes_inside_call; /* the call at which it died took partial effect */
	/* unsynced effects at power cuts */
	uint64_t fx_kept, fx_dropped, fx_torn, fx_reordered;
	uint64_t names_kept, names_dropped, files_lost;
	/* writes that were in flight when a process was killed */
	uint64_t inflight_at_crash, late_landed, late_lost;
	uint64_t eio, eio_sync, enospc_full, enospc_injected, delays, flips, lies;
	uint64_t pages_evicted_after_eio; /* reads that went back to the old bytes */
	uint64_t spurious_wakeups;
	uint64_t handles_left_open,
		threads_left; /* when fn returned: bugs of the code under test */
	uint64_t threads_started;
};

/*
 * A new machine: one device "/", empty, booted, no process.
 * Owns: returned, freed with sim_free(). opts may be NULL; a field that is 0 takes its default.
 */
struct sim *sim_new(uint64_t seed, const struct sim_opts *opts);
void sim_free(struct sim *sim);

/* The env to hand to the code under test, valid as long as the sim. */
struct env *sim_env(struct sim *sim);

/* Mount an empty device at an absolute path (no directory has to be there). */
void sim_add_device(struct sim *sim, const char *path, uint64_t size_bytes, unsigned int flags);
/* Grow or shrink it; below what is used, free space is 0 until enough is freed. */
void sim_set_device_bytes(struct sim *sim, const char *path, uint64_t size_bytes);

/*
 * Run fn(arg) as the main thread of a new process until it returns or the process crashes. Threads
 * that are left then are abandoned, descriptors closed, locks of files released.
 * Aborts (report, trace and seed on stderr) when nothing can run any more.
 */
enum sim_result sim_run(struct sim *sim, void (*fn)(void *arg), void *arg);

/*
 * Die at the n-th env call with an effect from now (n >= 1): before it, after it, or with part of
 * its effect. Counted over processes until it fires; the last order given is the one in force.
 */
void sim_crash_at(struct sim *sim, uint64_t effect_calls, enum sim_crash kind);
/* The same in scheduler steps (any env call, lock, unlock, wake): between stores to shared memory. */
void sim_crash_at_step(struct sim *sim, uint64_t steps, enum sim_crash kind);
/* At the next env call with an effect, with part of that. */
void sim_crash_in_call(struct sim *sim, enum sim_crash kind);
void sim_crash_cancel(struct sim *sim);
/* At once. Inside sim_run it does not return; outside it is a power cut (or nothing) when idle. */
void sim_crash_now(struct sim *sim, enum sim_crash kind);

/* Replace all rates; NULL: no faults. */
void sim_set_faults(struct sim *sim, const struct sim_faults *faults);
/*
 * The n-th call from now fails, and the count - 1 behind it: any call of the env that may fail, and
 * any sim_call_fails(). error -ENOSPC: of those that may allocate. calls 0: none.
 */
void sim_fail_at(struct sim *sim, uint64_t calls, uint64_t count, int error);
/* For what is below the code under test and no env: 0, or the error by order. op is a constant. */
int sim_call_fails(struct sim *sim, const char *op, bool allocates);
/* Likewise: it is about to do what outlives the process. */
void sim_effect(struct sim *sim, const char *op);
/* Whether the n-th call came. */
bool sim_fail_came(const struct sim *sim);
enum sim_moment {
	SIM_EFFECT, /* what outlives the process is about to happen: sim_crash_in_call() is this one */
	SIM_FAILURE, /* a call may fail: sim_fail_at(sim, 1, ...) is this one */
};
/*
 * Have fn told of each such moment of a process, in its thread. It may fork, order a crash or a
 * failure, or crash the process at once. allocates: SIM_FAILURE of a call that may find the disk full.
 * fn NULL: nobody.
 */
void sim_watch(struct sim *sim,
	       void (*fn)(void *arg, enum sim_moment moment, const char *op, const char *path,
			  bool allocates),
	       void *arg);
/* Chances of an unsynced effect at power cuts; SIM_PICK (the default): drawn at each cut. */
void sim_set_power_bias(struct sim *sim, uint32_t keep_ppm, uint32_t torn_ppm);
/* Damage what is stored (cache and medium): invert the bits of mask in one byte. 0 or -ENOENT... */
int sim_flip(struct sim *sim, const char *path, uint64_t offset_bytes, uint8_t mask);
/* Step the real-time clock, as an administrator or NTP would. */
void sim_step_real_clock(struct sim *sim, int64_t delta_ns);

/* For the workload: dice of its own (0 .. bound-1), and waiting in virtual time (inside sim_run). */
uint64_t sim_rand(struct sim *sim, uint64_t bound);
void sim_yield(struct sim *sim);
void sim_sleep_ns(struct sim *sim, uint64_t ns);
uint64_t sim_now_ns(struct sim *sim);
/* Whether the caller is a thread of a simulated process. */
bool sim_inside(const struct sim *sim);

const struct sim_stats *sim_stats(const struct sim *sim);
uint64_t sim_seed(const struct sim *sim);
/* A hash of all calls, their arguments and results, and the order of the threads so far. */
uint64_t sim_fingerprint(const struct sim *sim);

/* Put a line of the workload into the trace (cut at 47 bytes) and the fingerprint. */
void sim_note(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The last env calls, oldest first, at most lines of them (0: all 4,096 that are kept). */
void sim_dump_trace(const struct sim *sim, FILE *out, unsigned int lines);
/* Threads, what they wait for, open files, clock. */
void sim_dump_threads(const struct sim *sim, FILE *out);
/* Print seed, threads and trace of the sim that runs when the process gets SIGABRT or SIGSEGV. */
void sim_catch_aborts(void);

/* Recount space, links and references: aborts when the simulated disks contradict themselves. */
void sim_check(struct sim *sim);

#endif
