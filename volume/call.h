/*
 * call - calls that somebody waits for and that take FAMILY_CHANGE or CHECKPOINT: snapshots, clones,
 * deletions. Mutexes are not fair: whoever takes one again at once, as the merger does for hours where a
 * big layer goes, keeps all others out. So such background work asks here before each step. Private.
 */
#ifndef VOLUME_CALL_H
#define VOLUME_CALL_H

#include "volume/pool_impl.h"

static inline struct pool *call_begin(struct pool *p)
{
	(void)__atomic_add_fetch(&p->calls, 1, __ATOMIC_RELAXED);
	return p;
}

static inline void call_endp(struct pool **p)
{
	(void)__atomic_sub_fetch(&(*p)->calls, 1, __ATOMIC_RELAXED);
}

/* Until the end of the block; before its GUARDs, so that it is over behind them. */
#define CALL(p) struct pool *call_of_block AUTO(call_endp) UNUSED = call_begin(p)

/* Whether one waits or runs. */
static inline bool call_waits(const struct pool *p)
{
	return __atomic_load_n(&p->calls, __ATOMIC_RELAXED) != 0;
}

#endif
