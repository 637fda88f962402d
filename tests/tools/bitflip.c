/*
 * tool_bitflip - whatever bit of a pool is flipped, no read gives wrong bytes.
 *
 * usage: tool_bitflip --dir DIR [--rounds N] [--seed N] [--only PLACE] [--verbose]
 *
 * In each round the pool is put back as a process left it, one bit of one file is flipped (the ring, a
 * container, a file of RocksDB, an object on the backend, a label, record or map), and judged: opening
 * it succeeds or says why not; every cluster reads as it was written, or its read fails, or, where the
 * pool says that a stream is damaged, it is older. Then `check --data --repair` runs: what is left of
 * its list is what cannot be read, by disk and address; where another copy of the bytes existed, it is
 * empty. The last line counts; exit code 1 and the round's number where something did not hold.
 */
#include "tests/tools/bitflip/bitflip.h"

#include "common/log.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_TIMEOUT_S 120u

static struct flip_world *world;
static char pool_dir[FLIP_PATH], base_dir[BASES][FLIP_PATH];
static uint64_t ids[BASES][FLIP_DISKS];
static bool verbose;

static NORETURN void fail(const char *what)
{
	(void)fprintf(stderr, "bitflip: %s\n", what);
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Threads of the engine must not be in the process that forks. */
static int in_child(void (*run)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		(void)alarm(CHILD_TIMEOUT_S);
		run(arg);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	return status;
}

/* --- bases ------------------------------------------------------------------------------------- */

static void make_base(void *arg)
{
	flip_make(pool_dir, *(const enum flip_base *)arg, world->ids);
}

static void make_bases(const char *dir)
{
	(void)snprintf(pool_dir, sizeof(pool_dir), "%s/pool", dir);
	if (mkdir(pool_dir, 0700) < 0)
		fail("the directory must be there, and empty");
	for (enum flip_base base = 0; base < BASES; base++) {
		int status = in_child(make_base, &base);

		if (base == BASE_KILLED ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL :
					  status != 0)
			fail("the pool could not be made");
		(void)snprintf(base_dir[base], FLIP_PATH, "%s/base%d", dir, (int)base);
		memcpy(ids[base], world->ids, sizeof(ids[base]));
		flip_copy_tree(pool_dir, base_dir[base]);
		flip_empty(pool_dir);
	}
}

/* --- a round ----------------------------------------------------------------------------------- */

static void read_all(void *arg)
{
	flip_read(arg, world);
}

static void check_all(void *arg)
{
	flip_check(arg, world);
}

/* Whether a second copy of what is flipped there exists: containers and their objects, all of them. */
static bool place_has_copy(void)
{
	return world->base == BASE_CLOSED &&
	       (world->place == PLACE_SCO || world->place == PLACE_OBJECT);
}

static bool run_round(uint64_t seed, uint64_t round, int only)
{
	uint64_t state = seed * UINT64_C(1000003) + round, len_bytes, at;
	char path[FLIP_PATH];
	unsigned int bit;
	int status;

	world->base = (enum flip_base)(next_random(&state) % BASES);
	world->place = (enum flip_place)(next_random(&state) % PLACES);
	if (only >= 0)
		world->place = (enum flip_place)only;
	memcpy(world->ids, ids[world->base], sizeof(world->ids));
	flip_empty(pool_dir);
	flip_copy_tree(base_dir[world->base], pool_dir);
	/* A pool that was closed has no ring. */
	if (!flip_choose(pool_dir, world->place, next_random(&state), path, &len_bytes)) {
		world->place = PLACE_META;
		if (!flip_choose(pool_dir, PLACE_META, next_random(&state), path, &len_bytes))
			fail("no files");
	}
	at = next_random(&state) % len_bytes;
	if (next_random(&state) %
	    2) /* where something is: most of a ring and of some files is empty */
		at = flip_block_in_use(path, at, len_bytes) + next_random(&state) % 4096;
	at %= len_bytes;
	bit = (unsigned int)(next_random(&state) % 8);
	flip_bit(path, at, bit);
	world->has_copy = place_has_copy();
	if (verbose)
		(void)fprintf(stderr, "round %" PRIu64 ": %s %s byte %" PRIu64 " bit %u\n", round,
			      world->base == BASE_KILLED ? "killed" : "closed",
			      path + strlen(pool_dir), at, bit);
	status = in_child(read_all, pool_dir);
	if (status == 0)
		status = in_child(check_all, pool_dir);
	if (status == 0)
		return true;
	(void)fprintf(stderr,
		      "round %" PRIu64 " of seed %" PRIu64 ": %s, %s byte %" PRIu64
		      " bit %u: %s %d\n",
		      round, seed, world->base == BASE_KILLED ? "killed" : "closed",
		      path + strlen(pool_dir), at, bit,
		      WIFSIGNALED(status) ? "signal" : "exit code",
		      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return false;
}

/* PLACES: it is none. */
static int find_place(const char *name)
{
	int i = 0;

	while (i < PLACES && strcmp(flip_place_names[i], name) != 0)
		i++;
	return i;
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: tool_bitflip --dir DIR [--rounds N] [--first N] [--seed N] "
			      "[--only PLACE] [--verbose]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "rounds", required_argument, NULL, 'n' },
		{ "first", required_argument, NULL, 'f' },
		{ "seed", required_argument, NULL, 's' },
		{ "only", required_argument, NULL, 'o' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	const struct rlimit no_core = { 0, 0 };
	uint64_t rounds = 100, seed = 1, first = 0, failed = 0;
	const char *dir = NULL;
	int only = -1, c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'd')
			dir = optarg;
		else if (c == 'n')
			rounds = strtoull(optarg, NULL, 10);
		else if (c == 'f')
			first = strtoull(optarg, NULL, 10);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (c == 'o')
			only = find_place(optarg);
		else if (c == 'v')
			verbose = true;
		else
			return usage();
	}
	if (!dir || only == PLACES)
		return usage();
	(void)setrlimit(RLIMIT_CORE, &no_core);
	log_set_level(LOG_LEVEL_ERROR);
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (world == MAP_FAILED)
		fail("no memory");
	make_bases(dir);
	for (uint64_t i = first; i < first + rounds; i++)
		failed += !run_round(seed, i, only);
	(void)printf("%" PRIu64 " flips: %" PRIu64 " refused, %" PRIu64 " degraded; reads: %" PRIu64
		     " right, %" PRIu64 " older, %" PRIu64 " failed; check: %" PRIu64
		     " refused, %" PRIu64 " repaired, %" PRIu64 " left %" PRIu64
		     " clusters listed; %" PRIu64 " wrong\n",
		     rounds, world->refused, world->degraded, world->right_reads,
		     world->older_reads, world->failed_reads, world->check_refused, world->repaired,
		     world->listed, world->lost, failed);
	return failed > 0;
}
