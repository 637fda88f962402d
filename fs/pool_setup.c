#include "fs/pool_setup.h"

#include "common/log.h"
#include "common/units.h"
#include "fs/control.h"
#include "fs/namespace.h"
#include "fs/target.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Behind a worker that was killed. */
#define UPLOAD_SETTLE_NS (5 * NS_PER_SEC)

static void free_stringp(char **p)
{
	free(*p);
}

static bool is_there(const char *dir, const char *name)
{
	struct stat st;
	char *path;
	bool there;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return false;
	there = stat(path, &st) == 0;
	free(path);
	return there;
}

bool pool_setup_is_pool(const char *dir)
{
	return is_there(dir, POOL_CONF_NAME) || is_there(dir, "meta/CURRENT");
}

bool pool_setup_is_restoring(const char *dir)
{
	return is_there(dir, POOL_RESTORING_NAME);
}

bool path_is_inside(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	while (len > 0 && dir[len - 1] == '/')
		len--;
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

void pool_setup_free(struct pool_setup *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(s->cache_path); i++)
		free(s->cache_path[i]);
	free(s->dir);
	free(s);
}

static int add_cache_dirs(struct pool_setup *s, struct err *e)
{
	const struct config_list *dirs = &s->config.cache.dir;
	char path[CONFIG_STRING_BYTES];
	uint64_t size_bytes;

	STATIC_ASSERT(CONFIG_LIST_MAX <= POOL_CACHE_DIRS_MAX, "every directory has its place");
	for (uint32_t i = 0; i < dirs->count; i++) {
		if (config_dir_parse(dirs->item[i], path, &size_bytes) < 0)
			return err_set(e, -EINVAL, "[cache] dir = '%.80s': expected PATH:SIZE",
				       dirs->item[i]);
		if (asprintf(&s->cache_path[i], "%s%s%s", path[0] == '/' ? "" : s->dir,
			     path[0] == '/' ? "" : "/", path) < 0) {
			s->cache_path[i] = NULL;
			return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
		}
		s->options.cache[i].path = s->cache_path[i];
		s->options.cache[i].size_bytes = size_bytes;
	}
	s->options.cache_count = dirs->count;
	return 0;
}

static int fill(struct pool_setup *s, const struct config *config, struct err *e)
{
	struct pool_options *o = &s->options;

	s->config = *config;
	config = &s->config;
	pool_options_default(o, s->dir);
	o->backend_url = config->backend.url;
	o->backend_copy = (unsigned int)config->backend.copy;
	o->packs = (unsigned int)config->backend.packs;
	o->sco_bytes = config->pool.sco_size_bytes;
	o->ring_bytes = config->cache.ring_size_bytes;
	o->metadata_cache_bytes = config->cache.metadata_cache_bytes;
	o->capacity_bytes = config->pool.capacity_bytes;
	o->dirty_limit_bytes = config->cache.dirty_limit_bytes;
	o->reserve_bytes = config->cache.reserve_bytes;
	o->flush_interval_ns = config->cache.flush_interval_ns;
	o->checkpoint_interval_ns = config->cache.checkpoint_interval_ns;
	o->log_max_bytes = config->cache.log_max_bytes;
	o->upload_interval_ns = config->backend.upload_interval_ns;
	o->upload_settle_ns = UPLOAD_SETTLE_NS;
	o->grace_time_ns = config->backend.grace_time_ns;
	o->uploads_max = (unsigned int)config->backend.uploads_max;
	o->attempts_max = (unsigned int)config->backend.attempts_max;
	o->timeout_ns = config->backend.timeout_ns;
	o->clean_target_percent = (unsigned int)config->cache.clean_target_percent;
	o->parked_max = (unsigned int)config->fuse.parked_max;
	o->fetch_min_bytes = (uint32_t)config->cache.fetch_min_bytes;
	o->fetches_max = (unsigned int)config->cache.fetches_max;
	o->read_ahead_bytes = config->cache.read_ahead_bytes;
	return add_cache_dirs(s, e);
}

static bool take_minute(const char *text, unsigned int *ret_minute)
{
	struct schedule s;
	char daily[32];

	(void)snprintf(daily, sizeof(daily), "daily %.5s", text);
	if (schedule_parse(daily, &s, NULL) < 0)
		return false;
	*ret_minute = s.minute;
	return true;
}

/* "01:00-05:00" */
static int take_hours(struct pool_setup *s, struct err *e)
{
	const char *text = s->config.cache.scrub_hours;
	struct pool_options *o = &s->options;

	if (text[0] == '\0')
		return 0;
	if (strlen(text) != strlen("01:00-05:00") || text[5] != '-' ||
	    !take_minute(text, &o->scrub_from_minute) ||
	    !take_minute(text + 6, &o->scrub_until_minute))
		return err_set(e, -EINVAL,
			       "[cache] scrub_hours = '%.80s': expected hours of the day, as "
			       "01:00-05:00",
			       text);
	return 0;
}

static int take_policy(struct pool_setup *s, struct err *e)
{
	int r = schedule_parse(s->config.pool.snapshot_schedule, &s->policy.schedule, e);

	if (r < 0)
		return err_wrap(e, r, "[pool] snapshot_schedule");
	r = retention_parse(s->config.pool.keep, &s->policy.keep, e);
	return r < 0 ? err_wrap(e, r, "[pool] keep") : 0;
}

int pool_setup_new(const char *dir, const struct config *config, struct pool_setup **ret_setup,
		   struct err *e)
{
	struct pool_setup *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	s->dir = realpath(dir, NULL);
	r = s->dir ? fill(s, config, e) : err_set(e, -errno, "'%s': %s", dir, err_name(-errno));
	if (r == 0)
		r = take_hours(s, e);
	if (r == 0)
		r = take_policy(s, e);
	if (r < 0) {
		pool_setup_free(s);
		return r;
	}
	*ret_setup = s;
	return 0;
}

static bool is_link(int dir_fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_LNK;
	return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static int refuse_links_in(const char *dir, const char *below, struct err *e)
{
	AUTO(free_stringp) char *path = NULL;
	const struct dirent *entry;
	int fd, r = 0;
	DIR *d;

	if (asprintf(&path, "%s/%s", dir, below) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (below[0] ? O_NOFOLLOW : 0));
	if (fd < 0)
		return 0; /* who needs it says what is wrong with it */
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return err_set(e, -ENOMEM, "'%s': %s", path, err_name(-ENOMEM));
	}
	while (r == 0 && (entry = readdir(d)))
		if (is_link(fd, entry))
			r = err_set(e, -ELOOP,
				    "'%s%s%s' is a symbolic link, and none is followed below a "
				    "pool: move what it points to there, or name its place in %s",
				    path, below[0] ? "/" : "", entry->d_name, POOL_CONF_NAME);
	(void)closedir(d); /* it was only read */
	return r;
}

/*
 * The engine opens its files without following links; what RocksDB and the `file:` store open by
 * themselves, and directories on the way, are looked at here.
 */
static int refuse_links(const char *dir, struct err *e)
{
	static const char *const below[] = { "", "meta", "cache", "objects" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(below) && r == 0; i++)
		r = refuse_links_in(dir, below[i], e);
	return r;
}

int pool_setup_load(const char *dir, struct pool_setup **ret_setup, struct err *e)
{
	struct config *config = malloc(sizeof(*config)); /* large */
	struct stat st;
	char *path = NULL;
	int r = 0;

	if (!config || asprintf(&path, "%s/%s", dir, POOL_CONF_NAME) < 0) {
		free(config);
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	}
	if (stat(dir, &st) < 0)
		r = err_set(e, -errno, "'%s': %s", dir, err_name(-errno));
	else if (!S_ISDIR(st.st_mode))
		r = err_set(e, -ENOTDIR, "'%s' is not a directory, so not a pool", dir);
	else if (pool_setup_is_restoring(dir))
		r = err_set(e, -EUCLEAN,
			    "the restore of '%s' did not come to its end: 'vpool restore' it again",
			    dir);
	else if (!pool_setup_is_pool(dir))
		r = err_set(e, -ENOENT, "'%s' holds no pool", dir);
	if (r == 0)
		r = refuse_links(dir, e);
	if (r == 0) {
		r = config_load(path, config, e);
		/* Without it nobody knows where cache and backend are; defaults could be wrong. */
		if (r == -ENOENT)
			(void)err_set(e, r,
				      "'%s' is missing: put it back, or an empty file if all "
				      "was at its default",
				      path);
	}
	if (r == 0)
		r = pool_setup_new(dir, config, ret_setup, e);
	free(path);
	free(config);
	return r;
}

/* --- opening ----------------------------------------------------------------------------------- */

int pool_setup_tell_busy(const char *dir, struct err *e)
{
	struct target t = { 0 };
	pid_t pid;

	if (control_find_daemon(dir, &pid) < 0)
		return err_set(e, -EBUSY, "'%s' is in use by another process", dir);
	if (target_find(dir, &t, NULL) == 0 && t.mountpoint)
		(void)err_set(e, -EBUSY, "'%s' is mounted at '%s' by process %d", dir, t.mountpoint,
			      (int)pid);
	else
		(void)err_set(e, -EBUSY, "'%s' is in use by process %d", dir, (int)pid);
	target_done(&t);
	return -EBUSY;
}

STATIC_ASSERT(CONFIG_TRASH_OFF == (int)NS_TRASH_OFF &&
		      CONFIG_TRASH_SNAPSHOTS == (int)NS_TRASH_SNAPSHOTS &&
		      CONFIG_TRASH_ALL == (int)NS_TRASH_ALL,
	      "one is cast to the other");

int pool_setup_open(const struct pool_setup *s, struct pool **ret_pool, struct ns **ret_ns,
		    struct err *e)
{
	struct ns_options no;
	struct pool *pool;
	pid_t pid;
	int r;

	r = pool_open(env_posix(), &s->options, &pool, e);
	if (r == -EBUSY && control_find_daemon(s->dir, &pid) == 0)
		return pool_setup_tell_busy(s->dir, e);
	if (r < 0)
		return r;
	ns_options_default(&no);
	no.disk_patterns = s->config.pool.disk_patterns;
	no.disk_threshold_bytes = s->config.pool.disk_threshold_bytes;
	no.trash = (enum ns_trash_policy)s->config.pool.trash;
	no.resumed = s->resumed;
	r = ns_open(env_posix(), pool, &no, ret_ns, e);
	if (r < 0) {
		struct err closing = { 0 };

		r = err_wrap(e, r, "names of '%s'", s->dir);
		if (pool_close(pool, &closing) < 0) /* the first error is the one to tell */
			log_warning("volume: closing after a failed start: %s", closing.message);
		return r;
	}
	*ret_pool = pool;
	return 0;
}

int pool_setup_close(struct pool *pool, struct ns *ns, struct err *e)
{
	if (ns)
		ns_close(ns);
	return pool_close(pool, e);
}
