/*
 * owner - who may put and delete on the backend: the daemon of the youngest claimed epoch.
 *
 * A claim is an object named by the epoch, with random bytes in it. Where the store has put-if-absent
 * two daemons cannot hold the same epoch (of two copies of a pool directory, say). Where it has not, a
 * claim is looked for before it is put. In every round it is read back, for a put of somebody else may
 * have been on its way: whoever finds another's bytes there stops. So without put-if-absent a second
 * daemon is noticed, by the one or by the other, but may have put something.
 */
#include "common/log.h"
#include "volume/upload.h"

#include <stdlib.h>
#include <string.h>

struct claim_scan {
	uint64_t newest;
};

static int see_claim(void *arg, const char *name, const struct backend_object *object)
{
	struct claim_scan *c = arg;
	const char *digits = strrchr(name, '/');

	(void)object;
	if (digits)
		c->newest = max_u64(c->newest, strtoull(digits + 1, NULL, 16));
	return 0;
}

static bool is_conditional(const struct pool *p)
{
	return backend_caps(p->backend) & BACKEND_CAP_PUT_IF_ABSENT;
}

static int fence(struct pool *p, uint64_t newest, struct err *e)
{
	__atomic_store_n(&p->fenced, true, __ATOMIC_RELAXED);
	if (newest == p->epoch) {
		log_error("backend: epoch taken by another daemon, uploads stop: epoch=%" PRIu64,
			  p->epoch);
		return err_set(e, -ESTALE, "epoch %" PRIu64 " was claimed by another daemon",
			       p->epoch);
	}
	log_error("backend: a younger daemon owns the pool, uploads stop: own_epoch=%" PRIu64
		  " newest=%" PRIu64,
		  p->epoch, newest);
	return err_set(e, -ESTALE, "epoch %" PRIu64 " was followed by %" PRIu64, p->epoch, newest);
}

enum holder { NOBODY, OURSELVES, ANOTHER };

/* Whose claim there is: ours, when a put was stored and its answer lost. */
static int find_holder(struct pool *p, const char *name, enum holder *ret_holder, struct err *e)
{
	uint8_t found[sizeof(p->claim)] = { 0 };
	int r = backend_get(p->backend, name, 0, found, sizeof(found), e);

	if (r < 0 && r != -EUCLEAN && r != -ENOENT)
		return r;
	if (r == -ENOENT)
		*ret_holder = NOBODY;
	else
		*ret_holder =
			r == 0 && memcmp(found, p->claim, sizeof(found)) == 0 ? OURSELVES : ANOTHER;
	return 0;
}

static void make_claim(struct pool *p)
{
	static const uint8_t none[sizeof(p->claim)];

	while (memcmp(p->claim, none, sizeof(none)) == 0)
		env_random(p->env, p->claim, sizeof(p->claim));
}

static int claim_epoch(struct pool *p, const char *name, struct err *e)
{
	struct backend_source source = { .data = p->claim, .len_bytes = sizeof(p->claim) };
	bool conditional = is_conditional(p);
	struct backend_put_result result;
	enum holder holder = NOBODY;
	int r;

	make_claim(p);
	r = conditional ? 0 : find_holder(p, name, &holder, e);
	if (r == 0 && holder == NOBODY)
		r = backend_put(p->backend, name, &source, conditional ? BACKEND_PUT_IF_ABSENT : 0,
				&result, e);
	if (r == -EEXIST)
		r = find_holder(p, name, &holder, e);
	if (r == 0 && holder == ANOTHER)
		return fence(p, p->epoch, e);
	p->epoch_claimed = r == 0;
	return r;
}

/* The claim is still what was put: nobody came behind it. One that a store does not find at the moment
 * says nothing of others, but nothing may be put until it is there. */
static int check_claim(struct pool *p, const char *name, struct err *e)
{
	enum holder holder;
	int r = find_holder(p, name, &holder, e);

	if (r == 0 && holder == NOBODY)
		return err_set(e, -EAGAIN, "the claim '%s' is not on the backend", name);
	return r == 0 && holder == ANOTHER ? fence(p, p->epoch, e) : r;
}

int upload_check_owner(struct pool *p, struct err *e)
{
	struct claim_scan c = { 0 };
	char own[OBJECT_NAME_MAX + 1];
	int r;

	if (__atomic_load_n(&p->fenced, __ATOMIC_RELAXED))
		return err_set(e, -ESTALE, "another daemon owns the backend; local data is kept");
	object_name_epoch(own, p->epoch);
	r = p->epoch_claimed ? 0 : claim_epoch(p, own, e);
	if (r == 0)
		r = check_claim(p, own, e);
	if (r == 0)
		r = backend_list(p->backend, "epoch/", own, 1000, see_claim, &c, e);
	if (r < 0)
		return r;
	return c.newest > p->epoch ? fence(p, c.newest, e) : 0;
}
