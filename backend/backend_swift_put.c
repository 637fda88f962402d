/*
 * backend_swift_put - objects into a container.
 *
 * A put of bytes in memory sends their MD5 along (Swift calls it ETag), so that the store refuses a
 * body that was damaged or cut on its way. It must be known before the first byte leaves. Of a file,
 * which is large, it is made while the bytes leave, so that they are read once and the store is at work
 * meanwhile, and compared with the ETag of the answer: an object that is found damaged was published,
 * but nobody looks at it before the put says that it went well, and the next try replaces it. A claim
 * is looked at by others at once, and goes the first way. http.c checks the CRC-32C on the way.
 */
#include "backend/backend_swift.h"

#include "backend/source.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Swift's limit of one object; larger ones would be manifests of segments. */
#define OBJECT_BYTES_MAX ((uint64_t)5 << 30)
#define READ_BYTES	 ((size_t)256 << 10)

/* ---- put ------------------------------------------------------------------------------------ */

static int hash_source(struct store_swift *s, const struct backend_source *source, EVP_MD_CTX *md5,
		       void *buffer, struct err *e)
{
	struct source_reader reader;
	ssize_t n;

	source_start(&reader, s->env, source);
	while ((n = source_next(&reader, buffer, READ_BYTES, e)) > 0) {
		if (EVP_DigestUpdate(md5, buffer, (size_t)n) != 1)
			return err_set(e, -EIO, "libcrypto fails at MD5");
	}
	return n < 0 ? (int)n : source_finish(&reader, e);
}

static int start_md5(EVP_MD_CTX *md5, struct err *e)
{
	/* No more than a checksum here, which also a FIPS library should be so kind to make. */
	if (!md5 || EVP_DigestInit_ex(md5, EVP_md5(), NULL) != 1)
		return err_set(e, -EIO, "libcrypto has no MD5, which Swift's checksums are");
	return 0;
}

static void md5_text(const unsigned char *digest, char ret_text[SWIFT_MD5_TEXT_BYTES])
{
	for (unsigned int i = 0; i < SWIFT_MD5_BYTES; i++)
		(void)snprintf(ret_text + 2 * (size_t)i, 3, "%02x", digest[i]);
}

int swift_md5(struct store_swift *s, const struct backend_source *source,
	      char ret_text[SWIFT_MD5_TEXT_BYTES], struct err *e)
{
	EVP_MD_CTX *md5 = EVP_MD_CTX_new();
	unsigned char digest[EVP_MAX_MD_SIZE];
	void *buffer = source->file ? aligned_alloc(ENV_DIRECT_ALIGN, READ_BYTES) : NULL;
	int r = start_md5(md5, e);

	if (r == 0 && source->file)
		r = buffer ? hash_source(s, source, md5, buffer, e) :
			     err_set(e, -EAGAIN, "no memory to read a source");
	else if (r == 0 && EVP_DigestUpdate(md5, source->data, (size_t)source->len_bytes) != 1)
		r = err_set(e, -EIO, "libcrypto fails at MD5");
	if (r == 0 && EVP_DigestFinal_ex(md5, digest, NULL) != 1)
		r = err_set(e, -EIO, "libcrypto fails at MD5");
	if (r == 0)
		md5_text(digest, ret_text);
	free(buffer);
	EVP_MD_CTX_free(md5);
	return r;
}

static int judge_put(const struct store_swift *s, const struct http_answer *a, const char *name,
		     struct err *e)
{
	if (swift_is_success(a))
		return 0;
	if (a->status == 404)
		return swift_no_container(s, e);
	if (a->status == 412)
		return err_set(e, -EEXIST, "'%s': object exists", name);
	return swift_status_error(s, a, "putting", name, e);
}

int swift_put_once(struct store_swift *s, const char *name, const struct backend_source *source,
		   const char *md5, bool if_absent, int *ret_status, struct err *e)
{
	const struct http_header headers[] = { { "ETag", md5 },
					       { "Content-Type", "application/octet-stream" },
					       { "If-None-Match", "*" } };
	const struct swift_request request = {
		.method = "PUT",
		.name = name,
		.headers = headers,
		.header_count = ARRAY_SIZE(headers) - (if_absent ? 0 : 1),
		.source = source,
	};
	struct http_answer answer = { .status = 0 };
	int r = swift_perform(s, &request, &answer, e);

	*ret_status = answer.status;
	if (r == 0)
		r = judge_put(s, &answer, name, e);
	http_answer_done(&answer);
	return r;
}

/* MD5 of what leaves. */
struct sent_md5 {
	EVP_MD_CTX *md5;
	bool failed;
};

static void take_sent(void *arg, const void *bytes, size_t len_bytes)
{
	struct sent_md5 *m = arg;

	if (!bytes)
		m->failed = EVP_DigestInit_ex(m->md5, EVP_md5(), NULL) != 1;
	else if (EVP_DigestUpdate(m->md5, bytes, len_bytes) != 1)
		m->failed = true;
}

/* Whether the store has what left. */
static int compare_sent(const struct sent_md5 *m, const struct http_answer *a, const char *name,
			struct err *e)
{
	char text[SWIFT_MD5_TEXT_BYTES];
	const char *etag = http_answer_header(a, "etag");
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (m->failed || EVP_DigestFinal_ex(m->md5, digest, NULL) != 1)
		return err_set(e, -EIO, "libcrypto fails at MD5");
	md5_text(digest, text);
	if (!etag)
		return err_set(e, -EAGAIN, "'%s': the answer has no ETag: was it stored?", name);
	if (*etag == '"')
		etag++;
	if (strncmp(etag, text, strlen(text)) != 0)
		return err_set(e, -EAGAIN, "'%s': the body was damaged on its way", name);
	return 0;
}

static int put_file(struct store_swift *s, const char *name, const struct backend_source *source,
		    struct err *e)
{
	static const struct http_header type = { "Content-Type", "application/octet-stream" };
	struct sent_md5 m = { .md5 = EVP_MD_CTX_new() };
	const struct swift_request request = {
		.method = "PUT",
		.name = name,
		.headers = &type,
		.header_count = 1,
		.source = source,
		.sent = take_sent,
		.sent_arg = &m,
	};
	struct http_answer answer = { .status = 0 };
	int r = start_md5(m.md5, e);

	if (r == 0)
		r = swift_perform(s, &request, &answer, e);
	if (r == 0)
		r = judge_put(s, &answer, name, e);
	if (r == 0)
		r = compare_sent(&m, &answer, name, e);
	http_answer_done(&answer);
	EVP_MD_CTX_free(m.md5);
	return r;
}

int swift_put(struct store *store, const char *name, const struct backend_source *source,
	      unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_swift *s = CONTAINER_OF(store, struct store_swift, store);
	char md5[SWIFT_MD5_TEXT_BYTES] = "";
	int status, r;

	if (source->len_bytes > OBJECT_BYTES_MAX)
		return err_set(e, -EFBIG, "'%s': Swift takes no object of more than 5 GiB", name);
	*ret_result = (struct backend_put_result){ .shares_file = false };
	if (source->file && source->len_bytes && !source->has_crc &&
	    !(flags & BACKEND_PUT_IF_ABSENT))
		return put_file(s, name, source, e);
	r = swift_md5(s, source, md5, e);
	if (r < 0)
		return r;
	if (flags & BACKEND_PUT_IF_ABSENT)
		r = swift_claim(s, name, source, md5, e);
	else
		r = swift_put_once(s, name, source, md5, false, &status, e);
	return r;
}
