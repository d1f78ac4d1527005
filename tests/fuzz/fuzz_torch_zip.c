#include <stddef.h>

#include "core/weights_internal.h"
#include "tests/fuzz/fuzz_target.h"

static mz_status ignore(void *self, const mz_pickle_tensor *tensor) {
    (void)self;
    return tensor->n_bytes <= tensor->storage_bytes ? MZ_OK : MZ_ERR_FORMAT;
}

/* The input as an archive, where the last byte of each tensor is read, and as the pickle in one: a
 * mutation seldom gets both layers right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_weight_list list = {.ctx = &ctx};
    const mz_weight_file file = {.path = "input", .data = data, .n_bytes = size};
    if (mz_torch_zip_read(&list, &file) == MZ_OK) {
        volatile uint8_t sink = 0;
        for (size_t i = 0; i < list.n; i++) {
            const mz_weight_entry *e = &list.entries[i];
            sink = e->n_bytes > 0 ? e->data[e->n_bytes - 1] : sink;
        }
        (void)sink;
    }
    mz_weight_list_free(&list);
    (void)mz_pickle_read(&ctx, "input", data, size, ignore, NULL);
    return 0;
}
