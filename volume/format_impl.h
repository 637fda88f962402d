/*
 * format_impl - what the encoders and decoders of format_*.c share. Nobody else includes it.
 *
 * Two rules hold for every structure. An encoder ASSERTs exactly what its decoder refuses (both ask
 * the same *_flaw() function), so nothing is ever written that could not be read back. A decoder
 * looks at magic, checksum, version, feature bits and fields in this order: the first two stand at
 * the same place in every version, so "damaged" and "newer than this program" are never confused.
 */
#ifndef VOLUME_FORMAT_IMPL_H
#define VOLUME_FORMAT_IMPL_H

#include <string.h>

#include "common/crc32c.h"
#include "common/endian.h"
#include "volume/format.h"

/* Blocks and labels begin alike (FORMAT.md section 1.3). */
enum {
	HEAD_MAGIC_AT = 0,
	HEAD_VERSION_AT = 8,
	HEAD_CRC_AT = 12, /* of the whole structure with this field zero */
	HEAD_BYTES = 16,
};
#define MAGIC_BYTES    8u
#define CRC_BYTES      4u
#define FEATURES_BYTES 24u

static inline bool format_all_zero(const uint8_t *p, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* CRC of len_bytes in which the four bytes at crc_at count as zero. */
static inline uint32_t format_crc_hole(uint32_t seed, const uint8_t *p, size_t len_bytes,
				       size_t crc_at)
{
	static const uint8_t hole[CRC_BYTES];
	uint32_t crc = crc32c(seed, p, crc_at);

	crc = crc32c(crc, hole, sizeof(hole));
	return crc32c(crc, p + crc_at + CRC_BYTES, len_bytes - crc_at - CRC_BYTES);
}

/* A salt enters a checksum as its start value, so it costs nothing. */
static inline uint32_t format_salt_seed(uint64_t salt)
{
	return (uint32_t)(salt ^ salt >> 32);
}

/* Magic, version and checksum, once all else is in place. */
static inline void format_head_seal(uint8_t *out, size_t len_bytes, const char *magic)
{
	memcpy(out + HEAD_MAGIC_AT, magic, MAGIC_BYTES);
	le32_put(out + HEAD_VERSION_AT, FORMAT_VERSION);
	le32_put(out + HEAD_CRC_AT, format_crc_hole(0, out, len_bytes, HEAD_CRC_AT));
}

NODISCARD static inline int format_head_check(const uint8_t *in, size_t len_bytes,
					      const char *magic, const char *what, struct err *e)
{
	uint32_t stored, computed, version;

	if (memcmp(in + HEAD_MAGIC_AT, magic, MAGIC_BYTES) != 0)
		return err_set(e, -EUCLEAN, "%s: not one, its magic is missing", what);
	stored = le32_get(in + HEAD_CRC_AT);
	computed = format_crc_hole(0, in, len_bytes, HEAD_CRC_AT);
	if (stored != computed)
		return err_set(e, -EBADMSG, "%s: checksum %08" PRIx32 " instead of %08" PRIx32,
			       what, computed, stored);
	version = le32_get(in + HEAD_VERSION_AT);
	if (version != FORMAT_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "%s: format version %" PRIu32 ", this program knows %u", what,
			       version, FORMAT_VERSION);
	return 0;
}

static inline void features_put(uint8_t out[FEATURES_BYTES], const struct features *f)
{
	le64_put(out, f->compat);
	le64_put(out + 8, f->ro_compat);
	le64_put(out + 16, f->incompat);
}

static inline struct features features_get(const uint8_t in[FEATURES_BYTES])
{
	return (struct features){
		.compat = le64_get(in),
		.ro_compat = le64_get(in + 8),
		.incompat = le64_get(in + 16),
	};
}

static inline bool features_known(const struct features *f)
{
	return (f->ro_compat & ~FEATURES_KNOWN_RO_COMPAT) == 0 &&
	       (f->incompat & ~FEATURES_KNOWN_INCOMPAT) == 0;
}

/* This program always writes what it opens, so a foreign ro_compat bit refuses as well. */
NODISCARD static inline int features_check(const struct features *f, const char *what,
					   struct err *e)
{
	if (features_known(f))
		return 0;
	return err_set(e, -EPROTONOSUPPORT,
		       "%s: needs features that this program does not know: ro_compat %" PRIx64
		       ", incompat %" PRIx64,
		       what, f->ro_compat & ~FEATURES_KNOWN_RO_COMPAT,
		       f->incompat & ~FEATURES_KNOWN_INCOMPAT);
}

/* The same of a pool's row and a root, which know more. */
static inline struct features features_but_pools(const struct features *f)
{
	struct features rest = *f;

	rest.incompat &= ~FEATURES_OF_POOL;
	return rest;
}

static inline bool pool_features_known(const struct features *f)
{
	const struct features rest = features_but_pools(f);

	return features_known(&rest);
}

NODISCARD static inline int pool_features_check(const struct features *f, const char *what,
						struct err *e)
{
	const struct features rest = features_but_pools(f);

	return features_check(&rest, what, e);
}

/* First and last LSN of a range that may be empty (0, 0). */
static inline bool lsn_range_is_sound(lsn_t first, lsn_t last)
{
	return (first == 0) == (last == 0) && first <= last;
}

static inline bool sco_number_is_sound(uint64_t sco)
{
	return sco >= 1 && sco <= SCO_NUMBER_MAX;
}

/* Version byte before the fields of a row's value, checksum behind them. */
#define ROW_BYTES(fields) (1u + (fields) + CRC_BYTES)

/* format_row.c: put version and checksum around the fields and append the value. */
NODISCARD int row_append(enum row_kind kind, uint8_t *value, size_t len_bytes, struct buf *out);
/* Checksum and version of a value; then it is at least as long as an empty row. */
NODISCARD int row_check(enum row_kind kind, const uint8_t *in, size_t len_bytes, const char *what,
			struct err *e);

/* NULL, or what is wrong with an entry; the place of its slots in a batch is not looked at. */
const char *log_entry_flaw(const struct log_entry *entry);

/* --- Objects on the backend (format_backend.c) --------------------------------------------------- */

/* What is left to decode of an object. */
struct cursor {
	const uint8_t *p;
	size_t left;
};

/* Behind the name: length and checksum of the object that it names. */
#define NAMED_TAIL_BYTES 12u
#define NAMED_BYTES_MIN	 (1u + 1u + NAMED_TAIL_BYTES)

void object_head_put(uint8_t *out, const char *magic);
/* Magic, checksum and version of an object that is head_bytes and a checksum long at least. */
NODISCARD int object_check(const uint8_t *in, size_t len_bytes, size_t head_bytes,
			   const char *magic, const char *what, struct err *e);
/* The next bytes, or NULL when there are not so many. */
const uint8_t *cursor_take(struct cursor *c, size_t len_bytes);
/* Relative, of plain characters, no empty, "." or ".." component: safe as a path below any root. */
bool name_is_sound(const char name[OBJECT_NAME_MAX + 1]);
/* With its length before it. */
size_t name_bytes(const char *name);
uint8_t *named_object_put(const struct named_object *o, uint8_t *p);
/* Errors: -EUCLEAN. */
NODISCARD int named_object_get(struct cursor *c, struct named_object *ret_object);

#endif
