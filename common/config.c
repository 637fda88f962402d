#include "common/config.h"

#include "common/units.h"

#include <string.h>

#define GIVEN "%.80s" /* of what the user wrote: enough to find it again */

/* A cache that cannot hold a few containers at once would only stand in its own way. */
#define SCOS_MIN 4

/* ---- one value ---- */

static void *member(struct config *config, const struct option_def *def)
{
	return (char *)config + def->offset;
}

static const void *member_const(const struct config *config, const struct option_def *def)
{
	return (const char *)config + def->offset;
}

static const char *number_format(const struct option_def *def, uint64_t value,
				 char text[UNITS_TEXT_BYTES])
{
	if (def->type == OPTION_SIZE)
		return size_format(value, text);
	if (def->type == OPTION_TIME)
		return time_format(value, text);
	(void)snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64, value);
	return text;
}

#define RANGE_TEXT_BYTES 160

static const char *range_of_number(const struct option_def *def, char text[RANGE_TEXT_BYTES])
{
	char min[UNITS_TEXT_BYTES], max[UNITS_TEXT_BYTES], multiple[UNITS_TEXT_BYTES];
	bool has_multiple = def->multiple_of != 0;

	(void)snprintf(text, RANGE_TEXT_BYTES, "%s%s to %s%s%s", def->zero_allowed ? "0, or " : "",
		       number_format(def, def->min, min), number_format(def, def->max, max),
		       has_multiple ? ", a multiple of " : "",
		       has_multiple ? number_format(def, def->multiple_of, multiple) : "");
	return text;
}

static const char *range_of_enum(const struct option_def *def, char text[RANGE_TEXT_BYTES])
{
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; def->enum_names[i] != NULL; i++) {
		int n = snprintf(text + len, RANGE_TEXT_BYTES - len, "%s%s", i > 0 ? ", " : "",
				 def->enum_names[i]);

		len += (size_t)n;
		ASSERT(len < RANGE_TEXT_BYTES); /* the table is ours */
	}
	return text;
}

/* What is good for a key, in words. */
static const char *range_format(const struct option_def *def, char text[RANGE_TEXT_BYTES])
{
	switch (def->type) {
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_TIME:
		return range_of_number(def, text);
	case OPTION_ENUM:
		return range_of_enum(def, text);
	case OPTION_STRING:
		(void)snprintf(text, RANGE_TEXT_BYTES, "text of at most %d bytes",
			       CONFIG_STRING_BYTES - 1);
		return text;
	case OPTION_STRLIST:
		(void)snprintf(text, RANGE_TEXT_BYTES, "text of at most %d bytes, up to %d times",
			       CONFIG_STRING_BYTES - 1, CONFIG_LIST_MAX);
		return text;
	}
	return "";
}

static int refuse(const struct option_def *def, const char *value, int code, const char *why,
		  struct err *e)
{
	char range[RANGE_TEXT_BYTES];

	return err_set(e, code, "[%s] %s = '" GIVEN "': %s, expected %s", def->section, def->key,
		       value, why, range_format(def, range));
}

static int set_number(const struct option_def *def, const char *value, uint64_t *ret_number,
		      struct err *e)
{
	uint64_t number = 0;
	int r;

	if (def->type == OPTION_SIZE)
		r = size_parse(value, &number);
	else if (def->type == OPTION_TIME)
		r = time_parse(value, &number);
	else
		r = u64_parse(value, &number);
	if (r == -EINVAL)
		return refuse(def, value, r,
			      def->type == OPTION_SIZE ? "not a size" :
			      def->type == OPTION_TIME ? "not a time" :
							 "not a number",
			      e);
	if (r == 0 && def->zero_allowed && number == 0) {
		*ret_number = 0;
		return 0;
	}
	if (r < 0 || number < def->min || number > def->max)
		return refuse(def, value, -ERANGE, "out of range", e);
	if (def->multiple_of != 0 && number % def->multiple_of != 0)
		return refuse(def, value, -ERANGE, "not a multiple", e);
	*ret_number = number;
	return 0;
}

static int set_enum(const struct option_def *def, const char *value, void *ret_enum, struct err *e)
{
	STATIC_ASSERT(sizeof(enum config_copy) == sizeof(unsigned int), "enums are unsigned int");

	for (unsigned int i = 0; def->enum_names[i] != NULL; i++) {
		if (strcmp(value, def->enum_names[i]) == 0) {
			memcpy(ret_enum, &i, sizeof(i));
			return 0;
		}
	}
	return refuse(def, value, -EINVAL, "unknown word", e);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Only text that a file can hold and give back: what is set must survive config_print(). */
static int check_text(const struct option_def *def, const char *value, struct err *e)
{
	size_t len = strlen(value);

	if (len >= CONFIG_STRING_BYTES)
		return refuse(def, value, -ERANGE, "too long", e);
	if (len > 0 && (is_blank(value[0]) || is_blank(value[len - 1])))
		return refuse(def, value, -EINVAL, "blanks around it", e);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)value[i];

		if (c < 0x20 || c == 0x7f)
			return refuse(def, "...", -EINVAL, "control character in it", e);
		if (c == ';' && (i == 0 || is_blank(value[i - 1])))
			return refuse(def, value, -EINVAL, "a comment in it", e);
	}
	return 0;
}

static int set_string(const struct option_def *def, const char *value, char *ret_string,
		      struct err *e)
{
	int r = check_text(def, value, e);

	if (r < 0)
		return r;
	memset(ret_string, 0, CONFIG_STRING_BYTES);
	memcpy(ret_string, value, strlen(value));
	return 0;
}

static int add_item(const struct option_def *def, const char *value, struct config_list *list,
		    struct err *e)
{
	int r;

	if (value[0] == '\0')
		return refuse(def, value, -EINVAL, "empty", e);
	if (list->count == CONFIG_LIST_MAX)
		return refuse(def, value, -ERANGE, "too many of them", e);
	r = set_string(def, value, list->item[list->count], e);
	if (r < 0)
		return r;
	list->count++;
	return 0;
}

static int set_value(struct config *config, const struct option_def *def, const char *value,
		     struct err *e)
{
	switch (def->type) {
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_TIME:
		return set_number(def, value, member(config, def), e);
	case OPTION_ENUM:
		return set_enum(def, value, member(config, def), e);
	case OPTION_STRING:
		return set_string(def, value, member(config, def), e);
	case OPTION_STRLIST:
		return add_item(def, value, member(config, def), e);
	}
	return -EINVAL;
}

int config_set(struct config *config, const char *section, const char *key, const char *value,
	       struct err *e)
{
	const struct option_def *def = config_option_find(section, key);

	if (def == NULL)
		return err_set(e, -EINVAL, "[" GIVEN "] " GIVEN ": unknown key", section, key);
	return set_value(config, def, value, e);
}

void config_defaults(struct config *ret_config)
{
	size_t count;
	const struct option_def *defs = config_options(&count);

	memset(ret_config, 0, sizeof(*ret_config));
	for (size_t i = 0; i < count; i++) {
		if (defs[i].type != OPTION_STRLIST)
			ASSERT(set_value(ret_config, &defs[i], defs[i].default_text, NULL) == 0);
	}
}

/* ---- rules between keys ---- */

int config_dir_parse(const char *item, char *ret_path, uint64_t *ret_size_bytes)
{
	const char *colon = strrchr(item, ':');
	uint64_t size_bytes;
	size_t len;

	if (colon == NULL || colon == item)
		return -EINVAL;
	len = (size_t)(colon - item);
	if (len >= CONFIG_STRING_BYTES || size_parse(colon + 1, &size_bytes) < 0)
		return -EINVAL;
	memcpy(ret_path, item, len);
	ret_path[len] = '\0';
	*ret_size_bytes = size_bytes;
	return 0;
}

static int check_dirs(const struct config *config, uint64_t *ret_sum_bytes, struct err *e)
{
	const struct config_list *dirs = &config->cache.dir;
	uint64_t min_bytes = SCOS_MIN * config->pool.sco_size_bytes;
	char path[CONFIG_LIST_MAX][CONFIG_STRING_BYTES];
	uint64_t size_bytes, sum_bytes = 0;

	ASSERT(dirs->count <= CONFIG_LIST_MAX);
	for (uint32_t i = 0; i < dirs->count; i++) {
		if (config_dir_parse(dirs->item[i], path[i], &size_bytes) < 0)
			return err_set(e, -EINVAL, "[cache] dir = '" GIVEN "': expected PATH:SIZE",
				       dirs->item[i]);
		for (uint32_t j = 0; j < i; j++) {
			if (strcmp(path[i], path[j]) == 0)
				return err_set(e, -EINVAL, "[cache] dir = '" GIVEN "': given twice",
					       dirs->item[i]);
		}
		if (size_bytes < min_bytes)
			return err_set(e, -EINVAL,
				       "[cache] dir = '" GIVEN "': less than %d times [pool] "
				       "sco_size",
				       dirs->item[i], SCOS_MIN);
		if (__builtin_add_overflow(sum_bytes, size_bytes, &sum_bytes))
			return err_set(e, -EINVAL, "[cache] dir: sizes add up to too much");
	}
	*ret_sum_bytes = sum_bytes;
	return 0;
}

int config_check(const struct config *config, struct err *e)
{
	uint64_t min_bytes = SCOS_MIN * config->pool.sco_size_bytes;
	uint64_t cache_bytes;
	int r;

	r = check_dirs(config, &cache_bytes, e);
	if (r < 0)
		return r;
	if (config->pool.capacity_bytes != 0 && config->pool.capacity_bytes < min_bytes)
		return err_set(e, -EINVAL, "[pool] capacity: less than %d times [pool] sco_size",
			       SCOS_MIN);
	if (config->cache.dirty_limit_bytes != 0 && config->cache.dirty_limit_bytes < min_bytes)
		return err_set(e, -EINVAL,
			       "[cache] dirty_limit: less than %d times [pool] sco_size", SCOS_MIN);
	/* Without dir the cache is as large as its disk, which only the mount knows. */
	if (config->cache.dir.count > 0 && config->cache.dirty_limit_bytes > cache_bytes)
		return err_set(e, -EINVAL,
			       "[cache] dirty_limit: more than all of [cache] dir together");
	if (config->cache.dir.count > 0 && config->cache.reserve_bytes >= cache_bytes)
		return err_set(e, -EINVAL,
			       "[cache] reserve: not less than all of [cache] dir together");
	if ((config->cache.fetch_min_bytes & (config->cache.fetch_min_bytes - 1)) != 0)
		return err_set(e, -EINVAL, "[cache] fetch_min: not a power of two");
	if (config->cache.checkpoint_interval_ns < config->cache.flush_interval_ns)
		return err_set(e, -EINVAL,
			       "[cache] checkpoint_interval: shorter than [cache] flush_interval");
	return 0;
}

/* ---- values ---- */

static void list_format(const struct config_list *list, char text[CONFIG_STRING_BYTES])
{
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < list->count && len < CONFIG_STRING_BYTES; i++)
		len += (size_t)snprintf(text + len, CONFIG_STRING_BYTES - len, "%s%s",
					i > 0 ? ", " : "", list->item[i]);
}

const char *config_value(const struct config *config, const struct option_def *def,
			 char text[CONFIG_STRING_BYTES])
{
	const void *at = member_const(config, def);
	char number[UNITS_TEXT_BYTES];
	const char *value = "";
	unsigned int word;

	switch (def->type) {
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_TIME:
		value = number_format(def, *(const uint64_t *)at, number);
		break;
	case OPTION_ENUM:
		memcpy(&word, at, sizeof(word));
		value = def->enum_names[word];
		break;
	case OPTION_STRING:
		value = at;
		break;
	case OPTION_STRLIST:
		list_format(at, text);
		return text;
	}
	(void)snprintf(text, CONFIG_STRING_BYTES, "%s", value);
	return text;
}

static size_t member_bytes(const struct option_def *def)
{
	switch (def->type) {
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_TIME:
		return sizeof(uint64_t);
	case OPTION_ENUM:
		return sizeof(unsigned int);
	case OPTION_STRING:
		return CONFIG_STRING_BYTES;
	case OPTION_STRLIST:
		return sizeof(struct config_list);
	}
	return 0;
}

/* What is behind the end of a string, or of a list, is zero in both: see set_string(). */
bool config_is_same(const struct config *a, const struct config *b, const struct option_def *def)
{
	return memcmp(member_const(a, def), member_const(b, def), member_bytes(def)) == 0;
}

void config_take(struct config *config, const struct config *from, const struct option_def *def)
{
	memcpy(member(config, def), member_const(from, def), member_bytes(def));
}

/* ---- printing ---- */

#define PRINT_COLUMNS 90

/* Prose as comment lines, broken between words. */
static void print_comment(FILE *out, const char *prose)
{
	size_t column = 0;

	while (*prose != '\0') {
		size_t len = strcspn(prose, " ");

		if (column > 0 && column + 1 + len > PRINT_COLUMNS) {
			(void)fputc('\n', out);
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%.*s", column == 0 ? "# " : " ", (int)len, prose);
		prose += len;
		prose += strspn(prose, " ");
	}
	(void)fputc('\n', out);
}

static void print_key(FILE *out, const struct option_def *def, const char *value)
{
	(void)fprintf(out, "%s =%s%s\n", def->key, value[0] != '\0' ? " " : "", value);
}

static void print_list(FILE *out, const struct option_def *def, const struct config_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		print_key(out, def, list->item[i]);
	if (list->count == 0)
		(void)fprintf(out, "# %s =\n", def->key);
}

static void print_value(FILE *out, const struct config *config, const struct option_def *def)
{
	char text[CONFIG_STRING_BYTES];

	if (def->type == OPTION_STRLIST)
		print_list(out, def, member_const(config, def));
	else
		print_key(out, def, config_value(config, def, text));
}

static void print_limits(FILE *out, const struct option_def *def)
{
	char range[RANGE_TEXT_BYTES];
	char text[RANGE_TEXT_BYTES + 256]; /* defaults are ours, and shorter */

	(void)snprintf(text, sizeof(text), "Range: %s. Default: %s. Change: %s.",
		       range_format(def, range),
		       def->default_text[0] != '\0' ? def->default_text : "empty",
		       def->live ? "at once" : "at the next mount");
	print_comment(out, text);
}

int config_print(FILE *out, const struct config *config)
{
	const char *section = "";
	size_t count;
	const struct option_def *defs = config_options(&count);

	for (size_t i = 0; i < count; i++) {
		const struct option_def *def = &defs[i];

		if (strcmp(section, def->section) != 0)
			(void)fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", def->section);
		section = def->section;
		(void)fputc('\n', out);
		print_comment(out, def->prose);
		print_limits(out, def);
		print_value(out, config, def);
	}
	/* One look at the end: the stream remembers. */
	return fflush(out) != 0 || ferror(out) ? -EIO : 0;
}
