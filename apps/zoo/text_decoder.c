#include "apps/zoo/text_decoder.h"

#include <stdio.h>

enum { NAME_BYTES = 128 };

/* What loading needs at hand. */
typedef struct loading {
    mz_loader *l;
    const mz_text_config *c;
    mz_precision precision;
    int64_t layer;
} loading;

/* ---- names ---- */

/* "PREFIX.L.PART", where there is a layer. */
static const char *layer_name(const loading *g, const char *part, char out[NAME_BYTES]) {
    (void)snprintf(out, NAME_BYTES, "%s.%lld.%s", g->c->names.layer, (long long)g->layer, part);
    return out;
}

/* ---- single tensors ---- */

static mz_status load_linear(const loading *g, mz_linear *out, int64_t d_out, int64_t d_in,
                             bool bias, const char *name) {
    MZ_TRY(mz_loader_matrix(g->l, out, d_out, d_in, g->precision, "%s.weight", name));
    return bias ? mz_loader_vector(g->l, &out->bias, d_out, "%s.bias", name) : MZ_OK;
}

static mz_norm empty_norm(const mz_text_config *c) {
    return (mz_norm){.kind = c->norm_kind, .eps = (float)c->norm_eps, .offset = c->norm_offset};
}

static mz_status load_norm(const loading *g, mz_norm *out, int64_t n, const char *name) {
    *out = empty_norm(g->c);
    MZ_TRY(mz_loader_vector(g->l, &out->weight, n, "%s.weight", name));
    return g->c->norm_bias ? mz_loader_vector(g->l, &out->bias, n, "%s.bias", name) : MZ_OK;
}

static mz_status load_layer_norm(const loading *g, mz_norm *out, const char *part) {
    char name[NAME_BYTES];
    return load_norm(g, out, g->c->d_model, layer_name(g, part, name));
}

/* ---- attention ---- */

static mz_status load_head_norm(const loading *g, mz_norm *out, int64_t n_heads, const char *part) {
    const mz_text_config *c = g->c;
    char name[NAME_BYTES];
    char heads[NAME_BYTES + 8];
    (void)layer_name(g, part, name);
    *out = empty_norm(c);
    out->group = c->qk_norm == MZ_QK_NORM_WHOLE ? 0 : c->head_dim;
    if (c->qk_norm == MZ_QK_NORM_EACH_HEAD) {
        (void)snprintf(heads, sizeof heads, "%s.norms", name);
        return mz_loader_vectors(g->l, &out->weight, n_heads, c->head_dim, heads, "weight");
    }
    const int64_t n = c->qk_norm == MZ_QK_NORM_WHOLE ? n_heads * c->head_dim : c->head_dim;
    return mz_loader_vector(g->l, &out->weight, n, "%s.weight", name);
}

static mz_status load_plain_attention(const loading *g, mz_plain_attention *a) {
    const mz_text_config *c = g->c;
    const mz_text_names *names = &c->names;
    const int64_t d = c->d_model;
    char name[NAME_BYTES];
    a->has_qk_norm = c->qk_norm != MZ_QK_NORM_NONE;
    MZ_TRY(load_linear(g, &a->w_q, c->n_heads * c->head_dim, d, c->qkv_bias,
                       layer_name(g, names->w_q, name)));
    MZ_TRY(load_linear(g, &a->w_k, c->n_kv_heads * c->head_dim, d, c->qkv_bias,
                       layer_name(g, names->w_k, name)));
    MZ_TRY(load_linear(g, &a->w_v, c->n_kv_heads * c->head_dim_v, d, c->qkv_bias,
                       layer_name(g, names->w_v, name)));
    if (a->has_qk_norm) {
        MZ_TRY(load_head_norm(g, &a->q_norm, c->n_heads, names->q_norm));
        MZ_TRY(load_head_norm(g, &a->k_norm, c->n_kv_heads, names->k_norm));
    }
    return MZ_OK;
}

/* The names are those of DeepSeek, the only family that has it. */
static mz_status load_latent_attention(const loading *g, mz_latent_attention *a) {
    const mz_text_config *c = g->c;
    const int64_t own = c->head_dim - c->rope_dim;
    char name[NAME_BYTES];
    a->q_rank = c->q_rank;
    a->kv_rank = c->kv_rank;
    a->rope_dim = c->rope_dim;
    if (c->q_rank > 0) {
        MZ_TRY(load_linear(g, &a->w_q_down, c->q_rank, c->d_model, c->qkv_bias,
                           layer_name(g, "self_attn.q_a_proj", name)));
        MZ_TRY(load_norm(g, &a->q_norm, c->q_rank, layer_name(g, "self_attn.q_a_layernorm", name)));
    }
    MZ_TRY(load_linear(g, &a->w_q, c->n_heads * c->head_dim, c->q_rank > 0 ? c->q_rank : c->d_model,
                       false,
                       layer_name(g, c->q_rank > 0 ? "self_attn.q_b_proj" : c->names.w_q, name)));
    MZ_TRY(load_linear(g, &a->w_kv_down, c->kv_rank + c->rope_dim, c->d_model, c->qkv_bias,
                       layer_name(g, "self_attn.kv_a_proj_with_mqa", name)));
    MZ_TRY(load_norm(g, &a->kv_norm, c->kv_rank, layer_name(g, "self_attn.kv_a_layernorm", name)));
    return load_linear(g, &a->w_kv, c->n_heads * (own + c->head_dim_v), c->kv_rank, false,
                       layer_name(g, "self_attn.kv_b_proj", name));
}

static mz_status load_attention(const loading *g, mz_block *b) {
    const mz_text_config *c = g->c;
    char name[NAME_BYTES];
    MZ_TRY(b->is_latent ? load_latent_attention(g, &b->latent)
                        : load_plain_attention(g, &b->plain));
    return load_linear(g, &b->w_o, c->d_model, c->n_heads * c->head_dim_v, c->o_bias,
                       layer_name(g, c->names.w_o, name));
}

/* ---- feed-forward ---- */

static mz_status load_ffn(const loading *g, mz_ffn *ffn, int64_t width, bool bias,
                          const char *const names[3]) {
    const mz_text_config *c = g->c;
    char name[NAME_BYTES];
    ffn->activation = c->activation;
    if (c->gated) {
        MZ_TRY(
            load_linear(g, &ffn->w_gate, width, c->d_model, bias, layer_name(g, names[0], name)));
    }
    MZ_TRY(load_linear(g, &ffn->w_up, width, c->d_model, bias, layer_name(g, names[1], name)));
    return load_linear(g, &ffn->w_down, c->d_model, width, bias, layer_name(g, names[2], name));
}

static mz_status load_banks(const loading *g, mz_moe *moe) {
    const mz_text_config *c = g->c;
    const struct {
        mz_linear_bank *bank;
        const char *name;
        int64_t d_out, d_in;
    } banks[] = {{&moe->w_gate, c->names.expert_gate, c->expert_width, c->d_model},
                 {&moe->w_up, c->names.expert_up, c->expert_width, c->d_model},
                 {&moe->w_down, c->names.expert_down, c->d_model, c->expert_width}};
    char prefix[NAME_BYTES];
    (void)layer_name(g, c->names.experts, prefix);
    for (int i = 0; i < 3; i++) {
        char suffix[NAME_BYTES];
        (void)snprintf(suffix, sizeof suffix, "%s.weight", banks[i].name);
        MZ_TRY(mz_loader_bank(g->l, banks[i].bank, c->router.n_experts, banks[i].d_out,
                              banks[i].d_in, g->precision, prefix, suffix));
    }
    return MZ_OK;
}

static mz_status load_shared(const loading *g, mz_moe *moe) {
    const mz_text_config *c = g->c;
    const char *const parts[] = {c->names.expert_gate, c->names.expert_up, c->names.expert_down};
    char text[3][NAME_BYTES];
    char name[NAME_BYTES];
    for (int i = 0; i < 3; i++) {
        (void)snprintf(text[i], sizeof text[i], "%s.%s", c->names.shared, parts[i]);
    }
    const char *const names[] = {text[0], text[1], text[2]};
    moe->has_shared = true;
    MZ_TRY(load_ffn(g, &moe->shared, c->shared_width, false, names));
    if (!c->has_shared_gate) {
        return MZ_OK;
    }
    return mz_loader_matrix(g->l, &moe->shared_gate, 1, c->d_model, MZ_PRECISION_F32, "%s.weight",
                            layer_name(g, c->names.shared_gate, name));
}

static mz_status load_moe(const loading *g, mz_moe *moe) {
    const mz_text_config *c = g->c;
    char name[NAME_BYTES];
    moe->router = c->router;
    moe->activation = c->activation;
    MZ_TRY(mz_loader_matrix(g->l, &moe->router_proj, c->router.n_experts, c->d_model,
                            MZ_PRECISION_F32, "%s.weight", layer_name(g, c->names.router, name)));
    MZ_TRY(load_banks(g, moe));
    return c->shared_width > 0 ? load_shared(g, moe) : MZ_OK;
}

/* ---- blocks ---- */

static mz_status load_block(const loading *g, mz_block *b) {
    const mz_text_config *c = g->c;
    const mz_text_layer *layer = &c->layers[g->layer];
    const char *const dense[] = {c->names.w_gate, c->names.w_up, c->names.w_down};
    b->order = c->order;
    b->n_heads = c->n_heads;
    b->n_kv_heads = c->n_kv_heads;
    b->head_dim = c->head_dim;
    b->head_dim_v = c->head_dim_v;
    b->score_scale = (float)c->score_scale;
    b->window = layer->is_windowed ? c->window : 0;
    b->rope = layer->rope;
    b->is_latent = c->is_latent;
    b->has_experts = layer->has_experts;
    b->has_post_norms = c->post_norms;
    MZ_TRY(load_layer_norm(g, &b->attn_norm, c->names.attn_norm));
    MZ_TRY(load_attention(g, b));
    if (c->order != MZ_BLOCK_PARALLEL_ONE_NORM) {
        MZ_TRY(load_layer_norm(g, &b->ffn_norm, c->names.ffn_norm));
    }
    if (c->post_norms) {
        MZ_TRY(load_layer_norm(g, &b->attn_post_norm, c->names.attn_post_norm));
        MZ_TRY(load_layer_norm(g, &b->ffn_post_norm, c->names.ffn_post_norm));
    }
    return b->has_experts ? load_moe(g, &b->moe)
                          : load_ffn(g, &b->ffn, c->d_ff, c->ffn_bias, dense);
}

/* What some files hold beside the weights: tables of rotations, and the head that is the embedding.
 */
static void ignore_leftovers(mz_loader *l, const mz_text_config *c) {
    mz_loader_ignore(l, "rope_freqs.weight");
    for (int64_t i = 0; i < c->n_layers; i++) {
        mz_loader_ignore(l, "%s.%lld.self_attn.rotary_emb.inv_freq", c->names.layer, (long long)i);
    }
    if (c->tied) {
        mz_loader_ignore(l, "%s.weight", c->names.head);
    }
}

mz_status mz_text_blocks_create(mz_context *ctx, const mz_text_config *c, mz_decoder *out) {
    void *blocks = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_layers, sizeof(mz_block), "blocks", &blocks));
    *out = (mz_decoder){
        .d_model = c->d_model, .n_layers = c->n_layers, .blocks = blocks, .n_ropes = c->n_ropes};
    for (int i = 0; i < c->n_ropes; i++) {
        out->ropes[i] = c->ropes[i];
    }
    return MZ_OK;
}

mz_status mz_text_blocks_load(mz_loader *l, mz_decoder *decoder, const mz_text_config *c,
                              mz_precision precision) {
    loading g = {.l = l, .c = c, .precision = precision};
    for (; g.layer < c->n_layers; g.layer++) {
        MZ_TRY(load_block(&g, &decoder->blocks[g.layer]));
    }
    return load_norm(&g, &decoder->final_norm, c->d_model, c->names.final_norm);
}

/* Everything of the checkpoint; called twice (core/loader.h). */
static mz_status load_all(mz_text_decoder *t, const mz_text_config *c, mz_precision precision) {
    const loading g = {.l = &t->loader, .c = c, .precision = precision};
    mz_embedding *v = &t->embedding;
    MZ_TRY(load_linear(&g, &v->table, c->vocab_size, c->d_model, false, c->names.embedding));
    MZ_TRY(mz_text_blocks_load(&t->loader, &t->decoder, c, precision));
    ignore_leftovers(&t->loader, c);
    if (!c->tied) {
        return load_linear(&g, &v->head, c->vocab_size, c->d_model, c->head_bias, c->names.head);
    }
    v->head.weight = v->table.weight;
    v->head.precision = precision;
    return c->head_bias ? mz_loader_vector(&t->loader, &v->head.bias, c->vocab_size, "%s.bias",
                                           c->names.head)
                        : MZ_OK;
}

mz_status mz_text_decoder_open(mz_context *ctx, const mz_text_config *config,
                               const mz_backend *backend, const char *path,
                               const mz_loader_options *options, mz_precision precision,
                               mz_text_decoder *out) {
    MZ_TRY(mz_text_blocks_create(ctx, config, &out->decoder));
    out->embedding =
        (mz_embedding){.size = config->vocab_size, .scale = (float)config->embed_scale};
    MZ_TRY(mz_loader_open(ctx, backend, path, options, &out->loader));
    MZ_TRY(load_all(out, config, precision));
    MZ_TRY(mz_loader_begin_fill(&out->loader));
    return load_all(out, config, precision);
}

void mz_text_decoder_close(mz_context *ctx, mz_text_decoder *text) {
    mz_free(ctx, text->decoder.blocks);
    mz_loader_close(&text->loader);
    *text = (mz_text_decoder){0};
}
