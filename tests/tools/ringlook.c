/*
 * ringlook - what the ring of a dead daemon holds: "FRAMES ENTRIES", those that no SCO may have yet.
 *
 *	tool_ringlook POOL
 *
 * Reads POOL/ring.id and the ring that it names (volume/FORMAT.md section 5); changes nothing.
 */
#include "common/base.h"
#include "volume/format.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what, const char *why)
{
	(void)fprintf(stderr, "ringlook: %s: %s\n", what, why);
	return 1;
}

static uint8_t *load(const char *path, size_t *ret_len_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes = NULL;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		bytes = malloc((size_t)st.st_size);
	if (bytes && read(fd, bytes, (size_t)st.st_size) == st.st_size)
		*ret_len_bytes = (size_t)st.st_size;
	else
		free(TAKE_PTR(bytes));
	if (fd >= 0)
		(void)close(fd);
	return bytes;
}

static unsigned int published(const uint8_t *block, const struct batch_header *h)
{
	unsigned int count = 0;
	struct log_entry entry;
	struct err e = { 0 };

	for (unsigned int i = 0; batch_has_room(i + 1, 0); i++)
		count += batch_entry_decode(block, i, h->salt, &entry, &e) == 0;
	return count;
}

static int look(const uint8_t *ring, size_t len_bytes)
{
	unsigned int frames = 0, entries = 0;
	struct ring_header h;
	struct err e = { 0 };

	if (len_bytes < BLOCK_BYTES || ring_header_decode(ring, &h, &e) < 0 ||
	    h.ring_bytes != len_bytes)
		return fail("ring", e.message[0] ? e.message : "wrong length");
	for (uint32_t i = 0; i < h.frame_count; i++) {
		const uint8_t *block = ring + BLOCK_BYTES + (size_t)i * h.frame_bytes;
		struct batch_header b;

		if (batch_open_decode(block, &b, &e) < 0)
			continue; /* free */
		frames++;
		entries += published(block, &b);
	}
	(void)printf("%u %u\n", frames, entries);
	return 0;
}

int main(int argc, char **argv)
{
	struct ring_record record;
	struct err e = { 0 };
	uint8_t *bytes, *ring;
	size_t len_bytes = 0;
	char path[4096];
	int r;

	if (argc != 2 || snprintf(path, sizeof(path), "%s/ring.id", argv[1]) >= (int)sizeof(path))
		return fail("usage", "ringlook POOL");
	bytes = load(path, &len_bytes);
	if (!bytes || ring_record_decode(bytes, len_bytes, &record, &e) < 0)
		return fail(path, e.message[0] ? e.message : "not there, or of another length");
	free(bytes);
	ring = load(record.path, &len_bytes);
	if (!ring)
		return fail(record.path, "cannot be read");
	r = look(ring, len_bytes);
	free(ring);
	return r;
}
