/*
 * tool_mapbuild - a pool whose disk is mapped all over, without writing its data: page rows and SCO
 * rows go straight into the metadata, as a checkpoint would leave them, and the SCO files are holes
 * with a valid header, slot table and footer. Every slot is RAW zeros, whose checksum is right, so
 * reads verify. For measuring memory, opening time and metadata of disks of many TiB.
 *
 * usage: tool_mapbuild --dir DIR [--size SIZE] [--pattern random|sequential] [--fill PERCENT]
 *                      [--sco-size SIZE] [--object NUMBER]
 *
 * With --object the pool is there, closed, and has that disk, of that size and with no data yet.
 */
#include "common/crc32c.h"
#include "common/units.h"
#include "volume/meta.h"
#include "volume/sco_make.h"
#include "volume/volume.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMIT_BYTES  (1u << 20)
#define ROUNDS	      4u /* of the permutation */
#define SCO_SALT      UINT64_C(0x6d61706275696c64)
#define PROGRESS_PAGE 65536u

struct build {
	const char *dir;
	uint64_t size_bytes, sco_bytes;
	bool random;
	unsigned int fill_percent;

	struct meta *meta;
	struct uuid pool;
	uint64_t epoch;
	uint64_t object, layer, first_sco;
	uint32_t stream;
	uint64_t clusters, mapped;
	uint32_t slots; /* of a whole SCO, slot 0 included */
	uint64_t sco_count;
	unsigned int half_bits; /* of the permutation's domain */
	uint32_t zero_crc;

	struct meta_batch *batch;
	struct buf value;
};

static NORETURN void fail(const char *what, int r, const struct err *e)
{
	(void)fprintf(stderr, "tool_mapbuild: %s: %s\n", what,
		      e && e->message[0] ? e->message : err_name(r));
	exit(1);
}

/* --- which cluster is where -------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 29;
}

/* One to one over [0, clusters): a Feistel network over the next power of four, walked until the
 * number is inside. */
static uint64_t permuted(const struct build *b, uint64_t n)
{
	uint64_t mask = (UINT64_C(1) << b->half_bits) - 1;

	do {
		uint64_t left = n >> b->half_bits, right = n & mask;

		for (unsigned int i = 0; i < ROUNDS; i++) {
			uint64_t next =
				left ^ (mix(right + i * UINT64_C(0x9e3779b97f4a7c15)) & mask);

			left = right;
			right = next;
		}
		n = left << b->half_bits | right;
	} while (n >= b->clusters);
	return n;
}

/* Where the i-th cluster of the log lies. */
static loc_t place(const struct build *b, uint64_t i)
{
	return loc_make(0, b->first_sco + i / (b->slots - 1), (uint32_t)(1 + i % (b->slots - 1)));
}

static loc_t loc_of(const struct build *b, uint64_t cluster)
{
	uint64_t in = cluster % PAGE_CLUSTERS, per_page, i;

	if (b->random) {
		i = permuted(b, cluster);
		return i < b->mapped ? place(b, i) : LOC_UNMAPPED;
	}
	per_page = PAGE_CLUSTERS * (uint64_t)b->fill_percent / 100;
	return in < per_page ? place(b, cluster / PAGE_CLUSTERS * per_page + in) : LOC_UNMAPPED;
}

/* --- rows -------------------------------------------------------------------------------------- */

static void commit(struct build *b, bool last)
{
	struct err e = { 0 };
	int r = meta_commit(b->meta, b->batch, 0, &e);

	if (r < 0)
		fail("commit", r, &e);
	meta_batch_free(b->meta, b->batch);
	b->batch = last ? NULL : meta_batch_new(b->meta, META_STATE);
	if (!last && !b->batch)
		fail("memory", -ENOMEM, NULL);
}

static void put(struct build *b, const struct row_key *key, int encoded)
{
	int r = encoded;

	if (r == 0)
		r = meta_batch_put(b->meta, b->batch, key, &b->value);
	if (r < 0)
		fail("row", r, NULL);
	buf_clear(&b->value);
	if (meta_batch_bytes(b->meta, b->batch) >= COMMIT_BYTES)
		commit(b, false);
}

static void put_page(struct build *b, uint64_t page)
{
	static uint32_t crcs[PAGE_CLUSTERS];
	struct page_run runs[PAGE_CLUSTERS];
	struct row_key key = row_key_2u64(ROW_PAGE, b->layer, page);
	uint64_t first = page * PAGE_CLUSTERS;
	unsigned int count = (unsigned int)min_u64(PAGE_CLUSTERS, b->clusters - first), n = 0;

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		crcs[i] = b->zero_crc;
	for (unsigned int i = 0; i < count; i++) {
		loc_t loc = loc_of(b, first + i);

		if (!loc_is_place(loc))
			continue;
		if (n && runs[n - 1].first + runs[n - 1].count == i &&
		    loc == runs[n - 1].loc + runs[n - 1].count) {
			runs[n - 1].count++;
			continue;
		}
		runs[n++] = (struct page_run){
			.first = (uint16_t)i, .count = 1, .loc = loc, .crcs = crcs
		};
	}
	for (unsigned int i = 0; i < n; i++)
		if (runs[i].count >= 8) /* as the engine does: in the SCO's index */
			runs[i].crcs = NULL;
	if (n)
		put(b, &key, page_value_encode(PAGE_BASE, runs, n, &b->value));
}

static void put_state(struct build *b)
{
	struct object_state_row row = { .size_bytes = b->size_bytes, .mapped_clusters = b->mapped };
	struct row_key key = row_key_u64(ROW_OBJECT_STATE, b->layer);

	put(b, &key, object_state_row_encode(&row, &b->value));
}

/* --- SCO files --------------------------------------------------------------------------------- */

struct image {
	uint8_t *header, *index; /* index: chunks, then the footer */
	uint32_t slot_count, chunks;
	size_t index_bytes;
	uint32_t table_crc;
};

/* All SCOs of one length have the same slot table. */
static void image_make(struct build *b, uint32_t slot_count, struct image *ret_image)
{
	struct image m = { .slot_count = slot_count,
			   .chunks = (uint32_t)div_up_u64(slot_count, SLOTS_PER_CHUNK) };
	struct slot_record records[SLOTS_PER_CHUNK];

	m.index_bytes = ((size_t)m.chunks + 1) * BLOCK_BYTES;
	m.header = direct_alloc(BLOCK_BYTES);
	m.index = direct_alloc(m.index_bytes);
	if (!m.header || !m.index)
		fail("memory", -ENOMEM, NULL);
	for (uint32_t c = 0; c < m.chunks; c++) {
		uint32_t first = c * SLOTS_PER_CHUNK;
		unsigned int count = (unsigned int)min_u64(SLOTS_PER_CHUNK, slot_count - first);

		for (unsigned int i = 0; i < count; i++) {
			records[i] = (struct slot_record){ .kind = SLOT_RAW,
							   .stored_bytes = CLUSTER_BYTES,
							   .crc = b->zero_crc,
							   .arg = (uint64_t)(first + i) *
								  CLUSTER_BYTES };
			if (first + i == 0)
				records[i] = (struct slot_record){ .kind = SLOT_META };
		}
		slot_chunk_encode(c, SCO_SALT, records, count, m.index + (size_t)c * BLOCK_BYTES);
	}
	m.table_crc = crc32c(0, m.index, (size_t)m.chunks * BLOCK_BYTES);
	*ret_image = m;
}

static void put_sco(struct build *b, struct image *m, uint64_t sco, const char *path)
{
	uint64_t data_bytes = (uint64_t)m->slot_count * CLUSTER_BYTES;
	struct sco_header h = { .pool = b->pool,
				.stream = b->stream,
				.slots_max = b->slots,
				.sco = sco,
				.epoch = b->epoch,
				.salt = SCO_SALT };
	struct sco_footer f = { .pool = b->pool,
				.stream = b->stream,
				.slot_count = m->slot_count,
				.sco = sco,
				.epoch = b->epoch,
				.salt = SCO_SALT,
				.table_offset_bytes = data_bytes,
				.table_chunks = m->chunks,
				.table_crc = m->table_crc,
				.log_offset_bytes = data_bytes + m->index_bytes - BLOCK_BYTES,
				.log_crc = crc32c(0, NULL, 0),
				.file_bytes = data_bytes + m->index_bytes };
	uint8_t *footer = m->index + m->index_bytes - BLOCK_BYTES;
	struct row_key key = row_key_2u64(ROW_SCO, b->stream, sco);
	struct sco_row row = { .state = SCO_SEALED,
			       .flags = SCO_UPLOADED,
			       .slot_count = m->slot_count,
			       .live_slots = m->slot_count - 1,
			       .epoch = b->epoch,
			       .salt = SCO_SALT,
			       .object_epoch = b->epoch,
			       .file_bytes = f.file_bytes };
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	sco_header_encode(&h, m->header);
	sco_footer_encode(&f, footer);
	if (fd < 0 || pwrite(fd, m->header, BLOCK_BYTES, 0) != (ssize_t)BLOCK_BYTES ||
	    pwrite(fd, m->index, m->index_bytes, (off_t)data_bytes) != (ssize_t)m->index_bytes ||
	    close(fd) < 0)
		fail(path, -errno, NULL);
	row.footer_crc = crc32c(0, footer, BLOCK_BYTES);
	put(b, &key, sco_row_encode(&row, &b->value));
}

static void put_scos(struct build *b)
{
	uint32_t rest = (uint32_t)(b->mapped % (b->slots - 1));
	struct image whole, last;

	image_make(b, b->slots, &whole);
	image_make(b, rest ? rest + 1 : b->slots, &last);
	for (uint64_t i = 0; i < b->sco_count; i++) {
		char name[SCO_FILE_NAME_MAX + 1];
		char path[4096];

		sco_file_name(name, b->stream, b->first_sco + i, 0);
		(void)snprintf(path, sizeof(path), "%s/cache/sco/%s", b->dir, name);
		put_sco(b, i + 1 == b->sco_count ? &last : &whole, b->first_sco + i, path);
	}
	free(whole.header);
	free(whole.index);
	free(last.header);
	free(last.index);
}

/* --- the pool ---------------------------------------------------------------------------------- */

static void make_pool(struct build *b)
{
	struct pool_options o;
	struct object *object;
	struct err e = { 0 };
	struct pool *p;
	int r;

	pool_options_default(&o, b->dir);
	o.sco_bytes = b->sco_bytes;
	r = mkdir(b->dir, 0700) < 0 ? -errno : pool_create(env_posix(), &o, &e);
	if (r == 0)
		r = pool_open(env_posix(), &o, &p, &e);
	if (r == 0)
		r = object_create(p, OBJECT_DISK, &b->object, &e);
	if (r == 0)
		r = object_open(p, b->object, &object, &e);
	if (r < 0)
		fail(b->dir, r, &e);
	r = object_truncate(object, b->size_bytes, &e);
	if (r == 0)
		r = object_sync(object, &e);
	object_close(object);
	if (r == 0)
		r = pool_close(p, &e);
	if (r < 0)
		fail(b->dir, r, &e);
}

static void get_row(struct build *b, enum row_kind kind, uint64_t id)
{
	struct row_key key = row_key_u64(kind, id);
	struct err e = { 0 };
	int r;

	buf_clear(&b->value);
	r = meta_get(b->meta, META_NAMES, &key, &b->value, &e);
	if (r < 0)
		fail("metadata", r, &e);
}

/* Numbers of the SCOs to come, taken as the engine takes them: the mark is durable first. */
static void take_numbers(struct build *b)
{
	struct row_key key = row_key_u64(ROW_COUNTER, COUNTER_SCO);
	struct meta_batch *batch = meta_batch_new(b->meta, META_NAMES);
	struct counter_row row;
	struct err e = { 0 };
	int r;

	get_row(b, ROW_COUNTER, COUNTER_SCO);
	r = counter_row_decode(b->value.data, b->value.len_bytes, &row, &e);
	if (r < 0 || !batch)
		fail("counter", r, &e);
	b->first_sco = row.high_water;
	row.high_water += b->sco_count;
	buf_clear(&b->value);
	r = counter_row_encode(&row, &b->value);
	if (r == 0)
		r = meta_batch_put(b->meta, batch, &key, &b->value);
	if (r == 0)
		r = meta_commit(b->meta, batch, META_SYNC, &e);
	if (r < 0)
		fail("counter", r, &e);
	meta_batch_free(b->meta, batch);
	buf_clear(&b->value);
}

static void open_meta(struct build *b)
{
	struct meta_options mo = { .cache_bytes = 8u << 20, .write_buffer_bytes = 64u << 20 };
	struct object_row object;
	struct pool_row pool;
	struct err e = { 0 };
	char path[4096];
	int r;

	(void)snprintf(path, sizeof(path), "%s/meta", b->dir);
	r = meta_rocksdb_open(path, &mo, &b->meta, &e);
	if (r < 0)
		fail(path, r, &e);
	get_row(b, ROW_POOL, 0);
	r = pool_row_decode(b->value.data, b->value.len_bytes, &pool, &e);
	if (r < 0)
		fail("pool row", r, &e);
	b->pool = pool.pool;
	b->epoch = pool.epoch;
	get_row(b, ROW_OBJECT, b->object);
	r = object_row_decode(b->value.data, b->value.len_bytes, &object, &e);
	if (r < 0)
		fail("object row", r, &e);
	b->layer = object.live_layer;
	b->stream = object.origins[0].stream;
	object_row_done(&object);
}

static void build_all(struct build *b)
{
	static const uint8_t zeros[CLUSTER_BYTES];
	uint64_t pages = div_up_u64(b->clusters, PAGE_CLUSTERS);
	struct err e = { 0 };
	int r;

	b->zero_crc = crc32c(0, zeros, sizeof(zeros));
	if (b->object == 0)
		make_pool(b);
	open_meta(b);
	take_numbers(b);
	b->batch = meta_batch_new(b->meta, META_STATE);
	if (!b->batch)
		fail("memory", -ENOMEM, NULL);
	put_state(b);
	put_scos(b);
	for (uint64_t page = 0; page < pages; page++) {
		put_page(b, page);
		if (page % PROGRESS_PAGE == 0)
			(void)fprintf(stderr, "mapbuild: page %" PRIu64 " of %" PRIu64 "\n", page,
				      pages);
	}
	commit(b, true);
	r = meta_flush(b->meta, &e);
	if (r < 0)
		fail("flush", r, &e);
	meta_close(b->meta);
	buf_done(&b->value);
	sync();
	(void)printf("object %" PRIu64 ": %" PRIu64 " clusters in %" PRIu64 " SCOs\n", b->object,
		     b->mapped, b->sco_count);
}

/* --- command line ------------------------------------------------------------------------------ */

static NORETURN void wrong_usage(void)
{
	(void)fputs("usage: tool_mapbuild --dir DIR [--size SIZE] [--pattern random|sequential]\n"
		    "                     [--fill PERCENT] [--sco-size SIZE] [--object NUMBER]\n",
		    stderr);
	exit(2);
}

static void derive(struct build *b)
{
	uint64_t pages = b->size_bytes / CLUSTER_BYTES / PAGE_CLUSTERS;

	if (!b->dir || b->size_bytes == 0 ||
	    b->size_bytes % ((uint64_t)CLUSTER_BYTES * PAGE_CLUSTERS) || b->fill_percent == 0 ||
	    b->fill_percent > 100)
		wrong_usage();
	b->clusters = b->size_bytes / CLUSTER_BYTES;
	b->mapped = b->random ? b->clusters / 100 * b->fill_percent :
				pages * (PAGE_CLUSTERS * (uint64_t)b->fill_percent / 100);
	if (b->fill_percent == 100)
		b->mapped = b->clusters;
	b->slots = (uint32_t)min_u64(b->sco_bytes / CLUSTER_BYTES, SCO_SLOTS_MAX);
	if (b->slots < 2 || b->mapped == 0)
		wrong_usage();
	b->sco_count = div_up_u64(b->mapped, b->slots - 1);
	while (b->clusters > UINT64_C(1) << 2 * b->half_bits)
		b->half_bits++;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", 1, NULL, 'd' },  { "size", 1, NULL, 's' },	{ "pattern", 1, NULL, 'p' },
		{ "fill", 1, NULL, 'f' }, { "sco-size", 1, NULL, 'c' }, { "object", 1, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	struct build b = { .size_bytes = UINT64_C(1) << 40,
			   .sco_bytes = 16u << 20,
			   .random = true,
			   .fill_percent = 100 };
	uint64_t percent;
	int id;

	buf_init(&b.value, 1u << 20);
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'd')
			b.dir = optarg;
		else if (id == 's' && size_parse(optarg, &b.size_bytes) == 0)
			continue;
		else if (id == 'c' && size_parse(optarg, &b.sco_bytes) == 0)
			continue;
		else if (id == 'o' && u64_parse(optarg, &b.object) == 0 && b.object > 0)
			continue;
		else if (id == 'p' &&
			 (strcmp(optarg, "random") == 0 || strcmp(optarg, "sequential") == 0))
			b.random = optarg[0] == 'r';
		else if (id == 'f' && u64_parse(optarg, &percent) == 0 && percent <= 100)
			b.fill_percent = (unsigned int)percent;
		else
			wrong_usage();
	}
	if (optind != argc)
		wrong_usage();
	derive(&b);
	build_all(&b);
	return 0;
}
