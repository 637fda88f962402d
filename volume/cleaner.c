/*
 * cleaner - gives flash back: moves what lives in mostly dead SCOs to the head of the log, so that
 * they die whole (clean_move.c), reading the next one meanwhile (clean_read.c).
 *
 * Garbage is measured as of the last checkpoint. Victims are those with the least live data. What was
 * cleaned is buried by the checkpoint after, which may run while the next are cleaned.
 *
 * SCOs that only the store has are cleaned the same way, once the store holds too much that is dead,
 * and flash has room and nothing to do: one at a time, for a part of the time. So is what a scrub, or
 * its hours, ask for beyond the usual (scrub.h), while somebody reads or writes.
 */
#include "common/log.h"
#include "volume/absent.h"
#include "volume/clean_move.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

/* Victims of one round; then it is chosen anew. */
#define ROUND_VICTIMS 16u
/* Between two rounds that did nothing: checkpoint and cleaner call each other. */
#define ROUND_PAUSE_NS UINT64_C(10000000)
/* Garbage that is never worth a round. */
#define SLACK_SCOS 2u
/* Of live data: what was cleaned is worth a checkpoint, and waits for one before more is cleaned. */
#define CLEANED_PART	  16u
#define CLEANED_MOST_PART 12u
/* But so many SCOs at least; twice as many before the cleaner waits. */
#define CLEANED_SCOS_MIN 8u

/* On the store: so much of the time, one part of so many, goes into cleaning; and not while more of what
 * may be dirty is, by the same part. */
#define FAR_PART 4u
/* Garbage there that is never worth it. */
#define FAR_SLACK_SCOS 4u

/* Victims of a round beyond the usual. */
#define SCRUB_VICTIMS 2u

#define CLEAN_TROUBLE "volume: cleaning stopped, trying again at the next checkpoint"

/* As counted: a checkpoint may count anew while a round goes on. */
struct victim {
	struct sco *sco; /* referenced */
	uint32_t live_slots, data_slots;
};

struct victim_choice {
	struct victim *victims; /* all that were counted; best first */
	size_t count;
	size_t chosen;
	uint64_t used_bytes, live_bytes;
	uint64_t cleaned_bytes; /* wait for a checkpoint to bury them */
	uint64_t waiting_bytes; /* of these, for one that did not begin yet */
	uint64_t waited_for;	/* that one */
	bool far;		/* on the store: victims give no flash back */
	enum scrub_level level; /* how much is asked for */
	size_t given_up;	/* victims that will not be chosen again as they are */
};

/* The checkpoint that counts it, now that it was cleaned, is still to come. */
static bool is_cleaned(const struct pool *p, const struct sco *s)
{
	return s->cleaned_in >= __atomic_load_n(&p->checkpoint_counted, __ATOMIC_ACQUIRE);
}

/* Sealed SCOs that a checkpoint has counted, and how much they take. */
static void count_garbage(struct pool *p, struct sco **scos, size_t count, struct victim_choice *v)
{
	uint64_t begun = __atomic_load_n(&p->checkpoint_begun, __ATOMIC_ACQUIRE);

	v->waited_for = begun;
	for (size_t i = 0; i < count; i++) {
		struct victim *victim = &v->victims[v->count];
		struct sco *s = scos[i];
		struct stream *stream = pool_stream(p, s->stream);
		lsn_t checkpointed =
			stream ? __atomic_load_n(&stream->checkpoint_lsn, __ATOMIC_RELAXED) : 0;
		uint64_t data = (uint64_t)sco_data_slots(s) * CLUSTER_BYTES;
		bool counted;

		mutex_lock(&p->scos->lock);
		counted = s->life == SCO_LIFE_SEALED && !s->busy && !s->dead && !s->absent &&
			  s->last_lsn <= checkpointed;
		if (counted && is_cleaned(p, s)) {
			v->cleaned_bytes += data;
			v->waiting_bytes += s->cleaned_in == begun ? data : 0;
			counted = false;
		}
		/* What could not be moved is nobody's hurry until something in it changed. */
		if (counted && s->stuck != s->live_slots + 1) {
			v->used_bytes += data;
			v->live_bytes += (uint64_t)sco_live_data_slots(s) * CLUSTER_BYTES;
		}
		*victim = (struct victim){ s, s->live_slots, sco_data_slots(s) };
		mutex_unlock(&p->scos->lock);
		if (counted)
			v->count++;
		else
			sco_unref(p->scos, s);
	}
}

static int by_live(const void *a, const void *b)
{
	const struct victim *x = a, *y = b;
	/* Share of live data, without dividing. */
	uint64_t lx = (uint64_t)x->live_slots * y->data_slots;
	uint64_t ly = (uint64_t)y->live_slots * x->data_slots;

	if (lx != ly)
		return lx < ly ? -1 : 1;
	return x->sco->number < y->sco->number ? -1 : x->sco->number > y->sco->number;
}

static unsigned int target_percent(const struct pool *p, enum scrub_level level)
{
	unsigned int percent = pool_option(p, clean_target_percent);

	return level == SCRUB_LEVEL_USUAL ? percent :
					    (unsigned int)min_u64(percent, SCRUB_HOURS_PERCENT);
}

/*
 * What no checkpoint has counted may be garbage, too, though hardly more than what comes up between
 * two of them. Nobody is slowed down for what is left here.
 */
static bool too_much_garbage(const struct pool *p, const struct victim_choice *v, uint64_t used)
{
	uint64_t live = v->live_bytes;
	uint64_t slack = SLACK_SCOS * (uint64_t)p->world.sco_slots * CLUSTER_BYTES;
	uint64_t uncounted = min_u64(pool_uncounted_bytes(p),
				     __atomic_load_n(&p->uncounted_most_bytes, __ATOMIC_RELAXED));
	uint64_t target = live / 100 * (target_percent(p, v->level) - 100);

	if (v->level == SCRUB_LEVEL_ALL)
		return true;
	target = min_u64(target, __atomic_load_n(&p->to_clean_from_bytes, __ATOMIC_RELAXED));
	return used > live + slack + (target - min_u64(target, uncounted));
}

static void drop_victims(struct pool *p, struct victim_choice *v, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		if (v->victims[i].sco)
			sco_unref(p->scos, v->victims[i].sco);
		v->victims[i].sco = NULL;
	}
}

/* Part of what lives, or so many SCOs. */
static uint64_t part_of(const struct pool *p, uint64_t live_bytes, uint64_t part, unsigned int scos)
{
	return max_u64(live_bytes / part, scos * (uint64_t)p->world.sco_slots * CLUSTER_BYTES);
}

uint64_t pool_cleaned_most(const struct pool *p, uint64_t live_bytes)
{
	return part_of(p, live_bytes, CLEANED_MOST_PART, 2 * CLEANED_SCOS_MIN);
}

/* Put those in front that a round is to clean. */
static void choose(struct pool *p, struct victim_choice *v)
{
	uint64_t most = pool_cleaned_most(p, v->live_bytes);
	uint64_t used = v->used_bytes, cleaned = v->cleaned_bytes;
	size_t chosen_most = v->level == SCRUB_LEVEL_USUAL ? ROUND_VICTIMS : SCRUB_VICTIMS;

	for (size_t i = 0; i < v->count && v->chosen < chosen_most && cleaned < most; i++) {
		struct victim victim = v->victims[i];
		uint64_t live = (uint64_t)victim.live_slots * CLUSTER_BYTES;
		uint64_t data = (uint64_t)victim.data_slots * CLUSTER_BYTES;

		if (!too_much_garbage(p, v, used) || live * 10 > data * 9)
			break;
		if (victim.sco->stuck == victim.live_slots + 1) /* only this thread sets it */
			continue; /* nothing changed since it was tried */
		v->victims[i] = v->victims[v->chosen];
		v->victims[v->chosen++] = victim;
		used -= data - min_u64(data, live);
		cleaned += data;
	}
}

/* Place in the round, of what is to be read next. */
struct read_plan {
	struct victim_choice *choice;
	size_t victim;
	uint32_t slot;
};

/* Keep the reader busy. */
static int keep_reading(struct pool *p, struct read_plan *plan)
{
	int r = 0;

	while (r == 0 && plan->victim < plan->choice->chosen &&
	       !clean_reader_is_full(&p->clean_reader)) {
		struct sco *s = plan->choice->victims[plan->victim].sco;
		uint32_t count = (uint32_t)min_u64(CLEAN_WINDOW_SLOTS, s->next_slot - plan->slot);

		r = clean_reader_want(&p->clean_reader, s, plan->slot, count);
		plan->slot += count;
		if (plan->slot < s->next_slot)
			continue;
		plan->victim++;
		plan->slot = 0;
	}
	return r;
}

/* All windows of one victim, which are the next in the reader's queue. */
static int clean_sco(struct pool *p, struct sco *s, struct read_plan *plan, uint64_t *ret_moved,
		     struct err *e)
{
	struct clean_window *w;
	struct clean_move m;
	bool more = true;
	int r = 0, failed = 0;

	clean_move_begin(&m, p, s, e);
	while (more && (w = clean_reader_wait(&p->clean_reader))) {
		if (r == 0)
			r = clean_move_window(&m, w);
		more = w->first_slot + w->count < s->next_slot;
		clean_reader_drop(&p->clean_reader);
		if (failed == 0)
			failed = keep_reading(p, plan);
		if (r == -ESHUTDOWN || failed < 0)
			break;
	}
	*ret_moved = m.moved;
	clean_move_end(&m);
	if (failed < 0 && r == 0)
		return err_set(e, failed, "reading ahead");
	return r < 0 ? err_wrap(e, r, "cleaning SCO %" PRIu64, s->number) : 0;
}

/* What came of a victim. Returns whether it will give space back. */
static bool note_cleaned(struct pool *p, struct victim_choice *choice, const struct victim *v,
			 uint64_t moved, int result, const struct err *e)
{
	bool useful = result == 0 && moved > 0;

	if (result == STORE_AWAY) /* it may be moved another time */
		return false;
	GUARD(&p->scos->lock);
	if (result < 0 && !v->sco->dead) /* damaged, or its stream failed: others can be cleaned */
		log_warning("volume: not cleaned before it changes: %s", e->message);
	if (!useful) {
		v->sco->stuck = v->live_slots + 1;
		choice->given_up++;
		return false;
	}
	v->sco->cleaned_in = __atomic_load_n(&p->checkpoint_begun, __ATOMIC_ACQUIRE);
	if (!v->sco->absent)
		__atomic_add_fetch(&p->cleaned_bytes, (uint64_t)v->data_slots * CLUSTER_BYTES,
				   __ATOMIC_RELAXED);
	counter_inc(&p->metrics.scos_cleaned);
	return true;
}

/* A checkpoint that began took what had been cleaned before with it. */
static void note_waiting(struct pool *p, struct victim_choice *v, uint64_t bytes)
{
	uint64_t begun = __atomic_load_n(&p->checkpoint_begun, __ATOMIC_ACQUIRE);

	if (v->waited_for != begun)
		v->waiting_bytes = 0;
	v->waited_for = begun;
	v->waiting_bytes += bytes;
	v->cleaned_bytes += bytes;
	if (v->waiting_bytes >= part_of(p, v->live_bytes, CLEANED_PART, CLEANED_SCOS_MIN))
		job_kick(&p->checkpointer); /* it counts, buries, and calls us again */
}

static int clean_victims(struct pool *p, struct victim_choice *v, struct err *e)
{
	struct read_plan plan = { .choice = v };
	int r = keep_reading(p, &plan), cleaned = 0;

	if (r < 0)
		err_because(e, r, "reading ahead");
	for (size_t i = 0; i < v->chosen && r == 0; i++) {
		uint64_t moved;

		r = clean_sco(p, v->victims[i].sco, &plan, &moved, e);
		if (r == -ESHUTDOWN || r == -ENOMEM)
			break;
		if (note_cleaned(p, v, &v->victims[i], moved, r, e)) {
			if (!v->far)
				note_waiting(p, v,
					     (uint64_t)v->victims[i].data_slots * CLUSTER_BYTES);
			cleaned++;
		}
		drop_victims(p, v, i, i + 1);
		r = 0;
	}
	return r < 0 ? r : cleaned;
}

/* Behind a round that cleaned nothing. */
enum next_round {
	NEXT_NONE,
	NEXT_AT_ONCE,	       /* victims were given up, there may be others */
	NEXT_AFTER_CHECKPOINT, /* which buries what was cleaned */
};

/* Clean until enough is freed or the round is over. Returns victims, or negative; *ret_level is lowered
 * to the usual where that asks for it anyway, *ret_next says what there is to do for a scrub. */
static int clean_round(struct pool *p, enum scrub_level *level, enum next_round *ret_next,
		       struct err *e)
{
	struct victim_choice v = { 0 };
	struct sco **scos;
	size_t count;
	int r;

	r = sco_table_list(p->scos, 0, &scos, &count);
	if (r < 0)
		return err_because(e, r, "cleaning");
	v.victims = calloc(count + 1, sizeof(*v.victims));
	if (!v.victims) {
		sco_list_free(p->scos, scos, count);
		return err_set(e, -ENOMEM, "cleaning");
	}
	count_garbage(p, scos, count, &v);
	free(scos); /* the references are among the victims now, or dropped */
	if (v.count)
		qsort(v.victims, v.count, sizeof(*v.victims), by_live);
	if (*level != SCRUB_LEVEL_USUAL && too_much_garbage(p, &v, v.used_bytes))
		*level = SCRUB_LEVEL_USUAL;
	v.level = *level;
	choose(p, &v);
	if (v.chosen == 0 && v.cleaned_bytes >= pool_cleaned_most(p, v.live_bytes))
		*ret_next = NEXT_AFTER_CHECKPOINT;
	/* Whoever buries a SCO meanwhile keeps its file only if nobody else holds it. */
	drop_victims(p, &v, v.chosen, v.count);
	r = clean_victims(p, &v, e);
	if (r < 0 || (v.chosen == 0 && v.cleaned_bytes == 0))
		clean_reader_rest(&p->clean_reader);
	drop_victims(p, &v, 0, v.chosen);
	free(v.victims);
	if (v.given_up)
		*ret_next = NEXT_AT_ONCE;
	/* One that runs calls us again. */
	if (v.waiting_bytes && v.waiting_bytes == v.cleaned_bytes && r <= 0)
		job_kick(&p->checkpointer);
	return r;
}

/* --- the store --------------------------------------------------------------------------------- */

/* What the store holds of SCOs, as the last checkpoint counted; the best victim, referenced, of those
 * that are nowhere else. */
static void count_far(struct pool *p, struct sco **scos, size_t count, struct victim_choice *v)
{
	for (size_t i = 0; i < count; i++) {
		struct sco *s = scos[i];
		struct victim victim = { s, 0, 0 };
		bool may_go;

		mutex_lock(&p->scos->lock);
		victim.live_slots = s->live_slots;
		victim.data_slots = sco_data_slots(s);
		if (s->life == SCO_LIFE_SEALED && s->row_flags & SCO_UPLOADED &&
		    !(s->row_flags & SCO_LINKED) && !s->dead && !is_cleaned(p, s)) {
			v->used_bytes += s->file_bytes;
			v->live_bytes += (uint64_t)sco_live_data_slots(s) * CLUSTER_BYTES;
		}
		may_go = s->absent && !s->dead && !s->busy && s->live_slots > 0 &&
			 !is_cleaned(p, s) && s->stuck != s->live_slots + 1 &&
			 victim.live_slots * 10 <= victim.data_slots * 9;
		mutex_unlock(&p->scos->lock);
		if (!may_go)
			continue;
		if (!v->chosen || by_live(&victim, &v->victims[0]) < 0)
			v->victims[0] = victim;
		v->chosen = 1;
	}
	if (v->chosen)
		sco_ref(p->scos, v->victims[0].sco);
}

static bool too_much_far(const struct pool *p, const struct victim_choice *v)
{
	uint64_t slack = FAR_SLACK_SCOS * (uint64_t)p->world.sco_slots * CLUSTER_BYTES;

	return v->level == SCRUB_LEVEL_ALL ||
	       v->used_bytes > v->live_bytes / 100 * target_percent(p, v->level) + slack;
}

static bool may_clean_far(struct pool *p)
{
	uint64_t dirty = __atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED);
	uint64_t limit = __atomic_load_n(&p->dirty_limit_bytes, __ATOMIC_RELAXED);

	return __atomic_load_n(&p->scos->any_absent, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&p->reads_wait_ns, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&p->fenced, __ATOMIC_RELAXED) && dirty < limit / FAR_PART &&
	       !pool_is_tight(p);
}

/* One SCO that only the store has. Returns whether it was cleaned, or negative. */
static int clean_far(struct pool *p, struct err *e)
{
	struct victim first = { 0 };
	struct victim_choice v = { .victims = &first, .far = true, .level = scrub_level(p) };
	struct sco **scos;
	size_t count;
	int r;

	if (!may_clean_far(p))
		return 0;
	r = sco_table_list(p->scos, 0, &scos, &count);
	if (r < 0)
		return err_because(e, r, "cleaning");
	count_far(p, scos, count, &v);
	sco_list_free(p->scos, scos, count);
	if (v.chosen && too_much_far(p, &v))
		r = clean_victims(p, &v, e);
	drop_victims(p, &v, 0, v.chosen);
	if (r == 0 && v.given_up && v.level == SCRUB_LEVEL_ALL)
		r = 1; /* there may be others */
	clean_reader_rest(&p->clean_reader);
	if (r > 0)
		job_kick(&p->checkpointer);
	return r;
}

/* --- the job ----------------------------------------------------------------------------------- */

/* Whether somebody read or wrote since the last call. */
static bool is_in_use(struct pool *p)
{
	uint64_t requests = counter_get(&p->metrics.reads) + counter_get(&p->metrics.writes);
	bool in_use = requests != p->cleaned_requests;

	p->cleaned_requests = requests;
	return in_use;
}

/* Nothing more to do, until a checkpoint finds something. */
static uint64_t rest(struct pool *p, int result, enum next_round next)
{
	uint64_t now_ns = clock_mono_ns();

	p->cleaned_ns = now_ns;
	if (scrub_level(p) != SCRUB_LEVEL_ALL || next == NEXT_AFTER_CHECKPOINT)
		return WAIT_FOREVER;
	if (result == 0 && next == NEXT_AT_ONCE)
		return 0;
	if (result == 0 && now_ns < p->cleaned_far_ns) /* it was not looked at the store */
		return p->cleaned_far_ns - now_ns;
	scrub_cleaned(p, result);
	return WAIT_FOREVER;
}

uint64_t cleaner_step(void *arg)
{
	struct pool *p = arg;
	uint64_t now_ns = clock_mono_ns();
	enum scrub_level level = scrub_level(p);
	enum next_round next = NEXT_NONE;
	bool far;
	struct err e = { 0 };
	int r;

	if (now_ns < p->cleaned_ns + ROUND_PAUSE_NS)
		return p->cleaned_ns + ROUND_PAUSE_NS - now_ns;
	r = clean_round(p, &level, &next, &e);
	far = r == 0 && now_ns >= p->cleaned_far_ns;
	if (far)
		r = clean_far(p, &e);
	if (r < 0 && r != -ESHUTDOWN)
		log_trouble(&p->clean_trouble, CLEAN_TROUBLE, e.message);
	else if (r >= 0)
		log_trouble_over(&p->clean_trouble, CLEAN_TROUBLE);
	if (far && r > 0) {
		p->cleaned_ns = clock_mono_ns();
		p->cleaned_far_ns = p->cleaned_ns + (FAR_PART - 1) * (p->cleaned_ns - now_ns);
		return max_u64(p->cleaned_far_ns - p->cleaned_ns, ROUND_PAUSE_NS);
	}
	if (r > 0 && level != SCRUB_LEVEL_USUAL && is_in_use(p))
		return (FAR_PART - 1) * (clock_mono_ns() - now_ns);
	if (r > 0) /* and on, while a checkpoint runs */
		return 0;
	return rest(p, r, next);
}
