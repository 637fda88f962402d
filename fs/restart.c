#include "fs/restart.h"

#include "common/log.h"
#include "common/units.h"
#include "fs/fuse_hold.h"
#include "fs/fuse_proto.h"
#include "fs/fuse_session.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Before the second of a series; twice as long each time. The first one comes at once. */
#define PAUSE_NS (NS_PER_SEC / 2)

enum state {
	STATE_WELL,
	STATE_FAILED,  /* somebody decides */
	STATE_LEAVING, /* the next worker is called for */
	STATE_STAYING, /* no more of that */
	STATE_CANNOT,  /* the kernel would not send again what is not answered */
};

struct restart {
	struct resume_header *header;
	struct pool *pool;
	struct fs_session *session;
	struct thread *thread;
	int wake_fd; /* eventfd: something failed, or the end */
	bool end;    /* atomic */
	int state;   /* atomic; enum state */
};

/* --- the decision ------------------------------------------------------------------------------ */

uint64_t restart_pause_ns(const struct resume_header *h, unsigned int tries, uint64_t now_ns)
{
	unsigned int n = tries;

	for (unsigned int i = 0; i < RESTARTS_MAX; i++)
		n += h->restart_ns[i] != 0 && now_ns - h->restart_ns[i] < RESTARTS_NS;
	if (n >= RESTARTS_MAX)
		return UINT64_MAX;
	return n == 0 ? 0 : PAUSE_NS << (n - 1);
}

void restart_note(struct resume_header *h, uint32_t failed_dirs, uint64_t now_ns)
{
	h->restart_ns[h->restarts % RESTARTS_MAX] = now_ns;
	h->restarts++;
	h->failed_dirs |= failed_dirs;
}

/* --- in a worker ------------------------------------------------------------------------------- */

static int state_of(const struct restart *r)
{
	return __atomic_load_n(&r->state, __ATOMIC_SEQ_CST);
}

static void set_state(struct restart *r, enum state state)
{
	__atomic_store_n(&r->state, (int)state, __ATOMIC_SEQ_CST);
}

static void wake(const struct restart *r)
{
	const uint64_t one = 1;

	(void)!write(r->wake_fd, &one, sizeof(one)); /* a full counter wakes, too */
}

/* Locks of the engine may be held: nothing that waits. */
static void on_failure(void *arg)
{
	struct restart *r = arg;
	int was = STATE_WELL;
	bool can = proto_can_resend(r->header->init, r->header->init_bytes);

	if (state_of(r) >= STATE_STAYING)
		return;
	/* Before the state: whoever finds it failed has its errors kept. */
	if (can)
		hold_begin();
	if (__atomic_compare_exchange_n(&r->state, &was, can ? STATE_FAILED : STATE_CANNOT, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
	    can)
		wake(r);
}

/* False: it is the end. */
static bool wait_for(struct restart *r, int timeout_ms)
{
	struct pollfd p = { .fd = r->wake_fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, timeout_ms) > 0)
		(void)!read(r->wake_fd, &count, sizeof(count));
	return !__atomic_load_n(&r->end, __ATOMIC_SEQ_CST);
}

static bool pause_ns(struct restart *r, uint64_t ns)
{
	uint64_t until_ns = clock_mono_ns() + ns, now_ns;

	while ((now_ns = clock_mono_ns()) < until_ns)
		if (!wait_for(r, (int)((until_ns - now_ns) / NS_PER_MS) + 1))
			return false;
	return true;
}

static void make_way(struct restart *r)
{
	restart_note(r->header, pool_failed_dirs(r->pool), clock_mono_ns());
	log_warning(
		"mount: a device failed, another daemon goes on: restarts=%u at_most=%u in_s=%d",
		r->header->restarts, RESTARTS_MAX, (int)(RESTARTS_NS / NS_PER_SEC));
	set_state(r, STATE_LEAVING);
	fs_session_hand_over(r->session);
}

static void stay(struct restart *r, const struct err *e)
{
	log_error("mount: devices go on failing, errors are told from now on: restarts=%u: %s",
		  r->header->restarts, e->message);
	set_state(r, STATE_STAYING);
	hold_end();
}

static void decide(struct restart *r)
{
	struct err e = { 0 };

	(void)err_set(&e, -EIO, "%u daemons failed in short time", RESTARTS_MAX);
	for (unsigned int tries = 0;; tries++) {
		uint64_t ns = restart_pause_ns(r->header, tries, clock_mono_ns());

		if (ns == UINT64_MAX) {
			stay(r, &e);
			return;
		}
		if (!pause_ns(r, ns))
			return;
		if (pool_probe(r->pool, &e) == 0) {
			make_way(r);
			return;
		}
		log_warning("mount: a device failed and still does, trying again: try=%u: %s",
			    tries + 1, e.message);
	}
}

static void restart_main(void *arg)
{
	struct restart *r = arg;

	while (state_of(r) != STATE_FAILED)
		if (!wait_for(r, -1))
			return;
	decide(r);
}

int restart_start(struct resume_header *header, struct pool *pool, struct fs_session *session,
		  struct restart **ret_restart, struct err *e)
{
	struct restart *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	*r = (struct restart){ .header = header, .pool = pool, .session = session };
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	code = r->wake_fd < 0 ? -errno : thread_start("restart", restart_main, r, &r->thread);
	if (code < 0) {
		restart_free(r);
		return err_set(e, code, "threads: %s", err_name(code));
	}
	pool_watch_failures(pool, on_failure, r);
	*ret_restart = r;
	return 0;
}

void restart_stop(struct restart *r)
{
	if (!r || !r->thread)
		return;
	__atomic_store_n(&r->end, true, __ATOMIC_SEQ_CST);
	wake(r);
	thread_join(TAKE_PTR(r->thread));
}

void restart_free(struct restart *r)
{
	if (!r)
		return;
	if (r->wake_fd >= 0)
		(void)close(r->wake_fd);
	free(r);
}

const char *restart_outlook(const struct restart *r)
{
	switch (r ? (enum state)state_of(r) : STATE_WELL) {
	case STATE_FAILED:
		return "; requests wait, and another daemon goes on when the device works";
	case STATE_LEAVING:
		return "; another daemon is about to go on";
	case STATE_STAYING:
	case STATE_CANNOT:
		return "; when the device works again: 'vpool upgrade', or unmount and mount";
	case STATE_WELL:
	default:
		return "";
	}
}
