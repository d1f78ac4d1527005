#include <stdlib.h>
#include <string.h>

#include "apps/train/recipe_internal.h"

enum { MAX_KEY = 128, MAX_KEYS = 32 };

/* "a.b.c" is read key by key. */
typedef struct cursor {
    mz_context *ctx;
    const char *change; /* the whole text, for messages */
    const char *rest;   /* of the path */
    size_t n_rest;
    char key[MAX_KEY];
} cursor;

static mz_status next_key(cursor *c) {
    const char *dot = memchr(c->rest, '.', c->n_rest);
    const size_t n = dot != NULL ? (size_t)(dot - c->rest) : c->n_rest;
    if (n == 0 || n >= MAX_KEY || (dot != NULL && n + 1 == c->n_rest)) {
        return mz_fail(&c->ctx->error, MZ_ERR_ARG, "--set %s: expected KEY.KEY=VALUE", c->change);
    }
    memcpy(c->key, c->rest, n);
    c->key[n] = '\0';
    const size_t n_taken = dot != NULL ? n + 1 : n;
    c->rest += n_taken;
    c->n_rest -= n_taken;
    return MZ_OK;
}

static mz_status array_index(const cursor *c, const json_t *array, size_t *out) {
    char *end = NULL;
    const unsigned long index = strtoul(c->key, &end, 10);
    if (c->key[0] < '0' || c->key[0] > '9' || *end != '\0' || index >= json_array_size(array)) {
        return mz_fail(&c->ctx->error, MZ_ERR_ARG,
                       "--set %s: \"%s\" is no index of an array of %zu items", c->change, c->key,
                       json_array_size(array));
    }
    *out = index;
    return MZ_OK;
}

static mz_status no_memory(const cursor *c) {
    return mz_fail(&c->ctx->error, MZ_ERR_NOMEM, "--set %s: out of memory", c->change);
}

/* The value under the key, an empty object where there is none; borrowed. */
static mz_status descend(const cursor *c, json_t *parent, json_t **out) {
    if (json_is_array(parent)) {
        size_t index = 0;
        MZ_TRY(array_index(c, parent, &index));
        *out = json_array_get(parent, index);
        return MZ_OK;
    }
    json_t *child = json_object_get(parent, c->key);
    if (child == NULL) {
        if (json_object_set_new(parent, c->key, json_object()) != 0) {
            return no_memory(c);
        }
        child = json_object_get(parent, c->key);
    }
    *out = child;
    return MZ_OK;
}

static mz_status store(const cursor *c, json_t *parent, json_t *value) {
    size_t index = 0;
    if (!json_is_array(parent)) {
        return json_object_set(parent, c->key, value) == 0 ? MZ_OK : no_memory(c);
    }
    MZ_TRY(array_index(c, parent, &index));
    return json_array_set(parent, index, value) == 0 ? MZ_OK : no_memory(c);
}

static mz_status set_value(cursor *c, json_t *document, json_t *value) {
    json_t *at = document;
    for (int n_keys = 0; n_keys < MAX_KEYS; n_keys++) {
        MZ_TRY(next_key(c));
        if (!json_is_object(at) && !json_is_array(at)) {
            return mz_fail(&c->ctx->error, MZ_ERR_ARG,
                           "--set %s: \"%s\" lies in a value that is no object", c->change, c->key);
        }
        if (c->n_rest == 0) {
            return store(c, at, value);
        }
        MZ_TRY(descend(c, at, &at));
    }
    return mz_fail(&c->ctx->error, MZ_ERR_LIMIT, "--set: %.40s... has more than %d keys", c->change,
                   (int)MAX_KEYS);
}

mz_status mz_recipe_check_depth(mz_context *ctx, const char *path, const json_t *value, int depth) {
    const char *key = NULL;
    json_t *member = NULL;
    if (depth > MZ_RECIPE_MAX_DEPTH) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: arrays and objects are more than %d deep",
                       path, (int)MZ_RECIPE_MAX_DEPTH);
    }
    json_object_foreach((json_t *)value, key, member) {
        MZ_TRY(mz_recipe_check_depth(ctx, path, member, depth + 1));
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        MZ_TRY(mz_recipe_check_depth(ctx, path, json_array_get(value, i), depth + 1));
    }
    return MZ_OK;
}

mz_status mz_recipe_set(mz_context *ctx, json_t *document, const char *change) {
    const char *equals = strchr(change, '=');
    if (equals == NULL || equals == change) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "--set %s: expected KEY.KEY=VALUE", change);
    }
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL) {
        value = json_string(equals + 1);
    }
    if (value == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "--set %s: the value is not UTF-8", change);
    }
    cursor c = {.ctx = ctx, .change = change, .rest = change, .n_rest = (size_t)(equals - change)};
    const mz_status status = set_value(&c, document, value);
    json_decref(value);
    return status;
}
