/* What a trainer needs of a model together with its data. A job (series, later text and others)
 * fills it in; apps/train/ drives it. */
#ifndef MZ_APPS_ZOO_TRAINABLE_H
#define MZ_APPS_ZOO_TRAINABLE_H

#include "core/parameters.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_MAX_LOSS_PARTS = 8, MZ_MAX_TRACKED_LAYERS = 128 };

/* What one micro-batch gave; the trainer adds the micro-batches of a step. */
typedef struct mz_train_report {
    int n_parts;
    const char *part_name[MZ_MAX_LOSS_PARTS]; /* "huber", "balance", ...; static text */
    double part[MZ_MAX_LOSS_PARTS];           /* weighted as in the loss: they sum to it */
    double loss;
    int64_t n_tokens, n_points; /* that the model has seen; points are values of series */
    int n_layers;               /* with experts */
    double busiest[MZ_MAX_TRACKED_LAYERS]; /* share of slots of each layer's busiest expert */
    double idlest[MZ_MAX_TRACKED_LAYERS];  /* and of its idlest; even is 1 / n_experts */
} mz_train_report;

/* Adds `part` to `sum` (all zero before the first): losses, parts and shares of experts times
 * `share`, so that shares which sum to 1 give means; counts as they are. Parts of the loss are
 * matched by name, layers by place. */
void mz_train_report_add(mz_train_report *sum, const mz_train_report *part, double share);

/* Owned by whoever created it; one thread. */
typedef struct mz_trainable {
    void *self;
    mz_parameters *parameters; /* all of the model, or of the adapter over it; owned by self */
    /* Adds to the gradients those of loss / n_micro of micro-batch `micro` (below n_micro) of
     * `step`. A pure function of (parameters, step, micro): training resumes without further
     * state. */
    mz_status (*gradients)(void *self, int64_t step, int micro, int n_micro,
                           mz_train_report *report);
    /* Loss on held-out data; gradients are untouched. NULL: there is none. */
    mz_status (*evaluate)(void *self, mz_train_report *report);
    /* Writes the model as its authors publish it (config.json, model.safetensors), or the adapter
     * as PEFT does (adapter_config.json, adapter_model.safetensors), into the existing folder
     * `dir`, with `values` [parameters->n] in place of the parameters' own where not NULL (their
     * moving average), in `dtype`. Each file replaces its target only when complete. */
    mz_status (*save)(void *self, const char *dir, const mz_tensor *values, mz_dtype dtype);
    void (*destroy)(void *self); /* accepts NULL */
} mz_trainable;

#ifdef __cplusplus
}
#endif
#endif
