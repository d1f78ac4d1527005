#include "llm/rope.h"

#include <math.h>

static void fill(float *cos_out, float *sin_out, int64_t n_positions, int64_t half, double theta) {
    for (int64_t i = 0; i < half; i++) {
        const float frequency = (float)pow(theta, -(double)(2 * i) / (double)(2 * half));
        for (int64_t p = 0; p < n_positions; p++) {
            const float angle = (float)p * frequency;
            cos_out[p * half + i] = (float)cos((double)angle);
            sin_out[p * half + i] = (float)sin((double)angle);
        }
    }
}

mz_status mz_rope_table_take(mz_stream *s, int64_t n_positions, int64_t head_dim, double theta,
                             mz_rope_table *out) {
    const int64_t half = head_dim / 2;
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
    *out =
        (mz_rope_table){.n_positions = n_positions, .half_dim = half, .cos = cosines, .sin = sines};
    if (s->arena.measure) {
        return MZ_OK;
    }
    MZ_TRY(mz_alloc(s->ctx, 2 * bytes, "rotary table", &staging));
    float *wide = staging;
    fill(wide, wide + n_positions * half, n_positions, half, theta);
    mz_status status = s->backend->upload(s, cosines, wide, bytes);
    if (status == MZ_OK) {
        status = s->backend->upload(s, sines, wide + n_positions * half, bytes);
    }
    mz_free(s->ctx, staging);
    return status;
}
