/* Families with a calendar: days of hours, weeks of days, years of weeks and months. */
#include <math.h>

#include "encoders/series/series_generator_internal.h"

enum { DAYS_OF_WEEK = 7 };

/* What a place does on working days and at weekends. */
typedef struct week_profile {
    mz_season_shape working;
    mz_season_shape weekend;
    double level[DAYS_OF_WEEK]; /* of days, Monday first */
    double size[DAYS_OF_WEEK];  /* of the profile within the day */
} week_profile;

/* Daily shapes of people: low at night, one or two peaks. */
static void shape_of_people(mz_draw *draw, int64_t n, mz_season_shape *out) {
    mz_season_shape_draw(draw, n, out); /* sets out->n and gives a little of everything */
    const double morning = mz_draw_uniform(draw, 0.3, 0.45);
    const double evening = mz_draw_uniform(draw, 0.65, 0.85);
    const double second = mz_draw_uniform(draw, 0.2, 1.2);
    const double width = mz_draw_uniform(draw, 0.05, 0.14);
    const float noise = (float)mz_draw_uniform(draw, 0, 0.12);
    for (int i = 0; i < out->n; i++) {
        const double t = (double)i / out->n;
        const double a = (t - morning) / width;
        const double b = (t - evening) / width;
        const double night = t < 0.25 ? cos(6.2831853 * (t - 0.1) * 2.5) : 0;
        const float value = expf((float)(-0.5 * a * a)) +
                            (float)second * expf((float)(-0.5 * b * b)) - 0.4f * (float)night;
        out->values[i] = value + noise * out->values[i];
    }
    double mean;
    double deviation;
    mz_part_moments(out->values, out->n, &mean, &deviation);
    for (int i = 0; i < out->n; i++) {
        out->values[i] = (float)(((double)out->values[i] - mean) / fmax(deviation, 1e-6));
    }
    out->values[out->n] = out->values[0];
}

static void draw_profile(mz_draw *draw, int64_t per_day, week_profile *out) {
    const bool people = mz_draw_chance(draw, 0.6);
    const bool weekends = mz_draw_chance(draw, 0.8); /* nature has none */
    const double drop = mz_draw_uniform(draw, -0.6, 1.6);
    const double calmer = mz_draw_uniform(draw, 0.3, 1.1);
    if (people) {
        shape_of_people(draw, per_day, &out->working);
    } else {
        mz_season_shape_draw(draw, per_day, &out->working);
    }
    out->weekend = out->working;
    if (weekends && mz_draw_chance(draw, 0.7)) {
        mz_season_shape_draw(draw, per_day, &out->weekend);
        const float kept = (float)mz_draw_uniform(draw, 0.2, 0.9);
        for (int i = 0; i <= out->weekend.n; i++) {
            out->weekend.values[i] += kept * (out->working.values[i] - out->weekend.values[i]);
        }
    }
    for (int d = 0; d < DAYS_OF_WEEK; d++) {
        const bool free_day = d >= 5 && weekends;
        out->level[d] = 0.12 * mz_draw_normal(draw) - (free_day ? drop : 0);
        out->level[d] += d == 5 && weekends ? 0.3 * drop : 0; /* Saturday half way */
        out->size[d] = 1 + 0.05 * mz_draw_normal(draw);
        out->size[d] *= free_day ? calmer : 1;
    }
}

/* A day's level and profile, passed from day to day. */
typedef struct day_state {
    double weather; /* AR(1) from day to day */
    double level, size;
    bool free_day;
} day_state;

static void next_day(mz_draw *draw, const week_profile *profile, int64_t day, double holidays,
                     double weather, day_state *state) {
    const bool holiday = mz_draw_chance(draw, holidays);
    const int of_week = holiday ? DAYS_OF_WEEK - 1 : (int)(day % DAYS_OF_WEEK);
    state->weather = 0.8 * state->weather + 0.6 * weather * mz_draw_normal(draw);
    state->level = profile->level[of_week] + state->weather;
    state->size = profile->size[of_week] * (1 + 0.3 * state->weather);
    state->free_day = of_week >= 5;
}

void mz_family_hours(mz_draw *draw, float *out, int64_t n) {
    static const int64_t resolutions[] = {24, 24, 24, 48, 48, 96, 96, 144, 288};
    int64_t per_day = resolutions[mz_draw_int(draw, 0, 8)];
    per_day = n < per_day * 2 ? 24 : per_day;
    week_profile profile;
    draw_profile(draw, per_day, &profile);
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.5)) { /* the year, of which some days or months are seen */
        mz_part_season(draw, out, n, 365.25 * (double)per_day, mz_draw_log_uniform(draw, 0.3, 2));
    }
    if (mz_draw_chance(draw, 0.3)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 0.3, 2));
    }
    mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.02, 0.5));
    const double holidays = mz_draw_chance(draw, 0.5) ? mz_draw_uniform(draw, 0.005, 0.05) : 0;
    const double weather = mz_draw_log_uniform(draw, 0.02, 0.5);
    const double overall = mz_draw_log_uniform(draw, 0.5, 2);
    int64_t day = mz_draw_int(draw, 0, DAYS_OF_WEEK - 1);
    int64_t at = mz_draw_int(draw, 0, per_day - 1); /* within the day */
    day_state today = {0};
    next_day(draw, &profile, day, holidays, weather, &today);
    double level = today.level;
    double size = today.size;
    const double follow = 3.0 / (double)per_day; /* levels pass over within some hours */
    for (int64_t i = 0; i < n; i++) {
        const mz_season_shape *shape = today.free_day ? &profile.weekend : &profile.working;
        level += follow * 2 * (today.level - level);
        size += follow * 2 * (today.size - size);
        const double value = (double)shape->values[at * shape->n / per_day];
        out[i] += (float)(overall * (level + size * value));
        if (++at == per_day) {
            at = 0;
            next_day(draw, &profile, ++day, holidays, weather, &today);
        }
    }
    if (mz_draw_chance(draw, 0.4)) {
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.15, 0.8));
    }
}

enum { MAX_FEASTS = 6 };

/* Days of the year on which something happens, and what. */
typedef struct feasts {
    double at[MAX_FEASTS];    /* in years, 0..1 */
    double size[MAX_FEASTS];  /* positive: more than usual */
    double width[MAX_FEASTS]; /* in years */
    double moves[MAX_FEASTS]; /* by at most so many years from year to year */
    int n;
} feasts;

static void draw_feasts(mz_draw *draw, double per_year, feasts *out) {
    out->n = (int)mz_draw_int(draw, 0, MAX_FEASTS);
    for (int k = 0; k < out->n; k++) {
        out->at[k] = k == 0 ? 0.97 : mz_draw_uniform(draw, 0, 1);
        out->size[k] = 2 * mz_draw_normal(draw);
        out->width[k] = fmax(mz_draw_log_uniform(draw, 0.5, 8) / 365.25, 0.4 / per_year);
        out->moves[k] = mz_draw_chance(draw, 0.4) ? mz_draw_uniform(draw, 0, 20) / 365.25 : 0;
    }
}

/* Adds the feasts of the years [0, last) that begin `start` years before the first point. */
static void add_feasts(mz_draw *draw, const feasts *f, float *out, int64_t n, double per_year,
                       double start, double size) {
    const int n_years = (int)((double)n / per_year + start) + 1;
    for (int year = 0; year < n_years; year++) {
        for (int k = 0; k < f->n; k++) {
            const double shift = f->moves[k] * mz_draw_uniform(draw, -1, 1);
            const double at = (year + f->at[k] + shift - start) * per_year;
            const double width = f->width[k] * per_year;
            const int64_t from = (int64_t)fmax(0, ceil(at - 3 * width));
            const int64_t to = (int64_t)fmin((double)n - 1, floor(at + 3 * width));
            for (int64_t i = from; i <= to; i++) {
                const double d = ((double)i - at) / width;
                out[i] += (float)(size * f->size[k] * exp(-0.5 * d * d));
            }
        }
    }
}

/* Adds level[i mod 7] and, at the end of 30 or 31 days, what paydays do. */
static void add_weekdays(mz_draw *draw, float *out, int64_t n, double size) {
    double level[DAYS_OF_WEEK];
    const double drop = mz_draw_chance(draw, 0.7) ? mz_draw_normal(draw) : 0;
    for (int d = 0; d < DAYS_OF_WEEK; d++) {
        level[d] = size * (0.4 * mz_draw_normal(draw) - (d >= 5 ? 2 * drop : 0));
    }
    const double payday = mz_draw_chance(draw, 0.25) ? size * mz_draw_normal(draw) : 0;
    int64_t of_week = mz_draw_int(draw, 0, DAYS_OF_WEEK - 1);
    double of_month = mz_draw_uniform(draw, 0, 30);
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)(level[of_week] + (of_month < 2 ? payday : 0));
        of_week = of_week == DAYS_OF_WEEK - 1 ? 0 : of_week + 1;
        of_month = of_month >= 29.44 ? of_month - 29.44 : of_month + 1;
    }
}

/* Adds `size` times the length of each month, centred. */
static void add_month_lengths(mz_draw *draw, float *out, int64_t n, double size) {
    static const double days[] = {31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const int64_t first = mz_draw_int(draw, 0, 11);
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)(size * (days[(first + i) % 12] - 30.44));
    }
}

void mz_family_days(mz_draw *draw, float *out, int64_t n) {
    static const double rates[] = {365.25, 365.25, 365.25, 52.18, 12, 12};
    const double per_year = rates[mz_draw_int(draw, 0, 5)];
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.8)) {
        mz_part_season(draw, out, n, per_year, mz_draw_log_uniform(draw, 0.2, 2));
    }
    if (mz_draw_chance(draw, 0.75)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 0.3, 5));
    }
    if (per_year > 300) {
        add_weekdays(draw, out, n, mz_draw_log_uniform(draw, 0.05, 1.2));
    } else if (per_year < 13 && mz_draw_chance(draw, 0.5)) {
        add_month_lengths(draw, out, n, mz_draw_log_uniform(draw, 0.02, 0.3));
    }
    feasts f;
    draw_feasts(draw, per_year, &f);
    const double start = mz_draw_uniform(draw, 0, 1);
    add_feasts(draw, &f, out, n, per_year, start, mz_draw_log_uniform(draw, 0.1, 1));
    mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.03, 0.8));
    if (mz_draw_chance(draw, 0.3)) {
        mz_part_walk(draw, out, n, mz_draw_log_uniform(draw, 0.003, 0.1));
    }
    if (mz_draw_chance(draw, 0.15)) {
        mz_part_level_shifts(draw, out, n, 1);
    }
    if (mz_draw_chance(draw, 0.4)) {
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.1, 0.7));
    }
}
