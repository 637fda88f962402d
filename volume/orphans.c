/*
 * orphans - deletion on the backend, in two phases, and the search for what got lost on the way.
 *
 * A name is condemned by the root that is the first not to use it (row X of that root). It goes
 * when the root after that is committed: then neither the newest root nor the one before names it.
 * What an attempt put that came to nothing is condemned under the attempt's own number: it may have
 * left a root that is the newest of the store, which stays whole until two roots came after it.
 * A crash between a put and the row that remembers it leaves an object that nobody names. Names
 * carry the epoch that put them: what is of an older epoch and named by nobody is an orphan.
 */
#include "common/log.h"
#include "volume/packs.h"
#include "volume/upload.h"

#include <stdlib.h>
#include <string.h>

#define LIST_PAGE  1000u
#define BURY_NAMES 1000u /* deleted, and forgotten, at a time */

/* --- the condemned ----------------------------------------------------------------------------- */

/* Rows of names that go with one call of the backend. */
struct burial {
	struct row_key rows[BURY_NAMES];
	char names[BURY_NAMES][OBJECT_NAME_MAX + 1];
	const char *list[BURY_NAMES];
	bool gone[BURY_NAMES];
	size_t count;
};

static int take_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct burial *b = arg;
	uint64_t root, hash;
	int r;

	if (b->count == BURY_NAMES)
		return 1;
	r = row_key_parse_2u64(key, key_bytes, ROW_CONDEMNED, &root, &hash);
	if (r == 0)
		r = condemned_row_decode(value, value_bytes, b->names[b->count], NULL);
	if (r < 0)
		return r;
	b->rows[b->count] = row_key_2u64(ROW_CONDEMNED, root, hash);
	b->list[b->count] = b->names[b->count];
	b->count++;
	return 0;
}

/* A row is what remembers that its object is still there: it goes behind it, never before. */
static int forget_gone(struct pool *p, const struct burial *b, struct err *e)
{
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? 0 : err_set(e, -ENOMEM, "condemned objects");

	for (size_t i = 0; i < b->count && r == 0; i++) {
		if (b->gone[i] || MUTANT(MUTANT_CONDEMNED_FORGOTTEN))
			r = meta_batch_delete(p->meta, names, &b->rows[i]);
	}
	if (r == 0)
		r = meta_commit(p->meta, names, 0, e);
	if (names)
		meta_batch_free(p->meta, names);
	return r;
}

/* The rows from *from on, so many as go at a time; *from is moved behind them. 1: there may be more. */
static int bury_some(struct pool *p, struct burial *b, struct row_key *from,
		     const struct row_key *until, struct err *e)
{
	bool more;
	int deleted, r;

	b->count = 0;
	r = meta_iterate(p->meta, META_NAMES, from, until, take_row, b, e);
	if (r < 0 || b->count == 0)
		return r;
	more = r == 1;
	deleted = packs_delete_many(p, b->list, b->count, b->gone, e);
	/* What did go need not be asked for again, whatever became of the others. */
	r = forget_gone(p, b, deleted < 0 ? NULL : e);
	if (deleted < 0 || r < 0)
		return deleted < 0 ? deleted : r;
	*from = b->rows[b->count - 1];
	return more;
}

int orphans_bury_condemned(struct pool *p, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	/* What came after the root before the newest one may still be named by it. */
	uint64_t last = MUTANT(MUTANT_CONDEMNED_EARLY) ? p->root_number : p->root_before;
	struct row_key until = row_key_2u64(ROW_CONDEMNED, last + 1, 0);
	struct burial *b = malloc(sizeof(*b));
	int r = b ? 1 : err_set(e, -ENOMEM, "condemned objects");

	while (r == 1)
		r = bury_some(p, b, &from, &until, e);
	free(b);
	return r < 0 ? err_wrap(e, r, "condemned objects") : 0;
}

static int see_condemned(UNUSED void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
			 UNUSED const uint8_t *value, UNUSED size_t value_bytes)
{
	return 1;
}

bool orphans_any_condemned(struct pool *p)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);

	return meta_iterate(p->meta, META_NAMES, &from, &until, see_condemned, NULL, NULL) == 1;
}

/* --- orphans ----------------------------------------------------------------------------------- */

struct known_name {
	char name[OBJECT_NAME_MAX + 1];
	UT_hash_handle hh;
};

struct sweep {
	struct pool *pool;
	struct known_name *known;
	char after[BACKEND_NAME_BYTES_MAX + 1];
	char (*orphans)[OBJECT_NAME_MAX + 1];
	size_t count, cap;
	uint64_t spared;
};

static int know(struct sweep *s, const char *name)
{
	struct known_name *k, *found;

	HASH_FIND_STR(s->known, name, found);
	if (found || !name[0])
		return 0;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	memcpy(k->name, name, strlen(name) + 1);
	HASH_ADD_STR(s->known, name, k);
	if (HASH_TOOK(k))
		return 0;
	free(k);
	return -ENOMEM;
}

static int know_map(struct sweep *s, const struct named_object *map, struct err *e)
{
	struct map_piece *pieces;
	size_t count;
	int r = root_map_pieces(s->pool, map, &pieces, &count, e);

	if (r < 0)
		return r;
	r = know(s, map->name);
	for (size_t i = 0; i < count && r == 0; i++)
		r = know(s, pieces[i].object.name);
	free(pieces);
	return r;
}

static int know_manifest(struct sweep *s, const struct named_object *o, struct err *e)
{
	struct manifest m = { 0 };
	struct buf bytes;
	uint8_t *to;
	int r;

	r = know(s, o->name);
	buf_init(&bytes, (size_t)1 << 30);
	to = r == 0 ? buf_extend(&bytes, (size_t)o->len_bytes) : NULL;
	r = to ? packs_get_verified(s->pool, o->name, to, (size_t)o->len_bytes, o->crc, e) :
		 -ENOMEM;
	if (r == 0)
		r = manifest_decode(bytes.data, bytes.len_bytes, &m, e);
	if (r == 0)
		r = know_map(s, &m.map, e);
	for (uint32_t i = 0; i < m.sco_count && r == 0; i++) {
		char name[OBJECT_NAME_MAX + 1];

		object_name_sco(name, m.stream, m.scos[i].sco, m.scos[i].version,
				m.scos[i].object_epoch);
		r = know(s, name);
	}
	manifest_done(&m);
	buf_done(&bytes);
	return r;
}

/* Everything that the newest root names. What the one before named besides is condemned. */
static int know_root(struct sweep *s, struct err *e)
{
	struct pool *p = s->pool;
	char name[OBJECT_NAME_MAX + 1];
	struct root root = { 0 };
	int r;

	object_name_root(name, p->root_number, p->root_epoch);
	r = know(s, name);
	if (r == 0)
		r = root_read(p, p->root_epoch, p->root_number, &root, e);
	if (r == 0)
		r = know(s, root.ns.name);
	for (uint32_t i = 0; i < root.stream_count && r == 0; i++)
		r = know_manifest(s, &root.streams[i].manifest, e);
	root_done(&root);
	return r;
}

static int know_condemned(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			  size_t value_bytes)
{
	char name[OBJECT_NAME_MAX + 1];
	int r = condemned_row_decode(value, value_bytes, name, NULL);

	(void)key;
	(void)key_bytes;
	return r < 0 ? r : know(arg, name);
}

/* The epoch in a name: its last part, or 0 for names that carry none. */
static uint64_t epoch_of(const char *name)
{
	const char *part = strncmp(name, "root/", 5) == 0 ? name + 5 : strrchr(name, '-');

	if (!part)
		return 0;
	return strtoull(part[0] == '-' ? part + 1 : part, NULL, 16);
}

/* Roots go on to name what one of a damaged stream named before it was; the rows here name more, which
 * may be all there is. The next start sweeps again. */
static bool is_of_damaged_stream(struct pool *p, const char *name)
{
	struct object_name n;
	struct stream *stream;

	if (object_name_parse(name, &n) < 0 || n.stream == 0)
		return false;
	GUARD(&p->objects_lock);
	HASH_FIND(hh, p->streams, &n.stream, sizeof(n.stream), stream);
	return stream && stream_keeps_all(stream) && !MUTANT(MUTANT_SWEEP_DAMAGED);
}

static int look_at(struct sweep *s, const char *name, int64_t modified_ns)
{
	struct known_name *found;
	uint64_t epoch = epoch_of(name);
	int64_t age_ns = env_now_real_ns(s->pool->env) - modified_ns;

	HASH_FIND_STR(s->known, name, found);
	if (found || epoch == 0 || epoch >= s->pool->epoch || strlen(name) > OBJECT_NAME_MAX ||
	    strncmp(name, "epoch/", 6) == 0 || is_of_damaged_stream(s->pool, name))
		return 0;
	if (age_ns < (int64_t)pool_option(s->pool, grace_time_ns)) {
		s->spared++;
		return 0;
	}
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		char(*more)[OBJECT_NAME_MAX + 1] = reallocarray(s->orphans, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->orphans = more;
		s->cap = cap;
	}
	memcpy(s->orphans[s->count++], name, strlen(name) + 1);
	return 0;
}

struct pack_look {
	struct sweep *sweep;
	int64_t modified_ns;
};

static int look_at_member(void *arg, const char *name)
{
	struct pack_look *l = arg;

	return look_at(l->sweep, name, l->modified_ns);
}

static int look(void *arg, const char *name, const struct backend_object *object)
{
	struct sweep *s = arg;
	struct pack_look l = { s, object->modified_ns };
	int r;

	memcpy(s->after, name, strlen(name) + 1);
	/* One that is known goes with its members. */
	if (packs_each_member(s->pool, name, look_at_member, &l, &r))
		return r ? r : know(s, name);
	return look_at(s, name, object->modified_ns);
}

static int list_all(struct sweep *s, struct err *e)
{
	int r;

	do
		r = backend_list(s->pool->backend, "", s->after[0] ? s->after : NULL, LIST_PAGE,
				 look, s, e);
	while (r == (int)LIST_PAGE);
	return r < 0 ? r : 0;
}

/* Of a pack that is gone rows may be left, where a crash came between the two. */
static int look_at_lost_packs(struct sweep *s, struct err *e)
{
	struct pack_look l = { s, 0 };
	struct root packs = { 0 };
	int r = packs_list(s->pool, &packs, e), result = 0;

	for (uint32_t i = 0; i < packs.pack_count && r == 0; i++) {
		const char *name = packs.packs[i].object.name;
		struct known_name *found;

		HASH_FIND_STR(s->known, name, found);
		if (!found && packs_each_member(s->pool, name, look_at_member, &l, &result) &&
		    result < 0)
			r = err_set(e, result, "packs");
	}
	root_done(&packs);
	return r;
}

static int remove_orphans(struct pool *p, char (*orphans)[OBJECT_NAME_MAX + 1], size_t count,
			  struct err *e)
{
	const char *list[BURY_NAMES];

	for (size_t i = 0; i < count; i++) {
		log_info("backend: orphan removed: name='%s'", orphans[i]);
		list[i] = orphans[i];
	}
	counter_add(&p->metrics.orphans_removed, count);
	return packs_delete_many(p, list, count, NULL, e);
}

/* All that nobody names, into s. */
static int find_orphans(struct sweep *s, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);
	int r = know_root(s, e);

	if (r == 0)
		r = meta_iterate(s->pool->meta, META_NAMES, &from, &until, know_condemned, s, e);
	if (r == 0)
		r = list_all(s, e);
	return r == 0 ? look_at_lost_packs(s, e) : r;
}

static void sweep_done(struct sweep *s)
{
	struct known_name *k, *next;

	HASH_ITER (hh, s->known, k, next) {
		HASH_DEL(s->known, k);
		free(k);
	}
	free(s->orphans);
}

int orphans_sweep(struct pool *p, bool *ret_done, struct err *e)
{
	struct sweep s = { .pool = p };
	int r = find_orphans(&s, e);

	for (size_t at = 0; at < s.count && r == 0; at += BURY_NAMES)
		r = remove_orphans(p, s.orphans + at, min_u64(s.count - at, BURY_NAMES), e);
	sweep_done(&s);
	if (r < 0)
		return err_wrap(e, r, "looking for orphans");
	__atomic_store_n(&p->orphans_spared, s.spared, __ATOMIC_RELAXED);
	*ret_done = !s.spared;
	return 0;
}

int orphans_count(struct pool *p, uint64_t *ret_orphans, uint64_t *ret_spared, struct err *e)
{
	struct sweep s = { .pool = p };
	int r = find_orphans(&s, e);

	*ret_orphans = s.count;
	*ret_spared = s.spared;
	sweep_done(&s);
	return r < 0 ? err_wrap(e, r, "looking for orphans") : 0;
}
