/*
 * pool_life - the steps of opening a pool (pool.c) that making one and restoring one take, too. Private.
 */
#ifndef VOLUME_POOL_LIFE_H
#define VOLUME_POOL_LIFE_H

#include "volume/pool_impl.h"

/* The object that says whose a store is. */
#define POOL_NAME "pool.json"

/* A pool with its options, locked, its metadata open; freed by pool_free(). */
NODISCARD int pool_new(struct env *env, const struct pool_options *o, struct pool **ret_pool,
		       struct err *e);
void pool_free(struct pool *p);
/* pool_create.c. Errors: -EINVAL. */
NODISCARD int pool_check_sco_bytes(const struct pool_options *o, struct err *e);
/* Durable on return. */
NODISCARD int pool_put_row(struct pool *p, const struct pool_row *row, struct err *e);
/* -ENOENT: there is none. */
NODISCARD int pool_get_row(struct pool *p, struct pool_row *ret_row, struct err *e);
/* From now on the pool may hold what needs this bit of FEATURE_*: the row says so, durably. The lock of
 * checkpoints is held, or nobody else changes the row. */
NODISCARD int pool_add_feature(struct pool *p, uint64_t incompat, struct err *e);
NODISCARD int pool_open_flash(struct pool *p, uint32_t sco_bytes, bool make, struct err *e);
/* Before pool_open_parts(). */
void pool_init_locks(struct pool *p);
/* Everything but the jobs, recovered; uuid and epoch are set. pool_close_parts() ends it, also one that
 * failed. */
NODISCARD int pool_open_parts(struct pool *p, const struct pool_row *row, struct err *e);
/* clean: all is durable, the ring holds nothing. No job runs. */
void pool_close_parts(struct pool *p, bool clean);

#endif
