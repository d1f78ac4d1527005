/* Pictures of a training. */
#ifndef MZ_APPS_TRAIN_TRAIN_PLOT_H
#define MZ_APPS_TRAIN_TRAIN_PLOT_H

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads DIR/metrics.jsonl and draws DIR/loss.svg (loss, its parts, learning rate, norm of the
 * gradients; the loss as its logarithm where it spans more than a factor of ten) and, where experts
 * were recorded, DIR/experts.svg (shares of each layer's busiest and idlest expert). A long
 * training is drawn as means of neighbouring steps. Without a single step nothing is drawn. Errors:
 * IO, NOMEM; FORMAT for a line that is no JSON. */
mz_status mz_train_plot_write(mz_context *ctx, const char *dir);

#ifdef __cplusplus
}
#endif
#endif
