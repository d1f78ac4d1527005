/* What the drawings for files share: colours, text and how they get into a file. */
#ifndef MZ_APPS_PLOT_PLOT_PAINT_INTERNAL_H
#define MZ_APPS_PLOT_PLOT_PAINT_INTERNAL_H

#include "apps/plot/plot_internal.h"

typedef struct _cairo cairo_t; /* as cairo.h has it */

/* A picture that can draw itself onto any surface. */
typedef struct mz_plot_picture {
    double width, height; /* units: pixels of a screen, points of a page */
    const char *title;    /* of the document, or NULL */
    void (*draw)(cairo_t *cr, const void *arg);
    const void *arg;
} mz_plot_picture;

/* Errors: those of mz_plot_write but MISSING. (plot_file.c) */
mz_status mz_plot_picture_write(mz_context *ctx, const mz_plot_picture *picture, const char *path);

/* Colours as 0xRRGGBB: Okabe and Ito's palette, which readers with any colour vision tell apart. */
enum {
    MZ_PLOT_HISTORY = 0x4D4D4D,
    MZ_PLOT_FORECAST = 0x0072B2,
    MZ_PLOT_TRUTH = 0x000000,
    MZ_PLOT_MARK = 0xD55E00,
    MZ_PLOT_GRID = 0xE8E8E8,
    MZ_PLOT_AXIS = 0x8C8C8C,
    MZ_PLOT_LABEL = 0x505050,
    MZ_PLOT_TITLE = 0x1E1E1E
};
void mz_plot_set_colour(cairo_t *cr, int rgb, double alpha);

/* A rectangle in units. */
typedef struct mz_plot_box {
    double x, y, width, height;
} mz_plot_box;

/* Sets the sans font; text is measured with what was set last. */
void mz_plot_set_font(cairo_t *cr, double size, bool bold);
mz_plot_measure mz_plot_measure_cairo(cairo_t *cr);
double mz_plot_text_width(cairo_t *cr, const char *text);

/* Draws a clean text with its baseline at y. `align` 0: begins at x, 0.5: centred, 1: ends there.
 */
void mz_plot_draw_text(cairo_t *cr, double x, double y, double align, const char *text);

/* --- one panel (plot_panel.c) --- */

/* Sizes of everything in a panel. */
typedef struct mz_plot_style {
    double title_size, label_size; /* fonts */
    double left;                   /* room for the labels of the y axis */
    double line;                   /* width of a line */
    double tick_distance;          /* wanted between two ticks of the y axis */
    bool scores;                   /* marks show them */
} mz_plot_style;

/* Room that the widest label of a panel's y axis takes when the panel is drawn in `box`. */
double mz_plot_panel_left(cairo_t *cr, const mz_plot_panel *panel, const mz_plot_box *box,
                          const mz_plot_style *style);

void mz_plot_panel_draw(cairo_t *cr, const mz_plot_panel *panel, const mz_plot_contents *contents,
                        const mz_plot_box *box, const mz_plot_style *style);

/* Sets colour, width and dashes of a kind of line, as panels and legend draw it. */
typedef enum mz_plot_kind {
    MZ_PLOT_KIND_HISTORY,
    MZ_PLOT_KIND_FORECAST,
    MZ_PLOT_KIND_TRUTH,
    MZ_PLOT_KIND_BASELINE /* + look */
} mz_plot_kind;
void mz_plot_set_line(cairo_t *cr, int kind, double width);

/* Opacity of one of `n_levels` bands; they lie above each other, so that inner ones are darker. */
double mz_plot_band_alpha(int n_levels);

/* A ring around a point. */
void mz_plot_draw_mark(cairo_t *cr, double x, double y, double line);

#endif
