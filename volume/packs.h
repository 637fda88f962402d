/*
 * packs - small objects that travel together: one object on the backend holds many, side by side. Each
 * keeps its own name; this table says of which pack it is a range. What has no row of a pack is an
 * object by itself. So whoever reads, condemns or deletes goes by names, through the calls below.
 *
 * A pack is put whole (pack_make.c) and never changes. Its rows are durable before anything says that a
 * member is stored. A member is deleted by losing its row; a pack goes with its last member. The
 * argument: FORMAT.md 10.10.
 *
 * Threads: any, unless said otherwise. The lock of the table is a leaf but for the metadata's.
 */
#ifndef VOLUME_PACKS_H
#define VOLUME_PACKS_H

#include "backend/backend.h"
#include "common/hash.h"
#include "common/thread.h"
#include "volume/format.h"

struct pool;
struct meta_batch;

/* When they are made (pool_options.packs). */
enum pool_packs {
	PACKS_AUTO, /* unless the store shares files with the cache: a link costs less than a copy */
	PACKS_ALWAYS,
	PACKS_NEVER,
};

struct pack {
	uint64_t epoch, number;
	struct pack_row row;
	uint32_t live_count; /* members that have a row */
	uint64_t live_bytes;
	struct packed *members;
	UT_hash_handle hh;
};

/* A member. */
struct packed {
	struct pack *pack;
	struct packed *prev, *next;
	uint32_t index;
	uint32_t crc;
	uint64_t offset_bytes, len_bytes;
	bool leaving; /* one of those that are being deleted */
	UT_hash_handle hh;
	char name[];
};

struct packs {
	struct mutex lock; /* unranked leaf; guards all below */
	struct pack *by_id;
	struct packed *by_name;
	uint64_t last_number; /* of this epoch */
	bool enabled;	      /* the pool's row has the feature; upload lock */
};

/* Rows into the table; the metadata is open. Errors: -EUCLEAN and its like: a row is damaged. */
NODISCARD int packs_load(struct pool *p, struct err *e);
void packs_init(struct packs *packs);
void packs_done(struct packs *packs);

/* Where an object lies. false: it is one by itself. */
bool packs_find(struct pool *p, const char *name, char ret_pack[OBJECT_NAME_MAX + 1],
		uint64_t *ret_offset_bytes, uint64_t *ret_len_bytes);

/* As the calls of the backend, of objects wherever they lie. The backend is open. */
NODISCARD int packs_get(struct pool *p, const char *name, uint64_t offset_bytes, void *dst,
			size_t len_bytes, struct err *e);
NODISCARD int packs_get_verified(struct pool *p, const char *name, void *dst, size_t len_bytes,
				 uint32_t crc, struct err *e);
NODISCARD int packs_head(struct pool *p, struct backend *backend, const char *name,
			 struct backend_object *ret_object, struct err *e);
/* Upload lock held. Rows of members go, and packs that have none left. */
NODISCARD int packs_delete_many(struct pool *p, const char *const *names, size_t count,
				bool *ret_gone, struct err *e);

/* Whether it is a pack of the table; then fn is told the members that it has. */
bool packs_each_member(struct pool *p, const char *pack, int (*fn)(void *arg, const char *name),
		       void *arg, int *ret_result);
/* Out of the table, with what members they still have; their rows are gone. */
void packs_forget(struct pool *p, struct pack *const *packs, size_t count);
/* The packs of the table, added to root->packs. */
NODISCARD int packs_list(struct pool *p, struct root *root, struct err *e);
/* What a root names, into table and rows (a restore; not synced). A pack that is gone or damaged is
 * passed over: what was in it is missing then. */
NODISCARD int packs_restore(struct pool *p, const struct root *root, struct err *e);

/* --- Making them (pack_make.c). Upload lock held, by the caller or whoever waits for him ---------- */

/* A pack that is being filled; zeroed, then pack_begin(). */
struct pack_maker {
	struct pool *pool;
	struct buf bytes;
	struct pack_directory directory;
	size_t room; /* of the directory's members */
	struct pack_row row;
	char name[OBJECT_NAME_MAX + 1];
	bool put; /* it is on the store */
};

/* Whether small objects go into packs at all. The backend is open. */
bool packs_wanted(struct pool *p);
/* So long is a pack about; what is longer than a quarter of it stays an object by itself. */
uint64_t packs_bytes(const struct pool *p);
bool packs_is_small(struct pool *p, uint64_t len_bytes);
/* The pool's row says that there are packs; durable on return. */
NODISCARD int packs_enable(struct pool *p, struct err *e);

void pack_begin(struct pack_maker *m, struct pool *p);
/* Memory for a member's bytes, to be filled by the caller; NULL: there is none. */
uint8_t *pack_add(struct pack_maker *m, const char *name, uint64_t len_bytes);
/* The last one's bytes are there. */
void pack_added(struct pack_maker *m);
/* Give the last one up. */
void pack_drop_last(struct pack_maker *m);
/* Whether so many bytes more belong into another one. */
bool pack_is_full(const struct pack_maker *m, uint64_t len_bytes);
/* Give it its name. */
void pack_name(struct pack_maker *m);
/* Put it. What it has in memory is freed, but for the directory. */
NODISCARD int pack_put(struct pack_maker *m, struct err *e);
/* Rows that make its members known; and the table, once they are committed: as these are there now, it
 * waits where there is no memory. */
NODISCARD int pack_rows(const struct pack_maker *m, struct meta_batch *names, struct err *e);
void pack_adopt(const struct pack_maker *m);
void pack_done(struct pack_maker *m);

/*
 * Members of packs that are mostly dead, or small, are put again in a pack of their own; the old ones
 * are condemned. As much as fits in one pack. *ret_done: there was something to do.
 */
NODISCARD int packs_repack(struct pool *p, bool *ret_done, struct err *e);

#endif
