#include "tests/fuzz/store_calls.h"

#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG_BYTES (600u << 10) /* more than one part, where the target made those small */

struct listing {
	char last[BACKEND_NAME_BYTES_MAX + 1];
	unsigned int count;
};

static int take_name(void *arg, const char *name, const struct backend_object *object)
{
	struct listing *l = arg;

	(void)object;
	FUZZ_EXPECT(backend_check_name(name, NULL) == 0);
	FUZZ_EXPECT(strncmp(name, "a/", 2) == 0 && strcmp(name, "a/b") > 0);
	FUZZ_EXPECT(l->count == 0 || strcmp(name, l->last) > 0);
	(void)snprintf(l->last, sizeof(l->last), "%s", name);
	l->count++;
	return 0;
}

static int call_list(struct store *s, struct err *e)
{
	struct listing l = { .count = 0 };
	int r = s->ops->list(s, "a/", "a/b", 5, take_name, &l, e);

	FUZZ_EXPECT(r < 0 || (r == (int)l.count && r <= 5));
	return r < 0 ? r : 0;
}

static int call_put(struct store *s, size_t len_bytes, unsigned int flags, struct err *e)
{
	static const uint8_t bytes[BIG_BYTES];
	const struct backend_source source = { .data = bytes, .len_bytes = len_bytes };
	struct backend_put_result result = { .shares_file = false };
	int r = s->ops->put(s, "a/name", &source, flags, &result, e);

	FUZZ_EXPECT(!result.shares_file);
	return r;
}

static int call_delete_many(struct store *s, struct err *e)
{
	static const char *const names[] = { "a/1", "a/2", "a/3" };
	bool gone[ARRAY_SIZE(names)] = { false, true, false };
	int r = s->ops->del_many(s, names, ARRAY_SIZE(names), gone, e);

	FUZZ_EXPECT(gone[1]);
	FUZZ_EXPECT(r < 0 || (gone[0] && gone[2]));
	return r;
}

void store_call(struct store *s, enum store_call call)
{
	struct backend_object object = { .len_bytes = 0 };
	struct err e = { 0 };
	uint8_t bytes[16];
	int r = 0;

	switch (call) {
	case STORE_LIST:
		r = call_list(s, &e);
		break;
	case STORE_GET:
		r = s->ops->get(s, "a/name", 16, bytes, sizeof(bytes), &e);
		break;
	case STORE_HEAD:
		r = s->ops->head(s, "a/name", &object, &e);
		FUZZ_EXPECT(r < 0 || object.len_bytes <= INT64_MAX);
		break;
	case STORE_PUT:
		r = call_put(s, 100, 0, &e);
		break;
	case STORE_PUT_IF_ABSENT:
		r = call_put(s, 100, BACKEND_PUT_IF_ABSENT, &e);
		break;
	case STORE_PUT_BIG:
		r = call_put(s, BIG_BYTES, 0, &e);
		break;
	case STORE_DELETE:
		r = s->ops->del(s, "a/name", &e);
		break;
	case STORE_DELETE_MANY:
		r = call_delete_many(s, &e);
		break;
	case STORE_CALLS:
		break;
	}
	FUZZ_EXPECT(r <= 0);
	FUZZ_EXPECT(r == 0 || e.message[0] != '\0');
}

void store_seed(uint8_t word, const char *format, ...)
{
	char *text;
	va_list ap;
	int len;

	va_start(ap, format);
	len = vasprintf(&text, format, ap);
	va_end(ap);
	FUZZ_EXPECT(len > 0);
	fuzz_seed(word, text, (size_t)len);
	free(text);
}
