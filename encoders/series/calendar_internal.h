/* What the parts of the calendar share: civil dates, the numbers in a stamp's text, grids. */
#ifndef MZ_ENCODERS_SERIES_CALENDAR_INTERNAL_H
#define MZ_ENCODERS_SERIES_CALENDAR_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "encoders/series/calendar.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MZ_SECOND_US INT64_C(1000000)
#define MZ_DAY_US INT64_C(86400000000)

/* a / b and a mod b for b > 0, rounded down. */
int64_t mz_floor_div(int64_t a, int64_t b);
int64_t mz_floor_mod(int64_t a, int64_t b);

typedef struct mz_civil {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
} mz_civil;

/* Days since 1970-01-01, and back; any year up to 10^9. */
int64_t mz_civil_days(int64_t year, int month, int day);
mz_civil mz_civil_of(int64_t days);
int mz_civil_month_days(int64_t year, int month);
int mz_civil_weekday(int64_t days); /* 0 Monday to 6 Sunday */
/* Monday of ISO 8601 week 1, the week of 4 January. */
int64_t mz_civil_first_week(int64_t year);

/* "jan" to "dec" are 1 to 12, with `is_long` for whole names; 0: none. Any case. */
int mz_civil_month_named(const char *name, size_t n_bytes, bool *is_long);
/* "January" or, cut, "Jan". */
const char *mz_civil_month_name(int month);

/* The numbers of a stamp as they stand in the text. In the layouts DMY and MDY `month` is the first
 * number and `day` the second: scanning leaves open which is which, except behind a point (DMY). */
typedef struct mz_stamp_numbers {
    mz_stamp_form form;
    int64_t year; /* seconds or milliseconds of an epoch */
    int month;    /* quarter, week */
    int day;
    int64_t clock_us; /* time of day, up to 24:00; fraction of an epoch's second */
} mz_stamp_numbers;

/* False for text of no known form. The layout of 01/02/2024 is MDY. */
bool mz_stamp_scan(const char *text, size_t n_bytes, mz_stamp_numbers *out);

/* True for text that would be a stamp if a number of two digits in it were a year of the 2000s. */
bool mz_stamp_has_short_year(const char *text, size_t n_bytes);

/* The stamp of numbers read in `layout`, on the local clock. False for dates that do not exist. */
bool mz_stamp_compose(const mz_stamp_numbers *numbers, mz_stamp_layout layout, mz_stamp *out);

/* Where a stamp lies on the grid of single units (n is not looked at): the number of the last unit
 * that began at or before it, and the time since. The time is below a day when the date is on the
 * anchor. */
typedef struct mz_grid_place {
    int64_t unit;
    int64_t rest_us;
} mz_grid_place;

/* Not for NONE. */
mz_grid_place mz_grid_place_of(const mz_frequency *freq, mz_stamp stamp);
/* False when the place is off the anchor. */
bool mz_grid_is_anchored(const mz_grid_place *place);

#ifdef __cplusplus
}
#endif
#endif
