/* Snapshots and clones, as the control socket is asked for them. */
#include "fs/service_impl.h"

#include "common/units.h"
#include "fs/cli.h"
#include "fs/fuse_session.h"
#include "fs/json_out.h"
#include "fs/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Names that are tried for a snapshot that got none: of one second. */
#define DEFAULT_NAMES_MAX 10000u
#define PATH_BYTES_MAX	  (1u << 20)

#define HINT_FORCE_OPEN                                                                            \
	"close it, shut the virtual machine down; or --force: whoever has it open finds other data"

#define HINT_FORCE_TEMPLATE                                                                        \
	"close it, shut the virtual machine down; or --force: whoever writes gets an error"

/* A regular file that a request is about. */
struct file {
	uint64_t ino;
	struct object *object;
};

static int open_file(const struct service_options *o, uint64_t ino, struct file *ret_file,
		     struct err *e)
{
	struct file f = { .ino = ino };
	struct ns_attr attr;
	int r = ns_getattr(o->ns, ino, &attr, e);

	if (r == -ESTALE)
		return err_set(e, -ENOENT, "no such file");
	if (r < 0)
		return r;
	if (ns_is_view(ino))
		return err_set(e, -EROFS, "snapshots are shown there; name the disk itself");
	if (!S_ISREG(attr.mode))
		return err_set(e, -EINVAL, "it is not a regular file, so not a disk");
	r = ns_object_get(o->ns, ino, &f.object, e);
	if (r == 0)
		*ret_file = f;
	return r;
}

static void close_file(const struct service_options *o, struct file *f)
{
	if (f->object)
		ns_object_put(o->ns, f->ino);
	f->object = NULL;
}

/* --- documents --------------------------------------------------------------------------------- */

/* document["path"]. Errors: -ENOMEM; it has no name any more. */
static int set_path(const struct service_options *o, json_t *document, uint64_t ino, struct err *e)
{
	AUTO(buf_done) struct buf path;
	int r;

	buf_init(&path, PATH_BYTES_MAX);
	r = ns_path_of(o->ns, ino, &path, e);
	if (r == 0 && json_out_name(document, "path", (const char *)path.data, path.len_bytes) < 0)
		r = err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	return r;
}

static int fill(json_t *document, const struct snapshot_info *info)
{
	const char *kind;
	int64_t seconds;
	int r = 0;

	r |= json_out_name(document, "name", info->name, strlen(info->name));
	r |= json_object_set_new(document, "created",
				 json_real((double)info->created_ns / (double)NS_PER_SEC));
	r |= json_out_u64(document, "size_bytes", info->size_bytes);
	r |= json_out_u64(document, "allocated_bytes", info->allocated_bytes);
	r |= json_object_set_new(document, "on_backend", json_boolean(info->on_backend));
	r |= json_object_set_new(document, "sticky", json_boolean(info->sticky));
	r |= json_object_set_new(document, "schedule",
				 schedule_moment(info->name, &seconds, &kind) ? json_string(kind) :
										json_null());
	r |= json_out_name(document, "comment", info->comment, strlen(info->comment));
	r |= json_out_u64(document, "clones", info->clones);
	r |= json_out_u64(document, "number", info->number);
	return r ? -ENOMEM : 0;
}

static json_t *document_of(const struct snapshot_info *info)
{
	json_t *document = json_object();

	if (document && fill(document, info) == 0)
		return document;
	json_decref(document);
	return NULL;
}

/* {"path", KEY: value} of a file. Owns: takes value. */
static json_t *file_answer(const struct service_options *o, uint64_t ino, const char *key,
			   json_t *value)
{
	json_t *document = json_object();
	struct err e = { 0 };
	int r = document && value ? set_path(o, document, ino, &e) : -ENOMEM;

	if (r == 0)
		r = json_object_set_new(document, key, json_incref(value)) < 0 ? -ENOMEM : 0;
	json_decref(value);
	if (r < 0) {
		json_decref(document);
		return service_failed(r, &e, NULL);
	}
	return document;
}

/* --- create ------------------------------------------------------------------------------------ */

struct group {
	struct file files[SNAPSHOT_GROUP_MAX];
	struct snapshot_wanted wanted[SNAPSHOT_GROUP_MAX];
	size_t count;
};

static bool has(const struct group *g, uint64_t ino)
{
	for (size_t n = 0; n < g->count; n++)
		if (g->files[n].ino == ino)
			return true;
	return false;
}

/* Each once, also if it was named twice. */
static int open_group(const struct service_options *o, const json_t *inos, struct group *g,
		      struct err *e)
{
	const json_t *item;
	size_t i;
	int r = json_array_size(inos) > 0 ? 0 : err_set(e, -EINVAL, "no file is named");

	json_array_foreach(inos, i, item)
	{
		uint64_t ino = (uint64_t)json_integer_value(item);

		if (r == 0 && g->count == SNAPSHOT_GROUP_MAX)
			r = err_set(e, -E2BIG, "more than %u files at once", SNAPSHOT_GROUP_MAX);
		if (r < 0)
			break;
		if (has(g, ino))
			continue;
		r = open_file(o, ino, &g->files[g->count], e);
		g->count += r == 0;
	}
	return r;
}

static int create_named(const struct service_options *o, struct group *g, const char *name,
			const json_t *request, struct err *e)
{
	for (size_t n = 0; n < g->count; n++)
		g->wanted[n] = (struct snapshot_wanted){
			.object = g->files[n].object,
			.name = name,
			.comment = json_string_value(json_object_get(request, "comment")),
			.sticky = json_is_true(json_object_get(request, "sticky")),
		};
	return snapshot_create(o->pool, g->wanted, g->count, e);
}

static int create(const struct service_options *o, struct group *g, const json_t *request,
		  char name[SNAPSHOT_NAME_MAX + 1], struct err *e)
{
	const int64_t now = time(NULL);
	int r = json_out_name_back(request, "name", name, SNAPSHOT_NAME_MAX + 1);

	if (r == 0)
		return create_named(o, g, name, request, e);
	if (r != -ENOENT)
		return err_set(e, r, "the name of the snapshot: %s", err_name(r));
	r = -EEXIST;
	for (unsigned int attempt = 0; r == -EEXIST && attempt < DEFAULT_NAMES_MAX; attempt++) {
		retention_name(now, attempt, name);
		r = create_named(o, g, name, request, e);
	}
	return r;
}

static json_t *created_document(const struct service_options *o, const struct group *g,
				const char *name)
{
	json_t *list = json_array();
	struct snapshot_info info;
	struct err e = { 0 };

	for (size_t n = 0; n < g->count && list; n++) {
		int r = snapshot_find(o->pool, g->files[n].ino, name, &info, &e);
		json_t *document;

		if (r == -ENOENT)
			continue; /* somebody was fast */
		if (r < 0) {
			json_decref(list);
			return service_failed(r, &e, NULL);
		}
		document = document_of(&info);
		snapshot_info_done(&info);
		if (document)
			(void)set_path(o, document, g->files[n].ino, &e); /* it may have none now */
		if (json_array_append_new(list, document) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list ? json_pack("{s:o}", "snapshots", list) : service_no_memory();
}

static json_t *answer_create(const struct service_options *o, const json_t *request)
{
	struct group *g = calloc(1, sizeof(*g));
	char name[SNAPSHOT_NAME_MAX + 1];
	struct err e = { 0 };
	json_t *answer;
	int r;

	if (!g)
		return service_no_memory();
	r = open_group(o, json_object_get(request, "inos"), g, &e);
	if (r == 0)
		r = create(o, g, request, name, &e);
	answer = r == 0 ? created_document(o, g, name) : service_failed(r, &e, NULL);
	for (size_t n = 0; n < g->count; n++)
		close_file(o, &g->files[n]);
	free(g);
	return answer;
}

/* --- of one file ------------------------------------------------------------------------------- */

static json_t *answer_list(const struct service_options *o, const struct file *f,
			   const json_t *request)
{
	struct snapshot_info *list;
	json_t *documents;
	struct err e = { 0 };
	size_t count;
	int r = snapshot_list(o->pool, f->ino, &list, &count, &e);

	(void)request;
	if (r < 0)
		return service_failed(r, &e, NULL);
	documents = json_array();
	for (size_t n = 0; n < count && documents; n++)
		if (json_array_append_new(documents, document_of(&list[n])) < 0) {
			json_decref(documents);
			documents = NULL;
		}
	snapshot_list_free(list, count);
	return file_answer(o, f->ino, "snapshots", documents);
}

/* The name that a request gives under a key. */
static int name_of(const json_t *request, const char *key, char name[SNAPSHOT_NAME_MAX + 1],
		   struct err *e)
{
	int r = json_out_name_back(request, key, name, SNAPSHOT_NAME_MAX + 1);

	return r < 0 ? err_set(e, r, "the name of the snapshot: %s", err_name(r)) : 0;
}

/* What a snapshot is now, with its path. */
static json_t *tell(const struct service_options *o, const struct file *f, const char *name)
{
	struct snapshot_info info;
	json_t *document;
	struct err e = { 0 };
	int r = snapshot_find(o->pool, f->ino, name, &info, &e);

	if (r < 0)
		return service_failed(r, &e, "'vpool snapshot list' tells the names");
	document = document_of(&info);
	snapshot_info_done(&info);
	if (!document)
		return service_no_memory();
	r = set_path(o, document, f->ino, &e);
	if (r == 0)
		return document;
	json_decref(document);
	return service_failed(r, &e, NULL);
}

static json_t *answer_info(const struct service_options *o, const struct file *f,
			   const json_t *request)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	struct err e = { 0 };
	int r = name_of(request, "name", name, &e);

	return r == 0 ? tell(o, f, name) : service_failed(r, &e, NULL);
}

static json_t *answer_rename(const struct service_options *o, const struct file *f,
			     const json_t *request)
{
	char name[SNAPSHOT_NAME_MAX + 1], to[SNAPSHOT_NAME_MAX + 1];
	struct err e = { 0 };
	int r = name_of(request, "name", name, &e);

	if (r == 0)
		r = name_of(request, "to", to, &e);
	if (r == 0)
		r = snapshot_rename(o->pool, f->ino, name, to, &e);
	return r == 0 ? tell(o, f, to) : service_failed(r, &e, NULL);
}

static json_t *answer_sticky(const struct service_options *o, const struct file *f,
			     const json_t *request)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	struct err e = { 0 };
	int r = name_of(request, "name", name, &e);

	if (r == 0)
		r = snapshot_set_sticky(o->pool, f->ino, name,
					json_is_true(json_object_get(request, "on")), &e);
	return r == 0 ? tell(o, f, name) : service_failed(r, &e, NULL);
}

static json_t *answer_rollback(const struct service_options *o, const struct file *f,
			       const json_t *request)
{
	bool force = json_is_true(json_object_get(request, "force"));
	uint64_t handles = ns_handle_count(o->ns, f->ino);
	char name[SNAPSHOT_NAME_MAX + 1];
	struct err e = { 0 };
	int r = name_of(request, "name", name, &e);

	if (r == 0 && handles > 0 && !force) {
		(void)err_set(&e, -EBUSY, "the disk is open (%" PRIu64 " times)", handles);
		return service_failed(-EBUSY, &e, HINT_FORCE_OPEN);
	}
	if (r == 0)
		r = snapshot_rollback(f->object, name, force, &e);
	if (r < 0)
		return service_failed(r, &e, r == -ENOTEMPTY ? "--force deletes them" : NULL);
	if (o->session)
		fs_session_forget_data(o->session, f->ino);
	return tell(o, f, name);
}

/* Of one name: its place among those that are gone, or those that are not. */
static int delete_one(const struct service_options *o, const struct file *f, const json_t *item,
		      json_t *deleted, json_t *failed)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	json_t *document = json_object();
	struct err e = { 0 };
	int r = name_of(item, "name", name, &e), out = document ? 0 : -ENOMEM;

	if (r == 0)
		r = snapshot_delete(o->pool, f->ino, name, &e);
	else
		name[0] = '\0';
	if (out == 0)
		out = json_out_name(document, "name", name, strlen(name));
	if (out == 0 && r < 0) {
		out |= json_out_name(document, "error", e.message, strlen(e.message));
		out |= json_object_set_new(document, "code", json_integer(cli_exit_of(r)));
	}
	if (json_array_append_new(r == 0 ? deleted : failed, document) < 0)
		out = -ENOMEM;
	return out ? -ENOMEM : 0;
}

static json_t *answer_delete(const struct service_options *o, const struct file *f,
			     const json_t *request)
{
	const json_t *names = json_object_get(request, "names"), *item;
	json_t *deleted = json_array(), *failed = json_array();
	int r = deleted && failed ? 0 : -ENOMEM;
	size_t i;

	json_array_foreach(names, i, item)
	{
		if (r == 0)
			r = delete_one(o, f, item, deleted, failed);
	}
	if (r == 0)
		return json_pack("{s:o, s:o}", "deleted", deleted, "failed", failed);
	json_decref(deleted);
	json_decref(failed);
	return service_no_memory();
}

/* --- all --------------------------------------------------------------------------------------- */

json_t *service_snapshot(const struct service_options *o, const json_t *request)
{
	static const struct {
		const char *name;
		json_t *(*answer)(const struct service_options *o, const struct file *f,
				  const json_t *request);
	} verbs[] = {
		{ "list", answer_list },	 { "info", answer_info },
		{ "delete", answer_delete },	 { "rename", answer_rename },
		{ "rollback", answer_rollback }, { "sticky", answer_sticky },
	};
	const char *verb = cli_json_string(request, "do");
	struct file f = { 0 };
	struct err e = { 0 };
	json_t *answer;
	int r;

	if (o->read_only && strcmp(verb, "list") != 0 && strcmp(verb, "info") != 0 &&
	    strcmp(verb, "schedule") != 0)
		return service_read_only();
	if (strcmp(verb, "create") == 0)
		return answer_create(o, request);
	if (strcmp(verb, "prune") == 0)
		return service_prune(o, request);
	if (strcmp(verb, "schedule") == 0)
		return service_schedule(o, request);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verb, verbs[i].name) != 0)
			continue;
		r = open_file(o, cli_json_u64(request, "ino"), &f, &e);
		if (r < 0)
			return service_failed(r, &e, NULL);
		answer = verbs[i].answer(o, &f, request);
		close_file(o, &f);
		return answer;
	}
	return json_out_error("the daemon does not know this request", CLI_FAILED,
			      "daemon and command may be of different versions");
}

/* --- clones ------------------------------------------------------------------------------------ */

/* What the new file is like in owner and mode: the disk, also where a snapshot is shown. */
static int find_like(const struct service_options *o, uint64_t ino, uint64_t *ret_ino,
		     struct err *e)
{
	struct snapshot_info info;
	int r = 0;

	if (ns_is_view(ino)) {
		r = ns_view_find(o->ns, ino, &info, e);
		if (r == 0) {
			ino = info.object;
			snapshot_info_done(&info);
		}
	}
	*ret_ino = ino;
	return r;
}

static int make_clone(const struct service_options *o, const json_t *request, const char *snapshot,
		      const char *name, struct ns_attr *ret_attr, struct err *e)
{
	uint64_t ino = cli_json_u64(request, "ino"), like = 0;
	uint64_t parent = cli_json_u64(request, "parent");
	struct clone_source *source;
	int r = find_like(o, ino, &like, e);

	if (r == 0)
		r = ns_clone_source(o->ns, ino, snapshot, &source, e);
	if (r < 0)
		return r;
	r = ns_clone(o->ns, parent, name, strlen(name), source, like, ret_attr, e);
	clone_source_close(source);
	if (r < 0)
		return r;
	/* The kernel may remember that there was no such name. */
	if (o->session)
		fs_session_forget_name(o->session, parent, name);
	ns_forget(o->ns, ret_attr->ino, 1);
	return 0;
}

json_t *service_tell_file(const struct service_options *o, const struct ns_attr *attr)
{
	AUTO(buf_done) struct buf path;
	json_t *document;
	struct err e = { 0 };
	int r;

	buf_init(&path, PATH_BYTES_MAX);
	r = ns_path_of(o->ns, attr->ino, &path, &e);
	if (r < 0)
		return service_failed(r == -ESTALE ? -ENOENT : r, &e, NULL);
	document = service_file_document(o, (const char *)path.data, path.len_bytes, attr);
	if (!document || json_out_u64(document, "inode", attr->ino) < 0) {
		json_decref(document);
		return service_no_memory();
	}
	return document;
}

json_t *service_clone(const struct service_options *o, const json_t *request)
{
	char snapshot[SNAPSHOT_NAME_MAX + 1], name[NS_NAME_MAX + 1];
	bool named = json_object_get(request, "snapshot");
	struct ns_attr attr;
	struct err e = { 0 };
	int r = json_out_name_back(request, "name", name, sizeof(name));

	if (o->read_only)
		return service_read_only();
	if (r < 0)
		(void)err_set(&e, r, "the name of the new file: %s", err_name(r));
	if (r == 0 && named)
		r = name_of(request, "snapshot", snapshot, &e);
	if (r == 0)
		r = make_clone(o, request, named ? snapshot : NULL, name, &attr, &e);
	if (r < 0)
		return service_failed(r == -ESTALE ? -ENOENT : r, &e, NULL);
	return service_tell_file(o, &attr);
}

/* --- templates --------------------------------------------------------------------------------- */

json_t *service_template(const struct service_options *o, const json_t *request)
{
	bool on = json_is_true(json_object_get(request, "on"));
	bool force = json_is_true(json_object_get(request, "force"));
	uint64_t ino = cli_json_u64(request, "ino"), handles = ns_handle_count(o->ns, ino);
	struct file f = { 0 };
	struct ns_attr attr;
	struct err e = { 0 };
	json_t *answer;
	int r;

	if (o->read_only)
		return service_read_only();
	if (on && handles > 0 && !force) {
		(void)err_set(&e, -EBUSY, "the disk is open (%" PRIu64 " times)", handles);
		return service_failed(-EBUSY, &e, HINT_FORCE_TEMPLATE);
	}
	r = open_file(o, ino, &f, &e);
	if (r == 0)
		r = object_set_template(f.object, on, &e);
	if (r == 0)
		r = ns_getattr(o->ns, ino, &attr, &e);
	answer = r == 0 ? service_tell_file(o, &attr) : service_failed(r, &e, NULL);
	close_file(o, &f);
	return answer;
}
