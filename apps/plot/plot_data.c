/* What a picture shows: ranges, order of bands, names. */
#include "apps/plot/plot_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double mz_plot_x(const mz_plot_panel *panel, int64_t i) {
    const double step = panel->index_step > 0 ? (double)panel->index_step : 1;
    return panel->times != NULL ? (double)panel->times[i]
                                : (double)panel->first_index + step * (double)i;
}

double mz_plot_period_us(const mz_plot_panel *panel) {
    if (panel->period_s > 0 && panel->period_s < 1e12) {
        return panel->period_s * MZ_PLOT_SECOND_US;
    }
    const int64_t n = panel->n_history + panel->horizon;
    double least = 0;
    for (int64_t i = 1; i < n; i++) {
        const double d = mz_plot_x(panel, i) - mz_plot_x(panel, i - 1);
        least = d > 0 && (least == 0 || d < least) ? d : least;
    }
    if (least > 0) {
        return least;
    }
    const double day = mz_plot_x(panel, 0) / MZ_PLOT_DAY_US;
    return floor(day) == day ? MZ_PLOT_DAY_US : 3600 * MZ_PLOT_SECOND_US;
}

/* The three lines of a panel besides baselines and bands. */
enum { N_MAIN_CURVES = 3 };
static void main_curves(const mz_plot_panel *panel, mz_plot_curve out[N_MAIN_CURVES]) {
    out[0] = (mz_plot_curve){panel->history, panel->history == NULL ? 0 : panel->n_history, 0};
    out[1] = (mz_plot_curve){panel->forecast, panel->forecast == NULL ? 0 : panel->horizon,
                             panel->n_history};
    out[2] =
        (mz_plot_curve){panel->truth, panel->truth == NULL ? 0 : panel->horizon, panel->n_history};
}

static bool has_finite(const double *values, int64_t n) {
    for (int64_t i = 0; values != NULL && i < n; i++) {
        if (isfinite(values[i])) {
            return true;
        }
    }
    return false;
}

static double clamp_huge(double value) {
    return fmax(-MZ_PLOT_HUGE, fmin(MZ_PLOT_HUGE, value));
}

bool mz_plot_origin(const mz_plot_panel *panel, double *x) {
    if (panel->n_history < 1 || panel->horizon < 1) {
        return false;
    }
    const double before = mz_plot_x(panel, panel->n_history - 1);
    *x = before + (mz_plot_x(panel, panel->n_history) - before) / 2;
    return true;
}

bool mz_plot_last_value(const mz_plot_panel *panel, double *value) {
    if (panel->history == NULL || panel->n_history < 1 ||
        !isfinite(panel->history[panel->n_history - 1])) {
        return false;
    }
    *value = panel->history[panel->n_history - 1];
    return true;
}

bool mz_plot_mark_value(const mz_plot_panel *panel, const mz_plot_mark *mark, double *value) {
    const int64_t later = mark->index - panel->n_history;
    if (mark->index < 0 || later >= panel->horizon) {
        return false;
    }
    double found = NAN;
    if (later < 0) {
        found = panel->history != NULL ? panel->history[mark->index] : NAN;
    } else {
        found = panel->truth != NULL ? panel->truth[later] : NAN;
        if (!isfinite(found) && panel->forecast != NULL) {
            found = panel->forecast[later];
        }
    }
    *value = found;
    return isfinite(found);
}

int mz_plot_n_shown(const mz_plot *plot) {
    return plot->n_panels > MZ_PLOT_MAX_PANELS ? MZ_PLOT_MAX_PANELS : (int)plot->n_panels;
}

int64_t mz_plot_n_hidden(const mz_plot *plot) {
    return plot->n_panels - mz_plot_n_shown(plot) + plot->n_more;
}

void mz_plot_hidden_text(const mz_plot *plot, char out[MZ_PLOT_LABEL_BYTES]) {
    const long long n = (long long)mz_plot_n_hidden(plot);
    (void)snprintf(out, MZ_PLOT_LABEL_BYTES, "%lld more series %s not shown", n,
                   n == 1 ? "is" : "are");
}

void mz_plot_panel_texts(const mz_plot_panel *panel, char title[MZ_PLOT_TEXT_BYTES],
                         char unit[MZ_PLOT_TEXT_BYTES]) {
    mz_plot_clean(panel->title, title);
    mz_plot_clean(panel->unit, unit);
    const size_t n_title = strlen(title);
    const size_t n_unit = strlen(unit);
    if (n_unit > 0 && n_title >= n_unit + 2 &&
        memcmp(title + n_title - 1 - n_unit, unit, n_unit) == 0 &&
        strchr("([", title[n_title - 2 - n_unit]) != NULL) {
        unit[0] = '\0';
    }
}

bool mz_plot_panel_is_empty(const mz_plot_panel *panel) {
    mz_plot_curve curves[N_MAIN_CURVES];
    main_curves(panel, curves);
    for (int i = 0; i < N_MAIN_CURVES; i++) {
        if (has_finite(curves[i].values, curves[i].n)) {
            return false;
        }
    }
    for (int i = 0; i < panel->n_baselines; i++) {
        if (has_finite(panel->baselines[i].values, panel->horizon)) {
            return false;
        }
    }
    return true;
}

mz_status mz_plot_check(mz_context *ctx, const mz_plot *plot) {
    bool something = false;
    for (int i = 0; i < mz_plot_n_shown(plot); i++) {
        const mz_plot_panel *panel = &plot->panels[i];
        if (panel->n_history < 0 || panel->horizon < 0 || panel->n_marks < 0 ||
            panel->n_bands < 0 || panel->n_baselines < 0) {
            return mz_fail(&ctx->error, MZ_ERR_ARG, "panel %d of the plot has a negative count", i);
        }
        something = something || !mz_plot_panel_is_empty(panel);
    }
    if (!something) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "nothing to plot: %s",
                       plot->n_panels < 1 ? "there is no series" : "no series has a finite value");
    }
    return MZ_OK;
}

/* Widens lo..hi by the finite values. Start with lo > hi. */
static int64_t widen(mz_plot_range *range, const double *values, int64_t n) {
    int64_t n_finite = 0;
    for (int64_t i = 0; values != NULL && i < n; i++) {
        if (isfinite(values[i])) {
            range->lo = fmin(range->lo, clamp_huge(values[i]));
            range->hi = fmax(range->hi, clamp_huge(values[i]));
            n_finite++;
        }
    }
    return n_finite;
}

/* Room above and below; a range of (nearly) no height gets one. */
static mz_plot_range with_room(mz_plot_range range) {
    const double most = fmax(fabs(range.lo), fabs(range.hi));
    double span = range.hi - range.lo;
    if (span < most * 1e-10 || span < 1e-290) {
        const double middle = range.lo + span / 2;
        const double room = most < 1e-280 ? 1 : most * 0.1;
        return (mz_plot_range){middle - room, middle + room};
    }
    const double room = span * 0.06;
    mz_plot_range out = {range.lo - room, range.hi + room};
    /* What is never negative is not drawn above a negative axis. */
    if (range.lo >= 0 && out.lo < 0) {
        out.lo = 0;
    }
    return out;
}

static mz_plot_range y_range(const mz_plot_panel *panel) {
    enum { LONG_HISTORY = 8 };
    mz_plot_curve curves[N_MAIN_CURVES];
    mz_plot_range main = {HUGE_VAL, -HUGE_VAL};
    main_curves(panel, curves);
    int64_t n_history = 0;
    for (int i = 0; i < N_MAIN_CURVES; i++) {
        const int64_t n = widen(&main, curves[i].values, curves[i].n);
        n_history = i == 0 ? n : n_history;
    }
    mz_plot_range all = main;
    for (int i = 0; i < panel->n_bands; i++) {
        (void)widen(&all, panel->bands[i].lower, panel->horizon);
        (void)widen(&all, panel->bands[i].upper, panel->horizon);
    }
    for (int i = 0; i < panel->n_baselines; i++) {
        (void)widen(&all, panel->baselines[i].values, panel->horizon);
    }
    if (all.lo > all.hi) {
        return (mz_plot_range){0, 1};
    }
    const double height = main.hi - main.lo;
    if (n_history >= LONG_HISTORY && height > 0) {
        all.lo = fmax(all.lo, main.lo - 1.5 * height);
        all.hi = fmin(all.hi, main.hi + 1.5 * height);
    }
    return with_room(all);
}

void mz_plot_ranges(const mz_plot_panel *panel, mz_plot_range *x, mz_plot_range *y) {
    *y = y_range(panel);
    const int64_t n = panel->n_history + panel->horizon;
    if (n < 1) {
        *x = (mz_plot_range){0, 1};
        return;
    }
    mz_plot_range range = {mz_plot_x(panel, 0), mz_plot_x(panel, n - 1)};
    if (!(range.lo < range.hi)) {
        const double period = panel->times != NULL ? mz_plot_period_us(panel) : 1;
        range.hi = range.lo + period;
        range.lo -= period;
    }
    /* Numbers so large that neighbours are the same double still need a width. */
    const double least = fmax(fabs(range.lo), fabs(range.hi)) * 1e-12;
    const double room = fmax((range.hi - range.lo) * 0.01, least);
    *x = (mz_plot_range){range.lo - room, range.hi + room};
}

void mz_plot_level_text(double level, char out[MZ_PLOT_LABEL_BYTES]) {
    (void)snprintf(out, MZ_PLOT_LABEL_BYTES, "%.4g %% interval", level * 100);
}

static int find_name(const mz_plot_contents *contents, const char *name) {
    for (int i = 0; i < contents->n_baselines; i++) {
        if (strcmp(contents->baselines[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *name_of(const mz_plot_baseline *baseline) {
    return baseline->name != NULL ? baseline->name : "baseline";
}

/* Puts a level among the others, widest first; the narrowest is lost when there are too many. */
static void add_level(mz_plot_contents *out, double level) {
    int at = 0;
    while (at < out->n_levels && out->levels[at] > level) {
        at++;
    }
    if (at == MZ_PLOT_MAX_LEVELS || (at < out->n_levels && out->levels[at] == level)) {
        return;
    }
    out->n_levels += out->n_levels < MZ_PLOT_MAX_LEVELS;
    for (int i = out->n_levels - 1; i > at; i--) {
        out->levels[i] = out->levels[i - 1];
    }
    out->levels[at] = level;
}

void mz_plot_contents_gather(const mz_plot *plot, mz_plot_contents *out) {
    *out = (mz_plot_contents){.forecast_name =
                                  plot->forecast_name != NULL ? plot->forecast_name : "forecast",
                              .truth_name = plot->truth_name != NULL ? plot->truth_name : "actual"};
    for (int p = 0; p < mz_plot_n_shown(plot); p++) {
        const mz_plot_panel *panel = &plot->panels[p];
        out->history = out->history || has_finite(panel->history, panel->n_history);
        out->forecast = out->forecast || has_finite(panel->forecast, panel->horizon);
        out->truth = out->truth || has_finite(panel->truth, panel->horizon);
        out->marks = out->marks || panel->n_marks > 0;
        for (int i = 0; i < panel->n_bands; i++) {
            add_level(out, panel->bands[i].level);
        }
        for (int i = 0; i < panel->n_baselines; i++) {
            const char *name = name_of(&panel->baselines[i]);
            if (out->n_baselines < MZ_PLOT_MAX_NAMES && find_name(out, name) < 0) {
                out->baselines[out->n_baselines++] = name;
            }
        }
    }
}

int mz_plot_baseline_look(const mz_plot_contents *contents, const char *name) {
    const int found = find_name(contents, name != NULL ? name : "baseline");
    return found >= 0 ? found : MZ_PLOT_MAX_NAMES - 1;
}

int mz_plot_bands_sorted(const mz_plot_panel *panel, const mz_plot_band *out[MZ_PLOT_MAX_LEVELS]) {
    int n = 0;
    for (int i = 0; i < panel->n_bands; i++) {
        int at = n;
        while (at > 0 && out[at - 1]->level < panel->bands[i].level) {
            at--;
        }
        if (at == MZ_PLOT_MAX_LEVELS) {
            continue;
        }
        n += n < MZ_PLOT_MAX_LEVELS;
        for (int j = n - 1; j > at; j--) {
            out[j] = out[j - 1];
        }
        out[at] = &panel->bands[i];
    }
    return n;
}
