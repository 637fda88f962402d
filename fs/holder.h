/*
 * holder - the process that owns a mount: the channels to the kernel, and what the next worker has to
 * know of the one that died (resume.h). It starts the worker (daemon.h), which does all the work, and
 * starts the next one when that dies; the mount stays, and who uses it waits.
 *
 * A worker that exits ends the mount, unless it hands over (HOLDER_NEXT), and but for one that could not
 * even start where an earlier one had served: that is tried again, more and more slowly, until somebody
 * unmounts or tells the holder to stop. SIGTERM and the like are passed on to the worker. The worker
 * dies with the holder.
 *
 * After the first worker serves the holder allocates nothing.
 */
#ifndef FS_HOLDER_H
#define FS_HOLDER_H

#include "fs/fuse_session.h"
#include "fs/resume.h"

/* What a worker finds open when it starts. */
#define HOLDER_FD_SOCKET 3
#define HOLDER_FD_TABLE	 4
#define HOLDER_FD_REPORT 5 /* in the background, of the first one: where to tell how it went */

/* A worker's exit code: the next one goes on. */
#define HOLDER_NEXT 75

struct holder_options {
	const struct fs_mount_options *mount;
	char *const *argv; /* of the worker */
	int report_fd;	   /* -1: none */
	bool background;   /* let go of the terminal once there is a worker */
};

/*
 * Own a mount until it ends. In the process that the user knows: its exit code is the result.
 * Errors:   e tells what kept it from starting; then negative.
 * Threads:  the only one of the process.
 */
NODISCARD int holder_run(const struct holder_options *o, struct err *e);

/* --- between worker and holder ----------------------------------------------------------------- */

enum holder_word {
	HOLDER_MOUNT = 1, /* value: threads. Mount, if it is not; the answer brings the channels */
	HOLDER_SERVING,	  /* the mount answers; no answer */
	HOLDER_OVER,	  /* the mount is closed; no answer */
	HOLDER_PROGRAM,	  /* text: the program of the next worker; answered */
};
struct holder_message {
	uint32_t word, value;
	char text[4096];
};
struct holder_answer {
	int32_t code;
	uint32_t reserved;
	char text[ERR_MESSAGE_BYTES]; /* why not */
};

struct proto_channels;

/* For the holder. code: 0 or negative, with e; channels: they go along, NULL: none. */
void holder_answer(int socket, int code, const struct err *e,
		   const struct proto_channels *channels);

/* For the worker. */
/* The channels of the mount. Owns: the descriptors in ret_channels. Errors: as fs_session_open(). */
NODISCARD int holder_mount(unsigned int threads, struct proto_channels *ret_channels,
			   struct err *e);
void holder_tell(enum holder_word word);
/* Errors: -ENOENT, -EACCES and others of open(2). */
NODISCARD int holder_set_program(const char *path, struct err *e);

#endif
