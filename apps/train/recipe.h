/* A training's recipe: a JSON file that says everything but how many threads run. docs/train.md is
 * its manual; here is what it looks like once it is read and checked. */
#ifndef MZ_APPS_TRAIN_RECIPE_H
#define MZ_APPS_TRAIN_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "core/json.h"
#include "core/optimizer.h"
#include "core/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_TRAIN_MAX_SOURCES = 64, MZ_TRAIN_MAX_GROUPS = 16, MZ_TRAIN_MAX_TARGETS = 32 };

typedef enum mz_train_dtype { MZ_TRAIN_F32 = 0, MZ_TRAIN_BF16 } mz_train_dtype;

typedef enum mz_train_job { MZ_TRAIN_FORECAST = 0 } mz_train_job;

/* Either a fresh model (config) or one to go on with (checkpoint), the latter with LoRA or all of
 * it. */
typedef struct mz_train_model {
    const json_t *config;   /* config.json of the family; NULL: a checkpoint */
    int64_t seed;           /* of the first weights, or of LoRA's */
    double deviation;       /* of the first matrices; 0: 1 / sqrt(d_in) */
    const char *checkpoint; /* folder; NULL: a fresh model */
    bool has_lora;
    int64_t lora_rank;
    double lora_alpha;
    bool lora_rslora; /* scale alpha / sqrt(rank) in place of alpha / rank */
    const char *lora_targets[MZ_TRAIN_MAX_TARGETS]; /* as mz_lora_config has them */
    int n_lora_targets;
} mz_train_model;

typedef enum mz_train_source_kind {
    MZ_TRAIN_JSONL = 0,
    MZ_TRAIN_CSV,
    MZ_TRAIN_TIME_MOE,
    MZ_TRAIN_SYNTHETIC
} mz_train_source_kind;

/* How the series of a group share its windows. */
typedef enum mz_train_weighting {
    MZ_TRAIN_BY_SQRT_LENGTH = 0,
    MZ_TRAIN_BY_LENGTH,
    MZ_TRAIN_EVENLY
} mz_train_weighting;

typedef struct mz_train_source {
    mz_train_source_kind kind;
    const char *path; /* NULL for synthetic */
    /* Of CSV: the columns of series, of their ids, of dates and of values; NULL: found. */
    const char *columns, *id, *time, *value;
    double weight; /* share of the windows drawn from here, relative to the others' */
    mz_train_weighting weighting;
    double group_power; /* 0 to 1: groups of series share by (points)^group_power */
} mz_train_source;

/* How often each change is made to a window, 0 to 1. */
typedef struct mz_train_augment {
    double mix, aggregate, interpolate, gain, trend, jump, censor, negate, reverse;
} mz_train_augment;

typedef struct mz_train_data {
    mz_train_source sources[MZ_TRAIN_MAX_SOURCES];
    int n_sources;
    int64_t context, horizon, min_points; /* points of a window; of a series that is used at all */
    int64_t seed;
    double full_share; /* of the windows that are as long as can be */
    double late_share; /* and of those in which only the last points are scored */
    bool even_weights; /* each window counts the same */
    mz_train_augment augment;
} mz_train_data;

typedef enum mz_train_loss_kind {
    MZ_TRAIN_LOSS_AUTO = 0, /* pinball for heads with quantile levels, huber for others */
    MZ_TRAIN_HUBER,
    MZ_TRAIN_PINBALL
} mz_train_loss_kind;

typedef struct mz_train_loss {
    mz_train_loss_kind kind;
    double row_power;      /* 0: each scored point counts alike; 1: each window */
    double delta;          /* of huber: where the square becomes a line */
    double balance_factor; /* of the loss that balances experts; 0: none */
    bool balance_per_layer;
    double router_z; /* factor of the squared logsumexp of router logits; 0: none */
} mz_train_loss;

/* Created by mz_train_recipe_load; not to be copied, since it points into itself. */
typedef struct mz_train_recipe {
    char *path; /* of the file, for messages */
    mz_train_job job;
    mz_train_model model;
    mz_train_data data;
    mz_train_loss loss;
    mz_optimizer_config optimizer; /* its groups are those below */
    mz_optimizer_group groups[MZ_TRAIN_MAX_GROUPS];
    mz_schedule schedule;
    int64_t batch_points, batch_tokens; /* of a micro-batch, at most; one of the two is 0 */
    int64_t accumulate;                 /* micro-batches of a step */
    mz_train_dtype precision;           /* of the products */
    bool recompute;                     /* activations are computed twice, not kept */
    int64_t evaluation_every;           /* steps; 0: only at the end */
    int64_t evaluation_examples;        /* 0: no evaluation */
    int64_t checkpoint_every;           /* steps; 0: not by steps */
    double checkpoint_every_s;          /* seconds; 0: not by time */
    int64_t checkpoint_keep;
    mz_train_dtype save_dtype;
    const char *output; /* folder; NULL: not in the recipe */
    json_t *document;   /* the texts above are its own, or those in `owned` */
    char **owned;
    size_t n_owned, owned_capacity;
} mz_train_recipe;

/* Reads `path` with the changes `sets` ("schedule.steps=100": a path of keys and indices, and a
 * JSON value or a bare text), checks every key and value, and makes its paths relative to the
 * working folder. *out is all zero on failure; released with mz_train_recipe_free. Errors, in one
 * line with file, key, expected and actual value: IO, NOMEM, FORMAT (an unknown key too, with the
 * nearest known one), LIMIT (values more than 100 deep, too), MISSING; ARG for a change that is
 * none. */
mz_status mz_train_recipe_load(mz_context *ctx, const char *path, const char *const *sets,
                               int n_sets, mz_train_recipe *out);
void mz_train_recipe_free(mz_context *ctx, mz_train_recipe *recipe);

#ifdef __cplusplus
}
#endif
#endif
