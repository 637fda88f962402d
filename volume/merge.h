/*
 * merge - frozen layers without a name: one that nothing is on goes, one with a single layer on it is
 * merged into that, a bounded number of rows at a time, each step whole or not at all. FORMAT.md 10.9.
 */
#ifndef VOLUME_MERGE_H
#define VOLUME_MERGE_H

#include <stdint.h>

uint64_t merger_step(void *pool);

#endif
