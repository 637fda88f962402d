/*
 * backend_swift_auth - one token for all threads, from tempauth (v1) or Keystone (v3).
 *
 * A token has a generation. Who was refused with generation g wants a later one: the first to say
 * so asks for it, the others wait. What came of it, token or failure, is everybody's: n threads that
 * lose their token at the same time cost one request, not n.
 */
#include "backend/backend_swift.h"

#include "common/thread.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX	    16384u
#define CATALOGUE_BYTES_MAX ((size_t)4 << 20)

struct swift_auth {
	const struct swift_config *config;
	struct http_client *http;

	struct mutex lock; /* not ranked: nothing is taken while it is held; guards all below */
	struct cond changed;
	bool asking;		  /* someone is on his way to the auth server */
	uint64_t asked_count;	  /* how often someone came back */
	struct err failure;	  /* of the last time, code 0: it went well */
	struct swift_token token; /* generation 0: there is none yet */
};

void swift_token_done(struct swift_token *t)
{
	swift_secret_free(t->text);
	free(t->storage_url);
	*t = (struct swift_token){ .text = NULL };
}

int swift_auth_open(const struct swift_config *c, struct http_client *http,
		    struct swift_auth **ret_auth)
{
	struct swift_auth *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->config = c;
	a->http = http;
	mutex_init(&a->lock, 0);
	cond_init(&a->changed);
	*ret_auth = a;
	return 0;
}

void swift_auth_close(struct swift_auth *a)
{
	if (!a)
		return;
	swift_token_done(&a->token);
	cond_done(&a->changed);
	mutex_done(&a->lock);
	free(a);
}

/* ---- asking --------------------------------------------------------------------------------- */

/* What the auth server's answer means when it is no token. */
static int auth_status_error(const struct swift_auth *a, const struct http_answer *answer,
			     struct err *e)
{
	const char *url = a->config->auth_url;
	int status = answer->status;

	if (status == 401 || status == 403)
		return err_set(e, -EACCES,
			       "the auth server %s refuses these credentials (%d): check %s", url,
			       status,
			       a->config->keystone ?
				       "the OS_ values: user, password or application "
				       "credential, project, domains" :
				       "ST_USER and ST_KEY");
	if (status == 408 || status == 429 || status == 498 || status >= 500)
		return err_set(e, -EAGAIN, "the auth server %s answers %d", url, status);
	return err_set(
		e, -EINVAL,
		"%s answers %d, no token: is it the auth URL? It ends in /v1.0 (tempauth) or "
		"/v3 (Keystone)",
		url, status);
}

/* The token goes into headers as it is, so it must be nothing but a token. */
static bool token_is_good(const char *token)
{
	size_t len_bytes = token ? strlen(token) : 0;

	for (size_t i = 0; i < len_bytes; i++) {
		if (token[i] <= 0x20 || token[i] > 0x7e)
			return false;
	}
	return len_bytes > 0 && len_bytes <= TOKEN_BYTES_MAX;
}

/* Decide where the store is: what the URL of the pool says comes first. */
static int take_storage_url(const struct swift_auth *a, const char *told, char **ret_url,
			    struct err *e)
{
	const struct swift_config *c = a->config;
	size_t len_bytes;
	char *url;

	if (!c->storage_url && (!told || !swift_url_is_good(told)))
		return err_set(e, -EINVAL,
			       "the auth server %s names no usable URL of the store: set "
			       "storage_url= in the URL of the pool",
			       c->auth_url);
	/* A token that was asked for in secret must not be told to all the network. */
	if (!c->storage_url && strncmp(c->auth_url, "https:", 6) == 0 &&
	    strncmp(told, "https:", 6) != 0)
		return err_set(e, -EINVAL,
			       "the auth server %s names a store without TLS: set "
			       "storage_url=https://... in the URL of the pool",
			       c->auth_url);
	url = strdup(c->storage_url ? c->storage_url : told);
	if (!url)
		return err_set(e, -EAGAIN, "no memory for a URL");
	len_bytes = strlen(url);
	while (len_bytes > 0 && url[len_bytes - 1] == '/')
		url[--len_bytes] = '\0';
	*ret_url = url;
	return 0;
}

static int take_answer(const struct swift_auth *a, const char *token, const char *url,
		       struct swift_token *ret_token, struct err *e)
{
	struct swift_token t = { .text = NULL };
	int r;

	if (!token_is_good(token))
		return err_set(e, -EINVAL, "the auth server %s answers without a token",
			       a->config->auth_url);
	r = take_storage_url(a, url, &t.storage_url, e);
	if (r < 0)
		return r;
	t.text = strdup(token);
	if (!t.text) {
		swift_token_done(&t);
		return err_set(e, -EAGAIN, "no memory for a token");
	}
	*ret_token = t;
	return 0;
}

static int ask_tempauth(struct swift_auth *a, struct http_answer *answer, struct swift_token *ret,
			struct err *e)
{
	const struct swift_config *c = a->config;
	const struct http_header headers[] = { { "X-Auth-User", c->value[SWIFT_ST_USER] },
					       { "X-Auth-Key", c->value[SWIFT_ST_KEY] } };
	const struct http_request request = { .method = "GET",
					      .url = c->auth_url,
					      .headers = headers,
					      .header_count = ARRAY_SIZE(headers) };
	int r = http_perform(a->http, &request, answer, e);

	if (r < 0)
		return r;
	if (answer->status < 200 || answer->status > 299)
		return auth_status_error(a, answer, e);
	return take_answer(a, http_answer_header(answer, "x-auth-token"),
			   http_answer_header(answer, "x-storage-url"), ret, e);
}

static int ask_keystone(struct swift_auth *a, struct http_answer *answer, struct swift_token *ret,
			struct err *e)
{
	static const struct http_header headers[] = { { "Content-Type", "application/json" },
						      { "Accept", "application/json" } };
	struct http_request request = { .method = "POST",
					.headers = headers,
					.header_count = ARRAY_SIZE(headers),
					.text_bytes_max = CATALOGUE_BYTES_MAX };
	char *body = NULL, *endpoint = NULL;
	struct buf tokens_url;
	int r = swift_keystone_request(a->config, &body, e);

	if (r < 0)
		return r;
	buf_init(&tokens_url, SIZE_MAX);
	r = buf_printf(&tokens_url, "%s/auth/tokens", a->config->auth_url);
	request.url = (const char *)tokens_url.data;
	request.body = body;
	request.body_len_bytes = strlen(body);
	r = r < 0 ? err_set(e, -EAGAIN, "no memory for a URL") :
		    http_perform(a->http, &request, answer, e);
	swift_secret_free(body);
	buf_done(&tokens_url);
	if (r < 0)
		return r;
	if (answer->status != 200 && answer->status != 201)
		return auth_status_error(a, answer, e);
	if (!a->config->storage_url) {
		r = swift_keystone_endpoint(a->config, answer->text.data, answer->text.len_bytes,
					    &endpoint, e);
		if (r < 0)
			return r;
	}
	r = take_answer(a, http_answer_header(answer, "x-subject-token"), endpoint, ret, e);
	free(endpoint);
	return r;
}

static int ask(struct swift_auth *a, struct swift_token *ret, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	int r = a->config->keystone ? ask_keystone(a, &answer, ret, e) :
				      ask_tempauth(a, &answer, ret, e);

	/* It holds the token. */
	if (answer.headers.data)
		explicit_bzero(answer.headers.data, answer.headers.len_bytes);
	http_answer_done(&answer);
	if (r == 0)
		return 0;
	/* Codes that mean something else about an object. */
	if (r == -EUCLEAN || r == -ENOENT || r == -EBADMSG)
		r = -EAGAIN;
	return err_wrap(e, r, "getting a token");
}

/* ---- sharing -------------------------------------------------------------------------------- */

static int copy_token(const struct swift_token *from, struct swift_token *ret, struct err *e)
{
	struct swift_token t = { .text = strdup(from->text),
				 .storage_url = strdup(from->storage_url),
				 .generation = from->generation };

	if (!t.text || !t.storage_url) {
		swift_token_done(&t);
		return err_set(e, -EAGAIN, "no memory for a token");
	}
	*ret = t;
	return 0;
}

/* Ask, with the lock dropped meanwhile, and tell all who wait. */
static void renew_locked(struct swift_auth *a)
{
	struct swift_token token = { .text = NULL };
	struct err failure = { .code = 0 };
	int r;

	a->asking = true;
	mutex_unlock(&a->lock);
	r = ask(a, &token, &failure);
	mutex_lock(&a->lock);
	a->asking = false;
	a->asked_count++;
	a->failure = failure;
	a->failure.code = r;
	if (r == 0) {
		token.generation = a->token.generation + 1;
		swift_token_done(&a->token);
		a->token = token;
	}
	cond_broadcast(&a->changed);
}

int swift_auth_token(struct swift_auth *a, uint64_t refused, struct swift_token *ret, struct err *e)
{
	uint64_t asked_count;

	GUARD(&a->lock);
	asked_count = a->asked_count;
	while (a->token.generation <= refused) {
		/* Somebody came back since this call began, and did not bring what it wants. */
		if (a->asked_count != asked_count)
			return err_set(e, a->failure.code, "%s", a->failure.message);
		if (a->asking)
			cond_wait(&a->changed, &a->lock, WAIT_FOREVER);
		else
			renew_locked(a);
	}
	return copy_token(&a->token, ret, e);
}
