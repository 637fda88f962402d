/* restore_look - whose a store is, and what the names of its objects tell. */
#include "volume/restore_impl.h"

#include "backend/backend.h"

#include <stdlib.h>
#include <string.h>

#define LIST_PAGE 1000u
/* Epochs beyond are none: there has to be room for those to come. */
#define EPOCH_MAX (UINT64_C(1) << 62)

/* --- pool.json --------------------------------------------------------------------------------- */

static int read_pool(struct pool *p, struct uuid *ret_pool, struct err *e)
{
	char text[POOL_TEXT_MAX + 1] = { 0 };
	struct backend_object object;
	int r = backend_head(p->backend, POOL_NAME, &object, e);

	if (r == -ENOENT)
		return err_set(e, -ENOENT, "'%s' holds no pool: there is no '%s'",
			       backend_url(p->backend), POOL_NAME);
	if (r == 0 && object.len_bytes > POOL_TEXT_MAX)
		return err_set(e, -EUCLEAN, "'%s' of '%s' is of no program that is known",
			       POOL_NAME, backend_url(p->backend));
	if (r == 0)
		r = backend_get(p->backend, POOL_NAME, 0, text, (size_t)object.len_bytes, e);
	if (r < 0)
		return err_wrap(e, r, "'%s'", POOL_NAME);
	if (pool_text_parse(text, ret_pool) < 0)
		return err_set(e, -EUCLEAN, "'%s' of '%s' is of no program that is known",
			       POOL_NAME, backend_url(p->backend));
	return 0;
}

/* --- names ------------------------------------------------------------------------------------- */

struct look {
	struct store_names names;
	char after[BACKEND_NAME_BYTES_MAX + 1];
};

static int add_sco(struct store_names *n, const struct object_name *name, uint64_t len_bytes)
{
	if (n->sco_count == n->sco_cap) {
		size_t cap = n->sco_cap ? 2 * n->sco_cap : 1024;
		struct store_sco *more = reallocarray(n->scos, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		n->scos = more;
		n->sco_cap = cap;
	}
	n->scos[n->sco_count++] = (struct store_sco){ .sco = name->number,
						      .epoch = name->epoch,
						      .len_bytes = len_bytes,
						      .stream = name->stream,
						      .version = name->version };
	n->sco_max = max_u64(n->sco_max, name->number);
	return 0;
}

static int add_root(struct store_names *n, const struct object_name *name)
{
	if (n->root_count == n->root_cap) {
		size_t cap = n->root_cap ? 2 * n->root_cap : 64;
		struct store_root *more = reallocarray(n->roots, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		n->roots = more;
		n->root_cap = cap;
	}
	n->roots[n->root_count++] =
		(struct store_root){ .epoch = name->epoch, .number = name->number };
	return 0;
}

/* What no daemon named so is nobody's. */
static int see_name(void *arg, const char *name, const struct backend_object *object)
{
	struct look *l = arg;
	struct store_names *n = &l->names;
	struct object_name parsed;

	memcpy(l->after, name, strlen(name) + 1);
	if (object_name_parse(name, &parsed) < 0 || parsed.epoch > EPOCH_MAX)
		return 0;
	n->epoch_max = max_u64(n->epoch_max, parsed.epoch);
	n->stream_max = max_u64(n->stream_max, parsed.stream);
	if (parsed.kind == NAME_SCO)
		return add_sco(n, &parsed, object->len_bytes);
	return parsed.kind == NAME_ROOT ? add_root(n, &parsed) : 0;
}

static int sco_order(const void *a, const void *b)
{
	const struct store_sco *x = a, *y = b;

	if (x->stream != y->stream)
		return x->stream < y->stream ? -1 : 1;
	if (x->sco != y->sco)
		return x->sco < y->sco ? -1 : 1;
	if (x->version != y->version)
		return x->version < y->version ? -1 : 1;
	return (x->epoch > y->epoch) - (x->epoch < y->epoch);
}

const struct store_sco *store_find_sco(const struct store_names *n, const struct store_sco *wanted)
{
	/* A listing is in the order of the names, whose numbers have a fixed width. */
	return n->sco_count ? bsearch(wanted, n->scos, n->sco_count, sizeof(*wanted), sco_order) :
			      NULL;
}

void store_names_done(struct store_names *n)
{
	free(n->scos);
	free(n->roots);
	*n = (struct store_names){ 0 };
}

int restore_look(struct pool *p, struct store_names *ret_names, struct err *e)
{
	struct look l = { 0 };
	int r = read_pool(p, &l.names.pool, e);

	if (r == 0)
		do
			r = backend_list(p->backend, "", l.after[0] ? l.after : NULL, LIST_PAGE,
					 see_name, &l, e);
		while (r == (int)LIST_PAGE);
	if (r >= 0 && !l.names.root_count)
		r = err_set(e, -ENOENT,
			    "'%s' holds a pool that never committed a root: there is nothing to "
			    "restore",
			    backend_url(p->backend));
	if (r < 0) {
		store_names_done(&l.names);
		return r;
	}
	*ret_names = l.names;
	return 0;
}
