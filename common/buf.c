#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAP_BYTES_MIN 64u

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){ .max_bytes = max_bytes };
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ .max_bytes = b->max_bytes };
}

void buf_clear(struct buf *b)
{
	b->len_bytes = 0;
}

/* Make room for more_bytes behind len_bytes. */
static int reserve(struct buf *b, size_t more_bytes)
{
	size_t need, cap;
	uint8_t *data;

	ASSERT(b->len_bytes <= b->cap_bytes && b->cap_bytes <= b->max_bytes);
	if (more_bytes > b->max_bytes - b->len_bytes)
		return -E2BIG;
	need = b->len_bytes + more_bytes;
	if (need <= b->cap_bytes && b->data != NULL)
		return 0;

	/* Doubling keeps many small appends linear; near the maximum there is no room to double. */
	cap = b->cap_bytes <= b->max_bytes / 2 ? 2 * b->cap_bytes : b->max_bytes;
	cap = max_u64(max_u64(cap, need), CAP_BYTES_MIN);
	cap = min_u64(cap, b->max_bytes);
	if (cap == 0)
		return 0;
	data = realloc(b->data, cap);
	if (data == NULL)
		return -ENOMEM;
	b->data = data;
	b->cap_bytes = cap;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t len_bytes)
{
	int r;

	if (len_bytes == 0)
		return 0;
	r = reserve(b, len_bytes);
	if (r < 0)
		return r;
	memcpy(b->data + b->len_bytes, data, len_bytes);
	b->len_bytes += len_bytes;
	return 0;
}

uint8_t *buf_extend(struct buf *b, size_t len_bytes)
{
	uint8_t *p;

	if (reserve(b, len_bytes) < 0)
		return NULL;
	if (b->data == NULL) /* a maximum of 0: there is nothing to point at */
		return NULL;
	p = b->data + b->len_bytes;
	b->len_bytes += len_bytes;
	return p;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int len, r;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		return -EINVAL;

	r = reserve(b, (size_t)len + 1);
	if (r < 0)
		return r;
	if (b->data == NULL)
		return -E2BIG;
	va_start(ap, fmt);
	r = vsnprintf((char *)b->data + b->len_bytes, (size_t)len + 1, fmt, ap);
	va_end(ap);
	ASSERT(r == len);
	b->len_bytes += (size_t)len;
	return 0;
}
