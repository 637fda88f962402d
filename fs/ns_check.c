/*
 * ns_check - the invariants of the namespace, proved over all rows.
 *
 * One pass over one consistent view gathers a node an inode: what its row claims, and what the
 * other rows say. Both rows of an entry must say the same; they are not next to each other, so each
 * directory sums up a hash over its rows of either kind, and the sums must agree.
 */
#include "common/crc32c.h"
#include "fs/ns_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct node {
	uint64_t ino;
	bool has_row, is_orphan, is_trashed;
	enum { NODE_UNKNOWN, NODE_ON_WAY, NODE_REACHED, NODE_LOST } reach;
	struct ns_inode_row row; /* target is not kept */

	/* From other rows */
	uint32_t type;	       /* entries say */
	uint32_t type_changes; /* entries that say otherwise */
	uint64_t names;
	uint64_t parent, cookie; /* of the last name */
	uint64_t xattrs;
	/* Directories: of the entries in it */
	uint64_t by_place, by_name, subdirs, cookie_max;
	uint64_t place_sum, name_sum;
	UT_hash_handle hh;
};

struct check {
	struct ns *ns;
	void (*fn)(void *arg, const struct ns_problem *problem);
	void *arg;
	struct ns_check_result result;
	struct node *nodes;
};

PRINTF_LIKE(4, 5)
static void problem(struct check *c, enum ns_severity severity, uint64_t ino, const char *fmt, ...)
{
	char text[200];
	const struct ns_problem p = { .severity = severity, .ino = ino, .what = text };
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* cut if it is too long */
	va_end(args);
	if (severity == NS_ERROR)
		c->result.errors++;
	else
		c->result.warnings++;
	if (c->fn)
		c->fn(c->arg, &p);
}

static struct node *find_node(struct check *c, uint64_t ino)
{
	struct node *n;

	HASH_FIND(hh, c->nodes, &ino, sizeof(ino), n);
	return n;
}

static struct node *get_node(struct check *c, uint64_t ino)
{
	struct node *n = find_node(c, ino);

	if (n)
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->ino = ino;
	HASH_ADD(hh, c->nodes, ino, sizeof(n->ino), n);
	if (!HASH_TOOK(n))
		free(TAKE_PTR(n));
	return n;
}

/* --- gathering --------------------------------------------------------------------------------- */

static uint64_t entry_hash(uint64_t cookie, uint64_t ino, uint32_t type, const char *name,
			   size_t name_bytes)
{
	const uint64_t numbers[3] = { cookie, ino, type };
	uint32_t low = crc32c(crc32c(0, numbers, sizeof(numbers)), name, name_bytes);
	uint32_t high = crc32c(crc32c(~0u, name, name_bytes), numbers, sizeof(numbers));
	uint64_t h = (uint64_t)high << 32 | low;

	h ^= h >> 31;
	return h * UINT64_C(0x9e3779b97f4a7c15);
}

static int gather_entry(struct check *c, const struct ns_key_parts *parts,
			const struct ns_entry_row *row)
{
	struct node *dir = get_node(c, parts->ino);
	struct node *n = get_node(c, row->ino);

	if (!dir || !n)
		return -ENOMEM;
	c->result.entries++;
	dir->by_place++;
	dir->subdirs += S_ISDIR(row->type);
	dir->cookie_max = max_u64(dir->cookie_max, parts->cookie);
	dir->place_sum +=
		entry_hash(parts->cookie, row->ino, row->type, row->name, row->name_bytes);
	if (n->names > 0 && n->type != row->type)
		n->type_changes++;
	n->type = row->type;
	n->names++;
	n->parent = parts->ino;
	n->cookie = parts->cookie;
	return 0;
}

static int gather_inode(struct check *c, const struct ns_key_parts *parts,
			const struct ns_inode_row *row)
{
	struct node *n = get_node(c, parts->ino);

	if (!n)
		return -ENOMEM;
	n->has_row = true;
	n->row = *row;
	n->row.target = NULL;
	c->result.inodes++;
	c->result.directories += S_ISDIR(row->mode);
	c->result.files += S_ISREG(row->mode);
	return 0;
}

static int gather_name(struct check *c, const struct ns_key_parts *parts,
		       const struct ns_name_row *row)
{
	struct node *dir = get_node(c, parts->ino);

	if (!dir)
		return -ENOMEM;
	dir->by_name++;
	dir->name_sum +=
		entry_hash(row->cookie, row->ino, row->type, parts->name, parts->name_bytes);
	return 0;
}

static int gather_orphan(struct check *c, const struct ns_key_parts *parts)
{
	struct node *n = get_node(c, parts->ino);

	if (!n)
		return -ENOMEM;
	n->is_orphan = true;
	c->result.orphans++;
	return 0;
}

static int gather_trash(struct check *c, const struct ns_key_parts *parts)
{
	struct node *n = get_node(c, parts->ino);

	if (!n)
		return -ENOMEM;
	n->is_trashed = true;
	c->result.trashed++;
	return 0;
}

static int gather_xattr(struct check *c, const struct ns_key_parts *parts)
{
	struct node *n = get_node(c, parts->ino);

	if (!n)
		return -ENOMEM;
	n->xattrs++;
	c->result.xattrs++;
	return 0;
}

static int gather_row(struct check *c, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes, const struct ns_key_parts *parts, struct err *e)
{
	struct ns_entry_row entry;
	struct ns_inode_row inode;
	struct ns_trash_row trash;
	struct ns_name_row name;
	const uint8_t *data;
	size_t bytes;
	int r;

	switch (parts->kind) {
	case NS_ROW_ANSWER: /* before the first key that is read */
		break;
	case NS_ROW_ENTRY:
		r = ns_entry_row_decode(key, key_bytes, value, value_bytes, &entry, e);
		return r == 0 ? gather_entry(c, parts, &entry) : r;
	case NS_ROW_INODE:
		r = ns_inode_row_decode(key, key_bytes, value, value_bytes, &inode, e);
		return r == 0 ? gather_inode(c, parts, &inode) : r;
	case NS_ROW_NAME:
		r = ns_name_row_decode(key, key_bytes, value, value_bytes, &name, e);
		return r == 0 ? gather_name(c, parts, &name) : r;
	case NS_ROW_ORPHAN:
		r = ns_orphan_row_decode(key, key_bytes, value, value_bytes, e);
		return r == 0 ? gather_orphan(c, parts) : r;
	case NS_ROW_TRASH:
		r = ns_trash_row_decode(key, key_bytes, value, value_bytes, &trash, e);
		return r == 0 ? gather_trash(c, parts) : r;
	case NS_ROW_XATTR:
		r = ns_xattr_row_decode(key, key_bytes, value, value_bytes, &data, &bytes, e);
		return r == 0 ? gather_xattr(c, parts) : r;
	}
	return -EUCLEAN;
}

static int gather(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		  size_t value_bytes)
{
	struct ns_key_parts parts = { 0 };
	struct check *c = arg;
	struct err why = { .message = "unknown" };
	int r = ns_key_parse(key, key_bytes, &parts, &why);

	if (r == 0)
		r = gather_row(c, key, key_bytes, value, value_bytes, &parts, &why);
	if (r == 0 || r == -ENOMEM)
		return r;
	problem(c, NS_ERROR, parts.ino, "damaged row: %s", why.message);
	return 0;
}

/* --- judging ----------------------------------------------------------------------------------- */

static void judge_names(struct check *c, const struct node *n)
{
	bool is_dir = S_ISDIR(n->row.mode);
	uint64_t names = n->ino == NS_ROOT_INO ? n->names + 1 : n->names;

	if (n->names > 0 && (n->type_changes > 0 || n->type != (n->row.mode & S_IFMT)))
		problem(c, NS_ERROR, n->ino, "entries tell another type than the inode");
	if (n->is_orphan && n->names > 0)
		problem(c, NS_ERROR, n->ino, "an orphan with %" PRIu64 " names", n->names);
	if (n->is_trashed && (names > 0 || n->is_orphan || !S_ISREG(n->row.mode)))
		problem(c, NS_ERROR, n->ino, "in the trash, and not a file without a name");
	if (!n->is_orphan && !n->is_trashed && names == 0)
		problem(c, NS_ERROR, n->ino, "neither name nor orphan row");
	if (is_dir && names > 1)
		problem(c, NS_ERROR, n->ino, "a directory with %" PRIu64 " names", names);
	if (!is_dir && n->row.nlink != n->names)
		problem(c, NS_ERROR, n->ino, "counts %" PRIu32 " names, has %" PRIu64, n->row.nlink,
			n->names);
	if (is_dir && n->row.nlink != (n->is_orphan ? 0 : 2 + n->subdirs))
		problem(c, NS_ERROR, n->ino,
			"counts %" PRIu32 " links, has %" PRIu64 " directories", n->row.nlink,
			n->subdirs);
	if (is_dir && n->names == 1 &&
	    (n->row.parent != n->parent || n->row.parent_cookie != n->cookie))
		problem(c, NS_ERROR, n->ino, "its '..' is not where its name is");
	if (n->row.xattr_count != n->xattrs)
		problem(c, NS_ERROR, n->ino, "counts %" PRIu32 " extended attributes, has %" PRIu64,
			n->row.xattr_count, n->xattrs);
}

static void judge_entries(struct check *c, const struct node *n)
{
	if (!S_ISDIR(n->row.mode)) {
		if (n->by_place > 0 || n->by_name > 0 || n->row.entry_count > 0)
			problem(c, NS_ERROR, n->ino, "entries in what is no directory");
		return;
	}
	if (n->by_place != n->by_name || n->place_sum != n->name_sum)
		problem(c, NS_ERROR, n->ino,
			"entries by place (%" PRIu64 ") and by name (%" PRIu64 ") differ",
			n->by_place, n->by_name);
	if (n->row.entry_count != n->by_place)
		problem(c, NS_ERROR, n->ino, "counts %" PRIu64 " entries, has %" PRIu64,
			n->row.entry_count, n->by_place);
	if (n->row.cookie_next <= NS_COOKIE_DOTDOT || n->row.cookie_next <= n->cookie_max)
		problem(c, NS_ERROR, n->ino, "its next place is taken already");
}

/* Follow a directory's parents to the root, or to one of which it is known. */
static void judge_reach(struct check *c, struct node *start)
{
	struct node *n = start;
	int reach = NODE_LOST;

	while (n && n->has_row && n->reach == NODE_UNKNOWN) {
		n->reach = NODE_ON_WAY;
		if (n->ino == NS_ROOT_INO || n->is_orphan) {
			reach = NODE_REACHED;
			break;
		}
		n = find_node(c, n->row.parent);
	}
	if (n && (n->reach == NODE_REACHED || n->reach == NODE_LOST))
		reach = (int)n->reach;
	if (reach == NODE_LOST && start->reach == NODE_ON_WAY)
		problem(c, NS_ERROR, start->ino, "the root can't be reached from it");
	for (n = start; n && n->reach == NODE_ON_WAY; n = find_node(c, n->row.parent))
		n->reach = reach == NODE_REACHED ? NODE_REACHED : NODE_LOST;
}

static void judge(struct check *c)
{
	struct node *n, *next;

	HASH_ITER (hh, c->nodes, n, next) {
		if (!n->has_row) {
			problem(c, NS_ERROR, n->ino,
				"no inode, but %" PRIu64 " names, %" PRIu64 " entries, %" PRIu64
				" extended attributes%s",
				n->names, max_u64(n->by_place, n->by_name), n->xattrs,
				n->is_orphan  ? ", an orphan row" :
				n->is_trashed ? ", a row in the trash" :
						"");
			continue;
		}
		judge_names(c, n);
		judge_entries(c, n);
		if (S_ISDIR(n->row.mode))
			judge_reach(c, n);
	}
	if (!find_node(c, NS_ROOT_INO))
		problem(c, NS_ERROR, NS_ROOT_INO, "there is no root directory");
}

/* --- objects ----------------------------------------------------------------------------------- */

static bool object_is_there(struct ns *ns, uint64_t ino)
{
	struct object *o;

	if (object_open(ns->pool, ino, &o, NULL) < 0)
		return false;
	object_close(o);
	return true;
}

/* From the store: what is in RAM is a moment behind the commit that removes it. */
static bool inode_is_there(struct ns *ns, uint64_t ino)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };

	buf_init(&value, NS_ROW_BYTES_MAX);
	return names_get(ns->pool, key.bytes, key.len_bytes, &value, NULL) == 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * The list is younger than the view of the rows, so what differs is looked at again. Inode and
 * object go in one commit: if the one that is looked at first is gone, the other must be, too.
 */
static int judge_objects(struct check *c, struct err *e)
{
	struct node *n, *next;
	uint64_t *ids;
	size_t count;
	int r = pool_list_objects(c->ns->pool, &ids, &count, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		n = find_node(c, ids[i]);
		if (n && n->has_row && S_ISREG(n->row.mode))
			continue;
		if (!inode_is_there(c->ns, ids[i]) && object_is_there(c->ns, ids[i]))
			problem(c, NS_WARNING, ids[i], "an object without inode takes space");
	}
	HASH_ITER (hh, c->nodes, n, next) {
		if (!n->has_row || !S_ISREG(n->row.mode) ||
		    (count > 0 && bsearch(&n->ino, ids, count, sizeof(*ids), by_number)))
			continue;
		if (!object_is_there(c->ns, n->ino) && inode_is_there(c->ns, n->ino))
			problem(c, NS_ERROR, n->ino, "a file without its object: its data is lost");
	}
	free(ids);
	return 0;
}

int ns_check(struct ns *ns, void (*fn)(void *arg, const struct ns_problem *problem), void *arg,
	     struct ns_check_result *ret_result, struct err *e)
{
	struct check c = { .ns = ns, .fn = fn, .arg = arg };
	struct ns_key from = ns_key_ino(NS_ROW_ENTRY, 0);
	const uint8_t until[] = { NS_ROW_XATTR + 1 };
	struct node *n, *next;
	int r = names_iterate(ns->pool, from.bytes, 1, until, sizeof(until), gather, &c, e);

	if (r == 0) {
		judge(&c);
		r = judge_objects(&c, e);
	}
	HASH_ITER (hh, c.nodes, n, next) {
		HASH_DEL(c.nodes, n);
		free(n);
	}
	if (r < 0)
		return err_wrap(e, r, "checking names");
	*ret_result = c.result;
	return 0;
}
