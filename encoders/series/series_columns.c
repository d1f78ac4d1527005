#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoders/series/series_reader_internal.h"

enum { MAX_NAMES_LISTED = 20, NAMES_LIST_BYTES = 1400 };

static char *field_of(const mz_series_columns *c, int64_t column) {
    return c->text + c->offsets[column];
}

char *mz_series_columns_name(const mz_series_columns *c, int64_t column,
                             char buffer[MZ_SERIES_NUMBER_NAME_BYTES]) {
    char *name = field_of(c, column);
    if (c->has_header && name[0] != '\0') {
        return name;
    }
    (void)snprintf(buffer, MZ_SERIES_NUMBER_NAME_BYTES, "column %" PRId64, column + 1);
    return buffer;
}

void mz_series_columns_clear(mz_context *ctx, mz_series_columns *c) {
    mz_free(ctx, c->text);
    mz_free(ctx, c->offsets);
    mz_free(ctx, c->slots);
    mz_free(ctx, c->stored);
    *c = (mz_series_columns){0};
}

/* Latin-1 to UTF-8; two bytes for one at most. Returns the bytes written. */
static size_t copy_latin1(const char *text, size_t n_bytes, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        const unsigned char b = (unsigned char)text[i];
        if (b < 0x80) {
            out[n++] = (char)b;
        } else {
            out[n++] = (char)(0xc0 | (b >> 6));
            out[n++] = (char)(0x80 | (b & 0x3f));
        }
    }
    return n;
}

mz_status mz_series_columns_add(mz_context *ctx, const char *file, mz_series_columns *c,
                                const char *text, size_t n_bytes) {
    if (c->n_columns == MZ_SERIES_MAX_COLUMNS) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: more than %d columns", file,
                       MZ_SERIES_MAX_COLUMNS);
    }
    void *grown = c->offsets;
    MZ_TRY(mz_grow(ctx, &grown, &c->offsets_capacity, (size_t)c->n_columns + 1, sizeof *c->offsets,
                   "column names"));
    c->offsets = grown;
    grown = c->text;
    MZ_TRY(mz_grow(ctx, &grown, &c->text_capacity, c->n_text_bytes + 2 * n_bytes + 1, 1,
                   "column names"));
    c->text = grown;
    c->offsets[c->n_columns++] = c->n_text_bytes;
    char *out = c->text + c->n_text_bytes;
    size_t n = n_bytes;
    if (mz_series_is_utf8(text, n_bytes)) {
        memcpy(out, text, n_bytes);
    } else {
        n = copy_latin1(text, n_bytes, out);
    }
    out[n] = '\0';
    c->n_text_bytes += n + 1;
    return MZ_OK;
}

static bool is_index_name(const char *name) {
    static const char *const names[] = {"date",     "dates",     "ds",     "time",      "timestamp",
                                        "datetime", "date_time", "year",   "month",     "day",
                                        "week",     "quarter",   "period", "hour",      "minute",
                                        "second",   "index",     "id",     "unique_id", "item_id"};
    return mz_series_is_one_of(name, strlen(name), names, sizeof names / sizeof names[0]);
}

/* An empty field and then 0, 1, 2, ...: a table whose columns have no names, as pandas writes it
 * with its index. */
static bool is_counting_header(const mz_series_columns *c) {
    if (c->n_columns < 2 || field_of(c, 0)[0] != '\0') {
        return false;
    }
    for (int64_t i = 1; i < c->n_columns; i++) {
        char expected[MZ_SERIES_NUMBER_NAME_BYTES];
        (void)snprintf(expected, sizeof expected, "%" PRId64, i - 1);
        if (strcmp(expected, field_of(c, i)) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_header(const mz_series_columns *c, bool decimal_comma) {
    const bool is_single = c->n_columns == 1;
    for (int64_t i = is_single ? 0 : 1; i < c->n_columns; i++) {
        char *text = field_of(c, i);
        if (mz_series_field(text, strlen(text), decimal_comma).kind == MZ_FIELD_TEXT) {
            return true;
        }
    }
    return is_index_name(field_of(c, 0)) || is_counting_header(c);
}

/* Writes the names for a message: "a", "b" and 3 more. */
static void list_names(const mz_series_columns *c, char out[NAMES_LIST_BYTES]) {
    size_t used = 0;
    int64_t i = 0;
    for (; i < c->n_columns && i < MAX_NAMES_LISTED; i++) {
        char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
        char shown[MZ_SERIES_SHOWN_BYTES];
        const char *name = mz_series_columns_name(c, i, buffer);
        mz_series_show(name, strlen(name), shown);
        used += (size_t)snprintf(out + used, NAMES_LIST_BYTES - used, "%s\"%s\"", i > 0 ? ", " : "",
                                 shown);
    }
    if (i < c->n_columns) {
        (void)snprintf(out + used, NAMES_LIST_BYTES - used, " and %" PRId64 " more",
                       c->n_columns - i);
    }
}

static mz_status fail_missing(mz_context *ctx, const char *file, const mz_series_columns *c,
                              const char *shown) {
    char names[NAMES_LIST_BYTES];
    list_names(c, names);
    return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no column \"%s\"; the file %s %s", file, shown,
                   c->has_header ? "has" : "has no header, its columns are", names);
}

/* The column that `name` means: a name, or "#3". */
static mz_status find_column(mz_context *ctx, const char *file, const mz_series_columns *c,
                             const char *name, size_t n_bytes, int64_t *out) {
    char shown[MZ_SERIES_SHOWN_BYTES];
    mz_series_show(name, n_bytes, shown);
    int64_t found = -1;
    for (int64_t i = 0; i < c->n_columns; i++) {
        char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
        const char *candidate = mz_series_columns_name(c, i, buffer);
        if (strncmp(candidate, name, n_bytes) != 0 || candidate[n_bytes] != '\0') {
            continue;
        }
        if (found >= 0) {
            return mz_fail(&ctx->error, MZ_ERR_ARG,
                           "%s: columns %" PRId64 " and %" PRId64
                           " are both called \"%s\"; choose one by its number, as #%" PRId64,
                           file, found + 1, i + 1, shown, found + 1);
        }
        found = i;
    }
    if (found < 0 && n_bytes > 1 && n_bytes <= 8 && name[0] == '#' &&
        strspn(name + 1, "0123456789") >= n_bytes - 1) {
        const long number = strtol(name + 1, NULL, 10);
        found = number >= 1 && number <= c->n_columns ? number - 1 : -1;
    }
    if (found < 0) {
        return fail_missing(ctx, file, c, shown);
    }
    *out = found;
    return MZ_OK;
}

static mz_status choose_named(mz_context *ctx, const char *file, mz_series_columns *c,
                              const char *wanted) {
    for (const char *p = wanted;; p++) {
        const char *next = p + strcspn(p, ",");
        const char *end = next;
        p += strspn(p, " \t");
        while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
            end--;
        }
        if (end <= p) {
            return mz_fail(&ctx->error, MZ_ERR_ARG, "columns: an empty name in \"%s\"", wanted);
        }
        int64_t column = 0;
        MZ_TRY(find_column(ctx, file, c, p, (size_t)(end - p), &column));
        if (c->slots[column] >= 0) {
            char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
            return mz_fail(&ctx->error, MZ_ERR_ARG, "columns: \"%s\" is named twice",
                           mz_series_columns_name(c, column, buffer));
        }
        c->slots[column] = c->n_stored;
        c->stored[c->n_stored++] = column;
        p = next;
        if (*p == '\0') {
            return MZ_OK;
        }
    }
}

mz_status mz_series_columns_choose(mz_context *ctx, const char *file, mz_series_columns *c,
                                   const char *wanted, bool decimal_comma) {
    c->has_header = is_header(c, decimal_comma);
    c->is_named = wanted != NULL;
    void *slots;
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_columns, sizeof *c->slots, "columns", &slots));
    c->slots = slots;
    void *stored;
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_columns, sizeof *c->stored, "columns", &stored));
    c->stored = stored;
    for (int64_t i = 0; i < c->n_columns; i++) {
        c->slots[i] = -1;
    }
    if (wanted != NULL) {
        return choose_named(ctx, file, c, wanted);
    }
    const char *first = field_of(c, 0);
    const bool is_index =
        c->n_columns > 1 && c->has_header && (first[0] == '\0' || is_index_name(first));
    c->is_first_open = c->n_columns > 1 && !is_index;
    for (int64_t i = is_index ? 1 : 0; i < c->n_columns; i++) {
        c->slots[i] = c->n_stored;
        c->stored[c->n_stored++] = i;
    }
    return MZ_OK;
}
