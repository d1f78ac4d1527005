/* What a family file fills in to make a forecaster. */
#ifndef MZ_APPS_ZOO_FORECASTER_PARTS_H
#define MZ_APPS_ZOO_FORECASTER_PARTS_H

#include "adapters/connector.h"
#include "apps/zoo/forecaster.h"
#include "core/loader.h"
#include "llm/decoder.h"
#include "llm/forecast_head.h"

/* Scalar points -> connector -> decoder -> heads. decoder.blocks is allocated with mz_alloc. */
typedef struct mz_forecaster_parts {
    mz_loader loader;         /* owns the weights */
    mz_gated_connector embed; /* d_in 1 */
    mz_decoder decoder;
    mz_forecast_heads heads;
    int64_t max_positions; /* 0: unknown */
} mz_forecaster_parts;

/* Takes over the parts, on failure too. Errors: NOMEM. */
mz_status mz_forecaster_create(mz_context *ctx, mz_forecaster_parts *parts, mz_forecaster **out);

/* Releases parts that no forecaster took over. */
void mz_forecaster_parts_close(mz_context *ctx, mz_forecaster_parts *parts);

#endif
