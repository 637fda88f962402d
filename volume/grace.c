#include "volume/grace.h"

/* After so long a third is left of what was forgiven. So where something is deleted all the time, no
 * more is forgiven than what goes in it. */
#define GRACE_NS UINT64_C(10000000000)
#define STEP_NS	 (GRACE_NS / 1000)
/* Of live data: what is forgiven at all is more than that; less is waited for. */
#define GRACE_PART 2u
/* Of live data: so much may be added to garbage that was forgiven. */
#define ROOM_PART 8u

uint64_t grace_look(struct grace *g, uint64_t garbage_bytes, uint64_t bound_bytes,
		    uint64_t live_bytes, uint64_t now_ns)
{
	uint64_t most = less_u64(garbage_bytes + live_bytes / ROOM_PART, bound_bytes);
	uint64_t thousandths = min_u64(now_ns - g->at_ns, GRACE_NS) / STEP_NS;

	if (g->at_ns == 0) {
		g->forgiven_bytes = most;
	} else {
		g->forgiven_bytes -= g->forgiven_bytes / 1000 * thousandths;
		g->forgiven_bytes += less_u64(g->live_bytes, live_bytes);
		g->forgiven_bytes += less_u64(g->bound_bytes, bound_bytes);
		g->forgiven_bytes = min_u64(g->forgiven_bytes, most);
	}
	g->live_bytes = live_bytes;
	g->bound_bytes = bound_bytes;
	/* Looks may follow each other faster than anything is taken off. */
	g->at_ns = thousandths == GRACE_NS / STEP_NS ? now_ns : g->at_ns + thousandths * STEP_NS;
	return g->forgiven_bytes > live_bytes / GRACE_PART ? g->forgiven_bytes : 0;
}
