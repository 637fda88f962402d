/* Rows and objects on the backend: random values survive a round trip, hostile bytes never do harm. */
#include "format_codec.h"

/* Where the members of all random packs end. */
#define PACK_END_BYTES (UINT64_C(1) << 20)

/* --- Random values ------------------------------------------------------------------------------ */

static void random_name(struct rng *rng, char name[OBJECT_NAME_MAX + 1])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	const unsigned int len = rng_u32(rng, 1, OBJECT_NAME_MAX);

	memset(name, 0, OBJECT_NAME_MAX + 1);
	for (unsigned int i = 0; i < len; i++)
		name[i] = letters[rng_u32(rng, 0, sizeof(letters) - 2)];
	/* Dots at the front and slashes that leave no empty part, in names with room for them. */
	if (name[0] == '.')
		name[0] = 'x';
	for (unsigned int i = 2; i + 3 < len; i += 7)
		if (name[i - 1] != '.' && name[i + 1] != '.')
			name[i] = '/';
}

static void random_named(struct rng *rng, struct named_object *o)
{
	random_name(rng, o->name);
	o->len_bytes = rng_u64(rng);
	o->crc = rng_u32(rng, 0, UINT32_MAX);
}

static void pool_row_random(struct rng *rng, void *value)
{
	*(struct pool_row *)value = (struct pool_row){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.epoch = rng_u64(rng),
		.created_ns = (int64_t)rng_u64(rng),
		.sco_bytes = rng_u32(rng, SCO_SLOTS_MIN, SCO_SLOTS_MAX + 1) * CLUSTER_BYTES,
	};
}

static void counter_row_random(struct rng *rng, void *value)
{
	((struct counter_row *)value)->high_water = rng_u64(rng);
}

static void stream_row_random(struct rng *rng, void *value)
{
	*(struct stream_row *)value = (struct stream_row){
		.class = rng_u32(rng, OBJECT_DISK, OBJECT_FILE),
		.owner = rng_u64(rng),
	};
}

static void checkpoint_row_random(struct rng *rng, void *value)
{
	*(struct checkpoint_row *)value = (struct checkpoint_row){
		.lsn = rng_u64(rng),
		.replay_sco = rng_between(rng, 0, SCO_NUMBER_MAX + 1),
		.damaged = rng_u64(rng) % 2,
	};
}

static void object_row_random(struct rng *rng, void *value)
{
	struct object_row *row = value;

	*row = (struct object_row){
		.class = rng_u32(rng, OBJECT_DISK, OBJECT_FILE),
		.flags = rng_u64(rng) % 2 == 0 ? OBJECT_TEMPLATE : 0,
		.live_layer = rng_u64(rng),
		.created_ns = (int64_t)rng_u64(rng),
		.origin_count = rng_u32(rng, 1, OBJECT_ORIGINS_MAX),
	};
	row->origins = calloc(row->origin_count, sizeof(*row->origins));
	EXPECT(row->origins != NULL, "no memory");
	for (uint32_t i = 0; i < row->origin_count; i++)
		row->origins[i] =
			(struct object_origin){ rng_u32(rng, 1, UINT32_MAX), rng_u64(rng) };
}

static void layer_row_random(struct rng *rng, void *value)
{
	*(struct layer_row *)value = (struct layer_row){
		.state = (uint8_t)rng_u32(rng, LAYER_LIVE, LAYER_DROPPED),
		.object = rng_u64(rng),
		.parent = rng_u64(rng),
		.parent_limit_clusters = rng_u64(rng),
		.parent_origin_base = rng_u32(rng, 0, LOC_ORIGIN_MAX),
		.mark_stream = rng_u32(rng, 0, UINT32_MAX),
		.mark = rng_u64(rng),
	};
}

static void root_row_random(struct rng *rng, void *value)
{
	*(struct root_row *)value = (struct root_row){ rng_u64(rng), rng_u64(rng) };
}

static void changed_row_random(struct rng *rng, void *value)
{
	*(struct changed_row *)value = (struct changed_row){ rng_u64(rng) };
}

static void resolved_row_random(struct rng *rng, void *value)
{
	/* A row points to it, and does not look inside. */
	static uint8_t page[RESOLVED_PAGE_BYTES_MAX];
	struct resolved_row *row = value;

	*row = (struct resolved_row){
		.sequence = rng_between(rng, 1, UINT64_MAX),
		.page_bytes = rng_u32(rng, 0, 300),
		.page = page,
	};
	for (size_t i = 0; i < row->page_bytes; i++)
		page[i] = (uint8_t)rng_u64(rng);
}

static void moved_row_random(struct rng *rng, void *value)
{
	*(struct moved_row *)value = (struct moved_row){ rng_u64(rng) };
}

static void object_state_row_random(struct rng *rng, void *value)
{
	*(struct object_state_row *)value = (struct object_state_row){
		.size_bytes = rng_between(rng, 0, OBJECT_BYTES_MAX),
		.mtime_ns = (int64_t)rng_u64(rng),
		.mapped_clusters = rng_between(rng, 0, CLUSTER_MAX),
		.lsn = rng_u64(rng),
	};
}

static void sco_row_random(struct rng *rng, void *value)
{
	struct sco_row *row = value;

	*row = (struct sco_row){
		.state = (uint8_t)rng_u32(rng, SCO_OPEN, SCO_SEALED),
		.flags = (uint8_t)rng_u32(rng, 0, SCO_UPLOADED | SCO_LINKED),
		.version = rng_u32(rng, 0, UINT32_MAX),
		.cache_dir = rng_u32(rng, 0, UINT32_MAX),
		.slot_count = rng_u32(rng, 0, SCO_SLOTS_MAX),
		.live_slots = rng_u32(rng, 0, SCO_SLOTS_MAX),
		.epoch = rng_u64(rng),
		.salt = rng_u64(rng),
		.object_epoch = rng_u64(rng),
		.file_bytes = rng_u64(rng),
		.footer_crc = rng_u32(rng, 0, UINT32_MAX),
	};
	random_lsns(rng, &row->first_lsn, &row->last_lsn);
}

static void map_piece_random(struct rng *rng, void *value)
{
	struct map_piece *piece = value;

	memset(piece, 0, sizeof(*piece));
	piece->layers = rng_u32(rng, 0, UINT32_MAX);
	random_named(rng, &piece->object);
}

static void manifest_random(struct rng *rng, void *value)
{
	struct manifest *m = value;
	uint64_t sco = 0;

	memset(m, 0, sizeof(*m));
	m->pool = random_uuid(rng);
	m->stream = rng_u32(rng, 1, UINT32_MAX);
	m->epoch = rng_u64(rng);
	m->root = rng_u64(rng);
	m->lsn = rng_u64(rng);
	if (rng_u64(rng) % 4 != 0) {
		random_named(rng, &m->map);
		m->map_lsn = rng_u64(rng);
	}
	m->sco_count = rng_u32(rng, 0, 100);
	m->scos = calloc(m->sco_count + 1, sizeof(*m->scos));
	EXPECT(m->scos != NULL, "no memory");
	for (uint32_t i = 0; i < m->sco_count; i++) {
		struct manifest_sco *s = &m->scos[i];

		sco += rng_between(rng, 1, SCO_NUMBER_MAX / 100);
		*s = (struct manifest_sco){
			.sco = sco,
			.version = rng_u32(rng, 0, UINT32_MAX),
			.slot_count = rng_u32(rng, 1, SCO_SLOTS_MAX),
			.object_epoch = rng_u64(rng),
			.file_bytes = rng_u64(rng),
			.footer_crc = rng_u32(rng, 0, UINT32_MAX),
		};
		random_lsns(rng, &s->first_lsn, &s->last_lsn);
	}
}

static void root_random(struct rng *rng, void *value)
{
	struct root *r = value;
	uint32_t stream = 0;

	memset(r, 0, sizeof(*r));
	r->features = random_features(rng);
	r->pool = random_uuid(rng);
	r->epoch = rng_u64(rng);
	r->number = rng_u64(rng);
	r->created_ns = (int64_t)rng_u64(rng);
	random_named(rng, &r->ns);
	r->stream_count = rng_u32(rng, 0, 20);
	r->condemned_count = rng_u32(rng, 0, 20);
	r->streams = calloc(r->stream_count + 1, sizeof(*r->streams));
	r->condemned = calloc(r->condemned_count + 1, sizeof(*r->condemned));
	EXPECT(r->streams != NULL && r->condemned != NULL, "no memory");
	for (uint32_t i = 0; i < r->stream_count; i++) {
		stream += rng_u32(rng, 1, UINT32_MAX / 32);
		r->streams[i].stream = stream;
		random_named(rng, &r->streams[i].manifest);
	}
	for (uint32_t i = 0; i < r->condemned_count; i++)
		random_name(rng, r->condemned[i]);
	r->pack_count = rng_u32(rng, 0, 3);
	r->packs = calloc(r->pack_count + 1, sizeof(*r->packs));
	EXPECT(r->packs != NULL, "no memory");
	for (uint32_t i = 0; i < r->pack_count; i++) {
		random_named(rng, &r->packs[i].object);
		r->packs[i].object.crc = 0;
		r->packs[i].directory_bytes =
			(uint32_t)min_u64(rng_u32(rng, 0, 1000000), r->packs[i].object.len_bytes);
		r->features.incompat |= FEATURE_PACKS;
	}
}

static void snapshot_row_random(struct rng *rng, void *value)
{
	/* A row points to both. */
	static char name[SNAPSHOT_ROW_NAME_MAX], comment[5000];
	struct snapshot_row *row = value;

	*row = (struct snapshot_row){
		.layer = rng_between(rng, 1, UINT64_MAX),
		.created_ns = (int64_t)rng_u64(rng),
		.size_bytes = rng_between(rng, 0, OBJECT_BYTES_MAX),
		.root = rng_u64(rng),
		.flags = rng_u64(rng) % 2 == 0 ? SNAPSHOT_STICKY : 0,
		.name_bytes = (uint8_t)rng_u32(rng, 1, sizeof(name)),
		.comment_bytes = rng_u32(rng, 0, sizeof(comment)),
		.name = name,
		.comment = comment,
	};
	for (unsigned int i = 0; i < row->name_bytes; i++)
		name[i] = (char)rng_u32(rng, '0', 255);
	for (unsigned int i = 0; i < row->comment_bytes; i++)
		comment[i] = (char)rng_u32(rng, 1, 255);
}

static void pack_row_random(struct rng *rng, void *value)
{
	struct pack_row *row = value;

	*row = (struct pack_row){
		.len_bytes = rng_u64(rng),
		.member_count = rng_u32(rng, 1, PACK_MEMBERS_MAX),
	};
	row->directory_bytes = (uint32_t)rng_between(rng, 0, min_u64(row->len_bytes, UINT32_MAX));
}

static void pack_member_random(struct rng *rng, void *value)
{
	struct pack_member *m = value;

	memset(m, 0, sizeof(*m));
	m->offset_bytes = rng_u64(rng);
	random_named(rng, &m->object);
}

static void pack_directory_random(struct rng *rng, void *value)
{
	struct pack_directory *d = value;
	uint64_t end_bytes = 0;

	*d = (struct pack_directory){
		.pool = random_uuid(rng),
		.epoch = rng_u64(rng),
		.number = rng_u64(rng),
		.member_count = rng_u32(rng, 1, 50),
	};
	d->members = calloc(d->member_count, sizeof(*d->members));
	EXPECT(d->members != NULL, "no memory");
	for (uint32_t i = 0; i < d->member_count; i++) {
		struct named_object *o = &d->members[i].object;

		random_named(rng, o);
		o->len_bytes = i + 1 < d->member_count ?
				       rng_between(rng, 0, PACK_END_BYTES - end_bytes) :
				       PACK_END_BYTES - end_bytes;
		d->members[i].offset_bytes = end_bytes;
		end_bytes += o->len_bytes;
	}
}

/* --- Codecs ------------------------------------------------------------------------------------- */

#define BUF_CODEC(name)                                                                            \
	static int name##_to(const void *value, struct buf *out)                                   \
	{                                                                                          \
		return name##_encode(value, out);                                                  \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		return name##_decode(in, len_bytes, ret, e);                                       \
	}
#define ROW_CODEC(name, kind)                                                                      \
	BUF_CODEC(name)                                                                            \
	static void name##_reseal(uint8_t *p, size_t len_bytes)                                    \
	{                                                                                          \
		reseal_row(p, len_bytes, kind);                                                    \
	}
ROW_CODEC(pool_row, ROW_POOL)
ROW_CODEC(counter_row, ROW_COUNTER)
ROW_CODEC(stream_row, ROW_STREAM)
ROW_CODEC(checkpoint_row, ROW_CHECKPOINT)
ROW_CODEC(object_row, ROW_OBJECT)
ROW_CODEC(layer_row, ROW_LAYER)
ROW_CODEC(root_row, ROW_ROOT)
ROW_CODEC(changed_row, ROW_CHANGED)
ROW_CODEC(resolved_row, ROW_RESOLVED)
ROW_CODEC(moved_row, ROW_MOVED)
ROW_CODEC(object_state_row, ROW_OBJECT_STATE)
ROW_CODEC(sco_row, ROW_SCO)
ROW_CODEC(snapshot_row, ROW_SNAPSHOT)
ROW_CODEC(pack_row, ROW_PACK)
ROW_CODEC(pack_member, ROW_PACK)
ROW_CODEC(map_piece, ROW_MAP_PIECE)
BUF_CODEC(manifest)
BUF_CODEC(root)

static int pack_directory_to(const void *value, struct buf *out)
{
	return pack_directory_encode(value, out);
}

static int pack_directory_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	return pack_directory_decode(in, len_bytes, PACK_END_BYTES, ret, e);
}

#define DONE(name)                                                                                 \
	static void name##_free(void *value)                                                       \
	{                                                                                          \
		name##_done(value);                                                                \
	}
DONE(object_row)
DONE(manifest)
DONE(root)
DONE(pack_directory)

#define ROW(n, features, done_)                                                                    \
	{                                                                                          \
		.name = #n, .version_at = 0, .version_bytes = 1, .features_at = (features),        \
		.random = n##_random, .encode = n##_to, .decode = n##_from, .done = (done_),       \
		.reseal = n##_reseal,                                                              \
	}
#define OBJECT(n, features)                                                                        \
	{                                                                                          \
		.name = #n, .version_at = 8, .version_bytes = 4, .features_at = (features),        \
		.random = n##_random, .encode = n##_to, .decode = n##_from, .done = n##_free,      \
		.reseal = reseal_tail,                                                             \
	}
static const struct codec codecs[] = {
	ROW(pool_row, 1, NULL),
	ROW(counter_row, 0, NULL),
	ROW(stream_row, 0, NULL),
	ROW(checkpoint_row, 0, NULL),
	ROW(object_row, 0, object_row_free),
	ROW(layer_row, 0, NULL),
	ROW(root_row, 0, NULL),
	ROW(changed_row, 0, NULL),
	ROW(resolved_row, 0, NULL),
	ROW(moved_row, 0, NULL),
	ROW(object_state_row, 0, NULL),
	ROW(sco_row, 0, NULL),
	ROW(snapshot_row, 0, NULL),
	ROW(pack_row, 0, NULL),
	ROW(pack_member, 0, NULL),
	ROW(map_piece, 0, NULL),
	OBJECT(manifest, 0),
	OBJECT(root, 16),
	OBJECT(pack_directory, 0),
};

/* --- Tests -------------------------------------------------------------------------------------- */

START_TEST(a_key_of_another_kind_or_length_does_not_parse)
{
	const struct row_key one = row_key_u64(ROW_STREAM, 7), two = row_key_2u64(ROW_SCO, 7, 8);
	uint64_t a = 99, b = 99;

	ck_assert_int_eq(row_key_parse_u64(one.bytes, one.len_bytes, ROW_SCO, &a), -EUCLEAN);
	ck_assert_int_eq(row_key_parse_2u64(two.bytes, two.len_bytes, ROW_PAGE, &a, &b), -EUCLEAN);
	for (size_t len = 0; len <= ROW_KEY_BYTES_MAX; len++) {
		if (len != one.len_bytes)
			ck_assert_int_eq(row_key_parse_u64(one.bytes, len, ROW_STREAM, &a),
					 -EUCLEAN);
		if (len != two.len_bytes)
			ck_assert_int_eq(row_key_parse_2u64(two.bytes, len, ROW_SCO, &a, &b),
					 -EUCLEAN);
	}
	ck_assert_uint_eq(a, 99);
	ck_assert_uint_eq(b, 99);
}
END_TEST

START_TEST(keys_sort_as_their_numbers)
{
	struct rng rng = { 8 };

	for (unsigned int i = 0; i < ROUNDS; i++) {
		const uint64_t a = rng_between(&rng, 0, UINT64_MAX - 1);
		const uint64_t b = rng_between(&rng, a + 1, UINT64_MAX);
		const struct row_key low = row_key_2u64(ROW_PAGE, a, UINT64_MAX);
		const struct row_key high = row_key_2u64(ROW_PAGE, b, 0);

		EXPECT(memcmp(low.bytes, high.bytes, low.len_bytes) < 0,
		       "%" PRIx64 " before %" PRIx64, a, b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format_rows");
	TCase *tc = tcase_create("structures");
	TCase *keys = tcase_create("keys");
	SRunner *sr;
	int failed;

	codec_tests_add(tc, codecs, ARRAY_SIZE(codecs));
	suite_add_tcase(s, tc);
	tcase_add_test(keys, a_key_of_another_kind_or_length_does_not_parse);
	tcase_add_test(keys, keys_sort_as_their_numbers);
	suite_add_tcase(s, keys);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
