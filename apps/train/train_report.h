/* What a training reports, for people. */
#ifndef MZ_APPS_TRAIN_TRAIN_REPORT_H
#define MZ_APPS_TRAIN_TRAIN_REPORT_H

#include "apps/zoo/trainable.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The loss and its parts for people: "0.1234 (huber 0.12, balance 0.0034)". Returns `out`. */
const char *mz_train_report_text(const mz_train_report *report, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
