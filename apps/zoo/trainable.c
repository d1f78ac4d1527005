#include "apps/zoo/trainable.h"

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

void mz_train_report_add(mz_train_report *sum, const mz_train_report *part, double share) {
    for (int i = 0; i < part->n_parts; i++) {
        sum->part[part_index(sum, part->part_name[i])] += share * part->part[i];
    }
    sum->loss += share * part->loss;
    sum->n_tokens += part->n_tokens;
    sum->n_points += part->n_points;
    sum->n_layers = part->n_layers;
    for (int i = 0; i < part->n_layers && i < MZ_MAX_TRACKED_LAYERS; i++) {
        sum->busiest[i] += share * part->busiest[i];
        sum->idlest[i] += share * part->idlest[i];
    }
}
