#include "fs/query.h"

#include "fs/control.h"
#include "fs/pool_setup.h"
#include "fs/service.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int query_find(const struct cli *c, struct target *ret_target)
{
	struct err e = { 0 };
	int r = target_find(c->args[0], ret_target, &e);

	return r < 0 ? cli_fail_err(c, r, &e, NULL, c->verb->name) : CLI_DONE;
}

int query_file(const struct cli *c, const char *path, const char *hint, struct target *ret_target,
	       uint64_t *ret_ino)
{
	struct target t = { 0 };
	struct err e = { 0 };
	struct stat st;
	int r = target_find(path, &t, &e);

	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, c->verb->name);
	if (t.kind != TARGET_FILE)
		r = cli_fail(c, CLI_USAGE, hint, "%s: '%s' is not a file in a mount", c->verb->name,
			     path);
	else if (stat(t.path, &st) < 0)
		r = cli_fail(c, cli_exit_of(-errno), NULL, "%s: '%s': %s", c->verb->name, path,
			     err_name(-errno));
	if (r != CLI_DONE) {
		target_done(&t);
		return r;
	}
	*ret_target = t;
	*ret_ino = st.st_ino;
	return CLI_DONE;
}

int query_place(const struct cli *c, const char *path, struct target *ret_target,
		uint64_t *ret_parent, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	struct target t = { 0 };
	struct err e = { 0 };
	struct stat st;
	int r = dir ? 0 : -ENOMEM;

	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		free(dir);
		return cli_fail(c, CLI_USAGE, NULL, "%s: '%s' is no name for a new file",
				c->verb->name, path);
	}
	if (r == 0)
		r = target_find(dir, &t, &e);
	if (r == 0 && t.kind == TARGET_POOL)
		r = err_set(&e, -ENOENT, "'%s' is not in a mount", path);
	if (r == 0 && stat(t.path, &st) < 0)
		r = err_set(&e, -errno, "'%s': %s", dir, err_name(-errno));
	free(dir);
	if (r < 0) {
		target_done(&t);
		return cli_fail_err(c, r, &e, NULL, c->verb->name);
	}
	*ret_target = t;
	*ret_parent = st.st_ino;
	*ret_name = name;
	return CLI_DONE;
}

/* The answer, unless it is an error document, which is told. */
static int accept(const struct cli *c, json_t *answer, json_t **ret_answer)
{
	int r;

	if (answer && !json_object_get(answer, "error")) {
		*ret_answer = answer;
		return CLI_DONE;
	}
	r = answer ? cli_fail_document(c, c->verb->name, answer) :
		     cli_fail(c, CLI_FAILED, NULL, "%s: %s", c->verb->name, err_name(-ENOMEM));
	json_decref(answer);
	return r;
}

static int ask_pool(const struct cli *c, const struct target *target, json_t *request,
		    json_t **ret_answer)
{
	struct service_options so = { .pool_dir = target->pool_dir };
	struct pool_setup *setup;
	struct service *service = NULL;
	json_t *answer = NULL;
	struct err e = { 0 }, closing = { 0 };
	int r;

	r = pool_setup_load(target->pool_dir, &setup, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, c->verb->name);
	so.policy = setup->policy;
	r = pool_setup_open(setup, &so.pool, &so.ns, &e);
	if (r < 0) {
		pool_setup_free(setup);
		return cli_fail_err(c, r, &e, NULL, c->verb->name);
	}
	r = service_new(&so, &service, &e);
	if (r == 0)
		answer = service_answer(service, request, -1);
	service_free(service);
	if (pool_setup_close(so.pool, so.ns, &closing) < 0 && answer) {
		json_decref(answer);
		answer = NULL;
		r = err_set(&e, closing.code, "closing the pool: %s", closing.message);
	}
	pool_setup_free(setup);
	return r < 0 ? cli_fail_err(c, r, &e, NULL, c->verb->name) : accept(c, answer, ret_answer);
}

static const char *hint_of(const struct target *target)
{
	if (!target->mountpoint)
		return "mount it first";
	return mount_is_dead(target->mountpoint) ?
		       "its daemon died: 'vpool mount' it again, which recovers it" :
		       NULL;
}

int query_target(const struct cli *c, const struct target *target, json_t *request,
		 unsigned int flags, json_t **ret_answer)
{
	json_t *answer = NULL;
	struct err e = { 0 };
	pid_t pid;
	int r;

	r = control_ask(target->pool_dir, json_incref(request), CONTROL_NO_TIMEOUT, &answer, &e);
	if (r == 0)
		r = accept(c, answer, ret_answer);
	else if (r == -ECONNREFUSED && flags & QUERY_OFFLINE && !target->mountpoint)
		r = ask_pool(c, target, request, ret_answer);
	else if (r == -ECONNREFUSED && control_find_daemon(target->pool_dir, &pid) == 0)
		r = cli_fail(c, CLI_BUSY, NULL,
			     "%s: process %d has the pool '%s' and takes no questions yet, or no "
			     "longer",
			     c->verb->name, (int)pid, target->pool_dir);
	else
		r = cli_fail(c, r == -ECONNREFUSED ? CLI_NOT_FOUND : CLI_FAILED, hint_of(target),
			     "%s: %s", c->verb->name, e.message);
	json_decref(request);
	return r;
}
