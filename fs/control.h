/*
 * control - the daemon's ear: a socket in the pool directory, one line of JSON in, one document out.
 *
 * POOL/control.sock, mode 0600. Besides the mode, the peer's credentials decide: root and the user
 * of the daemon are served, nobody else. A connection carries one request, a JSON object of at most
 * CONTROL_REQUEST_BYTES_MAX on one line, and one answer, a JSON object on one line, before it is
 * closed. Of its text either side holds no more than that, and jansson 128 bytes for each byte of it.
 * {"verb":"status"} is a request; {"error":...,"code":...,"hint":...} is how one fails.
 */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "common/err.h"

#include <jansson.h>
#include <sys/types.h>

#define CONTROL_SOCKET_NAME	  "control.sock"
#define CONTROL_REQUEST_BYTES_MAX (1u << 20)
#define CONTROL_ANSWER_BYTES_MAX  ((size_t)256 << 20)
/* Connections that are served at the same time; more of them wait. */
#define CONTROL_WORKERS 6u
/* For a peer to send its request, and to take each piece of the answer. */
#define CONTROL_PEER_TIMEOUT_MS 5000

struct control;

/*
 * Answer one request. fd is the connection: a handler that waits for long watches it (POLLRDHUP),
 * so as to end when the peer went away. Runs in a thread of the server, several at once.
 * Returns: the document, NULL: no memory. Owns: request is borrowed, the result is taken.
 */
typedef json_t *(*control_handler)(void *arg, const json_t *request, int fd);

/*
 * Listen. A socket that a dead daemon left is replaced: the caller holds the lock of the pool.
 *
 * Owns:     arg is borrowed until control_stop().
 * Errors:   what socket(2) and bind(2) say; -EAGAIN no threads.
 */
NODISCARD int control_start(const char *pool_dir, control_handler handler, void *arg,
			    struct control **ret_control, struct err *e);

/* Remove the socket, let requests that run end, free. May be NULL. */
void control_stop(struct control *c);

/* --- the other end (control_client.c) ---------------------------------------------------------- */

#define CONTROL_NO_TIMEOUT (-1)

/*
 * Ask the daemon of a pool.
 *
 * Units:    timeout_ms of silence; CONTROL_NO_TIMEOUT: as long as it takes.
 * Owns:     request is taken; *ret_answer is the caller's.
 * Errors:   -ECONNREFUSED no daemon runs; -EACCES not allowed; -ETIMEDOUT; -EPROTO not an answer.
 */
NODISCARD int control_ask(const char *pool_dir, json_t *request, int timeout_ms,
			  json_t **ret_answer, struct err *e);

/* The same in two steps, so that something else can happen in between. */
NODISCARD int control_send(const char *pool_dir, json_t *request, int *ret_fd, struct err *e);
/* Owns: fd is taken. */
NODISCARD int control_receive(int fd, int timeout_ms, json_t **ret_answer, struct err *e);

/*
 * Process that serves a pool: of its socket, else the one that locks POOL/lock.
 * Of a worker it is the holder of its mount, which passes signals on.
 * Errors:   -ESRCH none is known.
 */
NODISCARD int control_find_daemon(const char *pool_dir, pid_t *ret_pid);

/* What a worker's command line tells of its holder. */
#define CONTROL_HOLDER_OPTION "--worker"
/* The holder of a worker, 0: it is none. One that is not alive takes the worker with it. */
pid_t control_holder_of(pid_t daemon, bool *ret_alive);

/* Address of the socket of a pool however long its path is: through fd, its directory, which must
 * stay open meanwhile. For control.c and control_client.c. */
struct sockaddr_un;
NODISCARD int control_address(const char *pool_dir, struct sockaddr_un *ret_address, int *ret_fd,
			      struct err *e);

#endif
