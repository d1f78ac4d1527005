/* One mixture layer of golden/moe-layers: its weights as parameters, and the structures that the
 * engine runs. */
#ifndef MZ_TESTS_GOLDEN_MOE_LAYER_H
#define MZ_TESTS_GOLDEN_MOE_LAYER_H

#include <jansson.h>

#include "core/weights.h"
#include "tests/testing.h"

enum { MOE_LAYER_EXPERTS = 16, MOE_LAYER_TENSORS = 256 };

/* Tables of one bank. */
typedef struct moe_layer_bank {
    const void *data[MOE_LAYER_EXPERTS];
    const float *bias[MOE_LAYER_EXPERTS];
} moe_layer_bank;

/* Opened by moe_layer_open, which fails the test on any error. `moe` points into this struct. */
typedef struct moe_layer {
    mz_context *ctx;
    char kind[64];
    json_t *config;
    mz_weights *weights, *io;
    char *names[MOE_LAYER_TENSORS];
    mz_tensor tensors[MOE_LAYER_TENSORS]; /* copies, in `values`; the last is the input */
    int n_tensors;
    float *values, *gradients; /* [n_values] */
    int64_t n_values;
    mz_moe moe;
    moe_layer_bank banks[6];
    int n_banks;
    mz_linear router_of[MZ_MODALITY_COUNT];
    mz_constant_expert constants[2];
    mz_lora_experts lora;
} moe_layer;

void moe_layer_open(moe_layer *layer, mz_context *ctx, const char *kind);
void moe_layer_close(moe_layer *layer);

/* A weight by name; fails the test where it is missing. */
mz_tensor moe_layer_weight(const moe_layer *layer, const char *name);

/* A tensor of io.safetensors; absent where there is none. */
mz_tensor moe_layer_io(const moe_layer *layer, int number, const char *name);

#endif
