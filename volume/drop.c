/*
 * drop - layers that nobody names any more. The row says DROPPED (WAL); a tombstone over the whole
 * layer makes the next checkpoint delete its pages and count their slots dead; when that is
 * flushed the row goes. A crash in between starts again from the row.
 */
#include "volume/pool_impl.h"

#include <stdlib.h>

static lsn_t publish_nothing(void *arg)
{
	(void)arg; /* the row in the WAL is the record of it */
	return 0;
}

int pool_drop_layer(struct pool *p, struct layer *layer, struct err *e)
{
	struct dropped_layer *d = calloc(1, sizeof(*d));
	lsn_t lsn;
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "dropping a layer");
	__atomic_store_n(&layer->stuck, NULL,
			 __ATOMIC_RELAXED); /* what its log lacks is of no use */
	r = map_range(p->map, layer, 0, CLUSTER_MAX, LOC_UNMAPPED, publish_nothing, NULL, &lsn, e);
	if (r < 0) {
		free(d);
		return r;
	}
	d->layer = layer;
	d->id = layer->id;
	layer_ref(layer);
	GUARD(&p->dropped_lock);
	d->next = p->dropped;
	p->dropped = d;
	return 0;
}
