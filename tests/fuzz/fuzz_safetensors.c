#include "core/weights_internal.h"
#include "tests/fuzz/fuzz_target.h"

/* Reads the last byte of each tensor, which is inside the input if the reader did its work. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_weight_list list = {.ctx = &ctx};
    const mz_weight_file file = {.path = "input", .data = data, .n_bytes = size};
    if (mz_safetensors_read(&list, &file) == MZ_OK) {
        volatile uint8_t sink = 0;
        for (size_t i = 0; i < list.n; i++) {
            const mz_weight_entry *e = &list.entries[i];
            sink = e->n_bytes > 0 ? e->data[e->n_bytes - 1] : sink;
        }
        (void)sink;
    }
    mz_weight_list_free(&list);
    return 0;
}
