/*
 * sim_env - the env table: each call may be preempted, delayed, failed or be the last one.
 *
 * A call begins (time passes, another thread may run, dice for faults and death are thrown), acts,
 * and ends (trace and fingerprint; death after the effect).
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum op_flags {
	OP_EFFECT = 1 << 0, /* counts for sim_crash_at */
	OP_SLEEP = 1 << 1,  /* takes time now and then */
	OP_READ = 1 << 2,
	OP_WRITE = 1 << 3,
	OP_SYNC = 1 << 4,
	OP_NAME = 1 << 5,
	OP_ALLOC = 1 << 6, /* may find the disk full */
	OP_ANY = 1 << 7,   /* fails by order only */
};

struct call {
	struct sim *sim;
	const char *op;
	const char *path;
	uint64_t a, b;
	int fault;	  /* what it is to fail with */
	bool dies_partly; /* with a part of its effect */
	bool dies_after;
};

/* ---- begin and end -------------------------------------------------------------------------- */

static bool prefix_matches(const struct sim *sim, const char *path)
{
	return sim->fault_prefix_len == 0 ||
	       strncmp(path, sim->faults.path_prefix, sim->fault_prefix_len) == 0;
}

static bool fault_hits(struct sim *sim, uint32_t ppm, const char *path)
{
	return sim->cur && rng_ppm(&sim->rng_fault, ppm) && prefix_matches(sim, path);
}

void sim_watch(struct sim *sim,
	       void (*fn)(void *arg, enum sim_moment moment, const char *op, const char *path,
			  bool allocates),
	       void *arg)
{
	sim->watch = fn;
	sim->watch_arg = arg;
}

static void tell(struct sim *sim, enum sim_moment moment, const char *op, const char *path,
		 bool allocates)
{
	if (sim->watch && sim->cur)
		sim->watch(sim->watch_arg, moment, op, path, allocates);
}

void sim_effect(struct sim *sim, const char *op)
{
	tell(sim, SIM_EFFECT, op, "", false);
}

static int call_fails(struct sim *sim, const char *op, const char *path, bool allocates)
{
	tell(sim, SIM_FAILURE, op, path, allocates);
	if (sim->fail_in == 0 || (sim->fail_error == -ENOSPC && !allocates))
		return 0;
	if (sim->fail_in > 1) {
		sim->fail_in--;
		return 0;
	}
	if (sim->fail_count == 0)
		return 0;
	sim->fail_count--;
	sim->stats.eio += sim->fail_error == -EIO;
	sim->stats.enospc_injected += sim->fail_error == -ENOSPC;
	return sim->fail_error;
}

int sim_call_fails(struct sim *sim, const char *op, bool allocates)
{
	return call_fails(sim, op, "", allocates);
}

bool sim_fail_came(const struct sim *sim)
{
	return sim->fail_in <= 1;
}

void sim_fail_at(struct sim *sim, uint64_t calls, uint64_t count, int error)
{
	sim->fail_in = calls;
	sim->fail_count = count;
	sim->fail_error = error;
}

static int draw_fault(const struct call *c, unsigned int flags)
{
	struct sim *sim = c->sim;
	const struct sim_faults *f = &sim->faults;
	const char *path = c->path;
	uint32_t eio_ppm = 0;
	int r = 0;

	if (flags & (OP_READ | OP_WRITE | OP_SYNC | OP_NAME | OP_ALLOC | OP_ANY))
		r = call_fails(sim, c->op, path, flags & OP_ALLOC);
	if (r < 0)
		return r;

	if (flags & OP_READ)
		eio_ppm = f->eio_read_ppm;
	if (flags & OP_WRITE)
		eio_ppm = f->eio_write_ppm;
	if (flags & OP_SYNC)
		eio_ppm = f->eio_sync_ppm;
	if (flags & OP_NAME)
		eio_ppm = f->eio_name_ppm;
	if (fault_hits(sim, eio_ppm, path)) {
		sim->stats.eio++;
		sim->stats.eio_sync += (flags & OP_SYNC) != 0;
		return -EIO;
	}
	if (flags & OP_ALLOC && fault_hits(sim, f->enospc_ppm, path)) {
		sim->stats.enospc_injected++;
		return -ENOSPC;
	}
	return 0;
}

static void nap(struct sim *sim, uint32_t ppm, uint64_t max_ns)
{
	if (sim->cur && rng_ppm(&sim->rng_sched, ppm))
		sim_sleep_ns(sim, 1 + rng_below(&sim->rng_sched, max_ns));
}

static struct call begin(struct env *env, const char *op, unsigned int flags, const char *path,
			 uint64_t a, uint64_t b)
{
	struct sim *sim = CONTAINER_OF(env, struct sim, env);
	struct call c = { .sim = sim, .op = op, .path = path, .a = a, .b = b };

	if (!sim->cur)
		return c;
	sim->stats.env_calls++;
	sim->stats.effect_calls += flags & OP_EFFECT;
	ioq_land_late(sim);
	sim->now_ns += 500;
	if (flags & OP_EFFECT)
		tell(sim, SIM_EFFECT, op, path, false);
	if (flags & OP_EFFECT && sim->crash_effects != 0 && --sim->crash_effects == 0) {
		uint64_t when = sim->crash_in_call ? 1 : rng_below(&sim->rng_disk, 3);

		if (when == 0)
			sim_die(sim, sim->crash_kind);
		sim->stats.crashes_inside_call++;
		c.dies_partly = when == 1;
		c.dies_after = true;
	}
	sim_step(sim);
	if (flags & OP_SLEEP)
		nap(sim, sim->opts.sleep_ppm, sim->opts.io_latency_max_ns);
	if (sim->faults.delay_max_ns != 0 && fault_hits(sim, sim->faults.delay_ppm, path)) {
		sim->stats.delays++;
		sim_sleep_ns(sim, 1 + rng_below(&sim->rng_sched, sim->faults.delay_max_ns));
	}
	c.fault = draw_fault(&c, flags);
	return c;
}

static int64_t end(struct call *c, int64_t result)
{
	struct sim *sim = c->sim;

	sim->stats.enospc_full += result == -ENOSPC && c->fault == 0;
	sim_trace(sim, c->op, c->path, c->a, c->b, result);
	if (c->dies_after)
		sim_die(sim, sim->crash_kind);
	return result;
}

static int end_int(struct call *c, int64_t result)
{
	return (int)end(c, result);
}

/* ---- files ---------------------------------------------------------------------------------- */

static int op_open(struct env *env, const char *path, unsigned int flags,
		   struct env_file **ret_file)
{
	unsigned int kind = OP_ANY;
	struct env_file *f = NULL;
	struct call c;
	int r;

	if (flags & (ENV_CREATE | ENV_TRUNC))
		kind = OP_EFFECT | OP_NAME | OP_ALLOC;
	c = begin(env, "open", kind, path, flags, 0);
	r = c.fault ? c.fault : fs_open(c.sim, path, flags, &f);
	r = end_int(&c, r);
	if (r == 0)
		*ret_file = f;
	return r;
}

static void op_close(struct env *env, struct env_file *f)
{
	struct call c;

	if (!f)
		return;
	c = begin(env, "close", 0, f->path, f->inode->ino, 0);
	/* The path goes with the file. */
	(void)end(&c, 0);
	fs_close(c.sim, f);
}

static bool is_unaligned(const struct env_file *f, const void *buf, size_t len_bytes,
			 uint64_t offset_bytes)
{
	if (!(f->flags & ENV_DIRECT))
		return false;
	return ((uintptr_t)buf | len_bytes | offset_bytes) % ENV_DIRECT_ALIGN != 0;
}

static int may_write(const struct env_file *f)
{
	return f->flags & ENV_WRITE ? 0 : -EBADF;
}

static int may_read(const struct env_file *f)
{
	return f->flags & ENV_READ ? 0 : -EBADF;
}

void sim_spoil_read(struct sim *sim, const struct env_file *f, uint8_t *buf, size_t len_bytes)
{
	uint64_t bit;

	if (len_bytes == 0 || !fault_hits(sim, sim->faults.flip_ppm, f->path))
		return;
	bit = rng_below(&sim->rng_fault, len_bytes * 8);
	buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	sim->stats.flips++;
}

static ssize_t op_pread(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			uint64_t offset_bytes)
{
	struct call c = begin(env, "pread", OP_READ | OP_SLEEP, f->path, offset_bytes, len_bytes);
	size_t n;

	if (c.fault)
		return end(&c, c.fault);
	if (f->inode->is_dir)
		return end(&c, -EISDIR);
	if (!(f->flags & ENV_READ))
		return end(&c, -EBADF);
	if (is_unaligned(f, buf, len_bytes, offset_bytes))
		return end(&c, -EINVAL);
	n = store_read(c.sim, f->inode, buf, len_bytes, offset_bytes);
	sim_spoil_read(c.sim, f, buf, n);
	sim_mix(c.sim, sim_hash_bytes(c.sim, buf, n));
	return end(&c, (int64_t)n);
}

/* Through the page cache; others may see a part of a long write. */
static int buffered_write(struct sim *sim, struct env_file *f, const uint8_t *buf, size_t len_bytes,
			  uint64_t offset_bytes)
{
	size_t first = len_bytes;
	int r;

	if (sim->cur && len_bytes > SIM_PAGE_BYTES && rng_below(&sim->rng_sched, 4) == 0)
		first = (size_t)rng_below(&sim->rng_sched, len_bytes);
	r = store_write(sim, f->inode, buf, first, offset_bytes);
	if (r < 0 || first == len_bytes)
		return r;
	sim_yield(sim);
	return store_write(sim, f->inode, buf + first, len_bytes - first, offset_bytes + first);
}

static int write_file(struct call *c, struct env_file *f, const void *buf, size_t len_bytes,
		      uint64_t offset_bytes)
{
	struct sim *sim = c->sim;
	bool direct = (f->flags & ENV_DIRECT) != 0;

	if (c->dies_partly) {
		if (direct)
			(void)ioq_start(sim, f, buf, len_bytes, offset_bytes, 0);
		else
			ioq_write_part(sim, f->inode, buf, len_bytes, offset_bytes, false);
		(void)end(c, 0);
	}
	if (sim->cur && direct && rng_ppm(&sim->rng_sched, sim->opts.sleep_ppm))
		return ioq_pwrite_wait(sim, f, buf, len_bytes, offset_bytes, c->fault);
	if (c->fault) {
		ioq_write_part(sim, f->inode, buf, len_bytes, offset_bytes, direct);
		return c->fault;
	}
	return direct ? store_write(sim, f->inode, buf, len_bytes, offset_bytes) :
			buffered_write(sim, f, buf, len_bytes, offset_bytes);
}

static int op_pwrite(struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
		     uint64_t offset_bytes)
{
	struct call c = begin(env, "pwrite", OP_EFFECT | OP_WRITE | OP_ALLOC, f->path, offset_bytes,
			      len_bytes);
	int r = may_write(f);

	if (r < 0)
		return end_int(&c, r);
	if (is_unaligned(f, buf, len_bytes, offset_bytes))
		return end_int(&c, -EINVAL);
	if (len_bytes == 0)
		return end_int(&c, 0);
	sim_mix(c.sim, sim_hash_bytes(c.sim, buf, len_bytes));
	return end_int(&c, write_file(&c, f, buf, len_bytes, offset_bytes));
}

static int op_fdatasync(struct env *env, struct env_file *f)
{
	struct call c = begin(env, "fdatasync", OP_EFFECT | OP_SYNC, f->path, f->inode->ino, 0);
	struct sim *sim = c.sim;
	/* What others write while we wait may stay behind. */
	uint64_t seq = sim->fx_seq;

	nap(sim, sim->opts.sleep_ppm * 2, sim->opts.io_latency_max_ns);
	if (c.dies_partly)
		return end_int(&c, 0);
	if (c.fault) {
		store_sync_failed(sim, f->inode, seq);
		return end_int(&c, c.fault);
	}
	if (fault_hits(sim, sim->faults.lie_data_ppm, f->path)) {
		sim->stats.lies++;
		return end_int(&c, 0);
	}
	if (f->inode->is_dir)
		names_sync(sim, f->inode, seq);
	else
		store_sync(sim, f->inode, seq);
	return end_int(&c, 0);
}

static int op_fallocate(struct env *env, struct env_file *f, uint64_t offset_bytes,
			uint64_t len_bytes)
{
	struct call c = begin(env, "fallocate", OP_EFFECT | OP_WRITE | OP_ALLOC, f->path,
			      offset_bytes, len_bytes);
	int r = may_write(f);

	if (r < 0 || c.fault)
		return end_int(&c, r < 0 ? r : c.fault);
	ioq_settle(c.sim, f->inode);
	return end_int(&c, store_fallocate(c.sim, f->inode, offset_bytes, len_bytes));
}

static int op_punch(struct env *env, struct env_file *f, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct call c = begin(env, "punch", OP_EFFECT | OP_WRITE, f->path, offset_bytes, len_bytes);
	int r = may_write(f);

	if (len_bytes == 0)
		r = -EINVAL;
	else if (offset_bytes > SIM_FILE_BYTES_MAX || len_bytes > SIM_FILE_BYTES_MAX)
		r = -EFBIG;
	if (r < 0 || c.fault)
		return end_int(&c, r < 0 ? r : c.fault);
	ioq_settle(c.sim, f->inode);
	store_punch(c.sim, f->inode, offset_bytes, len_bytes);
	return end_int(&c, 0);
}

static int op_truncate(struct env *env, struct env_file *f, uint64_t size_bytes)
{
	struct call c = begin(env, "truncate", OP_EFFECT | OP_WRITE, f->path, size_bytes, 0);
	int r = may_write(f);

	if (r < 0 || c.fault)
		return end_int(&c, r < 0 ? r : c.fault);
	ioq_settle(c.sim, f->inode);
	return end_int(&c, store_truncate(c.sim, f->inode, size_bytes));
}

static int op_stat(struct env *env, struct env_file *f, struct env_stat *ret_stat)
{
	struct call c = begin(env, "stat", OP_ANY, f->path, f->inode->ino, 0);
	const struct inode *inode = f->inode;
	struct env_stat st = {
		.size_bytes = inode->is_dir ? SIM_PAGE_BYTES : inode->size,
		.allocated_bytes = inode->is_dir ? SIM_PAGE_BYTES : inode->blocks * SIM_PAGE_BYTES,
		.dev = (uint64_t)(inode->dev - c.sim->devices) + 1,
		.ino = inode->ino,
		.changed_ns = inode->changed_ns,
		.link_count = inode->is_dir ? 2 : inode->links,
		.mode = inode->is_dir ? S_IFDIR | 0700 : S_IFREG | 0600,
		.uid = c.sim->uid,
		.is_dir = inode->is_dir,
	};

	if (c.fault)
		return end_int(&c, c.fault);
	sim_mix(c.sim, st.size_bytes ^ st.allocated_bytes << 20 ^ st.link_count);
	*ret_stat = st;
	return end_int(&c, 0);
}

static int op_lock(struct env *env, struct env_file *f)
{
	struct call c = begin(env, "lock", OP_ANY, f->path, f->inode->ino, 0);

	if (c.fault)
		return end_int(&c, c.fault);
	if (f->inode->locked_by && f->inode->locked_by != f)
		return end_int(&c, -EWOULDBLOCK);
	f->inode->locked_by = f;
	return end_int(&c, 0);
}

/* Copy pages that are there; holes stay holes where the target has nothing either. */
static int copy_bytes(struct sim *sim, struct inode *from, uint64_t from_offset_bytes,
		      struct inode *to, uint64_t to_offset_bytes, uint64_t len_bytes)
{
	uint8_t page[SIM_PAGE_BYTES];

	while (len_bytes > 0) {
		size_t n = (size_t)min_u64(len_bytes, sizeof(page));
		int r;

		if (store_read(sim, from, page, n, from_offset_bytes) != n)
			return -EIO;
		r = store_write(sim, to, page, n, to_offset_bytes);
		if (r < 0)
			return r;
		from_offset_bytes += n;
		to_offset_bytes += n;
		len_bytes -= n;
	}
	return 0;
}

static int op_copy_range(struct env *env, struct env_file *from, uint64_t from_offset_bytes,
			 struct env_file *to, uint64_t to_offset_bytes, uint64_t len_bytes)
{
	struct call c = begin(env, "copy_range", OP_EFFECT | OP_WRITE | OP_ALLOC | OP_SLEEP,
			      to->path, to_offset_bytes, len_bytes);
	int r = may_write(to);

	if (r < 0)
		return end_int(&c, r);
	if (c.fault || c.dies_partly)
		len_bytes = rng_below(&c.sim->rng_disk, len_bytes + 1);
	r = copy_bytes(c.sim, from->inode, from_offset_bytes, to->inode, to_offset_bytes,
		       len_bytes);
	return end_int(&c, c.fault ? c.fault : r);
}

static int op_reflink(struct env *env, struct env_file *from, struct env_file *to)
{
	struct call c = begin(env, "reflink", OP_EFFECT | OP_WRITE | OP_ALLOC, to->path,
			      from->inode->ino, to->inode->ino);
	struct inode *inode = to->inode;
	int r = may_write(to);

	if (r < 0 || c.fault)
		return end_int(&c, r < 0 ? r : c.fault);
	if (from->inode->dev != inode->dev)
		return end_int(&c, -EXDEV);
	if (!(inode->dev->flags & SIM_DEV_REFLINK))
		return end_int(&c, -EOPNOTSUPP);
	ioq_settle(c.sim, inode);
	r = store_truncate(c.sim, inode, 0);
	if (r == 0)
		r = copy_bytes(c.sim, from->inode, 0, inode, 0, from->inode->size);
	return end_int(&c, r);
}

static int op_map_shared(struct env *env, struct env_file *f, size_t len_bytes, void **ret_mem)
{
	struct call c = begin(env, "map_shared", OP_ANY, f->path, f->inode->ino, len_bytes);

	return end_int(&c, c.fault ? c.fault : store_map(c.sim, f->inode, len_bytes, ret_mem));
}

static void op_unmap(struct env *env, void *mem, size_t len_bytes)
{
	struct call c = begin(env, "unmap", 0, "", 0, len_bytes);
	struct inode *inode = c.sim->inodes;

	while (inode && (!inode->map || inode->map != mem))
		inode = inode->next;
	if (!inode || inode->map_count == 0)
		sim_fail(c.sim, "unmap of what is not mapped");
	inode->map_count--;
	(void)end(&c, 0);
}

/* ---- names ---------------------------------------------------------------------------------- */

#define NAME_CALL (OP_EFFECT | OP_NAME)

static int op_link(struct env *env, const char *from, const char *to)
{
	struct call c = begin(env, "link", NAME_CALL | OP_ALLOC, to, 0, 0);

	return end_int(&c, c.fault ? c.fault : fs_link(c.sim, from, to));
}

static int op_rename(struct env *env, const char *from, const char *to)
{
	struct call c = begin(env, "rename", NAME_CALL | OP_ALLOC, to, 0, 0);

	return end_int(&c, c.fault ? c.fault : fs_rename(c.sim, from, to));
}

static int op_unlink(struct env *env, const char *path)
{
	struct call c = begin(env, "unlink", NAME_CALL, path, 0, 0);

	return end_int(&c, c.fault ? c.fault : fs_unlink(c.sim, path));
}

static int op_mkdir(struct env *env, const char *path)
{
	struct call c = begin(env, "mkdir", NAME_CALL | OP_ALLOC, path, 0, 0);

	return end_int(&c, c.fault ? c.fault : fs_mkdir(c.sim, path));
}

static int op_rmdir(struct env *env, const char *path)
{
	struct call c = begin(env, "rmdir", NAME_CALL, path, 0, 0);

	return end_int(&c, c.fault ? c.fault : fs_rmdir(c.sim, path));
}

static int op_sync_dir(struct env *env, const char *path)
{
	struct call c = begin(env, "sync_dir", OP_EFFECT | OP_SYNC, path, 0, 0);
	struct sim *sim = c.sim;
	uint64_t seq = sim->fx_seq;
	struct inode *dir;
	int r;

	nap(sim, sim->opts.sleep_ppm, sim->opts.io_latency_max_ns);
	r = fs_lookup(sim, path, &dir);
	if (r == 0 && !dir->is_dir)
		r = -ENOTDIR;
	if (r < 0 || c.fault || c.dies_partly)
		return end_int(&c, r < 0 ? r : c.fault);
	if (fault_hits(sim, sim->faults.lie_dir_ppm, path)) {
		sim->stats.lies++;
		return end_int(&c, 0);
	}
	names_sync(sim, dir, seq);
	return end_int(&c, 0);
}

static int op_list_dir(struct env *env, const char *path, int (*fn)(void *arg, const char *name),
		       void *arg)
{
	struct call c = begin(env, "list_dir", OP_READ, path, 0, 0);
	struct name **names;
	struct inode *dir;
	size_t count;
	int r = c.fault ? c.fault : fs_lookup(c.sim, path, &dir);

	if (r == 0 && !dir->is_dir)
		r = -ENOTDIR;
	if (r < 0)
		return end_int(&c, r);
	count = fs_names(c.sim, dir, &names);
	(void)end(&c, (int64_t)count);
	for (size_t i = 0; i < count && r == 0; i++)
		r = fn(arg, names[i]->text);
	for (size_t i = 0; i < count; i++)
		name_unref(names[i]);
	free(names);
	return r;
}

static int op_space(struct env *env, const char *path, struct env_space *ret_space)
{
	struct call c = begin(env, "space", OP_ANY, path, 0, 0);
	const struct device *dev = fs_device(c.sim, path);
	uint64_t used;

	if (!dev || c.fault)
		return end_int(&c, c.fault ? c.fault : -ENOENT);
	used = min_u64(dev->used_blocks * SIM_PAGE_BYTES, dev->size_bytes);
	ret_space->total_bytes = dev->size_bytes;
	ret_space->free_bytes = dev->size_bytes - used;
	sim_mix(c.sim, ret_space->free_bytes);
	return end_int(&c, 0);
}

/* ---- queues --------------------------------------------------------------------------------- */

static int op_ioq_open(struct env *env, unsigned int depth, struct env_ioq **ret_q)
{
	struct call c = begin(env, "ioq_open", OP_ANY, "", depth, 0);

	if (c.fault)
		return end_int(&c, c.fault);
	ioq_open(c.sim, depth, ret_q);
	return end_int(&c, 0);
}

static void op_ioq_close(struct env *env, struct env_ioq *q)
{
	struct call c;

	if (!q)
		return;
	c = begin(env, "ioq_close", 0, "", 0, 0);
	ioq_close(c.sim, q);
	(void)end(&c, 0);
}

static int op_ioq_submit(struct env *env, struct env_ioq *q, struct env_io *io)
{
	struct env_file *f = io->file;
	unsigned int kind = io->is_read ? OP_READ : OP_EFFECT | OP_WRITE | OP_ALLOC;
	struct call c = begin(env, "ioq_submit", kind, f->path, io->offset_bytes, io->len_bytes);
	int r = io->is_read ? may_read(f) : may_write(f);

	if (r == 0 && is_unaligned(f, io->buf, io->len_bytes, io->offset_bytes))
		r = -EINVAL;
	if (r < 0)
		return end_int(&c, r);
	if (!io->is_read)
		sim_mix(c.sim, sim_hash_bytes(c.sim, io->buf, io->len_bytes));
	ioq_submit(c.sim, q, io, c.fault);
	return end_int(&c, 0);
}

static struct env_io *op_ioq_reap(struct env *env, struct env_ioq *q, bool wait)
{
	struct call c = begin(env, "ioq_reap", 0, "", wait, 0);
	struct env_io *io = ioq_reap(c.sim, q, wait);

	if (io) {
		c.path = io->file->path;
		c.b = io->offset_bytes;
	}
	(void)end(&c, io ? io->result : 1);
	return io;
}

/* ---- time and chance ------------------------------------------------------------------------ */

static uint64_t op_now_mono(struct env *env)
{
	struct sim *sim = CONTAINER_OF(env, struct sim, env);

	sim_step(sim);
	return sim->now_ns;
}

static int64_t op_now_real(struct env *env)
{
	struct sim *sim = CONTAINER_OF(env, struct sim, env);

	sim_step(sim);
	return (int64_t)sim->now_ns + sim->real_offset_ns;
}

static void op_random(struct env *env, void *buf, size_t len_bytes)
{
	struct sim *sim = CONTAINER_OF(env, struct sim, env);
	uint8_t *to = buf;

	while (len_bytes > 0) {
		uint64_t x = rng_next(&sim->rng_env);
		size_t n = (size_t)min_u64(len_bytes, sizeof(x));

		memcpy(to, &x, n);
		to += n;
		len_bytes -= n;
	}
}

static int op_boot_id(struct env *env, char ret_id[37])
{
	struct sim *sim = CONTAINER_OF(env, struct sim, env);
	uint64_t a = rng_mix(sim->seed ^ sim->boot_number << 32);
	uint64_t b = rng_mix(a);

	(void)snprintf(ret_id, 37, "%08x-%04x-%04x-%04x-%012" PRIx64, (unsigned int)(a >> 32),
		       (unsigned int)(a >> 16 & 0xffff), (unsigned int)(0x4000 | (a & 0xfff)),
		       (unsigned int)(0x8000 | (b >> 50)), b & UINT64_C(0xffffffffffff));
	return 0;
}

const struct env_ops sim_env_ops = {
	.open = op_open,
	.close = op_close,
	.pread = op_pread,
	.pwrite = op_pwrite,
	.fdatasync = op_fdatasync,
	.fallocate = op_fallocate,
	.punch = op_punch,
	.truncate = op_truncate,
	.stat = op_stat,
	.lock = op_lock,
	.copy_range = op_copy_range,
	.reflink = op_reflink,
	.map_shared = op_map_shared,
	.unmap = op_unmap,
	.link = op_link,
	.rename = op_rename,
	.unlink = op_unlink,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.sync_dir = op_sync_dir,
	.list_dir = op_list_dir,
	.space = op_space,
	.ioq_open = op_ioq_open,
	.ioq_close = op_ioq_close,
	.ioq_submit = op_ioq_submit,
	.ioq_reap = op_ioq_reap,
	.now_mono_ns = op_now_mono,
	.now_real_ns = op_now_real,
	.random = op_random,
	.boot_id = op_boot_id,
};

void sim_set_faults(struct sim *sim, const struct sim_faults *faults)
{
	sim->faults = faults ? *faults : (struct sim_faults){ 0 };
	sim->fault_prefix_len = sim->faults.path_prefix ? strlen(sim->faults.path_prefix) : 0;
}
