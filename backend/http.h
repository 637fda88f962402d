/*
 * http - HTTP requests of the stores: a bounded set of connections that are kept alive, one blocking
 * call for a request and its answer. The only place that knows libcurl. Private to backend.
 *
 * Knows nothing of any store's protocol: it neither retries nor signs nor judges a status.
 */
#ifndef BACKEND_HTTP_H
#define BACKEND_HTTP_H

#include "backend/backend.h"
#include "common/buf.h"

/* Headers of a request, names of an answer that can be asked for. */
#define HTTP_HEADERS_MAX 32u

struct http_options {
	const char *ca_file;	      /* NULL: the system's */
	unsigned int connections_max; /* idle and busy together; 0: 16 */
	uint64_t connect_timeout_ns;  /* 0: 5 s */
	uint64_t timeout_ns;	      /* of one request, all of it; 0: 60 s */
	/* A transfer slower than this for stall_timeout_ns ends with -ETIMEDOUT; 0: 10 s */
	uint64_t stall_timeout_ns;
};

struct http_client;

/* One "Name: value"; both borrowed. Values must have no CR or LF: -EINVAL otherwise. */
struct http_header {
	const char *name, *value;
};

/* Where the body of a request comes from: nothing, memory, or a source read through source.h. */
struct http_request {
	const char *method; /* GET PUT HEAD DELETE POST */
	const char *url;    /* complete, escaped */
	const struct http_header *headers;
	size_t header_count;
	const void *body; /* NULL: source, or none */
	size_t body_len_bytes;
	const struct backend_source *source; /* NULL: body, or none */
	uint64_t source_offset_bytes;	     /* a part of it (multipart); 0 and source_len_bytes */
	uint64_t source_len_bytes;	     /* 0: all of it */
	/* Told the bytes of the source while they leave, in order; NULL, 0: they begin (again). */
	void (*sent)(void *arg, const void *bytes, size_t len_bytes);
	void *sent_arg;
	/* A body of a success goes to dst, exactly dst_len_bytes; NULL: into the answer's text. */
	void *dst;
	size_t dst_len_bytes;
	size_t text_bytes_max; /* longer answers are -EFBIG; 0: 1 MiB */
};

/* What came back. Zero it first, http_answer_done() after every call; may be used again then. */
struct http_answer {
	int status;	     /* 100..599; 0: there was none, see the return value */
	struct buf text;     /* body: of errors always, of successes where there was no dst */
	uint64_t body_bytes; /* that came, wherever they went */
	struct buf headers;  /* "name\0value\0" each, names in lower case */
};

/*
 * Owns:     *ret_client, closed by http_client_close() when no request is under way. env must
 *           outlive it.
 * Errors:   -ENOENT ca_file, -ENOMEM.
 * Threads:  any number of requests at the same time; one beyond connections_max waits for a
 *           connection inside its own time-out.
 */
NODISCARD int http_client_open(struct env *env, const struct http_options *options,
			       struct http_client **ret_client, struct err *e);
void http_client_close(struct http_client *c);

/*
 * Send a request, receive the answer.
 *
 * Returns:  0 when there is a whole answer, whatever its status.
 * Errors:   -EAGAIN not connected, reset, cut or not HTTP (curing itself, perhaps), -ETIMEDOUT,
 *           -EHOSTUNREACH the name does not resolve, -EUCLEAN the body of a success is not
 *           dst_len_bytes long (cut ones included where there is a dst), -EFBIG,
 *           -EKEYREJECTED the certificate is not good (e says why and what to set), -EINVAL a bad
 *           URL, method or header; what reading the source says, -EBADMSG that it has not its
 *           checksum: then not all of the body was sent. The message names the host, never a
 *           header's value, a query or a password. ret_answer->status may be set all the same.
 * Threads:  any. Blocks up to the time-out. No signal is raised or handled.
 * Notes:    never follows a redirect; "Expect: 100-continue" is not sent; HTTP/1.1; no proxy; of an
 *           error's text what fits. A PUT or POST is sent once: one whose kept connection died is
 *           -EAGAIN, as it may have been carried out.
 */
NODISCARD int http_perform(struct http_client *c, const struct http_request *request,
			   struct http_answer *ret_answer, struct err *e);
void http_answer_done(struct http_answer *a);

/* Value of a header of the answer, the name in lower case; NULL: it has none. Borrowed from a. */
const char *http_answer_header(const struct http_answer *a, const char *name);

/*
 * How long the answer asks to be left alone (Retry-After in seconds, or until a date of its own
 * clock), at most 10 minutes; 0: it does not.
 */
uint64_t http_answer_retry_after_ns(const struct http_answer *a);

/*
 * Append text, percent-escaped as RFC 3986 wants: all but A-Z a-z 0-9 - . _ ~ and, where
 * keep_slash, '/'. Returns 0 or -ENOMEM.
 */
NODISCARD int http_escape(struct buf *out, const char *text, bool keep_slash);

/*
 * Undo %XX in place and, where plus_is_blank, '+'. Errors: -EINVAL a bad escape, or one of a NUL; text
 * is then undefined.
 */
NODISCARD int http_unescape(char *text, bool plus_is_blank);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7, all three forms) in seconds since 1970. */
NODISCARD int http_date_parse(const char *text, int64_t *ret_seconds);

#endif
