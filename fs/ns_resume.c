/*
 * ns_resume - a namespace that is taken over from another process while the kernel goes on using it:
 * answers that were not given yet, and inodes that it holds and that have no name.
 */
#include "common/log.h"
#include "fs/ns_impl.h"

#include <stdlib.h>

/* Rows that go in one commit. */
#define FORGET_AT_ONCE 1024u

static __thread const struct ns_asked *asked_now;

/* --- answers ----------------------------------------------------------------------------------- */

void ns_asked_by(const struct ns_asked *asked)
{
	asked_now = asked;
}

int ns_put_answer(struct names_batch *b, uint64_t ino, struct err *e)
{
	AUTO(ns_buf_donep) struct buf value = { 0 };
	struct ns_answer_row row;
	struct ns_key key;
	int r;

	if (!asked_now)
		return 0;
	row = (struct ns_answer_row){
		.session = asked_now->session,
		.unique = asked_now->unique,
		.ino = ino,
	};
	key = ns_key_ino(NS_ROW_ANSWER, asked_now->slot);
	buf_init(&value, NS_ROW_BYTES_MAX);
	r = ns_answer_row_encode(&key, &row, &value);
	if (r == 0)
		r = names_put(b, key.bytes, key.len_bytes, value.data, value.len_bytes);
	return r < 0 ? err_because(e, r, "row of an answer") : 0;
}

int ns_was_done(struct ns *ns, const struct ns_asked *asked, uint64_t *ret_ino, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_ANSWER, asked->slot);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	struct ns_answer_row row;
	int r;

	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = ns_answer_row_decode(key.bytes, key.len_bytes, value.data, value.len_bytes,
					 &row, e);
	if (r < 0)
		return r;
	if (row.session != asked->session || row.unique != asked->unique)
		return 0;
	*ret_ino = row.ino;
	return 1;
}

struct forgetting {
	struct names_batch *batch;
	unsigned int count;
};

static int forget_answer(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			 size_t value_bytes)
{
	struct forgetting *f = arg;
	int r = names_delete(f->batch, key, key_bytes);

	(void)value;
	(void)value_bytes;
	f->count++;
	return r < 0 ? r : f->count == FORGET_AT_ONCE;
}

int ns_forget_answers(struct ns *ns, struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_ANSWER, 0);
	const uint8_t until[] = { NS_ROW_ANSWER + 1 };
	int r = 1;

	while (r > 0) {
		struct forgetting f = { .batch = names_batch_new(ns->pool) };

		if (!f.batch)
			return err_set(e, -ENOMEM, "answers");
		r = names_iterate(ns->pool, from.bytes, from.len_bytes, until, sizeof(until),
				  forget_answer, &f, e);
		if (r >= 0 && f.count > 0) {
			int committed = names_commit(f.batch, e);

			r = committed < 0 ? committed : r;
		}
		names_batch_free(f.batch);
	}
	return r;
}

/* --- orphans ----------------------------------------------------------------------------------- */

struct orphan_list {
	uint64_t *inos;
	unsigned int count;
};

static int note_orphan(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct orphan_list *l = arg;
	struct ns_key_parts parts;
	int r = ns_key_parse(key, key_bytes, &parts, NULL);

	(void)value; /* it says nothing more; ns_check() looks at it */
	(void)value_bytes;
	if (r < 0)
		return r;
	l->inos[l->count++] = parts.ino;
	return l->count == NS_ORPHANS_AT_ONCE;
}

int ns_orphans_from(struct ns *ns, uint64_t from_ino, uint64_t inos[NS_ORPHANS_AT_ONCE],
		    struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_ORPHAN, from_ino);
	struct ns_key until = ns_key_ino(NS_ROW_ORPHAN, UINT64_MAX);
	struct orphan_list l = { .inos = inos };
	int r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			      note_orphan, &l, e);

	return r < 0 ? r : (int)l.count;
}

/* Loaded it stays until its FORGET, or goes now. */
static int resume_orphan(struct ns *ns, uint64_t ino, struct err *e)
{
	struct ns_inode *i;
	int r = ns_inode_get(ns, ino, &i, e);

	if (r < 0)
		return r;
	if (!ns->is_held(ns->is_held_arg, ino))
		ns_inode_disinherit(ns, i);
	ns_inode_put(ns, i);
	return 0;
}

int ns_resume(struct ns *ns, bool (*is_held)(void *arg, uint64_t ino), void *arg, struct err *e)
{
	uint64_t *inos = calloc(NS_ORPHANS_AT_ONCE, sizeof(*inos)), from_ino = 0;
	int r = inos ? 1 : err_set(e, -ENOMEM, "orphans");

	ns->is_held_arg = arg;
	ns->is_held = is_held;
	while (r > 0) {
		r = ns_orphans_from(ns, from_ino, inos, e);
		for (int i = 0; i < r; i++) {
			struct err why = { 0 };

			from_ino = inos[i] + 1;
			if (resume_orphan(ns, inos[i], &why) < 0)
				log_warning("fs: removed file stays for now: ino=%" PRIu64 ": %s",
					    inos[i], why.message);
		}
	}
	free(inos);
	return r;
}

void ns_hand_over(struct ns *ns)
{
	ns->handed_over = true;
}
