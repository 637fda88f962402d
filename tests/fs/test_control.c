#include "fs/control.h"

#include "common/thread.h"

#include <check.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Long, so that the path of the socket does not fit into a sockaddr. */
#define NAME_LONG                                                                                  \
	"a-pool-directory-whose-name-alone-is-longer-than-what-the-address-of-a-socket-can-hold-"  \
	"so-that-it-is-reached-by-other-means"

static char dir[256];
static struct control *control;
static int gate_fd; /* "wait" ends when it is readable */

static json_t *answer(void *arg, const json_t *request, int fd)
{
	const char *verb = json_string_value(json_object_get(request, "verb"));
	struct pollfd fds[2] = { { .fd = gate_fd, .events = POLLIN },
				 { .fd = fd, .events = POLLRDHUP } };

	ck_assert_ptr_eq(arg, dir);
	if (verb && strcmp(verb, "wait") == 0)
		(void)poll(fds, 2, -1);
	if (verb && strcmp(verb, "large") == 0) {
		json_t *all = json_array();

		for (int i = 0; i < 200000; i++)
			json_array_append_new(all, json_integer(i));
		return json_pack("{s:o}", "all", all);
	}
	return json_pack("{s:s}", "verb", verb ? verb : "");
}

static void begin(void)
{
	char top[] = "control-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(top));
	(void)snprintf(dir, sizeof(dir), "%s/" NAME_LONG, top);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	gate_fd = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(control_start(dir, answer, dir, &control, NULL), 0);
}

static void end(void)
{
	control_stop(control);
	(void)close(gate_fd);
	ck_assert_int_eq(rmdir(dir), 0); /* and the socket is gone */
	*strchr(dir, '/') = '\0';
	(void)rmdir(dir);
}

static json_t *request(const char *verb)
{
	return json_pack("{s:s}", "verb", verb);
}

/* A connection that speaks for itself. */
static int connect_raw(void)
{
	struct sockaddr_un address;
	int dir_fd, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(control_address(dir, &address, &dir_fd, NULL), 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	(void)close(dir_fd);
	return fd;
}

static json_t *say(const char *text, size_t len)
{
	json_t *document = NULL;
	int fd = connect_raw();

	/* The server may have refused before it read all. */
	(void)!send(fd, text, len, MSG_NOSIGNAL);
	if (control_receive(fd, 10000, &document, NULL) < 0)
		return NULL;
	return document;
}

START_TEST(a_request_is_answered)
{
	json_t *document;
	struct err e = { 0 };

	ck_assert_msg(control_ask(dir, request("status"), 10000, &document, &e) == 0, "%s",
		      e.message);
	ck_assert_str_eq(json_string_value(json_object_get(document, "verb")), "status");
	json_decref(document);
}
END_TEST

START_TEST(the_socket_is_for_its_owner_only)
{
	char path[512];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, CONTROL_SOCKET_NAME);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_large_answer_comes_whole)
{
	json_t *document;

	ck_assert_int_eq(control_ask(dir, request("large"), 10000, &document, NULL), 0);
	ck_assert_uint_eq(json_array_size(json_object_get(document, "all")), 200000);
	json_decref(document);
}
END_TEST

START_TEST(what_is_not_an_object_of_json_is_refused_with_a_document)
{
	static const char *const lines[] = {
		"\n", "{\n", "[]\n", "12\n", "{\"a\":1,\"a\":2}\n", "{} {}\n", "\xff\n"
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		json_t *document = say(lines[i], strlen(lines[i]));

		ck_assert_ptr_nonnull(document);
		ck_assert_ptr_nonnull(json_object_get(document, "error"));
		ck_assert_int_eq(json_integer_value(json_object_get(document, "code")), 2);
		json_decref(document);
	}
}
END_TEST

START_TEST(a_request_longer_than_the_limit_is_refused)
{
	size_t len = CONTROL_REQUEST_BYTES_MAX + 4096;
	char *text = malloc(len);
	json_t *document;
	int fd;

	memset(text, ' ', len);
	fd = connect_raw();
	/* In pieces, the last of which the server may not take any more. */
	ck_assert_int_gt(send(fd, text, len, MSG_NOSIGNAL), 0);
	free(text);
	/* Bytes that were never read make the connection end with a reset, so that either is good. */
	if (control_receive(fd, 10000, &document, NULL) == 0) {
		ck_assert_ptr_nonnull(json_object_get(document, "error"));
		json_decref(document);
	}
	ck_assert_int_eq(control_ask(dir, request("status"), 10000, &document, NULL), 0);
	json_decref(document);
}
END_TEST

START_TEST(silent_and_broken_peers_do_not_keep_others_out)
{
	int fds[CONTROL_WORKERS];
	json_t *document;

	for (unsigned int i = 0; i < CONTROL_WORKERS - 1; i++) {
		fds[i] = connect_raw();
		ck_assert_int_eq(send(fds[i], "{\"verb\"", 7, 0), 7);
	}
	ck_assert_int_eq(control_ask(dir, request("status"), 10000, &document, NULL), 0);
	json_decref(document);
	for (unsigned int i = 0; i < CONTROL_WORKERS - 1; i++)
		(void)close(fds[i]);
}
END_TEST

START_TEST(a_request_that_waits_ends_when_its_peer_goes)
{
	json_t *document;
	int fd;

	/* More than there are workers: each must have come free again. */
	for (unsigned int i = 0; i < 3 * CONTROL_WORKERS; i++) {
		ck_assert_int_eq(control_send(dir, request("wait"), &fd, NULL), 0);
		(void)close(fd);
	}
	ck_assert_int_eq(control_ask(dir, request("status"), 10000, &document, NULL), 0);
	json_decref(document);
}
END_TEST

START_TEST(waiting_for_an_answer_ends_with_the_time_limit)
{
	const uint64_t one = 1;
	json_t *document;

	ck_assert_int_eq(control_ask(dir, request("wait"), 50, &document, NULL), -ETIMEDOUT);
	ck_assert_int_eq(write(gate_fd, &one, sizeof(one)), sizeof(one));
}
END_TEST

START_TEST(a_socket_that_a_dead_daemon_left_is_replaced)
{
	struct control *second;
	json_t *document;

	/* Its directory entry is taken over, as after a SIGKILL; the first one still listens. */
	ck_assert_int_eq(control_start(dir, answer, dir, &second, NULL), 0);
	ck_assert_int_eq(control_ask(dir, request("status"), 10000, &document, NULL), 0);
	json_decref(document);
	control_stop(second);
}
END_TEST

START_TEST(the_process_of_a_pool_is_known_by_its_socket)
{
	pid_t pid = 0;

	ck_assert_int_eq(control_find_daemon(dir, &pid), 0);
	ck_assert_int_eq(pid, getpid());
}
END_TEST

START_TEST(without_a_daemon_the_connection_is_refused)
{
	json_t *document;
	pid_t pid;

	control_stop(control);
	control = NULL;
	ck_assert_int_eq(control_ask(dir, request("status"), 100, &document, NULL), -ECONNREFUSED);
	ck_assert_int_eq(control_find_daemon(dir, &pid), -ESRCH);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/control");
	TCase *t = tcase_create("socket");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_request_is_answered);
	tcase_add_test(t, the_socket_is_for_its_owner_only);
	tcase_add_test(t, a_large_answer_comes_whole);
	tcase_add_test(t, what_is_not_an_object_of_json_is_refused_with_a_document);
	tcase_add_test(t, a_request_longer_than_the_limit_is_refused);
	tcase_add_test(t, silent_and_broken_peers_do_not_keep_others_out);
	tcase_add_test(t, a_request_that_waits_ends_when_its_peer_goes);
	tcase_add_test(t, waiting_for_an_answer_ends_with_the_time_limit);
	tcase_add_test(t, a_socket_that_a_dead_daemon_left_is_replaced);
	tcase_add_test(t, the_process_of_a_pool_is_known_by_its_socket);
	tcase_add_test(t, without_a_daemon_the_connection_is_refused);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
