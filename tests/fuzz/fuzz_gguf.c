#include "core/gguf_internal.h"
#include "tests/fuzz/fuzz_target.h"

/* Reads the last byte of each tensor, the first and last element of each array and every value by
 * each reader, which are inside the input if the reader did its work. */
static void read_values(mz_gguf *g) {
    mz_error err = {0};
    volatile double sink = 0;
    for (int64_t i = 0; i < mz_gguf_n_keys(g); i++) {
        const char *key = mz_gguf_key(g, i);
        mz_gguf_type type = MZ_GGUF_U8;
        mz_gguf_type element = MZ_GGUF_U8;
        int64_t n = 0;
        int64_t whole = 0;
        double number = 0;
        bool flag = false;
        const char *text = "";
        size_t n_bytes = 0;
        (void)mz_gguf_has(g, key, &type, &element, &n);
        (void)mz_gguf_int(g, &err, key, INT64_MIN, INT64_MAX, &whole);
        (void)mz_gguf_number(g, &err, key, &number);
        (void)mz_gguf_bool(g, &err, key, &flag);
        (void)mz_gguf_text(g, &err, key, &text, &n_bytes);
        for (int64_t at = 0; type == MZ_GGUF_ARRAY && n > 0 && at<n; at += n> 1 ? n - 1 : 1) {
            if (element == MZ_GGUF_STRING) {
                text = mz_gguf_array_text(g, key, at, &n_bytes);
            } else if (element != MZ_GGUF_ARRAY) {
                sink = sink + (double)mz_gguf_array_int(g, key, at);
                sink = sink + mz_gguf_array_number(g, key, at);
            }
        }
        sink = sink + (n_bytes > 0 ? text[n_bytes - 1] : 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_weight_list list = {.ctx = &ctx};
    mz_gguf g = {.ctx = &ctx};
    const mz_weight_file file = {.path = "input", .data = data, .n_bytes = size};
    if (mz_gguf_parse(&g, &file, &list) == MZ_OK) {
        volatile uint8_t sink = 0;
        for (size_t i = 0; i < list.n; i++) {
            sink = list.entries[i].data[list.entries[i].n_bytes - 1];
        }
        (void)sink;
        read_values(&g);
    }
    mz_gguf_clear(&g);
    mz_weight_list_free(&list);
    return 0;
}
