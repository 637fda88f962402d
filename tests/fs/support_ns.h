/*
 * support_ns - a pool with a namespace in a directory of its own, and short words for what tests do
 * with it.
 */
#ifndef TESTS_FS_SUPPORT_NS_H
#define TESTS_FS_SUPPORT_NS_H

#include "fs/namespace.h"

#include <check.h>
#include <string.h>

struct ns_fixture {
	char root[512]; /* removed when the suite is over */
	char dir[600];
	struct pool_options pool_options;
	struct ns_options options;
	struct pool *pool;
	struct ns *ns;
};
extern struct ns_fixture nf;
/* What the last must() of this thread was told. */
extern __thread struct err t_err;

/* Each test gets an empty pool, opened. At its end the namespace is checked and all is closed. */
void ns_fixture_add(TCase *t);
/* Each test gets directories and options only: for tests whose processes work, one after the
 * other. (What runs a store has threads, and such a process can't be forked.) */
void ns_fixture_add_empty(TCase *t);
/* Close and open again, what is changed in nf.options counts. */
void ns_fixture_reopen(void);
void ns_fixture_close(void);
void ns_fixture_open(void);
/* Empty directories and options; a pool in them, not opened. */
void ns_fixture_prepare(void);
void ns_fixture_create(void);
/* No errors, no warnings; what is found fails the test. */
void ns_fixture_check(void);

#define must(call)                                                                                 \
	do {                                                                                       \
		int must_r_;                                                                       \
		t_err = (struct err){ 0 };                                                         \
		must_r_ = (call);                                                                  \
		ck_assert_msg(must_r_ >= 0, "%s: %d (%s): %s", #call, must_r_, strerror(-must_r_), \
			      t_err.message);                                                      \
	} while (0)
#define gives(call, code)                                                                          \
	do {                                                                                       \
		int gives_r_ = (call);                                                             \
		ck_assert_msg(gives_r_ == (code), "%s: %d (%s)", #call, gives_r_,                  \
			      strerror(-gives_r_));                                                \
	} while (0)

/* With names that end with NUL, root's rights, no counted look-up; 0 or negative. */
int t_mkdir(uint64_t parent, const char *name);
int t_create(uint64_t parent, const char *name);
int t_unlink(uint64_t parent, const char *name);
int t_rmdir(uint64_t parent, const char *name);
int t_link(uint64_t ino, uint64_t parent, const char *name);
int t_rename(uint64_t from, const char *name, uint64_t to, const char *new_name,
	     unsigned int flags);
/* The number behind a path; 0: none. */
uint64_t t_ino(const char *path);
struct ns_attr t_attr(uint64_t ino);
void t_write(uint64_t ino, uint64_t offset_bytes, const char *text);
/* Text of a file from its start, NUL added. Static storage. */
const char *t_read(uint64_t ino);

#endif
