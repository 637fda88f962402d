/*
 * backend_swift - what the files of the swift: store share. Private to them and their tests.
 *
 * backend_swift_url.c knows URLs, credentials and where they come from, backend_swift_auth.c how a
 * token is had and shared, backend_swift_json.c what Keystone and listings look like,
 * backend_swift_list.c pages of names, backend_swift_put.c puts, backend_swift_claim.c
 * those that are decided among several clients, backend_swift_bulk.c deletes of many names,
 * backend_swift.c requests and the rest.
 */
#ifndef BACKEND_BACKEND_SWIFT_H
#define BACKEND_BACKEND_SWIFT_H

#include "backend/backend_impl.h"
#include "backend/http.h"
#include "common/units.h"

/* Swift's own limit of a name, prefix and all. */
#define SWIFT_NAME_BYTES_MAX 1024u

/* ---- configuration (backend_swift_url.c) ---------------------------------------------------- */

/* What a credentials file or the environment may say, under these very names. */
enum swift_value {
	SWIFT_ST_AUTH,
	SWIFT_ST_USER,
	SWIFT_ST_KEY,
	SWIFT_OS_AUTH_URL,
	SWIFT_OS_USERNAME,
	SWIFT_OS_USER_ID,
	SWIFT_OS_PASSWORD,
	SWIFT_OS_USER_DOMAIN_NAME,
	SWIFT_OS_USER_DOMAIN_ID,
	SWIFT_OS_PROJECT_NAME,
	SWIFT_OS_PROJECT_ID,
	SWIFT_OS_PROJECT_DOMAIN_NAME,
	SWIFT_OS_PROJECT_DOMAIN_ID,
	SWIFT_OS_APPLICATION_CREDENTIAL_ID,
	SWIFT_OS_APPLICATION_CREDENTIAL_NAME,
	SWIFT_OS_APPLICATION_CREDENTIAL_SECRET,
	SWIFT_OS_REGION_NAME,
	SWIFT_OS_INTERFACE,
	SWIFT_VALUE_COUNT,
};

struct swift_config {
	char *container;
	char *prefix;	   /* of all names: "" or "a/b/" */
	char *auth_url;	   /* without a slash at its end; no user or password */
	char *storage_url; /* NULL: what the auth server says */
	char *ca_file;	   /* NULL: the system's */
	bool keystone;	   /* v3, else v1 */
	/* NULL: not given. region and interface of the URL stand in their places here. */
	char *value[SWIFT_VALUE_COUNT];
};

/*
 * Take "//container/prefix?auth=...&..." apart and gather the credentials: from the file that the
 * URL names, else from the environment.
 *
 * Owns:     *ret_config, for swift_config_done(); secrets are wiped then.
 * Errors:   -EINVAL something is missing, unknown or given twice; -EACCES others may read the
 *           file; what reading it says. Messages show neither secrets nor parts of the URL that
 *           might hold one by mistake.
 */
NODISCARD int swift_config_read(struct env *env, const char *rest, struct swift_config *ret_config,
				struct err *e);
void swift_config_done(struct swift_config *c);

/* An absolute http or https URL of printable ASCII without user, query or fragment. */
bool swift_url_is_good(const char *url);

/* The value's name, as in "set ST_KEY". */
const char *swift_value_name(enum swift_value v);

/* Overwrite and free; NULL is fine. */
void swift_secret_free(char *secret);

/* ---- what Keystone and containers say (backend_swift_json.c) ---------------------------------
 * Memory: 128 bytes for each byte of the text, whose length http_request bounds. */

/* The body of POST /v3/auth/tokens. Owns: *ret_text, for swift_secret_free(). Errors: -ENOMEM. */
NODISCARD int swift_keystone_request(const struct swift_config *c, char **ret_text, struct err *e);

/*
 * The endpoint of type object-store in Keystone's answer, by region and interface of c.
 * Owns:     *ret_url, to be freed.
 * Errors:   -EUCLEAN that is no catalogue; -EINVAL it has no such region or interface.
 */
NODISCARD int swift_keystone_endpoint(const struct swift_config *c, const void *text,
				      size_t len_bytes, char **ret_url, struct err *e);

/*
 * Call fn for every object of one page of a listing; fn != 0 ends it with that value. names are
 * those of the container, prefix included, and may be anything that is UTF-8.
 * Returns:  0 and how many entries the page has, what fn said, or -EUCLEAN: that is no listing.
 */
NODISCARD int swift_listing_parse(const void *text, size_t len_bytes,
				  int (*fn)(void *arg, const char *name,
					    const struct backend_object *object),
				  void *arg, size_t *ret_count, struct err *e);

/* How a bulk delete ended, by its own words: HTTP says 200 whatever happens. */
struct swift_bulk {
	int status; /* of "Response Status" */
	uint64_t deleted_count, absent_count, error_count;
};

/*
 * Call fn for each of the Errors: a path like "/container/name", escaped as the store likes, and the
 * status of its delete; fn != 0 ends it with that value.
 * Returns:  0, what fn said, or -EUCLEAN: that is no answer of a bulk delete.
 */
NODISCARD int swift_bulk_parse(const void *text, size_t len_bytes,
			       int (*fn)(void *arg, const char *path, int status), void *arg,
			       struct swift_bulk *ret_bulk, struct err *e);

/* ---- tokens (backend_swift_auth.c) ----------------------------------------------------------- */

struct swift_auth;

/* A copy of the token in force; swift_token_done() wipes and frees it. */
struct swift_token {
	char *text;
	char *storage_url; /* no slash at its end */
	uint64_t generation;
};
void swift_token_done(struct swift_token *t);

/* c and http must outlive it. Errors: -ENOMEM. */
NODISCARD int swift_auth_open(const struct swift_config *c, struct http_client *http,
			      struct swift_auth **ret_auth);
void swift_auth_close(struct swift_auth *a);

/*
 * The token in force, unless that is the one of generation `refused` (0: none is): then a new one.
 * It is asked for once, whoever wants it meanwhile waits and shares it, or its failure.
 *
 * Errors:   -EACCES wrong user or key; -EINVAL that is no auth service, or it names no usable
 *           store; -EAGAIN, -ETIMEDOUT and what else http_perform() says. Never -ENOENT, -EUCLEAN.
 * Threads:  any; blocks for a request.
 */
NODISCARD int swift_auth_token(struct swift_auth *a, uint64_t refused, struct swift_token *ret,
			       struct err *e);

/* ---- requests (backend_swift.c) -------------------------------------------------------------- */

struct store_swift {
	struct store store;
	struct env *env;
	struct swift_config config;
	char *container_path; /* "/container", escaped */
	struct http_client *http;
	struct swift_auth *auth;
	_Atomic bool reached; /* the store answered at least once */
};

/* One request about an object or, where name is NULL, the container, or the account. */
struct swift_request {
	const char *method;
	const char *name;  /* without the store's prefix */
	bool of_account;   /* about neither of them, but the account */
	const char *query; /* escaped, without '?'; NULL: none */
	const struct http_header *headers;
	size_t header_count;
	const struct backend_source *source;
	void (*sent)(void *arg, const void *bytes, size_t len_bytes); /* as http_request.sent */
	void *sent_arg;
	void *dst;
	size_t dst_len_bytes;
	size_t text_bytes_max;
};

/*
 * Send it with a token, and once more with a new one when that was refused.
 *
 * Owns:     http_answer_done(ret_answer) is the caller's after every call; it begins zeroed.
 * Returns:  0 when there is an answer, which is never 401.
 * Errors:   as swift_auth_token(); -EUCLEAN of http_perform() only where there is dst.
 */
NODISCARD int swift_perform(struct store_swift *s, const struct swift_request *q,
			    struct http_answer *ret_answer, struct err *e);

/* The house code for a status that is no success, with what to do about it. what: "putting". */
int swift_status_error(const struct store_swift *s, const struct http_answer *a, const char *what,
		       const char *name, struct err *e);

/*
 * The container itself is not there: never -ENOENT, which would say that an object is lost. It
 * cures itself when someone makes the container.
 */
int swift_no_container(const struct store_swift *s, struct err *e);

bool swift_is_success(const struct http_answer *a);

/* What a HEAD of the object, or of the container where name is NULL, is answered: 2xx or 404. */
NODISCARD int swift_look(struct store_swift *s, const char *name, int *ret_status, struct err *e);

/* ---- operations of the store (backend_impl.h) ------------------------------------------------ */

NODISCARD int swift_put(struct store *store, const char *name, const struct backend_source *source,
			unsigned int flags, struct backend_put_result *ret_result, struct err *e);

#define SWIFT_MD5_BYTES	     16u
#define SWIFT_MD5_TEXT_BYTES (2 * SWIFT_MD5_BYTES + 1)

/* MD5 of all of a source, in hex; CRC-32C and length of one in a file are checked on the way. */
NODISCARD int swift_md5(struct store_swift *s, const struct backend_source *source,
			char ret_text[SWIFT_MD5_TEXT_BYTES], struct err *e);

/* One put, not repeated but for a new token. Status: 0 there was no answer; see the return value. */
NODISCARD int swift_put_once(struct store_swift *s, const char *name,
			     const struct backend_source *source, const char *md5, bool if_absent,
			     int *ret_status, struct err *e);

/* A put on condition that the name is absent, and the second step of it (backend_swift_claim.c). */
#define SWIFT_SETTLE_NS (2 * NS_PER_SEC)

NODISCARD int swift_claim(struct store_swift *s, const char *name,
			  const struct backend_source *source, const char *md5, struct err *e);
NODISCARD int swift_confirm(struct store *store, const char *name,
			    const struct backend_source *source, struct err *e);

/* Names of one bulk delete: Swift works on a few at a time, and says nothing meanwhile for 10 s. */
#define SWIFT_DELETES_MAX 250u

NODISCARD int swift_del_many(struct store *store, const char *const *names, size_t count,
			     bool *gone, struct err *e);

NODISCARD int swift_list(struct store *store, const char *prefix, const char *after,
			 unsigned int count_max,
			 int (*fn)(void *arg, const char *name,
				   const struct backend_object *object),
			 void *arg, struct err *e);

#endif
