#include "fs/cli_schedule.h"

#include "fs/json_out.h"
#include "fs/query.h"
#include "fs/retention.h"
#include "fs/schedule.h"

#include <stdlib.h>
#include <string.h>

/* What is to be looked through: a file, a directory with all below it, or the pool. */
static int find_place(const struct cli *c, struct target *ret_target, uint64_t *ret_ino)
{
	struct err e = { 0 };
	int r = target_find(c->args[1], ret_target, &e);

	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, "snapshot");
	*ret_ino = 1; /* the root */
	if (ret_target->kind != TARGET_FILE)
		return CLI_DONE;
	target_done(ret_target);
	return query_file(c, c->args[1], NULL, ret_target, ret_ino);
}

static int print_pruned(const struct cli *c, const json_t *answer)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(answer, "deleted"), i, item)
	{
		char *path = cli_json_printable(item, "path"),
		     *name = cli_json_printable(item, "name");

		(void)printf("%s %s@%s\n", c->dry_run ? "would delete" : "deleted",
			     path ? path : "?", name ? name : "?");
		free(name);
		free(path);
	}
	return cli_finish_output(c);
}

int cli_snapshot_prune(struct cli *c)
{
	struct target t = { 0 };
	json_t *request, *answer = NULL;
	uint64_t ino;
	int r = find_place(c, &t, &ino);

	if (r != CLI_DONE)
		return r;
	request = json_pack("{s:s, s:s, s:I}", "verb", "snapshot", "do", "prune", "ino",
			    (json_int_t)ino);
	json_out_set(&request, "dry_run", json_boolean(c->dry_run));
	r = query_target(c, &t, request, QUERY_OFFLINE, &answer);
	target_done(&t);
	if (r == CLI_DONE)
		r = c->json ? cli_print_json(c, json_incref(answer)) : print_pruned(c, answer);
	json_decref(answer);
	return r;
}

/* --- schedule ---------------------------------------------------------------------------------- */

/* "hourly (of /vms)" */
static void print_setting(const json_t *answer, const char *key, const char *from)
{
	char *path = cli_json_printable(answer, "path"), *source = cli_json_printable(answer, from);
	const char *of = source;

	if (!source || !source[0])
		of = "vpool.conf";
	else if (path && strcmp(path, source) == 0)
		of = "its own";
	(void)printf("%-14s%s (%s)\n", key, cli_json_string(answer, key), of);
	free(source);
	free(path);
}

void cli_print_schedule(const json_t *answer)
{
	const json_t *next = json_object_get(answer, "next_snapshot");
	char text[CLI_TIME_BYTES];

	print_setting(answer, "schedule", "schedule_from");
	print_setting(answer, "keep", "keep_from");
	if (json_is_real(next))
		(void)printf("%-14s%s\n", "next", cli_time(json_real_value(next), text));
}

static int print_answer(const struct cli *c, const json_t *answer)
{
	char *path = cli_json_printable(answer, "path");

	(void)printf("%-14s%s\n", "path", path ? path : "?");
	free(path);
	cli_print_schedule(answer);
	return cli_finish_output(c);
}

static json_t *request_of(const struct cli *c, uint64_t ino)
{
	json_t *request = json_pack("{s:s, s:s, s:I, s:b}", "verb", "snapshot", "do", "schedule",
				    "ino", (json_int_t)ino, "clear", c->clear);

	if (c->every)
		json_out_set(&request, "every", json_string(c->every));
	if (c->keep)
		json_out_set(&request, "keep", json_string(c->keep));
	return request;
}

/* Told here as wrong use, and not by the daemon as something that failed. */
static int check_words(const struct cli *c)
{
	struct schedule schedule;
	struct retention keep;
	struct err e = { 0 };

	if ((c->every && schedule_parse(c->every, &schedule, &e) < 0) ||
	    (c->keep && retention_parse(c->keep, &keep, &e) < 0))
		return cli_fail(c, CLI_USAGE, NULL, "snapshot: %s", e.message);
	return CLI_DONE;
}

int cli_snapshot_schedule(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	uint64_t ino;
	int r = check_words(c);

	if (r == CLI_DONE)
		r = find_place(c, &t, &ino);
	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t, request_of(c, ino), 0, &answer);
	target_done(&t);
	if (r == CLI_DONE)
		r = c->json ? cli_print_json(c, json_incref(answer)) : print_answer(c, answer);
	json_decref(answer);
	return r;
}
