/*
 * swift - a swift: store over a scripted server, and the answers that it asks for. All requests
 * of one store, those for tokens included, go to the one server.
 */
#ifndef TESTS_BACKEND_SUPPORT_SWIFT_H
#define TESTS_BACKEND_SUPPORT_SWIFT_H

#include "backend/backend_impl.h"
#include "tests/backend/support_server.h"

#define SWIFT_KEY "s3cr3t-key"

struct swift_fx {
	struct server *server;
	struct store *store; /* swift:, container "con", prefix "pre/" */
	struct err e;
};
extern struct swift_fx sw;

/* Fixtures of a test: the server and the environment; the store is opened by swift_fx_open(). */
void swift_fx_setup(void);
void swift_fx_teardown(void);

/* A store for tempauth, or for Keystone where the path ends in /v3; more: "&region=R", or "". */
void swift_fx_open(const char *auth_path, const char *more);

/* The next answer: this token, and the server itself as the store. */
void swift_fx_token(const char *token);

/* One operation. */
int swift_fx_put(const char *name, const char *text, unsigned int flags);
int swift_fx_get(const char *name, uint64_t offset_bytes, void *dst, size_t len_bytes);
int swift_fx_head(const char *name, struct backend_object *ret_object);
int swift_fx_del(const char *name);

/* Names that were listed, joined by blanks. */
struct swift_fx_names {
	char text[1024];
};
int swift_fx_list(const char *prefix, const char *after, unsigned int count_max,
		  struct swift_fx_names *ret_names);

/* Request i began with this line, but for " HTTP/1.1". */
void swift_fx_must_ask(unsigned int i, const char *line);
/* The last message has this word and no secret; neither has any it was wrapped in. */
void swift_fx_must_say(const char *word);

#endif
