/*
 * sco_make - the two ends of a SCO's life on flash: making a new one, sealing a full one.
 */
#ifndef VOLUME_SCO_MAKE_H
#define VOLUME_SCO_MAKE_H

#include "volume/sco.h"

struct stream_world;

struct sco_make_options {
	uint32_t stream;
	bool urgent;	     /* may use the reserve of the disk */
	bool prewritten;     /* the stream syncs often: out of the stock, if there is any */
	bool first_of_epoch; /* its header names the cut below */
	uint64_t cut_sco;
	uint32_t cut_batches;
	lsn_t cut_lsn;
};

/*
 * Make a SCO: a number never used before, a file, its header written (not yet durable: the first
 * group commit that touches it syncs file and name).
 * Errors:   -EAGAIN no room; else what flash says.
 * Owns:     the result has one reference for the caller.
 */
NODISCARD int sco_make(struct stream_world *w, const struct sco_make_options *o,
		       struct sco **ret_sco, struct err *e);

#define SCO_SEAL_MAX 16u
struct sco_to_seal {
	struct sco *sco;
	lsn_t durable_lsn; /* of the stream, as known now; replay takes it for a promise */
};

/*
 * Put the index behind the data of each of up to SCO_SEAL_MAX FULL SCOs whose batches are all durable,
 * cut the files to their length, sync them together; then they are SEALED.
 * Errors:   the first one; a SCO that is not SEALED afterwards is FULL and may be tried again.
 * Threads:  one caller at a time for one SCO.
 */
NODISCARD int sco_seal(struct stream_world *w, const struct sco_to_seal *scos, unsigned int count,
		       struct err *e);

struct sco_copy {
	struct sco *sco;
	lsn_t durable_lsn; /* as for sco_seal() */
	/* On return: */
	bool done;
	uint32_t old_version, old_dir;
	uint64_t old_bytes;
};

/*
 * Copy each of up to SCO_SEAL_MAX LEFTOVERs into a new file, version + 1, same number and slots, sealed;
 * they are synced together. The caller removes the old file of each that is done once the new one is in
 * a durable checkpoint.
 * Errors:   the first one; a SCO that is not done is a LEFTOVER as before.
 * Threads:  as sco_seal().
 */
NODISCARD int sco_reseal(struct stream_world *w, struct sco_copy *copies, unsigned int count,
			 struct err *e);

/* Memory aligned for direct I/O; freed by free(). */
void *direct_alloc(size_t len_bytes);

#endif
