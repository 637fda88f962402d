/*
 * daemon - the process behind a mount: pool, namespace, FUSE session, control socket, signals.
 *
 * Start: pool, namespace, session, control, threads; the end takes them down in the opposite order,
 * and before all that brings what was acknowledged to flash. SIGTERM and SIGINT are a clean stop.
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

#include "common/err.h"

struct pool_setup;
struct resume;

/* Under a holder: exit with this code, and the next process goes on (HOLDER_NEXT). */
#define DAEMON_HANDED_OVER 75

struct daemon_options {
	const struct pool_setup *setup;
	const char *mountpoint; /* absolute */
	const char *extra;	/* more mount options, comma-separated; NULL: none */
	bool read_only, allow_other, sync_names, debug;
	bool foreground; /* log to standard error by default; the end of its terminal stops */
	/* Of a worker whose mount a holder keeps (holder.h); NULL: it mounts itself. */
	struct resume *resume;
	/* Called once the mount answers, from a thread of its own. */
	void (*ready)(void *arg);
	void *arg;
};

/* The log of a daemon in the background, unless the configuration names another one. */
#define DAEMON_LOG_NAME "vpool.log"

struct fs_mount_options;
/* What a holder needs to mount. Owns: what it points to is borrowed. */
void daemon_mount_options(const struct daemon_options *o, struct fs_mount_options *ret_mount);

/*
 * Serve until the mount is unmounted, or a signal ends it.
 *
 * Owns:     options and what is in it are borrowed.
 * Returns:  0, or DAEMON_HANDED_OVER.
 * Errors:   of pool_open(), ns_open(), fs_session_open() with what was done; after the mount
 *           answered: what pool_close() says.
 * Threads:  the only thread of the process: signals are blocked here, the umask becomes 077.
 */
NODISCARD int daemon_run(const struct daemon_options *options, struct err *e);

#endif
