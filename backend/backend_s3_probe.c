/*
 * backend_s3_probe - may we use the bucket, and does the store honour "If-None-Match: *" on a put?
 *
 * Amazon, Ceph and others answer 412 where the key is taken, Swift's s3api says 501, and some accept
 * the header and overwrite. Only what was seen is believed, so the same key is put twice, with the
 * condition: the second one must be refused. That the condition is atomic against other clients is
 * the store's promise and cannot be seen.
 *
 * Written is one object of a few bytes below PREFIX/tmp/, where no object of a pool can be, under a
 * random name (two clients that probe at the same time must not meet), deleted at once; where the
 * first put is answered 501, nothing. A crash between leaves it behind: lists pass over it, and it
 * does no harm.
 */
#include "backend/backend_s3.h"

#include <stdio.h>
#include <string.h>

static const char probe_bytes[] = "vpool\n";

static int put_probe(struct store_s3 *s, const char *key, int *ret_status, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	char hash[SIGV4_HASH_BYTES];
	struct s3_call call = { .method = "PUT",
				.key = key,
				.headers = { { "If-None-Match", "*" } },
				.header_count = 1,
				.payload_hash = hash,
				.http = { .body = probe_bytes,
					  .body_len_bytes = sizeof(probe_bytes) - 1 } };
	int r;

	*ret_status = 0;
	if (sigv4_hash(probe_bytes, sizeof(probe_bytes) - 1, hash) < 0)
		return err_set(e, -EAGAIN, "no memory to put 'tmp/probe'");
	r = s3_perform(s, &call, &answer, e);
	*ret_status = answer.status;
	if (r == 0 && answer.status != 200 && answer.status != 201 && answer.status != 412 &&
	    answer.status != 501)
		r = s3_refused(s, &answer, "put", "tmp/probe", e);
	http_answer_done(&answer);
	return r;
}

static void delete_probe(struct store_s3 *s, const char *key)
{
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "DELETE", .key = key };

	(void)!s3_perform(s, &call, &answer, NULL);
	http_answer_done(&answer);
}

/* A listing of one: says in words what is wrong with keys, bucket or region, unlike HEAD; and some
 * stores refuse the condition before they look at any of these. */
static int check_access(struct store_s3 *s, struct err *e)
{
	struct http_answer answer = { .status = 0 };
	struct s3_call call = { .method = "GET",
				.params = { { "list-type", "2" },
					    { "max-keys", "1" },
					    { "prefix", s->config.prefix } },
				.param_count = 3 };
	int r = s3_perform(s, &call, &answer, e);

	if (r == 0 && answer.status != 200)
		r = s3_refused(s, &answer, "list", s->config.prefix, e);
	http_answer_done(&answer);
	return r;
}

static int probe(struct store_s3 *s, struct err *e)
{
	char name[64], key[S3_KEY_BYTES_MAX + 1];
	uint64_t random[2];
	int r, first = 0, second = 0;

	env_random(s->env, random, sizeof(random));
	(void)snprintf(name, sizeof(name), "tmp/probe-%016" PRIx64 "%016" PRIx64, random[0],
		       random[1]);
	r = put_probe(s, s3_key_of(s, name, key), &first, e);
	if (r < 0 || first == 501)
		return r;
	if (first != 412)
		r = put_probe(s, key, &second, e);
	delete_probe(s, key);
	/* A fresh key that is taken is a store that refuses whatever has the condition. */
	if (r == 0 && second == 412)
		s->store.caps |= BACKEND_CAP_PUT_IF_ABSENT;
	return r;
}

int s3_probe(struct store_s3 *s, struct err *e)
{
	int r = check_access(s, e);

	return r == 0 ? probe(s, e) : r;
}
