/* The context: allocations and their failures, options, growth. */
#include "tests/testing.h"

#include <string.h>

#include "core/threads.h"

static mz_context make_context(const mz_allocator *allocator) {
    mz_context ctx;
    const mz_context_options options = {.allocator = allocator, .n_threads = 1, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
    return ctx;
}

static void defaults(void **state) {
    (void)state;
    mz_context ctx;
    mz_assert_ok(&ctx, mz_context_init(&ctx, NULL));
    assert_int_equal(ctx.isa, mz_isa_detect());
    assert_int_equal(mz_pool_n_threads(ctx.pool), mz_cpu_count());
    assert_int_equal(ctx.error.status, MZ_OK);
    mz_context_close(&ctx);
    assert_null(ctx.pool);
    mz_context_close(NULL);
}

static void options_are_checked(void **state) {
    (void)state;
    static const int bad_counts[] = {-1, 1025, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof bad_counts / sizeof bad_counts[0]; i++) {
        mz_context ctx;
        const mz_context_options options = {.n_threads = bad_counts[i], .isa = MZ_ISA_AUTO};
        assert_int_equal(mz_context_init(&ctx, &options), MZ_ERR_ARG);
        assert_non_null(strstr(ctx.error.message, "threads"));
        assert_null(ctx.pool);
        mz_context_close(&ctx);
    }
    const mz_isa best = mz_isa_detect();
    for (int isa = MZ_ISA_AUTO; isa <= MZ_ISA_COUNT; isa++) {
        mz_context ctx;
        const mz_context_options options = {.n_threads = 3, .isa = (mz_isa)isa};
        const mz_status status = mz_context_init(&ctx, &options);
        if (isa == MZ_ISA_COUNT) {
            assert_int_equal(status, MZ_ERR_ARG);
        } else if (isa > (int)best) {
            assert_int_equal(status, MZ_ERR_UNSUPPORTED);
            assert_non_null(strstr(ctx.error.message, mz_isa_name((mz_isa)isa)));
            assert_non_null(strstr(ctx.error.message, mz_isa_name(best)));
        } else {
            assert_int_equal(status, MZ_OK);
            assert_int_equal(ctx.isa, isa == MZ_ISA_AUTO ? (int)best : isa);
            assert_int_equal(mz_pool_n_threads(ctx.pool), 3);
        }
        mz_context_close(&ctx);
    }
}

static void init_survives_failing_allocations(void **state) {
    (void)state;
    for (int64_t fail_at = 1;; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        const mz_context_options options = {
            .allocator = &allocator, .n_threads = 4, .isa = MZ_ISA_AUTO};
        const mz_status status = mz_context_init(&ctx, &options);
        const bool failed = failing.n_calls >= fail_at;
        assert_int_equal(status, failed ? MZ_ERR_NOMEM : MZ_OK);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
        if (!failed) {
            assert_true(fail_at > 1);
            return;
        }
    }
}

/* Memory as malloc may give it: used before. */
static void *dirty_alloc(void *self, size_t bytes, size_t alignment) {
    const mz_allocator system = mz_allocator_system();
    void *ptr = system.alloc(self, bytes, alignment);
    if (ptr != NULL) {
        memset(ptr, 0xa5, bytes);
    }
    return ptr;
}

static void allocations_are_aligned_and_usable(void **state) {
    (void)state;
    mz_allocator dirty = mz_allocator_system();
    dirty.alloc = dirty_alloc;
    mz_context ctx = make_context(&dirty);
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1000001};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *ptr = NULL;
        mz_assert_ok(&ctx, mz_alloc(&ctx, sizes[i], "test", &ptr));
        assert_non_null(ptr);
        assert_int_equal((uintptr_t)ptr % 64, 0);
        memset(ptr, 0x5a, sizes[i]);
        mz_free(&ctx, ptr);

        mz_assert_ok(&ctx, mz_calloc(&ctx, sizes[i], 3, "test", &ptr));
        assert_int_equal((uintptr_t)ptr % 64, 0);
        const unsigned char *bytes = ptr;
        for (size_t k = 0; k < 3 * sizes[i]; k++) {
            assert_int_equal(bytes[k], 0);
        }
        mz_free(&ctx, ptr);
    }
    mz_free(&ctx, NULL);
    mz_context_close(&ctx);
}

static void impossible_sizes(void **state) {
    (void)state;
    mz_context ctx = make_context(NULL);
    int marker = 0;
    void *ptr = &marker;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(mz_alloc(&ctx, sizes[i], "weights", &ptr), MZ_ERR_NOMEM);
        assert_non_null(strstr(ctx.error.message, "weights"));
        assert_null(ctx.allocator.reserve(ctx.allocator.self, sizes[i]));
    }
    assert_int_equal(mz_calloc(&ctx, SIZE_MAX / 2, 3, "weights", &ptr), MZ_ERR_LIMIT);
    assert_non_null(strstr(ctx.error.message, "weights"));
    assert_int_equal(mz_calloc(&ctx, 3, SIZE_MAX / 2, "weights", &ptr), MZ_ERR_LIMIT);
    assert_ptr_equal(ptr, &marker);
    mz_context_close(&ctx);
}

static void reserved_memory_is_zero_and_cheap(void **state) {
    (void)state;
    const mz_allocator a = mz_allocator_system();
    const size_t bytes = (size_t)1 << 33; /* 8 GiB, of which three pages are committed */
    unsigned char *p = a.reserve(a.self, bytes);
    assert_non_null(p);
    assert_int_equal(p[0], 0);
    assert_int_equal(p[bytes - 1], 0);
    p[bytes / 2] = 1;
    a.unreserve(a.self, p, bytes);
    void *none = a.reserve(a.self, 0);
    assert_non_null(none);
    a.unreserve(a.self, none, 0);
    a.unreserve(a.self, NULL, 0);
}

static void grow_keeps_contents(void **state) {
    (void)state;
    mz_context ctx = make_context(NULL);
    void *memory = NULL;
    size_t capacity = 0;
    size_t n_moves = 0;
    for (size_t n = 0; n < 10000; n++) {
        const size_t before = capacity;
        mz_assert_ok(&ctx, mz_grow(&ctx, &memory, &capacity, n + 1, sizeof(uint32_t), "numbers"));
        assert_true(capacity > n);
        if (capacity != before) {
            assert_true(capacity >= 2 * before);
            n_moves++;
        }
        ((uint32_t *)memory)[n] = (uint32_t)(n * 2654435761u);
    }
    for (size_t n = 0; n < 10000; n++) {
        assert_int_equal(((const uint32_t *)memory)[n], (uint32_t)(n * 2654435761u));
    }
    assert_true(n_moves <= 14);
    mz_assert_ok(&ctx, mz_grow(&ctx, &memory, &capacity, 1000000, sizeof(uint32_t), "numbers"));
    assert_true(capacity >= 1000000);
    mz_free(&ctx, memory);
    mz_context_close(&ctx);
}

static void grow_fails_without_a_trace(void **state) {
    (void)state;
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
    mz_context ctx = make_context(&allocator);
    void *memory = NULL;
    size_t capacity = 0;
    mz_assert_ok(&ctx, mz_grow(&ctx, &memory, &capacity, 5, sizeof(uint64_t), "rows"));
    ((uint64_t *)memory)[4] = 77;
    void *const before = memory;
    const size_t capacity_before = capacity;

    static const size_t too_many[] = {SIZE_MAX, SIZE_MAX / 8 + 1};
    for (size_t i = 0; i < sizeof too_many / sizeof too_many[0]; i++) {
        assert_int_equal(mz_grow(&ctx, &memory, &capacity, too_many[i], sizeof(uint64_t), "rows"),
                         MZ_ERR_LIMIT);
        assert_non_null(strstr(ctx.error.message, "rows"));
    }
    assert_int_equal(mz_grow(&ctx, &memory, &capacity, SIZE_MAX / 8, sizeof(uint64_t), "rows"),
                     MZ_ERR_NOMEM);
    failing.fail_at = failing.n_calls + 1;
    assert_int_equal(mz_grow(&ctx, &memory, &capacity, 1000, sizeof(uint64_t), "rows"),
                     MZ_ERR_NOMEM);
    assert_ptr_equal(memory, before);
    assert_int_equal(capacity, capacity_before);
    assert_int_equal(((const uint64_t *)memory)[4], 77);
    mz_free(&ctx, memory);
    assert_int_equal(failing.n_live, 0);
    mz_context_close(&ctx);
}

static void strings_are_copied(void **state) {
    (void)state;
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
    mz_context ctx = make_context(&allocator);
    static const char *const texts[] = {"", "a", "model.layers.0.weight"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *copy = NULL;
        mz_assert_ok(&ctx, mz_strdup(&ctx, texts[i], &copy));
        assert_string_equal(copy, texts[i]);
        assert_ptr_not_equal(copy, texts[i]);
        mz_free(&ctx, copy);
    }
    failing.fail_at = failing.n_calls + 1;
    char *untouched = NULL;
    assert_int_equal(mz_strdup(&ctx, "x", &untouched), MZ_ERR_NOMEM);
    assert_null(untouched);
    assert_int_equal(failing.n_live, 0);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(init_survives_failing_allocations),
        cmocka_unit_test(allocations_are_aligned_and_usable),
        cmocka_unit_test(impossible_sizes),
        cmocka_unit_test(reserved_memory_is_zero_and_cheap),
        cmocka_unit_test(grow_keeps_contents),
        cmocka_unit_test(grow_fails_without_a_trace),
        cmocka_unit_test(strings_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
