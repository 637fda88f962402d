/*
 * Power cuts at any call of the directory store, on the simulated machine: two clients put, claim,
 * link and delete; after each cut every object must be whole and hold what was last answered, or
 * what was under way. Lies about syncing show that a broken promise would be found.
 */
#include "backend/backend.h"
#include "common/crc32c.h"
#include "common/thread.h"
#include "tests/sim/sim.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_COUNT	12u
#define CLIENT_COUNT	2u
#define CUTS_MAX	6u
#define VALUE_BYTES_MAX 30008u

/* Switching coroutines costs ThreadSanitizer a hundred times as much, and one thread races nobody. */
#if defined(__SANITIZE_THREAD__)
#define SEEDS_PER_TEST 4u
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SEEDS_PER_TEST 4u
#endif
#endif
#ifndef SEEDS_PER_TEST
#define SEEDS_PER_TEST 40u
#endif

/* Objects are numbered; an object's bytes follow from its value, and value 0 is "absent". */
struct slot {
	uint32_t acked;
	uint32_t pending; /* what an operation under way would leave */
	bool is_busy;
};

struct test {
	struct sim *sim;
	enum backend_copy_mode copy_mode;
	struct backend *b;
	struct slot slots[NAME_COUNT]; /* two clients, each its half: no locks needed */
	uint32_t value_last;
	unsigned int puts_acked;
	char fault[200]; /* the first broken promise; empty: none */
};

struct client {
	struct test *t;
	unsigned int first;
};

static void name_of(unsigned int slot, char ret_name[32])
{
	/* Shared and own directories, deep and flat. */
	static const char *const dirs[] = { "s/a/", "s/b/", "t/", "" };

	(void)snprintf(ret_name, 32, "%s%u", dirs[slot % ARRAY_SIZE(dirs)], slot);
}

static size_t value_bytes(uint32_t value)
{
	return value * 7919u % 30000u + 8u;
}

static void value_fill(uint32_t value, uint8_t *dst)
{
	memcpy(dst, &value, sizeof(value));
	for (size_t i = sizeof(value); i < value_bytes(value); i++)
		dst[i] = (uint8_t)((size_t)value * 31u + i * 7u);
}

static void PRINTF_LIKE(2, 3) broken(struct test *t, const char *fmt, ...)
{
	va_list args;

	if (t->fault[0] != '\0')
		return;
	va_start(args, fmt);
	(void)vsnprintf(t->fault, sizeof(t->fault), fmt, args);
	va_end(args);
}

/* The value of an object; 0 when it is absent or (told to the test) damaged. */
static uint32_t look(struct test *t, const char *name)
{
	static uint8_t got[VALUE_BYTES_MAX], wanted[VALUE_BYTES_MAX];
	struct backend_object object;
	struct err e;
	uint32_t value;
	int r = backend_head(t->b, name, &object, &e);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && (object.len_bytes < 8 || object.len_bytes > sizeof(got))) {
		broken(t, "'%s' has %" PRIu64 " bytes", name, object.len_bytes);
		return 0;
	}
	if (r == 0)
		r = backend_get(t->b, name, 0, got, (size_t)object.len_bytes, &e);
	if (r < 0) {
		broken(t, "reading '%s': %s", name, e.message);
		return 0;
	}
	memcpy(&value, got, sizeof(value));
	value_fill(value, wanted);
	if (value_bytes(value) != object.len_bytes || memcmp(got, wanted, value_bytes(value)) != 0)
		broken(t, "'%s' is torn", name);
	return value;
}

static void check_all(struct test *t)
{
	for (unsigned int i = 0; i < NAME_COUNT; i++) {
		struct slot *slot = &t->slots[i];
		uint32_t value;
		char name[32];

		name_of(i, name);
		value = look(t, name);
		if (value != slot->acked && !(slot->is_busy && value == slot->pending))
			broken(t, "'%s' holds %u, not %u", name, value, slot->acked);
		*slot = (struct slot){ .acked = value };
	}
}

static int do_delete(struct test *t, struct slot *slot, const char *name)
{
	int r;

	slot->pending = 0;
	slot->is_busy = true;
	r = backend_delete(t->b, name, NULL);
	if (r == 0)
		*slot = (struct slot){ .acked = 0 };
	return r;
}

static int do_put(struct test *t, struct slot *slot, const char *name, unsigned int flags,
		  bool from_file)
{
	struct env *env = sim_env(t->sim);
	uint32_t value = ++t->value_last;
	uint8_t *data = malloc(VALUE_BYTES_MAX);
	struct backend_source source = { .len_bytes = value_bytes(value), .has_crc = true };
	char path[64];
	int r = 0;

	value_fill(value, data);
	source.crc32c = crc32c(0, data, value_bytes(value));
	(void)snprintf(path, sizeof(path), "/pool/cache/%u", value);
	if (from_file) {
		source.file_path = path;
		r = env_open(env, path, ENV_READ | ENV_WRITE | ENV_CREATE, &source.file);
		if (r == 0) /* not synced: the store has to see to it */
			r = env_pwrite(env, source.file, data, value_bytes(value), 0);
		ck_assert_int_eq(r, 0);
	} else {
		source.data = data;
	}
	slot->pending = value;
	slot->is_busy = true;
	r = backend_put(t->b, name, &source, flags, NULL, NULL);
	if (r == 0) {
		if (flags != 0 && slot->acked != 0)
			broken(t, "a claim of '%s' won over %u", name, slot->acked);
		*slot = (struct slot){ .acked = value };
		t->puts_acked++;
	} else if (r == -EEXIST && flags != 0 && slot->acked != 0) {
		slot->is_busy = false;
		r = 0;
	}
	if (source.file) {
		env_close(env, source.file);
		ck_assert_int_eq(env_unlink(env, path), 0);
	}
	free(data);
	return r;
}

static void client_run(void *arg)
{
	struct client *client = arg;
	struct test *t = client->t;

	for (unsigned int round = 0; round < 40; round++) {
		unsigned int i =
			client->first + (unsigned int)sim_rand(t->sim, NAME_COUNT / CLIENT_COUNT);
		struct slot *slot = &t->slots[i];
		char name[32];
		int r = 0;

		name_of(i, name);
		switch (sim_rand(t->sim, 4)) {
		case 0:
			r = do_delete(t, slot, name);
			break;
		case 1:
			r = do_put(t, slot, name, BACKEND_PUT_IF_ABSENT, false);
			break;
		case 2:
			r = do_put(t, slot, name, 0, false);
			break;
		default:
			r = do_put(t, slot, name, 0, true);
			break;
		}
		if (r < 0)
			broken(t, "an operation on '%s' failed: %d", name, r);
	}
}

/* One process of the machine: see what the last one left, then go on. */
static void process(void *arg)
{
	struct test *t = arg;
	struct backend_options options = { .copy_mode = t->copy_mode };
	struct client clients[CLIENT_COUNT];
	struct thread *threads[CLIENT_COUNT];
	struct err e;
	int r = env_mkdir(sim_env(t->sim), "/pool/cache");

	ck_assert(r == 0 || r == -EEXIST);
	r = backend_open(sim_env(t->sim), "file:///pool/objects", &options, &t->b, &e);
	if (r < 0) {
		broken(t, "opening: %s", e.message);
		return;
	}
	check_all(t);
	for (unsigned int i = 0; i < CLIENT_COUNT; i++) {
		clients[i] = (struct client){ .t = t, .first = i * (NAME_COUNT / CLIENT_COUNT) };
		ck_assert_int_eq(thread_start("client", client_run, &clients[i], &threads[i]), 0);
	}
	for (unsigned int i = 0; i < CLIENT_COUNT; i++)
		thread_join(threads[i]);
	backend_close(t->b);
}

/* One machine with several power cuts, the last of them when all is idle. */
static void run_seed(struct test *t, uint64_t seed, const struct sim_faults *faults)
{
	enum sim_result result;
	unsigned int cuts = 0;

	t->sim = sim_new(seed, NULL);
	sim_add_device(t->sim, "/pool", 64u << 20, seed % 3 == 0 ? SIM_DEV_REFLINK : 0);
	sim_set_faults(t->sim, faults);
	do {
		sim_crash_at(t->sim, 1 + sim_rand(t->sim, 500), SIM_POWER);
		result = sim_run(t->sim, process, t);
	} while (result == SIM_CRASHED && ++cuts < CUTS_MAX && t->fault[0] == '\0');
	sim_crash_cancel(t->sim);
	sim_crash_now(t->sim, SIM_POWER);
	if (t->fault[0] == '\0')
		(void)sim_run(t->sim, process, t);
	sim_check(t->sim);
	sim_free(t->sim);
}

static uint64_t seed_of(int i, unsigned int s)
{
	return 1 + (uint64_t)i * SEEDS_PER_TEST + s;
}

START_TEST(no_power_cut_loses_or_tears_an_object)
{
	unsigned int puts_acked = 0;

	for (unsigned int s = 0; s < SEEDS_PER_TEST; s++) {
		struct test t = { .copy_mode = (enum backend_copy_mode)(_i % 3) };

		run_seed(&t, seed_of(_i, s), NULL);
		ck_assert_msg(t.fault[0] == '\0', "seed %" PRIu64 ": %s", seed_of(_i, s), t.fault);
		puts_acked += t.puts_acked;
	}
	ck_assert_uint_gt(puts_acked, UINT64_C(10) * SEEDS_PER_TEST); /* it did work, too */
}
END_TEST

static unsigned int faults_found(const struct sim_faults *faults)
{
	unsigned int found = 0;

	for (unsigned int s = 0; s < SEEDS_PER_TEST; s++) {
		struct test t = { .copy_mode = BACKEND_COPY_BYTES };

		run_seed(&t, seed_of(0, s), faults);
		found += t.fault[0] != '\0';
	}
	return found;
}

START_TEST(a_disk_that_lies_about_syncing_is_found_out)
{
	ck_assert_uint_gt(faults_found(&(struct sim_faults){ .lie_data_ppm = 500000 }), 0);
	ck_assert_uint_gt(faults_found(&(struct sim_faults){ .lie_dir_ppm = 500000 }), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/backend_file_power");
	TCase *tc = tcase_create("simulated");
	SRunner *runner;
	int failed;

	sim_catch_aborts();
	tcase_add_loop_test(tc, no_power_cut_loses_or_tears_an_object, 0, 6);
	tcase_add_test(tc, a_disk_that_lies_about_syncing_is_found_out);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
