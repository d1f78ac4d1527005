/* One step of a training: gradients of its micro-batches, checked, and the optimizer. */
#ifndef MZ_APPS_TRAIN_TRAIN_UPDATE_H
#define MZ_APPS_TRAIN_TRAIN_UPDATE_H

#include "apps/zoo/trainable.h"
#include "core/context.h"
#include "core/optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Step `step` (0, 1, ...) of n_micro micro-batches at rate `lr`; messages count it from 1. Sets
 * *report to means of the micro-batches' losses and sums of their counts, *grad_norm (may be NULL)
 * to the norm before clipping. `lr` is finite and at least 0. Errors: FORMAT for a loss or gradient
 * that is not finite, naming step and tensor, the weights as they were; those of the trainable. */
mz_status mz_train_update(mz_context *ctx, const mz_trainable *t, mz_optimizer *optimizer,
                          int64_t step, int n_micro, double lr, mz_train_report *report,
                          double *grad_norm);

#ifdef __cplusplus
}
#endif
#endif
