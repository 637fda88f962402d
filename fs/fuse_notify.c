/*
 * What the kernel is told without having asked. It may have to wait for locks of its own that it
 * holds until a request is answered, so this is done by threads that serve none, and only as long as
 * there are workers.
 */
#include "common/log.h"
#include "fs/fuse_impl.h"

#include <string.h>

void fs_notify_end(struct fs_session *s)
{
	GUARD(&s->lock);
	s->notify_end = true;
}

unsigned int fs_notify_running(struct fs_session *s)
{
	GUARD(&s->lock);
	return s->notifying;
}

static bool begin(struct fs_session *s)
{
	GUARD(&s->lock);
	if (s->notify_end)
		return false;
	s->notifying++;
	return true;
}

/* -ENOENT: the kernel knows nothing of it. */
static void end(struct fs_session *s, const char *what, uint64_t ino, int r)
{
	if (r < 0 && r != -ENOENT)
		log_warning("fs: the kernel keeps what it knows of %s: inode=%" PRIu64 ": %s", what,
			    ino, err_name(r));
	mutex_lock(&s->lock);
	s->notifying--;
	mutex_unlock(&s->lock);
	fs_session_wake(s);
}

void fs_session_forget_data(struct fs_session *s, uint64_t ino)
{
	if (begin(s))
		end(s, "a file", ino, fuse_lowlevel_notify_inval_inode(s->fuse, ino, 0, 0));
}

void fs_session_forget_name(struct fs_session *s, uint64_t parent, const char *name)
{
	if (!begin(s))
		return;
	end(s, "a name", parent,
	    fuse_lowlevel_notify_inval_entry(s->fuse, parent, name, strlen(name)));
	if (begin(s)) /* times and size of the directory */
		end(s, "a directory", parent,
		    fuse_lowlevel_notify_inval_inode(s->fuse, parent, -1, 0));
}
