/*
 * poolrow - make the row of a pool that nobody has mounted look as if a newer program had written it,
 * and back again: for tests of what an older program says.
 *
 *	tool_poolrow POOL VERSION [INCOMPAT]
 *
 * Bytes: volume/FORMAT.md section 7.
 */
#include "common/crc32c.h"
#include "common/endian.h"
#include "volume/meta.h"

#include <stdio.h>
#include <stdlib.h>

#define INCOMPAT_AT (1u + 16u)

static int change(struct meta *m, unsigned int version, uint64_t incompat, struct err *e)
{
	struct row_key key = row_key_u64(ROW_POOL, 0);
	struct meta_batch *batch = meta_batch_new(m, META_NAMES);
	const uint8_t kind = ROW_POOL;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = batch ? meta_get(m, META_NAMES, &key, &value, e) : -ENOMEM;
	if (r == 0 && value.len_bytes > INCOMPAT_AT + 12) {
		uint8_t *bytes = value.data;
		size_t len = value.len_bytes - 4;

		bytes[0] = (uint8_t)version;
		le64_put(bytes + INCOMPAT_AT, incompat);
		le32_put(bytes + len, crc32c(crc32c(0, &kind, 1), bytes, len));
		r = meta_batch_put(m, batch, &key, &value);
		if (r == 0)
			r = meta_commit(m, batch, META_SYNC, e);
	}
	meta_batch_free(m, batch);
	buf_done(&value);
	return r;
}

int main(int argc, char **argv)
{
	const struct meta_options options = { .cache_bytes = 4u << 20,
					      .write_buffer_bytes = 8u << 20 };
	struct meta *m = NULL;
	struct err e = { 0 };
	char path[4096];
	int r;

	if (argc < 3 || snprintf(path, sizeof(path), "%s/meta", argv[1]) >= (int)sizeof(path)) {
		(void)fprintf(stderr, "usage: poolrow POOL VERSION [INCOMPAT]\n");
		return 2;
	}
	r = meta_rocksdb_open(path, &options, &m, &e);
	if (r == 0) {
		r = change(m, (unsigned int)strtoul(argv[2], NULL, 0),
			   argc > 3 ? strtoull(argv[3], NULL, 0) : 0, &e);
		meta_close(m);
	}
	if (r < 0)
		(void)fprintf(stderr, "poolrow: %s\n", e.message[0] ? e.message : err_name(r));
	return r < 0 ? 1 : 0;
}
