/*
 * meta - ordered rows with a write-ahead log: RocksDB for users, memory for tests.
 *
 * Two families. NAMES rows go through the WAL: a commit survives the process at once and a power
 * cut after meta_sync() (or with META_SYNC). STATE rows skip the WAL: they are a checkpoint of the
 * log and survive only once meta_flush() returned; a crash may keep any prefix of later commits,
 * each whole. One commit holds rows of one family only.
 *
 * Page rows (key kind ROW_PAGE) are merged: meta_batch_merge() adds a PAGE_DELTA, reads give the
 * PAGE_BASE that results.
 */
#ifndef VOLUME_META_H
#define VOLUME_META_H

#include "volume/format.h"

enum meta_family { META_NAMES, META_STATE };

enum meta_commit_flags {
	META_SYNC = 1 << 0, /* NAMES only: on return the commit and all before it are durable */
};

struct meta;

/* Head of every implementation's batch. */
struct meta_batch {
	enum meta_family family; /* its keys' first bytes must fit: upper case NAMES, lower STATE */
	bool committed;
};

/* All rows as they were at one moment. */
struct meta_view;

struct meta_options {
	uint64_t cache_bytes;	     /* block cache */
	uint64_t write_buffer_bytes; /* of each family */
};

struct meta_ops {
	const char *name;
	void (*close)(struct meta *m);
	/* Appends to out; leaves it alone on failure. */
	int (*get)(struct meta *m, enum meta_family family, const uint8_t *key, size_t key_bytes,
		   struct buf *out, struct err *e);
	/* view NULL: as it is now. */
	int (*iterate)(struct meta *m, const struct meta_view *view, enum meta_family family,
		       const uint8_t *from, size_t from_bytes, const uint8_t *until,
		       size_t until_bytes,
		       int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				 const uint8_t *value, size_t value_bytes),
		       void *arg, struct err *e);
	struct meta_view *(*view_new)(struct meta *m);
	void (*view_free)(struct meta *m, struct meta_view *view);
	struct meta_batch *(*batch_new)(struct meta *m, enum meta_family family);
	void (*batch_free)(struct meta *m, struct meta_batch *batch);
	int (*batch_put)(struct meta_batch *batch, const uint8_t *key, size_t key_bytes,
			 const uint8_t *value, size_t value_bytes);
	int (*batch_delete)(struct meta_batch *batch, const uint8_t *key, size_t key_bytes);
	int (*batch_merge)(struct meta_batch *batch, const uint8_t *key, size_t key_bytes,
			   const uint8_t *value, size_t value_bytes);
	size_t (*batch_bytes)(const struct meta_batch *batch);
	int (*commit)(struct meta *m, struct meta_batch *batch, unsigned int flags, struct err *e);
	int (*sync)(struct meta *m, struct err *e);
	int (*flush)(struct meta *m, struct err *e);
	uint64_t (*synced_sequence)(struct meta *m);
	uint64_t (*sequence)(struct meta *m);
};

struct meta {
	const struct meta_ops *ops;
	void (*failed)(void *arg); /* atomic; meta_watch() */
	void *failed_arg;
};

/*
 * Have fn called before whoever commits, syncs or flushes is told -EIO: in most cases all that commits
 * are refused until the next open. fn NULL: nobody is told. fn must not wait, nor call into it.
 */
void meta_watch(struct meta *m, void (*fn)(void *arg), void *arg);

/*
 * Open or make the database in a directory (its parent must be there; making its name durable in the
 * parent is the caller's).
 * Errors: -EIO, -ENOSPC, -EUCLEAN corrupt, -EBUSY another process has it, with text.
 */
NODISCARD int meta_rocksdb_open(const char *dir, const struct meta_options *options,
				struct meta **ret_meta, struct err *e);

/*
 * The reference. A meta_mem_disk outlives the "process": open, crash, open again. Its calls yield
 * to the scheduler and fail as told, so that the simulator sees the same windows as RocksDB has.
 */
struct meta_mem_disk;
struct meta_mem_disk *meta_mem_disk_new(void);
void meta_mem_disk_free(struct meta_mem_disk *d);
NODISCARD int meta_mem_open(struct meta_mem_disk *d, struct meta **ret_meta, struct err *e);
/*
 * Process death: NAMES commits stay (unsynced ones still unsynced), unflushed STATE commits are
 * gone. This and a power cut end the open meta, as meta_close() does; whoever was inside a call
 * never comes back.
 */
void meta_mem_kill(struct meta_mem_disk *d);
/* The same of a store that had flushed some of STATE by itself: a prefix of the commits stays. */
void meta_mem_kill_some(struct meta_mem_disk *d, uint64_t (*pick)(void *arg, uint64_t n),
			void *arg);
/* Power cut: of the unsynced WAL a prefix stays, of unflushed STATE commits a prefix; pick(n)
 * gives a number in 0..n. The two prefixes are independent. */
void meta_mem_power_cut(struct meta_mem_disk *d, uint64_t (*pick)(void *arg, uint64_t n),
			void *arg);
/*
 * Called with "commit", "sync" or "flush" before each such call, no lock held; a negative return
 * fails the call (nothing done). A META_SYNC commit asks for "commit", then for "sync"; when only
 * the latter fails its rows may appear after a crash.
 */
void meta_mem_set_hook(struct meta_mem_disk *d, int (*hook)(void *arg, const char *call),
		       void *arg);

void meta_close(struct meta *m);
/* Errors: -ENOENT; -EUCLEAN a page whose values can't be merged, a damaged file. out is replaced. */
NODISCARD int meta_get(struct meta *m, enum meta_family family, const struct row_key *key,
		       struct buf *out, struct err *e);
/*
 * Call fn for each row with from <= key < until (until NULL: to the end) in key order, of one
 * consistent view; fn != 0 ends it and is returned. fn may commit; no lock is held around it.
 * Errors: -EUCLEAN a damaged file, or a page whose values can't be merged; -EIO.
 */
NODISCARD int meta_iterate(struct meta *m, enum meta_family family, const struct row_key *from,
			   const struct row_key *until,
			   int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				     const uint8_t *value, size_t value_bytes),
			   void *arg, struct err *e);
/*
 * What both families hold now, commits that are not durable included, whatever is committed later: for
 * readers that take their time. It keeps old rows from going: free it soon. NULL: no memory.
 */
struct meta_view *meta_view_new(struct meta *m);
void meta_view_free(struct meta *m, struct meta_view *view);
/* As meta_iterate(), of what the view shows. */
NODISCARD int meta_view_iterate(struct meta *m, const struct meta_view *view,
				enum meta_family family, const struct row_key *from,
				const struct row_key *until,
				int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
					  const uint8_t *value, size_t value_bytes),
				void *arg, struct err *e);
/*
 * NULL: no memory. A batch may be committed once; then freed by the caller. After a commit that
 * failed it may be tried again. Its merges must be PAGE_DELTA values, else -EUCLEAN or -EBADMSG.
 */
struct meta_batch *meta_batch_new(struct meta *m, enum meta_family family);
void meta_batch_free(struct meta *m, struct meta_batch *batch);
NODISCARD int meta_batch_put(struct meta *m, struct meta_batch *batch, const struct row_key *key,
			     const struct buf *value);
NODISCARD int meta_batch_delete(struct meta *m, struct meta_batch *batch,
				const struct row_key *key);
NODISCARD int meta_batch_merge(struct meta *m, struct meta_batch *batch, const struct row_key *key,
			       const struct buf *value);
size_t meta_batch_bytes(struct meta *m, const struct meta_batch *batch);
/*
 * Apply a batch, whole or not at all.
 * Errors:   -ENOSPC, -EIO: nothing applied; after an error of a META_SYNC commit its rows may
 *           still appear after a crash.
 * Durable:  see the top. Threads: any.
 */
NODISCARD int meta_commit(struct meta *m, struct meta_batch *batch, unsigned int flags,
			  struct err *e);
/* All NAMES commits so far are durable on return (no-op when they are already). */
NODISCARD int meta_sync(struct meta *m, struct err *e);
/* All STATE commits so far are durable on return. */
NODISCARD int meta_flush(struct meta *m, struct err *e);
/* Sequence of the newest commit that is known durable; and of the newest at all. After a crash
 * meta_sequence() must be at least every meta_synced_sequence() ever seen. */
uint64_t meta_synced_sequence(struct meta *m);
uint64_t meta_sequence(struct meta *m);

/* Merge of page values, shared by all implementations (meta_page.c): base may be NULL. */
NODISCARD int meta_page_merge(const uint8_t *base, size_t base_bytes, const uint8_t *const *deltas,
			      const size_t *delta_bytes, size_t delta_count, struct buf *out,
			      struct err *e);

#endif
