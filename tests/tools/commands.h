/* commands - one program with many small commands: its table, its numbers, its errors. */
#ifndef TESTS_TOOLS_COMMANDS_H
#define TESTS_TOOLS_COMMANDS_H

#include "common/base.h"
#include "common/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
	const char *name;
	int arguments;
	int (*run)(char **arguments);
	const char *usage;
};

/* errno's name on stderr. Returns 1, the exit code. */
static inline int fail(const char *what)
{
	(void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		      strerrorname_np(errno));
	return 1;
}

static inline uint64_t number(const char *text)
{
	uint64_t n = 0;

	if (size_parse(text, &n) < 0) {
		(void)fprintf(stderr, "%s: bad number '%s'\n", program_invocation_short_name, text);
		exit(2);
	}
	return n;
}

static inline int run_command(const struct command *commands, size_t count, int argc, char **argv)
{
	for (size_t i = 0; i < count; i++)
		if (argc > 1 && strcmp(argv[1], commands[i].name) == 0 &&
		    argc == commands[i].arguments + 2)
			return commands[i].run(argv + 2);
	(void)fprintf(stderr, "usage:\n");
	for (size_t i = 0; i < count; i++)
		(void)fprintf(stderr, "  %s %s %s\n", program_invocation_short_name,
			      commands[i].name, commands[i].usage);
	return 2;
}

#endif
