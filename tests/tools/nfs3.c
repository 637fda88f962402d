/*
 * nfs3 - NFS version 3, one call at a time, for scripts: what the kernel's clients and libnfs's own
 * layer don't ask for, and answers as the server gave them.
 *
 *	tool_nfs3 COMMAND ARGUMENT...		exit 0 done, 1 failed (the server's error on stderr)
 *
 * The server is 127.0.0.1, the export $NFS3_EXPORT; a portmapper tells the ports. PATH is one below
 * the export, or a file handle as `handle` prints it ("@" and hexadecimal digits), which stays good for
 * as long as the server takes it. STABLE is unstable, data_sync or file_sync. The table of commands is
 * at the end.
 */
#include "tests/tools/commands.h"
#include "tests/tools/sector.h"

/* What libnfs's other headers need stands in this one. */
#include <nfsc/libnfs.h>

#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVER	    "127.0.0.1"
#define HANDLE_MAX  64u
#define DATA_MAX    (64u * 1024)
#define LOAD_BLOCK  4096u
#define LOAD_MAX    (64u * MIB)
#define PATTERN_KEY UINT64_C(0x6e667333)
/* A server that is silent for so long does not come back. */
#define ANSWER_MS 60000

struct handle {
	uint32_t len_bytes;
	char bytes[HANDLE_MAX];
};

/* A call, and what came of it; the answer itself is libnfs's and gone when the callback returns. */
struct call {
	const char *what;
	void (*take)(struct call *c, const void *answer);
	bool done, failed;
	nfsstat3 status;
	struct handle handle;
	fattr3 attributes;
	FSSTAT3resok space;
	stable_how committed;
	uint32_t len_bytes;
	uint8_t *data; /* the caller's, DATA_MAX */
};

static struct rpc_context *rpc;
static struct handle root;

static int refused(const struct call *c)
{
	(void)fprintf(stderr, "nfs3: %s: %s\n", c->what, nfsstat3_to_str((int)c->status));
	return 1;
}

static int broken(const char *what)
{
	(void)fprintf(stderr, "nfs3: %s: %s\n", what, rpc_get_error(rpc));
	return 1;
}

static void on_answer(struct rpc_context *context, int status, void *data, void *arg)
{
	struct call *c = arg;

	(void)context;
	c->done = true;
	c->failed = status != RPC_STATUS_SUCCESS;
	if (c->failed)
		return;
	/* Every answer of NFS version 3 begins with its status. */
	if (data)
		memcpy(&c->status, data, sizeof(c->status));
	if (c->take && c->status == NFS3_OK)
		c->take(c, data);
}

/* Until the answer to a call that was queued, with queued as its result. 0, or 1 and it was told. */
static int await(struct call *c, int queued)
{
	if (queued != 0)
		return broken(c->what);
	while (!c->done) {
		struct pollfd p = {
			.fd = rpc_get_fd(rpc),
			.events = (short)rpc_which_events(rpc),
		};

		if (poll(&p, 1, ANSWER_MS) == 0) {
			(void)fprintf(stderr, "nfs3: %s: no answer\n", c->what);
			return 1;
		}
		if (rpc_service(rpc, p.revents) < 0)
			return broken(c->what);
	}
	if (c->failed)
		return broken(c->what);
	return c->status == NFS3_OK ? 0 : refused(c);
}

static void set_handle(struct handle *h, const char *bytes, uint32_t len_bytes)
{
	if (len_bytes > HANDLE_MAX)
		len_bytes = 0;
	h->len_bytes = len_bytes;
	memcpy(h->bytes, bytes, len_bytes);
}

static nfs_fh3 handle_fh(struct handle *h)
{
	return (nfs_fh3){ .data = { .data_len = h->len_bytes, .data_val = h->bytes } };
}

/* --- the mount --------------------------------------------------------------------------------- */

static void take_mount(struct call *c, const void *answer)
{
	const mountres3 *res = answer;
	const fhandle3 *fh = &res->mountres3_u.mountinfo.fhandle;

	set_handle(&c->handle, fh->fhandle3_val, fh->fhandle3_len);
}

static int connect_to(int program, int version, const char *what)
{
	struct call c = { .what = what };

	return await(&c, rpc_connect_program_async(rpc, SERVER, program, version, on_answer, &c));
}

static int mount_export(void)
{
	struct call c = { .what = "MNT", .take = take_mount };
	char *export = getenv("NFS3_EXPORT");

	rpc = rpc_init_context();
	if (!rpc || !export) {
		(void)fprintf(stderr, "nfs3: NFS3_EXPORT is not set\n");
		return 1;
	}
	if (connect_to(MOUNT_PROGRAM, MOUNT_V3, "connecting to mountd") ||
	    await(&c, rpc_mount3_mnt_async(rpc, on_answer, export, &c)))
		return 1;
	root = c.handle;
	(void)rpc_disconnect(rpc, "mounted");
	rpc_destroy_context(rpc);
	rpc = rpc_init_context();
	return rpc ? connect_to(NFS_PROGRAM, NFS_V3, "connecting to nfsd") : 1;
}

/* --- names ------------------------------------------------------------------------------------- */

static void take_lookup(struct call *c, const void *answer)
{
	const LOOKUP3res *res = answer;
	const nfs_fh3 *fh = &res->LOOKUP3res_u.resok.object;

	set_handle(&c->handle, fh->data.data_val, fh->data.data_len);
}

static int parse_handle(const char *text, struct handle *ret_handle)
{
	size_t digits = strlen(text);
	unsigned int byte;

	ret_handle->len_bytes = (uint32_t)(digits / 2);
	if (digits % 2 || digits / 2 > HANDLE_MAX)
		return 1;
	for (size_t i = 0; i < digits / 2; i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return 1;
		ret_handle->bytes[i] = (char)byte;
	}
	return 0;
}

/* The directory that a path leads to, and its last name, which stays in the path. */
static int find_parent(char *path, struct handle *ret_dir, char **ret_name)
{
	struct handle at = root;
	char *name = path;

	for (char *slash = strchr(name, '/'); slash; slash = strchr(name, '/')) {
		struct call c = { .what = "LOOKUP", .take = take_lookup };
		LOOKUP3args args;

		*slash = '\0';
		args = (LOOKUP3args){ .what = { .dir = handle_fh(&at), .name = name } };
		if (await(&c, rpc_nfs3_lookup_async(rpc, on_answer, &args, &c)))
			return 1;
		at = c.handle;
		name = slash + 1;
	}
	*ret_dir = at;
	*ret_name = name;
	return 0;
}

static int find(char *path, struct handle *ret_handle)
{
	struct call c = { .what = "LOOKUP", .take = take_lookup };
	struct handle dir;
	LOOKUP3args args;
	char *name;

	if (path[0] == '@')
		return parse_handle(path + 1, ret_handle);
	if (find_parent(path, &dir, &name))
		return 1;
	*ret_handle = dir;
	if (name[0] == '\0')
		return 0;
	args = (LOOKUP3args){ .what = { .dir = handle_fh(&dir), .name = name } };
	if (await(&c, rpc_nfs3_lookup_async(rpc, on_answer, &args, &c)))
		return 1;
	*ret_handle = c.handle;
	return 0;
}

static int print_handle(const struct handle *h)
{
	(void)putchar('@');
	for (uint32_t i = 0; i < h->len_bytes; i++)
		(void)printf("%02x", (uint8_t)h->bytes[i]);
	(void)putchar('\n');
	return 0;
}

static int cmd_handle(char **a)
{
	struct handle h;

	return find(a[0], &h) ? 1 : print_handle(&h);
}

static void take_create(struct call *c, const void *answer)
{
	const CREATE3res *res = answer;
	const post_op_fh3 *obj = &res->CREATE3res_u.resok.obj;

	if (obj->handle_follows)
		set_handle(&c->handle, obj->post_op_fh3_u.handle.data.data_val,
			   obj->post_op_fh3_u.handle.data.data_len);
}

static int cmd_create(char **a)
{
	struct call c = { .what = "CREATE", .take = take_create };
	uint64_t verifier = number(a[2]);
	CREATE3args args = { 0 };
	struct handle dir;
	char *name;

	if (find_parent(a[0], &dir, &name))
		return 1;
	args.where = (diropargs3){ .dir = handle_fh(&dir), .name = name };
	if (strcmp(a[1], "exclusive") == 0) {
		args.how.mode = EXCLUSIVE;
		memcpy(args.how.createhow3_u.verf, &verifier, sizeof(verifier));
	} else {
		args.how.mode = GUARDED;
		args.how.createhow3_u.g_obj_attributes.mode =
			(set_mode3){ .set_it = 1, .set_mode3_u = { .mode = 0600 } };
	}
	if (await(&c, rpc_nfs3_create_async(rpc, on_answer, &args, &c)))
		return 1;
	return print_handle(&c.handle);
}

static int cmd_mkdir(char **a)
{
	struct call c = { .what = "MKDIR" };
	MKDIR3args args = { 0 };
	struct handle dir;
	char *name;

	if (find_parent(a[0], &dir, &name))
		return 1;
	args.where = (diropargs3){ .dir = handle_fh(&dir), .name = name };
	args.attributes.mode = (set_mode3){ .set_it = 1, .set_mode3_u = { .mode = 0755 } };
	return await(&c, rpc_nfs3_mkdir_async(rpc, on_answer, &args, &c));
}

static int cmd_remove(char **a)
{
	struct call c = { .what = "REMOVE" };
	REMOVE3args args;
	struct handle dir;
	char *name;

	if (find_parent(a[0], &dir, &name))
		return 1;
	args = (REMOVE3args){ .object = { .dir = handle_fh(&dir), .name = name } };
	return await(&c, rpc_nfs3_remove_async(rpc, on_answer, &args, &c));
}

static int cmd_rename(char **a)
{
	struct call c = { .what = "RENAME" };
	struct handle from_dir, to_dir;
	char *from, *to;
	RENAME3args args;

	if (find_parent(a[0], &from_dir, &from) || find_parent(a[1], &to_dir, &to))
		return 1;
	args = (RENAME3args){
		.from = { .dir = handle_fh(&from_dir), .name = from },
		.to = { .dir = handle_fh(&to_dir), .name = to },
	};
	return await(&c, rpc_nfs3_rename_async(rpc, on_answer, &args, &c));
}

/* --- attributes -------------------------------------------------------------------------------- */

static void take_attributes(struct call *c, const void *answer)
{
	const GETATTR3res *res = answer;

	c->attributes = res->GETATTR3res_u.resok.obj_attributes;
}

static int cmd_stat(char **a)
{
	struct call c = { .what = "GETATTR", .take = take_attributes };
	struct handle h;
	GETATTR3args args;

	if (find(a[0], &h))
		return 1;
	args = (GETATTR3args){ .object = handle_fh(&h) };
	if (await(&c, rpc_nfs3_getattr_async(rpc, on_answer, &args, &c)))
		return 1;
	(void)printf("%" PRIu64 " %" PRIu64 "\n", (uint64_t)c.attributes.size,
		     (uint64_t)c.attributes.fileid);
	return 0;
}

static int cmd_size(char **a)
{
	struct call c = { .what = "SETATTR" };
	SETATTR3args args = { 0 };
	struct handle h;

	if (find(a[0], &h))
		return 1;
	args.object = handle_fh(&h);
	args.new_attributes.size =
		(set_size3){ .set_it = 1, .set_size3_u = { .size = number(a[1]) } };
	return await(&c, rpc_nfs3_setattr_async(rpc, on_answer, &args, &c));
}

static void take_space(struct call *c, const void *answer)
{
	const FSSTAT3res *res = answer;

	c->space = res->FSSTAT3res_u.resok;
}

static int cmd_fsstat(char **a)
{
	struct call c = { .what = "FSSTAT", .take = take_space };
	FSSTAT3args args = { .fsroot = handle_fh(&root) };

	(void)a;
	if (await(&c, rpc_nfs3_fsstat_async(rpc, on_answer, &args, &c)))
		return 1;
	(void)printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (uint64_t)c.space.tbytes,
		     (uint64_t)c.space.fbytes, (uint64_t)c.space.abytes);
	return 0;
}

/* --- data -------------------------------------------------------------------------------------- */

static void take_write(struct call *c, const void *answer)
{
	const WRITE3resok *res = &((const WRITE3res *)answer)->WRITE3res_u.resok;

	c->len_bytes = res->count;
	c->committed = res->committed;
}

static int write_some(struct handle *h, uint64_t offset, const void *data, uint32_t len_bytes,
		      stable_how stable)
{
	struct call c = { .what = "WRITE", .take = take_write };
	WRITE3args args = {
		.file = handle_fh(h),
		.offset = offset,
		.count = len_bytes,
		.stable = stable,
		.data = { .data_len = len_bytes, .data_val = (char *)(uintptr_t)data },
	};

	if (await(&c, rpc_nfs3_write_async(rpc, on_answer, &args, &c)))
		return 1;
	if (c.len_bytes != len_bytes || c.committed < stable) {
		(void)fprintf(stderr, "nfs3: WRITE: %u of %u bytes, stable %d for %d\n",
			      c.len_bytes, len_bytes, (int)c.committed, (int)stable);
		return 1;
	}
	return 0;
}

static void take_read(struct call *c, const void *answer)
{
	const READ3resok *res = &((const READ3res *)answer)->READ3res_u.resok;

	c->len_bytes = res->data.data_len;
	if (c->len_bytes <= DATA_MAX)
		memcpy(c->data, res->data.data_val, c->len_bytes);
}

/* len_bytes, or what there is of it. */
static int read_some(struct handle *h, uint64_t offset, void *data, uint32_t len_bytes,
		     uint32_t *ret_len_bytes)
{
	struct call c = { .what = "READ", .take = take_read, .data = data };
	READ3args args = { .file = handle_fh(h), .offset = offset, .count = len_bytes };

	if (await(&c, rpc_nfs3_read_async(rpc, on_answer, &args, &c)))
		return 1;
	if (c.len_bytes > len_bytes) {
		(void)fprintf(stderr, "nfs3: READ: more than was asked for\n");
		return 1;
	}
	*ret_len_bytes = c.len_bytes;
	return 0;
}

static int commit(struct handle *h)
{
	struct call c = { .what = "COMMIT" };
	COMMIT3args args = { .file = handle_fh(h) };

	return await(&c, rpc_nfs3_commit_async(rpc, on_answer, &args, &c));
}

static uint32_t length(const char *text)
{
	uint64_t n = number(text);

	if (n > DATA_MAX) {
		(void)fprintf(stderr, "nfs3: at most %u bytes\n", DATA_MAX);
		exit(2);
	}
	return (uint32_t)n;
}

static stable_how stability(const char *text)
{
	return strcmp(text, "file_sync") == 0 ? FILE_SYNC :
	       strcmp(text, "data_sync") == 0 ? DATA_SYNC :
						UNSTABLE;
}

static int cmd_write(char **a)
{
	static uint8_t data[DATA_MAX];
	uint64_t offset = number(a[1]), count = number(a[5]);
	uint32_t len_bytes = length(a[2]);
	struct handle h;
	int r = find(a[0], &h);

	memset(data, a[3][0], sizeof(data));
	for (uint64_t i = 0; i < count && r == 0; i++)
		r = write_some(&h, offset + i * len_bytes, data, len_bytes, stability(a[4]));
	return r;
}

/* As ESXi keeps a lock: the same bytes of a file anew, each time with another content. */
static int cmd_renew(char **a)
{
	uint32_t len_bytes = length(a[1]), got = 0;
	static uint8_t data[DATA_MAX], back[DATA_MAX];
	uint64_t count = number(a[2]);
	struct handle h;

	if (find(a[0], &h))
		return 1;
	for (uint64_t i = 1; i <= count; i++) {
		memset(data, (int)(i % 251), sizeof(data));
		memcpy(data, &i, sizeof(i));
		if (write_some(&h, 0, data, len_bytes, FILE_SYNC) ||
		    read_some(&h, 0, back, len_bytes, &got))
			return 1;
		if (got != len_bytes || memcmp(data, back, got) != 0) {
			(void)fprintf(stderr, "nfs3: renewal %" PRIu64 " reads otherwise\n", i);
			return 1;
		}
	}
	return 0;
}

static int cmd_read(char **a)
{
	static uint8_t data[DATA_MAX];
	uint32_t got = 0;
	struct handle h;

	if (find(a[0], &h) || read_some(&h, number(a[1]), data, length(a[2]), &got))
		return 1;
	return fwrite(data, 1, got, stdout) == got ? 0 : fail("stdout");
}

static int cmd_commit(char **a)
{
	struct handle h;

	return find(a[0], &h) ? 1 : commit(&h);
}

/* --- load -------------------------------------------------------------------------------------- */

static volatile sig_atomic_t over;

static void on_term(int signal)
{
	(void)signal;
	over = 1;
}

struct load {
	struct handle h;
	uint64_t blocks, state, writes, reads;
	uint64_t seq[LOAD_MAX / LOAD_BLOCK]; /* of the last write of each block; 0: none */
};

static void fill(uint8_t *data, uint64_t seq, uint64_t block)
{
	for (uint32_t at = 0; at < LOAD_BLOCK; at += SECTOR_BYTES)
		fill_sector(data + at, PATTERN_KEY + at, seq, block);
}

static int load_write(struct load *l, uint64_t block, uint32_t count)
{
	static uint8_t data[DATA_MAX];
	stable_how stable = next_random(&l->state) % 4 ? FILE_SYNC : UNSTABLE;

	l->writes++;
	for (uint32_t i = 0; i < count; i++) {
		fill(data + (size_t)i * LOAD_BLOCK, l->writes, block + i);
		l->seq[block + i] = l->writes;
	}
	return write_some(&l->h, block * LOAD_BLOCK, data, count * LOAD_BLOCK, stable) ||
	       (stable == UNSTABLE && commit(&l->h));
}

static int load_read(struct load *l, uint64_t block, uint32_t count)
{
	static uint8_t data[DATA_MAX], want[LOAD_BLOCK];
	uint32_t got = 0;

	l->reads++;
	if (read_some(&l->h, block * LOAD_BLOCK, data, count * LOAD_BLOCK, &got))
		return 1;
	for (uint32_t i = 0; i < count; i++) {
		fill(want, l->seq[block + i], block + i);
		if (got < (i + 1) * LOAD_BLOCK ||
		    memcmp(want, data + (size_t)i * LOAD_BLOCK, LOAD_BLOCK) != 0) {
			(void)fprintf(stderr,
				      "nfs3: block %" PRIu64 " is not that of write %" PRIu64 "\n",
				      block + i, l->seq[block + i]);
			return 1;
		}
	}
	return 0;
}

/* Writes and reads at random until SIGTERM, then all of it once more. The file is there, and as long
 * and of zeros. */
static int cmd_load(char **a)
{
	static struct load l;
	struct sigaction action = { .sa_handler = on_term };
	int r = find(a[0], &l.h);

	l.blocks = number(a[1]) / LOAD_BLOCK;
	l.state = number(a[2]) * 2 + 1;
	if (l.blocks < DATA_MAX / LOAD_BLOCK || l.blocks > ARRAY_SIZE(l.seq))
		return 2;
	(void)sigaction(SIGTERM, &action, NULL);
	while (r == 0 && !over) {
		uint32_t count = next_random(&l.state) % 2 ? 1 : DATA_MAX / LOAD_BLOCK;
		uint64_t block = next_random(&l.state) % (l.blocks - count + 1);

		r = next_random(&l.state) % 3 ? load_write(&l, block, count) :
						load_read(&l, block, count);
	}
	for (uint64_t block = 0; block < l.blocks && r == 0; block++)
		r = load_read(&l, block, 1);
	(void)printf("%" PRIu64 " writes, %" PRIu64 " reads\n", l.writes, l.reads);
	return r;
}

static const struct command commands[] = {
	{ "handle", 1, cmd_handle, "PATH" },
	{ "create", 3, cmd_create, "PATH exclusive|guarded VERIFIER" },
	{ "mkdir", 1, cmd_mkdir, "PATH" },
	{ "remove", 1, cmd_remove, "PATH" },
	{ "rename", 2, cmd_rename, "PATH NEW_PATH" },
	{ "stat", 1, cmd_stat, "PATH  (prints size and fileid)" },
	{ "size", 2, cmd_size, "PATH BYTES" },
	{ "fsstat", 0, cmd_fsstat, "(prints total, free, available bytes)" },
	{ "write", 6, cmd_write, "PATH OFFSET BYTES CHARACTER STABLE COUNT" },
	{ "renew", 3, cmd_renew, "PATH BYTES COUNT" },
	{ "read", 3, cmd_read, "PATH OFFSET BYTES" },
	{ "commit", 1, cmd_commit, "PATH" },
	{ "load", 3, cmd_load, "PATH BYTES SEED  (until SIGTERM)" },
};

int main(int argc, char **argv)
{
	int r = argc > 1 ? mount_export() : 0;

	return r ? r : run_command(commands, ARRAY_SIZE(commands), argc, argv);
}
