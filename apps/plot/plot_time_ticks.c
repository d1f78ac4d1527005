/* Ticks of dates. Times are microseconds since 1970-01-01 UTC in a double, exact until 2255. */
#include "apps/plot/plot_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum step_unit { STEP_US, STEP_SECOND, STEP_MINUTE, STEP_DAY, STEP_MONTH } step_unit;

/* A round step of the calendar, `count` units long. */
typedef struct time_step {
    step_unit unit;
    int count;
} time_step;

static const time_step steps[] = {
    {STEP_US, 1},         {STEP_US, 2},         {STEP_US, 5},         {STEP_US, 10},
    {STEP_US, 20},        {STEP_US, 50},        {STEP_US, 100},       {STEP_US, 200},
    {STEP_US, 500},       {STEP_US, 1000},      {STEP_US, 2000},      {STEP_US, 5000},
    {STEP_US, 10000},     {STEP_US, 20000},     {STEP_US, 50000},     {STEP_US, 100000},
    {STEP_US, 200000},    {STEP_US, 500000},    {STEP_SECOND, 1},     {STEP_SECOND, 2},
    {STEP_SECOND, 5},     {STEP_SECOND, 10},    {STEP_SECOND, 15},    {STEP_SECOND, 30},
    {STEP_MINUTE, 1},     {STEP_MINUTE, 2},     {STEP_MINUTE, 5},     {STEP_MINUTE, 10},
    {STEP_MINUTE, 15},    {STEP_MINUTE, 30},    {STEP_MINUTE, 60},    {STEP_MINUTE, 120},
    {STEP_MINUTE, 180},   {STEP_MINUTE, 360},   {STEP_MINUTE, 720},   {STEP_DAY, 1},
    {STEP_DAY, 2},        {STEP_DAY, 7},        {STEP_DAY, 14},       {STEP_MONTH, 1},
    {STEP_MONTH, 2},      {STEP_MONTH, 3},      {STEP_MONTH, 6},      {STEP_MONTH, 12},
    {STEP_MONTH, 24},     {STEP_MONTH, 60},     {STEP_MONTH, 120},    {STEP_MONTH, 240},
    {STEP_MONTH, 600},    {STEP_MONTH, 1200},   {STEP_MONTH, 2400},   {STEP_MONTH, 6000},
    {STEP_MONTH, 12000},  {STEP_MONTH, 24000},  {STEP_MONTH, 60000},  {STEP_MONTH, 120000},
    {STEP_MONTH, 240000}, {STEP_MONTH, 600000}, {STEP_MONTH, 1200000}};
enum { N_STEPS = sizeof steps / sizeof *steps };

static double unit_us(step_unit unit) {
    static const double us[] = {1, MZ_PLOT_SECOND_US, 60 * MZ_PLOT_SECOND_US, MZ_PLOT_DAY_US,
                                30.436875 * MZ_PLOT_DAY_US};
    return us[unit];
}

/* A day of the proleptic Gregorian calendar. */
typedef struct civil_date {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
} civil_date;

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

/* Days from 1970-01-01 to the first of a month (counted from January of year 0). Years begin in
 * March here, so that the leap day is the last. */
static int64_t days_of_month(int64_t month) {
    const int64_t shifted = month - 2;
    const int64_t year = floor_div(shifted, 12);
    const int64_t from_march = shifted - year * 12;
    return year * 365 + floor_div(year, 4) - floor_div(year, 100) + floor_div(year, 400) +
           (153 * from_march + 2) / 5 - 719468;
}

static civil_date date_of(double us) {
    const int64_t days = (int64_t)floor(us / MZ_PLOT_DAY_US);
    /* An estimate that is at most one month late or early. */
    int64_t month = (int64_t)floor(((double)days + 719528) / 30.436875);
    while (days_of_month(month) > days) {
        month--;
    }
    while (days_of_month(month + 1) <= days) {
        month++;
    }
    const int64_t year = floor_div(month, 12);
    return (civil_date){.year = year,
                        .month = (int)(month - year * 12) + 1,
                        .day = (int)(days - days_of_month(month)) + 1};
}

static const char *month_name(int month) {
    static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    return names[month - 1];
}

static void write_clock(double at, const time_step *step, char out[MZ_PLOT_LABEL_BYTES]) {
    const double of_day = at - floor(at / MZ_PLOT_DAY_US) * MZ_PLOT_DAY_US;
    const int64_t us = (int64_t)of_day;
    const int seconds = (int)(us / 1000000);
    const int n =
        snprintf(out, MZ_PLOT_LABEL_BYTES, "%02d:%02d", seconds / 3600, seconds / 60 % 60);
    if (step->unit < STEP_MINUTE && n > 0) {
        (void)snprintf(out + n, MZ_PLOT_LABEL_BYTES - (size_t)n, ":%02d", seconds % 60);
    }
    if (step->unit == STEP_US) {
        char fraction[16];
        (void)snprintf(fraction, sizeof fraction, ".%06d", (int)(us % 1000000));
        int digits = 6;
        for (int count = step->count; count % 10 == 0; count /= 10) {
            digits--;
        }
        const size_t length = strlen(out);
        (void)snprintf(out + length, MZ_PLOT_LABEL_BYTES - length, "%.*s", digits + 1, fraction);
    }
}

/* What stands at `at`, which lies in the step's month, day or second. */
static void write_label(double at, const time_step *step, mz_plot_tick *tick) {
    const civil_date date = date_of(at);
    const long long year = (long long)date.year;
    tick->context[0] = '\0';
    if (step->unit == STEP_MONTH && step->count % 12 == 0) {
        (void)snprintf(tick->label, sizeof tick->label, "%lld", year);
    } else if (step->unit == STEP_MONTH) {
        (void)snprintf(tick->label, sizeof tick->label, "%s %lld", month_name(date.month), year);
    } else if (step->unit == STEP_DAY) {
        (void)snprintf(tick->label, sizeof tick->label, "%d %s", date.day, month_name(date.month));
        (void)snprintf(tick->context, sizeof tick->context, "%lld", year);
    } else {
        write_clock(at, step, tick->label);
        (void)snprintf(tick->context, sizeof tick->context, "%d %s %lld", date.day,
                       month_name(date.month), year);
    }
}

/* The panel's first point in [at, end); without one `at`, or NAN beyond the last point. Times
 * ascend. */
static double first_point(const mz_plot_panel *panel, double at, double end) {
    int64_t lo = 0;
    int64_t hi = panel->n_history + panel->horizon;
    const int64_t n = hi;
    while (lo < hi) {
        const int64_t middle = lo + (hi - lo) / 2;
        if (mz_plot_x(panel, middle) < at) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    if (lo >= n) {
        return NAN;
    }
    const double found = mz_plot_x(panel, lo);
    return found < end ? found : at;
}

/* Steps of months: each stands at its first point where the panel's period is a month or more. */
static void fill_months(const mz_plot_panel *panel, mz_plot_range range, const time_step *step,
                        double period, mz_plot_ticks *out) {
    const bool to_points = period >= 27.5 * MZ_PLOT_DAY_US;
    /* Months that a point stands for: it may be dated on any day of them. */
    const double n_months = round(period / unit_us(STEP_MONTH));
    const int64_t window = n_months < step->count ? (int64_t)n_months : step->count;
    const civil_date first = date_of(range.lo);
    const int64_t first_month = first.year * 12 + first.month - 1 - (to_points ? window : 0);
    int64_t month = floor_div(first_month, step->count) * step->count;
    for (; out->n < MZ_PLOT_MAX_TICKS; month += step->count) {
        const double start = (double)days_of_month(month) * MZ_PLOT_DAY_US;
        if (start > range.hi) {
            break;
        }
        const double end = (double)days_of_month(month + window) * MZ_PLOT_DAY_US;
        const double at = to_points ? first_point(panel, start, end) : start;
        if (!(at >= range.lo && at <= range.hi)) {
            continue;
        }
        mz_plot_tick *tick = &out->items[out->n++];
        tick->at = at;
        /* Quarters that end in March are called by their point, years by themselves. */
        write_label(at, step, tick);
    }
}

static void fill_even(const mz_plot_panel *panel, mz_plot_range range, const time_step *step,
                      double period, mz_plot_ticks *out) {
    const double length = unit_us(step->unit) * step->count;
    double phase = 0;
    if (step->unit == STEP_DAY && step->count % 7 == 0) {
        /* Weekly points: the weekday they have. Otherwise Mondays. */
        const double monday = 4 * MZ_PLOT_DAY_US;
        const double week = 7 * MZ_PLOT_DAY_US;
        const double point = mz_plot_x(panel, 0);
        phase = fabs(period - week) < MZ_PLOT_DAY_US / 2 ? point - floor(point / length) * length
                                                         : monday;
    }
    const double first = ceil((range.lo - phase) / length);
    for (int i = 0; out->n < MZ_PLOT_MAX_TICKS; i++) {
        const double at = (first + i) * length + phase;
        if (at > range.hi) {
            break;
        }
        mz_plot_tick *tick = &out->items[out->n++];
        tick->at = at;
        write_label(at, step, tick);
    }
}

static bool labels_fit(const mz_plot_axis *axis, const mz_plot_ticks *ticks) {
    const double scale = axis->length / (axis->range.hi - axis->range.lo);
    for (int i = 1; i < ticks->n; i++) {
        const mz_plot_tick *a = &ticks->items[i - 1];
        const mz_plot_tick *b = &ticks->items[i];
        const double room = (b->at - a->at) * scale;
        const double widths = axis->measure.width(axis->measure.arg, a->label) +
                              axis->measure.width(axis->measure.arg, b->label);
        if (room < widths / 2 + axis->gap) {
            return false;
        }
    }
    return true;
}

/* Keeps a context only where it changes, and drops those that would touch; the very first gives
 * way to a change. */
static void thin_contexts(const mz_plot_axis *axis, mz_plot_ticks *ticks) {
    const double scale = axis->length / (axis->range.hi - axis->range.lo);
    char shown[MZ_PLOT_LABEL_BYTES] = "";
    int last = -1;
    for (int i = 0; i < ticks->n; i++) {
        mz_plot_tick *tick = &ticks->items[i];
        if (strcmp(tick->context, shown) == 0) {
            tick->context[0] = '\0';
        }
        if (tick->context[0] == '\0') {
            continue;
        }
        (void)snprintf(shown, sizeof shown, "%s", tick->context);
        if (last >= 0) {
            mz_plot_tick *before = &ticks->items[last];
            const double room = (tick->at - before->at) * scale;
            const double widths = axis->measure.width(axis->measure.arg, before->context) +
                                  axis->measure.width(axis->measure.arg, tick->context);
            if (room < widths / 2 + axis->gap) {
                (last == 0 ? before : tick)->context[0] = '\0';
            }
        }
        last = tick->context[0] != '\0' ? i : last;
    }
}

void mz_plot_time_ticks(const mz_plot_panel *panel, const mz_plot_axis *axis, mz_plot_ticks *out) {
    const double span = axis->range.hi - axis->range.lo;
    const double period = mz_plot_period_us(panel);
    const time_step *chosen = NULL;
    for (int i = 0; i < N_STEPS; i++) {
        const time_step *step = &steps[i];
        const double length = unit_us(step->unit) * step->count;
        out->n = 0;
        if (length < period * 0.9 || span / length > MZ_PLOT_MAX_TICKS - 2) {
            continue;
        }
        chosen = step;
        if (step->unit == STEP_MONTH) {
            fill_months(panel, axis->range, step, period, out);
        } else {
            fill_even(panel, axis->range, step, period, out);
        }
        if (labels_fit(axis, out)) {
            break;
        }
    }
    if (out->n == 0 || chosen == NULL) {
        /* A range between two steps, or one that fits none: its first point says where we are. */
        const time_step *step = chosen != NULL ? chosen : &steps[N_STEPS - 1];
        out->n = 1;
        out->items[0].at = fmax(axis->range.lo, mz_plot_x(panel, 0));
        write_label(out->items[0].at, step, &out->items[0]);
    }
    thin_contexts(axis, out);
}
