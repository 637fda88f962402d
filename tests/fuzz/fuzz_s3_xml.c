/* Answers of an `s3:` store in XML: elements with their paths, and what an error says. */
#include "backend/backend_s3.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* The reader's own path and text (10 KiB), libexpat's tables, and the text in one piece. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 64 << 10, .per_input_byte = 64 };

#define DEPTH_MAX 8u

void fuzz_seeds(void)
{
	static const char *const texts[] = {
		"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Region>eu-1</Region></Error>",
		"<a xmlns=\"x\"><b>1&amp;2&#65;</b><!-- c --><c/><![CDATA[d]]></a>",
		"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
		"<a><b><c><d><e><f><g><h><i/></h></g></f></e></d></c></b></a>",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		fuzz_seed(0, texts[i], strlen(texts[i]));
}

static int check_element(void *arg, const char *path, const char *text)
{
	unsigned int depth = 1;

	for (const char *p = path; *p != '\0'; p++)
		depth += *p == '/';
	FUZZ_EXPECT(depth <= DEPTH_MAX && path[0] != '\0' && text);
	++*(unsigned int *)arg;
	return 0;
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	struct s3_error error;
	unsigned int elements = 0;
	struct buf text;
	int r;

	(void)fuzz_word(&in, &len_bytes);
	buf_init(&text, len_bytes);
	FUZZ_EXPECT(buf_append(&text, in, len_bytes) == 0);
	r = s3_xml_parse(&text, check_element, &elements);
	FUZZ_EXPECT(r == -EBADMSG || (r == 0 && elements > 0));
	s3_xml_error(&text, &error);
	FUZZ_EXPECT(strlen(error.code) < S3_CODE_BYTES && strlen(error.region) < S3_CODE_BYTES);
	buf_done(&text);
}
