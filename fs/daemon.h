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

struct daemon_options {
	const struct pool_setup *setup;
	const char *mountpoint; /* absolute */
	const char *extra;	/* more mount options, comma-separated; NULL: none */
	bool read_only, allow_other, debug;
	bool foreground; /* log to standard error by default; the end of its terminal stops */
	/* Called once the mount answers, from a thread of its own. */
	void (*ready)(void *arg);
	void *arg;
};

/* The log of a daemon in the background, unless the configuration names another one. */
#define DAEMON_LOG_NAME "vpool.log"

/*
 * Serve until the mount is unmounted, or a signal ends it.
 *
 * Owns:     options and what is in it are borrowed.
 * Errors:   of pool_open(), ns_open(), fs_session_open() with what was done; after the mount
 *           answered: what pool_close() says.
 * Threads:  the only thread of the process: signals are blocked here, the umask becomes 077.
 */
NODISCARD int daemon_run(const struct daemon_options *options, struct err *e);

#endif
