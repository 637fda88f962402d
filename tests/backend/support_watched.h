/*
 * watched - a directory store in a fresh directory, on an environment that notes every call and
 * fails those that the test names.
 */
#ifndef TESTS_BACKEND_SUPPORT_WATCHED_H
#define TESTS_BACKEND_SUPPORT_WATCHED_H

#include "backend/backend_impl.h"

#include <ftw.h>
#include <limits.h>

#define TRACE_BYTES 16384u

struct watched {
	struct env env;
	struct env_ops ops;
	const struct env_ops *real;
	unsigned int calls, fail_at; /* the fail_at-th call fails with fail_code; 0: none */
	int fail_code;
	const char *fail_call; /* this call always fails with fail_code; NULL: none */
	bool quiet;	       /* do not count, fail or trace: the test itself looks */
	unsigned int unsynced; /* writes to files since the last fdatasync */
	char trace[TRACE_BYTES];

	char dir[PATH_MAX], root[PATH_MAX + 16], url[PATH_MAX + 32];
	struct backend_options options;
	struct store *s;
	struct err e;
};
extern struct watched fx;

void watched_calm(void);
int watched_open_store(void);
void watched_setup(void);
void watched_teardown(void);
void watched_reopen(void);
/* Paths of files below the root, for looking and meddling by hand. */
const char *watched_at_root(const char *relative);
bool watched_is_there(const char *relative);
void watched_make_file(const char *relative);
int watched_put(const char *name, const char *text, unsigned int flags);
/* What an object holds, "" if there is none. The result is good until the next call. */
const char *watched_held(const char *name);
unsigned int watched_tmp_count(void);
const char *watched_all_names(void);
struct env_file *watched_source_file(const char *text, char *ret_path, size_t path_bytes);
/* For lists: adds the name and a blank to the string arg of at least 1000 bytes. */
int watched_join_name(void *arg, const char *name, const struct backend_object *object);
/* For nftw(): removes what it is shown. */
int watched_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw);

#endif
