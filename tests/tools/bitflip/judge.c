#include "tests/tools/bitflip/bitflip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static NORETURN void wrong(const char *fmt, ...) PRINTF_LIKE(1, 2);
static NORETURN void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	_exit(1);
}

/* --- reading ----------------------------------------------------------------------------------- */

enum verdict { READ_RIGHT, READ_OLDER, READ_FAILED };

static enum verdict judge_bytes(const uint8_t *bytes, enum flip_base base, unsigned int disk,
				unsigned int cluster)
{
	unsigned int want = flip_generation(base, cluster);

	if (flip_is_cluster(bytes, disk, cluster, want))
		return READ_RIGHT;
	for (unsigned int g = 1; g < want; g++)
		if (flip_is_cluster(bytes, disk, cluster, g))
			return READ_OLDER;
	wrong("wrong bytes: disk %u cluster %u", disk, cluster);
}

/* What a pool loses with its ring: what was acknowledged and not synced. */
static bool is_synced_state(const uint8_t *bytes, unsigned int disk, unsigned int cluster)
{
	return cluster < FLIP_CLUSTERS / 4 && flip_is_cluster(bytes, disk, cluster, 2);
}

/* What may be older than it was acknowledged, as the pool says. */
enum told { TOLD_NOTHING, TOLD_RING, TOLD_STREAM };

static void read_disk(struct pool *p, const struct flip_world *world, enum told told,
		      unsigned int disk, uint8_t verdicts[FLIP_CLUSTERS])
{
	static uint8_t bytes[CLUSTER_BYTES] __attribute__((aligned(CLUSTER_BYTES)));
	struct object *o;
	struct err e = { 0 };

	memset(verdicts, READ_FAILED, FLIP_CLUSTERS);
	if (object_open(p, world->ids[disk], &o, &e) < 0) {
		if (e.message[0] == '\0')
			wrong("disk %u cannot be opened, without a word", disk);
		return;
	}
	for (unsigned int i = 0; i < FLIP_CLUSTERS; i++) {
		ssize_t n = object_read(o, (uint64_t)i * CLUSTER_BYTES, bytes, sizeof(bytes), &e);

		if (n < 0)
			continue;
		if (n != (ssize_t)sizeof(bytes))
			wrong("disk %u cluster %u: a read of %zd bytes", disk, i, n);
		verdicts[i] = (uint8_t)judge_bytes(bytes, world->base, disk, i);
		if (verdicts[i] == READ_OLDER && told != TOLD_STREAM &&
		    !(told == TOLD_RING && is_synced_state(bytes, disk, i)))
			wrong("disk %u cluster %u: older bytes, and nothing says so", disk, i);
	}
	object_close(o);
}

static bool is_degraded(struct pool *p)
{
	struct pool_status st;

	pool_status(p, &st);
	return st.state == POOL_DEGRADED;
}

void flip_read(const char *dir, struct flip_world *world)
{
	uint8_t verdicts[FLIP_CLUSTERS];
	struct pool_options o;
	struct err e = { 0 };
	struct pool *p;
	int r;

	flip_options(&o, dir);
	r = pool_open(env_posix(), &o, &p, &e);
	world->round_refused = r < 0;
	world->round_degraded = false;
	if (r < 0) {
		if (e.message[0] == '\0')
			wrong("refused with %d, without a word", r);
		world->refused++;
		_exit(0);
	}
	world->round_degraded = is_degraded(p);
	world->degraded += world->round_degraded;
	for (unsigned int disk = 0; disk < FLIP_DISKS; disk++) {
		read_disk(p, world, world->round_degraded ? TOLD_STREAM : TOLD_NOTHING, disk,
			  verdicts);
		for (unsigned int i = 0; i < FLIP_CLUSTERS; i++) {
			world->right_reads += verdicts[i] == READ_RIGHT;
			world->older_reads += verdicts[i] == READ_OLDER;
			world->failed_reads += verdicts[i] == READ_FAILED;
		}
	}
	(void)!pool_close(p, &e); /* a damaged stream makes it fail, as it should */
	_exit(0);
}

/* --- check ------------------------------------------------------------------------------------- */

struct list {
	const struct flip_world *world;
	bool says[FLIP_DISKS][FLIP_CLUSTERS]; /* by disk and address */
	unsigned int others;		      /* errors that name no address */
	unsigned int errors, repaired;
	bool tells_of_ring;
	char last[256];
};

static void take_problem(void *arg, const struct pool_problem *problem)
{
	struct list *l = arg;

	l->repaired += problem->repaired;
	l->tells_of_ring |= strncmp(problem->what, "the ring", 8) == 0;
	if (problem->repaired || problem->severity != POOL_ERROR)
		return;
	l->errors++;
	(void)snprintf(l->last, sizeof(l->last), "%s (object %" PRIu64 ", SCO %" PRIu64 ")",
		       problem->what, problem->object, problem->sco);
	for (unsigned int disk = 0; disk < FLIP_DISKS; disk++) {
		uint64_t first = problem->offset_bytes / CLUSTER_BYTES;

		if (problem->object != l->world->ids[disk] || problem->len_bytes == 0)
			continue;
		for (uint64_t i = first; i < first + problem->len_bytes / CLUSTER_BYTES; i++)
			if (i < FLIP_CLUSTERS)
				l->says[disk][i] = true;
		return;
	}
	l->others++;
}

static int check_once(struct pool *p, struct list *l, bool repair, struct err *e)
{
	const struct pool_check_options options = {
		.data = true, .repair = repair, .problem = take_problem, .arg = l
	};
	struct pool_check_result result;

	return pool_check(p, &options, &result, e);
}

/* What cannot be read is what the list names, and nothing else. */
static void compare(struct pool *p, struct flip_world *world, const struct list *l,
		    bool tells_of_ring)
{
	uint8_t verdicts[FLIP_CLUSTERS];

	for (unsigned int disk = 0; disk < FLIP_DISKS; disk++) {
		read_disk(p, world,
			  world->round_degraded || is_degraded(p) ? TOLD_STREAM :
			  tells_of_ring				  ? TOLD_RING :
								    TOLD_NOTHING,
			  disk, verdicts);
		for (unsigned int i = 0; i < FLIP_CLUSTERS; i++) {
			bool fails = verdicts[i] == READ_FAILED;

			if (fails && !l->says[disk][i] && l->others == 0)
				wrong("check does not tell of disk %u cluster %u", disk, i);
			if (!fails && l->says[disk][i])
				wrong("check tells of disk %u cluster %u, which reads", disk, i);
			world->lost += fails;
		}
	}
}

void flip_check(const char *dir, struct flip_world *world)
{
	struct list repairs = { .world = world }, left = { .world = world };
	struct pool_options o;
	struct err e = { 0 };
	struct pool *p;
	int r;

	flip_options(&o, dir);
	o.give_up_ring = true;
	r = pool_open(env_posix(), &o, &p, &e);
	if (r < 0) {
		if (e.message[0] == '\0')
			wrong("check is refused with %d, without a word", r);
		if (world->has_copy)
			wrong("there is another copy, and it does not open: %s", e.message);
		world->check_refused++;
		_exit(0);
	}
	r = check_once(p, &repairs, true, &e);
	if (r == 0)
		r = check_once(p, &left, false, &e);
	if (r < 0) {
		if (e.message[0] == '\0')
			wrong("check fails with %d, without a word", r);
		if (world->has_copy)
			wrong("there is another copy, and check fails: %s", e.message);
		world->check_refused++;
		_exit(0);
	}
	world->repaired += repairs.repaired > 0;
	world->listed += left.errors > 0;
	if (world->has_copy && left.errors > 0)
		wrong("there is another copy, and check leaves: %s", left.last);
	compare(p, world, &left, repairs.tells_of_ring);
	(void)!pool_close(p, &e); /* a damaged stream makes it fail, as it should */
	_exit(0);
}
