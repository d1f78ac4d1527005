#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "llm/bpe_merge.h"
#include "llm/expression.h"
#include "llm/text_normalizer.h"
#include "llm/text_splitter.h"
#include "llm/token_trie.h"
#include "llm/unigram.h"
#include "llm/utf8.h"
#include "llm/vocabulary.h"
#include "tests/testing.h"

/* --- UTF-8 ----------------------------------------------------------------------------------- */

static void every_character_comes_back(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        uint32_t back = 0;
        const size_t n = mz_utf8_encode(c, bytes);
        const int length = mz_utf8_decode(bytes, n, &back);
        if (c >= 0xD800 && c <= 0xDFFF) {
            assert_int_equal(length, 0);
            continue;
        }
        assert_int_equal(length, n);
        assert_int_equal(back, c);
        assert_true(n == 1 || mz_utf8_decode(bytes, n - 1, NULL) == 0);
        size_t start = 9;
        assert_int_equal(mz_utf8_before(bytes, n, &start), c);
        assert_int_equal(start, 0);
    }
}

static void broken_text_is_repaired(void **state) {
    mz_context *ctx = *state;
    /* Expected: what Python's decode(errors="replace") gives. R is U+FFFD. */
#define R "\xEF\xBF\xBD"
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"", ""},
        {"a\xC3\xA9", "a\xC3\xA9"},
        {"\xFF", R},
        {"\x80\x80", R R},
        {"\xC3", R},
        {"\xC3(", R "("},
        {"\xC0\xAF", R R},             /* overlong */
        {"\xE0\x80\x80", R R R},       /* overlong */
        {"\xED\xA0\x80", R R R},       /* surrogate */
        {"\xF0\x9F\x98", R},           /* cut off: one for all of it */
        {"\xF0\x9F\x98x", R "x"},      /* */
        {"\xF4\x90\x80\x80", R R R R}, /* above U+10FFFF */
        {"\xE4\xBD\xE4\xBD\xA0", R "\xE4\xBD\xA0"},
        {"\xF5\x80\x80\x80", R R R R},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *out = NULL;
        size_t n = 0;
        const size_t n_text = strlen(cases[i].text);
        mz_assert_ok(ctx, mz_utf8_repair(ctx, cases[i].text, n_text, &out, &n));
        assert_string_equal(out, cases[i].expected);
        assert_int_equal(n, strlen(cases[i].expected));
        assert_true(mz_utf8_valid(out, n));
        assert_int_equal(mz_utf8_valid(cases[i].text, n_text),
                         strcmp(cases[i].text, cases[i].expected) == 0);
        mz_free(ctx, out);
    }
    /* A byte that continues nothing is no part of the space before it. */
    size_t start = 0;
    assert_int_equal(mz_utf8_before(" \xA0", 2, &start), 0xFFFD);
    assert_int_equal(start, 1);
    bool cut = false;
    assert_int_equal(mz_utf8_bad_length("\xF0\x9F", 2, &cut), 2);
    assert_true(cut);
    assert_int_equal(mz_utf8_bad_length("\xF0\x9Fx", 3, &cut), 2);
    assert_false(cut);
    assert_int_equal(mz_utf8_bad_length("\xFF", 1, &cut), 1);
    assert_false(cut);
    assert_true(mz_utf8_is_space(0x3000) && mz_utf8_is_space(0x85) && mz_utf8_is_space(' '));
    assert_false(mz_utf8_is_space(0x200B) || mz_utf8_is_space(0x180E) || mz_utf8_is_space('a'));
}

/* --- Vocabulary ------------------------------------------------------------------------------ */

static void tokens_are_found_by_text_and_id(void **state) {
    mz_context *ctx = *state;
    enum { N = 5000 };
    mz_vocabulary v = {0};
    char text[32];
    assert_int_equal(mz_vocabulary_find(&v, "a", 1), -1);
    for (int i = 0; i < N; i++) {
        const int n = snprintf(text, sizeof text, "token %d", i);
        /* From the end, so that ids without a token lie between. */
        mz_assert_ok(ctx, mz_vocabulary_add(ctx, &v, "F", 2 * (N - i), text, (size_t)n,
                                            MZ_PIECE_NORMAL, 0.5F));
    }
    assert_int_equal(v.n, 2 * N + 1);
    for (int i = 0; i < N; i++) {
        const int n = snprintf(text, sizeof text, "token %d", i);
        const int32_t id = mz_vocabulary_find(&v, text, (size_t)n);
        assert_int_equal(id, 2 * (N - i));
        size_t n_bytes = 0;
        assert_memory_equal(mz_vocabulary_text(&v, id, &n_bytes), text, n);
        assert_int_equal(n_bytes, n);
        assert_int_equal(v.pieces[id - 1].type, MZ_PIECE_NONE);
    }
    assert_int_equal(mz_vocabulary_find(&v, "token", 5), -1);
    /* The same text again: the first id stays. The same id again: as it is, or an error. */
    mz_assert_ok(ctx, mz_vocabulary_add(ctx, &v, "F", 1, "token 7", 7, MZ_PIECE_NORMAL, 0));
    assert_int_equal(mz_vocabulary_find(&v, "token 7", 7), 2 * (N - 7));
    mz_assert_ok(ctx, mz_vocabulary_add(ctx, &v, "F", 1, "token 7", 7, MZ_PIECE_CONTROL, 0));
    assert_int_equal(v.pieces[1].type, MZ_PIECE_CONTROL);
    assert_int_equal(mz_vocabulary_add(ctx, &v, "F", 1, "other", 5, MZ_PIECE_NORMAL, 0),
                     MZ_ERR_FORMAT);
    assert_string_equal(ctx->error.message, "F: two tokens with the id 1");
    assert_int_equal(mz_vocabulary_add(ctx, &v, "F", -1, "x", 1, MZ_PIECE_NORMAL, 0), MZ_ERR_LIMIT);
    assert_int_equal(mz_vocabulary_add(ctx, &v, "F", MZ_VOCABULARY_MAX, "x", 1, MZ_PIECE_NORMAL, 0),
                     MZ_ERR_LIMIT);
    assert_int_equal(mz_vocabulary_reserve(ctx, &v, MZ_VOCABULARY_MAX + 1, 0), MZ_ERR_LIMIT);
    mz_vocabulary_free(ctx, &v);
}

static void bytes_have_characters(void **state) {
    (void)state;
    bool seen[400] = {false};
    for (int b = 0; b < 256; b++) {
        const uint32_t code = mz_byte_alphabet_code((uint8_t)b);
        assert_true(code > 32 && code < 324 && !seen[code]);
        seen[code] = true;
        assert_int_equal(mz_byte_alphabet_byte(code), b);
    }
    assert_int_equal(mz_byte_alphabet_code('A'), 'A');
    assert_int_equal(mz_byte_alphabet_code(' '), 0x120);
    assert_int_equal(mz_byte_alphabet_code('\n'), 0x10A);
    assert_int_equal(mz_byte_alphabet_code(0xAD), 0x143);
    assert_int_equal(mz_byte_alphabet_byte(' '), -1);
    assert_int_equal(mz_byte_alphabet_byte(0xAD), -1);
    assert_int_equal(mz_byte_alphabet_byte(0x144), -1);
    assert_int_equal(mz_byte_alphabet_byte(0x10FFFF), -1);
    assert_int_equal(mz_byte_piece_value("<0x0A>", 6), 10);
    assert_int_equal(mz_byte_piece_value("<0xfF>", 6), 255);
    assert_int_equal(mz_byte_piece_value("<0xG0>", 6), -1);
    assert_int_equal(mz_byte_piece_value("<0x0A", 5), -1);
}

/* --- Added tokens ---------------------------------------------------------------------------- */

static bool is_even(const void *arg, int32_t id) {
    (void)arg;
    return id % 2 == 0;
}

static void the_longest_token_is_found(void **state) {
    mz_context *ctx = *state;
    mz_token_trie trie = {0};
    size_t start = 0;
    size_t end = 0;
    assert_int_equal(mz_token_trie_find(&trie, "abc", 3, 0, NULL, NULL, &start, &end), -1);
    mz_assert_ok(ctx, mz_token_trie_add(ctx, &trie, "ab", 2, 2));
    mz_assert_ok(ctx, mz_token_trie_add(ctx, &trie, "abcd", 4, 1));
    mz_assert_ok(ctx, mz_token_trie_add(ctx, &trie, "bcde", 4, 4));
    mz_assert_ok(ctx, mz_token_trie_add(ctx, &trie, "ab", 2, 9));
    static const char text[] = "xabcde abx";
    assert_int_equal(mz_token_trie_find(&trie, text, 10, 0, NULL, NULL, &start, &end), 1);
    assert_true(start == 1 && end == 5);
    assert_int_equal(mz_token_trie_find(&trie, text, 10, 0, is_even, NULL, &start, &end), 2);
    assert_true(start == 1 && end == 3);
    assert_int_equal(mz_token_trie_find(&trie, text, 10, 2, NULL, NULL, &start, &end), 4);
    assert_true(start == 2 && end == 6);
    assert_int_equal(mz_token_trie_find(&trie, text, 10, 3, NULL, NULL, &start, &end), 2);
    assert_true(start == 7 && end == 9);
    assert_int_equal(mz_token_trie_find(&trie, text, 8, 3, NULL, NULL, &start, &end), -1);
    uint32_t node = 0;
    assert_true(mz_token_trie_step(&trie, &node, 'a') && trie.ids[node] == -1);
    assert_true(mz_token_trie_step(&trie, &node, 'b') && trie.ids[node] == 2);
    assert_false(mz_token_trie_step(&trie, &node, 'x'));
    char large[MZ_TOKEN_TRIE_MAX_BYTES + 1];
    memset(large, 'a', sizeof large);
    mz_assert_ok(ctx, mz_token_trie_add(ctx, &trie, large, sizeof large - 1, 5));
    assert_int_equal(mz_token_trie_add(ctx, &trie, large, sizeof large, 5), MZ_ERR_LIMIT);
    assert_int_equal(mz_token_trie_add(ctx, &trie, "", 0, 5), MZ_ERR_LIMIT);
    mz_token_trie_free(ctx, &trie);
}

/* --- Merging --------------------------------------------------------------------------------- */

typedef struct pair_rule {
    int32_t modulus;
} pair_rule;

/* Ranks and results that depend on the pair alone, with many equal ranks. */
static bool by_rule(const void *arg, const mz_merge_symbol *a, const mz_merge_symbol *b,
                    uint32_t *rank, int32_t *id) {
    const pair_rule *rule = arg;
    const int32_t mixed = (a->id * 31 + b->id * 17) % rule->modulus;
    *rank = (uint32_t)(mixed % 7);
    *id = mixed + 4;
    return mixed % 3 != 0;
}

/* The definition: of all neighbours the pair of the lowest rank, the leftmost of them, until none
 * is left. */
static int merge_plainly(int32_t *ids, int n, const pair_rule *rule) {
    for (;;) {
        int best = -1;
        uint32_t best_rank = 0;
        int32_t best_id = 0;
        for (int i = 0; i + 1 < n; i++) {
            uint32_t rank = 0;
            int32_t id = 0;
            const mz_merge_symbol a = {.id = ids[i]};
            const mz_merge_symbol b = {.id = ids[i + 1]};
            if (by_rule(rule, &a, &b, &rank, &id) && (best < 0 || rank < best_rank)) {
                best = i;
                best_rank = rank;
                best_id = id;
            }
        }
        if (best < 0) {
            return n;
        }
        ids[best] = best_id;
        memmove(ids + best + 1, ids + best + 2, (size_t)(n - best - 2) * sizeof *ids);
        n--;
    }
}

/* 0 to n-1. */
static int32_t draw(uint64_t *drawn, int32_t n) {
    return (int32_t)(mz_rng_uniform(1, 2, (*drawn)++) * (float)n);
}

static void merging_is_what_its_definition_says(void **state) {
    mz_context *ctx = *state;
    enum { N_MAX = 60, N_ROUNDS = 400 };
    uint64_t drawn = 0;
    mz_merge_work work = {0};
    for (int round = 0; round < N_ROUNDS; round++) {
        const int n = draw(&drawn, N_MAX + 1);
        const pair_rule rule = {.modulus = 5 + draw(&drawn, 40)};
        int32_t ids[N_MAX];
        work.n_symbols = 0;
        for (int i = 0; i < n; i++) {
            ids[i] = draw(&drawn, 4);
            mz_assert_ok(ctx, mz_merge_push(ctx, &work, (size_t)i, 1, ids[i]));
        }
        const int expected = merge_plainly(ids, n, &rule);
        mz_assert_ok(ctx, mz_merge_run(ctx, &work, by_rule, &rule));
        int count = 0;
        size_t at = 0;
        for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = work.symbols[i].next) {
            assert_int_equal(work.symbols[i].id, ids[count]);
            assert_int_equal(work.symbols[i].start, at);
            at += work.symbols[i].n_bytes;
            count++;
        }
        assert_int_equal(count, expected);
        assert_int_equal(at, n);
    }
    mz_merge_work_free(ctx, &work);
}

static void pairs_are_found(void **state) {
    mz_context *ctx = *state;
    mz_merge_table table = {0};
    uint32_t rank = 0;
    int32_t id = 0;
    assert_false(mz_merge_table_find(&table, 1, 2, &rank, &id));
    mz_assert_ok(ctx, mz_merge_table_reserve(ctx, &table, 3000));
    for (int32_t i = 0; i < 3000; i++) {
        mz_merge_table_add(&table, i, i / 2, (uint32_t)i, 2 * i);
    }
    mz_merge_table_add(&table, 7, 3, 9999, 5);
    assert_int_equal(table.n, 3000);
    for (int32_t i = 0; i < 3000; i++) {
        assert_true(mz_merge_table_find(&table, i, i / 2, &rank, &id));
        assert_int_equal(id, i == 7 ? 5 : 2 * i);
        assert_int_equal(rank, i == 7 ? 9999 : i);
        assert_false(mz_merge_table_find(&table, i, i + 1, &rank, &id));
    }
    mz_merge_table_free(ctx, &table);
}

/* --- Expressions ----------------------------------------------------------------------------- */

static void expressions_mean_what_the_files_mean(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *pattern;
        const char *text;
        int start, end; /* -1: not found */
    } cases[] = {
        {"\\s+", "a\xE3\x80\x80\xC2\xA0 b", 1, 7}, /* U+3000, U+00A0 */
        {"\\s", "a\xE1\xA0\x8E", -1, -1},          /* U+180E is none any more */
        {"\\S+", " \xE1\xA0\x8E ", 1, 4},
        {"[^\\s\\p{L}\\p{N}]+", "a !? b", 2, 4},
        {"\\p{N}", "a\xC2\xB2", 1, 3}, /* superscript two */
        {"\\s+(?!\\S)", "a   b", 1, 3},
        {"(?i:'s)", "it'S", 2, 4},
        {"x\\\\s", "x\\s", 0, 3}, /* an escaped backslash before an s */
        {"[a\\]\\s]+", "b] a", 1, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_expression *e = NULL;
        mz_expression_match *m = NULL;
        bool found = false;
        size_t start = 0;
        size_t end = 0;
        const size_t n = strlen(cases[i].text);
        mz_assert_ok(
            ctx, mz_expression_compile(ctx, "F", cases[i].pattern, strlen(cases[i].pattern), &e));
        mz_assert_ok(ctx, mz_expression_match_create(ctx, e, &m));
        mz_assert_ok(ctx, mz_expression_find(ctx, m, cases[i].text, n, 0, &found, &start, &end));
        if (found != (cases[i].start >= 0) ||
            (found && (start != (size_t)cases[i].start || end != (size_t)cases[i].end))) {
            fail_msg("%s: found %d, %zu to %zu", cases[i].pattern, found, start, end);
        }
        mz_expression_match_destroy(ctx, m);
        mz_expression_destroy(ctx, e);
    }
}

static void bad_expressions_are_refused(void **state) {
    mz_context *ctx = *state;
    static const char *const bad[] = {"(",        "[a",  "\\p{Nothing}", "\\h",
                                      "[a&&[b]]", "\\C", "a{2,1}",       "(?<n>a)(?<n>b)"};
    mz_expression *e = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mz_expression_compile(ctx, "FILE", bad[i], strlen(bad[i]), &e),
                         MZ_ERR_UNSUPPORTED);
        assert_null(e);
        assert_non_null(strstr(ctx->error.message, "FILE: the expression \""));
    }
    char *large = malloc(70000);
    assert_non_null(large);
    memset(large, 'a', 70000);
    assert_int_equal(mz_expression_compile(ctx, "FILE", large, 70000, &e), MZ_ERR_LIMIT);
    memset(large, '(', 60000);
    assert_int_equal(mz_expression_compile(ctx, "FILE", large, 60000, &e), MZ_ERR_UNSUPPORTED);
    free(large);
    /* One that tries every way to cut a text ends at a limit. */
    static const char slow[] = "(a+a+a+)+(b|c)$";
    static const char text[] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    mz_expression_match *m = NULL;
    bool found = false;
    size_t start = 0;
    size_t end = 0;
    mz_assert_ok(ctx, mz_expression_compile(ctx, "FILE", slow, sizeof slow - 1, &e));
    mz_assert_ok(ctx, mz_expression_match_create(ctx, e, &m));
    assert_int_equal(mz_expression_find(ctx, m, text, sizeof text - 1, 0, &found, &start, &end),
                     MZ_ERR_LIMIT);
    mz_expression_match_destroy(ctx, m);
    mz_expression_destroy(ctx, e);
}

/* --- Normalising ----------------------------------------------------------------------------- */

static void normal_forms_are_unicodes(void **state) {
    mz_context *ctx = *state;
    static const struct {
        mz_normalizer_kind kind;
        const char *text;
        const char *expected;
    } cases[] = {
        {MZ_NORMALIZE_NFC, "e\xCC\x81", "\xC3\xA9"},
        {MZ_NORMALIZE_NFC, "plain", "plain"},
        {MZ_NORMALIZE_NFC, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"}, /* Hangul */
        {MZ_NORMALIZE_NFC, "\xE2\x84\xAB", "\xC3\x85"},                             /* Angstrom */
        /* Marks are put in order: dot below (220) before acute (230). */
        {MZ_NORMALIZE_NFD, "a\xCC\x81\xCC\xA3", "a\xCC\xA3\xCC\x81"},
        {MZ_NORMALIZE_NFC, "q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},
        {MZ_NORMALIZE_NFD, "\xC3\xA9", "e\xCC\x81"},
        {MZ_NORMALIZE_NFKC, "\xEF\xAC\x81\xC2\xB2", "fi2"},
        {MZ_NORMALIZE_NFKD, "\xC3\xA9\xEF\xBC\xA1",
         "e\xCC\x81"
         "A"},
    };
    mz_text_buffer out = {0};
    mz_text_buffer other = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_normalizer n = {0};
        mz_assert_ok(ctx, mz_normalizer_add(&ctx->error, &n, cases[i].kind, NULL, 0, NULL));
        mz_assert_ok(ctx, mz_normalizer_apply(ctx, &n, cases[i].text, strlen(cases[i].text), true,
                                              &out, &other));
        assert_int_equal(out.n, strlen(cases[i].expected));
        assert_memory_equal(out.data, cases[i].expected, out.n);
        mz_normalizer_free(ctx, &n);
    }
    mz_free(ctx, out.data);
    mz_free(ctx, other.data);
}

static void steps_follow_one_another(void **state) {
    mz_context *ctx = *state;
    mz_normalizer n = {0};
    mz_expression *digits = NULL;
    mz_text_buffer out = {0};
    mz_text_buffer other = {0};
    mz_assert_ok(ctx, mz_expression_compile(ctx, "F", "[0-9]*", 6, &digits));
    mz_assert_ok(ctx, mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_PREPEND, "<", 1, NULL));
    mz_assert_ok(ctx, mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_PREPEND_FIRST, "^", 1, NULL));
    mz_assert_ok(ctx,
                 mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_PREPEND_MISSING, "^", 1, NULL));
    mz_assert_ok(ctx,
                 mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_REPLACE_CHARACTER, "__", 2, NULL));
    n.steps[3].from = ' ';
    mz_assert_ok(ctx, mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_REPLACE, "#", 1, digits));
    mz_assert_ok(ctx, mz_normalizer_apply(ctx, &n, "a 12", 4, true, &out, &other));
    /* The empty match is one too, as in Rust's engines. */
    assert_memory_equal(out.data, "#^#<#a#_#_##", out.n);
    mz_assert_ok(ctx, mz_normalizer_apply(ctx, &n, "", 0, true, &out, &other));
    assert_int_equal(out.n, 1);
    char large[MZ_NORMALIZER_MAX_CONTENT + 1] = {0};
    assert_int_equal(
        mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_PREPEND, large, sizeof large, NULL),
        MZ_ERR_LIMIT);
    while (n.n_steps < MZ_NORMALIZER_MAX_STEPS) {
        mz_assert_ok(ctx, mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_NFC, NULL, 0, NULL));
    }
    assert_int_equal(mz_normalizer_add(&ctx->error, &n, MZ_NORMALIZE_NFC, NULL, 0, NULL),
                     MZ_ERR_LIMIT);
    mz_normalizer_free(ctx, &n);
    mz_free(ctx, out.data);
    mz_free(ctx, other.data);
}

/* --- Splitting ------------------------------------------------------------------------------- */

static mz_status collect(mz_context *ctx, void *arg, const char *text, size_t n_bytes) {
    mz_text_buffer *b = arg;
    MZ_TRY(mz_text_buffer_put(ctx, b, text, n_bytes));
    return mz_text_buffer_put(ctx, b, "|", 1);
}

static void matches_are_split_as_told(void **state) {
    mz_context *ctx = *state;
    static const struct {
        mz_split_behavior behavior;
        bool invert;
        const char *expected; /* of "the-final--countdown", by "-": the library's own example */
    } cases[] = {
        {MZ_SPLIT_ISOLATED, false, "the|-|final|-|-|countdown|"},
        {MZ_SPLIT_REMOVED, false, "the|final|countdown|"},
        {MZ_SPLIT_MERGED_WITH_PREVIOUS, false, "the-|final-|-|countdown|"},
        {MZ_SPLIT_MERGED_WITH_NEXT, false, "the|-final|-|-countdown|"},
        {MZ_SPLIT_CONTIGUOUS, false, "the|-|final|--|countdown|"},
        {MZ_SPLIT_REMOVED, true, "-|-|-|"},
    };
    static const char text[] = "the-final--countdown";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_text_splitter s = {0};
        mz_text_splitting splitting = {0};
        mz_expression *e = NULL;
        mz_text_buffer b = {0};
        mz_assert_ok(ctx, mz_expression_compile_literal(ctx, "F", "-", 1, &e));
        mz_assert_ok(ctx,
                     mz_text_splitter_add(&ctx->error, &s, e, cases[i].behavior, cases[i].invert));
        mz_assert_ok(ctx, mz_text_splitting_begin(ctx, &s, &splitting));
        mz_assert_ok(ctx,
                     mz_text_splitting_run(ctx, &splitting, text, sizeof text - 1, collect, &b));
        assert_int_equal(b.n, strlen(cases[i].expected));
        assert_memory_equal(b.data, cases[i].expected, b.n);
        b.n = 0;
        mz_assert_ok(ctx, mz_text_splitting_run(ctx, &splitting, text, 0, collect, &b));
        assert_int_equal(b.n, 0);
        mz_text_splitting_end(ctx, &splitting);
        mz_text_splitter_free(ctx, &s);
        mz_free(ctx, b.data);
    }
}

/* The second step sees each piece of the first alone; an empty match is no piece. */
static void steps_cut_the_pieces_before(void **state) {
    mz_context *ctx = *state;
    static const char *const patterns[] = {"\\p{N}", "\\s+(?!\\S)|x*|\\s+"};
    mz_text_splitter s = {0};
    mz_text_splitting splitting = {0};
    mz_text_buffer b = {0};
    for (size_t i = 0; i < 2; i++) {
        mz_expression *e = NULL;
        mz_assert_ok(ctx, mz_expression_compile(ctx, "F", patterns[i], strlen(patterns[i]), &e));
        mz_assert_ok(ctx, mz_text_splitter_add(&ctx->error, &s, e, MZ_SPLIT_ISOLATED, false));
    }
    mz_assert_ok(ctx, mz_text_splitting_begin(ctx, &s, &splitting));
    mz_assert_ok(ctx, mz_text_splitting_run(ctx, &splitting, "a  1xx\xC3\xA9", 8, collect, &b));
    assert_memory_equal(b.data, "a|  |1|xx|\xC3\xA9|", b.n);
    mz_text_splitting_end(ctx, &splitting);
    mz_free(ctx, b.data);
    while (s.n_steps < MZ_SPLITTER_MAX_STEPS) {
        mz_assert_ok(ctx, mz_text_splitter_add(&ctx->error, &s, NULL, MZ_SPLIT_ISOLATED, false));
    }
    assert_int_equal(mz_text_splitter_add(&ctx->error, &s, NULL, MZ_SPLIT_ISOLATED, false),
                     MZ_ERR_LIMIT);
    mz_text_splitter_free(ctx, &s);
}

/* --- Unigram --------------------------------------------------------------------------------- */

static void the_best_pieces_are_chosen(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *text;
        float score;
        mz_piece_type type;
    } pieces[] = {
        {"a", -2, MZ_PIECE_NORMAL},        {"b", -2, MZ_PIECE_NORMAL}, {"ab", -3, MZ_PIECE_NORMAL},
        {"abc", -9, MZ_PIECE_NORMAL},      {"c", -4, MZ_PIECE_NORMAL}, {"ca", -5, MZ_PIECE_UNUSED},
        {"<u>", 0, MZ_PIECE_USER_DEFINED},
    };
    mz_vocabulary v = {0};
    mz_unigram u = {0};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        mz_assert_ok(ctx,
                     mz_vocabulary_add(ctx, &v, "F", (int64_t)i, pieces[i].text,
                                       strlen(pieces[i].text), pieces[i].type, pieces[i].score));
    }
    mz_assert_ok(ctx, mz_unigram_build(ctx, &v, &u));
    /* ab + c (-7) beats abc (-9) and a + b + c (-8); ca is unused; U+00E9 is unknown. */
    static const char text[] = "abca<u>\xC3\xA9";
    static const struct {
        size_t end;
        int32_t id;
    } expected[] = {{2, 2}, {3, 4}, {4, 0}, {7, 6}, {9, -1}};
    mz_unigram_piece *cut = NULL;
    size_t n = 0;
    mz_assert_ok(ctx, mz_unigram_cut(ctx, &u, &v, text, sizeof text - 1, &cut, &n));
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(cut[i].end, expected[i].end);
        assert_int_equal(cut[i].id, expected[i].id);
        assert_int_equal(cut[i].start, i > 0 ? cut[i - 1].end : 0);
    }
    mz_free(ctx, cut);
    mz_assert_ok(ctx, mz_unigram_cut(ctx, &u, &v, "", 0, &cut, &n));
    assert_int_equal(n, 0);
    mz_free(ctx, cut);
    mz_unigram_free(ctx, &u);
    mz_vocabulary_free(ctx, &v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_comes_back),
        cmocka_unit_test(broken_text_is_repaired),
        cmocka_unit_test(tokens_are_found_by_text_and_id),
        cmocka_unit_test(bytes_have_characters),
        cmocka_unit_test(the_longest_token_is_found),
        cmocka_unit_test(merging_is_what_its_definition_says),
        cmocka_unit_test(pairs_are_found),
        cmocka_unit_test(expressions_mean_what_the_files_mean),
        cmocka_unit_test(bad_expressions_are_refused),
        cmocka_unit_test(normal_forms_are_unicodes),
        cmocka_unit_test(steps_follow_one_another),
        cmocka_unit_test(matches_are_split_as_told),
        cmocka_unit_test(steps_cut_the_pieces_before),
        cmocka_unit_test(the_best_pieces_are_chosen),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
