/*
 * memory_env - an env whose one file, whatever its path, is a piece of memory: readers of files are
 * given an input. Clock and randomness stand still. Everything that writes fails with -EROFS.
 */
#ifndef TESTS_FUZZ_MEMORY_ENV_H
#define TESTS_FUZZ_MEMORY_ENV_H

#include "common/env.h"

/* Static storage; the file is what was set last, borrowed. */
struct env *memory_env(void);
void memory_env_set(const void *bytes, size_t len_bytes);

#endif
