#include "core/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/glob.h"
#include "core/threads.h"

enum {
    SEGMENT = 16384,  /* values a task takes at once: 400 KiB of weights, gradients and state */
    LANES = 8,        /* running sums of the norm, so that it can be vectorised */
    ALIGN_VALUES = 16 /* a cache line, so that two tasks never write to the same one */
};

typedef enum state_kind { STATE_M = 0, STATE_V, STATE_EMA, STATE_KINDS } state_kind;

static const char *const state_prefixes[STATE_KINDS] = {"exp_avg.", "exp_avg_sq.", "ema."};

/* One trained parameter. */
typedef struct trained {
    const mz_parameter *parameter;
    int64_t n;
    double lr_factor, weight_decay;
    float *state[STATE_KINDS]; /* [n] each; no ema: NULL */
    char *names[STATE_KINDS];  /* owned */
} trained;

/* Values [begin, begin + n) of a trained parameter; cut without regard to the number of threads. */
typedef struct segment {
    const trained *of;
    int64_t begin, n;
    double sum_squares; /* of the gradient */
} segment;

struct mz_optimizer {
    mz_context *ctx;
    const mz_parameters *parameters;
    mz_optimizer_config config; /* without groups */
    trained *items;             /* [n_items], in the order of the parameters */
    int64_t n_items;
    segment *segments; /* [n_segments], in the order of the items */
    int64_t n_segments;
    float *memory; /* all states */
    int64_t n_values;
    int n_kinds; /* states an item has */
    int64_t n_steps;
    bool swapped; /* weights and averages have changed places */
};

/* --- creation --- */

static mz_status check_number(mz_error *err, const char *name, double value, bool valid,
                              const char *range) {
    if (valid) { /* a NaN is in no range */
        return MZ_OK;
    }
    return mz_fail(err, MZ_ERR_ARG, "optimizer: %s is %g, expected %s", name, value, range);
}

static bool is_fraction(double value) {
    return value >= 0 && value < 1;
}

static bool is_amount(double value) {
    return value >= 0 && value < INFINITY;
}

static mz_status check_config(mz_error *err, const mz_optimizer_config *c) {
    static const char fraction[] = "0 or more and below 1";
    static const char amount[] = "a finite number of at least 0";
    MZ_TRY(check_number(err, "beta1", c->beta1, is_fraction(c->beta1), fraction));
    MZ_TRY(check_number(err, "beta2", c->beta2, is_fraction(c->beta2), fraction));
    MZ_TRY(check_number(err, "ema_decay", c->ema_decay, is_fraction(c->ema_decay), fraction));
    MZ_TRY(check_number(err, "eps", c->eps, c->eps > 0 && c->eps < INFINITY,
                        "a finite number above 0"));
    MZ_TRY(check_number(err, "weight_decay", c->weight_decay, is_amount(c->weight_decay), amount));
    MZ_TRY(check_number(err, "clip_norm", c->clip_norm, is_amount(c->clip_norm), amount));
    for (int64_t i = 0; i < c->n_groups; i++) {
        const mz_optimizer_group *g = &c->groups[i];
        const bool factor = (g->sets & MZ_GROUP_LR_FACTOR) != 0;
        const bool decay = (g->sets & MZ_GROUP_WEIGHT_DECAY) != 0;
        if ((factor &&
             check_number(err, "lr_factor", g->lr_factor, is_amount(g->lr_factor), amount)) ||
            (decay && check_number(err, "weight_decay", g->weight_decay, is_amount(g->weight_decay),
                                   amount))) {
            return mz_fail_prefix(err, "group %s", g->pattern);
        }
    }
    return MZ_OK;
}

static bool is_dense_f32(const mz_tensor *t) {
    return t->dtype == MZ_DTYPE_F32 && t->n_dims >= 1 && t->ld == mz_tensor_n_cols(t);
}

static mz_status check_parameter(mz_error *err, const mz_parameter *p) {
    const mz_tensor *w = &p->value;
    const mz_tensor *g = &p->gradient;
    if (!is_dense_f32(w) || !is_dense_f32(g)) {
        return mz_fail(err, MZ_ERR_DTYPE,
                       "optimizer: %s: value (%s) and gradient (%s) must be dense f32", p->name,
                       mz_dtype_get(w->dtype)->name, mz_dtype_get(g->dtype)->name);
    }
    const size_t shape_bytes = (size_t)w->n_dims * sizeof w->shape[0];
    if (w->n_dims != g->n_dims || memcmp(w->shape, g->shape, shape_bytes) != 0) {
        char value[128];
        char gradient[128];
        return mz_fail(err, MZ_ERR_SHAPE, "optimizer: %s is %s, its gradient %s", p->name,
                       mz_shape_text(value, sizeof value, w->shape, w->n_dims),
                       mz_shape_text(gradient, sizeof gradient, g->shape, g->n_dims));
    }
    return MZ_OK;
}

/* Fills *out from the groups; false for a frozen parameter. */
static bool resolve(const mz_optimizer_config *c, const mz_parameter *p, trained *out) {
    bool train = true;
    *out = (trained){.parameter = p,
                     .n = mz_tensor_n_elements(&p->value),
                     .lr_factor = 1,
                     .weight_decay = c->weight_decay};
    for (int64_t i = 0; i < c->n_groups; i++) {
        const mz_optimizer_group *g = &c->groups[i];
        if (!mz_glob_match(g->pattern, p->name)) {
            continue;
        }
        train = g->sets & MZ_GROUP_TRAIN ? g->train : train;
        out->lr_factor = g->sets & MZ_GROUP_LR_FACTOR ? g->lr_factor : out->lr_factor;
        out->weight_decay = g->sets & MZ_GROUP_WEIGHT_DECAY ? g->weight_decay : out->weight_decay;
    }
    return train;
}

static int64_t padded(int64_t n) {
    return (n + ALIGN_VALUES - 1) / ALIGN_VALUES * ALIGN_VALUES;
}

static mz_status make_items(mz_optimizer *o, const mz_optimizer_config *config) {
    void *items = NULL;
    MZ_TRY(mz_calloc(o->ctx, (size_t)o->parameters->n, sizeof *o->items, "optimizer", &items));
    o->items = items;
    for (int64_t i = 0; i < o->parameters->n; i++) {
        MZ_TRY(check_parameter(&o->ctx->error, &o->parameters->items[i]));
        trained *t = &o->items[o->n_items];
        if (resolve(config, &o->parameters->items[i], t)) {
            o->n_items++;
            o->n_values += t->n;
            o->n_segments += (t->n + SEGMENT - 1) / SEGMENT;
        }
    }
    if (o->n_items == 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_ARG,
                       "optimizer: none of the %lld parameters is trained",
                       (long long)o->parameters->n);
    }
    return MZ_OK;
}

static mz_status make_names(mz_optimizer *o) {
    for (int64_t i = 0; i < o->n_items; i++) {
        const char *name = o->items[i].parameter->name;
        for (int kind = 0; kind < o->n_kinds; kind++) {
            const size_t bytes = strlen(state_prefixes[kind]) + strlen(name) + 1;
            void *text = NULL;
            MZ_TRY(mz_alloc(o->ctx, bytes, "name of an optimizer state", &text));
            (void)snprintf(text, bytes, "%s%s", state_prefixes[kind], name);
            o->items[i].names[kind] = text;
        }
    }
    return MZ_OK;
}

static mz_status make_states(mz_optimizer *o) {
    size_t n = 0;
    for (int64_t i = 0; i < o->n_items; i++) {
        n += (size_t)padded(o->items[i].n);
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(o->ctx, n, (size_t)o->n_kinds * sizeof(float), "optimizer state", &memory));
    o->memory = memory;
    float *next = memory;
    for (int64_t i = 0; i < o->n_items; i++) {
        trained *t = &o->items[i];
        for (int kind = 0; kind < o->n_kinds; kind++) {
            t->state[kind] = next;
            next += padded(t->n);
        }
        if (t->state[STATE_EMA] != NULL && t->n > 0) {
            memcpy(t->state[STATE_EMA], t->parameter->value.data, (size_t)t->n * sizeof(float));
        }
    }
    return MZ_OK;
}

static mz_status make_segments(mz_optimizer *o) {
    void *segments = NULL;
    MZ_TRY(mz_calloc(o->ctx, (size_t)o->n_segments, sizeof *o->segments, "optimizer", &segments));
    o->segments = segments;
    segment *next = segments;
    for (int64_t i = 0; i < o->n_items; i++) {
        const trained *t = &o->items[i];
        for (int64_t begin = 0; begin < t->n; begin += SEGMENT) {
            const int64_t n = t->n - begin < SEGMENT ? t->n - begin : SEGMENT;
            *next++ = (segment){.of = t, .begin = begin, .n = n};
        }
    }
    return MZ_OK;
}

static mz_status make_parts(mz_optimizer *o, const mz_optimizer_config *config) {
    MZ_TRY(make_items(o, config));
    MZ_TRY(make_names(o));
    MZ_TRY(make_states(o));
    return make_segments(o);
}

mz_status mz_optimizer_create(mz_context *ctx, const mz_optimizer_config *config,
                              const mz_parameters *parameters, mz_optimizer **out) {
    MZ_TRY(check_config(&ctx->error, config));
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof **out, "optimizer", &memory));
    mz_optimizer *o = memory;
    o->ctx = ctx;
    o->parameters = parameters;
    o->config = *config;
    o->config.groups = NULL;
    o->config.n_groups = 0;
    o->n_kinds = config->ema_decay > 0 ? STATE_KINDS : STATE_EMA;
    const mz_status status = make_parts(o, config);
    if (status != MZ_OK) {
        mz_optimizer_destroy(ctx, o);
        return status;
    }
    *out = o;
    return MZ_OK;
}

void mz_optimizer_destroy(mz_context *ctx, mz_optimizer *o) {
    if (o == NULL) {
        return;
    }
    for (int64_t i = 0; i < o->n_items; i++) {
        for (int kind = 0; kind < STATE_KINDS; kind++) {
            mz_free(ctx, o->items[i].names[kind]);
        }
    }
    mz_free(ctx, o->items);
    mz_free(ctx, o->segments);
    mz_free(ctx, o->memory);
    mz_free(ctx, o);
}

/* --- a step --- */

static double sum_squares(const float *g, int64_t n) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            lanes[k] += (double)g[i + k] * (double)g[i + k];
        }
    }
    double sum = 0;
    for (; i < n; i++) {
        sum += (double)g[i] * (double)g[i];
    }
    for (int k = 0; k < LANES; k++) {
        sum += lanes[k];
    }
    return sum;
}

static void norm_task(void *arg, int64_t begin, int64_t end, int thread) {
    const mz_optimizer *o = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        segment *s = &o->segments[i];
        const float *g = s->of->parameter->gradient.data;
        s->sum_squares = sum_squares(g + s->begin, s->n);
    }
}

/* Squares of f32 values cannot overflow an f64 sum, so a sum that is not finite comes from a
 * gradient that is not. */
static mz_status gradient_norm(mz_optimizer *o, double *out) {
    mz_pool_run(o->ctx->pool, o->n_segments, 1, norm_task, o);
    double sum = 0;
    for (int64_t i = 0; i < o->n_segments; i++) {
        if (!isfinite(o->segments[i].sum_squares)) {
            return mz_fail(&o->ctx->error, MZ_ERR_ARG,
                           "step %lld: the gradient of %s is not finite", (long long)o->n_steps + 1,
                           o->segments[i].of->parameter->name);
        }
        sum += o->segments[i].sum_squares;
    }
    *out = sqrt(sum);
    return MZ_OK;
}

/* The scalars of a step that all parameters share. */
typedef struct step_plan {
    const mz_optimizer *o;
    double lr, correction1;                            /* 1 - beta1^t */
    float clip, rest1, beta2, rest2, correction2, eps; /* correction2: a square root */
    float ema, ema_rest;
} step_plan;

static void update(const step_plan *p, const segment *s) {
    const trained *t = s->of;
    const double lr = p->lr * t->lr_factor;
    const float keep = (float)(1 - lr * t->weight_decay);
    const float rate = (float)(lr / p->correction1);
    const float clip = p->clip, rest1 = p->rest1, beta2 = p->beta2, rest2 = p->rest2;
    const float correction2 = p->correction2, eps = p->eps;
    float *restrict w = (float *)t->parameter->value.data + s->begin;
    const float *restrict g = (const float *)t->parameter->gradient.data + s->begin;
    float *restrict m = t->state[STATE_M] + s->begin;
    float *restrict v = t->state[STATE_V] + s->begin;
    for (int64_t i = 0; i < s->n; i++) {
        const float x = g[i] * clip;
        const float mean = m[i] + rest1 * (x - m[i]); /* torch's lerp */
        const float square = beta2 * v[i] + rest2 * (x * x);
        m[i] = mean;
        v[i] = square;
        w[i] = w[i] * keep - rate * (mean / (sqrtf(square) / correction2 + eps));
    }
}

static void average(const step_plan *p, const segment *s) {
    const float keep = p->ema, rest = p->ema_rest;
    float *restrict e = s->of->state[STATE_EMA] + s->begin;
    const float *restrict w = (const float *)s->of->parameter->value.data + s->begin;
    for (int64_t i = 0; i < s->n; i++) {
        e[i] = keep * e[i] + rest * w[i];
    }
}

static void step_task(void *arg, int64_t begin, int64_t end, int thread) {
    const step_plan *p = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const segment *s = &p->o->segments[i];
        update(p, s);
        if (s->of->state[STATE_EMA] != NULL) {
            average(p, s);
        }
    }
}

static step_plan plan_step(const mz_optimizer *o, double lr, double norm) {
    const mz_optimizer_config *c = &o->config;
    const double t = (double)o->n_steps + 1;
    const double clip = c->clip_norm > 0 ? fmin(1, c->clip_norm / (norm + 1e-6)) : 1;
    const double ema = fmin(c->ema_decay, (1 + t) / (10 + t));
    return (step_plan){
        .o = o,
        .lr = lr,
        .correction1 = 1 - pow(c->beta1, t),
        .clip = (float)clip,
        .rest1 = (float)(1 - c->beta1),
        .beta2 = (float)c->beta2,
        .rest2 = (float)(1 - c->beta2),
        .correction2 = (float)sqrt(1 - pow(c->beta2, t)),
        .eps = (float)c->eps,
        .ema = (float)ema,
        .ema_rest = (float)(1 - ema),
    };
}

mz_status mz_optimizer_step(mz_optimizer *o, double lr, double *grad_norm) {
    MZ_TRY(check_number(&o->ctx->error, "learning rate", lr, is_amount(lr),
                        "a finite number of at least 0"));
    if (o->swapped) {
        return mz_fail(&o->ctx->error, MZ_ERR_ARG,
                       "optimizer: a step while the averages are in the place of the weights");
    }
    double norm = 0;
    MZ_TRY(gradient_norm(o, &norm));
    step_plan plan = plan_step(o, lr, norm);
    mz_pool_run(o->ctx->pool, o->n_segments, 1, step_task, &plan);
    o->n_steps++;
    if (grad_norm != NULL) {
        *grad_norm = norm;
    }
    return MZ_OK;
}

static void swap_task(void *arg, int64_t begin, int64_t end, int thread) {
    const mz_optimizer *o = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const segment *s = &o->segments[i];
        float *restrict w = (float *)s->of->parameter->value.data + s->begin;
        float *restrict e = s->of->state[STATE_EMA] + s->begin;
        for (int64_t k = 0; k < s->n; k++) {
            const float weight = w[k];
            w[k] = e[k];
            e[k] = weight;
        }
    }
}

mz_status mz_optimizer_swap_ema(mz_optimizer *o) {
    if (o->n_kinds <= STATE_EMA) {
        return mz_fail(&o->ctx->error, MZ_ERR_ARG,
                       "optimizer: no moving average of the weights is kept (ema_decay is 0)");
    }
    mz_pool_run(o->ctx->pool, o->n_segments, 1, swap_task, o);
    o->swapped = !o->swapped;
    return MZ_OK;
}

/* --- what it holds --- */

bool mz_optimizer_trains(const mz_optimizer *o, int64_t i) {
    for (int64_t k = 0; k < o->n_items; k++) {
        if (o->items[k].parameter == &o->parameters->items[i]) {
            return true;
        }
    }
    return false;
}

int64_t mz_optimizer_n_values(const mz_optimizer *o) {
    return o->n_values;
}

int64_t mz_optimizer_n_states(const mz_optimizer *o) {
    return o->n_items * o->n_kinds;
}

void mz_optimizer_state(const mz_optimizer *o, int64_t i, const char **name, mz_tensor *tensor) {
    const trained *t = &o->items[i / o->n_kinds];
    const int kind = (int)(i % o->n_kinds);
    *name = t->names[kind];
    *tensor = t->parameter->value;
    tensor->data = t->state[kind];
}

int64_t mz_optimizer_n_steps(const mz_optimizer *o) {
    return o->n_steps;
}

mz_status mz_optimizer_set_n_steps(mz_optimizer *o, int64_t n_steps) {
    if (n_steps < 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_ARG, "optimizer: %lld steps done, expected 0 or more",
                       (long long)n_steps);
    }
    o->n_steps = n_steps;
    return MZ_OK;
}
