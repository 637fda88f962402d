/*
 * check - proves that the parts of a pool agree. It first makes a checkpoint, so that the rows are
 * the whole truth, and holds the checkpoint's lock to the end, so that they stay it: rows change,
 * and files of SCOs go, in checkpoints only. What lives is counted from the map's rows alone.
 */
#include "common/crc32c.h"
#include "volume/check_impl.h"
#include "volume/upload.h"

#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>

/* --- problems ---------------------------------------------------------------------------------- */

void check_report(struct check *k, const struct pool_problem *problem)
{
	if (problem->repaired)
		k->result->repaired++;
	else if (problem->severity == POOL_ERROR)
		k->result->errors++;
	else
		k->result->warnings++;
	if (k->options->problem)
		k->options->problem(k->options->arg, problem);
}

static void report_row(struct check *k, const char *kind, const struct err *e)
{
	char what[ERR_MESSAGE_BYTES + 64];

	(void)snprintf(what, sizeof(what), "a row of the metadata (%s) is damaged: %s", kind,
		       e->message);
	check_report(k, &(struct pool_problem){ .severity = POOL_ERROR, .what = what });
}

/* --- layers and objects ------------------------------------------------------------------------ */

static struct check_layer *layer_find(const struct check *k, uint64_t id)
{
	struct check_layer *l;

	HASH_FIND(hh, k->layers, &id, sizeof(id), l);
	return l;
}

static int take_layer(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct check *k = arg;
	struct check_layer *l;
	struct layer_row row;
	struct err e = { 0 };
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_LAYER, &id);
	if (r == 0)
		r = layer_row_decode(value, value_bytes, &row, &e);
	if (r < 0) {
		report_row(k, "layer", &e);
		return 0;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->id = id;
	l->object = row.object;
	l->parent = row.parent;
	l->frozen = row.state == LAYER_FROZEN;
	HASH_ADD(hh, k->layers, id, sizeof(l->id), l);
	if (!HASH_TOOK(l)) {
		free(l);
		return -ENOMEM;
	}
	k->result->layers++;
	return 0;
}

static int take_object(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct check *k = arg;
	struct pool_problem problem = { .severity = POOL_ERROR };
	struct object_row row = { 0 };
	struct check_layer *l;
	struct err e = { 0 };
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_OBJECT, &id);
	if (r == 0)
		r = object_row_decode(value, value_bytes, &row, &e);
	if (r < 0) {
		report_row(k, "object", &e);
		return 0;
	}
	k->result->objects++;
	l = layer_find(k, row.live_layer);
	object_row_done(&row);
	problem.object = id;
	if (!l)
		problem.what = "the object's map is missing";
	else if (l->object != id)
		problem.what = "the object's map belongs to another object";
	else if (l->parent && !layer_find(k, l->parent))
		problem.what = "a layer below the object's map is missing";
	if (problem.what)
		check_report(k, &problem);
	return 0;
}

static int take_snapshot(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			 size_t value_bytes)
{
	struct check *k = arg;
	struct pool_problem problem = { .severity = POOL_ERROR };
	struct snapshot_row row = { 0 };
	const struct check_layer *l;
	struct err e = { 0 };
	uint64_t number;
	char what[96];
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &problem.object, &number);
	if (r == 0)
		r = snapshot_row_decode(value, value_bytes, &row, &e);
	if (r < 0) {
		report_row(k, "snapshot", &e);
		return 0;
	}
	l = layer_find(k, row.layer);
	if (l && l->frozen && l->object == problem.object)
		return 0;
	(void)snprintf(what, sizeof(what), "what snapshot %" PRIu64 " shows is %s", number,
		       l ? "no frozen map of its object" : "missing");
	problem.what = what;
	check_report(k, &problem);
	return 0;
}

static int take_layers_and_objects(struct check *k, struct err *e)
{
	struct row_key from = row_key_u64(ROW_LAYER, 0), until = row_key_u64(ROW_LAYER, UINT64_MAX);
	int r;

	r = meta_iterate(k->pool->meta, META_NAMES, &from, &until, take_layer, k, e);
	if (r < 0)
		return r;
	from = row_key_u64(ROW_OBJECT, 0);
	until = row_key_u64(ROW_OBJECT, UINT64_MAX);
	r = meta_iterate(k->pool->meta, META_NAMES, &from, &until, take_object, k, e);
	if (r < 0)
		return r;
	from = row_key_2u64(ROW_SNAPSHOT, 0, 0);
	until = row_key_2u64(ROW_SNAPSHOT, UINT64_MAX, UINT64_MAX);
	return meta_iterate(k->pool->meta, META_NAMES, &from, &until, take_snapshot, k, e);
}

/* --- SCOs against their rows ------------------------------------------------------------------- */

struct check_sco *check_sco_find(const struct check *k, uint64_t number)
{
	struct check_sco *cs;

	HASH_FIND(hh, k->scos, &number, sizeof(number), cs);
	return cs;
}

static int take_scos(struct check *k)
{
	struct sco **list;
	size_t count;
	int r = sco_table_list(k->pool->scos, 0, &list, &count);

	for (size_t i = 0; r == 0 && i < count; i++) {
		struct check_sco *cs = calloc(1, sizeof(*cs));
		size_t map_bytes = list[i]->slots_max / 8u + 1;

		if (!cs) {
			r = -ENOMEM;
			break;
		}
		cs->number = list[i]->number;
		cs->sco = list[i];
		HASH_ADD(hh, k->scos, number, sizeof(cs->number), cs);
		if (!HASH_TOOK(cs)) {
			free(cs);
			r = -ENOMEM;
			break;
		}
		sco_ref(k->pool->scos, cs->sco);
		cs->live = calloc(1, map_bytes);
		cs->holds = calloc(1, map_bytes);
		if (!cs->live || !cs->holds)
			r = -ENOMEM;
		k->result->scos++;
	}
	if (list)
		sco_list_free(k->pool->scos, list, count);
	return r;
}

static int look_at_sco_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			   size_t value_bytes)
{
	struct check *k = arg;
	struct pool_problem problem = { .severity = POOL_ERROR };
	struct err e = { 0 };
	uint64_t stream, number;
	struct sco_row row;
	char what[96];
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SCO, &stream, &number);
	if (r == 0)
		r = sco_row_decode(value, value_bytes, &row, &e);
	if (r < 0) {
		report_row(k, "SCO", &e);
		return 0;
	}
	if (check_sco_find(k, number) || row.live_slots == 0)
		return 0;
	(void)snprintf(what, sizeof(what), "a container with %u live clusters is missing",
		       row.live_slots);
	problem.what = what;
	problem.sco = number;
	check_report(k, &problem);
	return 0;
}

static int look_at_sco_rows(struct check *k, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_SCO, 0, 0);
	struct row_key until = row_key_2u64(ROW_SCO, UINT64_MAX, UINT64_MAX);

	return meta_iterate(k->pool->meta, META_STATE, &from, &until, look_at_sco_row, k, e);
}

/* --- the map ----------------------------------------------------------------------------------- */

struct page_walk {
	struct check *k;
	const struct check_layer *layer; /* NULL: nobody knows it any more */
	uint64_t page;
};

static struct pool_problem problem_at(const struct page_walk *w, const struct page_run *run,
				      unsigned int i, unsigned int count)
{
	return (struct pool_problem){
		.severity = POOL_ERROR,
		.object = w->layer ? w->layer->object : 0,
		.offset_bytes = (w->page * PAGE_CLUSTERS + run->first + i) * CLUSTER_BYTES,
		.len_bytes = (uint64_t)count * CLUSTER_BYTES,
		.sco = loc_sco(run->loc),
		.slot = loc_slot(run->loc) + i,
	};
}

static void count_run(void *arg, const struct page_run *run)
{
	struct page_walk *w = arg;
	struct check_sco *cs;
	struct pool_problem problem;
	unsigned int missing = 0, first_missing = 0;

	if (!loc_is_place(run->loc))
		return;
	w->k->result->live_bytes += (uint64_t)run->count * CLUSTER_BYTES;
	cs = check_sco_find(w->k, loc_sco(run->loc));
	if (!cs) {
		problem = problem_at(w, run, 0, run->count);
		problem.what = "the map names a container that is missing: reading it fails";
		check_report(w->k, &problem);
		return;
	}
	for (unsigned int i = 0; i < run->count; i++) {
		uint32_t slot = loc_slot(run->loc) + i;

		if (slot < cs->sco->slots_max && (!cs->knows_slots || bit_get(cs->holds, slot))) {
			bit_set(cs->live, slot);
			cs->counted++;
		} else if (missing++ == 0) {
			first_missing = i;
		}
	}
	if (missing) {
		problem = problem_at(w, run, first_missing, missing);
		problem.what = "the map names a slot that holds no cluster: reading it fails";
		check_report(w->k, &problem);
	}
}

/* A page of a layer that is gone: nobody reads it, but what it names never dies. */
static int leftover_page(struct check *k, const struct row_key *key)
{
	struct pool_problem problem = { .severity = POOL_WARNING,
					.what = "a map page of a deleted object is left over",
					.repaired = k->options->repair };
	int r = k->options->repair ? meta_batch_delete(k->pool->meta, k->repairs, key) : 0;

	if (r == 0)
		check_report(k, &problem);
	return r;
}

static int count_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct page_walk w = { .k = arg };
	enum page_value_kind kind;
	struct err e = { 0 };
	struct row_key k;
	uint64_t layer;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &w.page);
	w.layer = r == 0 ? layer_find(w.k, layer) : NULL;
	w.k->result->pages++;
	if (r == 0 && !w.layer) {
		k = row_key_2u64(ROW_PAGE, layer, w.page);
		r = leftover_page(w.k, &k);
		if (r < 0 || w.k->options->repair)
			return r;
	}
	if (r == 0)
		r = page_value_decode(value, value_bytes, &kind, count_run, &w, &e);
	if (r < 0)
		report_row(w.k, "map page", &e);
	return 0;
}

int check_walk_pages(struct check *k,
		     int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
			       const uint8_t *value, size_t value_bytes),
		     void *arg, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PAGE, 0, 0);
	struct row_key until = row_key_2u64(ROW_PAGE, UINT64_MAX, UINT64_MAX);

	return meta_iterate(k->pool->meta, META_STATE, &from, &until, fn, arg, e);
}

static void compare_counts(struct check *k)
{
	struct check_sco *cs, *next;

	HASH_ITER (hh, k->scos, cs, next) {
		struct sco *s = cs->sco;
		struct pool_problem problem = { .sco = cs->number, .repaired = k->options->repair };
		char what[128];
		uint32_t had;

		mutex_lock(&k->pool->scos->lock);
		had = s->live_slots;
		if (k->options->repair && had != cs->counted) {
			s->live_slots = cs->counted;
			sco_row_changed_locked(k->pool->scos, s);
		}
		mutex_unlock(&k->pool->scos->lock);
		if (had == cs->counted)
			continue;
		/* Too low: it may be deleted while it is needed. Too high: it is kept for nothing. */
		problem.severity = had < cs->counted ? POOL_ERROR : POOL_WARNING;
		(void)snprintf(what, sizeof(what),
			       "a container counts %u live clusters, the map names %u", had,
			       cs->counted);
		problem.what = what;
		check_report(k, &problem);
	}
}

/* --- the backend ------------------------------------------------------------------------------- */

void check_lost_object(struct check *k, struct sco *s, const char *what)
{
	bool repair = k->options->repair && !sco_is_absent(k->pool->scos, s);
	struct pool_problem problem = {
		.severity = POOL_ERROR, .what = what, .sco = s->number, .repaired = repair
	};

	if (repair) {
		mutex_lock(&k->pool->scos->lock);
		s->row_flags &= (uint8_t) ~(SCO_UPLOADED | SCO_LINKED);
		sco_row_changed_locked(k->pool->scos, s);
		mutex_unlock(&k->pool->scos->lock);
	}
	check_report(k, &problem);
}

static void look_at_objects(struct check *k, struct backend *backend)
{
	struct check_sco *cs, *next;

	k->result->backend_checked = backend != NULL;
	HASH_ITER (hh, k->scos, cs, next) {
		char name[OBJECT_NAME_MAX + 1];
		struct backend_object object;
		struct sco *s = cs->sco;
		int r;

		mutex_lock(&k->pool->scos->lock);
		object_name_sco(name, s->stream, s->number, s->version, s->object_epoch);
		r = s->life == SCO_LIFE_SEALED && s->row_flags & SCO_UPLOADED;
		k->result->single_copy_scos += r && s->row_flags & SCO_LINKED;
		mutex_unlock(&k->pool->scos->lock);
		if (!r || !k->result->backend_checked)
			continue;
		r = packs_head(k->pool, backend, name, &object, NULL);
		if (r == -ENOENT)
			check_lost_object(k, s, "a container is missing on the backend");
		else if (r == 0 && object.len_bytes != s->file_bytes)
			check_lost_object(k, s, "a container has another length on the backend");
		else if (r < 0)
			k->result->backend_checked = false; /* it does not answer: ask no more */
	}
}

/* By a connection of its own: that of the pool is its uploader's, which may be opening it. */
static void look_at_backend(struct check *k)
{
	const struct pool_options *o = &k->pool->options;
	const struct backend_options bo = { .attempts_max = 2 };
	struct backend *backend = o->backend;
	struct err e = { 0 };

	if (!backend && backend_open(k->pool->env, o->backend_url, &bo, &backend, &e) < 0)
		backend = NULL;
	look_at_objects(k, backend);
	k->result->backend_checked &= !k->away;
	if (backend && backend != o->backend)
		backend_close(backend);
}

/* --- all of it --------------------------------------------------------------------------------- */

static void check_done(struct check *k)
{
	struct check_sco *cs, *next_sco;
	struct check_layer *l, *next_layer;

	HASH_ITER (hh, k->scos, cs, next_sco) {
		HASH_DEL(k->scos, cs);
		sco_unref(k->pool->scos, cs->sco);
		free(cs->live);
		free(cs->holds);
		free(cs);
	}
	HASH_ITER (hh, k->layers, l, next_layer) {
		HASH_DEL(k->layers, l);
		free(l);
	}
	if (k->repairs)
		meta_batch_free(k->pool->meta, k->repairs);
}

static int check_locked(struct check *k, struct err *e)
{
	int r;

	r = pool_checkpoint_locked(k->pool, e);
	if (r < 0)
		return r;
	k->repairs = meta_batch_new(k->pool->meta, META_STATE);
	r = k->repairs ? take_scos(k) : -ENOMEM;
	if (r < 0)
		return err_set(e, r, "checking: %s", err_name(r));
	r = take_layers_and_objects(k, e);
	if (r == 0)
		r = look_at_sco_rows(k, e);
	if (r == 0 && k->pool->ring_given_up)
		check_report(
			k, &(struct pool_problem){
				   .severity = POOL_ERROR,
				   .what = "the ring could not be used and was given up: what was "
					   "acknowledged and not synced may be lost",
				   .repaired = true,
			   });
	if (r == 0 && k->options->data)
		r = check_copies(k, e);
	if (r == 0)
		r = check_files(k, e);
	if (r == 0)
		r = check_walk_pages(k, count_page, k, e);
	if (r == 0)
		r = check_resolved(k, e);
	if (r == 0 && k->options->data)
		r = check_data(k, e);
	if (r == 0 && k->short_of)
		r = err_because(e, k->short_of, "checking");
	if (r < 0)
		return r;
	compare_counts(k);
	look_at_backend(k);
	if (k->options->repair)
		r = meta_commit(k->pool->meta, k->repairs, 0, e);
	/* Writes the rows of the SCOs that changed, and makes all of it durable. */
	if (r == 0 && k->options->repair)
		r = pool_checkpoint_locked(k->pool, e);
	return r;
}

int pool_check(struct pool *p, const struct pool_check_options *options,
	       struct pool_check_result *ret_result, struct err *e)
{
	struct pool_check_result result = { 0 };
	struct check k = { .pool = p, .options = options, .result = &result };
	int r;

	/* So that no file of ours changes its version under our hands. */
	r = pool_seal(p, e);
	if (r < 0)
		return r;
	mutex_lock(&p->checkpoint_lock);
	r = check_locked(&k, e);
	check_done(&k);
	mutex_unlock(&p->checkpoint_lock);
	if (r == 0)
		*ret_result = result;
	return r;
}
