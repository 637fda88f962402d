/* backend_file - what the two halves of the directory store share; private to them. */
#ifndef BACKEND_BACKEND_FILE_H
#define BACKEND_BACKEND_FILE_H

#include "backend/backend_impl.h"

#include <stdlib.h>

struct store_file {
	struct store store;
	struct env *env;
	enum backend_copy_mode copy_mode;
	char *root; /* without a slash at the end */
};

/*
 * The path of an object, or of a directory of objects; "" is the root.
 * Owns: the result is the caller's, free(). NULL: no memory.
 */
NODISCARD char *file_path(const struct store_file *f, const char *name);

static inline void file_path_free(char *path)
{
	free(path);
}
DEFINE_FREEP(char, file_path_free)

/* Errors of the filesystem in the words of backend.h. */
int file_house_code(int code);

/*
 * Whether the store is there at all, asked before "not found" is answered: an unmounted filesystem
 * must not look like one that lost every object.
 * Errors: -EAGAIN it is gone, else what looking says.
 */
NODISCARD int file_check_present(const struct store_file *f, struct err *e);

/*
 * Open an object for reading.
 * Errors: -ENOENT no such object (a directory, a link and a device are none), -EAGAIN the store is
 *         gone or the process has no descriptors left, else what opening says.
 */
NODISCARD int file_open_object(const struct store_file *f, const char *name,
			       struct env_file **ret_file, struct env_stat *ret_stat,
			       struct err *e);

/*
 * A new name in tmp/: when it was made, for those who clean up, and 64 random bits.
 * Owns: the result is the caller's, free(). NULL: no memory.
 */
NODISCARD char *file_tmp_path(const struct store_file *f);

/*
 * Make tmp a hard link of the source's file, where copy mode and filesystem allow it, else a file
 * of its own with the source's bytes, checked against the source's checksum.
 * Durable:  the bytes, not the name.
 * Errors:   as backend_put; nothing is left then.
 */
NODISCARD int file_tmp_make(const struct store_file *f, const char *tmp,
			    const struct backend_source *source, bool *ret_is_link, struct err *e);

/* Remove what crashed puts left a day ago or earlier. */
NODISCARD int file_tmp_clean(const struct store_file *f, struct err *e);

/*
 * Try what every put needs: a new file, and a second link of it, without which there is no atomic
 * put-if-absent. A full disk proves nothing and must not keep anyone from reading and deleting.
 * Returns:  1 links work, 0 they do not, negative: the directory is of no use.
 */
NODISCARD int file_tmp_probe(const struct store_file *f, struct err *e);

/* As store_ops.list (backend_file_list.c). */
NODISCARD int file_list(struct store *s, const char *prefix, const char *after,
			unsigned int count_max,
			int (*fn)(void *arg, const char *name, const struct backend_object *object),
			void *arg, struct err *e);

#endif
