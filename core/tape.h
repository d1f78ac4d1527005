/* The tape: what a forward pass leaves behind so that gradients can be computed.
 *
 * A stream with a tape keeps every activation until mz_tape_reset, and each op of core/ops.h
 * records a node: which backward to run, and its arguments. mz_backward walks the nodes from the
 * last to the first. Gradients are found by address: the gradient of the value at p lies at the
 * same place of a second memory of the same size, one for the stream's arena and one for each set
 * of parameters. So views need no book-keeping, and memory without a second one (mapped weights of
 * a frozen base) has no gradient. A value that is written over has none of its own either: an op in
 * place on what leads to a parameter is ARG.
 *
 * Backwards add to gradients and never overwrite them. A loss (core/losses.h) writes the first
 * ones. An op none of whose inputs leads to a parameter is not recorded. Tape and stream live in
 * host memory. */
#ifndef MZ_CORE_TAPE_H
#define MZ_CORE_TAPE_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Created by mz_tape_create, used by the thread of the stream it is attached to. */
typedef struct mz_tape mz_tape;

/* Errors: NOMEM. */
mz_status mz_tape_create(mz_context *ctx, mz_tape **out);

/* Accepts NULL. Detach it first. */
void mz_tape_destroy(mz_context *ctx, mz_tape *tape);

/* From now on ops on `s` (host memory, nothing taken from its arena since it was opened but what is
 * kept for its whole life) record. mz_tape_detach ends it. Errors: NOMEM; UNSUPPORTED for a backend
 * without host memory. */
mz_status mz_tape_attach(mz_tape *tape, mz_stream *s);
void mz_tape_detach(mz_stream *s);

/* Values [values, values + bytes) are trained: their gradients are at the same offsets of
 * `gradients`, which belongs to the caller, who also zeroes it. Errors: LIMIT for more than 8. */
mz_status mz_tape_add_parameters(mz_tape *tape, const void *values, void *gradients, size_t bytes);

/* Forgets all nodes and gives the activations back: the arena returns to where it was at attach. */
void mz_tape_reset(mz_stream *s);

/* The gradient of `t` to add to, zeroed when first asked for since the reset; absent (n_dims 0)
 * when `t` has none. The same shape and row stride as `t`. */
mz_tensor mz_tape_gradient(mz_stream *s, const mz_tensor *t);

/* Memory that lives until the reset: arguments that nodes point to. Errors: NOMEM. */
mz_status mz_tape_keep(mz_stream *s, size_t bytes, const char *what, void **out);

/* A part of the forward pass that is computed twice: once without recording, its scratch given
 * back, and again when the backward pass reaches it (Chen et al. 2016). `forward` must write the
 * same values to the same outputs each time, and `args` is copied. Without a tape, or with
 * recomputation off, it is just called. */
typedef mz_status (*mz_tape_segment)(mz_stream *s, const void *args);
mz_status mz_tape_run_segment(mz_stream *s, mz_tape_segment forward, const void *args,
                              size_t args_bytes, const mz_tensor *const *outputs, int n_outputs);
void mz_tape_set_recompute(mz_tape *tape, bool recompute);

/* Runs all backwards from the last node to the first. Errors: UNSUPPORTED naming an op whose
 * backward the backend lacks; those of the ops. */
mz_status mz_backward(mz_stream *s);

#ifdef __cplusplus
}
#endif
#endif
