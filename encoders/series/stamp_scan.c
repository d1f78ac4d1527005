/* Reading the text of one stamp. */
#include <string.h>

#include "encoders/series/calendar_internal.h"

/* What is left of the text. */
typedef struct cursor {
    const char *p, *end;
} cursor;

static char peek(const cursor *c) {
    return c->p < c->end ? *c->p : '\0';
}

static bool take(cursor *c, char wanted) {
    const bool is_there = c->p < c->end && *c->p == wanted;
    c->p += is_there ? 1 : 0;
    return is_there;
}

/* Takes the wanted letters, given in upper case, in any case. */
static bool take_word(cursor *c, const char *word) {
    const size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char letter = c->p[i];
        if ((letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter) != word[i]) {
            return false;
        }
    }
    c->p += n;
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A run of digits, of which `max` are taken at most. Returns how many there were. */
static int take_digits(cursor *c, int max, int64_t *value) {
    int n = 0;
    *value = 0;
    while (n < max && is_digit(peek(c))) {
        *value = *value * 10 + (*c->p++ - '0');
        n++;
    }
    return n;
}

static bool take_exactly(cursor *c, int n_digits, int64_t *value) {
    return take_digits(c, n_digits, value) == n_digits && !is_digit(peek(c));
}

/* One or two digits. */
static bool take_short(cursor *c, mz_stamp_numbers *s, int *value) {
    int64_t number;
    const int n = take_digits(c, 2, &number);
    s->form.is_unpadded = s->form.is_unpadded || n == 1;
    *value = (int)number;
    return n > 0 && !is_digit(peek(c));
}

static bool take_month_name(cursor *c, mz_stamp_numbers *s) {
    const char *begin = c->p;
    while (is_letter(peek(c))) {
        c->p++;
    }
    s->month = mz_civil_month_named(begin, (size_t)(c->p - begin), &s->form.is_long_name);
    return s->month > 0;
}

static char take_separator(cursor *c, const char *known) {
    const char mark = peek(c);
    if (mark == '\0' || strchr(known, mark) == NULL) {
        return '\0';
    }
    c->p++;
    return mark;
}

/* Jan 2024, Jan 5, 2024 */
static bool scan_after_name(cursor *c, mz_stamp_numbers *s) {
    if (!take_month_name(c, s)) {
        return false;
    }
    const char mark = take_separator(c, " -");
    int64_t number;
    const int n_digits = take_digits(c, 4, &number);
    s->form.separator = mark;
    if (mark == '\0' || is_digit(peek(c))) {
        return false;
    }
    if (n_digits == 4) {
        s->form.layout = MZ_STAMP_NAMED_MONTH;
        s->year = number;
        s->day = 1;
        return true;
    }
    s->form.layout = MZ_STAMP_NAMED_MDY;
    s->form.is_unpadded = n_digits == 1;
    s->day = (int)number;
    s->form.has_comma = mark == ' ' && take(c, ',');
    return (n_digits == 1 || n_digits == 2) && take(c, mark) && take_exactly(c, 4, &s->year);
}

/* Digits and nothing else. */
static bool scan_plain(mz_stamp_numbers *s, int n_digits, int64_t value) {
    s->month = 1;
    s->day = 1;
    s->year = value;
    switch (n_digits) {
    case 4:
        s->form.layout = MZ_STAMP_YEAR;
        return true;
    case 6:
        s->form.layout = MZ_STAMP_MONTH;
        s->year = value / 100;
        s->month = (int)(value % 100);
        return true;
    case 8:
        s->form.layout = MZ_STAMP_YMD;
        s->year = value / 10000;
        s->month = (int)(value / 100 % 100);
        s->day = (int)(value % 100);
        return true;
    case 9:
    case 10:
        s->form.layout = MZ_STAMP_EPOCH_S;
        return value >= 100000000; /* 029001999 would be written in fewer digits */
    case 12:
    case 13:
        s->form.layout = MZ_STAMP_EPOCH_MS;
        return value >= 100000000000;
    default:
        return false;
    }
}

/* What may stand behind the year's four digits. */
static bool scan_after_year(cursor *c, mz_stamp_numbers *s) {
    const char mark = take_separator(c, "-/. ");
    s->form.separator = mark;
    s->month = 1;
    s->day = 1;
    if (take_word(c, "Q")) {
        int64_t quarter;
        s->form.layout = MZ_STAMP_QUARTER;
        s->month = take_exactly(c, 1, &quarter) ? (int)quarter : 0;
        return s->month > 0;
    }
    if (take_word(c, "W")) {
        int64_t week;
        s->form.layout = MZ_STAMP_WEEK;
        s->month = take_exactly(c, 2, &week) ? (int)week : 0;
        return s->month > 0;
    }
    if (mark == '\0' || mark == ' ' || !take_short(c, s, &s->month)) {
        return false;
    }
    if (!take(c, mark)) {
        s->form.layout = MZ_STAMP_MONTH;
        return true;
    }
    s->form.layout = MZ_STAMP_YMD;
    return take_short(c, s, &s->day);
}

/* What may stand behind one or two digits: 31.01.2024, 01/31/2024, 31 Jan 2024. */
static bool scan_after_short(cursor *c, mz_stamp_numbers *s, int first) {
    const char mark = take_separator(c, "-/. ");
    s->form.separator = mark;
    if (is_letter(peek(c)) && (mark == ' ' || mark == '-')) {
        s->form.layout = MZ_STAMP_NAMED_DAY;
        s->day = first;
        return take_month_name(c, s) && take(c, mark) && take_exactly(c, 4, &s->year);
    }
    s->form.layout = mark == '.' ? MZ_STAMP_DMY : MZ_STAMP_MDY;
    s->month = first;
    return mark != '\0' && mark != ' ' && take_short(c, s, &s->day) && take(c, mark) &&
           take_exactly(c, 4, &s->year);
}

/* Behind the point; digits below the microsecond are cut off. False without a digit. */
static bool take_fraction(cursor *c, mz_stamp_numbers *s, int64_t *fraction_us) {
    int n = 0;
    *fraction_us = 0;
    for (; is_digit(peek(c)); c->p++, n++) {
        *fraction_us = n < 6 ? *fraction_us * 10 + (*c->p - '0') : *fraction_us;
    }
    s->form.n_fraction = (int8_t)(n < 6 ? n : 6);
    const bool is_there = n > 0;
    for (; n < 6; n++) {
        *fraction_us *= 10;
    }
    return is_there;
}

static bool scan_date(cursor *c, mz_stamp_numbers *s) {
    if (is_letter(peek(c))) {
        return scan_after_name(c, s);
    }
    int64_t value;
    const int n = take_digits(c, 14, &value);
    const bool is_date_end = c->p == c->end || (n == 8 && (peek(c) == 'T' || peek(c) == ' '));
    if (n > 0 && is_date_end) {
        return scan_plain(s, n, value);
    }
    if ((n == 9 || n == 10) && take(c, '.')) {
        return scan_plain(s, n, value) && take_fraction(c, s, &s->clock_us);
    }
    if (n == 4) {
        s->year = value;
        return scan_after_year(c, s);
    }
    s->form.is_unpadded = n == 1;
    return (n == 1 || n == 2) && scan_after_short(c, s, (int)value);
}

static bool scan_zone(cursor *c, mz_stamp_numbers *s) {
    const char *begin = c->p;
    (void)take(c, ' ');
    s->form.has_zone = true;
    s->form.is_zone_name = take_word(c, "UTC");
    if (s->form.is_zone_name || take_word(c, "Z")) {
        s->form.is_zone_letter = !s->form.is_zone_name;
        return true;
    }
    const bool is_west = peek(c) == '-';
    if (!take(c, '+') && !take(c, '-')) {
        s->form.has_zone = false;
        c->p = begin;
        return true;
    }
    int64_t hours;
    int64_t minutes = 0;
    if (take_digits(c, 2, &hours) != 2) {
        return false;
    }
    const bool has_colon = take(c, ':');
    const int n = take_digits(c, 2, &minutes);
    s->form.is_zone_plain = !has_colon;
    s->form.offset_s = (int32_t)((hours * 60 + minutes) * (is_west ? -60 : 60));
    return (n == 2 || (n == 0 && !has_colon)) && hours <= 23 && minutes <= 59;
}

static bool take_half_day(cursor *c, mz_stamp_numbers *s, int64_t *hour) {
    const char *begin = c->p;
    (void)take(c, ' ');
    const bool is_morning = take_word(c, "AM");
    if (!is_morning && !take_word(c, "PM")) {
        c->p = begin;
        return true;
    }
    s->form.is_twelve_hours = true;
    const bool is_valid = *hour >= 1 && *hour <= 12;
    *hour = *hour % 12 + (is_morning ? 0 : 12);
    return is_valid;
}

/* hh[:mm[:ss[.f]]] with AM or PM, and the zone. */
static bool scan_clock(cursor *c, mz_stamp_numbers *s) {
    int64_t parts[3] = {0};
    int64_t fraction_us = 0;
    int n = 0;
    do {
        const int n_digits = take_digits(c, 2, &parts[n]);
        if (n_digits == 0 || (n > 0 && n_digits == 1) || is_digit(peek(c))) {
            return false;
        }
        s->form.is_hour_unpadded = s->form.is_hour_unpadded || n_digits == 1;
        n++;
    } while (n < 3 && take(c, ':'));
    if (n == 3 && (take(c, '.') || take(c, ',')) && !take_fraction(c, s, &fraction_us)) {
        return false;
    }
    s->form.n_clock = (int8_t)n;
    if (!take_half_day(c, s, &parts[0])) {
        return false;
    }
    s->clock_us = (parts[0] * 3600 + parts[1] * 60 + parts[2]) * MZ_SECOND_US + fraction_us;
    return parts[1] <= 59 && parts[2] <= 59 && s->clock_us <= MZ_DAY_US && scan_zone(c, s);
}

static bool may_have_clock(const mz_stamp_form *form) {
    return form->layout == MZ_STAMP_YMD || form->layout == MZ_STAMP_DMY ||
           form->layout == MZ_STAMP_MDY || form->layout == MZ_STAMP_NAMED_DAY ||
           form->layout == MZ_STAMP_NAMED_MDY;
}

/* A date that may be month first is stored packed until that is decided; a zone has no room there.
 */
static bool may_have_zone(const mz_stamp_form *form) {
    return form->layout == MZ_STAMP_YMD || form->layout == MZ_STAMP_NAMED_DAY ||
           form->layout == MZ_STAMP_NAMED_MDY;
}

bool mz_stamp_scan(const char *text, size_t n_bytes, mz_stamp_numbers *out) {
    cursor c = {.p = text, .end = text + n_bytes};
    while (c.p < c.end && (*c.p == ' ' || *c.p == '\t')) {
        c.p++;
    }
    while (c.end > c.p && (c.end[-1] == ' ' || c.end[-1] == '\t')) {
        c.end--;
    }
    mz_stamp_numbers s = {0};
    if (!scan_date(&c, &s)) {
        return false;
    }
    if (c.p < c.end && may_have_clock(&s.form)) {
        s.form.time_separator = take_word(&c, "T") ? 'T' : take(&c, ' ') ? ' ' : '\0';
        if (s.form.time_separator == '\0' || !scan_clock(&c, &s) ||
            (s.form.has_zone && !may_have_zone(&s.form))) {
            return false;
        }
    }
    if (c.p != c.end) {
        return false;
    }
    *out = s;
    return true;
}

static bool compose_days(const mz_stamp_numbers *s, mz_stamp_layout layout, int64_t *days) {
    const bool is_day_first = layout == MZ_STAMP_DMY;
    const int month = is_day_first ? s->day : s->month;
    const int day = is_day_first ? s->month : s->day;
    if (s->year < 1 || s->year > 9999) {
        return false;
    }
    if (layout == MZ_STAMP_QUARTER) {
        *days = month <= 4 ? mz_civil_days(s->year, month * 3 - 2, 1) : 0;
        return month <= 4;
    }
    if (layout == MZ_STAMP_WEEK) {
        *days = mz_civil_first_week(s->year) + 7 * (int64_t)(month - 1);
        return month >= 1 && *days < mz_civil_first_week(s->year + 1);
    }
    if (month < 1 || month > 12 || day < 1 || day > mz_civil_month_days(s->year, month)) {
        return false;
    }
    *days = mz_civil_days(s->year, month, day);
    return true;
}

bool mz_stamp_compose(const mz_stamp_numbers *s, mz_stamp_layout layout, mz_stamp *out) {
    if (layout == MZ_STAMP_EPOCH_S || layout == MZ_STAMP_EPOCH_MS) {
        *out = s->year * (layout == MZ_STAMP_EPOCH_S ? MZ_SECOND_US : 1000) + s->clock_us;
        return true;
    }
    int64_t days;
    if (!compose_days(s, layout, &days)) {
        return false;
    }
    const mz_stamp stamp = days * MZ_DAY_US + s->clock_us;
    if (stamp < MZ_STAMP_MIN || stamp > MZ_STAMP_MAX) {
        return false;
    }
    *out = stamp;
    return true;
}

bool mz_stamp_has_short_year(const char *text, size_t n_bytes) {
    char whole[MZ_STAMP_BYTES];
    if (n_bytes + 2 > sizeof whole) {
        return false;
    }
    for (size_t i = 0; i + 1 < n_bytes; i++) {
        const bool is_begin = is_digit(text[i]) && (i == 0 || !is_digit(text[i - 1]));
        const bool is_pair = is_digit(text[i + 1]) && (i + 2 == n_bytes || !is_digit(text[i + 2]));
        if (is_begin && is_pair) {
            mz_stamp_numbers s;
            memcpy(whole, text, i);
            memcpy(whole + i, "20", 2);
            memcpy(whole + i + 2, text + i, n_bytes - i);
            if (mz_stamp_scan(whole, n_bytes + 2, &s)) {
                return true;
            }
        }
    }
    return false;
}

bool mz_stamp_parse(const char *text, size_t n_bytes, mz_stamp_form *form, mz_stamp *out) {
    mz_stamp_numbers s;
    mz_stamp stamp;
    if (!mz_stamp_scan(text, n_bytes, &s)) {
        return false;
    }
    if (!mz_stamp_compose(&s, s.form.layout, &stamp)) {
        /* 31/01/2024 */
        if (s.form.layout != MZ_STAMP_MDY || !mz_stamp_compose(&s, MZ_STAMP_DMY, &stamp)) {
            return false;
        }
        s.form.layout = MZ_STAMP_DMY;
    }
    *form = s.form;
    *out = stamp;
    return true;
}
