/*
 * allocs - what the engine allocates, call by call.
 *
 * vpool_sim is linked with copies of the engine's libraries whose malloc() and the like, and free(),
 * are those of allocs.c (tests/CMakeLists.txt, allocs.syms). What the simulator, the C library and
 * the libraries of others allocate is not seen here.
 */
#ifndef TESTS_SIM_ALLOCS_H
#define TESTS_SIM_ALLOCS_H

#include "common/base.h"

/* Have fn asked at each allocation whether it fails; it may fork. name: of the function that was
 * called; from: where, in the file of the program, for addr2line. fn NULL: nobody, and none fails. */
void allocs_watch(bool (*fn)(void *arg, const char *name, uint64_t from), void *arg);

/* From now on note what is allocated and not freed. */
void allocs_note(void);
/* What is allocated from now on is behind this mark. */
uint64_t allocs_mark(void);
/* How many of what was allocated behind the mark are not freed; each is told on stderr. */
size_t allocs_left(uint64_t mark);
/* free() of what the engine allocated for its caller. */
void allocs_free(void *p);

#endif
