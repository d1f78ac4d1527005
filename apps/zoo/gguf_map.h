/* Language models in GGUF files under the names of their publishers: a config.json made from the
 * metadata, and tensor names both ways. A family's loading code then reads a GGUF file as it reads
 * a published checkpoint.
 *
 * Architectures: llama (LLaMA, Mistral, Mixtral), qwen2, qwen2moe, qwen3, qwen3moe, olmoe,
 * stablelm, phi2, gemma3, deepseek2 (with one attn_kv_b, as files were until 2025). The keys and
 * names are those that the llama.cpp converter writes. */
#ifndef MZ_APPS_ZOO_GGUF_MAP_H
#define MZ_APPS_ZOO_GGUF_MAP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "core/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_GGUF_NAME_BYTES = 256 };

/* The config.json that the model was published with, as far as the file tells: *config is a new
 * reference, released with json_decref. Fields of our own, each absent where it does not hold:
 *   "rope_interleaved": true      rows of q and k (weights and biases) are in the order of
 *                                 neighbouring pairs: row 2j of a head is row j of the published
 *                                 weight, row 2j + 1 is row j + head_dim / 2 (llama)
 *   "norm_offset_included": true  norm weights are 1 more than published (gemma3)
 *   "expert_layout": "stacked"    the experts of a layer are one tensor [n_experts, d_out, d_in]
 * tie_word_embeddings, attention_bias, mlp_bias, use_qkv_bias, qk_layernorm and
 * use_parallel_residual follow from which tensors there are; mlp_only_layers are those without a
 * router; head_dim is always given (but for deepseek2). Frequency divisors (rope_freqs.weight) are
 * given as the rope_scaling of LLaMA 3 that they come from.
 * Errors: MISSING, naming the key; FORMAT; LIMIT; UNSUPPORTED for another architecture (naming the
 * known ones), sizes that differ from layer to layer, and kinds of rope scaling other than none,
 * linear, yarn and LLaMA 3's; NOMEM. */
mz_status mz_gguf_config(mz_context *ctx, const mz_gguf *gguf, json_t **config);

/* Where the values of a published tensor are. */
typedef struct mz_gguf_place {
    char name[MZ_GGUF_NAME_BYTES]; /* in the file */
    int64_t slice; /* -1: the whole tensor; otherwise the index along its first dimension: experts
                      of a stack, norms of the heads of stablelm */
} mz_gguf_place;

/* From "model.layers.3.self_attn.q_proj.weight" to "blk.3.attn_q.weight". `architecture` is
 * general.architecture. False for a name that has no counterpart. */
bool mz_gguf_tensor_place(const char *architecture, const char *published, mz_gguf_place *out);

/* The same without the slice: of an expert the name of the stack that it is in. */
bool mz_gguf_tensor_name(const char *architecture, const char *published,
                         char out[MZ_GGUF_NAME_BYTES]);

/* Where older Mixtral files have an expert of their own tensor, "blk.0.ffn_gate.5.weight"; for a
 * file that lacks the stack. False for what is no expert. */
bool mz_gguf_expert_name(const char *architecture, const char *published,
                         char out[MZ_GGUF_NAME_BYTES]);

/* Where q, k and v are rows of one tensor (phi2 files of the first converters, which lack attn_q):
 * its name and whether it is the first (q), second (k) or third part. False for other tensors. */
bool mz_gguf_fused_name(const char *published, char out[MZ_GGUF_NAME_BYTES], int *part);

/* The way back; `slice` -1 for a whole tensor, which must then be no stack, otherwise the expert or
 * head. False for a name that has no counterpart (among them rope_freqs.weight). */
bool mz_gguf_published_name(const char *architecture, const char *name, int64_t slice,
                            char out[MZ_GGUF_NAME_BYTES]);

/* Whether it is the name of a single expert's tensor in an older file, "blk.0.ffn_gate.5.weight".
 */
bool mz_gguf_is_single_expert(const char *name);

/* Whether a tensor of the file is a stack of published ones. */
bool mz_gguf_is_stack(const char *architecture, const char *name);

#ifdef __cplusplus
}
#endif
#endif
