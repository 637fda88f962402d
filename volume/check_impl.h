/*
 * check_impl - what check.c (rows) and check_sco.c (bytes of SCOs) share. Private to them.
 */
#ifndef VOLUME_CHECK_IMPL_H
#define VOLUME_CHECK_IMPL_H

#include "volume/pool_impl.h"

struct check_layer {
	uint64_t id;
	uint64_t object, parent;
	bool frozen;
	UT_hash_handle hh;
};

struct check_sco {
	uint64_t number;
	struct sco *sco;     /* referenced */
	uint8_t *live;	     /* bit a slot: a map names it */
	uint8_t *holds;	     /* bit a slot: its index says that it holds a cluster */
	bool knows_slots;    /* holds is filled in */
	bool has_whole_copy; /* on the backend, beside the file; known with options->data only */
	uint32_t counted;
	UT_hash_handle hh;
};

struct check {
	struct pool *pool;
	const struct pool_check_options *options;
	struct pool_check_result *result;
	struct check_layer *layers;
	struct check_sco *scos;
	struct meta_batch *repairs; /* STATE rows that go at the end */
	bool away;    /* the store does not answer: what only it has is not looked at */
	int short_of; /* memory or descriptors, as an error: not all was looked at */
};

static inline bool bit_get(const uint8_t *map, uint32_t i)
{
	return map[i / 8] >> (i % 8) & 1;
}
static inline void bit_set(uint8_t *map, uint32_t i)
{
	map[i / 8] = (uint8_t)(map[i / 8] | 1u << (i % 8));
}

/* What the store cannot be asked is no damage, nor what we were short of memory or descriptors for. */
bool check_is_away(struct check *k, int r);
/* An object is not what it should be. If the file is here, --repair has it uploaded anew. */
void check_lost_object(struct check *k, struct sco *s, const char *what);
/* Count a problem and tell it. */
void check_report(struct check *k, const struct pool_problem *problem);
/* NULL: there is none of that number. */
struct check_sco *check_sco_find(const struct check *k, uint64_t number);
/* fn for every page row of the map. Errors: of the store. */
NODISCARD int check_walk_pages(struct check *k,
			       int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
					 const uint8_t *value, size_t value_bytes),
			       void *arg, struct err *e);

/* check_resolved.c: copies of what frozen layers show. */
NODISCARD int check_resolved(struct check *k, struct err *e);

/* check_sco.c: headers, footers, slot tables and logs of all SCOs; fills in `holds`. Damage is a
 * problem, not an error. */
NODISCARD int check_files(struct check *k, struct err *e);
/* check_copy.c: both copies of what is here and on the backend, too; with repair a damaged one is made
 * from the other. Errors: -ENOMEM. */
NODISCARD int check_copies(struct check *k, struct err *e);
/* Compare the checksums of all clusters that `live` names. */
NODISCARD int check_data(struct check *k, struct err *e);

#endif
