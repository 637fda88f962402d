/*
 * hash - uthash, whose HASH_ADD of an element that there is no memory for is not the end of the process.
 *
 * It then leaves the table as it was, and HASH_TOOK says so. Included instead of uthash.h, so that all
 * of a file means the same by HASH_ADD.
 */
#ifndef COMMON_HASH_H
#define COMMON_HASH_H

#ifdef UTHASH_H
#error "include common/hash.h before uthash.h"
#endif

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Whether the HASH_ADD of this element that came last, by this handle, put it into its table. */
#define HASH_TOOK_BY(handle, element) ((element)->handle.tbl != NULL)
#define HASH_TOOK(element)	      HASH_TOOK_BY(hh, element)

#endif
