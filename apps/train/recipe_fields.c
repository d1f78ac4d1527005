#include "apps/train/recipe_internal.h"

#include <inttypes.h>
#include <string.h>

#include "apps/cli.h"

enum { MAX_FIELDS = 32 };

/* ---- keys ---- */

static mz_status check_keys(const mz_json_object *o, const mz_recipe_field *fields, int n_fields) {
    const char *known[MAX_FIELDS];
    char list[512] = "";
    size_t used = 0;
    for (int i = 0; i < n_fields && i < MAX_FIELDS; i++) {
        known[i] = fields[i].key;
        const int added =
            snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", fields[i].key);
        used += added > 0 && (size_t)added < sizeof list - used ? (size_t)added : 0;
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)o->object, key, value) {
        bool found = false;
        for (int i = 0; i < n_fields && !found; i++) {
            found = strcmp(key, known[i]) == 0;
        }
        const char *near = found ? NULL : mz_cli_nearest(key, known, n_fields);
        if (near != NULL) {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                           "%s: unknown key \"%s\"; did you mean \"%s\"?", o->name, key, near);
        }
        if (!found) {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                           "%s: unknown key \"%s\", expected one of: %s", o->name, key, list);
        }
    }
    return MZ_OK;
}

/* ---- values ---- */

static mz_status read_choice(const mz_json_object *o, const mz_recipe_field *f, const char *text,
                             void *out) {
    const size_t length = strlen(text);
    const char *word = f->choices;
    for (int i = 0;; i++) {
        const size_t n = strcspn(word, "|");
        if (n == length && strncmp(word, text, n) == 0) {
            memcpy(out, &i, sizeof i);
            return MZ_OK;
        }
        if (word[n] == '\0') {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s is \"%s\", expected one of %s",
                           o->name, f->key, text, f->choices);
        }
        word += n + 1;
    }
}

static mz_status read_text(const mz_json_object *o, const mz_recipe_field *f, void *out) {
    const char *text = NULL;
    MZ_TRY(mz_json_string_or(o, f->key, NULL, &text));
    if (f->kind == MZ_RECIPE_CHOICE) {
        const int fallback = (int)f->fallback;
        if (text != NULL) {
            return read_choice(o, f, text, out);
        }
        memcpy(out, &fallback, sizeof fallback);
        return MZ_OK;
    }
    if (text != NULL && text[0] == '\0') {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s is empty", o->name, f->key);
    }
    *(const char **)out = text;
    return MZ_OK;
}

static mz_status read_field(const mz_json_object *o, const mz_recipe_field *f, void *out) {
    const json_t *value = json_object_get(o->object, f->key);
    if (f->required && (value == NULL || json_is_null(value))) {
        return mz_fail(&o->ctx->error, MZ_ERR_MISSING, "%s: %s is missing%s%s", o->name, f->key,
                       f->choices != NULL ? ", expected one of " : "",
                       f->choices != NULL ? f->choices : "");
    }
    switch (f->kind) {
    case MZ_RECIPE_INT:
        return mz_json_int_or(o, f->key, (int64_t)f->fallback, (int64_t)f->min, (int64_t)f->max,
                              out);
    case MZ_RECIPE_NUMBER:
        return mz_json_number_or(o, f->key, f->fallback, f->min, f->max, out);
    case MZ_RECIPE_BOOL:
        return mz_json_bool_or(o, f->key, f->fallback > 0, out);
    case MZ_RECIPE_CHOICE:
    case MZ_RECIPE_TEXT:
        return read_text(o, f, out);
    case MZ_RECIPE_OTHER:
        break;
    }
    return MZ_OK;
}

mz_status mz_recipe_read(const mz_json_object *o, const mz_recipe_field *fields, int n_fields,
                         void *out) {
    MZ_TRY(check_keys(o, fields, n_fields));
    for (int i = 0; i < n_fields; i++) {
        MZ_TRY(read_field(o, &fields[i], (char *)out + fields[i].offset));
    }
    return MZ_OK;
}

/* ---- objects and arrays ---- */

/* "recipe.json" and "a" give "recipe.json: a"; that and "b" give "recipe.json: a.b". */
static void name_section(const mz_json_object *parent, const char *key, mz_recipe_section *out) {
    const bool is_inner = strstr(parent->name, ": ") != NULL;
    const int ignored =
        snprintf(out->name, sizeof out->name, "%s%s%s", parent->name, is_inner ? "." : ": ", key);
    (void)ignored;
    out->o = (mz_json_object){.ctx = parent->ctx, .name = out->name};
}

static mz_status open_object(const json_t *value, mz_recipe_section *out) {
    if (!json_is_object(value)) {
        return mz_fail(&out->o.ctx->error, MZ_ERR_FORMAT, "%s: expected an object", out->name);
    }
    out->o.object = value;
    return MZ_OK;
}

mz_status mz_recipe_open_section(const mz_json_object *parent, const char *key, bool required,
                                 mz_recipe_section *out) {
    const json_t *value = json_object_get(parent->object, key);
    name_section(parent, key, out);
    if (value == NULL || json_is_null(value)) {
        return required ? mz_fail(&parent->ctx->error, MZ_ERR_MISSING,
                                  "%s: %s is missing, expected an object", parent->name, key)
                        : MZ_OK;
    }
    return open_object(value, out);
}

mz_status mz_recipe_array(const mz_json_object *parent, const char *key, size_t max_items,
                          const json_t **out) {
    const json_t *value = json_object_get(parent->object, key);
    *out = NULL;
    if (value == NULL || json_is_null(value)) {
        return MZ_OK;
    }
    if (!json_is_array(value)) {
        return mz_fail(&parent->ctx->error, MZ_ERR_FORMAT, "%s: %s is no array", parent->name, key);
    }
    if (json_array_size(value) > max_items) {
        return mz_fail(&parent->ctx->error, MZ_ERR_LIMIT, "%s: %s has %zu items, at most %zu",
                       parent->name, key, json_array_size(value), max_items);
    }
    *out = value;
    return MZ_OK;
}

mz_status mz_recipe_open_item(const mz_json_object *parent, const char *key, const json_t *array,
                              size_t index, mz_recipe_section *out) {
    char item[128];
    (void)snprintf(item, sizeof item, "%s.%zu", key, index);
    name_section(parent, item, out);
    return open_object(json_array_get(array, index), out);
}
