/* `vpool snapshot`: make, list, look at, delete, rename snapshots of a disk, and go back to one. */
#include "fs/cli_schedule.h"
#include "fs/control.h"
#include "fs/json_out.h"
#include "fs/query.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Uploads that a snapshot may need until it is on the backend. */
#define WAIT_ROUNDS_MAX 5u

#define HINT_WHOLE_POOL "snapshots are of one disk each: name a file inside a mount"

static void print_snapshot(const json_t *s)
{
	char *name = cli_json_printable(s, "name"), *comment = cli_json_printable(s, "comment");
	char size[CLI_SIZE_BYTES], used[CLI_SIZE_BYTES], created[CLI_TIME_BYTES];

	const char *schedule = cli_json_string(s, "schedule");

	(void)printf("%-19s %10s %10s %-7s %-6s %-8s  %s%s%s\n",
		     cli_time(json_real_value(json_object_get(s, "created")), created),
		     cli_size(cli_json_u64(s, "size_bytes"), size),
		     cli_size(cli_json_u64(s, "allocated_bytes"), used),
		     json_is_true(json_object_get(s, "on_backend")) ? "yes" : "no",
		     json_is_true(json_object_get(s, "sticky")) ? "yes" : "no",
		     schedule[0] ? schedule : "no", name ? name : "?",
		     comment && comment[0] ? "  " : "", comment ? comment : "");
	free(comment);
	free(name);
}

/* {"verb":"snapshot", "do":what, "ino":ino}; NULL: no memory. */
static json_t *request_of(const char *what, uint64_t ino)
{
	return json_pack("{s:s, s:s, s:I}", "verb", "snapshot", "do", what, "ino", (json_int_t)ino);
}

/* request[key] = name. Owns: takes and returns the request; NULL: no memory. */
static json_t *set_name(json_t *request, const char *key, const char *name)
{
	if (request && json_out_name(request, key, name, strlen(name)) == 0)
		return request;
	json_decref(request);
	return NULL;
}

/* --- create ------------------------------------------------------------------------------------ */

static bool is_utf8(const char *text)
{
	size_t left = strlen(text), n;

	for (; left > 0; text += n, left -= n) {
		n = json_out_utf8_length(text, left);
		if (n == 0)
			return false;
	}
	return true;
}

/* All files are of one pool; their numbers. */
static int find_files(const struct cli *c, struct target *ret_target, json_t *inos)
{
	struct target t = { 0 };
	uint64_t ino;
	int r = CLI_DONE;

	for (unsigned int i = 1; i < c->arg_count && r == CLI_DONE; i++) {
		r = query_file(c, c->args[i], HINT_WHOLE_POOL, &t, &ino);
		if (r != CLI_DONE)
			break;
		if (ret_target->pool_dir && strcmp(ret_target->pool_dir, t.pool_dir) != 0)
			r = cli_fail(c, CLI_USAGE, "one command for each pool",
				     "snapshot: '%s' and '%s' are in different pools", c->args[1],
				     c->args[i]);
		else if (json_array_append_new(inos, json_integer((json_int_t)ino)) < 0)
			r = cli_fail(c, CLI_FAILED, NULL, "snapshot: %s", err_name(-ENOMEM));
		if (ret_target->pool_dir)
			target_done(&t);
		else
			*ret_target = t;
	}
	return r;
}

/* What the group is now; whether all of it is on the backend. */
static bool look_again(const struct target *t, const json_t *inos, json_t *snapshots)
{
	bool all = true;
	json_t *s;
	size_t i;

	json_array_foreach(snapshots, i, s)
	{
		json_t *request =
			request_of("info", (uint64_t)json_integer_value(json_array_get(inos, i)));
		json_t *answer = NULL;
		struct err e;

		if (request) {
			(void)json_object_set(request, "name", json_object_get(s, "name"));
			(void)json_object_set(request, "name_hex", json_object_get(s, "name_hex"));
		}
		if (control_ask(t->pool_dir, request, CONTROL_NO_TIMEOUT, &answer, &e) == 0 &&
		    !json_object_get(answer, "error"))
			(void)json_object_update(s, answer);
		json_decref(answer);
		all &= json_is_true(json_object_get(s, "on_backend"));
	}
	return all;
}

/* Uploads until it is there. What was made stays made whatever comes of it. */
static int wait_for_backend(const struct target *t, const json_t *inos, json_t *snapshots)
{
	const char *why = "it takes another upload";
	json_t *answer = NULL;
	struct err e = { 0 };
	int r = CLI_PARTLY;

	for (unsigned int round = 0; round < WAIT_ROUNDS_MAX && r != CLI_DONE; round++) {
		json_decref(answer);
		answer = NULL;
		if (control_ask(t->pool_dir, json_pack("{s:s}", "verb", "sync"), CONTROL_NO_TIMEOUT,
				&answer, &e) < 0) {
			why = e.message;
			break;
		}
		if (json_object_get(answer, "error")) {
			why = cli_json_string(answer, "error");
			break;
		}
		if (look_again(t, inos, snapshots))
			r = CLI_DONE;
	}
	if (r != CLI_DONE)
		(void)fprintf(stderr, "vpool: snapshot: made, but not on the backend yet: %s\n",
			      why);
	json_decref(answer);
	return r;
}

static int print_created(const struct cli *c, const json_t *answer)
{
	const json_t *s;
	size_t i;

	if (c->json)
		return cli_print_json(c, json_incref((json_t *)(uintptr_t)answer));
	json_array_foreach(json_object_get(answer, "snapshots"), i, s)
	{
		char *path = cli_json_printable(s, "path"), *name = cli_json_printable(s, "name");

		(void)printf("%s@%s\n", path ? path : "?", name ? name : "?");
		free(name);
		free(path);
	}
	return cli_finish_output(c);
}

static int create_of(const struct cli *c, const struct target *t, json_t *inos)
{
	json_t *request = json_pack("{s:s, s:s, s:O, s:b}", "verb", "snapshot", "do", "create",
				    "inos", inos, "sticky", c->sticky);
	json_t *answer = NULL;
	int r, printed;

	if (c->name)
		request = set_name(request, "name", c->name);
	if (c->comment)
		json_out_set(&request, "comment", json_string(c->comment));
	r = query_target(c, t, request, 0, &answer);
	if (r != CLI_DONE)
		return r;
	if (c->wait)
		r = wait_for_backend(t, inos, json_object_get(answer, "snapshots"));
	printed = print_created(c, answer);
	json_decref(answer);
	return r != CLI_DONE ? r : printed;
}

static int run_create(struct cli *c)
{
	struct target t = { 0 };
	json_t *inos;
	int r;

	if (c->comment && !is_utf8(c->comment))
		return cli_fail(c, CLI_USAGE, NULL, "snapshot: the comment is not UTF-8");
	inos = json_array();
	if (!inos)
		return cli_fail(c, CLI_FAILED, NULL, "snapshot: %s", err_name(-ENOMEM));
	r = find_files(c, &t, inos);
	if (r == CLI_DONE)
		r = create_of(c, &t, inos);
	json_decref(inos);
	target_done(&t);
	return r;
}

/* --- of one file ------------------------------------------------------------------------------- */

static int ask(const struct cli *c, const char *what,
	       json_t *(*request_for)(const struct cli *c, json_t *request), json_t **ret_answer)
{
	struct target t = { 0 };
	json_t *request;
	uint64_t ino;
	int r = query_file(c, c->args[1], HINT_WHOLE_POOL, &t, &ino);

	if (r != CLI_DONE)
		return r;
	request = request_of(what, ino);
	if (request)
		request = request_for(c, request);
	r = query_target(c, &t, request, 0, ret_answer);
	target_done(&t);
	return r;
}

static json_t *as_it_is(const struct cli *c, json_t *request)
{
	(void)c;
	return request;
}

static json_t *with_name(const struct cli *c, json_t *request)
{
	return set_name(request, "name", c->args[2]);
}

static json_t *with_force(const struct cli *c, json_t *request)
{
	json_out_set(&request, "force", json_boolean(c->force));
	return with_name(c, request);
}

static json_t *with_new_name(const struct cli *c, json_t *request)
{
	return with_name(c, set_name(request, "to", c->args[3]));
}

static json_t *with_switch(const struct cli *c, json_t *request)
{
	json_out_set(&request, "on", json_boolean(strcmp(c->args[3], "on") == 0));
	return with_name(c, request);
}

static json_t *with_names(const struct cli *c, json_t *request)
{
	json_t *names = json_array();

	for (unsigned int i = 2; i < c->arg_count && names; i++) {
		json_t *item = set_name(json_object(), "name", c->args[i]);

		if (json_array_append_new(names, item) < 0) {
			json_decref(names);
			names = NULL;
		}
	}
	json_out_set(&request, "names", names);
	return request;
}

static int run_list(struct cli *c)
{
	json_t *answer = NULL;
	const json_t *s;
	size_t i;
	int r = ask(c, "list", as_it_is, &answer);

	if (r != CLI_DONE)
		return r;
	if (c->json)
		return cli_print_json(c, answer);
	(void)printf("%-19s %10s %10s %-7s %-6s %-8s  %s\n", "CREATED", "SIZE", "USED", "BACKEND",
		     "STICKY", "SCHEDULE", "NAME");
	json_array_foreach(json_object_get(answer, "snapshots"), i, s)
	{
		print_snapshot(s);
	}
	json_decref(answer);
	return cli_finish_output(c);
}

static void print_text(const char *what, const json_t *answer, const char *key)
{
	char *shown = cli_json_printable(answer, key);

	(void)printf("%-14s%s\n", what, shown ? shown : "?");
	free(shown);
}

static int run_info(struct cli *c)
{
	char size[CLI_SIZE_BYTES], created[CLI_TIME_BYTES];
	json_t *answer = NULL;
	int r = ask(c, "info", with_name, &answer);

	if (r != CLI_DONE)
		return r;
	if (c->json)
		return cli_print_json(c, answer);
	print_text("path", answer, "path");
	print_text("name", answer, "name");
	print_text("comment", answer, "comment");
	(void)printf("%-14s%s\n", "created",
		     cli_time(json_real_value(json_object_get(answer, "created")), created));
	(void)printf("%-14s%s (%" PRIu64 " bytes)\n", "size",
		     cli_size(cli_json_u64(answer, "size_bytes"), size),
		     cli_json_u64(answer, "size_bytes"));
	(void)printf("%-14s%s\n", "stored",
		     cli_size(cli_json_u64(answer, "allocated_bytes"), size));
	(void)printf("%-14s%s\n", "on backend",
		     json_is_true(json_object_get(answer, "on_backend")) ? "yes" : "no");
	(void)printf("%-14s%s\n", "sticky",
		     json_is_true(json_object_get(answer, "sticky")) ? "yes" : "no");
	(void)printf("%-14s%" PRIu64 "\n", "clones", cli_json_u64(answer, "clones"));
	json_decref(answer);
	return cli_finish_output(c);
}

/* What needs no words when it worked. */
static int quietly(const struct cli *c, const char *what,
		   json_t *(*request_for)(const struct cli *c, json_t *request))
{
	json_t *answer = NULL;
	int r = ask(c, what, request_for, &answer);

	if (r == CLI_DONE && c->json)
		return cli_print_json(c, answer);
	json_decref(answer);
	return r;
}

static int run_rename(struct cli *c)
{
	return quietly(c, "rename", with_new_name);
}

/*
 * The kernel appends for whoever has the file open where it believes the end to be, and learns of
 * another end only by asking. It was told that what it knows is old; looking makes it ask.
 */
static int run_rollback(struct cli *c)
{
	int r = quietly(c, "rollback", with_force);
	struct stat st;

	if (r == CLI_DONE && stat(c->args[1], &st) < 0)
		return cli_fail(c, CLI_PARTLY, NULL, "snapshot: rolled back, but '%s': %s",
				c->args[1], err_name(-errno));
	return r;
}

static int run_sticky(struct cli *c)
{
	if (strcmp(c->args[3], "on") != 0 && strcmp(c->args[3], "off") != 0)
		return cli_fail(c, CLI_USAGE, NULL, "snapshot: sticky is on or off, not '%s'",
				c->args[3]);
	return quietly(c, "sticky", with_switch);
}

static int run_delete(struct cli *c)
{
	json_t *answer = NULL;
	const json_t *failed, *item;
	size_t i;
	int r = ask(c, "delete", with_names, &answer);

	if (r != CLI_DONE)
		return r;
	failed = json_object_get(answer, "failed");
	if (json_array_size(failed) > 0)
		r = json_array_size(json_object_get(answer, "deleted")) > 0 ?
			    CLI_PARTLY :
			    (int)cli_json_u64(json_array_get(failed, 0), "code");
	if (c->json)
		return cli_print_json(c, answer) == CLI_DONE ? r : CLI_FAILED;
	json_array_foreach(failed, i, item)
	{
		char *name = cli_json_printable(item, "name");

		(void)cli_fail(c, CLI_FAILED, NULL, "snapshot: '%s' is not deleted: %s",
			       name ? name : "?", cli_json_string(item, "error"));
		free(name);
	}
	json_decref(answer);
	return r;
}

/* --- the verb ---------------------------------------------------------------------------------- */

static const struct part {
	const char *name, *args;
	unsigned int args_min, args_max;
	bool is_create, is_rollback, is_prune, is_schedule; /* whose options those are */
	int (*run)(struct cli *c);
} parts[] = {
	{ "create", "FILE...", 1, CLI_ARGS_MAX - 1, true, false, false, false, run_create },
	{ "list", "FILE", 1, 1, false, false, false, false, run_list },
	{ "info", "FILE NAME", 2, 2, false, false, false, false, run_info },
	{ "delete", "FILE NAME...", 2, CLI_ARGS_MAX - 1, false, false, false, false, run_delete },
	{ "rename", "FILE NAME NEW", 3, 3, false, false, false, false, run_rename },
	{ "rollback", "FILE NAME", 2, 2, false, true, false, false, run_rollback },
	{ "sticky", "FILE NAME on|off", 3, 3, false, false, false, false, run_sticky },
	{ "prune", "FILE|TARGET", 1, 1, false, false, true, false, cli_snapshot_prune },
	{ "schedule", "FILE|DIR", 1, 1, false, false, false, true, cli_snapshot_schedule },
};

static int run_part(struct cli *c, const struct part *p)
{
	if (c->arg_count - 1 < p->args_min || c->arg_count - 1 > p->args_max)
		return cli_fail(c, CLI_USAGE, "see 'vpool snapshot --help'",
				"snapshot: %s arguments, expected %s %s",
				c->arg_count - 1 < p->args_min ? "missing" : "too many", p->name,
				p->args);
	if (!p->is_create && (c->name || c->comment || c->sticky || c->wait))
		return cli_fail(
			c, CLI_USAGE, "see 'vpool snapshot --help'",
			"snapshot: --name, --comment, --sticky and --wait belong to create");
	if (!p->is_prune && c->dry_run)
		return cli_fail(c, CLI_USAGE, "see 'vpool snapshot --help'",
				"snapshot: --dry-run belongs to prune");
	if (!p->is_schedule && (c->every || c->keep || c->clear))
		return cli_fail(c, CLI_USAGE, "see 'vpool snapshot --help'",
				"snapshot: --every, --keep and --clear belong to schedule");
	if (!p->is_rollback && c->force)
		return cli_fail(c, CLI_USAGE, "see 'vpool snapshot --help'",
				"snapshot: --force belongs to rollback");
	return p->run(c);
}

static int run_snapshot(struct cli *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strcmp(c->args[0], parts[i].name) == 0)
			return run_part(c, &parts[i]);
	return cli_fail(c, CLI_USAGE, "see 'vpool snapshot --help'",
			"snapshot: '%s': expected create, list, info, delete, rename, rollback, "
			"sticky, prune or schedule",
			c->args[0]);
}

static const struct argp_option snapshot_options[] = {
	{ "name", CLI_KEY_NAME, "NAME", 0, "create: its name; else the time, in UTC", 0 },
	{ "comment", CLI_KEY_COMMENT, "TEXT", 0, "create: up to 64 KiB of text", 0 },
	{ "sticky", CLI_KEY_STICKY, NULL, 0,
	  "create: retention leaves it alone, and the disk cannot be removed", 0 },
	{ "wait", CLI_KEY_WAIT, NULL, 0, "create: return when it is on the backend, too", 0 },
	{ "force", CLI_KEY_FORCE, NULL, 0,
	  "rollback: also of a disk that is open, and with younger snapshots, which are deleted",
	  0 },
	{ "dry-run", CLI_KEY_DRY_RUN, NULL, 0, "prune: only tell what would be deleted", 0 },
	{ "every", CLI_KEY_EVERY, "WHEN", 0,
	  "schedule: off, hourly, daily [HH:MM], weekly [mon..sun] [HH:MM] or monthly [1..28] "
	  "[HH:MM], in UTC",
	  0 },
	{ "keep", CLI_KEY_KEEP, "RULE", 0,
	  "schedule: for how many days all of them stay, the last of each hour, day, week, month: "
	  "all:N hourly:N daily:N weekly:N monthly:N, one or several; N as 7, 4w, 2y or forever",
	  0 },
	{ "clear", CLI_KEY_CLEAR, NULL, 0,
	  "schedule: both are as those of the directory above again", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_snapshot = {
	.name = "snapshot",
	.args = "WHAT FILE...",
	.summary = "freeze disks as they are now, look at such moments, go back to one",
	.doc = "WHAT is one of\n\n"
	       "  create FILE...            of several files of a pool: at one moment\n"
	       "  list FILE\n"
	       "  info FILE NAME\n"
	       "  delete FILE NAME...\n"
	       "  rename FILE NAME NEW\n"
	       "  rollback FILE NAME        gives up what was written since\n"
	       "  sticky FILE NAME on|off\n"
	       "  prune FILE|TARGET         deletes what the rule of --keep does not keep of those "
	       "that have a time as name\n"
	       "  schedule FILE|DIR         tells and sets when snapshots are made by themselves, "
	       "and what is kept of them: of a disk, or of all below a directory that have no setting "
	       "of their own; [pool] snapshot_schedule and keep of vpool.conf hold for the rest\n\n"
	       "Other names, the youngest and sticky ones stay. A disk that nobody wrote since the "
	       "last one gets no further one by schedule. "
	       "A snapshot takes no time, whatever the size of the disk, and writes go on meanwhile. "
	       "What is in it is what a machine would find that lost its power then. It can be read "
	       "as a file, MOUNT/.snapshots/PATH/NAME; ls of the mount does not show that directory. "
	       "A disk that is removed goes to the trash with its snapshots ('vpool trash'), unless one "
	       "is sticky: then it is refused. Clones keep what they need.",
	.args_min = 1,
	.args_max = CLI_ARGS_MAX,
	.options = snapshot_options,
	.run = run_snapshot,
};
