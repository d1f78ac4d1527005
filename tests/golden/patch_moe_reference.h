/* docs/models/patch-moe.md in plain loops of f64, without cache, batch or threads. */
#ifndef MZ_TESTS_GOLDEN_PATCH_MOE_REFERENCE_H
#define MZ_TESTS_GOLDEN_PATCH_MOE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "core/weights.h"

enum { MZ_PATCH_REFERENCE_LEVELS = 32 };

/* A checkpoint whose tensors are f32. Opened by mz_patch_reference_open. */
typedef struct mz_patch_reference {
    mz_context *ctx;
    mz_weights *weights;
    int64_t patch_len, head_len, d_model, n_layers, n_heads, n_kv_heads, n_experts, top_k;
    int64_t expert_width, shared_width, embed_width, head_width;
    double norm_eps, rope_theta;
    bool arcsinh;
    int n_levels, median;
    double levels[MZ_PATCH_REFERENCE_LEVELS];
} mz_patch_reference;

/* Hears results by the names of a forecaster's trace; layer -1: of none. */
typedef struct mz_patch_listener {
    void (*hear)(void *self, int layer, const char *name, const double *values, int64_t n_rows,
                 int64_t n_cols); /* NULL: nobody listens */
    void *self;
} mz_patch_listener;

mz_status mz_patch_reference_open(mz_context *ctx, const char *dir, mz_patch_reference *out);
void mz_patch_reference_close(mz_patch_reference *r);

/* n points u to the head's output of every row: out [ceil(n / patch_len), head_len * n_levels]. */
void mz_patch_reference_rows(mz_patch_reference *r, const double *u, int64_t n, double *out,
                             mz_patch_listener listener);

/* The forecast of n values, scaled by mean and deviation or as they are. */
typedef struct mz_patch_forecast {
    const double *values; /* [n] */
    int64_t n, horizon;
    bool is_scaled;
    double *forecast;  /* [horizon] filled */
    double *quantiles; /* [n_levels, horizon] filled */
} mz_patch_forecast;
void mz_patch_reference_forecast(mz_patch_reference *r, const mz_patch_forecast *f);

#endif
