/* Balance losses with options, unused slots and dropped choices, and the entropy of routers,
 * against plain f64 and finite differences. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "core/losses_internal.h"

enum { E = 5, K = 2, N = 41, N_LIGHT = 2 };

typedef struct balance_case {
    bool by_modality; /* images only: the first three experts; the others are -inf */
    bool has_light;
    bool first_only;
    bool entropy;
    const int32_t *ids;      /* [N, K] */
    const uint8_t *modality; /* [N] */
    const mz_router *router;
} balance_case;

static const double tau = 0.75;

/* An image whose next row is an image too. */
static bool counts(const balance_case *c, int t) {
    return !c->by_modality || (t + 1 < N && c->modality[t] == MZ_MODALITY_IMAGE &&
                               c->modality[t + 1] == MZ_MODALITY_IMAGE);
}

static void plain_softmax(const double *x, double *p, int n) {
    double sum = 0;
    for (int e = 0; e < n; e++) {
        p[e] = exp(x[e]);
        sum += p[e];
    }
    for (int e = 0; e < n; e++) {
        p[e] /= sum;
    }
}

static int first_choice(const double *x, const int32_t *ids, int n_open) {
    int best = 0;
    for (int e = 1; e < n_open; e++) {
        best = x[e] > x[best] ? e : best;
    }
    return ids[0] >= 0 ? ids[0] : best;
}

static double plain(const double *x, const void *arg) {
    const balance_case *c = arg;
    const int n_open = c->by_modality ? 3 : E;
    double f[E] = {0};
    double p_sum[E] = {0};
    double entropy = 0;
    double sum = 0;
    int n = 0;
    for (int t = 0; t < N; t++) {
        double p[E] = {0};
        if (!counts(c, t)) {
            continue;
        }
        plain_softmax(x + t * E, p, n_open);
        for (int e = 0; e < n_open; e++) {
            p_sum[e] += p[e];
            entropy -= p[e] * log(p[e]);
        }
        if (c->first_only) {
            f[first_choice(x + t * E, c->ids + t * K, n_open)] += 1;
        }
        for (int k = 0; k < K && !c->first_only; k++) {
            const int32_t id = c->ids[t * K + k];
            f[id < 0 ? 0 : id] += id < 0 ? 0 : 1;
        }
        n++;
    }
    for (int e = 0; e < E; e++) {
        const double eta = c->has_light && e >= E - N_LIGHT ? tau : 1;
        sum += eta * f[e] / n * p_sum[e] / n;
    }
    return c->entropy ? 0.7 * entropy / n : 0.7 * n_open * sum;
}

static void check(mz_stream *s, const char *name, balance_case *c) {
    float logits[N * E];
    float gradient[N * E] = {0};
    int32_t ids[N * K];
    uint8_t modality[N];
    int32_t sequence[N] = {0};
    mz_router router = {.n_experts = E, .top_k = K, .by_modality = true, .text_before_text = true};
    router.ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.n = 3};
    router.ranges[MZ_MODALITY_TEXT] = (mz_expert_range){.first = 1, .n = 4};
    const int n_open = c->by_modality ? 3 : E;
    mz_fill_uniform(logits, N * E, 3, 2);
    for (int t = 0; t < N; t++) {
        modality[t] = t % 6 < 4 ? MZ_MODALITY_IMAGE : MZ_MODALITY_TEXT;
        ids[t * K] = t % 5 == 3 ? -1 : t % n_open;
        ids[t * K + 1] = t % 3 == 0 ? -1 : (t + 1) % n_open;
    }
    c->ids = ids;
    c->modality = modality;
    const mz_rows rows = {.n_rows = N, .sequence = sequence, .modality = modality};
    const mz_balance_options options = {.rows = &rows,
                                        .router = c->by_modality ? &router : NULL,
                                        .modality = MZ_MODALITY_IMAGE,
                                        .n_light = c->has_light ? N_LIGHT : 0,
                                        .tau = tau};
    const mz_tensor d_logits = mz_tensor_2d(MZ_DTYPE_F32, N, E, gradient);
    float masked[N * E];
    memcpy(masked, logits, sizeof masked);
    for (int i = 0; i < N * E && c->by_modality; i++) {
        masked[i] = i % E < 3 ? masked[i] : -INFINITY;
    }
    const mz_routing routing = {.n_tokens = N,
                                .n_experts = E,
                                .top_k = K,
                                .logits = mz_tensor_2d(MZ_DTYPE_F32, N, E, masked),
                                .expert_ids = ids};
    const mz_router_loss_inputs in = {&routing, 1, &options};
    double loss = 0;
    mz_assert_ok(s->ctx, c->entropy ? mz_loss_router_entropy_into(s, &d_logits, &in, 0.7, &loss)
                                    : mz_loss_balance_into(s, &d_logits,
                                                           c->first_only ? MZ_BALANCE_SWITCH
                                                                         : MZ_BALANCE_TOPK_POOLED,
                                                           &in, 0.7, &loss));
    mz_check_loss(name, plain, c, logits, N * E, loss, 1e-12, gradient);
}

static mz_stream stream_of(mz_context *ctx) {
    mz_stream s;
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 1 << 20, &s));
    return s;
}

static void losses_are_their_formulas(void **state) {
    mz_stream s = stream_of(*state);
    check(&s, "unused slots", &(balance_case){0});
    check(&s, "dropped first choices", &(balance_case){.first_only = true});
    check(&s, "light experts", &(balance_case){.has_light = true});
    check(&s, "one range", &(balance_case){.by_modality = true});
    check(&s, "one range, first choices", &(balance_case){.by_modality = true, .first_only = true});
    check(&s, "entropy", &(balance_case){.entropy = true});
    mz_stream_close(&s);
}

/* A certain router has no entropy, an undecided one log(E); experts that are closed add nothing. */
static void entropy_by_hand(void **state) {
    mz_stream s = stream_of(*state);
    float logits[8] = {500, 0, 0, 0, 3, -INFINITY, 3, -INFINITY};
    float gradient[8] = {0};
    mz_routing routing = {.n_tokens = 2,
                          .n_experts = 4,
                          .top_k = 1,
                          .logits = mz_tensor_2d(MZ_DTYPE_F32, 2, 4, logits)};
    const mz_router_loss_inputs in = {&routing, 1, NULL};
    const mz_tensor d_logits = mz_tensor_2d(MZ_DTYPE_F32, 2, 4, gradient);
    double loss = 1;
    mz_assert_ok(s.ctx, mz_loss_router_entropy_into(&s, &d_logits, &in, 2, &loss));
    assert_true(fabs(loss - 1 - log(2)) < 1e-12); /* scale 2, mean of 0 and log 2 */
    for (int i = 0; i < 8; i++) {
        assert_true(fabsf(gradient[i]) < 1e-7f);
    }
    mz_assert_ok(s.ctx, mz_loss_router_entropy(&s, &routing, 1, 1, &loss)); /* without a tape */
    routing.n_tokens = 0;
    routing.logits.shape[0] = 0;
    mz_assert_ok(s.ctx, mz_loss_router_entropy(&s, &routing, 1, 1, &loss));
    assert_true(fabs(loss - 1 - 1.5 * log(2)) < 1e-12);
    mz_stream_close(&s);
}

/* Where no row counts there is no loss; rows must be given. */
static void no_rows(void **state) {
    mz_stream s = stream_of(*state);
    float logits[6] = {0};
    float gradient[6] = {0};
    int32_t ids[2] = {0, 1};
    const int32_t sequence[2] = {0};
    const uint8_t modality[2] = {MZ_MODALITY_TEXT, MZ_MODALITY_TEXT};
    const mz_rows rows = {.n_rows = 2, .sequence = sequence, .modality = modality};
    mz_router router = {.n_experts = 3, .top_k = 1, .by_modality = true};
    router.ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.n = 3};
    const mz_routing routing = {.n_tokens = 2,
                                .n_experts = 3,
                                .top_k = 1,
                                .logits = mz_tensor_2d(MZ_DTYPE_F32, 2, 3, logits),
                                .expert_ids = ids};
    mz_balance_options options = {.rows = &rows, .router = &router, .modality = MZ_MODALITY_IMAGE};
    const mz_router_loss_inputs in = {&routing, 1, &options};
    const mz_tensor d_logits = mz_tensor_2d(MZ_DTYPE_F32, 2, 3, gradient);
    double loss = 0;
    mz_assert_ok(s.ctx, mz_loss_balance_into(&s, &d_logits, MZ_BALANCE_SWITCH, &in, 1, &loss));
    assert_true(loss == 0 && gradient[0] == 0 && gradient[5] == 0);
    options.rows = NULL;
    assert_int_equal(mz_loss_balance_into(&s, &d_logits, MZ_BALANCE_SWITCH, &in, 1, &loss),
                     MZ_ERR_ARG);
    ids[1] = -2;
    options.router = NULL;
    assert_int_equal(mz_loss_balance_into(&s, &d_logits, MZ_BALANCE_SWITCH, &in, 1, &loss),
                     MZ_ERR_ARG);
    assert_non_null(strstr(s.ctx->error.message, "an expert id is outside"));
    mz_stream_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_are_their_formulas),
                                       cmocka_unit_test(entropy_by_hand),
                                       cmocka_unit_test(no_rows)};
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
