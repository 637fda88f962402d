/*
 * service - what a pool that is open answers to the verbs of the command: status, list, info, sync,
 * stats. The daemon's control socket asks it, and a command on a pool that is not mounted, which
 * then opens the pool itself.
 */
#ifndef FS_SERVICE_H
#define FS_SERVICE_H

#include "fs/policy.h"

#include <jansson.h>

struct fs_session;
struct ns;
struct pool;
struct reload;
struct restart;
struct scheduler;
struct service;
struct trash_keeper;

struct service_options {
	struct pool *pool;
	struct ns *ns;
	const char *pool_dir;
	const char *mountpoint;	     /* NULL: not mounted */
	struct fs_session *session;  /* NULL: the kernel knows nothing of it */
	struct reload *reload;	     /* NULL: no settings to read again */
	struct scheduler *scheduler; /* NULL: no snapshots by schedule, nothing of it changes */
	struct trash_keeper *trash;  /* NULL: nothing of the trash expires meanwhile */
	struct policy policy;	     /* of snapshots, where there is no scheduler that knows it */
	bool read_only;
	pid_t holder;		       /* who owns the mount; 0: this process */
	uint32_t workers;	       /* that it started so far */
	uint32_t restarts;	       /* of them, because a device had failed the one before */
	const struct restart *restart; /* NULL: there is no next one */
};

/* Owns: all options are borrowed until service_free(). Errors: -ENOMEM, -EMFILE. */
NODISCARD int service_new(const struct service_options *options, struct service **ret_service,
			  struct err *e);
void service_free(struct service *s);

/*
 * Answer {"verb": ...}: status, list, info (ino), snapshot, clone, template, trash, scrub (service_impl.h),
 * sync, stats,
 * reload, upgrade (program), and of a daemon that is about to
 * be unmounted leave (mountpoint, upload, cancel) and end. A control_handler: fd is the connection,
 * -1: none.
 */
json_t *service_answer(void *service, const json_t *request, int fd);

/* The mount is gone: the namespace is asked no more after this returned, the pool still is. */
void service_unmounted(struct service *s);

/* Whether `leave` asked for an upload at the end. */
bool service_uploads_at_end(struct service *s);

/*
 * If `leave` asked for it, bring what is dirty to the backend; a backend that does not answer ends
 * it. What is left waits for the next mount; it is safe on flash. After service_unmounted().
 */
void service_upload_at_end(struct service *s);

/* Nothing asks the pool any more after this returned, so that it can be closed. */
void service_closing(struct service *s);

/* The pool is closed (r, e: how): tell whoever waits in `end`. */
void service_last_words(struct service *s, int r, const struct err *e);

#endif
