#include <csv.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "encoders/series/calendar_internal.h"
#include "encoders/series/series_reader_internal.h"
#include "encoders/series/series_table.h"

enum { KEPT_VALUES = 128 << 17 }; /* 128 MiB, and as much again until the oldest are forgotten */

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

/* What the time column turns out to hold. */
typedef enum time_kind {
    TIME_OPEN = 0, /* numbers so far: values, unless text follows */
    TIME_LABELS,
    TIME_DATES,
} time_kind;

enum { MAX_NOTES = 4, NOTE_BYTES = MZ_STAMP_NOTE_BYTES };

struct mz_series_csv {
    mz_context *ctx;
    const char *file; /* borrowed from the source, for messages */
    mz_series_options options;
    struct csv_parser parser;
    void *entry; /* the parser's field buffer */
    size_t entry_capacity;
    bool decimal_comma;
    mz_series_columns columns;
    bool is_begun; /* the first row is complete */
    time_kind time;
    sighting label; /* the first row's, where labels stand */
    column_group first, rest;

    mz_status status; /* the first failure: callbacks of the parser cannot stop it */
    int64_t row; /* number of the row in progress; empty lines count, the second byte of CRLF does
                    not */
    int64_t n_fields; /* fields of it so far */
    size_t row_bytes;
    int last_end;       /* byte that ended the row before */
    double *row_values; /* [n_stored] */
    mz_stamp row_stamp;
    int64_t row_id;
    char *id_text; /* an id in UTF-8 */
    size_t id_capacity;

    mz_series_table table;
    int64_t skipped_slot; /* wide: of the time column, which is no series; -1: none */
    int64_t n_series;
    char id[MZ_SERIES_NUMBER_NAME_BYTES];
    const char *notes[MAX_NOTES];
    char note_texts[MAX_NOTES][NOTE_BYTES];
    int n_notes;
};

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

static void note(mz_series_csv *csv, const char *format, ...) MZ_PRINTF(2, 3);
static void note(mz_series_csv *csv, const char *format, ...) {
    va_list args;
    if (csv->n_notes == MAX_NOTES) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(csv->note_texts[csv->n_notes], NOTE_BYTES, format, args);
    va_end(args);
    csv->notes[csv->n_notes] = csv->note_texts[csv->n_notes];
    csv->n_notes++;
}

/* ---- fields ---- */

/* The column is read as values until it holds text. */
static bool is_open(const mz_series_csv *csv, int64_t column) {
    return column == csv->columns.time_column && csv->time == TIME_OPEN &&
           csv->columns.slots[column] >= 0;
}

static mz_status store_value(mz_series_csv *csv, int64_t column, char *text, size_t n_bytes) {
    const int64_t slot = csv->columns.slots[column];
    const bool may_be_labels = is_open(csv, column);
    const mz_field field = mz_series_field(text, n_bytes, csv->decimal_comma);
    column_group *group = may_be_labels ? &csv->first : &csv->rest;
    csv->row_values[slot] = field.value;
    if (field.mark == '.') {
        see_first(&group->point, csv, column, text, n_bytes);
    } else if (field.mark == ',') {
        see_first(&group->comma, csv, column, text, n_bytes);
    }
    if (field.kind == MZ_FIELD_RANGE) {
        see_first(&group->range, csv, column, text, n_bytes);
    } else if (field.kind == MZ_FIELD_TEXT && may_be_labels) {
        csv->time = TIME_LABELS;
    } else if (field.kind == MZ_FIELD_TEXT) {
        const sighting at = see(csv, column, text, n_bytes);
        const bool has_choice = !csv->columns.is_named && csv->columns.n_columns > 1;
        return fail_field(
            csv, &at, "is not a number",
            has_choice ? "; choose the columns to read with --columns, or the one that names "
                         "the series with --id"
                       : "");
    }
    return MZ_OK;
}

static bool is_date(const char *text, size_t n_bytes) {
    mz_stamp_numbers numbers;
    return mz_stamp_scan(text, n_bytes, &numbers);
}

/* The first data row tells what the time column holds. */
static mz_status begin_time(mz_series_csv *csv, int64_t column, char *text, size_t n_bytes) {
    const mz_series_columns *c = &csv->columns;
    const bool is_number = mz_series_field(text, n_bytes, csv->decimal_comma).kind != MZ_FIELD_TEXT;
    if (csv->options.ignore_dates && (c->is_time_named || !is_number)) {
        csv->time = TIME_LABELS;
    } else if (is_date(text, n_bytes) && (c->is_time_named || !is_number)) {
        csv->time = TIME_DATES;
        csv->table.has_dates = true;
    } else if (c->is_time_given) {
        const sighting at = see(csv, column, text, n_bytes);
        return fail_field(csv, &at, "is not a date", "");
    } else if (c->is_time_named || !is_number) {
        csv->time = TIME_LABELS;
        csv->label = see(csv, column, text, n_bytes);
    }
    return MZ_OK;
}

/* Dates of digits alone ("1949") turn out to be numbers ("1949.083"). */
static bool is_digits_only(const mz_stamp_form *form) {
    return form->separator == '\0' && form->n_clock == 0;
}

static mz_status store_date(mz_series_csv *csv, int64_t column, const char *text, size_t n_bytes) {
    char name[MZ_SERIES_SHOWN_BYTES];
    char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
    mz_series_columns *c = &csv->columns;
    const mz_status status =
        mz_stamp_column_add(csv->ctx, &csv->table.dates, text, n_bytes, csv->row, &csv->row_stamp);
    const char *shown = mz_series_columns_name(c, column, buffer);
    mz_series_show(shown, strlen(shown), name);
    if (status == MZ_ERR_FORMAT && !c->is_time_given && csv->table.dates.n_rows > 0 &&
        is_digits_only(&csv->table.dates.form)) {
        const sighting at = see(csv, column, text, n_bytes);
        note(csv, "column \"%s\" is not read as dates: \"%s\" (row %lld) is none", name, at.shown,
             (long long)csv->row);
        csv->time = TIME_LABELS;
        csv->table.has_dates = false;
        return MZ_OK;
    }
    return status == MZ_OK ? MZ_OK
                           : mz_fail_prefix(&csv->ctx->error, "%s: column \"%s\"", csv->file, name);
}

static mz_status store_time(mz_series_csv *csv, int64_t column, char *text, size_t n_bytes) {
    const int64_t row = csv->table.n_rows;
    const int64_t slot = csv->columns.slots[column];
    if (row == 0) {
        MZ_TRY(begin_time(csv, column, text, n_bytes));
    }
    if (row == 1 && csv->time == TIME_LABELS && csv->label.row > 0 && csv->columns.is_time_named &&
        mz_series_field(text, n_bytes, csv->decimal_comma).kind == MZ_FIELD_TEXT &&
        is_date(text, n_bytes)) {
        return fail_field(csv, &csv->label, "is not a date, as the next row has one", "");
    }
    if (csv->time == TIME_OPEN && slot >= 0) {
        return store_value(csv, column, text, n_bytes);
    }
    if (slot >= 0) {
        csv->row_values[slot] = NAN;
    }
    return csv->time == TIME_DATES ? store_date(csv, column, text, n_bytes) : MZ_OK;
}

static mz_status store_id(mz_series_csv *csv, const char *text, size_t n_bytes) {
    void *grown = csv->id_text;
    if (n_bytes == 0) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: row %lld: the id is empty", csv->file,
                       (long long)csv->row);
    }
    MZ_TRY(mz_grow(csv->ctx, &grown, &csv->id_capacity, 2 * n_bytes, 1, "id"));
    csv->id_text = grown;
    const size_t n = mz_series_to_utf8(text, n_bytes, csv->id_text);
    return mz_series_ids_find(csv->ctx, &csv->table.ids, csv->id_text, n, &csv->row_id);
}

static mz_status store_field(mz_series_csv *csv, int64_t column, char *text, size_t n_bytes) {
    if (column == csv->columns.id_column) {
        return store_id(csv, text, n_bytes);
    }
    if (column == csv->columns.time_column) {
        return store_time(csv, column, text, n_bytes);
    }
    return csv->columns.slots[column] >= 0 ? store_value(csv, column, text, n_bytes) : MZ_OK;
}

static mz_status push_row(mz_series_csv *csv) {
    return mz_series_table_push(&csv->table, csv->row, csv->row_values, csv->row_stamp,
                                csv->row_id);
}

/* ---- rows ---- */

/* The first row is complete: it is a header, or values after all. */
static mz_status begin_table(mz_series_csv *csv) {
    mz_series_columns *c = &csv->columns;
    MZ_TRY(mz_series_columns_choose(csv->ctx, csv->file, c, &csv->options, csv->decimal_comma));
    csv->table.n_stored = c->n_stored;
    csv->table.is_long = c->id_column >= 0;
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
    const char delimiter = mz_series_find_delimiter(chunk, n_bytes);
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

/* A delimiter at the end of each line makes a last column without name and values; it is no series.
 */
static bool has_hollow_end(const mz_series_csv *csv) {
    const mz_series_columns *c = &csv->columns;
    if (!c->has_header || c->is_named || c->n_stored - (csv->skipped_slot >= 0 ? 1 : 0) < 2 ||
        csv->table.is_long || c->text[c->offsets[c->n_columns - 1]] != '\0') {
        return false;
    }
    for (int64_t row = csv->table.first_kept; row < csv->table.n_rows; row++) {
        if (!isnan(mz_store_double(&csv->table.values, (row + 1) * c->n_stored - 1))) {
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

static mz_status settle_series(mz_series_csv *csv) {
    const mz_series_columns *c = &csv->columns;
    const int64_t slot = c->time_column >= 0 ? c->slots[c->time_column] : -1;
    MZ_TRY(mz_series_table_settle(&csv->table));
    csv->skipped_slot = csv->time != TIME_OPEN ? slot : -1;
    csv->n_series = csv->table.is_long ? csv->table.ids.n
                                       : c->n_stored - (csv->skipped_slot >= 0 ? 1 : 0) -
                                             (has_hollow_end(csv) ? 1 : 0);
    return MZ_OK;
}

static void write_notes(mz_series_csv *csv) {
    const mz_series_columns *c = &csv->columns;
    char buffer[MZ_SERIES_NUMBER_NAME_BYTES];
    char shown[MZ_SERIES_SHOWN_BYTES];
    char text[MZ_STAMP_NOTE_BYTES];
    if (c->n_left_out > 0) {
        const char *name = mz_series_columns_name(c, c->left_out, buffer);
        mz_series_show(name, strlen(name), shown);
        const int64_t n_more = c->n_left_out - 1;
        if (n_more > 0) {
            note(csv, "column \"%s\" and %lld more are not read; --columns or --value chooses",
                 shown, (long long)n_more);
        } else {
            note(csv, "column \"%s\" is not read; --columns or --value chooses", shown);
        }
    }
    if (csv->table.first_kept > 0) {
        note(csv, "the newest %lld of %lld rows are used: a forecast looks no further back",
             (long long)(csv->table.n_rows - csv->table.first_kept), (long long)csv->table.n_rows);
    }
    if (csv->time == TIME_DATES && mz_stamp_column_note(&csv->table.dates, text)) {
        note(csv, "%s", text);
    }
}

/* What only the whole file tells. */
static mz_status settle(mz_series_csv *csv) {
    if (!csv->is_begun) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: is empty", csv->file);
    }
    if (csv->table.n_rows == 0) {
        return mz_fail(&csv->ctx->error, MZ_ERR_FORMAT, "%s: has a header but no data rows",
                       csv->file);
    }
    column_group *rest = &csv->rest;
    if (csv->columns.time_column >= 0 && csv->time == TIME_OPEN) {
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
    MZ_TRY(settle_series(csv));
    write_notes(csv);
    return MZ_OK;
}

mz_status mz_series_csv_open(mz_series_source *source, const mz_series_options *options,
                             mz_series_csv **out) {
    mz_context *ctx = source->ctx;
    void *memory;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_series_csv), "CSV reader", &memory));
    mz_series_csv *csv = memory;
    csv->ctx = ctx;
    csv->file = source->name;
    csv->options = *options;
    csv->table = (mz_series_table){
        .ctx = ctx, .file = source->name, .options = &csv->options, .max_values = KEPT_VALUES};
    csv->table.dates.day_first = options->day_first;
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
    *out = csv;
    return MZ_OK;
}

void mz_series_csv_close(mz_series_csv *csv) {
    if (csv == NULL) {
        return;
    }
    mz_series_table_clear(&csv->table);
    mz_free(csv->ctx, csv->row_values);
    mz_free(csv->ctx, csv->id_text);
    mz_free(csv->ctx, csv->entry);
    mz_series_columns_clear(csv->ctx, &csv->columns);
    mz_free(csv->ctx, csv);
}

int64_t mz_series_csv_count(const mz_series_csv *csv) {
    return csv->n_series;
}

int64_t mz_series_csv_n_values(const mz_series_csv *csv) {
    const int64_t n_rows = csv->table.n_rows - csv->table.first_kept;
    return csv->table.is_long ? n_rows : n_rows * csv->n_series;
}

bool mz_series_csv_has_dates(const mz_series_csv *csv) {
    return csv->table.has_dates;
}

int mz_series_csv_notes(const mz_series_csv *csv, const char *const **notes) {
    *notes = csv->notes;
    return csv->n_notes;
}

mz_status mz_series_csv_get(mz_series_csv *csv, int64_t index, mz_series *out) {
    mz_series_columns *c = &csv->columns;
    const bool is_behind = csv->skipped_slot >= 0 && index >= csv->skipped_slot;
    const int64_t slot = csv->table.is_long || !is_behind ? index : index + 1;
    mz_series series;
    MZ_TRY(mz_series_table_get(&csv->table, slot, &series));
    char *name = mz_series_columns_name(c, c->stored[csv->table.is_long ? 0 : slot], csv->id);
    if (csv->table.is_long) {
        series.value_name = name;
    } else {
        series.id = name;
    }
    *out = series;
    return MZ_OK;
}
