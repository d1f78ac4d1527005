#include "core/ops/cpu/cpu_linear.h"

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/quantised_internal.h"

static mz_matrix matrix_of_linear(const mz_linear *w) {
    const mz_tensor *t = &w->weight;
    return (mz_matrix){.data = t->data,
                       .dtype = t->dtype,
                       .precision = w->precision,
                       .d_out = t->shape[0],
                       .d_in = t->shape[1],
                       .ld = t->ld,
                       .bias = w->bias.n_dims > 0 ? w->bias.data : NULL};
}

static mz_matrix matrix_of_bank(const mz_linear_bank *bank) {
    return (mz_matrix){.dtype = bank->dtype,
                       .precision = bank->precision,
                       .d_out = bank->d_out,
                       .d_in = bank->d_in,
                       .ld = bank->ld};
}

static mz_row_source all_rows(const mz_tensor *x) {
    return (mz_row_source){.x = x->data, .ld = x->ld, .divisor = 1};
}

/* The token of each sorted row. */
static mz_row_source routed_rows(const mz_tensor *x, const mz_routing *routing) {
    return (mz_row_source){
        .x = x->data, .ld = x->ld, .index = routing->row_index, .divisor = routing->top_k};
}

mz_status mz_cpu_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    const mz_product_set set = {.out = matrix_of_linear(w),
                                .n_experts = 1,
                                .n_rows = x->shape[0],
                                .source = all_rows(x),
                                .y = y};
    return mz_products_run(s, &set, 1);
}

static void add_bank_bias(const mz_tensor *y, const mz_linear_bank *bank,
                          const mz_routing *routing) {
    for (int64_t e = 0; e < bank->n_experts; e++) {
        const float *bias = bank->bias[e];
        for (int64_t i = routing->expert_offsets[e]; i < routing->expert_offsets[e + 1]; i++) {
            float *out = mz_tensor_f32(y, i);
            for (int64_t o = 0; o < bank->d_out; o++) {
                out[o] += bias[o];
            }
        }
    }
}

mz_status mz_cpu_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const mz_linear_bank *bank, const mz_routing *routing,
                                bool gather) {
    const mz_product_set set = {
        .out = matrix_of_bank(bank),
        .out_data = bank->data,
        .expert_offsets = routing->expert_offsets,
        .n_experts = (int32_t)bank->n_experts,
        .n_rows = routing->n_tokens * routing->top_k,
        .source = gather ? routed_rows(x, routing) : all_rows(x),
        .y = y,
    };
    MZ_TRY(mz_products_run(s, &set, 1));
    if (bank->bias != NULL) {
        add_bank_bias(y, bank, routing);
    }
    return MZ_OK;
}

/* Whether one packed form of x serves both. */
static bool share_inputs(const mz_stream *s, const mz_matrix *a, const mz_matrix *b) {
    const mz_precision precision = mz_product_precision(a->dtype, a->precision);
    return precision == mz_product_precision(b->dtype, b->precision) &&
           mz_product_kernels_for(s->ctx->isa, a->dtype, a->precision) ==
               mz_product_kernels_for(s->ctx->isa, b->dtype, b->precision) &&
           (precision != MZ_PRECISION_INT8 ||
            mz_quantised_block(a->dtype) == mz_quantised_block(b->dtype));
}

/* Matrices that do not share the first one's form are left for another round. */
mz_status mz_cpu_linears(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                         const mz_linear *const *w) {
    bool done[MZ_MAX_LINEARS] = {false};
    for (int i = 0; i < n; i++) {
        mz_matrix also[MZ_MAX_LINEARS];
        const mz_tensor *also_y[MZ_MAX_LINEARS];
        mz_product_set set = {.out = matrix_of_linear(w[i]),
                              .n_experts = 1,
                              .n_rows = x->shape[0],
                              .source = all_rows(x),
                              .y = y[i],
                              .also = also,
                              .also_y = also_y};
        for (int j = i + 1; j < n && !done[i]; j++) {
            const mz_matrix other = matrix_of_linear(w[j]);
            if (!done[j] && share_inputs(s, &set.out, &other)) {
                also[set.n_also] = other;
                also_y[set.n_also++] = y[j];
                done[j] = true;
            }
        }
        if (!done[i]) {
            MZ_TRY(mz_products_run(s, &set, 1));
        }
    }
    return MZ_OK;
}

static mz_product_set ffn_set(const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn) {
    return (mz_product_set){
        .activation = ffn->activation,
        .gate = matrix_of_linear(&ffn->w_gate),
        .up = matrix_of_linear(&ffn->w_up),
        .out = matrix_of_linear(&ffn->w_down),
        .n_experts = 1,
        .n_rows = x->shape[0],
        .source = all_rows(x),
        .y = y,
    };
}

mz_status mz_cpu_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn) {
    const mz_product_set set = ffn_set(y, x, ffn);
    return mz_products_run(s, &set, 1);
}

static mz_product_set expert_set(const mz_tensor *expert_out, const mz_tensor *x, const mz_moe *moe,
                                 const mz_routing *routing) {
    return (mz_product_set){
        .activation = moe->activation,
        .gate = matrix_of_bank(&moe->w_gate),
        .up = matrix_of_bank(&moe->w_up),
        .out = matrix_of_bank(&moe->w_down),
        .gate_data = moe->w_gate.data,
        .up_data = moe->w_up.data,
        .out_data = moe->w_down.data,
        .expert_offsets = routing->expert_offsets,
        .n_experts = routing->n_experts,
        .n_rows = routing->n_tokens * routing->top_k,
        .source = routed_rows(x, routing),
        .y = expert_out,
    };
}

static mz_status run_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                         const mz_routing *routing) {
    const int64_t n = x->shape[0];
    mz_tensor expert_out;
    mz_tensor shared_out = {0};
    mz_tensor shared_logit = {0};
    MZ_TRY(mz_cpu_linear(s, &routing->logits, x, &moe->router_proj));
    MZ_TRY(s->backend->route(s, &moe->router, routing));
    MZ_TRY(s->backend->dispatch(s, routing));
    MZ_TRY(mz_stream_take(s, n * routing->top_k, x->shape[1], "expert outputs", &expert_out));
    if (!moe->has_shared) {
        const mz_product_set set = expert_set(&expert_out, x, moe, routing);
        MZ_TRY(mz_products_run(s, &set, 1));
        return s->backend->combine(s, y, &expert_out, routing, NULL, NULL);
    }
    MZ_TRY(mz_stream_take(s, n, x->shape[1], "shared expert output", &shared_out));
    const bool gated = moe->shared_gate.weight.n_dims > 0;
    if (gated) {
        MZ_TRY(mz_stream_take(s, n, 1, "shared expert gate", &shared_logit));
        MZ_TRY(mz_cpu_linear(s, &shared_logit, x, &moe->shared_gate));
    }
    /* The shared expert's segments are the longest: first, so that no thread waits for one at the
     * end. */
    const mz_product_set sets[MZ_PRODUCT_SETS] = {ffn_set(&shared_out, x, &moe->shared),
                                                  expert_set(&expert_out, x, moe, routing)};
    MZ_TRY(mz_products_run(s, sets, MZ_PRODUCT_SETS));
    return s->backend->combine(s, y, &expert_out, routing, &shared_out,
                               gated ? &shared_logit : NULL);
}

mz_status mz_cpu_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                     const mz_routing *routing) {
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_status status = run_moe(s, y, x, moe, routing);
    mz_arena_release(&s->arena, mark);
    return status;
}

/* ---- Scratch ---- */

static size_t matrix_bytes(int64_t n_rows, int64_t n_columns) {
    const size_t bytes = (size_t)n_rows * (size_t)n_columns * sizeof(float);
    return (bytes + MZ_ARENA_ALIGNMENT - 1) / MZ_ARENA_ALIGNMENT * MZ_ARENA_ALIGNMENT;
}

/* Routing, dispatch and combination take none. */
static size_t moe_scratch(const mz_stream *s, const mz_op_size *size) {
    const int64_t n = size->n_rows;
    const int64_t n_slots = n * size->top_k;
    const mz_product_size router = {.n_rows = n, .d_in = size->d_in, .n_experts = 1};
    const mz_product_size sets[MZ_PRODUCT_SETS] = {
        {.n_rows = n_slots, .d_in = size->d_in, .d_ff = size->d_ff, .n_experts = size->n_experts},
        {.n_rows = n, .d_in = size->d_in, .d_ff = size->d_ff_shared, .n_experts = 1},
    };
    const size_t outputs =
        matrix_bytes(n_slots, size->d_in) + matrix_bytes(n, size->d_in) + matrix_bytes(n, 1);
    const size_t routing = mz_products_scratch(s, &router, 1);
    const size_t experts = mz_products_scratch(s, sets, size->d_ff_shared > 0 ? 2 : 1);
    return outputs + (experts > routing ? experts : routing);
}

size_t mz_cpu_linear_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size) {
    const mz_product_size product = {.n_rows = size->n_rows, .d_in = size->d_in, .n_experts = 1};
    const mz_product_size grouped = {
        .n_rows = size->n_rows, .d_in = size->d_in, .n_experts = size->n_experts};
    const mz_product_size ffn = {
        .n_rows = size->n_rows, .d_in = size->d_in, .d_ff = size->d_ff, .n_experts = 1};
    switch (op) {
    case MZ_OP_LINEAR:
        return mz_products_scratch(s, &product, 1);
    case MZ_OP_GROUPED_LINEAR:
        return mz_products_scratch(s, &grouped, 1);
    case MZ_OP_FFN:
        return mz_products_scratch(s, &ffn, 1);
    case MZ_OP_MOE:
        return moe_scratch(s, size);
    default:
        return mz_cpu_linear_backward_scratch(s, op, size);
    }
}
