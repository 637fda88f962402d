#include "common/units.h"

#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first and 1 last, as the formatter wants it. */
static const struct unit size_units[] = {
	{ "P", (uint64_t)1 << 50 },
	{ "T", TIB },
	{ "G", GIB },
	{ "M", MIB },
	{ "K", KIB },
	{ "", 1 },
};

static const struct unit time_units[] = {
	{ "d", NS_PER_DAY }, { "h", NS_PER_HOUR }, { "m", NS_PER_MIN }, { "s", NS_PER_SEC },
	{ "ms", NS_PER_MS }, { "us", NS_PER_US },  { "ns", 1 },
};

/* Take the digits at *s; *s is behind them afterwards. */
static int digits_parse(const char **s, uint64_t *ret_value)
{
	const char *p = *s;
	uint64_t value = 0;
	bool overflow = false;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		/* Go on: a bad unit behind a huge number is a syntax error first. */
		overflow = overflow || __builtin_mul_overflow(value, 10, &value) ||
			   __builtin_add_overflow(value, digit, &value);
	}
	*s = p;
	*ret_value = overflow ? 0 : value;
	return overflow ? -ERANGE : 0;
}

static int scale(uint64_t value, uint64_t factor, uint64_t *ret_value)
{
	uint64_t scaled;

	if (__builtin_mul_overflow(value, factor, &scaled))
		return -ERANGE;
	*ret_value = scaled;
	return 0;
}

/* "", "B", "K", "k", "KiB": what may stand behind a size. */
static bool size_unit_matches(const struct unit *unit, const char *s)
{
	char upper = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;

	if (unit->name[0] == '\0')
		return strcmp(s, "") == 0 || strcmp(s, "B") == 0;
	return upper == unit->name[0] && (s[1] == '\0' || strcmp(s + 1, "iB") == 0);
}

int size_parse(const char *s, uint64_t *ret_bytes)
{
	uint64_t value;
	int r;

	r = digits_parse(&s, &value);
	if (r == -EINVAL)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(size_units); i++) {
		if (size_unit_matches(&size_units[i], s))
			return r < 0 ? r : scale(value, size_units[i].factor, ret_bytes);
	}
	return -EINVAL;
}

int time_parse(const char *s, uint64_t *ret_ns)
{
	uint64_t value;
	int r;

	r = digits_parse(&s, &value);
	if (r == -EINVAL)
		return r;
	if (*s == '\0')
		s = "s";
	for (size_t i = 0; i < ARRAY_SIZE(time_units); i++) {
		if (strcmp(s, time_units[i].name) == 0)
			return r < 0 ? r : scale(value, time_units[i].factor, ret_ns);
	}
	return -EINVAL;
}

int u64_parse(const char *s, uint64_t *ret_value)
{
	uint64_t value;
	int r;

	r = digits_parse(&s, &value);
	if (r == -EINVAL || *s != '\0')
		return -EINVAL;
	if (r == 0)
		*ret_value = value;
	return r;
}

static const char *format_exact(uint64_t value, const struct unit *units, size_t unit_count,
				char *text)
{
	size_t i = value == 0 ? unit_count - 1 : 0;

	while (value % units[i].factor != 0)
		i++;
	(void)snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 "%s", value / units[i].factor,
		       units[i].name);
	return text;
}

const char *size_format(uint64_t bytes, char text[UNITS_TEXT_BYTES])
{
	return format_exact(bytes, size_units, ARRAY_SIZE(size_units), text);
}

const char *time_format(uint64_t ns, char text[UNITS_TEXT_BYTES])
{
	return format_exact(ns, time_units, ARRAY_SIZE(time_units), text);
}
