/* Answers of a `swift:` store in JSON: listings, results of bulk deletes, Keystone's catalogue. */
#include "backend/backend_swift.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* jansson has some 120 bytes for an empty array, which is two of the text. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 64 << 10, .per_input_byte = 128 };

enum { LISTING, BULK, CATALOGUE, KINDS };

void fuzz_seeds(void)
{
	static const char listing[] =
		"[{\"name\":\"a/c\",\"bytes\":5,\"last_modified\":"
		"\"2026-11-21T21:40:20.344880\"},{\"name\":\"d\",\"bytes\":0}]";
	static const char bulk[] = "{\"Response Status\":\"200 OK\",\"Number Deleted\":1,"
				   "\"Number Not Found\":1,\"Errors\":[[\"/c/a\",\"500 Error\"]]}";
	static const char catalogue[] =
		"{\"token\":{\"catalog\":[{\"type\":\"object-store\",\"endpoints\":[{\"url\":"
		"\"http://h/v1/a\",\"interface\":\"public\",\"region_id\":\"r\"}]}]}}";

	fuzz_seed(LISTING, listing, strlen(listing));
	fuzz_seed(BULK, bulk, strlen(bulk));
	fuzz_seed(CATALOGUE, catalogue, strlen(catalogue));
}

static int check_object(void *arg, const char *name, const struct backend_object *object)
{
	FUZZ_EXPECT(name && object->len_bytes <= INT64_MAX && object->modified_ns >= 0);
	++*(size_t *)arg;
	return 0;
}

static int check_error(void *arg, const char *path, int status)
{
	FUZZ_EXPECT(path && status >= 100 && status <= 599);
	++*(size_t *)arg;
	return 0;
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	char region[] = "r";
	struct swift_config config = { .value = { [SWIFT_OS_REGION_NAME] = region } };
	uint8_t word = fuzz_word(&in, &len_bytes);
	size_t seen = 0, count = 0;
	struct swift_bulk bulk;
	struct err e = { 0 };
	char *url = NULL;
	int r = 0;

	switch (word % KINDS) {
	case LISTING:
		r = swift_listing_parse(in, len_bytes, check_object, &seen, &count, &e);
		FUZZ_EXPECT(r < 0 || seen == count);
		break;
	case BULK:
		r = swift_bulk_parse(in, len_bytes, check_error, &seen, &bulk, &e);
		FUZZ_EXPECT(r < 0 || (seen == bulk.error_count && bulk.status != 0));
		break;
	default:
		r = swift_keystone_endpoint(&config, in, len_bytes, &url, &e);
		FUZZ_EXPECT((r == 0) == (url != NULL));
		free(url);
		break;
	}
	FUZZ_EXPECT(r == 0 || ((r == -EUCLEAN || r == -EINVAL) && e.message[0] != '\0'));
}
