/* Low-rank adapters (LoRA, Hu et al. 2021): a product with W x becomes W x + scale * B (A x), where
 * W stays as it is. In the layout of the PEFT library: a folder with adapter_config.json and
 * adapter_model.safetensors, whose tensors are base_model.model.NAME.lora_A.weight [rank, d_in] and
 * base_model.model.NAME.lora_B.weight [d_out, rank] for the linear NAME. */
#ifndef MZ_ADAPTERS_LORA_H
#define MZ_ADAPTERS_LORA_H

#include "adapters/lora_config.h"
#include "core/loader.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An adapter of one base; opaque. Made by mz_lora_create or mz_lora_load over the base's filled
 * loader, which it outlives in no case; one thread. */
typedef struct mz_lora mz_lora;

/* A fresh one, which changes nothing yet: A uniform in +-1 / sqrt(d_in), which is Kaiming's with
 * a = sqrt(5) as PEFT draws it, B zero. A value is a pure function of seed, the tensor's name and
 * its index. `parameters` (NULL: not to be trained) receives A and B of each target, in the order
 * of the base's matrices, under the names that they have in a file, with gradients beside them;
 * host memory only. Experts of a bank that no target means are not listed and stay without effect.
 * Errors: those of mz_lora_config_check; MISSING naming a target that no linear has; UNSUPPORTED
 * for training without host memory; NOMEM; DEVICE. */
mz_status mz_lora_create(mz_context *ctx, const mz_loader *base, const mz_lora_config *config,
                         uint64_t seed, mz_parameters *parameters, mz_lora **out);

/* The one in folder `dir`; `parameters` as above. Values may be f32, f16 or bf16.
 * Errors: those of mz_lora_config_read and mz_weights_open; where it does not fit the base, naming
 * the first tensor: MISSING (the base has no such linear; a target has no tensors), SHAPE, DTYPE,
 * FORMAT (a tensor of a linear that is no target), UNSUPPORTED (a tensor that is neither A nor B of
 * a linear). */
mz_status mz_lora_load(mz_context *ctx, const mz_loader *base, const char *dir,
                       mz_parameters *parameters, mz_lora **out);

/* The tensors of the adapter in folder `dir`: adapter_model.safetensors, or .bin. Errors: MISSING;
 * those of mz_weights_open. */
mz_status mz_lora_open_tensors(mz_context *ctx, const char *dir, mz_weights **out);

/* Detaches it; accepts NULL. */
void mz_lora_destroy(mz_lora *lora);

/* The base's linears have the deltas from attach to detach, while nobody may run the model; those
 * of several adapters are added in the order of attaching. Sessions that were measured before take
 * too little memory. Without any attached the base computes what it did before, bit for bit. */
void mz_lora_attach(mz_lora *lora);
void mz_lora_detach(mz_lora *lora);

const mz_lora_config *mz_lora_config_of(const mz_lora *lora);

/* Linears that are changed, and values of A and B of all of them. */
int64_t mz_lora_n_linears(const mz_lora *lora);
int64_t mz_lora_n_values(const mz_lora *lora);

/* All values and their gradients, for mz_tape_add_parameters; gradients NULL without parameters. */
void mz_lora_spaces(const mz_lora *lora, const void **values, void **gradients, size_t *n_bytes);

/* Writes the two files into the existing folder `dir`, with `values` [parameters->n] in place of
 * the adapter's own where not NULL, in `dtype`. Targets are written as they were given where PEFT
 * understands them, else as the names of all changed linears. Errors: those of
 * mz_safetensors_write. */
mz_status mz_lora_save(mz_lora *lora, const char *dir, const mz_tensor *values, mz_dtype dtype);

/* Writes the base's checkpoint with W + scale * B A in place of W to the safetensors file `path`:
 * B A and the sum in f32, rounded to the type that W is stored in; all other tensors as they are.
 * Other attached adapters are left out. Errors: UNSUPPORTED for a base without a checkpoint, with
 * parameters or with block-quantised tensors; those of mz_safetensors_write. */
mz_status mz_lora_merge(mz_lora *lora, const char *path);

#ifdef __cplusplus
}
#endif
#endif
