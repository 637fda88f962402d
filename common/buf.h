/*
 * buf - a byte buffer that grows, up to a maximum that its owner states when it is born.
 *
 * Invariant: len_bytes <= cap_bytes <= max_bytes; data is NULL exactly when cap_bytes is 0. A call
 * that fails leaves the buffer as it was. Pointers into data die with the next call that adds.
 * Not safe for threads: one owner.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/base.h"

struct buf {
	uint8_t *data;
	size_t len_bytes;
	size_t cap_bytes;
	size_t max_bytes;
};

/* Start empty; allocates nothing. */
void buf_init(struct buf *b, size_t max_bytes);

/* Free the memory; b is then empty with its old maximum, and may be used or done again. */
void buf_done(struct buf *b);

/* Forget the bytes, keep the memory. */
void buf_clear(struct buf *b);

/*
 * Add bytes at the end.
 *
 * Owns:     nothing; data must not point into b. data may be NULL when len_bytes is 0.
 * Errors:   -E2BIG beyond max_bytes; -ENOMEM. b is unchanged.
 */
NODISCARD int buf_append(struct buf *b, const void *data, size_t len_bytes);

/*
 * Add len_bytes bytes for the caller to fill, their content undefined.
 *
 * Owns:     the pointer is b's, good until the next call that adds.
 * Errors:   NULL beyond max_bytes or out of memory; b is unchanged. Never NULL for success, also
 *           when len_bytes is 0, as long as max_bytes is not 0.
 */
NODISCARD uint8_t *buf_extend(struct buf *b, size_t len_bytes);

/*
 * Add formatted text. A NUL follows it in data (not counted in len_bytes), so that a buffer of text
 * may be read as a string until something else is added.
 *
 * Errors:   -E2BIG when text and NUL go beyond max_bytes; -ENOMEM; -EINVAL bad format. b unchanged.
 */
NODISCARD int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
