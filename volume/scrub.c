#include "volume/scrub.h"

#include "volume/upload.h"

#include <stdio.h>
#include <stdlib.h>

/* The cleaner's rounds of one scrub, an upload between two: what is moved meanwhile may make more. */
#define PASSES_MAX 4u
/* Roots at the end: that find nothing more to put again, and all. */
#define ROUNDS_MAX 6u
#define ROOTS_MAX  1000u

#define MINUTES_OF_DAY 1440u

void scrub_init(struct scrub *s)
{
	mutex_init(&s->lock, 0);
}

bool scrub_takes_flash(const struct sco *s)
{
	return !s->absent && !(s->row_flags & SCO_LINKED);
}

/* --- how much ---------------------------------------------------------------------------------- */

static bool are_hours(struct pool *p)
{
	unsigned int from = pool_option(p, scrub_from_minute);
	unsigned int until = pool_option(p, scrub_until_minute);
	uint64_t minutes = (uint64_t)env_now_real_ns(p->env) / (60 * UINT64_C(1000000000));
	unsigned int now = (unsigned int)(minutes % MINUTES_OF_DAY);

	return from <= until ? now >= from && now < until : now >= from || now < until;
}

enum scrub_level scrub_level(struct pool *p)
{
	if (__atomic_load_n(&p->scrub.cleaning, __ATOMIC_ACQUIRE))
		return SCRUB_LEVEL_ALL;
	return are_hours(p) ? SCRUB_LEVEL_HOURS : SCRUB_LEVEL_USUAL;
}

/* --- what was done ----------------------------------------------------------------------------- */

static bool is_running(const struct scrub *s)
{
	return s->status.phase >= POOL_SCRUB_UPLOAD && s->status.phase <= POOL_SCRUB_SETTLE;
}

static void read_counters(struct pool *p, struct pool_scrub_status *st)
{
	st->scos_deleted = counter_get(&p->metrics.scos_deleted);
	st->scos_moved = counter_get(&p->metrics.scos_cleaned);
	st->moved_bytes = counter_get(&p->metrics.clean_clusters) * CLUSTER_BYTES;
	st->flash_bytes = counter_get(&p->metrics.flash_freed_bytes);
	st->backend_bytes = counter_get(&p->metrics.backend_freed_bytes);
	st->packs_repacked = counter_get(&p->metrics.packs_repacked);
	st->orphans_removed = counter_get(&p->metrics.orphans_removed);
}

/* Since it began. Lock held. */
static void count_locked(struct pool *p, struct pool_scrub_status *st)
{
	const struct pool_scrub_status *base = &p->scrub.base;

	read_counters(p, st);
	st->scos_examined = base->scos_examined;
	st->scos_deleted -= base->scos_deleted;
	st->scos_moved -= base->scos_moved;
	st->moved_bytes -= base->moved_bytes;
	st->flash_bytes -= base->flash_bytes;
	st->backend_bytes -= base->backend_bytes;
	st->packs_repacked -= base->packs_repacked;
	st->orphans_removed -= base->orphans_removed;
	/* What was moved takes its place again. */
	st->flash_bytes -= min_u64(st->flash_bytes, st->moved_bytes);
	st->backend_bytes -= min_u64(st->backend_bytes, st->moved_bytes);
	st->orphans_spared = __atomic_load_n(&p->orphans_spared, __ATOMIC_RELAXED);
}

void pool_scrub_status(struct pool *p, struct pool_scrub_status *ret_status)
{
	GUARD(&p->scrub.lock);
	*ret_status = p->scrub.status;
	if (is_running(&p->scrub))
		count_locked(p, ret_status);
}

static void set_phase(struct pool *p, enum pool_scrub_phase phase)
{
	struct scrub *s = &p->scrub;

	GUARD(&s->lock);
	if (phase >= POOL_SCRUB_DONE) {
		count_locked(p, &s->status);
		s->status.ended_ns = env_now_real_ns(p->env);
		log_info("volume: scrub ended: cancelled=%d scos_deleted=%" PRIu64
			 " scos_moved=%" PRIu64 " flash_bytes=%" PRIu64 " backend_bytes=%" PRIu64
			 " orphans=%" PRIu64,
			 phase == POOL_SCRUB_CANCELLED, s->status.scos_deleted,
			 s->status.scos_moved, s->status.flash_bytes, s->status.backend_bytes,
			 s->status.orphans_removed);
	}
	s->status.phase = phase;
}

static void note_trouble(struct pool *p, const struct err *e)
{
	struct scrub *s = &p->scrub;

	GUARD(&s->lock);
	if (!s->status.trouble[0])
		(void)snprintf(s->status.trouble, sizeof(s->status.trouble), "%.*s",
			       (int)sizeof(s->status.trouble) - 1, e->message);
}

/* --- doing it ---------------------------------------------------------------------------------- */

void pool_scrub(struct pool *p)
{
	struct scrub *s = &p->scrub;
	uint64_t count;

	mutex_lock(&p->scos->lock);
	count = HASH_COUNT(p->scos->by_number);
	mutex_unlock(&p->scos->lock);
	mutex_lock(&s->lock);
	s->cancelled = false;
	if (!is_running(s)) {
		read_counters(p, &s->base);
		s->base.scos_examined = count;
		s->status = (struct pool_scrub_status){ .phase = POOL_SCRUB_UPLOAD,
							.began_ns = env_now_real_ns(p->env) };
	}
	mutex_unlock(&s->lock);
	job_kick(&p->scrubber);
}

void pool_scrub_cancel(struct pool *p)
{
	mutex_lock(&p->scrub.lock);
	p->scrub.cancelled = is_running(&p->scrub);
	mutex_unlock(&p->scrub.lock);
	job_kick(&p->scrubber);
}

/* The backend as far as it answers; flash in any case. */
static bool bring(struct pool *p)
{
	struct err e = { 0 };
	int r;

	if (__atomic_load_n(&p->fenced, __ATOMIC_RELAXED))
		r = err_set(&e, -ESTALE, "another daemon took over the backend");
	else if (__atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED))
		r = err_set(&e, -EAGAIN, "the backend does not answer");
	else
		r = upload_round(p, &e);
	if (r == 0)
		return true;
	note_trouble(p, &e);
	if (pool_checkpoint(p, &e) < 0)
		note_trouble(p, &e);
	return false;
}

static uint64_t begin_pass(struct pool *p)
{
	if (p->scrub.began != p->scrub.status.began_ns) { /* the first */
		p->scrub.began = p->scrub.status.began_ns;
		p->scrub.passes = p->scrub.rounds = p->scrub.roots = 0;
	}
	(void)bring(p);
	p->scrub.cleaned_before = counter_get(&p->metrics.scos_cleaned);
	set_phase(p, POOL_SCRUB_CLEAN);
	__atomic_store_n(&p->scrub.cleaning, true, __ATOMIC_RELEASE);
	job_kick(&p->cleaner);
	return WAIT_FOREVER;
}

void scrub_cleaned(struct pool *p, int error)
{
	struct err e = { 0 };

	if (error < 0) {
		(void)err_set(&e, error, "cleaning stopped: %s", err_name(error));
		note_trouble(p, &e);
	}
	__atomic_store_n(&p->scrub.cleaning, false, __ATOMIC_RELEASE);
	job_kick(&p->scrubber);
}

static uint64_t end_cleaning(struct pool *p)
{
	struct scrub *s = &p->scrub;

	if (__atomic_load_n(&s->cleaning, __ATOMIC_ACQUIRE))
		return WAIT_FOREVER;
	if (counter_get(&p->metrics.scos_cleaned) != s->cleaned_before &&
	    ++s->passes < PASSES_MAX) {
		set_phase(p, POOL_SCRUB_UPLOAD);
		return 0;
	}
	mutex_lock(&p->upload_lock);
	p->orphans_swept = false;
	p->idle_roots = 0;
	mutex_unlock(&p->upload_lock);
	s->repacked_before = counter_get(&p->metrics.packs_repacked);
	set_phase(p, POOL_SCRUB_SETTLE);
	return 0;
}

/* A root more. Each lets go of what was condemned two before it, and may put packs again. */
static uint64_t settle(struct pool *p)
{
	struct scrub *s = &p->scrub;
	uint64_t repacked;

	if (!bring(p)) {
		set_phase(p, POOL_SCRUB_DONE);
		return WAIT_FOREVER;
	}
	repacked = counter_get(&p->metrics.packs_repacked);
	s->rounds = repacked == s->repacked_before ? s->rounds + 1 : 0;
	s->repacked_before = repacked;
	if (++s->roots < ROOTS_MAX && s->rounds < ROUNDS_MAX &&
	    (s->rounds == 0 || orphans_any_condemned(p)))
		return 0;
	set_phase(p, POOL_SCRUB_DONE);
	return WAIT_FOREVER;
}

static bool take_cancelled(struct pool *p)
{
	struct scrub *s = &p->scrub;
	bool cancelled;

	GUARD(&s->lock);
	cancelled = s->cancelled;
	s->cancelled = false;
	return cancelled;
}

static enum pool_scrub_phase phase_of(struct pool *p)
{
	GUARD(&p->scrub.lock);
	return p->scrub.status.phase;
}

uint64_t scrubber_step(void *arg)
{
	struct pool *p = arg;
	enum pool_scrub_phase phase = phase_of(p);

	if (take_cancelled(p)) {
		__atomic_store_n(&p->scrub.cleaning, false, __ATOMIC_RELEASE);
		set_phase(p, POOL_SCRUB_CANCELLED);
		return WAIT_FOREVER;
	}
	switch (phase) {
	case POOL_SCRUB_UPLOAD:
		return begin_pass(p);
	case POOL_SCRUB_CLEAN:
		return end_cleaning(p);
	case POOL_SCRUB_SETTLE:
		return settle(p);
	case POOL_SCRUB_NONE:
	case POOL_SCRUB_DONE:
	case POOL_SCRUB_CANCELLED:
	default:
		return WAIT_FOREVER;
	}
}

/* --- only looking ------------------------------------------------------------------------------ */

static void look_at(struct pool_scrub_plan *plan, const struct sco *s)
{
	uint64_t data = (uint64_t)sco_data_slots(s) * CLUSTER_BYTES;
	uint64_t live = (uint64_t)s->live_slots * CLUSTER_BYTES;
	uint64_t gain = 0;

	plan->scos_examined++;
	if (s->life != SCO_LIFE_SEALED || s->dead)
		return;
	if (s->live_slots == 0) {
		plan->scos_dead++;
		gain = s->file_bytes;
	} else if (live * 10 <= data * 9 && s->stuck != s->live_slots + 1) {
		plan->scos_to_move++;
		plan->move_bytes += live;
		gain = data - live;
	}
	if (scrub_takes_flash(s))
		plan->flash_bytes += gain;
	if (s->row_flags & SCO_UPLOADED)
		plan->backend_bytes += gain;
}

static int look_at_backend(struct pool *p, struct pool_scrub_plan *plan, struct err *e)
{
	int r;

	GUARD(&p->upload_lock);
	if (p->root_number == 0)
		return err_set(e, -ENOENT, "it holds nothing yet");
	r = pool_open_backend(p, e);
	return r == 0 ? orphans_count(p, &plan->orphans, &plan->orphans_spared, e) : r;
}

int pool_scrub_look(struct pool *p, struct pool_scrub_plan *ret_plan, struct err *e)
{
	struct pool_scrub_plan plan = { 0 };
	struct sco *s, *next;
	struct err trouble = { 0 };
	int r;

	mutex_lock(&p->scos->lock);
	HASH_ITER (hh, p->scos->by_number, s, next)
		look_at(&plan, s);
	mutex_unlock(&p->scos->lock);
	r = look_at_backend(p, &plan, &trouble);
	if (r == -ENOMEM)
		return err_set(e, r, "%s", err_name(r));
	if (r < 0)
		(void)snprintf(plan.trouble, sizeof(plan.trouble), "%.*s",
			       (int)sizeof(plan.trouble) - 1, trouble.message);
	*ret_plan = plan;
	return 0;
}
