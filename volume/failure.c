/* failure - what a pool tells of devices that fail, for who can start another process on it. */
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define PROBE_NAME "probe"

void pool_tell_failure(struct pool *p)
{
	void (*fn)(void *arg) = __atomic_load_n(&p->failure_fn, __ATOMIC_ACQUIRE);

	if (fn)
		fn(p->failure_arg);
}

static void metadata_failed(void *arg)
{
	struct pool *p = arg;

	__atomic_store_n(&p->meta_failed, true, __ATOMIC_SEQ_CST);
	pool_tell_failure(p);
}

static bool any_failed(struct pool *p)
{
	struct stream *s, *next;

	if (__atomic_load_n(&p->meta_failed, __ATOMIC_SEQ_CST))
		return true;
	GUARD(&p->objects_lock);
	HASH_ITER (hh, p->streams, s, next)
		if (__atomic_load_n(&s->error, __ATOMIC_RELAXED) == -EIO)
			return true;
	return false;
}

void pool_watch_failures(struct pool *p, void (*fn)(void *arg), void *arg)
{
	p->failure_arg = arg;
	__atomic_store_n(&p->failure_fn, fn, __ATOMIC_SEQ_CST);
	meta_watch(p->meta, fn ? metadata_failed : NULL, p);
	if (fn && any_failed(p))
		fn(arg);
}

uint32_t pool_failed_dirs(struct pool *p)
{
	return flash_failed_dirs(p->flash);
}

/* Where the metadata lies. */
static int probe_pool_dir(struct pool *p, struct err *e)
{
	struct env_file *f;
	char *path;
	int r, gone;

	if (asprintf(&path, "%s/" PROBE_NAME, p->dir) < 0)
		return err_set(e, -ENOMEM, "trying '%s'", p->dir);
	(void)env_unlink(p->env, path); /* of a try that died */
	r = env_open(p->env, path, ENV_WRITE | ENV_CREATE | ENV_EXCL, &f);
	if (r == 0) {
		r = env_pwrite(p->env, f, &p->uuid, sizeof(p->uuid), 0);
		if (r == 0)
			r = env_fdatasync(p->env, f);
		env_close(p->env, f);
		gone = env_unlink(p->env, path);
		r = r == 0 ? gone : r;
	}
	free(path);
	return r < 0 ? err_set(e, r, "'%s': %s", p->dir, err_name(r)) : 0;
}

int pool_probe(struct pool *p, struct err *e)
{
	unsigned int good = 0;
	int r = probe_pool_dir(p, e), first_error = 0;

	for (uint32_t i = 0; i < p->flash->dir_count && r == 0; i++) {
		int one = flash_probe(p->flash, i, first_error ? NULL : e);

		good += one == 0;
		first_error = first_error ? first_error : one;
	}
	return r < 0 || good ? r : first_error;
}
