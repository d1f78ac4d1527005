#include "llm/tokenizer_internal.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/tokenizer_use.h"

/* Ranks in base64. The single bytes, which a file must have, are put in front of the input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_text_buffer b = {0};
    for (int i = 0; i < 256; i++) {
        char line[16];
        const int n =
            snprintf(line, sizeof line, "%c%c== %d\n", digits[i / 4], digits[i % 4 * 16], i);
        (void)mz_text_buffer_put(&ctx, &b, line, (size_t)n);
    }
    (void)mz_text_buffer_put(&ctx, &b, (const char *)data, size);
    mz_tokenizer *t = NULL;
    const char *name = size % 2 == 0 ? "qwen.tiktoken" : "folder/arcade100k.tiktoken";
    if (mz_tokenizer_parse_tiktoken(&ctx, b.data, b.n, name, &t) == MZ_OK) {
        tokenizer_use(&ctx, t, (const char *)data, size < 300 ? size : 300);
    }
    mz_tokenizer_close(&ctx, t);
    t = NULL;
    (void)mz_tokenizer_parse_tiktoken(&ctx, (const char *)data, size, name, &t);
    mz_tokenizer_close(&ctx, t);
    mz_free(&ctx, b.data);
    return 0;
}
