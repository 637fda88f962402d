/*
 * query - a question of a verb to the pool that TARGET names: to its daemon, or, where the pool is
 * not mounted and the verb can do without, to the pool itself, opened for the moment.
 */
#ifndef FS_QUERY_H
#define FS_QUERY_H

#include "fs/cli.h"
#include "fs/target.h"

enum query_flags {
	QUERY_OFFLINE = 1 << 0, /* open a pool that is not mounted */
};

/*
 * Owns:     request is taken; *ret_answer is the caller's, and is never an error document.
 * Returns:  CLI_DONE, or the exit code of an error that was told.
 */
NODISCARD int query_target(const struct cli *c, const struct target *target, json_t *request,
			   unsigned int flags, json_t **ret_answer);

/* Find a file inside a mount, and tell if it is none, with hint (may be NULL). Returns as above. */
NODISCARD int query_file(const struct cli *c, const char *path, const char *hint,
			 struct target *ret_target, uint64_t *ret_ino);

/* Find the directory, in a mount, of a file that is to be made, and the name there (into path). Returns
 * as above. */
NODISCARD int query_place(const struct cli *c, const char *path, struct target *ret_target,
			  uint64_t *ret_parent, const char **ret_name);

/* Find what c->args[0] names, and tell if there is none. Returns as above. */
NODISCARD int query_find(const struct cli *c, struct target *ret_target);

#endif
