/*
 * backend_swift_list - names of a container, a page at a time.
 *
 * Swift sorts names by their UTF-8 bytes (its containers are SQLite tables with binary
 * collation), so for our ASCII names its order is the one that backend.h asks for. It is not
 * trusted with it: a name that is not behind the one before it ends the list, as a marker that
 * loops or goes backwards would hide names or never end. A short page is no sign of the end (proxies
 * may cut them as they like), only an empty one is. Names that no user of backend.h could have put
 * are somebody else's and left out.
 */
#include "backend/backend_swift.h"

#include <string.h>

#define PAGE_COUNT_MAX 1000u
#define PAGE_BYTES_MAX ((size_t)8 << 20)
/* Of one call: this many names of somebody else's are more than a container should have. */
#define PAGES_MAX 10000u

struct listing {
	const struct swift_config *config;
	const char *prefix;
	unsigned int given, count_max;
	int (*fn)(void *arg, const char *name, const struct backend_object *object);
	void *arg;
	struct err *e;
	char last[SWIFT_NAME_BYTES_MAX + 1]; /* with the store's prefix; the next page's marker */
};

static int take_name(void *arg, const char *full, const struct backend_object *object)
{
	struct listing *l = arg;
	const char *own = l->config->prefix, *name = full + strlen(own);
	size_t full_bytes = strlen(full);
	int r;

	if (full_bytes > SWIFT_NAME_BYTES_MAX || strcmp(full, l->last) <= 0)
		return err_set(l->e, -EUCLEAN,
			       "container '%s': its listing is out of order behind '%.300s'",
			       l->config->container, l->last);
	if (strncmp(full, own, strlen(own)) != 0 ||
	    strncmp(name, l->prefix, strlen(l->prefix)) != 0)
		return err_set(l->e, -EUCLEAN,
			       "container '%s': its listing has names that were not asked for",
			       l->config->container);
	memcpy(l->last, full, full_bytes + 1);
	/* A page can be larger than what is left to give only where the limit was ignored. */
	if (l->given == l->count_max || backend_check_name(name, NULL) < 0)
		return 0;
	r = l->fn(l->arg, name, object);
	if (r == 0)
		l->given++;
	return r;
}

static int add_parameter(struct buf *query, const char *name, const char *text, const char *more)
{
	int r = buf_append(query, name, strlen(name));

	if (r == 0)
		r = http_escape(query, text, false);
	return r < 0 ? r : http_escape(query, more, false);
}

static int fetch_page(struct store_swift *s, const struct listing *l, struct http_answer *answer,
		      struct err *e)
{
	unsigned int count = (unsigned int)min_u64(l->count_max - l->given, PAGE_COUNT_MAX);
	struct swift_request request = { .method = "GET", .text_bytes_max = PAGE_BYTES_MAX };
	struct buf query;
	int r;

	buf_init(&query, SIZE_MAX);
	r = buf_printf(&query, "format=json&limit=%u", count);
	if (r == 0)
		r = add_parameter(&query, "&prefix=", s->config.prefix, l->prefix);
	if (r == 0)
		r = add_parameter(&query, "&marker=", l->last, "");
	if (r == 0)
		r = buf_append(&query, "", 1);
	request.query = (const char *)query.data;
	r = r < 0 ? err_set(e, -EAGAIN, "no memory for a request") :
		    swift_perform(s, &request, answer, e);
	buf_done(&query);
	if (r < 0)
		return r;
	if (answer->status == 404)
		return swift_no_container(s, e);
	if (answer->status < 200 || answer->status > 299)
		return swift_status_error(s, answer, "listing", s->config.container, e);
	return 0;
}

static int take_page(struct store_swift *s, struct listing *l, size_t *ret_count, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	int r = fetch_page(s, l, &answer, e);

	if (r == 0)
		r = swift_listing_parse(answer.text.data, answer.text.len_bytes, take_name, l,
					ret_count, e);
	http_answer_done(&answer);
	return r;
}

int swift_list(struct store *store, const char *prefix, const char *after, unsigned int count_max,
	       int (*fn)(void *arg, const char *name, const struct backend_object *object),
	       void *arg, struct err *e)
{
	struct store_swift *s = CONTAINER_OF(store, struct store_swift, store);
	struct listing l = { .config = &s->config,
			     .prefix = prefix,
			     .count_max = count_max,
			     .fn = fn,
			     .arg = arg,
			     .e = e };
	size_t own_bytes = strlen(s->config.prefix);

	memcpy(l.last, s->config.prefix, own_bytes + 1);
	if (after)
		memcpy(l.last + own_bytes, after, strlen(after) + 1);
	for (unsigned int page = 0; page < PAGES_MAX; page++) {
		size_t count = 0;
		int r;

		if (l.given == count_max)
			return (int)l.given;
		r = take_page(s, &l, &count, e);
		if (r != 0)
			return r;
		if (count == 0)
			return (int)l.given;
	}
	return err_set(e, -E2BIG,
		       "container '%s' has too many names of somebody else: give the pool a "
		       "container or a prefix of its own",
		       s->config.container);
}
