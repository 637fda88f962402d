/*
 * differ - the differential tester's parts: random operations on a mount, each mirrored on plain files
 * in a directory, and everything that can be seen of them compared. tests/tools/differ.c tells how it
 * is called.
 *
 * Each operation is drawn from the seed and its own number alone (and from the state of the mirror),
 * applied to the mount, then to the mirror by the same function, and the two results are compared.
 * Times are milliseconds or nanoseconds of CLOCK_MONOTONIC, numbers of inodes those of the mirror if
 * nothing else is said.
 *
 * Threads: one, but for those that op_burst and the killer start and join.
 */
#ifndef TESTS_TOOLS_DIFFER_H
#define TESTS_TOOLS_DIFFER_H

#include "common/base.h"
#include "common/units.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define HANDLES	      24u
#define OBJECTS_MAX   65536u
#define TRACE_MAX     (1u << 17)
#define PATHS_MAX     64u
#define PATH_BYTES    512u
#define IO_BYTES_MAX  (1u << 20)
#define OUT_BYTES     (IO_BYTES_MAX + 4096u)
#define CLUSTER	      4096u
#define SIZE_MAX_DISK TIB
#define ERRNO_MAX     140

/* Snapshots that are there at a time: of each there is a copy. */
#define SNAPS_MAX 12u
/* A file with more data gets none. */
#define SNAP_DATA_MAX (64 * MIB)

/* Writes that run at a time in one burst, and how many each thread makes. */
#define BURST_THREADS 4u
#define BURST_WRITES  8u

/* Objects that are larger may be disks, whatever their names (disk_threshold of the pool). */
#define DISK_THRESHOLD (8 * MIB)

enum side { V, M, SIDES }; /* vPool's mount, the mirror */

/* What a kind of operation is for: all but the first may be under way when the daemon is killed. */
enum group { GROUP_DATA, GROUP_WRITE, GROUP_NAME, GROUP_SNAPSHOT, GROUPS };

struct differ;
struct op;

struct result {
	int64_t value;
	int error;
};

struct kind {
	const char *name;
	unsigned int weight;
	enum group group;
	/* Fill in what the operation needs. False: not possible now, another one is drawn. */
	bool (*pick)(struct differ *d, struct op *op);
	/* Do it; what it told but for its result goes to d->out[side], d->out_bytes[side]. */
	void (*apply)(struct differ *d, enum side side, const struct op *op, struct result *r);
	/* NULL: results and outputs must be equal. Else false with d->why filled in. */
	bool (*same)(struct differ *d, const struct op *op);
	/* Both succeeded; NULL: nothing to note. */
	void (*after)(struct differ *d, const struct op *op);
};

struct op {
	uint64_t seq;
	const struct kind *kind;
	unsigned int h, h2; /* handles */
	unsigned int a, b;  /* paths */
	uint64_t off, off2, len;
	uint64_t arg, arg2;    /* mode, flags, size, which of several */
	uint64_t ino, ino2;    /* what a handle or path is: 0 none */
	struct timespec begin; /* real time */
	struct result result;  /* of the mount */
};

struct handle {
	int fd[SIDES]; /* -1: closed */
	int flags;     /* as given to open(2), for the mount */
	uint64_t ino;
};

/* What the tester knows of an inode and cannot ask the mirror. */
struct object {
	uint64_t ino;	/* 0: free */
	uint64_t v_ino; /* of the mount: must stay. 0: not seen yet */
	bool may_be_disk;
	/* An explicit time holds until a write; all explicit ones are before EXPLICIT_NS_MAX. */
	enum mtime { MTIME_UNKNOWN, MTIME_EXPLICIT, MTIME_MOVED } mtime;
	int64_t mtime_ns;
	unsigned int compared; /* number of the last full comparison that read its data */
};
#define EXPLICIT_S_MAX INT64_C(1200000000)

/* One thread's part of a burst, and how far it came. */
struct burst {
	pthread_t thread;
	struct differ *d;
	const struct op *op;
	unsigned int index;
	unsigned int done; /* writes that were acknowledged in full */
	size_t part_bytes; /* of the next one */
	int error;	   /* which ended it; 0: all were done */
};

/* A snapshot, and what it must show. */
struct snap {
	uint64_t ino;	   /* of the mirror, whose file it is of; 0: free */
	uint64_t number;   /* ascends */
	unsigned int name; /* of snap_names[] */
	bool sticky;
	int held; /* that file: its number is nobody else's as long as this is open */
	int copy; /* as it was then */
};

struct path {
	char text[64];
	bool is_dir, is_disk; /* by its name */
};

struct counts {
	uint64_t done;
	uint64_t failed[ERRNO_MAX];
};

struct differ {
	/* Set by main(), then constant. */
	const char *root[SIDES];
	const char *evidence;
	const char *pool;  /* whose daemon is asked for snapshots, NULL: there are none */
	const char *spoil; /* what is damaged on purpose, NULL: nothing */
	char **command;	   /* mounts in the foreground */
	uint64_t seed, ops_max;
	unsigned int kills_max, cleans_max;
	struct path paths[PATHS_MAX];
	unsigned int path_count;

	uint64_t rng;
	uint64_t seq, counted;
	struct handle handles[HANDLES];
	struct object *objects; /* OBJECTS_MAX */
	struct counts *counts;	/* one a kind */

	/* The operation under way. */
	struct result res[SIDES];
	uint8_t *out[SIDES];
	size_t out_bytes[SIDES];
	struct stat stat[SIDES];
	int opened[SIDES];
	uint8_t *data; /* that is written */
	uint8_t *keep; /* for comparing and settling */
	struct burst bursts[BURST_THREADS];
	char said[512]; /* why the daemon refused what it was asked for */

	struct snap snaps[SNAPS_MAX];
	uint64_t snaps_made;
	/* The latest copy that may be continued; 0: there is none. */
	uint64_t copied_from, copied_to;

	struct op *trace; /* of TRACE_MAX, the latest */
	uint64_t traced;
	char why[1024];
	uint64_t why_ino;

	/* The daemon. */
	pid_t pid;
	pthread_t killer;
	uint64_t kill_after_us;
	bool armed; /* it dies soon: errors of a dead mount are expected */
	bool shot;  /* atomic: the killer has begun to do so */
	bool died;  /* seen by an operation, which is `flight` */
	struct op flight;
	unsigned int kills, kills_in_flight, cleans, compares;
	uint64_t remount_ms, compare_ms;
	uint64_t objects_made[2]; /* files, disks */
};

/* --- pick.c: chance ---------------------------------------------------------------------------- */

void rng_begin(struct differ *d, uint64_t number);
uint64_t rng_next(struct differ *d);
uint64_t pick(struct differ *d, uint64_t below);
bool chance(struct differ *d, unsigned int percent);
void paths_init(struct differ *d);
unsigned int pick_path(struct differ *d, bool dir, bool existing);
/* An open handle; false: there are too few. */
bool pick_handle(struct differ *d, unsigned int *ret_handle);
uint64_t pick_length(struct differ *d);
uint64_t pick_offset(struct differ *d, const struct handle *h, uint64_t len);
uint64_t pick_size(struct differ *d, const struct handle *h);
uint64_t mirror_size(const struct handle *h);
/* What operation op writes: the same whenever it is asked for. */
void fill_data(const struct op *op, uint8_t *data, size_t len);

/* --- objects.c --------------------------------------------------------------------------------- */

struct object *object_of(struct differ *d, uint64_t ino);
/* A new inode of that number. */
void object_made(struct differ *d, uint64_t ino, bool disk);
void object_wrote(struct differ *d, uint64_t ino, enum mtime mtime);
/* Number of the mirror's inode at a path; 0: none. */
uint64_t mirror_ino(struct differ *d, unsigned int path, bool follow);
void full_path(const struct differ *d, enum side side, const char *name, char path[PATH_BYTES]);
void path_of(const struct differ *d, enum side side, unsigned int path, char text[PATH_BYTES]);
/* Whether the inode still has a name on the mirror; it then, relative to the root. */
bool find_ino(struct differ *d, uint64_t ino, char name[PATH_BYTES]);

/* --- kinds ------------------------------------------------------------------------------------- */

extern const struct kind data_kinds[], name_kinds[], snap_kinds[];
extern const unsigned int data_kind_count, name_kind_count, snap_kind_count;

/* Of a system call, with errno; of a text_*() below. */
void set_result(struct result *r, int64_t value);
void text_result(struct result *r, int error);
bool mirror_is_zero(struct differ *d, int fd, uint64_t from, uint64_t to);
/* Where write i of a burst's thread goes. */
void burst_place(const struct op *op, unsigned int thread, unsigned int i, uint64_t *ret_off,
		 size_t *ret_len);
void burst_data(const struct op *op, unsigned int thread, unsigned int i, uint8_t *data,
		size_t len);

/* Texts that must be the same on both sides, of what is at a full path; errno on failure, else 0. */
int text_stat(struct differ *d, enum side side, const char *path, int fd);
int text_list(struct differ *d, enum side side, const char *path);
int text_xattrs(struct differ *d, enum side side, const char *path);
/* Times and number of the last text_stat() on both sides. */
bool same_times(struct differ *d);
bool same_stat(struct differ *d, const struct op *op);

/* --- snaps.c: the model of snapshots ----------------------------------------------------------- */

extern const char *const snap_names[];
extern const unsigned int snap_name_count;
void snaps_init(struct differ *d);
/* Those whose files are gone went with them. */
void snaps_sweep(struct differ *d);
unsigned int snaps_count(struct differ *d);
/* NULL: none. The nth of that inode, the oldest first; the next younger one of it. */
struct snap *snap_find(struct differ *d, uint64_t ino, unsigned int name);
struct snap *snap_after(struct differ *d, uint64_t ino, uint64_t number);
/* Of the file at a path of the mirror, as it is now. */
void snap_add(struct differ *d, const char *path, unsigned int name, bool sticky);
void snap_drop(struct differ *d, struct snap *s);
/* Whether the mirror's file at a path cannot lose it: its last name, and a sticky snapshot. */
bool snap_keeps(struct differ *d, const char *path);
/* Bytes from one file to the end of another, up to that size; holes stay holes. */
void copy_sparse(int from, int to, uint64_t until);
/* What the mount shows below .snapshots is what there must be; false with d->why. */
bool compare_snaps(struct differ *d);

/* --- compare.c --------------------------------------------------------------------------------- */

/* Everything; false with d->why. */
bool compare_all(struct differ *d);
/* Data of two open files of that size. */
bool compare_data(struct differ *d, uint64_t ino, const int fd[SIDES], uint64_t size);

/* --- life.c ------------------------------------------------------------------------------------ */

/* Start the daemon and open everything again. */
bool daemon_start(struct differ *d);
bool daemon_stop(struct differ *d, bool by_signal);
void kill_round(struct differ *d);
void clean_round(struct differ *d);
void handle_close(struct handle *h);

/* --- report.c ---------------------------------------------------------------------------------- */

PRINTF_LIKE(2, 3) bool differs(struct differ *d, const char *format, ...);
/* Print what d->why says and the last operations on that object, and end. */
NORETURN void mismatch(struct differ *d);
NORETURN PRINTF_LIKE(1, 2) void give_up(const char *format, ...);
void print_histogram(const struct differ *d);

/* All kinds of all tables, one behind the other. */
unsigned int kind_count(void);
const struct kind *kind_at(unsigned int i);

/* --- differ.c ---------------------------------------------------------------------------------- */

/* One operation of these groups (bits 1 << group). False: none is possible, too little is open. */
bool perform_any(struct differ *d, unsigned int groups);
/* Whether result and output are the same on both sides. */
bool same_result(struct differ *d);
/* Output alone, which is of that place of a file. */
bool same_output(struct differ *d, uint64_t at);

static inline uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
