/*
 * format - every byte that the engine keeps on flash, in the ring, in RocksDB and on the backend.
 *
 * One pair of functions a structure: encode from the unpacked struct, decode with all checks.
 * All integers are little-endian, except in keys (big-endian, so that they sort). Layouts,
 * versions and the crash argument of each: FORMAT.md. Decoders never trust a byte: they return
 * -EBADMSG (checksum), -EUCLEAN (structure), -EPROTONOSUPPORT (feature bits or version that this
 * program does not know) with what and where, and touch their outputs only on success.
 *
 * Memory: a decoder allocates nothing, but those of object_row, manifest and root, whose lists have at
 * most 64 bytes for each byte that came in. tests/fuzz holds each to it.
 */
#ifndef VOLUME_FORMAT_H
#define VOLUME_FORMAT_H

#include "common/buf.h"
#include "common/err.h"
#include "volume/types.h"

#define FORMAT_VERSION 1u
#define BLOCK_BYTES    4096u
#define UUID_BYTES     16u

struct uuid {
	uint8_t bytes[UUID_BYTES];
};

struct features {
	uint64_t compat, ro_compat, incompat;
};
/* Bits this program knows. A foreign incompat bit refuses; a foreign ro_compat bit too (we write). */
#define FEATURES_KNOWN_RO_COMPAT UINT64_C(0)
/* Rows of snapshots, marks of live layers: somebody who does not know them would replay too much. */
#define FEATURE_SNAPSHOTS	UINT64_C(1)
#define FEATURES_KNOWN_INCOMPAT FEATURE_SNAPSHOTS
/* Of a pool's row and a root: objects may lie in packs. */
#define FEATURE_PACKS UINT64_C(2)
/* The same: logs may have entries with ENTRY_COPY. */
#define FEATURE_COPIES UINT64_C(4)
/* The same: among the rows of names some may be of files in the trash. */
#define FEATURE_TRASH UINT64_C(8)
/* Of a pool's row: there may be rows ROW_RESOLVED, so commits that move what frozen layers have put
 * ROW_MOVED. */
#define FEATURE_RESOLVED UINT64_C(16)
/* Of a pool's row and a root: objects may be templates. */
#define FEATURE_TEMPLATES UINT64_C(32)
/* The same: logs may have entries ENTRY_SHARE. */
#define FEATURE_SHARES UINT64_C(64)
/* ... and these in a pool's row and in a root. */
#define FEATURES_OF_POOL (FEATURE_PACKS | FEATURES_OF_LOGS | FEATURES_OF_NAMES | FEATURE_RESOLVED)
/* Of those such as the logs that a root names may need, */
#define FEATURES_OF_LOGS (FEATURE_COPIES | FEATURE_SHARES)
/* and such as the rows of names that it shows may need. */
#define FEATURES_OF_NAMES (FEATURE_TRASH | FEATURE_TEMPLATES)

/* --- SCO header: slot 0 of every SCO (FORMAT.md section 2) ------------------------------------- */

enum sco_header_flags {
	SCO_FIRST_OF_EPOCH = 1 << 0, /* first SCO of its stream in its epoch: the cut is valid */
	SCO_RECYCLED = 1 << 1,	     /* the file was another SCO's: its bytes are still there */
};

struct sco_header {
	struct features features;
	struct uuid pool;
	uint32_t stream;
	uint32_t slots_max; /* slots of the data area, slot 0 included */
	uint64_t sco;
	uint32_t version;
	uint32_t flags;
	uint64_t epoch;
	uint64_t salt;
	int64_t created_ns;
	/* What counts of all older SCOs: those below cut_sco whole, cut_batches of cut_sco, and of
	 * these only entries up to cut_lsn. */
	uint64_t cut_sco;
	uint32_t cut_batches;
	lsn_t cut_lsn;
};
void sco_header_encode(const struct sco_header *h, uint8_t block[BLOCK_BYTES]);
NODISCARD int sco_header_decode(const uint8_t block[BLOCK_BYTES], struct sco_header *ret_header,
				struct err *e);

/* --- Batch: one entry block, then its clusters (FORMAT.md section 3) --------------------------- */

#define BATCH_HEADER_BYTES 96u
#define BATCH_ENTRY_BYTES  56u
/* Bytes of a block for entries (growing up) and cluster checksums (growing down). */
#define BATCH_ROOM_BYTES (BLOCK_BYTES - BATCH_HEADER_BYTES)

enum batch_flags {
	BATCH_DIRECT = 1 << 0, /* its clusters were written by their writers, not from the ring */
};

struct batch_header {
	uint16_t flags;
	uint64_t salt; /* of its SCO */
	uint64_t sco;
	uint32_t stream;
	uint32_t batch; /* consecutive in its SCO from 0 */
	uint32_t slot;	/* of this block */
	uint64_t epoch;
	/* Known when the batch closes; zero in an open frame of the ring. */
	uint16_t entry_count;	/* entry positions used, void ones included */
	uint16_t cluster_count; /* slots behind this block */
	lsn_t closed_lsn;	/* last LSN given out when it closed */
	lsn_t durable_lsn;	/* known durable then */
	uint64_t meta_sequence; /* synced metadata sequence known then */
};

/* Pairwise, and from 0, at least 3 bits apart: no flip or two makes one of another. */
enum entry_kind {
	ENTRY_NONE = 0,	       /* never published: void */
	ENTRY_DATA = 0x35,     /* clusters in slots */
	ENTRY_ZERO = 0x56,     /* range reads as zeros (punch, zero-range, zero clusters) */
	ENTRY_TRUNCATE = 0x93, /* nothing from first_cluster on but its own slot, if any */
	ENTRY_VOID = 0xac,     /* LSNs lsn .. lsn + cluster_count - 1 were never published */
	ENTRY_ATTR = 0xca,     /* size and mtime only */
	ENTRY_SHARE = 0x69,    /* clusters in slots of a SCO that was sealed before */
};

#define ENTRY_TO_END UINT32_MAX /* cluster_count of a range without end */

enum entry_flags {
	/* Of DATA: what a frozen layer of the object has, copied by the cleaner. It changes neither map
	 * nor object: replay passes over it. size_bytes is the layer's mark. */
	ENTRY_COPY = 1 << 0,
};

struct log_entry {
	lsn_t lsn;
	uint64_t object;
	uint64_t first_cluster;
	/* DATA, ZERO, SHARE: the object is at least this long; TRUNCATE, ATTR: exactly. COPY: an LSN. */
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint32_t cluster_count;
	uint16_t slot; /* first slot; 0: none */
	uint8_t kind;  /* enum entry_kind */
	uint8_t flags; /* enum entry_flags */
	loc_t source;  /* SHARE: the place of the first cluster, the others behind it; else 0 */
};

/* Write the header of a batch that opens into a zeroed frame block; checksums its fixed part. The
 * magic goes last, so a block that shows it has a whole header. */
void batch_open_encode(const struct batch_header *h, uint8_t *block);
/* Note how many entry positions and clusters of an open block are reserved, so that recovery does
 * not take checksums for entries. Under whatever orders reservations; clusters never sink. */
void batch_counts_put(uint8_t *block, unsigned int entries, unsigned int clusters);
/* Fill in what is known at the close and the checksum of the whole block. Nobody writes to the
 * block any more. */
void batch_close_encode(const struct batch_header *h, uint8_t *block);
/* Fixed part of a block that may still be open (ring recovery): header checksum only. The counts
 * are those of batch_counts_put(), 0 if it was never called; the other closing fields are 0. */
NODISCARD int batch_open_decode(const uint8_t *block, struct batch_header *ret_header,
				struct err *e);
/* A closed block read from a SCO: whole checksum, counts and slots in bounds. */
NODISCARD int batch_close_decode(const uint8_t *block, struct batch_header *ret_header,
				 struct err *e);
/*
 * Put all of an entry but its kind at position index, with its checksum, which covers the kind it
 * will get and its clusters' checksums (crc_count of them from crc_first on). Publishing is then
 * one release store of the kind by batch_entry_publish(). Never fails; what its decoder would
 * refuse is asserted.
 */
void batch_entry_encode(uint8_t *block, unsigned int index, const struct log_entry *entry,
			uint64_t salt, unsigned int crc_first, unsigned int crc_count);
void batch_entry_publish(uint8_t *block, unsigned int index, uint8_t kind);
/*
 * Decode an entry of a block whose header was decoded. 0: decoded; -ENODATA: never published, or
 * behind the positions that the header counts; -EBADMSG: its checksum is wrong; -EUCLEAN: fields
 * out of bounds, or slots behind the clusters that the header counts. In an open block that counts
 * no entry (batch_counts_put() was never called) all positions are looked at; where checksums have
 * grown over one, it looks like a damaged entry.
 */
NODISCARD int batch_entry_decode(const uint8_t *block, unsigned int index, uint64_t salt,
				 struct log_entry *ret_entry, struct err *e);
/* Checksum of the i-th cluster behind the block. */
void batch_crc_put(uint8_t *block, unsigned int i, uint32_t crc);
uint32_t batch_crc_get(const uint8_t *block, unsigned int i);
/* Whether one block holds so many entries with so many clusters in all: before a reservation, ask
 * with its own added. */
bool batch_has_room(unsigned int entries, unsigned int clusters);
/* Most clusters that fit behind a block that has one entry; most entries without any cluster. */
#define BATCH_CLUSTERS_MAX ((BATCH_ROOM_BYTES - BATCH_ENTRY_BYTES) / 4u)
#define BATCH_ENTRIES_MAX  (BATCH_ROOM_BYTES / BATCH_ENTRY_BYTES)

/* --- Index of a sealed SCO: slot table, log, footer (FORMAT.md section 4) ----------------------- */

enum slot_kind {
	SLOT_DEAD = 0,
	SLOT_RAW = 1,  /* arg: byte offset in the file */
	SLOT_LZ4 = 2,  /* arg: byte offset, stored_bytes long */
	SLOT_REF = 3,  /* arg: loc_t with the index into the footer's stream table as origin */
	SLOT_META = 4, /* header or entry block */
};
struct slot_record {
	uint8_t kind;
	uint16_t stored_bytes; /* RAW: 4096; LZ4: 1..4095; else 0 */
	uint32_t crc;	       /* of the 4096 bytes of the cluster; DEAD and META: 0, as arg */
	uint64_t arg;
};
#define SLOT_RECORD_BYTES 16u
#define SLOTS_PER_CHUNK	  255u

/* One 4096-byte chunk: records of slots chunk * 255 on; count of them valid. */
void slot_chunk_encode(uint32_t chunk, uint64_t salt, const struct slot_record *records,
		       unsigned int count, uint8_t block[BLOCK_BYTES]);
NODISCARD int slot_chunk_decode(const uint8_t block[BLOCK_BYTES], uint32_t chunk, uint64_t salt,
				struct slot_record ret_records[SLOTS_PER_CHUNK],
				unsigned int *ret_count, struct err *e);

/* Entries of the log part: plain, one after the other; their checksum is in the footer. */
void log_entry_encode(const struct log_entry *entry, uint8_t out[BATCH_ENTRY_BYTES]);
NODISCARD int log_entry_decode(const uint8_t in[BATCH_ENTRY_BYTES], struct log_entry *ret_entry,
			       struct err *e);

struct sco_footer {
	struct features features;
	struct uuid pool;
	uint32_t stream;
	uint32_t slot_count; /* used, slot 0 included */
	uint64_t sco;
	uint32_t version;
	uint64_t epoch;
	uint64_t salt;
	lsn_t first_lsn, last_lsn; /* 0: no entries */
	uint64_t table_offset_bytes;
	uint32_t table_chunks;
	uint32_t table_crc; /* over all chunks */
	uint64_t log_offset_bytes;
	uint32_t log_entries;
	uint32_t log_crc;
	uint32_t batch_count;
	uint64_t file_bytes; /* footer included: the file's exact length */
	lsn_t durable_lsn;   /* of the stream, known when it was sealed */
};
void sco_footer_encode(const struct sco_footer *f, uint8_t block[BLOCK_BYTES]);
NODISCARD int sco_footer_decode(const uint8_t block[BLOCK_BYTES], struct sco_footer *ret_footer,
				struct err *e);

/* --- Ring, labels (FORMAT.md sections 5, 6) ---------------------------------------------------- */

#define BOOT_ID_BYTES 36u

struct ring_header {
	struct features features;
	struct uuid pool;
	char boot_id[BOOT_ID_BYTES + 1];
	uint64_t pool_dir_dev, pool_dir_ino;
	uint64_t ring_bytes; /* header and frames */
	uint32_t frame_bytes;
	uint32_t frame_count;
	uint64_t epoch; /* that made it */
	uint64_t nonce;
	uint64_t
		first_sco; /* SCOs of lower numbers are of earlier processes; 0: of whom is unknown */
};
void ring_header_encode(const struct ring_header *h, uint8_t block[BLOCK_BYTES]);
NODISCARD int ring_header_decode(const uint8_t block[BLOCK_BYTES], struct ring_header *ret_header,
				 struct err *e);

/* POOL/ring.id: where the ring is and whose. */
#define RING_RECORD_BYTES 512u
#define RING_PATH_MAX	  255u
struct ring_record {
	struct uuid pool;
	char boot_id[BOOT_ID_BYTES + 1];
	char path[RING_PATH_MAX + 1];
	uint64_t ring_bytes;
	uint64_t nonce;
	uint32_t uid;
	bool clean; /* closed with nothing in it: may be missing */
};
void ring_record_encode(const struct ring_record *r, uint8_t out[RING_RECORD_BYTES]);
NODISCARD int ring_record_decode(const uint8_t *in, size_t len_bytes,
				 struct ring_record *ret_record, struct err *e);

/* DIR/label of a cache directory. */
#define CACHE_LABEL_BYTES 128u
struct cache_label {
	struct features features;
	struct uuid pool;
	uint32_t index;
	int64_t created_ns;
};
void cache_label_encode(const struct cache_label *l, uint8_t out[CACHE_LABEL_BYTES]);
NODISCARD int cache_label_decode(const uint8_t *in, size_t len_bytes, struct cache_label *ret_label,
				 struct err *e);

/* DIR/chunks.map, what lies in the slots of DIR/chunks: a header block, then entries (section 6.1). */
#define CACHE_MAP_ENTRY_BYTES 32u
#define CACHE_MAP_SLOTS_MAX   ((UINT32_C(1) << 28) - 1)
#define CACHE_MAP_CHUNK_MAX   ((UINT32_C(1) << 14) - 1)
struct cache_map_header {
	struct features features;
	struct uuid pool;
	uint32_t index;	     /* of the directory in the pool */
	uint32_t slot_count; /* entries that follow */
};
void cache_map_header_encode(const struct cache_map_header *h, uint8_t block[BLOCK_BYTES]);
NODISCARD int cache_map_header_decode(const uint8_t block[BLOCK_BYTES],
				      struct cache_map_header *ret_header, struct err *e);

enum cache_map_kind {
	CACHE_MAP_CHUNK = 0x35,
	CACHE_MAP_BARE = 0x56, /* nothing, and no blocks of the file */
};
struct cache_map_entry {
	uint64_t sco; /* of a bare slot all is 0 */
	uint32_t version;
	uint32_t chunk;
	uint16_t present; /* blocks that are there: not 0 */
	uint8_t kind;
	uint8_t main; /* 1: it was read again */
	uint8_t frequency;
};
void cache_map_entry_encode(const struct cache_map_entry *entry, uint32_t slot,
			    uint8_t out[CACHE_MAP_ENTRY_BYTES]);
/* Errors: -ENODATA all zeros: nothing is known of the slot. */
NODISCARD int cache_map_entry_decode(const uint8_t in[CACHE_MAP_ENTRY_BYTES], uint32_t slot,
				     struct cache_map_entry *ret_entry, struct err *e);

/* --- Rows (FORMAT.md section 7) ---------------------------------------------------------------- */

#define ROW_KEY_BYTES_MAX 32u
/* Longest key of a row in an image: those of fs/ carry names. */
#define IMAGE_KEY_BYTES_MAX 384u
struct row_key {
	uint8_t bytes[ROW_KEY_BYTES_MAX];
	size_t len_bytes;
};

/* Kinds: first byte of every key. Upper case: family NAMES (WAL); lower case: STATE (no WAL). */
enum row_kind {
	ROW_POOL = 'P',
	ROW_COUNTER = 'K',
	ROW_STREAM = 'S',
	ROW_CHECKPOINT = 'C',
	ROW_OBJECT = 'O',
	ROW_LAYER = 'L',
	ROW_SNAPSHOT = 'N',
	ROW_ROOT = 'R',
	ROW_CONDEMNED = 'X',
	ROW_PACK = 'B',
	ROW_FS = 'F', /* keys and values are those of fs/ */
	ROW_OBJECT_STATE = 'o',
	ROW_PAGE = 'm',
	ROW_SCO = 's',
	ROW_CHANGED = 'c',
	ROW_RESOLVED = 'r',
	ROW_MOVED = 'v',
	ROW_MAP_PIECE = 'p', /* only in images of kind ROWS_MAP_INDEX */
};
struct row_key row_key_u64(enum row_kind kind, uint64_t id);		 /* kind, BE64 */
struct row_key row_key_2u64(enum row_kind kind, uint64_t a, uint64_t b); /* kind, BE64, BE64 */
/* -EUCLEAN when it is not a key of that kind and shape. */
NODISCARD int row_key_parse_u64(const uint8_t *key, size_t len, enum row_kind kind, uint64_t *ret);
NODISCARD int row_key_parse_2u64(const uint8_t *key, size_t len, enum row_kind kind,
				 uint64_t *ret_a, uint64_t *ret_b);

enum counter_id {
	COUNTER_OBJECT = 1,
	COUNTER_STREAM = 2,
	COUNTER_SCO = 3,
	COUNTER_LAYER = 4,
	COUNTER_SNAPSHOT = 5,
	COUNTER_ROOT = 6,
	COUNTER_INODE = 7
};

struct pool_row {
	struct features features;
	struct uuid pool;
	uint64_t epoch;
	int64_t created_ns;
	uint32_t sco_bytes;
};
struct counter_row {
	uint64_t high_water; /* numbers below it may have been handed out */
};
struct stream_row {
	uint32_t class; /* enum object_class */
	uint64_t owner; /* object of a disk's stream, 0: shared */
};
/* Everything of the stream up to lsn is in STATE rows that were flushed before this row. */
struct checkpoint_row {
	lsn_t lsn;
	uint64_t replay_sco; /* SCOs below it hold no entry above lsn */
	uint8_t damaged;     /* refused for writing until repaired */
};
#define OBJECT_ORIGINS_MAX 4095u
struct object_origin {
	uint32_t stream;
	lsn_t mark;
};
enum object_row_flags {
	OBJECT_TEMPLATE = 1 << 0, /* its bytes and its length do not change */
};
struct object_row {
	uint32_t class;
	uint32_t flags;
	uint64_t live_layer;
	int64_t created_ns;
	/* Streams whose layers it inherits, number 0 its own, each with the mark that it inherits
	 * (0: none). Decoded into memory that object_row_done() frees. */
	uint32_t origin_count;
	struct object_origin *origins;
};
void object_row_done(struct object_row *row);

enum layer_state { LAYER_LIVE = 1, LAYER_FROZEN = 2, LAYER_DROPPED = 3 };
struct layer_row {
	uint8_t state;
	uint64_t object;
	uint64_t parent;		/* 0: none */
	uint64_t parent_limit_clusters; /* nothing of the parent at and behind it */
	uint32_t parent_origin_base;	/* added to origins of the parent's locations */
	/* Of what this stream's log holds of its object up to the mark a frozen layer has all, a live
	 * one nothing. */
	uint32_t mark_stream;
	lsn_t mark;
};
/* A name on a frozen layer; key (object, number of the snapshot). Decoded, name and comment point into
 * the value; they do not end with NUL. */
#define SNAPSHOT_ROW_NAME_MAX	 255u
#define SNAPSHOT_ROW_COMMENT_MAX 65536u
#define SNAPSHOT_ROW_BYTES_MAX	 66000u
enum snapshot_row_flags {
	SNAPSHOT_STICKY = 1 << 0,
};
struct snapshot_row {
	uint64_t layer;
	int64_t created_ns;
	uint64_t size_bytes;
	uint64_t root; /* the first root that can show it */
	uint32_t flags;
	uint8_t name_bytes;
	uint32_t comment_bytes;
	const char *name, *comment;
};
/* 1 to 255 bytes, none of them '/' or NUL; not "." or "..". */
bool snapshot_name_is_sound(const char *name, size_t len_bytes);
struct root_row {
	uint64_t number, epoch;
};
/* A pack, key pack_key() with index 0. */
struct pack_row {
	uint64_t len_bytes; /* of the object, its directory included */
	uint32_t directory_bytes;
	uint32_t member_count; /* when it was put */
};
struct changed_row {
	uint64_t root; /* the first root whose map shows the change */
};
/* What a frozen layer shows of a page, its parents included; key as that of the page's row. A copy: the
 * rows of pages are the truth. Decoded, page points into the value and is not checked inside. */
#define RESOLVED_PAGE_BYTES_MAX 8200u
struct resolved_row {
	uint64_t sequence; /* of the checkpoint that made it: (epoch << 32 | its number), not 0 */
	size_t page_bytes;
	const uint8_t *page; /* a PAGE_BASE */
};
/* Key 0. The newest checkpoint that moved what frozen layers have; in the commit of the first move. */
struct moved_row {
	uint64_t sequence;
};
struct object_state_row {
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint64_t mapped_clusters; /* non-zero ones of the effective map */
	lsn_t lsn;		  /* of the newest entry in it */
};

/* Row ROW_CHANGED (layer, page >> AREA_PAGES_SHIFT): rows of these pages, or with area 0 the layer's
 * state, changed since the map image that the newest root names. */
#define AREA_PAGES_SHIFT 8u
/* No area: rows of the layer changed in a way that no log tells, so the next root needs a new map. */
#define AREA_UNLOGGED (UINT64_C(1) << 48)
/* No area, and it stays as long as the layer: rows of it may name SCOs of other streams. So each root
 * that shows a change of it needs a new map: no log tells when such a SCO went. */
#define AREA_FOREIGN (AREA_UNLOGGED + 1)
enum sco_state { SCO_OPEN = 1, SCO_SEALED = 2 };
enum sco_row_flags {
	SCO_UPLOADED = 1 << 0, /* the object named by object_epoch is on the backend */
	SCO_LINKED = 1 << 1,   /* cache file and object are one inode: never written again */
};
struct sco_row {
	uint8_t state;
	uint8_t flags;
	uint32_t version;
	uint32_t cache_dir;
	uint32_t slot_count;
	uint32_t live_slots; /* named by STATE page rows */
	uint64_t epoch, salt;
	uint64_t object_epoch;
	uint64_t file_bytes;
	uint32_t footer_crc;
	lsn_t first_lsn, last_lsn;
};

#define OBJECT_NAME_MAX 127u

/* Values: each has a version byte, its fields and a CRC-32C at the end. -E2BIG never: out grows. */
#define DECLARE_ROW(name)                                                                          \
	NODISCARD int name##_encode(const struct name *row, struct buf *out);                      \
	NODISCARD int name##_decode(const uint8_t *in, size_t len_bytes, struct name *ret_row,     \
				    struct err *e)
DECLARE_ROW(pool_row);
DECLARE_ROW(counter_row);
DECLARE_ROW(stream_row);
DECLARE_ROW(checkpoint_row);
DECLARE_ROW(object_row);
DECLARE_ROW(layer_row);
DECLARE_ROW(snapshot_row);
DECLARE_ROW(root_row);
DECLARE_ROW(object_state_row);
DECLARE_ROW(sco_row);
DECLARE_ROW(changed_row);
DECLARE_ROW(resolved_row);
DECLARE_ROW(moved_row);
DECLARE_ROW(pack_row);

/* The value of a condemned object's row: its name and nothing more. Appends. Errors: -ENOMEM. */
NODISCARD int condemned_row_encode(const char *name, struct buf *out);
/* Errors: -EUCLEAN, -EBADMSG. */
NODISCARD int condemned_row_decode(const uint8_t *in, size_t len_bytes,
				   char ret_name[OBJECT_NAME_MAX + 1], struct err *e);

/* --- Map page values (FORMAT.md section 8) ----------------------------------------------------- */

/* A run of clusters of one page. loc is LOC_UNMAPPED or LOC_ZERO for all, or consecutive slots. */
struct page_run {
	uint16_t first, count;
	loc_t loc;
	const uint32_t *crcs; /* count of them, or NULL: look in the SCO's index */
};

enum page_value_kind {
	PAGE_BASE = 1,	/* clusters that no run names are unmapped */
	PAGE_DELTA = 2, /* clusters that no run names stay as they were */
};

/* Append an encoded value of these runs (ascending, not overlapping). Errors: -ENOMEM, -E2BIG. */
NODISCARD int page_value_encode(enum page_value_kind kind, const struct page_run *runs,
				unsigned int count, struct buf *out);
/*
 * Check a whole value (checksum, order, bounds), then call fn for each run; crcs point to memory
 * valid during the call.
 */
NODISCARD int page_value_decode(const uint8_t *in, size_t len_bytes, enum page_value_kind *ret_kind,
				void (*fn)(void *arg, const struct page_run *run), void *arg,
				struct err *e);
/*
 * Lay runs (ascending, not overlapping) over a base and append the base that comes of it, in the
 * longest runs if the old one was. base_bytes 0: there is none. fn is told what stood where they go:
 * count clusters from old on are from new on now; each is a place or a word.
 * Errors: as decoding; then fn was not called and nothing is appended. -ENOMEM, -E2BIG.
 */
NODISCARD int page_value_splice(const uint8_t *base, size_t base_bytes, const struct page_run *runs,
				unsigned int run_count,
				void (*fn)(void *arg, loc_t old, loc_t new, unsigned int count),
				void *arg, struct buf *out, struct err *e);

/* --- Objects on the backend (FORMAT.md section 9) ---------------------------------------------- */

/* An image of rows: namespace snapshots, pieces of maps and their index. Header, rows, CRC. */
enum rows_image_kind { ROWS_NAMESPACE = 1, ROWS_MAP = 2, ROWS_MAP_INDEX = 3 };
struct rows_image_header {
	struct uuid pool;
	uint32_t kind;
	uint32_t stream; /* 0 for a namespace */
	uint64_t epoch;
	lsn_t lsn; /* checkpoint LSN of the stream; 0 for a namespace */
};
NODISCARD int rows_image_begin(const struct rows_image_header *h, struct buf *out);
NODISCARD int rows_image_add(struct buf *out, const uint8_t *key, size_t key_bytes,
			     const uint8_t *value, size_t value_bytes);
NODISCARD int rows_image_end(struct buf *out);
NODISCARD int rows_image_decode(const uint8_t *in, size_t len_bytes,
				struct rows_image_header *ret_header,
				int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
					  const uint8_t *value, size_t value_bytes),
				void *arg, struct err *e);

/* Longest value that an image of rows takes. */
#define ROW_VALUE_BYTES_MAX (1u << 20)

struct named_object {
	char name[OBJECT_NAME_MAX + 1];
	uint64_t len_bytes;
	uint32_t crc;
};
/*
 * A row of a map's index. A piece is an image of the stream's rows from (layer, page) up to the next
 * piece; the state row of a layer lies before its page 0. What is before the first piece is its own.
 */
struct map_piece {
	uint64_t layer, page; /* its key */
	uint32_t layers;      /* of the stream, whose page 0 lies in it */
	struct named_object object;
};
NODISCARD int map_piece_encode(const struct map_piece *piece, struct buf *out);
/* Fills in all but the key. Errors: -EBADMSG, -EUCLEAN, -EPROTONOSUPPORT. */
NODISCARD int map_piece_decode(const uint8_t *in, size_t len_bytes, struct map_piece *ret_piece,
			       struct err *e);

struct manifest_sco {
	uint64_t sco;
	uint32_t version;
	uint32_t slot_count;
	uint64_t object_epoch;
	uint64_t file_bytes;
	uint32_t footer_crc;
	lsn_t first_lsn, last_lsn;
};
struct manifest {
	struct uuid pool;
	uint32_t stream;
	uint64_t epoch;
	uint64_t root;
	lsn_t lsn;		 /* state of the stream that the root commits */
	struct named_object map; /* index of its pieces; name empty: none, replay all SCOs */
	lsn_t map_lsn;
	uint32_t sco_count;
	struct manifest_sco *scos; /* ascending; freed by manifest_done() */
};
void manifest_done(struct manifest *m);
NODISCARD int manifest_encode(const struct manifest *m, struct buf *out);
NODISCARD int manifest_decode(const uint8_t *in, size_t len_bytes, struct manifest *ret_manifest,
			      struct err *e);

/* An object that lies in a pack: a range of it. */
struct pack_member {
	uint64_t offset_bytes;
	struct named_object object; /* name of its own, length and CRC of its bytes */
};
/* The row of a member, index 1 and up. */
NODISCARD int pack_member_encode(const struct pack_member *m, struct buf *out);
NODISCARD int pack_member_decode(const uint8_t *in, size_t len_bytes,
				 struct pack_member *ret_member, struct err *e);
#define PACK_MEMBERS_MAX 2000u
struct row_key pack_key(uint64_t epoch, uint64_t number, uint32_t index);
NODISCARD int pack_key_parse(const uint8_t *key, size_t len_bytes, uint64_t *ret_epoch,
			     uint64_t *ret_number, uint32_t *ret_index);
/* The end of a pack: what lies in it. */
struct pack_directory {
	struct uuid pool;
	uint64_t epoch, number;
	uint32_t member_count; /* up to PACK_MEMBERS_MAX */
	struct pack_member
		*members; /* side by side, from the start; freed by pack_directory_done() */
};
void pack_directory_done(struct pack_directory *d);
NODISCARD int pack_directory_encode(const struct pack_directory *d, struct buf *out);
/* end_bytes: where the members end and the directory begins. */
NODISCARD int pack_directory_decode(const uint8_t *in, size_t len_bytes, uint64_t end_bytes,
				    struct pack_directory *ret_directory, struct err *e);

/* A pack as a root names it. */
struct root_pack {
	struct named_object object;
	uint32_t directory_bytes; /* at its end */
};
struct root_stream {
	uint32_t stream;
	struct named_object manifest;
};
struct root {
	struct features features;
	struct uuid pool;
	uint64_t epoch;
	uint64_t number;
	int64_t created_ns;
	struct named_object ns; /* namespace snapshot */
	uint32_t stream_count;
	struct root_stream *streams; /* ascending */
	uint32_t condemned_count;
	char (*condemned)[OBJECT_NAME_MAX + 1]; /* go when the next root is committed */
	uint32_t pack_count;			/* not 0 only with FEATURE_PACKS */
	struct root_pack *packs;		/* where objects lie that have none of their own */
};
void root_done(struct root *r);
NODISCARD int root_encode(const struct root *r, struct buf *out);
NODISCARD int root_decode(const uint8_t *in, size_t len_bytes, struct root *ret_root,
			  struct err *e);

/* The text of pool.json, which says whose a store is. Returns its length, without the NUL behind it. */
#define POOL_TEXT_MAX 128u
size_t pool_text_write(const struct uuid *pool, char ret_text[POOL_TEXT_MAX + 1]);
/* Takes what that writes, and anything behind it. Errors: -EUCLEAN. */
NODISCARD int pool_text_parse(const char *text, struct uuid *ret_pool);

/* Names: "<stream>/sco/<number>-<version>-<epoch>", "root/<epoch>-<number>" ... (section 9). */
void object_name_sco(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t sco,
		     uint32_t version, uint64_t epoch);
void object_name_manifest(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
			  uint64_t epoch);
void object_name_map(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
		     uint64_t epoch);
void object_name_map_piece(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
			   uint32_t number, uint64_t epoch);
void object_name_namespace(char ret_name[OBJECT_NAME_MAX + 1], uint64_t root, uint64_t epoch);
void object_name_root(char ret_name[OBJECT_NAME_MAX + 1], uint64_t root, uint64_t epoch);
void object_name_pack(char ret_name[OBJECT_NAME_MAX + 1], uint64_t number, uint64_t epoch);
void object_name_epoch(char ret_name[OBJECT_NAME_MAX + 1], uint64_t epoch);

enum object_name_kind {
	NAME_SCO,
	NAME_MAP,
	NAME_PIECE,
	NAME_MANIFEST,
	NAME_NAMESPACE,
	NAME_ROOT,
	NAME_EPOCH,
	NAME_PACK
};
struct object_name {
	enum object_name_kind kind;
	uint32_t stream;  /* 0 where there is none */
	uint64_t number;  /* of the SCO or pack; else of the root; 0 in a claim */
	uint32_t version; /* of a SCO; number of a piece */
	uint64_t epoch;
};
/* What a name says that one of the above made; exactly those. Errors: -EINVAL. */
NODISCARD int object_name_parse(const char *name, struct object_name *ret_name);

/* Cache file names: "<stream>-<sco>-<version>" in hexadecimal of fixed width; the parser takes
 * exactly those. Errors: -EINVAL. */
#define SCO_FILE_NAME_MAX 63u
void sco_file_name(char ret_name[SCO_FILE_NAME_MAX + 1], uint32_t stream, uint64_t sco,
		   uint32_t version);
NODISCARD int sco_file_name_parse(const char *name, uint32_t *ret_stream, uint64_t *ret_sco,
				  uint32_t *ret_version);

#endif
