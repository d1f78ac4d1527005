/* Panels gathered one by one for a picture, each with the memory that it shows. */
#ifndef MZ_APPS_PLOT_PLOT_GALLERY_H
#define MZ_APPS_PLOT_PLOT_GALLERY_H

#include "apps/plot/plot.h"

/* All zero but ctx beforehand; one thread; closed with mz_plot_gallery_close. */
typedef struct mz_plot_gallery {
    mz_context *ctx;
    mz_plot_panel panels[MZ_PLOT_MAX_PANELS];
    void *memory[MZ_PLOT_MAX_PANELS]; /* of each panel, owned */
    int n_panels;
    int64_t n_more; /* series beyond, which a picture only counts */
} mz_plot_gallery;

void mz_plot_gallery_close(mz_plot_gallery *gallery);

/* Room of n_bytes for the next panel, whose members the caller fills: *panel and *memory. Where
 * there are panels enough the series is counted, and both are NULL. Errors: NOMEM. */
mz_status mz_plot_gallery_add(mz_plot_gallery *gallery, size_t n_bytes, mz_plot_panel **panel,
                              void **memory);

/* Writes `path` (NULL: no file), and draws on `stream` (NULL: not), as wide as that terminal is.
 * Errors: those of mz_plot_write. */
mz_status mz_plot_gallery_show(const mz_plot_gallery *gallery, const char *path, FILE *stream);

#endif
