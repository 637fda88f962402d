/*
 * resume - what the next worker of a mount has to know of the one that died: a table in shared memory
 * that the holder keeps (a memfd). It has the INIT request of the mount, and one slot for each request
 * that must not take effect twice and is not answered yet. fs/RESUME.md has the argument.
 *
 * A slot is taken before its request is run and given back after its answer was written. So a request
 * that the kernel sends again was run by an earlier worker only if a slot has its number; how far it
 * came then stands in the slot's witness (a WRITE), or in a row of the namespace, put by the very
 * commit (all else).
 *
 * Slots: each request that has one also has a receive buffer, so there are no more than those; and as
 * many again, for those of an earlier worker that were not sent again yet. Should there be none, a
 * request is run without: fuse.untracked_changes counts them.
 *
 * Knows no FUSE but the number of a request. Threads: any, but for open and settle.
 */
#ifndef FS_RESUME_H
#define FS_RESUME_H

#include "common/thread.h"
#include "volume/volume.h"

/* Set in the number of a request that the kernel sends again. */
#define RESUME_RESENT	      (UINT64_C(1) << 63)
#define RESUME_INIT_BYTES_MAX 512u
#define RESUME_RESTARTS	      5u

struct resume_slot {
	uint64_t unique; /* of its request, without RESUME_RESENT; 0: free */
	uint32_t
		unclaimed; /* it is an earlier worker's, and the kernel did not send it again yet */
	uint32_t reserved;
	struct volume_witness witness;
	uint64_t padding[3];
};
STATIC_ASSERT(sizeof(struct resume_slot) == 64, "slots don't share cache lines");

struct resume_header {
	uint64_t magic; /* last, when all else is there */
	uint32_t version;
	uint32_t slot_count;
	uint64_t session; /* random: says which mount an answer is of */
	int32_t holder;	  /* its process id */
	uint32_t workers; /* that were started */
	/* The INIT request as it came. answered is set after its answer was written: from then on the
	 * connection can be taken over. */
	uint32_t init_bytes, init_answered;
	uint8_t init[RESUME_INIT_BYTES_MAX];
	/* This worker was sent a request for the first time, so all that are sent again came before. */
	uint32_t drained;
	/* Of the worker before: how it ended (as waitpid(2) says), when (CLOCK_MONOTONIC). */
	int32_t last_status;
	uint64_t ended_ns;
	/* Of workers that made way because a device had failed (restart.h): how many, when the
	 * last few of them did (CLOCK_MONOTONIC), and which cache directories failed. Zero in a
	 * table of an older holder. */
	uint32_t restarts, failed_dirs;
	uint64_t restart_ns[RESUME_RESTARTS];
};

struct resume {
	struct resume_header *header;
	struct resume_slot *slots;
	size_t map_bytes;
	struct mutex lock; /* leaf; guards the two below */
	uint32_t *free_slots;
	uint32_t free_count;
};

/* A new table in a memfd. Owns: the result. Errors: -ENOMEM, and of memfd_create(2). */
NODISCARD int resume_make(uint32_t slot_count, int *ret_fd, struct err *e);
/* Map one and take what an earlier worker left into account. Owns: fd stays the caller's; ret_resume is
 * freed by resume_close(). Errors: -EUCLEAN, -EPROTONOSUPPORT it is none of ours; -ENOMEM. */
NODISCARD int resume_open(int fd, struct resume **ret_resume, struct err *e);
void resume_close(struct resume *r);

/* The holder mounted anew: nothing that an earlier worker left counts any more. */
void resume_forget(struct resume_header *header);
/* Whether there is a mount to be taken over, not one to be begun. */
bool resume_is_taken_over(const struct resume *r);

/*
 * Take a slot for a request that is about to be run. *ret_known: an earlier worker had run it, or begun
 * to. NULL: it is run untracked.
 */
struct resume_slot *resume_begin(struct resume *r, uint64_t unique, bool *ret_known);
/* It is answered. slot may be NULL. */
void resume_end(struct resume *r, struct resume_slot *slot);
/* A request came that the kernel had not sent before. Cheap. */
void resume_drained(struct resume *r);

/* Which slot it is. */
uint64_t resume_slot_number(const struct resume *r, const struct resume_slot *slot);
/* Of all writes that an earlier worker did not answer; freed by the caller. Errors: -ENOMEM. */
NODISCARD int resume_witnesses(const struct resume *r, struct volume_witness ***ret_witnesses,
			       size_t *ret_count);

/*
 * Before the kernel is told to send again: free the slots of requests that were answered, as is_open
 * tells of a number (with RESUME_RESENT or without) that was read and not answered. Returns how many
 * slots are left.
 */
unsigned int resume_settle(struct resume *r, bool (*is_open)(void *arg, uint64_t unique),
			   void *arg);

#endif
