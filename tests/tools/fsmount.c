/*
 * fsmount - mount a pool in the foreground with little around it: for tests of the FUSE face.
 *
 *	tool_fsmount POOL MOUNTPOINT [SETTING=VALUE]...
 *
 * Makes the pool if there is none. Prints "ready" when the mount answers, stops on SIGTERM, SIGINT
 * and unmounting. Settings are sizes: sco, ring, cache, dirty, reserve, threshold, capacity;
 * numbers: threads, parked (buffers), places (of the engine for those that wait), background; names:
 * patterns, backend (a URL); 0 or 1: ro, debug, check (prove the namespace at the end).
 */
#include "common/env.h"
#include "common/log.h"
#include "common/units.h"
#include "fs/fuse_session.h"
#include "fs/namespace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fs_session *session;

static void on_signal(int number)
{
	(void)number;
	fs_session_stop(session);
}

static int fail(const char *what, int r, const struct err *e)
{
	(void)fprintf(stderr, "fsmount: %s: %s\n", what,
		      e->message[0] != '\0' ? e->message : err_name(r));
	return 1;
}

/* Of a pool on a store: so often all is uploaded, so that files of flash can go. */
#define STORE_UPLOAD_NS UINT64_C(2000000000)

struct settings {
	struct pool_options pool;
	struct ns_options ns;
	struct fs_mount_options mount;
	bool check;
	char *cache_path;
};

static int set_one(struct settings *s, const char *text)
{
	const char *value = strchr(text, '=');
	size_t name_bytes = value ? (size_t)(value - text) : 0;
	uint64_t n = 0;
	const struct {
		const char *name;
		uint64_t *size;
		unsigned int *number;
		bool *flag;
	} known[] = {
		{ "sco", &s->pool.sco_bytes, NULL, NULL },
		{ "ring", &s->pool.ring_bytes, NULL, NULL },
		{ "cache", &s->pool.cache[0].size_bytes, NULL, NULL },
		{ "dirty", &s->pool.dirty_limit_bytes, NULL, NULL },
		{ "reserve", &s->pool.reserve_bytes, NULL, NULL },
		{ "threshold", &s->ns.disk_threshold_bytes, NULL, NULL },
		{ "capacity", &s->pool.capacity_bytes, NULL, NULL },
		{ "threads", NULL, &s->mount.threads, NULL },
		{ "parked", NULL, &s->mount.parked_max, NULL },
		{ "background", NULL, &s->mount.max_background, NULL },
		{ "places", NULL, &s->pool.parked_max, NULL },
		{ "ro", NULL, NULL, &s->mount.read_only },
		{ "debug", NULL, NULL, &s->mount.debug },
		{ "check", NULL, NULL, &s->check },
	};

	if (!value)
		return -EINVAL;
	value++;
	if (name_bytes == strlen("patterns") && strncmp(text, "patterns", name_bytes) == 0) {
		s->ns.disk_patterns = value;
		return 0;
	}
	if (name_bytes == strlen("backend") && strncmp(text, "backend", name_bytes) == 0) {
		s->pool.backend_url = value;
		s->pool.upload_interval_ns = STORE_UPLOAD_NS;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strlen(known[i].name) != name_bytes ||
		    strncmp(known[i].name, text, name_bytes) != 0)
			continue;
		if (size_parse(value, &n) < 0)
			return -EINVAL;
		if (known[i].size)
			*known[i].size = n;
		else if (known[i].number)
			*known[i].number = (unsigned int)n;
		else
			*known[i].flag = n != 0;
		return 0;
	}
	return -EINVAL;
}

/* What a pool on a store wrote, and had to fetch. */
struct traffic {
	uint64_t written_bytes, fetched_bytes;
};

static int add_traffic(void *arg, const struct metric_value *value)
{
	struct traffic *t = arg;

	if (strcmp(value->group, "volume") == 0 && strcmp(value->def->name, "write_bytes") == 0)
		t->written_bytes = value->counter;
	if (strcmp(value->group, "cache") == 0 && strcmp(value->def->name, "fetch_bytes") == 0)
		t->fetched_bytes = value->counter;
	return 0;
}

static void tell_traffic(struct pool *pool)
{
	struct traffic t = { 0 };

	(void)metrics_for_each(pool_metrics(pool), add_traffic, &t);
	(void)fprintf(stderr, "fsmount: %" PRIu64 " bytes written, %" PRIu64 " bytes fetched\n",
		      t.written_bytes, t.fetched_bytes);
}

static void on_problem(void *arg, const struct ns_problem *problem)
{
	(void)arg;
	(void)fprintf(stderr, "fsmount: check: inode %" PRIu64 ": %s\n", problem->ino,
		      problem->what);
}

static int check_names(struct ns *ns)
{
	struct ns_check_result result;
	struct err e = { 0 };
	int r = ns_check(ns, on_problem, NULL, &result, &e);

	if (r < 0)
		return fail("check", r, &e);
	return result.errors > 0 ? 1 : 0;
}

static void watch_ready(void *arg)
{
	struct stat st;

	if (stat(arg, &st) == 0) {
		(void)printf("ready\n");
		(void)fflush(stdout);
	}
}

static int serve(struct settings *s, struct pool *pool, struct ns *ns)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct thread *watcher;
	struct err e = { 0 };
	char *path = strdup(s->mount.mountpoint);
	int r = path ? fs_session_open(ns, pool, &s->mount, &session, &e) : -ENOMEM;

	if (r < 0) {
		free(path);
		return fail("mount", r, &e);
	}
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGINT, &action, NULL);
	r = thread_start("watcher", watch_ready, path, &watcher);
	if (r == 0) {
		r = fs_session_run(session, &e);
		thread_join(watcher);
	}
	(void)fprintf(stderr, "fsmount: %" PRIu64 " requests, %" PRIu64 " writes were parked\n",
		      counter_get(&fs_session_metrics(session)->requests),
		      counter_get(&fs_session_metrics(session)->parked_writes));
	fs_session_close(session);
	free(path);
	return r < 0 ? fail("run", r, &e) : 0;
}

static int with_pool(struct settings *s)
{
	struct pool *pool;
	struct ns *ns;
	struct err e = { 0 };
	int r = pool_create(env_posix(), &s->pool, &e), rc = 0;

	if (r < 0 && r != -EEXIST)
		return fail("create", r, &e);
	r = pool_open(env_posix(), &s->pool, &pool, &e);
	if (r < 0)
		return fail("open", r, &e);
	r = ns_open(env_posix(), pool, &s->ns, &ns, &e);
	if (r < 0) {
		rc = fail("names", r, &e);
		return pool_close(pool, NULL) < 0 ? 1 : rc;
	}
	rc = serve(s, pool, ns);
	if (s->check)
		rc |= check_names(ns);
	ns_close(ns);
	if (s->pool.backend_url)
		tell_traffic(pool);
	r = pool_close(pool, &e);
	return r < 0 ? fail("close", r, &e) : rc;
}

/* A cache directory of a stated size. */
static int make_cache(struct settings *s)
{
	if (asprintf(&s->cache_path, "%s/cache", s->pool.dir) < 0)
		return -ENOMEM;
	(void)mkdir(s->cache_path, 0700);
	s->pool.cache[0].path = s->cache_path;
	s->pool.cache_count = 1;
	return 0;
}

int main(int argc, char **argv)
{
	struct settings s = { 0 };
	char *source;
	int rc;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: fsmount POOL MOUNTPOINT [SETTING=VALUE]...\n");
		return 2;
	}
	(void)mkdir(argv[1], 0700);
	pool_options_default(&s.pool, argv[1]);
	s.pool.shm_dir = "";
	s.pool.cache_count = 0;
	s.pool.sco_bytes = 4 * MIB;
	s.pool.ring_bytes = 32 * MIB;
	ns_options_default(&s.ns);
	s.mount.mountpoint = argv[2];
	source = realpath(argv[1], NULL);
	s.mount.source = source;
	if (!s.mount.source) {
		(void)fprintf(stderr, "fsmount: no pool directory '%s'\n", argv[1]);
		return 1;
	}
	for (int i = 3; i < argc; i++)
		if (set_one(&s, argv[i]) < 0) {
			(void)fprintf(stderr, "fsmount: bad setting '%s'\n", argv[i]);
			return 2;
		}
	if (s.pool.cache[0].size_bytes > 0 && make_cache(&s) < 0) {
		(void)fprintf(stderr, "fsmount: no memory\n");
		return 1;
	}
	rc = with_pool(&s);
	free(s.cache_path);
	free(source);
	log_close();
	return rc;
}
