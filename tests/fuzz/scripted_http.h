/*
 * scripted_http - the HTTP client of backend/http.h, whose every answer is taken from an input: the
 * stores above it are run whole, their requests go nowhere.
 *
 * An input is answers, one behind the other, with a byte 0xff between. An answer is a letter for its
 * status, lines "name: value", an empty line, the body.
 */
#ifndef TESTS_FUZZ_SCRIPTED_HTTP_H
#define TESTS_FUZZ_SCRIPTED_HTTP_H

#include "common/base.h"

/* What will be answered from now on; borrowed. At its end nothing is connected (-EAGAIN). */
void scripted_http_set(const uint8_t *in, size_t len_bytes);

/* The letter for a status; the status has to be one that scripted_http.c lists. */
char scripted_http_letter(int status);

#endif
