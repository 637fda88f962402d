/*
 * sim_ioq - writes in flight: they land at a time of their own, in any order, some only after the
 * process that sent them is dead and the next one runs. Reads of a queue take their bytes when they
 * land.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

struct inflight *ioq_start(struct sim *sim, struct env_file *f, const void *buf, size_t len_bytes,
			   uint64_t offset_bytes, int result)
{
	struct inflight *fl = sim_alloc(sizeof(*fl));
	uint64_t latency_ns = 1 + rng_below(&sim->rng_sched, sim->opts.io_latency_max_ns);

	fl->inode = inode_ref(f->inode);
	fl->buf = buf;
	fl->len_bytes = len_bytes;
	fl->offset_bytes = offset_bytes;
	fl->due_ns = sim->now_ns + latency_ns;
	fl->buf_hash = sim_hash_bytes(sim, buf, len_bytes);
	fl->direct = (f->flags & ENV_DIRECT) != 0;
	fl->result = result;
	SIM_ROOM(sim->inflight, sim->inflight_count, sim->inflight_cap);
	sim->inflight[sim->inflight_count++] = fl;
	sim_due_at(sim, fl->due_ns);
	return fl;
}

/* Pieces of 4 KiB on their own for a direct write, a prefix for one through the cache. */
void ioq_write_part(struct sim *sim, struct inode *inode, const void *buf, size_t len_bytes,
		    uint64_t offset_bytes, bool direct)
{
	const uint8_t *from = buf;

	if (!direct) {
		len_bytes = (size_t)rng_below(&sim->rng_disk, len_bytes + 1);
		(void)store_write(sim, inode, buf, len_bytes, offset_bytes);
		return;
	}
	for (size_t at = 0; at < len_bytes; at += SIM_PAGE_BYTES)
		if (rng_below(&sim->rng_disk, 2) == 0)
			(void)store_write(sim, inode, from + at, SIM_PAGE_BYTES, offset_bytes + at);
}

static void read_lands(struct sim *sim, struct inflight *fl)
{
	struct env_io *io = fl->io;
	size_t n;

	if (fl->result < 0)
		return;
	n = store_read(sim, fl->inode, io->buf, io->len_bytes, io->offset_bytes);
	sim_spoil_read(sim, io->file, io->buf, n);
	sim_mix(sim, sim_hash_bytes(sim, io->buf, n));
	fl->result = n == io->len_bytes ? 0 : -ENODATA;
}

static void finish(struct sim *sim, struct inflight *fl)
{
	struct env_ioq *q = fl->q;

	inode_unref(sim, fl->inode);
	fl->inode = NULL;
	fl->landed = true;
	if (fl->waiter) {
		sim_wake(sim, fl->waiter); /* frees fl */
		return;
	}
	fl->io->result = fl->result;
	fl->io->next = q->done_first;
	q->done_first = fl->io;
	q->inflight_count--;
	if (q->waiter)
		sim_wake(sim, q->waiter);
	q->waiter = NULL;
	free(fl);
}

static void land(struct sim *sim, size_t i)
{
	struct inflight *fl = sim->inflight[i];

	sim->inflight[i] = sim->inflight[--sim->inflight_count];
	if (fl->is_read) {
		read_lands(sim, fl);
		finish(sim, fl);
		return;
	}
	if (sim_hash_bytes(sim, fl->buf, fl->len_bytes) != fl->buf_hash)
		sim_fail(sim,
			 "a buffer changed while its write was in flight: file %" PRIu64
			 " offset %" PRIu64 " len %zu",
			 fl->inode->ino, fl->offset_bytes, fl->len_bytes);
	sim_mix(sim, fl->offset_bytes);
	if (fl->inode->gone)
		; /* closed and unlinked meanwhile: nobody will see it */
	else if (fl->result < 0)
		ioq_write_part(sim, fl->inode, fl->buf, fl->len_bytes, fl->offset_bytes,
			       fl->direct);
	else
		fl->result = store_write(sim, fl->inode, fl->buf, fl->len_bytes, fl->offset_bytes);
	if (fl->result == -ENOSPC)
		sim->stats.enospc_full++;
	finish(sim, fl);
}

uint64_t ioq_fire(struct sim *sim)
{
	for (;;) {
		uint64_t next = SIM_NEVER;
		size_t which = 0;

		for (size_t i = 0; i < sim->inflight_count; i++) {
			if (sim->inflight[i]->due_ns < next) {
				next = sim->inflight[i]->due_ns;
				which = i;
			}
		}
		if (next > sim->now_ns)
			return next;
		land(sim, which);
	}
}

int ioq_pwrite_wait(struct sim *sim, struct env_file *f, const void *buf, size_t len_bytes,
		    uint64_t offset_bytes, int result)
{
	struct inflight *fl = ioq_start(sim, f, buf, len_bytes, offset_bytes, result);
	int r;

	fl->waiter = sim->cur;
	while (!fl->landed)
		sim_block(sim, CO_IO, fl, SIM_NEVER);
	r = fl->result;
	free(fl);
	return r;
}

/* ---- queues --------------------------------------------------------------------------------- */

void ioq_open(struct sim *sim, unsigned int depth, struct env_ioq **ret_q)
{
	struct env_ioq *q = sim_alloc(sizeof(*q));

	q->depth = depth == 0 ? 1 : depth;
	q->next = sim->ioqs;
	if (q->next)
		q->next->prev = q;
	sim->ioqs = q;
	*ret_q = q;
}

static void queue_free(struct sim *sim, struct env_ioq *q)
{
	if (q->next)
		q->next->prev = q->prev;
	if (q->prev)
		q->prev->next = q->next;
	else
		sim->ioqs = q->next;
	free(q);
}

void ioq_close(struct sim *sim, struct env_ioq *q)
{
	if (q->inflight_count != 0 || q->done_first)
		sim_fail(sim, "an io queue is closed with %u writes in flight%s", q->inflight_count,
			 q->done_first ? " and some not reaped" : "");
	queue_free(sim, q);
}

static void wait_for_one(struct sim *sim, struct env_ioq *q)
{
	q->waiter = sim->cur;
	sim_block(sim, CO_IO, q, SIM_NEVER);
}

void ioq_submit(struct sim *sim, struct env_ioq *q, struct env_io *io, int result)
{
	struct inflight *fl;

	if (!sim->cur) {
		ASSERT(!io->is_read);
		io->result =
			store_write(sim, io->file->inode, io->buf, io->len_bytes, io->offset_bytes);
		io->next = q->done_first;
		q->done_first = io;
		return;
	}
	while (q->inflight_count >= q->depth)
		wait_for_one(sim, q);
	fl = ioq_start(sim, io->file, io->buf, io->len_bytes, io->offset_bytes, result);
	fl->io = io;
	fl->is_read = io->is_read;
	fl->q = q;
	q->inflight_count++;
}

struct env_io *ioq_reap(struct sim *sim, struct env_ioq *q, bool wait)
{
	struct env_io **at = &q->done_first;
	struct env_io *io;

	while (!q->done_first) {
		if (!wait || q->inflight_count == 0)
			return NULL;
		wait_for_one(sim, q);
	}
	/* The list has the youngest first; now and then not the oldest comes out. */
	while ((*at)->next && rng_below(&sim->rng_sched, 4) != 0)
		at = &(*at)->next;
	io = *at;
	*at = io->next;
	io->next = NULL;
	return io;
}

/* ---- what outlives the process -------------------------------------------------------------- */

static void late_remove(struct sim *sim, size_t i)
{
	page_unref(sim, sim->late[i].page);
	inode_unref(sim, sim->late[i].inode);
	sim->late[i] = sim->late[--sim->late_count];
}

static void late_land(struct sim *sim, size_t i)
{
	struct late *late = &sim->late[i];

	if (!late->inode->gone && store_write(sim, late->inode, late->page->data, SIM_PAGE_BYTES,
					      late->index * SIM_PAGE_BYTES) == 0)
		sim->stats.late_landed++;
	else
		sim->stats.late_lost++;
	late_remove(sim, i);
}

void ioq_land_late(struct sim *sim)
{
	uint64_t next = SIM_NEVER;

	if (sim->stats.env_calls < sim->late_next_call)
		return;
	for (size_t i = 0; i < sim->late_count;) {
		if (sim->late[i].due_call <= sim->stats.env_calls) {
			late_land(sim, i);
			continue;
		}
		next = min_u64(next, sim->late[i].due_call);
		i++;
	}
	sim->late_next_call = next;
}

void ioq_settle(struct sim *sim, struct inode *inode)
{
	for (size_t i = 0; i < sim->inflight_count;) {
		if (sim->inflight[i]->inode == inode)
			land(sim, i);
		else
			i++;
	}
	for (size_t i = 0; i < sim->late_count;) {
		if (sim->late[i].inode == inode)
			late_land(sim, i);
		else
			i++;
	}
}

static void make_late(struct sim *sim, struct inflight *fl, size_t at)
{
	struct late late = { .inode = inode_ref(fl->inode), .page = page_new(sim) };

	memcpy(late.page->data, fl->buf + at, SIM_PAGE_BYTES);
	late.index = (fl->offset_bytes + at) / SIM_PAGE_BYTES;
	late.due_call =
		sim->stats.env_calls + 1 + rng_below(&sim->rng_disk, sim->opts.late_calls_max);
	sim->late_next_call = min_u64(sim->late_next_call, late.due_call);
	SIM_ROOM(sim->late, sim->late_count, sim->late_cap);
	sim->late[sim->late_count++] = late;
}

/* All, none or some of a direct write is still on its way; one through the cache is cut off. */
static void leave_behind(struct sim *sim, struct inflight *fl)
{
	uint64_t habit = rng_below(&sim->rng_disk, 4);

	if (fl->inode->gone || fl->is_read)
		return;
	if (!fl->direct) {
		ioq_write_part(sim, fl->inode, fl->buf, fl->len_bytes, fl->offset_bytes, false);
		return;
	}
	for (size_t at = 0; at < fl->len_bytes; at += SIM_PAGE_BYTES) {
		uint64_t fate = habit < 2 ? habit : rng_below(&sim->rng_disk, habit);

		if (fate == 0)
			make_late(sim, fl, at);
		else if (fate == 1)
			sim->stats.late_lost++;
		else
			(void)store_write(sim, fl->inode, fl->buf + at, SIM_PAGE_BYTES,
					  fl->offset_bytes + at);
	}
}

static void forget_inflight(struct sim *sim)
{
	for (size_t i = 0; i < sim->inflight_count; i++) {
		inode_unref(sim, sim->inflight[i]->inode);
		free(sim->inflight[i]);
	}
	sim->inflight_count = 0;
	while (sim->ioqs)
		queue_free(sim, sim->ioqs);
}

void ioq_process_killed(struct sim *sim)
{
	sim->stats.inflight_at_crash += sim->inflight_count;
	for (size_t i = 0; i < sim->inflight_count; i++)
		leave_behind(sim, sim->inflight[i]);
	forget_inflight(sim);
}

/* What was on its way is one more set of unsynced effects. */
void ioq_power_cut(struct sim *sim)
{
	sim->stats.inflight_at_crash += sim->inflight_count;
	for (size_t i = 0; i < sim->inflight_count; i++) {
		struct inflight *fl = sim->inflight[i];

		if (!fl->inode->gone && !fl->is_read)
			(void)store_write(sim, fl->inode, fl->buf, fl->len_bytes, fl->offset_bytes);
	}
	forget_inflight(sim);
	while (sim->late_count > 0) {
		struct late *late = &sim->late[sim->late_count - 1];

		if (!late->inode->gone)
			(void)store_write(sim, late->inode, late->page->data, SIM_PAGE_BYTES,
					  late->index * SIM_PAGE_BYTES);
		late_remove(sim, sim->late_count - 1);
	}
	sim->late_next_call = SIM_NEVER;
}

void ioq_free(struct sim *sim)
{
	forget_inflight(sim);
	while (sim->late_count > 0)
		late_remove(sim, sim->late_count - 1);
	free(sim->inflight);
	free(sim->late);
}
