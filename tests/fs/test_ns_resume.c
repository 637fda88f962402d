/* A namespace that one process leaves to the next while the kernel goes on using it. */
#include "common/units.h"
#include "fs/ns_impl.h"
#include "support_ns.h"

#define ROOT NS_ROOT_INO

static const struct ns_asked asked = { .session = 7, .unique = 40, .slot = 3 };

/* The one inode that the kernel holds. */
static uint64_t held;

static bool is_held(void *arg, uint64_t ino)
{
	(void)arg;
	return ino == held;
}

static void next_process(void)
{
	ns_hand_over(nf.ns);
	nf.options.resumed = true;
	ns_fixture_reopen();
	must(ns_resume(nf.ns, is_held, NULL, &t_err));
}

static int was_done(const struct ns_asked *a, uint64_t *ret_ino)
{
	return ns_was_done(nf.ns, a, ret_ino, &t_err);
}

START_TEST(a_change_that_was_made_is_told_to_who_asks_again_and_to_nobody_else)
{
	struct ns_asked other = asked;
	uint64_t ino = 0;

	gives(was_done(&asked, &ino), 0);
	ns_asked_by(&asked);
	gives(t_mkdir(ROOT, "d"), 0);
	ns_asked_by(NULL);
	gives(t_mkdir(ROOT, "e"), 0);
	next_process();
	gives(was_done(&asked, &ino), 1);
	ck_assert_uint_eq(ino, t_ino("d"));
	other.unique++;
	gives(was_done(&other, &ino), 0);
	other = asked;
	other.session++;
	gives(was_done(&other, &ino), 0);
	other = asked;
	other.slot++;
	gives(was_done(&other, &ino), 0);
}
END_TEST

START_TEST(a_change_that_failed_is_not_told)
{
	uint64_t ino;

	gives(t_mkdir(ROOT, "d"), 0);
	ns_asked_by(&asked);
	gives(t_mkdir(ROOT, "d"), -EEXIST);
	gives(t_rmdir(ROOT, "none"), -ENOENT);
	ns_asked_by(NULL);
	gives(was_done(&asked, &ino), 0);
}
END_TEST

START_TEST(every_kind_of_change_is_told)
{
	struct ns_setattr mode = { .valid = NS_SET_MODE, .mode = 0600 };
	struct ns_asked each = asked;
	uint64_t ino, f;

#define TOLD(call)                                                                                 \
	do {                                                                                       \
		each.unique += 2;                                                                  \
		gives(was_done(&each, &ino), 0);                                                   \
		ns_asked_by(&each);                                                                \
		must(call);                                                                        \
		ns_asked_by(NULL);                                                                 \
		gives(was_done(&each, &ino), 1);                                                   \
	} while (0)
	TOLD(t_create(ROOT, "f"));
	f = t_ino("f");
	ck_assert_uint_eq(ino, f);
	TOLD(t_link(f, ROOT, "g"));
	ck_assert_uint_eq(ino, f);
	TOLD(t_rename(ROOT, "g", ROOT, "h", 0));
	TOLD(t_rename(ROOT, "f", ROOT, "h2", 0));
	TOLD(t_unlink(ROOT, "h"));
	TOLD(ns_setattr(nf.ns, f, &mode, NULL, &t_err));
	TOLD(ns_xattr_set(nf.ns, f, "user.a", "1", 1, NS_XATTR_CREATE, &t_err));
	TOLD(ns_xattr_remove(nf.ns, f, "user.a", &t_err));
	TOLD(t_mkdir(ROOT, "d"));
	TOLD(t_rmdir(ROOT, "d"));
	TOLD(t_unlink(ROOT, "h2"));
}
END_TEST

START_TEST(a_new_mount_knows_no_answers)
{
	uint64_t ino;

	ns_asked_by(&asked);
	gives(t_mkdir(ROOT, "d"), 0);
	ns_asked_by(NULL);
	ns_hand_over(nf.ns); /* as if the process had died */
	ns_fixture_reopen();
	gives(was_done(&asked, &ino), 0);
}
END_TEST

START_TEST(an_orphan_goes_when_the_kernel_forgets_it)
{
	struct ns_attr a;
	uint64_t f, g;

	must(t_create(ROOT, "f"));
	must(t_create(ROOT, "g"));
	f = t_ino("f");
	g = t_ino("g");
	must(ns_handle_open(nf.ns, f, &a, &t_err));
	must(ns_handle_open(nf.ns, g, &a, &t_err));
	must(t_unlink(ROOT, "f"));
	must(t_unlink(ROOT, "g"));
	held = f;
	next_process();
	gives(ns_getattr(nf.ns, g, &a, NULL), -ESTALE); /* its FORGET died with the process */
	must(ns_getattr(nf.ns, f, &a, &t_err));
	ns_handle_release(nf.ns, f); /* of a handle that this process knows nothing of */
	ns_forget(nf.ns, f, 1);	     /* a part of its look-ups */
	must(ns_getattr(nf.ns, f, &a, &t_err));
	held = 0;
	ns_forget(nf.ns, f, 5);
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
	ck_assert_uint_eq(counter_get(&ns_metrics(nf.ns)->reclaims), 2);
}
END_TEST

START_TEST(what_may_be_open_from_before_outlives_its_name)
{
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	held = f;
	next_process();
	must(t_unlink(ROOT, "f"));
	must(ns_getattr(nf.ns, f, &a, &t_err));
	ck_assert_uint_eq(a.nlink, 0);
	/* Also for the one after. */
	next_process();
	must(ns_getattr(nf.ns, f, &a, &t_err));
	held = 0;
	ns_forget(nf.ns, f, 1);
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
}
END_TEST

START_TEST(an_end_without_a_next_one_removes_what_was_held)
{
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	held = f;
	next_process();
	must(t_unlink(ROOT, "f"));
	nf.options.resumed = false;
	ns_fixture_reopen();
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_resume");
	TCase *t = tcase_create("resume");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_test(t, a_change_that_was_made_is_told_to_who_asks_again_and_to_nobody_else);
	tcase_add_test(t, a_change_that_failed_is_not_told);
	tcase_add_test(t, every_kind_of_change_is_told);
	tcase_add_test(t, a_new_mount_knows_no_answers);
	tcase_add_test(t, an_orphan_goes_when_the_kernel_forgets_it);
	tcase_add_test(t, what_may_be_open_from_before_outlives_its_name);
	tcase_add_test(t, an_end_without_a_next_one_removes_what_was_held);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
