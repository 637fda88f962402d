/* Chance: which path, handle, offset, length, content. All of it from the seed. */
#include "differ.h"

#include <stdio.h>
#include <string.h>

static uint64_t mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Every operation starts anew, so that one that went another way does not move those after it. */
void rng_begin(struct differ *d, uint64_t number)
{
	d->rng = d->seed * UINT64_C(0x2545f4914f6cdd1d) ^ number;
	(void)mix(&d->rng);
}

uint64_t rng_next(struct differ *d)
{
	return mix(&d->rng);
}

uint64_t pick(struct differ *d, uint64_t below)
{
	return below ? mix(&d->rng) % below : 0;
}

bool chance(struct differ *d, unsigned int percent)
{
	return pick(d, 100) < percent;
}

/* --- names ------------------------------------------------------------------------------------- */

static void add_path(struct differ *d, const char *dir, const char *name, bool is_dir, bool is_disk)
{
	struct path *p = &d->paths[d->path_count++];

	ASSERT(d->path_count <= PATHS_MAX);
	(void)snprintf(p->text, sizeof(p->text), "%s%s", dir, name);
	p->is_dir = is_dir;
	p->is_disk = is_disk;
}

/* Directories come first: an index below 4. One of them has the name of a disk. */
#define DIR_PATHS 4u
void paths_init(struct differ *d)
{
	static const char *const dirs[] = { "", "d/", "e.raw/", "d/in/", "e.raw/in/" };
	static const char *const disks[] = { "0.raw", "1.raw", "2.img", "3-flat.vmdk" };
	static const char *const files[] = { "f0", "f1", "f2.vmx", "\xff\x01 g", "l" };

	add_path(d, "", "d", true, false);
	add_path(d, "", "e.raw", true, false);
	add_path(d, "", "d/in", true, false);
	add_path(d, "", "e.raw/in", true, false);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		for (size_t n = 0; n < ARRAY_SIZE(disks); n++)
			add_path(d, dirs[i], disks[n], false, true);
		for (size_t n = 0; n < ARRAY_SIZE(files); n++)
			add_path(d, dirs[i], files[n], false, false);
	}
}

unsigned int pick_path(struct differ *d, bool dir, bool existing)
{
	unsigned int path = 0;

	/* Now and then of the wrong kind. */
	if (existing && pick(d, 100) == 0)
		dir = !dir;
	for (unsigned int i = 0; i < 6; i++) {
		path = (unsigned int)(dir ? pick(d, DIR_PATHS) :
					    DIR_PATHS + pick(d, d->path_count - DIR_PATHS));
		if (!existing || mirror_ino(d, path, false) != 0)
			break;
	}
	return path;
}

bool pick_handle(struct differ *d, unsigned int *ret_handle)
{
	unsigned int open = 0, n;

	for (unsigned int i = 0; i < HANDLES; i++)
		open += d->handles[i].fd[M] >= 0;
	if (open < HANDLES / 2)
		return false;
	n = (unsigned int)pick(d, open);
	for (unsigned int i = 0; i < HANDLES; i++)
		if (d->handles[i].fd[M] >= 0 && n-- == 0) {
			*ret_handle = i;
			return true;
		}
	return false;
}

/* --- places ------------------------------------------------------------------------------------ */

uint64_t mirror_size(const struct handle *h)
{
	struct stat st;

	return fstat(h->fd[M], &st) == 0 ? (uint64_t)st.st_size : 0;
}

uint64_t pick_length(struct differ *d)
{
	switch (pick(d, 20)) {
	case 0 ... 8:
		return 1 + pick(d, 512);
	case 9 ... 13:
		return 1 + pick(d, CLUSTER + 100);
	case 14 ... 16:
		return 1 + pick(d, 16 * KIB);
	case 17 ... 18:
		return CLUSTER * (1 + pick(d, 8));
	default:
		return 1 + pick(d, pick(d, 6) == 0 ? IO_BYTES_MAX : 96 * KIB);
	}
}

/* Mostly few places, so that operations meet: starts and ends of clusters, of pages of the map. */
static uint64_t near_place(struct differ *d, const struct handle *h)
{
	static const uint64_t hot[] = { 0, 0, 64 * KIB - 8 * KIB, MIB - 8 * KIB, 2 * MIB };
	static const uint64_t far[] = { 128 * MIB, GIB - 8 * KIB, 3 * GIB + 5, TIB / 2 - 32 * KIB,
					TIB - 2 * MIB };
	const struct object *o = object_of((struct differ *)d, h->ino);
	uint64_t size = mirror_size(h);

	switch (pick(d, 16)) {
	case 0 ... 6:
		return hot[pick(d, ARRAY_SIZE(hot))] + pick(d, 16 * KIB);
	case 7 ... 8:
		return hot[pick(d, ARRAY_SIZE(hot))] + CLUSTER * pick(d, 5);
	case 9 ... 11:
		return size - min_u64(size, pick(d, 8 * KIB)) + pick(d, 4 * KIB);
	case 12 ... 13:
		return pick(d, min_u64(size, 3 * MIB) + 1);
	case 14:
		return max_u64(hot[pick(d, ARRAY_SIZE(hot))] + CLUSTER * pick(d, 5), 2) +
		       pick(d, 5) - 2;
	default:
		if (o && !o->may_be_disk && pick(d, 10) > 0)
			return pick(d, 256 * KIB);
		return far[pick(d, ARRAY_SIZE(far))] + pick(d, 64 * KIB);
	}
}

uint64_t pick_offset(struct differ *d, const struct handle *h, uint64_t len)
{
	return min_u64(near_place(d, h), SIZE_MAX_DISK - len);
}

uint64_t pick_size(struct differ *d, const struct handle *h)
{
	return pick(d, 12) == 0 ? 0 : min_u64(near_place(d, h), SIZE_MAX_DISK);
}

/* --- content ----------------------------------------------------------------------------------- */

void fill_data(const struct op *op, uint8_t *data, size_t len)
{
	uint64_t state = op->seq * UINT64_C(0xd1342543de82ef95) + op->len;
	uint64_t how = mix(&state) % 16, word = mix(&state);
	size_t at = 0;

	if (how == 0) { /* of zeros only: not stored */
		memset(data, 0, len);
		return;
	}
	if (how == 1) {
		memset(data, (int)(word & 0xff), len);
		return;
	}
	for (; at + sizeof(word) <= len; at += sizeof(word)) {
		word ^= word << 13;
		word ^= word >> 7;
		word ^= word << 17;
		memcpy(data + at, &word, sizeof(word));
	}
	memcpy(data + at, &state, len - at);
	if (how == 2 && len > 2) /* zeros in the middle, whole clusters of them if it is long */
		memset(data + len / 4, 0, len / 2);
}
