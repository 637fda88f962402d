/* `vpool config`: what vpool.conf says, in words, whether it is right, and having it read again. */
#include "fs/cli.h"
#include "fs/json_out.h"
#include "fs/pool_setup.h"
#include "fs/query.h"

#include <stdlib.h>
#include <string.h>

static json_t *value_document(const struct config *config, const struct option_def *def)
{
	const void *at = (const char *)config + def->offset;
	const struct config_list *list = at;
	unsigned int word;
	json_t *items;

	switch (def->type) {
	case OPTION_U64:
	case OPTION_SIZE:
		return json_integer((json_int_t) * (const uint64_t *)at);
	case OPTION_TIME:
		return json_real((double)*(const uint64_t *)at / 1e9);
	case OPTION_ENUM:
		memcpy(&word, at, sizeof(word));
		return json_string(def->enum_names[word]);
	case OPTION_STRING:
		return json_string(at);
	case OPTION_STRLIST:
		items = json_array();
		for (uint32_t i = 0; i < list->count && items; i++) {
			if (json_array_append_new(items, json_string(list->item[i])) < 0) {
				json_decref(items);
				items = NULL;
			}
		}
		return items;
	}
	return NULL;
}

static json_t *key_document(const struct config *config, const struct option_def *def)
{
	static const char *const units[] = {
		[OPTION_SIZE] = "bytes",
		[OPTION_TIME] = "seconds",
	};
	const char *unit = (size_t)def->type < ARRAY_SIZE(units) ? units[def->type] : NULL;
	json_t *document =
		json_pack("{s:s, s:s, s:o, s:s, s:b, s:s}", "section", def->section, "key",
			  def->key, "value", value_document(config, def), "default",
			  def->default_text, "live", def->live, "meaning", def->prose);

	if (unit)
		json_out_set(&document, "unit", json_string(unit));
	return document;
}

static int show_json(const struct cli *c, const struct config *config)
{
	size_t count;
	const struct option_def *defs = config_options(&count);
	json_t *keys = json_array();

	for (size_t i = 0; i < count && keys; i++)
		if (json_array_append_new(keys, key_document(config, &defs[i])) < 0) {
			json_decref(keys);
			keys = NULL;
		}
	return cli_print_json(c, keys ? json_pack("{s:o}", "keys", keys) : NULL);
}

static int check(const struct cli *c, const struct pool_setup *setup)
{
	if (c->json)
		return cli_print_json(c, json_pack("{s:b}", "valid", true));
	(void)printf("'%s/%s' is right\n", setup->dir, POOL_CONF_NAME);
	return cli_finish_output(c);
}

static int show(const struct cli *c, const struct pool_setup *setup)
{
	if (c->json)
		return show_json(c, &setup->config);
	if (config_print(stdout, &setup->config) < 0)
		return cli_fail(c, CLI_FAILED, NULL, "config: the result could not be written");
	return CLI_DONE;
}

static int reload(const struct cli *c, const struct target *t)
{
	json_t *answer = NULL, *change;
	size_t i;
	int r = query_target(c, t, json_pack("{s:s}", "verb", "reload"), 0, &answer);

	if (r != CLI_DONE)
		return r;
	if (c->json)
		return cli_print_json(c, answer);
	json_array_foreach(json_object_get(answer, "changes"), i, change)
	{
		(void)printf("[%s] %s: %s -> %s%s\n", cli_json_string(change, "section"),
			     cli_json_string(change, "key"), cli_json_string(change, "from"),
			     cli_json_string(change, "to"),
			     json_is_true(json_object_get(change, "applied")) ?
				     "" :
				     " (at the next mount)");
	}
	if (i == 0)
		(void)printf("nothing changed\n");
	json_decref(answer);
	return cli_finish_output(c);
}

static int run_config(struct cli *c)
{
	bool shows = strcmp(c->args[0], "show") == 0;
	bool reloads = strcmp(c->args[0], "reload") == 0;
	struct target t = { 0 };
	struct pool_setup *setup;
	struct err e = { 0 };
	int r;

	if (!shows && !reloads && strcmp(c->args[0], "check") != 0)
		return cli_fail(c, CLI_USAGE, NULL, "config: '%s': expected show, check or reload",
				c->args[0]);
	r = target_find(c->args[1], &t, &e);
	if (r == 0 && reloads) {
		r = reload(c, &t);
		target_done(&t);
		return r;
	}
	if (r == 0)
		r = pool_setup_load(t.pool_dir, &setup, &e);
	if (r < 0) {
		target_done(&t);
		return cli_fail_err(c, r, &e, NULL, "config");
	}
	r = shows ? show(c, setup) : check(c, setup);
	target_done(&t);
	pool_setup_free(setup);
	return r;
}

const struct cli_verb cli_verb_config = {
	.name = "config",
	.args = "show|check|reload POOL",
	.summary = "show every setting with its meaning, check vpool.conf, or have it read again",
	.doc = "Settings are changed by editing POOL/vpool.conf. Reload makes the daemon of a mounted "
	       "pool read it again, as SIGHUP does: settings that show says change at once do, the "
	       "others hold from the next mount on. A file that is wrong changes nothing.",
	.args_min = 2,
	.args_max = 2,
	.run = run_config,
};
