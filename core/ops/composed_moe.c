/* A mixture layer of any kind of router and experts, composed from primitives. */
#include "core/ops/composed.h"

static bool has_matrix(const mz_linear *w) {
    return w->weight.n_dims > 0;
}

/* ---- Logits ---- */

/* Logits of one router for all experts, or `out` columns of it. */
static mz_status plain_logits(mz_stream *s, const mz_tensor *out, const mz_tensor *x,
                              const mz_moe *moe) {
    const int64_t n = x->shape[0];
    mz_tensor hidden;
    mz_tensor bent;
    if (!has_matrix(&moe->router_hidden)) {
        return mz_op_linear(s, out, x, &moe->router_proj);
    }
    const int64_t width = moe->router_hidden.weight.shape[0];
    MZ_TRY(mz_stream_take(s, n, width, "router hidden", &hidden));
    MZ_TRY(mz_stream_take(s, n, width, "router tanh", &bent));
    MZ_TRY(mz_op_linear(s, &hidden, x, &moe->router_hidden));
    MZ_TRY(mz_op_gated_activation(s, &bent, &hidden, NULL, MZ_ACTIVATION_TANH));
    return mz_op_linear(s, out, &bent, &moe->router_proj);
}

/* The same plus what the previous layer's logits say. */
static mz_status residual_logits(mz_stream *s, const mz_tensor *out, const mz_tensor *x,
                                 const mz_moe *moe, const mz_routing *routing) {
    mz_tensor own;
    mz_tensor carried;
    if (!has_matrix(&moe->router_residual) || routing->previous_logits.n_dims == 0) {
        return plain_logits(s, out, x, moe);
    }
    MZ_TRY(mz_stream_take(s, out->shape[0], out->shape[1], "own router logits", &own));
    MZ_TRY(mz_stream_take(s, out->shape[0], out->shape[1], "carried router logits", &carried));
    MZ_TRY(plain_logits(s, &own, x, moe));
    MZ_TRY(mz_op_linear(s, &carried, &routing->previous_logits, &moe->router_residual));
    return mz_op_add(s, out, &own, &carried, 1);
}

/* Each row sees its modality's range: of one router's logits, or of a router of its own. */
static mz_status modality_logits(mz_stream *s, const mz_tensor *x, const mz_moe *moe,
                                 const mz_routing *routing) {
    const int64_t n = x->shape[0];
    mz_tensor in[MZ_MODALITY_COUNT] = {0};
    mz_tensor all = {0};
    if (moe->router_of == NULL) {
        MZ_TRY(mz_stream_take(s, n, moe->router.n_experts, "unmasked router logits", &all));
        MZ_TRY(residual_logits(s, &all, x, moe, routing));
    }
    for (int m = 0; m < MZ_MODALITY_COUNT; m++) {
        const mz_expert_range range = moe->router.ranges[m];
        if (moe->router_of == NULL && range.n > 0) {
            in[m] = mz_tensor_cols(&all, range.first, range.n);
        } else if (moe->router_of != NULL && has_matrix(&moe->router_of[m])) {
            MZ_TRY(mz_stream_take(s, n, range.n, "router logits of a modality", &in[m]));
            MZ_TRY(mz_op_linear(s, &in[m], x, &moe->router_of[m]));
        }
    }
    return mz_op_mask_logits(s, &routing->logits, in, &moe->router, &routing->rows);
}

static mz_status router_logits(mz_stream *s, const mz_tensor *x, const mz_moe *moe,
                               const mz_routing *routing) {
    const size_t mark = mz_stream_mark(s);
    if (moe->router.by_modality) {
        MZ_TRY(modality_logits(s, x, moe, routing));
    } else {
        MZ_TRY(residual_logits(s, &routing->logits, x, moe, routing));
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* ---- Experts ---- */

/* Outputs of the experts that have matrices, a row per slot in sorted order. */
static mz_status matrix_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                                const mz_moe *moe, const mz_routing *routing) {
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    const size_t mark = mz_stream_mark(s);
    const bool gated = moe->w_gate.n_experts > 0;
    mz_tensor gate;
    mz_tensor up;
    mz_tensor hidden;
    if (gated) {
        MZ_TRY(mz_stream_take(s, n_slots, moe->w_up.d_out, "expert gate", &gate));
        MZ_TRY(mz_op_grouped_linear(s, &gate, x, &moe->w_gate, routing, true));
    }
    MZ_TRY(mz_stream_take(s, n_slots, moe->w_up.d_out, "expert up", &up));
    MZ_TRY(mz_stream_take(s, n_slots, moe->w_up.d_out, "expert hidden", &hidden));
    MZ_TRY(mz_op_grouped_linear(s, &up, x, &moe->w_up, routing, true));
    MZ_TRY(mz_op_gated_activation(s, &hidden, gated ? &gate : &up, gated ? &up : NULL,
                                  moe->activation));
    MZ_TRY(mz_op_grouped_linear(s, expert_out, &hidden, &moe->w_down, routing, false));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* x as the routed experts see it. */
static mz_status expert_input(mz_stream *s, mz_tensor *out, const mz_tensor *x, float scale) {
    *out = *x;
    if (scale == 0 || scale == 1) {
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "expert inputs", out));
    return mz_op_add(s, out, x, x, scale - 1);
}

static bool has_plain(const mz_plain_experts *plain) {
    return plain->n_constant + plain->n_copy + plain->n_zero > 0;
}

static mz_status routed_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                                const mz_moe *moe, const mz_routing *routing) {
    mz_tensor in;
    MZ_TRY(expert_input(s, &in, x, moe->input_scale));
    MZ_TRY(matrix_experts(s, expert_out, &in, moe, routing));
    return has_plain(&moe->plain) ? mz_op_plain_experts(s, expert_out, &in, &moe->plain, routing)
                                  : MZ_OK;
}

/* ---- Low-rank experts ---- */

/* y = base x + scale sum over chosen experts of gate_weight B (A x). */
static mz_status adapted_product(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                 const mz_linear *base, const mz_low_rank_bank *experts,
                                 const mz_moe *moe, const mz_routing *routing) {
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    const int64_t d_out = y->shape[1];
    mz_tensor product;
    mz_tensor low;
    mz_tensor delta;
    mz_tensor sum;
    MZ_TRY(mz_stream_take(s, y->shape[0], d_out, "base product", &product));
    MZ_TRY(mz_stream_take(s, n_slots, experts->a.d_out, "low-rank inputs", &low));
    MZ_TRY(mz_stream_take(s, n_slots, d_out, "low-rank products", &delta));
    MZ_TRY(mz_stream_take(s, y->shape[0], d_out, "mixed low-rank products", &sum));
    MZ_TRY(mz_op_linear(s, &product, x, base));
    MZ_TRY(mz_op_grouped_linear(s, &low, x, &experts->a, routing, true));
    MZ_TRY(mz_op_grouped_linear(s, &delta, &low, &experts->b, routing, false));
    if (moe->plain.n_zero > 0) {
        const mz_plain_experts silent = {.n_zero = moe->plain.n_zero};
        MZ_TRY(mz_op_plain_experts(s, &delta, &sum, &silent, routing));
    }
    MZ_TRY(mz_op_combine(s, &sum, &delta, routing, NULL, NULL));
    return mz_op_add(s, y, &product, &sum, experts->scale);
}

static mz_status lora_experts(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                              const mz_moe *moe, const mz_routing *routing) {
    const mz_lora_experts *lora = moe->lora;
    const int64_t d_ff = lora->base.w_up.weight.shape[0];
    const bool gated = has_matrix(&lora->base.w_gate);
    const size_t mark = mz_stream_mark(s);
    mz_tensor in;
    mz_tensor gate;
    mz_tensor up;
    mz_tensor hidden;
    MZ_TRY(expert_input(s, &in, x, moe->input_scale));
    MZ_TRY(mz_stream_take(s, x->shape[0], d_ff, "ffn up", &up));
    MZ_TRY(mz_stream_take(s, x->shape[0], d_ff, "ffn hidden", &hidden));
    MZ_TRY(adapted_product(s, &up, &in, &lora->base.w_up, &lora->up, moe, routing));
    if (gated) {
        MZ_TRY(mz_stream_take(s, x->shape[0], d_ff, "ffn gate", &gate));
        MZ_TRY(adapted_product(s, &gate, &in, &lora->base.w_gate, &lora->gate, moe, routing));
    }
    MZ_TRY(mz_op_gated_activation(s, &hidden, gated ? &gate : &up, gated ? &up : NULL,
                                  lora->base.activation));
    MZ_TRY(adapted_product(s, y, &hidden, &lora->base.w_down, &lora->down, moe, routing));
    mz_stream_release(s, mark);
    return MZ_OK;
}

/* ---- The layer ---- */

typedef struct shared_part {
    mz_tensor out, logit; /* absent without shared expert or gate */
} shared_part;

static mz_status shared_expert(mz_stream *s, shared_part *out, const mz_tensor *x,
                               const mz_moe *moe, int64_t width) {
    *out = (shared_part){0};
    if (!moe->has_shared) {
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take(s, x->shape[0], width, "shared expert output", &out->out));
    MZ_TRY(mz_op_ffn(s, &out->out, x, &moe->shared));
    if (has_matrix(&moe->shared_gate)) {
        MZ_TRY(mz_stream_take(s, x->shape[0], 1, "shared expert gate", &out->logit));
        MZ_TRY(mz_op_linear(s, &out->logit, x, &moe->shared_gate));
    }
    return MZ_OK;
}

/* Low-rank experts are mixed inside; what is left is one row a token, of weight 1, to which the
 * shared expert is added. */
static mz_status mix_lora(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                          const mz_routing *routing, const shared_part *shared) {
    const bool has_shared = moe->has_shared;
    mz_tensor out = *y;
    if (!has_shared) {
        return lora_experts(s, y, x, moe, routing);
    }
    MZ_TRY(mz_stream_take(s, y->shape[0], y->shape[1], "adapted ffn", &out));
    MZ_TRY(lora_experts(s, &out, x, moe, routing));
    return shared->logit.n_dims == 0
               ? mz_op_add(s, y, &out, &shared->out, 1)
               : mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                         "moe: low-rank experts beside a gated shared expert");
}

mz_status mz_composed_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                          const mz_routing *routing, mz_moe_probe *probe) {
    const size_t mark = mz_stream_mark(s);
    const int64_t width = y->shape[1];
    mz_tensor expert_out = {0};
    shared_part shared;
    if (moe->lora == NULL) {
        MZ_TRY(
            mz_stream_take(s, x->shape[0] * routing->top_k, width, "expert outputs", &expert_out));
    }
    MZ_TRY(router_logits(s, x, moe, routing));
    MZ_TRY(mz_op_route(s, &moe->router, routing));
    MZ_TRY(mz_op_dispatch(s, routing));
    if (moe->lora == NULL) {
        MZ_TRY(routed_experts(s, &expert_out, x, moe, routing));
    }
    MZ_TRY(shared_expert(s, &shared, x, moe, width));
    if (moe->lora != NULL) {
        MZ_TRY(mix_lora(s, y, x, moe, routing, &shared));
    } else {
        MZ_TRY(mz_op_combine(s, y, &expert_out, routing, shared.out.n_dims > 0 ? &shared.out : NULL,
                             shared.logit.n_dims > 0 ? &shared.logit : NULL));
    }
    if (probe != NULL) {
        *probe = (mz_moe_probe){.shared_logit = shared.logit, .shared_out = shared.out};
    }
    mz_stream_release(s, mark);
    return MZ_OK;
}
