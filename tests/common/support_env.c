#include "tests/common/support_env.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct env_fixture fx;

void env_fixture_begin(void)
{
	fx.env = env_posix();
	memcpy(fx.dir, "env-XXXXXX", 11);
	ck_assert_ptr_nonnull(mkdtemp(fx.dir));
	(void)snprintf(fx.path_a, sizeof(fx.path_a), "%s/a", fx.dir);
	(void)snprintf(fx.path_b, sizeof(fx.path_b), "%s/b", fx.dir);
	fx.mem = aligned_alloc(BLOCK, MEM_BYTES);
	fx.back = aligned_alloc(BLOCK, MEM_BYTES);
	ck_assert(fx.mem != NULL && fx.back != NULL);
	for (size_t i = 0; i < MEM_BYTES; i++)
		fx.mem[i] = (uint8_t)(i * 31 + i / BLOCK);
	memset(fx.back, 0, MEM_BYTES);
	fx.a = fx.b = NULL;
}

void env_fixture_end(void)
{
	DIR *d;
	struct dirent *entry;

	env_close(fx.env, fx.a);
	env_close(fx.env, fx.b);
	free(fx.mem);
	free(fx.back);
	d = opendir(fx.dir);
	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL) {
		if (unlinkat(dirfd(d), entry->d_name, 0) < 0)
			(void)unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
	}
	(void)closedir(d);
	ck_assert_int_eq(rmdir(fx.dir), 0);
}

void env_fixture_open_a(unsigned int more_flags)
{
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ | ENV_WRITE | ENV_CREATE | more_flags,
				  &fx.a),
			 0);
}

void env_fixture_open_b(unsigned int more_flags)
{
	ck_assert_int_eq(env_open(fx.env, fx.path_b, ENV_READ | ENV_WRITE | ENV_CREATE | more_flags,
				  &fx.b),
			 0);
}

uint64_t env_fixture_size_of(struct env_file *f)
{
	struct env_stat st;

	ck_assert_int_eq(env_stat(fx.env, f, &st), 0);
	return st.size_bytes;
}

void env_fixture_limit_file_size(uint64_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void install(struct sock_filter *code, unsigned short count)
{
	struct sock_fprog program = { .len = count, .filter = code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

void env_fixture_forbid(long syscall_number, uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)syscall_number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	install(code, ARRAY_SIZE(code));
}

void env_fixture_forbid_offset(long syscall_number, uint32_t offset, uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)syscall_number, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, offset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	install(code, ARRAY_SIZE(code));
}
