/*
 * env_posix_impl - what the files of the real environment share; nobody else includes this.
 */
#ifndef COMMON_ENV_POSIX_IMPL_H
#define COMMON_ENV_POSIX_IMPL_H

#include "common/env.h"

struct env_file {
	int fd;
	bool is_direct; /* the kernel wants aligned offsets, lengths and memory */
};

/*
 * How much of a write that came back short counts: with O_DIRECT the rest must start at an aligned
 * offset, so that a partly written block is written again.
 */
static inline size_t env_posix_progress(const struct env_file *f, size_t written_bytes)
{
	return f->is_direct ? written_bytes - written_bytes % ENV_DIRECT_ALIGN : written_bytes;
}

ssize_t env_posix_pread(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			uint64_t offset_bytes);
int env_posix_pwrite(struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
		     uint64_t offset_bytes);

int env_posix_fdatasync_all(struct env *env, struct env_file *const *files, unsigned int count);

int env_posix_ioq_open(struct env *env, unsigned int depth, struct env_ioq **ret_q);
void env_posix_ioq_close(struct env *env, struct env_ioq *q);
void env_posix_ioq_pin(struct env *env, struct env_ioq *q, void *mem, size_t len_bytes);
int env_posix_ioq_submit(struct env *env, struct env_ioq *q, struct env_io *io);
struct env_io *env_posix_ioq_reap(struct env *env, struct env_ioq *q, bool wait);

#endif
