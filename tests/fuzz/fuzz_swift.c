/* The `swift:` store over whatever a server may answer: tokens, Keystone's catalogue, listings,
 * results of many deletes, lengths and dates in headers. */
#include "backend/backend_swift.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/scripted_http.h"
#include "tests/fuzz/store_calls.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

/* jansson has some 120 bytes for an empty array, which is two in the text; libcrypto makes once what
 * the first input pays for. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 1 << 20, .per_input_byte = 256 };

#define KEYSTONE 0x40u
#define AUTH_TOO 0x20u /* the answers begin with that to the question for a token */

#define CATALOGUE                                                                                  \
	"{\"token\":{\"catalog\":[{\"type\":\"object-store\",\"endpoints\":[{\"url\":"             \
	"\"http://127.0.0.1:1/v1/a\",\"interface\":\"public\",\"region\":\"r\"}]}]}}"

void fuzz_seeds(void)
{
	char ok = scripted_http_letter(200), made = scripted_http_letter(201);

	store_seed(STORE_LIST,
		   "%c\n[{\"name\":\"p/a/c\",\"bytes\":5,\"last_modified\":"
		   "\"2026-11-21T21:40:20.344880\"},{\"name\":\"p/a/d\",\"bytes\":7}]",
		   ok);
	store_seed(STORE_LIST, "%c\n", scripted_http_letter(204));
	store_seed(STORE_GET, "%cContent-Range: bytes 16-31/100\n\n0123456789abcdef",
		   scripted_http_letter(206));
	store_seed(STORE_HEAD,
		   "%cContent-Length: 100\nX-Timestamp: 1.5\nLast-Modified: Sun, 06 Nov "
		   "1994 08:49:37 GMT\n\n",
		   ok);
	store_seed(STORE_HEAD, "%c\n\xff%c\n", scripted_http_letter(404),
		   scripted_http_letter(204));
	store_seed(STORE_PUT, "%cETag: 6d0bb00954ceb7fbee436bb55a8397a9\n\n", made);
	store_seed(STORE_PUT,
		   "%cRetry-After: Sun, 06 Nov 1994 08:50:37 GMT\nDate: Sun, 06 Nov 1994 "
		   "08:49:37 GMT\n\n",
		   scripted_http_letter(503));
	store_seed(STORE_PUT_IF_ABSENT, "%c\n\xff%cContent-Length: 100\n\n", made, ok);
	store_seed(STORE_DELETE, "%c\n", scripted_http_letter(204));
	store_seed(STORE_DELETE_MANY,
		   "%c\n{\"Response Status\":\"400 Bad Request\",\"Number Deleted\":1,"
		   "\"Number Not Found\":1,\"Errors\":[[\"/c/p/a/1\",\"500 Internal Error\"]]}",
		   ok);
	store_seed(AUTH_TOO | STORE_DELETE,
		   "%cX-Auth-Token: t\nX-Storage-Url: http://127.0.0.1:1/v1/a\n\n\xff%c\n", ok,
		   scripted_http_letter(204));
	store_seed(KEYSTONE | AUTH_TOO | STORE_DELETE,
		   "%cX-Subject-Token: t\n\n" CATALOGUE "\xff%c\n", made,
		   scripted_http_letter(204));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	static const char tempauth[] = "ST_USER=u\nST_KEY=k\n";
	static const char keystone[] = "OS_USERNAME=u\nOS_PASSWORD=k\nOS_PROJECT_NAME=p\n";
	static const uint8_t token[] =
		"aX-Auth-Token: t\nX-Storage-Url: http://127.0.0.1:1/v1/a\n\n";
	static const uint8_t subject[] = "aX-Subject-Token: t\n\n" CATALOGUE;
	const struct backend_options options = { .concurrency_max = 1 };
	uint8_t word = fuzz_word(&in, &len_bytes);
	bool is_keystone = word & KEYSTONE;
	const uint8_t *answer = is_keystone ? subject : token;
	struct store *s = NULL;
	uint8_t *script;
	size_t head_bytes = 0;
	struct err e = { 0 };

	log_set_level(LOG_LEVEL_ERROR);
	if (is_keystone)
		memory_env_set(keystone, sizeof(keystone) - 1);
	else
		memory_env_set(tempauth, sizeof(tempauth) - 1);
	FUZZ_EXPECT(store_swift_open(memory_env(),
				     is_keystone ?
					     "//c/p?auth=http://127.0.0.1:1/v3&credentials=/keys" :
					     "//c/p?auth=http://127.0.0.1:1/auth/v1.0&"
					     "credentials=/keys",
				     &options, &s, &e) == 0);
	if (!(word & AUTH_TOO))
		head_bytes = strlen((const char *)answer) + 1;
	script = fuzz_copy(answer, head_bytes, head_bytes + len_bytes);
	if (head_bytes > 0)
		script[head_bytes - 1] = 0xff;
	if (len_bytes > 0)
		memcpy(script + head_bytes, in, len_bytes);
	scripted_http_set(script, head_bytes + len_bytes);
	store_call(s, (enum store_call)((word & 0x0f) % STORE_CALLS));
	s->ops->close(s);
	free(script);
}
