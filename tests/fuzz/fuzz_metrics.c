#include <stdlib.h>
#include <string.h>

#include "apps/train/train_metrics.h"
#include "core/file.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_folder.h"

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

/* metrics.jsonl of a training that goes on behind step 3: whole lines from its beginning stay. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_train_metrics metrics = {0};
    mz_map map = {0};
    char dir[INPUT_PATH_BYTES];
    char path[INPUT_PATH_BYTES];
    input_folder_create(dir);
    input_folder_write(dir, "metrics.jsonl", data, size, path);
    require(mz_train_metrics_open(&ctx, path, 3, &metrics) == MZ_OK);
    mz_train_metrics_close(&metrics);
    require(mz_map_open(&ctx, path, &map) == MZ_OK && map.bytes <= size);
    require(map.bytes == 0 ||
            (memcmp(map.data, data, map.bytes) == 0 && data[map.bytes - 1] == '\n'));
    mz_map_close(&map);
    input_folder_remove(dir);
    return 0;
}
