/*
 * bitflip - parts of tool_bitflip: the pool whose bits are flipped, its files, and how a round is
 * judged.
 */
#ifndef TESTS_TOOLS_BITFLIP_H
#define TESTS_TOOLS_BITFLIP_H

#include "volume/volume.h"

#define FLIP_DISKS    4u /* the last one is of class `file` */
#define FLIP_CLUSTERS 192u
#define FLIP_PATH     1024u

/* What a process left behind. */
enum flip_base {
	BASE_CLOSED, /* closed; all of it is on the backend, too */
	BASE_KILLED, /* killed: of each disk some is uploaded, some synced, some in the ring only */
	BASES,
};

/* Where bits are flipped. */
enum flip_place { PLACE_RING, PLACE_SCO, PLACE_META, PLACE_OBJECT, PLACE_OTHER, PLACES };
extern const char *const flip_place_names[PLACES];

/* --- the pool (pool.c) ------------------------------------------------------------------------- */

void flip_options(struct pool_options *o, const char *dir);
/* In a child that does not return: make the pool in an empty directory and leave it so. ids[] and
 * bases' generations are what flip_judge() expects. */
NORETURN void flip_make(const char *dir, enum flip_base base, uint64_t ids[FLIP_DISKS]);
/* What a cluster holds at the end, and of that what was synced. */
unsigned int flip_generation(enum flip_base base, unsigned int cluster);
/* Whether all bytes are those of that generation. */
bool flip_is_cluster(const uint8_t *bytes, unsigned int disk, unsigned int cluster,
		     unsigned int generation);

/* --- files (files.c) --------------------------------------------------------------------------- */

/* All regular files below a directory; to is made if need be, from's contents replace its own. The
 * directory itself stays the same inode. */
void flip_copy_tree(const char *from, const char *to);
void flip_empty(const char *dir);
/* A file of a place, chosen by a random number: its path and length. False: there is none. */
bool flip_choose(const char *dir, enum flip_place place, uint64_t random, char path[FLIP_PATH],
		 uint64_t *ret_bytes);
void flip_bit(const char *path, uint64_t byte, unsigned int bit);
/* The first byte of the block that holds something, from the one of byte on, around the end. */
uint64_t flip_block_in_use(const char *path, uint64_t byte, uint64_t len_bytes);

/* --- a round (judge.c) ------------------------------------------------------------------------- */

/* Shared with the children. */
struct flip_world {
	enum flip_base base;
	enum flip_place place;
	uint64_t ids[FLIP_DISKS];
	bool has_copy; /* of what was flipped, by its place: nothing may be lost */
	/* Of all rounds. */
	uint64_t refused, degraded, failed_reads, right_reads, older_reads;
	uint64_t check_refused, repaired, listed, lost;
	bool round_refused, round_degraded;
};

/* Children of a round: exit code 0, or 1 with words on standard error. */
NORETURN void flip_read(const char *dir, struct flip_world *world);
NORETURN void flip_check(const char *dir, struct flip_world *world);

#endif
