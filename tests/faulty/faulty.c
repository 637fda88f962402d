#include "tests/faulty/faulty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <unwind.h>

#define VARIABLE "VPOOL_FAULTY"

/* Of the program's code, by the linker. */
extern const char __executable_start[], __etext[]; // NOLINT

static struct faulty_file *file; /* NULL: nothing fails */

/* --- who called -------------------------------------------------------------------------------- */

struct walk {
	uintptr_t from;
	bool found;
	unsigned int count, want;
	uint64_t frame[FAULTY_FRAMES];
};

/*
 * From the return address of the call on, which may lie in a library that calls us (jansson); of what
 * is behind it only the program's own counts, and no more once that called somebody else.
 */
static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *arg)
{
	struct walk *w = arg;
	uintptr_t ip = _Unwind_GetIP(context);

	w->found |= ip == w->from;
	if (!w->found)
		return _URC_NO_REASON;
	if (ip < (uintptr_t)__executable_start || ip >= (uintptr_t)__etext)
		return w->count ? _URC_END_OF_STACK : _URC_NO_REASON;
	w->frame[w->count++] = ip - (uintptr_t)__executable_start;
	return w->count < w->want ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static uint64_t mixed(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ (hash >> 29);
}

static uint64_t key_of(const char *name, const struct walk *w)
{
	uint64_t key = 1;

	for (; *name; name++)
		key = mixed(key, (uint8_t)*name);
	for (unsigned int i = 0; i < w->count && i < file->head.frames; i++)
		key = mixed(key, w->frame[i]);
	return key ? key : 1;
}

/* --- what is noted ----------------------------------------------------------------------------- */

static void fill(struct faulty_entry *e, const struct faulty_call *call, const struct walk *w)
{
	while (call->error[e->variants])
		e->variants++;
	memcpy(e->frame, w->frame, sizeof(e->frame));
	memcpy(e->name, call->name, strnlen(call->name, sizeof(e->name) - 1));
	(void)prctl(PR_GET_NAME, e->thread);
	__atomic_store_n(&e->frame_count, w->count, __ATOMIC_SEQ_CST);
}

static void note(const struct faulty_call *call, const struct walk *w, uint64_t key)
{
	for (size_t i = 0; i < FAULTY_ENTRIES; i++) {
		struct faulty_entry *e = &file->entry[(key + i) % FAULTY_ENTRIES];
		uint64_t was = 0;

		if (__atomic_compare_exchange_n(&e->key, &was, key, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			fill(e, call, w);
		else if (was != key)
			continue;
		(void)__atomic_add_fetch(&e->hits, 1, __ATOMIC_SEQ_CST);
		return;
	}
	(void)__atomic_add_fetch(&file->head.lost, 1, __ATOMIC_SEQ_CST);
}

static bool fires(const struct faulty_call *call)
{
	struct faulty_head *h = &file->head;
	uint64_t n = __atomic_fetch_add(&h->hits, 1, __ATOMIC_SEQ_CST);

	if (n < h->hit || n - h->hit >= h->times)
		return false;
	if (__atomic_fetch_add(&h->fired, 1, __ATOMIC_SEQ_CST) == 0)
		h->pid = (uint32_t)getpid();
	errno = call->error[h->variant];
	return true;
}

bool faulty_now(const struct faulty_call *call, const void *from)
{
	struct walk w = { .from = (uintptr_t)from };
	uint32_t mode = file ? __atomic_load_n(&file->head.mode, __ATOMIC_RELAXED) : 0;
	uint64_t key;

	if (mode == FAULTY_NOTHING)
		return false;
	/* Most calls are another one. */
	if (mode == FAULTY_FAIL && strcmp(call->name, file->head.name) != 0)
		return false;
	w.want = mode == FAULTY_NOTE ? FAULTY_FRAMES : (unsigned int)file->head.frames;
	(void)_Unwind_Backtrace(step, &w);
	key = key_of(call->name, &w);
	if (mode == FAULTY_FAIL)
		return key == file->head.key && fires(call);
	note(call, &w, key);
	return false;
}

__attribute__((constructor)) static void open_file(void)
{
	const char *path = getenv(VARIABLE);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *mem;

	if (!path)
		return;
	mem = fd < 0 ? MAP_FAILED :
		       mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED || ((struct faulty_file *)mem)->head.magic != FAULTY_MAGIC) {
		fprintf(stderr, "%s='%s' is none of its files\n", VARIABLE, path);
		abort();
	}
	(void)close(fd);
	file = mem;
}
