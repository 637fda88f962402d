#include "volume/mutant.h"

#if VPOOL_MUTANT < 0
#include <stdlib.h>

int mutant_chosen;

/* Before main(), so that no thread and no child ever sees it change. */
__attribute__((constructor)) static void mutant_choose(void)
{
	const char *number = getenv("VPOOL_MUTANT");
	char *end = NULL;
	long n;

	if (!number || !*number)
		return;
	n = strtol(number, &end, 10);
	/* A typing error must not pass for the program without a bug. */
	if (*end || n < 0 || n >= MUTANT_COUNT)
		abort();
	mutant_chosen = (int)n;
}
#endif
