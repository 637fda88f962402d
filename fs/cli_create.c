/* `vpool create`: a directory, its vpool.conf, an empty pool. What fails leaves nothing behind. */
#include "fs/cli_make.h"
#include "fs/json_out.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int fill_pool(void *arg, const struct pool_options *o, struct err *e)
{
	(void)arg;
	return pool_create(env_posix(), o, e);
}

static int tell_created(const struct cli *c, const struct pool_setup *setup)
{
	json_t *document;

	if (!c->json) {
		(void)printf("created '%s'; mount it with: vpool mount %s MOUNTPOINT\n", setup->dir,
			     c->args[0]);
		return cli_finish_output(c);
	}
	document = json_object();
	if (document && json_out_name(document, "pool", setup->dir, strlen(setup->dir)) < 0) {
		json_decref(document);
		document = NULL;
	}
	return cli_print_json(c, document);
}

static int create_with(const struct cli *c, const struct config *config)
{
	struct cli_made made = { .dir = c->args[0] };
	struct pool_setup *setup = NULL;
	struct err e = { 0 };
	int r;

	r = cli_make_dir(&made, &e);
	if (r == 0)
		r = cli_make_pool(made.dir, config, fill_pool, NULL, &setup, &e);
	if (r < 0) {
		char what[120];

		cli_make_undo(&made);
		(void)snprintf(what, sizeof(what), "creating '%.90s'", c->args[0]);
		return cli_fail_err(c, r, &e,
				    r == -ENOENT && !made.began ?
					    "make its parent directory first" :
				    r == -ENOTEMPTY ? "take another directory" :
						      NULL,
				    what);
	}
	r = tell_created(c, setup);
	pool_setup_free(setup);
	return r;
}

static int run_create(struct cli *c)
{
	struct config *config = malloc(sizeof(*config)); /* large */
	struct err e = { 0 };
	int r;

	if (!config)
		return cli_fail(c, CLI_FAILED, NULL, "create: %s", err_name(-ENOMEM));
	if (cli_make_config(c, config, &e) < 0)
		r = cli_fail(c, CLI_USAGE, NULL, "create: %s", e.message);
	else
		r = create_with(c, config);
	free(config);
	return r;
}

static const struct argp_option options[] = {
	{ "backend", CLI_KEY_BACKEND, "URL", 0,
	  "Where the data is kept: file:///DIR. Default: the directory objects in the pool", 0 },
	{ "sco-size", CLI_KEY_SCO_SIZE, "SIZE", 0,
	  "Size of a Storage Container Object, 1M to 256M. Default: 16M", 0 },
	{ "cache", CLI_KEY_CACHE, "DIR:SIZE", 0,
	  "Use so much of DIR as flash cache; may be given several times. Default: the directory "
	  "cache in the pool, without a limit",
	  0 },
	{ 0 },
};

const struct cli_verb cli_verb_create = {
	.name = "create",
	.args = "POOL",
	.summary = "make a pool in a new or empty directory",
	.doc = "POOL/vpool.conf then holds every setting with its meaning; what was given here is set "
	       "in it, all else is a comment that shows the default.",
	.args_min = 1,
	.args_max = 1,
	.options = options,
	.run = run_create,
};
