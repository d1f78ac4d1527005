/* Cells of a heat map, where needed averaged. */
#include "apps/plot/plot_internal.h"

#include <math.h>
#include <stdio.h>

mz_status mz_plot_heatmap_check(mz_context *ctx, const mz_plot_heatmap *map) {
    if (map->values == NULL || map->n_rows < 1 || map->n_columns < 1) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING,
                       "nothing to plot: the table has %lld rows and %lld columns",
                       (long long)map->n_rows, (long long)map->n_columns);
    }
    return MZ_OK;
}

int mz_plot_heatmap_parts(int64_t n, int room) {
    const int64_t size = (n - 1) / room + 1;
    return (int)((n - 1) / size + 1);
}

int64_t mz_plot_heatmap_begin(int64_t n, int n_parts, int64_t i) {
    const int64_t size = (n - 1) / n_parts + 1;
    return i <= n / size ? i * size : n;
}

double mz_plot_heatmap_cell(const mz_plot_heatmap *map, int n_rows, int n_columns, int row,
                            int column) {
    const int64_t row_end = mz_plot_heatmap_begin(map->n_rows, n_rows, row + 1);
    const int64_t column_begin = mz_plot_heatmap_begin(map->n_columns, n_columns, column);
    const int64_t column_end = mz_plot_heatmap_begin(map->n_columns, n_columns, column + 1);
    double sum = 0;
    int64_t n = 0;
    for (int64_t r = mz_plot_heatmap_begin(map->n_rows, n_rows, row); r < row_end; r++) {
        for (int64_t c = column_begin; c < column_end; c++) {
            const double value = map->values[r * map->n_columns + c];
            if (!isnan(value)) {
                sum += fmax(0, fmin(1, value));
                n++;
            }
        }
    }
    return n > 0 ? sum / (double)n : NAN;
}

double mz_plot_heatmap_max(const mz_plot_heatmap *map) {
    static const double nice[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1,
                                  0.15,  0.2,   0.25,  0.3,  0.4,  0.5,  0.6,  0.8,  1};
    if (map->max > 0 && map->max <= 1) {
        return map->max;
    }
    double most = 0;
    for (int64_t i = 0; i < map->n_rows * map->n_columns; i++) {
        most = fmax(most, map->values[i]); /* fmax leaves NaN out */
    }
    for (size_t i = 0; i < sizeof nice / sizeof *nice; i++) {
        if (most <= nice[i]) {
            return most > 0 ? nice[i] : 1;
        }
    }
    return 1;
}

void mz_plot_heatmap_label(const char *const *labels, int64_t i, char out[MZ_PLOT_TEXT_BYTES]) {
    if (labels != NULL) {
        mz_plot_clean(labels[i], out);
    } else {
        (void)snprintf(out, MZ_PLOT_TEXT_BYTES, "%lld", (long long)i);
    }
}

int64_t mz_plot_heatmap_label_step(int64_t n_cells, double cell_size, double label_size) {
    static const int64_t nice[] = {1,   2,   4,   5,   8,   10,  16,   20,   32,   50,  64,
                                   100, 128, 200, 256, 500, 512, 1000, 1024, 2000, 5000};
    for (size_t i = 0; i < sizeof nice / sizeof *nice; i++) {
        if ((double)nice[i] * cell_size >= label_size) {
            return nice[i];
        }
    }
    return n_cells;
}
