#include "llm/tokenizer_internal.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/tokenizer_use.h"

/* A tokenizer.json; the text that it is given is its own and a few words. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    json_t *root = NULL;
    mz_tokenizer *t = NULL;
    if (mz_json_parse(&ctx, (const char *)data, size, "tokenizer.json", &root) != MZ_OK) {
        return 0;
    }
    if (mz_tokenizer_parse_json(&ctx, root, "tokenizer.json", &t) == MZ_OK) {
        static const char words[] = " the<s>  \xE4\xBD\xA0 \xFF\xC3 12345\n\n";
        tokenizer_use(&ctx, t, words, sizeof words);
        tokenizer_use(&ctx, t, (const char *)data, size < 300 ? size : 300);
    }
    mz_tokenizer_close(&ctx, t);
    json_decref(root);
    return 0;
}
