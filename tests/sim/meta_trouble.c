#include "tests/sim/meta_trouble.h"

#include <errno.h>

/* Before RocksDB has noticed, at most. */
#define FULL_CALLS_MAX 30u

static bool hits(struct meta_trouble *t, uint32_t ppm)
{
	return ppm && sim_rand(t->sim, 1000000) < ppm;
}

static int meta_call(void *arg, const char *call)
{
	struct meta_trouble *t = arg;
	int r;

	if (!sim_inside(t->sim))
		return 0;
	sim_effect(t->sim, call);
	if (t->calls_left > 0) {
		t->calls_left -= t->error == -ENOSPC;
		return t->error;
	}
	r = sim_call_fails(t->sim, call, true);
	if (r == 0 && hits(t, t->enospc_ppm))
		r = -ENOSPC;
	if (r == 0 && hits(t, t->eio_ppm))
		r = -EIO;
	if (r == 0)
		return 0;
	t->error = r;
	t->calls_left = r == -EIO ? 1 : (unsigned int)sim_rand(t->sim, FULL_CALLS_MAX);
	return r;
}

void meta_trouble_begin(struct meta_trouble *t, struct sim *sim, struct meta_mem_disk *disk)
{
	*t = (struct meta_trouble){ .sim = sim };
	meta_mem_set_hook(disk, meta_call, t);
}

void meta_trouble_forget(struct meta_trouble *t)
{
	t->calls_left = 0;
}
