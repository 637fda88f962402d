/*
 * sim_names - directories, and what of their changes is on the medium.
 *
 * All unsynced changes of names stand in one list, in order. Syncing a directory applies those that
 * touch it, and before them the earlier ones that they build on (same directory, same name). A
 * power cut decides about each on its own, a rename being one; only a rename of what an earlier
 * rename had put there falls with it, else a file would end up under two names.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- name and dir --------------------------------------------------------------------------- */

struct name *name_new(const char *text, uint32_t hash)
{
	size_t len = strlen(text);
	struct name *name = sim_alloc(sizeof(*name) + len + 1);

	name->refs = 1;
	name->hash = hash;
	memcpy(name->text, text, len + 1);
	return name;
}

struct name *name_ref(struct name *name)
{
	name->refs++;
	return name;
}

void name_unref(struct name *name)
{
	if (name && --name->refs == 0)
		free(name);
}

int dir_find(const struct dir *dir, const char *text, uint32_t hash)
{
	for (size_t i = 0; i < dir->count; i++)
		if (dir->entries[i].name->hash == hash &&
		    strcmp(dir->entries[i].name->text, text) == 0)
			return (int)i;
	return -1;
}

/* References are taken here: the caller keeps its own. */
void dir_set(struct sim *sim, struct dir *dir, struct name *name, struct inode *inode)
{
	int i = dir_find(dir, name->text, name->hash);

	(void)inode_ref(inode);
	if (i >= 0) {
		inode_unref(sim, dir->entries[i].inode);
		dir->entries[i].inode = inode;
		return;
	}
	SIM_ROOM(dir->entries, dir->count, dir->cap);
	dir->entries[dir->count++] = (struct dirent){ name_ref(name), inode };
}

void dir_remove(struct sim *sim, struct dir *dir, struct name *name)
{
	int i = dir_find(dir, name->text, name->hash);
	struct dirent gone;

	if (i < 0)
		return;
	gone = dir->entries[i];
	dir->entries[i] = dir->entries[--dir->count];
	name_unref(gone.name);
	inode_unref(sim, gone.inode);
}

void dir_clear(struct sim *sim, struct dir *dir)
{
	while (dir->count > 0) {
		struct dirent gone = dir->entries[--dir->count];

		name_unref(gone.name);
		inode_unref(sim, gone.inode);
	}
	free(dir->entries);
	*dir = (struct dir){ 0 };
}

/* ---- effects -------------------------------------------------------------------------------- */

static bool same_name(const struct name *a, const struct name *b)
{
	return a == b || (a->hash == b->hash && strcmp(a->text, b->text) == 0);
}

static void name_fx_release(struct sim *sim, struct name_fx *fx)
{
	for (unsigned int i = 0; i < fx->change_count; i++) {
		name_unref(fx->change[i].name);
		inode_unref(sim, fx->change[i].inode);
		inode_unref(sim, fx->change[i].dir);
	}
}

static void name_fx_apply(struct sim *sim, struct name_fx *fx)
{
	for (unsigned int i = 0; i < fx->change_count; i++) {
		struct name_change *c = &fx->change[i];

		if (c->inode)
			dir_set(sim, &c->dir->dur, c->name, c->inode);
		else
			dir_remove(sim, &c->dir->dur, c->name);
	}
}

static bool builds_on(const struct name_fx *later, const struct name_fx *earlier)
{
	for (unsigned int i = 0; i < later->change_count; i++)
		for (unsigned int k = 0; k < earlier->change_count; k++)
			if (later->change[i].dir == earlier->change[k].dir &&
			    same_name(later->change[i].name, earlier->change[k].name))
				return true;
	return false;
}

/* Apply all marked effects and what they build on; the others stay. */
static void apply_marked(struct sim *sim)
{
	size_t kept = 0;

	for (size_t i = sim->name_fx_count; i-- > 0;) {
		if (!sim->name_fx[i].marked)
			continue;
		for (size_t k = 0; k < i; k++)
			if (!sim->name_fx[k].marked &&
			    builds_on(&sim->name_fx[i], &sim->name_fx[k]))
				sim->name_fx[k].marked = true;
	}
	for (size_t i = 0; i < sim->name_fx_count; i++) {
		struct name_fx fx = sim->name_fx[i];

		if (!fx.marked) {
			sim->name_fx[kept++] = fx;
			continue;
		}
		name_fx_apply(sim, &fx);
		name_fx_release(sim, &fx);
	}
	sim->name_fx_count = kept;
}

/* Names and inodes of change are borrowed. */
void names_changed(struct sim *sim, const struct name_change *change, unsigned int count)
{
	struct name_fx fx = { .seq = ++sim->fx_seq, .change_count = count };

	if (change[0].dir->dev->flags & SIM_DEV_TMPFS)
		return;
	fx.is_rename = count == 2;
	for (unsigned int i = 0; i < count; i++) {
		fx.change[i] = change[i];
		(void)name_ref(change[i].name);
		(void)inode_ref(change[i].dir);
		if (change[i].inode)
			(void)inode_ref(change[i].inode);
	}
	/* The journal commits by itself now and then. */
	if (sim->name_fx_count >= SIM_NAME_FX_MAX) {
		for (size_t i = 0; i < SIM_NAME_FX_MAX / 4; i++)
			sim->name_fx[i].marked = true;
		apply_marked(sim);
	}
	SIM_ROOM(sim->name_fx, sim->name_fx_count, sim->name_fx_cap);
	sim->name_fx[sim->name_fx_count++] = fx;
}

void names_sync(struct sim *sim, struct inode *dir, uint64_t seq)
{
	bool any = false;

	for (size_t i = 0; i < sim->name_fx_count; i++) {
		struct name_fx *fx = &sim->name_fx[i];

		if (fx->seq > seq)
			break;
		for (unsigned int k = 0; k < fx->change_count; k++)
			if (fx->change[k].dir == dir)
				any = fx->marked = true;
	}
	if (any)
		apply_marked(sim);
}

/* Whether i moves what a dropped rename before it had put there. */
static bool falls_with_earlier(const struct sim *sim, size_t i)
{
	const struct name_fx *fx = &sim->name_fx[i];

	if (!fx->is_rename)
		return false;
	for (size_t k = i; k-- > 0;) {
		const struct name_fx *earlier = &sim->name_fx[k];

		if (!earlier->is_rename || earlier->change[1].dir != fx->change[0].dir ||
		    !same_name(earlier->change[1].name, fx->change[0].name))
			continue;
		return !earlier->marked;
	}
	return false;
}

void names_power_cut(struct sim *sim, uint32_t keep_ppm)
{
	for (size_t i = 0; i < sim->name_fx_count; i++) {
		struct name_fx *fx = &sim->name_fx[i];

		fx->marked = rng_ppm(&sim->rng_disk, keep_ppm) && !falls_with_earlier(sim, i);
		if (fx->marked) {
			sim->stats.names_kept++;
			name_fx_apply(sim, fx);
		} else {
			sim->stats.names_dropped++;
		}
	}
	names_forget(sim);
}

void names_forget(struct sim *sim)
{
	for (size_t i = 0; i < sim->name_fx_count; i++)
		name_fx_release(sim, &sim->name_fx[i]);
	sim->name_fx_count = 0;
}
