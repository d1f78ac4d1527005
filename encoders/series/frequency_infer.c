/* Finding the frequency of a column of stamps, and the stamps that do not follow it. */
#include <stdlib.h>

#include "encoders/series/calendar_internal.h"

/* ---- grids through most stamps ---- */

/* A grid of every n-th unit: the phase of its units, and the time since their beginning. */
typedef struct grid {
    int64_t phase;
    int64_t rest_us;
    bool is_found;
} grid;

static grid grid_at(const mz_frequency *f, mz_stamp stamp) {
    const mz_grid_place place = mz_grid_place_of(f, stamp);
    return (grid){.phase = mz_floor_mod(place.unit, f->n),
                  .rest_us = place.rest_us,
                  .is_found = mz_grid_is_anchored(&place)};
}

static bool is_same_grid(const grid *a, const grid *b) {
    return a->is_found && b->is_found && a->phase == b->phase && a->rest_us == b->rest_us;
}

/* The grid of most stamps on the anchor, if more than half of them share one (Boyer and Moore 1981:
 * unlike ones cancel out); else some other. */
static grid find_grid(const mz_frequency *f, const mz_stamp *stamps, int64_t n) {
    grid best = {0};
    int64_t lead = 0;
    for (int64_t i = 0; i < n; i++) {
        const grid g = grid_at(f, stamps[i]);
        if (!g.is_found) {
            continue;
        }
        if (lead == 0) {
            best = g;
        }
        lead += is_same_grid(&best, &g) ? 1 : -1;
    }
    return best;
}

static void add_fault(mz_stamp_fault *fault, int64_t index) {
    fault->first = fault->count == 0 ? index : fault->first;
    fault->count++;
}

void mz_stamp_check_run(const mz_frequency *f, const mz_stamp *stamps, int64_t n,
                        mz_stamp_check *out) {
    static const mz_stamp_fault none = {.first = -1};
    mz_stamp_check c = {.disorder = none, .duplicate = none, .off_grid = none, .gap = none};
    const bool is_regular = f->kind != MZ_FREQUENCY_NONE;
    const grid most = is_regular ? find_grid(f, stamps, n) : (grid){0};
    int64_t last = -1; /* the newest stamp on the grid */
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && stamps[i] < stamps[i - 1]) {
            add_fault(&c.disorder, i);
        } else if (i > 0 && stamps[i] == stamps[i - 1]) {
            add_fault(&c.duplicate, i);
        }
        if (!is_regular) {
            continue;
        }
        const grid g = grid_at(f, stamps[i]);
        if (!is_same_grid(&g, &most)) {
            add_fault(&c.off_grid, i);
            continue;
        }
        int64_t k = 0;
        if (last >= 0 && mz_frequency_count(f, stamps[last], stamps[i], &k) && k > 1) {
            add_fault(&c.gap, i);
            c.n_missing += k - 1;
        }
        c.origin = last < 0 ? stamps[i] : c.origin;
        last = i;
    }
    *out = c;
}

/* ---- the most common value ---- */

static int compare(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The most common of n >= 1 values, the least of several; they are reordered. Sorting is not needed
 * where one makes up more than half. */
static int64_t most_common(int64_t *values, int64_t n, int64_t *count) {
    int64_t best = values[0];
    int64_t lead = 0;
    for (int64_t i = 0; i < n; i++) {
        best = lead == 0 ? values[i] : best;
        lead += values[i] == best ? 1 : -1;
    }
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        *count += values[i] == best;
    }
    if (*count > n / 2) {
        return best;
    }
    qsort(values, (size_t)n, sizeof *values, compare);
    *count = 0;
    for (int64_t from = 0; from < n;) {
        int64_t to = from;
        while (to < n && values[to] == values[from]) {
            to++;
        }
        if (to - from > *count) {
            *count = to - from;
            best = values[from];
        }
        from = to;
    }
    return best;
}

/* ---- inference ---- */

typedef struct inference {
    const mz_stamp *stamps;
    int64_t n;
    int64_t *work; /* [n] */
    mz_frequency best;
    int64_t best_cost;
} inference;

/* A stamp off the grid weighs as much as four that are missing. Of equal ones the first stays. */
static void consider(inference *in, const mz_frequency *f) {
    enum { OFF_GRID_COST = 4, MAX_MISSING = 9 };
    mz_stamp_check check;
    if (f->n < 1) {
        return;
    }
    mz_stamp_check_run(f, in->stamps, in->n, &check);
    const int64_t cost = check.n_missing + OFF_GRID_COST * check.off_grid.count;
    /* Events at any second lie on the grid of seconds, which says nothing about their frequency. */
    const bool is_sparse = check.gap.count > in->n / 2 && check.n_missing > MAX_MISSING * in->n;
    if (!is_sparse && check.off_grid.count <= in->n / 2 &&
        (in->best_cost < 0 || cost < in->best_cost)) {
        in->best = *f;
        in->best_cost = cost;
    }
}

/* The most common number of units between stamps, 0 when they all lie in one. */
static int64_t common_step(inference *in, const mz_frequency *f) {
    int64_t n_steps = 0;
    int64_t before = mz_grid_place_of(f, in->stamps[0]).unit;
    for (int64_t i = 1; i < in->n; i++) {
        const int64_t unit = mz_grid_place_of(f, in->stamps[i]).unit;
        if (unit > before) {
            in->work[n_steps++] = unit - before;
        }
        before = unit;
    }
    int64_t count;
    return n_steps > 0 ? most_common(in->work, n_steps, &count) : 0;
}

static int32_t multiple(int64_t n) {
    return n <= MZ_FREQUENCY_MAX_N ? (int32_t)n : 0;
}

/* The most common month of the stamps. */
static int8_t common_month(inference *in) {
    for (int64_t i = 0; i < in->n; i++) {
        in->work[i] = mz_civil_of(mz_floor_div(in->stamps[i], MZ_DAY_US)).month;
    }
    int64_t count;
    return (int8_t)most_common(in->work, in->n, &count);
}

/* Months, or quarters or years when the step is a multiple. */
static void consider_months(inference *in, mz_frequency_kind kind, int day) {
    mz_frequency f = {.kind = kind, .n = 1, .day = (int8_t)day};
    const int64_t step = common_step(in, &f);
    f.n = multiple(step);
    const bool is_day = kind == MZ_FREQUENCY_MONTH_DAY;
    const bool is_start = kind == MZ_FREQUENCY_MONTH_START;
    if (step > 0 && step % 12 == 0) {
        f.kind = is_day     ? MZ_FREQUENCY_YEAR_DATE
                 : is_start ? MZ_FREQUENCY_YEAR_START
                            : MZ_FREQUENCY_YEAR_END;
        f.n = multiple(step / 12);
        f.month = common_month(in);
    } else if (step > 0 && step % 3 == 0 && !is_day) {
        const int month = (common_month(in) - 1) % 3;
        f.kind = is_start ? MZ_FREQUENCY_QUARTER_START : MZ_FREQUENCY_QUARTER_END;
        f.n = multiple(step / 3);
        f.month = (int8_t)(is_start ? month + 1 : month + 10);
    }
    consider(in, &f);
}

/* What the dates say about months and weekdays. */
typedef struct date_counts {
    int64_t days[32];    /* of the month */
    int64_t weekdays[7]; /* 0: Monday */
    int64_t n_month_ends;
    int max_day;
} date_counts;

static date_counts count_dates(const inference *in) {
    date_counts d = {0};
    for (int64_t i = 0; i < in->n; i++) {
        const int64_t days = mz_floor_div(in->stamps[i], MZ_DAY_US);
        const mz_civil c = mz_civil_of(days);
        d.days[c.day]++;
        d.weekdays[mz_civil_weekday(days)]++;
        d.n_month_ends += c.day == mz_civil_month_days(c.year, c.month);
        d.max_day = c.day > d.max_day ? c.day : d.max_day;
    }
    return d;
}

static int largest(const int64_t *counts, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        best = counts[i] > counts[best] ? i : best;
    }
    return best;
}

static void consider_dates(inference *in) {
    const date_counts d = count_dates(in);
    const int common_day = largest(d.days, 32);
    if (d.days[1] >= (in->n + 1) / 2) {
        consider_months(in, MZ_FREQUENCY_MONTH_START, 0);
    }
    if (d.n_month_ends >= (in->n + 1) / 2) {
        consider_months(in, MZ_FREQUENCY_MONTH_END, 0);
    }
    if (common_day > 1 && d.days[common_day] >= (in->n + 2) / 3) {
        consider_months(in, MZ_FREQUENCY_MONTH_DAY, common_day >= 28 ? d.max_day : common_day);
    }
    mz_frequency day = {.kind = MZ_FREQUENCY_DAY, .n = 1};
    const int64_t step = common_step(in, &day);
    if (step % 7 == 0) {
        const mz_frequency week = {.kind = MZ_FREQUENCY_WEEK,
                                   .n = multiple(step / 7),
                                   .day = (int8_t)largest(d.weekdays, 7)};
        consider(in, &week);
    } else {
        day.n = multiple(step);
        consider(in, &day);
    }
    /* A stray Saturday does not make days of business days: it is then off the grid. */
    if (in->best_cost != 0) {
        mz_frequency business = {.kind = MZ_FREQUENCY_BUSINESS_DAY, .n = 1};
        business.n = multiple(common_step(in, &business));
        consider(in, &business);
    }
}

static void consider_clock(inference *in) {
    static const struct {
        mz_frequency_kind kind;
        int64_t seconds;
    } units[] = {{MZ_FREQUENCY_DAY, 86400},
                 {MZ_FREQUENCY_HOUR, 3600},
                 {MZ_FREQUENCY_MINUTE, 60},
                 {MZ_FREQUENCY_SECOND, 1}};
    for (int64_t i = 1; i < in->n; i++) {
        in->work[i - 1] = in->stamps[i] - in->stamps[i - 1];
    }
    int64_t count;
    const int64_t step_us = most_common(in->work, in->n - 1, &count);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        const int64_t us = units[i].seconds * MZ_SECOND_US;
        if (step_us % us == 0) {
            const mz_frequency f = {.kind = units[i].kind, .n = multiple(step_us / us)};
            consider(in, &f);
            return;
        }
    }
}

/* True when most stamps have the same time of day: then they are dates. */
static bool has_dates(inference *in) {
    for (int64_t i = 0; i < in->n; i++) {
        in->work[i] = mz_floor_mod(in->stamps[i], MZ_DAY_US);
    }
    int64_t count;
    (void)most_common(in->work, in->n, &count);
    return count > in->n - (in->n + 2) / 3;
}

mz_status mz_frequency_infer(mz_context *ctx, const mz_stamp *stamps, int64_t n,
                             mz_frequency *out) {
    inference in = {.stamps = stamps, .n = n, .best_cost = -1};
    if (n >= 2) {
        void *work;
        MZ_TRY(mz_calloc(ctx, (size_t)n, sizeof *in.work, "steps of stamps", &work));
        in.work = work;
        if (has_dates(&in)) {
            consider_dates(&in);
        } else {
            consider_clock(&in);
        }
        mz_free(ctx, work);
    }
    *out = in.best;
    return MZ_OK;
}
