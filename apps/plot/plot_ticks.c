/* Ticks of numbers: where they stand and how they are written. */
#include "apps/plot/plot_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* 1, 2 or 5 times a power of ten, the smallest that is at least x > 0. */
static double round_step(double x) {
    const double power = pow(10, floor(log10(x)));
    const double m = x / power;
    /* The logarithm may be off by a bit: 1.0000000001 is 1. */
    const double slack = 1e-9;
    return power * (m <= 1 + slack ? 1 : m <= 2 + slack ? 2 : m <= 5 + slack ? 5 : 10);
}

/* How the labels of one axis are written. */
typedef struct number_form {
    double unit;        /* values are divided by it */
    const char *suffix; /* of the unit */
    int decimals;
    bool scientific; /* 1e-9 */
} number_form;

/* Digits after the point that tell multiples of `step` apart. */
static int decimals_of(double step) {
    const double d = ceil(-log10(step) - 1e-9);
    return d <= 0 ? 0 : d > 17 ? 17 : (int)d;
}

/* The form for values up to `most` in steps of `step`. */
static number_form choose_form(double most, double step) {
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    if (most >= 1e15 || (most < 1e-4 && most > 0)) {
        const double digits = floor(log10(most) + 1e-9) - floor(log10(step) + 1e-9);
        return (number_form){.unit = 1,
                             .suffix = "",
                             .decimals = digits < 0    ? 0
                                         : digits > 15 ? 15
                                                       : (int)digits,
                             .scientific = true};
    }
    for (size_t i = 0; i < sizeof units / sizeof *units && most >= 1e4; i++) {
        const int decimals = decimals_of(step / units[i].unit);
        /* Where the short form is no shorter the plain one is clearer: 12,250 and not 12.25k. */
        const int most_decimals = units[i].unit > 1e3 ? 2 : 1;
        const bool fits = i == 0 || most < 1000 * units[i].unit;
        if (most >= units[i].unit && fits && decimals <= most_decimals) {
            return (number_form){
                .unit = units[i].unit, .suffix = units[i].suffix, .decimals = decimals};
        }
    }
    return (number_form){.unit = 1, .suffix = "", .decimals = decimals_of(step)};
}

/* Copies the digits of `plain` with a comma between thousands. */
static void group_thousands(const char *plain, char out[MZ_PLOT_LABEL_BYTES]) {
    const char *digits = plain + (*plain == '-');
    const size_t n_whole = strcspn(digits, ".");
    size_t n = 0;
    for (const char *s = plain; *s != '\0' && n + 2 < MZ_PLOT_LABEL_BYTES; s++) {
        const ptrdiff_t i = s - digits;
        if (i > 0 && (size_t)i < n_whole && (n_whole - (size_t)i) % 3 == 0) {
            out[n++] = ',';
        }
        out[n++] = *s;
    }
    out[n] = '\0';
}

/* "1.50e-07" becomes "1.50e-7", "1e+300" becomes "1e300". */
static void shorten_exponent(char *text) {
    char *e = strchr(text, 'e');
    if (e == NULL) {
        return;
    }
    const char *from = e + 1;
    char *to = e + 1;
    if (*from == '-') {
        *to++ = *from;
    }
    from++;
    while (*from == '0' && from[1] != '\0') {
        from++;
    }
    memmove(to, from, strlen(from) + 1);
}

static void write_number(double value, const number_form *form, char out[MZ_PLOT_LABEL_BYTES]) {
    if (value == 0) {
        (void)snprintf(out, MZ_PLOT_LABEL_BYTES, "0");
        return;
    }
    if (form->scientific) {
        (void)snprintf(out, MZ_PLOT_LABEL_BYTES, "%.*e", form->decimals, value);
        shorten_exponent(out);
        return;
    }
    char plain[MZ_PLOT_LABEL_BYTES];
    (void)snprintf(plain, sizeof plain, "%.*f", form->decimals, value / form->unit);
    group_thousands(plain, out);
    const size_t n = strlen(out);
    (void)snprintf(out + n, MZ_PLOT_LABEL_BYTES - n, "%s", form->suffix);
}

/* Ticks at all multiples of `step` in the range. */
static void fill(mz_plot_range range, double step, mz_plot_ticks *out) {
    out->n = 0;
    const double first = ceil(range.lo / step - 1e-9);
    const double most = fmax(fabs(range.lo), fabs(range.hi));
    const number_form form = choose_form(floor(most / step + 1e-9) * step, step);
    for (int i = 0; i < MZ_PLOT_MAX_TICKS; i++) {
        const double value = (first + i) * step;
        if (value > range.hi + step * 1e-9) {
            break;
        }
        mz_plot_tick *tick = &out->items[out->n++];
        *tick = (mz_plot_tick){.at = value};
        write_number(value, &form, tick->label);
    }
}

void mz_plot_value_ticks(mz_plot_range range, int n_wanted, mz_plot_ticks *out) {
    /* Steps are rounded up, often to half as many ticks: rather a quarter too many. */
    const double wanted = 1.25 * (n_wanted < 1 ? 1 : n_wanted);
    double step = round_step((range.hi - range.lo) / wanted);
    fill(range, step, out);
    for (int finer = 0; finer < 3 && out->n < 2; finer++) {
        step = round_step(step / 2.5);
        fill(range, step, out);
    }
}

/* Whether no two labels come nearer than the gap. */
static bool labels_fit(const mz_plot_axis *axis, const mz_plot_ticks *ticks) {
    const double scale = axis->length / (axis->range.hi - axis->range.lo);
    double last_end = -HUGE_VAL;
    for (int i = 0; i < ticks->n; i++) {
        const double half = axis->measure.width(axis->measure.arg, ticks->items[i].label) / 2;
        const double middle = (ticks->items[i].at - axis->range.lo) * scale;
        if (middle - half < last_end + axis->gap) {
            return false;
        }
        last_end = middle + half;
    }
    return true;
}

void mz_plot_index_ticks(const mz_plot_axis *axis, mz_plot_ticks *out) {
    const double span = axis->range.hi - axis->range.lo;
    const double least = span / (MZ_PLOT_MAX_TICKS - 1);
    double step = round_step(least < 1 ? 1 : least);
    fill(axis->range, step, out);
    while (out->n > 1 && !labels_fit(axis, out)) {
        step = round_step(step * 1.5);
        fill(axis->range, step, out);
    }
}

void mz_plot_x_ticks(const mz_plot_panel *panel, const mz_plot_axis *axis, mz_plot_ticks *out) {
    if (panel->times != NULL && panel->n_history + panel->horizon > 0) {
        mz_plot_time_ticks(panel, axis, out);
    } else {
        mz_plot_index_ticks(axis, out);
    }
}
