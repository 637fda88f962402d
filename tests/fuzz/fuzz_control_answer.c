/* What a daemon, or whoever sits on its socket, may answer a command. */
#include "fs/cli.h"
#include "fs/control.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The text in a buf that doubles, and jansson's 120 bytes for an empty array, which is two of it. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 64 << 10, .per_input_byte = 256 };

void fuzz_seeds(void)
{
	static const char *const answers[] = {
		"{\"state\":\"ok\",\"dirty_bytes\":5,\"cache\":{\"size_bytes\":7},\"reason\":\"\"}\n",
		"{\"disks\":[{\"path\":\"a.raw\",\"size_bytes\":5,\"parent\":null}]}\n",
		"{\"error\":\"no\",\"code\":5,\"hint\":\"wait\"}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		fuzz_seed(0, answers[i], strlen(answers[i]));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	json_t *answer = NULL;
	struct err e = { 0 };
	int fds[2], r;

	(void)fuzz_word(&in, &len_bytes);
	FUZZ_EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	FUZZ_EXPECT(send(fds[0], in, len_bytes, MSG_NOSIGNAL) == (ssize_t)len_bytes);
	(void)close(fds[0]);
	r = control_receive(fds[1], 1000, &answer, &e);
	if (r < 0) {
		FUZZ_EXPECT(e.message[0] != '\0');
		return;
	}
	FUZZ_EXPECT(json_is_object(answer));
	FUZZ_EXPECT(cli_json_string(answer, "reason"));
	(void)cli_json_u64(answer, "dirty_bytes");
	json_decref(answer);
}
