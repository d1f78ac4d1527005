/* Gemma 3, text (Gemma team 2025): embeddings times sqrt(hidden_size), norms of weight w + 1 before
 * and behind each half, norms of queries and keys, windows on most layers, which rotate with a base
 * of their own. */
#include "apps/zoo/text_families.h"

#include <math.h>
#include <string.h>

/* Layers see all positions where layer_types says so, or each sliding_window_pattern-th. */
static mz_status read_layers(const mz_json_object *o, mz_text_config *c) {
    const json_t *types = json_object_get(o->object, "layer_types");
    int64_t pattern = 6;
    MZ_TRY(mz_json_int_or(o, "_sliding_window_pattern", pattern, 1, MZ_MAX_TEXT_LAYERS, &pattern));
    MZ_TRY(mz_json_int_or(o, "sliding_window_pattern", pattern, 1, MZ_MAX_TEXT_LAYERS, &pattern));
    for (int64_t l = 0; l < c->n_layers; l++) {
        bool local = (l + 1) % pattern != 0;
        if (types != NULL && !json_is_null(types)) {
            const char *type = json_string_value(json_array_get(types, (size_t)l));
            local = type != NULL && strcmp(type, "sliding_attention") == 0;
            if (!local && (type == NULL || strcmp(type, "full_attention") != 0)) {
                return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                               "%s: layer_types has \"%s\" for layer %lld, known are: "
                               "sliding_attention, full_attention",
                               o->name, type != NULL ? type : "nothing", (long long)l);
            }
        }
        c->layers[l].is_windowed = local;
        c->layers[l].rope = local ? 1 : 0;
    }
    return MZ_OK;
}

/* Of the layers with a window: unscaled. */
static mz_status read_local_rope(const mz_json_object *o, mz_text_config *c) {
    mz_rope *rope = &c->ropes[1];
    mz_json_object newer;
    c->n_ropes = 2;
    *rope = (mz_rope){
        .n_dims = c->head_dim, .head_dim = c->head_dim, .interleaved = c->ropes[0].interleaved};
    MZ_TRY(mz_json_number_or(o, "rope_local_base_freq", 10000, 1.0001, 1e12, &rope->theta));
    MZ_TRY(mz_text_read_rope_parameters(o, "sliding_attention", &newer));
    return newer.object == NULL
               ? MZ_OK
               : mz_json_number_or(&newer, "rope_theta", rope->theta, 1.0001, 1e12, &rope->theta);
}

/* Squashed logits are what Gemma 2 had. */
static mz_status check_softcaps(const mz_json_object *o) {
    static const char *const keys[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *value = json_object_get(o->object, keys[i]);
        if (value != NULL && !json_is_null(value)) {
            return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s is set, which is not known",
                           o->name, keys[i]);
        }
    }
    return MZ_OK;
}

mz_status mz_gemma3_config(const mz_json_object *o, mz_text_config *c) {
    double scalar = 0;
    bool offset_included = false;
    MZ_TRY(check_softcaps(o));
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_head_dim(o, 256, c));
    MZ_TRY(mz_text_read_activation(o, "hidden_activation", "gelu_pytorch_tanh", &c->activation));
    MZ_TRY(mz_json_bool_or(o, "tie_word_embeddings", true, &c->tied));
    MZ_TRY(mz_json_bool_or(o, "attention_bias", false, &c->qkv_bias));
    MZ_TRY(mz_json_bool_or(o, "norm_offset_included", false, &offset_included));
    MZ_TRY(mz_json_number_or(o, "query_pre_attn_scalar", 256, 1e-3, 1e6, &scalar));
    MZ_TRY(mz_json_int_or(o, "sliding_window", 4096, 1, MZ_MAX_TEXT_POSITIONS, &c->window));
    c->o_bias = c->qkv_bias;
    c->norm_offset = offset_included ? 0 : 1;
    c->post_norms = true;
    c->qk_norm = MZ_QK_NORM_HEAD;
    c->score_scale = 1 / sqrt(scalar);
    c->embed_scale = (double)(float)sqrt((double)c->d_model);
    c->names.attn_post_norm = "post_attention_layernorm";
    c->names.ffn_norm = "pre_feedforward_layernorm";
    c->names.ffn_post_norm = "post_feedforward_layernorm";
    MZ_TRY(read_local_rope(o, c));
    MZ_TRY(read_layers(o, c));
    return mz_text_check(o, c);
}
