/* Images of rows: namespaces, pieces of maps and their index, whose rows are decoded, too. */
#include "common/buf.h"
#include "common/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_backend.h"

#include <stdlib.h>
#include <string.h>

/* The decoder allocates nothing; this target its copies. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 8 << 10, .per_input_byte = 6 };

enum { PIECE = 1, SEAL_ROWS = 2 };
enum { ROWS_AT = 64, ROW_HEAD_BYTES = 8 };

void fuzz_seeds(void)
{
	static const uint8_t key[17] = { ROW_MAP_PIECE, [8] = 5 };
	const struct rows_image_header h = { .kind = ROWS_MAP_INDEX, .stream = 16, .epoch = 7 };
	struct buf out;

	fuzz_seed(FUZZ_RESEAL, golden_rows_image, sizeof(golden_rows_image));
	fuzz_seed(FUZZ_RESEAL | SEAL_ROWS, golden_rows_image, sizeof(golden_rows_image));
	fuzz_seed(FUZZ_RESEAL | PIECE, golden_map_piece, sizeof(golden_map_piece));
	buf_init(&out, 1 << 20);
	FUZZ_EXPECT(rows_image_begin(&h, &out) == 0);
	FUZZ_EXPECT(rows_image_add(&out, key, sizeof(key), golden_map_piece,
				   sizeof(golden_map_piece)) == 0);
	FUZZ_EXPECT(rows_image_end(&out) == 0);
	fuzz_seed(FUZZ_RESEAL | SEAL_ROWS, out.data, out.len_bytes);
	buf_done(&out);
}

static void check_piece(const uint8_t *in, size_t len_bytes)
{
	struct map_piece piece;
	struct err e = { 0 };
	struct buf out;
	int r = map_piece_decode(in, len_bytes, &piece, &e);

	if (r < 0) {
		fuzz_expect_refusal(r, &e);
		return;
	}
	buf_init(&out, 1 << 10);
	FUZZ_EXPECT(map_piece_encode(&piece, &out) == 0);
	FUZZ_EXPECT(fuzz_same(out.data, out.len_bytes, in, len_bytes));
	buf_done(&out);
}

static int add_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	FUZZ_EXPECT(key_bytes >= 1 && key_bytes <= IMAGE_KEY_BYTES_MAX);
	if (key[0] == ROW_MAP_PIECE)
		check_piece(value, value_bytes);
	return rows_image_add(arg, key, key_bytes, value, value_bytes);
}

/* Values of rows have checksums of their own. */
static void seal_rows(uint8_t *bytes, size_t len_bytes)
{
	size_t at = ROWS_AT;

	while (len_bytes >= CRC_BYTES + ROW_HEAD_BYTES &&
	       at <= len_bytes - CRC_BYTES - ROW_HEAD_BYTES) {
		size_t key_bytes = le16_get(bytes + at), value_bytes = le32_get(bytes + at + 4);
		uint8_t *key = bytes + at + ROW_HEAD_BYTES;

		at += ROW_HEAD_BYTES + key_bytes + value_bytes;
		if (key_bytes == 0 || at > len_bytes - CRC_BYTES)
			return;
		seal_row(key + key_bytes, value_bytes, key[0]);
	}
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	uint8_t *copy = fuzz_copy(in, len_bytes, len_bytes);
	struct rows_image_header h;
	struct err e = { 0 };
	struct buf again, rows;
	int r;

	if (word & PIECE) {
		if (word & FUZZ_RESEAL)
			seal_row(copy, len_bytes, ROW_MAP_PIECE);
		check_piece(copy, len_bytes);
		free(copy);
		return;
	}
	if (word & SEAL_ROWS)
		seal_rows(copy, len_bytes);
	if (word & FUZZ_RESEAL)
		seal_end(copy, len_bytes, 0);
	buf_init(&again, len_bytes + 64);
	buf_init(&rows, len_bytes + 64);
	/* The rows come before the header is known: they are put behind one that stands in. */
	FUZZ_EXPECT(rows_image_begin(&(struct rows_image_header){ .kind = ROWS_NAMESPACE },
				     &again) == 0);
	r = rows_image_decode(copy, len_bytes, &h, add_row, &again, &e);
	if (r < 0) {
		fuzz_expect_refusal(r, &e);
	} else {
		FUZZ_EXPECT(rows_image_begin(&h, &rows) == 0);
		memcpy(again.data, rows.data, ROWS_AT - 8); /* all but the count */
		FUZZ_EXPECT(rows_image_end(&again) == 0);
		FUZZ_EXPECT(fuzz_same(again.data, again.len_bytes, copy, len_bytes));
	}
	buf_done(&rows);
	buf_done(&again);
	free(copy);
}
