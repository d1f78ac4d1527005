#include <string.h>
#include <utf8proc.h>

#include "llm/tokenizer_internal.h"
#include "llm/utf8.h"

mz_status mz_added_token_add(mz_context *ctx, mz_tokenizer *t, const mz_added_token *token,
                             bool normalized) {
    void *memory = t->added;
    MZ_TRY(mz_grow(ctx, &memory, &t->added_capacity, t->n_added + 1, sizeof *t->added,
                   "added tokens"));
    t->added = memory;
    t->added[t->n_added] = *token;
    size_t n_bytes = 0;
    const char *text = mz_vocabulary_text(&t->vocabulary, token->id, &n_bytes);
    const int32_t place = (int32_t)t->n_added;
    t->n_added++;
    if (!normalized) {
        return mz_token_trie_add(ctx, &t->raw, text, n_bytes, place);
    }
    mz_text_buffer out = {0};
    mz_text_buffer other = {0};
    mz_status status = mz_normalizer_apply(ctx, &t->normalizer, text, n_bytes, true, &out, &other);
    if (status == MZ_OK) {
        status = mz_token_trie_add(ctx, &t->normalized, out.data, out.n, place);
    }
    mz_free(ctx, out.data);
    mz_free(ctx, other.data);
    return status;
}

/* What \w matches. */
static bool is_word(uint32_t c) {
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}

static bool beside_word(const char *text, size_t n_bytes, size_t start, size_t end) {
    size_t before = 0;
    uint32_t code = 0;
    if (start > 0 && is_word(mz_utf8_before(text, start, &before))) {
        return true;
    }
    return end < n_bytes && mz_utf8_decode(text + end, n_bytes - end, &code) > 0 && is_word(code);
}

/* Takes in the white space around it, but none that was given before. */
static void strip(const mz_added_token *token, const char *text, size_t n_bytes, size_t given,
                  size_t *start, size_t *end) {
    while (token->strip_left && *start > given) {
        size_t before = 0;
        if (!mz_utf8_is_space(mz_utf8_before(text, *start, &before))) {
            break;
        }
        *start = before;
    }
    while (token->strip_right && *end < n_bytes) {
        uint32_t code = 0;
        const int n = mz_utf8_decode(text + *end, n_bytes - *end, &code);
        if (n == 0 || !mz_utf8_is_space(code)) {
            break;
        }
        *end += (size_t)n;
    }
}

static bool not_control(const void *arg, int32_t place) {
    const mz_tokenizer *t = arg;
    return !t->added[place].control;
}

bool mz_added_next(const mz_tokenizer *t, const mz_token_trie *trie, bool parse_special,
                   const char *text, size_t n_bytes, mz_added_cursor *c, mz_added_cut *cut) {
    if (c->has_token) {
        c->has_token = false;
        *cut = c->token;
        return true;
    }
    while (c->searched < n_bytes) {
        size_t start = 0;
        size_t end = 0;
        const int32_t place = mz_token_trie_find(
            trie, text, n_bytes, c->searched, parse_special ? NULL : not_control, t, &start, &end);
        if (place < 0) {
            c->searched = n_bytes;
            break;
        }
        const mz_added_token *token = &t->added[place];
        c->searched = end;
        if (token->single_word && beside_word(text, n_bytes, start, end)) {
            continue;
        }
        strip(token, text, n_bytes, c->given, &start, &end);
        c->searched = end;
        c->token = (mz_added_cut){.start = start, .end = end, .id = token->id};
        *cut = (mz_added_cut){.start = c->given, .end = start, .id = -1};
        c->given = end;
        c->has_token = start > cut->start;
        if (!c->has_token) {
            *cut = c->token;
        }
        return true;
    }
    *cut = (mz_added_cut){.start = c->given, .end = n_bytes, .id = -1};
    c->given = n_bytes;
    return cut->start < cut->end;
}
