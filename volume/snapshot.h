/*
 * snapshot - frozen moments of objects, and objects that begin as one. Public.
 *
 * A snapshot is a name on a frozen layer of the map, a clone an object whose live layer has another's
 * frozen layer below it; both take the same time whatever the size. Writes are never held up longer
 * than it takes to put a new layer over the old one. All calls: any thread; they wait for a checkpoint
 * that runs. The argument why a crash leaves all or nothing of each: FORMAT.md 10.9.
 */
#ifndef VOLUME_SNAPSHOT_H
#define VOLUME_SNAPSHOT_H

#include "volume/names.h"
#include "volume/volume.h"

#define SNAPSHOT_NAME_MAX    255u
#define SNAPSHOT_COMMENT_MAX 65536u
/* Objects that one call takes snapshots of. */
#define SNAPSHOT_GROUP_MAX 4096u

struct snapshot_wanted {
	struct object *object; /* opened by the caller; each at most once */
	const char *name;      /* 1 to 255 bytes, no '/', not "." or ".." */
	const char *comment;   /* NULL: none */
	bool sticky;	       /* retention leaves it alone, and its disk cannot be deleted */
};

/*
 * Snapshots of a group at one moment: no write is in one that is not in all, if it was answered
 * before another of them began.
 *
 * Errors:   -EEXIST a name is taken on its object; -EINVAL, -ENAMETOOLONG a bad name; -ESTALE an object
 *           was deleted; what a checkpoint fails with. Nothing was made then.
 * Durable:  on return, with all that they show.
 */
NODISCARD int snapshot_create(struct pool *p, const struct snapshot_wanted *wanted, size_t count,
			      struct err *e);

struct snapshot_info {
	uint64_t object, number;
	char name[SNAPSHOT_NAME_MAX + 1];
	char *comment; /* never NULL */
	int64_t created_ns;
	uint64_t size_bytes;
	uint64_t allocated_bytes; /* of what it shows, with what it shares */
	uint64_t clones; /* objects and other layers on it, besides its own object's next */
	bool sticky;
	bool on_backend; /* a committed root shows it */
};

/* Oldest first. Owns: the result, freed by snapshot_list_free(). Errors: -ENOENT no such object. */
NODISCARD int snapshot_list(struct pool *p, uint64_t object, struct snapshot_info **ret_list,
			    size_t *ret_count, struct err *e);
void snapshot_list_free(struct snapshot_info *list, size_t count);
/* How many an object has. */
size_t snapshot_count(struct pool *p, uint64_t object);
/* One by its name; its comment is freed by snapshot_info_done(). Errors: -ENOENT. */
NODISCARD int snapshot_find(struct pool *p, uint64_t object, const char *name,
			    struct snapshot_info *ret_info, struct err *e);
/* The same by its number, which no other snapshot of the pool ever has. Reads all rows of snapshots. */
NODISCARD int snapshot_find_number(struct pool *p, uint64_t number, struct snapshot_info *ret_info,
				   struct err *e);
void snapshot_info_done(struct snapshot_info *info);
/* Whether nothing was written to the object since that snapshot of it was made. May be false where it
 * was not (behind a rollback, a change of class). */
bool snapshot_is_now(struct object *o, uint64_t number);

/* What a clone began as: an object, which may be gone, and its snapshot's name, "" if it has none (any
 * more). Errors: -ENOENT it is no clone. */
NODISCARD int object_parent(struct object *o, uint64_t *ret_object,
			    char ret_name[SNAPSHOT_NAME_MAX + 1], struct err *e);

/* Errors: -ENOENT; -EEXIST; -EINVAL, -ENAMETOOLONG. Durable: on return. */
NODISCARD int snapshot_rename(struct pool *p, uint64_t object, const char *name, const char *to,
			      struct err *e);
NODISCARD int snapshot_set_sticky(struct pool *p, uint64_t object, const char *name, bool sticky,
				  struct err *e);
/*
 * The name goes at once. What only it showed comes back in the background; what clones, other
 * snapshots or a reader that has it open need stays as long as they do. Errors: -ENOENT. Durable.
 */
NODISCARD int snapshot_delete(struct pool *p, uint64_t object, const char *name, struct err *e);

/*
 * The object is again what it was then; what was written since is given up. Younger snapshots of it
 * have to be deleted along: without force -ENOTEMPTY, and the text names them. Clones of them keep
 * what they need.
 * Errors:   -ENOENT, -ENOTEMPTY, -ESTALE; -EPERM a template.
 * Durable:  on return.
 */
NODISCARD int snapshot_rollback(struct object *o, const char *name, bool force, struct err *e);

/*
 * Open what a snapshot shows, for reading: object_read(), object_seek(), object_stat() and all that
 * reads; what changes it fails with -EROFS. Closed by object_close(). Errors: -ENOENT.
 */
NODISCARD int snapshot_open(struct pool *p, uint64_t object, const char *name,
			    struct object **ret_object, struct err *e);

/*
 * A template's bytes and its length do not change: what would change them fails with -EPERM, from the
 * moment on that this call shows what it is. All of it lies in one frozen layer, on which its clones are
 * made without another one. It can be deleted like any object, and be none again, whatever clones it
 * has: they keep what they need.
 * Errors:   -ESTALE; those of snapshot_create(): it is what it was.
 * Durable:  on return, with all that it shows.
 */
NODISCARD int object_set_template(struct object *o, bool on, struct err *e);

/*
 * What clones begin as: a snapshot by its name, or, with NULL, the object as it is now (but for a
 * template it is frozen at once, without a name). It stays until it is closed, and as long as clones of
 * it are there.
 * Errors:   -ENOENT; those of snapshot_create().
 */
struct clone_source;
NODISCARD int clone_source_open(struct pool *p, struct object *source, const char *snapshot,
				struct clone_source **ret_source, struct err *e);
void clone_source_close(struct clone_source *source);
uint64_t clone_source_size(const struct clone_source *source);
/* Whether the object that it was opened of, or a snapshot, is still the same: not written since. */
bool clone_source_is_now(const struct clone_source *source, struct object *o);
/* A new object, once the batch is committed, that begins as the source. The source is closed after the
 * batch was freed. At most one a batch. Errors: -ENOMEM. */
NODISCARD int names_clone_object(struct names_batch *b, struct clone_source *source,
				 enum object_class class, uint64_t *ret_id, struct err *e);
/*
 * An empty object without snapshots, or one that this call made of the same source and nobody wrote
 * since, becomes a clone up to limit_bytes, of class disk. A crash may leave it longer.
 * Errors:   -EBUSY it holds something else; those of snapshot_rollback().
 * Durable:  on return, but for its length, which is after object_sync().
 */
NODISCARD int object_become_clone(struct object *o, struct clone_source *source,
				  uint64_t limit_bytes, struct err *e);

#endif
