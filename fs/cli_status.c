/* `vpool status`: a mounted pool is asked; of one that is not mounted what can be seen from outside. */
#include "fs/cli_scrub.h"
#include "fs/control.h"
#include "fs/json_out.h"
#include "fs/pool_setup.h"
#include "fs/query.h"

#include <stdlib.h>
#include <string.h>

static void print_row(const char *what, const char *value)
{
	(void)printf("%-12s%s\n", what, value);
}

static void print_name(const char *what, const json_t *document, const char *key)
{
	char *shown = cli_json_printable(document, key);

	print_row(what, shown ? shown : "?");
	free(shown);
}

static void print_backend(const json_t *document)
{
	const json_t *backend = json_object_get(document, "backend");
	const char *state = cli_json_string(backend, "state");
	char *url = cli_json_printable(backend, "url");

	(void)printf("%-12s%s%s%s\n", "backend", url ? url : "?", state[0] ? ", " : "", state);
	free(url);
}

/* Nothing where no disk has a schedule. */
static void print_schedule(const json_t *schedule)
{
	const char *trouble = cli_json_string(schedule, "trouble");
	const json_t *next = json_object_get(schedule, "next_snapshot");
	char text[CLI_TIME_BYTES];

	if (json_is_real(next))
		(void)printf("%-12sof %" PRIu64 " disks, next %s%s%s\n", "snapshots",
			     cli_json_u64(schedule, "disks"), cli_time(json_real_value(next), text),
			     trouble[0] ? "; failed: " : "", trouble);
}

static void print_content(const json_t *document)
{
	uint64_t templates = cli_json_u64(document, "templates");
	char used[CLI_SIZE_BYTES], of_them[48] = "";

	if (templates > 0)
		(void)snprintf(of_them, sizeof(of_them), " (%" PRIu64 " templates)", templates);
	(void)printf("%-12s%" PRIu64 " disks, %" PRIu64 " other files%s, %s\n", "content",
		     cli_json_u64(document, "disks"), cli_json_u64(document, "files"), of_them,
		     cli_size(cli_json_u64(document, "used_bytes"), used));
}

/* Nothing where it is empty. */
static void print_trash(const json_t *trash)
{
	const char *hint = cli_json_string(trash, "hint");
	uint64_t files = cli_json_u64(trash, "files");
	char held[CLI_SIZE_BYTES];

	if (files > 0)
		(void)printf("%-12s%" PRIu64 " files, %s%s%s\n", "trash", files,
			     cli_size(cli_json_u64(trash, "allocated_bytes"), held),
			     hint[0] ? "; " : "", hint);
}

static int print_status(const struct cli *c, const json_t *document)
{
	const json_t *cache = json_object_get(document, "cache");
	const json_t *upload = json_object_get(document, "upload");
	const char *reason = cli_json_string(document, "reason");
	char a[CLI_SIZE_BYTES], b[CLI_SIZE_BYTES];

	(void)printf("%-12s%s%s%s\n", "state", cli_json_string(document, "state"),
		     reason[0] ? ": " : "", reason);
	print_name("pool", document, "pool");
	if (cli_json_string(document, "mountpoint")[0])
		print_name("mounted at", document, "mountpoint");
	if (json_object_get(document, "pid"))
		(void)printf("%-12s%" PRIu64 "\n", "process", cli_json_u64(document, "pid"));
	if (json_object_get(document, "disks"))
		print_content(document);
	print_trash(json_object_get(document, "trash"));
	if (json_object_get(document, "dirty_bytes"))
		(void)printf("%-12s%s, %" PRIu64 " containers wait for upload\n", "dirty",
			     cli_size(cli_json_u64(document, "dirty_bytes"), a),
			     cli_json_u64(upload, "queued_scos"));
	if (cache)
		(void)printf("%-12s%s of %s\n", "cache",
			     cli_size(cli_json_u64(cache, "used_bytes"), a),
			     cli_size(cli_json_u64(cache, "size_bytes"), b));
	print_schedule(json_object_get(document, "schedule"));
	cli_print_scrub_status(json_object_get(document, "scrub"));
	print_backend(document);
	return cli_finish_output(c);
}

/* --- not mounted ------------------------------------------------------------------------------- */

static int offline_document(const struct target *t, const struct pool_setup *setup,
			    json_t *document)
{
	const struct config *config = &setup->config;
	json_t *backend = json_object();
	char url[CONFIG_STRING_BYTES + 64];
	const char *reason = "not mounted";
	pid_t pid;
	char taken[64];
	int r = 0;

	if (control_find_daemon(t->pool_dir, &pid) == 0) {
		(void)snprintf(taken, sizeof(taken), "in use by process %d, which did not answer",
			       (int)pid);
		reason = taken;
	} else if (t->mountpoint && mount_is_dead(t->mountpoint)) {
		reason = "its daemon died; the next mount recovers what it acknowledged";
	} else if (t->mountpoint) {
		reason = "mounted, but its daemon is only just starting again";
	}
	if (config->backend.url[0])
		(void)snprintf(url, sizeof(url), "%s", config->backend.url);
	else
		(void)snprintf(url, sizeof(url), "file://%.*s/objects", CONFIG_STRING_BYTES,
			       setup->dir);
	r |= json_object_set_new(document, "backend", backend);
	r |= json_object_set_new(document, "state", json_string("offline"));
	r |= json_object_set_new(document, "reason", json_string(reason));
	r |= json_out_name(document, "pool", setup->dir, strlen(setup->dir));
	r |= t->mountpoint ?
		     json_out_name(document, "mountpoint", t->mountpoint, strlen(t->mountpoint)) :
		     json_object_set_new(document, "mountpoint", json_null());
	r |= json_out_name(backend, "url", url, strlen(url));
	return r ? -ENOMEM : 0;
}

static int status_offline(const struct cli *c, const struct target *t)
{
	struct pool_setup *setup;
	json_t *document;
	struct err e = { 0 };
	int r;

	r = pool_setup_load(t->pool_dir, &setup, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, "status");
	document = json_object();
	if (!document || offline_document(t, setup, document) < 0)
		r = cli_fail(c, CLI_FAILED, NULL, "status: %s", err_name(-ENOMEM));
	else if (c->json)
		r = cli_print_json(c, json_incref(document));
	else
		r = print_status(c, document);
	json_decref(document);
	pool_setup_free(setup);
	return r;
}

/* --- the verb ---------------------------------------------------------------------------------- */

static int run_status(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	struct err e = { 0 };
	int r;

	r = query_find(c, &t);
	if (r != CLI_DONE)
		return r;
	r = control_ask(t.pool_dir, json_pack("{s:s}", "verb", "status"), CONTROL_NO_TIMEOUT,
			&answer, &e);
	if (r == -ECONNREFUSED)
		r = status_offline(c, &t);
	else if (r < 0)
		r = cli_fail_err(c, r, &e, NULL, "status");
	else if (json_object_get(answer, "error"))
		r = cli_fail_document(c, "status", answer);
	else if (c->json)
		r = cli_print_json(c, json_incref(answer));
	else
		r = print_status(c, answer);
	json_decref(answer);
	target_done(&t);
	return r;
}

const struct cli_verb cli_verb_status = {
	.name = "status",
	.args = "TARGET",
	.summary = "tell how a pool is: state, dirty data, cache, backend",
	.doc = "States: ok; degraded: something needs attention, all data can be used; blocked: writes "
	       "wait; offline: not mounted.",
	.args_min = 1,
	.args_max = 1,
	.run = run_status,
};
