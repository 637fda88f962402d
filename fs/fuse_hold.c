#include "fs/fuse_hold.h"

#include "common/thread.h"

#include <linux/fuse.h>
#include <stdlib.h>
#include <unistd.h>

struct kept {
	uint64_t unique;
	int fd;
};

static bool is_on;	  /* atomic */
static struct mutex lock; /* leaf; guards all below, and that is_on becomes false */
static bool is_over;
static struct kept *kept;
static unsigned int kept_count, kept_max;

static __thread bool keep_next, took;

int hold_open(unsigned int most)
{
	mutex_init(&lock, 0);
	kept = calloc(most, sizeof(*kept));
	kept_max = kept ? most : 0;
	kept_count = 0;
	is_over = false;
	__atomic_store_n(&is_on, false, __ATOMIC_SEQ_CST);
	return kept ? 0 : -ENOMEM;
}

void hold_close(void)
{
	if (!kept)
		return;
	__atomic_store_n(&is_on, false, __ATOMIC_SEQ_CST);
	free(TAKE_PTR(kept));
	kept_max = kept_count = 0;
	mutex_done(&lock);
}

void hold_begin(void)
{
	__atomic_store_n(&is_on, true, __ATOMIC_SEQ_CST);
}

bool hold_is_on(void)
{
	return __atomic_load_n(&is_on, __ATOMIC_SEQ_CST);
}

void hold_end(void)
{
	if (!kept)
		return;
	GUARD(&lock);
	__atomic_store_n(&is_on, false, __ATOMIC_SEQ_CST);
	is_over = true;
	for (unsigned int i = 0; i < kept_count; i++) {
		const struct fuse_out_header out = {
			.len = sizeof(out),
			.error = -EIO,
			.unique = kept[i].unique,
		};

		(void)!write(kept[i].fd, &out, sizeof(out)); /* who asked may be gone */
	}
	kept_count = 0;
}

void hold_next(bool keep)
{
	keep_next = keep;
}

bool hold_reply(int fd, uint64_t unique)
{
	if (!keep_next || !kept)
		return false;
	GUARD(&lock);
	if (is_over || kept_count == kept_max)
		return false;
	kept[kept_count++] = (struct kept){ .unique = unique, .fd = fd };
	took = true;
	return true;
}

bool hold_took(void)
{
	return took;
}

void hold_reset(void)
{
	took = false;
}
