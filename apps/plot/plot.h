/* Pictures of forecasts and of expert usage: files (SVG, PNG, PDF through cairo) and drawings for a
 * terminal.
 *
 * Nothing here trusts its input: texts may be any bytes (what is no UTF-8 or steers a terminal
 * becomes U+FFFD, what is too long loses its middle), values may be NaN or infinite (left out) and
 * as large as a double is. Files are written by one thread at a time: cairo's fonts are released
 * after each. A file's texts use the system's sans-serif font; characters it lacks show as boxes.
 */
#ifndef MZ_APPS_PLOT_PLOT_H
#define MZ_APPS_PLOT_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Panels of one picture; a line below them says how many were left out. */
enum { MZ_PLOT_MAX_PANELS = 60 };

/* An interval around the forecast. */
typedef struct mz_plot_band {
    double level;        /* nominal coverage, 0.8 for 80 % */
    const double *lower; /* [horizon] */
    const double *upper; /* [horizon] */
} mz_plot_band;

/* Another forecast to compare with. Baselines of the same name look alike in all panels. */
typedef struct mz_plot_baseline {
    const char *name;
    const double *values; /* [horizon] */
} mz_plot_baseline;

/* A point to notice. */
typedef struct mz_plot_mark {
    int64_t index; /* into the history; n_history and above: into the truth, or else the forecast */
    double score;  /* written beside the highest marks of a single panel; NaN: none */
} mz_plot_mark;

/* One series. The caller owns everything; what a picture does not need is 0 or NULL. */
typedef struct mz_plot_panel {
    const char *title;     /* usually the series' id */
    const char *unit;      /* of the values, or NULL */
    const double *history; /* [n_history], oldest first; NaN: missing */
    int64_t n_history;
    const double *forecast; /* [horizon]; NULL: none */
    int64_t horizon;
    const mz_plot_band *bands; /* [n_bands] in any order */
    int n_bands;
    const double *truth;               /* [horizon] what came later; NULL: not known */
    const mz_plot_baseline *baselines; /* [n_baselines] */
    int n_baselines;
    const mz_plot_mark *marks; /* [n_marks] */
    int64_t n_marks;
    /* [n_history + horizon] microseconds since 1970-01-01 UTC, ascending; NULL: numbered points */
    const int64_t *times;
    double period_s;     /* usual distance of the times; 0: taken from them */
    int64_t first_index; /* number of the first point where there are no times */
    int64_t index_step;  /* distance of the numbers of two points; 0: 1 */
} mz_plot_panel;

/* A picture. Filled by the caller, the rest 0. */
typedef struct mz_plot {
    const char *title; /* above all panels, or NULL */
    const mz_plot_panel *panels;
    int64_t n_panels;
    int64_t n_more; /* series that the caller did not pass, counted among those left out */
    const char *forecast_name, *truth_name; /* in the legend; NULL: "forecast" and "actual" */
} mz_plot;

/* A table of shares as colours, e.g. layers x experts. Filled by the caller, the rest 0. */
typedef struct mz_plot_heatmap {
    const char *title;                /* or NULL */
    const char *row_axis;             /* what a row is ("layer"), or NULL */
    const char *column_axis;          /* what a column is ("expert"), or NULL */
    const char *const *row_labels;    /* [n_rows]; NULL: numbers from 0 */
    const char *const *column_labels; /* [n_columns]; NULL: numbers from 0 */
    const double *values; /* [n_rows, n_columns], 0 to 1, others are clamped; NaN: nothing known */
    int64_t n_rows;
    int64_t n_columns;
    double max; /* value of the strongest colour; 0: the largest value, rounded up */
} mz_plot_heatmap;

/* How to draw on a terminal. */
typedef struct mz_plot_terminal_options {
    int width;   /* columns, at least 20 are used */
    int height;  /* rows of a panel's drawing without title and axis; 0: 12; not for heat maps */
    bool colour; /* with escape sequences */
} mz_plot_terminal_options;

/* Checks that mz_plot_write knows the suffix of `path` (any case), to fail before long work.
 * Errors: UNSUPPORTED, naming the known ones. */
mz_status mz_plot_check_path(mz_context *ctx, const char *path);

/* Writes the picture to `path`, in the format of its suffix: .svg, .png (2 pixels a unit) or .pdf;
 * the file is replaced only when complete. One panel is 900 x 420 units, more are small multiples
 * in 2 columns, 3 from 7 panels on, 5 from 17 on. Longer lines are reduced to what a pixel column
 * shows. Errors: UNSUPPORTED as above; MISSING where no panel has a finite value; IO; NOMEM. */
mz_status mz_plot_write(mz_context *ctx, const mz_plot *plot, const char *path);

/* Draws the panels one below the other in Unicode: history as thin braille dots, the forecast as
 * thick blocks, the widest band as shade. Errors: MISSING as above; NOMEM. Errors of writing show
 * in the stream. */
mz_status mz_plot_terminal(mz_context *ctx, const mz_plot *plot,
                           const mz_plot_terminal_options *options, FILE *stream);

/* The same for heat maps below a title (or NULL), beside each other where they fit; from three on
 * they are drawn half as wide. Where a map has more rows or columns than room, neighbours are
 * averaged. Errors: MISSING without any, and where one has no cell; otherwise those of
 * mz_plot_write. */
mz_status mz_plot_heatmaps_write(mz_context *ctx, const char *title, const mz_plot_heatmap *maps,
                                 int64_t n_maps, const char *path);

/* One on a terminal: a cell is a bar of an eighth to a whole character, `·` where nothing is
 * known. Errors: MISSING as above; NOMEM. Errors of writing show in the stream. */
mz_status mz_plot_heatmap_terminal(mz_context *ctx, const mz_plot_heatmap *map,
                                   const mz_plot_terminal_options *options, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
