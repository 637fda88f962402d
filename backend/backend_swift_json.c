/*
 * backend_swift_json - the JSON of Keystone v3, of container listings and of bulk deletes. Nothing of
 * it is believed: every value is looked at for its type before it is used.
 */
#include "backend/backend_swift.h"

#include "common/units.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void json_freep(json_t **p)
{
	json_decref(*p);
}

/* ---- what Keystone is asked ----------------------------------------------------------------- */

/* {"id": id}, or {"name": name, "domain": {...}}; a domain that nobody named is the default one. */
static json_t *named(const char *id, const char *name, const char *domain_id,
		     const char *domain_name)
{
	if (id)
		return json_pack("{s:s}", "id", id);
	if (!domain_id && domain_name)
		return json_pack("{s:s, s:{s:s}}", "name", name, "domain", "name", domain_name);
	return json_pack("{s:s, s:{s:s}}", "name", name, "domain", "id",
			 domain_id ? domain_id : "default");
}

static json_t *user_of(char *const *v)
{
	return named(v[SWIFT_OS_USER_ID], v[SWIFT_OS_USERNAME], v[SWIFT_OS_USER_DOMAIN_ID],
		     v[SWIFT_OS_USER_DOMAIN_NAME]);
}

/* Without a scope: the application credential has its own. */
static json_t *application_request(char *const *v)
{
	const char *secret = v[SWIFT_OS_APPLICATION_CREDENTIAL_SECRET];
	json_t *credential;

	if (v[SWIFT_OS_APPLICATION_CREDENTIAL_ID])
		credential = json_pack("{s:s, s:s}", "id", v[SWIFT_OS_APPLICATION_CREDENTIAL_ID],
				       "secret", secret);
	else
		credential = json_pack("{s:s, s:s, s:o}", "name",
				       v[SWIFT_OS_APPLICATION_CREDENTIAL_NAME], "secret", secret,
				       "user", user_of(v));
	return json_pack("{s:{s:{s:[s], s:o}}}", "auth", "identity", "methods",
			 "application_credential", "application_credential", credential);
}

static json_t *password_request(char *const *v)
{
	json_t *user = user_of(v);

	if (!user || json_object_set_new(user, "password", json_string(v[SWIFT_OS_PASSWORD])) < 0) {
		json_decref(user);
		return NULL;
	}
	return json_pack("{s:{s:{s:[s], s:{s:o}}, s:{s:o}}}", "auth", "identity", "methods",
			 "password", "password", "user", user, "scope", "project",
			 named(v[SWIFT_OS_PROJECT_ID], v[SWIFT_OS_PROJECT_NAME],
			       v[SWIFT_OS_PROJECT_DOMAIN_ID], v[SWIFT_OS_PROJECT_DOMAIN_NAME]));
}

int swift_keystone_request(const struct swift_config *c, char **ret_text, struct err *e)
{
	bool application = c->value[SWIFT_OS_APPLICATION_CREDENTIAL_SECRET];
	AUTO(json_freep)
	json_t *root = application ? application_request(c->value) : password_request(c->value);
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	/* jansson refuses what is not UTF-8 by NULL, too. */
	if (!text)
		return err_set(e, -EINVAL,
			       "no request for Keystone can be made: the OS_ values must be UTF-8");
	*ret_text = text;
	return 0;
}

/* ---- the catalogue -------------------------------------------------------------------------- */

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool region_fits(const json_t *endpoint, const char *region)
{
	const char *id = string_of(endpoint, "region_id"), *name = string_of(endpoint, "region");

	return !region || (id && strcmp(id, region) == 0) || (name && strcmp(name, region) == 0);
}

int swift_keystone_endpoint(const struct swift_config *c, const void *text, size_t len_bytes,
			    char **ret_url, struct err *e)
{
	const char *region = c->value[SWIFT_OS_REGION_NAME];
	const char *interface =
		c->value[SWIFT_OS_INTERFACE] ? c->value[SWIFT_OS_INTERFACE] : "public";
	AUTO(json_freep) json_t *root = json_loadb(text, len_bytes, 0, NULL);
	json_t *catalog = json_object_get(json_object_get(root, "token"), "catalog");
	const json_t *service, *endpoint;
	size_t i, k, stores = 0;

	if (!json_is_array(catalog))
		return err_set(e, -EUCLEAN, "Keystone's answer has no service catalogue");
	json_array_foreach(catalog, i, service)
	{
		const char *type = string_of(service, "type");

		if (!type || strcmp(type, "object-store") != 0)
			continue;
		stores++;
		json_array_foreach(json_object_get(service, "endpoints"), k, endpoint)
		{
			const char *url = string_of(endpoint, "url");
			const char *kind = string_of(endpoint, "interface");

			if (!url || !kind || strcmp(kind, interface) != 0 ||
			    !region_fits(endpoint, region))
				continue;
			*ret_url = strdup(url);
			return *ret_url ? 0 : err_set(e, -EAGAIN, "no memory for a URL");
		}
	}
	if (stores == 0)
		return err_set(e, -EINVAL,
			       "Keystone's catalogue for this project has no object store: is "
			       "it the right project?");
	return err_set(e, -EINVAL,
		       "Keystone's catalogue has no '%.32s' object store in region '%.64s': set "
		       "region= and interface= in the URL, or OS_REGION_NAME and OS_INTERFACE",
		       interface, region ? region : "(any)");
}

/* ---- listings ------------------------------------------------------------------------------- */

/* "2026-11-21T21:40:20.344880", UTC; 0 for what is no time: it is told where the store does. */
static int64_t time_of(const char *text)
{
	struct tm tm = { .tm_year = 0 };
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	int64_t seconds = rest ? timegm(&tm) : 0;

	if (seconds <= 0 || seconds > INT64_MAX / (int64_t)NS_PER_SEC - 1)
		return 0;
	return seconds * (int64_t)NS_PER_SEC;
}

int swift_listing_parse(const void *text, size_t len_bytes,
			int (*fn)(void *arg, const char *name, const struct backend_object *object),
			void *arg, size_t *ret_count, struct err *e)
{
	/* An empty page may come as 204, without a body. */
	AUTO(json_freep)
	json_t *root = len_bytes > 0 ? json_loadb(text, len_bytes, 0, NULL) : json_array();
	const json_t *entry;
	size_t i;

	if (!json_is_array(root))
		return err_set(e, -EUCLEAN, "the container's listing is no JSON array");
	json_array_foreach(root, i, entry)
	{
		const char *name = string_of(entry, "name");
		const json_t *bytes = json_object_get(entry, "bytes");
		struct backend_object object = {
			.len_bytes = (uint64_t)json_integer_value(bytes),
			.modified_ns = time_of(string_of(entry, "last_modified")),
		};
		int r;

		if (!name || !json_is_integer(bytes) || json_integer_value(bytes) < 0)
			return err_set(e, -EUCLEAN,
				       "entry %zu of the container's listing has no name or length",
				       i);
		r = fn(arg, name, &object);
		if (r != 0)
			return r;
	}
	*ret_count = json_array_size(root);
	return 0;
}

/* ---- bulk deletes --------------------------------------------------------------------------- */

/* The number that "400 Bad Request" begins with; 0: none. */
static int status_of(const char *text)
{
	char *end = NULL;
	long status = text ? strtol(text, &end, 10) : 0;

	return status >= 100 && status <= 599 && end == text + 3 ? (int)status : 0;
}

static bool take_count(const json_t *root, const char *key, uint64_t *ret_count)
{
	const json_t *number = json_object_get(root, key);

	if (!json_is_integer(number) || json_integer_value(number) < 0)
		return false;
	*ret_count = (uint64_t)json_integer_value(number);
	return true;
}

int swift_bulk_parse(const void *text, size_t len_bytes,
		     int (*fn)(void *arg, const char *path, int status), void *arg,
		     struct swift_bulk *ret_bulk, struct err *e)
{
	AUTO(json_freep) json_t *root = json_loadb(text, len_bytes, 0, NULL);
	const json_t *errors = json_object_get(root, "Errors"), *entry;
	struct swift_bulk bulk = { .status = status_of(string_of(root, "Response Status")) };
	size_t i;

	if (bulk.status == 0 || !json_is_array(errors) ||
	    !take_count(root, "Number Deleted", &bulk.deleted_count) ||
	    !take_count(root, "Number Not Found", &bulk.absent_count))
		return err_set(e, -EUCLEAN, "that is no answer to a bulk delete");
	bulk.error_count = json_array_size(errors);
	json_array_foreach(errors, i, entry)
	{
		const char *path = json_string_value(json_array_get(entry, 0));
		int status = status_of(json_string_value(json_array_get(entry, 1)));
		int r;

		if (!path || status == 0)
			return err_set(e, -EUCLEAN, "error %zu of a bulk delete has no name", i);
		r = fn(arg, path, status);
		if (r != 0)
			return r;
	}
	*ret_bulk = bulk;
	return 0;
}
