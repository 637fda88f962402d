/*
 * reserve - room for those who make room: a file of the pool directory's filesystem that is given
 * back when metadata meets a full disk, so that unlink, checkpoint and cleaning can go on (RocksDB
 * refuses even deletes there), and taken again when there is plenty.
 */
#include "common/log.h"
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define RESERVE_NAME	    "reserve"
#define RESERVE_MAX_BYTES   (UINT64_C(256) << 20)
#define RESERVE_PART_OF_ALL 50u /* 2 % */

static int reserve_path(const struct pool *p, char **ret_path)
{
	return asprintf(ret_path, "%s/" RESERVE_NAME, p->dir) < 0 ? -ENOMEM : 0;
}

static uint64_t wanted_bytes(struct pool *p, const struct env_space *space)
{
	uint64_t part = space->total_bytes / RESERVE_PART_OF_ALL;

	return p->options.reserve_bytes ? p->options.reserve_bytes :
					  min_u64(RESERVE_MAX_BYTES, part);
}

void reserve_take(struct pool *p)
{
	struct env_space space;
	struct env_file *f;
	uint64_t bytes;
	char *path;
	int r;

	if (p->reserve_taken || env_space(p->env, p->dir, &space) < 0)
		return;
	bytes = wanted_bytes(p, &space);
	if (bytes == 0 || space.free_bytes < 3 * bytes || reserve_path(p, &path) < 0)
		return;
	r = env_open(p->env, path, ENV_WRITE | ENV_CREATE, &f);
	if (r == 0) {
		r = env_fallocate(p->env, f, 0, bytes);
		env_close(p->env, f);
		if (r < 0)
			(void)env_unlink(p->env, path); /* tried again when there is more room */
	}
	p->reserve_taken = r == 0;
	free(path);
}

bool reserve_release(struct pool *p)
{
	char *path;
	int r;

	if (!p->reserve_taken || reserve_path(p, &path) < 0)
		return false;
	r = env_unlink(p->env, path);
	free(path);
	p->reserve_taken = false;
	if (r == 0)
		log_warning("volume: disk full, the reserve is in use: dir='%s'", p->dir);
	return r == 0;
}
