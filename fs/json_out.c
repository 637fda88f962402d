#include "fs/json_out.h"

#include "common/buf.h"
#include "common/metrics.h"
#include "common/units.h"

#include <stdio.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
/* Longer than any path that the kernel hands over, each byte replaced by three or two. */
#define NAME_TEXT_BYTES_MAX ((size_t)1 << 20)

json_t *json_out_error(const char *message, int code, const char *hint)
{
	json_t *document = json_object();
	int r = document ? json_out_name(document, "error", message, strlen(message)) : -ENOMEM;

	if (r == 0 && json_object_set_new(document, "code", json_integer(code)) < 0)
		r = -ENOMEM;
	if (r == 0 &&
	    json_object_set_new(document, "hint", hint ? json_string(hint) : json_null()) < 0)
		r = -ENOMEM;
	if (r < 0) {
		json_decref(document);
		return NULL;
	}
	return document;
}

void json_out_set(json_t **document, const char *key, json_t *value)
{
	if (!*document) {
		json_decref(value);
	} else if (json_object_set_new(*document, key, value) < 0) {
		json_decref(*document);
		*document = NULL;
	}
}

/* The smallest code that a sequence of this length may stand for, and its first byte's payload. */
static size_t utf8_expected(unsigned char first, uint32_t *ret_code, uint32_t *ret_min)
{
	if (first < 0x80) {
		*ret_code = first;
		*ret_min = 0;
		return 1;
	}
	if (first >= 0xc2 && first <= 0xdf) {
		*ret_code = first & 0x1fu;
		*ret_min = 0x80;
		return 2;
	}
	if ((first & 0xf0) == 0xe0) {
		*ret_code = first & 0x0fu;
		*ret_min = 0x800;
		return 3;
	}
	if (first >= 0xf0 && first <= 0xf4) {
		*ret_code = first & 0x07u;
		*ret_min = 0x10000;
		return 4;
	}
	return 0;
}

size_t json_out_utf8_length(const char *text, size_t len_bytes)
{
	uint32_t code = 0, min = 0;
	size_t n;

	if (len_bytes == 0)
		return 0;
	n = utf8_expected((unsigned char)text[0], &code, &min);
	if (n == 0 || n > len_bytes)
		return 0;
	for (size_t i = 1; i < n; i++) {
		unsigned char byte = (unsigned char)text[i];

		if ((byte & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (byte & 0x3fu);
	}
	if (code < min || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return n;
}

static int append_hex(struct buf *out, const char *name, size_t len_bytes)
{
	int r = 0;

	for (size_t i = 0; i < len_bytes && r == 0; i++)
		r = buf_printf(out, "%02x", (unsigned char)name[i]);
	return r;
}

static int set_text(json_t *document, const char *key, const struct buf *text)
{
	json_t *value = json_stringn(text->data ? (const char *)text->data : "", text->len_bytes);

	return json_object_set_new(document, key, value) < 0 ? -ENOMEM : 0;
}

int json_out_name(json_t *document, const char *key, const char *name, size_t len_bytes)
{
	AUTO(buf_done) struct buf text, hex, hex_key;
	bool is_utf8 = true;
	int r = 0;

	buf_init(&text, NAME_TEXT_BYTES_MAX);
	buf_init(&hex, NAME_TEXT_BYTES_MAX);
	buf_init(&hex_key, 256);
	for (size_t i = 0; i < len_bytes && r == 0;) {
		size_t n = json_out_utf8_length(name + i, len_bytes - i);

		is_utf8 &= n != 0;
		r = n ? buf_append(&text, name + i, n) :
			buf_append(&text, REPLACEMENT, sizeof(REPLACEMENT) - 1);
		i += n ? n : 1;
	}
	if (r == 0)
		r = set_text(document, key, &text);
	if (r < 0 || is_utf8)
		return r;
	r = append_hex(&hex, name, len_bytes);
	if (r == 0)
		r = buf_printf(&hex_key, "%s_hex", key);
	return r < 0 ? r : set_text(document, (const char *)hex_key.data, &hex);
}

/* Value of a hexadecimal digit, or -1. */
static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int from_hex(const char *hex, size_t hex_bytes, char *text)
{
	for (size_t i = 0; i < hex_bytes / 2; i++) {
		int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);

		if (high < 0 || low < 0 || high + low == 0)
			return -EINVAL;
		text[i] = (char)(high << 4 | low);
	}
	return hex_bytes % 2 ? -EINVAL : 0;
}

int json_out_name_back(const json_t *document, const char *key, char *text, size_t text_bytes)
{
	const json_t *plain = json_object_get(document, key);
	const json_t *hex;
	char hex_key[64];
	size_t len_bytes;
	int r = 0;

	(void)snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
	hex = json_object_get(document, hex_key);
	if (!json_is_string(plain))
		return -ENOENT;
	len_bytes = hex ? json_string_length(hex) / 2 : json_string_length(plain);
	if (len_bytes >= text_bytes)
		return -ENAMETOOLONG;
	if (hex)
		r = json_is_string(hex) ?
			    from_hex(json_string_value(hex), json_string_length(hex), text) :
			    -EINVAL;
	else
		memcpy(text, json_string_value(plain), len_bytes);
	if (r == 0)
		text[len_bytes] = '\0';
	return r == 0 && strlen(text) != len_bytes ? -EINVAL : r;
}

int json_out_u64(json_t *document, const char *key, uint64_t value)
{
	json_int_t number = (json_int_t)min_u64(value, INT64_MAX);

	return json_object_set_new(document, key, json_integer(number)) < 0 ? -ENOMEM : 0;
}

struct metrics_walk {
	json_t *counters, *gauges, *histograms;
};

static json_t *histogram_document(const struct histogram_snapshot *h)
{
	const double ns = 1.0 / (double)NS_PER_SEC;

	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)h->count, "sum",
			 (double)h->sum_ns * ns, "p50", (double)h->p50_ns * ns, "p99",
			 (double)h->p99_ns * ns, "p999", (double)h->p999_ns * ns, "max",
			 (double)h->max_ns * ns);
}

static int add_metric(void *arg, const struct metric_value *value)
{
	struct metrics_walk *w = arg;
	char name[128];

	(void)snprintf(name, sizeof(name), "%s.%s", value->group, value->def->name);
	switch (value->def->kind) {
	case METRIC_KIND_COUNTER:
		return json_out_u64(w->counters, name, value->counter);
	case METRIC_KIND_GAUGE:
		return json_object_set_new(w->gauges, name, json_integer(value->gauge)) < 0 ?
			       -ENOMEM :
			       0;
	case METRIC_KIND_HISTOGRAM:
		return json_object_set_new(w->histograms, name,
					   histogram_document(&value->histogram)) < 0 ?
			       -ENOMEM :
			       0;
	}
	return 0;
}

json_t *json_out_metrics(struct metrics_registry *registry)
{
	json_t *document = json_pack("{s:{}, s:{}, s:{}}", "counters", "gauges", "histograms");
	struct metrics_walk w = {
		.counters = json_object_get(document, "counters"),
		.gauges = json_object_get(document, "gauges"),
		.histograms = json_object_get(document, "histograms"),
	};

	if (document && metrics_for_each(registry, add_metric, &w) < 0) {
		json_decref(document);
		return NULL;
	}
	return document;
}
