#include "apps/plot/plot_paint_internal.h"

#include <cairo.h>
#include <math.h>

void mz_plot_set_colour(cairo_t *cr, int rgb, double alpha) {
    cairo_set_source_rgba(cr, (rgb >> 16 & 0xFF) / 255.0, (rgb >> 8 & 0xFF) / 255.0,
                          (rgb & 0xFF) / 255.0, alpha);
}

void mz_plot_set_font(cairo_t *cr, double size, bool bold) {
    cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, size);
}

double mz_plot_text_width(cairo_t *cr, const char *text) {
    cairo_text_extents_t extents;
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

static double cairo_width(void *arg, const char *text) {
    return mz_plot_text_width(arg, text);
}

mz_plot_measure mz_plot_measure_cairo(cairo_t *cr) {
    return (mz_plot_measure){.width = cairo_width, .arg = cr};
}

void mz_plot_draw_text(cairo_t *cr, double x, double y, double align, const char *text) {
    cairo_move_to(cr, x - align * mz_plot_text_width(cr, text), y);
    cairo_show_text(cr, text);
    cairo_new_path(cr);
}
