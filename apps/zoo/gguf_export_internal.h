/* What turning a published folder into GGUF shares. */
#ifndef MZ_APPS_ZOO_GGUF_EXPORT_INTERNAL_H
#define MZ_APPS_ZOO_GGUF_EXPORT_INTERNAL_H

#include <jansson.h>

#include "apps/zoo/gguf_map_internal.h"
#include "core/gguf_write.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A published config that becomes metadata. */
typedef struct mz_gguf_config_source {
    mz_context *ctx;
    const json_t *config;
    const char *path; /* for messages */
    const mz_gguf_architecture *architecture;
    int64_t n_heads, n_kv_heads, head_dim; /* filled by mz_gguf_source_open */
} mz_gguf_config_source;

/* Fills the source from its first three members. Errors: MISSING, FORMAT, UNSUPPORTED. */
mz_status mz_gguf_source_open(mz_gguf_config_source *s);

/* Writes the keys of architecture and sizes; the inverse of mz_gguf_config. `name` is general.name.
 * *scaling is filled where *has_scaling becomes true: LLaMA 3's, which is a tensor. Errors:
 * MISSING, FORMAT, UNSUPPORTED, NOMEM. */
mz_status mz_gguf_write_config(const mz_gguf_config_source *s, const char *name, mz_gguf_meta *meta,
                               mz_llama3_scaling *scaling, bool *has_scaling);

#ifdef __cplusplus
}
#endif
#endif
