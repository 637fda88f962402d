/*
 * sim_trace - what happened: the last calls, a hash of all of them, and the report of a failure.
 */
#include "tests/sim/sim_impl.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SIM_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIM_SANITIZED 1
#endif
#ifdef SIM_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

#define REPORT_LINES	   200u
#define REPORT_STACK_BYTES (256u << 10)

static bool reported;

/* ---- memory --------------------------------------------------------------------------------- */

void *sim_alloc(size_t bytes)
{
	void *mem = calloc(1, bytes);

	ASSERT(mem);
	return mem;
}

void *sim_realloc(void *old, size_t bytes)
{
	void *mem = realloc(old, bytes);

	ASSERT(mem);
	return mem;
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

void sim_mix(struct sim *sim, uint64_t x)
{
	sim->fingerprint = (sim->fingerprint ^ x) * UINT64_C(0x9fb21c651e98df25);
	sim->fingerprint ^= sim->fingerprint >> 29;
}

uint64_t sim_fingerprint(const struct sim *sim)
{
	return rng_mix(sim->fingerprint);
}

/* A word of each sector, and the last one; every word with full_hash. */
uint64_t sim_hash_bytes(const struct sim *sim, const void *buf, size_t len_bytes)
{
	size_t stride = sim->opts.full_hash ? sizeof(uint64_t) : SIM_SECTOR_BYTES;
	const uint8_t *from = buf;
	uint64_t h = len_bytes;
	uint64_t x = 0;

	if (len_bytes < sizeof(x)) {
		memcpy(&x, from, len_bytes);
		return rng_mix(h ^ x);
	}
	for (size_t at = 0; at + sizeof(x) <= len_bytes; at += stride) {
		memcpy(&x, from + at, sizeof(x));
		h = rng_rotl((h ^ x) * UINT64_C(0x9fb21c651e98df25), 23);
	}
	memcpy(&x, from + len_bytes - sizeof(x), sizeof(x));
	return rng_mix(h ^ x);
}

/* ---- trace ---------------------------------------------------------------------------------- */

static void copy_tail(char *to, size_t size, const char *text)
{
	size_t len = strlen(text);

	if (len >= size)
		text += len - (size - 1);
	(void)snprintf(to, size, "%s", text);
}

static uint64_t hash_text(const char *text)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * UINT64_C(1099511628211);
	return h;
}

void sim_trace(struct sim *sim, const char *op, const char *what, uint64_t a, uint64_t b,
	       int64_t result)
{
	struct trace_line *line = &sim->trace[sim->trace_count++ % SIM_TRACE_LINES];

	sim_mix(sim, hash_text(op) ^ hash_text(what));
	sim_mix(sim, a);
	sim_mix(sim, b);
	sim_mix(sim, (uint64_t)result);
	sim_mix(sim, sim->now_ns);
	line->now_ns = sim->now_ns;
	line->op = op;
	line->a = a;
	line->b = b;
	line->result = result;
	line->co_id = sim->cur ? sim->cur->id : UINT32_MAX;
	memcpy(line->co_name, sim->cur ? sim->cur->name : "harness\0\0\0\0\0\0\0\0",
	       sizeof(line->co_name));
	copy_tail(line->what, sizeof(line->what), what);
}

void sim_note(struct sim *sim, const char *fmt, ...)
{
	char text[48];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sim_trace(sim, "--", text, 0, 0, 0);
}

void sim_dump_trace(const struct sim *sim, FILE *out, unsigned int lines)
{
	uint64_t have = min_u64(sim->trace_count, SIM_TRACE_LINES);
	uint64_t n = lines == 0 ? have : min_u64(lines, have);

	(void)fprintf(out, "sim: the last %" PRIu64 " of %" PRIu64 " calls:\n", n,
		      sim->trace_count);
	for (uint64_t i = sim->trace_count - n; i < sim->trace_count; i++) {
		const struct trace_line *l = &sim->trace[i % SIM_TRACE_LINES];

		(void)fprintf(out,
			      "%12.6f %-15s %-10s %-40s %" PRIu64 " %" PRIu64 " = %" PRId64 "\n",
			      (double)l->now_ns / 1e9, l->co_name, l->op, l->what, l->a, l->b,
			      l->result);
	}
}

static const char *waits_on_name(const struct co *co, char *buf, size_t size)
{
	const struct mutex *m = co->waits_on;

	buf[0] = '\0';
	if (co->state == CO_MUTEX)
		(void)snprintf(buf, size, " (rank %u, held by thread %u)", m->rank,
			       (unsigned int)((uintptr_t)m->sim_owner & 0xfffff) - 1);
	else if (co->state == CO_JOIN)
		(void)snprintf(buf, size, " (%s)", ((const struct co *)co->waits_on)->name);
	else if (co->state == CO_COND)
		(void)snprintf(buf, size, " (%p)", co->waits_on);
	return buf;
}

void sim_dump_threads(const struct sim *sim, FILE *out)
{
	char detail[64];

	(void)fprintf(out,
		      "sim: seed %" PRIu64 ", run %" PRIu64 ", clock %.6f s, step %" PRIu64 "\n",
		      sim->seed, sim->stats.runs, (double)sim->now_ns / 1e9, sim->run_steps);
	for (size_t i = 0; i < sim->co_count; i++) {
		const struct co *co = sim->cos[i];

		(void)fprintf(out, "  thread %u '%s'%s %s%s", co->id, co->name,
			      co == sim->cur ? " *" : "", sim_co_state_name(co->state),
			      waits_on_name(co, detail, sizeof(detail)));
		if (co->wake_ns != SIM_NEVER && co->state != CO_READY)
			(void)fprintf(out, " until %.6f s", (double)co->wake_ns / 1e9);
		if (co->held_count != 0)
			(void)fprintf(out, ", holds %u locks, the last of rank %u", co->held_count,
				      co->held[co->held_count - 1]->rank);
		(void)fputc('\n', out);
	}
	for (const struct env_file *f = sim->files; f; f = f->next)
		(void)fprintf(out, "  open: %s\n", f->path);
}

static void report(struct sim *sim)
{
	reported = true;
	sim_dump_trace(sim, stderr, REPORT_LINES);
	sim_dump_threads(sim, stderr);
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list ap;

	report(sim);
	(void)fprintf(stderr, "sim: FAILED, seed %" PRIu64 ": ", sim->seed);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	abort();
}

/* ---- death of the real process -------------------------------------------------------------- */

static void report_once(void)
{
	if (!reported && sim_active)
		report(sim_active);
}

static void on_signal(int sig)
{
	report_once();
	(void)raise(sig);
}

void sim_catch_aborts(void)
{
	static const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE };
	static uint8_t alt_stack[REPORT_STACK_BYTES];
	/* The sanitizers have their own handlers for the others, which say more. */
	size_t count = ARRAY_SIZE(signals);
	stack_t ss = { .ss_sp = alt_stack, .ss_size = sizeof(alt_stack) };
	struct sigaction sa = { .sa_handler = on_signal,
				.sa_flags = (int)(SA_RESETHAND | SA_ONSTACK | SA_NODEFER) };

#ifdef SIM_SANITIZED
	count = 1;
	__sanitizer_set_death_callback(report_once);
#endif
	(void)sigaltstack(&ss, NULL);
	for (size_t i = 0; i < count; i++)
		(void)sigaction(signals[i], &sa, NULL);
}

/* ---- self check ----------------------------------------------------------------------------- */

static void see_dir(const struct dir *dir, bool counts_as_link)
{
	for (size_t i = 0; i < dir->count; i++) {
		dir->entries[i].inode->seen_refs++;
		dir->entries[i].inode->seen_links += counts_as_link;
	}
}

static void see_all(struct sim *sim)
{
	for (struct inode *i = sim->inodes; i; i = i->next)
		i->seen_refs = i->seen_links = 0;
	for (size_t i = 0; i < sim->device_count; i++) {
		sim->devices[i].root->seen_refs++;
		sim->devices[i].root->seen_links++;
	}
	for (struct inode *i = sim->inodes; i; i = i->next) {
		see_dir(&i->cur, true);
		see_dir(&i->dur, false);
	}
	for (const struct env_file *f = sim->files; f; f = f->next)
		f->inode->seen_refs++;
	for (size_t i = 0; i < sim->inflight_count; i++)
		sim->inflight[i]->inode->seen_refs++;
	for (size_t i = 0; i < sim->late_count; i++)
		sim->late[i].inode->seen_refs++;
	for (size_t i = 0; i < sim->name_fx_count; i++) {
		for (unsigned int k = 0; k < sim->name_fx[i].change_count; k++) {
			sim->name_fx[i].change[k].dir->seen_refs++;
			if (sim->name_fx[i].change[k].inode)
				sim->name_fx[i].change[k].inode->seen_refs++;
		}
	}
}

static void check_inode(struct sim *sim, const struct inode *inode)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < inode->leaf_count; i++)
		for (size_t k = 0; inode->leaves[i] && k < SIM_LEAF_SLOTS; k++)
			blocks += inode->leaves[i][k].cur_allocated;
	if (blocks != inode->blocks)
		sim_fail(sim, "inode %" PRIu64 ": %" PRIu64 " blocks, counted %" PRIu64, inode->ino,
			 blocks, inode->blocks);
	if (inode->refs != inode->seen_refs)
		sim_fail(sim, "inode %" PRIu64 ": %u references, counted %u", inode->ino,
			 inode->seen_refs, inode->refs);
	if (inode->links != inode->seen_links)
		sim_fail(sim, "inode %" PRIu64 ": %u links, counted %u", inode->ino,
			 inode->seen_links, inode->links);
	if (inode->gone && inode->blocks != 0)
		sim_fail(sim, "inode %" PRIu64 " is gone but has blocks", inode->ino);
}

void sim_check(struct sim *sim)
{
	uint64_t used[SIM_DEVICES_MAX] = { 0 };

	see_all(sim);
	for (const struct inode *i = sim->inodes; i; i = i->next) {
		check_inode(sim, i);
		if (!i->gone)
			used[i->dev - sim->devices] += i->blocks + 1;
	}
	for (size_t i = 0; i < sim->device_count; i++)
		if (used[i] != sim->devices[i].used_blocks)
			sim_fail(sim, "device '%s': %" PRIu64 " blocks in use, counted %" PRIu64,
				 sim->devices[i].path, used[i], sim->devices[i].used_blocks);
}
