#include "core/ops_internal.h"

#include "core/profile.h"

mz_status mz_op_shape_error(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                            int64_t rows, int64_t cols) {
    char actual[96];
    return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "%s: %s is %s, expected [%lld, %lld]", op, what,
                   mz_shape_text(actual, sizeof actual, t->shape, t->n_dims), (long long)rows,
                   (long long)cols);
}

mz_status mz_op_check_matrix(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                             int64_t rows, int64_t cols) {
    if (t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols || t->ld < cols) {
        return mz_op_shape_error(s, op, what, t, rows, cols);
    }
    if (t->dtype != MZ_DTYPE_F32) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE, "%s: %s is %s, expected f32", op, what,
                       mz_dtype_get(t->dtype)->name);
    }
    return MZ_OK;
}

mz_status mz_op_check_linear(mz_stream *s, const char *op, const mz_linear *w, int64_t d_out,
                             int64_t d_in) {
    const mz_tensor *t = &w->weight;
    if (t->n_dims != 2 || t->shape[0] != d_out || t->shape[1] != d_in || t->ld < d_in) {
        return mz_op_shape_error(s, op, "weight", t, d_out, d_in);
    }
    if (!mz_dtype_get(t->dtype)->is_float) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "%s: weight is %s, expected a floating-point type", op,
                       mz_dtype_get(t->dtype)->name);
    }
    const int block = mz_dtype_get(t->dtype)->block_len;
    if (d_in % block != 0 || t->ld % block != 0) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE,
            "%s: weight is %s with rows of %lld elements, %lld apart, expected multiples "
            "of %d",
            op, mz_dtype_get(t->dtype)->name, (long long)d_in, (long long)t->ld, block);
    }
    if (w->bias.n_dims != 0 &&
        (w->bias.n_dims != 1 || w->bias.shape[0] != d_out || w->bias.dtype != MZ_DTYPE_F32)) {
        return mz_op_shape_error(s, op, "bias", &w->bias, d_out, 1);
    }
    return MZ_OK;
}

bool mz_op_only_measured(mz_stream *s, mz_op_id op, const mz_op_size *size, mz_status *status) {
    *status = MZ_OK;
    if (!s->arena.measure) {
        return size->n_rows == 0;
    }
    if (s->backend->scratch_bytes != NULL) {
        const size_t mark = mz_arena_mark(&s->arena);
        void *unused = NULL;
        *status = mz_stream_take_bytes(s, s->backend->scratch_bytes(s, op, size), mz_op_name(op),
                                       &unused);
        mz_arena_release(&s->arena, mark);
    }
    return true;
}

double mz_op_clock(const mz_stream *s) {
    return s->profile != NULL ? mz_now_s() : 0;
}

mz_status mz_op_charge(mz_stream *s, mz_op_id op, double start, double flops, mz_status status) {
    if (s->profile != NULL) {
        if (status == MZ_OK && !s->backend->host_memory) {
            status = s->backend->synchronize(s); /* a device answers before it has finished */
        }
        s->profile->ops[op].n_calls++;
        s->profile->ops[op].seconds += mz_now_s() - start;
        s->profile->ops[op].flops += flops;
    }
    return status;
}

/* Whether a backend's own feed-forward computes it. */
bool mz_ffn_is_plain(const mz_ffn *ffn) {
    return ffn->w_gate.weight.n_dims != 0;
}

bool mz_ffn_has_deltas(const mz_ffn *ffn) {
    return ffn->w_gate.deltas != NULL || ffn->w_up.deltas != NULL || ffn->w_down.deltas != NULL;
}
