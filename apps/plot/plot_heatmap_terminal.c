/* A table of shares as bars of text. */
#include "apps/plot/plot_terminal_internal.h"

#include <math.h>
#include <stdio.h>

enum { MAX_TEXT_ROWS = 200, MAX_CELL_WIDTH = 2, N_BARS = 9 };
static const char *const bars[N_BARS] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
static const char *const colours[N_BARS] = {"38;5;153", "38;5;153", "38;5;117",
                                            "38;5;111", "38;5;75",  "38;5;69",
                                            "38;5;33",  "38;5;27",  "38;5;27"};

/* A map while it is drawn. */
typedef struct text_map {
    const mz_plot_heatmap *map;
    int n_rows, n_columns; /* cells drawn */
    int cell_width;        /* columns of the terminal */
    int left;              /* columns of the row labels */
    double max;
} text_map;

/* What is more than nothing shows at least the lowest bar. */
static int bar_of(double value, double max) {
    const int i = (int)lround(fmax(0, fmin(1, value / max)) * (N_BARS - 1));
    return i == 0 && value > 0 ? 1 : i;
}

static void write_cell(mz_plot_terminal_writer *w, const text_map *t, int row, int column) {
    const double value = mz_plot_heatmap_cell(t->map, t->n_rows, t->n_columns, row, column);
    const int bar = isnan(value) ? 0 : bar_of(value, t->max);
    for (int i = 0; i < t->cell_width; i++) {
        /* A wide cell ends with a gap. */
        const bool gap = t->cell_width > 1 && i + 1 == t->cell_width;
        if (gap && column + 1 == t->n_columns) {
            break;
        }
        if (isnan(value) && !gap) {
            mz_plot_terminal_put(w, NULL, "·");
        } else {
            mz_plot_terminal_put(w, gap || bar == 0 ? NULL : colours[bar], gap ? " " : bars[bar]);
        }
    }
}

static int row_label(const text_map *t, int64_t row, char text[MZ_PLOT_TEXT_BYTES]) {
    const mz_plot_measure measure = mz_plot_measure_columns();
    const int64_t i = mz_plot_heatmap_begin(t->map->n_rows, t->n_rows, row);
    mz_plot_heatmap_label(t->map->row_labels, i, text);
    if (t->left > 0) {
        mz_plot_fit(text, t->left, &measure);
    }
    return mz_plot_columns(text);
}

static void write_column_labels(mz_plot_terminal_writer *w, const text_map *t) {
    char text[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_columns();
    int widest = 1;
    for (int64_t i = t->map->column_labels == NULL ? t->map->n_columns - 1 : 0;
         i < t->map->n_columns; i++) {
        mz_plot_heatmap_label(t->map->column_labels, i, text);
        const int n = mz_plot_columns(text);
        widest = n > widest ? n : widest;
    }
    const int most = 12;
    widest = widest > most ? most : widest;
    const int64_t step = mz_plot_heatmap_label_step(t->n_columns, t->cell_width, widest + 1);
    int at = 0;
    mz_plot_terminal_spaces(w, t->left + 1);
    for (int64_t column = 0; column < t->n_columns; column += step) {
        const int64_t i = mz_plot_heatmap_begin(t->map->n_columns, t->n_columns, column);
        const int start = (int)column * t->cell_width;
        mz_plot_heatmap_label(t->map->column_labels, i, text);
        mz_plot_fit(text, most, &measure);
        if (t->left + 1 + start + mz_plot_columns(text) > w->width) {
            break;
        }
        mz_plot_terminal_spaces(w, start - at);
        mz_plot_terminal_put(w, NULL, text);
        at = start + mz_plot_columns(text);
    }
    mz_plot_terminal_line(w);
}

/* "layer x expert" and what a full bar stands for. */
static void write_scale(mz_plot_terminal_writer *w, const text_map *t) {
    char rows[MZ_PLOT_TEXT_BYTES], columns[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_columns();
    mz_plot_clean(t->map->row_axis, rows);
    mz_plot_clean(t->map->column_axis, columns);
    mz_plot_fit(rows, w->width / 3, &measure);
    mz_plot_fit(columns, w->width / 3, &measure);
    if (rows[0] != '\0' || columns[0] != '\0') {
        (void)fprintf(w->stream, "%s x %s\n", rows[0] != '\0' ? rows : "rows",
                      columns[0] != '\0' ? columns : "columns");
    }
    (void)fputs("0 ", w->stream);
    for (int i = 1; i < N_BARS; i++) {
        mz_plot_terminal_put(w, colours[i], bars[i]);
    }
    (void)snprintf(rows, sizeof rows, " %.3g %%", t->max * 100);
    mz_plot_terminal_put(w, NULL, rows);
    mz_plot_terminal_line(w);
}

mz_status mz_plot_heatmap_terminal(mz_context *ctx, const mz_plot_heatmap *map,
                                   const mz_plot_terminal_options *options, FILE *stream) {
    MZ_TRY(mz_plot_heatmap_check(ctx, map));
    mz_plot_terminal_writer w = {
        .stream = stream, .colour = options->colour, .width = mz_plot_terminal_width(options)};
    text_map t = {.map = map,
                  .n_rows = mz_plot_heatmap_parts(map->n_rows, MAX_TEXT_ROWS),
                  .max = mz_plot_heatmap_max(map)};
    char text[MZ_PLOT_TEXT_BYTES];
    int left = 0;
    for (int row = 0; row < t.n_rows; row++) {
        const int n = row_label(&t, row, text);
        left = n > left ? n : left;
    }
    t.left = left > w.width / 3 ? w.width / 3 : left;
    const int room = w.width - t.left - 1;
    t.n_columns = mz_plot_heatmap_parts(map->n_columns, room);
    t.cell_width = t.n_columns * MAX_CELL_WIDTH <= room ? MAX_CELL_WIDTH : 1;
    mz_plot_terminal_title(&w, map->title);
    for (int row = 0; row < t.n_rows; row++) {
        const int n = row_label(&t, row, text);
        mz_plot_terminal_spaces(&w, t.left - n);
        mz_plot_terminal_put(&w, NULL, text);
        mz_plot_terminal_put(&w, NULL, "│");
        for (int column = 0; column < t.n_columns; column++) {
            write_cell(&w, &t, row, column);
        }
        mz_plot_terminal_line(&w);
    }
    write_column_labels(&w, &t);
    write_scale(&w, &t);
    return MZ_OK;
}
