#include <string.h>

#include "llm/tokenizer_internal.h"
#include "llm/utf8.h"

/* Decoding everything is pushing everything, so that the two cannot differ. */

static const char replacement[] = "\xEF\xBF\xBD";

static mz_status append(mz_context *ctx, char **data, size_t *n, size_t *capacity, const char *text,
                        size_t n_bytes) {
    void *memory = *data;
    /* Room for the NUL too. */
    MZ_TRY(mz_grow(ctx, &memory, capacity, *n + n_bytes + 1, 1, "decoded text"));
    *data = memory;
    if (n_bytes > 0) {
        memcpy(*data + *n, text, n_bytes);
    }
    *n += n_bytes;
    (*data)[*n] = '\0';
    return MZ_OK;
}

static mz_status hold(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    return append(ctx, &d->held, &d->n_held, &d->held_capacity, text, n_bytes);
}

/* To the piece, or to the run that waits for what comes next. */
static mz_status put(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    if (d->to_run) {
        return append(ctx, &d->run, &d->n_run, &d->run_capacity, text, n_bytes);
    }
    if (n_bytes > 0) {
        d->gave = true;
        if (d->space_owed) {
            d->space_owed = false;
            MZ_TRY(append(ctx, &d->text, &d->n_bytes, &d->capacity, " ", 1));
        }
    }
    return append(ctx, &d->text, &d->n_bytes, &d->capacity, text, n_bytes);
}

/* To the piece, with U+FFFD for what is no UTF-8: a file's own tokens may be anything. */
static mz_status put_repaired(mz_context *ctx, mz_detokenizer *d, const char *text,
                              size_t n_bytes) {
    if (mz_utf8_valid(text, n_bytes)) {
        return put(ctx, d, text, n_bytes);
    }
    char *repaired = NULL;
    size_t n = 0;
    MZ_TRY(mz_utf8_repair(ctx, text, n_bytes, &repaired, &n));
    const mz_status status = put(ctx, d, repaired, n);
    mz_free(ctx, repaired);
    return status;
}

static void drop_held(mz_detokenizer *d, size_t n) {
    d->n_held -= n;
    if (d->n_held > 0) {
        memmove(d->held, d->held + n, d->n_held);
    }
}

/* Gives the characters that are whole. `one_by_one`: a bad byte is one U+FFFD, else the beginning
 * of a character is. `finish`: what is cut off will not go on. */
static mz_status give_characters(mz_context *ctx, mz_detokenizer *d, bool one_by_one, bool finish) {
    size_t i = 0;
    mz_status status = MZ_OK;
    while (i < d->n_held && status == MZ_OK) {
        const size_t left = d->n_held - i;
        const int n = mz_utf8_decode(d->held + i, left, NULL);
        if (n > 0) {
            status = put(ctx, d, d->held + i, (size_t)n);
            i += (size_t)n;
            continue;
        }
        bool cut = false;
        const size_t bad = mz_utf8_bad_length(d->held + i, left, &cut);
        if (cut && !finish) {
            break;
        }
        status = put(ctx, d, replacement, 3);
        i += one_by_one ? 1 : bad;
    }
    if (status == MZ_OK) {
        drop_held(d, i);
    }
    return status;
}

/* --- MZ_DECODE_BYTES ------------------------------------------------------------------------- */

/* The bytes of a token in GPT-2's alphabet; one with any other character is what it is. */
static mz_status hold_spelled(mz_context *ctx, mz_detokenizer *d, const char *text,
                              size_t n_bytes) {
    const size_t before = d->n_held;
    for (size_t i = 0; i < n_bytes;) {
        uint32_t code = 0;
        const int n = mz_utf8_decode(text + i, n_bytes - i, &code);
        const int byte = n > 0 ? mz_byte_alphabet_byte(code) : -1;
        if (byte < 0) {
            d->n_held = before;
            return hold(ctx, d, text, n_bytes);
        }
        const char c = (char)byte;
        MZ_TRY(hold(ctx, d, &c, 1));
        i += (size_t)n;
    }
    return MZ_OK;
}

static mz_status push_bytes(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    MZ_TRY(d->tokenizer->bpe.spelled ? hold_spelled(ctx, d, text, n_bytes)
                                     : hold(ctx, d, text, n_bytes));
    return give_characters(ctx, d, false, false);
}

/* --- MZ_DECODE_SENTENCEPIECE ----------------------------------------------------------------- */

/* The text with U+2581 as spaces. */
static mz_status put_spaces(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    size_t done = 0;
    for (size_t i = 0; i + 3 <= n_bytes;) {
        if (memcmp(text + i, MZ_SPACE_PIECE, 3) != 0) {
            i++;
            continue;
        }
        MZ_TRY(put_repaired(ctx, d, text + done, i - done));
        MZ_TRY(put(ctx, d, " ", 1));
        i += 3;
        done = i;
    }
    return put_repaired(ctx, d, text + done, n_bytes - done);
}

/* One piece as SentencePieceProcessor::Decode has it: the first one loses its dummy space. */
static mz_status push_piece(mz_context *ctx, mz_detokenizer *d, mz_piece_type type,
                            const char *text, size_t n_bytes) {
    const mz_decode_plan *plan = &d->tokenizer->decode;
    const int byte = type == MZ_PIECE_BYTE ? mz_byte_piece_value(text, n_bytes) : -1;
    if (byte >= 0) {
        const char c = (char)byte;
        d->started = true;
        MZ_TRY(hold(ctx, d, &c, 1));
        return give_characters(ctx, d, true, false);
    }
    MZ_TRY(give_characters(ctx, d, true, true));
    if (type == MZ_PIECE_CONTROL) {
        if (d->keep_control && plan->kind == MZ_DECODE_SENTENCEPIECE) {
            d->started = true;
            return put_repaired(ctx, d, text, n_bytes);
        }
        return MZ_OK;
    }
    if (type == MZ_PIECE_UNKNOWN) {
        d->started = true;
        return put(ctx, d, plan->unknown, strlen(plan->unknown));
    }
    const bool is_first = !d->started && (plan->strip_first || plan->strip_spaces);
    if (is_first && n_bytes >= 3 && memcmp(text, MZ_SPACE_PIECE, 3) == 0) {
        text += 3;
        n_bytes -= 3;
        /* With extra white space removed, further pieces lose theirs too. */
        d->started = !plan->strip_spaces;
    }
    d->started = d->started || n_bytes > 0;
    return put_spaces(ctx, d, text, n_bytes);
}

/* --- MZ_DECODE_LLAMA ------------------------------------------------------------------------- */

/* LlamaTokenizer's decode (transformers, the one that runs on the library): the tokens between two
 * added tokens are a stretch; stretches and added tokens are joined by single spaces. Within one,
 * special tokens are given as they are, and each run of tokens between them is decoded for itself.
 * By `legacy` a space stands in front of a run that a special token follows, so that runs wait. */

static void begin_stretch(mz_detokenizer *d) {
    d->in_stretch = true;
    d->n_tokens = 0;
    d->after_special = false;
    d->started = false;
    d->gave = false;
    d->space_owed = d->n_stretches > 0;
}

/* Ends the tokens between two special ones. */
static mz_status end_run(mz_context *ctx, mz_detokenizer *d, bool special_follows) {
    MZ_TRY(give_characters(ctx, d, true, true));
    d->to_run = false;
    d->started = false;
    if (special_follows && d->tokenizer->decode.legacy && !d->after_special && d->n_tokens > 0) {
        MZ_TRY(put(ctx, d, " ", 1));
    }
    const size_t n = d->n_run;
    d->n_run = 0;
    return n > 0 ? put(ctx, d, d->run, n) : MZ_OK;
}

static mz_status end_stretch(mz_context *ctx, mz_detokenizer *d) {
    if (d->in_stretch) {
        MZ_TRY(end_run(ctx, d, false));
        d->n_stretches += d->gave;
        d->in_stretch = false;
    }
    return MZ_OK;
}

static mz_status push_added(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    MZ_TRY(end_stretch(ctx, d));
    begin_stretch(d);
    MZ_TRY(put_repaired(ctx, d, text, n_bytes));
    return end_stretch(ctx, d);
}

/* A stretch's first token without its U+2581, which the library is given as a text: one that is no
 * piece of the model is handed back as it is. */
static mz_status push_first(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    const mz_vocabulary *v = &d->tokenizer->vocabulary;
    const int32_t id = mz_vocabulary_find(v, text, n_bytes);
    if (id >= 0 && id < d->tokenizer->decode.n_pieces) {
        return push_piece(ctx, d, (mz_piece_type)v->pieces[id].type, text, n_bytes);
    }
    d->started = d->started || n_bytes > 0;
    return put_repaired(ctx, d, text, n_bytes);
}

static mz_status push_llama(mz_context *ctx, mz_detokenizer *d, int32_t id, mz_piece_type type,
                            const char *text, size_t n_bytes) {
    const mz_decode_plan *plan = &d->tokenizer->decode;
    const bool special = type == MZ_PIECE_CONTROL || type == MZ_PIECE_UNKNOWN;
    if (special && !d->keep_control) {
        return MZ_OK;
    }
    if (id >= plan->n_pieces) {
        return push_added(ctx, d, text, n_bytes);
    }
    if (!d->in_stretch) {
        begin_stretch(d);
    }
    const bool spaced = n_bytes >= 3 && memcmp(text, MZ_SPACE_PIECE, 3) == 0;
    if (special) {
        MZ_TRY(end_run(ctx, d, true));
        MZ_TRY(put_repaired(ctx, d, text, n_bytes));
    } else {
        if (d->after_special && d->n_tokens == 1 && plan->prefix_space && !spaced) {
            MZ_TRY(put(ctx, d, " ", 1));
        }
        d->to_run = d->keep_control && plan->legacy;
        MZ_TRY(spaced && d->n_tokens == 0 && plan->prefix_space
                   ? push_first(ctx, d, text + 3, n_bytes - 3)
                   : push_piece(ctx, d, type, text, n_bytes));
        d->to_run = false;
    }
    d->after_special = special;
    d->n_tokens++;
    return MZ_OK;
}

static mz_status finish_llama(mz_context *ctx, mz_detokenizer *d) {
    const bool open = d->in_stretch;
    d->to_run = d->n_run > 0;
    MZ_TRY(end_stretch(ctx, d));
    if (open && d->space_owed) {
        /* An empty last stretch is joined like the others. */
        d->space_owed = false;
        return put(ctx, d, " ", 1);
    }
    return MZ_OK;
}

/* --- MZ_DECODE_CHAIN ------------------------------------------------------------------------- */

static mz_status put_stripped(mz_context *ctx, mz_detokenizer *d, const char *text,
                              size_t n_bytes) {
    const mz_decode_plan *plan = &d->tokenizer->decode;
    while (d->n_stripped >= 0 && d->n_stripped < plan->strip_times && n_bytes >= plan->n_strip &&
           memcmp(text, plan->strip, plan->n_strip) == 0) {
        d->n_stripped++;
        text += plan->n_strip;
        n_bytes -= plan->n_strip;
    }
    d->n_stripped = n_bytes > 0 ? -1 : d->n_stripped;
    return put_repaired(ctx, d, text, n_bytes);
}

/* A run of byte tokens that is not UTF-8 as a whole is one U+FFFD a byte. */
static mz_status end_bytes(mz_context *ctx, mz_detokenizer *d) {
    const size_t n = d->n_held;
    d->n_held = 0;
    if (n == 0) {
        return MZ_OK;
    }
    if (mz_utf8_valid(d->held, n)) {
        return put_stripped(ctx, d, d->held, n);
    }
    for (size_t i = 0; i < n; i++) {
        MZ_TRY(put_stripped(ctx, d, replacement, 3));
    }
    return MZ_OK;
}

static mz_status push_chain(mz_context *ctx, mz_detokenizer *d, const char *text, size_t n_bytes) {
    const mz_decode_plan *plan = &d->tokenizer->decode;
    const bool is_first = d->n_tokens++ == 0;
    const int byte = plan->byte_fallback ? mz_byte_piece_value(text, n_bytes) : -1;
    if (byte >= 0) {
        const char c = (char)byte;
        return hold(ctx, d, &c, 1);
    }
    MZ_TRY(end_bytes(ctx, d));
    if (plan->join_with_spaces && !is_first) {
        MZ_TRY(put_stripped(ctx, d, " ", 1));
    }
    const size_t n_to = plan->drop_first_spaces && is_first ? 0 : plan->n_to;
    size_t done = 0;
    for (size_t i = 0; plan->n_from > 0 && i + plan->n_from <= n_bytes;) {
        if (memcmp(text + i, plan->from, plan->n_from) != 0) {
            i++;
            continue;
        }
        MZ_TRY(put_stripped(ctx, d, text + done, i - done));
        MZ_TRY(put_stripped(ctx, d, plan->to, n_to));
        i += plan->n_from;
        done = i;
    }
    return put_stripped(ctx, d, text + done, n_bytes - done);
}

/* --------------------------------------------------------------------------------------------- */

static mz_status push(mz_context *ctx, mz_detokenizer *d, int32_t id) {
    const mz_tokenizer *t = d->tokenizer;
    if (id < 0 || id >= t->vocabulary.n) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "token id %d, the vocabulary has 0 to %lld", id,
                       (long long)t->vocabulary.n - 1);
    }
    size_t n_bytes = 0;
    const char *text = mz_vocabulary_text(&t->vocabulary, id, &n_bytes);
    const mz_piece_type type = (mz_piece_type)t->vocabulary.pieces[id].type;
    if (type == MZ_PIECE_NONE) {
        return MZ_OK;
    }
    switch (t->decode.kind) {
    case MZ_DECODE_SENTENCEPIECE:
        return push_piece(ctx, d, type, text, n_bytes);
    case MZ_DECODE_LLAMA:
        return push_llama(ctx, d, id, type, text, n_bytes);
    case MZ_DECODE_BYTES:
    case MZ_DECODE_CHAIN:
        break;
    }
    if (type == MZ_PIECE_CONTROL && !d->keep_control) {
        return MZ_OK;
    }
    return t->decode.kind == MZ_DECODE_BYTES ? push_bytes(ctx, d, text, n_bytes)
                                             : push_chain(ctx, d, text, n_bytes);
}

static mz_status finish(mz_context *ctx, mz_detokenizer *d) {
    switch (d->tokenizer->decode.kind) {
    case MZ_DECODE_BYTES:
        return give_characters(ctx, d, false, true);
    case MZ_DECODE_SENTENCEPIECE:
        return give_characters(ctx, d, true, true);
    case MZ_DECODE_LLAMA:
        return finish_llama(ctx, d);
    case MZ_DECODE_CHAIN:
        return end_bytes(ctx, d);
    }
    return MZ_OK;
}

mz_status mz_detokenizer_push(mz_context *ctx, mz_detokenizer *d, int32_t id, const char **piece,
                              size_t *n_bytes) {
    d->n_bytes = 0;
    MZ_TRY(append(ctx, &d->text, &d->n_bytes, &d->capacity, NULL, 0));
    MZ_TRY(push(ctx, d, id));
    *piece = d->text;
    *n_bytes = d->n_bytes;
    return MZ_OK;
}

mz_status mz_detokenizer_finish(mz_context *ctx, mz_detokenizer *d, const char **piece,
                                size_t *n_bytes) {
    d->n_bytes = 0;
    MZ_TRY(append(ctx, &d->text, &d->n_bytes, &d->capacity, NULL, 0));
    MZ_TRY(finish(ctx, d));
    *piece = d->text;
    *n_bytes = d->n_bytes;
    return MZ_OK;
}

void mz_detokenizer_free(mz_context *ctx, mz_detokenizer *d) {
    mz_free(ctx, d->text);
    mz_free(ctx, d->held);
    mz_free(ctx, d->run);
    *d = (mz_detokenizer){0};
}

mz_status mz_tokenizer_decode(mz_context *ctx, const mz_tokenizer *t, const int32_t *ids, int64_t n,
                              bool keep_control, char **text, size_t *n_bytes) {
    mz_detokenizer d = {.tokenizer = t, .keep_control = keep_control};
    mz_status status = append(ctx, &d.text, &d.n_bytes, &d.capacity, NULL, 0);
    for (int64_t i = 0; i < n && status == MZ_OK; i++) {
        status = push(ctx, &d, ids[i]);
    }
    if (status == MZ_OK) {
        status = finish(ctx, &d);
    }
    if (status == MZ_OK) {
        *text = d.text;
        *n_bytes = d.n_bytes;
        d.text = NULL;
    }
    mz_detokenizer_free(ctx, &d);
    return status;
}
