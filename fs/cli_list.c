/* `vpool list` and `vpool info`: the disks of a pool, and one of them. */
#include "fs/cli_schedule.h"
#include "fs/query.h"

#include <stdlib.h>

/* --- list -------------------------------------------------------------------------------------- */

static int print_disks(const struct cli *c, const json_t *answer)
{
	const json_t *disk;
	size_t i;

	(void)printf("%10s %10s %9s  %s\n", "SIZE", "USED", "SNAPSHOTS", "PATH");
	json_array_foreach(json_object_get(answer, "disks"), i, disk)
	{
		char *shown = cli_json_printable(disk, "path");
		char size[CLI_SIZE_BYTES], used[CLI_SIZE_BYTES];

		(void)printf("%10s %10s %9" PRIu64 "  %s%s\n",
			     cli_size(cli_json_u64(disk, "size_bytes"), size),
			     cli_size(cli_json_u64(disk, "allocated_bytes"), used),
			     cli_json_u64(disk, "snapshots"), shown ? shown : "?",
			     json_is_true(json_object_get(disk, "template")) ? "  (template)" : "");
		free(shown);
	}
	return cli_finish_output(c);
}

static int run_list(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	int r;

	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t, json_pack("{s:s}", "verb", "list"), QUERY_OFFLINE, &answer);
	if (r == CLI_DONE)
		r = c->json ? cli_print_json(c, json_incref(answer)) : print_disks(c, answer);
	json_decref(answer);
	target_done(&t);
	return r;
}

const struct cli_verb cli_verb_list = {
	.name = "list",
	.args = "TARGET",
	.summary = "list the disks of a pool",
	.doc = "Size as the guest sees it, and what is stored of it. Files that are no disks are not "
	       "listed.",
	.args_min = 1,
	.args_max = 1,
	.run = run_list,
};

/* --- info -------------------------------------------------------------------------------------- */

static void print_time(const char *what, const json_t *answer, const char *key)
{
	char text[CLI_TIME_BYTES];

	(void)printf("%-14s%s\n", what,
		     cli_time(json_real_value(json_object_get(answer, key)), text));
}

static void print_parent(const json_t *answer)
{
	char *path = cli_json_printable(answer, "parent");
	char *name = cli_json_printable(answer, "parent_snapshot");

	if (path && path[0])
		(void)printf("%-14s%s%s%s\n", "clone of", path, name && name[0] ? "@" : "",
			     name ? name : "");
	free(name);
	free(path);
}

static int print_info(const struct cli *c, const json_t *answer)
{
	char *shown = cli_json_printable(answer, "path");
	char size[CLI_SIZE_BYTES];

	(void)printf("%-14s%s\n", "path", shown ? shown : "?");
	free(shown);
	(void)printf("%-14s%s%s\n", "class", cli_json_string(answer, "class"),
		     json_is_true(json_object_get(answer, "template")) ? ", a template" : "");
	(void)printf("%-14s%s (%" PRIu64 " bytes)\n", "size",
		     cli_size(cli_json_u64(answer, "size_bytes"), size),
		     cli_json_u64(answer, "size_bytes"));
	(void)printf("%-14s%s\n", "stored",
		     cli_size(cli_json_u64(answer, "allocated_bytes"), size));
	(void)printf("%-14s%" PRIu64 "\n", "snapshots", cli_json_u64(answer, "snapshots"));
	print_parent(answer);
	cli_print_schedule(answer);
	print_time("modified", answer, "modified");
	print_time("created", answer, "created");
	(void)printf("%-14s%" PRIu64 ", stream %" PRIu64 ", log position %" PRIu64 "\n", "inode",
		     cli_json_u64(answer, "inode"), cli_json_u64(answer, "stream"),
		     cli_json_u64(answer, "log_position"));
	return cli_finish_output(c);
}

static int run_info(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	uint64_t ino;
	int r;

	r = query_file(c, c->args[0], "'vpool status' and 'vpool list' tell about the whole pool",
		       &t, &ino);
	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t, json_pack("{s:s, s:I}", "verb", "info", "ino", (json_int_t)ino), 0,
			 &answer);
	if (r == CLI_DONE)
		r = c->json ? cli_print_json(c, json_incref(answer)) : print_info(c, answer);
	json_decref(answer);
	target_done(&t);
	return r;
}

const struct cli_verb cli_verb_info = {
	.name = "info",
	.args = "FILE",
	.summary = "tell about one disk or file of a mount",
	.doc = "FILE is a path inside a mount.",
	.args_min = 1,
	.args_max = 1,
	.run = run_info,
};
