/*
 * What every metadata store promises (volume/meta.h), asked of each in the same words; then what
 * only a real process can show: SIGKILL.
 */
#include "common/thread.h"
#include "volume/meta.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define VALUE_MAX (UINT64_C(8) << 20)
#define SCO	  UINT64_C(77)

/* ---- the two stores ---- */

struct store {
	const char *name;
	void (*make)(void);
	void (*open)(void);
	void (*kill)(void); /* as if the process died; then open again */
	void (*done)(void);
};

static struct {
	const struct store *store;
	struct meta *m;
	struct meta_mem_disk *disk;
	char dir[32];
	struct err e;
	struct buf got;
} fx;

static void mem_make(void)
{
	fx.disk = meta_mem_disk_new();
	ck_assert_ptr_nonnull(fx.disk);
}

static void mem_open(void)
{
	ck_assert_int_eq(meta_mem_open(fx.disk, &fx.m, &fx.e), 0);
}

static void mem_kill(void)
{
	meta_mem_kill(fx.disk);
	mem_open();
}

static void mem_done(void)
{
	meta_close(fx.m);
	meta_mem_disk_free(fx.disk);
}

static const struct meta_options small_options = {
	.cache_bytes = 1 << 20,
	.write_buffer_bytes = 1 << 20,
};

static void rocks_make(void)
{
	(void)snprintf(fx.dir, sizeof(fx.dir), "meta-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(fx.dir));
}

static void rocks_open(void)
{
	const int r = meta_rocksdb_open(fx.dir, &small_options, &fx.m, &fx.e);

	ck_assert_msg(r == 0, "%s", fx.e.message);
}

static void copy_file(int from_dir, int to_dir, const char *name)
{
	const int in = openat(from_dir, name, O_RDONLY),
		  out = openat(to_dir, name, O_WRONLY | O_CREAT, 0600);
	char block[65536];
	ssize_t n;

	ck_assert(in >= 0 && out >= 0);
	while ((n = read(in, block, sizeof(block))) > 0)
		ck_assert_int_eq(write(out, block, (size_t)n), n);
	ck_assert_int_eq(n, 0);
	(void)close(in);
	(void)close(out);
}

/* to: NULL just removes. RocksDB's directories are flat. */
static void empty_dir(const char *dir, const char *to)
{
	DIR *d = opendir(dir);
	const int to_fd = to != NULL ? open(to, O_DIRECTORY) : -1;
	const struct dirent *entry;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (to != NULL)
			copy_file(dirfd(d), to_fd, entry->d_name);
		else
			ck_assert_int_eq(unlinkat(dirfd(d), entry->d_name, 0), 0);
	}
	(void)closedir(d);
	if (to_fd >= 0)
		(void)close(to_fd);
}

static void remove_dir(const char *dir)
{
	empty_dir(dir, NULL);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* What the files hold now is what a dead process leaves. */
static void rocks_kill(void)
{
	char copy[32] = "meta-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(copy));
	empty_dir(fx.dir, copy);
	meta_close(fx.m);
	remove_dir(fx.dir);
	memcpy(fx.dir, copy, sizeof(copy));
	rocks_open();
}

static void rocks_done(void)
{
	meta_close(fx.m);
	remove_dir(fx.dir);
}

static const struct store mem_store = { "mem", mem_make, mem_open, mem_kill, mem_done };
static const struct store rocks_store = { "rocksdb", rocks_make, rocks_open, rocks_kill,
					  rocks_done };

static void setup(const struct store *store)
{
	memset(&fx, 0, sizeof(fx));
	fx.store = store;
	buf_init(&fx.got, VALUE_MAX);
	store->make();
	store->open();
}

static void setup_mem(void)
{
	setup(&mem_store);
}

static void setup_rocks(void)
{
	setup(&rocks_store);
}

static void teardown(void)
{
	buf_done(&fx.got);
	fx.store->done();
}

/* ---- words of the tests ---- */

static struct row_key key_of(enum row_kind kind, uint64_t id)
{
	struct row_key key = { .len_bytes = 9 };

	key.bytes[0] = (uint8_t)kind;
	for (unsigned int i = 0; i < 8; i++)
		key.bytes[1 + i] = (uint8_t)(id >> (56 - 8 * i));
	return key;
}

static enum meta_family family_of(enum row_kind kind)
{
	return (int)kind < 'a' ? META_NAMES : META_STATE;
}

static void batch_text(struct meta_batch *batch, enum row_kind kind, uint64_t id, const char *text)
{
	const struct row_key key = key_of(kind, id);
	struct buf value;

	buf_init(&value, VALUE_MAX);
	ck_assert_int_eq(buf_append(&value, text, strlen(text)), 0);
	ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &value), 0);
	buf_done(&value);
}

static void commit(struct meta_batch *batch, unsigned int flags)
{
	const int r = meta_commit(fx.m, batch, flags, &fx.e);

	ck_assert_msg(r == 0, "%s", fx.e.message);
	meta_batch_free(fx.m, batch);
}

static void put_text(enum row_kind kind, uint64_t id, const char *text, unsigned int flags)
{
	struct meta_batch *batch = meta_batch_new(fx.m, family_of(kind));

	batch_text(batch, kind, id, text);
	commit(batch, flags);
}

static void delete_row(enum row_kind kind, uint64_t id)
{
	const struct row_key key = key_of(kind, id);
	struct meta_batch *batch = meta_batch_new(fx.m, family_of(kind));

	ck_assert_int_eq(meta_batch_delete(fx.m, batch, &key), 0);
	commit(batch, 0);
}

static int get(enum row_kind kind, uint64_t id)
{
	const struct row_key key = key_of(kind, id);

	return meta_get(fx.m, family_of(kind), &key, &fx.got, &fx.e);
}

static void ck_text(enum row_kind kind, uint64_t id, const char *text)
{
	ck_assert_int_eq(get(kind, id), 0);
	ck_assert_uint_eq(fx.got.len_bytes, strlen(text));
	if (text[0] != '\0')
		ck_assert_mem_eq(fx.got.data, text, strlen(text));
}

static void page_value(struct buf *out, enum page_value_kind kind, unsigned int first,
		       unsigned int count, loc_t loc)
{
	static uint32_t crcs[PAGE_CLUSTERS];
	const struct page_run run = {
		.first = (uint16_t)first,
		.count = (uint16_t)count,
		.loc = loc,
		.crcs = loc_is_place(loc) ? crcs : NULL,
	};

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		crcs[i] = 0xc0000000u + i;
	buf_init(out, VALUE_MAX);
	ck_assert_int_eq(page_value_encode(kind, &run, 1, out), 0);
}

static void batch_delta(struct meta_batch *batch, uint64_t page, unsigned int first,
			unsigned int count, loc_t loc)
{
	const struct row_key key = key_of(ROW_PAGE, page);
	struct buf value;

	page_value(&value, PAGE_DELTA, first, count, loc);
	ck_assert_int_eq(meta_batch_merge(fx.m, batch, &key, &value), 0);
	buf_done(&value);
}

static void merge_delta(uint64_t page, unsigned int first, unsigned int count, loc_t loc)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);

	batch_delta(batch, page, first, count, loc);
	commit(batch, 0);
}

static void put_base(uint64_t page, unsigned int first, unsigned int count, loc_t loc)
{
	const struct row_key key = key_of(ROW_PAGE, page);
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
	struct buf value;

	page_value(&value, PAGE_BASE, first, count, loc);
	ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &value), 0);
	buf_done(&value);
	commit(batch, 0);
}

static void add_run(void *arg, const struct page_run *run)
{
	loc_t *locs = arg;

	for (unsigned int i = 0; i < run->count; i++)
		locs[run->first + i] = loc_is_place(run->loc) ? run->loc + i : run->loc;
}

/* The locations of a page as it is read. */
static void get_page(uint64_t page, loc_t locs[PAGE_CLUSTERS])
{
	enum page_value_kind kind;

	memset(locs, 0, PAGE_CLUSTERS * sizeof(locs[0]));
	ck_assert_int_eq(get(ROW_PAGE, page), 0);
	ck_assert_int_eq(page_value_decode(fx.got.data, fx.got.len_bytes, &kind, add_run, locs,
					   &fx.e),
			 0);
	ck_assert_int_eq(kind, PAGE_BASE);
}

static void flush(void)
{
	ck_assert_int_eq(meta_flush(fx.m, &fx.e), 0);
}

/* ---- rows ---- */

START_TEST(a_row_is_read_back)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	put_text(ROW_SCO, 1, "state", 0);

	ck_text(ROW_OBJECT, 1, "one");
	ck_text(ROW_SCO, 1, "state");
}
END_TEST

START_TEST(a_missing_row_is_enoent_and_leaves_the_buffer)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	ck_text(ROW_OBJECT, 1, "one");

	ck_assert_int_eq(get(ROW_OBJECT, 2), -ENOENT);
	ck_assert_uint_eq(fx.got.len_bytes, 3);
	ck_assert_mem_eq(fx.got.data, "one", 3);
}
END_TEST

START_TEST(a_value_beyond_the_buffer_is_refused_and_leaves_it)
{
	const struct row_key key = key_of(ROW_OBJECT, 1);
	struct buf tiny;

	put_text(ROW_OBJECT, 1, "one", 0);
	buf_init(&tiny, 2);
	ck_assert_int_eq(buf_append(&tiny, "xy", 2), 0);

	ck_assert_int_eq(meta_get(fx.m, META_NAMES, &key, &tiny, &fx.e), -E2BIG);
	ck_assert_uint_eq(tiny.len_bytes, 2);
	ck_assert_mem_eq(tiny.data, "xy", 2);
	buf_done(&tiny);
}
END_TEST

START_TEST(the_later_of_two_puts_wins)
{
	put_text(ROW_OBJECT, 1, "old", 0);
	put_text(ROW_OBJECT, 1, "newer", 0);

	ck_text(ROW_OBJECT, 1, "newer");
}
END_TEST

START_TEST(a_deleted_row_is_gone)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	put_text(ROW_OBJECT, 2, "two", 0);
	delete_row(ROW_OBJECT, 1);

	ck_assert_int_eq(get(ROW_OBJECT, 1), -ENOENT);
	ck_text(ROW_OBJECT, 2, "two");
}
END_TEST

START_TEST(deleting_what_is_not_there_is_no_error)
{
	delete_row(ROW_OBJECT, 9);

	ck_assert_int_eq(get(ROW_OBJECT, 9), -ENOENT);
}
END_TEST

START_TEST(an_empty_value_is_a_row)
{
	put_text(ROW_OBJECT, 1, "full", 0);
	put_text(ROW_OBJECT, 1, "", 0);

	ck_text(ROW_OBJECT, 1, "");
}
END_TEST

START_TEST(a_value_of_three_megabytes_comes_back_whole)
{
	const size_t len_bytes = 3 << 20;
	const struct row_key key = key_of(ROW_OBJECT, 1);
	struct meta_batch *batch = meta_batch_new(fx.m, META_NAMES);
	struct buf value;
	uint8_t *p;

	buf_init(&value, VALUE_MAX);
	p = buf_extend(&value, len_bytes);
	for (size_t i = 0; i < len_bytes; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 13);
	ck_assert_int_eq(meta_batch_put(fx.m, batch, &key, &value), 0);
	ck_assert_uint_ge(meta_batch_bytes(fx.m, batch), len_bytes);
	commit(batch, 0);

	ck_assert_int_eq(get(ROW_OBJECT, 1), 0);
	ck_assert_uint_eq(fx.got.len_bytes, len_bytes);
	ck_assert(memcmp(fx.got.data, value.data, len_bytes) == 0);
	buf_done(&value);
}
END_TEST

START_TEST(within_a_batch_the_last_word_counts)
{
	const struct row_key one = key_of(ROW_OBJECT, 1), two = key_of(ROW_OBJECT, 2);
	struct meta_batch *batch = meta_batch_new(fx.m, META_NAMES);

	batch_text(batch, ROW_OBJECT, 1, "first");
	ck_assert_int_eq(meta_batch_delete(fx.m, batch, &one), 0);
	batch_text(batch, ROW_OBJECT, 1, "last");
	batch_text(batch, ROW_OBJECT, 2, "gone");
	ck_assert_int_eq(meta_batch_delete(fx.m, batch, &two), 0);
	commit(batch, 0);

	ck_text(ROW_OBJECT, 1, "last");
	ck_assert_int_eq(get(ROW_OBJECT, 2), -ENOENT);
}
END_TEST

START_TEST(a_batch_that_is_freed_uncommitted_does_nothing)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_NAMES);

	batch_text(batch, ROW_OBJECT, 1, "never");
	meta_batch_free(fx.m, batch);

	ck_assert_int_eq(get(ROW_OBJECT, 1), -ENOENT);
}
END_TEST

/* ---- iteration ---- */

struct seen {
	uint64_t ids[64];
	unsigned int count, stop_at;
	uint64_t commit_at_id;
};

static int see(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
	       size_t value_bytes)
{
	struct seen *s = arg;
	uint64_t id = 0;

	ck_assert_uint_eq(key_bytes, 9);
	ck_assert(value_bytes == 0 || value != NULL);
	for (unsigned int i = 1; i < 9; i++)
		id = id << 8 | key[i];
	ck_assert_uint_lt(s->count, ARRAY_SIZE(s->ids));
	s->ids[s->count++] = id;
	if (s->commit_at_id != 0) {
		/* behind, here and ahead */
		put_text(ROW_OBJECT, id + 1000, "new", 0);
		delete_row(ROW_OBJECT, id);
		delete_row(ROW_OBJECT, id + 1);
	}
	return s->count == s->stop_at ? 42 : 0;
}

static void put_ids(enum row_kind kind, const uint64_t *ids, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		put_text(kind, ids[i], "v", 0);
}

static const uint64_t scattered[] = { 500, 3, UINT64_MAX, 256, 255, 0, 70000, 4 };
static const uint64_t sorted[] = { 0, 3, 4, 255, 256, 500, 70000, UINT64_MAX };

START_TEST(rows_come_in_key_order)
{
	const struct row_key from = key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, NULL, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, ARRAY_SIZE(sorted));
	ck_assert_mem_eq(s.ids, sorted, sizeof(sorted));
}
END_TEST

START_TEST(from_is_in_and_until_is_out)
{
	const struct row_key from = key_of(ROW_OBJECT, 4), until = key_of(ROW_OBJECT, 500);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, &until, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, 3);
	ck_assert_mem_eq(s.ids, sorted + 2, 3 * sizeof(sorted[0]));
}
END_TEST

START_TEST(bounds_need_not_be_rows_and_may_be_empty)
{
	const struct row_key from = key_of(ROW_OBJECT, 5), until = key_of(ROW_OBJECT, 200);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, &until, see, &s, &fx.e), 0);
	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &until, &from, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, 0);
}
END_TEST

START_TEST(a_bound_may_be_a_mere_kind)
{
	const struct row_key from = { .bytes = { ROW_OBJECT }, .len_bytes = 1 };
	const struct row_key until = { .bytes = { ROW_OBJECT + 1 }, .len_bytes = 1 };
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_LAYER, scattered, 2);
	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));
	put_ids(ROW_STREAM, scattered, 2);

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, &until, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, ARRAY_SIZE(sorted));
}
END_TEST

START_TEST(the_visitor_can_end_it)
{
	const struct row_key from = key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 2 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, NULL, see, &s, &fx.e), 42);
	ck_assert_uint_eq(s.count, 2);
}
END_TEST

START_TEST(iteration_shows_one_view_while_the_visitor_commits)
{
	const struct row_key from = key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 100, .commit_at_id = 1 };

	put_ids(ROW_OBJECT, (const uint64_t[]){ 1, 2, 3, 4, 5 }, 5);

	ck_assert_int_eq(meta_iterate(fx.m, META_NAMES, &from, NULL, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, 5);
	ck_assert_int_eq(get(ROW_OBJECT, 3), -ENOENT);
	ck_text(ROW_OBJECT, 1003, "new");
}
END_TEST

START_TEST(families_do_not_see_each_other)
{
	const struct row_key from = { .len_bytes = 0 };
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, 3);
	put_ids(ROW_SCO, scattered, 2);

	ck_assert_int_eq(meta_iterate(fx.m, META_STATE, &from, NULL, see, &s, &fx.e), 0);
	ck_assert_uint_eq(s.count, 2);
}
END_TEST

/* ---- pages ---- */

START_TEST(a_delta_onto_nothing_is_a_base)
{
	loc_t locs[PAGE_CLUSTERS];

	merge_delta(7, 10, 3, loc_make(0, SCO, 100));

	get_page(7, locs);
	ck_assert_uint_eq(locs[9], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[10], loc_make(0, SCO, 100));
	ck_assert_uint_eq(locs[12], loc_make(0, SCO, 102));
	ck_assert_uint_eq(locs[13], LOC_UNMAPPED);
}
END_TEST

static void ck_base_and_deltas(void (*between)(void))
{
	loc_t locs[PAGE_CLUSTERS];

	put_base(7, 0, 100, loc_make(0, SCO, 1000));
	between();
	merge_delta(7, 50, 10, loc_make(0, SCO, 2000));
	between();
	merge_delta(7, 55, 1, LOC_ZERO);
	between();
	merge_delta(7, 56, 2, LOC_UNMAPPED);
	merge_delta(7, 511, 1, loc_make(3, SCO, 9));
	between();

	get_page(7, locs);
	ck_assert_uint_eq(locs[49], loc_make(0, SCO, 1049));
	ck_assert_uint_eq(locs[54], loc_make(0, SCO, 2004));
	ck_assert_uint_eq(locs[55], LOC_ZERO);
	ck_assert_uint_eq(locs[56], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[58], loc_make(0, SCO, 2008));
	ck_assert_uint_eq(locs[60], loc_make(0, SCO, 1060));
	ck_assert_uint_eq(locs[511], loc_make(3, SCO, 9));
}

static void nothing(void)
{
}

START_TEST(deltas_lie_over_their_base)
{
	ck_base_and_deltas(nothing);
}
END_TEST

START_TEST(deltas_and_base_meet_across_flushes)
{
	ck_base_and_deltas(flush);
}
END_TEST

START_TEST(deltas_in_one_batch_apply_in_order)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
	loc_t locs[PAGE_CLUSTERS];

	batch_delta(batch, 7, 0, 4, loc_make(0, SCO, 100));
	batch_delta(batch, 7, 2, 4, loc_make(0, SCO, 200));
	commit(batch, 0);

	get_page(7, locs);
	ck_assert_uint_eq(locs[1], loc_make(0, SCO, 101));
	ck_assert_uint_eq(locs[2], loc_make(0, SCO, 200));
}
END_TEST

START_TEST(a_deleted_page_starts_afresh)
{
	loc_t locs[PAGE_CLUSTERS];

	merge_delta(7, 0, 4, loc_make(0, SCO, 100));
	delete_row(ROW_PAGE, 7);
	ck_assert_int_eq(get(ROW_PAGE, 7), -ENOENT);
	merge_delta(7, 2, 1, loc_make(0, SCO, 200));

	get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[2], loc_make(0, SCO, 200));
}
END_TEST

START_TEST(a_base_replaces_what_was_merged)
{
	loc_t locs[PAGE_CLUSTERS];

	merge_delta(7, 0, 4, loc_make(0, SCO, 100));
	put_base(7, 2, 1, LOC_ZERO);

	get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[2], LOC_ZERO);
}
END_TEST

static int see_page(void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
		    const uint8_t *value, size_t value_bytes)
{
	enum page_value_kind kind;

	ck_assert_int_eq(page_value_decode(value, value_bytes, &kind, add_run, arg, &fx.e), 0);
	ck_assert_int_eq(kind, PAGE_BASE);
	return 0;
}

START_TEST(iteration_shows_merged_pages)
{
	const struct row_key from = key_of(ROW_PAGE, 0);
	loc_t locs[PAGE_CLUSTERS] = { 0 };

	put_base(7, 0, 4, loc_make(0, SCO, 100));
	merge_delta(7, 2, 1, LOC_ZERO);

	ck_assert_int_eq(meta_iterate(fx.m, META_STATE, &from, NULL, see_page, locs, &fx.e), 0);
	ck_assert_uint_eq(locs[1], loc_make(0, SCO, 101));
	ck_assert_uint_eq(locs[2], LOC_ZERO);
}
END_TEST

START_TEST(a_merge_that_is_no_delta_is_refused)
{
	const struct row_key key = key_of(ROW_PAGE, 7);
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
	struct buf base, damaged;

	page_value(&base, PAGE_BASE, 0, 1, LOC_ZERO);
	page_value(&damaged, PAGE_DELTA, 0, 1, LOC_ZERO);
	damaged.data[damaged.len_bytes - 1] ^= 1;

	ck_assert_int_eq(meta_batch_merge(fx.m, batch, &key, &base), -EUCLEAN);
	ck_assert_int_eq(meta_batch_merge(fx.m, batch, &key, &damaged), -EBADMSG);
	commit(batch, 0);
	ck_assert_int_eq(get(ROW_PAGE, 7), -ENOENT);
	buf_done(&base);
	buf_done(&damaged);
}
END_TEST

START_TEST(a_page_on_a_damaged_base_is_an_error_until_it_is_replaced)
{
	const struct row_key from = key_of(ROW_PAGE, 0);
	struct seen s = { .stop_at = 100 };
	loc_t locs[PAGE_CLUSTERS];

	put_text(ROW_PAGE, 7, "this is no page", 0);
	merge_delta(7, 0, 4, loc_make(0, SCO, 100));
	merge_delta(8, 0, 4, loc_make(0, SCO, 100));

	ck_assert_int_eq(get(ROW_PAGE, 7), -EUCLEAN);
	ck_assert_int_eq(meta_iterate(fx.m, META_STATE, &from, NULL, see, &s, &fx.e), -EUCLEAN);
	ck_assert_uint_eq(s.count, 0);
	merge_delta(7, 0, 4, LOC_ZERO);
	ck_assert_int_eq(get(ROW_PAGE, 7), -EUCLEAN);
	get_page(8, locs);

	put_base(7, 0, 1, LOC_ZERO);
	get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_ZERO);
}
END_TEST

/* ---- threads ---- */

#define ATOMIC_ROWS    20u
#define ATOMIC_BATCHES 200u

static void write_generations(void *arg)
{
	(void)arg;
	for (unsigned int g = 1; g <= ATOMIC_BATCHES; g++) {
		struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
		char text[16];

		(void)snprintf(text, sizeof(text), "%u", g);
		for (unsigned int i = 0; i < ATOMIC_ROWS; i++)
			batch_text(batch, ROW_SCO, i, text);
		commit(batch, 0);
		if (g % 50 == 0)
			flush();
	}
}

static void write_names(void *arg)
{
	for (unsigned int i = 0; i < ATOMIC_BATCHES; i++) {
		put_text(ROW_OBJECT, *(const uint64_t *)arg + i, "n", i % 20 == 0 ? META_SYNC : 0);
		if (i % 10 == 0)
			ck_assert_int_eq(meta_sync(fx.m, NULL), 0);
	}
}

struct generations {
	unsigned int rows;
	char first[16];
	uint64_t last;
};

static int see_generation(void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
			  const uint8_t *value, size_t value_bytes)
{
	struct generations *g = arg;

	ck_assert_uint_lt(value_bytes, sizeof(g->first));
	if (g->rows++ == 0) {
		memcpy(g->first, value, value_bytes);
		g->first[value_bytes] = '\0';
	}
	ck_assert_uint_eq(strlen(g->first), value_bytes);
	ck_assert_mem_eq(g->first, value, value_bytes);
	return 0;
}

START_TEST(batches_are_seen_whole_or_not_at_all)
{
	const struct row_key from = key_of(ROW_SCO, 0);
	uint64_t bases[2] = { 0, 1000 }, last = 0;
	struct thread *writers[3];

	ck_assert_int_eq(thread_start("writer", write_generations, NULL, &writers[0]), 0);
	ck_assert_int_eq(thread_start("names", write_names, &bases[0], &writers[1]), 0);
	ck_assert_int_eq(thread_start("names", write_names, &bases[1], &writers[2]), 0);
	while (last < ATOMIC_BATCHES) {
		struct generations g = { 0 };

		ck_assert_int_eq(meta_iterate(fx.m, META_STATE, &from, NULL, see_generation, &g,
					      NULL),
				 0);
		ck_assert(g.rows == 0 || g.rows == ATOMIC_ROWS);
		g.last = g.rows == 0 ? 0 : strtoull(g.first, NULL, 10);
		ck_assert_uint_ge(g.last, last);
		last = g.last;
		ck_assert_uint_le(meta_synced_sequence(fx.m), meta_sequence(fx.m));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(writers); i++)
		thread_join(writers[i]);

	ck_text(ROW_OBJECT, 1000 + ATOMIC_BATCHES - 1, "n");
	ck_assert_uint_eq(meta_sequence(fx.m), ATOMIC_BATCHES * (ATOMIC_ROWS + 2));
}
END_TEST

/* ---- sequence numbers and death ---- */

START_TEST(the_sequence_counts_rows)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);
	const uint64_t before = meta_sequence(fx.m);

	put_text(ROW_OBJECT, 1, "one", 0);
	ck_assert_uint_eq(meta_sequence(fx.m), before + 1);
	batch_text(batch, ROW_SCO, 1, "a");
	batch_text(batch, ROW_SCO, 1, "b");
	batch_delta(batch, 1, 0, 1, LOC_ZERO);
	commit(batch, 0);
	ck_assert_uint_eq(meta_sequence(fx.m), before + 4);
	delete_row(ROW_OBJECT, 1);
	ck_assert_uint_eq(meta_sequence(fx.m), before + 5);
}
END_TEST

START_TEST(a_sync_covers_names_and_not_the_state_committed_since)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	put_text(ROW_SCO, 1, "state", 0);
	ck_assert_uint_eq(meta_synced_sequence(fx.m), 0);

	ck_assert_int_eq(meta_sync(fx.m, &fx.e), 0);
	ck_assert_uint_eq(meta_synced_sequence(fx.m), 1);
	flush();
	ck_assert_uint_eq(meta_synced_sequence(fx.m), 2);
}
END_TEST

START_TEST(a_flush_does_not_claim_the_names_committed_since)
{
	put_text(ROW_SCO, 1, "state", 0);
	put_text(ROW_OBJECT, 1, "one", 0);

	flush();
	ck_assert_uint_eq(meta_synced_sequence(fx.m), 1);
}
END_TEST

START_TEST(a_synced_commit_covers_itself_and_all_names_before)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	put_text(ROW_OBJECT, 2, "two", META_SYNC);

	ck_assert_uint_eq(meta_synced_sequence(fx.m), 2);
}
END_TEST

START_TEST(sync_and_flush_of_nothing_do_nothing)
{
	ck_assert_int_eq(meta_sync(fx.m, &fx.e), 0);
	flush();
	put_text(ROW_OBJECT, 1, "one", META_SYNC);
	ck_assert_int_eq(meta_sync(fx.m, &fx.e), 0);
	flush();
	ck_assert_uint_eq(meta_synced_sequence(fx.m), 1);
}
END_TEST

START_TEST(names_survive_the_process_without_a_sync)
{
	for (uint64_t i = 0; i < 50; i++)
		put_text(ROW_OBJECT, i, "name", 0);
	delete_row(ROW_OBJECT, 7);

	fx.store->kill();

	ck_text(ROW_OBJECT, 0, "name");
	ck_text(ROW_OBJECT, 49, "name");
	ck_assert_int_eq(get(ROW_OBJECT, 7), -ENOENT);
	ck_assert_uint_eq(meta_sequence(fx.m), 51);
}
END_TEST

START_TEST(flushed_state_survives_and_later_commits_do_as_a_prefix)
{
	loc_t locs[PAGE_CLUSTERS];
	bool ended = false;

	merge_delta(7, 0, 4, loc_make(0, SCO, 100));
	for (uint64_t i = 0; i < 50; i++) {
		put_text(ROW_SCO, i, "state", 0);
		if (i == 20)
			flush();
	}

	fx.store->kill();

	get_page(7, locs);
	ck_assert_uint_eq(locs[3], loc_make(0, SCO, 103));
	for (uint64_t i = 0; i < 50; i++) {
		const int r = get(ROW_SCO, i);

		ck_assert(r == 0 || r == -ENOENT);
		ck_assert(i > 20 || r == 0);
		ck_assert(r != 0 || !ended);
		ended |= r != 0;
	}
}
END_TEST

START_TEST(the_sequence_never_falls_behind_what_was_synced)
{
	uint64_t synced = 0;

	for (unsigned int round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < 10; i++) {
			put_text(ROW_SCO, i, "state", 0);
			put_text(ROW_OBJECT, i, "name", i == 5 && round % 2 ? META_SYNC : 0);
		}
		if (round < 3)
			flush();
		put_text(ROW_SCO, 1, "lost", 0);
		synced = meta_synced_sequence(fx.m);
		fx.store->kill();
		ck_assert_uint_ge(meta_sequence(fx.m), synced);
		ck_assert_uint_ge(meta_sequence(fx.m), meta_synced_sequence(fx.m));
	}
}
END_TEST

START_TEST(all_is_there_after_a_close_that_followed_sync_and_flush)
{
	put_text(ROW_OBJECT, 1, "one", 0);
	put_text(ROW_SCO, 1, "state", 0);
	ck_assert_int_eq(meta_sync(fx.m, &fx.e), 0);
	flush();

	meta_close(fx.m);
	fx.store->open();

	ck_text(ROW_OBJECT, 1, "one");
	ck_text(ROW_SCO, 1, "state");
}
END_TEST

START_TEST(a_second_opener_is_refused)
{
	struct meta *second = NULL;
	int r;

	if (fx.disk != NULL)
		r = meta_mem_open(fx.disk, &second, &fx.e);
	else
		r = meta_rocksdb_open(fx.dir, &small_options, &second, &fx.e);
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_ptr_null(second);
}
END_TEST

/* ---- our own bugs end the process ---- */

START_TEST(a_names_batch_with_a_state_row_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_NAMES);

	batch_text(batch, ROW_SCO, 1, "wrong family");
}
END_TEST

START_TEST(a_state_batch_with_a_names_row_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);

	batch_text(batch, ROW_OBJECT, 1, "wrong family");
}
END_TEST

START_TEST(a_batch_committed_twice_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(fx.m, META_STATE);

	batch_text(batch, ROW_SCO, 1, "once");
	ck_assert_int_eq(meta_commit(fx.m, batch, 0, &fx.e), 0);
	(void)!meta_commit(fx.m, batch, 0, &fx.e);
}
END_TEST

/* ---- SIGKILL of a real process, RocksDB only ---- */

#define KILL_ROUNDS 4u
#define KILL_AFTER  300u

struct progress { /* shared with the child */
	uint64_t names, state, state_flushed, synced_sequence;
};

static void victim(struct progress *p, int ready)
{
	const uint64_t first = p->state;

	rocks_open();
	for (uint64_t i = first;; i++) {
		put_text(ROW_OBJECT, i, "name", i % 40 == 0 ? META_SYNC : 0);
		__atomic_store_n(&p->names, max_u64(p->names, i + 1), __ATOMIC_SEQ_CST);
		put_text(ROW_SCO, i, "state", 0);
		__atomic_store_n(&p->state, i + 1, __ATOMIC_SEQ_CST);
		if (i % 64 == 63) {
			flush();
			__atomic_store_n(&p->state_flushed, i + 1, __ATOMIC_SEQ_CST);
		}
		__atomic_store_n(&p->synced_sequence, meta_synced_sequence(fx.m), __ATOMIC_SEQ_CST);
		if (i == first + KILL_AFTER)
			ck_assert_int_eq(write(ready, "x", 1), 1);
	}
}

static void run_and_kill_victim(struct progress *p)
{
	int pipe_fds[2], status;
	char byte;
	pid_t child;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		victim(p, pipe_fds[1]);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	/* From here on it goes on committing, until the signal finds it. */
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)close(pipe_fds[0]);
}

/* One judge for each round, in a process of its own: RocksDB's threads don't live across fork. */
static void judge(struct progress *p)
{
	uint64_t state = 0;

	rocks_open();
	ck_assert_uint_ge(meta_sequence(fx.m), p->synced_sequence);
	for (uint64_t i = 0; i < p->names; i++)
		ck_text(ROW_OBJECT, i, "name");
	while (get(ROW_SCO, state) == 0)
		state++;
	ck_assert_uint_ge(state, p->state_flushed);
	ck_assert_uint_le(state, p->state + 1);
	for (uint64_t i = state; i < p->state + 10; i++)
		ck_assert_int_eq(get(ROW_SCO, i), -ENOENT);
	p->state = state; /* where the next victim goes on */
	meta_close(fx.m);
}

START_TEST(a_killed_process_loses_no_name_and_no_flushed_state)
{
	struct progress *p =
		mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	ck_assert(p != MAP_FAILED);
	memset(&fx, 0, sizeof(fx));
	buf_init(&fx.got, VALUE_MAX);
	rocks_make();
	for (unsigned int round = 0; round < KILL_ROUNDS; round++) {
		pid_t child;

		run_and_kill_victim(p);
		child = fork();
		if (child == 0) {
			judge(p);
			exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ck_assert_uint_ge(p->names, KILL_ROUNDS * KILL_AFTER / 2);
	remove_dir(fx.dir);
	buf_done(&fx.got);
	ck_assert_int_eq(munmap(p, sizeof(*p)), 0);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*fixture)(void))
{
	TCase *rows = tcase_create(name);

	tcase_add_checked_fixture(rows, fixture, teardown);
	tcase_add_test(rows, a_row_is_read_back);
	tcase_add_test(rows, a_missing_row_is_enoent_and_leaves_the_buffer);
	tcase_add_test(rows, a_value_beyond_the_buffer_is_refused_and_leaves_it);
	tcase_add_test(rows, the_later_of_two_puts_wins);
	tcase_add_test(rows, a_deleted_row_is_gone);
	tcase_add_test(rows, deleting_what_is_not_there_is_no_error);
	tcase_add_test(rows, an_empty_value_is_a_row);
	tcase_add_test(rows, a_value_of_three_megabytes_comes_back_whole);
	tcase_add_test(rows, within_a_batch_the_last_word_counts);
	tcase_add_test(rows, a_batch_that_is_freed_uncommitted_does_nothing);
	tcase_add_test(rows, rows_come_in_key_order);
	tcase_add_test(rows, from_is_in_and_until_is_out);
	tcase_add_test(rows, bounds_need_not_be_rows_and_may_be_empty);
	tcase_add_test(rows, a_bound_may_be_a_mere_kind);
	tcase_add_test(rows, the_visitor_can_end_it);
	tcase_add_test(rows, iteration_shows_one_view_while_the_visitor_commits);
	tcase_add_test(rows, families_do_not_see_each_other);
	tcase_add_test(rows, a_delta_onto_nothing_is_a_base);
	tcase_add_test(rows, deltas_lie_over_their_base);
	tcase_add_test(rows, deltas_and_base_meet_across_flushes);
	tcase_add_test(rows, deltas_in_one_batch_apply_in_order);
	tcase_add_test(rows, a_deleted_page_starts_afresh);
	tcase_add_test(rows, a_base_replaces_what_was_merged);
	tcase_add_test(rows, iteration_shows_merged_pages);
	tcase_add_test(rows, a_merge_that_is_no_delta_is_refused);
	tcase_add_test(rows, a_page_on_a_damaged_base_is_an_error_until_it_is_replaced);
	tcase_add_test(rows, batches_are_seen_whole_or_not_at_all);
	tcase_add_test(rows, the_sequence_counts_rows);
	tcase_add_test(rows, a_sync_covers_names_and_not_the_state_committed_since);
	tcase_add_test(rows, a_flush_does_not_claim_the_names_committed_since);
	tcase_add_test(rows, a_synced_commit_covers_itself_and_all_names_before);
	tcase_add_test(rows, sync_and_flush_of_nothing_do_nothing);
	tcase_add_test(rows, names_survive_the_process_without_a_sync);
	tcase_add_test(rows, flushed_state_survives_and_later_commits_do_as_a_prefix);
	tcase_add_test(rows, the_sequence_never_falls_behind_what_was_synced);
	tcase_add_test(rows, all_is_there_after_a_close_that_followed_sync_and_flush);
	tcase_add_test(rows, a_second_opener_is_refused);
	suite_add_tcase(suite, rows);
}

/* Those that need a process of their own. The bugs are caught in meta.c, before any store. */
static void add_process_tests(Suite *suite)
{
	TCase *process = tcase_create("process"), *death = tcase_create("death");

	tcase_add_test(process, a_killed_process_loses_no_name_and_no_flushed_state);
	suite_add_tcase(suite, process);

	tcase_add_checked_fixture(death, setup_mem, teardown);
	tcase_add_test_raise_signal(death, a_names_batch_with_a_state_row_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(death, a_state_batch_with_a_names_row_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(death, a_batch_committed_twice_is_a_bug, SIGABRT);
	suite_add_tcase(suite, death);
}

int main(void)
{
	Suite *suite = suite_create("contract/meta");
	SRunner *runner;
	int failed;

	add_tests(suite, "mem", setup_mem);
	add_tests(suite, "rocksdb", setup_rocks);
	runner = srunner_create(suite);
	if (srunner_fork_status(runner) == CK_FORK)
		add_process_tests(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
