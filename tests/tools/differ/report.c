/* What is told: counts, and of a difference all that helps to find its cause. */
#include "differ.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_MAX 30u

bool differs(struct differ *d, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(d->why, sizeof(d->why), format, ap);
	va_end(ap);
	return false;
}

void give_up(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)fprintf(stderr, "differ: ");
	(void)vfprintf(stderr, format, ap);
	(void)fprintf(stderr, "\n");
	va_end(ap);
	exit(2);
}

unsigned int kind_count(void)
{
	return data_kind_count + name_kind_count + snap_kind_count;
}

const struct kind *kind_at(unsigned int i)
{
	if (i < data_kind_count)
		return &data_kinds[i];
	i -= data_kind_count;
	return i < name_kind_count ? &name_kinds[i] : &snap_kinds[i - name_kind_count];
}

static bool is_of(const struct op *op, const struct kind *kinds, unsigned int count)
{
	return op->kind >= kinds && op->kind < kinds + count;
}

static bool has_paths(const struct op *op)
{
	return (is_of(op, name_kinds, name_kind_count) && strcmp(op->kind->name, "close") != 0) ||
	       is_of(op, snap_kinds, snap_kind_count);
}

static bool has_two_paths(const struct op *op)
{
	return strncmp(op->kind->name, "rename", 6) == 0 || strcmp(op->kind->name, "link") == 0 ||
	       is_of(op, snap_kinds, snap_kind_count);
}

static void print_op(const struct differ *d, FILE *f, const struct op *op)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "off", op->off }, { "off2", op->off2 }, { "len", op->len },
		{ "arg", op->arg }, { "arg2", op->arg2 },
	};

	(void)fprintf(f, "#%" PRIu64 " %lld.%06ld %s", op->seq, (long long)op->begin.tv_sec,
		      op->begin.tv_nsec / 1000, op->kind->name);
	if (has_paths(op) && op->a < d->path_count)
		(void)fprintf(f, " '%s'", d->paths[op->a].text);
	else
		(void)fprintf(f, " handle %u", op->h);
	if (has_two_paths(op) && op->b < d->path_count)
		(void)fprintf(f, " '%s'", d->paths[op->b].text);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].value)
			(void)fprintf(f, " %s=%" PRIu64, numbers[i].name, numbers[i].value);
	(void)fprintf(f, " inode=%" PRIu64, op->ino);
	if (op->ino2)
		(void)fprintf(f, ",%" PRIu64, op->ino2);
	(void)fprintf(f, ": %" PRId64 "%s%s\n", op->result.value, op->result.error ? " " : "",
		      op->result.error ? strerrorname_np(op->result.error) : "");
}

static uint64_t first_in_trace(const struct differ *d)
{
	return d->traced > TRACE_MAX ? d->traced - TRACE_MAX : 0;
}

static void write_trace(const struct differ *d)
{
	char path[PATH_BYTES];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/trace", d->evidence);
	f = fopen(path, "we");
	if (!f) {
		(void)printf("no trace in '%s': %s\n", path, strerror(errno));
		return;
	}
	for (uint64_t i = first_in_trace(d); i < d->traced; i++)
		print_op(d, f, &d->trace[i % TRACE_MAX]);
	(void)fclose(f);
	(void)printf("the last %" PRIu64 " operations are in '%s'\n", d->traced - first_in_trace(d),
		     path);
}

/* Newest last. Numbers come again, but the one that made this inode is then among them. */
static void print_history(const struct differ *d)
{
	uint64_t found[HISTORY_MAX], i = d->traced;
	unsigned int count = 0;

	while (i > first_in_trace(d) && count < HISTORY_MAX) {
		const struct op *op = &d->trace[--i % TRACE_MAX];

		if (op->kind && (op->ino == d->why_ino || op->ino2 == d->why_ino))
			found[count++] = i;
	}
	(void)printf("the last operations on inode %" PRIu64 " of the mirror:\n", d->why_ino);
	while (count-- > 0)
		print_op(d, stdout, &d->trace[found[count] % TRACE_MAX]);
}

void mismatch(struct differ *d)
{
	char name[PATH_BYTES] = "(no name)";

	(void)printf("MISMATCH after %" PRIu64 " operations, seed %" PRIu64
		     ", %u kills, %u clean ends: %s\n",
		     d->counted, d->seed, d->kills, d->cleans, d->why);
	if (d->traced > 0) {
		(void)printf("the last operation: ");
		print_op(d, stdout, &d->trace[(d->traced - 1) % TRACE_MAX]);
	}
	if (d->said[0])
		(void)printf("what the daemon refused last: %s\n", d->said);
	if (d->why_ino) {
		(void)find_ino(d, d->why_ino, name);
		(void)printf("of '%s'\n", name);
		print_history(d);
	}
	write_trace(d);
	(void)printf("mount '%s', mirror '%s'\n", d->root[V], d->root[M]);
	exit(1);
}

static void print_counts(const struct kind *k, const struct counts *c)
{
	const char *before = " failed alike: ";

	(void)printf("  %-20s %8" PRIu64, k->name, c->done);
	for (int e = 0; e < ERRNO_MAX; e++)
		if (c->failed[e]) {
			(void)printf("%s%s %" PRIu64, before, strerrorname_np(e), c->failed[e]);
			before = ", ";
		}
	(void)printf("\n");
}

void print_histogram(const struct differ *d)
{
	for (unsigned int i = 0; i < kind_count(); i++)
		print_counts(kind_at(i), &d->counts[i]);
}
