/* AdamW (Loshchilov and Hutter 2019) over the parameters of a model, as PyTorch computes it. */
#ifndef MZ_CORE_OPTIMIZER_H
#define MZ_CORE_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/parameters.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fields that a group sets; the others are left as earlier groups or the defaults have them. */
enum { MZ_GROUP_TRAIN = 1, MZ_GROUP_LR_FACTOR = 2, MZ_GROUP_WEIGHT_DECAY = 4 };

/* What holds for the parameters whose name matches `pattern` (core/glob.h). */
typedef struct mz_optimizer_group {
    const char *pattern;
    unsigned sets;       /* MZ_GROUP_* of the fields below that count */
    bool train;          /* false: frozen, neither stepped nor decayed, and without state */
    double lr_factor;    /* times the step's learning rate; at least 0 */
    double weight_decay; /* at least 0 */
} mz_optimizer_group;

typedef struct mz_optimizer_config {
    double beta1, beta2; /* in [0, 1) */
    double eps;          /* above 0 */
    double weight_decay; /* of parameters for which no group sets it; at least 0 */
    double clip_norm;    /* largest norm of all trained gradients together; 0: not clipped */
    double ema_decay;    /* of the moving average of the weights, in [0, 1); 0: none is kept */
    /* In order; of several that match a name and set a field, the last wins. Without any, all
     * parameters are trained with factor 1. Read by mz_optimizer_create only. */
    const mz_optimizer_group *groups;
    int64_t n_groups;
} mz_optimizer_config;

/* Opaque. Created by mz_optimizer_create, used by the thread of its context. */
typedef struct mz_optimizer mz_optimizer;

/* Zero moments, no step done, the moving average equal to the weights. State is made only for
 * parameters that are trained: 8 bytes a value, 12 with the average. `parameters` is borrowed and
 * must not change until mz_optimizer_destroy, but for its values and gradients. Errors: ARG (a
 * number outside its range, by name; no parameter trained); DTYPE and SHAPE for a parameter that is
 * not f32, not dense, or whose gradient has another shape; NOMEM; LIMIT. */
mz_status mz_optimizer_create(mz_context *ctx, const mz_optimizer_config *config,
                              const mz_parameters *parameters, mz_optimizer **out);

/* Accepts NULL. */
void mz_optimizer_destroy(mz_context *ctx, mz_optimizer *o);

/* One step at learning rate `lr` (finite, at least 0) with the gradients that the parameters hold,
 * which stay as they are. With t steps done after it, for each trained w with gradient g:
 *   norm = 2-norm of all trained gradients;  g *= min(1, clip_norm / (norm + 1e-6))
 *   w   *= 1 - a d           a: lr times the group's factor, d: its weight decay
 *   m    = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
 *   w   -= a / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *   ema  = e ema + (1 - e) w          e = min(ema_decay, (1 + t) / (10 + t))
 * The norm is summed in f64 in a fixed order, scalars are f64 until they meet an f32 value, and the
 * order is that of torch.optim.AdamW and clip_grad_norm_ (whose norm is f32). A parameter that got
 * no gradient (an expert without tokens) has gradient 0 and is still decayed. Equal for any number
 * of threads. *grad_norm (may be NULL) is the norm before clipping.
 * Errors: ARG for `lr`, while the averages are in place (mz_optimizer_swap_ema), and for a gradient
 * that is not finite, naming the first such parameter; then nothing has changed. */
mz_status mz_optimizer_step(mz_optimizer *o, double lr, double *grad_norm);

/* Exchanges the trained weights with their moving averages, and with a second call back: to
 * evaluate or save the averages. Errors: ARG without averages. */
mz_status mz_optimizer_swap_ema(mz_optimizer *o);

/* Whether parameter i of the list is trained, and how many values are in all. */
bool mz_optimizer_trains(const mz_optimizer *o, int64_t i);
int64_t mz_optimizer_n_values(const mz_optimizer *o);

/* For checkpoints: all that a step depends on besides weights and gradients is the number of steps
 * done and these tensors, "exp_avg.NAME" and "exp_avg_sq.NAME" (m and v, as PyTorch calls them) and
 * with averages "ema.NAME", for each trained parameter NAME. They may be overwritten. Name and
 * memory belong to the optimizer; 0 <= i < number of states. */
int64_t mz_optimizer_n_states(const mz_optimizer *o);
void mz_optimizer_state(const mz_optimizer *o, int64_t i, const char **name, mz_tensor *tensor);
int64_t mz_optimizer_n_steps(const mz_optimizer *o);
/* Errors: ARG below 0. */
mz_status mz_optimizer_set_n_steps(mz_optimizer *o, int64_t n_steps);

#ifdef __cplusplus
}
#endif
#endif
