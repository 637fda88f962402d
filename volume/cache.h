/*
 * cache - what was fetched of SCOs that lie on the backend only, kept on flash.
 *
 * The unit of room and eviction is the chunk: CACHE_CHUNK_BYTES of the object of one version of one
 * SCO, at a multiple of that. The unit of fetching is the piece, `fetch_min`; each chunk knows which of
 * its blocks of 4 KiB are there. Chunks lie in slots of one file a cache directory, DIR/chunks, which
 * grows while flash has room and takes chunks out when it has not. Eviction is S3-FIFO (a small queue
 * for what was seen once, a main one, and a memory of what left the small one), so a scan of a whole
 * disk does not drive out what is read again and again.
 *
 * Nothing here is the only copy of anything, and nothing here is believed: whoever reads verifies the
 * checksum of each cluster, and drops what is wrong (cache_drop), so neither data nor DIR/chunks.map,
 * which tells the next process what lies where, is ever synced. Several readers that miss the same
 * piece share one range GET.
 *
 * Threads: all calls from any, unless said otherwise. Locks: rank LOCK_CACHE, no I/O while held.
 */
#ifndef VOLUME_CACHE_H
#define VOLUME_CACHE_H

#include "common/env.h"
#include "common/err.h"
#include "common/metrics.h"
#include "volume/flash.h"

#define CACHE_CHUNK_BYTES (64u << 10)
/* At most so many bytes come with one range GET. */
#define CACHE_FETCH_BYTES_MAX (2u << 20)

struct backend;
struct cache;

/* Whose bytes: one version of a SCO, whose object has file_bytes. */
struct cache_sco {
	uint64_t sco;
	uint32_t stream, version;
	uint64_t object_epoch; /* in the object's name (object_name_sco) */
	uint64_t file_bytes;
};

struct cache_metrics {
	struct counter hits, misses; /* pieces that a reader wanted */
	struct counter fetches,
		fetch_bytes; /* range GETs that brought bytes, read-ahead among them */
	struct counter ahead_fetches;
	struct counter shared;	  /* misses that waited for another's GET */
	struct counter evictions; /* chunks */
	struct counter dropped;	  /* chunks with wrong bytes, or that could not be read */
	struct histogram fetch_ns;
};

extern const struct metric_def cache_metric_defs[];
extern const size_t cache_metric_def_count;

struct cache_options {
	struct env *env;
	struct flash *flash;
	struct uuid pool;
	uint64_t sco_bytes;	  /* of a new SCO; 0: 16 MiB. Room for some is left to writers */
	uint32_t fetch_min_bytes; /* 4 KiB .. CACHE_CHUNK_BYTES, a power of two */
	unsigned int fetches_max; /* threads that serve cache_want(); 0: none, cache_step() does */
	/* The store, opened if need be. Errors: what opening it says; -ESHUTDOWN it is being closed. */
	int (*backend)(void *arg, struct backend **ret_backend, struct err *e);
	/* Something that was wanted is there, or will not come; may be NULL. Holds no lock. */
	/* May put another name in the place of an object's (OBJECT_NAME_MAX + 1 bytes); returns where in
	 * that one its bytes begin. NULL: they all are what they are. */
	uint64_t (*find)(void *arg, char *name);
	void (*fetched)(void *arg);
	void *arg;
	struct cache_metrics *metrics;
};

/*
 * What earlier processes left in the directories is taken over where it makes sense.
 * Errors: -ENOMEM, what the env says. A file of chunks that is not ours is made anew.
 */
NODISCARD int cache_open(const struct cache_options *o, struct cache **ret_cache, struct err *e);
/* Starts and stops the threads of cache_want(). */
NODISCARD int cache_start(struct cache *c, struct err *e);
void cache_stop(struct cache *c); /* fine without any, and without a cache */
/* Writes down what is there (best effort). Nobody holds anything any more; flash is open. */
void cache_close(struct cache *c);

/*
 * Read bytes, fetching what is not there: whole pieces, in runs as long as they are missing side by
 * side. Verifies nothing. Waits for the store as long as that takes (one round of the router's tries).
 * Units:    any offset and length inside of the object; dst needs no alignment.
 * Errors:   what backend_get() says (-ENOENT: no such object), -EUCLEAN outside of the object.
 *           Flash that fails or is full costs nothing but another fetch.
 */
NODISCARD int cache_read(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes,
			 size_t len_bytes, void *dst, struct err *e);

/* A place on flash that does not change while it is held. */
struct cache_hold {
	struct env_file *file; /* opened for direct reads */
	uint64_t offset_bytes; /* in it, of the first byte asked for */
	uint32_t slot, dir;
};
/*
 * Hold bytes of one chunk, all of which must be there; does not wait and fetches nothing.
 * Units:   multiples of 4 KiB, not over the end of a chunk.
 * Returns: false: (some of) it is not there. Else released by cache_release().
 */
bool cache_hold(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
		struct cache_hold *ret_hold);
void cache_release(struct cache *c, const struct cache_hold *hold);
/* Whether all of it is there now. */
bool cache_has(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes);

/*
 * Have bytes fetched soon, without waiting; `fetched` is called when they are there or failed.
 * ahead: nobody asked for them yet: they come into the small queue as never read, and are left out when
 * the queue is full.
 * Returns: 1 queued, 0 all there, -EAGAIN the queue is full (for ahead: half full, or flash cannot keep
 *          what comes).
 */
int cache_want(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
	       bool ahead);
/* Serve one wish, or write the map down. Returns: 0 did something; else how long there is nothing to do,
 * unless something is wanted before. For a simulator, where there are no threads. */
uint64_t cache_step(void *cache);

/*
 * Bytes that the caller has, of a SCO whose file goes: its index, say. They come into the main queue,
 * for a scan must not drive out what each cold read needs. Best effort.
 * Units: multiples of 4 KiB, src aligned to ENV_DIRECT_ALIGN.
 */
void cache_put(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
	       const void *src);
/* These bytes are wrong: not there any more. */
void cache_drop(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes,
		size_t len_bytes);
/* All of a SCO that died, in any version. */
void cache_forget(struct cache *c, uint64_t sco, uint64_t file_bytes);
/*
 * Forget all of which is_wanted() says that nobody will read it, asked without any lock. The files of a
 * process that was killed may still name SCOs that it had forgotten since it wrote them.
 */
void cache_sift(struct cache *c, bool (*is_wanted)(void *arg, uint64_t sco, uint32_t version),
		void *arg);

/* Give so many bytes of flash back, the least useful chunks first. Returns what was given. */
uint64_t cache_shrink(struct cache *c, uint64_t len_bytes);

struct cache_status {
	uint64_t used_bytes;	/* of flash */
	uint64_t present_bytes; /* of objects */
	uint64_t wanted;	/* wishes in the queue */
};
void cache_status(struct cache *c, struct cache_status *ret_status);

#endif
