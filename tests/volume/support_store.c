#include "support_store.h"

#include <check.h>
#include <stdio.h>

struct backend *changed_mem_backend(const char *name, void (*change)(struct store_ops *ops),
				    const struct store_ops **ret_plain)
{
	static struct store_ops ops;
	struct backend_options o = { .attempts_max = 1 };
	struct backend *backend;
	struct store *s;
	char url[64];

	(void)snprintf(url, sizeof(url), "mem:%s", name);
	ck_assert_int_eq(store_mem_open(env_posix(), name, &o, &s, NULL), 0);
	*ret_plain = s->ops;
	ops = *s->ops;
	change(&ops);
	s->ops = &ops;
	ck_assert_int_eq(backend_open_over(env_posix(), s, url, &o, &backend, NULL), 0);
	return backend;
}
