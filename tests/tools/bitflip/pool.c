#include "tests/tools/bitflip/bitflip.h"

#include "common/units.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY_COPY 2u /* enum backend_copy_mode of backend/backend.h */

const char *const flip_place_names[PLACES] = { "ring", "containers", "metadata", "objects",
					       "labels and maps" };

void flip_options(struct pool_options *o, const char *dir)
{
	pool_options_default(o, dir);
	o->shm_dir = "";
	o->backend_copy = COPY_COPY;
	o->sco_bytes = MIB;
	o->ring_bytes = 2 * MIB;
	o->metadata_cache_bytes = 32 * MIB;
	o->reserve_bytes = MIB;
	o->checkpoint_interval_ns = NS_PER_HOUR;
	o->upload_interval_ns = NS_PER_HOUR;
	o->flush_interval_ns = NS_PER_HOUR;
}

unsigned int flip_generation(enum flip_base base, unsigned int cluster)
{
	if (base == BASE_CLOSED)
		return 1;
	return cluster < FLIP_CLUSTERS / 4 ? 3 : cluster < FLIP_CLUSTERS / 2 ? 2 : 1;
}

/* Bytes that differ with disk, place and generation in each word. */
static void fill(uint64_t words[CLUSTER_BYTES / 8], unsigned int disk, unsigned int cluster,
		 unsigned int generation)
{
	uint64_t x = (uint64_t)disk << 48 | (uint64_t)generation << 32 | cluster;

	for (unsigned int i = 0; i < CLUSTER_BYTES / 8; i++) {
		uint64_t z = (x << 9 | i) * UINT64_C(0x9e3779b97f4a7c15);

		words[i] = z ^ z >> 29;
	}
}

bool flip_is_cluster(const uint8_t *bytes, unsigned int disk, unsigned int cluster,
		     unsigned int generation)
{
	uint64_t words[CLUSTER_BYTES / 8];

	fill(words, disk, cluster, generation);
	return memcmp(words, bytes, CLUSTER_BYTES) == 0;
}

static void must(const char *what, int r, const struct err *e)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "bitflip: %s: %s\n", what, e->message[0] ? e->message : err_name(r));
	exit(1);
}

static void write_some(struct object *o, unsigned int disk, unsigned int count,
		       unsigned int generation, bool sync)
{
	uint64_t words[CLUSTER_BYTES / 8];
	struct err e = { 0 };

	for (unsigned int i = 0; i < count; i++) {
		fill(words, disk, i, generation);
		must("writing",
		     object_write(o, (uint64_t)i * CLUSTER_BYTES, words, sizeof(words), &e), &e);
		if (sync && i % 16 == 15)
			must("syncing", object_sync(o, &e), &e);
	}
}

void flip_make(const char *dir, enum flip_base base, uint64_t ids[FLIP_DISKS])
{
	struct object *objects[FLIP_DISKS];
	struct pool_options o;
	struct err e = { 0 };
	struct pool *p;

	flip_options(&o, dir);
	must("create", pool_create(env_posix(), &o, &e), &e);
	must("open", pool_open(env_posix(), &o, &p, &e), &e);
	for (unsigned int i = 0; i < FLIP_DISKS; i++) {
		must("object",
		     object_create(p, i + 1 < FLIP_DISKS ? OBJECT_DISK : OBJECT_FILE, &ids[i], &e),
		     &e);
		must("object", object_open(p, ids[i], &objects[i], &e), &e);
		write_some(objects[i], i, FLIP_CLUSTERS, 1, false);
	}
	must("names", pool_sync_names(p, &e), &e);
	must("upload", pool_sync_backend(p, &e), &e);
	/* Roots behind it say again what is there: chunks and objects of every kind. */
	must("checkpoint", pool_checkpoint(p, &e), &e);
	for (unsigned int i = 0; i < FLIP_DISKS && base == BASE_KILLED; i++) {
		write_some(objects[i], i, FLIP_CLUSTERS / 2, 2, true);
		write_some(objects[i], i, FLIP_CLUSTERS / 4, 3, false);
	}
	if (base == BASE_KILLED)
		(void)kill(getpid(), SIGKILL);
	for (unsigned int i = 0; i < FLIP_DISKS; i++)
		object_close(objects[i]);
	must("close", pool_close(p, &e), &e);
	_exit(0);
}
