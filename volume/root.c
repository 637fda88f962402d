/*
 * root - the commit point of the pool on the backend: a namespace snapshot, one manifest a stream,
 * and the small numbered object that names them. Whatever a root names was put before it. What it
 * shows was settled by root_cut.c; checkpoints and requests go on while it is put.
 *
 * A stream's manifest is written anew when its SCOs changed. SCOs younger than the map that it names
 * are replayed by a restore. A new map (root_map.c) is needed once a SCO left whose log the old one
 * does not cover, or an object left the stream, whose entries nobody replays, or rows moved between
 * layers; where rows name SCOs of other streams, with each change; and now and then, so that
 * a restore has not much to replay.
 */
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/pool_life.h"
#include "volume/root_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Largest image, manifest or root that is put in one piece. */
#define IMAGE_BYTES_MAX ((size_t)4 << 30)
/* SCOs of a stream that a restore may have to replay: it fetches an index of each. */
#define REPLAY_SCOS_MAX 64u

/* --- the namespace ----------------------------------------------------------------------------- */

static int add_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	return rows_image_add(arg, key, key_bytes, value, value_bytes);
}

/*
 * Whether the old root's snapshot has these very bytes. Its checksum in the root cannot tell: it is
 * over an image that ends with its own, which makes it the same for all.
 */
static int is_old_namespace(struct root_builder *b, const struct buf *image, bool *ret_same,
			    struct err *e)
{
	const struct named_object *old = &b->old.ns;
	struct buf bytes;
	int r;

	*ret_same = false;
	if (!old->name[0] || old->len_bytes != image->len_bytes)
		return 0;
	buf_init(&bytes, IMAGE_BYTES_MAX);
	r = root_read_object(b->pool, old, &bytes, e);
	*ret_same = r == 0 && memcmp(bytes.data, image->data, image->len_bytes) == 0;
	buf_done(&bytes);
	return r;
}

static int namespace_image(struct root_builder *b, struct err *e)
{
	static const enum row_kind kinds[] = { ROW_FS, ROW_LAYER, ROW_SNAPSHOT, ROW_OBJECT,
					       ROW_STREAM };
	struct pool *p = b->pool;
	struct rows_image_header h = { .pool = p->uuid, .kind = ROWS_NAMESPACE, .epoch = p->epoch };
	struct buf image;
	bool same = false;
	int r;

	buf_init(&image, IMAGE_BYTES_MAX);
	r = rows_image_begin(&h, &image);
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r == 0; i++) {
		struct row_key from = { .bytes = { (uint8_t)kinds[i] }, .len_bytes = 1 };
		struct row_key until = { .bytes = { (uint8_t)(kinds[i] + 1) }, .len_bytes = 1 };

		r = meta_view_iterate(p->meta, b->view, META_NAMES, &from, &until, add_row, &image,
				      e);
	}
	if (r == 0)
		r = rows_image_end(&image);
	if (r == 0)
		r = is_old_namespace(b, &image, &same, e);
	if (r == 0 && same) {
		b->new.ns = b->old.ns;
	} else if (r == 0) {
		b->changed = true;
		object_name_namespace(b->new.ns.name, b->number, p->epoch);
		r = root_put_object(b, &image, &b->new.ns, e);
		if (r == 0)
			r = root_condemn(b, b->old.ns.name, e);
	}
	buf_done(&image);
	return r < 0 ? err_wrap(e, r, "namespace snapshot") : 0;
}

/* --- manifests --------------------------------------------------------------------------------- */

static bool same_scos(const struct manifest *a, const struct manifest *b)
{
	return a->sco_count == b->sco_count && a->lsn == b->lsn &&
	       (a->sco_count == 0 ||
		memcmp(a->scos, b->scos, a->sco_count * sizeof(*a->scos)) == 0);
}

/* Whether every SCO that the old manifest had is in the new one, too. */
static bool lost_a_sco(const struct manifest *old, const struct manifest *new)
{
	uint32_t j = 0;

	for (uint32_t i = 0; i < old->sco_count; i++) {
		while (j < new->sco_count &&new->scos[j].sco < old->scos[i].sco)
			j++;
		if (j == new->sco_count || new->scos[j].sco != old->scos[i].sco)
			return true;
	}
	return false;
}

/* Whether entries between its map and its end are on no SCO of it: one came and died since the last. */
static bool log_has_hole(const struct manifest *m)
{
	lsn_t end = m->map_lsn;

	for (uint32_t i = 0; i < m->sco_count; i++) {
		if (m->scos[i].first_lsn > end + 1)
			return true;
		end = max_u64(end, m->scos[i].last_lsn);
	}
	return end < m->lsn;
}

static bool log_is_long(const struct manifest *m)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < m->sco_count; i++)
		count += m->scos[i].last_lsn > m->map_lsn;
	return count > REPLAY_SCOS_MAX;
}

int root_read_object(struct pool *p, const struct named_object *o, struct buf *out, struct err *e)
{
	uint8_t *to;

	if (root_parts_find(p, o->name, out))
		return 0;
	buf_clear(out);
	to = o->len_bytes <= IMAGE_BYTES_MAX ? buf_extend(out, (size_t)o->len_bytes) : NULL;
	if (!to)
		return err_set(e, -ENOMEM, "'%s'", o->name);
	return packs_get_verified(p, o->name, to, (size_t)o->len_bytes, o->crc, e);
}

static const struct root_stream *old_stream(const struct root_builder *b, uint32_t stream)
{
	for (uint32_t i = 0; i < b->old.stream_count; i++)
		if (b->old.streams[i].stream == stream)
			return &b->old.streams[i];
	return NULL;
}

int root_condemn(struct root_builder *b, const char *name, struct err *e)
{
	int r = name[0] ? upload_condemn_name(b->pool, b->names, b->number, name) : 0;

	return r < 0 ? err_because(e, r, "condemning '%s'", name) : 0;
}

static int try_name(struct root_builder *b, const char *name, struct err *e)
{
	int r = upload_condemn_name(b->pool, b->tried, b->number, name);

	b->any_tried |= r == 0;
	return r < 0 ? err_because(e, r, "putting '%s'", name) : 0;
}

static int put_by_itself(struct root_builder *b, const struct buf *bytes,
			 struct named_object *object, struct err *e)
{
	int r = try_name(b, object->name, e);

	if (r == 0)
		r = upload_put_buf(b->pool, bytes, object, e);
	if (r == 0)
		root_parts_keep(b->pool, object->name, bytes);
	return r;
}

int root_put_waiting(struct root_builder *b, struct err *e)
{
	struct pack_maker *m = b->pack_count ? &b->packs[b->pack_count - 1] : NULL;
	int r;

	if (!m || m->put)
		return 0;
	pack_name(m);
	r = try_name(b, m->name, e);
	if (r == 0)
		r = pack_put(m, e);
	return r == 0 ? pack_rows(m, b->names, e) : r;
}

/* The pack that has room for so much. */
static int open_pack(struct root_builder *b, uint64_t len_bytes, struct pack_maker **ret_pack,
		     struct err *e)
{
	struct pack_maker *more, *last = b->pack_count ? &b->packs[b->pack_count - 1] : NULL;
	int r = 0;

	if (last && !last->put && pack_is_full(last, len_bytes))
		r = root_put_waiting(b, e);
	if (r < 0)
		return r;
	if (!last || last->put) {
		more = reallocarray(b->packs, b->pack_count + 1, sizeof(*more));
		if (!more)
			return err_set(e, -ENOMEM, "a pack");
		b->packs = more;
		pack_begin(&b->packs[b->pack_count++], b->pool);
	}
	*ret_pack = &b->packs[b->pack_count - 1];
	return 0;
}

int root_put_object(struct root_builder *b, const struct buf *bytes, struct named_object *object,
		    struct err *e)
{
	struct pack_maker *m = NULL;
	uint8_t *to;
	int r;

	if (!packs_is_small(b->pool, bytes->len_bytes))
		return put_by_itself(b, bytes, object, e);
	r = open_pack(b, bytes->len_bytes, &m, e);
	if (r < 0)
		return r;
	to = pack_add(m, object->name, bytes->len_bytes);
	if (!to)
		return err_set(e, -ENOMEM, "a pack");
	memcpy(to, bytes->data, bytes->len_bytes);
	pack_added(m);
	object->len_bytes = bytes->len_bytes;
	object->crc = m->directory.members[m->directory.member_count - 1].object.crc;
	root_parts_keep(b->pool, object->name, bytes);
	return 0;
}

static bool same_object(const struct manifest_sco *a, const struct manifest_sco *b)
{
	return a->sco == b->sco && a->version == b->version && a->object_epoch == b->object_epoch;
}

/*
 * What the old manifest names and the new one does not. A dead SCO was condemned when it was buried,
 * but a crash may have lost that row: this one comes with the root.
 */
static int condemn_scos(struct root_builder *b, const struct manifest *old,
			const struct manifest *new, struct err *e)
{
	uint32_t j = 0;
	int r = 0;

	for (uint32_t i = 0; i < old->sco_count && r == 0; i++) {
		char name[OBJECT_NAME_MAX + 1];

		while (j < new->sco_count &&new->scos[j].sco < old->scos[i].sco)
			j++;
		if (j < new->sco_count && same_object(&new->scos[j], &old->scos[i]))
			continue;
		object_name_sco(name, old->stream, old->scos[i].sco, old->scos[i].version,
				old->scos[i].object_epoch);
		r = root_condemn(b, name, e);
	}
	return r;
}

static int put_manifest(struct root_builder *b, struct manifest *m, struct named_object *ret_object,
			struct err *e)
{
	struct buf bytes;
	int r;

	buf_init(&bytes, IMAGE_BYTES_MAX);
	r = manifest_encode(m, &bytes);
	if (r == 0) {
		object_name_manifest(ret_object->name, m->stream, b->number, b->pool->epoch);
		r = root_put_object(b, &bytes, ret_object, e);
	}
	buf_done(&bytes);
	return r < 0 ? err_wrap(e, r, "manifest of stream %u", m->stream) : 0;
}

struct spare {
	struct meta *meta;
	struct meta_batch *names;
	char (*scos)[OBJECT_NAME_MAX + 1]; /* ascending */
	size_t count;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int spare_one(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct spare *s = arg;
	char name[OBJECT_NAME_MAX + 1];
	uint64_t root, hash;
	struct row_key k;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_CONDEMNED, &root, &hash);
	if (r == 0)
		r = condemned_row_decode(value, value_bytes, name, NULL);
	if (r < 0 || !bsearch(name, s->scos, s->count, sizeof(*s->scos), by_name))
		return r;
	k = row_key_2u64(ROW_CONDEMNED, root, hash);
	return meta_batch_delete(s->meta, s->names, &k);
}

/*
 * The root takes over an old manifest: SCOs of it that died before the stream was damaged are condemned
 * under this root, or one before that came to nothing, but it names them. Committed before the root is
 * put; when the stream is whole again its next manifest condemns them (condemn_scos).
 */
static int spare_scos(struct root_builder *b, const struct manifest *old, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, b->pool->root_number + 1, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, b->number + 1, 0);
	struct spare s = { .meta = b->pool->meta, .count = old->sco_count };
	int r;

	s.names = meta_batch_new(s.meta, META_NAMES);
	s.scos = calloc(s.count + 1, sizeof(*s.scos));
	r = s.names && s.scos ? 0 : err_set(e, -ENOMEM, "damaged stream %u", old->stream);
	for (size_t i = 0; i < s.count && r == 0; i++)
		object_name_sco(s.scos[i], old->stream, old->scos[i].sco, old->scos[i].version,
				old->scos[i].object_epoch);
	if (r == 0)
		r = meta_iterate(s.meta, META_NAMES, &from, &until, spare_one, &s, e);
	if (r == 0)
		r = meta_commit(s.meta, s.names, 0, e);
	meta_batch_free(s.meta, s.names);
	free(s.scos);
	return r;
}

/* Whether the rows say what no log does. */
static bool needs_map(const struct stream_cut *cut, lsn_t map_lsn)
{
	return map_lsn < cut->mark || cut->unlogged || (cut->foreign && cut->changed);
}

/* A stream whose SCOs are not those of the old manifest. */
static int new_manifest(struct root_builder *b, struct stream_cut *cut, const struct manifest *old,
			struct named_object *ret_object, struct err *e)
{
	struct manifest *new = &cut->manifest;
	int r = 0;

	new->map = old->map;
	new->map_lsn = old->map_lsn;
	if (old->stream == 0 || needs_map(cut, old->map_lsn) || lost_a_sco(old, new) ||
	    log_has_hole(new) || log_is_long(new)) {
		r = root_map_put(b, cut, &old->map, e);
		/* A stream that failed before a root ever showed it: nobody could restore this one. */
		if (r == 0 && new->lsn < new->map_lsn && (cut->failed || !cut->damaged))
			r = err_set(e, -EAGAIN, "stream %u: not all that its map names is stored",
				    new->stream);
	}
	if (r == 0)
		r = condemn_scos(b, old, new, e);
	return r == 0 ? put_manifest(b, new, ret_object, e) : r;
}

static int read_manifest(struct pool *p, const struct named_object *o,
			 struct manifest *ret_manifest, struct err *e)
{
	struct buf bytes;
	int r;

	buf_init(&bytes, IMAGE_BYTES_MAX);
	r = root_read_object(p, o, &bytes, e);
	if (r == 0)
		r = manifest_decode(bytes.data, bytes.len_bytes, ret_manifest, e);
	buf_done(&bytes);
	return r;
}

/*
 * Of a damaged stream not all travels: the root before has what is whole. Where that is not what the
 * names mean any more (a layer was frozen, or rows moved between two) no restore could use another: the
 * root before goes on being the newest.
 */
static int take_over(struct root_builder *b, const struct stream_cut *cut,
		     const struct manifest *old, struct err *e)
{
	if (needs_map(cut, old->map_lsn))
		return err_set(
			e, -EUCLEAN,
			"stream %u failed behind a snapshot, a clone, a change of class or a truncation "
			"of what has one of them: what is uploaded now is in no root until the pool is "
			"mounted anew",
			old->stream);
	return spare_scos(b, old, e);
}

static int stream_manifest(struct root_builder *b, struct stream_cut *cut, struct err *e)
{
	struct root_stream *rs = &b->new.streams[b->new.stream_count];
	const struct root_stream *before = old_stream(b, cut->manifest.stream);
	struct manifest old = { 0 };
	int r = before ? read_manifest(b->pool, &before->manifest, &old, e) : 0;

	if (r < 0)
		return r;
	rs->stream = cut->manifest.stream;
	b->new.stream_count++;
	if (before && cut->damaged) {
		rs->manifest = before->manifest;
		r = take_over(b, cut, &old, e);
	} else if (before && same_scos(&old, &cut->manifest) && !needs_map(cut, old.map_lsn)) {
		rs->manifest = before->manifest;
	} else {
		b->changed = true;
		r = new_manifest(b, cut, &old, &rs->manifest, e);
		if (r == 0 && before)
			r = root_condemn(b, before->manifest.name, e);
	}
	manifest_done(&old);
	return r;
}

/* Streams of deleted disks: all of theirs goes. */
static int condemn_gone_streams(struct root_builder *b, struct err *e)
{
	uint32_t j = 0;
	int r = 0;

	for (uint32_t i = 0; i < b->old.stream_count && r == 0; i++) {
		const struct root_stream *before = &b->old.streams[i];
		struct manifest old = { 0 };
		const struct manifest nothing = { 0 };

		while (j < b->new.stream_count && b->new.streams[j].stream < before->stream)
			j++;
		if (j < b->new.stream_count && b->new.streams[j].stream == before->stream)
			continue;
		b->changed = true;
		r = read_manifest(b->pool, &before->manifest, &old, e);
		if (r == 0)
			r = condemn_scos(b, &old, &nothing, e);
		if (r == 0)
			r = root_map_condemn(b, &old.map, e);
		if (r == 0)
			r = root_condemn(b, before->manifest.name, e);
		manifest_done(&old);
	}
	return r;
}

/* --- the root ---------------------------------------------------------------------------------- */

int root_read(struct pool *p, uint64_t epoch, uint64_t number, struct root *ret_root, struct err *e)
{
	struct backend_object object;
	char name[OBJECT_NAME_MAX + 1];
	struct buf bytes;
	uint8_t *to;
	bool kept;
	int r;

	object_name_root(name, number, epoch);
	buf_init(&bytes, IMAGE_BYTES_MAX);
	kept = root_parts_find(p, name, &bytes);
	r = kept ? 0 : backend_head(p->backend, name, &object, e);
	if (r == 0 && !kept) {
		to = buf_extend(&bytes, (size_t)object.len_bytes);
		r = to ? backend_get(p->backend, name, 0, to, (size_t)object.len_bytes, e) :
			 err_set(e, -ENOMEM, "root");
	}
	if (r == 0) /* its own checksum is inside */
		r = root_decode(bytes.data, bytes.len_bytes, ret_root, e);
	buf_done(&bytes);
	return r < 0 ? err_wrap(e, r, "root '%s'", name) : 0;
}

static int collect_condemned(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			     size_t value_bytes)
{
	struct root *root = arg;
	char(*more)[OBJECT_NAME_MAX + 1];
	char name[OBJECT_NAME_MAX + 1] = { 0 };
	int r = condemned_row_decode(value, value_bytes, name, NULL);

	(void)key;
	(void)key_bytes;
	if (r < 0)
		return r;
	more = reallocarray(root->condemned, root->condemned_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	root->condemned = more;
	memcpy(more[root->condemned_count++], name, sizeof(name));
	return 0;
}

static int list_own_packs(struct root_builder *b, struct err *e)
{
	struct root *root = &b->new;
	struct root_pack *more =
		reallocarray(root->packs, root->pack_count + b->pack_count + 1, sizeof(*more));

	if (!more)
		return err_set(e, -ENOMEM, "packs");
	root->packs = more;
	for (size_t i = 0; i < b->pack_count; i++) {
		struct root_pack *rp = &root->packs[root->pack_count++];

		*rp = (struct root_pack){ .object.len_bytes = b->packs[i].row.len_bytes,
					  .directory_bytes = b->packs[i].row.directory_bytes };
		memcpy(rp->object.name, b->packs[i].name, sizeof(rp->object.name));
		root->features.incompat |= FEATURE_PACKS;
	}
	return 0;
}

/* Programs that do not know copies or shares must not replay logs that have some, nor those that do
 * not know a trash or templates make a pool that has such. */
static int note_features(struct root_builder *b, struct err *e)
{
	struct pool_row row;
	int r = pool_get_row(b->pool, &row, e);

	if (r == 0)
		b->new.features.incompat |=
			(FEATURES_OF_LOGS | FEATURES_OF_NAMES) & row.features.incompat;
	return r;
}

int root_put(struct root_builder *b, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	/* Without those that died behind the cut: this root still shows them. */
	struct row_key until = row_key_2u64(ROW_CONDEMNED, b->number + 1, 0);
	struct named_object object;
	struct buf bytes;
	int r;

	b->new.pool = b->pool->uuid;
	b->new.epoch = b->pool->epoch;
	b->new.number = b->number;
	b->new.created_ns = env_now_real_ns(b->pool->env);
	r = meta_iterate(b->pool->meta, META_NAMES, &from, &until, collect_condemned, &b->new, e);
	if (r < 0)
		return err_wrap(e, r, "condemned objects");
	r = packs_list(b->pool, &b->new, e);
	if (r == 0)
		r = list_own_packs(b, e);
	if (r == 0)
		r = note_features(b, e);
	if (r < 0)
		return r;
	buf_init(&bytes, IMAGE_BYTES_MAX);
	r = root_encode(&b->new, &bytes);
	if (r == 0) {
		object_name_root(object.name, b->number, b->pool->epoch);
		r = put_by_itself(b, &bytes, &object, e);
	}
	buf_done(&bytes);
	return r;
}

/* The root is on the backend: say so here, with what it condemned. */
static int commit_row(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	struct root_row row = { .number = b->number, .epoch = p->epoch };
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	char name[OBJECT_NAME_MAX + 1];
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = root_row_encode(&row, &value);
	if (r == 0)
		r = meta_batch_put(p->meta, b->names, &key, &value);
	if (r == 0 && p->root_number) {
		object_name_root(name, p->root_number, p->root_epoch);
		r = root_condemn(b, name, e);
	}
	if (r == 0) {
		b->row_tried = true;
		r = meta_commit(p->meta, b->names, META_SYNC, e);
	}
	buf_done(&value);
	if (r < 0)
		return r;
	p->root_before = p->root_number;
	__atomic_store_n(&p->root_number, b->number, __ATOMIC_RELAXED); /* pool_status() */
	__atomic_store_n(&p->root_epoch, p->epoch, __ATOMIC_RELAXED);	/* uploader_step() */
	counter_inc(&p->metrics.roots);
	for (size_t i = 0; i < b->pack_count; i++)
		pack_adopt(&b->packs[i]);
	return 0;
}

int root_put_parts(struct root_builder *b, struct err *e)
{
	struct pool *p = b->pool;
	int r = 0;

	if (p->root_number)
		r = root_read(p, p->root_epoch, p->root_number, &b->old, e);
	else
		b->changed = true;
	if (r < 0)
		return r;
	b->new.streams = calloc(b->stream_count + 1, sizeof(*b->new.streams));
	r = b->new.streams ? root_map_begin(b, e) : err_set(e, -ENOMEM, "root");
	if (r == 0)
		r = namespace_image(b, e);
	for (size_t i = 0; i < b->stream_count && r == 0; i++)
		r = stream_manifest(b, &b->streams[i], e);
	if (r == 0)
		r = condemn_gone_streams(b, e);
	if (r == 0)
		r = root_put_waiting(b, e);
	return r < 0 ? err_wrap(e, r, "root %" PRIu64, b->number) : 0;
}

int root_commit(struct root_builder *b, struct err *e)
{
	int r = commit_row(b, e);

	if (r == 0)
		r = root_map_committed(b, e);
	return r < 0 ? err_wrap(e, r, "root %" PRIu64, b->number) : 0;
}
