#include "fs/trash_keeper.h"

#include "common/log.h"
#include "common/thread.h"
#include "common/units.h"
#include "fs/namespace.h"

#include <stdlib.h>

/* The clock may be set, so it is looked at now and then. */
#define LOOK_NS	     NS_PER_HOUR
#define LOOK_SOON_NS (10 * NS_PER_MS)

struct trash_keeper {
	struct ns *ns;
	struct thread *thread;
	struct mutex lock; /* leaf; guards all below */
	struct cond changed;
	uint64_t keep_ns;
	bool stop;
};

static int note_oldest(void *arg, const struct ns_trash_item *item)
{
	int64_t *oldest_ns = arg;

	*oldest_ns = item->removed_ns;
	return 1;
}

/* Remove what is due; how long to wait for what is next. */
static uint64_t step(struct trash_keeper *k, uint64_t keep_ns)
{
	int64_t now_ns = env_now_real_ns(env_posix()), oldest_ns = now_ns;
	uint64_t count = 0, wait_ns = min_u64(keep_ns, LOOK_NS);
	struct err e = { 0 };
	int r = ns_trash_expire(k->ns, now_ns - (int64_t)keep_ns, &count, &e);

	if (count > 0)
		log_info("fs: trash: removed for good: files=%" PRIu64, count);
	if (r == 0)
		r = ns_trash_each(k->ns, note_oldest, &oldest_ns, &e);
	if (r < 0)
		log_warning("fs: trash: looking at it again later: %s", e.message);
	/* What a clock that was set back has made young waits its time. */
	if (r == 1 && oldest_ns <= now_ns && (uint64_t)(now_ns - oldest_ns) < keep_ns)
		wait_ns = min_u64(wait_ns, keep_ns - (uint64_t)(now_ns - oldest_ns));
	return max_u64(wait_ns, LOOK_SOON_NS);
}

static void keeper_main(void *arg)
{
	struct trash_keeper *k = arg;
	uint64_t keep_ns, wake_ns;

	mutex_lock(&k->lock);
	while (!k->stop) {
		keep_ns = k->keep_ns;
		mutex_unlock(&k->lock);
		wake_ns = step(k, keep_ns) + clock_mono_ns();
		mutex_lock(&k->lock);
		while (!k->stop && k->keep_ns == keep_ns && clock_mono_ns() < wake_ns)
			cond_wait(&k->changed, &k->lock, wake_ns);
	}
	mutex_unlock(&k->lock);
}

int trash_keeper_start(struct ns *ns, const struct config *config, struct trash_keeper **ret_keeper,
		       struct err *e)
{
	struct trash_keeper *k = calloc(1, sizeof(*k));
	int r = k ? 0 : -ENOMEM;

	if (r == 0) {
		k->ns = ns;
		k->keep_ns = config->pool.trash_keep_ns;
		mutex_init(&k->lock, 0);
		cond_init(&k->changed);
		r = thread_start("trash", keeper_main, k, &k->thread);
	}
	if (r < 0) {
		trash_keeper_stop(k);
		return err_set(e, r, "threads: %s", err_name(r));
	}
	*ret_keeper = k;
	return 0;
}

void trash_keeper_stop(struct trash_keeper *k)
{
	if (!k)
		return;
	mutex_lock(&k->lock);
	k->stop = true;
	cond_broadcast(&k->changed);
	mutex_unlock(&k->lock);
	if (k->thread)
		thread_join(k->thread);
	cond_done(&k->changed);
	mutex_done(&k->lock);
	free(k);
}

void trash_keeper_change(struct trash_keeper *k, const struct config *config)
{
	ns_set_trash(k->ns, (enum ns_trash_policy)config->pool.trash);
	GUARD(&k->lock);
	k->keep_ns = config->pool.trash_keep_ns;
	cond_broadcast(&k->changed);
}

uint64_t trash_keeper_keep_ns(struct trash_keeper *k)
{
	GUARD(&k->lock);
	return k->keep_ns;
}
