/*
 * sigv4 - AWS Signature Version 4, as headers of a request. Private to backend.
 *
 * Knows no clock and no store: who signs says when, and sends exactly what was signed. S3's dialect:
 * the path is escaped once and never normalized.
 */
#ifndef BACKEND_SIGV4_H
#define BACKEND_SIGV4_H

#include "backend/http.h"

#define SIGV4_DATE_BYTES     17u /* "20130524T000000Z" and NUL */
#define SIGV4_HASH_BYTES     65u /* hexadecimal SHA-256 and NUL */
#define SIGV4_PARAMS_MAX     16u
#define SIGV4_EMPTY_HASH     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGV4_NOT_HASHED     "UNSIGNED-PAYLOAD"
#define SIGV4_TEXT_BYTES_MAX ((size_t)64 << 10) /* of what is signed */

struct sigv4_keys {
	const char *access, *secret;
	const char *region, *service;
};

struct sigv4_param {
	const char *name, *value; /* as they are, not escaped */
};

struct sigv4_request {
	const char *method;
	const char *path;  /* escaped, begins with '/' */
	const char *query; /* of sigv4_query(); "" for none */
	/* To be signed: host and x-amz-date must be among them; names in any case, each once. */
	const struct http_header *headers;
	size_t header_count;
	const char *payload_hash; /* hexadecimal, or SIGV4_NOT_HASHED */
};

/* Seconds since 1970 as x-amz-date wants them. Errors: -EINVAL before 1970 or after 9999. */
NODISCARD int sigv4_date(int64_t seconds, char ret_date[SIGV4_DATE_BYTES]);

/*
 * Append the parameters, escaped and sorted, as they are signed and as they belong into the URL; a
 * parameter without a value is "name=". Errors: -ENOMEM, -E2BIG too many.
 */
NODISCARD int sigv4_query(struct buf *out, const struct sigv4_param *params, size_t count);

/*
 * Append the value of the Authorization header, and a NUL that is not counted.
 * Errors: -ENOMEM, -EINVAL a date that is none, -E2BIG too many headers.
 */
NODISCARD int sigv4_sign(struct buf *out, const struct sigv4_keys *keys,
			 const struct sigv4_request *request, const char *date);

/* What sigv4_sign() hashes, for tests and for who looks for the reason of a refusal. */
NODISCARD int sigv4_canonical(struct buf *out, const struct sigv4_request *request);

/* Hexadecimal SHA-256, and the same of a digest of 32 bytes. Errors: -ENOMEM. */
NODISCARD int sigv4_hash(const void *data, size_t len_bytes, char ret_hash[SIGV4_HASH_BYTES]);
void sigv4_hex(const uint8_t *digest, char ret_hash[SIGV4_HASH_BYTES]);

#endif
