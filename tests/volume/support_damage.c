#include "support_damage.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>

struct damage_world *world;

void damage_begin(void)
{
	pf.options.flush_interval_ns = HOUR_NS;
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
}

void cluster_fill(uint8_t *dst, uint64_t disk, uint64_t cluster, uint64_t generation)
{
	for (unsigned int i = 0; i < 8; i++)
		sector_fill(dst + (size_t)i * SECTOR_BYTES, disk, cluster * 8 + i, generation);
}

void write_cluster(struct object *o, uint64_t cluster, uint64_t generation)
{
	uint8_t mem[4096];

	cluster_fill(mem, id_of(o), cluster, generation);
	write_bytes(o, cluster * 4096, mem, sizeof(mem));
}

void expect_cluster(struct object *o, uint64_t cluster, uint64_t generation)
{
	uint8_t mem[4096];

	cluster_fill(mem, id_of(o), cluster, generation);
	expect_bytes(o, cluster * 4096, mem, sizeof(mem));
}

int read_cluster(struct object *o, uint64_t cluster)
{
	uint8_t mem[4096];
	ssize_t r = object_read(o, cluster * 4096, mem, sizeof(mem), NULL);

	return r < 0 ? (int)r : 0;
}

void close_damaged(void)
{
	int r = pool_close(TAKE_PTR(pf.pool), NULL);

	ck_assert(r == 0 || r == -EUCLEAN);
}

uint64_t find_cluster(uint64_t disk, uint64_t cluster, uint64_t generation, char path[PATH_BYTES])
{
	uint8_t mem[4096];

	cluster_fill(mem, disk, cluster, generation);
	for (size_t i = 0; i < sco_count(); i++) {
		uint64_t at = find_in_file(sco_path(path, i), mem, sizeof(mem));

		if (at != UINT64_MAX)
			return at;
	}
	ck_abort_msg("cluster %" PRIu64 " is in no SCO", cluster);
}

void make_two_disks(void)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	ck_assert_int_eq(object_truncate(o, CLUSTERS * 4096, NULL), 0);
	object_close(o);
	o = make_object(OBJECT_DISK);
	world->other = id_of(o);
	for (unsigned int i = 0; i < CLUSTERS; i++)
		write_cluster(o, i, 1);
	object_close(o);
}

void closed_pool(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	make_two_disks();
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS; i++)
		write_cluster(o, i, 1);
	object_close(o);
	pool_fixture_close();
}

void open_pool(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	make_two_disks();
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS; i++)
		write_cluster(o, i, 1);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	for (unsigned int i = 0; i < CLUSTERS / 2; i++) {
		write_cluster(o, i, 2);
		if (i % 16 == 15)
			sync_object(o);
	}
	for (unsigned int i = 0; i < CLUSTERS / 4; i++)
		write_cluster(o, i, 3);
}

uint64_t generation_of(unsigned int cluster)
{
	if (cluster < CLUSTERS / 4)
		return 3;
	return cluster < CLUSTERS / 2 ? 2 : 1;
}

void expect_all(uint64_t id)
{
	struct object *o = get_object(id);

	for (unsigned int i = 0; i < CLUSTERS; i++)
		expect_cluster(o, i, id == world->disk ? generation_of(i) : 1);
	object_close(o);
}

void expect_all_that_was_synced(void)
{
	struct object *o = get_object(world->disk);
	uint8_t mem[4096];
	bool lost = false;

	for (unsigned int i = 0; i < CLUSTERS; i++) {
		if (i < CLUSTERS / 4) {
			ck_assert_int_eq(object_read(o, i * UINT64_C(4096), mem, sizeof(mem), NULL),
					 sizeof(mem));
			lost |= sector_generation(mem, world->disk, i * UINT64_C(8)) == 2;
		}
		expect_cluster(o, i, lost && i < CLUSTERS / 4 ? 2 : generation_of(i));
	}
	object_close(o);
}
