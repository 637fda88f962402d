/* pack_make - packs on their way to the backend: new ones, and what is left of old ones. */
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/packs.h"
#include "volume/pool_life.h"
#include "volume/upload.h"

#include <stdlib.h>
#include <string.h>

/* A member is less than this part of a pack. */
#define SMALL_PART 4u
/* A pack of which less lives is put again, what lives of it; and packs that were put small are merged
 * once there are so many. */
#define LIVE_PART     2u
#define SMALL_PACKS   16u
#define DIRECTORY_MAX ((size_t)1 << 20)

bool packs_wanted(struct pool *p)
{
	switch ((enum pool_packs)p->options.packs) {
	case PACKS_ALWAYS:
		return true;
	case PACKS_NEVER:
		return false;
	case PACKS_AUTO:
	default:
		return !(backend_caps(p->backend) & BACKEND_CAP_LINK);
	}
}

uint64_t packs_bytes(const struct pool *p)
{
	return (uint64_t)p->world.sco_slots * CLUSTER_BYTES;
}

bool packs_is_small(struct pool *p, uint64_t len_bytes)
{
	return packs_wanted(p) && len_bytes < packs_bytes(p) / SMALL_PART;
}

int packs_enable(struct pool *p, struct err *e)
{
	int r;

	if (p->packs.enabled)
		return 0;
	r = pool_add_feature(p, FEATURE_PACKS, e);
	p->packs.enabled = r == 0;
	return r < 0 ? err_wrap(e, r, "pool row") : 0;
}

/* --- filling one ------------------------------------------------------------------------------- */

void pack_begin(struct pack_maker *m, struct pool *p)
{
	*m = (struct pack_maker){ .pool = p };
	m->directory.pool = p->uuid;
	m->directory.epoch = p->epoch;
	buf_init(&m->bytes, (size_t)packs_bytes(p) + DIRECTORY_MAX);
}

uint8_t *pack_add(struct pack_maker *m, const char *name, uint64_t len_bytes)
{
	struct pack_directory *d = &m->directory;
	struct pack_member *more;
	size_t at = m->bytes.len_bytes;
	uint8_t *to;

	if (d->member_count == m->room) {
		size_t room = m->room ? 2 * m->room : 16;

		more = reallocarray(d->members, room, sizeof(*more));
		if (!more)
			return NULL;
		d->members = more;
		m->room = room;
	}
	to = buf_extend(&m->bytes, (size_t)len_bytes);
	if (!to)
		return NULL;
	d->members[d->member_count] =
		(struct pack_member){ .offset_bytes = at, .object.len_bytes = len_bytes };
	memcpy(d->members[d->member_count++].object.name, name, strlen(name) + 1);
	return to;
}

void pack_added(struct pack_maker *m)
{
	struct pack_member *last = &m->directory.members[m->directory.member_count - 1];

	last->object.crc =
		crc32c(0, m->bytes.data + last->offset_bytes, (size_t)last->object.len_bytes);
}

void pack_drop_last(struct pack_maker *m)
{
	struct pack_directory *d = &m->directory;

	m->bytes.len_bytes = (size_t)d->members[--d->member_count].offset_bytes;
}

bool pack_is_full(const struct pack_maker *m, uint64_t len_bytes)
{
	return m->directory.member_count == PACK_MEMBERS_MAX ||
	       m->bytes.len_bytes + len_bytes > packs_bytes(m->pool);
}

void pack_name(struct pack_maker *m)
{
	struct packs *packs = &m->pool->packs;

	mutex_lock(&packs->lock);
	m->directory.number = ++packs->last_number;
	mutex_unlock(&packs->lock);
	object_name_pack(m->name, m->directory.number, m->directory.epoch);
}

int pack_put(struct pack_maker *m, struct err *e)
{
	struct named_object object;
	uint64_t end_bytes = m->bytes.len_bytes;
	int r = packs_enable(m->pool, e);

	if (r < 0)
		return r;
	r = pack_directory_encode(&m->directory, &m->bytes);
	if (r < 0)
		return err_because(e, r, "directory of a pack");
	m->row = (struct pack_row){ .len_bytes = m->bytes.len_bytes,
				    .directory_bytes = (uint32_t)(m->bytes.len_bytes - end_bytes),
				    .member_count = m->directory.member_count };
	memcpy(object.name, m->name, sizeof(object.name));
	r = upload_put_buf(m->pool, &m->bytes, &object, e);
	m->put = r == 0;
	buf_done(&m->bytes);
	return r;
}

int pack_rows(const struct pack_maker *m, struct meta_batch *names, struct err *e)
{
	const struct pack_directory *d = &m->directory;
	struct meta *meta = m->pool->meta;
	struct row_key key = pack_key(d->epoch, d->number, 0);
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = pack_row_encode(&m->row, &value);
	if (r == 0)
		r = meta_batch_put(meta, names, &key, &value);
	for (uint32_t i = 0; i < d->member_count && r == 0; i++) {
		key = pack_key(d->epoch, d->number, i + 1);
		buf_clear(&value);
		r = pack_member_encode(&d->members[i], &value);
		if (r == 0)
			r = meta_batch_put(meta, names, &key, &value);
	}
	buf_done(&value);
	return r < 0 ? err_because(e, r, "rows of a pack") : 0;
}

void pack_done(struct pack_maker *m)
{
	buf_done(&m->bytes);
	pack_directory_done(&m->directory);
}

/* --- what is left of old ones ------------------------------------------------------------------ */

/* The packs to empty, and copies of what their members are: the table may not be locked meanwhile. */
struct repack {
	struct pack_maker maker;
	struct pack **old; /* nobody else takes one out: upload lock */
	size_t old_count;
};

/* Of its members' bytes: of one with few and small ones the directory is the larger part for ever. */
static bool is_mostly_dead(const struct pack *pack)
{
	uint64_t members_bytes = pack->row.len_bytes - pack->row.directory_bytes;

	return pack->live_count == 0 || pack->live_bytes < members_bytes / LIVE_PART;
}

static bool is_tiny(const struct pool *p, const struct pack *pack)
{
	return pack->live_bytes < packs_bytes(p) / SMALL_PART;
}

/* All that fit in one. */
static void choose_locked(struct pool *p, struct repack *rp)
{
	struct pack *pack, *next;
	uint64_t sum_bytes = 0, sum_count = 0;
	size_t tiny = 0;

	HASH_ITER (hh, p->packs.by_id, pack, next)
		tiny += is_tiny(p, pack);
	HASH_ITER (hh, p->packs.by_id, pack, next) {
		if (!is_mostly_dead(pack) && !(tiny >= SMALL_PACKS && is_tiny(p, pack)))
			continue;
		if (sum_bytes + pack->live_bytes > packs_bytes(p) ||
		    sum_count + pack->live_count > PACK_MEMBERS_MAX)
			continue;
		sum_bytes += pack->live_bytes;
		sum_count += pack->live_count;
		rp->old[rp->old_count++] = pack;
	}
}

static int copy_members(struct repack *rp, const struct pack *pack, struct err *e)
{
	struct pool *p = rp->maker.pool;
	char name[OBJECT_NAME_MAX + 1];
	int r = 0;

	object_name_pack(name, pack->number, pack->epoch);
	for (const struct packed *m = pack->members; m && r == 0; m = m->next) {
		uint8_t *to = pack_add(&rp->maker, m->name, m->len_bytes);

		r = to ? backend_get_verified(p->backend, name, m->offset_bytes, to,
					      (size_t)m->len_bytes, m->crc, e) :
			 err_set(e, -ENOMEM, "a pack");
		if (r == 0)
			pack_added(&rp->maker);
	}
	return r < 0 ? err_wrap(e, r, "pack '%s'", name) : 0;
}

/* Rows of the old ones go, and their objects with the second root behind this. */
static int give_up_old(struct repack *rp, struct meta_batch *names)
{
	struct pool *p = rp->maker.pool;
	uint64_t root = MUTANT(MUTANT_PACK_MOVED_EARLY) ? p->root_before : root_next(p);
	char name[OBJECT_NAME_MAX + 1];
	int r = 0;

	for (size_t i = 0; i < rp->old_count && r == 0; i++) {
		const struct pack *old = rp->old[i];
		struct row_key key = pack_key(old->epoch, old->number, 0);

		r = meta_batch_delete(p->meta, names, &key);
		for (const struct packed *m = old->members; m && r == 0; m = m->next) {
			key = pack_key(old->epoch, old->number, m->index);
			r = meta_batch_delete(p->meta, names, &key);
		}
		object_name_pack(name, old->number, old->epoch);
		if (r == 0)
			r = upload_condemn_name(p, names, root, name);
	}
	return r;
}

/*
 * It may be on the store, and nobody is to know what is in it. Its rows may be there after a crash in
 * spite of the error of their commit: they go with the row that condemns it, else its members would be
 * looked for in a pack that is gone.
 */
static void condemn_attempt(struct pack_maker *m)
{
	struct pool *p = m->pool;
	const struct pack_directory *d = &m->directory;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? upload_condemn_name(p, names, root_next(p), m->name) : -ENOMEM;

	for (uint32_t i = 0; m->put && i <= d->member_count && r == 0; i++) {
		struct row_key key = pack_key(d->epoch, d->number, i);

		r = meta_batch_delete(p->meta, names, &key);
	}
	/* Not synced: behind a power cut the name is of an older epoch, and swept. */
	if (r == 0)
		r = meta_commit(p->meta, names, 0, NULL);
	if (r < 0)
		log_warning("backend: a pack stays until the next start: name='%s'", m->name);
	if (names)
		meta_batch_free(p->meta, names);
}

static int commit_repack(struct repack *rp, struct err *e)
{
	struct pool *p = rp->maker.pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? 0 : err_set(e, -ENOMEM, "a pack");

	if (r == 0 && rp->maker.put)
		r = pack_rows(&rp->maker, names, e);
	if (r == 0)
		r = give_up_old(rp, names);
	if (r == 0)
		r = meta_commit(p->meta, names, META_SYNC, e);
	if (r == 0 && rp->maker.put)
		pack_adopt(&rp->maker);
	if (names)
		meta_batch_free(p->meta, names);
	if (r == 0)
		packs_forget(p, rp->old, rp->old_count);
	return r;
}

static int repack(struct repack *rp, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < rp->old_count && r == 0; i++)
		r = copy_members(rp, rp->old[i], e);
	if (r == 0 && rp->maker.directory.member_count) {
		pack_name(&rp->maker);
		r = pack_put(&rp->maker, e);
		if (r < 0) {
			condemn_attempt(&rp->maker);
			rp->maker.pool->idle_roots = 0; /* two more let this go */
		}
	}
	return r == 0 ? commit_repack(rp, e) : r;
}

int packs_repack(struct pool *p, bool *ret_done, struct err *e)
{
	struct repack rp = { .old_count = 0 };
	size_t count;
	int r = 0;

	mutex_lock(&p->packs.lock);
	count = HASH_COUNT(p->packs.by_id);
	rp.old = count ? calloc(count, sizeof(struct pack *)) : NULL;
	if (rp.old)
		choose_locked(p, &rp);
	mutex_unlock(&p->packs.lock);
	pack_begin(&rp.maker, p);
	if (rp.old_count)
		r = repack(&rp, e);
	*ret_done = r == 0 && rp.old_count;
	if (*ret_done)
		counter_add(&p->metrics.packs_repacked, rp.old_count);
	pack_done(&rp.maker);
	free(rp.old);
	return r < 0 ? err_wrap(e, r, "putting what is left of packs again") : 0;
}

/* --- SCOs -------------------------------------------------------------------------------------- */

static int commit_rows(const struct pack_maker *m, struct err *e)
{
	struct pool *p = m->pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? pack_rows(m, names, e) : err_set(e, -ENOMEM, "rows of a pack");

	/* Before any row of a SCO says that it is stored. */
	if (r == 0)
		r = meta_commit(p->meta, names, META_SYNC, e);
	if (names)
		meta_batch_free(p->meta, names);
	if (r == 0)
		pack_adopt(m);
	return r;
}

static int add_sco(struct pack_maker *m, struct sco *s, struct err *e)
{
	struct pool *p = m->pool;
	char name[OBJECT_NAME_MAX + 1];
	uint8_t *to;
	int r;

	object_name_sco(name, s->stream, s->number, s->version, p->epoch);
	to = pack_add(m, name, s->file_bytes);
	if (!to)
		return err_set(e, -ENOMEM, "a pack");
	r = upload_read_sco(p, s, to, e);
	if (r < 0) {
		pack_drop_last(m);
		return err_wrap(e, r, "uploading '%s'", name);
	}
	pack_added(m);
	return 0;
}

int upload_pack(struct pool *p, struct sco *const *scos, size_t count, bool claimed, struct err *e)
{
	struct sco **own = calloc(count + 1, sizeof(struct sco *));
	struct pack_maker m;
	size_t own_count = 0;
	int r = 0;

	if (!own) {
		for (size_t i = 0; i < count && claimed; i++)
			upload_unclaim(p, scos[i]);
		return err_set(e, -ENOMEM, "a pack");
	}
	pack_begin(&m, p);
	for (size_t i = 0; i < count; i++) {
		if (!claimed && !upload_claim(p, scos[i]))
			continue;
		own[own_count++] = scos[i];
		if (r == 0)
			r = add_sco(&m, scos[i], e);
	}
	if (r == 0 && own_count) {
		pack_name(&m);
		r = pack_put(&m, e);
		if (r == 0)
			r = commit_rows(&m, e);
		if (r < 0)
			condemn_attempt(&m);
	}
	for (size_t i = 0; i < own_count; i++)
		upload_done(p, own[i], r == 0, false);
	pack_done(&m);
	free(own);
	return r;
}
