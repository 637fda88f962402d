/*
 * clean_read - SCOs read ahead for the cleaner, by a job of its own, in windows: while one is moved
 * the next is on its way.
 */
#ifndef VOLUME_CLEAN_READ_H
#define VOLUME_CLEAN_READ_H

#include "volume/job.h"
#include "volume/sco_index.h"

/* Slots of a window. */
#define CLEAN_WINDOW_SLOTS 2048u
/* The one that is moved, and the one that is read meanwhile. */
#define CLEAN_WINDOWS 2u

/* Clusters of one entry of a log, all in one window. */
struct moving {
	uint64_t object, first_cluster;
	lsn_t lsn; /* the first mark that is not below it is that of the layer that has them */
	uint32_t slot, count;
};

/* What the log of a SCO says, by window, then by address. */
struct clean_log {
	struct moving *moving;
	size_t count, cap;
};

struct clean_window {
	struct sco *sco; /* referenced; NULL: free */
	uint32_t first_slot, count;
	uint8_t *bytes;	      /* CLEAN_WINDOW_SLOTS clusters; NULL while nothing is cleaned */
	struct clean_log log; /* with the first window of a SCO; who waits may take it */
	bool read;	      /* guarded by the reader's lock; then log, result and error are set */
	int result;
	struct err error;
};

/* Filled and emptied by one thread, the cleaner's; windows are a queue. */
struct clean_reader {
	struct sco_table *scos;
	struct sco_index *index;
	struct job job;
	struct mutex lock; /* unranked leaf */
	struct cond changed;
	struct clean_window windows[CLEAN_WINDOWS];
	unsigned int first, count; /* of the queue; the cleaner's own */
	unsigned int next;	   /* to be read; guarded by the lock */
	unsigned int unread;	   /* likewise: how many */
};

void clean_reader_init(struct clean_reader *r, struct sco_table *scos, struct sco_index *index);
NODISCARD int clean_reader_start(struct clean_reader *r);
/* After the cleaner. What is still in the queue is dropped. */
void clean_reader_stop(struct clean_reader *r);
void clean_reader_done(struct clean_reader *r);

bool clean_reader_is_full(const struct clean_reader *r);
/*
 * Have slots [first, first + count) of a SCO read, windows of a SCO in order; the queue is not full.
 * Errors:   -ENOMEM; of the read: in the window.
 */
NODISCARD int clean_reader_want(struct clean_reader *r, struct sco *s, uint32_t first_slot,
				uint32_t count);
/* The oldest window, once it and its checksums were read; NULL: the queue is empty. It stays there. */
struct clean_window *clean_reader_wait(struct clean_reader *r);
/* Take the oldest out of the queue. */
void clean_reader_drop(struct clean_reader *r);
/* Nothing to clean for now: drop all, give the memory back. */
void clean_reader_rest(struct clean_reader *r);

#endif
