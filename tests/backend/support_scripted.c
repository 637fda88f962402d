#include "tests/backend/support_scripted.h"

#include <check.h>
#include <string.h>

struct scripted scripted;
uint64_t virtual_now_ns;

static void virtual_lock(struct sched *s, struct mutex *m)
{
	(void)s;
	(void)m;
}

static void virtual_wait(struct sched *s, struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	(void)s;
	(void)c;
	(void)m;
	ck_assert_uint_ne(deadline_ns, WAIT_FOREVER); /* nobody else could wake us */
	if (deadline_ns > virtual_now_ns)
		virtual_now_ns = deadline_ns;
}

static void virtual_wake(struct sched *s, struct cond *c)
{
	(void)s;
	(void)c;
}

static uint64_t virtual_now(struct sched *s)
{
	(void)s;
	return virtual_now_ns;
}

struct sched virtual_sched = { .mutex_lock = virtual_lock,
			       .mutex_unlock = virtual_lock,
			       .cond_wait = virtual_wait,
			       .cond_wake = virtual_wake,
			       .now_mono_ns = virtual_now };

static const struct step *script_next(void)
{
	struct scripted *s = &scripted;

	if (s->calls < STEPS_MAX)
		s->call_ns[s->calls] = clock_mono_ns();
	s->calls++;
	return s->next < s->step_count ? &s->steps[s->next++] : NULL;
}

/* Whether the step fails before anything is done; else r is what becomes of the call's own result. */
static bool fails_first(const struct step *step, struct err *e)
{
	if (!step || step->deed != FAIL)
		return false;
	(void)err_set(e, step->code, "scripted");
	return true;
}

static int script_end(const struct step *step, int r, struct err *e)
{
	if (step && step->deed == LOSE)
		return err_set(e, step->code, "scripted: answer lost");
	return r;
}

static int scripted_put(struct store *s, const char *name, const struct backend_source *source,
			unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store *below = scripted.below;
	struct backend_put_result result = { .shares_file = false };
	const struct step *step = script_next();
	int r;

	(void)s;
	scripted.puts++;
	if (fails_first(step, e))
		return step->code;
	r = script_end(step, below->ops->put(below, name, source, flags, &result, e), e);
	if (r == 0)
		*ret_result = result;
	return r;
}

static int scripted_confirm(struct store *s, const char *name, const struct backend_source *source,
			    struct err *e)
{
	const struct step *step = script_next();

	(void)s;
	(void)name;
	(void)source;
	scripted.confirms++;
	return fails_first(step, e) ? step->code : 0;
}

static int scripted_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
			size_t len_bytes, struct err *e)
{
	struct store *below = scripted.below;
	const struct step *step = script_next();
	int r;

	(void)s;
	scripted.gets++;
	if (fails_first(step, e))
		return step->code;
	r = below->ops->get(below, name, offset_bytes, dst, len_bytes, e);
	if (r == 0 && step && step->deed == FLIP)
		((uint8_t *)dst)[len_bytes / 2] ^= 0x10;
	return script_end(step, r, e);
}

static int scripted_head(struct store *s, const char *name, struct backend_object *ret_object,
			 struct err *e)
{
	struct store *below = scripted.below;
	const struct step *step = script_next();

	(void)s;
	scripted.heads++;
	if (fails_first(step, e))
		return step->code;
	return script_end(step, below->ops->head(below, name, ret_object, e), e);
}

static int scripted_del(struct store *s, const char *name, struct err *e)
{
	struct store *below = scripted.below;
	const struct step *step = script_next();

	(void)s;
	scripted.dels++;
	if (fails_first(step, e))
		return step->code;
	return script_end(step, below->ops->del(below, name, e), e);
}

static int scripted_list(struct store *s, const char *prefix, const char *after,
			 unsigned int count_max,
			 int (*fn)(void *arg, const char *name,
				   const struct backend_object *object),
			 void *arg, struct err *e)
{
	static const struct backend_object object;
	struct store *below = scripted.below;
	const struct step *step = script_next();
	int r;

	(void)s;
	scripted.lists++;
	if (fails_first(step, e))
		return step->code;
	if (step && step->deed == HALF_LIST) {
		r = below->ops->list(below, prefix, after, 1, fn, arg, e);
		return r < 0 ? r : err_set(e, step->code, "scripted: list ended early");
	}
	if (step && step->deed == SWAP_LIST) {
		r = fn(arg, "b", &object);
		return r != 0 ? r : fn(arg, "a", &object);
	}
	return script_end(step, below->ops->list(below, prefix, after, count_max, fn, arg, e), e);
}

static void scripted_close(struct store *s)
{
	(void)s;
	scripted.closes++;
	scripted.below->ops->close(scripted.below);
}

const struct store_ops scripted_ops = {
	.type_name = "scripted",
	.close = scripted_close,
	.put = scripted_put,
	.get = scripted_get,
	.head = scripted_head,
	.del = scripted_del,
	.list = scripted_list,
	.confirm = scripted_confirm,
};
