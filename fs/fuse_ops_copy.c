/*
 * Copying between files of the mount. A copy of a disk that starts at its begin and goes into an
 * empty file makes a clone, whatever its size, and calls that continue it make that clone longer, as
 * long as nobody wrote to either: what was written to the disk before a call is in what it copies. Of
 * longer copies from and to anywhere else the files share what the backend has already. All else
 * goes piece by piece through memory here, as long as nobody would have to wait for the store; the
 * kernel asks for the rest.
 */
#include "fs/fuse_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Of one request; whoever copies more asks again. A hole is no data. */
#define COPY_DATA_BYTES_MAX (UINT64_C(4) << 20)
#define COPY_PIECE_BYTES    (UINT64_C(1) << 20)
/* The same of what is shared: in the worst case an entry of the log for each cluster. */
#define SHARE_BYTES_MAX (UINT64_C(256) << 20)
/* What is shorter is copied: its clusters shall lie side by side. */
#define SHARE_BYTES_MIN (UINT64_C(1) << 20)
/* What is shorter is copied: a clone costs a layer, and making it longer some milliseconds. */
#define CLONE_BYTES_MIN	     (UINT64_C(1) << 20)
#define CLONE_MORE_BYTES_MIN (UINT64_C(16) << 20)

/* --- bytes ------------------------------------------------------------------------------------- */

/* From here to there. */
struct copy {
	struct object *from, *to;
	uint64_t from_bytes, to_bytes;	   /* offsets */
	uint64_t left_bytes;		   /* at most to the end of the source */
	uint64_t data_bytes, shared_bytes; /* so far */
	bool may_share;
	void *piece;
};

/* How far the source is alike: a hole, or data. */
static int next_run(const struct copy *c, bool *ret_hole, uint64_t *ret_bytes, struct err *e)
{
	uint64_t until, end = c->from_bytes + c->left_bytes;
	int r = object_seek(c->from, c->from_bytes, true, &until, e);

	if (r == -ENXIO)
		until = end;
	else if (r < 0)
		return r;
	*ret_hole = until > c->from_bytes;
	if (!*ret_hole) {
		r = object_seek(c->from, c->from_bytes, false, &until, e);
		if (r < 0)
			return r;
	}
	*ret_bytes = min_u64(until, end) - c->from_bytes;
	return 0;
}

/* Bytes copied: fewer if the source was cut meanwhile. */
static ssize_t copy_run(struct copy *c, bool hole, uint64_t len_bytes, struct err *e)
{
	ssize_t n = (ssize_t)len_bytes;
	int r;

	if (!hole)
		n = object_read(c->from, c->from_bytes, c->piece, len_bytes, e);
	if (n <= 0)
		return n;
	r = hole ? object_zero(c->to, c->to_bytes, len_bytes, true, e) :
		   object_write(c->to, c->to_bytes, c->piece, (size_t)n, e);
	return r < 0 ? r : n;
}

/* Bytes shared; 0: what is next has to be copied. */
static ssize_t share_run(struct copy *c, uint64_t len_bytes, struct err *e)
{
	uint64_t shared = 0;
	int r = 0;

	if (c->may_share)
		r = object_share(c->to, c->to_bytes, c->from, c->from_bytes,
				 min_u64(len_bytes, SHARE_BYTES_MAX), &shared, e);
	c->shared_bytes += shared;
	return r < 0 && shared == 0 ? r : (ssize_t)shared;
}

/* Who waits for the store can be interrupted elsewhere. */
static ssize_t copy_data(struct copy *c, uint64_t len_bytes, struct err *e)
{
	ssize_t n = share_run(c, len_bytes, e);

	if (n != 0)
		return n;
	len_bytes = min_u64(len_bytes, COPY_PIECE_BYTES);
	if (!object_is_near(c->from, c->from_bytes, len_bytes))
		return -EOPNOTSUPP;
	n = copy_run(c, false, len_bytes, e);
	c->data_bytes += n > 0 ? (uint64_t)n : 0;
	return n;
}

/* Bytes copied, or why none. */
static ssize_t copy_bytes(struct copy *c, struct err *e)
{
	uint64_t done = 0;
	ssize_t n = 1;

	while (n > 0 && c->left_bytes > 0 && c->data_bytes < COPY_DATA_BYTES_MAX &&
	       c->shared_bytes < SHARE_BYTES_MAX) {
		uint64_t len_bytes;
		bool hole;

		n = next_run(c, &hole, &len_bytes, e);
		if (n < 0)
			break;
		n = hole ? copy_run(c, true, len_bytes, e) : copy_data(c, len_bytes, e);
		if (n < 0)
			break;
		c->from_bytes += (uint64_t)n;
		c->to_bytes += (uint64_t)n;
		c->left_bytes -= (uint64_t)n;
		done += (uint64_t)n;
	}
	return n < 0 && done == 0 ? n : (ssize_t)done;
}

/* --- clones ------------------------------------------------------------------------------------ */

static void forget_locked(struct fs_session *s, struct fs_copy_source *at,
			  struct clone_source **ret_source)
{
	*ret_source = at->source;
	s->copies--;
	memmove(at, at + 1, (size_t)(&s->copy[s->copies] - at) * sizeof(*at));
}

/* The source of a copy that is continued; the caller's then. NULL: it is none. */
static struct clone_source *take_source(struct fs_session *s, const struct fs_slow *job)
{
	struct clone_source *source = NULL;

	GUARD(&s->lock);
	for (unsigned int i = 0; i < s->copies && !source; i++)
		if (s->copy[i].to_ino == job->ino && s->copy[i].from_ino == job->source_ino &&
		    s->copy[i].until_bytes == job->offset_bytes)
			forget_locked(s, &s->copy[i], &source);
	return source;
}

/* The oldest one makes room: what continues it is copied. */
static void keep_source(struct fs_session *s, const struct fs_slow *job,
			struct clone_source *source, uint64_t until_bytes)
{
	struct clone_source *oldest = NULL;

	mutex_lock(&s->lock);
	if (s->copies == FS_COPIES_MAX)
		forget_locked(s, &s->copy[0], &oldest);
	s->copy[s->copies++] = (struct fs_copy_source){
		.to_ino = job->ino,
		.from_ino = job->source_ino,
		.until_bytes = until_bytes,
		.source = source,
	};
	mutex_unlock(&s->lock);
	clone_source_close(oldest);
}

void fs_copies_forget(struct fs_session *s, uint64_t to_ino)
{
	struct clone_source *source;

	do {
		source = NULL;
		mutex_lock(&s->lock);
		for (unsigned int i = 0; i < s->copies && !source; i++)
			if (to_ino == 0 || s->copy[i].to_ino == to_ino)
				forget_locked(s, &s->copy[i], &source);
		mutex_unlock(&s->lock);
		clone_source_close(source);
	} while (source);
}

/* What the file is a clone of from this call on, or longer since. NULL: bytes are to be copied. */
static struct clone_source *find_source(struct fs_session *s, const struct fs_slow *job,
					const struct copy *c, struct err *e)
{
	struct clone_source *source = NULL;
	struct object_stat st;

	object_stat(c->to, &st);
	if (c->from_bytes != c->to_bytes || c->to_bytes != st.size_bytes)
		return NULL;
	if (c->to_bytes > 0) {
		source = take_source(s, job);
		if (source && clone_source_is_now(source, c->from))
			return source;
		clone_source_close(source);
		return NULL;
	}
	if (c->left_bytes < CLONE_BYTES_MIN ||
	    ns_clone_source(s->ns, job->source_ino, NULL, &source, e) < 0)
		return NULL;
	return source;
}

/* Make the file a clone as far as was asked for. Bytes; -EBUSY: they have to be copied. */
static ssize_t become_clone(struct fs_session *s, const struct fs_slow *job, const struct copy *c,
			    struct err *e)
{
	struct clone_source *source = find_source(s, job, c, e);
	uint64_t size_bytes = source ? clone_source_size(source) : 0;
	uint64_t until_bytes = min_u64(c->to_bytes + c->left_bytes, size_bytes);
	int r = -EBUSY;

	if (until_bytes > c->to_bytes &&
	    (c->to_bytes == 0 || until_bytes - c->to_bytes >= CLONE_MORE_BYTES_MIN ||
	     until_bytes == size_bytes))
		r = object_become_clone(c->to, source, until_bytes, e);
	if (r == 0 && until_bytes < size_bytes)
		keep_source(s, job, source, until_bytes);
	else
		clone_source_close(source);
	return r < 0 ? r : (ssize_t)(until_bytes - c->to_bytes);
}

/* --- requests ---------------------------------------------------------------------------------- */

static ssize_t copy(struct fs_session *s, struct fs_slow *job, struct copy *c, struct err *e)
{
	struct object_stat st;
	ssize_t n;
	int r;

	object_stat(c->from, &st);
	if (job->source_offset_bytes >= st.size_bytes)
		return 0;
	c->from_bytes = job->source_offset_bytes;
	c->to_bytes = job->offset_bytes;
	c->left_bytes = min_u64(job->len_bytes, st.size_bytes - c->from_bytes);
	n = become_clone(s, job, c, e);
	if (n == -EBUSY) {
		c->may_share = c->left_bytes >= SHARE_BYTES_MIN;
		c->piece = aligned_alloc(CLUSTER_BYTES, COPY_PIECE_BYTES);
		n = c->piece ? copy_bytes(c, e) : -ENOMEM;
		free(c->piece);
	}
	if (n > 0 && job->sync) {
		r = object_sync(c->to, e);
		return r < 0 ? r : n;
	}
	return n;
}

static void run_copy(struct fs_session *s, struct fs_slow *job)
{
	struct copy c = { 0 };
	struct err e = { 0 };
	ssize_t n = ns_object_get(s->ns, job->source_ino, &c.from, &e);

	if (n == 0) {
		n = ns_object_get(s->ns, job->ino, &c.to, &e);
		if (n == 0) {
			n = copy(s, job, &c, &e);
			ns_object_put(s->ns, job->ino);
		}
		ns_object_put(s->ns, job->source_ino);
	}
	if (n > 0)
		ns_grown(s->ns, job->ino, job->offset_bytes + (uint64_t)n);
	if (n < 0)
		fs_reply_code(job->req, "copy_file_range", job->ino, (int)n, &e);
	else
		(void)fuse_reply_write(job->req, (size_t)n);
}

/*
 * -EOPNOTSUPP has the kernel read and write itself. So it is for what it may have changed in its page
 * cache, unknown to us: plain files, which can be mapped.
 */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
			struct fuse_file_info *fi_out, size_t len_bytes, int flags)
{
	const struct fs_slow job = {
		.req = req,
		.ino = ino_out,
		.run = run_copy,
		.offset_bytes = (uint64_t)offset_out,
		.len_bytes = len_bytes,
		.source_ino = ino_in,
		.source_offset_bytes = (uint64_t)offset_in,
		.sync = (fi_out->flags & O_DSYNC) != 0,
	};
	struct ns_attr attr;
	struct err e = { 0 };
	int r = ns_getattr(fs_session_of(req)->ns, ino_in, &attr, &e);

	(void)fi_in;
	if (r == 0 && flags != 0)
		r = -EINVAL;
	if (r == 0 && attr.class != OBJECT_DISK)
		r = -EOPNOTSUPP;
	if (r < 0)
		fs_reply_code(req, "copy_file_range", ino_out, r, &e);
	else
		fs_slow_start(&job);
}
