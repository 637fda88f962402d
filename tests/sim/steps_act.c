/* steps_act - the actions of scripts, and the pictures that they make. */
#include "tests/sim/steps_impl.h"

#include "common/endian.h"
#include "volume/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTER		4096u
#define SETTLE_NS	UINT64_C(15000000)
#define SCRUB_WAIT_NS	UINT64_C(2000000)
#define SCRUB_WAITS_MAX 4000u

/* --- pictures ---------------------------------------------------------------------------------- */

void steps_settle_on(struct steps *st, unsigned int picture)
{
	if (picture)
		st->pictures[0] = st->pictures[picture];
	st->asked = st->acked = st->synced = 0;
}

/* What will be there when the action that is about to begin is done. */
static struct picture *expect(struct steps *st)
{
	ASSERT(st->asked + 1 < STEPS_PICTURES_MAX);
	st->pictures[st->asked + 1] = st->pictures[st->asked];
	return &st->pictures[++st->asked];
}

static void done(struct steps *st, bool synced)
{
	st->acked = st->asked;
	if (synced)
		st->synced = st->asked;
	if (!st->watching)
		steps_settle_on(st, st->asked);
}

/* A copy of an image, or of nothing, as long as it is said. */
static unsigned int image_of(struct steps *st, unsigned int image, uint64_t size_bytes)
{
	struct image *new = &st->images[st->image_count];
	uint64_t had = min_u64(st->images[image].size_bytes, size_bytes);

	ASSERT(st->image_count < STEPS_IMAGES_MAX && size_bytes <= STEPS_DISK_BYTES);
	new->bytes = calloc(1, size_bytes + 1);
	ASSERT(new->bytes);
	memcpy(new->bytes, st->images[image].bytes, had);
	new->size_bytes = size_bytes;
	return st->image_count++;
}

static int find_snap(const struct disk_picture *d, const char *name)
{
	for (unsigned int i = 0; i < d->snap_count; i++)
		if (strcmp(d->snaps[i].name, name) == 0)
			return (int)i;
	ASSERT(false); /* a script names it */
	return -1;
}

static void set_name(char to[STEPS_NAME_MAX], const char *name)
{
	(void)snprintf(to, STEPS_NAME_MAX, "%s", name);
}

static void drop_snap(struct disk_picture *d, int i)
{
	memmove(&d->snaps[i], &d->snaps[i + 1],
		(d->snap_count - (unsigned int)i - 1) * sizeof(d->snaps[0]));
	d->snap_count--;
}

/* --- bytes ------------------------------------------------------------------------------------- */

/* Cluster by cluster: each is there or not. */
static int do_write(struct steps *st, const struct action *a, struct err *e)
{
	unsigned int step = st->watching ? 1 : a->count;
	int r = 0;

	for (unsigned int i = 0; i < a->count && r == 0; i += step) {
		struct disk_picture *d = &expect(st)->disks[a->disk];
		uint64_t offset = (uint64_t)(a->from + i) * CLUSTER;
		uint64_t len = (uint64_t)step * CLUSTER;
		struct image *image;

		d->image = image_of(st, d->image,
				    max_u64(st->images[d->image].size_bytes, offset + len));
		image = &st->images[d->image];
		model_fill(a->disk, ++st->w->generation, offset, image->bytes + offset, len);
		r = object_write(st->open[a->disk], offset, image->bytes + offset, len, e);
		if (r == 0)
			done(st, false);
	}
	return r;
}

static int do_zero(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];
	uint64_t offset = (uint64_t)a->from * CLUSTER, len = (uint64_t)a->count * CLUSTER;
	int r;

	d->image = image_of(st, d->image, st->images[d->image].size_bytes);
	memset(st->images[d->image].bytes + offset, 0, len);
	r = object_zero(st->open[a->disk], offset, len, false, e);
	if (r == 0)
		done(st, false);
	return r;
}

static int do_truncate(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];
	int r;

	d->image = image_of(st, d->image, (uint64_t)a->from * CLUSTER);
	r = object_truncate(st->open[a->disk], (uint64_t)a->from * CLUSTER, e);
	if (r == 0)
		done(st, false);
	return r;
}

/* Cluster by cluster, too. Where none can be shared because something failed, bytes are copied. */
static int do_share(struct steps *st, const struct action *a, struct err *e)
{
	unsigned int step = st->watching ? 1 : a->count;
	int r = 0;

	for (unsigned int i = 0; i < a->count && r == 0; i += step) {
		struct disk_picture *d = &expect(st)->disks[a->disk];
		const struct disk_picture *from = &st->pictures[st->asked].disks[a->other];
		uint64_t to_at = (uint64_t)(a->from + i) * CLUSTER;
		uint64_t from_at = (uint64_t)(a->at + i) * CLUSTER;
		uint64_t len = (uint64_t)step * CLUSTER, shared;
		uint8_t *bytes;

		d->image = image_of(st, d->image,
				    max_u64(st->images[d->image].size_bytes, to_at + len));
		bytes = st->images[d->image].bytes + to_at;
		memcpy(bytes, st->images[from->image].bytes + from_at, len);
		r = object_share(st->open[a->disk], to_at, st->open[a->other], from_at, len,
				 &shared, e);
		if (r == 0 && shared < len && !st->failing)
			steps_fail(st, "what a root names is not shared", 0, NULL);
		if (r == 0 && shared < len)
			r = object_write(st->open[a->disk], to_at, bytes, len, e);
		if (r == 0)
			done(st, false);
	}
	return r;
}

/* Only one disk at a time has what is not synced. */
static int do_sync(struct steps *st, const struct action *a, struct err *e)
{
	int r = object_sync(st->open[a->disk], e);

	if (r == 0)
		done(st, true);
	return r;
}

/* --- names ------------------------------------------------------------------------------------- */

static int put_name(struct names_batch *b, unsigned int disk, bool in_trash, uint64_t id)
{
	uint8_t key[2] = { in_trash ? 't' : 'a', (uint8_t)disk }, value[8];

	le64_put(value, id);
	return names_put(b, key, sizeof(key), value, sizeof(value));
}

static int drop_name(struct names_batch *b, unsigned int disk, bool in_trash)
{
	uint8_t key[2] = { in_trash ? 't' : 'a', (uint8_t)disk };

	return names_delete(b, key, sizeof(key));
}

static int commit(struct steps *st, struct names_batch *b, int r, struct err *e)
{
	if (r == 0)
		r = names_commit(b, e);
	names_batch_free(b);
	if (r == 0)
		done(st, false);
	if (r == 0)
		r = pool_sync_names(st->w->pool, e);
	if (r == 0)
		done(st, true);
	return r;
}

static int do_make(struct steps *st, const struct action *a, struct err *e)
{
	struct names_batch *b = names_batch_new(st->w->pool);
	struct disk_picture *d = &expect(st)->disks[a->disk];
	int r;

	if (!b)
		return -ENOMEM;
	*d = (struct disk_picture){ .class = (enum object_class)a->other };
	r = names_create_object(b, d->class, &d->id, e);
	d->there = r == 0;
	if (r == 0)
		r = put_name(b, a->disk, false, d->id);
	r = commit(st, b, r, e);
	return r < 0 ? r : object_open(st->w->pool, d->id, &st->open[a->disk], e);
}

static int do_delete(struct steps *st, const struct action *a, struct err *e)
{
	struct names_batch *b = names_batch_new(st->w->pool);
	struct disk_picture *d = &expect(st)->disks[a->disk];
	uint64_t id = d->id;
	int r;

	if (!b)
		return -ENOMEM;
	r = drop_name(b, a->disk, d->in_trash);
	*d = (struct disk_picture){ .there = false };
	object_close(TAKE_PTR(st->open[a->disk]));
	if (r == 0)
		r = names_delete_object(b, id, e);
	return commit(st, b, r, e);
}

static int do_replace(struct steps *st, const struct action *a, struct err *e)
{
	struct names_batch *b = names_batch_new(st->w->pool);
	struct picture *p = expect(st);
	uint64_t id = p->disks[a->disk].id, old = p->disks[a->other].id;
	int r;

	if (!b)
		return -ENOMEM;
	p->disks[a->other] = p->disks[a->disk];
	p->disks[a->disk] = (struct disk_picture){ .there = false };
	object_close(TAKE_PTR(st->open[a->other]));
	st->open[a->other] = TAKE_PTR(st->open[a->disk]);
	r = drop_name(b, a->disk, false);
	if (r == 0)
		r = put_name(b, a->other, false, id);
	if (r == 0)
		r = names_publish_object(b, id, e);
	if (r == 0)
		r = names_delete_object(b, old, e);
	return commit(st, b, r, e);
}

static int do_trash(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d;
	struct names_batch *b;
	int r = names_announce_trash(st->w->pool, e);

	if (r < 0)
		return r;
	d = &expect(st)->disks[a->disk];
	b = names_batch_new(st->w->pool);
	if (!b)
		return -ENOMEM;
	d->in_trash = true;
	r = drop_name(b, a->disk, false);
	if (r == 0)
		r = put_name(b, a->disk, true, d->id);
	return commit(st, b, r, e);
}

/* --- snapshots --------------------------------------------------------------------------------- */

/* Synced on return, with all that is there. */
static int end(struct steps *st, int r)
{
	if (r == 0)
		done(st, true);
	return r;
}

static int do_snap(struct steps *st, const struct action *a, struct err *e)
{
	struct snapshot_wanted wanted[2];
	struct picture *p = expect(st);
	unsigned int disks[2] = { a->disk, a->other };
	unsigned int count = a->other == a->disk ? 1 : 2;

	for (unsigned int i = 0; i < count; i++) {
		struct disk_picture *d = &p->disks[disks[i]];

		ASSERT(d->snap_count < STEPS_SNAPS);
		set_name(d->snaps[d->snap_count].name, a->name);
		d->snaps[d->snap_count].image = d->image;
		d->snaps[d->snap_count++].sticky = false;
		wanted[i] =
			(struct snapshot_wanted){ .object = st->open[disks[i]], .name = a->name };
	}
	return end(st, snapshot_create(st->w->pool, wanted, count, e));
}

static int do_unsnap(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];

	drop_snap(d, find_snap(d, a->name));
	return end(st, snapshot_delete(st->w->pool, d->id, a->name, e));
}

static int do_rename_snap(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];

	set_name(d->snaps[find_snap(d, a->name)].name, a->to);
	return end(st, snapshot_rename(st->w->pool, d->id, a->name, a->to, e));
}

static int do_sticky(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];

	d->snaps[find_snap(d, a->name)].sticky = a->from != 0;
	return end(st, snapshot_set_sticky(st->w->pool, d->id, a->name, a->from != 0, e));
}

static int do_rollback(struct steps *st, const struct action *a, struct err *e)
{
	struct disk_picture *d = &expect(st)->disks[a->disk];
	unsigned int i = (unsigned int)find_snap(d, a->name);

	d->image = d->snaps[i].image;
	d->snap_count = i + 1;
	return end(st, snapshot_rollback(st->open[a->disk], a->name, a->from != 0, e));
}

static int do_clone(struct steps *st, const struct action *a, struct err *e)
{
	struct picture *p = expect(st);
	struct disk_picture *d = &p->disks[a->disk], *from = &p->disks[a->other];
	struct clone_source *source;
	struct names_batch *b;
	uint64_t id;
	int r = clone_source_open(st->w->pool, st->open[a->other], a->name, &source, e);

	if (r < 0)
		return r;
	b = names_batch_new(st->w->pool);
	r = b ? names_clone_object(b, source, OBJECT_DISK, &id, e) : -ENOMEM;
	if (r == 0) {
		*d = (struct disk_picture){ .there = true, .id = id, .class = OBJECT_DISK };
		d->image = a->name ? from->snaps[find_snap(from, a->name)].image : from->image;
		r = put_name(b, a->disk, false, id);
	}
	r = b ? commit(st, b, r, e) : r;
	clone_source_close(source);
	return r < 0 ? r : object_open(st->w->pool, id, &st->open[a->disk], e);
}

static int do_template(struct steps *st, const struct action *a, struct err *e)
{
	expect(st)->disks[a->disk].template = a->from != 0;
	return end(st, object_set_template(st->open[a->disk], a->from != 0, e));
}

static int do_class(struct steps *st, const struct action *a, struct err *e)
{
	int r;

	expect(st)->disks[a->disk].class = (enum object_class)a->other;
	r = object_set_class(st->open[a->disk], (enum object_class)a->other, e);
	if (r == 0)
		done(st, false);
	if (r == 0)
		r = pool_sync_names(st->w->pool, e);
	return end(st, r);
}

/* --- the background ---------------------------------------------------------------------------- */

static int settle(struct steps *st, const struct action *a, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < a->count && r == 0; i++) {
		r = pool_checkpoint(st->w->pool, e);
		sim_sleep_ns(st->w->sim, SETTLE_NS);
	}
	return r;
}

static int scrub(struct steps *st, struct err *e)
{
	int r = st->args->allocations ? -ENOMEM : -EIO; /* it says it in words alone */
	struct pool_scrub_status status;

	pool_scrub(st->w->pool);
	for (unsigned int i = 0; i < SCRUB_WAITS_MAX; i++) {
		sim_sleep_ns(st->w->sim, SCRUB_WAIT_NS);
		pool_scrub_status(st->w->pool, &status);
		if (status.phase >= POOL_SCRUB_DONE)
			return status.trouble[0] ? err_set(e, r, "scrub: %s", status.trouble) : 0;
	}
	steps_fail(st, "the scrub does not end", (int)status.phase, NULL);
}

static int act(struct steps *st, const struct action *a, struct err *e)
{
	switch (a->kind) {
	case ACT_END:
		return 0;
	case ACT_MAKE:
		return do_make(st, a, e);
	case ACT_WRITE:
		return do_write(st, a, e);
	case ACT_ZERO:
		return do_zero(st, a, e);
	case ACT_TRUNCATE:
		return do_truncate(st, a, e);
	case ACT_SHARE:
		return do_share(st, a, e);
	case ACT_SYNC:
		return do_sync(st, a, e);
	case ACT_SNAP:
		return do_snap(st, a, e);
	case ACT_UNSNAP:
		return do_unsnap(st, a, e);
	case ACT_RENAME_SNAP:
		return do_rename_snap(st, a, e);
	case ACT_STICKY:
		return do_sticky(st, a, e);
	case ACT_ROLLBACK:
		return do_rollback(st, a, e);
	case ACT_CLONE:
		return do_clone(st, a, e);
	case ACT_TEMPLATE:
		return do_template(st, a, e);
	case ACT_CLASS:
		return do_class(st, a, e);
	case ACT_DELETE:
		return do_delete(st, a, e);
	case ACT_REPLACE:
		return do_replace(st, a, e);
	case ACT_TRASH:
		return do_trash(st, a, e);
	case ACT_CHECKPOINT:
		return pool_checkpoint(st->w->pool, e);
	case ACT_UPLOAD:
		return pool_sync_backend(st->w->pool, e);
	case ACT_SETTLE:
		return settle(st, a, e);
	case ACT_SCRUB:
		return scrub(st, e);
	}
	return -EINVAL;
}

int steps_act(struct steps *st, const struct action *list, struct err *e)
{
	for (unsigned int i = 0; list[i].kind != ACT_END; i++) {
		int r = act(st, &list[i], e);

		if (r < 0 && !st->failing)
			steps_fail(st, "an action", r, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void steps_do(struct steps *st, const struct action *list)
{
	struct err e = { 0 };
	int r = steps_act(st, list, &e);

	if (r < 0)
		steps_fail(st, "an action that nothing should keep from being done", r, &e);
}

int steps_open_disks(struct steps *st, struct err *e)
{
	for (unsigned int i = 0; i < STEPS_DISKS; i++) {
		const struct disk_picture *d = &st->pictures[st->asked].disks[i];
		int r = d->there ? object_open(st->w->pool, d->id, &st->open[i], e) : 0;

		if (r < 0 && !st->failing)
			steps_fail(st, "opening a disk", r, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void steps_close_disks(struct steps *st)
{
	for (unsigned int i = 0; i < STEPS_DISKS; i++)
		object_close(TAKE_PTR(st->open[i]));
}
