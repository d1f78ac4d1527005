/* Training that keeps the best state it has seen, and the first one where none is better. */
#ifndef MZ_APPS_FORECAST_TUNE_TRAIN_H
#define MZ_APPS_FORECAST_TUNE_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/zoo/trainable.h"
#include "core/context.h"

/* Why a training ended. */
typedef enum mz_tune_end {
    MZ_TUNE_DONE = 0,    /* all steps are done */
    MZ_TUNE_NO_GAIN,     /* it did not get better any more */
    MZ_TUNE_TIME,        /* the time was up, though the steps were to fit */
    MZ_TUNE_INTERRUPTED, /* it was asked to */
    MZ_TUNE_DIVERGED,    /* a loss or gradient was not finite */
} mz_tune_end;

typedef struct mz_tune_training {
    int64_t n_steps;     /* planned; above 0 */
    bool fixed_steps;    /* they are done whatever the time; else as many as fit it */
    double seconds;      /* above 0 */
    double lr;           /* the highest: warm-up, then a cosine down to a tenth of it */
    double weight_decay; /* see core/optimizer.h */
    int n_micro;         /* micro-batches of a step */
    bool quiet;          /* no bar */
    /* How good the parameters are as they stand, less is better. Errors end the training. */
    mz_status (*score)(void *self, double *out);
    bool (*stop)(void *self); /* asked after each step; NULL: never */
    void *self;
} mz_tune_training;

typedef struct mz_tune_trained {
    int64_t n_steps;    /* done */
    int64_t n_planned;  /* that were to be done, after looking at the time */
    int64_t best_step;  /* after which the parameters are as they are now; 0: as they were */
    double first, best; /* scores of the first state and of the best */
    double loss;        /* of the last step; NaN: none */
    double seconds;
    mz_tune_end end;
} mz_tune_trained;

/* Trains t's parameters and leaves them in the state that scored lowest, the first one included.
 * The time decides nothing but how many steps there are: with the same number the result is the
 * same. Errors: those of the trainable (but what is not finite), of the score and of the optimizer;
 * NOMEM. */
mz_status mz_tune_train(mz_context *ctx, const mz_trainable *t, const mz_tune_training *config,
                        mz_tune_trained *out);

#endif
