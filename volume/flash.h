/*
 * flash - the cache directories: files of SCOs, space, labels, stock.
 *
 * A file holds one version of one SCO and is named for it, DIR/sco/<stream>-<sco>-<version>. New
 * files go round the directories that have room; streams that sync often get files written with
 * zeros in advance (the stock, flash_stock.c). Space is counted in nominal bytes of files, and
 * the filesystem's own free space is watched, too: below the reserve users wait (-EAGAIN), while
 * deletion and checkpoints go on.
 */
#ifndef VOLUME_FLASH_H
#define VOLUME_FLASH_H

#include "common/env.h"
#include "common/thread.h"
#include "volume/format.h"
#include "volume/lock_ranks.h"

#define FLASH_DIRS_MAX	   16u
#define FLASH_STOCK_MAX	   4u	/* files written in advance */
#define FLASH_RECYCLED_MAX 512u /* files of dead SCOs */

struct flash_dir {
	char *path;		/* constant */
	char *sco_path;		/* path/sco; constant */
	uint64_t size_bytes;	/* limit; constant; 0: the filesystem's */
	uint64_t used_bytes;	/* guarded by flash.lock */
	bool failed;		/* takes no new files, another one does; guarded by flash.lock */
	struct env_file *label; /* locked as long as it is open: a copy of the pool keeps out */
};

struct flash_stock {
	struct env_file *file; /* NULL: not opened (recycled) */
	uint64_t number;       /* of its name */
	uint64_t len_bytes;
	uint32_t dir;
	bool recycled; /* with the bytes of a dead SCO */
};

struct flash {
	struct env *env;
	struct uuid pool;
	uint64_t reserve_bytes; /* free space that users' writes leave alone */
	unsigned int dir_count;
	struct flash_dir dirs[FLASH_DIRS_MAX];

	struct mutex lock; /* rank LOCK_FLASH; guards all below; no I/O while held */
	unsigned int next_dir;
	uint64_t stock_bytes; /* of each file of the stock; 0: nobody wants any */
	uint64_t stock_number;
	unsigned int stock_count;
	struct flash_stock stock[FLASH_STOCK_MAX];
	uint64_t sco_bytes; /* of a new SCO; 0: not known yet, nothing is recycled */
	unsigned int recycled_count;
	struct flash_stock recycled[FLASH_RECYCLED_MAX];
	bool recycled_in_use; /* one was taken since the last trim */
	bool told_full;	      /* the log has it that writes wait for room */
};

struct flash_dir_option {
	const char *path;
	uint64_t size_bytes;
};

/*
 * Make the directories and their labels (a new pool), or check them (make false).
 * Errors:   -ENOENT missing, -EUCLEAN foreign or out of order: not mounted? -EEXIST (make) has a
 *           label already.
 */
NODISCARD int flash_open(struct env *env, const struct uuid *pool,
			 const struct flash_dir_option *dirs, unsigned int dir_count,
			 uint64_t reserve_bytes, bool make, struct flash **ret_flash,
			 struct err *e);
void flash_close(struct flash *flash);

/*
 * A new file of len_bytes for a SCO, allocated, opened for direct writes; its name is not durable
 * until flash_sync_names(). urgent: may use the reserve (recovery, cleaning).
 * Errors:   -EAGAIN no room now; what the env says otherwise.
 */
NODISCARD int flash_create(struct flash *flash, uint32_t stream, uint64_t sco, uint32_t version,
			   uint64_t len_bytes, bool urgent, struct env_file **ret_file,
			   uint32_t *ret_dir, struct err *e);
NODISCARD int flash_open_file(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
			      uint32_t version, bool write, struct env_file **ret_file,
			      struct err *e);
/* Remove a file and give its space back. A file that is not there is success. */
NODISCARD int flash_delete(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
			   uint32_t version, uint64_t len_bytes, struct err *e);
/* As flash_delete of a file that counts for nothing: a failure is logged, the next start tries. */
void flash_discard(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		   uint32_t version, uint64_t len_bytes);
/* All names made so far in a directory are durable on return. */
NODISCARD int flash_sync_names(struct flash *flash, uint32_t dir, struct err *e);
/* Space of a file changed (sealing cut it), or a file was found at start (old 0). */
void flash_account(struct flash *flash, uint32_t dir, uint64_t old_bytes, uint64_t new_bytes);
/*
 * An open file whose blocks were all written before: of a dead SCO, with that one's bytes, or
 * (zeroed_too) of zeros. The caller writes a header, then names it, or drops it.
 * Errors: -ENOENT there is none of that length; whatever it is, flash_create() may still work.
 */
NODISCARD int flash_take_stock(struct flash *flash, uint64_t len_bytes, bool zeroed_too,
			       struct flash_stock *ret_stock);
/* It is version 0 of a SCO from now on. Errors: what the env says; it was dropped then. */
NODISCARD int flash_name_stock(struct flash *flash, struct flash_stock *stock, uint32_t stream,
			       uint64_t sco);
void flash_drop_taken(struct flash *flash, struct flash_stock *stock);
/*
 * Keep the file of a SCO that is durably dead, for the next one: a filesystem takes writes to blocks
 * that were written before faster, and without a journal. Nobody may read the dead one any more.
 * most: no more than so many are kept. Returns: whether it was kept; else delete it.
 */
bool flash_recycle(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		   uint32_t version, uint64_t len_bytes, unsigned int most);
/* Give recycled files back if none was taken since the last call. */
void flash_trim_recycled(struct flash *flash);
/* From now on flash_fill_stock() keeps some files of this length. */
void flash_want_stock(struct flash *flash, uint64_t len_bytes);
/*
 * Make one file of the stock, if one is wanted and there is plenty of room.
 * Returns: 1 made, call again; 0 nothing to do. Errors: what the env says.
 * Threads: one at a time; blocks on local flash.
 */
NODISCARD int flash_fill_stock(struct flash *flash, struct err *e);
/* Give the stock back; whether there was any. */
bool flash_drop_stock(struct flash *flash);
/* What an earlier process left of its stock goes. */
NODISCARD int flash_remove_old_stock(struct flash *flash, uint32_t dir, struct err *e);

/* Full path of a SCO's file; freed by the caller; NULL: no memory. */
char *flash_path(const struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		 uint32_t version);

/* Call fn for each SCO file found; others are ignored with a warning. */
NODISCARD int flash_list(struct flash *flash,
			 int (*fn)(void *arg, uint32_t dir, uint32_t stream, uint64_t sco,
				   uint32_t version),
			 void *arg, struct err *e);

/* --- directories that fail (flash_fail.c) ------------------------------------------------------- */

/*
 * What a call on a file of a directory said: if its device failed, it takes no new files from now
 * on. Not where it is the only one that is left. dir may be FLASH_DIRS_MAX: none. Returns: whether
 * it is taken out by this.
 */
bool flash_note_error(struct flash *flash, uint32_t dir, int error);
/* Those that are taken out, a bit for each. */
uint32_t flash_failed_dirs(struct flash *flash);
/*
 * Whether a directory takes a file, syncs it and forgets it. Whoever fails is noted. Errors: what
 * the env says. Threads: one at a time; blocks on local flash.
 */
NODISCARD int flash_probe(struct flash *flash, uint32_t dir, struct err *e);

/* Whether a user's write may take len_bytes more now. */
bool flash_has_room(struct flash *flash, uint64_t len_bytes);
bool flash_dir_has_room(struct flash *flash, uint32_t dir, uint64_t len_bytes);
/* What users' writes may still take of a directory now; 0 if it failed. Asks the filesystem. */
uint64_t flash_dir_room_bytes(struct flash *flash, uint32_t dir);
/*
 * Room of a directory that what is only a copy leaves to writers: an eighth of it, or eight SCOs, but
 * not more than half; nothing where it takes no writes. sco_bytes: of a new SCO. Asks the filesystem.
 */
uint64_t flash_dir_margin_bytes(struct flash *flash, uint32_t dir, uint64_t sco_bytes);
uint64_t flash_used_bytes(struct flash *flash);
uint64_t flash_size_bytes(struct flash *flash);

#endif
