/* http_text - what is in the headers of an answer, and how URLs and dates are written. */
#include "backend/http.h"

#include "common/units.h"

#include <curl/curl.h>
#include <string.h>

#define DATE_BYTES_MAX	  64u /* the longest of the three forms has 33 */
#define RETRY_AFTER_MAX_S UINT64_C(600)

void http_answer_done(struct http_answer *a)
{
	buf_done(&a->text);
	buf_done(&a->headers);
	a->status = 0;
	a->body_bytes = 0;
}

const char *http_answer_header(const struct http_answer *a, const char *name)
{
	const char *at = (const char *)a->headers.data, *end;

	if (!at)
		return NULL;
	end = at + a->headers.len_bytes;
	while (at < end) {
		const char *value = at + strlen(at) + 1;

		if (strcmp(at, name) == 0)
			return value;
		at = value + strlen(value) + 1;
	}
	return NULL;
}

static bool is_unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c));
}

int http_escape(struct buf *out, const char *text, bool keep_slash)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		char escaped[3] = { '%', digits[c >> 4], digits[c & 15] };
		bool is_plain = is_unreserved(*text) || (keep_slash && *text == '/');
		int r = is_plain ? buf_append(out, text, 1) : buf_append(out, escaped, 3);

		if (r < 0)
			return -ENOMEM;
	}
	return 0;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int http_unescape(char *text, bool plus_is_blank)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		int c = (unsigned char)*from;

		if (c == '+' && plus_is_blank)
			c = ' ';
		if (c == '%') {
			int high = digit_of(from[1]);
			int low = high < 0 ? -1 : digit_of(from[2]);

			c = low < 0 ? 0 : 16 * high + low;
			if (c == 0)
				return -EINVAL;
			from += 2;
		}
		*to++ = (char)c;
	}
	*to = '\0';
	return 0;
}

int http_date_parse(const char *text, int64_t *ret_seconds)
{
	time_t seconds;

	if (strnlen(text, DATE_BYTES_MAX) == DATE_BYTES_MAX)
		return -EINVAL;
	seconds = curl_getdate(text, NULL);
	if (seconds < 0)
		return -EINVAL;
	*ret_seconds = seconds;
	return 0;
}

uint64_t http_answer_retry_after_ns(const struct http_answer *a)
{
	const char *after = http_answer_header(a, "retry-after");
	const char *date = http_answer_header(a, "date");
	uint64_t seconds = 0;
	int64_t until_s, now_s;

	if (!after)
		return 0;
	if (u64_parse(after, &seconds) < 0 && date && http_date_parse(after, &until_s) == 0 &&
	    http_date_parse(date, &now_s) == 0 && until_s > now_s)
		seconds = (uint64_t)(until_s - now_s);
	return min_u64(seconds, RETRY_AFTER_MAX_S) * NS_PER_SEC;
}
