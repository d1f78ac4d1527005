#include "core/dir_lock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/testing.h"

static void assert_message(const mz_context *ctx, const char *part) {
    if (strstr(ctx->error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, ctx->error.message);
    }
}

static void one_at_a_time(void **state) {
    mz_context *ctx = *state;
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    mz_lock lock;
    mz_lock second = {.fd = 42};
    mz_assert_ok(ctx, mz_dir_lock(ctx, dir, &lock));
    assert_int_equal(mz_dir_lock(ctx, dir, &second), MZ_ERR_IO);
    assert_message(ctx, dir);
    assert_message(ctx, " is in use by another training");
    assert_int_equal(second.fd, 42);
    mz_dir_unlock(&lock);
    mz_assert_ok(ctx, mz_dir_lock(ctx, dir, &lock));
    mz_dir_unlock(&lock);
    mz_temp_dir_remove(dir);
}

/* A child takes the lock and is killed while it holds it. */
static void a_killed_process_gives_it_back(void **state) {
    mz_context *ctx = *state;
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        mz_lock held;
        const char taken = mz_dir_lock(ctx, dir, &held) == MZ_OK ? 'y' : 'n';
        (void)(write(ready[1], &taken, 1) == 1);
        (void)pause();
        _exit(0);
    }
    char taken = 0;
    assert_int_equal(read(ready[0], &taken, 1), 1);
    assert_int_equal(taken, 'y');
    mz_lock lock;
    assert_int_equal(mz_dir_lock(ctx, dir, &lock), MZ_ERR_IO);
    assert_message(ctx, "is in use by another training");
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    mz_assert_ok(ctx, mz_dir_lock(ctx, dir, &lock));
    mz_dir_unlock(&lock);
    (void)close(ready[0]);
    (void)close(ready[1]);
    mz_temp_dir_remove(dir);
}

static void what_cannot_be_locked(void **state) {
    mz_context *ctx = *state;
    mz_lock lock;
    assert_int_equal(mz_dir_lock(ctx, "/nowhere/at/all", &lock), MZ_ERR_IO);
    assert_message(ctx, "/nowhere/at/all/.lock: cannot open: No such file");
    char dir[512];
    char path[600];
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)snprintf(path, sizeof path, "%s/.lock", dir);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(mz_dir_lock(ctx, dir, &lock), MZ_ERR_IO);
    assert_message(ctx, "cannot open");
    mz_temp_dir_remove(dir);
}

static void an_allocation_may_fail(void **state) {
    (void)state;
    mz_failing_allocator counter;
    const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
    mz_context ctx;
    assert_int_equal(
        mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    counter.fail_at = counter.n_calls + 1;
    mz_lock lock;
    assert_int_equal(mz_dir_lock(&ctx, "x", &lock), MZ_ERR_NOMEM);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(a_killed_process_gives_it_back),
        cmocka_unit_test(what_cannot_be_locked),
        cmocka_unit_test(an_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
