/* The description of a language model that all families map their config.json onto, and what they
 * share in reading one.
 *
 * A family file fills an mz_text_config from the fields of its config and, where its tensors are
 * called otherwise than LLaMA's, changes the names. What the description cannot say is UNSUPPORTED.
 */
#ifndef MZ_APPS_ZOO_TEXT_CONFIG_H
#define MZ_APPS_ZOO_TEXT_CONFIG_H

#include "core/json.h"
#include "experts/block.h"
#include "llm/rope.h"

enum {
    MZ_MAX_TEXT_LAYERS = 1024,
    MZ_MAX_TEXT_WIDTH = 1 << 17,
    MZ_MAX_TEXT_FFN_WIDTH = 1 << 20,
    MZ_MAX_TEXT_VOCABULARY = 1 << 22,
    MZ_MAX_TEXT_POSITIONS = 1 << 24,
    MZ_MAX_TEXT_HEADS = 1024,
    MZ_MAX_END_TOKENS = 8,
};

/* Norms of queries and keys before their rotation. */
typedef enum mz_text_qk_norm {
    MZ_QK_NORM_NONE = 0,
    MZ_QK_NORM_HEAD,      /* of each head, one weight for all */
    MZ_QK_NORM_EACH_HEAD, /* of each head, with a tensor "NAME.norms.H.weight" of its own */
    MZ_QK_NORM_WHOLE,     /* of the whole projection */
} mz_text_qk_norm;

/* Names of tensors, without ".weight" and ".bias"; those of a layer go behind "PREFIX.L." */
typedef struct mz_text_names {
    const char *embedding, *final_norm, *head, *layer;
    const char *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm;
    const char *w_q, *w_k, *w_v, *w_o, *q_norm, *k_norm;
    const char *w_gate, *w_up, *w_down; /* of a dense layer */
    const char *router, *experts;
    const char *expert_gate, *expert_up, *expert_down; /* behind "EXPERTS.E." and "SHARED." */
    const char *shared, *shared_gate;
} mz_text_names;

/* Of one layer. */
typedef struct mz_text_layer {
    bool is_windowed; /* sees config->window positions */
    bool has_experts; /* else it is dense */
    uint8_t rope;     /* which of config->ropes */
} mz_text_layer;

typedef struct mz_text_config {
    int64_t vocab_size, d_model, n_layers, n_heads, n_kv_heads;
    int64_t head_dim, head_dim_v;
    int64_t d_ff; /* of dense layers */
    int64_t max_positions;
    int32_t end_tokens[MZ_MAX_END_TOKENS];
    int n_end_tokens;
    mz_text_layer layers[MZ_MAX_TEXT_LAYERS];

    mz_block_order order;
    mz_norm_kind norm_kind;
    double norm_eps;
    float norm_offset; /* added to norm weights */
    bool norm_bias, post_norms;
    mz_text_qk_norm qk_norm;
    bool qkv_bias, o_bias, ffn_bias, head_bias;
    bool tied;  /* the head's matrix is the embedding's */
    bool gated; /* feed-forward networks have a gate */
    mz_activation activation;
    double score_scale; /* 0: 1 / sqrt(head_dim) */
    double embed_scale;
    int64_t window;
    mz_rope ropes[2];
    int n_ropes;

    mz_router router; /* of layers with experts; n_experts 0: there are none */
    int64_t expert_width;
    int64_t shared_width; /* 0: no shared expert */
    bool has_shared_gate; /* else it weighs 1 */

    bool is_latent; /* mz_latent_attention */
    int64_t q_rank, kv_rank, rope_dim;

    mz_text_names names;
} mz_text_config;

/* Sets what most families have: LLaMA's names, RMS norms, SiLU with a gate, one rotation of whole
 * heads, own head. Reads vocab_size, hidden_size, num_hidden_layers, num_attention_heads,
 * num_key_value_heads (as many as heads without it), head_dim (hidden_size / heads without it),
 * intermediate_size, max_position_embeddings, rms_norm_eps, tie_word_embeddings, eos_token_id,
 * hidden_act, rope_theta and rope_scaling, or instead of them rope_parameters, and rope_interleaved
 * (apps/zoo/gguf_map.h). Errors: those of core/json.h; UNSUPPORTED. */
mz_status mz_text_read_common(const mz_json_object *o, mz_text_config *c);

/* head_dim again, for families that have a fixed width where it is absent; the rotation is of whole
 * heads then. */
mz_status mz_text_read_head_dim(const mz_json_object *o, int64_t fallback, mz_text_config *c);

/* rope_parameters, where transformers 5 keeps theta, scaling and share of a rotation, or what it
 * has for one `kind` of layer; out->object NULL: there are none. Errors: FORMAT. */
mz_status mz_text_read_rope_parameters(const mz_json_object *o, const char *kind,
                                       mz_json_object *out);

/* The activation that `key` names, as transformers spell it. Errors: UNSUPPORTED, naming the known
 * ones. */
mz_status mz_text_read_activation(const mz_json_object *o, const char *key, const char *fallback,
                                  mz_activation *out);

/* Rotates only the first `partial_rotary_factor` of each head (the fallback without it). */
mz_status mz_text_read_partial_rotary(const mz_json_object *o, double fallback, mz_text_config *c);

/* A window in all layers: sliding_window, where it is a number; with `guarded` only where
 * use_sliding_window is true, and then from layer max_window_layers on. */
mz_status mz_text_read_window(const mz_json_object *o, bool guarded, mz_text_config *c);

/* Experts in all layers but those of mlp_only_layers and, with decoder_sparse_step s, those whose
 * number (from 1) is no multiple of s. `n_experts` names the field with their number. Reads
 * num_experts_per_tok. */
mz_status mz_text_read_experts(const mz_json_object *o, const char *n_experts, mz_text_config *c);

/* That sizes fit each other, after a family has filled all in. Errors: FORMAT, UNSUPPORTED, those
 * of mz_router_validate. */
mz_status mz_text_check(const mz_json_object *o, const mz_text_config *c);

/* Parameters of the model, and those that a token uses. */
void mz_text_count(const mz_text_config *c, int64_t *n_parameters, int64_t *n_active);

#endif
