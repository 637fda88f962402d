/*
 * contract - one store, fresh for each test, and short words for what the contract suite does with
 * it. The functions named must_ fail the test.
 */
#ifndef TESTS_CONTRACT_SUPPORT_BACKEND_H
#define TESTS_CONTRACT_SUPPORT_BACKEND_H

#include "backend/backend_impl.h"

#include <check.h>
#include <limits.h>

#define MIB	     ((size_t)1 << 20)
#define THREAD_COUNT 8u
#define NAMES_MAX    64

struct variant {
	const char *title;
	const struct fault_plan *faults; /* NULL: no filter */
	enum backend_copy_mode copy_mode;
	bool is_file;
	/* A store of the network: the environment variable with its URL, set by run_with_swift. */
	const char *url_variable;
	const char *url_more; /* added to it; NULL: nothing */
	bool links;	      /* a put of a whole file shares it */
	bool no_put_if_absent;
};

struct contract {
	const struct variant *variant;
	struct env *env;
	char dir[PATH_MAX]; /* everything of this test lies below */
	char url[PATH_MAX + 32];
	struct backend *b;
	struct err e;
};
extern struct contract fx;

struct names {
	unsigned int count, stop_at;
	char *name[NAMES_MAX];
	uint64_t len_bytes[NAMES_MAX];
};

/* One client of the store of this test. */
struct backend *contract_client_open(void);
void contract_setup(const struct variant *variant);
void contract_teardown(void);
/* Bytes that differ from seed to seed and from place to place. */
uint8_t *contract_pattern(size_t len_bytes, uint32_t seed);
int contract_put(const char *name, const void *data, size_t len_bytes);
int contract_put_if_absent(const char *name, const void *data, size_t len_bytes);
void contract_must_put(const char *name, const void *data, size_t len_bytes);
/* The object has exactly these bytes. */
void contract_must_hold(struct backend *b, const char *name, const void *expected,
			size_t len_bytes);
void contract_must_be_absent(const char *name);
/* A file of the test's directory with these bytes. */
struct env_file *contract_source_file(const char *file_name, const void *data, size_t len_bytes,
				      char ret_path[PATH_MAX]);
void contract_names_done(struct names *n);
int contract_list(const char *prefix, const char *after, unsigned int count_max, struct names *n);
void contract_must_list(const char *prefix, const char *after, const char *const *expected,
			unsigned int count);

/* support_backend_names.c: tests of names and lists, of the store that the case's fixture opens. */
void contract_add_name_tests(TCase *tc);

#endif
