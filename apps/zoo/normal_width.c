#include "apps/zoo/normal_width.h"

#include <math.h>

/* By bisection of erf. */
double mz_normal_width(double level) {
    double low = 0;
    double high = 40;
    for (int i = 0; i < 100; i++) {
        const double mid = (low + high) / 2;
        if (erf(mid / sqrt(2.0)) < level) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
}
