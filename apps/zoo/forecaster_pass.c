/* The two ends of a pass: points to input rows to decoder rows, final states to answers. */
#include "apps/zoo/forecaster_parts.h"

#include <math.h>

static const double MAX_TRANSFORMED = 88; /* sinh of it is a finite f32 */

int64_t mz_forecaster_parts_n_rows(const mz_forecaster_parts *p, int64_t n_points) {
    return (n_points + p->patch_len - 1) / p->patch_len;
}

void mz_forecaster_parts_transform(const mz_forecaster_parts *p, float *values, int64_t n) {
    for (int64_t i = 0; p->transform == MZ_TRANSFORM_ARCSINH && i < n; i++) {
        values[i] = (float)asinh((double)values[i]);
    }
}

void mz_forecaster_parts_restore(const mz_forecaster_parts *p, float *values, int64_t n) {
    for (int64_t i = 0; p->transform == MZ_TRANSFORM_ARCSINH && i < n; i++) {
        const double u = (double)values[i];
        values[i] =
            fabs(u) > MAX_TRANSFORMED ? (float)sinh(copysign(MAX_TRANSFORMED, u)) : (float)sinh(u);
    }
}

void mz_forecaster_parts_input_row(const mz_forecaster_parts *p, const float *points,
                                   int64_t n_points, int64_t row, float *out) {
    const int64_t first = n_points - (mz_forecaster_parts_n_rows(p, n_points) - row) * p->patch_len;
    for (int64_t i = 0; i < p->patch_len; i++) {
        const int64_t at = first + i;
        out[i] = at >= 0 ? points[at] : 0;
        if (p->rows == MZ_ROWS_PATCH) {
            out[p->patch_len + i] = at >= 0 ? 1 : 0;
        }
    }
}

int64_t mz_forecaster_parts_input_width(const mz_forecaster_parts *p) {
    return p->rows == MZ_ROWS_PATCH ? 2 * p->patch_len : 1;
}

int64_t mz_forecaster_parts_output_width(const mz_forecaster_parts *p, int32_t i) {
    return (int64_t)p->heads.length[i] * (p->n_quantiles > 0 ? p->n_quantiles : 1);
}

mz_status mz_forecaster_parts_embed(mz_stream *s, const mz_forecaster_parts *p, const mz_tensor *y,
                                    const mz_tensor *inputs) {
    return p->rows == MZ_ROWS_PATCH ? mz_residual_mlp_forward(s, y, inputs, &p->patch_embed)
                                    : mz_gated_connector_forward(s, y, inputs, &p->embed);
}

mz_status mz_forecaster_parts_head(mz_stream *s, const mz_forecaster_parts *p, const mz_tensor *y,
                                   const mz_tensor *hidden, int32_t i) {
    return p->rows == MZ_ROWS_PATCH ? mz_residual_mlp_forward(s, y, hidden, &p->patch_head)
                                    : mz_op_linear(s, y, hidden, &p->heads.w[i]);
}
