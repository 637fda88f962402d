/*
 * restore_rows - what a root shows, fetched, verified and put as rows of the metadata.
 *
 * Memory: 40 bytes for each layer, 72 for each SCO, one image or piece of a map at a time.
 */
#include "common/log.h"
#include "volume/names.h"
#include "volume/packs.h"
#include "volume/restore_impl.h"
#include "volume/root_impl.h"

#include "backend/backend.h"
#include "common/crc32c.h"
#include "common/endian.h"

#include <stdlib.h>
#include <string.h>

#define IMAGE_BYTES_MAX ((size_t)4 << 30)
/* Rows of about this many bytes go in one commit. */
#define COMMIT_BYTES (4u << 20)
/* So many numbers are left out above the newest that is seen: some were given out since. */
#define NUMBERS_JUMP (16u * COUNTER_BLOCK)

struct rr_layer {
	uint64_t id;
	struct layer_row row;
	uint32_t stream; /* whose map has its rows; 0: not known (yet) */
};

struct rr_stream {
	uint32_t stream;
	bool in_root;
	lsn_t lsn, map_lsn;
	struct named_object map;
};

struct rr_sco {
	struct manifest_sco m;
	uint32_t stream, live;
};

struct rows_writer {
	struct restore_rows *rr;
	struct meta *meta;
	struct meta_batch *names, *state;
	struct buf value;
	struct err *e;

	/* From the namespace, ascending. */
	struct rr_layer *layers;
	size_t layer_count, layer_cap;
	struct rr_stream *streams;
	size_t stream_count, stream_cap;
	/* From the manifests; ascending by number when all are there. */
	struct rr_sco *scos;
	size_t sco_count, sco_cap;
	uint64_t object_max, layer_max, snapshot_max, stream_max, sco_max;

	/* The map that is being read. */
	const struct rr_stream *map_of;
	uint64_t at_layer, at_page; /* the last row of it; page 0: its state, else page + 1 */
	int flaw;		    /* of a page's runs */
	bool foreign;		    /* of these one names a SCO of another stream */
	uint64_t done_bytes, total_bytes;
};

/* Room for another element of a list, in w->list with w->cap. */
#define GROW(w, list, count, cap)                                                                  \
	((w)->count < (w)->cap || grow(&(w)->list, &(w)->cap, sizeof(*(w)->list)))

static bool grow(void *list, size_t *cap, size_t element_bytes)
{
	size_t more = *cap ? 2 * *cap : 256;
	void *p;

	memcpy(&p, list, sizeof(p)); /* a pointer to whatever */
	p = reallocarray(p, more, element_bytes);
	if (!p)
		return false;
	memcpy(list, &p, sizeof(p));
	*cap = more;
	return true;
}

/* --- writing ----------------------------------------------------------------------------------- */

static int commit(struct rows_writer *w, struct meta_batch **batch, enum meta_family family)
{
	int r = meta_commit(w->meta, *batch, 0, w->e);

	meta_batch_free(w->meta, *batch);
	*batch = meta_batch_new(w->meta, family);
	return r == 0 && !*batch ? err_set(w->e, -ENOMEM, "rows") : r;
}

static int put_bytes(struct rows_writer *w, enum meta_family family, const uint8_t *key,
		     size_t key_bytes, const uint8_t *value, size_t value_bytes)
{
	struct meta_batch **batch = family == META_NAMES ? &w->names : &w->state;
	int r = w->meta->ops->batch_put(*batch, key, key_bytes, value, value_bytes);

	if (r == 0 && meta_batch_bytes(w->meta, *batch) >= COMMIT_BYTES)
		r = commit(w, batch, family);
	return r;
}

/* The value is in w->value; encoded: what its encoder returned. */
static int put_value(struct rows_writer *w, enum meta_family family, const struct row_key *key,
		     int encoded)
{
	int r = encoded < 0 ? encoded :
			      put_bytes(w, family, key->bytes, key->len_bytes, w->value.data,
					w->value.len_bytes);

	buf_clear(&w->value);
	return r;
}

/* --- the namespace ----------------------------------------------------------------------------- */

static int layer_order(const void *a, const void *b)
{
	const struct rr_layer *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static struct rr_layer *find_layer(const struct rows_writer *w, uint64_t id)
{
	const struct rr_layer wanted = { .id = id };

	return w->layer_count ?
		       bsearch(&wanted, w->layers, w->layer_count, sizeof(wanted), layer_order) :
		       NULL;
}

static int stream_order(const void *a, const void *b)
{
	const struct rr_stream *x = a, *y = b;

	return (x->stream > y->stream) - (x->stream < y->stream);
}

static struct rr_stream *find_stream(const struct rows_writer *w, uint32_t stream)
{
	const struct rr_stream wanted = { .stream = stream };

	return w->stream_count ?
		       bsearch(&wanted, w->streams, w->stream_count, sizeof(wanted), stream_order) :
		       NULL;
}

static int take_layer(struct rows_writer *w, uint64_t id, const uint8_t *value, size_t value_bytes)
{
	struct layer_row row;
	int r = layer_row_decode(value, value_bytes, &row, w->e);

	if (r < 0)
		return r;
	if (w->layer_count && w->layers[w->layer_count - 1].id >= id)
		return err_set(w->e, -EUCLEAN, "layers out of order");
	if (!GROW(w, layers, layer_count, layer_cap))
		return err_set(w->e, -ENOMEM, "layers");
	w->layers[w->layer_count++] = (struct rr_layer){
		.id = id,
		.row = row,
		.stream = row.state == LAYER_FROZEN ? row.mark_stream : 0,
	};
	w->layer_max = max_u64(w->layer_max, id);
	w->object_max = max_u64(w->object_max, row.object);
	return 0;
}

static int take_object(struct rows_writer *w, uint64_t id, const uint8_t *value, size_t value_bytes)
{
	struct object_row row;
	struct rr_layer *l;
	int r = object_row_decode(value, value_bytes, &row, w->e);

	if (r < 0)
		return r;
	l = find_layer(w, row.live_layer);
	if (!l || l->row.state != LAYER_LIVE || l->row.object != id || l->stream)
		r = err_set(w->e, -EUCLEAN, "object %" PRIu64 " has no map", id);
	else
		l->stream = row.origins[0].stream;
	object_row_done(&row);
	w->object_max = max_u64(w->object_max, id);
	w->rr->result->objects++;
	return r;
}

static int take_stream(struct rows_writer *w, uint64_t id, const uint8_t *value, size_t value_bytes)
{
	struct stream_row row;
	int r = stream_row_decode(value, value_bytes, &row, w->e);

	if (r < 0)
		return r;
	if (id == 0 || id > UINT32_MAX ||
	    (w->stream_count && w->streams[w->stream_count - 1].stream >= id))
		return err_set(w->e, -EUCLEAN, "stream %" PRIu64 " out of order", id);
	if (!GROW(w, streams, stream_count, stream_cap))
		return err_set(w->e, -ENOMEM, "streams");
	w->streams[w->stream_count++] = (struct rr_stream){ .stream = (uint32_t)id };
	w->stream_max = max_u64(w->stream_max, id);
	return 0;
}

static int take_snapshot(struct rows_writer *w, uint64_t number, const uint8_t *value,
			 size_t value_bytes)
{
	struct snapshot_row row;
	const struct rr_layer *l;
	int r = snapshot_row_decode(value, value_bytes, &row, w->e);

	if (r < 0)
		return r;
	l = find_layer(w, row.layer);
	if (!l || l->row.state != LAYER_FROZEN)
		return err_set(w->e, -EUCLEAN, "snapshot %" PRIu64 " has no layer", number);
	w->snapshot_max = max_u64(w->snapshot_max, number);
	return 0;
}

/* What is in rows of the namespace is its own business, but for the numbers. */
static void note_inode(struct rows_writer *w, const uint8_t *key, size_t key_bytes)
{
	if (key_bytes == 2 + sizeof(uint64_t) && key[1] == NAMES_KEY_INODE) {
		uint64_t ino = be64_get(key + 2);

		w->object_max = max_u64(w->object_max, ino);
	}
}

static int see_name_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	struct rows_writer *w = arg;
	enum row_kind kind = (enum row_kind)key[0];
	uint64_t id = 0, number = 0;
	int r = 0;

	if (kind == ROW_FS && key_bytes <= NAMES_KEY_BYTES_MAX + 1)
		note_inode(w, key, key_bytes);
	else if (kind == ROW_LAYER || kind == ROW_OBJECT || kind == ROW_STREAM)
		r = row_key_parse_u64(key, key_bytes, kind, &id);
	else if (kind == ROW_SNAPSHOT)
		r = row_key_parse_2u64(key, key_bytes, kind, &id, &number);
	else
		r = -EUCLEAN;
	if (r < 0)
		return err_set(w->e, r, "a row that does not belong there");
	if (kind == ROW_LAYER)
		r = take_layer(w, id, value, value_bytes);
	else if (kind == ROW_OBJECT)
		r = take_object(w, id, value, value_bytes);
	else if (kind == ROW_STREAM)
		r = take_stream(w, id, value, value_bytes);
	else if (kind == ROW_SNAPSHOT)
		r = take_snapshot(w, number, value, value_bytes);
	return r < 0 ? r : put_bytes(w, META_NAMES, key, key_bytes, value, value_bytes);
}

static int check_layers(struct rows_writer *w)
{
	if (max_u64(max_u64(w->object_max, w->layer_max), w->snapshot_max) > RESTORE_NUMBER_MAX)
		return err_set(w->e, -EUCLEAN, "numbers out of range");
	for (size_t i = 0; i < w->layer_count; i++) {
		const struct rr_layer *l = &w->layers[i];

		if (l->row.state == LAYER_DROPPED)
			continue;
		if (l->stream && !find_stream(w, l->stream))
			return err_set(w->e, -EUCLEAN, "object %" PRIu64 ": stream %u is missing",
				       l->row.object, l->stream);
		if (l->row.parent && !find_layer(w, l->row.parent))
			return err_set(w->e, -EUCLEAN,
				       "object %" PRIu64 ": layer %" PRIu64 " is missing",
				       l->row.object, l->row.parent);
	}
	return 0;
}

static bool same_pool(const struct rows_writer *w, const struct uuid *pool)
{
	return memcmp(pool, &w->rr->store->pool, sizeof(*pool)) == 0;
}

static int take_namespace(struct rows_writer *w)
{
	const struct named_object *ns = &w->rr->root->ns;
	struct rows_image_header h;
	struct buf image;
	int r;

	buf_init(&image, IMAGE_BYTES_MAX);
	r = root_read_object(w->rr->pool, ns, &image, w->e);
	if (r == 0)
		r = rows_image_decode(image.data, image.len_bytes, &h, see_name_row, w, w->e);
	if (r == 0 && (h.kind != ROWS_NAMESPACE || !same_pool(w, &h.pool)))
		r = err_set(w->e, -EUCLEAN, "it is no namespace of this pool");
	if (r == 0)
		r = check_layers(w);
	w->rr->result->fetched_bytes += image.len_bytes;
	buf_done(&image);
	return r < 0 ? err_wrap(w->e, r, "names '%s'", ns->name) : 0;
}

/* --- manifests --------------------------------------------------------------------------------- */

static int take_manifest_scos(struct rows_writer *w, const struct manifest *m)
{
	for (uint32_t i = 0; i < m->sco_count; i++) {
		const struct manifest_sco *s = &m->scos[i];

		if (!GROW(w, scos, sco_count, sco_cap))
			return err_set(w->e, -ENOMEM, "SCOs");
		if (s->file_bytes % BLOCK_BYTES || s->file_bytes < 2 * (uint64_t)BLOCK_BYTES ||
		    s->file_bytes > OBJECT_BYTES_MAX)
			return err_set(w->e, -EUCLEAN, "no SCO has %" PRIu64 " bytes",
				       s->file_bytes);
		w->scos[w->sco_count++] = (struct rr_sco){ .m = *s, .stream = m->stream };
		w->sco_max = max_u64(w->sco_max, s->sco);
	}
	return 0;
}

static int take_manifest(struct rows_writer *w, const struct root_stream *rs)
{
	struct rr_stream *s = find_stream(w, rs->stream);
	struct manifest m = { 0 };
	struct buf bytes;
	int r;

	if (!s) /* its disk was made behind the cut: the root has no name for it */
		return 0;
	buf_init(&bytes, IMAGE_BYTES_MAX);
	r = root_read_object(w->rr->pool, &rs->manifest, &bytes, w->e);
	if (r == 0)
		r = manifest_decode(bytes.data, bytes.len_bytes, &m, w->e);
	if (r == 0 && (!same_pool(w, &m.pool) || m.stream != rs->stream))
		r = err_set(w->e, -EUCLEAN, "it is of another stream or pool");
	if (r == 0)
		r = take_manifest_scos(w, &m);
	if (r == 0) {
		s->in_root = true;
		s->map = m.map;
		s->map_lsn = m.map_lsn;
		s->lsn = max_u64(m.lsn, m.map_lsn);
	}
	w->rr->result->fetched_bytes += bytes.len_bytes;
	manifest_done(&m);
	buf_done(&bytes);
	return r < 0 ? err_wrap(w->e, r, "manifest '%s'", rs->manifest.name) : 0;
}

static int rr_sco_order(const void *a, const void *b)
{
	const struct rr_sco *x = a, *y = b;

	return (x->m.sco > y->m.sco) - (x->m.sco < y->m.sco);
}

static struct rr_sco *find_sco(const struct rows_writer *w, uint64_t number)
{
	const struct rr_sco wanted = { .m.sco = number };

	return w->sco_count ?
		       bsearch(&wanted, w->scos, w->sco_count, sizeof(wanted), rr_sco_order) :
		       NULL;
}

/* A listing may be behind: what it has not is asked for. */
static int check_object(struct rows_writer *w, const struct rr_sco *s)
{
	const struct store_sco wanted = { .sco = s->m.sco,
					  .epoch = s->m.object_epoch,
					  .stream = s->stream,
					  .version = s->m.version };
	const struct store_sco *found = store_find_sco(w->rr->store, &wanted);
	struct backend_object object = { 0 };
	char name[OBJECT_NAME_MAX + 1], pack[OBJECT_NAME_MAX + 1];
	uint64_t at;
	int r = 0;

	if (found && found->len_bytes == s->m.file_bytes)
		return 0;
	object_name_sco(name, s->stream, s->m.sco, s->m.version, s->m.object_epoch);
	/* A pack's directory was read, and lies behind all of its members. */
	if (!packs_find(w->rr->pool, name, pack, &at, &object.len_bytes))
		r = backend_head(w->rr->pool->backend, name, &object, w->e);
	if (r < 0)
		return err_wrap(w->e, r, "container '%s'", name);
	return object.len_bytes == s->m.file_bytes ?
		       0 :
		       err_set(w->e, -EUCLEAN,
			       "container '%s' has %" PRIu64 " bytes instead of %" PRIu64, name,
			       object.len_bytes, s->m.file_bytes);
}

static int check_scos(struct rows_writer *w)
{
	int r = 0;

	if (w->sco_count)
		qsort(w->scos, w->sco_count, sizeof(*w->scos), rr_sco_order);
	for (size_t i = 0; i < w->sco_count && r == 0; i++) {
		if (i && w->scos[i].m.sco == w->scos[i - 1].m.sco)
			return err_set(w->e, -EUCLEAN, "SCO %" PRIu64 " is in two manifests",
				       w->scos[i].m.sco);
		r = check_object(w, &w->scos[i]);
	}
	return r;
}

/*
 * Entries of an object that changed its stream since are not replayed in the old one: the map has to
 * have them.
 */
static int check_marks(struct rows_writer *w)
{
	for (size_t i = 0; i < w->layer_count; i++) {
		const struct rr_layer *l = &w->layers[i];
		const struct rr_stream *s = l->stream ? find_stream(w, l->stream) : NULL;

		if (l->row.state == LAYER_FROZEN && s && l->row.mark > s->map_lsn)
			return err_set(w->e, -EUCLEAN,
				       "the map of stream %u ends at LSN %" PRIu64
				       ", object %" PRIu64 " needs it up to %" PRIu64,
				       s->stream, s->map_lsn, l->row.object, l->row.mark);
	}
	return 0;
}

static int take_manifests(struct rows_writer *w)
{
	const struct root *root = w->rr->root;
	int r = 0;

	for (uint32_t i = 0; i < root->stream_count && r == 0; i++)
		r = take_manifest(w, &root->streams[i]);
	for (size_t i = 0; i < w->stream_count && r == 0; i++)
		if (!w->streams[i].in_root)
			r = err_set(w->e, -EUCLEAN, "the root has no manifest of stream %u",
				    w->streams[i].stream);
	if (r == 0)
		r = check_scos(w);
	return r == 0 ? check_marks(w) : r;
}

/* --- maps -------------------------------------------------------------------------------------- */

static void count_run(void *arg, const struct page_run *run)
{
	struct rows_writer *w = arg;
	struct rr_sco *s;

	if (!loc_is_place(run->loc) || w->flaw)
		return;
	s = find_sco(w, loc_sco(run->loc));
	if (!s || loc_origin(run->loc) != 0) {
		w->flaw = err_set(w->e, -EUCLEAN, "it names SCO %" PRIu64 ", which no manifest has",
				  loc_sco(run->loc));
	} else if (loc_slot(run->loc) + run->count > s->m.slot_count ||
		   s->live + run->count > SCO_SLOTS_MAX) {
		w->flaw = err_set(w->e, -EUCLEAN, "it names slots that SCO %" PRIu64 " has not",
				  s->m.sco);
	} else {
		w->foreign |= s->stream != w->map_of->stream;
		s->live += run->count;
		w->rr->result->live_bytes += (uint64_t)run->count * CLUSTER_BYTES;
	}
}

/* Each row once, so that what lives is counted once. */
static int check_place(struct rows_writer *w, uint64_t layer, uint64_t place)
{
	if (layer < w->at_layer || (layer == w->at_layer && place <= w->at_page))
		return err_set(w->e, -EUCLEAN, "rows out of order");
	w->at_layer = layer;
	w->at_page = place;
	return 0;
}

/* As the machine that is lost had it: merge.c. */
static int note_foreign(struct rows_writer *w, uint64_t layer)
{
	struct row_key key = row_key_2u64(ROW_CHANGED, layer, AREA_FOREIGN);
	struct changed_row row = { .root = w->rr->root->number + 1 };

	w->foreign = false;
	return put_value(w, META_STATE, &key, changed_row_encode(&row, &w->value));
}

static int see_map_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct rows_writer *w = arg;
	bool is_page = key[0] == ROW_PAGE;
	struct object_state_row state;
	enum page_value_kind kind = PAGE_BASE;
	const struct rr_layer *l;
	uint64_t layer, page = 0;
	int r;

	r = is_page ? row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page) :
		      row_key_parse_u64(key, key_bytes, ROW_OBJECT_STATE, &layer);
	if (r < 0 || page > CLUSTER_MAX >> PAGE_CLUSTERS_SHIFT)
		return err_set(w->e, -EUCLEAN, "a row that does not belong there");
	/* Place 0 is before all rows. */
	r = check_place(w, layer, is_page ? page + 2 : 1);
	if (r < 0)
		return r;
	l = find_layer(w, layer);
	if (!l || l->row.state == LAYER_DROPPED)
		return 0; /* it is gone, its rows mean nothing */
	if (l->stream != w->map_of->stream)
		return err_set(w->e, -EUCLEAN, "layer %" PRIu64 " is of stream %u", layer,
			       l->stream);
	if (is_page) {
		w->flaw = 0;
		w->foreign = false;
		r = page_value_decode(value, value_bytes, &kind, count_run, w, w->e);
		r = r == 0 ? w->flaw : r;
	} else {
		r = object_state_row_decode(value, value_bytes, &state, w->e);
	}
	if (r == 0 && kind != PAGE_BASE)
		r = err_set(w->e, -EUCLEAN, "a change of a page instead of a page");
	if (r < 0)
		return err_wrap(w->e, r, "object %" PRIu64 ", page %" PRIu64, l->row.object, page);
	r = put_bytes(w, META_STATE, key, key_bytes, value, value_bytes);
	return r == 0 && w->foreign ? note_foreign(w, layer) : r;
}

static int take_piece(struct rows_writer *w, const struct map_piece *piece)
{
	const struct pool_restore_options *o = w->rr->options;
	struct rows_image_header h;
	struct buf image;
	int r;

	buf_init(&image, IMAGE_BYTES_MAX);
	r = root_read_object(w->rr->pool, &piece->object, &image, w->e);
	if (r == 0)
		r = rows_image_decode(image.data, image.len_bytes, &h, see_map_row, w, w->e);
	if (r == 0 && (h.kind != ROWS_MAP || !same_pool(w, &h.pool) ||
		       h.stream != w->map_of->stream || h.lsn > w->map_of->map_lsn))
		r = err_set(w->e, -EUCLEAN, "it is no piece of this map");
	w->done_bytes += image.len_bytes;
	w->rr->result->fetched_bytes += image.len_bytes;
	buf_done(&image);
	if (r == 0 && o && o->progress)
		o->progress(o->arg, w->done_bytes, w->total_bytes);
	return r < 0 ? err_wrap(w->e, r, "map '%s'", piece->object.name) : 0;
}

/* total_only: what there is to fetch. */
static int take_map(struct rows_writer *w, const struct rr_stream *s, bool total_only)
{
	struct map_piece *pieces;
	size_t count;
	int r = root_map_pieces(w->rr->pool, &s->map, &pieces, &count, w->e);

	if (r < 0)
		return r;
	w->map_of = s;
	w->at_layer = w->at_page = 0;
	for (size_t i = 0; i < count && r == 0; i++) {
		if (total_only)
			w->total_bytes += pieces[i].object.len_bytes;
		else
			r = take_piece(w, &pieces[i]);
	}
	free(pieces);
	return r;
}

static int take_maps(struct rows_writer *w)
{
	int r = 0;

	for (size_t i = 0; i < w->stream_count && r == 0; i++)
		r = take_map(w, &w->streams[i], true);
	for (size_t i = 0; i < w->stream_count && r == 0; i++)
		r = take_map(w, &w->streams[i], false);
	return r;
}

/* --- rows that no image has -------------------------------------------------------------------- */

static int put_sco(struct rows_writer *w, const struct rr_sco *s)
{
	struct row_key key = row_key_2u64(ROW_SCO, s->stream, s->m.sco);
	struct sco_row row = {
		.state = SCO_SEALED,
		.flags = SCO_UPLOADED,
		.version = s->m.version,
		.slot_count = s->m.slot_count,
		.live_slots = s->live,
		.epoch = s->m.object_epoch,
		.object_epoch = s->m.object_epoch,
		.file_bytes = s->m.file_bytes,
		.footer_crc = s->m.footer_crc,
		.first_lsn = s->m.first_lsn,
		.last_lsn = s->m.last_lsn,
	};

	w->rr->result->scos++;
	w->rr->result->stored_bytes += s->m.file_bytes;
	return put_value(w, META_STATE, &key, sco_row_encode(&row, &w->value));
}

static int put_stream(struct rows_writer *w, const struct rr_stream *s)
{
	struct row_key key = row_key_u64(ROW_CHECKPOINT, s->stream);
	struct checkpoint_row row = { .lsn = s->map_lsn };
	struct restore_plan *plan = w->rr->plan;

	plan->targets[plan->target_count++] =
		(struct restore_target){ .stream = s->stream, .lsn = s->lsn };
	w->rr->result->streams++;
	return put_value(w, META_NAMES, &key, checkpoint_row_encode(&row, &w->value));
}

/*
 * A live layer may have begun behind what the root has of the log: of a stream that had failed, whose
 * manifest is an older one. It begins at the end of that: LSNs behind it are given out anew, to entries
 * that count.
 */
static int put_live_mark(struct rows_writer *w, struct rr_layer *l)
{
	const struct rr_stream *s = find_stream(w, l->row.mark_stream);
	struct row_key key = row_key_u64(ROW_LAYER, l->id);

	if (l->row.state != LAYER_LIVE || !s || l->row.mark <= s->lsn ||
	    MUTANT(MUTANT_RESTORED_MARK_KEPT))
		return 0;
	l->row.mark = s->lsn;
	return put_value(w, META_NAMES, &key, layer_row_encode(&l->row, &w->value));
}

static int put_counter(struct rows_writer *w, enum counter_id id, uint64_t max)
{
	struct row_key key = row_key_u64(ROW_COUNTER, id);
	struct counter_row row = { .high_water = max + 1 + NUMBERS_JUMP };

	return put_value(w, META_NAMES, &key, counter_row_encode(&row, &w->value));
}

static int put_counters(struct rows_writer *w)
{
	const struct store_names *n = w->rr->store;
	int r = put_counter(w, COUNTER_OBJECT, max_u64(w->object_max, OBJECT_FIRST_FREE));

	if (r == 0)
		r = put_counter(w, COUNTER_LAYER, w->layer_max);
	if (r == 0)
		r = put_counter(w, COUNTER_SNAPSHOT, w->snapshot_max);
	if (r == 0)
		r = put_counter(w, COUNTER_STREAM,
				max_u64(max_u64(w->stream_max, n->stream_max), STREAM_FIRST_FREE));
	return r == 0 ? put_counter(w, COUNTER_SCO, max_u64(w->sco_max, n->sco_max)) : r;
}

/* What the root condemned goes with the root after it, as it would have gone. */
static int put_root(struct rows_writer *w)
{
	const struct root *root = w->rr->root;
	struct root_row row = { .number = root->number, .epoch = root->epoch };
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	int r = put_value(w, META_NAMES, &key, root_row_encode(&row, &w->value));

	for (uint32_t i = 0; i < root->condemned_count && r == 0; i++)
		r = upload_condemn_name(w->rr->pool, w->names, root->number, root->condemned[i]);
	return r;
}

static int put_rest(struct rows_writer *w)
{
	int r = 0;

	w->rr->plan->targets = calloc(w->stream_count + 1, sizeof(*w->rr->plan->targets));
	if (!w->rr->plan->targets)
		return err_set(w->e, -ENOMEM, "streams");
	for (size_t i = 0; i < w->sco_count && r == 0; i++)
		r = put_sco(w, &w->scos[i]);
	for (size_t i = 0; i < w->stream_count && r == 0; i++)
		r = put_stream(w, &w->streams[i]);
	for (size_t i = 0; i < w->layer_count && r == 0; i++)
		r = put_live_mark(w, &w->layers[i]);
	if (r == 0)
		r = put_counters(w);
	if (r == 0)
		r = put_root(w);
	if (r < 0)
		return err_wrap(w->e, r, "rows");
	r = commit(w, &w->names, META_NAMES);
	return r == 0 ? commit(w, &w->state, META_STATE) : r;
}

int restore_put_rows(struct restore_rows *rr, struct err *e)
{
	struct rows_writer w = { .rr = rr, .meta = rr->pool->meta, .e = e };
	int r;

	buf_init(&w.value, 1u << 20);
	w.names = meta_batch_new(w.meta, META_NAMES);
	w.state = meta_batch_new(w.meta, META_STATE);
	r = w.names && w.state ? packs_restore(rr->pool, rr->root, e) : err_set(e, -ENOMEM, "rows");
	if (r == 0)
		r = take_namespace(&w);
	if (r == 0)
		r = take_manifests(&w);
	if (r == 0)
		r = take_maps(&w);
	if (r == 0)
		r = put_rest(&w);
	meta_batch_free(w.meta, w.names);
	meta_batch_free(w.meta, w.state);
	buf_done(&w.value);
	free(w.layers);
	free(w.streams);
	free(w.scos);
	return r;
}
