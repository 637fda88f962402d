#include "volume/meta_mem_tree.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, then mixed, so that close keys get far priorities. */
static uint32_t key_priority(const uint8_t *key, size_t key_bytes)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < key_bytes; i++)
		h = (h ^ key[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	return (uint32_t)(h >> 32);
}

struct tree_row *tree_row_new(const uint8_t *key, size_t key_bytes, const uint8_t *value,
			      size_t value_bytes)
{
	struct tree_row *row = malloc(sizeof(*row) + key_bytes + value_bytes);

	if (row == NULL)
		return NULL;
	*row = (struct tree_row){
		.refs = 1,
		.priority = key_priority(key, key_bytes),
		.key_bytes = key_bytes,
		.value_bytes = value_bytes,
	};
	memcpy(row->bytes, key, key_bytes);
	if (value_bytes > 0)
		memcpy(row->bytes + key_bytes, value, value_bytes);
	return row;
}

static struct tree_row *row_ref(struct tree_row *row)
{
	row->refs++;
	return row;
}

void tree_row_unref(struct tree_row *row)
{
	if (--row->refs == 0)
		free(row);
}

int tree_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
	const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

	if (order != 0)
		return order;
	return a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

struct tree_node *tree_ref(struct tree_node *n)
{
	if (n != NULL)
		n->refs++;
	return n;
}

void tree_unref(struct tree_node *n)
{
	if (n == NULL || --n->refs > 0)
		return;
	tree_unref(n->left);
	tree_unref(n->right);
	tree_row_unref(n->row);
	free(n);
}

/* Takes left and right, also when it fails; borrows row. */
static struct tree_node *node_new(struct tree_row *row, struct tree_node *left,
				  struct tree_node *right)
{
	struct tree_node *n = malloc(sizeof(*n));

	if (n == NULL) {
		tree_unref(left);
		tree_unref(right);
		return NULL;
	}
	*n = (struct tree_node){ .refs = 1, .row = row_ref(row), .left = left, .right = right };
	return n;
}

const struct tree_row *tree_find(const struct tree_node *n, const uint8_t *key, size_t key_bytes)
{
	while (n != NULL) {
		const int order = tree_compare(key, key_bytes, n->row->bytes, n->row->key_bytes);

		if (order == 0)
			return n->row;
		n = order < 0 ? n->left : n->right;
	}
	return NULL;
}

struct tree_node *tree_put(struct tree_node *n, struct tree_row *row)
{
	struct tree_node *child, *copy;
	int order;

	if (n == NULL)
		return node_new(row, NULL, NULL);
	order = tree_compare(row->bytes, row->key_bytes, n->row->bytes, n->row->key_bytes);
	if (order == 0)
		return node_new(row, tree_ref(n->left), tree_ref(n->right));

	child = tree_put(order < 0 ? n->left : n->right, row);
	if (child == NULL)
		return NULL;
	copy = order < 0 ? node_new(n->row, child, tree_ref(n->right)) :
			   node_new(n->row, tree_ref(n->left), child);
	if (copy == NULL || child->row->priority <= copy->row->priority)
		return copy;

	/* Rotate. Nobody else has seen child or copy, so here they may still change. */
	if (order < 0) {
		copy->left = child->right;
		child->right = copy;
	} else {
		copy->right = child->left;
		child->left = copy;
	}
	return child;
}

/* All keys of a are smaller than those of b. -ENOMEM: *ret_root is untouched. */
NODISCARD static int tree_join(struct tree_node *a, struct tree_node *b,
			       struct tree_node **ret_root)
{
	struct tree_node *inner = NULL, *joined;
	int r;

	if (a == NULL || b == NULL) {
		*ret_root = tree_ref(a != NULL ? a : b);
		return 0;
	}
	if (a->row->priority > b->row->priority) {
		r = tree_join(a->right, b, &inner);
		if (r < 0)
			return r;
		joined = node_new(a->row, tree_ref(a->left), inner);
	} else {
		r = tree_join(a, b->left, &inner);
		if (r < 0)
			return r;
		joined = node_new(b->row, inner, tree_ref(b->right));
	}
	if (joined == NULL)
		return -ENOMEM;
	*ret_root = joined;
	return 0;
}

int tree_delete(struct tree_node *n, const struct tree_row *row, struct tree_node **ret_root)
{
	const int order =
		tree_compare(row->bytes, row->key_bytes, n->row->bytes, n->row->key_bytes);
	struct tree_node *child = NULL, *copy;
	int r;

	if (order == 0)
		return tree_join(n->left, n->right, ret_root);
	r = tree_delete(order < 0 ? n->left : n->right, row, &child);
	if (r < 0)
		return r;
	copy = order < 0 ? node_new(n->row, child, tree_ref(n->right)) :
			   node_new(n->row, tree_ref(n->left), child);
	if (copy == NULL)
		return -ENOMEM;
	*ret_root = copy;
	return 0;
}
