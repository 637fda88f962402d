/*
 * units - sizes and times as people write them: "64M", "512KiB", "4096"; "30s", "250ms", "2".
 *
 * Numbers are whole and decimal, without sign, blanks or fraction. K, M, G, T, P mean powers of
 * 1024, either case, alone or as KiB; "B" alone is bytes. Decimal units (KB, MB) are refused, since
 * people disagree about them. Times: ns, us, ms, s, m (minutes), h, d; a bare number is seconds.
 */
#ifndef COMMON_UNITS_H
#define COMMON_UNITS_H

#include "common/base.h"

#define UNITS_TEXT_BYTES 32 /* enough for what the formatters below write, NUL included */

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

#define NS_PER_US   UINT64_C(1000)
#define NS_PER_MS   UINT64_C(1000000)
#define NS_PER_SEC  UINT64_C(1000000000)
#define NS_PER_MIN  (60 * NS_PER_SEC)
#define NS_PER_HOUR (60 * NS_PER_MIN)
#define NS_PER_DAY  (24 * NS_PER_HOUR)

/*
 * Errors:   -EINVAL no number, or an unknown unit; -ERANGE more than 64 bits. *ret_* untouched.
 * Threads:  any.
 */
NODISCARD int size_parse(const char *s, uint64_t *ret_bytes);
NODISCARD int time_parse(const char *s, uint64_t *ret_ns);

/* A plain decimal number, under the same rules. */
NODISCARD int u64_parse(const char *s, uint64_t *ret_value);

/*
 * Write a value exactly, in the largest unit that has no fraction: 16777216 is "16M", 1000 "1000",
 * 90 s "90s". What comes out parses to the same value.
 *
 * Owns:     text is the caller's, at least UNITS_TEXT_BYTES; it is also what is returned.
 */
const char *size_format(uint64_t bytes, char text[UNITS_TEXT_BYTES]);
const char *time_format(uint64_t ns, char text[UNITS_TEXT_BYTES]);

#endif
