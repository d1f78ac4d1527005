/* Points in time, the forms they are written in, and the frequency of a series.
 *
 * The calendar is the proleptic Gregorian one, without leap seconds and without time zone rules: a
 * zone is a fixed offset from UTC that stands in the text. Nothing here allocates except where a
 * context is asked for; all of it may be called from any thread. */
#ifndef MZ_ENCODERS_SERIES_CALENDAR_H
#define MZ_ENCODERS_SERIES_CALENDAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Microseconds since 1970-01-01 00:00 of the clock that the text shows: the UTC offset, if any, is
 * kept once for a column, in its form. Digits below the microsecond are cut off. */
typedef int64_t mz_stamp;
#define MZ_STAMP_MIN INT64_C(-62135596800000000) /* 0001-01-01 00:00 */
#define MZ_STAMP_MAX INT64_C(253402300799999999) /* 9999-12-31 23:59:59.999999 */

/* ---- forms ---- */

typedef enum mz_stamp_layout {
    MZ_STAMP_YMD = 0,     /* 2024-01-31, 2024/01/31, 20240131 */
    MZ_STAMP_DMY,         /* 31.01.2024 (points: always day first), 31/01/2024, 31-01-2024 */
    MZ_STAMP_MDY,         /* 01/31/2024, 01-31-2024 */
    MZ_STAMP_MONTH,       /* 2024-01, 2024/01, 202401: the month's first day */
    MZ_STAMP_QUARTER,     /* 2024Q1, 2024-Q1: its first day */
    MZ_STAMP_YEAR,        /* 2024: its first day */
    MZ_STAMP_WEEK,        /* 2024-W05, 2024W05: Monday of the ISO 8601 week */
    MZ_STAMP_NAMED_MONTH, /* Jan 2024, January 2024, Jan-2024 */
    MZ_STAMP_NAMED_DAY,   /* 1 Jan 2024, 1 January 2024, 1-Jan-2024 */
    MZ_STAMP_NAMED_MDY,   /* Jan 1, 2024, January 1 2024 */
    MZ_STAMP_EPOCH_S,     /* seconds since 1970 in 9 or 10 digits, with or without a fraction */
    MZ_STAMP_EPOCH_MS,    /* milliseconds in 12 or 13 */
} mz_stamp_layout;

/* How the stamps of a column are written. The first three layouts and the two named ones with a day
 * may carry a time, YMD and the named ones a zone behind it. All zero means YYYYMMDD. */
typedef struct mz_stamp_form {
    mz_stamp_layout layout;
    char separator;        /* within the date, 0: none */
    bool is_unpadded;      /* 1/2/2024 for 01/02/2024 */
    bool is_long_name;     /* January */
    bool has_comma;        /* behind the day of NAMED_MDY */
    char time_separator;   /* 'T' or ' ' */
    int8_t n_clock;        /* numbers of the time of day: 0 none, 1 hh, 2 hh:mm, 3 hh:mm:ss */
    int8_t n_fraction;     /* digits of a second, 0 to 6 */
    bool is_hour_unpadded; /* 3:04 for 03:04 */
    bool is_twelve_hours;  /* 1:30 PM */
    bool has_zone;         /* +hh:mm, or one of the following */
    bool is_zone_letter;   /* Z */
    bool is_zone_name;     /* " UTC" */
    bool is_zone_plain;    /* +hhmm */
    int32_t offset_s;      /* of the zone, east of Greenwich positive */
} mz_stamp_form;

enum { MZ_STAMP_BYTES = 64 };

/* The form YYYY-MM-DD. */
mz_stamp_form mz_stamp_form_iso(void);

/* Writes the stamp as the form says. Where that would lose part of it (a time in a form of dates,
 * a day in a form of months) an ISO date or the time is written instead. Returns `out`. */
char *mz_stamp_format(const mz_stamp_form *form, mz_stamp stamp, char out[MZ_STAMP_BYTES]);

/* Writes the form for a message: YYYY-MM-DD hh:mm:ss, MM/DD/YYYY, YYYYQn, ... Returns `out`. */
char *mz_stamp_pattern(const mz_stamp_form *form, char out[MZ_STAMP_BYTES]);

/* Reads one stamp, blanks around it allowed: the layouts above with years 0001 to 9999 in four
 * digits, a time hh[:mm[:ss[.fraction]]] behind 'T' or a blank (24:00 is the next midnight; AM and
 * PM), a zone Z, UTC, +hh:mm, +hhmm or +hh. Where day and month cannot be told apart the month
 * comes first. False, with the results untouched, for anything else. */
bool mz_stamp_parse(const char *text, size_t n_bytes, mz_stamp_form *form, mz_stamp *out);

/* ---- columns ---- */

/* A text remembered for messages and reports. */
typedef struct mz_stamp_sighting {
    int64_t row; /* as the caller counts; 0: nowhere */
    char text[MZ_STAMP_BYTES];
} mz_stamp_sighting;

/* Finds the one form of a column while its rows pass by, without storing them. All zero before the
 * first row but for day_first; owns nothing. Between mz_stamp_column_add and mz_stamp_column_settle
 * a stamp is provisional: what 01/02/2024 means may only be decided by a later row. */
typedef struct mz_stamp_column {
    bool day_first;     /* the caller's: 01/02/2024 is 1 February where no row tells */
    mz_stamp_form form; /* final after settling */
    int64_t n_rows;
    mz_stamp_sighting first;    /* the first row */
    mz_stamp_sighting by_day;   /* row that cannot be month first */
    mz_stamp_sighting by_month; /* row that cannot be day first */
    mz_stamp_sighting zoned, unzoned;
    mz_stamp_sighting other_zone; /* first row with the second offset */
    int32_t offset_s, other_s;    /* the two offsets */
    bool is_past_midnight;        /* some local time is not 00:00 */
    bool is_settled;              /* results from here on */
    bool is_ambiguous;            /* neither row nor caller tells: the month was taken as first */
    bool is_utc;   /* two offsets, an hour or less apart (summer time): read as UTC */
    bool is_local; /* the same, but midnights of the local clock: read as dates */
} mz_stamp_column;

/* Reads the next row; `row` is its number in messages. Rows with and without a time of day mix (no
 * time is midnight), other forms do not. *out is provisional.
 * Errors: FORMAT, naming row, text and the expected form, and the contradicting row for day and
 * month and for zones (rows with and without one; offsets that differ by more than an hour; a third
 * offset); UTC times beyond the range of mz_stamp. The column is then of no further use. */
mz_status mz_stamp_column_add(mz_context *ctx, mz_stamp_column *column, const char *text,
                              size_t n_bytes, int64_t row, mz_stamp *out);

/* After the last row: decides the order of day and month and the zone. */
void mz_stamp_column_settle(mz_stamp_column *column);

/* The final stamp of a provisional one, in a settled column. */
mz_stamp mz_stamp_column_value(const mz_stamp_column *column, mz_stamp provisional);

enum { MZ_STAMP_NOTE_BYTES = 320 };
/* Writes what the caller should tell about a settled column (an assumed order of day and month, a
 * conversion to UTC or to local dates), or nothing. False when there is nothing to tell. */
bool mz_stamp_column_note(const mz_stamp_column *column, char out[MZ_STAMP_NOTE_BYTES]);

/* ---- frequencies ---- */

typedef enum mz_frequency_kind {
    MZ_FREQUENCY_NONE = 0, /* unknown or irregular */
    MZ_FREQUENCY_SECOND,
    MZ_FREQUENCY_MINUTE,
    MZ_FREQUENCY_HOUR,
    MZ_FREQUENCY_DAY,
    MZ_FREQUENCY_BUSINESS_DAY, /* Monday to Friday; holidays are unknown */
    MZ_FREQUENCY_WEEK,         /* on `day`: 0 Monday to 6 Sunday */
    MZ_FREQUENCY_MONTH_START,
    MZ_FREQUENCY_MONTH_END,
    MZ_FREQUENCY_MONTH_DAY,     /* on `day` 1 to 31, or the last day of a shorter month */
    MZ_FREQUENCY_QUARTER_START, /* first of `month` 1 to 3 and each third month from it */
    MZ_FREQUENCY_QUARTER_END,   /* last of `month` 10 to 12 and each third month from it */
    MZ_FREQUENCY_YEAR_START,    /* first of `month` 1 to 12 */
    MZ_FREQUENCY_YEAR_END,      /* last of `month` */
    MZ_FREQUENCY_YEAR_DATE,     /* `day` of `month`, 29 February becomes 28 */
    MZ_FREQUENCY_COUNT,
} mz_frequency_kind;

/* One stamp every n units. Members that a kind does not use are 0. */
typedef struct mz_frequency {
    mz_frequency_kind kind;
    int32_t n;    /* 1 to MZ_FREQUENCY_MAX_N */
    int8_t month; /* see the kinds */
    int8_t day;   /* see the kinds */
    bool is_open; /* named without its anchor ("W", "M", "Q", "Y"): mz_frequency_anchor sets it */
} mz_frequency;

enum { MZ_FREQUENCY_MAX_N = 1000000, MZ_FREQUENCY_BYTES = 32 };

bool mz_frequency_equal(const mz_frequency *a, const mz_frequency *b);

/* Reads a name as pandas writes it, with an optional multiple in front: S/s/sec, T/min, H/h, D, B,
 * W and W-MON to W-SUN, MS, M/ME, QS, Q/QE, YS/AS, Y/YE/A with -JAN to -DEC behind the last four
 * pairs. Our own: MD-15 (each month on day 15), YD-MAR-15. "W", "M", "Q", "Y" and "A" are open: the
 * weekday, or start, end or day, is that of the stamps (pandas: Sunday, and end).
 * Errors: ARG, naming what is known. */
mz_status mz_frequency_parse(mz_context *ctx, const char *text, mz_frequency *out);

/* Writes a name that parses to the same frequency: s, min, h, D, B, W-MON, MS, ME, QS, QE-NOV, ...
 * with the multiple in front unless it is 1; "irregular" for NONE. Returns `out`. */
char *mz_frequency_name(const mz_frequency *freq, char out[MZ_FREQUENCY_BYTES]);

/* Gives an open frequency the anchor of `stamp`; others stay as they are. A month that begins on
 * its 1st is MONTH_START, one stamped on its last day MONTH_END, else MONTH_DAY; quarters and years
 * alike (quarters on another day become months times 3). */
void mz_frequency_anchor(mz_frequency *freq, mz_stamp stamp);

/* The stamp k periods after `from` (before it for k < 0). The time of day is kept. A stamp whose
 * date is off the anchor (a Saturday in business days, 15 January in month ends) counts as lying
 * between two grid points, as in pandas (Timestamp + k * offset): one period later is the next of
 * them, one earlier the previous, and with a multiple n the n-th; k = 0 gives it back. False, with
 * *out untouched, for NONE and when the result leaves [MZ_STAMP_MIN, MZ_STAMP_MAX]. */
bool mz_frequency_step(const mz_frequency *freq, mz_stamp from, int64_t k, mz_stamp *out);

/* *k = the largest k with step(from, k) <= to, for `from` on the anchor. True when they are equal,
 * which is when `to` lies on the grid through `from`. NONE: false and 0. */
bool mz_frequency_count(const mz_frequency *freq, mz_stamp from, mz_stamp to, int64_t *k);

/* Finds the frequency of n strictly increasing stamps: that of their most common step, in the unit
 * (days, business days, weeks, months, ...) that leaves the fewest stamps missing or off the grid.
 * Multiples are given in the largest unit: 60 s are 1 min, 7 days a week, 3 months from the first
 * a quarter. NONE for n < 2, for steps of no whole seconds, when over half of the stamps are off
 * the grid, and when over half of them follow a gap and nine of ten grid points are missing. On
 * regular stamps the answer is pandas.infer_freq's, where that has one (not for 2B and other
 * multiples). Two stamps are a guess; who wants none asks for three. Errors: NOMEM. */
mz_status mz_frequency_infer(mz_context *ctx, const mz_stamp *stamps, int64_t n, mz_frequency *out);

/* One kind of fault in a column of stamps. */
typedef struct mz_stamp_fault {
    int64_t count;
    int64_t first; /* index of the first stamp at fault, -1: none */
} mz_stamp_fault;

typedef struct mz_stamp_check {
    mz_stamp_fault disorder;  /* earlier than the stamp before it */
    mz_stamp_fault duplicate; /* equal to the stamp before it */
    mz_stamp_fault off_grid;  /* not on the grid of most stamps */
    mz_stamp_fault gap;       /* at least one grid point is missing right before it */
    int64_t n_missing;        /* grid points missing in all gaps */
    mz_stamp origin;          /* the first stamp on the grid */
} mz_stamp_check;

/* Holds n stamps against a frequency (not open). Gaps are counted between stamps that are in order
 * and on the grid. With NONE only order and duplicates are looked at. */
void mz_stamp_check_run(const mz_frequency *freq, const mz_stamp *stamps, int64_t n,
                        mz_stamp_check *out);

/* ---- seasons ---- */

/* Points in a season: second 60, minute 60 (a day of 1440 from three days of values on), hour 24,
 * day 7, business day 5, week 52, month 12, quarter 4, year 1. A multiple n divides the number (of
 * a day for minutes, of an hour for seconds: 15min 96, 10s 360) where it goes in evenly, else the
 * season is 1; NONE gives 1. */
int64_t mz_season_length(const mz_frequency *freq, int64_t n_values);

/* Looks for a season in n values (NaN: missing; gaps are filled by lines). The correlation of a
 * season is that of the values a season apart, after the mean of the season around each was taken
 * off, which removes level, trend and wandering. `expected` >= 2 (mz_season_length's answer) is
 * confirmed when this correlation, or that of the first differences, exceeds the bound of
 * Bartlett's formula (5 % for both together) and n is at least three seasons, or when the means of
 * a season's points explain 64 % of the variance (Wang, Smith and Hyndman 2006). With `expected` 0
 * (unknown) the season is the shortest peak within 10 % of the highest from lag 2 to n / 3, moved
 * to where its multiples agree, and the bound counts all lags looked at. *season is 1 when none is
 * significant. Only the newest max(8192, 10 seasons) values are used. Errors: NOMEM. */
mz_status mz_season_detect(mz_context *ctx, const double *values, int64_t n, int64_t expected,
                           int64_t *season);

#ifdef __cplusplus
}
#endif
#endif
