#include "tests/sim/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u

/* Contents while operations are applied one by one. */
struct state {
	uint8_t bytes[MODEL_BYTES];
	uint64_t size_bytes;
};

void model_fill(unsigned int number, uint64_t generation, uint64_t offset_bytes, void *dst,
		size_t len_bytes)
{
	uint8_t *to = dst;

	for (size_t i = 0; i < len_bytes; i++) {
		uint64_t at = offset_bytes + i;
		uint64_t v = number * UINT64_C(0x9e3779b97f4a7c15) +
			     at / SECTOR_BYTES * UINT64_C(0xbf58476d1ce4e5b9) +
			     generation * UINT64_C(0x94d049bb133111eb);

		to[i] = (uint8_t)(v >> (8 + at % 6 * 8) | 1); /* never zero */
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

void model_clear(struct model *m)
{
	free(m->base);
	m->base = NULL;
	m->base_bytes = 0;
	m->op_count = m->synced = 0;
	m->in_flight = false;
}

static void start(const struct model *m, struct state *s)
{
	memset(s->bytes, 0, sizeof(s->bytes));
	if (m->base)
		memcpy(s->bytes, m->base, m->base_bytes);
	s->size_bytes = m->base_bytes;
}

static void apply(const struct model *m, const struct model_op *op, struct state *s)
{
	uint64_t end = op->offset_bytes + op->len_bytes;

	switch (op->kind) {
	case MODEL_WRITE:
		model_fill(m->number, op->generation, op->offset_bytes, s->bytes + op->offset_bytes,
			   op->len_bytes);
		s->size_bytes = max_u64(s->size_bytes, end);
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
	}
}

/* Each byte as before or as after, and a size between the two; truncations are never in part. */
static bool is_part_of(const struct model_op *op, const struct state *before,
		       const struct state *after, const uint8_t *bytes, uint64_t size)
{
	if (op->kind == MODEL_TRUNCATE || size < min_u64(before->size_bytes, after->size_bytes) ||
	    size > max_u64(before->size_bytes, after->size_bytes))
		return false;
	for (uint64_t i = 0; i < size; i++)
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
			m->ops[i].kind == MODEL_WRITE ? "write" :
			m->ops[i].kind == MODEL_ZERO  ? "zero" :
							"truncate",
			m->ops[i].offset_bytes, m->ops[i].len_bytes, m->ops[i].generation);
}

bool model_accept(struct model *m, const uint8_t *bytes, uint64_t size, bool power_cut)
{
	static struct state now, next;
	size_t oldest = power_cut ? m->synced : m->op_count - (m->in_flight ? 1 : 0);
	bool found = false;

	start(m, &now);
	for (size_t k = 0; k <= m->op_count && !found; k++) {
		if (k >= oldest && now.size_bytes == size && memcmp(now.bytes, bytes, size) == 0)
			found = true;
		if (found || k == m->op_count)
			break;
		next = now;
		apply(m, &m->ops[k], &next);
		if (k >= oldest && is_part_of(&m->ops[k], &now, &next, bytes, size))
			found = true;
		now = next;
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
