/*
 * support_pool - a small pool on the real machine: files, RocksDB and a ring in directories of its
 * own, children that are killed, and ways to look at and to damage what a pool leaves behind.
 *
 * RocksDB's threads do not survive a fork: a process that opened a pool starts no children that
 * open one, too. Tests that kill keep every pool in a child.
 */
#ifndef TESTS_VOLUME_SUPPORT_POOL_H
#define TESTS_VOLUME_SUPPORT_POOL_H

#include "tests/support/scale.h"
#include "volume/volume.h"

#include <check.h>
#include <sys/types.h>

#define KIB	     UINT64_C(1024)
#define MIB	     (1024 * KIB)
#define SECTOR_BYTES 512u
#define MS_NS	     UINT64_C(1000000)
#define SECOND_NS    UINT64_C(1000000000)
#define HOUR_NS	     (3600 * SECOND_NS)

struct pool_fixture {
	char root[512];		     /* of all that is on disk; absolute */
	char dir[600];		     /* root/pool: the pool directory */
	char shm[64];		     /* the ring's directory */
	struct pool_options options; /* changed by a test before pool_fixture_create() */
	uint64_t batch_write_ns;     /* that each write of a batch takes at least; 0: as the disk */
	struct pool *pool;	     /* NULL while closed */
};
extern struct pool_fixture pf;

/*
 * Each test of the case begins with pool_fixture_begin() and begin (may be NULL): empty directories
 * and options: SCOs of 1 MiB, a ring of 4 MiB, no checkpoints and uploads but those that are asked
 * for. A pool left open is closed behind it. The directories go when the case ends, also one that
 * failed.
 */
void pool_fixture_add(TCase *t, void (*begin)(void));

void pool_fixture_create(void);
void pool_fixture_open(void);
/* Open and wait until the first round of checkpoint and upload is over, so that what is written
 * afterwards is in no checkpoint and no root but those that the test asks for. */
void pool_fixture_open_quiet(void);
void pool_fixture_wait_quiet(void); /* the second half of it */
void pool_fixture_close(void);
/* close and open */
void pool_fixture_restart(void);
/* All that is here goes, and comes back from the backend, from its newest root; not opened. */
void pool_fixture_lose_machine(void);
/* All of it as pool_check() sees it, data included: nothing is wrong. */
void pool_fixture_check(void);
/* pool_open() refuses with this code and a message that has text in it. */
void pool_fixture_open_fails(int code, const char *text);
/* A counter of the pool by name. */
uint64_t pool_fixture_counter(const char *name);

/* --- objects ----------------------------------------------------------------------------------- */

struct object *make_object(enum object_class class);
struct object *get_object(uint64_t id);
uint64_t id_of(struct object *o);
uint64_t size_of(struct object *o);
/* As of a checkpoint made now. */
uint64_t allocated_of(struct object *o);
void write_bytes(struct object *o, uint64_t offset, const void *src, size_t len);
void sync_object(struct object *o);
/* One read by a volume_reader; dst aligned, with room up to the next 4096. */
ssize_t read_in_flight(struct object *o, uint64_t offset, void *dst, size_t len);
/* Exactly these bytes are read there, by object_read() and in flight. */
void expect_bytes(struct object *o, uint64_t offset, const void *want, size_t len);
void expect_zeros(struct object *o, uint64_t offset, size_t len);

/* --- bytes ------------------------------------------------------------------------------------- */

/* Aligned for direct writes; freed by free(). */
void *aligned_mem(size_t len);
/* Incompressible bytes of a seed, no cluster of them zero. */
void pattern_fill(void *dst, size_t len, uint64_t seed);
/* A pattern in memory of its own. */
void *pattern_mem(size_t len, uint64_t seed);
struct rng {
	uint64_t state;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);

/* 512 bytes that say whose they are; generation 0 is all zeros. */
void sector_fill(void *dst, uint64_t disk, uint64_t sector, uint64_t generation);
/* Their generation; UINT64_MAX: they are no sector of this disk and number, or not whole. */
uint64_t sector_generation(const void *src, uint64_t disk, uint64_t sector);

/* --- children ---------------------------------------------------------------------------------- */

struct child {
	pid_t pid;
	int from; /* read end of a pipe that the child writes to */
};
/* fn runs in a new process, which ends with it. */
void child_start(struct child *c, void (*fn)(int to_parent, void *arg), void *arg);
/* SIGKILL, reaped; the pipe stays open. */
void child_kill(struct child *c);
/* It must end by itself, with success. */
void child_finish(struct child *c);
/* Run fn in a child that must succeed. */
void in_child(void (*fn)(int to_parent, void *arg), void *arg);
/* Run fn in a child that kills itself behind it: what a dead process leaves. */
void in_child_killed(void (*fn)(int to_parent, void *arg), void *arg);
/* Until fn says true; the test fails after seconds. Looks every few milliseconds. */
void wait_until(bool (*fn)(void *arg), void *arg, unsigned int seconds, const char *what);
void sleep_ns(uint64_t ns);

/* --- what a pool leaves behind ------------------------------------------------------------------ */

#define PATH_BYTES 1200u
#define FILES_MAX  4096u

/* Names of a directory, sorted; freed by name_list_free(). */
struct name_list {
	char **names;
	size_t count;
};
void name_list_read(const char *dir, struct name_list *ret_list);
void name_list_free(struct name_list *l);

/* root/name or pool/name */
const char *root_path(char buf[PATH_BYTES], const char *name);
const char *pool_path(char buf[PATH_BYTES], const char *name);
/* Number of SCO files; path of the i-th, in order of stream and number. */
size_t sco_count(void);
const char *sco_path(char buf[PATH_BYTES], size_t i);
/* The i-th whose name begins with the stream's number. */
const char *sco_path_of(char buf[PATH_BYTES], uint32_t stream, size_t i);
/* Path of the ring in pf.shm; NULL: there is none. */
const char *ring_path(char buf[PATH_BYTES]);
/* After a death in pool_open() there may be two: the old one and the new one. */
unsigned int ring_count(void);
/* Frames in use, of all rings in pf.shm. */
unsigned int ring_frames_used(void);

/* The machine was started anew: the ring is gone and its record is of another boot. */
void pretend_reboot(void);
/* Where bytes stand in a file; UINT64_MAX: nowhere. */
uint64_t find_in_file(const char *path, const void *bytes, size_t len);
uint64_t file_size(const char *path);
/* The whole file as a string, freed by the caller; "" when there is none. */
char *file_text(const char *path);
void flip_bit(const char *path, uint64_t offset, unsigned int bit);
void overwrite(const char *path, uint64_t offset, const void *bytes, size_t len);
void make_file(const char *path, const void *bytes, size_t len);
void cut_file(const char *path, uint64_t size);
void remove_tree(const char *path);
/* cp -a */
void copy_tree(const char *from, const char *to);
/* Everything in a directory goes, the directory stays; then it gets what is in from. */
void replace_contents(const char *dir, const char *from);
/* Allocated bytes of all files below a directory; one with several links counts once. */
uint64_t tree_bytes(const char *path);

#endif
