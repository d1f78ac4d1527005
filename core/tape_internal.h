/* What ops need of the tape to record themselves (core/ops_record.c). All functions want a stream
 * with a tape. */
#ifndef MZ_CORE_TAPE_INTERNAL_H
#define MZ_CORE_TAPE_INTERNAL_H

#include "core/tape.h"

/* Runs the backward of one node; `args` is the copy that mz_tape_record made. */
typedef mz_status (*mz_backward_op)(mz_stream *s, const void *args);

/* Whether any of the values has a gradient. Tensors that are NULL or absent have none. */
bool mz_tape_needs(const mz_stream *s, const mz_tensor *const *inputs, int n_inputs);
bool mz_tape_needs_data(const mz_stream *s, const void *data);

/* Where the gradient of the value at `data` is, or NULL; zeroed when first asked for. */
float *mz_tape_gradient_data(mz_stream *s, const void *data);

/* The gradient if anything was added to it since the reset, else absent: then a backward has
 * nothing to do. */
mz_tensor mz_tape_gradient_if_any(mz_stream *s, const mz_tensor *t);

/* Appends a node with a copy of `args`; `outputs` have gradients from now on. Errors: NOMEM. */
mz_status mz_tape_record(mz_stream *s, mz_backward_op op, const void *args, size_t args_bytes,
                         const mz_tensor *const *outputs, int n_outputs);

/* Notes that [data, data + bytes) has been taken from the stream's arena. Errors: NOMEM. */
mz_status mz_tape_note_take(mz_stream *s, const void *data, size_t bytes);

#endif
