/* What Keystone is asked and answers, and listings: right ones, and garbage. */
#include "backend/backend_swift.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fx {
	struct swift_config c;
	struct err e;
	char *text;
} fx;

static void teardown(void)
{
	free(fx.text);
	fx.text = NULL;
}

static char word_u[] = "us\"er", word_p[] = "pass", word_project[] = "proj", word_d[] = "dom",
	    word_id[] = "id-1";

/* ---- what Keystone is asked ---------------------------------------------------------------- */

static void must_ask(const char *expected)
{
	free(fx.text);
	fx.text = NULL;
	ck_assert_int_eq(swift_keystone_request(&fx.c, &fx.text, &fx.e), 0);
	ck_assert_str_eq(fx.text, expected);
}

START_TEST(a_password_is_for_a_user_and_a_project)
{
	fx.c.value[SWIFT_OS_USERNAME] = word_u;
	fx.c.value[SWIFT_OS_PASSWORD] = word_p;
	fx.c.value[SWIFT_OS_PROJECT_NAME] = word_project;
	must_ask("{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{"
		 "\"name\":\"us\\\"er\",\"domain\":{\"id\":\"default\"},\"password\":\"pass\"}}},"
		 "\"scope\":{\"project\":{\"name\":\"proj\",\"domain\":{\"id\":\"default\"}}}}}");
	fx.c.value[SWIFT_OS_USER_DOMAIN_NAME] = word_d;
	fx.c.value[SWIFT_OS_PROJECT_DOMAIN_ID] = word_id;
	must_ask("{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{"
		 "\"name\":\"us\\\"er\",\"domain\":{\"name\":\"dom\"},\"password\":\"pass\"}}},"
		 "\"scope\":{\"project\":{\"name\":\"proj\",\"domain\":{\"id\":\"id-1\"}}}}}");
	fx.c.value[SWIFT_OS_USER_ID] = word_id;
	fx.c.value[SWIFT_OS_PROJECT_ID] = word_id;
	must_ask("{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{"
		 "\"id\":\"id-1\",\"password\":\"pass\"}}},\"scope\":{\"project\":{\"id\":"
		 "\"id-1\"}}}}");
}
END_TEST

START_TEST(an_application_credential_brings_its_project)
{
	fx.c.value[SWIFT_OS_APPLICATION_CREDENTIAL_SECRET] = word_p;
	fx.c.value[SWIFT_OS_APPLICATION_CREDENTIAL_ID] = word_id;
	fx.c.value[SWIFT_OS_PROJECT_NAME] = word_project;
	must_ask("{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
		 "\"application_credential\":{\"id\":\"id-1\",\"secret\":\"pass\"}}}}");
	fx.c.value[SWIFT_OS_APPLICATION_CREDENTIAL_ID] = NULL;
	fx.c.value[SWIFT_OS_APPLICATION_CREDENTIAL_NAME] = word_d;
	fx.c.value[SWIFT_OS_USERNAME] = word_u;
	must_ask("{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
		 "\"application_credential\":{\"name\":\"dom\",\"secret\":\"pass\",\"user\":{"
		 "\"name\":\"us\\\"er\",\"domain\":{\"id\":\"default\"}}}}}}");
}
END_TEST

START_TEST(what_is_not_utf8_cannot_be_asked)
{
	static char latin1[] = "caf\xe9";

	fx.c.value[SWIFT_OS_USERNAME] = latin1;
	fx.c.value[SWIFT_OS_PASSWORD] = word_p;
	fx.c.value[SWIFT_OS_PROJECT_NAME] = word_project;
	ck_assert_int_eq(swift_keystone_request(&fx.c, &fx.text, &fx.e), -EINVAL);
	fx.c.value[SWIFT_OS_USERNAME] = word_u;
	fx.c.value[SWIFT_OS_PASSWORD] = latin1;
	ck_assert_int_eq(swift_keystone_request(&fx.c, &fx.text, &fx.e), -EINVAL);
}
END_TEST

/* ---- the catalogue ------------------------------------------------------------------------- */

static const char catalogue[] =
	"{\"token\":{\"catalog\":[7,{\"type\":\"compute\",\"endpoints\":[{\"interface\":\"public\","
	"\"region_id\":\"R1\",\"url\":\"http://wrong/\"}]},{\"type\":\"object-store\",\"endpoints\":["
	"null,{\"interface\":\"admin\",\"region_id\":\"R1\",\"url\":\"http://admin/\"},"
	"{\"interface\":\"public\",\"region_id\":\"R1\",\"region\":\"R1\",\"url\":\"http://r1/\"},"
	"{\"interface\":\"internal\",\"region_id\":\"R1\",\"url\":\"http://r1i/\"},"
	"{\"interface\":\"public\",\"region\":\"R2\",\"url\":\"http://r2/\"}]}]}}";

static int endpoint(const char *text)
{
	free(fx.text);
	fx.text = NULL;
	return swift_keystone_endpoint(&fx.c, text, strlen(text), &fx.text, &fx.e);
}

START_TEST(region_and_interface_choose_the_endpoint)
{
	static char r1[] = "R1", r2[] = "R2", internal[] = "internal", none[] = "R3";

	ck_assert_int_eq(endpoint(catalogue), 0);
	ck_assert_str_eq(fx.text, "http://r1/");
	fx.c.value[SWIFT_OS_REGION_NAME] = r2;
	ck_assert_int_eq(endpoint(catalogue), 0);
	ck_assert_str_eq(fx.text, "http://r2/");
	fx.c.value[SWIFT_OS_INTERFACE] = internal;
	ck_assert_int_eq(endpoint(catalogue), -EINVAL);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "R2"));
	ck_assert_ptr_nonnull(strstr(fx.e.message, "region="));
	fx.c.value[SWIFT_OS_REGION_NAME] = r1;
	ck_assert_int_eq(endpoint(catalogue), 0);
	ck_assert_str_eq(fx.text, "http://r1i/");
	fx.c.value[SWIFT_OS_REGION_NAME] = none;
	ck_assert_int_eq(endpoint(catalogue), -EINVAL);
}
END_TEST

START_TEST(a_catalogue_without_a_store_is_told_from_garbage)
{
	static const char *const garbage[] = { "",
					       "{",
					       "[]",
					       "{\"token\":[]}",
					       "{\"token\":{\"catalog\":{}}}",
					       "\xff",
					       "\"x\"",
					       "{\"token\":{\"catalog\":\"http://x\"}}" };
	static const char no_strings[] =
		"{\"token\":{\"catalog\":[{\"type\":\"object-store\",\"endpoints\":[{\"interface\":"
		"\"public\",\"url\":7},{\"url\":\"http://x\"}]}]}}";
	static const char *const empty[] = {
		"{\"token\":{\"catalog\":[]}}",
		"{\"token\":{\"catalog\":[[],{\"type\":7,\"endpoints\":7}]}}",
		"{\"token\":{\"catalog\":[{\"type\":\"object-store\",\"endpoints\":{}}]}}",
		no_strings,
	};

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++)
		ck_assert_int_eq(endpoint(garbage[i]), -EUCLEAN);
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
		ck_assert_int_eq(endpoint(empty[i]), -EINVAL);
	ck_assert_ptr_null(fx.text);
}
END_TEST

/* ---- listings ------------------------------------------------------------------------------ */

static struct {
	unsigned int count, stop_at;
	char last[256];
	struct backend_object object;
} seen;

static int see(void *arg, const char *name, const struct backend_object *object)
{
	(void)arg;
	if (seen.stop_at > 0 && seen.count == seen.stop_at)
		return 77;
	seen.count++;
	(void)snprintf(seen.last, sizeof(seen.last), "%s", name);
	seen.object = *object;
	return 0;
}

static int listing(const char *text, size_t *ret_count)
{
	memset(&seen, 0, sizeof(seen));
	return swift_listing_parse(text, strlen(text), see, NULL, ret_count, &fx.e);
}

START_TEST(a_listing_gives_names_lengths_and_times)
{
	size_t count = 99;

	ck_assert_int_eq(
		listing("[{\"name\":\"a\",\"bytes\":1},{\"bytes\":5368709120,\"name\":"
			"\"b\\u00e9\\\"\",\"last_modified\":\"2026-11-21T21:40:20.344880\","
			"\"hash\":7}]",
			&count),
		0);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(seen.count, 2);
	ck_assert_str_eq(seen.last, "b\xc3\xa9\"");
	ck_assert_uint_eq(seen.object.len_bytes, 5368709120);
	ck_assert_int_eq(seen.object.modified_ns, INT64_C(1795297220) * 1000000000);
	ck_assert_int_eq(listing("[]", &count), 0);
	ck_assert_uint_eq(count, 0);
	ck_assert_int_eq(listing("", &count), 0);
	ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(times_that_are_none_are_left_out)
{
	static const char *const times[] = { "\"\"",
					     "\"yesterday\"",
					     "7",
					     "null",
					     "\"0000-00-00T00:00:00\"",
					     "\"1969-12-31T23:59:59\"",
					     "\"9999-01-01T00:00:00\"" };
	char text[256];
	size_t count;

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		(void)snprintf(text, sizeof(text),
			       "[{\"name\":\"a\",\"bytes\":0,\"last_modified\":%s}]", times[i]);
		ck_assert_int_eq(listing(text, &count), 0);
		ck_assert_int_eq(seen.object.modified_ns, 0);
	}
}
END_TEST

START_TEST(garbage_is_no_listing)
{
	static const char *const garbage[] = {
		"{",
		"{}",
		"7",
		"<html>",
		"[7]",
		"[null]",
		"[{\"name\":\"a\"}]",
		"[{\"bytes\":1}]",
		"[{\"subdir\":\"a/\"}]",
		"[{\"name\":7,\"bytes\":1}]",
		"[{\"name\":\"a\",\"bytes\":-1}]",
		"[{\"name\":\"a\",\"bytes\":1.5}]",
		"[{\"name\":\"a\",\"bytes\":\"1\"}]",
		"[{\"name\":\"a\",\"bytes\":99999999999999999999}]",
		"[{\"name\":\"a\\u0000b\",\"bytes\":1}]",
		"[{\"name\":\"a\",\"bytes\":1}] x",
		"[{\"name\":\"\xff\",\"bytes\":1}]",
	};
	size_t count = 99;

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		ck_assert_msg(listing(garbage[i], &count) == -EUCLEAN, "taken: %s", garbage[i]);
		ck_assert_uint_eq(count, 99);
	}
}
END_TEST

/* ---- bulk deletes --------------------------------------------------------------------------- */

static int see_error(void *arg, const char *path, int status)
{
	int *last = arg;

	(void)path;
	if (status == 499)
		return 77;
	*last = status;
	return 0;
}

/* What stands for %s is the rest, behind what all of them have. */
static int bulk(const char *rest, int *ret_last, struct swift_bulk *ret_bulk)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "{\"Number Not Found\": 1, %s}", rest);
	*ret_last = 0;
	return swift_bulk_parse(text, strlen(text), see_error, ret_last, ret_bulk, &fx.e);
}

#define BULK_OK "\"Response Status\": \"200 OK\", \"Number Deleted\": 2"

START_TEST(an_answer_to_a_bulk_delete_has_counts_and_errors)
{
	static const char *const garbage[] = {
		"\"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": 200, \"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": \"99 x\", \"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": \"600 x\", \"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": \"0200 x\", \"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": \"OK\", \"Number Deleted\": 2, \"Errors\": []",
		"\"Response Status\": \"200 OK\", \"Number Deleted\": -1, \"Errors\": []",
		"\"Response Status\": \"200 OK\", \"Number Deleted\": \"2\", \"Errors\": []",
		"\"Response Status\": \"200 OK\", \"Errors\": []",
		BULK_OK,
		BULK_OK ", \"Errors\": {}",
		BULK_OK ", \"Errors\": [\"c\"]",
		BULK_OK ", \"Errors\": [[\"c\"]]",
		BULK_OK ", \"Errors\": [[7, \"404 x\"]]",
		BULK_OK ", \"Errors\": [[\"c\", 404]]",
		BULK_OK ", \"Errors\": [[\"c\", \"later\"]]",
		BULK_OK ", \"Number Not Found\": null, \"Errors\": []",
	};
	struct swift_bulk b;
	int last;

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++)
		ck_assert_msg(bulk(garbage[i], &last, &b) == -EUCLEAN, "taken: %s", garbage[i]);
	ck_assert_int_eq(bulk(BULK_OK ", \"Errors\": [[\"c\", \"503 Later\"]]", &last, &b), 0);
	ck_assert_int_eq(b.status, 200);
	ck_assert_uint_eq(b.deleted_count, 2);
	ck_assert_uint_eq(b.absent_count, 1);
	ck_assert_uint_eq(b.error_count, 1);
	ck_assert_int_eq(last, 503);
	ck_assert_int_eq(bulk(BULK_OK ", \"Errors\": [[\"c\", \"499 x\"]]", &last, &b), 77);
}
END_TEST

/* ---- bounds --------------------------------------------------------------------------------- */

START_TEST(deep_nesting_is_refused_not_followed)
{
	char *deep = malloc(100001);
	size_t count;

	memset(deep, '[', 100000);
	deep[100000] = '\0';
	ck_assert_int_eq(listing(deep, &count), -EUCLEAN);
	free(deep);
}
END_TEST

START_TEST(a_listing_ends_when_told)
{
	static const char text[] = "[{\"name\":\"a\",\"bytes\":1},{\"name\":\"b\",\"bytes\":1}]";
	size_t count = 99;

	memset(&seen, 0, sizeof(seen));
	seen.stop_at = 1;
	ck_assert_int_eq(swift_listing_parse(text, strlen(text), see, NULL, &count, &fx.e), 77);
	ck_assert_uint_eq(seen.count, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_json");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, a_password_is_for_a_user_and_a_project);
	tcase_add_test(tc, an_application_credential_brings_its_project);
	tcase_add_test(tc, what_is_not_utf8_cannot_be_asked);
	tcase_add_test(tc, region_and_interface_choose_the_endpoint);
	tcase_add_test(tc, a_catalogue_without_a_store_is_told_from_garbage);
	tcase_add_test(tc, a_listing_gives_names_lengths_and_times);
	tcase_add_test(tc, times_that_are_none_are_left_out);
	tcase_add_test(tc, garbage_is_no_listing);
	tcase_add_test(tc, an_answer_to_a_bulk_delete_has_counts_and_errors);
	tcase_add_test(tc, deep_nesting_is_refused_not_followed);
	tcase_add_test(tc, a_listing_ends_when_told);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
