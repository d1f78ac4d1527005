/* What a family file fills in to make a forecaster, and the two ends of a pass through it. */
#ifndef MZ_APPS_ZOO_FORECASTER_PARTS_H
#define MZ_APPS_ZOO_FORECASTER_PARTS_H

#include "adapters/connector.h"
#include "adapters/residual_mlp.h"
#include "apps/zoo/forecaster.h"
#include "core/loader.h"
#include "llm/decoder.h"
#include "llm/forecast_head.h"

/* What a row of the decoder stands for, and what is before and behind the decoder. */
typedef enum mz_forecaster_rows {
    MZ_ROWS_POINT = 0, /* one scaled point -> gated connector; linear heads: a point per step */
    MZ_ROWS_PATCH,     /* patch_len points u, then their mask m (1: there is a point, 0: there is
                          none and u = 0) -> residual MLP; one head, a residual MLP: n_quantiles
                          values per step */
} mz_forecaster_rows;

/* Between (x - mean) / scale and what the model reads. */
typedef enum mz_value_transform {
    MZ_TRANSFORM_NONE = 0,
    MZ_TRANSFORM_ARCSINH, /* u = asinh(z) */
} mz_value_transform;

/* Rows -> embedding -> decoder -> heads. decoder.blocks is allocated with mz_alloc. Immutable after
 * load. */
typedef struct mz_forecaster_parts {
    mz_loader loader; /* owns the weights */
    mz_forecaster_rows rows;
    int64_t patch_len; /* points of a row; 1 for ROWS_POINT */
    mz_value_transform transform;
    mz_gated_connector embed;    /* ROWS_POINT: d_in 1 */
    mz_residual_mlp patch_embed; /* ROWS_PATCH: d_in 2 patch_len */
    mz_residual_mlp patch_head;  /* ROWS_PATCH: d_out length * n_quantiles */
    mz_decoder decoder;
    mz_forecast_heads heads;               /* ROWS_PATCH: one, a multiple of patch_len long, whose
                                              matrices are in patch_head */
    int32_t n_quantiles;                   /* 0 for ROWS_POINT: heads answer points */
    int32_t median;                        /* which level is 0.5 */
    double quantiles[MZ_MAX_MODEL_LEVELS]; /* levels, ascending in (0, 1) */
    int64_t max_positions;                 /* points, context + horizon; 0: unknown */
} mz_forecaster_parts;

/* An empty forecaster with the parts of it that a family fills. They are filled where they stay,
 * because the loader keeps pointers into them. Released with mz_forecaster_close, however far the
 * filling came. Errors: NOMEM. */
mz_status mz_forecaster_create(mz_context *ctx, mz_forecaster **out, mz_forecaster_parts **parts);

/* The parts of a forecaster; they live as long as it does. */
const mz_forecaster_parts *mz_forecaster_parts_of(const mz_forecaster *f);

/* Rows that hold n_points points. */
int64_t mz_forecaster_parts_n_rows(const mz_forecaster_parts *p, int64_t n_points);

/* In place, n values that are scaled already: to what the model reads, and back. Back from beyond
 * +-88 goes to what comes from there: sinh of it is near the end of f32. NaN stays. */
void mz_forecaster_parts_transform(const mz_forecaster_parts *p, float *values, int64_t n);
void mz_forecaster_parts_restore(const mz_forecaster_parts *p, float *values, int64_t n);

/* Input row `row` of the mz_forecaster_parts_n_rows that hold n_points points, transformed; what
 * the first row has too many places is in front.
 *   out  [mz_forecaster_parts_input_width(p)] */
void mz_forecaster_parts_input_row(const mz_forecaster_parts *p, const float *points,
                                   int64_t n_points, int64_t row, float *out);

/* Values of an input row: 1, or patch_len points and patch_len masks. */
int64_t mz_forecaster_parts_input_width(const mz_forecaster_parts *p);

/* Values that head i answers with: its length, times n_quantiles where there are levels (value
 * step * n_quantiles + q). */
int64_t mz_forecaster_parts_output_width(const mz_forecaster_parts *p, int32_t i);

/* Input rows to decoder rows.
 *   inputs  [n_rows, mz_forecaster_parts_input_width(p)]
 *   y       [n_rows, d_model]
 * Errors: those of the ops. */
mz_status mz_forecaster_parts_embed(mz_stream *s, const mz_forecaster_parts *p, const mz_tensor *y,
                                    const mz_tensor *inputs);

/* Head i of final states: what follows each row's points.
 *   hidden  [n_rows, d_model] after the final norm
 *   y       [n_rows, mz_forecaster_parts_output_width(p, i)]
 * Errors: those of the ops. */
mz_status mz_forecaster_parts_head(mz_stream *s, const mz_forecaster_parts *p, const mz_tensor *y,
                                   const mz_tensor *hidden, int32_t i);

#endif
