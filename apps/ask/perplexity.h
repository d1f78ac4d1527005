/* Perplexity: how well a language model foretells a text. */
#ifndef MZ_APPS_ASK_PERPLEXITY_H
#define MZ_APPS_ASK_PERPLEXITY_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/zoo/language_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_perplexity {
    double nll; /* sum of the negative logarithms of the scored tokens' probabilities, in nats */
    int64_t n_scored;
    int64_t n_windows;
} mz_perplexity;

/* Scores `ids` [n], each but the first given all before it: exp(nll / n_scored) is the perplexity.
 * A text longer than the session's context is read in windows that overlap by half: every token but
 * the first is scored once, given at least half a context less one token. `bos` at least 0 is put
 * in front of every window and is what the first token is scored after.
 * Softmax and sums are in f64, the logits of a few hundred rows at most are in memory at once.
 * `done` is told how many are scored, and may stop the work by true (status INTERRUPTED); NULL:
 * none. Errors: ARG for fewer than two tokens (with `bos`: one) or a context of fewer than 4;
 * FORMAT where a score is not finite; those of the model. */
mz_status mz_perplexity_score(mz_context *ctx, const mz_language_model *model,
                              mz_lm_session *session, int32_t bos, const int32_t *ids, int64_t n,
                              bool (*done)(void *arg, int64_t n_scored), void *arg,
                              mz_perplexity *out);

/* log sum exp of `logits` [n] less logits[id], in f64. */
double mz_perplexity_nll(const float *logits, int64_t n, int32_t id);

#ifdef __cplusplus
}
#endif
#endif
