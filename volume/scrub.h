/*
 * scrub - a scrub that was asked for (volume.h), as a job that makes the others do their work to the
 * end: upload rounds, the cleaner, and upload rounds again, until nothing is left that they can do.
 * Private.
 *
 * It has no state besides what these have: a SCO whose live data was moved dies with the next
 * checkpoint, its object with the second root behind that, whether the scrub still runs or not.
 */
#ifndef VOLUME_SCRUB_H
#define VOLUME_SCRUB_H

#include "common/thread.h"
#include "volume/volume.h"

struct sco;

struct scrub {
	struct mutex lock; /* unranked leaf; guards what follows, to status */
	bool cancelled;
	struct pool_scrub_status base; /* counters when it began */
	struct pool_scrub_status
		status; /* when it ended; while it runs only phase, times, trouble */

	bool cleaning; /* atomic: the cleaner takes all it can, and says when there is no more */
	/* The scrubber's own: */
	int64_t began; /* of the one whose rounds those are */
	unsigned int passes, rounds, roots;
	uint64_t cleaned_before, repacked_before;
};
void scrub_init(struct scrub *s);

uint64_t scrubber_step(void *pool);

/* How much the cleaner is to leave. */
enum scrub_level {
	SCRUB_LEVEL_USUAL, /* what clean_target says */
	SCRUB_LEVEL_HOURS, /* SCRUB_HOURS_PERCENT */
	SCRUB_LEVEL_ALL,   /* nothing that is worth moving */
};
enum scrub_level scrub_level(struct pool *p);
/* The cleaner found nothing more, or failed with this. */
void scrub_cleaned(struct pool *p, int error);

/* Whether its death gives flash back: not of one that is the backend's object, too. */
bool scrub_takes_flash(const struct sco *s);

#endif
