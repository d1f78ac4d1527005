#include "llm/text_splitter.h"

mz_status mz_text_splitter_add(mz_error *err, mz_text_splitter *s, mz_expression *expression,
                               mz_split_behavior behavior, bool invert) {
    if (s->n_steps == MZ_SPLITTER_MAX_STEPS) {
        return mz_fail(err, MZ_ERR_LIMIT, "a text is split in more than %d steps",
                       MZ_SPLITTER_MAX_STEPS);
    }
    s->steps[s->n_steps++] =
        (mz_split_step){.expression = expression, .behavior = behavior, .invert = invert};
    return MZ_OK;
}

void mz_text_splitter_free(mz_context *ctx, mz_text_splitter *s) {
    for (int i = 0; i < s->n_steps; i++) {
        mz_expression_destroy(ctx, s->steps[i].expression);
    }
    *s = (mz_text_splitter){0};
}

mz_status mz_text_splitting_begin(mz_context *ctx, const mz_text_splitter *s,
                                  mz_text_splitting *out) {
    out->splitter = s;
    for (int i = 0; i < s->n_steps; i++) {
        MZ_TRY(mz_expression_match_create(ctx, s->steps[i].expression, &out->matches[i]));
    }
    return MZ_OK;
}

void mz_text_splitting_end(mz_context *ctx, mz_text_splitting *splitting) {
    for (int i = 0; i < MZ_SPLITTER_MAX_STEPS; i++) {
        mz_expression_match_destroy(ctx, splitting->matches[i]);
    }
    *splitting = (mz_text_splitting){0};
}

typedef struct run_state {
    mz_text_splitting *splitting;
    const char *text;
    mz_text_piece piece;
    void *arg;
} run_state;

/* What one step has found and not yet handed on. */
typedef struct step_state {
    size_t start, end; /* the piece being put together */
    bool open;         /* there is one */
    bool was_match;
} step_state;

static mz_status run_step(mz_context *ctx, const run_state *r, int step, size_t start, size_t end);

static mz_status flush(mz_context *ctx, const run_state *r, int step, step_state *s) {
    const bool open = s->open;
    s->open = false;
    return open ? run_step(ctx, r, step + 1, s->start, s->end) : MZ_OK;
}

/* One stretch, a match or what lies between two. */
static mz_status take(mz_context *ctx, const run_state *r, int step, step_state *s, size_t start,
                      size_t end, bool is_match) {
    const mz_split_behavior behavior = r->splitting->splitter->steps[step].behavior;
    bool join = false;
    switch (behavior) {
    case MZ_SPLIT_ISOLATED:
    case MZ_SPLIT_REMOVED:
        break;
    case MZ_SPLIT_MERGED_WITH_PREVIOUS:
        join = is_match && !s->was_match;
        break;
    case MZ_SPLIT_MERGED_WITH_NEXT:
        join = !is_match && s->was_match;
        break;
    case MZ_SPLIT_CONTIGUOUS:
        join = is_match == s->was_match;
        break;
    }
    s->was_match = is_match;
    if (start == end) {
        return MZ_OK;
    }
    if (join && s->open) {
        s->end = end;
        return MZ_OK;
    }
    MZ_TRY(flush(ctx, r, step, s));
    s->open = !(is_match && behavior == MZ_SPLIT_REMOVED);
    s->start = start;
    s->end = end;
    return MZ_OK;
}

/* Where the next character begins. */
static size_t next_character(const char *text, size_t n_bytes, size_t at) {
    do {
        at++;
    } while (at < n_bytes && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static mz_status run_step(mz_context *ctx, const run_state *r, int step, size_t start, size_t end) {
    const mz_text_splitter *splitter = r->splitting->splitter;
    if (step == splitter->n_steps) {
        return r->piece(ctx, r->arg, r->text + start, end - start);
    }
    const bool invert = splitter->steps[step].invert;
    step_state s = {0};
    /* The expression sees this piece alone: what lies before it and after it is another text. */
    const char *text = r->text + start;
    const size_t n = end - start;
    size_t done = 0;
    for (size_t at = 0; at < n;) {
        bool found = false;
        size_t first = 0;
        size_t last = 0;
        MZ_TRY(mz_expression_find(ctx, r->splitting->matches[step], text, n, at, &found, &first,
                                  &last));
        if (!found) {
            break;
        }
        if (first > done) {
            MZ_TRY(take(ctx, r, step, &s, start + done, start + first, invert));
        }
        MZ_TRY(take(ctx, r, step, &s, start + first, start + last, !invert));
        done = last;
        at = last > first ? last : next_character(text, n, last);
    }
    if (done < n) {
        MZ_TRY(take(ctx, r, step, &s, start + done, end, invert));
    }
    return flush(ctx, r, step, &s);
}

mz_status mz_text_splitting_run(mz_context *ctx, mz_text_splitting *splitting, const char *text,
                                size_t n_bytes, mz_text_piece piece, void *arg) {
    const run_state r = {.splitting = splitting, .text = text, .piece = piece, .arg = arg};
    return n_bytes > 0 ? run_step(ctx, &r, 0, 0, n_bytes) : MZ_OK;
}
