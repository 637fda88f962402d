/*
 * codec - structures that are decoded at once from bytes of one length: what is decoded, encoded
 * again, is what came in, to the bit. (Encoders write every field at a place of its own, decoders
 * refuse all that is not a field and not zero.)
 */
#ifndef TESTS_FUZZ_CODEC_H
#define TESTS_FUZZ_CODEC_H

#include "common/buf.h"
#include "common/err.h"
#include "tests/fuzz/fuzz.h"

struct codec {
	const void *golden;
	size_t golden_bytes;
	bool is_fixed; /* its decoder takes no length: golden_bytes are there */
	size_t value_bytes;
	void (*seal)(uint8_t *bytes, size_t len_bytes);
	int (*decode)(const uint8_t *in, size_t len_bytes, void *ret_value, struct err *e);
	int (*encode)(const void *value, struct buf *out); /* appends */
	void (*done)(void *value);			   /* NULL: nothing to free */
};

/* All seeds of a list; the control word has the number in the list. */
void codec_seeds(const struct codec *codecs, size_t count);
/* One input for that of the list which the control word names. */
void codec_one(const struct codec *codecs, size_t count, const uint8_t *in, size_t len_bytes);

/* The functions of a codec over name##_decode(in, ret, e) and name##_encode(value, out) of a block. */
#define CODEC_OF_BLOCK(name, bytes)                                                                \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		uint8_t *p = buf_extend(out, bytes);                                               \
                                                                                                   \
		FUZZ_EXPECT(p);                                                                    \
		name##_encode(value, p);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		(void)len_bytes;                                                                   \
		return name##_decode(in, ret, e);                                                  \
	}
/* The same of name##_decode(in, len, ret, e). */
#define CODEC_OF_LABEL(name, bytes)                                                                \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		uint8_t *p = buf_extend(out, bytes);                                               \
                                                                                                   \
		FUZZ_EXPECT(p);                                                                    \
		name##_encode(value, p);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	CODEC_OF_BYTES_FROM(name)
/* And of name##_encode(value, buf). */
#define CODEC_OF_BYTES(name)                                                                       \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		return name##_encode(value, out);                                                  \
	}                                                                                          \
	CODEC_OF_BYTES_FROM(name)
#define CODEC_OF_BYTES_FROM(name)                                                                  \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		return name##_decode(in, len_bytes, ret, e);                                       \
	}
#define CODEC(name, seal_, fixed)                                                                  \
	{                                                                                          \
		.golden = golden_##name, .golden_bytes = sizeof(golden_##name),                    \
		.is_fixed = (fixed), .value_bytes = sizeof(struct name), .seal = (seal_),          \
		.decode = name##_from, .encode = name##_to_buf,                                    \
	}

#endif
