/*
 * config - the keys of a pool's vpool.conf.
 *
 * One table (config_table.c) holds a row per key: section, key, type, range, default, whether it
 * can change while the pool is mounted, and prose. Parser, `config show`, help and manual are made
 * from it. The file is an INI file: `[section]`, `key = value`; lines that begin with ; or # are
 * comments, and " ;" (blank and semicolon) ends a value. Whatever the table does not know, whatever
 * is given twice and whatever is out of range is refused with file and line.
 *
 * struct config is plain memory: it owns nothing and may be copied by assignment. Reading one allocates
 * two of them at most, and the text.
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include "common/err.h"
#include "common/log.h"

#include <stdio.h>

#define CONFIG_STRING_BYTES   1024 /* NUL included */
#define CONFIG_LIST_MAX	      16
#define CONFIG_FILE_BYTES_MAX ((size_t)1 << 20)
#define CONFIG_LINE_BYTES_MAX 1500 /* longest line that is read, without its newline */

enum config_report {
	CONFIG_REPORT_ALLOCATED,
	CONFIG_REPORT_FULL,
};

/* Values of fs/namespace.h. */
enum config_trash {
	CONFIG_TRASH_OFF,
	CONFIG_TRASH_SNAPSHOTS,
	CONFIG_TRASH_ALL,
};

/* Values of volume/packs.h. */
enum config_packs {
	CONFIG_PACKS_AUTO,
	CONFIG_PACKS_ALWAYS,
	CONFIG_PACKS_NEVER,
};
enum config_copy {
	CONFIG_COPY_LINK,
	CONFIG_COPY_REFLINK,
	CONFIG_COPY_COPY,
};

struct config_list {
	uint32_t count;
	char item[CONFIG_LIST_MAX][CONFIG_STRING_BYTES];
};

/* What each key means is told in config_table.c. 0 and "" carry the meanings given there. */
struct config {
	struct {
		uint64_t sco_size_bytes;
		uint64_t capacity_bytes; /* 0: that of the backend */
		char disk_patterns[CONFIG_STRING_BYTES];
		uint64_t disk_threshold_bytes; /* 0: by name only */
		enum config_report report_blocks;
		char snapshot_schedule[CONFIG_STRING_BYTES]; /* fs/schedule.h */
		char keep[CONFIG_STRING_BYTES];		     /* fs/retention.h */
		enum config_trash trash;
		uint64_t trash_keep_ns;
	} pool;
	struct {
		uint64_t ring_size_bytes;
		uint64_t metadata_cache_bytes;
		struct config_list dir;	    /* "PATH:SIZE"; empty: `cache` in the pool directory */
		uint64_t dirty_limit_bytes; /* 0: half of the cache */
		uint64_t flush_interval_ns;
		uint64_t checkpoint_interval_ns;
		uint64_t log_max_bytes;
		uint64_t reserve_bytes; /* 0: automatic */
		uint64_t clean_target_percent;
		char scrub_hours[CONFIG_STRING_BYTES]; /* "HH:MM-HH:MM", UTC; empty: none */
		uint64_t fetch_min_bytes;
		uint64_t fetches_max;
		uint64_t read_ahead_bytes; /* 0: none */
	} cache;
	struct {
		char url[CONFIG_STRING_BYTES]; /* empty: `objects` in the pool directory */
		enum config_copy copy;
		enum config_packs packs;
		uint64_t upload_interval_ns;
		uint64_t uploads_max;
		uint64_t attempts_max;
		uint64_t timeout_ns;
		uint64_t grace_time_ns;
	} backend;
	struct {
		uint64_t threads;
		uint64_t max_background;
		uint64_t parked_max;
	} fuse;
	struct {
		enum log_level level;
		char file[CONFIG_STRING_BYTES]; /* empty: standard error */
	} log;
};

enum option_type {
	OPTION_U64,	/* uint64_t */
	OPTION_SIZE,	/* uint64_t, bytes */
	OPTION_TIME,	/* uint64_t, nanoseconds */
	OPTION_ENUM,	/* an enum whose values index enum_names */
	OPTION_STRING,	/* char[CONFIG_STRING_BYTES] */
	OPTION_STRLIST, /* struct config_list; the key is given once per item */
};

/* One row. min, max and multiple_of are in the units of the member; STRLIST defaults are empty. */
struct option_def {
	const char *section;
	const char *key;
	enum option_type type;
	bool live;	   /* may change while mounted */
	bool zero_allowed; /* 0 is good although min is more: it has a meaning of its own */
	size_t offset;
	uint64_t min, max;
	uint64_t multiple_of; /* 0: any */
	const char *default_text;
	const char *const *enum_names; /* ends with NULL */
	const char *prose;
};

/* All rows, those of a section together. Static storage. */
const struct option_def *config_options(size_t *ret_count);

/* NULL: no such key. */
const struct option_def *config_option_find(const char *section, const char *key);

/* Every key as its row says. */
void config_defaults(struct config *ret_config);

/*
 * Set one key as if a file had said it; an item is added to a STRLIST.
 *
 * Errors:   -EINVAL unknown section or key, bad value; -ERANGE out of range or too many items. The
 *           message names the key, its range and what was given. config is unchanged.
 */
NODISCARD int config_set(struct config *config, const char *section, const char *key,
			 const char *value, struct err *e);

/*
 * Read a file over the defaults, and check the whole (config_check()).
 *
 * Owns:     path is borrowed.
 * Errors:   -ENOENT ... of open(2) and read(2); -EFBIG more than CONFIG_FILE_BYTES_MAX; -EINVAL and
 *           -ERANGE with "FILE:LINE: ..." for the first thing wrong. *ret_config is untouched.
 * Threads:  any.
 * Source:   design card section 9; tests/common/test_config.c
 */
NODISCARD int config_load(const char *path, struct config *ret_config, struct err *e);

/* The same for text in memory; name stands for the file's in messages. */
NODISCARD int config_load_text(const char *name, const char *text, size_t text_len_bytes,
			       struct config *ret_config, struct err *e);

/* Rules between keys. Errors: -EINVAL with both keys in the message. */
NODISCARD int config_check(const struct config *config, struct err *e);

/*
 * Print every key with meaning, range, default and value, as a file that config_load() reads to the
 * same values.
 * Errors:   -EIO the stream failed (as ferror() says).
 */
NODISCARD int config_print(FILE *out, const struct config *config);

/*
 * The value of one key as a file would say it, cut where it is longer; items of a list have ", "
 * between them. text is returned.
 */
const char *config_value(const struct config *config, const struct option_def *def,
			 char text[CONFIG_STRING_BYTES]);

/* Whether a key has the same value in both. */
bool config_is_same(const struct config *a, const struct config *b, const struct option_def *def);

/* Take the value of one key over. */
void config_take(struct config *config, const struct config *from, const struct option_def *def);

/*
 * Split an item of [cache] dir at its last colon.
 * Owns:     ret_path has room for CONFIG_STRING_BYTES.
 * Errors:   -EINVAL no path, no size or a bad one. Outputs are untouched.
 */
NODISCARD int config_dir_parse(const char *item, char *ret_path, uint64_t *ret_size_bytes);

#endif
