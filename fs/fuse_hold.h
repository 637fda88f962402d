/*
 * fuse_hold - answers that are kept back: requests that failed because a device did, in a process
 * that is about to make way for the next one. The kernel sends there whatever was not answered
 * here, and there it may succeed (RESUME.md). Of one process, which serves one mount.
 *
 * Threads: any, unless it says so.
 */
#ifndef FS_FUSE_HOLD_H
#define FS_FUSE_HOLD_H

#include "common/base.h"

/* Room for so many; beyond that errors are told. Once, before the first request. Errors: -ENOMEM. */
NODISCARD int hold_open(unsigned int most);
/* No request is answered any more. What is kept stays unanswered. */
void hold_close(void);

/* From now on errors of devices are kept. Never waits. Nothing after hold_end(). */
void hold_begin(void);
bool hold_is_on(void);
/* It does not come to that: what is kept is answered with EIO, and nothing is kept any more. */
void hold_end(void);

/* --- around one answer, by the thread that gives it --------------------------------------------- */

/* The next one is an error that shall be kept; or no longer. */
void hold_next(bool keep);
/* For fuse_proto: true: it is kept, write nothing. */
bool hold_reply(int fd, uint64_t unique);
/* Whether one was kept since hold_reset(): its request is as if it had never been run. */
bool hold_took(void);
void hold_reset(void);

#endif
