/* Forecast heads: from a hidden state to the next points, several lengths to choose from (Shi et
 * al. 2024, section 3.2). */
#ifndef MZ_LLM_FORECAST_HEAD_H
#define MZ_LLM_FORECAST_HEAD_H

#include "core/ops.h"

enum { MZ_MAX_FORECAST_HEADS = 64 };

/* Filled by a family file; immutable afterwards. Lengths ascend. */
typedef struct mz_forecast_heads {
    int32_t n_heads;
    int32_t length[MZ_MAX_FORECAST_HEADS]; /* points that head i emits */
    mz_linear w[MZ_MAX_FORECAST_HEADS];    /* [length, d_model] */
} mz_forecast_heads;

/* The head that the published schedule takes when `remaining` (at least 1) points are left: the
 * longest that is not longer than that, and the shortest when all are; its output is then cut. */
int32_t mz_forecast_heads_pick(const mz_forecast_heads *heads, int64_t remaining);

/* The shortest head that covers `remaining` points, and the longest when none does; its output is
 * cut. Fewer passes than the published schedule, and not what the authors measured. */
int32_t mz_forecast_heads_cover(const mz_forecast_heads *heads, int64_t remaining);

#endif
