#include <stdlib.h>

#include "core/checkpoint.h"
#include "core/json.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_folder.h"

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

/* The newest one, if it is whole, into a tensor of two values. */
static mz_status read_latest(mz_context *ctx, const char *dir, int64_t *step, json_t **state) {
    float values[2];
    mz_checkpoint latest = {0};
    const mz_checkpoint_tensor tensor = {
        .name = "w",
        .tensor = {.dtype = MZ_DTYPE_F32, .n_dims = 1, .shape = {2}, .ld = 2, .data = values}};
    MZ_TRY(mz_checkpoint_latest(ctx, dir, &latest));
    const mz_status status = latest.path == NULL
                                 ? MZ_ERR_MISSING
                                 : mz_checkpoint_read(ctx, latest.path, &tensor, 1, step, state);
    mz_checkpoint_free(ctx, &latest);
    return status;
}

/* The input as state.json of a checkpoint. */
static void read_document(mz_context *ctx, const char *dir, const uint8_t *data, size_t size) {
    static const char tensors[] =
        "\x40\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
        "           \1\2\3\4\5\6\7\10";
    json_t *state = NULL;
    input_folder_make(dir, "checkpoints");
    input_folder_make(dir, "checkpoints/step-00000007");
    input_folder_write(dir, "checkpoints/step-00000007/state.safetensors", tensors,
                       sizeof tensors - 1, NULL);
    input_folder_write(dir, "checkpoints/step-00000007/state.json", data, size, NULL);
    (void)read_latest(ctx, dir, NULL, &state);
    json_decref(state);
}

/* The input as a state that is written: it is read as it was, or nothing is written. */
static void write_state(mz_context *ctx, const char *dir, const uint8_t *data, size_t size) {
    float values[2] = {1, 2};
    json_t *state = NULL;
    json_t *again = NULL;
    int64_t step = 0;
    const mz_checkpoint_tensor tensor = {
        .name = "w",
        .tensor = {.dtype = MZ_DTYPE_F32, .n_dims = 1, .shape = {2}, .ld = 2, .data = values}};
    if (mz_json_parse(ctx, (const char *)data, size, "state", &state) != MZ_OK) {
        return;
    }
    if (mz_checkpoint_write(ctx, dir, 8, &tensor, 1, state, 1) == MZ_OK) {
        require(read_latest(ctx, dir, &step, &again) == MZ_OK && step == 8);
        require(json_equal(state, again));
        json_decref(again);
    }
    json_decref(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    char dir[INPUT_PATH_BYTES];
    input_folder_create(dir);
    read_document(&ctx, dir, data, size);
    write_state(&ctx, dir, data, size);
    input_folder_remove(dir);
    return 0;
}
