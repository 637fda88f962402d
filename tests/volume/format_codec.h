/*
 * format_codec - the same questions to every structure, of random values and of hostile bytes: does a
 * round trip give back what went in, is what is accepted the only form of its meaning, is what is cut
 * off, foreign or newer refused.
 */
#ifndef TESTS_FORMAT_CODEC_H
#define TESTS_FORMAT_CODEC_H

#include <check.h>
#include <stdlib.h>

#include "format_random.h"

#define ROUNDS	       400
#define GARBAGE_ROUNDS 100000

/* check tells its parent of each assertion that holds; too slow for the loops here. */
#define EXPECT(x, ...)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

struct codec {
	const char *name;
	size_t block_bytes; /* length that its decoder takes for granted; 0: told */
	size_t version_at, version_bytes;
	size_t features_at; /* 0: none */
	void (*random)(struct rng *rng, void *value);
	int (*encode)(const void *value, struct buf *out);
	int (*decode)(const uint8_t *in, size_t len_bytes, void *ret_value, struct err *e);
	void (*done)(void *value);
	void (*reseal)(uint8_t *p, size_t len_bytes);
};

/* --- Random values ----------------------------------------------------------------------------- */

static inline struct features random_features(struct rng *rng)
{
	return (struct features){ .compat = rng_u64(rng) };
}

static inline struct uuid random_uuid(struct rng *rng)
{
	struct uuid uuid;

	rng_bytes(rng, &uuid, sizeof(uuid));
	return uuid;
}

static inline uint64_t random_sco(struct rng *rng)
{
	return rng_between(rng, 1, SCO_NUMBER_MAX);
}

static inline void random_lsns(struct rng *rng, lsn_t *ret_first, lsn_t *ret_last)
{
	*ret_first = rng_between(rng, 0, UINT64_MAX);
	*ret_last = *ret_first == 0 ? 0 : rng_between(rng, *ret_first, UINT64_MAX);
}

/* --- Questions --------------------------------------------------------------------------------- */

union value {
	uint8_t bytes[8192]; /* more than any structure has */
	max_align_t align;
};

static inline void value_done(const struct codec *c, union value *value)
{
	if (c->done != NULL)
		c->done(value);
}

static inline void encode_random(const struct codec *c, struct rng *rng, struct buf *out)
{
	union value value;

	c->random(rng, &value);
	buf_clear(out);
	EXPECT(c->encode(&value, out) == 0, "%s: not encoded", c->name);
	value_done(c, &value);
}

/* Bytes that are accepted are the only ones with that meaning: they encode to themselves. */
static inline void expect_canonical(const struct codec *c, union value *value, const struct buf *in)
{
	struct buf again;

	buf_init(&again, 1u << 20);
	EXPECT(c->encode(value, &again) == 0, "%s: not encoded again", c->name);
	EXPECT(again.len_bytes == in->len_bytes && memcmp(again.data, in->data, in->len_bytes) == 0,
	       "%s: accepted bytes encode to others", c->name);
	buf_done(&again);
}

static inline void codec_check_round_trip(const struct codec *c)
{
	struct rng rng = { 1 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		union value value;
		struct err e = { 0 };

		encode_random(c, &rng, &bytes);
		EXPECT(c->decode(bytes.data, bytes.len_bytes, &value, &e) == 0, "%s: %s", c->name,
		       e.message);
		expect_canonical(c, &value, &bytes);
		value_done(c, &value);
	}
	buf_done(&bytes);
}

/* The checksum is right, so only the checks of the fields stand between damage and the engine. */
static inline void codec_check_damage(const struct codec *c)
{
	unsigned int refused = 0;
	struct rng rng = { 2 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < 4 * ROUNDS; i++) {
		union value value;
		size_t at;
		int r;

		if (i % 4 == 0)
			encode_random(c, &rng, &bytes);
		at = (size_t)rng_between(&rng, 0, bytes.len_bytes - 1);
		bytes.data[at] = (uint8_t)rng_u64(&rng);
		c->reseal(bytes.data, bytes.len_bytes);
		r = c->decode(bytes.data, bytes.len_bytes, &value, NULL);
		EXPECT(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT, "%s: %d", c->name, r);
		if (r < 0) {
			refused++;
			continue;
		}
		expect_canonical(c, &value, &bytes);
		value_done(c, &value);
	}
	buf_done(&bytes);
	ck_assert_uint_gt(refused, 0);
}

/* Cut off at a random place and sealed again, in memory of exactly that length. */
static inline void codec_check_truncation(const struct codec *c)
{
	struct rng rng = { 3 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < ROUNDS && c->block_bytes == 0; i++) {
		union value value;
		uint8_t *cut;
		size_t len;
		int r;

		encode_random(c, &rng, &bytes);
		len = (size_t)rng_between(&rng, 0, bytes.len_bytes - 1);
		cut = malloc(len != 0 ? len : 1);
		EXPECT(cut != NULL, "no memory");
		memcpy(cut, bytes.data, len);
		if (len >= 16)
			c->reseal(cut, len);
		r = c->decode(cut, len, &value, NULL);
		EXPECT(r == -EUCLEAN || (len < 16 && r == -EBADMSG), "%s: %zu of %zu bytes: %d",
		       c->name, len, bytes.len_bytes, r);
		free(cut);
	}
	buf_done(&bytes);
}

static inline void codec_check_garbage(const struct codec *c)
{
	struct rng rng = { 4 };
	uint8_t garbage[BLOCK_BYTES];

	rng_bytes(&rng, garbage, sizeof(garbage));
	for (unsigned int i = 0; i < GARBAGE_ROUNDS; i++) {
		const uint64_t change = rng_u64(&rng);
		size_t len = (size_t)rng_between(&rng, 0, sizeof(garbage));
		union value value;
		int r;

		/* New garbage by eight bytes: the rest stays as random as it was. */
		memcpy(garbage + change % (sizeof(garbage) - 8), &change, sizeof(change));
		if (c->block_bytes != 0)
			len = c->block_bytes;
		r = c->decode(garbage + sizeof(garbage) - len, len, &value, NULL);
		EXPECT(r == -EUCLEAN || r == -EBADMSG, "%s: %d", c->name, r);
	}
}

static inline void codec_check_newer_version(const struct codec *c)
{
	struct rng rng = { 5 };
	struct err e = { 0 };
	union value value;
	struct buf bytes;

	if (c->version_bytes == 0)
		return;
	buf_init(&bytes, 1u << 20);
	encode_random(c, &rng, &bytes);
	bytes.data[c->version_at] = FORMAT_VERSION + 1;
	c->reseal(bytes.data, bytes.len_bytes);
	ck_assert_int_eq(c->decode(bytes.data, bytes.len_bytes, &value, &e), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(e.message, "version 2"));
	buf_done(&bytes);
}

/* Bit 128, the first of incompat, is that of snapshots, the next ones those of FEATURES_OF_POOL. */
#define POOL_BIT_FIRST 129u
#define POOL_BIT_LAST  134u

static inline void codec_check_features(const struct codec *c)
{
	struct rng rng = { 6 };
	union value value;
	struct buf bytes;

	if (c->features_at == 0)
		return;
	buf_init(&bytes, 1u << 20);
	for (unsigned int bit = 0; bit < 192; bit++) {
		uint8_t *p;
		int r;

		/* Those that these two know. */
		if (bit >= POOL_BIT_FIRST && bit <= POOL_BIT_LAST &&
		    (strcmp(c->name, "pool_row") == 0 || strcmp(c->name, "root") == 0))
			continue;
		encode_random(c, &rng, &bytes);
		p = bytes.data + c->features_at + bit / 8;
		*p = (uint8_t)(*p | 1u << bit % 8);
		c->reseal(bytes.data, bytes.len_bytes);
		r = c->decode(bytes.data, bytes.len_bytes, &value, NULL);
		ck_assert_int_eq(r, bit < 64 || bit == 128 ? 0 : -EPROTONOSUPPORT);
		if (r == 0)
			value_done(c, &value);
	}
	buf_done(&bytes);
}

static inline void codec_check_no_room(const struct codec *c)
{
	struct rng rng = { 7 };
	union value value;
	struct buf small;

	buf_init(&small, 10);
	ck_assert_int_eq(buf_append(&small, "abc", 3), 0);
	c->random(&rng, &value);
	ck_assert_int_lt(c->encode(&value, &small), 0);
	ck_assert_uint_eq(small.len_bytes, 3);
	value_done(c, &value);
	buf_done(&small);
}

/* --- Tests ------------------------------------------------------------------------------------- */

static const struct codec *codec_table; /* that codec_tests_add() was given */

START_TEST(random_values_survive_a_round_trip)
{
	codec_check_round_trip(&codec_table[_i]);
}
END_TEST

START_TEST(damage_under_a_right_checksum_is_refused_or_harmless)
{
	codec_check_damage(&codec_table[_i]);
}
END_TEST

START_TEST(truncation_under_a_right_checksum_is_refused)
{
	codec_check_truncation(&codec_table[_i]);
}
END_TEST

START_TEST(garbage_is_refused)
{
	codec_check_garbage(&codec_table[_i]);
}
END_TEST

START_TEST(a_newer_version_is_not_supported_rather_than_damaged)
{
	codec_check_newer_version(&codec_table[_i]);
}
END_TEST

START_TEST(foreign_feature_bits_refuse_unless_compatible)
{
	codec_check_features(&codec_table[_i]);
}
END_TEST

START_TEST(an_encoder_without_room_fails_and_leaves_the_buffer)
{
	codec_check_no_room(&codec_table[_i]);
}
END_TEST

/* All of the above, of each codec. The table stays. */
static inline void codec_tests_add(TCase *tc, const struct codec *codecs, int count)
{
	codec_table = codecs;
	tcase_add_loop_test(tc, random_values_survive_a_round_trip, 0, count);
	tcase_add_loop_test(tc, damage_under_a_right_checksum_is_refused_or_harmless, 0, count);
	tcase_add_loop_test(tc, truncation_under_a_right_checksum_is_refused, 0, count);
	tcase_add_loop_test(tc, garbage_is_refused, 0, count);
	tcase_add_loop_test(tc, a_newer_version_is_not_supported_rather_than_damaged, 0, count);
	tcase_add_loop_test(tc, foreign_feature_bits_refuse_unless_compatible, 0, count);
	tcase_add_loop_test(tc, an_encoder_without_room_fails_and_leaves_the_buffer, 0, count);
}

#endif
