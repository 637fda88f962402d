/* Rings, SCOs and rows of a pool at rest that were written over with something sound, or nearly so. */
#include "support_damage.h"

#include "common/crc32c.h"
#include "common/endian.h"
#include "volume/format.h"
#include "volume/meta.h"
#include "volume/pool_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRY_KIND_AT 46u

/* --- the ring ---------------------------------------------------------------------------------- */

struct frame {
	uint8_t bytes[128 * KIB];
	uint64_t offset;
	bool used;
	struct batch_header h;
};

static int ring_fd;

static bool frame_read(uint32_t number, struct frame *f)
{
	f->offset = BLOCK_BYTES + number * sizeof(f->bytes);
	if (pread(ring_fd, f->bytes, sizeof(f->bytes), (off_t)f->offset) != sizeof(f->bytes))
		return false;
	f->used = batch_open_decode(f->bytes, &f->h, NULL) == 0;
	return true;
}

static void frame_write(const struct frame *f)
{
	ck_assert_int_eq(pwrite(ring_fd, f->bytes, sizeof(f->bytes), (off_t)f->offset),
			 sizeof(f->bytes));
}

/* Position of the entry of a cluster of world->disk in a frame; false: it has none. */
static bool frame_find(const struct frame *f, uint64_t cluster, unsigned int *ret_index,
		       struct log_entry *ret_entry)
{
	for (unsigned int i = 0; f->used && i < BATCH_ENTRIES_MAX; i++)
		if (batch_entry_decode(f->bytes, i, f->h.salt, ret_entry, NULL) == 0 &&
		    ret_entry->kind == ENTRY_DATA && ret_entry->object == world->disk &&
		    ret_entry->first_cluster == cluster) {
			*ret_index = i;
			return true;
		}
	return false;
}

static struct frame frame, other_frame;

/* The frame that has a cluster, in frame; its entry. */
static unsigned int find_entry(uint64_t cluster, struct log_entry *ret_entry)
{
	unsigned int index;
	char path[PATH_BYTES];

	ring_fd = open(ring_path(path), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(ring_fd, 0);
	for (uint32_t i = 0; frame_read(i, &frame); i++)
		if (frame_find(&frame, cluster, &index, ret_entry))
			return index;
	ck_abort_msg("cluster %" PRIu64 " is not in the ring", cluster);
}

static uint8_t *entry_bytes(unsigned int index)
{
	return frame.bytes + BATCH_HEADER_BYTES + index * BATCH_ENTRY_BYTES;
}

static void write_back(void)
{
	frame_write(&frame);
	ck_assert_int_eq(close(ring_fd), 0);
}

/* What a writer leaves who dies between taking an LSN and publishing. */
static void unpublish(uint64_t cluster)
{
	struct log_entry entry;

	entry_bytes(find_entry(cluster, &entry))[ENTRY_KIND_AT] = ENTRY_NONE;
	write_back();
}

/* --- a hole in it ------------------------------------------------------------------------------ */

#define HOLE 3u

static void expect_hole(void)
{
	struct object *o = get_object(world->disk);

	for (unsigned int i = 0; i < CLUSTERS; i++)
		expect_cluster(o, i, i == HOLE ? 2 : generation_of(i));
	object_close(o);
	expect_all(world->other);
}

static void open_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open_quiet();
	expect_hole();
}

static void open_seal_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open_quiet();
	expect_hole();
	ck_assert_int_eq(pool_seal(pf.pool, NULL), 0);
}

static void open_and_close(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_open();
	expect_hole();
	o = get_object(world->disk);
	write_cluster(o, HOLE, 3);
	sync_object(o);
	object_close(o);
	expect_all(world->disk);
	pool_fixture_close();
}

/* An LSN that nobody published is filled with nothing, so that the log stays dense: also where the next
 * processes die in turn, before and behind a seal. */
START_TEST(an_lsn_whose_writer_died_is_a_hole_that_stays_closed)
{
	in_child_killed(open_pool, NULL);
	unpublish(HOLE);
	in_child_killed(open_and_die, NULL);
	in_child_killed(open_and_die, NULL);
	in_child_killed(open_seal_and_die, NULL);
	in_child_killed(open_and_die, NULL);
	in_child(open_and_close, NULL);
}
END_TEST

/* --- damage in it ------------------------------------------------------------------------------ */

static void flip_entry(void)
{
	struct log_entry entry;

	entry_bytes(find_entry(HOLE, &entry))[3] ^= 1;
	write_back();
}

/* Below what the last checkpoint has. */
static void old_entry(void)
{
	struct log_entry entry;
	unsigned int index = find_entry(HOLE, &entry);

	entry.lsn = 1;
	batch_entry_encode(frame.bytes, index, &entry, frame.h.salt, entry.slot - frame.h.slot - 1,
			   entry.cluster_count);
	batch_entry_publish(frame.bytes, index, entry.kind);
	write_back();
}

/* Of a batch that is open, so that the SCO does not have it either. */
static void flip_data(void)
{
	struct log_entry entry;

	(void)find_entry(CLUSTERS / 4 - 1, &entry);
	frame.bytes[(entry.slot - frame.h.slot) * CLUSTER_BYTES + 9] ^= 4;
	write_back();
}

static void flip_data_of_removed(void)
{
	char path[PATH_BYTES];
	uint64_t number;
	uint32_t stream, version;

	flip_data();
	for (size_t i = sco_count(); i-- > 0;) {
		const char *name = strrchr(sco_path(path, i), '/') + 1;

		ck_assert_int_eq(sco_file_name_parse(name, &stream, &number, &version), 0);
		if (number == frame.h.sco)
			ck_assert_int_eq(unlink(path), 0);
	}
}

static const struct {
	void (*spoil)(void);
	bool refused; /* for writing: something that was acknowledged is not there */
} spoilt_rings[] = {
	{ flip_entry, true },
	{ old_entry, false }, /* as if it had never been published */
	{ flip_data, true },
	{ flip_data_of_removed, true },
};

static void open_spoilt(UNUSED int to_parent, void *arg)
{
	bool refused = *(const bool *)arg;
	uint8_t again[4096];
	struct object *o;

	pool_fixture_open();
	o = get_object(world->disk);
	/* Whatever comes, no cluster is another than one that it was. */
	for (unsigned int i = 0; i < CLUSTERS; i++) {
		uint8_t mem[4096];
		ssize_t r = object_read(o, i * UINT64_C(4096), mem, sizeof(mem), NULL);
		uint64_t generation;

		if (r < 0) {
			ck_assert(refused);
			continue;
		}
		generation = sector_generation(mem, world->disk, i * UINT64_C(8));
		ck_assert(generation >= 1 && generation <= generation_of(i));
		ck_assert(refused || i == HOLE || generation == generation_of(i));
	}
	cluster_fill(again, world->disk, 0, generation_of(0));
	ck_assert_int_eq(object_write(o, 0, again, sizeof(again), NULL), refused ? -EUCLEAN : 0);
	object_close(o);
	expect_all(world->other);
	close_damaged();
}

START_TEST(damage_in_the_ring_is_found_and_refuses_writes_where_something_is_lost)
{
	bool refused = spoilt_rings[_i].refused;

	in_child_killed(open_pool, NULL);
	spoilt_rings[_i].spoil();
	in_child(open_spoilt, &refused);
	in_child(open_spoilt, &refused);
}
END_TEST

START_TEST(a_frame_whose_header_is_damaged_keeps_the_pool_closed)
{
	struct log_entry entry;

	in_child_killed(open_pool, NULL);
	(void)find_entry(HOLE, &entry);
	frame.bytes[20] ^= 1;
	write_back();
	pool_fixture_open_fails(-EBADMSG, "ring frame");
}
END_TEST

static void open_whole(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	expect_all(world->disk);
	expect_all(world->other);
	pool_fixture_close();
}

/* Twice the same LSNs: as copies of one batch. Or, where the frame has another number, in a SCO and the
 * ring. */
START_TEST(an_entry_that_is_there_twice_counts_once)
{
	struct log_entry entry;
	uint32_t i = 0;

	in_child_killed(open_pool, NULL);
	(void)find_entry(HOLE, &entry);
	while (frame_read(i, &other_frame) && other_frame.used)
		i++;
	ck_assert(!other_frame.used);
	memcpy(other_frame.bytes, frame.bytes, sizeof(frame.bytes));
	if (_i) {
		uint32_t number = frame.h.batch + 1000;

		le32_put(other_frame.bytes + 28, number);
		le32_put(other_frame.bytes + 48, crc32c(0, other_frame.bytes, 48));
	}
	frame_write(&other_frame);
	ck_assert_int_eq(close(ring_fd), 0);
	in_child(open_whole, NULL);
}
END_TEST

/* --- blocks of SCOs ---------------------------------------------------------------------------- */

enum part { HEADER, FOOTER };

/* Fields of a header and a footer, whose first 80 bytes are alike. */
static const struct {
	enum part part;
	size_t at;
	const char *what;
} foreign[] = {
	{ HEADER, 40, "pool" },	   { HEADER, 56, "stream" }, { HEADER, 64, "number" },
	{ HEADER, 72, "version" }, { HEADER, 88, "salt" },   { FOOTER, 40, "pool" },
	{ FOOTER, 56, "stream" },  { FOOTER, 64, "number" }, { FOOTER, 72, "version" },
	{ FOOTER, 88, "salt" },
};

/* Sound blocks of another SCO: a header costs its clusters, a footer is made anew from the batches. */
START_TEST(a_block_of_another_sco_is_not_believed)
{
	uint8_t block[BLOCK_BYTES];
	char path[PATH_BYTES];
	struct object *o;
	uint64_t at;
	int fd;

	in_child(closed_pool, NULL);
	(void)find_cluster(world->disk, 10, 1, path);
	at = foreign[_i].part == FOOTER ? file_size(path) - BLOCK_BYTES : 0;
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(pread(fd, block, sizeof(block), (off_t)at), sizeof(block));
	block[foreign[_i].at] += 100; /* not 0, which no SCO has as its number */
	le32_put(block + 12, 0);
	le32_put(block + 12, crc32c(0, block, sizeof(block)));
	ck_assert_int_eq(pwrite(fd, block, sizeof(block), (off_t)at), sizeof(block));
	ck_assert_int_eq(close(fd), 0);
	pool_fixture_open();
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS; i++)
		if (foreign[_i].part == FOOTER || read_cluster(o, i) == 0)
			expect_cluster(o, i, 1);
	if (foreign[_i].part == HEADER)
		ck_assert_int_lt(read_cluster(o, 10), 0);
	object_close(o);
	expect_all(world->other);
	close_damaged();
}
END_TEST

/* Fields of a batch's block: where and when it was written. */
static const struct {
	size_t at;
	const char *what;
} of_batch[] = {
	{ 16, "SCO" }, { 24, "stream" }, { 28, "number" }, { 32, "slot" }, { 40, "epoch" },
};

/* Offset in a file of the block of the batch that has the cluster that stands at an offset. */
static uint64_t batch_before(int fd, uint64_t at, uint8_t block[BLOCK_BYTES],
			     struct batch_header *ret_header)
{
	do {
		at -= BLOCK_BYTES;
		ck_assert_int_eq(pread(fd, block, BLOCK_BYTES, (off_t)at), BLOCK_BYTES);
	} while (batch_close_decode(block, ret_header, NULL) < 0);
	return at;
}

/* A sound block of another place or time: what was synced is missing then, and that is told. */
START_TEST(a_batch_of_another_place_is_no_part_of_the_log)
{
	uint8_t block[BLOCK_BYTES];
	struct batch_header h;
	struct pool_status st;
	char path[PATH_BYTES];
	struct object *o;
	uint64_t at;
	int fd;

	in_child_killed(open_pool, NULL);
	at = find_cluster(world->disk, 40, 2, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	at = batch_before(fd, at, block, &h);
	block[of_batch[_i].at] ^= 1;
	le32_put(block + 48, crc32c(0, block, 48));
	le32_put(block + 52, 0);
	le32_put(block + 52, crc32c(0, block, sizeof(block)));
	ck_assert_int_eq(batch_close_decode(block, &h, NULL), 0);
	ck_assert_int_eq(pwrite(fd, block, sizeof(block), (off_t)at), sizeof(block));
	ck_assert_int_eq(close(fd), 0);
	pretend_reboot();
	pool_fixture_open();
	pool_status(pf.pool, &st);
	ck_assert_int_eq(st.state, POOL_DEGRADED);
	o = get_object(world->disk);
	ck_assert_int_eq(object_write(o, 0, block, sizeof(block), NULL), -EUCLEAN);
	expect_cluster(o, 0, 2);  /* before it */
	expect_cluster(o, 40, 1); /* what the checkpoint has */
	for (unsigned int i = CLUSTERS / 2; i < CLUSTERS; i++)
		expect_cluster(o, i, 1);
	object_close(o);
	expect_all(world->other);
	close_damaged();
}
END_TEST

/* --- rows -------------------------------------------------------------------------------------- */

static struct wrong_row {
	enum row_kind kind;
	enum meta_family family;
	bool two, remove;
	const char *words;
} wrong_rows[] = {
	{ ROW_STREAM, META_NAMES, false, false, "stream" },
	{ ROW_STREAM, META_NAMES, false, true, "is missing" },
	{ ROW_CHECKPOINT, META_NAMES, false, false, "checkpoint" },
	{ ROW_LAYER, META_NAMES, false, false, "layer" },
	{ ROW_OBJECT, META_NAMES, false, false, "object" },
	{ ROW_SCO, META_STATE, true, false, "SCO" },
};

static struct meta *open_meta(void)
{
	struct meta_options mo = { .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20 };
	char path[PATH_BYTES];
	struct err e = { 0 };
	struct meta *meta;

	ck_assert_msg(meta_rocksdb_open(pool_path(path, "meta"), &mo, &meta, &e) == 0, "%s",
		      e.message);
	return meta;
}

struct first_row {
	struct row_key key;
	bool found;
};

static int note_first(void *arg, const uint8_t *key, size_t key_bytes, UNUSED const uint8_t *value,
		      UNUSED size_t value_bytes)
{
	struct first_row *row = arg;

	memcpy(row->key.bytes, key, key_bytes);
	row->key.len_bytes = key_bytes;
	row->found = true;
	return 1;
}

/* The first row of a kind gets a value that is none, or, with NULL, goes. */
static void spoil_row(UNUSED int to_parent, void *arg)
{
	const struct wrong_row *w = arg;
	/* A disk's stream has its number. */
	uint64_t owner = w->kind == ROW_LAYER ? 0 : world->disk;
	struct row_key from = w->two ? row_key_2u64(w->kind, 0, 0) : row_key_u64(w->kind, owner);
	struct row_key until = w->two ? row_key_2u64(w->kind, UINT64_MAX, UINT64_MAX) :
					row_key_u64(w->kind, UINT64_MAX);
	struct first_row row = { .found = false };
	struct meta *meta = open_meta();
	struct meta_batch *batch;
	struct buf value;

	ck_assert_int_eq(meta_iterate(meta, w->family, &from, &until, note_first, &row, NULL), 1);
	ck_assert(row.found);
	batch = meta_batch_new(meta, w->family);
	buf_init(&value, 64);
	ck_assert_int_eq(buf_append(&value, "no row of ours", 14), 0);
	if (w->remove)
		ck_assert_int_eq(meta_batch_delete(meta, batch, &row.key), 0);
	else
		ck_assert_int_eq(meta_batch_put(meta, batch, &row.key, &value), 0);
	ck_assert_int_eq(meta_commit(meta, batch, w->family == META_NAMES ? META_SYNC : 0, NULL),
			 0);
	ck_assert_int_eq(meta_flush(meta, NULL), 0);
	meta_batch_free(meta, batch);
	meta_close(meta);
	buf_done(&value);
}

static void expect_no_open(UNUSED int to_parent, void *arg)
{
	const struct wrong_row *w = arg;
	struct pool *p = NULL;
	struct err e = { 0 };
	int r = pool_open(env_posix(), &pf.options, &p, &e);

	ck_assert_msg(r == -EUCLEAN || r == -EBADMSG, "%d %s", r, e.message);
	ck_assert_msg(strstr(e.message, w->words) != NULL, "'%s' lacks '%s'", e.message, w->words);
}

START_TEST(a_row_that_is_none_keeps_the_pool_closed)
{
	in_child_killed(open_pool, NULL);
	in_child(spoil_row, &wrong_rows[_i]);
	in_child(expect_no_open, &wrong_rows[_i]);
}
END_TEST

/* --- a database of before ---------------------------------------------------------------------- */

/* False: it was removed meanwhile. */
static bool copy_file(const char *from, const char *to)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *bytes;

	if (fd < 0)
		return false;
	ck_assert_int_eq(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size + 1);
	ck_assert_ptr_nonnull(bytes);
	ck_assert_int_eq(read(fd, bytes, (size_t)st.st_size), st.st_size);
	ck_assert_int_eq(close(fd), 0);
	make_file(to, bytes, (size_t)st.st_size);
	free(bytes);
	return true;
}

static bool same_names(const struct name_list *a, const struct name_list *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = strcmp(a->names[i], b->names[i]) == 0;
	return same;
}

/* RocksDB makes and removes files when it likes. False: it did meanwhile. */
static bool copy_meta(void *to)
{
	char dir[PATH_BYTES], from_path[2 * PATH_BYTES], to_path[2 * PATH_BYTES];
	struct name_list before, after;
	bool copied = true;

	remove_tree(to);
	ck_assert_int_eq(mkdir(to, 0700), 0);
	name_list_read(pool_path(dir, "meta"), &before);
	for (size_t i = 0; copied && i < before.count; i++) {
		(void)snprintf(from_path, sizeof(from_path), "%s/%s", dir, before.names[i]);
		(void)snprintf(to_path, sizeof(to_path), "%s/%s", (char *)to, before.names[i]);
		copied = copy_file(from_path, to_path);
	}
	name_list_read(dir, &after);
	copied = copied && same_names(&before, &after);
	name_list_free(&before);
	name_list_free(&after);
	return copied;
}

static void copy_meta_in_between(UNUSED int to_parent, UNUSED void *arg)
{
	char copy[PATH_BYTES];
	struct object *o;

	make_two_disks();
	o = get_object(world->disk);
	ck_assert_int_eq(pool_sync_names(pf.pool, NULL), 0);
	(void)root_path(copy, "meta_before");
	wait_until(copy_meta, copy, 30, "a moment in which nothing changes in the database");
	object_close(make_object(OBJECT_DISK));
	ck_assert_int_eq(pool_sync_names(pf.pool, NULL), 0);
	write_cluster(o, 1, 2);
	sync_object(o);
	write_cluster(o, 1, 3);
	sync_object(o);
	object_close(o);
}

START_TEST(a_database_of_before_within_an_epoch_is_refused)
{
	char path[PATH_BYTES], copy[PATH_BYTES];

	in_child_killed(copy_meta_in_between, NULL);
	replace_contents(pool_path(path, "meta"), root_path(copy, "meta_before"));
	pool_fixture_open_fails(-EUCLEAN, "the metadata went back");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_forged");
	TCase *t = tcase_create("forged");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, damage_begin);
	tcase_add_test(t, an_lsn_whose_writer_died_is_a_hole_that_stays_closed);
	tcase_add_loop_test(t,
			    damage_in_the_ring_is_found_and_refuses_writes_where_something_is_lost,
			    0, ARRAY_SIZE(spoilt_rings));
	tcase_add_test(t, a_frame_whose_header_is_damaged_keeps_the_pool_closed);
	tcase_add_loop_test(t, an_entry_that_is_there_twice_counts_once, 0, 2);
	tcase_add_loop_test(t, a_block_of_another_sco_is_not_believed, 0, ARRAY_SIZE(foreign));
	tcase_add_loop_test(t, a_batch_of_another_place_is_no_part_of_the_log, 0,
			    ARRAY_SIZE(of_batch));
	tcase_add_loop_test(t, a_row_that_is_none_keeps_the_pool_closed, 0, ARRAY_SIZE(wrong_rows));
	tcase_add_test(t, a_database_of_before_within_an_epoch_is_refused);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
