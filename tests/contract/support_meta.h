/*
 * contract/support_meta - one metadata store, fresh for each test, and short words for what the
 * suites do with it. Each call that must work fails the test if it does not.
 */
#ifndef TESTS_CONTRACT_SUPPORT_META_H
#define TESTS_CONTRACT_SUPPORT_META_H

#include "volume/meta.h"

#define META_VALUE_MAX (UINT64_C(8) << 20)
#define META_TEST_SCO  UINT64_C(77)

struct meta_store {
	const char *name;
	void (*make)(void);
	void (*open)(void);
	void (*kill)(void); /* as if the process died; then open again */
	void (*done)(void);
};

struct meta_fixture {
	const struct meta_store *store;
	struct meta *m;
	struct meta_mem_disk *disk; /* NULL: RocksDB */
	char dir[32];		    /* of RocksDB */
	struct err e;
	struct buf got; /* what mt_get() read last */
};
extern struct meta_fixture mt;

/* Fixtures of check. */
void mt_setup_mem(void);
void mt_setup_rocks(void);
void mt_teardown(void);

/* RocksDB by hand, for tests of several processes. */
void mt_rocks_make(void);
void mt_rocks_open(void);
int mt_rocks_try_open(struct meta **ret_meta);
void mt_remove_dir(const char *dir);

/* Rows have keys of kind and number; the kind gives the family. */
struct row_key mt_key_of(enum row_kind kind, uint64_t id);
void mt_put_text(enum row_kind kind, uint64_t id, const char *text, unsigned int flags);
void mt_delete_row(enum row_kind kind, uint64_t id);
int mt_get(enum row_kind kind, uint64_t id);
void mt_ck_text(enum row_kind kind, uint64_t id, const char *text);

void mt_batch_text(struct meta_batch *batch, enum row_kind kind, uint64_t id, const char *text);
/* Frees the batch. */
void mt_commit(struct meta_batch *batch, unsigned int flags);
void mt_flush(void);

/* A value of one run; freed by the caller. */
void mt_page_value(struct buf *out, enum page_value_kind kind, unsigned int first,
		   unsigned int count, loc_t loc);
void mt_batch_delta(struct meta_batch *batch, uint64_t page, unsigned int first, unsigned int count,
		    loc_t loc);
void mt_merge_delta(uint64_t page, unsigned int first, unsigned int count, loc_t loc);
void mt_put_base(uint64_t page, unsigned int first, unsigned int count, loc_t loc);
/* For page_value_decode(): arg is an array of PAGE_CLUSTERS locations. */
void mt_add_run(void *arg, const struct page_run *run);
/* The locations of a page as it is read. */
void mt_get_page(uint64_t page, loc_t locs[PAGE_CLUSTERS]);

#endif
