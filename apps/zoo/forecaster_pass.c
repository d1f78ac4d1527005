/* The two ends of a pass: input rows to decoder rows, final states to answers. */
#include "apps/zoo/forecaster_parts.h"

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
