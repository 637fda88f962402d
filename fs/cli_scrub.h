/*
 * cli_scrub - what `vpool status` tells of a scrub.
 */
#ifndef FS_CLI_SCRUB_H
#define FS_CLI_SCRUB_H

#include <jansson.h>

/* A line; nothing where none was asked for. */
void cli_print_scrub_status(const json_t *scrub);

#endif
