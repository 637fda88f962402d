#include "fs/fuse_mount.h"

#include "fs/fuse_impl.h"
#include "fs/fuse_mountpoint.h"

#include <fuse3/fuse_log.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int add_option(struct fuse_args *args, const char *text)
{
	return fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, text) < 0 ? -ENOMEM : 0;
}

/* "NAME=VALUE" as one option, whatever the value contains. */
static int add_escaped(struct fuse_args *args, const char *name, const char *value)
{
	size_t name_bytes = strlen(name);
	char *text = malloc(name_bytes + 2 * strlen(value) + 2), *to = text;
	int r;

	if (!text)
		return -ENOMEM;
	memcpy(to, name, name_bytes);
	to += name_bytes;
	*to++ = '=';
	for (const char *from = value; *from; from++) {
		if (*from == ',' || *from == '\\')
			*to++ = '\\';
		*to++ = *from;
	}
	*to = '\0';
	r = add_option(args, text);
	free(text);
	return r;
}

int fs_mount_args(const struct fs_mount_options *o, struct fuse_args *args)
{
	int r = fuse_opt_add_arg(args, "vpool") < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = add_escaped(args, "fsname", o->source);
	if (r == 0)
		r = add_escaped(args, "subtype", o->subtype ? o->subtype : "vpool");
	if (r == 0)
		r = add_option(args, "default_permissions,max_read=1048576");
	if (r == 0 && o->allow_other)
		r = add_option(args, "allow_other");
	if (r == 0 && o->read_only)
		r = add_option(args, "ro");
	if (r == 0 && o->extra && o->extra[0] != '\0')
		r = add_option(args, o->extra);
	if (r == 0 && o->debug)
		r = fuse_opt_add_arg(args, "-d") < 0 ? -ENOMEM : 0;
	return r;
}

/* --- a mount that others serve ----------------------------------------------------------------- */

/* libfuse tells only so why it could not mount. */
static char last_words[200];

__attribute__((format(printf, 2, 0))) static void on_libfuse_log(enum fuse_log_level level,
								 const char *fmt, va_list ap)
{
	(void)level;
	(void)vsnprintf(last_words, sizeof(last_words), fmt, ap);
	last_words[strcspn(last_words, "\n")] = '\0';
}

static int make_session(const struct fs_mount_options *o, struct fs_mount *m, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = fs_mount_args(o, &args);

	fuse_set_log_func(on_libfuse_log);
	if (r == 0) {
		m->fuse = fuse_session_new(&args, &fs_fuse_ops, sizeof(fs_fuse_ops), NULL);
		if (!m->fuse)
			r = err_set(e, -EINVAL, "mount options are refused: %s", last_words);
	}
	fuse_opt_free_args(&args);
	return r;
}

/* Two for each thread, or none: then all share the first. */
static void open_channels(struct fs_mount *m, unsigned int threads)
{
	struct proto_channels *c = &m->channels;

	for (unsigned int i = 0; i < 2 * threads && c->count < PROTO_CHANNELS_MAX; i++) {
		int *fd = &c->fd[c->count];
		int r = i % 2 ? proto_clone_nonblocking(c->fd[0], fd) : proto_clone(c->fd[0], fd);

		if (r < 0)
			break;
		c->count++;
	}
	if (c->count % 2 == 0)
		(void)close(c->fd[--c->count]);
}

int fs_mount_begin(const struct fs_mount_options *o, unsigned int threads,
		   struct fs_mount *ret_mount, struct err *e)
{
	struct fs_mount *m = ret_mount;
	int r = mountpoint_prepare(o->mountpoint, e);

	if (r == 0)
		r = make_session(o, m, e);
	if (r < 0)
		return r;
	last_words[0] = '\0';
	if (fuse_session_mount(m->fuse, o->mountpoint) < 0) {
		fuse_session_destroy(TAKE_PTR(m->fuse));
		return err_set(e, -EIO, "mounting on '%s' failed: %s", o->mountpoint, last_words);
	}
	m->channels = (struct proto_channels){ .count = 1, .fd = { fuse_session_fd(m->fuse) } };
	open_channels(m, threads);
	return 0;
}

bool fs_mount_is_gone(const struct fs_mount *m)
{
	struct pollfd p = { .fd = m->channels.fd[0] };

	return m->channels.count == 0 || (poll(&p, 1, 0) > 0 && p.revents & POLLERR);
}

void fs_mount_close(struct fs_mount *m)
{
	if (m->channels.count == 0)
		return;
	while (m->channels.count > 1)
		(void)close(m->channels.fd[--m->channels.count]);
	m->channels.count = 0;
	fuse_session_unmount(m->fuse); /* closes the last one first */
	fuse_session_destroy(TAKE_PTR(m->fuse));
}
