#include "core/gguf_internal.h"
#include "llm/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/tokenizer_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_weight_list list = {.ctx = &ctx};
    mz_gguf g = {.ctx = &ctx, .path = "input"};
    mz_tokenizer *t = NULL;
    const mz_weight_file file = {.path = "input", .data = data, .n_bytes = size};
    if (mz_gguf_parse(&g, &file, &list) == MZ_OK && mz_tokenizer_open_gguf(&ctx, &g, &t) == MZ_OK) {
        static const char words[] = " the<s>  \xE4\xBD\xA0 \xFF\xC3 12345\n\n";
        tokenizer_use(&ctx, t, words, sizeof words);
        tokenizer_use(&ctx, t, (const char *)data, size < 300 ? size : 300);
    }
    mz_tokenizer_close(&ctx, t);
    g.path = NULL;
    mz_gguf_clear(&g);
    mz_weight_list_free(&list);
    return 0;
}
