/* Keys and values of the namespace's rows: round trips, and refusal of everything that is not one. */
#include "common/crc32c.h"
#include "common/endian.h"
#include "fs/ns_rows.h"

#include <check.h>
#include <stdlib.h>

/* Room behind a row, so that one byte more can be tried. */
#define SPARE	1u
#define SAMPLES 9u

struct sample {
	struct ns_key key;
	struct buf value;
};

static const struct ns_inode_row dir_row = {
	.mode = S_IFDIR | 02755,
	.nlink = 3,
	.uid = 0xfffffffe,
	.gid = 1000,
	.atime_ns = -5,
	.mtime_ns = INT64_MAX,
	.ctime_ns = INT64_MIN,
	.crtime_ns = 1,
	.xattr_count = 4,
	.parent = 77,
	.parent_cookie = 78,
	.cookie_next = UINT64_MAX,
	.entry_count = 12,
};
static const struct ns_inode_row file_row = {
	.mode = S_IFREG | 0644,
	.nlink = 1,
	.mtime_lsn = UINT64_C(0x0123456789abcdef),
	.mtime_stream = 0x89abcdef,
	.mtime_object_ns = -2,
};
static const struct ns_inode_row link_row = {
	.mode = S_IFLNK | 0777,
	.nlink = 1,
	.target = "../to\xffhere",
	.target_bytes = 10,
};

static const struct ns_answer_row answer_row = {
	.session = UINT64_C(0xfedcba9876543210),
	.unique = 12,
	.ino = 13,
};

static const struct ns_trash_row trash_row = {
	.removed_ns = -7,
	.parent = UINT64_C(0x0123456789abcdef),
	.path = "/dir\xff/a.raw",
	.path_bytes = 11,
};

/* One of each; decode(s) below knows which is which by its key. */
static unsigned int make_samples(struct sample s[SAMPLES])
{
	const struct ns_entry_row entry = {
		.type = S_IFDIR, .ino = 9, .name = "n\x01", .name_bytes = 2
	};
	const struct ns_name_row name = { .type = S_IFSOCK, .ino = 10, .cookie = 11 };
	unsigned int n;

	for (n = 0; n < SAMPLES; n++)
		buf_init(&s[n].value, 4096);
	s[0].key = ns_key_ino(NS_ROW_INODE, 5);
	ck_assert_int_eq(ns_inode_row_encode(&s[0].key, &dir_row, &s[0].value), 0);
	s[1].key = ns_key_ino(NS_ROW_INODE, 6);
	ck_assert_int_eq(ns_inode_row_encode(&s[1].key, &file_row, &s[1].value), 0);
	s[2].key = ns_key_ino(NS_ROW_INODE, 7);
	ck_assert_int_eq(ns_inode_row_encode(&s[2].key, &link_row, &s[2].value), 0);
	s[3].key = ns_key_entry(5, 3);
	ck_assert_int_eq(ns_entry_row_encode(&s[3].key, &entry, &s[3].value), 0);
	s[4].key = ns_key_named(NS_ROW_NAME, 5, "n\x01", 2);
	ck_assert_int_eq(ns_name_row_encode(&s[4].key, &name, &s[4].value), 0);
	s[5].key = ns_key_ino(NS_ROW_ORPHAN, 6);
	ck_assert_int_eq(ns_orphan_row_encode(&s[5].key, &s[5].value), 0);
	s[6].key = ns_key_named(NS_ROW_XATTR, 6, "user.x", 6);
	ck_assert_int_eq(ns_xattr_row_encode(&s[6].key, "val", 3, &s[6].value), 0);
	s[7].key = ns_key_ino(NS_ROW_ANSWER, 3);
	ck_assert_int_eq(ns_answer_row_encode(&s[7].key, &answer_row, &s[7].value), 0);
	s[8].key = ns_key_ino(NS_ROW_TRASH, 6);
	ck_assert_int_eq(ns_trash_row_encode(&s[8].key, &trash_row, &s[8].value), 0);
	return SAMPLES;
}

static void free_samples(struct sample *s, unsigned int count)
{
	for (unsigned int n = 0; n < count; n++)
		buf_done(&s[n].value);
}

static int decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes)
{
	struct ns_key_parts parts;
	struct ns_inode_row inode;
	struct ns_entry_row entry;
	struct ns_answer_row answer;
	struct ns_trash_row trash;
	struct ns_name_row name;
	const uint8_t *value;
	size_t bytes;
	int r = ns_key_parse(key, key_bytes, &parts, NULL);

	if (r < 0)
		return r;
	switch (parts.kind) {
	case NS_ROW_INODE:
		return ns_inode_row_decode(key, key_bytes, in, in_bytes, &inode, NULL);
	case NS_ROW_ENTRY:
		return ns_entry_row_decode(key, key_bytes, in, in_bytes, &entry, NULL);
	case NS_ROW_NAME:
		return ns_name_row_decode(key, key_bytes, in, in_bytes, &name, NULL);
	case NS_ROW_ORPHAN:
		return ns_orphan_row_decode(key, key_bytes, in, in_bytes, NULL);
	case NS_ROW_ANSWER:
		return ns_answer_row_decode(key, key_bytes, in, in_bytes, &answer, NULL);
	case NS_ROW_TRASH:
		return ns_trash_row_decode(key, key_bytes, in, in_bytes, &trash, NULL);
	case NS_ROW_XATTR:
		return ns_xattr_row_decode(key, key_bytes, in, in_bytes, &value, &bytes, NULL);
	}
	return 0;
}

/* In memory of exactly that size, so that a sanitizer sees a look behind the end. */
static int decode_exact(const struct ns_key *key, const uint8_t *in, size_t in_bytes)
{
	uint8_t *copy = malloc(in_bytes ? in_bytes : 1);
	int r;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, in, in_bytes);
	r = decode(key->bytes, key->len_bytes, copy, in_bytes);
	free(copy);
	return r;
}

START_TEST(what_is_encoded_comes_back)
{
	struct sample s[SAMPLES];
	unsigned int count = make_samples(s);
	struct ns_inode_row row;
	struct ns_entry_row entry;
	struct ns_answer_row answer;
	struct ns_trash_row trash;
	struct ns_name_row name;

#define INODE(n)                                                                                   \
	ck_assert_int_eq(ns_inode_row_decode(s[n].key.bytes, s[n].key.len_bytes, s[n].value.data,  \
					     s[n].value.len_bytes, &row, NULL),                    \
			 0)
	INODE(0);
	ck_assert_uint_eq(row.mode, dir_row.mode);
	ck_assert_uint_eq(row.nlink, dir_row.nlink);
	ck_assert_uint_eq(row.uid, dir_row.uid);
	ck_assert_uint_eq(row.gid, dir_row.gid);
	ck_assert_int_eq(row.atime_ns, dir_row.atime_ns);
	ck_assert_int_eq(row.mtime_ns, dir_row.mtime_ns);
	ck_assert_int_eq(row.ctime_ns, dir_row.ctime_ns);
	ck_assert_int_eq(row.crtime_ns, dir_row.crtime_ns);
	ck_assert_uint_eq(row.xattr_count, dir_row.xattr_count);
	ck_assert_uint_eq(row.parent, dir_row.parent);
	ck_assert_uint_eq(row.parent_cookie, dir_row.parent_cookie);
	ck_assert_uint_eq(row.cookie_next, dir_row.cookie_next);
	ck_assert_uint_eq(row.entry_count, dir_row.entry_count);
	INODE(1);
	ck_assert_uint_eq(row.mtime_lsn, file_row.mtime_lsn);
	ck_assert_uint_eq(row.mtime_stream, file_row.mtime_stream);
	ck_assert_int_eq(row.mtime_object_ns, file_row.mtime_object_ns);
	ck_assert_ptr_null(row.target);
	INODE(2);
	ck_assert_uint_eq(row.target_bytes, 10);
	ck_assert_mem_eq(row.target, link_row.target, 10);
	ck_assert_int_eq(ns_entry_row_decode(s[3].key.bytes, s[3].key.len_bytes, s[3].value.data,
					     s[3].value.len_bytes, &entry, NULL),
			 0);
	ck_assert_uint_eq(entry.ino, 9);
	ck_assert_uint_eq(entry.type, S_IFDIR);
	ck_assert_mem_eq(entry.name, "n\x01", 2);
	ck_assert_int_eq(ns_name_row_decode(s[4].key.bytes, s[4].key.len_bytes, s[4].value.data,
					    s[4].value.len_bytes, &name, NULL),
			 0);
	ck_assert_uint_eq(name.ino, 10);
	ck_assert_uint_eq(name.cookie, 11);
	ck_assert_uint_eq(name.type, S_IFSOCK);
	ck_assert_int_eq(ns_answer_row_decode(s[7].key.bytes, s[7].key.len_bytes, s[7].value.data,
					      s[7].value.len_bytes, &answer, NULL),
			 0);
	ck_assert_uint_eq(answer.session, answer_row.session);
	ck_assert_uint_eq(answer.unique, answer_row.unique);
	ck_assert_uint_eq(answer.ino, answer_row.ino);
	ck_assert_int_eq(ns_trash_row_decode(s[8].key.bytes, s[8].key.len_bytes, s[8].value.data,
					     s[8].value.len_bytes, &trash, NULL),
			 0);
	ck_assert_int_eq(trash.removed_ns, trash_row.removed_ns);
	ck_assert_uint_eq(trash.parent, trash_row.parent);
	ck_assert_uint_eq(trash.path_bytes, trash_row.path_bytes);
	ck_assert_mem_eq(trash.path, trash_row.path, trash_row.path_bytes);
	free_samples(s, count);
}
END_TEST

START_TEST(every_truncation_and_one_byte_more_are_refused)
{
	struct sample s[SAMPLES];
	unsigned int count = make_samples(s);

	for (unsigned int n = 0; n < count; n++) {
		ck_assert_int_eq(decode_exact(&s[n].key, s[n].value.data, s[n].value.len_bytes), 0);
		for (size_t len = 0; len < s[n].value.len_bytes; len++)
			ck_assert_int_lt(decode_exact(&s[n].key, s[n].value.data, len), 0);
		ck_assert_int_eq(buf_append(&s[n].value, "", SPARE), 0);
		ck_assert_int_lt(decode_exact(&s[n].key, s[n].value.data, s[n].value.len_bytes), 0);
	}
	free_samples(s, count);
}
END_TEST

START_TEST(every_flipped_bit_of_key_and_value_is_refused)
{
	struct sample s[SAMPLES];
	unsigned int count = make_samples(s);

	for (unsigned int n = 0; n < count; n++) {
		for (size_t bit = 0; bit < 8 * s[n].value.len_bytes; bit++) {
			s[n].value.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			ck_assert_int_lt(decode_exact(&s[n].key, s[n].value.data,
						      s[n].value.len_bytes),
					 0);
			s[n].value.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t bit = 0; bit < 8 * s[n].key.len_bytes; bit++) {
			s[n].key.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			ck_assert_int_lt(decode_exact(&s[n].key, s[n].value.data,
						      s[n].value.len_bytes),
					 0);
			s[n].key.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
	free_samples(s, count);
}
END_TEST

/* A value with a good checksum around any bytes. */
static void seal(const struct ns_key *key, uint8_t *value, size_t len)
{
	le32_put(value + len - 4, crc32c(crc32c(0, key->bytes, key->len_bytes), value, len - 4));
}

START_TEST(bad_fields_with_a_good_checksum_are_refused)
{
	struct sample s[SAMPLES];
	unsigned int count = make_samples(s);

#define TRY(n, at, byte, code)                                                                     \
	do {                                                                                       \
		uint8_t old_ = s[n].value.data[at];                                                \
		s[n].value.data[at] = (byte);                                                      \
		seal(&s[n].key, s[n].value.data, s[n].value.len_bytes);                            \
		ck_assert_int_eq(decode_exact(&s[n].key, s[n].value.data, s[n].value.len_bytes),   \
				 code);                                                            \
		s[n].value.data[at] = old_;                                                        \
	} while (0)
	for (unsigned int n = 0; n < count; n++)
		TRY(n, 0, 2, -EPROTONOSUPPORT);
	TRY(0, 2, 0x30, -EUCLEAN);   /* a type that is none */
	TRY(0, 3, 1, -EUCLEAN);	     /* more than a mode */
	TRY(1, 113, 1, -EUCLEAN);    /* a file with a target that is not there */
	TRY(2, 113, 0, -EUCLEAN);    /* a target that is not counted */
	TRY(2, 113, 0xff, -EUCLEAN); /* one that is longer than the row */
	TRY(2, 2, 0x80, -EUCLEAN);   /* a file with a target */
	TRY(3, 1, 3, -EUCLEAN);
	TRY(3, 10, 0, -EUCLEAN); /* no name */
	TRY(3, 10, 3, -EUCLEAN);
	TRY(4, 1, 0, -EUCLEAN);
	TRY(8, 17, 10, -EUCLEAN);  /* a path that is longer than is told */
	TRY(8, 19, 'x', -EUCLEAN); /* from nowhere */
	TRY(8, 21, 0, -EUCLEAN);
	TRY(8, 29, '/', -EUCLEAN); /* no name at its end */
	free_samples(s, count);
}
END_TEST

START_TEST(random_bytes_with_a_good_checksum_never_hurt)
{
	struct sample s[SAMPLES];
	unsigned int count = make_samples(s);
	uint8_t bytes[300];

	srandom(1);
	for (unsigned int round = 0; round < 20000; round++) {
		const struct ns_key *key = &s[round % count].key;
		size_t len = 5 + (size_t)random() % (sizeof(bytes) - 5);

		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)random();
		bytes[0] = 1;
		seal(key, bytes, len);
		(void)!decode_exact(key, bytes, len); /* what it says does not matter here */
	}
	free_samples(s, count);
}
END_TEST

START_TEST(keys_sort_as_their_numbers_do)
{
	static const uint64_t numbers[] = { 0, 1, 255, 256, 65535, 1u << 31, UINT64_MAX };

	for (unsigned int i = 0; i + 1 < ARRAY_SIZE(numbers); i++) {
		struct ns_key a = ns_key_entry(numbers[i], UINT64_MAX);
		struct ns_key b = ns_key_entry(numbers[i + 1], 0);
		struct ns_key c = ns_key_entry(7, numbers[i]);
		struct ns_key d = ns_key_entry(7, numbers[i + 1]);

		ck_assert_int_lt(memcmp(a.bytes, b.bytes, a.len_bytes), 0);
		ck_assert_int_lt(memcmp(c.bytes, d.bytes, c.len_bytes), 0);
	}
}
END_TEST

START_TEST(bad_keys_are_refused)
{
	struct ns_key key = ns_key_named(NS_ROW_NAME, 1, "name", 4);
	struct ns_key entry = ns_key_entry(1, 2);
	struct ns_key_parts parts;

	ck_assert_int_eq(ns_key_parse(key.bytes, key.len_bytes, &parts, NULL), 0);
	ck_assert_uint_eq(parts.name_bytes, 4);
	for (size_t len = 0; len <= 9; len++) /* no name */
		ck_assert_int_eq(ns_key_parse(key.bytes, len, &parts, NULL), -EUCLEAN);
	ck_assert_int_eq(ns_key_parse(key.bytes, 9 + NS_NAME_MAX + 1, &parts, NULL), -EUCLEAN);
	for (size_t len = 0; len < entry.len_bytes; len++)
		ck_assert_int_eq(ns_key_parse(entry.bytes, len, &parts, NULL), -EUCLEAN);
	key.bytes[0] = 'z';
	ck_assert_int_eq(ns_key_parse(key.bytes, key.len_bytes, &parts, NULL), -EUCLEAN);
	key.bytes[0] = NS_ROW_INODE;
	ck_assert_int_eq(ns_key_parse(key.bytes, key.len_bytes, &parts, NULL), -EUCLEAN);
}
END_TEST

START_TEST(a_row_that_does_not_fit_is_refused)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, 1);
	struct buf small;

	buf_init(&small, 100);
	ck_assert_int_eq(ns_inode_row_encode(&key, &dir_row, &small), -E2BIG);
	buf_done(&small);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_rows");
	TCase *t = tcase_create("rows");
	SRunner *runner = srunner_create(s);
	int failed;

	tcase_add_test(t, what_is_encoded_comes_back);
	tcase_add_test(t, every_truncation_and_one_byte_more_are_refused);
	tcase_add_test(t, every_flipped_bit_of_key_and_value_is_refused);
	tcase_add_test(t, bad_fields_with_a_good_checksum_are_refused);
	tcase_add_test(t, random_bytes_with_a_good_checksum_never_hurt);
	tcase_add_test(t, keys_sort_as_their_numbers_do);
	tcase_add_test(t, bad_keys_are_refused);
	tcase_add_test(t, a_row_that_does_not_fit_is_refused);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
