#include "core/glob.h"

#include "tests/testing.h"

static void matches(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool expected;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"abc", "abc", true},
        {"abc", "abd", false},
        {"abc", "abcd", false},
        {"*", "", true},
        {"*", "anything.at.all", true},
        {"**", "x", true},
        {"?", "", false},
        {"?", "x", true},
        {"?", "xy", false},
        {"*.bias", "layers.0.q_proj.bias", true},
        {"*.bias", "layers.0.q_proj.bias.x", false},
        {"*.?_proj.bias", "layers.0.q_proj.bias", true},
        {"*.?_proj.bias", "layers.0.gate_proj.bias", false},
        {"layers.*.norm*", "layers.12.input.norm.weight", true},
        {"*a*b", "aab", true},
        {"*ab*ab", "abababx", false},
        {"*ab?", "ababc", true},
        {"x[0]*", "x[0].weight", true},
        {"x[0]*", "x0.weight", false},
        {"a\\*", "a*", false},
        {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (mz_glob_match(cases[i].pattern, cases[i].text) != cases[i].expected) {
            fail_msg("%s against %s: expected %d", cases[i].pattern, cases[i].text,
                     cases[i].expected);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
