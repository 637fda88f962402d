/* Making, sealing and resealing where a call fails, a log is wrong, or a number is taken. */
#include "volume/sco_make.h"

#include "tests/volume/support_pool.h"
#include "tests/volume/support_sco.h"
#include "volume/sco.h"

#include <stdlib.h>
#include <string.h>

/* --- calls that fail ---------------------------------------------------------------------------- */

static struct env_ops ops;
static struct env failing = { &ops };
static unsigned int calls, fail_at; /* 0: none */
static bool only_pwrite;	    /* no other calls count */

static bool fails(void)
{
	return ++calls == fail_at;
}

static int try_open(UNUSED struct env *env, const char *path, unsigned int flags,
		    struct env_file **ret_file)
{
	return fails() ? -EIO : env_open(env_posix(), path, flags, ret_file);
}

static ssize_t try_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len,
			 uint64_t offset)
{
	return fails() ? -EIO : env_pread(env_posix(), f, buf, len, offset);
}

static int try_pwrite(UNUSED struct env *env, struct env_file *f, const void *buf, size_t len,
		      uint64_t offset)
{
	return fails() ? -EIO : env_pwrite(env_posix(), f, buf, len, offset);
}

static int try_fdatasync(UNUSED struct env *env, struct env_file *f)
{
	return fails() ? -EIO : env_fdatasync(env_posix(), f);
}

static int try_truncate(UNUSED struct env *env, struct env_file *f, uint64_t size)
{
	return fails() ? -EIO : env_truncate(env_posix(), f, size);
}

static int try_fallocate(UNUSED struct env *env, struct env_file *f, uint64_t offset, uint64_t len)
{
	return fails() ? -EIO : env_fallocate(env_posix(), f, offset, len);
}

static int try_sync_dir(UNUSED struct env *env, const char *path)
{
	return fails() ? -EIO : env_sync_dir(env_posix(), path);
}

static void begin_failing(unsigned int number)
{
	ops = *env_posix()->ops;
	ops.pwrite = try_pwrite;
	if (!only_pwrite) {
		ops.open = try_open;
		ops.pread = try_pread;
		ops.fdatasync = try_fdatasync;
		ops.fdatasync_all = NULL;
		ops.truncate = try_truncate;
		ops.fallocate = try_fallocate;
		ops.sync_dir = try_sync_dir;
	}
	calls = 0;
	fail_at = number;
	sf.w.env = sf.w.scos->env = sf.w.flash->env = &failing;
}

static void end_failing(void)
{
	sf.w.env = sf.w.scos->env = sf.w.flash->env = env_posix();
}

/* Nothing is left of one that came to nothing, and its number is not used again. */
START_TEST(each_call_of_making_one_may_fail)
{
	unsigned int failed = 0;

	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct sco_make_options o = { .stream = 16, .prewritten = _i };
		struct sco *s = NULL;
		struct err e = { 0 };
		uint64_t before = sf.next_number;
		int r;

		begin_failing(n);
		r = sco_make(&sf.w, &o, &s, &e);
		end_failing();
		ck_assert(r == 0 || (r == -EIO && e.message[0]));
		ck_assert_uint_gt(sf.next_number, before);
		failed += r < 0;
		ck_assert_uint_eq(flash_used_bytes(sf.w.flash),
				  r == 0 ? SF_SLOTS * UINT64_C(4096) : 0);
		if (r < 0)
			continue;
		(void)sco_remove(sf.w.scos, s);
		flash_discard(sf.w.flash, s->dir, 16, s->number, 0, s->file_bytes);
		sco_unref(sf.w.scos, s);
	}
	ck_assert_uint_ge(failed, 2);
}
END_TEST

static struct sco *must_have_header(struct sco *s)
{
	uint8_t *block = aligned_mem(4096);
	struct sco_header h;

	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, block, NULL), 0);
	ck_assert_int_eq(sco_header_decode(block, &h, NULL), 0);
	ck_assert_uint_eq(h.sco, s->number);
	free(block);
	return s;
}

/* What was made in advance and cannot be used goes, and its number; another file takes its place. */
START_TEST(a_file_of_the_stock_that_fails_is_replaced)
{
	const uint64_t file_bytes = SF_SLOTS * UINT64_C(4096);
	struct sco_make_options o = { .stream = 16, .prewritten = true };
	unsigned int replaced = 0;
	struct err e = { 0 };

	flash_want_stock(sf.w.flash, file_bytes);
	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		uint64_t before = sf.next_number;
		struct sco *s = NULL;
		int r;

		while (flash_fill_stock(sf.w.flash, &e) == 1)
			continue;
		begin_failing(n);
		r = sco_make(&sf.w, &o, &s, &e);
		end_failing();
		ck_assert(r == 0 || r == -EIO);
		ck_assert_uint_eq(flash_used_bytes(sf.w.flash),
				  (sf.w.flash->stock_count + (r == 0)) * file_bytes);
		if (r < 0)
			continue;
		ck_assert_uint_eq(s->number, sf.next_number);
		ck_assert_uint_eq(s->number, before + (calls >= fail_at ? 2 : 1));
		replaced += calls >= fail_at;
		(void)sco_remove(sf.w.scos, must_have_header(s));
		flash_discard(sf.w.flash, s->dir, 16, s->number, 0, s->file_bytes);
		sco_unref(sf.w.scos, s);
	}
	ck_assert_uint_ge(replaced, 1);
}
END_TEST

static void have_two_directories(void)
{
	char one[PATH_BYTES], two[PATH_BYTES];
	struct flash_dir_option dirs[] = { { .path = root_path(one, "one") },
					   { .path = root_path(two, "two") } };

	sco_table_close(sf.w.scos);
	flash_close(sf.w.flash);
	ck_assert_int_eq(flash_open(sf.w.env, &sf.w.pool, dirs, 2, 0, true, &sf.w.flash, NULL), 0);
	ck_assert_int_eq(sco_table_open(sf.w.env, sf.w.flash, &sf.w.scos), 0);
}

static int only_one_number(void *arg, uint64_t *ret_number, struct err *e)
{
	if (sf.next_number > 0)
		return err_set(e, -ENOSPC, "numbers");
	*ret_number = ++sf.next_number;
	(void)arg;
	return 0;
}

/* The second pwrite of all is the header's in the other directory; of one number there is no other. */
START_TEST(a_directory_whose_device_fails_leaves_the_sco_to_another)
{
	struct sco_make_options o = { .stream = 16 };
	struct sco *s = NULL;
	struct err e = { 0 };
	unsigned int failed;

	have_two_directories();
	only_pwrite = true;
	begin_failing(1);
	ck_assert_int_eq(sco_make(&sf.w, &o, &s, &e), 0);
	ck_assert_uint_eq(calls, 2);
	end_failing();
	failed = flash_failed_dirs(sf.w.flash);
	ck_assert(failed == 1 || failed == 2);
	ck_assert_uint_eq(1u << s->dir, failed ^ 3);
	ck_assert_uint_eq(s->number, 2); /* that of the first may come back in a power cut */
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), SF_SLOTS * UINT64_C(4096));
	sco_unref(sf.w.scos, must_have_header(s));
	/* The last one is not given up. */
	begin_failing(1);
	ck_assert_int_eq(sco_make(&sf.w, &o, &s, &e), -EIO);
	end_failing();
	ck_assert_uint_eq(flash_failed_dirs(sf.w.flash), failed);
	ck_assert_int_eq(sco_make(&sf.w, &o, &s, &e), 0);
	sco_unref(sf.w.scos, must_have_header(s));
}
END_TEST

START_TEST(without_a_number_for_another_try_nothing_is_made)
{
	struct sco_make_options o = { .stream = 16 };
	struct sco *s = NULL;
	struct err e = { 0 };

	have_two_directories();
	sf.w.new_sco_number = only_one_number;
	only_pwrite = true;
	begin_failing(1);
	ck_assert_int_eq(sco_make(&sf.w, &o, &s, &e), -ENOSPC);
	end_failing();
	ck_assert_ptr_null(s);
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), 0);
}
END_TEST

/* It is as it was, and sealed at the next try. */
START_TEST(each_call_of_sealing_may_fail)
{
	struct sco *s = sf_make(16);
	struct sco_to_seal it = { .sco = s };
	struct err e = { 0 };
	int r;

	sf_fill(s, 20);
	s->life = SCO_LIFE_FULL;
	for (unsigned int n = 1; s->life == SCO_LIFE_FULL; n++) {
		begin_failing(n);
		r = sco_seal(&sf.w, &it, 1, &e);
		end_failing();
		ck_assert_int_eq(r, s->life == SCO_LIFE_FULL ? -EIO : 0);
		sf_expect(s, 20);
		ck_assert_uint_lt(n, 10);
		ck_assert(n > 3 || r < 0);
	}
	sco_unref(sf.w.scos, s);
}
END_TEST

START_TEST(each_call_of_resealing_may_fail)
{
	struct sco *s = sf_make(16);
	struct sco_copy c = { .sco = s };
	struct err e = { 0 };
	uint64_t used;
	int r;

	sf_fill(s, 280);
	s->life = SCO_LIFE_LEFTOVER;
	used = flash_used_bytes(sf.w.flash);
	for (unsigned int n = 1; s->life == SCO_LIFE_LEFTOVER; n++) {
		begin_failing(n);
		r = sco_reseal(&sf.w, &c, 1, &e);
		end_failing();
		ck_assert_int_eq(r, s->life == SCO_LIFE_LEFTOVER ? -EIO : 0);
		ck_assert_uint_eq(s->version, r == 0);
		ck_assert_int_eq(c.done, r == 0);
		if (r < 0)
			ck_assert_uint_eq(flash_used_bytes(sf.w.flash), used);
		sf_expect(s, 20);
		ck_assert_uint_lt(n, 20);
		ck_assert(n > 6 || r < 0);
	}
	sco_unref(sf.w.scos, s);
}
END_TEST

START_TEST(a_call_that_fails_while_many_are_resealed_costs_one_of_them)
{
	for (unsigned int n = 1; n <= 30; n++) {
		struct sco *scos[3];
		struct sco_copy copies[3];
		struct err e = { 0 };
		unsigned int done = 0;
		int r;

		for (unsigned int i = 0; i < 3; i++) {
			scos[i] = sf_make(16);
			sf_fill(scos[i], 20);
			scos[i]->life = SCO_LIFE_LEFTOVER;
			copies[i] = (struct sco_copy){ .sco = scos[i] };
		}
		begin_failing(n);
		r = sco_reseal(&sf.w, copies, 3, &e);
		end_failing();
		for (unsigned int i = 0; i < 3; i++) {
			done += copies[i].done;
			ck_assert_uint_eq(scos[i]->version, copies[i].done);
			sf_expect(scos[i], 20);
			flash_discard(sf.w.flash, scos[i]->dir, 16, scos[i]->number, 0,
				      SF_SLOTS * UINT64_C(4096));
			sco_unref(sf.w.scos, scos[i]);
		}
		ck_assert_uint_ge(done, 2);
		ck_assert_int_eq(r, done == 3 ? 0 : -EIO);
	}
}
END_TEST

/* --- what cannot be sealed ---------------------------------------------------------------------- */

static void damage_entry(struct sco *s)
{
	s->log.data[46] = 99; /* an unknown kind */
}

/* Its first entry lies behind all that was written. */
static void displace_entry(struct sco *s)
{
	struct log_entry entry;

	ck_assert_int_eq(log_entry_decode(s->log.data, &entry, NULL), 0);
	entry.slot = (uint16_t)s->next_slot;
	log_entry_encode(&entry, s->log.data);
}

START_TEST(a_log_that_is_wrong_is_not_sealed_and_others_are)
{
	struct sco *bad = sf_make(16), *worse = sf_make(16), *good = sf_make(16);
	struct sco_to_seal three[] = { { .sco = bad }, { .sco = good }, { .sco = worse } };
	struct sco_copy copy = { .sco = bad };
	struct err e = { 0 };

	sf_fill(bad, 3);
	sf_fill(worse, 3);
	sf_fill(good, 3);
	damage_entry(bad);
	displace_entry(worse);
	for (unsigned int i = 0; i < 3; i++)
		three[i].sco->life = SCO_LIFE_FULL;
	ck_assert_int_eq(sco_seal(&sf.w, three, 3, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "sealing SCO 1"));
	ck_assert_int_eq(good->life, SCO_LIFE_SEALED);
	bad->life = worse->life = SCO_LIFE_LEFTOVER;
	ck_assert_int_eq(sco_reseal(&sf.w, &copy, 1, &e), -EUCLEAN);
	copy.sco = worse;
	ck_assert_int_eq(sco_reseal(&sf.w, &copy, 1, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "leaves its SCO"));
	sco_unref(sf.w.scos, bad);
	sco_unref(sf.w.scos, worse);
	sco_unref(sf.w.scos, good);
}
END_TEST

START_TEST(a_leftover_whose_log_is_wrong_stays_and_others_are_resealed)
{
	struct sco *scos[] = { sf_make(16), sf_make(16), sf_make(16) };
	struct sco_copy copies[3];
	uint64_t used = flash_used_bytes(sf.w.flash);
	struct err e = { 0 };

	for (unsigned int i = 0; i < 3; i++) {
		sf_fill(scos[i], 3 + i);
		scos[i]->life = SCO_LIFE_LEFTOVER;
		copies[i] = (struct sco_copy){ .sco = scos[i] };
	}
	damage_entry(scos[1]);
	ck_assert_int_eq(sco_reseal(&sf.w, copies, 3, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "resealing SCO 2"));
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(copies[i].done, i != 1);
		ck_assert_uint_eq(scos[i]->version, i != 1);
		ck_assert_int_eq(scos[i]->life, i != 1 ? SCO_LIFE_SEALED : SCO_LIFE_LEFTOVER);
		sf_expect(scos[i], 3);
	}
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash),
			  used + scos[0]->file_bytes + scos[2]->file_bytes);
	for (unsigned int i = 0; i < 3; i++)
		sco_unref(sf.w.scos, scos[i]);
}
END_TEST

START_TEST(a_leftover_that_cannot_be_read_is_not_resealed)
{
	struct sco *s = sf_make(16);
	char *path = flash_path(sf.w.flash, s->dir, 16, 1, 0);
	uint64_t used = flash_used_bytes(sf.w.flash);
	struct sco_copy c = { .sco = s };
	struct err e = { 0 };

	sf_fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	flip_bit(path, 100, 1); /* of its header */
	ck_assert_int_eq(sco_reseal(&sf.w, &c, 1, &e), -EBADMSG);
	flip_bit(path, 100, 1);
	cut_file(path, 10 * 4096);
	ck_assert_int_eq(sco_reseal(&sf.w, &c, 1, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "resealing SCO 1"));
	ck_assert_uint_eq(s->version, 0);
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), used);
	sco_unref(sf.w.scos, s);
	free(path);
}
END_TEST

START_TEST(a_number_that_is_taken_makes_no_second_one)
{
	struct sco_make_options o = { .stream = 17 };
	struct sco *s = sf_make(16), *again;
	struct err e = { 0 };
	uint64_t used = flash_used_bytes(sf.w.flash);

	sf.next_number = 0;
	ck_assert_int_eq(sco_make(&sf.w, &o, &again, &e), -EEXIST);
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), used);
	ck_assert(sco_remove(sf.w.scos, s));
	ck_assert(!sco_remove(sf.w.scos, s)); /* somebody else did */
	sco_unref(sf.w.scos, s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sco_failing");
	TCase *t = tcase_create("sco_failing");
	SRunner *runner;
	int failed;

	sf_fixture_add(t);
	tcase_add_loop_test(t, each_call_of_making_one_may_fail, 0, 2);
	tcase_add_test(t, a_file_of_the_stock_that_fails_is_replaced);
	tcase_add_test(t, a_directory_whose_device_fails_leaves_the_sco_to_another);
	tcase_add_test(t, without_a_number_for_another_try_nothing_is_made);
	tcase_add_test(t, each_call_of_sealing_may_fail);
	tcase_add_test(t, each_call_of_resealing_may_fail);
	tcase_add_test(t, a_call_that_fails_while_many_are_resealed_costs_one_of_them);
	tcase_add_test(t, a_log_that_is_wrong_is_not_sealed_and_others_are);
	tcase_add_test(t, a_leftover_whose_log_is_wrong_stays_and_others_are_resealed);
	tcase_add_test(t, a_leftover_that_cannot_be_read_is_not_resealed);
	tcase_add_test(t, a_number_that_is_taken_makes_no_second_one);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
