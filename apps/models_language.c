#include "apps/models_language.h"

#include <inttypes.h>
#include <string.h>

#include "apps/zoo/text_config.h"
#include "core/gguf.h"
#include "llm/chat_template.h"
#include "llm/tokenizer.h"

enum { MAX_TYPES = MZ_DTYPE_COUNT };

/* Tensors and elements of each type. */
typedef struct types {
    int64_t n_tensors[MAX_TYPES];
    double n_bits, n_elements;
} types;

/* The checkpoint's; *out stays NULL, and the context's message says why, where there is none. */
static void open_tokenizer(mz_context *ctx, const char *path, mz_tokenizer **out) {
    mz_gguf *gguf = NULL;
    if (!mz_zoo_is_gguf(path)) {
        (void)mz_tokenizer_open(ctx, path, out);
        return;
    }
    if (mz_gguf_open(ctx, path, &gguf) == MZ_OK) {
        (void)mz_tokenizer_open_gguf(ctx, gguf, out);
    }
    mz_gguf_close(ctx, gguf);
}

/* Its name, or why there is none. */
static const char *template_of(mz_context *ctx, const mz_tokenizer *tokenizer) {
    const mz_chat_template *t = NULL;
    const char *jinja = tokenizer != NULL ? mz_tokenizer_chat_template(tokenizer) : NULL;
    if (jinja == NULL) {
        return "none";
    }
    return mz_chat_template_detect(&ctx->error, jinja, &t) == MZ_OK ? mz_chat_template_name(t)
                                                                    : "not one of the known ones";
}

static void count_types(const mz_weights *weights, types *out) {
    memset(out, 0, sizeof *out);
    for (int64_t i = 0; i < mz_weights_count(weights); i++) {
        const char *name = NULL;
        mz_tensor t;
        if (mz_weights_at(weights, i, &name, &t) != MZ_OK) {
            continue;
        }
        const mz_dtype_info *type = mz_dtype_get(t.dtype);
        double n = 1;
        for (int k = 0; k < t.n_dims; k++) {
            n *= (double)t.shape[k];
        }
        out->n_tensors[t.dtype]++;
        out->n_elements += n;
        out->n_bits += 8 * n * type->block_bytes / type->block_len;
    }
}

static void print_types(const types *t, bool json) {
    bool first = true;
    for (int i = 0; i < MAX_TYPES; i++) {
        if (t->n_tensors[i] > 0) {
            const char *name = mz_dtype_get((mz_dtype)i)->name;
            (void)printf(json ? "%s\"%s\":%" PRId64 : "%s%s %" PRId64,
                         first  ? ""
                         : json ? ","
                                : ", ",
                         name, t->n_tensors[i]);
            first = false;
        }
    }
}

static void print_lines(mz_context *ctx, const mz_text_config *c, const types *t,
                        const mz_tokenizer *tokenizer) {
    (void)printf("%-18s %" PRId64 ", %" PRId64 " of keys and values, %" PRId64 " wide\n", "heads",
                 c->n_heads, c->n_kv_heads, c->head_dim);
    (void)printf("%-18s %" PRId64 " tokens\n%-18s ", "vocabulary", c->vocab_size, "tensor types");
    print_types(t, false);
    (void)printf("\n%-18s %.2f\n", "bits per weight", t->n_bits / (t->n_elements + 1e-9));
    if (tokenizer == NULL) {
        (void)printf("%-18s none: %s\n", "tokenizer", ctx->error.message);
        return;
    }
    (void)printf("%-18s %s, %" PRId64 " tokens\n", "tokenizer", mz_tokenizer_kind(tokenizer),
                 mz_tokenizer_size(tokenizer));
    (void)printf("%-18s %s\n", "chat template", template_of(ctx, tokenizer));
}

static void print_members(mz_context *ctx, const mz_text_config *c, const types *t,
                          const mz_tokenizer *tokenizer) {
    (void)printf("\"language\":{\"heads\":%" PRId64 ",\"kv_heads\":%" PRId64
                 ",\"head_width\":%" PRId64 ",\"vocabulary\":%" PRId64 ",\"context\":%" PRId64
                 ",\"bits_per_weight\":%.4g,\"types\":{",
                 c->n_heads, c->n_kv_heads, c->head_dim, c->vocab_size, c->max_positions,
                 t->n_bits / (t->n_elements + 1e-9));
    print_types(t, true);
    (void)printf("},\"tokenizer\":");
    if (tokenizer == NULL) {
        (void)printf("null,\"chat_template\":null},");
        return;
    }
    mz_cli_write_json_string(stdout, mz_tokenizer_kind(tokenizer));
    (void)printf(",\"chat_template\":");
    mz_cli_write_json_string(stdout, template_of(ctx, tokenizer));
    (void)printf("},");
}

mz_status mz_models_show_language(mz_context *ctx, const char *path, const mz_weights *weights,
                                  bool json) {
    const mz_family *family = NULL;
    json_t *config = NULL;
    char *name = NULL;
    mz_text_config c;
    types t;
    mz_tokenizer *tokenizer = NULL;
    MZ_TRY(mz_zoo_identify(ctx, path, &family, &config));
    mz_status status = mz_zoo_config_name(ctx, path, &name);
    if (status == MZ_OK) {
        status = family->read_text(&(mz_json_object){ctx, config, name}, &c);
    }
    if (status == MZ_OK) {
        count_types(weights, &t);
        open_tokenizer(ctx, path, &tokenizer);
        (json ? print_members : print_lines)(ctx, &c, &t, tokenizer);
        mz_tokenizer_close(ctx, tokenizer);
    }
    mz_free(ctx, name);
    json_decref(config);
    return status;
}
