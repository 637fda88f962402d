/*
 * grace - garbage that came all at once, for which writers are not stopped.
 *
 * Writers are slowed down so that what is dead on flash stays below a bound. A snapshot that is deleted
 * can put it far above, and cleaning takes its time. What live data lost is forgiven then, and less of
 * it from moment to moment, so that the cleaner gets its share of the disk and the space comes back.
 */
#ifndef VOLUME_GRACE_H
#define VOLUME_GRACE_H

#include "common/base.h"

struct grace {
	/* As of the last look; all zero: none yet. */
	uint64_t forgiven_bytes, live_bytes, bound_bytes, at_ns;
};

/*
 * At each count: garbage as counted, the bound for it, what lives, and the time (monotonic). Returns how
 * much of the garbage slows nobody down until the next one: 0 where it is but a little, of which
 * writers are rid in a moment. Never more than lets them go on from where the garbage is. What is there
 * at the first look is forgiven, too.
 */
uint64_t grace_look(struct grace *g, uint64_t garbage_bytes, uint64_t bound_bytes,
		    uint64_t live_bytes, uint64_t now_ns);

#endif
