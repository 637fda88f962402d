#include "fs/cli.h"

#include "fs/json_out.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- errors ------------------------------------------------------------------------------------ */

enum cli_exit cli_exit_of(int code)
{
	switch (-code) {
	case 0:
		return CLI_DONE;
	case ENOENT:
		return CLI_NOT_FOUND;
	case EBUSY:
		return CLI_BUSY;
	case EBADMSG:
	case EUCLEAN:
		return CLI_DAMAGED;
	default:
		return CLI_FAILED;
	}
}

static int tell(const struct cli *c, enum cli_exit exit, const char *hint, const char *message)
{
	json_t *document;

	if (c->json) {
		document = json_out_error(message, (int)exit, hint);
		if (document && cli_print_json(c, document) == CLI_DONE)
			return (int)exit;
	}
	(void)fprintf(stderr, "vpool: %s%s%s%s\n", message, hint ? " (" : "", hint ? hint : "",
		      hint ? ")" : "");
	return (int)exit;
}

int cli_fail(const struct cli *c, enum cli_exit exit, const char *hint, const char *fmt, ...)
{
	char *text = NULL, *shown = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		shown = cli_printable(text, strlen(text)); /* one line, whatever is in a name */
	r = tell(c, exit, hint, shown ? shown : "out of memory");
	free(shown);
	free(text);
	return r;
}

int cli_fail_err(const struct cli *c, int code, const struct err *e, const char *hint,
		 const char *what)
{
	const char *why = e->message[0] ? e->message : err_name(code);

	/* Messages of lower layers mostly end with the reason; where the reason is all there is to
	 * say it is said once. */
	return cli_fail(c, cli_exit_of(code), hint, "%s: %s", what, why);
}

int cli_fail_document(const struct cli *c, const char *what, json_t *document)
{
	const char *message = cli_json_string(document, "error");
	const char *hint = cli_json_string(document, "hint");
	uint64_t code = cli_json_u64(document, "code");

	return cli_fail(c,
			code >= CLI_FAILED && code <= CLI_DAMAGED ? (enum cli_exit)code :
								    CLI_FAILED,
			hint[0] ? hint : NULL, "%s: %s", what,
			message[0] ? message : "the daemon gave no reason");
}

/* --- output ------------------------------------------------------------------------------------ */

/* A name was printed as "?", for want of memory. */
static bool incomplete;

int cli_finish_output(const struct cli *c)
{
	if (incomplete) {
		(void)fprintf(stderr, "vpool: %s: not all of the result is told: %s\n",
			      c->verb ? c->verb->name : "output", err_name(-ENOMEM));
		return CLI_FAILED;
	}
	if (fflush(stdout) == 0 && !ferror(stdout))
		return CLI_DONE;
	(void)fprintf(stderr, "vpool: %s: writing the result: %s\n",
		      c->verb ? c->verb->name : "output", err_name(-errno));
	return CLI_FAILED;
}

int cli_print_json(const struct cli *c, json_t *document)
{
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	json_decref(document);
	if (!text) {
		(void)fprintf(stderr, "vpool: output: %s\n", err_name(-ENOMEM));
		return CLI_FAILED;
	}
	(void)puts(text);
	free(text);
	return cli_finish_output(c);
}

const char *cli_size(uint64_t bytes, char text[CLI_SIZE_BYTES])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(text, CLI_SIZE_BYTES, "%u B", (unsigned int)bytes);
		return text;
	}
	/* 1023.95 would be rounded up to 1024.0. */
	for (value /= 1024; value >= 1023.95 && unit + 1 < ARRAY_SIZE(units); unit++)
		value /= 1024;
	(void)snprintf(text, CLI_SIZE_BYTES, "%.1f %s", value, units[unit]);
	return text;
}

const char *cli_seconds(double seconds, char text[CLI_SIZE_BYTES])
{
	if (seconds < 0.001)
		(void)snprintf(text, CLI_SIZE_BYTES, "%.1f us", seconds * 1e6);
	else if (seconds < 1)
		(void)snprintf(text, CLI_SIZE_BYTES, "%.1f ms", seconds * 1e3);
	else
		(void)snprintf(text, CLI_SIZE_BYTES, "%.1f s", seconds);
	return text;
}

const char *cli_time(double seconds, char text[CLI_TIME_BYTES])
{
	time_t whole = (time_t)seconds;
	struct tm tm;

	if (!localtime_r(&whole, &tm) ||
	    strftime(text, CLI_TIME_BYTES, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(text, CLI_TIME_BYTES, "?");
	return text;
}

char *cli_printable(const char *name, size_t len_bytes)
{
	char *text = malloc(4 * len_bytes + 1);
	size_t out = 0;

	if (!text) {
		incomplete = true;
		return NULL;
	}
	for (size_t i = 0; i < len_bytes;) {
		size_t n = json_out_utf8_length(name + i, len_bytes - i);
		unsigned char byte = (unsigned char)name[i];

		if (n == 0 || byte < 0x20 || byte == 0x7f) {
			out += (size_t)snprintf(text + out, 5, "\\x%02x", byte);
			i++;
			continue;
		}
		memcpy(text + out, name + i, n);
		out += n;
		i += n;
	}
	text[out] = '\0';
	return text;
}

/* Value of a hexadecimal digit that json_out_name() wrote. */
static unsigned int digit(char c)
{
	return (unsigned int)(c >= 'a' ? c - 'a' + 10 : c - '0') & 0xfu;
}

char *cli_json_printable(const json_t *document, const char *key)
{
	char hex_key[64], *bytes, *shown;
	const char *text = cli_json_string(document, key);
	const char *hex;
	size_t len;

	(void)snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
	hex = cli_json_string(document, hex_key);
	len = strlen(hex) / 2;
	if (len == 0)
		return cli_printable(text, strlen(text));
	bytes = malloc(len);
	incomplete |= !bytes;
	for (size_t i = 0; bytes && i < len; i++)
		bytes[i] = (char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	shown = bytes ? cli_printable(bytes, len) : NULL;
	free(bytes);
	return shown;
}

uint64_t cli_json_u64(const json_t *document, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(document, key));

	return value > 0 ? (uint64_t)value : 0;
}

const char *cli_json_string(const json_t *document, const char *key)
{
	const char *text = json_string_value(json_object_get(document, key));

	return text ? text : "";
}
