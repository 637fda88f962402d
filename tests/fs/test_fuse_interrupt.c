/* fs/fuse_interrupt: whether the caller of a write that waits is about to die. */
#include "fs/fuse_impl.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What proc(5) says of a thread, as far as it matters. */
static bool dying(uint64_t own, uint64_t shared, uint64_t blocked, uint64_t ignored,
		  uint64_t caught)
{
	char text[512];

	(void)snprintf(
		text, sizeof(text),
		"Name:\tSigPnd:\nTgid:\t12\nThreads:\t1\nSigQ:\t0/31512\nSigPnd:\t%016" PRIx64
		"\nShdPnd:\t%016" PRIx64 "\nSigBlk:\t%016" PRIx64 "\nSigIgn:\t%016" PRIx64
		"\nSigCgt:\t%016" PRIx64 "\nCapInh:\t0000000000000000\n",
		own, shared, blocked, ignored, caught);
	return fs_status_is_dying(text);
}

static uint64_t bit(int signal)
{
	return UINT64_C(1) << (signal - 1);
}

START_TEST(a_signal_that_kills_is_told_from_one_that_does_not)
{
	ck_assert(!dying(0, 0, 0, 0, 0));
	ck_assert(dying(bit(SIGKILL), 0, 0, 0, 0));
	ck_assert(dying(0, bit(SIGTERM), 0, 0, 0));
	ck_assert(dying(bit(SIGQUIT), 0, 0, 0, bit(SIGTERM)));
	ck_assert(dying(0, bit(SIGRTMAX), 0, 0, 0));
	ck_assert(!dying(bit(SIGTERM), bit(SIGTERM), bit(SIGTERM), 0, 0));
	ck_assert(!dying(bit(SIGTERM), bit(SIGTERM), 0, bit(SIGTERM), 0));
	ck_assert(!dying(bit(SIGUSR1), bit(SIGALRM), 0, 0, bit(SIGUSR1) | bit(SIGALRM)));
	ck_assert(dying(bit(SIGUSR1) | bit(SIGKILL), 0, UINT64_MAX, 0, bit(SIGUSR1)));
}
END_TEST

START_TEST(a_signal_that_stops_or_does_nothing_kills_nobody)
{
	ck_assert(!dying(bit(SIGSTOP), bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU), 0, 0, 0));
	ck_assert(!dying(bit(SIGCHLD) | bit(SIGWINCH), bit(SIGURG) | bit(SIGCONT), 0, 0, 0));
}
END_TEST

/* It cannot be said, and a process that nobody can kill is worse than a write that failed. */
START_TEST(who_cannot_be_looked_at_may_end)
{
	ck_assert(fs_status_is_dying(""));
	ck_assert(fs_status_is_dying("Name:\tx\nSigPnd:\nShdPnd:\n"));
	ck_assert(fs_status_is_dying("Name:\tx\nSigPnd:\t0000000000000000\n"));
	ck_assert(fs_caller_is_dying(0));
	ck_assert(fs_caller_is_dying(-1));
}
END_TEST

START_TEST(the_kernel_says_it_so)
{
	sigset_t set;
	pid_t child;
	int status;

	ck_assert(!fs_caller_is_dying(getpid()));
	/* Blocked, it stays; and a child has none of it. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	ck_assert_int_eq(raise(SIGTERM), 0);
	ck_assert(!fs_caller_is_dying(getpid()));
	(void)signal(SIGTERM, SIG_IGN); /* it goes away */
	ck_assert_int_eq(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	ck_assert(!fs_caller_is_dying(child));
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(fs_caller_is_dying(child)); /* gone altogether */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/fuse_interrupt");
	TCase *c = tcase_create("callers");
	SRunner *runner;
	int failed;

	tcase_add_test(c, a_signal_that_kills_is_told_from_one_that_does_not);
	tcase_add_test(c, a_signal_that_stops_or_does_nothing_kills_nobody);
	tcase_add_test(c, who_cannot_be_looked_at_may_end);
	tcase_add_test(c, the_kernel_says_it_so);
	suite_add_tcase(s, c);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
