/* What the forecasting families share: the sizes of a decoder of sparse blocks, and loading it by
 * the tensor names of the published Time-MoE checkpoints. */
#ifndef MZ_APPS_ZOO_DECODER_LOADER_H
#define MZ_APPS_ZOO_DECODER_LOADER_H

#include "apps/zoo/zoo.h"
#include "core/json.h"
#include "core/loader.h"
#include "llm/decoder.h"

/* Read from a config by a family file. */
typedef struct mz_decoder_sizes {
    int64_t d_model, n_layers, n_heads, n_kv_heads;
    int64_t n_experts, top_k; /* n_experts 0: dense blocks, whose width is shared_width */
    int64_t expert_width;     /* of one expert's hidden layer */
    int64_t shared_width;     /* of the shared expert's */
    double norm_eps, rope_theta;
} mz_decoder_sizes;

/* Largest sizes that a config may name. */
enum { MZ_MAX_DECODER_WIDTH = 1 << 16, MZ_MAX_FFN_WIDTH = 1 << 20, MZ_MAX_LAYERS = 1024 };

/* Reads hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads (as many as heads
 * without it), rms_norm_eps (1e-6) and rope_theta (10000). Errors: those of core/json.h. */
mz_status mz_decoder_sizes_read(const mz_json_object *o, mz_decoder_sizes *sizes);

/* That the heads divide the width, and the experts suffice. Errors: FORMAT, UNSUPPORTED. */
mz_status mz_decoder_sizes_check(const mz_json_object *o, const mz_decoder_sizes *sizes);

/* Fills in what follows from the sizes: experts, layers, width, and the parameters of blocks and
 * final norm on top of `n_outside`, those of embedding and heads. */
void mz_decoder_sizes_describe(const mz_decoder_sizes *sizes, int64_t n_outside,
                               mz_model_info *info);

/* Allocates the blocks (mz_alloc; released by mz_forecaster_close). Errors: NOMEM. */
mz_status mz_decoder_create(mz_context *ctx, const mz_decoder_sizes *sizes, mz_decoder *out);

/* The tensors model.layers.L.* and model.norm.weight; called twice (core/loader.h). Routers and
 * shared gates always count their inputs in full. */
mz_status mz_decoder_load(mz_loader *l, mz_decoder *decoder, const mz_decoder_sizes *sizes,
                          mz_precision precision);

#endif
