#include "volume/packs.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

/* --- the table --------------------------------------------------------------------------------- */

struct pack_id {
	uint64_t epoch, number;
};

void packs_init(struct packs *packs)
{
	mutex_init(&packs->lock, 0);
}

static struct pack *find_pack(struct packs *packs, uint64_t epoch, uint64_t number)
{
	struct pack_id id = { epoch, number };
	struct pack *pack;

	HASH_FIND(hh, packs->by_id, &id, sizeof(id), pack);
	return pack;
}

static struct pack *make_pack(struct packs *packs, uint64_t epoch, uint64_t number)
{
	struct pack *pack = calloc(1, sizeof(*pack));

	if (!pack)
		return NULL;
	pack->epoch = epoch;
	pack->number = number;
	HASH_ADD(hh, packs->by_id, epoch, sizeof(struct pack_id), pack);
	if (!HASH_TOOK(pack))
		free(TAKE_PTR(pack));
	return pack;
}

static void forget_member(struct packs *packs, struct packed *m)
{
	HASH_DEL(packs->by_name, m);
	DL_DELETE(m->pack->members, m);
	m->pack->live_count--;
	m->pack->live_bytes -= m->len_bytes;
	free(m);
}

static void forget_pack(struct packs *packs, struct pack *pack)
{
	while (pack->members)
		forget_member(packs, pack->members);
	HASH_DEL(packs->by_id, pack);
	free(pack);
}

static struct packed *find_member(struct packs *packs, const char *name)
{
	struct packed *m;

	HASH_FIND_STR(packs->by_name, name, m);
	return m;
}

/* One of the same name in another pack was moved: the new place counts. */
static int add_member(struct packs *packs, struct pack *pack, uint32_t index,
		      const struct pack_member *from)
{
	size_t len = strlen(from->object.name);
	struct packed *m = malloc(sizeof(*m) + len + 1), *old;

	if (!m)
		return -ENOMEM;
	*m = (struct packed){ .pack = pack,
			      .index = index,
			      .crc = from->object.crc,
			      .offset_bytes = from->offset_bytes,
			      .len_bytes = from->object.len_bytes };
	memcpy(m->name, from->object.name, len + 1);
	old = find_member(packs, m->name);
	HASH_ADD_KEYPTR(hh, packs->by_name, m->name, len, m);
	if (!HASH_TOOK(m)) {
		free(m);
		return -ENOMEM;
	}
	if (old)
		forget_member(packs, old);
	DL_APPEND(pack->members, m);
	pack->live_count++;
	pack->live_bytes += m->len_bytes;
	return 0;
}

void packs_done(struct packs *packs)
{
	struct pack *pack, *next;

	HASH_ITER (hh, packs->by_id, pack, next)
		forget_pack(packs, pack);
	mutex_done(&packs->lock);
}

struct pack_load {
	struct packs *packs;
	struct err *e;
};

static int load_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct pack_load *l = arg;
	struct pack_member member;
	uint64_t epoch, number;
	struct pack *pack;
	uint32_t index;
	int r = pack_key_parse(key, key_bytes, &epoch, &number, &index);

	if (r < 0)
		return err_set(l->e, r, "row of a pack: no such key");
	pack = find_pack(l->packs, epoch, number);
	if (index == 0) {
		pack = make_pack(l->packs, epoch, number);
		return pack ? pack_row_decode(value, value_bytes, &pack->row, l->e) :
			      err_set(l->e, -ENOMEM, "packs");
	}
	r = pack_member_decode(value, value_bytes, &member, l->e);
	if (r < 0)
		return r;
	if (!pack || index > pack->row.member_count)
		return err_set(l->e, -EUCLEAN, "member of a pack that has no row");
	r = add_member(l->packs, pack, index, &member);
	return r < 0 ? err_set(l->e, r, "packs") : 0;
}

int packs_load(struct pool *p, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PACK, 0, 0);
	struct row_key until = row_key_2u64(ROW_PACK, UINT64_MAX, UINT64_MAX);
	struct pack_load l = { &p->packs, e };
	int r;

	GUARD(&p->packs.lock);
	if (p->packs.by_id) /* a restore put them there, with their rows */
		return 0;
	r = meta_iterate(p->meta, META_NAMES, &from, &until, load_row, &l, e);
	return r < 0 ? err_wrap(e, r, "packs") : 0;
}

/* --- by name ----------------------------------------------------------------------------------- */

bool packs_find(struct pool *p, const char *name, char ret_pack[OBJECT_NAME_MAX + 1],
		uint64_t *ret_offset_bytes, uint64_t *ret_len_bytes)
{
	struct packed *m;

	GUARD(&p->packs.lock);
	m = find_member(&p->packs, name);
	if (!m)
		return false;
	object_name_pack(ret_pack, m->pack->number, m->pack->epoch);
	*ret_offset_bytes = m->offset_bytes;
	*ret_len_bytes = m->len_bytes;
	return true;
}

int packs_get(struct pool *p, const char *name, uint64_t offset_bytes, void *dst, size_t len_bytes,
	      struct err *e)
{
	char pack[OBJECT_NAME_MAX + 1];
	uint64_t at, len;

	if (!packs_find(p, name, pack, &at, &len))
		return backend_get(p->backend, name, offset_bytes, dst, len_bytes, e);
	if (offset_bytes > len || len_bytes > len - offset_bytes)
		return err_set(e, -EUCLEAN, "'%s' ends at %" PRIu64, name, len);
	return backend_get(p->backend, pack, at + offset_bytes, dst, len_bytes, e);
}

int packs_get_verified(struct pool *p, const char *name, void *dst, size_t len_bytes, uint32_t crc,
		       struct err *e)
{
	char pack[OBJECT_NAME_MAX + 1];
	uint64_t at, len;

	if (!packs_find(p, name, pack, &at, &len))
		return backend_get_verified(p->backend, name, 0, dst, len_bytes, crc, e);
	if (len_bytes > len)
		return err_set(e, -EUCLEAN, "'%s' ends at %" PRIu64, name, len);
	return backend_get_verified(p->backend, pack, at, dst, len_bytes, crc, e);
}

int packs_head(struct pool *p, struct backend *backend, const char *name,
	       struct backend_object *ret_object, struct err *e)
{
	char pack[OBJECT_NAME_MAX + 1];
	uint64_t at, len;
	int r;

	if (!packs_find(p, name, pack, &at, &len))
		return backend_head(backend, name, ret_object, e);
	r = backend_head(backend, pack, ret_object, e);
	if (r == 0) /* of one that was cut off less is left */
		ret_object->len_bytes =
			at < ret_object->len_bytes ? min_u64(len, ret_object->len_bytes - at) : 0;
	return r;
}

bool packs_each_member(struct pool *p, const char *pack_name,
		       int (*fn)(void *arg, const char *name), void *arg, int *ret_result)
{
	struct object_name n;
	struct packed *m;
	struct pack *pack;

	*ret_result = 0;
	if (object_name_parse(pack_name, &n) < 0 || n.kind != NAME_PACK)
		return false;
	GUARD(&p->packs.lock);
	pack = find_pack(&p->packs, n.epoch, n.number);
	if (!pack)
		return false;
	DL_FOREACH (pack->members, m) {
		*ret_result = fn(arg, m->name);
		if (*ret_result)
			break;
	}
	return true;
}

/* --- deletion ---------------------------------------------------------------------------------- */

struct deletion {
	struct pool *pool;
	const char *const *names;
	size_t count;
	bool *gone;
	struct meta_batch *rows;
	const char **alone; /* objects by themselves, then packs that are over */
	size_t *alone_of;   /* index in names */
	size_t alone_count;
	bool *alone_gone;
	char (*packs)[OBJECT_NAME_MAX + 1];
	struct pack **over;
	size_t over_count;
};

static bool is_over(const struct deletion *d, const struct pack *pack)
{
	for (size_t i = 0; i < d->over_count; i++)
		if (d->over[i] == pack)
			return true;
	return false;
}

/* A name may be there twice. */
static void sort_out_one(struct deletion *d, size_t i)
{
	struct packed *m = find_member(&d->pool->packs, d->names[i]);

	if (!m) {
		d->alone_of[d->alone_count] = i;
		d->alone[d->alone_count++] = d->names[i];
		return;
	}
	if (m->leaving)
		return;
	m->leaving = true;
	m->pack->live_count--;
	if ((m->pack->live_count == 0 || MUTANT(MUTANT_PACK_GOES_EARLY)) && !is_over(d, m->pack))
		d->over[d->over_count++] = m->pack;
}

/* Which are objects by themselves, and which packs have no member left without the others. */
static void sort_out_locked(struct deletion *d)
{
	for (size_t i = 0; i < d->count; i++)
		sort_out_one(d, i);
	for (size_t i = 0; i < d->count; i++) {
		struct packed *m = find_member(&d->pool->packs, d->names[i]);

		if (m && m->leaving) {
			m->leaving = false;
			m->pack->live_count++;
		}
	}
	for (size_t i = 0; i < d->over_count; i++) {
		object_name_pack(d->packs[i], d->over[i]->number, d->over[i]->epoch);
		d->alone[d->alone_count + i] = d->packs[i];
	}
}

static bool pack_is_gone(const struct deletion *d, const struct pack *pack)
{
	for (size_t i = 0; i < d->over_count; i++)
		if (d->over[i] == pack)
			return d->alone_gone[d->alone_count + i];
	return false;
}

/* Rows of members that go: all of packs that are over only once these are gone. */
static int rows_that_go_locked(struct deletion *d)
{
	struct meta *meta = d->pool->meta;
	int r = 0;

	for (size_t i = 0; i < d->count && r == 0; i++) {
		struct packed *m = find_member(&d->pool->packs, d->names[i]);
		struct row_key key;

		if (!m || (is_over(d, m->pack) && !pack_is_gone(d, m->pack)))
			continue;
		key = pack_key(m->pack->epoch, m->pack->number, m->index);
		r = meta_batch_delete(meta, d->rows, &key);
		d->gone[i] = true;
	}
	for (size_t i = 0; i < d->over_count && r == 0; i++) {
		struct row_key key = pack_key(d->over[i]->epoch, d->over[i]->number, 0);

		if (d->alone_gone[d->alone_count + i])
			r = meta_batch_delete(meta, d->rows, &key);
	}
	return r;
}

static void forget_gone_locked(struct deletion *d)
{
	struct packs *packs = &d->pool->packs;

	for (size_t i = 0; i < d->count; i++) {
		struct packed *m = d->gone[i] ? find_member(packs, d->names[i]) : NULL;

		if (m)
			forget_member(packs, m);
	}
	for (size_t i = 0; i < d->over_count; i++)
		if (d->alone_gone[d->alone_count + i])
			forget_pack(packs, d->over[i]);
}

static int delete_sorted(struct deletion *d, struct err *e)
{
	struct pool *p = d->pool;
	int deleted, r;

	mutex_lock(&p->packs.lock);
	sort_out_locked(d);
	mutex_unlock(&p->packs.lock);
	/* First the object, then the rows that remember it. */
	deleted = backend_delete_many(p->backend, d->alone, d->alone_count + d->over_count,
				      d->alone_gone, e);
	for (size_t i = 0; i < d->alone_count; i++)
		d->gone[d->alone_of[i]] = d->alone_gone[i];
	mutex_lock(&p->packs.lock);
	r = rows_that_go_locked(d);
	mutex_unlock(&p->packs.lock);
	if (r == 0)
		r = meta_commit(p->meta, d->rows, 0, deleted < 0 ? NULL : e);
	if (r == 0) {
		GUARD(&p->packs.lock);
		forget_gone_locked(d);
	} else {
		memset(d->gone, 0, d->count * sizeof(*d->gone));
	}
	return deleted < 0 ? deleted : r;
}

int packs_delete_many(struct pool *p, const char *const *names, size_t count, bool *ret_gone,
		      struct err *e)
{
	struct deletion d = { .pool = p, .names = names, .count = count };
	int r;

	if (!p->packs.by_id)
		return backend_delete_many(p->backend, names, count, ret_gone, e);
	d.gone = calloc(count + 1, sizeof(*d.gone));
	d.alone = calloc(2 * count + 1, sizeof(*d.alone));
	d.alone_of = calloc(count + 1, sizeof(*d.alone_of));
	d.alone_gone = calloc(2 * count + 1, sizeof(*d.alone_gone));
	d.packs = calloc(count + 1, sizeof(*d.packs));
	d.over = calloc(count + 1, sizeof(struct pack *));
	d.rows = meta_batch_new(p->meta, META_NAMES);
	r = d.gone && d.alone && d.alone_of && d.alone_gone && d.packs && d.over && d.rows ?
		    delete_sorted(&d, e) :
		    err_set(e, -ENOMEM, "deleting objects");
	for (size_t i = 0; ret_gone && i < count; i++)
		ret_gone[i] = d.gone && d.gone[i];
	free(d.gone);
	free(d.alone);
	free(d.alone_of);
	free(d.alone_gone);
	free(d.packs);
	free(d.over);
	if (d.rows)
		meta_batch_free(p->meta, d.rows);
	return r;
}

void packs_forget(struct pool *p, struct pack *const *packs, size_t count)
{
	GUARD(&p->packs.lock);
	for (size_t i = 0; i < count; i++)
		forget_pack(&p->packs, packs[i]);
}

/* --- roots ------------------------------------------------------------------------------------- */

static int by_pack_name(const void *a, const void *b)
{
	const struct root_pack *x = a, *y = b;

	return strcmp(x->object.name, y->object.name);
}

int packs_list(struct pool *p, struct root *root, struct err *e)
{
	struct root_pack *more;
	struct pack *pack, *next;
	size_t count;

	GUARD(&p->packs.lock);
	count = HASH_COUNT(p->packs.by_id);
	more = reallocarray(root->packs, root->pack_count + count + 1, sizeof(*more));
	if (!more)
		return err_set(e, -ENOMEM, "packs");
	root->packs = more;
	HASH_ITER (hh, p->packs.by_id, pack, next) {
		struct root_pack *rp = &root->packs[root->pack_count++];

		*rp = (struct root_pack){ .object.len_bytes = pack->row.len_bytes,
					  .directory_bytes = pack->row.directory_bytes };
		object_name_pack(rp->object.name, pack->number, pack->epoch);
	}
	if (root->pack_count) {
		qsort(root->packs, root->pack_count, sizeof(*root->packs), by_pack_name);
		root->features.incompat |= FEATURE_PACKS;
	}
	return 0;
}

static int read_directory(struct pool *p, const struct root_pack *rp,
			  struct pack_directory *ret_directory, struct err *e)
{
	uint64_t end_bytes = rp->object.len_bytes - rp->directory_bytes;
	struct object_name n;
	uint8_t *bytes;
	int r;

	if (object_name_parse(rp->object.name, &n) < 0 || n.kind != NAME_PACK)
		return err_set(e, -EUCLEAN, "it is no name of a pack");
	bytes = malloc((size_t)rp->directory_bytes + 1);
	if (!bytes)
		return err_set(e, -ENOMEM, "directory of a pack");
	r = backend_get(p->backend, rp->object.name, end_bytes, bytes, rp->directory_bytes, e);
	if (r == 0)
		r = pack_directory_decode(bytes, rp->directory_bytes, end_bytes, ret_directory, e);
	free(bytes);
	if (r == 0 && (memcmp(&ret_directory->pool, &p->uuid, sizeof(p->uuid)) != 0 ||
		       ret_directory->epoch != n.epoch || ret_directory->number != n.number)) {
		pack_directory_done(ret_directory);
		r = err_set(e, -EUCLEAN, "it is another one than its name says");
	}
	return r;
}

static int restore_pack(struct pool *p, const struct root_pack *rp, struct meta_batch *names,
			struct err *e)
{
	struct pack_maker m = { .pool = p };
	int r = read_directory(p, rp, &m.directory, e);

	if (r == -ENOENT || r == -EUCLEAN || r == -EBADMSG) {
		log_warning("volume: restore: pack '%s' cannot be read: %s", rp->object.name,
			    e ? e->message : "");
		return 0;
	}
	if (r < 0)
		return r;
	m.row = (struct pack_row){ .len_bytes = rp->object.len_bytes,
				   .directory_bytes = rp->directory_bytes,
				   .member_count = m.directory.member_count };
	r = pack_rows(&m, names, e);
	if (r == 0)
		pack_adopt(&m);
	pack_directory_done(&m.directory);
	return r;
}

int packs_restore(struct pool *p, const struct root *root, struct err *e)
{
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? 0 : err_set(e, -ENOMEM, "packs");

	for (uint32_t i = 0; i < root->pack_count && r == 0; i++)
		r = restore_pack(p, &root->packs[i], names, e);
	if (r == 0)
		r = meta_commit(p->meta, names, 0, e);
	if (names)
		meta_batch_free(p->meta, names);
	return r < 0 ? err_wrap(e, r, "packs") : 0;
}

void pack_adopt(const struct pack_maker *m)
{
	const struct pack_directory *d = &m->directory;
	struct packs *packs = &m->pool->packs;
	struct pack *pack;

	GUARD(&packs->lock);
	while (!(pack = make_pack(packs, d->epoch, d->number)))
		await_memory(&packs->lock);
	pack->row = m->row;
	for (uint32_t i = 0; i < d->member_count; i++)
		while (add_member(packs, pack, i + 1, &d->members[i]) < 0 &&
		       !MUTANT(MUTANT_PACK_HALF_KNOWN))
			await_memory(&packs->lock); /* others may look at a part of it */
}
