/*
 * restart - a worker whose device failed a stream makes way for the next one, which writes to other
 * files what the ring still has. Requests that failed for it are not answered meanwhile
 * (fuse_hold.h).
 *
 * Not endlessly: each time after a longer pause, only when cache and pool directory take a file and
 * sync it, and not more than RESTARTS_MAX times in RESTARTS_NS, tries without success counted. Then
 * the errors are told, and it stays as it is until somebody acts. The history is in the holder's
 * table (resume.h). Damaged bytes are no reason: the next worker would find them again.
 */
#ifndef FS_RESTART_H
#define FS_RESTART_H

#include "fs/resume.h"

#define RESTARTS_MAX RESUME_RESTARTS
#define RESTARTS_NS  UINT64_C(600000000000)

struct fs_session;
struct pool;
struct restart;

/* --- the decision ------------------------------------------------------------------------------ */

/*
 * Whether to try, after a pause: of a worker that tried in vain so often.
 * Returns: the pause in nanoseconds; UINT64_MAX: no more.
 */
uint64_t restart_pause_ns(const struct resume_header *h, unsigned int tries, uint64_t now_ns);
/* Another one is about to start for such a reason; these cache directories failed. */
void restart_note(struct resume_header *h, uint32_t failed_dirs, uint64_t now_ns);

/* --- in a worker ------------------------------------------------------------------------------- */

/*
 * Watch the pool from now on. Owns: all three are borrowed; the session until restart_stop(), the others
 * until restart_free(). Errors: -ENOMEM, -EMFILE, -EAGAIN.
 */
NODISCARD int restart_start(struct resume_header *header, struct pool *pool,
			    struct fs_session *session, struct restart **ret_restart,
			    struct err *e);
/* No worker is called for any more. restart may be NULL, here and below. */
void restart_stop(struct restart *r);
/* The pool is closed. */
void restart_free(struct restart *r);

/* What comes of a stream that failed, for the status; "": nothing failed. */
const char *restart_outlook(const struct restart *r);

#endif
