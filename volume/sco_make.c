#include "volume/sco_make.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/stream.h"

#include <stdlib.h>
#include <string.h>

static void freep(void *p)
{
	free(*(void **)p);
}

void *direct_alloc(size_t len_bytes)
{
	void *p = NULL;

	return posix_memalign(&p, ENV_DIRECT_ALIGN, len_bytes) == 0 ? p : NULL;
}

/* --- making ------------------------------------------------------------------------------------ */

static int write_header(struct stream_world *w, struct env_file *file, const struct sco *s,
			const struct sco_make_options *o, struct err *e)
{
	AUTO(freep) uint8_t *block = direct_alloc(BLOCK_BYTES);
	struct sco_header h = {
		.pool = w->pool,
		.stream = s->stream,
		.slots_max = s->slots_max,
		.sco = s->number,
		.version = s->version,
		.epoch = s->epoch,
		.salt = s->salt,
		.created_ns = env_now_real_ns(w->env),
		.flags = s->recycled ? SCO_RECYCLED : 0,
	};
	int r;

	if (!block)
		return err_set(e, -ENOMEM, "header of a SCO");
	if (o->first_of_epoch) {
		h.flags |= SCO_FIRST_OF_EPOCH;
		h.cut_sco = o->cut_sco;
		h.cut_batches = o->cut_batches;
		h.cut_lsn = o->cut_lsn;
	}
	sco_header_encode(&h, block);
	r = env_pwrite(w->env, file, block, BLOCK_BYTES, 0);
	return r < 0 ? err_because(e, r, "writing the header of SCO %" PRIu64, s->number) : 0;
}

/* A file that was written before; the header first, so that its new name never has an old one. */
static int take_from_stock(struct stream_world *w, const struct sco_make_options *o,
			   struct sco *init)
{
	struct flash_stock stock;
	int r = flash_take_stock(w->flash, init->file_bytes, o->prewritten, &stock);

	if (r < 0)
		return r;
	init->recycled = stock.recycled;
	r = write_header(w, stock.file, init, o, NULL);
	if (r < 0)
		flash_drop_taken(w->flash, &stock);
	else
		r = flash_name_stock(w->flash, &stock, o->stream, init->number);
	init->recycled = r == 0 && stock.recycled;
	init->file = stock.file;
	init->dir = stock.dir;
	return r;
}

/*
 * A file that could not be finished keeps its number: whatever is done about its name, that may be
 * there again after a power cut, in another directory than the one that counts.
 */
static int next_number(struct stream_world *w, struct sco *init, struct err *e)
{
	if (init->number && MUTANT(MUTANT_NUMBER_TWICE))
		return 0;
	return w->new_sco_number(w->arg, &init->number, e);
}

static int make_file(struct stream_world *w, const struct sco_make_options *o, struct sco *init,
		     struct err *e)
{
	int r = next_number(w, init, e), stock;

	if (r < 0)
		return r;
	stock = take_from_stock(w, o, init);
	if (o->prewritten)
		flash_want_stock(w->flash, init->file_bytes);
	if (stock == 0)
		return 0;
	if (stock != -ENOENT)
		r = next_number(w, init, e);
	while (r == 0) {
		r = flash_create(w->flash, o->stream, init->number, 0, init->file_bytes, o->urgent,
				 &init->file, &init->dir, e);
		if (r < 0)
			return r;
		r = write_header(w, init->file, init, o, e);
		if (r == 0)
			return 0;
		env_close(w->env, init->file);
		flash_discard(w->flash, init->dir, o->stream, init->number, 0, init->file_bytes);
		if (!flash_note_error(w->flash, init->dir, r))
			return r;
		r = next_number(w, init, e); /* another directory takes it */
	}
	return r;
}

int sco_make(struct stream_world *w, const struct sco_make_options *o, struct sco **ret_sco,
	     struct err *e)
{
	struct sco init = {
		.stream = o->stream,
		.epoch = w->epoch,
		.slots_max = w->sco_slots,
		.next_slot = 1,
		.life = SCO_LIFE_OPEN,
		.has_cut = o->first_of_epoch,
		.cut_lsn = o->cut_lsn,
		.file_bytes = (uint64_t)w->sco_slots * CLUSTER_BYTES,
	};
	int r;

	env_random(w->env, &init.salt, sizeof(init.salt));
	r = make_file(w, o, &init, e);
	if (r < 0)
		return r;
	buf_init(&init.log, (size_t)w->sco_slots * BATCH_ROOM_BYTES);
	init.crcs = calloc(w->sco_slots, sizeof(*init.crcs));
	init.frame_of_slot = calloc(w->sco_slots, sizeof(*init.frame_of_slot));
	r = init.crcs && init.frame_of_slot ? sco_table_add(w->scos, &init, ret_sco) :
					      err_set(e, -ENOMEM, "tables of a SCO");
	if (r < 0) {
		free(init.crcs);
		free(init.frame_of_slot);
		env_close(w->env, init.file);
		flash_discard(w->flash, init.dir, o->stream, init.number, 0, init.file_bytes);
	}
	return r;
}

/* --- sealing ----------------------------------------------------------------------------------- */

/* The index of a SCO in memory: chunks, log, footer, ready to be written behind slot_count. */
struct index_image {
	uint8_t *bytes;
	size_t len_bytes;
	uint32_t footer_crc;
	uint64_t table_offset_bytes;
	uint64_t file_bytes;
	lsn_t first_lsn, last_lsn;
};

static int entry_by_lsn(const void *a, const void *b)
{
	const struct log_entry *x = a, *y = b;

	return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* Mark the slots that entries name; the rest stays META (blocks, header) or DEAD (void places). */
static int fill_slots(struct slot_record *slots, uint32_t slot_count, const uint32_t *crcs,
		      const struct log_entry *entries, size_t entry_count, struct err *e)
{
	for (size_t i = 0; i < entry_count; i++) {
		const struct log_entry *entry = &entries[i];
		uint32_t count = entry->kind == ENTRY_DATA ? entry->cluster_count : 1;

		if (entry->slot == 0)
			continue;
		if (entry->slot + count > slot_count)
			return err_set(e, -EUCLEAN, "entry of LSN %" PRIu64 " leaves its SCO",
				       entry->lsn);
		for (uint32_t j = entry->slot; j < entry->slot + count; j++)
			slots[j] = (struct slot_record){ .kind = SLOT_RAW,
							 .stored_bytes = CLUSTER_BYTES,
							 .crc = crcs[j],
							 .arg = (uint64_t)j * CLUSTER_BYTES };
	}
	return 0;
}

static int decode_log(const struct buf *log, struct log_entry **ret_entries, size_t *ret_count,
		      struct err *e)
{
	size_t count = log->len_bytes / BATCH_ENTRY_BYTES;
	struct log_entry *entries = calloc(count + 1, sizeof(*entries));

	if (!entries)
		return err_set(e, -ENOMEM, "log of a SCO");
	for (size_t i = 0; i < count; i++) {
		int r = log_entry_decode(log->data + i * BATCH_ENTRY_BYTES, &entries[i], e);

		if (r < 0) {
			free(entries);
			return r;
		}
	}
	qsort(entries, count, sizeof(*entries), entry_by_lsn);
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

static int image_build(struct stream_world *w, const struct sco *s, uint32_t version,
		       lsn_t durable_lsn, struct index_image *ret_image, struct err *e)
{
	uint32_t slot_count = s->next_slot;
	uint32_t chunks = (uint32_t)div_up_u64(slot_count, SLOTS_PER_CHUNK);
	AUTO(freep) struct log_entry *entries = NULL;
	AUTO(freep) struct slot_record *slots = NULL;
	size_t entry_count = 0, log_bytes, log_room;
	struct index_image image = { 0 };
	struct sco_footer footer;
	uint8_t *p;
	int r;

	r = decode_log(&s->log, &entries, &entry_count, e);
	if (r < 0)
		return r;
	log_bytes = entry_count * BATCH_ENTRY_BYTES;
	log_room = (size_t)round_up_u64(log_bytes, BLOCK_BYTES);
	image.len_bytes = (size_t)chunks * BLOCK_BYTES + log_room + BLOCK_BYTES;
	image.table_offset_bytes = (uint64_t)slot_count * CLUSTER_BYTES;
	image.file_bytes = image.table_offset_bytes + image.len_bytes;
	slots = calloc((size_t)chunks * SLOTS_PER_CHUNK, sizeof(*slots));
	image.bytes = direct_alloc(image.len_bytes);
	if (!slots || !image.bytes) {
		free(image.bytes);
		return err_set(e, -ENOMEM, "index of a SCO");
	}
	r = fill_slots(slots, slot_count, s->crcs, entries, entry_count, e);
	if (r < 0) {
		free(image.bytes);
		return r;
	}
	memset(image.bytes, 0, image.len_bytes);
	p = image.bytes;
	for (uint32_t c = 0; c < chunks; c++, p += BLOCK_BYTES)
		slot_chunk_encode(c, s->salt, slots + (size_t)c * SLOTS_PER_CHUNK,
				  (unsigned int)min_u64(SLOTS_PER_CHUNK,
							slot_count - c * SLOTS_PER_CHUNK),
				  p);
	for (size_t i = 0; i < entry_count; i++)
		log_entry_encode(&entries[i], p + i * BATCH_ENTRY_BYTES);
	footer = (struct sco_footer){
		.pool = w->pool,
		.stream = s->stream,
		.slot_count = slot_count,
		.sco = s->number,
		.version = version,
		.epoch = s->epoch,
		.salt = s->salt,
		.first_lsn = entry_count ? entries[0].lsn : 0,
		.last_lsn = entry_count ? entries[entry_count - 1].lsn : 0,
		.table_offset_bytes = image.table_offset_bytes,
		.table_chunks = chunks,
		.table_crc = crc32c(0, image.bytes, (size_t)chunks * BLOCK_BYTES),
		.log_offset_bytes = image.table_offset_bytes + (uint64_t)chunks * BLOCK_BYTES,
		.log_entries = (uint32_t)entry_count,
		.log_crc = crc32c(0, p, log_bytes),
		.batch_count = s->batch_count,
		.file_bytes = image.file_bytes,
		.durable_lsn = durable_lsn,
	};
	sco_footer_encode(&footer, p + log_room);
	image.footer_crc = crc32c(0, p + log_room, BLOCK_BYTES);
	image.first_lsn = footer.first_lsn;
	image.last_lsn = footer.last_lsn;
	*ret_image = image;
	return 0;
}

static int image_write(struct stream_world *w, struct env_file *f, const struct index_image *image,
		       struct err *e)
{
	int r;

	r = env_pwrite(w->env, f, image->bytes, image->len_bytes, image->table_offset_bytes);
	if (r == 0) /* a hard link on the backend must have just these bytes */
		r = env_truncate(w->env, f, image->file_bytes);
	return r < 0 ? err_because(e, r, "writing an index") : 0;
}

/* From here on it is sealed; its tables in RAM go with the last reference (sco_unref). */
static void become_sealed(struct stream_world *w, struct sco *s, const struct index_image *image)
{
	struct sco_table *t = w->scos;

	mutex_lock(&t->lock);
	sco_set_sealed_locked(t, s);
	s->file_bytes = image->file_bytes;
	s->footer_crc = image->footer_crc;
	s->table_offset_bytes = image->table_offset_bytes;
	s->first_lsn = image->first_lsn;
	s->last_lsn = image->last_lsn;
	sco_row_changed_locked(t, s);
	mutex_unlock(&t->lock);
}

/* A SCO whose index was written. */
struct sealing {
	struct sco *sco;
	struct index_image image;
	struct env_file *file;
};

static int write_own_index(struct stream_world *w, struct sco *s, lsn_t durable_lsn,
			   struct sealing *sealing, struct err *e)
{
	int r;

	ASSERT(s->life == SCO_LIFE_FULL && s->batches_busy == 0);
	sealing->sco = s;
	r = image_build(w, s, s->version, durable_lsn, &sealing->image, e);
	if (r < 0)
		return r;
	r = sco_file(w->scos, s, &sealing->file, e);
	if (r == 0)
		r = image_write(w, sealing->file, &sealing->image, e);
	free(TAKE_PTR(sealing->image.bytes));
	return r;
}

int sco_seal(struct stream_world *w, const struct sco_to_seal *scos, unsigned int count,
	     struct err *e)
{
	struct sealing sealing[SCO_SEAL_MAX];
	struct env_file *files[SCO_SEAL_MAX];
	unsigned int written = 0;
	int r, first_error = 0;

	ASSERT(count <= SCO_SEAL_MAX);
	for (unsigned int i = 0; i < count; i++) {
		struct err *why = first_error ? NULL : e;

		r = write_own_index(w, scos[i].sco, scos[i].durable_lsn, &sealing[written], why);
		if (r == 0)
			files[written] = sealing[written].file;
		else if (first_error == 0)
			first_error = err_wrap(e, r, "sealing SCO %" PRIu64, scos[i].sco->number);
		written += r == 0;
	}
	r = MUTANT(MUTANT_NO_SEAL_SYNC) ? 0 : env_fdatasync_all(w->env, files, written);
	if (r < 0) /* nobody knows which one it was */
		return err_because(e, r, "syncing the indices of %u SCOs", written);
	for (unsigned int i = 0; i < written; i++) {
		struct sco *s = sealing[i].sco;

		flash_account(w->flash, s->dir, s->file_bytes, sealing[i].image.file_bytes);
		become_sealed(w, s, &sealing[i].image);
	}
	return first_error;
}

/* --- resealing --------------------------------------------------------------------------------- */

#define COPY_CLUSTERS 256u

static int copy_data(struct stream_world *w, struct sco *s, uint32_t version, struct env_file *to,
		     struct err *e)
{
	AUTO(freep) uint8_t *chunk = direct_alloc((size_t)COPY_CLUSTERS * CLUSTER_BYTES);
	struct sco_header h;
	int r;

	if (!chunk)
		return err_set(e, -ENOMEM, "copying a SCO");
	for (uint32_t slot = 0; slot < s->next_slot;) {
		uint32_t count = (uint32_t)min_u64(COPY_CLUSTERS, s->next_slot - slot);

		r = sco_read(w->scos, s, slot, count, chunk, e);
		if (r < 0)
			return r;
		if (slot == 0) {
			r = sco_header_decode(chunk, &h, e);
			if (r < 0)
				return r;
			h.version = version;
			sco_header_encode(&h, chunk);
		}
		r = env_pwrite(w->env, to, chunk, (size_t)count * CLUSTER_BYTES,
			       (uint64_t)slot * CLUSTER_BYTES);
		if (r < 0)
			return err_because(e, r, "copying a SCO");
		slot += count;
	}
	return 0;
}

/* The new file, not yet durable. On return of an error there is none. */
static int write_copy(struct stream_world *w, const struct sco_copy *c, struct index_image *image,
		      struct env_file **ret_file, uint32_t *ret_dir, struct err *e)
{
	struct sco *s = c->sco;
	uint32_t version = s->version + 1;
	int r;

	ASSERT(s->life == SCO_LIFE_LEFTOVER);
	r = image_build(w, s, version, c->durable_lsn, image, e);
	if (r < 0)
		return r;
	r = flash_create(w->flash, s->stream, s->number, version, image->file_bytes, true, ret_file,
			 ret_dir, e);
	if (r < 0) {
		free(TAKE_PTR(image->bytes));
		return r;
	}
	r = copy_data(w, s, version, *ret_file, e);
	if (r == 0)
		r = image_write(w, *ret_file, image, e);
	free(TAKE_PTR(image->bytes));
	if (r < 0) {
		env_close(w->env, TAKE_PTR(*ret_file));
		flash_discard(w->flash, *ret_dir, s->stream, s->number, version, image->file_bytes);
	}
	return r;
}

/* Readers find the copy from here on. */
static void take_copy(struct stream_world *w, struct sco_copy *c, const struct index_image *image,
		      struct env_file *f, uint32_t dir)
{
	struct sco *s = c->sco;
	struct env_file *old;

	mutex_lock(&w->scos->lock);
	c->old_version = s->version;
	c->old_dir = s->dir;
	c->old_bytes = s->file_bytes;
	old = s->file;
	s->file = f;
	if (!old)
		w->scos->open_files++;
	s->version++;
	s->dir = dir;
	s->old_file = old; /* a reader may be using it: closed with the last reference */
	mutex_unlock(&w->scos->lock);
	become_sealed(w, s, image);
	c->done = true;
}

static int sync_copies(struct stream_world *w, struct env_file **files, uint32_t dirs,
		       unsigned int count, struct err *e)
{
	int r = MUTANT(MUTANT_NO_SEAL_SYNC) ? 0 : env_fdatasync_all(w->env, files, count);

	if (r < 0)
		return err_because(e, r, "syncing copies of %u SCOs", count);
	for (uint32_t dir = 0; dir < FLASH_DIRS_MAX && r == 0; dir++)
		if (dirs & 1u << dir)
			r = flash_sync_names(w->flash, dir, e);
	return r;
}

int sco_reseal(struct stream_world *w, struct sco_copy *copies, unsigned int count, struct err *e)
{
	struct index_image images[SCO_SEAL_MAX];
	struct env_file *files[SCO_SEAL_MAX];
	uint32_t in_dir[SCO_SEAL_MAX], dirs = 0;
	struct sco_copy *written[SCO_SEAL_MAX];
	unsigned int n = 0;
	int r, first_error = 0;

	ASSERT(count <= SCO_SEAL_MAX);
	for (unsigned int i = 0; i < count; i++) {
		copies[i].done = false;
		r = write_copy(w, &copies[i], &images[n], &files[n], &in_dir[n],
			       first_error ? NULL : e);
		if (r == 0) {
			dirs |= 1u << in_dir[n];
			written[n++] = &copies[i];
		} else if (first_error == 0) {
			first_error =
				err_wrap(e, r, "resealing SCO %" PRIu64, copies[i].sco->number);
		}
	}
	r = n ? sync_copies(w, files, dirs, n, first_error ? NULL : e) : 0;
	for (unsigned int i = 0; i < n; i++) {
		const struct sco *s = written[i]->sco;

		if (r == 0) {
			take_copy(w, written[i], &images[i], files[i], in_dir[i]);
			continue;
		}
		env_close(w->env, files[i]);
		flash_discard(w->flash, in_dir[i], s->stream, s->number, s->version + 1,
			      images[i].file_bytes);
	}
	/* Nobody knows which one it was: alone, those that are in a good directory come through. */
	for (unsigned int i = 0; r < 0 && n > 1 && i < n; i++) {
		int alone = sco_reseal(w, written[i], 1, first_error ? NULL : e);

		if (first_error == 0)
			first_error = alone;
	}
	return first_error || n > 1 ? first_error : r;
}
