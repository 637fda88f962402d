/*
 * `vpool mount`, also as the helper of mount(8). The process that owns the mount (holder.h) is, in the
 * background, a child; it starts this command again as the worker, which is the daemon. That one tells
 * the first process through a pipe, in one document, that the mount answers or why it does not; which
 * returns only then.
 */
#include "common/buf.h"
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/daemon.h"
#include "fs/fuse_session.h"
#include "fs/holder.h"
#include "fs/json_out.h"
#include "fs/notify.h"
#include "fs/pool_setup.h"
#include "fs/target.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXTRA_BYTES_MAX	 4096u
#define REPORT_BYTES_MAX 65536u
/* For a daemon that is about to end: its log is on flash by then, it only tidies up. */
#define END_TIMEOUT_MS 10000

/* A mount that is wanted, and the way to report how it went. */
struct mount_job {
	const struct cli *c;
	struct pool_setup *setup;
	char *mountpoint;
	struct buf extra;
	struct daemon_options options;
	struct resume *resume; /* of a worker */
	struct volume_witness **witnesses;
	int report_fd; /* of the child; -1: in the foreground, or reported */
};

/* --- options ----------------------------------------------------------------------------------- */

static bool is_one_of(const char *word, size_t len, const char *const *words)
{
	for (; *words; words++)
		if (strlen(*words) == len && memcmp(*words, word, len) == 0)
			return true;
	return false;
}

/* Words of fstab that are for mount(8) and systemd, not for us. */
static bool is_for_others(const char *word, size_t len)
{
	static const char *const words[] = { "rw",
					     "auto",
					     "noauto",
					     "user",
					     "nouser",
					     "users",
					     "nousers",
					     "defaults",
					     "owner",
					     "group",
					     "_netdev",
					     "nofail",
					     "default_permissions",
					     NULL };
	static const char *const starts[] = { "x-", "comment=", "fsname=", "subtype=" };

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (len >= strlen(starts[i]) && memcmp(word, starts[i], strlen(starts[i])) == 0)
			return true;
	return is_one_of(word, len, words);
}

static int add_extra(struct mount_job *j, const char *word, size_t len)
{
	return buf_printf(&j->extra, "%s%.*s", j->extra.len_bytes ? "," : "", (int)len, word);
}

static int take_mount_option(struct mount_job *j, const char *word, size_t len, struct err *e)
{
	static const char *const ro[] = { "ro", NULL };
	static const char *const allow_other[] = { "allow_other", NULL };
	static const char *const debug[] = { "debug", NULL };
	static const char *const sync_names[] = { "sync", "dirsync", NULL };
	static const char *const kernel[] = { "dev",	  "nodev",	"suid",	    "nosuid",
					      "exec",	  "noexec",	"atime",    "noatime",
					      "diratime", "nodiratime", "relatime", "norelatime",
					      "sync",	  "async",	"dirsync",  "auto_unmount",
					      NULL };

	if (len == 0 || is_for_others(word, len))
		return 0;
	/* Of directories the kernel only shows it. With sync each write asks for it by itself. */
	if (is_one_of(word, len, sync_names))
		j->options.sync_names = true;
	if (is_one_of(word, len, ro))
		j->options.read_only = true;
	else if (is_one_of(word, len, allow_other))
		j->options.allow_other = true;
	else if (is_one_of(word, len, debug))
		j->options.debug = true;
	else if (is_one_of(word, len, kernel))
		return add_extra(j, word, len);
	else
		return err_set(e, -EINVAL, "-o %.*s: unknown mount option", (int)min_u64(len, 80),
			       word);
	return 0;
}

static int take_mount_options(struct mount_job *j, const char *words, struct err *e)
{
	int r = 0;

	while (words && *words && r == 0) {
		size_t len = strcspn(words, ",");

		r = take_mount_option(j, words, len, e);
		words += len + (words[len] == ',');
	}
	j->options.extra = j->extra.len_bytes ? (const char *)j->extra.data : NULL;
	return r;
}

/* --- the mount point --------------------------------------------------------------------------- */

/* What the daemon itself works with must not disappear under its own mount. */
static int check_not_covered(const struct mount_job *j, const char *what, const char *path,
			     struct err *e)
{
	char *resolved = realpath(path, NULL);
	bool covered = resolved && path_is_inside(resolved, j->mountpoint);

	free(resolved);
	if (!covered)
		return 0;
	return err_set(e, -EINVAL, "the %s '%s' lies in it, and would be out of reach", what, path);
}

static int check_covers_nothing(const struct mount_job *j, struct err *e)
{
	const struct pool_options *o = &j->setup->options;
	int r;

	r = check_not_covered(j, "pool", j->setup->dir, e);
	for (unsigned int i = 0; i < o->cache_count && r == 0; i++)
		r = check_not_covered(j, "cache directory", o->cache[i].path, e);
	if (r == 0 && strncmp(o->backend_url, "file://", 7) == 0)
		r = check_not_covered(j, "backend", o->backend_url + 7, e);
	return r;
}

static int check_mountpoint(struct mount_job *j, struct err *e)
{
	struct mount_entry m;
	struct stat st;
	int r;

	if (mount_is_dead(j->mountpoint)) /* the session clears it */
		return 0;
	if (stat(j->mountpoint, &st) < 0)
		return err_set(e, -errno, "%s", err_name(-errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "it is not a directory");
	r = mount_find_at(j->mountpoint, &m);
	if (r < 0 && r != -ENOENT)
		return err_because(e, r, "mounts");
	if (r == 0) {
		r = strcmp(m.type, TARGET_FS_TYPE) == 0 ?
			    err_set(e, -EBUSY, "pool '%s' is mounted there already", m.source) :
			    err_set(e, -EBUSY, "a filesystem of type %s is mounted there already",
				    m.type);
		mount_entry_done(&m);
		return r;
	}
	return check_covers_nothing(j, e);
}

/* --- parent and child -------------------------------------------------------------------------- */

/* One document into the pipe; then the terminal is let go. */
static void report(struct mount_job *j, json_t *document)
{
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	int null_fd;

	json_decref(document);
	if (j->report_fd < 0) { /* a worker that is not the first */
		free(text);
		return;
	}
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* A parent that was interrupted does not read it; one that has half of it does not wait for
	 * the rest. Less than a pipe holds never waits. */
	if (text)
		(void)!write(j->report_fd, text, len);
	free(text);
	(void)close(j->report_fd);
	j->report_fd = -1;
	for (int fd = 0; fd <= 2 && null_fd >= 0; fd++)
		(void)dup2(null_fd, fd); /* at worst the terminal stays open */
	if (null_fd > 2)
		(void)close(null_fd);
}

static json_t *mounted_document(const struct mount_job *j)
{
	json_t *document = json_object();
	int r = document ? 0 : -ENOMEM;

	if (r == 0) {
		r |= json_out_name(document, "pool", j->setup->dir, strlen(j->setup->dir));
		r |= json_out_name(document, "mountpoint", j->mountpoint, strlen(j->mountpoint));
		r |= json_out_u64(document, "pid", (uint64_t)j->resume->header->holder);
	}
	if (r) {
		json_decref(document);
		return NULL;
	}
	return document;
}

static int tell_mounted(const struct cli *c, json_t *document)
{
	if (c->json)
		return cli_print_json(c, document);
	json_decref(document);
	return CLI_DONE;
}

static void child_is_ready(void *arg)
{
	struct mount_job *j = arg;

	report(j, mounted_document(j));
}

static void foreground_is_ready(void *arg)
{
	const struct mount_job *j = arg;

	notify_manager("READY=1\nSTATUS=mounted");
	if (j->c->json && j->resume->header->workers == 1)
		(void)cli_print_json(j->c, mounted_document(j)); /* it told why, if not */
}

static const char *hint_of(int code)
{
	switch (-code) {
	case EBUSY:
		return "end that process first, or 'vpool umount' it";
	case EBADMSG:
	case EUCLEAN:
		return "'vpool check' tells more";
	default:
		return NULL;
	}
}

static int fail_mount(const struct mount_job *j, int code, const struct err *e)
{
	return cli_fail_err(j->c, code, e, hint_of(code), "mounting");
}

/* The command line of the worker: the same mount, said in full. */
static int hold(struct mount_job *j)
{
	const struct cli *c = j->c;
	char worker[64];
	/* What is only read in the end, but exec(2) wants it so. */
	union {
		const char *text;
		char *arg;
	} words[] = {
		{ .text = "vpool" },
		{ .text = "mount" },
		{ .text = worker },
		{ .text = c->foreground ? "--foreground" : "--background" },
		{ .text = c->json ? "--json" : "--background" },
		{ .text = "-o" },
		{ .text = c->mount_options ? c->mount_options : "rw" },
		{ .text = "--" },
		{ .text = j->setup->dir },
		{ .text = j->mountpoint },
	};
	char *argv[ARRAY_SIZE(words) + 1] = { NULL };
	struct fs_mount_options mount;
	struct holder_options o = {
		.mount = &mount,
		.argv = argv,
		.report_fd = j->report_fd,
		.background = !c->foreground,
	};
	unsigned int count = 0;
	struct err e = { 0 };
	int r;

	(void)snprintf(worker, sizeof(worker), CONTROL_HOLDER_OPTION "=%d", (int)getpid());
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].text, "--background") != 0)
			argv[count++] = words[i].arg;
	daemon_mount_options(&j->options, &mount);
	r = holder_run(&o, &e);
	if (r >= 0)
		return r;
	if (j->report_fd < 0)
		return fail_mount(j, r, &e);
	report(j, json_out_error(e.message, (int)cli_exit_of(r), NULL));
	return (int)cli_exit_of(r);
}

static int run_child(struct mount_job *j)
{
	(void)setsid(); /* cannot fail: a child leads no group */
	/* What a shell had open besides is not to be held for as long as the mount lives. */
	(void)close_range(3, (unsigned int)j->report_fd - 1, 0);
	(void)close_range((unsigned int)j->report_fd + 1, ~0u, 0);
	(void)!chdir("/");
	return hold(j);
}

/* The child ended without a word, or what it said cannot be read (no memory): then it shall end. */
static int tell_death(const struct mount_job *j, pid_t child)
{
	int status = 0;

	/* One that is about to end by itself does so none the later. */
	(void)kill(child, SIGTERM);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return cli_fail(j->c, CLI_FAILED, NULL,
				"mounting: the daemon could not say how it went, and was ended");
	if (WIFSIGNALED(status))
		return cli_fail(j->c, CLI_FAILED, "its log tells more, if it came so far",
				"mounting: the daemon was killed by signal %d", WTERMSIG(status));
	return cli_fail(j->c, CLI_FAILED, "its log tells more, if it came so far",
			"mounting: the daemon ended with exit code %d", WEXITSTATUS(status));
}

static int run_parent(const struct mount_job *j, pid_t child, int fd)
{
	AUTO(buf_done) struct buf text;
	json_t *document;
	int r = 0;

	buf_init(&text, REPORT_BYTES_MAX);
	for (;;) {
		char piece[4096];
		ssize_t n = read(fd, piece, sizeof(piece));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		r = buf_append(&text, piece, (size_t)n);
		if (r < 0)
			break;
	}
	(void)close(fd);
	document = text.len_bytes ? json_loadb((const char *)text.data, text.len_bytes, 0, NULL) :
				    NULL;
	if (!document)
		return tell_death(j, child);
	if (!json_object_get(document, "error"))
		return tell_mounted(j->c, document);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		continue; /* it is done when this command is */
	r = cli_fail_document(j->c, "mounting", document);
	json_decref(document);
	return r;
}

static int mount_in_background(struct mount_job *j)
{
	int fds[2];
	pid_t child;

	(void)fflush(stdout); /* nothing is printed twice */
	if (pipe2(fds, O_CLOEXEC) < 0)
		return cli_fail(j->c, CLI_FAILED, NULL, "mounting: %s", err_name(-errno));
	child = fork();
	if (child < 0) {
		int r = cli_fail(j->c, CLI_FAILED, NULL, "mounting: %s", err_name(-errno));

		(void)close(fds[0]);
		(void)close(fds[1]);
		return r;
	}
	if (child == 0) {
		(void)close(fds[0]);
		j->report_fd = fds[1];
		return run_child(j);
	}
	(void)close(fds[1]);
	return run_parent(j, child, fds[0]);
}

/* --- the verb ---------------------------------------------------------------------------------- */

static void wait_for_exit(pid_t pid)
{
	struct pollfd pfd = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	if (pfd.fd < 0)
		return; /* gone already */
	(void)poll(&pfd, 1, END_TIMEOUT_MS);
	(void)close(pfd.fd);
}

/* A daemon whose mount is gone is about to end, by itself or killed: the next mount waits for it. */
static void wait_for_end_of(const char *pool_dir, pid_t pid)
{
	struct target t = { 0 };

	if (target_find(pool_dir, &t, NULL) != 0 || !t.mountpoint || mount_is_dead(t.mountpoint))
		wait_for_exit(pid);
	target_done(&t);
}

/* A worker whose holder was killed dies as well; until it did the mount does not look dead. */
static void wait_for_orphan(const char *pool_dir)
{
	bool alive = true;
	pid_t pid;

	if (control_find_daemon(pool_dir, &pid) == 0 && control_holder_of(pid, &alive) > 0 &&
	    !alive)
		wait_for_exit(pid);
}

/* The daemon finds out for sure; this keeps a refusal out of the log of the one that runs. */
static int check_free(struct mount_job *j, struct err *e)
{
	const char *dir = j->setup->dir;
	struct target t = { 0 };
	bool alive;
	pid_t pid;

	/* Of a mount that is alive without a daemon the next one is about to start. */
	alive = control_find_daemon(dir, &pid) < 0 && target_find(dir, &t, NULL) == 0 &&
		t.mountpoint && !mount_is_dead(t.mountpoint);
	target_done(&t);
	if (alive)
		return pool_setup_tell_busy(dir, e);
	if (control_find_daemon(dir, &pid) < 0)
		return 0;
	wait_for_end_of(dir, pid);
	return control_find_daemon(dir, &pid) < 0 ? 0 : pool_setup_tell_busy(dir, e);
}

static int prepare(struct mount_job *j)
{
	const struct cli *c = j->c;
	struct err e = { 0 };
	int r;

	r = take_mount_options(j, c->mount_options, &e);
	if (r == -EINVAL)
		return cli_fail(c, CLI_USAGE, "'vpool mount --help' lists them", "mounting: %s",
				e.message);
	if (r == 0)
		r = pool_setup_load(c->args[0], &j->setup, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e,
				    r == -ENOENT && !pool_setup_is_pool(c->args[0]) ?
					    "'vpool create' makes one" :
					    NULL,
				    "mounting");
	wait_for_orphan(j->setup->dir);
	r = path_resolve(c->args[1], &j->mountpoint, &e);
	if (r < 0)
		return cli_fail_err(c, r, &e, r == -ENOENT ? "make the directory first" : NULL,
				    "mount point");
	r = check_mountpoint(j, &e);
	if (r < 0)
		return cli_fail(c, cli_exit_of(r),
				r == -EBUSY ? "'vpool umount' it first, or take another directory" :
					      NULL,
				"mount point '%s': %s", c->args[1], e.message);
	r = check_free(j, &e);
	if (r < 0)
		return fail_mount(j, r, &e);
	j->options.setup = j->setup;
	j->options.mountpoint = j->mountpoint;
	j->options.arg = j;
	return CLI_DONE;
}

/* --- the worker -------------------------------------------------------------------------------- */

static int worker_open(struct mount_job *j, struct err *e)
{
	const struct cli *c = j->c;
	int r = take_mount_options(j, c->mount_options, e);

	if (r == 0)
		r = pool_setup_load(c->args[0], &j->setup, e);
	if (r == 0)
		r = resume_open(HOLDER_FD_TABLE, &j->resume, e);
	if (r < 0)
		return r;
	/* Not resolved again: nobody but us would answer. */
	j->mountpoint = strdup(c->args[1]);
	if (!j->mountpoint)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	j->options.setup = j->setup;
	j->options.mountpoint = j->mountpoint;
	j->options.arg = j;
	j->options.resume = j->resume;
	j->setup->resumed = resume_is_taken_over(j->resume);
	r = resume_witnesses(j->resume, &j->witnesses, &j->setup->options.witness_count);
	j->setup->options.witnesses = j->witnesses;
	j->setup->options.failed_dirs = j->resume->header->failed_dirs;
	return r < 0 ? err_set(e, r, "%s", err_name(r)) : 0;
}

static int run_worker(struct mount_job *j)
{
	struct err e = { 0 };
	int r;

	for (int fd = HOLDER_FD_SOCKET; fd <= HOLDER_FD_REPORT; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fd == HOLDER_FD_REPORT)
			j->report_fd = fd;
	j->options.foreground = j->c->foreground;
	j->options.ready = j->c->foreground ? foreground_is_ready : child_is_ready;
	r = worker_open(j, &e);
	if (r == 0)
		r = daemon_run(&j->options, &e);
	if (r == DAEMON_HANDED_OVER)
		return HOLDER_NEXT;
	if (r < 0 && j->c->foreground)
		return fail_mount(j, r, &e);
	if (r < 0)
		report(j, json_out_error(e.message[0] ? e.message : err_name(r),
					 (int)cli_exit_of(r), hint_of(r)));
	return r < 0 ? (int)cli_exit_of(r) : CLI_DONE;
}

static int run_mount(struct cli *c)
{
	struct mount_job j = { .c = c, .report_fd = -1 };
	int r;

	buf_init(&j.extra, EXTRA_BYTES_MAX);
	if (c->worker) {
		r = run_worker(&j);
	} else {
		r = prepare(&j);
		if (r == CLI_DONE)
			r = c->foreground ? hold(&j) : mount_in_background(&j);
	}
	buf_done(&j.extra);
	free(j.mountpoint);
	free(j.witnesses);
	resume_close(j.resume);
	pool_setup_free(j.setup);
	return r;
}

static const struct argp_option options[] = {
	{ "foreground", 'f', NULL, 0, "Stay in the foreground; log to standard error", 0 },
	{ NULL, 'o', "OPTIONS", 0,
	  "Mount options with commas between: ro, allow_other, debug, and those of every "
	  "filesystem: noatime, nodev, nosuid, noexec, sync, dirsync. With dirsync each change of names, "
	  "attributes or lengths is on flash when it is answered, as NFS promises it to clients",
	  0 },
	/* By the holder only: its process number. */
	{ "worker", CLI_KEY_WORKER, "PID", OPTION_HIDDEN, NULL, 0 },
	{ 0 },
};

const struct cli_verb cli_verb_mount = {
	.name = "mount",
	.args = "POOL MOUNTPOINT",
	.summary = "mount a pool on a directory; returns when it answers",
	.doc = "The daemon works in the background and logs to POOL/vpool.log, unless [log] file in "
	       "vpool.conf names another file. SIGTERM ends it cleanly. Should it crash, the next one goes on "
	       "at once, and the mount stays. `vpool POOL MOUNTPOINT -o "
	       "OPTIONS` does the same, so that `mount -t fuse.vpool` and /etc/fstab work.",
	.args_min = 2,
	.args_max = 2,
	.options = options,
	.run = run_mount,
};
