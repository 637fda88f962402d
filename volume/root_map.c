/*
 * root_map - maps on the backend: an index that names pieces, each an image of consecutive rows.
 *
 * A piece is put once and taken over by the maps to come until a row in it changes: checkpoints mark
 * what they change (ROW_CHANGED, in the commit that changes it), and a committed root takes the marks
 * away. So a map costs what changed, and no more memory than a piece, whatever its size.
 */
#include "volume/mutant.h"
#include "volume/root_impl.h"

#include <stdlib.h>
#include <string.h>

/* A piece ends behind the row that brings it here. */
#define PIECE_BYTES_DEFAULT ((size_t)4 << 20)
#define INDEX_BYTES_MAX	    ((size_t)1 << 30)

/* --- layers and marks -------------------------------------------------------------------------- */

struct layer_list {
	struct root_builder *b;
	size_t cap;
	struct err *e;
};

static int add_layer(struct layer_list *l, uint64_t id, uint32_t stream)
{
	struct root_builder *b = l->b;

	if (b->layer_count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct root_layer *more = reallocarray(b->layers, cap, sizeof(*more));

		if (!more)
			return err_set(l->e, -ENOMEM, "%zu layers", cap);
		b->layers = more;
		l->cap = cap;
	}
	b->layers[b->layer_count++] = (struct root_layer){ .id = id, .stream = stream };
	return 0;
}

static int see_object(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct layer_list *l = arg;
	struct object_row row;
	int r;

	(void)key;
	(void)key_bytes;
	r = object_row_decode(value, value_bytes, &row, l->e);
	if (r < 0)
		return r;
	if (row.origin_count)
		r = add_layer(l, row.live_layer, row.origins[0].stream);
	object_row_done(&row);
	return r;
}

static int by_stream(const void *a, const void *b)
{
	const struct stream_cut *x = a, *y = b;

	return (x->manifest.stream > y->manifest.stream) -
	       (x->manifest.stream < y->manifest.stream);
}

static struct stream_cut *find_cut(struct root_builder *b, uint32_t stream)
{
	const struct stream_cut wanted = { .manifest.stream = stream };

	return b->stream_count ?
		       bsearch(&wanted, b->streams, b->stream_count, sizeof(wanted), by_stream) :
		       NULL;
}

static void note_mark(struct root_builder *b, uint32_t stream, lsn_t mark)
{
	struct stream_cut *cut = find_cut(b, stream);

	if (cut)
		cut->mark = max_u64(cut->mark, mark);
}

static int see_layer(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct layer_list *l = arg;
	struct layer_row row;
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_LAYER, &id);
	if (r == 0)
		r = layer_row_decode(value, value_bytes, &row, l->e);
	if (r < 0 || row.state != LAYER_FROZEN)
		return r;
	note_mark(l->b, row.mark_stream, row.mark);
	return add_layer(l, id, row.mark_stream);
}

static int by_id(const void *a, const void *b)
{
	const struct root_layer *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static bool layer_is_known(const struct root_builder *b, uint64_t id)
{
	const struct root_layer wanted = { .id = id };

	return b->layer_count &&
	       bsearch(&wanted, b->layers, b->layer_count, sizeof(wanted), by_id) != NULL;
}

struct area_list {
	struct root_builder *b;
	size_t cap;
	struct err *e;
};

static int see_change(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct area_list *l = arg;
	struct root_builder *b = l->b;
	struct changed_area a = { 0 };
	struct changed_row row;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_CHANGED, &a.layer, &a.area);
	if (r == 0)
		r = changed_row_decode(value, value_bytes, &row, l->e);
	if (r < 0)
		return r;
	if (b->area_count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct changed_area *more = reallocarray(b->areas, cap, sizeof(*more));

		if (!more)
			return err_set(l->e, -ENOMEM, "%zu changed areas", cap);
		b->areas = more;
		l->cap = cap;
	}
	a.done = !layer_is_known(b, a.layer);
	b->areas[b->area_count++] = a;
	return 0;
}

static int load_areas(struct root_builder *b, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CHANGED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CHANGED, UINT64_MAX, UINT64_MAX);
	struct area_list l = { .b = b, .e = e };
	int r;

	r = meta_view_iterate(b->pool->meta, b->view, META_STATE, &from, &until, see_change, &l, e);
	return r < 0 ? err_wrap(e, r, "changed areas") : 0;
}

static void note_area(struct root_builder *b, const struct changed_area *a)
{
	const struct root_layer wanted = { .id = a->layer };
	const struct root_layer *l = b->layer_count ? bsearch(&wanted, b->layers, b->layer_count,
							      sizeof(wanted), by_id) :
						      NULL;
	struct stream_cut *cut = l ? find_cut(b, l->stream) : NULL;

	if (!cut)
		return;
	if (a->area == AREA_FOREIGN)
		cut->foreign = true;
	else
		cut->changed = true;
	if (a->area == AREA_UNLOGGED)
		cut->unlogged = true;
}

int root_map_begin(struct root_builder *b, struct err *e)
{
	struct row_key o_from = row_key_u64(ROW_OBJECT, 0);
	struct row_key o_until = row_key_u64(ROW_OBJECT, UINT64_MAX);
	struct row_key l_from = row_key_u64(ROW_LAYER, 0);
	struct row_key l_until = row_key_u64(ROW_LAYER, UINT64_MAX);
	struct layer_list l = { .b = b, .e = e };
	int r;

	r = meta_view_iterate(b->pool->meta, b->view, META_NAMES, &o_from, &o_until, see_object, &l,
			      e);
	if (r == 0)
		r = meta_view_iterate(b->pool->meta, b->view, META_NAMES, &l_from, &l_until,
				      see_layer, &l, e);
	if (r < 0)
		return err_wrap(e, r, "layers");
	if (b->layer_count)
		qsort(b->layers, b->layer_count, sizeof(*b->layers), by_id);
	r = load_areas(b, e);
	for (size_t i = 0; i < b->area_count && r == 0; i++)
		note_area(b, &b->areas[i]);
	return r;
}

/* The first changed area of a layer that is not before `area`; area_count: none. */
static size_t find_area(const struct root_builder *b, uint64_t layer, uint64_t area)
{
	size_t lo = 0, hi = b->area_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct changed_area *a = &b->areas[mid];

		if (a->layer < layer || (a->layer == layer && a->area < area))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < b->area_count && b->areas[lo].layer == layer ? lo : b->area_count;
}

/* --- an old map -------------------------------------------------------------------------------- */

struct piece_list {
	struct map_piece *pieces;
	size_t count, cap;
	struct err *e;
};

static int piece_list_add(struct piece_list *l, const struct map_piece *piece)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct map_piece *more = reallocarray(l->pieces, cap, sizeof(*more));

		if (!more)
			return err_set(l->e, -ENOMEM, "%zu pieces of a map", cap);
		l->pieces = more;
		l->cap = cap;
	}
	l->pieces[l->count++] = *piece;
	return 0;
}

static int see_piece(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct piece_list *l = arg;
	struct map_piece piece, *last = l->count ? &l->pieces[l->count - 1] : NULL;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_MAP_PIECE, &piece.layer, &piece.page);
	if (r == 0)
		r = map_piece_decode(value, value_bytes, &piece, l->e);
	if (r < 0)
		return r;
	if (last &&
	    (last->layer > piece.layer || (last->layer == piece.layer && last->page >= piece.page)))
		return err_set(l->e, -EUCLEAN, "pieces of a map out of order");
	return piece_list_add(l, &piece);
}

int root_map_pieces(struct pool *p, const struct named_object *map, struct map_piece **ret_pieces,
		    size_t *ret_count, struct err *e)
{
	struct rows_image_header h;
	struct piece_list l = { .e = e };
	struct buf bytes;
	int r = 0;

	buf_init(&bytes, INDEX_BYTES_MAX);
	if (map->name[0]) {
		r = root_read_object(p, map, &bytes, e);
		if (r == 0)
			r = rows_image_decode(bytes.data, bytes.len_bytes, &h, see_piece, &l, e);
		if (r == 0 && h.kind != ROWS_MAP_INDEX)
			r = err_set(e, -EUCLEAN, "it is no index of a map");
		if (r == 0 && memcmp(&h.pool, &p->uuid, sizeof(h.pool)) != 0)
			r = err_set(e, -EUCLEAN, "it is of another pool");
	}
	buf_done(&bytes);
	if (r < 0) {
		free(l.pieces);
		return err_wrap(e, r, "map '%s'", map->name);
	}
	*ret_pieces = l.pieces;
	*ret_count = l.count;
	return 0;
}

int root_map_condemn(struct root_builder *b, const struct named_object *map, struct err *e)
{
	struct map_piece *pieces;
	size_t count;
	int r = root_map_pieces(b->pool, map, &pieces, &count, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count && r == 0; i++)
		r = root_condemn(b, pieces[i].object.name, e);
	free(pieces);
	return r == 0 ? root_condemn(b, map->name, e) : r;
}

/* --- a new map --------------------------------------------------------------------------------- */

struct map_writer {
	struct root_builder *b;
	uint32_t stream;
	lsn_t lsn;
	uint64_t *layers; /* of the stream, ascending */
	size_t layer_count;
	size_t piece_bytes;
	uint32_t number;	 /* of the next piece */
	struct buf rows;	 /* the piece that is being filled; empty: none */
	struct map_piece at;	 /* where it begins */
	bool may_end;		 /* the next row may begin another piece */
	struct piece_list ready; /* pieces of the new map so far */
	struct err *e;
};

/* Where a piece begins, as one number pair that sorts: rows of a layer from `page` on. */
struct map_place {
	uint64_t layer, page;
};

static struct rows_image_header image_header(const struct map_writer *w, enum rows_image_kind kind)
{
	return (struct rows_image_header){ .pool = w->b->pool->uuid,
					   .kind = kind,
					   .stream = w->stream,
					   .epoch = w->b->pool->epoch,
					   .lsn = w->lsn };
}

static int end_piece(struct map_writer *w)
{
	int r;

	if (!w->rows.len_bytes)
		return 0;
	object_name_map_piece(w->at.object.name, w->stream, w->b->number, w->number++,
			      w->b->pool->epoch);
	r = rows_image_end(&w->rows);
	if (r == 0)
		r = root_put_object(w->b, &w->rows, &w->at.object, w->e);
	if (r == 0)
		r = piece_list_add(&w->ready, &w->at);
	buf_clear(&w->rows);
	return r;
}

static int write_row(struct map_writer *w, struct map_place at, const uint8_t *key,
		     size_t key_bytes, const uint8_t *value, size_t value_bytes)
{
	struct rows_image_header h = image_header(w, ROWS_MAP);
	int r = 0;

	if (w->may_end && w->rows.len_bytes >= w->piece_bytes)
		r = end_piece(w);
	if (r == 0 && !w->rows.len_bytes) {
		w->at = (struct map_piece){ .layer = at.layer, .page = at.page };
		r = rows_image_begin(&h, &w->rows);
	}
	return r == 0 ? rows_image_add(&w->rows, key, key_bytes, value, value_bytes) : r;
}

static int write_state(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct map_writer *w = arg;
	struct map_place at = { 0 };
	int r = row_key_parse_u64(key, key_bytes, ROW_OBJECT_STATE, &at.layer);

	if (r == 0)
		r = write_row(w, at, key, key_bytes, value, value_bytes);
	w->may_end = false; /* else page 0 would seem to begin a piece that has no state */
	return r;
}

static int write_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct map_writer *w = arg;
	struct map_place at;
	int r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &at.layer, &at.page);

	if (r == 0)
		r = write_row(w, at, key, key_bytes, value, value_bytes);
	w->may_end = true;
	return r;
}

/* Index of the first of the stream's layers that is not before id. */
static size_t find_layer(const struct map_writer *w, uint64_t id)
{
	size_t lo = 0, hi = w->layer_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (w->layers[mid] < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* All rows of the stream from one place up to another. */
static int write_rows(struct map_writer *w, struct map_place from, struct map_place until)
{
	struct meta *meta = w->b->pool->meta;
	const struct meta_view *view = w->b->view;
	int r = 0;

	for (size_t i = find_layer(w, from.layer); i < w->layer_count && r == 0; i++) {
		uint64_t layer = w->layers[i];
		uint64_t first = layer == from.layer ? from.page : 0;
		uint64_t end = layer == until.layer ? until.page : UINT64_MAX;
		struct row_key p_from = row_key_2u64(ROW_PAGE, layer, first);
		struct row_key p_until = row_key_2u64(ROW_PAGE, layer, end);
		struct row_key s_from = row_key_u64(ROW_OBJECT_STATE, layer);
		struct row_key s_until = row_key_u64(ROW_OBJECT_STATE, layer + 1);

		if (layer > until.layer || end == 0)
			break;
		if (first == 0) {
			w->may_end = true;
			r = meta_view_iterate(meta, view, META_STATE, &s_from, &s_until,
					      write_state, w, w->e);
		}
		if (r == 0)
			r = meta_view_iterate(meta, view, META_STATE, &p_from, &p_until, write_page,
					      w, w->e);
	}
	return r;
}

/* Layers whose page 0 lies in a range. */
static size_t layers_within(const struct map_writer *w, struct map_place from,
			    struct map_place until)
{
	return find_layer(w, until.layer + (until.page > 0 && until.layer < UINT64_MAX)) -
	       find_layer(w, from.layer + (from.page > 0));
}

static bool has_changed(const struct map_writer *w, const struct map_piece *piece,
			struct map_place from, struct map_place until)
{
	size_t i = find_layer(w, from.layer);

	if (layers_within(w, from, until) != piece->layers)
		return true;
	if (from.page > 0 && (i == w->layer_count || w->layers[i] != from.layer))
		return true;
	for (; i < w->layer_count && w->layers[i] <= until.layer; i++) {
		uint64_t layer = w->layers[i];
		uint64_t first = layer == from.layer ? from.page : 0;
		uint64_t end = layer == until.layer ? until.page : UINT64_MAX;
		size_t at = find_area(w->b, layer, first >> AREA_PAGES_SHIFT);

		if (at < w->b->area_count && end > w->b->areas[at].area << AREA_PAGES_SHIFT)
			return true;
	}
	return false;
}

/* Rows before the first piece are its own, those behind the last one as well. */
static struct map_place place_of(const struct piece_list *l, size_t i)
{
	if (i == 0)
		return (struct map_place){ 0 };
	if (i == l->count)
		return (struct map_place){ UINT64_MAX, UINT64_MAX };
	return (struct map_place){ l->pieces[i].layer, l->pieces[i].page };
}

static int write_map(struct map_writer *w, const struct piece_list *old)
{
	bool behind_changed = false;
	int r = 0;

	if (!old->count)
		r = write_rows(w, place_of(old, 0), (struct map_place){ UINT64_MAX, UINT64_MAX });
	for (size_t i = 0; i < old->count && r == 0; i++) {
		const struct map_piece *piece = &old->pieces[i];
		struct map_place from = place_of(old, i), until = place_of(old, i + 1);

		/* Small ones do not stay small for ever. */
		if (has_changed(w, piece, from, until) ||
		    (behind_changed && piece->object.len_bytes < w->piece_bytes / 4)) {
			r = write_rows(w, from, until);
			if (r == 0)
				r = root_condemn(w->b, piece->object.name, w->e);
			behind_changed = true;
		} else {
			r = end_piece(w);
			if (r == 0)
				r = piece_list_add(&w->ready, piece);
			behind_changed = false;
		}
	}
	return r == 0 ? end_piece(w) : r;
}

static int put_index(struct map_writer *w, struct manifest *m)
{
	struct rows_image_header h = image_header(w, ROWS_MAP_INDEX);
	struct buf value;
	int r;

	buf_clear(&w->rows);
	buf_init(&value, 4096);
	r = rows_image_begin(&h, &w->rows);
	for (size_t i = 0; i < w->ready.count && r == 0; i++) {
		struct map_piece *piece = &w->ready.pieces[i];
		struct row_key key = row_key_2u64(ROW_MAP_PIECE, piece->layer, piece->page);

		piece->layers = (uint32_t)layers_within(w, place_of(&w->ready, i),
							place_of(&w->ready, i + 1));
		buf_clear(&value);
		r = map_piece_encode(piece, &value);
		if (r == 0)
			r = rows_image_add(&w->rows, key.bytes, key.len_bytes, value.data,
					   value.len_bytes);
	}
	if (r == 0)
		r = rows_image_end(&w->rows);
	if (r == 0) {
		/* Not the LSN: without a new entry the rows change, too (an object is deleted), and
		 * the root before needs its map as it was. */
		object_name_map(m->map.name, w->stream, w->b->number, w->b->pool->epoch);
		r = root_put_object(w->b, &w->rows, &m->map, w->e);
		m->map_lsn = w->lsn;
	}
	buf_done(&value);
	return r;
}

static int own_layers(struct map_writer *w)
{
	const struct root_builder *b = w->b;

	w->layers = calloc(b->layer_count + 1, sizeof(*w->layers));
	if (!w->layers)
		return err_set(w->e, -ENOMEM, "%zu layers", b->layer_count);
	for (size_t i = 0; i < b->layer_count; i++)
		if (b->layers[i].stream == w->stream)
			w->layers[w->layer_count++] = b->layers[i].id;
	return 0;
}

static void note_done(struct map_writer *w)
{
	struct root_builder *b = w->b;

	for (size_t i = 0; i < w->layer_count; i++)
		for (size_t at = find_area(b, w->layers[i], 0);
		     at < b->area_count && b->areas[at].layer == w->layers[i]; at++)
			b->areas[at].done = b->areas[at].area != AREA_FOREIGN;
}

int root_map_put(struct root_builder *b, struct stream_cut *cut, const struct named_object *old,
		 struct err *e)
{
	size_t wanted = b->pool->options.map_piece_bytes;
	struct map_writer w = {
		.b = b, .stream = cut->manifest.stream, .lsn = cut->checkpoint_lsn, .e = e
	};
	struct piece_list before = { .e = e };
	int r;

	w.ready.e = e;
	w.piece_bytes = wanted ? wanted : PIECE_BYTES_DEFAULT;
	buf_init(&w.rows, INDEX_BYTES_MAX);
	r = own_layers(&w);
	if (r == 0)
		r = root_map_pieces(b->pool, old, &before.pieces, &before.count, e);
	if (r == 0)
		r = write_map(&w, &before);
	if (r == 0)
		r = put_index(&w, &cut->manifest);
	if (r == 0)
		r = root_condemn(b, old->name, e);
	if (r == 0)
		note_done(&w);
	free(before.pieces);
	free(w.ready.pieces);
	free(w.layers);
	buf_done(&w.rows);
	return r < 0 ? err_wrap(e, r, "map of stream %u", w.stream) : 0;
}

struct mark_list {
	struct root_builder *b;
	struct meta_batch *batch;
	struct err *e;
};

/* A mark that a checkpoint made since the cut says another root. */
static int take_mark(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct mark_list *l = arg;
	struct root_builder *b = l->b;
	struct changed_area a = { 0 };
	struct changed_row row;
	struct row_key own;
	size_t at;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_CHANGED, &a.layer, &a.area);
	if (r == 0)
		r = changed_row_decode(value, value_bytes, &row, l->e);
	if (r < 0)
		return r;
	at = find_area(b, a.layer, a.area);
	if (at == b->area_count || b->areas[at].area != a.area || !b->areas[at].done ||
	    (row.root > b->number && !MUTANT(MUTANT_MARK_LOST)))
		return 0;
	own = row_key_2u64(ROW_CHANGED, a.layer, a.area);
	return meta_batch_delete(b->pool->meta, l->batch, &own);
}

int root_map_committed(struct root_builder *b, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CHANGED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CHANGED, UINT64_MAX, UINT64_MAX);
	struct meta *meta = b->pool->meta;
	struct mark_list l = { .b = b, .e = e };
	int r;

	if (!b->area_count)
		return 0;
	l.batch = meta_batch_new(meta, META_STATE);
	r = l.batch ? meta_iterate(meta, META_STATE, &from, &until, take_mark, &l, e) :
		      err_set(e, -ENOMEM, "changed areas");
	/* Not flushed: a mark that comes back costs a piece that need not have been put. */
	if (r == 0)
		r = meta_commit(meta, l.batch, 0, e);
	meta_batch_free(meta, l.batch);
	return r < 0 ? err_wrap(e, r, "changed areas") : 0;
}

void root_map_done(struct root_builder *b)
{
	free(b->layers);
	free(b->areas);
}
