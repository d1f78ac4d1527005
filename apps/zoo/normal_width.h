/* The standard normal distribution, for bands. */
#ifndef MZ_APPS_ZOO_NORMAL_WIDTH_H
#define MZ_APPS_ZOO_NORMAL_WIDTH_H

#ifdef __cplusplus
extern "C" {
#endif

/* Half-width of the band around 0 that holds the share `level` of it, 0 <= level <= 1: its quantile
 * of (1 + level) / 2. Finite: where erf is 1 to the last bit, the first such width. */
double mz_normal_width(double level);

#ifdef __cplusplus
}
#endif
#endif
