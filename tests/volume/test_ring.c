/* The ring: frames handed out and given back, the record that leads the next process to it. */
#include "volume/ring.h"

#include "support_pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAME_BYTES (32 * KIB)
#define FRAMES	    16u

static struct ring_options options;

static void begin(void)
{
	options = (struct ring_options){ .pool_dir = pf.dir,
					 .shm_dir = pf.shm,
					 .ring_bytes = 4096 + FRAMES * FRAME_BYTES,
					 .frame_bytes = FRAME_BYTES,
					 .pool = { { 1, 2, 3 } },
					 .epoch = 7 };
}

static struct ring *open_ring(void)
{
	struct ring *ring = NULL;
	struct err e = { 0 };

	ck_assert_msg(ring_open(env_posix(), &options, &ring, &e) == 0, "%s", e.message);
	return ring;
}

static struct ring_old *find_old(void)
{
	struct ring_old *old = NULL;
	struct err e = { 0 };

	ck_assert_msg(ring_find_old(env_posix(), &options, &old, &e) == 0, "%s", e.message);
	return old;
}

static void find_fails(int code, const char *text)
{
	struct ring_old *old = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(ring_find_old(env_posix(), &options, &old, &e), code);
	ck_assert_ptr_null(old);
	ck_assert_msg(strstr(e.message, text), "'%s' says nothing of '%s'", e.message, text);
}

START_TEST(every_frame_is_handed_out_once_and_none_when_all_are_out)
{
	struct ring *ring = open_ring();
	struct batch *taken[FRAMES];

	ck_assert_uint_eq(ring->frame_count, FRAMES);
	ck_assert_uint_eq(ring->frame_clusters, FRAME_BYTES / 4096 - 1);
	for (unsigned int i = 0; i < FRAMES; i++) {
		taken[i] = ring_take(ring);
		ck_assert_ptr_nonnull(taken[i]);
		ck_assert_uint_eq(ring_free_count(ring), FRAMES - 1 - i);
		for (unsigned int j = 0; j < i; j++)
			ck_assert_ptr_ne(taken[i]->block, taken[j]->block);
		memset(taken[i]->block, 0xaa, FRAME_BYTES); /* all of it is ours */
	}
	ck_assert_ptr_null(ring_take(ring));
	for (unsigned int i = 0; i < FRAMES; i++)
		ring_put(ring, taken[i]);
	ck_assert_uint_eq(ring_free_count(ring), FRAMES);
	ring_close(ring, true);
}
END_TEST

START_TEST(a_frame_comes_with_an_empty_block)
{
	struct ring *ring = open_ring();

	for (unsigned int i = 0; i < 3 * FRAMES; i++) {
		struct batch *b = ring_take(ring);

		for (unsigned int j = 0; j < 4096; j++)
			ck_assert_uint_eq(b->block[j], 0);
		memset(b->block, 0xff, 4096);
		b->pending = 3;
		b->entry_count = 2;
		b->cluster_count = 1;
		b->released = b->direct = true;
		ring_put(ring, b);
		ck_assert_int_eq(b->pending + b->entry_count + b->cluster_count, 0);
		ck_assert(!b->released && !b->direct);
	}
	ring_close(ring, true);
}
END_TEST

START_TEST(the_file_is_allocated_in_full_and_private)
{
	struct ring *ring = open_ring();
	struct stat st;

	ck_assert_int_eq(stat(ring->path, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, 4096 + FRAMES * FRAME_BYTES);
	ck_assert_uint_ge((uint64_t)st.st_blocks * 512, 4096 + FRAMES * FRAME_BYTES);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(strncmp(ring->path, pf.shm, strlen(pf.shm)), 0);
	ring_close(ring, true);
}
END_TEST

START_TEST(rings_that_the_record_does_not_name_are_removed_but_not_those_of_a_copy)
{
	char path[PATH_BYTES], name[PATH_BYTES], copy[PATH_BYTES];
	struct ring *ring = open_ring();
	char *nonce;

	/* As a death between making a ring and recording it leaves it. */
	(void)snprintf(name, sizeof(name), "%s", ring->path);
	nonce = strrchr(name, '-');
	(void)snprintf(nonce, 20, "-0000000000000001");
	make_file(name, "", 0);
	(void)snprintf(copy, sizeof(copy), "%s/vpool-01020300000000000000000000000000-0-0-1",
		       pf.shm);
	make_file(copy, "", 0);
	(void)snprintf(path, sizeof(path), "%s", ring->path);
	ring_close(ring, false);
	ring = open_ring();
	ck_assert_int_ne(access(name, F_OK), 0);
	ck_assert_int_ne(access(path, F_OK), 0);
	ck_assert_int_eq(access(ring->path, F_OK), 0);
	ck_assert_int_eq(access(copy, F_OK), 0);
	ck_assert_int_eq(unlink(copy), 0);
	ring_close(ring, true);
}
END_TEST

START_TEST(a_clean_close_removes_the_file_and_leaves_nothing_to_find)
{
	char path[PATH_BYTES];

	ring_close(open_ring(), true);
	ck_assert_ptr_null(ring_path(path));
	ck_assert_ptr_null(find_old());
	ck_assert_uint_eq(file_size(pool_path(path, "ring.id")), RING_RECORD_BYTES);
}
END_TEST

START_TEST(what_a_dead_process_left_in_its_frames_is_found)
{
	struct ring *ring = open_ring();
	struct batch *one = ring_take(ring), *two = ring_take(ring), *free_again = ring_take(ring);
	struct batch_header h = {
		.salt = 5, .sco = 6, .stream = 16, .batch = 1, .slot = 2, .epoch = 7
	};
	struct ring_old *old;
	unsigned int used = 0;
	char path[PATH_BYTES];
	uint32_t frames[2] = { one->frame, two->frame };

	batch_open_encode(&h, one->block);
	memset(one->block + 4096, 0x5a, FRAME_BYTES - 4096);
	h.batch = 2;
	batch_open_encode(&h, two->block);
	h.batch = 3;
	batch_open_encode(&h, free_again->block);
	ring_put(ring, free_again);
	ring_close(ring, false);

	old = find_old();
	ck_assert_ptr_nonnull(old);
	ck_assert_uint_eq(old->header.frame_count, FRAMES);
	ck_assert_uint_eq(old->header.epoch, 7);
	for (uint32_t i = 0; i < FRAMES; i++) {
		const uint8_t *block = ring_old_frame(old, i);
		struct batch_header got;

		if (!block)
			continue;
		used++;
		ck_assert_int_eq(batch_open_decode(block, &got, NULL), 0);
		ck_assert(i == frames[got.batch - 1]);
		if (got.batch == 1)
			for (unsigned int j = 4096; j < FRAME_BYTES; j++)
				ck_assert_uint_eq(block[j], 0x5a);
	}
	ck_assert_uint_eq(used, 2);
	ring_old_release(old, false);
	ck_assert_ptr_nonnull(ring_path(path));
	ring_old_release(find_old(), true);
	ck_assert_ptr_null(ring_path(path));
	find_fails(-ENOENT, "may be lost");
}
END_TEST

START_TEST(a_new_ring_takes_over_the_record)
{
	struct ring *first = open_ring(), *second;
	struct ring_old *old;

	(void)ring_take(first);
	second = open_ring();
	ck_assert_str_ne(first->path, second->path);
	old = find_old();
	ck_assert_str_eq(old->path, second->path);
	ring_old_release(old, false);
	ck_assert_int_ne(access(first->path, F_OK), 0); /* nobody would look at it again */
	ring_close(first, false);
	ring_close(second, false);
}
END_TEST

START_TEST(a_ring_in_the_pool_directory_goes_though_its_device_has_another_number)
{
	struct ring *ring = open_ring();
	const char *name = strrchr(ring->path, '/') + 1;
	char old[PATH_BYTES], text[PATH_BYTES];
	int fd;

	/* "vpool-", the UUID and a dash are 39 bytes. */
	(void)snprintf(old, sizeof(old), "%.39sfff-%s", name, "3-0123456789abcdef");
	fd = open(pool_path(text, old), O_WRONLY | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	ring_close(ring, false);
	ring_old_release(find_old(), false);
	ring = open_ring();
	ck_assert_int_ne(access(text, F_OK), 0);
	ring_close(ring, true);
}
END_TEST

START_TEST(a_missing_record_is_an_error)
{
	find_fails(-ENOENT, "ring.id");
}
END_TEST

START_TEST(another_pool_another_directory_and_another_boot_are_told_apart)
{
	char other[PATH_BYTES], moved[PATH_BYTES], text[PATH_BYTES];

	ring_close(open_ring(), false);
	options.pool.bytes[0] ^= 1;
	find_fails(-EUCLEAN, "another pool");
	options.pool.bytes[0] ^= 1;

	ck_assert_int_eq(mkdir(root_path(other, "other"), 0700), 0);
	copy_tree(pool_path(text, "ring.id"), other);
	options.pool_dir = other;
	find_fails(-EUCLEAN, "copy");
	options.pool_dir = pf.dir;
	ring_old_release(find_old(), false);
	ck_assert_int_eq(rename(pf.dir, root_path(moved, "moved")), 0);
	options.pool_dir = moved;
	ring_old_release(find_old(), false);
	ck_assert_int_eq(rename(moved, pf.dir), 0);
	options.pool_dir = pf.dir;

	pretend_reboot();
	ck_assert_ptr_null(find_old());
}
END_TEST

START_TEST(without_a_memory_filesystem_the_pool_directory_holds_the_ring)
{
	struct ring *ring;

	options.shm_dir = _i ? NULL : "";
	ring = open_ring();
	ck_assert_int_eq(strncmp(ring->path, pf.dir, strlen(pf.dir)), 0);
	ring_close(ring, false);
	ring_old_release(find_old(), true);
}
END_TEST

START_TEST(a_memory_filesystem_that_is_not_there_or_too_small_is_no_obstacle)
{
	char nowhere[PATH_BYTES];
	struct ring *ring;

	options.shm_dir = root_path(nowhere, "nowhere");
	ring = open_ring();
	ck_assert_int_eq(strncmp(ring->path, pf.dir, strlen(pf.dir)), 0);
	ring_close(ring, true);
}
END_TEST

START_TEST(no_room_anywhere_is_an_error_and_leaves_nothing)
{
	struct ring *ring = NULL;
	struct err e = { 0 };
	struct name_list l;
	char path[PATH_BYTES];

	options.ring_bytes = UINT64_C(1) << 46;
	options.frame_bytes = UINT32_C(1) << 30;
	ck_assert_int_eq(ring_open(env_posix(), &options, &ring, &e), -ENOSPC);
	ck_assert_ptr_null(ring);
	ck_assert_ptr_null(ring_path(path));
	name_list_read(pf.dir, &l);
	ck_assert_uint_eq(l.count, 0);
	name_list_free(&l);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring");
	TCase *t = tcase_create("ring");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, every_frame_is_handed_out_once_and_none_when_all_are_out);
	tcase_add_test(t, a_frame_comes_with_an_empty_block);
	tcase_add_test(t, the_file_is_allocated_in_full_and_private);
	tcase_add_test(t, rings_that_the_record_does_not_name_are_removed_but_not_those_of_a_copy);
	tcase_add_test(t, a_clean_close_removes_the_file_and_leaves_nothing_to_find);
	tcase_add_test(t, what_a_dead_process_left_in_its_frames_is_found);
	tcase_add_test(t, a_new_ring_takes_over_the_record);
	tcase_add_test(t, a_ring_in_the_pool_directory_goes_though_its_device_has_another_number);
	tcase_add_test(t, a_missing_record_is_an_error);
	tcase_add_test(t, another_pool_another_directory_and_another_boot_are_told_apart);
	tcase_add_loop_test(t, without_a_memory_filesystem_the_pool_directory_holds_the_ring, 0, 2);
	tcase_add_test(t, a_memory_filesystem_that_is_not_there_or_too_small_is_no_obstacle);
	tcase_add_test(t, no_room_anywhere_is_an_error_and_leaves_nothing);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
