#include "volume/job.h"

static void job_main(void *arg)
{
	struct job *j = arg;

	for (;;) {
		uint64_t pause_ns = j->step(j->arg);
		uint64_t deadline_ns =
			pause_ns == WAIT_FOREVER ? WAIT_FOREVER : clock_mono_ns() + pause_ns;

		GUARD(&j->lock);
		while (!j->stopping && !j->kicked && pause_ns != 0) {
			if (deadline_ns != WAIT_FOREVER && clock_mono_ns() >= deadline_ns)
				break;
			cond_wait(&j->wake, &j->lock, deadline_ns);
		}
		j->kicked = false;
		if (j->stopping)
			return;
	}
}

void job_init(struct job *j)
{
	*j = (struct job){ .ready = true };
	mutex_init(&j->lock, 0);
	cond_init(&j->wake);
}

int job_start(struct job *j, const char *name, uint64_t (*step)(void *arg), void *arg)
{
	if (!j->ready)
		job_init(j);
	j->name = name;
	j->step = step;
	j->arg = arg;
	return thread_start(name, job_main, j, &j->thread);
}

void job_kick(struct job *j)
{
	if (!j->ready)
		return;
	GUARD(&j->lock);
	j->kicked = true;
	cond_signal(&j->wake);
}

bool job_is_stopping(struct job *j)
{
	GUARD(&j->lock);
	return j->stopping;
}

void job_stop(struct job *j)
{
	if (!j->thread)
		return;
	mutex_lock(&j->lock);
	j->stopping = true;
	cond_broadcast(&j->wake);
	mutex_unlock(&j->lock);
	thread_join(j->thread);
	j->thread = NULL;
}
