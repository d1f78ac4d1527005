/* Goldens of Time-MoE; names and shapes are those of the family's README. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/zoo.h"
#include "tests/golden/golden_check.h"
#include "tests/golden/made_checkpoint.h"
#include "tests/testing.h"

/* Whole-model bound in f32 (relative L2); routes may differ where the probabilities do by less than
 * the f32 noise. */
static const double BOUND_F32 = 1e-4;
static const double ROUTE_NOISE = 1e-5;
static const double CUT_GAP_NOISE = 1e-4;

/* One recorded tensor of a pass; i32 values are widened to f32, which holds expert ids exactly. */
typedef struct record {
    char name[64];
    int64_t n_rows, n_cols;
    float *data;
} record;

typedef struct records {
    record *items;
    int64_t n, capacity;
} records;

/* One sub-case: its inputs and, per sequence, the points that are not masked. */
typedef struct sub_case {
    mz_golden *g;
    const char *prefix;    /* "s37." or "" */
    const json_t *tensors; /* names to compare */
    mz_tensor input, mask; /* [B, T]; mask may be absent */
    int64_t n_sequences, length;
    int64_t *kept;   /* [B, T] indices of unmasked points */
    int64_t *n_kept; /* [B] */
    records *traces; /* [B] */
} sub_case;

static void *must_alloc(size_t n, size_t size) {
    void *p = calloc(n > 0 ? n : 1, size);
    if (p == NULL) {
        fputs("golden_check: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static mz_status record_tensor(void *self, mz_stream *s, int layer, const char *name,
                               const mz_tensor *t) {
    records *list = self;
    if (list->n == list->capacity) {
        list->capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        list->items = realloc(list->items, (size_t)list->capacity * sizeof *list->items);
    }
    record *r = &list->items[list->n++];
    *r = (record){.n_rows = t->shape[0], .n_cols = t->shape[1]};
    if (layer >= 0) {
        (void)snprintf(r->name, sizeof r->name, "layers.%d.%s", layer, mz_time_moe_name(name));
    } else {
        (void)snprintf(r->name, sizeof r->name, "%s", name);
    }
    r->data = must_alloc((size_t)(r->n_rows * r->n_cols), sizeof *r->data);
    for (int64_t i = 0; i < r->n_rows; i++) {
        float *row = r->data + i * r->n_cols;
        const unsigned char *src = (const unsigned char *)t->data + i * t->ld * 4;
        MZ_TRY(s->backend->download(s, row, src, (size_t)r->n_cols * 4));
        for (int64_t j = 0; t->dtype == MZ_DTYPE_I32 && j < r->n_cols; j++) {
            int32_t id = 0;
            memcpy(&id, &row[j], sizeof id);
            row[j] = (float)id;
        }
    }
    return MZ_OK;
}

static void free_records(records *list) {
    for (int64_t i = 0; i < list->n; i++) {
        free(list->items[i].data);
    }
    free(list->items);
    *list = (records){0};
}

static const record *find_record(const records *list, const char *name) {
    for (int64_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i].name, name) == 0) {
            return &list->items[i];
        }
    }
    return NULL;
}

static float value_at(const mz_tensor *t, int64_t i) {
    switch (t->dtype) {
    case MZ_DTYPE_I32:
        return (float)((const int32_t *)t->data)[i];
    case MZ_DTYPE_U8:
        return (float)((const uint8_t *)t->data)[i];
    default: {
        float x = NAN;
        if (mz_dtype_get(t->dtype)->to_f32 != NULL) {
            const int bytes = mz_dtype_get(t->dtype)->block_bytes;
            mz_dtype_get(t->dtype)->to_f32(&x, (const unsigned char *)t->data + i * bytes, 1);
        }
        return x;
    }
    }
}

/* Expected element of kept row i of sequence b, column j; caches are stored [B, kv heads, T,
 * head_dim]. */
static float expected_at(const sub_case *c, const mz_tensor *t, bool is_cache, int64_t b, int64_t i,
                         int64_t j) {
    const int64_t time = c->kept[b * c->length + i];
    if (is_cache) {
        const int64_t d = t->shape[3];
        return value_at(t, ((b * t->shape[1] + j / d) * t->shape[2] + time) * d + j % d);
    }
    const int64_t width = mz_tensor_n_cols(t);
    return value_at(t, (b * c->length + time) * width + j);
}

/* Whether a golden tensor has `width` elements for each of `n` points; any other would be read
 * beyond its end. */
static bool has_elements(const mz_tensor *t, int64_t n, int64_t width) {
    const int64_t n_elements = mz_tensor_n_elements(t);
    return n > 0 && n_elements % n == 0 && n_elements / n == width;
}

/* Notes a golden tensor of a shape that the input does not lead to. */
static void fail_shape(sub_case *c, const char *full, const mz_tensor *t) {
    char shape[128];
    char why[192];
    (void)snprintf(why, sizeof why, "has shape %s, which does not fit the input",
                   mz_shape_text(shape, sizeof shape, t->shape, t->n_dims));
    c->g->n_compared++;
    mz_golden_fail(c->g, full, why);
}

/* Softmax probabilities that the golden's own logits give at a row. */
static double probability_gap(const sub_case *c, const char *name, int64_t b, int64_t i,
                              int32_t id_a, int32_t id_b) {
    char logits_name[128];
    mz_tensor logits;
    const char *dot = strrchr(name, '.');
    (void)snprintf(logits_name, sizeof logits_name, "%s%.*s.router_logits", c->prefix,
                   (int)(dot - name), name);
    if (!mz_golden_find(c->g, logits_name, &logits) ||
        !has_elements(&logits, c->n_sequences * c->length, mz_tensor_n_cols(&logits))) {
        return INFINITY;
    }
    const int64_t n = mz_tensor_n_cols(&logits);
    double sum = 0;
    double p_a = 0;
    double p_b = 0;
    for (int64_t e = 0; e < n; e++) {
        const double p = exp((double)expected_at(c, &logits, false, b, i, e));
        sum += p;
        p_a = e == id_a ? p : p_a;
        p_b = e == id_b ? p : p_b;
    }
    return fabs(p_a - p_b) / sum;
}

static double cut_gap(const sub_case *c, const char *name, int64_t b, int64_t i) {
    char gap_name[128];
    mz_tensor gap;
    const char *dot = strrchr(name, '.');
    (void)snprintf(gap_name, sizeof gap_name, "%s%.*s.cut_gap", c->prefix, (int)(dot - name), name);
    return mz_golden_find(c->g, gap_name, &gap) && has_elements(&gap, c->n_sequences * c->length, 1)
               ? (double)value_at(&gap, b * c->length + c->kept[b * c->length + i])
               : INFINITY;
}

/* Expert ids must be equal, rank by rank, except where the golden itself says that it was a near
 * tie. */
static void compare_ids(sub_case *c, const char *name, const mz_tensor *expected) {
    int64_t n_different = 0;
    int64_t n_exempt = 0;
    char full[128];
    char why[160];
    (void)snprintf(full, sizeof full, "%s%s", c->prefix, name);
    for (int64_t b = 0; b < c->n_sequences; b++) {
        const record *r = find_record(&c->traces[b], name);
        if (r != NULL && (!has_elements(expected, c->n_sequences * c->length, r->n_cols) ||
                          mz_tensor_n_cols(expected) != r->n_cols)) {
            fail_shape(c, full, expected);
            return;
        }
        for (int64_t i = 0; r != NULL && i < c->n_kept[b]; i++) {
            for (int64_t k = 0; k < r->n_cols; k++) {
                const int32_t actual = (int32_t)r->data[i * r->n_cols + k];
                const int32_t wanted = (int32_t)expected_at(c, expected, false, b, i, k);
                if (actual == wanted) {
                    continue;
                }
                const bool exempt = probability_gap(c, name, b, i, actual, wanted) < ROUTE_NOISE ||
                                    cut_gap(c, name, b, i) < CUT_GAP_NOISE;
                n_exempt += exempt;
                n_different += !exempt;
            }
        }
        n_different += r == NULL;
    }
    c->g->n_compared++;
    (void)snprintf(why, sizeof why, "%lld routes differ (%lld more are near ties)",
                   (long long)n_different, (long long)n_exempt);
    if (n_different > 0) {
        mz_golden_fail(c->g, full, why);
    } else if (c->g->verbose) {
        printf("  agrees  %-44s equal, %lld near ties\n", full, (long long)n_exempt);
    }
}

/* Compares the recorded tensor `name` at all kept rows, or at the last of each sequence. */
static void compare_trace(sub_case *c, const char *name, const char *record_name,
                          const mz_tensor *expected, bool last_only) {
    const bool is_cache = strstr(name, "_cache") != NULL;
    const int64_t width =
        is_cache ? expected->shape[1] * expected->shape[3] : mz_tensor_n_cols(expected);
    const int64_t n_points = c->n_sequences * (last_only ? 1 : c->length);
    int64_t n = 0;
    char full[128];
    (void)snprintf(full, sizeof full, "%s%s", c->prefix, name);
    if (!has_elements(expected, n_points, width) || (is_cache && expected->shape[2] != c->length)) {
        fail_shape(c, full, expected);
        return;
    }
    float *actual = must_alloc((size_t)(n_points * width), sizeof *actual);
    float *wanted = must_alloc((size_t)(n_points * width), sizeof *wanted);
    for (int64_t b = 0; b < c->n_sequences; b++) {
        const record *r = find_record(&c->traces[b], record_name);
        if (r == NULL || r->n_cols != width) {
            mz_golden_fail(c->g, full, r == NULL ? "not computed" : "of another width");
            c->g->n_compared++;
            break;
        }
        for (int64_t i = last_only ? c->n_kept[b] - 1 : 0; i < c->n_kept[b]; i++) {
            for (int64_t j = 0; j < width; j++) {
                actual[n] = r->data[i * width + j];
                wanted[n++] = last_only ? value_at(expected, b * width + j)
                                        : expected_at(c, expected, is_cache, b, i, j);
            }
        }
    }
    mz_golden_compare(c->g, full, actual, wanted, n, BOUND_F32);
    free(actual);
    free(wanted);
}

/* Forecasts of all sequences in one ragged batch, as f32. */
static mz_status forecast(sub_case *c, mz_precision precision, int64_t horizon, float *out) {
    const mz_load_options load = {.backend = c->g->backend, .precision = precision};
    const mz_forecast_options options = {
        .horizon = horizon, .context_len = c->length, .normalize = MZ_NORMALIZE_NONE};
    mz_forecaster *f = NULL;
    double *values = must_alloc((size_t)(c->n_sequences * c->length), sizeof *values);
    double *answers = must_alloc((size_t)(c->n_sequences * horizon), sizeof *answers);
    mz_forecast_item *items = must_alloc((size_t)c->n_sequences, sizeof *items);
    for (int64_t b = 0; b < c->n_sequences; b++) {
        double *row = values + b * c->length;
        for (int64_t i = 0; i < c->n_kept[b]; i++) {
            row[i] = (double)value_at(&c->input, b * c->length + c->kept[b * c->length + i]);
        }
        items[b] = (mz_forecast_item){
            .values = row, .n_values = c->n_kept[b], .forecast = answers + b * horizon};
    }
    mz_status status = mz_zoo_load_forecaster(c->g->ctx, c->g->dir, &load, &f);
    if (status == MZ_OK) {
        status = mz_forecaster_run(f, &options, items, c->n_sequences);
    }
    for (int64_t i = 0; i < c->n_sequences * horizon; i++) {
        out[i] = (float)answers[i];
    }
    mz_forecaster_close(f);
    free(values);
    free(answers);
    free(items);
    return status;
}

/* A reference computed in bf16 throughout flips routes by rounding, so it is compared by size of
 * error only: our bf16 run may lie from the f32 golden at most twice as far (root mean square) as
 * the reference's own bf16 run does. */
static void compare_bf16(sub_case *c, const char *name, const float *actual,
                         const mz_tensor *reference, int64_t n) {
    mz_tensor exact;
    char full[128];
    char why[160];
    double ours = 0;
    double theirs = 0;
    (void)snprintf(full, sizeof full, "%s%.*s", c->prefix,
                   (int)(strlen(name) - strlen("_all_bf16")), name);
    if (!mz_golden_find(c->g, full, &exact) || !has_elements(&exact, n, 1)) {
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const double e = (double)value_at(&exact, i);
        ours += pow((double)actual[i] - e, 2);
        theirs += pow((double)value_at(reference, i) - e, 2);
    }
    c->g->n_compared++;
    (void)snprintf(full, sizeof full, "%s%s", c->prefix, name);
    (void)snprintf(why, sizeof why, "rms from f32: ours %.3g, the reference's %.3g",
                   sqrt(ours / (double)n), sqrt(theirs / (double)n));
    if (!(ours <= 4 * theirs)) {
        mz_golden_fail(c->g, full, why);
    } else if (c->g->verbose) {
        printf("  agrees  %-44s %s\n", full, why);
    }
}

static mz_status compare_forecast(sub_case *c, const char *name, const mz_tensor *expected) {
    char *end = NULL;
    const long horizon = strtol(name + strlen("forecast_"), &end, 10);
    const bool bf16 = strcmp(end, "_all_bf16") == 0;
    char full[128];
    (void)snprintf(full, sizeof full, "%s%s", c->prefix, name);
    if (horizon < 1 || (*end != '\0' && !bf16 && strcmp(end, "_float64") != 0)) {
        mz_golden_fail(c->g, full, "a forecast of a kind that is not known");
        return MZ_OK;
    }
    if (!has_elements(expected, c->n_sequences, horizon)) {
        fail_shape(c, full, expected);
        return MZ_OK;
    }
    const int64_t n = c->n_sequences * horizon;
    float *actual = must_alloc((size_t)n, sizeof *actual);
    float *wanted = must_alloc((size_t)n, sizeof *wanted);
    const mz_status status =
        forecast(c, bf16 ? MZ_PRECISION_BF16 : MZ_PRECISION_F32, horizon, actual);
    for (int64_t i = 0; i < n; i++) {
        wanted[i] = value_at(expected, i);
    }
    if (status == MZ_OK && bf16) {
        compare_bf16(c, name, actual, expected, n);
    } else if (status == MZ_OK) {
        mz_golden_compare(c->g, full, actual, wanted, n, BOUND_F32);
    }
    free(actual);
    free(wanted);
    return status;
}

static mz_status compare_tensor(sub_case *c, const char *name) {
    char full[128];
    char record_name[64];
    mz_tensor expected;
    (void)snprintf(full, sizeof full, "%s%s", c->prefix, name);
    if (!mz_golden_find(c->g, full, &expected)) {
        mz_golden_fail(c->g, full, "is named by golden.json but missing from io.safetensors");
        return MZ_OK;
    }
    if (strcmp(name, "input") == 0 || strcmp(name, "attention_mask") == 0 ||
        strcmp(name, "position_ids") == 0 || strstr(name, "cut_gap") != NULL) {
        return MZ_OK;
    }
    if (strncmp(name, "forecast_", strlen("forecast_")) == 0) {
        return compare_forecast(c, name, &expected);
    }
    if (strstr(name, "expert_ids") != NULL) {
        compare_ids(c, name, &expected);
        return MZ_OK;
    }
    const size_t n = strlen(name);
    const bool last_only = n > 5 && strcmp(name + n - 5, "_last") == 0;
    (void)snprintf(record_name, sizeof record_name, "%.*s", (int)(last_only ? n - 5 : n), name);
    compare_trace(c, name, record_name, &expected, last_only);
    return MZ_OK;
}

/* Which points of each sequence count. */
static void find_kept(sub_case *c) {
    for (int64_t b = 0; b < c->n_sequences; b++) {
        for (int64_t t = 0; t < c->length; t++) {
            const bool masked =
                c->mask.n_dims == 2 && ((const int64_t *)c->mask.data)[b * c->length + t] == 0;
            if (!masked) {
                c->kept[b * c->length + c->n_kept[b]++] = t;
            }
        }
    }
}

static mz_status trace_all(sub_case *c) {
    const mz_load_options load = {.backend = c->g->backend};
    mz_forecaster *f = NULL;
    float *values = must_alloc((size_t)c->length, sizeof *values);
    mz_status status = mz_zoo_load_forecaster(c->g->ctx, c->g->dir, &load, &f);
    for (int64_t b = 0; b < c->n_sequences && status == MZ_OK; b++) {
        const mz_trace trace = {.record = record_tensor, .self = &c->traces[b], .inside_moe = true};
        for (int64_t i = 0; i < c->n_kept[b]; i++) {
            values[i] = value_at(&c->input, b * c->length + c->kept[b * c->length + i]);
        }
        status = mz_forecaster_trace(f, values, c->n_kept[b], &trace);
    }
    mz_forecaster_close(f);
    free(values);
    return status;
}

static mz_status run_case(mz_golden *g, const char *prefix, const json_t *tensors) {
    sub_case c = {.g = g, .prefix = prefix, .tensors = tensors};
    char name[128];
    const char *key = NULL;
    const json_t *unused = NULL;
    (void)snprintf(name, sizeof name, "%sinput", prefix);
    if (!mz_golden_find(g, name, &c.input) || c.input.n_dims != 2 ||
        c.input.dtype != MZ_DTYPE_F32) {
        return mz_fail(&g->ctx->error, MZ_ERR_MISSING,
                       "%s is no [B, T] f32 tensor of io.safetensors", name);
    }
    (void)snprintf(name, sizeof name, "%sattention_mask", prefix);
    if (!mz_golden_find(g, name, &c.mask) || c.mask.dtype != MZ_DTYPE_I64) {
        c.mask = (mz_tensor){0};
    }
    c.n_sequences = c.input.shape[0];
    c.length = c.input.shape[1];
    if (c.mask.n_dims != 0 &&
        (c.mask.n_dims != 2 || !has_elements(&c.mask, c.n_sequences, c.length))) {
        return mz_fail(&g->ctx->error, MZ_ERR_SHAPE, "%s has another shape than the input", name);
    }
    if (json_object_size(tensors) == 0) {
        return mz_fail(&g->ctx->error, MZ_ERR_MISSING, "golden.json names no tensors of \"%s\"",
                       prefix);
    }
    c.kept = must_alloc((size_t)(c.n_sequences * c.length), sizeof *c.kept);
    c.n_kept = must_alloc((size_t)c.n_sequences, sizeof *c.n_kept);
    c.traces = must_alloc((size_t)c.n_sequences, sizeof *c.traces);
    find_kept(&c);
    mz_status status = trace_all(&c);
    json_object_foreach((json_t *)tensors, key, unused) {
        if (status == MZ_OK) {
            status = compare_tensor(
                &c, strncmp(key, prefix, strlen(prefix)) == 0 ? key + strlen(prefix) : key);
        }
    }
    (void)unused;
    for (int64_t b = 0; b < c.n_sequences; b++) {
        free_records(&c.traces[b]);
    }
    free(c.traces);
    free(c.kept);
    free(c.n_kept);
    return status;
}

static mz_status run_cases(mz_golden *g) {
    const json_t *cases = json_object_get(g->json, "cases");
    const char *name = NULL;
    json_t *entry = NULL;
    if (cases == NULL) {
        return run_case(g, "", json_object_get(g->json, "tensors"));
    }
    json_object_foreach((json_t *)cases, name, entry) {
        char prefix[64];
        (void)snprintf(prefix, sizeof prefix, "%s.", name);
        MZ_TRY(run_case(g, prefix, json_object_get(entry, "tensors")));
    }
    return MZ_OK;
}

/* The case's weights are a recipe: makes them in a temporary folder and runs there. */
static mz_status run_made(mz_golden *g) {
    const char *recipe = g->dir;
    const char *made = mz_temp_dir_create();
    mz_status status = mz_made_checkpoint_write(g->ctx, recipe, made, MZ_DTYPE_BF16);
    if (status == MZ_OK) {
        g->dir = made;
        status = run_cases(g);
        g->dir = recipe;
    }
    mz_temp_dir_remove(made);
    return status;
}

mz_status mz_golden_time_moe(mz_golden *g) {
    if (json_object_get(g->json, "steps") != NULL) {
        return mz_golden_time_moe_train(g);
    }
    return json_object_get(g->json, "weights") != NULL ? run_made(g) : run_cases(g);
}
