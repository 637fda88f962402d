/*
 * support_snapshot - what several tests do with clones, and how they see what frozen layers keep.
 */
#ifndef TESTS_VOLUME_SUPPORT_SNAPSHOT_H
#define TESTS_VOLUME_SUPPORT_SNAPSHOT_H

#include "support_pool.h"

#include "volume/pool_impl.h"
#include "volume/snapshot.h"

/* A disk that begins as the snapshot, or, with NULL, as the object is now. */
static inline uint64_t clone_of(struct object *o, const char *name)
{
	struct clone_source *source;
	struct names_batch *b = names_batch_new(pf.pool);
	uint64_t id;

	ck_assert_int_eq(clone_source_open(pf.pool, o, name, &source, NULL), 0);
	ck_assert_int_eq(names_clone_object(b, source, OBJECT_DISK, &id, NULL), 0);
	ck_assert_int_eq(names_commit(b, NULL), 0);
	names_batch_free(b);
	clone_source_close(source);
	return id;
}

/* Slots of all SCOs that have a row. */
struct space {
	uint64_t used_slots, live_slots;
};

/* For meta_iterate() over rows of SCOs; arg: a struct space. */
static inline int count_sco(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			    size_t value_bytes)
{
	struct space *s = arg;
	struct sco_row row;

	(void)key;
	(void)key_bytes;
	ck_assert_int_eq(sco_row_decode(value, value_bytes, &row, NULL), 0);
	s->used_slots += row.slot_count;
	s->live_slots += row.live_slots;
	return 0;
}

static inline int count_any_row(void *arg, const uint8_t *key, size_t key_bytes,
				const uint8_t *value, size_t value_bytes)
{
	(void)key;
	(void)key_bytes;
	(void)value;
	(void)value_bytes;
	++*(size_t *)arg;
	return 0;
}

/* arg: so many rows of layers. */
static inline bool layers_are_left(void *arg)
{
	struct row_key from = row_key_u64(ROW_LAYER, 0), until = row_key_u64(ROW_LAYER, UINT64_MAX);
	const size_t *wanted = arg;
	size_t count = 0;

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	ck_assert_int_eq(meta_iterate(pf.pool->meta, META_NAMES, &from, &until, count_any_row,
				      &count, NULL),
			 0);
	ck_assert_uint_ge(count, *wanted);
	return count == *wanted;
}

#endif
