/* The file of a sealed SCO, read as it is found on flash: footer, table, log. */
#include "common/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_index.h"
#include "volume/sco_read.h"

#include <stdlib.h>
#include <string.h>

/* No more than the file is long, and blocks to round up to, whatever its footer says. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 64 << 10, .per_input_byte = 4 };

#define SALT UINT64_C(0x1122334455667788)

enum { FOOTER_TABLE_AT = 1, FOOTER_LOG_AT = 2 };

/* Header, a table of one chunk, a block of log, footer. */
static void make_file(uint8_t file[4 * BLOCK_BYTES], struct sco_footer *f)
{
	const struct slot_record records[3] = {
		{ .kind = SLOT_META },
		{ .kind = SLOT_META },
		{ .kind = SLOT_RAW, .stored_bytes = 4096, .crc = 7, .arg = 8192 },
	};

	memset(file, 0, 4 * (size_t)BLOCK_BYTES);
	slot_chunk_encode(0, SALT, records, 3, file + BLOCK_BYTES);
	memcpy(file + 2 * (size_t)BLOCK_BYTES, golden_log_entry, sizeof(golden_log_entry));
	*f = (struct sco_footer){
		.stream = 16,
		.slot_count = 3,
		.sco = 5,
		.epoch = 7,
		.salt = SALT,
		.first_lsn = 101,
		.last_lsn = 120,
		.table_offset_bytes = BLOCK_BYTES,
		.table_chunks = 1,
		.table_crc = crc32c(0, file + BLOCK_BYTES, BLOCK_BYTES),
		.log_offset_bytes = 2 * (uint64_t)BLOCK_BYTES,
		.log_entries = sizeof(golden_log_entry) / BATCH_ENTRY_BYTES,
		.log_crc = crc32c(0, golden_log_entry, sizeof(golden_log_entry)),
		.batch_count = 1,
		.file_bytes = 4 * (uint64_t)BLOCK_BYTES,
	};
	sco_footer_encode(f, file + 3 * (size_t)BLOCK_BYTES);
}

void fuzz_seeds(void)
{
	static uint8_t file[4 * BLOCK_BYTES];
	struct sco_footer f;

	make_file(file, &f);
	fuzz_seed(FUZZ_RESEAL, file, sizeof(file));
	fuzz_seed(FUZZ_RESEAL | FOOTER_TABLE_AT | FOOTER_LOG_AT, file, sizeof(file));
}

/* Checksums of what the footer names, then its own. */
static void seal(uint8_t *file, size_t file_bytes, uint8_t word)
{
	uint8_t *block = file + file_bytes - BLOCK_BYTES;
	struct sco_footer f;

	seal_hole(block, BLOCK_BYTES, HEAD_CRC_AT, 0);
	if (sco_footer_decode(block, &f, NULL) < 0 || f.file_bytes != file_bytes)
		return;
	for (uint32_t i = 0; i < f.table_chunks && word & FOOTER_TABLE_AT; i++)
		seal_hole(file + f.table_offset_bytes + (size_t)i * BLOCK_BYTES, BLOCK_BYTES, 8,
			  format_salt_seed(f.salt));
	if (word & FOOTER_TABLE_AT)
		f.table_crc = crc32c(0, file + f.table_offset_bytes,
				     (size_t)f.table_chunks * BLOCK_BYTES);
	if (word & FOOTER_LOG_AT)
		f.log_crc = crc32c(0, file + f.log_offset_bytes,
				   (size_t)f.log_entries * BATCH_ENTRY_BYTES);
	sco_footer_encode(&f, block);
}

static int count_entry(void *arg, const struct log_entry *entry)
{
	FUZZ_EXPECT(entry->lsn != 0);
	++*(uint32_t *)arg;
	return 0;
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	size_t file_bytes = round_up_u64(len_bytes, BLOCK_BYTES);
	uint8_t *file = fuzz_copy(in, len_bytes, file_bytes);
	struct env_file *open_file;
	uint8_t *index = NULL;
	size_t index_bytes;
	struct sco_footer f;
	struct sco_bytes b;
	struct err e = { 0 };
	uint32_t entries = 0;
	int r;

	if (word & FUZZ_RESEAL && file_bytes >= BLOCK_BYTES)
		seal(file, file_bytes, word);
	memory_env_set(file, file_bytes);
	FUZZ_EXPECT(env_open(memory_env(), "file", ENV_READ, &open_file) == 0);
	b = sco_bytes_of_file(memory_env(), open_file);
	r = sco_read_footer(&b, file_bytes, &f, &e);
	if (r == 0) {
		FUZZ_EXPECT(f.file_bytes == file_bytes);
		r = sco_read_index(&b, &f, &index, &index_bytes, &e);
		if (r == 0)
			r = sco_read_log(&b, &f, count_entry, &entries, &e);
		FUZZ_EXPECT(r < 0 || entries == f.log_entries);
	}
	if (r < 0)
		fuzz_expect_refusal(r, &e);
	free(index);
	free(file);
}
