/*
 * world - one seed: a pool on simulated devices, clients that write and sync, crashes, and a model
 * that knows what must be there afterwards.
 *
 * After a kill every acknowledged operation is there; the one in flight may be there, not, or in
 * part (byte by byte old or new; a truncation whole or not at all). After a power cut each object
 * is at one point of its own history, not before its last sync; the next operation may be there in
 * part. Every byte carries object, address and generation, so mixed-up data is seen.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/sim.h"

#define WORLD_CURRENT 65536u

/* Over all seeds; in shared memory, changed atomically. */
struct world_totals {
	uint64_t passed;
	uint64_t power_cuts, kills, in_recovery, machines_lost;
	uint64_t opens, opens_failed; /* that were tried with a call that fails */
	uint64_t kept, dropped, torn, reordered, late;
	uint64_t eio, enospc, backend_faults;
	uint64_t steps, writes, syncs, truncates, zeroes, shares, class_changes, deletes;
	uint64_t snapshots, rollbacks, clones, templates, scrubs, scrubs_done;
	uint64_t checkpoints, roots, scos_deleted, scos_uploaded, scos_resealed;
	uint64_t scos_evicted, fetches;
	uint64_t clean_clusters, clean_frozen_clusters, resolved_pages, merges_raced,
		trimmed_clusters;
	uint64_t current[WORLD_CURRENT]; /* seed that a child runs, by its process id */
};

/* Run a seed; a failure is told on stderr and ends the process. totals may be NULL. Returns the
 * fingerprint of the run. */
uint64_t world_run(uint64_t seed, struct world_totals *totals, bool verbose);

/*
 * Run a seed up to the start of one of its processes, and begin that again and again: the k-th call of
 * the open fails, for every k, once or as long as a disk is full, which may go on or kill it; then
 * others that fail somewhere, kills and power cuts, and last one that is left in peace, after which all
 * must be there. At most calls_max calls; 0: all of them.
 */
void world_run_opens(uint64_t seed, struct world_totals *totals, unsigned int calls_max);

#endif
