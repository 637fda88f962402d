#include "volume/absent.h"
#include "volume/pool_impl.h"

#include <stdio.h>

/* Since when somebody waits for the backend: uploads, or reads. */
static int64_t failed_since_ns(struct pool *p)
{
	int64_t uploads = __atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED);
	int64_t reads = absent_since_ns(p);

	return uploads && reads ? (uploads < reads ? uploads : reads) : uploads + reads;
}

static void uuid_format(const struct uuid *uuid, char ret_text[37])
{
	size_t at = 0;

	for (size_t i = 0; i < UUID_BYTES; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret_text[at++] = '-';
		at += (size_t)snprintf(ret_text + at, 3, "%02x", uuid->bytes[i]);
	}
}

void pool_describe(struct pool *p, struct pool_description *ret_description)
{
	struct pool_description d = {
		.backend_url = p->options.backend_url,
		.backend_failed_ns = failed_since_ns(p),
		.fenced = __atomic_load_n(&p->fenced, __ATOMIC_RELAXED),
		.flash_full =
			!flash_has_room(p->flash, (uint64_t)p->world.sco_slots * CLUSTER_BYTES),
	};
	struct sco *s, *next;

	uuid_format(&p->uuid, d.uuid);
	mutex_lock(&p->scos->lock);
	HASH_ITER (hh, p->scos->by_number, s, next)
		if (s->life == SCO_LIFE_SEALED && !(s->row_flags & SCO_UPLOADED))
			d.queued_bytes += s->file_bytes;
	mutex_unlock(&p->scos->lock);
	*ret_description = d;
}
