#include "encoders/series/series_table.h"

#include <string.h>

#include "encoders/series/series_reader_internal.h"

void mz_series_table_clear(mz_series_table *t) {
    mz_context *ctx = t->ctx;
    mz_store_clear(ctx, &t->values);
    mz_store_clear(ctx, &t->stamps);
    mz_store_clear(ctx, &t->id_numbers);
    mz_store_clear(ctx, &t->jump_rows);
    mz_store_clear(ctx, &t->jump_numbers);
    mz_series_ids_clear(ctx, &t->ids);
    mz_timeline_clear(ctx, &t->timeline);
    mz_free(ctx, t->begins);
    mz_free(ctx, t->members);
    mz_free(ctx, t->times);
    mz_free(ctx, t->row_stamps);
    mz_free(ctx, t->row_values);
    mz_free(ctx, t->point_stamps);
    mz_free(ctx, t->point_values);
}

/* ---- rows ---- */

/* Number in the file of row i. */
static int64_t number_of_row(const mz_series_table *t, int64_t i) {
    int64_t low = 0; /* the last jump at or before i; row 0 is one */
    int64_t high = t->jump_rows.n - 1;
    while (low < high) {
        const int64_t middle = high - (high - low) / 2;
        if (mz_store_int(&t->jump_rows, middle) <= i) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return mz_store_int(&t->jump_numbers, low) + (i - mz_store_int(&t->jump_rows, low));
}

/* Row i of the series handed out last, or of all where series stand side by side. */
static int64_t row_of_member(const mz_series_table *t, int64_t i) {
    return t->rows != NULL ? t->rows[i] : t->first_row + i;
}

static int64_t number_of_member(const void *self, int64_t i) {
    const mz_series_table *t = self;
    return number_of_row(t, row_of_member(t, i));
}

/* Forgets rows that are older than what matters, when that is twice as much. */
static void forget_rows(mz_series_table *t) {
    const int64_t n_newest = t->options->n_newest;
    const int64_t fitting = t->max_values / t->n_stored;
    const int64_t n_kept = fitting > n_newest ? fitting : n_newest;
    if (n_newest == 0 || t->is_long || t->options->sort || t->n_rows - t->first_kept < 2 * n_kept) {
        return;
    }
    t->first_kept = t->n_rows - n_kept;
    mz_store_forget(t->ctx, &t->values, t->first_kept * t->n_stored);
    if (t->has_dates) {
        mz_store_forget(t->ctx, &t->stamps, t->first_kept);
    }
}

mz_status mz_series_table_push(mz_series_table *t, int64_t number, const double *values,
                               mz_stamp stamp, int64_t id) {
    mz_context *ctx = t->ctx;
    if (t->n_rows == MZ_SERIES_MAX_ROWS) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: row %lld: more than %d rows", t->file,
                       (long long)number, MZ_SERIES_MAX_ROWS);
    }
    const int64_t n_jumps = t->jump_rows.n;
    const int64_t expected = n_jumps == 0
                                 ? -1
                                 : mz_store_int(&t->jump_numbers, n_jumps - 1) +
                                       (t->n_rows - mz_store_int(&t->jump_rows, n_jumps - 1));
    if (number != expected) {
        MZ_TRY(mz_store_push_int(ctx, &t->jump_rows, t->n_rows));
        MZ_TRY(mz_store_push_int(ctx, &t->jump_numbers, number));
    }
    for (int64_t slot = 0; slot < t->n_stored; slot++) {
        MZ_TRY(mz_store_push_double(ctx, &t->values, values[slot]));
    }
    if (t->has_dates) {
        MZ_TRY(mz_store_push_int(ctx, &t->stamps, stamp));
    }
    if (t->is_long) {
        MZ_TRY(mz_store_push_int(ctx, &t->id_numbers, id));
    }
    t->n_rows++;
    forget_rows(t);
    return MZ_OK;
}

static mz_stamp stamp_of(const mz_series_table *t, int64_t row) {
    return mz_stamp_column_value(&t->dates, mz_store_int(&t->stamps, row));
}

/* ---- settling ---- */

/* Timeline of the n rows that `rows` and `first_row` name, with these stamps. */
static mz_status build_timeline(mz_series_table *t, const mz_stamp *stamps, int64_t n) {
    const mz_timeline_options options = {.frequency = t->options->frequency,
                                         .fallback = t->fallback,
                                         .sort = t->options->sort,
                                         .duplicates = t->options->duplicates};
    const mz_timeline_rows rows = {.stamps = stamps,
                                   .n = n,
                                   .what = "row",
                                   .number = number_of_member,
                                   .self = t,
                                   .form = &t->dates.form};
    return mz_timeline_build(t->ctx, &rows, &options, &t->timeline);
}

static mz_status settle_wide(mz_series_table *t) {
    void *memory = NULL;
    const int64_t n = t->n_rows - t->first_kept;
    t->first_row = t->first_kept;
    if (!t->has_dates) {
        t->timeline.n_rows = n;
        t->timeline.n_points = n;
        return MZ_OK;
    }
    MZ_TRY(mz_alloc(t->ctx, (size_t)n * sizeof *t->times, "dates", &memory));
    t->times = memory;
    for (int64_t i = 0; i < n; i++) {
        t->times[i] = stamp_of(t, t->first_kept + i);
    }
    mz_store_clear(t->ctx, &t->stamps);
    const mz_status status = build_timeline(t, t->times, n);
    return status == MZ_OK ? MZ_OK : mz_fail_prefix(&t->ctx->error, "%s", t->file);
}

/* Counting sort of the rows by id. */
static mz_status group_rows(mz_series_table *t) {
    void *memory = NULL;
    bool is_grouped = true;
    MZ_TRY(mz_calloc(t->ctx, (size_t)t->ids.n + 1, sizeof *t->begins, "rows of ids", &memory));
    t->begins = memory;
    for (int64_t i = 0, before = 0; i < t->n_rows; i++) {
        const int64_t id = mz_store_int(&t->id_numbers, i);
        is_grouped = is_grouped && id >= before;
        before = id;
        t->begins[id + 1]++;
    }
    for (int64_t id = 0; id < t->ids.n; id++) {
        t->begins[id + 1] += t->begins[id];
    }
    if (!is_grouped) {
        MZ_TRY(mz_alloc(t->ctx, (size_t)t->n_rows * sizeof *t->members, "rows of ids", &memory));
        t->members = memory;
        for (int64_t i = 0; i < t->n_rows; i++) {
            const int64_t id = mz_store_int(&t->id_numbers, i);
            t->members[t->begins[id]++] = i;
        }
        memmove(t->begins + 1, t->begins, (size_t)t->ids.n * sizeof *t->begins);
        t->begins[0] = 0;
    }
    mz_store_clear(t->ctx, &t->id_numbers);
    return MZ_OK;
}

static mz_status grow_doubles(mz_series_table *t, double **items, int which, int64_t n) {
    void *memory = *items;
    MZ_TRY(
        mz_grow(t->ctx, &memory, &t->capacities[which], (size_t)n + 1, sizeof **items, "values"));
    *items = memory;
    return MZ_OK;
}

static mz_status grow_stamps(mz_series_table *t, mz_stamp **items, int which, int64_t n) {
    void *memory = *items;
    MZ_TRY(mz_grow(t->ctx, &memory, &t->capacities[which], (size_t)n + 1, sizeof **items, "dates"));
    *items = memory;
    return MZ_OK;
}

/* Gathers the rows of an id; returns how many there are. */
static mz_status gather_rows(mz_series_table *t, int64_t id, int64_t *n_rows) {
    const int64_t n = t->begins[id + 1] - t->begins[id];
    t->rows = t->members != NULL ? t->members + t->begins[id] : NULL;
    t->first_row = t->begins[id];
    *n_rows = n;
    MZ_TRY(grow_doubles(t, &t->row_values, 0, n));
    for (int64_t i = 0; i < n; i++) {
        t->row_values[i] = mz_store_double(&t->values, row_of_member(t, i));
    }
    if (!t->has_dates) {
        return MZ_OK;
    }
    MZ_TRY(grow_stamps(t, &t->row_stamps, 1, n));
    for (int64_t i = 0; i < n; i++) {
        t->row_stamps[i] = stamp_of(t, row_of_member(t, i));
    }
    return MZ_OK;
}

/* The frequency of most of the first series that are in order, for those that are too short to
 * tell. */
static mz_status find_fallback(mz_series_table *t) {
    enum { MAX_ASKED = 64, FEWEST_ROWS = 3 };
    mz_frequency found[MAX_ASKED];
    int n_found = 0;
    int best_count = 0;
    if (t->options->frequency.kind != MZ_FREQUENCY_NONE) {
        return MZ_OK;
    }
    for (int64_t id = 0; id < t->ids.n && n_found < MAX_ASKED; id++) {
        int64_t n = 0;
        if (t->begins[id + 1] - t->begins[id] < FEWEST_ROWS) {
            continue;
        }
        MZ_TRY(gather_rows(t, id, &n));
        const mz_status status = build_timeline(t, t->row_stamps, n);
        if (status == MZ_ERR_NOMEM) {
            return status;
        }
        if (status == MZ_OK && t->timeline.frequency.kind != MZ_FREQUENCY_NONE) {
            found[n_found++] = t->timeline.frequency;
        }
    }
    for (int i = 0; i < n_found; i++) {
        int count = 0;
        for (int k = 0; k < n_found; k++) {
            count += mz_frequency_equal(&found[i], &found[k]);
        }
        if (count > best_count) {
            best_count = count;
            t->fallback = found[i];
        }
    }
    return MZ_OK;
}

mz_status mz_series_table_settle(mz_series_table *t) {
    mz_stamp_column_settle(&t->dates);
    if (!t->is_long) {
        return settle_wide(t);
    }
    MZ_TRY(group_rows(t));
    return t->has_dates ? find_fallback(t) : MZ_OK;
}

/* ---- series ---- */

/* Hands out the points. The caller changes them in place: stamps of all columns are copied. */
static mz_status fill_points(mz_series_table *t, mz_series *out) {
    const mz_timeline *line = &t->timeline;
    *out = (mz_series){.values = t->row_values, .n_values = line->n_points};
    if (line->places != NULL) {
        MZ_TRY(grow_doubles(t, &t->point_values, 2, line->n_points));
        mz_timeline_values(line, t->row_values, t->point_values);
        out->values = t->point_values;
    }
    if (!t->has_dates) {
        return MZ_OK;
    }
    out->stamps = t->row_stamps;
    if (!t->is_long || line->stamps != NULL) {
        MZ_TRY(grow_stamps(t, &t->point_stamps, 3, line->n_points));
        mz_timeline_stamps(line, t->times, t->point_stamps);
        out->stamps = t->point_stamps;
    }
    out->frequency = line->frequency;
    out->form = t->dates.form;
    out->notes = line->notes;
    out->n_notes = line->n_notes;
    return MZ_OK;
}

mz_status mz_series_table_get(mz_series_table *t, int64_t index, mz_series *out) {
    int64_t n = t->n_rows - t->first_kept;
    if (!t->is_long) {
        MZ_TRY(grow_doubles(t, &t->row_values, 0, n));
        for (int64_t i = 0; i < n; i++) {
            t->row_values[i] =
                mz_store_double(&t->values, (t->first_kept + i) * t->n_stored + index);
        }
        return fill_points(t, out);
    }
    mz_status status = gather_rows(t, index, &n);
    if (status == MZ_OK && t->has_dates) {
        status = build_timeline(t, t->row_stamps, n);
    } else if (status == MZ_OK) {
        t->timeline.n_rows = n;
        t->timeline.n_points = n;
    }
    if (status == MZ_ERR_ARG || status == MZ_ERR_LIMIT) {
        *out = (mz_series){.error = t->ctx->error.message};
    } else {
        MZ_TRY(status);
        MZ_TRY(fill_points(t, out));
    }
    out->id = mz_series_ids_text(&t->ids, index);
    return MZ_OK;
}
