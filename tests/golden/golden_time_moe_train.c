/* Training goldens of Time-MoE: some steps of the authors' trainer, which computes losses over all
 * points of equally long windows with the targets shifted by one. */
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/forecaster_training.h"
#include "apps/zoo/zoo.h"
#include "core/optimizer.h"
#include "core/schedule.h"
#include "llm/forecast_head.h"
#include "tests/golden/golden_check.h"

/* Relative L2 of gradients, parameters and moments; scalars relative likewise. The fixture's f32
 * run lies up to 1e-6 from its f64 run. */
static const double BOUND = 1e-4;

enum { MAX_STEPS = 1000, MAX_GROUPS = 1024 };

typedef struct train_case {
    mz_golden *g;
    mz_forecaster *forecaster;
    mz_parameters parameters;
    mz_forecast_training *training;
    mz_optimizer *optimizer;
    mz_schedule schedule;
    int64_t n_sequences, length; /* of a step's input */
    int32_t n_heads;
    int64_t head_length[MZ_MAX_FORECAST_HEADS];
    float *targets[MZ_MAX_FORECAST_HEADS];
    float *weights[MZ_MAX_FORECAST_HEADS];
    int32_t *sequence, *position;
} train_case;

static void *must_alloc(int64_t n, size_t size) {
    void *p = calloc(n > 0 ? (size_t)n : 1, size);
    if (p == NULL) {
        fputs("golden_check: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void compare_number(mz_golden *g, const char *name, double actual, double expected) {
    const float a = (float)actual;
    const float e = (float)expected;
    mz_golden_compare(g, name, &a, &e, 1, BOUND);
}

/* ---- set-up ---- */

static mz_status read_heads(train_case *c) {
    const json_t *config = json_object_get(c->g->json, "config");
    const json_t *lengths = json_object_get(config, "horizon_lengths");
    c->n_heads = (int32_t)json_array_size(lengths);
    if (c->n_heads < 1 || c->n_heads > MZ_MAX_FORECAST_HEADS) {
        return mz_fail(&c->g->ctx->error, MZ_ERR_FORMAT, "%s: no horizon_lengths", c->g->dir);
    }
    for (int32_t i = 0; i < c->n_heads; i++) {
        c->head_length[i] = json_integer_value(json_array_get(lengths, (size_t)i));
    }
    return MZ_OK;
}

static mz_status create_optimizer(train_case *c) {
    const json_t *o = json_object_get(c->g->json, "optimizer");
    const json_t *betas = json_object_get(o, "betas");
    const json_t *without_decay = json_object_get(o, "no_weight_decay");
    mz_optimizer_group groups[MAX_GROUPS];
    const int64_t n = (int64_t)json_array_size(without_decay);
    if (n > MAX_GROUPS) {
        return mz_fail(&c->g->ctx->error, MZ_ERR_LIMIT, "%s: over %d names without decay",
                       c->g->dir, (int)MAX_GROUPS);
    }
    for (int64_t i = 0; i < n; i++) {
        groups[i] = (mz_optimizer_group){
            .pattern = json_string_value(json_array_get(without_decay, (size_t)i)),
            .sets = MZ_GROUP_WEIGHT_DECAY};
    }
    const mz_optimizer_config config = {.beta1 = json_number_value(json_array_get(betas, 0)),
                                        .beta2 = json_number_value(json_array_get(betas, 1)),
                                        .eps = number(o, "eps"),
                                        .weight_decay = number(o, "weight_decay"),
                                        .clip_norm = number(o, "clip_global_norm"),
                                        .groups = groups,
                                        .n_groups = n};
    c->schedule = (mz_schedule){.kind = MZ_SCHEDULE_COSINE,
                                .lr = number(o, "lr"),
                                .min_lr = number(o, "min_lr"),
                                .warmup_steps = (int64_t)number(o, "warmup_steps"),
                                .total_steps = (int64_t)number(o, "schedule_total_steps")};
    MZ_TRY(mz_schedule_check(&c->g->ctx->error, &c->schedule));
    return mz_optimizer_create(c->g->ctx, &config, &c->parameters, &c->optimizer);
}

/* ---- one step ---- */

static mz_status find(train_case *c, int step, const char *name, mz_tensor *out) {
    char full[300];
    (void)snprintf(full, sizeof full, "step%d.%s", step, name);
    if (!mz_golden_find(c->g, full, out)) {
        return mz_fail(&c->g->ctx->error, MZ_ERR_MISSING, "io.safetensors has no %s", full);
    }
    return MZ_OK;
}

/* Label and mask of what lies `ahead` points behind point t: the inputs shifted by one, zero with
 * mask 0 beyond the end. */
static void fill_targets(train_case *c, const float *labels, const int32_t *mask) {
    for (int32_t h = 0; h < c->n_heads; h++) {
        for (int64_t row = 0; row < c->n_sequences * c->length; row++) {
            const int64_t t = row % c->length;
            for (int64_t i = 0; i < c->head_length[h]; i++) {
                const bool there = t + i < c->length;
                const int64_t at = row * c->head_length[h] + i;
                c->targets[h][at] = there ? labels[row + i] : 0.0f;
                c->weights[h][at] = there ? (float)mask[row + i] : 0.0f;
            }
        }
    }
}

static void allocate_rows(train_case *c) {
    const int64_t n = c->n_sequences * c->length;
    c->sequence = must_alloc(n, sizeof *c->sequence);
    c->position = must_alloc(n, sizeof *c->position);
    for (int64_t i = 0; i < n; i++) {
        c->sequence[i] = (int32_t)(i / c->length);
        c->position[i] = (int32_t)(i % c->length);
    }
    for (int32_t h = 0; h < c->n_heads; h++) {
        c->targets[h] = must_alloc(n * c->head_length[h], sizeof(float));
        c->weights[h] = must_alloc(n * c->head_length[h], sizeof(float));
    }
}

static mz_status run_gradients(train_case *c, int step, mz_train_report *report) {
    const json_t *json = c->g->json;
    mz_tensor input;
    mz_tensor labels;
    mz_tensor mask;
    MZ_TRY(find(c, step, "input", &input));
    MZ_TRY(find(c, step, "labels", &labels));
    MZ_TRY(find(c, step, "loss_mask", &mask));
    if (input.n_dims != 2 || mz_tensor_n_elements(&labels) != mz_tensor_n_elements(&input) ||
        mz_tensor_n_elements(&mask) != mz_tensor_n_elements(&input) || mask.dtype != MZ_DTYPE_I32 ||
        input.dtype != MZ_DTYPE_F32 || labels.dtype != MZ_DTYPE_F32 ||
        (c->sequence != NULL &&
         (input.shape[0] != c->n_sequences || input.shape[1] != c->length))) {
        return mz_fail(&c->g->ctx->error, MZ_ERR_SHAPE, "step %d: input, labels, loss_mask differ",
                       step);
    }
    c->n_sequences = input.shape[0];
    c->length = input.shape[1];
    if (c->sequence == NULL) {
        allocate_rows(c);
    }
    fill_targets(c, labels.data, mask.data);
    const mz_forecast_rows rows = {.n_rows = c->n_sequences * c->length,
                                   .sequence = c->sequence,
                                   .position = c->position,
                                   .inputs = input.data,
                                   .n_heads = c->n_heads,
                                   .targets = (const float *const *)c->targets,
                                   .weights = (const float *const *)c->weights};
    const mz_forecast_loss loss = {.huber_delta = number(json, "huber_delta"),
                                   .balance_factor = number(json, "router_aux_loss_factor")};
    mz_parameters_zero_gradients(c->g->ctx, &c->parameters);
    return mz_forecast_training_gradients(c->training, &rows, &loss, 1.0, report);
}

static void compare_losses(train_case *c, int step, const mz_train_report *report) {
    const json_t *expected = json_array_get(json_object_get(c->g->json, "steps"), (size_t)step - 1);
    const json_t *heads = json_object_get(expected, "head_losses");
    double mean = 0;
    char name[64];
    for (size_t i = 0; i < json_array_size(heads); i++) {
        mean += json_number_value(json_array_get(heads, i)) / (double)json_array_size(heads);
    }
    (void)snprintf(name, sizeof name, "step%d.head_losses", step);
    compare_number(c->g, name, report->part[0], mean);
    (void)snprintf(name, sizeof name, "step%d.aux_loss", step);
    const double factor = number(c->g->json, "router_aux_loss_factor");
    if (factor > 0) { /* a dense model has none, and expects 0 */
        compare_number(c->g, name, report->n_parts > 1 ? report->part[1] / factor : 0,
                       number(expected, "aux_loss"));
    }
    (void)snprintf(name, sizeof name, "step%d.loss", step);
    compare_number(c->g, name, report->loss, number(expected, "loss"));
}

/* Compares what io.safetensors has under "stepN.KIND.NAME". */
static void compare_tensor(train_case *c, int step, const char *kind, const char *name,
                           const mz_tensor *actual) {
    char full[300];
    mz_tensor expected;
    (void)snprintf(full, sizeof full, "step%d.%s.%s", step, kind, name);
    if (!mz_golden_find(c->g, full, &expected)) {
        return; /* not recorded at this step */
    }
    if (mz_tensor_n_elements(&expected) != mz_tensor_n_elements(actual)) {
        mz_golden_fail(c->g, full, "has another number of elements than the model's");
        return;
    }
    mz_golden_compare(c->g, full, actual->data, expected.data, mz_tensor_n_elements(actual), BOUND);
}

static void compare_states(train_case *c, int step) {
    for (int64_t i = 0; i < mz_optimizer_n_states(c->optimizer); i++) {
        const char *name = NULL;
        mz_tensor state;
        mz_optimizer_state(c->optimizer, i, &name, &state);
        char full[300];
        mz_tensor expected;
        (void)snprintf(full, sizeof full, "step%d.%s", step, name);
        if (mz_golden_find(c->g, full, &expected)) {
            mz_golden_compare(c->g, full, state.data, expected.data, mz_tensor_n_elements(&state),
                              BOUND);
        }
    }
}

static mz_status run_step(train_case *c, int step) {
    const json_t *expected = json_array_get(json_object_get(c->g->json, "steps"), (size_t)step - 1);
    mz_train_report report;
    char name[64];
    double norm = 0;
    MZ_TRY(run_gradients(c, step, &report));
    compare_losses(c, step, &report);
    for (int64_t i = 0; i < c->parameters.n; i++) {
        compare_tensor(c, step, "grad", c->parameters.items[i].name,
                       &c->parameters.items[i].gradient);
    }
    const double lr = mz_schedule_at(&c->schedule, step - 1);
    (void)snprintf(name, sizeof name, "step%d.lr", step);
    compare_number(c->g, name, lr, number(expected, "lr"));
    MZ_TRY(mz_optimizer_step(c->optimizer, lr, &norm));
    (void)snprintf(name, sizeof name, "step%d.grad_norm", step);
    compare_number(c->g, name, norm, number(expected, "grad_norm_before_clip"));
    for (int64_t i = 0; i < c->parameters.n; i++) {
        compare_tensor(c, step, "param", c->parameters.items[i].name,
                       &c->parameters.items[i].value);
    }
    compare_states(c, step);
    return MZ_OK;
}

/* ---- the case ---- */

static mz_status run_steps(train_case *c, bool recompute) {
    const int n_steps = (int)json_array_size(json_object_get(c->g->json, "steps"));
    const mz_load_options load = {.backend = c->g->backend,
                                  .weights = {.parameters = &c->parameters}};
    if (n_steps < 1 || n_steps > MAX_STEPS) {
        return mz_fail(&c->g->ctx->error, MZ_ERR_FORMAT, "%s: %d steps", c->g->dir, n_steps);
    }
    MZ_TRY(read_heads(c));
    MZ_TRY(mz_zoo_load_forecaster(c->g->ctx, c->g->dir, &load, &c->forecaster));
    MZ_TRY(mz_forecast_training_create(c->g->ctx, c->forecaster,
                                       mz_forecaster_max_positions(c->forecaster), recompute,
                                       &c->training));
    MZ_TRY(create_optimizer(c));
    for (int step = 1; step <= n_steps; step++) {
        MZ_TRY(run_step(c, step));
    }
    return MZ_OK;
}

static mz_status run_once(mz_golden *g, bool recompute) {
    train_case c = {.g = g};
    const mz_status status = run_steps(&c, recompute);
    mz_optimizer_destroy(g->ctx, c.optimizer);
    mz_forecast_training_destroy(c.training);
    mz_forecaster_close(c.forecaster);
    mz_parameters_free(g->ctx, &c.parameters);
    for (int32_t h = 0; h < c.n_heads; h++) {
        free(c.targets[h]);
        free(c.weights[h]);
    }
    free(c.sequence);
    free(c.position);
    return status;
}

mz_status mz_golden_time_moe_train(mz_golden *g) {
    MZ_TRY(run_once(g, false));
    return run_once(g, true);
}
