#include "volume/sco.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

int sco_table_open(struct env *env, struct flash *flash, struct sco_table **ret_table)
{
	struct sco_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->env = env;
	t->flash = flash;
	mutex_init(&t->lock, LOCK_SCO_TABLE);
	*ret_table = t;
	return 0;
}

/* What only writers and readers of young data needed. */
static void drop_tables(struct sco_table *t, struct sco *s)
{
	free(s->frame_of_slot);
	s->frame_of_slot = NULL;
	free(s->crcs);
	s->crcs = NULL;
	buf_done(&s->log);
	if (s->old_file)
		env_close(t->env, s->old_file);
	s->old_file = NULL;
}

static void sco_destroy(struct sco_table *t, struct sco *s)
{
	drop_tables(t, s);
	if (s->file)
		env_close(t->env, s->file);
	free(s);
}

void sco_table_close(struct sco_table *t)
{
	struct sco *s, *next;

	if (!t)
		return;
	HASH_ITER (hh, t->by_number, s, next) {
		ASSERT(s->refs == 0);
		HASH_DEL(t->by_number, s);
		sco_destroy(t, s);
	}
	mutex_done(&t->lock);
	free(t);
}

static void unlink_unsealed_locked(struct sco_table *t, struct sco *s)
{
	if (s->unsealed_prev)
		DL_DELETE2(t->unsealed, s, unsealed_prev, unsealed_next);
	s->unsealed_prev = s->unsealed_next = NULL;
}

void sco_set_sealed_locked(struct sco_table *t, struct sco *s)
{
	s->life = SCO_LIFE_SEALED;
	unlink_unsealed_locked(t, s);
}

static void unlink_behind_locked(struct sco_table *t, struct sco *s)
{
	if (s->behind_prev)
		DL_DELETE2(t->behind, s, behind_prev, behind_next);
	s->behind_prev = s->behind_next = NULL;
}

void sco_row_changed_locked(struct sco_table *t, struct sco *s)
{
	s->row_change++;
	if (!s->behind_prev && s->hh.tbl)
		DL_APPEND2(t->behind, s, behind_prev, behind_next);
}

void sco_row_saved_locked(struct sco_table *t, struct sco *s)
{
	s->row_saved = s->row_staged;
	if (s->row_saved == s->row_change)
		unlink_behind_locked(t, s);
}

int sco_table_add(struct sco_table *t, const struct sco *init, struct sco **ret_sco)
{
	struct sco *s, *found;

	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = *init;
	s->refs = 1;
	if (s->absent)
		__atomic_store_n(&t->any_absent, true, __ATOMIC_RELAXED);
	GUARD(&t->lock);
	HASH_FIND(hh, t->by_number, &s->number, sizeof(s->number), found);
	if (found) {
		free(s);
		return -EEXIST;
	}
	HASH_ADD(hh, t->by_number, number, sizeof(s->number), s);
	if (!HASH_TOOK(s)) {
		free(s);
		return -ENOMEM;
	}
	if (s->life != SCO_LIFE_SEALED)
		DL_APPEND2(t->unsealed, s, unsealed_prev, unsealed_next);
	if (s->row_change != s->row_saved)
		DL_APPEND2(t->behind, s, behind_prev, behind_next);
	if (s->file)
		t->open_files++;
	*ret_sco = s;
	return 0;
}

struct sco *sco_get(struct sco_table *t, uint64_t number)
{
	struct sco *s;

	GUARD(&t->lock);
	HASH_FIND(hh, t->by_number, &number, sizeof(number), s);
	if (s)
		s->refs++;
	return s;
}

void sco_ref(struct sco_table *t, struct sco *s)
{
	GUARD(&t->lock);
	ASSERT(s->refs > 0);
	s->refs++;
}

void sco_unref(struct sco_table *t, struct sco *s)
{
	bool gone;

	if (!s)
		return;
	mutex_lock(&t->lock);
	ASSERT(s->refs > 0);
	s->refs--;
	gone = s->refs == 0 && s->dead && !s->hh.tbl;
	if (gone && s->file)
		t->open_files--;
	if (!gone && s->refs == 0 && s->life == SCO_LIFE_SEALED && s->crcs)
		drop_tables(t, s);
	mutex_unlock(&t->lock);
	if (gone)
		sco_destroy(t, s);
}

bool sco_remove(struct sco_table *t, struct sco *s)
{
	GUARD(&t->lock);
	ASSERT(s->refs > 0);
	if (!s->hh.tbl)
		return false;
	HASH_DEL(t->by_number, s);
	unlink_unsealed_locked(t, s);
	unlink_behind_locked(t, s);
	s->hh.tbl = NULL;
	s->dead = true;
	return s->refs == 1;
}

enum sco_life sco_life(struct sco_table *t, struct sco *s)
{
	GUARD(&t->lock);
	return s->life;
}

/* A younger try of the same epoch makes the older one count for nothing. */
static bool is_cut_off_by(const struct sco *older, const struct sco *s)
{
	return older->stream == s->stream &&
	       (older->epoch < s->epoch ||
		(older->epoch == s->epoch && older->has_cut && older->number < s->number));
}

bool sco_cut_is_needed_locked(const struct sco_table *t, const struct sco *s, lsn_t checkpoint_lsn)
{
	struct sco *other, *next;

	HASH_ITER (hh, t->by_number, other, next)
		if (is_cut_off_by(other, s) &&
		    (other->life != SCO_LIFE_SEALED || !other->row_saved || other->old_kept ||
		     other->last_lsn > checkpoint_lsn))
			return true;
	return false;
}

/* --- open files -------------------------------------------------------------------------------- */

/* Close what was not touched for long. Nobody uses the file of a SCO without a reference. */
static void close_idle_locked(struct sco_table *t)
{
	struct sco *s, *next;

	HASH_ITER (hh, t->by_number, s, next) {
		if (!s->file || s->refs > 0 || s->touched + SCO_OPEN_FILES_MAX / 2 > t->clock)
			continue;
		env_close(t->env, s->file);
		s->file = NULL;
		t->open_files--;
	}
}

bool sco_is_absent(struct sco_table *t, const struct sco *s)
{
	GUARD(&t->lock);
	return s->absent;
}

int sco_file(struct sco_table *t, struct sco *s, struct env_file **ret_file, struct err *e)
{
	uint32_t dir, version;
	struct env_file *f;
	int r;

	for (;;) {
		mutex_lock(&t->lock);
		s->touched = ++t->clock;
		if (s->file) {
			*ret_file = s->file;
			mutex_unlock(&t->lock);
			return 0;
		}
		if (s->absent) {
			mutex_unlock(&t->lock);
			return err_set(e, -ENODATA, "SCO %" PRIu64 " is on the backend only",
				       s->number);
		}
		if (t->open_files >= SCO_OPEN_FILES_MAX)
			close_idle_locked(t);
		dir = s->dir;
		version = s->version;
		mutex_unlock(&t->lock);

		r = flash_open_file(t->flash, dir, s->stream, s->number, version, false, &f, e);
		mutex_lock(&t->lock);
		if (r < 0 && (s->version != version || s->dir != dir)) {
			mutex_unlock(&t->lock); /* resealed meanwhile: look for the new file */
			continue;
		}
		if (r == 0 && (s->file || s->version != version)) {
			mutex_unlock(&t->lock); /* somebody was faster */
			env_close(t->env, f);
			continue;
		}
		if (r == 0) {
			s->file = f;
			t->open_files++;
			*ret_file = f;
		}
		mutex_unlock(&t->lock);
		return r;
	}
}

static int read_object(struct sco_table *t, struct sco *s, uint64_t offset_bytes, size_t len_bytes,
		       void *dst, bool anew, struct err *e)
{
	int r;

	if (!t->read_object)
		return err_set(e, -ENODATA, "SCO %" PRIu64 " is on the backend only", s->number);
	r = t->read_object(t->read_arg, s, offset_bytes, len_bytes, dst, anew, e);
	return r < 0 ? err_wrap(e, r, "SCO %" PRIu64 " on the backend", s->number) : 0;
}

bool sco_has_copy(struct sco_table *t, const struct sco *s)
{
	GUARD(&t->lock);
	return s->life == SCO_LIFE_SEALED && s->row_flags & SCO_UPLOADED &&
	       (s->absent || !(s->row_flags & SCO_LINKED));
}

int sco_read_again(struct sco_table *t, struct sco *s, uint64_t offset_bytes, size_t len_bytes,
		   void *dst, struct err *e)
{
	if (!sco_has_copy(t, s))
		return err_set(e, -ENODATA, "SCO %" PRIu64 " has no second copy", s->number);
	return read_object(t, s, offset_bytes, len_bytes, dst, true, e);
}

int sco_read_raw(struct sco_table *t, struct sco *s, uint64_t offset_bytes, size_t len_bytes,
		 void *dst, struct err *e)
{
	struct env_file *f;
	ssize_t got;
	int r;

	r = sco_file(t, s, &f, e);
	if (r == -ENODATA)
		return read_object(t, s, offset_bytes, len_bytes, dst, false, e);
	if (r < 0)
		return r;
	got = env_pread(t->env, f, dst, len_bytes, offset_bytes);
	if (got < 0)
		return err_set(e, (int)got, "reading SCO %" PRIu64 " at %" PRIu64, s->number,
			       offset_bytes);
	if ((size_t)got != len_bytes)
		return err_set(e, -EUCLEAN, "SCO %" PRIu64 " ends before %" PRIu64, s->number,
			       offset_bytes + len_bytes);
	return 0;
}

int sco_read(struct sco_table *t, struct sco *s, uint32_t slot, uint32_t count, void *dst,
	     struct err *e)
{
	return sco_read_raw(t, s, (uint64_t)slot * CLUSTER_BYTES, (size_t)count * CLUSTER_BYTES,
			    dst, e);
}

/* --- listing ----------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	const struct sco *x = *(struct sco *const *)a, *y = *(struct sco *const *)b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* They come in the order in which they were added, nearly always by number. */
static void sort(struct sco **list, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		if (list[i - 1]->number > list[i]->number) {
			qsort(list, count, sizeof(struct sco *), by_number);
			return;
		}
	}
}

int sco_table_list(struct sco_table *t, uint32_t stream, struct sco ***ret_scos, size_t *ret_count)
{
	struct sco *s, *next, **list;
	size_t count = 0;

	mutex_lock(&t->lock);
	list = calloc(HASH_COUNT(t->by_number) + 1, sizeof(struct sco *));
	if (!list) {
		mutex_unlock(&t->lock);
		return -ENOMEM;
	}
	HASH_ITER (hh, t->by_number, s, next) {
		if (stream != 0 && s->stream != stream)
			continue;
		s->refs++;
		list[count++] = s;
	}
	mutex_unlock(&t->lock);
	sort(list, count);
	*ret_scos = list;
	*ret_count = count;
	return 0;
}

static struct sco *next_unsealed(const struct sco *s)
{
	return s->unsealed_next;
}

static struct sco *next_behind(const struct sco *s)
{
	return s->behind_next;
}

/* Of one of the table's lists those that are sealed, or those that are not. */
static int list_chain(struct sco_table *t, struct sco *const *head,
		      struct sco *(*next)(const struct sco *), bool sealed, struct sco ***ret_scos,
		      size_t *ret_count)
{
	struct sco **list;
	size_t count = 0;

	mutex_lock(&t->lock);
	for (struct sco *s = *head; s; s = next(s))
		count++;
	list = calloc(count + 1, sizeof(struct sco *));
	count = 0;
	for (struct sco *s = *head; list && s; s = next(s)) {
		if ((s->life == SCO_LIFE_SEALED) != sealed)
			continue;
		s->refs++;
		list[count++] = s;
	}
	mutex_unlock(&t->lock);
	if (!list)
		return -ENOMEM;
	sort(list, count);
	*ret_scos = list;
	*ret_count = count;
	return 0;
}

int sco_table_list_unsealed(struct sco_table *t, struct sco ***ret_scos, size_t *ret_count)
{
	return list_chain(t, &t->unsealed, next_unsealed, false, ret_scos, ret_count);
}

int sco_table_list_behind(struct sco_table *t, struct sco ***ret_scos, size_t *ret_count)
{
	return list_chain(t, &t->behind, next_behind, true, ret_scos, ret_count);
}

void sco_list_free(struct sco_table *t, struct sco **scos, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (scos[i])
			sco_unref(t, scos[i]);
	free(scos);
}
