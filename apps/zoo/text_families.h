/* The families of language models: each maps a published config.json onto the shared description.
 * Errors: those of core/json.h; FORMAT and UNSUPPORTED for what the description cannot say. */
#ifndef MZ_APPS_ZOO_TEXT_FAMILIES_H
#define MZ_APPS_ZOO_TEXT_FAMILIES_H

#include "apps/zoo/text_config.h"

mz_status mz_deepseek_v2_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_gemma3_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_llama_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_mistral_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_mixtral_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_olmoe_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_phi_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_qwen2_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_qwen2_moe_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_qwen3_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_qwen3_moe_config(const mz_json_object *o, mz_text_config *c);
mz_status mz_stablelm_config(const mz_json_object *o, mz_text_config *c);

#endif
