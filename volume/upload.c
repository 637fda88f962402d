/*
 * upload - brings sealed SCOs to the backend, then commits a root. A round: seal what is dirty,
 * put what is sealed, checkpoint and settle what the root is to show, put what that lacks, root. Names
 * carry the epoch, so a repeated put is harmless and two owners never overwrite each other.
 */
#include "volume/evict.h"
#include "volume/root_impl.h"
#include "volume/upload_verify.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/packs.h"

#include <stdlib.h>
#include <string.h>

#define CONDEMNED_ROW_BYTES_MAX 256u
#define UPLOAD_TIGHT_NS		UINT64_C(2000000000) /* between rounds while a disk is full */
#define UPLOAD_RETRY_FIRST_NS	UINT64_C(1000000000)
/* Roots after the last change until all that it condemned is deleted. */
#define IDLE_ROOTS	    2u
#define UPLOAD_RETRY_MAX_NS UINT64_C(30000000000)
/* So many that were killed in turn may put off what they have to put. */
#define STARTS_WITHOUT_ROOT 16u

int upload_put_buf(struct pool *p, const struct buf *bytes, struct named_object *object,
		   struct err *e)
{
	struct backend_source source = {
		.data = bytes->data,
		.len_bytes = bytes->len_bytes,
		.crc32c = crc32c(0, bytes->data, bytes->len_bytes),
		.has_crc = true,
	};
	struct backend_put_result result;
	int r = backend_put(p->backend, object->name, &source, 0, &result, e);

	if (r < 0)
		return err_wrap(e, r, "putting '%s'", object->name);
	object->len_bytes = source.len_bytes;
	object->crc = source.crc32c;
	return 0;
}

/* One row a name: the key's second part only has to tell names of one root apart. */
static struct row_key condemned_key(uint64_t root, const char *name)
{
	size_t len = strlen(name);
	uint64_t hash = (uint64_t)crc32c(0, name, len) << 32 | crc32c(1, name, len);

	return row_key_2u64(ROW_CONDEMNED, root, hash);
}

int upload_condemn_name(struct pool *p, struct meta_batch *names, uint64_t root, const char *name)
{
	struct row_key key = condemned_key(root, name);
	struct buf value;
	int r;

	buf_init(&value, CONDEMNED_ROW_BYTES_MAX);
	r = condemned_row_encode(name, &value);
	if (r == 0)
		r = meta_batch_put(p->meta, names, &key, &value);
	buf_done(&value);
	return r;
}

int upload_condemn(struct pool *p, struct meta_batch *names, const struct sco *s, struct err *e)
{
	char name[OBJECT_NAME_MAX + 1];
	int r;

	object_name_sco(name, s->stream, s->number, s->version,
			s->row_flags & SCO_UPLOADED ? s->object_epoch : p->epoch);
	r = upload_condemn_name(p, names,
				MUTANT(MUTANT_CONDEMNED_BY_CUT) ? p->root_number + 1 : root_next(p),
				name);
	return r < 0 ? err_because(e, r, "condemning '%s'", name) : 0;
}

/* --- SCOs -------------------------------------------------------------------------------------- */

bool upload_claim(struct pool *p, struct sco *s)
{
	GUARD(&p->scos->lock);
	if (s->life != SCO_LIFE_SEALED || s->busy || s->dead || s->spoiled ||
	    s->row_flags & SCO_UPLOADED)
		return false;
	/* What died before it ever travelled stays here; the next checkpoint removes it. */
	if (s->live_slots == 0 && s->row_saved)
		return false;
	s->busy = true;
	s->put_tried = true;
	return true;
}

void upload_unclaim(struct pool *p, struct sco *s)
{
	GUARD(&p->scos->lock);
	s->busy = false;
}

/* Whoever waits for it need not wait for the others of the round. Lock of the SCOs held. */
static void no_longer_dirty_locked(struct pool *p, uint64_t bytes)
{
	uint64_t dirty = __atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED);

	/* It is an estimate between two counts, and must not fall below nothing. */
	while (!__atomic_compare_exchange_n(&p->dirty_bytes, &dirty, dirty - min_u64(dirty, bytes),
					    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/*
 * Through the page cache, unlike all other reads of SCOs: a store reads its source twice, for a
 * checksum and to send it. So the disk is read once, and ahead of what is hashed; and whoever is short
 * of memory has it back at once. Not of a recycled file: its last life may have been read that way, and
 * what is put may soon be the only copy, so nothing rests on the kernel's having forgotten those pages.
 */
static int open_for_upload(struct pool *p, struct sco *s, const char *path,
			   struct env_file **ret_own, struct env_file **ret_file, struct err *e)
{
	int r;

	*ret_own = NULL;
	if (s->recycled)
		return sco_file(p->scos, s, ret_file, e);
	r = env_open(p->env, path, ENV_READ, ret_own);
	*ret_file = *ret_own;
	return r < 0 ? err_set(e, r, "opening '%s': %s", path, err_name(r)) : 0;
}

void upload_done(struct pool *p, struct sco *s, bool put, bool shares_file)
{
	mutex_lock(&p->scos->lock);
	s->busy = false;
	if (put) {
		no_longer_dirty_locked(p, sco_dirty_bytes(s));
		s->row_flags |= (uint8_t)(SCO_UPLOADED | (shares_file ? SCO_LINKED : 0u));
		s->object_epoch = p->epoch;
		sco_row_changed_locked(p->scos, s);
	}
	mutex_unlock(&p->scos->lock);
	if (!put)
		return;
	pool_made_room(p);
	counter_inc(&p->metrics.scos_uploaded);
}

/* A SCO's file, and what is needed to read it. */
struct upload_file {
	char *path;
	struct env_file *own, *file;
};

static int open_sco(struct pool *p, struct sco *s, struct upload_file *f, struct err *e)
{
	*f = (struct upload_file){ .path = flash_path(p->flash, s->dir, s->stream, s->number,
						      s->version) };
	return f->path ? open_for_upload(p, s, f->path, &f->own, &f->file, e) :
			 err_set(e, -ENOMEM, "upload");
}

static void close_sco(struct pool *p, struct upload_file *f)
{
	if (f->own)
		env_close(p->env, f->own);
	free(f->path);
}

int upload_read_sco(struct pool *p, struct sco *s, uint8_t *dst, struct err *e)
{
	uint8_t *mem = direct_alloc((size_t)s->file_bytes); /* perhaps past the page cache */
	struct upload_file f = { 0 };
	ssize_t got;
	int r = mem ? open_sco(p, s, &f, e) : err_set(e, -ENOMEM, "upload");

	if (r == 0) {
		got = env_pread(p->env, f.file, mem, (size_t)s->file_bytes, 0);
		if (got < 0)
			r = err_set(e, (int)got, "reading '%s': %s", f.path, err_name((int)got));
		else if ((uint64_t)got != s->file_bytes)
			r = err_set(e, -EUCLEAN, "'%s' ends at %zd", f.path, got);
		if (r == 0 && s->version == 0)
			r = upload_verify_bytes(p, s, mem, e);
		if (r == 0)
			memcpy(dst, mem, (size_t)s->file_bytes);
	}
	close_sco(p, &f);
	free(mem);
	return r;
}

/* Put it, and look at what is put. */
static int put_verified(struct pool *p, struct sco *s, const char *name,
			struct backend_source *source, struct backend_put_result *result,
			struct err *e)
{
	struct upload_verify *verify = NULL;
	struct env_file *direct;
	bool damaged;
	int r = 0;

	/* What an earlier process left open may hold bytes that a failed sync cost it. Nothing lives
	 * there, for the ring's copy counts, but the index of the copy names them. */
	if (s->version == 0)
		r = upload_verify_begin(p, s, source, &verify, e);
	damaged = r == -EBADMSG || r == -EUCLEAN;
	if (r == 0)
		r = backend_put(p->backend, name, source, 0, result, e);
	/* The page cache may be wrong where the disk is right. */
	if (upload_verify_failed(verify) && sco_file(p->scos, s, &direct, e) == 0 &&
	    source->file != direct) {
		upload_verify_free(TAKE_PTR(verify));
		source->file = direct;
		r = upload_verify_begin(p, s, source, &verify, e);
		if (r == 0)
			r = backend_put(p->backend, name, source, 0, result, e);
	}
	if (damaged || upload_verify_failed(verify)) {
		upload_refuse(p, s, e);
		r = -EBADMSG;
	}
	upload_verify_free(verify);
	return r;
}

int upload_sco(struct pool *p, struct sco *s, struct err *e)
{
	char name[OBJECT_NAME_MAX + 1];
	struct backend_put_result result = { 0 };
	struct backend_source source = { .len_bytes = s->file_bytes };
	struct upload_file f = { 0 };
	int r = open_sco(p, s, &f, e);

	object_name_sco(name, s->stream, s->number, s->version, p->epoch);
	source.file = f.file;
	source.file_path = f.path;
	s->put_alone = true;
	if (r == 0)
		r = put_verified(p, s, name, &source, &result, e);
	close_sco(p, &f);
	upload_done(p, s, r == 0, result.shares_file);
	return r < 0 ? err_wrap(e, r, "uploading '%s'", name) : 0;
}

static bool wants_upload(struct pool *p, const struct sco *s)
{
	GUARD(&p->scos->lock);
	return s->life == SCO_LIFE_SEALED && !s->dead && !s->spoiled &&
	       !(s->row_flags & SCO_UPLOADED);
}

static int upload_scos(struct pool *p, struct err *e)
{
	size_t count, taken, wanted = 0;
	struct sco **list;
	int r;

	r = sco_table_list(p->scos, 0, &list, &count);
	if (r < 0)
		return err_because(e, r, "upload");
	for (size_t i = 0; i < count; i++)
		if (wants_upload(p, list[i])) {
			struct sco *s = list[i];

			list[i] = list[wanted];
			list[wanted++] = s;
		}
	r = upload_pool_put(p, list, wanted, false, &taken, e);
	sco_list_free(p->scos, list, count);
	pool_recount(p);
	pool_made_room(p);
	return r;
}

/* --- rounds ------------------------------------------------------------------------------------ */

/* Attempts of the process before took numbers; those that condemned something count on. */
static int see_condemned(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			 size_t value_bytes)
{
	uint64_t *tried = arg;
	uint64_t root, hash;
	int r = row_key_parse_2u64(key, key_bytes, ROW_CONDEMNED, &root, &hash);

	(void)value;
	(void)value_bytes;
	if (r == 0)
		*tried = max_u64(*tried, root - 1);
	return r;
}

static int load_tried(struct pool *p, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, p->root_number + 1, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);
	int r;

	p->root_tried = max_u64(p->root_tried, p->root_number); /* family_load() */
	r = meta_iterate(p->meta, META_NAMES, &from, &until, see_condemned, &p->root_tried, e);
	return r < 0 ? err_wrap(e, r, "condemned objects") : 0;
}

int upload_load_state(struct pool *p, struct err *e)
{
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	struct root_row row;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = root_row_decode(value.data, value.len_bytes, &row, e);
	buf_done(&value);
	if (r < 0 && r != -ENOENT)
		return err_wrap(e, r, "root row");
	if (r == 0) {
		p->root_number = row.number;
		p->root_epoch = row.epoch;
	}
	return load_tried(p, e);
}

static bool any_is_stuck(struct pool *p)
{
	struct stream *s, *next;

	GUARD(&p->objects_lock);
	HASH_ITER (hh, p->streams, s, next)
		if (__atomic_load_n(&s->stuck, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

/* All that was written so far is in SCOs that take no more. */
static int fill_all_scos(struct pool *p, struct err *e)
{
	struct stream **list;
	size_t count;
	int r = pool_streams(p, &list, &count);

	if (r < 0)
		return err_because(e, r, "upload");
	for (size_t i = 0; i < count; i++)
		stream_retire_sco(list[i]);
	free(list);
	r = pool_flush_streams(p, e);
	/* The others' data need not wait for the next start. */
	return r < 0 && any_is_stuck(p) ? 0 : r;
}

/* SCOs made in advance for streams that nobody wrote to since the last round. */
static int give_back_spares(struct pool *p, struct err *e)
{
	struct stream **list;
	size_t count;
	int r = pool_streams(p, &list, &count);

	if (r < 0)
		return err_because(e, r, "upload");
	for (size_t i = 0; i < count; i++) {
		lsn_t last = stream_last_lsn(list[i]);

		if (last == list[i]->round_lsn)
			stream_give_space(list[i]);
		list[i]->round_lsn = last;
	}
	free(list);
	return 0;
}

/* Bring to the backend what there is; nothing waits for it. */
static int bring_all(struct pool *p, struct err *e)
{
	int r;

	pool_recount(p);
	r = give_back_spares(p, e);
	if (r == 0)
		r = fill_all_scos(p, e);
	if (r == 0)
		r = pool_seal(p, e);
	pool_recount(p); /* an index is dirty, too: what is put now takes itself off */
	if (r == 0)
		r = pool_open_backend(p, e);
	if (r == 0)
		r = upload_check_owner(p, e);
	return r == 0 && !MUTANT(MUTANT_ROOT_BEFORE_SCO) ? upload_scos(p, e) : r;
}

/*
 * Settle what the root is to show. The view of the rows comes first: what is sealed behind it holds all
 * data that was written before the names that it shows. Seal and checkpoint lock held.
 */
static int cut_locked(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	int r = pool_checkpoint_locked(p, e);

	if (r < 0 || (p->orphans_swept && p->root_sequence == meta_sequence(p->meta)))
		return r;
	r = root_begin(b, e);
	if (r == 0)
		r = fill_all_scos(p, e);
	if (r == 0)
		r = pool_seal_own_locked(p, e);
	return r == 0 ? root_cut(b, e) : r;
}

static int cut(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	int r;

	GUARD(&p->seal_lock);
	GUARD(&p->checkpoint_lock);
	r = cut_locked(b, e);
	return r;
}

/* The root is on the backend: what it makes needless goes. */
static int clean_up(struct pool *p, struct err *e)
{
	bool swept, repacked;
	int r = orphans_bury_condemned(p, e);

	if (r == 0 && !p->orphans_swept) {
		r = orphans_sweep(p, &swept, e);
		p->orphans_swept = r == 0 && swept;
	}
	if (r == 0)
		r = packs_repack(p, &repacked, e);
	if (r == 0 && repacked)
		p->idle_roots = 0; /* two more let the old ones go */
	return r;
}

/* Nothing changed since the last root, and what it and the one before condemned is gone. */
static bool is_needless(struct root_builder *b)
{
	struct pool *p = b->pool;

	if (b->changed || !p->orphans_swept) {
		p->idle_roots = 0;
		return false;
	}
	if (++p->idle_roots <= IDLE_ROOTS)
		return false;
	p->root_sequence = b->sequence;
	return true;
}

/* No request waits for this, nor does a checkpoint. */
static int commit(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	int r = MUTANT(MUTANT_ROOT_BEFORE_SCO) ? 0 : root_put_scos(b, e);

	if (r == 0)
		r = upload_check_owner(p, e);
	if (r == 0)
		r = root_put_parts(b, e);
	if (r < 0)
		return r;
	if (is_needless(b)) {
		evict_note_root(b);
		return 0;
	}
	r = root_put(b, e);
	if (r == 0) {
		GUARD(&p->checkpoint_lock);
		r = root_commit(b, e);
	}
	if (r < 0)
		return r;
	evict_note_root(b);
	return clean_up(p, e);
}

int upload_round(struct pool *p, struct err *e)
{
	struct root_builder b = { .pool = p };
	int r;

	GUARD(&p->upload_lock);
	r = bring_all(p, e);
	if (r < 0)
		return r;
	r = cut(&b, e);
	if (r == 0 && b.is_cut)
		r = commit(&b, e);
	root_end(&b);
	if (r == 0 && MUTANT(MUTANT_ROOT_BEFORE_SCO))
		r = upload_scos(p, e);
	return r;
}

static bool is_cancelled(struct pool *p)
{
	return __atomic_load_n(&p->uploads_cancelled, __ATOMIC_SEQ_CST);
}

void pool_cancel_uploads(struct pool *p)
{
	struct backend *b;

	__atomic_store_n(&p->uploads_cancelled, true, __ATOMIC_SEQ_CST);
	b = __atomic_load_n(&p->backend, __ATOMIC_SEQ_CST); /* else pool_open_backend() sees it */
	if (b)
		backend_refuse_calls(b, true);
}

bool pool_is_tight(struct pool *p)
{
	return !flash_has_room(p->flash, (uint64_t)p->world.sco_slots * CLUSTER_BYTES);
}

/*
 * A process that dies within seconds leaves what it has put, for no root names it, and the next one puts
 * it again. Where one follows the other they wait, but not for ever.
 */
static uint64_t settle_ns(struct pool *p)
{
	bool first = !p->upload_begun;

	p->upload_begun = true;
	/* Whoever asked for a root may make the first one just now. */
	if (!first || !p->after_kill ||
	    p->epoch - __atomic_load_n(&p->root_epoch, __ATOMIC_RELAXED) > STARTS_WITHOUT_ROOT)
		return 0;
	return min_u64(p->options.upload_settle_ns, pool_option(p, upload_interval_ns));
}

uint64_t uploader_step(void *arg)
{
	struct pool *p = arg;
	uint64_t pause_ns = settle_ns(p);
	struct err e = { 0 };
	int r;

	if (pause_ns)
		return pause_ns;
	if (__atomic_load_n(&p->fenced, __ATOMIC_RELAXED) || is_cancelled(p))
		return WAIT_FOREVER;
	r = upload_round(p, &e);
	if (r == 0) {
		if (__atomic_exchange_n(&p->backend_failed_ns, 0, __ATOMIC_RELAXED))
			log_info("backend: answers again: url='%s'", p->options.backend_url);
		p->upload_retry_ns = 0;
		/* What is condemned goes with the roots to come, and writers wait for its room. */
		return pool_is_tight(p) ?
			       min_u64(UPLOAD_TIGHT_NS, pool_option(p, upload_interval_ns)) :
			       pool_option(p, upload_interval_ns);
	}
	if (__atomic_load_n(&p->fenced, __ATOMIC_RELAXED) || is_cancelled(p))
		return WAIT_FOREVER;
	if (!__atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED)) {
		__atomic_store_n(&p->backend_failed_ns, env_now_real_ns(p->env), __ATOMIC_RELAXED);
		log_warning("backend: upload failed, trying again for ever: %s", e.message);
	}
	p->upload_retry_ns = p->upload_retry_ns ?
				     min_u64(2 * p->upload_retry_ns, UPLOAD_RETRY_MAX_NS) :
				     UPLOAD_RETRY_FIRST_NS;
	return min_u64(p->upload_retry_ns, pool_option(p, upload_interval_ns));
}
