#include "apps/plot/plot_gallery.h"

#include <unistd.h>

#include "apps/cli.h"

void mz_plot_gallery_close(mz_plot_gallery *g) {
    for (int i = 0; i < g->n_panels; i++) {
        mz_free(g->ctx, g->memory[i]);
    }
    g->n_panels = 0;
}

mz_status mz_plot_gallery_add(mz_plot_gallery *g, size_t n_bytes, mz_plot_panel **panel,
                              void **memory) {
    *panel = NULL;
    *memory = NULL;
    if (g->n_panels == MZ_PLOT_MAX_PANELS) {
        g->n_more++;
        return MZ_OK;
    }
    MZ_TRY(mz_alloc(g->ctx, n_bytes, "picture", memory));
    *panel = &g->panels[g->n_panels];
    g->memory[g->n_panels++] = *memory;
    return MZ_OK;
}

mz_status mz_plot_gallery_show(const mz_plot_gallery *g, const char *path, FILE *stream) {
    const mz_plot picture = {.panels = g->panels, .n_panels = g->n_panels, .n_more = g->n_more};
    if (path != NULL) {
        MZ_TRY(mz_plot_write(g->ctx, &picture, path));
    }
    if (stream == NULL) {
        return MZ_OK;
    }
    const mz_plot_terminal_options options = {.width = mz_cli_terminal_width(stream),
                                              .colour = isatty(fileno(stream)) == 1};
    return mz_plot_terminal(g->ctx, &picture, &options, stream);
}
