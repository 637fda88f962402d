#include "tests/volume/support_sco.h"

#include "common/crc32c.h"
#include "tests/volume/support_pool.h"
#include "volume/sco.h"
#include "volume/sco_make.h"

#include <stdlib.h>
#include <string.h>

struct sco_fixture sf;

static int new_number(UNUSED void *arg, uint64_t *ret_number, UNUSED struct err *e)
{
	*ret_number = ++sf.next_number;
	return 0;
}

static void begin(void)
{
	char path[PATH_BYTES];
	struct flash_dir_option dir = { .path = root_path(path, "flash") };

	sf.next_number = 0;
	sf.w = (struct stream_world){ .env = env_posix(),
				      .pool = { { 4, 2 } },
				      .epoch = 3,
				      .sco_slots = SF_SLOTS,
				      .new_sco_number = new_number };
	ck_assert_int_eq(flash_open(sf.w.env, &sf.w.pool, &dir, 1, 0, true, &sf.w.flash, NULL), 0);
	ck_assert_int_eq(sco_table_open(sf.w.env, sf.w.flash, &sf.w.scos), 0);
}

static void end(void)
{
	sco_table_close(sf.w.scos);
	flash_close(sf.w.flash);
}

void sf_fixture_add(TCase *t)
{
	pool_fixture_add(t, begin);
	tcase_add_checked_fixture(t, NULL, end);
}

struct sco *sf_make(uint32_t stream)
{
	struct sco_make_options o = { .stream = stream };
	struct sco *s = NULL;
	struct err e = { 0 };

	ck_assert_msg(sco_make(&sf.w, &o, &s, &e) == 0, "%s", e.message);
	return s;
}

struct env_file *sf_file(struct sco *s)
{
	struct env_file *f;

	ck_assert_int_eq(sco_file(sf.w.scos, s, &f, NULL), 0);
	return f;
}

void sf_fill(struct sco *s, unsigned int clusters)
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

		ck_assert_int_eq(env_pwrite(sf.w.env, sf_file(s), mem, 4096,
					    s->next_slot * UINT64_C(4096)),
				 0);
		s->crcs[s->next_slot++] = crc32c(0, mem, 4096);
		log_entry_encode(&entry, bytes);
		ck_assert_int_eq(buf_append(&s->log, bytes, sizeof(bytes)), 0);
		free(mem);
	}
}

void sf_seal(struct sco *s)
{
	struct sco_to_seal it = { .sco = s };
	struct err e = { 0 };

	s->life = SCO_LIFE_FULL;
	ck_assert_msg(sco_seal(&sf.w, &it, 1, &e) == 0, "%s", e.message);
	ck_assert_int_eq(sco_life(sf.w.scos, s), SCO_LIFE_SEALED);
}

void sf_expect(struct sco *s, unsigned int count)
{
	uint8_t *mem = aligned_mem(4096), *want = aligned_mem(4096);

	for (unsigned int i = 0; i < count; i++) {
		ck_assert_int_eq(sco_read(sf.w.scos, s, 1 + i, 1, mem, NULL), 0);
		pattern_fill(want, 4096, 50 + i);
		ck_assert_int_eq(memcmp(mem, want, 4096), 0);
	}
	free(mem);
	free(want);
}
