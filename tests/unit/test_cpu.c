/* Instruction set levels: names, and detection against the single features. */
#include "tests/testing.h"

#include <string.h>

#include "core/cpu.h"

static void names_round_trip(void **state) {
    (void)state;
    static const char *const expected[] = {"scalar", "avx2", "avx512", "avx512-bf16", "amx"};
    assert_int_equal(sizeof expected / sizeof expected[0], MZ_ISA_COUNT);
    for (int i = 0; i < MZ_ISA_COUNT; i++) {
        assert_string_equal(mz_isa_name((mz_isa)i), expected[i]);
        assert_int_equal(mz_isa_parse(expected[i]), i);
    }
    assert_string_equal(mz_isa_name(MZ_ISA_AUTO), "auto");
    assert_int_equal(mz_isa_parse("auto"), MZ_ISA_AUTO);
    static const char *const unknown[] = {"",        "AVX2", "avx2 ", "avx", "avx512_bf16",
                                          "unknown", "amx\n"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(mz_isa_parse(unknown[i]), MZ_ISA_COUNT);
    }
    assert_non_null(mz_isa_name(MZ_ISA_COUNT));
    assert_non_null(mz_isa_name((mz_isa)-2));
}

/* Whether `word` is one of the space-separated words of `list`. */
static bool lists(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = strstr(list, word); p != NULL; p = strstr(p + 1, word)) {
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static void level_needs_its_features(void **state) {
    (void)state;
    static const struct {
        mz_isa level;
        const char *feature;
    } needed[] = {
        {MZ_ISA_AVX2, "avx"},
        {MZ_ISA_AVX2, "avx2"},
        {MZ_ISA_AVX2, "fma"},
        {MZ_ISA_AVX2, "f16c"},
        {MZ_ISA_AVX512, "avx512f"},
        {MZ_ISA_AVX512, "avx512bw"},
        {MZ_ISA_AVX512, "avx512dq"},
        {MZ_ISA_AVX512, "avx512vl"},
        {MZ_ISA_AVX512_BF16, "avx512_vnni"},
        {MZ_ISA_AVX512_BF16, "avx512_bf16"},
        {MZ_ISA_AMX, "amx_tile"},
        {MZ_ISA_AMX, "amx_bf16"},
        {MZ_ISA_AMX, "amx_int8"},
    };
    char features[512];
    mz_cpu_features(features, sizeof features);
    const mz_isa level = mz_isa_detect();
    assert_in_range(level, MZ_ISA_SCALAR, MZ_ISA_COUNT - 1);
    assert_int_equal(mz_isa_detect(), level);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (needed[i].level <= level && !lists(features, needed[i].feature)) {
            fail_msg("%s detected without %s in \"%s\"", mz_isa_name(level), needed[i].feature,
                     features);
        }
    }
}

/* The compiler's own detection, which also asks the operating system for the state it saves, is the
 * second opinion. */
static void level_agrees_with_the_compiler(void **state) {
    (void)state;
#if defined(__x86_64__) && defined(__GNUC__)
    const mz_isa level = mz_isa_detect();
    const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    const bool avx512 =
        avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
        __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512vnni") != 0 &&
                      __builtin_cpu_supports("avx512bf16") != 0;
    assert_int_equal(level >= MZ_ISA_AVX2, avx2);
    assert_int_equal(level >= MZ_ISA_AVX512, avx512);
    assert_int_equal(level >= MZ_ISA_AVX512_BF16, bf16);
#else
    assert_int_equal(mz_isa_detect(), MZ_ISA_SCALAR);
#endif
}

static void features_are_cut(void **state) {
    (void)state;
    char whole[512];
    mz_cpu_features(whole, sizeof whole);
    const size_t n = strlen(whole);
    assert_true(n < sizeof whole - 1);
    for (size_t size = 0; size <= n + 1; size++) {
        char cut[513];
        memset(cut, '#', sizeof cut);
        mz_cpu_features(cut, size);
        assert_int_equal(cut[size], '#');
        if (size > 0) {
            assert_true(strlen(cut) < size);
            assert_int_equal(strncmp(cut, whole, strlen(cut)), 0);
        }
    }
}

static void at_least_one_processor(void **state) {
    (void)state;
    assert_true(mz_cpu_count() >= 1);
    assert_true(mz_memory_bytes() >= (size_t)1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(level_needs_its_features),
        cmocka_unit_test(level_agrees_with_the_compiler),
        cmocka_unit_test(features_are_cut),
        cmocka_unit_test(at_least_one_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
