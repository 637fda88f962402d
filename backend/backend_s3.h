/*
 * backend_s3 - parts of the `s3:` store that its files share; see backend_s3.c.
 */
#ifndef BACKEND_BACKEND_S3_H
#define BACKEND_BACKEND_S3_H

#include "backend/backend_impl.h"
#include "backend/http.h"
#include "backend/sigv4.h"

#include <stdatomic.h>

#define S3_PREFIX_BYTES_MAX 501u  /* its '/' too; with a name below the 1024 of a key */
#define S3_KEY_BYTES_MAX    1024u /* of an object, prefix included */
#define S3_PARAMS_MAX	    8u
#define S3_HEADERS_MAX	    8u
#define S3_CODE_BYTES	    64u
#define S3_PART_BYTES_MIN   ((uint64_t)5 << 20)
#define S3_PART_BYTES_MAX   ((uint64_t)4 << 30)
#define S3_PARTS_MAX	    10000u
#define S3_DELETES_MAX	    1000u /* names of one request */

/* ---- what the URL says (backend_s3_url.c) ---- */

struct s3_config {
	char *endpoint; /* "http://host:port", of virtual-host style with the bucket */
	char *host;	/* the value of Host */
	char *bucket;
	char *prefix; /* "" or "a/b/" */
	char *region;
	char *ca_file;	   /* NULL: the system's */
	char *credentials; /* path of a file; NULL: wherever they are */
	char *profile;	   /* NULL: AWS_PROFILE, or "default" */
	bool is_path_style;
	uint64_t part_bytes; /* objects above that travel in parts of that size */
};

/* rest is the URL behind "s3:". Errors: -EINVAL, -ENOMEM; no message holds a value of it but the
 * name of an option. */
NODISCARD int s3_config_parse(const char *rest, struct s3_config *ret_config, struct err *e);
void s3_config_done(struct s3_config *c);

/* ---- whose key (backend_s3_keys.c) ---- */

#define S3_ACCESS_BYTES_MAX 256u
#define S3_SECRET_BYTES_MAX 256u
#define S3_TOKEN_BYTES_MAX  4096u

/* Lies alone in pages that no core dump holds: made and freed by these two only. */
struct s3_keys {
	char access[S3_ACCESS_BYTES_MAX + 1];
	char secret[S3_SECRET_BYTES_MAX + 1];
	char token[S3_TOKEN_BYTES_MAX + 1]; /* "": none */
};

/*
 * The credentials: of the file that the URL names, else of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
 * and AWS_SESSION_TOKEN, else of ~/.aws/credentials.
 * Errors: -EACCES a file that others can read, -ENOENT no file or profile, -EINVAL not of the form.
 */
NODISCARD int s3_keys_load(struct env *env, const struct s3_config *config,
			   struct s3_keys **ret_keys, struct err *e);
void s3_keys_free(struct s3_keys *keys);

/* ---- answers in XML (backend_s3_xml.c) ---- */

/* At the end of each element: its path like "Error/Code" and its own text. != 0 ends it. */
typedef int s3_xml_fn(void *arg, const char *path, const char *text);

/* Errors: -EBADMSG not well-formed, a DTD, too deep or too long; what fn returned. Memory: 64 KiB, and
 * 64 bytes for each byte of the text. */
NODISCARD int s3_xml_parse(const struct buf *text, s3_xml_fn *fn, void *arg);

struct s3_error {
	char code[S3_CODE_BYTES]; /* "": there is none */
	char region[S3_CODE_BYTES];
};
/* What an <Error> says, as far as it has harmless characters; never fails. */
void s3_xml_error(const struct buf *text, struct s3_error *ret_error);

/* ---- requests (backend_s3_request.c) ---- */

struct store_s3 {
	struct store store;
	struct env *env;
	struct s3_config config;
	struct s3_keys *keys;
	struct http_client *http;
	bool is_open;
	_Atomic int64_t skew_s; /* what the store's clock shows more than ours */
};

/* A request; all but method is optional. Names and values are borrowed. */
struct s3_call {
	const char *method;
	const char *key; /* the whole one, prefix included; NULL: the bucket itself */
	struct sigv4_param params[S3_PARAMS_MAX];
	size_t param_count;
	struct http_header headers[S3_HEADERS_MAX];
	size_t header_count;
	const char *payload_hash; /* NULL: of no bytes */
	struct http_request http; /* body, source, dst; the rest is filled in */
};

/*
 * Sign, send, receive; learn the store's clock when that was wrong, and send once more.
 * Returns: 0 when there is an answer, whatever its status; else as http_perform().
 */
NODISCARD int s3_perform(struct store_s3 *s, struct s3_call *call, struct http_answer *ret_answer,
			 struct err *e);

/* The key of an object into memory of S3_KEY_BYTES_MAX + 1. */
const char *s3_key_of(const struct store_s3 *s, const char *name, char *ret_key);

/*
 * House code and words for an answer that is no success; `what` was tried, like "put 'x'".
 * -ENOENT and -EEXIST are never among them: who expects them looks at the status first.
 */
int s3_refused(struct store_s3 *s, const struct http_answer *a, const char *what, const char *name,
	       struct err *e);

/* The same for a code that stands in an answer for one of many names; never 0. */
int s3_code_error(struct store_s3 *s, const char *code, const char *what, const char *name,
		  struct err *e);

/* A 404: -ENOENT when the bucket is there and so the object is not, else what is wrong with it. */
int s3_not_found(struct store_s3 *s, const struct http_answer *a, const char *what,
		 const char *name, struct err *e);

/* ---- operations ---- */

int s3_put(struct store *store, const char *name, const struct backend_source *source,
	   unsigned int flags, struct backend_put_result *ret_result, struct err *e);
int s3_del_many(struct store *store, const char *const *names, size_t count, bool *gone,
		struct err *e);
int s3_list(struct store *store, const char *prefix, const char *after, unsigned int count_max,
	    int (*fn)(void *arg, const char *name, const struct backend_object *object), void *arg,
	    struct err *e);
/* Can the bucket be used, and put-if-absent? Sets the capability. See backend_s3_probe.c. */
NODISCARD int s3_probe(struct store_s3 *s, struct err *e);

#endif
