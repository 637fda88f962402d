/*
 * cli_schedule - what `vpool snapshot` does with schedules: prune, schedule.
 */
#ifndef FS_CLI_SCHEDULE_H
#define FS_CLI_SCHEDULE_H

#include <jansson.h>

struct cli;

/* Return exit codes. */
int cli_snapshot_prune(struct cli *c);
int cli_snapshot_schedule(struct cli *c);
/* The lines of `info`: what an answer of service_set_policy() says. */
void cli_print_schedule(const json_t *answer);

#endif
