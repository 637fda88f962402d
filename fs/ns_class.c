/*
 * ns_class - which files are disks: by name when they are made or renamed, by size when they have
 * grown. A change waits for a checkpoint, so one thread makes them one by one.
 */
#include "common/log.h"
#include "fs/ns_impl.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum object_class ns_class_of_name(const struct ns *ns, const char *name, size_t name_bytes)
{
	char text[NS_NAME_MAX + 1];

	if (name_bytes > NS_NAME_MAX)
		return OBJECT_FILE;
	memcpy(text, name, name_bytes);
	text[name_bytes] = 0;
	for (unsigned int i = 0; i < ns->pattern_count; i++)
		if (fnmatch(ns->patterns[i], text, 0) == 0)
			return OBJECT_DISK;
	return OBJECT_FILE;
}

/* --- wishes ------------------------------------------------------------------------------------ */

/* False: there are too many; it is asked for again with the next write, or stays as it is. */
static bool wish(struct ns *ns, uint64_t ino, enum object_class class)
{
	struct ns_class_queue *q = &ns->queue;

	GUARD(&q->lock);
	if (q->count == NS_CLASS_QUEUE_MAX)
		return false;
	q->wishes[(q->first + q->count) % NS_CLASS_QUEUE_MAX] =
		(struct ns_class_wish){ .ino = ino, .class = class };
	q->count++;
	cond_broadcast(&q->changed);
	return true;
}

void ns_grown(struct ns *ns, uint64_t ino, uint64_t size_bytes)
{
	struct ns_shard *s = ns_shard_of(ns, ino);
	struct ns_inode *i;
	bool ask;

	if (ns->disk_threshold_bytes == 0 || size_bytes <= ns->disk_threshold_bytes)
		return;
	mutex_lock(&s->lock);
	HASH_FIND(hh, s->inodes, &ino, sizeof(ino), i);
	ask = i && !i->class_asked;
	if (ask)
		i->class_asked = wish(ns, ino, OBJECT_DISK);
	mutex_unlock(&s->lock);
}

void ns_class_renamed(struct ns *ns, uint64_t ino, const char *name, size_t name_bytes)
{
	enum object_class class = ns_class_of_name(ns, name, name_bytes);
	struct object_stat stat;
	struct object *o;

	if (object_open(ns->pool, ino, &o, NULL) < 0) /* removed meanwhile */
		return;
	object_stat(o, &stat);
	object_close(o);
	if (ns->disk_threshold_bytes > 0 && stat.size_bytes > ns->disk_threshold_bytes)
		class = OBJECT_DISK;
	if (stat.class != class)
		(void)wish(ns, ino, class); /* a full queue leaves it as it is */
}

/* --- the change -------------------------------------------------------------------------------- */

/*
 * The mark of an explicit mtime counts in the stream that the object leaves. One that holds is moved
 * to the new stream, unless the object was written meanwhile; one that no longer holds is taken
 * away, so that it means nothing when the object comes back to this stream. The change waits for a
 * checkpoint, so it may well be written, and then get an mtime, since `before`.
 */
static int move_mark(struct ns *ns, struct ns_inode *i, struct object *o,
		     const struct object_stat *before, struct err *e)
{
	struct object_stat after;
	struct ns_op_inode *at;
	struct ns_op op;
	bool holds;
	int r = ns_op_begin(&op, ns, e);

	if (r < 0)
		return r;
	r = ns_op_add(&op, i->ino, &at, e);
	if (r == 0) {
		ns_op_lock(&op, 0);
		object_stat(o, &after);
		holds = after.mtime_ns == at->row.mtime_object_ns ||
			(ns_row_mtime_rules(&at->row, before) &&
			 after.mtime_ns == before->mtime_ns);
		at->row.mtime_stream = holds ? after.stream : 0;
		at->row.mtime_lsn = holds ? after.last_lsn : 0;
		at->row.mtime_object_ns = holds ? after.mtime_ns : 0;
		at->changed = true;
		r = ns_op_commit(&op, e);
	}
	ns_op_end(&op);
	return r;
}

static int change_class(struct ns *ns, const struct ns_class_wish *w, struct err *e)
{
	struct object_stat before;
	struct ns_inode *i;
	struct object *o;
	int r = ns_inode_get(ns, w->ino, &i, e);

	if (r == -ESTALE)
		return 0;
	if (r < 0)
		return r;
	r = ns_object_get(ns, w->ino, &o, e);
	if (r == 0) {
		object_stat(o, &before);
		if (before.class != w->class && ns_inode_row(ns, i).nlink > 0) {
			r = object_set_class(o, w->class, e);
			if (r == 0)
				r = move_mark(ns, i, o, &before, e);
			if (r == 0)
				counter_inc(&ns->metrics.class_changes);
		}
		ns_object_put(ns, w->ino);
	}
	if (r == 0 && w->class == OBJECT_FILE) {
		mutex_lock(&ns_shard_of(ns, w->ino)->lock);
		i->class_asked = false;
		mutex_unlock(&ns_shard_of(ns, w->ino)->lock);
	}
	ns_inode_put(ns, i);
	return r;
}

static void worker(void *arg)
{
	struct ns *ns = arg;
	struct ns_class_queue *q = &ns->queue;

	mutex_lock(&q->lock);
	for (;;) {
		struct ns_class_wish w;
		struct err why = { 0 };

		while (q->count == 0 && !q->stop)
			cond_wait(&q->changed, &q->lock, WAIT_FOREVER);
		if (q->stop)
			break;
		w = q->wishes[q->first];
		q->first = (q->first + 1) % NS_CLASS_QUEUE_MAX;
		q->count--;
		q->busy = true;
		mutex_unlock(&q->lock);
		if (change_class(ns, &w, &why) < 0)
			log_warning("fs: file keeps its class: ino=%" PRIu64 ": %s", w.ino,
				    why.message);
		mutex_lock(&q->lock);
		q->busy = false;
		cond_broadcast(&q->changed);
	}
	mutex_unlock(&q->lock);
}

void ns_class_settle(struct ns *ns)
{
	struct ns_class_queue *q = &ns->queue;

	mutex_lock(&q->lock);
	while (q->count > 0 || q->busy)
		cond_wait(&q->changed, &q->lock, WAIT_FOREVER);
	mutex_unlock(&q->lock);
}

/* --- life -------------------------------------------------------------------------------------- */

/* Cut at blanks, in place. */
static int cut_patterns(struct ns *ns, struct err *e)
{
	char *at = ns->patterns_text;

	for (;;) {
		at += strspn(at, " \t");
		if (!*at)
			return 0;
		if (ns->pattern_count == NS_PATTERNS_MAX)
			return err_set(e, -E2BIG, "more than %u patterns", NS_PATTERNS_MAX);
		ns->patterns[ns->pattern_count++] = at;
		at += strcspn(at, " \t");
		if (*at)
			*at++ = 0;
	}
}

int ns_class_start(struct ns *ns, const char *patterns, struct err *e)
{
	struct ns_class_queue *q = &ns->queue;
	int r;

	mutex_init(&q->lock, 0);
	cond_init(&q->changed);
	ns->patterns_text = strdup(patterns ? patterns : "");
	r = ns->patterns_text ? cut_patterns(ns, e) : err_set(e, -ENOMEM, "patterns");
	if (r < 0)
		return r;
	r = thread_start("ns-class", worker, ns, &q->thread);
	return r < 0 ? err_because(e, r, "starting a thread") : 0;
}

void ns_class_stop(struct ns *ns)
{
	struct ns_class_queue *q = &ns->queue;

	if (q->thread) {
		mutex_lock(&q->lock);
		q->stop = true;
		cond_broadcast(&q->changed);
		mutex_unlock(&q->lock);
		thread_join(TAKE_PTR(q->thread));
	}
	cond_done(&q->changed);
	mutex_done(&q->lock);
	free(TAKE_PTR(ns->patterns_text));
}
