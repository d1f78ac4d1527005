#include <stdlib.h>
#include <string.h>

#include "encoders/series/calendar.h"
#include "tests/fuzz/fuzz_target.h"

enum { MAX_ROWS = 512, MAX_TEXT = 40 };

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static bool is_in_range(mz_stamp stamp) {
    return stamp >= MZ_STAMP_MIN && stamp <= MZ_STAMP_MAX;
}

/* A stamp that was read can be written, and is the same when read again. */
static void check_text(const char *text, size_t n_bytes) {
    mz_stamp_form form;
    mz_stamp stamp;
    if (!mz_stamp_parse(text, n_bytes, &form, &stamp)) {
        return;
    }
    require(is_in_range(stamp));
    char written[MZ_STAMP_BYTES];
    char pattern[MZ_STAMP_BYTES];
    (void)mz_stamp_pattern(&form, pattern);
    (void)mz_stamp_format(&form, stamp, written);
    mz_stamp_form form_again;
    mz_stamp again;
    const bool is_read = mz_stamp_parse(written, strlen(written), &form_again, &again);
    /* 31/12/2024 24:00 is written 01/01/2025, which alone reads the month first. */
    require(is_read && (again == stamp || form.layout == MZ_STAMP_DMY));
    require(form_again.offset_s == form.offset_s && form_again.n_clock == form.n_clock);
}

/* Steps and counts of any frequency, from any stamp. */
static void check_frequency(const mz_frequency *freq, const mz_stamp *stamps, int64_t n) {
    static const int64_t steps[] = {1, -1, 2, 97, -1000003, INT64_MAX, INT64_MIN};
    for (int64_t i = 0; i < n && i < 8; i++) {
        for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
            mz_stamp to;
            mz_stamp next;
            mz_stamp back;
            int64_t count;
            if (!mz_frequency_step(freq, stamps[i], steps[k], &to)) {
                continue;
            }
            require(is_in_range(to) && (steps[k] > 0 ? to > stamps[i] : to < stamps[i]));
            (void)mz_frequency_count(freq, stamps[i], to, &count);
            /* `to` is on the anchor. */
            if (mz_frequency_step(freq, to, steps[k], &next) &&
                mz_frequency_step(freq, next, -steps[k], &back)) {
                require(back == to);
                require(mz_frequency_count(freq, to, next, &count) && count == steps[k]);
            }
        }
    }
    mz_stamp_check check;
    mz_stamp_check_run(freq, stamps, n, &check);
    require(check.off_grid.count <= n && check.gap.count <= n && check.n_missing >= 0);
}

static void check_frequency_name(mz_context *ctx, const char *text, size_t n_bytes,
                                 const mz_stamp *stamps, int64_t n) {
    char name[MAX_TEXT + 1];
    if (n_bytes > MAX_TEXT) {
        return;
    }
    memcpy(name, text, n_bytes);
    name[n_bytes] = '\0';
    mz_frequency freq;
    if (mz_frequency_parse(ctx, name, &freq) != MZ_OK) {
        return;
    }
    char written[MZ_FREQUENCY_BYTES];
    mz_frequency again = {0};
    (void)mz_frequency_name(&freq, written);
    require(mz_frequency_parse(ctx, written, &again) == MZ_OK);
    require(mz_frequency_equal(&freq, &again));
    require(mz_season_length(&freq, n) >= 1);
    mz_frequency_anchor(&freq, n > 0 ? stamps[0] : 0);
    check_frequency(&freq, stamps, n);
}

static int64_t settle(mz_stamp_column *column, mz_stamp *stamps, int64_t n) {
    mz_stamp_column_settle(column);
    for (int64_t i = 0; i < n; i++) {
        stamps[i] = mz_stamp_column_value(column, stamps[i]);
        require(is_in_range(stamps[i]));
        char written[MZ_STAMP_BYTES];
        (void)mz_stamp_format(&column->form, stamps[i], written);
    }
    char note[MZ_STAMP_NOTE_BYTES];
    require(mz_stamp_column_note(column, note) == (note[0] != '\0'));
    return n;
}

static size_t line_bytes(const char *text, size_t n_left) {
    const char *end = memchr(text, '\n', n_left);
    return end != NULL ? (size_t)(end - text) : n_left;
}

/* The bytes as numbers: whatever they are, a season fits in. */
static void check_season(mz_context *ctx, const uint8_t *data, size_t size) {
    double values[MAX_ROWS];
    const size_t n = size / sizeof values[0] < MAX_ROWS ? size / sizeof values[0] : MAX_ROWS;
    memcpy(values, data, n * sizeof values[0]);
    for (int64_t expected = 0; expected < 8; expected += 7) {
        int64_t season = 0;
        if (mz_season_detect(ctx, values, (int64_t)n, expected, &season) == MZ_OK) {
            require(season == 1 || (season >= 2 && season <= (int64_t)n / 3));
        }
    }
}

/* Lines of text: each alone; together as a column, which begins anew after a fault; and as names of
 * frequencies for the stamps that the column gave. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    const char *text = (const char *)data;
    mz_stamp_column column = {.day_first = size % 2 == 1};
    mz_stamp stamps[MAX_ROWS];
    int64_t n = 0;
    int64_t n_final = 0;
    for (size_t i = 0; i < size && n < MAX_ROWS;) {
        const size_t n_bytes = line_bytes(text + i, size - i);
        check_text(text + i, n_bytes);
        if (mz_stamp_column_add(&ctx, &column, text + i, n_bytes, n + 1, &stamps[n]) == MZ_OK) {
            n++;
        } else {
            require(strchr(ctx.error.message, '\n') == NULL);
            n_final = settle(&column, stamps + n_final, n - n_final) + n_final;
            column = (mz_stamp_column){.day_first = size % 2 == 1};
        }
        i += n_bytes + 1;
    }
    (void)settle(&column, stamps + n_final, n - n_final);
    mz_frequency freq;
    if (mz_frequency_infer(&ctx, stamps, n, &freq) == MZ_OK && freq.kind != MZ_FREQUENCY_NONE) {
        require(!freq.is_open && freq.n >= 1);
        check_frequency(&freq, stamps, n);
    }
    for (size_t i = 0; i < size;) {
        const size_t n_bytes = line_bytes(text + i, size - i);
        check_frequency_name(&ctx, text + i, n_bytes, stamps, n);
        i += n_bytes + 1;
    }
    check_season(&ctx, data, size);
    return 0;
}
