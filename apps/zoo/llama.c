/* LLaMA (Touvron et al. 2023; Llama team 2024), and what has its form: SmolLM2, TinyLlama. */
#include "apps/zoo/text_families.h"

mz_status mz_llama_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_json_bool_or(o, "attention_bias", false, &c->qkv_bias));
    MZ_TRY(mz_json_bool_or(o, "mlp_bias", false, &c->ffn_bias));
    c->o_bias = c->qkv_bias;
    return mz_text_check(o, c);
}
