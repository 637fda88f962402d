/*
 * policy - which schedule of snapshots, and which rule of what is kept, holds for which file.
 *
 * Each of the two is an extended attribute of a file or a directory, so it goes with it through renames,
 * restarts and a restore. A file without it has that of the nearest directory above it (by the path that
 * is told of a file with several names), else that of vpool.conf. What cannot be read counts as missing.
 */
#ifndef FS_POLICY_H
#define FS_POLICY_H

#include "fs/retention.h"
#include "fs/schedule.h"

struct ns;

#define POLICY_SCHEDULE "user.vpool.snapshot_schedule"
#define POLICY_KEEP	"user.vpool.keep"
/* A value, with a NUL behind it. */
#define POLICY_VALUE_BYTES 256u

struct policy {
	struct schedule schedule;
	struct retention keep;
};

/* All attributes of a pool, as of a moment. */
struct policies;

/*
 * Owns:     the result, freed by policies_free().
 * Errors:   of ns_xattr_each(), ns_path_of(); -ENOMEM.
 */
NODISCARD int policies_load(struct ns *ns, const struct policy *fallback,
			    struct policies **ret_policies, struct err *e);
void policies_free(struct policies *p);
/* Whether there is a schedule that is not off. */
bool policies_any(const struct policies *p);

struct policy_found {
	struct policy policy;
	/* Path of the file or directory that has it; NULL: vpool.conf. As long as the policies. */
	const char *schedule_from, *keep_from;
};
/* Of a file or directory, by its path and number. */
void policies_find(const struct policies *p, const char *path, uint64_t ino,
		   struct policy_found *ret_found);

#endif
