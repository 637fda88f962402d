/* packed - where objects lie that are parts of packs, as a root or the rows say it. */
#ifndef TESTS_SIM_PACKED_H
#define TESTS_SIM_PACKED_H

#include "backend/backend.h"
#include "volume/meta.h"

struct packed_place;
struct packed_set {
	struct packed_place *places;
};

/* Add what the rows say. */
NODISCARD int packed_by_rows(struct packed_set *set, struct meta *meta);
/* Add what is in the packs that a root names. Those of the root before may be gone: nothing in them is
 * needed then. */
NODISCARD int packed_by_root(struct packed_set *set, struct backend *b, const struct root *root);
void packed_done(struct packed_set *set);
/* How many of them have this in their names. */
unsigned int packed_count(const struct packed_set *set, const char *part);

/* As the calls of the backend, wherever the object lies. */
NODISCARD int packed_head(const struct packed_set *set, struct backend *b, const char *name,
			  struct backend_object *ret_object);
/* out is replaced. */
NODISCARD int packed_get(const struct packed_set *set, struct backend *b, const char *name,
			 struct buf *out);

#endif
