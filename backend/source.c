#include "backend/source.h"

#include "common/crc32c.h"

#include <string.h>

void source_start(struct source_reader *r, struct env *env, const struct backend_source *source)
{
	*r = (struct source_reader){ .env = env, .source = source };
}

ssize_t source_next(struct source_reader *r, void *dst, size_t dst_len_bytes, struct err *e)
{
	const struct backend_source *source = r->source;
	size_t len_bytes = (size_t)min_u64(dst_len_bytes, source->len_bytes - r->done_bytes);

	if (len_bytes == 0)
		return 0;
	if (source->data) {
		memcpy(dst, (const char *)source->data + r->done_bytes, len_bytes);
	} else {
		uint64_t offset_bytes = source->file_offset_bytes + r->done_bytes;
		size_t ask_bytes = (size_t)round_up_u64(len_bytes, ENV_DIRECT_ALIGN);
		ssize_t n;

		ASSERT(ask_bytes <= dst_len_bytes && (uintptr_t)dst % ENV_DIRECT_ALIGN == 0);
		n = env_pread(r->env, source->file, dst, ask_bytes, offset_bytes);
		if (n < 0)
			return err_set(e, (int)n, "reading the source at %" PRIu64, offset_bytes);
		if ((size_t)n < len_bytes)
			return err_set(e, -EUCLEAN, "source ends at %" PRIu64 ", not at %" PRIu64,
				       offset_bytes + (uint64_t)n,
				       source->file_offset_bytes + source->len_bytes);
	}
	if (source->has_crc)
		r->crc32c = crc32c(r->crc32c, dst, len_bytes);
	if (source->look) {
		int looked =
			source->look(source->look_arg, source->file_offset_bytes + r->done_bytes,
				     dst, len_bytes, e);

		if (looked < 0)
			return looked;
	}
	r->done_bytes += len_bytes;
	return (ssize_t)len_bytes;
}

int source_finish(const struct source_reader *r, struct err *e)
{
	ASSERT(r->done_bytes == r->source->len_bytes);
	if (r->source->has_crc && r->crc32c != r->source->crc32c)
		return err_set(e, -EBADMSG,
			       "source has checksum %08" PRIx32 ", expected %08" PRIx32, r->crc32c,
			       r->source->crc32c);
	return 0;
}
