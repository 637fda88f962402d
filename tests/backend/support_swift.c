#include "tests/backend/support_swift.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct swift_fx sw;

void swift_fx_setup(void)
{
	static const char *const values[][2] = {
		{ "ST_USER", "test:tester" },
		{ "ST_KEY", SWIFT_KEY },
		{ "OS_USERNAME", "user" },
		{ "OS_PASSWORD", SWIFT_KEY },
		{ "OS_PROJECT_NAME", "project" },
		{ "OS_REGION_NAME", "" },
		{ "OS_INTERFACE", "" },
		{ "ST_AUTH", "" },
		{ "OS_AUTH_URL", "" },
		{ "OS_USER_ID", "" },
		{ "OS_USER_DOMAIN_NAME", "" },
		{ "OS_USER_DOMAIN_ID", "" },
		{ "OS_PROJECT_ID", "" },
		{ "OS_PROJECT_DOMAIN_NAME", "" },
		{ "OS_PROJECT_DOMAIN_ID", "" },
		{ "OS_APPLICATION_CREDENTIAL_ID", "" },
		{ "OS_APPLICATION_CREDENTIAL_NAME", "" },
		{ "OS_APPLICATION_CREDENTIAL_SECRET", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		ck_assert_int_eq(setenv(values[i][0], values[i][1], 1), 0);
	sw.server = server_start();
}

void swift_fx_teardown(void)
{
	if (sw.store)
		sw.store->ops->close(sw.store);
	sw.store = NULL;
	server_stop(sw.server);
	sw.server = NULL;
}

void swift_fx_open(const char *auth_path, const char *more)
{
	static const struct backend_options options = { .concurrency_max = 16 };
	char url[512];

	if (sw.store)
		sw.store->ops->close(sw.store);
	sw.store = NULL;
	(void)snprintf(url, sizeof(url), "swift://con/pre?auth=%s%s%s", server_url(sw.server),
		       auth_path, more);
	ck_assert_msg(store_open(env_posix(), url, &options, &sw.store, &sw.e) == 0, "%s",
		      sw.e.message);
}

void swift_fx_token(const char *token)
{
	char headers[512];

	(void)snprintf(headers, sizeof(headers),
		       "X-Auth-Token: %s\r\nX-Storage-Url: %s/v1/AUTH_a\r\n", token,
		       server_url(sw.server));
	server_answer(sw.server, "200 OK", headers, "");
}

int swift_fx_put(const char *name, const char *text, unsigned int flags)
{
	const struct backend_source source = { .data = text, .len_bytes = strlen(text) };
	struct backend_put_result result;

	return sw.store->ops->put(sw.store, name, &source, flags, &result, &sw.e);
}

int swift_fx_get(const char *name, uint64_t offset_bytes, void *dst, size_t len_bytes)
{
	return sw.store->ops->get(sw.store, name, offset_bytes, dst, len_bytes, &sw.e);
}

int swift_fx_head(const char *name, struct backend_object *ret_object)
{
	return sw.store->ops->head(sw.store, name, ret_object, &sw.e);
}

int swift_fx_del(const char *name)
{
	return sw.store->ops->del(sw.store, name, &sw.e);
}

static int add_name(void *arg, const char *name, const struct backend_object *object)
{
	struct swift_fx_names *n = arg;
	size_t len_bytes = strlen(n->text);

	(void)object;
	(void)snprintf(n->text + len_bytes, sizeof(n->text) - len_bytes, "%s%s",
		       len_bytes > 0 ? " " : "", name);
	return 0;
}

int swift_fx_list(const char *prefix, const char *after, unsigned int count_max,
		  struct swift_fx_names *ret_names)
{
	ret_names->text[0] = '\0';
	return sw.store->ops->list(sw.store, prefix, after, count_max, add_name, ret_names, &sw.e);
}

void swift_fx_must_ask(unsigned int i, const char *line)
{
	const char *head = server_head(sw.server, i);
	size_t len_bytes = strlen(line);

	ck_assert_msg(strncmp(head, line, len_bytes) == 0 &&
			      strncmp(head + len_bytes, " HTTP/1.1\r\n", 11) == 0,
		      "request %u is not '%s' but: %s", i, line, head);
}

void swift_fx_must_say(const char *word)
{
	static const char *const secrets[] = { SWIFT_KEY, "tk1", "tk2" };

	ck_assert_msg(strstr(sw.e.message, word), "'%s' is not in: %s", word, sw.e.message);
	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
		ck_assert_msg(!strstr(sw.e.message, secrets[i]), "a secret: %s", sw.e.message);
}
