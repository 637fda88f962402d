/*
 * meta_mem_tree - ordered rows in trees that never change: the inside of meta_mem.
 *
 * A treap (a binary tree, random in shape): to put or delete copies the path to the row and shares
 * the rest, so an old root goes on showing what it always showed, for O(log n) memory. The priority
 * of a node is a hash of its key: the shape depends on the keys alone, and a run of the simulator
 * repeats. Depth is some 3 log2 of the rows; the functions recurse that deep.
 *
 * Counts of references are plain: whoever shares trees between threads holds a lock for all calls,
 * but may walk a tree that it holds a reference of without.
 */
#ifndef VOLUME_META_MEM_TREE_H
#define VOLUME_META_MEM_TREE_H

#include "common/base.h"

struct tree_row {
	uint32_t refs;
	uint32_t priority;
	bool unmergeable; /* of its owner: there is no value */
	size_t key_bytes, value_bytes;
	uint8_t bytes[]; /* key, value */
};

struct tree_node {
	uint32_t refs;
	struct tree_row *row;
	struct tree_node *left, *right;
};

/* Byte by byte, a prefix first: <0, 0, >0. */
int tree_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes);

/* A row with one reference, to be given back; NULL: no memory. The bytes are copied. */
struct tree_row *tree_row_new(const uint8_t *key, size_t key_bytes, const uint8_t *value,
			      size_t value_bytes);
void tree_row_unref(struct tree_row *row);

/* A tree is its root, NULL when empty. */
struct tree_node *tree_ref(struct tree_node *n);
void tree_unref(struct tree_node *n);

/* NULL: not there. Borrowed, for as long as the caller holds the tree. */
const struct tree_row *tree_find(const struct tree_node *n, const uint8_t *key, size_t key_bytes);

/*
 * A new tree with row in it, instead of one with the same key.
 * Owns:     the result is the caller's; n and row stay the caller's and as they are.
 * Errors:   NULL no memory.
 */
struct tree_node *tree_put(struct tree_node *n, struct tree_row *row);

/*
 * A new tree without the key of row, which is in n.
 * Owns:     *ret_root is the caller's (NULL: empty); n stays the caller's and as it is.
 * Errors:   -ENOMEM.
 */
NODISCARD int tree_delete(struct tree_node *n, const struct tree_row *row,
			  struct tree_node **ret_root);

#endif
