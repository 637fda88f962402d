/* The `s3:` store over whatever a server may answer: listings, errors, results of many deletes, parts,
 * dates and lengths in headers. */
#include "backend/backend_s3.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/scripted_http.h"
#include "tests/fuzz/store_calls.h"

#include "common/log.h"

#include <string.h>

/*
 * A page of a listing has a table of 1,000 places; libexpat keeps text of one piece and its own tables,
 * which grow by doubling; the first input pays for what libcrypto makes once. How long an answer may be
 * in all, backend/http.h bounds.
 */
const struct fuzz_bound fuzz_bound = { .base_bytes = 1 << 20, .per_input_byte = 64 };

#define PART_BYTES (256u << 10) /* a buffer of the hasher; users may have 5 MiB and more */
#define OPEN_TOO   0x40u	/* the answers begin with those to the opening */

#define LIST_HEAD                                                                                  \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>"                                               \
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"                     \
	"<EncodingType>url</EncodingType>"
#define ITEM(name)                                                                                 \
	"<Contents><Key>p/" name "</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"     \
	"<Size>434234</Size></Contents>"

void fuzz_seeds(void)
{
	char ok = scripted_http_letter(200), not_found = scripted_http_letter(404);
	char busy = scripted_http_letter(503), denied = scripted_http_letter(403);

	store_seed(STORE_LIST,
		   "%c\n" LIST_HEAD "<IsTruncated>false</IsTruncated>" ITEM("a/c")
			   ITEM("a/d%%2Be") "</ListBucketResult>",
		   ok);
	store_seed(STORE_LIST,
		   "%c\n" LIST_HEAD "<IsTruncated>true</IsTruncated>" ITEM(
			   "a/c") "</ListBucketResult>\xff%c\n" LIST_HEAD
				  "<IsTruncated>false</IsTruncated>" ITEM(
					  "a/e") "</ListBucketResult>",
		   ok, ok);
	store_seed(STORE_LIST, "%c\n<Error><Code>NoSuchBucket</Code><Region>eu</Region></Error>",
		   not_found);
	store_seed(STORE_GET, "%cContent-Range: bytes 16-31/100\n\n0123456789abcdef",
		   scripted_http_letter(206));
	store_seed(STORE_GET,
		   "%cDate: Sun, 06 Nov 1994 08:49:37 GMT\n\n"
		   "<Error><Code>RequestTimeTooSkewed</Code></Error>\xff%c\n0123456789abcdef",
		   denied, ok);
	store_seed(STORE_HEAD,
		   "%cContent-Length: 100\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n", ok);
	store_seed(STORE_HEAD, "%c\n", not_found);
	store_seed(STORE_PUT, "%cETag: \"x\"\n\n", ok);
	store_seed(STORE_PUT, "%cRetry-After: 7\n\n<Error><Code>SlowDown</Code></Error>", busy);
	store_seed(STORE_PUT_IF_ABSENT, "%c\n", scripted_http_letter(412));
	store_seed(STORE_PUT_BIG,
		   "%c\n<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
		   "</InitiateMultipartUploadResult>\xff%cETag: \"1\"\n\n\xff%cETag: \"2\"\n\n\xff"
		   "%cETag: \"3\"\n\n\xff%c\n<CompleteMultipartUploadResult><ETag>e</ETag>"
		   "</CompleteMultipartUploadResult>",
		   ok, ok, ok, ok, ok);
	store_seed(STORE_DELETE, "%c\n", scripted_http_letter(204));
	store_seed(STORE_DELETE_MANY,
		   "%c\n<DeleteResult><Error><Key>p/a/1</Key><Code>InternalError</Code></Error>"
		   "<Error><Key>p/a/3</Key><Code>NoSuchKey</Code></Error></DeleteResult>",
		   ok);
	store_seed(OPEN_TOO | STORE_PUT,
		   "%c\n" LIST_HEAD "</ListBucketResult>\xff%c\n\xff%c\n\xff%c\n\xff%c\n", ok, ok,
		   scripted_http_letter(412), scripted_http_letter(204), ok);
}

/* What the opening is answered where that is not what is looked at: access, condition, tidying. */
static void script_opening(void)
{
	static uint8_t script[] = "?\n\xff?\n\xff?\n\xff?\n";

	script[0] = script[3] = (uint8_t)scripted_http_letter(200);
	script[6] = (uint8_t)scripted_http_letter(412);
	script[9] = (uint8_t)scripted_http_letter(204);
	scripted_http_set(script, sizeof(script) - 1);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	static const char keys[] = "[default]\naws_access_key_id=AK\naws_secret_access_key=SK\n";
	const struct backend_options options = { .concurrency_max = 1 };
	uint8_t word = fuzz_word(&in, &len_bytes);
	struct store *s = NULL;
	struct err e = { 0 };
	int r;

	log_set_level(LOG_LEVEL_ERROR);
	memory_env_set(keys, sizeof(keys) - 1);
	if (word & OPEN_TOO)
		scripted_http_set(in, len_bytes);
	else
		script_opening();
	r = store_s3_open(memory_env(),
			  "//bucket/p?endpoint=http://127.0.0.1:1&credentials=/keys&part_size=5M",
			  &options, &s, &e);
	if (r < 0) {
		FUZZ_EXPECT(word & OPEN_TOO && e.message[0] != '\0');
		return;
	}
	if (!(word & OPEN_TOO))
		scripted_http_set(in, len_bytes);
	CONTAINER_OF(s, struct store_s3, store)->config.part_bytes = PART_BYTES;
	store_call(s, (enum store_call)((word & 0x0f) % STORE_CALLS));
	s->ops->close(s);
}
