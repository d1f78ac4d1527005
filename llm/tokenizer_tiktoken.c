#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "llm/tokenizer_internal.h"

/* *.tiktoken: a line a token, its bytes in base64 and its rank, which is its id. Splitting and
 * special tokens are in the code of the models that use it, so they are here by the file's name. */

static const size_t max_file_bytes = (size_t)256 << 20;
enum { MAX_TOKEN_BYTES = 4096 };

typedef struct special_names {
    const char *format; /* with %d where there are several */
    int n;
} special_names;

typedef struct encoding {
    const char *name;             /* the file's name begins with it */
    int gap;                      /* ids between the last rank and the first special token */
    const special_names *special; /* ends with NULL; the first ends a text */
} encoding;

/* StableLM-2, tokenization_arcade100k.py: 100257 and on. */
static const special_names arcade_special[] = {
    {"<|endoftext|>", 1},   {"<|fim_prefix|>", 1},
    {"<|fim_middle|>", 1},  {"<|fim_suffix|>", 1},
    {"<|fim_pad|>", 1},     {"<gh_stars>", 1},
    {"<filename>", 1},      {"<issue_start>", 1},
    {"<issue_comment>", 1}, {"<issue_closed>", 1},
    {"<jupyter_start>", 1}, {"<jupyter_text>", 1},
    {"<jupyter_code>", 1},  {"<jupyter_output>", 1},
    {"<empty_output>", 1},  {"<commit_before>", 1},
    {"<commit_msg>", 1},    {"<commit_after>", 1},
    {"<reponame>", 1},      {"<|endofprompt|>", 1},
    {"<|im_start|>", 1},    {"<|im_end|>", 1},
    {"<|pause|>", 1},       {"<|reg%d|>", 8},
    {"<|extra%d|>", 1},     {NULL, 0},
};

/* Qwen, tokenization_qwen.py: 151643 and on. */
static const special_names qwen_special[] = {
    {"<|endoftext|>", 1}, {"<|im_start|>", 1}, {"<|im_end|>", 1}, {"<|extra_%d|>", 205}, {NULL, 0},
};

static const encoding encodings[] = {
    {"arcade100k", 1, arcade_special},
    {"qwen", 0, qwen_special},
};

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : (c == '/' ? 63 : -1);
}

/* False for what is no base64 of 1 to MAX_TOKEN_BYTES bytes. */
static bool base64_decode(const char *text, size_t n, char *out, size_t *n_out) {
    if (n == 0 || n % 4 != 0 || n / 4 * 3 > MAX_TOKEN_BYTES) {
        return false;
    }
    const size_t n_pad = (size_t)(text[n - 1] == '=') + (text[n - 1] == '=' && text[n - 2] == '=');
    *n_out = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            const bool is_pad = i + k >= n - n_pad;
            const int digit = is_pad ? 0 : base64_digit(text[i + k]);
            if (digit < 0) {
                return false;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        const size_t n_bytes = i + 4 < n ? 3 : 3 - n_pad;
        for (size_t k = 0; k < n_bytes; k++) {
            out[(*n_out)++] = (char)(bits >> (16 - 8 * k));
        }
    }
    return *n_out > 0;
}

/* One line, without its end. */
static mz_status read_line(mz_context *ctx, const char *line, size_t n, const char *name,
                           int64_t number, mz_tokenizer *t) {
    const char *space = memchr(line, ' ', n);
    char bytes[MAX_TOKEN_BYTES + 4];
    size_t n_bytes = 0;
    int64_t rank = -1;
    if (space != NULL && base64_decode(line, (size_t)(space - line), bytes, &n_bytes)) {
        rank = space + 1 < line + n ? 0 : -1;
        for (const char *c = space + 1; c < line + n && rank >= 0; c++) {
            const bool is_digit = *c >= '0' && *c <= '9' && rank < MZ_VOCABULARY_MAX;
            rank = is_digit ? rank * 10 + (*c - '0') : -1;
        }
    }
    if (rank < 0) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "%s: line %lld is no token in base64 with a rank", name, (long long)number);
    }
    if (mz_vocabulary_find(&t->vocabulary, bytes, n_bytes) >= 0) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: line %lld: the token is there twice", name,
                       (long long)number);
    }
    return mz_vocabulary_add(ctx, &t->vocabulary, name, rank, bytes, n_bytes, MZ_PIECE_NORMAL,
                             0.0F);
}

static mz_status read_lines(mz_context *ctx, const char *text, size_t n_bytes, const char *name,
                            mz_tokenizer *t) {
    int64_t number = 0;
    for (const char *line = text, *end = text + n_bytes; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const char *next = stop != NULL ? stop + 1 : end;
        size_t n = (size_t)((stop != NULL ? stop : end) - line);
        n -= n > 0 && line[n - 1] == '\r';
        number++;
        if (n > 0) {
            MZ_TRY(read_line(ctx, line, n, name, number, t));
        }
        line = next;
    }
    mz_bpe_find_bytes(t);
    for (int b = 0; b < 256; b++) {
        if (t->bpe.byte_ids[b] < 0) {
            return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: the byte 0x%02X is no token", name,
                           (unsigned)b);
        }
    }
    return MZ_OK;
}

static mz_status add_special(mz_context *ctx, const encoding *e, const char *name,
                             mz_tokenizer *t) {
    int64_t id = t->vocabulary.n + e->gap;
    t->special[MZ_TOKEN_EOS] = (int32_t)id;
    for (const special_names *s = e->special; s->format != NULL; s++) {
        for (int i = 0; i < s->n; i++, id++) {
            char text[64];
            const char *number = strstr(s->format, "%d");
            const int n = number == NULL
                              ? snprintf(text, sizeof text, "%s", s->format)
                              : snprintf(text, sizeof text, "%.*s%d%s", (int)(number - s->format),
                                         s->format, i, number + 2);
            MZ_TRY(mz_vocabulary_add(ctx, &t->vocabulary, name, id, text, (size_t)n,
                                     MZ_PIECE_CONTROL, 0.0F));
            MZ_TRY(mz_added_token_add(ctx, t, &(mz_added_token){.id = (int32_t)id, .control = true},
                                      false));
        }
    }
    return MZ_OK;
}

static mz_status fill(mz_context *ctx, const char *text, size_t n_bytes, const char *name,
                      mz_tokenizer *t) {
    const char *slash = strrchr(name, '/');
    const char *file = slash != NULL ? slash + 1 : name;
    const encoding *e = NULL;
    for (size_t i = 0; i < sizeof encodings / sizeof encodings[0]; i++) {
        if (strncmp(file, encodings[i].name, strlen(encodings[i].name)) == 0) {
            e = &encodings[i];
        }
    }
    if (e == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: which text this encoding splits how is not known; known are "
                       "arcade100k*.tiktoken and qwen*.tiktoken",
                       name);
    }
    t->bpe.lookup = MZ_BPE_TEXT_RANK;
    t->bpe.byte_level = true;
    t->bpe.whole_word_first = true;
    MZ_TRY(read_lines(ctx, text, n_bytes, name, t));
    MZ_TRY(add_special(ctx, e, name, t));
    MZ_TRY(mz_normalizer_add(&ctx->error, &t->normalizer, MZ_NORMALIZE_NFC, NULL, 0, NULL));
    return mz_tokenizer_split_by(ctx, t, mz_expression_qwen2);
}

mz_status mz_tokenizer_parse_tiktoken(mz_context *ctx, const char *text, size_t n_bytes,
                                      const char *name, mz_tokenizer **out) {
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_create(ctx, &mz_tokenizer_bpe, "tiktoken", &t));
    const mz_status status = fill(ctx, text, n_bytes, name, t);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}

mz_status mz_tokenizer_read_tiktoken(mz_context *ctx, const char *path, mz_tokenizer **out) {
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_file_read(ctx, path, max_file_bytes, &text, &n_bytes));
    const mz_status status = mz_tokenizer_parse_tiktoken(ctx, text, n_bytes, path, out);
    mz_free(ctx, text);
    return status;
}
