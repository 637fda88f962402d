#include "volume/meta.h"

/* Upper case: NAMES, lower case: STATE (format.h). A key in the other family is our bug. */
static bool key_is_of(enum meta_family family, const struct row_key *key)
{
	const uint8_t kind = key->bytes[0];

	if (key->len_bytes == 0 || key->len_bytes > ROW_KEY_BYTES_MAX)
		return false;
	if (family == META_NAMES)
		return kind >= 'A' && kind <= 'Z';
	return kind >= 'a' && kind <= 'z';
}

void meta_close(struct meta *m)
{
	if (m != NULL)
		m->ops->close(m);
}

int meta_get(struct meta *m, enum meta_family family, const struct row_key *key, struct buf *out,
	     struct err *e)
{
	const size_t old_bytes = out->len_bytes;
	int r;

	ASSERT(key_is_of(family, key));
	buf_clear(out);
	r = m->ops->get(m, family, key->bytes, key->len_bytes, out, e);
	if (r < 0)
		out->len_bytes = old_bytes; /* nothing was added, so the old bytes are there */
	return r;
}

int meta_iterate(struct meta *m, enum meta_family family, const struct row_key *from,
		 const struct row_key *until,
		 int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			   size_t value_bytes),
		 void *arg, struct err *e)
{
	return meta_view_iterate(m, NULL, family, from, until, fn, arg, e);
}

struct meta_view *meta_view_new(struct meta *m)
{
	return m->ops->view_new(m);
}

void meta_view_free(struct meta *m, struct meta_view *view)
{
	if (view != NULL)
		m->ops->view_free(m, view);
}

/* NOLINTNEXTLINE(readability-function-size): of meta_iterate() and the view */
int meta_view_iterate(struct meta *m, const struct meta_view *view, enum meta_family family,
		      const struct row_key *from, const struct row_key *until,
		      int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				const uint8_t *value, size_t value_bytes),
		      void *arg, struct err *e)
{
	ASSERT(from->len_bytes <= ROW_KEY_BYTES_MAX);
	ASSERT(until == NULL || until->len_bytes <= ROW_KEY_BYTES_MAX);
	return m->ops->iterate(m, view, family, from->bytes, from->len_bytes,
			       until != NULL ? until->bytes : NULL,
			       until != NULL ? until->len_bytes : 0, fn, arg, e);
}

struct meta_batch *meta_batch_new(struct meta *m, enum meta_family family)
{
	return m->ops->batch_new(m, family);
}

void meta_batch_free(struct meta *m, struct meta_batch *batch)
{
	if (batch != NULL)
		m->ops->batch_free(m, batch);
}

int meta_batch_put(struct meta *m, struct meta_batch *batch, const struct row_key *key,
		   const struct buf *value)
{
	ASSERT(!batch->committed);
	ASSERT(key_is_of(batch->family, key));
	return m->ops->batch_put(batch, key->bytes, key->len_bytes, value->data, value->len_bytes);
}

int meta_batch_delete(struct meta *m, struct meta_batch *batch, const struct row_key *key)
{
	ASSERT(!batch->committed);
	ASSERT(key_is_of(batch->family, key));
	return m->ops->batch_delete(batch, key->bytes, key->len_bytes);
}

static void ignore_run(UNUSED void *arg, UNUSED const struct page_run *run)
{
}

/*
 * A bad operand in the database would stop every compaction that meets it, so it is looked at while
 * it can still be refused: memory may have been damaged since it was encoded.
 */
int meta_batch_merge(struct meta *m, struct meta_batch *batch, const struct row_key *key,
		     const struct buf *value)
{
	enum page_value_kind kind;
	int r;

	ASSERT(!batch->committed);
	ASSERT(key_is_of(batch->family, key));
	ASSERT(key->bytes[0] == ROW_PAGE);
	r = page_value_decode(value->data, value->len_bytes, &kind, ignore_run, NULL, NULL);
	if (r < 0)
		return r;
	if (kind != PAGE_DELTA)
		return -EUCLEAN;
	return m->ops->batch_merge(batch, key->bytes, key->len_bytes, value->data,
				   value->len_bytes);
}

size_t meta_batch_bytes(struct meta *m, const struct meta_batch *batch)
{
	return m->ops->batch_bytes(batch);
}

void meta_watch(struct meta *m, void (*fn)(void *arg), void *arg)
{
	m->failed_arg = arg;
	__atomic_store_n(&m->failed, fn, __ATOMIC_RELEASE);
}

static int told(struct meta *m, int r)
{
	void (*fn)(void *arg) = r == -EIO ? __atomic_load_n(&m->failed, __ATOMIC_ACQUIRE) : NULL;

	if (fn)
		fn(m->failed_arg);
	return r;
}

int meta_commit(struct meta *m, struct meta_batch *batch, unsigned int flags, struct err *e)
{
	int r;

	ASSERT(!batch->committed);
	ASSERT((flags & ~(unsigned int)META_SYNC) == 0);
	ASSERT(batch->family == META_NAMES || flags == 0);
	r = told(m, m->ops->commit(m, batch, flags, e));
	if (r < 0)
		return r;
	batch->committed = true;
	return 0;
}

int meta_sync(struct meta *m, struct err *e)
{
	return told(m, m->ops->sync(m, e));
}

int meta_flush(struct meta *m, struct err *e)
{
	return told(m, m->ops->flush(m, e));
}

uint64_t meta_synced_sequence(struct meta *m)
{
	return m->ops->synced_sequence(m);
}

uint64_t meta_sequence(struct meta *m)
{
	return m->ops->sequence(m);
}
