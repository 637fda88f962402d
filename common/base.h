/*
 * base - the few words that every file uses: attributes, assertions, scope cleanup, arithmetic.
 * No domain words live in common/.
 */
#ifndef COMMON_BASE_H
#define COMMON_BASE_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD	   __attribute__((warn_unused_result))
#define PRINTF_LIKE(a, b)  __attribute__((format(printf, a, b)))
#define NORETURN	   __attribute__((noreturn))
#define UNUSED		   __attribute__((unused))
#define AUTO(fn)	   __attribute__((cleanup(fn)))
#define LIKELY(x)	   __builtin_expect(!!(x), 1)
#define UNLIKELY(x)	   __builtin_expect(!!(x), 0)
#define STATIC_ASSERT(...) _Static_assert(__VA_ARGS__)
#define ARRAY_SIZE(a)	   (sizeof(a) / sizeof((a)[0]))

/* A scope destructor for "struct x *" out of x_free(struct x *), used as AUTO(x_freep). */
#define DEFINE_FREEP(type, fn)                                                                     \
	static inline UNUSED void fn##p(type **p)                                                  \
	{                                                                                          \
		fn(*p);                                                                            \
	}

/* Hand over a pointer or descriptor that a scope would otherwise clean up. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

/* clang-format off */
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
/* clang-format on */

/* Our own bugs end the process: a restart is a tested path. Never used on outside bytes. */
NORETURN void assert_failed(const char *expr, const char *file, int line);
#define ASSERT(x)                                                                                  \
	do {                                                                                       \
		if (UNLIKELY(!(x)))                                                                \
			assert_failed(#x, __FILE__, __LINE__);                                     \
	} while (0)

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
/* Not below 0. */
static inline uint64_t less_u64(uint64_t a, uint64_t b)
{
	return a - min_u64(a, b);
}
static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}
static inline uint64_t div_up_u64(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}
static inline uint64_t round_up_u64(uint64_t a, uint64_t b)
{
	return div_up_u64(a, b) * b;
}

#endif
