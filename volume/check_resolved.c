/* check_resolved - of copies of what frozen layers show: is each of one, and right. */
#include "volume/check_impl.h"
#include "volume/object.h"

#include <stdio.h>

/* Reading goes on without it: it takes longer, until it is made anew. */
static int report_copy(struct check *k, const struct row_key *key, enum pool_severity severity,
		       uint64_t object, uint64_t page, const char *what)
{
	struct pool_problem problem = {
		.severity = severity,
		.what = what,
		.object = object,
		.offset_bytes = page * PAGE_CLUSTERS * CLUSTER_BYTES,
		.repaired = k->options->repair,
	};
	int r = k->options->repair ? meta_batch_delete(k->pool->meta, k->repairs, key) : 0;

	if (r == 0)
		check_report(k, &problem);
	return r;
}

/* 0: it is right. Positive: what is wrong is in why. Long: each takes a row of each layer. */
static int compare_copy(struct check *k, uint64_t layer, uint64_t page, const uint8_t *value,
			size_t value_bytes, struct err *why)
{
	struct pool *p = k->pool;
	struct layer_row unused;
	struct layer *l;
	bool agrees = true;
	int r = object_chain_of(p, layer, &unused, &l, why);

	if (r < 0)
		return r;
	r = map_resolved_agrees(p->map, l, page, value, value_bytes, &agrees, why);
	layer_unref(p->map, l);
	if (r == 0 && !agrees) {
		(void)err_set(why, -EUCLEAN, "it names other places than the maps");
		return 1;
	}
	return r == -EUCLEAN || r == -EBADMSG || r == -EPROTONOSUPPORT ? 1 : r;
}

static int look_at_copy(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	struct check *k = arg;
	char what[ERR_MESSAGE_BYTES + 64];
	const struct check_layer *l;
	struct resolved_row row;
	struct err why = { 0 };
	uint64_t layer, page;
	struct row_key own;
	int r;

	if (row_key_parse_2u64(key, key_bytes, ROW_RESOLVED, &layer, &page) < 0)
		return 0; /* nobody ever asks for it */
	own = row_key_2u64(ROW_RESOLVED, layer, page);
	HASH_FIND(hh, k->layers, &layer, sizeof(layer), l);
	if (!l || !l->frozen)
		return report_copy(k, &own, POOL_WARNING, 0, page,
				   "a resolved page of a map that is gone is left over");
	if (k->options->data)
		r = compare_copy(k, layer, page, value, value_bytes, &why);
	else
		r = resolved_row_decode(value, value_bytes, &row, &why) < 0;
	if (r <= 0)
		return r == -ENOMEM ? r : 0; /* else the maps have told what is wrong */
	(void)snprintf(what, sizeof(what), "a resolved page is wrong: %s", why.message);
	return report_copy(k, &own, POOL_ERROR, l->object, page, what);
}

int check_resolved(struct check *k, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_RESOLVED, 0, 0);
	struct row_key until = row_key_2u64(ROW_RESOLVED, UINT64_MAX, UINT64_MAX);

	return meta_iterate(k->pool->meta, META_STATE, &from, &until, look_at_copy, k, e);
}
