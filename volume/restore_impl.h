/*
 * restore_impl - a pool made from what its store holds. Private.
 *
 * (1) look: what names there are, so which roots, and which numbers were given out; (2) rows: those of
 * one root, verified while they are fetched; (3) settle: the engine opens what came of it, replays the
 * logs behind the maps up to where the root says and no further, and makes a checkpoint. The argument:
 * FORMAT.md 10.8.
 */
#ifndef VOLUME_RESTORE_IMPL_H
#define VOLUME_RESTORE_IMPL_H

#include "volume/pool_life.h"
#include "volume/upload.h"

struct replay;

/* A number of an object or a layer beyond is of no pool. */
#define RESTORE_NUMBER_MAX (UINT64_C(1) << 62)

/* A SCO's object on the store. */
struct store_sco {
	uint64_t sco, epoch, len_bytes;
	uint32_t stream, version;
};

struct store_root {
	uint64_t epoch, number;
};

/* What a listing of the store tells. */
struct store_names {
	struct uuid pool;
	struct store_sco *scos; /* ascending by stream, number, version, epoch */
	size_t sco_count, sco_cap;
	struct store_root *roots; /* ascending by epoch, number */
	size_t root_count, root_cap;
	uint64_t epoch_max, sco_max, stream_max;
};

/* Up to where the log of a stream counts. */
struct restore_target {
	uint32_t stream;
	lsn_t lsn;
};

/* What the engine has to know while it opens a pool whose rows were just made. */
struct restore_plan {
	struct restore_target *targets; /* ascending */
	size_t target_count;
	uint64_t object_max; /* newest object of an entry that was replayed */
};

/* A root's rows, on their way into the metadata. */
struct restore_rows {
	struct pool *pool; /* with its backend, and uuid */
	const struct store_names *store;
	const struct root *root;
	const struct pool_restore_options *options;
	struct restore_plan *plan;
	struct pool_restored *result; /* counted up */
};

/* restore_look.c. Errors: -ENOENT the store holds no pool; -EUCLEAN it makes no sense. */
NODISCARD int restore_look(struct pool *p, struct store_names *ret_names, struct err *e);
void store_names_done(struct store_names *n);
/* Length of a SCO's object; NULL: it is not there. */
const struct store_sco *store_find_sco(const struct store_names *n, const struct store_sco *wanted);

/*
 * restore_rows.c: fetch and verify all that a root names but SCOs, and put its rows. Not durable.
 * Errors: -EUCLEAN, -EBADMSG, -ENOENT the root is not whole; else what the store or the metadata says.
 */
NODISCARD int restore_put_rows(struct restore_rows *rr, struct err *e);
/* restore_mark.c: the row that says that a restore is under way. Errors: -ENOENT there is none. */
NODISCARD int restore_get_mark(struct pool *p, struct root_row *ret_root, struct err *e);
/* root NULL: it is over. Durable on return, with all rows of NAMES before it. */
NODISCARD int restore_set_mark(struct pool *p, const struct root_row *root, struct err *e);
/* All rows go, but for the mark. */
NODISCARD int restore_wipe_rows(struct pool *p, struct err *e);
/* Numbers below `next` are not given out again. */
NODISCARD int restore_raise_counter(struct pool *p, enum counter_id id, uint64_t next,
				    struct err *e);

/* The engine asks (restore.c). */
lsn_t restore_lsn(const struct restore_plan *plan, uint32_t stream);
/* -EUCLEAN: an object that cannot be. */
NODISCARD int restore_note_entries(struct restore_plan *plan, const struct replay *rp);

#endif
