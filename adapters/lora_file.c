/* Adapters to and from PEFT's folders. */
#include <stdio.h>
#include <string.h>

#include "adapters/lora_internal.h"
#include "core/file.h"
#include "core/safetensors_write.h"

static const char PREFIX[] = "base_model.model.";

/* ---- reading ---- */

mz_status mz_lora_open_tensors(mz_context *ctx, const char *dir, mz_weights **out) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        MZ_TRY(mz_path_join(ctx, dir, names[i], &path));
        const bool there = mz_file_exists(path);
        const mz_status status = there ? mz_weights_open(ctx, path, out) : MZ_OK;
        mz_free(ctx, path);
        if (there) {
            return status;
        }
    }
    return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no %s in it", dir, names[0]);
}

/* "base_model.model.NAME.lora_A.weight" -> NAME and 'A'; false for another name. */
static bool split_name(const char *tensor, char linear[MZ_LORA_NAME_BYTES], char *which) {
    static const char *const endings[] = {".lora_A.weight", ".lora_B.weight"};
    const size_t n_prefix = sizeof PREFIX - 1;
    const size_t n_ending = strlen(endings[0]);
    const size_t n = strlen(tensor);
    if (n <= n_prefix + n_ending || n - n_prefix - n_ending >= MZ_LORA_NAME_BYTES ||
        strncmp(tensor, PREFIX, n_prefix) != 0) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (strcmp(tensor + n - n_ending, endings[i]) == 0) {
            const size_t n_linear = n - n_prefix - n_ending;
            memcpy(linear, tensor + n_prefix, n_linear);
            linear[n_linear] = '\0';
            *which = i == 0 ? 'A' : 'B';
            return true;
        }
    }
    return false;
}

static const mz_loaded_matrix *find_matrix(const mz_loader *base, const char *name) {
    for (int64_t i = 0; i < base->n_matrices; i++) {
        if (strcmp(base->matrices[i].name, name) == 0) {
            return &base->matrices[i];
        }
    }
    return NULL;
}

/* What an adapter is read from. */
typedef struct source {
    mz_context *ctx;
    const char *dir;
    const mz_loader *base;
    const mz_lora_config *config;
    mz_weights *weights;
} source;

static mz_status check_tensor(const source *src, const char *name, const mz_tensor *t) {
    mz_error *err = &src->ctx->error;
    char linear[MZ_LORA_NAME_BYTES];
    char actual[96];
    char which = 0;
    if (!split_name(name, linear, &which)) {
        return mz_fail(err, MZ_ERR_UNSUPPORTED,
                       "%s: tensor %s, expected %sNAME.lora_A.weight or .lora_B.weight", src->dir,
                       name, PREFIX);
    }
    const mz_loaded_matrix *matrix = find_matrix(src->base, linear);
    if (matrix == NULL) {
        return mz_fail(err, MZ_ERR_MISSING, "%s: changes the linear %s, which the model lacks",
                       src->dir, linear);
    }
    if (!mz_lora_config_has(src->config, linear)) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "%s: tensor %s is of no linear that target_modules means", src->dir, name);
    }
    int64_t d_out = 0;
    int64_t d_in = 0;
    mz_lora_shape(matrix, &d_out, &d_in);
    const int64_t rows = which == 'A' ? src->config->rank : d_out;
    const int64_t cols = which == 'A' ? d_in : src->config->rank;
    if (t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols) {
        return mz_fail(err, MZ_ERR_SHAPE,
                       "%s: tensor %s is %s, rank %lld on the model's [%lld, %lld] needs "
                       "[%lld, %lld]",
                       src->dir, name, mz_shape_text(actual, sizeof actual, t->shape, t->n_dims),
                       (long long)src->config->rank, (long long)d_out, (long long)d_in,
                       (long long)rows, (long long)cols);
    }
    if (!mz_dtype_get(t->dtype)->is_float) {
        return mz_fail(err, MZ_ERR_DTYPE, "%s: tensor %s is %s, expected a floating-point type",
                       src->dir, name, mz_dtype_get(t->dtype)->name);
    }
    return MZ_OK;
}

static mz_status check_tensors(const source *src) {
    for (int64_t i = 0; i < mz_weights_count(src->weights); i++) {
        const char *name = NULL;
        mz_tensor t;
        MZ_TRY(mz_weights_at(src->weights, i, &name, &t));
        MZ_TRY(check_tensor(src, name, &t));
    }
    return MZ_OK;
}

/* A or B of a pair, which check_tensors has seen if it is there. */
static mz_status read_tensor(const source *src, mz_lora *lora, const mz_lora_pair *pair,
                             char which) {
    char name[MZ_LORA_NAME_BYTES];
    mz_tensor stored;
    void *values = NULL;
    const mz_tensor *to = which == 'A' ? &pair->a : &pair->b;
    const int64_t n = mz_tensor_n_elements(to);
    mz_lora_tensor_name(name, pair->matrix, which);
    if (!mz_weights_find(src->weights, name, &stored)) {
        return mz_fail(&src->ctx->error, MZ_ERR_MISSING,
                       "%s: tensor %s is missing, which target_modules means", src->dir, name);
    }
    MZ_TRY(mz_alloc(src->ctx, (size_t)n * sizeof(float), "adapter", &values));
    mz_dtype_get(stored.dtype)->to_f32(values, stored.data, n);
    const mz_status status = mz_lora_put(lora, to, values);
    mz_free(src->ctx, values);
    return status;
}

static mz_status read_tensors(const source *src, mz_lora *lora) {
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        if (lora->pairs[i].is_target) {
            MZ_TRY(read_tensor(src, lora, &lora->pairs[i], 'A'));
            MZ_TRY(read_tensor(src, lora, &lora->pairs[i], 'B'));
        }
    }
    return MZ_OK;
}

static mz_status load(source *src, mz_lora_config *config, mz_parameters *parameters,
                      mz_lora **out) {
    mz_lora *lora = NULL;
    MZ_TRY(mz_lora_open_tensors(src->ctx, src->dir, &src->weights));
    MZ_TRY(check_tensors(src));
    MZ_TRY(mz_lora_prepare(src->ctx, src->base, config, parameters != NULL, &lora));
    src->config = NULL; /* it belongs to the adapter now */
    mz_status status = read_tensors(src, lora);
    if (status == MZ_OK && parameters != NULL) {
        status = mz_lora_list_parameters(lora, parameters);
    }
    if (status != MZ_OK) {
        mz_lora_destroy(lora);
        return status;
    }
    *out = lora;
    return MZ_OK;
}

mz_status mz_lora_load(mz_context *ctx, const mz_loader *base, const char *dir,
                       mz_parameters *parameters, mz_lora **out) {
    mz_lora_config config = {0};
    source src = {.ctx = ctx, .dir = dir, .base = base, .config = &config};
    MZ_TRY(mz_lora_config_read(ctx, dir, &config));
    const mz_status status = load(&src, &config, parameters, out);
    mz_weights_close(ctx, src.weights);
    mz_lora_config_free(ctx, &config);
    return status;
}

/* ---- writing ---- */

typedef struct file_tensor {
    char name[MZ_LORA_NAME_BYTES];
    float *values; /* a copy; NULL where they are read in place */
} file_tensor;

/* A or B as an item of the file. */
static mz_status make_item(mz_lora *lora, const mz_lora_pair *pair, char which, file_tensor *own,
                           mz_safetensors_item *item) {
    const mz_tensor *t = which == 'A' ? &pair->a : &pair->b;
    void *memory = NULL;
    mz_lora_tensor_name(own->name, pair->matrix, which);
    *item = (mz_safetensors_item){.name = own->name, .tensor = *t};
    if (lora->stream.backend->host_memory) {
        return MZ_OK;
    }
    MZ_TRY(
        mz_alloc(lora->ctx, (size_t)mz_tensor_n_elements(t) * sizeof(float), own->name, &memory));
    own->values = memory;
    item->tensor.data = memory;
    return mz_lora_get(lora, t, own->values);
}

static mz_status write_tensors(mz_lora *lora, const char *path, const mz_tensor *values,
                               mz_dtype dtype) {
    const size_t n = 2 * (size_t)mz_lora_n_linears(lora);
    void *tensors = NULL;
    void *list = NULL;
    int64_t n_items = 0;
    MZ_TRY(mz_calloc(lora->ctx, n, sizeof(file_tensor), "adapter's tensors", &tensors));
    mz_status status =
        mz_calloc(lora->ctx, n, sizeof(mz_safetensors_item), "adapter's tensors", &list);
    file_tensor *own = tensors;
    mz_safetensors_item *items = list;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        for (int k = 0; k < 2 && lora->pairs[i].is_target && status == MZ_OK; k++) {
            status = make_item(lora, &lora->pairs[i], k == 0 ? 'A' : 'B', &own[n_items],
                               &items[n_items]);
            items[n_items].dtype = dtype;
            if (values != NULL) {
                items[n_items].tensor = values[n_items];
            }
            n_items++;
        }
    }
    if (status == MZ_OK) {
        status = mz_safetensors_write(lora->ctx, path, items, n_items, NULL, 0);
    }
    for (int64_t i = 0; i < n_items; i++) {
        mz_free(lora->ctx, own[i].values);
    }
    mz_free(lora->ctx, items);
    mz_free(lora->ctx, own);
    return status;
}

static bool is_plain(const mz_lora_config *config) {
    for (int64_t i = 0; i < config->n_targets; i++) {
        if (strpbrk(config->targets[i], "*?") != NULL ||
            strcmp(config->targets[i], "all-linear") == 0) {
            return false;
        }
    }
    return true;
}

static mz_status write_config(mz_lora *lora, const char *dir) {
    void *memory = NULL;
    int64_t n = 0;
    if (is_plain(&lora->config)) {
        return mz_lora_config_write(lora->ctx, &lora->config, NULL, 0, dir);
    }
    MZ_TRY(mz_calloc(lora->ctx, (size_t)lora->n_pairs, sizeof(char *), "targets", &memory));
    const char **targets = memory;
    for (int64_t i = 0; i < lora->n_pairs; i++) {
        if (lora->pairs[i].is_target) {
            targets[n++] = lora->pairs[i].matrix->name;
        }
    }
    const mz_status status = mz_lora_config_write(lora->ctx, &lora->config, targets, n, dir);
    mz_free(lora->ctx, memory);
    return status;
}

mz_status mz_lora_save(mz_lora *lora, const char *dir, const mz_tensor *values, mz_dtype dtype) {
    char *path = NULL;
    MZ_TRY(mz_path_join(lora->ctx, dir, "adapter_model.safetensors", &path));
    const mz_status status = write_tensors(lora, path, values, dtype);
    mz_free(lora->ctx, path);
    return status == MZ_OK ? write_config(lora, dir) : status;
}
