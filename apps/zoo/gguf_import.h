/* Writing a GGUF file as a published checkpoint: config.json, model.safetensors, tokenizer files.
 */
#ifndef MZ_APPS_ZOO_GGUF_IMPORT_H
#define MZ_APPS_ZOO_GGUF_IMPORT_H

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_NOTE_BYTES = 256 };

/* Writes the GGUF file at `path` into the existing folder `dir` under the published names: stacks
 * are taken apart, rows of q and k and norms put back as they were published. Floating-point
 * tensors keep their type; blocks become `wide` (f32, f16 or bf16; f32 is exact). `note` says why
 * there is no tokenizer, or is empty. The config is written last, so that a folder without it is
 * incomplete; on failure the folder is as it was.
 * Errors: ARG where the folder holds one of these files already; INTERRUPTED when the context's
 * `stopped` says so; those of mz_gguf_open, mz_gguf_config, mz_safetensors_write and the
 * tokenizers; UNSUPPORTED naming a tensor without a published name; SHAPE; NOMEM. */
mz_status mz_gguf_import(mz_context *ctx, const char *path, const char *dir, mz_dtype wide,
                         char note[MZ_NOTE_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
