/*
 * support_env - a fresh directory, two files and a patterned memory for tests of the real env, and
 * ways to make the kernel refuse what it would otherwise do.
 */
#ifndef TESTS_COMMON_SUPPORT_ENV_H
#define TESTS_COMMON_SUPPORT_ENV_H

#include "common/env.h"

#define BLOCK	  ENV_DIRECT_ALIGN
#define MEM_BYTES ((size_t)64 * BLOCK)

struct env_fixture {
	struct env *env;
	char dir[32];
	char path_a[64], path_b[64]; /* in dir, not there yet */
	struct env_file *a, *b;	     /* NULL until opened; closed by the end */
	uint8_t *mem;		     /* MEM_BYTES of a pattern, aligned */
	uint8_t *back;		     /* as much, zero */
};
extern struct env_fixture fx;

/* For tcase_add_checked_fixture(). */
void env_fixture_begin(void);
void env_fixture_end(void);

/* Open, and make if need be, for reading and writing. */
void env_fixture_open_a(unsigned int more_flags);
void env_fixture_open_b(unsigned int more_flags);

uint64_t env_fixture_size_of(struct env_file *f);

/*
 * Files may grow to this and no further; what goes beyond comes back short, then fails. For the
 * rest of the process: only in a test that runs forked.
 */
void env_fixture_limit_file_size(uint64_t bytes);

/* Let a system call fail as if the kernel or a container forbade it. Only in a forked test. */
void env_fixture_forbid(long syscall_number, uint32_t error);

/* The same, only where its fourth argument, an offset, has this value. */
void env_fixture_forbid_offset(long syscall_number, uint32_t offset, uint32_t error);

#endif
