/*
 * backend_s3_xml - answers of the store, by libexpat: elements and their text, no attributes, no
 * DTD (and so no entities but the five), depth and text bounded. How long an answer is, http bounds.
 */
#include "backend/backend_s3.h"

#include <expat.h>
#include <string.h>

#define DEPTH_MAX      8u
#define PATH_BYTES_MAX 256u
#define TEXT_BYTES_MAX 8192u /* a key of 1024 bytes, all of them escaped twice */

struct reader {
	XML_Parser parser;
	s3_xml_fn *fn;
	void *arg;
	int result; /* why it was stopped */
	unsigned int depth;
	size_t path_bytes;
	char path[PATH_BYTES_MAX + 1];
	size_t text_bytes; /* of the element that began last */
	char text[TEXT_BYTES_MAX + 1];
};

static void stop(struct reader *r, int result)
{
	if (r->result == 0)
		r->result = result;
	(void)XML_StopParser(r->parser, XML_FALSE);
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *r = arg;
	size_t name_bytes = strlen(name), slash = r->path_bytes > 0;

	(void)attributes;
	if (r->result < 0)
		return;
	if (r->depth == DEPTH_MAX || strchr(name, '/') ||
	    r->path_bytes + slash + name_bytes > PATH_BYTES_MAX) {
		stop(r, -EBADMSG);
		return;
	}
	r->depth++;
	if (slash)
		r->path[r->path_bytes++] = '/';
	memcpy(r->path + r->path_bytes, name, name_bytes + 1);
	r->path_bytes += name_bytes;
	r->text_bytes = 0;
}

static void on_end(void *arg, const XML_Char *name)
{
	struct reader *r = arg;
	size_t name_bytes = strlen(name);
	int result;

	if (r->result != 0)
		return;
	r->text[r->text_bytes] = '\0';
	result = r->fn(r->arg, r->path, r->text);
	if (result != 0)
		stop(r, result);
	r->depth--;
	r->path_bytes -= name_bytes;
	r->path_bytes -= r->path_bytes > 0;
	r->path[r->path_bytes] = '\0';
	r->text_bytes = 0;
}

static void on_text(void *arg, const XML_Char *text, int len_bytes)
{
	struct reader *r = arg;

	if (r->result != 0)
		return;
	if ((size_t)len_bytes > TEXT_BYTES_MAX - r->text_bytes) {
		stop(r, -EBADMSG);
		return;
	}
	memcpy(r->text + r->text_bytes, text, (size_t)len_bytes);
	r->text_bytes += (size_t)len_bytes;
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
		       const XML_Char *public_id, int has_internal)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)has_internal;
	stop(arg, -EBADMSG);
}

int s3_xml_parse(const struct buf *text, s3_xml_fn *fn, void *arg)
{
	struct reader r = { .fn = fn, .arg = arg };
	enum XML_Status status;

	r.parser = XML_ParserCreate(NULL);
	if (!r.parser)
		return -EAGAIN;
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_start, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
	status = text->len_bytes > INT32_MAX ?
			 XML_STATUS_ERROR :
			 XML_Parse(r.parser, (const char *)text->data, (int)text->len_bytes, 1);
	XML_ParserFree(r.parser);
	if (r.result != 0)
		return r.result;
	return status == XML_STATUS_OK ? 0 : -EBADMSG;
}

/* ---- errors -------------------------------------------------------------------------------- */

/* What is shown to people has letters, digits, '-' and '.' only. */
static void take_word(char word[S3_CODE_BYTES], const char *text)
{
	size_t len_bytes = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					"0123456789-.");

	if (text[len_bytes] != '\0' || len_bytes >= S3_CODE_BYTES)
		return;
	memcpy(word, text, len_bytes + 1);
}

static int on_error(void *arg, const char *path, const char *text)
{
	struct s3_error *error = arg;

	if (strcmp(path, "Error/Code") == 0)
		take_word(error->code, text);
	else if (strcmp(path, "Error/Region") == 0)
		take_word(error->region, text);
	return 0;
}

void s3_xml_error(const struct buf *text, struct s3_error *ret_error)
{
	*ret_error = (struct s3_error){ .code = "" };
	/* What came before something that is wrong still says what it says. */
	(void)!s3_xml_parse(text, on_error, ret_error);
}
