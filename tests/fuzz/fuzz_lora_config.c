#include <stdlib.h>
#include <string.h>

#include "adapters/lora_config.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_folder.h"

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static bool same_text(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* What was read can be used, and is the same when written and read again. */
static void check(mz_context *ctx, const char *dir, const mz_lora_config *c) {
    mz_lora_config again = {0};
    require(mz_lora_config_check(&ctx->error, c) == MZ_OK);
    require(mz_lora_config_scale(c) > 0);
    (void)mz_lora_config_has(c, "model.layers.0.self_attn.q_proj");
    require(mz_lora_config_write(ctx, c, NULL, 0, dir) == MZ_OK);
    require(mz_lora_config_read(ctx, dir, &again) == MZ_OK);
    require(again.rank == c->rank && again.alpha == c->alpha && again.rslora == c->rslora);
    require(again.n_targets == c->n_targets && same_text(again.base, c->base));
    for (int64_t i = 0; i < c->n_targets; i++) {
        require(same_text(again.targets[i], c->targets[i]));
    }
    mz_lora_config_free(ctx, &again);
}

/* adapter_config.json. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    char dir[INPUT_PATH_BYTES];
    mz_lora_config config = {0};
    input_folder_create(dir);
    input_folder_write(dir, "adapter_config.json", data, size, NULL);
    if (mz_lora_config_read(&ctx, dir, &config) == MZ_OK) {
        check(&ctx, dir, &config);
        mz_lora_config_free(&ctx, &config);
    }
    input_folder_remove(dir);
    return 0;
}
