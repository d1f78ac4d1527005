#include "core/ops/composed.h"

/* One delta's product, before its scale. */
static mz_status low_rank_product(mz_stream *s, const mz_tensor *u, const mz_tensor *x,
                                  const mz_low_rank *delta) {
    mz_tensor t;
    MZ_TRY(mz_stream_take(s, x->shape[0], delta->a.weight.shape[0], "low-rank inputs", &t));
    MZ_TRY(mz_op_linear(s, &t, x, &delta->a));
    return mz_op_linear(s, u, &t, &delta->b);
}

mz_status mz_composed_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const mz_linear *w) {
    const size_t mark = mz_stream_mark(s);
    mz_linear base = *w;
    mz_tensor sum;
    base.deltas = NULL;
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "base product", &sum));
    MZ_TRY(mz_op_linear(s, &sum, x, &base));
    for (const mz_low_rank *delta = w->deltas; delta != NULL; delta = delta->next) {
        mz_tensor u;
        mz_tensor next = *y;
        MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "low-rank product", &u));
        MZ_TRY(low_rank_product(s, &u, x, delta));
        if (delta->next != NULL) {
            MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "adapted product", &next));
        }
        MZ_TRY(mz_op_add(s, &next, &sum, &u, delta->scale));
        sum = next;
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

static mz_status low_rank_grouped_product(mz_stream *s, const mz_tensor *u, const mz_tensor *x,
                                          const mz_low_rank_bank *delta, const mz_routing *routing,
                                          bool gather) {
    mz_tensor t;
    MZ_TRY(mz_stream_take(s, u->shape[0], delta->a.d_out, "low-rank inputs", &t));
    MZ_TRY(mz_op_grouped_linear(s, &t, x, &delta->a, routing, gather));
    return mz_op_grouped_linear(s, u, &t, &delta->b, routing, false);
}

mz_status mz_composed_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                     const mz_linear_bank *bank, const mz_routing *routing,
                                     bool gather) {
    const size_t mark = mz_stream_mark(s);
    mz_linear_bank base = *bank;
    mz_tensor sum;
    base.deltas = NULL;
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "base product", &sum));
    MZ_TRY(mz_op_grouped_linear(s, &sum, x, &base, routing, gather));
    for (const mz_low_rank_bank *delta = bank->deltas; delta != NULL; delta = delta->next) {
        mz_tensor u;
        mz_tensor next = *y;
        MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "low-rank product", &u));
        MZ_TRY(low_rank_grouped_product(s, &u, x, delta, routing, gather));
        if (delta->next != NULL) {
            MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "adapted product", &next));
        }
        MZ_TRY(mz_op_add(s, &next, &sum, &u, delta->scale));
        sum = next;
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

mz_status mz_composed_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn) {
    const int64_t n = x->shape[0];
    const int64_t d_ff = ffn->w_up.weight.shape[0];
    const bool gated = ffn->w_gate.weight.n_dims != 0;
    const size_t mark = mz_stream_mark(s);
    mz_tensor gate;
    mz_tensor up;
    mz_tensor hidden;
    MZ_TRY(mz_stream_take(s, n, d_ff, "ffn up", &up));
    MZ_TRY(mz_stream_take(s, n, d_ff, "ffn hidden", &hidden));
    if (gated) {
        MZ_TRY(mz_stream_take(s, n, d_ff, "ffn gate", &gate));
        MZ_TRY(mz_op_linears(s, 2, (const mz_tensor *const[]){&gate, &up}, x,
                             (const mz_linear *const[]){&ffn->w_gate, &ffn->w_up}));
    } else {
        MZ_TRY(mz_op_linear(s, &up, x, &ffn->w_up));
    }
    MZ_TRY(mz_op_gated_activation(s, &hidden, gated ? &gate : &up, gated ? &up : NULL,
                                  ffn->activation));
    MZ_TRY(mz_op_linear(s, y, &hidden, &ffn->w_down));
    mz_stream_release(s, mark);
    return MZ_OK;
}
