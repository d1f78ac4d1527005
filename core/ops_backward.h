/* Backwards of the ops in core/ops.h: what each computes.
 *
 * With a loss L, d_x stands for dL/dx. Every backward ADDS to the gradients it is given; one that
 * is absent (n_dims 0, or a NULL pointer) is not wanted and costs nothing. Gradients have the shape
 * of their value and may have a row stride. The discrete choices of a forward pass (expert ids,
 * offsets) are held fixed. Sums run in a fixed order: results depend neither on the number of
 * threads nor on the run. Zero rows add nothing.
 *
 * They are called through the backend's table by the nodes of a tape (core/tape.h), whose wrappers
 * have checked shapes in the forward pass.
 *
 *   linear             d_x += d_y W;  d_w.weight += d_y^T x;  d_w.bias += sum of rows of d_y.
 *                      With MZ_PRECISION_BF16 the factors of both products are rounded to bf16, the
 *                      sums are f32. W may be f32, f16 or bf16; its gradient is f32
 *   norm               per group, with z the normalised x, r what it was scaled by and g = d_y
 *                      (weight + offset): d.x += r (g - z mean(g z)), for LAYER also - r mean(g);
 *                      d.weight += sum of d_y z, d.bias += sum of d_y, over rows, and over the
 *                      groups that share them
 *   rope               d_x += d_y rotated by the negative angle; what was copied as it is
 *   softmax            d_x += y (d_y - sum(d_y y)) per row
 *   gated_activation   y = act(gate) up: d.up += d_y act(gate); d.gate += d_y up act'(gate), where
 *                      act' of RELU is 0 at 0; without up: d.gate += d_y act'(gate)
 *   accumulate         d_x += scale d_y (the backward of add)
 *   gather_rows        d_x[rows[i]] += scale d_y[i], ascending i
 *   self_attention     with P the probabilities (from log_sums), D = sum(d_y y) per row and head:
 *                      d.v += P^T d_y;  dS = P (d_y v^T - D);  d.q += scale dS k;
 *                      d.k += scale dS^T q (Dao et al. 2022, algorithm 4); nothing of size
 *                      n_rows^2 is stored
 *   route              with w the weights, g their gradients [n_tokens, top_k] and s the scores of
 *                      the chosen: ds = scale (g - sum(g w) / scale) / sum(s) where renormalised,
 *                      else scale g; 0 for slots not used, zero experts and unit weights. Softmax:
 *                      d_logits += p (ds - sum(ds p)), with ds 0 where not chosen; sigmoid:
 *                      d_logits += ds s (1 - s)
 *   grouped_linear     for each sorted row i of expert e, r the row of x it read:
 *                      d_x[r] += d_y[i] W_e, for one r in ascending order of slots;
 *                      d_w[e] += d_y[i]^T x[r]. d_w.weight is [n_experts] dense [d_out, d_in]
 *                      matrices; an expert without rows is left as it is. d_w.bias[e] += sum of
 *                      its rows of d_y
 *   combine            d.expert_out[slot_row[j]] += gate_weights[j] d_y[t], j = t top_k + k;
 *                      d.gate_weights[j] += <d_y[t], expert_out[slot_row[j]]>;
 *                      with s = sigmoid(shared_logit): d.shared_out += s d_y;
 *                      d.shared_logit += <d_y, shared_out> s (1 - s); without logit s = 1. Slots
 *                      not used are passed over
 *   mask_logits        d_in[modality of t][t] += the range's part of d_logits[t]
 *   plain_experts      of a sorted row i of token t, g = d_expert_out[i]: copy d_x[t] += g;
 *                      constant, with a = softmax(w_mix x) and q = (<g, x>, <g, value>):
 *                      d_value += a_1 g; z = a (q - sum(a q)); d_w_mix[j] += z_j x;
 *                      d_x[t] += a_0 g + z_0 w_mix[0] + z_1 w_mix[1] */
#ifndef MZ_CORE_OPS_BACKWARD_H
#define MZ_CORE_OPS_BACKWARD_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_linear_gradient {
    mz_tensor weight; /* [d_out, d_in] f32 */
    mz_tensor bias;   /* [d_out] f32 */
} mz_linear_gradient;

typedef struct mz_norm_gradient {
    mz_tensor x;            /* [n_rows, width] */
    mz_tensor weight, bias; /* as those of the norm */
} mz_norm_gradient;

typedef struct mz_bank_gradient {
    float *const *weight; /* [n_experts] of dense [d_out, d_in]; NULL: not wanted */
    float *const *bias;   /* [n_experts] of [d_out]; NULL: not wanted */
} mz_bank_gradient;

typedef struct mz_plain_gradient {
    mz_tensor x;            /* [n_tokens, d_model] */
    const mz_tensor *value; /* [n_constant] of [d_model] */
    const mz_tensor *w_mix; /* [n_constant] of [2, d_model] */
} mz_plain_gradient;

typedef struct mz_gated_gradient {
    mz_tensor gate, up; /* [n_rows, width]; up absent without it */
} mz_gated_gradient;

typedef struct mz_combine_gradient {
    mz_tensor expert_out;   /* [n_slots, d_model] */
    mz_tensor gate_weights; /* [n_tokens, top_k] */
    mz_tensor shared_out;   /* [n_tokens, d_model] */
    mz_tensor shared_logit; /* [n_tokens, 1] */
} mz_combine_gradient;

/* Whether there is a gradient to add to. */
bool mz_gradient_wanted(const mz_tensor *gradient);

#ifdef __cplusplus
}
#endif
#endif
