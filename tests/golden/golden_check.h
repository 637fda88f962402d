/*
 * golden_check - the same questions to every structure: are these still the bytes of version 1, do
 * they decode to what was encoded, is each flipped bit and each truncation refused.
 *
 * Fields are compared by encoding what was decoded: an encoder writes every field in full width at
 * a place of its own, so two structures with the same bytes have the same fields.
 */
#ifndef TESTS_GOLDEN_CHECK_H
#define TESTS_GOLDEN_CHECK_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "volume/format.h"

struct golden {
	const char *name;
	const uint8_t *bytes;
	size_t len_bytes;
	const void *value; /* what the bytes say */
	size_t value_bytes;
	int (*encode)(const void *value, struct buf *out);
	int (*decode)(const uint8_t *in, size_t len_bytes, void *ret_value, struct err *e);
	void (*done)(void *value); /* NULL: nothing to free */
	bool is_block;		   /* its decoder takes a block, not a length */
};

#define GOLDEN_SENTINEL	 0xa5
#define GOLDEN_BYTES_MAX 65536u

static inline void golden_done(const struct golden *g, void *value)
{
	if (g->done != NULL)
		g->done(value);
	free(value);
}

static inline void *golden_sentinels(const struct golden *g)
{
	void *value = malloc(g->value_bytes);

	ck_assert_ptr_nonnull(value);
	memset(value, GOLDEN_SENTINEL, g->value_bytes);
	return value;
}

static inline void golden_check_encode(const struct golden *g)
{
	struct buf out;

	buf_init(&out, GOLDEN_BYTES_MAX);
	ck_assert_int_eq(g->encode(g->value, &out), 0);
	ck_assert_msg(out.len_bytes == g->len_bytes, "%s: %zu bytes instead of %zu", g->name,
		      out.len_bytes, g->len_bytes);
	for (size_t i = 0; i < g->len_bytes; i++)
		ck_assert_msg(out.data[i] == g->bytes[i], "%s: byte %zu is %02x instead of %02x",
			      g->name, i, out.data[i], g->bytes[i]);
	buf_done(&out);
}

static inline void golden_check_decode(const struct golden *g)
{
	void *value = golden_sentinels(g);
	struct err e = { 0 };
	struct buf out;
	int r;

	r = g->decode(g->bytes, g->len_bytes, value, &e);
	ck_assert_msg(r == 0, "%s: %d %s", g->name, r, e.message);
	buf_init(&out, GOLDEN_BYTES_MAX);
	ck_assert_int_eq(g->encode(value, &out), 0);
	ck_assert_uint_eq(out.len_bytes, g->len_bytes);
	ck_assert_mem_eq(out.data, g->bytes, g->len_bytes);
	buf_done(&out);
	golden_done(g, value);
}

/* check tells its parent of each assertion that holds; here they are hundreds of thousands. */
#define GOLDEN_EXPECT(x, ...)                                                                      \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

/* Refused with a house code and words, and the output as it was: value holds sentinels. */
static inline void golden_check_refused(const struct golden *g, uint8_t *value, const uint8_t *in,
					size_t len_bytes, size_t where)
{
	struct err e = { 0 };
	int r = g->decode(in, len_bytes, value, &e);

	GOLDEN_EXPECT(r == -EBADMSG || r == -EUCLEAN || r == -EPROTONOSUPPORT,
		      "%s: damage at %zu gives %d", g->name, where, r);
	GOLDEN_EXPECT(e.code == r && e.message[0] != '\0', "%s: no message", g->name);
	for (size_t i = 0; i < g->value_bytes; i++)
		GOLDEN_EXPECT(value[i] == GOLDEN_SENTINEL, "%s: damage at %zu changed the output",
			      g->name, where);
}

static inline void golden_check_flips(const struct golden *g)
{
	uint8_t *copy = malloc(g->len_bytes);
	void *value = golden_sentinels(g);

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, g->bytes, g->len_bytes);
	for (size_t bit = 0; bit < g->len_bytes * 8; bit++) {
		copy[bit / 8] = (uint8_t)(copy[bit / 8] ^ 1u << bit % 8);
		golden_check_refused(g, value, copy, g->len_bytes, bit / 8);
		copy[bit / 8] = g->bytes[bit / 8];
	}
	free(value);
	free(copy);
}

/* In memory of exactly that length, so that a sanitizer sees a read behind it. */
static inline void golden_check_lengths(const struct golden *g)
{
	void *value = golden_sentinels(g);

	for (size_t len = 0; !g->is_block && len <= g->len_bytes + 1; len++) {
		uint8_t *copy;

		if (len == g->len_bytes)
			continue;
		copy = malloc(len != 0 ? len : 1);
		ck_assert_ptr_nonnull(copy);
		memset(copy, 0, len != 0 ? len : 1);
		memcpy(copy, g->bytes, len < g->len_bytes ? len : g->len_bytes);
		golden_check_refused(g, value, copy, len, len);
		free(copy);
	}
	free(value);
}

#endif
