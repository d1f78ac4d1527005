/* What the parts of mz_lora share. */
#ifndef MZ_ADAPTERS_LORA_INTERNAL_H
#define MZ_ADAPTERS_LORA_INTERNAL_H

#include "adapters/lora.h"
#include "core/backend.h"

enum { MZ_LORA_NAME_BYTES = 320 };

/* A and B of one linear, or of one expert of a bank. */
typedef struct mz_lora_pair {
    const mz_loaded_matrix *matrix;
    int64_t d_out, d_in;
    bool is_target; /* else an expert beside one that is: zeros */
    mz_tensor a, b; /* backend memory */
} mz_lora_pair;

typedef struct mz_lora_linear {
    mz_linear *linear;
    mz_low_rank delta;
} mz_lora_linear;

typedef struct mz_lora_bank {
    mz_linear_bank *bank;
    mz_low_rank_bank delta;
} mz_lora_bank;

struct mz_lora {
    mz_context *ctx;
    const mz_loader *base;
    mz_lora_config config; /* owned */
    mz_stream stream;      /* arena: values, and the tables of banks */
    void *gradients;       /* of the arena; NULL without parameters */
    mz_lora_pair *pairs;   /* in the order of the base's matrices */
    int64_t n_pairs;
    mz_lora_linear *linears; /* the base's lists point into these two */
    int64_t n_linears;
    mz_lora_bank *banks;
    int64_t n_banks;
    bool is_attached;
};

/* "base_model.model.NAME.lora_A.weight" for 'A', B likewise. */
void mz_lora_tensor_name(char out[MZ_LORA_NAME_BYTES], const mz_loaded_matrix *matrix, char which);

/* Shape of W. */
void mz_lora_shape(const mz_loaded_matrix *matrix, int64_t *d_out, int64_t *d_in);

/* An adapter of zeros for the targets of `config`, which it takes over, on failure too. With
 * gradients if `trained`. */
mz_status mz_lora_prepare(mz_context *ctx, const mz_loader *base, mz_lora_config *config,
                          bool trained, mz_lora **out);

/* Lists A and B of all targets. Errors: NOMEM. */
mz_status mz_lora_list_parameters(const mz_lora *lora, mz_parameters *parameters);

/* Dense values of A or B, to and from backend memory. */
mz_status mz_lora_put(mz_lora *lora, const mz_tensor *t, const float *values);
mz_status mz_lora_get(mz_lora *lora, const mz_tensor *t, float *out);

#endif
