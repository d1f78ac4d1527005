/* Dates of a JSON line: a first one and a frequency, or one for each value. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "encoders/series/series_jsonl_internal.h"

static int64_t number_of_value(const void *self, int64_t i) {
    (void)self;
    return i + 1;
}

static mz_status grow_stamps(mz_series_jsonl *j, mz_stamp **stamps, size_t *capacity, int64_t n) {
    void *grown = *stamps;
    MZ_TRY(mz_grow(j->source->ctx, &grown, capacity, (size_t)n + 1, sizeof **stamps, "dates"));
    *stamps = grown;
    return MZ_OK;
}

static mz_status fail_line(const mz_series_jsonl *j, const char *key) {
    return mz_fail_prefix(&j->source->ctx->error, "%s: line %lld: %s", j->source->name,
                          (long long)j->line_number, key);
}

static void add_note(mz_series_jsonl *j, const char *text, mz_series *out) {
    j->notes[out->n_notes++] = text;
    out->notes = j->notes;
}

/* Points at equal steps of a frequency from the first date on. */
static mz_status step_dates(mz_series_jsonl *j, mz_stamp start, mz_series *out) {
    MZ_TRY(grow_stamps(j, &j->stamps, &j->stamps_capacity, out->n_values));
    mz_frequency_anchor(&out->frequency, start);
    for (int64_t i = 0; i < out->n_values; i++) {
        if (!mz_frequency_step(&out->frequency, start, i, &j->stamps[i])) {
            return mz_fail(&j->source->ctx->error, MZ_ERR_FORMAT,
                           "%s: line %lld: value %lld lies beyond the year 9999", j->source->name,
                           (long long)j->line_number, (long long)i + 1);
        }
    }
    out->stamps = j->stamps;
    mz_stamp_check check;
    mz_stamp_check_run(&out->frequency, &start, 1, &check);
    if (check.off_grid.count > 0) {
        char date[MZ_STAMP_BYTES];
        char name[MZ_FREQUENCY_BYTES];
        (void)snprintf(j->grid_text, sizeof j->grid_text,
                       "start %s is not on the grid of %s, the dates after it are",
                       mz_stamp_format(&out->form, start, date),
                       mz_frequency_name(&out->frequency, name));
        add_note(j, j->grid_text, out);
    }
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

/* "W" leaves open what "W-MON" says. */
static bool contradict(const mz_frequency *a, const mz_frequency *b) {
    const bool is_open = a->is_open || b->is_open;
    return a->kind != b->kind || a->n != b->n || (!is_open && !mz_frequency_equal(a, b));
}

/* "freq": a name, or R's number of points in a season. */
static mz_status read_frequency(mz_series_jsonl *j, const json_t *freq, mz_series *out) {
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
        return mz_series_jsonl_fail_type(j, "freq", freq, "a name or a number");
    }
    mz_frequency stated;
    if (mz_frequency_parse(j->source->ctx, json_string_value(freq), &stated) != MZ_OK) {
        return fail_line(j, "freq");
    }
    if (out->frequency.kind == MZ_FREQUENCY_NONE) {
        out->frequency = stated;
    } else if (contradict(&stated, &out->frequency)) {
        (void)snprintf(j->frequency_note, sizeof j->frequency_note,
                       "freq \"%.32s\" of the line is overruled by the option",
                       json_string_value(freq));
        add_note(j, j->frequency_note, out);
    }
    return MZ_OK;
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
        return mz_series_jsonl_fail_type(j, "start", start, "a date as text");
    }
    const char *text = json_string_value(start);
    mz_stamp_column column = {.day_first = j->options.day_first};
    if (mz_stamp_column_add(j->source->ctx, &column, text, strlen(text), 1, &stamp) != MZ_OK) {
        char shown[MZ_SERIES_SHOWN_BYTES];
        mz_series_show(text, strlen(text), shown);
        return mz_fail(&j->source->ctx->error, MZ_ERR_FORMAT,
                       "%s: line %lld: start \"%s\" is not a date", j->source->name,
                       (long long)j->line_number, shown);
    }
    mz_stamp_column_settle(&column);
    stamp = mz_stamp_column_value(&column, stamp);
    out->form = column.form;
    if (out->frequency.kind == MZ_FREQUENCY_NONE) {
        add_note(j, "a start without freq: the answer has no dates; give --freq", out);
        return MZ_OK;
    }
    if (column.is_ambiguous) {
        (void)snprintf(j->note_text, sizeof j->note_text,
                       "start \"%s\" is ambiguous: the month was read first; --day-first reads the "
                       "day first",
                       column.first.text);
        add_note(j, j->note_text, out);
    }
    return step_dates(j, stamp, out);
}

enum { NUMBER_BYTES = 40 };

/* A date as text, or the seconds or milliseconds of an epoch, which JSON has as numbers. NULL for
 * anything else. */
static const char *stamp_text(const json_t *element, char number[NUMBER_BYTES]) {
    const double most = 1e15;
    const double value = json_is_real(element) ? json_real_value(element) : NAN;
    if (json_is_string(element)) {
        return json_string_value(element);
    }
    if (!(fabs(value) < most)) {
        return NULL;
    }
    (void)snprintf(number, NUMBER_BYTES, value == floor(value) ? "%.0f" : "%.6f", value);
    return number;
}

/* "timestamps": one for each value. */
static mz_status read_timestamps(mz_series_jsonl *j, const json_t *array, mz_series *out) {
    mz_context *ctx = j->source->ctx;
    const int64_t n = out->n_values;
    mz_stamp_column column = {.day_first = j->options.day_first};
    if (!json_is_array(array)) {
        return mz_series_jsonl_fail_type(j, "timestamps", array, "an array of dates");
    }
    if ((int64_t)json_array_size(array) != n) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: line %lld: %zu timestamps for %lld values",
                       j->source->name, (long long)j->line_number, json_array_size(array),
                       (long long)n);
    }
    MZ_TRY(grow_stamps(j, &j->stamps, &j->stamps_capacity, n));
    for (int64_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(array, (size_t)i);
        char number[NUMBER_BYTES];
        const char *text = stamp_text(element, number);
        if (text == NULL) {
            char what[48];
            (void)snprintf(what, sizeof what, "timestamps[%lld]", (long long)i);
            return mz_series_jsonl_fail_type(j, what, element, "a date as text or an epoch");
        }
        if (mz_stamp_column_add(ctx, &column, text, strlen(text), i + 1, &j->stamps[i]) != MZ_OK) {
            return fail_line(j, "timestamps");
        }
    }
    mz_stamp_column_settle(&column);
    for (int64_t i = 0; i < n; i++) {
        j->stamps[i] = mz_stamp_column_value(&column, j->stamps[i]);
    }
    out->form = column.form;
    if (mz_stamp_column_note(&column, j->note_text)) {
        add_note(j, j->note_text, out);
    }
    return MZ_OK;
}

/* Puts the values in the order of their dates. */
static mz_status order_values(mz_series_jsonl *j, mz_series *out) {
    mz_context *ctx = j->source->ctx;
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
        add_note(j, j->timeline.notes[i], out);
    }
    return MZ_OK;
}

mz_status mz_series_jsonl_dates(mz_series_jsonl *j, const json_t *root, mz_series *out) {
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
