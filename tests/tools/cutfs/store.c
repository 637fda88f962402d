/*
 * cutfs_store - the cut itself, and what goes from one server to the next.
 *
 * STORE/names has a line for each inode and each name:
 *	next NUMBER				the next inode number
 *	inode NUMBER MODE UID GID SIZE MTIME_S MTIME_NS
 *	name DIRECTORY NUMBER TEXT
 */
#include "tests/tools/cutfs/cutfs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing, nearly nothing, half, nearly all or all of what was not synced gets through. */
static const uint32_t keep_habits[] = { 0, 50000, 300000, 500000, 700000, 950000, 1000000 };

NORETURN void cut_die(const char *what)
{
	perror(what);
	exit(1);
}

void *cut_alloc(size_t len_bytes)
{
	void *p = calloc(1, len_bytes);

	if (!p)
		cut_die("memory");
	return p;
}

uint64_t cut_fate(const struct cutfs *fs, uint64_t a, uint64_t b, uint64_t c)
{
	return rng_mix(rng_mix(rng_mix(rng_mix(fs->seed) ^ a) ^ b) ^ c);
}

/* --- the cut ----------------------------------------------------------------------------------- */

static void reach(struct cut_inode *dir)
{
	dir->reached = true;
	for (struct cut_entry *e = dir->durable; e; e = e->hh.next) {
		if (S_ISDIR(e->inode->mode) && !e->inode->reached)
			reach(e->inode);
		e->inode->reached = true;
	}
}

static void report(const struct cutfs *fs)
{
	static const char *const names[CUT_KINDS] = { "data",	  "hole",   "size",
						      "truncate", "create", "link",
						      "unlink",	  "rename", "directory" };
	char path[PATH_MAX];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/cuts", fs->store);
	f = fopen(path, "ae");
	if (!f)
		cut_die(path);
	(void)fprintf(f, "cut seed=%" PRIu64 " keep_ppm=%u in_order=%d torn=%" PRIu64, fs->seed,
		      fs->keep_ppm, fs->in_order, fs->counts.torn);
	for (unsigned int i = 0; i < CUT_KINDS; i++)
		(void)fprintf(f, " %s_kept=%" PRIu64 " %s_dropped=%" PRIu64, names[i],
			      fs->counts.kept[i], names[i], fs->counts.dropped[i]);
	(void)fprintf(f, " files_lost=%" PRIu64 " written_back=%" PRIu64 "\n",
		      fs->counts.files_lost, fs->counts.written_back);
	if (fclose(f) != 0)
		cut_die(path);
}

void cut_power(struct cutfs *fs)
{
	struct cut_inode *inode, *next;

	fs->is_dead = true;
	fs->keep_ppm = keep_habits[cut_fate(fs, 0, 0, 0) % ARRAY_SIZE(keep_habits)];
	fs->in_order = cut_fate(fs, 0, 0, 1) % 2;
	for (inode = fs->inodes; inode; inode = inode->hh.next)
		if (inode->fd >= 0)
			cut_data_power(fs, inode);
	cut_names_power(fs);
	reach(fs->root);
	for (inode = fs->inodes; inode; inode = inode->hh.next)
		if (!inode->reached && (inode->links || inode->lookups) && S_ISREG(inode->mode))
			fs->counts.files_lost++;
	/* What is durable is what there is; who has no name any more goes with its bytes. */
	HASH_ITER (hh, fs->inodes, inode, next) {
		inode->refs++;
	}
	for (inode = fs->inodes; inode; inode = inode->hh.next) {
		cut_dir_clear(fs, &inode->live);
		if (!inode->reached)
			cut_dir_clear(fs, &inode->durable);
		for (struct cut_entry *e = inode->durable; e; e = e->hh.next)
			cut_dir_set(fs, &inode->live, e->name, e->inode);
	}
	HASH_ITER (hh, fs->inodes, inode, next) {
		cut_inode_unref(fs, inode);
	}
	report(fs);
	cut_store_save(fs);
}

/* --- the store --------------------------------------------------------------------------------- */

void cut_store_load(struct cutfs *fs)
{
	struct cut_inode *orphan, *next;
	char path[PATH_MAX], line[1024];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/names", fs->store);
	f = fopen(path, "re");
	if (!f && errno != ENOENT)
		cut_die(path);
	fs->ino_next = CUT_CONTROL_INO + 1;
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t ino, dir, size;
		unsigned int mode, uid, gid;
		long long s, ns;
		int at = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "inode %" SCNu64 " %o %u %u %" SCNu64 " %lld %lld", &ino, &mode,
			   &uid, &gid, &size, &s, &ns) == 7) {
			struct cut_inode *inode = cut_inode_new(fs, ino, (mode_t)mode);

			inode->uid = uid;
			inode->gid = gid;
			inode->size_bytes = inode->durable_size_bytes = size;
			inode->mtime = inode->ctime = (struct timespec){ s, ns };
		} else if (sscanf(line, "name %" SCNu64 " %" SCNu64 " %n", &dir, &ino, &at) == 2 &&
			   at > 0) {
			struct cut_inode *in = cut_inode_find(fs, dir);
			struct cut_inode *inode = cut_inode_find(fs, ino);

			if (!in || !inode)
				cut_die("a name without an inode in the store");
			cut_dir_set(fs, &in->live, line + at, inode);
			cut_dir_set(fs, &in->durable, line + at, inode);
			inode->links++;
			inode->parent = in;
		} else if (sscanf(line, "next %" SCNu64, &fs->ino_next) != 1) {
			cut_die("reading the names of the store");
		}
	}
	if (f)
		(void)fclose(f);
	fs->root = cut_inode_find(fs, CUT_ROOT_INO);
	if (!fs->root)
		fs->root = cut_inode_new(fs, CUT_ROOT_INO, S_IFDIR | 0755);
	fs->root->refs++;
	HASH_ITER (hh, fs->inodes, orphan, next) {
		orphan->refs++;
		cut_inode_unref(fs, orphan);
	}
}

void cut_store_save(struct cutfs *fs)
{
	char path[PATH_MAX], temp[PATH_MAX];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/names", fs->store);
	(void)snprintf(temp, sizeof(temp), "%s/names.new", fs->store);
	f = fopen(temp, "we");
	if (!f)
		cut_die(temp);
	(void)fprintf(f, "next %" PRIu64 "\n", fs->ino_next);
	for (const struct cut_inode *i = fs->inodes; i; i = i->hh.next)
		(void)fprintf(f, "inode %" PRIu64 " %o %u %u %" PRIu64 " %lld %lld\n", i->ino,
			      i->mode, i->uid, i->gid, i->size_bytes, (long long)i->mtime.tv_sec,
			      (long long)i->mtime.tv_nsec);
	for (const struct cut_inode *i = fs->inodes; i; i = i->hh.next)
		for (const struct cut_entry *e = i->live; e; e = e->hh.next)
			(void)fprintf(f, "name %" PRIu64 " %" PRIu64 " %s\n", i->ino, e->inode->ino,
				      e->name);
	if (fclose(f) != 0 || rename(temp, path) < 0)
		cut_die(path);
}
