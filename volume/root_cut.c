/*
 * root_cut - settles what a root is to show, under the lock of checkpoints: all rows, as a view, and
 * which SCOs each stream's manifest names. Those that are not on the backend yet are claimed: they
 * stay until they were put. What dies behind the cut is condemned by the root after this one.
 */
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/root_impl.h"

#include <stdlib.h>

uint64_t root_next(const struct pool *p)
{
	return p->root_tried + 1;
}

int root_begin(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;

	/* Never one of an attempt that came to nothing: it may have put a root that is the newest of the
	 * store, and what that names stays as it is. Those of a dead process are of another epoch, which
	 * is part of the name. */
	b->number = MUTANT(MUTANT_ROOT_NUMBER_AGAIN) ? p->root_number + 1 : root_next(p);
	p->root_tried = b->number;
	b->names = meta_batch_new(p->meta, META_NAMES);
	b->tried = meta_batch_new(p->meta, META_NAMES);
	/* Before the view: whatever it does not show makes another number. */
	b->sequence = meta_sequence(p->meta);
	b->view = meta_view_new(p->meta);
	return b->names && b->tried && b->view ? 0 : err_set(e, -ENOMEM, "root");
}

/* What died here before it travelled is in the rows, if nowhere else. */
static bool is_in_rows(const struct sco *s, const struct stream_cut *cut)
{
	return (s->row_saved || s->life == SCO_LIFE_LEFTOVER) && s->live_slots == 0 &&
	       s->last_lsn <= cut->checkpoint_lsn;
}

/* A SCO that is on the backend, or is to come there (claimed), or else ends what the manifest covers. */
static void cut_sco(struct root_builder *b, struct stream_cut *cut, struct sco *s, bool claimed)
{
	struct manifest *m = &cut->manifest;
	bool uploaded;

	GUARD(&b->pool->scos->lock);
	uploaded = s->row_flags & SCO_UPLOADED;
	if (s->dead)
		return;
	if (!uploaded && !claimed) {
		if (s->first_lsn && !is_in_rows(s, cut))
			m->lsn = min_u64(m->lsn, s->first_lsn - 1);
		return;
	}
	m->scos[m->sco_count++] = (struct manifest_sco){
		.sco = s->number,
		.version = s->version,
		.slot_count = s->next_slot,
		.object_epoch = uploaded ? s->object_epoch : b->pool->epoch,
		.file_bytes = s->file_bytes,
		.footer_crc = s->footer_crc,
		.first_lsn = s->first_lsn,
		.last_lsn = s->last_lsn,
	};
}

/* Claimed ones are kept, with the reference that the list held. */
static int keep_claimed(struct root_builder *b, struct sco *s)
{
	if (b->claimed_count == b->claimed_room) {
		size_t room = b->claimed_room ? 2 * b->claimed_room : 64;
		struct sco **more = reallocarray(b->claimed, room, sizeof(struct sco *));

		if (!more)
			return -ENOMEM;
		b->claimed = more;
		b->claimed_room = room;
	}
	b->claimed[b->claimed_count++] = s;
	return 0;
}

static int cut_stream(struct root_builder *b, struct stream *s, struct err *e)
{
	struct pool *p = b->pool;
	struct stream_cut *cut = &b->streams[b->stream_count++];
	struct manifest *m = &cut->manifest;
	struct sco **list;
	size_t count;
	int r = sco_table_list(p->scos, s->id, &list, &count);

	if (r < 0)
		return err_because(e, r, "manifest");
	*cut = (struct stream_cut){ .damaged = stream_keeps_all(s),
				    .failed = __atomic_load_n(&s->stuck, __ATOMIC_ACQUIRE),
				    .checkpoint_lsn = s->checkpoint_lsn };
	*m = (struct manifest){ .pool = p->uuid,
				.stream = s->id,
				.epoch = p->epoch,
				.root = b->number,
				.lsn = stream_durable_lsn(s),
				.scos = calloc(count + 1, sizeof(*m->scos)) };
	r = m->scos ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && r == 0; i++) {
		bool claimed = upload_claim(p, list[i]);

		if (claimed)
			r = keep_claimed(b, list[i]);
		if (claimed && r < 0)
			upload_unclaim(p, list[i]);
		cut_sco(b, cut, list[i], claimed);
		if (claimed && r == 0)
			list[i] = NULL;
	}
	sco_list_free(p->scos, list, count);
	return r < 0 ? err_because(e, r, "manifest") : 0;
}

int root_cut(struct root_builder *b, struct err *e)
{
	struct stream **streams;
	size_t count;
	int r = pool_streams(b->pool, &streams, &count);

	if (r < 0)
		return err_because(e, r, "root");
	stream_sort(streams, count);
	b->streams = calloc(count + 1, sizeof(*b->streams));
	r = b->streams ? 0 : err_set(e, -ENOMEM, "root");
	for (size_t i = 0; i < count && r == 0; i++)
		r = cut_stream(b, streams[i], e);
	free(streams);
	b->is_cut = r == 0;
	return r;
}

int root_put_scos(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	int r;

	pool_recount(p); /* some were sealed for the cut */
	r = upload_pool_put(p, b->claimed, b->claimed_count, true, &b->claimed_done, e);
	pool_recount(p);
	pool_made_room(p);
	return r;
}

/* Not where its row was tried: after a crash that may be there in spite of the error. */
static void condemn_tried(struct root_builder *b)
{
	struct pool *p = b->pool;
	struct err e = { 0 };

	if (!b->any_tried || b->row_tried)
		return;
	p->idle_roots = 0; /* two more let this go, too */
	/* Not synced: behind a power cut these names are of an older epoch, and swept. */
	if (meta_commit(p->meta, b->tried, 0, &e) < 0)
		log_warning(
			"backend: parts of a root that came to nothing stay until the next start: "
			"root=%" PRIu64 ": %s",
			b->number, e.message);
}

void root_end(struct root_builder *b)
{
	struct pool *p = b->pool;

	condemn_tried(b);
	for (size_t i = b->claimed_done; i < b->claimed_count; i++)
		upload_unclaim(p, b->claimed[i]);
	sco_list_free(p->scos, b->claimed, b->claimed_count);
	for (size_t i = 0; i < b->stream_count; i++)
		manifest_done(&b->streams[i].manifest);
	free(b->streams);
	meta_view_free(p->meta, b->view);
	meta_batch_free(p->meta, b->names);
	meta_batch_free(p->meta, b->tried);
	root_map_done(b);
	for (size_t i = 0; i < b->pack_count; i++)
		pack_done(&b->packs[i]);
	free(b->packs);
	root_done(&b->old);
	root_done(&b->new);
}
