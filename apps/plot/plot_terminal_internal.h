/* What the drawings for a terminal share. */
#ifndef MZ_APPS_PLOT_PLOT_TERMINAL_INTERNAL_H
#define MZ_APPS_PLOT_PLOT_TERMINAL_INTERNAL_H

#include "apps/plot/plot_internal.h"

typedef struct mz_plot_terminal_writer {
    FILE *stream;
    bool colour;
    int width;           /* columns */
    const char *current; /* colour that is on; NULL: the terminal's own */
} mz_plot_terminal_writer;

/* The width of the options within sensible bounds. */
int mz_plot_terminal_width(const mz_plot_terminal_options *options);

/* Writes a clean text, in `colour` (the numbers of an SGR sequence, or NULL) where colours are on.
 */
void mz_plot_terminal_put(mz_plot_terminal_writer *w, const char *colour, const char *text);

void mz_plot_terminal_spaces(mz_plot_terminal_writer *w, int n);

/* Ends a line. */
void mz_plot_terminal_line(mz_plot_terminal_writer *w);

/* A picture's title and an empty line; nothing for NULL. */
void mz_plot_terminal_title(mz_plot_terminal_writer *w, const char *given);

#endif
