/*
 * The HTTP client below all stores: lines of headers, interim answers, trailers, bodies in pieces. The
 * calls of libcurl that it makes are answered here, so only its own code is looked at.
 *
 * An input is pieces, each a byte that says what it is and how long (0..127: a header, 128..255: of
 * the body), and its bytes.
 */
#define CURL_DISABLE_TYPECHECK
#include "backend/http.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Text and headers are bounded (http.h); a buf doubles. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 32 << 10, .per_input_byte = 8 };

enum { TO_DST = 1, HEAD = 2, DST_BYTES = 32, TEXT_BYTES_MAX = 64 };

static struct {
	curl_write_callback on_header, on_body;
	void *header_arg, *body_arg;
	const uint8_t *in;
	size_t len_bytes;
} wire;

/* ---- libcurl --------------------------------------------------------------------------------- */

#undef curl_easy_setopt
CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	va_list ap;

	(void)easy;
	va_start(ap, option);
	if (option == CURLOPT_HEADERFUNCTION)
		wire.on_header = va_arg(ap, curl_write_callback);
	else if (option == CURLOPT_WRITEFUNCTION)
		wire.on_body = va_arg(ap, curl_write_callback);
	else if (option == CURLOPT_HEADERDATA)
		wire.header_arg = va_arg(ap, void *);
	else if (option == CURLOPT_WRITEDATA)
		wire.body_arg = va_arg(ap, void *);
	va_end(ap);
	return CURLE_OK;
}

/* A piece in memory of its own, so that a sanitizer sees what lies behind it. */
static bool give(uint8_t head, const uint8_t *bytes, size_t len_bytes)
{
	char *copy = (char *)fuzz_copy(bytes, len_bytes, len_bytes);
	size_t taken = head < 128 ? wire.on_header(copy, 1, len_bytes, wire.header_arg) :
				    wire.on_body(copy, 1, len_bytes, wire.body_arg);

	free(copy);
	return taken == len_bytes;
}

CURLcode curl_easy_perform(CURL *easy)
{
	(void)easy;
	while (wire.len_bytes > 0) {
		uint8_t head = fuzz_word(&wire.in, &wire.len_bytes);
		size_t piece_bytes = min_u64(head & 127, wire.len_bytes);

		if (piece_bytes > 0 && !give(head, wire.in, piece_bytes))
			return CURLE_WRITE_ERROR;
		wire.in += piece_bytes;
		wire.len_bytes -= piece_bytes;
	}
	return CURLE_OK;
}

/* ---- target ---------------------------------------------------------------------------------- */

static void seed(uint8_t word, const char *const *pieces, size_t count)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	for (size_t i = 0; i < count; i++) {
		bool is_body = pieces[i][0] == '|';
		size_t len = strlen(pieces[i]) - is_body;
		uint8_t head = (uint8_t)(len | (is_body ? 128 : 0));

		FUZZ_EXPECT(buf_append(&out, &head, 1) == 0);
		FUZZ_EXPECT(buf_append(&out, pieces[i] + is_body, len) == 0);
	}
	fuzz_seed(word, out.data, out.len_bytes);
	buf_done(&out);
}

void fuzz_seeds(void)
{
	static const char *const plain[] = { "HTTP/1.1 200 OK\r\n", "ETag: \"x\"\r\n",
					     "Content-Length: 5\r\n", "\r\n", "|hello" };
	static const char *const interim[] = { "HTTP/1.1 100 Continue\r\n",
					       "\r\n",
					       "HTTP/1.1 404 Not Found\r\n",
					       "A:\r\n",
					       "\r\n",
					       "|no",
					       "Trailer: t\r\n" };
	static const char *const whole[] = { "HTTP/1.1 206 Partial\r\n", "\r\n",
					     "|0123456789abcdef", "|0123456789abcdef" };

	seed(0, plain, ARRAY_SIZE(plain));
	seed(0, interim, ARRAY_SIZE(interim));
	seed(TO_DST, whole, ARRAY_SIZE(whole));
	seed(HEAD, plain, ARRAY_SIZE(plain) - 1);
}

static void check_headers(const struct http_answer *a)
{
	const char *at = (const char *)a->headers.data;
	const char *end = at ? at + a->headers.len_bytes : NULL;

	while (at && at < end) {
		const char *value = at + strlen(at) + 1;

		FUZZ_EXPECT(value < end && http_answer_header(a, at));
		at = value + strlen(value) + 1;
		FUZZ_EXPECT(at <= end);
	}
	FUZZ_EXPECT(http_answer_retry_after_ns(a) <= UINT64_C(600000000000));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	static const struct http_options options = { .connections_max = 1 };
	uint8_t word = fuzz_word(&in, &len_bytes);
	char *dst = (char *)fuzz_copy(NULL, 0, DST_BYTES);
	const struct http_request q = { .method = word & HEAD ? "HEAD" : "GET",
					.url = "http://127.0.0.1:1/",
					.dst = word & TO_DST ? dst : NULL,
					.dst_len_bytes = word & TO_DST ? DST_BYTES : 0,
					.text_bytes_max = TEXT_BYTES_MAX };
	struct http_answer a = { .status = 0 };
	struct http_client *client;
	struct err e = { 0 };
	int r;

	FUZZ_EXPECT(http_client_open(memory_env(), &options, &client, &e) == 0);
	wire.in = in;
	wire.len_bytes = len_bytes;
	r = http_perform(client, &q, &a, &e);
	FUZZ_EXPECT(r == 0 || e.message[0] != '\0');
	FUZZ_EXPECT(a.status == 0 || (a.status >= 200 && a.status <= 999));
	FUZZ_EXPECT(a.text.len_bytes <= TEXT_BYTES_MAX);
	if (r == 0) {
		FUZZ_EXPECT(a.status >= 200 && a.status <= 599);
		FUZZ_EXPECT(!(word & TO_DST) || a.status > 299 || a.body_bytes == DST_BYTES);
	}
	check_headers(&a);
	http_answer_done(&a);
	http_client_close(client);
	free(dst);
}
