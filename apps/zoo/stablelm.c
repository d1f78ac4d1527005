/* StableLM (Bellagente et al. 2024): LayerNorms, a rotation of the first part of each head; some
 * models have parallel halves behind one norm, and a LayerNorm of its own for each head of queries
 * and keys. */
#include "apps/zoo/text_families.h"

mz_status mz_stablelm_config(const mz_json_object *o, mz_text_config *c) {
    bool parallel = false;
    bool qk_norm = false;
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_partial_rotary(o, 0.25, c));
    MZ_TRY(mz_json_number_or(o, "layer_norm_eps", 1e-5, 0, 1, &c->norm_eps));
    MZ_TRY(mz_json_bool_or(o, "use_qkv_bias", false, &c->qkv_bias));
    MZ_TRY(mz_json_bool_or(o, "use_parallel_residual", false, &parallel));
    MZ_TRY(mz_json_bool_or(o, "qk_layernorm", false, &qk_norm));
    c->norm_kind = MZ_NORM_LAYER;
    c->norm_bias = true;
    c->order = parallel ? MZ_BLOCK_PARALLEL_ONE_NORM : MZ_BLOCK_SEQUENTIAL;
    c->qk_norm = qk_norm ? MZ_QK_NORM_EACH_HEAD : MZ_QK_NORM_NONE;
    c->names.q_norm = "self_attn.q_layernorm";
    c->names.k_norm = "self_attn.k_layernorm";
    return mz_text_check(o, c);
}
