#include "volume/flash.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_stringp(char **p)
{
	free(*p);
}

/* --- labels ------------------------------------------------------------------------------------ */

static int label_write(struct flash *flash, unsigned int index, const char *path, struct err *e)
{
	struct cache_label label = {
		.pool = flash->pool,
		.index = index,
		.created_ns = env_now_real_ns(flash->env),
	};
	uint8_t bytes[CACHE_LABEL_BYTES];
	struct env_file *f;
	int r;

	cache_label_encode(&label, bytes);
	r = env_open(flash->env, path, ENV_WRITE | ENV_CREATE | ENV_EXCL, &f);
	if (r < 0)
		return err_because(e, r, "creating '%s'", path);
	r = env_pwrite(flash->env, f, bytes, sizeof(bytes), 0);
	if (r == 0)
		r = env_fdatasync(flash->env, f);
	env_close(flash->env, f);
	return r < 0 ? err_because(e, r, "writing '%s'", path) : 0;
}

static int label_check(struct flash *flash, unsigned int index, const char *path, struct err *e)
{
	uint8_t bytes[CACHE_LABEL_BYTES + 1];
	struct cache_label label;
	struct env_file *f;
	ssize_t got;
	int r;

	r = env_open(flash->env, path, ENV_READ, &f);
	if (r < 0)
		return err_set(e, r, "opening '%s': %s: is the cache directory mounted?", path,
			       err_name(r));
	flash->dirs[index].label = f;
	got = env_pread(flash->env, f, bytes, sizeof(bytes), 0);
	if (got < 0)
		return err_set(e, (int)got, "reading '%s'", path);
	r = cache_label_decode(bytes, (size_t)got, &label, e);
	if (r < 0)
		return err_wrap(e, r, "'%s'", path);
	if (memcmp(&label.pool, &flash->pool, sizeof(label.pool)) != 0)
		return err_set(e, -EUCLEAN, "'%s' belongs to another pool", path);
	if (label.index != index)
		return err_set(e, -EUCLEAN, "'%s' is cache directory %u of the pool, not %u", path,
			       label.index, index);
	r = env_lock(flash->env, f);
	if (r < 0)
		return err_set(e, r == -EWOULDBLOCK ? -EBUSY : r,
			       "cache directory of '%s' is in use by another process: by a copy of "
			       "this pool?",
			       path);
	return 0;
}

/* The name of a new directory is durable only with the directory above it. */
static int sync_parent(struct flash *flash, const char *path)
{
	const char *slash = strrchr(path, '/');
	AUTO(free_stringp)
	char *parent = !slash	     ? strdup(".") :
		       slash == path ? strdup("/") :
				       strndup(path, (size_t)(slash - path));

	return parent ? env_sync_dir(flash->env, parent) : -ENOMEM;
}

static int dir_open(struct flash *flash, unsigned int index, const struct flash_dir_option *o,
		    bool make, struct err *e)
{
	struct flash_dir *d = &flash->dirs[index];
	AUTO(free_stringp) char *label = NULL;
	int r;

	flash->dir_count = index + 1; /* flash_close() frees what there is of it */
	d->size_bytes = o->size_bytes;
	d->path = strdup(o->path);
	if (!d->path || asprintf(&d->sco_path, "%s/sco", o->path) < 0 ||
	    asprintf(&label, "%s/label", o->path) < 0)
		return err_set(e, -ENOMEM, "cache directory");
	if (!make) {
		r = label_check(flash, index, label, e);
		return r < 0 ? r : flash_remove_old_stock(flash, index, e);
	}
	r = env_mkdir(flash->env, d->path);
	if (r < 0 && r != -EEXIST)
		return err_because(e, r, "making '%s'", d->path);
	r = sync_parent(flash, d->path);
	if (r < 0)
		return err_because(e, r, "syncing the directory above '%s'", d->path);
	r = env_mkdir(flash->env, d->sco_path);
	if (r < 0 && r != -EEXIST)
		return err_because(e, r, "making '%s'", d->sco_path);
	r = label_write(flash, index, label, e);
	if (r < 0)
		return r;
	r = env_sync_dir(flash->env, d->path);
	return r < 0 ? err_because(e, r, "syncing '%s'", d->path) : 0;
}

int flash_open(struct env *env, const struct uuid *pool, const struct flash_dir_option *dirs,
	       unsigned int dir_count, uint64_t reserve_bytes, bool make, struct flash **ret_flash,
	       struct err *e)
{
	struct flash *flash;
	int r = 0;

	if (dir_count == 0 || dir_count > FLASH_DIRS_MAX)
		return err_set(e, -EINVAL, "%u cache directories; 1 to %u are possible", dir_count,
			       FLASH_DIRS_MAX);
	flash = calloc(1, sizeof(*flash));
	if (!flash)
		return err_set(e, -ENOMEM, "flash");
	flash->env = env;
	flash->pool = *pool;
	flash->reserve_bytes = reserve_bytes;
	mutex_init(&flash->lock, LOCK_FLASH);
	for (unsigned int i = 0; i < dir_count && r == 0; i++)
		r = dir_open(flash, i, &dirs[i], make, e);
	if (r < 0) {
		flash_close(flash);
		return r;
	}
	*ret_flash = flash;
	return 0;
}

void flash_close(struct flash *flash)
{
	if (!flash)
		return;
	(void)flash_drop_stock(flash);
	for (unsigned int i = 0; i < flash->dir_count; i++) {
		if (flash->dirs[i].label)
			env_close(flash->env, flash->dirs[i].label);
		free(flash->dirs[i].path);
		free(flash->dirs[i].sco_path);
	}
	mutex_done(&flash->lock);
	free(flash);
}

/* --- space ------------------------------------------------------------------------------------- */

/* Whether a directory takes len_bytes more; asks the filesystem, so no lock may be held. */
static bool dir_has_room(struct flash *flash, unsigned int index, uint64_t len_bytes, bool urgent)
{
	struct flash_dir *d = &flash->dirs[index];
	struct env_space space;
	uint64_t used_bytes;
	bool failed;

	mutex_lock(&flash->lock);
	used_bytes = d->used_bytes;
	failed = d->failed;
	mutex_unlock(&flash->lock);
	if (failed)
		return false;
	/* Urgent work (recovery, cleaning, resealing) ends by freeing more than it takes. */
	if (!urgent && d->size_bytes && used_bytes + len_bytes > d->size_bytes)
		return false;
	if (env_space(flash->env, d->path, &space) < 0)
		return false;
	return space.free_bytes >= len_bytes + (urgent ? 0 : flash->reserve_bytes);
}

bool flash_dir_has_room(struct flash *flash, uint32_t dir, uint64_t len_bytes)
{
	return dir_has_room(flash, dir, len_bytes, false);
}

bool flash_has_room(struct flash *flash, uint64_t len_bytes)
{
	for (unsigned int i = 0; i < flash->dir_count; i++)
		if (dir_has_room(flash, i, len_bytes, false))
			return true;
	return false;
}

void flash_account(struct flash *flash, uint32_t dir, uint64_t old_bytes, uint64_t new_bytes)
{
	GUARD(&flash->lock);
	ASSERT(flash->dirs[dir].used_bytes >= old_bytes);
	flash->dirs[dir].used_bytes += new_bytes - old_bytes;
}

uint64_t flash_used_bytes(struct flash *flash)
{
	uint64_t sum = 0;

	GUARD(&flash->lock);
	for (unsigned int i = 0; i < flash->dir_count; i++)
		sum += flash->dirs[i].used_bytes;
	return sum;
}

static uint64_t dir_size_bytes(struct flash *flash, unsigned int index)
{
	const struct flash_dir *d = &flash->dirs[index];
	struct env_space space;

	if (d->size_bytes)
		return d->size_bytes;
	return env_space(flash->env, d->path, &space) == 0 ? space.total_bytes : 0;
}

uint64_t flash_size_bytes(struct flash *flash)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < flash->dir_count; i++)
		sum += dir_size_bytes(flash, i);
	return sum;
}

uint64_t flash_dir_room_bytes(struct flash *flash, uint32_t dir)
{
	struct flash_dir *d = &flash->dirs[dir];
	struct env_space space;
	uint64_t used_bytes, room_bytes;

	mutex_lock(&flash->lock);
	used_bytes = d->failed ? UINT64_MAX : d->used_bytes;
	mutex_unlock(&flash->lock);
	if (used_bytes == UINT64_MAX || env_space(flash->env, d->path, &space) < 0)
		return 0;
	room_bytes = space.free_bytes - min_u64(space.free_bytes, flash->reserve_bytes);
	if (d->size_bytes == 0)
		return room_bytes;
	return min_u64(room_bytes, d->size_bytes - min_u64(d->size_bytes, used_bytes));
}

/* Of a directory, left to writers by what could be fetched again. */
#define MARGIN_PART 8u
#define MARGIN_SCOS 8u

uint64_t flash_dir_margin_bytes(struct flash *flash, uint32_t dir, uint64_t sco_bytes)
{
	uint64_t size_bytes = dir_size_bytes(flash, dir);

	if (flash_failed_dirs(flash) & 1u << dir)
		return 0;
	return min_u64(max_u64(size_bytes / MARGIN_PART, MARGIN_SCOS * sco_bytes), size_bytes / 2);
}

/* --- files ------------------------------------------------------------------------------------- */

char *flash_path(const struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		 uint32_t version)
{
	char name[SCO_FILE_NAME_MAX + 1];
	char *path;

	ASSERT(dir < flash->dir_count);
	sco_file_name(name, stream, sco, version);
	return asprintf(&path, "%s/%s", flash->dirs[dir].sco_path, name) < 0 ? NULL : path;
}

static int create_in(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		     uint32_t version, uint64_t len_bytes, struct env_file **ret_file,
		     struct err *e)
{
	AUTO(free_stringp) char *path = flash_path(flash, dir, stream, sco, version);
	struct env_file *f;
	int r;

	if (!path)
		return err_set(e, -ENOMEM, "path of a SCO");
	r = env_open(flash->env, path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL | ENV_DIRECT,
		     &f);
	/* A copy that a process before us never finished, and whose removal failed. */
	if (r == -EEXIST && version > 0 && env_unlink(flash->env, path) == 0)
		r = env_open(flash->env, path,
			     ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL | ENV_DIRECT, &f);
	if (r < 0)
		return err_set(e, r == -ENOSPC ? -EAGAIN : r, "creating '%s'", path);
	r = env_fallocate(flash->env, f, 0, len_bytes);
	if (r < 0) {
		env_close(flash->env, f);
		(void)env_unlink(flash->env, path); /* else recovery finds it without a header */
		return err_set(e, r == -ENOSPC ? -EAGAIN : r, "allocating '%s'", path);
	}
	flash_account(flash, dir, 0, len_bytes);
	*ret_file = f;
	return 0;
}

static int create_somewhere(struct flash *flash, uint32_t stream, uint64_t sco, uint32_t version,
			    uint64_t len_bytes, bool urgent, struct env_file **ret_file,
			    uint32_t *ret_dir, struct err *e)
{
	unsigned int start;
	int r = err_set(e, -EAGAIN, "no cache directory has room for %" PRIu64 " bytes", len_bytes);

	mutex_lock(&flash->lock);
	start = flash->next_dir++;
	mutex_unlock(&flash->lock);
	for (unsigned int i = 0; i < flash->dir_count; i++) {
		uint32_t dir = (start + i) % flash->dir_count;

		if (!dir_has_room(flash, dir, len_bytes, urgent))
			continue;
		r = create_in(flash, dir, stream, sco, version, len_bytes, ret_file, e);
		if (r == 0) {
			*ret_dir = dir;
			return 0;
		}
		(void)flash_note_error(flash, dir, r);
	}
	return r;
}

/* Room for so many more, or a part of all, ends what was told: near the edge it comes and goes. */
#define TELL_ROOM_COUNT 32u
#define TELL_ROOM_PART	8u

/* One line when users begin to wait for room, one when they no longer do. */
static void tell_room(struct flash *flash, uint64_t len_bytes, bool full)
{
	uint64_t enough_bytes = TELL_ROOM_COUNT * len_bytes;
	bool told;

	mutex_lock(&flash->lock);
	told = flash->told_full;
	mutex_unlock(&flash->lock);
	if (told == full)
		return;
	enough_bytes = min_u64(enough_bytes, flash_size_bytes(flash) / TELL_ROOM_PART);
	if (!full && !flash_has_room(flash, enough_bytes))
		return;
	mutex_lock(&flash->lock);
	told = flash->told_full;
	flash->told_full = full;
	mutex_unlock(&flash->lock);
	if (told == full)
		return;
	if (full)
		log_warning("flash: no room, writes wait until there is: dirs=%u first='%s' "
			    "used_bytes=%" PRIu64,
			    flash->dir_count, flash->dirs[0].path, flash_used_bytes(flash));
	else
		log_info("flash: room again, writes go on: used_bytes=%" PRIu64,
			 flash_used_bytes(flash));
}

int flash_create(struct flash *flash, uint32_t stream, uint64_t sco, uint32_t version,
		 uint64_t len_bytes, bool urgent, struct env_file **ret_file, uint32_t *ret_dir,
		 struct err *e)
{
	int r = create_somewhere(flash, stream, sco, version, len_bytes, urgent, ret_file, ret_dir,
				 e);

	/* The stock is a convenience; where it is tight it is room. */
	if (r == -EAGAIN && flash_drop_stock(flash))
		r = create_somewhere(flash, stream, sco, version, len_bytes, urgent, ret_file,
				     ret_dir, e);
	if (!urgent && (r == 0 || r == -EAGAIN))
		tell_room(flash, len_bytes, r == -EAGAIN);
	return r;
}

int flash_open_file(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		    uint32_t version, bool write, struct env_file **ret_file, struct err *e)
{
	AUTO(free_stringp) char *path = flash_path(flash, dir, stream, sco, version);
	int r;

	if (!path)
		return err_set(e, -ENOMEM, "path of a SCO");
	r = env_open(flash->env, path, ENV_READ | ENV_DIRECT | (write ? ENV_WRITE : 0u), ret_file);
	return r < 0 ? err_set(e, r, "opening '%s': %s", path, err_name(r)) : 0;
}

int flash_delete(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco, uint32_t version,
		 uint64_t len_bytes, struct err *e)
{
	AUTO(free_stringp) char *path = flash_path(flash, dir, stream, sco, version);
	int r;

	if (!path)
		return err_set(e, -ENOMEM, "path of a SCO");
	r = env_unlink(flash->env, path);
	if (r < 0 && r != -ENOENT)
		return err_because(e, r, "removing '%s'", path);
	flash_account(flash, dir, len_bytes, 0);
	return 0;
}

void flash_discard(struct flash *flash, uint32_t dir, uint32_t stream, uint64_t sco,
		   uint32_t version, uint64_t len_bytes)
{
	struct err e = { 0 };

	if (flash_delete(flash, dir, stream, sco, version, len_bytes, &e) < 0)
		log_warning("flash: useless file stays until the next start: %s", e.message);
}

int flash_sync_names(struct flash *flash, uint32_t dir, struct err *e)
{
	int r = env_sync_dir(flash->env, flash->dirs[dir].sco_path);

	return r < 0 ? err_because(e, r, "syncing '%s'", flash->dirs[dir].sco_path) : 0;
}

struct list_context {
	const struct flash *flash;
	uint32_t dir;
	int (*fn)(void *arg, uint32_t dir, uint32_t stream, uint64_t sco, uint32_t version);
	void *arg;
};

static int list_one(void *arg, const char *name)
{
	struct list_context *c = arg;
	uint32_t stream, version;
	uint64_t sco;

	if (sco_file_name_parse(name, &stream, &sco, &version) < 0) {
		log_warning("flash: foreign file ignored: dir='%s' name='%s'",
			    c->flash->dirs[c->dir].sco_path, name);
		return 0;
	}
	return c->fn(c->arg, c->dir, stream, sco, version);
}

int flash_list(struct flash *flash,
	       int (*fn)(void *arg, uint32_t dir, uint32_t stream, uint64_t sco, uint32_t version),
	       void *arg, struct err *e)
{
	for (unsigned int i = 0; i < flash->dir_count; i++) {
		struct list_context c = { .flash = flash, .dir = i, .fn = fn, .arg = arg };
		int r = env_list_dir(flash->env, flash->dirs[i].sco_path, list_one, &c);

		if (r < 0)
			return err_set(e, r, "listing '%s': %s", flash->dirs[i].sco_path,
				       err_name(r));
	}
	return 0;
}
