/* steps_store - puts and deletes as steps; they and what reads may fail when their turn comes. */
#include "tests/sim/steps_impl.h"

#include "backend/backend_impl.h"

#include <stdlib.h>

struct store_steps {
	struct store store;
	struct sim *sim;
	struct store *below;
};

static struct store_steps *of(struct store *s)
{
	return CONTAINER_OF(s, struct store_steps, store);
}

/* The router tries again what this says. */
static int request(struct store_steps *s, const char *op, bool changes, struct err *e)
{
	if (changes)
		sim_effect(s->sim, op);
	return sim_call_fails(s->sim, op, false) ? err_set(e, -EAGAIN, "by order: request lost") :
						   0;
}

static int answer(struct store_steps *s, const char *op, int r, struct err *e)
{
	return sim_call_fails(s->sim, op, false) ? err_set(e, -EAGAIN, "by order: answer lost") : r;
}

static int steps_put(struct store *store, const char *name, const struct backend_source *source,
		     unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_steps *s = of(store);
	int r = request(s, "put", true, e);

	if (r == 0)
		r = s->below->ops->put(s->below, name, source, flags, ret_result, e);
	return r < 0 ? r : answer(s, "put done", r, e);
}

static int steps_get(struct store *store, const char *name, uint64_t offset_bytes, void *dst,
		     size_t len_bytes, struct err *e)
{
	struct store_steps *s = of(store);
	int r = request(s, "get", false, e);

	return r < 0 ? r : s->below->ops->get(s->below, name, offset_bytes, dst, len_bytes, e);
}

static int steps_head(struct store *store, const char *name, struct backend_object *ret_object,
		      struct err *e)
{
	struct store_steps *s = of(store);
	int r = request(s, "head", false, e);

	return r < 0 ? r : s->below->ops->head(s->below, name, ret_object, e);
}

static int steps_del(struct store *store, const char *name, struct err *e)
{
	struct store_steps *s = of(store);
	int r = request(s, "del", true, e);

	if (r == 0)
		r = s->below->ops->del(s->below, name, e);
	return r < 0 ? r : answer(s, "del done", r, e);
}

static int steps_list(struct store *store, const char *prefix, const char *after,
		      unsigned int count_max,
		      int (*fn)(void *arg, const char *name, const struct backend_object *object),
		      void *arg, struct err *e)
{
	struct store_steps *s = of(store);
	int r = request(s, "list", false, e);

	return r < 0 ? r : s->below->ops->list(s->below, prefix, after, count_max, fn, arg, e);
}

static void steps_close(struct store *store)
{
	struct store_steps *s = of(store);

	s->below->ops->close(s->below);
	free(s);
}

static const struct store_ops steps_ops = {
	.type_name = "steps",
	.close = steps_close,
	.put = steps_put,
	.get = steps_get,
	.head = steps_head,
	.del = steps_del, /* one by one: each is a step */
	.list = steps_list,
};

int steps_store_open(struct sim *sim, struct store *below, struct store **ret_store)
{
	struct store_steps *s = calloc(1, sizeof(*s));

	ASSERT(s);
	s->store = (struct store){ .ops = &steps_ops,
				   .caps = below->caps & ~(unsigned int)BACKEND_CAP_DELETE_MANY,
				   .settle_ns = below->settle_ns };
	s->sim = sim;
	s->below = below;
	*ret_store = &s->store;
	return 0;
}
