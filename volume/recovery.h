/*
 * recovery - from what a dead process or a power cut left to a pool that serves. Private.
 *
 * Per stream: (1) scan: which SCOs there are, which of their batches are whole, which entries they
 * hold above the checkpoint; (2) ring: what is only there is written, under its old LSNs, to a new
 * SCO of this epoch; (3) replay: all of it in LSN order into the map. The argument: FORMAT.md 10.
 */
#ifndef VOLUME_RECOVERY_H
#define VOLUME_RECOVERY_H

#include "volume/pool_impl.h"

/* An entry to be applied, and where its clusters are. */
struct replay_entry {
	struct log_entry entry;
	struct sco *sco;      /* referenced by the replay's list of SCOs; NULL: no clusters */
	bool from_ring;	      /* its place is the ring's frame until it is rewritten */
	const uint8_t *block; /* from_ring: that frame */
};

struct replay {
	struct pool *pool;
	struct stream *stream;
	lsn_t checkpoint_lsn;
	lsn_t limit; /* entries above it do not count: of a restore, else none is */

	struct sco **scos; /* all SCOs of the stream, by number; referenced */
	size_t sco_count;

	struct replay_entry *entries;
	size_t count, cap;

	lsn_t recorded_durable;	    /* highest durable LSN that any header tells of */
	uint64_t recorded_sequence; /* likewise of the metadata */
	uint64_t ring_epoch;	    /* of the process whose ring it is */
	const struct ring_old *old; /* the ring of the process that died; NULL: none is there */
	/* The oldest batch of this stream in the ring (none: UINT64_MAX); what that process put into
	 * older ones was durable, for a frame is not freed before. */
	uint64_t ring_sco;
	uint32_t ring_slot;
	bool tail_lost; /* such a batch cannot be read: the next hole is damage */
	uint64_t lost_sco;
	uint32_t lost_slot;
	lsn_t end; /* last LSN that counts */
	bool damaged;
	char damage[160];
};

NODISCARD int replay_add(struct replay *rp, const struct log_entry *entry, struct sco *sco,
			 const uint8_t *block);
void replay_damage(struct replay *rp, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The last durable checkpoint of a stream; all zero if it never had one. */
NODISCARD int recovery_checkpoint_of(struct pool *p, uint32_t stream,
				     struct checkpoint_row *ret_row, struct err *e);
/* Fill the table of SCOs from files and rows; removes what never counted. What is damaged stays
 * and marks its stream. old: the ring of the last process; NULL after a power cut or clean close. */
NODISCARD int recovery_find_scos(struct pool *p, const struct ring_old *old, struct err *e);
/* Entries of the stream's SCOs above the checkpoint. */
NODISCARD int recovery_scan_stream(struct replay *rp, struct err *e);
/* Whether the old ring holds a batch. If it has the first one of a SCO, but for frames that a reader
 * kept behind their time, it holds all that was ever written to that SCO. */
bool recovery_ring_has_batch(const struct ring_old *old, uint32_t stream, uint64_t sco,
			     uint32_t batch);
/* Where the ring's part of the stream begins; before its SCOs are scanned. */
NODISCARD int recovery_find_ring_start(struct replay *rp, struct err *e);
/* Entries of the old ring's frames of this stream. */
NODISCARD int recovery_scan_ring(struct replay *rp, struct err *e);
/* The first entry, in LSN order, that is in the ring only; their count if none is. */
size_t recovery_first_of_ring(const struct replay *rp);
/* Write what is only in the ring to a new SCO; durable on return; entries get their new places. Of those
 * before the first one that is nothing is changed. */
NODISCARD int recovery_rewrite(struct replay *rp, struct err *e);
/* Entries behind the end leave the logs of SCOs that will be resealed: their LSNs are given out
 * again. */
NODISCARD int recovery_give_up_behind(struct replay *rp, struct err *e);
/* Sort, find the end. */
NODISCARD int recovery_order(struct replay *rp, struct err *e);

#endif
