/* Qwen3 (Yang et al. 2025): LLaMA with norms of each head's queries and keys. */
#include "apps/zoo/text_families.h"

mz_status mz_qwen3_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_window(o, true, c));
    MZ_TRY(mz_text_read_head_dim(o, 128, c));
    MZ_TRY(mz_json_bool_or(o, "attention_bias", false, &c->qkv_bias));
    c->o_bias = c->qkv_bias;
    c->qk_norm = MZ_QK_NORM_HEAD;
    return mz_text_check(o, c);
}
