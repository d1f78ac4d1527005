#include <string.h>

#include "llm/tokenizer_internal.h"

/* The stages of a tokenizer.json before and after the model. Each is an object with a "type", or a
 * "Sequence" of such; an unknown one is an error, because leaving it out would give other ids. */

enum { MAX_DEPTH = 4 };

static mz_status unknown_part(const mz_json_object *o, const char *part, const char *value,
                              const char *known) {
    return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s \"%s\", supported: %s", o->name,
                   part, value, known);
}

typedef mz_status (*stage_reader)(const mz_json_object *stage, const char *type, mz_tokenizer *t);

typedef struct stage_kind {
    const char *part; /* its name in the file */
    const char *list; /* the member of a Sequence that holds the others */
    stage_reader read;
} stage_kind;

static mz_status read_stage(const mz_json_object *o, const json_t *value, const stage_kind *kind,
                            int depth, mz_tokenizer *t) {
    if (value == NULL || json_is_null(value)) {
        return MZ_OK;
    }
    if (!json_is_object(value) || depth > MAX_DEPTH) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s is no object, or nested too deeply",
                       o->name, kind->part);
    }
    const mz_json_object stage = {.ctx = o->ctx, .object = value, .name = o->name};
    const char *type = NULL;
    MZ_TRY(mz_json_string(&stage, "type", &type));
    if (strcmp(type, "Sequence") != 0) {
        return kind->read(&stage, type, t);
    }
    const json_t *list = json_object_get(value, kind->list);
    if (!json_is_array(list)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s has no list %s", o->name, kind->part,
                       kind->list);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        MZ_TRY(read_stage(o, json_array_get(list, i), kind, depth + 1, t));
    }
    return MZ_OK;
}

/* {"String": text} or {"Regex": expression}. */
static mz_status read_pattern(const mz_json_object *stage, mz_expression **out) {
    const json_t *pattern = json_object_get(stage->object, "pattern");
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if (literal != NULL) {
        return mz_expression_compile_literal(stage->ctx, stage->name, literal, strlen(literal),
                                             out);
    }
    if (regex != NULL) {
        return mz_expression_compile(stage->ctx, stage->name, regex, strlen(regex), out);
    }
    return mz_fail(&stage->ctx->error, MZ_ERR_FORMAT, "%s: a pattern is neither String nor Regex",
                   stage->name);
}

/* --- normalizer ------------------------------------------------------------------------------ */

static mz_status add_replace(const mz_json_object *stage, mz_tokenizer *t) {
    const char *content = NULL;
    MZ_TRY(mz_json_string(stage, "content", &content));
    const char *literal =
        json_string_value(json_object_get(json_object_get(stage->object, "pattern"), "String"));
    mz_error *err = &stage->ctx->error;
    if (literal != NULL && strlen(literal) == 1) {
        MZ_TRY(mz_normalizer_add(err, &t->normalizer, MZ_NORMALIZE_REPLACE_CHARACTER, content,
                                 strlen(content), NULL));
        t->normalizer.steps[t->normalizer.n_steps - 1].from = *literal;
        return MZ_OK;
    }
    mz_expression *e = NULL;
    MZ_TRY(read_pattern(stage, &e));
    const mz_status status =
        mz_normalizer_add(err, &t->normalizer, MZ_NORMALIZE_REPLACE, content, strlen(content), e);
    if (status != MZ_OK) {
        mz_expression_destroy(stage->ctx, e);
    }
    return status;
}

static mz_status read_normalizer(const mz_json_object *stage, const char *type, mz_tokenizer *t) {
    static const struct {
        const char *name;
        mz_normalizer_kind kind;
    } forms[] = {{"NFC", MZ_NORMALIZE_NFC},
                 {"NFD", MZ_NORMALIZE_NFD},
                 {"NFKC", MZ_NORMALIZE_NFKC},
                 {"NFKD", MZ_NORMALIZE_NFKD}};
    mz_error *err = &stage->ctx->error;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(type, forms[i].name) == 0) {
            return mz_normalizer_add(err, &t->normalizer, forms[i].kind, NULL, 0, NULL);
        }
    }
    if (strcmp(type, "Prepend") == 0) {
        const char *text = NULL;
        MZ_TRY(mz_json_string(stage, "prepend", &text));
        return mz_normalizer_add(err, &t->normalizer, MZ_NORMALIZE_PREPEND, text, strlen(text),
                                 NULL);
    }
    if (strcmp(type, "Replace") == 0) {
        return add_replace(stage, t);
    }
    return unknown_part(stage, "normalizer", type,
                        "NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence");
}

mz_status mz_tokenizer_json_normalizer(const mz_json_object *o, const json_t *value,
                                       mz_tokenizer *t) {
    static const stage_kind kind = {"normalizer", "normalizers", read_normalizer};
    return read_stage(o, value, &kind, 0, t);
}

/* --- pre_tokenizer --------------------------------------------------------------------------- */

static mz_status add_step(const mz_json_object *stage, mz_tokenizer *t, mz_expression *e,
                          mz_split_behavior behavior, bool invert) {
    const mz_status status =
        mz_text_splitter_add(&stage->ctx->error, &t->splitter, e, behavior, invert);
    if (status != MZ_OK) {
        mz_expression_destroy(stage->ctx, e);
    }
    return status;
}

static mz_status add_split(const mz_json_object *stage, mz_tokenizer *t) {
    static const char *const names[] = {
        [MZ_SPLIT_ISOLATED] = "Isolated",
        [MZ_SPLIT_REMOVED] = "Removed",
        [MZ_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [MZ_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [MZ_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = NULL;
    bool invert = false;
    MZ_TRY(mz_json_string_or(stage, "behavior", "Isolated", &name));
    MZ_TRY(mz_json_bool_or(stage, "invert", false, &invert));
    size_t behavior = 0;
    while (behavior < sizeof names / sizeof names[0] && strcmp(name, names[behavior]) != 0) {
        behavior++;
    }
    if (behavior == sizeof names / sizeof names[0]) {
        return unknown_part(stage, "pre_tokenizer: behavior", name,
                            "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    }
    mz_expression *e = NULL;
    MZ_TRY(read_pattern(stage, &e));
    return add_step(stage, t, e, (mz_split_behavior)behavior, invert);
}

static mz_status add_byte_level(const mz_json_object *stage, mz_tokenizer *t) {
    bool use_regex = true;
    bool prefix_space = true;
    MZ_TRY(mz_json_bool_or(stage, "use_regex", true, &use_regex));
    MZ_TRY(mz_json_bool_or(stage, "add_prefix_space", true, &prefix_space));
    if (prefix_space && t->splitter.n_steps > 0) {
        return unknown_part(stage, "pre_tokenizer", "add_prefix_space after a split",
                            "only before it");
    }
    t->bpe.byte_level = true;
    t->bpe.spelled = true;
    t->bpe.prefix_space = prefix_space;
    return use_regex ? mz_tokenizer_split_by(stage->ctx, t, mz_expression_gpt2) : MZ_OK;
}

/* Spaces become `replacement`, and one goes in front. */
static mz_status add_metaspace(const mz_json_object *stage, mz_tokenizer *t) {
    const char *replacement = NULL;
    const char *scheme = NULL;
    bool split = true;
    MZ_TRY(mz_json_string_or(stage, "replacement", MZ_SPACE_PIECE, &replacement));
    MZ_TRY(mz_json_string_or(stage, "prepend_scheme", "always", &scheme));
    MZ_TRY(mz_json_bool_or(stage, "split", true, &split));
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 &&
        strcmp(scheme, "never") != 0) {
        return unknown_part(stage, "pre_tokenizer: prepend_scheme", scheme, "always, first, never");
    }
    if (t->splitter.n_steps > 0) {
        return unknown_part(stage, "pre_tokenizer", "Metaspace after a split", "only before it");
    }
    mz_error *err = &stage->ctx->error;
    const size_t n = strlen(replacement);
    MZ_TRY(mz_normalizer_add(err, &t->metaspace, MZ_NORMALIZE_REPLACE_CHARACTER, replacement, n,
                             NULL));
    t->metaspace.steps[0].from = ' ';
    if (strcmp(scheme, "never") != 0) {
        MZ_TRY(mz_normalizer_add(err, &t->metaspace,
                                 *scheme == 'a' ? MZ_NORMALIZE_PREPEND_MISSING
                                                : MZ_NORMALIZE_PREPEND_MISSING_FIRST,
                                 replacement, n, NULL));
    }
    if (!split) {
        return MZ_OK;
    }
    mz_expression *e = NULL;
    MZ_TRY(mz_expression_compile_literal(stage->ctx, stage->name, replacement, n, &e));
    return add_step(stage, t, e, MZ_SPLIT_MERGED_WITH_NEXT, false);
}

static mz_status read_splitter(const mz_json_object *stage, const char *type, mz_tokenizer *t) {
    if (strcmp(type, "Split") == 0) {
        return add_split(stage, t);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return add_byte_level(stage, t);
    }
    if (strcmp(type, "Metaspace") == 0) {
        return add_metaspace(stage, t);
    }
    if (strcmp(type, "Digits") == 0) {
        bool one_by_one = false;
        MZ_TRY(mz_json_bool_or(stage, "individual_digits", false, &one_by_one));
        return mz_tokenizer_split_by(stage->ctx, t, one_by_one ? "\\p{N}" : "\\p{N}+");
    }
    return unknown_part(stage, "pre_tokenizer", type,
                        "Split, ByteLevel, Digits, Metaspace, Sequence");
}

mz_status mz_tokenizer_json_splitter(const mz_json_object *o, const json_t *value,
                                     mz_tokenizer *t) {
    static const stage_kind kind = {"pre_tokenizer", "pretokenizers", read_splitter};
    return read_stage(o, value, &kind, 0, t);
}

/* --- post_processor -------------------------------------------------------------------------- */

/* The ids that a special token of a template stands for. */
static mz_status add_special(const mz_json_object *stage, const char *name, bool after,
                             mz_tokenizer *t) {
    const json_t *tokens = json_object_get(stage->object, "special_tokens");
    const json_t *ids = json_object_get(json_object_get(tokens, name), "ids");
    int32_t *list = after ? t->after : t->before;
    int *n = after ? &t->n_after : &t->n_before;
    if (!json_is_array(ids) || json_array_size(ids) == 0) {
        return mz_fail(&stage->ctx->error, MZ_ERR_FORMAT,
                       "%s: post_processor: no ids for the special token \"%s\"", stage->name,
                       name);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= t->vocabulary.n || *n == MZ_TOKENIZER_MAX_AROUND) {
            return mz_fail(
                &stage->ctx->error, MZ_ERR_FORMAT,
                "%s: post_processor: an id of \"%s\" is outside the vocabulary, or there "
                "are more than %d",
                stage->name, name, MZ_TOKENIZER_MAX_AROUND);
        }
        list[(*n)++] = (int32_t)json_integer_value(id);
    }
    return MZ_OK;
}

static mz_status read_around(const mz_json_object *stage, const char *type, mz_tokenizer *t) {
    if (strcmp(type, "ByteLevel") == 0) {
        return MZ_OK; /* changes offsets only */
    }
    if (strcmp(type, "TemplateProcessing") != 0) {
        return unknown_part(stage, "post_processor", type,
                            "TemplateProcessing, ByteLevel, Sequence");
    }
    const json_t *single = json_object_get(stage->object, "single");
    if (!json_is_array(single)) {
        return mz_fail(&stage->ctx->error, MZ_ERR_FORMAT, "%s: post_processor has no list single",
                       stage->name);
    }
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i);
        const json_t *special = json_object_get(part, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        if (name != NULL) {
            MZ_TRY(add_special(stage, name, after, t));
        } else {
            after = true;
        }
    }
    return MZ_OK;
}

mz_status mz_tokenizer_json_around(const mz_json_object *o, const json_t *value, mz_tokenizer *t) {
    static const stage_kind kind = {"post_processor", "processors", read_around};
    return read_stage(o, value, &kind, 0, t);
}

/* --- decoder --------------------------------------------------------------------------------- */

static mz_status copy_text(const mz_json_object *stage, const char *key, const char *text,
                           char out[MZ_DECODE_MAX_TEXT], size_t *n) {
    *n = text != NULL ? strlen(text) : 0;
    if (*n == 0 || *n > MZ_DECODE_MAX_TEXT) {
        return mz_fail(&stage->ctx->error, MZ_ERR_FORMAT,
                       "%s: decoder: %s is no text of 1 to %d bytes", stage->name, key,
                       MZ_DECODE_MAX_TEXT);
    }
    memcpy(out, text, *n);
    return MZ_OK;
}

static mz_status set_replace(const mz_json_object *stage, const char *from, const char *to,
                             mz_decode_plan *plan) {
    if (plan->n_from > 0) {
        return unknown_part(stage, "decoder", "a second Replace", "one");
    }
    MZ_TRY(copy_text(stage, "pattern", from, plan->from, &plan->n_from));
    plan->n_to = 0;
    return *to != '\0' ? copy_text(stage, "content", to, plan->to, &plan->n_to) : MZ_OK;
}

static mz_status set_strip(const mz_json_object *stage, mz_decode_plan *plan) {
    const char *content = NULL;
    int64_t start = 0;
    int64_t stop = 0;
    MZ_TRY(mz_json_string(stage, "content", &content));
    MZ_TRY(mz_json_int_or(stage, "start", 0, 0, 1000, &start));
    MZ_TRY(mz_json_int_or(stage, "stop", 0, 0, 0, &stop));
    plan->strip_times = (int)start;
    return copy_text(stage, "content", content, plan->strip, &plan->n_strip);
}

static mz_status read_decoder(const mz_json_object *stage, const char *type, mz_tokenizer *t) {
    mz_decode_plan *plan = &t->decode;
    if (strcmp(type, "ByteLevel") == 0) {
        plan->kind = MZ_DECODE_BYTES;
        t->bpe.spelled = true;
        return MZ_OK;
    }
    plan->kind = MZ_DECODE_CHAIN;
    plan->join_with_spaces = false;
    if (strcmp(type, "ByteFallback") == 0) {
        plan->byte_fallback = true;
        return MZ_OK;
    }
    if (strcmp(type, "Fuse") == 0) {
        return MZ_OK; /* from here on it is one text, as it is anyway */
    }
    if (strcmp(type, "Strip") == 0) {
        return set_strip(stage, plan);
    }
    if (strcmp(type, "Replace") == 0) {
        const char *to = NULL;
        MZ_TRY(mz_json_string(stage, "content", &to));
        const json_t *pattern = json_object_get(stage->object, "pattern");
        return set_replace(stage, json_string_value(json_object_get(pattern, "String")), to, plan);
    }
    if (strcmp(type, "Metaspace") == 0) {
        const char *from = NULL;
        const char *scheme = NULL;
        MZ_TRY(mz_json_string_or(stage, "replacement", MZ_SPACE_PIECE, &from));
        MZ_TRY(mz_json_string_or(stage, "prepend_scheme", "always", &scheme));
        plan->drop_first_spaces = strcmp(scheme, "never") != 0;
        return set_replace(stage, from, " ", plan);
    }
    return unknown_part(stage, "decoder", type,
                        "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence");
}

mz_status mz_tokenizer_json_decoder(const mz_json_object *o, const json_t *value, mz_tokenizer *t) {
    static const stage_kind kind = {"decoder", "decoders", read_decoder};
    /* Without a decoder tokens are words. */
    t->decode.kind = MZ_DECODE_CHAIN;
    t->decode.join_with_spaces = true;
    return read_stage(o, value, &kind, 0, t);
}
