#include <stdlib.h>
#include <string.h>

#include "apps/train/recipe.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_folder.h"

enum { MAX_SETS = 4, MAX_SET_BYTES = 4096 };

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

/* What a trainer relies on. */
static void check(const mz_train_recipe *r) {
    require(r->data.n_sources >= 1 && r->data.n_sources <= MZ_TRAIN_MAX_SOURCES);
    require((r->model.config == NULL) != (r->model.checkpoint == NULL));
    require(!r->model.has_lora || r->model.checkpoint != NULL);
    require(r->data.context >= 1 && r->data.horizon >= 1 && r->data.min_points >= 1);
    require(r->schedule.total_steps >= 1 && r->schedule.lr > 0);
    require(r->optimizer.n_groups >= 0 && r->optimizer.n_groups <= MZ_TRAIN_MAX_GROUPS);
    require((r->batch_points > 0) != (r->batch_tokens > 0) && r->accumulate >= 1);
    require(r->checkpoint_keep >= 1 && r->checkpoint_every >= 0 && r->checkpoint_every_s >= 0);
}

/* Lines "KEY=VALUE" before the first one that begins otherwise are changes to the recipe, which is
 * the rest. */
static int take_sets(const uint8_t **data, size_t *size, char texts[MAX_SETS][MAX_SET_BYTES],
                     const char *sets[MAX_SETS]) {
    int n = 0;
    while (n<MAX_SETS && * size> 0 && (*data)[0] != '{') {
        const uint8_t *end = memchr(*data, '\n', *size);
        const size_t n_bytes = end != NULL ? (size_t)(end - *data) : *size;
        if (end == NULL || n_bytes >= MAX_SET_BYTES) {
            break;
        }
        memcpy(texts[n], *data, n_bytes);
        texts[n][n_bytes] = '\0';
        sets[n] = texts[n];
        n++;
        *data += n_bytes + 1;
        *size -= n_bytes + 1;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    char texts[MAX_SETS][MAX_SET_BYTES];
    const char *sets[MAX_SETS];
    char dir[INPUT_PATH_BYTES];
    char path[INPUT_PATH_BYTES];
    mz_train_recipe recipe;
    const int n_sets = take_sets(&data, &size, texts, sets);
    input_folder_create(dir);
    input_folder_write(dir, "recipe.json", data, size, path);
    if (mz_train_recipe_load(&ctx, path, sets, n_sets, &recipe) == MZ_OK) {
        check(&recipe);
        mz_train_recipe_free(&ctx, &recipe);
    }
    input_folder_remove(dir);
    return 0;
}
