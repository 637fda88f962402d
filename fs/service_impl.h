/*
 * service_impl - what the files of the service share. Private to service.
 */
#ifndef FS_SERVICE_IMPL_H
#define FS_SERVICE_IMPL_H

#include "fs/namespace.h"
#include "fs/service.h"

/* Documents of errors. Owns: the result. */
json_t *service_no_memory(void);
json_t *service_failed(int code, const struct err *e, const char *hint);
json_t *service_read_only(void);

/* {"path", "size_bytes", "allocated_bytes", "snapshots", "template", "parent", "parent_snapshot"}. NULL: no memory. */
json_t *service_file_document(const struct service_options *o, const char *path, size_t path_bytes,
			      const struct ns_attr *attr);

/* The same of a file by its number, with "inode"; or of an error. */
json_t *service_tell_file(const struct service_options *o, const struct ns_attr *attr);

/* --- service_snapshot.c ------------------------------------------------------------------------ */

/*
 * {"verb":"snapshot", "do": create (inos, name, comment, sticky), or of one file (ino) list, info,
 * delete (names), rename (name, to), rollback (name, force), sticky (name, on); prune (ino, of a
 * directory all files below it; dry_run), schedule}.
 */
json_t *service_snapshot(const struct service_options *o, const json_t *request);
/*
 * What service_snapshot() is asked for by "prune" (ino, of a directory all files below it; dry_run) and
 * by "schedule" (ino, every, keep, clear; none of these: only tells).
 */
json_t *service_prune(const struct service_options *o, const json_t *request);
json_t *service_schedule(const struct service_options *o, const json_t *request);
/* document["schedule"], ["schedule_from"], ["keep"], ["keep_from"], ["next_snapshot"]: what holds. */
NODISCARD int service_set_policy(const struct service_options *o, json_t *document,
				 const char *path, uint64_t ino, struct err *e);
/* --- service_scrub.c --------------------------------------------------------------------------- */

/* {"verb":"scrub", "do": start, cancel, status; look (dry run)}. */
json_t *service_scrub(const struct service_options *o, const json_t *request);
/* How the last one is or ended. NULL: no memory. */
json_t *service_scrub_status(const struct service_options *o);

/* {"verb":"clone", ino, snapshot (may be missing), parent (of the new file), name}. */
json_t *service_clone(const struct service_options *o, const json_t *request);
/* {"verb":"template", ino, on, force}. */
json_t *service_template(const struct service_options *o, const json_t *request);

/* --- service_trash.c --------------------------------------------------------------------------- */

/*
 * {"verb":"trash", "do": list; restore (item: a path or a number as text; parent, name: another place;
 * force); empty (all, older_seconds, or items [{name}]; dry_run)}.
 */
json_t *service_trash(const struct service_options *o, const json_t *request);
/* {"files", "allocated_bytes"} of what is in the trash. NULL: no memory. */
json_t *service_trash_summary(const struct service_options *o);

#endif
