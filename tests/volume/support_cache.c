#include "tests/volume/support_cache.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLASH_BYTES (512 * MIB)

struct cache_fixture cf;

/* --- the store --------------------------------------------------------------------------------- */

static uint64_t word(uint64_t seed, uint64_t number)
{
	uint64_t z = (seed + number) * UINT64_C(0x9e3779b97f4a7c15);

	return z ^ z >> 29;
}

static void fill(uint64_t seed, uint64_t offset_bytes, uint8_t *dst, size_t len_bytes)
{
	size_t i = 0;

	while (i < len_bytes) {
		uint64_t at = offset_bytes + i, w = word(seed, at / 8);
		size_t skip = (size_t)(at % 8),
		       n = 8 - skip < len_bytes - i ? 8 - skip : len_bytes - i;

		memcpy(dst + i, (const uint8_t *)&w + skip, n);
		i += n;
	}
}

static uint64_t seed_of(uint64_t sco, uint32_t version)
{
	return sco << 40 ^ (uint64_t)version << 32;
}

void cf_bytes(const struct cache_sco *s, uint64_t offset_bytes, void *dst, size_t len_bytes)
{
	fill(seed_of(s->sco, s->version), offset_bytes, dst, len_bytes);
}

static void wait_at_gate(void)
{
	GUARD(&cf.lock);
	cf.at_gate++;
	cond_broadcast(&cf.changed);
	while (cf.closed_gate)
		cond_wait(&cf.changed, &cf.lock, WAIT_FOREVER);
	cf.at_gate--;
}

static int made_up_get(UNUSED struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		       size_t len_bytes, struct err *e)
{
	unsigned int stream, version, fail;
	unsigned long long sco, epoch;

	if (sscanf(name, "%x/sco/%llx-%x-%llx", &stream, &sco, &version, &epoch) != 4)
		return err_set(e, -ENOENT, "'%s': not a SCO", name);
	wait_at_gate();
	fail = __atomic_load_n(&cf.fail_gets, __ATOMIC_ACQUIRE);
	if (fail > 0) {
		__atomic_store_n(&cf.fail_gets, fail - 1, __ATOMIC_RELEASE);
		return err_set(e, cf.fail_code, "as the test says");
	}
	__atomic_add_fetch(&cf.gets, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&cf.get_bytes, len_bytes, __ATOMIC_RELAXED);
	fill(seed_of(sco, version), offset_bytes, dst, len_bytes);
	return 0;
}

static void made_up_close(UNUSED struct store *s)
{
}

static const struct store_ops made_up_ops = {
	.type_name = "made-up",
	.close = made_up_close,
	.get = made_up_get,
};
static struct store made_up = { .ops = &made_up_ops };

static int the_backend(UNUSED void *arg, struct backend **ret_backend, UNUSED struct err *e)
{
	*ret_backend = cf.backend;
	return 0;
}

static void count_fetched(UNUSED void *arg)
{
	__atomic_add_fetch(&cf.fetched, 1, __ATOMIC_RELAXED);
}

/* --- the machine ------------------------------------------------------------------------------- */

static int spoilt_pwrite(struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
			 uint64_t offset_bytes)
{
	int code = __atomic_load_n(&cf.write_code, __ATOMIC_RELAXED);

	(void)env;
	return code ? code : env_pwrite(env_posix(), f, buf, len_bytes, offset_bytes);
}

static ssize_t spoilt_pread(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			    uint64_t offset_bytes)
{
	int code = __atomic_load_n(&cf.read_code, __ATOMIC_RELAXED);

	(void)env;
	return code ? code : env_pread(env_posix(), f, buf, len_bytes, offset_bytes);
}

static uint64_t late_mono_ns(UNUSED struct env *env)
{
	return env_now_mono_ns(env_posix()) + __atomic_load_n(&cf.late_ns, __ATOMIC_RELAXED);
}

/* --- the fixture ------------------------------------------------------------------------------- */

char *cf_path(unsigned int dir, const char *name)
{
	char *path;

	ck_assert_int_ge(asprintf(&path, "%s/%s", cf.dirs[dir], name), 0);
	return path;
}

void cf_open(void)
{
	struct flash_dir_option o[2];
	char *label = cf_path(0, "label");
	struct env_file *f = NULL;
	bool make = env_open(env_posix(), label, ENV_READ, &f) < 0;

	if (f)
		env_close(env_posix(), f);
	free(label);
	for (unsigned int i = 0; i < 2; i++)
		o[i] = (struct flash_dir_option){ .path = cf.dirs[i],
						  .size_bytes = cf.flash_bytes };
	for (int round = make ? 0 : 1; round < 2; round++) {
		ck_assert_int_eq(flash_open(&cf.env, &cf.options.pool, o, cf.dir_count, 0,
					    round == 0, &cf.flash, &cf.e),
				 0);
		if (round == 0)
			flash_close(cf.flash);
	}
	cf.options.flash = cf.flash;
	ck_assert_msg(cache_open(&cf.options, &cf.cache, &cf.e) == 0, "%s", cf.e.message);
	ck_assert_int_eq(cache_start(cf.cache, &cf.e), 0);
}

void cf_close(void)
{
	if (cf.cache) {
		cache_stop(cf.cache);
		cache_close(cf.cache);
		ck_assert_uint_eq(flash_used_bytes(cf.flash), 0);
	}
	flash_close(cf.flash);
	cf.cache = NULL;
	cf.flash = NULL;
}

void cf_die(void)
{
	/* What it would write at its end comes to nothing. */
	cf.write_code = -ENOSPC;
	cf_close();
	cf.write_code = 0;
}

void cf_begin(void)
{
	struct backend_options bo = { .attempts_max = 1, .concurrency_max = 64 };

	memset(&cf, 0, sizeof(cf));
	cf.ops = *env_posix()->ops;
	cf.ops.pwrite = spoilt_pwrite;
	cf.ops.pread = spoilt_pread;
	cf.ops.now_mono_ns = late_mono_ns;
	cf.env.ops = &cf.ops;
	mutex_init(&cf.lock, 0);
	cond_init(&cf.changed);
	(void)snprintf(cf.dir, sizeof(cf.dir), "cache-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(cf.dir));
	for (unsigned int i = 0; i < 2; i++)
		(void)snprintf(cf.dirs[i], sizeof(cf.dirs[i]), "%s/%u", cf.dir, i);
	cf.flash_bytes = FLASH_BYTES;
	cf.dir_count = 1;
	cf.options = (struct cache_options){ .env = &cf.env,
					     .sco_bytes = MIB,
					     .fetch_min_bytes = 16 * KIB,
					     .backend = the_backend,
					     .fetched = count_fetched,
					     .metrics = &cf.metrics };
	cf.options.pool.bytes[0] = 9;
	ck_assert_int_eq(backend_open_over(&cf.env, &made_up, "made-up:", &bo, &cf.backend, &cf.e),
			 0);
	cf_open();
}

static int remove_one(const char *path, UNUSED const struct stat *st, UNUSED int flag,
		      UNUSED struct FTW *ftw)
{
	return remove(path);
}

void cf_end(void)
{
	cf_set_gate(false);
	cf_close();
	backend_close(cf.backend);
	ck_assert_int_eq(nftw(cf.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* --- short words ------------------------------------------------------------------------------- */

struct cache_sco cf_sco(uint64_t n)
{
	return (struct cache_sco){
		.sco = n, .stream = 16, .object_epoch = 3, .file_bytes = CF_SCO
	};
}

void cf_must_read(const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes)
{
	uint8_t *got = malloc(len_bytes), *want = malloc(len_bytes);

	ck_assert_msg(cache_read(cf.cache, s, offset_bytes, len_bytes, got, &cf.e) == 0, "%s",
		      cf.e.message);
	cf_bytes(s, offset_bytes, want, len_bytes);
	ck_assert_mem_eq(got, want, len_bytes);
	free(got);
	free(want);
}

void cf_must_hold(const struct cache_hold *hold, const struct cache_sco *s, uint64_t offset_bytes,
		  size_t len_bytes)
{
	uint8_t *got = aligned_alloc(ENV_DIRECT_ALIGN, len_bytes), *want = malloc(len_bytes);

	ck_assert_int_eq(env_pread(env_posix(), hold->file, got, len_bytes, hold->offset_bytes),
			 (ssize_t)len_bytes);
	cf_bytes(s, offset_bytes, want, len_bytes);
	ck_assert_mem_eq(got, want, len_bytes);
	free(got);
	free(want);
}

void cf_set_gate(bool closed)
{
	GUARD(&cf.lock);
	cf.closed_gate = closed;
	cond_broadcast(&cf.changed);
}

void cf_await_gate(unsigned int count)
{
	GUARD(&cf.lock);
	while (cf.at_gate < count)
		cond_wait(&cf.changed, &cf.lock, WAIT_FOREVER);
}

unsigned int cf_gets(void)
{
	return __atomic_load_n(&cf.gets, __ATOMIC_RELAXED);
}

uint64_t cf_get_bytes(void)
{
	return __atomic_load_n(&cf.get_bytes, __ATOMIC_RELAXED);
}

void cf_serve(void)
{
	while (cache_step(cf.cache) == 0)
		;
}

uint64_t cf_allocated_bytes(unsigned int dir)
{
	char *path = cf_path(dir, "chunks");
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	free(path);
	return (uint64_t)st.st_blocks * 512;
}
