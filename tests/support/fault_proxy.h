/*
 * fault_proxy - stands between a client and an HTTP server on the loopback interface, forwards
 * requests and answers, spoils some of them as its plan says, and counts. For tests; tool_faultproxy is
 * the program around it.
 *
 * HTTP/1.1 without TLS; bodies with Content-Length, chunked or to the end of the connection.
 * One thread a connection. What is drawn comes from a seed, one number for each request, but which
 * request draws which number depends on how connections take turns.
 */
#ifndef TESTS_SUPPORT_FAULT_PROXY_H
#define TESTS_SUPPORT_FAULT_PROXY_H

#include "common/base.h"

#define FAULT_PROXY_CONNECTIONS_MAX 256u
#define FAULT_PROXY_TEXT_BYTES	    1024u

/* Shares are parts of a million of the requests; of several that are drawn the first one happens. */
struct fault_proxy_plan {
	uint32_t reset; /* RST instead of forwarding */
	uint32_t error; /* answer 503 instead of forwarding */
	uint32_t busy;	/* answer 429 with Retry-After, instead of forwarding */
	uint32_t lose;	/* forward, take the whole answer, then RST: an answer that was lost */
	uint32_t cut;	/* forward, end in the middle of the answer's body */
	uint32_t flip;	/* forward, one bit of the answer's body is wrong */
	uint32_t whole; /* forward a GET without its Range header: 200 for 206 */
	uint32_t retry_after_s;
	uint32_t delay_ms_max; /* each request waits a random time up to this */
	uint32_t down;	       /* not 0: every connection is reset */
};

struct fault_proxy_counts {
	uint64_t requests, gets, puts; /* that came, whatever became of them */
	uint64_t sent_bytes;	       /* of bodies, to the server */
	uint64_t received_bytes;       /* of bodies, passed on to clients */
	uint64_t spoilt;	       /* requests that met a fault, delays not counted */
};

struct fault_proxy;

/*
 * Listen on listen_port (0: a free one) and forward to server_port, both of 127.0.0.1.
 * Owns:     *ret_proxy, ended by fault_proxy_stop(), which ends its connections.
 * Errors:   what the sockets say; -ENOMEM.
 */
NODISCARD int fault_proxy_start(uint16_t listen_port, uint16_t server_port, uint64_t seed,
				struct fault_proxy **ret_proxy);
void fault_proxy_stop(struct fault_proxy *p);

uint16_t fault_proxy_port(const struct fault_proxy *p);

/* Any thread, any time: holds for requests that come from then on. */
void fault_proxy_set(struct fault_proxy *p, const struct fault_proxy_plan *plan);
void fault_proxy_read_counts(struct fault_proxy *p, struct fault_proxy_counts *ret_counts);

/*
 * The same by words: "set KEY=NUMBER ..." changes keys of the plan (names as above), "clear" all of
 * them, "counts" tells the counts, "forget" sets them to 0, "plan" tells the plan.
 * Returns 0, or -EINVAL and what is wrong in ret_text; then nothing is changed.
 */
NODISCARD int fault_proxy_command(struct fault_proxy *p, const char *line,
				  char ret_text[FAULT_PROXY_TEXT_BYTES]);

#endif
