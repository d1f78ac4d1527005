#include "apps/forecast/anomaly_plot.h"

#include <string.h>

#include "apps/forecast/forecast_plot.h"

enum { MAX_DRAWN = 1 << 18 };

/* Copies n bytes to *at and moves on. */
static const void *put(char **at, const void *source, size_t n) {
    const void *out = *at;
    if (n > 0) {
        memcpy(*at, source, n);
    }
    *at += n;
    return out;
}

mz_status mz_anomaly_plot_add(mz_plot_gallery *gallery, const mz_anomaly_findings *f) {
    const int64_t n = f->n_points < MAX_DRAWN ? f->n_points : MAX_DRAWN;
    const int64_t first = f->n_points - n;
    const size_t n_times = f->stamps != NULL ? (size_t)n : 0;
    size_t n_unit = 0;
    const char *unit = mz_forecast_unit(f->value_name != NULL ? f->value_name : f->id, &n_unit);
    const size_t n_bytes = (size_t)f->n_anomalies * sizeof(mz_plot_mark) +
                           (size_t)n * sizeof(double) + n_times * sizeof(int64_t) + strlen(f->id) +
                           1 + n_unit + 1;
    mz_plot_panel *p = NULL;
    void *memory = NULL;
    MZ_TRY(mz_plot_gallery_add(gallery, n_bytes, &p, &memory));
    if (p == NULL) {
        return MZ_OK;
    }
    mz_plot_mark *marks = memory;
    int64_t n_marks = 0;
    for (int64_t i = 0; i < f->n_anomalies; i++) {
        const mz_anomaly *a = &f->anomalies[i];
        if (a->index >= first) {
            marks[n_marks++] = (mz_plot_mark){.index = a->index - first, .score = a->score};
        }
    }
    char *at = (char *)(marks + n_marks);
    *p = (mz_plot_panel){
        .marks = marks, .n_marks = n_marks, .n_history = n, .first_index = first + 1};
    p->history = put(&at, f->points + first, (size_t)n * sizeof(double));
    if (n_times > 0) {
        p->times = put(&at, f->stamps + first, n_times * sizeof(int64_t));
    }
    p->title = put(&at, f->id, strlen(f->id) + 1);
    if (unit != NULL) {
        p->unit = put(&at, unit, n_unit);
        *at = '\0';
    }
    return MZ_OK;
}
