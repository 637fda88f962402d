/* A scrub, as the control socket is asked for it. */
#include "common/units.h"
#include "fs/cli.h"
#include "fs/json_out.h"
#include "fs/service_impl.h"

#include <string.h>

static const char *const phases[] = {
	[POOL_SCRUB_NONE] = "none",	 [POOL_SCRUB_UPLOAD] = "uploading",
	[POOL_SCRUB_CLEAN] = "cleaning", [POOL_SCRUB_SETTLE] = "settling",
	[POOL_SCRUB_DONE] = "done",	 [POOL_SCRUB_CANCELLED] = "cancelled",
};

static int set_time(json_t *document, const char *key, int64_t real_ns)
{
	return json_object_set_new(document, key,
				   real_ns ? json_real((double)real_ns / (double)NS_PER_SEC) :
					     json_null());
}

json_t *service_scrub_status(const struct service_options *o)
{
	json_t *document = json_object();
	struct pool_scrub_status st;
	int r = document ? 0 : -1;

	pool_scrub_status(o->pool, &st);
	r |= json_object_set_new(document, "state", json_string(phases[st.phase]));
	r |= json_object_set_new(document, "running",
				 json_boolean(st.phase != POOL_SCRUB_NONE &&
					      st.phase < POOL_SCRUB_DONE));
	r |= set_time(document, "began", st.began_ns);
	r |= set_time(document, "ended", st.ended_ns);
	r |= json_out_u64(document, "scos_examined", st.scos_examined);
	r |= json_out_u64(document, "scos_deleted", st.scos_deleted);
	r |= json_out_u64(document, "scos_shrunk", st.scos_moved);
	r |= json_out_u64(document, "moved_bytes", st.moved_bytes);
	r |= json_out_u64(document, "bytes_freed", st.flash_bytes + st.backend_bytes);
	r |= json_out_u64(document, "flash_bytes_freed", st.flash_bytes);
	r |= json_out_u64(document, "backend_bytes_freed", st.backend_bytes);
	r |= json_out_u64(document, "packs_repacked", st.packs_repacked);
	r |= json_out_u64(document, "orphans_removed", st.orphans_removed);
	r |= json_out_u64(document, "orphans_spared", st.orphans_spared);
	r |= json_out_name(document, "trouble", st.trouble, strlen(st.trouble));
	if (r == 0)
		return document;
	json_decref(document);
	return NULL;
}

static json_t *answer_look(const struct service_options *o)
{
	json_t *document = json_object();
	struct pool_scrub_plan plan;
	struct err e = { 0 };
	int r = document ? pool_scrub_look(o->pool, &plan, &e) : -ENOMEM;

	if (r == 0) {
		r |= json_object_set_new(document, "dry_run", json_true());
		r |= json_out_u64(document, "scos_examined", plan.scos_examined);
		r |= json_out_u64(document, "scos_deleted", plan.scos_dead);
		r |= json_out_u64(document, "scos_shrunk", plan.scos_to_move);
		r |= json_out_u64(document, "moved_bytes", plan.move_bytes);
		r |= json_out_u64(document, "bytes_freed", plan.flash_bytes + plan.backend_bytes);
		r |= json_out_u64(document, "flash_bytes_freed", plan.flash_bytes);
		r |= json_out_u64(document, "backend_bytes_freed", plan.backend_bytes);
		r |= json_out_u64(document, "orphans_removed", plan.orphans);
		r |= json_out_u64(document, "orphans_spared", plan.orphans_spared);
		r |= json_out_name(document, "trouble", plan.trouble, strlen(plan.trouble));
	}
	if (r == 0)
		return document;
	json_decref(document);
	return service_failed(r < 0 ? r : -ENOMEM, &e, NULL);
}

json_t *service_scrub(const struct service_options *o, const json_t *request)
{
	const char *what = cli_json_string(request, "do");
	json_t *answer;

	if (strcmp(what, "look") == 0)
		return answer_look(o);
	if (o->read_only && strcmp(what, "status") != 0)
		return json_out_error("the pool is mounted read-only", CLI_FAILED, NULL);
	if (strcmp(what, "start") == 0)
		pool_scrub(o->pool);
	else if (strcmp(what, "cancel") == 0)
		pool_scrub_cancel(o->pool);
	answer = service_scrub_status(o);
	return answer ? answer : service_no_memory();
}
