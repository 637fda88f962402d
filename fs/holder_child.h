/* holder_child - what becomes of a child of the holder until it is a worker. Private to the holder. */
#ifndef FS_HOLDER_CHILD_H
#define FS_HOLDER_CHILD_H

#include <signal.h>
#include <sys/types.h>

struct holder_child {
	char *const *argv;
	pid_t holder;
	int table_fd;
	sigset_t mask;	 /* of signals, as whoever started the holder had it */
	char killer[16]; /* the score of the system's killer, likewise */
};

/* The system's killer spares this process from now on; c->killer tells what it was. Where that is not
 * permitted it stays as it is. */
void holder_avoid_killer(struct holder_child *c);

/* In the child, which makes no other call: descriptors where a worker expects them (holder.h), then its
 * program. report_fd: -1 for none. Exits with 127 if that is not possible. */
_Noreturn void holder_be_worker(const struct holder_child *c, int socket, int program_fd,
				int report_fd);

#endif
