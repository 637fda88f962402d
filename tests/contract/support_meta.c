#include "tests/contract/support_meta.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the two stores ---- */

struct meta_fixture mt;

static void mem_make(void)
{
	mt.disk = meta_mem_disk_new();
	ck_assert_ptr_nonnull(mt.disk);
}

static void mem_open(void)
{
	ck_assert_int_eq(meta_mem_open(mt.disk, &mt.m, &mt.e), 0);
}

static void mem_kill(void)
{
	meta_mem_kill(mt.disk);
	mem_open();
}

static void mem_done(void)
{
	meta_close(mt.m);
	meta_mem_disk_free(mt.disk);
}

static const struct meta_options small_options = {
	.cache_bytes = 1 << 20,
	.write_buffer_bytes = 1 << 20,
};

void mt_rocks_make(void)
{
	(void)snprintf(mt.dir, sizeof(mt.dir), "meta-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(mt.dir));
}

int mt_rocks_try_open(struct meta **ret_meta)
{
	return meta_rocksdb_open(mt.dir, &small_options, ret_meta, &mt.e);
}

void mt_rocks_open(void)
{
	const int r = mt_rocks_try_open(&mt.m);

	ck_assert_msg(r == 0, "%s", mt.e.message);
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

void mt_remove_dir(const char *dir)
{
	empty_dir(dir, NULL);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* What the files hold now is what a dead process leaves. */
static void rocks_kill(void)
{
	char copy[32] = "meta-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(copy));
	empty_dir(mt.dir, copy);
	meta_close(mt.m);
	mt_remove_dir(mt.dir);
	memcpy(mt.dir, copy, sizeof(copy));
	mt_rocks_open();
}

static void rocks_done(void)
{
	meta_close(mt.m);
	mt_remove_dir(mt.dir);
}

static const struct meta_store mem_store = { "mem", mem_make, mem_open, mem_kill, mem_done };
static const struct meta_store rocks_store = { "rocksdb", mt_rocks_make, mt_rocks_open, rocks_kill,
					       rocks_done };

static void setup(const struct meta_store *store)
{
	memset(&mt, 0, sizeof(mt));
	mt.store = store;
	buf_init(&mt.got, META_VALUE_MAX);
	store->make();
	store->open();
}

void mt_setup_mem(void)
{
	setup(&mem_store);
}

void mt_setup_rocks(void)
{
	setup(&rocks_store);
}

void mt_teardown(void)
{
	buf_done(&mt.got);
	mt.store->done();
}

/* ---- words of the tests ---- */

struct row_key mt_key_of(enum row_kind kind, uint64_t id)
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

void mt_batch_text(struct meta_batch *batch, enum row_kind kind, uint64_t id, const char *text)
{
	const struct row_key key = mt_key_of(kind, id);
	struct buf value;

	buf_init(&value, META_VALUE_MAX);
	ck_assert_int_eq(buf_append(&value, text, strlen(text)), 0);
	ck_assert_int_eq(meta_batch_put(mt.m, batch, &key, &value), 0);
	buf_done(&value);
}

void mt_commit(struct meta_batch *batch, unsigned int flags)
{
	const int r = meta_commit(mt.m, batch, flags, &mt.e);

	ck_assert_msg(r == 0, "%s", mt.e.message);
	meta_batch_free(mt.m, batch);
}

void mt_put_text(enum row_kind kind, uint64_t id, const char *text, unsigned int flags)
{
	struct meta_batch *batch = meta_batch_new(mt.m, family_of(kind));

	mt_batch_text(batch, kind, id, text);
	mt_commit(batch, flags);
}

void mt_delete_row(enum row_kind kind, uint64_t id)
{
	const struct row_key key = mt_key_of(kind, id);
	struct meta_batch *batch = meta_batch_new(mt.m, family_of(kind));

	ck_assert_int_eq(meta_batch_delete(mt.m, batch, &key), 0);
	mt_commit(batch, 0);
}

int mt_get(enum row_kind kind, uint64_t id)
{
	const struct row_key key = mt_key_of(kind, id);

	return meta_get(mt.m, family_of(kind), &key, &mt.got, &mt.e);
}

void mt_ck_text(enum row_kind kind, uint64_t id, const char *text)
{
	ck_assert_int_eq(mt_get(kind, id), 0);
	ck_assert_uint_eq(mt.got.len_bytes, strlen(text));
	if (text[0] != '\0')
		ck_assert_mem_eq(mt.got.data, text, strlen(text));
}

void mt_page_value(struct buf *out, enum page_value_kind kind, unsigned int first,
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
	buf_init(out, META_VALUE_MAX);
	ck_assert_int_eq(page_value_encode(kind, &run, 1, out), 0);
}

void mt_batch_delta(struct meta_batch *batch, uint64_t page, unsigned int first, unsigned int count,
		    loc_t loc)
{
	const struct row_key key = mt_key_of(ROW_PAGE, page);
	struct buf value;

	mt_page_value(&value, PAGE_DELTA, first, count, loc);
	ck_assert_int_eq(meta_batch_merge(mt.m, batch, &key, &value), 0);
	buf_done(&value);
}

void mt_merge_delta(uint64_t page, unsigned int first, unsigned int count, loc_t loc)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);

	mt_batch_delta(batch, page, first, count, loc);
	mt_commit(batch, 0);
}

void mt_put_base(uint64_t page, unsigned int first, unsigned int count, loc_t loc)
{
	const struct row_key key = mt_key_of(ROW_PAGE, page);
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);
	struct buf value;

	mt_page_value(&value, PAGE_BASE, first, count, loc);
	ck_assert_int_eq(meta_batch_put(mt.m, batch, &key, &value), 0);
	buf_done(&value);
	mt_commit(batch, 0);
}

void mt_add_run(void *arg, const struct page_run *run)
{
	loc_t *locs = arg;

	for (unsigned int i = 0; i < run->count; i++)
		locs[run->first + i] = loc_is_place(run->loc) ? run->loc + i : run->loc;
}

void mt_get_page(uint64_t page, loc_t locs[PAGE_CLUSTERS])
{
	enum page_value_kind kind;

	memset(locs, 0, PAGE_CLUSTERS * sizeof(locs[0]));
	ck_assert_int_eq(mt_get(ROW_PAGE, page), 0);
	ck_assert_int_eq(page_value_decode(mt.got.data, mt.got.len_bytes, &kind, mt_add_run, locs,
					   &mt.e),
			 0);
	ck_assert_int_eq(kind, PAGE_BASE);
}

void mt_flush(void)
{
	ck_assert_int_eq(meta_flush(mt.m, &mt.e), 0);
}
