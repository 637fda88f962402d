/*
 * cutfs - the parts of a filesystem that forgets, at a power cut, what was not synced.
 *
 * What is there now ("live") and what would be there after a cut ("durable") differ by effects: a
 * write to one 4 KiB block, a hole in it, a change of a size, a change of names. Syncing a file takes
 * its data and size effects away, syncing a directory those of its names. A cut decides about each.
 *
 * Live bytes are in STORE/data/<inode>; effects and names are in memory; names are saved to
 * STORE/names when the server ends. One thread does everything, so nothing here is locked.
 */
#ifndef TESTS_TOOLS_CUTFS_H
#define TESTS_TOOLS_CUTFS_H

#include "common/base.h"
#include "tests/sim/sim_rng.h"

#include <sys/stat.h>
#include <time.h>
#include <uthash.h>

#define CUT_BLOCK_BYTES	 4096u
#define CUT_SECTOR_BYTES 512u
/* So much of unsynced data stays in memory; beyond it the file that has most of it is written back. */
#define CUT_PENDING_BYTES_MAX (UINT64_C(512) << 20)
/* So many unsynced changes of names; beyond it the oldest are committed, as a journal does. */
#define CUT_NAMES_PENDING_MAX 4096u
#define CUT_ROOT_INO	      UINT64_C(1)
#define CUT_CONTROL_INO	      UINT64_C(2)
#define CUT_CONTROL_NAME      ".cutfs"

enum cut_kind {
	CUT_DATA,
	CUT_HOLE,
	CUT_SIZE,
	CUT_TRUNCATE,
	CUT_CREATE,
	CUT_LINK,
	CUT_UNLINK,
	CUT_RENAME,
	CUT_DIRECTORY,
	CUT_KINDS
};

struct cut_inode;

/* A write to one block, or a hole in it (no bytes). Those of one truncation have one fate. */
struct cut_fx {
	struct cut_fx *next;
	uint64_t seq;
	uint64_t truncation; /* its size effect's seq; 0: none */
	uint32_t offset_bytes, len_bytes;
	uint8_t *bytes;
};

struct cut_block {
	uint64_t index;	  /* key */
	uint8_t *durable; /* NULL: zeros */
	struct cut_fx *first, *last;
	UT_hash_handle hh;
};

struct cut_size_fx {
	uint64_t seq, size_bytes;
	bool is_truncation; /* else the file only grew */
};

struct cut_entry {
	struct cut_inode *inode;
	uint64_t cookie; /* for readdir: ascending, never used twice */
	UT_hash_handle hh;
	char name[]; /* key */
};

struct cut_inode {
	uint64_t ino; /* key */
	UT_hash_handle hh;
	uint32_t refs;	  /* names of both sides, effects; looked: one for all look-ups */
	uint64_t lookups; /* of the kernel */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime, ctime;
	nlink_t links;	     /* live names */
	uint64_t size_bytes; /* live */

	/* regular files */
	int fd; /* of STORE/data/<ino>; -1: none */
	uint64_t durable_size_bytes;
	struct cut_block *blocks; /* those that have effects */
	struct cut_size_fx *sizes;
	size_t size_count, size_cap;
	uint64_t pending_bytes;

	/* directories */
	struct cut_inode *parent; /* not counted; NULL: it was removed */
	struct cut_entry *live, *durable;
	bool reached;
};

struct cut_name_change {
	struct cut_inode *dir;
	const char *name;
	struct cut_inode *inode; /* NULL: the name goes */
};

struct cut_name_fx {
	uint64_t seq;
	enum cut_kind kind;
	unsigned int count;
	bool is_over; /* a rename onto a name that was there */
	bool marked;
	struct cut_name_change change[2]; /* owns names and references */
};

struct cut_counts {
	uint64_t kept[CUT_KINDS], dropped[CUT_KINDS], torn, files_lost, written_back;
};

struct cutfs {
	int data_fd; /* STORE/data */
	const char *store;
	struct cut_inode *inodes; /* by number */
	struct cut_inode *root;
	uint64_t ino_next, cookie_next;
	uint64_t seq; /* of the last effect */
	uint64_t pending_bytes;
	struct cut_name_fx *names;
	size_t name_count, name_cap;

	bool is_dead;		 /* the power is off */
	uint64_t seed;		 /* of the cut that is armed */
	uint64_t cut_after;	 /* changes until then; 0: none is armed */
	uint64_t changes;	 /* so far */
	uint64_t sync_fails;	 /* so many more syncs of what matches */
	char sync_fails_at[256]; /* as fnmatch(3) has it; '*' matches '/', too */
	struct cut_counts counts;
	uint32_t keep_ppm; /* what the cut drew */
	bool in_order;	   /* so that names survive as a prefix */
};

/* Out of memory or a store that fails end the process: a test then fails. */
NORETURN void cut_die(const char *what);
void *cut_alloc(size_t len_bytes);
/* Make room for one more element of an array. */
#define CUT_ROOM(array, count, cap)                                                                \
	do {                                                                                       \
		if ((count) == (cap)) {                                                            \
			(cap) = (cap) ? 2 * (cap) : 16;                                            \
			(array) = realloc((array), (cap) * sizeof(*(array)));                      \
			if (!(array))                                                              \
				cut_die("memory");                                                 \
		}                                                                                  \
	} while (0)

/* --- inodes (cutfs/names.c) -------------------------------------------------------------------- */

/* Without a reference yet; a regular file has its bytes opened. */
struct cut_inode *cut_inode_new(struct cutfs *fs, uint64_t ino, mode_t mode);
struct cut_inode *cut_inode_find(struct cutfs *fs, uint64_t ino);
/* Drop a reference; the last one takes the bytes with it. */
void cut_inode_unref(struct cutfs *fs, struct cut_inode *inode);

/* --- names (cutfs/names.c) --------------------------------------------------------------------- */

/* Where it is, without a '/' in front; "": it has no name. */
void cut_path(const struct cutfs *fs, const struct cut_inode *inode, char *path, size_t len_bytes);
struct cut_entry *cut_dir_find(struct cut_entry *const *dir, const char *name);
/* Both keep the order of cookies. */
void cut_dir_set(struct cutfs *fs, struct cut_entry **dir, const char *name,
		 struct cut_inode *inode);
void cut_dir_remove(struct cutfs *fs, struct cut_entry **dir, const char *name);
void cut_dir_clear(struct cutfs *fs, struct cut_entry **dir);
/* Change live names, and note the effect. Names and inodes stay the caller's. */
void cut_names_change(struct cutfs *fs, enum cut_kind kind, const struct cut_name_change *change,
		      unsigned int count, bool is_over);
/* The directory is synced: its changes up to seq are durable, and the earlier ones they build on. */
void cut_names_sync(struct cutfs *fs, const struct cut_inode *dir, uint64_t seq);
/* Decide about every change of names; durable names are the ones that are left. */
void cut_names_power(struct cutfs *fs);

/* --- bytes (cutfs/data.c) ---------------------------------------------------------------------- */

int cut_data_write(struct cutfs *fs, struct cut_inode *inode, const uint8_t *bytes,
		   size_t len_bytes, uint64_t offset_bytes);
int cut_data_truncate(struct cutfs *fs, struct cut_inode *inode, uint64_t size_bytes);
/* The range reads as zeros; the size stays. */
int cut_data_hole(struct cutfs *fs, struct cut_inode *inode, uint64_t offset_bytes,
		  uint64_t len_bytes);
/* The file is at least so long. */
int cut_data_grow(struct cutfs *fs, struct cut_inode *inode, uint64_t size_bytes);
/* Bytes and size of up to seq are durable. */
void cut_data_sync(struct cutfs *fs, struct cut_inode *inode, uint64_t seq);
/* Decide about every effect on a file; live is what is left. */
void cut_data_power(struct cutfs *fs, struct cut_inode *inode);
/* Effects are forgotten without a decision. */
void cut_data_forget(struct cutfs *fs, struct cut_inode *inode);

/* --- the cut, and from one server to the next (cutfs/store.c) ------------------------------------ */

/* A fate by seed and by what it is about, whatever the order of asking. */
uint64_t cut_fate(const struct cutfs *fs, uint64_t a, uint64_t b, uint64_t c);
void cut_power(struct cutfs *fs);
void cut_store_load(struct cutfs *fs);
void cut_store_save(struct cutfs *fs);

#endif
