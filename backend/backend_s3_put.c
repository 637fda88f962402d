/*
 * backend_s3_put - store an object, in one request or in parts.
 *
 * The source is read twice: once for its SHA-256, which the request carries and the store verifies,
 * and for its own checksum; then to send it. A signature over the bytes has to be known before the
 * first of them leaves, and to keep a whole SCO in memory for each upload costs more than to read it
 * again from flash. A store that hears other bytes than were hashed refuses them, so nothing is
 * published unless the checksum that was promised is right.
 *
 * Objects above part_size travel in parts and are joined by a last request; whatever goes wrong
 * before that is aborted, as parts cost money and show in no list. A put-if-absent goes in one
 * request whatever its size: few stores know a condition on the join.
 */
#include "backend/backend_s3.h"
#include "backend/source.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_BUFFER_BYTES   ((size_t)256 << 10)
#define PUT_ONCE_BYTES_MAX  ((uint64_t)5 << 30)
#define UPLOAD_ID_BYTES_MAX 1024u
#define ETAG_BYTES_MAX	    128u

/* ---- hashing ------------------------------------------------------------------------------- */

/* Reads a source from its begin to its end, part by part. */
struct hasher {
	struct source_reader reader;
	uint8_t *buffer;
	EVP_MD_CTX *context;
};

static void hasher_done(struct hasher *h)
{
	free(h->buffer);
	EVP_MD_CTX_free(h->context);
}

static int hasher_init(struct hasher *h, struct env *env, const struct backend_source *source,
		       struct err *e)
{
	*h = (struct hasher){ .buffer = aligned_alloc(ENV_DIRECT_ALIGN, HASH_BUFFER_BYTES),
			      .context = EVP_MD_CTX_new() };
	if (!h->buffer || !h->context) {
		hasher_done(h);
		return err_set(e, -EAGAIN, "no memory to hash an object");
	}
	source_start(&h->reader, env, source);
	return 0;
}

/* SHA-256 of the next len_bytes, of which all but the last part are multiples of the buffer. */
static int hasher_part(struct hasher *h, uint64_t len_bytes, char ret_hash[SIGV4_HASH_BYTES],
		       struct err *e)
{
	uint8_t digest[EVP_MAX_MD_SIZE];

	if (EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) != 1)
		return err_set(e, -EAGAIN, "no memory to hash an object");
	while (len_bytes > 0) {
		ssize_t n = source_next(&h->reader, h->buffer, HASH_BUFFER_BYTES, e);

		if (n < 0)
			return (int)n;
		ASSERT(n > 0 && (uint64_t)n <= len_bytes);
		if (EVP_DigestUpdate(h->context, h->buffer, (size_t)n) != 1)
			return err_set(e, -EAGAIN, "no memory to hash an object");
		len_bytes -= (uint64_t)n;
	}
	if (EVP_DigestFinal_ex(h->context, digest, NULL) != 1)
		return err_set(e, -EAGAIN, "no memory to hash an object");
	sigv4_hex(digest, ret_hash);
	return 0;
}

/* ---- in one request ------------------------------------------------------------------------ */

static int judge_put(struct store_s3 *s, const struct http_answer *a, const char *name,
		     bool if_absent, struct err *e)
{
	if (a->status == 200 || a->status == 201) {
		/* Who stores says as what; a page that something on the way made up does not. */
		if (http_answer_header(a, "etag"))
			return 0;
		return err_set(e, -EAGAIN, "s3: '%s': the answer has no ETag: was it stored?",
			       name);
	}
	if (if_absent && a->status == 412)
		return err_set(e, -EEXIST, "'%s': object exists", name);
	return s3_refused(s, a, "put", name, e);
}

static int put_whole(struct store_s3 *s, const char *name, const struct backend_source *source,
		     bool if_absent, struct err *e)
{
	char key[S3_KEY_BYTES_MAX + 1], hash[SIGV4_HASH_BYTES];
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "PUT",
				.key = s3_key_of(s, name, key),
				.headers = { { "If-None-Match", "*" } },
				.header_count = if_absent ? 1 : 0,
				.payload_hash = hash,
				.http = { .source = source } };
	struct hasher h;
	int r;

	if (source->len_bytes > PUT_ONCE_BYTES_MAX)
		return err_set(e, -EFBIG, "'%s': too long for one request", name);
	r = hasher_init(&h, s->env, source, e);
	if (r < 0)
		return r;
	r = hasher_part(&h, source->len_bytes, hash, e);
	if (r == 0)
		r = source_finish(&h.reader, e);
	hasher_done(&h);
	if (r == 0)
		r = s3_perform(s, &call, &answer, e);
	if (r == 0)
		r = judge_put(s, &answer, name, if_absent, e);
	http_answer_done(&answer);
	return r;
}

/* ---- in parts ------------------------------------------------------------------------------ */

struct upload {
	struct store_s3 *s;
	const char *name;
	char key[S3_KEY_BYTES_MAX + 1];
	char id[UPLOAD_ID_BYTES_MAX + 1];
	struct buf parts; /* the request that joins them */
};

static int on_begun(void *arg, const char *path, const char *text)
{
	struct upload *u = arg;

	if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0)
		return 0;
	if (strlen(text) > UPLOAD_ID_BYTES_MAX)
		return -EBADMSG;
	memcpy(u->id, text, strlen(text) + 1);
	return 0;
}

static int upload_begin(struct upload *u, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	struct s3_call call = {
		.method = "POST", .key = u->key, .params = { { "uploads", "" } }, .param_count = 1
	};
	int r = s3_perform(u->s, &call, &answer, e);

	if (r == 0 && answer.status != 200)
		r = s3_refused(u->s, &answer, "begin to put", u->name, e);
	else if (r == 0 && (s3_xml_parse(&answer.text, on_begun, u) != 0 || u->id[0] == '\0'))
		r = err_set(e, -EAGAIN, "s3: '%s': the answer does not name the upload", u->name);
	http_answer_done(&answer);
	return r;
}

/* Parts cost money until they are gone; one that cannot be aborted is left to the bucket's rules. */
static void upload_abort(struct upload *u)
{
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "DELETE",
				.key = u->key,
				.params = { { "uploadId", u->id } },
				.param_count = 1 };

	(void)!s3_perform(u->s, &call, &answer, NULL);
	http_answer_done(&answer);
}

/* An ETag goes back in XML as it came, so it has nothing that XML would misread. */
static int note_part(struct upload *u, unsigned int number, const char *etag, struct err *e)
{
	char tag[ETAG_BYTES_MAX + 1];
	size_t len_bytes = etag ? strlen(etag) : 0;

	if (len_bytes > 1 && etag[0] == '"' && etag[len_bytes - 1] == '"') {
		etag++;
		len_bytes -= 2;
	}
	if (len_bytes == 0 || len_bytes > ETAG_BYTES_MAX || strcspn(etag, "\"<>&") < len_bytes)
		return err_set(e, -EAGAIN, "s3: '%s': the answer has no usable ETag", u->name);
	memcpy(tag, etag, len_bytes);
	tag[len_bytes] = '\0';
	if (buf_printf(&u->parts,
		       "<Part><PartNumber>%u</PartNumber><ETag>&quot;%s&quot;</ETag></Part>",
		       number, tag) < 0)
		return err_set(e, -EAGAIN, "no memory to put an object");
	return 0;
}

static int upload_part(struct upload *u, const struct backend_source *source, unsigned int number,
		       uint64_t offset_bytes, uint64_t len_bytes, const char *hash, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	char digits[16];
	struct s3_call call = { .method = "PUT",
				.key = u->key,
				.params = { { "partNumber", digits }, { "uploadId", u->id } },
				.param_count = 2,
				.payload_hash = hash,
				.http = { .source = source,
					  .source_offset_bytes = offset_bytes,
					  .source_len_bytes = len_bytes } };
	int r;

	(void)snprintf(digits, sizeof(digits), "%u", number);
	r = s3_perform(u->s, &call, &answer, e);
	if (r == 0 && answer.status != 200)
		r = s3_refused(u->s, &answer, "put a part of", u->name, e);
	if (r == 0)
		r = note_part(u, number, http_answer_header(&answer, "etag"), e);
	http_answer_done(&answer);
	return r;
}

static int on_joined(void *arg, const char *path, const char *text)
{
	(void)text;
	if (strcmp(path, "CompleteMultipartUploadResult") == 0)
		*(bool *)arg = true;
	return 0;
}

/* The join may have sent 200 to keep the line open before it failed: the words count. */
static int judge_join(struct upload *u, struct http_answer *a, struct err *e)
{
	bool joined = false;
	struct s3_error error;

	if (a->status == 200 && s3_xml_parse(&a->text, on_joined, &joined) == 0 && joined)
		return 0;
	s3_xml_error(&a->text, &error);
	if (a->status == 200 && error.code[0] == '\0')
		return err_set(e, -EAGAIN, "s3: '%s': the parts were perhaps not joined", u->name);
	if (a->status == 200)
		a->status = 500; /* which it is */
	return s3_refused(u->s, a, "join the parts of", u->name, e);
}

static int upload_join(struct upload *u, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	char hash[SIGV4_HASH_BYTES];
	struct s3_call call = { .method = "POST",
				.key = u->key,
				.params = { { "uploadId", u->id } },
				.param_count = 1,
				.payload_hash = hash };
	int r = buf_printf(&u->parts, "</CompleteMultipartUpload>");

	if (r < 0)
		return err_set(e, -EAGAIN, "no memory to put an object");
	if (sigv4_hash(u->parts.data, u->parts.len_bytes, hash) < 0)
		return err_set(e, -EAGAIN, "no memory to put an object");
	call.http.body = u->parts.data;
	call.http.body_len_bytes = u->parts.len_bytes;
	r = s3_perform(u->s, &call, &answer, e);
	if (r == 0)
		r = judge_join(u, &answer, e);
	http_answer_done(&answer);
	return r;
}

static int upload_parts(struct upload *u, const struct backend_source *source, struct hasher *h,
			struct err *e)
{
	uint64_t part_bytes = u->s->config.part_bytes;
	unsigned int number = 1;
	int r = buf_printf(&u->parts, "<CompleteMultipartUpload>") < 0 ?
			err_set(e, -EAGAIN, "no memory to put an object") :
			0;

	while (part_bytes * S3_PARTS_MAX < source->len_bytes)
		part_bytes *= 2;
	for (uint64_t at = 0; r == 0 && at < source->len_bytes; at += part_bytes, number++) {
		uint64_t len_bytes = min_u64(part_bytes, source->len_bytes - at);
		char hash[SIGV4_HASH_BYTES];

		r = hasher_part(h, len_bytes, hash, e);
		if (r == 0)
			r = upload_part(u, source, number, at, len_bytes, hash, e);
	}
	return r == 0 ? source_finish(&h->reader, e) : r;
}

static int put_in_parts(struct store_s3 *s, const char *name, const struct backend_source *source,
			struct err *e)
{
	struct upload u = { .s = s, .name = name };
	struct hasher h;
	int r = hasher_init(&h, s->env, source, e);

	if (r < 0)
		return r;
	s3_key_of(s, name, u.key);
	buf_init(&u.parts, (size_t)4 << 20);
	r = upload_begin(&u, e);
	if (r == 0) {
		r = upload_parts(&u, source, &h, e);
		if (r == 0)
			r = upload_join(&u, e);
		if (r < 0)
			upload_abort(&u);
	}
	buf_done(&u.parts);
	hasher_done(&h);
	return r;
}

int s3_put(struct store *store, const char *name, const struct backend_source *source,
	   unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_s3 *s = CONTAINER_OF(store, struct store_s3, store);
	bool if_absent = flags & BACKEND_PUT_IF_ABSENT;
	int r;

	if (source->len_bytes > s->config.part_bytes && !if_absent)
		r = put_in_parts(s, name, source, e);
	else
		r = put_whole(s, name, source, if_absent, e);
	if (r == 0)
		*ret_result = (struct backend_put_result){ .shares_file = false };
	return r;
}
