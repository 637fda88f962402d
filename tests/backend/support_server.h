/*
 * server - an HTTP server of a test, on a free port of the loopback interface: a thread that answers
 * each request with the next bytes of a script, whatever they are, and keeps what it was asked.
 */
#ifndef TESTS_BACKEND_SUPPORT_SERVER_H
#define TESTS_BACKEND_SUPPORT_SERVER_H

#include "common/base.h"

#define SERVER_REQUESTS_MAX 256u

enum server_end {
	SERVER_KEEP,  /* the connection stays open */
	SERVER_CLOSE, /* an orderly end */
	SERVER_RESET, /* RST */
	SERVER_HOLD,  /* nothing more is sent, nothing closed */
	SERVER_EARLY, /* answered at the end of the headers, then closed: the body is not read */
};

struct server;

/* Both fail the test where they can't do it. stop also forgets what was asked. */
struct server *server_start(void);
void server_stop(struct server *s);

/* What was asked so far, while nothing is: it keeps SERVER_REQUESTS_MAX. */
void server_forget(struct server *s);

/* "http://127.0.0.1:PORT" */
const char *server_url(const struct server *s);

/* The next one in the script; text is copied. More requests than replies end in SERVER_RESET. */
void server_reply(struct server *s, enum server_end end, const char *text);
void server_reply_bytes(struct server *s, enum server_end end, const void *data, size_t len_bytes);
/* The same with a status line, Content-Length and other headers ("A: b\r\n", or ""). */
void server_answer(struct server *s, const char *status, const char *headers, const char *body);

/* Who shall answer when the script is at its end, with a text from malloc(); NULL: nobody. */
typedef char *server_handler(void *arg, const char *head, const char *body, size_t body_bytes);
void server_handle(struct server *s, server_handler *handler, void *arg);

/* What was asked: request line and headers as one text, then the body. Valid until stop. */
unsigned int server_request_count(struct server *s);
const char *server_head(struct server *s, unsigned int i);
const char *server_body(struct server *s, unsigned int i, size_t *ret_len_bytes);
/* Value of a header of request i, "" where it has none; static storage. */
const char *server_header(struct server *s, unsigned int i, const char *name);

/* How many connections were made so far. */
unsigned int server_connection_count(struct server *s);

#endif
