#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llm/chat_template.h"
#include "llm/tokenizer_internal.h"
#include "tests/fuzz/fuzz_target.h"

enum { MAX_TURNS = 6 };

static const char *const added[] = {
    "<|im_start|>", "<|im_end|>",    "<start_of_turn>", "<end_of_turn>", "<|user|>",
    "<|system|>",   "<|assistant|>", "<|endoftext|>",   "</s>",          "<s>"};
enum { N_ADDED = sizeof added / sizeof added[0] };

/* A byte-level tokenizer with the control tokens of all templates: as control tokens, or as ones
 * that are matched in any text. */
static mz_tokenizer *make_tokenizer(mz_context *ctx, bool control) {
    mz_tokenizer *t = NULL;
    if (mz_tokenizer_create(ctx, &mz_tokenizer_bpe, "fuzz", &t) != MZ_OK) {
        abort();
    }
    t->bpe.byte_level = true;
    for (int i = 0; i < 256; i++) {
        const char byte = (char)i;
        (void)mz_vocabulary_add(ctx, &t->vocabulary, "fuzz", i, &byte, 1, MZ_PIECE_NORMAL, 0.0F);
    }
    for (int i = 0; i < N_ADDED; i++) {
        const mz_added_token token = {.id = 256 + i, .control = control};
        (void)mz_vocabulary_add(ctx, &t->vocabulary, "fuzz", token.id, added[i], strlen(added[i]),
                                control ? MZ_PIECE_CONTROL : MZ_PIECE_USER_DEFINED, 0.0F);
        (void)mz_added_token_add(ctx, t, &token, false);
    }
    t->special[MZ_TOKEN_EOS] = 256 + N_ADDED - 3;
    t->special[MZ_TOKEN_BOS] = 256 + N_ADDED - 1;
    mz_bpe_find_bytes(t);
    return t;
}

/* Control tokens of a conversation; of tokens that are matched in any text, which a user may write,
 * those that chatml's turns are made of. */
static int64_t count(const mz_token_list *list, const mz_chat_template *t,
                     const mz_tokenizer *tokenizer) {
    const bool chatml = strcmp(mz_chat_template_name(t), "chatml") == 0;
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++) {
        const int32_t id = list->ids[i];
        n += mz_tokenizer_is_control(tokenizer, id) || (chatml && id >= 256 && id < 258);
    }
    return n;
}

static void check(mz_context *ctx, const mz_chat_template *t, const mz_tokenizer *tokenizer,
                  const mz_chat_turn *turns, int n_turns, bool is_first) {
    mz_token_list list = {0};
    mz_token_list plain = {0};
    mz_chat_turn empty[MAX_TURNS];
    for (int i = 0; i < n_turns; i++) {
        empty[i] = (mz_chat_turn){turns[i].role, "x"};
    }
    const mz_status status =
        mz_chat_template_encode(ctx, t, tokenizer, turns, n_turns, is_first, &list);
    if (mz_chat_template_encode(ctx, t, tokenizer, empty, n_turns, is_first, &plain) != status) {
        abort();
    }
    if (status == MZ_OK && count(&list, t, tokenizer) != count(&plain, t, tokenizer)) {
        abort(); /* a turn's text became a control token */
    }
    mz_token_list_free(ctx, &list);
    mz_token_list_free(ctx, &plain);
}

/* The input is a conversation: the first byte chooses template and tokenizer, then texts that end
 * with NUL, each with its role in the byte before. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    mz_context ctx = {.allocator = mz_allocator_system()};
    char *copy = malloc(size + 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    copy[size] = '\0';
    mz_chat_turn turns[MAX_TURNS];
    int n_turns = 0;
    for (size_t at = 1; at < size && n_turns < MAX_TURNS; n_turns++) {
        turns[n_turns].role = (mz_chat_role)(data[at] % 3);
        turns[n_turns].text = copy + at + 1;
        at += 2 + strlen(copy + at + 1);
    }
    mz_tokenizer *tokenizer = make_tokenizer(&ctx, (data[0] & 0x80) != 0);
    const mz_chat_template *t = NULL;
    const char *name = mz_chat_template_name_at(data[0] % 8);
    if (name != NULL && mz_chat_template_find(&ctx.error, name, &t) == MZ_OK) {
        check(&ctx, t, tokenizer, turns, n_turns, (data[0] & 0x40) != 0);
    }
    const mz_chat_template *detected = NULL;
    (void)mz_chat_template_detect(&ctx.error, copy + 1, &detected);
    mz_tokenizer_close(&ctx, tokenizer);
    free(copy);
    return 0;
}
