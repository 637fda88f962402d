/* name - what an object may be called. The rules are at the top of backend.h. */
#include "backend/backend.h"

#include <string.h>

static int check_part(const char *name, const char *part, size_t len_bytes, struct err *e)
{
	if (len_bytes == 0)
		return err_set(e, -EINVAL, "object name '%s': empty part", name);
	if (len_bytes > BACKEND_PART_BYTES_MAX)
		return err_set(e, -EINVAL, "object name '%.40s...': a part of more than %u bytes",
			       name, BACKEND_PART_BYTES_MAX);
	if ((len_bytes == 1 && part[0] == '.') ||
	    (len_bytes == 2 && part[0] == '.' && part[1] == '.'))
		return err_set(e, -EINVAL, "object name '%s': part '.' or '..'", name);
	/* A file store keeps unfinished objects there; refused by all so that names can move. */
	if (part == name && len_bytes == 3 && memcmp(part, "tmp", 3) == 0)
		return err_set(e, -EINVAL, "object name '%s': the first part 'tmp' is reserved",
			       name);
	return 0;
}

int backend_check_name(const char *name, struct err *e)
{
	size_t len_bytes = strnlen(name, BACKEND_NAME_BYTES_MAX + 1);
	const char *part = name;

	if (len_bytes == 0)
		return err_set(e, -EINVAL, "object name is empty");
	if (len_bytes > BACKEND_NAME_BYTES_MAX)
		return err_set(e, -EINVAL, "object name '%.40s...': more than %u bytes", name,
			       BACKEND_NAME_BYTES_MAX);
	/* Characters first: the messages below show the name. */
	for (size_t i = 0; i < len_bytes; i++) {
		if (name[i] < 0x20 || name[i] > 0x7e)
			return err_set(e, -EINVAL, "object name: byte %zu is not printable ASCII",
				       i);
	}
	for (;;) {
		size_t part_bytes = strcspn(part, "/");
		int r = check_part(name, part, part_bytes, e);

		if (r < 0)
			return r;
		if (part[part_bytes] == '\0')
			return 0;
		part += part_bytes + 1;
	}
}
