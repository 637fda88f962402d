#include "tests/contract/support_backend.h"

#include "common/crc32c.h"

#include <check.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct contract fx;

/* ---- fixture ------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* One client of the store of this test. */
struct backend *contract_client_open(void)
{
	struct backend_options options = { .copy_mode = fx.variant->copy_mode,
					   .attempts_max = 100,
					   .timeout_ns = UINT64_C(60000000000),
					   .backoff_first_ns = 1000,
					   .backoff_max_ns = 50000 };
	struct backend *b = NULL;
	struct store *store = NULL;

	ck_assert_msg(store_open(fx.env, fx.url, &options, &store, &fx.e) == 0, "%s", fx.e.message);
	if (fx.variant->faults)
		ck_assert_int_eq(filter_fault_open(fx.env, store, fx.variant->faults, &store), 0);
	ck_assert_int_eq(backend_open_over(fx.env, store, fx.url, &options, &b, &fx.e), 0);
	return b;
}

/* Give this test a prefix of its own in the store of "scheme://place?query". */
static void set_network_url(const char *prefix)
{
	const char *url = getenv(fx.variant->url_variable);
	int place_bytes;

	ck_assert_msg(url, "%s is not set: run this by tests/peers/run_with_swift",
		      fx.variant->url_variable);
	place_bytes = (int)strcspn(url, "?");
	(void)snprintf(fx.url, sizeof(fx.url), "%.*s/%s%s%s", place_bytes, url, prefix,
		       url + place_bytes, fx.variant->url_more ? fx.variant->url_more : "");
}

void contract_setup(const struct variant *variant)
{
	char template[] = "contract-XXXXXX";

	fx.variant = variant;
	fx.env = env_posix();
	ck_assert_ptr_nonnull(mkdtemp(template));
	ck_assert_ptr_nonnull(realpath(template, fx.dir));
	if (variant->is_file)
		(void)snprintf(fx.url, sizeof(fx.url), "file://%s/store", fx.dir);
	else if (variant->url_variable)
		set_network_url(template);
	else
		(void)snprintf(fx.url, sizeof(fx.url), "mem:%s", template);
	fx.b = contract_client_open();
}

void contract_teardown(void)
{
	backend_close(fx.b);
	if (!fx.variant->is_file && !fx.variant->url_variable)
		backend_mem_forget(fx.url + strlen("mem:"));
	ck_assert_int_eq(nftw(fx.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Bytes that differ from seed to seed and from place to place. */
uint8_t *contract_pattern(size_t len_bytes, uint32_t seed)
{
	uint8_t *p = malloc(len_bytes + 1);
	uint32_t x = seed * 2654435761u + 1;

	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < len_bytes; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (uint8_t)(x >> 24);
	}
	return p;
}

int contract_put(const char *name, const void *data, size_t len_bytes)
{
	struct backend_source source = { .data = data,
					 .len_bytes = len_bytes,
					 .crc32c = crc32c(0, data, len_bytes),
					 .has_crc = true };
	struct backend_put_result result;

	return backend_put(fx.b, name, &source, 0, &result, &fx.e);
}

int contract_put_if_absent(const char *name, const void *data, size_t len_bytes)
{
	struct backend_source source = { .data = data, .len_bytes = len_bytes };
	struct backend_put_result result;

	return backend_put(fx.b, name, &source, BACKEND_PUT_IF_ABSENT, &result, &fx.e);
}

void contract_must_put(const char *name, const void *data, size_t len_bytes)
{
	int r = contract_put(name, data, len_bytes);

	ck_assert_msg(r == 0, "put '%s': %d %s", name, r, fx.e.message);
}

/* The object has exactly these bytes. */
void contract_must_hold(struct backend *b, const char *name, const void *expected, size_t len_bytes)
{
	struct backend_object object;
	uint8_t *got = malloc(len_bytes + 1);

	ck_assert_ptr_nonnull(got);
	ck_assert_msg(backend_head(b, name, &object, &fx.e) == 0, "%s", fx.e.message);
	ck_assert_uint_eq(object.len_bytes, len_bytes);
	ck_assert_msg(backend_get(b, name, 0, got, len_bytes, &fx.e) == 0, "%s", fx.e.message);
	ck_assert(len_bytes == 0 || memcmp(got, expected, len_bytes) == 0);
	free(got);
}

void contract_must_be_absent(const char *name)
{
	struct backend_object object;
	char byte;

	ck_assert_int_eq(backend_head(fx.b, name, &object, &fx.e), -ENOENT);
	ck_assert_int_eq(backend_get(fx.b, name, 0, &byte, 1, &fx.e), -ENOENT);
}

/* A file of the test's directory with these bytes. */
struct env_file *contract_source_file(const char *file_name, const void *data, size_t len_bytes,
				      char ret_path[PATH_MAX])
{
	struct env_file *file = NULL;

	ck_assert_int_lt(snprintf(ret_path, PATH_MAX, "%s/%s", fx.dir, file_name), PATH_MAX);
	ck_assert_int_eq(env_open(fx.env, ret_path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_TRUNC,
				  &file),
			 0);
	ck_assert_int_eq(env_pwrite(fx.env, file, data, len_bytes, 0), 0);
	return file;
}

static int keep_name(void *arg, const char *name, const struct backend_object *object)
{
	struct names *n = arg;

	if (n->stop_at > 0 && n->count == n->stop_at)
		return 77;
	ck_assert_uint_lt(n->count, NAMES_MAX);
	n->len_bytes[n->count] = object->len_bytes;
	n->name[n->count++] = strdup(name);
	return 0;
}

void contract_names_done(struct names *n)
{
	for (unsigned int i = 0; i < n->count; i++)
		free(n->name[i]);
	*n = (struct names){ .count = 0 };
}

int contract_list(const char *prefix, const char *after, unsigned int count_max, struct names *n)
{
	return backend_list(fx.b, prefix, after, count_max, keep_name, n, &fx.e);
}

void contract_must_list(const char *prefix, const char *after, const char *const *expected,
			unsigned int count)
{
	struct names n = { .count = 0 };

	ck_assert_int_eq(contract_list(prefix, after, NAMES_MAX, &n), (int)count);
	ck_assert_uint_eq(n.count, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_str_eq(n.name[i], expected[i]);
	contract_names_done(&n);
}
