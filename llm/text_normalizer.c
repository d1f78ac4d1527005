#include "llm/text_normalizer.h"

#include <string.h>
#include <utf8proc.h>

#include "llm/utf8.h"

static const size_t max_text_bytes = (size_t)1 << 31;

mz_status mz_text_buffer_put(mz_context *ctx, mz_text_buffer *b, const char *text, size_t n_bytes) {
    if (n_bytes > max_text_bytes - b->n) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                       "a text that is longer than %zu bytes when normalised", max_text_bytes);
    }
    void *memory = b->data;
    MZ_TRY(mz_grow(ctx, &memory, &b->capacity, b->n + n_bytes, 1, "text"));
    b->data = memory;
    if (n_bytes > 0) {
        memcpy(b->data + b->n, text, n_bytes);
    }
    b->n += n_bytes;
    return MZ_OK;
}

mz_status mz_normalizer_add(mz_error *err, mz_normalizer *n, mz_normalizer_kind kind,
                            const char *content, size_t n_content, mz_expression *expression) {
    if (n->n_steps == MZ_NORMALIZER_MAX_STEPS) {
        return mz_fail(err, MZ_ERR_LIMIT, "a normalizer of more than %d steps",
                       MZ_NORMALIZER_MAX_STEPS);
    }
    if (n_content > MZ_NORMALIZER_MAX_CONTENT) {
        return mz_fail(err, MZ_ERR_LIMIT,
                       "a normalizer's content of %zu bytes, at most %d are allowed", n_content,
                       MZ_NORMALIZER_MAX_CONTENT);
    }
    mz_normalizer_step *step = &n->steps[n->n_steps++];
    *step = (mz_normalizer_step){.kind = kind, .expression = expression, .n_content = n_content};
    if (n_content > 0) {
        memcpy(step->content, content, n_content);
    }
    return MZ_OK;
}

void mz_normalizer_free(mz_context *ctx, mz_normalizer *n) {
    for (int i = 0; i < n->n_steps; i++) {
        mz_expression_destroy(ctx, n->steps[i].expression);
    }
    *n = (mz_normalizer){0};
}

/* Canonical ordering of one run of marks, stable: a counting sort, because the library's own sort
 * is quadratic in the length of the run. */
static void order_run(utf8proc_int32_t *codes, size_t n, utf8proc_int32_t *scratch) {
    size_t offsets[257] = {0};
    for (size_t i = 0; i < n; i++) {
        offsets[(size_t)utf8proc_get_property(codes[i])->combining_class % 256 + 1]++;
    }
    for (size_t i = 1; i < 257; i++) {
        offsets[i] += offsets[i - 1];
    }
    for (size_t i = 0; i < n; i++) {
        const size_t c = (size_t)utf8proc_get_property(codes[i])->combining_class % 256;
        scratch[offsets[c]++] = codes[i];
    }
    memcpy(codes, scratch, n * sizeof *codes);
}

static void order_marks(utf8proc_int32_t *codes, size_t n, utf8proc_int32_t *scratch) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && utf8proc_get_property(codes[end])->combining_class != 0) {
            end++;
        }
        if (end - i > 1) {
            order_run(codes + i, end - i, scratch);
        }
        i = end + 1;
    }
}

/* No character becomes more than 18 (U+FDFA under NFKD), nor more code points than 4 times its
 * bytes canonically; both are asked of the library as it goes. */
static mz_status decompose(mz_context *ctx, const char *text, size_t n_bytes,
                           utf8proc_option_t options, utf8proc_int32_t **codes, size_t *n_codes,
                           size_t *capacity) {
    enum { MOST = 32 };
    size_t n = 0;
    for (size_t i = 0; i < n_bytes;) {
        uint32_t code = 0;
        i += (size_t)mz_utf8_decode(text + i, n_bytes - i, &code);
        void *memory = *codes;
        MZ_TRY(mz_grow(ctx, &memory, capacity, n + MOST, sizeof **codes, "text"));
        *codes = memory;
        int last = UTF8PROC_BOUNDCLASS_START;
        const utf8proc_ssize_t added =
            utf8proc_decompose_char((utf8proc_int32_t)code, *codes + n, MOST, options, &last);
        if (added < 0 || added > MOST) {
            return mz_fail(&ctx->error, MZ_ERR_LIMIT, "U+%04X cannot be normalised: %s",
                           (unsigned)code, utf8proc_errmsg(added));
        }
        n += (size_t)added;
    }
    *n_codes = n;
    return MZ_OK;
}

static mz_status normalize_unicode(mz_context *ctx, const char *text, size_t n_bytes,
                                   utf8proc_option_t options, mz_text_buffer *out) {
    bool ascii = true;
    for (size_t i = 0; i < n_bytes && ascii; i++) {
        ascii = (unsigned char)text[i] < 0x80;
    }
    if (ascii) {
        return mz_text_buffer_put(ctx, out, text, n_bytes);
    }
    const utf8proc_option_t split =
        (utf8proc_option_t)((options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE);
    utf8proc_int32_t *codes = NULL;
    void *scratch = NULL;
    size_t n = 0;
    size_t capacity = 0;
    mz_status status = decompose(ctx, text, n_bytes, split, &codes, &n, &capacity);
    if (status == MZ_OK) {
        status = mz_alloc(ctx, n * sizeof *codes, "text", &scratch);
    }
    if (status == MZ_OK) {
        order_marks(codes, n, scratch);
        if ((options & UTF8PROC_COMPOSE) != 0) {
            const utf8proc_ssize_t left =
                utf8proc_normalize_utf32(codes, (utf8proc_ssize_t)n, options);
            n = left > 0 ? (size_t)left : 0;
        }
        for (size_t i = 0; i < n && status == MZ_OK; i++) {
            char bytes[4];
            status = mz_text_buffer_put(ctx, out, bytes, mz_utf8_encode((uint32_t)codes[i], bytes));
        }
    }
    mz_free(ctx, scratch);
    mz_free(ctx, codes);
    return status;
}

static mz_status replace(mz_context *ctx, const mz_normalizer_step *step, const char *text,
                         size_t n_bytes, mz_text_buffer *out) {
    mz_expression_match *match = NULL;
    MZ_TRY(mz_expression_match_create(ctx, step->expression, &match));
    mz_status status = MZ_OK;
    size_t done = 0;
    for (size_t at = 0; at <= n_bytes && status == MZ_OK;) {
        bool found = false;
        size_t start = 0;
        size_t end = 0;
        status = mz_expression_find(ctx, match, text, n_bytes, at, &found, &start, &end);
        if (status != MZ_OK || !found) {
            break;
        }
        status = mz_text_buffer_put(ctx, out, text + done, start - done);
        if (status == MZ_OK) {
            status = mz_text_buffer_put(ctx, out, step->content, step->n_content);
        }
        done = end;
        at = end > start ? end : end + 1;
        while (at < n_bytes && ((unsigned char)text[at] & 0xC0) == 0x80) {
            at++;
        }
    }
    if (status == MZ_OK) {
        status = mz_text_buffer_put(ctx, out, text + done, n_bytes - done);
    }
    mz_expression_match_destroy(ctx, match);
    return status;
}

static mz_status replace_character(mz_context *ctx, const mz_normalizer_step *step,
                                   const char *text, size_t n_bytes, mz_text_buffer *out) {
    size_t done = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == step->from) {
            MZ_TRY(mz_text_buffer_put(ctx, out, text + done, i - done));
            MZ_TRY(mz_text_buffer_put(ctx, out, step->content, step->n_content));
            done = i + 1;
        }
    }
    return mz_text_buffer_put(ctx, out, text + done, n_bytes - done);
}

static mz_status prepend(mz_context *ctx, const mz_normalizer_step *step, const char *text,
                         size_t n_bytes, bool is_first, mz_text_buffer *out) {
    const bool first_only = step->kind == MZ_NORMALIZE_PREPEND_FIRST ||
                            step->kind == MZ_NORMALIZE_PREPEND_MISSING_FIRST;
    const bool missing_only = step->kind == MZ_NORMALIZE_PREPEND_MISSING ||
                              step->kind == MZ_NORMALIZE_PREPEND_MISSING_FIRST;
    const bool is_there =
        n_bytes >= step->n_content && memcmp(text, step->content, step->n_content) == 0;
    if (n_bytes > 0 && (is_first || !first_only) && !(missing_only && is_there)) {
        MZ_TRY(mz_text_buffer_put(ctx, out, step->content, step->n_content));
    }
    return mz_text_buffer_put(ctx, out, text, n_bytes);
}

static mz_status apply_step(mz_context *ctx, const mz_normalizer_step *step, const char *text,
                            size_t n_bytes, bool is_first, mz_text_buffer *out) {
    static const int options[] = {
        [MZ_NORMALIZE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [MZ_NORMALIZE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [MZ_NORMALIZE_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [MZ_NORMALIZE_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    switch (step->kind) {
    case MZ_NORMALIZE_NFC:
    case MZ_NORMALIZE_NFD:
    case MZ_NORMALIZE_NFKC:
    case MZ_NORMALIZE_NFKD:
        return normalize_unicode(ctx, text, n_bytes, (utf8proc_option_t)options[step->kind], out);
    case MZ_NORMALIZE_PREPEND:
    case MZ_NORMALIZE_PREPEND_FIRST:
    case MZ_NORMALIZE_PREPEND_MISSING:
    case MZ_NORMALIZE_PREPEND_MISSING_FIRST:
        return prepend(ctx, step, text, n_bytes, is_first, out);
    case MZ_NORMALIZE_REPLACE:
        return replace(ctx, step, text, n_bytes, out);
    case MZ_NORMALIZE_REPLACE_CHARACTER:
        return replace_character(ctx, step, text, n_bytes, out);
    }
    return MZ_OK;
}

mz_status mz_normalizer_apply(mz_context *ctx, const mz_normalizer *n, const char *text,
                              size_t n_bytes, bool is_first, mz_text_buffer *out,
                              mz_text_buffer *other) {
    out->n = 0;
    if (n->n_steps == 0) {
        return mz_text_buffer_put(ctx, out, text, n_bytes);
    }
    for (int i = 0; i < n->n_steps; i++) {
        const mz_text_buffer in = *out;
        *out = *other;
        *other = in;
        out->n = 0;
        MZ_TRY(apply_step(ctx, &n->steps[i], i == 0 ? text : other->data,
                          i == 0 ? n_bytes : other->n, is_first, out));
    }
    return MZ_OK;
}
