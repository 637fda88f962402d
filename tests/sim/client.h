/* client - a process's operations on the objects of the world. Private to tests/sim/. */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "tests/sim/world_impl.h"

#define CLIENT_SEED_STEPS                                                                          \
	300u /* at least, over all processes of a seed: the last one makes up for the others */

/* As many steps as the seed wants; all objects are closed then. */
void client_live(struct world *w);
/* A short life behind a power cut: LSNs that were given up are used again, and the leftovers that
 * had them are still there when it ends. The other objects are looked at by the next process. */
void client_live_hastily(struct world *w);

#endif
