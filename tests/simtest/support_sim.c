#include "tests/simtest/support_sim.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct sim *machine_new(uint64_t seed)
{
	struct sim *sim = sim_new(seed, NULL);

	sim_add_device(sim, "/pool", 16 * MIB, 0);
	sim_add_device(sim, "/dev/shm", 4 * MIB, SIM_DEV_TMPFS);
	return sim;
}

struct env_file *open_file(struct env *env, const char *path, unsigned int flags)
{
	struct env_file *f = NULL;

	ck_assert_int_eq(env_open(env, path, flags, &f), 0);
	return f;
}

bool exists(struct env *env, const char *path)
{
	struct env_file *f;

	if (env_open(env, path, ENV_READ, &f) < 0)
		return false;
	env_close(env, f);
	return true;
}

uint8_t *page_of(uint8_t fill)
{
	static _Alignas(4096) uint8_t pages[16 * 4096];

	memset(pages, fill, sizeof(pages));
	return pages;
}

void write_pages(struct env *env, struct env_file *f, uint64_t first, unsigned int count,
		 uint8_t fill)
{
	ck_assert_uint_le(count, 16);
	ck_assert_int_eq(env_pwrite(env, f, page_of(fill), (size_t)count * 4096, first * 4096), 0);
}

int page_fill(struct env *env, struct env_file *f, uint64_t index)
{
	static _Alignas(4096) uint8_t page[4096];
	int fill;

	ck_assert_int_eq(env_pread(env, f, page, 4096, index * 4096), 4096);
	fill = page[0];
	for (size_t i = 0; i < sizeof(page); i++) {
		if (page[i] != page[i / 512 * 512])
			return -2;
		if (page[i] != page[0])
			fill = -1;
	}
	return fill;
}

void make_file(struct env *env, const char *path, unsigned int pages, uint8_t fill,
	       enum sync_what what)
{
	struct env_file *f = open_file(env, path, ENV_READ | ENV_WRITE | ENV_CREATE);
	char dir[256];

	for (unsigned int i = 0; i < pages; i++)
		write_pages(env, f, i, 1, fill);
	if (what & SYNC_DATA)
		ck_assert_int_eq(env_fdatasync(env, f), 0);
	env_close(env, f);
	(void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	if (what & SYNC_NAME)
		ck_assert_int_eq(env_sync_dir(env, dir), 0);
}
