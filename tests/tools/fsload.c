/*
 * fsload - load on a filesystem that may lose its power, and what must be there afterwards.
 *
 *	tool_fsload write FILE LOG SIZE SEED direct|cached	until an error
 *	tool_fsload check FILE LOG SIZE
 *	tool_fsload names DIR LOG SEED				until an error
 *	tool_fsload check-names DIR LOG
 *
 * The log is outside of that filesystem: what was begun, what was answered, which syncs began and ended,
 * in this order. What was answered before a sync began that ended is there, or something younger; and
 * so is what was answered before anything began that can be seen, for what is left of a file is all that
 * happened to it up to some moment. Nothing else is there. A check that finds all right makes what is
 * there the beginning of the log.
 *
 * Each thread of `write` has sectors of its own, the last one the end of the file with its size.
 * `names` makes files under one name and moves them over others: a name has the whole of one of them.
 */
#include "tests/tools/commands.h"
#include "tests/tools/sector.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITERS		  3u
#define WRITE_SECTORS_MAX 2048u
#define SLOTS		  8u
#define SLOT_SECTORS	  5u
#define BAD_SHOWN	  5u

/* powercut.sh knows the number of SYNC and the length of a record. */
enum kind { WRITE = 1, ZEROS, RESIZE, PLACE, WHOLE, REMOVE, SYNC, SETTLED };
enum step { BEGIN, END };

/*
 * first and count: sectors; of RESIZE first is the size, of PLACE and REMOVE the slot. PLACE with a
 * count: the name must never be seen without all its bytes; WHOLE: nor this one, from now on.
 * SETTLED: what was begun up to here counts only if it is told again behind it.
 */
struct record {
	uint32_t kind, step;
	uint64_t seq, first, count;
};

static int put(int log, enum kind kind, enum step step, uint64_t seq, uint64_t first,
	       uint64_t count)
{
	struct record r = { kind, step, seq, first, count };

	return write(log, &r, sizeof(r)) == (ssize_t)sizeof(r) ? 0 : fail("log");
}

/* --- the log ----------------------------------------------------------------------------------- */

struct log {
	struct record *records;
	size_t *end_of; /* of a BEGIN where its END is, else SIZE_MAX */
	size_t count;
	uint64_t seq_max, settled;
	size_t floor; /* where the last sync began that ended; 0: none did */
	bool is_synced;
};

static int log_load(const char *path, struct log *log)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	size_t *begin_of;

	if (!f || fstat(fileno(f), &st) < 0)
		return fail(path);
	log->count = (size_t)st.st_size / sizeof(struct record);
	log->records = calloc(log->count + 1, sizeof(struct record));
	log->end_of = calloc(log->count + 1, sizeof(size_t));
	if (!log->records || !log->end_of ||
	    fread(log->records, sizeof(struct record), log->count, f) != log->count)
		return fail(path);
	(void)fclose(f);
	for (size_t i = 0; i < log->count; i++)
		log->seq_max = max_u64(log->seq_max, log->records[i].seq);
	begin_of = calloc(log->seq_max + 1, sizeof(size_t));
	if (!begin_of)
		return fail("memory");
	for (size_t i = 0; i < log->count; i++) {
		const struct record *r = &log->records[i];

		log->end_of[i] = SIZE_MAX;
		if (r->kind == WHOLE)
			continue;
		if (r->kind == SETTLED)
			log->settled = r->seq;
		if (r->step == BEGIN) {
			begin_of[r->seq] = i;
			continue;
		}
		log->end_of[begin_of[r->seq]] = i;
		if (r->kind == SYNC) {
			log->floor = max_u64(log->floor, begin_of[r->seq]);
			log->is_synced = true;
		}
	}
	free(begin_of);
	return 0;
}

static void log_free(struct log *log)
{
	free(log->records);
	free(log->end_of);
}

/* Whether it was answered before the floor: it must be there. */
static bool is_owed(const struct log *log, size_t i)
{
	return log->records[i].step == BEGIN && log->end_of[i] < log->floor;
}

/* Whether what is there is what is owed, or began later. */
static bool may_be(const struct log *log, uint64_t seq, uint64_t owed)
{
	return seq == owed || (seq > owed && seq > log->settled && seq <= log->seq_max);
}

static void settle_put(FILE *f, enum kind kind, uint64_t seq, uint64_t first, uint64_t count)
{
	for (unsigned int step = BEGIN; step <= END; step++) {
		struct record r = { kind, step, seq, first, count };

		(void)fwrite(&r, sizeof(r), 1, f);
	}
}

/* A new log in place of the old one: what is there, and all that was begun is over. */
static FILE *settle_begin(const char *path, uint64_t seq, char *temp, size_t len_bytes)
{
	int n = snprintf(temp, len_bytes, "%s.new", path);
	FILE *f = n > 0 && (size_t)n < len_bytes ? fopen(temp, "we") : NULL;

	if (f)
		settle_put(f, SETTLED, seq, 0, 0);
	return f;
}

static int settle_end(FILE *f, const char *temp, const char *path, uint64_t seq)
{
	settle_put(f, SYNC, seq, 0, 0);
	return ferror(f) || fclose(f) != 0 || rename(temp, path) < 0 ? fail("log") : 0;
}

/* --- writing ----------------------------------------------------------------------------------- */

struct writer {
	pthread_t thread;
	int fd, log;
	uint64_t disk, state;
	uint64_t first, sectors; /* its own */
	uint64_t size;		 /* sectors; of the last writer, whose the end of the file is */
	bool has_end;
	uint64_t *seq; /* of all */
	uint8_t *data;
};

static uint64_t draw(struct writer *w, uint64_t bound)
{
	return next_random(&w->state) % bound;
}

/* 512 bytes to 1 MiB, small ones more often; half of them whole clusters. */
static void draw_range(struct writer *w, uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t align = draw(w, 2) ? 8 : 1;
	uint64_t most = draw(w, 8) ? 16 : draw(w, 4) ? 256 : WRITE_SECTORS_MAX;
	uint64_t count = 1 + draw(w, most);

	count = round_up_u64(min_u64(count, w->sectors / 2), align);
	*ret_first = w->first + draw(w, w->sectors - count) / align * align;
	*ret_count = count;
}

/* 0, or 1 for an error of the filesystem: the end. */
static int write_once(struct writer *w)
{
	uint64_t seq = __atomic_add_fetch(w->seq, 1, __ATOMIC_RELAXED), first, count,
		 dice = draw(w, 64);
	int r;

	draw_range(w, &first, &count);
	if (w->has_end && dice < 3) {
		if (put(w->log, RESIZE, BEGIN, seq, first, 0) != 0 ||
		    ftruncate(w->fd, (off_t)(first * SECTOR_BYTES)) < 0)
			return 1;
		w->size = first;
		return put(w->log, RESIZE, END, seq, first, 0);
	}
	if (dice < 6) {
		if (put(w->log, ZEROS, BEGIN, seq, first, count) != 0 ||
		    fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(first * SECTOR_BYTES), (off_t)(count * SECTOR_BYTES)) < 0)
			return 1;
		return put(w->log, ZEROS, END, seq, first, count);
	}
	for (uint64_t i = 0; i < count; i++)
		fill_sector(w->data + i * SECTOR_BYTES, w->disk, seq, first + i);
	r = put(w->log, WRITE, BEGIN, seq, first, count);
	if (r != 0 || pwrite(w->fd, w->data, count * SECTOR_BYTES, (off_t)(first * SECTOR_BYTES)) !=
			      (ssize_t)(count * SECTOR_BYTES))
		return 1;
	return put(w->log, WRITE, END, seq, first, count);
}

static int sync_once(int fd, int log, uint64_t *seq_of_all, bool only_data)
{
	uint64_t seq = __atomic_add_fetch(seq_of_all, 1, __ATOMIC_RELAXED);

	if (put(log, SYNC, BEGIN, seq, 0, 0) != 0 || (only_data ? fdatasync(fd) : fsync(fd)) < 0)
		return 1;
	return put(log, SYNC, END, seq, 0, 0);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;

	while (write_once(w) == 0)
		if (draw(w, 8) == 0 && sync_once(w->fd, w->log, w->seq, draw(w, 2)) != 0)
			break;
	return NULL;
}

/* Not 0, which xorshift never leaves. */
static uint64_t random_seed(uint64_t seed, uint64_t thread)
{
	return (seed * 8 + thread + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* Where the sectors of writer i begin; the last one's end is the end of all. */
static uint64_t share_of(uint64_t sectors, unsigned int i)
{
	return sectors / WRITERS / 8 * 8 * i;
}

static int open_log(const char *path, uint64_t *ret_seq)
{
	struct log log = { 0 };
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0644);

	if (fd < 0 || log_load(path, &log) != 0)
		return -1;
	*ret_seq = log.seq_max;
	log_free(&log);
	return fd;
}

static int cmd_write(char **a)
{
	uint64_t sectors = number(a[2]) / SECTOR_BYTES, seed = number(a[3]), seq = 0;
	int flags = strcmp(a[4], "direct") == 0 ? O_DIRECT : 0, log = open_log(a[1], &seq), fd;
	struct writer w[WRITERS] = { 0 };
	struct stat st;

	fd = log < 0 ? -1 : open(a[0], O_RDWR | O_CREAT | flags, 0644);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail("open");
	/* Its end is the last writer's from the beginning on. */
	if (st.st_size == 0) {
		uint64_t size = share_of(sectors, WRITERS - 1);

		if (put(log, RESIZE, BEGIN, ++seq, size, 0) != 0 ||
		    ftruncate(fd, (off_t)(size * SECTOR_BYTES)) < 0 ||
		    put(log, RESIZE, END, seq, size, 0) != 0 ||
		    sync_once(fd, log, &seq, false) != 0)
			return 0;
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .fd = fd, .log = log, .disk = disk_of(a[0]), .seq = &seq };
		w[i].state = random_seed(seed, i);
		w[i].first = share_of(sectors, i);
		w[i].sectors = share_of(sectors, i + 1) - w[i].first;
		w[i].has_end = i == WRITERS - 1;
		w[i].data = aligned_alloc(4096, (WRITE_SECTORS_MAX + 8) * SECTOR_BYTES);
		if (!w[i].data || pthread_create(&w[i].thread, NULL, writer_main, &w[i]) != 0)
			return fail("thread");
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		(void)pthread_join(w[i].thread, NULL);
		free(w[i].data);
	}
	(void)close(fd);
	return 0;
}

/* --- what must be there ------------------------------------------------------------------------ */

/* Of a sector: the youngest write that is owed, and whether it may be zeros. */
struct owed {
	uint64_t seq;
	bool zeros;
};

static void owe(struct owed *o, const struct record *r, bool is_owed_now)
{
	if (is_owed_now)
		*o = (struct owed){ .seq = r->seq, .zeros = r->kind != WRITE };
	else if (r->kind != WRITE)
		o->zeros = true;
}

static void expect(const struct log *log, struct owed *owed, uint64_t sectors)
{
	for (uint64_t i = 0; i < sectors; i++)
		owed[i] = (struct owed){ .zeros = true };
	for (size_t i = 0; i < log->count; i++) {
		const struct record *r = &log->records[i];
		uint64_t end = r->kind == RESIZE ? sectors : r->first + r->count;

		if (r->step == BEGIN && r->kind <= RESIZE)
			for (uint64_t s = r->first; s < min_u64(end, sectors); s++)
				owe(&owed[s], r, is_owed(log, i));
	}
}

/* Of the last writer's sizes one that may be. */
static bool size_fits(const struct log *log, uint64_t size, uint64_t tail)
{
	uint64_t before = 0;
	bool fits = size == 0;

	for (size_t i = 0; i < log->count; i++) {
		const struct record *r = &log->records[i];
		uint64_t after = before;

		if (r->step != BEGIN || r->first < tail || (r->kind != WRITE && r->kind != RESIZE))
			continue;
		if (r->kind == RESIZE)
			after = r->first;
		else
			after = max_u64(before, r->first + r->count);
		if (is_owed(log, i))
			fits = size == after;
		else if (r->kind == RESIZE)
			fits |= size == after;
		else
			fits |= size >= before && size <= after;
		before = after;
	}
	return fits;
}

/* The number of the write whose bytes these are, 0 for zeros, UINT64_MAX for none of ours. */
static uint64_t write_of(const uint8_t *sector, uint64_t disk, uint64_t at)
{
	uint8_t want[SECTOR_BYTES];
	uint64_t seq;

	memcpy(&seq, sector, sizeof(seq));
	fill_sector(want, disk, seq, at);
	return memcmp(want, sector, sizeof(want)) == 0 ? seq : UINT64_MAX;
}

static uint64_t count_bad(const struct log *log, const uint64_t *is, struct owed *owed,
			  uint64_t sectors)
{
	uint64_t bad = 0;

	expect(log, owed, sectors);
	for (uint64_t i = 0; i < sectors; i++) {
		if (is[i] == 0 ? owed[i].zeros : may_be(log, is[i], owed[i].seq))
			continue;
		if (bad++ < BAD_SHOWN)
			(void)fprintf(stderr,
				      "fsload: sector %" PRIu64 ": write %" PRIu64
				      " or a younger one is owed, %" PRIu64 " is there\n",
				      i, owed[i].seq, is[i]);
	}
	return bad;
}

/* Nothing that is seen began after something was answered that is not. */
static void floor_from_seen(struct log *log, const uint64_t *is, uint64_t sectors)
{
	uint64_t newest = 0;

	for (uint64_t i = 0; i < sectors; i++)
		newest = is[i] == UINT64_MAX ? newest : max_u64(newest, is[i]);
	for (size_t i = log->count; i-- > log->floor;)
		if (newest && log->records[i].step == BEGIN && log->records[i].seq == newest)
			log->floor = i;
}

static int settle(const char *path, const uint64_t *is, uint64_t sectors, uint64_t size,
		  uint64_t seq)
{
	char temp[4096];
	FILE *f = settle_begin(path, seq, temp, sizeof(temp));

	if (!f)
		return fail("log");
	settle_put(f, RESIZE, seq, size, 0);
	settle_put(f, ZEROS, seq, 0, sectors);
	for (uint64_t i = 0, next; i < sectors; i = next) {
		for (next = i; next < sectors && is[next] == is[i]; next++)
			;
		if (is[i])
			settle_put(f, WRITE, is[i], i, next - i);
	}
	return settle_end(f, temp, path, seq + 1);
}

static int cmd_check(char **a)
{
	uint64_t sectors = number(a[2]) / SECTOR_BYTES, synced_bad, bad, disk = disk_of(a[0]);
	struct owed *owed = calloc(sectors, sizeof(*owed));
	uint64_t *is = calloc(sectors, sizeof(*is));
	struct log log = { 0 };
	uint8_t sector[SECTOR_BYTES];
	struct stat st = { 0 };
	FILE *f;
	int r;

	if (!owed || !is || log_load(a[1], &log) != 0)
		return fail("log");
	f = fopen(a[0], "re");
	if (!f && errno == ENOENT && !log.is_synced) {
		log_free(&log);
		free(owed);
		free(is);
		(void)printf("it was not synced, and is not there\n");
		return truncate(a[1], 0) < 0 ? fail("log") : 0;
	}
	if (!f || fstat(fileno(f), &st) < 0)
		return fail(a[0]);
	for (uint64_t i = 0; i < sectors && fread(sector, sizeof(sector), 1, f) == 1; i++)
		is[i] = write_of(sector, disk, i);
	if (ferror(f))
		return fail("reading");
	(void)fclose(f);
	synced_bad = count_bad(&log, is, owed, sectors);
	floor_from_seen(&log, is, sectors);
	bad = synced_bad ? synced_bad : count_bad(&log, is, owed, sectors);
	if (!size_fits(&log, (uint64_t)st.st_size / SECTOR_BYTES, share_of(sectors, WRITERS - 1))) {
		(void)fprintf(stderr, "fsload: %lld bytes is no size that it may have\n",
			      (long long)st.st_size);
		bad++;
	}
	(void)printf("%" PRIu64 " bad, %" PRIu64 " of them synced\n", bad, synced_bad);
	r = bad ? 1 :
		  settle(a[1], is, sectors, (uint64_t)st.st_size / SECTOR_BYTES, log.seq_max + 1);
	log_free(&log);
	free(owed);
	free(is);
	return r;
}

/* --- names ------------------------------------------------------------------------------------- */

/* The last is a disk: the rename that makes it one changes its log. */
static void name_slot(char *name, size_t len_bytes, uint64_t slot)
{
	(void)snprintf(name, len_bytes, "slot%" PRIu64 "%s", slot, slot == SLOTS - 1 ? ".raw" : "");
}

/* A file with the bytes of seq, under a name that nobody asks for; -1 for an error. */
static int make_file(int dir, uint64_t seq)
{
	uint8_t data[SLOT_SECTORS * SECTOR_BYTES];
	int fd = openat(dir, "new", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	for (uint64_t i = 0; i < SLOT_SECTORS; i++)
		fill_sector(data + i * SECTOR_BYTES, 0, seq, i);
	if (fd >= 0 && write(fd, data, sizeof(data)) == (ssize_t)sizeof(data))
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

/*
 * A rename over another file publishes its bytes, synced or not; a file that was synced has them
 * under any name; else a name may survive without them.
 */
static int place(int dir, int log, uint64_t slot, uint64_t *seq, uint64_t *state)
{
	uint64_t mine = ++*seq, dice = next_random(state) % 4;
	struct stat st;
	char name[32];
	bool is_whole;
	int fd, r = 1;

	name_slot(name, sizeof(name), slot);
	is_whole = dice == 0 || fstatat(dir, name, &st, 0) == 0;
	if (put(log, PLACE, BEGIN, mine, slot, is_whole) != 0)
		return 1;
	fd = make_file(dir, mine);
	if (fd < 0)
		return 1;
	if ((dice != 0 || fsync(fd) == 0) && renameat(dir, "new", dir, name) == 0)
		r = put(log, PLACE, END, mine, slot, is_whole);
	/* The sync of a file covers its name, and what happened to others before. */
	if (r == 0 && dice == 1)
		r = sync_once(fd, log, seq, false) != 0 || put(log, WHOLE, END, mine, slot, 0) != 0;
	(void)close(fd);
	return r;
}

static int cmd_names(char **a)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY), log;
	uint64_t seq = 0, state = random_seed(number(a[2]), 0);
	/* In most runs nothing but a sync of the file itself keeps a name. */
	bool syncs_dir = (next_random(&state) >> 32) % 4 == 0;

	log = open_log(a[1], &seq);
	if (dir < 0 || log < 0)
		return fail("open");
	for (int r = 0; r == 0;) {
		/* Seldom a disk: that change of its log syncs all names, asked or not. */
		uint64_t slot =
			next_random(&state) % 256 ? next_random(&state) % (SLOTS - 1) : SLOTS - 1;
		char name[32];

		name_slot(name, sizeof(name), slot);
		if (next_random(&state) % 4 == 0) {
			r = put(log, REMOVE, BEGIN, ++seq, slot, 0);
			if (r == 0 && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
				r = 1;
			if (r == 0)
				r = put(log, REMOVE, END, seq, slot, 0);
		} else {
			r = place(dir, log, slot, &seq, &state);
		}
		if (r == 0 && syncs_dir && next_random(&state) % 8 == 0)
			r = sync_once(dir, log, &seq, false);
	}
	(void)close(dir);
	return 0;
}

/* What a slot has: no file, some bytes of one (seq 0: none), a whole one, or something else. */
enum has { HAS_NONE, HAS_PART, HAS_WHOLE, HAS_OTHER };

static enum has slot_has(int dir, uint64_t slot, uint64_t *ret_seq)
{
	uint8_t data[SLOT_SECTORS * SECTOR_BYTES + 1] = { 0 };
	bool zeros = false;
	char name[32];
	ssize_t n;
	int fd;

	*ret_seq = 0;
	name_slot(name, sizeof(name), slot);
	fd = openat(dir, name, O_RDONLY);
	if (fd < 0)
		return errno == ENOENT ? HAS_NONE : HAS_OTHER;
	n = read(fd, data, sizeof(data));
	(void)close(fd);
	if (n < 0 || n == (ssize_t)sizeof(data))
		return HAS_OTHER;
	for (uint64_t i = 0; i < SLOT_SECTORS; i++) {
		uint64_t seq = write_of(data + i * SECTOR_BYTES, 0, i);

		zeros |= seq == 0;
		if (seq == UINT64_MAX || (seq && *ret_seq && seq != *ret_seq))
			return HAS_OTHER;
		*ret_seq = max_u64(*ret_seq, seq);
	}
	return zeros ? HAS_PART : HAS_WHOLE;
}

static bool has_whole_record(const struct log *log, uint64_t seq)
{
	for (size_t i = 0; i < log->count; i++)
		if (log->records[i].kind == WHOLE && log->records[i].seq == seq)
			return true;
	return false;
}

static bool slot_fits(const struct log *log, uint64_t slot, enum has has, uint64_t seq)
{
	bool none = true, whole = false, part = false;
	uint64_t owed = 0;

	for (size_t i = 0; i < log->count; i++) {
		const struct record *r = &log->records[i];

		if (r->step != BEGIN || (r->kind != PLACE && r->kind != REMOVE) || r->first != slot)
			continue;
		if (is_owed(log, i)) {
			owed = r->seq;
			none = whole = part = false;
		}
		none |= r->kind == REMOVE;
		if (r->kind != PLACE)
			continue;
		whole |= r->seq == seq;
		part |= (seq == 0 || r->seq == seq) && r->count == 0 &&
			!has_whole_record(log, r->seq);
	}
	if ((has == HAS_NONE && none) || (has == HAS_WHOLE && whole) || (has == HAS_PART && part))
		return true;
	(void)fprintf(stderr,
		      "fsload: slot %" PRIu64 ": file %" PRIu64
		      " or what came later is owed, of %" PRIu64 " %s is there\n",
		      slot, owed, seq,
		      has == HAS_NONE  ? "nothing" :
		      has == HAS_PART  ? "a part" :
		      has == HAS_WHOLE ? "all" :
					 "something else");
	return false;
}

static int cmd_check_names(char **a)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY);
	struct log log = { 0 };
	char temp[4096];
	unsigned int bad = 0;
	FILE *f;

	if (dir < 0)
		return fail(a[0]);
	if (log_load(a[1], &log) != 0)
		return 1;
	f = settle_begin(a[1], log.seq_max + 1, temp, sizeof(temp));
	if (!f)
		return fail("log");
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		uint64_t seq;
		enum has has = slot_has(dir, slot, &seq);

		bad += !slot_fits(&log, slot, has, seq);
		if (has != HAS_NONE)
			settle_put(f, PLACE, seq ? seq : log.seq_max + 1, slot, has == HAS_WHOLE);
	}
	(void)close(dir);
	log_free(&log);
	(void)printf("%u bad names\n", bad);
	if (bad) {
		(void)fclose(f);
		return 1;
	}
	return settle_end(f, temp, a[1], log.seq_max + 2);
}

static const struct command commands[] = {
	{ "write", 5, cmd_write, "FILE LOG SIZE SEED direct|cached" },
	{ "check", 3, cmd_check, "FILE LOG SIZE" },
	{ "names", 3, cmd_names, "DIR LOG SEED" },
	{ "check-names", 2, cmd_check_names, "DIR LOG" },
};

int main(int argc, char **argv)
{
	return run_command(commands, ARRAY_SIZE(commands), argc, argv);
}
