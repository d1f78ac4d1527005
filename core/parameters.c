#include "core/parameters.h"

#include <string.h>

#include "core/threads.h"

mz_status mz_parameters_add(mz_context *ctx, mz_parameters *parameters, const char *name,
                            const mz_tensor *value, const mz_tensor *gradient) {
    char *copy = NULL;
    MZ_TRY(mz_strdup(ctx, name, &copy));
    void *items = parameters->items;
    const mz_status status = mz_grow(ctx, &items, &parameters->capacity, (size_t)parameters->n + 1,
                                     sizeof *parameters->items, "parameters");
    if (status != MZ_OK) {
        mz_free(ctx, copy);
        return status;
    }
    parameters->items = items;
    parameters->items[parameters->n++] =
        (mz_parameter){.name = copy, .value = *value, .gradient = *gradient};
    return MZ_OK;
}

mz_parameter *mz_parameters_find(const mz_parameters *parameters, const char *name) {
    for (int64_t i = 0; i < parameters->n; i++) {
        if (strcmp(parameters->items[i].name, name) == 0) {
            return &parameters->items[i];
        }
    }
    return NULL;
}

static void zero_task(void *arg, int64_t begin, int64_t end, int thread) {
    const mz_parameters *parameters = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const mz_tensor *t = &parameters->items[i].gradient;
        memset(t->data, 0, (size_t)mz_tensor_n_elements(t) * sizeof(float));
    }
}

void mz_parameters_zero_gradients(mz_context *ctx, const mz_parameters *parameters) {
    mz_pool_run(ctx->pool, parameters->n, 1, zero_task, (void *)parameters);
}

int64_t mz_parameters_n_values(const mz_parameters *parameters) {
    int64_t n = 0;
    for (int64_t i = 0; i < parameters->n; i++) {
        n += mz_tensor_n_elements(&parameters->items[i].value);
    }
    return n;
}

void mz_parameters_free(mz_context *ctx, mz_parameters *parameters) {
    for (int64_t i = 0; i < parameters->n; i++) {
        mz_free(ctx, parameters->items[i].name);
    }
    mz_free(ctx, parameters->items);
    *parameters = (mz_parameters){0};
}
