/* Pictures: ticks, texts, drawings for a terminal exactly, files by their structure. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/plot/plot.h"
#include "apps/plot/plot_internal.h"
#include "core/file.h"

typedef struct fixture {
    mz_context ctx;
    char dir[512];
    char path[600];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_temp_dir_remove(f->dir);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

static const char *at(fixture *f, const char *name) {
    (void)snprintf(f->path, sizeof f->path, "%s/%s", f->dir, name);
    return f->path;
}

/* The text is released with mz_free. */
static void read_file(fixture *f, const char *path, char **text, size_t *n) {
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, path, 1 << 26, text, n));
}

/* --- ticks --- */

/* "LABEL LABEL(CONTEXT) ..." */
static const char *ticks_text(const mz_plot_ticks *ticks) {
    static char text[MZ_PLOT_MAX_TICKS * 2 * (MZ_PLOT_LABEL_BYTES + 2)];
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; i < ticks->n; i++) {
        const mz_plot_tick *t = &ticks->items[i];
        const bool context = t->context[0] != '\0';
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s%s%s", i > 0 ? " " : "", t->label,
                              context ? "(" : "", t->context, context ? ")" : "");
    }
    return text;
}

static void value_ticks(void **state) {
    (void)state;
    static const struct {
        double lo, hi;
        int n;
        const char *expected;
    } cases[] = {
        {0, 1, 4, "0 0.2 0.4 0.6 0.8 1.0"},
        {0, 10, 4, "0 2 4 6 8 10"},
        {-1.5, 1.5, 4, "-1 0 1"},
        {0, 5000, 5, "0 1,000 2,000 3,000 4,000 5,000"},
        {0, 9999, 4, "0 2,000 4,000 6,000 8,000"},
        {280e3, 540e3, 5, "300k 350k 400k 450k 500k"},
        {0, 25000, 5, "0 5k 10k 15k 20k 25k"},
        {10000, 12000, 4, "10.0k 10.5k 11.0k 11.5k 12.0k"},
        {1.9e6, 5.1e6, 3, "2M 3M 4M 5M"},
        {0, 3e9, 3, "0 1G 2G 3G"},
        {0, 2e12, 2, "0 1T 2T"},
        {1e9, 1e9 + 2, 3, "1,000,000,000 1,000,000,001 1,000,000,002"},
        {12000, 12200, 4, "12,000 12,050 12,100 12,150 12,200"},
        {999e3, 1001e3, 2, "999,000 1,000,000 1,001,000"},
        {0, 2e-8, 4, "0 5.0e-9 1.0e-8 1.5e-8 2.0e-8"},
        {-2e301, 2e301, 4, "-2e301 -1e301 0 1e301 2e301"},
        {-0.05, 0.02, 3, "-0.04 -0.02 0 0.02"},
        {0.31, 0.39, 1, "0.32 0.34 0.36 0.38"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mz_plot_ticks ticks;
        mz_plot_value_ticks((mz_plot_range){cases[i].lo, cases[i].hi}, cases[i].n, &ticks);
        assert_string_equal(ticks_text(&ticks), cases[i].expected);
    }
}

static void index_ticks(void **state) {
    (void)state;
    mz_plot_ticks ticks;
    mz_plot_axis axis = {
        .range = {0, 100}, .length = 60, .gap = 3, .measure = mz_plot_measure_columns()};
    mz_plot_index_ticks(&axis, &ticks);
    assert_string_equal(ticks_text(&ticks), "0 10 20 30 40 50 60 70 80 90 100");
    axis.range = (mz_plot_range){999990, 1000010};
    axis.length = 30;
    mz_plot_index_ticks(&axis, &ticks);
    assert_string_equal(ticks_text(&ticks), "999,990 1,000,000 1,000,010");
    axis.range = (mz_plot_range){-0.2, 0.3}; /* never between the points */
    mz_plot_index_ticks(&axis, &ticks);
    assert_string_equal(ticks_text(&ticks), "0");
}

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

/* Ticks of `n` points every `step` from `start`, on an axis `length` characters long. */
static const char *even_ticks(int64_t start, int64_t step, int n, double length) {
    static int64_t times[1000];
    assert_true(n <= 1000);
    for (int i = 0; i < n; i++) {
        times[i] = start + i * step;
    }
    const mz_plot_panel panel = {.n_history = n, .times = times};
    static mz_plot_ticks ticks;
    mz_plot_axis axis = {.length = length, .gap = 3, .measure = mz_plot_measure_columns()};
    mz_plot_range y;
    mz_plot_ranges(&panel, &axis.range, &y);
    mz_plot_time_ticks(&panel, &axis, &ticks);
    return ticks_text(&ticks);
}

static void time_ticks(void **state) {
    (void)state;
    const int64_t y2024 = 19723 * DAY; /* 1 January 2024, a Monday */
    assert_string_equal(even_ticks(y2024, HOUR, 25, 80),
                        "00:00(1 Jan 2024) 03:00 06:00 09:00 12:00 15:00 18:00 21:00 "
                        "00:00(2 Jan 2024)");
    assert_string_equal(
        even_ticks(y2024 + 20 * HOUR, HOUR, 10, 80),
        "20:00(1 Jan 2024) 21:00 22:00 23:00 00:00(2 Jan 2024) 01:00 02:00 03:00 04:00 05:00");
    /* The first date gives way to the second where both would touch. */
    assert_string_equal(even_ticks(y2024 + 23 * HOUR, HOUR, 9, 80),
                        "23:00 00:00(2 Jan 2024) 01:00 02:00 03:00 04:00 05:00 06:00 07:00");
    assert_string_equal(even_ticks(y2024, 15 * 60 * SECOND, 9, 80),
                        "00:00(1 Jan 2024) 00:15 00:30 00:45 01:00 01:15 01:30 01:45 02:00");
    assert_string_equal(even_ticks(y2024, SECOND, 31, 60),
                        "00:00:00(1 Jan 2024) 00:00:10 00:00:20 00:00:30");
    assert_string_equal(even_ticks(y2024, 250000, 5, 80),
                        "00:00:00.0(1 Jan 2024) 00:00:00.5 00:00:01.0");
    assert_string_equal(even_ticks(y2024 - 3 * DAY, DAY, 7, 80),
                        "29 Dec(2023) 30 Dec 31 Dec 1 Jan(2024) 2 Jan 3 Jan 4 Jan");
    assert_string_equal(even_ticks(y2024 + 2 * DAY, 7 * DAY, 6, 80),
                        "3 Jan(2024) 10 Jan 17 Jan 24 Jan 31 Jan 7 Feb");
    assert_string_equal(even_ticks(y2024, DAY, 40, 40), "8 Jan(2024) 22 Jan 5 Feb");
    assert_string_equal(even_ticks(y2024, DAY, 300, 80),
                        "Jan 2024 Mar 2024 May 2024 Jul 2024 Sep 2024");
    assert_string_equal(even_ticks(y2024, DAY, 1000, 40), "2024 2025 2026");
    assert_string_equal(even_ticks(y2024, DAY, 1, 40), "31 Dec(2023) 1 Jan(2024) 2 Jan");
    /* Before 1970 and before the year 1. */
    assert_string_equal(even_ticks(-719162 * DAY, 365 * DAY, 300, 40), "0 50 100 150 200 250");
    assert_string_equal(even_ticks(-25567 * DAY, 30 * DAY, 3, 50), "Jan 1900 Feb 1900 Mar 1900");
}

/* Series dated at the end of their months, quarters and years: a tick names the period of the point
 * below which it stands. */
static void ticks_stand_at_points(void **state) {
    (void)state;
    static const int ends[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t times[12];
    int64_t day = 19723 - 1;
    for (int i = 0; i < 12; i++) {
        day += ends[i];
        times[i] = day * DAY;
    }
    const mz_plot_panel months = {.n_history = 12, .times = times};
    mz_plot_ticks ticks;
    mz_plot_range y;
    mz_plot_axis axis = {.length = 60, .gap = 2, .measure = mz_plot_measure_columns()};
    mz_plot_ranges(&months, &axis.range, &y);
    mz_plot_time_ticks(&months, &axis, &ticks);
    assert_string_equal(ticks_text(&ticks),
                        "Jan 2024 Mar 2024 May 2024 Jul 2024 Sep 2024 Nov 2024");
    assert_true(ticks.items[0].at == (double)times[0] && ticks.items[3].at == (double)times[6]);

    const int64_t quarters[] = {times[2], times[5], times[8], times[11]};
    const mz_plot_panel by_quarter = {.n_history = 4, .times = quarters};
    mz_plot_ranges(&by_quarter, &axis.range, &y);
    mz_plot_time_ticks(&by_quarter, &axis, &ticks);
    assert_string_equal(ticks_text(&ticks), "Mar 2024 Jun 2024 Sep 2024 Dec 2024");
    assert_true(ticks.items[1].at == (double)quarters[1]);

    const int64_t years[] = {(19723 - 1) * DAY, times[11], times[11] + 365 * DAY};
    const mz_plot_panel by_year = {.n_history = 3, .times = years};
    mz_plot_ranges(&by_year, &axis.range, &y);
    mz_plot_time_ticks(&by_year, &axis, &ticks);
    assert_string_equal(ticks_text(&ticks), "2023 2024 2025");
    assert_true(ticks.items[2].at == (double)years[2]);
}

/* Whatever the range and the length, labels keep their distance. */
static void labels_never_touch(void **state) {
    (void)state;
    static const int64_t spans[] = {
        1,         1000,       SECOND * 40,    HOUR * 5,        DAY * 3,      DAY * 45,
        DAY * 400, DAY * 5000, DAY * 100000LL, DAY * 5000000LL, INT64_MAX / 2};
    for (size_t s = 0; s < sizeof spans / sizeof *spans; s++) {
        for (int length = 10; length <= 200; length += 19) {
            const int64_t times[] = {-spans[s] / 3, 0, spans[s] - spans[s] / 3};
            const mz_plot_panel panel = {
                .n_history = 3, .times = times, .period_s = (double)spans[s] / 1e6 / 300};
            mz_plot_axis axis = {.length = length, .gap = 2, .measure = mz_plot_measure_columns()};
            mz_plot_range y;
            mz_plot_ticks ticks;
            mz_plot_ranges(&panel, &axis.range, &y);
            mz_plot_time_ticks(&panel, &axis, &ticks);
            assert_true(ticks.n >= 1);
            const double scale = length / (axis.range.hi - axis.range.lo);
            for (int i = 1; i < ticks.n; i++) {
                const double room = (ticks.items[i].at - ticks.items[i - 1].at) * scale;
                const int widths = mz_plot_columns(ticks.items[i].label) +
                                   mz_plot_columns(ticks.items[i - 1].label);
                assert_true(room >= widths / 2.0 + 1.99);
            }
        }
    }
}

/* --- text --- */

static void texts_are_cleaned(void **state) {
    (void)state;
    static const struct {
        const char *given, *expected;
    } cases[] = {
        {NULL, ""},
        {"na\xC3\xAFve", "na\xC3\xAFve"},
        {"a\xFF", "a\xEF\xBF\xBD"},
        {"\xC3", "\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* half of a surrogate pair */
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},                 /* an overlong NUL */
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"a\tb\nc", "a b c"},
        {"\033[31m\x7F", "\xEF\xBF\xBD[31m\xEF\xBF\xBD"},
        {"\xC2\x9B", "\xEF\xBF\xBD"},     /* a control character of two bytes */
        {"\xE2\x80\xAE", "\xEF\xBF\xBD"}, /* right to left from here */
        {"\xF0\x9F\x8D\x8E", "\xF0\x9F\x8D\x8E"},
    };
    char out[MZ_PLOT_TEXT_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mz_plot_clean(cases[i].given, out);
        assert_string_equal(out, cases[i].expected);
    }
    /* Any length of any bytes ends within the buffer, keeping head and tail. */
    for (size_t n = 0; n < 2000; n++) {
        char text[2001];
        for (size_t i = 0; i < n; i++) {
            text[i] = (char)(i * 7 % 11 == 0 ? 0xFF : i % 5 == 0 ? 0xC3 : 'a');
        }
        text[n] = '\0';
        memset(out, 'x', sizeof out);
        mz_plot_clean(text, out);
        assert_non_null(memchr(out, '\0', sizeof out));
    }
}

static void long_texts_lose_their_middle(void **state) {
    (void)state;
    const mz_plot_measure measure = mz_plot_measure_columns();
    char out[MZ_PLOT_TEXT_BYTES];
    char text[1001];
    memset(text, 'a', 1000);
    memcpy(text + 995, "12345", 6);
    mz_plot_clean(text, out);
    assert_true(strlen(out) < MZ_PLOT_TEXT_BYTES);
    assert_string_equal(out + strlen(out) - 5, "12345");
    mz_plot_fit(out, 9, &measure);
    assert_string_equal(out, "aaaa\xE2\x80\xA6"
                             "2345");
    mz_plot_clean("short", out);
    mz_plot_fit(out, 5, &measure);
    assert_string_equal(out, "short");
    mz_plot_fit(out, 2, &measure);
    assert_string_equal(out, "s\xE2\x80\xA6");
    mz_plot_fit(out, 0, &measure);
    assert_string_equal(out, "\xE2\x80\xA6");
    mz_plot_clean("\xE5\xB9\xB4\xE9\x96\x93", out); /* two characters, two columns each */
    assert_int_equal(mz_plot_columns(out), 4);
    mz_plot_clean("e\xCC\x81", out); /* a letter and its accent */
    assert_int_equal(mz_plot_columns(out), 1);
}

/* --- terminal --- */

/* What is written, in memory released by free. */
typedef struct written {
    char *text;
    size_t n;
    FILE *stream;
} written;

static void begin(written *w) {
    *w = (written){0};
    w->stream = open_memstream(&w->text, &w->n);
    assert_non_null(w->stream);
}

static char *drawn(fixture *f, const mz_plot *plot, int width, int height, bool colour) {
    written w;
    begin(&w);
    const mz_plot_terminal_options options = {.width = width, .height = height, .colour = colour};
    mz_assert_ok(&f->ctx, mz_plot_terminal(&f->ctx, plot, &options, w.stream));
    assert_int_equal(fclose(w.stream), 0);
    return w.text;
}

static void terminal_drawing(void **state) {
    fixture *f = *state;
    static const double history[] = {0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, NAN, 4, 3, 2};
    static const double forecast[] = {1, 0, 1, 2, 3};
    static const double lower[] = {0, -1, 0, 1, 2};
    static const double upper[] = {2, 1, 2, 3, 4};
    static const double truth[] = {1, 1, 2, 4, 3};
    const mz_plot_band band = {0.8, lower, upper};
    const mz_plot_mark mark = {4, 3.5};
    const int64_t n = 20;
    int64_t times[20];
    for (int64_t i = 0; i < n; i++) {
        times[i] = 19723 * DAY + i * HOUR;
    }
    const mz_plot_panel panel = {.title = "zigzag",
                                 .unit = "units",
                                 .history = history,
                                 .n_history = 15,
                                 .forecast = forecast,
                                 .horizon = 5,
                                 .bands = &band,
                                 .n_bands = 1,
                                 .truth = truth,
                                 .marks = &mark,
                                 .n_marks = 1,
                                 .times = times};
    const mz_plot plot = {.panels = &panel, .n_panels = 1, .n_more = 2};
    char *text = drawn(f, &plot, 60, 8, false);
    assert_string_equal(text, "zigzag (units)\n"
                              "4┤           ⢀◆⢄                      ⠢⡀     ┊          × ░░\n"
                              " │         ⢀⠔⠁  ⠑⢄                     ⠈⠢⡀   ┊          ░░░▖\n"
                              " │       ⢀⠔⠁      ⠑⢄                     ⠈⠢⡀ ┊        ░░░▄▀░\n"
                              "2┤     ⢀⠔⠁          ⠑⢄         ⡠⠂          ⠈▚▖ ░░   ░×░▄▀░░░\n"
                              " │   ⡠⠊⠁              ⠉⠢⡀    ⡠⠊⠁             ▝▀▄░░×░▗▞▀░░░\n"
                              " │ ⡠⠊                   ⠈⠢⡀⡠⠊                ┊ ░▀▄▗▞▘░░░\n"
                              "0┤⠈                       ⠈                  ┊ ░░░▘░░░\n"
                              " │                                           ┊   ░░░\n"
                              " └┬────────┬────────┬────────┬────────┬────────┬────────┬───\n"
                              "00:00    03:00    06:00    09:00    12:00    15:00    18:00\n"
                              "1 Jan 2024\n"
                              "\n"
                              "⠒⠒ history   ▀▀ forecast   ░░ 80 % interval   × actual\n"
                              "◆ anomaly\n"
                              "2 more series are not shown\n");
    free(text);
}

/* Lines of a drawing keep to the width, with and without labels. */
static void terminal_width(void **state) {
    fixture *f = *state;
    double values[300];
    for (int i = 0; i < 300; i++) {
        values[i] = 1e9 + i % 7 * 0.1;
    }
    char id[700];
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    const mz_plot_panel panel = {.title = id,
                                 .unit = id,
                                 .history = values,
                                 .n_history = 250,
                                 .forecast = values,
                                 .horizon = 50};
    const mz_plot plot = {.title = id, .panels = &panel, .n_panels = 1};
    for (int width = 20; width < 140; width += 7) {
        char *text = drawn(f, &plot, width, 5, false);
        for (char *line = text; *line != '\0';) {
            char *end = strchr(line, '\n');
            assert_non_null(end);
            *end = '\0';
            assert_true(mz_plot_columns(line) <= width);
            line = end + 1;
        }
        free(text);
    }
    char *text = drawn(f, &plot, 0, 0, true);
    assert_non_null(strstr(text, "\033[38;5;33m"));
    assert_non_null(strstr(text, "\033[0m"));
    free(text);
}

static void terminal_heatmap(void **state) {
    fixture *f = *state;
    static const double values[] = {0, 0.125, 0.25, 0.5, 1, 0.01, NAN, 2};
    static const char *const rows[] = {"first", "b\033"};
    const mz_plot_heatmap map = {.title = "shares",
                                 .row_axis = "layer",
                                 .column_axis = "expert",
                                 .row_labels = rows,
                                 .values = values,
                                 .n_rows = 2,
                                 .n_columns = 4,
                                 .max = 1};
    written w;
    begin(&w);
    const mz_plot_terminal_options options = {.width = 40};
    mz_assert_ok(&f->ctx, mz_plot_heatmap_terminal(&f->ctx, &map, &options, w.stream));
    assert_int_equal(fclose(w.stream), 0);
    assert_string_equal(w.text, "shares\n\n"
                                "first│  ▁ ▂ ▄\n"
                                "   b\xEF\xBF\xBD│█ ▁ · █\n"
                                "      0 1 2 3\n"
                                "layer x expert\n"
                                "0 ▁▂▃▄▅▆▇█ 100 %\n");
    free(w.text);
}

static void heatmap_cells_are_means(void **state) {
    (void)state;
    double values[10];
    for (int i = 0; i < 10; i++) {
        values[i] = i / 10.0;
    }
    values[9] = NAN;
    const mz_plot_heatmap map = {.values = values, .n_rows = 1, .n_columns = 10};
    assert_int_equal(mz_plot_heatmap_parts(10, 4), 4);
    assert_int_equal(mz_plot_heatmap_parts(128, 77), 64);
    assert_int_equal(mz_plot_heatmap_parts(1, 77), 1);
    assert_int_equal(mz_plot_heatmap_begin(10, 4, 3), 9);
    assert_int_equal(mz_plot_heatmap_begin(10, 4, 4), 10);
    assert_true(fabs(mz_plot_heatmap_cell(&map, 1, 4, 0, 1) - 0.4) < 1e-12);
    assert_true(isnan(mz_plot_heatmap_cell(&map, 1, 4, 0, 3)));
    assert_true(mz_plot_heatmap_max(&map) == 0.8);
}

/* --- files --- */

/* Fails unless `text` is XML whose tags are closed in order; good for what this program writes. */
static void assert_well_formed(const char *text) {
    enum { MAX_DEPTH = 64, MAX_NAME = 32 };
    char open[MAX_DEPTH][MAX_NAME];
    int depth = 0;
    int n_elements = 0;
    for (const char *s = strchr(text, '<'); s != NULL; s = strchr(s, '<')) {
        const char *end = strchr(s, '>');
        assert_non_null(end);
        const bool closing = s[1] == '/';
        const char *name = s + 1 + closing;
        const size_t n = strcspn(name, " \t\n/>");
        assert_true(n > 0 && n < MAX_NAME);
        if (closing) {
            assert_true(depth > 0);
            depth--;
            assert_int_equal(strlen(open[depth]), n);
            assert_memory_equal(open[depth], name, n);
        } else if (s[1] != '?' && s[1] != '!' && end[-1] != '/') {
            assert_true(depth < MAX_DEPTH);
            memcpy(open[depth], name, n);
            open[depth][n] = '\0';
            depth++;
        }
        n_elements++;
        s = end + 1;
    }
    assert_int_equal(depth, 0);
    assert_true(n_elements > 10);
}

static uint32_t big_endian(const unsigned char *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Checks what stands at `path`; `width` and `height` in units, 0: any. */
static void assert_picture(fixture *f, const char *path, uint32_t width, uint32_t height) {
    size_t n = 0;
    char *text = NULL;
    read_file(f, path, &text, &n);
    const char *suffix = strrchr(path, '.');
    assert_true(n > 200);
    if (strcmp(suffix, ".svg") == 0) {
        char size[64];
        (void)snprintf(size, sizeof size, "width=\"%upx\" height=\"%upx\"", width, height);
        assert_well_formed(text);
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        if (width > 0) {
            assert_non_null(strstr(text, size));
        }
    } else if (strcmp(suffix, ".png") == 0) {
        assert_memory_equal(text, "\x89PNG\r\n\x1A\n", 8);
        assert_memory_equal(text + n - 8, "IEND", 4);
        if (width > 0) {
            assert_int_equal(big_endian((const unsigned char *)text + 16), 2 * width);
            assert_int_equal(big_endian((const unsigned char *)text + 20), 2 * height);
        }
    } else {
        assert_memory_equal(text, "%PDF-", 5);
        assert_memory_equal(text + n - 6, "%%EOF\n", 6);
    }
    mz_free(&f->ctx, text);
}

static void files_of_one_panel(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"a.svg", "a.png", "a.pdf", "a.b.PNG"};
    double values[48];
    for (int i = 0; i < 48; i++) {
        values[i] = 100 + i % 12;
    }
    const mz_plot_panel panel = {.title = "series <1> & \"more\"",
                                 .history = values,
                                 .n_history = 36,
                                 .forecast = values,
                                 .horizon = 12};
    const mz_plot plot = {.panels = &panel, .n_panels = 1};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mz_assert_ok(&f->ctx, mz_plot_write(&f->ctx, &plot, at(f, names[i])));
        if (i < 3) {
            assert_picture(f, f->path, 900, 420);
        }
    }
}

static void small_multiples(void **state) {
    fixture *f = *state;
    static const struct {
        int n, columns, rows;
        uint32_t width;
    } cases[] = {{2, 2, 1, 1100}, {6, 2, 3, 1100}, {7, 3, 3, 1280}, {17, 5, 4, 1600}};
    static const double values[] = {1, 2, 3};
    mz_plot_panel panels[70];
    for (int i = 0; i < 70; i++) {
        panels[i] = (mz_plot_panel){.title = "s", .history = values, .n_history = 3};
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mz_plot plot = {.panels = panels, .n_panels = cases[i].n};
        char size[32];
        size_t n = 0;
        mz_assert_ok(&f->ctx, mz_plot_write(&f->ctx, &plot, at(f, "many.svg")));
        assert_picture(f, f->path, 0, 0);
        char *text = NULL;
        read_file(f, f->path, &text, &n);
        (void)snprintf(size, sizeof size, "width=\"%upx\"", cases[i].width);
        assert_non_null(strstr(text, size));
        mz_free(&f->ctx, text);
    }
    /* The 61st panel is not looked at, only counted. */
    panels[60] = (mz_plot_panel){.n_history = 1LL << 40};
    const mz_plot plot = {.panels = panels, .n_panels = 70, .n_more = 5};
    mz_assert_ok(&f->ctx, mz_plot_write(&f->ctx, &plot, at(f, "most.svg")));
    assert_picture(f, f->path, 0, 0);
    char *text = drawn(f, &plot, 40, 4, false);
    assert_non_null(strstr(text, "15 more series are not shown\n"));
    free(text);
}

static void odd_series(void **state) {
    fixture *f = *state;
    enum { N_DENSE = 20000 };
    static double dense[N_DENSE];
    double constant[20], huge[20], gaps[20];
    static const double one[] = {3}, infinite[] = {INFINITY, -INFINITY, NAN, 1.7e308},
                        extremes[] = {-1.7e308, 1.7e308, 0}, none[] = {NAN, NAN, NAN},
                        tiny[] = {5e-324, 0, 1e-310};
    static const int64_t same[] = {5, 5, 5}, backwards[] = {INT64_MAX, 0, INT64_MIN};
    for (int i = 0; i < 20; i++) {
        constant[i] = -42;
        huge[i] = (i % 3 - 1) * 1e300;
        gaps[i] = i % 2 ? (double)i : (double)NAN;
    }
    for (int i = 0; i < N_DENSE; i++) {
        dense[i] = i / 1000 == 7 ? NAN : sin(i / 900.0);
    }
    const mz_plot_mark marks[] = {{0, 1}, {-5, 2}, {1LL << 40, 3}, {19, NAN}, {1, INFINITY}};
    const mz_plot_band bands[] = {{0.5, gaps, huge}, {0.9, none, constant}, {NAN, one, one}};
    const mz_plot_panel panels[] = {
        {.title = "\xFF\xFE",
         .history = constant,
         .n_history = 20,
         .forecast = constant,
         .horizon = 1},
        {.history = huge, .n_history = 20, .marks = marks, .n_marks = 5},
        {.history = gaps, .n_history = 20, .first_index = INT64_MAX - 30},
        {.history = one, .n_history = 1},
        {.forecast = one, .horizon = 1, .times = same},
        {.history = infinite, .n_history = 4},
        {.history = extremes, .n_history = 3, .times = backwards},
        {.history = extremes, .n_history = 3, .times = same, .period_s = INFINITY},
        {.history = none, .n_history = 3},
        {.history = tiny, .n_history = 3, .period_s = NAN, .times = same},
        {.history = dense, .n_history = N_DENSE},
        {.history = one,
         .n_history = 1,
         .forecast = gaps,
         .horizon = 1,
         .bands = bands,
         .n_bands = 3},
        {.title = "empty"},
    };
    const int n = sizeof panels / sizeof *panels;
    for (int i = 0; i <= n; i++) {
        const mz_plot plot = {.panels = i < n ? &panels[i] : panels, .n_panels = i < n ? 1 : n};
        const bool empty = i < n && mz_plot_panel_is_empty(&panels[i]);
        const mz_status expected = empty ? MZ_ERR_MISSING : MZ_OK;
        assert_int_equal(mz_plot_write(&f->ctx, &plot, at(f, "odd.svg")), expected);
        if (!empty) {
            assert_picture(f, f->path, 0, 0);
            char *text = drawn(f, &plot, 50, 6, false);
            assert_true(strlen(text) > 100);
            free(text);
        }
    }
}

/* A line of 20000 points is drawn with a few per pixel column and keeps its peak. */
static void dense_lines_are_reduced(void **state) {
    fixture *f = *state;
    enum { N = 200000 };
    double *values = calloc(N, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < N; i++) {
        values[i] = i % 2;
    }
    values[N / 3] = 50;
    const mz_plot_panel panel = {.title = "dense", .history = values, .n_history = N};
    const mz_plot plot = {.panels = &panel, .n_panels = 1};
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_plot_write(&f->ctx, &plot, at(f, "dense.svg")));
    char *text = NULL;
    read_file(f, f->path, &text, &n);
    assert_true(n < 300000);
    mz_free(&f->ctx, text);
    free(values);
}

static void heatmap_files(void **state) {
    fixture *f = *state;
    enum { N_ROWS = 700, N_COLUMNS = 900 };
    double *values = calloc((size_t)N_ROWS * N_COLUMNS, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < N_ROWS * N_COLUMNS; i++) {
        values[i] = i % 17 == 0 ? NAN : i % 10 / 10.0;
    }
    static const int sizes[][2] = {{1, 1}, {3, 8}, {64, 65}, {N_ROWS, 2}, {N_ROWS, N_COLUMNS}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const mz_plot_heatmap map = {.title = "usage \xFF",
                                     .column_axis = "expert",
                                     .values = values,
                                     .n_rows = sizes[i][0],
                                     .n_columns = sizes[i][1]};
        mz_assert_ok(&f->ctx, mz_plot_heatmaps_write(&f->ctx, NULL, &map, 1, at(f, "map.svg")));
        assert_picture(f, f->path, 0, 0);
        mz_assert_ok(&f->ctx, mz_plot_heatmaps_write(&f->ctx, NULL, &map, 1, at(f, "map.png")));
        assert_picture(f, f->path, 0, 0);
    }
    free(values);
}

static void several_heatmaps(void **state) {
    fixture *f = *state;
    enum { N_MAPS = 5 };
    static const double values[] = {0.1, 0.2, 0.3, NAN, 0.5, 1};
    mz_plot_heatmap maps[N_MAPS];
    for (int i = 0; i < N_MAPS; i++) {
        maps[i] =
            (mz_plot_heatmap){.title = "a", .values = values, .n_rows = 6 - i, .n_columns = 1};
    }
    for (int n = 1; n <= N_MAPS; n++) {
        mz_assert_ok(&f->ctx, mz_plot_heatmaps_write(&f->ctx, n > 1 ? "all \xFF" : NULL, maps, n,
                                                     at(f, "maps.svg")));
        assert_picture(f, f->path, 0, 0);
    }
    mz_assert_ok(&f->ctx, mz_plot_heatmaps_write(&f->ctx, "all", maps, N_MAPS, at(f, "maps.pdf")));
    assert_picture(f, f->path, 0, 0);
    assert_int_equal(mz_plot_heatmaps_write(&f->ctx, "all", maps, 0, at(f, "none.svg")),
                     MZ_ERR_MISSING);
    maps[2].n_rows = 0;
    assert_int_equal(mz_plot_heatmaps_write(&f->ctx, "all", maps, 3, at(f, "none.svg")),
                     MZ_ERR_MISSING);
}

static void units_are_said_once(void **state) {
    (void)state;
    const struct {
        const char *title, *unit, *expected;
    } cases[] = {{"load (MW)", "MW", ""},  {"load [MW]", "MW", ""}, {"load", "MW", "MW"},
                 {"load MW)", "MW", "MW"}, {"(MW)", "MW", ""},      {"MW", "MW", "MW"},
                 {NULL, "MW", "MW"},       {"load (MW)", NULL, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mz_plot_panel panel = {.title = cases[i].title, .unit = cases[i].unit};
        char title[MZ_PLOT_TEXT_BYTES], unit[MZ_PLOT_TEXT_BYTES];
        mz_plot_panel_texts(&panel, title, unit);
        assert_string_equal(unit, cases[i].expected);
    }
}

static void assert_fails(const fixture *f, mz_status status, mz_status expected, const char *part) {
    assert_int_equal(status, expected);
    if (strstr(f->ctx.error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, f->ctx.error.message);
    }
}

static void errors(void **state) {
    fixture *f = *state;
    mz_context *ctx = &f->ctx;
    static const double values[] = {1, 2, 3};
    static const char *const bad_names[] = {"a.jpg", "svg", "", "a.svg.gz", "png/"};
    const mz_plot_panel panel = {.history = values, .n_history = 3};
    const mz_plot_panel negative = {.history = values, .n_history = 3, .horizon = -1};
    const mz_plot plot = {.panels = &panel, .n_panels = 1};
    const mz_plot nothing = {0};
    const mz_plot bad = {.panels = &negative, .n_panels = 1};
    const mz_plot_heatmap no_cells = {.values = values, .n_rows = 3};
    const mz_plot_terminal_options options = {.width = 80};
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        assert_fails(f, mz_plot_write(ctx, &plot, bad_names[i]), MZ_ERR_UNSUPPORTED,
                     "must end in .svg, .png or .pdf");
    }
    mz_assert_ok(ctx, mz_plot_check_path(ctx, "dir/x.PDF"));
    assert_fails(f, mz_plot_write(ctx, &nothing, at(f, "n.svg")), MZ_ERR_MISSING,
                 "nothing to plot");
    assert_false(mz_file_exists(f->path));
    assert_fails(f, mz_plot_write(ctx, &bad, at(f, "n.svg")), MZ_ERR_ARG, "negative count");
    assert_fails(f, mz_plot_terminal(ctx, &nothing, &options, stdout), MZ_ERR_MISSING,
                 "nothing to plot");
    assert_fails(f, mz_plot_heatmaps_write(ctx, NULL, &no_cells, 1, at(f, "n.png")), MZ_ERR_MISSING,
                 "3 rows and 0 columns");
    assert_fails(f, mz_plot_write(ctx, &plot, at(f, "no/such/folder.png")), MZ_ERR_IO,
                 "folder.png");
    if (mz_file_exists("/dev/full")) {
        char link[600];
        (void)snprintf(link, sizeof link, "%s/full.png", f->dir);
        assert_int_equal(symlink("/dev/full", link), 0);
        assert_fails(f, mz_plot_write(ctx, &plot, link), MZ_ERR_IO, "full.png: cannot write");
    }
}

static void every_allocation_may_fail(void **state) {
    fixture *f = *state;
    static const double values[] = {1, 2, 3};
    const mz_plot_panel panel = {.history = values, .n_history = 3};
    const mz_plot plot = {.panels = &panel, .n_panels = 1};
    const mz_plot_terminal_options options = {.width = 80};
    mz_status status = MZ_ERR_NOMEM;
    for (int64_t fail_at = 1; status != MZ_OK; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
        mz_context ctx;
        written w;
        begin(&w);
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        const int64_t n_live = failing.n_live;
        failing.fail_at = failing.n_calls + fail_at;
        status = mz_plot_terminal(&ctx, &plot, &options, w.stream);
        if (status == MZ_OK) {
            status = mz_plot_write(&ctx, &plot, at(f, "alloc.png"));
        }
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(mz_file_exists(at(f, "alloc.png")), status == MZ_OK);
        assert_int_equal(failing.n_live, n_live);
        mz_context_close(&ctx);
        assert_int_equal(fclose(w.stream), 0);
        free(w.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value_ticks),
        cmocka_unit_test(index_ticks),
        cmocka_unit_test(time_ticks),
        cmocka_unit_test(ticks_stand_at_points),
        cmocka_unit_test(labels_never_touch),
        cmocka_unit_test(texts_are_cleaned),
        cmocka_unit_test(long_texts_lose_their_middle),
        cmocka_unit_test_setup_teardown(terminal_drawing, setup, teardown),
        cmocka_unit_test_setup_teardown(terminal_width, setup, teardown),
        cmocka_unit_test_setup_teardown(terminal_heatmap, setup, teardown),
        cmocka_unit_test(heatmap_cells_are_means),
        cmocka_unit_test_setup_teardown(files_of_one_panel, setup, teardown),
        cmocka_unit_test_setup_teardown(small_multiples, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_series, setup, teardown),
        cmocka_unit_test_setup_teardown(dense_lines_are_reduced, setup, teardown),
        cmocka_unit_test_setup_teardown(heatmap_files, setup, teardown),
        cmocka_unit_test_setup_teardown(several_heatmaps, setup, teardown),
        cmocka_unit_test(units_are_said_once),
        cmocka_unit_test_setup_teardown(errors, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
