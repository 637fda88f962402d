#include "tests/sim/model.h"

#include "common/endian.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u

/* Contents while operations are applied one by one. */
struct state {
	uint8_t bytes[MODEL_BYTES];
	uint64_t size_bytes;
	uint64_t touched_bytes; /* all bytes behind are zero */
};

void model_fill(unsigned int number, uint64_t generation, uint64_t offset_bytes, void *dst,
		size_t len_bytes)
{
	uint8_t *to = dst;

	while (len_bytes > 0) {
		uint64_t in_sector = offset_bytes % SECTOR_BYTES;
		uint64_t n = min_u64(SECTOR_BYTES - in_sector, len_bytes);
		uint64_t v = number * UINT64_C(0x9e3779b97f4a7c15) +
			     offset_bytes / SECTOR_BYTES * UINT64_C(0xbf58476d1ce4e5b9) +
			     generation * UINT64_C(0x94d049bb133111eb);
		uint8_t bytes[8];

		v = (v ^ v >> 32) * UINT64_C(0xd6e8feb86659fd93);
		le64_put(bytes, (v ^ v >> 32) | UINT64_C(0x0101010101010101)); /* never zero */
		for (uint64_t i = 0; i < n; i++)
			to[i] = bytes[(in_sector + i) % 8];
		to += n;
		offset_bytes += n;
		len_bytes -= n;
	}
}

void model_add(struct model *m, const struct model_op *op)
{
	if (m->op_count == m->op_cap) {
		m->op_cap = m->op_cap ? 2 * m->op_cap : 64;
		m->ops = reallocarray(m->ops, m->op_cap, sizeof(*m->ops));
		ASSERT(m->ops);
	}
	m->ops[m->op_count++] = *op;
}

void model_cut_last(struct model *m, uint64_t len_bytes)
{
	struct model_op *last = &m->ops[m->op_count - 1];

	last->len_bytes = len_bytes;
	if (len_bytes > 0)
		return;
	free(last->bytes);
	m->op_count--;
}

void model_clear(struct model *m)
{
	free(m->base);
	m->base = NULL;
	m->base_bytes = 0;
	for (size_t i = 0; i < m->op_count; i++)
		free(m->ops[i].bytes);
	m->op_count = m->synced = 0;
	m->in_flight = false;
}

static void start(const struct model *m, struct state *s)
{
	memset(s->bytes, 0, s->touched_bytes);
	if (m->base)
		memcpy(s->bytes, m->base, m->base_bytes);
	s->size_bytes = s->touched_bytes = m->base_bytes;
}

static void copy_state(struct state *to, const struct state *from)
{
	uint64_t more = to->touched_bytes - min_u64(to->touched_bytes, from->touched_bytes);

	memcpy(to->bytes, from->bytes, from->touched_bytes);
	memset(to->bytes + from->touched_bytes, 0, more);
	to->size_bytes = from->size_bytes;
	to->touched_bytes = from->touched_bytes;
}

static void apply(const struct model *m, const struct model_op *op, struct state *s)
{
	uint64_t end = op->offset_bytes + op->len_bytes;

	switch (op->kind) {
	case MODEL_WRITE:
		model_fill(m->number, op->generation, op->offset_bytes, s->bytes + op->offset_bytes,
			   op->len_bytes);
		s->size_bytes = max_u64(s->size_bytes, end);
		s->touched_bytes = max_u64(s->touched_bytes, end);
		break;
	case MODEL_ZERO:
		end = min_u64(end, s->size_bytes);
		if (end > op->offset_bytes)
			memset(s->bytes + op->offset_bytes, 0, end - op->offset_bytes);
		break;
	case MODEL_TRUNCATE:
		if (op->offset_bytes < s->size_bytes)
			memset(s->bytes + op->offset_bytes, 0, s->size_bytes - op->offset_bytes);
		s->size_bytes = op->offset_bytes;
		break;
	case MODEL_PATCH:
		memcpy(s->bytes + op->offset_bytes, op->bytes, op->len_bytes);
		s->size_bytes = max_u64(s->size_bytes, end);
		s->touched_bytes = max_u64(s->touched_bytes, end);
		break;
	case MODEL_REPLACE:
		memset(s->bytes, 0, s->touched_bytes);
		memcpy(s->bytes, op->bytes, op->len_bytes);
		s->size_bytes = op->len_bytes;
		s->touched_bytes = max_u64(s->touched_bytes, op->len_bytes);
		break;
	}
}

/* Each byte as before or as after, and a size between the two; truncations are never in part. */
static bool is_part_of(const struct model_op *op, const struct state *before,
		       const struct state *after, const uint8_t *bytes, uint64_t size)
{
	uint64_t from = min_u64(op->offset_bytes, size);
	uint64_t to = min_u64(op->offset_bytes + op->len_bytes, size);

	if (op->kind == MODEL_TRUNCATE || op->kind == MODEL_REPLACE ||
	    size < min_u64(before->size_bytes, after->size_bytes) ||
	    size > max_u64(before->size_bytes, after->size_bytes) ||
	    memcmp(bytes, before->bytes, from) != 0 ||
	    memcmp(bytes + to, before->bytes + to, size - to) != 0)
		return false;
	for (uint64_t i = from; i < to; i++)
		if (bytes[i] != before->bytes[i] && bytes[i] != after->bytes[i])
			return false;
	return true;
}

static void tell(const struct model *m, const struct state *s, const uint8_t *bytes, uint64_t size)
{
	uint64_t common = min_u64(size, s->size_bytes), from = 0, to = common;

	while (from < common && bytes[from] == s->bytes[from])
		from++;
	while (to > from && bytes[to - 1] == s->bytes[to - 1])
		to--;
	fprintf(stderr,
		"object %u: %" PRIu64 " bytes, newest state has %" PRIu64 " and differs in %" PRIu64
		"..%" PRIu64 "; %zu operations, %zu synced, %s\n",
		m->number, size, s->size_bytes, from, to, m->op_count, m->synced,
		m->in_flight ? "one in flight" : "none in flight");
	for (size_t i = m->op_count > 10 ? m->op_count - 10 : 0; i < m->op_count; i++)
		fprintf(stderr, "  %zu: %s %" PRIu64 " + %" PRIu64 " generation %" PRIu64 "\n", i,
			m->ops[i].kind == MODEL_WRITE	 ? "write" :
			m->ops[i].kind == MODEL_ZERO	 ? "zero" :
			m->ops[i].kind == MODEL_TRUNCATE ? "truncate" :
			m->ops[i].kind == MODEL_PATCH	 ? "patch" :
							   "replace",
			m->ops[i].offset_bytes, m->ops[i].len_bytes, m->ops[i].generation);
}

bool model_accept(struct model *m, const uint8_t *bytes, uint64_t size, bool power_cut)
{
	static struct state now, next;
	size_t oldest = power_cut ? m->synced : m->op_count - (m->in_flight ? 1 : 0);
	bool found = false;

	start(m, &now);
	for (size_t k = 0; k < oldest; k++)
		apply(m, &m->ops[k], &now);
	copy_state(&next, &now);
	for (size_t k = oldest;; k++) {
		found = now.size_bytes == size && memcmp(now.bytes, bytes, size) == 0;
		if (found || k == m->op_count)
			break;
		apply(m, &m->ops[k], &next);
		found = is_part_of(&m->ops[k], &now, &next, bytes, size);
		if (found)
			break;
		apply(m, &m->ops[k], &now);
	}
	if (!found) {
		tell(m, &now, bytes, size);
		return false;
	}
	model_clear(m);
	m->base = malloc(size + 1);
	ASSERT(m->base);
	memcpy(m->base, bytes, size);
	m->base_bytes = size;
	return true;
}
