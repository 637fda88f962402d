/* Names: looking up, making, removing, renaming. */
#include "fs/fuse_impl.h"

#include <string.h>

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_session *s = fs_session_of(req);
	struct ns_attr attr;
	struct err e = { 0 };
	int r = ns_lookup(s->ns, parent, name, strlen(name), &attr, &e);

	if (r == 0) {
		fs_reply_entry(req, &attr);
	} else if (r == -ENOENT && !ns_is_view(parent)) {
		/* Names come through this mount only: the kernel may remember that there is none. */
		struct fuse_entry_param none = { .entry_timeout = FS_ENTRY_TIMEOUT_S };

		(void)fuse_reply_entry(req, &none);
	} else {
		fs_reply_code(req, "lookup", parent, r, &e);
	}
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	ns_forget(fs_session_of(req)->ns, ino, nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs_session *s = fs_session_of(req);

	for (size_t i = 0; i < count; i++)
		ns_forget(s->ns, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void reply_new(fuse_req_t req, const char *what, uint64_t parent, int r,
		      const struct ns_attr *attr, struct err *e)
{
	bool made = r >= 0;

	r = fs_settle(req, r, e);
	if (r < 0 && made)
		ns_forget(fs_session_of(req)->ns, attr->ino, 1);
	if (r < 0)
		fs_reply_code(req, what, parent, r, e);
	else
		fs_reply_entry(req, attr);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct ns_new new = { .mode = mode, .rdev = rdev, .cred = fs_cred(req) };
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(req, &attr, &e);

	if (r == 0)
		r = ns_create(fs_session_of(req)->ns, parent, name, strlen(name), &new, &attr, &e);
	reply_new(req, "mknod", parent, r, &attr, &e);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(req, &attr, &e);

	if (r == 0)
		r = ns_mkdir(fs_session_of(req)->ns, parent, name, strlen(name), mode, fs_cred(req),
			     &attr, &e);
	reply_new(req, "mkdir", parent, r, &attr, &e);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(req, &attr, &e);

	if (r == 0)
		r = ns_symlink(fs_session_of(req)->ns, parent, name, strlen(name), target,
			       fs_cred(req), &attr, &e);
	reply_new(req, "symlink", parent, r, &attr, &e);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(req, &attr, &e);

	if (r == 0)
		r = ns_link(fs_session_of(req)->ns, ino, parent, name, strlen(name), &attr, &e);
	reply_new(req, "link", ino, r, &attr, &e);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct err e = { 0 };
	int r = fs_resume_was_done(req, NULL, &e);

	if (r == 0)
		r = ns_unlink(fs_session_of(req)->ns, parent, name, strlen(name), &e);
	fs_reply_code(req, "unlink", parent, fs_settle(req, r, &e), &e);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct err e = { 0 };
	int r = fs_resume_was_done(req, NULL, &e);

	if (r == 0)
		r = ns_rmdir(fs_session_of(req)->ns, parent, name, strlen(name), &e);
	fs_reply_code(req, "rmdir", parent, fs_settle(req, r, &e), &e);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned int flags)
{
	struct ns_name from = { .parent = parent, .name = name, .name_bytes = strlen(name) };
	struct ns_name to = {
		.parent = new_parent,
		.name = new_name,
		.name_bytes = strlen(new_name),
	};
	struct err e = { 0 };
	int r = fs_resume_was_done(req, NULL, &e);

	if (r == 0)
		r = ns_rename(fs_session_of(req)->ns, &from, &to, flags, &e);
	fs_reply_code(req, "rename", parent, fs_settle(req, r, &e), &e);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct fs_session *s = fs_session_of(req);
	struct ns_new new = { .mode = S_IFREG | (mode & 07777), .cred = fs_cred(req) };
	struct fuse_entry_param entry;
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(req, &attr, &e);

	if (r == 0)
		r = ns_create(s->ns, parent, name, strlen(name), &new, &attr, &e);
	if (r < 0) {
		fs_reply_code(req, "create", parent, r, &e);
		return;
	}
	r = fs_settle(req, 0, &e);
	if (r == 0)
		r = ns_handle_open(s->ns, attr.ino, &attr, &e);
	if (r < 0) {
		ns_forget(s->ns, attr.ino, 1);
		fs_reply_code(req, "create", parent, r, &e);
		return;
	}
	fs_fill_open(&attr, fi);
	fs_attr_to_entry(s, &attr, &entry);
	if (fuse_reply_create(req, &entry, fi) < 0) {
		ns_handle_release(s->ns, attr.ino);
		ns_forget(s->ns, attr.ino, 1);
	}
}
