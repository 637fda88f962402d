#include "common/config.h"

#include "common/units.h"
#include "tests/support/scale.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config config; /* large: not on the stack */
static struct config before;
static struct err e;

static void setup(void)
{
	memset(&config, 0x5a, sizeof(config));
	before = config;
	e = (struct err){ 0 };
}

static int load(const char *text)
{
	return config_load_text("x.conf", text, strlen(text), &config, &e);
}

static void assert_refused(const char *text, int code, const char *message)
{
	setup();
	ck_assert_msg(load(text) == code, "wrong code for:\n%s\n%s", text, e.message);
	ck_assert_str_eq(e.message, message);
	ck_assert_int_eq(e.code, code);
	ck_assert_mem_eq(&config, &before, sizeof(config));
}

START_TEST(empty_file_gives_the_defaults)
{
	ck_assert_int_eq(load(""), 0);
	ck_assert_uint_eq(config.pool.sco_size_bytes, 16 * MIB);
	ck_assert_uint_eq(config.pool.capacity_bytes, 0);
	ck_assert_str_eq(config.pool.disk_patterns,
			 "*.raw *.img *-flat.vmdk *-delta.vmdk *-sesparse.vmdk *.vswp");
	ck_assert_uint_eq(config.pool.disk_threshold_bytes, 64 * MIB);
	ck_assert_int_eq(config.pool.report_blocks, CONFIG_REPORT_ALLOCATED);
	ck_assert_uint_eq(config.cache.ring_size_bytes, 64 * MIB);
	ck_assert_uint_eq(config.cache.metadata_cache_bytes, 256 * MIB);
	ck_assert_uint_eq(config.cache.dir.count, 0);
	ck_assert_uint_eq(config.cache.dirty_limit_bytes, 0);
	ck_assert_uint_eq(config.cache.flush_interval_ns, NS_PER_SEC);
	ck_assert_uint_eq(config.cache.checkpoint_interval_ns, 30 * NS_PER_SEC);
	ck_assert_uint_eq(config.cache.reserve_bytes, 0);
	ck_assert_uint_eq(config.cache.clean_target_percent, 143);
	ck_assert_uint_eq(config.cache.fetch_min_bytes, 16 * KIB);
	ck_assert_uint_eq(config.cache.fetches_max, 8);
	ck_assert_uint_eq(config.cache.read_ahead_bytes, 8 * MIB);
	ck_assert_str_eq(config.backend.url, "");
	ck_assert_int_eq(config.backend.copy, CONFIG_COPY_LINK);
	ck_assert_uint_eq(config.backend.upload_interval_ns, 60 * NS_PER_SEC);
	ck_assert_uint_eq(config.backend.uploads_max, 4);
	ck_assert_uint_eq(config.backend.attempts_max, 6);
	ck_assert_uint_eq(config.backend.timeout_ns, 30 * NS_PER_SEC);
	ck_assert_uint_eq(config.backend.grace_time_ns, NS_PER_HOUR);
	ck_assert_uint_eq(config.fuse.threads, 4);
	ck_assert_uint_eq(config.fuse.max_background, 1024);
	ck_assert_uint_eq(config.fuse.parked_max, 512);
	ck_assert_int_eq(config.log.level, LOG_LEVEL_INFO);
	ck_assert_str_eq(config.log.file, "");
}
END_TEST

START_TEST(file_says_something_else)
{
	ck_assert_int_eq(load("# comment\n"
			      "; comment\n"
			      "\n"
			      "[pool] ; trailing comment\r\n"
			      "  sco_size = 4MiB   ; inline comment\r\n"
			      "\treport_blocks=full\n"
			      "disk_patterns = *.raw # no comment\n"
			      "[cache]\n"
			      "dir = /a:b/c:1G\n"
			      "dir = /d:2G\n"
			      "flush_interval: 500ms\n"
			      "[backend]\n"
			      "copy = reflink\n"
			      "url = s3://bucket/prefix?endpoint=http://h:9000\n"
			      "[pool]\n"
			      "disk_threshold = 0\n"
			      "[log]\n"
			      "level = debug"),
			 0);
	ck_assert_uint_eq(config.pool.sco_size_bytes, 4 * MIB);
	ck_assert_uint_eq(config.pool.disk_threshold_bytes, 0);
	ck_assert_int_eq(config.pool.report_blocks, CONFIG_REPORT_FULL);
	ck_assert_str_eq(config.pool.disk_patterns, "*.raw # no comment");
	ck_assert_uint_eq(config.cache.dir.count, 2);
	ck_assert_str_eq(config.cache.dir.item[0], "/a:b/c:1G");
	ck_assert_str_eq(config.cache.dir.item[1], "/d:2G");
	ck_assert_uint_eq(config.cache.flush_interval_ns, 500 * NS_PER_MS);
	ck_assert_int_eq(config.backend.copy, CONFIG_COPY_REFLINK);
	ck_assert_str_eq(config.backend.url, "s3://bucket/prefix?endpoint=http://h:9000");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
}
END_TEST

START_TEST(unknown_things_are_refused_by_line)
{
	assert_refused("[pool]\n\nscosize = 1M\n", -EINVAL,
		       "x.conf:3: [pool] scosize: unknown key");
	assert_refused("[cache]\nsco_size = 1M\n", -EINVAL,
		       "x.conf:2: [cache] sco_size: unknown key");
	assert_refused("[Pool]\n", -EINVAL, "x.conf:1: [Pool]: unknown section");
	assert_refused("\n[]\n", -EINVAL, "x.conf:2: []: unknown section");
	assert_refused("[poo]\nx=1\n[pool]\n", -EINVAL, "x.conf:1: [poo]: unknown section");
	assert_refused("sco_size = 1M\n", -EINVAL,
		       "x.conf:1: 'sco_size': key before the first [section]");
	assert_refused("[pool]\n= 1\n", -EINVAL, "x.conf:2: [pool] : unknown key");
}
END_TEST

START_TEST(a_key_given_twice_is_refused_unless_it_is_a_list)
{
	assert_refused("[fuse]\nthreads = 4\n[log]\n[fuse]\nthreads = 4\n", -EINVAL,
		       "x.conf:5: [fuse] threads = '4': key given twice");
	setup();
	ck_assert_int_eq(load("[cache]\ndir = a:1G\ndir = b:1G\n"), 0);
}
END_TEST

START_TEST(bad_values_are_refused_with_range_and_what_was_given)
{
	assert_refused("[pool]\nsco_size = 1K\n", -ERANGE,
		       "x.conf:2: [pool] sco_size = '1K': out of range, "
		       "expected 1M to 256M, a multiple of 4K");
	assert_refused("[pool]\nsco_size = 1048577\n", -ERANGE,
		       "x.conf:2: [pool] sco_size = '1048577': not a multiple, "
		       "expected 1M to 256M, a multiple of 4K");
	assert_refused("[pool]\nsco_size = big\n", -EINVAL,
		       "x.conf:2: [pool] sco_size = 'big': not a size, "
		       "expected 1M to 256M, a multiple of 4K");
	assert_refused("[pool]\nsco_size =\n", -EINVAL,
		       "x.conf:2: [pool] sco_size = '': not a size, "
		       "expected 1M to 256M, a multiple of 4K");
	assert_refused("[pool]\ncapacity = 1M\n", -ERANGE,
		       "x.conf:2: [pool] capacity = '1M': out of range, "
		       "expected 0, or 64M to 1024P");
	assert_refused("[pool]\ncapacity = 99999999T\n", -ERANGE,
		       "x.conf:2: [pool] capacity = '99999999T': out of range, "
		       "expected 0, or 64M to 1024P");
	assert_refused("[cache]\nflush_interval = 9ms\n", -ERANGE,
		       "x.conf:2: [cache] flush_interval = '9ms': out of range, "
		       "expected 10ms to 1m");
	assert_refused("[cache]\nflush_interval = soon\n", -EINVAL,
		       "x.conf:2: [cache] flush_interval = 'soon': not a time, "
		       "expected 10ms to 1m");
	assert_refused("[backend]\nuploads_max = 65\n", -ERANGE,
		       "x.conf:2: [backend] uploads_max = '65': out of range, expected 1 to 64");
	assert_refused("[backend]\nuploads_max = 4K\n", -EINVAL,
		       "x.conf:2: [backend] uploads_max = '4K': not a number, expected 1 to 64");
	assert_refused("[log]\nlevel = loud\n", -EINVAL,
		       "x.conf:2: [log] level = 'loud': unknown word, "
		       "expected error, warning, info, debug");
}
END_TEST

START_TEST(lines_that_are_nothing_are_refused)
{
	assert_refused("[pool]\nsco_size\n", -EINVAL,
		       "x.conf:2: expected [section], key = value, or a comment");
	assert_refused("[pool\n", -EINVAL, "x.conf:1: '[pool': ] is missing");
	assert_refused("[pool] x = 1\n", -EINVAL,
		       "x.conf:1: '[pool] x = 1': unexpected text after ]");
	/* The first thing wrong is what is told. */
	assert_refused("[pool]\nnonsense\nbad = 1\n", -EINVAL,
		       "x.conf:2: expected [section], key = value, or a comment");
	assert_refused("[pool]\nbad = 1\nnonsense\n", -EINVAL, "x.conf:2: [pool] bad: unknown key");
}
END_TEST

START_TEST(nul_bytes_and_control_characters_are_refused)
{
	static const char nul[] = "[pool]\ndisk_patterns = a\0b\n";

	ck_assert_int_eq(config_load_text("x.conf", nul, sizeof(nul) - 1, &config, &e), -EINVAL);
	ck_assert_str_eq(e.message, "x.conf:2: NUL byte in the line");
	assert_refused("[log]\nfile = a\x1b[0m\n", -EINVAL,
		       "x.conf:2: [log] file = '...': control character in it, "
		       "expected text of at most 1023 bytes");
}
END_TEST

/* "[log]\nfile = xxx...\n" with a value of so many bytes. */
static char *text_with_long_value(size_t value_len, size_t blanks)
{
	static char text[4096];
	int n = snprintf(text, sizeof(text), "[log]\nfile = ");

	memset(text + n, ' ', blanks);
	memset(text + n + blanks, 'x', value_len);
	memcpy(text + (size_t)n + blanks + value_len, "\n", 2);
	return text;
}

START_TEST(long_values_are_read_whole_up_to_the_limit_and_refused_beyond)
{
	ck_assert_int_eq(load(text_with_long_value(CONFIG_STRING_BYTES - 1, 0)), 0);
	ck_assert_uint_eq(strlen(config.log.file), CONFIG_STRING_BYTES - 1);
	setup();
	ck_assert_int_eq(load(text_with_long_value(CONFIG_STRING_BYTES, 0)), -ERANGE);
	ck_assert_ptr_nonnull(strstr(e.message, "x.conf:2: [log] file = 'xxx"));
	ck_assert_ptr_nonnull(strstr(e.message, "': too long, expected"));
}
END_TEST

START_TEST(lines_are_read_whole_up_to_the_limit_and_refused_beyond)
{
	size_t blanks = CONFIG_LINE_BYTES_MAX - strlen("file = ") - 10;

	ck_assert_int_eq(load(text_with_long_value(10, blanks)), 0);
	ck_assert_str_eq(config.log.file, "xxxxxxxxxx");
	assert_refused(text_with_long_value(10, blanks + 1), -EINVAL,
		       "x.conf:2: line is longer than 1500 bytes");
}
END_TEST

START_TEST(list_takes_its_maximum_and_no_more)
{
	char text[1024] = "[cache]\n";
	size_t len = strlen(text);

	for (int i = 0; i <= CONFIG_LIST_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "dir = /d%d:1G\n", i);
	ck_assert_int_eq(load(text), -ERANGE);
	ck_assert_str_eq(e.message, "x.conf:18: [cache] dir = '/d16:1G': too many of them, "
				    "expected text of at most 1023 bytes, up to 16 times");
	*strstr(text, "dir = /d16") = '\0';
	ck_assert_int_eq(load(text), 0);
	ck_assert_uint_eq(config.cache.dir.count, CONFIG_LIST_MAX);
	assert_refused("[cache]\ndir =\n", -EINVAL,
		       "x.conf:2: [cache] dir = '': empty, "
		       "expected text of at most 1023 bytes, up to 16 times");
}
END_TEST

START_TEST(rules_between_keys_are_checked)
{
	assert_refused("[cache]\ndir = /a\n", -EINVAL,
		       "x.conf: [cache] dir = '/a': expected PATH:SIZE");
	assert_refused("[cache]\ndir = /a:1G\ndir = /b:1G\ndir = /a:2G\n", -EINVAL,
		       "x.conf: [cache] dir = '/a:2G': given twice");
	assert_refused("[cache]\ndir = /a:63M\n", -EINVAL,
		       "x.conf: [cache] dir = '/a:63M': less than 4 times [pool] sco_size");
	assert_refused("[cache]\ndir = /a:16383P\ndir = /b:16383P\n", -EINVAL,
		       "x.conf: [cache] dir: sizes add up to too much");
	assert_refused("[pool]\ncapacity = 64M\nsco_size = 32M\n", -EINVAL,
		       "x.conf: [pool] capacity: less than 4 times [pool] sco_size");
	assert_refused("[cache]\ndirty_limit = 32M\n", -EINVAL,
		       "x.conf: [cache] dirty_limit: less than 4 times [pool] sco_size");
	assert_refused("[cache]\ndirty_limit = 2G\ndir = /a:1G\n", -EINVAL,
		       "x.conf: [cache] dirty_limit: more than all of [cache] dir together");
	assert_refused("[cache]\nreserve = 1G\ndir = /a:1G\n", -EINVAL,
		       "x.conf: [cache] reserve: not less than all of [cache] dir together");
	assert_refused("[cache]\nfetch_min = 24K\n", -EINVAL,
		       "x.conf: [cache] fetch_min: not a power of two");
	assert_refused("[cache]\nflush_interval = 5s\ncheckpoint_interval = 2s\n", -EINVAL,
		       "x.conf: [cache] checkpoint_interval: shorter than [cache] flush_interval");
	setup();
	ck_assert_int_eq(load("[cache]\ndir = /a:64M\ndirty_limit = 64M\nreserve = 63M\n"), 0);
	setup();
	ck_assert_int_eq(load("[pool]\ncapacity = 128M\nsco_size = 32M\n"), 0);
}
END_TEST

START_TEST(a_directory_and_its_size_have_room_where_they_go)
{
	char item[CONFIG_STRING_BYTES + 8], path[CONFIG_STRING_BYTES];
	uint64_t size_bytes = 5;

	memset(item, 'a', sizeof(item));
	memcpy(item + CONFIG_STRING_BYTES - 1, ":1M", 4);
	ck_assert_int_eq(config_dir_parse(item, path, &size_bytes), 0);
	ck_assert_uint_eq(strlen(path), CONFIG_STRING_BYTES - 1);
	ck_assert_uint_eq(size_bytes, 1 << 20);
	memcpy(item + CONFIG_STRING_BYTES - 1, "a:2M", 5);
	ck_assert_int_eq(config_dir_parse(item, path, &size_bytes), -EINVAL);
	ck_assert_uint_eq(size_bytes, 1 << 20);
}
END_TEST

START_TEST(set_changes_one_key_and_only_with_a_good_value)
{
	config_defaults(&config);
	ck_assert_int_eq(config_set(&config, "fuse", "threads", "8", &e), 0);
	ck_assert_uint_eq(config.fuse.threads, 8);
	before = config;
	ck_assert_int_eq(config_set(&config, "fuse", "threads", "1", &e), -ERANGE);
	ck_assert_str_eq(e.message, "[fuse] threads = '1': out of range, expected 2 to 64");
	ck_assert_int_eq(config_set(&config, "fuse", "thread", "8", &e), -EINVAL);
	ck_assert_int_eq(config_set(&config, "fuse", "threads", "8 ", NULL), -EINVAL);
	ck_assert_mem_eq(&config, &before, sizeof(config));
}
END_TEST

START_TEST(set_refuses_text_that_a_file_could_not_hold)
{
	static const char *const bad[] = { " x", "x ", "x\ny", "x ;y", ";x", "x\t;", "x\x7f" };

	config_defaults(&config);
	before = config;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(config_set(&config, "backend", "url", bad[i], &e) == -EINVAL,
			      "'%s' taken", bad[i]);
	ck_assert_mem_eq(&config, &before, sizeof(config));
	ck_assert_int_eq(config_set(&config, "backend", "url", "x;y =#z", &e), 0);
}
END_TEST

/* What config_print() writes; to be freed. */
static char *print(const struct config *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(config_print(f, c), 0);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

START_TEST(what_is_printed_loads_to_the_same)
{
	char *text;

	config_defaults(&before);
	text = print(&before);
	ck_assert_int_eq(load(text), 0);
	ck_assert_mem_eq(&config, &before, sizeof(config));
	free(text);

	ck_assert_int_eq(config_set(&before, "pool", "sco_size", "1028K", &e), 0);
	ck_assert_int_eq(config_set(&before, "pool", "report_blocks", "full", &e), 0);
	ck_assert_int_eq(config_set(&before, "pool", "disk_patterns", "#a=[b];c:d", &e), 0);
	ck_assert_int_eq(config_set(&before, "cache", "dir", "/x y:1G", &e), 0);
	ck_assert_int_eq(config_set(&before, "cache", "dir", "[z]:2G", &e), 0);
	ck_assert_int_eq(config_set(&before, "cache", "flush_interval", "1234us", &e), -ERANGE);
	ck_assert_int_eq(config_set(&before, "cache", "flush_interval", "12345us", &e), 0);
	ck_assert_int_eq(config_set(&before, "backend", "grace_time", "0", &e), 0);
	text = print(&before);
	ck_assert_msg(load(text) == 0, "%s", e.message);
	ck_assert_mem_eq(&config, &before, sizeof(config));
	free(text);
}
END_TEST

START_TEST(printed_file_explains_every_key)
{
	char *text;
	size_t count;
	const struct option_def *defs = config_options(&count);

	config_defaults(&config);
	text = print(&config);
	for (size_t i = 0; i < count; i++) {
		char line[64];

		(void)snprintf(line, sizeof(line),
			       "\n%s%s =", defs[i].type == OPTION_STRLIST ? "# " : "", defs[i].key);
		ck_assert_msg(strstr(text, line) != NULL, "%s not printed", defs[i].key);
	}
	ck_assert_ptr_nonnull(strstr(text, "\n# Range: 1M to 256M, a multiple of 4K. Default: 16M. "
					   "Change: at the next mount.\nsco_size = 16M\n"));
	ck_assert_ptr_nonnull(strstr(text, "Change: at once.\nlevel = info\n"));
	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
		ck_assert_uint_le(strcspn(line, "\n"), 100);
	free(text);
}
END_TEST

START_TEST(print_reports_a_stream_that_fails)
{
	FILE *full = fopen("/dev/full", "we");

	ck_assert_ptr_nonnull(full);
	config_defaults(&config);
	ck_assert_int_eq(config_print(full, &config), -EIO);
	(void)fclose(full);
}
END_TEST

static ssize_t fail_once(void *cookie, UNUSED const char *bytes, size_t len)
{
	int *calls = cookie;

	return (*calls)++ == 0 ? 0 : (ssize_t)len;
}

START_TEST(print_reports_a_failure_that_passed)
{
	int calls = 0;
	FILE *f = fopencookie(&calls, "w", (cookie_io_functions_t){ .write = fail_once });

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(setvbuf(f, NULL, _IOLBF, 0), 0);
	config_defaults(&config);
	ck_assert_int_eq(config_print(f, &config), -EIO);
	ck_assert_int_gt(calls, 1);
	(void)fclose(f);
}
END_TEST

START_TEST(table_is_consistent)
{
	size_t count;
	const struct option_def *defs = config_options(&count);

	config_defaults(&config);
	for (size_t i = 0; i < count; i++) {
		const struct option_def *def = &defs[i];

		ck_assert_ptr_eq(config_option_find(def->section, def->key), def);
		ck_assert_uint_gt(strlen(def->prose), 20);
		ck_assert_int_eq(def->prose[strlen(def->prose) - 1], '.');
		ck_assert_uint_lt(def->offset, sizeof(struct config));
		ck_assert_uint_le(def->min, def->max);
		ck_assert_int_eq(def->type == OPTION_ENUM, def->enum_names != NULL);
		if (def->type == OPTION_STRLIST)
			ck_assert_str_eq(def->default_text, "");
		else
			ck_assert_int_eq(config_set(&config, def->section, def->key,
						    def->default_text, &e),
					 0);
		for (size_t j = 0; j < i; j++)
			ck_assert_uint_ne(def->offset, defs[j].offset);
	}
	ck_assert_int_eq(config_check(&config, &e), 0);
	ck_assert_ptr_null(config_option_find("pool", "level"));
}
END_TEST

START_TEST(limits_of_every_number_are_good_and_beyond_them_is_not)
{
	size_t count;
	const struct option_def *defs = config_options(&count);

	config_defaults(&config);
	for (size_t i = 0; i < count; i++) {
		const struct option_def *def = &defs[i];
		const char *unit = def->type == OPTION_TIME ? "ns" : "";
		char text[64];

		if (def->type != OPTION_U64 && def->type != OPTION_SIZE && def->type != OPTION_TIME)
			continue;
#define SET(value)                                                                                 \
	(snprintf(text, sizeof(text), "%" PRIu64 "%s", (value), unit),                             \
	 config_set(&config, def->section, def->key, text, &e))
		ck_assert_msg(SET(def->min) == 0, "%s", e.message);
		ck_assert_msg(SET(def->max) == 0, "%s", e.message);
		ck_assert_int_eq(SET(def->max + 1), -ERANGE);
		if (def->min > 1)
			ck_assert_int_eq(SET(def->min - 1), -ERANGE);
		if (def->min > 0)
			ck_assert_int_eq(SET((uint64_t)0), def->zero_allowed ? 0 : -ERANGE);
#undef SET
	}
}
END_TEST

START_TEST(values_are_told_compared_and_taken_over_key_by_key)
{
	static struct config a, b;
	char text[CONFIG_STRING_BYTES];
	size_t count;
	const struct option_def *defs = config_options(&count);

	config_defaults(&a);
	config_defaults(&b);
	ck_assert_int_eq(config_set(&b, "pool", "capacity", "3G", NULL), 0);
	ck_assert_int_eq(config_set(&b, "cache", "flush_interval", "20ms", NULL), 0);
	ck_assert_int_eq(config_set(&b, "cache", "dir", "/a:1G", NULL), 0);
	ck_assert_int_eq(config_set(&b, "cache", "dir", "/b:2G", NULL), 0);
	ck_assert_int_eq(config_set(&b, "backend", "url", "file:///x", NULL), 0);
	ck_assert_int_eq(config_set(&b, "log", "level", "debug", NULL), 0);
	for (size_t i = 0; i < count; i++) {
		const char *key = defs[i].key;
		const char *want = strcmp(key, "capacity") == 0	      ? "3G" :
				   strcmp(key, "flush_interval") == 0 ? "20ms" :
				   strcmp(key, "dir") == 0	      ? "/a:1G, /b:2G" :
				   strcmp(key, "url") == 0	      ? "file:///x" :
				   strcmp(key, "level") == 0	      ? "debug" :
									NULL;

		ck_assert_msg(config_is_same(&a, &b, &defs[i]) == (want == NULL), "%s", key);
		if (want)
			ck_assert_str_eq(config_value(&b, &defs[i], text), want);
		config_take(&a, &b, &defs[i]);
		ck_assert_msg(config_is_same(&a, &b, &defs[i]), "%s", key);
	}
	ck_assert_int_eq(memcmp(&a, &b, sizeof(a)), 0);
}
END_TEST

START_TEST(cache_directories_are_split_at_the_last_colon)
{
	char path[CONFIG_STRING_BYTES] = "?";
	uint64_t size = 5;

	ck_assert_int_eq(config_dir_parse("/a:b:1G", path, &size), 0);
	ck_assert_str_eq(path, "/a:b");
	ck_assert_uint_eq(size, GIB);
	ck_assert_int_eq(config_dir_parse("/a", path, &size), -EINVAL);
	ck_assert_int_eq(config_dir_parse(":1G", path, &size), -EINVAL);
	ck_assert_int_eq(config_dir_parse("/a:", path, &size), -EINVAL);
	ck_assert_int_eq(config_dir_parse("/a:1X", path, &size), -EINVAL);
	ck_assert_int_eq(config_dir_parse("/a:99999999999P", path, &size), -EINVAL);
	ck_assert_str_eq(path, "/a:b");
	ck_assert_uint_eq(size, GIB);
}
END_TEST

/* A temporary file with these bytes, then so many newlines. */
static void write_file(const char *path, const char *text, size_t newlines)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	for (size_t i = 0; i < newlines; i++)
		ck_assert_int_eq(fputc('\n', f), '\n');
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(files_are_loaded_and_their_troubles_told)
{
	char path[] = "config-XXXXXX";
	int fd = mkstemp(path);
	char message[200];

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	ck_assert_int_eq(config_load(path, &config, &e), 0); /* empty */
	write_file(path, "[fuse]\nthreads = 7\n", CONFIG_FILE_BYTES_MAX - 19);
	ck_assert_int_eq(config_load(path, &config, &e), 0);
	ck_assert_uint_eq(config.fuse.threads, 7);

	setup();
	write_file(path, "[fuse]\nthreads = 7\n", CONFIG_FILE_BYTES_MAX - 18);
	ck_assert_int_eq(config_load(path, &config, &e), -EFBIG);
	write_file(path, "[fuse]\nthreads = 0\n", 0);
	ck_assert_int_eq(config_load(path, &config, &e), -ERANGE);
	(void)snprintf(message, sizeof(message),
		       "%s:2: [fuse] threads = '0': out of range, expected 2 to 64", path);
	ck_assert_str_eq(e.message, message);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(config_load(path, &config, &e), -ENOENT);
	(void)snprintf(message, sizeof(message), "%s: No such file or directory", path);
	ck_assert_str_eq(e.message, message);
	ck_assert_int_eq(config_load(".", &config, NULL), -EISDIR);
	ck_assert_mem_eq(&config, &before, sizeof(config));
}
END_TEST

START_TEST(reason_survives_a_long_file_name)
{
	char name[1000];

	memset(name, 'd', sizeof(name) - 1);
	memcpy(name + sizeof(name) - 12, "/vpool.conf", 12);
	ck_assert_int_eq(config_load_text(name, "[x]\n", 4, &config, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.message, "ddd/vpool.conf:1: [x]: unknown section"));
}
END_TEST

START_TEST(garbage_never_loads_halfway)
{
	static const char alphabet[] = "[]=;#:\n\n \t\r\\\xef\xbb\xbfpool\0cache dir1GsM";
	uint32_t x = 1;

	for (int round = 0; round < TEST_SCALE(20000); round++) {
		char text[120];
		size_t len;

		for (len = 0; len < sizeof(text) - 1; len++) {
			x = x * 1664525 + 1013904223;
			text[len] = alphabet[(x >> 8) % (sizeof(alphabet) - 1)];
		}
		len = (x >> 4) % sizeof(text);
		if (config_load_text("x", text, len, &config, &e) == 0)
			setup();
		else if (memcmp(&config, &before, sizeof(config)) != 0) /* ck_assert is slow */
			ck_abort_msg("changed by round %d", round);
	}
}
END_TEST

/* The next row of README.md's table of settings: it begins so; false: there is none. */
static bool next_row(FILE *readme, char *line, size_t line_bytes)
{
	while (fgets(line, (int)line_bytes, readme))
		if (strncmp(line, "| `", 3) == 0)
			return true;
	return false;
}

START_TEST(readme_has_every_key_with_its_default_in_the_order_of_the_table)
{
	FILE *readme = fopen(SOURCE_DIR "/README.md", "re");
	const struct option_def *options;
	char line[1024], want[512];
	size_t count;

	ck_assert_ptr_nonnull(readme);
	options = config_options(&count);
	for (size_t i = 0; i < count; i++) {
		const struct option_def *o = &options[i];
		const char *quote = o->default_text[0] ? "`" : "";

		(void)snprintf(want, sizeof(want), "| `%s` | `%s` | %s%s%s | %s | ", o->section,
			       o->key, quote, o->default_text[0] ? o->default_text : "none", quote,
			       o->live ? "yes" : "no");
		ck_assert_msg(next_row(readme, line, sizeof(line)), "README.md has no row: %s",
			      want);
		ck_assert_msg(strncmp(line, want, strlen(want)) == 0,
			      "README.md says:\n%sand not:\n%s", line, want);
		ck_assert_msg(strlen(line) > strlen(want) + 10, "no meaning: %s", line);
	}
	ck_assert_msg(!next_row(readme, line, sizeof(line)), "README.md has one too many: %s",
		      line);
	ck_assert_int_eq(fclose(readme), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/config");
	TCase *t = tcase_create("config");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, empty_file_gives_the_defaults);
	tcase_add_test(t, file_says_something_else);
	tcase_add_test(t, unknown_things_are_refused_by_line);
	tcase_add_test(t, a_key_given_twice_is_refused_unless_it_is_a_list);
	tcase_add_test(t, bad_values_are_refused_with_range_and_what_was_given);
	tcase_add_test(t, lines_that_are_nothing_are_refused);
	tcase_add_test(t, nul_bytes_and_control_characters_are_refused);
	tcase_add_test(t, long_values_are_read_whole_up_to_the_limit_and_refused_beyond);
	tcase_add_test(t, lines_are_read_whole_up_to_the_limit_and_refused_beyond);
	tcase_add_test(t, list_takes_its_maximum_and_no_more);
	tcase_add_test(t, rules_between_keys_are_checked);
	tcase_add_test(t, a_directory_and_its_size_have_room_where_they_go);
	tcase_add_test(t, set_changes_one_key_and_only_with_a_good_value);
	tcase_add_test(t, set_refuses_text_that_a_file_could_not_hold);
	tcase_add_test(t, what_is_printed_loads_to_the_same);
	tcase_add_test(t, printed_file_explains_every_key);
	tcase_add_test(t, print_reports_a_stream_that_fails);
	tcase_add_test(t, print_reports_a_failure_that_passed);
	tcase_add_test(t, table_is_consistent);
	tcase_add_test(t, limits_of_every_number_are_good_and_beyond_them_is_not);
	tcase_add_test(t, values_are_told_compared_and_taken_over_key_by_key);
	tcase_add_test(t, cache_directories_are_split_at_the_last_colon);
	tcase_add_test(t, files_are_loaded_and_their_troubles_told);
	tcase_add_test(t, reason_survives_a_long_file_name);
	tcase_add_test(t, garbage_never_loads_halfway);
	tcase_add_test(t, readme_has_every_key_with_its_default_in_the_order_of_the_table);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
