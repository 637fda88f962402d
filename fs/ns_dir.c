/*
 * ns_dir - reading directories, and what walks them: paths, the list of files.
 */
#include "fs/ns_impl.h"

#include <stdlib.h>
#include <string.h>

/* Entries that are read ahead of the caller: what a reply holds, with and without attributes. */
#define PAGE_ENTRIES	  128u
#define PAGE_ENTRIES_ATTR 32u

/* --- reading ----------------------------------------------------------------------------------- */

struct page {
	unsigned int count, max;
	struct page_entry {
		uint64_t ino, cookie;
		uint32_t type;
		uint8_t name_bytes;
		char name[NS_NAME_MAX + 1];
	} entries[PAGE_ENTRIES];
};

static int add_to_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct page *p = arg;
	struct page_entry *at = &p->entries[p->count];
	struct ns_key_parts parts;
	struct ns_entry_row row;
	int r = ns_key_parse(key, key_bytes, &parts, NULL);

	if (r == 0)
		r = ns_entry_row_decode(key, key_bytes, value, value_bytes, &row, NULL);
	if (r < 0)
		return r;
	at->ino = row.ino;
	at->cookie = parts.cookie;
	at->type = row.type;
	at->name_bytes = row.name_bytes;
	memcpy(at->name, row.name, row.name_bytes);
	at->name[row.name_bytes] = 0;
	p->count++;
	return p->count == p->max;
}

static int read_page(struct ns *ns, uint64_t dir, uint64_t cookie, struct page *p, struct err *e)
{
	struct ns_key from = ns_key_entry(dir, cookie + 1);
	struct ns_key until = ns_key_ino(NS_ROW_ENTRY, dir + 1);
	int r;

	p->count = 0;
	if (cookie == UINT64_MAX)
		return 0;
	r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			  add_to_page, p, e);
	return r < 0 ? err_because(e, r, "reading directory %" PRIu64, dir) : 0;
}

struct reader {
	struct ns *ns;
	unsigned int flags;
	int (*fn)(void *arg, const struct ns_dirent *entry);
	void *arg;
};

/* Give one entry to the caller: its answer. One that is gone meanwhile is left out if attributes
 * are asked for; one whose attributes can't be told comes without. */
static int give(const struct reader *rd, const char *name, size_t name_bytes, uint64_t ino,
		uint32_t type, uint64_t cookie)
{
	struct ns_dirent entry = {
		.name = name,
		.name_bytes = name_bytes,
		.ino = ino,
		.type = type,
		.cookie = cookie,
	};
	struct ns_inode *i = NULL;
	struct ns_attr attr;
	bool lookup;
	int r;

	if (!(rd->flags & (NS_READDIR_ATTR | NS_READDIR_LOOKUP)))
		return rd->fn(rd->arg, &entry);
	r = ns_inode_get(rd->ns, ino, &i, NULL);
	if (r == -ESTALE)
		return 0;
	if (r == 0 && ns_inode_attr(rd->ns, i, &attr, NULL) == 0)
		entry.attr = &attr;
	lookup = rd->flags & NS_READDIR_LOOKUP && entry.attr && cookie > NS_COOKIE_DOTDOT;
	r = rd->fn(rd->arg, &entry);
	if (r == 0 && lookup)
		ns_inode_count_lookup(rd->ns, i);
	if (i)
		ns_inode_put(rd->ns, i);
	return r;
}

static int give_dots(const struct reader *rd, uint64_t ino, uint64_t parent, uint64_t *cookie)
{
	int r = 0;

	if (*cookie < NS_COOKIE_DOT) {
		r = give(rd, ".", 1, ino, S_IFDIR, NS_COOKIE_DOT);
		*cookie = NS_COOKIE_DOT;
	}
	if (r == 0 && *cookie < NS_COOKIE_DOTDOT) {
		r = give(rd, "..", 2, parent, S_IFDIR, NS_COOKIE_DOTDOT);
		*cookie = NS_COOKIE_DOTDOT;
	}
	return r;
}

static int read_all(const struct reader *rd, uint64_t ino, uint64_t cookie, struct err *e)
{
	struct page *p = malloc(sizeof(*p));
	int r = p ? 0 : err_set(e, -ENOMEM, "reading a directory");

	if (p) {
		p->max = rd->flags ? PAGE_ENTRIES_ATTR : PAGE_ENTRIES;
		p->count = p->max;
	}
	while (r == 0 && p->count == p->max) {
		r = read_page(rd->ns, ino, cookie, p, e);
		for (unsigned int n = 0; r == 0 && n < p->count; n++) {
			const struct page_entry *at = &p->entries[n];

			r = give(rd, at->name, at->name_bytes, at->ino, at->type, at->cookie);
			cookie = at->cookie;
		}
	}
	free(p);
	return r;
}

int ns_readdir(struct ns *ns, uint64_t ino, uint64_t cookie, unsigned int flags,
	       int (*fn)(void *arg, const struct ns_dirent *entry), void *arg, struct err *e)
{
	const struct reader rd = { .ns = ns, .flags = flags, .fn = fn, .arg = arg };
	struct ns_inode_row row;
	int r;

	if (ns_is_view(ino))
		return ns_view_readdir(ns, ino, cookie, flags, fn, arg, e);
	counter_inc(&ns->metrics.readdirs);
	r = ns_peek_row(ns, ino, &row, e);
	if (r < 0)
		return r;
	if (!S_ISDIR(row.mode))
		return err_set(e, -ENOTDIR, "inode %" PRIu64 " is no directory", ino);
	r = give_dots(&rd, ino, row.nlink == 0 ? ino : row.parent, &cookie);
	if (r == 0)
		r = read_all(&rd, ino, cookie, e);
	return r < 0 ? r : 0;
}

/* --- path to inode ----------------------------------------------------------------------------- */

static int step(struct ns *ns, uint64_t *ino, const char *name, size_t name_bytes, struct err *e)
{
	struct ns_name_row found;
	struct ns_inode_row row;
	int r = ns_peek_row(ns, *ino, &row, e);

	if (r == 0)
		r = ns_check_parent(&row, e);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r; /* removed under our feet */
	if (ns_name_is_dot(name, name_bytes))
		return 0;
	if (ns_name_is_dotdot(name, name_bytes)) {
		*ino = row.parent;
		return 0;
	}
	r = ns_name_check(name, name_bytes, e);
	if (r == 0)
		r = ns_find_name(ns, *ino, name, name_bytes, &found, e);
	if (r == 0)
		*ino = found.ino;
	return r;
}

int ns_path_find(struct ns *ns, const char *path, size_t path_bytes, uint64_t *ret_ino,
		 struct err *e)
{
	uint64_t ino = NS_ROOT_INO;
	size_t at = 0;

	while (at < path_bytes) {
		const char *slash = memchr(path + at, '/', path_bytes - at);
		size_t len = slash ? (size_t)(slash - path) - at : path_bytes - at;
		int r = len ? step(ns, &ino, path + at, len, e) : 0;

		if (r < 0)
			return err_wrap(e, r, "'%.*s'", (int)min_u64(path_bytes, 200), path);
		at += len + 1;
	}
	*ret_ino = ino;
	return 0;
}

/* --- inode to path ----------------------------------------------------------------------------- */

struct place {
	uint64_t ino; /* looked for */
	uint64_t parent;
	uint8_t name_bytes;
	char name[NS_NAME_MAX];
};

static int is_place(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct place *p = arg;
	struct ns_key_parts parts;
	struct ns_entry_row row;

	/* Damage elsewhere is none of our business here. */
	if (ns_key_parse(key, key_bytes, &parts, NULL) < 0 ||
	    ns_entry_row_decode(key, key_bytes, value, value_bytes, &row, NULL) < 0 ||
	    row.ino != p->ino)
		return 0;
	p->parent = parts.ino;
	p->name_bytes = row.name_bytes;
	memcpy(p->name, row.name, row.name_bytes);
	return 1;
}

/* A name of an inode: where its row says, else anywhere. */
static int find_place(struct ns *ns, const struct ns_inode_row *row, struct place *p, struct err *e)
{
	struct ns_key key = ns_key_entry(row->parent, row->parent_cookie);
	struct ns_key from = ns_key_ino(NS_ROW_ENTRY, 0);
	struct ns_key until = ns_key_ino(NS_ROW_ENTRY, UINT64_MAX);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r;

	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	if (r == 0 && is_place(p, key.bytes, key.len_bytes, value.data, value.len_bytes))
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	if (row->nlink == 0)
		return err_set(e, -ENOENT, "inode %" PRIu64 " has no name", p->ino);
	r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			  is_place, p, e);
	if (r == 0)
		return err_set(e, -ENOENT, "inode %" PRIu64 " has no name", p->ino);
	return r < 0 ? r : 0;
}

int ns_parent_of(struct ns *ns, uint64_t ino, uint64_t *ret_parent, struct err *e)
{
	struct place p = { .ino = ino };
	struct ns_inode_row row;
	int r = ns_peek_row(ns, ino, &row, e);

	if (r == 0)
		r = find_place(ns, &row, &p, e);
	if (r == 0)
		*ret_parent = p.parent;
	return r;
}

static void reverse(uint8_t *bytes, size_t count)
{
	for (size_t n = 0; n < count / 2; n++) {
		uint8_t byte = bytes[n];

		bytes[n] = bytes[count - 1 - n];
		bytes[count - 1 - n] = byte;
	}
}

/* From the end to the front, every name and at last the whole turned round. */
static int append_backwards(struct buf *out, const struct place *p)
{
	size_t start = out->len_bytes;
	int r = buf_append(out, p->name, p->name_bytes);

	if (r == 0) {
		reverse(out->data + start, p->name_bytes);
		r = buf_append(out, "/", 1);
	}
	return r;
}

int ns_path_of(struct ns *ns, uint64_t ino, struct buf *out, struct err *e)
{
	struct place p = { .ino = ino };
	struct ns_inode_row row;
	int r = 0;

	buf_clear(out);
	for (unsigned int depth = 0; r == 0 && p.ino != NS_ROOT_INO; depth++) {
		if (depth == NS_DEPTH_MAX)
			return err_set(e, -EUCLEAN, "inode %" PRIu64 " is not below the root", ino);
		r = ns_peek_row(ns, p.ino, &row, e);
		if (r == 0)
			r = find_place(ns, &row, &p, e);
		if (r == 0)
			r = append_backwards(out, &p);
		p.ino = p.parent;
	}
	if (r == 0 && out->len_bytes == 0)
		r = buf_append(out, "/", 1);
	if (r == 0)
		reverse(out->data, out->len_bytes);
	if (r == 0)
		r = buf_append(out, "", 1);
	if (r < 0)
		return err_wrap(e, r, "path of inode %" PRIu64, ino);
	out->len_bytes--;
	return 0;
}

/* --- all files --------------------------------------------------------------------------------- */

/* A directory that is still to be read. */
struct pending {
	struct pending *next;
	uint64_t ino;
	size_t path_bytes;
	char path[]; /* ends with NUL; that of the root is empty */
};

struct seen {
	uint64_t ino;
	UT_hash_handle hh;
};

struct walk {
	struct ns *ns;
	int (*fn)(void *arg, const struct ns_file *file);
	void *arg;
	struct pending *stack;
	struct seen *seen; /* files of several names */
	const struct pending *dir;
	int result; /* of fn */
};

static int push(struct walk *w, uint64_t ino, const struct pending *dir, const char *name,
		size_t name_bytes)
{
	size_t dir_bytes = dir ? dir->path_bytes + 1 : 0;
	struct pending *p = malloc(sizeof(*p) + dir_bytes + name_bytes + 1);

	if (!p)
		return -ENOMEM;
	p->ino = ino;
	p->path_bytes = dir_bytes + name_bytes;
	if (dir) {
		memcpy(p->path, dir->path, dir->path_bytes);
		p->path[dir->path_bytes] = '/';
	}
	memcpy(p->path + dir_bytes, name, name_bytes);
	p->path[p->path_bytes] = 0;
	p->next = w->stack;
	w->stack = p;
	return 0;
}

static void pop(struct walk *w)
{
	struct pending *p = w->stack;

	w->stack = p->next;
	free(p);
}

/* 1: it was told before. */
static int is_seen(struct walk *w, const struct ns_attr *attr)
{
	uint64_t ino = attr->ino;
	struct seen *s;

	if (attr->nlink < 2)
		return 0;
	HASH_FIND(hh, w->seen, &ino, sizeof(ino), s);
	if (s)
		return 1;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->ino = ino;
	HASH_ADD(hh, w->seen, ino, sizeof(s->ino), s);
	if (HASH_TOOK(s))
		return 0;
	free(s);
	return -ENOMEM;
}

static int tell(struct walk *w, const struct pending *at, const struct ns_attr *attr)
{
	const struct ns_file file = {
		.path = at->path,
		.path_bytes = at->path_bytes,
		.attr = *attr,
	};
	int r = is_seen(w, attr);

	if (r != 0)
		return r < 0 ? r : 0;
	w->result = w->fn(w->arg, &file);
	return w->result != 0;
}

static int visit(void *arg, const struct ns_dirent *entry)
{
	struct walk *w = arg;
	int r;

	if (entry->cookie <= NS_COOKIE_DOTDOT || (!S_ISDIR(entry->type) && !S_ISREG(entry->type)))
		return 0;
	r = push(w, entry->ino, w->dir, entry->name, entry->name_bytes);
	if (r < 0 || S_ISDIR(entry->type))
		return r;
	/* The path is built as that of a directory would be, and goes again. */
	if (entry->attr)
		r = tell(w, w->stack, entry->attr);
	pop(w);
	return r;
}

/* Take the top directory off the stack and read it; what is below it goes on the stack. */
static int read_top(struct walk *w, struct err *e)
{
	struct pending *dir = w->stack;
	int r;

	w->stack = dir->next;
	w->dir = dir;
	r = ns_readdir(w->ns, dir->ino, NS_COOKIE_DOTDOT, NS_READDIR_ATTR, visit, w, e);
	free(dir);
	return r == -ESTALE || r == -ENOTDIR ? 0 : r; /* removed meanwhile */
}

int ns_for_each_file(struct ns *ns, uint64_t ino, int (*fn)(void *arg, const struct ns_file *file),
		     void *arg, struct err *e)
{
	struct walk w = { .ns = ns, .fn = fn, .arg = arg };
	AUTO(ns_buf_donep) struct buf path = { 0 };
	struct seen *s, *next;
	struct ns_attr attr;
	int r = ns_getattr(ns, ino, &attr, e);

	buf_init(&path, SIZE_MAX / 4);
	if (r == 0)
		r = ns_path_of(ns, ino, &path, e);
	if (r == 0)
		r = push(&w, ino, NULL, (const char *)path.data,
			 ino == NS_ROOT_INO ? 0 : path.len_bytes);
	if (r == 0 && S_ISREG(attr.mode))
		r = tell(&w, w.stack, &attr);
	while (r == 0 && w.result == 0 && S_ISDIR(attr.mode) && w.stack)
		r = read_top(&w, e);
	while (w.stack)
		pop(&w);
	HASH_ITER (hh, w.seen, s, next) {
		HASH_DEL(w.seen, s);
		free(s);
	}
	if (r < 0 && w.result == 0)
		return err_wrap(e, r, "listing files");
	return w.result;
}
