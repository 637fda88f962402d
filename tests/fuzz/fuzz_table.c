/* The holder's table of requests that are not answered yet, as an older program may have left it,
 * and what a worker does with it. */
#include "fs/resume.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The list of free slots, and that of witnesses: 12 bytes for a slot of 64. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 8 << 10, .per_input_byte = 2 };

/* Slots begin behind the header's page; an input lacks what is zero between them. */
enum { HEADER_BYTES = 4096 };
#define SLOTS 3u

static int table(void)
{
	struct err e = { 0 };
	int fd = -1;

	FUZZ_EXPECT(resume_make(SLOTS, &fd, &e) == 0);
	return fd;
}

static void seed(int fd)
{
	uint8_t bytes[sizeof(struct resume_header) + SLOTS * sizeof(struct resume_slot)];

	FUZZ_EXPECT(pread(fd, bytes, sizeof(struct resume_header), 0) ==
		    (ssize_t)sizeof(struct resume_header));
	FUZZ_EXPECT(pread(fd, bytes + sizeof(struct resume_header),
			  SLOTS * sizeof(struct resume_slot),
			  HEADER_BYTES) == (ssize_t)(SLOTS * sizeof(struct resume_slot)));
	fuzz_seed(0, bytes, sizeof(bytes));
}

void fuzz_seeds(void)
{
	int fd = table();
	struct resume *r = NULL;
	struct resume_slot *slot;
	struct err e = { 0 };
	bool known;

	seed(fd);
	FUZZ_EXPECT(resume_open(fd, &r, &e) == 0);
	slot = resume_begin(r, 6, &known);
	FUZZ_EXPECT(slot && resume_begin(r, 8, &known));
	slot->witness.lsn = 5;
	r->header->init_bytes = 104;
	r->header->init_answered = 1;
	seed(fd);
	resume_close(r);
	(void)close(fd);
}

/* Of the requests of an earlier worker every second was answered. */
static bool is_open(void *arg, uint64_t unique)
{
	(void)arg;
	return unique & 2;
}

static void use(struct resume *r)
{
	struct volume_witness **witnesses = NULL;
	struct resume_slot *slot;
	uint32_t slots = r->header->slot_count;
	unsigned int left, taken = 0;
	size_t count = 0;
	bool known;

	FUZZ_EXPECT(r->free_count <= slots && r->header->init_bytes <= RESUME_INIT_BYTES_MAX);
	FUZZ_EXPECT(resume_witnesses(r, &witnesses, &count) == 0);
	FUZZ_EXPECT(count <= slots);
	for (size_t i = 0; i < count; i++)
		FUZZ_EXPECT(witnesses[i]->lsn != 0);
	free(witnesses);
	left = resume_settle(r, is_open, NULL);
	FUZZ_EXPECT(left + r->free_count == slots);
	slot = resume_begin(r, 6 | RESUME_RESENT, &known);
	FUZZ_EXPECT(slot || r->free_count == 0);
	if (slot)
		FUZZ_EXPECT(resume_slot_number(r, slot) < slots);
	while ((slot = resume_begin(r, 12, &known)))
		FUZZ_EXPECT(!known && ++taken <= slots);
	resume_drained(r);
	resume_forget(r->header);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	size_t head_bytes;
	struct resume *r = NULL;
	struct err e = { 0 };
	int fd = memfd_create("fuzz", MFD_CLOEXEC), rc;

	(void)fuzz_word(&in, &len_bytes);
	head_bytes = min_u64(len_bytes, sizeof(struct resume_header));
	FUZZ_EXPECT(fd >= 0);
	FUZZ_EXPECT(ftruncate(fd, len_bytes >= sizeof(struct resume_header) ?
					  (off_t)(HEADER_BYTES + len_bytes - head_bytes) :
					  (off_t)len_bytes) == 0);
	FUZZ_EXPECT(pwrite(fd, in, head_bytes, 0) == (ssize_t)head_bytes);
	FUZZ_EXPECT(pwrite(fd, in + head_bytes, len_bytes - head_bytes, HEADER_BYTES) ==
		    (ssize_t)(len_bytes - head_bytes));
	rc = resume_open(fd, &r, &e);
	if (rc < 0) {
		FUZZ_EXPECT(rc == -EUCLEAN || rc == -EPROTONOSUPPORT);
		FUZZ_EXPECT(e.code == rc && e.message[0] != '\0');
	} else {
		use(r);
		resume_close(r);
	}
	(void)close(fd);
}
