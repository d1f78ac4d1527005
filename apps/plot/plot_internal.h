/* What the plot_*.c files share: text, ticks, ranges. No drawing happens here. */
#ifndef MZ_APPS_PLOT_PLOT_INTERNAL_H
#define MZ_APPS_PLOT_PLOT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apps/plot/plot.h"

/* --- text (plot_text.c) --- */

enum { MZ_PLOT_TEXT_BYTES = 512, MZ_PLOT_LABEL_BYTES = 48 };

/* Width of a text in the unit of the axis or box it must fit: points of a figure, columns of a
 * terminal. */
typedef struct mz_plot_measure {
    double (*width)(void *arg, const char *text);
    void *arg;
} mz_plot_measure;

/* Valid UTF-8 without control or direction characters (they become U+FFFD, tab and line feed a
 * space). Of a text longer than the buffer head and tail are kept. NULL gives "". */
void mz_plot_clean(const char *text, char out[MZ_PLOT_TEXT_BYTES]);

/* Cuts the middle out of a clean text until it is at most `max_width` wide. */
void mz_plot_fit(char text[MZ_PLOT_TEXT_BYTES], double max_width, const mz_plot_measure *measure);

/* Columns of a terminal that a clean text takes; wide characters count 2, combining ones 0. */
int mz_plot_columns(const char *text);

/* mz_plot_columns as a measure. */
mz_plot_measure mz_plot_measure_columns(void);

/* Writes the code point as UTF-8 (1 to 4 bytes, no NUL) and returns the number of bytes. */
size_t mz_plot_put_utf8(uint32_t code, char out[4]);

/* Reads one code point of a valid text and moves on; 0 at the end. */
uint32_t mz_plot_next_utf8(const char **text);

/* --- ticks (plot_ticks.c, plot_time_ticks.c) --- */

enum { MZ_PLOT_MAX_TICKS = 32 };

typedef struct mz_plot_range {
    double lo, hi; /* finite, lo < hi */
} mz_plot_range;

typedef struct mz_plot_tick {
    double at;                         /* place on the axis */
    char label[MZ_PLOT_LABEL_BYTES];   /* "03:00" */
    char context[MZ_PLOT_LABEL_BYTES]; /* "1 Apr 2023" below it where that changes, or "" */
} mz_plot_tick;

typedef struct mz_plot_ticks {
    int n;
    mz_plot_tick items[MZ_PLOT_MAX_TICKS];
} mz_plot_ticks;

/* How long an axis is drawn, in the unit of the measure, and the room between two labels. */
typedef struct mz_plot_axis {
    mz_plot_range range;
    double length;
    double gap;
    mz_plot_measure measure;
} mz_plot_axis;

/* Ticks at multiples of 1, 2 or 5 times a power of ten inside the range, about `n_wanted` and at
 * least 2 where numbers are fine enough. Labels share one form: 1,500 / 15k / 1.5M / 0.25 /
 * 1e-9. */
void mz_plot_value_ticks(mz_plot_range range, int n_wanted, mz_plot_ticks *out);

/* Whole numbers, as many as fit without touching. */
void mz_plot_index_ticks(const mz_plot_axis *axis, mz_plot_ticks *out);

/* Dates of a panel with times, at round steps of the calendar not finer than its period, as many as
 * fit without touching. From months on a tick stands at the first point of its month, quarter or
 * year, so that series dated at the end of their periods read right. */
void mz_plot_time_ticks(const mz_plot_panel *panel, const mz_plot_axis *axis, mz_plot_ticks *out);

/* The ticks of a panel's x axis: times or numbers. */
void mz_plot_x_ticks(const mz_plot_panel *panel, const mz_plot_axis *axis, mz_plot_ticks *out);

/* --- data (plot_data.c) --- */

/* Values beyond are drawn here, so that differences stay finite. */
#define MZ_PLOT_HUGE 5e307

/* A line of a panel: its values stand at points first, first + 1, ... */
typedef struct mz_plot_curve {
    const double *values;
    int64_t n;
    int64_t first;
} mz_plot_curve;

/* Where point `i` stands: microseconds, or its number. */
double mz_plot_x(const mz_plot_panel *panel, int64_t i);

/* Usual distance of two points with times, in microseconds, above 0: as given, or the least there
 * is, or for a single point a day at midnight and an hour otherwise. */
#define MZ_PLOT_SECOND_US 1e6
#define MZ_PLOT_DAY_US (86400 * MZ_PLOT_SECOND_US)
double mz_plot_period_us(const mz_plot_panel *panel);

/* Where the history ends and the forecast begins; false where one of the two is missing. */
bool mz_plot_origin(const mz_plot_panel *panel, double *x);

/* A history's last value if it is there, from which a forecast's lines start. */
bool mz_plot_last_value(const mz_plot_panel *panel, double *value);

/* The value at a mark; false where there is none. */
bool mz_plot_mark_value(const mz_plot_panel *panel, const mz_plot_mark *mark, double *value);

/* Panels that are drawn, and how many are not. */
int mz_plot_n_shown(const mz_plot *plot);
int64_t mz_plot_n_hidden(const mz_plot *plot);
void mz_plot_hidden_text(const mz_plot *plot, char out[MZ_PLOT_LABEL_BYTES]);

/* A panel's title and unit, clean; the unit is empty where the title has it in brackets. */
void mz_plot_panel_texts(const mz_plot_panel *panel, char title[MZ_PLOT_TEXT_BYTES],
                         char unit[MZ_PLOT_TEXT_BYTES]);

/* Whether anything of the panel can be seen. */
bool mz_plot_panel_is_empty(const mz_plot_panel *panel);

/* Errors: MISSING where no shown panel has a finite value; ARG for negative counts. */
mz_status mz_plot_check(mz_context *ctx, const mz_plot *plot);

/* Ranges of the axes with some room around the data; 0 to 1 for an empty panel. Bands and baselines
 * that leave a long history's range by more than 1.5 times its height are cut. */
void mz_plot_ranges(const mz_plot_panel *panel, mz_plot_range *x, mz_plot_range *y);

/* "80 % interval": a band's level for people. */
void mz_plot_level_text(double level, char out[MZ_PLOT_LABEL_BYTES]);

/* What the drawn panels contain, for the legend they share. */
enum { MZ_PLOT_MAX_NAMES = 8, MZ_PLOT_MAX_LEVELS = 8 };
typedef struct mz_plot_contents {
    bool history, forecast, truth, marks;
    const char *forecast_name, *truth_name;
    int n_baselines;
    const char *baselines[MZ_PLOT_MAX_NAMES]; /* different names in order of appearance */
    int n_levels;
    double levels[MZ_PLOT_MAX_LEVELS]; /* different levels, widest first */
} mz_plot_contents;
void mz_plot_contents_gather(const mz_plot *plot, mz_plot_contents *out);

/* Place of a baseline's name in the contents, which decides its looks; MZ_PLOT_MAX_NAMES - 1 for
 * those beyond the limit. */
int mz_plot_baseline_look(const mz_plot_contents *contents, const char *name);

/* A panel's bands from the widest to the narrowest; at most MZ_PLOT_MAX_LEVELS. Returns how many.
 */
int mz_plot_bands_sorted(const mz_plot_panel *panel, const mz_plot_band *out[MZ_PLOT_MAX_LEVELS]);

/* --- heat maps (plot_heatmap_data.c) --- */

/* Errors: MISSING where there is no cell. */
mz_status mz_plot_heatmap_check(mz_context *ctx, const mz_plot_heatmap *map);

/* Mean of the known values of cell (row, column) where the map is reduced to n_rows x n_columns
 * cells; NaN where nothing is known. */
double mz_plot_heatmap_cell(const mz_plot_heatmap *map, int n_rows, int n_columns, int row,
                            int column);

/* The value of the strongest colour. */
double mz_plot_heatmap_max(const mz_plot_heatmap *map);

/* Into how many cells `n` > 0 rows or columns are gathered, equally many each but the last, so that
 * at most `room` are drawn. */
int mz_plot_heatmap_parts(int64_t n, int room);

/* The first of the rows or columns in part `i`; `n` for the one after the last. */
int64_t mz_plot_heatmap_begin(int64_t n, int n_parts, int64_t i);

/* Every how many cells a label is written so that labels of `label_size` do not touch. */
int64_t mz_plot_heatmap_label_step(int64_t n_cells, double cell_size, double label_size);

/* Label of a row (labels, i) or column, clean. */
void mz_plot_heatmap_label(const char *const *labels, int64_t i, char out[MZ_PLOT_TEXT_BYTES]);

#endif
