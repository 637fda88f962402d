/*
 * rows - what is at rest: rows of the metadata against files and objects, looked at by no engine code
 * but the decoders.
 */
#ifndef TESTS_SIM_ROWS_H
#define TESTS_SIM_ROWS_H

#include "backend/backend.h"
#include "volume/meta.h"
#include "volume/volume.h"

/*
 * Of a pool that was closed: every SCO row counts as many live slots as page rows name, every SCO
 * named has a row and a file, or is on the backend, every file has a row, every page row decodes. Says
 * what does not.
 */
NODISCARD bool rows_agree(struct env *env, struct meta *meta, const struct pool_options *o);

/*
 * Of a pool that was closed: the maps that the newest root names have every row of STATE that is not
 * marked as changed, as it is, and no others of layers that still count; no row twice; and each SCO
 * that they name is in the root.
 */
NODISCARD bool maps_agree(struct backend *b, struct meta *meta);

/* Of a pool that was closed: whatever the root before the newest names is on the backend. */
NODISCARD bool root_before_is_whole(struct backend *b, struct meta *meta);

/* Of a pool without objects: no SCO on flash, none on the backend. */
NODISCARD bool nothing_left(struct backend *b, struct env *env, const struct pool_options *o);

#endif
