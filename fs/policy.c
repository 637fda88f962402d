#include "fs/policy.h"

#include "common/hash.h"
#include "common/log.h"
#include "fs/namespace.h"

#include <stdlib.h>
#include <string.h>

#define PATH_BYTES_MAX (1u << 20)

/* What one inode says. */
struct setting {
	uint64_t ino;
	char *path; /* NULL: it has none any more */
	bool has_schedule, has_keep;
	struct schedule schedule;
	struct retention keep;
	UT_hash_handle by_ino, by_path;
};

struct policies {
	struct policy fallback;
	struct setting *by_ino, *by_path;
};

/* --- loading ----------------------------------------------------------------------------------- */

static struct setting *setting_of(struct policies *p, uint64_t ino)
{
	struct setting *s;

	HASH_FIND(by_ino, p->by_ino, &ino, sizeof(ino), s);
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->ino = ino;
	HASH_ADD(by_ino, p->by_ino, ino, sizeof(s->ino), s);
	if (!HASH_TOOK_BY(by_ino, s))
		free(TAKE_PTR(s));
	return s;
}

/* A value as text; false: it is none. */
static bool take_text(const void *value, size_t value_bytes, char text[POLICY_VALUE_BYTES])
{
	if (value_bytes >= POLICY_VALUE_BYTES || memchr(value, '\0', value_bytes))
		return false;
	memcpy(text, value, value_bytes);
	text[value_bytes] = '\0';
	return true;
}

static void tell_bad(uint64_t ino, const char *name)
{
	log_warning("mount: attribute is not understood, so it does not count: inode=%" PRIu64
		    " name='%s'",
		    ino, name);
}

static int see_schedule(void *arg, uint64_t ino, const void *value, size_t value_bytes)
{
	char text[POLICY_VALUE_BYTES];
	struct setting *s = setting_of(arg, ino);

	if (!s)
		return -ENOMEM;
	s->has_schedule = take_text(value, value_bytes, text) &&
			  schedule_parse(text, &s->schedule, NULL) == 0;
	if (!s->has_schedule)
		tell_bad(ino, POLICY_SCHEDULE);
	return 0;
}

static int see_keep(void *arg, uint64_t ino, const void *value, size_t value_bytes)
{
	char text[POLICY_VALUE_BYTES];
	struct setting *s = setting_of(arg, ino);

	if (!s)
		return -ENOMEM;
	s->has_keep =
		take_text(value, value_bytes, text) && retention_parse(text, &s->keep, NULL) == 0;
	if (!s->has_keep)
		tell_bad(ino, POLICY_KEEP);
	return 0;
}

static int find_paths(struct policies *p, struct ns *ns, struct err *e)
{
	AUTO(buf_done) struct buf path;
	struct setting *s, *next;
	int r = 0;

	buf_init(&path, PATH_BYTES_MAX);
	HASH_ITER (by_ino, p->by_ino, s, next) {
		r = ns_path_of(ns, s->ino, &path, e);
		if (r == -ENOENT || r == -ESTALE) /* it is on its way out */
			continue;
		if (r == 0)
			s->path = strndup((const char *)path.data, path.len_bytes);
		if (r == 0 && !s->path)
			r = err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
		if (r < 0)
			return r;
		HASH_ADD_KEYPTR(by_path, p->by_path, s->path, path.len_bytes, s);
		if (!HASH_TOOK_BY(by_path, s))
			return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	}
	return 0;
}

int policies_load(struct ns *ns, const struct policy *fallback, struct policies **ret_policies,
		  struct err *e)
{
	struct policies *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	p->fallback = *fallback;
	r = ns_xattr_each(ns, POLICY_SCHEDULE, see_schedule, p, e);
	if (r == 0)
		r = ns_xattr_each(ns, POLICY_KEEP, see_keep, p, e);
	if (r == 0)
		r = find_paths(p, ns, e);
	if (r < 0) {
		policies_free(p);
		return err_wrap(e, r, "settings of snapshots");
	}
	*ret_policies = p;
	return 0;
}

void policies_free(struct policies *p)
{
	struct setting *s, *next;

	if (!p)
		return;
	HASH_CLEAR(by_path, p->by_path);
	HASH_ITER (by_ino, p->by_ino, s, next) {
		HASH_DELETE(by_ino, p->by_ino, s);
		free(s->path);
		free(s);
	}
	free(p);
}

/* --- asking ------------------------------------------------------------------------------------ */

bool policies_any(const struct policies *p)
{
	struct setting *s, *next;

	if (p->fallback.schedule.kind != SCHEDULE_OFF)
		return true;
	HASH_ITER (by_ino, p->by_ino, s, next)
		if (s->has_schedule && s->schedule.kind != SCHEDULE_OFF)
			return true;
	return false;
}

/* What a setting says counts unless a nearer one said it. */
static void take(const struct setting *s, struct policy_found *found)
{
	if (!s)
		return;
	if (s->has_schedule && !found->schedule_from) {
		found->policy.schedule = s->schedule;
		found->schedule_from = s->path;
	}
	if (s->has_keep && !found->keep_from) {
		found->policy.keep = s->keep;
		found->keep_from = s->path;
	}
}

void policies_find(const struct policies *p, const char *path, uint64_t ino,
		   struct policy_found *ret_found)
{
	size_t len = strlen(path);
	struct setting *s;

	*ret_found = (struct policy_found){ .policy = p->fallback };
	HASH_FIND(by_ino, p->by_ino, &ino, sizeof(ino), s);
	take(s && s->path ? s : NULL, ret_found);
	while (len > 1) {
		while (len > 0 && path[len - 1] != '/')
			len--;
		if (len > 1)
			len--; /* without the slash, but of the root */
		HASH_FIND(by_path, p->by_path, path, len, s);
		take(s, ret_found);
	}
}
