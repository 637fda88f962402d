/*
 * The s3: store against a server that says what a real one does not say on demand. That it gets
 * along with a real one is shown by the contract (contract_backend_network).
 */
#include "tests/backend/support_s3.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "common/thread.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S   INT64_C(1000000000)
#define MIB ((size_t)1 << 20)

static const char *const stored = "ETag: \"8d777f385d3dfec8815d20f7496026dc\"\r\n";

static int put_bytes(const void *data, size_t len_bytes, unsigned int flags)
{
	struct backend_source source = { .data = data, .len_bytes = len_bytes };
	struct backend_put_result result;

	return s3.store->ops->put(s3.store, "a/name", &source, flags, &result, &s3.e);
}

static int put(void)
{
	return put_bytes("data", 4, 0);
}

static int get(uint64_t offset_bytes, void *dst, size_t len_bytes)
{
	return s3.store->ops->get(s3.store, "a/name", offset_bytes, dst, len_bytes, &s3.e);
}

static int head(struct backend_object *object)
{
	return s3.store->ops->head(s3.store, "a/name", object, &s3.e);
}

static int del(void)
{
	return s3.store->ops->del(s3.store, "a/name", &s3.e);
}

/* ---- signing ------------------------------------------------------------------------------- */

START_TEST(requests_are_signed_with_the_token_and_the_hash_of_the_body)
{
	char hash[SIGV4_HASH_BYTES];
	size_t body_bytes;
	const char *body, *signature;

	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", S3_TOKEN, 1), 0);
	s3_must_open("&region=eu-1");
	server_answer(s3.server, "200 OK", stored, "");
	ck_assert_int_eq(put(), 0);
	s3_must_have_asked(0, "PUT /bucket/pool/a/name HTTP/1.1\r\n");
	ck_assert_str_eq(server_header(s3.server, 2, "x-amz-security-token"), S3_TOKEN);
	body = server_body(s3.server, 2, &body_bytes);
	ck_assert_uint_eq(body_bytes, 4);
	ck_assert_int_eq(sigv4_hash(body, body_bytes, hash), 0);
	ck_assert_str_eq(server_header(s3.server, 2, "x-amz-content-sha256"), hash);
	signature = server_header(s3.server, 2, "Authorization");
	ck_assert_ptr_nonnull(strstr(signature, "/eu-1/s3/aws4_request, SignedHeaders=host;"
						"x-amz-content-sha256;x-amz-date;"
						"x-amz-security-token, Signature="));
}
END_TEST

static const char *const skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";

START_TEST(the_clock_of_the_store_is_learned_once_and_kept)
{
	struct backend_object object;

	server_answer(s3.server, "403 Forbidden", "Date: Sun, 06 Nov 2033 08:49:37 GMT\r\n",
		      skewed);
	server_answer(s3.server, "200 OK", stored, "");
	server_answer(s3.server, "200 OK", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
	ck_assert_int_eq(put(), 0);
	ck_assert_uint_eq(s3_asked(), 2);
	ck_assert(strncmp(server_header(s3.server, 2, "x-amz-date"), "20331106T08", 11) != 0);
	ck_assert(strncmp(server_header(s3.server, 3, "x-amz-date"), "20331106T08", 11) == 0);
	ck_assert_int_eq(head(&object), 0);
	ck_assert(strncmp(server_header(s3.server, 4, "x-amz-date"), "20331106T08", 11) == 0);
	ck_assert_int_eq(object.modified_ns, 784111777 * S);
}
END_TEST

START_TEST(a_store_that_never_likes_the_time_is_not_asked_for_ever)
{
	server_answer(s3.server, "403 Forbidden", "Date: Sun, 06 Nov 2033 08:49:37 GMT\r\n",
		      skewed);
	server_answer(s3.server, "403 Forbidden", "Date: Sun, 06 Nov 2034 08:49:37 GMT\r\n",
		      skewed);
	ck_assert_int_eq(put(), -EAGAIN);
	s3_must_say("set the clock");
	ck_assert_uint_eq(s3_asked(), 2);
	server_answer(s3.server, "403 Forbidden", "Date: whenever\r\n", skewed);
	ck_assert_int_eq(put(), -EAGAIN);
	ck_assert_uint_eq(s3_asked(), 3);
}
END_TEST

/* ---- put ----------------------------------------------------------------------------------- */

START_TEST(trouble_of_the_store_is_worth_another_try)
{
	static const char *const statuses[] = { "500 Oops",    "502 Bad Gateway", "503 Busy",
						"504 Timeout", "429 Too Many",	  "408 Timeout",
						"409 Conflict" };

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		server_answer(s3.server, statuses[i], "", "<html>no</html>");
		ck_assert_int_eq(put(), -EAGAIN);
	}
	server_reply(s3.server, SERVER_RESET, "");
	ck_assert_int_eq(put(), -EAGAIN);
	server_answer(s3.server, "200 OK", "", "<html>welcome</html>");
	ck_assert_int_eq(put(), -EAGAIN);
	s3_must_say("was it stored?");
	server_reply(s3.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Le");
	ck_assert_int_eq(put(), -EAGAIN);
}
END_TEST

START_TEST(a_name_server_in_trouble_is_worth_another_try)
{
	struct store_s3 *store = CONTAINER_OF(s3.store, struct store_s3, store);
	char *endpoint = store->config.endpoint, gone[128];

	/* Refused by the resolver itself: a label of 70 characters. */
	(void)snprintf(gone, sizeof(gone), "http://%070d.invalid", 0);
	store->config.endpoint = gone;
	ck_assert_int_eq(put(), -EAGAIN);
	s3_must_say("no such host");
	store->config.endpoint = endpoint;
}
END_TEST

START_TEST(a_busy_store_says_for_how_long)
{
	uint64_t now_ns = clock_mono_ns();

	ck_assert_uint_eq(s3.store->busy_until_ns, 0);
	server_answer(s3.server, "503 Slow Down", "Retry-After: 100\r\n", "");
	ck_assert_int_eq(put(), -EAGAIN);
	ck_assert_uint_ge(s3.store->busy_until_ns, now_ns + 100 * (uint64_t)S);
	ck_assert_uint_le(s3.store->busy_until_ns, clock_mono_ns() + 100 * (uint64_t)S);
}
END_TEST

START_TEST(conditional_puts_end_as_the_store_says)
{
	static const struct {
		const char *status;
		int result;
	} cases[] = { { "200 OK", 0 },
		      { "412 Precondition Failed", -EEXIST },
		      { "409 Conflict", -EAGAIN },
		      { "501 Not Implemented", -EOPNOTSUPP } };

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(s3.server, cases[i].status, stored, "");
		ck_assert_int_eq(put_bytes("data", 4, BACKEND_PUT_IF_ABSENT), cases[i].result);
		ck_assert_str_eq(server_header(s3.server, s3.asked + i, "If-None-Match"), "*");
	}
	server_answer(s3.server, "412 Precondition Failed", "", "");
	ck_assert_int_ne(put(), -EEXIST); /* nobody asked for that */
	ck_assert_str_eq(server_header(s3.server, s3.asked + 4, "If-None-Match"), "");
}
END_TEST

static uint8_t *pattern; /* one a test, freed at its end */

static struct backend_source pattern_source(size_t len_bytes)
{
	uint8_t *data = pattern = malloc(len_bytes);

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len_bytes; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 15);
	return (struct backend_source){ .data = data,
					.len_bytes = len_bytes,
					.crc32c = crc32c(0, data, len_bytes),
					.has_crc = true };
}

static int put_source(const struct backend_source *source)
{
	struct backend_put_result result = { .shares_file = true };
	int r = s3.store->ops->put(s3.store, "big", source, 0, &result, &s3.e);

	ck_assert(r < 0 || !result.shares_file);
	return r;
}

START_TEST(a_source_without_its_checksum_is_not_even_offered)
{
	struct backend_source source = pattern_source(100000);

	source.crc32c++;
	ck_assert_int_eq(put_source(&source), -EBADMSG);
	ck_assert_uint_eq(s3_asked(), 0);
}
END_TEST

static const char *const begun =
	"<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>b</Bucket>"
	"<UploadId>id &amp; more</UploadId></InitiateMultipartUploadResult>";
static const char *const joined =
	"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>";

START_TEST(large_objects_travel_in_parts)
{
	struct backend_source source = pattern_source(11 * MIB + 5);
	size_t at = 0;

	s3_must_open("&part_size=5MiB");
	server_answer(s3.server, "200 OK", "", begun);
	server_answer(s3.server, "200 OK", "ETag: \"one\"\r\n", "");
	server_answer(s3.server, "200 OK", "ETag: two\r\n", "");
	server_answer(s3.server, "200 OK", "ETag: \"three-3\"\r\n", "");
	server_answer(s3.server, "200 OK", "", joined);
	ck_assert_msg(put_source(&source) == 0, "%s", s3.e.message);
	ck_assert_uint_eq(s3_asked(), 5);
	s3_must_have_asked(0, "POST /bucket/pool/big?uploads= HTTP/1.1\r\n");
	for (unsigned int i = 1; i <= 3; i++) {
		char line[128], hash[SIGV4_HASH_BYTES];
		size_t body_bytes;
		const char *body = server_body(s3.server, s3.asked + i, &body_bytes);

		(void)snprintf(line, sizeof(line),
			       "PUT /bucket/pool/big?partNumber=%u&uploadId=id%%20%%26%%20more H",
			       i);
		s3_must_have_asked(i, line);
		ck_assert(memcmp(body, (const char *)source.data + at, body_bytes) == 0);
		at += body_bytes;
		ck_assert_int_eq(sigv4_hash(body, body_bytes, hash), 0);
		ck_assert_str_eq(server_header(s3.server, s3.asked + i, "x-amz-content-sha256"),
				 hash);
	}
	ck_assert_uint_eq(at, source.len_bytes);
	s3_must_have_asked(4, "POST /bucket/pool/big?uploadId=id%20%26%20more HTTP/1.1\r\n");
	ck_assert_str_eq(server_body(s3.server, s3.asked + 4, &at),
			 "<CompleteMultipartUpload>"
			 "<Part><PartNumber>1</PartNumber><ETag>&quot;one&quot;</ETag></Part>"
			 "<Part><PartNumber>2</PartNumber><ETag>&quot;two&quot;</ETag></Part>"
			 "<Part><PartNumber>3</PartNumber><ETag>&quot;three-3&quot;</ETag></Part>"
			 "</CompleteMultipartUpload>");
}
END_TEST

START_TEST(an_upload_that_fails_is_aborted)
{
	static const struct {
		const char *part_status, *part_headers, *join;
		bool good_crc;
		int result;
	} cases[] = {
		{ "500 Oops", "ETag: x\r\n", NULL, true, -EAGAIN },
		{ "200 OK", "", NULL, true, -EAGAIN },
		{ "200 OK", "ETag: a<b\r\n", NULL, true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", NULL, false, -EBADMSG },
		{ "200 OK", "ETag: x\r\n", "<Error><Code>InternalError</Code></Error>", true,
		  -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "<Error><Code>AccessDenied</Code></Error>", true,
		  -EACCES },
		{ "200 OK", "ETag: x\r\n", "<Error/>", true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "   ", true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "<CompleteMultipartUploadResult><ETag>", true, -EAGAIN },
	};
	struct backend_source source = pattern_source(6 * MIB);

	s3_must_open("&part_size=5MiB");
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		bool both = strcmp(cases[i].part_headers, "ETag: x\r\n") == 0 &&
			    cases[i].part_status[0] == '2';

		server_answer(s3.server, "200 OK", "", begun);
		server_answer(s3.server, cases[i].part_status, cases[i].part_headers, "");
		if (both)
			server_answer(s3.server, "200 OK", "ETag: y\r\n", "");
		if (cases[i].join)
			server_answer(s3.server, "200 OK", "", cases[i].join);
		server_answer(s3.server, "204 No Content", "", "");
		if (!cases[i].good_crc)
			source.crc32c++;
		ck_assert_int_eq(put_source(&source), cases[i].result);
		if (!cases[i].good_crc)
			source.crc32c--;
		s3_must_have_asked(s3_asked() - 1, "DELETE /bucket/pool/big?uploadId=");
	}
	server_answer(s3.server, "200 OK", "", "<InitiateMultipartUploadResult/>");
	ck_assert_int_eq(put_source(&source), -EAGAIN); /* nothing to abort */
	s3_must_have_asked(s3_asked() - 1, "POST ");
}
END_TEST

/* ---- get ----------------------------------------------------------------------------------- */

START_TEST(only_the_range_that_was_asked_for_is_taken)
{
	static const struct {
		const char *status, *headers, *body;
		uint64_t offset;
		int result;
	} cases[] = {
		{ "206 Partial", "Content-Range: bytes 2-5/10\r\n", "2345", 2, 0 },
		{ "206 Partial", "Content-Range: bytes 2-5/*\r\n", "2345", 2, 0 },
		{ "206 Partial", "Content-Range: bytes 3-6/10\r\n", "3456", 2, -EAGAIN },
		{ "206 Partial", "Content-Range: bytes 2-50/100\r\n", "2345", 2, -EAGAIN },
		{ "206 Partial", "", "2345", 2, -EAGAIN },
		{ "206 Partial", "Content-Range: bytes 2-4/5\r\n", "234", 2, -EUCLEAN },
		{ "200 OK", "", "0123", 0, 0 },
		{ "200 OK", "", "0123", 2, -EAGAIN },
		{ "200 OK", "", "0123456789", 2, -EUCLEAN },
		{ "200 OK", "", "0123456789", 0, -EUCLEAN },
		{ "416 Range", "Content-Range: bytes */3\r\n", "", 2, -EUCLEAN },
		{ "204 No Content", "", "", 2, -EUCLEAN },
		{ "403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>", 2, -EACCES },
		{ "500 Oops", "", "", 2, -EAGAIN },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		char dst[5] = "....", range[32];

		server_answer(s3.server, cases[i].status, cases[i].headers, cases[i].body);
		ck_assert_msg(get(cases[i].offset, dst, 4) == cases[i].result, "%u: %s", i,
			      s3.e.message);
		if (cases[i].result == 0)
			ck_assert_str_eq(dst, cases[i].body);
		(void)snprintf(range, sizeof(range), "bytes=%d-%d", (int)cases[i].offset,
			       (int)cases[i].offset + 3);
		ck_assert_str_eq(server_header(s3.server, s3.asked + i, "Range"), range);
	}
}
END_TEST

START_TEST(a_cut_body_is_told_as_too_short)
{
	char dst[8];

	server_reply(s3.server, SERVER_CLOSE,
		     "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-7/100\r\n"
		     "Content-Length: 8\r\n\r\n0123");
	ck_assert_int_eq(get(0, dst, 8), -EUCLEAN); /* which the router compares to the length */
}
END_TEST

/* ---- what is not there --------------------------------------------------------------------- */

static const char *const no_key = "<Error><Code>NoSuchKey</Code></Error>";
static const char *const no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";

static void answer_head(const char *status)
{
	char text[128];

	(void)snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: 1\r\n\r\n", status);
	server_reply(s3.server, SERVER_KEEP, text);
}

START_TEST(a_missing_bucket_is_not_a_missing_object)
{
	struct backend_object object;
	char byte;

	server_answer(s3.server, "404 Not Found", "", no_bucket);
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	s3_must_say("no such bucket");
	server_answer(s3.server, "404 Not Found", "", no_key);
	ck_assert_int_eq(del(), 0);
	server_answer(s3.server, "404 Not Found", "", no_bucket);
	ck_assert_int_eq(del(), -EAGAIN);
	ck_assert_uint_eq(s3_asked(), 3);

	/* HEAD has no words. */
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(head(&object), -EAGAIN);
	s3_must_have_asked(4, "HEAD /bucket HTTP/1.1\r\n");
	s3_must_say("no such bucket");
	answer_head("404 Not Found");
	answer_head("503 Busy");
	ck_assert_int_eq(head(&object), -EAGAIN);
	server_answer(s3.server, "404 Not Found", "", "<html>a proxy</html>");
	answer_head("404 Not Found");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
}
END_TEST

START_TEST(an_object_is_absent_when_the_store_says_so_three_times)
{
	struct backend_object object;
	char byte;

	server_answer(s3.server, "404 Not Found", "", no_key);
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(get(0, &byte, 1), -ENOENT);
	answer_head("404 Not Found");
	answer_head("200 OK"); /* of the bucket */
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(head(&object), -ENOENT);
	s3_must_have_asked(5, "HEAD /bucket/pool/a/name HTTP/1.1\r\n");
	/* It was being replaced. */
	server_answer(s3.server, "404 Not Found", "", no_key);
	answer_head("404 Not Found");
	answer_head("200 OK");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	server_answer(s3.server, "404 Not Found", "", no_key);
	answer_head("500 Oops");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	ck_assert_uint_eq(s3_asked(), 12);
}
END_TEST

START_TEST(a_head_without_a_length_is_no_answer)
{
	struct backend_object object;

	server_reply(s3.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\n\r\n");
	ck_assert_int_eq(head(&object), -EAGAIN);
	server_reply(s3.server, SERVER_CLOSE,
		     "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n");
	ck_assert_int_lt(head(&object), 0);
}
END_TEST

/* ---- list ---------------------------------------------------------------------------------- */

static char listed[1024];

static int note(void *arg, const char *name, const struct backend_object *object)
{
	size_t at = strlen(listed);

	(void)arg;
	(void)snprintf(listed + at, sizeof(listed) - at, "%s=%" PRIu64 "@%" PRId64 " ", name,
		       object->len_bytes, object->modified_ns / S);
	return 0;
}

static int list(const char *prefix, const char *after, unsigned int count_max)
{
	listed[0] = '\0';
	return s3.store->ops->list(s3.store, prefix, after, count_max, note, NULL, &s3.e);
}

#define PAGE(more, items)                                                                          \
	"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3/\"><Name>b</Name>"             \
	"<EncodingType>url</EncodingType><IsTruncated>" more "</IsTruncated>" items                \
	"</ListBucketResult>"
#define BARE(items) "<ListBucketResult><IsTruncated>false</IsTruncated>" items "</ListBucketResult>"
#define ITEM(key)   "<Contents><Key>" key "</Key><Size>3</Size></Contents>"

START_TEST(pages_are_joined_by_the_last_key)
{
	server_answer(s3.server, "200 OK", "",
		      PAGE("true",
			   "<Contents><Owner><ID>x</ID></Owner><Size>7</Size>"
			   "<LastModified>2009-10-12T17:50:30.000Z</LastModified>"
			   "<Key>pool/a%20b+c%2B</Key></Contents>" ITEM("pool/tmp/probe-1")));
	server_answer(s3.server, "200 OK", "",
		      PAGE("false",
			   ITEM("pool/x//y") ITEM("pool/x/z") "<CommonPrefixes><Prefix>q"
							      "</Prefix></CommonPrefixes>"));
	ck_assert_msg(list("", NULL, 100) == 2, "%s", s3.e.message);
	ck_assert_str_eq(listed, "a b c+=7@1255369830 x/z=3@0 ");
	s3_must_have_asked(0, "GET /bucket?encoding-type=url&list-type=2&max-keys=100&"
			      "prefix=pool%2F HTTP/1.1\r\n");
	s3_must_have_asked(1, "GET /bucket?encoding-type=url&list-type=2&max-keys=99&"
			      "prefix=pool%2F&start-after=pool%2Ftmp%2Fprobe-1 HTTP/1.1\r\n");
}
END_TEST

START_TEST(a_list_asks_for_no_more_than_it_gives)
{
	server_answer(s3.server, "200 OK", "", PAGE("true", ITEM("pool/p1") ITEM("pool/p2")));
	ck_assert_int_eq(list("p", "p0", 1), 1);
	ck_assert_str_eq(listed, "p1=3@0 ");
	s3_must_have_asked(0,
			   "GET /bucket?encoding-type=url&list-type=2&max-keys=1&prefix=pool%2Fp&"
			   "start-after=pool%2Fp0 HTTP/1.1\r\n");
	ck_assert_int_eq(list("p", "p0", 0), 0);
	ck_assert_uint_eq(s3_asked(), 1);
}
END_TEST

START_TEST(keys_that_were_not_escaped_are_taken_as_they_are)
{
	server_answer(
		s3.server, "200 OK", "",
		"<ListBucketResult>" ITEM(
			"pool/a+%20&lt;&#65;") "<IsTruncated>false</IsTruncated></ListBucketResult>");
	ck_assert_int_eq(list("", NULL, 10), 1);
	ck_assert_str_eq(listed, "a+%20<A=3@0 ");
}
END_TEST

START_TEST(lists_that_lead_astray_are_refused_before_anything_is_given)
{
	static const struct {
		const char *body;
		int result;
	} cases[] = {
		{ "", -EAGAIN },
		{ "garbage", -EAGAIN },
		{ "<html><body/></html>", -EAGAIN },
		{ "<Error><Code>InternalError</Code></Error>", -EAGAIN },
		{ "<ListBucketResult>" ITEM("pool/a") "</ListBucketResult>", -EAGAIN },
		{ "<ListBucketResult><IsTruncated>false</IsTruncated>" ITEM("pool/a"), -EAGAIN },
		{ "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>pool/a",
		  -EAGAIN },
		{ PAGE("false", ITEM("pool/b") ITEM("pool/a")), -EUCLEAN },
		{ PAGE("false", ITEM("pool/a") ITEM("pool/a")), -EUCLEAN },
		{ PAGE("false", ITEM("elsewhere/a")), -EUCLEAN },
		{ PAGE("true", ""), -EUCLEAN },
		{ PAGE("false", ITEM("pool/a%00b")), -EAGAIN },
		{ PAGE("false", ITEM("pool/a%zz")), -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key></Contents>"), -EAGAIN },
		{ PAGE("false", "<Contents><Size>1</Size></Contents>"), -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key><Key>pool/b</Key><Size>1</Size>"
				"</Contents>"),
		  -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key><Size>-1</Size></Contents>"), -EAGAIN },
		{ "<!DOCTYPE x [<!ENTITY a \"pool/a\">]>" BARE(ITEM("&a;")), -EAGAIN },
		{ "<!DOCTYPE x [<!ENTITY a \"pool/a\">]>" BARE(ITEM("pool/a")), -EAGAIN },
		{ "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">" BARE(ITEM("pool/a")), -EAGAIN },
		{ PAGE("false", "<a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a>"), -EAGAIN },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(s3.server, "200 OK", "", cases[i].body);
		ck_assert_msg(list("", NULL, 10) == cases[i].result, "%zu: %s", i, s3.e.message);
		ck_assert_str_eq(listed, "");
	}
}
END_TEST

START_TEST(a_store_that_repeats_its_page_does_not_go_on_for_ever)
{
	for (unsigned int i = 0; i < 2; i++)
		server_answer(s3.server, "200 OK", "", PAGE("true", ITEM("pool/a")));
	ck_assert_int_eq(list("", NULL, 10), -EUCLEAN);
	ck_assert_uint_eq(s3_asked(), 2);
}
END_TEST

START_TEST(more_keys_than_a_page_has_are_refused)
{
	struct buf text;

	buf_init(&text, 16 * MIB);
	ck_assert_int_eq(buf_printf(&text, "<ListBucketResult><IsTruncated>false</IsTruncated>"),
			 0);
	for (unsigned int i = 0; i < 1001; i++)
		ck_assert_int_eq(buf_printf(&text, ITEM("pool/%04u"), i), 0);
	ck_assert_int_eq(buf_printf(&text, "</ListBucketResult>"), 0);
	server_answer(s3.server, "200 OK", "", (char *)text.data);
	ck_assert_int_eq(list("", NULL, 100000), -EAGAIN);
	buf_clear(&text);
	ck_assert_int_eq(buf_printf(&text, "<ListBucketResult><Contents><Key>"), 0);
	while (text.len_bytes < 9 * MIB)
		ck_assert_int_eq(buf_append(&text, "aaaaaaaaaaaaaaaa", 16), 0);
	ck_assert_int_eq(buf_append(&text, "", 1), 0);
	server_answer(s3.server, "200 OK", "", (char *)text.data);
	ck_assert_int_eq(list("", NULL, 100000), -EFBIG);
	buf_done(&text);
}
END_TEST

/* ---- secrets ------------------------------------------------------------------------------- */

static bool file_holds(const char *path, const char *words)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopen(path, "r");
	bool found;

	ck_assert_ptr_nonnull(f);
	ck_assert(getdelim(&text, &size, '\0', f) > 0);
	(void)fclose(f);
	found = strstr(text, words) != NULL;
	free(text);
	return found;
}

START_TEST(no_secret_is_in_errors_or_log)
{
	static const char *const answers[] = {
		"HTTP/1.1 403 No\r\nContent-Length: 300\r\n\r\n" S3_SECRET,
		"HTTP/1.1 500 " S3_SECRET "\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 403 No\r\nDate: Sun, 06 Nov 2033 08:49:37 GMT\r\nContent-Length: 48\r\n"
		"\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>",
		S3_SECRET "\r\n\r\n",
		"HTTP/1.1 301 " S3_SECRET "\r\nLocation: http://" S3_SECRET "/\r\n\r\n",
	};
	char log[] = "log-XXXXXX";
	int fd = mkstemp(log);

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", S3_TOKEN, 1), 0);
	s3_must_open("");
	ck_assert_int_eq(log_open(log, LOG_LEVEL_DEBUG), 0);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		server_reply(s3.server, SERVER_CLOSE, answers[i]);
		server_reply(s3.server, SERVER_CLOSE, answers[i]);
		ck_assert_int_lt(put(), 0);
		ck_assert_ptr_null(strstr(s3.e.message, S3_SECRET));
		ck_assert_ptr_null(strstr(s3.e.message, S3_TOKEN));
		ck_assert_ptr_null(strstr(s3.e.message, "Signature="));
	}
	log_close();
	ck_assert(file_holds(log, "clocks differ"));
	ck_assert(!file_holds(log, S3_SECRET));
	ck_assert(!file_holds(log, S3_TOKEN));
	ck_assert_int_eq(unlink(log), 0);
}
END_TEST

/* ---- running ------------------------------------------------------------------------------- */

static void teardown(void)
{
	free(pattern);
	s3_teardown();
}

static void add_bare_tests(Suite *suite)
{
	TCase *tc = tcase_create("with options of their own");

	tcase_add_checked_fixture(tc, s3_setup_bare, teardown);
	tcase_add_test(tc, requests_are_signed_with_the_token_and_the_hash_of_the_body);
	tcase_add_test(tc, large_objects_travel_in_parts);
	tcase_add_test(tc, an_upload_that_fails_is_aborted);
	tcase_add_test(tc, no_secret_is_in_errors_or_log);
	suite_add_tcase(suite, tc);
}

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("open");

	tcase_add_checked_fixture(tc, s3_setup, teardown);
	tcase_add_test(tc, the_clock_of_the_store_is_learned_once_and_kept);
	tcase_add_test(tc, a_store_that_never_likes_the_time_is_not_asked_for_ever);
	tcase_add_test(tc, trouble_of_the_store_is_worth_another_try);
	tcase_add_test(tc, a_name_server_in_trouble_is_worth_another_try);
	tcase_add_test(tc, a_busy_store_says_for_how_long);
	tcase_add_test(tc, conditional_puts_end_as_the_store_says);
	tcase_add_test(tc, a_source_without_its_checksum_is_not_even_offered);
	tcase_add_test(tc, only_the_range_that_was_asked_for_is_taken);
	tcase_add_test(tc, a_cut_body_is_told_as_too_short);
	tcase_add_test(tc, a_missing_bucket_is_not_a_missing_object);
	tcase_add_test(tc, an_object_is_absent_when_the_store_says_so_three_times);
	tcase_add_test(tc, a_head_without_a_length_is_no_answer);
	tcase_add_test(tc, pages_are_joined_by_the_last_key);
	tcase_add_test(tc, a_list_asks_for_no_more_than_it_gives);
	tcase_add_test(tc, keys_that_were_not_escaped_are_taken_as_they_are);
	tcase_add_test(tc, lists_that_lead_astray_are_refused_before_anything_is_given);
	tcase_add_test(tc, a_store_that_repeats_its_page_does_not_go_on_for_ever);
	tcase_add_test(tc, more_keys_than_a_page_has_are_refused);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("backend/s3");
	SRunner *runner;
	int failed;

	add_bare_tests(suite);
	add_tests(suite);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
