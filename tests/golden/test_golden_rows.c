/* Rows, map pages and objects on the backend. */
#include "golden_backend.h"
#include "golden_check.h"
#include "golden_page.h"
#include "golden_row.h"

#define SALT	   UINT64_C(0x1122334455667788)
#define SCO	   UINT64_C(0x912345678)
#define ALL_COMPAT UINT64_C(0x8000000000000001)
#define POOL                                                                                       \
	{                                                                                          \
		{                                                                                  \
			0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab,    \
				0xac, 0xad, 0xae, 0xaf                                             \
		}                                                                                  \
	}

/* --- Rows -------------------------------------------------------------------------------------- */

static const struct pool_row pool_row = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.epoch = 7,
	.created_ns = -3,
	.sco_bytes = 16u << 20,
};
static const struct counter_row counter_row = { .high_water = UINT64_C(0x0102030405060708) };
static const struct stream_row stream_row = { .class = OBJECT_DISK, .owner = 0x1111 };
static const struct checkpoint_row checkpoint_row = { 120, SCO, 1 };
static struct object_origin origins[] = {
	{ 0x21, 0 },
	{ 0x22, 500 },
	{ 0x10, UINT64_C(0x0102030405060708) },
};
static const struct object_row object_row = {
	.class = OBJECT_DISK,
	.live_layer = 0x5566,
	.created_ns = INT64_C(1700000000000000002),
	.origin_count = 3,
	.origins = origins,
};
static const struct layer_row layer_row = {
	.state = LAYER_FROZEN,
	.object = 0x1111,
	.parent = 0x77,
	.parent_limit_clusters = 0x3ffff,
	.parent_origin_base = 4,
	.mark_stream = 0x21,
	.mark = 120,
};
static const struct root_row root_row = { .number = 12, .epoch = 7 };
static const struct changed_row changed_row = { .root = 13 };
static const struct resolved_row resolved_row = {
	.sequence = UINT64_C(0x0000000700000155),
	.page_bytes = sizeof(golden_page_base),
	.page = golden_page_base,
};
static const struct moved_row moved_row = { .sequence = UINT64_C(0x0000000700000154) };
static const struct object_state_row object_state_row = {
	.size_bytes = UINT64_C(0x123456789a),
	.mtime_ns = -9,
	.mapped_clusters = 0x4321,
	.lsn = 120,
};
static const struct sco_row sco_row = {
	.state = SCO_SEALED,
	.flags = SCO_UPLOADED | SCO_LINKED,
	.version = 3,
	.cache_dir = 1,
	.slot_count = 600,
	.live_slots = 321,
	.epoch = 7,
	.salt = SALT,
	.object_epoch = 6,
	.file_bytes = 605 * 4096,
	.footer_crc = 0xfeedbeef,
	.first_lsn = 101,
	.last_lsn = 120,
};
static const struct snapshot_row snapshot_row = {
	.layer = 0x77,
	.created_ns = INT64_C(1700000000000000004),
	.size_bytes = UINT64_C(0x123456789a),
	.root = 12,
	.flags = SNAPSHOT_STICKY,
	.name_bytes = 17,
	.comment_bytes = 9,
	.name = "before upgrade \xc3\xa9",
	.comment = "two\nlines",
};
static const struct snapshot_row snapshot_bare = {
	.layer = 0x78,
	.created_ns = -5,
	.root = UINT64_C(0x0102030405060708),
	.name_bytes = 1,
	.name = "a",
};
static const struct pack_row pack_row = {
	.len_bytes = 0x11200 + sizeof(golden_pack_directory),
	.directory_bytes = sizeof(golden_pack_directory),
	.member_count = 2,
};
static const struct pack_member pack_member = {
	.offset_bytes = 0x1234,
	.object = { "00000021/manifest/000000000000000c-0000000000000007", 0x200, 0xfeed0006 },
};

static const char condemned_row[OBJECT_NAME_MAX + 1] =
	"00000021/sco/000000005-00000000-0000000000000006";

#define ROW_CODEC(name)                                                                            \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		return name##_encode(value, out);                                                  \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		return name##_decode(in, len_bytes, ret, e);                                       \
	}
ROW_CODEC(pool_row)
ROW_CODEC(counter_row)
ROW_CODEC(stream_row)
ROW_CODEC(checkpoint_row)
ROW_CODEC(object_row)
ROW_CODEC(layer_row)
ROW_CODEC(root_row)
ROW_CODEC(changed_row)
ROW_CODEC(resolved_row)
ROW_CODEC(moved_row)
ROW_CODEC(object_state_row)
ROW_CODEC(sco_row)
ROW_CODEC(snapshot_row)
ROW_CODEC(pack_row)
ROW_CODEC(pack_member)
ROW_CODEC(condemned_row)

static void object_row_free(void *value)
{
	object_row_done(value);
}

/* --- Map pages --------------------------------------------------------------------------------- */

struct page {
	enum page_value_kind kind;
	unsigned int count;
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS]; /* at the cluster's own position */
};

static struct page page_base = {
	.kind = PAGE_BASE,
	.count = 4,
	.runs = {
		{ 0, 4, LOC_ZERO, NULL },
		{ 4, 3, SCO << 16 | 11, page_base.crcs + 4 },
		{ 10, 500, UINT64_C(4095) << 52 | 5u << 16 | 100, NULL },
		{ 511, 1, LOC_UNMAPPED, NULL },
	},
	.crcs = { [4] = 0xc0000001, [5] = 0xc0000002, [6] = 0xc0000003 },
};
static struct page page_delta = {
	.kind = PAGE_DELTA,
	.count = 1,
	.runs = { { 7, 1, SCO << 16 | 11, page_delta.crcs + 7 } },
	.crcs = { [7] = 0xc0000001 },
};
static struct page page_empty = { .kind = PAGE_BASE };

static int page_to_buf(const void *value, struct buf *out)
{
	const struct page *p = value;

	return page_value_encode(p->kind, p->runs, p->count, out);
}

static void page_add(void *arg, const struct page_run *run)
{
	struct page *p = arg;

	ck_assert_uint_lt(p->count, PAGE_CLUSTERS);
	p->runs[p->count] = *run;
	if (run->crcs != NULL) {
		memcpy(p->crcs + run->first, run->crcs, run->count * sizeof(uint32_t));
		p->runs[p->count].crcs = p->crcs + run->first;
	}
	p->count++;
}

static int page_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	struct page *p = calloc(1, sizeof(*p));
	int r;

	GOLDEN_EXPECT(p != NULL, "no memory");
	r = page_value_decode(in, len_bytes, &p->kind, page_add, p, e);
	if (r < 0) /* no run was shown before all of them were checked */
		GOLDEN_EXPECT(p->count == 0, "a run of a page that was refused");
	else
		memcpy(ret, p, sizeof(*p));
	if (r == 0)
		for (unsigned int i = 0; i < p->count; i++)
			if (p->runs[i].crcs != NULL)
				((struct page *)ret)->runs[i].crcs =
					((struct page *)ret)->crcs + p->runs[i].first;
	free(p);
	return r;
}

/* --- Backend ----------------------------------------------------------------------------------- */

struct image {
	struct rows_image_header header;
	unsigned int rows;
	struct {
		uint8_t key[ROW_KEY_BYTES_MAX];
		size_t key_bytes;
		uint8_t value[16];
		size_t value_bytes;
	} row[4];
};
static const struct image rows_image = {
	.header = { .pool = POOL, .kind = ROWS_MAP, .stream = 0x21, .epoch = 7, .lsn = 120 },
	.rows = 2,
	.row = { { { 's', 0, 1 }, 3, { 'v', 'a', 'l', 'u', 'e' }, 5 }, { { 'o' }, 32, { 0 }, 0 } },
};

static const struct map_piece map_piece = {
	.layers = 3,
	.object = { "00000021/piece/000000000000000c-00000002-0000000000000007", 0x1234,
		    0xfeed0007 },
};
ROW_CODEC(map_piece)

static int rows_image_to_buf(const void *value, struct buf *out)
{
	const struct image *image = value;
	int r = rows_image_begin(&image->header, out);

	for (unsigned int i = 0; i < image->rows && r == 0; i++)
		r = rows_image_add(out, image->row[i].key, image->row[i].key_bytes,
				   image->row[i].value, image->row[i].value_bytes);
	return r == 0 ? rows_image_end(out) : r;
}

static int image_add(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct image *image = arg;

	ck_assert_uint_lt(image->rows, ARRAY_SIZE(image->row));
	ck_assert_uint_le(key_bytes, ROW_KEY_BYTES_MAX);
	ck_assert_uint_le(value_bytes, sizeof(image->row[0].value));
	memcpy(image->row[image->rows].key, key, key_bytes);
	memcpy(image->row[image->rows].value, value, value_bytes);
	image->row[image->rows].key_bytes = key_bytes;
	image->row[image->rows].value_bytes = value_bytes;
	image->rows++;
	return 0;
}

static int rows_image_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	struct image image = { .rows = 0 };
	int r = rows_image_decode(in, len_bytes, &image.header, image_add, &image, e);

	if (r < 0)
		GOLDEN_EXPECT(image.rows == 0, "a row of an image that was refused");
	else
		memcpy(ret, &image, sizeof(image));
	return r;
}

static struct manifest_sco manifest_scos[] = {
	{ 5, 0, 600, 6, 605 * 4096, 0xfeed0002, 1, 100 },
	{ SCO, 3, 1, 7, 8192, 0xfeed0003, 0, 0 },
};
static const struct manifest manifest = {
	.pool = POOL,
	.stream = 0x21,
	.epoch = 7,
	.root = 12,
	.lsn = 120,
	.map = { "00000021/map/000000000000006e-0000000000000007", 0x1234, 0xfeed0001 },
	.map_lsn = 110,
	.sco_count = 2,
	.scos = manifest_scos,
};

static struct root_stream root_streams[] = {
	{ 1, { "00000001/manifest/000000000000000b-0000000000000007", 0x100, 0xfeed0005 } },
	{ 0x21, { "00000021/manifest/000000000000000c-0000000000000007", 0x200, 0xfeed0006 } },
};
static char condemned[][OBJECT_NAME_MAX + 1] = {
	"00000021/sco/000000005-00000000-0000000000000006",
	"ns/000000000000000a-0000000000000007",
};
static const struct root root = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.epoch = 7,
	.number = 12,
	.created_ns = INT64_C(1700000000000000003),
	.ns = { "ns/000000000000000c-0000000000000007", 0x4321, 0xfeed0004 },
	.stream_count = 2,
	.streams = root_streams,
	.condemned_count = 2,
	.condemned = condemned,
};
static struct root_pack root_pack_list[] = {
	{ { "pack/0000000000000002-0000000000000006", 0x345678, 0 }, 0x3456 },
	{ { "pack/0000000000000003-0000000000000007", 0x11200 + sizeof(golden_pack_directory), 0 },
	  sizeof(golden_pack_directory) },
};
static char condemned_pack[][OBJECT_NAME_MAX + 1] = { "pack/0000000000000001-0000000000000007" };
static const struct root root_packs = {
	.features = { .compat = ALL_COMPAT, .incompat = FEATURE_SNAPSHOTS | FEATURE_PACKS },
	.pool = POOL,
	.epoch = 7,
	.number = 12,
	.created_ns = INT64_C(1700000000000000003),
	.ns = { "ns/000000000000000c-0000000000000007", 0x4321, 0xfeed0004 },
	.stream_count = 1,
	.streams = root_streams + 1,
	.condemned_count = 1,
	.condemned = condemned_pack,
	.pack_count = 2,
	.packs = root_pack_list,
};
ROW_CODEC(manifest)
ROW_CODEC(root)

static struct pack_member pack_members[] = {
	{ 0, { "00000021/sco/000000005-00000000-0000000000000006", 0x11000, 0xfeed0008 } },
	{ 0x11000, { "00000021/manifest/000000000000000c-0000000000000007", 0x200, 0xfeed0006 } },
};
static const struct pack_directory pack_directory = {
	.pool = POOL,
	.epoch = 7,
	.number = 3,
	.member_count = 2,
	.members = pack_members,
};

static int pack_directory_to_buf(const void *value, struct buf *out)
{
	return pack_directory_encode(value, out);
}

static int pack_directory_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	return pack_directory_decode(in, len_bytes, 0x11200, ret, e);
}

static void pack_directory_free(void *value)
{
	pack_directory_done(value);
}

static void manifest_free(void *value)
{
	manifest_done(value);
}

static void root_free(void *value)
{
	root_done(value);
}

/* --- All of them ------------------------------------------------------------------------------- */

#define GOLDEN_AS(n, codec, done_)                                                                 \
	{                                                                                          \
		.name = #n, .bytes = golden_##n, .len_bytes = sizeof(golden_##n), .value = &(n),   \
		.value_bytes = sizeof(n), .encode = codec##_to_buf, .decode = codec##_from,        \
		.done = (done_),                                                                   \
	}
#define GOLDEN(n) GOLDEN_AS(n, n, NULL)
static const struct golden goldens[] = {
	GOLDEN(pool_row),
	GOLDEN(counter_row),
	GOLDEN(stream_row),
	GOLDEN(checkpoint_row),
	GOLDEN_AS(object_row, object_row, object_row_free),
	GOLDEN(layer_row),
	GOLDEN(root_row),
	GOLDEN(changed_row),
	GOLDEN(resolved_row),
	GOLDEN(moved_row),
	GOLDEN(object_state_row),
	GOLDEN(sco_row),
	GOLDEN(snapshot_row),
	GOLDEN_AS(snapshot_bare, snapshot_row, NULL),
	GOLDEN(pack_row),
	GOLDEN(pack_member),
	GOLDEN(condemned_row),
	GOLDEN_AS(page_base, page, NULL),
	GOLDEN_AS(page_delta, page, NULL),
	GOLDEN_AS(page_empty, page, NULL),
	GOLDEN(map_piece),
	GOLDEN(rows_image),
	GOLDEN_AS(manifest, manifest, manifest_free),
	GOLDEN_AS(root, root, root_free),
	GOLDEN_AS(root_packs, root, root_free),
	GOLDEN_AS(pack_directory, pack_directory, pack_directory_free),
};

START_TEST(encoding_gives_the_golden_bytes)
{
	golden_check_encode(&goldens[_i]);
}
END_TEST

START_TEST(the_golden_bytes_decode_to_what_was_encoded)
{
	golden_check_decode(&goldens[_i]);
}
END_TEST

START_TEST(every_flipped_bit_is_refused_and_changes_no_output)
{
	golden_check_flips(&goldens[_i]);
}
END_TEST

START_TEST(every_other_length_is_refused)
{
	golden_check_lengths(&goldens[_i]);
}
END_TEST

START_TEST(a_value_under_a_key_of_another_kind_is_refused)
{
	struct counter_row counter;
	struct pool_row pool;

	ck_assert_int_eq(pool_row_decode(golden_object_row, sizeof(golden_object_row), &pool, NULL),
			 -EBADMSG);
	ck_assert_int_eq(counter_row_decode(golden_stream_row, sizeof(golden_stream_row), &counter,
					    NULL),
			 -EBADMSG);
}
END_TEST

START_TEST(keys_give_the_golden_bytes_and_parse_again)
{
	struct row_key one = row_key_u64(ROW_SCO, UINT64_C(0x0102030405060708));
	struct row_key two =
		row_key_2u64(ROW_PAGE, UINT64_C(0x0102030405060708), UINT64_C(0x1112131415161718));
	struct row_key pack = pack_key(7, 3, 2);
	uint64_t a, b;
	uint32_t index;

	ck_assert_uint_eq(one.len_bytes, sizeof(golden_key_u64));
	ck_assert_mem_eq(one.bytes, golden_key_u64, sizeof(golden_key_u64));
	ck_assert_uint_eq(two.len_bytes, sizeof(golden_key_2u64));
	ck_assert_mem_eq(two.bytes, golden_key_2u64, sizeof(golden_key_2u64));

	ck_assert_int_eq(row_key_parse_u64(one.bytes, one.len_bytes, ROW_SCO, &a), 0);
	ck_assert_uint_eq(a, UINT64_C(0x0102030405060708));
	ck_assert_int_eq(row_key_parse_2u64(two.bytes, two.len_bytes, ROW_PAGE, &a, &b), 0);
	ck_assert_uint_eq(a, UINT64_C(0x0102030405060708));
	ck_assert_uint_eq(b, UINT64_C(0x1112131415161718));

	ck_assert_uint_eq(pack.len_bytes, sizeof(golden_key_pack));
	ck_assert_mem_eq(pack.bytes, golden_key_pack, sizeof(golden_key_pack));
	ck_assert_int_eq(pack_key_parse(pack.bytes, pack.len_bytes, &a, &b, &index), 0);
	ck_assert_uint_eq(a, 7);
	ck_assert_uint_eq(b, 3);
	ck_assert_uint_eq(index, 2);
}
END_TEST

START_TEST(a_directory_is_refused_where_its_members_end_elsewhere)
{
	struct pack_directory d;

	for (uint64_t end = 0x11200 - 2; end <= 0x11200 + 2; end++)
		if (end != 0x11200)
			ck_assert_int_eq(pack_directory_decode(golden_pack_directory,
							       sizeof(golden_pack_directory), end,
							       &d, NULL),
					 -EUCLEAN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("golden_rows");
	TCase *tc = tcase_create("structures");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, encoding_gives_the_golden_bytes, 0, ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, the_golden_bytes_decode_to_what_was_encoded, 0,
			    ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, every_flipped_bit_is_refused_and_changes_no_output, 0,
			    ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, every_other_length_is_refused, 0, ARRAY_SIZE(goldens));
	tcase_add_test(tc, a_value_under_a_key_of_another_kind_is_refused);
	tcase_add_test(tc, keys_give_the_golden_bytes_and_parse_again);
	tcase_add_test(tc, a_directory_is_refused_where_its_members_end_elsewhere);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
