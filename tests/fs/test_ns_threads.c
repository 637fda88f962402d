/* Many threads on the same few directories and files; afterwards every invariant holds. */
#include "common/thread.h"
#include "support_ns.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOT	NS_ROOT_INO
#define THREADS 6u
#define ROUNDS	400u
#define DIRS	4u

static uint64_t dirs[DIRS];

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * UINT64_C(0x2545f4914f6cdd1d) >> 20;
}

/* What a race between others may answer; nothing else may come. */
static void fine(int r)
{
	static const int codes[] = { 0,	      -ENOENT, -EEXIST, -ENOTEMPTY, -EISDIR, -ENOTDIR,
				     -EINVAL, -ESTALE, -EPERM,	-ENODATA,   -ENXIO };

	for (unsigned int i = 0; i < ARRAY_SIZE(codes); i++)
		if (r == codes[i])
			return;
	(void)fprintf(stderr, "an operation gave %d (%s)\n", r, strerror(-r));
	abort();
}

static int take(void *arg, const struct ns_dirent *entry)
{
	uint64_t *ino = arg;

	if (entry->cookie > NS_COOKIE_DOTDOT)
		*ino = entry->ino;
	return 0;
}

static uint64_t a_file(uint64_t dir)
{
	uint64_t ino = dir;

	fine(ns_readdir(nf.ns, dir, 0, 0, take, &ino, NULL));
	return ino;
}

/* Open, write, close: names and the inode itself may go meanwhile. */
static void use_file(uint64_t dir, const char *name)
{
	struct ns_attr a;
	struct object *o;

	if (ns_lookup(nf.ns, dir, name, strlen(name), &a, NULL) < 0)
		return;
	if (S_ISREG(a.mode)) {
		/* It was looked up, so it stays. */
		if (ns_handle_open(nf.ns, a.ino, &a, NULL) < 0 ||
		    ns_object_get(nf.ns, a.ino, &o, NULL) < 0 ||
		    object_write(o, 0, "data", 4, NULL) < 0 ||
		    ns_getattr(nf.ns, a.ino, &a, NULL) < 0 || a.size_bytes < 4)
			abort();
		ns_object_put(nf.ns, a.ino);
		ns_handle_release(nf.ns, a.ino);
	}
	ns_forget(nf.ns, a.ino, 1);
}

static void one_operation(uint64_t *seed)
{
	static const unsigned int flags[] = { 0, NS_RENAME_NOREPLACE, NS_RENAME_EXCHANGE };
	uint64_t d = dirs[next(seed) % DIRS], e = dirs[next(seed) % DIRS];
	struct ns_setattr set = { .valid = NS_SET_UID | NS_SET_SIZE, .size_bytes = 4 };
	char name[4] = { (char)('a' + next(seed) % 5), 0 };
	char other[4] = { (char)('a' + next(seed) % 5), 0 };
	struct buf out;

	switch (next(seed) % 12) {
	case 0:
		fine(t_create(d, name));
		break;
	case 1:
		fine(t_mkdir(d, name));
		break;
	case 2:
		fine(t_unlink(d, name));
		break;
	case 3:
		fine(t_rmdir(d, name));
		break;
	case 4:
	case 5:
	case 6:
		fine(t_rename(d, name, e, other, flags[next(seed) % 3]));
		break;
	case 7:
		fine(t_link(a_file(d), e, other));
		break;
	case 8:
		fine(ns_setattr(nf.ns, a_file(d), &set, NULL, NULL));
		break;
	case 9:
		fine(ns_xattr_set(nf.ns, a_file(d), name, "v", 1, 0, NULL));
		break;
	case 10:
		buf_init(&out, 4096);
		fine(ns_path_of(nf.ns, a_file(d), &out, NULL));
		buf_done(&out);
		break;
	default:
		use_file(d, name);
		break;
	}
}

static void hammer(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (unsigned int i = 0; i < ROUNDS; i++)
		one_operation(&seed);
}

static void run_threads(void (*fn)(void *arg))
{
	struct thread *threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(thread_start("hammer", fn, (void *)(i * 7919 + 17), &threads[i]),
				 0);
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(threads[i]);
}

static void make_dirs(void)
{
	for (unsigned int i = 0; i < DIRS; i++) {
		char name[4] = { (char)('A' + (int)i), 0 };

		/* Of which one is below another, and may move. */
		must(t_mkdir(i == 3 ? dirs[2] : ROOT, name));
		dirs[i] = i == 3 ? t_ino("C/D") : t_ino(name);
	}
}

START_TEST(counts_and_entries_agree_after_threads_met)
{
	make_dirs();
	for (int round = 0; round < 3; round++) {
		run_threads(hammer);
		ns_fixture_check();
		ck_assert_int_eq(gauge_get(&ns_metrics(nf.ns)->handles), 0);
		ck_assert_int_eq(gauge_get(&ns_metrics(nf.ns)->inodes), 1);
	}
	ns_fixture_reopen();
}
END_TEST

/* --- moving directories ------------------------------------------------------------------------ */

static void move_dirs(void *arg)
{
	static const char *const names[] = { "A", "B", "C", "D" };
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t all[DIRS + 1] = { ROOT, dirs[0], dirs[1], dirs[2], dirs[3] };

		fine(t_rename(all[next(&seed) % 5], names[next(&seed) % 4], all[next(&seed) % 5],
			      names[next(&seed) % 4], NS_RENAME_NOREPLACE));
		fine(t_rename(all[next(&seed) % 5], names[next(&seed) % 4], all[next(&seed) % 5],
			      names[next(&seed) % 4], NS_RENAME_EXCHANGE));
	}
}

START_TEST(directories_that_move_below_each_other_never_leave_the_root)
{
	make_dirs();
	run_threads(move_dirs);
	for (unsigned int i = 0; i < DIRS; i++) {
		struct buf out;

		buf_init(&out, 4096);
		must(ns_path_of(nf.ns, dirs[i], &out, &t_err));
		buf_done(&out);
	}
}
END_TEST

/* Two threads, each of which moves its directory below the other's, again and again at the same
 * moment. */
static struct {
	uint64_t round, done; /* atomics */
	int result[2];
} swap;
#define SWAP_ROUNDS 1000u

static void wait_for(const uint64_t *value, uint64_t at_least)
{
	while (__atomic_load_n(value, __ATOMIC_ACQUIRE) < at_least)
		(void)sched_yield();
}

static void move_below_other(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	static const char *const names[] = { "A", "B" };

	for (uint64_t i = 1; i <= SWAP_ROUNDS; i++) {
		wait_for(&swap.round, i);
		swap.result[me] = t_rename(ROOT, names[me], dirs[!me], names[me], 0);
		(void)__atomic_fetch_add(&swap.done, 1, __ATOMIC_RELEASE);
	}
}

START_TEST(of_two_directories_one_at_most_goes_below_the_other)
{
	struct thread *t[2];
	unsigned int both = 0;

	make_dirs();
	swap.round = swap.done = 0;
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(thread_start("move", move_below_other, (void *)i, &t[i]), 0);
	for (uint64_t i = 1; i <= SWAP_ROUNDS; i++) {
		__atomic_store_n(&swap.round, i, __ATOMIC_RELEASE);
		wait_for(&swap.done, 2 * i);
		both += swap.result[0] == 0 && swap.result[1] == 0;
		if (swap.result[0] == 0)
			must(t_rename(dirs[1], "A", ROOT, "A", 0));
		if (swap.result[1] == 0)
			must(t_rename(dirs[0], "B", ROOT, "B", 0));
	}
	thread_join(t[0]);
	thread_join(t[1]);
	ck_assert_uint_eq(both, 0);
}
END_TEST

/* --- one winner -------------------------------------------------------------------------------- */

static struct counter won, lost;

static void race_to_create(UNUSED void *arg)
{
	for (unsigned int i = 0; i < 150; i++) {
		char name[16];
		int r;

		(void)snprintf(name, sizeof(name), "n%u", i);
		r = t_create(ROOT, name);
		if (r != 0 && r != -EEXIST)
			abort();
		counter_inc(r == 0 ? &won : &lost);
	}
}

START_TEST(of_several_creators_of_a_name_one_wins)
{
	won = lost = (struct counter){ 0 };
	run_threads(race_to_create);
	ck_assert_uint_eq(counter_get(&won), 150);
	ck_assert_uint_eq(counter_get(&lost), 150 * (THREADS - 1));
	ck_assert_uint_eq(t_attr(ROOT).entries, 150);
}
END_TEST

/* --- a name that is always there ---------------------------------------------------------------- */

static bool stop;

static void replace_for_ever(UNUSED void *arg)
{
	for (unsigned int i = 0; i < 300; i++) {
		must(t_create(ROOT, "new"));
		must(t_rename(ROOT, "new", ROOT, "name", 0));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
}

START_TEST(a_name_that_is_replaced_is_never_missing)
{
	struct thread *t;

	stop = false;
	must(t_create(ROOT, "name"));
	ck_assert_int_eq(thread_start("replace", replace_for_ever, NULL, &t), 0);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		struct ns_attr a;

		must(ns_lookup(nf.ns, ROOT, "name", 4, &a, &t_err));
		ns_forget(nf.ns, a.ino, 1);
	}
	thread_join(t);
}
END_TEST

/* --- the check beside work ---------------------------------------------------------------------- */

static void hammer_and_stop(void *arg)
{
	hammer(arg);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
}

START_TEST(a_check_beside_work_finds_nothing)
{
	struct thread *t[2];
	unsigned int checks = 0;

	stop = false;
	make_dirs();
	ck_assert_int_eq(thread_start("hammer", hammer_and_stop, (void *)(uintptr_t)99, &t[0]), 0);
	ck_assert_int_eq(thread_start("hammer", hammer, (void *)(uintptr_t)98, &t[1]), 0);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE) || checks == 0) {
		ns_fixture_check();
		checks++;
	}
	thread_join(t[0]);
	thread_join(t[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_threads");
	TCase *t = tcase_create("threads");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, counts_and_entries_agree_after_threads_met);
	tcase_add_test(t, directories_that_move_below_each_other_never_leave_the_root);
	tcase_add_test(t, of_two_directories_one_at_most_goes_below_the_other);
	tcase_add_test(t, of_several_creators_of_a_name_one_wins);
	tcase_add_test(t, a_name_that_is_replaced_is_never_missing);
	tcase_add_test(t, a_check_beside_work_finds_nothing);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
