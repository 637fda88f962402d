/* Only calls that are safe behind fork(2) in holder_be_worker(). */
#include "fs/holder_child.h"

#include "fs/holder.h"

#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* A worker does what the user wants. */
#define KILLER_PATH  "/proc/self/oom_score_adj"
#define KILLER_SPARE "-1000"

static void killer_set(const char *text)
{
	int fd = open(KILLER_PATH, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	(void)close(fd);
}

void holder_avoid_killer(struct holder_child *c)
{
	int fd = open(KILLER_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, c->killer, sizeof(c->killer) - 1);

	c->killer[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		(void)close(fd);
	killer_set(KILLER_SPARE);
}

void holder_be_worker(const struct holder_child *c, int socket, int program_fd, int report_fd)
{
	int from[4] = { socket, c->table_fd, report_fd, program_fd };

	/* It hears of the holder's death, and the holder may be dead by now. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != c->holder)
		_exit(127);
	killer_set(c->killer);
	(void)setsid(); /* what the terminal sends to all goes to the holder, which passes it on */
	/* Out of the way of the numbers that they shall have. */
	for (int i = 0; i < 4; i++)
		from[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, HOLDER_FD_REPORT + 1);
	(void)close(HOLDER_FD_REPORT);
	if (dup2(from[0], HOLDER_FD_SOCKET) < 0 || dup2(from[1], HOLDER_FD_TABLE) < 0 ||
	    (from[2] >= 0 && dup2(from[2], HOLDER_FD_REPORT) < 0))
		_exit(127);
	(void)sigprocmask(SIG_SETMASK, &c->mask, NULL);
	(void)fexecve(from[3], c->argv, environ);
	_exit(127);
}
