/*
 * backend_file_list - the objects of a directory tree in bytewise order of their whole names.
 *
 * A name as a directory sorts with its '/' ("a-b" < "a/x" < "a0"), and a directory does not say
 * which of its names are directories. So each name stands in the order twice, plain (an object?)
 * and with '/' (a directory?), and is looked at when its turn comes. Memory is bounded: of each
 * directory only the WINDOW_COUNT lowest candidates are kept; when they are used up it is read
 * again from there. No object's bytes are read.
 */
#include "backend/backend_file.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_COUNT ((size_t)8192) /* candidates kept of one directory */
#define GATHER_COUNT (2 * WINDOW_COUNT)

/* What stops file_list_dir() once enough was given; never leaves this file. */
#define LIST_DONE 1

struct listing {
	const struct store_file *f;
	const char *prefix, *after;
	size_t prefix_bytes, after_bytes;
	unsigned int count, count_max;
	int (*fn)(void *arg, const char *name, const struct backend_object *object);
	void *arg;
	int fn_result; /* non-zero: fn ended it */
	struct err *e;
	char name[BACKEND_NAME_BYTES_MAX + 2]; /* of what is looked at, relative to the root */
};

/* "x" may be an object, "x/" a directory. */
struct candidate {
	char *name;
	bool is_known_not; /* a directory, as an object of that name was seen */
};

/* The names of one directory that come next. */
struct window {
	struct listing *l;
	size_t dir_bytes;   /* l->name up to there is the directory, with its '/' */
	const char *behind; /* only candidates that sort after it; NULL: all */
	struct candidate *candidates;
	size_t count;
	bool dropped; /* there are more than were kept */
};

static bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int compare(const void *a, const void *b)
{
	const struct candidate *ca = a, *cb = b;

	return strcmp(ca->name, cb->name);
}

/* Can l->name, an object or a directory with its '/', lead to a name that was asked for? */
static bool is_wanted(const struct listing *l, size_t name_bytes)
{
	bool is_dir = l->name[name_bytes - 1] == '/';

	if (!starts_with(l->name, l->prefix) && !(is_dir && starts_with(l->prefix, l->name)))
		return false;
	if (!l->after || strcmp(l->name, l->after) > 0)
		return true;
	return is_dir && starts_with(l->after, l->name);
}

static void window_sort(struct window *w)
{
	qsort(w->candidates, w->count, sizeof(*w->candidates), compare);
	while (w->count > WINDOW_COUNT) {
		free(w->candidates[--w->count].name);
		w->dropped = true;
	}
}

static int window_add(struct window *w, const char *candidate)
{
	if (w->behind && strcmp(candidate, w->behind) <= 0)
		return 0;
	if (w->count == GATHER_COUNT)
		window_sort(w);
	w->candidates[w->count] = (struct candidate){ .name = strdup(candidate) };
	if (!w->candidates[w->count].name)
		return -ENOMEM;
	w->count++;
	return 0;
}

/* One name of the directory: keep it as object and as directory, where either can be wanted. */
static int window_see(void *arg, const char *name)
{
	struct window *w = arg;
	struct listing *l = w->l;
	size_t part_bytes = strlen(name), name_bytes = w->dir_bytes + part_bytes;
	int r = 0;

	if (part_bytes > BACKEND_PART_BYTES_MAX || name_bytes > BACKEND_NAME_BYTES_MAX)
		return 0;
	memcpy(l->name + w->dir_bytes, name, part_bytes + 1);
	if (backend_check_name(l->name, NULL) < 0)
		return 0; /* not ours: tmp, or a name that no put can have made */
	if (is_wanted(l, name_bytes))
		r = window_add(w, l->name + w->dir_bytes);
	l->name[name_bytes] = '/';
	l->name[name_bytes + 1] = '\0';
	if (r == 0 && is_wanted(l, name_bytes + 1))
		r = window_add(w, l->name + w->dir_bytes);
	return r;
}

static int list_dir(struct listing *l, size_t dir_bytes);

/* Give l->name if it is an object; what it was goes to ret_is_object. */
static int list_object(struct listing *l, bool *ret_is_object)
{
	struct env_file *file = NULL;
	struct backend_object object;
	struct env_stat st;
	int r = file_open_object(l->f, l->name, &file, &st, l->e);

	if (r == -ENOENT)
		return 0; /* a directory, foreign, or deleted meanwhile */
	if (r < 0)
		return r;
	env_close(l->f->env, file);
	*ret_is_object = true;
	object =
		(struct backend_object){ .len_bytes = st.size_bytes, .modified_ns = st.changed_ns };
	l->fn_result = l->fn(l->arg, l->name, &object);
	if (l->fn_result != 0)
		return LIST_DONE;
	l->count++;
	return l->count < l->count_max ? 0 : LIST_DONE;
}

/* Read the directory and keep the lowest candidates behind w->behind. */
static int window_fill(struct window *w)
{
	struct listing *l = w->l;
	char *path;
	int r;

	w->dropped = false;
	l->name[w->dir_bytes] = '\0';
	if (w->dir_bytes > 0)
		l->name[w->dir_bytes - 1] = '\0';
	path = file_path(l->f, l->name);
	if (w->dir_bytes > 0)
		l->name[w->dir_bytes - 1] = '/';
	if (!path)
		return err_set(l->e, -EAGAIN, "no memory for a path");

	r = env_list_dir(l->f->env, path, window_see, w);
	/* Not a directory, or removed meanwhile: no names. */
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		r = 0;
	if (r < 0)
		(void)err_set(l->e, r == -ENOMEM ? -EAGAIN : r, "listing '%s': %s", path,
			      err_name(r));
	free(path);
	window_sort(w);
	return r == -ENOMEM ? -EAGAIN : r;
}

/* An object cannot be a directory as well: spare the attempt to read it as one. */
static void forget_as_dir(struct window *w)
{
	struct listing *l = w->l;
	struct candidate key = { .name = l->name + w->dir_bytes };
	size_t name_bytes = strlen(l->name);
	struct candidate *found;

	l->name[name_bytes] = '/';
	l->name[name_bytes + 1] = '\0';
	found = bsearch(&key, w->candidates, w->count, sizeof(key), compare);
	if (found)
		found->is_known_not = true;
}

/* Look at the candidates in order; the last one is left in *last for the next window. */
static int window_walk(struct window *w, char **last)
{
	struct listing *l = w->l;

	for (size_t i = 0; i < w->count; i++) {
		const struct candidate *c = &w->candidates[i];
		size_t bytes = strlen(c->name);
		bool is_object = false;
		int r = 0;

		memcpy(l->name + w->dir_bytes, c->name, bytes + 1);
		if (c->name[bytes - 1] != '/')
			r = list_object(l, &is_object);
		else if (!c->is_known_not)
			r = list_dir(l, w->dir_bytes + bytes);
		if (r != 0)
			return r;
		if (is_object)
			forget_as_dir(w);
	}
	free(*last);
	*last = w->count > 0 ? w->candidates[--w->count].name : NULL;
	return 0;
}

static int list_dir(struct listing *l, size_t dir_bytes)
{
	char *last = NULL;
	int r;

	do {
		struct window w = { .l = l, .dir_bytes = dir_bytes, .behind = last };

		w.candidates = malloc(GATHER_COUNT * sizeof(*w.candidates));
		r = w.candidates ? window_fill(&w) :
				   err_set(l->e, -EAGAIN, "no memory for a listing");
		if (r == 0)
			r = window_walk(&w, &last);
		for (size_t i = 0; i < w.count; i++)
			free(w.candidates[i].name);
		free(w.candidates);
		if (!w.dropped)
			break;
	} while (r == 0);
	free(last);
	return r;
}

int file_list(struct store *s, const char *prefix, const char *after, unsigned int count_max,
	      int (*fn)(void *arg, const char *name, const struct backend_object *object),
	      void *arg, struct err *e)
{
	struct store_file *f = CONTAINER_OF(s, struct store_file, store);
	struct listing *l;
	int r = file_check_present(f, e);

	if (r < 0 || count_max == 0)
		return r;
	/* On the heap: threads of a simulator have small stacks. */
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, -EAGAIN, "no memory for a listing");
	l->f = f;
	l->prefix = prefix;
	l->after = after;
	l->count_max = count_max;
	l->fn = fn;
	l->arg = arg;
	l->e = e;
	r = list_dir(l, 0);
	if (r >= 0)
		r = l->fn_result != 0 ? l->fn_result : (int)l->count;
	free(l);
	return r;
}
