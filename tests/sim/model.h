/*
 * model - what each object must look like: a base that was seen, and the operations since.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "common/base.h"

/* Objects are small, so that a whole one is compared after each crash. */
#define MODEL_BYTES ((size_t)1 << 21)

enum model_kind { MODEL_WRITE, MODEL_ZERO, MODEL_TRUNCATE, MODEL_REPLACE, MODEL_PATCH };

struct model_op {
	enum model_kind kind;
	uint64_t offset_bytes, len_bytes; /* TRUNCATE: offset is the new size */
	uint64_t generation;
	uint8_t *bytes; /* REPLACE: the whole content; PATCH: of the range; owned by the model */
};

struct model {
	unsigned int number; /* which object: part of every byte */
	uint8_t *base;	     /* NULL: empty */
	uint64_t base_bytes;
	struct model_op *ops;
	size_t op_count, op_cap;
	size_t synced;	/* so many operations survive a power cut */
	bool in_flight; /* the last one was not acknowledged */
};

/* Bytes that a write of this generation puts at an offset. */
void model_fill(unsigned int number, uint64_t generation, uint64_t offset_bytes, void *dst,
		size_t len_bytes);
void model_add(struct model *m, const struct model_op *op);
/* The last operation did less than was said, or nothing. */
void model_cut_last(struct model *m, uint64_t len_bytes);
/* Forget everything: the object is new. */
void model_clear(struct model *m);
/*
 * Whether these bytes are a state that the object may be in now, after a power cut or not; then they
 * become the base. Otherwise a line on stderr says what differs.
 */
NODISCARD bool model_accept(struct model *m, const uint8_t *bytes, uint64_t size_bytes,
			    bool power_cut);

#endif
