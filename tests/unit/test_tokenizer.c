#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gguf_write.h"
#include "llm/chat_template.h"
#include "llm/sentencepiece_model.h"
#include "tests/testing.h"

static const char golden[] = MOEZOO_TESTS_DIR "/golden/tokenizers/";

static mz_tokenizer *open_golden(mz_context *ctx, const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s%s", golden, name);
    mz_tokenizer *t = NULL;
    mz_assert_ok(ctx, mz_tokenizer_open(ctx, path, &t));
    return t;
}

/* Fails unless the text becomes exactly these ids, which end with -1. */
static void assert_ids(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes,
                       const mz_encode_options *options, const int32_t *ids) {
    mz_token_list list = {0};
    mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, text, n_bytes, options, &list));
    for (int64_t i = 0; i < list.n; i++) {
        assert_int_equal(list.ids[i], ids[i]);
    }
    assert_int_equal(ids[list.n], -1);
    mz_token_list_free(ctx, &list);
}

/* --- What a tokenizer says about itself ------------------------------------------------------ */

static void properties_are_read(void **state) {
    mz_context *ctx = *state;
    mz_tokenizer *t = open_golden(ctx, "llama3-bbpe");
    assert_int_equal(mz_tokenizer_size(t), 2103);
    assert_string_equal(mz_tokenizer_kind(t), "byte-level BPE");
    assert_true(mz_tokenizer_adds_bos(t));
    assert_false(mz_tokenizer_adds_eos(t));
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_BOS), 2100);
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_EOS), -1);
    assert_int_equal(mz_tokenizer_find(t, "<|eot_id|>", 10), 2102);
    assert_int_equal(mz_tokenizer_find(t, "<|nothing|>", 11), -1);
    assert_true(mz_tokenizer_is_control(t, 2102));
    assert_false(mz_tokenizer_is_control(t, 5));
    assert_false(mz_tokenizer_is_control(t, -1));
    assert_false(mz_tokenizer_is_control(t, 99999));
    assert_null(mz_tokenizer_chat_template(t));
    mz_tokenizer_close(ctx, t);
    t = open_golden(ctx, "spm-unigram");
    assert_string_equal(mz_tokenizer_kind(t), "SentencePiece unigram");
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_UNKNOWN), 0);
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_BOS), 1);
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_EOS), 2);
    assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_PAD), -1);
    assert_false(mz_tokenizer_adds_bos(t));
    mz_tokenizer_close(ctx, t);
    mz_tokenizer_close(ctx, NULL);
}

static void configuration_is_obeyed(void **state) {
    mz_context *ctx = *state;
    const char *dir = mz_temp_dir_create();
    static const char tokenizer[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<e>\",\"special\":true}],"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<p>\":4,\"<u>\":5},"
        "\"merges\":[\"a b\"]}}";
    static const char config[] =
        "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"add_eos_token\": true,"
        " \"bos_token\": {\"content\": \"<p>\"}, \"eos_token\": \"<e>\","
        " \"added_tokens_decoder\": {\"5\": {\"content\": \"<u>\", \"special\": false}},"
        " \"model_max_length\": 1000000000000000019884624838656,"
        " \"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"},"
        "                    {\"name\": \"default\", \"template\": \"yes\"}]}";
    (void)mz_write_file(dir, "tokenizer_config.json", config, sizeof config - 1);
    (void)mz_write_file(dir, "tokenizer.json", tokenizer, sizeof tokenizer - 1);
    mz_tokenizer *t = NULL;
    mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &t));
    assert_true(mz_tokenizer_adds_bos(t) && mz_tokenizer_adds_eos(t));
    assert_string_equal(mz_tokenizer_chat_template(t), "yes");
    assert_true(mz_tokenizer_is_control(t, 4));
    assert_false(mz_tokenizer_is_control(t, 5));
    assert_ids(ctx, t, "ab<u>a<e>", 9, &(mz_encode_options){.add_special = true},
               (int32_t[]){4, 2, 5, 0, 3, -1});
    assert_ids(ctx, t, "ab<e>", 5, &(mz_encode_options){.parse_special = true},
               (int32_t[]){2, 3, -1});
    assert_ids(ctx, t, "ab<e>", 5, NULL, (int32_t[]){2, -1});
    mz_tokenizer_close(ctx, t);
    (void)mz_write_file(dir, "chat_template.jinja", "other", 5);
    mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &t));
    assert_string_equal(mz_tokenizer_chat_template(t), "other");
    mz_tokenizer_close(ctx, t);
    mz_temp_dir_remove(dir);
}

/* lstrip, rstrip, single_word, and tokens that are looked for after normalising. */
static void added_tokens_are_cut_out_as_told(void **state) {
    mz_context *ctx = *state;
    const char *dir = mz_temp_dir_create();
    static const char tokenizer[] =
        "{\"added_tokens\":[{\"id\":4,\"content\":\"<l>\",\"lstrip\":true,\"normalized\":false},"
        "{\"id\":5,\"content\":\"<r>\",\"rstrip\":true,\"normalized\":false},"
        "{\"id\":6,\"content\":\"word\",\"single_word\":true,\"normalized\":false},"
        "{\"id\":7,\"content\":\"\\u00e9\",\"normalized\":true}],"
        "\"normalizer\":{\"type\":\"NFD\"},"
        "\"model\":{\"vocab\":{\" \":0,\"w\":1,\"o\":2,\"x\":3,\"r\":8,\"d\":9},\"merges\":[]}}";
    const char *path = mz_write_file(dir, "tokenizer.json", tokenizer, sizeof tokenizer - 1);
    mz_tokenizer *t = NULL;
    mz_assert_ok(ctx, mz_tokenizer_open(ctx, path, &t));
    static const struct {
        const char *text;
        int32_t ids[12];
    } cases[] = {
        {"x \t\xE3\x80\x80<l> x", {3, 4, 0, 3, -1}},
        {"x <r>  x", {3, 0, 5, 3, -1}},
        {"<r>  <l>", {5, 4, -1}},
        {" word x", {0, 6, 0, 3, -1}},
        {"word", {6, -1}},
        {"xword", {3, 1, 2, 8, 9, -1}},
        {"word\xC2\xB2", {6, -1}}, /* a superscript is none, and unknown here */
        {"wordx", {1, 2, 8, 9, 3, -1}},
        {"x\xC3\xA9x", {3, 7, 3, -1}},
        {"xe\xCC\x81x", {3, 7, 3, -1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ids(ctx, t, cases[i].text, strlen(cases[i].text), NULL, cases[i].ids);
    }
    mz_tokenizer_close(ctx, t);
    mz_temp_dir_remove(dir);
}

/* A control token that merges could build, and one of a single character. */
static void texts_do_not_become_control_tokens(void **state) {
    mz_context *ctx = *state;
    const char *dir = mz_temp_dir_create();
    static const char tokenizer[] =
        "{\"added_tokens\":[{\"id\":2,\"content\":\"ab\",\"special\":true},"
        "{\"id\":4,\"content\":\"c\",\"special\":true}],"
        "\"model\":{\"unk_token\":\"?\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"c\":4},"
        "\"ignore_merges\":true,\"merges\":[\"a b\"]}}";
    const char *path = mz_write_file(dir, "tokenizer.json", tokenizer, sizeof tokenizer - 1);
    mz_tokenizer *t = NULL;
    mz_assert_ok(ctx, mz_tokenizer_open(ctx, path, &t));
    assert_ids(ctx, t, "ab", 2, NULL, (int32_t[]){0, 1, -1});
    assert_ids(ctx, t, "abc", 3, NULL, (int32_t[]){0, 1, 3, -1});
    assert_ids(ctx, t, "abc", 3, &(mz_encode_options){.parse_special = true},
               (int32_t[]){2, 4, -1});
    mz_tokenizer_close(ctx, t);
    mz_temp_dir_remove(dir);
}

/* --- Texts ----------------------------------------------------------------------------------- */

static void any_bytes_are_a_text(void **state) {
    mz_context *ctx = *state;
    static const char *const names[] = {"gpt2-bbpe", "spm-bpe-llama", "spm-unigram",
                                        "spm-bpe-llama/hf-fast"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mz_tokenizer *t = open_golden(ctx, names[i]);
        mz_token_list broken = {0};
        mz_token_list repaired = {0};
        static const char text[] = "a\xFF\xE4\xBD \xC3(\0b";
        static const char same[] = "a\xEF\xBF\xBD\xEF\xBF\xBD \xEF\xBF\xBD(\0b";
        mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, text, sizeof text - 1, NULL, &broken));
        mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, same, sizeof same - 1, NULL, &repaired));
        assert_int_equal(broken.n, repaired.n);
        assert_memory_equal(broken.ids, repaired.ids, (size_t)broken.n * sizeof *broken.ids);
        char *back = NULL;
        size_t n_bytes = 0;
        mz_assert_ok(ctx,
                     mz_tokenizer_decode(ctx, t, broken.ids, broken.n, false, &back, &n_bytes));
        assert_int_equal(n_bytes, sizeof same - 1);
        assert_memory_equal(back, same, n_bytes);
        mz_free(ctx, back);
        assert_int_equal(mz_tokenizer_encode(ctx, t, text, ((size_t)1 << 30) + 1, NULL, &broken),
                         MZ_ERR_LIMIT);
        const int32_t bad[] = {-1, (int32_t)mz_tokenizer_size(t)};
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(mz_tokenizer_decode(ctx, t, &bad[k], 1, false, &back, &n_bytes),
                             MZ_ERR_LIMIT);
            assert_non_null(strstr(ctx->error.message, "token id "));
        }
        mz_token_list_free(ctx, &broken);
        mz_token_list_free(ctx, &repaired);
        mz_tokenizer_close(ctx, t);
    }
}

/* A character of several byte tokens comes whole or, where it is cut off, as one U+FFFD at the end.
 */
static void half_characters_wait(void **state) {
    mz_context *ctx = *state;
    mz_tokenizer *t = open_golden(ctx, "gpt2-bbpe");
    mz_token_list list = {0};
    static const char text[] = "\xF0\x9F\xA6\x84"; /* U+1F984, four tokens here */
    mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, text, 4, NULL, &list));
    assert_true(list.n > 1);
    for (int64_t n = 1; n <= list.n; n++) {
        mz_detokenizer d = {.tokenizer = t};
        const char *piece = NULL;
        size_t n_bytes = 0;
        for (int64_t i = 0; i < n; i++) {
            mz_assert_ok(ctx, mz_detokenizer_push(ctx, &d, list.ids[i], &piece, &n_bytes));
            assert_int_equal(n_bytes, i == list.n - 1 ? 4 : 0);
        }
        mz_assert_ok(ctx, mz_detokenizer_finish(ctx, &d, &piece, &n_bytes));
        assert_string_equal(piece, n == list.n ? "" : "\xEF\xBF\xBD");
        mz_detokenizer_free(ctx, &d);
    }
    mz_token_list_free(ctx, &list);
    mz_tokenizer_close(ctx, t);
}

/* One word of a megabyte: hours if joining were quadratic. */
static void a_long_word_is_encoded(void **state) {
    mz_context *ctx = *state;
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    for (size_t i = 0; i < N; i++) {
        text[i] = "theandofto"[i * i / 3 % 10];
    }
    static const char *const names[] = {"llama3-bbpe", "spm-bpe-llama/hf-fast"};
    for (size_t i = 0; i < 2; i++) {
        mz_tokenizer *t = open_golden(ctx, names[i]);
        mz_token_list list = {0};
        char *back = NULL;
        size_t n_bytes = 0;
        mz_assert_ok(ctx, mz_tokenizer_encode(ctx, t, text, N, NULL, &list));
        mz_assert_ok(ctx, mz_tokenizer_decode(ctx, t, list.ids, list.n, false, &back, &n_bytes));
        assert_int_equal(n_bytes, N);
        assert_memory_equal(back, text, N);
        mz_free(ctx, back);
        mz_token_list_free(ctx, &list);
        mz_tokenizer_close(ctx, t);
    }
    free(text);
}

/* --- tiktoken -------------------------------------------------------------------------------- */

static size_t write_ranks(char *out, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (int i = 0; i < 256; i++) {
        n += (size_t)snprintf(out + n, size - n, "%c%c== %d\n", digits[i / 4], digits[i % 4 * 16],
                              i);
    }
    /* "th", "the", " the", "12", "xyz" (which no merge reaches) */
    n += (size_t)snprintf(out + n, size - n,
                          "dGg= 256\ndGhl 257\r\nIHRoZQ== 258\nMTI= 259\neHl6 260\n");
    return n;
}

static void tiktoken_files_are_read(void **state) {
    mz_context *ctx = *state;
    char ranks[8192];
    const size_t n = write_ranks(ranks, sizeof ranks);
    static const struct {
        const char *file;
        int32_t end, start;
        int64_t size;
    } cases[] = {{"arcade100k.tiktoken", 262, 282, 294}, {"qwen.tiktoken", 261, 262, 469}};
    for (size_t i = 0; i < 2; i++) {
        const char *dir = mz_temp_dir_create();
        (void)mz_write_file(dir, cases[i].file, ranks, n);
        mz_tokenizer *t = NULL;
        mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &t));
        assert_string_equal(mz_tokenizer_kind(t), "tiktoken");
        assert_int_equal(mz_tokenizer_size(t), cases[i].size);
        assert_int_equal(mz_tokenizer_special(t, MZ_TOKEN_EOS), cases[i].end);
        assert_int_equal(mz_tokenizer_find(t, "<|im_start|>", 12), cases[i].start);
        /* Digits stand alone, a word that is a token is one, e + acute is composed. */
        assert_ids(ctx, t, "the the12xyz", 12, NULL, (int32_t[]){257, 258, '1', '2', 260, -1});
        assert_ids(ctx, t, "e\xCC\x81", 3, NULL, (int32_t[]){0xC3, 0xA9, -1});
        assert_ids(ctx, t, "a<|im_start|>", 13, &(mz_encode_options){.parse_special = true},
                   (int32_t[]){'a', cases[i].start, -1});
        mz_tokenizer_close(ctx, t);
        (void)mz_write_file(dir, "second.tiktoken", ranks, n);
        assert_int_equal(mz_tokenizer_open(ctx, dir, &t), MZ_ERR_FORMAT);
        assert_non_null(strstr(ctx->error.message, "more than one file *.tiktoken"));
        mz_temp_dir_remove(dir);
    }
}

/* --- GGUF ------------------------------------------------------------------------------------ */

/* A small SentencePiece vocabulary: without a dummy space where `prefix` is 0, the default for -1.
 */
static mz_tokenizer *open_llama(mz_context *ctx, const char *dir, int prefix) {
    static const char *const texts[] = {"<unk>", "<s>",    "</s>",  "\xE2\x96\x81",
                                        "a",     "b",      "ab",    "\xE2\x96\x81\x61",
                                        "  ",    "<0xC3>", "<0xA9>"};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 4, 6, 6};
    static const float scores[] = {0, 0, 0, -9, -8, -7, -1, -2, 0, 0, 0};
    enum { N = sizeof texts / sizeof texts[0] };
    mz_gguf_meta meta = {.ctx = ctx};
    mz_assert_ok(ctx, mz_gguf_meta_text(&meta, "general.architecture", "llama", 5));
    mz_assert_ok(ctx, mz_gguf_meta_text(&meta, "tokenizer.ggml.model", "llama", 5));
    mz_assert_ok(ctx, mz_gguf_meta_array(&meta, "tokenizer.ggml.tokens", MZ_GGUF_STRING, N));
    for (int i = 0; i < N; i++) {
        mz_assert_ok(ctx, mz_gguf_meta_add_text(&meta, texts[i], strlen(texts[i])));
    }
    mz_assert_ok(ctx, mz_gguf_meta_array(&meta, "tokenizer.ggml.scores", MZ_GGUF_F32, N));
    for (int i = 0; i < N; i++) {
        mz_assert_ok(ctx, mz_gguf_meta_add_f32(&meta, scores[i]));
    }
    mz_assert_ok(ctx, mz_gguf_meta_array(&meta, "tokenizer.ggml.token_type", MZ_GGUF_I32, N));
    for (int i = 0; i < N; i++) {
        mz_assert_ok(ctx, mz_gguf_meta_add_i32(&meta, types[i]));
    }
    mz_assert_ok(ctx, mz_gguf_meta_int(&meta, "tokenizer.ggml.bos_token_id", MZ_GGUF_U32, 1));
    mz_assert_ok(ctx, mz_gguf_meta_int(&meta, "tokenizer.ggml.unknown_token_id", MZ_GGUF_U32, 0));
    mz_assert_ok(ctx, mz_gguf_meta_text(&meta, "tokenizer.chat_template", "jinja", 5));
    if (prefix >= 0) {
        mz_assert_ok(ctx, mz_gguf_meta_bool(&meta, "tokenizer.ggml.add_space_prefix", prefix != 0));
    }
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/t.gguf", dir);
    mz_assert_ok(ctx, mz_gguf_write(ctx, path, &meta, NULL, 0, NULL));
    mz_gguf_meta_free(&meta);
    mz_gguf *gguf = NULL;
    mz_tokenizer *t = NULL;
    mz_assert_ok(ctx, mz_gguf_open(ctx, path, &gguf));
    mz_assert_ok(ctx, mz_tokenizer_open_gguf(ctx, gguf, &t));
    mz_gguf_close(ctx, gguf);
    return t;
}

static void vocabularies_of_gguf_files_are_used(void **state) {
    mz_context *ctx = *state;
    const char *dir = mz_temp_dir_create();
    const mz_encode_options special = {.add_special = true, .parse_special = true};
    mz_tokenizer *t = open_llama(ctx, dir, -1);
    assert_string_equal(mz_tokenizer_kind(t), "SentencePiece BPE");
    assert_string_equal(mz_tokenizer_chat_template(t), "jinja");
    assert_true(mz_tokenizer_adds_bos(t));
    /* ab (-1) before U+2581 a (-2); bytes where they are there, else unknown, once. */
    assert_ids(ctx, t, "ab", 2, NULL, (int32_t[]){3, 6, -1});
    assert_ids(ctx, t, "a  \xC3\xA9xyb", 8, NULL, (int32_t[]){7, 8, 9, 10, 0, 5, -1});
    assert_ids(ctx, t, "a</s>a", 6, &special, (int32_t[]){1, 7, 2, 7, -1});
    mz_tokenizer_close(ctx, t);
    t = open_llama(ctx, dir, 0);
    assert_ids(ctx, t, "ab a", 4, NULL, (int32_t[]){6, 7, -1});
    mz_tokenizer_close(ctx, t);
    mz_temp_dir_remove(dir);
}

/* --- Bad files ------------------------------------------------------------------------------- */

static void missing_and_unknown_files_are_named(void **state) {
    mz_context *ctx = *state;
    const char *dir = mz_temp_dir_create();
    mz_tokenizer *t = NULL;
    assert_int_equal(mz_tokenizer_open(ctx, dir, &t), MZ_ERR_MISSING);
    assert_non_null(strstr(ctx->error.message,
                           "no tokenizer: neither tokenizer.json, tokenizer.model, vocab.json with "
                           "merges.txt nor *.tiktoken"));
    (void)mz_write_file(dir, "vocab.json", "{}", 2);
    assert_int_equal(mz_tokenizer_open(ctx, dir, &t), MZ_ERR_MISSING);
    char ranks[8192];
    (void)mz_write_file(dir, "other.tiktoken", ranks, write_ranks(ranks, sizeof ranks));
    assert_int_equal(mz_tokenizer_open(ctx, dir, &t), MZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(ctx->error.message, "arcade100k*.tiktoken and qwen*.tiktoken"));
    const char *path = mz_write_file(dir, "tokenizer.bin", "x", 1);
    assert_int_equal(mz_tokenizer_open(ctx, path, &t), MZ_ERR_UNSUPPORTED);
    assert_int_equal(mz_tokenizer_open(ctx, "/nowhere/tokenizer.json", &t), MZ_ERR_IO);
    assert_int_equal(mz_tokenizer_open(ctx, "/nowhere/tokenizer.model", &t), MZ_ERR_IO);
    assert_null(t);
    mz_temp_dir_remove(dir);
}

typedef struct bad_file {
    const char *text;
    mz_status status;
    const char *part; /* of the message */
} bad_file;

static void refuse(mz_context *ctx, const char *name, const bad_file *cases, size_t n) {
    const char *dir = mz_temp_dir_create();
    for (size_t i = 0; i < n; i++) {
        mz_tokenizer *t = NULL;
        const char *path = mz_write_file(dir, name, cases[i].text, strlen(cases[i].text));
        const mz_status status = mz_tokenizer_open(ctx, path, &t);
        if (status != cases[i].status || strstr(ctx->error.message, cases[i].part) == NULL ||
            strstr(ctx->error.message, name) == NULL) {
            fail_msg("%s, case %zu: %s: %s", name, i, mz_status_name(status), ctx->error.message);
        }
        assert_null(t);
    }
    mz_temp_dir_remove(dir);
}

#define MODEL "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[]}"

static void bad_tokenizer_json_is_refused(void **state) {
    static const bad_file cases[] = {
        {"[]", MZ_ERR_FORMAT, "expected an object"},
        {"{}", MZ_ERR_FORMAT, "model is no object"},
        {"{\"model\":{\"type\":\"WordPiece\"}}", MZ_ERR_UNSUPPORTED, "\"WordPiece\""},
        {"{\"model\":{\"vocab\":{},\"merges\":[]}}", MZ_ERR_FORMAT, "empty"},
        {"{\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]}}", MZ_ERR_FORMAT, "no integer"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", MZ_ERR_LIMIT, "token id -1"},
        {"{\"model\":{\"vocab\":{\"a\":999999999},\"merges\":[]}}", MZ_ERR_LIMIT, "999999999"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", MZ_ERR_FORMAT,
         "two tokens with the id 0"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", MZ_ERR_FORMAT, "duplicate"},
        {"{\"model\":{\"vocab\":{\"a\":0}}}", MZ_ERR_FORMAT, "merges"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}}", MZ_ERR_FORMAT,
         "merge 0 joins \"a\" and \"c\", of which one is no token"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", MZ_ERR_FORMAT,
         "both together are no token"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", MZ_ERR_FORMAT, "no pair"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", MZ_ERR_FORMAT, "no pair"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.5}}", MZ_ERR_LIMIT,
         "dropout"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
         MZ_ERR_UNSUPPORTED, "end_of_word_suffix"},
        {"{\"normalizer\":{\"type\":\"BertNormalizer\"}," MODEL "}", MZ_ERR_UNSUPPORTED,
         "normalizer \"BertNormalizer\""},
        {"{\"normalizer\":{}," MODEL "}", MZ_ERR_MISSING, "type"},
        {"{\"pre_tokenizer\":{\"type\":\"Bert\"}," MODEL "}", MZ_ERR_UNSUPPORTED,
         "pre_tokenizer \"Bert\""},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}}," MODEL "}",
         MZ_ERR_UNSUPPORTED, "the expression \"(\""},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{}}," MODEL "}", MZ_ERR_FORMAT,
         "neither String nor Regex"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Odd\",\"pattern\":{}}," MODEL "}",
         MZ_ERR_UNSUPPORTED, "\"Odd\""},
        {"{\"post_processor\":{\"type\":\"Roberta\"}," MODEL "}", MZ_ERR_UNSUPPORTED,
         "post_processor \"Roberta\""},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
         "\"id\":\"<s>\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[7]}}}," MODEL "}",
         MZ_ERR_FORMAT, "outside the vocabulary"},
        {"{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", MZ_ERR_UNSUPPORTED, "decoder \"CTC\""},
        {"{\"added_tokens\":7," MODEL "}", MZ_ERR_FORMAT, "no list"},
        {"{\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]," MODEL "}", MZ_ERR_FORMAT,
         "two tokens with the id 0"},
        {"{\"added_tokens\":[{\"id\":9}]," MODEL "}", MZ_ERR_MISSING, "content"},
    };
    refuse(*state, "tokenizer.json", cases, sizeof cases / sizeof cases[0]);
}

static void bad_tiktoken_files_are_refused(void **state) {
    static const bad_file cases[] = {
        {"", MZ_ERR_FORMAT, "the byte 0x00 is no token"},
        {"YQ== 0\nYQ== 1\n", MZ_ERR_FORMAT, "line 2: the token is there twice"},
        {"YQ== 0\nYg== 0\n", MZ_ERR_FORMAT, "two tokens with the id 0"},
        {"YQ= 0\n", MZ_ERR_FORMAT, "line 1 is no token in base64"},
        {"=Q== 0\n", MZ_ERR_FORMAT, "line 1"},
        {"YQ==\n", MZ_ERR_FORMAT, "line 1"},
        {"YQ== \n", MZ_ERR_FORMAT, "line 1"},
        {"YQ== x\n", MZ_ERR_FORMAT, "line 1"},
        {"YQ== 99999999999999999999\n", MZ_ERR_FORMAT, "line 1"},
        {"YQ== 16777216\n", MZ_ERR_LIMIT, "token id 16777216"},
    };
    refuse(*state, "qwen.tiktoken", cases, sizeof cases / sizeof cases[0]);
}

static void bad_sentencepiece_models_are_refused(void **state) {
    mz_context *ctx = *state;
    /* One field at a time: pieces are 0A LEN, texts in them 0A LEN, scores 15, types 18. */
    static const struct {
        const char *data;
        size_t n;
        const char *part;
    } cases[] = {
        {"", 0, "0 unknown pieces"},
        {"\x0A\x7F", 2, "cut off"},
        {"\x08\x01", 2, "no message"},
        {"\x0A\x03\x0A\x01"
         "a",
         5, "0 unknown pieces"},
        {"\x0A\x05\x0A\x01"
         "a\x18\x02"
         "\x0A\x05\x0A\x01"
         "b\x18\x02",
         14, "2 unknown pieces"},
        {"\x0A\x03\x0A\x01"
         "a"
         "\x0A\x03\x0A\x01"
         "a",
         10, "piece 1 is there twice"},
        {"\x0A\x00", 2, "piece 0 is empty"},
        {"\x0A\x03\x0A\x01\xFF", 5, "no UTF-8"},
        {"\x0A\x03\x0A\x01\x00", 5, "piece 0 is empty, broken"},
        {"\x0A\x05\x0A\x01"
         "a\x18\x07",
         7, "type 7"},
        {"\x0A\x05\x0A\x01"
         "a\x18\x06",
         7, "<0xHH>"},
        {"\x0A\x08\x0A\x01"
         "a\x15\x00\x00\xC0\x7F",
         10, "score nan"},
        {"\x0A\x05\x0A\x01"
         "a\x18\x02"
         "\x12\x03\x98\x02\x01",
         12, "0 byte pieces, expected 256"},
        {"\x0A\x05\x0A\x01"
         "a\x18\x02"
         "\x1A\x06\x12\x04\x04\x00\x00\x00",
         15, "table is broken"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_vocabulary v = {0};
        mz_sentencepiece_info info;
        const mz_status status =
            mz_sentencepiece_read(ctx, cases[i].data, cases[i].n, "M", &v, &info);
        if (status != MZ_ERR_FORMAT || strstr(ctx->error.message, cases[i].part) == NULL) {
            fail_msg("case %zu: %s: %s", i, mz_status_name(status), ctx->error.message);
        }
        mz_vocabulary_free(ctx, &v);
    }
}

/* A table whose first unit leads outside, back to itself, or to a text that is not there. */
static void bad_normalisation_tables_are_refused(void **state) {
    mz_context *ctx = *state;
    enum { UNITS = 768, BYTES = 4 + 4 * UNITS + 2, AT_A = 256 ^ 'a' };
    static const struct {
        uint32_t root, at_a, value; /* units 0, AT_A, 512 */
        const char *texts;
        bool good;
    } cases[] = {
        {256U << 10, 'a' | 0x100 | (AT_A ^ 512U) << 10, 0x80000000U, "b", true},
        {768U << 10, 'a' | 0x100 | (AT_A ^ 512U) << 10, 0x80000000U, "b", false},
        {256U << 10, 'a' | 0x100 | (AT_A ^ 768U) << 10, 0x80000000U, "b", false},
        {256U << 10, 'a' | 0x100 | (AT_A ^ 512U) << 10, 0x80000002U, "b", false},
        /* Half a character; a circle. */
        {256U << 10, 'a' | 0x100 | (AT_A ^ 512U) << 10, 0x80000001U, "\xC3\xA9", false},
        {256U << 10, 'a' | (AT_A ^ 256U) << 10, 0x80000000U, "b", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t data[BYTES + 2] = {0};
        uint32_t units[UNITS] = {0};
        /* Units that are not used have a label that no byte leads to. */
        for (size_t k = 0; k < UNITS; k++) {
            units[k] = 0x80000000U;
        }
        units[0] = cases[i].root;
        units[AT_A] = cases[i].at_a;
        units[512] = cases[i].value;
        data[0] = (uint8_t)(4 * UNITS);
        data[1] = (uint8_t)(4 * UNITS >> 8);
        memcpy(data + 4, units, sizeof units);
        const size_t n_texts = strlen(cases[i].texts) + 1;
        memcpy(data + 4 + sizeof units, cases[i].texts, n_texts);
        const mz_status status =
            mz_sentencepiece_check_table(ctx, data, 4 + sizeof units + n_texts, "M");
        if (status != (cases[i].good ? MZ_OK : MZ_ERR_FORMAT)) {
            fail_msg("case %zu: %s", i, mz_status_name(status));
        }
    }
    assert_int_equal(mz_sentencepiece_check_table(ctx, "", 5 << 20, "M"), MZ_ERR_LIMIT);
}

/* --- Memory ---------------------------------------------------------------------------------- */

static mz_status use(mz_context *ctx, const char *path) {
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_open(ctx, path, &t));
    mz_token_list list = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    static const char input[] = "The cafe\xCC\x81 <|im_start|>\xFF 12  <s>\xF0\x9F\xA6\x84";
    const mz_encode_options options = {.add_special = true, .parse_special = true};
    mz_status status = mz_tokenizer_encode(ctx, t, input, sizeof input - 1, &options, &list);
    if (status == MZ_OK) {
        status = mz_tokenizer_decode(ctx, t, list.ids, list.n, true, &text, &n_bytes);
    }
    mz_free(ctx, text);
    const mz_chat_template *chatml = NULL;
    const mz_chat_turn turn = {MZ_CHAT_USER, input};
    if (status == MZ_OK) {
        status = mz_chat_template_find(&ctx->error, "chatml", &chatml);
    }
    if (status == MZ_OK) {
        status = mz_chat_template_encode(ctx, chatml, t, &turn, 1, true, &list);
    }
    mz_token_list_free(ctx, &list);
    mz_tokenizer_close(ctx, t);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char *const names[] = {"qwen2-bbpe", "gpt2-bbpe/vocab.json",
                                        "spm-bpe-llama/hf-fast", "spm-bpe-llama", "spm-unigram"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s%s", golden, names[i]);
        mz_status status = MZ_ERR_NOMEM;
        for (int64_t n = 1; status != MZ_OK; n++) {
            mz_failing_allocator failing;
            const mz_allocator allocator = mz_failing_allocator_init(&failing, n);
            mz_context ctx;
            mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                           .n_threads = 1}));
            status = use(&ctx, path);
            if (status != MZ_OK && status != MZ_ERR_NOMEM) {
                fail_msg("%s, allocation %lld: %s: %s", names[i], (long long)n,
                         mz_status_name(status), ctx.error.message);
            }
            if (failing.n_live != 0) {
                fail_msg("%s, allocation %lld: %lld left", names[i], (long long)n,
                         (long long)failing.n_live);
            }
            assert_true(n < 2000);
            mz_context_close(&ctx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_are_read),
        cmocka_unit_test(configuration_is_obeyed),
        cmocka_unit_test(added_tokens_are_cut_out_as_told),
        cmocka_unit_test(texts_do_not_become_control_tokens),
        cmocka_unit_test(any_bytes_are_a_text),
        cmocka_unit_test(half_characters_wait),
        cmocka_unit_test(a_long_word_is_encoded),
        cmocka_unit_test(tiktoken_files_are_read),
        cmocka_unit_test(vocabularies_of_gguf_files_are_used),
        cmocka_unit_test(missing_and_unknown_files_are_named),
        cmocka_unit_test(bad_tokenizer_json_is_refused),
        cmocka_unit_test(bad_tiktoken_files_are_refused),
        cmocka_unit_test(bad_sentencepiece_models_are_refused),
        cmocka_unit_test(bad_normalisation_tables_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
