#include "tests/fuzz/scripted_http.h"

#include "backend/http.h"
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const int statuses[] = { 200, 201, 202, 204, 206, 301, 307, 400, 401, 403, 404,
				409, 411, 412, 416, 422, 429, 498, 500, 501, 503, 507 };

static const uint8_t *script;
static size_t script_bytes;

void scripted_http_set(const uint8_t *in, size_t len_bytes)
{
	script = in;
	script_bytes = len_bytes;
}

char scripted_http_letter(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (statuses[i] == status)
			return (char)('a' + i);
	fuzz_failed("a status of the list", __FILE__, __LINE__);
}

struct http_client {
	char unused;
};

int http_client_open(struct env *env, const struct http_options *options,
		     struct http_client **ret_client, struct err *e)
{
	(void)env;
	(void)options;
	(void)e;
	*ret_client = calloc(1, sizeof(**ret_client));
	FUZZ_EXPECT(*ret_client);
	return 0;
}

void http_client_close(struct http_client *c)
{
	free(c);
}

/* "Name: value" as http.c keeps it. */
static void keep_header(struct buf *headers, const uint8_t *line, size_t len_bytes)
{
	const uint8_t *colon = memchr(line, ':', len_bytes);
	size_t name_bytes = colon ? (size_t)(colon - line) : 0, at = name_bytes + 1;
	uint8_t *p;

	if (!colon || memchr(line, '\0', len_bytes))
		return;
	while (at < len_bytes && line[at] == ' ')
		at++;
	p = buf_extend(headers, name_bytes + 1 + len_bytes - at + 1);
	FUZZ_EXPECT(p);
	for (size_t i = 0; i < name_bytes; i++)
		*p++ = (uint8_t)tolower(line[i]);
	*p++ = '\0';
	memcpy(p, line + at, len_bytes - at);
	p[len_bytes - at] = '\0';
}

/* Status and headers; returns where the body begins. */
static size_t take_head(const uint8_t *piece, size_t piece_bytes, struct http_answer *a)
{
	size_t at = 1;

	a->status = statuses[piece[0] % ARRAY_SIZE(statuses)];
	if (piece[0] >= 'a' && piece[0] < 'a' + ARRAY_SIZE(statuses))
		a->status = statuses[piece[0] - 'a'];
	while (at < piece_bytes) {
		const uint8_t *end = memchr(piece + at, '\n', piece_bytes - at);
		size_t line_bytes = end ? (size_t)(end - piece) - at : piece_bytes - at;

		if (line_bytes > 0)
			keep_header(&a->headers, piece + at, line_bytes);
		at = min_u64(at + line_bytes + 1, piece_bytes);
		if (line_bytes == 0)
			break;
	}
	return at;
}

int http_perform(struct http_client *c, const struct http_request *q,
		 struct http_answer *ret_answer, struct err *e)
{
	const uint8_t *piece = script, *end;
	size_t piece_bytes = script_bytes, at;

	(void)c;
	FUZZ_EXPECT(strncmp(q->url, "http", 4) == 0);
	ret_answer->status = 0;
	ret_answer->body_bytes = 0;
	buf_init(&ret_answer->text, q->text_bytes_max > 0 ? q->text_bytes_max : 1 << 20);
	buf_init(&ret_answer->headers, 1 << 20);
	if (script_bytes == 0)
		return err_set(e, -EAGAIN, "nobody answers");
	end = memchr(script, 0xff, script_bytes);
	if (end)
		piece_bytes = (size_t)(end - script);
	script += min_u64(piece_bytes + 1, script_bytes);
	script_bytes -= min_u64(piece_bytes + 1, script_bytes);
	if (piece_bytes == 0)
		return err_set(e, -ETIMEDOUT, "no answer");
	at = take_head(piece, piece_bytes, ret_answer);
	ret_answer->body_bytes = piece_bytes - at;
	if (q->dst && ret_answer->status < 300) {
		if (ret_answer->body_bytes != q->dst_len_bytes)
			return err_set(e, -EUCLEAN, "%" PRIu64 " bytes came",
				       ret_answer->body_bytes);
		memcpy(q->dst, piece + at, q->dst_len_bytes);
		return 0;
	}
	if (strcmp(q->method, "HEAD") != 0 && piece_bytes > at &&
	    buf_append(&ret_answer->text, piece + at, piece_bytes - at) < 0)
		return err_set(e, -EFBIG, "too long");
	return 0;
}
