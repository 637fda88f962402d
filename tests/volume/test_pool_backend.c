/* What reaches the backend: roots whose every name is there, deletion in two phases, outages. */
#include "support_pool.h"
#include "support_store.h"

#include "common/buf.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/format.h"
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct backend *store; /* a second look at the same objects */
static char url[PATH_BYTES];

static void open_store(void)
{
	struct backend_options o = { .attempts_max = 1 };
	char path[PATH_BYTES];

	(void)snprintf(url, sizeof(url), "file://%.1000s", pool_path(path, "objects"));
	ck_assert_int_eq(backend_open(env_posix(), url, &o, &store, NULL), 0);
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
	open_store();
}

static struct pool_status status(void)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st;
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

/* --- looking at the store ----------------------------------------------------------------------- */

struct names {
	char (*name)[BACKEND_NAME_BYTES_MAX + 1];
	size_t count;
};

static int add_name(void *arg, const char *name, UNUSED const struct backend_object *object)
{
	struct names *n = arg;

	n->name = realloc(n->name, (n->count + 1) * sizeof(*n->name));
	(void)snprintf(n->name[n->count++], sizeof(*n->name), "%s", name);
	return 0;
}

static struct names list_names(const char *prefix)
{
	struct names n = { 0 };
	int r = backend_list(store, prefix, NULL, 1000, add_name, &n, NULL);

	ck_assert_int_eq(r, (int)n.count);
	ck_assert_int_lt(r, 1000);
	return n;
}

static bool has_name(const struct names *n, const char *name)
{
	for (size_t i = 0; i < n->count; i++)
		if (strcmp(n->name[i], name) == 0)
			return true;
	return false;
}

static uint8_t *get_object_bytes(const char *name, size_t *ret_len)
{
	struct backend_object object;
	uint8_t *bytes;

	ck_assert_msg(backend_head(store, name, &object, NULL) == 0, "'%s' is named and not there",
		      name);
	bytes = malloc(object.len_bytes + 1);
	ck_assert_int_eq(backend_get(store, name, 0, bytes, object.len_bytes, NULL), 0);
	*ret_len = object.len_bytes;
	return bytes;
}

static uint8_t *get_named(const struct named_object *o)
{
	size_t len;
	uint8_t *bytes = get_object_bytes(o->name, &len);

	ck_assert_uint_eq(len, o->len_bytes);
	ck_assert_uint_eq(crc32c(0, bytes, len), o->crc);
	return bytes;
}

/* Everything the newest root names is there with the right length and checksum. Returns SCOs. */
static size_t walk_root(void)
{
	char name[OBJECT_NAME_MAX + 1];
	struct pool_status st = status();
	size_t len, scos = 0;
	struct root root;
	uint8_t *bytes;

	object_name_root(name, st.root, st.epoch);
	bytes = get_object_bytes(name, &len);
	ck_assert_int_eq(root_decode(bytes, len, &root, NULL), 0);
	free(bytes);
	ck_assert_uint_eq(root.number, st.root);
	ck_assert_uint_eq(root.epoch, st.epoch);
	free(get_named(&root.ns));
	for (uint32_t i = 0; i < root.stream_count; i++) {
		struct manifest m;

		bytes = get_named(&root.streams[i].manifest);
		ck_assert_int_eq(manifest_decode(bytes, root.streams[i].manifest.len_bytes, &m,
						 NULL),
				 0);
		free(bytes);
		ck_assert_uint_eq(m.stream, root.streams[i].stream);
		if (m.map.name[0])
			free(get_named(&m.map));
		for (uint32_t j = 0; j < m.sco_count; j++, scos++) {
			object_name_sco(name, m.stream, m.scos[j].sco, m.scos[j].version,
					m.scos[j].object_epoch);
			bytes = get_object_bytes(name, &len);
			ck_assert_uint_eq(len, m.scos[j].file_bytes);
			ck_assert_uint_eq(crc32c(0, bytes + len - BLOCK_BYTES, BLOCK_BYTES),
					  m.scos[j].footer_crc);
			free(bytes);
		}
		manifest_done(&m);
	}
	root_done(&root);
	return scos;
}

/* --- roots -------------------------------------------------------------------------------------- */

static bool nothing_is_queued(UNUSED void *arg)
{
	sync_backend();
	return status().queued_scos == 0;
}

START_TEST(everything_that_a_root_names_is_on_the_backend)
{
	uint8_t *mem = pattern_mem(3 * MIB, 1);
	struct rng r = { 9 };
	struct object *o[4];
	uint64_t before;

	open_fresh();
	for (unsigned int i = 0; i < 4; i++)
		o[i] = make_object(i % 2 ? OBJECT_FILE : OBJECT_DISK);
	for (unsigned int round = 0; round < 6; round++) {
		for (unsigned int i = 0; i < 30; i++)
			write_bytes(o[rng_below(&r, 4)], rng_below(&r, 4 * MIB), mem,
				    1 + rng_below(&r, 300000));
		before = status().root;
		sync_backend();
		ck_assert_uint_gt(status().root, before);
		ck_assert_uint_gt(walk_root(), 0);
		/* The cleaner may have filled SCOs since; it comes to an end. */
		wait_until(nothing_is_queued, NULL, 20, "uploads");
		ck_assert_uint_gt(walk_root(), 0);
		/* It may have begun one in each stream. */
		ck_assert_uint_le(status().dirty_bytes, 4 * MIB);
	}
	for (unsigned int i = 0; i < 4; i++)
		object_close(o[i]);
	pool_fixture_restart();
	sync_backend();
	walk_root();
	backend_close(store);
	free(mem);
}
END_TEST

START_TEST(a_linked_object_shares_the_inode_and_a_copy_does_not)
{
	static const unsigned int modes[] = { BACKEND_COPY_LINK, BACKEND_COPY_BYTES };
	uint8_t *mem = pattern_mem(MIB / 2, 1);
	char path[PATH_BYTES];
	struct object *o;
	struct stat st;

	pf.options.backend_copy = modes[_i];
	pf.options.packs = PACKS_NEVER;
	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, MIB / 2);
	sync_backend();
	ck_assert_int_eq(stat(sco_path_of(path, 16, 0), &st), 0);
	ck_assert_uint_eq(st.st_nlink, modes[_i] == BACKEND_COPY_LINK ? 2 : 1);
	ck_assert_uint_gt(walk_root(), 0);
	/* Writing on never touches what is linked. */
	write_bytes(o, 0, mem + 4096, 65536);
	sync_backend();
	walk_root();
	object_close(o);
	backend_close(store);
	free(mem);
}
END_TEST

START_TEST(what_died_goes_with_the_root_after_the_one_that_condemns_it)
{
	uint8_t *mem = pattern_mem(MIB, 1);
	struct names first, now;
	unsigned int gone_at = 0;
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, MIB / 2);
	sync_backend();
	first = list_names("00000010/sco/");
	if (first.count == 0) { /* whatever the directory is called */
		free(first.name);
		first = list_names("");
	}
	write_bytes(o, 0, mem + 4096, MIB / 2); /* all of it is dead now */
	for (unsigned int root = 1; root <= 6 && !gone_at; root++) {
		size_t left = 0;

		sync_backend();
		walk_root();
		now = list_names("");
		for (size_t i = 0; i < first.count; i++)
			left += strstr(first.name[i], "/sco/") && has_name(&now, first.name[i]);
		if (left == 0)
			gone_at = root;
		free(now.name);
	}
	/* Not at once: the root before still named it. */
	ck_assert_uint_ge(gone_at, 2);
	ck_assert_uint_le(gone_at, 5);
	free(first.name);
	object_close(o);
	backend_close(store);
	free(mem);
}
END_TEST

static size_t count_scos(void)
{
	struct names n = list_names("");
	size_t scos = 0;

	for (size_t i = 0; i < n.count; i++)
		scos += strstr(n.name[i], "/sco/") != NULL;
	free(n.name);
	return scos;
}

/* A store that puts SCOs and says that it failed, while lose_puts; that keeps every second one that is
 * deleted, while keep_some. */
static bool lose_puts, keep_some;
static unsigned int kept;
/* What is dirty when a SCO is put, the last one first. Several are put at a time. */
static struct mutex put_lock;
static uint64_t dirty_at_put[2];
static const struct store_ops *mem_ops;

static int losing_put(struct store *s, const char *name, const struct backend_source *source,
		      unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	int r = mem_ops->put(s, name, source, flags, ret_result, e);

	if (strstr(name, "/sco/")) {
		GUARD(&put_lock);
		dirty_at_put[1] = dirty_at_put[0];
		dirty_at_put[0] = __atomic_load_n(&pf.pool->dirty_bytes, __ATOMIC_RELAXED);
	}
	return lose_puts && strstr(name, "/sco/") ? err_set(e, -EAGAIN, "the answer is lost") : r;
}

static int keeping_del(struct store *s, const char *name, struct err *e)
{
	if (keep_some && strstr(name, "/sco/") && kept++ % 2 == 0)
		return err_set(e, -EACCES, "not this one");
	return mem_ops->del(s, name, e);
}

static void lose_and_keep(struct store_ops *ops)
{
	ops->put = losing_put;
	ops->del = keeping_del;
}

static struct backend *open_losing_store(void)
{
	struct backend_options o = { .attempts_max = 1 };
	struct backend *backend;

	mutex_init(&put_lock, 0);
	backend = changed_mem_backend("lost", lose_and_keep, &mem_ops);
	ck_assert_int_eq(backend_open(env_posix(), "mem:lost", &o, &store, NULL), 0);
	return backend;
}

/* And before the next try the SCO died: nobody puts it again, nobody ever named it. */
START_TEST(an_object_whose_put_seemed_to_fail_goes_when_its_sco_dies)
{
	struct backend *backend = open_losing_store();
	uint8_t *mem = pattern_mem(MIB, 1);
	struct object *o;
	size_t before;
	uint64_t id;

	pf.options.backend = backend;
	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, MIB / 2);
	sync_backend();
	write_bytes(o, MIB, mem, MIB / 2);
	before = count_scos();
	lose_puts = true;
	ck_assert_int_lt(pool_sync_backend(pf.pool, NULL), 0);
	lose_puts = false;
	ck_assert_uint_gt(count_scos(), before);
	id = id_of(o);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	for (unsigned int i = 0; i < 8; i++) {
		sync_backend();
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	}
	ck_assert_uint_eq(count_scos(), 0);
	pool_fixture_close();
	backend_close(backend);
	backend_close(store);
	backend_mem_forget("lost");
	free(mem);
}
END_TEST

START_TEST(what_could_not_be_deleted_is_remembered_and_the_others_go)
{
	struct backend *backend = open_losing_store();
	uint8_t *mem = pattern_mem(MIB, 1);
	size_t before, after;
	struct object *o;
	uint64_t id;

	pf.options.backend = backend;
	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < 6; i++) {
		write_bytes(o, i * MIB, mem, MIB);
		sync_backend();
	}
	before = count_scos();
	ck_assert_uint_ge(before, 4);
	id = id_of(o);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	keep_some = true;
	kept = 0;
	for (unsigned int i = 0; i < 8 && kept == 0; i++)
		if (pool_sync_backend(pf.pool, NULL) == 0)
			ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	after = count_scos();
	ck_assert_uint_gt(after, 0);
	ck_assert_uint_lt(after, before);
	keep_some = false;
	for (unsigned int i = 0; i < 4; i++)
		sync_backend();
	ck_assert_uint_eq(count_scos(), 0);
	pool_fixture_close();
	backend_close(backend);
	backend_close(store);
	backend_mem_forget("lost");
	free(mem);
}
END_TEST

START_TEST(what_was_put_is_no_longer_dirty_while_the_round_goes_on)
{
	struct backend *backend = open_losing_store();
	uint8_t *mem = pattern_mem(MIB, 1);
	struct object *o;

	pf.options.backend = backend;
	pf.options.uploads_max = 1;
	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < 4; i++)
		write_bytes(o, i * MIB, mem, MIB);
	sync_backend();
	ck_assert_uint_gt(dirty_at_put[0], 0); /* the last one itself */
	ck_assert_uint_gt(dirty_at_put[1], dirty_at_put[0]);
	ck_assert_uint_eq(status().dirty_bytes, 0);
	object_close(o);
	pool_fixture_close();
	backend_close(backend);
	backend_close(store);
	backend_mem_forget("lost");
	free(mem);
}
END_TEST

/* A caller that writes without a pause, as far as the throttle lets it; nothing is uploaded. */
START_TEST(writers_slow_down_by_no_more_than_four_times_a_second)
{
	const double base_s = 0.001, limit = 4096;
	double second_s = 0, now_s = 0, last_s = 0, dirty = limit / 4;
	unsigned int seconds = 0;

	open_fresh();
	__atomic_store_n(&pf.pool->dirty_limit_bytes, (uint64_t)limit * MIB, __ATOMIC_RELAXED);
	while (dirty < limit - 2) {
		double took_s = base_s;

		__atomic_store_n(&pf.pool->dirty_bytes, (uint64_t)dirty * MIB, __ATOMIC_RELAXED);
		took_s += (double)pool_delay_left_ns(pf.pool, MIB, UINT64_MAX) / 1e9;
		ck_assert(took_s >= base_s && (dirty > limit / 2 || took_s < base_s + 1e-9));
		now_s += took_s;
		dirty++;
		if (now_s < second_s + 1)
			continue;
		/* It grows all the time, so what it is at the end of a second bounds the median. */
		ck_assert_msg(last_s == 0 || took_s <= 4 * last_s, "%.1f ms, then %.1f ms",
			      last_s * 1e3, took_s * 1e3);
		last_s = took_s;
		second_s = now_s;
		seconds++;
	}
	ck_assert_uint_ge(seconds, 5);
	/* Many at the same time are as fast as one: each waits for all. */
	__atomic_store_n(&pf.pool->dirty_bytes, (uint64_t)(limit - 512) * MIB, __ATOMIC_RELAXED);
	last_s = (double)pool_delay_left_ns(pf.pool, MIB, UINT64_MAX);
	__atomic_store_n(&pf.pool->waiting_count, 9, __ATOMIC_RELAXED);
	ck_assert_double_eq_tol((double)pool_delay_left_ns(pf.pool, MIB, UINT64_MAX) / last_s, 10,
				0.01);
	__atomic_store_n(&pf.pool->waiting_count, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&pf.pool->dirty_bytes, 0, __ATOMIC_RELAXED);
	pool_fixture_close();
	backend_close(store);
}
END_TEST

static void put_bytes(const char *name)
{
	struct backend_source source = { .data = "orphan", .len_bytes = 6 };
	struct backend_put_result result;

	ck_assert_int_eq(backend_put(store, name, &source, 0, &result, NULL), 0);
}

START_TEST(orphans_of_older_epochs_go_after_the_grace_time)
{
	char orphan[OBJECT_NAME_MAX + 1], young[OBJECT_NAME_MAX + 1];
	struct names n;

	pf.options.grace_time_ns = _i ? HOUR_NS : 0;
	open_fresh();
	pool_fixture_close();
	object_name_sco(orphan, 77, 12345, 0, 1);
	object_name_sco(young, 77, 12345, 0, 1000);
	put_bytes(orphan);
	put_bytes(young);
	pool_fixture_open();
	sync_backend();
	sync_backend();
	n = list_names("");
	ck_assert_int_eq(has_name(&n, orphan), _i == 1);
	ck_assert(has_name(&n, young));
	ck_assert(has_name(&n, "pool.json"));
	free(n.name);
	walk_root();
	backend_close(store);
}
END_TEST

/* --- owners ------------------------------------------------------------------------------------- */

START_TEST(a_backend_with_a_pool_in_it_takes_no_second_one)
{
	char second[PATH_BYTES];
	struct pool_options other;
	struct err e = { 0 };

	open_fresh();
	pool_options_default(&other, root_path(second, "second"));
	ck_assert_int_eq(mkdir(second, 0700), 0);
	other.backend_url = url;
	ck_assert_int_eq(pool_create(env_posix(), &other, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.message, "holds a pool already"));
	backend_close(store);
}
END_TEST

START_TEST(a_younger_owner_stops_uploads_and_local_data_stays)
{
	char claim[OBJECT_NAME_MAX + 1], path[PATH_BYTES], *text;
	uint8_t *mem = pattern_mem(MIB, 1);
	struct names before, after;
	struct object *o;
	uint64_t id;

	open_fresh();
	ck_assert_int_eq(log_open(root_path(path, "log"), LOG_LEVEL_INFO), 0);
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	write_bytes(o, 0, mem, MIB / 2);
	sync_backend();
	object_name_epoch(claim, status().epoch + 5);
	put_bytes(claim);
	write_bytes(o, MIB / 2, mem + MIB / 2, MIB / 2);
	before = list_names("");
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), -ESTALE);
	ck_assert_int_eq(object_truncate(o, MIB, NULL), 0); /* work goes on */
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), -ESTALE);
	after = list_names("");
	ck_assert_uint_eq(before.count, after.count);
	for (size_t i = 0; i < before.count; i++)
		ck_assert_str_eq(before.name[i], after.name[i]);
	free(before.name);
	free(after.name);
	expect_bytes(o, 0, mem, MIB);
	object_close(o);
	pool_fixture_restart();
	log_close();
	text = file_text(path);
	ck_assert_ptr_nonnull(strstr(text, "younger daemon owns the pool"));
	free(text);
	o = get_object(id);
	expect_bytes(o, 0, mem, MIB);
	object_close(o);
	backend_close(store);
	free(mem);
}
END_TEST

static void sync_once(void *arg)
{
	int *result = arg;

	*result = pool_sync_backend(pf.pool, NULL);
}

/* The uploader's first round runs meanwhile: nobody may take the other for a foreign owner. */
START_TEST(rounds_at_the_same_time_do_not_fence_their_own_pool)
{
	pool_fixture_create();
	for (unsigned int round = 0; round < 10; round++) {
		struct thread *threads[3];
		int results[3];

		pool_fixture_open();
		for (unsigned int i = 0; i < 3; i++)
			ck_assert_int_eq(thread_start("sync", sync_once, &results[i], &threads[i]),
					 0);
		for (unsigned int i = 0; i < 3; i++)
			thread_join(threads[i]);
		for (unsigned int i = 0; i < 3; i++)
			ck_assert_int_eq(results[i], 0);
		pool_fixture_close();
	}
}
END_TEST

/* --- outages ------------------------------------------------------------------------------------ */

static char away[PATH_BYTES], objects[PATH_BYTES];

static void break_backend(void)
{
	ck_assert_int_eq(rename(pool_path(objects, "objects"), root_path(away, "away")), 0);
	make_file(objects, NULL, 0);
}

static void mend_backend(void)
{
	ck_assert_int_eq(unlink(objects), 0);
	ck_assert_int_eq(rename(away, objects), 0);
}

struct filler {
	struct object *object;
	struct thread *thread;
	uint64_t bytes;
	bool done; /* atomic */
};

static void fill(void *arg)
{
	struct filler *f = arg;
	uint8_t *mem = pattern_mem(128 * KIB, 11);

	for (uint64_t at = 0; at < f->bytes; at += 128 * KIB)
		write_bytes(f->object, at, mem, 128 * KIB);
	__atomic_store_n(&f->done, true, __ATOMIC_SEQ_CST);
	free(mem);
}

static bool is_done(void *arg)
{
	return __atomic_load_n((bool *)arg, __ATOMIC_SEQ_CST);
}

static bool is_blocked(UNUSED void *arg)
{
	struct pool_status st = status();

	return st.state == POOL_BLOCKED && strstr(st.reason, "does not answer");
}

static bool is_ok(UNUSED void *arg)
{
	return status().state == POOL_OK;
}

START_TEST(an_outage_blocks_writers_at_the_dirty_limit_and_ends_by_itself)
{
	struct filler f = { .bytes = 16 * MIB };
	uint8_t *mem = pattern_mem(128 * KIB, 11);
	struct object *old;

	pf.options.dirty_limit_bytes = 6 * MIB;
	pf.options.upload_interval_ns = 100 * MS_NS;
	open_fresh();
	old = make_object(OBJECT_FILE);
	write_bytes(old, 0, mem, 128 * KIB);
	sync_backend();
	break_backend();
	write_bytes(old, MIB, mem, 128 * KIB); /* far below the limit: no wait */
	f.object = make_object(OBJECT_DISK);
	ck_assert_int_eq(thread_start("filler", fill, &f, &f.thread), 0);
	wait_until(is_blocked, NULL, 25, "the state blocked");
	ck_assert(!is_done(&f.done)); /* 16 MiB do not fit below 6 */
	expect_bytes(old, 0, mem, 128 * KIB);
	sync_object(old);
	mend_backend();
	wait_until(is_done, &f.done, 25, "the writer to go on");
	thread_join(f.thread);
	wait_until(is_ok, NULL, 25, "the state ok");
	sync_backend();
	walk_root();
	for (uint64_t at = 0; at < f.bytes; at += 128 * KIB)
		expect_bytes(f.object, at, mem, 128 * KIB);
	object_close(f.object);
	object_close(old);
	backend_close(store);
	free(mem);
}
END_TEST

START_TEST(a_pool_opens_closes_and_serves_without_its_backend)
{
	uint8_t *mem = pattern_mem(MIB, 1);
	struct object *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	write_bytes(o, 0, mem, MIB);
	object_close(o);
	sync_backend();
	break_backend();
	for (unsigned int i = 0; i < 3; i++) {
		pool_fixture_restart();
		o = get_object(id);
		expect_bytes(o, 0, mem, MIB);
		write_bytes(o, i * 4096, mem + i * 4096, 4096);
		ck_assert_int_lt(pool_sync_backend(pf.pool, NULL), 0);
		object_close(o);
	}
	mend_backend();
	pool_fixture_restart();
	sync_backend();
	walk_root();
	backend_close(store);
	free(mem);
}
END_TEST

static bool retries(UNUSED void *arg)
{
	struct backend *b = __atomic_load_n(&pf.pool->backend, __ATOMIC_SEQ_CST);

	return b && counter_get(&router_metrics(b)->retries) > 0;
}

struct syncing {
	struct thread *thread;
	int r;
	struct err e;
};

static void sync_it(void *arg)
{
	struct syncing *s = arg;

	s->r = pool_sync_backend(pf.pool, &s->e);
}

/* The backend is gone and nobody gives it up: patience of hours, all of it in one call. */
START_TEST(nobody_waits_for_the_backend_once_uploads_are_cancelled)
{
	uint8_t *mem = pattern_mem(MIB, 1);
	struct syncing s = { 0 };
	struct object *o;
	uint64_t id;

	pf.options.attempts_max = 100000;
	pf.options.timeout_ns = UINT64_C(3600000) * MS_NS;
	if (_i == 1) /* it is the uploader that waits */
		pf.options.upload_interval_ns = 50 * MS_NS;
	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	write_bytes(o, 0, mem, MIB);
	sync_object(o);
	break_backend();
	if (_i == 0)
		ck_assert_int_eq(thread_start("sync", sync_it, &s, &s.thread), 0);
	wait_until(retries, NULL, 60, "a second try");
	if (_i == 0) {
		pool_cancel_uploads(pf.pool);
		thread_join(s.thread);
		ck_assert_int_eq(s.r, -ESHUTDOWN);
		ck_assert_ptr_nonnull(strstr(s.e.message, "being closed"));
		ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), -ESHUTDOWN);
		write_bytes(o, 0, mem, MIB);
		sync_object(o);
	}
	object_close(o);
	pool_fixture_close(); /* does it, too */
	mend_backend();
	pool_fixture_open();
	sync_backend();
	walk_root();
	o = get_object(id);
	expect_bytes(o, 0, mem, MIB);
	object_close(o);
	backend_close(store);
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_backend");
	TCase *t = tcase_create("backend");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, NULL);
	tcase_add_test(t, everything_that_a_root_names_is_on_the_backend);
	tcase_add_loop_test(t, a_linked_object_shares_the_inode_and_a_copy_does_not, 0, 2);
	tcase_add_test(t, what_died_goes_with_the_root_after_the_one_that_condemns_it);
	tcase_add_test(t, an_object_whose_put_seemed_to_fail_goes_when_its_sco_dies);
	tcase_add_test(t, what_was_put_is_no_longer_dirty_while_the_round_goes_on);
	tcase_add_test(t, writers_slow_down_by_no_more_than_four_times_a_second);
	tcase_add_test(t, what_could_not_be_deleted_is_remembered_and_the_others_go);
	tcase_add_loop_test(t, orphans_of_older_epochs_go_after_the_grace_time, 0, 2);
	tcase_add_test(t, a_backend_with_a_pool_in_it_takes_no_second_one);
	tcase_add_test(t, a_younger_owner_stops_uploads_and_local_data_stays);
	tcase_add_test(t, rounds_at_the_same_time_do_not_fence_their_own_pool);
	tcase_add_test(t, an_outage_blocks_writers_at_the_dirty_limit_and_ends_by_itself);
	tcase_add_test(t, a_pool_opens_closes_and_serves_without_its_backend);
	tcase_add_loop_test(t, nobody_waits_for_the_backend_once_uploads_are_cancelled, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
