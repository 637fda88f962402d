/*
 * json_out - pieces of the documents that the command and the daemon give out.
 *
 * Numbers are numbers, in bytes and seconds. JSON text is UTF-8: a name that is not gets U+FFFD for
 * each byte that does not fit, and beside it the exact bytes in hexadecimal, under KEY_hex.
 */
#ifndef FS_JSON_OUT_H
#define FS_JSON_OUT_H

#include "common/base.h"

#include <jansson.h>

struct metrics_registry;

/* {"error", "code", "hint"}; hint may be NULL. NULL: no memory. Owns: the result. */
json_t *json_out_error(const char *message, int code, const char *hint);

/* Set document[key] to the name, and document[key_hex] where it is not UTF-8. Errors: -ENOMEM. */
NODISCARD int json_out_name(json_t *document, const char *key, const char *name, size_t len_bytes);

/*
 * The exact bytes of a name that json_out_name() set, into text, with a NUL.
 * Errors:   -ENOENT there is none; -ENAMETOOLONG no room; -EINVAL not hexadecimal, or a NUL in it.
 */
NODISCARD int json_out_name_back(const json_t *document, const char *key, char *text,
				 size_t text_bytes);

/* Set document[key]; 63 bits are enough for all that we count. Errors: -ENOMEM. */
NODISCARD int json_out_u64(json_t *document, const char *key, uint64_t value);

/*
 * (*document)[key] = value, or no document any more: half of a request could ask for something else. A
 * document that is NULL stays so. Owns: both.
 */
void json_out_set(json_t **document, const char *key, json_t *value);

/* {"counters":{}, "gauges":{}, "histograms":{NAME:{count,p50,p99,p999,max}}}, names GROUP.NAME, times
 * in seconds. NULL: no memory. Owns: the result. */
json_t *json_out_metrics(struct metrics_registry *registry);

/* Bytes of the UTF-8 character that text starts with; 0: it starts with none. */
size_t json_out_utf8_length(const char *text, size_t len_bytes);

#endif
