/* support_store - a store in memory some calls of which are the test's own. */
#ifndef TESTS_VOLUME_SUPPORT_STORE_H
#define TESTS_VOLUME_SUPPORT_STORE_H

#include "backend/backend_impl.h"
#include "backend/router.h"

/*
 * A backend over "mem:name" that tries once. One store with changed calls a process.
 *
 * change:     replaces calls of the table that it is given; what it replaced is in *ret_plain.
 * Owns:       closed by backend_close(); its objects stay until backend_mem_forget().
 */
struct backend *changed_mem_backend(const char *name, void (*change)(struct store_ops *ops),
				    const struct store_ops **ret_plain);

#endif
