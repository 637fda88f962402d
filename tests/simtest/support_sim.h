/*
 * What the tests of the simulated disks share: whole files by pattern, and runs in a process.
 */
#ifndef TESTS_SIMTEST_SUPPORT_SIM_H
#define TESTS_SIMTEST_SUPPORT_SIM_H

#include "tests/sim/sim.h"

#define MIB (UINT64_C(1) << 20)

/* A machine with "/pool" (16 MiB) and "/dev/shm" (4 MiB, tmpfs). */
struct sim *machine_new(uint64_t seed);

/* Open or fail the test. */
struct env_file *open_file(struct env *env, const char *path, unsigned int flags);
bool exists(struct env *env, const char *path);

/* 4 KiB pages filled with one byte; aligned memory. */
uint8_t *page_of(uint8_t fill);
void write_pages(struct env *env, struct env_file *f, uint64_t first, unsigned int count,
		 uint8_t fill);
/* 0..255: all bytes of the page are that; -1 mixed by sectors; -2 mixed within a sector. */
int page_fill(struct env *env, struct env_file *f, uint64_t index);

/* Create, fill with pages, sync what is asked for and close. */
enum sync_what { SYNC_NOTHING = 0, SYNC_DATA = 1, SYNC_NAME = 2, SYNC_BOTH = 3 };
void make_file(struct env *env, const char *path, unsigned int pages, uint8_t fill,
	       enum sync_what what);

#endif
