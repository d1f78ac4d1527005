/* Frequencies: their names, and steps on their grids. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "encoders/series/calendar_internal.h"

enum { MONTHS_A_QUARTER = 3, MONTHS_A_YEAR = 12 };

/* ---- grids ---- */

static int64_t unit_us(mz_frequency_kind kind) {
    switch (kind) {
    case MZ_FREQUENCY_SECOND:
        return MZ_SECOND_US;
    case MZ_FREQUENCY_MINUTE:
        return 60 * MZ_SECOND_US;
    case MZ_FREQUENCY_HOUR:
        return 3600 * MZ_SECOND_US;
    case MZ_FREQUENCY_DAY:
        return MZ_DAY_US;
    case MZ_FREQUENCY_WEEK:
        return 7 * MZ_DAY_US;
    default:
        return 0; /* not of one length */
    }
}

static int64_t months_of(mz_frequency_kind kind) {
    switch (kind) {
    case MZ_FREQUENCY_MONTH_START:
    case MZ_FREQUENCY_MONTH_END:
    case MZ_FREQUENCY_MONTH_DAY:
        return 1;
    case MZ_FREQUENCY_QUARTER_START:
    case MZ_FREQUENCY_QUARTER_END:
        return MONTHS_A_QUARTER;
    default:
        return MONTHS_A_YEAR;
    }
}

/* The date of a unit of months: the day of its anchor month, cut to the month's length. */
static int64_t days_of_months_unit(const mz_frequency *f, int64_t unit) {
    const int64_t month = unit * months_of(f->kind) + (f->month > 0 ? f->month - 1 : 0);
    const int64_t year = mz_floor_div(month, MONTHS_A_YEAR);
    const int month_of_year = (int)mz_floor_mod(month, MONTHS_A_YEAR) + 1;
    const int last = mz_civil_month_days(year, month_of_year);
    int day = last;
    if (f->kind == MZ_FREQUENCY_MONTH_DAY || f->kind == MZ_FREQUENCY_YEAR_DATE) {
        day = f->day < last ? f->day : last;
    } else if (f->kind == MZ_FREQUENCY_MONTH_START || f->kind == MZ_FREQUENCY_QUARTER_START ||
               f->kind == MZ_FREQUENCY_YEAR_START) {
        day = 1;
    }
    return mz_civil_days(year, month_of_year, day);
}

/* The date (days since 1970, or for units shorter than a day microseconds) where a unit begins. */
static int64_t start_of_unit(const mz_frequency *f, int64_t unit) {
    const int64_t us = unit_us(f->kind);
    if (f->kind == MZ_FREQUENCY_WEEK) {
        return unit * us + (f->day - 3) * MZ_DAY_US; /* unit 0 holds 1970-01-01, a Thursday */
    }
    if (us > 0) {
        return unit * us;
    }
    if (f->kind == MZ_FREQUENCY_BUSINESS_DAY) {
        return (mz_floor_div(unit, 5) * 7 + mz_floor_mod(unit, 5) - 3) * MZ_DAY_US;
    }
    return days_of_months_unit(f, unit) * MZ_DAY_US;
}

static int64_t unit_at(const mz_frequency *f, mz_stamp stamp) {
    const int64_t us = unit_us(f->kind);
    if (f->kind == MZ_FREQUENCY_WEEK) {
        return mz_floor_div(stamp - (f->day - 3) * MZ_DAY_US, us);
    }
    if (us > 0) {
        return mz_floor_div(stamp, us);
    }
    const int64_t days = mz_floor_div(stamp, MZ_DAY_US);
    if (f->kind == MZ_FREQUENCY_BUSINESS_DAY) {
        const int weekday = mz_civil_weekday(days);
        return mz_floor_div(days + 3, 7) * 5 + (weekday < 5 ? weekday : 4);
    }
    const mz_civil c = mz_civil_of(days);
    const int64_t month = c.year * MONTHS_A_YEAR + c.month - 1;
    const int64_t unit =
        mz_floor_div(month - (f->month > 0 ? f->month - 1 : 0), months_of(f->kind));
    return days_of_months_unit(f, unit) <= days ? unit : unit - 1;
}

mz_grid_place mz_grid_place_of(const mz_frequency *f, mz_stamp stamp) {
    const int64_t unit = unit_at(f, stamp);
    return (mz_grid_place){.unit = unit, .rest_us = stamp - start_of_unit(f, unit)};
}

bool mz_grid_is_anchored(const mz_grid_place *place) {
    return place->rest_us < MZ_DAY_US;
}

/* Units within 20000 years, where no product overflows. */
static int64_t max_unit(mz_frequency_kind kind) {
    const int64_t bound_us = 20000 * 366 * MZ_DAY_US;
    const int64_t us = unit_us(kind);
    if (us > 0) {
        return bound_us / us;
    }
    return bound_us /
           (kind == MZ_FREQUENCY_BUSINESS_DAY ? MZ_DAY_US : months_of(kind) * 28 * MZ_DAY_US);
}

bool mz_frequency_step(const mz_frequency *f, mz_stamp from, int64_t k, mz_stamp *out) {
    const int64_t max_units = INT64_C(400000000000); /* seconds of 10000 years, and some */
    if (f->kind == MZ_FREQUENCY_NONE || from < MZ_STAMP_MIN || from > MZ_STAMP_MAX ||
        k > max_units / f->n || k < -(max_units / f->n)) {
        return false;
    }
    if (k == 0) {
        *out = from;
        return true;
    }
    const mz_grid_place place = mz_grid_place_of(f, from);
    int64_t unit = place.unit + k * f->n;
    int64_t rest_us = place.rest_us;
    if (!mz_grid_is_anchored(&place)) {
        unit += k < 0 ? 1 : 0;
        rest_us = mz_floor_mod(from, MZ_DAY_US);
    }
    if (unit > max_unit(f->kind) || unit < -max_unit(f->kind)) {
        return false;
    }
    const mz_stamp stamp = start_of_unit(f, unit) + rest_us;
    if (stamp < MZ_STAMP_MIN || stamp > MZ_STAMP_MAX) {
        return false;
    }
    *out = stamp;
    return true;
}

bool mz_frequency_count(const mz_frequency *f, mz_stamp from, mz_stamp to, int64_t *k) {
    *k = 0;
    if (f->kind == MZ_FREQUENCY_NONE) {
        return false;
    }
    const mz_grid_place a = mz_grid_place_of(f, from);
    const mz_grid_place b = mz_grid_place_of(f, to);
    const int64_t units = b.unit - a.unit - (b.rest_us < a.rest_us ? 1 : 0);
    *k = mz_floor_div(units, f->n);
    return b.rest_us == a.rest_us && mz_floor_mod(units, f->n) == 0;
}

bool mz_frequency_equal(const mz_frequency *a, const mz_frequency *b) {
    return a->kind == b->kind && a->n == b->n && a->month == b->month && a->day == b->day &&
           a->is_open == b->is_open;
}

/* ---- names ---- */

/* What may stand behind a name. */
typedef enum suffix_kind {
    SUFFIX_NONE,
    SUFFIX_WEEKDAY,
    SUFFIX_DAY,
    SUFFIX_MONTH,
    SUFFIX_DATE
} suffix_kind;

typedef struct frequency_name {
    const char *name;
    mz_frequency_kind kind;
    suffix_kind suffix;
    bool is_open; /* without its suffix */
} frequency_name;

/* The first of a kind is the one written. */
static const frequency_name names[] = {
    {"s", MZ_FREQUENCY_SECOND, SUFFIX_NONE, false},
    {"S", MZ_FREQUENCY_SECOND, SUFFIX_NONE, false},
    {"sec", MZ_FREQUENCY_SECOND, SUFFIX_NONE, false},
    {"min", MZ_FREQUENCY_MINUTE, SUFFIX_NONE, false},
    {"T", MZ_FREQUENCY_MINUTE, SUFFIX_NONE, false},
    {"h", MZ_FREQUENCY_HOUR, SUFFIX_NONE, false},
    {"H", MZ_FREQUENCY_HOUR, SUFFIX_NONE, false},
    {"D", MZ_FREQUENCY_DAY, SUFFIX_NONE, false},
    {"d", MZ_FREQUENCY_DAY, SUFFIX_NONE, false},
    {"B", MZ_FREQUENCY_BUSINESS_DAY, SUFFIX_NONE, false},
    {"W", MZ_FREQUENCY_WEEK, SUFFIX_WEEKDAY, true},
    {"MS", MZ_FREQUENCY_MONTH_START, SUFFIX_NONE, false},
    {"ME", MZ_FREQUENCY_MONTH_END, SUFFIX_NONE, false},
    {"M", MZ_FREQUENCY_MONTH_END, SUFFIX_NONE, true},
    {"MD", MZ_FREQUENCY_MONTH_DAY, SUFFIX_DAY, false},
    {"QS", MZ_FREQUENCY_QUARTER_START, SUFFIX_MONTH, false},
    {"QE", MZ_FREQUENCY_QUARTER_END, SUFFIX_MONTH, false},
    {"Q", MZ_FREQUENCY_QUARTER_END, SUFFIX_MONTH, true},
    {"YS", MZ_FREQUENCY_YEAR_START, SUFFIX_MONTH, false},
    {"AS", MZ_FREQUENCY_YEAR_START, SUFFIX_MONTH, false},
    {"YE", MZ_FREQUENCY_YEAR_END, SUFFIX_MONTH, false},
    {"Y", MZ_FREQUENCY_YEAR_END, SUFFIX_MONTH, true},
    {"A", MZ_FREQUENCY_YEAR_END, SUFFIX_MONTH, true},
    {"YD", MZ_FREQUENCY_YEAR_DATE, SUFFIX_DATE, false},
};

static const char weekdays[] = "MONTUEWEDTHUFRISATSUN";
static const char months[] = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC";

/* The 0-based place of three letters in a row of such; -1: none. */
static int find_letters(const char *row, const char *text) {
    if (strlen(text) < 3) {
        return -1;
    }
    for (int i = 0; row[3 * i] != '\0'; i++) {
        bool is_same = true;
        for (int k = 0; k < 3; k++) {
            const char c = text[k];
            is_same = is_same && (c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c) == row[3 * i + k];
        }
        if (is_same) {
            return i;
        }
    }
    return -1;
}

/* A day of the month that fills `text`; 0: none. */
static int parse_day(const char *text, int max) {
    const size_t n = strlen(text);
    if (n < 1 || n > 2 || strspn(text, "0123456789") != n) {
        return 0;
    }
    const int day = n == 1 ? text[0] - '0' : (text[0] - '0') * 10 + text[1] - '0';
    return day <= max ? day : 0;
}

static int default_month(mz_frequency_kind kind) {
    return kind == MZ_FREQUENCY_QUARTER_END || kind == MZ_FREQUENCY_YEAR_END ? 12 : 1;
}

static int to_quarter_month(mz_frequency_kind kind, int month) {
    if (kind == MZ_FREQUENCY_QUARTER_START) {
        return (month - 1) % 3 + 1;
    }
    return kind == MZ_FREQUENCY_QUARTER_END ? (month - 1) % 3 + 10 : month;
}

static bool parse_suffix(const frequency_name *name, const char *text, mz_frequency *f) {
    if (*text == '\0') {
        f->is_open = name->is_open;
        f->day = name->kind == MZ_FREQUENCY_WEEK ? 6 : 0;
        f->month = name->suffix == SUFFIX_MONTH ? (int8_t)default_month(name->kind) : 0;
        f->month = (int8_t)to_quarter_month(f->kind, f->month);
        return name->suffix == SUFFIX_NONE || name->suffix == SUFFIX_WEEKDAY ||
               name->suffix == SUFFIX_MONTH;
    }
    if (*text++ != '-') {
        return false;
    }
    if (name->suffix == SUFFIX_WEEKDAY) {
        f->day = (int8_t)find_letters(weekdays, text);
        return f->day >= 0 && text[3] == '\0';
    }
    if (name->suffix == SUFFIX_DAY) {
        f->day = (int8_t)parse_day(text, 31);
        return f->day > 0;
    }
    const int month = find_letters(months, text) + 1;
    if (month == 0 || (name->suffix != SUFFIX_MONTH && name->suffix != SUFFIX_DATE)) {
        return false;
    }
    f->month = (int8_t)to_quarter_month(f->kind, month);
    if (name->suffix == SUFFIX_MONTH) {
        return text[3] == '\0';
    }
    f->day = text[3] == '-' ? (int8_t)parse_day(text + 4, mz_civil_month_days(2000, month)) : 0;
    return f->day > 0;
}

mz_status mz_frequency_parse(mz_context *ctx, const char *text, mz_frequency *out) {
    const char *p = text + strspn(text, " ");
    const size_t n_digits = strspn(p, "0123456789");
    int64_t n = n_digits > 0 ? 0 : 1;
    for (size_t i = 0; i < n_digits && n <= MZ_FREQUENCY_MAX_N; i++) {
        n = n * 10 + (p[i] - '0');
    }
    if (n < 1 || n > MZ_FREQUENCY_MAX_N) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "frequency \"%.40s\": the multiple must be 1 to %d",
                       text, MZ_FREQUENCY_MAX_N);
    }
    p += n_digits;
    const size_t n_name = strcspn(p, "-");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mz_frequency f = {.kind = names[i].kind, .n = (int32_t)n};
        if (strlen(names[i].name) == n_name && strncmp(p, names[i].name, n_name) == 0 &&
            parse_suffix(&names[i], p + n_name, &f)) {
            *out = f;
            return MZ_OK;
        }
    }
    return mz_fail(&ctx->error, MZ_ERR_ARG,
                   "frequency \"%.40s\" is unknown; known are s, min, h, D, B, W, W-MON, MS, ME, "
                   "QS, QE, YS, YE, MD-15 and YD-MAR-15, with a multiple in front (15min)",
                   text);
}

static const frequency_name *name_of(mz_frequency_kind kind, bool is_open) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].kind == kind && names[i].is_open == is_open) {
            return &names[i];
        }
    }
    return NULL;
}

char *mz_frequency_name(const mz_frequency *f, char out[MZ_FREQUENCY_BYTES]) {
    /* The name of a week has its day or is open; there is one entry for both. */
    const bool is_open = f->is_open || f->kind == MZ_FREQUENCY_WEEK;
    const frequency_name *name = name_of(f->kind, is_open);
    if (name == NULL) {
        (void)snprintf(out, MZ_FREQUENCY_BYTES, "irregular");
        return out;
    }
    char suffix[16] = "";
    if (f->is_open) {
    } else if (name->suffix == SUFFIX_WEEKDAY) {
        (void)snprintf(suffix, sizeof suffix, "-%.3s", weekdays + 3 * (size_t)f->day);
    } else if (name->suffix == SUFFIX_DAY) {
        (void)snprintf(suffix, sizeof suffix, "-%d", f->day);
    } else if (name->suffix == SUFFIX_DATE) {
        (void)snprintf(suffix, sizeof suffix, "-%.3s-%d", months + 3 * ((size_t)f->month - 1),
                       f->day);
    } else if (name->suffix == SUFFIX_MONTH &&
               f->month != to_quarter_month(f->kind, default_month(f->kind))) {
        (void)snprintf(suffix, sizeof suffix, "-%.3s", months + 3 * ((size_t)f->month - 1));
    }
    char multiple[16] = "";
    if (f->n != 1) {
        (void)snprintf(multiple, sizeof multiple, "%" PRId32, f->n);
    }
    (void)snprintf(out, MZ_FREQUENCY_BYTES, "%s%s%s", multiple, name->name, suffix);
    return out;
}

void mz_frequency_anchor(mz_frequency *f, mz_stamp stamp) {
    if (!f->is_open) {
        return;
    }
    f->is_open = false;
    const int64_t days = mz_floor_div(stamp, MZ_DAY_US);
    const mz_civil c = mz_civil_of(days);
    if (f->kind == MZ_FREQUENCY_WEEK) {
        f->day = (int8_t)mz_civil_weekday(days);
        return;
    }
    const bool is_first = c.day == 1;
    const bool is_last = c.day == mz_civil_month_days(c.year, c.month);
    const bool is_quarter = f->kind == MZ_FREQUENCY_QUARTER_END;
    const bool is_year = f->kind == MZ_FREQUENCY_YEAR_END;
    const mz_frequency_kind start = is_year      ? MZ_FREQUENCY_YEAR_START
                                    : is_quarter ? MZ_FREQUENCY_QUARTER_START
                                                 : MZ_FREQUENCY_MONTH_START;
    if (is_first || is_last) {
        f->kind = is_first ? start : f->kind;
        f->month = is_year || is_quarter ? (int8_t)to_quarter_month(f->kind, c.month) : 0;
        f->day = 0;
        return;
    }
    f->kind = is_year ? MZ_FREQUENCY_YEAR_DATE : MZ_FREQUENCY_MONTH_DAY;
    f->n = is_quarter && f->n <= MZ_FREQUENCY_MAX_N / 3 ? f->n * 3 : f->n;
    f->month = is_year ? (int8_t)c.month : 0;
    f->day = (int8_t)c.day;
}
