/*
 * The `vpool` command: finds the verb, parses its options, runs it. The only file that may exit.
 *
 * Without a verb it is the helper of mount(8): `vpool POOL MOUNTPOINT -o OPTIONS`, also under the
 * names mount.fuse.vpool and mount.vpool.
 */
#include "common/log.h"
#include "fs/cli.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cli_verb *const verbs[] = {
	&cli_verb_create,  &cli_verb_mount,    &cli_verb_umount,  &cli_verb_status,
	&cli_verb_list,	   &cli_verb_info,     &cli_verb_sync,	  &cli_verb_check,
	&cli_verb_stats,   &cli_verb_config,   &cli_verb_backend, &cli_verb_restore,
	&cli_verb_upgrade, &cli_verb_snapshot, &cli_verb_clone,	  &cli_verb_scrub,
	&cli_verb_trash,   &cli_verb_template,
};

static const struct argp_option common_options[] = {
	{ "json", CLI_KEY_JSON, NULL, 0, "One JSON document on standard output, also for errors",
	  100 },
	{ "help", CLI_KEY_HELP, NULL, 0, "This text", 100 },
	{ 0 },
};

/* Parses for a verb; argp's own messages are off, so that errors have one shape everywhere. */
struct parse {
	struct cli *cli;
	char error[256];
	const char *unknown;
};

static const struct cli_verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

/* --- options ----------------------------------------------------------------------------------- */

/* Several -o add up, as with mount(8). */
static error_t take_mount_options(struct parse *p, const char *arg)
{
	static char joined[4096];
	size_t len = strlen(joined);

	if (snprintf(joined + len, sizeof(joined) - len, "%s%s", len ? "," : "", arg) >=
	    (int)(sizeof(joined) - len)) {
		(void)snprintf(p->error, sizeof(p->error), "-o: too long");
		return EINVAL;
	}
	p->cli->mount_options = joined;
	return 0;
}

static error_t take_value(struct parse *p, int key, const char *arg)
{
	struct cli *c = p->cli;

	switch (key) {
	case CLI_KEY_BACKEND:
		c->backend = arg;
		return 0;
	case CLI_KEY_SCO_SIZE:
		c->sco_size = arg;
		return 0;
	case CLI_KEY_CACHE:
		if (c->cache_count == CLI_CACHES_MAX) {
			(void)snprintf(p->error, sizeof(p->error),
				       "--cache: more than %u directories", CLI_CACHES_MAX);
			return EINVAL;
		}
		c->cache[c->cache_count++] = arg;
		return 0;
	case CLI_KEY_WORKER:
		c->worker = arg;
		return 0;
	case CLI_KEY_NAME:
		c->name = arg;
		return 0;
	case CLI_KEY_COMMENT:
		c->comment = arg;
		return 0;
	case CLI_KEY_EVERY:
		c->every = arg;
		return 0;
	case CLI_KEY_KEEP:
		c->keep = arg;
		return 0;
	case CLI_KEY_OLDER_THAN:
		c->older_than = arg;
		return 0;
	case 'o':
		return take_mount_options(p, arg);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t take_flag(struct cli *c, int key)
{
	switch (key) {
	case CLI_KEY_JSON:
		c->json = true;
		return 0;
	case CLI_KEY_HELP:
		c->help = true;
		return 0;
	case CLI_KEY_NO_UPLOAD:
		c->no_upload = true;
		return 0;
	case CLI_KEY_DATA:
		c->data = true;
		return 0;
	case CLI_KEY_REPAIR:
		c->repair = true;
		return 0;
	case CLI_KEY_WATCH:
		c->watch = true;
		return 0;
	case CLI_KEY_STICKY:
		c->sticky = true;
		return 0;
	case CLI_KEY_WAIT:
		c->wait = true;
		return 0;
	case CLI_KEY_FORCE:
		c->force = true;
		return 0;
	case CLI_KEY_DRY_RUN:
		c->dry_run = true;
		return 0;
	case CLI_KEY_CLEAR:
		c->clear = true;
		return 0;
	case CLI_KEY_CANCEL:
		c->cancel = true;
		return 0;
	case CLI_KEY_UNDO:
		c->undo = true;
		return 0;
	case CLI_KEY_ALL:
		c->all = true;
		return 0;
	case 'f':
		c->foreground = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t take_common_option(int key, char *arg, struct argp_state *state)
{
	const struct parse *p = state->input;

	(void)arg;
	return key == CLI_KEY_JSON || key == CLI_KEY_HELP ? take_flag(p->cli, key) :
							    ARGP_ERR_UNKNOWN;
}

static error_t take_option(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;
	struct cli *c = p->cli;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = p;
		return 0;
	case ARGP_KEY_ARG:
		if (c->arg_count == CLI_ARGS_MAX)
			return E2BIG;
		c->args[c->arg_count++] = arg;
		return 0;
	case ARGP_KEY_ERROR:
		p->unknown = state->next > 0 ? state->argv[state->next - 1] : NULL;
		return 0;
	default:
		return arg ? take_value(p, key, arg) : take_flag(c, key);
	}
}

/* Whether the word --json is given, also where parsing fails before it. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

static int usage_error(struct cli *c, const char *message)
{
	char hint[128];

	(void)snprintf(hint, sizeof(hint), "see 'vpool %s%s--help'", c->verb ? c->verb->name : "",
		       c->verb ? " " : "");
	return cli_fail(c, CLI_USAGE, hint, "%s%s%s", c->verb ? c->verb->name : "",
			c->verb ? ": " : "", message);
}

static int show_help(const struct cli_verb *verb, const struct argp *argp)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "vpool %s", verb->name);
	argp_help(argp, stdout,
		  ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG | ARGP_HELP_POST_DOC, name);
	return cli_finish_output(&(struct cli){ .verb = verb });
}

static int run_verb(struct cli *c, int argc, char **argv)
{
	const struct argp_child children[] = {
		{ .argp = &(const struct argp){ .options = common_options,
						.parser = take_common_option } },
		{ 0 }
	};
	char doc[2048], message[320];
	const struct argp argp = {
		.options = c->verb->options,
		.parser = take_option,
		.args_doc = c->verb->args,
		.doc = doc,
		.children = children,
	};
	struct parse p = { .cli = c };
	error_t r;

	(void)snprintf(doc, sizeof(doc), "%s.\v%s", c->verb->summary, c->verb->doc);
	r = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP | ARGP_NO_EXIT, NULL, &p);
	if (c->help)
		return show_help(c->verb, &argp);
	if (p.error[0])
		return usage_error(c, p.error);
	if (r == E2BIG)
		return usage_error(c, "too many arguments");
	if (r != 0) {
		(void)snprintf(message, sizeof(message),
			       "'%.200s': unknown option, or its value is missing",
			       p.unknown ? p.unknown : "");
		return usage_error(c, message);
	}
	if (c->arg_count < c->verb->args_min || c->arg_count > c->verb->args_max) {
		(void)snprintf(message, sizeof(message), "%s arguments, expected %s",
			       c->arg_count < c->verb->args_min ? "missing" : "too many",
			       c->verb->args);
		return usage_error(c, message);
	}
	return c->verb->run(c);
}

/* --- the command itself ------------------------------------------------------------------------ */

static int show_all_help(void)
{
	(void)puts(
		"usage: vpool VERB [OPTION...] ARGUMENT...\n"
		"\n"
		"A pool of virtual disks: every disk is a log, cached on local flash, kept in an "
		"object store.\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)printf("  %-9s%-26s%s\n", verbs[i]->name, verbs[i]->args, verbs[i]->summary);
	(void)puts("\n"
		   "TARGET is a mount point or a pool directory; FILE is a path inside a mount.\n"
		   "`vpool VERB --help` tells the options of a verb. Every verb takes --json.\n"
		   "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found,\n"
		   "5 busy or locked, 6 integrity error found.");
	return cli_finish_output(&(struct cli){ 0 });
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_mount_helper_name(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');
	const char *name = slash ? slash + 1 : argv0;

	return strcmp(name, "mount.fuse.vpool") == 0 || strcmp(name, "mount.vpool") == 0;
}

/* mount(8) gives its helpers -s, -n, -v, and -t TYPE, which mean nothing here. */
static int drop_helper_flags(int argc, char **argv)
{
	int kept = 1;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-s") == 0 || strcmp(argv[i], "-n") == 0 ||
		    strcmp(argv[i], "-v") == 0 || strcmp(argv[i], "-w") == 0)
			continue;
		if (strcmp(argv[i], "-t") == 0 && i + 1 < argc) {
			i++;
			continue;
		}
		argv[kept++] = argv[i];
		if (strcmp(argv[i], "-o") == 0 && i + 1 < argc)
			argv[kept++] = argv[++i];
	}
	argv[kept] = NULL;
	return kept;
}

static int run(int argc, char **argv)
{
	struct cli c = { .json = wants_json(argc, argv) };
	char message[256];

	if (is_mount_helper_name(argv[0])) {
		c.verb = &cli_verb_mount;
		return run_verb(&c, drop_helper_flags(argc, argv), argv);
	}
	if (argc < 2)
		return usage_error(&c, "what shall be done?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 ||
	    strcmp(argv[1], "-h") == 0)
		return show_all_help();
	if (strcmp(argv[1], "--version") == 0) {
		(void)puts("vpool " VPOOL_VERSION);
		return cli_finish_output(&c);
	}
	c.verb = find_verb(argv[1]);
	if (c.verb)
		return run_verb(&c, argc - 1, argv + 1);
	if (argv[1][0] != '-' && argc >= 3 && is_directory(argv[1])) {
		c.verb = &cli_verb_mount;
		return run_verb(&c, drop_helper_flags(argc, argv), argv);
	}
	(void)snprintf(message, sizeof(message), "'%.200s': no such verb", argv[1]);
	return usage_error(&c, message);
}

/* Descriptors that a caller closed must not become those of files that are written to. */
static bool open_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return false;
	(void)close(fd);
	return true;
}

int main(int argc, char **argv)
{
	if (!open_standard_streams()) {
		(void)fprintf(stderr, "vpool: /dev/null: %s\n", err_name(-errno));
		return CLI_FAILED;
	}
	(void)umask(077);		  /* of a pool nobody else reads anything */
	json_object_seed(0);		  /* once, before there are threads */
	log_set_level(LOG_LEVEL_WARNING); /* commands; a daemon asks its configuration */
	return run(argc, argv);
}
