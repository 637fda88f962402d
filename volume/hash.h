/*
 * hash - uthash, whose HASH_ADD of an element that there is no memory for is not the end of the process.
 *
 * It then leaves the table as it was, and HASH_TOOK says so. Included instead of uthash.h, so that all
 * of a file means the same by HASH_ADD.
 */
#ifndef VOLUME_HASH_H
#define VOLUME_HASH_H

#ifdef UTHASH_H
#error "include volume/hash.h before uthash.h"
#endif

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Whether the HASH_ADD of this element that came last put it into its table. */
#define HASH_TOOK(element) ((element)->hh.tbl != NULL)

#endif
