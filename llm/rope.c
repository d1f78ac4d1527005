#include "llm/rope.h"

#include <math.h>

static const double two_pi = 6.283185307179586;

static double clamped(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* How far frequency `plain` of pair i is left as it is: 1 fully, 0 stretched in full. */
static double llama3_share(const mz_rope *r, double plain) {
    const double turns = r->original_positions * plain / two_pi;
    return clamped((turns - r->low_factor) / (r->high_factor - r->low_factor));
}

/* The pair, not rounded, that makes `turns` turns within the original positions. */
static double yarn_pair_of(const mz_rope *r, double turns) {
    return (double)r->n_dims * log(r->original_positions / (turns * two_pi)) / (2 * log(r->theta));
}

static double yarn_share(const mz_rope *r, int64_t i) {
    const double low = fmax(floor(yarn_pair_of(r, r->beta_fast)), 0);
    double high = fmin(ceil(yarn_pair_of(r, r->beta_slow)), (double)(r->n_dims - 1));
    if (high <= low) {
        high = low + 0.001; /* as published: a step instead of a ramp */
    }
    return 1 - clamped(((double)i - low) / (high - low));
}

double mz_rope_frequency(const mz_rope *rope, int64_t i) {
    const double plain = pow(rope->theta, -(double)(2 * i) / (double)rope->n_dims);
    const double stretched = plain / (rope->scaling != MZ_ROPE_UNSCALED ? rope->factor : 1);
    switch (rope->scaling) {
    case MZ_ROPE_LLAMA3: {
        const double share = llama3_share(rope, plain);
        return share * plain + (1 - share) * stretched;
    }
    case MZ_ROPE_YARN: {
        const double share = yarn_share(rope, i);
        return share * plain + (1 - share) * stretched;
    }
    default:
        return stretched;
    }
}

static void fill(float *cos_out, float *sin_out, int64_t n_positions, const mz_rope *rope) {
    const int64_t half = rope->n_dims / 2;
    const double size = rope->scaling == MZ_ROPE_YARN ? rope->attention_factor : 1;
    for (int64_t i = 0; i < half; i++) {
        const float frequency = (float)mz_rope_frequency(rope, i);
        for (int64_t p = 0; p < n_positions; p++) {
            const float angle = (float)p * frequency;
            cos_out[p * half + i] = (float)(size * cos((double)angle));
            sin_out[p * half + i] = (float)(size * sin((double)angle));
        }
    }
}

mz_status mz_rope_table_take(mz_stream *s, int64_t n_positions, const mz_rope *rope,
                             mz_rope_table *out) {
    const int64_t half = rope->n_dims / 2;
    const size_t bytes = (size_t)n_positions * (size_t)half * sizeof(float);
    void *cosines = NULL;
    void *sines = NULL;
    void *staging = NULL;
    if (n_positions > 1 << 24) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "%lld positions, at most %d are possible",
                       (long long)n_positions, 1 << 24);
    }
    MZ_TRY(mz_stream_take_bytes(s, bytes, "rotary cosines", &cosines));
    MZ_TRY(mz_stream_take_bytes(s, bytes, "rotary sines", &sines));
    *out = (mz_rope_table){.n_positions = n_positions,
                           .half_dim = half,
                           .cos = cosines,
                           .sin = sines,
                           .head_dim = rope->head_dim,
                           .first = rope->first,
                           .interleaved = rope->interleaved};
    if (s->arena.measure) {
        return MZ_OK;
    }
    MZ_TRY(mz_alloc(s->ctx, 2 * bytes, "rotary table", &staging));
    float *wide = staging;
    fill(wide, wide + n_positions * half, n_positions, rope);
    mz_status status = s->backend->upload(s, cosines, wide, bytes);
    if (status == MZ_OK) {
        status = s->backend->upload(s, sines, wide + n_positions * half, bytes);
    }
    mz_free(s->ctx, staging);
    return status;
}
