#include "tests/sim/allocs.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Never half full: an engine has some thousands at a time. */
#define SLOTS ((size_t)1 << 17)

struct note {
	const void *p;
	const char *name;
	const void *from;
	uint64_t number;
	size_t bytes;
};

static bool (*watcher)(void *arg, const char *name, uint64_t from);
static void *watcher_arg;
static struct note *notes; /* by p, open addressing; NULL: none are taken */
static size_t note_count;
static uint64_t note_number;

/* Where in the file of the program, before the call returns. */
static uint64_t in_program(const void *from)
{
	Dl_info info;

	if (!dladdr(from, &info))
		return 0;
	return (uint64_t)((uintptr_t)from - (uintptr_t)info.dli_fbase) - 1;
}

/* --- what is there ----------------------------------------------------------------------------- */

static size_t find(const void *p)
{
	size_t i = (size_t)(((uint64_t)(uintptr_t)p * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % SLOTS;

	while (notes[i].p && notes[i].p != p)
		i = (i + 1) % SLOTS;
	return i;
}

static void forget(const void *p)
{
	size_t hole;

	if (!notes || !p)
		return;
	hole = find(p);
	if (!notes[hole].p)
		return; /* from before the first note */
	notes[hole].p = NULL;
	note_count--;
	for (size_t i = (hole + 1) % SLOTS; notes[i].p; i = (i + 1) % SLOTS) {
		struct note n = notes[i]; /* moves up if a search would no longer reach it */

		notes[i].p = NULL;
		notes[find(n.p)] = n;
	}
}

static void *note(void *p, size_t bytes, const char *name, const void *from)
{
	size_t i;

	if (!notes || !p)
		return p;
	forget(p); /* somebody else has freed what was there */
	ASSERT(note_count < SLOTS / 2);
	i = find(p);
	note_count++;
	notes[i] = (struct note){
		.p = p, .name = name, .from = from, .number = ++note_number, .bytes = bytes
	};
	return p;
}

void allocs_note(void)
{
	notes = calloc(SLOTS, sizeof(*notes));
	ASSERT(notes);
}

uint64_t allocs_mark(void)
{
	return note_number;
}

size_t allocs_left(uint64_t mark)
{
	size_t left = 0;

	for (size_t i = 0; notes && i < SLOTS; i++) {
		const struct note *n = &notes[i];

		if (!n->p || n->number <= mark)
			continue;
		fprintf(stderr, "not freed: %zu bytes, %s at 0x%" PRIx64 "\n", n->bytes, n->name,
			in_program(n->from));
		left++;
	}
	return left;
}

/* --- what fails -------------------------------------------------------------------------------- */

void allocs_watch(bool (*fn)(void *arg, const char *name, uint64_t from), void *arg)
{
	watcher = fn;
	watcher_arg = arg;
}

static bool fails(const char *name, const void *from)
{
	if (!watcher || !watcher(watcher_arg, name, in_program(from)))
		return false;
	errno = ENOMEM;
	return true;
}

/* --- in place of the C library's --------------------------------------------------------------- */

#define FROM __builtin_return_address(0)

/* The names that allocs.syms gives them; nobody calls them by these. */
void *counted_malloc(size_t bytes);
void *counted_calloc(size_t count, size_t bytes);
void *counted_realloc(void *p, size_t bytes);
void *counted_reallocarray(void *p, size_t count, size_t bytes);
void *counted_aligned_alloc(size_t align, size_t bytes);
int counted_posix_memalign(void **ret_p, size_t align, size_t bytes);
char *counted_strdup(const char *s);
char *counted_strndup(const char *s, size_t max);
int counted_asprintf(char **ret_s, const char *fmt, ...) PRINTF_LIKE(2, 3);
int counted_asprintf_chk(char **ret_s, int flag, const char *fmt, ...) PRINTF_LIKE(3, 4);

void *counted_malloc(size_t bytes)
{
	return fails("malloc", FROM) ? NULL : note(malloc(bytes), bytes, "malloc", FROM);
}

void *counted_calloc(size_t count, size_t bytes)
{
	if (fails("calloc", FROM))
		return NULL;
	return note(calloc(count, bytes), count * bytes, "calloc", FROM);
}

static void *resize(void *old, size_t count, size_t bytes, const char *name, const void *from)
{
	if (fails(name, from))
		return NULL; /* what was there stays */
	forget(old);
	return note(reallocarray(old, count, bytes), count * bytes, name, from);
}

void *counted_realloc(void *p, size_t bytes)
{
	return resize(p, 1, bytes, "realloc", FROM);
}

void *counted_reallocarray(void *p, size_t count, size_t bytes)
{
	return resize(p, count, bytes, "reallocarray", FROM);
}

void *counted_aligned_alloc(size_t align, size_t bytes)
{
	if (fails("aligned_alloc", FROM))
		return NULL;
	return note(aligned_alloc(align, bytes), bytes, "aligned_alloc", FROM);
}

int counted_posix_memalign(void **ret_p, size_t align, size_t bytes)
{
	int r = fails("posix_memalign", FROM) ? ENOMEM : posix_memalign(ret_p, align, bytes);

	if (r == 0)
		(void)note(*ret_p, bytes, "posix_memalign", FROM);
	return r;
}

char *counted_strdup(const char *s)
{
	return fails("strdup", FROM) ? NULL : note(strdup(s), strlen(s) + 1, "strdup", FROM);
}

char *counted_strndup(const char *s, size_t max)
{
	if (fails("strndup", FROM))
		return NULL;
	return note(strndup(s, max), strnlen(s, max) + 1, "strndup", FROM);
}

static int print(char **ret_s, const char *fmt, va_list args, const void *from)
	__attribute__((format(printf, 2, 0)));

static int print(char **ret_s, const char *fmt, va_list args, const void *from)
{
	int n = fails("asprintf", from) ? -1 : vasprintf(ret_s, fmt, args);

	if (n >= 0)
		(void)note(*ret_s, (size_t)n + 1, "asprintf", from);
	return n;
}

int counted_asprintf(char **ret_s, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = print(ret_s, fmt, args, FROM);
	va_end(args);
	return n;
}

int counted_asprintf_chk(char **ret_s, int flag, const char *fmt, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, fmt);
	n = print(ret_s, fmt, args, FROM);
	va_end(args);
	return n;
}

void allocs_free(void *p)
{
	forget(p);
	free(p);
}
