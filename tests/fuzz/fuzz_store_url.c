/* URLs of the stores of the network, and the files of credentials that they name. An input is the
 * URL, a byte 0xff, the file. */
#include "backend/backend_s3.h"
#include "backend/backend_swift.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/store_calls.h"

#include <stdlib.h>
#include <string.h>

/* Credentials lie alone in pages; a file of them is read into a buffer of a fixed length. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 256 << 10, .per_input_byte = 16 };

#define SWIFT 1u

void fuzz_seeds(void)
{
	store_seed(0,
		   "//bucket/p?endpoint=http://127.0.0.1:1&credentials=/k&part_size=5M&style=path"
		   "&region=eu&profile=x\xff[x]\naws_access_key_id = A\naws_secret_access_key=S\n"
		   "aws_session_token=T\n# end\n");
	store_seed(0,
		   "//bucket?style=virtual&ca_file=/etc/ca%%2Epem&credentials=/k\xff[default]\n");
	store_seed(SWIFT, "//c/p?auth=http://127.0.0.1:1/auth/v1.0&credentials=/k\xffST_USER=u\n"
			  "export ST_KEY='k'\n");
	store_seed(SWIFT, "//c?auth=https://h/v3&region=r&interface=internal&credentials=/k\xff"
			  "OS_USERNAME=u\nOS_PASSWORD=\"p\"\nOS_PROJECT_NAME=x\n");
}

static void read_s3(const char *url)
{
	struct s3_config config = { .endpoint = NULL };
	struct s3_keys *keys = NULL;
	struct err e = { 0 };
	int r = s3_config_parse(url, &config, &e);

	FUZZ_EXPECT(r == 0 || (r == -EINVAL && e.message[0] != '\0'));
	if (r < 0)
		return;
	FUZZ_EXPECT(config.bucket && config.endpoint &&
		    strlen(config.prefix) <= S3_PREFIX_BYTES_MAX);
	FUZZ_EXPECT(config.part_bytes >= S3_PART_BYTES_MIN &&
		    config.part_bytes <= S3_PART_BYTES_MAX);
	r = s3_keys_load(memory_env(), &config, &keys, &e);
	FUZZ_EXPECT(r == 0 || e.message[0] != '\0');
	if (r == 0)
		FUZZ_EXPECT(keys->access[0] != '\0' && keys->secret[0] != '\0');
	s3_keys_free(keys);
	s3_config_done(&config);
}

static void read_swift(const char *url)
{
	struct swift_config config = { .container = NULL };
	struct err e = { 0 };
	int r = swift_config_read(memory_env(), url, &config, &e);

	FUZZ_EXPECT(r == 0 || e.message[0] != '\0');
	if (r < 0)
		return;
	FUZZ_EXPECT(config.container[0] != '\0' && swift_url_is_good(config.auth_url));
	if (config.keystone) {
		char *body = NULL;

		if (swift_keystone_request(&config, &body, &e) == 0)
			swift_secret_free(body);
	}
	swift_config_done(&config);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	const uint8_t *end = len_bytes > 0 ? memchr(in, 0xff, len_bytes) : NULL;
	size_t url_bytes = end ? (size_t)(end - in) : len_bytes;
	char *url = (char *)fuzz_copy(in, url_bytes, url_bytes + 1);

	url[url_bytes] = '\0';
	memory_env_set(end ? end + 1 : in, end ? len_bytes - url_bytes - 1 : 0);
	if (word & SWIFT)
		read_swift(url);
	else
		read_s3(url);
	free(url);
}
