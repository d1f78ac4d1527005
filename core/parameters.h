/* The parameters of a model that is trained: names, values and gradients. */
#ifndef MZ_CORE_PARAMETERS_H
#define MZ_CORE_PARAMETERS_H

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One of them. Both tensors are f32, dense, in host memory, and live as long as the model. */
typedef struct mz_parameter {
    char *name; /* as in the checkpoint; owned by the list */
    mz_tensor value;
    mz_tensor gradient; /* of the same shape */
} mz_parameter;

/* All of a model, in the order in which its family asks for them. Filled by a loader
 * (core/loader.h) and by adapters; one thread. All zero: empty. */
typedef struct mz_parameters {
    mz_parameter *items; /* [n] */
    int64_t n;
    size_t capacity;
} mz_parameters;

/* Appends a parameter; the name is copied. Errors: NOMEM. */
mz_status mz_parameters_add(mz_context *ctx, mz_parameters *parameters, const char *name,
                            const mz_tensor *value, const mz_tensor *gradient);

/* The one of that name, or NULL. */
mz_parameter *mz_parameters_find(const mz_parameters *parameters, const char *name);

/* Sets all gradients to zero. */
void mz_parameters_zero_gradients(mz_context *ctx, const mz_parameters *parameters);

/* Number of values in all. */
int64_t mz_parameters_n_values(const mz_parameters *parameters);

/* Frees the list and the names. */
void mz_parameters_free(mz_context *ctx, mz_parameters *parameters);

#ifdef __cplusplus
}
#endif
#endif
