#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/testing.h"

typedef struct fixture {
    mz_context ctx;
    char dir[512];
    char path[1024]; /* of the last at() */
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1,
                                                                         .isa = MZ_ISA_SCALAR}));
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

static void assert_message(const fixture *f, const char *part) {
    if (strstr(f->ctx.error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, f->ctx.error.message);
    }
}

static void assert_contents(fixture *f, const char *name, const char *expected) {
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, at(f, name), 1000, &text, &n));
    assert_int_equal(n, strlen(expected));
    assert_string_equal(text, expected);
    mz_free(&f->ctx, text);
}

/* Number of entries of the folder, to see that no temporary is left. */
static int n_entries(const fixture *f) {
    char command[600];
    (void)snprintf(command, sizeof command, "ls -A '%s' | wc -l", f->dir);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    int n = -1;
    assert_int_equal(fscanf(p, "%d", &n), 1);
    assert_int_equal(pclose(p), 0);
    return n;
}

/* --- reading --- */

static void maps_a_file(void **state) {
    fixture *f = *state;
    mz_map map;
    mz_assert_ok(&f->ctx, mz_map_open(&f->ctx, mz_write_file(f->dir, "a", "hello", 5), &map));
    assert_int_equal(map.bytes, 5);
    assert_memory_equal(map.data, "hello", 5);
    mz_map_close(&map);
    mz_map_close(&map);
    mz_assert_ok(&f->ctx, mz_map_open(&f->ctx, mz_write_file(f->dir, "empty", "", 0), &map));
    assert_int_equal(map.bytes, 0);
    assert_null(map.data);
    mz_map_close(&map);
}

static void refuses_what_is_no_file(void **state) {
    fixture *f = *state;
    assert_int_equal(mkfifo(at(f, "pipe"), 0600), 0);
    const struct {
        const char *path;
        const char *reason;
    } cases[] = {{f->dir, "is a directory"},
                 {"/dev/null", "expected a regular file"},
                 {f->path, "expected a regular file"},
                 {"/nowhere/x", "No such file"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_map map = {0};
        char *text = NULL;
        size_t n = 0;
        assert_int_equal(mz_map_open(&f->ctx, cases[i].path, &map), MZ_ERR_IO);
        assert_message(f, cases[i].reason);
        assert_message(f, cases[i].path);
        assert_int_equal(mz_file_read(&f->ctx, cases[i].path, 10, &text, &n), MZ_ERR_IO);
        assert_message(f, cases[i].reason);
        assert_null(text);
    }
}

static void reads_within_the_limit(void **state) {
    fixture *f = *state;
    char *text = NULL;
    size_t n = 0;
    const char *path = mz_write_file(f->dir, "a", "12345", 5);
    assert_int_equal(mz_file_read(&f->ctx, path, 4, &text, &n), MZ_ERR_LIMIT);
    assert_message(f, "5 bytes, the limit is 4");
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, path, 5, &text, &n));
    assert_int_equal(n, 5);
    assert_string_equal(text, "12345");
    mz_free(&f->ctx, text);
    assert_true(mz_file_exists(path));
    assert_false(mz_dir_exists(path));
    assert_true(mz_dir_exists(f->dir));
    assert_false(mz_file_exists(f->dir));
    bool has = false;
    mz_assert_ok(&f->ctx, mz_dir_has_file(&f->ctx, f->dir, strrchr(path, '/') + 1, &has));
    assert_true(has);
    mz_assert_ok(&f->ctx, mz_dir_has_file(&f->ctx, f->dir, "another", &has));
    assert_false(has);
}

static void joins_paths(void **state) {
    fixture *f = *state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *path = NULL;
        mz_assert_ok(&f->ctx, mz_path_join(&f->ctx, cases[i][0], cases[i][1], &path));
        assert_string_equal(path, cases[i][2]);
        mz_free(&f->ctx, path);
    }
}

/* --- writing --- */

static mz_status write_text(fixture *f, const char *path, const char *text) {
    mz_output out;
    MZ_TRY(mz_output_open(&f->ctx, path, &out));
    (void)fputs(text, out.stream);
    return mz_output_commit(&f->ctx, &out);
}

static void creates_a_file_with_the_umask(void **state) {
    fixture *f = *state;
    const mode_t before = umask(027);
    mz_assert_ok(&f->ctx, write_text(f, at(f, "new"), "text"));
    (void)umask(before);
    struct stat st;
    assert_int_equal(stat(at(f, "new"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_contents(f, "new", "text");
    assert_int_equal(n_entries(f), 1);
}

static void replaces_only_on_commit(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "a", "old", 3);
    assert_int_equal(chmod(at(f, "a"), 0604), 0);
    mz_output out;
    mz_assert_ok(&f->ctx, mz_output_open(&f->ctx, at(f, "a"), &out));
    assert_true(fputs("new", out.stream) >= 0);
    assert_int_equal(fflush(out.stream), 0);
    assert_contents(f, "a", "old");
    mz_assert_ok(&f->ctx, mz_output_commit(&f->ctx, &out));
    assert_contents(f, "a", "new");
    struct stat st;
    assert_int_equal(stat(at(f, "a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0604);
    assert_int_equal(n_entries(f), 1);
}

static void abort_leaves_the_target(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "a", "old", 3);
    mz_output out;
    mz_assert_ok(&f->ctx, mz_output_open(&f->ctx, at(f, "a"), &out));
    assert_true(fputs("new", out.stream) >= 0);
    mz_output_abort(&f->ctx, &out);
    mz_output_abort(&f->ctx, &out);
    assert_contents(f, "a", "old");
    assert_int_equal(n_entries(f), 1);
}

static void follows_links(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "target", "old", 3);
    assert_int_equal(symlink("target", at(f, "middle")), 0);
    assert_int_equal(symlink("middle", at(f, "link")), 0);
    mz_assert_ok(&f->ctx, write_text(f, at(f, "link"), "new"));
    assert_contents(f, "target", "new");
    char target[64];
    assert_int_equal(readlink(at(f, "link"), target, sizeof target), 6);
    assert_int_equal(symlink("later", at(f, "dangling")), 0);
    mz_assert_ok(&f->ctx, write_text(f, at(f, "dangling"), "made"));
    assert_contents(f, "later", "made");
    assert_int_equal(symlink("loop", at(f, "loop")), 0);
    assert_int_equal(write_text(f, at(f, "loop"), "x"), MZ_ERR_IO);
    assert_message(f, "symbolic links do not end");
}

static bool are_same(const fixture *f, const char *a, const char *b) {
    char one[700];
    char other[700];
    (void)snprintf(one, sizeof one, "%s/%s", f->dir, a);
    (void)snprintf(other, sizeof other, "%s/%s", f->dir, b);
    return mz_file_same(one, other);
}

static void names_of_one_file(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "file", "x", 1);
    (void)mz_write_file(f->dir, "twin", "x", 1);
    assert_int_equal(symlink("file", at(f, "link")), 0);
    assert_int_equal(mkdir(at(f, "folder"), 0700), 0);
    assert_true(are_same(f, "file", "file"));
    assert_true(are_same(f, "file", "./folder/../link"));
    assert_false(are_same(f, "file", "twin"));
    assert_false(are_same(f, "file", "new"));
    assert_true(are_same(f, "new", "folder/../new"));
    assert_false(are_same(f, "new", "folder/new"));
    assert_false(are_same(f, "new", "newer"));
    assert_false(are_same(f, "nowhere/new", "nowhere/new"));
    assert_true(mz_file_same("not-there", "./not-there"));
    assert_false(mz_file_same("/dev/null", "/dev/null"));
    char endless[5000];
    memset(endless, 'x', sizeof endless);
    endless[4500] = '/';
    endless[sizeof endless - 1] = '\0';
    assert_false(mz_file_same(endless, endless));
}

static void writes_devices_directly(void **state) {
    fixture *f = *state;
    struct stat before;
    struct stat after;
    assert_int_equal(stat("/dev/null", &before), 0);
    mz_assert_ok(&f->ctx, write_text(f, "/dev/null", "text"));
    assert_int_equal(stat("/dev/null", &after), 0);
    assert_true(S_ISCHR(after.st_mode));
    assert_int_equal(before.st_ino, after.st_ino);
}

static void a_full_device_is_noticed(void **state) {
    fixture *f = *state;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_int_equal(write_text(f, "/dev/full", "text"), MZ_ERR_IO);
    assert_message(f, "/dev/full: cannot write: No space left on device");
    assert_int_equal(symlink("/dev/full", at(f, "full")), 0);
    assert_int_equal(write_text(f, at(f, "full"), "text"), MZ_ERR_IO);
}

/* A write that fails in the middle is found by commit, and the old file survives: the stream's file
 * is swapped for the full device, as a disk that runs full would behave. */
static void a_failed_write_keeps_the_old_file(void **state) {
    fixture *f = *state;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    (void)mz_write_file(f->dir, "a", "old", 3);
    for (int flushed = 0; flushed < 2; flushed++) {
        mz_output out;
        mz_assert_ok(&f->ctx, mz_output_open(&f->ctx, at(f, "a"), &out));
        FILE *full = fopen("/dev/full", "wb");
        assert_non_null(full);
        assert_true(dup2(fileno(full), fileno(out.stream)) >= 0);
        assert_int_equal(fclose(full), 0);
        assert_true(fputs("new", out.stream) >= 0);
        if (flushed) {
            assert_int_equal(fflush(out.stream), EOF);
        }
        assert_int_equal(mz_output_commit(&f->ctx, &out), MZ_ERR_IO);
        assert_message(f, "cannot write");
        assert_contents(f, "a", "old");
        assert_int_equal(n_entries(f), 1);
    }
}

static void refuses_impossible_targets(void **state) {
    fixture *f = *state;
    mz_output out;
    assert_int_equal(mz_output_open(&f->ctx, f->dir, &out), MZ_ERR_IO);
    assert_message(f, "Is a directory");
    assert_int_equal(mz_output_open(&f->ctx, at(f, "no/such/file"), &out), MZ_ERR_IO);
    assert_message(f, "No such file");
    (void)mz_write_file(f->dir, "a", "old", 3);
    assert_int_equal(mz_output_open(&f->ctx, at(f, "a/b"), &out), MZ_ERR_IO);
    if (geteuid() != 0) {
        assert_int_equal(chmod(at(f, "a"), 0444), 0);
        assert_int_equal(mz_output_open(&f->ctx, at(f, "a"), &out), MZ_ERR_IO);
        assert_message(f, "Permission denied");
    }
    assert_contents(f, "a", "old");
}

static void standard_output_stays_open(void **state) {
    fixture *f = *state;
    static const char *const names[] = {NULL, "-"};
    for (size_t i = 0; i < 2; i++) {
        mz_output out;
        mz_assert_ok(&f->ctx, mz_output_open(&f->ctx, names[i], &out));
        assert_ptr_equal(out.stream, stdout);
        assert_null(out.temp_path);
        mz_assert_ok(&f->ctx, mz_output_commit(&f->ctx, &out));
    }
    assert_int_equal(fflush(stdout), 0);
}

static void every_failed_allocation_is_clean(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "a", "old", 3);
    assert_int_equal(symlink("a", at(f, "link")), 0);
    mz_status status = MZ_ERR_NOMEM;
    int64_t k = 0;
    while (status == MZ_ERR_NOMEM && k < 100) {
        k++;
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, k);
        mz_context ctx;
        assert_int_equal(mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                     .n_threads = 1,
                                                                     .isa = MZ_ISA_SCALAR}),
                         MZ_OK);
        mz_output out;
        status = mz_output_open(&ctx, at(f, "link"), &out);
        if (status == MZ_OK) {
            assert_true(fputs("new", out.stream) >= 0);
            status = mz_output_commit(&ctx, &out);
        }
        if (status != MZ_OK) {
            assert_contents(f, "a", "old");
        }
        assert_int_equal(counter.n_live, 0);
        assert_int_equal(n_entries(f), 2);
        mz_context_close(&ctx);
    }
    assert_int_equal(status, MZ_OK);
    assert_true(k > 3);
    assert_contents(f, "a", "new");
}

static void makes_folders_above_too(void **state) {
    fixture *f = *state;
    mz_assert_ok(&f->ctx, mz_dir_make(&f->ctx, at(f, "x/y//z/")));
    assert_true(mz_dir_exists(at(f, "x/y/z")));
    mz_assert_ok(&f->ctx, mz_dir_make(&f->ctx, at(f, "x/y/z")));
    (void)mz_write_file(f->dir, "file", "a", 1);
    assert_int_equal(mz_dir_make(&f->ctx, at(f, "file")), MZ_ERR_IO);
    assert_message(f, "file: cannot make the folder: ");
    assert_int_equal(mz_dir_make(&f->ctx, at(f, "file/z")), MZ_ERR_IO);
    assert_int_equal(rmdir(at(f, "x/y/z")), 0);
    assert_int_equal(rmdir(at(f, "x/y")), 0);
    assert_int_equal(rmdir(at(f, "x")), 0);
}

static void put_empty(fixture *f, const char *name) {
    FILE *stream = fopen(at(f, name), "wb");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
}

/* Of a process that is no more; not those of one that lives, nor what only looks like one. */
static void sweeps_what_is_left_behind(void **state) {
    fixture *f = *state;
    char names[6][64];
    const pid_t gone = fork();
    if (gone == 0) {
        _exit(0);
    }
    assert_true(gone > 0 && waitpid(gone, NULL, 0) == gone);
    (void)snprintf(names[0], sizeof names[0], ".moezoo-%ld-0.tmp", (long)gone);
    (void)snprintf(names[1], sizeof names[1], ".moezoo-%ld-12.tmp", (long)gone);
    (void)snprintf(names[2], sizeof names[2], ".moezoo-%ld-0.tmp", (long)getpid());
    (void)snprintf(names[3], sizeof names[3], ".moezoo-%ld-00.tmp", (long)gone);
    (void)snprintf(names[4], sizeof names[4], ".moezoo-%ld-0.tmp2", (long)gone);
    (void)snprintf(names[5], sizeof names[5], ".moezoo-x-0.tmp");
    for (int i = 0; i < 6; i++) {
        put_empty(f, names[i]);
    }
    mz_output_sweep(f->dir);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(mz_file_exists(at(f, names[i])), i >= 2);
    }
    mz_output_sweep(at(f, "no such folder"));
}

static void the_only_file_with_an_ending_is_found(void **state) {
    (void)state;
    mz_context ctx;
    mz_assert_ok(&ctx,
                 mz_context_init(&ctx, &(mz_context_options){.n_threads = 1, .isa = MZ_ISA_AUTO}));
    const char *dir = mz_temp_dir_create();
    char *name = NULL;
    mz_assert_ok(&ctx, mz_dir_find(&ctx, dir, ".end", &name));
    assert_null(name);
    (void)mz_write_file(dir, "a.end", "x", 1);
    (void)mz_write_file(dir, "b.end.not", "x", 1);
    mz_assert_ok(&ctx, mz_dir_find(&ctx, dir, ".end", &name));
    assert_string_equal(name, "a.end");
    mz_free(&ctx, name);
    name = NULL;
    (void)mz_write_file(dir, "b.end", "x", 1);
    assert_int_equal(mz_dir_find(&ctx, dir, ".end", &name), MZ_ERR_FORMAT);
    mz_temp_dir_remove(dir);
    mz_assert_ok(&ctx, mz_dir_find(&ctx, "/nowhere", ".end", &name));
    assert_null(name);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(maps_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_file, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_within_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(joins_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(makes_folders_above_too, setup, teardown),
        cmocka_unit_test_setup_teardown(creates_a_file_with_the_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(replaces_only_on_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(abort_leaves_the_target, setup, teardown),
        cmocka_unit_test_setup_teardown(follows_links, setup, teardown),
        cmocka_unit_test(the_only_file_with_an_ending_is_found),
        cmocka_unit_test_setup_teardown(sweeps_what_is_left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(names_of_one_file, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_devices_directly, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_device_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_impossible_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(standard_output_stays_open, setup, teardown),
        cmocka_unit_test_setup_teardown(every_failed_allocation_is_clean, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
