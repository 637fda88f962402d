/*
 * backend_s3 - objects in a bucket of Amazon S3 or of what speaks its protocol.
 *
 * Object "a/b" is the key PREFIX/a/b. The files:
 *	backend_s3_url.c      what the URL says
 *	backend_s3_keys.c     credentials
 *	backend_s3_request.c  signing, the store's clock, what refusals mean
 *	backend_s3_put.c      put, whole or in parts
 *	backend_s3_list.c     list
 *	backend_s3_delete.c   deletes of many names
 *	backend_s3_probe.c    whether put-if-absent works
 *	backend_s3_xml.c      answers in XML
 *
 * What is believed. A range is taken from a 206 that names just that range, or from a 200 when the
 * range begins the object: then libcurl saw that it is all of it. That an object is absent is
 * believed when the store says "no such key", or says 404 and has the bucket; a bucket that is gone
 * is trouble, not a pool without objects. And it is asked twice more: Swift with one replica was seen
 * to answer 404 for an object that was just being replaced, once in some hundred reads. Bytes are
 * verified above, by their CRC-32C.
 *
 * Opening asks the store: wrong keys, a wrong bucket or region show there and then.
 */
#include "backend/backend_s3.h"

#include "common/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The router counts what is under way; a few more are for who compares while others wait. */
#define CONNECTIONS_DEFAULT 8u
#define CONNECTIONS_SPARE   2u
/* The longest single answer: the join of a very large object's parts takes minutes. */
#define REQUEST_TIMEOUT_NS (600 * NS_PER_SEC)
#define STALL_TIMEOUT_NS   (20 * NS_PER_SEC)
#define ABSENT_ASK_COUNT   2u /* how often it is asked again whether an object is not there */

static struct store_s3 *store_s3_of(struct store *s)
{
	return CONTAINER_OF(s, struct store_s3, store);
}

/* ---- get ----------------------------------------------------------------------------------- */

/* "bytes 5-9/100" is the range that was asked for. */
static bool is_range(const char *text, uint64_t offset_bytes, size_t len_bytes)
{
	char expected[64];
	int n = snprintf(expected, sizeof(expected), "bytes %" PRIu64 "-%" PRIu64 "/", offset_bytes,
			 offset_bytes + len_bytes - 1);

	return text && strncmp(text, expected, (size_t)n) == 0;
}

/* A 404 about an object: -ENOENT once that is sure. */
static int judge_absent(struct store_s3 *s, const struct http_answer *a, const char *what,
			const char *name, struct err *e)
{
	char key[S3_KEY_BYTES_MAX + 1];
	struct s3_call call = { .method = "HEAD", .key = s3_key_of(s, name, key) };
	int r = s3_not_found(s, a, what, name, e);

	for (unsigned int i = 0; r == -ENOENT && i < ABSENT_ASK_COUNT; i++) {
		struct http_answer answer = { .status = 0 };
		int asked = s3_perform(s, &call, &answer, e);

		if (asked < 0)
			r = asked;
		else if (answer.status == 200)
			r = err_set(e, -EAGAIN, "s3: '%s': is being replaced", name);
		else if (answer.status != 404)
			r = s3_refused(s, &answer, what, name, e);
		http_answer_done(&answer);
	}
	return r;
}

static int judge_get(struct store_s3 *s, const struct http_answer *a, const char *name,
		     uint64_t offset_bytes, size_t len_bytes, struct err *e)
{
	switch (a->status) {
	case 206:
		if (is_range(http_answer_header(a, "content-range"), offset_bytes, len_bytes))
			return 0;
		return err_set(e, -EAGAIN, "s3: '%s': the answer is of another range", name);
	case 200:
		if (offset_bytes == 0)
			return 0;
		return err_set(e, -EAGAIN,
			       "s3: '%s': the store sent the whole object, not the range", name);
	case 404:
		return judge_absent(s, a, "get", name, e);
	case 416:
		return err_set(e, -EUCLEAN, "'%s': ends before %" PRIu64, name,
			       offset_bytes + len_bytes);
	default:
		return s3_refused(s, a, "get", name, e);
	}
}

static int s3_head(struct store *store, const char *name, struct backend_object *ret_object,
		   struct err *e);

/* Nothing of an object can't be asked for, but where it would be can be checked. */
static int get_nothing(struct store *store, const char *name, uint64_t offset_bytes, struct err *e)
{
	struct backend_object object;
	int r = s3_head(store, name, &object, e);

	if (r == 0 && object.len_bytes < offset_bytes)
		r = err_set(e, -EUCLEAN, "'%s': ends at %" PRIu64, name, object.len_bytes);
	return r;
}

static int s3_get(struct store *store, const char *name, uint64_t offset_bytes, void *dst,
		  size_t len_bytes, struct err *e)
{
	struct store_s3 *s = store_s3_of(store);
	struct http_answer answer = { .status = 0 };
	char key[S3_KEY_BYTES_MAX + 1], range[64];
	struct s3_call call = { .method = "GET",
				.key = s3_key_of(s, name, key),
				.headers = { { "Range", range } },
				.header_count = 1,
				.http = { .dst = dst, .dst_len_bytes = len_bytes } };
	int r;

	if (len_bytes == 0)
		return get_nothing(store, name, offset_bytes, e);
	(void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset_bytes,
		       offset_bytes + len_bytes - 1);
	r = s3_perform(s, &call, &answer, e);
	if (r == 0)
		r = judge_get(s, &answer, name, offset_bytes, len_bytes, e);
	http_answer_done(&answer);
	return r;
}

/* ---- head, delete -------------------------------------------------------------------------- */

static int take_object(const struct http_answer *a, const char *name,
		       struct backend_object *ret_object, struct err *e)
{
	const char *length = http_answer_header(a, "content-length");
	const char *modified = http_answer_header(a, "last-modified");
	struct backend_object object = { .modified_ns = 0 };
	int64_t seconds;

	if (!length || u64_parse(length, &object.len_bytes) < 0 || object.len_bytes > INT64_MAX)
		return err_set(e, -EAGAIN, "s3: '%s': the answer has no length", name);
	if (modified && http_date_parse(modified, &seconds) == 0 &&
	    seconds < INT64_MAX / (int64_t)NS_PER_SEC)
		object.modified_ns = seconds * (int64_t)NS_PER_SEC;
	*ret_object = object;
	return 0;
}

static int s3_head(struct store *store, const char *name, struct backend_object *ret_object,
		   struct err *e)
{
	struct store_s3 *s = store_s3_of(store);
	struct http_answer answer = { .status = 0 };
	char key[S3_KEY_BYTES_MAX + 1];
	struct s3_call call = { .method = "HEAD", .key = s3_key_of(s, name, key) };
	int r = s3_perform(s, &call, &answer, e);

	if (r == 0 && answer.status == 200)
		r = take_object(&answer, name, ret_object, e);
	else if (r == 0 && answer.status == 404)
		r = judge_absent(s, &answer, "head", name, e);
	else if (r == 0)
		r = s3_refused(s, &answer, "head", name, e);
	http_answer_done(&answer);
	return r;
}

static int s3_del(struct store *store, const char *name, struct err *e)
{
	struct store_s3 *s = store_s3_of(store);
	struct http_answer answer = { .status = 0 };
	char key[S3_KEY_BYTES_MAX + 1];
	struct s3_call call = { .method = "DELETE", .key = s3_key_of(s, name, key) };
	int r = s3_perform(s, &call, &answer, e);

	if (r == 0 && answer.status == 404) {
		r = s3_not_found(s, &answer, "delete", name, e);
		if (r == -ENOENT)
			r = 0;
	} else if (r == 0 && answer.status != 204 && answer.status != 200) {
		r = s3_refused(s, &answer, "delete", name, e);
	}
	http_answer_done(&answer);
	return r;
}

/* ---- open and close ------------------------------------------------------------------------ */

static void s3_close(struct store *store)
{
	struct store_s3 *s = store_s3_of(store);

	http_client_close(s->http);
	s3_keys_free(s->keys);
	s3_config_done(&s->config);
	free(s);
}

static const struct store_ops s3_ops = {
	.type_name = "s3",
	.close = s3_close,
	.put = s3_put,
	.get = s3_get,
	.head = s3_head,
	.del = s3_del,
	.del_many = s3_del_many,
	.list = s3_list,
};

static int open_parts(struct store_s3 *s, const char *rest, const struct backend_options *options,
		      struct err *e)
{
	unsigned int concurrency =
		options->concurrency_max > 0 ? options->concurrency_max : CONNECTIONS_DEFAULT;
	struct http_options http = { .connections_max = concurrency + CONNECTIONS_SPARE,
				     .timeout_ns = REQUEST_TIMEOUT_NS,
				     .stall_timeout_ns = STALL_TIMEOUT_NS };
	int r = s3_config_parse(rest, &s->config, e);

	if (r < 0)
		return r;
	/* No try shall stall for longer than its whole call may take. */
	if (options->timeout_ns > 0)
		http.stall_timeout_ns = min_u64(http.stall_timeout_ns, options->timeout_ns);
	r = s3_keys_load(s->env, &s->config, &s->keys, e);
	if (r < 0)
		return r;
	http.ca_file = s->config.ca_file;
	r = http_client_open(s->env, &http, &s->http, e);
	if (r < 0)
		return err_wrap(e, r, "s3");
	return s3_probe(s, e);
}

int store_s3_open(struct env *env, const char *rest, const struct backend_options *options,
		  struct store **ret_store, struct err *e)
{
	struct store_s3 *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "opening an s3: store");
	s->store.ops = &s3_ops;
	s->store.del_many_max = S3_DELETES_MAX;
	s->env = env;
	r = open_parts(s, rest, options, e);
	s->is_open = r == 0;
	if (r < 0)
		s3_close(&s->store);
	else
		*ret_store = &s->store;
	return r;
}
