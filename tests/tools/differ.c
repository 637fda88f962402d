/*
 * differ - the differential tester: random operations on a mount of vPool, each one mirrored on plain
 * files, all results compared; now and then the daemon is killed or ended and started again, and then
 * everything is compared. The parts are in tests/tools/differ/.
 *
 *	tool_differ [OPTIONS] MOUNTPOINT MIRROR COMMAND [ARGUMENT]...
 *
 * COMMAND mounts in the foreground, MIRROR is an empty directory. Exit code 0: no difference, 1: one,
 * 2: wrong usage, or the tester itself could not go on. A seed tells operations, kills and their
 * moments; where a kill meets an operation under way, what follows may depend on how far that came.
 */
#include "differ/differ.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define TRIES_MAX	20u
#define SPOIL_TRIES_MAX 1000u
/* Numbers of operations that are drawn for the rounds between them. */
#define ROUND_BASE (UINT64_C(1) << 60)

static unsigned int index_of(const struct kind *k)
{
	unsigned int i = 0;

	while (kind_at(i) != k)
		i++;
	return i;
}

/* Without a pool to ask there are no snapshots. */
static unsigned int weight_of(const struct differ *d, unsigned int groups, unsigned int i)
{
	const struct kind *k = kind_at(i);

	if (!(groups & 1u << k->group) || (i >= data_kind_count + name_kind_count && !d->pool))
		return 0;
	return k->weight;
}

static const struct kind *pick_kind(struct differ *d, unsigned int groups)
{
	unsigned int count = kind_count(), sum = 0, at;

	for (unsigned int i = 0; i < count; i++)
		sum += weight_of(d, groups, i);
	at = (unsigned int)pick(d, sum);
	for (unsigned int i = 0;; i++) {
		unsigned int weight = weight_of(d, groups, i);

		if (at < weight)
			return kind_at(i);
		at -= weight;
	}
}

bool same_output(struct differ *d, uint64_t at)
{
	size_t len = min_u64(d->out_bytes[V], d->out_bytes[M]), i;

	if (d->out_bytes[V] == d->out_bytes[M] && memcmp(d->out[V], d->out[M], len) == 0)
		return true;
	for (i = 0; i < len && d->out[V][i] == d->out[M][i]; i++)
		;
	if (i == len)
		return differs(d, "%zu bytes, not %zu", d->out_bytes[V], d->out_bytes[M]);
	return differs(d,
		       "first difference at %" PRIu64 " (byte %zu of what was read): 0x%02x, "
		       "must be 0x%02x",
		       at + i, i, d->out[V][i], d->out[M][i]);
}

bool same_result(struct differ *d)
{
	const struct result *v = &d->res[V], *m = &d->res[M];

	if (v->value != m->value || v->error != m->error)
		return differs(d, "%" PRId64 " (%s), must be %" PRId64 " (%s)", v->value,
			       v->error ? strerrorname_np(v->error) : "no error", m->value,
			       m->error ? strerrorname_np(m->error) : "no error");
	return same_output(d, 0);
}

/* Armed: whether the operation met the end of the daemon. */
static bool is_cut_off(const struct differ *d, const struct op *op)
{
	const struct result *v = &d->res[V];

	if (v->error == ENOTCONN || v->error == ECONNABORTED)
		return true;
	/* The kernel says so of a request that the daemon died in the middle of fetching. */
	if (v->error == EIO && __atomic_load_n(&d->shot, __ATOMIC_SEQ_CST))
		return true;
	return op->kind->group == GROUP_WRITE && v->error == 0 && v->value > 0 &&
	       (uint64_t)v->value < op->len;
}

static void do_both(struct differ *d, struct op *op)
{
	struct counts *c = &d->counts[index_of(op->kind)];
	struct op *traced = &d->trace[d->traced++ % TRACE_MAX];

	d->out_bytes[V] = d->out_bytes[M] = 0;
	d->why_ino = op->ino;
	(void)clock_gettime(CLOCK_REALTIME, &op->begin);
	op->kind->apply(d, V, op, &d->res[V]);
	op->result = d->res[V];
	*traced = *op;
	if (d->armed && is_cut_off(d, op)) {
		d->died = true;
		d->flight = *op;
		return;
	}
	op->kind->apply(d, M, op, &d->res[M]);
	if (!(op->kind->same ? op->kind->same(d, op) : same_result(d)))
		mismatch(d);
	if (op->result.error == 0) {
		c->done++;
		d->counted++;
		if (op->kind->after)
			op->kind->after(d, op);
	} else {
		c->failed[op->result.error % ERRNO_MAX]++;
	}
}

bool perform_any(struct differ *d, unsigned int groups)
{
	struct op op;

	rng_begin(d, ++d->seq);
	for (unsigned int i = 0; i < TRIES_MAX; i++) {
		op = (struct op){ .seq = d->seq, .kind = pick_kind(d, groups) };
		if (op.kind->pick(d, &op)) {
			do_both(d, &op);
			return true;
		}
	}
	return false;
}

/* --- the run ----------------------------------------------------------------------------------- */

static void flip_byte(const char *path, int fd, off_t at)
{
	uint8_t byte;

	if (fd < 0 || pread(fd, &byte, 1, at) != 1)
		give_up("'%s': %s", path, strerror(errno));
	byte ^= 1;
	if (pwrite(fd, &byte, 1, at) != 1)
		give_up("'%s': %s", path, strerror(errno));
}

/* One byte of what the first snapshot that has any must show. */
static void spoil_snapshot(struct differ *d)
{
	for (unsigned int tries = 0; tries < SPOIL_TRIES_MAX; tries++) {
		for (unsigned int i = 0; i < SNAPS_MAX; i++) {
			const struct snap *s = &d->snaps[i];
			off_t at = s->ino ? lseek(s->copy, 0, SEEK_DATA) : -1;

			if (at >= 0) {
				flip_byte("copy", s->copy, at);
				return;
			}
		}
		(void)perform_any(d, 1u << GROUP_SNAPSHOT);
	}
	give_up("no snapshot to spoil");
}

/* Behind the mirror's back, so that it must be found. */
static void spoil(struct differ *d)
{
	char path[PATH_BYTES];
	int fd;

	if (strcmp(d->spoil, "snapshot") == 0) {
		spoil_snapshot(d);
		return;
	}
	for (unsigned int i = 0; i < d->path_count; i++) {
		struct stat st;

		path_of(d, M, i, path);
		if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
			continue;
		if (strcmp(d->spoil, "byte") == 0) {
			fd = open(path, O_RDWR);
			flip_byte(path, fd, st.st_size / 2);
			(void)close(fd);
		} else if (strcmp(d->spoil, "mode") == 0 ? chmod(path, st.st_mode ^ 0100) < 0 :
			   strcmp(d->spoil, "size") == 0 ? truncate(path, st.st_size + 1) < 0 :
							   unlink(path) < 0) {
			give_up("'%s': %s", path, strerror(errno));
		}
		return;
	}
}

static void run(struct differ *d)
{
	unsigned int rounds = d->kills_max + d->cleans_max;

	if (!daemon_start(d))
		mismatch(d);
	while (d->counted < d->ops_max) {
		unsigned int ended = d->kills + d->cleans;

		(void)perform_any(d, ~0u);
		if (d->counted < (ended + 1) * (d->ops_max / (rounds + 1)) || ended == rounds)
			continue;
		rng_begin(d, ROUND_BASE + ended);
		if (pick(d, rounds - ended) < d->kills_max - d->kills)
			kill_round(d);
		else
			clean_round(d);
	}
	if (d->spoil)
		spoil(d);
	if (!compare_all(d) || !daemon_stop(d, false))
		mismatch(d);
}

static void make_room(struct differ *d)
{
	d->data = aligned_alloc(CLUSTER, OUT_BYTES);
	d->keep = aligned_alloc(CLUSTER, OUT_BYTES);
	for (enum side s = V; s < SIDES; s++)
		d->out[s] = aligned_alloc(CLUSTER, OUT_BYTES);
	d->trace = calloc(TRACE_MAX, sizeof(*d->trace));
	d->counts = calloc(kind_count(), sizeof(*d->counts));
	d->objects = calloc(OBJECTS_MAX, sizeof(*d->objects));
	if (!d->data || !d->keep || !d->out[V] || !d->out[M] || !d->trace || !d->counts ||
	    !d->objects)
		give_up("no memory");
	for (unsigned int i = 0; i < HANDLES; i++)
		d->handles[i] = (struct handle){ .fd = { -1, -1 } };
}

static void on_bus(int number)
{
	static const char text[] = "differ: SIGBUS: a mapping could not be read\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

static uint64_t number(const char *text)
{
	uint64_t n;

	if (u64_parse(text, &n) < 0)
		give_up("bad number '%s'", text);
	return n;
}

static void usage(void)
{
	(void)fprintf(stderr,
		      "usage: tool_differ [OPTIONS] MOUNTPOINT MIRROR COMMAND [ARGUMENT]...\n"
		      "  --ops N        operations that succeed (default 200000)\n"
		      "  --kills N      deaths of the daemon among them (default 30)\n"
		      "  --cleans N     ends of it that are clean (default 10)\n"
		      "  --seed N       repeat that run (default: any)\n"
		      "  --evidence DIR where the trace of a difference goes (default: .)\n"
		      "  --pool DIR     the pool that COMMAND mounts: snapshots and clones, too\n"
		      "  --spoil WHAT   byte, mode, size, name or snapshot: make a difference, to\n"
		      "                 prove that one is found\n");
	exit(2);
}

static void parse(struct differ *d, int argc, char **argv)
{
	static const struct option options[] = {
		{ "ops", required_argument, NULL, 'o' },
		{ "kills", required_argument, NULL, 'k' },
		{ "cleans", required_argument, NULL, 'c' },
		{ "seed", required_argument, NULL, 's' },
		{ "evidence", required_argument, NULL, 'e' },
		{ "pool", required_argument, NULL, 'd' },
		{ "spoil", required_argument, NULL, 'p' },
		{ 0 },
	};
	int o;

	if (getrandom(&d->seed, sizeof(d->seed), 0) != sizeof(d->seed))
		give_up("no random seed");
	d->seed %= 1000000000;
	while ((o = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (o) {
		case 'o':
			d->ops_max = number(optarg);
			break;
		case 'k':
			d->kills_max = (unsigned int)number(optarg);
			break;
		case 'c':
			d->cleans_max = (unsigned int)number(optarg);
			break;
		case 's':
			d->seed = number(optarg);
			break;
		case 'e':
			d->evidence = optarg;
			break;
		case 'd':
			d->pool = optarg;
			break;
		case 'p':
			d->spoil = optarg;
			break;
		default:
			usage();
		}
	}
	if (argc - optind < 3)
		usage();
	d->root[V] = argv[optind];
	d->root[M] = argv[optind + 1];
	d->command = argv + optind + 2;
}

int main(int argc, char **argv)
{
	static struct differ d = {
		.ops_max = 200000, .kills_max = 30, .cleans_max = 10, .evidence = "."
	};
	uint64_t start_ms = now_ms();

	parse(&d, argc, argv);
	(void)umask(0);
	(void)signal(SIGBUS, on_bus);
	make_room(&d);
	paths_init(&d);
	snaps_init(&d);
	(void)printf("seed %" PRIu64 "\n", d.seed);
	(void)fflush(stdout);
	run(&d);
	(void)printf("%" PRIu64 " operations in %" PRIu64 " ms, of it %" PRIu64
		     " ms for remounting, %" PRIu64 " ms for %u full comparisons\n",
		     d.counted, now_ms() - start_ms, d.remount_ms, d.compare_ms, d.compares);
	(void)printf("%u kills (%u with an operation under way), %u clean ends\n", d.kills,
		     d.kills_in_flight, d.cleans);
	(void)printf("%" PRIu64 " disks and %" PRIu64 " files were made\n", d.objects_made[1],
		     d.objects_made[0]);
	print_histogram(&d);
	return 0;
}
