/* The losses of core/losses.h with their gradients named instead of found on a tape.
 *
 * A gradient that is NULL or absent is not wanted; others have the shape of their value and are
 * added to. */
#ifndef MZ_CORE_LOSSES_INTERNAL_H
#define MZ_CORE_LOSSES_INTERNAL_H

#include "core/losses.h"
#include "core/ops_backward.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_pinball_inputs {
    const mz_tensor *pred, *target, *weight;
    const double *levels; /* [n_quantiles] */
    int64_t n_quantiles;
} mz_pinball_inputs;

typedef struct mz_cross_entropy_inputs {
    const mz_tensor *hidden;
    const mz_linear *head;
    const int32_t *targets; /* [n_rows] */
    const float *weight;    /* [n_rows], or NULL */
    int64_t chunk_rows;     /* rows of a chunk at most; 0: by MZ_LOGITS_BYTES */
} mz_cross_entropy_inputs;

typedef struct mz_cross_entropy_gradient {
    mz_tensor hidden; /* [n_rows, d_model] */
    mz_linear_gradient head;
} mz_cross_entropy_gradient;

typedef struct mz_router_loss_inputs {
    const mz_routing *routings; /* [n_routings] */
    int n_routings;
    const mz_balance_options *options; /* NULL: none */
} mz_router_loss_inputs;

mz_status mz_loss_huber_into(mz_stream *s, const mz_tensor *d_pred, const mz_tensor *pred,
                             const mz_tensor *target, const mz_tensor *weight, double delta,
                             double scale, double *loss);
mz_status mz_loss_pinball_into(mz_stream *s, const mz_tensor *d_pred, const mz_pinball_inputs *in,
                               double scale, double *loss);

/* `d` NULL: no gradient is wanted. */
mz_status mz_loss_cross_entropy_into(mz_stream *s, const mz_cross_entropy_gradient *d,
                                     const mz_cross_entropy_inputs *in, double scale, double *loss);

/* d_logits [n_routings], or NULL. */
mz_status mz_loss_balance_into(mz_stream *s, const mz_tensor *d_logits, mz_balance_kind kind,
                               const mz_router_loss_inputs *in, double scale, double *loss);
mz_status mz_loss_router_z_into(mz_stream *s, const mz_tensor *d_logits,
                                const mz_router_loss_inputs *in, double scale, double *loss);
mz_status mz_loss_router_entropy_into(mz_stream *s, const mz_tensor *d_logits,
                                      const mz_router_loss_inputs *in, double scale, double *loss);

/* A host-memory stream and a finite scale. */
mz_status mz_loss_check_call(mz_stream *s, const char *name, double scale);

/* An f32 matrix of exactly this shape. */
mz_status mz_loss_check_matrix(mz_stream *s, const char *name, const char *what, const mz_tensor *t,
                               int64_t n_rows, int64_t n_cols);

#ifdef __cplusplus
}
#endif
#endif
