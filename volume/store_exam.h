/*
 * store_exam - what store_exam.c and store_exam_speed.c share. Private; users call store_examine().
 */
#ifndef VOLUME_STORE_EXAM_H
#define VOLUME_STORE_EXAM_H

#include "backend/backend.h"
#include "volume/volume.h"

#include <stdarg.h>
#include <stdio.h>

#define EXAM_NAME_BYTES 64u

struct exam {
	struct backend *backend;
	struct env *env;
	struct store_exam_options options; /* defaults filled in */
	struct store_exam *result;
	char prefix[32]; /* of all names */
	uint8_t *bytes;	 /* random ones */
	bool hopeless;	 /* nothing can be put: no further step */
	struct err *cleaning;
};

/* "prefix/part"; returns out. */
const char *exam_name(const struct exam *x, char out[EXAM_NAME_BYTES], const char *part);
/* A step came to nothing, for this reason; returns -EIO. */
int exam_failed(struct store_exam_step *s, const char *what, int code, const struct err *e);
NODISCARD int exam_put(struct exam *x, const char *part, const void *data, size_t len_bytes,
		       unsigned int flags, struct err *e);
/* The step that measures; -ENOMEM, or what it says in s. */
NODISCARD int exam_speed(struct exam *x, struct store_exam_step *s);

/* As store_examine(), of a store that is open. */
NODISCARD int store_exam_run(struct backend *b, struct env *env,
			     const struct store_exam_options *options, struct store_exam *ret_exam,
			     struct err *e);

#endif
