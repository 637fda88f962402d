/* Certificates: which ones the HTTP client accepts, and what it says of the others. */
#include "backend/http.h"

#include "common/thread.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fx {
	struct env *env;
	SSL_CTX *context;
	int listener, stop_pipe[2];
	char url[64];
	struct thread *thread;
	struct err e;
} fx;

#define CERTIFICATE_FILE "certificate.pem"

/* ---- a server ------------------------------------------------------------------------------ */

static void serve_one(int fd)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	SSL *ssl = SSL_new(fx.context);
	char request[4096];

	ASSERT(ssl && SSL_set_fd(ssl, fd) == 1);
	if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof(request)) > 0) {
		(void)SSL_write(ssl, answer, sizeof(answer) - 1);
		(void)SSL_shutdown(ssl);
	}
	SSL_free(ssl);
	(void)close(fd);
}

static void serve(void *arg)
{
	struct pollfd fds[2] = { { .fd = fx.stop_pipe[0], .events = POLLIN },
				 { .fd = fx.listener, .events = POLLIN } };

	(void)arg;
	while (poll(fds, 2, -1) >= 0 && !fds[0].revents) {
		int fd = accept4(fx.listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve_one(fd);
	}
}

static void listen_on_loopback(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t address_bytes = sizeof(address);

	fx.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fx.listener, 0);
	ck_assert_int_eq(bind(fx.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fx.listener, 16), 0);
	ck_assert_int_eq(getsockname(fx.listener, (struct sockaddr *)&address, &address_bytes), 0);
	(void)snprintf(fx.url, sizeof(fx.url), "https://127.0.0.1:%u/", ntohs(address.sin_port));
}

/* One that signs itself, for the alternative name; written to CERTIFICATE_FILE as well. */
static void make_certificate(const char *alternative_name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_EXTENSION *extension =
		X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternative_name);
	FILE *f = fopen(CERTIFICATE_FILE, "w");

	ck_assert(key && x && extension && f);
	ck_assert_int_eq(X509_set_version(x, 2), 1);
	ck_assert_int_eq(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
	ck_assert_ptr_nonnull(X509_gmtime_adj(X509_getm_notBefore(x), -86400));
	ck_assert_ptr_nonnull(X509_gmtime_adj(X509_getm_notAfter(x), 86400));
	ck_assert_int_eq(X509_set_pubkey(x, key), 1);
	ck_assert_int_eq(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
						    (const unsigned char *)"test", -1, -1, 0),
			 1);
	ck_assert_int_eq(X509_set_issuer_name(x, X509_get_subject_name(x)), 1);
	ck_assert_int_eq(X509_add_ext(x, extension, -1), 1);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	ck_assert_int_eq(SSL_CTX_use_certificate(fx.context, x), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(fx.context, key), 1);
	ck_assert_int_eq(PEM_write_X509(f, x), 1);
	ck_assert_int_eq(fclose(f), 0);
	X509_EXTENSION_free(extension);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void start(const char *alternative_name)
{
	fx.env = env_posix();
	fx.context = SSL_CTX_new(TLS_server_method());
	ck_assert_ptr_nonnull(fx.context);
	make_certificate(alternative_name);
	listen_on_loopback();
	ck_assert_int_eq(pipe2(fx.stop_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(thread_start("server", serve, NULL, &fx.thread), 0);
}

static void stop(void)
{
	ck_assert_int_eq(write(fx.stop_pipe[1], "x", 1), 1);
	thread_join(fx.thread);
	(void)close(fx.listener);
	(void)close(fx.stop_pipe[0]);
	(void)close(fx.stop_pipe[1]);
	SSL_CTX_free(fx.context);
	ck_assert_int_eq(unlink(CERTIFICATE_FILE), 0);
}

/* The result, or the status when there is one. */
static int get(const char *ca_file)
{
	struct http_options options = { .ca_file = ca_file };
	struct http_request request = { .method = "GET", .url = fx.url };
	struct http_answer answer = { .status = 0 };
	struct http_client *client = NULL;
	int r;

	ck_assert_int_eq(http_client_open(fx.env, &options, &client, &fx.e), 0);
	r = http_perform(client, &request, &answer, &fx.e);
	if (r == 0)
		r = answer.status;
	http_answer_done(&answer);
	http_client_close(client);
	return r;
}

/* ---- tests --------------------------------------------------------------------------------- */

START_TEST(a_certificate_of_the_ca_file_is_accepted)
{
	start("IP:127.0.0.1");
	ck_assert_msg(get(CERTIFICATE_FILE) == 200, "%s", fx.e.message);
	stop();
}
END_TEST

START_TEST(a_certificate_of_nobody_known_is_refused_with_the_cure)
{
	start("IP:127.0.0.1");
	ck_assert_int_eq(get(NULL), -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(fx.e.message, "set ca_file"));
	stop();
}
END_TEST

START_TEST(a_certificate_for_another_name_is_refused)
{
	start("DNS:elsewhere.invalid");
	ck_assert_int_eq(get(CERTIFICATE_FILE), -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "use the name"));
	stop();
}
END_TEST

START_TEST(a_ca_file_without_certificates_is_told)
{
	FILE *f = fopen("garbage.pem", "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs("no certificate\n", f), 0);
	ck_assert_int_eq(fclose(f), 0);
	start("IP:127.0.0.1");
	ck_assert_int_eq(get("garbage.pem"), -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "garbage.pem"));
	stop();
	ck_assert_int_eq(unlink("garbage.pem"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/http_tls");
	TCase *tc = tcase_create("tls");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, a_certificate_of_the_ca_file_is_accepted);
	tcase_add_test(tc, a_certificate_of_nobody_known_is_refused_with_the_cure);
	tcase_add_test(tc, a_certificate_for_another_name_is_refused);
	tcase_add_test(tc, a_ca_file_without_certificates_is_told);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
