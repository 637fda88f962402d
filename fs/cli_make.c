/* What `create` and `restore` share: a directory that becomes a pool, and what undoes it. */
#include "fs/cli_make.h"

#include "common/units.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REMOVE_FDS 16
/* A pool works with a few open containers, its log, and RocksDB, which ends the process when it has
 * no room at its first steps. */
#define SCOS_MIN       4u
#define METADATA_BYTES (32 * MIB)

static void free_stringp(char **p)
{
	free(*p);
}

/* --- the configuration ------------------------------------------------------------------------- */

static int set_cache_dir(struct config *config, const char *item, struct err *e)
{
	AUTO(free_stringp) char *absolute = NULL;
	AUTO(free_stringp) char *here = NULL;
	char path[CONFIG_STRING_BYTES];
	uint64_t size_bytes;

	if (config_dir_parse(item, path, &size_bytes) < 0)
		return err_set(e, -EINVAL,
			       "--cache '%.80s': expected DIR:SIZE, as in /ssd/cache:100G", item);
	if (path[0] == '/')
		return config_set(config, "cache", "dir", item, e);
	/* The file is read by a daemon that stands elsewhere. */
	here = getcwd(NULL, 0);
	if (!here || asprintf(&absolute, "%s/%s", here, item) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	return config_set(config, "cache", "dir", absolute, e);
}

int cli_make_config(const struct cli *c, struct config *config, struct err *e)
{
	int r = 0;

	config_defaults(config);
	if (c->sco_size)
		r = config_set(config, "pool", "sco_size", c->sco_size, e);
	if (r == 0 && c->backend)
		r = config_set(config, "backend", "url", c->backend, e);
	for (unsigned int i = 0; i < c->cache_count && r == 0; i++)
		r = set_cache_dir(config, c->cache[i], e);
	return r == 0 ? config_check(config, e) : r;
}

/* Of a file that is printed: what it would be without the line that is looked at. */
struct printing {
	FILE *out;
	struct config defaults, changed;
	char section[64];
};

/* "key = value" of a key that is at its default: shown, but as a comment. */
static bool is_default(struct printing *p, const char *line)
{
	char key[64];
	const char *equals = strstr(line, " =");
	size_t len = equals ? (size_t)(equals - line) : 0;

	if (len == 0 || len >= sizeof(key))
		return false;
	memcpy(key, line, len);
	key[len] = '\0';
	p->changed = p->defaults;
	return config_set(&p->changed, p->section, key, equals + 2 + strspn(equals + 2, " "),
			  NULL) == 0 &&
	       memcmp(&p->changed, &p->defaults, sizeof(p->changed)) == 0;
}

static void print_line(struct printing *p, const char *line)
{
	bool is_key = line[0] && line[0] != '[' && line[0] != '#';

	if (line[0] == '[')
		(void)snprintf(p->section, sizeof(p->section), "%.*s", (int)strcspn(line + 1, "]"),
			       line + 1);
	(void)fprintf(p->out, "%s%s\n", is_key && is_default(p, line) ? "# " : "", line);
}

/* All keys with their meaning; those at their default as comments, so that later versions may
 * choose better ones. */
static int print_config(FILE *out, const struct config *config)
{
	struct printing *p = calloc(1, sizeof(*p)); /* large */
	char *text = NULL, *line;
	size_t text_bytes = 0;
	FILE *all = p ? open_memstream(&text, &text_bytes) : NULL;
	int r = all ? config_print(all, config) : -ENOMEM;

	if (all && fclose(all) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0) {
		free(text);
		free(p);
		return r;
	}
	p->out = out;
	config_defaults(&p->defaults);
	(void)fprintf(
		out, "# Configuration of a vPool; `vpool config show` tells what is in force.\n\n");
	for (line = text; *line;) {
		char *end = strchrnul(line, '\n');
		bool last = *end == '\0';

		*end = '\0';
		print_line(p, line);
		line = end + !last;
	}
	free(text);
	free(p);
	return 0;
}

static int write_config(const char *dir, const struct config *config, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	FILE *out;
	int fd, r;

	if (asprintf(&path, "%s/%s", dir, POOL_CONF_NAME) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!out) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return err_set(e, r, "'%s': %s", path, err_name(r));
	}
	r = print_config(out, config);
	if (r == 0 && (fflush(out) != 0 || fsync(fd) < 0))
		r = -errno;
	if (fclose(out) != 0 && r == 0)
		r = -errno;
	return r < 0 ? err_set(e, r, "'%s': %s", path, err_name(r)) : 0;
}

/* --- the directory ----------------------------------------------------------------------------- */

static int check_empty(const char *dir, struct err *e)
{
	DIR *d = opendir(dir);
	const struct dirent *entry;
	int r = 0;

	if (!d)
		return err_set(e, -errno, "%s", err_name(-errno));
	while (r == 0 && (entry = readdir(d))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, "lost+found") == 0)
			continue;
		r = err_set(e, -ENOTEMPTY, "the directory is not empty");
	}
	(void)closedir(d); /* was only read */
	return r;
}

/* The new directory's own name: what is synced in it later would go with it. */
static int sync_name_of(const char *dir, struct err *e)
{
	AUTO(free_stringp) char *parent = NULL;
	int fd, r = 0;

	if (asprintf(&parent, "%s/..", dir) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		r = err_set(e, -errno, "syncing the directory above it: %s", err_name(-errno));
	if (fd >= 0)
		(void)close(fd);
	return r;
}

int cli_make_dir(struct cli_made *m, struct err *e)
{
	if (mkdir(m->dir, 0700) == 0) {
		m->made_dir = m->began = true;
		return sync_name_of(m->dir, e);
	}
	if (errno != EEXIST)
		return err_set(e, -errno, "%s", err_name(-errno));
	if (pool_setup_is_pool(m->dir))
		return err_set(e, -EEXIST, "it holds a pool already");
	m->began = check_empty(m->dir, e) == 0;
	return m->began ? 0 : e->code;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level == 0 || (at->level == 1 && strcmp(path + at->base, "lost+found") == 0))
		return 0;
	return remove(path) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EACCES ? -1 :
											      0;
}

/* The directory was empty, so all that is in it is ours. */
void cli_make_undo(const struct cli_made *m)
{
	if (!m->began)
		return;
	if (nftw(m->dir, remove_one, REMOVE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
		(void)fprintf(stderr, "vpool: '%s' could not be cleaned up\n", m->dir);
	if (m->made_dir)
		(void)rmdir(m->dir); /* what is left in it was told above */
}

/* --- cache directories ------------------------------------------------------------------------- */

static int check_room(const struct pool_setup *setup, struct err *e)
{
	uint64_t need_bytes = SCOS_MIN * setup->options.sco_bytes + METADATA_BYTES;
	char need[CLI_SIZE_BYTES], has[CLI_SIZE_BYTES];
	struct env_space space;
	int r = env_space(env_posix(), setup->dir, &space);

	if (r < 0)
		return err_set(e, r, "%s", err_name(r));
	if (space.free_bytes >= need_bytes)
		return 0;
	return err_set(e, -ENOSPC, "%s are free there, a pool needs %s to begin with",
		       cli_size(space.free_bytes, has), cli_size(need_bytes, need));
}

/* Which of these were there before; the others are removed when the creation fails. */
struct cache_state {
	bool had_dir, had_sco;
};

static bool exists(const char *dir, const char *name)
{
	AUTO(free_stringp) char *path = NULL;
	struct stat st;

	return asprintf(&path, "%s/%s", dir, name) >= 0 && lstat(path, &st) == 0;
}

/* Refused before anything is made, so that an error leaves them as they were. */
static int look_at_caches(const struct pool_options *o, struct cache_state *states, struct err *e)
{
	for (unsigned int i = 0; i < o->cache_count; i++) {
		const char *path = o->cache[i].path;

		states[i].had_dir = exists(path, ".");
		states[i].had_sco = exists(path, "sco");
		if (exists(path, "label"))
			return err_set(e, -EEXIST,
				       "cache directory '%s' belongs to another pool already",
				       path);
		if (states[i].had_dir && access(path, W_OK | X_OK) < 0)
			return err_set(e, -errno, "cache directory '%s': %s", path,
				       err_name(-errno));
	}
	return 0;
}

static void undo_caches(const struct pool_options *o, const struct cache_state *states)
{
	for (unsigned int i = 0; i < o->cache_count; i++) {
		int fd = open(o->cache[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			continue;
		/* What was not made is not there: no errors that matter. */
		(void)unlinkat(fd, "label", 0);
		if (!states[i].had_sco)
			(void)unlinkat(fd, "sco", AT_REMOVEDIR);
		(void)close(fd);
		if (!states[i].had_dir)
			(void)rmdir(o->cache[i].path);
	}
}

/* --- the pool ---------------------------------------------------------------------------------- */

int cli_make_pool(const char *dir, const struct config *config,
		  int (*fill)(void *arg, const struct pool_options *o, struct err *e), void *arg,
		  struct pool_setup **ret_setup, struct err *e)
{
	struct cache_state states[POOL_CACHE_DIRS_MAX] = { 0 };
	struct pool_setup *setup;
	int r;

	r = pool_setup_new(dir, config, &setup, e);
	if (r < 0)
		return r;
	r = check_room(setup, e);
	if (r == 0)
		r = look_at_caches(&setup->options, states, e);
	if (r == 0) {
		r = write_config(setup->dir, config, e);
		if (r == 0)
			r = fill(arg, &setup->options, e);
		if (r < 0)
			undo_caches(&setup->options, states);
	}
	if (r < 0) {
		pool_setup_free(setup);
		return r;
	}
	*ret_setup = setup;
	return 0;
}
