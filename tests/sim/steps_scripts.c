/* steps_scripts - what is cut off at each step. */
#include "tests/sim/steps_impl.h"

#include "volume/packs.h"

#define MAKE(d, class)                                                                             \
	{                                                                                          \
		.kind = ACT_MAKE, .disk = d, .other = class                                        \
	}
#define WRITE(d, at, n)                                                                            \
	{                                                                                          \
		.kind = ACT_WRITE, .disk = d, .from = at, .count = n                               \
	}
#define ZERO(d, at, n)                                                                             \
	{                                                                                          \
		.kind = ACT_ZERO, .disk = d, .from = at, .count = n                                \
	}
#define TRUNCATE(d, n)                                                                             \
	{                                                                                          \
		.kind = ACT_TRUNCATE, .disk = d, .from = n                                         \
	}
#define SHARE(d, first, n, of, first_of)                                                           \
	{                                                                                          \
		.kind = ACT_SHARE, .disk = d, .other = of, .from = first, .count = n,              \
		.at = first_of                                                                     \
	}
#define SYNC(d)                                                                                    \
	{                                                                                          \
		.kind = ACT_SYNC, .disk = d                                                        \
	}
#define SNAP(d, s)                                                                                 \
	{                                                                                          \
		.kind = ACT_SNAP, .disk = d, .other = d, .name = s                                 \
	}
#define SNAP_2(d, f, s)                                                                            \
	{                                                                                          \
		.kind = ACT_SNAP, .disk = d, .other = f, .name = s                                 \
	}
#define UNSNAP(d, s)                                                                               \
	{                                                                                          \
		.kind = ACT_UNSNAP, .disk = d, .name = s                                           \
	}
#define RENAME(d, s, t)                                                                            \
	{                                                                                          \
		.kind = ACT_RENAME_SNAP, .disk = d, .name = s, .to = t                             \
	}
#define STICKY(d, s, on)                                                                           \
	{                                                                                          \
		.kind = ACT_STICKY, .disk = d, .name = s, .from = on                               \
	}
#define ROLLBACK(d, s)                                                                             \
	{                                                                                          \
		.kind = ACT_ROLLBACK, .disk = d, .name = s                                         \
	}
#define ROLLBACK_HARD(d, s)                                                                        \
	{                                                                                          \
		.kind = ACT_ROLLBACK, .disk = d, .name = s, .from = 1                              \
	}
#define CLONE(d, of, s)                                                                            \
	{                                                                                          \
		.kind = ACT_CLONE, .disk = d, .other = of, .name = s                               \
	}
#define TEMPLATE(d, on)                                                                            \
	{                                                                                          \
		.kind = ACT_TEMPLATE, .disk = d, .from = on                                        \
	}
#define CLASS(d, class)                                                                            \
	{                                                                                          \
		.kind = ACT_CLASS, .disk = d, .other = class                                       \
	}
#define DELETE(d)                                                                                  \
	{                                                                                          \
		.kind = ACT_DELETE, .disk = d                                                      \
	}
#define REPLACE(d, old)                                                                            \
	{                                                                                          \
		.kind = ACT_REPLACE, .disk = d, .other = old                                       \
	}
#define TRASH(d)                                                                                   \
	{                                                                                          \
		.kind = ACT_TRASH, .disk = d                                                       \
	}
#define CHECKPOINT                                                                                 \
	{                                                                                          \
		.kind = ACT_CHECKPOINT                                                             \
	}
#define UPLOAD                                                                                     \
	{                                                                                          \
		.kind = ACT_UPLOAD                                                                 \
	}
#define SETTLE(n)                                                                                  \
	{                                                                                          \
		.kind = ACT_SETTLE, .count = n                                                     \
	}
#define SCRUB                                                                                      \
	{                                                                                          \
		.kind = ACT_SCRUB                                                                  \
	}
#define END                                                                                        \
	{                                                                                          \
		.kind = ACT_END                                                                    \
	}

#define LIST (const struct action[])

/* A disk over several SCOs, a file in the log that files share, all of it on the backend. */
#define TWO_DISKS                                                                                  \
	MAKE(0, OBJECT_DISK), WRITE(0, 0, 60), SYNC(0), MAKE(1, OBJECT_FILE), WRITE(1, 0, 12),     \
		SYNC(1), UPLOAD

static const struct script scripts[] = {
	{ .name = "snapshot",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ WRITE(0, 3, 2), SNAP(0, "one"), WRITE(0, 4, 1), SNAP(0, "two"), UPLOAD,
			 END } },
	{ .name = "snapshots of a group",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ WRITE(1, 3, 1), SNAP_2(0, 1, "both"), WRITE(0, 1, 1), SYNC(0), END } },
	{ .name = "names of snapshots",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), END },
	  .steps = LIST{ RENAME(0, "one", "two"), STICKY(0, "two", 1), STICKY(0, "two", 0), END } },
	{ .name = "deleted snapshot",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), UPLOAD, END },
	  .steps = LIST{ UNSNAP(0, "one"), SETTLE(3), UPLOAD, END } },
	{ .name = "merge",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SNAP(0, "two"),
			 WRITE(0, 20, 20), SNAP(0, "three"), TRUNCATE(0, 50), WRITE(0, 48, 12),
			 SYNC(0), END },
	  .steps = LIST{ UNSNAP(0, "two"), UNSNAP(0, "one"), SETTLE(3), WRITE(0, 12, 1), UPLOAD,
			 END } },
	{ .name = "layer that stays",
	  .held = true,
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), UPLOAD, END },
	  .steps = LIST{ UNSNAP(0, "one"), SETTLE(2), WRITE(0, 20, 20),
			 CHECKPOINT,	   SETTLE(1), UPLOAD,
			 TRUNCATE(0, 45),  SETTLE(1), SNAP(0, "two"),
			 WRITE(0, 0, 4),   SYNC(0),   UNSNAP(0, "two"),
			 SETTLE(2),	   UPLOAD,    WRITE(0, 2, 4),
			 SYNC(0),	   UPLOAD,    DELETE(0),
			 SETTLE(3),	   UPLOAD,    END } },
	{ .name = "retention",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "day1"), WRITE(0, 1, 9), SNAP(0, "day2"),
			 WRITE(0, 5, 9), SYNC(0), END },
	  .steps = LIST{ SNAP(0, "day3"), UNSNAP(0, "day1"), SETTLE(1), WRITE(0, 9, 2),
			 SNAP(0, "day4"), UNSNAP(0, "day2"), SETTLE(2), END } },
	{ .name = "rollback",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), END },
	  .steps = LIST{ WRITE(0, 2, 1), ROLLBACK(0, "one"), WRITE(0, 5, 1), SYNC(0), SETTLE(2),
			 UPLOAD, END } },
	{ .name = "rollback over younger ones",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SNAP(0, "two"),
			 TRUNCATE(0, 70), WRITE(0, 20, 20), SNAP(0, "three"), WRITE(0, 0, 4),
			 SYNC(0), UPLOAD, END },
	  .steps = LIST{ ROLLBACK_HARD(0, "one"), WRITE(0, 5, 1), SYNC(0), SETTLE(3), UPLOAD,
			 END } },
	{ .name = "rollback under a clone",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SNAP(0, "two"),
			 CLONE(2, 0, "two"), WRITE(2, 15, 3), SYNC(2), WRITE(0, 0, 4), SYNC(0),
			 END },
	  .steps = LIST{ ROLLBACK_HARD(0, "one"), SETTLE(2), UPLOAD, END } },
	{ .name = "clone of a snapshot",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), END },
	  .steps = LIST{ CLONE(2, 0, "one"), WRITE(2, 1, 2), SYNC(2), UPLOAD, UNSNAP(0, "one"),
			 SETTLE(1), DELETE(2), SETTLE(3), UPLOAD, END } },
	{ .name = "clone of now",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ WRITE(0, 7, 1), CLONE(2, 0, NULL), WRITE(0, 8, 2), WRITE(0, 1, 1), SYNC(0),
			 CLONE(3, 2, NULL), DELETE(2), SETTLE(2), DELETE(3), SETTLE(3), UPLOAD,
			 END } },
	{ .name = "clone of a file",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ CLONE(2, 1, NULL), WRITE(1, 2, 1), SYNC(1), DELETE(1), SETTLE(3), UPLOAD,
			 END } },
	{ .name = "template",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ WRITE(0, 7, 1), TEMPLATE(0, 1), CLONE(2, 0, NULL), TEMPLATE(0, 0),
			 WRITE(0, 1, 1), SYNC(0), SETTLE(2), DELETE(0), SETTLE(3), UPLOAD, END } },
	{ .name = "class",
	  .setup = LIST{ TWO_DISKS, END },
	  .steps = LIST{ WRITE(0, 7, 1), CLASS(0, OBJECT_FILE), WRITE(0, 8, 2), SYNC(0),
			 CLASS(1, OBJECT_DISK), WRITE(1, 2, 1), SYNC(1), CHECKPOINT,
			 CLASS(0, OBJECT_DISK), WRITE(0, 9, 2), SYNC(0), UPLOAD, END } },
	{ .name = "class and snapshot",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), END },
	  .steps = LIST{ CLASS(0, OBJECT_FILE), SNAP(0, "two"), ROLLBACK_HARD(0, "one"),
			 UNSNAP(0, "one"), SETTLE(3), UPLOAD, END } },
	{ .name = "names",
	  .setup = LIST{ TWO_DISKS, SNAP(1, "old"), MAKE(2, OBJECT_FILE), WRITE(2, 0, 9), SYNC(2),
			 END },
	  .steps = LIST{ MAKE(3, OBJECT_DISK), WRITE(3, 0, 3), REPLACE(3, 0), REPLACE(2, 1),
			 TRASH(0), SETTLE(2), DELETE(0), SETTLE(3), UPLOAD, END } },
	{ .name = "ranges",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), END },
	  .steps = LIST{ ZERO(0, 5, 30), TRUNCATE(0, 20), TRUNCATE(0, 50), SYNC(0), ZERO(1, 2, 3),
			 SYNC(1), SETTLE(1), UPLOAD, END } },
	{ .name = "shared clusters",
	  .setup = LIST{ TWO_DISKS, MAKE(2, OBJECT_DISK), WRITE(2, 0, 4), SYNC(2), END },
	  .steps = LIST{ UPLOAD, SHARE(2, 2, 8, 0, 5), SYNC(2), WRITE(0, 6, 4), SYNC(0), SETTLE(2),
			 SHARE(1, 20, 3, 2, 3), SYNC(1), UPLOAD, DELETE(0), SETTLE(2), UPLOAD,
			 SCRUB, END } },
	{ .name = "everything shared goes",
	  .setup = LIST{ TWO_DISKS, MAKE(2, OBJECT_DISK), UPLOAD, SHARE(2, 0, 30, 0, 5), SYNC(2),
			 SNAP(2, "one"), SHARE(0, 0, 9, 1, 2), SYNC(0), UPLOAD, END },
	  .steps = LIST{ DELETE(0), DELETE(1), SETTLE(2), UPLOAD, DELETE(2), SETTLE(3), SCRUB,
			 UPLOAD, SETTLE(2), UPLOAD, END } },
	{ .name = "scrub",
	  .setup = LIST{ TWO_DISKS, WRITE(0, 0, 25), WRITE(0, 40, 12), SYNC(0), UPLOAD,
			 WRITE(0, 3, 3), SYNC(0), WRITE(1, 0, 5), SYNC(1), UPLOAD, END },
	  .steps = LIST{ SCRUB, END } },
	{ .name = "scrub of snapshots",
	  .packs = PACKS_NEVER,
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 0, 50), SNAP(0, "two"),
			 WRITE(0, 5, 40), SYNC(0), UPLOAD, UNSNAP(0, "one"), END },
	  .steps = LIST{ SCRUB, END } },
	{ .name = "scrub of what is on the backend only",
	  .small = true,
	  .setup = LIST{ TWO_DISKS, MAKE(2, OBJECT_DISK), WRITE(2, 0, 90), SYNC(2), UPLOAD,
			 WRITE(0, 0, 29), SYNC(0), WRITE(2, 20, 30), SYNC(2), UPLOAD, END },
	  .steps = LIST{ SCRUB, END } },
	{ .name = "start",
	  .killed = true,
	  .opening = true,
	  .setup =
		  LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SYNC(0), UNSNAP(0, "one"),
			CLONE(2, 0, NULL), WRITE(2, 2, 3), ZERO(2, 9, 9), SYNC(2), DELETE(1), END },
	  .steps = LIST{ SETTLE(1), UPLOAD, END } },
	{ .name = "everything goes",
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), SNAP(0, "two"),
			 CLONE(2, 0, "one"), WRITE(2, 3, 3), SYNC(2), CLONE(3, 2, NULL),
			 SNAP(1, "one"), TEMPLATE(1, 1), UPLOAD, END },
	  .steps = LIST{ DELETE(0), DELETE(1), DELETE(2), DELETE(3), SETTLE(3), SCRUB, UPLOAD,
			 SETTLE(2), UPLOAD, END } },
	{ .name = "everything goes, without packs",
	  .packs = PACKS_NEVER,
	  .setup = LIST{ TWO_DISKS, SNAP(0, "one"), WRITE(0, 10, 20), CLONE(2, 0, "one"),
			 WRITE(2, 3, 3), SYNC(2), UPLOAD, END },
	  .steps = LIST{ DELETE(0), DELETE(2), DELETE(1), SCRUB, UPLOAD, END } },
};

const struct script *script_next(const struct script *s)
{
	if (!s)
		return scripts;
	return s + 1 < scripts + ARRAY_SIZE(scripts) ? s + 1 : NULL;
}
