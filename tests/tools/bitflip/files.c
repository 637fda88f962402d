#include "tests/tools/bitflip/bitflip.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX   512u
#define BLOCK_BYTES 4096u
#define COPY_BYTES  (1u << 20)

static NORETURN void fail(const char *what, const char *path)
{
	(void)fprintf(stderr, "bitflip: %s '%s': %m\n", what, path);
	exit(1);
}

/* nftw() passes nothing on. */
static const char *walk_from, *walk_to;
static struct {
	char path[FLIP_PATH];
	uint64_t bytes;
} found[FILES_MAX];
static unsigned int found_count;
static enum flip_place wanted;

/* --- copies ------------------------------------------------------------------------------------ */

static void copy_file(const char *from, const char *to, uint64_t len_bytes)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	static char piece[COPY_BYTES];
	ssize_t n;

	if (in < 0 || out < 0)
		fail("copying", from);
	/* As large as it was, and allocated: a ring must not be sparse. */
	if (len_bytes > 0 && posix_fallocate(out, 0, (off_t)len_bytes) != 0)
		fail("allocating", to);
	while ((n = read(in, piece, sizeof(piece))) > 0)
		if (write(out, piece, (size_t)n) != n)
			fail("writing", to);
	if (n < 0 || close(out) < 0)
		fail("copying", from);
	(void)close(in);
}

static int copy_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	char to[FLIP_PATH];

	(void)at;
	(void)snprintf(to, sizeof(to), "%s%s", walk_to, path + strlen(walk_from));
	if (type == FTW_D && mkdir(to, 0700) < 0 && errno != EEXIST)
		fail("making", to);
	if (type == FTW_F)
		copy_file(path, to, (uint64_t)st->st_size);
	return 0;
}

void flip_copy_tree(const char *from, const char *to)
{
	walk_from = from;
	walk_to = to;
	if (nftw(from, copy_one, 16, FTW_PHYS) < 0)
		fail("copying", from);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level > 0 && remove(path) < 0)
		fail("removing", path);
	return 0;
}

void flip_empty(const char *dir)
{
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		fail("emptying", dir);
}

/* --- which ------------------------------------------------------------------------------------- */

static enum flip_place place_of(const char *path)
{
	const char *name = path + strlen(walk_from);

	if (strncmp(name, "/cache/sco/", 11) == 0)
		return PLACE_SCO;
	if (strncmp(name, "/meta/", 6) == 0)
		return PLACE_META;
	if (strncmp(name, "/objects/", 9) == 0)
		return PLACE_OBJECT;
	if (strncmp(name, "/vpool-", 7) == 0)
		return PLACE_RING;
	return PLACE_OTHER;
}

static int find_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)at;
	if (type != FTW_F || st->st_size == 0 || place_of(path) != wanted ||
	    found_count == FILES_MAX)
		return 0;
	(void)snprintf(found[found_count].path, FLIP_PATH, "%s", path);
	found[found_count++].bytes = (uint64_t)st->st_size;
	return 0;
}

bool flip_choose(const char *dir, enum flip_place place, uint64_t random, char path[FLIP_PATH],
		 uint64_t *ret_bytes)
{
	walk_from = dir;
	wanted = place;
	found_count = 0;
	if (nftw(dir, find_one, 16, FTW_PHYS) < 0)
		fail("listing", dir);
	if (found_count == 0)
		return false;
	memcpy(path, found[random % found_count].path, FLIP_PATH);
	*ret_bytes = found[random % found_count].bytes;
	return true;
}

/* --- bits -------------------------------------------------------------------------------------- */

void flip_bit(const char *path, uint64_t byte, unsigned int bit)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t b;

	if (fd < 0 || pread(fd, &b, 1, (off_t)byte) != 1)
		fail("reading", path);
	b = (uint8_t)(b ^ 1u << bit);
	if (pwrite(fd, &b, 1, (off_t)byte) != 1)
		fail("writing", path);
	(void)close(fd);
}

uint64_t flip_block_in_use(const char *path, uint64_t byte, uint64_t len_bytes)
{
	static const uint8_t zeros[BLOCK_BYTES];
	uint64_t blocks = (len_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES, at = byte / BLOCK_BYTES;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t block[BLOCK_BYTES];

	if (fd < 0)
		fail("reading", path);
	for (uint64_t i = 0; i < blocks; i++, at = (at + 1) % blocks) {
		ssize_t n = pread(fd, block, sizeof(block), (off_t)(at * BLOCK_BYTES));

		if (n > 0 && memcmp(block, zeros, (size_t)n) != 0)
			break;
	}
	(void)close(fd);
	return at * BLOCK_BYTES;
}
