/* The learning rate at each step of a training. */
#ifndef MZ_CORE_SCHEDULE_H
#define MZ_CORE_SCHEDULE_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_schedule_kind {
    MZ_SCHEDULE_CONSTANT = 0, /* lr */
    MZ_SCHEDULE_COSINE,       /* down to min_lr at total_steps */
    MZ_SCHEDULE_WSD,          /* lr, then down to min_lr over the last decay_steps */
    MZ_SCHEDULE_COUNT
} mz_schedule_kind;

typedef struct mz_schedule {
    mz_schedule_kind kind;
    double lr;            /* the highest */
    double min_lr;        /* reached at total_steps; not used by constant */
    int64_t warmup_steps; /* with every kind */
    int64_t total_steps;  /* not used by constant */
    int64_t decay_steps;  /* wsd only */
} mz_schedule;

/* Errors: ARG naming the field: a rate that is not finite, lr below or at 0, min_lr outside
 * [0, lr], a number of steps below 0, warm-up (and decay) that are longer than total_steps. */
mz_status mz_schedule_check(mz_error *err, const mz_schedule *schedule);

/* The rate of step s = 0, 1, ... of a schedule that mz_schedule_check accepts. With W warm-up steps
 * and T in all:
 *   s < W:      lr (s + 1) / W, so that the first step already learns
 *   constant:   lr
 *   cosine:     min_lr + (lr - min_lr) (1 + cos(pi p)) / 2,    p = (s - W) / (T - W)
 *   wsd:        lr until T - D, then min_lr + (lr - min_lr) (1 - sqrt(p)),   p = (s - (T - D)) / D
 * p is at most 1: from T on the rate is min_lr. Cosine is Time-MoE's (its trainer calls it
 * cosine_with_min_lr). Wsd is warm-up, stable, decay (Hu et al. 2024): what was trained at the
 * stable rate can be continued, and decayed at any time. 1 - sqrt(p) and not a line, since Haegele
 * et al. 2024 (section 3.2) measured lower losses with it at every length of decay. */
double mz_schedule_at(const mz_schedule *schedule, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
