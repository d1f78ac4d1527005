#include "core/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/checkpoint_internal.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors_write.h"
#include "core/weights.h"

enum {
    VERSION = 1,
    HASH_BYTES = 17,
    MAX_STATE_BYTES = 64 << 20 /* what mz_json_load reads */
};

static const char tensors_name[] = "state.safetensors";
static const char state_name[] = "state.json";

/* XXH64 as xxhsum prints it, so that a file can be checked by hand. */
static void hash_text(const void *data, size_t n_bytes, char out[HASH_BYTES]) {
    (void)snprintf(out, HASH_BYTES, "%016" PRIx64, (uint64_t)XXH64(data, n_bytes, 0));
}

/* The hash of a document's one compact form, in which keys are sorted. */
static mz_status hash_document(mz_context *ctx, const json_t *document, char out[HASH_BYTES]) {
    char *text = json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_NOMEM, "out of memory for a training's state");
    }
    hash_text(text, strlen(text), out);
    free(text);
    return MZ_OK;
}

/* --- writing --- */

static mz_status write_tensors(mz_context *ctx, const char *path,
                               const mz_checkpoint_tensor *tensors, int64_t n) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n, sizeof(mz_safetensors_item), "tensor list", &memory));
    mz_safetensors_item *items = memory;
    for (int64_t i = 0; i < n; i++) {
        items[i] = (mz_safetensors_item){
            .name = tensors[i].name, .tensor = tensors[i].tensor, .dtype = tensors[i].tensor.dtype};
    }
    const mz_status status = mz_safetensors_write(ctx, path, items, n, NULL, 0);
    mz_free(ctx, memory);
    return status;
}

/* The document of state.json, which says what belongs to it: *out is released with json_decref. */
static mz_status describe(mz_context *ctx, int64_t step, const char *tensors_path, json_t *state,
                          json_t **out) {
    mz_map map;
    char tensors_hash[HASH_BYTES];
    char state_hash[HASH_BYTES];
    MZ_TRY(hash_document(ctx, state, state_hash));
    MZ_TRY(mz_map_open(ctx, tensors_path, &map));
    hash_text(map.data, map.bytes, tensors_hash);
    const size_t n_bytes = map.bytes;
    mz_map_close(&map);
    *out = json_pack("{s:i, s:I, s:I, s:s, s:s, s:O}", "version", VERSION, "step", (json_int_t)step,
                     "tensors_bytes", (json_int_t)n_bytes, "tensors_xxh64", tensors_hash,
                     "state_xxh64", state_hash, "state", state);
    return *out != NULL
               ? MZ_OK
               : mz_fail(&ctx->error, MZ_ERR_NOMEM, "out of memory for a training's state");
}

static mz_status write_document(mz_context *ctx, const char *path, const json_t *document) {
    mz_output out = {0};
    char *text = json_dumps(document, JSON_INDENT(1));
    if (text == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_NOMEM, "out of memory for a training's state");
    }
    const size_t n_bytes = strlen(text);
    mz_status status = MZ_OK;
    if (n_bytes > MAX_STATE_BYTES) {
        status = mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: %zu bytes, the limit is %d", path, n_bytes,
                         MAX_STATE_BYTES);
    } else {
        status = mz_output_open(ctx, path, &out);
    }
    errno = 0;
    if (status == MZ_OK && fwrite(text, 1, n_bytes, out.stream) != n_bytes) {
        status = mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot write: %s", path,
                         errno != 0 ? strerror(errno) : "the write was cut short");
        mz_output_abort(ctx, &out);
    } else if (status == MZ_OK) {
        status = mz_output_commit(ctx, &out);
    }
    free(text);
    return status;
}

/* Both files into `folder`. */
static mz_status write_files(mz_context *ctx, const char *folder, int64_t step,
                             const mz_checkpoint_tensor *tensors, int64_t n, json_t *state) {
    char *tensors_path = NULL;
    char *state_path = NULL;
    json_t *document = NULL;
    mz_status status = mz_path_join(ctx, folder, tensors_name, &tensors_path);
    if (status == MZ_OK) {
        status = mz_path_join(ctx, folder, state_name, &state_path);
    }
    if (status == MZ_OK) {
        status = write_tensors(ctx, tensors_path, tensors, n);
    }
    if (status == MZ_OK) {
        status = describe(ctx, step, tensors_path, state, &document);
    }
    if (status == MZ_OK) {
        status = write_document(ctx, state_path, document);
    }
    json_decref(document);
    mz_free(ctx, tensors_path);
    mz_free(ctx, state_path);
    return status;
}

static mz_status write_new(const mz_checkpoints *store, int64_t step,
                           const mz_checkpoint_tensor *tensors, int64_t n, json_t *state) {
    char name[CHECKPOINT_NAME_BYTES];
    char *folder = NULL;
    MZ_TRY(mz_path_join(store->ctx, store->path, mz_checkpoints_name(name, step, CHECKPOINT_NEW),
                        &folder));
    mz_status status = MZ_OK;
    if (mkdirat(store->fd, name, 0777) != 0) {
        status = mz_fail(&store->ctx->error, MZ_ERR_IO, "%s: cannot create: %s", folder,
                         strerror(errno));
    } else {
        status = write_files(store->ctx, folder, step, tensors, n, state);
    }
    mz_free(store->ctx, folder);
    return status;
}

/* Keeps the newest `keep` of the checkpoints up to `step`. */
static mz_status prune(const mz_checkpoints *store, int64_t step, int64_t keep) {
    int64_t *steps = NULL;
    int64_t n = 0;
    MZ_TRY(mz_checkpoints_list(store, &steps, &n));
    mz_status status = MZ_OK;
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n && status == MZ_OK; i++) {
        if (steps[i] <= step && n_kept++ >= keep) {
            status = mz_checkpoints_retire(store, steps[i]);
        }
    }
    mz_free(store->ctx, steps);
    return status;
}

static mz_status check_arguments(mz_error *err, int64_t step, const json_t *state, int64_t keep) {
    if (step < 0 || keep < 0 || !json_is_object(state)) {
        return mz_fail(err, MZ_ERR_ARG,
                       "checkpoint of step %lld, of which %lld are kept, with a state that is %s "
                       "object: expected 0 or more, and an object",
                       (long long)step, (long long)keep, json_is_object(state) ? "an" : "no");
    }
    return MZ_OK;
}

mz_status mz_checkpoint_write(mz_context *ctx, const char *dir, int64_t step,
                              const mz_checkpoint_tensor *tensors, int64_t n, json_t *state,
                              int64_t keep) {
    MZ_TRY(check_arguments(&ctx->error, step, state, keep));
    mz_checkpoints store;
    MZ_TRY(mz_checkpoints_open(ctx, dir, true, &store));
    mz_status status = mz_checkpoints_clean(&store);
    if (status == MZ_OK) {
        status = write_new(&store, step, tensors, n, state);
        if (status == MZ_OK) {
            status = mz_checkpoints_publish(&store, step);
        }
        if (status != MZ_OK) { /* the message stays that of what failed first */
            const mz_error first = ctx->error;
            (void)mz_checkpoints_remove(&store, step, CHECKPOINT_NEW);
            ctx->error = first;
        }
    }
    if (status == MZ_OK && keep > 0) {
        status = prune(&store, step, keep);
    }
    mz_checkpoints_close(&store);
    return status;
}

/* --- reading --- */

static mz_status damaged(mz_context *ctx, const char *path, const char *what, const char *actual,
                         const char *expected) {
    return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: damaged: %s %s, expected %s", path, what,
                   actual, expected);
}

static mz_status check_version(const mz_json_object *o) {
    int64_t version = 0;
    MZ_TRY(mz_json_int(o, "version", 0, INT32_MAX, &version));
    if (version != VERSION) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: version %lld of a checkpoint, expected %d", o->name, (long long)version,
                       VERSION);
    }
    return MZ_OK;
}

static mz_status check_state(const mz_json_object *o) {
    const json_t *state = json_object_get(o->object, "state");
    if (!json_is_object(state)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: state is no object", o->name);
    }
    const char *expected = NULL;
    char actual[HASH_BYTES];
    MZ_TRY(mz_json_string(o, "state_xxh64", &expected));
    MZ_TRY(hash_document(o->ctx, state, actual));
    return strcmp(actual, expected) == 0
               ? MZ_OK
               : damaged(o->ctx, o->name, "state has the checksum", actual, expected);
}

static mz_status check_tensors(const mz_json_object *o, const char *path) {
    int64_t n_bytes = 0;
    const char *expected = NULL;
    MZ_TRY(mz_json_int(o, "tensors_bytes", 0, INT64_MAX, &n_bytes));
    MZ_TRY(mz_json_string(o, "tensors_xxh64", &expected));
    mz_map map;
    MZ_TRY(mz_map_open(o->ctx, path, &map));
    char actual[HASH_BYTES];
    mz_status status = MZ_OK;
    if (map.bytes != (size_t)n_bytes) {
        status = mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: damaged: %zu bytes, expected %lld",
                         path, map.bytes, (long long)n_bytes);
    } else {
        hash_text(map.data, map.bytes, actual);
        if (strcmp(actual, expected) != 0) {
            status = damaged(o->ctx, path, "checksum", actual, expected);
        }
    }
    mz_map_close(&map);
    return status;
}

/* A checkpoint whose checksums agree. */
typedef struct verified {
    char *tensors_path, *state_path;
    json_t *document; /* of state.json */
    int64_t step;
} verified;

static void verified_free(mz_context *ctx, verified *v) {
    json_decref(v->document);
    mz_free(ctx, v->tensors_path);
    mz_free(ctx, v->state_path);
}

static mz_status verify_parts(mz_context *ctx, const char *path, verified *v) {
    MZ_TRY(mz_path_join(ctx, path, tensors_name, &v->tensors_path));
    MZ_TRY(mz_path_join(ctx, path, state_name, &v->state_path));
    MZ_TRY(mz_json_load(ctx, v->state_path, &v->document));
    const mz_json_object o = {.ctx = ctx, .object = v->document, .name = v->state_path};
    MZ_TRY(check_version(&o));
    MZ_TRY(mz_json_int(&o, "step", 0, INT64_MAX, &v->step));
    MZ_TRY(check_state(&o));
    return check_tensors(&o, v->tensors_path);
}

/* *out is released with verified_free, on success only. */
static mz_status verify(mz_context *ctx, const char *path, verified *out) {
    verified v = {0};
    const mz_status status = verify_parts(ctx, path, &v);
    if (status != MZ_OK) {
        verified_free(ctx, &v);
        return status;
    }
    *out = v;
    return MZ_OK;
}

/* The whole one of `step`; *path is released with mz_free. */
static mz_status verify_step(const mz_checkpoints *store, int64_t step, char **path) {
    char name[CHECKPOINT_NAME_BYTES];
    char *folder = NULL;
    MZ_TRY(mz_path_join(store->ctx, store->path, mz_checkpoints_name(name, step, CHECKPOINT_WHOLE),
                        &folder));
    verified v;
    mz_status status = verify(store->ctx, folder, &v);
    if (status == MZ_OK) {
        if (v.step != step) {
            status =
                mz_fail(&store->ctx->error, MZ_ERR_FORMAT, "%s: damaged: step %lld, expected %lld",
                        v.state_path, (long long)v.step, (long long)step);
        }
        verified_free(store->ctx, &v);
    }
    if (status != MZ_OK) {
        mz_free(store->ctx, folder);
        return status;
    }
    *path = folder;
    return MZ_OK;
}

/* Tries the n steps in order. Without memory nothing is known about a checkpoint: only what the
 * files say counts as damage. */
static mz_status find_readable(const mz_checkpoints *store, const int64_t *steps, int64_t n,
                               mz_checkpoint *out) {
    mz_context *ctx = store->ctx;
    char *note = NULL;
    for (int64_t i = 0; i < n; i++) {
        const mz_status status = verify_step(store, steps[i], &out->path);
        if (status == MZ_OK) {
            out->step = steps[i];
            out->note = note;
            return MZ_OK;
        }
        if (status == MZ_ERR_NOMEM || (note == NULL && mz_strdup(ctx, ctx->error.message, &note))) {
            mz_free(ctx, note);
            return MZ_ERR_NOMEM;
        }
    }
    const mz_status status = mz_fail(&ctx->error, MZ_ERR_FORMAT,
                                     "%s: none of %lld checkpoints can be read; the newest: %s",
                                     store->path, (long long)n, note);
    mz_free(ctx, note);
    return status;
}

mz_status mz_checkpoint_latest(mz_context *ctx, const char *dir, mz_checkpoint *out) {
    mz_checkpoints store;
    MZ_TRY(mz_checkpoints_open(ctx, dir, false, &store));
    mz_checkpoint found = {0};
    int64_t *steps = NULL;
    int64_t n = 0;
    mz_status status = MZ_OK;
    if (store.fd >= 0) {
        status = mz_checkpoints_clean(&store);
        if (status == MZ_OK) {
            status = mz_checkpoints_list(&store, &steps, &n);
        }
        if (status == MZ_OK && n > 0) {
            status = find_readable(&store, steps, n, &found);
        }
        mz_free(ctx, steps);
    }
    mz_checkpoints_close(&store);
    if (status == MZ_OK) {
        *out = found;
    }
    return status;
}

void mz_checkpoint_free(mz_context *ctx, mz_checkpoint *checkpoint) {
    mz_free(ctx, checkpoint->path);
    mz_free(ctx, checkpoint->note);
    *checkpoint = (mz_checkpoint){0};
}

static mz_status match_tensor(mz_context *ctx, mz_weights *w, const char *path,
                              const mz_checkpoint_tensor *to, mz_tensor *from) {
    const mz_tensor *t = &to->tensor;
    char actual[128];
    char expected[128];
    if (!mz_weights_find(w, to->name, from)) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: tensor %s is missing", path, to->name);
    }
    const bool same = from->dtype == t->dtype && from->n_dims == t->n_dims &&
                      memcmp(from->shape, t->shape, (size_t)t->n_dims * sizeof t->shape[0]) == 0;
    if (same) {
        return MZ_OK;
    }
    return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: tensor %s is %s %s, expected %s %s", path,
                   to->name, mz_dtype_get(from->dtype)->name,
                   mz_shape_text(actual, sizeof actual, from->shape, from->n_dims),
                   mz_dtype_get(t->dtype)->name,
                   mz_shape_text(expected, sizeof expected, t->shape, t->n_dims));
}

static bool is_listed(const char *name, const mz_checkpoint_tensor *tensors, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(tensors[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static mz_status refuse_extra(mz_context *ctx, const mz_weights *w, const char *path,
                              const mz_checkpoint_tensor *tensors, int64_t n) {
    for (int64_t i = 0; i < mz_weights_count(w); i++) {
        const char *name = NULL;
        mz_tensor t;
        MZ_TRY(mz_weights_at(w, i, &name, &t));
        if (!is_listed(name, tensors, n)) {
            return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                           "%s: tensor %s is not one that this training has", path, name);
        }
    }
    return MZ_OK;
}

static void copy_tensor(const mz_tensor *to, const mz_tensor *from) {
    const size_t size = (size_t)mz_dtype_get(to->dtype)->block_bytes;
    const size_t row_bytes = (size_t)mz_tensor_n_cols(to) * size;
    const int64_t n_rows = mz_tensor_n_rows(to);
    for (int64_t i = 0; i < n_rows && row_bytes > 0; i++) {
        memcpy((char *)to->data + (size_t)(i * to->ld) * size,
               (const char *)from->data + (size_t)i * row_bytes, row_bytes);
    }
}

/* All are found before the first is copied. */
static mz_status read_tensors(mz_context *ctx, const char *path,
                              const mz_checkpoint_tensor *tensors, int64_t n) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n, sizeof(mz_tensor), "tensor list", &memory));
    mz_tensor *found = memory;
    mz_weights *w = NULL;
    mz_status status = mz_weights_open(ctx, path, &w);
    for (int64_t i = 0; i < n && status == MZ_OK; i++) {
        status = match_tensor(ctx, w, path, &tensors[i], &found[i]);
    }
    if (status == MZ_OK && mz_weights_count(w) != n) {
        status = refuse_extra(ctx, w, path, tensors, n);
    }
    for (int64_t i = 0; i < n && status == MZ_OK; i++) {
        copy_tensor(&tensors[i].tensor, &found[i]);
    }
    mz_weights_close(ctx, w);
    mz_free(ctx, memory);
    return status;
}

mz_status mz_checkpoint_read(mz_context *ctx, const char *path, const mz_checkpoint_tensor *tensors,
                             int64_t n, int64_t *step, json_t **state) {
    verified v;
    MZ_TRY(verify(ctx, path, &v));
    const mz_status status = read_tensors(ctx, v.tensors_path, tensors, n);
    if (status == MZ_OK) {
        if (step != NULL) {
            *step = v.step;
        }
        if (state != NULL) {
            *state = json_incref(json_object_get(v.document, "state"));
        }
    }
    verified_free(ctx, &v);
    return status;
}
