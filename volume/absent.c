/* absent - SCOs whose bytes are on the backend only. */
#include "backend/backend.h"
#include "volume/pool_impl.h"

int absent_read(void *arg, const struct sco *s, uint64_t offset_bytes, size_t len_bytes, void *dst,
		bool anew, struct err *e)
{
	char name[OBJECT_NAME_MAX + 1];
	struct pool *p = arg;
	int r;

	(void)anew;
	mutex_lock(&p->scos->lock);
	object_name_sco(name, s->stream, s->number, s->version, s->object_epoch);
	mutex_unlock(&p->scos->lock);
	r = pool_open_backend(p, e);
	return r == 0 ? backend_get(p->backend, name, offset_bytes, dst, len_bytes, e) : r;
}
