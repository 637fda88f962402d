/*
 * backend_s3_delete - DeleteObjects: many names in one request.
 *
 * It is asked to be quiet, so the answer has the names that are still there, and what it does not
 * name is gone. That holds only for an answer that was read to its end, is a DeleteResult and names
 * nothing but what was asked for; of any other one nothing is believed. The request carries its MD5,
 * which all stores of this protocol verify: a list that was cut or changed on its way is refused whole.
 *
 * A store that does not know the request (501, 405, or 400, which old ones say) is not asked again.
 * Whatever else it refuses for good is left to single deletes, which say what is wrong.
 */
#include "backend/backend_s3.h"

#include "common/log.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_BYTES_MAX ((size_t)8 << 20) /* 1000 keys, all of them escaped */
#define ANSWER_BYTES_MAX  ((size_t)8 << 20)
#define MD5_TEXT_BYTES	  25u /* in base64, and NUL */

struct answer {
	struct store_s3 *s;
	const char *const *names;
	size_t count;
	const bool *gone; /* before the request: these were not asked for */
	bool *failed;
	bool is_result; /* the end of it was seen */
	/* Of the Error that is being read: */
	size_t index; /* count: it has no key */
	char code[S3_CODE_BYTES];
	/* What the first one says that another try may cure, or else the first one. */
	int result;
	struct err *e;
};

/* ---- what is asked ------------------------------------------------------------------------- */

/* Keys are text of an element; all is printable. */
static int append_escaped(struct buf *out, const char *text)
{
	int r = 0;

	for (; *text != '\0' && r == 0; text++) {
		if (*text == '&')
			r = buf_append(out, "&amp;", 5);
		else if (*text == '<')
			r = buf_append(out, "&lt;", 4);
		else if (*text == '>')
			r = buf_append(out, "&gt;", 4);
		else
			r = buf_append(out, text, 1);
	}
	return r;
}

static int make_list(struct store_s3 *s, const char *const *names, size_t count, const bool *gone,
		     struct buf *out)
{
	int r = buf_printf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
				"<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
				"<Quiet>true</Quiet>");

	for (size_t i = 0; i < count && r == 0; i++) {
		char key[S3_KEY_BYTES_MAX + 1];

		if (gone[i])
			continue;
		r = buf_printf(out, "<Object><Key>");
		if (r == 0)
			r = append_escaped(out, s3_key_of(s, names[i], key));
		if (r == 0)
			r = buf_printf(out, "</Key></Object>");
	}
	return r == 0 ? buf_printf(out, "</Delete>") : r;
}

static int md5_of(const struct buf *text, char ret_md5[MD5_TEXT_BYTES])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int digest_bytes = 0;

	if (EVP_Digest(text->data, text->len_bytes, digest, &digest_bytes, EVP_md5(), NULL) != 1 ||
	    digest_bytes != 16)
		return -EOPNOTSUPP; /* a library of a strict house has none */
	(void)EVP_EncodeBlock((unsigned char *)ret_md5, digest, (int)digest_bytes);
	return 0;
}

/* ---- what is answered ---------------------------------------------------------------------- */

static int take_key(struct answer *a, const char *text)
{
	size_t prefix_bytes = strlen(a->s->config.prefix);

	if (a->index < a->count || strncmp(text, a->s->config.prefix, prefix_bytes) != 0)
		return -EBADMSG;
	for (size_t i = 0; i < a->count; i++) {
		if (!a->gone[i] && strcmp(text + prefix_bytes, a->names[i]) == 0) {
			a->index = i;
			return 0;
		}
	}
	return -EBADMSG; /* nobody asked for that */
}

static int take_error(struct answer *a)
{
	size_t index = a->index;
	struct err one = { .message = "" };
	int r;

	a->index = a->count;
	if (index == a->count)
		return -EBADMSG; /* an error of no name may be one of all */
	if (strcmp(a->code, "NoSuchKey") == 0)
		return 0;
	a->failed[index] = true;
	r = s3_code_error(a->s, a->code, "delete", a->names[index], &one);
	if (a->result == 0 || (err_is_retryable(r) && !err_is_retryable(a->result))) {
		a->result = r;
		if (a->e)
			*a->e = one;
	}
	return 0;
}

static int on_element(void *arg, const char *path, const char *text)
{
	struct answer *a = arg;

	if (strcmp(path, "DeleteResult/Error/Key") == 0)
		return take_key(a, text);
	if (strcmp(path, "DeleteResult/Error/Code") == 0 && strlen(text) < S3_CODE_BYTES)
		memcpy(a->code, text, strlen(text) + 1);
	else if (strcmp(path, "DeleteResult/Error") == 0)
		return take_error(a);
	else if (strcmp(path, "DeleteResult") == 0)
		a->is_result = true;
	return 0;
}

static int read_answer(struct store_s3 *s, const struct buf *text, const char *const *names,
		       size_t count, bool *gone, struct err *e)
{
	struct answer a = { .s = s,
			    .names = names,
			    .count = count,
			    .gone = gone,
			    .failed = calloc(count + 1, sizeof(*a.failed)),
			    .index = count,
			    .e = e };
	int r = a.failed ? s3_xml_parse(text, on_element, &a) : -ENOMEM;

	if (r == 0 && a.is_result) {
		for (size_t i = 0; i < count; i++)
			gone[i] = gone[i] || !a.failed[i];
		r = a.result;
	} else {
		r = err_set(e, -EAGAIN, "s3: bucket '%s': the answer does not say what was deleted",
			    s->config.bucket);
	}
	free(a.failed);
	return r;
}

static int not_like_this(struct store_s3 *s, bool never, struct err *e)
{
	if (never && atomic_exchange(&s->store.del_many_max, 0) != 0)
		log_info("backend: the store deletes one name a request: bucket='%s'",
			 s->config.bucket);
	return err_set(e, -EOPNOTSUPP, "s3: bucket '%s': the store does not delete many at once",
		       s->config.bucket);
}

static int judge(struct store_s3 *s, struct http_answer *a, const char *const *names, size_t count,
		 bool *gone, struct err *e)
{
	struct s3_error error;
	int r;

	s3_xml_error(&a->text, &error);
	if (a->status == 200 && error.code[0] == '\0')
		return read_answer(s, &a->text, names, count, gone, e);
	/* 200 may have been sent to keep the line open before it failed. */
	if (a->status == 200)
		a->status = 500;
	/* Of 204, or of a 404 that is not about the bucket, nobody knows what was done. */
	if (a->status == 404 && strcmp(error.code, "NoSuchBucket") != 0)
		return not_like_this(s, false, e);
	if (a->status >= 201 && a->status <= 299)
		return not_like_this(s, true, e);
	r = s3_refused(s, a, "delete", names[0], e);
	if (err_is_retryable(r))
		return r;
	return not_like_this(s, r == -EOPNOTSUPP || r == -EIO, e);
}

int s3_del_many(struct store *store, const char *const *names, size_t count, bool *gone,
		struct err *e)
{
	struct store_s3 *s = CONTAINER_OF(store, struct store_s3, store);
	char hash[SIGV4_HASH_BYTES], md5[MD5_TEXT_BYTES];
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "POST",
				.params = { { "delete", "" } },
				.param_count = 1,
				.headers = { { "Content-MD5", md5 },
					     { "Content-Type", "application/xml" } },
				.header_count = 2,
				.payload_hash = hash,
				.http = { .text_bytes_max = ANSWER_BYTES_MAX } };
	struct buf list;
	int r;

	buf_init(&list, REQUEST_BYTES_MAX);
	if (make_list(s, names, count, gone, &list) < 0) {
		buf_done(&list);
		return err_set(e, -EAGAIN, "no memory to delete %zu objects", count);
	}
	r = md5_of(&list, md5);
	if (r < 0) {
		buf_done(&list);
		return not_like_this(s, true, e);
	}
	if (sigv4_hash(list.data, list.len_bytes, hash) < 0) {
		buf_done(&list);
		return err_set(e, -EAGAIN, "no memory to delete %zu objects", count);
	}
	call.http.body = list.data;
	call.http.body_len_bytes = list.len_bytes;
	r = s3_perform(s, &call, &answer, e);
	if (r == 0)
		r = judge(s, &answer, names, count, gone, e);
	http_answer_done(&answer);
	buf_done(&list);
	return r;
}
