#include "tests/fuzz/memory_env.h"

#include <string.h>
#include <unistd.h>

#define NOW_NS INT64_C(1792000000000000000)

static const uint8_t *file_data;
static size_t file_bytes;
static char a_file; /* what an open one points to */

void memory_env_set(const void *bytes, size_t len_bytes)
{
	file_data = bytes;
	file_bytes = len_bytes;
}

static int memory_open(struct env *env, const char *path, unsigned int flags,
		       struct env_file **ret_file)
{
	(void)env;
	(void)path;
	if (flags & ~(unsigned int)(ENV_READ | ENV_DIRECT))
		return -EROFS;
	*ret_file = (struct env_file *)(void *)&a_file;
	return 0;
}

static void memory_close(struct env *env, struct env_file *f)
{
	(void)env;
	(void)f;
}

static ssize_t memory_pread(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			    uint64_t offset_bytes)
{
	size_t n = offset_bytes < file_bytes ?
			   (size_t)min_u64(len_bytes, file_bytes - offset_bytes) :
			   0;

	(void)env;
	(void)f;
	if (n > 0)
		memcpy(buf, file_data + offset_bytes, n);
	return (ssize_t)n;
}

static int memory_stat(struct env *env, struct env_file *f, struct env_stat *ret_stat)
{
	(void)env;
	(void)f;
	*ret_stat = (struct env_stat){
		.size_bytes = file_bytes, .link_count = 1, .uid = geteuid(), .mode = 0100600
	};
	return 0;
}

static uint64_t memory_mono(struct env *env)
{
	(void)env;
	return NOW_NS;
}

static int64_t memory_real(struct env *env)
{
	(void)env;
	return NOW_NS;
}

static void memory_random(struct env *env, void *buf, size_t len_bytes)
{
	(void)env;
	memset(buf, 0x5a, len_bytes);
}

static const struct env_ops memory_ops = {
	.open = memory_open,
	.close = memory_close,
	.pread = memory_pread,
	.stat = memory_stat,
	.now_mono_ns = memory_mono,
	.now_real_ns = memory_real,
	.random = memory_random,
};

struct env *memory_env(void)
{
	static struct env env = { .ops = &memory_ops };

	return &env;
}
