/* The arena: stack order, alignment, and that measuring says what taking needs. */
#include "tests/testing.h"

#include <stdalign.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"

static void takes_in_order(void **state) {
    (void)state;
    static alignas(64) unsigned char memory[1024];
    mz_arena arena;
    mz_error err = {MZ_OK, ""};
    mz_arena_init(&arena, memory, sizeof memory);
    void *a = NULL;
    void *b = NULL;
    void *c = NULL;
    assert_int_equal(mz_arena_take(&arena, 1, "a", &a, &err), MZ_OK);
    assert_int_equal(mz_arena_take(&arena, 64, "b", &b, &err), MZ_OK);
    assert_int_equal(mz_arena_take(&arena, 65, "c", &c, &err), MZ_OK);
    assert_ptr_equal(a, memory);
    assert_ptr_equal(b, memory + 64);
    assert_ptr_equal(c, memory + 128);
    assert_int_equal(arena.used, 256);

    const size_t mark = mz_arena_mark(&arena);
    void *scratch = NULL;
    void *again = NULL;
    assert_int_equal(mz_arena_take(&arena, 500, "scratch", &scratch, &err), MZ_OK);
    mz_arena_release(&arena, mark);
    assert_int_equal(mz_arena_take(&arena, 10, "again", &again, &err), MZ_OK);
    assert_ptr_equal(again, scratch);
    assert_int_equal(arena.used, 256 + 64);
    assert_int_equal(arena.peak, 256 + 512);
}

static void refuses_more_than_its_bound(void **state) {
    (void)state;
    static alignas(64) unsigned char memory[256];
    mz_arena arena;
    mz_error err = {MZ_OK, ""};
    mz_arena_init(&arena, memory, sizeof memory);
    void *p = NULL;
    assert_int_equal(mz_arena_take(&arena, 64, "first", &p, &err), MZ_OK);
    static const size_t sizes[] = {193,           256,          SIZE_MAX / 2, SIZE_MAX - 64,
                                   SIZE_MAX - 63, SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *untouched = &arena;
        assert_int_equal(mz_arena_take(&arena, sizes[i], "scores", &untouched, &err), MZ_ERR_LIMIT);
        assert_non_null(strstr(err.message, "scores"));
        assert_ptr_equal(untouched, &arena);
        assert_int_equal(arena.used, 64);
        assert_int_equal(arena.peak, 64);
    }
    assert_int_equal(mz_arena_take(&arena, 192, "rest", &p, &err), MZ_OK);
    assert_int_equal(mz_arena_take(&arena, 0, "nothing", &p, &err), MZ_OK);
    assert_int_equal(mz_arena_take(&arena, 1, "one more", &p, &err), MZ_ERR_LIMIT);
}

static void measuring_cannot_overflow(void **state) {
    (void)state;
    mz_arena arena;
    mz_error err = {MZ_OK, ""};
    mz_arena_init_measure(&arena);
    void *p = &arena;
    assert_int_equal(mz_arena_take(&arena, SIZE_MAX / 2, "half", &p, &err), MZ_OK);
    assert_null(p);
    assert_int_equal(mz_arena_take(&arena, SIZE_MAX / 2 - 128, "other half", &p, &err), MZ_OK);
    assert_int_equal(mz_arena_take(&arena, 1000, "over", &p, &err), MZ_ERR_LIMIT);
    assert_non_null(strstr(err.message, "over"));
}

/* One set-up run: nested scratch of random sizes. */
static void set_up(mz_arena *arena, uint64_t seed) {
    mz_error err = {MZ_OK, ""};
    for (uint64_t layer = 0; layer < 20; layer++) {
        const size_t mark = mz_arena_mark(arena);
        for (uint64_t i = 0; i < 10; i++) {
            const size_t bytes = (size_t)(mz_rng_uniform(seed, layer, i) * 3000.0f);
            void *p = NULL;
            assert_int_equal(mz_arena_take(arena, bytes, "buffer", &p, &err), MZ_OK);
            assert_true(arena->measure ? p == NULL : (uintptr_t)p % 64 == 0);
            if (p != NULL) {
                memset(p, 0x5a, bytes);
            }
        }
        if (layer % 3 != 0) {
            mz_arena_release(arena, mark);
        }
    }
}

static void measured_size_is_enough(void **state) {
    (void)state;
    mz_context ctx;
    const mz_context_options options = {.n_threads = 1, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
    for (uint64_t seed = 0; seed < 20; seed++) {
        mz_arena arena;
        mz_arena_init_measure(&arena);
        set_up(&arena, seed);
        const size_t bound = arena.peak;
        void *memory = NULL;
        mz_assert_ok(&ctx, mz_alloc(&ctx, bound, "arena", &memory));
        mz_arena_init(&arena, memory, bound);
        set_up(&arena, seed);
        assert_int_equal(arena.peak, bound);
        mz_free(&ctx, memory);
    }
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_in_order),
        cmocka_unit_test(refuses_more_than_its_bound),
        cmocka_unit_test(measuring_cannot_overflow),
        cmocka_unit_test(measured_size_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
