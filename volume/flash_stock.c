/*
 * flash_stock - a few files written with zeros in advance, for streams that sync often.
 *
 * A commit into blocks that were only allocated makes the filesystem turn them into written ones,
 * in its journal, before fdatasync returns; into blocks that were written already it costs a flush
 * of the disk and nothing else.
 *
 * A stock file is DIR/stock-<n>, out of sight of whoever lists DIR/sco. It is whole and durable
 * zeros before it counts. Taking it is writing the header of a new SCO and one rename to its name,
 * which becomes durable as that of any new SCO: by flash_sync_names() before the first commit into
 * it is acknowledged.
 * Crash and power cut: whatever is still called stock-<n> at the next start is removed before
 * anybody looks at SCOs. If both names of a rename survived, that takes the wrong one away and
 * leaves the SCO; if only the old one did, no commit into the SCO was ever acknowledged. Zeros hold
 * no header and no batch, so a SCO whose header was lost is what it is with a new file: nothing.
 */
#include "common/log.h"
#include "volume/flash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOCK_PREFIX	 "stock-"
#define STOCK_BYTES_MAX	 (64u << 20) /* of all files, where that is more than one */
#define ZERO_BYTES	 (256u << 10)
#define STOCK_NAME_BYTES 32u
/* So many files must still fit beside one that is kept. */
#define RECYCLE_ROOM_FILES 16u

static void free_stringp(char **p)
{
	free(*p);
}

static char *stock_path(const struct flash *flash, const struct flash_stock *s)
{
	char *path;

	return asprintf(&path, "%s/" STOCK_PREFIX "%" PRIu64, flash->dirs[s->dir].path, s->number) <
			       0 ?
		       NULL :
		       path;
}

/* --- leftovers --------------------------------------------------------------------------------- */

/* Stops at the first one: what is listed must not change meanwhile. */
static int find_stock(void *arg, const char *name)
{
	char *found = arg;

	if (strncmp(name, STOCK_PREFIX, strlen(STOCK_PREFIX)) != 0 ||
	    strlen(name) >= STOCK_NAME_BYTES)
		return 0;
	memcpy(found, name, strlen(name) + 1);
	return 1;
}

int flash_remove_old_stock(struct flash *flash, uint32_t dir, struct err *e)
{
	const char *at = flash->dirs[dir].path;
	char name[STOCK_NAME_BYTES];
	int r;

	while ((r = env_list_dir(flash->env, at, find_stock, name)) == 1) {
		AUTO(free_stringp) char *path = NULL;

		if (asprintf(&path, "%s/%s", at, name) < 0)
			return err_set(e, -ENOMEM, "stock");
		r = env_unlink(flash->env, path);
		if (r < 0)
			return err_because(e, r, "removing '%s'", path);
	}
	return r < 0 ? err_set(e, r, "listing '%s': %s", at, err_name(r)) : 0;
}

/* --- taking ------------------------------------------------------------------------------------ */

static bool take_zeroed(struct flash *flash, uint64_t len_bytes, struct flash_stock *ret_stock)
{
	GUARD(&flash->lock);
	if (flash->stock_count == 0 || (len_bytes && flash->stock_bytes != len_bytes))
		return false;
	*ret_stock = flash->stock[--flash->stock_count];
	return true;
}

static bool take_recycled(struct flash *flash, uint64_t len_bytes, struct flash_stock *ret_stock)
{
	GUARD(&flash->lock);
	/* Once: all SCOs of a pool are made in one size, and discard() reads it without the lock. */
	if (flash->sco_bytes == 0)
		flash->sco_bytes = len_bytes;
	if (flash->recycled_count == 0)
		return false;
	*ret_stock = flash->recycled[--flash->recycled_count];
	flash->recycled_in_use = true;
	return true;
}

static void discard(struct flash *flash, struct flash_stock *s, uint64_t len_bytes)
{
	AUTO(free_stringp) char *path = stock_path(flash, s);

	if (s->file)
		env_close(flash->env, s->file);
	if (!path || env_unlink(flash->env, path) < 0)
		log_warning(
			"flash: a file of the stock stays until the next start: number=%" PRIu64,
			s->number);
	flash_account(flash, s->dir, len_bytes, 0);
}

bool flash_drop_stock(struct flash *flash)
{
	struct flash_stock s;
	bool dropped = false;

	for (; take_zeroed(flash, 0, &s); dropped = true)
		discard(flash, &s, flash->stock_bytes);
	for (; take_recycled(flash, 0, &s); dropped = true)
		discard(flash, &s, flash->sco_bytes);
	return dropped;
}

int flash_take_stock(struct flash *flash, uint64_t len_bytes, bool zeroed_too,
		     struct flash_stock *ret_stock)
{
	AUTO(free_stringp) char *path = NULL;
	struct flash_stock s;
	bool recycled = take_recycled(flash, len_bytes, &s);
	int r = 0;

	if (!recycled && !(zeroed_too && take_zeroed(flash, len_bytes, &s)))
		return -ENOENT;
	s.recycled = recycled;
	s.len_bytes = len_bytes;
	if (!s.file) {
		path = stock_path(flash, &s);
		r = path ? env_open(flash->env, path, ENV_READ | ENV_WRITE | ENV_DIRECT, &s.file) :
			   -ENOMEM;
	}
	if (r < 0)
		discard(flash, &s, len_bytes);
	else
		*ret_stock = s;
	return r;
}

int flash_name_stock(struct flash *flash, struct flash_stock *stock, uint32_t stream, uint64_t sco)
{
	AUTO(free_stringp) char *from = stock_path(flash, stock);
	AUTO(free_stringp) char *to = flash_path(flash, stock->dir, stream, sco, 0);
	int r = from && to ? env_rename(flash->env, from, to) : -ENOMEM;

	if (r < 0)
		flash_drop_taken(flash, stock);
	return r;
}

void flash_drop_taken(struct flash *flash, struct flash_stock *stock)
{
	discard(flash, stock, stock->len_bytes);
	stock->file = NULL;
}

/* --- filling ----------------------------------------------------------------------------------- */

void flash_want_stock(struct flash *flash, uint64_t len_bytes)
{
	GUARD(&flash->lock);
	if (flash->stock_bytes == 0)
		flash->stock_bytes = len_bytes; /* all SCOs of a pool are made in one size */
}

static int write_zeros(struct flash *flash, struct env_file *f, uint64_t len_bytes)
{
	static const uint8_t zeros[ZERO_BYTES] __attribute__((aligned(ENV_DIRECT_ALIGN)));
	int r = env_fallocate(flash->env, f, 0, len_bytes);

	for (uint64_t at = 0; at < len_bytes && r == 0; at += ZERO_BYTES)
		r = env_pwrite(flash->env, f, zeros, (size_t)min_u64(ZERO_BYTES, len_bytes - at),
			       at);
	return r == 0 ? env_fdatasync(flash->env, f) : r;
}

/* What to make next; false: nothing is wanted. */
static bool choose(struct flash *flash, struct flash_stock *ret_stock, uint64_t *ret_bytes)
{
	uint64_t most;

	GUARD(&flash->lock);
	if (flash->stock_bytes == 0)
		return false;
	most = max_u64(1, min_u64(FLASH_STOCK_MAX, STOCK_BYTES_MAX / flash->stock_bytes));
	if (flash->stock_count >= most)
		return false;
	*ret_bytes = flash->stock_bytes;
	*ret_stock = (struct flash_stock){ .number = flash->stock_number++ };
	ret_stock->dir = (uint32_t)(ret_stock->number % flash->dir_count);
	return true;
}

int flash_fill_stock(struct flash *flash, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	struct flash_stock s;
	uint64_t len_bytes;
	int r;

	/* Only where there is plenty: twice the stock's share must still be free. */
	if (!choose(flash, &s, &len_bytes) ||
	    !flash_dir_has_room(flash, s.dir, 2 * FLASH_STOCK_MAX * len_bytes))
		return 0;
	path = stock_path(flash, &s);
	if (!path)
		return err_set(e, -ENOMEM, "stock");
	r = env_open(flash->env, path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL | ENV_DIRECT,
		     &s.file);
	if (r < 0)
		return err_because(e, r, "creating '%s'", path);
	flash_account(flash, s.dir, 0, len_bytes);
	r = write_zeros(flash, s.file, len_bytes);
	if (r < 0) {
		discard(flash, &s, len_bytes);
		return err_because(e, r, "writing '%s'", path);
	}
	GUARD(&flash->lock);
	flash->stock[flash->stock_count++] = s; /* one thread fills: there is room */
	return 1;
}

/* --- recycling --------------------------------------------------------------------------------- */

/* A place in the list; what is not used goes with the next trim. */
static bool may_recycle(struct flash *flash, uint32_t dir, unsigned int most,
			struct flash_stock *ret_stock, uint64_t *ret_bytes)
{
	most = (unsigned int)min_u64(most, FLASH_RECYCLED_MAX);
	mutex_lock(&flash->lock);
	*ret_bytes = flash->sco_bytes;
	most = flash->sco_bytes && flash->recycled_count < most ? most : 0;
	*ret_stock = (struct flash_stock){ .number = flash->stock_number++, .dir = dir };
	mutex_unlock(&flash->lock);
	return most > 0 && flash_dir_has_room(flash, dir, RECYCLE_ROOM_FILES * *ret_bytes);
}

/* As long as a new one. A name on the backend besides ours would see what is written from now on. */
static int fit(struct flash *flash, const char *path, uint64_t len_bytes)
{
	struct env_stat st;
	struct env_file *f;
	int r = env_open(flash->env, path, ENV_READ | ENV_WRITE | ENV_DIRECT, &f);

	if (r < 0)
		return r;
	r = env_stat(flash->env, f, &st);
	if (r == 0 && st.link_count != 1)
		r = -EMLINK;
	if (r == 0 && st.size_bytes > len_bytes)
		r = env_truncate(flash->env, f, len_bytes);
	else if (r == 0 && st.size_bytes < len_bytes)
		r = env_fallocate(flash->env, f, 0, len_bytes);
	env_close(flash->env, f);
	return r;
}

bool flash_recycle(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		   uint32_t version, uint64_t len_bytes, unsigned int most)
{
	AUTO(free_stringp) char *from = flash_path(flash, dir, stream, sco, version);
	AUTO(free_stringp) char *to = NULL;
	struct flash_stock s;
	uint64_t new_bytes;

	if (!from || !may_recycle(flash, dir, most, &s, &new_bytes))
		return false;
	to = stock_path(flash, &s);
	if (!to || fit(flash, from, new_bytes) < 0 || env_rename(flash->env, from, to) < 0)
		return false;
	flash_account(flash, dir, len_bytes, new_bytes);
	GUARD(&flash->lock);
	flash->recycled[flash->recycled_count++] = s; /* one thread buries: there is room */
	return true;
}

void flash_trim_recycled(struct flash *flash)
{
	struct flash_stock s;
	bool in_use;

	mutex_lock(&flash->lock);
	in_use = flash->recycled_in_use;
	mutex_unlock(&flash->lock);
	while (!in_use && take_recycled(flash, 0, &s))
		discard(flash, &s, flash->sco_bytes);
	mutex_lock(&flash->lock);
	flash->recycled_in_use = false;
	mutex_unlock(&flash->lock);
}
