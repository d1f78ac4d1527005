#define PCRE2_CODE_UNIT_WIDTH 8

#include "llm/expression.h"

#include <pcre2.h>
#include <string.h>

/* A run of a million spaces is given back one by one by an expression such as \s*[\r\n]+; an
 * expression that needs more than this many steps at one place is not one that splits words. */
enum { MATCH_LIMIT = 50000000, DEPTH_LIMIT = 100000, HEAP_LIMIT_KIB = 256 * 1024 };
enum { PARENTHESES_LIMIT = 100 };
static const size_t max_pattern_bytes = (size_t)64 << 10;

struct mz_expression {
    mz_allocator allocator; /* what PCRE2 takes memory from */
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct mz_expression_match {
    mz_allocator allocator;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_match_data *data;
    const mz_expression *expression;
};

static void *take(size_t bytes, void *arg) {
    const mz_allocator *a = arg;
    return a->alloc(a->self, bytes > 0 ? bytes : 1, sizeof(void *) * 2);
}

static void give(void *ptr, void *arg) {
    const mz_allocator *a = arg;
    if (ptr != NULL) {
        a->free(a->self, ptr);
    }
}

static mz_status no_memory(mz_context *ctx) {
    return mz_fail(&ctx->error, MZ_ERR_NOMEM, "regular expression: out of memory");
}

/* White_Space, as the inside of a class. */
static const char spaces[] = "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}"
                             "\\x{2029}\\x{202F}\\x{205F}\\x{3000}";

/* Writes what `escape` (the letter after a backslash) becomes, or NULL where it stays. */
static const char *translated(char escape, bool in_class, char buffer[160]) {
    if (escape == 's' && in_class) {
        return spaces;
    }
    if (escape != 's' && (escape != 'S' || in_class)) {
        return NULL;
    }
    const size_t n = sizeof spaces - 1;
    size_t at = 0;
    buffer[at++] = '[';
    if (escape == 'S') {
        buffer[at++] = '^';
    }
    memcpy(buffer + at, spaces, n);
    memcpy(buffer + at + n, "]", 2);
    return buffer;
}

/* The expression with \s written out. Errors also: UNSUPPORTED. */
static mz_status translate(mz_context *ctx, const char *name, const char *pattern, size_t n_bytes,
                           char **out, size_t *n_out) {
    void *memory = NULL;
    MZ_TRY(mz_alloc(ctx, n_bytes * sizeof spaces + 1, "regular expression", &memory));
    char *text = memory;
    size_t n = 0;
    bool in_class = false;
    const char *bad = NULL;
    for (size_t i = 0; i < n_bytes && bad == NULL; i++) {
        const char c = pattern[i];
        char buffer[160];
        const char *escape = NULL;
        if (c == '\\' && i + 1 < n_bytes) {
            i++;
            escape = translated(pattern[i], in_class, buffer);
            bad = pattern[i] == 'h' || pattern[i] == 'H' ? "\\h" : NULL;
            if (escape == NULL) {
                text[n++] = '\\';
                text[n++] = pattern[i];
            } else {
                const size_t length = strlen(escape);
                memcpy(text + n, escape, length);
                n += length;
            }
            continue;
        }
        bad = in_class && c == '&' && i + 1 < n_bytes && pattern[i + 1] == '&' ? "&&" : NULL;
        in_class = c == '[' ? true : (c == ']' ? false : in_class);
        text[n++] = c;
    }
    if (bad != NULL) {
        mz_free(ctx, text);
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: the expression \"%.*s\" has %s in it, which is not supported", name,
                       (int)(n_bytes < 200 ? n_bytes : 200), pattern, bad);
    }
    *out = text;
    *n_out = n;
    return MZ_OK;
}

static mz_status compile_code(mz_context *ctx, mz_expression *e, const char *name,
                              const char *pattern, size_t n_bytes, uint32_t options) {
    e->memory = pcre2_general_context_create(take, give, &e->allocator);
    pcre2_compile_context *limits =
        e->memory != NULL ? pcre2_compile_context_create(e->memory) : NULL;
    if (limits == NULL) {
        return no_memory(ctx);
    }
    (void)pcre2_set_parens_nest_limit(limits, PARENTHESES_LIMIT);
    (void)pcre2_set_max_pattern_length(limits, max_pattern_bytes * sizeof spaces);
    int error = 0;
    PCRE2_SIZE offset = 0;
    const uint32_t all = (options & PCRE2_LITERAL) != 0
                             ? PCRE2_UTF | PCRE2_LITERAL
                             : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    e->code = pcre2_compile((PCRE2_SPTR)pattern, n_bytes, all, &error, &offset, limits);
    pcre2_compile_context_free(limits);
    if (e->code == NULL && error == PCRE2_ERROR_HEAP_FAILED) {
        return no_memory(ctx);
    }
    if (e->code == NULL) {
        PCRE2_UCHAR reason[160] = {0};
        (void)pcre2_get_error_message(error, reason, sizeof reason);
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: the expression \"%.*s\" is not supported, at byte %zu: %s", name,
                       (int)(n_bytes < 200 ? n_bytes : 200), pattern, (size_t)offset,
                       (const char *)reason);
    }
    /* Where it fails the interpreter does the same, slower. */
    (void)pcre2_jit_compile(e->code, PCRE2_JIT_COMPLETE);
    return MZ_OK;
}

static mz_status compile(mz_context *ctx, const char *name, const char *pattern, size_t n_bytes,
                         uint32_t options, mz_expression **out) {
    if (n_bytes > max_pattern_bytes) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                       "%s: an expression of %zu bytes, at most %zu are allowed", name, n_bytes,
                       max_pattern_bytes);
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_expression), "regular expression", &memory));
    mz_expression *e = memory;
    e->allocator = ctx->allocator;
    char *text = NULL;
    size_t n = n_bytes;
    mz_status status = MZ_OK;
    if ((options & PCRE2_LITERAL) == 0) {
        status = translate(ctx, name, pattern, n_bytes, &text, &n);
    }
    if (status == MZ_OK) {
        status = compile_code(ctx, e, name, text != NULL ? text : pattern, n, options);
    }
    mz_free(ctx, text);
    if (status != MZ_OK) {
        mz_expression_destroy(ctx, e);
        return status;
    }
    *out = e;
    return MZ_OK;
}

mz_status mz_expression_compile(mz_context *ctx, const char *name, const char *pattern,
                                size_t n_bytes, mz_expression **out) {
    return compile(ctx, name, pattern, n_bytes, 0, out);
}

mz_status mz_expression_compile_literal(mz_context *ctx, const char *name, const char *text,
                                        size_t n_bytes, mz_expression **out) {
    return compile(ctx, name, text, n_bytes, PCRE2_LITERAL, out);
}

void mz_expression_destroy(mz_context *ctx, mz_expression *e) {
    if (e != NULL) {
        pcre2_code_free(e->code);
        pcre2_general_context_free(e->memory);
        mz_free(ctx, e);
    }
}

mz_status mz_expression_match_create(mz_context *ctx, const mz_expression *e,
                                     mz_expression_match **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_expression_match), "regular expression", &memory));
    mz_expression_match *m = memory;
    m->allocator = ctx->allocator;
    m->expression = e;
    m->memory = pcre2_general_context_create(take, give, &m->allocator);
    if (m->memory != NULL) {
        m->limits = pcre2_match_context_create(m->memory);
        m->data = pcre2_match_data_create(1, m->memory);
    }
    if (m->limits == NULL || m->data == NULL) {
        mz_expression_match_destroy(ctx, m);
        return no_memory(ctx);
    }
    (void)pcre2_set_match_limit(m->limits, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(m->limits, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(m->limits, HEAP_LIMIT_KIB);
    *out = m;
    return MZ_OK;
}

void mz_expression_match_destroy(mz_context *ctx, mz_expression_match *match) {
    if (match != NULL) {
        pcre2_match_data_free(match->data);
        pcre2_match_context_free(match->limits);
        pcre2_general_context_free(match->memory);
        mz_free(ctx, match);
    }
}

mz_status mz_expression_find(mz_context *ctx, mz_expression_match *match, const char *text,
                             size_t n_bytes, size_t at, bool *found, size_t *start, size_t *end) {
    const pcre2_code *code = match->expression->code;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, at, options, match->data, match->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) {
        options |= PCRE2_NO_JIT;
        n = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, at, options, match->data, match->limits);
    }
    if (n == PCRE2_ERROR_NOMEMORY) {
        return no_memory(ctx);
    }
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR reason[160] = {0};
        (void)pcre2_get_error_message(n, reason, sizeof reason);
        return mz_fail(
            &ctx->error, MZ_ERR_LIMIT,
            "splitting a text of %zu bytes at byte %zu by the tokenizer's expression: %s", n_bytes,
            at, (const char *)reason);
    }
    *found = n >= 0;
    if (n >= 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match->data);
        /* \K within a lookaround can put the start behind the end. */
        *start = ends[0] < at ? at : ends[0];
        *end = ends[1] < *start ? *start : ends[1];
    }
    return MZ_OK;
}
