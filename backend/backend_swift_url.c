/*
 * backend_swift_url - the URL of a swift: store and its credentials.
 *
 * A credentials file has lines "NAME = value" with the names of the environment variables; '#'
 * begins a comment line. A value is what stands behind the first '=', without the blanks around
 * it: no quotes, no comments behind it, as a key may contain any of that. (inih would end it at
 * " ;", so it does not read this file.)
 */
#include "backend/backend_swift.h"
#include "backend/secrets.h"

#include <stdlib.h>
#include <string.h>

#define CREDENTIALS_BYTES_MAX 16384u
#define PREFIX_BYTES_MAX      (SWIFT_NAME_BYTES_MAX - BACKEND_NAME_BYTES_MAX - 1)
#define CONTAINER_BYTES_MAX   256u
#define URL_BYTES_MAX	      2048u
#define OTHERS_MAY_READ	      077u

static const char *const value_names[SWIFT_VALUE_COUNT] = {
	[SWIFT_ST_AUTH] = "ST_AUTH",
	[SWIFT_ST_USER] = "ST_USER",
	[SWIFT_ST_KEY] = "ST_KEY",
	[SWIFT_OS_AUTH_URL] = "OS_AUTH_URL",
	[SWIFT_OS_USERNAME] = "OS_USERNAME",
	[SWIFT_OS_USER_ID] = "OS_USER_ID",
	[SWIFT_OS_PASSWORD] = "OS_PASSWORD",
	[SWIFT_OS_USER_DOMAIN_NAME] = "OS_USER_DOMAIN_NAME",
	[SWIFT_OS_USER_DOMAIN_ID] = "OS_USER_DOMAIN_ID",
	[SWIFT_OS_PROJECT_NAME] = "OS_PROJECT_NAME",
	[SWIFT_OS_PROJECT_ID] = "OS_PROJECT_ID",
	[SWIFT_OS_PROJECT_DOMAIN_NAME] = "OS_PROJECT_DOMAIN_NAME",
	[SWIFT_OS_PROJECT_DOMAIN_ID] = "OS_PROJECT_DOMAIN_ID",
	[SWIFT_OS_APPLICATION_CREDENTIAL_ID] = "OS_APPLICATION_CREDENTIAL_ID",
	[SWIFT_OS_APPLICATION_CREDENTIAL_NAME] = "OS_APPLICATION_CREDENTIAL_NAME",
	[SWIFT_OS_APPLICATION_CREDENTIAL_SECRET] = "OS_APPLICATION_CREDENTIAL_SECRET",
	[SWIFT_OS_REGION_NAME] = "OS_REGION_NAME",
	[SWIFT_OS_INTERFACE] = "OS_INTERFACE",
};

const char *swift_value_name(enum swift_value v)
{
	return value_names[v];
}

void swift_secret_free(char *secret)
{
	if (!secret)
		return;
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

void swift_config_done(struct swift_config *c)
{
	free(c->container);
	free(c->prefix);
	free(c->auth_url);
	free(c->storage_url);
	free(c->ca_file);
	for (size_t i = 0; i < SWIFT_VALUE_COUNT; i++)
		swift_secret_free(c->value[i]);
	*c = (struct swift_config){ .container = NULL };
}

bool swift_url_is_good(const char *url)
{
	size_t host_bytes, len_bytes = strnlen(url, URL_BYTES_MAX + 1);
	const char *host;

	if (strncmp(url, "http://", 7) == 0)
		host = url + 7;
	else if (strncmp(url, "https://", 8) == 0)
		host = url + 8;
	else
		return false;
	host_bytes = strcspn(host, "/");
	if (host_bytes == 0 || len_bytes > URL_BYTES_MAX || memchr(host, '@', host_bytes))
		return false;
	for (size_t i = 0; i < len_bytes; i++) {
		if (url[i] <= 0x20 || url[i] > 0x7e || strchr("?#\\\"<>^`{|}", url[i]))
			return false;
	}
	return true;
}

/* ---- the URL -------------------------------------------------------------------------------- */

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "opening a swift: backend");
}

/* text[0, len) with its %XX resolved; what names it in the message. */
static int unescape(const char *text, size_t len_bytes, const char *what, char **ret_text,
		    struct err *e)
{
	char *out = strndup(text, len_bytes);

	if (!out)
		return no_memory(e);
	if (http_unescape(out, false) < 0) {
		free(out);
		return err_set(e, -EINVAL, "swift: URL: %s: a bad %% escape", what);
	}
	*ret_text = out;
	return 0;
}

static int check_container(const char *container, struct err *e)
{
	size_t len_bytes = strlen(container);

	if (len_bytes == 0)
		return err_set(e, -EINVAL,
			       "swift: URL names no container, expected like "
			       "'swift://container/prefix?auth=http://host/auth/v1.0'");
	if (len_bytes > CONTAINER_BYTES_MAX || strcmp(container, ".") == 0 ||
	    strcmp(container, "..") == 0 || strchr(container, '/'))
		return err_set(e, -EINVAL, "swift: URL: no container can have this name");
	if (strchr(container, '@'))
		return err_set(e, -EINVAL,
			       "swift: URL: no user or password belongs there: put them into a "
			       "file, credentials=/path, or into ST_USER and ST_KEY");
	return 0;
}

/* Give the prefix its one slash at the end, and check what becomes part of every name. */
static int finish_prefix(struct swift_config *c, struct err *e)
{
	size_t len_bytes = strlen(c->prefix);
	char *longer;

	while (len_bytes > 0 && c->prefix[len_bytes - 1] == '/')
		c->prefix[--len_bytes] = '\0';
	if (len_bytes == 0)
		return 0;
	if (len_bytes > PREFIX_BYTES_MAX - 1 || backend_check_name(c->prefix, NULL) < 0)
		return err_set(e, -EINVAL,
			       "swift: URL: the prefix must be printable ASCII, at most %u bytes, "
			       "without empty parts, '.', '..' and a first part 'tmp'",
			       PREFIX_BYTES_MAX - 1);
	longer = realloc(c->prefix, len_bytes + 2);
	if (!longer)
		return no_memory(e);
	memcpy(longer + len_bytes, "/", 2);
	c->prefix = longer;
	return 0;
}

struct parameters {
	char *credentials;
};

/* Where the value of a parameter goes; NULL: there is no such parameter. */
static char **parameter(struct swift_config *c, struct parameters *p, const char *name,
			size_t name_bytes)
{
	const struct {
		const char *name;
		char **value;
	} known[] = {
		{ "auth", &c->auth_url },
		{ "storage_url", &c->storage_url },
		{ "ca_file", &c->ca_file },
		{ "region", &c->value[SWIFT_OS_REGION_NAME] },
		{ "interface", &c->value[SWIFT_OS_INTERFACE] },
		{ "credentials", &p->credentials },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strlen(known[i].name) == name_bytes &&
		    memcmp(known[i].name, name, name_bytes) == 0)
			return known[i].value;
	}
	return NULL;
}

static int parse_parameters(const char *query, struct swift_config *c, struct parameters *p,
			    struct err *e)
{
	while (*query != '\0') {
		size_t len_bytes = strcspn(query, "&"), name_bytes = strcspn(query, "=&");
		char **value = parameter(c, p, query, name_bytes);
		int r;

		/* An unknown one is not shown: it may be the rest of a password. */
		if (!value || name_bytes == len_bytes)
			return err_set(e, -EINVAL,
				       "swift: URL: unknown parameter; known are auth=, "
				       "storage_url=, credentials=, region=, interface=, ca_file=");
		if (*value)
			return err_set(e, -EINVAL, "swift: URL: %.*s= is given twice",
				       (int)name_bytes, query);
		r = unescape(query + name_bytes + 1, len_bytes - name_bytes - 1, "a parameter",
			     value, e);
		if (r < 0)
			return r;
		query += len_bytes + (query[len_bytes] == '&');
	}
	return 0;
}

static int parse_url(const char *rest, struct swift_config *c, struct parameters *p, struct err *e)
{
	size_t container_bytes, prefix_bytes;
	const char *prefix;
	int r;

	if (strncmp(rest, "//", 2) != 0)
		return check_container("", e);
	rest += 2;
	container_bytes = strcspn(rest, "/?");
	prefix = rest + container_bytes + (rest[container_bytes] == '/');
	prefix_bytes = strcspn(prefix, "?");
	r = unescape(rest, container_bytes, "the container", &c->container, e);
	if (r == 0)
		r = check_container(c->container, e);
	if (r == 0)
		r = unescape(prefix, prefix_bytes, "the prefix", &c->prefix, e);
	if (r == 0)
		r = finish_prefix(c, e);
	if (r == 0 && prefix[prefix_bytes] == '?')
		r = parse_parameters(prefix + prefix_bytes + 1, c, p, e);
	return r;
}

/* ---- credentials ---------------------------------------------------------------------------- */

static int take_line(struct swift_config *c, const char *path, unsigned int line, char *text,
		     struct err *e)
{
	char *name = text + strspn(text, " \t"), *value = strchr(name, '='), *end;

	if (*name == '\0' || *name == '#')
		return 0;
	if (value) {
		end = value;
		*value++ = '\0';
		while (end > name && strchr(" \t", end[-1]))
			*--end = '\0';
		value += strspn(value, " \t");
		end = value + strlen(value);
		while (end > value && strchr(" \t\r", end[-1]))
			*--end = '\0';
		for (size_t i = 0; i < SWIFT_VALUE_COUNT; i++) {
			if (strcmp(name, value_names[i]) != 0)
				continue;
			/* The URL's region and interface come first. */
			if (c->value[i] && (i == SWIFT_OS_REGION_NAME || i == SWIFT_OS_INTERFACE))
				return 0;
			if (c->value[i])
				return err_set(e, -EINVAL, "'%s':%u: %s is given twice", path, line,
					       name);
			c->value[i] = strdup(value);
			return c->value[i] ? 0 : no_memory(e);
		}
	}
	return err_set(e, -EINVAL,
		       "'%s':%u: expected NAME = value with a name like ST_KEY or OS_PASSWORD",
		       path, line);
}

static int take_lines(struct swift_config *c, const char *path, char *text, struct err *e)
{
	unsigned int line = 1;

	for (char *next; text; text = next, line++) {
		int r;

		next = strchr(text, '\n');
		if (next)
			*next++ = '\0';
		r = take_line(c, path, line, text, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The file's text, once it is clear that nobody else can read it. */
static int read_open_file(struct env *env, struct env_file *file, const char *path, char *text,
			  struct err *e)
{
	struct env_stat st;
	ssize_t n;
	int r = env_stat(env, file, &st);

	if (r < 0)
		return err_set(e, r, "examining '%s': %s", path, err_name(r));
	if (st.is_dir)
		return err_set(e, -EISDIR, "'%s': no file with credentials", path);
	if (st.mode & OTHERS_MAY_READ)
		return err_set(e, -EACCES, "'%s': others can read these credentials: chmod 600 it",
			       path);
	n = env_pread(env, file, text, CREDENTIALS_BYTES_MAX, 0);
	if (n < 0)
		return err_set(e, (int)n, "reading '%s': %s", path, err_name((int)n));
	if (n == CREDENTIALS_BYTES_MAX)
		return err_set(e, -EFBIG, "'%s': too long for a file with credentials", path);
	text[n] = '\0';
	if (strlen(text) != (size_t)n)
		return err_set(e, -EINVAL, "'%s': a NUL byte in it", path);
	return 0;
}

static int read_credentials(struct env *env, const char *path, struct swift_config *c,
			    struct err *e)
{
	struct env_file *file = NULL;
	char *text;
	int r;

	if (path[0] != '/')
		return err_set(e, -EINVAL, "swift: URL: credentials= must be an absolute path");
	r = env_open(env, path, ENV_READ, &file);
	if (r < 0)
		return err_set(e, r, "opening the credentials '%s': %s", path, err_name(r));
	text = malloc(CREDENTIALS_BYTES_MAX + 1);
	r = text ? read_open_file(env, file, path, text, e) : no_memory(e);
	if (r == 0)
		r = take_lines(c, path, text, e);
	if (text)
		explicit_bzero(text, CREDENTIALS_BYTES_MAX + 1);
	free(text);
	env_close(env, file);
	return r;
}

static int read_environment(struct swift_config *c, struct err *e)
{
	for (size_t i = 0; i < SWIFT_VALUE_COUNT; i++) {
		const char *value = c->value[i] ? NULL : getenv(value_names[i]);

		if (!value || *value == '\0')
			continue;
		c->value[i] = strdup(value);
		if (!c->value[i])
			return no_memory(e);
	}
	return 0;
}

/* ---- what must be there --------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
	size_t text_bytes = strlen(text), end_bytes = strlen(end);

	return text_bytes >= end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

static void strip_slashes(char *url)
{
	size_t len_bytes = url ? strlen(url) : 0;

	while (len_bytes > 0 && url[len_bytes - 1] == '/')
		url[--len_bytes] = '\0';
}

static int find_auth(struct swift_config *c, struct err *e)
{
	const char *given =
		c->value[SWIFT_ST_AUTH] ? c->value[SWIFT_ST_AUTH] : c->value[SWIFT_OS_AUTH_URL];

	if (!c->auth_url && given) {
		c->auth_url = strdup(given);
		if (!c->auth_url)
			return no_memory(e);
	}
	if (!c->auth_url)
		return err_set(
			e, -EINVAL,
			"swift: no auth server is given: add auth=http://host/auth/v1.0 or "
			"auth=https://host:5000/v3 to the URL, or set ST_AUTH or OS_AUTH_URL");
	strip_slashes(c->auth_url);
	strip_slashes(c->storage_url);
	if (!swift_url_is_good(c->auth_url))
		return err_set(e, -EINVAL,
			       "swift: the auth URL must be http:// or https://, without user, "
			       "password, blanks or query");
	if (c->storage_url && !swift_url_is_good(c->storage_url))
		return err_set(e, -EINVAL,
			       "swift: storage_url must be http:// or https://, without user, "
			       "password, blanks or query");
	c->keystone = ends_with(c->auth_url, "/v3");
	if (!c->keystone && !ends_with(c->auth_url, "/v1.0") && !ends_with(c->auth_url, "/1.0") &&
	    !ends_with(c->auth_url, "/v1") && !ends_with(c->auth_url, "/auth"))
		return err_set(
			e, -EINVAL,
			"swift: the auth URL must end in /v1.0 (tempauth) or /v3 (Keystone)");
	return 0;
}

static int missing(const char *what, struct err *e)
{
	return err_set(e, -EINVAL,
		       "swift: credentials are missing: set %s, in the file that credentials= "
		       "names or in the environment",
		       what);
}

static int check_credentials(const struct swift_config *c, struct err *e)
{
	char *const *v = c->value;
	bool has_user = v[SWIFT_OS_USER_ID] || v[SWIFT_OS_USERNAME];

	if (!c->keystone)
		return v[SWIFT_ST_USER] && v[SWIFT_ST_KEY] ? 0 : missing("ST_USER and ST_KEY", e);
	if (v[SWIFT_OS_APPLICATION_CREDENTIAL_SECRET]) {
		if (v[SWIFT_OS_APPLICATION_CREDENTIAL_ID] ||
		    (v[SWIFT_OS_APPLICATION_CREDENTIAL_NAME] && has_user))
			return 0;
		return missing("OS_APPLICATION_CREDENTIAL_ID, or OS_APPLICATION_CREDENTIAL_NAME "
			       "and OS_USERNAME",
			       e);
	}
	if (!v[SWIFT_OS_PASSWORD] || !has_user)
		return missing("OS_USERNAME and OS_PASSWORD, or OS_APPLICATION_CREDENTIAL_ID and "
			       "OS_APPLICATION_CREDENTIAL_SECRET",
			       e);
	if (!v[SWIFT_OS_PROJECT_ID] && !v[SWIFT_OS_PROJECT_NAME])
		return missing("OS_PROJECT_NAME or OS_PROJECT_ID", e);
	return 0;
}

/* They become headers of requests or parts of JSON. */
static int check_values(const struct swift_config *c, struct err *e)
{
	for (size_t i = 0; i < SWIFT_VALUE_COUNT; i++) {
		for (const char *p = c->value[i]; p && *p != '\0'; p++) {
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				return err_set(e, -EINVAL, "swift: %s has a control character",
					       value_names[i]);
		}
	}
	return 0;
}

int swift_config_read(struct env *env, const char *rest, struct swift_config *ret_config,
		      struct err *e)
{
	struct swift_config c = { .container = NULL };
	struct parameters p = { .credentials = NULL };
	int r = parse_url(rest, &c, &p, e);

	secrets_hide();
	if (r == 0)
		r = p.credentials ? read_credentials(env, p.credentials, &c, e) :
				    read_environment(&c, e);
	if (r == 0)
		r = check_values(&c, e);
	if (r == 0)
		r = find_auth(&c, e);
	if (r == 0)
		r = check_credentials(&c, e);
	free(p.credentials);
	if (r < 0)
		swift_config_done(&c);
	else
		*ret_config = c;
	return r;
}
