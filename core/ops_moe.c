/* The wrappers of ops that mixtures of experts are made of. */
#include "core/ops.h"

#include "core/backend.h"
#include "core/ops/composed.h"
#include "core/ops_internal.h"
#include "core/ops_record.h"
#include "core/profile.h"

/* A bank's type and rows. */
static mz_status check_bank(mz_stream *s, const char *op, const mz_linear_bank *bank) {
    const mz_dtype_info *type = mz_dtype_get(bank->dtype);
    if (!type->is_float) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "%s: expert weights are %s, expected a floating-point type", op, type->name);
    }
    if (bank->d_in % type->block_len != 0 || bank->ld % type->block_len != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "%s: expert weights are %s with rows of %lld elements, %lld apart, expected "
                       "multiples of %d",
                       op, type->name, (long long)bank->d_in, (long long)bank->ld, type->block_len);
    }
    return MZ_OK;
}

static mz_op_size routing_size(const mz_routing *r, int64_t d_in) {
    return (mz_op_size){
        .n_rows = r->n_tokens, .d_in = d_in, .n_experts = r->n_experts, .top_k = r->top_k};
}

static mz_status lacks(mz_stream *s, const char *op) {
    return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op %s",
                   s->backend->name, op);
}

mz_status mz_op_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                            const mz_router *router, const mz_rows *rows) {
    const mz_op_size size = {.n_rows = logits->shape[0], .n_experts = router->n_experts};
    MZ_TRY(mz_op_check_matrix(s, "mask_logits", "logits", logits, size.n_rows, router->n_experts));
    for (int m = 0; m < MZ_MODALITY_COUNT; m++) {
        const mz_expert_range range = router->ranges[m];
        if (in[m].n_dims == 0) {
            continue;
        }
        MZ_TRY(mz_op_check_matrix(s, "mask_logits", "logits of a modality", &in[m], size.n_rows,
                                  range.n));
        if (range.first < 0 || range.first > router->n_experts - range.n) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                           "mask_logits: experts %d to %d of modality %d, there are %d",
                           range.first, range.first + range.n - 1, m, router->n_experts);
        }
    }
    if (s->backend->mask_logits == NULL) {
        return lacks(s, "mask_logits");
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_MASK_LOGITS, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->mask_logits(s, logits, in, router, rows);
    MZ_TRY(mz_op_charge(s, MZ_OP_MASK_LOGITS, start, 0, status));
    return s->tape != NULL ? mz_record_mask_logits(s, logits, in, router, rows) : MZ_OK;
}

static mz_status check_router(mz_stream *s, const mz_router *router, const mz_routing *r) {
    MZ_TRY(mz_op_check_matrix(s, "route", "logits", &r->logits, r->n_tokens, router->n_experts));
    if (router->n_experts > MZ_MAX_EXPERTS || router->top_k < 1 || router->top_k != r->top_k ||
        router->top_k > router->n_experts) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "route: %d of %d experts in %d slots, of at most %d experts", router->top_k,
                       router->n_experts, r->top_k, (int)MZ_MAX_EXPERTS);
    }
    if (r->noise.n_dims > 0) {
        MZ_TRY(mz_op_check_matrix(s, "route", "noise", &r->noise, r->n_tokens, router->n_experts));
    }
    if (r->rows.n_rows != 0 && r->rows.n_rows != r->n_tokens) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "route: %lld rows, expected %lld",
                       (long long)r->rows.n_rows, (long long)r->n_tokens);
    }
    return MZ_OK;
}

mz_status mz_op_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    const mz_op_size size = routing_size(routing, routing->n_experts);
    MZ_TRY(check_router(s, router, routing));
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_ROUTE, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->route(s, router, routing);
    MZ_TRY(mz_op_charge(s, MZ_OP_ROUTE, start, 0, status));
    return s->tape != NULL ? mz_record_route(s, router, routing) : MZ_OK;
}

mz_status mz_op_dispatch(mz_stream *s, const mz_routing *routing) {
    const mz_op_size size = routing_size(routing, 0);
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_DISPATCH, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->dispatch(s, routing);
    return mz_op_charge(s, MZ_OP_DISPATCH, start, 0, status);
}

mz_status mz_op_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                               const mz_linear_bank *bank, const mz_routing *routing, bool gather) {
    mz_op_size size = routing_size(routing, bank->d_in);
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    size.n_rows = n_slots;
    size.d_out = bank->d_out;
    MZ_TRY(mz_op_check_matrix(s, "grouped_linear", "x", x, gather ? routing->n_tokens : n_slots,
                              bank->d_in));
    MZ_TRY(mz_op_check_matrix(s, "grouped_linear", "y", y, n_slots, bank->d_out));
    MZ_TRY(check_bank(s, "grouped_linear", bank));
    if (bank->deltas != NULL) {
        return mz_composed_grouped_linear(s, y, x, bank, routing, gather);
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_GROUPED_LINEAR, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->grouped_linear(s, y, x, bank, routing, gather);
    MZ_TRY(mz_op_charge(s, MZ_OP_GROUPED_LINEAR, start,
                        2.0 * (double)n_slots * (double)bank->d_in * (double)bank->d_out, status));
    return s->tape != NULL ? mz_record_grouped_linear(s, y, x, bank, routing, gather) : MZ_OK;
}

mz_status mz_op_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                              const mz_plain_experts *plain, const mz_routing *routing) {
    const bool only_silent = plain->n_constant + plain->n_copy == 0;
    const int64_t width = expert_out->shape[1];
    const mz_op_size size = routing_size(routing, width);
    MZ_TRY(mz_op_check_matrix(s, "plain_experts", "x", x, routing->n_tokens,
                              only_silent ? x->shape[1] : width));
    MZ_TRY(mz_op_check_matrix(s, "plain_experts", "expert_out", expert_out,
                              routing->n_tokens * routing->top_k, width));
    for (int32_t i = 0; i < plain->n_constant; i++) {
        const mz_constant_expert *c = &plain->constants[i];
        MZ_TRY(mz_op_check_matrix(s, "plain_experts", "w_mix", &c->w_mix, 2, width));
        if (c->value.n_dims != 1 || c->value.shape[0] != width || c->value.dtype != MZ_DTYPE_F32 ||
            c->w_mix.ld != width) {
            return mz_op_shape_error(s, "plain_experts", "value", &c->value, width, 1);
        }
    }
    if (s->backend->plain_experts == NULL) {
        return lacks(s, "plain_experts");
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_PLAIN_EXPERTS, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->plain_experts(s, expert_out, x, plain, routing);
    MZ_TRY(mz_op_charge(s, MZ_OP_PLAIN_EXPERTS, start, 0, status));
    return s->tape != NULL ? mz_record_plain_experts(s, expert_out, x, plain, routing) : MZ_OK;
}

mz_status mz_op_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                        const mz_routing *routing, const mz_tensor *shared_out,
                        const mz_tensor *shared_logit) {
    const int64_t n = routing->n_tokens;
    const int64_t width = y->shape[1];
    const mz_op_size size = routing_size(routing, width);
    MZ_TRY(mz_op_check_matrix(s, "combine", "y", y, n, width));
    MZ_TRY(mz_op_check_matrix(s, "combine", "expert_out", expert_out, n * routing->top_k, width));
    if (shared_out != NULL) {
        MZ_TRY(mz_op_check_matrix(s, "combine", "shared_out", shared_out, n, width));
    }
    if (shared_logit != NULL) {
        MZ_TRY(mz_op_check_matrix(s, "combine", "shared_logit", shared_logit, n, 1));
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_COMBINE, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->combine(s, y, expert_out, routing, shared_out, shared_logit);
    MZ_TRY(mz_op_charge(s, MZ_OP_COMBINE, start,
                        2.0 * (double)n * (double)width * (double)routing->top_k, status));
    return s->tape != NULL ? mz_record_combine(s, y, expert_out, routing, shared_out, shared_logit)
                           : MZ_OK;
}

/* An expert matrix of the layer: [d_out, d_in] for each of n experts. */
static mz_status check_expert_bank(mz_stream *s, const char *name, const mz_linear_bank *bank,
                                   int64_t n, int64_t d_out, int64_t d_in) {
    if (bank->n_experts != n || bank->d_in != d_in || bank->d_out != d_out) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "moe: expert matrix %s is %lld x [%lld, %lld], expected %lld x [%lld, %lld]",
                       name, (long long)bank->n_experts, (long long)bank->d_out,
                       (long long)bank->d_in, (long long)n, (long long)d_out, (long long)d_in);
    }
    return check_bank(s, "moe", bank);
}

static mz_status check_experts(mz_stream *s, const mz_moe *moe, int64_t d_in, int64_t d_out) {
    const mz_plain_experts *plain = &moe->plain;
    const int64_t n = moe->router.n_experts - plain->n_constant - plain->n_copy - plain->n_zero;
    if (n < 0 || moe->router.n_zero != plain->n_zero ||
        (plain->n_constant + plain->n_copy > 0 && (moe->lora != NULL || d_in != d_out))) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "moe: %d constant, %d copying and %d silent experts of %d (%d for the "
                       "router) do not go with these matrices",
                       plain->n_constant, plain->n_copy, plain->n_zero, moe->router.n_experts,
                       moe->router.n_zero);
    }
    if (moe->lora != NULL) {
        return MZ_OK; /* its products are checked one by one */
    }
    const int64_t d_ff = moe->w_up.d_out;
    if (moe->w_gate.n_experts > 0) {
        MZ_TRY(check_expert_bank(s, "gate", &moe->w_gate, n, d_ff, d_in));
    }
    MZ_TRY(check_expert_bank(s, "up", &moe->w_up, n, d_ff, d_in));
    return check_expert_bank(s, "down", &moe->w_down, n, d_out, d_ff);
}

static mz_status check_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                           const mz_routing *routing) {
    const int64_t n = x->shape[0];
    const int64_t d = x->shape[1];
    MZ_TRY(mz_op_check_matrix(s, "moe", "x", x, n, d));
    MZ_TRY(mz_op_check_matrix(s, "moe", "y", y, n, y->shape[1]));
    MZ_TRY(mz_op_check_matrix(s, "moe", "logits", &routing->logits, n, moe->router.n_experts));
    if (moe->router_of == NULL) {
        const bool deep = moe->router_hidden.weight.n_dims > 0;
        MZ_TRY(mz_op_check_linear(s, "moe router", &moe->router_proj, moe->router.n_experts,
                                  deep ? moe->router_hidden.weight.shape[0] : d));
    }
    return check_experts(s, moe, d, y->shape[1]);
}

static bool moe_has_deltas(const mz_moe *moe) {
    return moe->router_proj.deltas != NULL || moe->w_gate.deltas != NULL ||
           moe->w_up.deltas != NULL || moe->w_down.deltas != NULL ||
           (moe->has_shared &&
            (moe->shared_gate.deltas != NULL || mz_ffn_has_deltas(&moe->shared)));
}

/* What a backend's own version need know: one linear router, gated experts without
 * biases, of the width of x. */
static bool moe_is_common(const mz_moe *moe, bool same_width) {
    const mz_plain_experts *plain = &moe->plain;
    const bool one_router = moe->router_hidden.weight.n_dims == 0 &&
                            moe->router_residual.weight.n_dims == 0 && moe->router_of == NULL &&
                            !moe->router.by_modality;
    const bool gated = moe->w_gate.n_experts > 0 && moe->w_gate.bias == NULL &&
                       moe->w_up.bias == NULL && moe->w_down.bias == NULL &&
                       (!moe->has_shared || mz_ffn_is_plain(&moe->shared));
    return one_router && gated && same_width && moe->lora == NULL &&
           plain->n_constant + plain->n_copy + plain->n_zero == 0 &&
           (moe->input_scale == 0 || moe->input_scale == 1);
}

mz_status mz_op_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                    const mz_routing *routing, mz_moe_probe *probe) {
    MZ_TRY(check_moe(s, y, x, moe, routing));
    if (s->backend->moe == NULL || s->tape != NULL || probe != NULL || moe_has_deltas(moe) ||
        !moe_is_common(moe, x->shape[1] == y->shape[1])) {
        return mz_composed_moe(s, y, x, moe, routing, probe);
    }
    mz_op_size size = routing_size(routing, x->shape[1]);
    size.d_out = size.d_in;
    size.d_ff = moe->w_gate.d_out;
    size.d_ff_shared = moe->has_shared ? moe->shared.w_up.weight.shape[0] : 0;
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_MOE, &size, &status)) {
        return status;
    }
    const double width = (double)size.d_ff * routing->top_k + (double)size.d_ff_shared;
    const double start = mz_op_clock(s);
    status = s->backend->moe(s, y, x, moe, routing);
    return mz_op_charge(
        s, MZ_OP_MOE, start,
        (double)size.n_rows * (double)size.d_in * (6.0 * width + 2.0 * size.n_experts), status);
}

mz_status mz_routing_take(mz_stream *s, int64_t n_tokens, const mz_router *router,
                          mz_routing *out) {
    const size_t n_slots = (size_t)n_tokens * (size_t)router->top_k;
    mz_routing r = {.n_tokens = n_tokens, .n_experts = router->n_experts, .top_k = router->top_k};
    void *ids = NULL;
    void *weights = NULL;
    void *offsets = NULL;
    void *row_index = NULL;
    void *slot_row = NULL;
    MZ_TRY(mz_stream_take(s, n_tokens, router->n_experts, "router logits", &r.logits));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "expert ids", &ids));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(float), "gate weights", &weights));
    MZ_TRY(mz_stream_take_bytes(s, ((size_t)router->n_experts + 1) * sizeof(int32_t),
                                "expert offsets", &offsets));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "row index", &row_index));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "slot rows", &slot_row));
    r.expert_ids = ids;
    r.gate_weights = weights;
    r.expert_offsets = offsets;
    r.row_index = row_index;
    r.slot_row = slot_row;
    *out = r;
    return MZ_OK;
}
