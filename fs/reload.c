#include "fs/reload.h"

#include "common/log.h"
#include "common/thread.h"
#include "fs/fuse_session.h"
#include "fs/pool_setup.h"
#include "fs/scheduler.h"
#include "fs/trash_keeper.h"

#include <stdlib.h>

struct reload {
	const char *dir;
	struct pool *pool;
	struct fs_session *session; /* may be NULL, as the next two */
	struct scheduler *scheduler;
	struct trash_keeper *trash;
	struct mutex lock;    /* one reload at a time; guards config */
	struct config config; /* what holds now */
};

int reload_new(const struct pool_setup *setup, struct pool *pool, struct fs_session *session,
	       struct scheduler *scheduler, struct trash_keeper *trash, struct reload **ret_reload,
	       struct err *e)
{
	struct reload *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	r->dir = setup->dir;
	r->pool = pool;
	r->session = session;
	r->scheduler = scheduler;
	r->trash = trash;
	r->config = setup->config;
	mutex_init(&r->lock, 0);
	*ret_reload = r;
	return 0;
}

void reload_free(struct reload *r)
{
	if (!r)
		return;
	mutex_done(&r->lock);
	free(r);
}

/* What the file says, but of keys that can't change now what holds. */
static int merge(struct reload *r, const struct config *file, struct pool_setup **ret_setup,
		 struct err *e)
{
	struct config *merged = malloc(sizeof(*merged)); /* large */
	size_t count;
	const struct option_def *defs = config_options(&count);
	int rc;

	if (!merged)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	*merged = r->config;
	for (size_t i = 0; i < count; i++)
		if (defs[i].live)
			config_take(merged, file, &defs[i]);
	rc = config_check(merged, e);
	if (rc < 0)
		rc = err_wrap(e, rc, "with what needs a new mount still as it was");
	else
		rc = pool_setup_new(r->dir, merged, ret_setup, e);
	free(merged);
	return rc;
}

static json_t *change_document(const struct option_def *def, const char *from, const char *to)
{
	/* Text of the file can be anything; what is no UTF-8 shows as "?". */
	json_t *before = json_string(from), *after = json_string(to);

	return json_pack("{s:s, s:s, s:o, s:o, s:b}", "section", def->section, "key", def->key,
			 "from", before ? before : json_string("?"), "to",
			 after ? after : json_string("?"), "applied", def->live);
}

static json_t *tell(const struct config *before, const struct config *file)
{
	char from[CONFIG_STRING_BYTES], to[CONFIG_STRING_BYTES];
	json_t *changes = json_array();
	unsigned int told = 0;
	size_t count;
	const struct option_def *defs = config_options(&count);

	for (size_t i = 0; i < count; i++) {
		const struct option_def *def = &defs[i];

		if (config_is_same(before, file, def))
			continue;
		(void)config_value(before, def, from);
		(void)config_value(file, def, to);
		if (def->live)
			log_info("mount: setting changed: section=%s key=%s from='%s' to='%s'",
				 def->section, def->key, from, to);
		else
			log_warning("mount: setting needs a new mount to change: section=%s key=%s "
				    "holds='%s' file='%s'",
				    def->section, def->key, from, to);
		told++;
		if (changes && json_array_append_new(changes, change_document(def, from, to)) < 0) {
			json_decref(changes); /* some of them would be said to be all */
			changes = NULL;
		}
	}
	if (told == 0)
		log_info("mount: settings read again, nothing changed");
	return changes;
}

static void apply(struct reload *r, const struct pool_setup *s)
{
	pool_change_options(r->pool, &s->options);
	if (r->session)
		fs_session_report_full(r->session,
				       s->config.pool.report_blocks == CONFIG_REPORT_FULL);
	if (r->scheduler)
		scheduler_change(r->scheduler, &s->policy);
	if (r->trash)
		trash_keeper_change(r->trash, &s->config);
}

int reload_run(struct reload *r, json_t **ret_changes, struct err *e)
{
	struct pool_setup *file = NULL, *merged = NULL;
	json_t *changes = NULL;
	int rc;

	GUARD(&r->lock);
	rc = pool_setup_load(r->dir, &file, e);
	if (rc == 0)
		rc = merge(r, &file->config, &merged, e);
	if (rc < 0) {
		log_error("mount: settings not read again, all stays as it is: %s", e->message);
	} else {
		apply(r, merged);
		/* The lines of the change are for whoever listened before it or does now. */
		if (merged->config.log.level > r->config.log.level)
			log_set_level(merged->config.log.level);
		changes = tell(&r->config, &file->config);
		log_set_level(merged->config.log.level);
		r->config = merged->config;
	}
	pool_setup_free(file);
	pool_setup_free(merged);
	if (rc == 0 && ret_changes)
		*ret_changes = changes;
	else
		json_decref(changes);
	return rc;
}
