/* SCOs in RAM and on flash: the table, making, sealing, reading an index back. */
#include "volume/sco.h"

#include "common/crc32c.h"
#include "support_pool.h"
#include "volume/sco_index.h"
#include "volume/sco_make.h"
#include "volume/sco_read.h"
#include "volume/stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 300u /* two chunks of the slot table */

static struct stream_world w;
static uint64_t next_number;

static int new_number(UNUSED void *arg, uint64_t *ret_number, UNUSED struct err *e)
{
	*ret_number = ++next_number;
	return 0;
}

static void begin(void)
{
	char path[PATH_BYTES];
	struct flash_dir_option dir = { .path = root_path(path, "flash") };

	next_number = 0;
	w = (struct stream_world){ .env = env_posix(),
				   .pool = { { 4, 2 } },
				   .epoch = 3,
				   .sco_slots = SLOTS,
				   .new_sco_number = new_number };
	ck_assert_int_eq(flash_open(w.env, &w.pool, &dir, 1, 0, true, &w.flash, NULL), 0);
	ck_assert_int_eq(sco_table_open(w.env, w.flash, &w.scos), 0);
}

static void end(void)
{
	sco_table_close(w.scos);
	flash_close(w.flash);
}

static struct sco *make(uint32_t stream)
{
	struct sco_make_options o = { .stream = stream };
	struct sco *s = NULL;
	struct err e = { 0 };

	ck_assert_msg(sco_make(&w, &o, &s, &e) == 0, "%s", e.message);
	return s;
}

static struct env_file *file_of(struct sco *s)
{
	struct env_file *f;

	ck_assert_int_eq(sco_file(w.scos, s, &f, NULL), 0);
	return f;
}

/* Clusters [1 + n] with one entry each, without batches: enough for an index. */
static void fill(struct sco *s, unsigned int clusters)
{
	for (unsigned int i = 0; i < clusters; i++) {
		uint8_t *mem = pattern_mem(4096, 50 + i), bytes[BATCH_ENTRY_BYTES];
		struct log_entry entry = { .lsn = 100 + i,
					   .object = 16,
					   .first_cluster = i,
					   .size_bytes = (i + 1) * UINT64_C(4096),
					   .cluster_count = 1,
					   .slot = (uint16_t)s->next_slot,
					   .kind = ENTRY_DATA };

		ck_assert_int_eq(env_pwrite(w.env, file_of(s), mem, 4096,
					    s->next_slot * UINT64_C(4096)),
				 0);
		s->crcs[s->next_slot++] = crc32c(0, mem, 4096);
		log_entry_encode(&entry, bytes);
		ck_assert_int_eq(buf_append(&s->log, bytes, sizeof(bytes)), 0);
		free(mem);
	}
}

static void seal(struct sco *s)
{
	struct sco_to_seal it = { .sco = s };
	struct err e = { 0 };

	s->life = SCO_LIFE_FULL;
	ck_assert_msg(sco_seal(&w, &it, 1, &e) == 0, "%s", e.message);
	ck_assert_int_eq(sco_life(w.scos, s), SCO_LIFE_SEALED);
}

static int count_entry(void *arg, const struct log_entry *entry)
{
	unsigned int *count = arg;

	ck_assert_uint_eq(entry->lsn, 100 + *count);
	ck_assert_uint_eq(entry->first_cluster, *count);
	(*count)++;
	return 0;
}

START_TEST(a_new_sco_has_a_header_that_says_whose_it_is)
{
	struct sco_make_options o = {
		.stream = 17, .first_of_epoch = true, .cut_sco = 5, .cut_batches = 6, .cut_lsn = 7
	};
	uint8_t *block = aligned_mem(4096);
	struct sco_header h;
	struct sco *s;

	ck_assert_int_eq(sco_make(&w, &o, &s, NULL), 0);
	ck_assert_int_eq(sco_read(w.scos, s, 0, 1, block, NULL), 0);
	ck_assert_int_eq(sco_header_decode(block, &h, NULL), 0);
	ck_assert_int_eq(memcmp(&h.pool, &w.pool, sizeof(h.pool)), 0);
	ck_assert_uint_eq(h.stream, 17);
	ck_assert_uint_eq(h.sco, 1);
	ck_assert_uint_eq(h.epoch, 3);
	ck_assert_uint_eq(h.salt, s->salt);
	ck_assert_uint_eq(h.slots_max, SLOTS);
	ck_assert_uint_eq(h.flags, SCO_FIRST_OF_EPOCH);
	ck_assert_uint_eq(h.cut_sco, 5);
	ck_assert_uint_eq(h.cut_batches, 6);
	ck_assert_uint_eq(h.cut_lsn, 7);
	ck_assert_uint_eq(flash_used_bytes(w.flash), SLOTS * UINT64_C(4096));
	sco_unref(w.scos, s);
	free(block);
}
END_TEST

START_TEST(numbers_and_salts_differ)
{
	struct sco *one = make(16), *two = make(16);

	ck_assert_uint_ne(one->number, two->number);
	ck_assert_uint_ne(one->salt, two->salt);
	sco_unref(w.scos, one);
	sco_unref(w.scos, two);
}
END_TEST

START_TEST(a_sealed_sco_reads_back_with_its_index)
{
	struct sco *s = make(16);
	struct sco_bytes bytes = sco_bytes_of(w.scos, s); /* the same pointer as long as it lives */
	struct sco_footer footer;
	struct sco_index *x;
	unsigned int entries = 0;
	uint32_t crcs[SLOTS];
	uint8_t *mem = aligned_mem(4096);

	fill(s, 270);
	seal(s);
	ck_assert_uint_eq(s->first_lsn, 100);
	ck_assert_uint_eq(s->last_lsn, 369);
	/* Data, two chunks, the log, the footer, and not a byte more. */
	ck_assert_uint_eq(s->file_bytes, (271 + 2 + div_up_u64(270 * 56, 4096) + 1) * 4096);
	ck_assert_uint_eq(flash_used_bytes(w.flash), s->file_bytes);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_uint_eq(footer.slot_count, 271);
	ck_assert_uint_eq(footer.log_entries, 270);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), 0);
	ck_assert_uint_eq(entries, 270);

	sco_unref(w.scos, s); /* its tables in RAM go: the index must come from the file */
	s = sco_get(w.scos, 1);
	ck_assert_ptr_null(s->crcs);
	ck_assert_int_eq(sco_index_open(w.scos, 0, &x), 0);
	for (unsigned int pass = 0; pass < 2; pass++) {
		ck_assert_int_eq(sco_index_crcs(x, s, 1, 270, crcs, NULL), 0);
		for (unsigned int i = 0; i < 270; i++) {
			pattern_fill(mem, 4096, 50 + i);
			ck_assert_uint_eq(crcs[i], crc32c(0, mem, 4096));
		}
	}
	ck_assert_int_eq(sco_index_crcs(x, s, 0, 1, crcs, NULL), -EUCLEAN);   /* the header */
	ck_assert_int_eq(sco_index_crcs(x, s, 271, 1, crcs, NULL), -EUCLEAN); /* behind the end */
	sco_index_close(x);
	sco_unref(w.scos, s);
	free(mem);
}
END_TEST

START_TEST(damage_in_footer_log_and_index_is_found)
{
	struct sco *s = make(16);
	struct sco_bytes bytes = sco_bytes_of(w.scos, s); /* the same pointer as long as it lives */
	struct sco_footer footer;
	struct sco_index *x;
	unsigned int entries = 0;
	uint32_t crc;
	char *path;

	fill(s, 20);
	seal(s);
	sco_unref(w.scos, s);
	s = sco_get(w.scos, 1);
	path = flash_path(w.flash, s->dir, 16, 1, 0);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	flip_bit(path, footer.log_offset_bytes + 100, 1);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), -EBADMSG);
	flip_bit(path, footer.table_offset_bytes + 100, 1);
	ck_assert_int_eq(sco_index_open(w.scos, 0, &x), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, NULL), -EBADMSG);
	sco_index_close(x);
	flip_bit(path, s->file_bytes - 4096 + 70, 1);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), -EBADMSG);
	ck_assert_int_eq(sco_read_footer(&bytes, 4096, &footer, NULL), -EUCLEAN);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes - 1, &footer, NULL), -EUCLEAN);
	sco_unref(w.scos, s);
	free(path);
}
END_TEST

START_TEST(a_leftover_is_resealed_as_a_new_version_and_readers_go_on)
{
	struct sco *s = make(16);
	uint8_t *mem = aligned_mem(20 * 4096), *want = aligned_mem(4096);
	struct sco_copy c = { .sco = s };
	struct sco_header h;

	fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	ck_assert_int_eq(sco_reseal(&w, &c, 1, NULL), 0);
	ck_assert(c.done);
	ck_assert_uint_eq(c.old_version, 0);
	ck_assert_uint_eq(c.old_bytes, SLOTS * UINT64_C(4096));
	ck_assert_uint_eq(s->version, 1);
	ck_assert_int_eq(s->life, SCO_LIFE_SEALED);
	ck_assert_int_eq(sco_read(w.scos, s, 1, 20, mem, NULL), 0);
	for (unsigned int i = 0; i < 20; i++) {
		pattern_fill(want, 4096, 50 + i);
		ck_assert_int_eq(memcmp(mem + i * 4096, want, 4096), 0);
	}
	ck_assert_int_eq(sco_read(w.scos, s, 0, 1, mem, NULL), 0);
	ck_assert_int_eq(sco_header_decode(mem, &h, NULL), 0);
	ck_assert_uint_eq(h.version, 1);
	/* Both files are there until a checkpoint lets the old one go. */
	ck_assert_uint_eq(flash_used_bytes(w.flash), c.old_bytes + s->file_bytes);
	flash_discard(w.flash, c.old_dir, 16, 1, 0, c.old_bytes);
	sco_unref(w.scos, s);
	s = sco_get(w.scos, 1);
	ck_assert_int_eq(sco_read(w.scos, s, 1, 20, mem, NULL), 0);
	sco_unref(w.scos, s);
	free(mem);
	free(want);
}
END_TEST

/* --- the table ---------------------------------------------------------------------------------- */

START_TEST(a_number_is_in_the_table_once)
{
	struct sco *s = make(16), *again;
	struct sco init = { .number = s->number };

	ck_assert_int_eq(sco_table_add(w.scos, &init, &again), -EEXIST);
	again = sco_get(w.scos, s->number);
	ck_assert_ptr_eq(again, s);
	ck_assert_ptr_null(sco_get(w.scos, 999));
	sco_unref(w.scos, again);
	sco_unref(w.scos, s);
}
END_TEST

START_TEST(a_removed_sco_stays_readable_for_who_holds_it)
{
	struct sco *s = make(16);
	uint8_t *block = aligned_mem(4096);

	sco_remove(w.scos, s);
	ck_assert_ptr_null(sco_get(w.scos, 1));
	flash_discard(w.flash, s->dir, 16, 1, 0, s->file_bytes);
	ck_assert_int_eq(sco_read(w.scos, s, 0, 1, block, NULL), 0);
	sco_unref(w.scos, s);
	free(block);
}
END_TEST

START_TEST(reading_behind_the_end_or_a_file_that_is_gone_is_an_error)
{
	struct sco *s = make(16);
	uint8_t *block = aligned_mem(8192);
	char *path = flash_path(w.flash, s->dir, 16, 1, 0);

	ck_assert_int_eq(sco_read(w.scos, s, SLOTS, 1, block, NULL), -EUCLEAN);
	ck_assert_int_eq(sco_read(w.scos, s, SLOTS - 1, 2, block, NULL), -EUCLEAN);
	ck_assert_int_eq(unlink(path), 0);
	env_close(w.env, s->file);
	s->file = NULL;
	ck_assert_int_eq(sco_read(w.scos, s, 0, 1, block, NULL), -ENOENT);
	sco_unref(w.scos, s);
	free(block);
	free(path);
}
END_TEST

START_TEST(lists_are_in_order_and_of_one_stream_if_asked)
{
	struct sco **list;
	size_t count;

	for (unsigned int i = 0; i < 10; i++)
		sco_unref(w.scos, make(16 + i % 3));
	ck_assert_int_eq(sco_table_list(w.scos, 0, &list, &count), 0);
	ck_assert_uint_eq(count, 10);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(list[i]->number, i + 1);
	sco_list_free(w.scos, list, count);
	ck_assert_int_eq(sco_table_list(w.scos, 17, &list, &count), 0);
	ck_assert_uint_eq(count, 3);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(list[i]->stream, 17);
	sco_list_free(w.scos, list, count);
}
END_TEST

/* --- calls that fail ---------------------------------------------------------------------------- */

static struct env_ops ops;
static struct env failing = { &ops };
static unsigned int calls, fail_at; /* 0: none */

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
	ops.open = try_open;
	ops.pread = try_pread;
	ops.pwrite = try_pwrite;
	ops.fdatasync = try_fdatasync;
	ops.fdatasync_all = NULL;
	ops.truncate = try_truncate;
	ops.fallocate = try_fallocate;
	ops.sync_dir = try_sync_dir;
	calls = 0;
	fail_at = number;
	w.env = w.scos->env = w.flash->env = &failing;
}

static void end_failing(void)
{
	w.env = w.scos->env = w.flash->env = env_posix();
}

static void expect_clusters(struct sco *s, unsigned int count)
{
	uint8_t *mem = aligned_mem(4096), *want = aligned_mem(4096);

	for (unsigned int i = 0; i < count; i++) {
		ck_assert_int_eq(sco_read(w.scos, s, 1 + i, 1, mem, NULL), 0);
		pattern_fill(want, 4096, 50 + i);
		ck_assert_int_eq(memcmp(mem, want, 4096), 0);
	}
	free(mem);
	free(want);
}

/* Nothing is left of one that came to nothing, and its number is not used again. */
START_TEST(each_call_of_making_one_may_fail)
{
	unsigned int failed = 0;

	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct sco_make_options o = { .stream = 16, .prewritten = _i };
		struct sco *s = NULL;
		struct err e = { 0 };
		uint64_t before = next_number;
		int r;

		begin_failing(n);
		r = sco_make(&w, &o, &s, &e);
		end_failing();
		ck_assert(r == 0 || (r == -EIO && e.message[0]));
		ck_assert_uint_gt(next_number, before);
		failed += r < 0;
		ck_assert_uint_eq(flash_used_bytes(w.flash), r == 0 ? SLOTS * UINT64_C(4096) : 0);
		if (r < 0)
			continue;
		(void)sco_remove(w.scos, s);
		flash_discard(w.flash, s->dir, 16, s->number, 0, s->file_bytes);
		sco_unref(w.scos, s);
	}
	ck_assert_uint_ge(failed, 2);
}
END_TEST

/* It is as it was, and sealed at the next try. */
START_TEST(each_call_of_sealing_may_fail)
{
	struct sco *s = make(16);
	struct sco_to_seal it = { .sco = s };
	struct err e = { 0 };
	int r;

	fill(s, 20);
	s->life = SCO_LIFE_FULL;
	for (unsigned int n = 1; s->life == SCO_LIFE_FULL; n++) {
		begin_failing(n);
		r = sco_seal(&w, &it, 1, &e);
		end_failing();
		ck_assert_int_eq(r, s->life == SCO_LIFE_FULL ? -EIO : 0);
		expect_clusters(s, 20);
		ck_assert_uint_lt(n, 10);
		ck_assert(n > 3 || r < 0);
	}
	sco_unref(w.scos, s);
}
END_TEST

START_TEST(each_call_of_resealing_may_fail)
{
	struct sco *s = make(16);
	struct sco_copy c = { .sco = s };
	struct err e = { 0 };
	uint64_t used;
	int r;

	fill(s, 280);
	s->life = SCO_LIFE_LEFTOVER;
	used = flash_used_bytes(w.flash);
	for (unsigned int n = 1; s->life == SCO_LIFE_LEFTOVER; n++) {
		begin_failing(n);
		r = sco_reseal(&w, &c, 1, &e);
		end_failing();
		ck_assert_int_eq(r, s->life == SCO_LIFE_LEFTOVER ? -EIO : 0);
		ck_assert_uint_eq(s->version, r == 0);
		ck_assert_int_eq(c.done, r == 0);
		if (r < 0)
			ck_assert_uint_eq(flash_used_bytes(w.flash), used);
		expect_clusters(s, 20);
		ck_assert_uint_lt(n, 20);
		ck_assert(n > 6 || r < 0);
	}
	sco_unref(w.scos, s);
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
			scos[i] = make(16);
			fill(scos[i], 20);
			scos[i]->life = SCO_LIFE_LEFTOVER;
			copies[i] = (struct sco_copy){ .sco = scos[i] };
		}
		begin_failing(n);
		r = sco_reseal(&w, copies, 3, &e);
		end_failing();
		for (unsigned int i = 0; i < 3; i++) {
			done += copies[i].done;
			ck_assert_uint_eq(scos[i]->version, copies[i].done);
			expect_clusters(scos[i], 20);
			flash_discard(w.flash, scos[i]->dir, 16, scos[i]->number, 0,
				      SLOTS * UINT64_C(4096));
			sco_unref(w.scos, scos[i]);
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
	struct sco *bad = make(16), *worse = make(16), *good = make(16);
	struct sco_to_seal three[] = { { .sco = bad }, { .sco = good }, { .sco = worse } };
	struct sco_copy copy = { .sco = bad };
	struct err e = { 0 };

	fill(bad, 3);
	fill(worse, 3);
	fill(good, 3);
	damage_entry(bad);
	displace_entry(worse);
	for (unsigned int i = 0; i < 3; i++)
		three[i].sco->life = SCO_LIFE_FULL;
	ck_assert_int_eq(sco_seal(&w, three, 3, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "sealing SCO 1"));
	ck_assert_int_eq(good->life, SCO_LIFE_SEALED);
	bad->life = worse->life = SCO_LIFE_LEFTOVER;
	ck_assert_int_eq(sco_reseal(&w, &copy, 1, &e), -EUCLEAN);
	copy.sco = worse;
	ck_assert_int_eq(sco_reseal(&w, &copy, 1, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "leaves its SCO"));
	sco_unref(w.scos, bad);
	sco_unref(w.scos, worse);
	sco_unref(w.scos, good);
}
END_TEST

START_TEST(a_leftover_whose_log_is_wrong_stays_and_others_are_resealed)
{
	struct sco *scos[] = { make(16), make(16), make(16) };
	struct sco_copy copies[3];
	uint64_t used = flash_used_bytes(w.flash);
	struct err e = { 0 };

	for (unsigned int i = 0; i < 3; i++) {
		fill(scos[i], 3 + i);
		scos[i]->life = SCO_LIFE_LEFTOVER;
		copies[i] = (struct sco_copy){ .sco = scos[i] };
	}
	damage_entry(scos[1]);
	ck_assert_int_eq(sco_reseal(&w, copies, 3, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "resealing SCO 2"));
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(copies[i].done, i != 1);
		ck_assert_uint_eq(scos[i]->version, i != 1);
		ck_assert_int_eq(scos[i]->life, i != 1 ? SCO_LIFE_SEALED : SCO_LIFE_LEFTOVER);
		expect_clusters(scos[i], 3);
	}
	ck_assert_uint_eq(flash_used_bytes(w.flash),
			  used + scos[0]->file_bytes + scos[2]->file_bytes);
	for (unsigned int i = 0; i < 3; i++)
		sco_unref(w.scos, scos[i]);
}
END_TEST

START_TEST(a_leftover_that_cannot_be_read_is_not_resealed)
{
	struct sco *s = make(16);
	char *path = flash_path(w.flash, s->dir, 16, 1, 0);
	uint64_t used = flash_used_bytes(w.flash);
	struct sco_copy c = { .sco = s };
	struct err e = { 0 };

	fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	flip_bit(path, 100, 1); /* of its header */
	ck_assert_int_eq(sco_reseal(&w, &c, 1, &e), -EBADMSG);
	flip_bit(path, 100, 1);
	cut_file(path, 10 * 4096);
	ck_assert_int_eq(sco_reseal(&w, &c, 1, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "resealing SCO 1"));
	ck_assert_uint_eq(s->version, 0);
	ck_assert_uint_eq(flash_used_bytes(w.flash), used);
	sco_unref(w.scos, s);
	free(path);
}
END_TEST

START_TEST(a_number_that_is_taken_makes_no_second_one)
{
	struct sco_make_options o = { .stream = 17 };
	struct sco *s = make(16), *again;
	struct err e = { 0 };
	uint64_t used = flash_used_bytes(w.flash);

	next_number = 0;
	ck_assert_int_eq(sco_make(&w, &o, &again, &e), -EEXIST);
	ck_assert_uint_eq(flash_used_bytes(w.flash), used);
	ck_assert(sco_remove(w.scos, s));
	ck_assert(!sco_remove(w.scos, s)); /* somebody else did */
	sco_unref(w.scos, s);
}
END_TEST

/* --- whose it is --------------------------------------------------------------------------------- */

START_TEST(a_whole_block_of_another_one_is_refused)
{
	struct sco *s = make(16);
	struct sco_bytes bytes = sco_bytes_of(w.scos, s);
	struct sco_footer footer;
	struct sco_header header;

	fill(s, 20);
	seal(s);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_int_eq(sco_read_header(w.scos, s, &header, NULL), 0);
	for (unsigned int i = 0; i < 7; i++) {
		struct sco before = *s;
		int of_footer, of_header;

		s->stream += i == 0;
		s->number += i == 1;
		s->version += i == 2;
		s->next_slot += i == 3;
		s->footer_crc += i == 4;
		s->salt += i == 5;
		w.flash->pool.bytes[0] ^= i == 6;
		of_footer = sco_read_footer(&bytes, s->file_bytes, &footer, NULL);
		of_header = sco_read_header(w.scos, s, &header, NULL);
		s->stream = before.stream;
		s->number = before.number;
		s->version = before.version;
		s->next_slot = before.next_slot;
		s->footer_crc = before.footer_crc;
		s->salt = before.salt;
		w.flash->pool.bytes[0] ^= i == 6;
		ck_assert_int_eq(of_footer, i == 5 ? 0 : -EUCLEAN);
		ck_assert_int_eq(of_header, i >= 2 && i <= 4 ? 0 : -EUCLEAN);
	}
	sco_unref(w.scos, s);
}
END_TEST

/* --- a second copy ------------------------------------------------------------------------------- */

static struct {
	int error; /* 0: what is in whole */
	uint8_t *whole;
	unsigned int reads;
} copy;

static int read_copy(UNUSED void *arg, UNUSED const struct sco *s, uint64_t offset_bytes,
		     size_t len_bytes, void *dst, UNUSED bool anew, struct err *e)
{
	copy.reads++;
	if (copy.error)
		return err_set(e, copy.error, "the copy");
	memcpy(dst, copy.whole + offset_bytes, len_bytes);
	return 0;
}

/* What is damaged here is read there; where that fails, too, the error says which of the two counts. */
START_TEST(what_is_damaged_here_is_read_from_its_copy)
{
	static const struct {
		int copy, result;
	} cases[] = { { 0, 0 },
		      { -ENOENT, -EBADMSG },
		      { -EUCLEAN, -EBADMSG },
		      { -EIO, -EIO },
		      { -EAGAIN, -EAGAIN } };
	struct sco *s = make(16);
	struct sco_bytes bytes = sco_bytes_of(w.scos, s);
	char *path = flash_path(w.flash, s->dir, 16, 1, 0);
	struct sco_header header;
	uint32_t crc;

	fill(s, 20);
	seal(s);
	sco_unref(w.scos, s);
	s = sco_get(w.scos, 1);
	copy.whole = (uint8_t *)file_text(path);
	w.scos->read_object = read_copy;
	flip_bit(path, s->table_offset_bytes + 100, 1);
	flip_bit(path, 100, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = { 0 };
		struct sco_index *x;
		int r;

		copy.error = cases[i].copy;
		ck_assert_int_eq(sco_index_open(w.scos, 0, &x), 0);
		s->row_flags = 0; /* it is nowhere else */
		ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, &e), -EBADMSG);
		ck_assert_int_eq(sco_index_load(x, s, 1, 1, &e), -EBADMSG);
		ck_assert_uint_eq(copy.reads, 0);
		s->row_flags = SCO_UPLOADED;
		ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, &e), cases[i].result);
		r = sco_read_header(w.scos, s, &header, &e);
		ck_assert_int_eq(r, copy.error == -EUCLEAN ? -EUCLEAN : cases[i].result);
		ck_assert_uint_gt(copy.reads, 0);
		copy.reads = 0;
		sco_index_close(x);
	}
	/* It is there only, and nobody reads it. */
	env_close(w.env, TAKE_PTR(s->file));
	w.scos->open_files--;
	s->absent = true;
	w.scos->read_object = NULL;
	ck_assert_int_eq(sco_read_header(w.scos, s, &header, NULL), -ENODATA);
	(void)bytes;
	sco_unref(w.scos, s);
	free(copy.whole);
	free(path);
}
END_TEST

/* --- the index ----------------------------------------------------------------------------------- */

START_TEST(slots_that_hold_no_cluster_have_no_checksum)
{
	struct sco *s = make(16);
	struct sco_index *x;
	uint32_t crcs[2];

	fill(s, 20);
	ck_assert_int_eq(sco_index_open(w.scos, 0, &x), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, SLOTS - 1, 2, crcs, NULL), -EUCLEAN); /* in RAM */
	seal(s);
	sco_unref(w.scos, s);
	s = sco_get(w.scos, 1);
	ck_assert_int_eq(sco_index_load(x, s, 1, 0, NULL), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, 0, 1, crcs, NULL), -EUCLEAN);   /* the header */
	ck_assert_int_eq(sco_index_crcs(x, s, 20, 2, crcs, NULL), -EUCLEAN);  /* behind the last */
	ck_assert_int_eq(sco_index_crcs(x, s, 290, 1, crcs, NULL), -EUCLEAN); /* no such chunk */
	ck_assert_int_eq(sco_index_crcs(x, s, 20, 1, crcs, NULL), 0);
	sco_unref(w.scos, s);
	sco_index_close(x);
}
END_TEST

/* The cache holds 16 chunks at least; these have 20. */
START_TEST(chunks_that_were_not_used_for_long_go)
{
	struct sco_index *x;
	uint32_t crc[2];

	for (unsigned int i = 0; i < 10; i++) {
		struct sco *s = make(16);

		fill(s, 260);
		seal(s);
		sco_unref(w.scos, s);
	}
	ck_assert_int_eq(sco_index_open(w.scos, 0, &x), 0);
	for (unsigned int round = 0; round < 2; round++)
		for (uint64_t i = 1; i <= 10; i++) {
			struct sco *s = sco_get(w.scos, i);
			uint8_t *mem = pattern_mem(4096, 50 + 255);

			ck_assert_int_eq(sco_index_crcs(x, s, 255, 2, crc, NULL), 0);
			ck_assert_uint_eq(crc[1], crc32c(0, mem, 4096));
			sco_unref(w.scos, s);
			free(mem);
		}
	sco_index_close(x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sco");
	TCase *t = tcase_create("sco");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, a_new_sco_has_a_header_that_says_whose_it_is);
	tcase_add_test(t, numbers_and_salts_differ);
	tcase_add_test(t, a_sealed_sco_reads_back_with_its_index);
	tcase_add_test(t, damage_in_footer_log_and_index_is_found);
	tcase_add_test(t, a_leftover_is_resealed_as_a_new_version_and_readers_go_on);
	tcase_add_test(t, a_number_is_in_the_table_once);
	tcase_add_test(t, a_removed_sco_stays_readable_for_who_holds_it);
	tcase_add_test(t, reading_behind_the_end_or_a_file_that_is_gone_is_an_error);
	tcase_add_test(t, lists_are_in_order_and_of_one_stream_if_asked);
	tcase_add_loop_test(t, each_call_of_making_one_may_fail, 0, 2);
	tcase_add_test(t, each_call_of_sealing_may_fail);
	tcase_add_test(t, each_call_of_resealing_may_fail);
	tcase_add_test(t, a_call_that_fails_while_many_are_resealed_costs_one_of_them);
	tcase_add_test(t, a_log_that_is_wrong_is_not_sealed_and_others_are);
	tcase_add_test(t, a_leftover_whose_log_is_wrong_stays_and_others_are_resealed);
	tcase_add_test(t, a_leftover_that_cannot_be_read_is_not_resealed);
	tcase_add_test(t, a_number_that_is_taken_makes_no_second_one);
	tcase_add_test(t, a_whole_block_of_another_one_is_refused);
	tcase_add_test(t, what_is_damaged_here_is_read_from_its_copy);
	tcase_add_test(t, slots_that_hold_no_cluster_have_no_checksum);
	tcase_add_test(t, chunks_that_were_not_used_for_long_go);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
