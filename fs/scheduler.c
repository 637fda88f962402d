#include "fs/scheduler.h"

#include "common/log.h"
#include "common/thread.h"
#include "fs/calendar.h"
#include "fs/namespace.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* What failed is tried again so much later. */
#define RETRY_SECONDS 60

#define TROUBLE "mount: snapshots by schedule failed, trying again in a minute"

struct scheduler {
	struct pool *pool;
	struct ns *ns;
	int timer_fd, event_fd;
	struct thread *thread;

	struct log_trouble log_trouble; /* the thread's own, as the next */
	struct retention_clock clock;

	struct mutex lock; /* leaf; guards all below */
	bool stopping;
	struct policy fallback;
	struct scheduler_status status;
};

/* Disks of one directory that are due by schedules of one kind. */
struct group {
	char *dir;
	size_t dir_bytes;
	char name[SCHEDULE_NAME_BYTES];
	uint64_t inos[SNAPSHOT_GROUP_MAX];
	struct snapshot_wanted wanted[SNAPSHOT_GROUP_MAX];
	size_t count;
};

/* One look at all files. */
struct look {
	struct scheduler *s;
	struct policies *policies;
	int64_t now;
	bool clock_is_sound;
	struct group group;
	struct scheduler_status status;
};

/* --- what is left of a disk's ------------------------------------------------------------------ */

int scheduler_decide(const struct retention *rule, const struct snapshot_info *list, size_t count,
		     bool all_moments, int64_t now_seconds, bool *ret_goes)
{
	struct retention_item *items = calloc(count + 1, sizeof(*items));
	const char *kind;
	size_t n = 0, at = 0;
	int r;

	for (size_t i = 0; i < count && items; i++) {
		ret_goes[i] = !list[i].sticky &&
			      (schedule_moment(list[i].name, &items[n].seconds, &kind) ||
			       (all_moments && retention_moment(list[i].name, &items[n].seconds)));
		n += ret_goes[i];
	}
	r = items ? retention_decide(rule, items, n, now_seconds) : -ENOMEM;
	for (size_t i = 0; i < count && r == 0; i++)
		if (ret_goes[i])
			ret_goes[i] = !items[at++].keep;
	free(items);
	return r;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool is_stopping(struct scheduler *s)
{
	GUARD(&s->lock);
	return s->stopping;
}

static void note_trouble(struct look *l, int code, const struct err *e)
{
	if (!l->status.trouble[0])
		(void)snprintf(l->status.trouble, sizeof(l->status.trouble), "%s",
			       e->message[0] ? e->message : err_name(code));
}

static int delete_old(struct look *l, uint64_t ino, const struct retention *rule,
		      const struct snapshot_info *list, size_t count, struct err *e)
{
	bool *goes = calloc(count + 1, sizeof(*goes));
	int r = goes ? scheduler_decide(rule, list, count, false, l->now, goes) : -ENOMEM;

	for (size_t i = 0; i < count && r == 0 && !is_stopping(l->s); i++) {
		if (!goes[i])
			continue;
		r = snapshot_delete(l->s->pool, ino, list[i].name, e);
		l->status.deleted += r == 0;
		if (r == -ENOENT) /* somebody was faster */
			r = 0;
	}
	free(goes);
	return r;
}

/* --- what is due ------------------------------------------------------------------------------- */

/* A name that is taken is of this very second, what is gone needs none. */
static void make_one(struct look *l, const struct snapshot_wanted *wanted)
{
	struct err e = { 0 };
	int r = snapshot_create(l->s->pool, wanted, 1, &e);

	l->status.made += r == 0;
	if (r < 0 && r != -EEXIST && r != -ESTALE && r != -ENOENT)
		note_trouble(l, r, &e);
}

static void make_group(struct look *l)
{
	struct group *g = &l->group;
	struct err e = { 0 };

	if (g->count > 1 && snapshot_create(l->s->pool, g->wanted, g->count, &e) == 0)
		l->status.made += g->count;
	else
		for (size_t i = 0; i < g->count && !is_stopping(l->s); i++)
			make_one(l, &g->wanted[i]);
	for (size_t i = 0; i < g->count; i++)
		ns_object_put(l->s->ns, g->inos[i]);
	g->count = 0;
}

static int join_group(struct look *l, const struct ns_file *file, const struct schedule *schedule,
		      struct object *object)
{
	const char *slash = strrchr(file->path, '/');
	size_t dir_bytes = slash ? (size_t)(slash - file->path) : 0;
	char name[SCHEDULE_NAME_BYTES];
	struct group *g = &l->group;

	schedule_name(schedule, l->now, name);
	if (g->count == SNAPSHOT_GROUP_MAX || g->dir_bytes != dir_bytes || !g->dir ||
	    memcmp(g->dir, file->path, dir_bytes) != 0 || strcmp(g->name, name) != 0) {
		make_group(l);
		free(g->dir);
		g->dir = strndup(file->path, dir_bytes);
		if (!g->dir)
			return -ENOMEM;
		g->dir_bytes = dir_bytes;
		memcpy(g->name, name, sizeof(g->name));
	}
	g->inos[g->count] = file->attr.ino;
	g->wanted[g->count++] = (struct snapshot_wanted){ .object = object, .name = g->name };
	return 0;
}

/* When the last one was made, and which is the youngest, also of a clock that was ahead; 0: none. */
static int64_t last_made(const struct look *l, const struct snapshot_info *list, size_t count,
			 uint64_t *ret_number)
{
	int64_t last = SCHEDULE_NONE_YET, seconds;
	const char *kind;

	*ret_number = 0;
	for (size_t i = 0; i < count; i++) {
		if (!schedule_moment(list[i].name, &seconds, &kind))
			continue;
		*ret_number = list[i].number;
		if (seconds <= l->now && seconds > last)
			last = seconds;
	}
	return last;
}

static int make_if_due(struct look *l, const struct ns_file *file, const struct schedule *schedule,
		       const struct snapshot_info *list, size_t count, struct err *e)
{
	struct object *object;
	uint64_t number;
	int r;

	if (!schedule_is_due(schedule, last_made(l, list, count, &number), l->now))
		return 0;
	r = ns_object_get(l->s->ns, file->attr.ino, &object, e);
	if (r < 0)
		return r;
	if (number == 0 || !snapshot_is_now(object, number)) {
		r = join_group(l, file, schedule, object);
		if (r == 0)
			return 0;
	}
	ns_object_put(l->s->ns, file->attr.ino);
	return r;
}

/* Of disks, and of what was asked for by itself. */
static bool is_meant(const struct ns_file *file, const struct policy_found *found)
{
	return found->policy.schedule.kind != SCHEDULE_OFF && file->attr.size_bytes > 0 &&
	       (file->attr.class == OBJECT_DISK ||
		(found->schedule_from && strcmp(found->schedule_from, file->path) == 0));
}

static int look_at(void *arg, const struct ns_file *file)
{
	struct look *l = arg;
	struct policy_found found;
	struct snapshot_info *list;
	struct err e = { 0 };
	size_t count;
	int r;

	if (is_stopping(l->s))
		return 1;
	policies_find(l->policies, file->path, file->attr.ino, &found);
	if (!is_meant(file, &found))
		return 0;
	l->status.disks++;
	l->status.next_seconds =
		earlier(l->status.next_seconds, schedule_next(&found.policy.schedule, l->now));
	r = snapshot_list(l->s->pool, file->attr.ino, &list, &count, &e);
	if (r == 0) {
		r = make_if_due(l, file, &found.policy.schedule, list, count, &e);
		if (r == 0 && l->clock_is_sound)
			r = delete_old(l, file->attr.ino, &found.policy.keep, list, count, &e);
		snapshot_list_free(list, count);
	}
	if (r < 0 && r != -ENOENT && r != -ESTALE) /* it may be gone */
		note_trouble(l, r, &e);
	return 0;
}

/* --- looks ------------------------------------------------------------------------------------- */

static void look_at_all(struct look *l)
{
	struct policy fallback = scheduler_fallback(l->s);
	struct err e = { 0 };
	int r = policies_load(l->s->ns, &fallback, &l->policies, &e);

	if (r == 0 && policies_any(l->policies))
		r = ns_for_each_file(l->s->ns, NS_ROOT_INO, look_at, l, &e);
	make_group(l);
	if (r < 0)
		note_trouble(l, r, &e);
	policies_free(l->policies);
	free(l->group.dir);
}

/* The status is of the last look, but for what is counted since the start. */
static void tell(struct look *l)
{
	struct scheduler *s = l->s;

	if (l->status.made || l->status.deleted)
		log_info("mount: snapshots by schedule: made=%" PRIu64 " deleted=%" PRIu64,
			 l->status.made, l->status.deleted);
	if (!l->clock_is_sound)
		log_warning(
			"mount: the clock jumped ahead: no old snapshots are deleted for a day");
	if (l->status.trouble[0])
		log_trouble(&s->log_trouble, TROUBLE, l->status.trouble);
	else
		log_trouble_over(&s->log_trouble, TROUBLE);
	GUARD(&s->lock);
	l->status.looks = s->status.looks + 1;
	l->status.made += s->status.made;
	l->status.deleted += s->status.deleted;
	s->status = l->status;
}

/* Returns when to look again: files and attributes may have come meanwhile. */
static int64_t look(struct scheduler *s)
{
	struct look *l = calloc(1, sizeof(*l)); /* large */
	int64_t now = time(NULL), again = now - now % CALENDAR_HOUR + CALENDAR_HOUR;
	struct timespec steady = { 0 };

	if (!l)
		return now + RETRY_SECONDS;
	(void)clock_gettime(CLOCK_BOOTTIME, &steady);
	l->s = s;
	l->now = now;
	l->clock_is_sound = retention_clock_is_sound(&s->clock, now, steady.tv_sec);
	l->status.next_seconds = SCHEDULE_NEVER;
	look_at_all(l);
	again = earlier(again, l->status.next_seconds);
	if (l->status.trouble[0])
		again = earlier(again, now + RETRY_SECONDS);
	if (l->status.made) /* what has a younger one now may go */
		again = now;
	tell(l);
	free(l);
	return again;
}

/* Until then, a kick, or a jump of the clock, which makes all times new. */
static void sleep_until(struct scheduler *s, int64_t seconds)
{
	struct itimerspec at = { .it_value.tv_sec = (time_t)seconds };
	struct pollfd fds[2] = { { .fd = s->timer_fd, .events = POLLIN },
				 { .fd = s->event_fd, .events = POLLIN } };
	uint64_t count;

	(void)timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL);
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		continue;
	if (fds[1].revents)
		(void)!read(s->event_fd, &count, sizeof(count));
}

static void scheduler_main(void *arg)
{
	struct scheduler *s = arg;

	while (!is_stopping(s))
		sleep_until(s, look(s));
}

/* --- life -------------------------------------------------------------------------------------- */

int scheduler_new(struct pool *pool, struct ns *ns, const struct policy *fallback,
		  struct scheduler **ret_scheduler, struct err *e)
{
	struct scheduler *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	s->pool = pool;
	s->ns = ns;
	s->fallback = *fallback;
	s->status.next_seconds = SCHEDULE_NEVER;
	mutex_init(&s->lock, 0);
	s->timer_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->timer_fd < 0 || s->event_fd < 0) {
		int r = err_set(e, -errno, "timer: %s", err_name(-errno));

		scheduler_free(s);
		return r;
	}
	*ret_scheduler = s;
	return 0;
}

int scheduler_start(struct scheduler *s, struct err *e)
{
	int r = thread_start("scheduler", scheduler_main, s, &s->thread);

	return r < 0 ? err_set(e, r, "threads: %s", err_name(r)) : 0;
}

void scheduler_stop(struct scheduler *s)
{
	if (!s || !s->thread)
		return;
	mutex_lock(&s->lock);
	s->stopping = true;
	mutex_unlock(&s->lock);
	scheduler_kick(s);
	thread_join(TAKE_PTR(s->thread));
}

void scheduler_free(struct scheduler *s)
{
	if (!s)
		return;
	if (s->timer_fd >= 0)
		(void)close(s->timer_fd);
	if (s->event_fd >= 0)
		(void)close(s->event_fd);
	mutex_done(&s->lock);
	free(s);
}

void scheduler_kick(struct scheduler *s)
{
	const uint64_t one = 1;

	ASSERT(write(s->event_fd, &one, sizeof(one)) == sizeof(one));
}

void scheduler_change(struct scheduler *s, const struct policy *fallback)
{
	mutex_lock(&s->lock);
	s->fallback = *fallback;
	mutex_unlock(&s->lock);
	scheduler_kick(s);
}

struct policy scheduler_fallback(struct scheduler *s)
{
	GUARD(&s->lock);
	return s->fallback;
}

void scheduler_status(struct scheduler *s, struct scheduler_status *ret_status)
{
	GUARD(&s->lock);
	*ret_status = s->status;
}
