#include "fs/policy.h"

#include "support_ns.h"

static struct policy fallback;
static struct policies *policies;
static uint64_t vms, web, web_disk, other_disk, nested;

static void load(void)
{
	policies_free(policies);
	must(policies_load(nf.ns, &fallback, &policies, &t_err));
}

static void set(uint64_t ino, const char *name, const char *value)
{
	must(ns_xattr_set(nf.ns, ino, name, value, strlen(value), 0, &t_err));
}

static uint64_t made(const char *path)
{
	uint64_t ino;

	must(ns_path_find(nf.ns, path, strlen(path), &ino, &t_err));
	return ino;
}

/* /vms/web/disk.raw, /vms/web/sub/nested.raw, /vms/webother.raw */
static void begin(void)
{
	must(schedule_parse("off", &fallback.schedule, &t_err));
	must(retention_parse(RETENTION_DEFAULT, &fallback.keep, &t_err));
	policies = NULL;
	must(t_mkdir(NS_ROOT_INO, "vms"));
	vms = made("/vms");
	must(t_mkdir(vms, "web"));
	web = made("/vms/web");
	must(t_create(web, "disk.raw"));
	web_disk = made("/vms/web/disk.raw");
	must(t_create(vms, "webother.raw"));
	other_disk = made("/vms/webother.raw");
	must(t_mkdir(web, "sub"));
	must(t_create(made("/vms/web/sub"), "nested.raw"));
	nested = made("/vms/web/sub/nested.raw");
}

static void end(void)
{
	policies_free(policies);
}

static void expect(const char *path, uint64_t ino, const char *schedule, const char *from,
		   const char *keep, const char *keep_from)
{
	char text[SCHEDULE_TEXT_BYTES], rule[RETENTION_TEXT_BYTES];
	struct policy_found found;

	policies_find(policies, path, ino, &found);
	ck_assert_str_eq(schedule_format(&found.policy.schedule, text), schedule);
	ck_assert_str_eq(retention_format(&found.policy.keep, rule), keep);
	ck_assert_pstr_eq(found.schedule_from, from);
	ck_assert_pstr_eq(found.keep_from, keep_from);
}

START_TEST(without_attributes_the_pools_own_holds)
{
	load();
	ck_assert(!policies_any(policies));
	expect("/vms/web/disk.raw", web_disk, "off", NULL, RETENTION_DEFAULT, NULL);
	must(schedule_parse("hourly", &fallback.schedule, &t_err));
	load();
	ck_assert(policies_any(policies));
	expect("/vms/web/disk.raw", web_disk, "hourly", NULL, RETENTION_DEFAULT, NULL);
}
END_TEST

START_TEST(the_nearest_directory_counts_for_each_of_the_two)
{
	set(vms, POLICY_SCHEDULE, "daily 02:00");
	set(vms, POLICY_KEEP, "all:3d");
	set(web, POLICY_SCHEDULE, "hourly");
	load();
	ck_assert(policies_any(policies));
	expect("/vms/web/disk.raw", web_disk, "hourly", "/vms/web", "all:3d", "/vms");
	expect("/vms/web/sub/nested.raw", nested, "hourly", "/vms/web", "all:3d", "/vms");
	expect("/vms/webother.raw", other_disk, "daily 02:00", "/vms", "all:3d", "/vms");
	expect("/vms/web", web, "hourly", "/vms/web", "all:3d", "/vms");
	expect("/", NS_ROOT_INO, "off", NULL, RETENTION_DEFAULT, NULL);
	set(NS_ROOT_INO, POLICY_KEEP, "all:forever");
	load();
	expect("/", NS_ROOT_INO, "off", NULL, "all:forever", "/");
	expect("/new.raw", 99, "off", NULL, "all:forever", "/");
	expect("/vms/web/disk.raw", web_disk, "hourly", "/vms/web", "all:3d", "/vms");
}
END_TEST

START_TEST(a_files_own_counts_before_all_and_goes_with_it)
{
	struct ns_name from = { web, "disk.raw", 8 }, to = { NS_ROOT_INO, "moved.raw", 9 };

	set(vms, POLICY_SCHEDULE, "hourly");
	set(web_disk, POLICY_SCHEDULE, "off");
	load();
	expect("/vms/web/disk.raw", web_disk, "off", "/vms/web/disk.raw", RETENTION_DEFAULT, NULL);
	set(web_disk, POLICY_SCHEDULE, "monthly");
	must(ns_rename(nf.ns, &from, &to, 0, &t_err));
	ns_fixture_reopen();
	load();
	expect("/moved.raw", web_disk, "monthly 1 00:00", "/moved.raw", RETENTION_DEFAULT, NULL);
	must(ns_xattr_remove(nf.ns, web_disk, POLICY_SCHEDULE, &t_err));
	load();
	expect("/moved.raw", web_disk, "off", NULL, RETENTION_DEFAULT, NULL);
}
END_TEST

START_TEST(what_is_not_understood_does_not_count)
{
	static char large[POLICY_VALUE_BYTES];

	memset(large, ' ', sizeof(large));
	set(vms, POLICY_SCHEDULE, "hourly");
	set(vms, POLICY_KEEP, "all:1d");
	set(web, POLICY_SCHEDULE, "every now and then");
	set(web, POLICY_KEEP, "nothing");
	must(ns_xattr_set(nf.ns, web_disk, POLICY_SCHEDULE, "off\0", 4, 0, &t_err));
	must(ns_xattr_set(nf.ns, web_disk, POLICY_KEEP, large, sizeof(large), 0, &t_err));
	set(other_disk, "user.vpool.keeper", "all:9d");
	load();
	expect("/vms/web/disk.raw", web_disk, "hourly", "/vms", "all:1d", "/vms");
	expect("/vms/webother.raw", other_disk, "hourly", "/vms", "all:1d", "/vms");
}
END_TEST

/* Its attributes go with its last name. */
START_TEST(files_without_a_name_have_none)
{
	set(web_disk, POLICY_SCHEDULE, "hourly");
	must(ns_handle_open(nf.ns, web_disk, &(struct ns_attr){ 0 }, &t_err));
	must(t_unlink(web, "disk.raw"));
	load();
	expect("/vms/web/disk.raw", web_disk, "off", NULL, RETENTION_DEFAULT, NULL);
	ns_handle_release(nf.ns, web_disk);
	load();
	ck_assert(!policies_any(policies));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/policy");
	TCase *t = tcase_create("policy");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, without_attributes_the_pools_own_holds);
	tcase_add_test(t, the_nearest_directory_counts_for_each_of_the_two);
	tcase_add_test(t, a_files_own_counts_before_all_and_goes_with_it);
	tcase_add_test(t, what_is_not_understood_does_not_count);
	tcase_add_test(t, files_without_a_name_have_none);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
