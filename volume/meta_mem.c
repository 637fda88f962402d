/*
 * meta_mem - the reference: what RocksDB promises, in memory, with crashes on demand.
 *
 * Each family is a tree whose nodes never change (meta_mem_tree.h): a commit makes a new root. So
 * every state that ever was can be kept for little, and everything else follows from that:
 *  - a view for iteration is a reference on the root of the moment;
 *  - a batch that fails half-way just drops its root;
 *  - the unsynced commits are a list of roots, oldest first; a sync moves the durable root along the
 *    list, and a power cut steps back to the durable root or to any of the list.
 *
 * Values are merged at commit; a page that can't be is marked and fails its readers, as RocksDB's
 * does, until it is put or deleted.
 *
 * Sequence numbers count rows, as RocksDB's do, and after a crash go on from the newest commit left.
 *
 * Locks: one, `lock`, around every look at a root or a count of references. Allocations are made
 * and memory is given back under it: a coroutine that dies leaves nothing half done.
 */
#include <stdlib.h>
#include <string.h>

#include "common/thread.h"
#include "volume/lock_ranks.h"
#include "volume/meta.h"
#include "volume/meta_mem_tree.h"

#define VALUE_BYTES_MAX (UINT32_MAX)

/* What a commit made of its family, and the sequence number of its last row. */
struct state {
	struct tree_node *root;
	uint64_t sequence;
};

struct family {
	struct state live, durable;
	struct state *pending; /* after durable, oldest first; the last one is live */
	size_t pending_count, pending_max;
};

struct meta_mem_disk {
	struct meta meta; /* what the one open "process" holds */
	int (*hook)(void *arg, const char *call);
	void *hook_arg;

	struct mutex lock; /* rank META; guards all below */
	bool is_open;
	uint64_t sequence;
	struct family families[2];
	/* Of a META_SYNC commit whose sync failed: in the WAL's file, not in the database. Any later
	 * NAMES commit goes to a new WAL and buries it. root NULL and sequence 0: none. */
	struct state ghost;
};

enum op_kind { OP_PUT, OP_DELETE, OP_MERGE };
struct op {
	struct op *next;
	enum op_kind kind;
	size_t key_bytes, value_bytes;
	uint8_t bytes[]; /* key, value */
};

struct mem_batch {
	struct meta_batch base;
	struct op *first, **end;
	size_t bytes;
	uint64_t count;
};

/* ---- commits; the lock is held ---- */

/* The row that an operation leaves; *ret_row is NULL when it leaves none. */
NODISCARD static int op_row(const struct op *op, const struct tree_row *old,
			    struct tree_row **ret_row)
{
	const uint8_t *value = op->bytes + op->key_bytes;
	struct tree_row *row = NULL;
	struct buf merged;
	int r = 0;

	if (op->kind == OP_DELETE) {
		*ret_row = NULL;
		return 0;
	}
	if (op->kind == OP_PUT) {
		row = tree_row_new(op->bytes, op->key_bytes, value, op->value_bytes);
		if (row == NULL)
			return -ENOMEM;
		*ret_row = row;
		return 0;
	}

	buf_init(&merged, VALUE_BYTES_MAX);
	if (old != NULL && old->unmergeable)
		r = -EUCLEAN;
	else
		r = meta_page_merge(old != NULL ? old->bytes + old->key_bytes : NULL,
				    old != NULL ? old->value_bytes : 0, &value, &op->value_bytes, 1,
				    &merged, NULL);
	if (r != -ENOMEM)
		row = tree_row_new(op->bytes, op->key_bytes, merged.data, merged.len_bytes);
	buf_done(&merged);
	if (row == NULL)
		return -ENOMEM;
	row->unmergeable = r < 0;
	*ret_row = row;
	return 0;
}

/* root with an operation applied; *root is replaced, also in the ownership of its reference. */
NODISCARD static int apply_op(struct tree_node **root, const struct op *op)
{
	const struct tree_row *old = tree_find(*root, op->bytes, op->key_bytes);
	struct tree_node *changed = NULL;
	struct tree_row *row = NULL;
	int r;

	r = op_row(op, old, &row);
	if (r < 0)
		return r;
	if (row != NULL) {
		changed = tree_put(*root, row);
		tree_row_unref(row);
		if (changed == NULL)
			return -ENOMEM;
	} else {
		if (old == NULL)
			return 0;
		r = tree_delete(*root, old, &changed);
		if (r < 0)
			return r;
	}
	tree_unref(*root);
	*root = changed;
	return 0;
}

/* What the family would be after the batch; nothing is changed yet. */
NODISCARD static int apply_batch(const struct family *f, uint64_t sequence,
				 const struct mem_batch *batch, struct state *ret_state)
{
	struct tree_node *root = tree_ref(f->live.root);

	for (const struct op *op = batch->first; op != NULL; op = op->next) {
		const int r = apply_op(&root, op);

		if (r < 0) {
			tree_unref(root);
			return r;
		}
	}
	*ret_state = (struct state){ .root = root, .sequence = sequence + batch->count };
	return 0;
}

NODISCARD static int reserve_pending(struct family *f)
{
	const size_t max = f->pending_max == 0 ? 64 : f->pending_max * 2;
	struct state *grown;

	if (f->pending_count < f->pending_max)
		return 0;
	grown = realloc(f->pending, max * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	f->pending = grown;
	f->pending_max = max;
	return 0;
}

static void state_set(struct state *to, struct tree_node *root, uint64_t sequence)
{
	(void)tree_ref(root);
	tree_unref(to->root);
	*to = (struct state){ .root = root, .sequence = sequence };
}

static void state_done(struct state *s)
{
	state_set(s, NULL, 0);
}

/* The first count of the pending commits are durable. */
static void settle(struct family *f, size_t count)
{
	if (count == 0)
		return;
	state_set(&f->durable, f->pending[count - 1].root, f->pending[count - 1].sequence);
	for (size_t i = 0; i < count; i++)
		tree_unref(f->pending[i].root);
	memmove(f->pending, f->pending + count, (f->pending_count - count) * sizeof(f->pending[0]));
	f->pending_count -= count;
}

static void settle_until(struct family *f, uint64_t sequence)
{
	size_t count = 0;

	while (count < f->pending_count && f->pending[count].sequence <= sequence)
		count++;
	settle(f, count);
}

/* Keep the first count of the pending commits as they are, forget the others. */
static void step_back(struct family *f, size_t count)
{
	const struct state *last = count == 0 ? &f->durable : &f->pending[count - 1];

	state_set(&f->live, last->root, last->sequence);
	for (size_t i = count; i < f->pending_count; i++)
		tree_unref(f->pending[i].root);
	f->pending_count = count;
}

/* ---- operations of meta ---- */

static struct meta_mem_disk *disk_of(struct meta *m)
{
	return CONTAINER_OF(m, struct meta_mem_disk, meta);
}

NODISCARD static int ask_hook(struct meta_mem_disk *d, const char *call, struct err *e)
{
	const int r = d->hook != NULL ? d->hook(d->hook_arg, call) : 0;

	return r < 0 ? err_set(e, r, "metadata %s: injected", call) : 0;
}

static void mem_close(struct meta *m)
{
	meta_mem_kill(disk_of(m));
}

static int mem_get(struct meta *m, enum meta_family family, const uint8_t *key, size_t key_bytes,
		   struct buf *out, struct err *e)
{
	struct meta_mem_disk *d = disk_of(m);
	const struct tree_row *row;
	int r;

	GUARD(&d->lock);
	row = tree_find(d->families[family].live.root, key, key_bytes);
	if (row == NULL)
		return err_set(e, -ENOENT, "no such row");
	if (row->unmergeable)
		return err_set(e, -EUCLEAN, "map page: its values can't be merged");
	r = buf_append(out, row->bytes + row->key_bytes, row->value_bytes);
	return r < 0 ? err_set(e, r, "row of %zu bytes", row->value_bytes) : 0;
}

struct meta_view {
	struct tree_node *roots[2];
};

static struct meta_view *mem_view_new(struct meta *m)
{
	struct meta_mem_disk *d = disk_of(m);
	struct meta_view *view = calloc(1, sizeof(*view));

	if (view == NULL)
		return NULL;
	GUARD(&d->lock);
	for (size_t i = 0; i < ARRAY_SIZE(view->roots); i++)
		view->roots[i] = tree_ref(d->families[i].live.root);
	return view;
}

static void mem_view_free(struct meta *m, struct meta_view *view)
{
	struct meta_mem_disk *d = disk_of(m);

	GUARD(&d->lock);
	for (size_t i = 0; i < ARRAY_SIZE(view->roots); i++)
		tree_unref(view->roots[i]);
	free(view);
}

struct walk {
	const uint8_t *from, *until; /* until NULL: to the end */
	size_t from_bytes, until_bytes;
	int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		  size_t value_bytes);
	void *arg;
	struct err *e;
};

/* Nodes and rows of a tree never change, and the root is ours: no lock. */
static int walk_tree(const struct walk *w, const struct tree_node *n)
{
	const struct tree_row *row;
	int r;

	if (n == NULL)
		return 0;
	row = n->row;
	if (w->until != NULL &&
	    tree_compare(row->bytes, row->key_bytes, w->until, w->until_bytes) >= 0)
		return walk_tree(w, n->left);
	if (tree_compare(row->bytes, row->key_bytes, w->from, w->from_bytes) >= 0) {
		r = walk_tree(w, n->left);
		if (r != 0)
			return r;
		if (row->unmergeable)
			return err_set(w->e, -EUCLEAN, "map page: its values can't be merged");
		r = w->fn(w->arg, row->bytes, row->key_bytes, row->bytes + row->key_bytes,
			  row->value_bytes);
		if (r != 0)
			return r;
	}
	return walk_tree(w, n->right);
}

/* NOLINTNEXTLINE(readability-function-size): an operation of meta_ops */
static int mem_iterate(struct meta *m, const struct meta_view *view, enum meta_family family,
		       const uint8_t *from, size_t from_bytes, const uint8_t *until,
		       size_t until_bytes,
		       int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				 const uint8_t *value, size_t value_bytes),
		       void *arg, struct err *e)
{
	struct meta_mem_disk *d = disk_of(m);
	const struct walk w = {
		.from = from,
		.until = until,
		.from_bytes = from_bytes,
		.until_bytes = until_bytes,
		.fn = fn,
		.arg = arg,
		.e = e,
	};
	struct tree_node *root;
	int r;

	mutex_lock(&d->lock);
	root = tree_ref(view != NULL ? view->roots[family] : d->families[family].live.root);
	mutex_unlock(&d->lock);

	r = walk_tree(&w, root);

	mutex_lock(&d->lock);
	tree_unref(root);
	mutex_unlock(&d->lock);
	return r;
}

static struct meta_batch *mem_batch_new(UNUSED struct meta *m, enum meta_family family)
{
	struct mem_batch *batch = calloc(1, sizeof(*batch));

	if (batch == NULL)
		return NULL;
	batch->base.family = family;
	batch->end = &batch->first;
	return &batch->base;
}

static void mem_batch_free(UNUSED struct meta *m, struct meta_batch *base)
{
	struct mem_batch *batch = CONTAINER_OF(base, struct mem_batch, base);
	struct op *next;

	for (struct op *op = batch->first; op != NULL; op = next) {
		next = op->next;
		free(op);
	}
	free(batch);
}

NODISCARD static int batch_add(struct meta_batch *base, enum op_kind kind, const uint8_t *key,
			       size_t key_bytes, const uint8_t *value, size_t value_bytes)
{
	struct mem_batch *batch = CONTAINER_OF(base, struct mem_batch, base);
	struct op *op = malloc(sizeof(*op) + key_bytes + value_bytes);

	if (op == NULL)
		return -ENOMEM;
	*op = (struct op){ .kind = kind, .key_bytes = key_bytes, .value_bytes = value_bytes };
	memcpy(op->bytes, key, key_bytes);
	if (value_bytes > 0)
		memcpy(op->bytes + key_bytes, value, value_bytes);
	*batch->end = op;
	batch->end = &op->next;
	batch->bytes += sizeof(*op) + key_bytes + value_bytes;
	batch->count++;
	return 0;
}

static int mem_batch_put(struct meta_batch *batch, const uint8_t *key, size_t key_bytes,
			 const uint8_t *value, size_t value_bytes)
{
	return batch_add(batch, OP_PUT, key, key_bytes, value, value_bytes);
}

static int mem_batch_delete(struct meta_batch *batch, const uint8_t *key, size_t key_bytes)
{
	return batch_add(batch, OP_DELETE, key, key_bytes, NULL, 0);
}

static int mem_batch_merge(struct meta_batch *batch, const uint8_t *key, size_t key_bytes,
			   const uint8_t *value, size_t value_bytes)
{
	return batch_add(batch, OP_MERGE, key, key_bytes, value, value_bytes);
}

static size_t mem_batch_bytes(const struct meta_batch *base)
{
	return ((const struct mem_batch *)(const void *)base)->bytes;
}

static int mem_commit(struct meta *m, struct meta_batch *base, unsigned int flags, struct err *e)
{
	struct mem_batch *batch = CONTAINER_OF(base, struct mem_batch, base);
	struct meta_mem_disk *d = disk_of(m);
	struct family *f = &d->families[base->family];
	struct state after = { 0 };
	int r, sync_r = 0;

	r = ask_hook(d, "commit", e);
	if (r < 0)
		return r;
	if (flags & META_SYNC)
		sync_r = ask_hook(d, "sync", e);

	GUARD(&d->lock);
	r = reserve_pending(f);
	if (r == 0)
		r = apply_batch(f, d->sequence, batch, &after);
	if (r < 0)
		return err_because(e, r, "metadata commit of %" PRIu64 " rows", batch->count);
	if (sync_r < 0) {
		state_set(&d->ghost, after.root, after.sequence);
		tree_unref(after.root);
		return sync_r;
	}
	if (base->family == META_NAMES)
		state_done(&d->ghost);
	d->sequence = after.sequence;
	f->pending[f->pending_count++] = after;
	state_set(&f->live, after.root, after.sequence);
	if (flags & META_SYNC)
		settle(f, f->pending_count);
	return 0;
}

/* Covers what was committed when it began; others may commit meanwhile. */
static void make_durable(struct meta_mem_disk *d, enum meta_family family)
{
	struct family *f = &d->families[family];
	uint64_t target;

	mutex_lock(&d->lock);
	target = f->live.sequence;
	mutex_unlock(&d->lock);

	mutex_lock(&d->lock);
	settle_until(f, target);
	mutex_unlock(&d->lock);
}

static int mem_sync(struct meta *m, struct err *e)
{
	const int r = ask_hook(disk_of(m), "sync", e);

	if (r < 0)
		return r;
	make_durable(disk_of(m), META_NAMES);
	return 0;
}

static int mem_flush(struct meta *m, struct err *e)
{
	const int r = ask_hook(disk_of(m), "flush", e);

	if (r < 0)
		return r;
	make_durable(disk_of(m), META_STATE);
	return 0;
}

static uint64_t mem_synced_sequence(struct meta *m)
{
	struct meta_mem_disk *d = disk_of(m);

	GUARD(&d->lock);
	return max_u64(d->families[META_NAMES].durable.sequence,
		       d->families[META_STATE].durable.sequence);
}

static uint64_t mem_sequence(struct meta *m)
{
	struct meta_mem_disk *d = disk_of(m);

	GUARD(&d->lock);
	return d->sequence;
}

static const struct meta_ops meta_mem_ops = {
	.name = "mem",
	.close = mem_close,
	.get = mem_get,
	.iterate = mem_iterate,
	.view_new = mem_view_new,
	.view_free = mem_view_free,
	.batch_new = mem_batch_new,
	.batch_free = mem_batch_free,
	.batch_put = mem_batch_put,
	.batch_delete = mem_batch_delete,
	.batch_merge = mem_batch_merge,
	.batch_bytes = mem_batch_bytes,
	.commit = mem_commit,
	.sync = mem_sync,
	.flush = mem_flush,
	.synced_sequence = mem_synced_sequence,
	.sequence = mem_sequence,
};

/* ---- the disk ---- */

struct meta_mem_disk *meta_mem_disk_new(void)
{
	struct meta_mem_disk *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->meta.ops = &meta_mem_ops;
	mutex_init(&d->lock, LOCK_META);
	return d;
}

void meta_mem_disk_free(struct meta_mem_disk *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(d->families); i++) {
		struct family *f = &d->families[i];

		settle(f, f->pending_count);
		state_done(&f->live);
		state_done(&f->durable);
		free(f->pending);
	}
	state_done(&d->ghost);
	mutex_done(&d->lock);
	free(d);
}

int meta_mem_open(struct meta_mem_disk *d, struct meta **ret_meta, struct err *e)
{
	GUARD(&d->lock);
	if (d->is_open)
		return err_set(e, -EBUSY, "the metadata is open already");
	d->is_open = true;
	*ret_meta = &d->meta;
	return 0;
}

void meta_mem_set_hook(struct meta_mem_disk *d, int (*hook)(void *arg, const char *call), void *arg)
{
	d->hook = hook;
	d->hook_arg = arg;
}

static uint64_t pick_all(UNUSED void *arg, uint64_t n)
{
	return n;
}

/* All unsynced NAMES commits that a crash leaves, the ghost last. */
static void names_step_back(struct meta_mem_disk *d, uint64_t (*pick)(void *arg, uint64_t n),
			    void *arg)
{
	struct family *names = &d->families[META_NAMES];
	const bool has_ghost = d->ghost.sequence != 0;
	const uint64_t kept = pick(arg, names->pending_count + (has_ghost ? 1 : 0));

	if (kept > names->pending_count) {
		/* A failed META_SYNC commit came back. The commit that it follows had reserved room
		 * for it. */
		names->pending[names->pending_count++] = d->ghost;
		d->ghost = (struct state){ 0 };
	}
	step_back(names, kept);
	state_done(&d->ghost);
}

static void crash(struct meta_mem_disk *d, uint64_t (*pick_names)(void *arg, uint64_t n),
		  uint64_t (*pick_state)(void *arg, uint64_t n), void *arg)
{
	struct family *state = &d->families[META_STATE];

	/* A coroutine that never comes back may hold it, but never in the middle of a change. */
	if (d->lock.sim_owner != NULL)
		mutex_init(&d->lock, LOCK_META);
	d->is_open = false;
	names_step_back(d, pick_names, arg);
	step_back(state, pick_state != NULL ? pick_state(arg, state->pending_count) : 0);
	d->sequence = max_u64(d->families[META_NAMES].live.sequence, state->live.sequence);
}

void meta_mem_kill(struct meta_mem_disk *d)
{
	crash(d, pick_all, NULL, NULL);
}

void meta_mem_kill_some(struct meta_mem_disk *d, uint64_t (*pick)(void *arg, uint64_t n), void *arg)
{
	crash(d, pick_all, pick, arg);
	settle(&d->families[META_STATE], d->families[META_STATE].pending_count);
}

void meta_mem_power_cut(struct meta_mem_disk *d, uint64_t (*pick)(void *arg, uint64_t n), void *arg)
{
	crash(d, pick, pick, arg);
	/* What it left is on the disk. */
	settle(&d->families[META_NAMES], d->families[META_NAMES].pending_count);
	settle(&d->families[META_STATE], d->families[META_STATE].pending_count);
}
