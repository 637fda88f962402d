/*
 * fuzz - what every target of this directory is made of. A target is a file fuzz_<name>.c that
 * defines the three things below; fuzz.c has the rest: libFuzzer's door, the bound of memory, and
 * the seeds, which the program itself writes (fuzz_<name> --seeds=DIR) out of the encoders.
 *
 * A target shows more than that nothing crashes: what a decoder takes, its encoder gives back.
 * Checksums stop a fuzzer at once, so a bit of the input says whether the target puts them right
 * before it decodes (fuzz_word()).
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "common/base.h"

/*
 * Most memory on the heap at any moment of one input, what others allocate for us included: the bound
 * that the contract of the decoder states.
 */
struct fuzz_bound {
	size_t base_bytes;
	size_t per_input_byte;
};
extern const struct fuzz_bound fuzz_bound;

/* Call fuzz_seed() for each. */
void fuzz_seeds(void);
/* in has exactly len_bytes: a sanitizer sees a read behind it. */
void fuzz_one(const uint8_t *in, size_t len_bytes);

/* A seed of a control word and bytes. A seed with FUZZ_RESEAL is written without it, too. */
void fuzz_seed(uint8_t word, const void *bytes, size_t len_bytes);

/* Bits of the control word, the first byte of an input; the others are the target's. */
#define FUZZ_RESEAL 0x80u

/* Take the control word off an input; 0: it is empty. */
uint8_t fuzz_word(const uint8_t **in, size_t *len_bytes);
/* A copy of the input, cut or filled with zeros to want_bytes; freed by the caller. */
uint8_t *fuzz_copy(const uint8_t *in, size_t len_bytes, size_t want_bytes);

/* What must hold whatever came in; ends the process as a crash. */
NORETURN void fuzz_failed(const char *expr, const char *file, int line);
#define FUZZ_EXPECT(x)                                                                             \
	do {                                                                                       \
		if (UNLIKELY(!(x)))                                                                \
			fuzz_failed(#x, __FILE__, __LINE__);                                       \
	} while (0)

/* A decoder of ours refused: with a house code and words. */
struct err;
void fuzz_expect_refusal(int r, const struct err *e);
bool fuzz_same(const void *a, size_t a_bytes, const void *b, size_t b_bytes);

/* The library's doors, called by libFuzzer. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len_bytes);

#endif
