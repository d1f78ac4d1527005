/* Panels as text. A cell holds 2 x 4 dots of history (braille), or 2 x 2 blocks of forecast, or one
 * sign of something else; the strongest of them is written. */
#include "apps/plot/plot_terminal_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MIN_WIDTH = 20,
    MAX_WIDTH = 1000,
    MIN_HEIGHT = 4,
    MAX_HEIGHT = 200,
    DEFAULT_HEIGHT = 12,
    DOTS_X = 2,
    DOTS_Y = 4,
    BLOCKS_Y = 2
};

/* What a cell shows besides lines, the strongest last. */
typedef enum sign { SIGN_NONE, SIGN_ORIGIN, SIGN_BAND, SIGN_BASELINE } sign;

typedef struct cell {
    uint8_t dots;   /* braille pattern of the history */
    uint8_t blocks; /* quarters of the forecast: 1 top left, 2 top right, 4 and 8 below */
    uint8_t sign;   /* a sign; SIGN_BASELINE + look */
    bool truth, mark;
} cell;

/* A panel while it is drawn. */
typedef struct canvas {
    const mz_plot_panel *panel;
    mz_plot_range x, y;
    int n_columns, n_rows;
    cell *cells; /* [n_rows, n_columns] */
} canvas;

static const char *const baseline_signs[MZ_PLOT_MAX_NAMES] = {"+", "o", "*", "=",
                                                              "~", "^", "#", "%"};
static const char *const baseline_colours[MZ_PLOT_MAX_NAMES] = {
    "38;5;214", "38;5;36", "38;5;175", "38;5;80", "38;5;214", "38;5;36", "38;5;175", "38;5;80"};
static const char AXIS_COLOUR[] = "38;5;245";
static const char FORECAST_COLOUR[] = "38;5;33";
static const char BAND_COLOUR[] = "38;5;75";
static const char MARK_COLOUR[] = "38;5;202";

/* --- drawing into cells --- */

/* Place of a value on a grid of n steps over the range, not beyond its ends. */
static int place(double part, int n) {
    const double at = floor(part * n);
    return at < 0 ? 0 : at >= n ? n - 1 : (int)at;
}

static double x_part(const canvas *c, int64_t i) {
    return (mz_plot_x(c->panel, i) - c->x.lo) / (c->x.hi - c->x.lo);
}

/* 0 at the top, 1 at the bottom; outside where a line was cut. */
static double y_part(const canvas *c, double value) {
    const double clamped = fmax(-MZ_PLOT_HUGE, fmin(MZ_PLOT_HUGE, value));
    return (c->y.hi - clamped) / (c->y.hi - c->y.lo);
}

static cell *cell_at(const canvas *c, int column, int row) {
    return &c->cells[(size_t)row * (size_t)c->n_columns + (size_t)column];
}

static void set_dot(const canvas *c, int x, int y) {
    static const uint8_t bits[DOTS_Y][DOTS_X] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cell_at(c, x / DOTS_X, y / DOTS_Y)->dots |= bits[y % DOTS_Y][x % DOTS_X];
}

static void set_block(const canvas *c, int x, int y) {
    const int bit = (y % BLOCKS_Y) * 2 + x % DOTS_X;
    cell_at(c, x / DOTS_X, y / BLOCKS_Y)->blocks |= (uint8_t)(1 << bit);
}

/* Draws a line from part to part of the canvas in dots, or in blocks. */
static void draw_line(const canvas *c, double x0, double y0, double x1, double y1, bool blocks) {
    const int n_x = c->n_columns * DOTS_X;
    const int n_y = c->n_rows * (blocks ? BLOCKS_Y : DOTS_Y);
    x0 = fmax(-1, fmin(2, x0));
    x1 = fmax(-1, fmin(2, x1));
    y0 = fmax(-1, fmin(2, y0));
    y1 = fmax(-1, fmin(2, y1));
    const double longest = fmax(fabs(x1 - x0) * n_x, fabs(y1 - y0) * n_y);
    const int n_steps = 1 + (int)longest;
    for (int i = 0; i <= n_steps; i++) {
        const double t = (double)i / n_steps;
        const double y = y0 + (y1 - y0) * t;
        if (y < 0 || y > 1) {
            continue;
        }
        const int at_x = place(x0 + (x1 - x0) * t, n_x);
        const int at_y = place(y, n_y);
        if (blocks) {
            set_block(c, at_x, at_y);
        } else {
            set_dot(c, at_x, at_y);
        }
    }
}

/* The line through values that stand at points first, first + 1, ...; `joined`: it starts at the
 * history's last value. */
static void draw_curve(const canvas *c, const mz_plot_curve *curve, bool joined) {
    double last_x = 0;
    double last_y = 0;
    double value = 0;
    bool down = false;
    if (joined && mz_plot_last_value(c->panel, &value)) {
        down = true;
        last_x = x_part(c, curve->first - 1);
        last_y = y_part(c, value);
    }
    for (int64_t i = 0; i < curve->n; i++) {
        if (!isfinite(curve->values[i])) {
            down = false;
            continue;
        }
        const double x = x_part(c, curve->first + i);
        const double y = y_part(c, curve->values[i]);
        draw_line(c, down ? last_x : x, down ? last_y : y, x, y, joined);
        last_x = x;
        last_y = y;
        down = true;
    }
}

static void shade_column(const canvas *c, int column, double top, double bottom) {
    if (!(bottom >= 0 && top <= 1)) {
        return;
    }
    const int last = place(bottom, c->n_rows);
    for (int row = place(top, c->n_rows); row <= last; row++) {
        cell *at = cell_at(c, column, row);
        at->sign = at->sign < SIGN_BAND ? SIGN_BAND : at->sign;
    }
}

/* Shades the widest band, interpolated between its steps. */
static void shade_band(const canvas *c) {
    const mz_plot_band *bands[MZ_PLOT_MAX_LEVELS];
    if (mz_plot_bands_sorted(c->panel, bands) == 0) {
        return;
    }
    const double *lower = bands[0]->lower;
    const double *upper = bands[0]->upper;
    for (int64_t i = 0; i < c->panel->horizon; i++) {
        if (!isfinite(lower[i]) || !isfinite(upper[i])) {
            continue;
        }
        const bool next =
            i + 1 < c->panel->horizon && isfinite(lower[i + 1]) && isfinite(upper[i + 1]);
        const int64_t j = next ? i + 1 : i;
        const double x0 = x_part(c, c->panel->n_history + i);
        const double x1 = x_part(c, c->panel->n_history + j);
        const int first = place(x0, c->n_columns);
        const int last = place(x1, c->n_columns);
        for (int column = first; column <= last; column++) {
            const double middle = (column + 0.5) / c->n_columns;
            const double t = x1 > x0 ? fmax(0, fmin(1, (middle - x0) / (x1 - x0))) : 0;
            const double a = y_part(c, lower[i]) * (1 - t) + y_part(c, lower[j]) * t;
            const double b = y_part(c, upper[i]) * (1 - t) + y_part(c, upper[j]) * t;
            shade_column(c, column, fmin(a, b), fmax(a, b));
        }
    }
}

/* The cell of point `i` with this value; NULL where it is cut off. */
static cell *cell_of(const canvas *c, int64_t i, double value) {
    const double part = y_part(c, value);
    if (!(part >= 0 && part <= 1)) {
        return NULL;
    }
    return cell_at(c, place(x_part(c, i), c->n_columns), place(part, c->n_rows));
}

static void draw_signs(const canvas *c, const mz_plot_contents *contents) {
    const mz_plot_panel *panel = c->panel;
    for (int b = panel->n_baselines; b-- > 0;) {
        const mz_plot_baseline *baseline = &panel->baselines[b];
        const int look = mz_plot_baseline_look(contents, baseline->name);
        for (int64_t i = 0; i < panel->horizon; i++) {
            cell *at = cell_of(c, panel->n_history + i, baseline->values[i]);
            if (at != NULL) {
                at->sign = (uint8_t)(SIGN_BASELINE + look);
            }
        }
    }
    for (int64_t i = 0; panel->truth != NULL && i < panel->horizon; i++) {
        cell *at = cell_of(c, panel->n_history + i, panel->truth[i]);
        if (at != NULL) {
            at->truth = true;
        }
    }
    for (int64_t i = 0; i < panel->n_marks; i++) {
        double value = 0;
        if (mz_plot_mark_value(panel, &panel->marks[i], &value)) {
            cell *at = cell_of(c, panel->marks[i].index, value);
            if (at != NULL) {
                at->mark = true;
            }
        }
    }
}

static void fill_canvas(const canvas *c, const mz_plot_contents *contents) {
    const mz_plot_panel *panel = c->panel;
    double origin = 0;
    if (mz_plot_origin(panel, &origin)) {
        const int column = place((origin - c->x.lo) / (c->x.hi - c->x.lo), c->n_columns);
        for (int row = 0; row < c->n_rows; row++) {
            cell_at(c, column, row)->sign = SIGN_ORIGIN;
        }
    }
    shade_band(c);
    if (panel->history != NULL) {
        const mz_plot_curve history = {panel->history, panel->n_history, 0};
        draw_curve(c, &history, false);
    }
    if (panel->forecast != NULL) {
        const mz_plot_curve forecast = {panel->forecast, panel->horizon, panel->n_history};
        draw_curve(c, &forecast, true);
    }
    draw_signs(c, contents);
}

/* --- writing --- */

void mz_plot_terminal_put(mz_plot_terminal_writer *w, const char *colour, const char *text) {
    if (w->colour && colour != w->current) {
        (void)fprintf(w->stream, "\033[%sm", colour == NULL ? "0" : colour);
        w->current = colour;
    }
    (void)fputs(text, w->stream);
}

void mz_plot_terminal_spaces(mz_plot_terminal_writer *w, int n) {
    for (int i = 0; i < n; i++) {
        mz_plot_terminal_put(w, NULL, " ");
    }
}

void mz_plot_terminal_line(mz_plot_terminal_writer *w) {
    mz_plot_terminal_put(w, NULL, "\n");
}

int mz_plot_terminal_width(const mz_plot_terminal_options *options) {
    return options->width < MIN_WIDTH   ? MIN_WIDTH
           : options->width > MAX_WIDTH ? MAX_WIDTH
                                        : options->width;
}

static void put_cell(mz_plot_terminal_writer *w, const cell *at) {
    static const char *const quarters[16] = {" ", "▘", "▝", "▀", "▖", "▌", "▞", "▛",
                                             "▗", "▚", "▐", "▜", "▄", "▙", "▟", "█"};
    char text[5] = " ";
    if (at->mark) {
        mz_plot_terminal_put(w, MARK_COLOUR, "◆");
    } else if (at->blocks != 0) {
        mz_plot_terminal_put(w, FORECAST_COLOUR, quarters[at->blocks & 0xF]);
    } else if (at->truth) {
        mz_plot_terminal_put(w, NULL, "×");
    } else if (at->dots != 0) {
        text[mz_plot_put_utf8(0x2800u + at->dots, text)] = '\0';
        mz_plot_terminal_put(w, NULL, text);
    } else if (at->sign >= SIGN_BASELINE) {
        const int look = at->sign - SIGN_BASELINE;
        mz_plot_terminal_put(w, baseline_colours[look], baseline_signs[look]);
    } else if (at->sign == SIGN_BAND) {
        mz_plot_terminal_put(w, BAND_COLOUR, "░");
    } else if (at->sign == SIGN_ORIGIN) {
        mz_plot_terminal_put(w, AXIS_COLOUR, "┊");
    } else {
        mz_plot_terminal_put(w, NULL, " ");
    }
}

static bool is_blank(const cell *at) {
    return at->dots == 0 && at->blocks == 0 && at->sign == SIGN_NONE && !at->truth && !at->mark;
}

/* Rows of cells behind the labels of the y axis, which take `left` columns. */
static void write_rows(mz_plot_terminal_writer *w, const canvas *c, const mz_plot_ticks *y_ticks,
                       int left) {
    for (int row = 0; row < c->n_rows; row++) {
        const char *label = "";
        for (int i = 0; i < y_ticks->n && left > 0; i++) {
            if (place(y_part(c, y_ticks->items[i].at), c->n_rows) == row) {
                label = y_ticks->items[i].label;
            }
        }
        mz_plot_terminal_spaces(w, left - mz_plot_columns(label));
        mz_plot_terminal_put(w, NULL, label);
        mz_plot_terminal_put(w, AXIS_COLOUR, label[0] != '\0' ? "┤" : "│");
        int n = c->n_columns;
        while (n > 0 && is_blank(cell_at(c, n - 1, row))) {
            n--;
        }
        for (int column = 0; column < n; column++) {
            put_cell(w, cell_at(c, column, row));
        }
        mz_plot_terminal_line(w);
    }
}

/* One line of labels or of their contexts, each centred below its tick. */
static void write_tick_texts(mz_plot_terminal_writer *w, const canvas *c,
                             const mz_plot_ticks *ticks, int left, bool contexts) {
    const int width = left + 1 + c->n_columns;
    int at = 0;
    for (int i = 0; i < ticks->n; i++) {
        const mz_plot_tick *tick = &ticks->items[i];
        const char *text = contexts ? tick->context : tick->label;
        const int n = mz_plot_columns(text);
        const double part = (tick->at - c->x.lo) / (c->x.hi - c->x.lo);
        int start = left + 1 + place(part, c->n_columns) - n / 2;
        start = start + n > width ? width - n : start;
        start = start < 0 ? 0 : start;
        if (n == 0 || (at > 0 && start <= at)) {
            continue;
        }
        mz_plot_terminal_spaces(w, start - at);
        mz_plot_terminal_put(w, NULL, text);
        at = start + n;
    }
    mz_plot_terminal_line(w);
}

static void write_x_axis(mz_plot_terminal_writer *w, const canvas *c, int left) {
    mz_plot_ticks ticks;
    const mz_plot_axis axis = {
        .range = c->x, .length = c->n_columns, .gap = 3, .measure = mz_plot_measure_columns()};
    mz_plot_x_ticks(c->panel, &axis, &ticks);
    mz_plot_terminal_spaces(w, left);
    mz_plot_terminal_put(w, AXIS_COLOUR, "└");
    for (int column = 0; column < c->n_columns; column++) {
        bool tick = false;
        for (int i = 0; i < ticks.n; i++) {
            const double part = (ticks.items[i].at - c->x.lo) / (c->x.hi - c->x.lo);
            tick = tick || place(part, c->n_columns) == column;
        }
        mz_plot_terminal_put(w, AXIS_COLOUR, tick ? "┬" : "─");
    }
    mz_plot_terminal_line(w);
    write_tick_texts(w, c, &ticks, left, false);
    for (int i = 0; i < ticks.n; i++) {
        if (ticks.items[i].context[0] != '\0') {
            write_tick_texts(w, c, &ticks, left, true);
            break;
        }
    }
}

static void write_title(mz_plot_terminal_writer *w, const mz_plot_panel *panel, int width) {
    char title[MZ_PLOT_TEXT_BYTES], unit[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_columns();
    mz_plot_panel_texts(panel, title, unit);
    mz_plot_fit(unit, width / 3, &measure);
    const int taken = unit[0] != '\0' ? mz_plot_columns(unit) + 3 : 0;
    const int note = mz_plot_panel_is_empty(panel) ? 9 : 0;
    mz_plot_fit(title, width - taken - note, &measure);
    mz_plot_terminal_put(w, "1", title);
    if (taken > 0) {
        mz_plot_terminal_put(w, NULL, title[0] != '\0' ? " (" : "(");
        mz_plot_terminal_put(w, NULL, unit);
        mz_plot_terminal_put(w, NULL, ")");
    }
    if (mz_plot_panel_is_empty(panel)) {
        mz_plot_terminal_put(w, NULL, ": no data");
    }
    mz_plot_terminal_line(w);
}

/* --- legend --- */

/* Writes "SIGN TEXT" and breaks the line where it would not fit. */
static void put_item(mz_plot_terminal_writer *w, int *at, const char *colour, const char *symbol,
                     const char *given) {
    char text[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_columns();
    mz_plot_clean(given, text);
    mz_plot_fit(text, w->width - 4, &measure);
    const int n = mz_plot_columns(symbol) + 1 + mz_plot_columns(text);
    if (*at > 0 && *at + 3 + n > w->width) {
        mz_plot_terminal_line(w);
        *at = 0;
    }
    mz_plot_terminal_spaces(w, *at > 0 ? 3 : 0);
    *at += n + (*at > 0 ? 3 : 0);
    mz_plot_terminal_put(w, colour, symbol);
    mz_plot_terminal_put(w, NULL, " ");
    mz_plot_terminal_put(w, NULL, text);
}

static void write_legend(mz_plot_terminal_writer *w, const mz_plot_contents *contents) {
    int at = 0;
    if (contents->history) {
        put_item(w, &at, NULL, "⠒⠒", "history");
    }
    if (contents->forecast) {
        put_item(w, &at, FORECAST_COLOUR, "▀▀", contents->forecast_name);
    }
    if (contents->n_levels > 0) {
        char text[MZ_PLOT_LABEL_BYTES];
        mz_plot_level_text(contents->levels[0], text);
        put_item(w, &at, BAND_COLOUR, "░░", text);
    }
    if (contents->truth) {
        put_item(w, &at, NULL, "×", contents->truth_name);
    }
    for (int i = 0; i < contents->n_baselines; i++) {
        put_item(w, &at, baseline_colours[i], baseline_signs[i], contents->baselines[i]);
    }
    if (contents->marks) {
        put_item(w, &at, MARK_COLOUR, "◆", "anomaly");
    }
    mz_plot_terminal_line(w);
}

/* --- the whole --- */

/* Columns for the labels of the y axis; none where the drawing would become too narrow. */
static int left_of(const mz_plot_ticks *ticks, int width) {
    int left = 0;
    for (int i = 0; i < ticks->n; i++) {
        const int n = mz_plot_columns(ticks->items[i].label);
        left = n > left ? n : left;
    }
    return left + 1 > width / 2 ? 0 : left;
}

static void write_panel(mz_plot_terminal_writer *w, const mz_plot_panel *panel,
                        const mz_plot_contents *contents, canvas *c) {
    mz_plot_ticks y_ticks;
    c->panel = panel;
    mz_plot_ranges(panel, &c->x, &c->y);
    mz_plot_value_ticks(c->y, c->n_rows / 3, &y_ticks);
    const int left = left_of(&y_ticks, w->width);
    c->n_columns = w->width - left - 1;
    memset(c->cells, 0, (size_t)c->n_rows * (size_t)c->n_columns * sizeof *c->cells);
    fill_canvas(c, contents);
    write_title(w, panel, w->width);
    write_rows(w, c, &y_ticks, left);
    write_x_axis(w, c, left);
}

mz_status mz_plot_terminal(mz_context *ctx, const mz_plot *plot,
                           const mz_plot_terminal_options *options, FILE *stream) {
    MZ_TRY(mz_plot_check(ctx, plot));
    mz_plot_terminal_writer w = {
        .stream = stream, .colour = options->colour, .width = mz_plot_terminal_width(options)};
    const int height = options->height == 0 ? DEFAULT_HEIGHT : options->height;
    canvas c = {.n_rows = height < MIN_HEIGHT   ? MIN_HEIGHT
                          : height > MAX_HEIGHT ? MAX_HEIGHT
                                                : height};
    mz_plot_contents contents;
    mz_plot_contents_gather(plot, &contents);
    void *cells = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)c.n_rows * (size_t)w.width, sizeof(cell), "drawing", &cells));
    c.cells = cells;
    mz_plot_terminal_title(&w, plot->title);
    for (int i = 0; i < mz_plot_n_shown(plot); i++) {
        write_panel(&w, &plot->panels[i], &contents, &c);
        mz_plot_terminal_line(&w);
    }
    write_legend(&w, &contents);
    if (mz_plot_n_hidden(plot) > 0) {
        char text[MZ_PLOT_LABEL_BYTES];
        mz_plot_hidden_text(plot, text);
        (void)fprintf(stream, "%s\n", text);
    }
    mz_free(ctx, cells);
    return MZ_OK;
}

void mz_plot_terminal_title(mz_plot_terminal_writer *w, const char *given) {
    if (given == NULL) {
        return;
    }
    char title[MZ_PLOT_TEXT_BYTES];
    const mz_plot_measure measure = mz_plot_measure_columns();
    mz_plot_clean(given, title);
    mz_plot_fit(title, w->width, &measure);
    mz_plot_terminal_put(w, "1", title);
    mz_plot_terminal_line(w);
    mz_plot_terminal_line(w);
}
