#include "core/ops_backward.h"

bool mz_gradient_wanted(const mz_tensor *gradient) {
    return gradient != NULL && gradient->n_dims != 0;
}
