/* One series with its forecast, drawn with cairo. */
#include "apps/plot/plot_paint_internal.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>

static const double TURN = 6.283185307179586;

/* A panel while it is drawn. */
typedef struct view {
    cairo_t *cr;
    const mz_plot_panel *panel;
    const mz_plot_contents *contents;
    const mz_plot_style *style;
    mz_plot_box box;  /* all of it */
    mz_plot_box area; /* inside the axes */
    mz_plot_range x, y;
} view;

/* Cairo's coordinates end at 2^23; what lies far outside is cut off anyway. */
static double bounded(double part) {
    return fmax(-20, fmin(20, part));
}

static double x_of(const view *v, double x) {
    return v->area.x + bounded((x - v->x.lo) / (v->x.hi - v->x.lo)) * v->area.width;
}

static double y_of(const view *v, double y) {
    return v->area.y + bounded((v->y.hi - y) / (v->y.hi - v->y.lo)) * v->area.height;
}

/* The same for a value of the data, which may be too large for differences. */
static double value_y(const view *v, double value) {
    return y_of(v, fmax(-MZ_PLOT_HUGE, fmin(MZ_PLOT_HUGE, value)));
}

void mz_plot_set_line(cairo_t *cr, int kind, double width) {
    static const int colours[] = {MZ_PLOT_HISTORY, MZ_PLOT_FORECAST, MZ_PLOT_TRUTH, 0xE69F00,
                                  0x009E73,        0xCC79A7,         0x56B4E9,      0xE69F00,
                                  0x009E73,        0xCC79A7,         0x56B4E9};
    enum { N_COLOURS = sizeof colours / sizeof *colours, N_BASELINE_COLOURS = 4 };
    static const double truth_dash[] = {4, 2.5};
    static const double baseline_dashes[2][4] = {{7, 2, 1.5, 2}, {1.5, 2, 1.5, 2}};
    mz_plot_set_colour(cr, colours[kind < N_COLOURS ? kind : N_COLOURS - 1], 1);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_BUTT);
    cairo_set_dash(cr, NULL, 0, 0);
    cairo_set_line_width(cr, width);
    if (kind == MZ_PLOT_KIND_FORECAST) {
        cairo_set_line_width(cr, width * 1.35);
    } else if (kind == MZ_PLOT_KIND_TRUTH) {
        cairo_set_line_width(cr, width * 0.75);
        cairo_set_dash(cr, truth_dash, 2, 0);
    } else if (kind >= MZ_PLOT_KIND_BASELINE) {
        const int second = kind - MZ_PLOT_KIND_BASELINE >= N_BASELINE_COLOURS;
        cairo_set_dash(cr, baseline_dashes[second], 4, 0);
    }
}

double mz_plot_band_alpha(int n_levels) {
    return n_levels <= 1 ? 0.22 : n_levels == 2 ? 0.18 : 0.45 / n_levels;
}

void mz_plot_draw_mark(cairo_t *cr, double x, double y, double line) {
    cairo_new_path(cr);
    cairo_arc(cr, x, y, 3.2 * line, 0, TURN);
    mz_plot_set_colour(cr, MZ_PLOT_MARK, 0.25);
    cairo_fill_preserve(cr);
    mz_plot_set_colour(cr, MZ_PLOT_MARK, 1);
    cairo_set_dash(cr, NULL, 0, 0);
    cairo_set_line_width(cr, line);
    cairo_stroke(cr);
}

/* --- lines --- */

/* A path being built: runs of finite points, single ones as dots. */
typedef struct pen {
    cairo_t *cr;
    double dot;    /* radius of a single point */
    double x, y;   /* last point */
    int64_t n_run; /* points since the last gap */
} pen;

static void pen_up(pen *p) {
    if (p->n_run == 1) {
        /* Two strokes that leave no hole. */
        for (int i = 1; i <= 2; i++) {
            cairo_new_sub_path(p->cr);
            cairo_arc(p->cr, p->x, p->y, p->dot * i / 2, 0, TURN);
        }
    }
    p->n_run = 0;
}

static void pen_to(pen *p, double x, double y) {
    if (p->n_run == 1) {
        cairo_move_to(p->cr, p->x, p->y);
    }
    if (p->n_run >= 1) {
        cairo_line_to(p->cr, x, y);
    }
    p->x = x;
    p->y = y;
    p->n_run++;
}

/* What is left of the points of one pixel column: first, least, greatest and last. */
typedef struct column {
    bool open;
    int64_t id;
    double x[4], y[4]; /* first, least, greatest, last */
    int64_t i_least, i_greatest;
} column;

static void column_flush(column *c, pen *p) {
    if (!c->open) {
        return;
    }
    const int early = c->i_least <= c->i_greatest ? 1 : 2;
    const int order[] = {0, early, 3 - early, 3};
    for (int i = 0; i < 4; i++) {
        const int k = order[i];
        if (i == 0 || c->x[k] != p->x || c->y[k] != p->y) {
            pen_to(p, c->x[k], c->y[k]);
        }
    }
    c->open = false;
}

static void column_add(column *c, pen *p, int64_t i, double x, double y) {
    const int64_t id = (int64_t)floor(x);
    if (c->open && id != c->id) {
        column_flush(c, p);
    }
    if (!c->open) {
        *c = (column){.open = true, .id = id, .i_least = i, .i_greatest = i};
        for (int k = 0; k < 3; k++) {
            c->x[k] = x;
            c->y[k] = y;
        }
    }
    if (y > c->y[1]) { /* downwards on the page */
        c->x[1] = x;
        c->y[1] = y;
        c->i_least = i;
    }
    if (y < c->y[2]) {
        c->x[2] = x;
        c->y[2] = y;
        c->i_greatest = i;
    }
    c->x[3] = x;
    c->y[3] = y;
}

/* More points than this a unit of width are reduced to what can be seen. */
enum { DENSE_POINTS = 4, MAX_POINTS = 4000 };

/* Strokes values that stand at points first, first + 1, ...; a joined line starts at the history's
 * last value. */
static void stroke_curve(const view *v, const mz_plot_curve *curve, int kind, bool joined) {
    cairo_t *cr = v->cr;
    pen p = {.cr = cr, .dot = v->style->line};
    const bool dense = curve->n > MAX_POINTS || (double)curve->n > DENSE_POINTS * v->area.width;
    double last = 0;
    cairo_new_path(cr);
    if (joined && curve->n > 0 && isfinite(curve->values[0]) &&
        mz_plot_last_value(v->panel, &last)) {
        pen_to(&p, x_of(v, mz_plot_x(v->panel, curve->first - 1)), value_y(v, last));
    }
    column c = {0};
    for (int64_t i = 0; i < curve->n; i++) {
        const double x = x_of(v, mz_plot_x(v->panel, curve->first + i));
        if (!isfinite(curve->values[i])) {
            /* In a dense line a gap shows where it empties a column. */
            if (!dense || (c.open && (int64_t)floor(x) != c.id)) {
                column_flush(&c, &p);
                pen_up(&p);
            }
        } else if (dense) {
            column_add(&c, &p, i, x, value_y(v, curve->values[i]));
        } else {
            pen_to(&p, x, value_y(v, curve->values[i]));
        }
    }
    column_flush(&c, &p);
    pen_up(&p);
    /* Where points crowd, a thinner line leaves more of the shape. */
    const double crowd = (double)curve->n / v->area.width;
    mz_plot_set_line(cr, kind, v->style->line * (crowd > 1 ? 0.6 : 1));
    cairo_stroke(cr);
}

/* Fills the finite run [from, to) of a band; a run that begins the horizon starts at the history's
 * last value. */
static void fill_run(const view *v, const mz_plot_band *band, int64_t from, int64_t to) {
    const mz_plot_panel *panel = v->panel;
    const int64_t first = panel->n_history;
    double last = 0;
    const bool joined = from == 0 && mz_plot_last_value(panel, &last);
    cairo_new_path(v->cr);
    if (joined) {
        cairo_line_to(v->cr, x_of(v, mz_plot_x(panel, first - 1)), value_y(v, last));
    } else if (to == from + 1) {
        /* A single step has no width of its own. */
        const double x = x_of(v, mz_plot_x(panel, first + from));
        const double top = value_y(v, band->upper[from]);
        cairo_rectangle(v->cr, x - 2, top, 4, value_y(v, band->lower[from]) - top);
        cairo_fill(v->cr);
        return;
    }
    for (int64_t i = from; i < to; i++) {
        cairo_line_to(v->cr, x_of(v, mz_plot_x(panel, first + i)), value_y(v, band->upper[i]));
    }
    for (int64_t i = to; i-- > from;) {
        cairo_line_to(v->cr, x_of(v, mz_plot_x(panel, first + i)), value_y(v, band->lower[i]));
    }
    cairo_close_path(v->cr);
    cairo_fill(v->cr);
}

static void fill_bands(const view *v) {
    const mz_plot_band *bands[MZ_PLOT_MAX_LEVELS];
    const int n = mz_plot_bands_sorted(v->panel, bands);
    mz_plot_set_colour(v->cr, MZ_PLOT_FORECAST, mz_plot_band_alpha(v->contents->n_levels));
    for (int b = 0; b < n; b++) {
        int64_t from = 0;
        for (int64_t i = 0; i <= v->panel->horizon; i++) {
            if (i < v->panel->horizon && isfinite(bands[b]->lower[i]) &&
                isfinite(bands[b]->upper[i])) {
                continue;
            }
            if (i > from) {
                fill_run(v, bands[b], from, i);
            }
            from = i + 1;
        }
    }
}

/* --- marks --- */

/* The mark with the highest score below (`score`, or equal and later than `after`); -1: none. */
static int64_t next_mark(const mz_plot_panel *panel, double score, int64_t after) {
    int64_t best = -1;
    for (int64_t i = 0; i < panel->n_marks; i++) {
        const double s = panel->marks[i].score;
        const bool open = s < score || (s == score && i > after);
        if (isfinite(s) && open && (best < 0 || s > panel->marks[best].score)) {
            best = i;
        }
    }
    return best;
}

static bool overlap(const mz_plot_box *a, const mz_plot_box *b) {
    return a->x < b->x + b->width && b->x < a->x + a->width && a->y < b->y + b->height &&
           b->y < a->y + a->height;
}

/* Whether a score may stand in `box`: inside the axes, on no other score and on no mark. */
static bool is_free(const view *v, const mz_plot_box *box, const mz_plot_box *taken, int n_taken) {
    const mz_plot_box *area = &v->area;
    if (box->x < area->x || box->x + box->width > area->x + area->width || box->y < area->y ||
        box->y + box->height > area->y + area->height) {
        return false;
    }
    for (int i = 0; i < n_taken; i++) {
        if (overlap(box, &taken[i])) {
            return false;
        }
    }
    const double ring = 4 * v->style->line;
    for (int64_t i = 0; i < v->panel->n_marks; i++) {
        double value = 0;
        if (mz_plot_mark_value(v->panel, &v->panel->marks[i], &value)) {
            const mz_plot_box mark = {x_of(v, mz_plot_x(v->panel, v->panel->marks[i].index)) - ring,
                                      value_y(v, value) - ring, 2 * ring, 2 * ring};
            if (overlap(box, &mark)) {
                return false;
            }
        }
    }
    return true;
}

/* Text on a white rim, legible across lines. */
static void draw_rimmed(cairo_t *cr, double x, double y, const char *text) {
    cairo_move_to(cr, x, y);
    cairo_text_path(cr, text);
    mz_plot_set_colour(cr, 0xFFFFFF, 0.85);
    cairo_set_line_width(cr, 3);
    cairo_stroke(cr);
    mz_plot_set_colour(cr, MZ_PLOT_MARK, 1);
    mz_plot_draw_text(cr, x, y, 0, text);
}

/* Writes the highest scores above or below their marks where there is room. */
static void draw_scores(const view *v) {
    enum { MAX_SCORES = 8, MAX_TRIES = 32 };
    mz_plot_box taken[MAX_SCORES];
    int n = 0;
    const double height = v->style->label_size;
    const double distance = 4.5 * v->style->line;
    mz_plot_set_font(v->cr, v->style->label_size, false);
    int64_t i = next_mark(v->panel, HUGE_VAL, -1);
    for (int tries = 0; i >= 0 && tries < MAX_TRIES && n < MAX_SCORES; tries++) {
        const mz_plot_mark *mark = &v->panel->marks[i];
        char text[MZ_PLOT_LABEL_BYTES];
        double value = 0;
        (void)snprintf(text, sizeof text, "%.3g", mark->score);
        if (mz_plot_mark_value(v->panel, mark, &value)) {
            const double width = mz_plot_text_width(v->cr, text);
            const double y = value_y(v, value);
            mz_plot_box box = {x_of(v, mz_plot_x(v->panel, mark->index)) - width / 2,
                               y - distance - height, width, height};
            if (!is_free(v, &box, taken, n)) {
                box.y = y + distance;
            }
            if (is_free(v, &box, taken, n)) {
                draw_rimmed(v->cr, box.x, box.y + height * 0.85, text);
                taken[n++] = box;
            }
        }
        i = next_mark(v->panel, mark->score, i);
    }
}

static void draw_marks(const view *v) {
    for (int64_t i = 0; i < v->panel->n_marks; i++) {
        const mz_plot_mark *mark = &v->panel->marks[i];
        double value = 0;
        if (mz_plot_mark_value(v->panel, mark, &value)) {
            mz_plot_draw_mark(v->cr, x_of(v, mz_plot_x(v->panel, mark->index)), value_y(v, value),
                              v->style->line);
        }
    }
    if (v->style->scores && v->panel->n_marks > 0) {
        draw_scores(v);
    }
}

/* --- axes --- */

/* A thin line on whole pixels. */
static void draw_rule(cairo_t *cr, double x0, double y0, double x1, double y1) {
    cairo_move_to(cr, floor(x0) + 0.5, floor(y0) + 0.5);
    cairo_line_to(cr, floor(x1) + 0.5, floor(y1) + 0.5);
    cairo_stroke(cr);
}

static int n_wanted_ticks(const mz_plot_box *area, const mz_plot_style *style) {
    const int n = (int)(area->height / style->tick_distance);
    return n < 2 ? 2 : n;
}

static mz_plot_box area_of(const mz_plot_box *box, const mz_plot_style *style) {
    const double top = style->title_size * 2;
    const double bottom = style->label_size * 3.7;
    const double right = 14;
    return (mz_plot_box){box->x + style->left, box->y + top, box->width - style->left - right,
                         box->height - top - bottom};
}

double mz_plot_panel_left(cairo_t *cr, const mz_plot_panel *panel, const mz_plot_box *box,
                          const mz_plot_style *style) {
    mz_plot_range x, y;
    mz_plot_ticks ticks;
    const mz_plot_box area = area_of(box, style);
    mz_plot_ranges(panel, &x, &y);
    mz_plot_value_ticks(y, n_wanted_ticks(&area, style), &ticks);
    mz_plot_set_font(cr, style->label_size, false);
    double widest = 0;
    for (int i = 0; i < ticks.n; i++) {
        widest = fmax(widest, mz_plot_text_width(cr, ticks.items[i].label));
    }
    return widest;
}

static void draw_y_axis(const view *v) {
    mz_plot_ticks ticks;
    cairo_t *cr = v->cr;
    mz_plot_value_ticks(v->y, n_wanted_ticks(&v->area, v->style), &ticks);
    mz_plot_set_font(cr, v->style->label_size, false);
    for (int i = 0; i < ticks.n; i++) {
        const double y = y_of(v, ticks.items[i].at);
        mz_plot_set_colour(cr, MZ_PLOT_GRID, 1);
        draw_rule(cr, v->area.x, y, v->area.x + v->area.width, y);
        mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
        mz_plot_draw_text(cr, v->area.x - 6, y + v->style->label_size * 0.36, 1,
                          ticks.items[i].label);
    }
}

/* Draws a label under the axis, moved inside the panel where it would stick out. */
static void draw_below(const view *v, double x, double y, const char *text) {
    const double width = mz_plot_text_width(v->cr, text);
    const double least = v->box.x + 2;
    const double most = v->box.x + v->box.width - width - 2;
    mz_plot_draw_text(v->cr, fmax(least, fmin(most, x - width / 2)), y, 0, text);
}

static void draw_x_axis(const view *v) {
    mz_plot_ticks ticks;
    cairo_t *cr = v->cr;
    const double size = v->style->label_size;
    const double bottom = v->area.y + v->area.height;
    mz_plot_set_font(cr, size, false);
    const mz_plot_axis axis = {.range = v->x,
                               .length = v->area.width,
                               .gap = size * 2,
                               .measure = mz_plot_measure_cairo(cr)};
    mz_plot_x_ticks(v->panel, &axis, &ticks);
    for (int i = 0; i < ticks.n; i++) {
        const double x = x_of(v, ticks.items[i].at);
        mz_plot_set_colour(cr, MZ_PLOT_GRID, 1);
        draw_rule(cr, x, v->area.y, x, bottom);
        mz_plot_set_colour(cr, MZ_PLOT_AXIS, 1);
        draw_rule(cr, x, bottom, x, bottom + 3);
        mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
        draw_below(v, x, bottom + size * 1.45, ticks.items[i].label);
        if (ticks.items[i].context[0] != '\0') {
            draw_below(v, x, bottom + size * 2.65, ticks.items[i].context);
        }
    }
    mz_plot_set_colour(cr, MZ_PLOT_AXIS, 1);
    draw_rule(cr, v->area.x, bottom, v->area.x + v->area.width, bottom);
}

/* The title in bold and the unit behind it. */
static void draw_title(const view *v) {
    cairo_t *cr = v->cr;
    char title[MZ_PLOT_TEXT_BYTES], unit[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_cairo(cr);
    const double room = v->box.width - 16;
    const double y = v->box.y + v->style->title_size * 1.05;
    mz_plot_panel_texts(v->panel, title, unit);
    mz_plot_set_font(cr, v->style->label_size, false);
    mz_plot_fit(unit, room / 3, &measure);
    const double unit_room = unit[0] != '\0' ? mz_plot_text_width(cr, unit) + 10 : 0;
    mz_plot_set_font(cr, v->style->title_size, true);
    mz_plot_fit(title, room - unit_room, &measure);
    mz_plot_set_colour(cr, MZ_PLOT_TITLE, 1);
    mz_plot_draw_text(cr, v->box.x + 8, y, 0, title);
    const double x = v->box.x + 8 + (title[0] != '\0' ? mz_plot_text_width(cr, title) + 10 : 0);
    mz_plot_set_font(cr, v->style->label_size, false);
    mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
    mz_plot_draw_text(cr, x, y, 0, unit);
}

static void draw_origin(const view *v) {
    double x = 0;
    if (mz_plot_origin(v->panel, &x)) {
        mz_plot_set_colour(v->cr, MZ_PLOT_AXIS, 1);
        cairo_set_line_width(v->cr, 1);
        draw_rule(v->cr, x_of(v, x), v->area.y, x_of(v, x), v->area.y + v->area.height);
    }
}

void mz_plot_panel_draw(cairo_t *cr, const mz_plot_panel *panel, const mz_plot_contents *contents,
                        const mz_plot_box *box, const mz_plot_style *style) {
    view v = {.cr = cr,
              .panel = panel,
              .contents = contents,
              .style = style,
              .box = *box,
              .area = area_of(box, style)};
    mz_plot_ranges(panel, &v.x, &v.y);
    cairo_set_line_width(cr, 1);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_BUTT);
    cairo_set_dash(cr, NULL, 0, 0);
    draw_title(&v);
    draw_y_axis(&v);
    draw_x_axis(&v);
    if (mz_plot_panel_is_empty(panel)) {
        mz_plot_set_colour(cr, MZ_PLOT_LABEL, 1);
        mz_plot_draw_text(cr, v.area.x + v.area.width / 2, v.area.y + v.area.height / 2, 0.5,
                          "no data");
        return;
    }
    const mz_plot_curve history = {panel->history, panel->history != NULL ? panel->n_history : 0,
                                   0};
    const mz_plot_curve forecast = {panel->forecast, panel->forecast != NULL ? panel->horizon : 0,
                                    panel->n_history};
    const mz_plot_curve truth = {panel->truth, panel->truth != NULL ? panel->horizon : 0,
                                 panel->n_history};
    cairo_save(cr);
    cairo_rectangle(cr, v.area.x, v.area.y - 1, v.area.width, v.area.height + 2);
    cairo_clip(cr);
    fill_bands(&v);
    draw_origin(&v);
    stroke_curve(&v, &history, MZ_PLOT_KIND_HISTORY, false);
    for (int i = 0; i < panel->n_baselines; i++) {
        const mz_plot_curve curve = {panel->baselines[i].values, panel->horizon, panel->n_history};
        const int look = mz_plot_baseline_look(contents, panel->baselines[i].name);
        stroke_curve(&v, &curve, MZ_PLOT_KIND_BASELINE + look, true);
    }
    stroke_curve(&v, &forecast, MZ_PLOT_KIND_FORECAST, true);
    stroke_curve(&v, &truth, MZ_PLOT_KIND_TRUTH, true);
    cairo_restore(cr);
    /* Rings around values at the edge are whole. */
    const double ring = 9;
    cairo_save(cr);
    cairo_rectangle(cr, v.area.x - ring, v.area.y - ring, v.area.width + 2 * ring,
                    v.area.height + 2 * ring);
    cairo_clip(cr);
    draw_marks(&v);
    cairo_restore(cr);
}
