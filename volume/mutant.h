/*
 * mutant - planted bugs, which the tests must find (tests/mutants.sh).
 *
 * -DMUTANT=n compiles one in; -DMUTANT=-1 all of them, and the environment's VPOOL_MUTANT says which
 * one acts (0 or nothing: none), so that one build serves the whole suite. In a build for users the
 * macro VPOOL_MUTANT is 0 and every MUTANT(n) is a constant false: nothing is read, nothing is left.
 */
#ifndef VOLUME_MUTANT_H
#define VOLUME_MUTANT_H

#ifndef VPOOL_MUTANT
#define VPOOL_MUTANT 0
#endif

enum mutant {
	MUTANT_NONE,
	MUTANT_NO_SCO_SYNC = 1,		 /* group commit without fdatasync */
	MUTANT_NO_NAME_SYNC = 2,	 /* a new SCO's directory entry is not synced */
	MUTANT_NO_CRC_ON_READ = 3,	 /* clusters leave unverified */
	MUTANT_REPLAY_PAST_GAP = 4,	 /* replay applies entries behind a missing LSN */
	MUTANT_LOST_MERGE = 5,		 /* a partial write does not look whether it raced */
	MUTANT_FRAME_RELEASED_EARLY = 6, /* a frame is free while its write is under way */
	MUTANT_DEAD_BEFORE_DURABLE = 7,	 /* a dead SCO goes before the checkpoint is flushed */
	MUTANT_CHECKPOINT_AHEAD = 8,	 /* rows are committed before the log is durable */
	MUTANT_NO_CUT = 9,		 /* the cut of an epoch is ignored at replay */
	MUTANT_CHECKPOINT_LSN_LATE = 10, /* "last LSN" is read after staging instead of before */
	MUTANT_NO_WAL_SYNC = 11,	 /* a sync does not sync the names */
	MUTANT_PAYLOAD_UNVERIFIED = 12,	 /* replay does not verify young clusters */
	MUTANT_ROOT_BEFORE_SCO = 13,	 /* a root is committed before its SCOs are stored */
	MUTANT_CONDEMNED_EARLY = 14,   /* a condemned object goes with the root that condemns it */
	MUTANT_TRUNCATE_TAIL = 15,     /* the rest of the last cluster is not zeroed */
	MUTANT_NUMBER_REUSE = 16,      /* SCO numbers start below the high-water mark */
	MUTANT_MAP_BEFORE_SLOT = 17,   /* a direct write is published, then written */
	MUTANT_NO_SEAL_SYNC = 18,      /* a sealed SCO's index is not synced */
	MUTANT_MOVE_BLINDLY = 19,      /* the cleaner does not look whether the place still holds */
	MUTANT_MOVE_UNVERIFIED = 20,   /* the cleaner gives damaged bytes a new checksum */
	MUTANT_NO_REWRITE_SYNC = 21,   /* recovery does not sync what it wrote from the ring */
	MUTANT_CONDEMNED_BY_CUT = 22,  /* what dies while a root is put goes with the next */
	MUTANT_MARK_LOST = 23,	       /* a root takes marks that came behind its cut */
	MUTANT_ROOT_NUMBER_AGAIN = 24, /* a root takes the number of one that came to nothing */
	MUTANT_EVICT_UNSAVED = 25,     /* a file goes before its row says that the backend has it */
	MUTANT_HELD_EVICTED = 26,      /* a chunk that a reader holds makes room for another */
	MUTANT_RESTORED_TOO_MUCH = 27, /* a restore keeps entries that its root does not count */
	MUTANT_WRITTEN_TWICE = 28,     /* what a witness says is done is done again */
	MUTANT_WITNESS_NOT_TOLD = 29,  /* nobody tells a witness that its LSN was published */
	MUTANT_CLASS_WITHOUT_MARK = 30,	 /* what is back in a stream has it all replayed */
	MUTANT_CONDEMNED_FORGOTTEN = 31, /* rows of what is still on the backend go, too */
	MUTANT_ROLLBACK_IN_TWO = 32,	 /* the names that a rollback drops go before it */
	MUTANT_UPLOAD_UNVERIFIED = 34,	 /* what is put is not compared with its checksums */
	MUTANT_PACK_GOES_EARLY = 35,	 /* a pack goes with the first of its members */
	MUTANT_PACK_MOVED_EARLY = 36,	 /* a repacked pack goes with the next root */
	MUTANT_REPLAY_FROZEN = 37,	 /* entries of before a freeze go into the live layer */
	MUTANT_MERGE_UNMARKED = 38,	 /* roots do not know that rows moved between layers */
	MUTANT_SWEEP_DAMAGED = 39,	 /* what no root names of a damaged stream is an orphan */
	MUTANT_FROZEN_CACHED = 40,	 /* RAM goes on naming what a frozen layer was moved from */
	MUTANT_TEMPLATE_MERGED = 41, /* what a template stands on is merged into its live layer */
	MUTANT_TEMPLATE_UNSAID = 42, /* its row does not say that it is one */
	MUTANT_MERGE_HALF = 43,	     /* a layer of which only a part was moved is taken out */
	MUTANT_MERGE_STARVES = 44,   /* the merger waits as long as calls do */
	MUTANT_FILE_BELIEVED = 47,   /* what no sync covered is read from its file, not the ring */
	MUTANT_INDEX_BELIEVED = 48,  /* an index whose sync may have failed is not written again */
	MUTANT_RESTORED_MARK_KEPT = 49, /* a restored layer begins behind the end of its log */
	MUTANT_RESOLVED_MOVED = 50,	/* a resolved page is used though its clusters were moved */
	MUTANT_NUMBER_TWICE = 51,   /* a file that came to nothing gives its number to the next */
	MUTANT_TWIN_TAKEN = 52,	    /* of two files with one name any is the one that counts */
	MUTANT_ANY_OF_RING = 53,    /* a header that decayed is a loss, whosever SCO it is */
	MUTANT_LIMIT_UNMARKED = 54, /* roots do not know that a truncation hid a part of a parent */
	MUTANT_ENTRIES_FORGOTTEN = 55, /* without memory for its entries a batch is written */
	MUTANT_PACK_HALF_KNOWN = 56,   /* a member that there is no memory for is left out */
	MUTANT_CUT_BURIED = 57, /* a header that says what does not count goes before that does */
	MUTANT_SHARE_UNPINNED = 58, /* a SCO goes that only an entry names which nobody counted */
	MUTANT_SHARE_UNSAID = 59,   /* roots do not know that a layer names SCOs of other streams */
	MUTANT_TRIM_UNMARKED = 60,  /* roots do not know that a layer hides what is gone */
	MUTANT_COUNT
};

#if VPOOL_MUTANT < 0
extern int mutant_chosen; /* set before main(), then constant */
#define MUTANT(n) (mutant_chosen == (int)(n))
#else
#define MUTANT(n) (VPOOL_MUTANT == (n))
#endif

#endif
