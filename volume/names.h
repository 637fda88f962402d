/*
 * names - rows of the namespace, kept for fs/ in the pool's metadata (family NAMES, WAL). Public.
 *
 * A batch is one operation on names: its rows, the objects it makes and the objects it deletes
 * take effect together or not at all. A commit survives the death of the process at once and a
 * power cut after pool_sync_names() or any object_sync(). Keys are the caller's bytes, at most
 * NAMES_KEY_BYTES_MAX; rows are sorted bytewise.
 */
#ifndef VOLUME_NAMES_H
#define VOLUME_NAMES_H

#include "common/buf.h"
#include "volume/volume.h"

#define NAMES_KEY_BYTES_MAX 320u
/* Keys that begin so are of an inode, whose number follows, big-endian: a restore gives out none of
 * them again. */
#define NAMES_KEY_INODE 'i'
/* Objects that one batch can delete. */
#define NAMES_DELETES_MAX 4u

struct names_batch;

/* Errors: -ENOENT. out is replaced. */
NODISCARD int names_get(struct pool *p, const void *key, size_t key_bytes, struct buf *out,
			struct err *e);
/* fn for each row with from <= key < until, in order, of one consistent view; fn != 0 ends it. */
NODISCARD int names_iterate(struct pool *p, const void *from, size_t from_bytes, const void *until,
			    size_t until_bytes,
			    int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				      const uint8_t *value, size_t value_bytes),
			    void *arg, struct err *e);

/* NULL: no memory. Freed by names_batch_free(), committed or not. */
struct names_batch *names_batch_new(struct pool *p);
void names_batch_free(struct names_batch *b);
NODISCARD int names_put(struct names_batch *b, const void *key, size_t key_bytes, const void *value,
			size_t value_bytes);
NODISCARD int names_delete(struct names_batch *b, const void *key, size_t key_bytes);
/* The object is there once the batch is committed. */
NODISCARD int names_create_object(struct names_batch *b, enum object_class class, uint64_t *ret_id,
				  struct err *e);
/* The object is gone once the batch is committed. Errors: -ENOENT, -E2BIG too many. */
NODISCARD int names_delete_object(struct names_batch *b, uint64_t id, struct err *e);
/*
 * What the object has so far is made durable before the commit: of a rename over something or a
 * link that publishes data, so that a power cut never shows the name without it.
 */
NODISCARD int names_publish_object(struct names_batch *b, uint64_t id, struct err *e);

/* Durable: see the top. Errors: as meta says (-ENOSPC, -EIO): nothing happened. */
NODISCARD int names_commit(struct names_batch *b, struct err *e);

/*
 * Among the rows of the namespace are such as a program without a trash would not understand: from now
 * on the pool, and what it puts to the backend, is none for it. Durable on return; waits for a
 * checkpoint that runs, the first time in a pool's life.
 */
NODISCARD int names_announce_trash(struct pool *p, struct err *e);
/* A number that was never given out before, from a durable block: inode numbers of fs/. */
NODISCARD int names_new_number(struct pool *p, uint64_t *ret_number, struct err *e);

#endif
