/* `vpool clone`: a disk that begins as another, or as a snapshot of it. */
#include "fs/json_out.h"
#include "fs/query.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What FILE[@SNAPSHOT] means: a file of that very name, else the longest one that is there. */
struct origin {
	char *file;
	const char *snapshot; /* into the argument; NULL: the file as it is now */
};

static bool exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

/* Errors: -ENOMEM. A file that is not there is told later. */
static int parse_origin(const char *arg, struct origin *ret_origin)
{
	struct origin o = { .file = strdup(arg) };

	if (!o.file)
		return -ENOMEM;
	for (size_t at = strlen(arg); at > 0 && !exists(o.file) && !o.snapshot; at--) {
		if (arg[at] != '@')
			continue;
		o.file[at] = '\0';
		if (exists(o.file))
			o.snapshot = arg + at + 1;
		else
			o.file[at] = '@';
	}
	*ret_origin = o;
	return 0;
}

static json_t *request_of(uint64_t ino, const char *snapshot, uint64_t parent, const char *name)
{
	json_t *request = json_pack("{s:s, s:I, s:I}", "verb", "clone", "ino", (json_int_t)ino,
				    "parent", (json_int_t)parent);
	int r = request ? json_out_name(request, "name", name, strlen(name)) : -ENOMEM;

	if (r == 0 && snapshot)
		r = json_out_name(request, "snapshot", snapshot, strlen(snapshot));
	if (r == 0)
		return request;
	json_decref(request);
	return NULL;
}

static int clone_from(const struct cli *c, const struct origin *o)
{
	struct target from = { 0 }, to = { 0 };
	uint64_t ino, parent = 0;
	const char *name = NULL;
	json_t *answer = NULL;
	int r = query_file(c, o->file, NULL, &from, &ino);

	if (r == CLI_DONE)
		r = query_place(c, c->args[1], &to, &parent, &name);
	if (r == CLI_DONE && strcmp(from.pool_dir, to.pool_dir) != 0)
		r = cli_fail(c, CLI_USAGE, "'cp' makes a copy",
			     "clone: '%s' and '%s' are in different pools", c->args[0], c->args[1]);
	if (r == CLI_DONE)
		r = query_target(c, &from, request_of(ino, o->snapshot, parent, name), 0, &answer);
	if (r == CLI_DONE && c->json)
		r = cli_print_json(c, json_incref(answer));
	json_decref(answer);
	target_done(&from);
	target_done(&to);
	return r;
}

static int run_clone(struct cli *c)
{
	struct origin o;
	int r = parse_origin(c->args[0], &o);

	if (r < 0)
		return cli_fail(c, CLI_FAILED, NULL, "clone: %s", err_name(r));
	r = clone_from(c, &o);
	free(o.file);
	return r;
}

const struct cli_verb cli_verb_clone = {
	.name = "clone",
	.args = "FILE[@SNAPSHOT] NEWFILE",
	.summary = "make a disk that begins as another, or as a snapshot of it",
	.doc = "Takes no time and no space, whatever the size; the two then go their own ways. "
	       "NEWFILE is in the same pool and must not be there; owner and mode are those of FILE. "
	       "Neither FILE nor the snapshot has to stay: what the clone needs of them is kept.",
	.args_min = 2,
	.args_max = 2,
	.run = run_clone,
};
