/*
 * backend_impl - for those who implement a store or a filter; users include backend.h.
 *
 * A store is a const table of functions over its own struct, which starts with struct store. A
 * filter is a store over another one (filter_fault.c). Names were checked, lengths are right, when
 * a call arrives; a store does not retry. Every store passes tests/contract/ unchanged.
 */
#ifndef BACKEND_BACKEND_IMPL_H
#define BACKEND_BACKEND_IMPL_H

#include "backend/backend.h"

struct store;

struct store_ops {
	const char *type_name; /* the URL's scheme */
	void (*close)(struct store *s);
	int (*put)(struct store *s, const char *name, const struct backend_source *source,
		   unsigned int flags, struct backend_put_result *ret_result, struct err *e);
	int (*get)(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		   size_t len_bytes, struct err *e);
	int (*head)(struct store *s, const char *name, struct backend_object *ret_object,
		    struct err *e);
	int (*del)(struct store *s, const char *name, struct err *e);
	/*
	 * Delete those of the names that are not gone yet, at most del_many_max; gone[i] becomes true
	 * for what surely is. NULL where one request deletes one name.
	 * Returns 0 when all are gone; -EOPNOTSUPP: it does not work like this, delete them one by
	 * one; else what another try may cure, before what it cannot.
	 */
	int (*del_many)(struct store *s, const char *const *names, size_t count, bool *gone,
			struct err *e);
	int (*list)(struct store *s, const char *prefix, const char *after, unsigned int count_max,
		    int (*fn)(void *arg, const char *name, const struct backend_object *object),
		    void *arg, struct err *e);
	/*
	 * NULL where a conditional put that succeeded is the only one that did. Else: it did, and
	 * settle_ns have passed since; make sure that every other one fails. May be called again.
	 * Returns 0, -EEXIST another client has the name, or retryable.
	 */
	int (*confirm)(struct store *s, const char *name, const struct backend_source *source,
		       struct err *e);
};

struct store {
	const struct store_ops *ops;
	unsigned int caps;
	/* Until then (clock_mono_ns()) the store asked for no more tries; the router waits at least so
	 * long before the next one of a call that failed. Any thread sets it. */
	_Atomic uint64_t busy_until_ns;
	uint64_t settle_ns; /* for confirm */
	/* Names that del_many takes. 0: it is not asked; a store says so as soon as it knows. */
	_Atomic unsigned int del_many_max;
};

/* Open the bare store of a URL (registry.c). */
NODISCARD int store_open(struct env *env, const char *url, const struct backend_options *options,
			 struct store **ret_store, struct err *e);

/* The stores that registry.c knows; rest is the URL behind the scheme and its colon. */
NODISCARD int store_mem_open(struct env *env, const char *rest,
			     const struct backend_options *options, struct store **ret_store,
			     struct err *e);
NODISCARD int store_file_open(struct env *env, const char *rest,
			      const struct backend_options *options, struct store **ret_store,
			      struct err *e);
NODISCARD int store_s3_open(struct env *env, const char *rest,
			    const struct backend_options *options, struct store **ret_store,
			    struct err *e);
NODISCARD int store_swift_open(struct env *env, const char *rest,
			       const struct backend_options *options, struct store **ret_store,
			       struct err *e);

/* Drop what "mem:name" holds; whoever still has it open keeps it until close. Threads: any. */
void backend_mem_forget(const char *name);

/* A router over a store that the caller opened, which it takes over (tests, filters). */
NODISCARD int backend_open_over(struct env *env, struct store *store, const char *url,
				const struct backend_options *options, struct backend **ret_backend,
				struct err *e);

/* What filter_fault does; probabilities in parts of 65,536. May be changed while in use. */
struct fault_plan {
	uint32_t
		error_before; /* fail with -EAGAIN, nothing done; of many deletes, each by itself */
	uint32_t error_after; /* do it, then answer -EAGAIN: an answer that was lost */
	uint32_t cut_read;    /* answer -EUCLEAN as if the body was cut */
	uint32_t flip_read;   /* one bit of the bytes read is wrong, silently */
	uint32_t no_space;    /* a put fails with -ENOSPC */
	bool down;	      /* everything fails with -EAGAIN */
	uint64_t delay_ns_max; /* wait a random time up to this, through the env */
};

/* Put faults in front of a store, which it takes over. Randomness and time come from env. */
NODISCARD int filter_fault_open(struct env *env, struct store *below, const struct fault_plan *plan,
				struct store **ret_store);
void filter_fault_set(struct store *s, const struct fault_plan *plan);
/* Errors, cuts and flips so far; not what was refused while down. */
uint64_t filter_fault_count(struct store *s);

#endif
