/*
 * pool_setup - a pool's vpool.conf turned into what the engine takes.
 *
 * Paths in the file are absolute, or relative to the pool directory.
 */
#ifndef FS_POOL_SETUP_H
#define FS_POOL_SETUP_H

#include "common/config.h"
#include "fs/policy.h"
#include "volume/volume.h"

#define POOL_CONF_NAME "vpool.conf"
/* It is there while a pool is restored. */
#define POOL_RESTORING_NAME "restore.unfinished"

struct pool_setup {
	char *dir; /* absolute */
	struct config config;
	char *cache_path[CONFIG_LIST_MAX];
	struct pool_options options; /* its strings are those above */
	struct policy policy;	     /* of snapshots, where nothing else says */
	bool resumed;		     /* the mount outlived the process before: see namespace.h */
};

/* Whether a directory looks like a pool: its configuration or its metadata is there. */
bool pool_setup_is_pool(const char *dir);
/* Whether it is what a restore left that was cut off, or is under way. */
bool pool_setup_is_restoring(const char *dir);

/*
 * Read DIR/vpool.conf.
 *
 * Owns:     dir is copied, absolute; the result is freed by pool_setup_free().
 * Errors:   -ENOENT no pool, or no vpool.conf in it;
 *           -ELOOP something below DIR is a symbolic link; -EUCLEAN its restore did not end;
 *           -EINVAL, -ERANGE with FILE:LINE; what the reader of the file says.
 */
NODISCARD int pool_setup_load(const char *dir, struct pool_setup **ret_setup, struct err *e);

/* The same from a configuration in memory. Errors: -ENOMEM, -EINVAL. */
NODISCARD int pool_setup_new(const char *dir, const struct config *config,
			     struct pool_setup **ret_setup, struct err *e);

void pool_setup_free(struct pool_setup *s);

struct ns;

/* Say in e which process has the pool, and where it is mounted; returns -EBUSY. */
int pool_setup_tell_busy(const char *dir, struct err *e);

/*
 * Open the pool and its namespace.
 * Owns:     both are closed by pool_setup_close(); s must outlive them.
 * Errors:   as pool_open() and ns_open(); -EBUSY says which process has it, and where it is mounted.
 */
NODISCARD int pool_setup_open(const struct pool_setup *s, struct pool **ret_pool,
			      struct ns **ret_ns, struct err *e);
/* Errors: as pool_close(). ns may be NULL. */
NODISCARD int pool_setup_close(struct pool *pool, struct ns *ns, struct err *e);

/* Whether path is dir or lies in it; both absolute and resolved. */
bool path_is_inside(const char *path, const char *dir);

#endif
