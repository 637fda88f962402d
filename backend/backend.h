/*
 * backend - named objects on some store. Knows nothing of volumes.
 *
 * Names are printable ASCII without control characters, of '/'-separated parts none of which is
 * empty, "." or "..", at most BACKEND_NAME_BYTES_MAX bytes. No part is longer than
 * BACKEND_PART_BYTES_MAX, the first part is never "tmp", and no name continues another one behind a
 * '/' (a directory cannot hold both "a" and "a/b"). Objects are whole and atomic: a reader
 * sees all of one put or nothing of it. What users of this header hold is a router over a store:
 * it retries, limits concurrency, measures, and verifies what comes back.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "common/env.h"
#include "common/err.h"

#define BACKEND_NAME_BYTES_MAX 512u
#define BACKEND_PART_BYTES_MAX 255u

enum backend_caps {
	BACKEND_CAP_PUT_IF_ABSENT = 1 << 0, /* atomically, against every other client */
	BACKEND_CAP_LINK = 1 << 1,	    /* put of a file can share its blocks (see put_file) */
	/* Many deletes travel in one request. Some stores show only when asked that they cannot: then
	 * it is gone from then on. */
	BACKEND_CAP_DELETE_MANY = 1 << 2,
};

/* How a `file:` store takes a file that lies on the same filesystem (`backend_copy`). */
enum backend_copy_mode {
	BACKEND_COPY_LINK,    /* hard link; falls back to a copy on another filesystem */
	BACKEND_COPY_REFLINK, /* FICLONE; falls back to a copy */
	BACKEND_COPY_BYTES,   /* always a second copy */
};

enum backend_put_flags {
	BACKEND_PUT_IF_ABSENT = 1 << 0, /* -EEXIST when the name is taken */
};

struct backend_options {
	enum backend_copy_mode copy_mode;
	unsigned int concurrency_max; /* operations in flight; 0: 8 */
	unsigned int attempts_max; /* tries of one call, 0: 5; the engine retries for ever above */
	uint64_t timeout_ns;	   /* of one call, all tries together; 0: 30 s */
	uint64_t backoff_first_ns; /* doubled per try, jittered by half; 0: 50 ms */
	uint64_t backoff_max_ns;   /* 0: 5 s */
	bool must_exist; /* -ENOENT where there is no store, which else is made (`file:`) */
};

/* Where the bytes of a put come from: memory, or a range of a file that nobody writes any more. */
struct backend_source {
	const void *data;      /* NULL: from file */
	struct env_file *file; /* NULL: from data */
	const char *file_path; /* path of file, for a hard link; NULL: never link */
	uint64_t
		file_offset_bytes; /* a link is made only for offset 0 and the file's full length */
	uint64_t len_bytes;
	uint32_t crc32c; /* of the len_bytes; checked by the router where has_crc */
	bool has_crc;
	/*
	 * Called with the bytes of a file as they are read for a put, in order from offset 0 (of the
	 * file), perhaps again from there or from the middle; with those of the copy where the kernel
	 * made it; not at all where the object is a hard link. A negative return ends the put with it.
	 * By one thread at a time. NULL: nobody looks.
	 */
	int (*look)(void *arg, uint64_t offset_bytes, const void *bytes, size_t len_bytes,
		    struct err *e);
	void *look_arg;
};

struct backend_object {
	uint64_t len_bytes;
	int64_t modified_ns; /* real time, 0 where the store does not say */
};

/* How a put ended. */
struct backend_put_result {
	bool shares_file; /* the object is a hard link of the source file */
};

struct backend;
struct metrics_group; /* common/metrics.h */

/*
 * Open the store that a URL names: "mem:" (optionally "mem:name", shared in the process by name),
 * "file:///absolute/dir" (made if missing), "s3://bucket/prefix?..." and
 * "swift://container/prefix?..." (README.md has their options and where their keys come from).
 *
 * Owns:     the result, closed by backend_close(); env must outlive it.
 * Errors:   -EINVAL bad URL or option, -EPROTONOSUPPORT unknown scheme, else what the store says.
 * Threads:  any.
 */
NODISCARD int backend_open(struct env *env, const char *url, const struct backend_options *options,
			   struct backend **ret_backend, struct err *e);
void backend_close(struct backend *b);

/*
 * Nobody waits for the store any more: calls that would begin a try, and those that wait for their
 * turn or for their next try, end with -ESHUTDOWN, until this is taken back. Tries that are under way
 * come to their end.
 * Threads:  any; does not wait.
 */
void backend_refuse_calls(struct backend *b, bool refuse);

/* Capabilities of the store (enum backend_caps) as far as is known, its URL without secrets. */
unsigned int backend_caps(const struct backend *b);
const char *backend_url(const struct backend *b);

/*
 * Store a whole object.
 *
 * Errors:   -EEXIST (BACKEND_PUT_IF_ABSENT and the name is taken), -ENOSPC, -EBADMSG (the source
 *           does not have the checksum that it claims), -EINVAL bad name, -EAGAIN or -ETIMEDOUT
 *           when all tries failed: state of the object unknown, a repeated put is harmless.
 * Durable:  the object and its name, against a power cut of the store.
 * Threads:  any; may block up to the time-out.
 */
NODISCARD int backend_put(struct backend *b, const char *name, const struct backend_source *source,
			  unsigned int flags, struct backend_put_result *ret_result, struct err *e);

/*
 * Read bytes [offset, offset + len) of an object; all of them or an error.
 *
 * Errors:   -ENOENT no such object, -EUCLEAN the object is shorter, -EAGAIN, -ETIMEDOUT, -EIO.
 */
NODISCARD int backend_get(struct backend *b, const char *name, uint64_t offset_bytes, void *dst,
			  size_t len_bytes, struct err *e);

/* As backend_get, and -EBADMSG when the bytes do not have this CRC-32C (after fetching twice). */
NODISCARD int backend_get_verified(struct backend *b, const char *name, uint64_t offset_bytes,
				   void *dst, size_t len_bytes, uint32_t crc32c, struct err *e);

/* Errors: -ENOENT. */
NODISCARD int backend_head(struct backend *b, const char *name, struct backend_object *ret_object,
			   struct err *e);

/* Delete; a name that is not there is success. Durable on return. */
NODISCARD int backend_delete(struct backend *b, const char *name, struct err *e);

/*
 * Delete count names, as backend_delete() each, in as few requests as the store knows; one name twice
 * is none of them. Some may go although others do not: what it says holds for each by itself.
 *
 * Owns:     ret_gone[count] (NULL: nobody wants to know): whether the name is surely gone; filled in
 *           whatever is returned. One that is not may be gone all the same.
 * Returns:  0 when all are gone.
 * Errors:   of the first that is not: -EINVAL a bad name, then nothing was done; -EAGAIN, -ETIMEDOUT,
 *           -ESHUTDOWN: the rest was not tried; -EACCES and its like: the others were. -ENOMEM.
 * Durable:  each that is gone.
 * Threads:  any; may block up to the time-out for each request.
 */
NODISCARD int backend_delete_many(struct backend *b, const char *const *names, size_t count,
				  bool *ret_gone, struct err *e);

/*
 * List names that start with prefix and sort (bytewise) after `after` (NULL: from the start), in
 * bytewise order, at most count_max of them.
 * Owns:     calls fn for each with memory valid during the call; fn != 0 ends it with that value.
 * Returns:  how many were given, or negative.
 */
NODISCARD int backend_list(struct backend *b, const char *prefix, const char *after,
			   unsigned int count_max,
			   int (*fn)(void *arg, const char *name,
				     const struct backend_object *object),
			   void *arg, struct err *e);

/*
 * Counters, gauges and latency histograms of this backend (group "backend").
 * Owns: b; for metrics_add(), with metrics_remove() before backend_close().
 */
struct metrics_group *backend_metrics(struct backend *b);

/* Check a name against the rules at the top: 0 or -EINVAL. */
NODISCARD int backend_check_name(const char *name, struct err *e);

#endif
