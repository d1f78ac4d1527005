#include <jansson.h>
#include <math.h>
#include <string.h>

#include "encoders/series/series_jsonl_internal.h"

/* Limits a line is held against before the JSON library builds a tree of it, 40 to 130 bytes an
 * element. */
enum { MAX_COMMAS = MZ_SERIES_MAX_VALUES + (1 << 16), MAX_BRACKETS = 1 << 20 };

static mz_status append(mz_series_jsonl *j, size_t n_bytes) {
    mz_context *ctx = j->source->ctx;
    if (n_bytes == 0) {
        return MZ_OK;
    }
    if (j->line_bytes + n_bytes > MZ_SERIES_MAX_LINE_BYTES) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: line %lld is longer than %d MiB",
                       j->source->name, (long long)j->line_number, MZ_SERIES_MAX_LINE_BYTES >> 20);
    }
    void *grown = j->line;
    MZ_TRY(mz_grow(ctx, &grown, &j->line_capacity, j->line_bytes + n_bytes, 1, "JSON line"));
    j->line = grown;
    memcpy(j->line + j->line_bytes, j->chunk, n_bytes);
    j->line_bytes += n_bytes;
    j->chunk += n_bytes;
    j->n_left -= n_bytes;
    return MZ_OK;
}

/* Reads the next line into j->line; *end when there is none. */
static mz_status read_line(mz_series_jsonl *j, bool *end) {
    j->line_bytes = 0;
    j->line_number++;
    for (;;) {
        if (j->n_left == 0 && !j->is_at_end) {
            MZ_TRY(mz_series_source_next(j->source, &j->chunk, &j->n_left));
            j->is_at_end = j->n_left == 0;
        }
        if (j->is_at_end) {
            *end = j->line_bytes == 0;
            return MZ_OK;
        }
        const char *stop = memchr(j->chunk, '\n', j->n_left);
        MZ_TRY(append(j, stop != NULL ? (size_t)(stop - j->chunk) : j->n_left));
        if (stop != NULL) {
            j->chunk++;
            j->n_left--;
            *end = false;
            return MZ_OK;
        }
    }
}

static bool is_blank_line(const mz_series_jsonl *j) {
    for (size_t i = 0; i < j->line_bytes; i++) {
        if (j->line[i] != ' ' && (j->line[i] < '\t' || j->line[i] > '\r')) {
            return false;
        }
    }
    return true;
}

static mz_status check_counts(const mz_series_jsonl *j) {
    int64_t n_commas = 0;
    int64_t n_brackets = 0;
    for (size_t i = 0; i < j->line_bytes; i++) {
        n_commas += j->line[i] == ',';
        n_brackets += j->line[i] == '[' || j->line[i] == '{';
    }
    if (n_commas > MAX_COMMAS) {
        return mz_fail(&j->source->ctx->error, MZ_ERR_LIMIT,
                       "%s: line %lld: more than %d values a series", j->source->name,
                       (long long)j->line_number, MZ_SERIES_MAX_VALUES);
    }
    if (n_brackets > MAX_BRACKETS) {
        return mz_fail(&j->source->ctx->error, MZ_ERR_LIMIT,
                       "%s: line %lld: more than %d arrays and objects", j->source->name,
                       (long long)j->line_number, MAX_BRACKETS);
    }
    return MZ_OK;
}

static mz_status parse_line(const mz_series_jsonl *j, json_t **out) {
    MZ_TRY(check_counts(j));
    json_error_t error;
    /* Whole numbers as reals: 64 bits are no limit for a value. */
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL;
    json_t *root = json_loadb(j->line, j->line_bytes, flags, &error);
    if (root == NULL && json_error_code(&error) == json_error_out_of_memory) {
        return mz_fail(&j->source->ctx->error, MZ_ERR_NOMEM, "%s: line %lld: out of memory",
                       j->source->name, (long long)j->line_number);
    }
    if (root == NULL) {
        return mz_fail(&j->source->ctx->error, MZ_ERR_FORMAT,
                       "%s: line %lld, column %d: %s (each line must be a whole JSON value)",
                       j->source->name, (long long)j->line_number, error.column, error.text);
    }
    *out = root;
    return MZ_OK;
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

mz_status mz_series_jsonl_fail_type(const mz_series_jsonl *j, const char *what, const json_t *value,
                                    const char *expected) {
    return mz_fail(&j->source->ctx->error, MZ_ERR_FORMAT, "%s: line %lld: %s is %s, expected %s",
                   j->source->name, (long long)j->line_number, what, type_name(value), expected);
}

static mz_status store_values(mz_series_jsonl *j, const json_t *array, const char *key,
                              int64_t *n_values) {
    mz_context *ctx = j->source->ctx;
    const size_t n = json_array_size(array);
    if (n > MZ_SERIES_MAX_VALUES) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: line %lld: %zu values, at most %d are read",
                       j->source->name, (long long)j->line_number, n, MZ_SERIES_MAX_VALUES);
    }
    void *grown = j->values;
    MZ_TRY(mz_grow(ctx, &grown, &j->values_capacity, n > 0 ? n : 1, sizeof *j->values,
                   "series values"));
    j->values = grown;
    for (size_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(array, i);
        if (!json_is_real(element) && !json_is_null(element)) {
            char what[64];
            (void)snprintf(what, sizeof what, "%s[%zu]", key, i);
            return mz_series_jsonl_fail_type(j, what, element, "a number or null");
        }
        j->values[i] = json_is_null(element) ? NAN : json_real_value(element);
    }
    *n_values = (int64_t)n;
    return MZ_OK;
}

static mz_status store_id(mz_series_jsonl *j, const json_t *id) {
    const double max_whole = 9007199254740992.0; /* above 2^53 two ids may become one */
    char number[32];
    const char *text = number;
    if (id == NULL || json_is_null(id)) {
        (void)snprintf(number, sizeof number, "%lld", (long long)j->line_number);
    } else if (json_is_string(id)) {
        text = json_string_value(id);
    } else if (json_is_real(id) && fabs(json_real_value(id)) <= max_whole) {
        (void)snprintf(number, sizeof number, "%.17g", json_real_value(id));
    } else {
        return mz_series_jsonl_fail_type(j, "id", id, "text or a number up to 2^53");
    }
    const size_t n_bytes = strlen(text) + 1;
    void *grown = j->id;
    MZ_TRY(mz_grow(j->source->ctx, &grown, &j->id_capacity, n_bytes, 1, "series id"));
    j->id = grown;
    memcpy(j->id, text, n_bytes);
    return MZ_OK;
}

/* ---- series ---- */

static mz_status read_series(mz_series_jsonl *j, const json_t *root, mz_series *out) {
    static const char *const keys[] = {"sequence", "values", "target"};
    *out = (mz_series){0};
    if (json_is_array(root)) {
        MZ_TRY(store_id(j, NULL));
        MZ_TRY(store_values(j, root, "", &out->n_values));
        *out = (mz_series){.id = j->id, .values = j->values, .n_values = out->n_values};
        return MZ_OK;
    }
    if (!json_is_object(root)) {
        return mz_series_jsonl_fail_type(j, "the line", root, "an object or an array");
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *array = json_object_get(root, keys[i]);
        const json_t *id = json_object_get(root, "id");
        if (array == NULL) {
            continue;
        }
        if (!json_is_array(array)) {
            return mz_series_jsonl_fail_type(j, keys[i], array, "an array of numbers");
        }
        MZ_TRY(store_id(j, id != NULL ? id : json_object_get(root, "item_id")));
        MZ_TRY(store_values(j, array, keys[i], &out->n_values));
        *out = (mz_series){.id = j->id, .values = j->values, .n_values = out->n_values};
        return j->options.ignore_dates ? MZ_OK : mz_series_jsonl_dates(j, root, out);
    }
    return mz_fail(&j->source->ctx->error, MZ_ERR_FORMAT,
                   "%s: line %lld: the object has no \"sequence\", \"values\" or \"target\"",
                   j->source->name, (long long)j->line_number);
}

mz_status mz_series_jsonl_open(mz_series_source *source, const mz_series_options *options,
                               mz_series_jsonl **out) {
    void *memory;
    MZ_TRY(mz_calloc(source->ctx, 1, sizeof(mz_series_jsonl), "JSON lines reader", &memory));
    mz_series_jsonl *j = memory;
    j->source = source;
    j->options = *options;
    *out = j;
    return MZ_OK;
}

void mz_series_jsonl_close(mz_series_jsonl *j) {
    if (j == NULL) {
        return;
    }
    mz_context *ctx = j->source->ctx;
    mz_free(ctx, j->line);
    mz_free(ctx, j->id);
    mz_free(ctx, j->values);
    mz_free(ctx, j->points);
    mz_free(ctx, j->stamps);
    mz_free(ctx, j->point_stamps);
    mz_timeline_clear(ctx, &j->timeline);
    mz_free(ctx, j);
}

mz_status mz_series_jsonl_next(mz_series_jsonl *j, mz_series *out, bool *end) {
    do {
        bool is_over = false;
        MZ_TRY(read_line(j, &is_over));
        if (is_over) {
            *end = true;
            return MZ_OK;
        }
    } while (is_blank_line(j));
    json_t *root = NULL;
    MZ_TRY(parse_line(j, &root));
    mz_series series;
    const mz_status status = read_series(j, root, &series);
    json_decref(root);
    MZ_TRY(status);
    *out = series;
    *end = false;
    return MZ_OK;
}
