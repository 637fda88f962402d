/*
 * engine_tools - what bench_engine measures with: stamped data, counted allocations, CPU time,
 * bytes written to the device. For engine.c only.
 */
#ifndef TESTS_BENCH_ENGINE_TOOLS_H
#define TESTS_BENCH_ENGINE_TOOLS_H

#include "common/base.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- allocations ------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef COUNTS_ALLOCATIONS
#define COUNTS_ALLOCATIONS 1
#endif

static uint64_t allocations; /* atomic: of the whole process */
static __thread uint64_t my_allocations;

#if COUNTS_ALLOCATIONS
/* glibc's own names of what we put ourselves in front of. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

static void count_allocation(void)
{
	my_allocations++;
	(void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	count_allocation();
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	count_allocation();
	return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	count_allocation();
	return __libc_realloc(p, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
	void *p;

	count_allocation();
	p = __libc_memalign(align, size);
	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}

void *aligned_alloc(size_t align, size_t size)
{
	count_allocation();
	return __libc_memalign(align, size);
}
#endif

/* --- data that says what it is ----------------------------------------------------------------- */

#define SECTOR_BYTES 512u

struct stamp {
	uint64_t object;
	uint64_t sector; /* address / 512 */
	uint64_t generation;
};

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void fill_random(uint8_t *buf, size_t len_bytes, uint64_t *state)
{
	for (size_t i = 0; i < len_bytes; i += sizeof(uint64_t)) {
		uint64_t word = next_random(state);

		memcpy(buf + i, &word, sizeof(word));
	}
}

static void stamp_put(uint8_t *buf, size_t len_bytes, uint64_t object, uint64_t offset_bytes,
		      uint64_t generation)
{
	for (size_t i = 0; i < len_bytes; i += SECTOR_BYTES) {
		struct stamp s = { object, (offset_bytes + i) / SECTOR_BYTES, generation };

		memcpy(buf + i, &s, sizeof(s));
	}
}

/* Whether every sector is of this generation; 0: it was never written. */
static bool stamp_is(const uint8_t *buf, size_t len_bytes, uint64_t object, uint64_t offset_bytes,
		     uint64_t generation)
{
	for (size_t i = 0; i < len_bytes; i += SECTOR_BYTES) {
		struct stamp want = { object, (offset_bytes + i) / SECTOR_BYTES, generation };

		if (generation == 0)
			want = (struct stamp){ 0 };
		if (memcmp(buf + i, &want, sizeof(want)) != 0)
			return false;
	}
	return true;
}

/* --- what the machine counts ------------------------------------------------------------------- */

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* --- CPU by thread ----------------------------------------------------------------------------- */

/* Seconds on a CPU of all threads of one name, of those that live. */
struct thread_cpu {
	char name[32];
	double seconds;
};
#define THREAD_NAMES_MAX 32u

static void read_line(const char *path, char *line, int size)
{
	FILE *f = fopen(path, "re");

	line[0] = '\0';
	if (!f)
		return; /* the thread ended */
	if (!fgets(line, size, f))
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	(void)fclose(f);
}

/* Fills cpu[THREAD_NAMES_MAX] and returns how many there are. */
static unsigned int threads_cpu(struct thread_cpu *cpu)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;
	unsigned int count = 0, i;

	while (tasks && (task = readdir(tasks))) {
		char path[320], name[32], line[128];

		if (task->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		read_line(path, name, sizeof(name));
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", task->d_name);
		read_line(path, line, sizeof(line));
		for (i = 0; i < count && strcmp(cpu[i].name, name) != 0; i++)
			continue;
		if (i == THREAD_NAMES_MAX)
			continue;
		if (i == count) {
			cpu[count] = (struct thread_cpu){ .seconds = 0 };
			memcpy(cpu[count++].name, name, sizeof(name));
		}
		cpu[i].seconds += strtod(line, NULL) / 1e9;
	}
	if (tasks)
		(void)closedir(tasks);
	return count;
}

static double cpu_seconds(int who)
{
	struct rusage u;

	ASSERT(getrusage(who, &u) == 0);
	return seconds_of(&u.ru_utime) + seconds_of(&u.ru_stime);
}

/* Bytes written so far to the device that holds a path; 0 where the kernel does not say. */
static uint64_t device_written_bytes(const char *path)
{
	unsigned long long sectors = 0;
	char name[64];
	struct stat st;
	FILE *f;

	if (stat(path, &st) < 0)
		return 0;
	(void)snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/stat", major(st.st_dev),
		       minor(st.st_dev));
	f = fopen(name, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
		sectors = 0;
	(void)fclose(f);
	return (uint64_t)sectors * SECTOR_BYTES;
}

/* A line of /proc/self/status, in bytes. */
static uint64_t status_bytes(const char *key)
{
	unsigned long long kib = 0;
	size_t len = strlen(key);
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, len) == 0 && line[len] == ':' &&
		    sscanf(line + len + 1, "%llu", &kib) == 1)
			break;
	(void)fclose(f);
	return (uint64_t)kib << 10;
}

/* --- directories ------------------------------------------------------------------------------- */

static int remove_one(const char *path, UNUSED const struct stat *st, UNUSED int flag,
		      UNUSED struct FTW *ftw)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	if (nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		(void)fprintf(stderr, "bench_engine: '%s' stays behind\n", path);
}

#endif
