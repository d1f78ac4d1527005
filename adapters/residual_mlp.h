/* Residual MLP: from the width of a row of inputs to the decoder's, and from the decoder's to that
 * of its answers. */
#ifndef MZ_ADAPTERS_RESIDUAL_MLP_H
#define MZ_ADAPTERS_RESIDUAL_MLP_H

#include "core/ops.h"

/* y = W_down (act(W_gate x) * (W_up x)) + W_skip x, without biases: a gated hidden layer (Shazeer
 * 2020) beside a linear path (the residual block of Das et al. 2023 with a gate). Immutable after
 * load. */
typedef struct mz_residual_mlp {
    mz_linear w_gate, w_up; /* [d_hidden, d_in] */
    mz_linear w_down;       /* [d_out, d_hidden] */
    mz_linear w_skip;       /* [d_out, d_in] */
    mz_activation activation;
} mz_residual_mlp;

/*   y [n_tokens, d_out], x [n_tokens, d_in]. Errors: those of the ops. */
mz_status mz_residual_mlp_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                  const mz_residual_mlp *mlp);

#endif
