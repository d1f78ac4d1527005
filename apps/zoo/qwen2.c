/* Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on queries, keys and values. */
#include "apps/zoo/text_families.h"

mz_status mz_qwen2_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_window(o, true, c));
    c->qkv_bias = true;
    return mz_text_check(o, c);
}
