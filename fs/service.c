#include "fs/service.h"

#include "common/log.h"
#include "common/thread.h"
#include "common/units.h"
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/fuse_session.h"
#include "fs/holder.h"
#include "fs/json_out.h"
#include "fs/reload.h"
#include "fs/restart.h"
#include "fs/scheduler.h"
#include "fs/service_impl.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Files are counted by walking the tree, so not for each of many questions. */
#define COUNT_AGE_NS (5 * NS_PER_SEC)
/* Of the capacity: from here on status tells what the trash holds of it. */
#define NEARLY_FULL_PERCENT 90u
/* Workers that are left for quick questions while others wait for uploads. */
#define QUICK_WORKERS 2u

#define HINT_DIRTY                                                                                 \
	"nothing is lost: it is safe on this machine and uploaded when the backend answers again"

/* What may still be asked. */
enum phase { PHASE_SERVING, PHASE_UNMOUNTED, PHASE_CLOSED };

struct service {
	struct service_options o;
	int end_fd; /* an eventfd: readable once last_words is there */

	struct rwlock gate; /* read: a request uses pool or namespace; guards phase */
	enum phase phase;

	struct mutex holder_lock; /* a question to the holder and its answer; leaf */

	struct mutex lock;    /* leaf; guards all below */
	unsigned int waiting; /* requests that may take long */
	bool leave_upload;
	bool upload_failed;
	char upload_why[ERR_MESSAGE_BYTES];
	uint64_t left_dirty_bytes;
	json_t *last_words;
	uint64_t counted_ns; /* 0: never */
	struct file_counts {
		uint64_t disks, files, templates;
	} counts;
	json_t *trash; /* its summary */
};

json_t *service_no_memory(void)
{
	return json_out_error(err_name(-ENOMEM), CLI_FAILED, NULL);
}

json_t *service_failed(int code, const struct err *e, const char *hint)
{
	return json_out_error(e->message[0] ? e->message : err_name(code), (int)cli_exit_of(code),
			      hint);
}

json_t *service_read_only(void)
{
	return json_out_error("the pool is mounted read-only", CLI_FAILED, NULL);
}

/* --- status ------------------------------------------------------------------------------------ */

static int count_file(void *arg, const struct ns_file *file)
{
	struct file_counts *counts = arg;

	counts->disks += file->attr.class == OBJECT_DISK;
	counts->files += file->attr.class != OBJECT_DISK;
	counts->templates += file->attr.template;
	return 0;
}

/* *ret_trash is the caller's; NULL: no memory. */
static void count_files(struct service *s, struct file_counts *ret_counts, json_t **ret_trash)
{
	struct file_counts counts = { 0 };
	json_t *trash = NULL;
	uint64_t now_ns = clock_mono_ns();
	struct err e = { 0 };
	bool fresh;

	mutex_lock(&s->lock);
	fresh = s->phase != PHASE_SERVING ||
		(s->counted_ns != 0 && now_ns - s->counted_ns < COUNT_AGE_NS);
	mutex_unlock(&s->lock);
	if (!fresh && ns_for_each_file(s->o.ns, NS_ROOT_INO, count_file, &counts, &e) < 0)
		log_warning("control: counting files: %s", e.message);
	if (!fresh)
		trash = service_trash_summary(&s->o);
	GUARD(&s->lock);
	if (!fresh) {
		json_decref(s->trash);
		s->trash = trash;
		s->counts = counts;
		s->counted_ns = clock_mono_ns();
	}
	*ret_counts = s->counts;
	*ret_trash = json_copy(s->trash);
}

/* Whether what is in the trash is in the way. */
static bool trash_is_wanted(const struct pool_status *st, const struct pool_description *d)
{
	return d->flash_full || st->state == POOL_BLOCKED ||
	       (st->capacity_bytes > 0 &&
		st->used_bytes >= st->capacity_bytes / 100 * NEARLY_FULL_PERCENT);
}

/* The engine's state, and what it means for who uses the mount. */
static const char *state_of(const struct service *s, const struct pool_status *st,
			    const struct pool_description *d, char reason[256])
{
	char dirty[CLI_SIZE_BYTES];

	(void)snprintf(reason, 256, "%s%s", st->reason, restart_outlook(s->o.restart));
	if (st->state == POOL_BLOCKED)
		return "blocked";
	if (d->flash_full) {
		(void)snprintf(reason, 256,
			       "the cache directory is full: writes wait until there is room");
		return "blocked";
	}
	if (st->state == POOL_DEGRADED)
		return "degraded";
	if (d->fenced) {
		(void)snprintf(reason, 256,
			       "another daemon took over the backend: nothing is uploaded, local "
			       "data is kept");
		return "degraded";
	}
	if (d->backend_failed_ns) {
		(void)snprintf(reason, 256, "the backend does not answer: %s wait for it",
			       cli_size(st->dirty_bytes, dirty));
		return "degraded";
	}
	return "ok";
}

static int set_string(json_t *document, const char *key, const char *text)
{
	return json_out_name(document, key, text, strlen(text));
}

/* document["schedule"]: how many disks have one, when the next is due (null: none is), what failed. */
static int set_schedule(struct service *s, json_t *document)
{
	struct scheduler_status st = { .next_seconds = SCHEDULE_NEVER };
	json_t *schedule = json_object();
	int r = schedule ? 0 : -1;

	if (s->o.scheduler)
		scheduler_status(s->o.scheduler, &st);
	r |= json_object_set_new(document, "schedule", schedule);
	r |= json_out_u64(schedule, "disks", st.disks);
	r |= json_out_u64(schedule, "made", st.made);
	r |= json_out_u64(schedule, "deleted", st.deleted);
	r |= json_object_set_new(schedule, "next_snapshot",
				 st.next_seconds == SCHEDULE_NEVER ?
					 json_null() :
					 json_real((double)st.next_seconds));
	r |= set_string(schedule, "trouble", st.trouble);
	return r;
}

static int fill_status(struct service *s, json_t *document, const struct pool_status *st,
		       const struct pool_description *d)
{
	char reason[256];
	const char *state = state_of(s, st, d, reason);
	json_t *cache = json_object(), *upload = json_object(), *backend = json_object();
	json_t *trash = NULL;
	struct file_counts counts;
	char program[4096];
	ssize_t n;
	int r = 0;

	count_files(s, &counts, &trash);
	if (trash && trash_is_wanted(st, d))
		r |= set_string(trash, "hint",
				"space is running out: 'vpool trash empty' gives this back");
	r |= json_object_set_new(document, "trash", trash ? trash : json_null());
	r |= json_object_set_new(document, "cache", cache);
	r |= json_object_set_new(document, "upload", upload);
	r |= json_object_set_new(document, "backend", backend);
	r |= set_string(document, "state", state);
	r |= set_string(document, "reason", reason);
	r |= set_string(document, "pool", s->o.pool_dir);
	r |= s->o.mountpoint ? set_string(document, "mountpoint", s->o.mountpoint) :
			       json_object_set_new(document, "mountpoint", json_null());
	r |= json_object_set_new(document, "read_only", json_boolean(s->o.read_only));
	r |= set_string(document, "uuid", d->uuid);
	/* Whom to send a signal: it is passed on. */
	r |= json_out_u64(document, "pid", (uint64_t)(s->o.holder ? s->o.holder : getpid()));
	r |= json_out_u64(document, "worker_pid", (uint64_t)getpid());
	r |= json_out_u64(document, "workers", s->o.workers);
	r |= json_out_u64(document, "restarts", s->o.restarts);
	n = readlink("/proc/self/exe", program, sizeof(program));
	r |= json_out_name(document, "program", program, n > 0 ? (size_t)n : 0);
	r |= json_out_u64(document, "epoch", st->epoch);
	r |= json_out_u64(document, "root", st->root);
	r |= json_out_u64(document, "dirty_bytes", st->dirty_bytes);
	r |= json_out_u64(document, "used_bytes", st->used_bytes);
	r |= json_out_u64(document, "capacity_bytes", st->capacity_bytes);
	r |= json_out_u64(document, "disks", counts.disks);
	r |= json_out_u64(document, "files", counts.files);
	r |= json_out_u64(document, "templates", counts.templates);
	r |= json_out_u64(document, "scos", st->scos);
	r |= json_out_u64(document, "waiting_requests", st->parked);
	r |= json_out_u64(cache, "size_bytes", st->flash_size_bytes);
	r |= json_out_u64(cache, "used_bytes", st->flash_used_bytes);
	r |= json_out_u64(upload, "queued_scos", st->queued_scos);
	r |= json_out_u64(upload, "queued_bytes", d->queued_bytes);
	r |= set_schedule(s, document);
	r |= json_object_set_new(document, "scrub", service_scrub_status(&s->o));
	r |= set_string(backend, "url", d->backend_url);
	r |= set_string(backend, "state",
			d->fenced	     ? "taken over" :
			d->backend_failed_ns ? "failing" :
					       "ok");
	if (d->backend_failed_ns)
		r |= json_object_set_new(backend, "failing_since",
					 json_real((double)d->backend_failed_ns /
						   (double)NS_PER_SEC));
	return r ? -ENOMEM : 0;
}

static json_t *answer_status(struct service *s)
{
	json_t *document = json_object();
	struct pool_description d;
	struct pool_status st;

	pool_status(s->o.pool, &st);
	pool_describe(s->o.pool, &d);
	/* The engine counts what is dirty now and then, what waits for upload is known at once. */
	st.dirty_bytes = max_u64(st.dirty_bytes, d.queued_bytes);
	if (!document || fill_status(s, document, &st, &d) < 0) {
		json_decref(document);
		return service_no_memory();
	}
	return document;
}

/* --- list, info -------------------------------------------------------------------------------- */

/* document["parent"] and document["parent_snapshot"] of a clone, else null. */
static int set_parent(const struct service_options *o, json_t *document, uint64_t ino)
{
	char name[SNAPSHOT_NAME_MAX + 1] = "";
	AUTO(buf_done) struct buf path;
	uint64_t parent = 0;
	struct object *object;
	struct err e;
	int r = 0;

	buf_init(&path, 1u << 20);
	if (object_open(o->pool, ino, &object, &e) == 0) {
		if (object_parent(object, &parent, name, &e) < 0 ||
		    ns_path_of(o->ns, parent, &path, &e) < 0)
			parent = 0;
		object_close(object);
	}
	r |= parent ? json_out_name(document, "parent", (const char *)path.data, path.len_bytes) :
		      json_object_set_new(document, "parent", json_null());
	r |= parent && name[0] ? json_out_name(document, "parent_snapshot", name, strlen(name)) :
				 json_object_set_new(document, "parent_snapshot", json_null());
	return r ? -ENOMEM : 0;
}

json_t *service_file_document(const struct service_options *o, const char *path, size_t path_bytes,
			      const struct ns_attr *attr)
{
	json_t *document = json_object();
	int r = document ? json_out_name(document, "path", path, path_bytes) : -ENOMEM;

	if (r == 0) {
		r |= json_out_u64(document, "size_bytes", attr->size_bytes);
		r |= json_out_u64(document, "allocated_bytes", attr->allocated_bytes);
		r |= json_out_u64(document, "snapshots", snapshot_count(o->pool, attr->ino));
		r |= json_object_set_new(document, "template", json_boolean(attr->template));
		r |= set_parent(o, document, attr->ino);
	}
	if (r) {
		json_decref(document);
		return NULL;
	}
	return document;
}

struct listing {
	const struct service_options *o;
	json_t *disks;
};

static int list_file(void *arg, const struct ns_file *file)
{
	const struct listing *l = arg;
	json_t *document;

	if (file->attr.class != OBJECT_DISK)
		return 0;
	document = service_file_document(l->o, file->path, file->path_bytes, &file->attr);
	return json_array_append_new(l->disks, document) < 0 ? -ENOMEM : 0;
}

static json_t *answer_list(struct service *s)
{
	struct listing l = { .o = &s->o, .disks = json_array() };
	struct err e = { 0 };
	int r;

	if (!l.disks)
		return service_no_memory();
	r = ns_for_each_file(s->o.ns, NS_ROOT_INO, list_file, &l, &e);
	if (r < 0) {
		json_decref(l.disks);
		return service_failed(r, &e, NULL);
	}
	return json_pack("{s:o}", "disks", l.disks);
}

static int fill_info(json_t *document, const struct ns_attr *attr, const struct object_stat *st)
{
	int r = 0;

	r |= json_object_set_new(document, "class",
				 json_string(st->class == OBJECT_DISK ? "disk" : "file"));
	r |= json_out_u64(document, "inode", attr->ino);
	r |= json_out_u64(document, "links", attr->nlink);
	r |= json_object_set_new(document, "modified",
				 json_real((double)attr->mtime_ns / (double)NS_PER_SEC));
	r |= json_object_set_new(document, "created",
				 json_real((double)attr->crtime_ns / (double)NS_PER_SEC));
	r |= json_out_u64(document, "stream", st->stream);
	r |= json_out_u64(document, "log_position", st->last_lsn);
	return r ? -ENOMEM : 0;
}

static json_t *answer_info(struct service *s, const json_t *request)
{
	uint64_t ino = cli_json_u64(request, "ino");
	AUTO(buf_done) struct buf path;
	json_t *document = NULL;
	struct object *object;
	struct object_stat st;
	struct ns_attr attr;
	struct err e = { 0 };
	int r;

	buf_init(&path, 1u << 20);
	r = ns_getattr(s->o.ns, ino, &attr, &e);
	if (r == 0 && ns_is_view(ino))
		return json_out_error("it is a snapshot, not a disk", CLI_FAILED,
				      "'vpool snapshot info' tells about it");
	if (r == 0 && !S_ISREG(attr.mode))
		r = err_set(&e, -EINVAL, "it is not a regular file, so not a disk");
	if (r == 0)
		r = ns_path_of(s->o.ns, ino, &path, &e);
	if (r == 0)
		r = ns_object_get(s->o.ns, ino, &object, &e);
	if (r < 0)
		return service_failed(r == -ESTALE ? -ENOENT : r, &e, NULL);
	object_stat(object, &st);
	ns_object_put(s->o.ns, ino);
	document = service_file_document(&s->o, (const char *)path.data, path.len_bytes, &attr);
	r = document ? fill_info(document, &attr, &st) : -ENOMEM;
	if (r == 0)
		r = service_set_policy(&s->o, document, (const char *)path.data, ino, &e);
	if (r < 0) {
		json_decref(document);
		return service_failed(r, &e, NULL);
	}
	return document;
}

/* --- sync -------------------------------------------------------------------------------------- */

static bool wait_begin(struct service *s)
{
	GUARD(&s->lock);
	if (s->waiting + QUICK_WORKERS >= CONTROL_WORKERS)
		return false;
	s->waiting++;
	return true;
}

static void wait_end(struct service *s)
{
	GUARD(&s->lock);
	s->waiting--;
}

static json_t *too_many(void)
{
	return json_out_error("too many commands wait for this pool already", CLI_BUSY,
			      "try again when one of them is done");
}

static json_t *answer_sync(struct service *s)
{
	struct pool_status st;
	struct err e = { 0 };
	int r;

	if (!wait_begin(s))
		return too_many();
	r = pool_flush(s->o.pool, &e);
	if (r == 0)
		r = pool_sync_backend(s->o.pool, &e);
	wait_end(s);
	if (r < 0)
		return service_failed(r, &e, HINT_DIRTY);
	pool_status(s->o.pool, &st);
	return json_pack("{s:I}", "root", (json_int_t)st.root);
}

/* --- settings ---------------------------------------------------------------------------------- */

static json_t *answer_reload(struct service *s)
{
	json_t *changes = NULL;
	struct err e = { 0 };
	int r;

	if (!s->o.reload)
		return json_out_error("the pool is not mounted", CLI_NOT_FOUND,
				      "the next mount reads its settings anyway");
	r = reload_run(s->o.reload, &changes, &e);
	if (r < 0)
		return service_failed(r, &e, "nothing was changed");
	return json_pack("{s:o}", "changes", changes);
}

/* --- another program --------------------------------------------------------------------------- */

/* What is open here is open there: the holder starts that program when this process ends. */
static json_t *answer_upgrade(struct service *s, const json_t *request)
{
	struct err e = { 0 };
	int r;

	if (!s->o.holder || !s->o.session)
		return json_out_error("this daemon has no holder that would start another one",
				      CLI_FAILED, "unmount and mount");
	/* Now, while requests are served: the less is left to do when none are. */
	r = pool_checkpoint(s->o.pool, &e);
	if (r < 0)
		return service_failed(r, &e, NULL);
	mutex_lock(&s->holder_lock);
	r = holder_set_program(cli_json_string(request, "program"), &e);
	mutex_unlock(&s->holder_lock);
	if (r < 0)
		return service_failed(r, &e, "the daemon goes on as it is");
	log_info("mount: handing over: program='%s'", cli_json_string(request, "program"));
	fs_session_hand_over(s->o.session);
	return json_pack("{s:I}", "worker_pid", (json_int_t)getpid());
}

/* --- the end ----------------------------------------------------------------------------------- */

static json_t *answer_leave(struct service *s, const json_t *request)
{
	bool cancel = json_is_true(json_object_get(request, "cancel"));
	const char *mountpoint = cli_json_string(request, "mountpoint");

	/* A pool can be mounted elsewhere than at the dead mount that somebody unmounts. */
	if (!s->o.mountpoint || strcmp(mountpoint, s->o.mountpoint) != 0)
		return json_out_error("the pool is mounted at another place", CLI_NOT_FOUND, NULL);
	GUARD(&s->lock);
	s->leave_upload = !cancel && json_is_true(json_object_get(request, "upload"));
	return json_pack("{s:I}", "pid", (json_int_t)(s->o.holder ? s->o.holder : getpid()));
}

/* Wait for the last words; no document when the peer gave up before. */
static json_t *answer_end(struct service *s, int fd)
{
	struct pollfd fds[2] = { { .fd = s->end_fd, .events = POLLIN },
				 { .fd = fd, .events = POLLRDHUP } };
	json_t *words;

	if (!wait_begin(s))
		return too_many();
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		continue;
	wait_end(s);
	if (!fds[0].revents)
		return NULL;
	GUARD(&s->lock);
	words = json_incref(s->last_words);
	return words ? words : service_no_memory();
}

void service_unmounted(struct service *s)
{
	rwlock_write_lock(&s->gate);
	s->phase = PHASE_UNMOUNTED;
	rwlock_write_unlock(&s->gate);
}

bool service_uploads_at_end(struct service *s)
{
	GUARD(&s->lock);
	return s->leave_upload;
}

void service_upload_at_end(struct service *s)
{
	struct pool_status st;
	struct err e = { 0 };
	int r;

	if (!service_uploads_at_end(s)) {
		pool_status(s->o.pool, &st);
		if (st.dirty_bytes > 0)
			log_info("mount: what is not on the backend waits for the next mount: "
				 "dirty_bytes=%" PRIu64,
				 st.dirty_bytes);
		return;
	}
	r = pool_sync_backend(s->o.pool, &e);
	if (r == 0)
		return;
	pool_status(s->o.pool, &st);
	log_warning("mount: not all is on the backend, it waits for the next mount: "
		    "dirty_bytes=%" PRIu64 ": %s",
		    st.dirty_bytes, e.message);
	GUARD(&s->lock);
	s->upload_failed = true;
	s->left_dirty_bytes = st.dirty_bytes;
	memcpy(s->upload_why, e.message, sizeof(s->upload_why));
}

void service_closing(struct service *s)
{
	rwlock_write_lock(&s->gate);
	s->phase = PHASE_CLOSED;
	rwlock_write_unlock(&s->gate);
}

void service_last_words(struct service *s, int r, const struct err *e)
{
	const uint64_t one = 1;
	json_t *words;

	mutex_lock(&s->lock);
	if (r < 0)
		words = service_failed(r, e, "the next mount recovers it");
	else
		words = json_pack("{s:b, s:I}", "uploaded", s->leave_upload && !s->upload_failed,
				  "dirty_bytes", (json_int_t)s->left_dirty_bytes);
	if (words && r == 0)
		(void)set_string(words, "reason", s->upload_why); /* without it if no memory */
	json_decref(s->last_words);
	s->last_words = words;
	mutex_unlock(&s->lock);
	ASSERT(write(s->end_fd, &one, sizeof(one)) == sizeof(one));
}

/* --- all verbs --------------------------------------------------------------------------------- */

static json_t *answer_verb(struct service *s, const char *verb, const json_t *request)
{
	json_t *metrics;

	if (strcmp(verb, "status") == 0)
		return answer_status(s);
	if (strcmp(verb, "leave") == 0)
		return answer_leave(s, request);
	if (strcmp(verb, "stats") == 0) {
		metrics = json_out_metrics(pool_metrics(s->o.pool));
		return metrics ? metrics : service_no_memory();
	}
	if (s->phase != PHASE_SERVING)
		return json_out_error("the pool is being unmounted", CLI_BUSY, NULL);
	if (strcmp(verb, "list") == 0)
		return answer_list(s);
	if (strcmp(verb, "info") == 0)
		return answer_info(s, request);
	if (strcmp(verb, "sync") == 0)
		return answer_sync(s);
	if (strcmp(verb, "snapshot") == 0)
		return service_snapshot(&s->o, request);
	if (strcmp(verb, "scrub") == 0)
		return service_scrub(&s->o, request);
	if (strcmp(verb, "clone") == 0)
		return service_clone(&s->o, request);
	if (strcmp(verb, "template") == 0)
		return service_template(&s->o, request);
	if (strcmp(verb, "trash") == 0)
		return service_trash(&s->o, request);
	if (strcmp(verb, "reload") == 0)
		return answer_reload(s);
	if (strcmp(verb, "upgrade") == 0)
		return answer_upgrade(s, request);
	return json_out_error("the daemon does not know this request", CLI_FAILED,
			      "daemon and command may be of different versions");
}

json_t *service_answer(void *service, const json_t *request, int fd)
{
	const char *verb = cli_json_string(request, "verb");
	struct service *s = service;
	json_t *answer;

	if (strcmp(verb, "end") == 0)
		return answer_end(s, fd);
	rwlock_read_lock(&s->gate);
	if (s->phase == PHASE_CLOSED)
		answer = json_out_error("the pool is being unmounted", CLI_BUSY, NULL);
	else
		answer = answer_verb(s, verb, request);
	rwlock_read_unlock(&s->gate);
	return answer;
}

int service_new(const struct service_options *options, struct service **ret_service, struct err *e)
{
	struct service *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	s->o = *options;
	s->end_fd = eventfd(0, EFD_CLOEXEC);
	if (s->end_fd < 0) {
		int r = err_set(e, -errno, "eventfd: %s", err_name(-errno));

		free(s);
		return r;
	}
	rwlock_init(&s->gate, 0);
	mutex_init(&s->lock, 0);
	mutex_init(&s->holder_lock, 0);
	*ret_service = s;
	return 0;
}

void service_free(struct service *s)
{
	if (!s)
		return;
	(void)close(s->end_fd);
	rwlock_done(&s->gate);
	mutex_done(&s->lock);
	mutex_done(&s->holder_lock);
	json_decref(s->last_words);
	json_decref(s->trash);
	free(s);
}
