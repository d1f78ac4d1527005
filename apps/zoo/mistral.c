/* Mistral (Jiang et al. 2023): LLaMA with a sliding window, where the config has one. */
#include "apps/zoo/text_families.h"

mz_status mz_mistral_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_window(o, false, c));
    return mz_text_check(o, c);
}
