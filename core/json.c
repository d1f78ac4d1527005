#include "core/json.h"

#include <string.h>

#include "core/file.h"

static const size_t max_file_bytes = (size_t)64 << 20;

static mz_status parse(mz_context *ctx, const char *text, size_t n_bytes, const char *name,
                       size_t flags, json_t **out) {
    json_error_t error;
    json_t *document = json_loadb(text != NULL ? text : "", n_bytes,
                                  JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | flags, &error);
    if (document == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory) {
            return mz_fail(&ctx->error, MZ_ERR_NOMEM,
                           "%s: out of memory for a JSON document of %zu bytes", name, n_bytes);
        }
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: JSON, line %d, column %d: %s", name,
                       error.line, error.column, error.text);
    }
    *out = document;
    return MZ_OK;
}

mz_status mz_json_parse(mz_context *ctx, const char *text, size_t n_bytes, const char *name,
                        json_t **out) {
    return parse(ctx, text, n_bytes, name, 0, out);
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "of an unknown type";
}

static mz_status load(mz_context *ctx, const char *path, size_t flags, json_t **out) {
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_file_read(ctx, path, max_file_bytes, &text, &n_bytes));
    json_t *document = NULL;
    const mz_status status = parse(ctx, text, n_bytes, path, flags, &document);
    mz_free(ctx, text);
    if (status != MZ_OK) {
        return status;
    }
    if (!json_is_object(document)) {
        const char *actual = type_name(document);
        json_decref(document);
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: the top level is %s, expected an object",
                       path, actual);
    }
    *out = document;
    return MZ_OK;
}

mz_status mz_json_load(mz_context *ctx, const char *path, json_t **out) {
    return load(ctx, path, 0, out);
}

mz_status mz_json_load_reals(mz_context *ctx, const char *path, json_t **out) {
    return load(ctx, path, JSON_DECODE_INT_AS_REAL, out);
}

/* The field's value, or NULL when it is absent or null. */
static const json_t *field(const mz_json_object *o, const char *key) {
    const json_t *value = json_object_get(o->object, key);
    return json_is_null(value) ? NULL : value;
}

static mz_status wrong_type(const mz_json_object *o, const char *key, const json_t *value,
                            const char *expected) {
    return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s is %s, expected %s", o->name, key,
                   type_name(value), expected);
}

static mz_status missing(const mz_json_object *o, const char *key, const char *expected) {
    return mz_fail(&o->ctx->error, MZ_ERR_MISSING, "%s: %s is missing, expected %s", o->name, key,
                   expected);
}

static mz_status read_int(const mz_json_object *o, const char *key, const json_t *value,
                          int64_t min, int64_t max, int64_t *out) {
    if (!json_is_integer(value)) {
        return wrong_type(o, key, value, "an integer");
    }
    const int64_t number = json_integer_value(value);
    if (number < min || number > max) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT, "%s: %s is %lld, expected %lld to %lld",
                       o->name, key, (long long)number, (long long)min, (long long)max);
    }
    *out = number;
    return MZ_OK;
}

mz_status mz_json_int(const mz_json_object *o, const char *key, int64_t min, int64_t max,
                      int64_t *out) {
    const json_t *value = field(o, key);
    return value == NULL ? missing(o, key, "an integer") : read_int(o, key, value, min, max, out);
}

mz_status mz_json_int_or(const mz_json_object *o, const char *key, int64_t fallback, int64_t min,
                         int64_t max, int64_t *out) {
    const json_t *value = field(o, key);
    if (value == NULL) {
        *out = fallback;
        return MZ_OK;
    }
    return read_int(o, key, value, min, max, out);
}

mz_status mz_json_number_or(const mz_json_object *o, const char *key, double fallback, double min,
                            double max, double *out) {
    const json_t *value = field(o, key);
    if (value == NULL) {
        *out = fallback;
        return MZ_OK;
    }
    if (!json_is_number(value)) {
        return wrong_type(o, key, value, "a number");
    }
    const double number = json_number_value(value);
    if (!(number >= min && number <= max)) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT, "%s: %s is %.17g, expected %.17g to %.17g",
                       o->name, key, number, min, max);
    }
    *out = number;
    return MZ_OK;
}

mz_status mz_json_bool_or(const mz_json_object *o, const char *key, bool fallback, bool *out) {
    const json_t *value = field(o, key);
    if (value != NULL && !json_is_boolean(value)) {
        return wrong_type(o, key, value, "true or false");
    }
    *out = value == NULL ? fallback : json_is_true(value);
    return MZ_OK;
}

mz_status mz_json_string(const mz_json_object *o, const char *key, const char **out) {
    const char *text = NULL;
    MZ_TRY(mz_json_string_or(o, key, NULL, &text));
    if (text == NULL) {
        return missing(o, key, "a string");
    }
    *out = text;
    return MZ_OK;
}

mz_status mz_json_string_or(const mz_json_object *o, const char *key, const char *fallback,
                            const char **out) {
    const json_t *value = field(o, key);
    if (value != NULL && !json_is_string(value)) {
        return wrong_type(o, key, value, "a string");
    }
    *out = value == NULL ? fallback : json_string_value(value);
    return MZ_OK;
}
