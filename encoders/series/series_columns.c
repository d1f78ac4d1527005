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

size_t mz_series_to_utf8(const char *text, size_t n_bytes, char *out) {
    size_t n = 0;
    if (mz_series_is_utf8(text, n_bytes)) {
        memcpy(out, text, n_bytes);
        return n_bytes;
    }
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
    const size_t n = mz_series_to_utf8(text, n_bytes, out);
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

/* ---- what a column is ---- */

typedef struct chooser {
    mz_context *ctx;
    const char *file;
    mz_series_columns *c;
    const mz_series_options *options;
    bool has_index; /* the first column's name says that it holds no values */
} chooser;

static mz_status find_given(const chooser *k, const char *name, int64_t *out) {
    return find_column(k->ctx, k->file, k->c, name, strlen(name), out);
}

/* The first column with one of the names, -1: none. */
static int64_t find_named(const mz_series_columns *c, const char *const *names, size_t n_names) {
    for (int64_t i = 0; c->has_header && i < c->n_columns; i++) {
        const char *name = field_of(c, i);
        if (mz_series_is_one_of(name, strlen(name), names, n_names)) {
            return i;
        }
    }
    return -1;
}

static bool is_called(const mz_series_columns *c, int64_t column, const char *name) {
    return column >= 0 && c->has_header &&
           mz_series_is_one_of(field_of(c, column), strlen(field_of(c, column)), &name, 1);
}

static mz_status find_time(const chooser *k) {
    static const char *const anywhere[] = {"ds",       "timestamp", "date",
                                           "datetime", "date_time", "time"};
    static const char *const in_front[] = {"dates", "year",    "month", "day",
                                           "week",  "quarter", "period"};
    mz_series_columns *c = k->c;
    c->time_column = -1;
    if (k->options->time != NULL) {
        c->is_time_given = true;
        c->is_time_named = true;
        return find_given(k, k->options->time, &c->time_column);
    }
    const int64_t named = find_named(c, anywhere, sizeof anywhere / sizeof anywhere[0]);
    const int64_t front = find_named(c, in_front, sizeof in_front / sizeof in_front[0]);
    if (c->n_columns == 1) {
        return MZ_OK;
    }
    const bool is_weak = front == 0 || (named < 0 && front > 0 && k->options->id != NULL);
    if (named >= 0 || is_weak) {
        c->time_column = is_weak ? front : named;
        /* A column in the middle that is called "time" may hold values. */
        c->is_time_named = is_weak || c->time_column == 0 || is_called(c, named, "ds") ||
                           is_called(c, named, "timestamp") || is_called(c, named, "date");
    }
    return MZ_OK;
}

/* The column of values that names tell from the others: of a long file, or beside "ds" or
 * "timestamp". */
static int64_t find_value(const mz_series_columns *c) {
    static const char *const names[] = {"y", "target", "value"};
    const bool is_pair =
        is_called(c, c->time_column, "ds") || is_called(c, c->time_column, "timestamp");
    const size_t n_names = sizeof names / sizeof names[0];
    if (c->id_column < 0 && !is_pair) {
        return -1;
    }
    for (size_t i = 0; i < n_names; i++) {
        const int64_t column = find_named(c, &names[i], 1);
        if (column >= 0 && column != c->id_column && column != c->time_column) {
            return column;
        }
    }
    return -1;
}

static mz_status find_id(const chooser *k) {
    static const char *const names[] = {"unique_id", "item_id", "series_id"};
    mz_series_columns *c = k->c;
    if (k->options->id != NULL) {
        return find_given(k, k->options->id, &c->id_column);
    }
    c->id_column = find_named(c, names, sizeof names / sizeof names[0]);
    if (c->id_column < 0 && c->time_column >= 0) {
        const char *const weak = "id";
        c->id_column = find_named(c, &weak, 1);
    }
    if (c->time_column < 0 && find_value(c) < 0) {
        c->id_column = -1; /* names of the rows of a table */
    }
    return MZ_OK;
}

static mz_status store_column(const chooser *k, int64_t column) {
    mz_series_columns *c = k->c;
    if (c->slots[column] >= 0) {
        char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
        return mz_fail(&k->ctx->error, MZ_ERR_ARG, "columns: \"%s\" is named twice",
                       mz_series_columns_name(c, column, buffer));
    }
    c->slots[column] = c->n_stored;
    c->stored[c->n_stored++] = column;
    return MZ_OK;
}

static mz_status store_named(const chooser *k, const char *wanted) {
    for (const char *p = wanted;; p++) {
        const char *next = p + strcspn(p, ",");
        const char *end = next;
        p += strspn(p, " \t");
        while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
            end--;
        }
        if (end <= p) {
            return mz_fail(&k->ctx->error, MZ_ERR_ARG, "columns: an empty name in \"%s\"", wanted);
        }
        int64_t column = 0;
        MZ_TRY(find_column(k->ctx, k->file, k->c, p, (size_t)(end - p), &column));
        MZ_TRY(store_column(k, column));
        p = next;
        if (*p == '\0') {
            return MZ_OK;
        }
    }
}

/* Stores what is neither id nor date, and is called so. */
static mz_status store_rest(const chooser *k) {
    mz_series_columns *c = k->c;
    for (int64_t i = 0; i < c->n_columns; i++) {
        const bool is_label = i == c->time_column && (c->is_time_named || (i == 0 && k->has_index));
        if (i != c->id_column && !is_label) {
            MZ_TRY(store_column(k, i));
        }
    }
    return MZ_OK;
}

static mz_status choose_values(const chooser *k) {
    mz_series_columns *c = k->c;
    const mz_series_options *o = k->options;
    const char *wanted = o->columns != NULL ? o->columns : o->value;
    const int64_t value = wanted == NULL ? find_value(c) : -1;
    c->is_named = wanted != NULL;
    if (wanted != NULL) {
        MZ_TRY(store_named(k, wanted));
    } else if (value >= 0) {
        MZ_TRY(store_column(k, value));
    } else {
        MZ_TRY(store_rest(k));
    }
    for (int64_t i = 0; value >= 0 && i < c->n_columns; i++) {
        if (c->slots[i] < 0 && i != c->id_column && i != c->time_column) {
            c->left_out = c->n_left_out++ == 0 ? i : c->left_out;
        }
    }
    return MZ_OK;
}

static mz_status check_roles(const chooser *k) {
    const mz_series_columns *c = k->c;
    mz_error *err = &k->ctx->error;
    char names[NAMES_LIST_BYTES];
    char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
    if (c->id_column >= 0 && c->id_column == c->time_column) {
        return mz_fail(err, MZ_ERR_ARG, "%s: column \"%s\" cannot hold both ids and dates", k->file,
                       mz_series_columns_name(c, c->id_column, buffer));
    }
    for (int side = 0; side < 2; side++) {
        const int64_t column = side == 0 ? c->id_column : c->is_time_given ? c->time_column : -1;
        if (column >= 0 && c->slots[column] >= 0) {
            return mz_fail(err, MZ_ERR_ARG, "%s: column \"%s\" holds %s and cannot be a series",
                           k->file, mz_series_columns_name(c, column, buffer),
                           side == 0 ? "ids" : "dates");
        }
    }
    if (c->id_column >= 0 && c->n_stored != 1) {
        list_names(c, names);
        return mz_fail(err, MZ_ERR_ARG,
                       "%s: with ids in column \"%s\" one column holds the values; choose it with "
                       "--value from %s",
                       k->file, mz_series_columns_name(c, c->id_column, buffer), names);
    }
    if (c->n_stored == 0) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: has dates but no column of values", k->file);
    }
    return MZ_OK;
}

mz_status mz_series_columns_choose(mz_context *ctx, const char *file, mz_series_columns *c,
                                   const mz_series_options *options, bool decimal_comma) {
    void *memory;
    c->has_header = is_header(c, decimal_comma);
    const char *first = field_of(c, 0);
    const chooser k = {.ctx = ctx,
                       .file = file,
                       .c = c,
                       .options = options,
                       .has_index = c->has_header && (first[0] == '\0' || is_index_name(first))};
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_columns, sizeof *c->slots, "columns", &memory));
    c->slots = memory;
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_columns, sizeof *c->stored, "columns", &memory));
    c->stored = memory;
    for (int64_t i = 0; i < c->n_columns; i++) {
        c->slots[i] = -1;
    }
    MZ_TRY(find_time(&k));
    MZ_TRY(find_id(&k));
    if (c->time_column < 0 && c->n_columns > 1 && c->id_column != 0) {
        c->time_column = 0; /* dates or labels, unless it holds values */
    }
    MZ_TRY(choose_values(&k));
    if (c->is_named && c->time_column >= 0 && !c->is_time_given && c->slots[c->time_column] >= 0) {
        c->time_column = -1; /* the user wants it as a series */
    }
    return check_roles(&k);
}
