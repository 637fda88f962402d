/*
 * cli_make - what `create` and `restore` share: a new or empty directory becomes a pool with its
 * vpool.conf. What fails leaves nothing behind.
 */
#ifndef FS_CLI_MAKE_H
#define FS_CLI_MAKE_H

#include "fs/cli.h"
#include "fs/pool_setup.h"

/* What a call made and would have to undo. */
struct cli_made {
	const char *dir;
	bool made_dir;
	bool began;
};

/* The configuration that the options say. Errors: what they have wrong. */
NODISCARD int cli_make_config(const struct cli *c, struct config *config, struct err *e);
/* Errors: -EEXIST a pool is there, -ENOTEMPTY, -ENOENT no parent; what the system says. */
NODISCARD int cli_make_dir(struct cli_made *m, struct err *e);
/* Remove all that is in the directory, and it too if it was made. */
void cli_make_undo(const struct cli_made *m);
/*
 * Write the configuration and have the engine make the pool in the directory. Cache directories that
 * lie elsewhere are left as they were found when it fails.
 * Owns: *ret_setup, freed by pool_setup_free().
 */
NODISCARD int cli_make_pool(const char *dir, const struct config *config,
			    int (*fill)(void *arg, const struct pool_options *o, struct err *e),
			    void *arg, struct pool_setup **ret_setup, struct err *e);

#endif
