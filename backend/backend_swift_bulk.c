/*
 * backend_swift_bulk - Swift's bulk delete: many names in one request, where the cluster has it.
 *
 * HTTP says 200 before anything is done, so only the words of the body count: how many were deleted,
 * how many not found, which ones failed. They are believed when these numbers make up what was asked
 * for (a cluster that gave up in the middle leaves the rest out of all three) and all failures
 * bear names that were asked for. Not found means gone, as Swift leaves a tombstone all the same,
 * but only in a container that is there: one that is not finds nothing either.
 *
 * A cluster without it takes the request for one about the account, and answers 204 or a refusal.
 * Then it is not asked again. What it answers but cannot be understood is left to single deletes.
 */
#include "backend/backend_swift.h"

#include "common/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES_MAX	 ((size_t)4 << 20)
#define ANSWER_BYTES_MAX ((size_t)4 << 20)

struct bulk {
	struct store_swift *s;
	const char *const *names;
	size_t count;
	const bool *gone; /* before the request */
	bool *failed;
	int status; /* of a failure: one that another try may cure, where there is one; 0: none */
	const char *name; /* that it belongs to */
};

/* ---- what is asked -------------------------------------------------------------------------- */

static int make_list(struct store_swift *s, const char *const *names, size_t count,
		     const bool *gone, struct buf *out, size_t *ret_asked)
{
	size_t asked = 0;
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		if (gone[i])
			continue;
		asked++;
		r = buf_append(out, s->container_path, strlen(s->container_path));
		if (r == 0)
			r = buf_append(out, "/", 1);
		if (r == 0)
			r = http_escape(out, s->config.prefix, true);
		if (r == 0)
			r = http_escape(out, names[i], true);
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	*ret_asked = asked;
	return r;
}

static int send_list(struct store_swift *s, const struct buf *list, struct http_answer *answer,
		     struct err *e)
{
	static const struct http_header headers[] = { { "Content-Type", "text/plain" },
						      { "Accept", "application/json" } };
	const struct backend_source source = { .data = list->data, .len_bytes = list->len_bytes };
	const struct swift_request request = { .method = "POST",
					       .of_account = true,
					       .query = "bulk-delete",
					       .headers = headers,
					       .header_count = ARRAY_SIZE(headers),
					       .source = &source,
					       .text_bytes_max = ANSWER_BYTES_MAX };

	return swift_perform(s, &request, answer, e);
}

/* ---- what is answered ----------------------------------------------------------------------- */

/* The object of "/container/prefix/name", unescaped; count: it is none of those asked for. */
static size_t find_name(const struct bulk *b, const char *path)
{
	const char *container = b->s->config.container, *prefix = b->s->config.prefix;

	path += *path == '/';
	if (strncmp(path, container, strlen(container)) != 0)
		return b->count;
	path += strlen(container);
	if (*path != '/' || strncmp(path + 1, prefix, strlen(prefix)) != 0)
		return b->count;
	path += 1 + strlen(prefix);
	for (size_t i = 0; i < b->count; i++) {
		if (!b->gone[i] && strcmp(path, b->names[i]) == 0)
			return i;
	}
	return b->count;
}

static bool is_passing(int status)
{
	return (status >= 500 && status != 501) || status == 408 || status == 409 ||
	       status == 429 || status == 498;
}

static int take_error(void *arg, const char *path, int status)
{
	struct bulk *b = arg;
	char *plain = strdup(path);
	size_t i;

	if (!plain)
		return -ENOMEM;
	i = http_unescape(plain, false) < 0 ? b->count : find_name(b, plain);
	free(plain);
	if (i == b->count || b->failed[i])
		return -EUCLEAN;
	b->failed[i] = true;
	if (b->status == 0 || (is_passing(status) && !is_passing(b->status))) {
		b->status = status;
		b->name = b->names[i];
	}
	return 0;
}

static int not_like_this(struct store_swift *s, bool never, struct err *e)
{
	if (never && atomic_exchange(&s->store.del_many_max, 0) != 0)
		log_info("backend: the store deletes one name a request: container='%s'",
			 s->config.container);
	return err_set(e, -EOPNOTSUPP, "container '%s': the store does not delete many at once",
		       s->config.container);
}

/* All that was asked for is accounted for, and what was not found was not there. */
static int check_counts(struct store_swift *s, const struct swift_bulk *counts, size_t asked,
			struct err *e)
{
	int container = 0, r;

	if (counts->deleted_count > asked || counts->absent_count > asked ||
	    counts->error_count > asked ||
	    counts->deleted_count + counts->absent_count + counts->error_count != asked) {
		if (counts->status >= 500)
			return err_set(e, -EAGAIN,
				       "container '%s': a bulk delete was given up: the store "
				       "answers %d",
				       s->config.container, counts->status);
		return not_like_this(s, false, e);
	}
	if (counts->absent_count == 0)
		return 0;
	r = swift_look(s, NULL, &container, e);
	return r == 0 && container == 404 ? swift_no_container(s, e) : r;
}

static int read_answer(struct bulk *b, const struct http_answer *a, size_t asked, bool *gone,
		       struct err *e)
{
	struct swift_bulk counts = { .status = 0 };
	struct http_answer one = { .status = 0 };
	int r = swift_bulk_parse(a->text.data, a->text.len_bytes, take_error, b, &counts, e);

	if (r == -ENOMEM)
		return err_set(e, -EAGAIN, "no memory to delete objects");
	if (r < 0)
		return not_like_this(b->s, false, e);
	r = check_counts(b->s, &counts, asked, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < b->count; i++)
		gone[i] = gone[i] || !b->failed[i];
	if (b->status == 0)
		return 0;
	/* A token that ran out in the middle is renewed by the next request of another kind. */
	if (b->status == 401)
		return not_like_this(b->s, false, e);
	one.status = b->status;
	return swift_status_error(b->s, &one, "deleting", b->name, e);
}

static int judge(struct bulk *b, const struct http_answer *a, size_t asked, bool *gone,
		 struct err *e)
{
	if (a->status == 200)
		return read_answer(b, a, asked, gone, e);
	if (is_passing(a->status))
		return swift_status_error(b->s, a, "deleting", b->names[0], e);
	return not_like_this(b->s, true, e);
}

int swift_del_many(struct store *store, const char *const *names, size_t count, bool *gone,
		   struct err *e)
{
	struct store_swift *s = CONTAINER_OF(store, struct store_swift, store);
	struct bulk b = { .s = s,
			  .names = names,
			  .count = count,
			  .gone = gone,
			  .failed = calloc(count + 1, sizeof(*b.failed)) };
	struct http_answer answer = { .status = 0 };
	struct buf list;
	size_t asked = 0;
	int r;

	buf_init(&list, LIST_BYTES_MAX);
	if (!b.failed || make_list(s, names, count, gone, &list, &asked) < 0)
		r = err_set(e, -EAGAIN, "no memory to delete %zu objects", count);
	else
		r = send_list(s, &list, &answer, e);
	if (r == 0)
		r = judge(&b, &answer, asked, gone, e);
	http_answer_done(&answer);
	buf_done(&list);
	free(b.failed);
	return r;
}
