/*
 * `vpool umount`: unmount, then wait for the daemon, which brings what is dirty to the backend and
 * tells how that went.
 */
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/json_out.h"
#include "fs/target.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAVE_TIMEOUT_MS 10000
/* After its last words a daemon has only memory to free. */
#define EXIT_TIMEOUT_MS 30000

extern char **environ;

struct leaving {
	const struct cli *c;
	struct target target;
	pid_t pid;  /* of the daemon; 0: none */
	int pid_fd; /* -1: none */
	int end_fd; /* connection that gets its last words; -1: none */
};

static int fail_at(const struct leaving *l, enum cli_exit exit, const char *hint, const char *why)
{
	return cli_fail(l->c, exit, hint, "unmounting '%s': %s", l->target.mountpoint, why);
}

/* Users who are not root unmount through the helper that mounted for them. */
static int unmount_by_helper(const char *mountpoint)
{
	char program[] = "fusermount3", flag[] = "-u", dashes[] = "--";
	char *path = strdup(mountpoint);
	char *argv[] = { program, flag, dashes, path, NULL };
	posix_spawn_file_actions_t actions;
	int status = 0, r;
	pid_t pid;

	if (!path)
		return -ENOMEM;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
	r = -posix_spawnp(&pid, program, &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	free(path);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	/* It tells its reasons to people only; that the mount is in use is by far the first. */
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount(const char *mountpoint, bool is_dead)
{
	if (geteuid() != 0)
		return unmount_by_helper(mountpoint);
	return umount2(mountpoint, (is_dead ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

/* --- the daemon -------------------------------------------------------------------------------- */

static int ask_leave(struct leaving *l, bool cancel, struct err *e)
{
	json_t *request = json_pack("{s:s, s:b, s:b}", "verb", "leave", "upload", !l->c->no_upload,
				    "cancel", cancel);
	json_t *answer = NULL;
	int r;

	if (request && json_out_name(request, "mountpoint", l->target.mountpoint,
				     strlen(l->target.mountpoint)) < 0) {
		json_decref(request);
		request = NULL;
	}
	r = control_ask(l->target.pool_dir, request, LEAVE_TIMEOUT_MS, &answer, e);
	if (r == 0 && json_object_get(answer, "error"))
		r = err_set(e, -EIO, "%s", cli_json_string(answer, "error"));
	if (r == 0)
		l->pid = (pid_t)cli_json_u64(answer, "pid");
	json_decref(answer);
	return r;
}

/* Its descriptor outlives the process and the reuse of its number. */
static void watch_daemon(struct leaving *l)
{
	if (l->pid > 0)
		l->pid_fd = (int)syscall(SYS_pidfd_open, l->pid, 0);
}

static void tell_progress(const struct leaving *l)
{
	char left[CLI_SIZE_BYTES];
	json_t *answer = NULL;

	if (l->c->json || !isatty(STDERR_FILENO))
		return;
	if (control_ask(l->target.pool_dir, json_pack("{s:s}", "verb", "status"), 1000, &answer,
			NULL) < 0)
		return;
	if (cli_json_u64(answer, "dirty_bytes"))
		(void)fprintf(stderr, "\r%s left to upload   ",
			      cli_size(cli_json_u64(answer, "dirty_bytes"), left));
	json_decref(answer);
}

/* As long as it takes: a backend that does not answer ends it from the other side. */
static int wait_last_words(struct leaving *l, json_t **ret_words, struct err *e)
{
	struct pollfd pfd = { .fd = l->end_fd, .events = POLLIN };
	bool told = false;
	int n;

	while ((n = poll(&pfd, 1, 1000)) <= 0) {
		if (n < 0 && errno != EINTR)
			break;
		tell_progress(l);
		told = true;
	}
	if (told && !l->c->json && isatty(STDERR_FILENO))
		(void)fprintf(stderr, "\r%30s\r", "");
	n = l->end_fd;
	l->end_fd = -1;
	return control_receive(n, CONTROL_NO_TIMEOUT, ret_words, e);
}

static void wait_exit(const struct leaving *l)
{
	struct pollfd pfd = { .fd = l->pid_fd, .events = POLLIN };

	if (l->pid_fd >= 0)
		(void)poll(&pfd, 1, EXIT_TIMEOUT_MS); /* it told all that matters */
}

/* --- how it went ------------------------------------------------------------------------------- */

static int tell_done(const struct leaving *l, json_t *words)
{
	const char *reason = cli_json_string(words, "reason");
	uint64_t dirty_bytes = cli_json_u64(words, "dirty_bytes");
	char size[CLI_SIZE_BYTES];
	int r = CLI_DONE;

	if (reason[0])
		r = CLI_PARTLY;
	if (l->c->json) {
		if (json_object_set_new(words, "unmounted", json_true()) < 0)
			return cli_fail(l->c, CLI_FAILED, NULL, "unmounted: %s", err_name(-ENOMEM));
		return cli_print_json(l->c, json_incref(words)) == CLI_DONE ? r : CLI_FAILED;
	}
	if (reason[0])
		(void)fprintf(
			stderr,
			"vpool: unmounted, but %s are not on the backend yet: %s (they are safe "
			"in the pool and go there after the next mount)\n",
			cli_size(dirty_bytes, size), reason);
	return r;
}

static int finish(struct leaving *l)
{
	struct err e = { 0 };
	json_t *words = NULL;
	int r;

	r = wait_last_words(l, &words, &e);
	wait_exit(l);
	if (r < 0)
		return fail_at(l, CLI_PARTLY, "the next mount recovers what it left",
			       "done, but the daemon ended without telling how");
	if (json_object_get(words, "error"))
		r = cli_fail_document(l->c, "unmounted, but closing the pool", words);
	else
		r = tell_done(l, words);
	json_decref(words);
	return r;
}

/* --- the verb ---------------------------------------------------------------------------------- */

static int unmount_dead(struct leaving *l)
{
	int r = unmount(l->target.mountpoint, true);

	if (r < 0)
		return fail_at(l, cli_exit_of(r), NULL, err_name(r));
	if (l->c->json)
		return cli_print_json(l->c,
				      json_pack("{s:b, s:b, s:I, s:s}", "unmounted", true,
						"uploaded", false, "dirty_bytes", (json_int_t)0,
						"reason", "the daemon had died"));
	(void)fprintf(stderr,
		      "vpool: unmounted; the daemon had died, the next mount recovers what it "
		      "acknowledged\n");
	return CLI_DONE;
}

/* Somebody uses it; perhaps he can't help it. */
static int tell_busy(const struct leaving *l)
{
	const char *hint = "files in it are open, or somebody stands in it: 'fuser -vm' tells who";
	json_t *status = NULL;
	char blocked[512];

	if (control_ask(l->target.pool_dir, json_pack("{s:s}", "verb", "status"), LEAVE_TIMEOUT_MS,
			&status, NULL) < 0)
		return fail_at(l, CLI_BUSY, hint, err_name(-EBUSY));
	if (strcmp(cli_json_string(status, "state"), "blocked") == 0) {
		(void)snprintf(blocked, sizeof(blocked),
			       "writes in it wait (%s): make room, or end who writes, 'fuser -vm' "
			       "tells who; 'kill %d' ends the mount, and those writes fail",
			       cli_json_string(status, "reason"), (int)l->pid);
		hint = blocked;
	}
	json_decref(status);
	return fail_at(l, CLI_BUSY, hint, err_name(-EBUSY));
}

static int unmount_live(struct leaving *l)
{
	struct err e = { 0 };
	int r;

	r = ask_leave(l, false, &e);
	if (r < 0)
		return fail_at(l, r == -ETIMEDOUT ? CLI_BUSY : CLI_FAILED,
			       r == -EACCES ? "only root and the user of the daemon may" : NULL,
			       e.message);
	watch_daemon(l);
	r = control_send(l->target.pool_dir, json_pack("{s:s}", "verb", "end"), &l->end_fd, &e);
	if (r < 0)
		return fail_at(l, CLI_FAILED, NULL, e.message);
	r = unmount(l->target.mountpoint, false);
	if (r < 0) {
		(void)ask_leave(l, true, &e); /* at worst a later end uploads, too */
		return r == -EBUSY ? tell_busy(l) : fail_at(l, cli_exit_of(r), NULL, err_name(r));
	}
	return finish(l);
}

static int run_umount(struct cli *c)
{
	struct leaving l = { .c = c, .pid_fd = -1, .end_fd = -1 };
	struct err e = { 0 };
	int r;

	r = target_find(c->args[0], &l.target, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, NULL, "unmounting");
	if (l.target.kind == TARGET_FILE)
		r = cli_fail(c, CLI_NOT_FOUND, "name the mount point",
			     "unmounting: '%s' is not a mount point, but lies in '%s'", c->args[0],
			     l.target.mountpoint);
	else if (!l.target.mountpoint)
		r = cli_fail(c, CLI_NOT_FOUND, NULL, "unmounting: pool '%s' is not mounted",
			     l.target.pool_dir);
	else if (mount_is_dead(l.target.mountpoint))
		r = unmount_dead(&l);
	else
		r = unmount_live(&l);
	if (l.end_fd >= 0)
		(void)close(l.end_fd);
	if (l.pid_fd >= 0)
		(void)close(l.pid_fd);
	target_done(&l.target);
	return r;
}

static const struct argp_option options[] = {
	{ "no-upload", CLI_KEY_NO_UPLOAD, NULL, 0,
	  "Leave what is not on the backend yet for the next mount", 0 },
	{ 0 },
};

const struct cli_verb cli_verb_umount = {
	.name = "umount",
	.args = "MOUNTPOINT",
	.summary = "unmount, upload what is dirty, end the daemon",
	.doc = "Everything is made durable on this machine in any case. A backend that does not answer "
	       "does not hold it up: then the exit code is 3, and what stays dirty is told and "
	       "uploaded after the next mount.",
	.args_min = 1,
	.args_max = 1,
	.options = options,
	.run = run_umount,
};
