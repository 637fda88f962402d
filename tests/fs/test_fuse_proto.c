/* fs/fuse_proto: what passes between the kernel and libfuse, over a socket instead of /dev/fuse. */
#include "fs/fuse_proto.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int kernel_fd, server_fd, other_fd;
static uint8_t *request;

static void setup(void)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	kernel_fd = pair[0];
	server_fd = pair[1];
	other_fd = open("/dev/null", O_WRONLY);
	ck_assert_int_ge(other_fd, 0);
	request = malloc(PROTO_RECEIVE_BYTES);
	ck_assert_ptr_nonnull(request);
}

static void teardown(void)
{
	proto_leave();
	free(request);
	(void)close(kernel_fd);
	(void)close(server_fd);
	(void)close(other_fd);
}

static void send_request(uint32_t opcode, uint32_t len, size_t really)
{
	uint8_t bytes[256] = { 0 };
	struct fuse_in_header in = { .len = len, .opcode = opcode, .unique = 77 };

	memcpy(bytes, &in, sizeof(in));
	ck_assert_int_eq(write(kernel_fd, bytes, really), (ssize_t)really);
}

/* Send a reply as libfuse does; what the kernel gets is put into body. */
static void reply(uint64_t unique, int32_t error, const void *out, size_t out_bytes, void *body)
{
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + out_bytes),
		.error = error,
		.unique = unique,
	};
	uint8_t copy[256], got[512];
	struct iovec iov[2] = { { &header, sizeof(header) }, { copy, out_bytes } };
	ssize_t n;

	memcpy(copy, out, out_bytes);
	/* libfuse knows only one channel; ours is the one that was entered. */
	n = proto_io.writev(other_fd, iov, 2, NULL);
	ck_assert_int_eq(n, (ssize_t)header.len);
	ck_assert_int_eq(read(kernel_fd, got, sizeof(got)), n);
	memcpy(body, got + sizeof(header), out_bytes);
}

START_TEST(request_is_received_whole)
{
	send_request(FUSE_GETATTR, 56, 56);
	ck_assert_int_eq(proto_receive(server_fd, request), 56);
	ck_assert(!proto_is_init(request, 56));
}
END_TEST

START_TEST(request_of_another_length_than_it_says_is_refused)
{
	send_request(FUSE_GETATTR, 57, 56);
	ck_assert_int_eq(proto_receive(server_fd, request), -EIO);
	send_request(FUSE_GETATTR, 20, 20);
	ck_assert_int_eq(proto_receive(server_fd, request), -EIO);
}
END_TEST

START_TEST(nothing_to_receive_is_no_failure)
{
	ck_assert_int_eq(proto_receive(server_fd, request), -EAGAIN);
}
END_TEST

START_TEST(init_is_recognised)
{
	send_request(FUSE_INIT, 56, 56);
	ck_assert_int_eq(proto_receive(server_fd, request), 56);
	ck_assert(proto_is_init(request, 56));
	ck_assert(!proto_is_init(request, 8));
}
END_TEST

START_TEST(open_reply_of_a_disk_allows_parallel_writes)
{
	struct fuse_open_out open = { .fh = 5, .open_flags = FOPEN_DIRECT_IO };

	send_request(FUSE_OPEN, 48, 48);
	ck_assert_int_eq(proto_receive(server_fd, request), 48);
	proto_enter(server_fd, request);
	reply(77, 0, &open, sizeof(open), &open);
	ck_assert_uint_eq(open.open_flags, FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES);
	ck_assert_uint_eq(open.fh, 5);
}
END_TEST

START_TEST(open_reply_of_a_file_stays_as_it_is)
{
	struct fuse_open_out open = { .fh = 5, .open_flags = FOPEN_KEEP_CACHE };

	send_request(FUSE_OPEN, 48, 48);
	ck_assert_int_eq(proto_receive(server_fd, request), 48);
	proto_enter(server_fd, request);
	reply(77, 0, &open, sizeof(open), &open);
	ck_assert_uint_eq(open.open_flags, FOPEN_KEEP_CACHE);
}
END_TEST

START_TEST(create_reply_of_a_disk_allows_parallel_writes)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = { .entry.nodeid = 9, .open.open_flags = FOPEN_DIRECT_IO };

	send_request(FUSE_CREATE, 60, 60);
	ck_assert_int_eq(proto_receive(server_fd, request), 60);
	proto_enter(server_fd, request);
	reply(77, 0, &out, sizeof(out), &out);
	ck_assert_uint_eq(out.entry.nodeid, 9);
	ck_assert_uint_eq(out.open.open_flags, FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES);
}
END_TEST

START_TEST(reply_to_another_request_stays_as_it_is)
{
	struct fuse_open_out open = { .open_flags = FOPEN_DIRECT_IO };

	send_request(FUSE_OPEN, 48, 48);
	ck_assert_int_eq(proto_receive(server_fd, request), 48);
	proto_enter(server_fd, request);
	reply(78, 0, &open, sizeof(open), &open);
	ck_assert_uint_eq(open.open_flags, FOPEN_DIRECT_IO);
}
END_TEST

static uint32_t init_flags2(bool offered)
{
	struct fuse_in_header in = { .len = 104, .opcode = FUSE_INIT, .unique = 77 };
	struct fuse_init_in init = {
		.major = 7,
		.minor = 38,
		.flags = UINT32_C(1) << 30,
		.flags2 = offered ? UINT32_C(1) << 4 : 0,
	};
	struct fuse_init_out out = { .major = 7 };

	memcpy(request, &in, sizeof(in));
	memcpy(request + sizeof(in), &init, sizeof(init));
	proto_enter(server_fd, request);
	reply(77, 0, &out, sizeof(out), &out);
	ck_assert_uint_eq(out.flags, offered ? UINT32_C(1) << 30 : 0);
	return out.flags2;
}

START_TEST(shared_mappings_of_disks_are_asked_for_where_offered)
{
	ck_assert_uint_eq(init_flags2(true), UINT32_C(1) << 4);
	ck_assert_uint_eq(init_flags2(false), 0);
}
END_TEST

START_TEST(parked_reply_goes_to_the_channel_of_its_request)
{
	struct fuse_write_out out = { .size = 4096 };

	proto_enter(server_fd, NULL);
	reply(77, 0, &out, sizeof(out), &out);
	ck_assert_uint_eq(out.size, 4096);
}
END_TEST

/* --- the kernel itself, if we may mount --------------------------------------------------------- */

static char mountpoint[] = "mountpoint.XXXXXX";

/* Where nobody else sees it, and gone with the process. False: not allowed here. */
static bool mount_channel(int *ret_fd)
{
	char options[128];

	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	*ret_fd = open("/dev/fuse", O_RDWR);
	if (*ret_fd < 0)
		return false;
	ck_assert_ptr_nonnull(mkdtemp(mountpoint));
	(void)snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		       *ret_fd);
	return mount("vpool-proto", mountpoint, "fuse", MS_NOSUID | MS_NODEV, options) == 0;
}

static void unmount_channel(int fd)
{
	(void)umount2(mountpoint, MNT_DETACH);
	(void)close(fd);
	(void)rmdir(mountpoint);
}

/* The next request, which must be this one; its unique number. */
static uint64_t next_request(int fd, uint32_t opcode)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct fuse_in_header in;

	ck_assert_int_eq(poll(&p, 1, 20000), 1);
	ck_assert_int_gt(proto_receive(fd, request), 0);
	memcpy(&in, request, sizeof(in));
	ck_assert_uint_eq(in.opcode, opcode);
	return in.unique;
}

static ssize_t answer(uint64_t unique, int32_t error, void *out, size_t out_bytes)
{
	struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + out_bytes),
					  .error = error,
					  .unique = unique };
	struct iovec iov[2] = { { &header, sizeof(header) }, { out, out_bytes } };

	return proto_io.writev(other_fd, iov, out_bytes ? 2 : 1, NULL);
}

/* It has no end of the channels: if the test fails, the connection ends, and it with it. */
static pid_t start_caller(const struct proto_channels *all)
{
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		char path[64];

		for (unsigned int i = 0; i < all->count; i++)
			(void)close(all->fd[i]);
		(void)snprintf(path, sizeof(path), "%s/name", mountpoint);
		_exit(access(path, F_OK) == 0);
	}
	return child;
}

/* Another worker has the request that an INTERRUPT names, and did not say so yet. */
START_TEST(an_interrupt_that_came_too_early_goes_back_to_the_kernel)
{
	struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 4096 };
	struct proto_channels all = { .count = 3 };
	uint64_t lookup;
	int fd, status;
	pid_t child;

	if (!mount_channel(&fd)) {
		printf("not allowed to mount: the kernel was not asked\n");
		return;
	}
	proto_enter(fd, NULL);
	ck_assert_int_gt(answer(next_request(fd, FUSE_INIT), 0, &init, sizeof(init)), 0);
	all.fd[0] = fd;
	for (unsigned int i = 1; i < all.count; i++)
		ck_assert_int_eq(proto_clone(fd, &all.fd[i]), 0);
	child = start_caller(&all);
	lookup = next_request(all.fd[1], FUSE_LOOKUP);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	proto_set_channels(&all);
	proto_enter(all.fd[2], NULL);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t unique = next_request(all.fd[2], FUSE_INTERRUPT);
		struct fuse_interrupt_in named;

		memcpy(&named, request + sizeof(struct fuse_in_header), sizeof(named));
		ck_assert_uint_eq(named.unique, lookup);
		ck_assert_int_eq(answer(unique, -EAGAIN, NULL, 0), sizeof(struct fuse_out_header));
	}
	proto_enter(all.fd[1], NULL);
	ck_assert_int_gt(answer(lookup, -EINTR, NULL, 0), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	proto_set_channels(NULL);
	(void)close(all.fd[1]);
	(void)close(all.fd[2]);
	unmount_channel(fd);
}
END_TEST

static enum proto_repeats repeats(uint32_t opcode, uint32_t setattr_valid)
{
	struct {
		struct fuse_in_header in;
		struct fuse_setattr_in set;
	} r = { .in = { .opcode = opcode }, .set = { .valid = setattr_valid } };

	return proto_repeats(&r, sizeof(r));
}

START_TEST(what_must_not_be_done_twice_is_told_from_what_may)
{
	struct fuse_in_header in = { .opcode = FUSE_MKDIR, .unique = 42 };

	ck_assert_int_eq(repeats(FUSE_WRITE, 0), PROTO_REPEATS_WRITE);
	ck_assert_int_eq(repeats(FUSE_CREATE, 0), PROTO_REPEATS_NAMES);
	ck_assert_int_eq(repeats(FUSE_RENAME2, 0), PROTO_REPEATS_NAMES);
	ck_assert_int_eq(repeats(FUSE_SETXATTR, 0), PROTO_REPEATS_NAMES);
	ck_assert_int_eq(repeats(FUSE_SETATTR, FATTR_MODE), PROTO_REPEATS_NAMES);
	ck_assert_int_eq(repeats(FUSE_SETATTR, FATTR_MODE | FATTR_SIZE), PROTO_REPEATS_NO);
	ck_assert_int_eq(repeats(FUSE_FALLOCATE, 0), PROTO_REPEATS_NO);
	ck_assert_int_eq(repeats(FUSE_READ, 0), PROTO_REPEATS_NO);
	ck_assert_int_eq(proto_repeats(&in, sizeof(in) - 1), PROTO_REPEATS_NO);
	ck_assert_uint_eq(proto_unique(&in), 42);
	ck_assert(proto_is_queued(&in));
	in.opcode = FUSE_BATCH_FORGET;
	ck_assert(!proto_is_queued(&in));
	in.opcode = FUSE_INTERRUPT;
	ck_assert(!proto_is_queued(&in));
}
END_TEST

START_TEST(a_kernel_says_whether_it_can_send_again)
{
	struct {
		struct fuse_in_header in;
		struct fuse_init_in init;
	} r = { .init = { .flags = UINT32_C(1) << 30, .flags2 = UINT32_C(1) << 7 } };

	ck_assert(proto_can_resend(&r, sizeof(r)));
	ck_assert(!proto_can_resend(&r, sizeof(r) - 1));
	r.init.flags = 0; /* flags2 means nothing */
	ck_assert(!proto_can_resend(&r, sizeof(r)));
}
END_TEST

START_TEST(a_reply_that_is_swallowed_does_not_reach_the_kernel)
{
	struct fuse_out_header header = { .len = sizeof(header), .unique = 77 };
	struct iovec iov = { &header, sizeof(header) };
	char bytes[64];

	proto_enter(server_fd, NULL);
	proto_swallow(true);
	ck_assert_int_eq(proto_io.writev(server_fd, &iov, 1, NULL), sizeof(header));
	proto_swallow(false);
	ck_assert_int_lt(read(kernel_fd, bytes, sizeof(bytes)), 0);
	ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/fuse_proto");
	TCase *c = tcase_create("channel");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, request_is_received_whole);
	tcase_add_test(c, request_of_another_length_than_it_says_is_refused);
	tcase_add_test(c, nothing_to_receive_is_no_failure);
	tcase_add_test(c, init_is_recognised);
	tcase_add_test(c, open_reply_of_a_disk_allows_parallel_writes);
	tcase_add_test(c, open_reply_of_a_file_stays_as_it_is);
	tcase_add_test(c, create_reply_of_a_disk_allows_parallel_writes);
	tcase_add_test(c, reply_to_another_request_stays_as_it_is);
	tcase_add_test(c, shared_mappings_of_disks_are_asked_for_where_offered);
	tcase_add_test(c, parked_reply_goes_to_the_channel_of_its_request);
	tcase_add_test(c, an_interrupt_that_came_too_early_goes_back_to_the_kernel);
	tcase_add_test(c, what_must_not_be_done_twice_is_told_from_what_may);
	tcase_add_test(c, a_kernel_says_whether_it_can_send_again);
	tcase_add_test(c, a_reply_that_is_swallowed_does_not_reach_the_kernel);
	suite_add_tcase(s, c);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
