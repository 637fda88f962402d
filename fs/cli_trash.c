/* `vpool trash`: what was removed and is kept for a while. */
#include "common/units.h"
#include "fs/json_out.h"
#include "fs/pool_setup.h"
#include "fs/query.h"

#include <stdlib.h>
#include <string.h>

#define SEE_HELP "see 'vpool trash --help'"

static json_t *request_of(const char *what)
{
	return json_pack("{s:s, s:s}", "verb", "trash", "do", what);
}

/* A path as `list` tells it, also where it was given as one inside the mount. */
static const char *item_of(const struct target *t, const char *arg)
{
	const char *rest;

	if (!t->mountpoint || !path_is_inside(arg, t->mountpoint))
		return arg;
	rest = arg + strlen(t->mountpoint);
	return *rest ? rest : arg;
}

/* The pool that the second argument names. */
static int find_pool(const struct cli *c, struct target *ret_target)
{
	struct err e = { 0 };
	int r = target_find(c->args[1], ret_target, &e);

	return r < 0 ? cli_fail_err(c, r, &e, NULL, "trash") : CLI_DONE;
}

/* --- list -------------------------------------------------------------------------------------- */

static void print_file(const json_t *file)
{
	char *path = cli_json_printable(file, "path");
	char size[CLI_SIZE_BYTES], used[CLI_SIZE_BYTES], removed[CLI_TIME_BYTES];

	(void)printf("%-19s %10s %10s %9" PRIu64 " %8" PRIu64 "  %s\n",
		     cli_time(json_real_value(json_object_get(file, "removed")), removed),
		     cli_size(cli_json_u64(file, "size_bytes"), size),
		     cli_size(cli_json_u64(file, "allocated_bytes"), used),
		     cli_json_u64(file, "snapshots"), cli_json_u64(file, "inode"),
		     path ? path : "?");
	free(path);
}

static int run_list(struct cli *c, const struct target *t)
{
	json_t *answer = NULL;
	const json_t *file;
	size_t i;
	int r = query_target(c, t, request_of("list"), QUERY_OFFLINE, &answer);

	if (r != CLI_DONE)
		return r;
	if (c->json)
		return cli_print_json(c, answer);
	(void)printf("%-19s %10s %10s %9s %8s  %s\n", "REMOVED", "SIZE", "USED", "SNAPSHOTS",
		     "NUMBER", "PATH");
	json_array_foreach(json_object_get(answer, "files"), i, file)
	{
		print_file(file);
	}
	json_decref(answer);
	return cli_finish_output(c);
}

/* --- restore ----------------------------------------------------------------------------------- */

/* The place that the last argument names, into the request. */
static int set_place(const struct cli *c, const struct target *t, json_t *request)
{
	struct target to = { 0 };
	const char *name = NULL;
	uint64_t parent = 0;
	int r = query_place(c, c->args[3], &to, &parent, &name);

	if (r == CLI_DONE && strcmp(t->pool_dir, to.pool_dir) != 0)
		r = cli_fail(c, CLI_USAGE, NULL, "trash: '%s' is in another pool", c->args[3]);
	if (r == CLI_DONE && (json_out_u64(request, "parent", parent) < 0 ||
			      json_out_name(request, "name", name, strlen(name)) < 0))
		r = cli_fail(c, CLI_FAILED, NULL, "trash: %s", err_name(-ENOMEM));
	target_done(&to);
	return r;
}

static int print_restored(const struct cli *c, const json_t *answer)
{
	char *path = cli_json_printable(answer, "path");

	(void)printf("%s\n", path ? path : "?");
	free(path);
	return cli_finish_output(c);
}

static int run_restore(struct cli *c, const struct target *t)
{
	const char *item = item_of(t, c->args[2]);
	json_t *request = request_of("restore"), *answer = NULL;
	int r = CLI_DONE;

	if (!request || json_out_name(request, "item", item, strlen(item)) < 0)
		r = cli_fail(c, CLI_FAILED, NULL, "trash: %s", err_name(-ENOMEM));
	if (r == CLI_DONE && json_object_set_new(request, "force", json_boolean(c->force)) < 0)
		r = cli_fail(c, CLI_FAILED, NULL, "trash: %s", err_name(-ENOMEM));
	if (r == CLI_DONE && c->arg_count > 3)
		r = set_place(c, t, request);
	if (r != CLI_DONE) {
		json_decref(request);
		return r;
	}
	r = query_target(c, t, request, QUERY_OFFLINE, &answer);
	if (r == CLI_DONE)
		r = c->json ? cli_print_json(c, json_incref(answer)) : print_restored(c, answer);
	json_decref(answer);
	return r;
}

/* --- empty ------------------------------------------------------------------------------------- */

static int add_items(const struct cli *c, const struct target *t, json_t *request)
{
	json_t *items = json_array();
	int r = items ? 0 : -ENOMEM;

	for (unsigned int i = 2; i < c->arg_count && r == 0; i++) {
		const char *item = item_of(t, c->args[i]);
		json_t *name = json_object();

		r = name ? json_out_name(name, "name", item, strlen(item)) : -ENOMEM;
		if (json_array_append_new(items, name) < 0)
			r = -ENOMEM;
	}
	if (json_object_set_new(request, "items", items) < 0)
		r = -ENOMEM;
	return r;
}

static int fill_empty(const struct cli *c, const struct target *t, json_t *request)
{
	uint64_t older_ns = 0;
	int r = 0;

	if (!request)
		return cli_fail(c, CLI_FAILED, NULL, "trash: %s", err_name(-ENOMEM));
	if (c->older_than && time_parse(c->older_than, &older_ns) < 0)
		return cli_fail(c, CLI_USAGE, "a number and d, h, m or s: 7d",
				"trash: --older-than '%s' is not a time", c->older_than);
	if (c->older_than)
		r = json_object_set_new(request, "older_seconds",
					json_real((double)older_ns / (double)NS_PER_SEC));
	else if (!c->all)
		r = add_items(c, t, request);
	if (r == 0)
		r = json_object_set_new(request, "dry_run", json_boolean(c->dry_run));
	return r < 0 ? cli_fail(c, CLI_FAILED, NULL, "trash: %s", err_name(-ENOMEM)) : CLI_DONE;
}

static void print_emptied(const struct cli *c, const json_t *answer)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(answer, "removed"), i, item)
	{
		char *path = cli_json_printable(item, "path");

		(void)printf("%s %s\n", c->dry_run ? "would remove" : "removed", path ? path : "?");
		free(path);
	}
	json_array_foreach(json_object_get(answer, "failed"), i, item)
	{
		char *path = cli_json_printable(item, "path");

		(void)cli_fail(c, CLI_FAILED, NULL, "trash: '%s' is not removed: %s",
			       path ? path : "?", cli_json_string(item, "error"));
		free(path);
	}
}

static int run_empty(struct cli *c, const struct target *t)
{
	json_t *request = request_of("empty"), *answer = NULL;
	const json_t *failed;
	int r = fill_empty(c, t, request);

	if (r != CLI_DONE) {
		json_decref(request);
		return r;
	}
	r = query_target(c, t, request, QUERY_OFFLINE, &answer);
	if (r != CLI_DONE)
		return r;
	failed = json_object_get(answer, "failed");
	if (json_array_size(failed) > 0)
		r = json_array_size(json_object_get(answer, "removed")) > 0 ?
			    CLI_PARTLY :
			    (int)cli_json_u64(json_array_get(failed, 0), "code");
	if (c->json)
		return cli_print_json(c, answer) == CLI_DONE ? r : CLI_FAILED;
	print_emptied(c, answer);
	json_decref(answer);
	return cli_finish_output(c) == CLI_DONE ? r : CLI_FAILED;
}

/* --- the verb ---------------------------------------------------------------------------------- */

static const struct part {
	const char *name, *args;
	unsigned int args_min, args_max; /* behind the name */
	bool is_restore, is_empty;	 /* whose options those are */
	int (*run)(struct cli *c, const struct target *t);
} parts[] = {
	{ "list", "TARGET", 1, 1, false, false, run_list },
	{ "restore", "TARGET FILE [NEWFILE]", 2, 3, true, false, run_restore },
	{ "empty", "TARGET [FILE...]", 1, CLI_ARGS_MAX - 1, false, true, run_empty },
};

static int check_options(const struct cli *c, const struct part *p)
{
	unsigned int ways =
		(c->arg_count > 2 ? 1u : 0u) + (c->all ? 1u : 0u) + (c->older_than ? 1u : 0u);

	if (c->arg_count - 1 < p->args_min || c->arg_count - 1 > p->args_max)
		return cli_fail(c, CLI_USAGE, SEE_HELP, "trash: %s arguments, expected %s %s",
				c->arg_count - 1 < p->args_min ? "missing" : "too many", p->name,
				p->args);
	if (!p->is_restore && c->force)
		return cli_fail(c, CLI_USAGE, SEE_HELP, "trash: --force belongs to restore");
	if (!p->is_empty && (c->all || c->older_than || c->dry_run))
		return cli_fail(c, CLI_USAGE, SEE_HELP,
				"trash: --all, --older-than and --dry-run belong to empty");
	if (p->is_empty && ways != 1)
		return cli_fail(c, CLI_USAGE, SEE_HELP,
				"trash: empty takes files, or --older-than TIME, or --all");
	return CLI_DONE;
}

static int run_trash(struct cli *c)
{
	const struct part *p = NULL;
	struct target t = { 0 };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strcmp(c->args[0], parts[i].name) == 0)
			p = &parts[i];
	if (!p)
		return cli_fail(c, CLI_USAGE, SEE_HELP,
				"trash: '%s': expected list, restore or empty", c->args[0]);
	r = check_options(c, p);
	if (r == CLI_DONE)
		r = find_pool(c, &t);
	if (r == CLI_DONE)
		r = p->run(c, &t);
	target_done(&t);
	return r;
}

static const struct argp_option trash_options[] = {
	{ "force", CLI_KEY_FORCE, NULL, 0,
	  "restore: also where another file has the name, which is removed", 0 },
	{ "all", CLI_KEY_ALL, NULL, 0, "empty: all that is in the trash", 0 },
	{ "older-than", CLI_KEY_OLDER_THAN, "TIME", 0,
	  "empty: what was removed so long ago or longer: 12h, 7d", 0 },
	{ "dry-run", CLI_KEY_DRY_RUN, NULL, 0, "empty: only tell what would be removed", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_trash = {
	.name = "trash",
	.args = "WHAT TARGET...",
	.summary = "bring disks back that were removed, or remove them for good",
	.doc = "WHAT is one of\n\n"
	       "  list TARGET\n"
	       "  restore TARGET FILE [NEWFILE]  to where it was, or to NEWFILE\n"
	       "  empty TARGET [FILE...]         gives the space back\n\n"
	       "A disk that has snapshots goes to the trash when its last name is removed, or when "
	       "another file is renamed over it, and with [pool] trash = all every disk; it stays for "
	       "[pool] trash_keep. FILE is a path or a number as list tells them; of several of one "
	       "path the one that was removed last is meant. A restored disk is what it was, with its "
	       "snapshots.",
	.args_min = 1,
	.args_max = CLI_ARGS_MAX,
	.options = trash_options,
	.run = run_trash,
};
