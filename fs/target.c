#include "fs/target.h"

#include "fs/pool_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

static void free_stringp(char **p)
{
	free(*p);
}

/* --- the table of mounts ----------------------------------------------------------------------- */

void mount_entry_done(struct mount_entry *m)
{
	free(m->mountpoint);
	free(m->type);
	free(m->source);
	free(m->super_options);
	*m = (struct mount_entry){ 0 };
}

/* A copy of a field with the kernel's \ooo undone. */
static char *field_copy(const char *field, size_t len)
{
	char *copy = malloc(len + 1);
	size_t out = 0;

	for (size_t i = 0; copy && i < len; i++) {
		if (field[i] == '\\' && i + 3 < len && field[i + 1] >= '0' && field[i + 1] <= '3' &&
		    field[i + 2] >= '0' && field[i + 2] <= '7' && field[i + 3] >= '0' &&
		    field[i + 3] <= '7') {
			copy[out++] = (char)((field[i + 1] - '0') << 6 | (field[i + 2] - '0') << 3 |
					     (field[i + 3] - '0'));
			i += 3;
		} else {
			copy[out++] = field[i];
		}
	}
	if (copy)
		copy[out] = '\0';
	return copy;
}

/* The field after n blanks; NULL: there are fewer. */
static const char *field_at(const char *line, unsigned int n)
{
	for (; n > 0 && line; n--) {
		line = strchr(line, ' ');
		line = line ? line + 1 : NULL;
	}
	return line;
}

/* "36 35 98:0 /root /mount rw,noatime shared:1 - type source options" */
bool mount_entry_parse(const char *line, struct mount_entry *ret_entry)
{
	struct mount_entry m = { 0 };
	const char *mountpoint = field_at(line, 4);
	const char *tail = strstr(line, " - ");
	const char *type = tail ? tail + 3 : NULL;
	const char *source = type ? field_at(type, 1) : NULL;
	const char *options = source ? field_at(source, 1) : NULL;

	if (!mountpoint || !options || mountpoint > tail)
		return false;
	m.mountpoint = field_copy(mountpoint, strcspn(mountpoint, " "));
	m.type = field_copy(type, strcspn(type, " "));
	m.source = field_copy(source, strcspn(source, " "));
	m.super_options = field_copy(options, strcspn(options, " \n"));
	if (!m.mountpoint || !m.type || !m.source || !m.super_options) {
		mount_entry_done(&m);
		return false;
	}
	*ret_entry = m;
	return true;
}

/* The last entry that fn accepts: later mounts lie over earlier ones. */
static int mount_find(bool (*fn)(const void *arg, const struct mount_entry *m), const void *arg,
		      struct mount_entry *ret_entry)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	struct mount_entry found = { 0 };
	char *line = NULL;
	size_t line_bytes = 0;
	int r = 0;

	if (!table)
		return -errno;
	while (r == 0 && getline(&line, &line_bytes, table) >= 0) {
		struct mount_entry m;

		errno = 0;
		if (!mount_entry_parse(line, &m)) {
			r = errno == ENOMEM ? -ENOMEM : 0;
			continue;
		}
		if (fn(arg, &m)) {
			mount_entry_done(&found);
			found = m;
		} else {
			mount_entry_done(&m);
		}
	}
	/* Half a table could say that nothing is mounted where something is. */
	if (r == 0 && !feof(table))
		r = ferror(table) ? -EIO : -ENOMEM;
	free(line);
	(void)fclose(table); /* was only read */
	if (r == 0 && !found.mountpoint)
		r = -ENOENT;
	if (r < 0)
		mount_entry_done(&found);
	else
		*ret_entry = found;
	return r;
}

static bool is_ours(const struct mount_entry *m)
{
	return strcmp(m->type, TARGET_FS_TYPE) == 0;
}

static bool is_at(const void *path, const struct mount_entry *m)
{
	return strcmp(m->mountpoint, path) == 0;
}

static bool is_of_pool(const void *pool_dir, const struct mount_entry *m)
{
	return is_ours(m) && strcmp(m->source, pool_dir) == 0;
}

int mount_find_at(const char *mountpoint, struct mount_entry *ret_entry)
{
	return mount_find(is_at, mountpoint, ret_entry);
}

bool mount_is_dead(const char *mountpoint)
{
	struct statvfs space;

	/* Aborted: it died while it was asked. */
	return statvfs(mountpoint, &space) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

struct cover {
	const char *path;
	size_t longest;
};

/* Of all mounts that a path may lie in, the innermost covers it. */
static bool covers(const void *arg, const struct mount_entry *m)
{
	/* The walk is ours alone, so its state may move. */
	struct cover *c = *(struct cover *const *)arg;
	size_t len = strlen(m->mountpoint);

	if (!path_is_inside(c->path, m->mountpoint) || len < c->longest)
		return false;
	c->longest = len;
	return true;
}

static int mount_find_covering(const char *path, struct mount_entry *ret_entry)
{
	struct cover cover = { .path = path }, *c = &cover;

	return mount_find(covers, &c, ret_entry);
}

/* --- paths ------------------------------------------------------------------------------------- */

/* A last component that names something; realpath() deals with the others. */
static bool is_plain(const char *name)
{
	return name[0] && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Parent resolved, last component as it is: the mount point itself is not looked at. */
static int resolve_beside(const char *path, char **ret_path)
{
	AUTO(free_stringp) char *copy = strdup(path);
	AUTO(free_stringp) char *parent = NULL;
	char *slash, *name;
	size_t len;

	if (!copy)
		return -ENOMEM;
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (!is_plain(name))
		return -EINVAL;
	if (slash == copy)
		parent = strdup("");
	else if (slash) {
		*slash = '\0';
		parent = realpath(copy, NULL);
	} else {
		parent = realpath(".", NULL);
	}
	if (!parent)
		return -errno;
	if (strcmp(parent, "/") == 0)
		parent[0] = '\0';
	return asprintf(ret_path, "%s/%s", parent, name) < 0 ? -ENOMEM : 0;
}

int path_resolve(const char *path, char **ret_path, struct err *e)
{
	struct mount_entry m;
	char *resolved = NULL;
	int r;

	if (path[0] == '\0')
		return err_set(e, -ENOENT, "'': %s", err_name(-ENOENT));
	r = resolve_beside(path, &resolved);
	if (r == 0) {
		r = mount_find_at(resolved, &m);
		if (r == 0) {
			mount_entry_done(&m);
			*ret_path = resolved;
			return 0;
		}
		free(resolved);
		if (r != -ENOENT)
			return err_because(e, r, "mounts");
	} else if (r == -ENOMEM) {
		return err_because(e, r, "'%s'", path);
	}
	resolved = realpath(path, NULL);
	if (!resolved) {
		r = -errno;
		return err_set(e, r, "'%s': %s", path, err_name(r));
	}
	*ret_path = resolved;
	return 0;
}

/* --- targets ----------------------------------------------------------------------------------- */

void target_done(struct target *t)
{
	free(t->pool_dir);
	free(t->mountpoint);
	free(t->path);
	*t = (struct target){ 0 };
}

/* Both strings change hands. */
static void take_mount(struct target *t, struct mount_entry *m)
{
	t->pool_dir = TAKE_PTR(m->source);
	t->mountpoint = TAKE_PTR(m->mountpoint);
	mount_entry_done(m);
}

int target_find(const char *path, struct target *ret_target, struct err *e)
{
	struct target t = { 0 };
	struct mount_entry m;
	int r;

	r = path_resolve(path, &t.path, e);
	if (r < 0)
		return r;
	r = mount_find_covering(t.path, &m);
	if (r < 0 && r != -ENOENT) {
		target_done(&t);
		return err_because(e, r, "mounts");
	}
	if (r == 0) {
		if (is_ours(&m)) {
			t.kind =
				strcmp(m.mountpoint, t.path) == 0 ? TARGET_MOUNTPOINT : TARGET_FILE;
			take_mount(&t, &m);
			*ret_target = t;
			return 0;
		}
		mount_entry_done(&m);
	}
	if (!pool_setup_is_pool(t.path)) {
		target_done(&t);
		return err_set(e, -ENOENT, "'%s' is neither a vPool mount nor a pool directory",
			       path);
	}
	t.kind = TARGET_POOL;
	t.pool_dir = strdup(t.path);
	if (!t.pool_dir) {
		target_done(&t);
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	}
	r = mount_find(is_of_pool, t.pool_dir, &m);
	if (r < 0 && r != -ENOENT) {
		target_done(&t);
		return err_because(e, r, "mounts");
	}
	if (r == 0) {
		t.mountpoint = TAKE_PTR(m.mountpoint);
		mount_entry_done(&m);
	}
	*ret_target = t;
	return 0;
}
