/*
 * source - read the bytes of a put once, in order, checking length and checksum on the way.
 *
 * For stores. The router has checked sources in memory before a store sees them; bytes of a file
 * are checked here, while they are copied, so that they are read once. A store must not publish an
 * object before source_finish() said yes.
 */
#ifndef BACKEND_SOURCE_H
#define BACKEND_SOURCE_H

#include "backend/backend.h"

struct source_reader {
	struct env *env;
	const struct backend_source *source;
	uint64_t done_bytes;
	uint32_t crc32c;
};

void source_start(struct source_reader *r, struct env *env, const struct backend_source *source);

/*
 * Copy the next bytes of the source.
 * Units:    from a file, dst and dst_len_bytes are multiples of ENV_DIRECT_ALIGN, as the file may
 *           be open ENV_DIRECT; what lies in dst behind the bytes returned is undefined.
 * Returns:  how many, 0 at the end, else negative.
 * Errors:   -EUCLEAN the file is shorter than the source claims; what reading says.
 */
NODISCARD ssize_t source_next(struct source_reader *r, void *dst, size_t dst_len_bytes,
			      struct err *e);

/* After all bytes: 0, or -EBADMSG when they do not have the checksum that was promised. */
NODISCARD int source_finish(const struct source_reader *r, struct err *e);

#endif
