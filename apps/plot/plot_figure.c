/* A picture of one or more panels: layout, legend, notes. */
#include "apps/plot/plot_paint_internal.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sizes of a picture. */
typedef struct layout {
    int n_columns, n_rows;
    double panel_width, panel_height;
    double top;    /* above the panels */
    double bottom; /* below them: legend and note */
    mz_plot_style style;
} layout;

static const double MARGIN = 10;
static const double TITLE_SIZE = 16;
static const double LEGEND_SIZE = 11.5;
static const double LEGEND_ROW = 19;

/* What is drawn. */
typedef struct figure {
    const mz_plot *plot;
    mz_plot_contents contents;
    layout layout;
    double width, height;
} figure;

static layout choose_layout(const mz_plot *plot) {
    static const struct {
        int n_least, n_columns;
        double width, height;
    } sizes[] = {{17, 5, 316, 200}, {7, 3, 420, 240}, {2, 2, 540, 280}, {1, 1, 880, 0}};
    const int n = mz_plot_n_shown(plot);
    int s = 0;
    while (n < sizes[s].n_least) {
        s++;
    }
    const bool single = n == 1;
    return (layout){
        .n_columns = sizes[s].n_columns,
        .n_rows = (n + sizes[s].n_columns - 1) / sizes[s].n_columns,
        .panel_width = sizes[s].width,
        .panel_height = sizes[s].height,
        .style = {.title_size = single                   ? 14
                                : sizes[s].n_columns > 3 ? 11
                                                         : 12,
                  .label_size = single                   ? 11
                                : sizes[s].n_columns > 3 ? 9
                                                         : 10,
                  .line = single                   ? 1.6
                          : sizes[s].n_columns > 3 ? 1.1
                                                   : 1.3,
                  .tick_distance = single                   ? 46
                                   : sizes[s].n_columns > 3 ? 27
                                                            : 34,
                  .scores = single},
    };
}

/* --- legend --- */

typedef struct legend_item {
    int kind;  /* of a line; -1: a band, -2: marks */
    int level; /* of a band: how many lie above each other */
    char text[MZ_PLOT_TEXT_BYTES];
} legend_item;

enum { MAX_ITEMS = 4 + MZ_PLOT_MAX_LEVELS + MZ_PLOT_MAX_NAMES, BAND_ITEM = -1, MARK_ITEM = -2 };

static void add_item(legend_item *items, int *n, int kind, int level, const char *text) {
    items[*n].kind = kind;
    items[*n].level = level;
    mz_plot_clean(text, items[*n].text);
    (*n)++;
}

static int list_items(const mz_plot_contents *c, legend_item items[MAX_ITEMS]) {
    int n = 0;
    if (c->history) {
        add_item(items, &n, MZ_PLOT_KIND_HISTORY, 0, "history");
    }
    if (c->forecast) {
        add_item(items, &n, MZ_PLOT_KIND_FORECAST, 0, c->forecast_name);
    }
    for (int i = 0; i < c->n_levels; i++) {
        char text[MZ_PLOT_LABEL_BYTES];
        mz_plot_level_text(c->levels[i], text);
        add_item(items, &n, BAND_ITEM, i + 1, text);
    }
    if (c->truth) {
        add_item(items, &n, MZ_PLOT_KIND_TRUTH, 0, c->truth_name);
    }
    for (int i = 0; i < c->n_baselines; i++) {
        add_item(items, &n, MZ_PLOT_KIND_BASELINE + i, 0, c->baselines[i]);
    }
    if (c->marks) {
        add_item(items, &n, MARK_ITEM, 0, "anomaly");
    }
    return n;
}

static void draw_sample(cairo_t *cr, const legend_item *item, const mz_plot_contents *contents,
                        double x, double y) {
    const double width = 24;
    const double middle = y - LEGEND_SIZE * 0.35;
    if (item->kind == MARK_ITEM) {
        mz_plot_draw_mark(cr, x + width / 2, middle, 1.4);
        return;
    }
    if (item->kind == BAND_ITEM) {
        mz_plot_set_colour(cr, MZ_PLOT_FORECAST, mz_plot_band_alpha(contents->n_levels));
        for (int i = 0; i < item->level; i++) {
            cairo_rectangle(cr, x, middle - 6, width, 12);
            cairo_fill(cr);
        }
        return;
    }
    mz_plot_set_line(cr, item->kind, 1.6);
    cairo_move_to(cr, x, middle);
    cairo_line_to(cr, x + width, middle);
    cairo_stroke(cr);
}

/* Draws the legend's rows from y on, or only counts them when `y` is NAN. Returns their number. */
static int draw_legend(cairo_t *cr, const mz_plot_contents *contents, double width, double y) {
    const double sample = 30;
    const double gap = 20;
    legend_item items[MAX_ITEMS];
    const int n = list_items(contents, items);
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    int n_rows = 1;
    double x = MARGIN + 8;
    mz_plot_set_font(cr, LEGEND_SIZE, false);
    for (int i = 0; i < n; i++) {
        mz_plot_fit(items[i].text, 220, &measure);
        const double taken = sample + mz_plot_text_width(cr, items[i].text);
        if (x + taken > width - MARGIN && x > MARGIN + 8) {
            n_rows++;
            x = MARGIN + 8;
        }
        if (!isnan(y)) {
            const double baseline = y + LEGEND_ROW * n_rows - 6;
            draw_sample(cr, &items[i], contents, x, baseline);
            mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
            mz_plot_draw_text(cr, x + sample, baseline, 0, items[i].text);
        }
        x += taken + gap;
    }
    return n_rows;
}

/* --- the whole --- */

static mz_plot_box box_of(const figure *f, int i) {
    const layout *l = &f->layout;
    return (mz_plot_box){MARGIN + (i % l->n_columns) * l->panel_width,
                         l->top + (i / l->n_columns) * l->panel_height, l->panel_width,
                         l->panel_height};
}

/* The same room for labels in all panels keeps their axes in line. */
static double widest_labels(cairo_t *cr, const figure *f) {
    double widest = 0;
    for (int i = 0; i < mz_plot_n_shown(f->plot); i++) {
        const mz_plot_box box = box_of(f, i);
        const double left = mz_plot_panel_left(cr, &f->plot->panels[i], &box, &f->layout.style);
        widest = fmax(widest, left);
    }
    return fmin(widest, f->layout.panel_width / 3) + 14;
}

static void draw_figure(cairo_t *cr, const void *arg) {
    figure f = *(const figure *)arg;
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    f.layout.style.left = widest_labels(cr, &f);
    if (f.plot->title != NULL) {
        char title[MZ_PLOT_TEXT_BYTES];
        mz_plot_clean(f.plot->title, title);
        mz_plot_set_font(cr, TITLE_SIZE, true);
        mz_plot_fit(title, f.width - 2 * MARGIN - 16, &measure);
        mz_plot_set_colour(cr, MZ_PLOT_TITLE, 1);
        mz_plot_draw_text(cr, MARGIN + 8, MARGIN + TITLE_SIZE, 0, title);
    }
    for (int i = 0; i < mz_plot_n_shown(f.plot); i++) {
        const mz_plot_box box = box_of(&f, i);
        mz_plot_panel_draw(cr, &f.plot->panels[i], &f.contents, &box, &f.layout.style);
    }
    const double y = f.height - f.layout.bottom;
    const int n_rows = draw_legend(cr, &f.contents, f.width, y);
    if (mz_plot_n_hidden(f.plot) > 0) {
        char text[MZ_PLOT_LABEL_BYTES];
        mz_plot_hidden_text(f.plot, text);
        mz_plot_set_font(cr, LEGEND_SIZE, false);
        mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
        mz_plot_draw_text(cr, MARGIN + 8, y + LEGEND_ROW * (n_rows + 1) - 6, 0, text);
    }
}

/* Rows of the legend, measured on a surface that draws nothing. */
static int count_legend_rows(const figure *f) {
    cairo_surface_t *surface = cairo_recording_surface_create(CAIRO_CONTENT_COLOR, NULL);
    cairo_t *cr = cairo_create(surface);
    const int n = draw_legend(cr, &f->contents, f->width, NAN);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return n;
}

mz_status mz_plot_write(mz_context *ctx, const mz_plot *plot, const char *path) {
    const double single_height = 420;
    MZ_TRY(mz_plot_check_path(ctx, path));
    MZ_TRY(mz_plot_check(ctx, plot));
    figure f = {.plot = plot, .layout = choose_layout(plot)};
    layout *l = &f.layout;
    mz_plot_contents_gather(plot, &f.contents);
    f.width = 2 * MARGIN + l->n_columns * l->panel_width;
    const int n_rows = count_legend_rows(&f) + (mz_plot_n_hidden(plot) > 0);
    l->top = MARGIN + (plot->title != NULL ? TITLE_SIZE * 1.8 : 0);
    l->bottom = LEGEND_ROW * n_rows + MARGIN;
    if (l->panel_height == 0) {
        l->panel_height = fmax(200, single_height - l->top - l->bottom);
    }
    f.height = l->top + l->bottom + l->n_rows * l->panel_height;
    const char *first = plot->panels[0].title;
    const mz_plot_picture picture = {.width = f.width,
                                     .height = f.height,
                                     .title = plot->title != NULL ? plot->title : first,
                                     .draw = draw_figure,
                                     .arg = &f};
    return mz_plot_picture_write(ctx, &picture, path);
}
