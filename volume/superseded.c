#include "volume/superseded.h"

#include "volume/sco_read.h"
#include "volume/stream.h"

static lsn_t end_of(const struct log_entry *entry)
{
	return entry->lsn + (entry->kind == ENTRY_VOID ? entry->cluster_count : 1);
}

static bool names_bad(const struct log_entry *entry, const uint8_t *bad)
{
	uint32_t count = entry->kind == ENTRY_DATA ? entry->cluster_count : 1;

	if (entry->slot == 0)
		return false;
	for (uint32_t slot = entry->slot; slot < entry->slot + count; slot++)
		if (bad[slot / 8] & 1u << slot % 8)
			return true;
	return false;
}

/* Whether one of the entries that pass is of that LSN. */
struct lsn_search {
	lsn_t lsn;
	bool found;
};

static int see_entry(void *arg, const struct log_entry *entry)
{
	struct lsn_search *x = arg;

	x->found |= entry->lsn <= x->lsn && x->lsn < end_of(entry);
	return 0;
}

/* A SCO of another process: it takes no more entries. */
static int search_sco(struct stream_world *w, struct sco *s, struct lsn_search *x, struct err *e)
{
	struct sco_bytes bytes = sco_bytes_of(w->scos, s);
	struct sco_footer footer;
	int r;

	if (s->life == SCO_LIFE_SEALED) {
		r = sco_read_footer(&bytes, s->file_bytes, &footer, e);
		return r == 0 ? sco_read_log(&bytes, &footer, see_entry, x, e) : r;
	}
	for (size_t at = 0; at < s->log.len_bytes; at += BATCH_ENTRY_BYTES) {
		struct log_entry entry;

		r = log_entry_decode(s->log.data + at, &entry, e);
		if (r < 0)
			return r;
		(void)see_entry(x, &entry);
	}
	return 0;
}

/* Later ones that a process left behind, this one being written to by nobody. */
static int search_later(struct stream_world *w, struct sco *s, struct lsn_search *x, struct err *e)
{
	struct sco **list;
	size_t count;
	int r = sco_table_list(w->scos, s->stream, &list, &count);

	if (r < 0)
		return err_because(e, r, "SCOs of stream %u", s->stream);
	for (size_t i = 0; i < count && r == 0 && !x->found; i++) {
		struct sco *other = list[i];
		bool may_have;

		mutex_lock(&w->scos->lock);
		may_have = other->epoch > s->epoch && other->first_lsn <= x->lsn &&
			   other->last_lsn >= x->lsn &&
			   (other->life == SCO_LIFE_SEALED || other->life == SCO_LIFE_LEFTOVER);
		mutex_unlock(&w->scos->lock);
		if (may_have)
			r = search_sco(w, other, x, e);
	}
	sco_list_free(w->scos, list, count);
	return r;
}

int superseded_drop(struct stream_world *w, struct sco *s, const uint8_t *bad, struct buf *ret_log,
		    struct err *e)
{
	int r = 0;

	buf_init(ret_log, s->log.len_bytes + 1);
	for (size_t at = 0; at < s->log.len_bytes && r == 0; at += BATCH_ENTRY_BYTES) {
		struct lsn_search x = { 0 };
		struct log_entry entry;

		r = log_entry_decode(s->log.data + at, &entry, e);
		x.lsn = entry.lsn;
		if (r == 0 && names_bad(&entry, bad))
			r = search_later(w, s, &x, e);
		if (r == 0 && !x.found &&
		    buf_append(ret_log, s->log.data + at, BATCH_ENTRY_BYTES) < 0)
			r = err_set(e, -ENOMEM, "log of a SCO");
	}
	return r;
}
