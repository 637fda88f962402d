/*
 * restore - makes a pool from its backend: chooses the root, has its rows put, lets the engine replay
 * what the maps lack, and claims an epoch.
 *
 * A row (restore_set_mark) says that all this is under way. As long as it is there nobody opens the
 * pool, so nothing in between has to be consistent; a restore that was cut off begins anew.
 */
#include "volume/restore_impl.h"

#include "backend/backend.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/recovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Older roots than these are gone in part: two of each epoch are kept. */
#define ROOTS_TRIED_MAX 8u
/* How often it is begun anew because a root came meanwhile. */
#define ROUNDS_MAX 3u

struct restore {
	struct env *env;
	const struct pool_options *options;
	const struct pool_restore_options *restore_options;
	struct store_names store;
	struct restore_plan plan;
	struct pool_restored result;
	struct pool_row row;
};

/* --- what the engine asks ---------------------------------------------------------------------- */

lsn_t restore_lsn(const struct restore_plan *plan, uint32_t stream)
{
	for (size_t i = 0; i < plan->target_count; i++)
		if (plan->targets[i].stream == stream)
			return plan->targets[i].lsn;
	return 0;
}

int restore_note_entries(struct restore_plan *plan, const struct replay *rp)
{
	for (size_t i = 0; i < rp->count; i++)
		plan->object_max = max_u64(plan->object_max, rp->entries[i].entry.object);
	return plan->object_max > RESTORE_NUMBER_MAX ? -EUCLEAN : 0;
}

/* --- SCOs that hold more than counts ----------------------------------------------------------- */

struct kept_log {
	struct pool *pool;
	struct sco *sco;
	lsn_t end;
	uint32_t *crcs;
	struct buf log;
	struct err *e;
};

static uint32_t entry_clusters(const struct log_entry *entry)
{
	if (!entry->slot)
		return 0;
	return entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
}

static int keep_entry(void *arg, const struct log_entry *entry)
{
	uint8_t bytes[BATCH_ENTRY_BYTES];
	struct kept_log *k = arg;
	uint32_t count = entry_clusters(entry);
	int r;

	if (entry->lsn > k->end)
		return 0;
	if (entry->slot + count > k->sco->slots_max)
		return err_set(k->e, -EUCLEAN, "entry of LSN %" PRIu64 " leaves its SCO",
			       entry->lsn);
	r = sco_index_crcs(k->pool->index, k->sco, entry->slot, count, k->crcs + entry->slot, k->e);
	log_entry_encode(entry, bytes);
	return r == 0 ? buf_append(&k->log, bytes, sizeof(bytes)) : r;
}

/* A copy was made without a look at the bytes. */
static int verify_copy(const struct kept_log *k, struct err *e)
{
	uint8_t *cluster = direct_alloc(CLUSTER_BYTES);
	int r = cluster ? 0 : err_set(e, -ENOMEM, "a cluster");

	for (size_t at = 0; r == 0 && at < k->log.len_bytes; at += BATCH_ENTRY_BYTES) {
		struct log_entry entry;

		r = log_entry_decode(k->log.data + at, &entry, e);
		for (uint32_t i = 0; r == 0 && i < entry_clusters(&entry); i++) {
			uint32_t slot = entry.slot + i;

			r = sco_read(k->pool->scos, k->sco, slot, 1, cluster, e);
			if (r == 0 && crc32c(0, cluster, CLUSTER_BYTES) != k->crcs[slot])
				r = err_set(e, -EBADMSG, "slot %u: wrong checksum", slot);
		}
	}
	free(cluster);
	return r;
}

static int read_kept(struct kept_log *k, struct err *e)
{
	struct sco_bytes bytes = sco_bytes_of(k->pool->scos, k->sco);
	struct sco_footer footer;
	int r = sco_load_footer(k->pool->scos, k->sco, e);

	if (r == 0)
		r = sco_read_footer(&bytes, k->sco->file_bytes, &footer, e);
	return r == 0 ? sco_read_log(&bytes, &footer, keep_entry, k, e) : r;
}

/*
 * Entries behind the end must not come back in any later replay: the SCO becomes one of a later version
 * that has them not, here on flash, and travels again with the next root.
 */
static int give_up_behind(struct pool *p, struct sco *s, lsn_t end, struct err *e)
{
	struct kept_log k = { .pool = p, .sco = s, .end = end, .e = e };
	struct sco_copy copy = { .sco = s, .durable_lsn = end };
	int r;

	buf_init(&k.log, (size_t)s->slots_max * BATCH_ROOM_BYTES);
	k.crcs = calloc(s->slots_max, sizeof(*k.crcs));
	r = k.crcs ? read_kept(&k, e) : err_set(e, -ENOMEM, "tables of a SCO");
	if (r == 0) {
		mutex_lock(&p->scos->lock);
		s->life = SCO_LIFE_LEFTOVER;
		s->crcs = calloc(s->slots_max, sizeof(*s->crcs));
		if (s->crcs)
			memcpy(s->crcs, k.crcs, s->slots_max * sizeof(*s->crcs));
		buf_done(&s->log);
		buf_init(&s->log, (size_t)s->slots_max * BATCH_ROOM_BYTES);
		mutex_unlock(&p->scos->lock);
		r = s->crcs ? buf_append(&s->log, k.log.data, k.log.len_bytes) : -ENOMEM;
		if (r < 0)
			err_because(e, r, "tables of a SCO");
	}
	if (r == 0)
		r = sco_reseal(&p->world, &copy, 1, e);
	if (r == 0) {
		mutex_lock(&p->scos->lock);
		s->absent = false;
		s->row_flags = 0;
		mutex_unlock(&p->scos->lock);
		r = verify_copy(&k, e);
	}
	buf_done(&k.log);
	free(k.crcs);
	return r < 0 ? err_wrap(e, r, "SCO %" PRIu64, s->number) : 0;
}

static int give_up_all_behind(struct pool *p, const struct restore_plan *plan, struct err *e)
{
	struct sco **list;
	size_t count;
	int r = sco_table_list(p->scos, 0, &list, &count);

	if (r < 0)
		return err_because(e, r, "SCOs");
	for (size_t i = 0; i < count && r == 0; i++) {
		lsn_t end = restore_lsn(plan, list[i]->stream);

		if (list[i]->last_lsn > end && !MUTANT(MUTANT_RESTORED_TOO_MUCH))
			r = give_up_behind(p, list[i], end, e);
	}
	sco_list_free(p->scos, list, count);
	return r;
}

/* --- one root ---------------------------------------------------------------------------------- */

static int stop_at_first(void *arg, const char *name, const struct backend_object *object)
{
	(void)name;
	(void)object;
	*(bool *)arg = true;
	return 1;
}

/* Whether somebody put a root since the look. */
static int has_newer_root(const struct restore *rs, struct pool *p, bool *ret_newer, struct err *e)
{
	const struct store_root *newest = &rs->store.roots[rs->store.root_count - 1];
	char name[OBJECT_NAME_MAX + 1];
	int r;

	*ret_newer = false;
	object_name_root(name, newest->number, newest->epoch);
	r = backend_list(p->backend, "root/", name, 1, stop_at_first, ret_newer, e);
	return r < 0 ? r : 0;
}

static int read_root(struct restore *rs, struct pool *p, const struct store_root *at,
		     struct root *ret_root, struct err *e)
{
	int r = root_read(p, at->epoch, at->number, ret_root, e);

	if (r == -EBADMSG) /* perhaps on its way */
		r = root_read(p, at->epoch, at->number, ret_root, e);
	if (r < 0)
		return r;
	if (memcmp(&ret_root->pool, &rs->store.pool, sizeof(ret_root->pool)) != 0 ||
	    ret_root->epoch != at->epoch || ret_root->number != at->number) {
		root_done(ret_root);
		return err_set(e, -EUCLEAN, "it is another one than its name says");
	}
	return 0;
}

static int put_root_rows(struct restore *rs, struct pool *p, const struct store_root *at,
			 struct err *e)
{
	struct restore_rows rr = {
		.pool = p,
		.store = &rs->store,
		.options = rs->restore_options,
		.plan = &rs->plan,
		.result = &rs->result,
	};
	struct root root = { 0 };
	int r = restore_wipe_rows(p, e);

	if (r == 0)
		r = read_root(rs, p, at, &root, e);
	if (r < 0)
		return r;
	rs->result = (struct pool_restored){
		.root = root.number,
		.root_epoch = root.epoch,
		.root_created_ns = root.created_ns,
		.roots_skipped = rs->result.roots_skipped,
	};
	rr.root = &root;
	/* Whether there are snapshots, or rows that merges moved, is seen only later. */
	rs->row.features.incompat |=
		(root.features.incompat & FEATURES_OF_POOL) | FEATURE_SNAPSHOTS | FEATURE_COPIES;
	r = restore_put_rows(&rr, e);
	root_done(&root);
	return r;
}

static int claim(struct pool *p, struct err *e)
{
	int r;

	GUARD(&p->upload_lock);
	r = upload_check_owner(p, e);
	return r;
}

/* The engine is open on the rows: what it has to do before others may open it. */
static int settle(struct restore *rs, struct pool *p, struct err *e)
{
	bool newer;
	int r = give_up_all_behind(p, &rs->plan, e);

	/* Whoever has it up to now stops here, and what he put until then is seen. */
	if (r == 0)
		r = claim(p, e);
	if (r == 0)
		r = has_newer_root(rs, p, &newer, e);
	if (r == 0 && newer)
		r = err_set(e, -EAGAIN, "another daemon of the pool is at work");
	if (r == 0)
		r = pool_checkpoint(p, e);
	if (r == 0)
		r = restore_raise_counter(p, COUNTER_OBJECT, rs->plan.object_max + COUNTER_BLOCK,
					  e);
	if (r == 0)
		r = meta_flush(p->meta, e);
	return r;
}

/* From here on the mark is all that is in the way; it goes last. */
static int open_and_settle(struct restore *rs, struct pool *p, struct err *e)
{
	int r;

	rs->row.epoch = rs->store.epoch_max + 1;
	p->uuid = rs->row.pool;
	p->epoch = rs->row.epoch;
	p->restoring = &rs->plan;
	r = pool_put_row(p, &rs->row, e);
	if (r == 0)
		r = pool_open_parts(p, &rs->row, e);
	if (r == 0)
		r = settle(rs, p, e);
	pool_close_parts(p, r == 0);
	rs->result.epoch = rs->row.epoch;
	return r == 0 ? restore_set_mark(p, NULL, e) : r;
}

static bool is_flaw(int r)
{
	return r == -EUCLEAN || r == -EBADMSG || r == -ENOENT;
}

/* *ret_newer: it came to nothing, but there is a younger root by now. */
static int try_root(struct restore *rs, const struct store_root *at, bool *ret_newer, struct err *e)
{
	struct pool *p;
	int r = pool_new(rs->env, rs->options, &p, e);

	*ret_newer = false;
	if (r < 0)
		return r;
	pool_init_locks(p);
	p->store_must_exist = true;
	p->uuid = rs->row.pool;
	free(rs->plan.targets);
	rs->plan = (struct restore_plan){ 0 };
	r = pool_open_backend(p, e);
	if (r == 0)
		r = put_root_rows(rs, p, at, e);
	if (r == 0)
		r = open_and_settle(rs, p, e);
	if (is_flaw(r) || r == -EAGAIN) {
		struct err why = { 0 };

		if (has_newer_root(rs, p, ret_newer, &why) < 0)
			*ret_newer = false;
	}
	pool_free(p);
	return r;
}

static int try_roots(struct restore *rs, bool *ret_newer, struct err *e)
{
	const struct store_names *n = &rs->store;
	size_t tries = n->root_count < ROOTS_TRIED_MAX ? n->root_count : ROOTS_TRIED_MAX;
	struct err first = { 0 };
	int r = 0;

	rs->result.roots_skipped = 0;
	for (size_t i = 0; i < tries; i++) {
		const struct store_root *at = &n->roots[n->root_count - 1 - i];
		struct err why = { 0 };

		r = try_root(rs, at, ret_newer, &why);
		if (r < 0 && (!is_flaw(r) || *ret_newer))
			return err_set(e, r, "%s", why.message);
		if (r == 0)
			return 0;
		log_warning("volume: restore: root %" PRIu64 " of epoch %" PRIu64
			    " is not whole: %s",
			    at->number, at->epoch, why.message);
		if (i == 0)
			first = why;
		rs->result.roots_skipped++;
	}
	return err_set(e, first.code ? first.code : r, "none of the %zu newest roots is whole: %s",
		       tries, first.message);
}

/* --- the directory ----------------------------------------------------------------------------- */

/* Of a restore that was cut off: its own, or what a power cut left of it. Another pool's stays. */
static void drop_label(struct restore *rs, struct pool *p, const char *dir)
{
	uint8_t bytes[CACHE_LABEL_BYTES];
	struct cache_label label;
	struct env_file *f = NULL;
	char *path = NULL;
	ssize_t got = -ENOENT;

	if (asprintf(&path, "%s/label", dir) < 0)
		return;
	if (env_open(rs->env, path, ENV_READ, &f) == 0) {
		got = env_pread(rs->env, f, bytes, sizeof(bytes), 0);
		env_close(rs->env, f);
	}
	if (got >= 0 && (cache_label_decode(bytes, (size_t)got, &label, NULL) < 0 ||
			 memcmp(&label.pool, &p->uuid, sizeof(label.pool)) == 0))
		(void)env_unlink(rs->env, path); /* else making it anew says why not */
	free(path);
}

/* What a pool has besides its rows; the mark comes first. */
static int begin(struct restore *rs, struct pool *p, bool again, struct err *e)
{
	const struct store_root *newest = &rs->store.roots[rs->store.root_count - 1];
	struct root_row mark = { .number = newest->number, .epoch = newest->epoch };
	int r = restore_set_mark(p, &mark, e);

	for (unsigned int i = 0; again && i < p->options.cache_count; i++)
		drop_label(rs, p, p->options.cache[i].path);
	if (r == 0)
		r = pool_open_flash(p, rs->row.sco_bytes, true, e);
	if (r == 0)
		r = ring_create_record(rs->env, p->dir, &p->uuid, e);
	if (r == 0) {
		r = env_sync_dir(rs->env, p->dir);
		if (r < 0)
			err_because(e, r, "syncing '%s'", p->dir);
	}
	return r;
}

/* Look at the store; the first time at the directory, too. */
static int look(struct restore *rs, bool first, struct err *e)
{
	struct root_row mark;
	struct pool_row row;
	struct pool *p;
	bool again;
	int r = pool_new(rs->env, rs->options, &p, e);

	if (r < 0)
		return r;
	p->store_must_exist = true;
	r = restore_get_mark(p, &mark, e);
	again = r == 0;
	if (r == -ENOENT)
		r = pool_get_row(p, &row, e) == -ENOENT ?
			    0 :
			    err_set(e, -EEXIST, "'%s' holds a pool already", p->dir);
	if (r == 0)
		r = pool_open_backend(p, e);
	store_names_done(&rs->store);
	if (r == 0)
		r = restore_look(p, &rs->store, e);
	if (r == 0) {
		p->uuid = rs->row.pool = rs->store.pool;
		r = first ? begin(rs, p, again, e) : 0;
	}
	pool_free(p);
	return r;
}

int pool_restore(struct env *env, const struct pool_options *o,
		 const struct pool_restore_options *options, struct pool_restored *ret_restored,
		 struct err *e)
{
	struct restore rs = { .env = env, .options = o, .restore_options = options };
	bool newer = true;
	int r = pool_check_sco_bytes(o, e);

	rs.row.sco_bytes = (uint32_t)o->sco_bytes;
	rs.row.created_ns = env_now_real_ns(env);
	for (unsigned int i = 0; (r == 0 || i > 0) && newer && i < ROUNDS_MAX; i++) {
		newer = false;
		r = look(&rs, i == 0, e);
		if (r == 0)
			r = try_roots(&rs, &newer, e);
	}
	if (r == -EAGAIN && newer)
		r = err_set(e, -EBUSY, "another daemon of the pool is at work: stop it first");
	store_names_done(&rs.store);
	free(rs.plan.targets);
	if (r == 0)
		*ret_restored = rs.result;
	return r;
}
