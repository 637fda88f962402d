#include "fs/ns_rows.h"

#include "common/crc32c.h"
#include "common/endian.h"

#include <string.h>

#define ROW_VERSION   1u
#define FRAME_BYTES   5u /* version and checksum */
#define KEY_INO_BYTES 9u

#define INODE_FIXED_BYTES 114u
#define ENTRY_FIXED_BYTES 10u
#define NAME_FIXED_BYTES  17u
#define ANSWER_BYTES	  24u
#define TRASH_FIXED_BYTES 18u

/* --- keys -------------------------------------------------------------------------------------- */

struct ns_key ns_key_ino(enum ns_row_kind kind, uint64_t ino)
{
	struct ns_key key = { .len_bytes = KEY_INO_BYTES };

	key.bytes[0] = (uint8_t)kind;
	be64_put(key.bytes + 1, ino);
	return key;
}

struct ns_key ns_key_entry(uint64_t parent, uint64_t cookie)
{
	struct ns_key key = ns_key_ino(NS_ROW_ENTRY, parent);

	be64_put(key.bytes + KEY_INO_BYTES, cookie);
	key.len_bytes = KEY_INO_BYTES + 8;
	return key;
}

struct ns_key ns_key_named(enum ns_row_kind kind, uint64_t ino, const void *name, size_t name_bytes)
{
	struct ns_key key = ns_key_ino(kind, ino);

	ASSERT(name_bytes <= NS_NAME_MAX);
	memcpy(key.bytes + KEY_INO_BYTES, name, name_bytes);
	key.len_bytes = KEY_INO_BYTES + name_bytes;
	return key;
}

int ns_key_parse(const uint8_t *key, size_t key_bytes, struct ns_key_parts *ret_parts,
		 struct err *e)
{
	struct ns_key_parts parts = { 0 };
	size_t rest;

	if (key_bytes < KEY_INO_BYTES)
		return err_set(e, -EUCLEAN, "key of a name: only %zu bytes long", key_bytes);
	rest = key_bytes - KEY_INO_BYTES;
	parts.ino = be64_get(key + 1);
	switch (key[0]) {
	case NS_ROW_ENTRY:
		if (rest != 8)
			return err_set(e, -EUCLEAN, "key of an entry: %zu bytes long", key_bytes);
		parts.cookie = be64_get(key + KEY_INO_BYTES);
		break;
	case NS_ROW_NAME:
	case NS_ROW_XATTR:
		if (rest == 0 || rest > NS_NAME_MAX)
			return err_set(e, -EUCLEAN, "key of a name: %zu bytes long", key_bytes);
		parts.name = (const char *)key + KEY_INO_BYTES;
		parts.name_bytes = rest;
		break;
	case NS_ROW_INODE:
	case NS_ROW_ORPHAN:
	case NS_ROW_TRASH:
	case NS_ROW_ANSWER:
		if (rest != 0)
			return err_set(e, -EUCLEAN, "key of an inode: %zu bytes long", key_bytes);
		break;
	default:
		return err_set(e, -EUCLEAN, "key of an unknown kind, %u", key[0]);
	}
	parts.kind = (enum ns_row_kind)key[0];
	*ret_parts = parts;
	return 0;
}

/* --- frame ------------------------------------------------------------------------------------- */

static bool type_is_good(uint32_t type)
{
	return type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFIFO ||
	       type == S_IFSOCK || type == S_IFCHR || type == S_IFBLK;
}

/* The frame with room for the fields, which come back; NULL: it does not fit. */
static uint8_t *frame_open(struct buf *out, size_t fields_bytes)
{
	uint8_t *row;

	buf_clear(out);
	row = buf_extend(out, fields_bytes + FRAME_BYTES);
	if (!row)
		return NULL;
	row[0] = ROW_VERSION;
	return row + 1;
}

static int frame_failed(const struct buf *out, size_t fields_bytes)
{
	return fields_bytes + FRAME_BYTES > out->max_bytes ? -E2BIG : -ENOMEM;
}

static uint32_t row_crc(const uint8_t *key, size_t key_bytes, const uint8_t *row, size_t row_bytes)
{
	return crc32c(crc32c(0, key, key_bytes), row, row_bytes);
}

static void frame_close(const struct ns_key *key, struct buf *out)
{
	size_t len = out->len_bytes - 4;

	le32_put(out->data + len, row_crc(key->bytes, key->len_bytes, out->data, len));
}

/* Checksum and version; what is between, at least min_bytes. */
static int frame_check(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
		       size_t min_bytes, const char *what, struct err *e)
{
	if (in_bytes < FRAME_BYTES)
		return err_set(e, -EUCLEAN, "%s row: only %zu bytes long", what, in_bytes);
	if (le32_get(in + in_bytes - 4) != row_crc(key, key_bytes, in, in_bytes - 4))
		return err_set(e, -EBADMSG, "%s row: bad checksum", what);
	if (in[0] != ROW_VERSION)
		return err_set(e, -EPROTONOSUPPORT, "%s row: version %u", what, in[0]);
	if (in_bytes < FRAME_BYTES + min_bytes)
		return err_set(e, -EUCLEAN, "%s row: only %zu bytes long", what, in_bytes);
	return 0;
}

/* --- inode ------------------------------------------------------------------------------------- */

int ns_inode_row_encode(const struct ns_key *key, const struct ns_inode_row *row, struct buf *out)
{
	size_t len = INODE_FIXED_BYTES + row->target_bytes;
	uint8_t *f = frame_open(out, len);

	if (!f)
		return frame_failed(out, len);
	le32_put(f, row->mode);
	le32_put(f + 4, row->nlink);
	le32_put(f + 8, row->uid);
	le32_put(f + 12, row->gid);
	le64_put(f + 16, row->rdev);
	le64_put(f + 24, (uint64_t)row->atime_ns);
	le64_put(f + 32, (uint64_t)row->mtime_ns);
	le64_put(f + 40, (uint64_t)row->ctime_ns);
	le64_put(f + 48, (uint64_t)row->crtime_ns);
	le64_put(f + 56, row->mtime_lsn);
	le32_put(f + 64, row->mtime_stream);
	le32_put(f + 68, row->xattr_count);
	le64_put(f + 72, row->parent);
	le64_put(f + 80, row->parent_cookie);
	le64_put(f + 88, row->cookie_next);
	le64_put(f + 96, row->entry_count);
	le64_put(f + 104, (uint64_t)row->mtime_object_ns);
	le16_put(f + 112, row->target_bytes);
	if (row->target_bytes)
		memcpy(f + INODE_FIXED_BYTES, row->target, row->target_bytes);
	frame_close(key, out);
	return 0;
}

int ns_inode_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			struct ns_inode_row *ret_row, struct err *e)
{
	struct ns_inode_row row;
	const uint8_t *f = in + 1;
	int r = frame_check(key, key_bytes, in, in_bytes, INODE_FIXED_BYTES, "inode", e);

	if (r < 0)
		return r;
	row = (struct ns_inode_row){
		.mode = le32_get(f),
		.nlink = le32_get(f + 4),
		.uid = le32_get(f + 8),
		.gid = le32_get(f + 12),
		.rdev = le64_get(f + 16),
		.atime_ns = (int64_t)le64_get(f + 24),
		.mtime_ns = (int64_t)le64_get(f + 32),
		.ctime_ns = (int64_t)le64_get(f + 40),
		.crtime_ns = (int64_t)le64_get(f + 48),
		.mtime_lsn = le64_get(f + 56),
		.mtime_stream = le32_get(f + 64),
		.xattr_count = le32_get(f + 68),
		.parent = le64_get(f + 72),
		.parent_cookie = le64_get(f + 80),
		.cookie_next = le64_get(f + 88),
		.entry_count = le64_get(f + 96),
		.mtime_object_ns = (int64_t)le64_get(f + 104),
		.target_bytes = le16_get(f + 112),
	};
	if (in_bytes != FRAME_BYTES + INODE_FIXED_BYTES + row.target_bytes)
		return err_set(e, -EUCLEAN, "inode row: %zu bytes long", in_bytes);
	if (!type_is_good(row.mode & S_IFMT) || (row.mode & ~(uint32_t)(S_IFMT | 07777)) != 0)
		return err_set(e, -EUCLEAN, "inode row: mode %" PRIo32, row.mode);
	if (S_ISLNK(row.mode) != (row.target_bytes != 0) || row.target_bytes > NS_SYMLINK_MAX)
		return err_set(e, -EUCLEAN, "inode row: target of %u bytes", row.target_bytes);
	if (row.target_bytes)
		row.target = (const char *)f + INODE_FIXED_BYTES;
	*ret_row = row;
	return 0;
}

/* --- entry, by place and by name --------------------------------------------------------------- */

int ns_entry_row_encode(const struct ns_key *key, const struct ns_entry_row *row, struct buf *out)
{
	size_t len = ENTRY_FIXED_BYTES + row->name_bytes;
	uint8_t *f = frame_open(out, len);

	if (!f)
		return frame_failed(out, len);
	f[0] = (uint8_t)(row->type >> 12);
	le64_put(f + 1, row->ino);
	f[9] = row->name_bytes;
	memcpy(f + ENTRY_FIXED_BYTES, row->name, row->name_bytes);
	frame_close(key, out);
	return 0;
}

int ns_entry_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			struct ns_entry_row *ret_row, struct err *e)
{
	const uint8_t *f = in + 1;
	int r = frame_check(key, key_bytes, in, in_bytes, ENTRY_FIXED_BYTES, "entry", e);

	if (r < 0)
		return r;
	if (f[9] == 0 || in_bytes != FRAME_BYTES + ENTRY_FIXED_BYTES + f[9])
		return err_set(e, -EUCLEAN, "entry row: %zu bytes long", in_bytes);
	if (!type_is_good((uint32_t)f[0] << 12))
		return err_set(e, -EUCLEAN, "entry row: type %u", f[0]);
	*ret_row = (struct ns_entry_row){
		.type = (uint32_t)f[0] << 12,
		.ino = le64_get(f + 1),
		.name = (const char *)f + ENTRY_FIXED_BYTES,
		.name_bytes = f[9],
	};
	return 0;
}

int ns_name_row_encode(const struct ns_key *key, const struct ns_name_row *row, struct buf *out)
{
	uint8_t *f = frame_open(out, NAME_FIXED_BYTES);

	if (!f)
		return frame_failed(out, NAME_FIXED_BYTES);
	f[0] = (uint8_t)(row->type >> 12);
	le64_put(f + 1, row->ino);
	le64_put(f + 9, row->cookie);
	frame_close(key, out);
	return 0;
}

int ns_name_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
		       struct ns_name_row *ret_row, struct err *e)
{
	const uint8_t *f = in + 1;
	int r = frame_check(key, key_bytes, in, in_bytes, NAME_FIXED_BYTES, "name", e);

	if (r < 0)
		return r;
	if (in_bytes != FRAME_BYTES + NAME_FIXED_BYTES)
		return err_set(e, -EUCLEAN, "name row: %zu bytes long", in_bytes);
	if (!type_is_good((uint32_t)f[0] << 12))
		return err_set(e, -EUCLEAN, "name row: type %u", f[0]);
	*ret_row = (struct ns_name_row){
		.type = (uint32_t)f[0] << 12,
		.ino = le64_get(f + 1),
		.cookie = le64_get(f + 9),
	};
	return 0;
}

/* --- answer ------------------------------------------------------------------------------------ */

int ns_answer_row_encode(const struct ns_key *key, const struct ns_answer_row *row, struct buf *out)
{
	uint8_t *f = frame_open(out, ANSWER_BYTES);

	if (!f)
		return frame_failed(out, ANSWER_BYTES);
	le64_put(f, row->session);
	le64_put(f + 8, row->unique);
	le64_put(f + 16, row->ino);
	frame_close(key, out);
	return 0;
}

int ns_answer_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			 struct ns_answer_row *ret_row, struct err *e)
{
	const uint8_t *f = in + 1;
	int r = frame_check(key, key_bytes, in, in_bytes, ANSWER_BYTES, "answer", e);

	if (r == 0 && in_bytes != FRAME_BYTES + ANSWER_BYTES)
		return err_set(e, -EUCLEAN, "answer row: %zu bytes long", in_bytes);
	if (r < 0)
		return r;
	*ret_row = (struct ns_answer_row){
		.session = le64_get(f),
		.unique = le64_get(f + 8),
		.ino = le64_get(f + 16),
	};
	return 0;
}

/* --- trash ------------------------------------------------------------------------------------- */

/* From the root and with a name at its end, or a name alone. */
static bool trash_path_is_sound(const char *path, size_t path_bytes)
{
	const char *slash = memrchr(path, '/', path_bytes);

	if (path_bytes == 0 || path_bytes > NS_TRASH_PATH_MAX || memchr(path, 0, path_bytes))
		return false;
	return slash ? path[0] == '/' && slash + 1 < path + path_bytes : path_bytes <= NS_NAME_MAX;
}

int ns_trash_row_encode(const struct ns_key *key, const struct ns_trash_row *row, struct buf *out)
{
	size_t len = TRASH_FIXED_BYTES + row->path_bytes;
	uint8_t *f = frame_open(out, len);

	ASSERT(trash_path_is_sound(row->path, row->path_bytes));
	if (!f)
		return frame_failed(out, len);
	le64_put(f, (uint64_t)row->removed_ns);
	le64_put(f + 8, row->parent);
	le16_put(f + 16, row->path_bytes);
	memcpy(f + TRASH_FIXED_BYTES, row->path, row->path_bytes);
	frame_close(key, out);
	return 0;
}

int ns_trash_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			struct ns_trash_row *ret_row, struct err *e)
{
	struct ns_trash_row row;
	const uint8_t *f = in + 1;
	int r = frame_check(key, key_bytes, in, in_bytes, TRASH_FIXED_BYTES, "trash", e);

	if (r < 0)
		return r;
	row = (struct ns_trash_row){
		.removed_ns = (int64_t)le64_get(f),
		.parent = le64_get(f + 8),
		.path = (const char *)f + TRASH_FIXED_BYTES,
		.path_bytes = le16_get(f + 16),
	};
	if (in_bytes != FRAME_BYTES + TRASH_FIXED_BYTES + row.path_bytes)
		return err_set(e, -EUCLEAN, "trash row: %zu bytes long", in_bytes);
	if (!trash_path_is_sound(row.path, row.path_bytes))
		return err_set(e, -EUCLEAN, "trash row: a path of %u bytes", row.path_bytes);
	*ret_row = row;
	return 0;
}

/* --- orphan and extended attribute ------------------------------------------------------------- */

int ns_orphan_row_encode(const struct ns_key *key, struct buf *out)
{
	if (!frame_open(out, 0))
		return frame_failed(out, 0);
	frame_close(key, out);
	return 0;
}

int ns_orphan_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			 struct err *e)
{
	int r = frame_check(key, key_bytes, in, in_bytes, 0, "orphan", e);

	if (r == 0 && in_bytes != FRAME_BYTES)
		return err_set(e, -EUCLEAN, "orphan row: %zu bytes long", in_bytes);
	return r;
}

int ns_xattr_row_encode(const struct ns_key *key, const void *value, size_t value_bytes,
			struct buf *out)
{
	uint8_t *f = frame_open(out, value_bytes);

	if (!f)
		return frame_failed(out, value_bytes);
	if (value_bytes)
		memcpy(f, value, value_bytes);
	frame_close(key, out);
	return 0;
}

int ns_xattr_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in, size_t in_bytes,
			const uint8_t **ret_value, size_t *ret_value_bytes, struct err *e)
{
	int r = frame_check(key, key_bytes, in, in_bytes, 0, "xattr", e);

	if (r == 0 && in_bytes > FRAME_BYTES + NS_XATTR_BYTES_MAX)
		return err_set(e, -EUCLEAN, "xattr row: %zu bytes long", in_bytes);
	if (r < 0)
		return r;
	*ret_value = in + 1;
	*ret_value_bytes = in_bytes - FRAME_BYTES;
	return 0;
}
