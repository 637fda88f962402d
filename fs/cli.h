/*
 * cli - what the verbs of the `vpool` command share: their table, options, output, errors.
 *
 * A verb is one row: names of its arguments, the options that it takes, prose, and a function. The
 * function prints its result (a table for people, or with --json one document on standard output)
 * and returns the exit code. Errors go through cli_fail(): one line "vpool: what: why" on standard
 * error, or with --json the document {"error":..., "code":..., "hint":...} on standard output.
 */
#ifndef FS_CLI_H
#define FS_CLI_H

#include "common/err.h"

#include <argp.h>
#include <jansson.h>
#include <stdio.h>

enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_PARTLY = 3,
	CLI_NOT_FOUND = 4,
	CLI_BUSY = 5,
	CLI_DAMAGED = 6,
};

#define CLI_ARGS_MAX   4097u /* a word, and a group of snapshots */
#define CLI_CACHES_MAX 16u

/* Options without a short form. Each verb lists those that it takes. */
enum cli_key {
	CLI_KEY_JSON = 0x100,
	CLI_KEY_HELP,
	CLI_KEY_BACKEND,
	CLI_KEY_SCO_SIZE,
	CLI_KEY_CACHE,
	CLI_KEY_NO_UPLOAD,
	CLI_KEY_DATA,
	CLI_KEY_REPAIR,
	CLI_KEY_WATCH,
	CLI_KEY_WORKER,
	CLI_KEY_NAME,
	CLI_KEY_COMMENT,
	CLI_KEY_STICKY,
	CLI_KEY_WAIT,
	CLI_KEY_FORCE,
	CLI_KEY_DRY_RUN,
	CLI_KEY_EVERY,
	CLI_KEY_KEEP,
	CLI_KEY_CLEAR,
	CLI_KEY_CANCEL,
	CLI_KEY_ALL,
	CLI_KEY_OLDER_THAN,
	CLI_KEY_UNDO,
};

/* One call of the command. */
struct cli {
	const struct cli_verb *verb; /* NULL: none yet */
	bool json;
	bool help;

	const char *args[CLI_ARGS_MAX];
	unsigned int arg_count;

	const char *backend;
	const char *sco_size;
	const char *cache[CLI_CACHES_MAX];
	unsigned int cache_count;
	const char *mount_options;
	bool foreground;
	bool no_upload;
	bool data, repair;
	bool watch;
	const char *worker;	    /* of a mount: its holder; NULL: a user calls */
	const char *name, *comment; /* NULL: not given */
	const char *every, *keep;   /* the same */
	const char *older_than;	    /* the same */
	bool sticky, wait, force, dry_run, clear, cancel, all, undo;
};

struct cli_verb {
	const char *name;
	const char *args; /* as shown in the usage */
	const char *summary;
	const char *doc; /* more, for its --help */
	unsigned int args_min, args_max;
	const struct argp_option *options; /* besides --json and --help; NULL: none */
	int (*run)(struct cli *c);
};

extern const struct cli_verb cli_verb_create, cli_verb_mount, cli_verb_umount, cli_verb_status,
	cli_verb_list, cli_verb_info, cli_verb_sync, cli_verb_check, cli_verb_stats,
	cli_verb_config, cli_verb_backend, cli_verb_restore, cli_verb_upgrade, cli_verb_snapshot,
	cli_verb_clone, cli_verb_scrub, cli_verb_trash, cli_verb_template;

/* --- errors (cli_output.c) --------------------------------------------------------------------- */

/* Exit code for an error that is not about the command's own arguments. */
enum cli_exit cli_exit_of(int code);
/* Tell an error, with what to do next (hint, may be NULL); returns exit as an int. */
int cli_fail(const struct cli *c, enum cli_exit exit, const char *hint, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* "what: e->message" under the exit code that fits code. */
int cli_fail_err(const struct cli *c, int code, const struct err *e, const char *hint,
		 const char *what);
/* Tell an error document of a daemon: {"error":..., "code":..., "hint":...}. */
int cli_fail_document(const struct cli *c, const char *what, json_t *document);

/* --- output (cli_output.c) --------------------------------------------------------------------- */

/* Print a document, one line. Owns: takes the reference. Returns CLI_DONE, CLI_FAILED unwritten. */
int cli_print_json(const struct cli *c, json_t *document);
/* Results for people were printed in full and really arrived: CLI_DONE, or an error told. */
int cli_finish_output(const struct cli *c);

#define CLI_SIZE_BYTES 24
#define CLI_TIME_BYTES 64
/* "1.4 GiB" for people; text is returned. */
const char *cli_size(uint64_t bytes, char text[CLI_SIZE_BYTES]);
/* "3.1 ms" for people. */
const char *cli_seconds(double seconds, char text[CLI_SIZE_BYTES]);
/* A name as a terminal may show it: control characters and bytes that are not UTF-8 escaped. Freed
 * by the caller; NULL: no memory. */
char *cli_printable(const char *name, size_t len_bytes);

/* A name of a document for a terminal, from its exact bytes. Freed by the caller; NULL: no memory. */
char *cli_json_printable(const json_t *document, const char *key);

/* Seconds since 1970 as local time for people; text is returned. */
const char *cli_time(double seconds, char text[CLI_TIME_BYTES]);

/* Members of a document; 0, "" where there is none of that type. */
uint64_t cli_json_u64(const json_t *document, const char *key);
const char *cli_json_string(const json_t *document, const char *key);

#endif
