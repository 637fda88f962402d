/*
 * ns_impl - the inode table and the shape of an operation. Private to namespace.
 *
 * Locks, taken downwards only: ns.rename_lock (moves of directories to another parent), then
 * stripes in ascending order (the right to change the rows of the inodes that fall on them; held
 * over the commit), then the engine's. Under a stripe a shard's lock, and under that queue.lock, which
 * is a leaf.
 *
 * An inode in RAM is LIVE, or DYING while a commit removes it (who finds it so waits on its
 * stripe), or GONE and no longer in the table. Its row, and whether it is in the trash, change under
 * stripe and shard lock, so either is enough to read them. It is in the table while it is used: by a
 * pin (one call), by look-ups of the kernel, by handles, by uses of its object (each has a pin).
 */
#ifndef FS_NS_IMPL_H
#define FS_NS_IMPL_H

#include "common/endian.h"
#include "fs/ns_rows.h"

/* All tables here are keyed by a number of 64 bits. */
static inline unsigned int ns_hash(const void *key)
{
	return (unsigned int)(le64_get(key) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}
#define HASH_FUNCTION(key_, key_bytes_, ret_hash_) ((ret_hash_) = ns_hash(key_))
#include "common/hash.h"

#define NS_STRIPES	   1024u
#define NS_SHARDS	   64u
#define NS_CLASS_QUEUE_MAX 1024u
#define NS_PATTERNS_MAX	   64u
/* An operation finds names, locks, looks again. Each new round means that another one got ahead. */
#define NS_ROUNDS_MAX 10000u
/* Parents that a walk to the root follows. */
#define NS_DEPTH_MAX 1000000u

enum ns_state { NS_LIVE, NS_DYING, NS_GONE };

struct ns_inode {
	uint64_t ino;
	uint32_t type; /* S_IFMT part of the mode */
	char *target;  /* what row.target points to */

	/* Guarded by the shard's lock; row see the top. */
	enum ns_state state;
	struct ns_inode_row row;
	uint64_t nlookup;
	uint64_t handles;
	uint64_t pins;
	struct object *object; /* open while object_uses > 0 */
	uint64_t object_uses;  /* handles of regular files, and ns_object_get() */
	bool class_asked;      /* for having grown */
	bool inherited;	       /* the kernel may hold it from the time of an earlier process */
	bool trashed;	       /* without a name, but in the trash: it stays */
	UT_hash_handle hh;
};

struct ns_shard {
	struct mutex lock; /* only queue.lock is taken under it (ns_grown()) */
	struct ns_inode *inodes;
};

struct ns_class_wish {
	uint64_t ino;
	enum object_class class;
};

struct ns_class_queue {
	struct mutex lock; /* leaf; guards all below */
	struct cond changed;
	struct ns_class_wish wishes[NS_CLASS_QUEUE_MAX];
	unsigned int first, count;
	bool busy, stop;
	struct thread *thread;
};

/* What is known of a file of the view: whose snapshot it is, and the object while it is used. */
struct ns_view_file {
	uint64_t ino; /* constant */
	uint64_t object;
	char name[NS_NAME_MAX + 1]; /* as it was last */
	struct ns_attr attr;	    /* the same */
	struct object *open;	    /* while uses > 0 */
	uint64_t uses;		    /* handles with them */
	uint64_t handles;
	UT_hash_handle hh;
};
/* Files that nobody uses are forgotten all together when there are more. */
#define NS_VIEW_FILES_MAX 4096u

struct ns_view {
	struct mutex lock; /* leaf; guards all of it */
	struct ns_view_file *files;
};

struct ns {
	struct env *env;
	struct pool *pool;
	char *patterns_text;
	const char *patterns[NS_PATTERNS_MAX];
	unsigned int pattern_count;
	uint64_t disk_threshold_bytes;
	uint32_t link_max;
	enum ns_trash_policy trash; /* atomic */
	bool trash_announced;	    /* atomic: rows of the trash may be made */
	struct ns_inode *root;	    /* pinned */
	bool resumed;
	bool handed_over;
	/* Set before requests, then constant. */
	bool (*is_held)(void *arg, uint64_t ino);
	void *is_held_arg;

	struct mutex rename_lock;	  /* unranked; before stripes */
	struct mutex stripes[NS_STRIPES]; /* unranked; in order of their index */
	struct ns_shard shards[NS_SHARDS];
	struct ns_class_queue queue;
	struct ns_view view;

	struct ns_metrics metrics;
	struct metrics_group group;
};

static inline void ns_buf_donep(struct buf *b)
{
	buf_done(b);
}

/* --- ns_inode.c -------------------------------------------------------------------------------- */

static inline struct ns_shard *ns_shard_of(struct ns *ns, uint64_t ino)
{
	return &ns->shards[ino * UINT64_C(0x9e3779b97f4a7c15) >> 58 & (NS_SHARDS - 1)];
}
static inline unsigned int ns_stripe_of(uint64_t ino)
{
	return (unsigned int)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 48 & (NS_STRIPES - 1));
}

/* Pin an inode, from RAM or its row. No stripe may be held. Errors: -ESTALE. */
NODISCARD int ns_inode_get(struct ns *ns, uint64_t ino, struct ns_inode **ret_inode, struct err *e);
/* Let go of a pin; the last user of an inode without a name removes it. No stripe may be held. */
void ns_inode_put(struct ns *ns, struct ns_inode *i);
/* An inode that is to be made: in no table until ns_inode_publish(). NULL: no memory. */
struct ns_inode *ns_inode_new(uint64_t ino, const struct ns_inode_row *row);
void ns_inode_free(struct ns_inode *i);
/* Put it into the table with one pin; waits where there is no memory. Its stripe is held. */
void ns_inode_publish(struct ns *ns, struct ns_inode *i);
struct ns_inode_row ns_inode_row(struct ns *ns, struct ns_inode *i);
void ns_inode_count_lookup(struct ns *ns, struct ns_inode *i);
/* The kernel does not hold a pinned inode. */
void ns_inode_disinherit(struct ns *ns, struct ns_inode *i);
/* Whether only the caller's pin holds it: it is then DYING, until ns_inode_died(). Stripe held. */
bool ns_inode_kill(struct ns *ns, struct ns_inode *i);
/* The commit that removes it is done (GONE) or failed (LIVE again). Stripe held. */
void ns_inode_died(struct ns *ns, struct ns_inode *i, bool gone);
void ns_inode_set_row(struct ns *ns, struct ns_inode *i, const struct ns_inode_row *row);
void ns_inode_set_trashed(struct ns *ns, struct ns_inode *i, bool trashed);
/* In the trash, and in no use from the time before: for who comes with its number it is gone. */
bool ns_inode_is_put_away(struct ns *ns, struct ns_inode *i);
/* Whether the row's mtime holds against the object's. */
bool ns_row_mtime_rules(const struct ns_inode_row *row, const struct object_stat *stat);
NODISCARD int ns_inode_attr(struct ns *ns, struct ns_inode *i, struct ns_attr *ret_attr,
			    struct err *e);
/* The same behind a change that is done: it does not fail for want of memory, but waits for it. */
NODISCARD int ns_inode_attr_done(struct ns *ns, struct ns_inode *i, struct ns_attr *ret_attr,
				 struct err *e);
/* All of the table but the root; nothing may be in use by a call. */
void ns_inodes_drop_all(struct ns *ns);

/* --- ns_op.c ----------------------------------------------------------------------------------- */

#define NS_OP_INODES_MAX 4u

/*
 * One operation: inodes are added (each pin is the operation's from then on), locked, their rows
 * changed here, and put by one commit with all else.
 */
struct ns_op {
	struct ns *ns;
	struct names_batch *batch;
	int64_t now_ns;
	unsigned int count;
	struct ns_op_inode {
		struct ns_inode *inode;
		struct ns_inode_row row; /* from ns_op_lock() on: as it is, then as it shall be */
		bool changed;
		bool dying;		 /* goes with the commit */
		bool orphan;		 /* gets an orphan row */
		bool trashed, untrashed; /* comes to the trash, leaves it */
	} inodes[NS_OP_INODES_MAX];
	unsigned int lock_count;
	uint16_t locks[NS_OP_INODES_MAX];
	uint64_t answer_ino; /* what whoever asks again is told */
};

NODISCARD int ns_op_begin(struct ns_op *op, struct ns *ns, struct err *e);
/* Pin and add. The same inode twice is one. */
NODISCARD int ns_op_add(struct ns_op *op, uint64_t ino, struct ns_op_inode **ret_inode,
			struct err *e);
/* Lock all that were added, and new_ino if it is not 0; read rows and clock. */
void ns_op_lock(struct ns_op *op, uint64_t new_ino);
/* The inode has one name less, this (row.nlink is already lowered): if that was the last, its removal or
 * its orphan row or its row in the trash is put into the batch. 1: start over. */
NODISCARD int ns_op_lost_name(struct ns_op *op, struct ns_op_inode *i, const struct ns_name *name,
			      struct err *e);
/* An inode without a name goes for good: its removal, or its orphan row, is put into the batch. */
NODISCARD int ns_op_remove(struct ns_op *op, struct ns_op_inode *i, struct err *e);
/* Put changed rows, commit, and let others see it. */
NODISCARD int ns_op_commit(struct ns_op *op, struct err *e);
/* Unlock, let go of all pins; done or not. */
void ns_op_end(struct ns_op *op);

NODISCARD int ns_put_inode_row(struct names_batch *b, uint64_t ino, const struct ns_inode_row *row,
			       struct err *e);
/* Both rows of an entry: new, or over old ones. */
NODISCARD int ns_put_entry(struct names_batch *b, const struct ns_name *name, uint64_t cookie,
			   uint64_t ino, uint32_t type, struct err *e);
NODISCARD int ns_delete_entry(struct names_batch *b, const struct ns_name *name, uint64_t cookie,
			      struct err *e);
/* All rows of an inode without a name, its object with them; not the orphan row. */
NODISCARD int ns_delete_inode(struct ns *ns, struct names_batch *b, uint64_t ino,
			      const struct ns_inode_row *row, struct err *e);

/*
 * Data that gets a name by which others find it is made durable first: most of it by this call,
 * before any lock is taken; what comes after that by names_publish_object(), if there is data.
 */
NODISCARD int ns_sync_data(struct ns *ns, uint64_t ino, bool *ret_has_data, struct err *e);

/* --- finding ----------------------------------------------------------------------------------- */

/* Errors: -ENAMETOOLONG, -EINVAL. */
NODISCARD int ns_name_check(const char *name, size_t name_bytes, struct err *e);
static inline bool ns_name_is_dot(const char *name, size_t name_bytes)
{
	return name_bytes == 1 && name[0] == '.';
}
static inline bool ns_name_is_dotdot(const char *name, size_t name_bytes)
{
	return name_bytes == 2 && name[0] == '.' && name[1] == '.';
}
/* The row of a name. Errors: -ENOENT. */
NODISCARD int ns_find_name(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			   struct ns_name_row *ret_row, struct err *e);
/* The row of an inode as it was committed last, from RAM or the store, not kept; target is NULL.
 * Errors: -ESTALE. */
NODISCARD int ns_peek_row(struct ns *ns, uint64_t ino, struct ns_inode_row *ret_row, struct err *e);
/* -ENOTDIR, or -ENOENT for a removed one. */
NODISCARD int ns_check_parent(const struct ns_inode_row *row, struct err *e);

/* --- ns_create.c ------------------------------------------------------------------------------- */

/* A name that can be made in a directory. Errors: -EEXIST, -EROFS; -ENAMETOOLONG, -EINVAL. */
NODISCARD int ns_check_new_name(const struct ns_name *name, struct err *e);
/* One more entry in a locked directory, at the place that its row.cookie_next says. */
NODISCARD int ns_add_entry(struct ns_op *op, struct ns_op_inode *dir, const struct ns_name *name,
			   uint64_t ino, uint32_t type, struct err *e);

/* --- ns_trash.c -------------------------------------------------------------------------------- */

/* Whether a file that loses its last name goes to the trash. Errors: of the store. */
NODISCARD int ns_trash_wants(struct ns *ns, const struct ns_inode *i, bool *ret_wants,
			     struct err *e);
/* Before locking: a file that may lose its last name can go there. May wait for a checkpoint. */
NODISCARD int ns_trash_ready(struct ns *ns, const struct ns_inode *i, struct err *e);
/* The row of an inode that loses its last name, this one, into the batch. 1: it was not ready. */
NODISCARD int ns_trash_put(struct ns_op *op, struct ns_op_inode *i, const struct ns_name *name,
			   struct err *e);
/* Whether an inode has a row in the trash, as the store says. */
NODISCARD int ns_trash_has(struct ns *ns, uint64_t ino, bool *ret_has, struct err *e);

/* --- ns_resume.c ------------------------------------------------------------------------------- */

/* The row of the request that the calling thread runs, if it has one. */
NODISCARD int ns_put_answer(struct names_batch *b, uint64_t ino, struct err *e);
/* No answer of earlier mounts is left. */
NODISCARD int ns_forget_answers(struct ns *ns, struct err *e);

#define NS_ORPHANS_AT_ONCE 256u
/* Up to so many orphans from a number on; returns how many, or negative. */
NODISCARD int ns_orphans_from(struct ns *ns, uint64_t from_ino, uint64_t inos[NS_ORPHANS_AT_ONCE],
			      struct err *e);

/* The directory where a name of an inode stands. Errors: -ENOENT it has none; -ESTALE. */
NODISCARD int ns_parent_of(struct ns *ns, uint64_t ino, uint64_t *ret_parent, struct err *e);

/* --- ns_view.c --------------------------------------------------------------------------------- */

/* What the calls of namespace.h do for inodes of the view. */
NODISCARD int ns_view_lookup(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			     struct ns_attr *ret_attr, struct err *e);
NODISCARD int ns_view_getattr(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e);
NODISCARD int ns_view_readdir(struct ns *ns, uint64_t ino, uint64_t cookie, unsigned int flags,
			      int (*fn)(void *arg, const struct ns_dirent *entry), void *arg,
			      struct err *e);
NODISCARD int ns_view_handle_open(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr,
				  struct err *e);
void ns_view_handle_release(struct ns *ns, uint64_t ino);
NODISCARD int ns_view_object_get(struct ns *ns, uint64_t ino, struct object **ret_object,
				 struct err *e);
void ns_view_object_put(struct ns *ns, uint64_t ino);
/* Nothing may be in use by a call. */
void ns_view_drop_all(struct ns *ns);
/* -EROFS for an inode of the view. */
NODISCARD int ns_view_refuse(uint64_t ino, struct err *e);
/* Whether a name is that of the view. */
bool ns_view_is_name(uint64_t parent, const char *name, size_t name_bytes);

/* --- ns_class.c -------------------------------------------------------------------------------- */

NODISCARD int ns_class_start(struct ns *ns, const char *patterns, struct err *e);
void ns_class_stop(struct ns *ns);
/* A file got a new name: whatever class fits it is asked for. */
void ns_class_renamed(struct ns *ns, uint64_t ino, const char *name, size_t name_bytes);

#endif
