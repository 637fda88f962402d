/* steps_look - what a pool shows, against the pictures of what it may be. */
#include "tests/sim/steps_impl.h"

#include "common/endian.h"
#include "tests/sim/allocs.h"
#include "tests/sim/rows.h"
#include "volume/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN_MAX 16u

struct seen_snap {
	char name[SNAPSHOT_NAME_MAX + 1];
	bool sticky;
	struct image image;
};

struct seen_disk {
	uint64_t id;
	enum object_class class;
	bool template;
	struct image image;
	size_t snap_count;
	struct seen_snap *snaps;
};

struct seen_name {
	uint8_t key[2];
	uint64_t id;
};

struct seen {
	struct steps *st;
	size_t disk_count, name_count;
	struct seen_disk disks[SEEN_MAX];
	struct seen_name names[SEEN_MAX];
	char why[SNAPSHOT_NAME_MAX + 100]; /* a picture does not fit */
};

/* --- looking ----------------------------------------------------------------------------------- */

static struct image read_all(struct steps *st, struct object *o)
{
	struct image image = { .bytes = malloc(STEPS_DISK_BYTES + 1) };
	struct object_stat stat;
	struct err e = { 0 };
	ssize_t n;

	ASSERT(image.bytes);
	object_stat(o, &stat);
	n = world_read(st->w, o, 0, st->w->buf, STEPS_DISK_BYTES + 1, &e);
	if (n < 0 || (uint64_t)n != stat.size_bytes || (size_t)n > STEPS_DISK_BYTES)
		steps_fail(st, "reading it all", (int)n, &e);
	memcpy(image.bytes, st->w->buf, (size_t)n);
	image.size_bytes = (uint64_t)n;
	return image;
}

static void see_snaps(struct steps *st, struct seen_disk *d)
{
	struct snapshot_info *list;
	struct err e = { 0 };
	int r = snapshot_list(st->w->pool, d->id, &list, &d->snap_count, &e);

	if (r < 0)
		steps_fail(st, "listing snapshots", r, &e);
	d->snaps = calloc(d->snap_count + 1, sizeof(*d->snaps));
	ASSERT(d->snaps);
	for (size_t i = 0; i < d->snap_count; i++) {
		struct seen_snap *s = &d->snaps[i];
		struct object *o;

		(void)snprintf(s->name, sizeof(s->name), "%s", list[i].name);
		s->sticky = list[i].sticky;
		r = snapshot_open(st->w->pool, d->id, s->name, &o, &e);
		if (r < 0)
			steps_fail(st, "opening a snapshot", r, &e);
		s->image = read_all(st, o);
		object_close(o);
	}
	snapshot_list_free(list, d->snap_count);
}

static void see_disk(struct steps *st, uint64_t id, struct seen_disk *d)
{
	struct object_stat stat;
	struct err e = { 0 };
	struct object *o;
	int r = object_open(st->w->pool, id, &o, &e);

	if (r < 0)
		steps_fail(st, "opening a disk that is listed", r, &e);
	object_stat(o, &stat);
	*d = (struct seen_disk){ .id = id, .class = stat.class, .template = stat.template };
	d->image = read_all(st, o);
	object_close(o);
	see_snaps(st, d);
}

static int see_name(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct seen *s = arg;

	if (s->name_count == SEEN_MAX || key_bytes != 2 || value_bytes != 8)
		return -EUCLEAN;
	memcpy(s->names[s->name_count].key, key, 2);
	s->names[s->name_count++].id = le64_get(value);
	return 0;
}

static void see(struct steps *st, struct seen *s)
{
	struct err e = { 0 };
	uint64_t *ids;
	int r;

	*s = (struct seen){ .st = st };
	r = pool_list_objects(st->w->pool, &ids, &s->disk_count, &e);
	if (r < 0 || s->disk_count > SEEN_MAX)
		steps_fail(st, "listing disks", r, &e);
	for (size_t i = 0; i < s->disk_count; i++)
		see_disk(st, ids[i], &s->disks[i]);
	allocs_free(ids);
	r = names_iterate(st->w->pool, "", 0, "\377", 1, see_name, s, &e);
	if (r < 0)
		steps_fail(st, "reading names", r, &e);
}

static void forget(struct seen *s)
{
	for (size_t i = 0; i < s->disk_count; i++) {
		free(s->disks[i].image.bytes);
		for (size_t j = 0; j < s->disks[i].snap_count; j++)
			free(s->disks[i].snaps[j].image.bytes);
		free(s->disks[i].snaps);
	}
}

/* --- comparing --------------------------------------------------------------------------------- */

#define NO(s, ...) ((void)snprintf((s)->why, sizeof((s)->why), __VA_ARGS__), false)

static bool shows(struct seen *s, const struct image *seen, unsigned int wanted, unsigned int disk,
		  const char *what)
{
	const struct image *image = &s->st->images[wanted];
	uint64_t at = 0;

	if (seen->size_bytes != image->size_bytes)
		return NO(s, "disk %u%s%s has %" PRIu64 " bytes, not %" PRIu64, disk,
			  *what ? "@" : "", what, seen->size_bytes, image->size_bytes);
	while (at < image->size_bytes && seen->bytes[at] == image->bytes[at])
		at++;
	if (at < image->size_bytes)
		return NO(s, "disk %u%s%s has other bytes at %" PRIu64, disk, *what ? "@" : "",
			  what, at);
	return true;
}

static bool has_name(const struct seen *s, unsigned int disk, const struct disk_picture *d)
{
	for (size_t i = 0; i < s->name_count; i++)
		if (s->names[i].key[0] == (d->in_trash ? 't' : 'a') && s->names[i].key[1] == disk)
			return s->names[i].id == d->id;
	return false;
}

static bool fits_disk(struct seen *s, unsigned int disk, const struct disk_picture *d)
{
	const struct seen_disk *seen = NULL;

	for (size_t i = 0; i < s->disk_count; i++)
		if (s->disks[i].id == d->id)
			seen = &s->disks[i];
	if (!seen)
		return NO(s, "disk %u is not there", disk);
	if (!has_name(s, disk, d))
		return NO(s, "disk %u has not its name", disk);
	if (seen->class != d->class || seen->template != d->template)
		return NO(s, "disk %u is of class %u, template %u", disk, seen->class,
			  seen->template);
	if (seen->snap_count != d->snap_count)
		return NO(s, "disk %u has %zu snapshots, not %u", disk, seen->snap_count,
			  d->snap_count);
	for (unsigned int i = 0; i < d->snap_count; i++) {
		if (strcmp(seen->snaps[i].name, d->snaps[i].name) != 0 ||
		    seen->snaps[i].sticky != d->snaps[i].sticky)
			return NO(s, "disk %u has a snapshot '%s', sticky %u", disk,
				  seen->snaps[i].name, seen->snaps[i].sticky);
		if (!shows(s, &seen->snaps[i].image, d->snaps[i].image, disk, d->snaps[i].name))
			return false;
	}
	return shows(s, &seen->image, d->image, disk, "");
}

static bool fits(struct seen *s, const struct picture *p)
{
	size_t there = 0;

	for (unsigned int i = 0; i < STEPS_DISKS; i++) {
		if (!p->disks[i].there)
			continue;
		there++;
		if (!fits_disk(s, i, &p->disks[i]))
			return false;
	}
	if (there != s->disk_count || there != s->name_count)
		return NO(s, "%zu disks with %zu names, not %zu", s->disk_count, s->name_count,
			  there);
	return true;
}

unsigned int steps_see(struct steps *st, unsigned int oldest)
{
	struct seen *s = malloc(sizeof(*s));
	unsigned int found = 0;
	bool fit = false;

	ASSERT(s);
	see(st, s);
	for (unsigned int i = st->asked + 1; i > oldest && !fit; i--) {
		fit = fits(s, &st->pictures[i - 1]);
		found = i - 1;
	}
	for (unsigned int i = st->asked + 1; i > oldest && !fit; i--) {
		(void)fits(s, &st->pictures[i - 1]);
		fprintf(stderr, "not as picture %u of %u to %u: %s\n", i - 1, oldest, st->asked,
			s->why);
	}
	if (!fit)
		steps_fail(st, "the pool is at none of the pictures", 0, NULL);
	forget(s);
	free(s);
	return found;
}

void steps_look(struct steps *st, unsigned int oldest)
{
	steps_settle_on(st, steps_see(st, oldest));
}

/* --- leaks ------------------------------------------------------------------------------------- */

struct leaks {
	struct steps *st;
	unsigned int files, roots, claims, others;
	bool bad;
};

static void leak(struct leaks *l, const char *where, const char *what)
{
	fprintf(stderr, "left %s: %s\n", where, what);
	l->bad = true;
}

/* What the backend of an empty pool has: whose it is, claims, the last roots and what these name of the
 * log that files share, in packs or by itself. */
static int see_object(void *arg, const char *name, const struct backend_object *object)
{
	struct leaks *l = arg;
	struct object_name n;

	(void)object;
	if (strcmp(name, "pool.json") == 0)
		return 0;
	if (object_name_parse(name, &n) < 0 || n.kind == NAME_SCO || n.kind == NAME_PIECE ||
	    n.stream > STREAM_SHARED)
		leak(l, "on the backend", name);
	l->roots += n.kind == NAME_ROOT;
	l->claims += n.kind == NAME_EPOCH;
	l->others++;
	return 0;
}

static int see_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	struct leaks *l = arg;
	uint64_t id;
	char what[40];

	(void)value;
	(void)value_bytes;
	(void)snprintf(what, sizeof(what), "a row '%c' of %zu bytes", key[0], key_bytes);
	if (strchr("PKRXB", key[0]))
		return 0;
	if (strchr("SC", key[0]) && row_key_parse_u64(key, key_bytes, key[0], &id) == 0 &&
	    id == STREAM_SHARED)
		return 0;
	if (key[0] == ROW_MOVED || key[0] == ROW_CHANGED)
		return 0;
	leak(l, "in the metadata", what);
	return 0;
}

static int see_file(void *arg, const char *name)
{
	leak(arg, "on flash", name);
	return 0;
}

#define BACKEND_OBJECTS_MAX 24u

void steps_look_for_leaks(struct steps *st)
{
	static const uint8_t first[] = { 0 }, last[] = { 0xff };
	struct world *w = st->w;
	struct leaks l = { .st = st };
	char path[64];
	int r = 0;

	(void)snprintf(path, sizeof(path), "%s/sco", w->options.cache[0].path);
	r = env_list_dir(sim_env(w->sim), path, see_file, &l);
	if (r == 0)
		r = backend_list(w->backend, "", NULL, 100000, see_object, &l, NULL);
	for (unsigned int family = META_NAMES; r >= 0 && family <= META_STATE; family++)
		r = w->options.meta->ops->iterate(w->options.meta, NULL, (enum meta_family)family,
						  first, 0, last, sizeof(last), see_row, &l, NULL);
	if (r < 0)
		steps_fail(st, "looking for leaks", r, NULL);
	if (l.roots > 2)
		leak(&l, "on the backend", "more than two roots");
	if (l.others > BACKEND_OBJECTS_MAX)
		leak(&l, "on the backend", "many objects");
	if (!nothing_left(w->backend, sim_env(w->sim), &w->options) || l.bad)
		steps_fail(st, "something is left", 0, NULL);
}
