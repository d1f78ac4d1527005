/* A checkpoint as the tensors and metadata of a GGUF file to be written: a GGUF file's as they are,
 * or a published folder's (config.json, safetensors or .bin, tokenizer files) renamed and, where
 * the format asks for it, stacked, reordered and shifted (apps/zoo/gguf_map.h). */
#ifndef MZ_APPS_ZOO_GGUF_EXPORT_H
#define MZ_APPS_ZOO_GGUF_EXPORT_H

#include "core/context.h"
#include "core/gguf_write.h"
#include "core/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a tensor is for; types are chosen by it. */
typedef enum mz_tensor_role {
    MZ_ROLE_SMALL = 0, /* norms, biases, routers, tables: always f32 */
    MZ_ROLE_EMBEDDING, /* token_embd, output */
    MZ_ROLE_EXPERT,    /* routed experts */
    MZ_ROLE_SHARED,    /* shared experts */
    MZ_ROLE_OTHER      /* attention, dense FFN */
} mz_tensor_role;

/* Of a tensor by its name in the file. */
mz_tensor_role mz_gguf_tensor_role(const char *name, int n_dims);

/* Created by mz_gguf_export_open; owns all that the items point to; one thread. */
typedef struct mz_gguf_export {
    mz_context *ctx;
    mz_gguf_meta meta;   /* all but general.file_type and general.quantization_version */
    mz_gguf_item *items; /* [n_items]; `dtype` as in the source, f32 for the small ones; may be
                            changed before writing */
    mz_dtype *stored;    /* [n_items] as in the source (the first part) */
    int64_t n_items;
    const char *tokenizer_note; /* why the tokenizer is not in the metadata; NULL: it is */
    char note[256];
    /* private */
    mz_gguf *gguf;
    mz_weights *weights;
    mz_tensor *parts;
    char (*names)[256];
    int64_t *orders[2];
    float *divisors;
    mz_tensor divisors_tensor;
} mz_gguf_export;

/* Opens a GGUF file (by its name's ending) or a folder. Errors: those of opening weights, configs
 * and tokenizers; UNSUPPORTED for a model that is none of mz_gguf_config's architectures, naming
 * what is not known; MISSING where the experts of a layer are incomplete; NOMEM. */
mz_status mz_gguf_export_open(mz_context *ctx, const char *path, mz_gguf_export *out);
void mz_gguf_export_close(mz_gguf_export *e); /* accepts one that was never opened (all zero) */

/* Adds the two keys that say what the file's types are: `type` is that of most weights. */
mz_status mz_gguf_export_finish(mz_gguf_export *e, mz_dtype type);

#ifdef __cplusplus
}
#endif
#endif
