#include "adapters/residual_mlp.h"

mz_status mz_residual_mlp_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                  const mz_residual_mlp *mlp) {
    const size_t mark = mz_stream_mark(s);
    const int64_t n = x->shape[0];
    const int64_t d_hidden = mlp->w_gate.weight.shape[0];
    mz_tensor gate;
    mz_tensor up;
    mz_tensor hidden;
    mz_tensor down;
    mz_tensor skip;
    MZ_TRY(mz_stream_take(s, n, d_hidden, "residual MLP gate", &gate));
    MZ_TRY(mz_stream_take(s, n, d_hidden, "residual MLP up", &up));
    MZ_TRY(mz_stream_take(s, n, d_hidden, "residual MLP hidden", &hidden));
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "residual MLP down", &down));
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "residual MLP skip", &skip));
    MZ_TRY(mz_op_linear(s, &gate, x, &mlp->w_gate));
    MZ_TRY(mz_op_linear(s, &up, x, &mlp->w_up));
    MZ_TRY(mz_op_gated_activation(s, &hidden, &gate, &up, mlp->activation));
    MZ_TRY(mz_op_linear(s, &down, &hidden, &mlp->w_down));
    MZ_TRY(mz_op_linear(s, &skip, x, &mlp->w_skip));
    MZ_TRY(mz_op_add(s, y, &down, &skip, 1));
    mz_stream_release(s, mark);
    return MZ_OK;
}
