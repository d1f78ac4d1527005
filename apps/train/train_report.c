#include "apps/train/train_report.h"

#include <stdio.h>
#include <string.h>

static int part_index(mz_train_report *sum, const char *name) {
    for (int i = 0; i < sum->n_parts; i++) {
        if (strcmp(sum->part_name[i], name) == 0) {
            return i;
        }
    }
    if (sum->n_parts == MZ_MAX_LOSS_PARTS) {
        return MZ_MAX_LOSS_PARTS - 1;
    }
    sum->part_name[sum->n_parts] = name;
    return sum->n_parts++;
}

void mz_train_report_add(mz_train_report *sum, const mz_train_report *micro, int n_micro) {
    for (int i = 0; i < micro->n_parts; i++) {
        sum->part[part_index(sum, micro->part_name[i])] += micro->part[i] / n_micro;
    }
    sum->loss += micro->loss / n_micro;
    sum->n_tokens += micro->n_tokens;
    sum->n_points += micro->n_points;
    sum->n_layers = micro->n_layers;
    for (int i = 0; i < micro->n_layers && i < MZ_MAX_TRACKED_LAYERS; i++) {
        sum->busiest[i] += micro->busiest[i] / n_micro;
        sum->idlest[i] += micro->idlest[i] / n_micro;
    }
}

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
