/*
 * meta_trouble - a metadata store that meets a full disk or a bad one, as RocksDB does: after -EIO all
 * that writes fails until it is opened anew; after -ENOSPC until it has noticed that there is room.
 */
#ifndef TESTS_SIM_META_TROUBLE_H
#define TESTS_SIM_META_TROUBLE_H

#include "tests/sim/sim.h"
#include "volume/meta.h"

struct meta_trouble {
	struct sim *sim;
	uint32_t enospc_ppm, eio_ppm; /* of the calls that write; besides those by order */
	unsigned int calls_left;      /* that fail before it has noticed */
	int error;
};

/* Stands in front of the disk's calls from here on; zero ppm: none but by order (sim_fail_at()). */
void meta_trouble_begin(struct meta_trouble *t, struct sim *sim, struct meta_mem_disk *disk);
/* It was opened anew. */
void meta_trouble_forget(struct meta_trouble *t);

#endif
