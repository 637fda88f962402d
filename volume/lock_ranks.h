/* lock_ranks - the order of all locks of the engine, taken downwards only; see LOCKS.md. */
#ifndef VOLUME_LOCK_RANKS_H
#define VOLUME_LOCK_RANKS_H

enum lock_rank {
	LOCK_UPLOAD = 3,	/* one upload round at a time */
	LOCK_SEAL = 5,		/* one round of sealing at a time */
	LOCK_FAMILY_CHANGE = 8, /* who lets go of a layer's child or name */
	LOCK_CHECKPOINT = 10,	/* one checkpoint, root or clean round at a time */
	LOCK_GATE = 15,		/* an object's gate */
	LOCK_OBJECTS = 20,	/* tables of objects and streams in RAM */
	LOCK_MAP_CHAIN = 30,	/* rows move between layers */
	LOCK_RANGE = 40,	/* a stream's range operations against "last LSN" */
	LOCK_LAYER = 50,	/* a layer's tombstones and limit */
	LOCK_MAP_SHARD = 60,	/* pages of the map */
	LOCK_STREAM_SYNC = 70,	/* leader of a group commit */
	LOCK_STREAM = 80,	/* tail of a stream: batches, places */
	LOCK_SCO_TABLE = 90,	/* SCOs by number */
	LOCK_INDEX_CACHE = 95,	/* index chunks of sealed SCOs */
	LOCK_CACHE = 97,	/* chunks of SCOs that lie on the backend only, fetches, wishes */
	LOCK_FLASH = 100,	/* space, stock and files of a cache directory */
	LOCK_WRITEBACK = 110,	/* queue of closed batches */
	LOCK_RING = 120,	/* free frames */
	LOCK_PARKED = 130,	/* requests that wait */
	LOCK_META = 140,	/* inside the metadata store */
};

#endif
