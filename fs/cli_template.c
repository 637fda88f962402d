/* `vpool template`: a disk that does not change any more, for clones. */
#include "fs/query.h"

static int run_template(struct cli *c)
{
	struct target t = { 0 };
	json_t *answer = NULL;
	uint64_t ino;
	int r = query_file(c, c->args[0], "a template is one disk: name a file inside a mount", &t,
			   &ino);

	if (r != CLI_DONE)
		return r;
	r = query_target(c, &t,
			 json_pack("{s:s, s:I, s:b, s:b}", "verb", "template", "ino",
				   (json_int_t)ino, "on", !c->undo, "force", c->force),
			 0, &answer);
	if (r == CLI_DONE && c->json)
		r = cli_print_json(c, json_incref(answer));
	json_decref(answer);
	target_done(&t);
	return r;
}

static const struct argp_option template_options[] = {
	{ "undo", CLI_KEY_UNDO, NULL, 0, "It is a disk like any other again; its clones stay", 0 },
	{ "force", CLI_KEY_FORCE, NULL, 0, "Also of a disk that is open: whoever writes gets EPERM",
	  0 },
	{ 0 },
};

const struct cli_verb cli_verb_template = {
	.name = "template",
	.args = "FILE",
	.summary = "make a disk one that does not change, for clones",
	.doc = "Writing, truncating and opening for writing then fail with \"Operation not permitted\"; "
	       "reading, renaming, other owners and modes do not. `vpool clone FILE NEWFILE` of a "
	       "template is the cheapest there is: nothing has to be frozen. It can be removed "
	       "whatever clones it has, goes to the trash then, and they keep what they need.",
	.args_min = 1,
	.args_max = 1,
	.options = template_options,
	.run = run_template,
};
