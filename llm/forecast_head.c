#include "llm/forecast_head.h"

int32_t mz_forecast_heads_pick(const mz_forecast_heads *heads, int64_t remaining) {
    int32_t pick = 0;
    for (int32_t i = 0; i < heads->n_heads; i++) {
        if (heads->length[i] <= remaining) {
            pick = i;
        }
    }
    return pick;
}

int32_t mz_forecast_heads_cover(const mz_forecast_heads *heads, int64_t remaining) {
    int32_t pick = 0;
    while (pick + 1 < heads->n_heads && heads->length[pick] < remaining) {
        pick++;
    }
    return pick;
}
