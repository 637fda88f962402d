/*
 * sim_impl - what the files of the simulator share. Nobody else includes this.
 *
 * sim_sched.c    coroutines, clock, locks, run and death
 * sim_env.c      the env table, faults
 * sim_fs.c       devices, paths, open files
 * sim_names.c    directories and what of them is on the medium
 * sim_store.c    bytes of files as the running machine sees them, mappings
 * sim_store_fx.c pages, effects, and what a sync or a power cut does with them
 * sim_ioq.c      writes in flight, late landings
 * sim_power.c    end of a process, power cut, boot
 * sim_trace.c    trace, fingerprint, reports, self check
 *
 * A file has two states: `cur`, what the running machine sees (page cache), and `dur`, what is on
 * the medium. Each change of cur is also an effect in the file's list, in order; a sync applies
 * effects to dur, a power cut applies a random part of them and makes that the new cur. Names are
 * kept in the same way, in one list for all directories.
 */
#ifndef TESTS_SIM_IMPL_H
#define TESTS_SIM_IMPL_H

#include "tests/sim/sim.h"
#include "tests/sim/sim_rng.h"

#include <ucontext.h>

#define SIM_PAGE_BYTES	   4096u
#define SIM_SECTOR_BYTES   512u
#define SIM_LEAF_SLOTS	   64u
#define SIM_DEVICES_MAX	   16u
#define SIM_PATH_MAX	   1024u
#define SIM_NAME_MAX	   255u
#define SIM_FILE_BYTES_MAX (UINT64_C(1) << 42)
/* More unsynced effects than these are written back by the machine itself, oldest first. */
#define SIM_FILE_FX_MAX 8192u
#define SIM_NAME_FX_MAX 512u
#define SIM_TRACE_LINES 4096u
#define SIM_HELD_MAX	32u
#define SIM_NEVER	UINT64_MAX

/* ---- bytes ---------------------------------------------------------------------------------- */

struct page {
	uint32_t refs; /* immutable while above 1 */
	struct page *next_free;
	uint8_t data[SIM_PAGE_BYTES];
};

struct slot {
	struct page *cur, *dur; /* NULL: zeros */
	bool cur_allocated, dur_allocated;
};

enum fx_kind {
	FX_DATA,  /* the sectors in mask of page `first` */
	FX_SIZE,  /* the size becomes `first` */
	FX_TRUNC, /* the same, and nothing behind it is left */
	FX_PUNCH, /* `count` pages from `first` are no more */
	FX_ALLOC, /* `count` pages from `first` are allocated */
};

struct fx {
	uint64_t seq;
	uint64_t first, count;
	struct page *page;
	uint8_t kind, mask;
};

/* ---- names ---------------------------------------------------------------------------------- */

struct name {
	uint32_t refs, hash;
	char text[];
};

struct dirent {
	struct name *name;
	struct inode *inode;
};

struct dir {
	struct dirent *entries;
	size_t count, cap;
};

struct name_change {
	struct inode *dir;
	struct name *name;
	struct inode *inode; /* NULL: the name goes */
};

struct name_fx {
	uint64_t seq;
	struct name_change change[2];
	unsigned int change_count;
	bool is_rename; /* change[0] is the source going, change[1] the target coming */
	bool marked;
};

struct device {
	char path[SIM_PATH_MAX];
	size_t path_len;
	uint64_t size_bytes;
	uint64_t used_blocks; /* data of live files and one for each of them */
	unsigned int flags;
	struct inode *root;
};

struct inode {
	struct device *dev;
	uint64_t ino;
	uint32_t refs;	/* names (cur and dur), name effects, open files, writes in flight */
	uint32_t links; /* names in cur directories */
	uint32_t open_count;
	bool is_dir;
	bool gone; /* no name and not open: cur is empty, dur may come back */
	bool reached;

	int64_t changed_ns; /* when it last got a name, as far as st_ctime is modelled */

	uint64_t size, dur_size;
	struct slot **leaves;
	size_t leaf_count;
	uint64_t blocks; /* cur_allocated slots */

	struct fx *fx; /* fx_head .. fx_end are live */
	size_t fx_head, fx_end, fx_cap;
	uint64_t *shaky; /* pages whose cur was never written: a failed sync forgot them */
	size_t shaky_count, shaky_cap;

	uint8_t *map; /* holds cur of the first map_bytes */
	size_t map_bytes;
	uint32_t map_count;

	uint32_t seen_refs, seen_links; /* of sim_check */
	struct env_file *locked_by;
	struct dir cur, dur;
	struct inode *prev, *next;
};

struct env_file {
	struct inode *inode;
	unsigned int flags;
	bool of_process; /* goes with it */
	struct env_file *prev, *next;
	char path[]; /* under which it was opened */
};

/* ---- writes in flight ----------------------------------------------------------------------- */

struct inflight {
	struct inode *inode;
	const uint8_t *buf;
	size_t len_bytes;
	uint64_t offset_bytes;
	uint64_t due_ns;
	uint64_t buf_hash; /* nobody may touch the buffer meanwhile */
	bool direct;
	bool is_read; /* of a queue */
	bool landed;
	int result;	   /* negative from the start: a part is written, and this is the answer */
	struct env_io *io; /* of a queue, or */
	struct env_ioq *q;
	struct co *waiter; /* of a thread inside pwrite */
};

/* 4 KiB of a dead process's write, on its way. */
struct late {
	struct inode *inode;
	uint64_t index;
	struct page *page;
	uint64_t due_call;
};

struct env_ioq {
	unsigned int depth;
	unsigned int inflight_count;
	struct env_io *done_first;
	struct co *waiter;
	struct env_ioq *prev, *next;
};

/* ---- threads -------------------------------------------------------------------------------- */

enum co_state { CO_READY, CO_MUTEX, CO_COND, CO_SLEEP, CO_JOIN, CO_IO, CO_DONE };

struct stack {
	struct stack *next;
	uint8_t *base; /* the guard page is below */
	size_t bytes;
};

struct co {
	ucontext_t context;
	struct stack *stack;
	void *tsan_fiber;
	void *asan_fake_stack;
	uint32_t id;
	enum co_state state;
	char name[16];
	void (*fn)(void *);
	void *arg;
	const void *waits_on; /* mutex, cond, co or queue */
	uint64_t wake_ns;
	struct co *joiner;
	struct mutex *held[SIM_HELD_MAX];
	unsigned int held_count;
};

struct trace_line {
	uint64_t now_ns;
	const char *op;
	uint64_t a, b;
	int64_t result;
	uint32_t co_id;
	char co_name[16];
	char what[48];
};

struct sim {
	struct env env;
	struct sched sched;
	uint64_t seed;
	struct sim_opts opts;
	struct rng rng_sched, rng_fault, rng_disk, rng_env, rng_work;
	struct sim_stats stats;
	uint64_t fingerprint;

	uint64_t now_ns;	/* monotonic, of this boot */
	int64_t real_offset_ns; /* real = now + this */
	uint64_t boot_number;
	uint64_t next_due_ns; /* at or before the earliest of wake_ns and due_ns */

	struct co harness;
	struct co *cur; /* NULL: outside sim_run */
	struct co **cos;
	size_t co_count, co_cap;
	struct co **ready;
	size_t ready_count, ready_cap;
	uint32_t next_co_id;
	uint64_t generation; /* of the process, unique among all sims: part of a mutex's owner */
	struct stack *free_stacks;
	const void *harness_stack;
	size_t harness_stack_bytes;
	uint32_t preempt24; /* chance in units of 2^-24 */
	uint64_t run_steps;

	uint64_t crash_effects, crash_steps; /* countdowns, 0: none */
	bool crash_in_call; /* at the last of crash_effects: with part of it, not as the dice say */
	enum sim_crash crash_kind;
	enum sim_crash died_of;
	uint32_t keep_ppm, torn_ppm;

	struct sim_faults faults;
	size_t fault_prefix_len;
	uint64_t fail_in,
		fail_count; /* by order: the countdown, 0 none; how many are left to fail */
	int fail_error;
	void (*watch)(void *arg, enum sim_moment moment, const char *op, const char *path,
		      bool allocates);
	void *watch_arg;

	struct device devices[SIM_DEVICES_MAX];
	size_t device_count;
	struct inode *inodes;
	uint64_t next_ino;
	uint64_t fx_seq;
	struct name_fx *name_fx;
	size_t name_fx_count, name_fx_cap;
	struct env_file *files;
	struct page *free_pages;
	void *page_chunks;
	uint64_t pages_live;

	struct inflight **inflight;
	size_t inflight_count, inflight_cap;
	struct late *late;
	size_t late_count, late_cap;
	uint64_t late_next_call;
	struct env_ioq *ioqs;

	struct trace_line *trace;
	uint64_t trace_count;
	uint32_t uid; /* ours, as files of ours show it */
};

/* The sim whose process runs, NULL outside. */
extern struct sim *sim_active;

/* Grow an array so that it has room for one more. */
#define SIM_ROOM(array, count, cap)                                                                \
	do {                                                                                       \
		if ((count) == (cap)) {                                                            \
			(cap) = (cap) ? (cap)*2 : 16;                                              \
			(array) = sim_realloc((array), (cap) * sizeof(*(array)));                  \
		}                                                                                  \
	} while (0)

/* Memory that the simulator itself needs: there is no going on without it. */
void *sim_alloc(size_t bytes); /* zeroed */
void *sim_realloc(void *old, size_t bytes);

/* ---- sim_sched.c ---- */
void sim_step(
	struct sim *sim); /* time passes, timers fire, maybe another thread runs, maybe death */
NORETURN void sim_die(struct sim *sim, enum sim_crash kind);
/* Block the running thread until sim_wake or wake_ns. */
void sim_block(struct sim *sim, enum co_state state, const void *waits_on, uint64_t wake_ns);
void sim_wake(struct sim *sim, struct co *co);
void sim_due_at(struct sim *sim, uint64_t ns);
void sim_drop_threads(struct sim *sim);
const char *sim_co_state_name(enum co_state state);
void sim_sched_init(struct sim *sim);
void sim_sched_done(struct sim *sim);

/* ---- sim_trace.c ---- */
NORETURN void sim_fail(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sim_mix(struct sim *sim, uint64_t x);
uint64_t sim_hash_bytes(const struct sim *sim, const void *buf, size_t len_bytes);
void sim_trace(struct sim *sim, const char *op, const char *what, uint64_t a, uint64_t b,
	       int64_t result);

/* ---- sim_store.c ---- */
struct page *page_ref(struct page *p);
void page_unref(struct sim *sim, struct page *p);
void pages_free_all(struct sim *sim);
bool device_has_room(const struct device *dev, uint64_t blocks);
/* Write to cur; -ENOSPC, -EFBIG. What went before the error stays. */
int store_write(struct sim *sim, struct inode *inode, const void *buf, size_t len_bytes,
		uint64_t offset_bytes);
size_t store_read(struct sim *sim, struct inode *inode, void *buf, size_t len_bytes,
		  uint64_t offset_bytes);
int store_fallocate(struct sim *sim, struct inode *inode, uint64_t offset_bytes,
		    uint64_t len_bytes);
void store_punch(struct sim *sim, struct inode *inode, uint64_t offset_bytes, uint64_t len_bytes);
int store_truncate(struct sim *sim, struct inode *inode, uint64_t size_bytes);
/* Make effects up to seq durable. */
void store_sync(struct sim *sim, struct inode *inode, uint64_t seq);
/* ... or fail at it: bytes may be on the medium or not, and the cache forgets that it owes them. */
void store_sync_failed(struct sim *sim, struct inode *inode, uint64_t seq);
void store_flip(struct sim *sim, struct inode *inode, uint64_t offset_bytes, uint8_t mask);
int store_map(struct sim *sim, struct inode *inode, size_t len_bytes, void **ret_mem);
void store_move_map(struct inode *inode);
void store_power_cut(struct sim *sim, struct inode *inode, uint32_t keep_ppm, uint32_t torn_ppm);
void store_cur_from_dur(struct sim *sim, struct inode *inode);
void store_drop_cur(struct sim *sim, struct inode *inode);
void store_free(struct sim *sim, struct inode *inode);

/* ---- sim_store_fx.c: effects on the medium ---- */
void fx_add(struct sim *sim, struct inode *inode, struct fx fx);
struct slot *slot_get(struct inode *inode, uint64_t index, bool create);
struct page *page_new(struct sim *sim);
void page_replace(struct sim *sim, struct page **where, struct page *p);
bool page_is_zero(const uint8_t *data);

/* ---- sim_fs.c ---- */
struct inode *inode_ref(struct inode *inode);
void inode_unref(struct sim *sim, struct inode *inode);
int fs_lookup(struct sim *sim, const char *path, struct inode **ret_inode);
int fs_open(struct sim *sim, const char *path, unsigned int flags, struct env_file **ret_file);
void fs_close(struct sim *sim, struct env_file *f);
int fs_link(struct sim *sim, const char *from, const char *to);
int fs_rename(struct sim *sim, const char *from, const char *to);
int fs_unlink(struct sim *sim, const char *path);
int fs_mkdir(struct sim *sim, const char *path);
int fs_rmdir(struct sim *sim, const char *path);
/* The names of a directory, each with a reference, in no order. */
size_t fs_names(struct sim *sim, struct inode *dir, struct name ***ret_names);
void name_unref(struct name *name);
void fs_free(struct sim *sim);
struct device *fs_device(struct sim *sim, const char *path);

/* ---- sim_names.c: what is durable of names ---- */
int dir_find(const struct dir *dir, const char *text, uint32_t hash);
void dir_set(struct sim *sim, struct dir *dir, struct name *name, struct inode *inode);
void dir_remove(struct sim *sim, struct dir *dir, struct name *name);
void dir_clear(struct sim *sim, struct dir *dir);
struct name *name_new(const char *text, uint32_t hash);
struct name *name_ref(struct name *name);
void names_changed(struct sim *sim, const struct name_change *change, unsigned int count);
void names_sync(struct sim *sim, struct inode *dir, uint64_t seq);
void names_power_cut(struct sim *sim, uint32_t keep_ppm);
void names_forget(struct sim *sim);

/* ---- sim_ioq.c ---- */
/* Put a write in flight; result as in struct inflight. */
struct inflight *ioq_start(struct sim *sim, struct env_file *f, const void *buf, size_t len_bytes,
			   uint64_t offset_bytes, int result);
int ioq_pwrite_wait(struct sim *sim, struct env_file *f, const void *buf, size_t len_bytes,
		    uint64_t offset_bytes, int result);
/* Write some of it, as a failed or interrupted write does. */
void ioq_write_part(struct sim *sim, struct inode *inode, const void *buf, size_t len_bytes,
		    uint64_t offset_bytes, bool direct);
void ioq_open(struct sim *sim, unsigned int depth, struct env_ioq **ret_q);
void ioq_close(struct sim *sim, struct env_ioq *q);
void ioq_submit(struct sim *sim, struct env_ioq *q, struct env_io *io, int result);
struct env_io *ioq_reap(struct sim *sim, struct env_ioq *q, bool wait);
/* Land what is due; returns when the next one is. */
uint64_t ioq_fire(struct sim *sim);
/* As the kernel does before it changes the blocks of a file: let its direct writes finish. */
void ioq_settle(struct sim *sim, struct inode *inode);
void ioq_process_killed(struct sim *sim);
void ioq_power_cut(struct sim *sim);
void ioq_land_late(struct sim *sim);
void ioq_free(struct sim *sim);

/* ---- sim_power.c ---- */
void power_process_ends(struct sim *sim, enum sim_crash kind);
void power_cut(struct sim *sim);

/* ---- sim_env.c ---- */
extern const struct env_ops sim_env_ops;
/* Spoil what was read of a file, if that is to happen now. */
void sim_spoil_read(struct sim *sim, const struct env_file *f, uint8_t *buf, size_t len_bytes);

#endif
