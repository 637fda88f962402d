/*
 * filter_fault - a store that misbehaves on purpose in front of one that does not.
 *
 * For each operation in this order: refused while down, delayed, refused before anything happened,
 * (a put) out of space, carried out, answer lost, (a get) body cut or one bit flipped. With a plan
 * of zeros it adds nothing and draws no random numbers, so it does not disturb a simulator's seed.
 */
#include "backend/backend_impl.h"
#include "common/thread.h"

#include <stdatomic.h>
#include <stdlib.h>

#define CHANCE_ONE	  65536u
#define FAULT_DELETES_MAX 250u /* no more than any store takes */

struct store_fault {
	struct store store;
	struct env *env;
	struct store *below;

	uint64_t injected; /* atomic */

	struct mutex lock; /* not ranked: nothing is taken while it is held */
	struct fault_plan plan;
};

static struct store_fault *store_fault_of(struct store *s)
{
	return CONTAINER_OF(s, struct store_fault, store);
}

static uint64_t draw(struct store_fault *f)
{
	uint64_t random;

	env_random(f->env, &random, sizeof(random));
	return random;
}

static bool happens(struct store_fault *f, uint32_t chance)
{
	bool hit = chance > 0 && draw(f) % CHANCE_ONE < chance;

	if (hit)
		(void)__atomic_add_fetch(&f->injected, 1, __ATOMIC_RELAXED);
	return hit;
}

static void delay(struct store_fault *f, uint64_t delay_ns_max)
{
	uint64_t deadline_ns;
	struct cond never;

	if (delay_ns_max == 0)
		return;
	deadline_ns = clock_mono_ns() + draw(f) % delay_ns_max;
	cond_init(&never);
	mutex_lock(&f->lock);
	while (clock_mono_ns() < deadline_ns)
		cond_wait(&never, &f->lock, deadline_ns);
	mutex_unlock(&f->lock);
	cond_done(&never);
}

/* What happens before an operation; the plan that holds for all of it goes to ret_plan. */
static int before(struct store_fault *f, struct fault_plan *ret_plan, struct err *e)
{
	mutex_lock(&f->lock);
	*ret_plan = f->plan;
	mutex_unlock(&f->lock);
	if (ret_plan->down)
		return err_set(e, -EAGAIN, "injected: backend is down");
	delay(f, ret_plan->delay_ns_max);
	if (happens(f, ret_plan->error_before))
		return err_set(e, -EAGAIN, "injected: request lost");
	return 0;
}

static int after(struct store_fault *f, const struct fault_plan *plan, int r, struct err *e)
{
	if (happens(f, plan->error_after))
		return err_set(e, -EAGAIN, "injected: answer lost");
	return r;
}

static int fault_put(struct store *s, const char *name, const struct backend_source *source,
		     unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct backend_put_result result = { .shares_file = false };
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	if (happens(f, plan.no_space))
		return err_set(e, -ENOSPC, "injected: no space");
	r = after(f, &plan, f->below->ops->put(f->below, name, source, flags, &result, e), e);
	if (r == 0)
		*ret_result = result;
	return r;
}

static int fault_confirm(struct store *s, const char *name, const struct backend_source *source,
			 struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct fault_plan plan;
	int r;

	if (!f->below->ops->confirm)
		return 0;
	r = before(f, &plan, e);
	if (r < 0)
		return r;
	return after(f, &plan, f->below->ops->confirm(f->below, name, source, e), e);
}

static int fault_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		     size_t len_bytes, struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	r = after(f, &plan, f->below->ops->get(f->below, name, offset_bytes, dst, len_bytes, e), e);
	if (r < 0)
		return r;
	if (happens(f, plan.cut_read))
		return err_set(e, -EUCLEAN, "injected: body was cut");
	if (len_bytes > 0 && happens(f, plan.flip_read)) {
		uint64_t bit = draw(f) % (8 * (uint64_t)len_bytes);
		uint8_t *byte = (uint8_t *)dst + bit / 8;

		*byte = (uint8_t)(*byte ^ 1u << bit % 8);
	}
	return 0;
}

static int fault_head(struct store *s, const char *name, struct backend_object *ret_object,
		      struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct backend_object object;
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	r = after(f, &plan, f->below->ops->head(f->below, name, &object, e), e);
	if (r == 0)
		*ret_object = object;
	return r;
}

static int fault_del(struct store *s, const char *name, struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	return after(f, &plan, f->below->ops->del(f->below, name, e), e);
}

static int below_del_many(struct store *below, const char *const *names, size_t count, bool *gone,
			  struct err *e)
{
	int r = 0;

	if (below->ops->del_many && atomic_load(&below->del_many_max) > 0)
		return below->ops->del_many(below, names, count, gone, e);
	for (size_t i = 0; i < count && r == 0; i++) {
		r = gone[i] ? 0 : below->ops->del(below, names[i], e);
		gone[i] = r == 0;
	}
	return r;
}

/* Some names fail by themselves, the others go; and an answer that is lost says nothing of any. */
static int fault_del_many(struct store *s, const char *const *names, size_t count, bool *gone,
			  struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	bool *passed, *refused, any = false;
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	passed = calloc(2 * count + 1, sizeof(*passed));
	if (!passed)
		return err_set(e, -EAGAIN, "injected: no memory");
	refused = passed + count;
	for (size_t i = 0; i < count; i++) {
		refused[i] = !gone[i] && happens(f, plan.error_before);
		passed[i] = gone[i] || refused[i];
		any |= refused[i];
	}
	r = below_del_many(f->below, names, count, passed, e);
	if (r == 0 && any)
		r = err_set(e, -EAGAIN, "injected: not all were deleted");
	if (happens(f, plan.error_after))
		r = err_set(e, -EAGAIN, "injected: answer lost");
	else
		for (size_t i = 0; i < count; i++)
			gone[i] = passed[i] && !refused[i];
	free(passed);
	return r;
}

static int fault_list(struct store *s, const char *prefix, const char *after_name,
		      unsigned int count_max,
		      int (*fn)(void *arg, const char *name, const struct backend_object *object),
		      void *arg, struct err *e)
{
	struct store_fault *f = store_fault_of(s);
	struct fault_plan plan;
	int r = before(f, &plan, e);

	if (r < 0)
		return r;
	r = f->below->ops->list(f->below, prefix, after_name, count_max, fn, arg, e);
	return after(f, &plan, r, e);
}

static void fault_close(struct store *s)
{
	struct store_fault *f = store_fault_of(s);

	f->below->ops->close(f->below);
	mutex_done(&f->lock);
	free(f);
}

static const struct store_ops fault_ops = {
	.type_name = "fault",
	.close = fault_close,
	.put = fault_put,
	.get = fault_get,
	.head = fault_head,
	.del = fault_del,
	.del_many = fault_del_many,
	.list = fault_list,
	.confirm = fault_confirm,
};

int filter_fault_open(struct env *env, struct store *below, const struct fault_plan *plan,
		      struct store **ret_store)
{
	struct store_fault *f = calloc(1, sizeof(*f));

	if (!f) {
		below->ops->close(below);
		return -ENOMEM;
	}
	f->store = (struct store){ .ops = &fault_ops,
				   .caps = below->caps,
				   .settle_ns = below->settle_ns,
				   .del_many_max = FAULT_DELETES_MAX };
	f->env = env;
	f->below = below;
	f->plan = *plan;
	mutex_init(&f->lock, 0);
	*ret_store = &f->store;
	return 0;
}

uint64_t filter_fault_count(struct store *s)
{
	struct store_fault *f = store_fault_of(s);

	return __atomic_load_n(&f->injected, __ATOMIC_RELAXED);
}

void filter_fault_set(struct store *s, const struct fault_plan *plan)
{
	struct store_fault *f = store_fault_of(s);

	ASSERT(s->ops == &fault_ops);
	GUARD(&f->lock);
	f->plan = *plan;
}
