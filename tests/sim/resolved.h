/* resolved - whether copies of what frozen layers show say what the rows say, put together anew here. */
#ifndef TESTS_SIM_RESOLVED_H
#define TESTS_SIM_RESOLVED_H

#include "volume/meta.h"

/* Of a pool that is closed. Tells what is wrong on stderr. */
bool resolved_agree(struct meta *meta);

#endif
