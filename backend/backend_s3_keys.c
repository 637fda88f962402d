/*
 * backend_s3_keys - credentials of Amazon's conventions: a file of sections "[profile]" with
 * aws_access_key_id, aws_secret_access_key and aws_session_token, or variables of the environment.
 *
 * A file must belong to us or to root, and nobody else may read it.
 */
#include "backend/backend_s3.h"
#include "backend/secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_BYTES_MAX	((size_t)64 << 10)
#define PAGE_ALIGN	4096u
#define KEYS_BYTES	((sizeof(struct s3_keys) + PAGE_ALIGN - 1) / PAGE_ALIGN * PAGE_ALIGN)
#define PROFILE_DEFAULT "default"

static struct s3_keys *keys_new(void)
{
	struct s3_keys *keys =
		mmap(NULL, KEYS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (keys == MAP_FAILED)
		return NULL;
	(void)madvise(keys, KEYS_BYTES, MADV_DONTDUMP); /* a kernel without it dumps more */
	return keys;
}

void s3_keys_free(struct s3_keys *keys)
{
	if (!keys)
		return;
	explicit_bzero(keys, sizeof(*keys));
	(void)munmap(keys, KEYS_BYTES);
}

/* Printable, as it goes into a header. */
static int set(char *place, size_t bytes_max, const char *value)
{
	size_t len_bytes = strlen(value);

	if (len_bytes > bytes_max)
		return -EINVAL;
	for (size_t i = 0; i < len_bytes; i++) {
		if (value[i] <= ' ' || value[i] > '~')
			return -EINVAL;
	}
	memcpy(place, value, len_bytes + 1);
	return 0;
}

static int set_all(struct s3_keys *keys, const char *access, const char *secret, const char *token)
{
	int r = set(keys->access, S3_ACCESS_BYTES_MAX, access);

	if (r == 0)
		r = set(keys->secret, S3_SECRET_BYTES_MAX, secret);
	if (r == 0)
		r = set(keys->token, S3_TOKEN_BYTES_MAX, token ? token : "");
	return r;
}

/* ---- of a file ----------------------------------------------------------------------------- */

/*
 * Lines "[profile]" and "name = value"; '#' and ';' begin a comment at the start of a line only. Not
 * by inih, whose longest line is a global of the process, and shorter than a token.
 */
struct section {
	struct s3_keys *keys;
	const char *profile;
	bool inside, found;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Without the blanks around; ends it in place. */
static char *trim(char *text, char *end)
{
	while (end > text && is_blank(end[-1]))
		end--;
	*end = '\0';
	while (is_blank(*text))
		text++;
	return text;
}

static int take_value(struct s3_keys *keys, const char *name, const char *value)
{
	if (strcmp(name, "aws_access_key_id") == 0)
		return set(keys->access, S3_ACCESS_BYTES_MAX, value);
	if (strcmp(name, "aws_secret_access_key") == 0)
		return set(keys->secret, S3_SECRET_BYTES_MAX, value);
	if (strcmp(name, "aws_session_token") == 0)
		return set(keys->token, S3_TOKEN_BYTES_MAX, value);
	return 0; /* a region, say: the URL has it */
}

/* Errors: -EINVAL not of the form. */
static int take_line(struct section *s, char *line, char *end)
{
	char *equals;

	line = trim(line, end);
	if (*line == '\0' || *line == '#' || *line == ';')
		return 0;
	if (*line == '[') {
		end = strchr(line, ']');
		if (!end)
			return -EINVAL;
		s->inside = strcmp(trim(line + 1, end), s->profile) == 0;
		s->found |= s->inside;
		return 0;
	}
	equals = strchr(line, '=');
	if (!equals)
		return -EINVAL;
	end = equals + 1 + strlen(equals + 1);
	if (!s->inside)
		return 0;
	return take_value(s->keys, trim(line, equals), trim(equals + 1, end));
}

/* Errors: as s3_keys_load(). */
static int check_file(struct env *env, struct env_file *file, const char *path, struct err *e)
{
	struct env_stat st;
	int r = env_stat(env, file, &st);

	if (r < 0)
		return err_set(e, r, "s3: credentials '%s': %s", path, err_name(r));
	if ((st.mode & 077) != 0 || (st.uid != geteuid() && st.uid != 0))
		return err_set(e, -EACCES,
			       "s3: credentials '%s': others can read it: make it yours alone "
			       "(chmod 600)",
			       path);
	if (st.size_bytes > FILE_BYTES_MAX)
		return err_set(e, -EINVAL, "s3: credentials '%s': far too long", path);
	return 0;
}

static int read_file(struct env *env, const char *path, char *text, struct err *e)
{
	struct env_file *file = NULL;
	ssize_t n = 0;
	int r = env_open(env, path, ENV_READ, &file);

	if (r < 0)
		return err_set(e, r, "s3: credentials '%s': %s", path, err_name(r));
	r = check_file(env, file, path, e);
	if (r == 0)
		n = env_pread(env, file, text, FILE_BYTES_MAX, 0);
	env_close(env, file);
	if (n < 0)
		return err_set(e, (int)n, "s3: credentials '%s': %s", path, err_name((int)n));
	text[n] = '\0';
	return r;
}

static int parse_file(char *text, const char *path, const char *profile, struct s3_keys *keys,
		      struct err *e)
{
	struct section section = { .keys = keys, .profile = profile };
	unsigned int line_number = 1;

	for (char *line = text; *line != '\0'; line_number++) {
		char *end = strchrnul(line, '\n');
		char *next = *end != '\0' ? end + 1 : end;

		/* The number only: what stands in the line may be a secret. */
		if (take_line(&section, line, end) < 0)
			return err_set(e, -EINVAL, "s3: credentials '%s': line %u is wrong", path,
				       line_number);
		line = next;
	}
	if (!section.found)
		return err_set(e, -ENOENT, "s3: credentials '%s': has no profile '%s'", path,
			       profile);
	if (keys->access[0] == '\0' || keys->secret[0] == '\0')
		return err_set(e, -EINVAL,
			       "s3: credentials '%s': profile '%s' needs aws_access_key_id and "
			       "aws_secret_access_key",
			       path, profile);
	return 0;
}

static int load_file(struct env *env, const char *path, const char *profile, struct s3_keys *keys,
		     struct err *e)
{
	char *text = malloc(FILE_BYTES_MAX + 1);
	int r;

	if (!text)
		return err_set(e, -ENOMEM, "s3: credentials");
	if (!profile)
		profile = getenv("AWS_PROFILE");
	r = read_file(env, path, text, e);
	if (r == 0)
		r = parse_file(text, path, profile && *profile != '\0' ? profile : PROFILE_DEFAULT,
			       keys, e);
	explicit_bzero(text, FILE_BYTES_MAX + 1);
	free(text);
	return r;
}

/* ---- of wherever they are ------------------------------------------------------------------ */

static int load_home(struct env *env, const struct s3_config *config, struct s3_keys *keys,
		     struct err *e)
{
	const char *home = getenv("HOME"), *given = getenv("AWS_SHARED_CREDENTIALS_FILE");
	char *path = NULL;
	int r;

	if (asprintf(&path, "%s%s", given ? given : (home ? home : ""),
		     given ? "" : "/.aws/credentials") < 0)
		return err_set(e, -ENOMEM, "s3: credentials");
	r = load_file(env, path, config->profile, keys, e);
	if (r == -ENOENT)
		r = err_set(e, r,
			    "s3: no credentials: set AWS_ACCESS_KEY_ID and "
			    "AWS_SECRET_ACCESS_KEY, or add '?credentials=FILE' to the URL, or "
			    "write '%s' (with the profile that is meant)",
			    path);
	free(path);
	return r;
}

static int load(struct env *env, const struct s3_config *config, struct s3_keys *keys,
		struct err *e)
{
	const char *access = getenv("AWS_ACCESS_KEY_ID");
	const char *secret = getenv("AWS_SECRET_ACCESS_KEY");

	if (config->credentials)
		return load_file(env, config->credentials, config->profile, keys, e);
	/* A profile in the URL means a file: the environment has none. */
	if (config->profile || !access || !secret || *access == '\0' || *secret == '\0')
		return load_home(env, config, keys, e);
	if (set_all(keys, access, secret, getenv("AWS_SESSION_TOKEN")) < 0)
		return err_set(e, -EINVAL,
			       "s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN "
			       "is too long, or not printable");
	return 0;
}

int s3_keys_load(struct env *env, const struct s3_config *config, struct s3_keys **ret_keys,
		 struct err *e)
{
	struct s3_keys *keys = keys_new();
	int r;

	secrets_hide();
	r = keys ? load(env, config, keys, e) : err_set(e, -ENOMEM, "s3: credentials");
	if (r < 0)
		s3_keys_free(keys);
	else
		*ret_keys = keys;
	return r;
}
