/*
 * The namespace against a model: random operations, the same answer from both, the same tree at the
 * end, after a new start, and after the death of the process in the middle of anything.
 */
#include "support_ns.h"
#include "tests/support/check_messages.h"
#include "tests/support/scale.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES	  8u /* of which the last is a disk's */
#define NODES_MAX 8000u
#define NONE	  (-1)

/* --- the model --------------------------------------------------------------------------------- */

struct node {
	uint32_t type, mode, uid;
	uint32_t nlink;
	int parent;	    /* directories */
	int entries[NAMES]; /* directories: node or NONE */
	unsigned int size;  /* files: so many bytes ... */
	char fill;	    /* ... of this */
	char xattr;	    /* value of "user.x", 0: none */
	unsigned int held;
	bool dead;
	uint64_t ino; /* of the real thing */
};

static struct model {
	struct node nodes[NODES_MAX];
	int count;
	uint64_t seed;
} model;

enum kind {
	OP_CREATE,
	OP_MKDIR,
	OP_SYMLINK,
	OP_MKNOD,
	OP_LINK,
	OP_UNLINK,
	OP_RMDIR,
	OP_RENAME,
	OP_CHMOD,
	OP_TRUNCATE,
	OP_WRITE,
	OP_SETXATTR,
	OP_REMOVEXATTR,
	OP_HOLD,
	OP_RELEASE,
	OP_KINDS,
};

struct op {
	enum kind kind;
	int a, b; /* nodes */
	unsigned int name, to_name;
	unsigned int flags, value;
};

static uint64_t pick(uint64_t below)
{
	model.seed ^= model.seed << 13;
	model.seed ^= model.seed >> 7;
	model.seed ^= model.seed << 17;
	return (model.seed * UINT64_C(0x2545f4914f6cdd1d) >> 20) % below;
}

static const char *name_of(unsigned int n)
{
	static const char *const names[NAMES] = { "a",	"b", "c",      "\xfe\x01 ",
						  "ee", "f", "a.img2", "h.raw" };

	return names[n];
}

static int new_node(uint32_t type, int parent)
{
	struct node *n = &model.nodes[model.count];

	ck_assert_int_lt(model.count, (int)NODES_MAX);
	*n = (struct node){
		.type = type, .mode = 0600, .nlink = 1, .parent = parent, .ino = n->ino
	};
	for (unsigned int i = 0; i < NAMES; i++)
		n->entries[i] = NONE;
	if (type == S_IFDIR)
		n->nlink = 2;
	return model.count++;
}

static void model_begin(uint64_t seed)
{
	model.count = 0;
	model.seed = seed;
	(void)new_node(S_IFDIR, 0);
	model.nodes[0].ino = NS_ROOT_INO;
	model.nodes[0].mode = 0755;
}

static bool is_dir(int n)
{
	return model.nodes[n].type == S_IFDIR;
}

static int pick_node(void)
{
	for (int i = 0; i < 50; i++) {
		int n = (int)pick((uint64_t)model.count);

		if (!model.nodes[n].dead)
			return n;
	}
	return 0;
}

/* Mostly a directory. */
static int pick_dir(void)
{
	for (int i = 0; i < 50; i++) {
		int n = pick_node();

		if (is_dir(n) || pick(200) == 0)
			return n;
	}
	return 0;
}

static unsigned int pick_name(void)
{
	return (unsigned int)(pick(40) == 0 ? NAMES - 1 : pick(NAMES - 1));
}

static struct op pick_op(void)
{
	static const unsigned int flags[] = {
		0, 0, 0, NS_RENAME_NOREPLACE, NS_RENAME_EXCHANGE, NS_RENAME_EXCHANGE
	};
	struct op op = {
		.kind = (enum kind)pick(OP_KINDS),
		.name = pick_name(),
		.to_name = pick_name(),
		.value = (unsigned int)pick(4096),
	};
	bool by_node = op.kind >= OP_CHMOD;

	op.a = by_node ? pick_node() : pick_dir();
	op.b = op.kind == OP_LINK ? pick_node() : pick_dir();
	op.flags = flags[pick(ARRAY_SIZE(flags))];
	return op;
}

static bool is_empty(int n)
{
	for (unsigned int i = 0; i < NAMES; i++)
		if (model.nodes[n].entries[i] != NONE)
			return false;
	return true;
}

static int check_parent(int n)
{
	if (!is_dir(n))
		return -ENOTDIR;
	return model.nodes[n].nlink == 0 ? -ENOENT : 0;
}

static void lose_name(int n)
{
	struct node *node = &model.nodes[n];

	node->nlink = is_dir(n) ? 0 : node->nlink - 1;
	node->dead = node->nlink == 0 && node->held == 0;
}

static int model_create(const struct op *op, uint32_t type)
{
	int r = check_parent(op->a), n;

	if (r < 0)
		return r;
	if (model.nodes[op->a].entries[op->name] != NONE)
		return -EEXIST;
	n = new_node(type, op->a);
	if (type == S_IFLNK)
		model.nodes[n].mode = 0777;
	model.nodes[op->a].entries[op->name] = n;
	if (type == S_IFDIR) {
		model.nodes[op->a].nlink++;
		model.nodes[n].mode |= model.nodes[op->a].mode & S_ISGID;
	}
	return 0;
}

static int model_link(const struct op *op)
{
	int r;

	if (is_dir(op->b))
		return -EPERM;
	r = check_parent(op->a);
	if (r < 0)
		return r;
	if (model.nodes[op->a].entries[op->name] != NONE)
		return -EEXIST;
	if (model.nodes[op->b].nlink == 0)
		return -ENOENT;
	model.nodes[op->a].entries[op->name] = op->b;
	model.nodes[op->b].nlink++;
	return 0;
}

static int model_remove(const struct op *op, bool dir)
{
	int r = check_parent(op->a), n;

	if (r < 0)
		return r;
	n = model.nodes[op->a].entries[op->name];
	if (n == NONE)
		return -ENOENT;
	if (is_dir(n) != dir)
		return dir ? -ENOTDIR : -EISDIR;
	if (dir && !is_empty(n))
		return -ENOTEMPTY;
	model.nodes[op->a].entries[op->name] = NONE;
	if (dir)
		model.nodes[op->a].nlink--;
	lose_name(n);
	return 0;
}

static bool is_below(int n, int above)
{
	for (; n != 0; n = model.nodes[n].parent)
		if (n == above)
			return true;
	return above == 0;
}

static void move_dir(int n, int from, int to)
{
	if (!is_dir(n))
		return;
	model.nodes[from].nlink--;
	model.nodes[to].nlink++;
	model.nodes[n].parent = to;
}

static int model_replace(const struct op *op, int source, int target)
{
	if (is_dir(source) && !is_dir(target))
		return -ENOTDIR;
	if (!is_dir(source) && is_dir(target))
		return -EISDIR;
	if (!is_empty(target))
		return -ENOTEMPTY;
	if (is_dir(target))
		model.nodes[op->b].nlink--;
	lose_name(target);
	return 0;
}

static int model_rename(const struct op *op)
{
	int *from, *to, source, target;
	int r = check_parent(op->a);

	if (r == 0)
		r = check_parent(op->b);
	if (r < 0)
		return r;
	from = &model.nodes[op->a].entries[op->name];
	to = &model.nodes[op->b].entries[op->to_name];
	source = *from;
	target = *to;
	if (source == NONE)
		return -ENOENT;
	if (target != NONE && op->flags & NS_RENAME_NOREPLACE)
		return -EEXIST;
	if (target == NONE && op->flags & NS_RENAME_EXCHANGE)
		return -ENOENT;
	if (is_dir(source) && source != target && is_below(op->b, source))
		return -EINVAL;
	if (op->flags & NS_RENAME_EXCHANGE && is_dir(target) && source != target &&
	    is_below(op->a, target))
		return -EINVAL;
	if (source == target)
		return 0;
	if (op->flags & NS_RENAME_EXCHANGE) {
		move_dir(target, op->b, op->a);
	} else if (target != NONE) {
		r = model_replace(op, source, target);
		if (r < 0)
			return r;
	}
	move_dir(source, op->a, op->b);
	*from = op->flags & NS_RENAME_EXCHANGE ? target : NONE;
	*to = source;
	return 0;
}

static int model_resize(struct node *n, const struct op *op)
{
	if (n->type == S_IFDIR)
		return -EISDIR;
	if (n->type != S_IFREG)
		return -EINVAL;
	if (op->kind == OP_TRUNCATE) {
		n->size = (unsigned int)min_u64(n->size, op->value);
	} else {
		n->size = op->value;
		n->fill = (char)('a' + op->value % 26);
	}
	return 0;
}

static int model_apply(const struct op *op)
{
	static const uint32_t types[] = { S_IFIFO, S_IFSOCK };
	struct node *n = &model.nodes[op->a];

	switch (op->kind) {
	case OP_CREATE:
		return model_create(op, S_IFREG);
	case OP_MKDIR:
		return model_create(op, S_IFDIR);
	case OP_SYMLINK:
		return model_create(op, S_IFLNK);
	case OP_MKNOD:
		return model_create(op, types[op->value % 2]);
	case OP_LINK:
		return model_link(op);
	case OP_UNLINK:
		return model_remove(op, false);
	case OP_RMDIR:
		return model_remove(op, true);
	case OP_RENAME:
		return model_rename(op);
	case OP_CHMOD:
		n->mode = op->value & 07777;
		n->uid = op->value;
		return 0;
	case OP_TRUNCATE:
	case OP_WRITE:
		return model_resize(n, op);
	case OP_SETXATTR:
		n->xattr = (char)('a' + op->value % 26);
		return 0;
	case OP_REMOVEXATTR:
		if (!n->xattr)
			return -ENODATA;
		n->xattr = 0;
		return 0;
	case OP_HOLD:
		if (n->type != S_IFREG && n->type != S_IFDIR)
			return -ENXIO;
		n->held++;
		return 0;
	case OP_RELEASE:
		if (n->held > 0)
			n->held--;
		n->dead = n->nlink == 0 && n->held == 0;
		return 0;
	case OP_KINDS:
		break;
	}
	return -EINVAL;
}

/* --- the real thing ---------------------------------------------------------------------------- */

static int real_create(const struct op *op, uint32_t type)
{
	struct ns_new new = { .mode = type | (type == S_IFLNK ? 0777 : 0600) };
	const char *name = name_of(op->name);
	struct ns_attr attr;
	int r;

	if (type == S_IFLNK)
		new.target = "where/to";
	r = ns_create(nf.ns, model.nodes[op->a].ino, name, strlen(name), &new, &attr, NULL);
	if (r == 0) {
		model.nodes[model.count].ino = attr.ino; /* which the model makes next */
		ns_forget(nf.ns, attr.ino, 1);
	}
	return r;
}

/* The whole file is replaced; in two steps, of which either may be the last one of a process. */
static int real_write(const struct op *op)
{
	uint64_t ino = model.nodes[op->a].ino;
	char data[4096];
	struct object *o;
	int r = ns_object_get(nf.ns, ino, &o, NULL);

	if (r < 0)
		return r;
	memset(data, 'a' + (int)op->value % 26, sizeof(data));
	r = object_truncate(o, op->value, NULL);
	if (r == 0)
		r = object_write(o, 0, data, op->value, NULL);
	ns_object_put(nf.ns, ino);
	return r;
}

static int real_apply(const struct op *op)
{
	uint64_t a = model.nodes[op->a].ino, b = model.nodes[op->b].ino;
	struct ns_setattr set = { .valid = NS_SET_MODE | NS_SET_UID,
				  .mode = op->value & 07777,
				  .uid = op->value };
	char value = (char)('a' + op->value % 26);
	struct ns_attr attr;

	switch (op->kind) {
	case OP_CREATE:
		return real_create(op, S_IFREG);
	case OP_MKDIR:
		return real_create(op, S_IFDIR);
	case OP_SYMLINK:
		return real_create(op, S_IFLNK);
	case OP_MKNOD:
		return real_create(op, op->value % 2 ? S_IFSOCK : S_IFIFO);
	case OP_LINK:
		return t_link(b, a, name_of(op->name));
	case OP_UNLINK:
		return t_unlink(a, name_of(op->name));
	case OP_RMDIR:
		return t_rmdir(a, name_of(op->name));
	case OP_RENAME:
		return t_rename(a, name_of(op->name), b, name_of(op->to_name), op->flags);
	case OP_CHMOD:
		return ns_setattr(nf.ns, a, &set, NULL, NULL);
	case OP_TRUNCATE:
		set.valid = NS_SET_SIZE;
		set.size_bytes = min_u64(model.nodes[op->a].size, op->value);
		return ns_setattr(nf.ns, a, &set, NULL, NULL);
	case OP_WRITE:
		return real_write(op);
	case OP_SETXATTR:
		return ns_xattr_set(nf.ns, a, "user.x", &value, 1, 0, NULL);
	case OP_REMOVEXATTR:
		return ns_xattr_remove(nf.ns, a, "user.x", NULL);
	case OP_HOLD:
		return ns_handle_open(nf.ns, a, &attr, NULL);
	case OP_RELEASE:
		ns_handle_release(nf.ns, a);
		return 0;
	case OP_KINDS:
		break;
	}
	return -EINVAL;
}

/* --- comparing --------------------------------------------------------------------------------- */

struct compare {
	int dir;
	unsigned int seen;
	int kill_at; /* the node that an operation in flight may have changed; NONE */
	const char *difference;
};

static bool same_data(const struct node *n, uint64_t ino, const struct ns_attr *a)
{
	char data[4097];
	struct object *o;
	ssize_t got;

	if (a->size_bytes != n->size)
		return false;
	must(ns_object_get(nf.ns, ino, &o, &t_err));
	got = object_read(o, 0, data, sizeof(data), &t_err);
	ns_object_put(nf.ns, ino);
	ck_assert_int_eq(got, (ssize_t)n->size);
	for (unsigned int i = 0; i < n->size; i++)
		if (data[i] != n->fill)
			return false;
	return true;
}

static const char *compare_node(struct node *n, bool data_may_differ, const struct ns_attr *a)
{
	struct buf out;
	int r;

	if (n->ino != a->ino)
		return "another inode";
	if (a->mode != (n->type | n->mode) || a->uid != n->uid)
		return "another mode or owner";
	if (a->nlink != n->nlink)
		return "another count of links";
	if (n->type == S_IFREG && !data_may_differ && !same_data(n, a->ino, a))
		return "other data";
	buf_init(&out, 8192);
	r = ns_xattr_get(nf.ns, a->ino, "user.x", &out, NULL);
	if (n->xattr ? r != 0 || out.len_bytes != 1 || out.data[0] != (uint8_t)n->xattr :
		       r != -ENODATA) {
		buf_done(&out);
		return "another attribute";
	}
	if (n->type == S_IFLNK &&
	    (ns_readlink(nf.ns, a->ino, &out, NULL) < 0 || out.len_bytes != 8)) {
		buf_done(&out);
		return "another target";
	}
	buf_done(&out);
	return NULL;
}

static int compare_entry(void *arg, const struct ns_dirent *entry)
{
	struct compare *c = arg;
	unsigned int i;
	int n;

	if (entry->cookie <= NS_COOKIE_DOTDOT)
		return 0;
	for (i = 0; i < NAMES; i++)
		if (strcmp(name_of(i), entry->name) == 0)
			break;
	n = i < NAMES ? model.nodes[c->dir].entries[i] : NONE;
	if (n == NONE)
		c->difference = "a name that should not be there";
	else if (!entry->attr || entry->attr->ino != entry->ino)
		c->difference = "no attributes";
	else
		c->difference = compare_node(&model.nodes[n], n == c->kill_at, entry->attr);
	c->seen++;
	return c->difference != NULL;
}

/* NULL: the same. All directories that are reachable are so through their parents' entries. */
static const char *compare_trees(int kill_at)
{
	struct compare c = { .kill_at = kill_at };

	for (c.dir = 0; c.dir < model.count; c.dir++) {
		unsigned int expected = 0;

		if (!is_dir(c.dir) || model.nodes[c.dir].nlink == 0)
			continue;
		for (unsigned int i = 0; i < NAMES; i++)
			expected += model.nodes[c.dir].entries[i] != NONE;
		c.seen = 0;
		must(ns_readdir(nf.ns, model.nodes[c.dir].ino, 0, NS_READDIR_ATTR, compare_entry,
				&c, &t_err));
		if (c.difference)
			return c.difference;
		if (c.seen != expected)
			return "a name is missing";
	}
	return NULL;
}

static void run_both(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct op op = pick_op();
		int real = real_apply(&op), expected = model_apply(&op);

		ck_assert_msg(real == expected, "operation %u: kind %u: %d, not %d", i, op.kind,
			      real, expected);
	}
}

/* --- tests ------------------------------------------------------------------------------------- */

static void forget_handles(void)
{
	for (int n = 0; n < model.count; n++) {
		model.nodes[n].held = 0;
		model.nodes[n].dead = model.nodes[n].nlink == 0;
	}
}

START_TEST(random_operations_do_what_the_model_does)
{
	model_begin(UINT64_C(0x1234567) + (uint64_t)_i);
	for (int round = 0; round < 4; round++) {
		const char *difference;

		run_both(TEST_SCALE(1500u));
		ns_fixture_check();
		difference = compare_trees(NONE);
		ck_assert_msg(!difference, "%s", difference);
		ns_class_settle(nf.ns);
		ns_fixture_reopen();
		forget_handles();
		difference = compare_trees(NONE);
		ck_assert_msg(!difference, "after a new start: %s", difference);
		ns_fixture_check();
	}
}
END_TEST

/* What the child tells before and after each operation. */
struct word {
	uint64_t done; /* operations */
	uint64_t ino;  /* that it made with the last one */
};

/* Never returns: works until it is killed. */
static void child(int out)
{
	struct word w = { 0 };

	check_messages_leave();
	ns_fixture_open();
	for (;;) {
		int before = model.count;
		struct op op = pick_op();

		if (real_apply(&op) != model_apply(&op))
			_exit(3);
		w.done++;
		w.ino = model.count > before ? model.nodes[before].ino : 0;
		if (write(out, &w, sizeof(w)) != sizeof(w))
			_exit(4);
	}
}

/* Make the model do one operation that the real thing did, with the number that it gave. */
static int follow(uint64_t ino)
{
	int before = model.count;
	struct op op = pick_op();
	bool touches_data = op.kind == OP_WRITE || op.kind == OP_TRUNCATE;

	(void)model_apply(&op);
	if (model.count > before)
		model.nodes[before].ino = ino;
	return touches_data ? op.a : NONE;
}

/* The inode behind a name that the operation in flight made, if it did. */
static void adopt(int before)
{
	for (int n = 0; model.count > before && n < before; n++)
		for (unsigned int i = 0; i < NAMES; i++) {
			struct ns_attr attr;

			if (model.nodes[n].entries[i] != before)
				continue;
			if (ns_lookup(nf.ns, model.nodes[n].ino, name_of(i), strlen(name_of(i)),
				      &attr, NULL) == 0) {
				model.nodes[before].ino = attr.ino;
				ns_forget(nf.ns, attr.ino, 1);
			}
		}
}

static uint64_t follow_child(int in, uint64_t kill_after, pid_t pid)
{
	uint64_t done = 0;
	struct word w;

	while (read(in, &w, sizeof(w)) == sizeof(w)) {
		(void)follow(w.ino);
		done = w.done;
		if (done == kill_after)
			ck_assert_int_eq(kill(pid, SIGKILL), 0);
	}
	return done;
}

/*
 * In a process of its own: the operation in flight took place, or did not. The model keeps the handles
 * of the dead process until it has followed that operation: it was picked while they were held.
 */
static void compare_after_kill(void)
{
	const char *difference;
	int before, touched;

	ns_fixture_open();
	ns_fixture_check();
	difference = compare_trees(NONE);
	if (difference) {
		before = model.count;
		touched = follow(0);
		adopt(before);
		difference = compare_trees(touched);
	}
	if (difference)
		(void)fprintf(stderr, "after a kill: %s\n", difference);
	ns_fixture_close();
	_exit(difference != NULL);
}

static void run_process(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(a_killed_process_leaves_whole_operations)
{
	uint64_t seed = UINT64_C(0x9876543) + 1000 * (uint64_t)_i;

	for (int round = 0; round < 6; round++) {
		uint64_t kill_after = 50 + seed % 97 * (uint64_t)(round + 1);
		int pipes[2], status;
		pid_t pid;

		model_begin(seed + (uint64_t)round);
		ns_fixture_prepare();
		run_process(ns_fixture_create);
		ck_assert_int_eq(pipe(pipes), 0);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			child(pipes[1]);
		(void)close(pipes[1]);
		ck_assert_uint_ge(follow_child(pipes[0], kill_after, pid), kill_after);
		(void)close(pipes[0]);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		run_process(compare_after_kill);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_model");
	TCase *t = tcase_create("model");
	TCase *kill_case = tcase_create("kill");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, random_operations_do_what_the_model_does, 0, 3);
	suite_add_tcase(s, t);
	ns_fixture_add_empty(kill_case);
	tcase_set_timeout(kill_case, 60);
	tcase_add_loop_test(kill_case, a_killed_process_leaves_whole_operations, 0, 2);
	suite_add_tcase(s, kill_case);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
