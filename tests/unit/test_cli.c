/* The parts of the command line that the case files in tests/cli cannot reach exactly. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/cli.h"

/* What the options of the test's command are parsed into. */
typedef struct parsed {
    bool flag;
    int64_t number;
    const char *text;
    int choice;
    mz_option_list list;
    double real;
    const char *positionals[2];
    mz_arguments arguments;
    int exit_code;
    bool go_on;
} parsed;

static const mz_command command = {
    .name = "try", .summary = "nothing", .usage = "moezoo try", .examples = ""};

/* Parses `line`, words split at single spaces. */
static void parse(parsed *p, const char *line) {
    static char words[512];
    char *argv[16] = {(char[]){"try"}};
    int argc = 1;
    *p = (parsed){.number = -7, .choice = -1, .exit_code = -1};
    const mz_option options[] = {
        {"flag", 'f', MZ_OPTION_FLAG, NULL, "a flag", 0, 0, NULL, &p->flag},
        {"number", 'n', MZ_OPTION_INT, "N", "a number", -5, 500, NULL, &p->number},
        {"text", 0, MZ_OPTION_STRING, "TEXT", "a text", 0, 0, NULL, &p->text},
        {"choice", 'c', MZ_OPTION_CHOICE, NULL, "a choice", 0, 0, "red|redder|blue", &p->choice},
        {"set", 0, MZ_OPTION_LIST, "TEXT", "texts", 0, 0, NULL, &p->list},
        {"real", 0, MZ_OPTION_NUMBER, "X", "a real number", -1, 2, NULL, &p->real},
    };
    assert_true(strlen(line) < sizeof words);
    memcpy(words, line, strlen(line) + 1);
    for (char *word = words; *word != '\0';) {
        char *space = strchr(word, ' ');
        assert_true(argc < 15);
        argv[argc++] = word;
        if (space == NULL) {
            break;
        }
        *space = '\0';
        word = space + 1;
    }
    p->arguments = (mz_arguments){
        .options = options, .n_options = 6, .positionals = p->positionals, .max_positionals = 2};
    p->go_on = mz_cli_parse(&command, &p->arguments, argc, argv, &p->exit_code);
}

static void real_numbers(void **state) {
    (void)state;
    static const struct {
        const char *line;
        double value;
    } good[] = {{"--real 0.5", 0.5},   {"--real=2", 2},  {"--real -1", -1},   {"--real .25", 0.25},
                {"--real 1e-3", 1e-3}, {"--real +0", 0}, {"--real -.5", -0.5}};
    static const char *const bad[] = {"2.1", "-1.01", "nan",   "inf", "-inf", "1x",
                                      "x",   "0,5",   "1e999", "",    "-",    "."};
    parsed p;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        parse(&p, good[i].line);
        assert_true(p.go_on);
        assert_true(p.real == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "--real=%s", bad[i]);
        parse(&p, line);
        assert_false(p.go_on);
        assert_int_equal(p.exit_code, MZ_EXIT_USAGE);
    }
}

static void lists_keep_all_of_their_items(void **state) {
    (void)state;
    parsed p;
    parse(&p, "--set a=1 one --set=b=2 --set a=1");
    assert_true(p.go_on);
    assert_int_equal(p.list.n, 3);
    assert_string_equal(p.list.items[0], "a=1");
    assert_string_equal(p.list.items[1], "b=2");
    assert_string_equal(p.list.items[2], "a=1");
    parse(&p, "--set a --set");
    assert_int_equal(p.exit_code, MZ_EXIT_USAGE);
    parse(&p, "--set=");
    assert_int_equal(p.exit_code, MZ_EXIT_USAGE);
}

static void options_are_read(void **state) {
    (void)state;
    parsed p;
    parse(&p, "one --flag --number 12 --text=--x=y --choice redder - -t 3 --isa avx2 --quiet");
    assert_true(p.go_on);
    assert_true(p.flag && p.arguments.common.quiet);
    assert_int_equal(p.number, 12);
    assert_string_equal(p.text, "--x=y");
    assert_int_equal(p.choice, 1);
    assert_int_equal(p.arguments.n_positionals, 2);
    assert_string_equal(p.positionals[0], "one");
    assert_string_equal(p.positionals[1], "-");
    assert_int_equal(p.arguments.common.n_threads, 3);
    assert_int_equal(p.arguments.common.isa - 1, MZ_ISA_AVX2);
}

static void short_forms(void **state) {
    (void)state;
    parsed p;
    parse(&p, "-n-5 -cblue -f");
    assert_true(p.go_on && p.flag);
    assert_int_equal(p.number, -5);
    assert_int_equal(p.choice, 2);
    parse(&p, "-n=+5 -- --flag -n");
    assert_true(p.go_on && !p.flag);
    assert_int_equal(p.number, 5);
    assert_int_equal(p.arguments.n_positionals, 2);
    assert_string_equal(p.positionals[0], "--flag");
}

static void what_is_not_given_stays(void **state) {
    (void)state;
    parsed p;
    parse(&p, "");
    assert_true(p.go_on && !p.flag && p.text == NULL);
    assert_int_equal(p.number, -7);
    assert_int_equal(p.choice, -1);
    assert_int_equal(p.arguments.n_positionals, 0);
    assert_int_equal(p.arguments.common.isa - 1, MZ_ISA_AUTO);
}

static void wrong_lines(void **state) {
    (void)state;
    static const char *const lines[] = {
        "--number 501",
        "--number -6",
        "--number 12a",
        "--number",
        "--number=",
        "--number --flag",
        "--number 1 -n 1",
        "--flag=1",
        "-f1",
        "--choice re",
        "--choice redd",
        "--choice red|redder",
        "--choice=",
        "--unknown",
        "--",
        "-x",
        "--text=",
        "one two three",
        "--fla",
        "--flagg",
        "--isa mmx",
        "-t -1",
        "--=3",
        "--number=9223372036854775808",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        parsed p;
        parse(&p, lines[i]);
        if (strcmp(lines[i], "--") == 0) {
            assert_true(p.go_on); /* an empty rest is no error */
            continue;
        }
        if (p.go_on || p.exit_code != MZ_EXIT_USAGE) {
            fail_msg("\"%s\" was accepted or gave exit code %d", lines[i], p.exit_code);
        }
    }
}

static void isa_choices_follow_the_levels(void **state) {
    (void)state;
    for (int i = MZ_ISA_AUTO; i < MZ_ISA_COUNT; i++) {
        parsed p;
        char line[64];
        (void)snprintf(line, sizeof line, "--isa %s", mz_isa_name((mz_isa)i));
        parse(&p, line);
        assert_true(p.go_on);
        assert_int_equal(p.arguments.common.isa - 1, i);
    }
}

static void nearest_words(void **state) {
    (void)state;
    static const char *const words[] = {"horizon", "columns", "context", "model", "models-dir"};
    static const struct {
        const char *word, *expected;
    } cases[] = {
        {"horzion", "horizon"}, {"Horizon", "horizon"},
        {"hor", "horizon"},     {"modle", "model"},
        {"modl", "model"},      {"contxt", "context"},
        {"column", "columns"},  {"xyzzy", NULL},
        {"completely", NULL},   {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *near = mz_cli_nearest(cases[i].word, words, 5);
        if (cases[i].expected == NULL ? near != NULL
                                      : near == NULL || strcmp(near, cases[i].expected) != 0) {
            fail_msg("\"%s\" gave %s, expected %s", cases[i].word, near != NULL ? near : "nothing",
                     cases[i].expected != NULL ? cases[i].expected : "nothing");
        }
    }
}

static void doubles_read_back(void **state) {
    (void)state;
    static const double values[] = {0,       -0.0,      1,      0.1,
                                    1.0 / 3, 12345.678, 1e21,   1e308,
                                    DBL_MAX, DBL_MIN,   5e-324, -2.2250738585072011e-308};
    char text[32];
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        mz_cli_format_double(values[i], text);
        const double back = strtod(text, NULL);
        assert_memory_equal(&back, &values[i], sizeof back);
    }
    mz_cli_format_double(0.1, text);
    assert_string_equal(text, "0.1");
    mz_cli_format_double(5, text);
    assert_string_equal(text, "5");
    mz_cli_format_double((double)NAN, text);
    assert_string_equal(text, "null");
    mz_cli_format_double((double)-INFINITY, text);
    assert_string_equal(text, "null");
}

static void strings_are_escaped(void **state) {
    (void)state;
    static const struct {
        const char *text, *json, *plain;
    } cases[] = {
        {"a\"b\\c", "\"a\\\"b\\\\c\"", "a\"b\\c"},
        {"\n\x1b[0m\x7f", "\"\\u000a\\u001b[0m\\u007f\"", "??[0m?"},
        {"\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\xc3\xa9\xf0\x9f\x98\x80"},
        {"x\xff\xc3", "\"x\xef\xbf\xbd\xef\xbf\xbd\"", "x??"},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "??"},                  /* overlong */
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", "???"}, /* surrogate */
        {"\xc2\x9b", "\"\xc2\x9b\"", "?"}, /* a control character beyond ASCII */
        {"\xe2\x80\xaex\xe2\x81\xa9", "\"\xe2\x80\xaex\xe2\x81\xa9\"", "?x?"}, /* directions */
        {"\xe2\x80\x93\xe2\x82\xac", "\"\xe2\x80\x93\xe2\x82\xac\"", "\xe2\x80\x93\xe2\x82\xac"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int plain = 0; plain < 2; plain++) {
            char *written = NULL;
            size_t n = 0;
            FILE *stream = open_memstream(&written, &n);
            assert_non_null(stream);
            if (plain == 1) {
                mz_cli_write_plain(stream, cases[i].text);
            } else {
                mz_cli_write_json_string(stream, cases[i].text);
            }
            assert_int_equal(fclose(stream), 0);
            assert_string_equal(written, plain == 1 ? cases[i].plain : cases[i].json);
            free(written);
        }
    }
}

static void bytes_and_lines(void **state) {
    (void)state;
    static const char text[] = "a\0b\n\tc\x1b\xc3";
    char *written = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&written, &n);
    assert_non_null(stream);
    mz_cli_write_json_bytes(stream, text, sizeof text - 1);
    (void)fputc('|', stream);
    mz_cli_write_plain_lines(stream, text, sizeof text - 1);
    assert_int_equal(fclose(stream), 0);
    assert_string_equal(written, "\"a\\u0000b\\u000a\\u0009c\\u001b\xef\xbf\xbd\"|a?b\n\tc??");
    free(written);
    assert_int_equal(mz_cli_utf8_valid(text, sizeof text - 1), 7);
    assert_int_equal(mz_cli_utf8_valid("\xc3\xa9x", 3), 3);
    assert_int_equal(mz_cli_utf8_valid("x\xc3", 2), 1);
    assert_int_equal(mz_cli_utf8_valid("", 0), 0);
}

static void sizes_for_people(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(mz_cli_format_bytes(1023, text), "1023 bytes");
    assert_string_equal(mz_cli_format_bytes(1536, text), "1.5 KiB");
    assert_string_equal(mz_cli_format_count(113352192, text), "113.4 M");
    assert_string_equal(mz_cli_format_count(0, text), "0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read),
        cmocka_unit_test(real_numbers),
        cmocka_unit_test(lists_keep_all_of_their_items),
        cmocka_unit_test(short_forms),
        cmocka_unit_test(what_is_not_given_stays),
        cmocka_unit_test(wrong_lines),
        cmocka_unit_test(isa_choices_follow_the_levels),
        cmocka_unit_test(nearest_words),
        cmocka_unit_test(doubles_read_back),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(bytes_and_lines),
        cmocka_unit_test(sizes_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
