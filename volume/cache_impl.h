/*
 * cache_impl - what the parts of the cache share. Nobody else includes it.
 *
 *	cache.c		what users call, but for reading and wishing
 *	cache_table.c	slots by number, chunks by name
 *	cache_queue.c	S3-FIFO: who goes first
 *	cache_slots.c	the files of chunks: growing, writing, giving back
 *	cache_map.c	what lies where, for the next process
 *	cache_fetch.c	range GETs and those who share them; reading
 *	cache_want.c	the queue of wishes and its threads
 *
 * A slot is CACHE_CHUNK_BYTES of a directory's file. Its number is the directory's, then that in the
 * file. It is in exactly one state (enum slot_queue); only in SLOT_SMALL and SLOT_MAIN it holds a
 * chunk that can be found. Pins keep its bytes as they are: a pinned chunk that is taken out becomes
 * SLOT_BUSY, which whoever drops the last pin makes SLOT_FREE.
 */
#ifndef VOLUME_CACHE_IMPL_H
#define VOLUME_CACHE_IMPL_H

#include "volume/cache.h"
#include "volume/job.h"

#define CACHE_BLOCK_BYTES 4096u
#define CACHE_BLOCKS	  (CACHE_CHUNK_BYTES / CACHE_BLOCK_BYTES) /* of a chunk: one bit each */

#define SLOT_NONE	    UINT32_MAX
#define SLOT_INDEX_BITS	    28u
#define SLOTS_OF_DIR_MAX    ((UINT32_C(1) << SLOT_INDEX_BITS) - 1)
#define SLOT_PINS_MAX	    511u
#define SLOT_FREQUENCY_MAX  3u
#define SLOTS_OF_PIECE	    (UINT32_C(1) << 16)
#define PIECES_OF_DIR_MAX   (UINT32_C(1) << (SLOT_INDEX_BITS - 16))
#define SLOTS_OF_MAP_BLOCK  (BLOCK_BYTES / CACHE_MAP_ENTRY_BYTES)
#define MAP_BLOCKS_OF_PIECE (SLOTS_OF_PIECE / SLOTS_OF_MAP_BLOCK)
#define HEADS_OF_PIECE	    (UINT32_C(1) << 14)
#define HEAD_PIECES_MAX	    (UINT32_C(1) << 16)
#define WISHES_MAX	    1024u
/* Changes of slots from which on the map is written before it is closed. */
#define CACHE_MAP_CHANGES_MUCH 256u
/* So many slots, but no more than half of the margin, are taken wherever a write would find room, that
 * what is wanted can be had. */
#define SLOTS_ALWAYS 64u

enum slot_queue {
	SLOT_BUSY,  /* in no list: somebody's */
	SLOT_FREE,  /* has blocks on flash, and no chunk */
	SLOT_BARE,  /* has neither */
	SLOT_SMALL, /* holds a chunk that was seen once */
	SLOT_MAIN,  /* holds a chunk that was seen again */
};

/* 28 bytes: 1 TiB has 16 M of them. */
struct slot {
	uint32_t sco_low;
	uint32_t sco_high:4, chunk:14, queue:3, frequency:2, pins:9;
	uint32_t version;
	uint32_t hash_next;
	uint32_t next, prev; /* in the list of its queue */
	uint16_t present;    /* blocks that are there */
	uint16_t touched;    /* blocks read since the frequency changed */
};

struct slot_list {
	uint32_t head, tail; /* the youngest, the oldest */
	uint32_t count;
};

struct slot_piece {
	struct slot slots[SLOTS_OF_PIECE];
	uint64_t changed[MAP_BLOCKS_OF_PIECE / 64]; /* blocks of the map that are to be written */
};

struct cache_dir {
	struct env_file *file, *map; /* NULL: not used; constant */

	/* Guarded by cache.lock. */
	bool failed;		/* nothing new comes here */
	bool cutting;		/* the file's end is being cut off */
	uint64_t full_until_ns; /* it had no space */
	uint32_t slot_count;
	uint32_t slots_with_blocks; /* of flash: these are accounted for there */
	uint32_t map_slot_count;    /* as the map's header says; SLOT_NONE: none was written */
	struct slot_list free, bare;
	struct slot_piece *pieces[PIECES_OF_DIR_MAX];
};

/* A range GET under way, or bytes that are just being put. In the list until its bytes are on flash,
 * so that nobody else fetches them. */
struct cache_fetch {
	struct cache_fetch *next;
	struct cache_sco sco;
	uint64_t offset_bytes, end_bytes;      /* whole blocks */
	uint64_t touch_bytes, touch_end_bytes; /* what a reader asked for: both 0: nobody did */
	uint64_t serial;
	uint8_t *mem; /* NULL: nobody may copy out of it */
	bool ahead;   /* nobody asked for it yet */
	bool valued;  /* worth keeping before anybody read it again */

	/* Guarded by cache.lock. */
	unsigned int refs;
	bool done;	/* result and mem are good */
	bool wanted;	/* cache_options.fetched is to be called */
	bool forgotten; /* the SCO died: nothing is kept */
	int result;
	struct err error;
};

struct cache_wish {
	struct cache_sco sco;
	uint64_t offset_bytes, end_bytes; /* whole blocks */
	struct cache_wish *next;
};

struct wish_list {
	struct cache_wish *first, *last;
};

struct cache_worker {
	struct cache *cache;
	struct job job;
	bool idle; /* guarded by cache.lock */
};

#define GHOST_BUCKET 8u
struct ghost {
	uint32_t (*buckets)[GHOST_BUCKET]; /* fingerprints, the youngest first; 0: none */
	uint32_t bucket_count;
	uint32_t sized_for; /* slots */
};

struct cache {
	struct cache_options o; /* constant */
	unsigned int dir_count; /* constant */
	struct cache_worker *workers;
	unsigned int worker_count;
	struct cache_metrics no_metrics; /* where the user gave none */

	struct mutex lock; /* rank LOCK_CACHE; guards all below; no I/O while held */
	struct cond changed;
	struct slot_list small, main;
	uint32_t slots_with_blocks; /* of all directories */
	uint64_t present_blocks;
	struct ghost ghost;

	uint32_t *heads[HEAD_PIECES_MAX]; /* of chains of chunks, by hash */
	uint32_t head_count;

	struct cache_fetch *fetches;
	uint64_t fetch_serial;

	struct cache_wish wishes[WISHES_MAX];
	struct cache_wish *free_wishes;
	struct wish_list urgent, ahead;
	unsigned int wish_count;
	uint64_t calm_until_ns; /* a wish failed: none is served before */

	uint64_t unkept_until_ns; /* nothing could be kept: nothing is fetched ahead before */

	uint64_t map_changes; /* since the map was written */
	uint64_t map_written_ns;
	bool map_writing;

	struct cache_dir dirs[FLASH_DIRS_MAX];
};

/* --- cache_table.c: the lock is held ------------------------------------------------------------ */

static inline uint32_t slot_id(uint32_t dir, uint32_t index)
{
	return dir << SLOT_INDEX_BITS | index;
}
static inline uint32_t slot_dir(uint32_t id)
{
	return id >> SLOT_INDEX_BITS;
}
static inline uint32_t slot_index(uint32_t id)
{
	return id & ((UINT32_C(1) << SLOT_INDEX_BITS) - 1);
}
static inline struct slot *slot_at(struct cache *c, uint32_t id)
{
	uint32_t i = slot_index(id);

	return &c->dirs[slot_dir(id)].pieces[i / SLOTS_OF_PIECE]->slots[i % SLOTS_OF_PIECE];
}
static inline uint64_t slot_sco(const struct slot *s)
{
	return (uint64_t)s->sco_high << 32 | s->sco_low;
}
static inline bool slot_has_chunk(const struct slot *s)
{
	return s->queue == SLOT_SMALL || s->queue == SLOT_MAIN;
}

/* Whether a chunk can be kept at all. */
bool cache_can_name(uint64_t sco, uint64_t chunk);
uint64_t cache_hash(uint64_t sco, uint32_t chunk);
/* The slot of a chunk, in whatever version. */
uint32_t cache_find(struct cache *c, uint64_t sco, uint32_t chunk);
/* Of this version, too. */
uint32_t cache_find_version(struct cache *c, const struct cache_sco *s, uint64_t chunk);
/* A SLOT_BUSY one gets a chunk, without any block, and is in this queue. Nobody else has the chunk. */
void cache_bind(struct cache *c, uint32_t id, uint64_t sco, uint32_t chunk, uint32_t version,
		enum slot_queue queue);
/* The chunk is not there any more. */
void cache_take_out(struct cache *c, uint32_t id);
/* The same, and the slot is the caller's: SLOT_BUSY. Not pinned. */
void cache_unbind(struct cache *c, uint32_t id);
void cache_set_present(struct cache *c, uint32_t id, uint16_t present);
/* A pin more. Returns false: there are too many. */
bool cache_pin(struct cache *c, uint32_t id);
void cache_unpin(struct cache *c, uint32_t id);
/* A new slot at the end of a directory's file: SLOT_BUSY. Errors: SLOT_NONE. */
uint32_t cache_add_slot(struct cache *c, uint32_t dir);
/* A slot has blocks of flash from now on, or has none any more. */
void cache_count_blocks(struct cache *c, uint32_t id, bool has);
/* The map says of this slot what is not so any more. */
void cache_mark_changed(struct cache *c, uint32_t id);
NODISCARD int cache_table_open(struct cache *c);
void cache_table_close(struct cache *c);

/* As cache_drop(). */
void cache_drop_locked(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes,
		       uint64_t len_bytes);

/* --- cache_queue.c: the lock is held ------------------------------------------------------------ */

void cache_move(struct cache *c, uint32_t id, enum slot_queue queue);
/* Somebody read these blocks. */
void cache_touch(struct slot *s, uint16_t blocks);
/* Where a chunk that comes goes. */
enum slot_queue cache_queue_for(struct cache *c, uint64_t sco, uint32_t chunk);
/* Take the least useful chunk out. Returns its slot, SLOT_BUSY; SLOT_NONE: all are pinned. */
uint32_t cache_evict(struct cache *c);

/* --- cache_slots.c: the lock is not held -------------------------------------------------------- */

/* A slot with room on flash, SLOT_BUSY. SLOT_NONE: there is none now. */
uint32_t cache_take_slot(struct cache *c);
/*
 * Put whole blocks of a fetch on flash, those that are not there: bytes that cannot be kept are not.
 * src: aligned.
 */
void cache_keep(struct cache *c, const struct cache_fetch *f, const uint8_t *src);
/* Read blocks of a pinned slot. dst: aligned. Errors: what the env says, -EIO a hole. */
NODISCARD int cache_read_slot(struct cache *c, uint32_t id, uint32_t offset_bytes, void *dst,
			      uint32_t len_bytes);
void cache_fail_dir(struct cache *c, uint32_t dir, int code, const char *doing);

/* --- cache_map.c: the lock is not held ---------------------------------------------------------- */

/* Open the files of a directory and take over what they have. What fails leaves it unused. */
NODISCARD int cache_map_open(struct cache *c, uint32_t dir);
void cache_map_write(struct cache *c);
/* Write it if it is time. Returns: 0 did, else how long there is nothing to do. */
uint64_t cache_map_step(struct cache *c);

/* --- cache_fetch.c ------------------------------------------------------------------------------ */

/* Blocks of [offset, end) that lie in one chunk, from offset on; which it is. */
uint16_t cache_blocks(uint64_t offset_bytes, uint64_t end_bytes, uint64_t *ret_chunk);
/* The fetch that brings this byte, or NULL. Lock held. */
struct cache_fetch *cache_find_fetch(struct cache *c, const struct cache_sco *s,
				     uint64_t offset_bytes);
bool cache_block_is_there(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes);
/*
 * Begin a fetch of what is missing side by side around offset (a block that is), up to about end.
 * Lock held. NULL: no memory.
 */
struct cache_fetch *cache_fetch_new(struct cache *c, const struct cache_sco *s,
				    uint64_t offset_bytes, uint64_t end_bytes);
/* Begin one of just these blocks, that brings [offset, end) as far as it is missing; looked for back
 * to start. Lock held. NULL: no memory. */
struct cache_fetch *cache_fetch_begin(struct cache *c, const struct cache_sco *s,
				      uint64_t start_bytes, uint64_t offset_bytes,
				      uint64_t end_bytes);
/* It is over: nobody finds it any more, those who wait go on. */
void cache_fetch_end(struct cache *c, struct cache_fetch *f);
/* The GET, and keeping what came. dst: gets [from, from + len) of it at once; may be NULL. */
NODISCARD int cache_fetch_run(struct cache *c, struct cache_fetch *f, uint64_t from_bytes,
			      size_t len_bytes, void *dst, struct err *e);

/* --- cache_want.c ------------------------------------------------------------------------------- */

void cache_wishes_open(struct cache *c);
/* Wishes for a SCO that died. Lock held. */
void cache_wishes_forget(struct cache *c, uint64_t sco);
/* The map is to be looked at. Lock held. */
void cache_kick_writer(struct cache *c);

#endif
