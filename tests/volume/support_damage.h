/*
 * support_damage - two disks whose clusters say their generation, left behind by a process that
 * closed its pool or was killed, to be damaged.
 */
#ifndef TESTS_VOLUME_SUPPORT_DAMAGE_H
#define TESTS_VOLUME_SUPPORT_DAMAGE_H

#include "support_pool.h"

#define CLUSTERS 256u /* of each disk */

/* Shared by the processes of a test. */
struct damage_world {
	uint64_t disk, other;
	unsigned int refused, errors, degraded, right; /* what flips led to */
};
extern struct damage_world *world;

/* For pool_fixture_add(). */
void damage_begin(void);

/* A cluster whose eight sectors say its generation. */
void cluster_fill(uint8_t *dst, uint64_t disk, uint64_t cluster, uint64_t generation);
void write_cluster(struct object *o, uint64_t cluster, uint64_t generation);
void expect_cluster(struct object *o, uint64_t cluster, uint64_t generation);
/* 0 or the error of reading it. */
int read_cluster(struct object *o, uint64_t cluster);
/* The SCO that holds a cluster, and where. */
uint64_t find_cluster(uint64_t disk, uint64_t cluster, uint64_t generation, char path[PATH_BYTES]);
/* Closing may say that a stream cannot be made durable. */
void close_damaged(void);

/* For children: the pool and two disks; generation 1 of all clusters of world->other. Left open. */
void make_two_disks(void);
/* Both disks in generation 1, closed clean. */
void closed_pool(int to_parent, void *arg);
/* Generation 1 of all clusters is in a checkpoint, 2 of the lower half synced behind it in several
 * batches, 3 of the lowest quarter only acknowledged. Left open. */
void open_pool(int to_parent, void *arg);
/* What a cluster of world->disk holds after open_pool(). */
uint64_t generation_of(unsigned int cluster);
/* All of a disk as open_pool() left it. */
void expect_all(uint64_t id);
/* The same of world->disk after a power cut: of what was not synced a prefix may be there. */
void expect_all_that_was_synced(void);

#endif
