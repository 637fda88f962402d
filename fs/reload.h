/*
 * reload - vpool.conf read again while the pool is mounted, for SIGHUP and `vpool config reload`.
 *
 * A file that is wrong is refused as a whole and everything stays as it is. Of one that is right, the
 * keys that may change live do, each with one line in the log; of the others the log says that they
 * need a new mount.
 */
#ifndef FS_RELOAD_H
#define FS_RELOAD_H

#include "common/err.h"

#include <jansson.h>

struct fs_session;
struct pool;
struct pool_setup;
struct reload;
struct scheduler;
struct trash_keeper;

/*
 * Owns:     all but the result is borrowed until reload_free(); session, scheduler and trash may be
 *           NULL.
 * Errors:   -ENOMEM.
 */
NODISCARD int reload_new(const struct pool_setup *setup, struct pool *pool,
			 struct fs_session *session, struct scheduler *scheduler,
			 struct trash_keeper *trash, struct reload **ret_reload, struct err *e);
void reload_free(struct reload *r);

/*
 * Read the file and change what may change.
 *
 * Owns:     *ret_changes is the caller's: an array of {section, key, from, to, applied}, of each key
 *           that the file says otherwise than what holds now. ret_changes may be NULL.
 * Errors:   as pool_setup_load(), with FILE:LINE; nothing is changed then, and the log has it.
 * Threads:  any.
 */
NODISCARD int reload_run(struct reload *r, json_t **ret_changes, struct err *e);

#endif
