#include "backend/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIGEST_BYTES	  32u
#define SECRET_BYTES_MAX  256u
#define SCOPE_DATE_BYTES  8 /* "20130524" */
#define SECONDS_YEAR_9999 INT64_C(253402300799)

/* ---- hashes -------------------------------------------------------------------------------- */

void sigv4_hex(const uint8_t *digest, char ret_hash[SIGV4_HASH_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		ret_hash[2 * i] = digits[digest[i] >> 4];
		ret_hash[2 * i + 1] = digits[digest[i] & 15];
	}
	ret_hash[2 * DIGEST_BYTES] = '\0';
}

int sigv4_hash(const void *data, size_t len_bytes, char ret_hash[SIGV4_HASH_BYTES])
{
	uint8_t digest[DIGEST_BYTES];

	/* What it needs of memory is all that can be missing. */
	if (EVP_Digest(data, len_bytes, digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	sigv4_hex(digest, ret_hash);
	return 0;
}

/* key may be digest. */
static int hmac(const void *key, size_t key_bytes, const void *text, size_t text_bytes,
		uint8_t digest[DIGEST_BYTES])
{
	uint8_t result[DIGEST_BYTES];

	if (!HMAC(EVP_sha256(), key, (int)key_bytes, text, text_bytes, result, NULL))
		return -ENOMEM;
	memcpy(digest, result, sizeof(result));
	return 0;
}

static int signing_key(const struct sigv4_keys *keys, const char *date,
		       uint8_t ret_key[DIGEST_BYTES])
{
	char secret[4 + SECRET_BYTES_MAX] = "AWS4";
	size_t secret_bytes = strlen(keys->secret);
	int r;

	if (secret_bytes > SECRET_BYTES_MAX)
		return -EINVAL;
	memcpy(secret + 4, keys->secret, secret_bytes);
	r = hmac(secret, 4 + secret_bytes, date, SCOPE_DATE_BYTES, ret_key);
	if (r == 0)
		r = hmac(ret_key, DIGEST_BYTES, keys->region, strlen(keys->region), ret_key);
	if (r == 0)
		r = hmac(ret_key, DIGEST_BYTES, keys->service, strlen(keys->service), ret_key);
	if (r == 0)
		r = hmac(ret_key, DIGEST_BYTES, "aws4_request", strlen("aws4_request"), ret_key);
	explicit_bzero(secret, sizeof(secret));
	return r;
}

/* ---- dates and parameters ------------------------------------------------------------------ */

int sigv4_date(int64_t seconds, char ret_date[SIGV4_DATE_BYTES])
{
	time_t time = (time_t)seconds;
	struct tm tm;

	if (seconds < 0 || seconds > SECONDS_YEAR_9999 || !gmtime_r(&time, &tm))
		return -EINVAL;
	return strftime(ret_date, SIGV4_DATE_BYTES, "%Y%m%dT%H%M%SZ", &tm) == 16 ? 0 : -EINVAL;
}

static int escape_param(const struct sigv4_param *param, char **ret_text)
{
	struct buf text;
	int r;

	buf_init(&text, SIGV4_TEXT_BYTES_MAX);
	r = http_escape(&text, param->name, false);
	if (r == 0)
		r = buf_append(&text, "=", 1);
	if (r == 0)
		r = http_escape(&text, param->value, false);
	if (r == 0)
		r = buf_append(&text, "", 1);
	if (r < 0)
		buf_done(&text);
	else
		*ret_text = (char *)text.data;
	return r < 0 ? -ENOMEM : 0;
}

/* By name, then by value: '=' must not take part, as it sorts behind '-' and digits. */
static int compare_params(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t x_bytes = strcspn(x, "="), y_bytes = strcspn(y, "=");
	int order = memcmp(x, y, (size_t)min_u64(x_bytes, y_bytes));

	if (order != 0)
		return order;
	return x_bytes != y_bytes ? (x_bytes < y_bytes ? -1 : 1) : strcmp(x, y);
}

int sigv4_query(struct buf *out, const struct sigv4_param *params, size_t count)
{
	char *texts[SIGV4_PARAMS_MAX] = { NULL };
	int r = count > SIGV4_PARAMS_MAX ? -E2BIG : 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = escape_param(&params[i], &texts[i]);
	if (r == 0)
		qsort(texts, count, sizeof(texts[0]), compare_params);
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (i > 0)
			r = buf_append(out, "&", 1);
		if (r == 0)
			r = buf_append(out, texts[i], strlen(texts[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		free(texts[i]);
	return r == -E2BIG && count <= SIGV4_PARAMS_MAX ? -ENOMEM : r;
}

/* ---- what is signed ------------------------------------------------------------------------ */

struct lines {
	const struct http_header *sorted[HTTP_HEADERS_MAX];
	size_t count;
};

static int compare_headers(const void *a, const void *b)
{
	return strcasecmp((*(const struct http_header *const *)a)->name,
			  (*(const struct http_header *const *)b)->name);
}

static int sort_headers(const struct sigv4_request *request, struct lines *ret_lines)
{
	if (request->header_count > HTTP_HEADERS_MAX)
		return -E2BIG;
	ret_lines->count = request->header_count;
	for (size_t i = 0; i < request->header_count; i++)
		ret_lines->sorted[i] = &request->headers[i];
	qsort(ret_lines->sorted, ret_lines->count, sizeof(ret_lines->sorted[0]), compare_headers);
	return 0;
}

static int append_lower(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		char c = (char)(*text >= 'A' && *text <= 'Z' ? *text + ('a' - 'A') : *text);

		if (buf_append(out, &c, 1) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Without the blanks around, and one for several in a row. */
static int append_value(struct buf *out, const char *value)
{
	const char *at = value + strspn(value, " \t");

	while (*at != '\0') {
		size_t word_bytes = strcspn(at, " \t");

		if (buf_append(out, at, word_bytes) < 0)
			return -ENOMEM;
		at += word_bytes;
		at += strspn(at, " \t");
		if (*at != '\0' && buf_append(out, " ", 1) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int append_names(struct buf *out, const struct lines *lines)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < lines->count; i++) {
		if (i > 0)
			r = buf_append(out, ";", 1);
		if (r == 0)
			r = append_lower(out, lines->sorted[i]->name);
	}
	return r < 0 ? -ENOMEM : 0;
}

static int append_headers(struct buf *out, const struct lines *lines)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < lines->count; i++) {
		r = append_lower(out, lines->sorted[i]->name);
		if (r == 0)
			r = buf_append(out, ":", 1);
		if (r == 0)
			r = append_value(out, lines->sorted[i]->value);
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	return r < 0 ? -ENOMEM : 0;
}

int sigv4_canonical(struct buf *out, const struct sigv4_request *request)
{
	struct lines lines;
	int r = sort_headers(request, &lines);

	if (r < 0)
		return r;
	r = buf_printf(out, "%s\n%s\n%s\n", request->method, request->path, request->query);
	if (r == 0)
		r = append_headers(out, &lines);
	if (r == 0)
		r = buf_append(out, "\n", 1);
	if (r == 0)
		r = append_names(out, &lines);
	if (r == 0)
		r = buf_printf(out, "\n%s", request->payload_hash);
	return r < 0 ? -ENOMEM : 0;
}

/* ---- the signature ------------------------------------------------------------------------- */

static int sign_canonical(const struct buf *canonical, const struct sigv4_keys *keys,
			  const char *date, char ret_signature[SIGV4_HASH_BYTES])
{
	char hash[SIGV4_HASH_BYTES];
	uint8_t key[DIGEST_BYTES], digest[DIGEST_BYTES];
	struct buf text;
	int r;

	buf_init(&text, SIGV4_TEXT_BYTES_MAX);
	r = sigv4_hash(canonical->data, canonical->len_bytes, hash);
	if (r == 0)
		r = buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.*s/%s/%s/aws4_request\n%s", date,
			       SCOPE_DATE_BYTES, date, keys->region, keys->service, hash);
	if (r == 0)
		r = signing_key(keys, date, key);
	if (r == 0)
		r = hmac(key, sizeof(key), text.data, text.len_bytes, digest);
	if (r == 0)
		sigv4_hex(digest, ret_signature);
	explicit_bzero(key, sizeof(key));
	buf_done(&text);
	return r;
}

int sigv4_sign(struct buf *out, const struct sigv4_keys *keys, const struct sigv4_request *request,
	       const char *date)
{
	char signature[SIGV4_HASH_BYTES];
	struct lines lines;
	struct buf text;
	int r = strlen(date) == SIGV4_DATE_BYTES - 1 ? 0 : -EINVAL;

	buf_init(&text, SIGV4_TEXT_BYTES_MAX);
	if (r == 0)
		r = sort_headers(request, &lines);
	if (r == 0)
		r = sigv4_canonical(&text, request);
	if (r == 0)
		r = sign_canonical(&text, keys, date, signature);
	buf_done(&text);
	if (r == 0)
		r = buf_printf(out,
			       "AWS4-HMAC-SHA256 "
			       "Credential=%s/%.*s/%s/%s/aws4_request, SignedHeaders=",
			       keys->access, SCOPE_DATE_BYTES, date, keys->region, keys->service);
	if (r == 0)
		r = append_names(out, &lines);
	if (r == 0)
		r = buf_printf(out, ", Signature=%s", signature);
	return r;
}
