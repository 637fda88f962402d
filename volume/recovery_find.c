/* Which SCOs there are: files of the cache directories against rows. */
#include "common/crc32c.h"
#include "common/log.h"
#include "common/parallel.h"
#include "volume/mutant.h"
#include "volume/recovery.h"

#include <stdlib.h>
#include <string.h>

/* Files are waited for, and their indexes verified, by so many threads; so many are looked at and
 * synced, together. */
#define THREADS	      8u
#define GROUPS_AHEAD  64u
#define UNSETTLED_MAX 64u
/* Their indexes are in memory meanwhile: of larger SCOs there are fewer. */
#define TOGETHER_BYTES (UINT64_C(1) << 30)
/* Read at once of a file without a header. */
#define REMAINS_BYTES (UINT64_C(1) << 20)

struct found {
	uint64_t sco;
	uint32_t stream, version, dir;
};

struct found_list {
	struct found *found;
	size_t count, cap;
};

static int found_add(void *arg, uint32_t dir, uint32_t stream, uint64_t sco, uint32_t version)
{
	struct found_list *l = arg;

	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct found *more = reallocarray(l->found, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->found = more;
		l->cap = cap;
	}
	l->found[l->count++] = (struct found){ sco, stream, version, dir };
	return 0;
}

/* By number, the newest version first. */
static int found_order(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->sco != y->sco)
		return x->sco < y->sco ? -1 : 1;
	return x->version > y->version ? -1 : x->version < y->version;
}

static int get_row(struct pool *p, uint32_t stream, uint64_t sco, struct sco_row *ret_row,
		   struct err *e)
{
	struct row_key key = row_key_2u64(ROW_SCO, stream, sco);
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_STATE, &key, &value, e);
	if (r == 0)
		r = sco_row_decode(value.data, value.len_bytes, ret_row, e);
	buf_done(&value);
	return r;
}

static void delete_file(struct pool *p, const struct found *f)
{
	flash_discard(p->flash, f->dir, f->stream, f->sco, f->version, 0);
}

/* What a file turns out to be. */
struct looked {
	struct env_file *file;
	uint64_t bytes;
	struct sco_header header;
	bool header_ok;
	bool header_zero; /* never written */
	struct sco_footer footer;
	bool sealed;
	uint32_t footer_crc;
	uint8_t *index; /* of a sealed one that no row knows; the holder's of the whole */
	size_t index_bytes;
};

static void looked_done(struct pool *p, struct looked *l)
{
	env_close(p->env, l->file);
	free(TAKE_PTR(l->index));
}

/* Whether the file is known to be sealed: a flushed row says so. */
static bool row_seals(const struct sco_row *row, const struct found *f)
{
	return row && row->state == SCO_SEALED && row->version == f->version;
}

/* Whether a flushed row says that all of it is on the backend: a file that is missing here, or that is
 * no good, is no loss. */
static bool is_on_backend(const struct sco_row *row)
{
	return row && row->state == SCO_SEALED && row->flags & SCO_UPLOADED;
}

/* Whether the bytes are wrong; else they could not be read, and nothing is known about them. */
static bool is_flaw(int r)
{
	return r == -EBADMSG || r == -EUCLEAN || r == -EPROTONOSUPPORT;
}

/*
 * What no flushed row knows may be there in part. The data of version 0 was durable before its
 * index was written, so a whole index is enough; later versions are copies, and the version that
 * they were copied from is still there.
 */
static int is_sealed(struct pool *p, const struct found *f, struct looked *l,
		     const struct sco_row *row, struct err *e)
{
	struct sco_bytes bytes = sco_bytes_of_file(p->env, l->file);
	int r = sco_read_footer(&bytes, l->bytes, &l->footer, e);

	if (is_flaw(r))
		return 0;
	if (r < 0)
		return r;
	if (l->footer.salt != l->header.salt || l->footer.sco != f->sco ||
	    l->footer.version != f->version || l->footer.stream != f->stream)
		return 0;
	if (row_seals(row, f)) {
		l->sealed = true;
		return 0;
	}
	r = f->version == 0 ? sco_read_index(&bytes, &l->footer, &l->index, &l->index_bytes, e) :
			      -EUCLEAN;
	l->sealed = r == 0;
	return is_flaw(r) ? 0 : r;
}

static int look_at(struct pool *p, const struct found *f, const struct sco_row *row,
		   struct looked *l, struct err *e)
{
	uint8_t *block = direct_alloc(BLOCK_BYTES);
	struct env_stat st;
	ssize_t got = 0;
	int r = block ? 0 : err_set(e, -ENOMEM, "looking at a SCO");

	memset(l, 0, sizeof(*l));
	if (r == 0)
		r = flash_open_file(p->flash, f->dir, f->stream, f->sco, f->version, true, &l->file,
				    e);
	if (r == 0)
		r = env_stat(p->env, l->file, &st);
	if (r < 0) {
		if (l->file)
			env_close(p->env, l->file);
		free(block);
		return r;
	}
	l->bytes = st.size_bytes;
	memset(block, 0, BLOCK_BYTES);
	got = env_pread(p->env, l->file, block, BLOCK_BYTES, 0);
	if (got <
	    0) /* not "no header": a file that cannot be read is neither garbage nor damaged */
		r = err_set(e, (int)got, "reading SCO %" PRIu64, f->sco);
	if (got == BLOCK_BYTES && sco_header_decode(block, &l->header, NULL) == 0)
		l->header_ok = memcmp(&l->header.pool, &p->uuid, sizeof(p->uuid)) == 0 &&
			       l->header.sco == f->sco && l->header.stream == f->stream &&
			       l->header.version == f->version &&
			       l->header.slots_max >= SCO_SLOTS_MIN;
	l->header_zero = block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0;
	if (r == 0 && l->header_ok && l->header.epoch >= p->epoch)
		r = err_set(e, -EUCLEAN,
			    "the metadata went back: it is of epoch %" PRIu64 ", SCO %" PRIu64
			    " was written in epoch %" PRIu64,
			    p->epoch - 1, f->sco, l->header.epoch);
	if (r == 0 && l->header_ok)
		r = is_sealed(p, f, l, row, e);
	if (l->sealed) {
		sco_footer_encode(&l->footer, block);
		l->footer_crc = crc32c(0, block, BLOCK_BYTES);
	}
	free(block);
	if (r < 0)
		env_close(p->env, l->file);
	return r;
}

/* What the batches of a file tell that has no good header. */
struct remains {
	lsn_t first, newest; /* of its entries; UINT64_MAX, 0: there are none */
	lsn_t durable;	     /* that they knew of */
	bool rewritten;	     /* by a recovery that never came to its end */
	bool left_ring;	     /* one of them is in no ring */
};

static void note_remains(const struct found *f, const struct ring_old *old, const uint8_t *block,
			 struct remains *rm)
{
	struct batch_header h;

	if (batch_close_decode(block, &h, NULL) < 0 || h.sco != f->sco || h.stream != f->stream)
		return;
	rm->durable = max_u64(rm->durable, h.durable_lsn);
	rm->rewritten |= old && h.epoch > old->header.epoch;
	rm->left_ring |= !recovery_ring_has_batch(old, f->stream, f->sco, h.batch);
	for (unsigned int i = 0; i < h.entry_count; i++) {
		struct log_entry entry;

		if (batch_entry_decode(block, i, h.salt, &entry, NULL) < 0)
			continue;
		rm->first = min_u64(rm->first, entry.lsn);
		rm->newest = max_u64(rm->newest, entry.lsn);
	}
}

static int read_remains(struct pool *p, const struct found *f, const struct looked *l,
			const struct ring_old *old, struct remains *rm, struct err *e)
{
	uint8_t *blocks = direct_alloc(REMAINS_BYTES);
	int r = blocks ? 0 : err_set(e, -ENOMEM, "looking at a SCO");

	for (uint64_t at = 0; r == 0 && at < l->bytes; at += REMAINS_BYTES) {
		ssize_t got = env_pread(p->env, l->file, blocks, REMAINS_BYTES, at);

		if (got < 0)
			r = err_set(e, (int)got, "reading SCO %" PRIu64, f->sco);
		for (ssize_t i = 0; i + (ssize_t)BLOCK_BYTES <= got; i += (ssize_t)BLOCK_BYTES)
			note_remains(f, old, blocks + i, rm);
	}
	free(blocks);
	return r;
}

/*
 * Whether a file without a good header held something that was synced. Without a power cut a header
 * that was written is whole, so it is damage - but for a file whose first sync failed, which may have
 * cost any of its pages: all it held is still in the ring, also if it was a recovery that copied it
 * from there; a batch that is not says that there was a sync. After a power cut, a torn header means
 * that nothing of the file was synced, unless one of its batches knows that an entry of the file was
 * durable. The same holds for files of processes before the one whose ring it is. What the stream's
 * checkpoint has is no loss: the file was on its way to be recycled, and its name came back in the
 * power cut.
 */
static int was_synced(struct pool *p, const struct found *f, const struct looked *l,
		      const struct ring_old *old, bool *ret_synced, struct err *e)
{
	struct remains rm = { .first = UINT64_MAX };
	struct checkpoint_row checkpoint = { 0 };
	bool kept = recovery_ring_has_batch(old, f->stream, f->sco, 0);
	bool of_ring = old && (f->sco >= old->header.first_sco || MUTANT(MUTANT_ANY_OF_RING));
	int r = read_remains(p, f, l, old, &rm, e);

	if (r == 0)
		r = recovery_checkpoint_of(p, f->stream, &checkpoint, e);
	if (rm.newest && rm.newest <= checkpoint.lsn)
		*ret_synced = false;
	else if (kept)
		*ret_synced = rm.left_ring;
	else
		*ret_synced =
			!rm.rewritten && (rm.durable >= rm.first ||
					  (of_ring && (!l->header_zero || rm.first != UINT64_MAX)));
	return r;
}

/* Not a SCO (any more): garbage of a crash goes, damage stays and marks its stream. */
static int give_up(struct pool *p, const struct found *f, const struct looked *l,
		   const struct sco_row *row, const struct ring_old *old, bool last, struct err *e)
{
	struct stream *stream = pool_stream(p, f->stream);
	bool synced = false;
	int r = 0;

	if (!l->header_ok && f->version == 0)
		r = was_synced(p, f, l, old, &synced, e);
	if (r < 0)
		return r;
	if (!synced && !(row && row->live_slots && last)) {
		delete_file(p, f);
		return 0;
	}
	log_error("volume: a SCO is damaged, its stream is refused for writing until repaired: "
		  "stream=%u sco=%" PRIu64 " version=%u live_clusters=%u",
		  f->stream, f->sco, f->version, row ? row->live_slots : 0);
	if (stream)
		stream->error = -EUCLEAN;
	return 0;
}

static int add_sco(struct pool *p, const struct found *f, struct looked *l,
		   const struct sco_row *row)
{
	struct sco init = {
		.number = f->sco,
		.stream = f->stream,
		.epoch = l->header.epoch,
		.salt = l->header.salt,
		.slots_max = l->header.slots_max,
		.has_cut = l->header.flags & SCO_FIRST_OF_EPOCH,
		.recycled = l->header.flags & SCO_RECYCLED,
		.cut_lsn = l->header.cut_lsn,
		.version = f->version,
		.dir = f->dir,
		.file = l->file,
		.file_bytes = l->bytes,
		.names_durable = true,
		.life = SCO_LIFE_LEFTOVER,
		.row_change = 1,
	};
	struct sco *s;
	int r;

	buf_init(&init.log, (size_t)l->header.slots_max * BATCH_ROOM_BYTES);
	if (l->sealed) {
		init.life = SCO_LIFE_SEALED;
		init.next_slot = l->footer.slot_count;
		init.batch_count = l->footer.batch_count;
		init.footer_crc = l->footer_crc;
		init.table_offset_bytes = l->footer.table_offset_bytes;
		init.first_lsn = l->footer.first_lsn;
		init.last_lsn = l->footer.last_lsn;
	}
	if (row) {
		init.live_slots = row->live_slots;
		init.durable_slots = row->state == SCO_OPEN ? row->slot_count : 0;
		if (row_seals(row, f) && l->sealed) {
			init.row_flags = row->flags;
			init.object_epoch = row->object_epoch;
			init.row_saved = 1;
		}
	}
	if (l->sealed) /* opened when needed: a large pool has more of them than file numbers */
		init.file = NULL;
	r = sco_table_add(p->scos, &init, &s);
	if (r < 0)
		return r;
	if (l->sealed)
		env_close(p->env, l->file);
	sco_unref(p->scos, s);
	return 0;
}

/*
 * The index of a sealed file that no row knows yet may still be in the page cache only; and where its
 * sync failed the cache believes it to be clean, and may drop it. So what was read and found whole is
 * written again, as it is.
 */
static int rewrite_index(struct pool *p, const struct looked *l)
{
	uint8_t *footer = direct_alloc(BLOCK_BYTES);
	int r = footer ? 0 : -ENOMEM;

	if (r == 0 && !MUTANT(MUTANT_INDEX_BELIEVED)) {
		sco_footer_encode(&l->footer, footer);
		r = env_pwrite(p->env, l->file, l->index, l->index_bytes,
			       l->footer.table_offset_bytes);
		if (r == 0)
			r = env_pwrite(p->env, l->file, footer, BLOCK_BYTES,
				       l->bytes - BLOCK_BYTES);
	}
	free(footer);
	return r;
}

/* All files of one number, the newest version first. */
struct group {
	const struct found *files;
	size_t count;
	struct sco_row row;
	bool has_row;
	int row_result;
	/* The first file was looked at before its turn came. */
	bool ahead;
	struct looked looked;
	int look_result;
	struct err why; /* of either */
};

struct groups {
	struct pool *pool;
	struct group list[GROUPS_AHEAD];
	size_t count;
};

/* What counts as soon as its index is durable for certain: synced together, for each waits long. */
struct unsettled {
	struct found found;
	struct looked looked;
	struct sco_row row;
	bool has_row;
	int result;
};

struct finder {
	struct pool *pool;
	struct groups groups;
	const struct ring_old *old;
	struct unsettled unsettled[UNSETTLED_MAX];
	unsigned int unsettled_count;
	uint32_t dirs_unsynced; /* a bit for each that has names of them */
};

static int take(struct pool *p, const struct found *f, struct looked *l, const struct sco_row *row,
		struct err *e)
{
	int r;

	flash_account(p->flash, f->dir, 0, l->bytes);
	r = add_sco(p, f, l, row);
	if (r < 0) {
		env_close(p->env, l->file);
		return err_because(e, r, "SCO %" PRIu64, f->sco);
	}
	return 0;
}

static void rewrite_one(void *arg, size_t i)
{
	struct finder *finder = arg;
	struct unsettled *u = &finder->unsettled[i];

	u->result = rewrite_index(finder->pool, &u->looked);
}

/* Once a sync has failed nobody knows of which file. */
static int sync_indices(struct finder *finder)
{
	struct env_file *files[UNSETTLED_MAX];
	int r = 0;

	parallel_each(THREADS, finder->unsettled_count, rewrite_one, finder);
	for (unsigned int i = 0; i < finder->unsettled_count && r == 0; i++) {
		files[i] = finder->unsettled[i].looked.file;
		r = finder->unsettled[i].result;
	}
	return r == 0 ? env_fdatasync_all(finder->pool->env, files, finder->unsettled_count) : r;
}

/* They count, or are as if they had never been sealed: what is before the index was synced before. */
static int settle(struct finder *finder, struct err *e)
{
	struct pool *p = finder->pool;
	int synced = sync_indices(finder), r = 0;
	unsigned int i;

	for (i = 0; i < finder->unsettled_count && r == 0; i++) {
		struct unsettled *u = &finder->unsettled[i];
		struct looked *l = &u->looked;

		free(TAKE_PTR(l->index));
		if (synced == 0) {
			finder->dirs_unsynced |= 1u << u->found.dir;
		} else {
			log_warning("volume: an index cannot be synced, it is made anew: "
				    "stream=%u sco=%" PRIu64 ": %s",
				    u->found.stream, u->found.sco, err_name(synced));
			l->sealed = false;
		}
		r = take(p, &u->found, l, u->has_row ? &u->row : NULL, e);
	}
	finder->unsettled_count -= i;
	memmove(finder->unsettled, finder->unsettled + i,
		finder->unsettled_count * sizeof(*finder->unsettled));
	return r;
}

static int sync_dirs(struct finder *finder, struct err *e)
{
	int r = 0;

	for (uint32_t dir = 0; dir < FLASH_DIRS_MAX && r == 0; dir++)
		if (finder->dirs_unsynced & 1u << dir)
			r = flash_sync_names(finder->pool->flash, dir, e);
	return r;
}

static unsigned int together(const struct pool *p, unsigned int most)
{
	uint64_t count = TOGETHER_BYTES / ((uint64_t)p->world.sco_slots * CLUSTER_BYTES);

	return (unsigned int)min_u64(most, max_u64(count, THREADS));
}

static int settle_later(struct finder *finder, const struct found *f, const struct looked *l,
			const struct sco_row *row, struct err *e)
{
	struct unsettled *u = &finder->unsettled[finder->unsettled_count++];

	*u = (struct unsettled){ .found = *f, .looked = *l, .has_row = row != NULL };
	if (row)
		u->row = *row;
	return finder->unsettled_count >= together(finder->pool, UNSETTLED_MAX) ?
		       settle(finder, e) :
		       0;
}

/*
 * Whether the row counts on the file of that name in another directory. This one came to nothing, was
 * removed, and is back after a power cut.
 */
static bool has_twin(const struct found *group, size_t count, const struct found *f,
		     const struct sco_row *row)
{
	bool twin = false;

	if (f->version != row->version || f->dir == row->cache_dir || MUTANT(MUTANT_TWIN_TAKEN))
		return false;
	for (size_t i = 0; i < count; i++)
		twin |= group[i].version == row->version && group[i].dir == row->cache_dir;
	return twin;
}

/* Nothing is looked at of that file. */
static bool is_needless(const struct group *g, const struct found *f)
{
	/* Once evicted, a name of an earlier version may come back in a power cut. */
	return g->has_row && ((is_on_backend(&g->row) && f->version < g->row.version) ||
			      has_twin(g->files, g->count, f, &g->row));
}

/* What takes time of a group, and depends on no other. */
static void look_ahead(void *arg, size_t i)
{
	struct groups *all = arg;
	struct group *g = &all->list[i];
	const struct found *f = g->files;

	g->row_result = get_row(all->pool, f->stream, f->sco, &g->row, &g->why);
	g->has_row = g->row_result == 0;
	if ((g->row_result < 0 && g->row_result != -ENOENT) || !pool_stream(all->pool, f->stream) ||
	    is_needless(g, f))
		return;
	g->look_result = look_at(all->pool, f, g->has_row ? &g->row : NULL, &g->looked, &g->why);
	g->ahead = true;
}

static int look(struct finder *finder, struct group *g, const struct found *f, struct looked *l,
		struct err *e)
{
	if (f != g->files || !g->ahead)
		return look_at(finder->pool, f, g->has_row ? &g->row : NULL, l, e);
	g->ahead = false;
	*l = g->looked;
	return g->look_result < 0 ? err_set(e, g->look_result, "%s", g->why.message) : 0;
}

/* One number: the newest version that is whole, or the one that was open; the others go. */
static int take_group(struct finder *finder, struct group *g, struct err *e)
{
	const struct found *group = g->files;
	const struct sco_row *row = g->has_row ? &g->row : NULL;
	struct pool *p = finder->pool;
	const size_t count = g->count;
	bool taken = false;
	int r;

	if (g->row_result < 0 && g->row_result != -ENOENT)
		return err_set(e, g->row_result, "%s", g->why.message);
	/* The creation of its disk was lost in a power cut: nothing of it was ever synced. */
	if (!pool_stream(p, group->stream)) {
		if (row && row->live_slots)
			return err_set(e, -EUCLEAN,
				       "SCO %" PRIu64 " holds %u live clusters of stream %u, which "
				       "is missing",
				       group->sco, row->live_slots, group->stream);
		for (size_t i = 0; i < count; i++)
			delete_file(p, &group[i]);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		const struct found *f = &group[i];
		struct looked l;

		if (taken || is_needless(g, f)) {
			delete_file(p, f);
			continue;
		}
		r = look(finder, g, f, &l, e);
		if (r < 0)
			return r;
		/* A later version came to nothing, be it of a restore that was cut off. */
		if (is_on_backend(row) && !l.sealed) {
			if (row_seals(row, f))
				log_warning("volume: the file of a SCO is damaged, its copy on the "
					    "backend takes its place: stream=%u sco=%" PRIu64,
					    f->stream, f->sco);
			looked_done(p, &l);
			delete_file(p, f);
			continue;
		}
		/* Only a sealed file is a later version; version 0 may be anything with a header. */
		if (!l.header_ok || (f->version > 0 && !l.sealed)) {
			r = give_up(p, f, &l, row, finder->old, i + 1 == count, e);
			looked_done(p, &l);
			if (r < 0)
				return r;
			continue;
		}
		if (l.sealed && !row_seals(row, f))
			r = settle_later(finder, f, &l, row, e);
		else
			r = take(p, f, &l, row, e);
		if (r < 0)
			return r;
		taken = true;
	}
	return 0;
}

/* It is read from the backend; what its row does not tell is in its footer. */
static int add_absent(struct pool *p, uint64_t stream, uint64_t number, const struct sco_row *row)
{
	struct sco init = {
		.number = number,
		.stream = (uint32_t)stream,
		.epoch = row->epoch,
		.salt = row->salt,
		.slots_max = row->slot_count,
		.next_slot = row->slot_count,
		.version = row->version,
		.dir = row->cache_dir,
		.file_bytes = row->file_bytes,
		.footer_crc = row->footer_crc,
		.first_lsn = row->first_lsn,
		.last_lsn = row->last_lsn,
		.live_slots = row->live_slots,
		.row_flags = row->flags,
		.object_epoch = row->object_epoch,
		.row_change = 1,
		.row_saved = 1,
		.names_durable = true,
		.life = SCO_LIFE_SEALED,
		.absent = true,
	};
	struct sco *s;
	int r;

	buf_init(&init.log, BATCH_ENTRY_BYTES);
	r = sco_table_add(p->scos, &init, &s);
	if (r == 0)
		sco_unref(p->scos, s);
	return r;
}

struct missing {
	struct pool *pool;
	struct meta_batch *batch;
	struct err *e;
};

/*
 * A row without a file: what was evicted, or a dead SCO whose row outlived it in a crash, or damage.
 * One that is on the backend is buried from there when it is dead, so that its object goes, too.
 */
static int check_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct missing *m = arg;
	uint64_t stream, number;
	struct row_key k;
	struct sco_row row;
	struct sco *s;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SCO, &stream, &number);
	if (r == 0)
		r = sco_row_decode(value, value_bytes, &row, m->e);
	if (r < 0)
		return r;
	s = sco_get(m->pool->scos, number);
	if (s) {
		sco_unref(m->pool->scos, s);
		return 0;
	}
	if (is_on_backend(&row) && pool_stream(m->pool, (uint32_t)stream))
		return add_absent(m->pool, stream, number, &row);
	if (row.live_slots)
		log_error("volume: a SCO is missing: stream=%" PRIu64 " sco=%" PRIu64
			  " live_clusters=%u dir=%u: their reads will fail",
			  stream, number, row.live_slots, row.cache_dir);
	else {
		k = row_key_2u64(ROW_SCO, stream, number);
		return meta_batch_delete(m->pool->meta, m->batch, &k);
	}
	return 0;
}

static int check_rows(struct pool *p, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_SCO, 0, 0);
	struct row_key until = row_key_2u64(ROW_SCO, UINT64_MAX, UINT64_MAX);
	struct missing m = { .pool = p, .e = e };
	int r;

	m.batch = meta_batch_new(p->meta, META_STATE);
	if (!m.batch)
		return err_set(e, -ENOMEM, "SCO rows");
	r = meta_iterate(p->meta, META_STATE, &from, &until, check_row, &m, e);
	if (r == 0)
		r = meta_commit(p->meta, m.batch, 0, e);
	meta_batch_free(p->meta, m.batch);
	return r < 0 ? err_wrap(e, r, "SCO rows") : 0;
}

/* The next numbers of the list, as many as are looked at together. */
static size_t next_groups(struct groups *all, const struct found_list *l, size_t i)
{
	all->count = 0;
	while (i < l->count && all->count < together(all->pool, GROUPS_AHEAD)) {
		struct group *g = &all->list[all->count++];

		*g = (struct group){ .files = l->found + i, .count = 1 };
		while (i + g->count < l->count && l->found[i + g->count].sco == g->files->sco)
			g->count++;
		i += g->count;
	}
	return i;
}

static int take_groups(struct finder *finder, struct err *e)
{
	struct groups *all = &finder->groups;
	int r = 0;

	parallel_each(THREADS, all->count, look_ahead, all);
	for (size_t i = 0; i < all->count; i++) {
		struct group *g = &all->list[i];

		if (r == 0)
			r = take_group(finder, g, e);
		if (g->ahead && g->look_result == 0) /* its turn never came */
			looked_done(finder->pool, &g->looked);
	}
	return r;
}

static int take_all(struct finder *finder, const struct found_list *l, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->count;) {
		i = next_groups(&finder->groups, l, i);
		r = take_groups(finder, e);
	}
	if (r == 0)
		r = settle(finder, e);
	if (r == 0)
		r = sync_dirs(finder, e);
	for (unsigned int i = 0; i < finder->unsettled_count; i++)
		looked_done(finder->pool, &finder->unsettled[i].looked);
	return r;
}

int recovery_find_scos(struct pool *p, const struct ring_old *old, struct err *e)
{
	struct finder *finder = calloc(1, sizeof(*finder));
	struct found_list l = { 0 };
	int r;

	if (!finder)
		return err_set(e, -ENOMEM, "looking for SCOs");
	finder->pool = finder->groups.pool = p;
	finder->old = old;
	r = flash_list(p->flash, found_add, &l, e);
	if (r == 0 && l.count)
		qsort(l.found, l.count, sizeof(*l.found), found_order);
	if (r == 0)
		r = take_all(finder, &l, e);
	free(l.found);
	free(finder);
	return r < 0 ? r : check_rows(p, e);
}
