#include "tests/sim/snaps.h"

#include "volume/snapshot.h"

#include <stdlib.h>
#include <string.h>

static void forget(struct world_object *o, unsigned int i)
{
	free(o->snaps[i].bytes);
	o->snaps[i] = o->snaps[--o->snap_count];
}

void snaps_clear(struct world_object *o)
{
	while (o->snap_count)
		forget(o, 0);
	o->snaps_unknown = false;
}

void snaps_doubt(struct world_object *o)
{
	for (unsigned int i = 0; i < o->snap_count; i++)
		o->snaps[i].sure = false;
	o->snaps_unknown = true;
}

/* All of an object, in memory of the caller's. */
static uint8_t *read_all(struct world *w, struct object *open, uint64_t *ret_bytes)
{
	struct object_stat st;
	struct err e = { 0 };
	uint8_t *bytes;
	ssize_t n;

	object_stat(open, &st);
	n = world_read(w, open, 0, w->buf, MODEL_BYTES, &e);
	world_outcome(w, NULL, "reading it all", n < 0 ? (int)n : 0, &e);
	if ((uint64_t)n != st.size_bytes)
		world_fail(w, "an object of another size", (int)n, NULL);
	bytes = malloc((size_t)n + 1);
	ASSERT(bytes);
	memcpy(bytes, w->buf, (size_t)n);
	*ret_bytes = (uint64_t)n;
	return bytes;
}

static void compare(struct world *w, const struct world_object *o, const struct world_snap *s)
{
	struct object *open;
	struct err e = { 0 };
	uint64_t size;
	uint8_t *bytes;

	world_outcome(w, NULL, "opening a snapshot",
		      snapshot_open(w->pool, o->id, s->name, &open, &e), &e);
	bytes = read_all(w, open, &size);
	if (s->bytes && (size != s->size_bytes || memcmp(bytes, s->bytes, size) != 0))
		world_fail(w, "a snapshot shows something else", (int)o->model.number, NULL);
	free(bytes);
	object_close(open);
}

static void all_is_synced(struct world_object *o)
{
	o->model.synced = o->model.op_count;
	o->creation_synced = true;
}

static void do_make(struct world *w, struct world_object *o)
{
	struct world_snap *s = &o->snaps[o->snap_count];
	struct snapshot_wanted wanted = { .object = o->open, .name = s->name, .comment = "sim" };
	struct err e = { 0 };

	if (o->snap_count == WORLD_SNAPS)
		return;
	*s = (struct world_snap){ 0 };
	s->number = ++w->generation;
	(void)snprintf(s->name, sizeof(s->name), "s%" PRIu64, s->number);
	s->bytes = read_all(w, o->open, &s->size_bytes);
	o->snap_count++;
	sim_note(w->sim, "snapshot %s of %u", s->name, o->model.number);
	world_outcome(w, NULL, "snapshot", snapshot_create(w->pool, &wanted, 1, &e), &e);
	s->sure = true;
	all_is_synced(o);
	TOTAL(w, snapshots, 1);
}

static void do_delete(struct world *w, struct world_object *o, unsigned int i)
{
	struct err e = { 0 };

	sim_note(w->sim, "delete snapshot %s of %u", o->snaps[i].name, o->model.number);
	o->snaps[i].sure = false;
	world_outcome(w, NULL, "deleting a snapshot",
		      snapshot_delete(w->pool, o->id, o->snaps[i].name, &e), &e);
	forget(o, i);
}

static void do_rollback(struct world *w, struct world_object *o, unsigned int i)
{
	struct world_snap to = o->snaps[i];
	struct model_op op = { .kind = MODEL_REPLACE, .len_bytes = to.size_bytes };
	struct err e = { 0 };

	op.bytes = malloc(to.size_bytes + 1);
	ASSERT(op.bytes);
	memcpy(op.bytes, to.bytes, to.size_bytes);
	model_add(&o->model, &op);
	o->model.in_flight = true;
	for (unsigned int j = 0; j < o->snap_count; j++)
		if (o->snaps[j].number > to.number)
			o->snaps[j].sure = false;
	sim_note(w->sim, "roll %u back to %s", o->model.number, to.name);
	world_outcome(w, o, "rollback", snapshot_rollback(o->open, to.name, true, &e), &e);
	for (unsigned int j = o->snap_count; j-- > 0;)
		if (!o->snaps[j].sure)
			forget(o, j);
	all_is_synced(o);
	TOTAL(w, rollbacks, 1);
}

/* Another object becomes a clone, of a snapshot or of what is there now. */
static void do_clone(struct world *w, struct world_object *o, const struct world_snap *s)
{
	struct world_object *to = &w->objects[sim_rand(w->sim, WORLD_OBJECTS)];
	uint64_t size = s ? s->size_bytes : 0;
	struct clone_source *source;
	struct names_batch *b;
	struct err e = { 0 };
	uint8_t *bytes;
	int r;

	if (to == o)
		return;
	if (to->id)
		world_delete(w, to);
	if (s) {
		bytes = malloc(size + 1);
		ASSERT(bytes);
		memcpy(bytes, s->bytes, size);
	} else {
		bytes = read_all(w, o->open, &size);
	}
	sim_note(w->sim, "clone %u from %u, %s", to->model.number, o->model.number,
		 s ? s->name : "now");
	r = clone_source_open(w->pool, o->open, s ? s->name : NULL, &source, &e);
	world_outcome(w, NULL, "source of a clone", r, &e);
	if (!s)
		all_is_synced(o);
	b = names_batch_new(w->pool);
	ASSERT(b);
	r = names_clone_object(b, source, OBJECT_DISK, &to->id, &e);
	model_clear(&to->model);
	to->model.base = bytes;
	to->model.base_bytes = size;
	to->creation_synced = false;
	to->deleting = true; /* as long as it may be there or not */
	if (r == 0)
		r = names_commit(b, &e);
	world_outcome(w, NULL, "clone", r, &e);
	names_batch_free(b);
	clone_source_close(source);
	world_outcome(w, NULL, "syncing names", pool_sync_names(w->pool, &e), &e);
	to->creation_synced = true;
	to->deleting = false;
	TOTAL(w, clones, 1);
}

/* It refuses what would change it, is cloned without a freeze, and is a disk again. */
static void do_template(struct world *w, struct world_object *o)
{
	struct err e = { 0 };
	int r;

	sim_note(w->sim, "template %u", o->model.number);
	world_outcome(w, NULL, "template", object_set_template(o->open, true, &e), &e);
	all_is_synced(o);
	r = object_write(o->open, 0, "x", 1, &e);
	if (r != -EPERM)
		world_fail(w, "a template was written", r, NULL);
	do_clone(w, o, NULL);
	world_outcome(w, NULL, "no template", object_set_template(o->open, false, &e), &e);
	TOTAL(w, templates, 1);
}

void snaps_step(struct world *w, struct world_object *o)
{
	uint64_t dice = sim_rand(w->sim, 100);
	unsigned int i = o->snap_count ? (unsigned int)sim_rand(w->sim, o->snap_count) : 0;

	if (dice < 45 || o->snap_count == 0)
		do_make(w, o);
	else if (dice < 48)
		do_clone(w, o, NULL);
	else if (dice < 52)
		do_template(w, o);
	else if (dice < 70)
		do_delete(w, o, i);
	else if (dice < 80)
		do_rollback(w, o, i);
	else if (dice < 90)
		do_clone(w, o, &o->snaps[i]);
	else
		compare(w, o, &o->snaps[i]);
}

/* --- behind a crash ---------------------------------------------------------------------------- */

static int find(const struct world_object *o, const char *name)
{
	for (unsigned int i = 0; i < o->snap_count; i++)
		if (strcmp(o->snaps[i].name, name) == 0)
			return (int)i;
	return -1;
}

static void check_listed(struct world *w, struct world_object *o, const struct snapshot_info *info)
{
	struct world_snap unknown = { .bytes = NULL };
	int i = find(o, info->name);
	struct err e = { 0 };

	if (i < 0 && !o->snaps_unknown)
		world_fail(w, "a snapshot that was deleted", (int)o->model.number, NULL);
	if (i >= 0) {
		compare(w, o, &o->snaps[i]);
		o->snaps[i].sure = o->snaps[i].seen = true;
		return;
	}
	memcpy(unknown.name, info->name, sizeof(unknown.name));
	compare(w, o, &unknown);
	world_outcome(w, NULL, "deleting a snapshot",
		      snapshot_delete(w->pool, o->id, info->name, &e), &e);
}

/* The crash came before it was none again. */
static void undo_template(struct world *w, const struct world_object *o)
{
	struct object_stat stat;
	struct object *open;
	struct err e = { 0 };

	world_outcome(w, NULL, "open", object_open(w->pool, o->id, &open, &e), &e);
	object_stat(open, &stat);
	if (stat.template)
		world_outcome(w, NULL, "no template", object_set_template(open, false, &e), &e);
	object_close(open);
}

void snaps_check(struct world *w, struct world_object *o)
{
	struct snapshot_info *list;
	struct err e = { 0 };
	size_t count;

	undo_template(w, o);
	world_outcome(w, NULL, "listing snapshots",
		      snapshot_list(w->pool, o->id, &list, &count, &e), &e);
	for (unsigned int i = 0; i < o->snap_count; i++)
		o->snaps[i].seen = false;
	for (size_t i = 0; i < count; i++)
		check_listed(w, o, &list[i]);
	snapshot_list_free(list, count);
	for (unsigned int i = o->snap_count; i-- > 0;) {
		if (o->snaps[i].sure && !o->snaps[i].seen)
			world_fail(w, "a snapshot is gone", (int)o->model.number, NULL);
		if (!o->snaps[i].seen)
			forget(o, i);
	}
	o->snaps_unknown = false;
}
