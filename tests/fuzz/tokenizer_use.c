#include "tests/fuzz/tokenizer_use.h"

#include <stdlib.h>
#include <string.h>

#include "llm/utf8.h"

static void must(bool holds) {
    if (!holds) {
        abort();
    }
}

static void decode(mz_context *ctx, const mz_tokenizer *t, const mz_token_list *list, bool keep) {
    char *text = NULL;
    size_t n_bytes = 0;
    if (mz_tokenizer_decode(ctx, t, list->ids, list->n, keep, &text, &n_bytes) != MZ_OK) {
        abort();
    }
    must(mz_utf8_valid(text, n_bytes));
    mz_detokenizer d = {.tokenizer = t, .keep_control = keep};
    size_t at = 0;
    for (int64_t i = 0; i <= list->n; i++) {
        const char *piece = NULL;
        size_t n = 0;
        must((i < list->n ? mz_detokenizer_push(ctx, &d, list->ids[i], &piece, &n)
                          : mz_detokenizer_finish(ctx, &d, &piece, &n)) == MZ_OK);
        must(mz_utf8_valid(piece, n) && at + n <= n_bytes && memcmp(text + at, piece, n) == 0);
        at += n;
    }
    must(at == n_bytes);
    mz_detokenizer_free(ctx, &d);
    mz_free(ctx, text);
}

void tokenizer_use(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes) {
    for (int bits = 0; bits < 8; bits++) {
        const mz_encode_options options = {.add_special = (bits & 1) != 0,
                                           .parse_special = (bits & 2) != 0,
                                           .continues = (bits & 4) != 0};
        mz_token_list list = {0};
        if (mz_tokenizer_encode(ctx, t, text, n_bytes, &options, &list) == MZ_OK) {
            for (int64_t i = 0; i < list.n; i++) {
                must(list.ids[i] >= 0 && list.ids[i] < mz_tokenizer_size(t));
            }
            decode(ctx, t, &list, bits % 2 == 0);
        }
        mz_token_list_free(ctx, &list);
    }
    /* Every token there is. */
    mz_token_list all = {0};
    const int64_t n = mz_tokenizer_size(t) < 600 ? mz_tokenizer_size(t) : 600;
    all.ids = malloc((size_t)(n + 1) * sizeof *all.ids);
    must(all.ids != NULL);
    for (int64_t i = 0; i < n; i++) {
        all.ids[i] = (int32_t)(n - 1 - i);
    }
    all.n = n;
    decode(ctx, t, &all, false);
    decode(ctx, t, &all, true);
    free(all.ids);
}
