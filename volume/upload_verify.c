#include "volume/upload_verify.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "volume/sco_make.h"
#include "volume/sco_read.h"

#include <stdlib.h>

/* Bytes of the file with a checksum of their own. */
struct span {
	uint64_t offset_bytes, len_bytes;
	uint32_t crc;
	uint32_t slot; /* of a cluster; else 0 */
};
/* Besides the clusters: table, log, footer. */
#define SPANS_MORE 3u

struct upload_verify {
	struct sco *sco;
	struct span *spans; /* ascending */
	size_t count;

	size_t at; /* the span that comes next, or is half seen */
	uint64_t next_bytes;
	uint32_t crc; /* of what was seen of it */
	bool failed;
};

/* --- what there is to look at ------------------------------------------------------------------ */

static void add_span(struct upload_verify *v, uint64_t offset_bytes, uint64_t len_bytes,
		     uint32_t crc, uint32_t slot)
{
	if (len_bytes)
		v->spans[v->count++] = (struct span){ offset_bytes, len_bytes, crc, slot };
}

static int add_chunk(struct upload_verify *v, const struct sco_footer *footer, uint32_t chunk,
		     const uint8_t *block, struct err *e)
{
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;
	int r = slot_chunk_decode(block, chunk, footer->salt, records, &count, e);

	for (unsigned int i = 0; r == 0 && i < count; i++) {
		uint32_t slot = chunk * SLOTS_PER_CHUNK + i;
		uint64_t end = v->count ? v->spans[v->count - 1].offset_bytes + CLUSTER_BYTES : 0;

		if (records[i].kind != SLOT_RAW)
			continue; /* of packed ones the checksum is that of what comes out */
		if (slot >= footer->slot_count || records[i].arg < end ||
		    records[i].arg + CLUSTER_BYTES > footer->table_offset_bytes)
			return err_set(e, -EUCLEAN, "slot %u is not where a cluster can be", slot);
		add_span(v, records[i].arg, CLUSTER_BYTES, records[i].crc, slot);
	}
	return r;
}

static int add_all(struct pool *p, struct upload_verify *v, struct err *e)
{
	struct sco_bytes bytes = sco_bytes_of(p->scos, v->sco);
	struct sco_footer footer;
	size_t table_bytes;
	uint8_t *table;
	int r = sco_read_footer(&bytes, v->sco->file_bytes, &footer, e);

	if (r < 0)
		return r;
	table_bytes = (size_t)footer.table_chunks * BLOCK_BYTES;
	table = direct_alloc(table_bytes);
	v->spans = calloc((size_t)footer.slot_count + SPANS_MORE, sizeof(*v->spans));
	r = table && v->spans ? 0 : err_set(e, -ENOMEM, "verifying an upload");
	if (r == 0)
		r = sco_read_raw(p->scos, v->sco, footer.table_offset_bytes, table_bytes, table, e);
	for (uint32_t i = 0; i < footer.table_chunks && r == 0; i++)
		r = add_chunk(v, &footer, i, table + (size_t)i * BLOCK_BYTES, e);
	free(table);
	if (r < 0)
		return r;
	add_span(v, footer.table_offset_bytes, table_bytes, footer.table_crc, 0);
	add_span(v, footer.log_offset_bytes, (uint64_t)footer.log_entries * BATCH_ENTRY_BYTES,
		 footer.log_crc, 0);
	add_span(v, v->sco->file_bytes - BLOCK_BYTES, BLOCK_BYTES, v->sco->footer_crc, 0);
	return 0;
}

/* --- looking ----------------------------------------------------------------------------------- */

/* It does not go on where it ended: another pass, or one that begins in the middle. Spans that are
 * met in their middle are passed over. */
static void begin_at(struct upload_verify *v, uint64_t offset_bytes)
{
	size_t low = 0, high = v->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (v->spans[middle].offset_bytes < offset_bytes)
			low = middle + 1;
		else
			high = middle;
	}
	v->at = low;
	v->crc = 0;
}

static int look(void *arg, uint64_t offset_bytes, const void *bytes, size_t len_bytes,
		struct err *e)
{
	struct upload_verify *v = arg;
	const uint64_t end = offset_bytes + len_bytes;

	if (offset_bytes != v->next_bytes)
		begin_at(v, offset_bytes);
	v->next_bytes = end;
	for (; v->at < v->count && v->spans[v->at].offset_bytes < end; v->at++, v->crc = 0) {
		const struct span *s = &v->spans[v->at];
		uint64_t from = max_u64(s->offset_bytes, offset_bytes);
		uint64_t until = min_u64(s->offset_bytes + s->len_bytes, end);

		v->crc = crc32c(v->crc, (const uint8_t *)bytes + (from - offset_bytes),
				(size_t)(until - from));
		if (until < s->offset_bytes + s->len_bytes)
			return 0;
		if (v->crc == s->crc || MUTANT(MUTANT_UPLOAD_UNVERIFIED))
			continue;
		v->failed = true;
		return err_set(e, -EBADMSG, "%s %u at %" PRIu64 ": checksum %08x, expected %08x",
			       s->slot ? "slot" : "index", s->slot, s->offset_bytes, v->crc,
			       s->crc);
	}
	return 0;
}

int upload_verify_begin(struct pool *p, struct sco *s, struct backend_source *source,
			struct upload_verify **ret_verify, struct err *e)
{
	struct upload_verify *v = calloc(1, sizeof(*v));
	int r = v ? 0 : err_set(e, -ENOMEM, "verifying an upload");

	if (r == 0) {
		v->sco = s;
		r = add_all(p, v, e);
	}
	if (r < 0) {
		upload_verify_free(v);
		return r;
	}
	source->look = look;
	source->look_arg = v;
	*ret_verify = v;
	return 0;
}

bool upload_verify_failed(const struct upload_verify *v)
{
	return v && v->failed;
}

void upload_verify_free(struct upload_verify *v)
{
	if (!v)
		return;
	free(v->spans);
	free(v);
}

/* --- what became of it ------------------------------------------------------------------------- */

void upload_refuse(struct pool *p, struct sco *s, const struct err *why)
{
	struct stream *stream = pool_stream(p, s->stream);

	mutex_lock(&p->scos->lock);
	s->spoiled = true;
	mutex_unlock(&p->scos->lock);
	if (stream)
		__atomic_store_n(&stream->keeps_all, true, __ATOMIC_RELEASE);
	log_error(
		"volume: a SCO is damaged and not uploaded; until repaired its stream keeps all it "
		"has here, and nothing new of it travels: dir='%s' stream=%u owner=%" PRIu64
		" sco=%" PRIu64 ": %s",
		p->flash->dirs[s->dir].path, s->stream, stream ? stream->owner : 0, s->number,
		why->message);
}

int upload_verify_bytes(struct pool *p, struct sco *s, const uint8_t *bytes, struct err *e)
{
	struct backend_source unused = { .len_bytes = s->file_bytes };
	struct upload_verify *v = NULL;
	int r = upload_verify_begin(p, s, &unused, &v, e);

	if (r == 0)
		r = look(v, 0, bytes, (size_t)s->file_bytes, e);
	upload_verify_free(v);
	if (r != -EBADMSG && r != -EUCLEAN)
		return r;
	upload_refuse(p, s, e);
	return -EBADMSG;
}
