/* Connectors: from an encoder's width to the decoder's. */
#ifndef MZ_ADAPTERS_CONNECTOR_H
#define MZ_ADAPTERS_CONNECTOR_H

#include "core/ops.h"

/* Gated connector: y = act(W_gate x) * (W_up x), without biases. With d_in = 1 this is Time-MoE's
 * embedding of a scalar point (Shi et al. 2024, section 3.2). Immutable after load. */
typedef struct mz_gated_connector {
    mz_linear w_gate, w_up; /* [d_model, d_in] */
    mz_activation activation;
} mz_gated_connector;

/*   y [n_tokens, d_model], x [n_tokens, d_in]. Errors: those of the ops. */
mz_status mz_gated_connector_forward(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                     const mz_gated_connector *connector);

#endif
