/*
 * backend_s3_list - ListObjectsV2, a page at a time.
 *
 * Each page is asked for by start-after, the last key of the page before, never by the store's
 * continuation token: a key needs no trust, ages never, and cannot lead in a circle. A page is read
 * whole, and checked (keys ascend, start with the prefix, lie behind the place asked for) before any
 * of it is given away.
 *
 * Keys under the prefix that are no names by the rules of backend.h are passed over: what probing
 * writes ("tmp/"), and what others left there.
 */
#include "backend/backend_s3.h"

#include "common/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_KEYS_MAX  1000u
#define PAGE_BYTES_MAX ((size_t)8 << 20)
#define RAW_BYTES_MAX  (3 * S3_KEY_BYTES_MAX) /* of a key, escaped */

struct item {
	char *key;
	struct backend_object object;
	bool has_length;
};

struct page {
	struct item *items; /* PAGE_KEYS_MAX */
	unsigned int count;
	bool is_listing, is_escaped, has_more, says_more;
};

static void page_clear(struct page *p)
{
	for (unsigned int i = 0; i < p->count; i++)
		free(p->items[i].key);
	p->count = 0;
	p->is_listing = p->is_escaped = p->has_more = p->says_more = false;
}

/* ---- one page ------------------------------------------------------------------------------ */

/* "2009-10-12T17:50:30.000Z"; what is not like that is no time, which is allowed. */
static int64_t parse_time(const char *text)
{
	struct tm tm = { .tm_year = 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t seconds = end ? timegm(&tm) : 0;

	return seconds > 0 && seconds < INT64_MAX / (int64_t)NS_PER_SEC ?
		       seconds * (int64_t)NS_PER_SEC :
		       0;
}

static int take_contents(struct page *p, const char *what, const char *text)
{
	struct item *item = &p->items[p->count];

	if (p->count == PAGE_KEYS_MAX)
		return -EBADMSG; /* more than were asked for */
	if (*what == '\0') {	 /* the end of one */
		if (!item->key || !item->has_length)
			return -EBADMSG;
		p->count++;
	} else if (strcmp(what, "/Key") == 0) {
		if (item->key || strlen(text) > RAW_BYTES_MAX)
			return -EBADMSG;
		item->key = strdup(text);
		return item->key ? 0 : -ENOMEM;
	} else if (strcmp(what, "/Size") == 0) {
		if (u64_parse(text, &item->object.len_bytes) < 0)
			return -EBADMSG;
		item->has_length = true;
	} else if (strcmp(what, "/LastModified") == 0) {
		item->object.modified_ns = parse_time(text);
	}
	return 0;
}

static int on_element(void *arg, const char *path, const char *text)
{
	static const char root[] = "ListBucketResult", contents[] = "/Contents";
	struct page *p = arg;

	if (strncmp(path, root, sizeof(root) - 1) != 0)
		return 0;
	path += sizeof(root) - 1;
	if (strncmp(path, contents, sizeof(contents) - 1) == 0)
		return take_contents(p, path + sizeof(contents) - 1, text);
	if (*path == '\0') {
		p->is_listing = true;
	} else if (strcmp(path, "/EncodingType") == 0) {
		p->is_escaped = strcmp(text, "url") == 0;
	} else if (strcmp(path, "/IsTruncated") == 0) {
		p->says_more = true;
		p->has_more = strcmp(text, "true") == 0;
	}
	return 0;
}

/* The keys are what was asked for, in order; unescaped here. */
static int page_check(struct page *p, const char *prefix, const char *last, struct err *e)
{
	for (unsigned int i = 0; i < p->count; i++) {
		char *key = p->items[i].key;

		if (p->is_escaped && http_unescape(key, true) < 0)
			return err_set(e, -EAGAIN, "s3: list: a key is badly escaped");
		if (strlen(key) > S3_KEY_BYTES_MAX || strncmp(key, prefix, strlen(prefix)) != 0 ||
		    strcmp(key, last) <= 0)
			return err_set(e, -EUCLEAN, "s3: list: a key is out of turn");
		last = key;
	}
	if (p->has_more && p->count == 0)
		return err_set(e, -EUCLEAN, "s3: list: a page is empty and yet not the last");
	return 0;
}

static int page_parse(struct page *p, const struct buf *text, struct err *e)
{
	int r = s3_xml_parse(text, on_element, p);

	/* An item that was begun and not ended. */
	if (p->count < PAGE_KEYS_MAX) {
		if (r != 0 || !p->is_listing)
			free(TAKE_PTR(p->items[p->count].key));
	}
	if (r == 0 && p->is_listing && p->says_more)
		return 0;
	return err_set(e, -EAGAIN, "s3: list: the answer is not a listing");
}

static int page_fetch(struct store_s3 *s, struct page *p, const char *prefix, const char *last,
		      unsigned int count_max, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	char digits[16];
	struct s3_call call = { .method = "GET",
				.params = { { "list-type", "2" },
					    { "encoding-type", "url" },
					    { "max-keys", digits },
					    { "prefix", prefix },
					    { "start-after", last } },
				.param_count = *last != '\0' ? 5 : 4,
				.http = { .text_bytes_max = PAGE_BYTES_MAX } };
	int r;

	(void)snprintf(digits, sizeof(digits), "%u", count_max);
	page_clear(p);
	memset(p->items, 0, PAGE_KEYS_MAX * sizeof(*p->items));
	r = s3_perform(s, &call, &answer, e);
	if (r == 0 && answer.status != 200)
		r = s3_refused(s, &answer, "list", prefix, e);
	if (r == 0)
		r = page_parse(p, &answer.text, e);
	if (r == 0)
		r = page_check(p, prefix, last, e);
	http_answer_done(&answer);
	return r;
}

/* ---- all of them --------------------------------------------------------------------------- */

struct listing {
	unsigned int given, count_max;
	int (*fn)(void *arg, const char *name, const struct backend_object *object);
	void *arg;
};

/* Give away what is a name. */
static int page_give(const struct page *p, size_t prefix_bytes, struct listing *l)
{
	for (unsigned int i = 0; i < p->count && l->given < l->count_max; i++) {
		const char *name = p->items[i].key + prefix_bytes;
		int r;

		if (backend_check_name(name, NULL) < 0)
			continue;
		r = l->fn(l->arg, name, &p->items[i].object);
		if (r != 0)
			return r;
		l->given++;
	}
	return 0;
}

static int list_pages(struct store_s3 *s, struct page *p, const char *prefix, char *last,
		      struct listing *l, struct err *e)
{
	int r = 0;

	do {
		unsigned int wanted = (unsigned int)min_u64(l->count_max - l->given, PAGE_KEYS_MAX);

		r = page_fetch(s, p, prefix, last, wanted, e);
		if (r < 0)
			return r;
		r = page_give(p, strlen(s->config.prefix), l);
		if (r != 0)
			return r;
		if (p->count > 0)
			memcpy(last, p->items[p->count - 1].key,
			       strlen(p->items[p->count - 1].key) + 1);
	} while (p->has_more && l->given < l->count_max);
	return (int)l->given;
}

int s3_list(struct store *store, const char *prefix, const char *after, unsigned int count_max,
	    int (*fn)(void *arg, const char *name, const struct backend_object *object), void *arg,
	    struct err *e)
{
	struct store_s3 *s = CONTAINER_OF(store, struct store_s3, store);
	struct listing l = { .count_max = count_max, .fn = fn, .arg = arg };
	char key[S3_KEY_BYTES_MAX + 1], last[S3_KEY_BYTES_MAX + 1] = "";
	struct page p = { .count = 0 };
	int r;

	if (count_max == 0)
		return 0;
	p.items = calloc(PAGE_KEYS_MAX, sizeof(*p.items));
	if (!p.items)
		return err_set(e, -EAGAIN, "no memory for a listing");
	s3_key_of(s, prefix, key);
	if (after)
		s3_key_of(s, after, last);
	r = list_pages(s, &p, key, last, &l, e);
	page_clear(&p);
	free(p.items);
	return r;
}
