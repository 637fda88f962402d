/* vpool.conf: what is taken is printed, and read back to the same; single values likewise. */
#include "common/config.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* struct config is 20 KiB, some of them are on their way at a time; and the file as it is printed. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 512 << 10, .per_input_byte = 16 };

void fuzz_seeds(void)
{
	struct config *config = calloc(1, sizeof(*config));
	size_t count, text_bytes;
	const struct option_def *defs = config_options(&count);
	char *text = NULL;
	FILE *out = open_memstream(&text, &text_bytes);
	struct err e;

	FUZZ_EXPECT(config && out);
	config_defaults(config);
	FUZZ_EXPECT(config_set(config, "cache", "dir", "/fast/a:10G", &e) == 0);
	FUZZ_EXPECT(config_print(out, config) == 0);
	FUZZ_EXPECT(fclose(out) == 0);
	fuzz_seed(0, text, text_bytes);
	free(text);
	for (size_t i = 0; i < count; i++) {
		char line[CONFIG_STRING_BYTES + 128];
		int len = snprintf(line, sizeof(line), "[%s]\n%s = %s\n", defs[i].section,
				   defs[i].key, defs[i].default_text);

		fuzz_seed(0, line, (size_t)len);
	}
	free(config);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	struct config *config = calloc(1, sizeof(*config)), *again = calloc(1, sizeof(*again));
	struct err e = { 0 };
	size_t count, text_bytes = 0;
	const struct option_def *defs = config_options(&count);
	char *text = NULL;
	FILE *out;
	int r;

	(void)fuzz_word(&in, &len_bytes);
	FUZZ_EXPECT(config && again);
	r = config_load_text("fuzz", (const char *)in, len_bytes, config, &e);
	if (r == 0) {
		out = open_memstream(&text, &text_bytes);
		FUZZ_EXPECT(out && config_print(out, config) == 0 && fclose(out) == 0);
		r = config_load_text("again", text, text_bytes, again, &e);
		if (r < 0)
			(void)fprintf(stderr, "%s\n", e.message);
		FUZZ_EXPECT(r == 0);
		for (size_t i = 0; i < count; i++)
			FUZZ_EXPECT(config_is_same(config, again, &defs[i]));
		free(text);
	} else {
		FUZZ_EXPECT(r == -EINVAL || r == -ERANGE || r == -EFBIG);
		FUZZ_EXPECT(e.code == r && e.message[0] != '\0');
	}
	free(again);
	free(config);
}
