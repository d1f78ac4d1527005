/* Phi-1, Phi-1.5 and Phi-2 (Li et al. 2023): parallel halves behind one LayerNorm, biases
 * everywhere, feed-forward networks without a gate, a rotation of the first part of each head. */
#include "apps/zoo/text_families.h"

mz_status mz_phi_config(const mz_json_object *o, mz_text_config *c) {
    bool qk_norm = false;
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_partial_rotary(o, 0.5, c));
    MZ_TRY(mz_text_read_activation(o, "hidden_act", "gelu_new", &c->activation));
    MZ_TRY(mz_json_number_or(o, "layer_norm_eps", 1e-5, 0, 1, &c->norm_eps));
    MZ_TRY(mz_json_bool_or(o, "qk_layernorm", false, &qk_norm));
    if (qk_norm) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: qk_layernorm is true, which no published model of this family has",
                       o->name);
    }
    c->norm_kind = MZ_NORM_LAYER;
    c->order = MZ_BLOCK_PARALLEL_ONE_NORM;
    c->norm_bias = c->qkv_bias = c->o_bias = c->ffn_bias = c->head_bias = true;
    c->gated = false;
    c->names.final_norm = "model.final_layernorm";
    c->names.w_o = "self_attn.dense";
    c->names.w_up = "mlp.fc1";
    c->names.w_down = "mlp.fc2";
    return mz_text_check(o, c);
}
