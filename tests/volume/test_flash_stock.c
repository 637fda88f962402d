/* Files written in advance: made, taken, given back, and gone after a crash. */
#include "volume/flash.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEN (UINT64_C(64) << 10)

static struct {
	char dir[64], cache[96];
	struct uuid pool;
	struct flash *flash;
	struct env_file *file;
	uint32_t in_dir;
	bool recycled;
	struct err e;
} fx;

static struct flash *open_flash(uint64_t size_bytes, bool make)
{
	struct flash_dir_option o = { .path = fx.cache, .size_bytes = size_bytes };
	struct flash *flash = NULL;

	ck_assert_int_eq(flash_open(env_posix(), &fx.pool, &o, 1, 0, make, &flash, &fx.e), 0);
	return flash;
}

static void begin(void)
{
	memset(&fx, 0, sizeof(fx));
	(void)snprintf(fx.dir, sizeof(fx.dir), "stock-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(fx.dir));
	(void)snprintf(fx.cache, sizeof(fx.cache), "%s/cache", fx.dir);
	fx.pool.bytes[0] = 7;
	fx.flash = open_flash(0, true);
}

static int remove_one(const char *path, UNUSED const struct stat *st, UNUSED int flag,
		      UNUSED struct FTW *ftw)
{
	return remove(path);
}

static void end(void)
{
	if (fx.file)
		env_close(env_posix(), fx.file);
	flash_close(fx.flash);
	ck_assert_int_eq(nftw(fx.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static int count_stock(void *arg, const char *name)
{
	*(unsigned int *)arg += strncmp(name, "stock-", 6) == 0;
	return 0;
}

static unsigned int stock_names(void)
{
	unsigned int n = 0;

	ck_assert_int_eq(env_list_dir(env_posix(), fx.cache, count_stock, &n), 0);
	return n;
}

static unsigned int fill(void)
{
	unsigned int made = 0;

	while (flash_fill_stock(fx.flash, &fx.e) == 1)
		made++;
	return made;
}

static int take(uint64_t len_bytes)
{
	struct flash_stock stock;
	int r = flash_take_stock(fx.flash, len_bytes, true, &stock);

	if (r < 0)
		return r;
	fx.file = stock.file;
	fx.in_dir = stock.dir;
	fx.recycled = stock.recycled;
	return flash_name_stock(fx.flash, &stock, 16, 5);
}

START_TEST(nothing_is_made_before_somebody_wants_it)
{
	ck_assert_uint_eq(fill(), 0);
	ck_assert_int_eq(take(LEN), -ENOENT);
}
END_TEST

START_TEST(the_stock_has_a_limit)
{
	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	ck_assert_uint_eq(stock_names(), FLASH_STOCK_MAX);
	ck_assert_uint_eq(flash_used_bytes(fx.flash), FLASH_STOCK_MAX * LEN);
}
END_TEST

START_TEST(a_taken_file_is_the_sco_and_all_zeros)
{
	char *path = flash_path(fx.flash, 0, 16, 5, 0);
	struct env_stat st;
	uint8_t *mem;

	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	ck_assert_int_eq(take(LEN), 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(env_stat(env_posix(), fx.file, &st), 0);
	ck_assert_uint_eq(st.size_bytes, LEN);
	ck_assert_uint_ge(st.allocated_bytes, LEN);
	mem = aligned_alloc(ENV_DIRECT_ALIGN, LEN);
	ck_assert_int_eq(env_pread(env_posix(), fx.file, mem, LEN, 0), (int)LEN);
	for (size_t i = 0; i < LEN; i++)
		ck_assert_uint_eq(mem[i], 0);
	ck_assert_uint_eq(stock_names(), FLASH_STOCK_MAX - 1);
	ck_assert_uint_eq(flash_used_bytes(fx.flash), FLASH_STOCK_MAX * LEN);
	free(mem);
	free(path);
}
END_TEST

START_TEST(a_file_of_another_length_is_not_taken)
{
	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	ck_assert_int_eq(take(2 * LEN), -ENOENT);
	ck_assert_uint_eq(stock_names(), FLASH_STOCK_MAX);
}
END_TEST

START_TEST(what_a_dead_process_left_goes_at_the_next_open)
{
	struct flash *next;

	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	ck_assert_int_eq(take(LEN), 0);
	next = open_flash(0, false); /* the first one is not asked */
	ck_assert_uint_eq(stock_names(), 0);
	ck_assert_uint_eq(flash_used_bytes(next), 0);
	flash_close(next);
}
END_TEST

START_TEST(closing_leaves_no_stock)
{
	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	flash_close(fx.flash);
	fx.flash = NULL;
	ck_assert_uint_eq(stock_names(), 0);
}
END_TEST

START_TEST(where_room_is_tight_the_stock_is_room)
{
	unsigned int made;

	flash_close(fx.flash);
	fx.flash = open_flash(10 * LEN, false);
	flash_want_stock(fx.flash, LEN);
	made = fill(); /* leaves twice its own share free */
	ck_assert_uint_eq(made, 3);
	for (uint64_t sco = 10; sco < 20; sco++) {
		ck_assert_int_eq(flash_create(fx.flash, 16, sco, 0, LEN, false, &fx.file,
					      &fx.in_dir, &fx.e),
				 0);
		env_close(env_posix(), fx.file);
		fx.file = NULL;
	}
	ck_assert_uint_eq(stock_names(), 0);
	ck_assert_int_eq(flash_create(fx.flash, 16, 20, 0, LEN, false, &fx.file, &fx.in_dir, &fx.e),
			 -EAGAIN);
}
END_TEST

START_TEST(a_file_that_was_taken_can_be_given_up)
{
	struct flash_stock stock;

	flash_want_stock(fx.flash, LEN);
	ck_assert_uint_eq(fill(), FLASH_STOCK_MAX);
	ck_assert_int_eq(flash_take_stock(fx.flash, LEN, true, &stock), 0);
	flash_drop_taken(fx.flash, &stock);
	ck_assert_uint_eq(stock_names(), FLASH_STOCK_MAX - 1);
	ck_assert_uint_eq(flash_used_bytes(fx.flash), (FLASH_STOCK_MAX - 1) * LEN);
}
END_TEST

/* --- recycling ---------------------------------------------------------------------------------- */

/* A SCO's file, full of sevens, as long as it was when it was sealed. */
static void make_dead(uint64_t sco, uint64_t len_bytes)
{
	static uint8_t sevens[LEN] __attribute__((aligned(ENV_DIRECT_ALIGN)));
	struct env_file *f;
	uint32_t dir;

	memset(sevens, 7, sizeof(sevens));
	ck_assert_int_eq(flash_create(fx.flash, 16, sco, 0, len_bytes, false, &f, &dir, &fx.e), 0);
	ck_assert_int_eq(env_pwrite(env_posix(), f, sevens, LEN / 2, 0), 0);
	env_close(env_posix(), f);
}

static bool recycle(uint64_t sco, uint64_t len_bytes, unsigned int most)
{
	return flash_recycle(fx.flash, 0, 16, sco, 0, len_bytes, most);
}

START_TEST(the_file_of_a_dead_sco_serves_the_next_one_at_its_length)
{
	uint8_t bytes[2 * ENV_DIRECT_ALIGN] __attribute__((aligned(ENV_DIRECT_ALIGN)));
	struct env_stat st;

	make_dead(1, LEN + 8192);	       /* its index made it longer */
	make_dead(2, LEN - 8192);	       /* it was given up before it was full */
	ck_assert(!recycle(1, LEN + 8192, 8)); /* nobody knows yet how long they should be */
	ck_assert_int_eq(take(LEN), -ENOENT);
	ck_assert(recycle(1, LEN + 8192, 8));
	ck_assert(recycle(2, LEN - 8192, 8));
	ck_assert_uint_eq(flash_used_bytes(fx.flash), 2 * LEN);
	for (unsigned int i = 0; i < 2; i++) {
		ck_assert_int_eq(take(LEN), 0);
		ck_assert(fx.recycled);
		ck_assert_int_eq(env_stat(env_posix(), fx.file, &st), 0);
		ck_assert_uint_eq(st.size_bytes, LEN);
		ck_assert_int_eq(env_pread(env_posix(), fx.file, bytes, sizeof(bytes), 0),
				 (ssize_t)sizeof(bytes));
		ck_assert_uint_eq(bytes[0], 7);
		ck_assert_uint_eq(bytes[ENV_DIRECT_ALIGN], 7);
		env_close(env_posix(), TAKE_PTR(fx.file));
		ck_assert_int_eq(flash_delete(fx.flash, 0, 16, 5, 0, LEN, &fx.e), 0);
	}
	ck_assert_int_eq(take(LEN), -ENOENT);
	ck_assert_uint_eq(stock_names(), 0);
}
END_TEST

START_TEST(what_the_backend_has_a_name_of_is_not_recycled)
{
	char *path = flash_path(fx.flash, 0, 16, 1, 0);
	char other[128];

	ck_assert_int_eq(take(LEN), -ENOENT);
	make_dead(1, LEN);
	(void)snprintf(other, sizeof(other), "%s/object", fx.dir);
	ck_assert_int_eq(link(path, other), 0);
	ck_assert(!recycle(1, LEN, 8));
	ck_assert_int_eq(unlink(other), 0);
	ck_assert(recycle(1, LEN, 8));
	free(path);
}
END_TEST

START_TEST(no_more_are_kept_than_wanted_and_none_for_long)
{
	ck_assert_int_eq(take(LEN), -ENOENT);
	for (uint64_t sco = 1; sco <= 4; sco++) {
		make_dead(sco, LEN);
		ck_assert(recycle(sco, LEN, 3) == (sco <= 3));
	}
	ck_assert_int_eq(take(LEN), 0);
	flash_trim_recycled(fx.flash); /* one was taken since: they are in use */
	ck_assert_uint_eq(stock_names(), 2);
	flash_trim_recycled(fx.flash);
	ck_assert_uint_eq(stock_names(), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flash_stock");
	TCase *t = tcase_create("stock");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, nothing_is_made_before_somebody_wants_it);
	tcase_add_test(t, the_stock_has_a_limit);
	tcase_add_test(t, a_taken_file_is_the_sco_and_all_zeros);
	tcase_add_test(t, a_file_of_another_length_is_not_taken);
	tcase_add_test(t, a_file_that_was_taken_can_be_given_up);
	tcase_add_test(t, what_a_dead_process_left_goes_at_the_next_open);
	tcase_add_test(t, closing_leaves_no_stock);
	tcase_add_test(t, where_room_is_tight_the_stock_is_room);
	tcase_add_test(t, the_file_of_a_dead_sco_serves_the_next_one_at_its_length);
	tcase_add_test(t, what_the_backend_has_a_name_of_is_not_recycled);
	tcase_add_test(t, no_more_are_kept_than_wanted_and_none_for_long);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
