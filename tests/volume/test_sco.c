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
	uint32_t old_version, old_dir;
	uint64_t old_bytes;
	struct sco_header h;

	fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	ck_assert_int_eq(sco_reseal(&w, s, 0, &old_version, &old_dir, &old_bytes, NULL), 0);
	ck_assert_uint_eq(old_version, 0);
	ck_assert_uint_eq(old_bytes, SLOTS * UINT64_C(4096));
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
	ck_assert_uint_eq(flash_used_bytes(w.flash), old_bytes + s->file_bytes);
	flash_discard(w.flash, old_dir, 16, 1, 0, old_bytes);
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
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
