#include "tests/golden/patch_moe_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* ---- checkpoint ---- */

static double *take(int64_t n) {
    double *p = calloc(n > 0 ? (size_t)n : 1, sizeof *p);
    if (p == NULL) {
        fputs("patch_moe_reference: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static const float *tensor_of(mz_patch_reference *r, const char *prefix, const char *suffix) {
    char name[160];
    mz_tensor t;
    (void)snprintf(name, sizeof name, "%s%s", prefix, suffix);
    if (!mz_weights_find(r->weights, name, &t) || t.dtype != MZ_DTYPE_F32) {
        fprintf(stderr, "patch_moe_reference: no f32 tensor %s\n", name);
        exit(1);
    }
    return t.data;
}

static void read_config(const json_t *c, mz_patch_reference *r) {
    const json_t *levels = json_object_get(c, "quantiles");
    r->patch_len = json_integer_value(json_object_get(c, "patch_len"));
    r->head_len = json_integer_value(json_object_get(c, "head_len"));
    r->d_model = json_integer_value(json_object_get(c, "hidden_size"));
    r->n_layers = json_integer_value(json_object_get(c, "num_hidden_layers"));
    r->n_heads = json_integer_value(json_object_get(c, "num_attention_heads"));
    r->n_kv_heads = json_integer_value(json_object_get(c, "num_key_value_heads"));
    r->n_experts = json_integer_value(json_object_get(c, "num_experts"));
    r->top_k = json_integer_value(json_object_get(c, "num_experts_per_tok"));
    r->expert_width = json_integer_value(json_object_get(c, "moe_intermediate_size"));
    r->shared_width = json_integer_value(json_object_get(c, "shared_expert_intermediate_size"));
    r->embed_width = json_integer_value(json_object_get(c, "embed_intermediate_size"));
    r->head_width = json_integer_value(json_object_get(c, "head_intermediate_size"));
    r->norm_eps = json_number_value(json_object_get(c, "rms_norm_eps"));
    r->rope_theta = json_number_value(json_object_get(c, "rope_theta"));
    r->arcsinh = strcmp(json_string_value(json_object_get(c, "value_transform")), "arcsinh") == 0;
    r->n_levels = (int)json_array_size(levels);
    for (int i = 0; i < r->n_levels; i++) {
        r->levels[i] = json_number_value(json_array_get(levels, (size_t)i));
        r->median = r->levels[i] == 0.5 ? i : r->median;
    }
}

mz_status mz_patch_reference_open(mz_context *ctx, const char *dir, mz_patch_reference *out) {
    char path[512];
    json_t *config = NULL;
    *out = (mz_patch_reference){.ctx = ctx};
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    MZ_TRY(mz_json_load(ctx, path, &config));
    read_config(config, out);
    json_decref(config);
    return mz_weights_open(ctx, dir, &out->weights);
}

void mz_patch_reference_close(mz_patch_reference *r) {
    mz_weights_close(r->ctx, r->weights);
}

/* ---- layers ---- */

static double silu(double x) {
    return x / (1 + exp(-x));
}

/* y = W x + b for one row; bias NULL: none. */
static void linear(const float *weight, const float *bias, const double *x, int64_t d_in, double *y,
                   int64_t d_out) {
    for (int64_t o = 0; o < d_out; o++) {
        double sum = bias != NULL ? (double)bias[o] : 0;
        for (int64_t i = 0; i < d_in; i++) {
            sum += (double)weight[o * d_in + i] * x[i];
        }
        y[o] = sum;
    }
}

/* W_down (silu(W_gate x) * (W_up x)), and + W_skip x where there is one. */
static void gated(mz_patch_reference *r, const char *prefix, bool has_skip, const int64_t widths[3],
                  const double *x, double *y) {
    const int64_t d_in = widths[0];
    const int64_t d_hidden = widths[1];
    const int64_t d_out = widths[2];
    double *gate = take(d_hidden);
    double *up = take(d_hidden);
    double *skip = take(d_out);
    linear(tensor_of(r, prefix, "gate_proj.weight"), NULL, x, d_in, gate, d_hidden);
    linear(tensor_of(r, prefix, "up_proj.weight"), NULL, x, d_in, up, d_hidden);
    for (int64_t i = 0; i < d_hidden; i++) {
        gate[i] = silu(gate[i]) * up[i];
    }
    linear(tensor_of(r, prefix, "down_proj.weight"), NULL, gate, d_hidden, y, d_out);
    if (has_skip) {
        linear(tensor_of(r, prefix, "skip_proj.weight"), NULL, x, d_in, skip, d_out);
    }
    for (int64_t i = 0; i < d_out; i++) {
        y[i] += skip[i];
    }
    free(skip);
    free(up);
    free(gate);
}

static void rms_norm(const mz_patch_reference *r, const float *weight, const double *x, double *y) {
    double squares = 0;
    for (int64_t i = 0; i < r->d_model; i++) {
        squares += x[i] * x[i];
    }
    for (int64_t i = 0; i < r->d_model; i++) {
        y[i] = (double)weight[i] * x[i] / sqrt(squares / (double)r->d_model + r->norm_eps);
    }
}

/* Rotates the heads of one row. */
static void rotate(const mz_patch_reference *r, double *x, int64_t n_heads, int64_t position) {
    const int64_t head_dim = r->d_model / r->n_heads;
    const int64_t half = head_dim / 2;
    for (int64_t h = 0; h < n_heads; h++) {
        for (int64_t i = 0; i < half; i++) {
            const double angle =
                (double)position * pow(r->rope_theta, -2 * (double)i / (double)head_dim);
            double *a = &x[h * head_dim + i];
            double *b = &x[h * head_dim + i + half];
            const double first = *a;
            *a = first * cos(angle) - *b * sin(angle);
            *b = *b * cos(angle) + first * sin(angle);
        }
    }
}

/* Attention of row t over rows 0 to t, one head. */
static void attend(const mz_patch_reference *r, const double *q, const double *k, const double *v,
                   int64_t t, int64_t head, double *out) {
    const int64_t head_dim = r->d_model / r->n_heads;
    const int64_t kv_width = head_dim * r->n_kv_heads;
    const int64_t shared = head / (r->n_heads / r->n_kv_heads) * head_dim;
    double *scores = take(t + 1);
    double largest = -INFINITY;
    double total = 0;
    for (int64_t s = 0; s <= t; s++) {
        for (int64_t i = 0; i < head_dim; i++) {
            scores[s] += q[head * head_dim + i] * k[s * kv_width + shared + i];
        }
        scores[s] /= sqrt((double)head_dim);
        largest = fmax(largest, scores[s]);
    }
    for (int64_t s = 0; s <= t; s++) {
        scores[s] = exp(scores[s] - largest);
        total += scores[s];
    }
    for (int64_t i = 0; i < head_dim; i++) {
        out[head * head_dim + i] = 0;
        for (int64_t s = 0; s <= t; s++) {
            out[head * head_dim + i] += scores[s] / total * v[s * kv_width + shared + i];
        }
    }
    free(scores);
}

/* x += Attention(normed), all rows. */
static void attention(mz_patch_reference *r, const char *layer, const double *normed, double *x,
                      int64_t n_rows) {
    const int64_t d = r->d_model;
    const int64_t kv_width = d / r->n_heads * r->n_kv_heads;
    double *q = take(d);
    double *context = take(d);
    double *k = take(n_rows * kv_width);
    double *v = take(n_rows * kv_width);
    for (int64_t t = 0; t < n_rows; t++) {
        const double *row = normed + t * d;
        linear(tensor_of(r, layer, "self_attn.q_proj.weight"),
               tensor_of(r, layer, "self_attn.q_proj.bias"), row, d, q, d);
        linear(tensor_of(r, layer, "self_attn.k_proj.weight"),
               tensor_of(r, layer, "self_attn.k_proj.bias"), row, d, k + t * kv_width, kv_width);
        linear(tensor_of(r, layer, "self_attn.v_proj.weight"),
               tensor_of(r, layer, "self_attn.v_proj.bias"), row, d, v + t * kv_width, kv_width);
        rotate(r, q, r->n_heads, t);
        rotate(r, k + t * kv_width, r->n_kv_heads, t);
        for (int64_t h = 0; h < r->n_heads; h++) {
            attend(r, q, k, v, t, h, context);
        }
        linear(tensor_of(r, layer, "self_attn.o_proj.weight"), NULL, context, d, q, d);
        for (int64_t i = 0; i < d; i++) {
            x[t * d + i] += q[i];
        }
    }
    free(v);
    free(k);
    free(context);
    free(q);
}

/* out = MoE(x) of one row; `chosen` [top_k] best first. */
static void mixture(mz_patch_reference *r, const char *layer, const double *x, double *logits,
                    double *chosen, double *out) {
    const int64_t d = r->d_model;
    const int64_t shared_widths[] = {d, r->shared_width, d};
    const int64_t expert_widths[] = {d, r->expert_width, d};
    char prefix[128];
    double gate = 0;
    double total = 0;
    double *y = take(d);
    double *left = take(r->n_experts);
    linear(tensor_of(r, layer, "ffn_layer.gate.weight"), NULL, x, d, logits, r->n_experts);
    linear(tensor_of(r, layer, "ffn_layer.shared_expert_gate.weight"), NULL, x, d, &gate, 1);
    (void)snprintf(prefix, sizeof prefix, "%sffn_layer.shared_expert.", layer);
    gated(r, prefix, false, shared_widths, x, out);
    for (int64_t i = 0; i < d; i++) {
        out[i] /= 1 + exp(-gate);
    }
    for (int64_t e = 0; e < r->n_experts; e++) {
        left[e] = exp(logits[e]);
        total += left[e];
    }
    for (int64_t rank = 0; rank < r->top_k; rank++) {
        int64_t best = 0;
        for (int64_t e = 1; e < r->n_experts; e++) {
            best = left[e] > left[best] ? e : best;
        }
        (void)snprintf(prefix, sizeof prefix, "%sffn_layer.experts.%lld.", layer, (long long)best);
        gated(r, prefix, false, expert_widths, x, y);
        for (int64_t i = 0; i < d; i++) {
            out[i] += left[best] / total * y[i];
        }
        chosen[rank] = (double)best;
        left[best] = -1;
    }
    free(left);
    free(y);
}

static void tell(mz_patch_listener listener, int layer, const char *name, const double *values,
                 int64_t n_rows, int64_t n_cols) {
    if (listener.hear != NULL) {
        listener.hear(listener.self, layer, name, values, n_rows, n_cols);
    }
}

static void block(mz_patch_reference *r, int index, double *x, int64_t n_rows,
                  mz_patch_listener listener) {
    const int64_t d = r->d_model;
    char layer[48];
    double *normed = take(n_rows * d);
    double *logits = take(n_rows * r->n_experts);
    double *chosen = take(n_rows * r->top_k);
    double *mixed = take(n_rows * d);
    (void)snprintf(layer, sizeof layer, "model.layers.%d.", index);
    for (int64_t t = 0; t < n_rows; t++) {
        rms_norm(r, tensor_of(r, layer, "input_layernorm.weight"), x + t * d, normed + t * d);
    }
    attention(r, layer, normed, x, n_rows);
    tell(listener, index, "h_attn", x, n_rows, d);
    for (int64_t t = 0; t < n_rows; t++) {
        rms_norm(r, tensor_of(r, layer, "post_attention_layernorm.weight"), x + t * d,
                 normed + t * d);
        mixture(r, layer, normed + t * d, logits + t * r->n_experts, chosen + t * r->top_k,
                mixed + t * d);
    }
    for (int64_t i = 0; i < n_rows * d; i++) {
        x[i] += mixed[i];
    }
    tell(listener, index, "router_logits", logits, n_rows, r->n_experts);
    tell(listener, index, "experts", chosen, n_rows, r->top_k);
    tell(listener, index, "ffn_out", mixed, n_rows, d);
    tell(listener, index, "out", x, n_rows, d);
    free(mixed);
    free(chosen);
    free(logits);
    free(normed);
}

void mz_patch_reference_rows(mz_patch_reference *r, const double *u, int64_t n, double *out,
                             mz_patch_listener listener) {
    const int64_t p = r->patch_len;
    const int64_t d = r->d_model;
    const int64_t n_rows = (n + p - 1) / p;
    const int64_t n_padded = n_rows * p - n;
    const int64_t n_answers = r->head_len * r->n_levels;
    const int64_t embed_widths[] = {2 * p, r->embed_width, d};
    const int64_t head_widths[] = {d, r->head_width, n_answers};
    double *input = take(2 * p);
    double *x = take(n_rows * d);
    double *normed = take(n_rows * d);
    for (int64_t t = 0; t < n_rows; t++) {
        for (int64_t i = 0; i < p; i++) {
            const bool is_point = t * p + i >= n_padded;
            input[i] = is_point ? u[t * p + i - n_padded] : 0;
            input[p + i] = is_point ? 1 : 0;
        }
        gated(r, "model.embed.", true, embed_widths, input, x + t * d);
    }
    tell(listener, -1, "embed", x, n_rows, d);
    for (int l = 0; l < (int)r->n_layers; l++) {
        block(r, l, x, n_rows, listener);
    }
    for (int64_t t = 0; t < n_rows; t++) {
        rms_norm(r, tensor_of(r, "model.norm.", "weight"), x + t * d, normed + t * d);
        gated(r, "head.", true, head_widths, normed + t * d, out + t * n_answers);
    }
    tell(listener, -1, "final_norm", normed, n_rows, d);
    tell(listener, -1, "head0", out, n_rows, n_answers);
    free(normed);
    free(x);
    free(input);
}

/* ---- forecast ---- */

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean square of rows a - b of z over steps [begin, end). */
static double mean_square(const double *z, int64_t horizon, int a, int b, int64_t begin,
                          int64_t end) {
    double sum = 0;
    for (int64_t h = begin; h < end; h++) {
        sum += pow(z[a * horizon + h] - z[b * horizon + h], 2);
    }
    return sum / (double)(end - begin);
}

/* Step 4 of "Rows to a forecast". */
static void widen(const mz_patch_reference *r, double *z, int64_t horizon) {
    const int64_t head = r->head_len;
    const int64_t quarter = head < 4 ? 1 : head / 4;
    double c = 1;
    if (horizon <= head) {
        return;
    }
    if (head >= 4) {
        const int top = r->n_levels - 1;
        const double s2 = mean_square(z, horizon, top, 0, head / 2 - quarter, head / 2);
        const double s4 = mean_square(z, horizon, top, 0, head - quarter, head);
        const double t2 = (double)(head / 2) - (double)(quarter - 1) / 2;
        const double t4 = (double)head - (double)(quarter - 1) / 2;
        const double a = s2 > 0 ? log(s4 / s2) / log(t4 / t2) : s4 > 0;
        c = pow(2, fmin(fmax(a, 0), 1)) - 1;
    }
    for (int64_t begin = head; begin < horizon; begin += head) {
        for (int q = 0; q < r->n_levels; q++) {
            const double before = mean_square(z, horizon, q, r->median, begin - quarter, begin);
            for (int64_t h = begin; h < begin + head && h < horizon && q != r->median; h++) {
                const double median = z[r->median * horizon + h];
                const double width = sqrt(pow(z[q * horizon + h] - median, 2) + c * before);
                z[q * horizon + h] = q < r->median ? median - width : median + width;
            }
        }
    }
}

void mz_patch_reference_forecast(mz_patch_reference *r, const mz_patch_forecast *f) {
    const double *values = f->values;
    const int64_t n = f->n;
    const int64_t horizon = f->horizon;
    double *quantiles = f->quantiles;
    const int64_t n_answers = r->head_len * r->n_levels;
    double *u = take(n + horizon + r->head_len);
    double *out = take((n + horizon + r->head_len) / r->patch_len * n_answers + n_answers);
    double mean = 0;
    double deviation = 0;
    for (int64_t i = 0; i < n && f->is_scaled; i++) {
        mean += values[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        deviation += (values[i] - mean) * (values[i] - mean) / (double)n;
    }
    deviation = f->is_scaled ? sqrt(deviation) : 1;
    for (int64_t i = 0; i < n; i++) {
        const double z = (double)(float)((values[i] - mean) / deviation);
        u[i] = r->arcsinh ? asinh(z) : z;
    }
    for (int64_t done = 0; done < horizon; done += r->head_len) {
        const int64_t n_rows = (n + done + r->patch_len - 1) / r->patch_len;
        mz_patch_reference_rows(r, u, n + done, out, (mz_patch_listener){0});
        for (int64_t h = 0; h < r->head_len; h++) {
            double *step = out + (n_rows - 1) * n_answers + h * r->n_levels;
            qsort(step, (size_t)r->n_levels, sizeof *step, compare);
            u[n + done + h] = step[r->median];
            for (int q = 0; q < r->n_levels && done + h < horizon; q++) {
                quantiles[q * horizon + done + h] =
                    r->arcsinh ? sinh(fmin(fmax(step[q], -88), 88)) : step[q];
            }
        }
    }
    widen(r, quantiles, horizon);
    for (int64_t i = 0; i < r->n_levels * horizon; i++) {
        quantiles[i] = quantiles[i] * deviation + mean;
    }
    memcpy(f->forecast, quantiles + r->median * horizon, (size_t)horizon * sizeof *quantiles);
    free(out);
    free(u);
}
