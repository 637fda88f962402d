/*
 * ns_rows - keys and values of the namespace's rows. Private to namespace.
 *
 *	key			value
 *	'a' slot8		answer: of a change of names, for who asks again (namespace.h)
 *	'd' parent8 cookie8	entry: type, inode, name	(by place: reading a directory)
 *	'i' ino8		inode
 *	'n' parent8 name	entry: type, inode, cookie	(by name: looking up)
 *	'o' ino8		orphan: nothing more
 *	't' ino8		in the trash: when it lost its last name, and where that was
 *	'x' ino8 name		extended attribute: its value
 *
 * Numbers in keys are big-endian, so that a directory's rows stand together and in order. A value
 * is: version byte, fields (little-endian), CRC-32C of its key and all before; so a value under
 * another key is refused, too. Decoders accept any bytes: -EUCLEAN structure, -EBADMSG checksum,
 * -EPROTONOSUPPORT a newer version. They allocate nothing.
 */
#ifndef FS_NS_ROWS_H
#define FS_NS_ROWS_H

#include "fs/namespace.h"

#define NS_ROW_BYTES_MAX (NS_XATTR_BYTES_MAX + 64u)

enum ns_row_kind {
	NS_ROW_ANSWER = 'a', /* before all others: no part of the tree */
	NS_ROW_ENTRY = 'd',
	NS_ROW_INODE = NAMES_KEY_INODE,
	NS_ROW_NAME = 'n',
	NS_ROW_ORPHAN = 'o',
	NS_ROW_TRASH = 't',
	NS_ROW_XATTR = 'x',
};

struct ns_key {
	size_t len_bytes;
	uint8_t bytes[NAMES_KEY_BYTES_MAX];
};

/* Keys of kinds INODE, ORPHAN, TRASH and ANSWER (of its slot); also the first key of all of a directory
 * or inode. */
struct ns_key ns_key_ino(enum ns_row_kind kind, uint64_t ino);
struct ns_key ns_key_entry(uint64_t parent, uint64_t cookie);
/* Kinds NAME and XATTR; name_bytes is at most NS_NAME_MAX. */
struct ns_key ns_key_named(enum ns_row_kind kind, uint64_t ino, const void *name,
			   size_t name_bytes);

struct ns_key_parts {
	enum ns_row_kind kind;
	uint64_t ino;	  /* parent for entries */
	uint64_t cookie;  /* ENTRY */
	const char *name; /* NAME, XATTR: into the key, without NUL */
	size_t name_bytes;
};
NODISCARD int ns_key_parse(const uint8_t *key, size_t key_bytes, struct ns_key_parts *ret_parts,
			   struct err *e);

struct ns_inode_row {
	uint32_t mode; /* type and permissions */
	uint32_t nlink;
	uint32_t uid, gid;
	uint64_t rdev;
	int64_t atime_ns, mtime_ns, ctime_ns, crtime_ns;
	/* The object's last LSN when mtime_ns was set: it holds until the object's is above. Stream
	 * 0: until the first write. And the object's own time then: entries that do not move it
	 * (clusters that the cleaner moves, a change of class) do not end it. 0: not known. */
	uint64_t mtime_lsn;
	uint32_t mtime_stream;
	int64_t mtime_object_ns;
	uint32_t xattr_count;
	/* Where a name of it stands. Directories: where its name stands; files: where one stood. */
	uint64_t parent, parent_cookie;
	uint64_t cookie_next; /* directories: place of the next new entry */
	uint64_t entry_count; /* directories */
	const char *target; /* symbolic links, else NULL; without NUL, of whom is told at the use */
	uint16_t target_bytes;
};

struct ns_entry_row {
	uint32_t type; /* S_IFMT part of the mode */
	uint64_t ino;
	const char *name; /* decoded: into the value, without NUL */
	uint8_t name_bytes;
};

/* The path is one from the root; where that would be longer, only the name, without a '/'. */
#define NS_TRASH_PATH_MAX 4095u
struct ns_trash_row {
	int64_t removed_ns;
	uint64_t parent;  /* the directory, which may be gone, or be elsewhere by now */
	const char *path; /* decoded: into the value, without NUL */
	uint16_t path_bytes;
};

struct ns_answer_row {
	uint64_t session, unique;
	uint64_t ino;
};

struct ns_name_row {
	uint32_t type;
	uint64_t ino;
	uint64_t cookie;
};

/* Encoders replace out. Errors: -ENOMEM, -E2BIG more than out may grow. */
NODISCARD int ns_inode_row_encode(const struct ns_key *key, const struct ns_inode_row *row,
				  struct buf *out);
NODISCARD int ns_entry_row_encode(const struct ns_key *key, const struct ns_entry_row *row,
				  struct buf *out);
NODISCARD int ns_name_row_encode(const struct ns_key *key, const struct ns_name_row *row,
				 struct buf *out);
NODISCARD int ns_answer_row_encode(const struct ns_key *key, const struct ns_answer_row *row,
				   struct buf *out);
NODISCARD int ns_orphan_row_encode(const struct ns_key *key, struct buf *out);
NODISCARD int ns_trash_row_encode(const struct ns_key *key, const struct ns_trash_row *row,
				  struct buf *out);
NODISCARD int ns_xattr_row_encode(const struct ns_key *key, const void *value, size_t value_bytes,
				  struct buf *out);

/* key and key_bytes are those the value was found under. What is decoded points into the value. */
NODISCARD int ns_inode_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				  size_t in_bytes, struct ns_inode_row *ret_row, struct err *e);
NODISCARD int ns_entry_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				  size_t in_bytes, struct ns_entry_row *ret_row, struct err *e);
NODISCARD int ns_name_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				 size_t in_bytes, struct ns_name_row *ret_row, struct err *e);
NODISCARD int ns_answer_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				   size_t in_bytes, struct ns_answer_row *ret_row, struct err *e);
NODISCARD int ns_orphan_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				   size_t in_bytes, struct err *e);
NODISCARD int ns_trash_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				  size_t in_bytes, struct ns_trash_row *ret_row, struct err *e);
NODISCARD int ns_xattr_row_decode(const uint8_t *key, size_t key_bytes, const uint8_t *in,
				  size_t in_bytes, const uint8_t **ret_value,
				  size_t *ret_value_bytes, struct err *e);

#endif
