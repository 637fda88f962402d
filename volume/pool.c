#include "common/config.h"
#include "common/log.h"
#include "volume/absent.h"
#include "volume/evict.h"
#include "volume/freeze.h"
#include "volume/io.h"
#include "volume/merge.h"
#include "volume/pool_life.h"
#include "volume/recovery.h"
#include "volume/resolved.h"
#include "volume/restore_impl.h"
#include "volume/share.h"
#include "volume/upload.h"

#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITEBACK_DEPTH 16u
/* Cleaning needs room for what it moves before it frees anything. */
#define RESERVE_SCOS 2u
/* Where nothing is configured they leave so much more: the metadata's log and tables while they are
 * merged, manifests, indexes; on a small disk an eighth of it. */
#define RESERVE_META_BYTES (UINT64_C(64) << 20)
#define RESERVE_META_PART  8u

static const struct metric_def pool_metric_defs[] = {
	METRIC_COUNTER(struct pool_metrics, writes, "requests", "Writes acknowledged."),
	METRIC_COUNTER(struct pool_metrics, write_bytes, "bytes", "Bytes of these."),
	METRIC_COUNTER(struct pool_metrics, reads, "requests", "Reads answered."),
	METRIC_COUNTER(struct pool_metrics, read_bytes, "bytes", "Bytes of these."),
	METRIC_COUNTER(struct pool_metrics, syncs, "requests", "Syncs of objects."),
	METRIC_COUNTER(struct pool_metrics, direct_writes, "requests", "Writes without a copy."),
	METRIC_COUNTER(struct pool_metrics, merges_raced, "events", "Partial writes merged again."),
	METRIC_COUNTER(struct pool_metrics, parked, "requests", "Requests that had to wait."),
	METRIC_COUNTER(struct pool_metrics, throttled, "requests", "Writes slowed down."),
	METRIC_COUNTER(struct pool_metrics, checkpoints, "events", "Checkpoints of the maps."),
	METRIC_COUNTER(struct pool_metrics, checkpoint_pages, "pages", "Map pages in these."),
	METRIC_COUNTER(struct pool_metrics, checkpoint_entries, "runs",
		       "Runs of clusters in these."),
	METRIC_COUNTER(struct pool_metrics, scos_sealed, "SCOs", "SCOs sealed."),
	METRIC_COUNTER(struct pool_metrics, scos_deleted, "SCOs", "Dead SCOs removed."),
	METRIC_COUNTER(struct pool_metrics, scos_uploaded, "SCOs", "SCOs put to the backend."),
	METRIC_COUNTER(struct pool_metrics, scos_evicted, "SCOs",
		       "Files of SCOs removed that the backend has."),
	METRIC_COUNTER(struct pool_metrics, scos_resealed, "SCOs",
		       "SCOs of dead processes copied."),
	METRIC_COUNTER(struct pool_metrics, clean_clusters, "clusters",
		       "Clusters moved by cleaning."),
	METRIC_COUNTER(struct pool_metrics, clean_frozen_clusters, "clusters",
		       "Of these, what only snapshots and parents of clones have."),
	METRIC_COUNTER(struct pool_metrics, trimmed_clusters, "clusters",
		       "Hidden clusters that left layers of deleted snapshots."),
	METRIC_COUNTER(struct pool_metrics, resolved_pages, "pages",
		       "Pages of maps with many layers copied, to be looked up in one place."),
	METRIC_COUNTER(struct pool_metrics, scos_cleaned, "SCOs",
		       "Partly dead SCOs whose live data was moved."),
	METRIC_COUNTER(struct pool_metrics, flash_freed_bytes, "bytes", "Of dead SCOs, on flash."),
	METRIC_COUNTER(struct pool_metrics, backend_freed_bytes, "bytes",
		       "Of dead SCOs, on the backend."),
	METRIC_COUNTER(struct pool_metrics, packs_repacked, "packs",
		       "Packs whose rest was put again."),
	METRIC_COUNTER(struct pool_metrics, orphans_removed, "objects",
		       "Objects removed that nothing named."),
	METRIC_COUNTER(struct pool_metrics, roots, "events", "Roots committed."),
	METRIC_COUNTER(struct pool_metrics, crc_failures, "clusters", "Clusters read wrong."),
	METRIC_HISTOGRAM(struct pool_metrics, sync_ns, "Time of one sync of an object."),
	METRIC_HISTOGRAM(struct pool_metrics, checkpoint_ns, "Time of one checkpoint."),
	METRIC_HISTOGRAM(struct pool_metrics, write_wait_ns, "Time a write waited for room."),
};

void pool_options_default(struct pool_options *o, const char *dir)
{
	struct config config, *c = &config; /* large; but this cannot fail */

	config_defaults(c);
	*o = (struct pool_options){
		.dir = dir,
		.shm_dir = "/dev/shm",
		.backend_copy = (unsigned int)c->backend.copy,
		.packs = (unsigned int)c->backend.packs,
		.sco_bytes = c->pool.sco_size_bytes,
		.ring_bytes = c->cache.ring_size_bytes,
		.metadata_cache_bytes = c->cache.metadata_cache_bytes,
		.dirty_limit_bytes = c->cache.dirty_limit_bytes,
		.capacity_bytes = c->pool.capacity_bytes,
		.reserve_bytes = c->cache.reserve_bytes,
		.flush_interval_ns = c->cache.flush_interval_ns,
		.checkpoint_interval_ns = c->cache.checkpoint_interval_ns,
		.upload_interval_ns = c->backend.upload_interval_ns,
		.grace_time_ns = c->backend.grace_time_ns,
		.uploads_max = (unsigned int)c->backend.uploads_max,
		.clean_target_percent = (unsigned int)c->cache.clean_target_percent,
		.parked_max = (unsigned int)c->fuse.parked_max,
		.fetch_min_bytes = (uint32_t)c->cache.fetch_min_bytes,
		.fetches_max = (unsigned int)c->cache.fetches_max,
		.read_ahead_bytes = c->cache.read_ahead_bytes,
	};
}

/* --- parts that create and open share ----------------------------------------------------------- */

void pool_free(struct pool *p)
{
	if (!p)
		return;
	sco_index_close(p->index);
	page_rows_done(&p->page_rows);
	if (p->own_backend && p->backend) {
		metrics_remove(&p->registry, backend_metrics(p->backend));
		backend_close(p->backend);
	} else if (p->backend) { /* its owner's again */
		backend_refuse_calls(p->backend, false);
	}
	if (p->own_meta && p->meta)
		meta_close(p->meta);
	flash_close(p->flash);
	if (p->lock_file)
		env_close(p->env, p->lock_file);
	metrics_registry_done(&p->registry);
	for (size_t i = 0; i < ARRAY_SIZE(p->own_strings); i++)
		free(p->own_strings[i]);
	free(p->dir);
	packs_done(&p->packs);
	root_parts_done(&p->root_parts);
	mutex_done(&p->backend_lock);
	free(p);
}

static const char *keep_string(struct pool *p, char *s)
{
	for (size_t i = 0; s && i < ARRAY_SIZE(p->own_strings); i++)
		if (!p->own_strings[i]) {
			p->own_strings[i] = s;
			return s;
		}
	free(s);
	return NULL;
}

static const char *keep_path(struct pool *p, const char *name)
{
	char *s;

	return asprintf(&s, "%s/%s", p->dir, name) < 0 ? NULL : keep_string(p, s);
}

/* Options of a pool with its own copies of all strings, and what stands for "default". */
static int take_options(struct pool *p, const struct pool_options *o, struct err *e)
{
	bool ok;
	char *url;

	p->options = *o;
	p->dir = strdup(o->dir);
	if (!p->dir)
		return err_set(e, -ENOMEM, "pool");
	p->options.dir = p->dir;
	p->options.shm_dir = keep_string(p, strdup(o->shm_dir ? o->shm_dir : ""));
	ok = p->options.shm_dir != NULL;
	for (unsigned int i = 0; i < o->cache_count; i++) {
		p->options.cache[i].path = keep_string(p, strdup(o->cache[i].path));
		ok &= p->options.cache[i].path != NULL;
	}
	if (o->cache_count == 0) {
		p->options.cache_count = 1;
		p->options.cache[0] = (struct pool_cache_dir){ .path = keep_path(p, "cache") };
		ok &= p->options.cache[0].path != NULL;
	}
	if (o->backend_url && o->backend_url[0]) {
		url = strdup(o->backend_url);
	} else {
		char *real = p->dir[0] == '/' ? strdup(p->dir) : realpath(p->dir, NULL);

		if (!real || asprintf(&url, "file://%s/objects", real) < 0)
			url = NULL;
		free(real);
	}
	p->options.backend_url = keep_string(p, url);
	return ok && p->options.backend_url ? 0 : err_set(e, -ENOMEM, "pool");
}

static int lock_pool(struct pool *p, struct err *e)
{
	AUTO(buf_done) struct buf path;
	int r;

	buf_init(&path, 8192);
	r = buf_printf(&path, "%s/lock", p->dir);
	if (r < 0)
		return err_because(e, r, "pool");
	r = env_open(p->env, (const char *)path.data, ENV_READ | ENV_WRITE | ENV_CREATE,
		     &p->lock_file);
	if (r < 0)
		return err_set(e, r, "opening '%s': %s", (const char *)path.data, err_name(r));
	r = env_lock(p->env, p->lock_file);
	if (r < 0)
		return err_set(e, r == -EWOULDBLOCK ? -EBUSY : r,
			       "pool '%s' is in use by another process", p->dir);
	return 0;
}

static int open_backend_locked(struct pool *p, struct err *e)
{
	struct backend_options bo = {
		.copy_mode = (enum backend_copy_mode)p->options.backend_copy,
		/* Reads find a turn, however many uploads there are. */
		.concurrency_max = p->options.uploads_max + 2 * p->options.fetches_max,
		.attempts_max = p->options.attempts_max,
		.timeout_ns = p->options.timeout_ns,
		.must_exist = p->store_must_exist,
	};
	struct backend *b = p->options.backend;
	int r = 0;

	if (!b) {
		r = backend_open(p->env, p->options.backend_url, &bo, &b, e);
		p->own_backend = r == 0;
	}
	if (r < 0)
		return r;
	if (!(backend_caps(b) & BACKEND_CAP_PUT_IF_ABSENT))
		log_warning("backend: fencing: detect only: the store has no conditional put, so "
			    "a second daemon of this pool is noticed, not kept out: url='%s'",
			    backend_url(b));
	if (p->own_backend)
		metrics_add(&p->registry, backend_metrics(b));
	__atomic_store_n(&p->backend, b, __ATOMIC_SEQ_CST);
	/* One of the two sees what the other did (pool_cancel_uploads()). */
	if (__atomic_load_n(&p->uploads_cancelled, __ATOMIC_SEQ_CST))
		backend_refuse_calls(b, true);
	return 0;
}

int pool_open_backend(struct pool *p, struct err *e)
{
	int r;

	if (__atomic_load_n(&p->backend, __ATOMIC_ACQUIRE))
		return 0;
	GUARD(&p->backend_lock);
	r = p->backend ? 0 : open_backend_locked(p, e);
	return r;
}

static int open_meta(struct pool *p, struct err *e)
{
	struct meta_options mo = {
		.cache_bytes = max_u64(p->options.metadata_cache_bytes / 8, 4u << 20),
		.write_buffer_bytes = 8u << 20,
	};
	const char *meta_dir;
	int r;

	p->meta = p->options.meta;
	if (p->meta)
		return 0;
	meta_dir = keep_path(p, "meta");
	if (!meta_dir)
		return err_set(e, -ENOMEM, "pool");
	r = meta_rocksdb_open(meta_dir, &mo, &p->meta, e);
	p->own_meta = r == 0;
	return r;
}

int pool_new(struct env *env, const struct pool_options *o, struct pool **ret_pool, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "pool");
	p->env = env;
	mutex_init(&p->backend_lock, 0);
	packs_init(&p->packs);
	metrics_registry_init(&p->registry);
	r = take_options(p, o, e);
	if (r == 0)
		r = lock_pool(p, e);
	if (r == 0)
		r = open_meta(p, e);
	if (r < 0) {
		pool_free(p);
		return r;
	}
	*ret_pool = p;
	return 0;
}

int pool_put_row(struct pool *p, const struct pool_row *row, struct err *e)
{
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	struct row_key key = row_key_u64(ROW_POOL, 0);
	struct buf value;
	int r = batch ? 0 : -ENOMEM;

	buf_init(&value, 4096);
	if (r == 0)
		r = pool_row_encode(row, &value);
	if (r == 0)
		r = meta_batch_put(p->meta, batch, &key, &value);
	if (r < 0)
		err_because(e, r, "pool row");
	else
		r = meta_commit(p->meta, batch, META_SYNC, e);
	if (batch)
		meta_batch_free(p->meta, batch);
	buf_done(&value);
	return r;
}

int pool_get_row(struct pool *p, struct pool_row *ret_row, struct err *e)
{
	struct row_key key = row_key_u64(ROW_POOL, 0);
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = pool_row_decode(value.data, value.len_bytes, ret_row, e);
	buf_done(&value);
	return r;
}

int pool_add_feature(struct pool *p, uint64_t incompat, struct err *e)
{
	struct pool_row row;
	int r = pool_get_row(p, &row, e);

	if (r < 0 || row.features.incompat & incompat)
		return r;
	row.features.incompat |= incompat;
	return pool_put_row(p, &row, e);
}

/* Free space that users' writes leave alone. */
static uint64_t users_reserve_bytes(struct pool *p, uint32_t sco_bytes)
{
	uint64_t bytes = p->options.reserve_bytes;
	struct env_space space;

	if (!bytes && env_space(p->env, p->dir, &space) == 0)
		bytes = min_u64(RESERVE_META_BYTES, space.total_bytes / RESERVE_META_PART);
	return bytes + RESERVE_SCOS * (uint64_t)sco_bytes;
}

int pool_open_flash(struct pool *p, uint32_t sco_bytes, bool make, struct err *e)
{
	struct flash_dir_option dirs[POOL_CACHE_DIRS_MAX];
	int r;

	for (unsigned int i = 0; i < p->options.cache_count; i++)
		dirs[i] = (struct flash_dir_option){ p->options.cache[i].path,
						     p->options.cache[i].size_bytes };
	r = flash_open(p->env, &p->uuid, dirs, p->options.cache_count,
		       users_reserve_bytes(p, sco_bytes), make, &p->flash, e);
	for (unsigned int i = 0; r == 0 && i < p->options.cache_count; i++)
		if (p->options.failed_dirs & 1u << i)
			(void)flash_note_error(p->flash, i, -EIO);
	return r;
}

/* --- open -------------------------------------------------------------------------------------- */

static int load_counter(struct pool *p, enum counter_id id, uint64_t first, struct err *e)
{
	struct row_key key = row_key_u64(ROW_COUNTER, id);
	struct counter_row row;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = counter_row_decode(value.data, value.len_bytes, &row, e);
	buf_done(&value);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && MUTANT(MUTANT_NUMBER_REUSE))
		row.high_water -= COUNTER_BLOCK;
	p->counters[id].next = p->counters[id].limit =
		r == 0 ? max_u64(row.high_water, first) : first;
	return 0;
}

struct stream_loader {
	struct pool *pool;
	struct err *e;
};

static int load_stream(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	const struct stream_loader *loader = arg;
	struct stream_row row;
	struct stream *s;
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_STREAM, &id);
	if (r == 0)
		r = stream_row_decode(value, value_bytes, &row, loader->e);
	if (r == 0)
		r = pool_stream_add(loader->pool, (uint32_t)id, row.class, row.owner, &s,
				    loader->e);
	return r;
}

static int load_rows(struct pool *p, struct err *e)
{
	struct row_key from = row_key_u64(ROW_STREAM, 0);
	struct row_key until = row_key_u64(ROW_STREAM, UINT64_MAX);
	struct stream_loader loader = { .pool = p, .e = e };
	int r;

	r = load_counter(p, COUNTER_OBJECT, OBJECT_FIRST_FREE, e);
	if (r == 0)
		r = load_counter(p, COUNTER_STREAM, STREAM_FIRST_FREE, e);
	if (r == 0)
		r = load_counter(p, COUNTER_SCO, 1, e);
	if (r == 0)
		r = load_counter(p, COUNTER_LAYER, 1, e);
	if (r == 0)
		r = load_counter(p, COUNTER_SNAPSHOT, 1, e);
	if (r == 0)
		r = meta_iterate(p->meta, META_NAMES, &from, &until, load_stream, &loader, e);
	return r;
}

void pool_init_locks(struct pool *p)
{
	mutex_init(&p->counters_lock, 0);
	mutex_init(&p->objects_lock, LOCK_OBJECTS);
	mutex_init(&p->bounce_lock, 0);
	mutex_init(&p->room_lock, LOCK_PARKED);
	cond_init(&p->room);
	mutex_init(&p->upload_lock, LOCK_UPLOAD);
	upload_pool_init(&p->upload_pool);
	mutex_init(&p->seal_lock, LOCK_SEAL);
	mutex_init(&p->checkpoint_lock, LOCK_CHECKPOINT);
	p->checkpoint_begun = p->checkpoint_counted = 1;
	mutex_init(&p->dropped_lock, 0);
	family_init(&p->family);
	frozen_moves_init(&p->frozen_moves);
	scrub_init(&p->scrub);
	mutex_init(&p->capacity_lock, 0);
}

static int open_caches(struct pool *p, const struct pool_row *row, struct err *e)
{
	struct map_options mo = { .cache_bytes = p->options.metadata_cache_bytes * 7 / 8 };
	int r;

	r = sco_table_open(p->env, p->flash, &p->scos);
	if (r == 0)
		r = absent_open(p, e);
	if (r == 0)
		r = sco_index_open(p->scos, p->options.metadata_cache_bytes / 8, &p->index);
	if (r == 0)
		clean_reader_init(&p->clean_reader, p->scos, p->index);
	if (r == 0)
		r = map_open(p->meta, &mo, &p->map);
	if (r == 0)
		r = resolved_open(p, row, e);
	p->page_rows.bytes_max = p->options.metadata_cache_bytes / 16;
	return r < 0 ? err_because(e, r, "caches") : 0;
}

static void stop_jobs(struct pool *p)
{
	job_stop(&p->scrubber);
	job_stop(&p->resolver);
	job_stop(&p->merger);
	job_stop(&p->evictor);
	for (unsigned int i = 0; i < POOL_FETCHERS; i++)
		job_stop(&p->fetchers[i]);
	cache_stop(p->cache);
	job_stop(&p->cleaner);
	clean_reader_stop(&p->clean_reader);
	job_stop(&p->uploader);
	upload_pool_stop(&p->upload_pool);
	job_stop(&p->checkpointer);
	job_stop(&p->sealer);
	job_stop(&p->preparer);
	job_stop(&p->flusher);
	job_stop(&p->resumer);
	writeback_stop(&p->writeback);
}

static int start_jobs(struct pool *p, struct err *e)
{
	struct job *jobs[] = { &p->resumer,	 &p->flusher,  &p->sealer,  &p->preparer,
			       &p->checkpointer, &p->uploader, &p->cleaner, &p->evictor,
			       &p->merger,	 &p->resolver, &p->scrubber };
	struct err unused;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
		job_init(jobs[i]); /* they kick each other from their first step on */
	for (size_t i = 0; i < POOL_FETCHERS; i++)
		job_init(&p->fetchers[i]);
	r = writeback_start(&p->writeback);

	if (r == 0)
		r = job_start(&p->resumer, "resumer", room_resume_step, p);
	if (r == 0)
		r = job_start(&p->flusher, "flusher", flusher_step, p);
	if (r == 0)
		r = job_start(&p->sealer, "sealer", sealer_step, p);
	if (r == 0)
		r = job_start(&p->preparer, "preparer", preparer_step, p);
	if (r == 0)
		r = job_start(&p->checkpointer, "checkpointer", checkpointer_step, p);
	if (r == 0)
		r = upload_pool_start(p);
	if (r == 0)
		r = job_start(&p->uploader, "uploader", uploader_step, p);
	if (r == 0)
		r = clean_reader_start(&p->clean_reader);
	if (r == 0)
		r = job_start(&p->cleaner, "cleaner", cleaner_step, p);
	if (r == 0)
		r = job_start(&p->evictor, "evictor", evictor_step, p);
	if (r == 0)
		r = job_start(&p->merger, "merger", merger_step, p);
	if (r == 0)
		r = job_start(&p->resolver, "resolver", resolver_step, p);
	if (r == 0)
		r = job_start(&p->scrubber, "scrubber", scrubber_step, p);
	for (unsigned int i = 0; i < POOL_FETCHERS && r == 0; i++)
		r = job_start(&p->fetchers[i], "fetcher", fetcher_step, p);
	if (r == 0)
		r = cache_start(p->cache, &unused);
	if (r < 0) {
		stop_jobs(p);
		return err_because(e, r, "starting threads");
	}
	return 0;
}

/* Everything that recovery made, given up or at the end. */
void pool_close_parts(struct pool *p, bool clean)
{
	while (p->dropped) {
		struct dropped_layer *d = p->dropped;

		p->dropped = d->next;
		layer_unref(p->map, d->layer);
		free(d);
	}
	while (p->old_files) {
		struct old_file *f = p->old_files;

		p->old_files = f->next;
		free(f);
	}
	freezes_forget(p);
	if (p->scos)
		shares_forget(p);
	objects_free_all(p);
	family_done(&p->family);
	frozen_moves_done(&p->frozen_moves);
	if (p->map)
		map_close(p->map);
	if (p->writeback.ioq)
		writeback_done(&p->writeback);
	ring_close(p->ring, clean);
	if (p->index)
		clean_reader_done(&p->clean_reader);
	sco_table_close(p->scos);
	if (p->cache)
		cache_close(p->cache);
	bounce_free_all(p);
}

int pool_open_parts(struct pool *p, const struct pool_row *row, struct err *e)
{
	struct ring_options ro = {
		.pool_dir = p->dir,
		.shm_dir = p->options.shm_dir,
		.ring_bytes = p->options.ring_bytes,
		.frame_bytes = p->options.ring_frame_bytes,
		.pool = p->uuid,
		.epoch = p->epoch,
		.give_up = p->options.give_up_ring,
		.given_up = &p->ring_given_up,
	};
	int r;

	r = pool_open_flash(p, row->sco_bytes, false, e);
	if (r == 0)
		r = open_caches(p, row, e);
	if (r < 0)
		return r;
	pool_init_world(p, row);
	r = packs_load(p, e);
	if (r == 0)
		r = load_rows(p, e);
	ro.first_sco = p->counters[COUNTER_SCO].next;
	if (r == 0)
		r = family_load(p, e);
	if (r == 0)
		r = pool_recover(p, &ro, e);
	if (r == 0)
		r = upload_load_state(p, e);
	if (r < 0)
		return r;
	p->world.ring = p->ring;
	r = writeback_init(&p->writeback, p->env, WRITEBACK_DEPTH, p->ring->mem,
			   p->ring->len_bytes);
	if (r < 0)
		return err_because(e, r, "writeback");
	p->dirty_limit_bytes = pool_dirty_limit(p);
	p->stale_percent = 100; /* nothing is known */
	p->capacity_bytes = p->options.capacity_bytes;
	pool_recount(p);
	capacity_counted(p, 0);
	return 0;
}

/* What a restore left that was cut off is no pool. */
static int refuse_unfinished(struct pool *p, struct err *e)
{
	struct root_row root;
	int r = restore_get_mark(p, &root, e);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r :
		       err_set(e, -EUCLEAN,
			       "the restore of '%s' was cut off: remove it and restore again",
			       p->dir);
}

int pool_open(struct env *env, const struct pool_options *o, struct pool **ret_pool, struct err *e)
{
	struct pool_row row;
	struct pool *p;
	int r;

	r = pool_new(env, o, &p, e);
	if (r < 0)
		return r;
	r = refuse_unfinished(p, e);
	if (r == 0) {
		r = pool_get_row(p, &row, e);
		if (r == -ENOENT)
			err_set(e, r, "'%s' holds no pool", o->dir);
	}
	if (r < 0) {
		pool_free(p);
		return r;
	}
	p->uuid = row.pool;
	p->epoch = ++row.epoch;
	pool_init_locks(p);
	/* Durable before the first write of this process: no two ever share an epoch. */
	r = pool_put_row(p, &row, e);
	if (r == 0)
		r = pool_open_parts(p, &row, e);
	if (r == 0)
		r = start_jobs(p, e);
	if (r < 0) {
		pool_close_parts(p, false);
		pool_free(p);
		return err_wrap(e, r, "pool '%s'", o->dir);
	}
	p->metrics_group = (struct metrics_group){ .name = "volume",
						   .defs = pool_metric_defs,
						   .def_count = ARRAY_SIZE(pool_metric_defs),
						   .values = &p->metrics };
	metrics_add(&p->registry, &p->metrics_group);
	p->cache_group = (struct metrics_group){ .name = "cache",
						 .defs = cache_metric_defs,
						 .def_count = cache_metric_def_count,
						 .values = &p->cache_metrics };
	metrics_add(&p->registry, &p->cache_group);
	*ret_pool = p;
	return 0;
}

/* --- close ------------------------------------------------------------------------------------- */

static int drain(struct pool *p, struct err *e)
{
	struct stream **list;
	size_t count;
	int r = pool_streams(p, &list, &count);

	if (r < 0)
		return err_because(e, r, "closing");
	/* Nothing is left open, so that the next start has nothing to reseal. */
	for (size_t i = 0; i < count; i++)
		stream_retire_sco(list[i]);
	free(list);
	r = pool_flush_streams(p, e);
	if (r == 0)
		r = meta_sync(p->meta, e);
	if (r == 0)
		r = pool_seal(p, e);
	if (r == 0)
		r = pool_checkpoint(p, e);
	return r;
}

/* An SCO made in advance and never used has nothing that counts. */
static void drop_unused_scos(struct pool *p)
{
	struct stream *s, *next;

	HASH_ITER (hh, p->streams, s, next)
		stream_abandon(s);
}

int pool_close(struct pool *p, struct err *e)
{
	int r;

	pool_cancel_waits(p);
	pool_cancel_uploads(p);
	r = drain(p, e);
	stop_jobs(p);
	(void)room_resume_step(p); /* what was parked is told so */
	while (fetcher_step(p) == 0)
		continue;
	if (r == 0) /* writes between the two, by cleaning */
		r = drain(p, e);
	if (r == 0)
		drop_unused_scos(p);
	metrics_remove(&p->registry, &p->cache_group);
	metrics_remove(&p->registry, &p->metrics_group);
	pool_close_parts(p, r == 0);
	pool_free(p);
	return r;
}

/* --- open to users ----------------------------------------------------------------------------- */

int pool_flush(struct pool *p, struct err *e)
{
	int r = pool_flush_streams(p, e);

	return r == 0 ? meta_sync(p->meta, e) : r;
}

static int check_nothing_is_spoiled(struct pool *p, struct err *e)
{
	struct sco_table *t = p->scos;
	struct sco *s, *next;
	int r = 0;

	GUARD(&t->lock);
	HASH_ITER (hh, t->by_number, s, next)
		if (s->spoiled && r == 0)
			r = err_set(e, -EBADMSG,
				    "SCO %" PRIu64 " is damaged in '%s', stream %u stays on this "
				    "machine until repaired",
				    s->number, p->flash->dirs[s->dir].path, s->stream);
	return r;
}

/* An open SCO of a damaged stream is not sealed (flush.c), so it never travels. */
static int check_nothing_is_kept_back(struct pool *p, struct err *e)
{
	struct sco **list;
	size_t count;
	int r = sco_table_list_unsealed(p->scos, &list, &count);

	if (r < 0)
		return err_because(e, r, "sync");
	for (size_t i = 0; i < count && r == 0; i++)
		if (sco_life(p->scos, list[i]) == SCO_LIFE_LEFTOVER &&
		    !pool_leftover_is_dead(p, list[i]))
			r = err_set(e, -EUCLEAN,
				    "stream %u is damaged, its SCO %" PRIu64
				    " stays on this machine until repaired",
				    list[i]->stream, list[i]->number);
	sco_list_free(p->scos, list, count);
	return r == 0 ? check_nothing_is_spoiled(p, e) : r;
}

int pool_sync_backend(struct pool *p, struct err *e)
{
	int r = upload_round(p, e);

	/* A stream that failed keeps back what it has. */
	if (r == 0)
		r = pool_flush_streams(p, e);
	return r == 0 ? check_nothing_is_kept_back(p, e) : r;
}

struct metrics_registry *pool_metrics(struct pool *p)
{
	return &p->registry;
}
