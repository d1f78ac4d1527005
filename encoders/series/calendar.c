#include "encoders/series/calendar.h"

#include "encoders/series/calendar_internal.h"

int64_t mz_floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

int64_t mz_floor_mod(int64_t a, int64_t b) {
    return a % b + (a % b < 0 ? b : 0);
}

/* Years are counted from 1 March, so that the leap day is the last day of a year, in eras of 400
 * years, which have 146097 days (Hinnant, "chrono-compatible low-level date algorithms"). */
int64_t mz_civil_days(int64_t year, int month, int day) {
    const int64_t y = year - (month <= 2 ? 1 : 0);
    const int64_t era = mz_floor_div(y, 400);
    const int64_t year_of_era = y - era * 400;
    const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

mz_civil mz_civil_of(int64_t days) {
    const int64_t z = days + 719468;
    const int64_t era = mz_floor_div(z, 146097);
    const int64_t day_of_era = z - era * 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t shifted = (5 * day_of_year + 2) / 153; /* months since March */
    mz_civil c;
    c.day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    c.month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    c.year = year_of_era + era * 400 + (c.month <= 2 ? 1 : 0);
    return c;
}

int mz_civil_month_days(int64_t year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap ? 1 : 0);
}

int mz_civil_weekday(int64_t days) {
    return (int)mz_floor_mod(days + 3, 7); /* 1970-01-01 was a Thursday */
}

int64_t mz_civil_first_week(int64_t year) {
    const int64_t fourth = mz_civil_days(year, 1, 4);
    return fourth - mz_civil_weekday(fourth);
}

static const char *const month_names[] = {"January",   "February", "March",    "April",
                                          "May",       "June",     "July",     "August",
                                          "September", "October",  "November", "December"};

const char *mz_civil_month_name(int month) {
    return month_names[month - 1];
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

int mz_civil_month_named(const char *name, size_t n_bytes, bool *is_long) {
    for (int m = 1; m <= 12; m++) {
        const char *full = month_names[m - 1];
        size_t n = 0;
        while (n < n_bytes && full[n] != '\0' && lower(full[n]) == lower(name[n])) {
            n++;
        }
        if (n == n_bytes && (n == 3 || full[n] == '\0')) {
            *is_long = n > 3;
            return m;
        }
    }
    return 0;
}

mz_stamp_form mz_stamp_form_iso(void) {
    return (mz_stamp_form){.layout = MZ_STAMP_YMD, .separator = '-'};
}

/* ---- writing ---- */

/* Text that grows within a buffer of MZ_STAMP_BYTES. */
typedef struct writer {
    char *out;
    size_t used;
} writer;

static void put_char(writer *w, char c) {
    if (c != '\0' && w->used + 1 < MZ_STAMP_BYTES) {
        w->out[w->used++] = c;
        w->out[w->used] = '\0';
    }
}

static void put_text(writer *w, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes && text[i] != '\0'; i++) {
        put_char(w, text[i]);
    }
}

static void put_number(writer *w, int64_t value, int width) {
    char digits[24];
    int n = 0;
    /* Remainders of negative numbers are not positive; INT64_MIN has no opposite. */
    for (int64_t left = value; left != 0 || n == 0; left /= 10) {
        digits[n++] = (char)('0' + (left < 0 ? -(left % 10) : left % 10));
    }
    put_char(w, value < 0 ? '-' : '\0');
    for (int k = n; k < width; k++) {
        put_char(w, '0');
    }
    while (n > 0) {
        put_char(w, digits[--n]);
    }
}

static void put_month_name(writer *w, const mz_stamp_form *form, int month) {
    put_text(w, mz_civil_month_name(month), form->is_long_name ? 16 : 3);
}

static bool has_day(mz_stamp_layout layout) {
    return layout == MZ_STAMP_YMD || layout == MZ_STAMP_DMY || layout == MZ_STAMP_MDY ||
           layout == MZ_STAMP_NAMED_DAY || layout == MZ_STAMP_NAMED_MDY;
}

/* True when the layout, which has no day, says all about the date. */
static bool is_whole_date(mz_stamp_layout layout, const mz_civil *c, int64_t days) {
    switch (layout) {
    case MZ_STAMP_MONTH:
    case MZ_STAMP_NAMED_MONTH:
        return c->day == 1;
    case MZ_STAMP_QUARTER:
        return c->day == 1 && c->month % 3 == 1;
    case MZ_STAMP_YEAR:
        return c->day == 1 && c->month == 1;
    case MZ_STAMP_WEEK:
        return mz_civil_weekday(days) == 0;
    default:
        return true;
    }
}

static void put_date(writer *w, const mz_stamp_form *form, int64_t days) {
    const mz_civil c = mz_civil_of(days);
    const int width = form->is_unpadded ? 1 : 2;
    const char mark = form->separator;
    switch (form->layout) {
    case MZ_STAMP_DMY:
    case MZ_STAMP_MDY:
        put_number(w, form->layout == MZ_STAMP_DMY ? c.day : c.month, width);
        put_char(w, mark);
        put_number(w, form->layout == MZ_STAMP_DMY ? c.month : c.day, width);
        put_char(w, mark);
        put_number(w, c.year, 4);
        return;
    case MZ_STAMP_NAMED_MDY:
        put_month_name(w, form, c.month);
        put_char(w, mark);
        put_number(w, c.day, width);
        put_char(w, form->has_comma ? ',' : '\0');
        put_char(w, mark);
        put_number(w, c.year, 4);
        return;
    case MZ_STAMP_NAMED_DAY:
        put_number(w, c.day, width);
        put_char(w, mark);
        /* fallthrough */
    case MZ_STAMP_NAMED_MONTH:
        put_month_name(w, form, c.month);
        put_char(w, mark);
        put_number(w, c.year, 4);
        return;
    case MZ_STAMP_QUARTER:
        put_number(w, c.year, 4);
        put_char(w, mark);
        put_char(w, 'Q');
        put_number(w, (c.month + 2) / 3, 1);
        return;
    case MZ_STAMP_WEEK: {
        const int64_t year = mz_civil_of(days + 3).year; /* that of the week's Thursday */
        put_number(w, year, 4);
        put_char(w, mark);
        put_char(w, 'W');
        put_number(w, (days - mz_civil_first_week(year)) / 7 + 1, 2);
        return;
    }
    default:
        break;
    }
    put_number(w, c.year, 4);
    if (form->layout == MZ_STAMP_YEAR) {
        return;
    }
    put_char(w, mark);
    put_number(w, c.month, width);
    if (form->layout != MZ_STAMP_MONTH) {
        put_char(w, mark);
        put_number(w, c.day, width);
    }
}

static void put_zone(writer *w, const mz_stamp_form *form) {
    if (form->is_zone_letter || form->is_zone_name) {
        put_text(w, form->is_zone_letter ? "Z" : " UTC", 4);
        return;
    }
    const int64_t minutes = (form->offset_s < 0 ? -form->offset_s : form->offset_s) / 60;
    put_char(w, form->offset_s < 0 ? '-' : '+');
    put_number(w, minutes / 60, 2);
    put_char(w, form->is_zone_plain ? '\0' : ':');
    put_number(w, minutes % 60, 2);
}

/* The digits of a second that the form has, or all where that would lose part of it. */
static void put_fraction(writer *w, const mz_stamp_form *form, int64_t fraction_us) {
    int n_digits = form->n_fraction;
    int64_t scale = 1;
    for (int i = n_digits; i < 6; i++) {
        scale *= 10;
    }
    if (fraction_us % scale != 0) {
        n_digits = 6;
        scale = 1;
    }
    if (n_digits > 0) {
        put_char(w, '.');
        put_number(w, fraction_us / scale, n_digits);
    }
}

/* The numbers of the clock that the form has, or those that the time needs. */
static void put_clock(writer *w, const mz_stamp_form *form, int64_t clock_us) {
    const int64_t second_us = clock_us % (60 * MZ_SECOND_US);
    int n_clock = form->n_clock;
    if (clock_us != 0 || n_clock > 0) {
        const int needed = second_us != 0 ? 3 : 2;
        n_clock = n_clock == 0 || (n_clock < needed && clock_us % (3600 * MZ_SECOND_US) != 0)
                      ? needed
                      : n_clock;
    }
    if (n_clock == 0) {
        return;
    }
    const int64_t hour = clock_us / (3600 * MZ_SECOND_US);
    put_char(w, form->time_separator != '\0' ? form->time_separator : ' ');
    put_number(w, form->is_twelve_hours ? (hour + 11) % 12 + 1 : hour,
               form->is_hour_unpadded ? 1 : 2);
    if (n_clock >= 2) {
        put_char(w, ':');
        put_number(w, clock_us / (60 * MZ_SECOND_US) % 60, 2);
    }
    if (n_clock >= 3) {
        put_char(w, ':');
        put_number(w, second_us / MZ_SECOND_US, 2);
    }
    put_fraction(w, form, clock_us % MZ_SECOND_US);
    if (form->is_twelve_hours) {
        put_text(w, hour < 12 ? " AM" : " PM", 3);
    }
    if (form->has_zone) {
        put_zone(w, form);
    }
}

char *mz_stamp_format(const mz_stamp_form *form, mz_stamp stamp, char out[MZ_STAMP_BYTES]) {
    writer w = {.out = out};
    out[0] = '\0';
    if (form->layout == MZ_STAMP_EPOCH_S || form->layout == MZ_STAMP_EPOCH_MS) {
        const bool is_ms = form->layout == MZ_STAMP_EPOCH_MS;
        put_number(&w, mz_floor_div(stamp, is_ms ? 1000 : MZ_SECOND_US), 1);
        if (!is_ms) {
            put_fraction(&w, form, mz_floor_mod(stamp, MZ_SECOND_US));
        }
        return out;
    }
    const int64_t days = mz_floor_div(stamp, MZ_DAY_US);
    const int64_t clock_us = mz_floor_mod(stamp, MZ_DAY_US);
    const mz_civil c = mz_civil_of(days);
    const bool is_short = !has_day(form->layout);
    if (is_short && (clock_us != 0 || !is_whole_date(form->layout, &c, days))) {
        const mz_stamp_form iso = mz_stamp_form_iso();
        put_date(&w, &iso, days);
        put_clock(&w, &iso, clock_us);
        return out;
    }
    put_date(&w, form, days);
    if (!is_short) {
        put_clock(&w, form, clock_us);
    }
    return out;
}

static void put_clock_pattern(writer *w, const mz_stamp_form *form) {
    if (form->n_clock == 0) {
        return;
    }
    put_char(w, form->time_separator);
    put_text(w, "hh:mm:ss", form->n_clock == 1 ? 2 : form->n_clock == 2 ? 5 : 8);
    if (form->n_fraction > 0) {
        put_char(w, '.');
        put_text(w, "ffffff", (size_t)form->n_fraction);
    }
    if (form->is_twelve_hours) {
        put_text(w, " AM", 3);
    }
    if (form->has_zone) {
        put_text(w, form->is_zone_letter ? "Z" : form->is_zone_name ? " UTC" : "+hh:mm", 6);
    }
}

char *mz_stamp_pattern(const mz_stamp_form *form, char out[MZ_STAMP_BYTES]) {
    static const struct {
        const char *parts[3];
    } patterns[] = {
        [MZ_STAMP_YMD] = {{"YYYY", "MM", "DD"}},
        [MZ_STAMP_DMY] = {{"DD", "MM", "YYYY"}},
        [MZ_STAMP_MDY] = {{"MM", "DD", "YYYY"}},
        [MZ_STAMP_MONTH] = {{"YYYY", "MM", NULL}},
        [MZ_STAMP_QUARTER] = {{"YYYY", "Qn", NULL}},
        [MZ_STAMP_YEAR] = {{"YYYY", NULL, NULL}},
        [MZ_STAMP_WEEK] = {{"YYYY", "Www", NULL}},
        [MZ_STAMP_NAMED_MONTH] = {{"Jan", "YYYY", NULL}},
        [MZ_STAMP_NAMED_DAY] = {{"DD", "Jan", "YYYY"}},
        [MZ_STAMP_NAMED_MDY] = {{"Jan", "DD", "YYYY"}},
        [MZ_STAMP_EPOCH_S] = {{"seconds since 1970 in 10 digits", NULL, NULL}},
        [MZ_STAMP_EPOCH_MS] = {{"milliseconds since 1970 in 13 digits", NULL, NULL}},
    };
    writer w = {.out = out};
    out[0] = '\0';
    for (int i = 0; i < 3 && patterns[form->layout].parts[i] != NULL; i++) {
        put_char(&w, i == 2 && form->has_comma ? ',' : '\0');
        put_char(&w, i > 0 ? form->separator : '\0');
        put_text(&w, patterns[form->layout].parts[i], MZ_STAMP_BYTES);
    }
    put_clock_pattern(&w, form);
    return out;
}
