#include "common/err.h"

#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_failed(const char *expr, const char *file, int line)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "assertion failed: %s: file=%s line=%d", expr, file,
		       line);
	log_crash(text);
	abort();
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char message[ERR_MESSAGE_BYTES];
	va_list ap;

	if (e == NULL)
		return code;

	/* By way of a second buffer, since an argument may be the old message. */
	va_start(ap, fmt);
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = '\0';
	va_end(ap);

	e->code = code;
	memcpy(e->message, message, sizeof(message));
	return code;
}

int err_because(struct err *e, int code, const char *fmt, ...)
{
	char what[ERR_MESSAGE_BYTES];
	va_list ap;

	if (e == NULL)
		return code;

	va_start(ap, fmt);
	if (vsnprintf(what, sizeof(what), fmt, ap) < 0)
		what[0] = '\0';
	va_end(ap);
	return err_set(e, code, "%s: %s", what, err_name(code));
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char what[ERR_MESSAGE_BYTES];
	va_list ap;

	if (e == NULL)
		return code;

	va_start(ap, fmt);
	if (vsnprintf(what, sizeof(what), fmt, ap) < 0)
		what[0] = '\0';
	va_end(ap);

	/* A lower layer without words still has a code that says something. */
	return err_set(e, code, "%s: %s", what,
		       e->message[0] != '\0' ? e->message : err_name(code));
}

bool err_is_retryable(int code)
{
	switch (code) {
	case -EAGAIN:
	case -ETIMEDOUT:
	case -EINTR:
	case -EBUSY:
		return true;
	default:
		return false;
	}
}

const char *err_name(int code)
{
	const char *name;

	switch (code) {
	case 0:
		return "success";
	case -EBADMSG:
		return "checksum is wrong";
	case -EUCLEAN:
		return "structure is damaged";
	case -ESTALE:
		return "no longer the owner";
	case -EAGAIN:
		return "not now, try again";
	case -ELOOP:
		return "a symbolic link, which is not followed here";
	case -ESHUTDOWN:
		return "shutting down";
	default:
		break;
	}
	/* Positive codes are no errors of ours; INT_MIN has no positive twin. */
	if (code > 0 || code == INT32_MIN)
		return "unknown error";
	name = strerrordesc_np(-code);
	return name != NULL ? name : "unknown error";
}
