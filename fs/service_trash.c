/* The trash, as the control socket is asked for it. */
#include "fs/service_impl.h"

#include "common/units.h"
#include "fs/cli.h"
#include "fs/fuse_session.h"
#include "fs/json_out.h"
#include "fs/trash_keeper.h"

#include <stdlib.h>
#include <string.h>

#define ITEM_BYTES 4096u /* a path, or a number */

/* --- documents --------------------------------------------------------------------------------- */

struct summary {
	uint64_t files, allocated_bytes;
};

static int add_up(void *arg, const struct ns_trash_item *item)
{
	struct summary *s = arg;

	s->files++;
	s->allocated_bytes += item->attr.allocated_bytes;
	return 0;
}

json_t *service_trash_summary(const struct service_options *o)
{
	struct summary s = { 0 };
	struct err e = { 0 };

	if (ns_trash_each(o->ns, add_up, &s, &e) < 0)
		return NULL;
	return json_pack("{s:I, s:I}", "files", (json_int_t)s.files, "allocated_bytes",
			 (json_int_t)s.allocated_bytes);
}

static double seconds(int64_t ns)
{
	return (double)ns / (double)NS_PER_SEC;
}

static json_t *document_of(const struct service_options *o, const struct ns_trash_item *item)
{
	json_t *document = json_object();
	json_t *expires = json_null();
	int r = document ? 0 : -ENOMEM;

	if (o->trash)
		expires = json_real(seconds(item->removed_ns) +
				    seconds((int64_t)trash_keeper_keep_ns(o->trash)));
	if (r == 0) {
		r |= json_out_name(document, "path", item->path, item->path_bytes);
		r |= json_out_u64(document, "inode", item->ino);
		r |= json_object_set_new(document, "removed", json_real(seconds(item->removed_ns)));
		r |= json_object_set(document, "expires", expires);
		r |= json_out_u64(document, "size_bytes", item->attr.size_bytes);
		r |= json_out_u64(document, "allocated_bytes", item->attr.allocated_bytes);
		r |= json_out_u64(document, "snapshots", snapshot_count(o->pool, item->ino));
	}
	json_decref(expires);
	if (r == 0)
		return document;
	json_decref(document);
	return NULL;
}

struct listing {
	const struct service_options *o;
	json_t *files;
};

static int list_item(void *arg, const struct ns_trash_item *item)
{
	const struct listing *l = arg;

	return json_array_append_new(l->files, document_of(l->o, item)) < 0 ? -ENOMEM : 0;
}

static json_t *answer_list(const struct service_options *o)
{
	struct listing l = { .o = o, .files = json_array() };
	struct err e = { 0 };
	int r = l.files ? ns_trash_each(o->ns, list_item, &l, &e) : -ENOMEM;

	if (r == 0)
		return json_pack("{s:o}", "files", l.files);
	json_decref(l.files);
	return service_failed(r, &e, NULL);
}

/* --- finding ----------------------------------------------------------------------------------- */

/* What a user calls one: its path, of several the one that was removed last, or its number. */
struct wanted {
	const char *name;
	uint64_t number; /* 0: it is none */
	uint64_t ino;	 /* found; 0: not yet */
	uint64_t parent;
	char *path;
};

static int compare_item(void *arg, const struct ns_trash_item *item)
{
	struct wanted *w = arg;

	if (item->ino != w->number && strcmp(item->path, w->name) != 0)
		return 0;
	free(w->path);
	w->path = strdup(item->path);
	w->ino = item->ino;
	w->parent = item->parent;
	if (!w->path)
		return -ENOMEM;
	return item->ino == w->number;
}

/* Owns: w->path is freed by the caller. Errors: -ENOENT. */
static int find(const struct service_options *o, const char *name, struct wanted *w, struct err *e)
{
	char *end = NULL;
	int r;

	*w = (struct wanted){ .name = name };
	if (name[0] >= '0' && name[0] <= '9') {
		w->number = strtoull(name, &end, 10);
		if (*end)
			w->number = 0;
	}
	r = ns_trash_each(o->ns, compare_item, w, e);
	if (r >= 0 && !w->ino)
		r = err_set(e, -ENOENT, "nothing of that path or number is in the trash");
	return r < 0 ? r : 0;
}

/* --- restore ----------------------------------------------------------------------------------- */

/* The directory that has the path of old, else the one where the file was, wherever it is now. */
static int find_old_dir(const struct service_options *o, const struct wanted *w, size_t dir_bytes,
			uint64_t *ret_dir, struct err *e)
{
	struct ns_attr attr;
	struct err why = { 0 };
	int r = -ENOENT;

	if (w->path[0] == '/')
		r = ns_path_find(o->ns, w->path, dir_bytes, ret_dir, &why);
	if (r == 0)
		r = ns_getattr(o->ns, *ret_dir, &attr, &why);
	if (r == 0 && S_ISDIR(attr.mode))
		return 0;
	*ret_dir = w->parent;
	r = ns_getattr(o->ns, *ret_dir, &attr, &why);
	if (r == 0 && S_ISDIR(attr.mode) && attr.nlink > 0)
		return 0;
	return err_set(e, -ENOENT, "the directory where it was is gone");
}

/* Where it goes: the place that the request names, or where it was. name is of text or of w. */
static int find_place(const struct service_options *o, const json_t *request,
		      const struct wanted *w, char text[NS_NAME_MAX + 1], struct ns_name *ret_to,
		      struct err *e)
{
	const char *slash = strrchr(w->path, '/');
	int r = json_out_name_back(request, "name", text, NS_NAME_MAX + 1);

	if (r == 0) {
		*ret_to = (struct ns_name){ .parent = cli_json_u64(request, "parent"),
					    .name = text,
					    .name_bytes = strlen(text) };
		return 0;
	}
	if (r != -ENOENT)
		return err_set(e, r, "the name of the file: %s", err_name(r));
	ret_to->name = slash ? slash + 1 : w->path;
	ret_to->name_bytes = strlen(ret_to->name);
	return find_old_dir(o, w, slash ? (size_t)(slash - w->path) : 0, &ret_to->parent, e);
}

static const char *hint_of(int r)
{
	switch (r) {
	case -EEXIST:
		return "name another place, or --force: what has the name is removed";
	case -ENOENT:
		return "'vpool trash list' tells what is there; a file can be restored to another "
		       "place";
	default:
		return NULL;
	}
}

static json_t *answer_restore(const struct service_options *o, const json_t *request)
{
	bool force = json_is_true(json_object_get(request, "force"));
	char item[ITEM_BYTES], name[NS_NAME_MAX + 1];
	struct wanted w = { 0 };
	struct ns_attr attr;
	struct ns_name to;
	struct err e = { 0 };
	int r = json_out_name_back(request, "item", item, sizeof(item));

	if (r < 0)
		(void)err_set(&e, r, "what to restore: %s", err_name(r));
	if (r == 0)
		r = find(o, item, &w, &e);
	if (r == 0)
		r = find_place(o, request, &w, name, &to, &e);
	if (r == 0)
		r = ns_trash_restore(o->ns, w.ino, &to, force, &e);
	/* The kernel may remember that there was no such name, or another file. */
	if (r == 0 && o->session) {
		char text[NS_NAME_MAX + 1];

		memcpy(text, to.name, to.name_bytes + 1);
		fs_session_forget_name(o->session, to.parent, text);
	}
	if (r == 0)
		r = ns_getattr(o->ns, w.ino, &attr, &e);
	free(w.path);
	return r == 0 ? service_tell_file(o, &attr) : service_failed(r, &e, hint_of(r));
}

/* --- empty ------------------------------------------------------------------------------------- */

struct emptying {
	const struct service_options *o;
	bool dry_run;
	int64_t before_ns;
	json_t *doomed; /* documents of what goes */
	json_t *removed, *failed;
	uint64_t bytes;
};

static int doom(void *arg, const struct ns_trash_item *item)
{
	struct emptying *m = arg;

	if (item->removed_ns >= m->before_ns)
		return 0;
	return json_array_append_new(m->doomed, document_of(m->o, item)) < 0 ? -ENOMEM : 0;
}

static int note_failed(struct emptying *m, json_t *document, int r, const struct err *e)
{
	int out = document ? 0 : -ENOMEM;

	if (out == 0) {
		out |= json_out_name(document, "error", e->message, strlen(e->message));
		out |= json_object_set_new(document, "code", json_integer(cli_exit_of(r)));
		out |= json_array_append(m->failed, document);
	}
	return out ? -ENOMEM : 0;
}

/* Of those that were named. */
static int doom_named(struct emptying *m, const json_t *names)
{
	const json_t *name;
	size_t i;
	int r = 0;

	json_array_foreach(names, i, name)
	{
		char item[ITEM_BYTES] = "";
		struct wanted w = { 0 };
		struct err e = { 0 };
		json_t *document;
		int found = json_out_name_back(name, "name", item, sizeof(item));

		if (found < 0)
			(void)err_set(&e, found, "%s", err_name(found));
		else
			found = find(m->o, item, &w, &e);
		if (r == 0) {
			document = json_object();
			r = document ? json_out_name(document, "path", found == 0 ? w.path : item,
						     strlen(found == 0 ? w.path : item)) :
				       -ENOMEM;
			if (r == 0 && found < 0)
				r = note_failed(m, document, found, &e);
			else if (r == 0)
				r = json_out_u64(document, "inode", w.ino);
			if (r == 0 && found == 0)
				r = json_array_append(m->doomed, document) < 0 ? -ENOMEM : 0;
			json_decref(document);
		}
		free(w.path);
	}
	return r;
}

static int remove_doomed(struct emptying *m)
{
	json_t *document;
	size_t i;
	int r = 0;

	json_array_foreach(m->doomed, i, document)
	{
		uint64_t ino = cli_json_u64(document, "inode");
		struct ns_attr attr = { 0 };
		struct err e = { 0 };
		int gone = ns_getattr(m->o->ns, ino, &attr, &e);

		if (gone == 0 && !m->dry_run)
			gone = ns_trash_remove(m->o->ns, ino, &e);
		if (gone == -ENOENT || gone == -ESTALE)
			continue; /* somebody was faster */
		if (gone < 0) {
			r = r == 0 ? note_failed(m, document, gone, &e) : r;
			continue;
		}
		m->bytes += attr.allocated_bytes;
		if (json_array_append(m->removed, document) < 0)
			r = -ENOMEM;
	}
	return r;
}

static int64_t before_of(const json_t *request)
{
	const json_t *older = json_object_get(request, "older_seconds");
	int64_t now_ns = env_now_real_ns(env_posix());

	if (!json_is_number(older))
		return INT64_MAX;
	return now_ns - (int64_t)(json_number_value(older) * (double)NS_PER_SEC);
}

static json_t *answer_empty(const struct service_options *o, const json_t *request)
{
	const json_t *items = json_object_get(request, "items");
	struct emptying m = {
		.o = o,
		.dry_run = json_is_true(json_object_get(request, "dry_run")),
		.before_ns = before_of(request),
		.doomed = json_array(),
		.removed = json_array(),
		.failed = json_array(),
	};
	json_t *answer = NULL;
	struct err e = { 0 };
	int r = m.doomed && m.removed && m.failed ? 0 : -ENOMEM;

	if (r == 0)
		r = json_is_array(items) ? doom_named(&m, items) :
					   ns_trash_each(o->ns, doom, &m, &e);
	if (r == 0)
		r = remove_doomed(&m);
	if (r == 0)
		answer = json_pack("{s:O, s:O, s:I, s:b}", "removed", m.removed, "failed", m.failed,
				   "allocated_bytes", (json_int_t)m.bytes, "dry_run", m.dry_run);
	json_decref(m.doomed);
	json_decref(m.removed);
	json_decref(m.failed);
	return r < 0 ? service_failed(r, &e, NULL) : answer ? answer : service_no_memory();
}

/* --- all --------------------------------------------------------------------------------------- */

json_t *service_trash(const struct service_options *o, const json_t *request)
{
	const char *verb = cli_json_string(request, "do");

	if (strcmp(verb, "list") == 0)
		return answer_list(o);
	if (o->read_only)
		return service_read_only();
	if (strcmp(verb, "restore") == 0)
		return answer_restore(o, request);
	if (strcmp(verb, "empty") == 0)
		return answer_empty(o, request);
	return json_out_error("the daemon does not know this request", CLI_FAILED,
			      "daemon and command may be of different versions");
}
