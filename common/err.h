/*
 * err - an error with its cause, in the caller's memory. Codes are negative errno values.
 * House codes: -EBADMSG checksum wrong, -EUCLEAN structure wrong, -ESTALE no longer owner,
 * -EAGAIN retryable, -EEXIST conditional put lost, -ESHUTDOWN stopping, -EIO the rest.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include "common/base.h"

#define ERR_MESSAGE_BYTES 480

struct err {
	int code;
	char message[ERR_MESSAGE_BYTES];
};

/*
 * Record an error at its origin and return its code, so that "return err_set(e, -EIO, ...)" reads.
 * Units:    code is negative.
 * Owns:     nothing; e may be NULL, then only the code travels.
 * Threads:  any; e belongs to the caller.
 */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same of a call that has no words of its own: "what: No space left on device". */
int err_because(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put "what: " before the message that a lower layer recorded; returns code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The one judge of what may be tried again: -EAGAIN, -ETIMEDOUT, -EINTR, -EBUSY. */
bool err_is_retryable(int code);

/* "No space left on device" for -ENOSPC, house meanings for house codes. Static storage. */
const char *err_name(int code);

#endif
