/*
 * backend_s3_request - sign a request, send it, and say in house codes what a refusal means.
 *
 * Headers are signed all of them. The bytes of a body are, too, by their SHA-256, which the store
 * verifies: over plain HTTP nothing else would tell it that a bit flipped on the way.
 */
#include "backend/backend_s3.h"

#include "common/log.h"
#include "common/thread.h"
#include "common/units.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_S      INT64_C(1000000000)
#define URL_BYTES_MAX ((size_t)16 << 10)
#define OWN_HEADERS   5u /* host, date, hash, token, authorization */

STATIC_ASSERT(S3_HEADERS_MAX + OWN_HEADERS <= HTTP_HEADERS_MAX, "all headers fit");

/* What is made for one request. */
struct signed_request {
	struct buf path, query, url, authorization;
	char date[SIGV4_DATE_BYTES];
	struct http_header headers[S3_HEADERS_MAX + OWN_HEADERS];
	size_t header_count;
};

const char *s3_key_of(const struct store_s3 *s, const char *name, char *ret_key)
{
	size_t prefix_bytes = strlen(s->config.prefix), name_bytes = strlen(name);

	ASSERT(prefix_bytes + name_bytes <= S3_KEY_BYTES_MAX);
	memcpy(ret_key, s->config.prefix, prefix_bytes);
	memcpy(ret_key + prefix_bytes, name, name_bytes + 1);
	return ret_key;
}

/* ---- signing ------------------------------------------------------------------------------- */

static void signed_init(struct signed_request *q)
{
	*q = (struct signed_request){ .header_count = 0 };
	buf_init(&q->path, URL_BYTES_MAX);
	buf_init(&q->query, URL_BYTES_MAX);
	buf_init(&q->url, 2 * URL_BYTES_MAX);
	buf_init(&q->authorization, URL_BYTES_MAX);
}

static void signed_done(struct signed_request *q)
{
	buf_done(&q->path);
	buf_done(&q->query);
	buf_done(&q->url);
	buf_done(&q->authorization);
}

static void add(struct signed_request *q, const char *name, const char *value)
{
	q->headers[q->header_count++] = (struct http_header){ .name = name, .value = value };
}

static int make_path(const struct store_s3 *s, const struct s3_call *call, struct buf *path)
{
	int r = buf_append(path, "/", 1);

	if (r == 0 && s->config.is_path_style)
		r = buf_append(path, s->config.bucket, strlen(s->config.bucket));
	if (r == 0 && s->config.is_path_style && call->key)
		r = buf_append(path, "/", 1);
	if (r == 0 && call->key)
		r = http_escape(path, call->key, true);
	return r == 0 ? buf_append(path, "", 1) : r;
}

static int make_url(const struct store_s3 *s, const struct s3_call *call, struct signed_request *q)
{
	int r = make_path(s, call, &q->path);

	if (r == 0)
		r = sigv4_query(&q->query, call->params, call->param_count);
	if (r == 0)
		r = buf_append(&q->query, "", 1);
	if (r == 0)
		r = buf_printf(&q->url, "%s%s%s%s", s->config.endpoint, (char *)q->path.data,
			       call->param_count > 0 ? "?" : "", (char *)q->query.data);
	return r;
}

static int64_t now_s(struct store_s3 *s)
{
	return env_now_real_ns(s->env) / (int64_t)NS_PER_SEC + atomic_load(&s->skew_s);
}

static int sign(struct store_s3 *s, const struct s3_call *call, struct signed_request *q)
{
	const char *hash = call->payload_hash ? call->payload_hash : SIGV4_EMPTY_HASH;
	struct sigv4_keys keys = { .access = s->keys->access,
				   .secret = s->keys->secret,
				   .region = s->config.region,
				   .service = "s3" };
	struct sigv4_request request = { .method = call->method,
					 .headers = q->headers,
					 .payload_hash = hash };
	int r = make_url(s, call, q);

	if (r == 0)
		r = sigv4_date(now_s(s), q->date);
	if (r < 0)
		return r;
	for (size_t i = 0; i < call->header_count; i++)
		q->headers[q->header_count++] = call->headers[i];
	add(q, "Host", s->config.host);
	add(q, "x-amz-date", q->date);
	add(q, "x-amz-content-sha256", hash);
	if (s->keys->token[0] != '\0')
		add(q, "x-amz-security-token", s->keys->token);
	request.path = (char *)q->path.data;
	request.query = (char *)q->query.data;
	request.header_count = q->header_count;
	r = sigv4_sign(&q->authorization, &keys, &request, q->date);
	if (r == 0)
		add(q, "Authorization", (char *)q->authorization.data);
	return r;
}

static int send_once(struct store_s3 *s, struct s3_call *call, struct http_answer *ret_answer,
		     struct err *e)
{
	struct signed_request q;
	int r;

	ASSERT(call->header_count <= S3_HEADERS_MAX && call->param_count <= S3_PARAMS_MAX);
	signed_init(&q);
	r = sign(s, call, &q);
	if (r < 0) {
		r = err_set(e, r == -EINVAL ? -EINVAL : -EAGAIN, "s3: signing a request: %s",
			    err_name(r));
	} else {
		call->http.method = call->method;
		call->http.url = (char *)q.url.data;
		call->http.headers = q.headers;
		call->http.header_count = q.header_count;
		r = http_perform(s->http, &call->http, ret_answer, e);
	}
	signed_done(&q);
	return r;
}

/* ---- the store's clock --------------------------------------------------------------------- */

static bool is_skewed(const struct http_answer *a)
{
	struct s3_error error;

	if (a->status != 403 && a->status != 400)
		return false;
	s3_xml_error(&a->text, &error);
	return strcmp(error.code, "RequestTimeTooSkewed") == 0;
}

/* Take the time of an answer. False: it has none, or one that we used already. */
static bool learn_clock(struct store_s3 *s, const struct http_answer *a)
{
	const char *date = http_answer_header(a, "date");
	int64_t theirs_s, skew_s;

	if (!date || http_date_parse(date, &theirs_s) < 0)
		return false;
	skew_s = theirs_s - env_now_real_ns(s->env) / (int64_t)NS_PER_SEC;
	if (atomic_exchange(&s->skew_s, skew_s) == skew_s)
		return false;
	log_warning("backend: clocks differ, the store's is used to sign: skew_s=%" PRId64, skew_s);
	return true;
}

/* What the store asks for when it has too much to do; the router heeds it. */
static void note_busy(struct store_s3 *s, const struct http_answer *a)
{
	uint64_t after_ns = http_answer_retry_after_ns(a);

	if (after_ns > 0 && (a->status == 503 || a->status == 429))
		atomic_store(&s->store.busy_until_ns, clock_mono_ns() + after_ns);
}

int s3_perform(struct store_s3 *s, struct s3_call *call, struct http_answer *ret_answer,
	       struct err *e)
{
	int r = send_once(s, call, ret_answer, e);

	if (r == 0 && is_skewed(ret_answer) && learn_clock(s, ret_answer)) {
		/* It refused to look at the request, so nothing is done twice. */
		http_answer_done(ret_answer);
		r = send_once(s, call, ret_answer, e);
	}
	/* Once it had an address, its name server has trouble, which passes. */
	if (r == -EHOSTUNREACH && s->is_open)
		r = -EAGAIN;
	if (r < 0)
		return err_wrap(e, r, "s3: bucket '%s'", s->config.bucket);
	note_busy(s, ret_answer);
	return 0;
}

/* ---- refusals ------------------------------------------------------------------------------ */

/* What the store's own words mean, and the cure. */
static const struct {
	const char *code;
	int result;
	const char *cure;
} refusals[] = {
	{ "AccessDenied", -EACCES, "the key may not do that: check the policy of key and bucket" },
	{ "AllAccessDisabled", -EACCES, "the account is closed" },
	{ "InvalidAccessKeyId", -EACCES,
	  "the store does not know the access key: check the credentials" },
	{ "SignatureDoesNotMatch", -EACCES,
	  "the secret key does not belong to the access key: check the credentials" },
	{ "ExpiredToken", -EACCES, "the session token is too old: get a new one" },
	{ "InvalidToken", -EACCES, "the session token is wrong: check the credentials" },
	{ "RequestTimeTooSkewed", -EAGAIN, "set the clock of this machine" },
	{ "NoSuchBucket", -EAGAIN, "there is no such bucket: check its name, or make it" },
	{ "InvalidBucketName", -EINVAL, "the store does not like the name of the bucket" },
	{ "NoSuchUpload", -EAGAIN, "the upload in parts is gone" },
	{ "BadDigest", -EAGAIN, "the bytes changed on their way" },
	{ "XAmzContentSHA256Mismatch", -EAGAIN, "the bytes changed on their way" },
	{ "IncompleteBody", -EAGAIN, "the bytes were cut on their way" },
	{ "RequestTimeout", -EAGAIN, "the store waited too long for bytes" },
	{ "OperationAborted", -EAGAIN, "another request was in the way" },
	{ "ConditionalRequestConflict", -EAGAIN, "another request was in the way" },
	{ "SlowDown", -EAGAIN, "the store is busy" },
	{ "InternalError", -EAGAIN, "the store has trouble" },
	{ "ServiceUnavailable", -EAGAIN, "the store is busy" },
	{ "EntityTooLarge", -EFBIG, "the object is too long for the store" },
	{ "QuotaExceeded", -ENOSPC, "the quota of the account or bucket is used up" },
	{ "StorageFull", -ENOSPC, "the store is full" },
	{ "XMinioStorageFull", -ENOSPC, "the store is full" },
	{ "NotImplemented", -EOPNOTSUPP, "the store cannot do that" },
};

static const char *wrong_region(const struct http_answer *a, const struct s3_error *error)
{
	const char *region = http_answer_header(a, "x-amz-bucket-region");
	bool is_wrong = a->status == 301 ||
			strcmp(error->code, "AuthorizationHeaderMalformed") == 0 ||
			strcmp(error->code, "PermanentRedirect") == 0;

	if (!is_wrong)
		return NULL;
	if (region && *region != '\0' && strlen(region) < S3_CODE_BYTES &&
	    strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(region))
		return region;
	return error->region[0] != '\0' ? error->region : "another one";
}

static int by_status(int status, const char **ret_cure)
{
	switch (status) {
	case 401:
	case 403:
		*ret_cure = "not allowed: check the credentials, and the policy of key and bucket";
		return -EACCES;
	case 404:
		*ret_cure = "not there: check endpoint and bucket";
		return -EAGAIN;
	case 400:
	case 405:
	case 411:
	case 413:
		*ret_cure = "the store refuses the request: is this an S3 endpoint?";
		return -EIO;
	case 501:
		*ret_cure = "the store cannot do that";
		return -EOPNOTSUPP;
	case 507:
		*ret_cure = "the store is full";
		return -ENOSPC;
	default:
		*ret_cure = status >= 500 || status == 429 || status == 408 ?
				    "the store is busy or has trouble" :
				    "an answer that S3 does not have: check the endpoint";
		return -EAGAIN;
	}
}

int s3_refused(struct store_s3 *s, const struct http_answer *a, const char *what, const char *name,
	       struct err *e)
{
	const char *cure, *region;
	struct s3_error error;
	int r;

	s3_xml_error(&a->text, &error);
	region = wrong_region(a, &error);
	if (region)
		return err_set(e, -EINVAL,
			       "s3: bucket '%s' is in region %s, not in %s: set 'region' and "
			       "'endpoint' in the URL",
			       s->config.bucket, region, s->config.region);
	r = by_status(a->status, &cure);
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (strcmp(error.code, refusals[i].code) == 0) {
			r = refusals[i].result;
			cure = refusals[i].cure;
		}
	}
	return err_set(e, r, "s3: bucket '%s': %s '%s': %s (status %d%s%s)", s->config.bucket, what,
		       name, cure, a->status, error.code[0] != '\0' ? ", " : "", error.code);
}

int s3_code_error(struct store_s3 *s, const char *code, const char *what, const char *name,
		  struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (strcmp(code, refusals[i].code) == 0)
			return err_set(e, refusals[i].result, "s3: bucket '%s': %s '%s': %s (%s)",
				       s->config.bucket, what, name, refusals[i].cure, code);
	}
	/* Words of its own may mean anything, so they are no reason to give up. */
	return err_set(e, -EAGAIN, "s3: bucket '%s': %s '%s': the store has trouble",
		       s->config.bucket, what, name);
}

/* Is the bucket there? HEAD has no words, so it is asked for itself. */
static int check_bucket(struct store_s3 *s, const char *what, const char *name, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "HEAD" };
	int r = s3_perform(s, &call, &answer, e);

	if (r == 0 && answer.status == 404)
		r = err_set(e, -EAGAIN,
			    "s3: bucket '%s': there is no such bucket: check its name, or make it",
			    s->config.bucket);
	else if (r == 0 && (answer.status < 200 || answer.status > 299))
		r = s3_refused(s, &answer, what, name, e);
	http_answer_done(&answer);
	return r;
}

int s3_not_found(struct store_s3 *s, const struct http_answer *a, const char *what,
		 const char *name, struct err *e)
{
	struct s3_error error;
	int r;

	s3_xml_error(&a->text, &error);
	if (strcmp(error.code, "NoSuchKey") != 0) {
		if (error.code[0] != '\0')
			return s3_refused(s, a, what, name, e);
		r = check_bucket(s, what, name, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -ENOENT, "'%s': no such object", name);
}
