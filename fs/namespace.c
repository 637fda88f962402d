#include "fs/namespace.h"

#include "common/config.h"
#include "common/log.h"
#include "common/units.h"
#include "fs/ns_impl.h"

#include <stdlib.h>
#include <unistd.h>

static const struct metric_def metric_defs[] = {
	METRIC_COUNTER(struct ns_metrics, lookups, "requests", "Names looked up."),
	METRIC_COUNTER(struct ns_metrics, creates, "inodes", "Inodes made, of any type."),
	METRIC_COUNTER(struct ns_metrics, removes, "names", "Names removed, but by renaming."),
	METRIC_COUNTER(struct ns_metrics, renames, "requests", "Renames that succeeded."),
	METRIC_COUNTER(struct ns_metrics, links, "names", "Names added to files."),
	METRIC_COUNTER(struct ns_metrics, setattrs, "requests", "Changes of attributes."),
	METRIC_COUNTER(struct ns_metrics, readdirs, "requests", "Readings of directories."),
	METRIC_COUNTER(struct ns_metrics, xattrs, "requests", "Changes of extended attributes."),
	METRIC_COUNTER(struct ns_metrics, trashed, "files", "Files that went to the trash."),
	METRIC_COUNTER(struct ns_metrics, orphans, "inodes",
		       "Inodes that lost their last name while in use."),
	METRIC_COUNTER(struct ns_metrics, reclaims, "inodes", "Such inodes that are gone since."),
	METRIC_COUNTER(struct ns_metrics, class_changes, "files", "Files that changed class."),
	METRIC_GAUGE(struct ns_metrics, inodes, "inodes", "Inodes in RAM."),
	METRIC_GAUGE(struct ns_metrics, handles, "handles", "Handles of files and directories."),
};

void ns_options_default(struct ns_options *o)
{
	const struct option_def *patterns = config_option_find("pool", "disk_patterns");

	*o = (struct ns_options){
		.disk_patterns = patterns->default_text,
		.disk_threshold_bytes = 64 * MIB,
		.link_max = NS_LINK_MAX,
		.trash = NS_TRASH_SNAPSHOTS,
		.root_owner = { .uid = geteuid(), .gid = getegid() },
	};
}

/* --- orphans ----------------------------------------------------------------------------------- */

/* One that has a name, or no inode, is damage: only its row goes. */
static int remove_orphan(struct ns *ns, uint64_t ino, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_ORPHAN, ino);
	struct names_batch *b = names_batch_new(ns->pool);
	struct ns_inode_row row;
	int r = b ? ns_peek_row(ns, ino, &row, e) : err_set(e, -ENOMEM, "orphan");

	if (r == 0 && row.nlink == 0)
		r = ns_delete_inode(ns, b, ino, &row, e);
	else if (r == -ESTALE)
		r = 0;
	if (r == 0)
		r = names_delete(b, key.bytes, key.len_bytes);
	if (r == 0)
		r = names_commit(b, e);
	names_batch_free(b);
	return r;
}

/* No inode but the root may be in the table. */
static int remove_orphans(struct ns *ns, struct err *e)
{
	uint64_t *inos = calloc(NS_ORPHANS_AT_ONCE, sizeof(*inos)), from_ino = 0;
	int r = inos ? 1 : err_set(e, -ENOMEM, "orphans");

	while (r > 0) {
		r = ns_orphans_from(ns, from_ino, inos, e);
		for (int i = 0; i < r; i++) {
			struct err why = { 0 };

			from_ino = inos[i] + 1;
			if (remove_orphan(ns, inos[i], &why) < 0)
				log_warning("fs: removed file stays for now: ino=%" PRIu64 ": %s",
					    inos[i], why.message);
			else
				counter_inc(&ns->metrics.reclaims);
		}
	}
	free(inos);
	return r;
}

/* --- root -------------------------------------------------------------------------------------- */

static int any_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	(void)arg;
	(void)key;
	(void)key_bytes;
	(void)value;
	(void)value_bytes;
	return 1;
}

static int make_root(struct ns *ns, struct ns_cred owner, struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_ENTRY, 0);
	struct ns_key until = ns_key_ino(NS_ROW_XATTR, UINT64_MAX);
	int64_t now_ns = env_now_real_ns(ns->env);
	struct ns_inode_row row = {
		.mode = S_IFDIR | 0755,
		.nlink = 2,
		.uid = owner.uid,
		.gid = owner.gid,
		.atime_ns = now_ns,
		.mtime_ns = now_ns,
		.ctime_ns = now_ns,
		.crtime_ns = now_ns,
		.parent = NS_ROOT_INO,
		.cookie_next = NS_COOKIE_DOTDOT + 1,
	};
	struct names_batch *b;
	int r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			      any_row, NULL, e);

	if (r > 0)
		return err_set(e, -EUCLEAN, "names without a root directory");
	if (r < 0)
		return r;
	b = names_batch_new(ns->pool);
	r = b ? ns_put_inode_row(b, NS_ROOT_INO, &row, e) : err_set(e, -ENOMEM, "root directory");
	if (r == 0)
		r = names_commit(b, e);
	names_batch_free(b);
	return r == 0 ? pool_sync_names(ns->pool, e) : r;
}

static int open_root(struct ns *ns, struct ns_cred owner, struct err *e)
{
	int r = ns_inode_get(ns, NS_ROOT_INO, &ns->root, e);

	if (r == -ESTALE) {
		r = make_root(ns, owner, e);
		if (r == 0)
			r = ns_inode_get(ns, NS_ROOT_INO, &ns->root, e);
	}
	if (r == 0 && !S_ISDIR(ns->root->type))
		return err_set(e, -EUCLEAN, "the root is no directory");
	return r;
}

/* --- life -------------------------------------------------------------------------------------- */

static void free_all(struct ns *ns)
{
	ns_class_stop(ns);
	ns_view_drop_all(ns);
	ns_inodes_drop_all(ns);
	mutex_done(&ns->view.lock);
	mutex_done(&ns->rename_lock);
	for (unsigned int i = 0; i < NS_STRIPES; i++)
		mutex_done(&ns->stripes[i]);
	for (unsigned int i = 0; i < NS_SHARDS; i++)
		mutex_done(&ns->shards[i].lock);
	free(ns);
}

int ns_open(struct env *env, struct pool *pool, const struct ns_options *o, struct ns **ret_ns,
	    struct err *e)
{
	struct ns *ns = calloc(1, sizeof(*ns));
	int r;

	if (!ns)
		return err_set(e, -ENOMEM, "namespace");
	ns->env = env;
	ns->pool = pool;
	ns->disk_threshold_bytes = o->disk_threshold_bytes;
	ns->link_max = o->link_max;
	ns->trash = o->trash;
	ns->resumed = o->resumed;
	mutex_init(&ns->rename_lock, 0);
	mutex_init(&ns->view.lock, 0);
	for (unsigned int i = 0; i < NS_STRIPES; i++)
		mutex_init(&ns->stripes[i], 0);
	for (unsigned int i = 0; i < NS_SHARDS; i++)
		mutex_init(&ns->shards[i].lock, 0);
	r = ns_class_start(ns, o->disk_patterns, e);
	if (r == 0)
		r = open_root(ns, o->root_owner, e);
	if (r == 0 && !ns->resumed)
		r = remove_orphans(ns, e);
	if (r == 0 && !ns->resumed)
		r = ns_forget_answers(ns, e);
	if (r < 0) {
		free_all(ns);
		return err_wrap(e, r, "opening the namespace");
	}
	ns->group = (struct metrics_group){
		.name = "fs",
		.defs = metric_defs,
		.def_count = ARRAY_SIZE(metric_defs),
		.values = &ns->metrics,
	};
	metrics_add(pool_metrics(pool), &ns->group);
	*ret_ns = ns;
	return 0;
}

void ns_close(struct ns *ns)
{
	struct err why = { 0 };

	if (!ns)
		return;
	metrics_remove(pool_metrics(ns->pool), &ns->group);
	ns_class_settle(ns);
	ns_view_drop_all(ns);
	ns_inodes_drop_all(ns);
	if (!ns->handed_over && (remove_orphans(ns, &why) < 0 || ns_forget_answers(ns, &why) < 0))
		log_warning("fs: removed files stay until the next start: %s", why.message);
	free_all(ns);
}

struct pool *ns_pool(struct ns *ns)
{
	return ns->pool;
}

const struct ns_metrics *ns_metrics(const struct ns *ns)
{
	return &ns->metrics;
}
