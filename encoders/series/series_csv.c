#include <csv.h>
#include <math.h>
#include <string.h>

#include "encoders/series/series_reader_internal.h"

/* Values are kept row by row, as they come, in blocks that never move: twice the memory is never
 * needed. */
enum { BLOCK_SHIFT = 17, BLOCK_VALUES = 1 << BLOCK_SHIFT };

static const uint64_t max_file_bytes = (uint64_t)4 << 30;

/* Where a field that matters only at the end was seen first. */
typedef struct sighting {
    int64_t row; /* 0: nowhere */
    int64_t column;
    char shown[MZ_SERIES_SHOWN_BYTES];
} sighting;

/* What decides about a group of columns: the first one while it may be the index, and all others.
 */
typedef struct column_group {
    sighting point; /* first number with a decimal point */
    sighting comma; /* first number with a decimal comma */
    sighting range; /* first number beyond f64 */
} column_group;

struct mz_series_csv {
    mz_context *ctx;
    const char *file; /* borrowed from the source, for messages */
    const char *wanted;
    struct csv_parser parser;
    void *entry; /* the parser's field buffer */
    size_t entry_capacity;
    bool decimal_comma;
    mz_series_columns columns;
    bool is_begun; /* the first row is complete */
    bool is_first_text;
    column_group first, rest;

    mz_status status; /* the first failure: callbacks of the parser cannot stop it */
    int64_t row; /* number of the row in progress; empty lines count, the second byte of CRLF does
                    not */
    int64_t n_fields; /* fields of it so far */
    size_t row_bytes;
    int last_end;       /* byte that ended the row before */
    double *row_values; /* [n_stored] */

    double **blocks;
    size_t n_blocks, blocks_capacity;
    int64_t n_rows;
    int64_t first_slot, n_series; /* the series are n_series slots from first_slot on */
    double *series_values;        /* [n_rows], the series handed out last */
    char id[MZ_SERIES_NUMBER_NAME_BYTES];
};

/* Counts the delimiters outside quotes in the line at *pos, which moves behind it. False for a line
 * without an end. */
static bool count_delimiters(const char *text, size_t n_bytes, const char *delimiters, size_t *pos,
                             int64_t counts[3]) {
    bool is_quoted = false;
    memset(counts, 0, 3 * sizeof *counts);
    for (size_t i = *pos; i < n_bytes; i++) {
        if (text[i] == '"') {
            is_quoted = !is_quoted;
        } else if (!is_quoted && (text[i] == '\n' || text[i] == '\r')) {
            *pos = i + 1;
            return true;
        } else if (!is_quoted) {
            for (int k = 0; k < 3; k++) {
                counts[k] += text[i] == delimiters[k];
            }
        }
    }
    *pos = n_bytes;
    return false;
}

/* The delimiter that stands equally often in each of the first lines; else the most frequent one of
 * the first line. A tab or semicolon beats a comma, which may be a decimal comma there. */
static char find_delimiter(const char *text, size_t n_bytes) {
    static const char delimiters[] = "\t;,";
    enum { MAX_LINES = 32 };
    int64_t first[3] = {0};
    bool is_even[3] = {true, true, true};
    size_t pos = 0;
    for (int n_lines = 0; n_lines < MAX_LINES && pos < n_bytes;) {
        const size_t begin = pos;
        int64_t counts[3];
        const bool is_complete = count_delimiters(text, n_bytes, delimiters, &pos, counts);
        if (pos - begin == 1 && is_complete) {
            continue; /* an empty line, or half of a CRLF */
        }
        if (!is_complete && n_lines > 0) {
            break;
        }
        for (int k = 0; k < 3; k++) {
            first[k] = n_lines == 0 ? counts[k] : first[k];
            is_even[k] = is_even[k] && counts[k] == first[k];
        }
        n_lines++;
    }
    int best = 2;
    for (int k = 2; k >= 0; k--) {
        best = first[k] >= first[best] && first[k] > 0 ? k : best;
    }
    for (int k = 2; k >= 0; k--) {
        best = is_even[k] && first[k] > 0 ? k : best;
    }
    return delimiters[best];
}

/* Fails with the place of a field. */
static mz_status fail_field(mz_series_csv *csv, const sighting *at, const char *what,
                            const char *hint) {
    char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
    char shown[MZ_SERIES_SHOWN_BYTES];
    const char *name = mz_series_columns_name(&csv->columns, at->column, buffer);
    mz_series_show(name, strlen(name), shown);
    const bool has_name = name != buffer;
    return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: row %lld, column %s%s%s: \"%s\" %s%s",
                   csv->file, (long long)at->row, has_name ? "\"" : "",
                   has_name ? shown : buffer + strlen("column "), has_name ? "\"" : "", at->shown,
                   what, hint);
}

static sighting see(const mz_series_csv *csv, int64_t column, const char *text, size_t n_bytes) {
    sighting s = {.row = csv->row, .column = column};
    mz_series_show(text, n_bytes, s.shown);
    return s;
}

static void see_first(sighting *s, const mz_series_csv *csv, int64_t column, const char *text,
                      size_t n_bytes) {
    if (s->row == 0) {
        *s = see(csv, column, text, n_bytes);
    }
}

static mz_status store_field(mz_series_csv *csv, int64_t column, char *text, size_t n_bytes) {
    const int64_t slot = csv->columns.slots[column];
    const bool is_open = column == 0 && csv->columns.is_first_open;
    if (slot < 0) {
        return MZ_OK;
    }
    if (is_open && csv->is_first_text) {
        csv->row_values[slot] = NAN;
        return MZ_OK;
    }
    const mz_field field = mz_series_field(text, n_bytes, csv->decimal_comma);
    column_group *group = is_open ? &csv->first : &csv->rest;
    csv->row_values[slot] = field.value;
    if (field.mark == '.') {
        see_first(&group->point, csv, column, text, n_bytes);
    } else if (field.mark == ',') {
        see_first(&group->comma, csv, column, text, n_bytes);
    }
    if (field.kind == MZ_FIELD_RANGE) {
        see_first(&group->range, csv, column, text, n_bytes);
    } else if (field.kind == MZ_FIELD_TEXT && is_open) {
        csv->is_first_text = true;
    } else if (field.kind == MZ_FIELD_TEXT) {
        const sighting at = see(csv, column, text, n_bytes);
        const bool has_choice = !csv->columns.is_named && csv->columns.n_columns > 1;
        return fail_field(csv, &at, "is not a number",
                          has_choice ? "; choose the columns to read with --columns" : "");
    }
    return MZ_OK;
}

static mz_status push_row(mz_series_csv *csv) {
    const int64_t n_stored = csv->columns.n_stored;
    if (csv->n_rows == MZ_SERIES_MAX_VALUES) {
        return mz_fail(&csv->ctx->error, MZ_ERR_LIMIT, "%s: row %lld: more than %d values a series",
                       csv->file, (long long)csv->row, MZ_SERIES_MAX_VALUES);
    }
    size_t i = (size_t)csv->n_rows * (size_t)n_stored;
    for (int64_t slot = 0; slot < n_stored; slot++, i++) {
        if (i >> BLOCK_SHIFT == csv->n_blocks) {
            void *grown = csv->blocks;
            MZ_TRY(mz_grow(csv->ctx, &grown, &csv->blocks_capacity, csv->n_blocks + 1,
                           sizeof *csv->blocks, "CSV values"));
            csv->blocks = grown;
            void *block;
            MZ_TRY(mz_alloc(csv->ctx, BLOCK_VALUES * sizeof(double), "CSV values", &block));
            csv->blocks[csv->n_blocks++] = block;
        }
        csv->blocks[i >> BLOCK_SHIFT][i & (BLOCK_VALUES - 1)] = csv->row_values[slot];
    }
    csv->n_rows++;
    return MZ_OK;
}

/* The first row is complete: it is a header, or values after all. */
static mz_status begin_table(mz_series_csv *csv) {
    mz_series_columns *c = &csv->columns;
    MZ_TRY(mz_series_columns_choose(csv->ctx, csv->file, c, csv->wanted, csv->decimal_comma));
    void *row_values;
    MZ_TRY(
        mz_calloc(csv->ctx, (size_t)c->n_stored, sizeof *csv->row_values, "CSV row", &row_values));
    csv->row_values = row_values;
    csv->is_begun = true;
    if (c->has_header) {
        return MZ_OK;
    }
    for (int64_t i = 0; i < c->n_columns; i++) {
        char *text = c->text + c->offsets[i];
        MZ_TRY(store_field(csv, i, text, strlen(text)));
    }
    return push_row(csv);
}

static mz_status add_field(mz_series_csv *csv, char *text, size_t n_bytes) {
    csv->row_bytes += n_bytes + 1;
    if (csv->row_bytes > MZ_SERIES_MAX_LINE_BYTES) {
        return mz_fail(&csv->ctx->error, MZ_ERR_LIMIT, "%s: row %lld is longer than %d MiB",
                       csv->file, (long long)csv->row, MZ_SERIES_MAX_LINE_BYTES >> 20);
    }
    const int64_t column = csv->n_fields++;
    if (!csv->is_begun) {
        return mz_series_columns_add(csv->ctx, csv->file, &csv->columns, text, n_bytes);
    }
    return column < csv->columns.n_columns ? store_field(csv, column, text, n_bytes) : MZ_OK;
}

static mz_status end_row(mz_series_csv *csv) {
    if (!csv->is_begun) {
        return begin_table(csv);
    }
    if (csv->n_fields != csv->columns.n_columns) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT,
                       "%s: row %lld has %lld fields, the first row has %lld", csv->file,
                       (long long)csv->row, (long long)csv->n_fields,
                       (long long)csv->columns.n_columns);
    }
    return push_row(csv);
}

static void on_field(void *text, size_t n_bytes, void *user) {
    mz_series_csv *csv = user;
    if (csv->status == MZ_OK) {
        csv->status = add_field(csv, text, n_bytes);
    }
}

static void on_row_end(int end, void *user) {
    mz_series_csv *csv = user;
    if (csv->status != MZ_OK) {
        return;
    }
    const bool is_second_half = csv->n_fields == 0 && end == '\n' && csv->last_end == '\r';
    if (csv->n_fields > 0) {
        csv->status = end_row(csv);
    }
    csv->row += is_second_half ? 0 : 1;
    csv->n_fields = 0;
    csv->row_bytes = 0;
    csv->last_end = end;
}

/* The parser allocates with functions that know no context, and a chunk adds its own size to the
 * field in progress at most: so the field buffer is ours and always large enough before a chunk
 * goes in. Should the parser ask for more all the same, it gets nothing. */
static void *refuse_realloc(void *ptr, size_t bytes) {
    (void)ptr;
    (void)bytes;
    return NULL;
}

static mz_status feed(mz_series_csv *csv, const char *chunk, size_t n_bytes) {
    MZ_TRY(mz_grow(csv->ctx, &csv->entry, &csv->entry_capacity, csv->parser.entry_pos + n_bytes + 2,
                   1, "CSV field"));
    csv->parser.entry_buf = csv->entry;
    csv->parser.entry_size = csv->entry_capacity;
    const size_t n_parsed = csv_parse(&csv->parser, chunk, n_bytes, on_field, on_row_end, csv);
    MZ_TRY(csv->status);
    if (n_parsed != n_bytes) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: row %lld: %s", csv->file,
                       (long long)csv->row, csv_strerror(csv_error(&csv->parser)));
    }
    if (csv->parser.entry_pos > MZ_SERIES_MAX_LINE_BYTES) {
        return mz_fail(&csv->ctx->error, MZ_ERR_LIMIT,
                       "%s: row %lld is longer than %d MiB (is a quote never closed?)", csv->file,
                       (long long)csv->row, MZ_SERIES_MAX_LINE_BYTES >> 20);
    }
    return MZ_OK;
}

static mz_status parse_all(mz_series_csv *csv, mz_series_source *source) {
    const char *chunk;
    size_t n_bytes;
    MZ_TRY(mz_series_source_peek(source, &chunk, &n_bytes));
    const char delimiter = find_delimiter(chunk, n_bytes);
    csv->decimal_comma = delimiter != ',';
    csv_set_delim(&csv->parser, (unsigned char)delimiter);
    for (;;) {
        MZ_TRY(mz_series_source_next(source, &chunk, &n_bytes));
        if (n_bytes == 0) {
            break;
        }
        if (source->offset + n_bytes > max_file_bytes) {
            return mz_fail(&csv->ctx->error, MZ_ERR_LIMIT, "%s: is larger than %llu bytes",
                           csv->file, (unsigned long long)max_file_bytes);
        }
        MZ_TRY(feed(csv, chunk, n_bytes));
    }
    MZ_TRY(feed(csv, "", 0));
    /* An open quote is an error at the end only; inside, stray quotes are taken as they stand. */
    (void)csv_set_opts(&csv->parser,
                       CSV_APPEND_NULL | CSV_REPALL_NL | CSV_STRICT | CSV_STRICT_FINI);
    const int failed = csv_fini(&csv->parser, on_field, on_row_end, csv);
    MZ_TRY(csv->status);
    if (failed != 0) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT,
                       "%s: row %lld: a quoted field is not closed", csv->file,
                       (long long)csv->row);
    }
    return MZ_OK;
}

static double value_at(const mz_series_csv *csv, int64_t row, int64_t slot) {
    const size_t i = (size_t)row * (size_t)csv->columns.n_stored + (size_t)slot;
    return csv->blocks[i >> BLOCK_SHIFT][i & (BLOCK_VALUES - 1)];
}

/* A delimiter at the end of each line makes a last column without name and values; it is no series.
 */
static bool has_hollow_end(const mz_series_csv *csv) {
    const mz_series_columns *c = &csv->columns;
    if (!c->has_header || c->is_named || c->n_stored - csv->first_slot < 2 ||
        c->text[c->offsets[c->n_columns - 1]] != '\0') {
        return false;
    }
    for (int64_t row = 0; row < csv->n_rows; row++) {
        if (!isnan(value_at(csv, row, c->n_stored - 1))) {
            return false;
        }
    }
    return true;
}

static void merge_sighting(sighting *s, const sighting *other) {
    if (other->row != 0 && (s->row == 0 || other->row < s->row)) {
        *s = *other;
    }
}

/* What only the whole file tells. */
static mz_status settle(mz_series_csv *csv) {
    if (!csv->is_begun) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: is empty", csv->file);
    }
    if (csv->n_rows == 0) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: has a header but no data rows",
                       csv->file);
    }
    column_group *rest = &csv->rest;
    if (csv->columns.is_first_open && !csv->is_first_text) {
        merge_sighting(&rest->point, &csv->first.point);
        merge_sighting(&rest->comma, &csv->first.comma);
        merge_sighting(&rest->range, &csv->first.range);
    }
    if (rest->range.row != 0) {
        return fail_field(csv, &rest->range, "is beyond the range of 64-bit floating point", "");
    }
    if (rest->comma.row != 0 && rest->point.row != 0) {
        char hint[64];
        (void)snprintf(hint, sizeof hint, "; the decimal mark of row %lld is a point",
                       (long long)rest->point.row);
        return fail_field(csv, &rest->comma, "is not a number", hint);
    }
    csv->first_slot = csv->is_first_text ? 1 : 0;
    csv->n_series = csv->columns.n_stored - csv->first_slot - (has_hollow_end(csv) ? 1 : 0);
    void *values;
    MZ_TRY(mz_calloc(csv->ctx, (size_t)csv->n_rows, sizeof *csv->series_values, "series values",
                     &values));
    csv->series_values = values;
    return MZ_OK;
}

mz_status mz_series_csv_open(mz_series_source *source, const char *columns, mz_series_csv **out) {
    mz_context *ctx = source->ctx;
    void *memory;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_series_csv), "CSV reader", &memory));
    mz_series_csv *csv = memory;
    csv->ctx = ctx;
    csv->file = source->name;
    csv->wanted = columns;
    csv->row = 1;
    /* Fails only without a parser. Never freed by csv_free: the only thing it owns, the field
     * buffer, is ours. */
    (void)csv_init(&csv->parser, CSV_APPEND_NULL | CSV_REPALL_NL);
    csv_set_realloc_func(&csv->parser, refuse_realloc);
    mz_status status = parse_all(csv, source);
    if (status == MZ_OK) {
        status = settle(csv);
    }
    if (status != MZ_OK) {
        mz_series_csv_close(csv);
        return status;
    }
    csv->wanted = NULL;
    *out = csv;
    return MZ_OK;
}

void mz_series_csv_close(mz_series_csv *csv) {
    if (csv == NULL) {
        return;
    }
    for (size_t i = 0; i < csv->n_blocks; i++) {
        mz_free(csv->ctx, csv->blocks[i]);
    }
    mz_free(csv->ctx, csv->blocks);
    mz_free(csv->ctx, csv->row_values);
    mz_free(csv->ctx, csv->series_values);
    mz_free(csv->ctx, csv->entry);
    mz_series_columns_clear(csv->ctx, &csv->columns);
    mz_free(csv->ctx, csv);
}

int64_t mz_series_csv_count(const mz_series_csv *csv) {
    return csv->n_series;
}

int64_t mz_series_csv_n_rows(const mz_series_csv *csv) {
    return csv->n_rows;
}

void mz_series_csv_get(mz_series_csv *csv, int64_t index, mz_series *out) {
    const int64_t slot = csv->first_slot + index;
    for (int64_t row = 0; row < csv->n_rows; row++) {
        csv->series_values[row] = value_at(csv, row, slot);
    }
    *out =
        (mz_series){.id = mz_series_columns_name(&csv->columns, csv->columns.stored[slot], csv->id),
                    .values = csv->series_values,
                    .n_values = csv->n_rows};
}
