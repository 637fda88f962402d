/* Text of others that fs/ reads: lines of the table of mounts, names of snapshots, names in
 * requests. An input is text. */
#include "fs/json_out.h"
#include "fs/retention.h"
#include "fs/target.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* Fields of a line are copied; of a name there are JSON, its text with U+FFFD, and its hex, in
 * buffers that double. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 16 << 10, .per_input_byte = 64 };

void fuzz_seeds(void)
{
	static const char *const texts[] = {
		"36 35 98:0 / /mnt rw,noatime shared:1 - fuse.vpool /pool rw,user_id=0\n",
		"1 2 0:3 / /a\\040b\\134\\012 rw - fuse.vpool /p\\011 rw",
		"36 35 98:0 / /mnt rw shared:1 master:2 propagate_from:3 - ext4 /dev/sda rw",
		"2026-11-22T051033Z",
		"2026-11-22T051033Z-12",
		"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		"\xff\xfe not UTF-8 \xed\xa0\x80",
		"66ff6f",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		fuzz_seed(0, texts[i], strlen(texts[i]));
}

static void check_mount(const char *text)
{
	struct mount_entry m = { .type = NULL };

	if (!mount_entry_parse(text, &m)) {
		FUZZ_EXPECT(!m.type);
		return;
	}
	FUZZ_EXPECT(m.mountpoint && m.type && m.source && m.super_options);
	FUZZ_EXPECT(strlen(m.mountpoint) + strlen(m.type) + strlen(m.source) < strlen(text));
	mount_entry_done(&m);
}

/* A moment is the one name of its second, and of attempts behind the first. */
static void check_moment(const char *text)
{
	char name[RETENTION_NAME_BYTES];
	int64_t seconds = 0, again = 0;

	if (!retention_moment(text, &seconds))
		return;
	retention_name(seconds, 0, name);
	FUZZ_EXPECT(strncmp(text, name, strlen(name)) == 0);
	FUZZ_EXPECT(retention_moment(name, &again) && again == seconds);
	retention_name(seconds, 7, name);
	FUZZ_EXPECT(retention_moment(name, &again) && again == seconds);
}

/* Any name comes back from a document that shows it. */
static void check_name(const char *text, size_t text_bytes)
{
	json_t *document = json_object();
	char *back = malloc(text_bytes + 1);

	FUZZ_EXPECT(document && back);
	FUZZ_EXPECT(json_out_name(document, "name", text, text_bytes) == 0);
	FUZZ_EXPECT(json_out_name_back(document, "name", back, text_bytes + 1) == 0);
	FUZZ_EXPECT(strcmp(back, text) == 0);
	if (text_bytes > 0)
		FUZZ_EXPECT(json_out_name_back(document, "name", back, text_bytes) ==
			    -ENAMETOOLONG);
	free(back);
	json_decref(document);
}

/* And what somebody sends as the bytes of one is no more than they say. */
static void check_hex(const char *text)
{
	json_t *document = json_object(), *hex = json_string(text);
	char back[256];

	FUZZ_EXPECT(document);
	FUZZ_EXPECT(json_object_set_new(document, "name", json_string("x")) == 0);
	if (hex) { /* else it is not UTF-8 */
		FUZZ_EXPECT(json_object_set_new(document, "name_hex", hex) == 0);
		if (json_out_name_back(document, "name", back, sizeof(back)) == 0)
			FUZZ_EXPECT(2 * strlen(back) == strlen(text));
	}
	json_decref(document);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	char *text;

	(void)fuzz_word(&in, &len_bytes);
	text = (char *)fuzz_copy(in, len_bytes, len_bytes + 1);
	text[len_bytes] = '\0';
	check_mount(text);
	check_moment(text);
	check_name(text, strlen(text));
	check_hex(text);
	free(text);
}
