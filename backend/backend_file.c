/*
 * backend_file - objects as files below one directory: object "a/b" is the file ROOT/a/b.
 *
 * A put makes ROOT/tmp/<time>-<random>, a hard link of the source or a file with its bytes, makes
 * those bytes durable (fdatasync), gives it its name (rename; link for put-if-absent, which fails
 * when the name is taken), and makes the name durable (sync of every directory on the way, as this
 * or another process may just have made any of them). tmp/ is no object: no name begins with it.
 *
 * Power cut, argued step by step:
 *  - before the name is given: tmp/ may keep a whole, torn or empty file. Nobody reads it, and a
 *    later open removes it once it is a day old. Younger ones stay, since another
 *    process that has this store open may be writing them right now.
 *  - between name and sync: the name is there or not, on an overwrite it means the new or the old
 *    file. Whichever it means was made durable before it got any name, so an object is whole.
 *    The put has not returned, so either outcome is allowed.
 *  - after the sync: data, name and all directories above it are durable, and put returns.
 *  - -EEXIST is answered only after the same sync: the object that won is durable too, so a repeated
 *    put whose first answer was lost may take it for its own.
 *  - delete: unlink, removal of emptied directories, the same sync. A repeated delete finds nothing
 *    and still syncs, so it makes good for one that was interrupted.
 * A cut never leaves a name before its data because no step that names precedes the fdatasync.
 *
 * A hard-linked object is the source file: the source must not be written from then on, and its
 * checksum is not verified here (sealing did that). Every other way verifies it while copying or by
 * reading the copy back.
 *
 * ROOT/tmp is also how the store knows that it is there: see file_check_present().
 */
#include "backend/backend_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Rounds of "make the directories, give the name" against others who remove emptied ones. */
#define PUBLISH_TRIES_MAX 64u

static struct store_file *store_file_of(struct store *s)
{
	return CONTAINER_OF(s, struct store_file, store);
}

int file_house_code(int code)
{
	switch (code) {
	case -EDQUOT:
		return -ENOSPC;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return -EAGAIN;
	default:
		return code;
	}
}

char *file_path(const struct store_file *f, const char *name)
{
	size_t root_bytes = strlen(f->root), name_bytes = strlen(name);
	char *path = malloc(root_bytes + 1 + name_bytes + 1);

	if (!path)
		return NULL;
	memcpy(path, f->root, root_bytes);
	path[root_bytes] = '/';
	memcpy(path + root_bytes + 1, name, name_bytes + 1);
	if (name_bytes == 0)
		path[root_bytes] = '\0';
	return path;
}

int file_check_present(const struct store_file *f, struct err *e)
{
	AUTO(file_path_freep) char *path = file_path(f, "tmp");
	struct env_file *file = NULL;
	int r;

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	r = env_open(f->env, path, ENV_READ | ENV_DIR, &file);
	if (r == 0) {
		env_close(f->env, file);
		return 0;
	}
	if (r == -ENOENT || r == -ENOTDIR)
		return err_set(e, -EAGAIN, "'%s' is not there: is its filesystem mounted?", path);
	return err_set(e, file_house_code(r), "opening '%s': %s", path, err_name(r));
}

static int no_such_object(const struct store_file *f, const char *name, struct err *e)
{
	int r = file_check_present(f, e);

	if (r < 0)
		return r;
	return err_set(e, -ENOENT, "'%s': no such object", name);
}

int file_open_object(const struct store_file *f, const char *name, struct env_file **ret_file,
		     struct env_stat *ret_stat, struct err *e)
{
	AUTO(file_path_freep) char *path = file_path(f, name);
	struct env_file *file = NULL;
	struct env_stat st;
	int r;

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	r = env_open(f->env, path, ENV_READ, &file);
	if (r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ELOOP || r == -ENXIO)
		return no_such_object(f, name, e);
	if (r < 0)
		return err_set(e, file_house_code(r), "opening '%s': %s", path, err_name(r));
	r = env_stat(f->env, file, &st);
	if (r < 0) {
		env_close(f->env, file);
		return err_set(e, file_house_code(r), "examining '%s': %s", path, err_name(r));
	}
	if (st.is_dir || !S_ISREG(st.mode)) {
		env_close(f->env, file);
		return no_such_object(f, name, e);
	}
	*ret_file = file;
	*ret_stat = st;
	return 0;
}

/* ---- names --------------------------------------------------------------------------------- */

/* Make durable the entry of the name and of every directory above it. */
static int sync_names(const struct store_file *f, const char *name, struct err *e)
{
	AUTO(file_path_freep) char *path = file_path(f, name);
	size_t root_bytes = strlen(f->root);

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	for (;;) {
		char *slash = strrchr(path + root_bytes, '/');
		bool is_root = slash == path + root_bytes;
		int r;

		*slash = '\0';
		r = env_sync_dir(f->env, path);
		if (is_root && (r == -ENOENT || r == -ENOTDIR))
			return err_set(e, -EAGAIN, "'%s' is gone: is its filesystem mounted?",
				       path);
		/* A directory that is gone holds nothing that could come back; its parent says so. */
		if (r < 0 && (is_root || (r != -ENOENT && r != -ENOTDIR)))
			return err_set(e, file_house_code(r), "making names in '%s' durable: %s",
				       path, err_name(r));
		if (is_root)
			return 0;
	}
}

/* Make the directories above a name; one that vanishes meanwhile is the caller's next round. */
static int make_parents(const struct store_file *f, const char *name, struct err *e)
{
	AUTO(file_path_freep) char *path = file_path(f, name);
	size_t root_bytes = strlen(f->root);

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	for (char *slash = strchr(path + root_bytes + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = env_mkdir(f->env, path);
		if (r == -ENOENT)
			return 0;
		if (r < 0 && r != -EEXIST)
			return err_set(e, file_house_code(r), "making '%s': %s", path, err_name(r));
		*slash = '/';
	}
	return 0;
}

/*
 * The name is taken: by an object, or by a directory, which is in the way only while names lie
 * below it. Returns 0 when the way is free now.
 */
static int clear_way(const struct store_file *f, const char *path, const char *name, struct err *e)
{
	int r = env_rmdir(f->env, path);

	if (r == 0 || r == -ENOENT)
		return 0;
	if (r == -ENOTDIR)
		return err_set(e, -EEXIST, "'%s': object exists", name);
	if (r == -ENOTEMPTY || r == -EEXIST)
		return err_set(e, -EISDIR, "'%s': there are objects below this name", name);
	return err_set(e, file_house_code(r), "removing empty '%s': %s", path, err_name(r));
}

static int give_name(const struct store_file *f, const char *tmp, const char *name,
		     unsigned int flags, struct err *e)
{
	AUTO(file_path_freep) char *path = file_path(f, name);

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	for (unsigned int i = 0; i < PUBLISH_TRIES_MAX; i++) {
		int r;

		if (flags & BACKEND_PUT_IF_ABSENT)
			r = env_link(f->env, tmp, path);
		else
			r = env_rename(f->env, tmp, path);
		if (r == 0)
			return 0;
		if (r == -ENOENT)
			r = make_parents(f, name, e);
		else if (r == -EEXIST || r == -EISDIR || r == -ENOTEMPTY)
			r = clear_way(f, path, name, e);
		else
			r = err_set(e, file_house_code(r), "naming '%s': %s", path, err_name(r));
		if (r < 0)
			return r;
	}
	return err_set(e, -EAGAIN, "naming '%s': its directories keep vanishing", path);
}

static int file_put(struct store *s, const char *name, const struct backend_source *source,
		    unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_file *f = store_file_of(s);
	AUTO(file_path_freep) char *tmp = file_tmp_path(f);
	bool shares_file = false;
	int r;

	if (!tmp)
		return err_set(e, -EAGAIN, "no memory for a path");
	r = file_tmp_make(f, tmp, source, &shares_file, e);
	if (r < 0)
		return r;
	r = give_name(f, tmp, name, flags, e);
	/*
	 * Gone if it was renamed. Not always: a rename onto another link of the same file does
	 * nothing and succeeds. What cannot be removed is left for open() to clean.
	 */
	if (r < 0 || shares_file || (flags & BACKEND_PUT_IF_ABSENT))
		(void)env_unlink(f->env, tmp);
	if (r == 0 || r == -EEXIST) {
		int sync_r = sync_names(f, name, e);

		if (sync_r < 0)
			return sync_r;
	}
	if (r < 0)
		return r;
	*ret_result = (struct backend_put_result){ .shares_file = shares_file };
	return 0;
}

static int file_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		    size_t len_bytes, struct err *e)
{
	struct store_file *f = store_file_of(s);
	struct env_file *file = NULL;
	struct env_stat st = { .size_bytes = 0 };
	ssize_t n = 0;
	int r = file_open_object(f, name, &file, &st, e);

	if (r < 0)
		return r;
	if (offset_bytes <= st.size_bytes && len_bytes <= st.size_bytes - offset_bytes) {
		if (len_bytes > 0)
			n = env_pread(f->env, file, dst, len_bytes, offset_bytes);
	} else {
		n = -EUCLEAN;
	}
	env_close(f->env, file);
	if (n == -EUCLEAN || (n >= 0 && (size_t)n < len_bytes))
		return err_set(e, -EUCLEAN, "'%s': ends at %" PRIu64, name, st.size_bytes);
	if (n < 0)
		return err_set(e, file_house_code((int)n), "reading '%s': %s", name,
			       err_name((int)n));
	return 0;
}

static int file_head(struct store *s, const char *name, struct backend_object *ret_object,
		     struct err *e)
{
	struct store_file *f = store_file_of(s);
	struct env_file *file = NULL;
	struct env_stat st;
	int r = file_open_object(f, name, &file, &st, e);

	if (r < 0)
		return r;
	env_close(f->env, file);
	*ret_object =
		(struct backend_object){ .len_bytes = st.size_bytes, .modified_ns = st.changed_ns };
	return 0;
}

/* Remove the directories that a delete emptied, from the innermost to the first that is in use. */
static void remove_empty_parents(const struct store_file *f, char *path)
{
	size_t root_bytes = strlen(f->root);

	for (;;) {
		char *slash = strrchr(path + root_bytes, '/');
		int r;

		if (slash == path + root_bytes)
			return;
		*slash = '\0';
		r = env_rmdir(f->env, path);
		if (r < 0 && r != -ENOENT)
			return;
	}
}

static int file_del(struct store *s, const char *name, struct err *e)
{
	struct store_file *f = store_file_of(s);
	AUTO(file_path_freep) char *path = file_path(f, name);
	int r;

	if (!path)
		return err_set(e, -EAGAIN, "no memory for a path");
	/* A directory is no object, so there is nothing to delete. */
	r = env_unlink(f->env, path);
	if (r == -ENOENT || r == -ENOTDIR)
		r = file_check_present(f, e);
	else if (r < 0 && r != -EISDIR)
		r = err_set(e, file_house_code(r), "removing '%s': %s", path, err_name(r));
	if (r < 0 && r != -EISDIR)
		return r;
	remove_empty_parents(f, path);
	return sync_names(f, name, e);
}

/* ---- open and close ------------------------------------------------------------------------ */

static void file_close(struct store *s)
{
	struct store_file *f = store_file_of(s);

	free(f->root);
	free(f);
}

static const struct store_ops file_ops = {
	.type_name = "file",
	.close = file_close,
	.put = file_put,
	.get = file_get,
	.head = file_head,
	.del = file_del,
	.list = file_list,
};

static int make_dir(const struct store_file *f, const char *path, struct err *e)
{
	int r = env_mkdir(f->env, path);

	if (r == 0 || r == -EEXIST)
		return 0;
	return err_set(e, r, "making the backend's directory '%s': %s", path, err_name(r));
}

/* Make the root's own name durable. An old root in a directory that we cannot read is fine. */
static int sync_root(const struct store_file *f, struct err *e)
{
	AUTO(file_path_freep) char *parent = strdup(f->root);
	int r;

	if (!parent)
		return err_set(e, -ENOMEM, "no memory for a path");
	*(strrchr(parent, '/') + 1) = '\0';
	r = env_sync_dir(f->env, parent);
	if (r < 0 && r != -EACCES && r != -EPERM)
		return err_set(e, r, "making names in '%s' durable: %s", parent, err_name(r));
	r = env_sync_dir(f->env, f->root);
	if (r < 0)
		return err_set(e, r, "making names in '%s' durable: %s", f->root, err_name(r));
	return 0;
}

/* Its directory, which is made unless it has to be there. */
static int find_root(const struct store_file *f, bool must_exist, struct err *e)
{
	int r;

	if (!must_exist)
		return make_dir(f, f->root, e);
	r = env_sync_dir(f->env, f->root);
	return r < 0 ? err_set(e, r, "the backend's directory '%s': %s", f->root, err_name(r)) : 0;
}

static int prepare(struct store_file *f, bool must_exist, struct err *e)
{
	AUTO(file_path_freep) char *tmp = file_path(f, "tmp");
	int r;

	if (!tmp)
		return err_set(e, -ENOMEM, "no memory for a path");
	r = find_root(f, must_exist, e);
	if (r == 0)
		r = make_dir(f, tmp, e);
	if (r < 0)
		return r;
	r = file_tmp_clean(f, e);
	if (r < 0)
		return r;
	r = file_tmp_probe(f, e);
	if (r < 0)
		return r;
	if (r == 1) {
		f->store.caps |= BACKEND_CAP_PUT_IF_ABSENT;
		if (f->copy_mode == BACKEND_COPY_LINK)
			f->store.caps |= BACKEND_CAP_LINK;
	}
	return sync_root(f, e);
}

int store_file_open(struct env *env, const char *rest, const struct backend_options *options,
		    struct store **ret_store, struct err *e)
{
	struct store_file *f;
	size_t root_bytes;
	int r;

	if (strncmp(rest, "///", 3) != 0)
		return err_set(e, -EINVAL, "backend URL 'file:%s': expected file:///directory",
			       rest);
	root_bytes = strlen(rest + 2);
	while (root_bytes > 0 && rest[2 + root_bytes - 1] == '/')
		root_bytes--;
	if (root_bytes == 0)
		return err_set(e, -EINVAL, "backend URL 'file:%s': not the root directory", rest);

	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "opening 'file:%s'", rest);
	f->store.ops = &file_ops;
	f->env = env;
	f->copy_mode = options->copy_mode;
	f->root = strndup(rest + 2, root_bytes);
	r = f->root ? prepare(f, options->must_exist, e) :
		      err_set(e, -ENOMEM, "opening 'file:%s'", rest);
	if (r < 0) {
		file_close(&f->store);
		return r;
	}
	*ret_store = &f->store;
	return 0;
}
