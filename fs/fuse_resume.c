/*
 * A mount that outlives its process: this one takes it over from one that died, or leaves it to the
 * next. What is known of requests lies in the holder's table (resume.h); the argument is in RESUME.md.
 */
#include "common/log.h"
#include "fs/fuse_hold.h"
#include "fs/fuse_impl.h"

#include <string.h>

/* --- the start --------------------------------------------------------------------------------- */

/* libfuse learns what was agreed on with the kernel, from the request that the first process got. */
static void replay_init(struct fs_session *s)
{
	struct resume_header *h = s->resume->header;
	uint8_t copy[RESUME_INIT_BYTES_MAX];
	struct fuse_buf request = { .mem = copy, .size = h->init_bytes };

	memcpy(copy, h->init, sizeof(copy));
	proto_swallow(true);
	fuse_session_process_buf(s->fuse, &request);
	proto_swallow(false);
}

int fs_resume_open(struct fs_session *s, const struct fs_mount_options *o, struct err *e)
{
	const struct proto_channels *c = o->channels;
	int r = fuse_session_custom_io(s->fuse, &proto_io, c->fd[0]);

	if (r < 0)
		return err_set(e, r, "channel of '%s': %s", s->mountpoint, err_name(r));
	/* Half of the slots are those of requests with buffers; what is held has a slot, and none. */
	r = hold_open(o->resume->header->slot_count / 2 + 1);
	if (r < 0)
		return err_set(e, r, "no memory for a session");
	s->resume = o->resume;
	s->channels = *c;
	for (unsigned int i = 0; i < s->threads; i++) {
		bool own = 2 + 2 * i < c->count;

		s->worker[i].fd = own ? c->fd[1 + 2 * i] : c->fd[0];
		s->worker[i].try_fd = own ? c->fd[2 + 2 * i] : -1;
	}
	if (resume_is_taken_over(s->resume)) {
		replay_init(s);
		__atomic_store_n(&s->ready, true, __ATOMIC_SEQ_CST);
	}
	return 0;
}

static bool is_open(void *arg, uint64_t unique)
{
	const struct fs_session *s = arg;

	return proto_is_open(&s->channels, unique);
}

/* Attributes that the kernel keeps of an inode are dropped, if it has it: no harm, and an answer. */
static bool is_held(void *arg, uint64_t ino)
{
	struct fs_session *s = arg;

	return fuse_lowlevel_notify_inval_inode(s->fuse, ino, -1, 0) != -ENOENT;
}

int fs_resume_begin(struct fs_session *s, struct err *e)
{
	unsigned int open;
	int r;

	if (!s->resume || !resume_is_taken_over(s->resume))
		return 0;
	r = ns_resume(s->ns, is_held, s, e);
	if (r < 0)
		return r;
	open = resume_settle(s->resume, is_open, s);
	r = proto_resend(fuse_session_fd(s->fuse));
	if (r < 0 && r != -ENODEV && r != -ENOTCONN) /* those: unmounted, as will be found */
		return err_set(e, r, "taking over '%s': %s", s->mountpoint, err_name(r));
	log_info("fs: taken over: mountpoint='%s' changes_under_way=%u", s->mountpoint, open);
	return 0;
}

/* --- around a request -------------------------------------------------------------------------- */

static void save_init(struct fs_worker *w, const void *request, size_t len_bytes)
{
	struct resume_header *h = w->session->resume->header;

	if (len_bytes > RESUME_INIT_BYTES_MAX || resume_is_taken_over(w->session->resume))
		return;
	memcpy(h->init, request, len_bytes);
	h->init_bytes = (uint32_t)len_bytes;
}

static void enter_names(struct fs_worker *w, const struct resume_slot *slot, bool known)
{
	struct fs_session *s = w->session;
	struct err e = { 0 };
	int r;

	w->asked = (struct ns_asked){
		.session = s->resume->header->session,
		.unique = slot->unique,
		.slot = resume_slot_number(s->resume, slot),
	};
	ns_asked_by(&w->asked);
	if (!known)
		return;
	r = ns_was_done(s->ns, &w->asked, &w->done_ino, &e);
	if (r < 0)
		log_error("fs: whether a change was made is not known, it is tried again: %s",
			  e.message);
	w->was_done = r > 0;
}

void fs_resume_enter(struct fs_worker *w, const void *request, size_t len_bytes)
{
	struct resume *r = w->session->resume;
	enum proto_repeats kind;
	uint64_t unique;
	bool known;

	if (!r)
		return;
	if (proto_is_init(request, len_bytes))
		save_init(w, request, len_bytes);
	unique = proto_unique(request);
	if (!(unique & RESUME_RESENT) && proto_is_queued(request))
		resume_drained(r);
	kind = proto_repeats(request, len_bytes);
	if (kind == PROTO_REPEATS_NO)
		return;
	w->buffer->slot = resume_begin(r, unique, &known);
	if (!w->buffer->slot)
		counter_inc(&w->session->metrics.untracked_changes);
	else if (kind == PROTO_REPEATS_NAMES)
		enter_names(w, w->buffer->slot, known);
}

void fs_resume_leave(struct fs_worker *w)
{
	struct resume *r = w->session->resume;

	if (!r)
		return;
	ns_asked_by(NULL);
	w->was_done = false;
	if (w->buffer)
		fs_resume_end(w->buffer);
}

void fs_resume_end(struct fs_buffer *b)
{
	if (!b->slot)
		return;
	/* In silence nothing was answered, nor is what is held: the next process does. */
	if (!proto_is_silent() && !hold_took())
		resume_end(b->session->resume, b->slot);
	b->slot = NULL;
}

int fs_resume_was_done(fuse_req_t req, struct ns_attr *ret_attr, struct err *e)
{
	const struct fs_worker *w = fs_worker_current();
	int r;

	if (!w || !w->was_done)
		return 0;
	if (!ret_attr)
		return 1;
	r = ns_lookup(fs_session_of(req)->ns, w->done_ino, ".", 1, ret_attr, e);
	return r < 0 ? r : 1;
}
