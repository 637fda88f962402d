#include "volume/share.h"

#include "volume/io.h"
#include "volume/io_change.h"
#include "volume/pool_life.h"
#include "volume/upload.h"

#include <stdlib.h>

/* Names of a SCO's slots, more of which a row could not count. */
#define SHARE_NAMES_MAX 60000u

/* --- what is kept ------------------------------------------------------------------------------ */

static struct share_pin *find_locked(struct sco_table *t, uint64_t sco, const struct stream *stream)
{
	const struct share_pin like = { .key = { .sco = sco, .stream = stream->id } };
	struct share_pin *pin;

	HASH_FIND(hh, t->shares, &like.key, sizeof(like.key), pin);
	return pin;
}

static struct share_pin *add_locked(struct sco_table *t, struct sco *s, struct stream *stream)
{
	struct share_pin *pin = find_locked(t, s->number, stream);

	if (pin)
		return pin;
	pin = calloc(1, sizeof(*pin));
	if (!pin)
		return NULL;
	pin->key.sco = s->number;
	pin->key.stream = stream->id;
	pin->sco = s;
	pin->stream = stream;
	HASH_ADD(hh, t->shares, key, sizeof(pin->key), pin);
	if (!HASH_TOOK(pin)) {
		free(pin);
		return NULL;
	}
	s->refs++;
	return pin;
}

/* Out of the table; what is left is done without its lock. */
static void take_out_locked(struct sco_table *t, struct share_pin *pin, struct share_pin **gone)
{
	pin->sco->young_shares -= pin->slots;
	HASH_DEL(t->shares, pin);
	pin->hh.next = *gone;
	*gone = pin;
}

static void free_all(struct sco_table *t, struct share_pin *gone)
{
	while (gone) {
		struct share_pin *pin = gone;

		gone = pin->hh.next;
		sco_unref(t, pin->sco);
		free(pin);
	}
}

/*
 * Whether the names of a SCO may become more. It does not change any more, it is durable, and whatever
 * a restore may begin with names it, up to its last entry.
 */
static bool may_share_locked(const struct sco *s, unsigned int count)
{
	return s->life == SCO_LIFE_SEALED && s->row_flags & SCO_UPLOADED && s->root_whole &&
	       !s->dead && !s->spoiled &&
	       (uint64_t)s->live_slots + s->young_shares + count <= SHARE_NAMES_MAX;
}

/* From here on the SCO stays. NULL: nothing of it can be shared now. */
static struct share_pin *pin_begin(struct pool *p, struct stream *stream, loc_t loc,
				   unsigned int count)
{
	struct sco *s = sco_get(p->scos, loc_sco(loc));
	struct share_pin *pin = NULL;

	if (!s)
		return NULL;
	mutex_lock(&p->scos->lock);
	if (may_share_locked(s, count))
		pin = add_locked(p->scos, s, stream);
	if (pin) {
		pin->in_flight++;
		pin->slots += count;
		s->young_shares += count;
	}
	mutex_unlock(&p->scos->lock);
	sco_unref(p->scos, s);
	return pin;
}

/* lsn: not before that of the entry; 0: there is none. */
static void pin_end(struct pool *p, struct share_pin *pin, unsigned int count, lsn_t lsn)
{
	struct share_pin *gone = NULL;

	mutex_lock(&p->scos->lock);
	pin->in_flight--;
	pin->lsn = max_u64(pin->lsn, lsn);
	if (lsn == 0) {
		pin->slots -= count;
		pin->sco->young_shares -= count;
	}
	if (pin->slots == 0)
		take_out_locked(p->scos, pin, &gone);
	mutex_unlock(&p->scos->lock);
	free_all(p->scos, gone);
}

int share_replayed(struct object *o, const struct log_entry *entry)
{
	struct pool *p = o->pool;
	struct sco *s = sco_get(p->scos, loc_sco(entry->source));
	struct share_pin *pin;

	if (!s) /* something younger in the log hides it, or somebody will find damage */
		return 0;
	if (s->stream != o->stream->id)
		layer_set_foreign(o->layer);
	mutex_lock(&p->scos->lock);
	pin = add_locked(p->scos, s, o->stream);
	if (pin) {
		pin->slots += entry->cluster_count;
		pin->lsn = max_u64(pin->lsn, entry->lsn);
		s->young_shares += entry->cluster_count;
	}
	mutex_unlock(&p->scos->lock);
	sco_unref(p->scos, s);
	return pin ? 0 : -ENOMEM;
}

/* Of a stream that is younger than the checkpoint nothing was counted. */
static bool is_counted(const struct checkpoint *c, const struct share_pin *pin)
{
	const struct stream *s = pin->stream;

	return pin->in_flight == 0 && s->mark_index < c->mark_count &&
	       c->marks[s->mark_index].stream == s && pin->lsn <= c->marks[s->mark_index].lsn;
}

void shares_counted(struct checkpoint *c)
{
	struct sco_table *t = c->pool->scos;
	struct share_pin *pin, *next, *gone = NULL;

	mutex_lock(&t->lock);
	HASH_ITER (hh, t->shares, pin, next)
		if (is_counted(c, pin))
			take_out_locked(t, pin, &gone);
	mutex_unlock(&t->lock);
	free_all(t, gone);
}

void shares_forget(struct pool *p)
{
	struct share_pin *pin, *next, *gone = NULL;

	mutex_lock(&p->scos->lock);
	HASH_ITER (hh, p->scos->shares, pin, next)
		take_out_locked(p->scos, pin, &gone);
	mutex_unlock(&p->scos->lock);
	free_all(p->scos, gone);
}

/* --- sharing ----------------------------------------------------------------------------------- */

struct sharing {
	struct object *from, *to;
	uint64_t from_cluster, to_cluster;
	unsigned int count; /* of one page of either */
	loc_t loc;	    /* of the first; the others behind it */
	uint32_t crcs[PAGE_CLUSTERS];
	bool crcs_known;
};

/* What the source has at the beginning that can be named as one. */
static int look(struct sharing *s, struct err *e)
{
	struct pool *p = s->from->pool;
	uint8_t known[PAGE_CLUSTERS / 8];
	loc_t locs[PAGE_CLUSTERS];
	unsigned int n = 0;
	int r;

	rwlock_read_lock(&s->from->gate);
	r = s->from->deleted ? err_set(e, -ESTALE, "object %" PRIu64 " was deleted", s->from->id) :
			       map_lookup(p->map, s->from->layer, s->from_cluster, s->count, locs,
					  s->crcs, known, e);
	rwlock_read_unlock(&s->from->gate);
	if (r < 0)
		return r;
	s->crcs_known = true;
	while (n < s->count && loc_is_place(locs[0]) && loc_origin(locs[0]) == 0 &&
	       locs[n] == locs[0] + n) {
		s->crcs_known &= known[n / 8] >> n % 8 & 1;
		n++;
	}
	s->loc = locs[0];
	s->count = n;
	return 0;
}

/* A program of before would not replay it. */
static int announce(struct pool *p, struct err *e)
{
	int r;

	if (__atomic_load_n(&p->shares_announced, __ATOMIC_ACQUIRE))
		return 0;
	GUARD(&p->checkpoint_lock);
	r = pool_add_feature(p, FEATURE_SHARES, e);
	if (r == 0)
		__atomic_store_n(&p->shares_announced, true, __ATOMIC_RELEASE);
	return r;
}

/* The SCO is held. Clusters, or negative. */
static int publish(struct sharing *s, struct stream *stream, const struct share_pin *pin,
		   struct err *e)
{
	const loc_t loc = s->loc;
	const unsigned int count = s->count;
	struct io_change c = {
		.first = s->to_cluster,
		.share = loc,
		.end_bytes = UINT64_MAX,
	};
	/* Again: until it was held the SCO could die, and its place be gone. */
	int r = look(s, e);

	if (r < 0)
		return r;
	if (s->loc != loc || s->count < count)
		return 0;
	c.count = s->count = count;
	c.share_crcs = s->crcs_known ? s->crcs : NULL;
	c.share_foreign = pin->sco->stream != stream->id;
	return io_change_in(s->to, stream, &c, e);
}

/* Clusters that are shared now; 0: they cannot be. s->count is used up. */
static int share_some(struct sharing *s, struct err *e)
{
	struct pool *p = s->to->pool;
	struct share_pin *pin;
	struct stream *stream;
	unsigned int count;
	int r = io_stream_of(s->to, &stream);

	if (r == 0)
		r = look(s, e);
	count = s->count;
	if (r < 0 || count == 0)
		return r;
	pin = pin_begin(p, stream, s->loc, count);
	if (!pin)
		return 0;
	r = announce(p, e);
	if (r == 0)
		r = publish(s, stream, pin, e);
	pin_end(p, pin, count, r > 0 ? stream_last_lsn(stream) : 0);
	return r;
}

/* Waiting for room where there is none. */
static int share_waiting(struct sharing *s, struct err *e)
{
	struct pool *p = s->to->pool;

	for (;;) {
		uint64_t generation = pool_room_generation(p);
		const unsigned int wanted = s->count;
		int r = share_some(s, e);

		s->count = wanted;
		if (r != -EXDEV && !io_must_wait(r))
			return r;
		if (pool_waits_are_cancelled(p))
			return pool_cancelled(e);
		if (r != -EXDEV)
			pool_wait_room(p, generation, UINT64_MAX);
	}
}

int object_share(struct object *o, uint64_t offset_bytes, struct object *from, uint64_t from_bytes,
		 uint64_t len_bytes, uint64_t *ret_bytes, struct err *e)
{
	struct sharing s = { .from = from, .to = o };
	uint64_t left = len_bytes >> CLUSTER_SHIFT, done = 0;
	int r = io_check_range(offset_bytes, len_bytes, e);

	*ret_bytes = 0;
	if (r == 0)
		r = io_check_range(from_bytes, len_bytes, e);
	if (r < 0 || offset_bytes % CLUSTER_BYTES || from_bytes % CLUSTER_BYTES || left == 0)
		return r;
	while (done < left) {
		s.from_cluster = (from_bytes >> CLUSTER_SHIFT) + done;
		s.to_cluster = (offset_bytes >> CLUSTER_SHIFT) + done;
		s.count = (unsigned int)min_u64(left - done,
						PAGE_CLUSTERS -
							max_u64(s.from_cluster % PAGE_CLUSTERS,
								s.to_cluster % PAGE_CLUSTERS));
		r = share_waiting(&s, e);
		if (r <= 0)
			break;
		done += (unsigned int)r;
	}
	*ret_bytes = done << CLUSTER_SHIFT;
	return r < 0 ? r : 0;
}
