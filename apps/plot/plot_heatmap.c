/* A table of shares as coloured cells, drawn with cairo. */
#include "apps/plot/plot_paint_internal.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>

/* Room on the page for cells; a larger table is averaged to a cell a unit. */
enum { MAX_ROWS = 480, MAX_COLUMNS = 720, MAX_VECTOR_CELLS = 4096 };

static const double MARGIN = 16;
static const double FIGURE_TITLE_SIZE = 16;
static const double TITLE_SIZE = 14;
static const double LINE_WIDTH = 1080; /* of several maps beside each other */
static const double LABEL_SIZE = 10;
static const double BAR_WIDTH = 12;
static const double BAR_ROOM = 64;
static const double MAX_LEFT = 160;

/* A map while it is drawn; places are relative to its box. */
typedef struct heatmap_view {
    const mz_plot_heatmap *map;
    int n_rows, n_columns;          /* cells drawn */
    double cell_width, cell_height; /* units */
    double left, top;               /* of the cells */
    double width, height;           /* of the box */
    double x, y;                    /* of the box in the picture */
    double max;                     /* value of the strongest colour */
} heatmap_view;

/* Maps below a title. */
typedef struct heatmap_figure {
    const char *title;
    heatmap_view *views; /* [n] */
    int64_t n;
    double width, height;
} heatmap_figure;

/* From white over the forecast's blue to nearly black: lightness alone tells the value. */
static void colour_of(double value, double max, double rgb[3]) {
    static const double stops[][3] = {
        {0.97, 0.98, 1.00}, {0.62, 0.79, 0.88}, {0.13, 0.47, 0.71}, {0.03, 0.15, 0.35}};
    const double missing = 0.85;
    if (isnan(value)) {
        rgb[0] = rgb[1] = rgb[2] = missing;
        return;
    }
    const double at = fmax(0, fmin(1, value / max)) * 3;
    const int i = at >= 3 ? 2 : (int)at;
    for (int k = 0; k < 3; k++) {
        rgb[k] = stops[i][k] + (stops[i + 1][k] - stops[i][k]) * (at - i);
    }
}

static double value_at(const heatmap_view *v, int row, int column) {
    return mz_plot_heatmap_cell(v->map, v->n_rows, v->n_columns, row, column);
}

/* Cells as rectangles, with their values where these fit. */
static void draw_cells(cairo_t *cr, const heatmap_view *v) {
    const double gap = v->cell_width >= 8 && v->cell_height >= 8 ? 1 : 0;
    const bool numbers = v->cell_width >= 30 && v->cell_height >= 16;
    mz_plot_set_font(cr, LABEL_SIZE, false);
    /* Neighbours without a gap must not show the page between them. */
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_NONE);
    for (int row = 0; row < v->n_rows; row++) {
        for (int column = 0; column < v->n_columns; column++) {
            double rgb[3];
            const double value = value_at(v, row, column);
            const double x = v->left + column * v->cell_width;
            const double y = v->top + row * v->cell_height;
            colour_of(value, v->max, rgb);
            cairo_set_source_rgb(cr, rgb[0], rgb[1], rgb[2]);
            cairo_rectangle(cr, x, y, v->cell_width - gap, v->cell_height - gap);
            cairo_fill(cr);
            if (numbers && !isnan(value)) {
                char text[MZ_PLOT_LABEL_BYTES];
                (void)snprintf(text, sizeof text, "%.0f", value * 100);
                mz_plot_set_colour(cr, value > 0.5 * v->max ? 0xFFFFFF : MZ_PLOT_TITLE, 1);
                mz_plot_draw_text(cr, x + (v->cell_width - gap) / 2,
                                  y + v->cell_height / 2 + LABEL_SIZE * 0.34, 0.5, text);
            }
        }
    }
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_DEFAULT);
}

/* Many cells as one image, two pixels a unit, so that a viewer's smoothing does not blur it. */
static void draw_image(cairo_t *cr, const heatmap_view *v) {
    const int scale = 2;
    const int width = (int)lround(v->n_columns * v->cell_width) * scale;
    const int height = (int)lround(v->n_rows * v->cell_height) * scale;
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    cairo_t *pixels = cairo_create(image);
    cairo_set_antialias(pixels, CAIRO_ANTIALIAS_NONE);
    for (int row = 0; row < v->n_rows; row++) {
        for (int column = 0; column < v->n_columns; column++) {
            double rgb[3];
            colour_of(value_at(v, row, column), v->max, rgb);
            cairo_set_source_rgb(pixels, rgb[0], rgb[1], rgb[2]);
            cairo_rectangle(pixels, column * v->cell_width * scale, row * v->cell_height * scale,
                            v->cell_width * scale, v->cell_height * scale);
            cairo_fill(pixels);
        }
    }
    cairo_destroy(pixels);
    cairo_save(cr);
    cairo_translate(cr, v->left, v->top);
    cairo_scale(cr, 1.0 / scale, 1.0 / scale);
    cairo_set_source_surface(cr, image, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
    cairo_paint(cr);
    cairo_restore(cr);
    cairo_surface_destroy(image);
}

static double widest_label(cairo_t *cr, const char *const *labels, int64_t n) {
    double widest = 0;
    for (int64_t i = labels == NULL ? n - 1 : 0; i < n; i++) {
        char text[MZ_PLOT_TEXT_BYTES];
        mz_plot_heatmap_label(labels, i, text);
        widest = fmax(widest, mz_plot_text_width(cr, text));
    }
    return widest;
}

static void draw_row_labels(cairo_t *cr, const heatmap_view *v) {
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    const int64_t step = mz_plot_heatmap_label_step(v->n_rows, v->cell_height, LABEL_SIZE * 1.15);
    for (int64_t row = 0; row < v->n_rows; row += step) {
        char text[MZ_PLOT_TEXT_BYTES];
        const int64_t i = mz_plot_heatmap_begin(v->map->n_rows, v->n_rows, row);
        mz_plot_heatmap_label(v->map->row_labels, i, text);
        mz_plot_fit(text, MAX_LEFT, &measure);
        mz_plot_draw_text(cr, v->left - 6,
                          v->top + ((double)row + 0.5) * v->cell_height + LABEL_SIZE * 0.34, 1,
                          text);
    }
}

static void draw_column_labels(cairo_t *cr, const heatmap_view *v) {
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    const double most = 90;
    const double widest =
        fmin(most, widest_label(cr, v->map->column_labels, v->map->n_columns)) + 8;
    const int64_t step = mz_plot_heatmap_label_step(v->n_columns, v->cell_width, widest);
    const double y = v->top + v->n_rows * v->cell_height + LABEL_SIZE * 1.4;
    for (int64_t column = 0; column < v->n_columns; column += step) {
        char text[MZ_PLOT_TEXT_BYTES];
        const int64_t i = mz_plot_heatmap_begin(v->map->n_columns, v->n_columns, column);
        mz_plot_heatmap_label(v->map->column_labels, i, text);
        mz_plot_fit(text, most, &measure);
        const double x = v->left + ((double)column + 0.5) * v->cell_width;
        const double half = mz_plot_text_width(cr, text) / 2;
        mz_plot_draw_text(cr, fmax(half + 4, fmin(x, v->width - half - 4)), y, 0.5, text);
    }
}

static void draw_axis_names(cairo_t *cr, const heatmap_view *v) {
    char text[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    const double bottom = v->top + v->n_rows * v->cell_height;
    mz_plot_clean(v->map->column_axis, text);
    mz_plot_fit(text, v->n_columns * v->cell_width, &measure);
    mz_plot_draw_text(cr, v->left, bottom + LABEL_SIZE * 2.8, 0, text);
    mz_plot_clean(v->map->row_axis, text);
    mz_plot_fit(text, v->width / 2, &measure);
    mz_plot_draw_text(cr, MARGIN, v->top - 7, 0, text);
}

/* The scale of colours at the right. */
static void draw_bar(cairo_t *cr, const heatmap_view *v) {
    const double x = v->left + v->n_columns * v->cell_width + 16;
    const double height = fmax(60, fmin(200, v->n_rows * v->cell_height));
    cairo_pattern_t *ramp = cairo_pattern_create_linear(0, v->top + height, 0, v->top);
    for (int i = 0; i <= 12; i++) {
        double rgb[3];
        colour_of(i / 12.0, 1, rgb);
        cairo_pattern_add_color_stop_rgb(ramp, i / 12.0, rgb[0], rgb[1], rgb[2]);
    }
    cairo_rectangle(cr, x, v->top, BAR_WIDTH, height);
    cairo_set_source(cr, ramp);
    cairo_fill(cr);
    cairo_pattern_destroy(ramp);
    mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
    for (int i = 0; i <= 2; i++) {
        char text[MZ_PLOT_LABEL_BYTES];
        (void)snprintf(text, sizeof text, "%.3g %%", v->max * 50 * i);
        mz_plot_draw_text(cr, x + BAR_WIDTH + 5,
                          v->top + height * (1 - i / 2.0) + LABEL_SIZE * 0.34, 0, text);
    }
}

static void draw_map_title(cairo_t *cr, const char *given, double size, double room) {
    char title[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    mz_plot_clean(given, title);
    mz_plot_set_font(cr, size, true);
    mz_plot_fit(title, room, &measure);
    mz_plot_set_colour(cr, MZ_PLOT_TITLE, 1);
    mz_plot_draw_text(cr, MARGIN, MARGIN + size * 0.8, 0, title);
}

static void draw_heatmap(cairo_t *cr, const heatmap_view *v) {
    draw_map_title(cr, v->map->title, TITLE_SIZE, v->width - 2 * MARGIN);
    if (v->n_rows * v->n_columns > MAX_VECTOR_CELLS) {
        draw_image(cr, v);
    } else {
        draw_cells(cr, v);
    }
    mz_plot_set_font(cr, LABEL_SIZE, false);
    mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
    draw_row_labels(cr, v);
    draw_column_labels(cr, v);
    draw_axis_names(cr, v);
    draw_bar(cr, v);
}

static void draw_heatmaps(cairo_t *cr, const void *arg) {
    const heatmap_figure *f = arg;
    if (f->title != NULL) {
        draw_map_title(cr, f->title, FIGURE_TITLE_SIZE, f->width - 2 * MARGIN);
    }
    for (int64_t i = 0; i < f->n; i++) {
        cairo_save(cr);
        cairo_translate(cr, f->views[i].x, f->views[i].y);
        draw_heatmap(cr, &f->views[i]);
        cairo_restore(cr);
    }
}

/* Size of a cell where `n` share the room. Whole units where they are large enough. */
static double cell_size(int n, double room, double most) {
    const double size = fmin(most, room / n);
    return size >= 2 ? floor(size) : size;
}

/* Room for the row labels, measured on a surface that draws nothing. */
static double measure_left(const mz_plot_heatmap *map) {
    cairo_surface_t *surface = cairo_recording_surface_create(CAIRO_CONTENT_COLOR, NULL);
    cairo_t *cr = cairo_create(surface);
    mz_plot_set_font(cr, LABEL_SIZE, false);
    const double left = fmin(MAX_LEFT, widest_label(cr, map->row_labels, map->n_rows));
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return MARGIN + left + 8;
}

static heatmap_view view_of(const mz_plot_heatmap *map, int room) {
    heatmap_view v = {
        .map = map,
        .n_rows = mz_plot_heatmap_parts(map->n_rows, MAX_ROWS),
        .n_columns = mz_plot_heatmap_parts(map->n_columns, room),
        .max = mz_plot_heatmap_max(map),
    };
    v.cell_width = cell_size(v.n_columns, room, 44);
    v.cell_height = cell_size(v.n_rows, MAX_ROWS, 24);
    v.left = measure_left(map);
    v.top = MARGIN + (map->title != NULL ? TITLE_SIZE * 1.5 : 0) + LABEL_SIZE * 1.6;
    v.width = fmax(320, v.left + v.n_columns * v.cell_width + 16 + BAR_ROOM + MARGIN);
    v.height = fmax(v.top + 60, v.top + v.n_rows * v.cell_height) + LABEL_SIZE * 2.8 + MARGIN;
    return v;
}

/* Places the maps in lines, several below each other in columns, and sets the figure's size. */
static void place_maps(heatmap_figure *f) {
    for (int64_t i = 0; f->n > 2 && i < f->n; i++) {
        f->width = fmax(f->width, f->views[i].width);
    }
    for (int64_t i = 0; f->n > 2 && i < f->n; i++) {
        f->views[i].width = f->width;
    }
    double x = 0;
    double y = f->title != NULL ? FIGURE_TITLE_SIZE * 2 : 0;
    double line_height = 0;
    for (int64_t i = 0; i < f->n; i++) {
        heatmap_view *v = &f->views[i];
        if (x > 0 && x + v->width > LINE_WIDTH) {
            x = 0;
            y += line_height;
            line_height = 0;
        }
        v->x = x;
        v->y = y;
        x += v->width;
        line_height = fmax(line_height, v->height);
        f->width = fmax(f->width, x);
    }
    f->height = y + line_height;
}

mz_status mz_plot_heatmaps_write(mz_context *ctx, const char *title, const mz_plot_heatmap *maps,
                                 int64_t n_maps, const char *path) {
    void *memory = NULL;
    MZ_TRY(mz_plot_check_path(ctx, path));
    if (n_maps < 1) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "nothing to plot: no table");
    }
    for (int64_t i = 0; i < n_maps; i++) {
        MZ_TRY(mz_plot_heatmap_check(ctx, &maps[i]));
    }
    MZ_TRY(mz_calloc(ctx, (size_t)n_maps, sizeof(heatmap_view), "heat maps", &memory));
    heatmap_figure f = {.title = title, .views = memory, .n = n_maps};
    for (int64_t i = 0; i < n_maps; i++) {
        f.views[i] = view_of(&maps[i], n_maps > 2 ? MAX_COLUMNS / 2 : MAX_COLUMNS);
    }
    place_maps(&f);
    const mz_plot_picture picture = {.width = f.width,
                                     .height = f.height,
                                     .title = title != NULL ? title : maps[0].title,
                                     .draw = draw_heatmaps,
                                     .arg = &f};
    const mz_status status = mz_plot_picture_write(ctx, &picture, path);
    mz_free(ctx, memory);
    return status;
}
