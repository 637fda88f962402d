/*
 * checkpoint_impl - what checkpoint*.c and bury.c share. Private.
 */
#ifndef VOLUME_CHECKPOINT_IMPL_H
#define VOLUME_CHECKPOINT_IMPL_H

#include "volume/pool_impl.h"

/* By how much a SCO's live slots change with the rows of one commit. */
struct tally {
	uint64_t sco; /* 0: none; no SCO has this number */
	int64_t delta;
};

/* An object whose state row is written by this checkpoint. */
struct staged_object {
	uint64_t id;
	struct object *object; /* referenced */
	struct layer *layer; /* that it is of: the live one, or one that this checkpoint freezes */
	struct object_state_row row;
	uint64_t parent_limit;	     /* of the layer, where that has a parent */
	uint64_t saved_parent_limit; /* of its row */
	bool written;
	UT_hash_handle hh;
};

struct stream_mark {
	struct stream *stream;
	lsn_t lsn;
	uint64_t replay_sco;
	bool stuck; /* its mark stays where it is, and nothing young of it is staged */
};

struct checkpoint {
	struct pool *pool;
	struct stream_mark *marks;
	size_t mark_count;
	struct staged_object *objects;
	struct staged_page *pages;
	size_t page_count;
	struct staged_range *ranges;
	size_t range_count;
	struct sco **behind; /* referenced: whose rows were staged for what else they say */
	size_t behind_count;
	struct frozen_move *moves; /* by layer and cluster */
	size_t move_count;

	/* The commit that is being filled. */
	struct meta_batch *batch;
	struct tally *tallies;		/* open-addressed by SCO: half of it is free at least */
	size_t tally_room, tally_count; /* room: 0 or a power of two */
	uint64_t changed_layer, changed_area; /* that were noted last; layer 0: none */
	uint64_t foreign_layer; /* the last one that was noted to name SCOs of other streams */
	struct buf value;
	struct buf old, new; /* of the page at hand: its row as it was, and as a base */
};

/* The state of an object's layer that this checkpoint freezes, instead of its live one. */
NODISCARD int checkpoint_stage_frozen(struct checkpoint *c, struct object *o, struct layer *l,
				      const struct object_state_row *row, uint64_t parent_limit,
				      uint64_t saved_parent_limit, struct err *e);
/* By how many names the places from loc on, all of one SCO, gain or lose by the commit at hand. */
NODISCARD int checkpoint_tally(struct checkpoint *c, loc_t loc, int64_t delta);
/* The commit that is being filled goes in, with the counts that it changes; the next one begins. */
NODISCARD int checkpoint_commit(struct checkpoint *c, struct err *e);
NODISCARD int checkpoint_commit_if_full(struct checkpoint *c, struct err *e);

/* A row of the layer changes with the commit at hand: of a page, or its state (then page is 0). */
NODISCARD int checkpoint_note_change(struct checkpoint *c, uint64_t layer, uint64_t page);

/* checkpoint_pages.c: all staged pages; a range. Into the commit at hand. */
NODISCARD int checkpoint_stage_pages(struct checkpoint *c, struct err *e);
NODISCARD int checkpoint_stage_range(struct checkpoint *c, const struct staged_range *sr,
				     struct err *e);

/* checkpoint_moves.c: copies of what frozen layers have, as far as their entries are below the marks. */
NODISCARD int checkpoint_take_moves(struct checkpoint *c, struct err *e);
/* Rows name them from here on. In commits of their own; logs are durable. */
NODISCARD int checkpoint_commit_moves(struct checkpoint *c, struct err *e);

/* The mark of a SCO's stream; NULL: the stream is younger than this checkpoint. */
struct stream_mark *checkpoint_mark(struct checkpoint *c, const struct sco *s);

/* Whether a truncation hides more of the parents now than the layer's row says. */
bool checkpoint_limit_sank(const struct staged_object *so);
/* checkpoint_layers.c: limits that sank, into the commit of the marks; then they are saved. */
NODISCARD int checkpoint_put_limits(struct checkpoint *c, struct meta_batch *names, bool *changed,
				    struct err *e);
void checkpoint_limits_saved(struct checkpoint *c);
/* Pages within [first, end) of which a layer or one of its parents has a row; ascending, freed by the
 * caller. */
NODISCARD int checkpoint_pages_of(struct checkpoint *c, struct layer *l, uint64_t first,
				  uint64_t end, uint64_t **ret_pages, size_t *ret_count,
				  struct err *e);
/* Places of a page that a layer's parents have and its limit lets through. */
NODISCARD int checkpoint_count_below(struct checkpoint *c, struct layer *l, uint64_t page,
				     int64_t *ret_count, struct err *e);
/* Mapped clusters of objects whose limit sank, anew from committed rows. */
NODISCARD int checkpoint_recount(struct checkpoint *c, struct err *e);

/* What the marks just committed allow to go: dead SCOs among list, old versions, streams. */
NODISCARD int bury_dead(struct checkpoint *c, struct sco *const *list, size_t count, struct err *e);
void bury_old_files(struct pool *p, struct old_file *f);
NODISCARD int bury_streams(struct checkpoint *c, struct err *e);

#endif
