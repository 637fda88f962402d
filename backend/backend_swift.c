/*
 * backend_swift - objects in a container of OpenStack Swift, by its own protocol.
 *
 * 404 is believed after a second look only. A container that is gone must not look like a pool that
 * lost all its objects. And an object that is being replaced is missing for a moment: Swift
 * looks for the file of its newest version, which is gone when it is opened (seen, once in
 * some hundred reads of an object that was replaced all the time).
 */
#include "backend/backend_swift.h"

#include "common/thread.h"
#include "common/units.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_HEADERS_MAX 8u

static struct store_swift *store_swift_of(struct store *s)
{
	return CONTAINER_OF(s, struct store_swift, store);
}

/* ---- requests ------------------------------------------------------------------------------- */

static int make_url(const struct store_swift *s, const struct swift_token *token,
		    const struct swift_request *q, struct buf *url)
{
	int r = buf_append(url, token->storage_url, strlen(token->storage_url));

	if (r == 0 && !q->of_account)
		r = buf_append(url, s->container_path, strlen(s->container_path));
	if (r == 0 && q->name)
		r = buf_append(url, "/", 1);
	if (r == 0 && q->name)
		r = http_escape(url, s->config.prefix, true);
	if (r == 0 && q->name)
		r = http_escape(url, q->name, true);
	if (r == 0 && q->query)
		r = buf_append(url, "?", 1);
	if (r == 0 && q->query)
		r = buf_append(url, q->query, strlen(q->query));
	return r == 0 ? buf_append(url, "", 1) : r;
}

static int send_with(struct store_swift *s, const struct swift_token *token,
		     const struct swift_request *q, struct http_answer *answer, struct err *e)
{
	struct http_header headers[REQUEST_HEADERS_MAX] = { { "X-Auth-Token", token->text } };
	struct http_request request = { .method = q->method,
					.headers = headers,
					.header_count = q->header_count + 1,
					.source = q->source,
					.sent = q->sent,
					.sent_arg = q->sent_arg,
					.dst = q->dst,
					.dst_len_bytes = q->dst_len_bytes,
					.text_bytes_max = q->text_bytes_max };
	struct buf url;
	int r;

	ASSERT(q->header_count < REQUEST_HEADERS_MAX);
	if (q->header_count > 0)
		memcpy(headers + 1, q->headers, q->header_count * sizeof(headers[0]));
	buf_init(&url, SIZE_MAX);
	r = make_url(s, token, q, &url);
	if (r < 0) {
		buf_done(&url);
		return err_set(e, -EAGAIN, "no memory for a request");
	}
	request.url = (const char *)url.data;
	r = http_perform(s->http, &request, answer, e);
	buf_done(&url);
	return r;
}

/* What the store asks for when it has too much to do; the router heeds it. */
static void note_busy(struct store_swift *s, const struct http_answer *a)
{
	uint64_t after_ns = http_answer_retry_after_ns(a);

	if (after_ns > 0 && (a->status == 429 || a->status == 498 || a->status == 503))
		atomic_store(&s->store.busy_until_ns, clock_mono_ns() + after_ns);
}

static int send_with_token(struct store_swift *s, const struct swift_request *q,
			   struct http_answer *answer, struct err *e)
{
	uint64_t refused = 0;

	for (unsigned int i = 0; i < 2; i++) {
		struct swift_token token = { .text = NULL };
		int r = swift_auth_token(s->auth, refused, &token, e);

		if (r < 0)
			return r;
		http_answer_done(answer);
		*answer = (struct http_answer){ .status = 0 };
		r = send_with(s, &token, q, answer, e);
		refused = token.generation;
		swift_token_done(&token);
		/* The body of an error never fits dst: its status says more. */
		if (answer->status != 401)
			return r;
	}
	return err_set(e, -EACCES,
		       "the store refuses a token that is new: does the auth server belong to it, "
		       "and is storage_url= right?");
}

int swift_perform(struct store_swift *s, const struct swift_request *q,
		  struct http_answer *ret_answer, struct err *e)
{
	int r = send_with_token(s, q, ret_answer, e);

	if (ret_answer->status > 0 && ret_answer->status != 401) {
		atomic_store(&s->reached, true);
		note_busy(s, ret_answer);
	}
	/* Once its hosts had addresses, the name server has trouble, which passes. */
	if (r == -EHOSTUNREACH && atomic_load(&s->reached))
		r = -EAGAIN;
	return r;
}

int swift_no_container(const struct store_swift *s, struct err *e)
{
	return err_set(e, -EAGAIN,
		       "container '%s' is not there: make it, or check its name and the account",
		       s->config.container);
}

int swift_status_error(const struct store_swift *s, const struct http_answer *a, const char *what,
		       const char *name, struct err *e)
{
	uint64_t after_ns;

	switch (a->status) {
	case 403:
		return err_set(e, -EACCES,
			       "%s '%s': the store denies access (403): give the user a role "
			       "that may read and write container '%s'",
			       what, name, s->config.container);
	case 413:
		return err_set(e, -ENOSPC, "%s '%s': the quota of container or account is used up",
			       what, name);
	case 507:
		return err_set(e, -ENOSPC, "%s '%s': the store is full (507)", what, name);
	case 422:
		return err_set(e, -EAGAIN, "%s '%s': the body was damaged on its way (422)", what,
			       name);
	case 408: /* it waited for us */
	case 409: /* a put with a later timestamp was there first */
	case 429:
	case 498: /* rate limit of Swift */
		break;
	default:
		if (a->status >= 500)
			break;
		return err_set(e, -EIO, "%s '%s': unexpected answer %d of the store", what, name,
			       a->status);
	}
	after_ns = http_answer_retry_after_ns(a);
	if (after_ns > 0)
		return err_set(e, -EAGAIN,
			       "%s '%s': the store answers %d, and not to ask it for %" PRIu64 " s",
			       what, name, a->status, after_ns / NS_PER_SEC);
	return err_set(e, -EAGAIN, "%s '%s': the store answers %d", what, name, a->status);
}

bool swift_is_success(const struct http_answer *a)
{
	return a->status >= 200 && a->status <= 299;
}

int swift_look(struct store_swift *s, const char *name, int *ret_status, struct err *e)
{
	/* At all copies: one that was away lately may not know of an object. */
	static const struct http_header newest = { "X-Newest", "true" };
	const struct swift_request request = {
		.method = "HEAD", .name = name, .headers = &newest, .header_count = 1
	};
	struct http_answer answer = { .status = 0 };
	int r = swift_perform(s, &request, &answer, e);

	if (r == 0 && answer.status != 404 && !swift_is_success(&answer))
		r = swift_status_error(s, &answer, "examining", name ? name : s->config.container,
				       e);
	if (r == 0)
		*ret_status = answer.status;
	http_answer_done(&answer);
	return r;
}

/* An object was answered 404: is it missing, is the container, or was that only a moment? */
static int no_object(struct store_swift *s, const char *name, struct err *e)
{
	int container = 0, object = 0, r = swift_look(s, NULL, &container, e);

	if (r == 0)
		r = swift_look(s, name, &object, e);
	if (r < 0)
		return r;
	if (container == 404)
		return swift_no_container(s, e);
	if (object != 404)
		return err_set(e, -EAGAIN, "'%s': the store has it, and said that it has not",
			       name);
	return err_set(e, -ENOENT, "'%s': no such object", name);
}

/* ---- get, head, delete ---------------------------------------------------------------------- */

/* "bytes 100-199/5000" is what was asked for; the length may be "*". */
static bool range_is(const char *value, uint64_t offset_bytes, size_t len_bytes)
{
	char expected[64];
	int n = snprintf(expected, sizeof(expected), "bytes %" PRIu64 "-%" PRIu64 "/", offset_bytes,
			 offset_bytes + len_bytes - 1);

	return value && strncmp(value, expected, (size_t)n) == 0;
}

static int judge_get(struct store_swift *s, const struct http_answer *a, const char *name,
		     uint64_t offset_bytes, size_t len_bytes, struct err *e)
{
	switch (a->status) {
	case 206:
		if (range_is(http_answer_header(a, "content-range"), offset_bytes, len_bytes))
			return 0;
		return err_set(e, -EAGAIN, "'%s': the store answers with another range", name);
	case 200: /* all of the object: the bytes that were asked for only if that is all of them */
		if (offset_bytes == 0 && a->body_bytes == len_bytes)
			return 0;
		return err_set(e, -EAGAIN, "'%s': the store answers with the object, not a range",
			       name);
	case 404:
		return no_object(s, name, e);
	case 416:
		return err_set(e, -EUCLEAN, "'%s': the object ends before %" PRIu64, name,
			       offset_bytes);
	default:
		return swift_status_error(s, a, "getting", name, e);
	}
}

static int swift_head(struct store *store, const char *name, struct backend_object *ret_object,
		      struct err *e);

/* Of nothing: HTTP has no such range, but the object must reach there. */
static int get_nothing(struct store *store, const char *name, uint64_t offset_bytes, struct err *e)
{
	struct backend_object object;
	int r = swift_head(store, name, &object, e);

	if (r == 0 && offset_bytes > object.len_bytes)
		r = err_set(e, -EUCLEAN, "'%s': the object ends at %" PRIu64, name,
			    object.len_bytes);
	return r;
}

static int swift_get(struct store *store, const char *name, uint64_t offset_bytes, void *dst,
		     size_t len_bytes, struct err *e)
{
	struct store_swift *s = store_swift_of(store);
	struct http_answer answer = { .status = 0 };
	char range[64];
	const struct http_header header = { "Range", range };
	const struct swift_request request = { .method = "GET",
					       .name = name,
					       .headers = &header,
					       .header_count = 1,
					       .dst = dst,
					       .dst_len_bytes = len_bytes };
	int r;

	if (len_bytes == 0)
		return get_nothing(store, name, offset_bytes, e);
	(void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset_bytes,
		       offset_bytes + len_bytes - 1);
	r = swift_perform(s, &request, &answer, e);
	if (r == 0)
		r = judge_get(s, &answer, name, offset_bytes, len_bytes, e);
	http_answer_done(&answer);
	return r;
}

static int read_head(const struct http_answer *a, const char *name,
		     struct backend_object *ret_object, struct err *e)
{
	const char *modified = http_answer_header(a, "last-modified");
	const char *length = http_answer_header(a, "content-length");
	struct backend_object object = { .modified_ns = 0 };
	int64_t seconds;

	if (!length || u64_parse(length, &object.len_bytes) < 0 || object.len_bytes > INT64_MAX)
		return err_set(e, -EAGAIN, "'%s': the store does not say how long it is", name);
	if (modified && http_date_parse(modified, &seconds) == 0 && seconds > 0 &&
	    seconds < INT64_MAX / (int64_t)NS_PER_SEC)
		object.modified_ns = seconds * (int64_t)NS_PER_SEC;
	*ret_object = object;
	return 0;
}

static int swift_head(struct store *store, const char *name, struct backend_object *ret_object,
		      struct err *e)
{
	struct store_swift *s = store_swift_of(store);
	const struct swift_request request = { .method = "HEAD", .name = name };
	struct http_answer answer = { .status = 0 };
	int r = swift_perform(s, &request, &answer, e);

	if (r == 0 && answer.status == 404)
		r = no_object(s, name, e);
	else if (r == 0 && !swift_is_success(&answer))
		r = swift_status_error(s, &answer, "examining", name, e);
	else if (r == 0)
		r = read_head(&answer, name, ret_object, e);
	http_answer_done(&answer);
	return r;
}

static int swift_del(struct store *store, const char *name, struct err *e)
{
	struct store_swift *s = store_swift_of(store);
	const struct swift_request request = { .method = "DELETE", .name = name };
	struct http_answer answer = { .status = 0 };
	int r = swift_perform(s, &request, &answer, e);

	if (r == 0 && answer.status == 404) {
		r = no_object(s, name, e);
		if (r == -ENOENT)
			r = 0;
	} else if (r == 0 && !swift_is_success(&answer)) {
		r = swift_status_error(s, &answer, "deleting", name, e);
	}
	http_answer_done(&answer);
	return r;
}

/* ---- open and close ------------------------------------------------------------------------- */

static void swift_close(struct store *store)
{
	struct store_swift *s = store_swift_of(store);

	swift_auth_close(s->auth);
	http_client_close(s->http);
	swift_config_done(&s->config);
	free(s->container_path);
	free(s);
}

static const struct store_ops swift_ops = {
	.type_name = "swift",
	.close = swift_close,
	.put = swift_put,
	.get = swift_get,
	.head = swift_head,
	.del = swift_del,
	.del_many = swift_del_many,
	.list = swift_list,
	.confirm = swift_confirm,
};

static int make_container_path(struct store_swift *s)
{
	struct buf path;
	int r;

	buf_init(&path, SIZE_MAX);
	r = buf_append(&path, "/", 1);
	if (r == 0)
		r = http_escape(&path, s->config.container, false);
	if (r == 0)
		r = buf_append(&path, "", 1);
	if (r == 0)
		s->container_path = strdup((const char *)path.data);
	buf_done(&path);
	return s->container_path ? 0 : -ENOMEM;
}

/* What the store needs besides its configuration. */
static int open_parts(struct store_swift *s, const struct backend_options *options, struct err *e)
{
	const struct http_options http_options = { .ca_file = s->config.ca_file,
						   .connections_max = options->concurrency_max };
	int r = http_client_open(s->env, &http_options, &s->http, e);

	if (r < 0)
		return r;
	r = make_container_path(s);
	if (r == 0)
		r = swift_auth_open(&s->config, s->http, &s->auth);
	return r < 0 ? err_because(e, r, "opening a swift: backend") : 0;
}

/* Without a request: an offline pool must open. What is wrong shows at the first operation. */
int store_swift_open(struct env *env, const char *rest, const struct backend_options *options,
		     struct store **ret_store, struct err *e)
{
	struct store_swift *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "opening a swift: backend");
	s->store = (struct store){ .ops = &swift_ops,
				   .caps = BACKEND_CAP_PUT_IF_ABSENT,
				   .settle_ns = SWIFT_SETTLE_NS,
				   .del_many_max = SWIFT_DELETES_MAX };
	s->env = env;
	r = swift_config_read(env, rest, &s->config, e);
	if (r == 0)
		r = open_parts(s, options, e);
	if (r < 0) {
		swift_close(&s->store);
		return r;
	}
	*ret_store = &s->store;
	return 0;
}
