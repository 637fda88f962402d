/*
 * store_calls - each operation of a store over answers of an input, and what must hold of its results
 * whatever was answered. For fuzz_s3.c and fuzz_swift.c.
 */
#ifndef TESTS_FUZZ_STORE_CALLS_H
#define TESTS_FUZZ_STORE_CALLS_H

#include "backend/backend_impl.h"

enum store_call {
	STORE_LIST,
	STORE_GET,
	STORE_HEAD,
	STORE_PUT,
	STORE_PUT_IF_ABSENT,
	STORE_PUT_BIG,
	STORE_DELETE,
	STORE_DELETE_MANY,
	STORE_CALLS
};

/* Answers are set by the caller. */
void store_call(struct store *s, enum store_call call);

/* One seed: the control word, and answers as printf makes them. */
void store_seed(uint8_t word, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
