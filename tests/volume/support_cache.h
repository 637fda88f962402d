/*
 * support_cache - a cache over a store that makes up the bytes of any SCO, counts what it is asked
 * for, and fails, waits or lies as the test says. Directories are fresh ones below the current.
 */
#ifndef TESTS_VOLUME_SUPPORT_CACHE_H
#define TESTS_VOLUME_SUPPORT_CACHE_H

#include "backend/backend_impl.h"
#include "volume/cache.h"

#define KIB	  UINT64_C(1024)
#define MIB	  (KIB * 1024)
#define CF_SCO	  (16 * MIB)
#define CF_CHUNKS (CF_SCO / CACHE_CHUNK_BYTES)

struct cache_fixture {
	struct env env; /* of the cache: as the machine's, but for what the test spoils */
	struct env_ops ops;
	struct cache_options options;
	struct cache_metrics metrics;
	struct cache *cache; /* NULL: closed */
	struct flash *flash;
	struct backend *backend;
	uint64_t flash_bytes; /* of each directory */
	unsigned int dir_count;
	char dir[64];
	char dirs[2][96];

	/* Atomic. */
	unsigned int gets;
	uint64_t get_bytes;
	unsigned int fail_gets; /* so many of the next ones */
	int fail_code;
	unsigned int fetched; /* calls of cache_options.fetched */
	int write_code;	      /* writes of chunks fail so; 0: they don't */
	int read_code;	      /* the same of reads */
	uint64_t late_ns;     /* its clock goes ahead by so much */

	struct mutex lock; /* guards all below */
	struct cond changed;
	bool closed_gate; /* GETs wait */
	unsigned int at_gate;

	struct err e;
};
extern struct cache_fixture cf;

/* For checked fixtures: a cache of a directory of 512 MiB, without threads. */
void cf_begin(void);
void cf_end(void);
/* Flash and cache of cf.options, cf.flash_bytes and cf.dir_count; the directories if they are new. */
void cf_open(void);
void cf_close(void);
/* As a process that dies: what is only in memory is lost. */
void cf_die(void);

/* SCO n, version 0. */
struct cache_sco cf_sco(uint64_t n);
/* Fill with the bytes of a SCO. */
void cf_bytes(const struct cache_sco *s, uint64_t offset_bytes, void *dst, size_t len_bytes);
/* Read and compare. */
void cf_must_read(const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes);
/* What a hold shows are the bytes of the SCO. */
void cf_must_hold(const struct cache_hold *hold, const struct cache_sco *s, uint64_t offset_bytes,
		  size_t len_bytes);
void cf_set_gate(bool closed);
/* Wait until so many GETs wait. */
void cf_await_gate(unsigned int count);
unsigned int cf_gets(void);
uint64_t cf_get_bytes(void);
/* Serve all wishes. */
void cf_serve(void);
/* Of the file of chunks of a directory. */
uint64_t cf_allocated_bytes(unsigned int dir);
char *cf_path(unsigned int dir, const char *name);

#endif
