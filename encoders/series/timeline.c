#include "encoders/series/timeline.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_MISSING_SHARE = 3, /* missing points for each row; beyond, the frequency is not believed */
    FEW_MISSING = 16,      /* whatever the share */
    INFER_ROWS = 1 << 16,  /* newest rows that the frequency is found from */
    SURE_ROWS = 3,         /* fewer stamps are a guess */
    OWN_ROWS = 10,         /* so many tell a frequency better than the rest of the file does */
};

/* What a timeline is built from. */
typedef struct builder {
    mz_context *ctx;
    const mz_timeline_rows *rows;
    const mz_timeline_options *options;
    mz_timeline *t;
    mz_stamp *unique; /* [n_unique] ascending; NULL: the rows' */
    int64_t n_unique;
} builder;

void mz_timeline_clear(mz_context *ctx, mz_timeline *t) {
    mz_free(ctx, t->order);
    mz_free(ctx, t->places);
    mz_free(ctx, t->stamps);
    *t = (mz_timeline){0};
}

/* ---- messages ---- */

static void note(mz_timeline *t, const char *format, ...) MZ_PRINTF(2, 3);
static void note(mz_timeline *t, const char *format, ...) {
    va_list args;
    if (t->n_notes == MZ_TIMELINE_NOTES) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(t->note_texts[t->n_notes], MZ_TIMELINE_NOTE_BYTES, format, args);
    va_end(args);
    t->notes[t->n_notes] = t->note_texts[t->n_notes];
    t->n_notes++;
}

/* Row at place i of the order. */
static int64_t row_at(const builder *b, int64_t i) {
    return b->t->order != NULL ? b->t->order[i] : i;
}

static mz_stamp stamp_at(const builder *b, int64_t i) {
    return b->rows->stamps[row_at(b, i)];
}

enum { PLACE_BYTES = 128 };
/* "row 17 (2024-01-05)" */
static const char *describe(const builder *b, int64_t row, char out[PLACE_BYTES]) {
    char date[MZ_STAMP_BYTES];
    (void)snprintf(out, PLACE_BYTES, "%s %lld (%s)", b->rows->what,
                   (long long)b->rows->number(b->rows->self, row),
                   mz_stamp_format(b->rows->form, b->rows->stamps[row], date));
    return out;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* ---- order ---- */

/* A row beside its stamp, so that comparing needs nothing else. */
typedef struct dated_row {
    mz_stamp stamp;
    int64_t row;
} dated_row;

/* Rows of one stamp keep their order: the last of them may be the one that counts. */
static int compare_rows(const void *a, const void *b) {
    const dated_row *x = a;
    const dated_row *y = b;
    if (x->stamp != y->stamp) {
        return x->stamp < y->stamp ? -1 : 1;
    }
    return (x->row > y->row) - (x->row < y->row);
}

static mz_status order_rows(builder *b) {
    const int64_t n = b->rows->n;
    void *order = NULL;
    void *memory = NULL;
    MZ_TRY(mz_alloc(b->ctx, (size_t)n * sizeof *b->t->order, "order of rows", &order));
    b->t->order = order;
    MZ_TRY(mz_alloc(b->ctx, (size_t)n * sizeof(dated_row), "dates of rows", &memory));
    dated_row *sorted = memory;
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = (dated_row){b->rows->stamps[i], i};
    }
    qsort(sorted, (size_t)n, sizeof *sorted, compare_rows);
    for (int64_t i = 0; i < n; i++) {
        b->t->order[i] = sorted[i].row;
    }
    mz_free(b->ctx, memory);
    return MZ_OK;
}

static mz_status sort_rows(builder *b) {
    const mz_timeline_rows *rows = b->rows;
    mz_stamp_check check;
    char here[PLACE_BYTES];
    char before[PLACE_BYTES];
    mz_stamp_check_run(&(mz_frequency){0}, rows->stamps, rows->n, &check);
    if (check.disorder.count == 0) {
        return MZ_OK;
    }
    const int64_t first = check.disorder.first;
    if (!b->options->sort) {
        return mz_fail(&b->ctx->error, MZ_ERR_ARG,
                       "%s is earlier than %s (%lld such row%s); --sort puts them in order",
                       describe(b, first, here), describe(b, first - 1, before),
                       (long long)check.disorder.count, plural(check.disorder.count));
    }
    MZ_TRY(order_rows(b));
    note(b->t, "sorted by date: %lld row%s came early, the first is %s",
         (long long)check.disorder.count, plural(check.disorder.count), describe(b, first, here));
    return MZ_OK;
}

/* Fills places with the number of each row's stamp among the different ones. */
static mz_status merge_rows(builder *b) {
    const int64_t n = b->rows->n;
    int64_t n_repeated = 0;
    int64_t first = 0;
    char here[PLACE_BYTES];
    char before[PLACE_BYTES];
    b->n_unique = n;
    for (int64_t i = n - 1; i > 0; i--) {
        if (stamp_at(b, i) == stamp_at(b, i - 1)) {
            n_repeated++;
            first = i;
        }
    }
    if (n_repeated > 0 && b->options->duplicates == MZ_DUPLICATES_ERROR) {
        return mz_fail(&b->ctx->error, MZ_ERR_ARG,
                       "%s is a duplicate of %s (%lld such row%s); --duplicates last or mean makes "
                       "one of them",
                       describe(b, row_at(b, first), here),
                       describe(b, row_at(b, first - 1), before), (long long)n_repeated,
                       plural(n_repeated));
    }
    if (n_repeated == 0 && b->t->order == NULL) {
        return MZ_OK;
    }
    void *places = NULL;
    void *unique = NULL;
    MZ_TRY(mz_alloc(b->ctx, (size_t)n * sizeof *b->t->places, "places of rows", &places));
    b->t->places = places;
    MZ_TRY(mz_alloc(b->ctx, (size_t)n * sizeof *b->unique, "dates", &unique));
    b->unique = unique;
    b->n_unique = 0;
    for (int64_t i = 0; i < n; i++) {
        const mz_stamp stamp = stamp_at(b, i);
        if (i == 0 || stamp != b->unique[b->n_unique - 1]) {
            b->unique[b->n_unique++] = stamp;
        }
        b->t->places[i] = b->n_unique - 1;
    }
    if (n_repeated > 0) {
        note(b->t, "%lld duplicate%s, the first is %s: the %s counts", (long long)n_repeated,
             plural(n_repeated), describe(b, row_at(b, first), here),
             b->options->duplicates == MZ_DUPLICATES_LAST ? "last" : "mean");
    }
    return MZ_OK;
}

/* ---- grid ---- */

static const mz_stamp *unique_of(const builder *b) {
    return b->unique != NULL ? b->unique : b->rows->stamps;
}

/* The first row whose stamp is number `place` of the different ones. */
static int64_t row_of(const builder *b, int64_t place) {
    int64_t i = place;
    if (b->t->places != NULL) {
        int64_t low = 0;
        int64_t high = b->rows->n - 1;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (b->t->places[middle] < place) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        i = low;
    }
    return row_at(b, i);
}

static bool is_dense(const mz_stamp_check *check, int64_t n) {
    return check->n_missing <= MAX_MISSING_SHARE * n + FEW_MISSING;
}

static mz_status infer(const builder *b, mz_frequency *out) {
    const int64_t n = b->n_unique;
    const int64_t n_used = n < INFER_ROWS ? n : INFER_ROWS;
    const mz_stamp *stamps = unique_of(b);
    const mz_frequency *fallback = &b->options->fallback;
    *out = (mz_frequency){0};
    if (n >= SURE_ROWS || (n == 2 && fallback->kind == MZ_FREQUENCY_NONE)) {
        MZ_TRY(mz_frequency_infer(b->ctx, stamps + (n - n_used), n_used, out));
    }
    if (fallback->kind == MZ_FREQUENCY_NONE || n >= OWN_ROWS) {
        return MZ_OK;
    }
    mz_stamp_check check;
    mz_stamp_check_run(fallback, stamps, n, &check);
    if (check.off_grid.count == 0 && is_dense(&check, n)) {
        *out = *fallback;
    }
    return MZ_OK;
}

/* The frequency that the options ask for must fit. */
static mz_status check_given(const builder *b, const mz_frequency *freq,
                             const mz_stamp_check *check) {
    char name[MZ_FREQUENCY_BYTES];
    char found[MZ_FREQUENCY_BYTES];
    char here[PLACE_BYTES];
    mz_frequency own;
    if (check->off_grid.count > 0) {
        return mz_fail(&b->ctx->error, MZ_ERR_ARG,
                       "--freq %s contradicts the dates: %s is not on its grid (%lld such row%s)",
                       mz_frequency_name(freq, name),
                       describe(b, row_of(b, check->off_grid.first), here),
                       (long long)check->off_grid.count, plural(check->off_grid.count));
    }
    if (is_dense(check, b->n_unique)) {
        return MZ_OK;
    }
    MZ_TRY(mz_frequency_infer(b->ctx, unique_of(b), b->n_unique, &own));
    return mz_fail(&b->ctx->error, MZ_ERR_ARG,
                   "--freq %s contradicts the dates: %lld of its points would be missing between "
                   "%lld rows, whose own frequency is %s",
                   mz_frequency_name(freq, name), (long long)check->n_missing,
                   (long long)b->n_unique, mz_frequency_name(&own, found));
}

/* Points without a grid: as many as there are different stamps. */
static mz_status keep_unique(builder *b) {
    b->t->n_points = b->n_unique;
    b->t->stamps = b->unique; /* moves */
    b->unique = NULL;
    return MZ_OK;
}

static mz_status spread(builder *b, const mz_stamp_check *check) {
    mz_timeline *t = b->t;
    const mz_frequency *freq = &t->frequency;
    const mz_stamp *unique = unique_of(b);
    const mz_stamp origin = unique[0];
    int64_t last = 0;
    void *memory = NULL;
    char here[PLACE_BYTES];
    (void)mz_frequency_count(freq, origin, unique[b->n_unique - 1], &last);
    if (last + 1 > MZ_SERIES_MAX_ROWS) {
        return mz_fail(&b->ctx->error, MZ_ERR_LIMIT,
                       "%lld points with the missing ones, at most %d", (long long)last + 1,
                       MZ_SERIES_MAX_ROWS);
    }
    note(t, "%lld date%s missing in %lld gap%s, the first before %s", (long long)check->n_missing,
         plural(check->n_missing), (long long)check->gap.count, plural(check->gap.count),
         describe(b, row_of(b, check->gap.first), here));
    if (t->places == NULL) {
        MZ_TRY(mz_alloc(b->ctx, (size_t)t->n_rows * sizeof *t->places, "places of rows", &memory));
        t->places = memory;
        for (int64_t i = 0; i < t->n_rows; i++) {
            t->places[i] = i;
        }
    }
    MZ_TRY(mz_alloc(b->ctx, (size_t)(last + 1) * sizeof *t->stamps, "dates", &memory));
    t->stamps = memory;
    t->n_points = last + 1;
    for (int64_t k = 0; k <= last; k++) {
        (void)mz_frequency_step(freq, origin, k, &t->stamps[k]);
    }
    for (int64_t i = 0; i < t->n_rows; i++) {
        int64_t k = 0;
        const mz_stamp stamp = unique[t->places[i]];
        (void)mz_frequency_count(freq, origin, stamp, &k);
        t->places[i] = k;
        t->stamps[k] = stamp;
    }
    return MZ_OK;
}

/* Rows that no frequency explains are points at equal distances. */
static mz_status keep_irregular(builder *b, const mz_stamp_check *check) {
    mz_timeline *t = b->t;
    char name[MZ_FREQUENCY_BYTES];
    char here[PLACE_BYTES];
    mz_stamp next;
    if (t->frequency.kind == MZ_FREQUENCY_NONE) {
        note(t,
             b->n_unique < SURE_ROWS
                 ? "%lld date%s: the frequency is unknown and the answer has no dates; give --freq"
                 : "the %lld date%s are irregular: taken as equally spaced, and the answer has "
                   "no dates; give --freq",
             (long long)b->n_unique, plural(b->n_unique));
    } else if (check->off_grid.count > 0) {
        note(t,
             "%lld of %lld dates are off the grid of %s, the first is %s: taken as equally spaced",
             (long long)check->off_grid.count, (long long)b->n_unique,
             mz_frequency_name(&t->frequency, name),
             describe(b, row_of(b, check->off_grid.first), here));
    } else {
        note(t,
             "%lld dates of %s would be missing between %lld rows: they are irregular, taken as "
             "equally spaced, and the answer has no dates; give --freq",
             (long long)check->n_missing, mz_frequency_name(&t->frequency, name),
             (long long)b->n_unique);
        t->frequency = (mz_frequency){0};
    }
    if (!mz_frequency_step(&t->frequency, unique_of(b)[b->n_unique - 1], 1, &next)) {
        t->frequency = (mz_frequency){0};
    }
    return keep_unique(b);
}

static mz_status place_rows(builder *b) {
    mz_timeline *t = b->t;
    mz_stamp_check check;
    const bool is_given = b->options->frequency.kind != MZ_FREQUENCY_NONE;
    if (is_given) {
        t->frequency = b->options->frequency;
        mz_frequency_anchor(&t->frequency, unique_of(b)[0]);
    } else {
        MZ_TRY(infer(b, &t->frequency));
    }
    mz_stamp_check_run(&t->frequency, unique_of(b), b->n_unique, &check);
    if (is_given) {
        MZ_TRY(check_given(b, &t->frequency, &check));
    }
    if (t->frequency.kind == MZ_FREQUENCY_NONE || check.off_grid.count > 0 ||
        !is_dense(&check, b->n_unique)) {
        return keep_irregular(b, &check);
    }
    return check.n_missing > 0 ? spread(b, &check) : keep_unique(b);
}

mz_status mz_timeline_build(mz_context *ctx, const mz_timeline_rows *rows,
                            const mz_timeline_options *options, mz_timeline *out) {
    mz_timeline_clear(ctx, out);
    out->duplicates = options->duplicates;
    out->n_rows = rows->n;
    if (rows->n == 0) {
        return MZ_OK;
    }
    builder b = {.ctx = ctx, .rows = rows, .options = options, .t = out};
    mz_status status = sort_rows(&b);
    if (status == MZ_OK) {
        status = merge_rows(&b);
    }
    if (status == MZ_OK) {
        status = place_rows(&b);
    }
    mz_free(ctx, b.unique);
    return status;
}

/* ---- use ---- */

/* The mean of the rows of one point, those [begin, end) of the order. */
static double mean_of(const mz_timeline *t, const double *rows, int64_t begin, int64_t end) {
    double mean = 0;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        const double value = rows[t->order != NULL ? t->order[i] : i];
        if (!isnan(value)) {
            n++;
            mean += value / (double)n - mean / (double)n;
        }
    }
    return n > 0 ? mean : NAN;
}

void mz_timeline_values(const mz_timeline *t, const double *rows, double *points) {
    if (t->places == NULL) {
        if (t->n_points > 0) {
            memcpy(points, rows, (size_t)t->n_points * sizeof *points);
        }
        return;
    }
    for (int64_t k = 0; k < t->n_points; k++) {
        points[k] = NAN;
    }
    for (int64_t i = 0; i < t->n_rows;) {
        int64_t end = i + 1;
        while (end < t->n_rows && t->places[end] == t->places[i]) {
            end++;
        }
        const int64_t last = t->order != NULL ? t->order[end - 1] : end - 1;
        points[t->places[i]] =
            t->duplicates == MZ_DUPLICATES_MEAN ? mean_of(t, rows, i, end) : rows[last];
        i = end;
    }
}

void mz_timeline_stamps(const mz_timeline *t, const mz_stamp *rows, mz_stamp *points) {
    if (t->n_points > 0) {
        memcpy(points, t->stamps != NULL ? t->stamps : rows, (size_t)t->n_points * sizeof *points);
    }
}
