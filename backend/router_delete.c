/*
 * router_delete - deletes, of one name and of many.
 *
 * Of many, some may be gone and others not, and what is gone is not asked for again: the store marks
 * it, and the next try is about the rest. Only where a store says that it does not work like this
 * (-EOPNOTSUPP) single deletes take over, which have their own tries.
 */
#include "backend/router_impl.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DELETE_MANY_LEAST 8u /* names of one request, however slow the store is */

int backend_delete(struct backend *b, const char *name, struct err *e)
{
	struct call c;
	int r = backend_check_name(name, e);

	if (r < 0)
		return r;
	call_start(&c, b);
	do {
		r = call_enter(&c, e);
		if (r < 0)
			break;
		r = b->store->ops->del(b->store, name, e);
		call_leave(&c);
		ASSERT(r <= 0);
		ASSERT(r != -ENOENT);
	} while (call_again(&c, &r, e));
	return call_end(&c, &b->metrics.delete_ns, r);
}

/* Whoever has to give up all calls would give up the next one, too. */
static bool ends_all(int r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || (r < 0 && err_is_retryable(r));
}

unsigned int router_many_now(const struct backend *b)
{
	unsigned int most = b->store->ops->del_many ? atomic_load(&b->store->del_many_max) : 0;

	return (unsigned int)min_u64(most, atomic_load(&b->delete_many_now));
}

/* A slow store answers for few names in time, for many never: the next request has half of them. */
static void learn_many(struct backend *b, size_t count, int r)
{
	if (r == 0)
		atomic_store(&b->delete_many_now,
			     (unsigned int)min_u64(2 * max_u64(count, router_many_now(b)),
						   UINT_MAX / 2));
	else if (count >= 2 * DELETE_MANY_LEAST && err_is_retryable(r))
		atomic_store(&b->delete_many_now, (unsigned int)(count / 2));
}

static int delete_together(struct backend *b, const char *const *names, size_t count, bool *gone,
			   struct err *e)
{
	struct call c;
	int r;

	call_start(&c, b);
	do {
		r = call_enter(&c, e);
		if (r < 0)
			break;
		r = b->store->ops->del_many(b->store, names, count, gone, e);
		call_leave(&c);
		ASSERT(r <= 0 && r != -ENOENT);
	} while (call_again(&c, &r, e));
	learn_many(b, count, r);
	return call_end(&c, &b->metrics.delete_many_ns, r);
}

static int delete_each(struct backend *b, const char *const *names, size_t count, bool *gone,
		       struct err *e)
{
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		struct err one = { .message = "" };
		int r = gone[i] ? 0 : backend_delete(b, names[i], &one);

		gone[i] = r == 0;
		if (r < 0 && first == 0) {
			first = r;
			if (e)
				*e = one;
		}
		if (ends_all(r))
			break;
	}
	return first;
}

static int delete_all(struct backend *b, const char *const *names, size_t count, bool *gone,
		      struct err *e)
{
	int first = 0;

	for (size_t at = 0, n; at < count; at += n) {
		unsigned int most = router_many_now(b);
		struct err some = { .message = "" };
		int r = -EOPNOTSUPP;

		n = most > 0 ? min_u64(count - at, most) : count - at;
		if (most > 0)
			r = delete_together(b, names + at, n, gone + at, &some);
		if (r == -EOPNOTSUPP)
			r = delete_each(b, names + at, n, gone + at, &some);
		if (r < 0 && first == 0) {
			first = r;
			if (e)
				*e = some;
		}
		if (ends_all(r))
			break;
	}
	return first;
}

int backend_delete_many(struct backend *b, const char *const *names, size_t count, bool *ret_gone,
			struct err *e)
{
	bool *gone = ret_gone ? ret_gone : calloc(count + 1, sizeof(*gone));
	int r = 0;

	if (!gone)
		return err_set(e, -ENOMEM, "deleting %zu objects", count);
	if (count > 0)
		memset(gone, 0, count * sizeof(*gone));
	for (size_t i = 0; i < count && r == 0; i++)
		r = backend_check_name(names[i], e);
	if (r == 0)
		r = delete_all(b, names, count, gone, e);
	if (!ret_gone)
		free(gone);
	return r;
}
