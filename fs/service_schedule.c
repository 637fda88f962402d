/* Schedules of snapshots and what is kept of them, as the control socket is asked for it. */
#include "fs/cli.h"
#include "fs/json_out.h"
#include "fs/scheduler.h"
#include "fs/service_impl.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATH_BYTES_MAX (1u << 20)

static int load_policies(const struct service_options *o, struct policies **ret_policies,
			 struct err *e)
{
	struct policy fallback = o->scheduler ? scheduler_fallback(o->scheduler) : o->policy;

	return policies_load(o->ns, &fallback, ret_policies, e);
}

/* --- what holds -------------------------------------------------------------------------------- */

/* NULL: vpool.conf. */
static int set_source(json_t *document, const char *key, const char *path)
{
	return path ? json_out_name(document, key, path, strlen(path)) :
		      json_object_set_new(document, key, json_null());
}

int service_set_policy(const struct service_options *o, json_t *document, const char *path,
		       uint64_t ino, struct err *e)
{
	char schedule[SCHEDULE_TEXT_BYTES], keep[RETENTION_TEXT_BYTES];
	struct policies *policies;
	struct policy_found found;
	bool is_off;
	int r = load_policies(o, &policies, e);

	if (r < 0)
		return r;
	policies_find(policies, path, ino, &found);
	is_off = found.policy.schedule.kind == SCHEDULE_OFF;
	r |= json_object_set_new(document, "schedule",
				 json_string(schedule_format(&found.policy.schedule, schedule)));
	r |= set_source(document, "schedule_from", found.schedule_from);
	r |= json_object_set_new(document, "keep",
				 json_string(retention_format(&found.policy.keep, keep)));
	r |= set_source(document, "keep_from", found.keep_from);
	r |= json_object_set_new(document, "next_snapshot",
				 is_off ? json_null() :
					  json_real((double)schedule_next(&found.policy.schedule,
									  time(NULL))));
	policies_free(policies);
	return r ? err_set(e, -ENOMEM, "%s", err_name(-ENOMEM)) : 0;
}

/* --- setting it -------------------------------------------------------------------------------- */

static int set_attribute(const struct service_options *o, uint64_t ino, const char *name,
			 const char *value, struct err *e)
{
	return ns_xattr_set(o->ns, ino, name, value, strlen(value), 0, e);
}

static int clear_attribute(const struct service_options *o, uint64_t ino, const char *name,
			   struct err *e)
{
	int r = ns_xattr_remove(o->ns, ino, name, e);

	return r == -ENODATA ? 0 : r;
}

/* All is looked at before anything is set. */
static int change(const struct service_options *o, uint64_t ino, const json_t *request,
		  struct err *e)
{
	const char *every = json_string_value(json_object_get(request, "every"));
	const char *keep = json_string_value(json_object_get(request, "keep"));
	bool clears = json_is_true(json_object_get(request, "clear"));
	struct policy policy;
	int r = 0;

	if (!every && !keep && !clears)
		return 0;
	if (o->read_only)
		return err_set(e, -EROFS, "the pool is mounted read-only");
	if (every)
		r = schedule_parse(every, &policy.schedule, e);
	if (r == 0 && keep)
		r = retention_parse(keep, &policy.keep, e);
	if (r == 0 && clears)
		r = clear_attribute(o, ino, POLICY_SCHEDULE, e);
	if (r == 0 && clears)
		r = clear_attribute(o, ino, POLICY_KEEP, e);
	if (r == 0 && every)
		r = set_attribute(o, ino, POLICY_SCHEDULE, every, e);
	if (r == 0 && keep)
		r = set_attribute(o, ino, POLICY_KEEP, keep, e);
	if (r == 0)
		r = pool_sync_names(o->pool, e);
	if (o->scheduler)
		scheduler_kick(o->scheduler);
	return r;
}

json_t *service_schedule(const struct service_options *o, const json_t *request)
{
	uint64_t ino = cli_json_u64(request, "ino");
	AUTO(buf_done) struct buf path;
	json_t *document = json_object();
	struct ns_attr attr;
	struct err e = { 0 };
	int r = document ? ns_getattr(o->ns, ino, &attr, &e) : -ENOMEM;

	buf_init(&path, PATH_BYTES_MAX);
	if (r == 0 && ns_is_view(ino))
		r = err_set(&e, -EROFS, "snapshots are shown there; name the disk itself");
	if (r == 0 && !S_ISREG(attr.mode) && !S_ISDIR(attr.mode))
		r = err_set(&e, -EINVAL, "it is neither a file nor a directory");
	if (r == 0)
		r = change(o, ino, request, &e);
	if (r == 0)
		r = ns_path_of(o->ns, ino, &path, &e);
	if (r == 0)
		r = json_out_name(document, "path", (const char *)path.data, path.len_bytes);
	if (r == 0)
		r = service_set_policy(o, document, (const char *)path.data, ino, &e);
	if (r == 0)
		return document;
	json_decref(document);
	return service_failed(r == -ESTALE ? -ENOENT : r, &e, NULL);
}

/* --- what is not kept -------------------------------------------------------------------------- */

struct prune {
	const struct service_options *o;
	bool dry_run;
	struct policies *policies;
	uint64_t kept;
	json_t *deleted;
	struct err *e;
};

static int note_pruned(struct prune *p, const struct ns_file *file, const char *name)
{
	json_t *document = json_object();
	int r = document ? json_out_name(document, "path", file->path, file->path_bytes) : -ENOMEM;

	if (r == 0)
		r = json_out_name(document, "name", name, strlen(name));
	if (r == 0)
		r = json_array_append(p->deleted, document) < 0 ? -ENOMEM : 0;
	json_decref(document);
	return r;
}

static int prune_list(struct prune *p, const struct ns_file *file, struct snapshot_info *list,
		      size_t count)
{
	bool *goes = calloc(count + 1, sizeof(*goes));
	struct policy_found found;
	int r = goes ? 0 : -ENOMEM;

	policies_find(p->policies, file->path, file->attr.ino, &found);
	if (r == 0)
		r = scheduler_decide(&found.policy.keep, list, count, true, time(NULL), goes);
	for (size_t i = 0; i < count && r == 0; i++) {
		if (!goes[i]) {
			p->kept++;
			continue;
		}
		if (!p->dry_run)
			r = snapshot_delete(p->o->pool, file->attr.ino, list[i].name, p->e);
		if (r == 0)
			r = note_pruned(p, file, list[i].name);
		else if (r == -ENOENT) /* somebody was faster */
			r = 0;
	}
	free(goes);
	return r;
}

static int prune_file(void *arg, const struct ns_file *file)
{
	struct prune *p = arg;
	struct snapshot_info *list;
	size_t count;
	int r;

	if (snapshot_count(p->o->pool, file->attr.ino) == 0)
		return 0;
	r = snapshot_list(p->o->pool, file->attr.ino, &list, &count, p->e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = prune_list(p, file, list, count);
	snapshot_list_free(list, count);
	return r;
}

/* Of a file, or of all below a directory. */
json_t *service_prune(const struct service_options *o, const json_t *request)
{
	struct err e = { 0 };
	struct prune p = {
		.o = o,
		.dry_run = json_is_true(json_object_get(request, "dry_run")),
		.deleted = json_array(),
		.e = &e,
	};
	int r = p.deleted ? load_policies(o, &p.policies, &e) : -ENOMEM;

	if (r == 0)
		r = ns_for_each_file(o->ns, cli_json_u64(request, "ino"), prune_file, &p, &e);
	policies_free(p.policies);
	if (r == 0)
		return json_pack("{s:o, s:I, s:b}", "deleted", p.deleted, "kept",
				 (json_int_t)p.kept, "dry_run", p.dry_run);
	json_decref(p.deleted);
	return service_failed(r == -ESTALE ? -ENOENT : r, &e, NULL);
}
