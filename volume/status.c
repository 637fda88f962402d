/* status - what an open pool tells of itself at a moment. */
#include "volume/pool_impl.h"

#include <stdio.h>
#include <string.h>

/* As much of a path as a reason has room for: its end, which tells directories apart. */
#define PATH_SHOWN 76

static void failed_dirs(struct pool *p, struct pool_status *s)
{
	uint32_t failed = flash_failed_dirs(p->flash);

	for (unsigned int i = 0; i < p->flash->dir_count; i++) {
		const char *path = p->flash->dirs[i].path;
		size_t length = strlen(path);
		bool cut = length > PATH_SHOWN;

		if (!(failed & 1u << i))
			continue;
		s->state = POOL_DEGRADED;
		(void)snprintf(s->reason, sizeof(s->reason),
			       "cache directory '%s%.*s' failed: nothing new is put there until "
			       "the next mount",
			       cut ? "..." : "", PATH_SHOWN,
			       path + (cut ? length - PATH_SHOWN : 0));
	}
}

void pool_status(struct pool *p, struct pool_status *ret_status)
{
	struct pool_status s = { .state = POOL_OK, .epoch = p->epoch };
	struct map_usage usage = map_usage(p->map);
	struct stream *stream, *next;
	struct sco *sco, *next_sco;
	int error;

	s.flash_size_bytes = flash_size_bytes(p->flash);
	s.flash_used_bytes = flash_used_bytes(p->flash);
	s.dirty_bytes = __atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED);
	s.ring_frames = p->ring->frame_count;
	s.ring_frames_free = ring_free_count(p->ring);
	s.map_used_bytes = usage.used_bytes;
	s.map_pinned_bytes = usage.pinned_bytes;
	s.root = __atomic_load_n(&p->root_number, __ATOMIC_RELAXED);
	failed_dirs(p, &s);
	mutex_lock(&p->objects_lock);
	s.objects = HASH_COUNT(p->objects);
	s.streams = HASH_COUNT(p->streams);
	HASH_ITER (hh, p->streams, stream, next)
		if ((error = __atomic_load_n(&stream->error, __ATOMIC_RELAXED)) < 0) {
			s.state = POOL_DEGRADED;
			(void)snprintf(s.reason, sizeof(s.reason), "stream %u failed: %s",
				       stream->id, err_name(error));
		} else if (__atomic_load_n(&stream->keeps_all, __ATOMIC_ACQUIRE)) {
			s.state = POOL_DEGRADED;
			(void)snprintf(s.reason, sizeof(s.reason),
				       "a file of stream %u is damaged and cannot be uploaded",
				       stream->id);
		}
	mutex_unlock(&p->objects_lock);
	mutex_lock(&p->scos->lock);
	s.scos = HASH_COUNT(p->scos->by_number);
	HASH_ITER (hh, p->scos->by_number, sco, next_sco) {
		s.live_bytes += (uint64_t)sco_live_data_slots(sco) * CLUSTER_BYTES;
		if (sco->life == SCO_LIFE_SEALED && !(sco->row_flags & SCO_UPLOADED))
			s.queued_scos++;
	}
	mutex_unlock(&p->scos->lock);
	mutex_lock(&p->room_lock);
	s.parked = p->parked_count;
	mutex_unlock(&p->room_lock);
	capacity_status(p, &s);
	if (__atomic_load_n(&p->capacity_told, __ATOMIC_RELAXED) && s.state == POOL_OK) {
		s.state = POOL_DEGRADED;
		(void)snprintf(s.reason, sizeof(s.reason),
			       "the capacity is reached: what needs more room is refused");
	}
	if (s.dirty_bytes >= __atomic_load_n(&p->dirty_limit_bytes, __ATOMIC_RELAXED)) {
		s.state = POOL_BLOCKED;
		(void)snprintf(s.reason, sizeof(s.reason), "%s",
			       __atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED) ?
				       "the backend does not answer and the cache is "
				       "full of what it lacks" :
				       "waiting for uploads");
	}
	*ret_status = s;
}
