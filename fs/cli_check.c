/* `vpool check`: proves that the parts of a pool that is not mounted agree, and repairs what can be. */
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/json_out.h"
#include "fs/namespace.h"
#include "fs/pool_setup.h"
#include "fs/target.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than these are counted, not told one by one. */
#define PROBLEMS_MAX 1000u

struct check_run {
	const struct cli *c;
	struct ns *ns;
	json_t *problems;
	uint64_t errors, warnings, repaired;
};

/* --- problems ---------------------------------------------------------------------------------- */

static void add_problem(struct check_run *k, bool is_error, const char *what, const char *where,
			bool repaired)
{
	json_t *problem;

	if (repaired)
		k->repaired++;
	else if (is_error)
		k->errors++;
	else
		k->warnings++;
	if (json_array_size(k->problems) >= PROBLEMS_MAX)
		return;
	problem = json_pack("{s:s, s:b}", "severity", is_error ? "error" : "warning", "repaired",
			    repaired);
	/* One that there is no memory for is counted all the same. */
	if (problem && json_out_name(problem, "what", what, strlen(what)) == 0 &&
	    json_out_name(problem, "where", where, strlen(where)) == 0)
		(void)json_array_append(k->problems, problem);
	json_decref(problem);
}

static void where_of(const struct check_run *k, const struct pool_problem *p, char where[512])
{
	AUTO(buf_done) struct buf path;
	struct err e = { 0 };
	size_t len = 0;

	where[0] = '\0';
	buf_init(&path, 1u << 20);
	if (p->object && k->ns && ns_path_of(k->ns, p->object, &path, &e) == 0)
		len = (size_t)snprintf(where, 512, "'%.200s' at %" PRIu64 "+%" PRIu64,
				       (const char *)path.data, p->offset_bytes, p->len_bytes);
	else if (p->object)
		len = (size_t)snprintf(where, 512, "object %" PRIu64 " at %" PRIu64 "+%" PRIu64,
				       p->object, p->offset_bytes, p->len_bytes);
	if (p->sco && len < 512)
		(void)snprintf(where + len, 512 - len, "%sSCO %" PRIu64 " slot %u", len ? ", " : "",
			       p->sco, p->slot);
}

static void pool_problem(void *arg, const struct pool_problem *p)
{
	struct check_run *k = arg;
	char where[512];

	where_of(k, p, where);
	add_problem(k, p->severity == POOL_ERROR, p->what, where, p->repaired);
}

static void ns_problem(void *arg, const struct ns_problem *p)
{
	char where[64] = "";

	if (p->ino)
		(void)snprintf(where, sizeof(where), "inode %" PRIu64, p->ino);
	add_problem(arg, p->severity == NS_ERROR, p->what, where, false);
}

/* --- the run ----------------------------------------------------------------------------------- */

static void show_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct check_run *k = arg;
	char done[CLI_SIZE_BYTES], total[CLI_SIZE_BYTES];

	if (k->c->json || !isatty(STDERR_FILENO))
		return;
	if (done_bytes < total_bytes)
		(void)fprintf(stderr, "\r%s of %s checked   ", cli_size(done_bytes, done),
			      cli_size(total_bytes, total));
	else
		(void)fprintf(stderr, "\r%50s\r", "");
}

static json_t *result_document(const struct check_run *k, const struct pool_check_result *pool,
			       const struct ns_check_result *ns)
{
	json_t *document = json_object();
	int r = 0;

	r |= json_out_u64(document, "errors", k->errors);
	r |= json_out_u64(document, "warnings", k->warnings);
	r |= json_out_u64(document, "repaired", k->repaired);
	r |= json_object_set(document, "problems", k->problems);
	r |= json_out_u64(document, "inodes", ns->inodes);
	r |= json_out_u64(document, "objects", pool->objects);
	r |= json_out_u64(document, "scos", pool->scos);
	r |= json_out_u64(document, "single_copy_scos", pool->single_copy_scos);
	r |= json_out_u64(document, "live_bytes", pool->live_bytes);
	r |= json_out_u64(document, "data_bytes", pool->data_bytes);
	r |= json_object_set_new(document, "backend_checked", json_boolean(pool->backend_checked));
	if (r) {
		json_decref(document);
		return NULL;
	}
	return document;
}

static void print_problems(const struct check_run *k)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(k->problems, i, problem)
	{
		const char *where = cli_json_string(problem, "where");
		char *shown_what = cli_json_printable(problem, "what");
		char *shown_where = cli_json_printable(problem, "where");

		(void)printf("%s: %s%s%s%s\n",
			     json_is_true(json_object_get(problem, "repaired")) ?
				     "repaired" :
				     cli_json_string(problem, "severity"),
			     shown_what ? shown_what : "?", where[0] ? " (" : "",
			     shown_where ? shown_where : "", where[0] ? ")" : "");
		free(shown_what);
		free(shown_where);
	}
}

static int tell_result(const struct check_run *k, const struct pool_check_result *pool,
		       const struct ns_check_result *ns)
{
	char live[CLI_SIZE_BYTES], data[CLI_SIZE_BYTES];
	int r;

	if (k->c->json) {
		r = cli_print_json(k->c, result_document(k, pool, ns));
	} else {
		print_problems(k);
		(void)printf("%" PRIu64 " inodes, %" PRIu64 " objects, %" PRIu64
			     " containers, %s live, %s read and compared%s\n",
			     ns->inodes, pool->objects, pool->scos,
			     cli_size(pool->live_bytes, live), cli_size(pool->data_bytes, data),
			     pool->backend_checked ? "" : "; the backend did not answer");
		if (pool->single_copy_scos)
			(void)printf("%" PRIu64
				     " containers have one copy only, shared by cache and "
				     "backend; [backend] copy = copy makes two of later ones\n",
				     pool->single_copy_scos);
		(void)printf("%" PRIu64 " errors, %" PRIu64 " warnings, %" PRIu64 " repaired\n",
			     k->errors, k->warnings, k->repaired);
		r = cli_finish_output(k->c);
	}
	return r != CLI_DONE ? r : k->errors ? CLI_DAMAGED : CLI_DONE;
}

static int check_open(struct check_run *k, struct pool *pool)
{
	struct pool_check_options options = {
		.data = k->c->data,
		.repair = k->c->repair,
		.problem = pool_problem,
		.progress = show_progress,
		.arg = k,
	};
	struct pool_check_result pool_result = { 0 };
	struct ns_check_result ns_result = { 0 };
	struct err e = { 0 };
	int r;

	r = ns_check(k->ns, ns_problem, k, &ns_result, &e);
	if (r == 0)
		r = pool_check(pool, &options, &pool_result, &e);
	if (r < 0)
		return cli_fail_err(k->c, r, &e, NULL, "checking");
	return tell_result(k, &pool_result, &ns_result);
}

/* A pool that cannot even be opened: the reason is the problem. */
static int tell_unopened(struct check_run *k, int code, const struct err *e)
{
	const struct pool_check_result pool = { 0 };
	const struct ns_check_result ns = { 0 };

	if (cli_exit_of(code) != CLI_DAMAGED)
		return cli_fail_err(k->c, code, e,
				    code == -EBUSY ? "'vpool umount' it first" : NULL, "checking");
	add_problem(k, true, e->message, "", false);
	return tell_result(k, &pool, &ns);
}

static int check_pool(struct check_run *k, const struct pool_setup *setup)
{
	struct err e = { 0 };
	struct pool *pool;
	int r, closed;

	r = pool_setup_open(setup, &pool, &k->ns, &e);
	if (r < 0)
		return tell_unopened(k, r, &e);
	r = check_open(k, pool);
	closed = pool_setup_close(pool, k->ns, &e);
	if (closed < 0 && r == CLI_DONE)
		return cli_fail_err(k->c, closed, &e, NULL, "closing the pool");
	return r;
}

static int run_check(struct cli *c)
{
	struct check_run k = { .c = c };
	struct target t = { 0 };
	struct pool_setup *setup = NULL;
	struct err e = { 0 };
	pid_t pid;
	int r;

	r = target_find(c->args[0], &t, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, "checking");
	/* Where no daemon is found the next one of the mount is about to start: that is waited for. */
	if (t.mountpoint &&
	    (control_find_daemon(t.pool_dir, &pid) == 0 ||
	     (!mount_is_dead(t.mountpoint) && control_find_daemon(t.pool_dir, &pid) == 0)))
		r = cli_fail(c, CLI_BUSY, "'vpool umount' it first",
			     "checking: '%s' is mounted at '%s' by process %d", t.pool_dir,
			     t.mountpoint, (int)pid);
	else if ((r = pool_setup_load(t.pool_dir, &setup, &e)) < 0)
		r = cli_fail_err(c, r, &e, NULL, "checking");
	else if (!(k.problems = json_array()))
		r = cli_fail(c, CLI_FAILED, NULL, "checking: %s", err_name(-ENOMEM));
	else {
		/* A ring that is gone is damage that only giving it up repairs. */
		setup->options.give_up_ring = c->repair;
		r = check_pool(&k, setup);
	}
	json_decref(k.problems);
	pool_setup_free(setup);
	target_done(&t);
	return r;
}

static const struct argp_option options[] = {
	{ "data", CLI_KEY_DATA, NULL, 0, "Read all data and compare every checksum", 0 },
	{ "repair", CLI_KEY_REPAIR, NULL, 0,
	  "Correct counts, remove leftovers; give up a lost ring", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_check = {
	.name = "check",
	.args = "POOL",
	.summary = "check a pool that is not mounted",
	.doc = "Names against inodes, maps against containers, containers against the backend, counts "
	       "against what they count. What a crash left is recovered first, as by a mount. Exit "
	       "code 6: something is damaged, and not repaired.",
	.args_min = 1,
	.args_max = 1,
	.options = options,
	.run = run_check,
};
