#include "backend/secrets.h"

#include "common/log.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

void secrets_hide(void)
{
	const struct rlimit none = { 0, 0 };

	/* The first is what counts: the limit holds no program that takes dumps by a pipe. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		log_warning("backend: core dumps cannot be turned off, they may hold keys: %s",
			    strerrordesc_np(errno));
}
