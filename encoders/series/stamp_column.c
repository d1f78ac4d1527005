/* Finding the one form of a column of stamps. */
#include <stdio.h>
#include <string.h>

#include "encoders/series/calendar_internal.h"
#include "encoders/series/series_reader_internal.h"

enum { SUMMER_TIME_S = 3600 };

static void see(mz_stamp_sighting *s, const char *text, size_t n_bytes, int64_t row) {
    if (s->row == 0) {
        s->row = row;
        mz_series_show(text, n_bytes, s->text);
    }
}

/* Whether the first number is the month is open in this layout until the column is settled: until
 * then its stamps are kept packed. */
static bool is_open(const mz_stamp_form *form) {
    return form->layout == MZ_STAMP_MDY;
}

static mz_stamp pack(const mz_stamp_numbers *s) {
    return ((s->year * 100 + s->month) * 100 + s->day) * (2 * MZ_DAY_US) + s->clock_us;
}

static mz_stamp unpack(mz_stamp packed, mz_stamp_layout layout) {
    const int64_t date = mz_floor_div(packed, 2 * MZ_DAY_US);
    const mz_stamp_numbers s = {
        .year = date / 10000,
        .month = (int)(date / 100 % 100),
        .day = (int)(date % 100),
        .clock_us = mz_floor_mod(packed, 2 * MZ_DAY_US),
    };
    mz_stamp stamp = 0;
    (void)mz_stamp_compose(&s, layout, &stamp);
    return stamp;
}

static mz_status fail_text(mz_context *ctx, int64_t row, const char *text, size_t n_bytes,
                           const char *what, const char *detail) {
    char shown[MZ_SERIES_SHOWN_BYTES];
    mz_series_show(text, n_bytes, shown);
    return mz_fail(&ctx->error, MZ_ERR_FORMAT, "row %lld: \"%s\" %s%s", (long long)row, shown, what,
                   detail);
}

static mz_status fail_form(mz_context *ctx, const mz_stamp_column *c, int64_t row, const char *text,
                           size_t n_bytes) {
    if (c->n_rows == 0) {
        return fail_text(ctx, row, text, n_bytes, "is not a time stamp",
                         " (as in 2024-01-31, 2024-01-31 12:00, 01/31/2024, 31.01.2024, 2024-01, "
                         "2024Q1, 2024-W05, 2024)");
    }
    char pattern[MZ_STAMP_BYTES];
    char detail[2 * MZ_STAMP_BYTES + 64];
    (void)snprintf(detail, sizeof detail, "%s as in row %lld (\"%s\")",
                   mz_stamp_pattern(&c->form, pattern), (long long)c->first.row, c->first.text);
    return fail_text(ctx, row, text, n_bytes, "is not a time stamp of the form ", detail);
}

/* Two rows that cannot both be right. */
static mz_status fail_pair(mz_context *ctx, const mz_stamp_sighting *before, int64_t row,
                           const char *text, size_t n_bytes, const char *what) {
    char detail[2 * MZ_STAMP_BYTES + 64];
    (void)snprintf(detail, sizeof detail, ", row %lld (\"%s\") %s", (long long)before->row,
                   before->text, what);
    return fail_text(ctx, row, text, n_bytes, "", detail + 2);
}

/* Which of the two orders of day and month the row allows. */
static mz_status check_order(mz_context *ctx, mz_stamp_column *c, const mz_stamp_numbers *s,
                             const char *text, size_t n_bytes, int64_t row) {
    mz_stamp stamp;
    const bool may_month = mz_stamp_compose(s, MZ_STAMP_MDY, &stamp);
    const bool may_day = mz_stamp_compose(s, MZ_STAMP_DMY, &stamp);
    if (!may_month && !may_day) {
        return fail_text(ctx, row, text, n_bytes, "is a date that does not exist", "");
    }
    if (!may_month && c->month_first.row != 0) {
        return fail_pair(ctx, &c->month_first, row, text, n_bytes,
                         "begins with the month, this one with the day");
    }
    if (!may_day && c->day_first.row != 0) {
        return fail_pair(ctx, &c->day_first, row, text, n_bytes,
                         "begins with the day, this one with the month");
    }
    if (!may_month) {
        see(&c->day_first, text, n_bytes, row);
    } else if (!may_day) {
        see(&c->month_first, text, n_bytes, row);
    }
    return MZ_OK;
}

static mz_status check_zone(mz_context *ctx, mz_stamp_column *c, const mz_stamp_numbers *s,
                            const char *text, size_t n_bytes, int64_t row) {
    const mz_stamp_sighting *contrary = s->form.has_zone ? &c->unzoned : &c->zoned;
    if (contrary->row != 0) {
        return fail_pair(ctx, contrary, row, text, n_bytes,
                         s->form.has_zone ? "has no time zone, this one has"
                                          : "has a time zone, this one has none");
    }
    if (!s->form.has_zone) {
        see(&c->unzoned, text, n_bytes, row);
        return MZ_OK;
    }
    const int32_t offset_s = s->form.offset_s;
    c->is_past_midnight = c->is_past_midnight || s->clock_us % MZ_DAY_US != 0;
    if (c->zoned.row == 0) {
        c->offset_s = offset_s;
        see(&c->zoned, text, n_bytes, row);
    }
    if (offset_s == c->offset_s || (c->other_zone.row != 0 && offset_s == c->other_s)) {
        return MZ_OK;
    }
    const int32_t apart_s =
        offset_s > c->offset_s ? offset_s - c->offset_s : c->offset_s - offset_s;
    if (c->other_zone.row != 0 || apart_s > SUMMER_TIME_S) {
        const bool is_third = c->other_zone.row != 0 && apart_s <= SUMMER_TIME_S;
        return fail_pair(ctx, is_third ? &c->other_zone : &c->zoned, row, text, n_bytes,
                         "has another time zone");
    }
    c->other_s = offset_s;
    see(&c->other_zone, text, n_bytes, row);
    return MZ_OK;
}

/* The form that has all that either row has. */
static void widen(mz_stamp_form *form, const mz_stamp_form *row) {
    if (row->n_clock > 0 && form->n_clock == 0) {
        form->time_separator = row->time_separator;
    }
    form->n_clock = row->n_clock > form->n_clock ? row->n_clock : form->n_clock;
    form->n_fraction = row->n_fraction > form->n_fraction ? row->n_fraction : form->n_fraction;
    form->is_unpadded = form->is_unpadded || row->is_unpadded;
    form->is_long_name = form->is_long_name || row->is_long_name;
    form->is_twelve_hours = form->is_twelve_hours || row->is_twelve_hours;
}

mz_status mz_stamp_column_add(mz_context *ctx, mz_stamp_column *c, const char *text, size_t n_bytes,
                              int64_t row, mz_stamp *out) {
    mz_stamp_numbers s;
    if (!mz_stamp_scan(text, n_bytes, &s) ||
        (c->n_rows > 0 &&
         (s.form.layout != c->form.layout || s.form.separator != c->form.separator))) {
        return fail_form(ctx, c, row, text, n_bytes);
    }
    mz_stamp stamp;
    if (is_open(&s.form)) {
        MZ_TRY(check_order(ctx, c, &s, text, n_bytes, row));
        stamp = pack(&s);
    } else if (!mz_stamp_compose(&s, s.form.layout, &stamp)) {
        return fail_text(ctx, row, text, n_bytes, "is a date that does not exist", "");
    }
    MZ_TRY(check_zone(ctx, c, &s, text, n_bytes, row));
    if (s.form.has_zone) {
        stamp -= (int64_t)s.form.offset_s * MZ_SECOND_US;
    }
    if (c->n_rows == 0) {
        c->form = s.form;
        see(&c->first, text, n_bytes, row);
    } else {
        widen(&c->form, &s.form);
    }
    c->n_rows++;
    *out = stamp;
    return MZ_OK;
}

void mz_stamp_column_settle(mz_stamp_column *c) {
    c->is_settled = true;
    if (is_open(&c->form) && c->n_rows > 0) {
        c->form.layout = c->day_first.row != 0 ? MZ_STAMP_DMY : MZ_STAMP_MDY;
        c->is_ambiguous = c->day_first.row == 0 && c->month_first.row == 0;
    }
    c->is_local = c->other_zone.row != 0 && !c->is_past_midnight;
    c->is_utc = c->other_zone.row != 0 && c->is_past_midnight;
    if (c->is_utc) {
        c->form.is_zone_letter = true;
        c->form.offset_s = 0;
    } else if (c->is_local) {
        c->form.has_zone = false;
        c->form.n_clock = 0;
    }
}

mz_stamp mz_stamp_column_value(const mz_stamp_column *c, mz_stamp provisional) {
    if (c->form.layout == MZ_STAMP_MDY ||
        (c->form.layout == MZ_STAMP_DMY && c->form.separator != '.')) {
        return unpack(provisional, c->form.layout);
    }
    if (c->zoned.row == 0 || c->is_utc) {
        return provisional;
    }
    const mz_stamp local = provisional + (int64_t)c->offset_s * MZ_SECOND_US;
    if (c->is_local && mz_floor_mod(local, MZ_DAY_US) != 0) {
        return provisional + (int64_t)c->other_s * MZ_SECOND_US;
    }
    return local;
}

bool mz_stamp_column_note(const mz_stamp_column *c, char out[MZ_STAMP_NOTE_BYTES]) {
    out[0] = '\0';
    if (c->is_ambiguous) {
        (void)snprintf(out, MZ_STAMP_NOTE_BYTES,
                       "dates such as \"%s\" (row %lld) were read month first: no row tells",
                       c->first.text, (long long)c->first.row);
    } else if (c->is_utc) {
        (void)snprintf(out, MZ_STAMP_NOTE_BYTES,
                       "times were converted to UTC: the offset changes between row %lld (\"%s\") "
                       "and row %lld (\"%s\")",
                       (long long)c->zoned.row, c->zoned.text, (long long)c->other_zone.row,
                       c->other_zone.text);
    } else if (c->is_local) {
        (void)snprintf(out, MZ_STAMP_NOTE_BYTES,
                       "midnights were read as dates without a zone: the offset changes between "
                       "row %lld (\"%s\") and row %lld (\"%s\")",
                       (long long)c->zoned.row, c->zoned.text, (long long)c->other_zone.row,
                       c->other_zone.text);
    }
    return out[0] != '\0';
}
