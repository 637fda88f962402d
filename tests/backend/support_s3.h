/*
 * s3 - an s3: store over the scripted server of a test, and short words for what is done with it. The
 * functions named must_ fail the test.
 */
#ifndef TESTS_BACKEND_SUPPORT_S3_H
#define TESTS_BACKEND_SUPPORT_S3_H

#include "backend/backend_s3.h"
#include "tests/backend/support_server.h"

#define S3_ACCESS   "AKIAIOSFODNN7EXAMPLE"
#define S3_SECRET   "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define S3_TOKEN    "t0kentokent0ken"
#define S3_LISTING  "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
#define S3_NOT_IMPL "<Error><Code>NotImplemented</Code></Error>"

struct s3_test {
	struct env *env;
	struct server *server;
	struct store *store; /* NULL: not open */
	unsigned int asked;  /* requests before those that the test is about */
	struct err e;
};
extern struct s3_test s3;

/* A server, and keys in the environment; with a store open, of the bucket "bucket" and the prefix
 * "pool", without conditional puts. */
void s3_setup_bare(void);
void s3_setup(void);
void s3_teardown(void);

/* rest is the URL behind "s3:"; place is like "bucket/prefix", more like "&style=path". */
int s3_open_url(const char *rest);
int s3_open_at(const char *place, const char *more);
void s3_must_open(const char *more);

/* The last error has these words. */
void s3_must_say(const char *words);
/* Requests that the test is about; one of them began so. */
unsigned int s3_asked(void);
void s3_must_have_asked(unsigned int i, const char *line);

#endif
