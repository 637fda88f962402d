/*
 * backend_file_tmp - objects that have their bytes but no name yet: ROOT/tmp/<time>-<random>.
 *
 * The time lets an open remove what a crash left without touching what another process, which has
 * the store open too, is writing right now. See backend_file.c for the order of things.
 */
#include "backend/backend_file.h"

#include "backend/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMP_AGE_MAX_NS	   (INT64_C(24) * 3600 * 1000000000)
#define TMP_NAME_BYTES_MAX 48u
#define COPY_BUFFER_BYTES  (1u << 20)

static bool is_no_space(int code)
{
	return code == -ENOSPC || code == -EDQUOT;
}

/* The filesystem (or the source's place) does not offer this way; another one may do. */
static bool is_way_refused(int code)
{
	switch (code) {
	case -EXDEV:
	case -EPERM:
	case -EACCES:
	case -EMLINK:
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -ENOTTY:
	case -EINVAL:
	case -ENOENT:
	case -ELOOP:
	case -ETXTBSY:
		return true;
	default:
		return false;
	}
}

char *file_tmp_path(const struct store_file *f)
{
	char name[TMP_NAME_BYTES_MAX];
	uint64_t suffix;

	env_random(f->env, &suffix, sizeof(suffix));
	(void)snprintf(name, sizeof(name), "tmp/%016" PRIx64 "-%016" PRIx64,
		       (uint64_t)env_now_real_ns(f->env), suffix);
	return file_path(f, name);
}

/* When a file of tmp/ was made; false: not a name of ours. */
static bool tmp_name_parse(const char *name, int64_t *ret_made_ns)
{
	uint64_t made_ns = 0;

	if (strlen(name) != 33 || name[16] != '-')
		return false;
	for (size_t i = 0; i < 33; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = strchr(digits, name[i]);

		if (i == 16)
			continue;
		if (!digit)
			return false;
		if (i < 16)
			made_ns = made_ns << 4 | (uint64_t)(digit - digits);
	}
	*ret_made_ns = (int64_t)made_ns;
	return true;
}

struct cleaning {
	const struct store_file *f;
	int64_t now_ns;
};

static int tmp_clean_one(void *arg, const char *name)
{
	const struct cleaning *c = arg;
	char relative[TMP_NAME_BYTES_MAX];
	int64_t made_ns;

	if (!tmp_name_parse(name, &made_ns) || made_ns > c->now_ns - TMP_AGE_MAX_NS)
		return 0;
	(void)snprintf(relative, sizeof(relative), "tmp/%s", name);

	AUTO(file_path_freep) char *path = file_path(c->f, relative);

	/* Whoever else cleans may be first, and a left-over that stays harms nobody. */
	if (path)
		(void)env_unlink(c->f->env, path);
	return 0;
}

int file_tmp_clean(const struct store_file *f, struct err *e)
{
	struct cleaning cleaning = { .f = f, .now_ns = env_now_real_ns(f->env) };
	AUTO(file_path_freep) char *tmp = file_path(f, "tmp");
	int r;

	if (!tmp)
		return err_set(e, -ENOMEM, "no memory for a path");
	r = env_list_dir(f->env, tmp, tmp_clean_one, &cleaning);
	if (r < 0)
		return err_set(e, r, "listing '%s': %s", tmp, err_name(r));
	return 0;
}

static int copy_bytes(const struct store_file *f, const struct backend_source *source,
		      struct env_file *to, struct err *e)
{
	AUTO(file_path_freep) char *buffer = aligned_alloc(ENV_DIRECT_ALIGN, COPY_BUFFER_BYTES);
	struct source_reader reader;

	if (!buffer)
		return err_set(e, -EAGAIN, "no memory for a copy buffer");
	source_start(&reader, f->env, source);
	for (;;) {
		uint64_t offset_bytes = reader.done_bytes;
		ssize_t n = source_next(&reader, buffer, COPY_BUFFER_BYTES, e);
		int r;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return source_finish(&reader, e);
		r = env_pwrite(f->env, to, buffer, (size_t)n, offset_bytes);
		if (r < 0)
			return err_set(e, file_house_code(r), "writing: %s", err_name(r));
	}
}

/* Read back what the kernel copied. */
static int verify_copy(const struct store_file *f, const struct backend_source *source,
		       struct env_file *copy, struct err *e)
{
	const struct backend_source as_source = { .file = copy,
						  .len_bytes = source->len_bytes,
						  .crc32c = source->crc32c,
						  .has_crc = source->has_crc,
						  .look = source->look,
						  .look_arg = source->look_arg };
	AUTO(file_path_freep) char *buffer = NULL;
	struct source_reader reader;
	struct env_stat st;
	ssize_t n;
	int r = env_stat(f->env, copy, &st);

	if (r < 0)
		return err_set(e, file_house_code(r), "examining a copy: %s", err_name(r));
	if (st.size_bytes != source->len_bytes)
		return err_set(e, -EUCLEAN, "copy has %" PRIu64 " bytes, expected %" PRIu64,
			       st.size_bytes, source->len_bytes);
	if (!source->has_crc && !source->look)
		return 0;
	buffer = aligned_alloc(ENV_DIRECT_ALIGN, COPY_BUFFER_BYTES);
	if (!buffer)
		return err_set(e, -EAGAIN, "no memory for a copy buffer");
	source_start(&reader, f->env, &as_source);
	do {
		n = source_next(&reader, buffer, COPY_BUFFER_BYTES, e);
	} while (n > 0);
	return n < 0 ? (int)n : source_finish(&reader, e);
}

/* Is the source the whole of its file? */
static int source_is_whole_file(const struct store_file *f, const struct backend_source *source,
				struct env_stat *ret_stat)
{
	int r = env_stat(f->env, source->file, ret_stat);

	if (r < 0)
		return r;
	return source->file_offset_bytes == 0 && ret_stat->size_bytes == source->len_bytes;
}

static int copy_file(const struct store_file *f, const struct backend_source *source,
		     struct env_file *to, struct err *e)
{
	struct env_stat st;
	int r;

	/* Not for BACKEND_COPY_BYTES: copy_range may share blocks just as reflink does. */
	if (f->copy_mode == BACKEND_COPY_BYTES)
		return copy_bytes(f, source, to, e);

	r = source_is_whole_file(f, source, &st);
	if (r > 0)
		r = env_reflink(f->env, source->file, to);
	else if (r == 0)
		r = -EOPNOTSUPP; /* a part can be copied only */
	if (is_way_refused(r) && source->len_bytes > 0)
		r = env_copy_range(f->env, source->file, source->file_offset_bytes, to, 0,
				   source->len_bytes);
	if (r == 0)
		return verify_copy(f, source, to, e);
	if (is_no_space(r))
		return err_set(e, -ENOSPC, "copying: %s", err_name(r));
	/* Whatever the shortcuts said, plain reading and writing decides. */
	return copy_bytes(f, source, to, e);
}

static int tmp_fill(const struct store_file *f, const struct backend_source *source,
		    struct env_file *to, struct err *e)
{
	int r;

	if (source->file) {
		r = copy_file(f, source, to, e);
		if (r < 0)
			return r;
	} else if (source->len_bytes > 0) {
		r = env_pwrite(f->env, to, source->data, (size_t)source->len_bytes, 0);
		if (r < 0)
			return err_set(e, file_house_code(r), "writing: %s", err_name(r));
	}
	r = env_fdatasync(f->env, to);
	if (r < 0)
		return err_set(e, file_house_code(r), "making data durable: %s", err_name(r));
	return 0;
}

static int tmp_write(const struct store_file *f, const char *tmp,
		     const struct backend_source *source, struct err *e)
{
	struct env_file *file = NULL;
	int r = env_open(f->env, tmp, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_EXCL, &file);

	if (r == -ENOENT) {
		r = file_check_present(f, e);
		return r < 0 ? r : err_set(e, -EAGAIN, "making '%s' failed", tmp);
	}
	/* Somebody drew the same random name; not the -EEXIST that a put may answer. */
	if (r == -EEXIST)
		return err_set(e, -EAGAIN, "'%s' is in use", tmp);
	if (r < 0)
		return err_set(e, file_house_code(r), "making '%s': %s", tmp, err_name(r));
	r = tmp_fill(f, source, file, e);
	env_close(f->env, file);
	if (r < 0)
		(void)env_unlink(f->env, tmp); /* a left-over is cleaned by a later open */
	return r;
}

/*
 * A hard link of the source's file. Returns 1 when made, 0 when it has to be a copy.
 * The path may by now mean another file than the one that is open; what was linked is compared.
 */
static int tmp_link(const struct store_file *f, const char *tmp,
		    const struct backend_source *source, struct err *e)
{
	struct env_file *linked = NULL;
	struct env_stat wanted, got;
	int r;

	/* Where the try at the start found that links are refused nobody expects one later. */
	if (!(f->store.caps & BACKEND_CAP_LINK) || !source->file || !source->file_path)
		return 0;
	r = source_is_whole_file(f, source, &wanted);
	if (r < 0)
		return err_set(e, file_house_code(r), "examining the source: %s", err_name(r));
	if (r == 0)
		return 0;
	r = env_fdatasync(f->env, source->file);
	if (r < 0)
		return err_set(e, file_house_code(r), "making the source durable: %s", err_name(r));

	r = env_link(f->env, source->file_path, tmp);
	if (is_way_refused(r))
		return 0;
	if (r == -EEXIST)
		return err_set(e, -EAGAIN, "'%s' is in use", tmp);
	if (r < 0)
		return err_set(e, file_house_code(r), "linking '%s': %s", source->file_path,
			       err_name(r));
	r = env_open(f->env, tmp, ENV_READ, &linked);
	if (r == 0) {
		r = env_stat(f->env, linked, &got);
		env_close(f->env, linked);
	}
	if (r == 0 && got.dev == wanted.dev && got.ino == wanted.ino)
		return 1;
	(void)env_unlink(f->env, tmp); /* the copy makes its own, or reports why it can't */
	return 0;
}

int file_tmp_make(const struct store_file *f, const char *tmp, const struct backend_source *source,
		  bool *ret_is_link, struct err *e)
{
	int r = tmp_link(f, tmp, source, e);

	if (r < 0)
		return r;
	if (r == 1) {
		*ret_is_link = true;
		return 0;
	}
	r = tmp_write(f, tmp, source, e);
	if (r < 0)
		return r;
	*ret_is_link = false;
	return 0;
}

int file_tmp_probe(const struct store_file *f, struct err *e)
{
	AUTO(file_path_freep) char *first = file_tmp_path(f);
	AUTO(file_path_freep) char *second = file_tmp_path(f);
	struct env_file *file = NULL;
	int r;

	if (!first || !second)
		return err_set(e, -ENOMEM, "no memory for a path");
	r = env_open(f->env, first, ENV_WRITE | ENV_CREATE | ENV_EXCL, &file);
	if (is_no_space(r))
		return 1;
	if (r < 0)
		return err_set(e, r, "backend directory '%s' is not writable: %s", f->root,
			       err_name(r));
	env_close(f->env, file);
	r = env_link(f->env, first, second);
	if (r == 0)
		(void)env_unlink(f->env, second); /* left-overs are cleaned by a later open */
	(void)env_unlink(f->env, first);
	if (r == 0 || is_no_space(r))
		return 1;
	if (is_way_refused(r))
		return 0;
	return err_set(e, r, "linking in '%s/tmp': %s", f->root, err_name(r));
}
