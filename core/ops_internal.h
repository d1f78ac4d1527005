/* What the wrappers of core/ops.h share: checks of arguments, measure mode, profiles. */
#ifndef MZ_CORE_OPS_INTERNAL_H
#define MZ_CORE_OPS_INTERNAL_H

#include "core/backend.h"

/* Fails with SHAPE: what was found, and [rows, cols] as expected. */
mz_status mz_op_shape_error(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                            int64_t rows, int64_t cols);

/* An f32 matrix of exactly this shape. */
mz_status mz_op_check_matrix(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                             int64_t rows, int64_t cols);

/* A weight matrix [d_out, d_in] with its bias. */
mz_status mz_op_check_linear(mz_stream *s, const char *op, const mz_linear *w, int64_t d_out,
                             int64_t d_in);

/* In measure mode an op only notes its scratch. Returns true when there is nothing to compute. */
bool mz_op_only_measured(mz_stream *s, mz_op_id op, const mz_op_size *size, mz_status *status);

/* Now, where a profile is attached; and the time since then charged to an op, whose status is
 * handed on. */
double mz_op_clock(const mz_stream *s);
mz_status mz_op_charge(mz_stream *s, mz_op_id op, double start, double flops, mz_status status);

/* What a backend's own ffn need know: gated. */
bool mz_ffn_is_plain(const mz_ffn *ffn);

bool mz_ffn_has_deltas(const mz_ffn *ffn);

#endif
