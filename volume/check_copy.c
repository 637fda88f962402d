/*
 * check_copy - of containers that are here and on the backend, too: is either copy whole, and if only
 * one of them is, the other made from it.
 *
 * A sealed container is the same bytes in both places. So what is damaged here is written over, in
 * place, with what was just verified to be right: a crash on the way leaves a mixture of old and right
 * bytes, which is no worse. What is damaged there is uploaded anew under another name, as an object
 * that was lost.
 */
#include "common/crc32c.h"
#include "volume/check_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (256u << 10)

struct copy {
	struct check *k;
	struct sco *s;
	bool there; /* the one on the backend */
	uint8_t *block, *piece;
	struct slot_record *records;
};

static int copy_read(const struct copy *c, uint64_t offset_bytes, size_t len_bytes, void *dst,
		     struct err *e)
{
	struct sco_table *t = c->k->pool->scos;

	return c->there ? sco_read_again(t, c->s, offset_bytes, len_bytes, dst, e) :
			  sco_read_raw(t, c->s, offset_bytes, len_bytes, dst, e);
}

static int verify_ends(const struct copy *c, struct sco_footer *ret_footer, struct err *e)
{
	const struct sco *s = c->s;
	struct sco_header h;
	int r = copy_read(c, s->file_bytes - BLOCK_BYTES, BLOCK_BYTES, c->block, e);

	if (r == 0)
		r = sco_footer_decode(c->block, ret_footer, e);
	if (r < 0)
		return r;
	if (memcmp(&ret_footer->pool, &c->k->pool->uuid, sizeof(ret_footer->pool)) != 0 ||
	    ret_footer->sco != s->number || ret_footer->stream != s->stream ||
	    ret_footer->version != s->version || ret_footer->file_bytes != s->file_bytes ||
	    (s->footer_crc && crc32c(0, c->block, BLOCK_BYTES) != s->footer_crc))
		return err_set(e, -EUCLEAN, "the footer is of another one");
	r = copy_read(c, 0, BLOCK_BYTES, c->block, e);
	if (r == 0)
		r = sco_header_decode(c->block, &h, e);
	if (r == 0 && (h.sco != s->number || h.stream != s->stream || h.salt != ret_footer->salt))
		r = err_set(e, -EUCLEAN, "the header is of another one");
	return r;
}

/* Clusters of neighbouring places. */
static int verify_run(const struct copy *c, const struct slot_record *records, unsigned int count,
		      struct err *e)
{
	int r = copy_read(c, records[0].arg, (size_t)count * CLUSTER_BYTES, c->piece, e);

	for (unsigned int i = 0; i < count && r == 0; i++)
		if (crc32c(0, c->piece + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) !=
		    records[i].crc)
			r = err_set(e, -EBADMSG, "the cluster at %" PRIu64 ": checksum",
				    records[i].arg);
	return r;
}

static int verify_clusters(const struct copy *c, unsigned int count, struct err *e)
{
	const struct slot_record *records = c->records;
	int r = 0;

	for (unsigned int i = 0, n; i < count && r == 0; i += n) {
		for (n = 0; i + n < count && n < PIECE_BYTES / CLUSTER_BYTES; n++)
			if (records[i + n].kind != SLOT_RAW ||
			    records[i + n].arg != records[i].arg + (uint64_t)n * CLUSTER_BYTES)
				break;
		if (n > 0)
			r = verify_run(c, records + i, n, e);
		else
			n = 1; /* no bytes of its own */
	}
	return r;
}

static int verify_log(const struct copy *c, const struct sco_footer *f, struct err *e)
{
	uint64_t left = (uint64_t)f->log_entries * BATCH_ENTRY_BYTES, at = f->log_offset_bytes;
	uint32_t crc = 0;
	int r = 0;

	while (left > 0 && r == 0) {
		size_t n = (size_t)min_u64(left, PIECE_BYTES);

		r = copy_read(c, at, (size_t)round_up_u64(n, BLOCK_BYTES), c->piece, e);
		if (r == 0)
			crc = crc32c(crc, c->piece, n);
		at += n;
		left -= n;
	}
	return r == 0 && crc != f->log_crc ? err_set(e, -EBADMSG, "the log: checksum") : r;
}

static int copy_verify(const struct copy *c, struct err *e)
{
	struct sco_footer f;
	uint32_t crc = 0;
	int r = verify_ends(c, &f, e);

	for (uint32_t i = 0; r == 0 && i < f.table_chunks; i++) {
		unsigned int count = 0;

		r = copy_read(c, f.table_offset_bytes + (uint64_t)i * BLOCK_BYTES, BLOCK_BYTES,
			      c->block, e);
		if (r == 0)
			r = slot_chunk_decode(c->block, i, f.salt, c->records, &count, e);
		crc = crc32c(crc, c->block, BLOCK_BYTES);
		if (r == 0)
			r = verify_clusters(c, count, e);
	}
	if (r == 0 && crc != f.table_crc)
		r = err_set(e, -EBADMSG, "the slot table: checksum");
	return r == 0 ? verify_log(c, &f, e) : r;
}

/* Bytes of the copy on the backend over the file. Errors: then it stays as damaged as it is. */
static int mend(const struct copy *from, struct err *e)
{
	struct pool *p = from->k->pool;
	struct sco *s = from->s;
	struct env_file *file;
	int r = flash_open_file(p->flash, s->dir, s->stream, s->number, s->version, true, &file, e);

	if (r < 0)
		return r;
	for (uint64_t at = 0; at < s->file_bytes && r == 0; at += PIECE_BYTES) {
		size_t n = (size_t)min_u64(PIECE_BYTES, s->file_bytes - at);

		r = copy_read(from, at, n, from->piece, e);
		if (r == 0)
			r = env_pwrite(p->env, file, from->piece, n, at);
	}
	if (r == 0)
		r = env_fdatasync(p->env, file);
	env_close(p->env, file);
	return r;
}

static void compare_copies(struct check_sco *cs, struct copy *c)
{
	struct check *k = c->k;
	char what[ERR_MESSAGE_BYTES + 96];
	struct pool_problem problem = { .severity = POOL_ERROR, .what = what, .sco = cs->number };
	struct err here = { 0 }, there = { 0 };
	int r, away;

	c->s = cs->sco;
	c->there = false;
	r = copy_verify(c, &here);
	c->there = true;
	away = copy_verify(c, &there);
	if (check_is_away(k, away) || check_is_away(k, r))
		return;
	cs->has_whole_copy = away == 0;
	if (r == 0 && away < 0 && away != -ENOENT) { /* that one is told below */
		(void)snprintf(what, sizeof(what), "a container is damaged on the backend: %s",
			       there.message);
		check_lost_object(k, cs->sco, what);
	} else if (r < 0 && away == 0) {
		problem.repaired = k->options->repair && mend(c, &there) == 0;
		(void)snprintf(what, sizeof(what),
			       "a container is damaged here, and whole on the backend: %s",
			       here.message);
		check_report(k, &problem);
	}
}

int check_copies(struct check *k, struct err *e)
{
	struct copy c = { .k = k,
			  .block = aligned_alloc(ENV_DIRECT_ALIGN, BLOCK_BYTES),
			  .piece = aligned_alloc(ENV_DIRECT_ALIGN, PIECE_BYTES),
			  .records = calloc(SLOTS_PER_CHUNK, sizeof(*c.records)) };
	int r = c.block && c.piece && c.records ? 0 : -ENOMEM;
	struct check_sco *cs, *next;

	HASH_ITER (hh, k->scos, cs, next)
		if (r == 0 && !k->away && !sco_is_absent(k->pool->scos, cs->sco) &&
		    sco_has_copy(k->pool->scos, cs->sco))
			compare_copies(cs, &c);
	free(c.records);
	free(c.piece);
	free(c.block);
	return r < 0 ? err_set(e, r, "checking: %s", err_name(r)) : 0;
}
