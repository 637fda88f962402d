#include "volume/sco_read.h"

#include "common/crc32c.h"
#include "volume/sco_make.h"

#include <stdlib.h>
#include <string.h>

static void freep(void *p)
{
	free(*(void **)p);
}

static int read_file(const struct sco_bytes *b, uint64_t offset_bytes, size_t len_bytes, void *dst,
		     struct err *e)
{
	ssize_t got = env_pread(b->env, b->file, dst, len_bytes, offset_bytes);

	if (got < 0)
		return err_set(e, (int)got, "reading at %" PRIu64, offset_bytes);
	if ((size_t)got != len_bytes)
		return err_set(e, -EUCLEAN, "the file ends before %" PRIu64,
			       offset_bytes + len_bytes);
	return 0;
}

/* Bytes, once more if they are not as they should be and another copy is there. */
static int read_checked(const struct sco_bytes *b, uint64_t offset_bytes, size_t len_bytes,
			uint8_t *dst, int (*check)(void *arg, const uint8_t *bytes, struct err *e),
			void *arg, struct err *e)
{
	int r, again;

	if (b->file)
		r = read_file(b, offset_bytes, len_bytes, dst, e);
	else
		r = sco_read_raw(b->scos, b->sco, offset_bytes, len_bytes, dst, e);
	if (r == 0)
		r = check(arg, dst, e);
	if (b->file || (r != -EBADMSG && r != -EUCLEAN))
		return r;
	again = sco_read_again(b->scos, b->sco, offset_bytes, len_bytes, dst, NULL);
	if (again == -ENODATA || again == -ENOENT)
		return r;
	return again < 0 ? err_set(e, again, "reading it on the backend") : check(arg, dst, e);
}

/* --- footer ------------------------------------------------------------------------------------ */

struct footer_check {
	const struct sco_bytes *of; /* of this SCO, if it is one of a table */
	uint64_t file_bytes;
	struct sco_footer footer;
	uint32_t crc;
};

/* Whole, and yet another's: so a cache looks that a power cut mixed up. */
static int check_owner(const struct footer_check *c, struct err *e)
{
	const struct sco_table *t = c->of->scos;
	const struct sco *s = c->of->sco;
	const struct sco_footer *f = &c->footer;

	if (!s)
		return 0;
	if (memcmp(&f->pool, &t->flash->pool, sizeof(f->pool)) != 0 || f->sco != s->number ||
	    f->stream != s->stream || f->version != s->version || f->slot_count != s->next_slot ||
	    (s->footer_crc && c->crc != s->footer_crc))
		return err_set(e, -EUCLEAN, "the footer of SCO %" PRIu64 " is of another one",
			       s->number);
	return 0;
}

static int check_footer(void *arg, const uint8_t *bytes, struct err *e)
{
	struct footer_check *c = arg;
	int r = sco_footer_decode(bytes, &c->footer, e);

	if (r < 0)
		return r;
	if (c->footer.file_bytes != c->file_bytes)
		return err_set(e, -EUCLEAN, "footer says %" PRIu64 " bytes, file has %" PRIu64,
			       c->footer.file_bytes, c->file_bytes);
	c->crc = crc32c(0, bytes, BLOCK_BYTES);
	return check_owner(c, e);
}

static int read_footer(const struct sco_bytes *b, struct footer_check *c, struct err *e)
{
	AUTO(freep) uint8_t *block = direct_alloc(BLOCK_BYTES);
	int r;

	if (!block)
		return err_set(e, -ENOMEM, "footer of a SCO");
	if (c->file_bytes < 2 * BLOCK_BYTES || c->file_bytes % BLOCK_BYTES)
		return err_set(e, -EUCLEAN, "no sealed SCO has %" PRIu64 " bytes", c->file_bytes);
	c->of = b;
	r = read_checked(b, c->file_bytes - BLOCK_BYTES, BLOCK_BYTES, block, check_footer, c, e);
	return r < 0 ? err_wrap(e, r, "reading a footer") : 0;
}

int sco_read_footer(const struct sco_bytes *b, uint64_t file_bytes, struct sco_footer *ret_footer,
		    struct err *e)
{
	struct footer_check c = { .file_bytes = file_bytes };
	int r = read_footer(b, &c, e);

	if (r == 0)
		*ret_footer = c.footer;
	return r;
}

int sco_load_footer(struct sco_table *t, struct sco *s, struct err *e)
{
	struct sco_bytes b = sco_bytes_of(t, s);
	struct footer_check c = { 0 };
	int r;

	mutex_lock(&t->lock);
	c.file_bytes = s->table_offset_bytes ? 0 : s->file_bytes;
	mutex_unlock(&t->lock);
	if (c.file_bytes == 0)
		return 0;
	r = read_footer(&b, &c, e);
	if (r < 0)
		return err_wrap(e, r, "SCO %" PRIu64, s->number);
	GUARD(&t->lock);
	if (s->table_offset_bytes)
		return 0;
	s->salt = c.footer.salt;
	if (s->epoch != c.footer.epoch) /* a restore knows that of the object only */
		s->epoch = c.footer.epoch;
	s->table_offset_bytes = c.footer.table_offset_bytes;
	__atomic_store_n(&s->batch_count, c.footer.batch_count, __ATOMIC_RELAXED);
	return 0;
}

/* --- header ------------------------------------------------------------------------------------ */

struct header_check {
	const struct sco_bytes *of;
	struct sco_header header;
};

static int check_header(void *arg, const uint8_t *bytes, struct err *e)
{
	struct header_check *c = arg;
	const struct sco *s = c->of->sco;
	int r = sco_header_decode(bytes, &c->header, e);

	if (r == 0 && (memcmp(&c->header.pool, &c->of->scos->flash->pool, UUID_BYTES) != 0 ||
		       c->header.sco != s->number || c->header.stream != s->stream ||
		       c->header.salt != s->salt))
		return err_set(e, -EUCLEAN, "it is of another container");
	return r;
}

int sco_read_header(struct sco_table *t, struct sco *s, struct sco_header *ret_header,
		    struct err *e)
{
	AUTO(freep) uint8_t *block = direct_alloc(BLOCK_BYTES);
	struct sco_bytes b = sco_bytes_of(t, s);
	struct header_check c = { .of = &b };
	int r = block ? sco_load_footer(t, s, e) : err_set(e, -ENOMEM, "header of a SCO");

	if (r == 0)
		r = read_checked(&b, 0, BLOCK_BYTES, block, check_header, &c, e);
	if (r == 0)
		*ret_header = c.header;
	return r;
}

/* --- table and log ----------------------------------------------------------------------------- */

static int check_index(void *arg, const uint8_t *bytes, struct err *e)
{
	const struct sco_footer *footer = arg;
	size_t table_bytes = (size_t)footer->table_chunks * BLOCK_BYTES;
	size_t log_bytes = (size_t)footer->log_entries * BATCH_ENTRY_BYTES;

	if (crc32c(0, bytes, table_bytes) != footer->table_crc ||
	    crc32c(0, bytes + table_bytes, log_bytes) != footer->log_crc)
		return err_set(e, -EBADMSG, "index of SCO %" PRIu64 ": checksum", footer->sco);
	return 0;
}

int sco_read_index(const struct sco_bytes *b, const struct sco_footer *footer, uint8_t **ret_index,
		   size_t *ret_len_bytes, struct err *e)
{
	size_t table_bytes = (size_t)footer->table_chunks * BLOCK_BYTES;
	size_t log_bytes = (size_t)footer->log_entries * BATCH_ENTRY_BYTES;
	size_t room = table_bytes + (size_t)round_up_u64(log_bytes, BLOCK_BYTES);
	AUTO(freep) uint8_t *bytes = direct_alloc(room);
	struct sco_footer copy = *footer;
	int r;

	if (!bytes)
		return err_set(e, -ENOMEM, "index of a SCO");
	r = read_checked(b, footer->table_offset_bytes, room, bytes, check_index, &copy, e);
	if (r < 0)
		return err_wrap(e, r, "index of SCO %" PRIu64, footer->sco);
	*ret_index = TAKE_PTR(bytes);
	*ret_len_bytes = room;
	return 0;
}

static int check_log(void *arg, const uint8_t *bytes, struct err *e)
{
	const struct sco_footer *footer = arg;

	if (crc32c(0, bytes, (size_t)footer->log_entries * BATCH_ENTRY_BYTES) != footer->log_crc)
		return err_set(e, -EBADMSG, "log of SCO %" PRIu64 ": checksum", footer->sco);
	return 0;
}

int sco_read_log(const struct sco_bytes *b, const struct sco_footer *footer,
		 int (*fn)(void *arg, const struct log_entry *entry), void *arg, struct err *e)
{
	size_t log_bytes = (size_t)footer->log_entries * BATCH_ENTRY_BYTES;
	size_t room = (size_t)round_up_u64(log_bytes, BLOCK_BYTES);
	AUTO(freep) uint8_t *bytes = direct_alloc(room ? room : BLOCK_BYTES);
	struct sco_footer copy = *footer;
	int r = 0;

	if (!bytes)
		return err_set(e, -ENOMEM, "log of a SCO");
	if (room)
		r = read_checked(b, footer->log_offset_bytes, room, bytes, check_log, &copy, e);
	else
		r = check_log(&copy, bytes, e);
	if (r < 0)
		return err_wrap(e, r, "log of SCO %" PRIu64, footer->sco);
	for (uint32_t i = 0; i < footer->log_entries && r == 0; i++) {
		struct log_entry entry;

		r = log_entry_decode(bytes + (size_t)i * BATCH_ENTRY_BYTES, &entry, e);
		if (r == 0)
			r = fn(arg, &entry);
	}
	return r;
}
