#include "volume/stream.h"

#include "common/log.h"
#include "volume/mutant.h"
#include "volume/sco_make.h"

#include <stdlib.h>
#include <string.h>

/* Most SCOs that one group commit syncs; a longer range is committed in pieces. */
#define COMMIT_SCOS_MAX 16u
/* And of the ring's frames: they come free piece by piece, for writers who wait for some. */
#define COMMIT_FRAMES_PART 8u
/* SCOs that must fit before one is made in advance. */
#define PREPARE_SCOS UINT64_C(8)
/* Of commit_until(): all batches that are in use at the call. */
#define RELEASE_ALL UINT64_MAX
/* Commits into one SCO from which on its stream syncs often: the next one is prewritten. */
#define COMMITS_OFTEN 32u

void stream_init(struct stream *s, struct stream_world *world, uint32_t id, uint32_t class,
		 uint64_t owner)
{
	*s = (struct stream){ .world = world, .id = id, .class = class, .owner = owner };
	s->next_lsn = 1;
	mutex_init(&s->range_lock, LOCK_RANGE);
	mutex_init(&s->lock, LOCK_STREAM);
	cond_init(&s->changed);
}

void stream_done(struct stream *s)
{
	/* Given up: the frames stay as they are, for the next process. */
	for (struct batch *b = s->first; b; b = b->next)
		sco_unref(s->world->scos, b->sco);
	if (s->sco)
		sco_unref(s->world->scos, s->sco);
	if (s->next_sco)
		sco_unref(s->world->scos, s->next_sco);
	cond_done(&s->changed);
	mutex_done(&s->lock);
	mutex_done(&s->range_lock);
}

lsn_t stream_last_lsn(struct stream *s)
{
	return __atomic_load_n(&s->next_lsn, __ATOMIC_ACQUIRE) - 1;
}

lsn_t stream_durable_lsn(struct stream *s)
{
	GUARD(&s->lock);
	return s->durable_lsn;
}

/* --- SCOs of the stream ------------------------------------------------------------------------ */

/* Make a SCO with the lock dropped; the caller set making_sco. */
static int make_sco_unlocked(struct stream *s, bool urgent, bool prewritten, struct sco **ret_sco,
			     struct err *e)
{
	struct sco_make_options o = {
		.stream = s->id,
		.urgent = urgent,
		.prewritten = prewritten,
		.first_of_epoch = !s->epoch_has_sco, /* only the maker changes it */
		.cut_sco = s->cut_sco,
		.cut_batches = s->cut_batches,
		.cut_lsn = s->cut_lsn,
	};

	return sco_make(s->world, &o, ret_sco, e);
}

/* Have next_sco; drops and takes the lock. */
static int need_next_sco_locked(struct stream *s, bool urgent, struct err *e)
{
	struct sco *made = NULL;
	bool prewritten;
	int r;

	while (s->making_sco)
		cond_wait(&s->changed, &s->lock, WAIT_FOREVER);
	if (s->next_sco || s->error)
		return s->error;
	s->making_sco = true;
	prewritten = s->commits >= COMMITS_OFTEN;
	mutex_unlock(&s->lock);
	r = make_sco_unlocked(s, urgent, prewritten, &made, e);
	mutex_lock(&s->lock);
	s->making_sco = false;
	if (r == 0) {
		s->next_sco = made;
		s->epoch_has_sco = true;
	}
	cond_broadcast(&s->changed);
	return r;
}

static void retire_sco_locked(struct stream *s)
{
	struct sco_table *t = s->world->scos;
	struct sco *sco = TAKE_PTR(s->sco);

	if (!sco)
		return;
	mutex_lock(&t->lock);
	sco->life = SCO_LIFE_FULL;
	mutex_unlock(&t->lock);
	s->world->sco_is_full(s->world->arg, (uint64_t)sco->next_slot * CLUSTER_BYTES);
	if (sco->batches_busy == 0)
		s->world->wants_seal(s->world->arg);
	sco_unref(t, sco);
}

/* The SCO made in advance, or the open one if no batch was ever begun in it: the ring was full. */
static struct sco *take_unused_locked(struct stream *s)
{
	struct sco *unused = NULL;

	if (s->next_sco)
		unused = TAKE_PTR(s->next_sco);
	else if (s->sco && s->sco->batch_count == 0)
		unused = TAKE_PTR(s->sco);
	/* The cut goes with it, so the one after it is the first of its epoch. */
	if (unused && unused->has_cut)
		s->epoch_has_sco = false;
	return unused;
}

static void discard_unused(struct stream *s)
{
	struct stream_world *w = s->world;
	struct sco *unused;

	for (;;) {
		mutex_lock(&s->lock);
		unused = take_unused_locked(s);
		mutex_unlock(&s->lock);
		if (!unused)
			return;
		(void)sco_remove(w->scos, unused);
		flash_discard(w->flash, unused->dir, unused->stream, unused->number,
			      unused->version, unused->file_bytes);
		sco_unref(w->scos, unused);
	}
}

/* Whether one was made for a stream that was abandoned meanwhile. */
static bool prepare_locked(struct stream *s)
{
	struct err e = { 0 };

	if (!s->sco || s->next_sco || s->error || s->abandoned ||
	    s->sco->next_slot < s->sco->slots_max / 2)
		return false;
	if (need_next_sco_locked(s, false, &e) < 0)
		log_debug("volume: no SCO in advance: stream=%u: %s", s->id, e.message);
	return s->abandoned;
}

void stream_prepare(struct stream *s)
{
	bool too_late;

	if (!flash_has_room(s->world->flash, PREPARE_SCOS * s->world->sco_slots * CLUSTER_BYTES))
		return;
	mutex_lock(&s->lock);
	too_late = prepare_locked(s);
	mutex_unlock(&s->lock);
	if (too_late)
		discard_unused(s);
}

/* --- batches ----------------------------------------------------------------------------------- */

/* All writers completed: finish the block and hand the batch over. */
static void ready_locked(struct stream *s, struct batch *b)
{
	struct batch_header h = {
		.flags = b->direct ? BATCH_DIRECT : 0,
		.salt = b->sco->salt,
		.sco = b->sco->number,
		.stream = s->id,
		.batch = b->number,
		.slot = b->slot,
		.epoch = s->world->epoch,
		.entry_count = b->entry_count,
		.cluster_count = b->cluster_count,
		.closed_lsn = b->closed_lsn,
		.durable_lsn = s->durable_lsn,
		.meta_sequence = meta_synced_sequence(s->world->meta),
	};

	batch_close_encode(&h, b->block);
	b->state = BATCH_READY;
	/* A committing caller writes it himself: on two cores a hand-over costs more than a write. */
	writeback_add(s->world->writeback, b, !s->leader);
	if (s->leader)
		cond_broadcast(&s->changed);
}

static void close_locked(struct stream *s, struct batch *b)
{
	ASSERT(b->state == BATCH_OPEN);
	b->state = BATCH_CLOSED;
	/* No later reservation can be in b, and all LSNs up to here were reserved before: see top. */
	b->closed_lsn = stream_last_lsn(s);
	s->world->batch_is_full(s->world->arg, (1u + (uint64_t)b->cluster_count) * CLUSTER_BYTES);
	if (b->pending == 0)
		ready_locked(s, b);
}

static struct batch *open_batch_locked(struct stream *s)
{
	return s->last && s->last->state == BATCH_OPEN ? s->last : NULL;
}

/* Start a batch in the open SCO, which has room for a block and at least need clusters. */
static struct batch *start_batch_locked(struct stream *s, bool direct)
{
	struct ring *ring = s->world->ring;
	struct sco *sco = s->sco;
	struct batch_header h;
	struct batch *b;

	/* One stream never holds all of the ring, so that a stuck one does not stop the others. */
	if (s->frames >= ring->frame_count - ring->frame_count / 4)
		return NULL;
	b = ring_take(ring);
	if (!b)
		return NULL;
	b->stream = s;
	b->sco = sco;
	sco_ref(s->world->scos, sco);
	b->direct = direct;
	b->number = sco->batch_count;
	b->slot = sco->next_slot;
	__atomic_store_n(&sco->batch_count, b->number + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&sco->next_slot, b->slot + 1, __ATOMIC_RELAXED);
	b->state = BATCH_OPEN;
	sco->batches_busy++;
	h = (struct batch_header){
		.flags = direct ? BATCH_DIRECT : 0,
		.salt = sco->salt,
		.sco = sco->number,
		.stream = s->id,
		.batch = b->number,
		.slot = b->slot,
		.epoch = s->world->epoch,
	};
	batch_open_encode(&h, b->block);
	if (s->last)
		s->last->next = b;
	else
		s->first = b;
	s->last = b;
	s->frames++;
	return b;
}

/* How many of want clusters fit behind what b has; -1: not even the entry. */
static int batch_fits(const struct stream *s, const struct batch *b, unsigned int want, bool direct)
{
	uint64_t room = b->sco->slots_max - (b->slot + 1 + b->cluster_count);

	if (!batch_has_room(b->entry_count + 1u, b->cluster_count))
		return -1;
	if (want == 0)
		return 0;
	if (b->direct != direct)
		return -1;
	if (!direct)
		room = min_u64(room, s->world->ring->frame_clusters - b->cluster_count);
	room = min_u64(room, want);
	while (room > 0 && !batch_has_room(b->entry_count + 1u, b->cluster_count + (unsigned)room))
		room--;
	/* Big pieces stay whole where a new batch holds them. */
	return room == 0 ? -1 : (int)room;
}

/* Give back frames of durable batches: everything up to and including last. */
static void release_locked(struct stream *s, struct batch *last)
{
	struct sco_table *t = s->world->scos;

	for (bool more = true; more;) {
		struct batch *b = s->first;
		struct sco *sco = b->sco;

		more = b != last;
		s->first = b->next;
		if (!s->first)
			s->last = NULL;
		s->frames--;
		if (s->error) /* it failed while these were being synced */
			(void)__atomic_sub_fetch(&s->world->ring->stuck_count, 1, __ATOMIC_RELAXED);
		s->released++;
		sco->batches_busy--;
		__atomic_store_n(&sco->durable_slots, b->slot + 1u + b->cluster_count,
				 __ATOMIC_RELAXED);
		if (b->direct)
			s->direct_bytes -= (uint64_t)b->cluster_count * CLUSTER_BYTES;
		for (unsigned int i = 0; !b->direct && i < b->cluster_count; i++)
			if (sco->frame_of_slot)
				sco->frame_of_slot[b->slot + 1 + i] = 0;
		if (sco->batches_busy == 0 && sco_life(t, sco) == SCO_LIFE_FULL)
			s->world->wants_seal(s->world->arg);
		b->released = true;
		if (b->readers == 0)
			ring_put(s->world->ring, b);
		sco_unref(t, sco);
	}
}

/* --- reserving and publishing ------------------------------------------------------------------ */

/* Waiting for a frame would be waiting for ever. */
static bool ring_is_lost(const struct ring *ring)
{
	return __atomic_load_n(&ring->stuck_count, __ATOMIC_RELAXED) >= ring->frame_count;
}

static struct batch *batch_for_locked(struct stream *s, unsigned int want, unsigned int flags,
				      int *ret_count, struct err *e)
{
	bool direct = flags & RESERVE_DIRECT;
	int r;

	for (;;) {
		struct batch *b = open_batch_locked(s);

		if (s->error) {
			*ret_count = err_set(e, s->error, "stream %u failed earlier", s->id);
			return NULL;
		}
		if (s->abandoned) { /* perhaps buried: nobody would look after the batch */
			*ret_count = err_set(e, -ESTALE, "the disk of stream %u is gone", s->id);
			return NULL;
		}
		*ret_count = b ? batch_fits(s, b, want, direct) : -1;
		if (*ret_count >= 0)
			return b;
		if (b)
			close_locked(s, b);
		if (s->sco && s->sco->next_slot + 2 > s->sco->slots_max)
			retire_sco_locked(s);
		if (!s->sco && !s->next_sco) {
			r = need_next_sco_locked(s, flags & RESERVE_URGENT, e);
			if (r == -EIO)
				s->world->device_failed(s->world->arg);
			if (r < 0) {
				*ret_count = r == -EAGAIN ? -ENOSPC : r;
				return NULL;
			}
			continue; /* the lock was dropped: look again */
		}
		if (!s->sco) {
			s->sco = TAKE_PTR(s->next_sco);
			s->commits = 0;
		}
		if (!start_batch_locked(s, direct)) {
			*ret_count = ring_is_lost(s->world->ring) ?
					     err_set(e, -EIO,
						     "the ring is full of what failed "
						     "streams could not write") :
					     err_set(e, -EAGAIN, "the ring is full");
			return NULL;
		}
	}
}

int stream_reserve(struct stream *s, unsigned int want, unsigned int flags,
		   struct reservation *ret_reservation, struct err *e)
{
	bool direct = flags & RESERVE_DIRECT;
	struct ring *ring = s->world->ring;
	bool flush = false, prepare = false, abandoned;
	struct batch *b;
	int count;

	mutex_lock(&s->lock);
	b = batch_for_locked(s, want, flags, &count, e);
	if (!b) {
		abandoned = s->abandoned;
		mutex_unlock(&s->lock);
		if (abandoned) /* the SCO that was made meanwhile has no user */
			discard_unused(s);
		if (count == -EAGAIN)
			s->world->wants_flush(s->world->arg);
		return count;
	}
	*ret_reservation = (struct reservation){
		.stream = s,
		.batch = b,
		.sco = b->sco,
		.entry = b->entry_count++,
		.slot = (uint16_t)(count ? b->slot + 1 + b->cluster_count : 0),
		.count = (uint16_t)count,
		.data = count && !direct ?
				b->block + (size_t)(1 + b->cluster_count) * CLUSTER_BYTES :
				NULL,
	};
	if (!direct)
		for (int i = 0; i < count; i++)
			b->sco->frame_of_slot[b->slot + 1 + b->cluster_count + (unsigned)i] =
				(uint16_t)(b->frame + 1);
	b->cluster_count = (uint16_t)(b->cluster_count + count);
	__atomic_store_n(&b->sco->next_slot, b->slot + 1u + b->cluster_count, __ATOMIC_RELAXED);
	b->pending++;
	batch_counts_put(b->block, b->entry_count, b->cluster_count);
	if (direct) {
		s->direct_bytes += (uint64_t)count * CLUSTER_BYTES;
		flush = s->direct_bytes > ring->len_bytes;
	}
	if (b->entry_count == 1) { /* a fresh batch: time to look at the ring, and ahead */
		flush |= ring_free_count(ring) < ring->frame_count - ring->frame_count / 4;
		prepare = !s->next_sco && !s->making_sco &&
			  b->sco->next_slot >= b->sco->slots_max / 2;
	}
	mutex_unlock(&s->lock);
	if (flush)
		s->world->wants_flush(s->world->arg);
	if (prepare)
		s->world->wants_sco(s->world->arg);
	return 0;
}

void stream_set_crc(const struct reservation *r, unsigned int i, uint32_t crc)
{
	ASSERT(i < r->count);
	batch_crc_put(r->batch->block, r->slot - r->batch->slot - 1 + i, crc);
	r->sco->crcs[r->slot + i] = crc;
}

/* Each store is seen before the next one, also by the process after a kill between any two. */
static void witness_intend(struct volume_witness *w, uint32_t stream, lsn_t lsn, uint32_t next)
{
	__atomic_store_n(&w->lsn, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&w->stream, stream, __ATOMIC_RELEASE);
	__atomic_store_n(&w->next_bytes, next, __ATOMIC_RELEASE);
	__atomic_store_n(&w->lsn, lsn, __ATOMIC_RELEASE);
}

lsn_t stream_publish(const struct reservation *r, struct log_entry *entry,
		     struct volume_witness *witness, uint32_t next_bytes)
{
	unsigned int crc_first = r->count ? r->slot - r->batch->slot - 1 : 0;

	entry->slot = r->count ? r->slot : 0;
	entry->lsn = __atomic_fetch_add(&r->stream->next_lsn, 1, __ATOMIC_ACQ_REL);
	if (witness)
		witness_intend(witness, r->stream->id, entry->lsn, next_bytes);
	batch_entry_encode(r->batch->block, r->entry, entry, r->sco->salt, crc_first, r->count);
	batch_entry_publish(r->batch->block, r->entry, entry->kind);
	if (witness)
		__atomic_store_n(&witness->done_bytes, next_bytes, __ATOMIC_RELEASE);
	return entry->lsn;
}

void stream_complete(struct reservation *r)
{
	struct stream *s = r->stream;
	struct batch *b = r->batch;

	if (!b)
		return;
	GUARD(&s->lock);
	ASSERT(b->pending > 0);
	b->pending--;
	if (b->pending == 0 && b->state == BATCH_CLOSED)
		ready_locked(s, b);
	r->batch = NULL;
}

/* --- writing and committing -------------------------------------------------------------------- */

void batch_io_prepare(struct batch *b, struct env_file *file)
{
	b->io = (struct env_io){
		.file = file,
		.buf = b->block,
		.len_bytes =
			b->direct ? CLUSTER_BYTES : (size_t)(1 + b->cluster_count) * CLUSTER_BYTES,
		.offset_bytes = (uint64_t)b->slot * CLUSTER_BYTES,
		.owner = b,
	};
}

/* Entries of a written block, as they go into the SCO's index. Returns their bytes. */
static size_t collect_log(const struct batch *b, uint8_t *out, lsn_t *ret_min, lsn_t *ret_max)
{
	size_t len = 0;

	*ret_min = UINT64_MAX;
	*ret_max = 0;
	for (unsigned int i = 0; i < b->entry_count; i++) {
		struct log_entry entry;

		int r = batch_entry_decode(b->block, i, b->sco->salt, &entry, NULL);

		ASSERT(r == 0 || r == -ENODATA); /* what we wrote ourselves, or void */
		if (r < 0)
			continue;
		log_entry_encode(&entry, out + len);
		len += BATCH_ENTRY_BYTES;
		*ret_min = min_u64(*ret_min, entry.lsn);
		*ret_max = max_u64(*ret_max, entry.lsn);
	}
	return len;
}

/* It is written: no memory for its entries is no reason to give the stream up, there will be some. */
static int note_entries_locked(struct stream *s, struct sco *sco, const uint8_t *entries,
			       size_t len_bytes)
{
	int r;

	while ((r = buf_append(&sco->log, entries, len_bytes)) == -ENOMEM) {
		if (MUTANT(MUTANT_ENTRIES_FORGOTTEN))
			return 0;
		await_memory(&s->lock);
	}
	return r;
}

void stream_batch_written(struct stream *s, struct batch *b, int r)
{
	uint8_t entries[BATCH_ROOM_BYTES];
	lsn_t min, max;
	size_t len = 0;

	if (MUTANT(MUTANT_FRAME_RELEASED_EARLY) && b->state != BATCH_READY)
		return; /* its frame is somebody else's by now */
	if (r == 0)
		len = collect_log(b, entries, &min, &max);
	GUARD(&s->lock);
	if (r == 0 && len)
		r = note_entries_locked(s, b->sco, entries, len);
	if (r < 0) {
		stream_fail_locked(s, b->sco->dir, r, "writing a batch");
		return;
	}
	if (len) {
		struct sco_table *t = s->world->scos;

		mutex_lock(&t->lock);
		b->sco->first_lsn = b->sco->first_lsn ? min_u64(b->sco->first_lsn, min) : min;
		b->sco->last_lsn = max_u64(b->sco->last_lsn, max);
		mutex_unlock(&t->lock);
	}
	b->state = BATCH_WRITTEN;
	cond_broadcast(&s->changed);
}

static void write_here(struct stream *s, struct batch *b)
{
	struct env_file *file;
	int r;

	r = sco_file(s->world->scos, b->sco, &file, NULL);
	if (r == 0) {
		batch_io_prepare(b, file);
		r = env_pwrite(s->world->env, file, b->io.buf, b->io.len_bytes, b->io.offset_bytes);
	}
	stream_batch_written(s, b, r);
}

/* What one group commit has to make durable. */
struct commit {
	struct batch *last;
	struct sco *scos[COMMIT_SCOS_MAX];
	unsigned int count;
};

/* Wait for, or write, everything up to a batch; collect the SCOs to sync. Lock held. */
static int commit_gather_locked(struct stream *s, const struct batch *target, struct commit *c)
{
	struct batch *b = s->first;

	*c = (struct commit){ .last = NULL };
	while (b) {
		if (s->error)
			return s->error;
		if (b->state != BATCH_WRITTEN) {
			if (b->state == BATCH_READY && writeback_claim(s->world->writeback, b)) {
				mutex_unlock(&s->lock);
				write_here(s, b);
				mutex_lock(&s->lock);
				continue;
			}
			if (!MUTANT(MUTANT_FRAME_RELEASED_EARLY) || b->state != BATCH_READY) {
				cond_wait(&s->changed, &s->lock, WAIT_FOREVER);
				continue;
			}
		}
		if (c->count == 0 || c->scos[c->count - 1] != b->sco) {
			if (c->count == COMMIT_SCOS_MAX)
				break;
			c->scos[c->count++] = b->sco;
		}
		c->last = b;
		if (b == target)
			break;
		b = b->next;
	}
	return s->error;
}

/* The directory that a failure was in; FLASH_DIRS_MAX: one of several. */
static uint32_t commit_dir(const struct commit *c)
{
	for (unsigned int i = 1; i < c->count; i++)
		if (c->scos[i]->dir != c->scos[0]->dir)
			return FLASH_DIRS_MAX;
	return c->scos[0]->dir;
}

/* The slow part, without the lock; the batches keep their SCOs alive. */
static int commit_sync(struct stream *s, struct commit *c, const char **ret_what)
{
	struct env_file *files[COMMIT_SCOS_MAX];
	struct stream_world *w = s->world;
	int r;

	*ret_what = "opening a SCO";
	for (unsigned int i = 0; i < c->count; i++) {
		r = sco_file(w->scos, c->scos[i], &files[i], NULL);
		if (r < 0)
			return r;
	}
	*ret_what = "fdatasync of a SCO";
	r = MUTANT(MUTANT_NO_SCO_SYNC) ? 0 : env_fdatasync_all(w->env, files, c->count);
	if (r < 0)
		return r;
	*ret_what = "syncing the directory of a SCO";
	for (unsigned int i = 0; i < c->count; i++) {
		struct sco *sco = c->scos[i];

		if (sco->names_durable) /* only a leader changes it */
			continue;
		r = MUTANT(MUTANT_NO_NAME_SYNC) ? 0 : flash_sync_names(w->flash, sco->dir, NULL);
		if (r < 0)
			return r;
		/* All of them in that directory were made before. */
		for (unsigned int j = i; j < c->count; j++)
			c->scos[j]->names_durable |= c->scos[j]->dir == sco->dir;
	}
	return 0;
}

/* How far a round goes: through all that there is, or as much as is worth a commit by itself. */
static struct batch *commit_target_locked(struct stream *s)
{
	unsigned int most = s->world->ring->frame_count / COMMIT_FRAMES_PART;
	struct batch *b = s->first;

	if (s->frames > most && most > 0) {
		while (--most > 0)
			b = b->next;
		return b;
	}
	if (open_batch_locked(s))
		close_locked(s, s->last);
	return s->last;
}

/* One round as the leader. Lock held; dropped inside. */
static int commit_round_locked(struct stream *s)
{
	const char *what = "";
	struct batch *target;
	struct commit c;
	int r;

	target = commit_target_locked(s);
	r = commit_gather_locked(s, target, &c);
	if (r < 0 || !c.last)
		return r;
	mutex_unlock(&s->lock);
	r = commit_sync(s, &c, &what);
	mutex_lock(&s->lock);
	if (r < 0) {
		stream_fail_locked(s, commit_dir(&c), r, what); /* never "try fsync again" */
		return s->error;
	}
	s->durable_lsn = max_u64(s->durable_lsn, c.last->closed_lsn);
	s->commits++;
	release_locked(s, c.last);
	/* Without a batch in use nobody holds a reservation: every LSN given out was in these. It may
	 * be above closed_lsn, where a writer published into a batch that was closed already. */
	if (!s->first)
		s->durable_lsn = stream_last_lsn(s);
	return 0;
}

/* Lead or wait for rounds until the durable LSN and the count of batches released are reached. */
static int commit_until(struct stream *s, lsn_t lsn, uint64_t released, struct err *e)
{
	int r = 0;

	mutex_lock(&s->lock);
	if (released == RELEASE_ALL)
		released = s->released + s->frames;
	while ((s->durable_lsn < lsn || s->released < released) && r == 0) {
		if (s->error) {
			r = s->error;
		} else if (s->leader) {
			cond_wait(&s->changed, &s->lock, WAIT_FOREVER);
		} else {
			ASSERT(s->first); /* an LSN above the durable one is in some batch: see above */
			s->leader = true;
			r = commit_round_locked(s);
			s->leader = false;
			cond_broadcast(&s->changed);
			mutex_unlock(&s->lock);
			s->world->made_room(s->world->arg);
			mutex_lock(&s->lock);
		}
	}
	mutex_unlock(&s->lock);
	return r < 0 ? err_because(e, r, "stream %u cannot be made durable", s->id) : 0;
}

int stream_sync(struct stream *s, lsn_t lsn, struct err *e)
{
	return commit_until(s, lsn, 0, e);
}

int stream_flush(struct stream *s, struct err *e)
{
	return commit_until(s, 0, RELEASE_ALL, e);
}

bool stream_is_dirty(struct stream *s)
{
	GUARD(&s->lock);
	return s->first != NULL;
}

void stream_retire_sco(struct stream *s)
{
	GUARD(&s->lock);
	if (open_batch_locked(s))
		close_locked(s, s->last);
	if (s->sco && s->sco->batch_count)
		retire_sco_locked(s);
}

void stream_give_space(struct stream *s)
{
	stream_retire_sco(s);
	discard_unused(s);
}

void stream_abandon(struct stream *s)
{
	mutex_lock(&s->lock);
	s->abandoned = true;
	mutex_unlock(&s->lock);
	stream_give_space(s);
}

bool stream_is_over(struct stream *s)
{
	GUARD(&s->lock);
	return s->abandoned && !s->error && !s->first && !s->sco && !s->next_sco && !s->making_sco;
}

int stream_read_young(struct stream *s, struct sco *sco, uint32_t slot, void *dst)
{
	struct ring *ring = s->world->ring;
	struct batch *b = NULL;
	size_t index;

	mutex_lock(&s->lock);
	if (sco->frame_of_slot && slot < sco->slots_max && sco->frame_of_slot[slot])
		b = &ring->batches[sco->frame_of_slot[slot] - 1];
	if (!b) {
		mutex_unlock(&s->lock);
		return 0;
	}
	ASSERT(b->sco == sco && slot > b->slot);
	index = slot - b->slot;
	b->readers++;
	mutex_unlock(&s->lock);
	memcpy(dst, b->block + index * CLUSTER_BYTES, CLUSTER_BYTES);
	mutex_lock(&s->lock);
	b->readers--;
	if (b->released && b->readers == 0)
		ring_put(ring, b);
	mutex_unlock(&s->lock);
	return 1;
}
