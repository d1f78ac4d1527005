#include "apps/ask/stop_strings.h"

#include <string.h>

mz_status mz_stop_strings_add(mz_stop_strings *s, const char *text) {
    if (text[0] == '\0') {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "a stop string is empty");
    }
    if (s->n == MZ_MAX_STOP_STRINGS) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "more than %d stop strings",
                       MZ_MAX_STOP_STRINGS);
    }
    s->texts[s->n++] = text;
    return MZ_OK;
}

void mz_stop_strings_reset(mz_stop_strings *s) {
    s->n_held = 0;
    s->n_given = 0;
}

static void drop_given(mz_stop_strings *s) {
    s->n_held -= s->n_given;
    if (s->n_held > 0) {
        memmove(s->held, s->held + s->n_given, s->n_held);
    }
    s->n_given = 0;
}

/* Bytes of the longest stop string that ends at `end`, 0: none does. */
static size_t match_before(const mz_stop_strings *s, size_t end) {
    size_t best = 0;
    for (int i = 0; i < s->n; i++) {
        const size_t length = strlen(s->texts[i]);
        if (length <= end && length > best &&
            memcmp(s->held + end - length, s->texts[i], length) == 0) {
            best = length;
        }
    }
    return best;
}

/* Whether what begins at `at` may become a stop string. */
static bool may_begin_at(const mz_stop_strings *s, size_t at) {
    const size_t left = s->n_held - at;
    for (int i = 0; i < s->n; i++) {
        if (strlen(s->texts[i]) > left && memcmp(s->held + at, s->texts[i], left) == 0) {
            return true;
        }
    }
    return false;
}

mz_status mz_stop_strings_push(mz_stop_strings *s, const char *piece, size_t n_piece,
                               const char **text, size_t *n_bytes, bool *stopped) {
    void *held = s->held;
    drop_given(s);
    MZ_TRY(
        mz_grow(s->ctx, &held, &s->capacity, s->n_held + n_piece + 1, 1, "text held for --stop"));
    s->held = held;
    if (n_piece > 0) {
        memcpy(s->held + s->n_held, piece, n_piece);
    }
    s->n_held += n_piece;
    /* The one that is complete first counts, so that it does not matter how the text was cut. */
    size_t length = 0;
    size_t end = s->n_held - n_piece;
    while (length == 0 && end < s->n_held) {
        length = match_before(s, ++end);
    }
    size_t at = end - length;
    if (length == 0) {
        for (at = 0; at < s->n_held && !may_begin_at(s, at);) {
            at++;
        }
    }
    *stopped = length > 0;
    *text = s->held;
    *n_bytes = at;
    s->n_given = at;
    return MZ_OK;
}

void mz_stop_strings_finish(mz_stop_strings *s, const char **text, size_t *n_bytes) {
    drop_given(s);
    s->n_given = s->n_held;
    *text = s->held;
    *n_bytes = s->n_held;
}

void mz_stop_strings_free(mz_stop_strings *s) {
    mz_free(s->ctx, s->held);
    *s = (mz_stop_strings){0};
}
