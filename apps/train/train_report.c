#include "apps/train/train_report.h"

#include <stdio.h>

const char *mz_train_report_text(const mz_train_report *report, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = -1; i < report->n_parts && report->n_parts != 1 && used < size; i++) {
        const int n = i < 0 ? snprintf(out, size, "%.4g", report->loss)
                            : snprintf(out + used, size - used, "%s%s %.4g", i > 0 ? ", " : " (",
                                       report->part_name[i], report->part[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (report->n_parts == 1) {
        (void)snprintf(out, size, "%.4g", report->loss);
    } else if (report->n_parts > 1 && used + 1 < size) {
        (void)snprintf(out + used, size - used, ")");
    }
    return out;
}
