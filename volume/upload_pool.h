/*
 * upload_pool - several SCOs on their way to the backend at the same time: threads that help whoever
 * runs an upload round. Without them (a pool that is checked, or closed) he does it all himself.
 */
#ifndef VOLUME_UPLOAD_POOL_H
#define VOLUME_UPLOAD_POOL_H

#include "common/err.h"
#include "volume/job.h"

struct pool;
struct sco;
struct upload_work;

struct upload_pool {
	struct job *helpers;
	unsigned int helper_count;

	struct mutex lock; /* leaf; guards all below */
	struct cond done;
	struct upload_work *work; /* of the round that runs; NULL: none */
};

void upload_pool_init(struct upload_pool *u);
/* As many helpers as the option uploads_max says, but one: that is the uploader. */
NODISCARD int upload_pool_start(struct pool *p);
/* No round runs. */
void upload_pool_stop(struct upload_pool *u);

/*
 * Put SCOs, several at a time, until all are on the backend or one failed; small ones share packs.
 * Changes their order. Upload lock held.
 *
 * claimed:  the caller claimed them all; else each is claimed when its turn comes, or passed over.
 * Owns:     *ret_taken: so many, the first ones, are claimed no more, whatever came of them.
 * Errors:   the first that a put says.
 */
NODISCARD int upload_pool_put(struct pool *p, struct sco **scos, size_t count, bool claimed,
			      size_t *ret_taken, struct err *e);

#endif
