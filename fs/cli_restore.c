/* `vpool restore`: a pool from what its backend holds, on a machine that has nothing of it. */
#include "fs/cli_make.h"
#include "fs/json_out.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- what was cut off -------------------------------------------------------------------------- */

static void free_stringp(char **p)
{
	free(*p);
}

/* It is there from the first step to the last, so that all else in the directory is ours. */
static int put_mark(const char *dir, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	int fd, r = 0;

	if (asprintf(&path, "%s/%s", dir, POOL_RESTORING_NAME) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, -errno, "'%s': %s", path, err_name(-errno));
	(void)close(fd);
	r = env_sync_dir(env_posix(), dir);
	return r < 0 ? err_set(e, r, "syncing '%s': %s", dir, err_name(r)) : 0;
}

static int remove_mark(const char *dir, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%s", dir, POOL_RESTORING_NAME) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	r = unlink(path) < 0 ? -errno : env_sync_dir(env_posix(), dir);
	return r < 0 ? err_set(e, r, "'%s': %s", path, err_name(r)) : 0;
}

/* Whoever restores into it has its lock: `lock` of the engine, or nobody is that far. */
static int check_idle(const char *dir, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	int fd, r = 0;

	if (asprintf(&path, "%s/lock", dir) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "'%s': %s", path, err_name(-errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = err_set(e, errno == EWOULDBLOCK ? -EBUSY : -errno,
			    "another process restores into it");
	(void)close(fd);
	return r;
}

/* A restore that was cut off begins anew: nothing of it is worth anything. */
static int clear_leftover(const char *dir, struct err *e)
{
	const struct cli_made leftover = { .dir = dir, .began = true };
	int r;

	if (!pool_setup_is_restoring(dir))
		return 0;
	r = check_idle(dir, e);
	if (r == 0)
		cli_make_undo(&leftover);
	return r;
}

/* --- the verb ---------------------------------------------------------------------------------- */

struct run {
	const struct cli *c;
	struct pool_restored restored;
};

static void show_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct run *run = arg;
	char done[CLI_SIZE_BYTES], total[CLI_SIZE_BYTES];

	if (run->c->json || !isatty(STDERR_FILENO))
		return;
	if (done_bytes < total_bytes)
		(void)fprintf(stderr, "\r%s of %s of maps fetched   ", cli_size(done_bytes, done),
			      cli_size(total_bytes, total));
	else
		(void)fprintf(stderr, "\r%50s\r", "");
}

static int fill_pool(void *arg, const struct pool_options *o, struct err *e)
{
	struct run *run = arg;
	const struct pool_restore_options options = { .progress = show_progress, .arg = run };

	return pool_restore(env_posix(), o, &options, &run->restored, e);
}

static json_t *document_of(const struct pool_restored *d, const char *dir)
{
	json_t *document = json_object();
	int r = 0;

	r |= json_out_name(document, "pool", dir, strlen(dir));
	r |= json_out_u64(document, "root", d->root);
	r |= json_object_set_new(document, "root_time",
				 json_real((double)d->root_created_ns / 1e9));
	r |= json_out_u64(document, "roots_skipped", d->roots_skipped);
	r |= json_out_u64(document, "epoch", d->epoch);
	r |= json_out_u64(document, "objects", d->objects);
	r |= json_out_u64(document, "scos", d->scos);
	r |= json_out_u64(document, "live_bytes", d->live_bytes);
	r |= json_out_u64(document, "stored_bytes", d->stored_bytes);
	r |= json_out_u64(document, "fetched_bytes", d->fetched_bytes);
	if (r) {
		json_decref(document);
		return NULL;
	}
	return document;
}

static int tell_restored(const struct run *run, const struct pool_setup *setup)
{
	const struct pool_restored *d = &run->restored;
	char live[CLI_SIZE_BYTES], stored[CLI_SIZE_BYTES], when[64] = "?";
	time_t created = (time_t)(d->root_created_ns / 1000000000);
	struct tm tm;

	if (run->c->json)
		return cli_print_json(run->c, document_of(d, setup->dir));
	if (localtime_r(&created, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	if (d->roots_skipped)
		(void)printf("the newest %" PRIu64 " of its roots are not whole\n",
			     d->roots_skipped);
	(void)printf("restored '%s' as of %s: %" PRIu64 " files and disks, %s; %" PRIu64
		     " containers, %s on the backend\nmount it with: vpool mount %s MOUNTPOINT\n",
		     setup->dir, when, d->objects, cli_size(d->live_bytes, live), d->scos,
		     cli_size(d->stored_bytes, stored), run->c->args[0]);
	return cli_finish_output(run->c);
}

static const char *hint_for(int code, const struct cli_made *made)
{
	switch (-code) {
	case ENOENT:
		return made->began ? "look at the URL; 'vpool backend check' tries it" :
				     "make its parent directory first";
	case ENOTEMPTY:
	case EEXIST:
		return "take another directory";
	case ESTALE:
		return "stop the other one, then try again";
	default:
		return NULL;
	}
}

static int restore_with(struct run *run, const struct config *config)
{
	struct cli_made made = { .dir = run->c->args[0] };
	struct pool_setup *setup = NULL;
	struct err e = { 0 };
	int r;

	r = clear_leftover(made.dir, &e);
	if (r == 0)
		r = cli_make_dir(&made, &e);
	if (r == 0)
		r = put_mark(made.dir, &e);
	if (r == 0)
		r = cli_make_pool(made.dir, config, fill_pool, run, &setup, &e);
	if (r == 0)
		r = remove_mark(made.dir, &e);
	if (r < 0) {
		char what[120];

		pool_setup_free(setup);
		cli_make_undo(&made);
		(void)snprintf(what, sizeof(what), "restoring '%.90s'", run->c->args[0]);
		return cli_fail_err(run->c, r, &e, hint_for(r, &made), what);
	}
	r = tell_restored(run, setup);
	pool_setup_free(setup);
	return r;
}

static int run_restore(struct cli *c)
{
	struct config *config;
	struct run run = { .c = c };
	struct err e = { 0 };
	int r;

	if (!c->backend)
		return cli_fail(c, CLI_USAGE, "give the URL that 'vpool create' was given",
				"restore: --backend is missing");
	config = malloc(sizeof(*config)); /* large */
	if (!config)
		return cli_fail(c, CLI_FAILED, NULL, "restore: %s", err_name(-ENOMEM));
	if (cli_make_config(c, config, &e) < 0)
		r = cli_fail(c, CLI_USAGE, NULL, "restore: %s", e.message);
	else
		r = restore_with(&run, config);
	free(config);
	return r;
}

static const struct argp_option options[] = {
	{ "backend", CLI_KEY_BACKEND, "URL", 0, "Where the pool's data is; must be given", 0 },
	{ "sco-size", CLI_KEY_SCO_SIZE, "SIZE", 0,
	  "Size of a Storage Container Object made from now on, 1M to 256M. Default: 16M", 0 },
	{ "cache", CLI_KEY_CACHE, "DIR:SIZE", 0,
	  "Use so much of DIR as flash cache; may be given several times. Default: the directory "
	  "cache in the pool, without a limit",
	  0 },
	{ 0 },
};

const struct cli_verb cli_verb_restore = {
	.name = "restore",
	.args = "POOL",
	.summary = "make a pool from its backend alone",
	.doc = "POOL, a new or empty directory, becomes the pool that the backend holds, as of the "
	       "last root that was committed there; other settings than these options are those of a "
	       "new pool. Data is fetched when it is read. A daemon of the pool that still runs "
	       "elsewhere uploads nothing any more.",
	.args_min = 1,
	.args_max = 1,
	.options = options,
	.run = run_restore,
};
