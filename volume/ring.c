#include "volume/ring.h"

#include "common/endian.h"
#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_RECORD_NAME   "ring.id"
#define RING_FRAME_DEFAULT (128u << 10)
#define LEFTOVERS_MAX	   64u /* removed at one start */

static int path_join(char **ret_path, const char *dir, const char *name)
{
	return asprintf(ret_path, "%s/%s", dir, name) < 0 ? -ENOMEM : 0;
}

static void free_stringp(char **p)
{
	free(*p);
}

static int look_at_dir(struct env *env, const char *path, struct env_stat *ret_stat, struct err *e)
{
	struct env_file *f;
	int r = env_open(env, path, ENV_READ | ENV_DIR, &f);

	if (r < 0)
		return err_set(e, r, "opening '%s': %s", path, err_name(r));
	r = env_stat(env, f, ret_stat);
	env_close(env, f);
	return r < 0 ? err_because(e, r, "looking at '%s'", path) : 0;
}

/* --- record ------------------------------------------------------------------------------------ */

/*
 * Replace the record atomically: whole old or whole new after a power cut. *ret_tried (may be NULL):
 * also after an error the new one may be what the next start finds.
 */
static int record_write(struct env *env, const char *pool_dir, const struct ring_record *record,
			bool *ret_tried, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	AUTO(free_stringp) char *temp = NULL;
	uint8_t bytes[RING_RECORD_BYTES];
	struct env_file *f;
	int r;

	if (path_join(&path, pool_dir, RING_RECORD_NAME) < 0 ||
	    path_join(&temp, pool_dir, RING_RECORD_NAME ".new") < 0)
		return err_set(e, -ENOMEM, "ring record");
	ring_record_encode(record, bytes);
	r = env_open(env, temp, ENV_WRITE | ENV_CREATE | ENV_TRUNC, &f);
	if (r < 0)
		return err_because(e, r, "creating '%s'", temp);
	r = env_pwrite(env, f, bytes, sizeof(bytes), 0);
	if (r == 0)
		r = env_fdatasync(env, f);
	env_close(env, f);
	if (ret_tried)
		*ret_tried = r == 0;
	if (r == 0)
		r = env_rename(env, temp, path);
	if (r == 0)
		r = env_sync_dir(env, pool_dir);
	return r < 0 ? err_because(e, r, "writing '%s'", path) : 0;
}

/* -ENOENT: no record, the pool never had a ring. */
static int record_read(struct env *env, const char *pool_dir, struct ring_record *ret_record,
		       struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	uint8_t bytes[RING_RECORD_BYTES];
	struct env_file *f;
	ssize_t got;
	int r;

	if (path_join(&path, pool_dir, RING_RECORD_NAME) < 0)
		return err_set(e, -ENOMEM, "ring record");
	r = env_open(env, path, ENV_READ, &f);
	if (r < 0)
		return r == -ENOENT ? r : err_set(e, r, "opening '%s': %s", path, err_name(r));
	got = env_pread(env, f, bytes, sizeof(bytes), 0);
	env_close(env, f);
	if (got < 0)
		return err_set(e, (int)got, "reading '%s'", path);
	r = ring_record_decode(bytes, (size_t)got, ret_record, e);
	return r < 0 ? err_wrap(e, r, "'%s'", path) : 0;
}

int ring_create_record(struct env *env, const char *pool_dir, const struct uuid *pool,
		       struct err *e)
{
	/* The path is of no ring yet; clean says that none is missed. */
	struct ring_record record = {
		.pool = *pool, .path = "/", .ring_bytes = BLOCK_BYTES, .clean = true
	};
	int r = env_boot_id(env, record.boot_id);

	return r < 0 ? err_because(e, r, "reading the boot id") :
		       record_write(env, pool_dir, &record, NULL, e);
}

/* --- the ring of a process that died ----------------------------------------------------------- */

static int old_check(const struct ring_old *old, const struct ring_options *options,
		     const struct ring_record *record, struct err *e)
{
	const struct ring_header *h = &old->header;
	struct env_stat dir;
	int r;

	if (memcmp(&h->pool, &options->pool, sizeof(h->pool)) != 0 || h->nonce != record->nonce)
		return err_set(e, -EUCLEAN, "ring '%s' belongs to another pool", old->path);
	if (h->ring_bytes != old->len_bytes || h->ring_bytes != record->ring_bytes)
		return err_set(e, -EUCLEAN, "ring '%s' has the wrong length", old->path);
	r = look_at_dir(old->env, options->pool_dir, &dir, e);
	if (r < 0)
		return r;
	if (dir.dev != h->pool_dir_dev || dir.ino != h->pool_dir_ino)
		return err_set(
			e, -EUCLEAN,
			"ring '%s' was made for another directory than '%s': is this a copy? "
			"To use it without: vpool check --repair",
			old->path, options->pool_dir);
	return 0;
}

static int old_map(struct ring_old *old, const struct ring_record *record, struct err *e)
{
	uint8_t block[BLOCK_BYTES];
	struct env_stat st;
	void *mem;
	int r;

	r = env_open(old->env, old->path, ENV_READ | ENV_WRITE, &old->file);
	if (r < 0)
		return err_set(
			e, r,
			"unsynced writes may be lost: the ring '%s' of this boot %s%s; put it "
			"back, or give it up: vpool check --repair",
			old->path, r == -ENOENT ? "is missing" : "cannot be opened: ",
			r == -ENOENT ? "" : err_name(r));
	r = env_stat(old->env, old->file, &st);
	if (r < 0)
		return err_because(e, r, "looking at '%s'", old->path);
	if (st.uid != record->uid)
		return err_set(e, -EPERM, "ring '%s' has another owner", old->path);
	if (st.mode & 022)
		return err_set(e, -EPERM, "ring '%s' can be written by others: who did? (mode %o)",
			       old->path, st.mode & 07777);
	if (st.size_bytes != record->ring_bytes || st.size_bytes < 2 * BLOCK_BYTES)
		return err_set(e, -EUCLEAN, "ring '%s' has the wrong length", old->path);
	if (env_pread(old->env, old->file, block, sizeof(block), 0) != (ssize_t)sizeof(block))
		return err_set(e, -EIO, "reading '%s'", old->path);
	r = ring_header_decode(block, &old->header, e);
	if (r < 0)
		return err_wrap(e, r, "ring '%s'", old->path);
	old->len_bytes = (size_t)st.size_bytes;
	r = env_map_shared(old->env, old->file, old->len_bytes, &mem);
	if (r < 0)
		return err_because(e, r, "mapping '%s'", old->path);
	old->mem = mem;
	return 0;
}

static int find_old(struct env *env, const struct ring_options *options, struct ring_old **ret_old,
		    struct err *e)
{
	struct ring_record record;
	struct ring_old *old;
	char boot[BOOT_ID_BYTES + 1];
	int r;

	r = record_read(env, options->pool_dir, &record, e);
	if (r == -ENOENT)
		return err_set(e, r,
			       "'%s/" RING_RECORD_NAME "' is missing; writes acknowledged but not "
			       "synced before the last daemon ended may be lost",
			       options->pool_dir);
	if (r < 0)
		return r;
	if (memcmp(&record.pool, &options->pool, sizeof(record.pool)) != 0)
		return err_set(e, -EUCLEAN, "ring record belongs to another pool");
	r = env_boot_id(env, boot);
	if (r < 0)
		return err_because(e, r, "reading the boot id");
	if (record.clean || strcmp(boot, record.boot_id) != 0) {
		*ret_old = NULL;
		return 0;
	}
	old = calloc(1, sizeof(*old));
	if (!old)
		return err_set(e, -ENOMEM, "ring");
	old->env = env;
	memcpy(old->path, record.path, sizeof(old->path));
	r = old_map(old, &record, e);
	if (r == 0)
		r = old_check(old, options, &record, e);
	if (r < 0) {
		ring_old_release(old, false);
		return r;
	}
	*ret_old = old;
	return 0;
}

int ring_find_old(struct env *env, const struct ring_options *options, struct ring_old **ret_old,
		  struct err *e)
{
	struct err why = { 0 };
	int r = find_old(env, options, ret_old, &why);

	if (r == 0)
		return 0;
	if (!options->give_up || (r != -ENOENT && r != -EUCLEAN && r != -EBADMSG && r != -EPERM))
		return err_set(e, r, "%s", why.message);
	log_error("ring: given up, what only it held is lost: %s", why.message);
	if (options->given_up)
		*options->given_up = true;
	*ret_old = NULL;
	return 0;
}

void ring_old_release(struct ring_old *old, bool remove)
{
	if (!old)
		return;
	if (old->mem)
		env_unmap(old->env, old->mem, old->len_bytes);
	if (old->file)
		env_close(old->env, old->file);
	if (remove)
		(void)env_unlink(old->env, old->path); /* the next start finds what stays */
	free(old);
}

const uint8_t *ring_old_frame(const struct ring_old *old, uint32_t frame)
{
	const uint8_t *block = old->mem + BLOCK_BYTES + (size_t)frame * old->header.frame_bytes;

	ASSERT(frame < old->header.frame_count);
	return le32_get(block) == 0 ? NULL : block;
}

/* --- the ring in use --------------------------------------------------------------------------- */

/*
 * What the names of a pool directory's rings begin with. A copy of the pool has the same UUID, and
 * its daemon may run beside ours: so they tell the directory, too.
 */
static void name_prefix(char out[RING_PATH_MAX + 1], const struct uuid *pool,
			const struct env_stat *dir)
{
	char hex[2 * UUID_BYTES + 1];

	for (unsigned int i = 0; i < UUID_BYTES; i++)
		(void)snprintf(hex + (size_t)2 * i, 3, "%02x", pool->bytes[i]);
	(void)snprintf(out, RING_PATH_MAX + 1, "vpool-%s-%" PRIx64 "-%" PRIx64 "-", hex, dir->dev,
		       dir->ino);
}

static int ring_create_file(struct ring *ring, const char *prefix, const char *dir, struct err *e)
{
	struct env_space space;
	int r;

	r = env_space(ring->env, dir, &space);
	if (r < 0)
		return err_because(e, r, "looking at '%s'", dir);
	if (space.free_bytes < 2 * ring->len_bytes)
		return err_set(e, -ENOSPC,
			       "'%s' has no room for the ring: %" PRIu64
			       " bytes twice, and %" PRIu64 " are free",
			       dir, (uint64_t)ring->len_bytes, space.free_bytes);
	r = snprintf(ring->path, sizeof(ring->path), "%s/%s%016" PRIx64, dir, prefix,
		     ring->record.nonce);
	if (r < 0 || (size_t)r >= sizeof(ring->path))
		return err_set(e, -ENAMETOOLONG, "path of the ring in '%s'", dir);
	r = env_open(ring->env, ring->path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL,
		     &ring->file);
	if (r < 0)
		return err_because(e, r, "creating '%s'", ring->path);
	/* In full: a hole in a tmpfs that fills up later would be SIGBUS in the write path. */
	r = env_fallocate(ring->env, ring->file, 0, ring->len_bytes);
	if (r < 0) {
		env_close(ring->env, ring->file);
		ring->file = NULL;
		(void)env_unlink(ring->env, ring->path);
		return err_because(e, r, "allocating the ring '%s'", ring->path);
	}
	return 0;
}

static int ring_write_header(struct ring *ring, const struct ring_options *options,
			     const struct env_stat *dir, struct err *e)
{
	struct ring_header h = {
		.pool = options->pool,
		.ring_bytes = ring->len_bytes,
		.frame_bytes = ring->frame_bytes,
		.frame_count = ring->frame_count,
		.epoch = options->epoch,
		.nonce = ring->record.nonce,
		.first_sco = options->first_sco,
	};
	struct env_stat st;
	int r;

	memcpy(h.boot_id, ring->record.boot_id, sizeof(h.boot_id));
	r = env_stat(ring->env, ring->file, &st);
	if (r < 0)
		return err_because(e, r, "looking at '%s'", ring->path);
	h.pool_dir_dev = dir->dev;
	h.pool_dir_ino = dir->ino;
	ring->record.uid = st.uid;
	ring_header_encode(&h, ring->mem);
	return 0;
}

static int ring_make_frames(struct ring *ring)
{
	ring->batches = calloc(ring->frame_count, sizeof(*ring->batches));
	if (!ring->batches)
		return -ENOMEM;
	for (uint32_t i = ring->frame_count; i-- > 0;) {
		struct batch *b = &ring->batches[i];

		b->frame = i;
		b->block = ring->mem + BLOCK_BYTES + (size_t)i * ring->frame_bytes;
		b->next = ring->free_list;
		ring->free_list = b;
	}
	ring->free_count = ring->frame_count;
	return 0;
}

struct leftover {
	const char *prefix, *own;
	char name[RING_PATH_MAX + 1];
};

static int find_leftover(void *arg, const char *name)
{
	struct leftover *l = arg;

	if (strncmp(name, l->prefix, strlen(l->prefix)) != 0 || strcmp(name, l->own) == 0 ||
	    strlen(name) > RING_PATH_MAX)
		return 0;
	memcpy(l->name, name, strlen(name) + 1);
	return 1;
}

/* The record names our ring and no other: what a death between making a ring and recording it, or
 * between that and removing the one before, left behind is memory that nobody will look at. */
static void remove_leftovers(const struct ring *ring, const char *prefix, const char *dir)
{
	struct leftover l = { .prefix = prefix, .own = strrchr(ring->path, '/') + 1 };
	int r = 0;

	for (unsigned int i = 0; i < LEFTOVERS_MAX && r == 0; i++) {
		AUTO(free_stringp) char *path = NULL;

		r = env_list_dir(ring->env, dir, find_leftover, &l);
		if (r != 1)
			break;
		r = path_join(&path, dir, l.name);
		if (r == 0)
			r = env_unlink(ring->env, path);
		if (r == 0)
			log_info("ring: removed what an earlier process left: path='%s'", path);
	}
	if (r < 0 && r != -ENOENT)
		log_warning("ring: leftovers stay: dir='%s': %s", dir, err_name(r));
}

static int ring_make(struct ring *ring, const struct ring_options *options, struct err *e)
{
	bool has_shm = options->shm_dir && options->shm_dir[0];
	char prefix[RING_PATH_MAX + 1];
	struct env_stat dir;
	void *mem;
	int r;

	r = look_at_dir(ring->env, options->pool_dir, &dir, e);
	if (r < 0)
		return r;
	name_prefix(prefix, &options->pool, &dir);
	env_random(ring->env, &ring->record.nonce, sizeof(ring->record.nonce));
	r = env_boot_id(ring->env, ring->record.boot_id);
	if (r < 0)
		return err_because(e, r, "reading the boot id");
	r = -ENOSPC;
	if (has_shm)
		r = ring_create_file(ring, prefix, options->shm_dir, e);
	if (r < 0) { /* the page cache of a file survives the process, too */
		if (has_shm)
			log_warning("ring: kept in the pool directory, which is slower: %s",
				    e ? e->message : err_name(r));
		r = ring_create_file(ring, prefix, options->pool_dir, e);
	}
	if (r < 0)
		return r;
	r = env_map_shared(ring->env, ring->file, ring->len_bytes, &mem);
	if (r < 0)
		return err_because(e, r, "mapping '%s'", ring->path);
	ring->mem = mem;
	r = ring_write_header(ring, options, &dir, e);
	if (r < 0)
		return r;
	if (ring_make_frames(ring) < 0)
		return err_set(e, -ENOMEM, "ring frames");
	ring->record.pool = options->pool;
	ring->record.ring_bytes = ring->len_bytes;
	memcpy(ring->record.path, ring->path, sizeof(ring->record.path));
	r = record_write(ring->env, ring->pool_dir, &ring->record, &ring->may_be_named, e);
	if (r < 0)
		return r;
	if (has_shm)
		remove_leftovers(ring, prefix, options->shm_dir);
	/* In the pool's own directory those of any device: it may have another number at each boot. */
	prefix[strlen("vpool-") + (size_t)2 * UUID_BYTES + 1] = '\0';
	remove_leftovers(ring, prefix, options->pool_dir);
	return 0;
}

static void ring_free(struct ring *ring)
{
	if (ring->mem)
		env_unmap(ring->env, ring->mem, ring->len_bytes);
	if (ring->file)
		env_close(ring->env, ring->file);
	mutex_done(&ring->lock);
	free(ring->batches);
	free(ring->pool_dir);
	free(ring);
}

int ring_open(struct env *env, const struct ring_options *options, struct ring **ret_ring,
	      struct err *e)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	int r;

	if (!ring)
		return err_set(e, -ENOMEM, "ring");
	ring->env = env;
	mutex_init(&ring->lock, LOCK_RING);
	ring->frame_bytes = options->frame_bytes ? options->frame_bytes : RING_FRAME_DEFAULT;
	ring->frame_clusters = ring->frame_bytes / BLOCK_BYTES - 1;
	ring->frame_count = (uint32_t)((options->ring_bytes - BLOCK_BYTES) / ring->frame_bytes);
	ring->len_bytes = BLOCK_BYTES + (size_t)ring->frame_count * ring->frame_bytes;
	ring->pool_dir = strdup(options->pool_dir);
	ASSERT(ring->frame_count > 0 && ring->frame_clusters > 0);
	r = ring->pool_dir ? ring_make(ring, options, e) : err_set(e, -ENOMEM, "ring");
	if (r < 0) {
		/* One that a record names and that is missing keeps the pool from opening: it stays,
		 * and the next start removes it if it is not its own. */
		if (ring->file && !ring->may_be_named)
			(void)env_unlink(env, ring->path);
		ring_free(ring);
		return r;
	}
	*ret_ring = ring;
	return 0;
}

void ring_close(struct ring *ring, bool clean)
{
	if (!ring)
		return;
	if (clean) {
		struct err e = { 0 };

		ASSERT(ring->free_count == ring->frame_count);
		ring->record.clean = true;
		if (record_write(ring->env, ring->pool_dir, &ring->record, NULL, &e) < 0)
			log_warning("ring: not marked clean, recovery will look at it: %s",
				    e.message);
		else
			(void)env_unlink(ring->env, ring->path); /* as above */
	}
	ring_free(ring);
}

struct batch *ring_take(struct ring *ring)
{
	struct batch *b;

	mutex_lock(&ring->lock);
	b = ring->free_list;
	if (b) {
		ring->free_list = b->next;
		ring->free_count--;
	}
	mutex_unlock(&ring->lock);
	if (!b)
		return NULL;
	memset(b->block, 0, BLOCK_BYTES);
	b->next = NULL;
	return b;
}

void ring_put(struct ring *ring, struct batch *b)
{
	/* The magic goes first and alone: a frame is in use or it is not. */
	__atomic_store_n((uint32_t *)(void *)b->block, 0, __ATOMIC_RELEASE);
	b->state = BATCH_FREE;
	b->released = false;
	b->direct = false;
	b->pending = b->entry_count = b->cluster_count = 0;
	b->sco = NULL;
	GUARD(&ring->lock);
	b->next = ring->free_list;
	ring->free_list = b;
	ring->free_count++;
}

uint32_t ring_free_count(struct ring *ring)
{
	GUARD(&ring->lock);
	return ring->free_count;
}
