/*
 * trash_keeper - the thread of a daemon that removes from the trash what was there for long enough.
 */
#ifndef FS_TRASH_KEEPER_H
#define FS_TRASH_KEEPER_H

#include "common/config.h"

struct ns;
struct trash_keeper;

/* Owns: ns is borrowed until trash_keeper_stop(). Errors: -ENOMEM, -EAGAIN. */
NODISCARD int trash_keeper_start(struct ns *ns, const struct config *config,
				 struct trash_keeper **ret_keeper, struct err *e);
/* NULL: nothing happens. */
void trash_keeper_stop(struct trash_keeper *k);
/* The settings changed: `trash` holds for what is removed from now on, `trash_keep` for all. */
void trash_keeper_change(struct trash_keeper *k, const struct config *config);
uint64_t trash_keeper_keep_ns(struct trash_keeper *k);

#endif
