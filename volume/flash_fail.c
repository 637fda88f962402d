/*
 * flash_fail - cache directories whose device fails: a new file goes to another one, and somebody
 * can ask whether one works again.
 */
#include "common/log.h"
#include "volume/flash.h"
#include "volume/sco_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Below stock-, so that the next start removes what a death leaves (flash_stock.c). */
#define PROBE_NAME  "stock-probe"
#define PROBE_BYTES (64u << 10)

static void free_stringp(char **p)
{
	free(*p);
}

static void freep(void *p)
{
	free(*(void **)p);
}

static bool is_of_device(int error)
{
	return error == -EIO || error == -EROFS || error == -ENXIO || error == -ENODEV;
}

static bool take_out(struct flash *flash, uint32_t dir)
{
	unsigned int left = 0;

	GUARD(&flash->lock);
	for (unsigned int i = 0; i < flash->dir_count; i++)
		left += !flash->dirs[i].failed;
	if (flash->dirs[dir].failed || left == 1)
		return false;
	flash->dirs[dir].failed = true;
	return true;
}

bool flash_note_error(struct flash *flash, uint32_t dir, int error)
{
	if (dir >= flash->dir_count || !is_of_device(error) || !take_out(flash, dir))
		return false;
	log_error("flash: a cache directory failed, nothing new is put there until the next mount: "
		  "dir='%s': %s",
		  flash->dirs[dir].path, err_name(error));
	return true;
}

uint32_t flash_failed_dirs(struct flash *flash)
{
	uint32_t failed = 0;

	GUARD(&flash->lock);
	for (unsigned int i = 0; i < flash->dir_count; i++)
		failed |= (uint32_t)flash->dirs[i].failed << i;
	return failed;
}

static int write_probe(struct flash *flash, const char *path)
{
	AUTO(freep) void *bytes = direct_alloc(PROBE_BYTES);
	struct env_file *f;
	int r;

	if (!bytes)
		return -ENOMEM;
	memset(bytes, 0xa5, PROBE_BYTES);
	r = env_open(flash->env, path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL | ENV_DIRECT,
		     &f);
	if (r < 0)
		return r;
	r = env_pwrite(flash->env, f, bytes, PROBE_BYTES, 0);
	if (r == 0)
		r = env_fdatasync(flash->env, f);
	env_close(flash->env, f);
	return r;
}

int flash_probe(struct flash *flash, uint32_t dir, struct err *e)
{
	const char *at = flash->dirs[dir].path;
	AUTO(free_stringp) char *path = NULL;
	int r, gone;

	if (asprintf(&path, "%s/" PROBE_NAME, at) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "trying a cache directory");
	}
	(void)env_unlink(flash->env, path); /* of a try that could not do it */
	r = write_probe(flash, path);
	if (r == 0)
		r = env_sync_dir(flash->env, at);
	gone = env_unlink(flash->env, path);
	if (r == 0)
		r = gone;
	if (r == 0)
		return 0;
	(void)flash_note_error(flash, dir, r);
	return err_set(e, r, "cache directory '%s': %s", at, err_name(r));
}
