#include <jansson.h>
#include <math.h>
#include <string.h>

#include "encoders/series/series_reader_internal.h"
#include "encoders/series/timeline.h"

/* Limits a line is held against before the JSON library builds a tree of it, 40 to 130 bytes an
 * element. */
enum { MAX_COMMAS = MZ_SERIES_MAX_VALUES + (1 << 16), MAX_BRACKETS = 1 << 20 };

struct mz_series_jsonl {
    mz_series_options options;
    mz_series_source *source; /* borrowed */
    const char *chunk;        /* what is left of the newest chunk */
    size_t n_left;
    bool is_at_end;
    char *line; /* the line in progress, without a NUL */
    size_t line_bytes, line_capacity;
    int64_t line_number;
    char *id;
    size_t id_capacity;
    double *values;
    size_t values_capacity;
    double *points; /* values by time */
    size_t points_capacity;
    mz_stamp *stamps, *point_stamps;
    size_t stamps_capacity, point_stamps_capacity;
    mz_timeline timeline;
    char note_text[MZ_STAMP_NOTE_BYTES];
    const char *notes[MZ_TIMELINE_NOTES + 1];
};

static mz_context *context_of(const mz_series_jsonl *j) {
    return j->source->ctx;
}

static mz_status append(mz_series_jsonl *j, size_t n_bytes) {
    mz_context *ctx = context_of(j);
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
        return mz_fail(&context_of(j)->error, MZ_ERR_LIMIT,
                       "%s: line %lld: more than %d values a series", j->source->name,
                       (long long)j->line_number, MZ_SERIES_MAX_VALUES);
    }
    if (n_brackets > MAX_BRACKETS) {
        return mz_fail(&context_of(j)->error, MZ_ERR_LIMIT,
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
        return mz_fail(&context_of(j)->error, MZ_ERR_NOMEM, "%s: line %lld: out of memory",
                       j->source->name, (long long)j->line_number);
    }
    if (root == NULL) {
        return mz_fail(&context_of(j)->error, MZ_ERR_FORMAT,
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

static mz_status fail_type(const mz_series_jsonl *j, const char *what, const json_t *value,
                           const char *expected) {
    return mz_fail(&context_of(j)->error, MZ_ERR_FORMAT, "%s: line %lld: %s is %s, expected %s",
                   j->source->name, (long long)j->line_number, what, type_name(value), expected);
}

static mz_status store_values(mz_series_jsonl *j, const json_t *array, const char *key,
                              int64_t *n_values) {
    mz_context *ctx = context_of(j);
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
            return fail_type(j, what, element, "a number or null");
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
        return fail_type(j, "id", id, "text or a number up to 2^53");
    }
    const size_t n_bytes = strlen(text) + 1;
    void *grown = j->id;
    MZ_TRY(mz_grow(context_of(j), &grown, &j->id_capacity, n_bytes, 1, "series id"));
    j->id = grown;
    memcpy(j->id, text, n_bytes);
    return MZ_OK;
}

/* ---- dates ---- */

static int64_t number_of_value(const void *self, int64_t i) {
    (void)self;
    return i + 1;
}

static mz_status grow_stamps(mz_series_jsonl *j, mz_stamp **stamps, size_t *capacity, int64_t n) {
    void *grown = *stamps;
    MZ_TRY(mz_grow(context_of(j), &grown, capacity, (size_t)n + 1, sizeof **stamps, "dates"));
    *stamps = grown;
    return MZ_OK;
}

static mz_status fail_line(const mz_series_jsonl *j, const char *key) {
    return mz_fail_prefix(&context_of(j)->error, "%s: line %lld: %s", j->source->name,
                          (long long)j->line_number, key);
}

/* Points at equal steps of a frequency from the first date on. */
static mz_status step_dates(mz_series_jsonl *j, mz_stamp start, mz_series *out) {
    MZ_TRY(grow_stamps(j, &j->stamps, &j->stamps_capacity, out->n_values));
    mz_frequency_anchor(&out->frequency, start);
    for (int64_t i = 0; i < out->n_values; i++) {
        if (!mz_frequency_step(&out->frequency, start, i, &j->stamps[i])) {
            return mz_fail(&context_of(j)->error, MZ_ERR_FORMAT,
                           "%s: line %lld: value %lld lies beyond the year 9999", j->source->name,
                           (long long)j->line_number, (long long)i + 1);
        }
    }
    out->stamps = j->stamps;
    return MZ_OK;
}

/* The season that R gives a series as its frequency: 12 is monthly. NONE for others. */
static mz_frequency frequency_of_season(double season) {
    static const struct {
        double season;
        mz_frequency freq;
    } known[] = {
        {1, {.kind = MZ_FREQUENCY_YEAR_END, .n = 1, .is_open = true}},
        {4, {.kind = MZ_FREQUENCY_QUARTER_END, .n = 1, .is_open = true}},
        {7, {.kind = MZ_FREQUENCY_DAY, .n = 1}},
        {12, {.kind = MZ_FREQUENCY_MONTH_END, .n = 1, .is_open = true}},
        {24, {.kind = MZ_FREQUENCY_HOUR, .n = 1}},
        {52, {.kind = MZ_FREQUENCY_WEEK, .n = 1, .is_open = true}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].season == season) {
            return known[i].freq;
        }
    }
    return (mz_frequency){0};
}

/* "freq": a name, or R's number of points in a season. */
static mz_status read_frequency(const mz_series_jsonl *j, const json_t *freq, mz_series *out) {
    const double max_season = 1e6;
    out->frequency = j->options.frequency;
    if (freq == NULL || json_is_null(freq)) {
        return MZ_OK;
    }
    if (json_is_real(freq)) {
        const double season = json_real_value(freq);
        out->season =
            season >= 1 && season <= max_season && season == floor(season) ? (int64_t)season : 0;
        if (out->frequency.kind == MZ_FREQUENCY_NONE) {
            out->frequency = frequency_of_season(season);
        }
        return MZ_OK;
    }
    if (!json_is_string(freq)) {
        return fail_type(j, "freq", freq, "a name or a number");
    }
    if (out->frequency.kind != MZ_FREQUENCY_NONE) {
        return MZ_OK;
    }
    return mz_frequency_parse(context_of(j), json_string_value(freq), &out->frequency) == MZ_OK
               ? MZ_OK
               : fail_line(j, "freq");
}

/* R's [year, period], for one, four and twelve periods. */
static bool read_period(const json_t *start, int64_t season, mz_stamp *stamp) {
    const json_t *year = json_array_get(start, 0);
    const json_t *period = json_array_get(start, 1);
    mz_stamp_form form;
    char text[32];
    /* Series without dates are numbered from year 1 in R. */
    const double first_year = 1000;
    if (json_array_size(start) != 2 || !json_is_real(year) || !json_is_real(period) ||
        (season != 1 && season != 4 && season != 12) || json_real_value(year) < first_year) {
        return false;
    }
    const double month = (json_real_value(period) - 1) * (12 / (double)season) + 1;
    const int n = snprintf(text, sizeof text, "%04.0f-%02.0f", json_real_value(year), month);
    return n == 7 && mz_stamp_parse(text, (size_t)n, &form, stamp);
}

static mz_status read_start(mz_series_jsonl *j, const json_t *start, mz_series *out) {
    mz_stamp stamp;
    out->form = mz_stamp_form_iso();
    if (json_is_array(start)) {
        const bool is_known = read_period(start, out->season, &stamp);
        return is_known && out->frequency.kind != MZ_FREQUENCY_NONE ? step_dates(j, stamp, out)
                                                                    : MZ_OK;
    }
    if (!json_is_string(start)) {
        return fail_type(j, "start", start, "a date as text");
    }
    const char *text = json_string_value(start);
    mz_stamp_column column = {.day_first = j->options.day_first};
    if (mz_stamp_column_add(context_of(j), &column, text, strlen(text), 1, &stamp) != MZ_OK) {
        return mz_fail(&context_of(j)->error, MZ_ERR_FORMAT,
                       "%s: line %lld: start \"%.40s\" is not a date", j->source->name,
                       (long long)j->line_number, text);
    }
    mz_stamp_column_settle(&column);
    stamp = mz_stamp_column_value(&column, stamp);
    out->form = column.form;
    if (out->frequency.kind == MZ_FREQUENCY_NONE) {
        out->notes = j->notes;
        out->n_notes = 1;
        j->notes[0] = "a start without freq: the answer has no dates; give --freq";
        return MZ_OK;
    }
    return step_dates(j, stamp, out);
}

/* "timestamps": one for each value. */
static mz_status read_timestamps(mz_series_jsonl *j, const json_t *array, mz_series *out) {
    mz_context *ctx = context_of(j);
    const int64_t n = out->n_values;
    mz_stamp_column column = {.day_first = j->options.day_first};
    if (!json_is_array(array)) {
        return fail_type(j, "timestamps", array, "an array of dates");
    }
    if ((int64_t)json_array_size(array) != n) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: line %lld: %zu timestamps for %lld values",
                       j->source->name, (long long)j->line_number, json_array_size(array),
                       (long long)n);
    }
    MZ_TRY(grow_stamps(j, &j->stamps, &j->stamps_capacity, n));
    for (int64_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(array, (size_t)i);
        if (!json_is_string(element)) {
            return fail_type(j, "a timestamp", element, "a date as text");
        }
        const char *text = json_string_value(element);
        if (mz_stamp_column_add(ctx, &column, text, strlen(text), i + 1, &j->stamps[i]) != MZ_OK) {
            return fail_line(j, "timestamps");
        }
    }
    mz_stamp_column_settle(&column);
    for (int64_t i = 0; i < n; i++) {
        j->stamps[i] = mz_stamp_column_value(&column, j->stamps[i]);
    }
    out->form = column.form;
    for (int i = 0; mz_stamp_column_note(&column, j->note_text) && i < 1; i++) {
        j->notes[out->n_notes++] = j->note_text;
        out->notes = j->notes;
    }
    return MZ_OK;
}

/* Puts the values in the order of their dates. */
static mz_status order_values(mz_series_jsonl *j, mz_series *out) {
    mz_context *ctx = context_of(j);
    const mz_timeline_options options = {
        .frequency = out->frequency, .sort = j->options.sort, .duplicates = j->options.duplicates};
    const mz_timeline_rows rows = {.stamps = j->stamps,
                                   .n = out->n_values,
                                   .what = "timestamp",
                                   .number = number_of_value,
                                   .form = &out->form};
    const mz_status status = mz_timeline_build(ctx, &rows, &options, &j->timeline);
    if (status == MZ_ERR_ARG || status == MZ_ERR_LIMIT) {
        out->error = ctx->error.message;
        return MZ_OK;
    }
    MZ_TRY(status);
    void *grown = j->points;
    MZ_TRY(mz_grow(ctx, &grown, &j->points_capacity, (size_t)j->timeline.n_points + 1,
                   sizeof *j->points, "series values"));
    j->points = grown;
    MZ_TRY(grow_stamps(j, &j->point_stamps, &j->point_stamps_capacity, j->timeline.n_points));
    mz_timeline_values(&j->timeline, j->values, j->points);
    mz_timeline_stamps(&j->timeline, j->stamps, j->point_stamps);
    out->values = j->points;
    out->n_values = j->timeline.n_points;
    out->stamps = j->point_stamps;
    out->frequency = j->timeline.frequency;
    for (int i = 0; i < j->timeline.n_notes; i++) {
        j->notes[out->n_notes++] = j->timeline.notes[i];
    }
    out->notes = j->notes;
    return MZ_OK;
}

static mz_status read_dates(mz_series_jsonl *j, const json_t *root, mz_series *out) {
    const json_t *start = json_object_get(root, "start");
    const json_t *timestamps = json_object_get(root, "timestamps");
    MZ_TRY(read_frequency(j, json_object_get(root, "freq"), out));
    if (timestamps != NULL) {
        if (json_is_real(json_object_get(root, "freq"))) {
            out->frequency = j->options.frequency; /* the dates say it better */
        }
        MZ_TRY(read_timestamps(j, timestamps, out));
        return order_values(j, out);
    }
    if (start != NULL && !json_is_null(start)) {
        MZ_TRY(read_start(j, start, out));
    }
    if (out->stamps == NULL) {
        out->frequency = (mz_frequency){0};
    }
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
        return fail_type(j, "the line", root, "an object or an array");
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *array = json_object_get(root, keys[i]);
        const json_t *id = json_object_get(root, "id");
        if (array == NULL) {
            continue;
        }
        if (!json_is_array(array)) {
            return fail_type(j, keys[i], array, "an array of numbers");
        }
        MZ_TRY(store_id(j, id != NULL ? id : json_object_get(root, "item_id")));
        MZ_TRY(store_values(j, array, keys[i], &out->n_values));
        *out = (mz_series){.id = j->id, .values = j->values, .n_values = out->n_values};
        return read_dates(j, root, out);
    }
    return mz_fail(&context_of(j)->error, MZ_ERR_FORMAT,
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
    mz_context *ctx = context_of(j);
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
