#include <string.h>

#include "llm/tokenizer_internal.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/tokenizer_use.h"

/* A SentencePiece model, used as it is and as LlamaTokenizer uses it: what the reader accepts the
 * library must survive. */
static void run(const uint8_t *data, size_t size, const char *config) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_tokenizer *t = NULL;
    json_t *root = NULL;
    if (mz_tokenizer_parse_spm(&ctx, (const char *)data, size, "tokenizer.model", &t) != MZ_OK ||
        mz_json_parse(&ctx, config, strlen(config), "config", &root) != MZ_OK) {
        return;
    }
    const mz_json_object o = {.ctx = &ctx, .object = root, .name = "config"};
    if (mz_spm_configure(&o, "LlamaTokenizer", t) == MZ_OK && mz_spm_load(&ctx, t) == MZ_OK) {
        static const char words[] = " the<s>  \xE4\xBD\xA0 \xFF\xC3 12345\n\n\xEF\xBC\xA1";
        tokenizer_use(&ctx, t, words, sizeof words);
        tokenizer_use(&ctx, t, (const char *)data, size < 300 ? size : 300);
    }
    json_decref(root);
    mz_tokenizer_close(&ctx, t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run(data, size, "{\"legacy\": true}");
    run(data, size, "{\"legacy\": false}");
    return 0;
}
