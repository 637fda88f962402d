/*
 * parallel - work that falls into independent pieces, on several threads at once.
 */
#ifndef COMMON_PARALLEL_H
#define COMMON_PARALLEL_H

#include <stddef.h>

#define PARALLEL_THREADS_MAX 16u

/*
 * Call fn(arg, i) once for each i below count, on at most that many threads, the caller's among them,
 * in no order. Returns when all calls have. Where threads cannot be started those that are there do it.
 */
void parallel_each(unsigned int threads, size_t count, void (*fn)(void *arg, size_t i), void *arg);

#endif
