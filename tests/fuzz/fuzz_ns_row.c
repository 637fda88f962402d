/* Keys and values of the namespace: inodes, entries by place and by name, orphans, the trash,
 * attributes, answers. */
#include "common/buf.h"
#include "common/err.h"
#include "fs/ns_rows.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Decoders allocate nothing; this target a copy and the row encoded again. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 8 << 10, .per_input_byte = 4 };

/* An input is the length of the key, the key, the value. */
static void seed_row(const struct ns_key *key, const struct buf *value)
{
	struct buf all;
	uint8_t len = (uint8_t)key->len_bytes;

	buf_init(&all, 1 << 20);
	FUZZ_EXPECT(buf_append(&all, &len, 1) == 0);
	FUZZ_EXPECT(buf_append(&all, key->bytes, key->len_bytes) == 0);
	FUZZ_EXPECT(buf_append(&all, value->data, value->len_bytes) == 0);
	fuzz_seed(FUZZ_RESEAL, all.data, all.len_bytes);
	buf_done(&all);
}

void fuzz_seeds(void)
{
	const struct ns_inode_row inodes[] = {
		{ .mode = S_IFDIR | 0755, .nlink = 3, .cookie_next = 9, .entry_count = 2 },
		{ .mode = S_IFREG | 0644, .nlink = 1, .mtime_lsn = 7, .mtime_stream = 16 },
		{ .mode = S_IFLNK | 0777, .nlink = 1, .target = "../a", .target_bytes = 4 },
	};
	const struct ns_entry_row entry = {
		.type = S_IFREG, .ino = 9, .name = "a.raw", .name_bytes = 5
	};
	const struct ns_name_row name = { .type = S_IFREG, .ino = 9, .cookie = 3 };
	const struct ns_answer_row answer = { .session = 0x1122334455667788,
					      .unique = 6,
					      .ino = 9 };
	const struct ns_trash_row trash[] = {
		{ .removed_ns = 5, .parent = 1, .path = "/a/b.raw", .path_bytes = 8 },
		{ .removed_ns = 6, .parent = 9, .path = "b.raw", .path_bytes = 5 },
	};
	struct ns_key key = ns_key_ino(NS_ROW_INODE, 5);
	struct buf value;

	buf_init(&value, NS_ROW_BYTES_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(inodes); i++) {
		FUZZ_EXPECT(ns_inode_row_encode(&key, &inodes[i], &value) == 0);
		seed_row(&key, &value);
	}
	key = ns_key_entry(1, 3);
	FUZZ_EXPECT(ns_entry_row_encode(&key, &entry, &value) == 0);
	seed_row(&key, &value);
	key = ns_key_named(NS_ROW_NAME, 1, "a.raw", 5);
	FUZZ_EXPECT(ns_name_row_encode(&key, &name, &value) == 0);
	seed_row(&key, &value);
	key = ns_key_ino(NS_ROW_ANSWER, 3);
	FUZZ_EXPECT(ns_answer_row_encode(&key, &answer, &value) == 0);
	seed_row(&key, &value);
	key = ns_key_ino(NS_ROW_ORPHAN, 9);
	FUZZ_EXPECT(ns_orphan_row_encode(&key, &value) == 0);
	seed_row(&key, &value);
	key = ns_key_ino(NS_ROW_TRASH, 9);
	for (size_t i = 0; i < ARRAY_SIZE(trash); i++) {
		FUZZ_EXPECT(ns_trash_row_encode(&key, &trash[i], &value) == 0);
		seed_row(&key, &value);
	}
	key = ns_key_named(NS_ROW_XATTR, 9, "user.a", 6);
	FUZZ_EXPECT(ns_xattr_row_encode(&key, "value", 5, &value) == 0);
	seed_row(&key, &value);
	buf_done(&value);
}

/* Decode by the kind of the key, and encode what came of it. */
static int recode(const struct ns_key *key, enum ns_row_kind kind, const uint8_t *in,
		  size_t len_bytes, struct buf *out, struct err *e)
{
	struct ns_inode_row inode;
	struct ns_entry_row entry;
	struct ns_name_row name;
	struct ns_answer_row answer;
	struct ns_trash_row trash;
	const uint8_t *value;
	size_t value_bytes;
	int r = -EUCLEAN;

	switch (kind) {
	case NS_ROW_INODE:
		r = ns_inode_row_decode(key->bytes, key->len_bytes, in, len_bytes, &inode, e);
		return r < 0 ? r : ns_inode_row_encode(key, &inode, out);
	case NS_ROW_ENTRY:
		r = ns_entry_row_decode(key->bytes, key->len_bytes, in, len_bytes, &entry, e);
		return r < 0 ? r : ns_entry_row_encode(key, &entry, out);
	case NS_ROW_NAME:
		r = ns_name_row_decode(key->bytes, key->len_bytes, in, len_bytes, &name, e);
		return r < 0 ? r : ns_name_row_encode(key, &name, out);
	case NS_ROW_ANSWER:
		r = ns_answer_row_decode(key->bytes, key->len_bytes, in, len_bytes, &answer, e);
		return r < 0 ? r : ns_answer_row_encode(key, &answer, out);
	case NS_ROW_ORPHAN:
		r = ns_orphan_row_decode(key->bytes, key->len_bytes, in, len_bytes, e);
		return r < 0 ? r : ns_orphan_row_encode(key, out);
	case NS_ROW_TRASH:
		r = ns_trash_row_decode(key->bytes, key->len_bytes, in, len_bytes, &trash, e);
		return r < 0 ? r : ns_trash_row_encode(key, &trash, out);
	case NS_ROW_XATTR:
		r = ns_xattr_row_decode(key->bytes, key->len_bytes, in, len_bytes, &value,
					&value_bytes, e);
		return r < 0 ? r : ns_xattr_row_encode(key, value, value_bytes, out);
	}
	return r;
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	struct ns_key key = { .len_bytes = 0 };
	struct ns_key_parts parts;
	struct err e = { 0 };
	struct buf out;
	uint8_t *value;
	int r;

	key.len_bytes = min_u64(fuzz_word(&in, &len_bytes), min_u64(len_bytes, sizeof(key.bytes)));
	memcpy(key.bytes, in, key.len_bytes);
	in += key.len_bytes;
	len_bytes -= key.len_bytes;
	r = ns_key_parse(key.bytes, key.len_bytes, &parts, &e);
	if (r < 0) {
		fuzz_expect_refusal(r, &e);
		return;
	}
	value = fuzz_copy(in, len_bytes, len_bytes);
	if (word & FUZZ_RESEAL)
		seal_end(value, len_bytes, crc32c(0, key.bytes, key.len_bytes));
	buf_init(&out, len_bytes);
	r = recode(&key, parts.kind, value, len_bytes, &out, &e);
	if (r < 0)
		fuzz_expect_refusal(r, &e);
	else
		FUZZ_EXPECT(fuzz_same(out.data, out.len_bytes, value, len_bytes));
	buf_done(&out);
	free(value);
}
