/* Training a forecaster: windows of series in, gradients of its parameters out. */
#ifndef MZ_APPS_ZOO_FORECASTER_TRAINING_H
#define MZ_APPS_ZOO_FORECASTER_TRAINING_H

#include "apps/zoo/forecaster.h"
#include "apps/zoo/trainable.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of whole sequences with their targets; the caller's. Row r of a sequence reads what a row of
 * the model holds (see mz_forecaster_parts), and each head is asked for what follows it. */
typedef struct mz_forecast_rows {
    int64_t n_rows;
    const int32_t *sequence;     /* [n_rows] rows of one sequence are neighbours */
    const int32_t *position;     /* [n_rows] from 0 in each sequence */
    const float *inputs;         /* [n_rows, input width] scaled as the model reads them */
    int32_t n_heads;             /* of the model */
    const float *const *targets; /* [n_heads] of [n_rows, length of the head], scaled likewise */
    const float *const *weights; /* [n_heads] of the same shape; 0: not counted */
} mz_forecast_rows;

typedef struct mz_forecast_loss {
    double huber_delta; /* of heads that answer points; those with levels take the pinball loss */
    double balance_factor;  /* of the load-balancing loss of the routers; 0: none */
    bool balance_by_layer;  /* its mean over the layers, instead of all layers pooled (as published
                               with Time-MoE: there every layer may fall onto one expert while the
                               pooled loss reads as even) */
    double router_z_factor; /* of the z-loss; 0: none */
} mz_forecast_loss;

/* Opaque; one thread. */
typedef struct mz_forecast_training mz_forecast_training;

/* For a forecaster loaded with parameters (options->weights), which it borrows. `max_positions`:
 * rows of a sequence at most. `recompute`: blocks are computed twice and their activations not
 * kept. Errors: NOMEM, UNSUPPORTED, LIMIT. */
mz_status mz_forecast_training_create(mz_context *ctx, mz_forecaster *f, int64_t max_positions,
                                      bool recompute, mz_forecast_training **out);
void mz_forecast_training_destroy(mz_forecast_training *t); /* accepts NULL */

/* Adds to the gradients of the parameters those of scale * loss over the rows: for each head the
 * sum of weighted errors over the sum of weights, averaged over the heads, plus the losses of the
 * routers. `report` says what they were, unscaled. Positions outside [0, max_positions) are
 * ARG. Other errors: those of the ops. */
mz_status mz_forecast_training_gradients(mz_forecast_training *t, const mz_forecast_rows *rows,
                                         const mz_forecast_loss *loss, double scale,
                                         mz_train_report *report);

/* The same loss without gradients. */
mz_status mz_forecast_training_loss(mz_forecast_training *t, const mz_forecast_rows *rows,
                                    const mz_forecast_loss *loss, mz_train_report *report);

/* Adds the gradients of an adapter's parameters too (core/tape.h). Errors: LIMIT. */
mz_status mz_forecast_training_add_parameters(mz_forecast_training *t, const void *values,
                                              void *gradients, size_t n_bytes);

/* Bytes of activations and gradients that a pass has taken at most so far. */
size_t mz_forecast_training_peak_bytes(const mz_forecast_training *t);

/* Times ops from now on into `profile` (NULL: stops). */
void mz_forecast_training_set_profile(mz_forecast_training *t, mz_profile *profile);

#ifdef __cplusplus
}
#endif
#endif
