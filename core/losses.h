/* Losses of training: what a forward pass is judged by, and where a backward pass begins.
 *
 * Rules for all. A loss adds `scale` times its value to *loss and, on a stream with a tape
 * (core/tape.h), `scale` times its gradient to the gradients of those inputs that have one. So the
 * caller averages: scale is 1 / (sum of the weights), times 1 / n_heads and 1 / n_micro_batches
 * where there are several. Tensors are f32 in host memory; rows may be strided. Values are computed
 * and summed in f64, in an order that depends neither on the number of threads nor on the run;
 * gradients are rounded to f32 once, when they are added. A weight that is absent (NULL, or n_dims
 * 0) is 1 everywhere; where it is 0 the element adds nothing, whatever prediction and target hold.
 * No rows add nothing. A prediction that is NaN where the weight is not 0 gives a loss and a
 * gradient of NaN, which is no error.
 *
 * Errors of all, with *loss and gradients untouched: MZ_ERR_SHAPE and MZ_ERR_DTYPE for tensors;
 * MZ_ERR_ARG for a scale that is not finite; MZ_ERR_UNSUPPORTED for a backend without host memory;
 * MZ_ERR_LIMIT when scratch does not fit the stream's arena. In measure mode only scratch is
 * counted. */
#ifndef MZ_CORE_LOSSES_H
#define MZ_CORE_LOSSES_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Huber's loss (Huber 1964), as Time-MoE trains with it (Shi et al. 2025, section 3.2.2, "Loss
 * function"; delta 2): the sum of weight h(e) with e = pred - target and h(e) = e^2 / 2 where
 * |e| <= delta, else delta (|e| - delta / 2).
 *   pred, target, weight  [n_rows, width]
 * Errors also: ARG for a delta that is not positive and finite. */
mz_status mz_loss_huber(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                        const mz_tensor *weight, double delta, double scale, double *loss);

/* The quantile loss (Koenker and Bassett 1978, section 3), averaged over the levels and doubled, so
 * that the level 0.5 alone is the absolute error: the sum of weight (2 / n_quantiles) sum over q of
 * max(q e, (q - 1) e), with e = target - pred. At e = 0 the gradient is 0.
 *   pred            [n_rows, n_steps * n_quantiles], column step * n_quantiles + index of the level
 *   target, weight  [n_rows, n_steps]
 *   levels          [n_quantiles], each above 0 and below 1
 * Errors also: ARG for a level outside that range, or none. */
mz_status mz_loss_pinball(mz_stream *s, const mz_tensor *pred, const mz_tensor *target,
                          const mz_tensor *weight, const double *levels, int64_t n_quantiles,
                          double scale, double *loss);

/* Cross entropy of a vocabulary: the sum of weight (log sum exp(logits) - logits[target]) with
 * logits = W hidden + b (the negative log likelihood of next tokens: Bengio et al. 2003, section
 * 2). Rows of weight 0 cost nothing and their targets are not looked at. The logits are never all
 * in memory: rows go through the head's product, the loss and the head's backward chunk by chunk,
 * at most MZ_LOGITS_BYTES of logits (but never less than one row) at a time. The gradient goes to
 * `hidden` and to weight and bias of `head`. The logits have the precision of the backend's
 * product.
 *   hidden   [n_rows, d_model]
 *   head     weight [vocab_size, d_model]
 *   targets  [n_rows], each 0 to vocab_size - 1
 *   weight   [n_rows], or NULL
 * Errors also: ARG naming the row and target outside the vocabulary; UNSUPPORTED for a gradient
 * that the backend cannot compute and for a head with deltas; those of the backend's ops, after
 * which gradients are undefined. */
enum { MZ_LOGITS_BYTES = 64 << 20 };
mz_status mz_loss_cross_entropy(mz_stream *s, const mz_tensor *hidden, const mz_linear *head,
                                const int32_t *targets, const float *weight, double scale,
                                double *loss);

/* How evenly the experts are used. Notation: p the softmax of a row's logits, f[k][e] the share of
 * rows whose choice of rank k is e, P[e] the mean of p[e]; E experts, K choices a row. f carries no
 * gradient. A slot that is not used counts for no expert; a first choice that was dropped counts
 * for the row's best expert by logit, which it was for. */
typedef enum mz_balance_kind {
    /* E sum over k and e of f[k][e] P[e], over the rows of all routings together; K at perfect
     * balance (Time-MoE's code: K times the formula of Shi et al. 2025, section 3.2.2) */
    MZ_BALANCE_TOPK_POOLED = 0,
    /* first choices only: E sum over e of f[0][e] P[e], over the rows of all routings together; 1
     * at perfect balance (Fedus et al. 2022, section 2.2, equations 4 to 6) */
    MZ_BALANCE_SWITCH,
    /* for each sequence alone, its rows of all routings together: (E / K) sum over k and e of
     * f[k][e] P[e]; the mean over sequences; 1 at perfect balance (Dai et al. 2024, section 3.3,
     * equations 12 to 14; by sequence: DeepSeek-AI 2024, section 2.1.2, with the softmax for its
     * normalised sigmoid) */
    MZ_BALANCE_SEQUENCE,
    MZ_BALANCE_COUNT
} mz_balance_kind;

/* What a balance takes into account besides. All zero: nothing. */
typedef struct mz_balance_options {
    const mz_rows *rows;     /* of each routing: for MZ_BALANCE_SEQUENCE and with `router` */
    const mz_router *router; /* one that is by_modality: only rows that choose from the range of
                                `modality` count, and E is that range's size (MoIIE's loss of one
                                router). NULL: all rows */
    mz_modality modality;
    int32_t n_light; /* the last n_light experts count `tau` times (MoE++'s experts without a
                        matrix; Jin et al. 2024, section 3.3, whose sum is 1 / E of the pooled
                        balance here) */
    double tau;
} mz_balance_options;

/* The balance of routings whose logits and expert_ids are filled, of one number of experts and of
 * choices. Whoever wants the mean of one loss for each layer calls it for each, with
 * scale / n_layers. A row of logits that are all -inf has p = 0.
 *   options  NULL: all zero
 * Errors also: ARG for an unknown kind, for routings that differ in experts or choices, for expert
 * ids out of range, and where `rows` are missing. */
mz_status mz_loss_balance(mz_stream *s, mz_balance_kind kind, const mz_routing *routings,
                          int n_routings, const mz_balance_options *options, double scale,
                          double *loss);

/* How far router logits are from small: the mean over the rows of all routings together of
 * (log of the sum of exp(logits))^2 (Zoph et al. 2022, section 3.3, equation 5). Only the logits of
 * the routings are read. Errors also: ARG for routings that differ in experts or choices. */
mz_status mz_loss_router_z(mz_stream *s, const mz_routing *routings, int n_routings, double scale,
                           double *loss);

/* How undecided routers are: the mean over the rows of all routings together of the entropy of p,
 * -sum of p log p, which top-p routing wants small (Huang et al. 2024, section 3.3). Reads logits
 * only; an expert of p = 0 adds nothing. Errors as for mz_loss_router_z. */
mz_status mz_loss_router_entropy(mz_stream *s, const mz_routing *routings, int n_routings,
                                 double scale, double *loss);

#ifdef __cplusplus
}
#endif
#endif
