/*
 * The one table of all keys of vpool.conf. Parser, `config show`, help and manual are made from it,
 * so a new key is a member in config.h and a row here.
 */
#include "common/config.h"

#include "common/units.h"

#include <string.h>

/* No store of ours is larger; keeps sums of sizes within 64 bits. */
#define SIZE_MAX_SANE (UINT64_C(1) << 60)

#define AT(member) .offset = offsetof(struct config, member)

static const char *const report_names[] = { "allocated", "full", NULL };
static const char *const trash_names[] = { "off", "snapshots", "all", NULL };
static const char *const copy_names[] = { "link", "reflink", "copy", NULL };
static const char *const packs_names[] = { "auto", "always", "never", NULL };
static const char *const level_names[] = { "error", "warning", "info", "debug", NULL };

STATIC_ASSERT(CONFIG_REPORT_FULL == 1 && CONFIG_TRASH_ALL == 2 && CONFIG_COPY_COPY == 2 &&
		      LOG_LEVEL_DEBUG == 3,
	      "values index the names above");

static const struct option_def options[] = {
	{
		.section = "pool",
		.key = "sco_size",
		.type = OPTION_SIZE,
		AT(pool.sco_size_bytes),
		.min = MIB,
		.max = 256 * MIB,
		.multiple_of = 4096,
		.default_text = "16M",
		.prose = "Size of a container of the log, the unit that is cached and uploaded. "
			 "Holds for containers made from now on; larger ones mean fewer and "
			 "longer uploads.",
	},
	{
		.section = "pool",
		.key = "capacity",
		.type = OPTION_SIZE,
		AT(pool.capacity_bytes),
		.live = true,
		.zero_allowed = true,
		.min = 64 * MIB,
		.max = SIZE_MAX_SANE,
		.default_text = "0",
		.prose = "Data that the pool may hold: what would need more is refused with \"No "
			 "space left on device\", and df shows it. 0: what the backend has to "
			 "offer.",
	},
	{
		.section = "pool",
		.key = "disk_patterns",
		.type = OPTION_STRING,
		AT(pool.disk_patterns),
		.default_text = "*.raw *.img *-flat.vmdk *-delta.vmdk *-sesparse.vmdk *.vswp",
		.prose = "Names of new files that are virtual disks, with a log of their own: "
			 "shell patterns with blanks between them. All other files share one log "
			 "until they outgrow disk_threshold.",
	},
	{
		.section = "pool",
		.key = "disk_threshold",
		.type = OPTION_SIZE,
		AT(pool.disk_threshold_bytes),
		.zero_allowed = true,
		.min = 4 * KIB,
		.max = SIZE_MAX_SANE,
		.default_text = "64M",
		.prose = "A file that grows beyond this becomes a virtual disk whatever its name. "
			 "0: never.",
	},
	{
		.section = "pool",
		.key = "report_blocks",
		.type = OPTION_ENUM,
		AT(pool.report_blocks),
		.live = true,
		.enum_names = report_names,
		.default_text = "allocated",
		.prose = "Blocks that stat (du) reports for a file. allocated: the clusters that "
			 "hold data; full: as many as its size, for programs that mistake sparse "
			 "files for short ones.",
	},
	{
		.section = "pool",
		.key = "snapshot_schedule",
		.type = OPTION_STRING,
		AT(pool.snapshot_schedule),
		.live = true,
		.default_text = "off",
		.prose = "When snapshots of disks are made, in UTC: off, hourly, daily [HH:MM], "
			 "weekly [mon..sun] [HH:MM] or monthly [1..28] [HH:MM]. `vpool snapshot "
			 "schedule` sets it for a directory or a disk.",
	},
	{
		.section = "pool",
		.key = "keep",
		.type = OPTION_STRING,
		AT(pool.keep),
		.live = true,
		.default_text = "all:2d daily:7d weekly:31d",
		.prose =
			"Which of these snapshots stay: for how many days all of them, the last "
			"of each hour, day, week, month: all:N, hourly:N, daily:N, weekly:N, "
			"monthly:N, one or several. N is a number of days, or 4w, 2y, forever. The "
			"youngest stays whatever its age.",
	},
	{
		.section = "pool",
		.key = "trash",
		.type = OPTION_ENUM,
		AT(pool.trash),
		.live = true,
		.enum_names = trash_names,
		.default_text = "snapshots",
		.prose = "What is kept for trash_keep when its last name is removed, or another "
			 "file is renamed over it, and can be brought back by `vpool trash "
			 "restore`. off: nothing; snapshots: files that have snapshots, and "
			 "templates; all: these and every disk that is not empty. It takes space "
			 "as before.",
	},
	{
		.section = "pool",
		.key = "trash_keep",
		.type = OPTION_TIME,
		AT(pool.trash_keep_ns),
		.live = true,
		.min = NS_PER_SEC,
		.max = 3650 * NS_PER_DAY,
		.default_text = "7d",
		.prose = "How long the trash keeps what was removed.",
	},
	{
		.section = "cache",
		.key = "ring_size",
		.type = OPTION_SIZE,
		AT(cache.ring_size_bytes),
		.min = 4 * MIB,
		.max = 64 * MIB,
		.multiple_of = 4096,
		.default_text = "64M",
		.prose = "Shared memory that takes writes before they are on disk, and outlives a "
			 "crash of the process.",
	},
	{
		.section = "cache",
		.key = "metadata_cache",
		.type = OPTION_SIZE,
		AT(cache.metadata_cache_bytes),
		.min = 4 * MIB,
		.max = 64 * GIB,
		.default_text = "256M",
		.prose = "Memory for pages of the maps from disk addresses to places in the log. "
			 "More of it makes random reads of large disks faster.",
	},
	{
		.section = "cache",
		.key = "dir",
		.type = OPTION_STRLIST,
		AT(cache.dir),
		.default_text = "",
		.prose = "A cache directory and how much of it may be used, as PATH:SIZE. Give the "
			 "key once for each directory. None: `cache` in the pool directory.",
	},
	{
		.section = "cache",
		.key = "dirty_limit",
		.type = OPTION_SIZE,
		AT(cache.dirty_limit_bytes),
		.live = true,
		.zero_allowed = true,
		.min = 4 * MIB,
		.max = SIZE_MAX_SANE,
		.default_text = "0",
		.prose = "Data that may wait for upload. From half of it on writes are slowed "
			 "down, at the limit they wait. 0: half of the cache.",
	},
	{
		.section = "cache",
		.key = "flush_interval",
		.type = OPTION_TIME,
		AT(cache.flush_interval_ns),
		.live = true,
		.min = 10 * NS_PER_MS,
		.max = 60 * NS_PER_SEC,
		.default_text = "1s",
		.prose = "Writes that nobody syncs reach the disk within this time; a power cut "
			 "loses at most so much of them.",
	},
	{
		.section = "cache",
		.key = "checkpoint_interval",
		.type = OPTION_TIME,
		AT(cache.checkpoint_interval_ns),
		.live = true,
		.min = NS_PER_SEC,
		.max = NS_PER_HOUR,
		.default_text = "30s",
		.prose = "How often changes of the maps go to the metadata database. Longer: fewer "
			 "writes, a longer replay after a crash.",
	},
	{
		.section = "cache",
		.key = "log_max",
		.type = OPTION_SIZE,
		AT(cache.log_max_bytes),
		.min = 256 * MIB,
		.max = 64 * GIB,
		.default_text = "2G",
		.prose = "Log at most that is written before the maps' changes go to the metadata "
			 "database, whatever the interval. A start behind a crash reads it: 4G "
			 "take about a second. Longer: fewer writes, more memory.",
	},
	{
		.section = "cache",
		.key = "reserve",
		.type = OPTION_SIZE,
		AT(cache.reserve_bytes),
		.zero_allowed = true,
		.min = MIB,
		.max = SIZE_MAX_SANE,
		.default_text = "0",
		.prose = "Space kept back for deleting and cleaning when the disk is full. "
			 "0: automatic.",
	},
	{
		.section = "cache",
		.key = "clean_target",
		.type = OPTION_U64,
		AT(cache.clean_target_percent),
		.live = true,
		.min = 110,
		.max = 400,
		.default_text = "143",
		.prose = "Space used, in percent of the live data, at which cleaning of "
			 "overwritten data holds it. Lower: less space, more work.",
	},
	{
		.section = "cache",
		.key = "scrub_hours",
		.type = OPTION_STRING,
		AT(cache.scrub_hours),
		.live = true,
		.default_text = "",
		.prose =
			"Hours of the day, in UTC, as 01:00-05:00, in which cleaning holds 110 "
			"percent instead, at a quarter of the time while somebody reads or writes. "
			"Empty: none.",
	},
	{
		.section = "cache",
		.key = "fetch_min",
		.type = OPTION_SIZE,
		AT(cache.fetch_min_bytes),
		.min = 4 * KIB,
		.max = 64 * KIB,
		.multiple_of = 4096,
		.default_text = "16K",
		.prose = "Data that is on the backend only comes back in pieces of this size, a "
			 "power of two. Larger: fewer requests, but more bytes for small reads.",
	},
	{
		.section = "cache",
		.key = "fetches_max",
		.type = OPTION_U64,
		AT(cache.fetches_max),
		.min = 1,
		.max = 64,
		.default_text = "8",
		.prose = "Requests that fetch data from the backend at the same time.",
	},
	{
		.section = "cache",
		.key = "read_ahead",
		.type = OPTION_SIZE,
		AT(cache.read_ahead_bytes),
		.zero_allowed = true,
		.min = 64 * KIB,
		.max = 64 * MIB,
		.default_text = "8M",
		.prose = "How far ahead of a reader that goes through a disk data is fetched from "
			 "the backend. 0: not at all.",
	},
	{
		.section = "backend",
		.key = "url",
		.type = OPTION_STRING,
		AT(backend.url),
		.default_text = "",
		.prose = "Where the data is kept. Empty: the directory `objects` in the pool "
			 "directory. Secrets do not belong here.",
	},
	{
		.section = "backend",
		.key = "copy",
		.type = OPTION_ENUM,
		AT(backend.copy),
		.enum_names = copy_names,
		.default_text = "link",
		.prose = "How a cache file gets to a backend on the same filesystem. link: the "
			 "same file under two names, at no cost, but one copy of the data; "
			 "reflink: shared blocks; copy: a second copy, which repair can use.",
	},
	{
		.section = "backend",
		.key = "packs",
		.type = OPTION_ENUM,
		AT(backend.packs),
		.enum_names = packs_names,
		.default_text = "auto",
		.prose = "Whether small objects travel together, so that many small disks take few "
			 "requests. auto: unless the backend shares files with the cache, where "
			 "each costs a link.",
	},
	{
		.section = "backend",
		.key = "upload_interval",
		.type = OPTION_TIME,
		AT(backend.upload_interval_ns),
		.live = true,
		.min = NS_PER_SEC,
		.max = NS_PER_DAY,
		.default_text = "60s",
		.prose = "Longest time that written data waits before its upload begins.",
	},
	{
		.section = "backend",
		.key = "uploads_max",
		.type = OPTION_U64,
		AT(backend.uploads_max),
		.min = 1,
		.max = 64,
		.default_text = "4",
		.prose = "Uploads that run at the same time.",
	},
	{
		.section = "backend",
		.key = "attempts_max",
		.type = OPTION_U64,
		AT(backend.attempts_max),
		.min = 1,
		.max = 100,
		.default_text = "6",
		.prose = "How often a request is tried before it counts as failed. Uploads that "
			 "failed stay in the cache and are tried again later.",
	},
	{
		.section = "backend",
		.key = "timeout",
		.type = OPTION_TIME,
		AT(backend.timeout_ns),
		.min = NS_PER_SEC,
		.max = NS_PER_HOUR,
		.default_text = "30s",
		.prose = "A request without progress for this long has failed.",
	},
	{
		.section = "backend",
		.key = "grace_time",
		.type = OPTION_TIME,
		AT(backend.grace_time_ns),
		.live = true,
		.min = 0,
		.max = 30 * NS_PER_DAY,
		.default_text = "1h",
		.prose = "How long objects stay on the backend after nothing refers to them any "
			 "more.",
	},
	{
		.section = "fuse",
		.key = "threads",
		.type = OPTION_U64,
		AT(fuse.threads),
		.min = 2,
		.max = 64,
		.default_text = "4",
		.prose = "Threads that serve requests of the kernel.",
	},
	{
		.section = "fuse",
		.key = "max_background",
		.type = OPTION_U64,
		AT(fuse.max_background),
		.min = 64,
		.max = 65535,
		.default_text = "1024",
		.prose = "Asynchronous requests that the kernel may have in flight.",
	},
	{
		.section = "fuse",
		.key = "parked_max",
		.type = OPTION_U64,
		AT(fuse.parked_max),
		.min = 1,
		.max = 65535,
		.default_text = "512",
		.prose = "Requests that may be put aside while they wait for the backend or for "
			 "space, so that their threads serve others.",
	},
	{
		.section = "log",
		.key = "level",
		.type = OPTION_ENUM,
		AT(log.level),
		.live = true,
		.enum_names = level_names,
		.default_text = "info",
		.prose = "How much is logged: error (data or service affected), warning (degraded, "
			 "coping), info (life cycle), debug.",
	},
	{
		.section = "log",
		.key = "file",
		.type = OPTION_STRING,
		AT(log.file),
		.default_text = "",
		.prose = "File that log lines are appended to. Empty: standard error.",
	},
};

const struct option_def *config_options(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(options);
	return options;
}

const struct option_def *config_option_find(const char *section, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(options[i].section, section) == 0 && strcmp(options[i].key, key) == 0)
			return &options[i];
	}
	return NULL;
}
