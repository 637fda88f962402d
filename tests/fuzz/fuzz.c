#include "fuzz.h"

#include "common/err.h"

#include <fcntl.h>
#include <sanitizer/allocator_interface.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fuzz_failed(const char *expr, const char *file, int line)
{
	(void)fprintf(stderr, "%s:%d: expected: %s\n", file, line, expr);
	abort();
}

bool fuzz_same(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	return a_bytes == b_bytes && (a_bytes == 0 || memcmp(a, b, a_bytes) == 0);
}

void fuzz_expect_refusal(int r, const struct err *e)
{
	FUZZ_EXPECT(r == -EBADMSG || r == -EUCLEAN || r == -EPROTONOSUPPORT);
	FUZZ_EXPECT(e->code == r && e->message[0] != '\0');
}

/* --- input ------------------------------------------------------------------------------------- */

uint8_t fuzz_word(const uint8_t **in, size_t *len_bytes)
{
	uint8_t word;

	if (*len_bytes == 0)
		return 0;
	word = **in;
	++*in;
	--*len_bytes;
	return word;
}

uint8_t *fuzz_copy(const uint8_t *in, size_t len_bytes, size_t want_bytes)
{
	uint8_t *copy = calloc(1, want_bytes > 0 ? want_bytes : 1);

	FUZZ_EXPECT(copy);
	if (min_u64(len_bytes, want_bytes) > 0)
		memcpy(copy, in, min_u64(len_bytes, want_bytes));
	return copy;
}

/* --- seeds ------------------------------------------------------------------------------------- */

static const char *seed_dir;
static unsigned int seed_count;

static void write_seed(uint8_t word, const void *bytes, size_t len_bytes)
{
	char path[4096];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/seed-%03u", seed_dir, seed_count++);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_EXPECT(fd >= 0);
	FUZZ_EXPECT(write(fd, &word, 1) == 1);
	FUZZ_EXPECT(write(fd, bytes, len_bytes) == (ssize_t)len_bytes);
	FUZZ_EXPECT(close(fd) == 0);
}

void fuzz_seed(uint8_t word, const void *bytes, size_t len_bytes)
{
	write_seed(word, bytes, len_bytes);
	if (word & FUZZ_RESEAL)
		write_seed((uint8_t)(word & ~FUZZ_RESEAL), bytes, len_bytes);
}

/* --- memory ------------------------------------------------------------------------------------ */

static _Atomic int64_t live_bytes, peak_bytes;

static void on_malloc(const volatile void *p, size_t len_bytes)
{
	int64_t now = atomic_fetch_add(&live_bytes, (int64_t)len_bytes) + (int64_t)len_bytes;
	int64_t peak = atomic_load(&peak_bytes);

	(void)p;
	while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {
	}
}

static void on_free(const volatile void *p)
{
	if (p)
		atomic_fetch_sub(&live_bytes, (int64_t)__sanitizer_get_allocated_size(
						      (const void *)(uintptr_t)p));
}

/* --- libFuzzer --------------------------------------------------------------------------------- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char option[] = "--seeds=";

	if (*argc == 2 && strncmp((*argv)[1], option, sizeof(option) - 1) == 0) {
		seed_dir = (*argv)[1] + sizeof(option) - 1;
		fuzz_seeds();
		exit(seed_count > 0 ? 0 : 1);
	}
	FUZZ_EXPECT(__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len_bytes)
{
	int64_t before = atomic_load(&live_bytes), used, allowed;

	atomic_store(&peak_bytes, before);
	fuzz_one(in, len_bytes);
	used = atomic_load(&peak_bytes) - before;
	allowed = (int64_t)(fuzz_bound.base_bytes + fuzz_bound.per_input_byte * len_bytes);
	if (used > allowed) {
		(void)fprintf(stderr,
			      "%" PRId64 " bytes of memory for an input of %zu: bound %" PRId64
			      "\n",
			      used, len_bytes, allowed);
		abort();
	}
	return 0;
}
