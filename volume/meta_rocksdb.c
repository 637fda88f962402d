/*
 * meta_rocksdb - the metadata store for users: one RocksDB with the families NAMES and STATE.
 * Nobody else includes rocksdb/c.h.
 *
 * NAMES commits go through the WAL: in the WAL's file before the commit returns (so they survive the
 * process), on the disk after a sync. STATE commits bypass it: on the disk once their memtable is.
 *
 * What is durable, by sequence number. RocksDB counts rows. After a crash it goes on from the larger
 * of (a) the last sequence in its MANIFEST, which each flush of a memtable writes, synced, and which
 * is at least that of the flushed rows, and (b) the last row that it replays from the WAL. The live
 * number also counts STATE rows that a crash loses, so it is no measure. Hence:
 *  - A commit and the look at its sequence number happen under one lock, one for both families, so
 *    the number noted is that of the commit's own last row. RocksDB would line the writers up anyway.
 *  - After a sync of the WAL: the number of the last NAMES commit before the sync began; by (b).
 *  - After a flush of STATE: the number of the last STATE commit before the flush began; by (a). Not
 *    more: when RocksDB had already flushed on its own there is nothing left to do, and its MANIFEST
 *    may be as old as that commit.
 *  - After open: all of it. RocksDB flushes what it replays and writes a new MANIFEST first.
 *
 * A failed fdatasync leaves pages that the kernel calls clean and the disk never got; the next try on
 * the same file proves nothing (7.8 repeats the error or, built with asserts as Debian's, ends the
 * process). So once anything failed, here or, by its counter, in RocksDB's background, the WAL is
 * suspect, and the next sync flushes the NAMES memtable into a table instead, which needs no byte of
 * that WAL. If that sync belongs to a META_SYNC commit and fails as well, its rows are visible.
 *
 * Each flush of STATE starts a new WAL file if the old one is not empty, and old ones stay until
 * NAMES is flushed too. So that happens at every NAMES_FLUSH_INTERVAL-th flush of STATE.
 *
 * A flush counts when no memtable of its family waits any more (flush_family()). Without that a
 * checkpoint's mark went into the WAL before its rows were in a table: behind a full disk and the death
 * of the process the map lacked them, and what was written read as zeros.
 *
 * Full disk: the call that meets it fails with -ENOSPC, then all commits (deletions included) and
 * flushes do, and syncs may; reads work, nothing that was committed is lost. RocksDB looks for room
 * every 5 s and recovers by itself. After -EIO commits fail until the database is opened anew.
 * Where values of a page can't be merged the read fails with -EUCLEAN, and so does each flush or
 * compaction that meets them, after which commits fail until the next open.
 *
 * Compaction: STATE is universal, NAMES levelled. A page's base is some 2 KiB, its deltas 40 bytes.
 * Levels rewrite the bases around every few deltas, tiers only when the deltas have grown to the
 * size of the bases. Measured, 150 checkpoints of 10,000 deltas of 37 bytes over 50,000 bases: 306
 * bytes written per delta, levelled 1,289; the same space at the end (138 MB) and the same time to
 * read a row. While it compacts it may need the space twice, of what is about 0.1 % of the data.
 *
 * Memory: RocksDB ends the process when malloc fails; only our own allocations return -ENOMEM.
 */
#include <dirent.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/thread.h"
#include "volume/lock_ranks.h"
#include "volume/meta.h"

#define WRITE_BUFFER_BYTES_DEFAULT (UINT64_C(16) << 20)
#define WRITE_BUFFER_BYTES_MIN	   (UINT64_C(64) << 10)
#define CACHE_BYTES_MIN		   (UINT64_C(1) << 20)
/* Tables of flushes that were not compacted yet, at which writers are slowed down, and stopped. */
#define RUNS_SLOW	     256
#define RUNS_STOP	     512
#define OPEN_FILES_MAX	     256
#define BACKGROUND_JOBS_MAX  2
#define BLOOM_BITS_PER_KEY   10
#define BLOCK_BYTES_ROCKSDB  (16u << 10)
#define INFO_LOG_FATAL	     4 /* InfoLogLevel in rocksdb/env.h */
#define INFO_LOG_FILES_MAX   2
#define NAMES_FLUSH_INTERVAL 64
#define PAGE_BYTES_MAX	     (1u << 20)
/* How often, and how long after each other, we look whether a flush that is said to be done is. */
#define FLUSH_LOOKS_MAX 30000u
#define FLUSH_LOOK_NS	1000000

/* RocksDB insists on a family "default"; it stays empty. */
enum { HANDLE_DEFAULT, HANDLE_NAMES, HANDLE_STATE, HANDLE_COUNT };
static const char *const handle_names[HANDLE_COUNT] = { "default", "names", "state" };

struct rocks {
	struct meta meta;
	rocksdb_t *db;
	rocksdb_column_family_handle_t *handles[HANDLE_COUNT];
	rocksdb_readoptions_t *read_options;
	rocksdb_writeoptions_t *write_wal, *write_wal_sync, *write_no_wal;
	rocksdb_flushoptions_t *flush_options;

	/* Atomic, without a lock. */
	uint64_t names_sequence,
		state_sequence;		/* last row of the newest commit; see commit_lock */
	uint64_t names_synced_sequence; /* NAMES is durable up to it; only rises */
	uint64_t durable_sequence;	/* of both, see the top; only rises */
	uint64_t background_errors;	/* counted by RocksDB, those dealt with */
	bool wal_suspect;

	struct mutex commit_lock; /* rank META; a commit and its sequence number; I/O while held */

	struct mutex sync_lock; /* rank META; one sync at a time; I/O while held: group commit */

	struct mutex flush_lock; /* rank META; guards the two below; I/O while held */
	uint64_t state_flushed_sequence;
	unsigned int flushes_since_names;
};

struct rocks_batch {
	struct meta_batch base;
	rocksdb_writebatch_t *batch;
	rocksdb_column_family_handle_t *handle;
};

static struct rocks *rocks_of(struct meta *m)
{
	return CONTAINER_OF(m, struct rocks, meta);
}

static rocksdb_column_family_handle_t *handle_of(struct rocks *r, enum meta_family family)
{
	return r->handles[family == META_NAMES ? HANDLE_NAMES : HANDLE_STATE];
}

/* ---- errors ---- */

static int code_of_text(const char *text)
{
	if (strncmp(text, "Corruption", strlen("Corruption")) == 0)
		return -EUCLEAN;
	if (strstr(text, "No space left") != NULL || strstr(text, "Space limit") != NULL)
		return -ENOSPC;
	if (strstr(text, "While lock file") != NULL || strstr(text, "lock hold by") != NULL)
		return -EBUSY;
	return -EIO;
}

/* Takes RocksDB's text. */
static int rocks_error(char *text, const char *what, struct err *e)
{
	const int code = err_set(e, code_of_text(text), "%s: %s", what, text);

	rocksdb_free(text);
	return code;
}

/* ---- merge operator: called by RocksDB, also in its own threads ---- */

/* What it gets when there is nothing to give: it copies no bytes of it, but not from NULL. */
static char merge_nothing[1];

static char *merge_failed(unsigned char *success, size_t *ret_bytes)
{
	*success = 0;
	*ret_bytes = 0;
	return merge_nothing;
}

/* NOLINTNEXTLINE(readability-function-size): RocksDB's signature */
static char *merge_full(UNUSED void *arg, const char *key, size_t key_bytes, const char *existing,
			size_t existing_bytes, const char *const *operands,
			const size_t *operand_bytes, int operand_count, unsigned char *success,
			size_t *ret_bytes)
{
	struct buf out;
	int r;

	if (key_bytes == 0 || key[0] != ROW_PAGE || operand_count < 1)
		return merge_failed(success, ret_bytes);
	buf_init(&out, PAGE_BYTES_MAX);
	r = meta_page_merge((const uint8_t *)existing, existing_bytes,
			    (const uint8_t *const *)operands, operand_bytes, (size_t)operand_count,
			    &out, NULL);
	if (r < 0) {
		buf_done(&out);
		return merge_failed(success, ret_bytes);
	}
	*success = 1;
	*ret_bytes = out.len_bytes;
	return (char *)out.data;
}

/* Deltas alone stay a list until they meet their base. */
/* NOLINTNEXTLINE(readability-function-size): RocksDB's signature */
static char *merge_partial(UNUSED void *arg, UNUSED const char *key, UNUSED size_t key_bytes,
			   UNUSED const char *const *operands, UNUSED const size_t *operand_bytes,
			   UNUSED int operand_count, unsigned char *success, size_t *ret_bytes)
{
	return merge_failed(success, ret_bytes);
}

static void merge_delete_value(UNUSED void *arg, const char *value, UNUSED size_t value_bytes)
{
	/* RocksDB hands our own buffer back as const. */
	if (value != merge_nothing)
		free((void *)(uintptr_t)value);
}

static void merge_done(UNUSED void *arg)
{
}

static const char *merge_name(UNUSED void *arg)
{
	return "vpool.page.1"; /* in the database: a new name refuses old files */
}

/* ---- options ---- */

static rocksdb_options_t *options_of_db(uint64_t write_buffer_bytes, int wal_recovery)
{
	rocksdb_options_t *o = rocksdb_options_create();

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_create_missing_column_families(o, 1);
	rocksdb_options_set_paranoid_checks(o, 1);
	rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS_MAX);
	rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
	rocksdb_options_set_max_total_wal_size(o, 4 * write_buffer_bytes);
	rocksdb_options_set_wal_recovery_mode(o, wal_recovery);
	/* Only the header that it writes when it opens: else it would log about a full disk to the
	 * full disk, and 7.8, built with asserts as Debian's, ends the process at the second line
	 * that fails. What matters it returns to us. Its log is not rolled: that repeats the header. */
	rocksdb_options_set_info_log_level(o, INFO_LOG_FATAL);
	rocksdb_options_set_keep_log_file_num(o, INFO_LOG_FILES_MAX);
	/* No timers: idle means no CPU. */
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	return o;
}

static rocksdb_options_t *options_of_family(enum meta_family family, uint64_t write_buffer_bytes,
					    rocksdb_cache_t *cache, int compression)
{
	rocksdb_options_t *o = rocksdb_options_create();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_cache(table, cache);
	rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES_ROCKSDB);
	/* Index and filter count as cache, so that cache_bytes bounds the memory. */
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
	/* In pieces: the whole of a table, read for one row and driven out by the next table's, was most
	 * of what a look-up in a map of TiB read. */
	rocksdb_block_based_options_set_index_type(
		table, rocksdb_block_based_table_index_type_two_level_index_search);
	rocksdb_block_based_options_set_partition_filters(table, 1);
	rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
	rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(
								     BLOOM_BITS_PER_KEY));
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_block_based_options_destroy(table);

	/* A flush waits while the next one could make writers wait. By RocksDB's own limits that is
	 * until the compaction of a large map is over: half a minute, of a checkpoint. */
	rocksdb_options_set_level0_slowdown_writes_trigger(o, RUNS_SLOW);
	rocksdb_options_set_level0_stop_writes_trigger(o, RUNS_STOP);
	rocksdb_options_set_soft_pending_compaction_bytes_limit(o, 0);
	rocksdb_options_set_hard_pending_compaction_bytes_limit(o, 0);
	rocksdb_options_set_paranoid_checks(o, 1);
	rocksdb_options_set_write_buffer_size(o, (size_t)write_buffer_bytes);
	rocksdb_options_set_compression(o, compression);
	rocksdb_options_set_bottommost_compression(o, compression);
	if (family == META_STATE) {
		rocksdb_options_set_compaction_style(o, rocksdb_universal_compaction);
		rocksdb_options_set_merge_operator(
			o, rocksdb_mergeoperator_create(NULL, merge_done, merge_full, merge_partial,
							merge_delete_value, merge_name));
	}
	return o;
}

/* ---- open and close ---- */

static bool has_suffix(const char *name, const char *suffix)
{
	const size_t name_len = strlen(name), suffix_len = strlen(suffix);

	return name_len >= suffix_len && strcmp(name + name_len - suffix_len, suffix) == 0;
}

/*
 * A directory with tables or logs but no CURRENT has lost its database; RocksDB would begin a new
 * one there and remove the rest.
 */
NODISCARD static int check_not_lost(const char *dir, struct err *e)
{
	bool has_current = false, has_data = false;
	const struct dirent *entry;
	DIR *d = opendir(dir);

	if (d == NULL)
		return errno == ENOENT ? 0 : err_set(e, -errno, "opening '%s'", dir);
	while ((entry = readdir(d)) != NULL) {
		has_current |= strcmp(entry->d_name, "CURRENT") == 0;
		has_data |= has_suffix(entry->d_name, ".sst") || has_suffix(entry->d_name, ".log");
	}
	(void)closedir(d); /* it was only read */
	if (has_data && !has_current)
		return err_set(e, -EUCLEAN, "metadata in '%s' has lost its file CURRENT", dir);
	return 0;
}

/* How to open it. */
struct how {
	uint64_t cache_bytes, write_buffer_bytes;
	int compression, wal_recovery;
};

/* NULL, or what RocksDB says. */
static char *open_with(struct rocks *r, const char *dir, const struct how *how)
{
	rocksdb_cache_t *cache = rocksdb_cache_create_lru((size_t)how->cache_bytes);
	rocksdb_options_t *o = options_of_db(how->write_buffer_bytes, how->wal_recovery);
	rocksdb_options_t *names, *state;
	char *text = NULL;

	names = options_of_family(META_NAMES, how->write_buffer_bytes, cache, how->compression);
	/* Places and checksums, which do not compress. */
	state = options_of_family(META_STATE, how->write_buffer_bytes, cache,
				  rocksdb_no_compression);
	r->db = rocksdb_open_column_families(o, dir, HANDLE_COUNT, handle_names,
					     (const rocksdb_options_t *[]){ names, names, state },
					     r->handles, &text);
	/* RocksDB keeps what it needs. */
	rocksdb_options_destroy(state);
	rocksdb_options_destroy(names);
	rocksdb_options_destroy(o);
	rocksdb_cache_destroy(cache);
	return text;
}

/*
 * With what RocksDB is built of; and behind a torn end of a WAL that is not the last one.
 *
 * Where a disk was full, the WAL ends in a part of a commit that failed. RocksDB then flushes one family
 * after the other, and begins a new WAL. If the process dies between two flushes, one family needs
 * nothing of the torn WAL and the other is said to: RocksDB refuses to open, for a power cut might have
 * taken rows of the one and left later ones of the other. Here it cannot have: before a table counts
 * RocksDB syncs all WALs but the one that it writes to, a family of ours has no row in a commit with the
 * other, and nothing is written behind a failed write of the same WAL. So a torn end hides nothing
 * that was acknowledged, and the WALs behind it are read. Damage elsewhere is refused as before.
 */
static char *open_anyhow(struct rocks *r, const char *dir, struct how how)
{
	char *text = open_with(r, dir, &how);

	if (text != NULL && strstr(text, "not linked") != NULL) {
		rocksdb_free(text);
		how.compression = rocksdb_no_compression;
		text = open_with(r, dir, &how);
	}
	if (text != NULL && strstr(text, "ahead of WALs") != NULL) {
		log_warning("metadata: a log ends in a commit that was cut off, the ones behind it "
			    "are read: %s",
			    text);
		rocksdb_free(text);
		how.wal_recovery = rocksdb_tolerate_corrupted_tail_records_recovery;
		text = open_with(r, dir, &how);
	}
	return text;
}

static uint64_t background_errors(const struct rocks *r)
{
	uint64_t count = 0;

	/* It is there in every version; were it not, only our own failures would be seen. */
	(void)rocksdb_property_int(r->db, "rocksdb.background-errors", &count);
	return count;
}

static void make_call_options(struct rocks *r)
{
	r->read_options = rocksdb_readoptions_create();
	r->write_wal = rocksdb_writeoptions_create();
	r->write_wal_sync = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->write_wal_sync, 1);
	r->write_no_wal = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(r->write_no_wal, 1);
	r->flush_options = rocksdb_flushoptions_create();
	rocksdb_flushoptions_set_wait(r->flush_options, 1);
}

static void rocks_close(struct meta *m)
{
	struct rocks *r = rocks_of(m);

	for (unsigned int i = 0; i < HANDLE_COUNT; i++)
		rocksdb_column_family_handle_destroy(r->handles[i]);
	rocksdb_close(r->db);
	rocksdb_readoptions_destroy(r->read_options);
	rocksdb_writeoptions_destroy(r->write_wal);
	rocksdb_writeoptions_destroy(r->write_wal_sync);
	rocksdb_writeoptions_destroy(r->write_no_wal);
	rocksdb_flushoptions_destroy(r->flush_options);
	mutex_done(&r->commit_lock);
	mutex_done(&r->sync_lock);
	mutex_done(&r->flush_lock);
	free(r);
}

/* ---- reads ---- */

static int rocks_get(struct meta *m, enum meta_family family, const uint8_t *key, size_t key_bytes,
		     struct buf *out, struct err *e)
{
	struct rocks *r = rocks_of(m);
	rocksdb_pinnableslice_t *slice;
	const char *value;
	size_t value_bytes = 0;
	char *text = NULL;
	int code;

	slice = rocksdb_get_pinned_cf(r->db, r->read_options, handle_of(r, family),
				      (const char *)key, key_bytes, &text);
	if (text != NULL)
		return rocks_error(text, "reading metadata", e);
	if (slice == NULL)
		return err_set(e, -ENOENT, "no such row");
	value = rocksdb_pinnableslice_value(slice, &value_bytes);
	code = buf_append(out, value, value_bytes);
	rocksdb_pinnableslice_destroy(slice);
	return code < 0 ? err_set(e, code, "row of %zu bytes", value_bytes) : 0;
}

struct meta_view {
	const rocksdb_snapshot_t *snapshot;
};

static struct meta_view *rocks_view_new(struct meta *m)
{
	struct meta_view *view = calloc(1, sizeof(*view));

	if (view != NULL)
		view->snapshot = rocksdb_create_snapshot(rocks_of(m)->db);
	return view;
}

static void rocks_view_free(struct meta *m, struct meta_view *view)
{
	rocksdb_release_snapshot(rocks_of(m)->db, view->snapshot);
	free(view);
}

/* An iterator shows the database as it was when it was made. */
/* NOLINTNEXTLINE(readability-function-size): an operation of meta_ops */
static int rocks_iterate(struct meta *m, const struct meta_view *view, enum meta_family family,
			 const uint8_t *from, size_t from_bytes, const uint8_t *until,
			 size_t until_bytes,
			 int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				   const uint8_t *value, size_t value_bytes),
			 void *arg, struct err *e)
{
	struct rocks *r = rocks_of(m);
	rocksdb_readoptions_t *o = rocksdb_readoptions_create();
	rocksdb_iterator_t *it;
	char *text = NULL;
	int code = 0;

	/* A scan should not push out what single reads use. */
	rocksdb_readoptions_set_fill_cache(o, 0);
	if (view != NULL)
		rocksdb_readoptions_set_snapshot(o, view->snapshot);
	if (until != NULL)
		rocksdb_readoptions_set_iterate_upper_bound(o, (const char *)until, until_bytes);
	it = rocksdb_create_iterator_cf(r->db, o, handle_of(r, family));
	for (rocksdb_iter_seek(it, (const char *)from, from_bytes);
	     code == 0 && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t key_bytes = 0, value_bytes = 0;
		const char *key = rocksdb_iter_key(it, &key_bytes);
		const char *value = rocksdb_iter_value(it, &value_bytes);

		code = fn(arg, (const uint8_t *)key, key_bytes, (const uint8_t *)value,
			  value_bytes);
	}
	if (code == 0)
		rocksdb_iter_get_error(it, &text);
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(o);
	return text != NULL ? rocks_error(text, "reading metadata", e) : code;
}

/* ---- batches ---- */

static struct meta_batch *rocks_batch_new(struct meta *m, enum meta_family family)
{
	struct rocks_batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->base.family = family;
	b->batch = rocksdb_writebatch_create();
	b->handle = handle_of(rocks_of(m), family);
	return &b->base;
}

static void rocks_batch_free(UNUSED struct meta *m, struct meta_batch *base)
{
	struct rocks_batch *b = CONTAINER_OF(base, struct rocks_batch, base);

	rocksdb_writebatch_destroy(b->batch);
	free(b);
}

static int rocks_batch_put(struct meta_batch *base, const uint8_t *key, size_t key_bytes,
			   const uint8_t *value, size_t value_bytes)
{
	struct rocks_batch *b = CONTAINER_OF(base, struct rocks_batch, base);

	rocksdb_writebatch_put_cf(b->batch, b->handle, (const char *)key, key_bytes,
				  value_bytes > 0 ? (const char *)value : "", value_bytes);
	return 0;
}

static int rocks_batch_delete(struct meta_batch *base, const uint8_t *key, size_t key_bytes)
{
	struct rocks_batch *b = CONTAINER_OF(base, struct rocks_batch, base);

	rocksdb_writebatch_delete_cf(b->batch, b->handle, (const char *)key, key_bytes);
	return 0;
}

static int rocks_batch_merge(struct meta_batch *base, const uint8_t *key, size_t key_bytes,
			     const uint8_t *value, size_t value_bytes)
{
	struct rocks_batch *b = CONTAINER_OF(base, struct rocks_batch, base);

	rocksdb_writebatch_merge_cf(b->batch, b->handle, (const char *)key, key_bytes,
				    (const char *)value, value_bytes);
	return 0;
}

static size_t rocks_batch_bytes(const struct meta_batch *base)
{
	const struct rocks_batch *b = (const void *)base; /* its first member */
	size_t bytes = 0;

	(void)rocksdb_writebatch_data(b->batch, &bytes);
	return bytes;
}

/* ---- commit, sync, flush ---- */

static uint64_t sequence_get(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void suspect_wal(struct rocks *r)
{
	__atomic_store_n(&r->wal_suspect, true, __ATOMIC_SEQ_CST);
}

static void sequence_raise(uint64_t *p, uint64_t sequence)
{
	uint64_t seen = sequence_get(p);

	while (seen < sequence && !__atomic_compare_exchange_n(p, &seen, sequence, false,
							       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

static void names_are_synced(struct rocks *r, uint64_t sequence)
{
	sequence_raise(&r->names_synced_sequence, sequence);
	sequence_raise(&r->durable_sequence, sequence);
}

/* Whether a success of fdatasync on the WAL may be believed. */
static bool wal_is_trusted(const struct rocks *r)
{
	return !__atomic_load_n(&r->wal_suspect, __ATOMIC_SEQ_CST) &&
	       background_errors(r) == sequence_get(&r->background_errors);
}

static int rocks_commit(struct meta *m, struct meta_batch *base, unsigned int flags, struct err *e)
{
	struct rocks_batch *b = CONTAINER_OF(base, struct rocks_batch, base);
	struct rocks *r = rocks_of(m);
	const bool is_names = base->family == META_NAMES;
	const rocksdb_writeoptions_t *how = r->write_no_wal;
	uint64_t sequence = 0;
	char *text = NULL;

	if (is_names)
		how = (flags & META_SYNC) ? r->write_wal_sync : r->write_wal;

	mutex_lock(&r->commit_lock);
	rocksdb_write(r->db, how, b->batch, &text);
	if (text == NULL) {
		sequence = rocksdb_get_latest_sequence_number(r->db);
		__atomic_store_n(is_names ? &r->names_sequence : &r->state_sequence, sequence,
				 __ATOMIC_RELEASE);
	}
	mutex_unlock(&r->commit_lock);

	if (text != NULL) {
		if (is_names)
			suspect_wal(r);
		return rocks_error(text, "writing metadata", e);
	}
	if ((flags & META_SYNC) == 0)
		return 0;
	if (!wal_is_trusted(r))
		return meta_sync(m, e);
	names_are_synced(r, sequence);
	return 0;
}

/* Whether all memtables but the one that takes rows are tables that the MANIFEST knows. */
static bool is_flushed(struct rocks *r, enum meta_family family)
{
	uint64_t waiting = 1;

	/* It is there in every version; were it not, nothing would count as flushed. */
	(void)rocksdb_property_int_cf(r->db, handle_of(r, family),
				      "rocksdb.num-immutable-mem-table", &waiting);
	return waiting == 0;
}

/*
 * What RocksDB says of a flush is not enough: in a process that once recovered from a full disk 7.8
 * returns success as soon as the flush was begun, and forgets to say that it failed.
 */
NODISCARD static int flush_family(struct rocks *r, enum meta_family family, struct err *e)
{
	char *text = NULL;

	for (unsigned int i = 0; i < FLUSH_LOOKS_MAX; i++) {
		rocksdb_flush_cf(r->db, r->flush_options, handle_of(r, family), &text);
		if (text != NULL) {
			suspect_wal(r);
			return rocks_error(text, "flushing metadata", e);
		}
		if (is_flushed(r, family))
			return 0;
		(void)nanosleep(&(struct timespec){ .tv_nsec = FLUSH_LOOK_NS }, NULL);
	}
	suspect_wal(r);
	return err_set(e, -EIO, "flushing metadata: it is said to be done, and is not");
}

/* Sync the WAL, or, where that would prove nothing, make a table of what is in it. */
NODISCARD static int sync_names_locked(struct rocks *r, struct err *e)
{
	char *text = NULL;

	if (wal_is_trusted(r)) {
		rocksdb_flush_wal(r->db, 1, &text);
		if (text != NULL) {
			suspect_wal(r);
			return rocks_error(text, "syncing metadata", e);
		}
		if (wal_is_trusted(r))
			return 0;
	}
	/* Forgiven before, so that a failure meanwhile is not forgotten. */
	__atomic_store_n(&r->wal_suspect, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->background_errors, background_errors(r), __ATOMIC_SEQ_CST);
	return flush_family(r, META_NAMES, e);
}

static int rocks_sync(struct meta *m, struct err *e)
{
	struct rocks *r = rocks_of(m);
	uint64_t target;
	int code;

	GUARD(&r->sync_lock);
	target = sequence_get(&r->names_sequence);
	if (target <= sequence_get(&r->names_synced_sequence))
		return 0;
	code = sync_names_locked(r, e);
	if (code < 0)
		return code;
	names_are_synced(r, target);
	return 0;
}

static int rocks_flush(struct meta *m, struct err *e)
{
	struct rocks *r = rocks_of(m);
	uint64_t target;
	int code;

	GUARD(&r->flush_lock);
	target = sequence_get(&r->state_sequence);
	if (target <= r->state_flushed_sequence)
		return 0;
	code = flush_family(r, META_STATE, e);
	if (code < 0)
		return code;
	r->state_flushed_sequence = target;
	sequence_raise(&r->durable_sequence, target);

	if (++r->flushes_since_names < NAMES_FLUSH_INTERVAL)
		return 0;
	code = flush_family(r, META_NAMES, e);
	if (code == 0)
		r->flushes_since_names = 0;
	return code;
}

static uint64_t rocks_synced_sequence(struct meta *m)
{
	return sequence_get(&rocks_of(m)->durable_sequence);
}

static uint64_t rocks_sequence(struct meta *m)
{
	return rocksdb_get_latest_sequence_number(rocks_of(m)->db);
}

static const struct meta_ops meta_rocksdb_ops = {
	.name = "rocksdb",
	.close = rocks_close,
	.get = rocks_get,
	.iterate = rocks_iterate,
	.view_new = rocks_view_new,
	.view_free = rocks_view_free,
	.batch_new = rocks_batch_new,
	.batch_free = rocks_batch_free,
	.batch_put = rocks_batch_put,
	.batch_delete = rocks_batch_delete,
	.batch_merge = rocks_batch_merge,
	.batch_bytes = rocks_batch_bytes,
	.commit = rocks_commit,
	.sync = rocks_sync,
	.flush = rocks_flush,
	.synced_sequence = rocks_synced_sequence,
	.sequence = rocks_sequence,
};

int meta_rocksdb_open(const char *dir, const struct meta_options *options, struct meta **ret_meta,
		      struct err *e)
{
	const struct how how = {
		.cache_bytes = max_u64(options->cache_bytes, CACHE_BYTES_MIN),
		.write_buffer_bytes =
			options->write_buffer_bytes == 0 ?
				WRITE_BUFFER_BYTES_DEFAULT :
				max_u64(options->write_buffer_bytes, WRITE_BUFFER_BYTES_MIN),
		.compression = rocksdb_lz4_compression,
		/* A power cut tears the end of the WAL: what is whole before it stays. */
		.wal_recovery = rocksdb_point_in_time_recovery,
	};
	struct rocks *r;
	char *text;
	int code;

	code = check_not_lost(dir, e);
	if (code < 0)
		return code;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return err_set(e, -ENOMEM, "opening metadata in '%s'", dir);

	text = open_anyhow(r, dir, how);
	if (text != NULL) {
		free(r);
		return rocks_error(text, "opening metadata", e);
	}

	r->meta.ops = &meta_rocksdb_ops;
	mutex_init(&r->commit_lock, LOCK_META);
	mutex_init(&r->sync_lock, LOCK_META);
	mutex_init(&r->flush_lock, LOCK_META);
	make_call_options(r);
	r->durable_sequence = rocksdb_get_latest_sequence_number(r->db);
	r->background_errors = background_errors(r);
	*ret_meta = &r->meta;
	return 0;
}
