/* Snapshots, clones and rollbacks: what they show and refuse, and that nothing of them is left. */
#include "support_snapshot.h"

#include "volume/life_rows.h"
#include "volume/pool_impl.h"
#include "volume/snapshot.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DISK_BYTES   (512 * KIB)
#define CHAIN_LENGTH TEST_SCALE(60u)

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void write_pattern(struct object *o, uint64_t seed)
{
	void *mem = pattern_mem(DISK_BYTES, seed);

	write_bytes(o, 0, mem, DISK_BYTES);
	free(mem);
}

static void expect_pattern(struct object *o, uint64_t seed)
{
	void *mem = pattern_mem(DISK_BYTES, seed);

	ck_assert_uint_eq(size_of(o), DISK_BYTES);
	expect_bytes(o, 0, mem, DISK_BYTES);
	free(mem);
}

static void take(struct object *o, const char *name)
{
	struct snapshot_wanted wanted = { .object = o, .name = name };
	struct err e = { 0 };

	ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
}

static void expect_snapshot(uint64_t id, const char *name, uint64_t seed)
{
	struct object *o;
	struct err e = { 0 };

	ck_assert_msg(snapshot_open(pf.pool, id, name, &o, &e) == 0, "%s", e.message);
	expect_pattern(o, seed);
	object_close(o);
}

START_TEST(each_snapshot_shows_its_moment)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	struct snapshot_info *list;
	size_t count;
	char name[24];

	for (unsigned int i = 1; i <= 4; i++) {
		write_pattern(o, i);
		(void)snprintf(name, sizeof(name), "s%u", i);
		take(o, name);
	}
	write_pattern(o, 9);
	object_close(o);
	for (unsigned int restarts = 0; restarts < 2; restarts++) {
		for (unsigned int i = 1; i <= 4; i++) {
			(void)snprintf(name, sizeof(name), "s%u", i);
			expect_snapshot(id, name, i);
		}
		o = get_object(id);
		expect_pattern(o, 9);
		object_close(o);
		ck_assert_int_eq(snapshot_list(pf.pool, id, &list, &count, NULL), 0);
		ck_assert_uint_eq(count, 4);
		ck_assert_str_eq(list[2].name, "s3");
		ck_assert_uint_eq(list[2].size_bytes, DISK_BYTES);
		ck_assert_uint_eq(list[2].allocated_bytes, DISK_BYTES);
		ck_assert(restarts > 0 || !list[2].on_backend); /* later it travels by itself */
		snapshot_list_free(list, count);
		pool_fixture_restart();
	}
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	ck_assert_int_eq(snapshot_list(pf.pool, id, &list, &count, NULL), 0);
	ck_assert(list[0].on_backend && list[3].on_backend);
	snapshot_list_free(list, count);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
	struct object *o = make_object(OBJECT_DISK), *s;
	struct snapshot_wanted wanted = { .object = o, .name = "a/b" };
	uint64_t id = id_of(o);
	char buf[16] = "x";

	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), -EINVAL);
	wanted.name = "..";
	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), -EINVAL);
	write_pattern(o, 1);
	take(o, "one");
	wanted.name = "one";
	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), -EEXIST);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "two", NULL), -ENOENT);
	ck_assert_int_eq(snapshot_rename(pf.pool, id, "two", "three", NULL), -ENOENT);
	take(o, "two");
	ck_assert_int_eq(snapshot_rename(pf.pool, id, "two", "one", NULL), -EEXIST);
	ck_assert_int_eq(snapshot_rollback(o, "one", false, NULL), -ENOTEMPTY);
	ck_assert_int_eq(snapshot_rollback(o, "none", true, NULL), -ENOENT);
	ck_assert_int_eq(snapshot_set_sticky(pf.pool, id, "two", true, NULL), 0);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), -EPERM);
	ck_assert_int_eq(snapshot_open(pf.pool, id, "two", &s, NULL), 0);
	ck_assert_int_eq(object_write(s, 0, buf, sizeof(buf), NULL), -EROFS);
	ck_assert_int_eq(object_truncate(s, 0, NULL), -EROFS);
	ck_assert_int_eq(object_zero(s, 0, 4096, false, NULL), -EROFS);
	expect_pattern(s, 1);
	object_close(s);
}
END_TEST

START_TEST(who_would_lose_younger_snapshots_is_told_their_names)
{
	static const char *const names[] = { "one", "two", "three" };
	struct object *o = make_object(OBJECT_DISK);
	char long_name[SNAPSHOT_NAME_MAX + 1];
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		take(o, names[i]);
	ck_assert_int_eq(snapshot_rollback(o, "two", false, &e), -ENOTEMPTY);
	ck_assert_str_eq(e.message, "1 younger snapshot would go: 'three'");
	ck_assert_int_eq(snapshot_rollback(o, "one", false, &e), -ENOTEMPTY);
	ck_assert_str_eq(e.message, "2 younger snapshots would go: 'two', 'three'");
	for (int i = 0; i < 3; i++) {
		memset(long_name, 'a' + i, SNAPSHOT_NAME_MAX);
		long_name[SNAPSHOT_NAME_MAX] = '\0';
		take(o, long_name);
	}
	ck_assert_int_eq(snapshot_rollback(o, "one", false, &e), -ENOTEMPTY);
	ck_assert_ptr_nonnull(
		strstr(e.message, "5 younger snapshots would go: 'two', 'three', 'aa"));
	ck_assert_str_eq(strrchr(e.message, '\''), "' and 2 more");
	object_close(o);
}
END_TEST

START_TEST(a_rollback_brings_the_moment_back)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	size_t layers = 2;

	write_pattern(o, 1);
	take(o, "one");
	write_pattern(o, 2);
	take(o, "two");
	write_pattern(o, 3);
	ck_assert_int_eq(snapshot_rollback(o, "two", false, NULL), 0);
	expect_pattern(o, 2);
	ck_assert_int_eq(snapshot_rollback(o, "one", true, NULL), 0);
	expect_pattern(o, 1);
	ck_assert_uint_eq(snapshot_count(pf.pool, id), 1);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_pattern(o, 1);
	write_pattern(o, 4);
	object_close(o);
	expect_snapshot(id, "one", 1);
	wait_until(layers_are_left, &layers, 30, "layers above the snapshot go");
}
END_TEST

START_TEST(clones_live_on_their_own)
{
	struct object *o = make_object(OBJECT_DISK), *c;
	uint64_t id = id_of(o), first, second, parent;
	char name[SNAPSHOT_NAME_MAX + 1];
	size_t layers = 1;

	write_pattern(o, 1);
	take(o, "one");
	write_pattern(o, 2);
	first = clone_of(o, "one");
	second = clone_of(o, NULL);
	write_pattern(o, 3);
	object_close(o);
	c = get_object(first);
	expect_pattern(c, 1);
	ck_assert_int_eq(object_parent(c, &parent, name, NULL), 0);
	ck_assert_uint_eq(parent, id);
	ck_assert_str_eq(name, "one");
	write_pattern(c, 4);
	object_close(c);
	c = get_object(second);
	expect_pattern(c, 2);
	object_close(c);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	pool_fixture_restart();
	c = get_object(first);
	expect_pattern(c, 4);
	object_close(c);
	ck_assert_int_eq(object_delete(pf.pool, first, NULL), 0);
	/* What only the others needed goes, what is left becomes its own. */
	wait_until(layers_are_left, &layers, 30, "the last clone has a layer of its own");
	c = get_object(second);
	expect_pattern(c, 2);
	ck_assert_uint_eq(allocated_of(c), DISK_BYTES);
	object_close(c);
}
END_TEST

START_TEST(an_empty_object_becomes_a_clone_piece_by_piece)
{
	struct object *o = make_object(OBJECT_DISK), *c = make_object(OBJECT_FILE);
	struct clone_source *source;
	uint8_t *mem = pattern_mem(DISK_BYTES, 1);

	write_pattern(o, 1);
	ck_assert_int_eq(clone_source_open(pf.pool, o, NULL, &source, NULL), 0);
	ck_assert_uint_eq(clone_source_size(source), DISK_BYTES);
	ck_assert_int_eq(object_become_clone(c, source, 100000, NULL), 0);
	ck_assert_uint_eq(size_of(c), 100000);
	expect_bytes(c, 0, mem, 100000);
	ck_assert_int_eq(object_become_clone(c, source, DISK_BYTES, NULL), 0);
	expect_pattern(c, 1);
	write_bytes(c, 5000, mem, 100);
	ck_assert_int_eq(object_become_clone(c, source, DISK_BYTES, NULL), -EBUSY);
	clone_source_close(source);
	object_close(c);
	expect_pattern(o, 1);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_group_is_of_one_moment)
{
	struct snapshot_wanted wanted[3];
	uint64_t ids[3];

	for (unsigned int i = 0; i < 3; i++) {
		wanted[i] = (struct snapshot_wanted){ .object = make_object(i ? OBJECT_DISK :
										OBJECT_FILE),
						      .name = "group",
						      .comment = "all of them" };
		ids[i] = id_of(wanted[i].object);
		write_pattern(wanted[i].object, i + 1);
	}
	ck_assert_int_eq(snapshot_create(pf.pool, wanted, 3, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		write_pattern(wanted[i].object, 9);
		object_close(wanted[i].object);
		expect_snapshot(ids[i], "group", i + 1);
	}
}
END_TEST

/* Each writes a little, so that every layer has something of its own. */
START_TEST(a_long_chain_is_merged_in_any_order)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	uint8_t want[DISK_BYTES] = { 0 };
	struct rng r = { 7 };
	size_t layers = 1;
	char name[24];

	for (unsigned int i = 0; i < CHAIN_LENGTH; i++) {
		uint64_t at = rng_below(&r, DISK_BYTES / 4096 - 4) * 4096;

		pattern_fill(want + at, 4 * 4096, i);
		write_bytes(o, at, want + at, 4 * 4096);
		(void)snprintf(name, sizeof(name), "s%u", i);
		take(o, name);
	}
	for (unsigned int i = 0; i < CHAIN_LENGTH; i++) {
		(void)snprintf(name, sizeof(name), "s%u", (i * 7 + 3) % CHAIN_LENGTH);
		ck_assert_int_eq(snapshot_delete(pf.pool, id, name, NULL), 0);
	}
	wait_until(layers_are_left, &layers, 60, "all layers are merged");
	expect_bytes(o, 0, want, size_of(o));
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_bytes(o, 0, want, size_of(o));
	object_close(o);
}
END_TEST

/* --- templates --------------------------------------------------------------------------------- */

static bool is_template(struct object *o)
{
	struct object_stat stat;

	object_stat(o, &stat);
	return stat.template;
}

static void set_template(struct object *o, bool on)
{
	struct err e = { 0 };

	ck_assert_msg(object_set_template(o, on, &e) == 0, "%s", e.message);
	ck_assert(is_template(o) == on);
}

START_TEST(a_template_does_not_change)
{
	struct object *o = make_object(OBJECT_DISK), *empty;
	uint64_t id = id_of(o);
	struct clone_source *source;

	write_pattern(o, 1);
	take(o, "one");
	write_pattern(o, 2);
	set_template(o, true);
	for (unsigned int restarts = 0; restarts < 2; restarts++) {
		ck_assert_int_eq(object_write(o, 0, "x", 1, NULL), -EPERM);
		ck_assert_int_eq(object_zero(o, 0, DISK_BYTES, false, NULL), -EPERM);
		ck_assert_int_eq(object_zero(o, DISK_BYTES, 4096, true, NULL), -EPERM);
		ck_assert_int_eq(object_truncate(o, 1, NULL), -EPERM);
		ck_assert_int_eq(object_truncate(o, 2 * DISK_BYTES, NULL), -EPERM);
		ck_assert_int_eq(snapshot_rollback(o, "one", true, NULL), -EPERM);
		expect_pattern(o, 2);
		expect_snapshot(id, "one", 1);
		set_template(o, true); /* nothing happens */
		object_close(o);
		pool_fixture_restart();
		o = get_object(id);
		ck_assert(is_template(o));
	}
	empty = make_object(OBJECT_DISK);
	set_template(empty, true);
	ck_assert_int_eq(clone_source_open(pf.pool, o, NULL, &source, NULL), 0);
	ck_assert_int_eq(object_become_clone(empty, source, DISK_BYTES, NULL), -EPERM);
	clone_source_close(source);
	object_close(empty);
	set_template(o, false);
	write_pattern(o, 3);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_pattern(o, 3);
	ck_assert(!is_template(o));
	object_close(o);
}
END_TEST

/* The merger has passed by all layers of before: it goes by their numbers, round and round. */
static void let_merge(size_t layers_besides)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	size_t layers = layers_besides + 1;

	write_pattern(o, 1);
	take(o, "merged");
	write_pattern(o, 2);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "merged", NULL), 0);
	wait_until(layers_are_left, &layers, 30, "another disk's layers are merged");
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	layers = layers_besides;
	wait_until(layers_are_left, &layers, 30, "another disk's layer is gone");
}

static uint64_t layer_below(struct object *o)
{
	uint64_t id;

	map_chain_hold(pf.pool->map);
	id = o->layer->parent ? o->layer->parent->id : 0;
	map_chain_release(pf.pool->map);
	return id;
}

START_TEST(all_clones_of_a_template_stand_on_its_one_layer)
{
	struct object *o = make_object(OBJECT_DISK), *c;
	uint64_t id = id_of(o), clones[5], base;
	size_t layers = 2;

	write_pattern(o, 1);
	set_template(o, true);
	base = layer_below(o);
	for (unsigned int i = 0; i < 5; i++) {
		/* Also after a start. */
		if (i == 2) {
			object_close(o);
			pool_fixture_restart();
			o = get_object(id);
		}
		clones[i] = clone_of(o, NULL);
		layers = 3 + i;
		ck_assert(layers_are_left(&layers));
	}
	for (unsigned int i = 0; i < 5; i++) {
		c = get_object(clones[i]);
		expect_pattern(c, 1);
		write_pattern(c, 2 + i);
		object_close(c);
	}
	for (unsigned int i = 0; i < 5; i++)
		ck_assert_int_eq(object_delete(pf.pool, clones[i], NULL), 0);
	/* Its own stays, for the next clones. */
	layers = 2;
	wait_until(layers_are_left, &layers, 30, "the clones' layers are gone");
	let_merge(layers);
	ck_assert_uint_eq(layer_below(o), base);
	ck_assert_int_eq(object_delete(pf.pool, clone_of(o, NULL), NULL), 0);
	wait_until(layers_are_left, &layers, 30, "one more clone's layer is gone");
	expect_pattern(o, 1);
	set_template(o, false);
	layers = 1;
	wait_until(layers_are_left, &layers, 30, "what is no template is one layer");
	expect_pattern(o, 1);
	object_close(o);
}
END_TEST

START_TEST(clones_outlive_their_template)
{
	struct object *o = make_object(OBJECT_DISK), *c;
	uint64_t first, second, parent;
	char name[SNAPSHOT_NAME_MAX + 1];
	size_t layers = 1;

	write_pattern(o, 1);
	set_template(o, true);
	first = clone_of(o, NULL);
	second = clone_of(o, NULL);
	c = get_object(second);
	ck_assert_int_eq(object_parent(c, &parent, name, NULL), 0);
	ck_assert_uint_eq(parent, id_of(o));
	ck_assert_str_eq(name, "");
	object_close(c);
	ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, first, NULL), 0);
	wait_until(layers_are_left, &layers, 30, "the last clone has a layer of its own");
	pool_fixture_restart();
	c = get_object(second);
	expect_pattern(c, 1);
	write_pattern(c, 2);
	expect_pattern(c, 2);
	object_close(c);
}
END_TEST

START_TEST(a_template_may_change_its_class)
{
	struct object *o = make_object(OBJECT_FILE), *c;
	uint64_t id = id_of(o);

	write_pattern(o, 1);
	set_template(o, true);
	ck_assert_int_eq(object_set_class(o, OBJECT_DISK, NULL), 0);
	ck_assert(is_template(o));
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	ck_assert(is_template(o));
	ck_assert_int_eq(object_write(o, 0, "x", 1, NULL), -EPERM);
	c = get_object(clone_of(o, NULL));
	expect_pattern(c, 1);
	object_close(c);
	object_close(o);
}
END_TEST

struct counting {
	struct object *o;
	uint64_t done; /* atomic: writes that were answered */
	int result;
};

static void count_main(void *arg)
{
	struct counting *c = arg;

	while (c->result == 0) {
		uint64_t next = c->done + 1;

		c->result = object_write(c->o, 8192, &next, sizeof(next), NULL);
		if (c->result == 0)
			__atomic_store_n(&c->done, next, __ATOMIC_RELEASE);
	}
}

static bool has_counted(void *arg)
{
	return __atomic_load_n(&((struct counting *)arg)->done, __ATOMIC_ACQUIRE) > 100;
}

START_TEST(a_writer_is_stopped_at_one_moment)
{
	struct counting count = { .o = make_object(OBJECT_DISK) };
	struct thread *writer;
	struct object *c;

	write_pattern(count.o, 1);
	ck_assert_int_eq(thread_start("writer", count_main, &count, &writer), 0);
	wait_until(has_counted, &count, 60, "some writes");
	set_template(count.o, true);
	thread_join(writer);
	ck_assert_int_eq(count.result, -EPERM);
	expect_bytes(count.o, 8192, &count.done, sizeof(count.done));
	c = get_object(clone_of(count.o, NULL));
	expect_bytes(c, 8192, &count.done, sizeof(count.done));
	object_close(c);
	object_close(count.o);
}
END_TEST

/* --- after a start ----------------------------------------------------------------------------- */

static lsn_t last_lsn_of(struct object *o)
{
	struct object_stat stat;

	object_stat(o, &stat);
	return stat.last_lsn;
}

/* Of the log up to there nothing is replayed into the live layer. */
static lsn_t mark_of(struct object *o)
{
	struct layer_row row;

	ck_assert_int_eq(life_get_layer(pf.pool, o->layer->id, &row, NULL), 0);
	return row.mark;
}

struct world {
	uint64_t id;
	lsn_t last;
};

static void take_and_die(int to_parent, void *arg)
{
	struct world *w = arg;
	struct object *o;

	(void)to_parent;
	begin();
	o = make_object(OBJECT_DISK);
	w->id = id_of(o);
	write_pattern(o, 1);
	take(o, "one");
	w->last = last_lsn_of(o);
}

static void roll_back_and_die(int to_parent, void *arg)
{
	struct world *w = arg;
	struct object *o;

	(void)to_parent;
	pool_fixture_open_quiet();
	o = get_object(w->id);
	ck_assert_uint_eq(last_lsn_of(o), w->last);
	write_pattern(o, 2);
	w->last = last_lsn_of(o);
	ck_assert_int_eq(snapshot_rollback(o, "one", false, NULL), 0);
	ck_assert_uint_eq(mark_of(o), w->last);
}

static void roll_back_again_and_die(int to_parent, void *arg)
{
	const struct world *w = arg;
	struct object *o;

	(void)to_parent;
	pool_fixture_open_quiet();
	o = get_object(w->id);
	ck_assert_int_eq(snapshot_rollback(o, "one", false, NULL), 0);
	ck_assert_uint_eq(mark_of(o), w->last);
}

static void take_again(int to_parent, void *arg)
{
	const struct world *w = arg;
	struct object *o;

	(void)to_parent;
	pool_fixture_open_quiet();
	o = get_object(w->id);
	take(o, "two");
	ck_assert_uint_eq(mark_of(o), w->last);
	expect_pattern(o, 1);
	object_close(o);
	pool_fixture_close();
}

/* Else times that were set before would hold again, and what was given up would come back. */
START_TEST(a_start_forgets_no_mark_of_a_disk_that_was_not_written_since)
{
	struct world *w =
		mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(w, MAP_FAILED);
	in_child_killed(take_and_die, w);
	in_child_killed(roll_back_and_die, w);
	in_child_killed(roll_back_again_and_die, w);
	in_child(take_again, w);
	(void)munmap(w, sizeof(*w));
}
END_TEST

/* --- written since ----------------------------------------------------------------------------- */

static bool is_now(uint64_t id, const char *name)
{
	struct object *o = get_object(id);
	struct snapshot_info info;
	bool same;

	ck_assert_int_eq(snapshot_find(pf.pool, id, name, &info, NULL), 0);
	same = snapshot_is_now(o, info.number);
	snapshot_info_done(&info);
	object_close(o);
	return same;
}

START_TEST(it_is_known_whether_a_disk_was_written_since)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	size_t two = 2;

	write_pattern(o, 1);
	take(o, "one");
	ck_assert(is_now(id, "one"));
	take(o, "two");
	object_close(o);
	pool_fixture_restart();
	ck_assert(is_now(id, "one"));
	ck_assert(is_now(id, "two"));
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "two", NULL), 0);
	wait_until(layers_are_left, &two, 20, "the merger");
	ck_assert(is_now(id, "one"));
	o = get_object(id);
	write_bytes(o, 4096, "x", 1);
	object_close(o);
	ck_assert(!is_now(id, "one"));
	pool_fixture_restart();
	ck_assert(!is_now(id, "one"));
}
END_TEST

START_TEST(what_others_write_to_a_shared_log_does_not_count)
{
	struct object *o = make_object(OBJECT_FILE), *other = make_object(OBJECT_FILE);
	uint64_t id = id_of(o);

	write_pattern(o, 1);
	take(o, "one");
	write_pattern(other, 2);
	ck_assert(is_now(id, "one"));
	ck_assert_int_eq(object_truncate(o, DISK_BYTES + 1, NULL), 0);
	ck_assert(!is_now(id, "one"));
	object_close(o);
	object_close(other);
}
END_TEST

/* --- while a checkpoint begins ----------------------------------------------------------------- */

static void take_main(void *arg)
{
	take(arg, "one");
}

static bool has_begun(void *arg)
{
	bool begun = false;

	(void)arg;
	mutex_lock(&pf.pool->dropped_lock);
	for (const struct dropped_layer *d = pf.pool->dropped; d; d = d->next)
		begun |= d->frozen_in;
	mutex_unlock(&pf.pool->dropped_lock);
	return begun;
}

/* Its state is for the next checkpoint to remove, even if that finds nothing else to do. */
START_TEST(a_disk_that_goes_while_a_checkpoint_begins_leaves_no_row)
{
	struct object *o = make_object(OBJECT_DISK), *first = make_object(OBJECT_DISK);
	struct object *second = make_object(OBJECT_DISK);
	uint64_t first_id = id_of(first), second_id = id_of(second);
	struct row_key state = row_key_u64(ROW_OBJECT_STATE, second->layer->id);
	struct thread *taker;
	struct buf value;

	write_pattern(o, 1);
	write_pattern(second, 2);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	object_close(first);
	object_close(second);
	/* The checkpoint of the snapshot has noted this one, and waits for the gate. */
	ck_assert_int_eq(object_delete(pf.pool, first_id, NULL), 0);
	rwlock_read_lock(&o->gate);
	ck_assert_int_eq(thread_start("taker", take_main, o, &taker), 0);
	wait_until(has_begun, NULL, 60, "the checkpoint to begin");
	ck_assert_int_eq(object_delete(pf.pool, second_id, NULL), 0);
	rwlock_read_unlock(&o->gate);
	thread_join(taker);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	buf_init(&value, 4096);
	ck_assert_int_eq(meta_get(pf.pool->meta, META_STATE, &state, &value, NULL), -ENOENT);
	buf_done(&value);
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("snapshot");
	TCase *t = tcase_create("snapshot"), *killed = tcase_create("killed");
	SRunner *sr;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, each_snapshot_shows_its_moment);
	tcase_add_test(t, what_makes_no_sense_is_refused);
	tcase_add_test(t, who_would_lose_younger_snapshots_is_told_their_names);
	tcase_add_test(t, a_rollback_brings_the_moment_back);
	tcase_add_test(t, a_disk_that_goes_while_a_checkpoint_begins_leaves_no_row);
	tcase_add_test(t, clones_live_on_their_own);
	tcase_add_test(t, an_empty_object_becomes_a_clone_piece_by_piece);
	tcase_add_test(t, a_group_is_of_one_moment);
	tcase_add_test(t, it_is_known_whether_a_disk_was_written_since);
	tcase_add_test(t, what_others_write_to_a_shared_log_does_not_count);
	tcase_add_test(t, a_long_chain_is_merged_in_any_order);
	tcase_add_test(t, a_template_does_not_change);
	tcase_add_test(t, all_clones_of_a_template_stand_on_its_one_layer);
	tcase_add_test(t, clones_outlive_their_template);
	tcase_add_test(t, a_template_may_change_its_class);
	tcase_add_test(t, a_writer_is_stopped_at_one_moment);
	pool_fixture_add(killed, NULL);
	tcase_add_test(killed, a_start_forgets_no_mark_of_a_disk_that_was_not_written_since);
	suite_add_tcase(s, t);
	suite_add_tcase(s, killed);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
