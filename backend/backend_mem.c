/*
 * backend_mem - objects in this process's memory: the reference that the other stores are held to.
 *
 * "mem:" is private and goes with its close. "mem:name" is one space that all who open that name
 * share; it outlives them (a simulated restart finds its objects) until backend_mem_forget(name).
 * Object bytes are immutable and reference counted, so nothing is copied under a lock and a reader
 * keeps the version that it found. Names lie in one sorted array.
 *
 * Locks are plain pthread ones, not those of common/thread.h: a space stands for a server somewhere
 * else, which a simulated crash of its client must not leave locked. Nothing waits under them.
 */
#include "backend/backend_impl.h"
#include "backend/source.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MEM_COUNT_FIRST 16u

struct blob {
	atomic_uint refs;
	uint64_t len_bytes;
	int64_t modified_ns;
	size_t data_bytes_max;
	char *data; /* aligned for reads of a source that is open ENV_DIRECT */
};

struct mem_object {
	char *name;
	struct blob *blob;
};

struct mem_space {
	char *name; /* empty: private */

	/* guarded by spaces_lock */
	unsigned int refs; /* who has it open, and one for being remembered by name */
	struct mem_space *next;

	pthread_mutex_t lock;	    /* guards all below */
	struct mem_object *objects; /* sorted bytewise by name */
	size_t count, count_max;
};

struct store_mem {
	struct store store;
	struct env *env;
	struct mem_space *space;
};

static pthread_mutex_t spaces_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mem_space *spaces; /* those with a name; guarded by spaces_lock */

static pthread_mutex_t *plain_lock(pthread_mutex_t *m)
{
	ASSERT(pthread_mutex_lock(m) == 0);
	return m;
}

static void plain_unlock(pthread_mutex_t *m)
{
	ASSERT(pthread_mutex_unlock(m) == 0);
}

static void plain_unlockp(pthread_mutex_t **m)
{
	plain_unlock(*m);
}

/* To the end of the block. */
#define HOLD(m) pthread_mutex_t *held AUTO(plain_unlockp) UNUSED = plain_lock(m)

static void blob_unref(struct blob *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
		free(b->data);
		free(b);
	}
}
DEFINE_FREEP(struct blob, blob_unref)

static struct blob *blob_new(uint64_t len_bytes)
{
	struct blob *b;

	if (len_bytes > SIZE_MAX / 2)
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->len_bytes = len_bytes;
	b->data_bytes_max = (size_t)round_up_u64(max_u64(len_bytes, 1), ENV_DIRECT_ALIGN);
	b->data = aligned_alloc(ENV_DIRECT_ALIGN, b->data_bytes_max);
	if (!b->data) {
		free(b);
		return NULL;
	}
	atomic_init(&b->refs, 1);
	return b;
}

static void space_free(struct mem_space *space)
{
	for (size_t i = 0; i < space->count; i++) {
		free(space->objects[i].name);
		blob_unref(space->objects[i].blob);
	}
	free(space->objects);
	ASSERT(pthread_mutex_destroy(&space->lock) == 0);
	free(space->name);
	free(space);
}

static struct mem_space *space_new(const char *name)
{
	struct mem_space *space = calloc(1, sizeof(*space));

	if (!space)
		return NULL;
	space->name = strdup(name);
	if (!space->name) {
		free(space);
		return NULL;
	}
	ASSERT(pthread_mutex_init(&space->lock, NULL) == 0);
	space->refs = 1;
	return space;
}

/* A reference to the space of that name, made where there is none. */
static struct mem_space *space_get(const char *name)
{
	struct mem_space *space;

	if (*name == '\0')
		return space_new(name);

	HOLD(&spaces_lock);
	for (space = spaces; space; space = space->next) {
		if (strcmp(space->name, name) == 0)
			break;
	}
	if (!space) {
		space = space_new(name);
		if (!space)
			return NULL;
		space->next = spaces;
		spaces = space;
	}
	space->refs++;
	return space;
}

static void space_unref(struct mem_space *space)
{
	bool last;

	plain_lock(&spaces_lock);
	ASSERT(space->refs > 0);
	last = --space->refs == 0;
	plain_unlock(&spaces_lock);
	if (last)
		space_free(space);
}

void backend_mem_forget(const char *name)
{
	struct mem_space *found = NULL;

	plain_lock(&spaces_lock);
	for (struct mem_space **at = &spaces; *at; at = &(*at)->next) {
		if (strcmp((*at)->name, name) == 0) {
			found = *at;
			*at = found->next;
			break;
		}
	}
	plain_unlock(&spaces_lock);
	if (found)
		space_unref(found);
}

/* Index of the first object whose name is not below `name`. */
static size_t lower_bound_locked(const struct mem_space *space, const char *name)
{
	size_t low = 0, high = space->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(space->objects[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at_locked(const struct mem_space *space, size_t i, const char *name)
{
	return i < space->count && strcmp(space->objects[i].name, name) == 0;
}

static struct blob *find(struct mem_space *space, const char *name)
{
	HOLD(&space->lock);
	size_t i = lower_bound_locked(space, name);

	if (!is_at_locked(space, i, name))
		return NULL;
	atomic_fetch_add_explicit(&space->objects[i].blob->refs, 1, memory_order_relaxed);
	return space->objects[i].blob;
}

static int grow_locked(struct mem_space *space)
{
	size_t count_max = space->count_max ? 2 * space->count_max : MEM_COUNT_FIRST;
	struct mem_object *objects;

	if (space->count < space->count_max)
		return 0;
	objects = realloc(space->objects, count_max * sizeof(*objects));
	if (!objects)
		return -ENOMEM;
	space->objects = objects;
	space->count_max = count_max;
	return 0;
}

/* Put the blob under the name; takes over *blob and gives back in it what has to be dropped. */
static int publish(struct mem_space *space, const char *name, struct blob **blob,
		   unsigned int flags)
{
	HOLD(&space->lock);
	size_t i = lower_bound_locked(space, name);
	struct mem_object *at;
	char *copy;

	if (is_at_locked(space, i, name)) {
		struct blob *old = space->objects[i].blob;

		if (flags & BACKEND_PUT_IF_ABSENT)
			return -EEXIST;
		space->objects[i].blob = *blob;
		*blob = old;
		return 0;
	}
	copy = strdup(name);
	if (!copy || grow_locked(space) < 0) {
		free(copy);
		return -ENOSPC;
	}
	at = &space->objects[i];
	memmove(at + 1, at, (space->count - i) * sizeof(*at));
	*at = (struct mem_object){ .name = copy, .blob = TAKE_PTR(*blob) };
	space->count++;
	return 0;
}

static int mem_put(struct store *s, const char *name, const struct backend_source *source,
		   unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);
	AUTO(blob_unrefp) struct blob *blob = NULL;
	struct source_reader reader;
	ssize_t n;
	int r;

	blob = blob_new(source->len_bytes);
	if (!blob)
		return err_set(e, -ENOSPC, "'%s': no memory for %" PRIu64 " bytes", name,
			       source->len_bytes);
	blob->modified_ns = env_now_real_ns(m->env);

	source_start(&reader, m->env, source);
	n = source_next(&reader, blob->data, blob->data_bytes_max, e);
	if (n < 0)
		return (int)n;
	r = source_finish(&reader, e);
	if (r < 0)
		return r;

	r = publish(m->space, name, &blob, flags);
	if (r < 0)
		return err_set(e, r, "'%s': %s", name, err_name(r));
	*ret_result = (struct backend_put_result){ .shares_file = false };
	return 0;
}

static int mem_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		   size_t len_bytes, struct err *e)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);
	AUTO(blob_unrefp) struct blob *blob = find(m->space, name);

	if (!blob)
		return err_set(e, -ENOENT, "'%s': no such object", name);
	if (offset_bytes > blob->len_bytes || len_bytes > blob->len_bytes - offset_bytes)
		return err_set(e, -EUCLEAN, "'%s': ends at %" PRIu64, name, blob->len_bytes);
	if (len_bytes > 0)
		memcpy(dst, blob->data + offset_bytes, len_bytes);
	return 0;
}

static int mem_head(struct store *s, const char *name, struct backend_object *ret_object,
		    struct err *e)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);
	AUTO(blob_unrefp) struct blob *blob = find(m->space, name);

	if (!blob)
		return err_set(e, -ENOENT, "'%s': no such object", name);
	*ret_object = (struct backend_object){ .len_bytes = blob->len_bytes,
					       .modified_ns = blob->modified_ns };
	return 0;
}

static int mem_del(struct store *s, const char *name, struct err *e)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);
	struct mem_object gone = { .name = NULL };

	(void)e; /* cannot fail */
	plain_lock(&m->space->lock);
	size_t i = lower_bound_locked(m->space, name);

	if (is_at_locked(m->space, i, name)) {
		struct mem_object *at = &m->space->objects[i];

		gone = *at;
		m->space->count--;
		memmove(at, at + 1, (m->space->count - i) * sizeof(*at));
	}
	plain_unlock(&m->space->lock);
	free(gone.name);
	blob_unref(gone.blob);
	return 0;
}

/*
 * The first object behind the cursor that starts with prefix: its name goes to cursor (which has
 * BACKEND_NAME_BYTES_MAX + 1 bytes). inclusive: the cursor itself counts too.
 */
static bool next_object(struct mem_space *space, const char *prefix, char *cursor, bool inclusive,
			struct backend_object *ret_object)
{
	HOLD(&space->lock);
	size_t i = lower_bound_locked(space, cursor);
	const struct mem_object *at;

	if (!inclusive && is_at_locked(space, i, cursor))
		i++;
	if (i == space->count)
		return false;
	at = &space->objects[i];
	if (strncmp(at->name, prefix, strlen(prefix)) != 0)
		return false;
	memcpy(cursor, at->name, strlen(at->name) + 1);
	*ret_object = (struct backend_object){ .len_bytes = at->blob->len_bytes,
					       .modified_ns = at->blob->modified_ns };
	return true;
}

static int mem_list(struct store *s, const char *prefix, const char *after, unsigned int count_max,
		    int (*fn)(void *arg, const char *name, const struct backend_object *object),
		    void *arg, struct err *e)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);
	bool from_prefix = !after || strcmp(after, prefix) < 0;
	char cursor[BACKEND_NAME_BYTES_MAX + 1];
	struct backend_object object;
	unsigned int count = 0;

	(void)e; /* cannot fail */
	memcpy(cursor, from_prefix ? prefix : after, strlen(from_prefix ? prefix : after) + 1);
	/* fn runs without the lock, so it may call back into the store. */
	while (count < count_max &&
	       next_object(m->space, prefix, cursor, from_prefix && count == 0, &object)) {
		int r = fn(arg, cursor, &object);

		if (r != 0)
			return r;
		count++;
	}
	return (int)count;
}

static void mem_close(struct store *s)
{
	struct store_mem *m = CONTAINER_OF(s, struct store_mem, store);

	space_unref(m->space);
	free(m);
}

static const struct store_ops mem_ops = {
	.type_name = "mem",
	.close = mem_close,
	.put = mem_put,
	.get = mem_get,
	.head = mem_head,
	.del = mem_del,
	.list = mem_list,
};

int store_mem_open(struct env *env, const char *rest, const struct backend_options *options,
		   struct store **ret_store, struct err *e)
{
	struct store_mem *m = calloc(1, sizeof(*m));

	(void)options; /* none apply */
	if (!m)
		return err_set(e, -ENOMEM, "opening 'mem:%s'", rest);
	m->store = (struct store){ .ops = &mem_ops, .caps = BACKEND_CAP_PUT_IF_ABSENT };
	m->env = env;
	m->space = space_get(rest);
	if (!m->space) {
		free(m);
		return err_set(e, -ENOMEM, "opening 'mem:%s'", rest);
	}
	*ret_store = &m->store;
	return 0;
}
