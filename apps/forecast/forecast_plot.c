#include "apps/forecast/forecast_plot.h"

#include <string.h>

/* What a panel owns, in one allocation: bands and lines first, then numbers, then text. */
typedef struct store {
    mz_plot_band bands[MZ_MAX_QUANTILES];
    mz_plot_baseline lines[MZ_BASELINE_COUNT];
    double numbers[];
} store;

const char *mz_forecast_unit(const char *name, size_t *n_bytes) {
    const size_t n = strlen(name);
    const char *open = n > 2 && name[n - 1] == ')'   ? strrchr(name, '(')
                       : n > 2 && name[n - 1] == ']' ? strrchr(name, '[')
                                                     : NULL;
    if (open == NULL || open == name || open + 2 >= name + n) {
        return NULL;
    }
    *n_bytes = (size_t)(name + n - open) - 2;
    return open + 1;
}

static const double *copy(double **at, const double *values, int64_t n) {
    const double *out = *at;
    memcpy(*at, values, (size_t)n * sizeof **at);
    *at += n;
    return out;
}

/* A band is a level that has both its edges. */
static int add_bands(const mz_forecast_quantiles *q, const double *values, int64_t horizon,
                     mz_plot_band *bands) {
    int n = 0;
    for (int l = 0; l < q->n_levels; l++) {
        mz_plot_band band = {.level = q->levels[l]};
        for (int i = 0; i < q->n; i++) {
            if (q->items[i].level == l && q->items[i].sign < 0) {
                band.lower = values + i * horizon;
            } else if (q->items[i].level == l && q->items[i].sign > 0) {
                band.upper = values + i * horizon;
            }
        }
        if (band.lower != NULL && band.upper != NULL) {
            bands[n++] = band;
        }
    }
    return n;
}

mz_status mz_forecast_plot_add(mz_forecast_plot *plot, const mz_forecast_entry *e) {
    const int64_t horizon = plot->horizon;
    const int64_t most = 3 * horizon + 64;
    const int64_t n_history = e->n_values < most ? e->n_values : most;
    const int n_quantiles = plot->quantiles != NULL ? plot->quantiles->n : 0;
    const int n_lines = e->baselines != NULL ? MZ_BASELINE_COUNT : 0;
    const size_t n_numbers = (size_t)(n_history + horizon * (2 + n_quantiles + n_lines));
    const size_t n_times = e->future_stamps != NULL ? (size_t)(n_history + horizon) : 0;
    const char *name = e->value_name != NULL ? e->value_name : e->id;
    size_t unit_bytes = 0;
    const char *unit = mz_forecast_unit(name, &unit_bytes);
    const size_t n_bytes =
        sizeof(store) + (n_numbers + n_times) * sizeof(double) + strlen(e->id) + unit_bytes + 2;
    mz_plot_panel *p = NULL;
    void *memory = NULL;
    MZ_TRY(mz_plot_gallery_add(&plot->gallery, n_bytes, &p, &memory));
    if (p == NULL) {
        return MZ_OK;
    }
    store *s = memory;
    double *at = s->numbers;
    char *title = (char *)(s->numbers + n_numbers + n_times);
    memcpy(title, e->id, strlen(e->id) + 1);
    *p = (mz_plot_panel){.title = title,
                         .n_history = n_history,
                         .horizon = horizon,
                         .first_index = e->n_observed - n_history + 1};
    if (unit != NULL) {
        char *text = title + strlen(e->id) + 1;
        memcpy(text, unit, unit_bytes);
        text[unit_bytes] = '\0';
        p->unit = text;
    }
    if (n_times > 0) {
        int64_t *times = (int64_t *)(s->numbers + n_numbers);
        memcpy(times, e->stamps + (e->n_values - n_history), (size_t)n_history * sizeof *times);
        memcpy(times + n_history, e->future_stamps, (size_t)horizon * sizeof *times);
        p->times = times;
    }
    p->history = copy(&at, e->values + (e->n_values - n_history), n_history);
    p->forecast = copy(&at, e->forecast, horizon);
    p->truth = e->future != NULL ? copy(&at, e->future, horizon) : NULL;
    if (n_quantiles > 0) {
        const double *values = copy(&at, e->quantiles, n_quantiles * horizon);
        p->n_bands = add_bands(plot->quantiles, values, horizon, s->bands);
        p->bands = s->bands;
    }
    for (int i = 0; i < n_lines; i++) {
        s->lines[i] = (mz_plot_baseline){.name = mz_baseline_name((mz_baseline)i),
                                         .values = copy(&at, e->baselines + i * horizon, horizon)};
    }
    p->baselines = s->lines;
    p->n_baselines = n_lines;
    return MZ_OK;
}

void mz_forecast_plot_keep(mz_forecast_plot *plot, const bool *keep) {
    for (int i = 0; i < plot->gallery.n_panels; i++) {
        mz_plot_panel *p = &plot->gallery.panels[i];
        store *s = plot->gallery.memory[i];
        int n = 0;
        for (int b = 0; b < p->n_baselines; b++) {
            if (keep[b]) {
                s->lines[n++] = s->lines[b];
            }
        }
        p->n_baselines = n;
    }
}
