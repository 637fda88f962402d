/* backend_s3_url - s3://bucket/prefix?option=value&... into a configuration. */
#include "backend/backend_s3.h"

#include "common/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKET_BYTES_MIN   3u
#define BUCKET_BYTES_MAX   63u
#define VALUE_BYTES_MAX	   1024u
#define PART_BYTES_DEFAULT ((uint64_t)32 << 20)
#define REGION_DEFAULT	   "us-east-1"

/* The values of the options, each NULL or on the heap. */
struct options {
	char *endpoint, *region, *style, *ca_file, *credentials, *profile, *part_size;
};

static const struct {
	const char *name;
	size_t at;
} option_names[] = {
	{ "endpoint", offsetof(struct options, endpoint) },
	{ "region", offsetof(struct options, region) },
	{ "style", offsetof(struct options, style) },
	{ "ca_file", offsetof(struct options, ca_file) },
	{ "credentials", offsetof(struct options, credentials) },
	{ "profile", offsetof(struct options, profile) },
	{ "part_size", offsetof(struct options, part_size) },
};

static char **option_at(struct options *o, size_t i)
{
	return (char **)(void *)((char *)o + option_names[i].at);
}

static void options_done(struct options *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_names); i++)
		free(*option_at(o, i));
}

/* Undo %XX. Errors: -EINVAL a bad one, or a character that has no business in a value. */
static int unescape(const char *text, size_t len_bytes, char **ret_value)
{
	char *value = strndup(text, len_bytes);
	int r = value ? http_unescape(value, false) : -ENOMEM;

	for (const char *c = value; r == 0 && *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			r = -EINVAL;
	}
	if (r < 0)
		free(value);
	else
		*ret_value = value;
	return r;
}

static int take_option(struct options *o, const char *text, size_t len_bytes, struct err *e)
{
	const char *equals = memchr(text, '=', len_bytes);
	size_t name_bytes = equals ? (size_t)(equals - text) : len_bytes;

	for (size_t i = 0; i < ARRAY_SIZE(option_names); i++) {
		const char *name = option_names[i].name;
		char **value = option_at(o, i);
		size_t value_bytes = equals ? len_bytes - name_bytes - 1 : 0;
		int r;

		if (strlen(name) != name_bytes || memcmp(name, text, name_bytes) != 0)
			continue;
		if (*value || value_bytes == 0 || value_bytes > VALUE_BYTES_MAX)
			return err_set(e, -EINVAL,
				       "s3: URL: option '%s' is empty, too long or "
				       "there twice",
				       name);
		r = unescape(equals + 1, value_bytes, value);
		return r < 0 ? err_set(e, r, "s3: URL: option '%s' has a bad value", name) : 0;
	}
	/* Its text is not shown: it may be a secret that somebody tried to pass. */
	return err_set(e, -EINVAL,
		       "s3: URL: unknown option; there are endpoint, region, style, ca_file, "
		       "credentials (a file), profile and part_size");
}

static int parse_options(const char *text, struct options *o, struct err *e)
{
	while (*text != '\0') {
		size_t len_bytes = strcspn(text, "&");
		int r = len_bytes > 0 ? take_option(o, text, len_bytes, e) : 0;

		if (r < 0)
			return r;
		text += len_bytes;
		text += *text == '&';
	}
	return 0;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* What is safe in a host name, too, with '.' between parts that are not empty. */
static int check_bucket(const char *bucket, size_t len_bytes, struct err *e)
{
	bool ok = len_bytes >= BUCKET_BYTES_MIN && len_bytes <= BUCKET_BYTES_MAX &&
		  is_alnum(bucket[0]) && is_alnum(bucket[len_bytes - 1]);

	for (size_t i = 0; ok && i < len_bytes; i++)
		ok = is_alnum(bucket[i]) || bucket[i] == '-' ||
		     (bucket[i] == '.' && bucket[i + 1] != '.');
	return ok ? 0 :
		    err_set(e, -EINVAL,
			    "s3: URL: a bucket has 3 to 63 of a-z, 0-9, '-' and '.': expected "
			    "like 's3://bucket/prefix?endpoint=https://host'");
}

/* "prefix" or "prefix/" becomes "prefix/". */
static int take_prefix(const char *text, size_t len_bytes, char **ret_prefix, struct err *e)
{
	char *prefix = NULL;
	int r;

	while (len_bytes > 0 && text[len_bytes - 1] == '/')
		len_bytes--;
	r = unescape(text, len_bytes, &prefix);
	if (r < 0)
		return err_set(e, r, "s3: URL: the prefix has bad characters");
	if (strlen(prefix) > S3_PREFIX_BYTES_MAX - 1)
		r = err_set(e, -EINVAL, "s3: URL: the prefix has more than %u bytes",
			    S3_PREFIX_BYTES_MAX - 1);
	else if (*prefix != '\0' && backend_check_name(prefix, e) < 0)
		r = err_wrap(e, -EINVAL, "s3: URL: prefix");
	else if (asprintf(ret_prefix, "%s%s", prefix, *prefix != '\0' ? "/" : "") < 0)
		r = err_set(e, -ENOMEM, "s3: URL");
	free(prefix);
	return r;
}

/* "//bucket/prefix", of which len_bytes come before the options. */
static int take_place(struct s3_config *c, const char *rest, size_t len_bytes, struct err *e)
{
	const char *bucket = rest + 2, *slash;
	size_t bucket_bytes;
	int r;

	if (len_bytes < 2 || memcmp(rest, "//", 2) != 0)
		return err_set(e, -EINVAL, "s3: URL: expected like 's3://bucket/prefix'");
	if (memchr(rest, '@', len_bytes))
		return err_set(e, -EINVAL,
			       "s3: URL: keys do not belong into a URL: put them into a file "
			       "and add '?credentials=FILE', or set AWS_ACCESS_KEY_ID and "
			       "AWS_SECRET_ACCESS_KEY");
	slash = memchr(bucket, '/', len_bytes - 2);
	bucket_bytes = slash ? (size_t)(slash - bucket) : len_bytes - 2;
	r = check_bucket(bucket, bucket_bytes, e);
	if (r < 0)
		return r;
	c->bucket = strndup(bucket, bucket_bytes);
	if (!c->bucket)
		return err_set(e, -ENOMEM, "s3: URL");
	if (!slash)
		return take_prefix("", 0, &c->prefix, e);
	return take_prefix(slash + 1, len_bytes - 2 - bucket_bytes - 1, &c->prefix, e);
}

static int check_region(const char *region, struct err *e)
{
	if (*region == '\0' ||
	    strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region) ||
	    strlen(region) >= S3_CODE_BYTES)
		return err_set(e, -EINVAL, "s3: URL: a region has only a-z, 0-9 and '-'");
	return 0;
}

static int take_region(struct s3_config *c, struct options *o, struct err *e)
{
	const char *region = o->region;

	if (!region)
		region = getenv("AWS_REGION");
	if (!region || *region == '\0')
		region = getenv("AWS_DEFAULT_REGION");
	if (!region || *region == '\0')
		region = REGION_DEFAULT;
	c->region = strdup(region);
	return c->region ? check_region(region, e) : err_set(e, -ENOMEM, "s3: URL");
}

/* "http://host:port", split behind "//"; anything more is refused. */
static int split_endpoint(const char *endpoint, size_t *ret_scheme_bytes, size_t *ret_host_bytes,
			  struct err *e)
{
	size_t scheme_bytes = strncmp(endpoint, "https://", 8) == 0 ? 8 :
			      strncmp(endpoint, "http://", 7) == 0  ? 7 :
								      0;
	const char *host = endpoint + scheme_bytes;
	size_t host_bytes = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789.-:[]_");

	if (scheme_bytes == 0 || host_bytes == 0 ||
	    (host[host_bytes] != '\0' && strcmp(host + host_bytes, "/") != 0))
		return err_set(e, -EINVAL,
			       "s3: URL: endpoint is not like 'https://host' or "
			       "'http://host:port'");
	*ret_scheme_bytes = scheme_bytes;
	*ret_host_bytes = host_bytes;
	return 0;
}

static int take_endpoint(struct s3_config *c, struct options *o, struct err *e)
{
	size_t scheme_bytes = 0, host_bytes = 0;
	const char *dot = "", *bucket = "";
	char *amazon = NULL;
	const char *endpoint = o->endpoint;
	int r;

	if (!endpoint && asprintf(&amazon, "https://s3.%s.amazonaws.com", c->region) < 0)
		return err_set(e, -ENOMEM, "s3: URL");
	if (!endpoint)
		endpoint = amazon;
	r = split_endpoint(endpoint, &scheme_bytes, &host_bytes, e);
	if (r == 0 && !c->is_path_style) {
		bucket = c->bucket;
		dot = ".";
	}
	if (r == 0 && (asprintf(&c->host, "%s%s%.*s", bucket, dot, (int)host_bytes,
				endpoint + scheme_bytes) < 0 ||
		       asprintf(&c->endpoint, "%.*s%s", (int)scheme_bytes, endpoint, c->host) < 0))
		r = err_set(e, -ENOMEM, "s3: URL");
	free(amazon);
	return r;
}

static int take_style(struct s3_config *c, const struct options *o, struct err *e)
{
	/* Amazon wants the one, most others have no names in DNS for the other. */
	if (!o->style)
		c->is_path_style = o->endpoint != NULL;
	else if (strcmp(o->style, "path") == 0 || strcmp(o->style, "virtual") == 0)
		c->is_path_style = o->style[0] == 'p';
	else
		return err_set(e, -EINVAL, "s3: URL: style is path or virtual");
	return 0;
}

static int take_part_size(struct s3_config *c, const struct options *o, struct err *e)
{
	c->part_bytes = PART_BYTES_DEFAULT;
	if (o->part_size &&
	    (size_parse(o->part_size, &c->part_bytes) < 0 || c->part_bytes < S3_PART_BYTES_MIN ||
	     c->part_bytes > S3_PART_BYTES_MAX || c->part_bytes % ((uint64_t)1 << 20) != 0))
		return err_set(e, -EINVAL, "s3: URL: part_size is 5MiB to 4GiB, in whole MiB");
	return 0;
}

int s3_config_parse(const char *rest, struct s3_config *ret_config, struct err *e)
{
	size_t place_bytes = strcspn(rest, "?#");
	struct options o = { .endpoint = NULL };
	struct s3_config c = { .endpoint = NULL };
	int r = rest[place_bytes] == '#' ? err_set(e, -EINVAL, "s3: URL: '#' is not possible") : 0;

	if (r == 0)
		r = take_place(&c, rest, place_bytes, e);
	if (r == 0 && rest[place_bytes] == '?')
		r = parse_options(rest + place_bytes + 1, &o, e);
	if (r == 0)
		r = take_region(&c, &o, e);
	if (r == 0)
		r = take_style(&c, &o, e);
	if (r == 0)
		r = take_part_size(&c, &o, e);
	if (r == 0)
		r = take_endpoint(&c, &o, e);
	c.ca_file = TAKE_PTR(o.ca_file);
	c.credentials = TAKE_PTR(o.credentials);
	c.profile = TAKE_PTR(o.profile);
	options_done(&o);
	if (r < 0)
		s3_config_done(&c);
	else
		*ret_config = c;
	return r;
}

void s3_config_done(struct s3_config *c)
{
	free(c->endpoint);
	free(c->host);
	free(c->bucket);
	free(c->prefix);
	free(c->region);
	free(c->ca_file);
	free(c->credentials);
	free(c->profile);
	*c = (struct s3_config){ .endpoint = NULL };
}
