#include "adapters/connector.h"

mz_status mz_gated_connector_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                     const mz_gated_connector *connector) {
    const size_t mark = mz_stream_mark(s);
    mz_tensor gate;
    mz_tensor up;
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "connector gate", &gate));
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "connector up", &up));
    MZ_TRY(mz_op_linear(s, &gate, x, &connector->w_gate));
    MZ_TRY(mz_op_linear(s, &up, x, &connector->w_up));
    MZ_TRY(mz_op_gated_activation(s, y, &gate, &up, connector->activation));
    mz_stream_release(s, mark);
    return MZ_OK;
}
