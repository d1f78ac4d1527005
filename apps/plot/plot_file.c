/* Pictures into files. */
#include "apps/plot/plot_paint_internal.h"
#include "core/file.h"

#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <fontconfig/fontconfig.h>
#include <math.h>
#include <string.h>
#include <strings.h>

enum { PNG_SCALE = 2 };

static cairo_status_t write_bytes(void *stream, const unsigned char *data, unsigned int n_bytes) {
    return fwrite(data, 1, n_bytes, stream) == n_bytes ? CAIRO_STATUS_SUCCESS
                                                       : CAIRO_STATUS_WRITE_ERROR;
}

static cairo_surface_t *open_svg(const mz_plot_picture *picture, FILE *stream) {
    cairo_surface_t *surface =
        cairo_svg_surface_create_for_stream(write_bytes, stream, picture->width, picture->height);
    cairo_svg_surface_set_document_unit(surface, CAIRO_SVG_UNIT_PX);
    return surface;
}

static cairo_surface_t *open_pdf(const mz_plot_picture *picture, FILE *stream) {
    cairo_surface_t *surface =
        cairo_pdf_surface_create_for_stream(write_bytes, stream, picture->width, picture->height);
    char title[MZ_PLOT_TEXT_BYTES];
    mz_plot_clean(picture->title, title);
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_TITLE, title);
    return surface;
}

static cairo_surface_t *open_png(const mz_plot_picture *picture, FILE *stream) {
    (void)stream; /* written when the drawing is done */
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(picture->width * PNG_SCALE),
                                   (int)ceil(picture->height * PNG_SCALE));
    cairo_surface_set_device_scale(surface, PNG_SCALE, PNG_SCALE);
    return surface;
}

typedef struct file_format {
    const char *suffix;
    cairo_surface_t *(*open)(const mz_plot_picture *picture, FILE *stream);
    bool is_image; /* written from the finished pixels */
} file_format;

static const file_format formats[] = {
    {".svg", open_svg, false}, {".png", open_png, true}, {".pdf", open_pdf, false}};

static const file_format *find_format(const char *path) {
    const size_t n = strlen(path);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const size_t n_suffix = strlen(formats[i].suffix);
        if (n >= n_suffix && strcasecmp(path + n - n_suffix, formats[i].suffix) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

mz_status mz_plot_check_path(mz_context *ctx, const char *path) {
    if (find_format(path) == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: unknown kind of picture; the name must end in .svg, .png or .pdf",
                       path);
    }
    return MZ_OK;
}

/* Draws onto the surface and finishes it. */
static cairo_status_t draw(const file_format *format, const mz_plot_picture *picture,
                           FILE *stream) {
    cairo_surface_t *surface = format->open(picture, stream);
    cairo_t *cr = cairo_create(surface);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_font_options_t *options = cairo_font_options_create();
    /* Widths of text must not depend on pixels: all formats get the same layout. */
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
    cairo_set_font_options(cr, options);
    cairo_font_options_destroy(options);
    picture->draw(cr, picture->arg);
    cairo_status_t status = cairo_status(cr);
    if (status == CAIRO_STATUS_SUCCESS && format->is_image) {
        status = cairo_surface_write_to_png_stream(surface, write_bytes, stream);
    }
    cairo_destroy(cr);
    cairo_surface_finish(surface);
    if (status == CAIRO_STATUS_SUCCESS) {
        status = cairo_surface_status(surface);
    }
    cairo_surface_destroy(surface);
    return status;
}

static mz_status write_picture(mz_context *ctx, const mz_plot_picture *picture, const char *path) {
    MZ_TRY(mz_plot_check_path(ctx, path));
    mz_output out = {0};
    MZ_TRY(mz_output_open(ctx, path, &out));
    const cairo_status_t drawn = draw(find_format(path), picture, out.stream);
    if (drawn == CAIRO_STATUS_SUCCESS || drawn == CAIRO_STATUS_WRITE_ERROR) {
        return mz_output_commit(ctx, &out); /* says what went wrong with writing */
    }
    mz_output_abort(ctx, &out);
    const mz_status status = drawn == CAIRO_STATUS_NO_MEMORY ? MZ_ERR_NOMEM : MZ_ERR_IO;
    return mz_fail(&ctx->error, status, "%s: cannot draw: %s", path, cairo_status_to_string(drawn));
}

mz_status mz_plot_picture_write(mz_context *ctx, const mz_plot_picture *picture, const char *path) {
    const mz_status status = write_picture(ctx, picture, path);
    /* Fonts are not kept for another picture: programs rarely draw a second one, finding them again
     * takes some 15 ms, and leak checkers do not see that they are still in use. */
    cairo_debug_reset_static_data();
    FcFini();
    return status;
}
