#include "fs/resume.h"

#include "common/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESUME_MAGIC   UINT64_C(0x31656d7573657276) /* "vresume1" */
#define RESUME_VERSION 1u
/* More than any configuration needs. */
#define SLOTS_MAX (1u << 20)
/* Slots begin on a page of their own. */
#define HEADER_BYTES 4096u

STATIC_ASSERT(sizeof(struct resume_header) <= HEADER_BYTES, "the header has its page");

static size_t table_bytes(uint32_t slot_count)
{
	return HEADER_BYTES + (size_t)slot_count * sizeof(struct resume_slot);
}

int resume_make(uint32_t slot_count, int *ret_fd, struct err *e)
{
	struct resume_header h = {
		.magic = RESUME_MAGIC,
		.version = RESUME_VERSION,
		.slot_count = slot_count,
		.holder = (int32_t)getpid(),
	};
	int fd = memfd_create("vpool-resume", MFD_CLOEXEC), r = 0;

	if (fd < 0)
		return err_set(e, -errno, "memory for the next daemon: %s", err_name(-errno));
	/* All of it now: nothing is allocated when it is needed. */
	if (slot_count > SLOTS_MAX || ftruncate(fd, (off_t)table_bytes(slot_count)) < 0 ||
	    fallocate(fd, 0, 0, (off_t)table_bytes(slot_count)) < 0 ||
	    getrandom(&h.session, sizeof(h.session), 0) != (ssize_t)sizeof(h.session) ||
	    pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		r = err_set(e, -ENOMEM, "memory for the next daemon: %u slots", slot_count);
	if (r < 0)
		(void)close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int check_header(const struct resume_header *h, off_t file_bytes, struct err *e)
{
	if (h->magic != RESUME_MAGIC)
		return err_set(e, -EUCLEAN, "this is no table of a holder");
	if (h->version != RESUME_VERSION)
		return err_set(
			e, -EPROTONOSUPPORT,
			"the holder's table has version %u, this program knows %u: unmount and "
			"mount",
			h->version, RESUME_VERSION);
	if (h->slot_count > SLOTS_MAX || h->init_bytes > RESUME_INIT_BYTES_MAX ||
	    file_bytes != (off_t)table_bytes(h->slot_count))
		return err_set(e, -EUCLEAN, "the holder's table is damaged");
	return 0;
}

int resume_open(int fd, struct resume **ret_resume, struct err *e)
{
	struct resume *r = calloc(1, sizeof(*r));
	struct stat st;
	void *map;
	int rc;

	if (!r || fstat(fd, &st) < 0 || st.st_size < (off_t)HEADER_BYTES) {
		free(r);
		return err_set(e, -EUCLEAN, "the holder's table can't be read");
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		free(r);
		return err_set(e, -ENOMEM, "the holder's table");
	}
	r->header = map;
	r->map_bytes = (size_t)st.st_size;
	r->slots = (struct resume_slot *)((uint8_t *)map + HEADER_BYTES);
	mutex_init(&r->lock, 0);
	rc = check_header(r->header, st.st_size, e);
	if (rc == 0) {
		r->free_slots = calloc((size_t)r->header->slot_count + 1, sizeof(*r->free_slots));
		if (!r->free_slots)
			rc = err_set(e, -ENOMEM, "the holder's table");
	}
	if (rc < 0) {
		resume_close(r);
		return rc;
	}
	for (uint32_t i = r->header->slot_count; i-- > 0;)
		if (r->slots[i].unique == 0)
			r->free_slots[r->free_count++] = i;
	*ret_resume = r;
	return 0;
}

void resume_close(struct resume *r)
{
	if (!r)
		return;
	(void)munmap(r->header, r->map_bytes);
	mutex_done(&r->lock);
	free(r->free_slots);
	free(r);
}

void resume_forget(struct resume_header *header)
{
	struct resume_slot *slots = (struct resume_slot *)((uint8_t *)header + HEADER_BYTES);

	__atomic_store_n(&header->init_answered, 0, __ATOMIC_SEQ_CST);
	header->init_bytes = 0;
	memset(slots, 0, header->slot_count * sizeof(*slots));
}

bool resume_is_taken_over(const struct resume *r)
{
	return __atomic_load_n(&r->header->init_answered, __ATOMIC_ACQUIRE) != 0;
}

/* --- requests ---------------------------------------------------------------------------------- */

static struct resume_slot *find(struct resume *r, uint64_t unique)
{
	for (uint32_t i = 0; i < r->header->slot_count; i++)
		if (__atomic_load_n(&r->slots[i].unique, __ATOMIC_RELAXED) == unique)
			return &r->slots[i];
	return NULL;
}

struct resume_slot *resume_begin(struct resume *r, uint64_t unique, bool *ret_known)
{
	struct resume_slot *slot = NULL;

	if (unique & RESUME_RESENT) {
		unique &= ~RESUME_RESENT;
		slot = find(r, unique);
		if (slot) {
			__atomic_store_n(&slot->unclaimed, 0, __ATOMIC_RELEASE);
			*ret_known = true;
			return slot;
		}
	}
	*ret_known = false;
	mutex_lock(&r->lock);
	if (r->free_count > 0)
		slot = &r->slots[r->free_slots[--r->free_count]];
	mutex_unlock(&r->lock);
	if (!slot)
		return NULL;
	slot->witness = (struct volume_witness){ 0 };
	slot->unclaimed = 0;
	/* Behind all else: with its number the slot counts. */
	__atomic_store_n(&slot->unique, unique, __ATOMIC_RELEASE);
	return slot;
}

void resume_end(struct resume *r, struct resume_slot *slot)
{
	if (!slot)
		return;
	__atomic_store_n(&slot->unique, 0, __ATOMIC_RELEASE);
	GUARD(&r->lock);
	r->free_slots[r->free_count++] = (uint32_t)(slot - r->slots);
}

void resume_drained(struct resume *r)
{
	if (!__atomic_load_n(&r->header->drained, __ATOMIC_RELAXED))
		__atomic_store_n(&r->header->drained, 1, __ATOMIC_RELEASE);
}

uint64_t resume_slot_number(const struct resume *r, const struct resume_slot *slot)
{
	return (uint64_t)(slot - r->slots);
}

/* --- a worker's start -------------------------------------------------------------------------- */

int resume_witnesses(const struct resume *r, struct volume_witness ***ret_witnesses,
		     size_t *ret_count)
{
	size_t used = r->header->slot_count - r->free_count, count = 0;
	struct volume_witness **list = calloc(used + 1, sizeof(struct volume_witness *));

	if (!list)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->header->slot_count && count < used; i++)
		if (r->slots[i].unique != 0 && r->slots[i].witness.lsn != 0)
			list[count++] = &r->slots[i].witness;
	*ret_witnesses = list;
	*ret_count = count;
	return 0;
}

/*
 * One that the worker before did not get to see is in the kernel's queue still, where is_open does not
 * find it, unless that worker was drained.
 */
static bool is_stale(const struct resume *r, const struct resume_slot *slot,
		     bool (*is_open)(void *arg, uint64_t unique), void *arg)
{
	if (slot->unclaimed && !r->header->drained)
		return false;
	return !is_open(arg, slot->unique) && !is_open(arg, slot->unique | RESUME_RESENT);
}

unsigned int resume_settle(struct resume *r, bool (*is_open)(void *arg, uint64_t unique), void *arg)
{
	unsigned int left = 0;

	for (uint32_t i = 0; i < r->header->slot_count; i++) {
		struct resume_slot *slot = &r->slots[i];

		if (slot->unique == 0)
			continue;
		if (is_stale(r, slot, is_open, arg)) {
			resume_end(r, slot);
			continue;
		}
		__atomic_store_n(&slot->unclaimed, 1, __ATOMIC_SEQ_CST);
		left++;
	}
	/* Only now: what is marked above counts as long as this is not set again. */
	__atomic_store_n(&r->header->drained, 0, __ATOMIC_SEQ_CST);
	return left;
}
