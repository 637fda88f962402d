/*
 * support_sco - a table of SCOs in a directory of its own, and SCOs whose clusters are known: for tests
 * of the table and of making, sealing and reading one, without streams.
 */
#ifndef TESTS_VOLUME_SUPPORT_SCO_H
#define TESTS_VOLUME_SUPPORT_SCO_H

#include "volume/stream.h"

#include <check.h>

#define SF_SLOTS 300u /* of each SCO: two chunks of the slot table */

struct sco_fixture {
	struct stream_world w;
	uint64_t next_number; /* that was given out last */
};
extern struct sco_fixture sf;

/* Each test of the case begins with an empty table, in the directories of support_pool. */
void sf_fixture_add(TCase *t);

/* A new one of a stream, referenced; its file. */
struct sco *sf_make(uint32_t stream);
struct env_file *sf_file(struct sco *s);
/* Clusters [1 + n] with one entry each, without batches: enough for an index. */
void sf_fill(struct sco *s, unsigned int clusters);
void sf_seal(struct sco *s);
/* The first count clusters are what sf_fill() wrote. */
void sf_expect(struct sco *s, unsigned int count);

#endif
