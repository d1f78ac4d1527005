#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/gguf.h"
#include "llm/tokenizer.h"
#include "tests/testing.h"

#include <jansson.h>

/* Every text and every sequence of ids of golden/tokenizers: ids and decoded text equal, and
 * decoding token by token gives the same text as decoding at once. */

typedef struct golden_case {
    const char *open;  /* file or folder to open, below golden/tokenizers */
    const char *cases; /* folder of the expected results */
    const char *file;
    mz_encode_options options;
    bool keep_control; /* for `decoded` */
} golden_case;

#define PLAIN                                                                                      \
    { 0 }
#define SPECIAL                                                                                    \
    { .parse_special = true }
#define WITH_BOS                                                                                   \
    { .add_special = true, .parse_special = true }

static const golden_case all_cases[] = {
    {"gpt2-bbpe", "gpt2-bbpe", "cases.jsonl", SPECIAL, true},
    {"gpt2-bbpe/vocab.json", "gpt2-bbpe", "cases.jsonl", SPECIAL, true},
    {"phi2-bbpe", "phi2-bbpe", "cases.jsonl", SPECIAL, true},
    {"qwen2-bbpe", "qwen2-bbpe", "cases.jsonl", SPECIAL, true},
    {"llama3-bbpe", "llama3-bbpe", "cases.jsonl", WITH_BOS, true},
    {"tiktoken-arcade", "tiktoken-arcade", "cases.jsonl", SPECIAL, true},
    {"spm-bpe-llama/hf-fast", "spm-bpe-llama/hf-fast", "cases.jsonl", WITH_BOS, false},
    {"spm-bpe-llama", "spm-bpe-llama", "cases.jsonl", PLAIN, false},
    {"spm-unigram", "spm-unigram", "cases.jsonl", PLAIN, false},
    {"spm-unigram-nfkc", "spm-unigram-nfkc", "cases.jsonl", PLAIN, false},
};

static const golden_case decode_cases[] = {
    {"gpt2-bbpe", "gpt2-bbpe", "decode.jsonl", PLAIN, true},
    {"gpt2-bbpe/vocab.json", "gpt2-bbpe", "decode.jsonl", PLAIN, true},
    {"phi2-bbpe", "phi2-bbpe", "decode.jsonl", PLAIN, true},
    {"qwen2-bbpe", "qwen2-bbpe", "decode.jsonl", PLAIN, true},
    {"llama3-bbpe", "llama3-bbpe", "decode.jsonl", PLAIN, true},
    {"tiktoken-arcade", "tiktoken-arcade", "decode.jsonl", PLAIN, true},
    {"spm-bpe-llama", "spm-bpe-llama", "decode.jsonl", PLAIN, false},
    {"spm-unigram", "spm-unigram", "decode.jsonl", PLAIN, false},
    {"spm-unigram-nfkc", "spm-unigram-nfkc", "decode.jsonl", PLAIN, false},
};

static void golden_path(char out[1024], const char *folder, const char *file) {
    (void)snprintf(out, 1024, "%s/golden/tokenizers/%s%s%s", MOEZOO_TESTS_DIR, folder,
                   file != NULL ? "/" : "", file != NULL ? file : "");
}

/* Ids as text, for messages. */
static void write_ids(char *out, size_t size, const json_t *ids, const mz_token_list *list) {
    size_t n = 0;
    const size_t count = ids != NULL ? json_array_size(ids) : (size_t)list->n;
    out[0] = '\0';
    for (size_t i = 0; i < count && i < 60; i++) {
        const long long id =
            ids != NULL ? json_integer_value(json_array_get(ids, i)) : list->ids[i];
        const int added = snprintf(out + n, size - n, " %lld", id);
        n += (size_t)added;
    }
}

static bool same_ids(const json_t *ids, const mz_token_list *list) {
    bool same = json_array_size(ids) == (size_t)list->n;
    for (size_t i = 0; i < json_array_size(ids) && same; i++) {
        same = json_integer_value(json_array_get(ids, i)) == list->ids[i];
    }
    return same;
}

static int check_decoded(mz_context *ctx, const mz_tokenizer *t, const json_t *row, const char *key,
                         bool keep, const char *where) {
    const json_t *ids = json_object_get(row, "ids");
    const json_t *expected = json_object_get(row, key);
    const int64_t n = (int64_t)json_array_size(ids);
    int32_t *list = malloc((size_t)(n + 1) * sizeof *list);
    assert_non_null(list);
    for (int64_t i = 0; i < n; i++) {
        list[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    }
    char *text = NULL;
    size_t n_bytes = 0;
    mz_assert_ok(ctx, mz_tokenizer_decode(ctx, t, list, n, keep, &text, &n_bytes));
    int bad = 0;
    if (n_bytes != json_string_length(expected) ||
        memcmp(text, json_string_value(expected), n_bytes) != 0) {
        bad = 1;
        print_message("%s: %s: decoded \"%s\"\n  expected \"%s\"\n", where, key, text,
                      json_string_value(expected));
    }
    mz_detokenizer d = {.tokenizer = t, .keep_control = keep};
    size_t at = 0;
    for (int64_t i = 0; i <= n; i++) {
        const char *piece = NULL;
        size_t n_piece = 0;
        if (i < n) {
            mz_assert_ok(ctx, mz_detokenizer_push(ctx, &d, list[i], &piece, &n_piece));
        } else {
            mz_assert_ok(ctx, mz_detokenizer_finish(ctx, &d, &piece, &n_piece));
        }
        assert_true(at + n_piece <= n_bytes);
        assert_memory_equal(piece, text + at, n_piece);
        assert_int_equal(piece[n_piece], 0);
        at += n_piece;
        /* Never half a character: what was given ends where one begins. */
        assert_true(at == n_bytes || ((unsigned char)text[at] & 0xC0) != 0x80);
    }
    assert_int_equal(at, n_bytes);
    mz_detokenizer_free(ctx, &d);
    mz_free(ctx, text);
    free(list);
    return bad;
}

static int check_row(mz_context *ctx, const mz_tokenizer *t, const json_t *row,
                     const golden_case *c, const char *where) {
    int bad = 0;
    const json_t *text = json_object_get(row, "text");
    if (text != NULL) {
        mz_token_list list = {0};
        mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, json_string_value(text),
                                              json_string_length(text), &c->options, &list));
        if (!same_ids(json_object_get(row, "ids"), &list)) {
            bad++;
            char actual[1024];
            char expected[1024];
            write_ids(actual, sizeof actual, NULL, &list);
            write_ids(expected, sizeof expected, json_object_get(row, "ids"), NULL);
            print_message("%s: \"%s\": ids%s\n  expected%s\n", where, json_string_value(text),
                          actual, expected);
        }
        mz_token_list_free(ctx, &list);
    }
    bad += check_decoded(ctx, t, row, "decoded", c->keep_control, where);
    if (json_object_get(row, "decoded_all") != NULL) {
        bad += check_decoded(ctx, t, row, "decoded_all", true, where);
    }
    return bad;
}

static void check_case(mz_context *ctx, const mz_tokenizer *t, const golden_case *c) {
    char path[1024];
    golden_path(path, c->cases, c->file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *line = NULL;
    size_t capacity = 0;
    int n_rows = 0;
    int n_bad = 0;
    while (getline(&line, &capacity, f) > 0) {
        json_error_t error;
        json_t *row = json_loads(line, JSON_ALLOW_NUL, &error);
        assert_non_null(row);
        char where[1200];
        (void)snprintf(where, sizeof where, "%s, line %d", path, ++n_rows);
        n_bad += check_row(ctx, t, row, c, where);
        json_decref(row);
    }
    free(line);
    assert_int_equal(fclose(f), 0);
    assert_true(n_rows > 0);
    if (n_bad > 0) {
        fail_msg("%s: %d of %d rows differ", path, n_bad, n_rows);
    }
}

static void run_cases(mz_context *ctx, const golden_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char path[1024];
        golden_path(path, cases[i].open, NULL);
        mz_tokenizer *t = NULL;
        mz_assert_ok(ctx, mz_tokenizer_open(ctx, path, &t));
        check_case(ctx, t, &cases[i]);
        mz_tokenizer_close(ctx, t);
    }
}

/* Copies golden/tokenizers/FOLDER/FILE into `dir`. */
static void copy_file(const char *folder, const char *file, const char *dir) {
    char path[1024];
    golden_path(path, folder, file);
    static char data[1 << 20];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(data, 1, sizeof data, f);
    assert_true(n > 0 && n < sizeof data);
    assert_int_equal(fclose(f), 0);
    (void)mz_write_file(dir, file, data, n);
}

/* The model with what transformers saves beside it. */
static void llama_tokenizer_is_obeyed(void **state) {
    mz_context *ctx = *state;
    static const char *const folders[] = {"spm-bpe-llama/hf-legacy", "spm-bpe-llama/hf"};
    static const char *const files[] = {"added_tokens.json", "special_tokens_map.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        const char *dir = mz_temp_dir_create();
        copy_file("spm-bpe-llama", "tokenizer.model", dir);
        for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
            copy_file(folders[i], files[k], dir);
        }
        mz_tokenizer *t = NULL;
        mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &t));
        check_case(ctx, t, &(golden_case){NULL, folders[i], "cases.jsonl", WITH_BOS, false});
        check_case(ctx, t, &(golden_case){NULL, folders[i], "decode.jsonl", WITH_BOS, true});
        mz_tokenizer_close(ctx, t);
        mz_temp_dir_remove(dir);
    }
}

/* Those of published models, read from their GGUF files, where they are on this machine. */
static void tokenizers_of_gguf_files(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *file;
        const char *folder;
        bool keep_control;
    } models[] = {
        {"smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", "real-smollm2", true},
        {"gemma3-270m/gemma-3-270m-q4_k_m.gguf", "real-gemma3", false},
    };
    const char *root = getenv("MOEZOO_MODELS");
    int n_run = 0;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/%s", root != NULL ? root : "", models[i].file);
        if (root == NULL || !mz_file_exists(path)) {
            print_message("%s: not on this machine (MOEZOO_MODELS), left out\n", models[i].file);
            continue;
        }
        n_run++;
        mz_gguf *gguf = NULL;
        mz_tokenizer *t = NULL;
        mz_assert_ok(ctx, mz_gguf_open(ctx, path, &gguf));
        mz_assert_ok(ctx, mz_tokenizer_open_gguf(ctx, gguf, &t));
        mz_gguf_close(ctx, gguf);
        const bool keep = models[i].keep_control;
        const char *folder = models[i].folder;
        check_case(ctx, t, &(golden_case){NULL, folder, "cases.jsonl", PLAIN, keep});
        check_case(ctx, t, &(golden_case){NULL, folder, "cases_special.jsonl", SPECIAL, true});
        check_case(ctx, t, &(golden_case){NULL, folder, "decode.jsonl", PLAIN, keep});
        mz_tokenizer_close(ctx, t);
    }
    if (n_run == 0) {
        skip();
    }
}

static void texts_become_the_same_ids(void **state) {
    run_cases(*state, all_cases, sizeof all_cases / sizeof all_cases[0]);
}

static void ids_become_the_same_text(void **state) {
    run_cases(*state, decode_cases, sizeof decode_cases / sizeof decode_cases[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_the_same_ids),
        cmocka_unit_test(ids_become_the_same_text),
        cmocka_unit_test(llama_tokenizer_is_obeyed),
        cmocka_unit_test(tokenizers_of_gguf_files),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
