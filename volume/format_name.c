/*
 * format_name - names of objects on the backend and of cache files (FORMAT.md section 9.4).
 *
 * Every number has a fixed width, so that a listing by name is a listing by number.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "volume/format_impl.h"

#define STREAM_DIGITS  8u
#define SCO_DIGITS     9u
#define VERSION_DIGITS 8u
#define PIECE_DIGITS   8u
#define LONG_DIGITS    16u

/* The widths above, spelt out for printf. */
#define STREAM_HEX  "%08" PRIx32
#define SCO_HEX	    "%09" PRIx64
#define VERSION_HEX "%08" PRIx32
#define PIECE_HEX   "%08" PRIx32
#define LONG_HEX    "%016" PRIx64

PRINTF_LIKE(3, 4)
static void name_print(char *ret_name, size_t size_bytes, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(ret_name, size_bytes, fmt, args);
	va_end(args);
	ASSERT(len > 0 && (size_t)len < size_bytes);
}

void object_name_sco(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t sco,
		     uint32_t version, uint64_t epoch)
{
	ASSERT(sco_number_is_sound(sco));
	name_print(ret_name, OBJECT_NAME_MAX + 1,
		   STREAM_HEX "/sco/" SCO_HEX "-" VERSION_HEX "-" LONG_HEX, stream, sco, version,
		   epoch);
}

void object_name_manifest(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
			  uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, STREAM_HEX "/manifest/" LONG_HEX "-" LONG_HEX,
		   stream, root, epoch);
}

void object_name_map(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
		     uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, STREAM_HEX "/map/" LONG_HEX "-" LONG_HEX, stream,
		   root, epoch);
}

void object_name_map_piece(char ret_name[OBJECT_NAME_MAX + 1], uint32_t stream, uint64_t root,
			   uint32_t number, uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1,
		   STREAM_HEX "/piece/" LONG_HEX "-" PIECE_HEX "-" LONG_HEX, stream, root, number,
		   epoch);
}

void object_name_namespace(char ret_name[OBJECT_NAME_MAX + 1], uint64_t root, uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, "ns/" LONG_HEX "-" LONG_HEX, root, epoch);
}

void object_name_root(char ret_name[OBJECT_NAME_MAX + 1], uint64_t root, uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, "root/" LONG_HEX "-" LONG_HEX, epoch, root);
}

void object_name_pack(char ret_name[OBJECT_NAME_MAX + 1], uint64_t number, uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, "pack/" LONG_HEX "-" LONG_HEX, number, epoch);
}

void object_name_epoch(char ret_name[OBJECT_NAME_MAX + 1], uint64_t epoch)
{
	name_print(ret_name, OBJECT_NAME_MAX + 1, "epoch/" LONG_HEX, epoch);
}

void sco_file_name(char ret_name[SCO_FILE_NAME_MAX + 1], uint32_t stream, uint64_t sco,
		   uint32_t version)
{
	ASSERT(stream != 0 && sco_number_is_sound(sco));
	name_print(ret_name, SCO_FILE_NAME_MAX + 1, STREAM_HEX "-" SCO_HEX "-" VERSION_HEX, stream,
		   sco, version);
}

/* Exactly so many lower-case digits, then end; NULL, or what is behind end (never behind NUL). */
static const char *hex_field(const char *p, unsigned int digits, char end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (; digits > 0; digits--, p++) {
		if (*p >= '0' && *p <= '9')
			value = value << 4 | (uint64_t)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			value = value << 4 | (uint64_t)(*p - 'a' + 10);
		else
			return NULL;
	}
	if (*p != end)
		return NULL;
	*ret_value = value;
	return end == '\0' ? p : p + 1;
}

int sco_file_name_parse(const char *name, uint32_t *ret_stream, uint64_t *ret_sco,
			uint32_t *ret_version)
{
	uint64_t stream, sco, version;
	const char *p;

	p = hex_field(name, STREAM_DIGITS, '-', &stream);
	if (p != NULL)
		p = hex_field(p, SCO_DIGITS, '-', &sco);
	if (p != NULL)
		p = hex_field(p, VERSION_DIGITS, '\0', &version);
	if (p == NULL || stream == 0 || sco == 0)
		return -EINVAL;
	*ret_stream = (uint32_t)stream;
	*ret_sco = sco;
	*ret_version = (uint32_t)version;
	return 0;
}

/* What stands behind a prefix; NULL: it is not there. */
static const char *behind(const char *p, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(p, prefix, len) == 0 ? p + len : NULL;
}

/* "<number>-<epoch>" to the end. */
static bool numbers_parse(const char *p, uint64_t *ret_number, uint64_t *ret_epoch)
{
	p = hex_field(p, LONG_DIGITS, '-', ret_number);
	return p != NULL && hex_field(p, LONG_DIGITS, '\0', ret_epoch) != NULL;
}

/* Behind "<stream>/". */
static bool stream_name_parse(const char *name, struct object_name *n)
{
	uint64_t version = 0;
	const char *p;

	p = behind(name, "sco/");
	if (p != NULL) {
		n->kind = NAME_SCO;
		p = hex_field(p, SCO_DIGITS, '-', &n->number);
		p = p != NULL ? hex_field(p, VERSION_DIGITS, '-', &version) : NULL;
		n->version = (uint32_t)version;
		return p != NULL && hex_field(p, LONG_DIGITS, '\0', &n->epoch) != NULL &&
		       sco_number_is_sound(n->number);
	}
	p = behind(name, "piece/");
	if (p != NULL) {
		n->kind = NAME_PIECE;
		p = hex_field(p, LONG_DIGITS, '-', &n->number);
		p = p != NULL ? hex_field(p, PIECE_DIGITS, '-', &version) : NULL;
		n->version = (uint32_t)version;
		return p != NULL && hex_field(p, LONG_DIGITS, '\0', &n->epoch) != NULL;
	}
	p = behind(name, "map/");
	n->kind = p != NULL ? NAME_MAP : NAME_MANIFEST;
	if (p == NULL)
		p = behind(name, "manifest/");
	return p != NULL && numbers_parse(p, &n->number, &n->epoch);
}

int object_name_parse(const char *name, struct object_name *ret_name)
{
	struct object_name n = { .kind = NAME_EPOCH };
	uint64_t stream;
	const char *p;
	bool ok;

	if ((p = behind(name, "epoch/")) != NULL) {
		ok = hex_field(p, LONG_DIGITS, '\0', &n.epoch) != NULL;
	} else if ((p = behind(name, "root/")) != NULL) {
		n.kind = NAME_ROOT;
		ok = numbers_parse(p, &n.epoch, &n.number);
	} else if ((p = behind(name, "ns/")) != NULL) {
		n.kind = NAME_NAMESPACE;
		ok = numbers_parse(p, &n.number, &n.epoch);
	} else if ((p = behind(name, "pack/")) != NULL) {
		n.kind = NAME_PACK;
		ok = numbers_parse(p, &n.number, &n.epoch);
	} else {
		p = hex_field(name, STREAM_DIGITS, '/', &stream);
		ok = p != NULL && stream != 0 && stream_name_parse(p, &n);
		n.stream = ok ? (uint32_t)stream : 0;
	}
	if (!ok)
		return -EINVAL;
	*ret_name = n;
	return 0;
}
