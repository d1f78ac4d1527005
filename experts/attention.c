#include <math.h>

#include "experts/attention_internal.h"

const mz_rows *mz_block_out_rows(const mz_block_call *call) {
    return call->out_rows != NULL ? call->out_rows : call->rows;
}

/* Norm, where the block has one, and rotation. */
static mz_status finish_heads(mz_stream *s, mz_tensor *out, const mz_tensor *x, const mz_norm *norm,
                              const mz_block *block, const mz_block_call *call,
                              const mz_rows *rows) {
    mz_tensor normed = *x;
    if (norm != NULL) {
        MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "normed heads", &normed));
        MZ_TRY(mz_op_norm(s, &normed, x, norm));
    }
    MZ_TRY(mz_stream_take(s, x->shape[0], x->shape[1], "rotated heads", out));
    return mz_op_rope(s, out, &normed, &call->ropes[block->rope], rows);
}

/* ---- plain ---- */

/* Queries, keys and values before norm and rotation. The wanted rows are often all of them: then
 * their inputs are read once. */
static mz_status project_plain(mz_stream *s, mz_tensor *q, mz_tensor *k, mz_tensor *v,
                               const mz_tensor *normed_out, const mz_tensor *normed,
                               const mz_block *block) {
    const mz_plain_attention *a = &block->plain;
    const int64_t n = normed->shape[0];
    MZ_TRY(mz_stream_take(s, normed_out->shape[0], block->n_heads * block->head_dim, "queries", q));
    MZ_TRY(mz_stream_take(s, n, block->n_kv_heads * block->head_dim, "keys", k));
    MZ_TRY(mz_stream_take(s, n, block->n_kv_heads * block->head_dim_v, "values", v));
    const mz_tensor *y[] = {k, v, q};
    const mz_linear *w[] = {&a->w_k, &a->w_v, &a->w_q};
    if (normed_out->data == normed->data && normed_out->shape[0] == n) {
        return mz_op_linears(s, 3, y, normed, w);
    }
    MZ_TRY(mz_op_linears(s, 2, y, normed, w));
    return mz_op_linear(s, q, normed_out, &a->w_q);
}

static mz_status plain_heads(mz_stream *s, mz_qkv *out, const mz_tensor *normed_out,
                             const mz_tensor *normed, const mz_block *block,
                             const mz_block_call *call) {
    const mz_plain_attention *a = &block->plain;
    mz_tensor q;
    mz_tensor k;
    MZ_TRY(project_plain(s, &q, &k, &out->v, normed_out, normed, block));
    MZ_TRY(finish_heads(s, &out->q, &q, a->has_qk_norm ? &a->q_norm : NULL, block, call,
                        mz_block_out_rows(call)));
    return finish_heads(s, &out->k, &k, a->has_qk_norm ? &a->k_norm : NULL, block, call,
                        call->rows);
}

/* ---- latent ---- */

static mz_status latent_queries(mz_stream *s, mz_tensor *out, const mz_tensor *normed_out,
                                const mz_block *block, const mz_block_call *call) {
    const mz_latent_attention *a = &block->latent;
    const int64_t n = normed_out->shape[0];
    mz_tensor input = *normed_out;
    mz_tensor q;
    if (a->q_rank > 0) {
        mz_tensor narrow;
        MZ_TRY(mz_stream_take(s, n, a->q_rank, "narrow queries", &narrow));
        MZ_TRY(mz_stream_take(s, n, a->q_rank, "narrow queries", &input));
        MZ_TRY(mz_op_linear(s, &narrow, normed_out, &a->w_q_down));
        MZ_TRY(mz_op_norm(s, &input, &narrow, &a->q_norm));
    }
    MZ_TRY(mz_stream_take(s, n, block->n_heads * block->head_dim, "queries", &q));
    MZ_TRY(mz_op_linear(s, &q, &input, &a->w_q));
    return finish_heads(s, out, &q, NULL, block, call, mz_block_out_rows(call));
}

/* Columns [begin, begin + n) of each head, as a matrix with a row per head of each row of x, whose
 * rows lie without gaps. */
static mz_tensor head_columns(const mz_tensor *x, int64_t head_dim, int64_t begin, int64_t n) {
    const mz_tensor heads =
        mz_tensor_2d(MZ_DTYPE_F32, x->shape[0] * (x->shape[1] / head_dim), head_dim, x->data);
    return mz_tensor_cols(&heads, begin, n);
}

/* Keys and values from the expanded narrow rows `kv` and the rotated part `shared`, which each head
 * gets a copy of. */
static mz_status assemble_latent(mz_stream *s, const mz_qkv *out, const mz_tensor *kv,
                                 const mz_tensor *shared, const mz_block *block) {
    const int64_t own = block->head_dim - block->latent.rope_dim;
    const int64_t width = own + block->head_dim_v;
    const mz_tensor from[] = {head_columns(kv, width, 0, own),
                              head_columns(kv, width, own, block->head_dim_v)};
    const mz_tensor to[] = {head_columns(&out->k, block->head_dim, 0, own),
                            head_columns(&out->v, block->head_dim_v, 0, block->head_dim_v)};
    for (int i = 0; i < 2; i++) {
        MZ_TRY(mz_op_gather_rows(s, &to[i], &from[i], NULL, 1));
    }
    for (int64_t h = 0; h < block->n_heads; h++) {
        const mz_tensor part =
            mz_tensor_cols(&out->k, h * block->head_dim + own, block->latent.rope_dim);
        MZ_TRY(mz_op_gather_rows(s, &part, shared, NULL, 1));
    }
    return MZ_OK;
}

static mz_status latent_heads(mz_stream *s, mz_qkv *out, const mz_tensor *normed_out,
                              const mz_tensor *normed, const mz_block *block,
                              const mz_block_call *call) {
    const mz_latent_attention *a = &block->latent;
    const int64_t n = normed->shape[0];
    const int64_t own = block->head_dim - a->rope_dim;
    mz_rope_table table = call->ropes[block->rope];
    mz_tensor narrow;
    mz_tensor latent;
    mz_tensor shared;
    mz_tensor kv;
    MZ_TRY(latent_queries(s, &out->q, normed_out, block, call));
    MZ_TRY(mz_stream_take(s, n, a->kv_rank + a->rope_dim, "narrow keys", &narrow));
    MZ_TRY(mz_stream_take(s, n, a->kv_rank, "normed narrow keys", &latent));
    MZ_TRY(mz_stream_take(s, n, a->rope_dim, "shared keys", &shared));
    MZ_TRY(mz_stream_take(s, n, block->n_heads * (own + block->head_dim_v), "expanded keys", &kv));
    MZ_TRY(mz_stream_take(s, n, block->n_heads * block->head_dim, "keys", &out->k));
    MZ_TRY(mz_stream_take(s, n, block->n_heads * block->head_dim_v, "values", &out->v));
    MZ_TRY(mz_op_linear(s, &narrow, normed, &a->w_kv_down));
    const mz_tensor row = mz_tensor_cols(&narrow, 0, a->kv_rank);
    const mz_tensor part = mz_tensor_cols(&narrow, a->kv_rank, a->rope_dim);
    MZ_TRY(mz_op_norm(s, &latent, &row, &a->kv_norm));
    MZ_TRY(mz_op_linear(s, &kv, &latent, &a->w_kv));
    table.head_dim = a->rope_dim;
    table.first = 0;
    MZ_TRY(mz_op_rope(s, &shared, &part, &table, call->rows));
    return assemble_latent(s, out, &kv, &shared, block);
}

/* ---- both ---- */

static mz_status attention_of_rows(mz_stream *s, const mz_tensor *context, const mz_qkv *in,
                                   const mz_block *block, const mz_block_call *call) {
    const mz_attention_rule rule = {
        .scale = block->score_scale > 0 ? block->score_scale : 1.0f / sqrtf((float)block->head_dim),
        .window = block->window};
    if (call->cache != NULL) {
        MZ_TRY(mz_op_kv_write(s, call->cache, &in->k, &in->v, call->rows));
        return mz_op_attention(s, context, &in->q, call->cache, mz_block_out_rows(call), &rule);
    }
    mz_tensor log_sums;
    MZ_TRY(mz_stream_take(s, in->q.shape[0], block->n_heads, "attention sums", &log_sums));
    return mz_op_self_attention(s, context, &log_sums, in, call->rows, &rule);
}

mz_status mz_block_attend(mz_stream *s, const mz_tensor *out, const mz_tensor *normed_out,
                          const mz_tensor *normed, const mz_block *block,
                          const mz_block_call *call) {
    const size_t mark = mz_stream_mark(s);
    mz_qkv heads = {.head_dim = block->head_dim, .head_dim_v = block->head_dim_v};
    mz_tensor context;
    MZ_TRY(block->is_latent ? latent_heads(s, &heads, normed_out, normed, block, call)
                            : plain_heads(s, &heads, normed_out, normed, block, call));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "q", &heads.q));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "k", &heads.k));
    MZ_TRY(mz_trace_record(call->trace, s, call->layer, "v", &heads.v));
    MZ_TRY(mz_stream_take(s, normed_out->shape[0], block->n_heads * block->head_dim_v, "attention",
                          &context));
    MZ_TRY(attention_of_rows(s, &context, &heads, block, call));
    MZ_TRY(mz_op_linear(s, out, &context, &block->w_o));
    mz_stream_release(s, mark);
    return mz_trace_record(call->trace, s, call->layer, "attn_out", out);
}
