/*
 * exam - what exam.c and exam_speed.c share. Private; users call backend_examine().
 */
#ifndef BACKEND_EXAM_H
#define BACKEND_EXAM_H

#include "backend/backend.h"

#include <stdarg.h>
#include <stdio.h>

#define EXAM_NAME_BYTES 64u

struct exam {
	struct backend *backend;
	struct env *env;
	struct backend_exam_options options; /* defaults filled in */
	struct backend_exam *result;
	char prefix[32]; /* of all names */
	uint8_t *bytes;	 /* random ones */
	bool hopeless;	 /* nothing can be put: no further step */
	struct err *cleaning;
};

/* "prefix/part"; returns out. */
const char *exam_name(const struct exam *x, char out[EXAM_NAME_BYTES], const char *part);
/* A step came to nothing, for this reason; returns -EIO. */
int exam_failed(struct backend_exam_step *s, const char *what, int code, const struct err *e);
NODISCARD int exam_put(struct exam *x, const char *part, const void *data, size_t len_bytes,
		       unsigned int flags, struct err *e);
/* The step that measures; -ENOMEM, or what it says in s. */
NODISCARD int exam_speed(struct exam *x, struct backend_exam_step *s);

#endif
