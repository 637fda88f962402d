/*
 * share - clusters that the logs of several objects name. A SCO is kept for names in rows, which
 * checkpoints count; here for those that are only in a log yet. FORMAT.md 10.12. Private.
 *
 * Locks: the table of SCOs guards it.
 */
#ifndef VOLUME_SHARE_H
#define VOLUME_SHARE_H

#include "volume/checkpoint_impl.h"

/* Names of a SCO in the log of one stream, above the mark of its last checkpoint. */
struct share_pin {
	struct {
		uint64_t sco;
		uint64_t stream;
	} key;
	struct sco *sco;       /* referenced */
	struct stream *stream; /* lives as long as the pool */
	uint32_t slots;	       /* so many names */
	uint32_t in_flight;    /* calls that may yet publish one, or not */
	lsn_t lsn;	       /* of the last one that was published */
	UT_hash_handle hh;
};

/* An entry of the object's log names clusters of a SCO: found while it is replayed. -ENOMEM. */
NODISCARD int share_replayed(struct object *o, const struct log_entry *entry);
/* The marks of a checkpoint are durable, and with them the rows that name what is shared. */
void shares_counted(struct checkpoint *c);
/* At the end of the pool, before its SCOs. */
void shares_forget(struct pool *p);

#endif
