/* Names: of objects on the backend, of SCO files, of anything that a store may list; of sizes,
 * times, dates, escaped text and pool.json, too. An input is text. */
#include "backend/backend.h"
#include "backend/http.h"
#include "common/config.h"
#include "common/err.h"
#include "common/units.h"
#include "tests/fuzz/fuzz.h"
#include "volume/format.h"

#include <stdlib.h>
#include <string.h>

/* Parsers allocate nothing, libcurl may for a date; this target copies, escapes, and a buf doubles. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 8 << 10, .per_input_byte = 14 };

void fuzz_seeds(void)
{
	static const char *const texts[] = {
		"16M",
		"512KiB",
		"18446744073709551615",
		"90s",
		"250ms",
		"1d",
		"Sun, 06 Nov 1994 08:49:37 GMT",
		"a%2Fb+c",
		"/fast/cache:10G",
		"pool.json",
	};
	const struct uuid pool = { { 0xa0, 1, 0xff } };
	char name[OBJECT_NAME_MAX + 1], text[POOL_TEXT_MAX + 1];

	fuzz_seed(0, text, pool_text_write(&pool, text));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		fuzz_seed(0, texts[i], strlen(texts[i]));
	object_name_sco(name, 16, 5, 1, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_map(name, 16, 5, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_map_piece(name, 16, 5, 3, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_manifest(name, 16, 5, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_namespace(name, 5, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_root(name, 5, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_epoch(name, 7);
	fuzz_seed(0, name, strlen(name));
	object_name_pack(name, 5, 7);
	fuzz_seed(0, name, strlen(name));
	sco_file_name(name, 16, 5, 1);
	fuzz_seed(0, name, strlen(name));
}

static void make_name(char name[OBJECT_NAME_MAX + 1], const struct object_name *n)
{
	switch (n->kind) {
	case NAME_SCO:
		object_name_sco(name, n->stream, n->number, n->version, n->epoch);
		break;
	case NAME_MAP:
		object_name_map(name, n->stream, n->number, n->epoch);
		break;
	case NAME_PIECE:
		object_name_map_piece(name, n->stream, n->number, n->version, n->epoch);
		break;
	case NAME_MANIFEST:
		object_name_manifest(name, n->stream, n->number, n->epoch);
		break;
	case NAME_NAMESPACE:
		object_name_namespace(name, n->number, n->epoch);
		break;
	case NAME_ROOT:
		object_name_root(name, n->number, n->epoch);
		break;
	case NAME_EPOCH:
		object_name_epoch(name, n->epoch);
		break;
	case NAME_PACK:
		object_name_pack(name, n->number, n->epoch);
		break;
	}
}

static void check_names(const char *text)
{
	char name[OBJECT_NAME_MAX + 1], file[SCO_FILE_NAME_MAX + 1];
	struct object_name parsed;
	uint32_t stream, version;
	uint64_t sco;

	if (object_name_parse(text, &parsed) == 0) {
		make_name(name, &parsed);
		FUZZ_EXPECT(strcmp(name, text) == 0);
		FUZZ_EXPECT(backend_check_name(text, NULL) == 0);
	}
	if (sco_file_name_parse(text, &stream, &sco, &version) == 0) {
		sco_file_name(file, stream, sco, version);
		FUZZ_EXPECT(strcmp(file, text) == 0);
	}
	/* No name leaves the directory that it is put into. */
	if (backend_check_name(text, NULL) == 0)
		FUZZ_EXPECT(text[0] != '/' && text[0] != '\0' && !strstr(text, "/../") &&
			    strncmp(text, "../", 3) != 0 && strcmp(text, "..") != 0);
}

/* What is behind the text is nobody's. */
static void check_pool(const char *text)
{
	char written[POOL_TEXT_MAX + 1];
	struct uuid pool;

	if (pool_text_parse(text, &pool) < 0)
		return;
	FUZZ_EXPECT(strncmp(text, written, pool_text_write(&pool, written) - 1) == 0);
}

static void check_numbers(const char *text)
{
	char written[UNITS_TEXT_BYTES], path[CONFIG_STRING_BYTES];
	uint64_t value, again;
	int64_t seconds;

	if (size_parse(text, &value) == 0)
		FUZZ_EXPECT(size_parse(size_format(value, written), &again) == 0 && again == value);
	if (time_parse(text, &value) == 0)
		FUZZ_EXPECT(time_parse(time_format(value, written), &again) == 0 && again == value);
	if (u64_parse(text, &value) == 0)
		FUZZ_EXPECT(size_parse(text, &again) == 0 && again == value);
	if (http_date_parse(text, &seconds) == 0)
		FUZZ_EXPECT(seconds >= 0);
	if (config_dir_parse(text, path, &value) == 0)
		FUZZ_EXPECT(path[0] != '\0' && strncmp(path, text, strlen(path)) == 0);
}

static void check_escapes(const char *text)
{
	char *copy = strdup(text);
	struct buf out;

	FUZZ_EXPECT(copy);
	buf_init(&out, 3 * strlen(text) + 1);
	FUZZ_EXPECT(http_escape(&out, text, false) == 0);
	FUZZ_EXPECT(buf_append(&out, "", 1) == 0);
	FUZZ_EXPECT(http_unescape((char *)out.data, false) == 0);
	FUZZ_EXPECT(strcmp((char *)out.data, text) == 0);
	if (http_unescape(copy, true) == 0)
		FUZZ_EXPECT(strlen(copy) <= strlen(text));
	buf_done(&out);
	free(copy);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	char *text;

	(void)fuzz_word(&in, &len_bytes);
	text = (char *)fuzz_copy(in, len_bytes, len_bytes + 1);
	text[len_bytes] = '\0';
	check_names(text);
	check_pool(text);
	check_numbers(text);
	check_escapes(text);
	free(text);
}
