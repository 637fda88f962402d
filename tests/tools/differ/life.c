/* The daemon is started, ended, and killed; what was open is opened again. */
#include "differ.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_LIMIT_MS 120000u
#define END_LIMIT_MS   120000u
#define STEP_US	       2000u
#define KILL_AFTER_US  30000u

static void rest(uint64_t us)
{
	const struct timespec t = { .tv_sec = (time_t)(us / 1000000),
				    .tv_nsec = (long)(us % 1000000) * 1000 };

	(void)nanosleep(&t, NULL);
}

static bool is_ended(struct differ *d, int *ret_status)
{
	return waitpid(d->pid, ret_status, WNOHANG) == d->pid;
}

bool daemon_start(struct differ *d)
{
	uint64_t end_ms = now_ms() + START_LIMIT_MS;
	struct statfs fs;
	int status;

	d->pid = fork();
	if (d->pid < 0)
		give_up("fork: %s", strerror(errno));
	if (d->pid == 0) {
		/* It ends with the tester, and does not keep its output open. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
			_exit(126);
		(void)execv(d->command[0], d->command);
		_exit(127);
	}
	/* A dead mount of before answers with an error, the bare directory with another type. */
	while (statfs(d->root[V], &fs) < 0 || fs.f_type != FUSE_SUPER_MAGIC) {
		if (is_ended(d, &status))
			return differs(d, "the mount ended at once (status %x)", status);
		if (now_ms() > end_ms)
			return differs(d, "the mount does not answer");
		rest(STEP_US);
	}
	return true;
}

void handle_close(struct handle *h)
{
	for (enum side s = V; s < SIDES; s++) {
		if (h->fd[s] >= 0)
			(void)close(h->fd[s]);
		h->fd[s] = -1;
	}
}

/* The mount's half of every handle goes; with it what has no name, on the mirror too. */
static void let_go(struct differ *d)
{
	char name[PATH_BYTES];

	for (unsigned int i = 0; i < HANDLES; i++) {
		struct handle *h = &d->handles[i];

		if (h->fd[V] >= 0)
			(void)close(h->fd[V]);
		h->fd[V] = -1;
		if (h->fd[M] >= 0 && !find_ino(d, h->ino, name))
			handle_close(h);
	}
}

static void open_again(struct differ *d)
{
	char name[PATH_BYTES], path[PATH_BYTES];

	for (unsigned int i = 0; i < HANDLES; i++) {
		struct handle *h = &d->handles[i];

		if (h->fd[M] < 0)
			continue;
		if (!find_ino(d, h->ino, name)) { /* removed by what was under way */
			handle_close(h);
			continue;
		}
		full_path(d, V, name, path);
		h->fd[V] = open(path, h->flags | O_CLOEXEC);
		if (h->fd[V] < 0) {
			d->why_ino = h->ino;
			(void)differs(d, "opening '%s' again: %s", name, strerrorname_np(errno));
			mismatch(d);
		}
	}
}

/* --- what was under way ------------------------------------------------------------------------ */

/* A write that was not acknowledged: each cluster of it is as before, or as it was to be. */
struct unsettled {
	uint64_t off;
	size_t len;
	uint8_t *data;
};

static bool settle_cluster(struct differ *d, const int fd[SIDES], const struct unsettled *u,
			   uint64_t at, size_t len)
{
	uint8_t *want = u->data + (at - u->off), *is = d->out[V], *was = d->out[M];
	ssize_t n = pread(fd[V], is, len, (off_t)at), m = pread(fd[M], was, len, (off_t)at);

	if (n < 0 || m < 0)
		return differs(d, "reading at %" PRIu64 ": %s", at, strerrorname_np(errno));
	if (n == m && memcmp(is, was, (size_t)n) == 0)
		return true;
	if (memcmp(is, want, (size_t)n) != 0)
		return differs(d,
			       "%zu bytes at %" PRIu64
			       " are neither what was there nor what was being written",
			       len, at);
	if (pwrite(fd[M], want, (size_t)n, (off_t)at) != n)
		give_up("writing the mirror: %s", strerror(errno));
	return true;
}

static bool settle_write(struct differ *d, const int fd[SIDES], const struct unsettled *u)
{
	uint64_t at = u->off, end = u->off + u->len, next;

	for (; at < end; at = next) {
		next = min_u64(round_up_u64(at + 1, CLUSTER), end);
		if (!settle_cluster(d, fd, u, at, next - at))
			return false;
	}
	return true;
}

/* The end may have moved as far as these reach, but never back. */
static bool settle_writes(struct differ *d, const int fd[SIDES], const struct unsettled *u,
			  unsigned int count)
{
	uint64_t end = 0;
	struct stat v, m;

	if (fstat(fd[V], &v) < 0 || fstat(fd[M], &m) < 0)
		return differs(d, "fstat: %s", strerrorname_np(errno));
	for (unsigned int i = 0; i < count; i++)
		end = max_u64(end, u[i].off + u[i].len);
	if (v.st_size < m.st_size || (v.st_size > m.st_size && (uint64_t)v.st_size > end))
		return differs(d, "the size is %lld, was %lld, and the write ended at %" PRIu64,
			       (long long)v.st_size, (long long)m.st_size, end);
	if (v.st_size > m.st_size && ftruncate(fd[M], v.st_size) < 0)
		give_up("cutting the mirror: %s", strerror(errno));
	for (unsigned int i = 0; i < count; i++)
		if (!settle_write(d, fd, &u[i]))
			return false;
	return true;
}

static void apply_acked(const int fd[SIDES], const uint8_t *data, size_t len, uint64_t off)
{
	if (len > 0 && pwrite(fd[M], data, len, (off_t)off) != (ssize_t)len)
		give_up("writing the mirror: %s", strerror(errno));
}

static unsigned int burst_unsettled(struct differ *d, const int fd[SIDES], const struct op *op,
				    struct unsettled u[BURST_THREADS])
{
	unsigned int count = 0;

	for (unsigned int t = 0; t < BURST_THREADS; t++) {
		const struct burst *b = &d->bursts[t];
		uint8_t *data = d->keep + t * round_up_u64(op->len, CLUSTER);
		uint64_t off;
		size_t len;

		for (unsigned int i = 0; i < BURST_WRITES && i <= b->done; i++) {
			bool acked = i < b->done;

			burst_place(op, t, i, &off, &len);
			burst_data(op, t, i, data, len);
			apply_acked(fd, data, acked ? len : b->part_bytes, off);
			if (!acked)
				u[count++] = (struct unsettled){ off + b->part_bytes,
								 len - b->part_bytes,
								 data + b->part_bytes };
		}
	}
	return count;
}

static bool settle_data(struct differ *d, const struct op *op, const int fd[SIDES])
{
	struct unsettled u[BURST_THREADS];
	unsigned int count = 1;
	size_t done;

	if (strcmp(op->kind->name, "pwrite") != 0) {
		count = burst_unsettled(d, fd, op, u);
		return settle_writes(d, fd, u, count);
	}
	done = op->result.value > 0 ? (size_t)op->result.value : 0;
	fill_data(op, d->keep, op->len);
	apply_acked(fd, d->keep, done, op->off);
	u[0] = (struct unsettled){ op->off + done, op->len - done, d->keep + done };
	return settle_writes(d, fd, u, 1);
}

static bool settle_file(struct differ *d, const struct op *op)
{
	char name[PATH_BYTES], path[PATH_BYTES];
	int fd[SIDES];
	bool ok;

	if (!find_ino(d, op->ino, name))
		return true; /* it had no name: gone */
	for (enum side s = V; s < SIDES; s++) {
		full_path(d, s, name, path);
		fd[s] = open(path, O_RDWR);
		if (fd[s] < 0)
			return differs(d, "opening '%s' again: %s", name, strerrorname_np(errno));
	}
	ok = settle_data(d, op, fd);
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	if (op->kind->after)
		object_of(d, op->ino)->may_be_disk = true;
	(void)close(fd[V]);
	(void)close(fd[M]);
	return ok;
}

/* An operation on names was done as a whole or not at all. */
static bool settle_names(struct differ *d, const struct op *op)
{
	struct result r;

	if (compare_all(d))
		return true;
	op->kind->apply(d, M, op, &r);
	if (r.error == 0 && op->kind->after)
		op->kind->after(d, op);
	return compare_all(d);
}

static void settle(struct differ *d)
{
	const struct op *op = &d->flight;
	bool ok = true;

	if (d->died) {
		d->why_ino = op->ino;
		if (op->kind->group == GROUP_WRITE)
			ok = settle_file(d, op);
		else
			ok = settle_names(d, op);
	}
	if (!ok || !compare_all(d))
		mismatch(d);
}

/* --- rounds ------------------------------------------------------------------------------------ */

static void start_again(struct differ *d)
{
	if (!daemon_start(d))
		mismatch(d);
	settle(d);
	d->died = false;
	open_again(d);
}

static void *killer_main(void *arg)
{
	struct differ *d = arg;

	rest(d->kill_after_us);
	__atomic_store_n(&d->shot, true, __ATOMIC_SEQ_CST);
	(void)kill(d->pid, SIGKILL);
	return NULL;
}

/* Killed while a write or a change of names is under way, or while nothing is. */
void kill_round(struct differ *d)
{
	/* By tenths, the last of them where there are snapshots. */
	static const unsigned int under_way[] = { 0,
						  0,
						  0,
						  0,
						  1u << GROUP_WRITE,
						  1u << GROUP_WRITE,
						  1u << GROUP_WRITE,
						  1u << GROUP_NAME,
						  1u << GROUP_SNAPSHOT,
						  1u << GROUP_SNAPSHOT };
	uint64_t how = pick(d, ARRAY_SIZE(under_way) - (d->pool ? 0 : 2)), start_ms;

	d->kills++;
	if (under_way[how] == 0) {
		(void)kill(d->pid, SIGKILL);
	} else {
		d->kills_in_flight++;
		d->armed = true;
		d->shot = false;
		d->kill_after_us = pick(d, KILL_AFTER_US);
		if (pthread_create(&d->killer, NULL, killer_main, d) != 0)
			give_up("no thread");
		while (!d->died && perform_any(d, under_way[how]))
			;
		(void)pthread_join(d->killer, NULL);
		d->armed = false;
	}
	start_ms = now_ms();
	(void)waitpid(d->pid, NULL, 0);
	let_go(d);
	start_again(d);
	d->remount_ms += now_ms() - start_ms;
}

bool daemon_stop(struct differ *d, bool by_signal)
{
	uint64_t end_ms = now_ms() + END_LIMIT_MS;
	int status = 0;

	/* By a signal it detaches the mount, whoever has files open; else they are closed first. */
	if (by_signal)
		(void)kill(d->pid, SIGTERM);
	else
		let_go(d);
	while (!by_signal && umount2(d->root[V], 0) < 0)
		if (errno != EBUSY || now_ms() > end_ms)
			return differs(d, "umount: %s", strerrorname_np(errno));
		else
			rest(STEP_US);
	while (!is_ended(d, &status)) {
		if (now_ms() > end_ms)
			return differs(d, "the daemon does not end");
		rest(STEP_US);
	}
	let_go(d);
	if (status != 0)
		return differs(d, "the daemon ended with status %x", status);
	return true;
}

void clean_round(struct differ *d)
{
	uint64_t start_ms = now_ms();

	d->cleans++;
	if (!daemon_stop(d, chance(d, 40)))
		mismatch(d);
	start_again(d);
	d->remount_ms += now_ms() - start_ms;
}
