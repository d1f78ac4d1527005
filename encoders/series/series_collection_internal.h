/* Real series as a sampler holds them: many, of any length, read by stretches. */
#ifndef MZ_ENCODERS_SERIES_SERIES_COLLECTION_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_COLLECTION_INTERNAL_H

#include <stdint.h>

#include "core/context.h"
#include "encoders/series/series_draw_internal.h"
#include "encoders/series/series_sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mz_binary; /* encoders/series/series_binary_internal.h */

typedef struct mz_collection_series {
    int64_t offset; /* of the first value among those of the collection */
    int64_t n_values;
    double cumulative; /* probability of this series and those before it; the last is 1 */
    int32_t group;
} mz_collection_series;

typedef struct mz_collection_group {
    char *name; /* owned; "" where ids have no groups */
    int64_t n_series, n_points;
} mz_collection_group;

/* Filled by mz_collection_open, released by mz_collection_close, read by any number of threads. */
typedef struct mz_collection {
    mz_collection_series *series; /* [n_series] */
    mz_collection_group *groups;  /* [n_groups] */
    float *values;                /* of TABLE and MEMORY, each series at mean 0 and deviation 1 */
    struct mz_binary *binary;     /* the mapped folder, in place of `values` */
    int64_t n_series, n_groups, n_points;
    int64_t n_skipped; /* series left out */
} mz_collection;

/* Reads or maps the source (all but GENERATOR). Series with fewer than `min_points` observed values
 * or with an error of their own are left out. Errors: those of mz_series_open and mz_binary_open;
 * MISSING when nothing is left; LIMIT for more than 4096 groups; ARG for a group_power outside
 * 0..1. */
mz_status mz_collection_open(mz_context *ctx, const mz_series_source *source, int64_t min_points,
                             mz_collection *out);
void mz_collection_close(mz_context *ctx, mz_collection *collection);

/* A series drawn with the collection's probabilities. */
int64_t mz_collection_draw(const mz_collection *collection, mz_draw *draw);

/* Values [from, from + n) of a series, which has them: finite, shifted and scaled by what is the
 * same for the whole series. */
void mz_collection_read(const mz_collection *collection, int64_t series, int64_t from, int64_t n,
                        float *out);

#ifdef __cplusplus
}
#endif
#endif
