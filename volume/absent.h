/*
 * absent - SCOs whose bytes are on the backend only: reading them through the cache, and what that means
 * for requests. Private.
 *
 * Whoever must not wait for the store gets NEEDS_FETCH; whoever may wait gets the bytes or, while the
 * store does not answer, STORE_AWAY, and tries again as long as somebody wants it.
 */
#ifndef VOLUME_ABSENT_H
#define VOLUME_ABSENT_H

#include "volume/cache.h"
#include "volume/io.h"
#include "volume/sco.h"

struct pool;

/* Not here. */
#define NEEDS_FETCH (-EREMOTE)
/* Not here, and the store does not answer. */
#define STORE_AWAY (-EREMOTEIO)
/* Between two tries of somebody who waits until it does. */
#define AWAY_PAUSE_NS UINT64_C(200000000)

/* The pool's cache, and how absent SCOs are read. After flash and the table of SCOs were opened. */
NODISCARD int absent_open(struct pool *p, struct err *e);

/* What the cache calls a SCO. The caller holds a reference. */
void absent_name(struct pool *p, const struct sco *s, struct cache_sco *ret_name);
/* sco_read_object_fn */
sco_read_object_fn absent_read;
/* Whether clusters of an absent SCO are here, with their checksums unless those are known. */
bool absent_is_near(struct pool *p, struct sco *s, uint32_t slot, uint32_t count, bool crcs_known);
/* Real time since when reads wait for the store; 0: none does. */
int64_t absent_since_ns(struct pool *p);

/* A cluster that was fetched for whoever merges with it. */
struct io_fetched {
	struct bounce *bounce; /* NULL: nothing yet */
	uint64_t cluster;
	loc_t loc; /* where it was: it counts as long as the map says so */
	bool valid;
};
/* Waits for the store. Errors: STORE_AWAY, and as of io_read_page(). */
NODISCARD int io_fetch(struct object *o, uint64_t cluster, struct io_fetched *f, struct err *e);
void io_fetched_done(struct pool *p, struct io_fetched *f);
/*
 * A call came to NEEDS_FETCH: get the cluster, and wait while the store is away, until the pool's waits
 * are cancelled. Holds nothing. Errors: -ESHUTDOWN, and what io_fetch() says for good.
 */
NODISCARD int io_fetch_waiting(struct object *o, uint64_t cluster, struct io_fetched *f,
			       struct err *e);

/* read_ahead.c: these bytes are being read: have what comes next fetched, if that is absent. Does not
 * wait for the store. */
void read_ahead(struct object *o, uint64_t offset_bytes, uint64_t len_bytes);

/* fetchers.c: requests that wait for the store. */
struct volume_request;
/* Put it in line. Errors: -EBUSY too many requests are parked. */
NODISCARD int fetchers_park(struct pool *p, struct volume_request *r);
/* The same of one that was parked already. */
void fetchers_take_over(struct pool *p, struct volume_request *r);
/* Something came, or the end did. */
void fetchers_kick(struct pool *p);
uint64_t fetcher_step(void *pool);

#endif
