#include "apps/zoo/anomaly_band.h"

#include <math.h>
#include <stdlib.h>

#include "apps/zoo/conformal.h"

/* Errors of the blocks before the one that is looked at. */
typedef struct window {
    const double *errors; /* [n_blocks, horizon] */
    int64_t n_blocks, horizon;
    int64_t n_least;
    double level;
    int64_t *before; /* [horizon + 1] known errors of all blocks at the steps before each */
    double *sorted;  /* [n_blocks, horizon] scratch */
} window;

/* Not one more because 0.99 is no binary fraction; of the lowest levels the smallest error. */
static int64_t rank_of(int64_t n, double level) {
    const int64_t rank = (int64_t)ceil((double)(n + 1) * level - 1e-9);
    return rank < 1 ? 1 : rank;
}

int64_t mz_anomaly_least_errors(double level) {
    int64_t n = (int64_t)floor(level / (1 - level));
    n = n < 1 ? 1 : n;
    while (rank_of(n, level) > n) {
        n++;
    }
    return n;
}

double mz_anomaly_score(double error, double width) {
    if (isnan(error) || isnan(width)) {
        return NAN;
    }
    return error == 0 ? 0 : fmin(error / width, MZ_ANOMALY_MAX_SCORE);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void count_known(window *w) {
    w->before[0] = 0;
    for (int64_t h = 0; h < w->horizon; h++) {
        w->before[h + 1] = w->before[h];
        for (int64_t b = 0; b < w->n_blocks; b++) {
            w->before[h + 1] += !isnan(w->errors[b * w->horizon + h]);
        }
    }
}

/* The known errors of steps [begin, end) to `sorted`. */
static void gather(const window *w, int64_t begin, int64_t end) {
    int64_t n = 0;
    for (int64_t b = 0; b < w->n_blocks; b++) {
        for (int64_t h = begin; h < end; h++) {
            const double e = w->errors[b * w->horizon + h];
            if (!isnan(e)) {
                w->sorted[n++] = e;
            }
        }
    }
}

/* Neighbours are added until there are twice the errors that the level needs: of the least number
 * the largest error alone would be the width. */
static double width_at(const window *w, int64_t step) {
    int64_t reach = 1 + step / MZ_CONFORMAL_NEIGHBOURS;
    int64_t begin = 0;
    int64_t end = 0;
    int64_t n = 0;
    do {
        begin = step > reach ? step - reach : 0;
        end = step + reach < w->horizon ? step + reach + 1 : w->horizon;
        n = w->before[end] - w->before[begin];
        reach++;
    } while (n < 2 * w->n_least && end - begin < w->horizon);
    if (n < w->n_least) {
        return NAN;
    }
    gather(w, begin, end);
    qsort(w->sorted, (size_t)n, sizeof *w->sorted, compare);
    return w->sorted[rank_of(n, w->level) - 1];
}

/* What an error counts as in later bands. A band without width (of a constant) cannot grow by a
 * factor. */
static double tamed(double error, double width) {
    const double most = width * MZ_ANOMALY_GROWTH;
    return width > 0 && error > most ? most : error; /* a missing one stays missing */
}

mz_status mz_anomaly_widths(mz_context *ctx, const double *errors, int64_t n_blocks,
                            int64_t horizon, double level, double *widths) {
    const int64_t n_least = mz_anomaly_least_errors(level);
    const int64_t n_wanted = 2 * n_least > MZ_ANOMALY_WINDOW ? 2 * n_least : MZ_ANOMALY_WINDOW;
    const int64_t n_window = (n_wanted + horizon - 1) / horizon;
    const int64_t n_kept = n_blocks < n_window ? n_blocks : n_window;
    void *memory = NULL;
    void *scratch = NULL;
    void *counts = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n_blocks * (size_t)horizon, sizeof(double), "errors", &memory));
    mz_status status =
        mz_calloc(ctx, (size_t)n_kept * (size_t)horizon, sizeof(double), "sorted errors", &scratch);
    if (status == MZ_OK) {
        status = mz_calloc(ctx, (size_t)horizon + 1, sizeof(int64_t), "counts of errors", &counts);
    }
    double *kept = memory;
    for (int64_t b = 0; status == MZ_OK && b < n_blocks; b++) {
        const int64_t first = b > n_window ? b - n_window : 0;
        window w = {.errors = kept + first * horizon,
                    .n_blocks = b - first,
                    .horizon = horizon,
                    .n_least = n_least,
                    .level = level,
                    .before = counts,
                    .sorted = scratch};
        count_known(&w);
        for (int64_t h = 0; h < horizon; h++) {
            const int64_t i = b * horizon + h;
            widths[i] = width_at(&w, h);
            kept[i] = tamed(errors[i], widths[i]);
        }
    }
    mz_free(ctx, counts);
    mz_free(ctx, scratch);
    mz_free(ctx, memory);
    return status;
}
