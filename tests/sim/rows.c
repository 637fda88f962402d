#include "tests/sim/rows.h"
#include "tests/sim/packed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* Faults of the store. */
#define HEAD_TRIES 20u

struct counted {
	uint64_t sco;
	uint64_t named; /* by page rows */
	bool has_row, has_file;
	uint32_t live;	 /* as its row says */
	bool on_backend; /* its row says so, and its object is there with its length */
	UT_hash_handle hh;
};

struct walk {
	struct counted *scos;
	bool bad;
	struct backend *backend;
	struct packed_set packed;
};

static struct counted *counted(struct walk *w, uint64_t sco)
{
	struct counted *c;

	HASH_FIND(hh, w->scos, &sco, sizeof(sco), c);
	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	ASSERT(c);
	c->sco = sco;
	HASH_ADD(hh, w->scos, sco, sizeof(c->sco), c);
	return c;
}

static void count_run(void *arg, const struct page_run *run)
{
	if (loc_is_place(run->loc))
		counted(arg, loc_sco(run->loc))->named += run->count;
}

static int page_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	enum page_value_kind kind;
	struct walk *w = arg;
	struct err e = { 0 };

	(void)key;
	(void)key_bytes;
	if (page_value_decode(value, value_bytes, &kind, count_run, w, &e) < 0) {
		fprintf(stderr, "page row: %s\n", e.message);
		w->bad = true;
	}
	return 0;
}

static bool is_on_backend(const struct walk *w, uint64_t stream, uint64_t sco,
			  const struct sco_row *row)
{
	char name[OBJECT_NAME_MAX + 1];
	struct backend_object object;
	int r = -EAGAIN;

	if (row->state != SCO_SEALED || !(row->flags & SCO_UPLOADED))
		return false;
	object_name_sco(name, (uint32_t)stream, sco, row->version, row->object_epoch);
	for (unsigned int i = 0; i < HEAD_TRIES && r < 0 && r != -ENOENT; i++)
		r = packed_head(&w->packed, w->backend, name, &object);
	/* A store that is down keeps what it has. */
	return r == 0 ? object.len_bytes == row->file_bytes : r != -ENOENT;
}

static int sco_row_seen(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	struct walk *w = arg;
	uint64_t stream, sco;
	struct sco_row row;
	struct counted *c;

	if (row_key_parse_2u64(key, key_bytes, ROW_SCO, &stream, &sco) < 0 ||
	    sco_row_decode(value, value_bytes, &row, NULL) < 0) {
		fprintf(stderr, "SCO row: does not decode\n");
		w->bad = true;
		return 0;
	}
	c = counted(w, sco);
	c->has_row = true;
	c->live = row.live_slots;
	c->on_backend = is_on_backend(w, stream, sco, &row);
	return 0;
}

static int file_seen(void *arg, const char *name)
{
	uint32_t stream, version;
	uint64_t sco;

	if (sco_file_name_parse(name, &stream, &sco, &version) == 0)
		counted(arg, sco)->has_file = true;
	return 0;
}

static int list_files(struct env *env, const struct pool_options *o,
		      int (*fn)(void *arg, const char *name), void *arg)
{
	char path[256];
	int r = 0;

	for (unsigned int i = 0; i < o->cache_count && r == 0; i++) {
		(void)snprintf(path, sizeof(path), "%s/sco", o->cache[i].path);
		r = env_list_dir(env, path, fn, arg);
	}
	return r;
}

static void judge(struct walk *w)
{
	struct counted *c, *next;

	HASH_ITER (hh, w->scos, c, next) {
		bool good = (c->has_file || c->on_backend) &&
			    (c->has_row ? c->named == c->live : c->named == 0);

		/* A dead one may have lost its file before its row, or its row before its file. */
		if (!good && c->named == 0 && c->live == 0)
			good = true;
		if (!good) {
			fprintf(stderr,
				"SCO %" PRIu64 ": %" PRIu64 " clusters named, row says %u%s%s\n",
				c->sco, c->named, c->live, c->has_row ? "" : ", no row",
				c->has_file   ? "" :
				c->on_backend ? ", absent" :
						", no file and no object");
			w->bad = true;
		}
		HASH_DEL(w->scos, c);
		free(c);
	}
}

bool rows_agree(struct env *env, struct meta *meta, const struct pool_options *o)
{
	struct row_key pages = { .bytes = { ROW_PAGE }, .len_bytes = 1 };
	struct row_key pages_end = { .bytes = { ROW_PAGE + 1 }, .len_bytes = 1 };
	struct row_key scos = { .bytes = { ROW_SCO }, .len_bytes = 1 };
	struct row_key scos_end = { .bytes = { ROW_SCO + 1 }, .len_bytes = 1 };
	struct walk w = { .backend = o->backend };
	int r = packed_by_rows(&w.packed, meta);

	if (r == 0)
		r = meta_iterate(meta, META_STATE, &pages, &pages_end, page_row, &w, NULL);
	if (r == 0)
		r = meta_iterate(meta, META_STATE, &scos, &scos_end, sco_row_seen, &w, NULL);
	if (r == 0)
		r = list_files(env, o, file_seen, &w);
	judge(&w);
	packed_done(&w.packed);
	return r == 0 && !w.bad;
}

static int any_file(void *arg, const char *name)
{
	uint32_t stream, version;
	uint64_t sco;

	if (sco_file_name_parse(name, &stream, &sco, &version) < 0)
		return 0;
	fprintf(stderr, "left on flash: %s\n", name);
	*(bool *)arg = true;
	return 0;
}

static int any_sco(void *arg, const char *name, const struct backend_object *object)
{
	(void)object;
	if (strstr(name, "/sco/")) {
		fprintf(stderr, "left on the backend: %s\n", name);
		*(bool *)arg = true;
	}
	return 0;
}

bool nothing_left(struct backend *b, struct env *env, const struct pool_options *o)
{
	struct packed_set packed = { 0 };
	bool left = false;
	int r = list_files(env, o, any_file, &left);

	if (r == 0)
		r = backend_list(b, "", NULL, 100000, any_sco, &left, NULL);
	if (r >= 0)
		r = packed_by_rows(&packed, o->meta);
	if (packed_count(&packed, "/sco/")) {
		fprintf(stderr, "left in packs: %u SCOs\n", packed_count(&packed, "/sco/"));
		left = true;
	}
	packed_done(&packed);
	return r >= 0 && !left;
}
