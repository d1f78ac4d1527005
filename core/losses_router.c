/* Losses of routers: balance and z.
 *
 * Rows are cut into spans: even ones, or one for each sequence where sequences are judged alone. A
 * span belongs to one thread, which sums its rows of all routings in order; spans are added in
 * order afterwards. So the order of summation does not depend on the threads. */
#include "core/losses_internal.h"

#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/ops/routing_rules.h"
#include "core/threads.h"

enum { MAX_SPANS = 64 }; /* of even ones */

typedef struct router_job {
    const char *name;
    const mz_router_loss_inputs *in;
    const mz_tensor *d_logits;
    int32_t n_experts;
    int32_t n_ranks; /* choices that count */
    int32_t n_open;  /* E */
    mz_balance_options options;
    double scale;
    int64_t n_rows; /* of all routings, that count */
    int64_t n_spans;
    int64_t *sequence_begin; /* [n_spans + 1]; NULL: even spans */
    double *mean_p;          /* [n_spans, n_experts] sums of p at first */
    double *share;           /* [n_spans, n_experts] f summed over ranks; counts at first */
    double *slope;           /* [n_spans, n_experts] dL/dp of each row of the span */
    double *row;             /* [n_spans, n_experts] scratch: p of one row */
    double *sums;            /* [n_spans] */
    int64_t *n_counted;      /* [n_spans] rows that count */
    bool *bad_id;            /* [n_spans] an expert id was out of range */
} router_job;

static int64_t span_begin(const router_job *job, const mz_routing *r, int64_t span) {
    if (job->sequence_begin != NULL) {
        return job->sequence_begin[span];
    }
    const int64_t each = r->n_tokens / job->n_spans;
    const int64_t more = r->n_tokens % job->n_spans; /* the first spans have one row more */
    return span * each + (span < more ? span : more);
}

static double *of_span(const router_job *job, double *array, int64_t span) {
    return array + span * job->n_experts;
}

/* p = softmax of a row of logits; returns log of the sum of exp(logits). Only -inf: p = 0. */
static double softmax_row(double *p, const float *logits, int32_t n) {
    double top = -INFINITY;
    double sum = 0;
    for (int32_t e = 0; e < n; e++) {
        top = fmax(top, (double)logits[e]);
    }
    for (int32_t e = 0; e < n; e++) {
        const double logit = (double)logits[e];
        p[e] = logit == -INFINITY ? 0 : exp(logit - top);
        sum += p[e];
    }
    for (int32_t e = 0; e < n && sum != 0; e++) {
        p[e] /= sum;
    }
    return top + log(sum);
}

static const float *logits_of(const mz_routing *r, int64_t token) {
    return mz_tensor_f32(&r->logits, token);
}

/* Where the gradient of a row of logits is added to; NULL: nowhere. */
static float *gradient_of(const router_job *job, int routing, int64_t token) {
    const mz_tensor *d = job->d_logits != NULL ? &job->d_logits[routing] : NULL;
    return d != NULL && d->n_dims != 0 ? mz_tensor_f32(d, token) : NULL;
}

/* Whether a row is one that the options ask for. */
static bool counts(const router_job *job, int64_t token) {
    const mz_balance_options *o = &job->options;
    return o->router == NULL || mz_route_modality(o->router, o->rows, token) == o->modality;
}

/* The expert of the largest logit, ties to the lower id; -1: only NaN. */
static int32_t best_expert(const float *logits, int32_t n) {
    int32_t best = -1;
    for (int32_t e = 0; e < n; e++) {
        if (!isnan(logits[e]) && (best < 0 || logits[e] > logits[best])) {
            best = e;
        }
    }
    return best;
}

static void count_choices(const router_job *job, const mz_routing *r, int64_t token,
                          double *n_chosen, bool *bad_id) {
    for (int32_t k = 0; k < job->n_ranks; k++) {
        int32_t id = r->expert_ids[token * r->top_k + k];
        if (id == -1 && job->n_ranks == 1) {
            id = best_expert(logits_of(r, token), job->n_experts);
        }
        if (id < -1 || id >= job->n_experts) {
            *bad_id = true;
        } else if (id >= 0) {
            n_chosen[id] += 1;
        }
    }
}

/* Sums of p and counts of choices of spans [begin, end). */
static void balance_sums_task(void *arg, int64_t begin, int64_t end, int thread) {
    router_job *job = arg;
    (void)thread;
    for (int64_t span = begin; span < end; span++) {
        double *p = of_span(job, job->row, span);
        double *p_sum = of_span(job, job->mean_p, span);
        double *n_chosen = of_span(job, job->share, span);
        for (int i = 0; i < job->in->n_routings; i++) {
            const mz_routing *r = &job->in->routings[i];
            const int64_t last = span_begin(job, r, span + 1);
            for (int64_t token = span_begin(job, r, span); token < last; token++) {
                if (!counts(job, token)) {
                    continue;
                }
                job->n_counted[span]++;
                (void)softmax_row(p, logits_of(r, token), job->n_experts);
                for (int32_t e = 0; e < job->n_experts; e++) {
                    p_sum[e] += p[e];
                }
                count_choices(job, r, token, n_chosen, &job->bad_id[span]);
            }
        }
    }
}

/* d_logits += p (slope - sum(slope p)). */
static void balance_gradient_task(void *arg, int64_t begin, int64_t end, int thread) {
    router_job *job = arg;
    (void)thread;
    for (int64_t span = begin; span < end; span++) {
        double *p = of_span(job, job->row, span);
        const double *slope = of_span(job, job->slope, span);
        for (int i = 0; i < job->in->n_routings; i++) {
            const mz_routing *r = &job->in->routings[i];
            const int64_t last = span_begin(job, r, span + 1);
            for (int64_t token = span_begin(job, r, span); token < last; token++) {
                float *d = gradient_of(job, i, token);
                if (d == NULL) {
                    break;
                }
                if (!counts(job, token)) {
                    continue;
                }
                (void)softmax_row(p, logits_of(r, token), job->n_experts);
                double mean = 0;
                for (int32_t e = 0; e < job->n_experts; e++) {
                    mean += slope[e] * p[e];
                }
                for (int32_t e = 0; e < job->n_experts; e++) {
                    d[e] += (float)(p[e] * (slope[e] - mean));
                }
            }
        }
    }
}

/* Turns the sums of a span of `n_rows` rows into its loss, and into the slope of each row times
 * `scale`. The loss is `factor` sum of f P. */
static double balance_of_span(router_job *job, int64_t span, int64_t n_rows, double factor,
                              double scale) {
    double *mean_p = of_span(job, job->mean_p, span);
    double *share = of_span(job, job->share, span);
    double *slope = of_span(job, job->slope, span);
    double sum = 0;
    for (int32_t e = 0; e < job->n_experts && n_rows > 0; e++) {
        const bool is_light = e >= job->n_experts - job->options.n_light;
        mean_p[e] /= (double)n_rows;
        share[e] *= (is_light ? job->options.tau : 1) / (double)n_rows;
        slope[e] = scale * factor * share[e] / (double)n_rows;
        sum += share[e] * mean_p[e];
    }
    return factor * sum;
}

/* All spans together: the sums go to the first, its slope to all. */
static double balance_pooled(router_job *job) {
    for (int64_t span = 1; span < job->n_spans; span++) {
        for (int32_t e = 0; e < job->n_experts; e++) {
            job->mean_p[e] += of_span(job, job->mean_p, span)[e];
            job->share[e] += of_span(job, job->share, span)[e];
        }
        job->n_counted[0] += job->n_counted[span];
    }
    const double value =
        balance_of_span(job, 0, job->n_counted[0], (double)job->n_open, job->scale);
    for (int64_t span = 1; span < job->n_spans; span++) {
        memcpy(of_span(job, job->slope, span), job->slope,
               (size_t)job->n_experts * sizeof *job->slope);
    }
    return value;
}

static double balance_by_sequence(router_job *job) {
    const double factor = (double)job->n_open / (double)job->n_ranks;
    double sum = 0;
    for (int64_t span = 0; span < job->n_spans; span++) {
        sum += balance_of_span(job, span, job->n_counted[span], factor,
                               job->scale / (double)job->n_spans);
    }
    return sum / (double)job->n_spans;
}

/* p = softmax of a row of logits; returns its entropy. */
static double entropy_row(double *p, const float *logits, int32_t n) {
    double sum = 0;
    (void)softmax_row(p, logits, n);
    for (int32_t e = 0; e < n; e++) {
        sum -= p[e] == 0 ? 0 : p[e] * log(p[e]);
    }
    return sum;
}

/* Sums of squares, and d_logits += 2 scale / n_rows p log(sum of exp). */
static void router_z_task(void *arg, int64_t begin, int64_t end, int thread) {
    router_job *job = arg;
    (void)thread;
    for (int64_t span = begin; span < end; span++) {
        double *p = of_span(job, job->row, span);
        double sum = 0;
        for (int i = 0; i < job->in->n_routings; i++) {
            const mz_routing *r = &job->in->routings[i];
            const int64_t last = span_begin(job, r, span + 1);
            for (int64_t token = span_begin(job, r, span); token < last; token++) {
                const double z = softmax_row(p, logits_of(r, token), job->n_experts);
                float *d = gradient_of(job, i, token);
                sum += z * z;
                for (int32_t e = 0; e < job->n_experts && d != NULL; e++) {
                    d[e] += (float)(2 * job->scale / (double)job->n_rows * z * p[e]);
                }
            }
        }
        job->sums[span] = sum;
    }
}

/* Sums of H = -sum of p log p, and d_logits -= scale / n_rows p (log p + H). */
static void entropy_task(void *arg, int64_t begin, int64_t end, int thread) {
    router_job *job = arg;
    (void)thread;
    for (int64_t span = begin; span < end; span++) {
        double *p = of_span(job, job->row, span);
        double sum = 0;
        for (int i = 0; i < job->in->n_routings; i++) {
            const mz_routing *r = &job->in->routings[i];
            const int64_t last = span_begin(job, r, span + 1);
            for (int64_t token = span_begin(job, r, span); token < last; token++) {
                float *d = gradient_of(job, i, token);
                const double entropy = entropy_row(p, logits_of(r, token), job->n_experts);
                sum += entropy;
                for (int32_t e = 0; e < job->n_experts && d != NULL; e++) {
                    const double slope = p[e] == 0 ? 0 : p[e] * (log(p[e]) + entropy);
                    d[e] -= (float)(job->scale / (double)job->n_rows * slope);
                }
            }
        }
        job->sums[span] = sum;
    }
}

static mz_status check_routings(mz_stream *s, router_job *job) {
    const mz_routing *first = job->in->routings;
    MZ_TRY(mz_loss_check_call(s, job->name, job->scale));
    for (int i = 0; i < job->in->n_routings; i++) {
        const mz_routing *r = &job->in->routings[i];
        if (r->n_experts < 1 || r->top_k < 1 || r->n_experts != first->n_experts ||
            r->top_k != first->top_k) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                           "%s: routing %d has %d experts and %d choices, the first %d and %d",
                           job->name, i, r->n_experts, r->top_k, first->n_experts, first->top_k);
        }
        MZ_TRY(mz_loss_check_matrix(s, job->name, "router logits", &r->logits, r->n_tokens,
                                    r->n_experts));
        if (job->d_logits != NULL && job->d_logits[i].n_dims != 0) {
            MZ_TRY(mz_loss_check_matrix(s, job->name, "gradient of router logits",
                                        &job->d_logits[i], r->n_tokens, r->n_experts));
        }
        job->n_rows += r->n_tokens;
    }
    return MZ_OK;
}

static mz_status check_rows(mz_stream *s, const router_job *job) {
    const mz_rows *rows = job->options.rows;
    if (rows == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "%s: the rows of the sequences are missing",
                       job->name);
    }
    for (int i = 0; i < job->in->n_routings; i++) {
        if (job->in->routings[i].n_tokens != rows->n_rows) {
            return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "%s: routing %d has %lld rows, not %lld",
                           job->name, i, (long long)job->in->routings[i].n_tokens,
                           (long long)rows->n_rows);
        }
    }
    return MZ_OK;
}

/* One span for each sequence; in measure mode as many as there could be. */
static mz_status cut_by_sequence(mz_stream *s, router_job *job) {
    const mz_rows *rows = job->options.rows;
    void *begins = NULL;
    MZ_TRY(mz_stream_take_bytes(s, ((size_t)rows->n_rows + 1) * sizeof(int64_t), "sequences",
                                &begins));
    job->sequence_begin = begins;
    job->n_spans = s->arena.measure ? rows->n_rows : 0;
    for (int64_t row = 0; row < rows->n_rows && !s->arena.measure; row++) {
        if (row == 0 || rows->sequence[row] != rows->sequence[row - 1]) {
            job->sequence_begin[job->n_spans++] = row;
        }
    }
    if (!s->arena.measure) {
        job->sequence_begin[job->n_spans] = rows->n_rows;
    }
    return MZ_OK;
}

static void cut_evenly(router_job *job) {
    int64_t longest = 0;
    for (int i = 0; i < job->in->n_routings; i++) {
        const int64_t n = job->in->routings[i].n_tokens;
        longest = n > longest ? n : longest;
    }
    job->n_spans = longest < MAX_SPANS ? longest : MAX_SPANS;
}

static mz_status take_sums(mz_stream *s, router_job *job) {
    const size_t n = (size_t)job->n_spans * (size_t)job->n_experts;
    double **const arrays[] = {&job->mean_p, &job->share, &job->slope, &job->row};
    void *data = NULL;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        MZ_TRY(mz_stream_take_bytes(s, n * sizeof(double), job->name, &data));
        *arrays[i] = data;
        if (data != NULL) {
            memset(data, 0, n * sizeof(double));
        }
    }
    MZ_TRY(mz_stream_take_bytes(s, (size_t)job->n_spans * sizeof(double), job->name, &data));
    job->sums = data;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)job->n_spans * sizeof(int64_t), job->name, &data));
    job->n_counted = data;
    if (data != NULL) {
        memset(data, 0, (size_t)job->n_spans * sizeof(int64_t));
    }
    MZ_TRY(mz_stream_take_bytes(s, (size_t)job->n_spans * sizeof(bool), job->name, &data));
    job->bad_id = data;
    if (data != NULL) {
        memset(data, 0, (size_t)job->n_spans * sizeof(bool));
    }
    return MZ_OK;
}

static mz_status run_balance(mz_stream *s, router_job *job, bool by_sequence, double *loss) {
    if (by_sequence || job->options.router != NULL) {
        MZ_TRY(check_rows(s, job));
    }
    if (by_sequence) {
        MZ_TRY(cut_by_sequence(s, job));
    } else {
        cut_evenly(job);
    }
    MZ_TRY(take_sums(s, job));
    if (s->arena.measure) {
        return MZ_OK;
    }
    mz_pool_run(s->ctx->pool, job->n_spans, 1, balance_sums_task, job);
    for (int64_t span = 0; span < job->n_spans; span++) {
        if (job->bad_id[span]) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG, "%s: an expert id is outside 0 to %d",
                           job->name, job->n_experts - 1);
        }
    }
    *loss += job->scale * (by_sequence ? balance_by_sequence(job) : balance_pooled(job));
    if (job->d_logits != NULL) {
        mz_pool_run(s->ctx->pool, job->n_spans, 1, balance_gradient_task, job);
    }
    return MZ_OK;
}

mz_status mz_loss_balance_into(mz_stream *s, const mz_tensor *d_logits, mz_balance_kind kind,
                               const mz_router_loss_inputs *in, double scale, double *loss) {
    router_job job = {.name = "balance loss", .in = in, .d_logits = d_logits, .scale = scale};
    MZ_TRY(check_routings(s, &job));
    if ((int)kind < 0 || kind >= MZ_BALANCE_COUNT) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "balance loss: kind %d, expected 0 to %d",
                       (int)kind, (int)MZ_BALANCE_COUNT - 1);
    }
    if (job.n_rows == 0) {
        return MZ_OK;
    }
    job.n_experts = in->routings[0].n_experts;
    job.options = in->options != NULL ? *in->options : (mz_balance_options){0};
    job.n_open = job.options.router != NULL ? job.options.router->ranges[job.options.modality].n
                                            : job.n_experts;
    job.n_ranks = kind == MZ_BALANCE_SWITCH ? 1 : in->routings[0].top_k;
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_status status = run_balance(s, &job, kind == MZ_BALANCE_SEQUENCE, loss);
    mz_arena_release(&s->arena, mark); /* also with a tape: no node points here */
    return status;
}

/* The mean over all rows of what `task` sums up. */
static mz_status run_mean(mz_stream *s, const router_job *of, mz_task task, double *loss) {
    router_job job = *of;
    MZ_TRY(check_routings(s, &job));
    if (job.n_rows == 0) {
        return MZ_OK;
    }
    job.n_experts = job.in->routings[0].n_experts;
    cut_evenly(&job);
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_status status = take_sums(s, &job);
    if (status == MZ_OK && !s->arena.measure) {
        double sum = 0;
        mz_pool_run(s->ctx->pool, job.n_spans, 1, task, &job);
        for (int64_t span = 0; span < job.n_spans; span++) {
            sum += job.sums[span];
        }
        *loss += job.scale * sum / (double)job.n_rows;
    }
    mz_arena_release(&s->arena, mark);
    return status;
}

mz_status mz_loss_router_z_into(mz_stream *s, const mz_tensor *d_logits,
                                const mz_router_loss_inputs *in, double scale, double *loss) {
    const router_job job = {
        .name = "router z loss", .in = in, .d_logits = d_logits, .scale = scale};
    return run_mean(s, &job, router_z_task, loss);
}

mz_status mz_loss_router_entropy_into(mz_stream *s, const mz_tensor *d_logits,
                                      const mz_router_loss_inputs *in, double scale, double *loss) {
    const router_job job = {
        .name = "router entropy loss", .in = in, .d_logits = d_logits, .scale = scale};
    return run_mean(s, &job, entropy_task, loss);
}
