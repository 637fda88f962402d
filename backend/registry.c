/* registry - URL scheme to store. A new store adds one row. */
#include "backend/backend_impl.h"

#include <string.h>

static const struct {
	const char *scheme;
	int (*open)(struct env *env, const char *rest, const struct backend_options *options,
		    struct store **ret_store, struct err *e);
} stores[] = {
	{ "mem", store_mem_open },
	{ "file", store_file_open },
	{ "s3", store_s3_open },
	{ "swift", store_swift_open },
};

int store_open(struct env *env, const char *url, const struct backend_options *options,
	       struct store **ret_store, struct err *e)
{
	size_t scheme_bytes = strcspn(url, ":");

	if (scheme_bytes == 0 || url[scheme_bytes] == '\0')
		return err_set(e, -EINVAL,
			       "backend URL has no scheme, expected like 'file:///dir'");
	for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
		if (strlen(stores[i].scheme) == scheme_bytes &&
		    memcmp(stores[i].scheme, url, scheme_bytes) == 0)
			return stores[i].open(env, url + scheme_bytes + 1, options, ret_store, e);
	}
	/* Only the scheme is shown: what follows may hold a password. */
	return err_set(e, -EPROTONOSUPPORT, "no backend for the URL scheme '%.*s'",
		       (int)(scheme_bytes < 32 ? scheme_bytes : 32), url);
}

int backend_open(struct env *env, const char *url, const struct backend_options *options,
		 struct backend **ret_backend, struct err *e)
{
	static const struct backend_options defaults;
	struct store *store = NULL;
	int r;

	if (!options)
		options = &defaults;
	r = store_open(env, url, options, &store, e);
	if (r < 0)
		return r;
	return backend_open_over(env, store, url, options, ret_backend, e);
}
