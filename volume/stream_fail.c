/* A stream that failed, and the devices that fail it. */
#include "common/log.h"
#include "volume/stream.h"

/* What is wrong with bytes is wrong in the next process, too. */
static bool is_damage(int error)
{
	return error == -EUCLEAN || error == -EBADMSG || error == -EPROTONOSUPPORT;
}

static void poison_locked(struct stream *s, int error, int cause, const char *what)
{
	if (s->error)
		return;
	/* Before anybody is told the error: perhaps nobody shall be. */
	if (error == -EIO)
		s->world->device_failed(s->world->arg);
	__atomic_store_n(&s->error, error, __ATOMIC_RELAXED);
	__atomic_store_n(&s->stuck, true, __ATOMIC_RELEASE);
	if (s->world->ring) /* not yet there while the pool is opened */
		(void)__atomic_add_fetch(&s->world->ring->stuck_count, s->frames, __ATOMIC_RELAXED);
	log_error("volume: stream failed, nothing on it is acknowledged until the next start: "
		  "stream=%u what='%s': %s",
		  s->id, what, err_name(cause));
	cond_broadcast(&s->changed);
}

void stream_fail_locked(struct stream *s, uint32_t dir, int cause, const char *what)
{
	(void)flash_note_error(s->world->flash, dir, cause);
	/* Callers take some codes of the system for "wait", or for something about bytes. */
	poison_locked(s, -EIO, cause, what);
}

void stream_poison(struct stream *s, int error, const char *what)
{
	GUARD(&s->lock);
	poison_locked(s, is_damage(error) ? error : -EIO, error, what);
}
