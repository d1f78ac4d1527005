/* Finding the one form of a column of stamps. */
#include <stdio.h>

#include "encoders/series/calendar_internal.h"
#include "encoders/series/series_reader_internal.h"

enum { SUMMER_TIME_S = 3600 };

/* A row's text and what stands in it. */
typedef struct entry {
    const char *text;
    size_t n_bytes;
    int64_t row;
    mz_stamp_numbers numbers;
} entry;

static void see(mz_stamp_sighting *s, const entry *e) {
    if (s->row == 0) {
        s->row = e->row;
        mz_series_show(e->text, e->n_bytes, s->text);
    }
}

/* Whether the first number is the month is open in this layout until the column is settled: until
 * then its stamps are kept packed. */
static bool is_open(const mz_stamp_form *form) {
    return form->layout == MZ_STAMP_MDY;
}

/* Both numbers are days of a month at most, so that five bits hold each; year 9999 fits. */
static mz_stamp pack(const mz_stamp_numbers *s) {
    return ((s->year * 32 + s->month) * 32 + s->day) * (2 * MZ_DAY_US) + s->clock_us;
}

static mz_stamp unpack(mz_stamp packed, mz_stamp_layout layout) {
    const int64_t date = mz_floor_div(packed, 2 * MZ_DAY_US);
    const mz_stamp_numbers s = {
        .year = date / 1024,
        .month = (int)(date / 32 % 32),
        .day = (int)(date % 32),
        .clock_us = mz_floor_mod(packed, 2 * MZ_DAY_US),
    };
    mz_stamp stamp = 0;
    (void)mz_stamp_compose(&s, layout, &stamp);
    return stamp;
}

static mz_status fail_entry(mz_context *ctx, const entry *e, const char *what) {
    char shown[MZ_SERIES_SHOWN_BYTES];
    mz_series_show(e->text, e->n_bytes, shown);
    return mz_fail(&ctx->error, MZ_ERR_FORMAT, "row %lld: \"%s\" %s", (long long)e->row, shown,
                   what);
}

static mz_status fail_form(mz_context *ctx, const mz_stamp_column *c, const entry *e) {
    if (mz_stamp_has_short_year(e->text, e->n_bytes)) {
        return fail_entry(ctx, e, "has a year of two digits, four are needed");
    }
    if (c->n_rows == 0) {
        return fail_entry(ctx, e,
                          "is not a time stamp (as in 2024-01-31, 2024-01-31 12:00, 01/31/2024, "
                          "31.01.2024, 2024-01, 2024Q1, 2024-W05, 2024)");
    }
    mz_stamp_form form = c->form;
    form.layout = is_open(&form) && c->by_day.row != 0 ? MZ_STAMP_DMY : form.layout;
    char pattern[MZ_STAMP_BYTES];
    char what[2 * MZ_STAMP_BYTES + 80];
    (void)snprintf(what, sizeof what, "is not a time stamp of the form %s as in row %lld (\"%s\")",
                   mz_stamp_pattern(&form, pattern), (long long)c->first.row, c->first.text);
    return fail_entry(ctx, e, what);
}

/* Two rows that cannot both be right: what holds for this one, and for the one before. */
static mz_status fail_pair(mz_context *ctx, const entry *e, const char *this_one,
                           const mz_stamp_sighting *before, const char *that_one) {
    char what[2 * MZ_STAMP_BYTES + 80];
    (void)snprintf(what, sizeof what, "%s, but row %lld (\"%s\") %s", this_one,
                   (long long)before->row, before->text, that_one);
    return fail_entry(ctx, e, what);
}

/* Which of the two orders of day and month the row allows. */
static mz_status check_order(mz_context *ctx, mz_stamp_column *c, const entry *e) {
    static const char by_month[] = "begins with the month";
    static const char by_day[] = "begins with the day";
    mz_stamp stamp;
    const bool may_month = mz_stamp_compose(&e->numbers, MZ_STAMP_MDY, &stamp);
    const bool may_day = mz_stamp_compose(&e->numbers, MZ_STAMP_DMY, &stamp);
    if (!may_month && !may_day) {
        return fail_entry(ctx, e, "is a date that does not exist");
    }
    if (!may_month && c->by_month.row != 0) {
        return fail_pair(ctx, e, by_day, &c->by_month, by_month);
    }
    if (!may_day && c->by_day.row != 0) {
        return fail_pair(ctx, e, by_month, &c->by_day, by_day);
    }
    if (!may_month) {
        see(&c->by_day, e);
    } else if (!may_day) {
        see(&c->by_month, e);
    }
    return MZ_OK;
}

static mz_status fail_zone(mz_context *ctx, const mz_stamp_column *c, const entry *e) {
    char what[3 * MZ_STAMP_BYTES + 80];
    if (c->other_zone.row != 0) {
        (void)snprintf(what, sizeof what,
                       "has a third time zone, after those of row %lld (\"%s\") and row %lld "
                       "(\"%s\")",
                       (long long)c->zoned.row, c->zoned.text, (long long)c->other_zone.row,
                       c->other_zone.text);
    } else {
        (void)snprintf(what, sizeof what,
                       "has another time zone than row %lld (\"%s\"), more than an hour apart",
                       (long long)c->zoned.row, c->zoned.text);
    }
    return fail_entry(ctx, e, what);
}

static mz_status check_zone(mz_context *ctx, mz_stamp_column *c, const entry *e) {
    static const char zone[] = "has a time zone";
    static const char no_zone[] = "has no time zone";
    const mz_stamp_form *form = &e->numbers.form;
    if (!form->has_zone) {
        see(&c->unzoned, e);
        return c->zoned.row == 0 ? MZ_OK : fail_pair(ctx, e, no_zone, &c->zoned, zone);
    }
    if (c->unzoned.row != 0) {
        return fail_pair(ctx, e, zone, &c->unzoned, no_zone);
    }
    const int32_t offset_s = form->offset_s;
    c->is_past_midnight = c->is_past_midnight || e->numbers.clock_us % MZ_DAY_US != 0;
    if (c->zoned.row == 0) {
        c->offset_s = offset_s;
        see(&c->zoned, e);
    }
    if (offset_s == c->offset_s || (c->other_zone.row != 0 && offset_s == c->other_s)) {
        return MZ_OK;
    }
    const int32_t apart_s =
        offset_s > c->offset_s ? offset_s - c->offset_s : c->offset_s - offset_s;
    if (c->other_zone.row != 0 || apart_s > SUMMER_TIME_S) {
        return fail_zone(ctx, c, e);
    }
    c->other_s = offset_s;
    see(&c->other_zone, e);
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
    form->is_hour_unpadded = form->is_hour_unpadded || row->is_hour_unpadded;
    form->is_long_name = form->is_long_name || row->is_long_name;
    form->is_twelve_hours = form->is_twelve_hours || row->is_twelve_hours;
}

/* The row's stamp, packed or in UTC. */
static mz_status compose(mz_context *ctx, const entry *e, mz_stamp *out) {
    mz_stamp stamp;
    if (!mz_stamp_compose(&e->numbers, e->numbers.form.layout, &stamp)) {
        return fail_entry(ctx, e, "is a date that does not exist");
    }
    stamp -= (int64_t)e->numbers.form.offset_s * MZ_SECOND_US;
    if (stamp < MZ_STAMP_MIN || stamp > MZ_STAMP_MAX) {
        return fail_entry(ctx, e, "is in UTC outside of the years 0001 to 9999");
    }
    *out = stamp;
    return MZ_OK;
}

mz_status mz_stamp_column_add(mz_context *ctx, mz_stamp_column *c, const char *text, size_t n_bytes,
                              int64_t row, mz_stamp *out) {
    entry e = {.text = text, .n_bytes = n_bytes, .row = row};
    if (!mz_stamp_scan(text, n_bytes, &e.numbers) ||
        (c->n_rows > 0 && (e.numbers.form.layout != c->form.layout ||
                           e.numbers.form.separator != c->form.separator))) {
        return fail_form(ctx, c, &e);
    }
    mz_stamp stamp = 0;
    if (is_open(&e.numbers.form)) {
        MZ_TRY(check_order(ctx, c, &e));
        stamp = pack(&e.numbers);
    } else {
        MZ_TRY(compose(ctx, &e, &stamp));
    }
    MZ_TRY(check_zone(ctx, c, &e));
    if (c->n_rows == 0) {
        c->form = e.numbers.form;
        see(&c->first, &e);
    } else {
        widen(&c->form, &e.numbers.form);
    }
    c->n_rows++;
    *out = stamp;
    return MZ_OK;
}

void mz_stamp_column_settle(mz_stamp_column *c) {
    c->is_settled = true;
    if (is_open(&c->form) && c->n_rows > 0) {
        const bool is_decided = c->by_day.row != 0 || c->by_month.row != 0;
        const bool is_by_day = is_decided ? c->by_day.row != 0 : c->day_first;
        c->form.layout = is_by_day ? MZ_STAMP_DMY : MZ_STAMP_MDY;
        c->is_ambiguous = !is_decided && !c->day_first;
    }
    c->is_local = c->other_zone.row != 0 && !c->is_past_midnight;
    c->is_utc = c->other_zone.row != 0 && c->is_past_midnight;
    if (c->is_utc) {
        c->form.is_zone_letter = true;
        c->form.is_zone_name = false;
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
                       "row %lld: \"%s\" is ambiguous, as are all dates: the month was read first; "
                       "--day-first reads the day first",
                       (long long)c->first.row, c->first.text);
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
