/* Training a forecaster on windows of series: the trainable (apps/zoo/trainable.h) of that job. */
#ifndef MZ_APPS_ZOO_SERIES_TRAINING_H
#define MZ_APPS_ZOO_SERIES_TRAINING_H

#include "adapters/lora_config.h"
#include "apps/zoo/forecaster_training.h"
#include "apps/zoo/trainable.h"
#include "core/json.h"
#include "encoders/series/series_sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_series_training_config {
    /* the model: a checkpoint's folder, or (NULL) a fresh one of this config.json */
    const char *checkpoint;
    const json_t *model_config;
    const char *model_name; /* what messages call the config */
    mz_init init;
    mz_precision precision;
    bool recompute;
    /* a low-rank adapter over the checkpoint, which then stays as it is: a fresh one, or (lora
     * NULL) that in the folder `adapter`; both NULL: the model itself is trained */
    const mz_lora_config *lora;
    uint64_t lora_seed;
    const char *adapter;
    /* the data */
    mz_series_sampler_config sampler;
    int64_t batch_points; /* of a micro-batch: windows are added while they fit; one at least */
    int64_t evaluation_examples; /* windows of an evaluation; 0: none */
    /* A window's loss counts with the window's weight (encoders/series/series_sampler.h) times
     * (rows that are scored)^-row_power: 0, every point counts alike; 1, every window does. */
    double row_power;
    mz_forecast_loss loss;
} mz_series_training_config;

/* Window -> rows: the window is scaled by mean and deviation of its first n_context values (and
 * transformed as the model wants it), and cut so that a row ends with value n_context. That row and
 * those behind it are scored, each by what its heads say of the values behind it. Evaluation draws
 * windows that training never does, from the same sources.
 * Parameters are all the model's, or those of the adapter: then the base is read where it is
 * mapped, and `save` writes the adapter's folder. Errors: those of the sampler and of loading; ARG
 * for an adapter without a checkpoint, or both a fresh and a loaded one; LIMIT for a batch whose
 * rows would not fit into the machine's memory. */
mz_status mz_series_training_create(mz_context *ctx, const mz_series_training_config *config,
                                    mz_trainable **out);

/* What a dry run tells: lives as long as the trainable. */
const mz_series_sampler *mz_series_training_sampler(const mz_trainable *trainable);
/* The forecaster that is trained, as its parameters stand; it may forecast between the steps. */
mz_forecaster *mz_series_training_forecaster(const mz_trainable *trainable);
/* Whether its heads answer quantiles, judged by the pinball loss, and not points. */
bool mz_series_training_has_levels(const mz_trainable *trainable);
size_t mz_series_training_peak_bytes(const mz_trainable *trainable);
void mz_series_training_set_profile(mz_trainable *trainable, mz_profile *profile);

#ifdef __cplusplus
}
#endif
#endif
