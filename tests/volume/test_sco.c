/* SCOs in RAM and on flash: the table, making, sealing, reading an index back. */
#include "volume/sco.h"

#include "common/crc32c.h"
#include "tests/volume/support_pool.h"
#include "tests/volume/support_sco.h"
#include "volume/sco_index.h"
#include "volume/sco_make.h"
#include "volume/sco_read.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

	ck_assert_int_eq(sco_make(&sf.w, &o, &s, NULL), 0);
	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, block, NULL), 0);
	ck_assert_int_eq(sco_header_decode(block, &h, NULL), 0);
	ck_assert_int_eq(memcmp(&h.pool, &sf.w.pool, sizeof(h.pool)), 0);
	ck_assert_uint_eq(h.stream, 17);
	ck_assert_uint_eq(h.sco, 1);
	ck_assert_uint_eq(h.epoch, 3);
	ck_assert_uint_eq(h.salt, s->salt);
	ck_assert_uint_eq(h.slots_max, SF_SLOTS);
	ck_assert_uint_eq(h.flags, SCO_FIRST_OF_EPOCH);
	ck_assert_uint_eq(h.cut_sco, 5);
	ck_assert_uint_eq(h.cut_batches, 6);
	ck_assert_uint_eq(h.cut_lsn, 7);
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), SF_SLOTS * UINT64_C(4096));
	sco_unref(sf.w.scos, s);
	free(block);
}
END_TEST

START_TEST(numbers_and_salts_differ)
{
	struct sco *one = sf_make(16), *two = sf_make(16);

	ck_assert_uint_ne(one->number, two->number);
	ck_assert_uint_ne(one->salt, two->salt);
	sco_unref(sf.w.scos, one);
	sco_unref(sf.w.scos, two);
}
END_TEST

START_TEST(a_sealed_sco_reads_back_with_its_index)
{
	struct sco *s = sf_make(16);
	struct sco_bytes bytes =
		sco_bytes_of(sf.w.scos, s); /* the same pointer as long as it lives */
	struct sco_footer footer;
	struct sco_index *x;
	unsigned int entries = 0;
	uint32_t crcs[SF_SLOTS];
	uint8_t *mem = aligned_mem(4096);

	sf_fill(s, 270);
	sf_seal(s);
	ck_assert_uint_eq(s->first_lsn, 100);
	ck_assert_uint_eq(s->last_lsn, 369);
	/* Data, two chunks, the log, the footer, and not a byte more. */
	ck_assert_uint_eq(s->file_bytes, (271 + 2 + div_up_u64(270 * 56, 4096) + 1) * 4096);
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), s->file_bytes);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_uint_eq(footer.slot_count, 271);
	ck_assert_uint_eq(footer.log_entries, 270);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), 0);
	ck_assert_uint_eq(entries, 270);

	sco_unref(sf.w.scos, s); /* its tables in RAM go: the index must come from the file */
	s = sco_get(sf.w.scos, 1);
	ck_assert_ptr_null(s->crcs);
	ck_assert_int_eq(sco_index_open(sf.w.scos, 0, &x), 0);
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
	sco_unref(sf.w.scos, s);
	free(mem);
}
END_TEST

START_TEST(damage_in_footer_log_and_index_is_found)
{
	struct sco *s = sf_make(16);
	struct sco_bytes bytes =
		sco_bytes_of(sf.w.scos, s); /* the same pointer as long as it lives */
	struct sco_footer footer;
	struct sco_index *x;
	unsigned int entries = 0;
	uint32_t crc;
	char *path;

	sf_fill(s, 20);
	sf_seal(s);
	sco_unref(sf.w.scos, s);
	s = sco_get(sf.w.scos, 1);
	path = flash_path(sf.w.flash, s->dir, 16, 1, 0);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	flip_bit(path, footer.log_offset_bytes + 100, 1);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), -EBADMSG);
	flip_bit(path, footer.table_offset_bytes + 100, 1);
	ck_assert_int_eq(sco_index_open(sf.w.scos, 0, &x), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, NULL), -EBADMSG);
	sco_index_close(x);
	flip_bit(path, s->file_bytes - 4096 + 70, 1);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), -EBADMSG);
	ck_assert_int_eq(sco_read_footer(&bytes, 4096, &footer, NULL), -EUCLEAN);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes - 1, &footer, NULL), -EUCLEAN);
	sco_unref(sf.w.scos, s);
	free(path);
}
END_TEST

static int stop_at_third(void *arg, const struct log_entry *entry)
{
	(void)count_entry(arg, entry);
	return *(unsigned int *)arg == 3 ? -ECANCELED : 0;
}

START_TEST(a_log_is_read_up_to_what_is_no_entry_or_says_to_stop)
{
	struct sco *s = sf_make(16);
	struct sco_bytes bytes = sco_bytes_of(sf.w.scos, s);
	struct sco_footer footer, empty;
	unsigned int entries = 0;
	uint8_t none = 99;
	char *path, *text;

	sf_fill(s, 20);
	sf_seal(s);
	path = flash_path(sf.w.flash, s->dir, 16, 1, 0);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, stop_at_third, &entries, NULL), -ECANCELED);
	ck_assert_uint_eq(entries, 3);
	/* No entries: its checksum is that of nothing. */
	empty = footer;
	empty.log_entries = 0;
	ck_assert_int_eq(sco_read_log(&bytes, &empty, count_entry, &entries, NULL), -EBADMSG);
	empty.log_crc = crc32c(0, NULL, 0);
	ck_assert_int_eq(sco_read_log(&bytes, &empty, count_entry, &entries, NULL), 0);
	ck_assert_uint_eq(entries, 3);
	/* The kind of the third is none, and the checksum of all is right. */
	overwrite(path, footer.log_offset_bytes + 2 * BATCH_ENTRY_BYTES + 46, &none, 1);
	text = file_text(path);
	footer.log_crc = crc32c(0, text + footer.log_offset_bytes, 20 * BATCH_ENTRY_BYTES);
	entries = 0;
	ck_assert_int_lt(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), 0);
	ck_assert_uint_eq(entries, 2);
	free(text);
	free(path);
	sco_unref(sf.w.scos, s);
}
END_TEST

START_TEST(a_file_that_ends_before_its_log_is_damaged)
{
	struct sco *s = sf_make(16);
	struct sco_bytes bytes = { .env = sf.w.env, .file = sf_file(s) };
	struct sco_footer footer;
	unsigned int entries = 0;
	struct err e = { 0 };
	char *path;

	sf_fill(s, 20);
	sf_seal(s);
	path = flash_path(sf.w.flash, s->dir, 16, 1, 0);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, NULL), 0);
	ck_assert_uint_eq(entries, 20);
	cut_file(path, footer.log_offset_bytes + 512);
	ck_assert_int_eq(sco_read_log(&bytes, &footer, count_entry, &entries, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "the file ends before"));
	ck_assert_uint_eq(entries, 20);
	free(path);
	sco_unref(sf.w.scos, s);
}
END_TEST

START_TEST(a_leftover_is_resealed_as_a_new_version_and_readers_go_on)
{
	struct sco *s = sf_make(16);
	uint8_t *mem = aligned_mem(20 * 4096), *want = aligned_mem(4096);
	struct sco_copy c = { .sco = s };
	struct sco_header h;

	sf_fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	ck_assert_int_eq(sco_reseal(&sf.w, &c, 1, NULL), 0);
	ck_assert(c.done);
	ck_assert_uint_eq(c.old_version, 0);
	ck_assert_uint_eq(c.old_bytes, SF_SLOTS * UINT64_C(4096));
	ck_assert_uint_eq(s->version, 1);
	ck_assert_int_eq(s->life, SCO_LIFE_SEALED);
	ck_assert_int_eq(sco_read(sf.w.scos, s, 1, 20, mem, NULL), 0);
	for (unsigned int i = 0; i < 20; i++) {
		pattern_fill(want, 4096, 50 + i);
		ck_assert_int_eq(memcmp(mem + i * 4096, want, 4096), 0);
	}
	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, mem, NULL), 0);
	ck_assert_int_eq(sco_header_decode(mem, &h, NULL), 0);
	ck_assert_uint_eq(h.version, 1);
	/* Both files are there until a checkpoint lets the old one go. */
	ck_assert_uint_eq(flash_used_bytes(sf.w.flash), c.old_bytes + s->file_bytes);
	flash_discard(sf.w.flash, c.old_dir, 16, 1, 0, c.old_bytes);
	sco_unref(sf.w.scos, s);
	s = sco_get(sf.w.scos, 1);
	ck_assert_int_eq(sco_read(sf.w.scos, s, 1, 20, mem, NULL), 0);
	sco_unref(sf.w.scos, s);
	free(mem);
	free(want);
}
END_TEST

/* --- the table ---------------------------------------------------------------------------------- */

START_TEST(a_number_is_in_the_table_once)
{
	struct sco *s = sf_make(16), *again;
	struct sco init = { .number = s->number };

	ck_assert_int_eq(sco_table_add(sf.w.scos, &init, &again), -EEXIST);
	again = sco_get(sf.w.scos, s->number);
	ck_assert_ptr_eq(again, s);
	ck_assert_ptr_null(sco_get(sf.w.scos, 999));
	sco_unref(sf.w.scos, again);
	sco_unref(sf.w.scos, s);
}
END_TEST

START_TEST(a_removed_sco_stays_readable_for_who_holds_it)
{
	struct sco *s = sf_make(16);
	uint8_t *block = aligned_mem(4096);

	sco_remove(sf.w.scos, s);
	ck_assert_ptr_null(sco_get(sf.w.scos, 1));
	flash_discard(sf.w.flash, s->dir, 16, 1, 0, s->file_bytes);
	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, block, NULL), 0);
	sco_unref(sf.w.scos, s);
	free(block);
}
END_TEST

START_TEST(reading_behind_the_end_or_a_file_that_is_gone_is_an_error)
{
	struct sco *s = sf_make(16);
	uint8_t *block = aligned_mem(8192);
	char *path = flash_path(sf.w.flash, s->dir, 16, 1, 0);

	ck_assert_int_eq(sco_read(sf.w.scos, s, SF_SLOTS, 1, block, NULL), -EUCLEAN);
	ck_assert_int_eq(sco_read(sf.w.scos, s, SF_SLOTS - 1, 2, block, NULL), -EUCLEAN);
	ck_assert_int_eq(unlink(path), 0);
	env_close(sf.w.env, s->file);
	s->file = NULL;
	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, block, NULL), -ENOENT);
	sco_unref(sf.w.scos, s);
	free(block);
	free(path);
}
END_TEST

START_TEST(lists_are_in_order_and_of_one_stream_if_asked)
{
	struct sco **list;
	size_t count;

	for (unsigned int i = 0; i < 10; i++)
		sco_unref(sf.w.scos, sf_make(16 + i % 3));
	ck_assert_int_eq(sco_table_list(sf.w.scos, 0, &list, &count), 0);
	ck_assert_uint_eq(count, 10);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(list[i]->number, i + 1);
	sco_list_free(sf.w.scos, list, count);
	ck_assert_int_eq(sco_table_list(sf.w.scos, 17, &list, &count), 0);
	ck_assert_uint_eq(count, 3);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(list[i]->stream, 17);
	sco_list_free(sf.w.scos, list, count);
}
END_TEST

/* --- files -------------------------------------------------------------------------------------- */

static void close_file(struct sco *s)
{
	env_close(sf.w.env, TAKE_PTR(s->file));
	sf.w.scos->open_files--;
}

static void expect_header_of(uint64_t number)
{
	struct sco *s = sco_get(sf.w.scos, number);
	uint8_t *block = aligned_mem(4096);
	struct sco_header h;

	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(sco_read(sf.w.scos, s, 0, 1, block, NULL), 0);
	ck_assert_int_eq(sco_header_decode(block, &h, NULL), 0);
	ck_assert_uint_eq(h.sco, number);
	sco_unref(sf.w.scos, s);
	free(block);
}

START_TEST(of_too_many_open_files_those_not_touched_for_long_are_closed)
{
	const unsigned int count = SCO_OPEN_FILES_MAX + 12, touched = SCO_OPEN_FILES_MAX / 2 + 10;
	struct sco *first, *held, *s;

	sf.w.sco_slots = SCO_SLOTS_MIN;
	for (unsigned int i = 0; i < count; i++)
		sco_unref(sf.w.scos, sf_make(16));
	ck_assert_uint_eq(sf.w.scos->open_files, count);
	for (unsigned int i = 1; i <= touched; i++)
		expect_header_of(i);
	first = sco_get(sf.w.scos, 1);
	held = sco_get(sf.w.scos, count);
	close_file(first);
	expect_header_of(1);
	ck_assert_ptr_nonnull(first->file);
	ck_assert_ptr_nonnull(held->file);
	ck_assert_uint_lt(sf.w.scos->open_files, touched + 2);
	s = sco_get(sf.w.scos, touched);
	ck_assert_ptr_nonnull(s->file);
	sco_unref(sf.w.scos, s);
	s = sco_get(sf.w.scos, touched + 1);
	ck_assert_ptr_null(s->file);
	sco_unref(sf.w.scos, s);
	for (unsigned int i = 1; i <= count; i++)
		expect_header_of(i);
	sco_unref(sf.w.scos, first);
	sco_unref(sf.w.scos, held);
}
END_TEST

static struct {
	struct env_ops ops;
	struct env env;
	struct sco *resealed; /* when the next file is opened */
	bool discard;	      /* its old one goes, too */
} opening;

static int reseal_and_open(UNUSED struct env *env, const char *path, unsigned int flags,
			   struct env_file **ret_file)
{
	struct sco_copy c = { .sco = TAKE_PTR(opening.resealed) };

	if (c.sco) {
		ck_assert_int_eq(sco_reseal(&sf.w, &c, 1, NULL), 0);
		if (opening.discard)
			flash_discard(sf.w.flash, c.old_dir, 16, c.sco->number, 0, c.old_bytes);
	}
	return env_open(env_posix(), path, flags, ret_file);
}

START_TEST(who_opens_a_file_that_is_resealed_meanwhile_gets_the_new_one)
{
	struct sco *s = sf_make(16);
	struct env_stat st;

	sf_fill(s, 20);
	s->life = SCO_LIFE_LEFTOVER;
	close_file(s);
	opening.ops = *env_posix()->ops;
	opening.ops.open = reseal_and_open;
	opening.env.ops = &opening.ops;
	opening.resealed = s;
	opening.discard = _i;
	sf.w.flash->env = &opening.env;
	sf_expect(s, 20);
	sf.w.flash->env = sf.w.env;
	ck_assert_ptr_null(opening.resealed);
	ck_assert_uint_eq(s->version, 1);
	ck_assert_uint_eq(sf.w.scos->open_files, 1);
	ck_assert_int_eq(env_stat(sf.w.env, sf_file(s), &st), 0);
	ck_assert_uint_eq(st.size_bytes, s->file_bytes);
	sco_unref(sf.w.scos, s);
}
END_TEST

static unsigned int loads;

static ssize_t load_and_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len,
			      uint64_t offset)
{
	if (loads++ == 0) /* somebody else is faster */
		ck_assert_int_eq(sco_load_footer(sf.w.scos, opening.resealed, NULL), 0);
	return env_pread(env_posix(), f, buf, len, offset);
}

START_TEST(two_may_load_a_footer_at_once)
{
	struct sco *s = sf_make(16);

	sf_fill(s, 20);
	sf_seal(s);
	s->table_offset_bytes = 0; /* as a start finds it */
	s->epoch = 0;
	opening.ops = *env_posix()->ops;
	opening.ops.pread = load_and_pread;
	opening.env.ops = &opening.ops;
	opening.resealed = s;
	sf.w.scos->env = &opening.env;
	ck_assert_int_eq(sco_load_footer(sf.w.scos, s, NULL), 0);
	ck_assert_uint_eq(loads, 2);
	ck_assert_uint_eq(s->table_offset_bytes, 21 * 4096);
	ck_assert_uint_eq(s->epoch, 3);
	ck_assert_int_eq(sco_load_footer(sf.w.scos, s, NULL), 0);
	ck_assert_uint_eq(loads, 2); /* it is there */
	sf.w.scos->env = sf.w.env;
	sco_unref(sf.w.scos, s);
}
END_TEST

/* --- cuts ---------------------------------------------------------------------------------------- */

/* Whether the cut of SCO 10 is, beside this one, of which checkpoint 50 may know. */
static bool cut_is_needed(const struct sco *beside)
{
	struct sco init = {
		.number = 10, .stream = 16, .epoch = 5, .has_cut = true, .life = SCO_LIFE_SEALED
	};
	struct sco *s, *other;
	bool needed;

	ck_assert_int_eq(sco_table_add(sf.w.scos, &init, &s), 0);
	ck_assert_int_eq(sco_table_add(sf.w.scos, beside, &other), 0);
	mutex_lock(&sf.w.scos->lock);
	needed = sco_cut_is_needed_locked(sf.w.scos, s, 50);
	mutex_unlock(&sf.w.scos->lock);
	(void)sco_remove(sf.w.scos, s);
	(void)sco_remove(sf.w.scos, other);
	sco_unref(sf.w.scos, s);
	sco_unref(sf.w.scos, other);
	return needed;
}

START_TEST(a_cut_is_needed_while_something_it_cuts_may_be_found)
{
	/* Sealed, known to be so, and below the checkpoint: nothing of it is looked at again. */
	const struct sco settled = { .number = 7,
				     .stream = 16,
				     .epoch = 4,
				     .last_lsn = 50,
				     .row_change = 1,
				     .row_saved = 1,
				     .life = SCO_LIFE_SEALED };
	struct sco other = settled;

	ck_assert(!cut_is_needed(&other));
	other.last_lsn = 51;
	ck_assert(cut_is_needed(&other));
	other.stream = 17;
	ck_assert(!cut_is_needed(&other));
	other = settled;
	other.life = SCO_LIFE_LEFTOVER;
	ck_assert(cut_is_needed(&other));
	other = settled;
	other.row_saved = 0;
	ck_assert(cut_is_needed(&other));
	other = settled;
	other.old_kept = true;
	ck_assert(cut_is_needed(&other));
	other.epoch = 6; /* younger ones it does not cut */
	ck_assert(!cut_is_needed(&other));
	/* Of one epoch the cut of a try that was taken back, and nothing behind it. */
	other.epoch = 5;
	ck_assert(!cut_is_needed(&other));
	other.has_cut = true;
	ck_assert(cut_is_needed(&other));
	other.number = 11;
	ck_assert(!cut_is_needed(&other));
}
END_TEST

/* --- whose it is --------------------------------------------------------------------------------- */

START_TEST(a_whole_block_of_another_one_is_refused)
{
	struct sco *s = sf_make(16);
	struct sco_bytes bytes = sco_bytes_of(sf.w.scos, s);
	struct sco_footer footer;
	struct sco_header header;

	sf_fill(s, 20);
	sf_seal(s);
	ck_assert_int_eq(sco_read_footer(&bytes, s->file_bytes, &footer, NULL), 0);
	ck_assert_int_eq(sco_read_header(sf.w.scos, s, &header, NULL), 0);
	for (unsigned int i = 0; i < 7; i++) {
		struct sco before = *s;
		int of_footer, of_header;

		s->stream += i == 0;
		s->number += i == 1;
		s->version += i == 2;
		s->next_slot += i == 3;
		s->footer_crc += i == 4;
		s->salt += i == 5;
		sf.w.flash->pool.bytes[0] ^= i == 6;
		of_footer = sco_read_footer(&bytes, s->file_bytes, &footer, NULL);
		of_header = sco_read_header(sf.w.scos, s, &header, NULL);
		s->stream = before.stream;
		s->number = before.number;
		s->version = before.version;
		s->next_slot = before.next_slot;
		s->footer_crc = before.footer_crc;
		s->salt = before.salt;
		sf.w.flash->pool.bytes[0] ^= i == 6;
		ck_assert_int_eq(of_footer, i == 5 ? 0 : -EUCLEAN);
		ck_assert_int_eq(of_header, i >= 2 && i <= 4 ? 0 : -EUCLEAN);
	}
	sco_unref(sf.w.scos, s);
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
	struct sco *s = sf_make(16);
	struct sco_bytes bytes = sco_bytes_of(sf.w.scos, s);
	char *path = flash_path(sf.w.flash, s->dir, 16, 1, 0);
	struct sco_header header;
	uint32_t crc;

	sf_fill(s, 20);
	sf_seal(s);
	sco_unref(sf.w.scos, s);
	s = sco_get(sf.w.scos, 1);
	copy.whole = (uint8_t *)file_text(path);
	sf.w.scos->read_object = read_copy;
	flip_bit(path, s->table_offset_bytes + 100, 1);
	flip_bit(path, 100, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = { 0 };
		struct sco_index *x;
		int r;

		copy.error = cases[i].copy;
		ck_assert_int_eq(sco_index_open(sf.w.scos, 0, &x), 0);
		s->row_flags = 0; /* it is nowhere else */
		ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, &e), -EBADMSG);
		ck_assert_int_eq(sco_index_load(x, s, 1, 1, &e), -EBADMSG);
		ck_assert_uint_eq(copy.reads, 0);
		s->row_flags = SCO_UPLOADED;
		ck_assert_int_eq(sco_index_crcs(x, s, 1, 1, &crc, &e), cases[i].result);
		r = sco_read_header(sf.w.scos, s, &header, &e);
		ck_assert_int_eq(r, copy.error == -EUCLEAN ? -EUCLEAN : cases[i].result);
		ck_assert_uint_gt(copy.reads, 0);
		copy.reads = 0;
		sco_index_close(x);
	}
	/* It is there only, and nobody reads it. */
	env_close(sf.w.env, TAKE_PTR(s->file));
	sf.w.scos->open_files--;
	s->absent = true;
	sf.w.scos->read_object = NULL;
	ck_assert_int_eq(sco_read_header(sf.w.scos, s, &header, NULL), -ENODATA);
	(void)bytes;
	sco_unref(sf.w.scos, s);
	free(copy.whole);
	free(path);
}
END_TEST

/* --- the index ----------------------------------------------------------------------------------- */

START_TEST(slots_that_hold_no_cluster_have_no_checksum)
{
	struct sco *s = sf_make(16);
	struct sco_index *x;
	uint32_t crcs[2];

	sf_fill(s, 20);
	ck_assert_int_eq(sco_index_open(sf.w.scos, 0, &x), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, SF_SLOTS - 1, 2, crcs, NULL), -EUCLEAN); /* in RAM */
	sf_seal(s);
	sco_unref(sf.w.scos, s);
	s = sco_get(sf.w.scos, 1);
	ck_assert_int_eq(sco_index_load(x, s, 1, 0, NULL), 0);
	ck_assert_int_eq(sco_index_crcs(x, s, 0, 1, crcs, NULL), -EUCLEAN);   /* the header */
	ck_assert_int_eq(sco_index_crcs(x, s, 20, 2, crcs, NULL), -EUCLEAN);  /* behind the last */
	ck_assert_int_eq(sco_index_crcs(x, s, 290, 1, crcs, NULL), -EUCLEAN); /* no such chunk */
	ck_assert_int_eq(sco_index_crcs(x, s, 20, 1, crcs, NULL), 0);
	sco_unref(sf.w.scos, s);
	sco_index_close(x);
}
END_TEST

static unsigned int preads;

static ssize_t count_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len,
			   uint64_t offset)
{
	preads++;
	return env_pread(env_posix(), f, buf, len, offset);
}

/* Both chunks of a SCO of sf_fill(260); how often its file was read for that. */
static unsigned int read_both_chunks(struct sco_index *x, uint64_t number)
{
	struct sco *s = sco_get(sf.w.scos, number);
	unsigned int before = preads;
	uint32_t crcs[2];

	ck_assert_int_eq(sco_index_crcs(x, s, SLOTS_PER_CHUNK - 1, 2, crcs, NULL), 0);
	for (unsigned int i = 0; i < 2; i++) {
		uint8_t *mem = pattern_mem(4096, 50 + SLOTS_PER_CHUNK - 2 + i);

		ck_assert_uint_eq(crcs[i], crc32c(0, mem, 4096));
		free(mem);
	}
	sco_unref(sf.w.scos, s);
	return preads - before;
}

/* The cache holds 16 chunks at least; these have 20. */
START_TEST(chunks_that_were_not_used_for_long_go)
{
	struct env_ops ops = *env_posix()->ops;
	struct env counting = { &ops };
	struct sco_index *x;

	ops.pread = count_pread;
	for (unsigned int i = 0; i < 10; i++) {
		struct sco *s = sf_make(16);

		sf_fill(s, 260);
		sf_seal(s);
		sco_unref(sf.w.scos, s);
	}
	ck_assert_int_eq(sco_index_open(sf.w.scos, 0, &x), 0);
	sf.w.scos->env = &counting;
	for (uint64_t i = 1; i <= 10; i++)
		ck_assert_uint_gt(read_both_chunks(x, i), 0);
	for (uint64_t i = 10; i >= 3; i--)
		ck_assert_uint_eq(read_both_chunks(x, i), 0);
	ck_assert_uint_gt(read_both_chunks(x, 1), 0);
	ck_assert_uint_eq(read_both_chunks(x, 3), 0);  /* used just before */
	ck_assert_uint_gt(read_both_chunks(x, 10), 0); /* the one that was not, for longest */
	sf.w.scos->env = sf.w.env;
	sco_index_close(x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sco");
	TCase *t = tcase_create("sco");
	SRunner *runner;
	int failed;

	sf_fixture_add(t);
	tcase_add_test(t, a_new_sco_has_a_header_that_says_whose_it_is);
	tcase_add_test(t, numbers_and_salts_differ);
	tcase_add_test(t, a_sealed_sco_reads_back_with_its_index);
	tcase_add_test(t, damage_in_footer_log_and_index_is_found);
	tcase_add_test(t, a_log_is_read_up_to_what_is_no_entry_or_says_to_stop);
	tcase_add_test(t, a_file_that_ends_before_its_log_is_damaged);
	tcase_add_test(t, a_leftover_is_resealed_as_a_new_version_and_readers_go_on);
	tcase_add_test(t, a_number_is_in_the_table_once);
	tcase_add_test(t, a_removed_sco_stays_readable_for_who_holds_it);
	tcase_add_test(t, reading_behind_the_end_or_a_file_that_is_gone_is_an_error);
	tcase_add_test(t, lists_are_in_order_and_of_one_stream_if_asked);
	tcase_add_test(t, of_too_many_open_files_those_not_touched_for_long_are_closed);
	tcase_add_loop_test(t, who_opens_a_file_that_is_resealed_meanwhile_gets_the_new_one, 0, 2);
	tcase_add_test(t, two_may_load_a_footer_at_once);
	tcase_add_test(t, a_cut_is_needed_while_something_it_cuts_may_be_found);
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
