/* scale - repetitions: fewer where ThreadSanitizer makes everything many times slower. */
#ifndef TESTS_SUPPORT_SCALE_H
#define TESTS_SUPPORT_SCALE_H

#if defined(__SANITIZE_THREAD__)
#define TEST_SCALE(n) ((n) / 4)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_SCALE(n) ((n) / 4)
#endif
#endif
#ifndef TEST_SCALE
#define TEST_SCALE(n) (n)
#endif

#endif
