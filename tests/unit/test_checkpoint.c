#include "core/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/profile.h"
#include "tests/testing.h"

enum { N = 20011, N_TENSORS = 2, N_KILLS = 12 };

/* What was synced, in order; a sync of what `refused` names fails. */
enum { MAX_SYNCED = 64 };
static ino_t synced[MAX_SYNCED];
static int n_synced;
static ino_t refused_folder;
static bool files_are_refused;

/* Stands in for the system's in all of this program: what a kill does not lose, a power cut may. */
int fsync(int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return -1;
    }
    if (st.st_ino == refused_folder || (files_are_refused && S_ISREG(st.st_mode))) {
        errno = EIO;
        return -1;
    }
    if (n_synced < MAX_SYNCED) {
        synced[n_synced++] = st.st_ino;
    }
    return fdatasync(fd);
}

typedef struct fixture {
    mz_context ctx;
    char dir[512];
    char path[700]; /* of the last at() */
    float values[N];
    mz_checkpoint_tensor tensors[N_TENSORS];
} fixture;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static void fill(fixture *f, int64_t step) {
    mz_fill_uniform(f->values, N, (uint64_t)step, 1);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    const mz_tensor wide = mz_tensor_2d(MZ_DTYPE_F32, 7, 11, f->values);
    f->tensors[0] = (mz_checkpoint_tensor){"weights", mz_tensor_1d(MZ_DTYPE_F32, N, f->values)};
    f->tensors[1] = (mz_checkpoint_tensor){"columns", mz_tensor_cols(&wide, 2, 3)};
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

/* DIR/checkpoints/NAME */
static const char *at(fixture *f, const char *name) {
    (void)snprintf(f->path, sizeof f->path, "%s/checkpoints/%s", f->dir, name);
    return f->path;
}

static void assert_message(const fixture *f, const char *part) {
    if (strstr(f->ctx.error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, f->ctx.error.message);
    }
}

static mz_status write_with(mz_context *ctx, fixture *f, int64_t step, int64_t keep) {
    fill(f, step);
    json_t *state = json_pack("{s:I, s:f, s:[s]}", "seen", (json_int_t)(step * 10), "loss",
                              1.0 / (double)(step + 3), "names", "a\nb");
    const mz_status status =
        mz_checkpoint_write(ctx, f->dir, step, f->tensors, N_TENSORS, state, keep);
    json_decref(state);
    return status;
}

static void write_step(fixture *f, int64_t step, int64_t keep) {
    mz_assert_ok(&f->ctx, write_with(&f->ctx, f, step, keep));
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name); /* in every locale */
}

/* The names in DIR/checkpoints, sorted and joined by blanks. */
static void assert_names(fixture *f, const char *expected) {
    struct dirent **names = NULL;
    char actual[1000] = "";
    const int n = scandir(at(f, "."), &names, NULL, by_name);
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
            const size_t used = strlen(actual);
            (void)snprintf(actual + used, sizeof actual - used, "%s%s", used > 0 ? " " : "",
                           names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    assert_string_equal(actual, expected);
}

static void assert_latest(fixture *f, int64_t step) {
    mz_checkpoint c;
    mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &c));
    assert_non_null(c.path);
    assert_int_equal(c.step, step);
    float expected[N];
    fill(f, step);
    memcpy(expected, f->values, sizeof expected);
    memset(f->values, 0, sizeof f->values);
    int64_t read = -1;
    json_t *state = NULL;
    mz_assert_ok(&f->ctx,
                 mz_checkpoint_read(&f->ctx, c.path, f->tensors, N_TENSORS, &read, &state));
    assert_int_equal(read, step);
    assert_memory_equal(f->values, expected, sizeof expected);
    assert_int_equal(json_integer_value(json_object_get(state, "seen")), step * 10);
    assert_true(json_real_value(json_object_get(state, "loss")) == 1.0 / (double)(step + 3));
    json_decref(state);
    mz_checkpoint_free(&f->ctx, &c);
}

/* --- writing and reading --- */

static void nothing_is_there(void **state) {
    fixture *f = *state;
    mz_checkpoint c = {.path = f->dir};
    mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &c));
    assert_null(c.path);
    assert_null(c.note);
    assert_int_equal(mkdir(at(f, ""), 0777), 0);
    mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &c));
    assert_null(c.path);
}

static void keeps_the_newest(void **state) {
    fixture *f = *state;
    for (int64_t step = 0; step <= 40; step += 10) {
        write_step(f, step, 2);
        assert_latest(f, step);
    }
    assert_names(f, "step-00000030 step-00000040");
    write_step(f, 123456789012, 0);
    assert_names(f, "step-00000030 step-00000040 step-123456789012");
    assert_latest(f, 123456789012);
    write_step(f, 35, 1); /* gone on from an earlier one: later ones stay */
    assert_names(f, "step-00000035 step-00000040 step-123456789012");
}

static void replaces_its_own_step(void **state) {
    fixture *f = *state;
    write_step(f, 7, 3);
    const mz_checkpoint_tensor other = {"other", mz_tensor_1d(MZ_DTYPE_F32, 4, f->values)};
    json_t *none = json_object();
    mz_assert_ok(&f->ctx, mz_checkpoint_write(&f->ctx, f->dir, 7, &other, 1, none, 3));
    json_decref(none);
    assert_names(f, "step-00000007");
    mz_assert_ok(&f->ctx,
                 mz_checkpoint_read(&f->ctx, at(f, "step-00000007"), &other, 1, NULL, NULL));
}

static void strided_rows_are_left_alone(void **state) {
    fixture *f = *state;
    write_step(f, 1, 0);
    float wide[7 * 11];
    for (int i = 0; i < 7 * 11; i++) {
        wide[i] = 42;
    }
    f->tensors[1].tensor.data = wide + 2;
    mz_assert_ok(&f->ctx, mz_checkpoint_read(&f->ctx, at(f, "step-00000001"), f->tensors, N_TENSORS,
                                             NULL, NULL));
    for (int i = 0; i < 7 * 11; i++) {
        const bool inside = i % 11 >= 2 && i % 11 < 5;
        assert_true(wide[i] == (inside ? f->values[i] : 42));
    }
}

static void arguments_are_checked(void **state) {
    fixture *f = *state;
    json_t *array = json_array();
    json_t *object = json_object();
    assert_int_equal(mz_checkpoint_write(&f->ctx, f->dir, 1, f->tensors, 1, array, 1), MZ_ERR_ARG);
    assert_message(f, "a state that is no object");
    assert_int_equal(mz_checkpoint_write(&f->ctx, f->dir, 1, f->tensors, 1, NULL, 1), MZ_ERR_ARG);
    assert_int_equal(mz_checkpoint_write(&f->ctx, f->dir, -1, f->tensors, 1, object, 1),
                     MZ_ERR_ARG);
    assert_message(f, "step -1");
    assert_int_equal(mz_checkpoint_write(&f->ctx, f->dir, 1, f->tensors, 1, object, -1),
                     MZ_ERR_ARG);
    assert_int_equal(mz_checkpoint_write(&f->ctx, "/nowhere/x", 1, f->tensors, 1, object, 1),
                     MZ_ERR_IO);
    assert_message(f, "/nowhere/x/checkpoints: cannot create");
    const mz_checkpoint_tensor twice[] = {f->tensors[0], f->tensors[0]};
    assert_int_equal(mz_checkpoint_write(&f->ctx, f->dir, 1, twice, 2, object, 1), MZ_ERR_ARG);
    assert_message(f, "weights is there twice");
    assert_names(f, "");
    json_decref(array);
    json_decref(object);
}

static void tensors_must_agree(void **state) {
    fixture *f = *state;
    write_step(f, 3, 0);
    float room[N] = {0};
    const mz_tensor t = mz_tensor_1d(MZ_DTYPE_F32, N, room);
    const mz_tensor columns = mz_tensor_2d(MZ_DTYPE_F32, 7, 3, room);
    const mz_tensor square = mz_tensor_2d(MZ_DTYPE_F32, 3, 7, room);
    const mz_tensor flat = mz_tensor_1d(MZ_DTYPE_F32, 21, room);
    const mz_tensor ids = mz_tensor_1d(MZ_DTYPE_I32, N, room);
    const struct {
        mz_checkpoint_tensor tensors[3];
        int64_t n;
        const char *part;
    } cases[] = {
        {{{"weights", t}}, 1, "tensor columns is not one that this training has"},
        {{{"weights", t}, {"column", columns}}, 2, "tensor column is missing"},
        {{{"weights", t}, {"columns", columns}, {"more", t}}, 3, "tensor more is missing"},
        {{{"weights", t}, {"columns", square}},
         2,
         "tensor columns is f32 [7, 3], expected f32 [3, 7]"},
        {{{"weights", t}, {"columns", flat}}, 2, "tensor columns is f32 [7, 3], expected f32 [21]"},
        {{{"weights", ids}, {"columns", columns}},
         2,
         "tensor weights is f32 [20011], expected i32 [20011]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t step = -1;
        json_t *document = NULL;
        assert_int_equal(mz_checkpoint_read(&f->ctx, at(f, "step-00000003"), cases[i].tensors,
                                            cases[i].n, &step, &document),
                         MZ_ERR_FORMAT);
        assert_message(f, cases[i].part);
        assert_message(f, "step-00000003/state.safetensors");
        assert_int_equal(step, -1);
        assert_null(document);
        assert_true(room[0] == 0);
    }
}

/* --- kills --- */

static void make_folder(fixture *f, const char *name, const char *file) {
    assert_int_equal(mkdir(at(f, name), 0777), 0);
    char folder[700];
    (void)snprintf(folder, sizeof folder, "%s", f->path);
    (void)mz_write_file(folder, file, "half", 4);
}

static void leftovers_are_cleaned(void **state) {
    fixture *f = *state;
    write_step(f, 5, 0);
    write_step(f, 6, 0);
    make_folder(f, ".step-00000007.new", ".moezoo-1-0.tmp");
    make_folder(f, ".step-00000002.gone", "state.json");
    make_folder(f, ".step-00000005.old", "state.json"); /* its successor came */
    assert_int_equal(symlink(f->dir, at(f, ".step-00000004.gone")), 0);
    (void)mz_write_file(f->dir, "precious", "x", 1);
    char before[700];
    (void)snprintf(before, sizeof before, "%s", at(f, "step-00000006"));
    assert_int_equal(rename(before, at(f, ".step-00000006.old")), 0); /* its successor did not */
    make_folder(f, "step-7", "notes");
    make_folder(f, "step-000000008", "notes");
    make_folder(f, "step-00000009x", "notes");
    make_folder(f, "step--0000001", "notes");
    make_folder(f, "step-99999999999999999999", "notes");
    make_folder(f, ".step-00000001.bak", "notes");
    make_folder(f, "mystep-00000001", "notes");
    assert_latest(f, 6);
    assert_names(f, ".step-00000001.bak mystep-00000001 step--0000001 step-000000008 step-00000005 "
                    "step-00000006 step-00000009x step-7 "
                    "step-99999999999999999999");
    char precious[700];
    (void)snprintf(precious, sizeof precious, "%s/precious", f->dir);
    assert_true(mz_file_exists(precious));
}

/* Children that write one checkpoint after the other are killed at times spread over one write. */
static void a_kill_at_any_moment(void **state) {
    fixture *f = *state;
    int64_t last = 0;
    write_step(f, last, 2);
    for (int round = 0; round < N_KILLS; round++) {
        int ready[2];
        assert_int_equal(pipe(ready), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int64_t step = last; step < 1000000; step++) { /* the first one is replaced */
                if (write_with(&f->ctx, f, step, 2) != MZ_OK) {
                    _exit(1);
                }
                (void)(write(ready[1], "x", 1) == 1);
            }
            _exit(0);
        }
        char c = 0;
        assert_int_equal(read(ready[0], &c, 1), 1);
        const double begin = mz_now_s();
        assert_int_equal(read(ready[0], &c, 1), 1);
        const double one_write = mz_now_s() - begin;
        (void)usleep((useconds_t)(one_write * 1e6 * round / N_KILLS));
        assert_int_equal(kill(child, SIGKILL), 0);
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        (void)close(ready[0]);
        (void)close(ready[1]);
        mz_checkpoint found;
        mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &found));
        assert_non_null(found.path);
        assert_null(found.note);
        assert_true(found.step >= last);
        last = found.step;
        mz_checkpoint_free(&f->ctx, &found);
        assert_latest(f, last);
        struct dirent **names = NULL;
        const int n = scandir(at(f, "."), &names, NULL, NULL);
        assert_true(n >= 1 + 2 && n <= 3 + 2);
        for (int i = 0; i < n; i++) {
            assert_null(strstr(names[i]->d_name, ".step"));
            free(names[i]);
        }
        free(names);
    }
}

/* --- full disks --- */

static mz_status write_within(fixture *f, int64_t step, size_t max_bytes, json_t *document) {
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {.rlim_cur = max_bytes, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const mz_status status =
        mz_checkpoint_write(&f->ctx, f->dir, step, f->tensors, N_TENSORS, document, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    return status;
}

/* Files that may not grow stand for a disk that is full. */
static void a_full_disk_changes_nothing(void **state) {
    fixture *f = *state;
    write_step(f, 1, 1);
    char *text = malloc(200001);
    assert_non_null(text);
    memset(text, 'x', 200000);
    text[200000] = '\0';
    json_t *document = json_pack("{s:s}", "text", text);
    static const size_t limits[] = {0, 8, 1000, 50000, 100000};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (int64_t step = 1; step <= 2; step++) {
            assert_int_equal(write_within(f, step, limits[i], document), MZ_ERR_IO);
            assert_message(f, limits[i] < 100000 ? "state.safetensors: cannot write: File too large"
                                                 : "state.json: cannot write: File too large");
            assert_names(f, "step-00000001");
        }
    }
    json_decref(document);
    free(text);
    assert_latest(f, 1);
}

static void a_file_in_the_way(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "checkpoints", "x", 1);
    assert_int_equal(write_with(&f->ctx, f, 1, 1), MZ_ERR_IO);
    assert_message(f, "checkpoints: cannot open: Not a directory");
    mz_checkpoint c;
    assert_int_equal(mz_checkpoint_latest(&f->ctx, f->dir, &c), MZ_ERR_IO);
}

/* An old one with a folder of somebody else's in it cannot be removed: said, after the write. */
static void what_cannot_be_removed(void **state) {
    fixture *f = *state;
    write_step(f, 1, 1);
    assert_int_equal(mkdir(at(f, "step-00000001/mine"), 0777), 0);
    assert_int_equal(write_with(&f->ctx, f, 2, 1), MZ_ERR_IO);
    assert_message(f, ".step-00000001.gone: cannot remove");
    assert_names(f, ".step-00000001.gone step-00000002");
    assert_latest(f, 2);
    write_step(f, 3, 1);
    assert_latest(f, 3);
}

/* --- damage --- */

typedef void (*damage)(fixture *f);

static void replace_in_file(const char *path, const char *from, const char *to) {
    char text[4096] = {0};
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    const size_t n = fread(text, 1, sizeof text - 1, file);
    char *place = strstr(text, from);
    assert_non_null(place);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(place, to, strlen(to));
    rewind(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static const char tensors_file[] = "step-00000002/state.safetensors";
static const char state_file[] = "step-00000002/state.json";

static void flip_a_bit(fixture *f) {
    const int fd = open(at(f, tensors_file), O_RDWR);
    char c = 0;
    assert_int_equal(pread(fd, &c, 1, 70000), 1);
    c ^= 4;
    assert_int_equal(pwrite(fd, &c, 1, 70000), 1);
    assert_int_equal(close(fd), 0);
}
static void cut_the_tensors(fixture *f) {
    assert_int_equal(truncate(at(f, tensors_file), 500), 0);
}
static void empty_the_tensors(fixture *f) {
    assert_int_equal(truncate(at(f, tensors_file), 0), 0);
}
static void remove_the_tensors(fixture *f) {
    assert_int_equal(unlink(at(f, tensors_file)), 0);
}
static void remove_the_state(fixture *f) {
    assert_int_equal(unlink(at(f, state_file)), 0);
}
static void cut_the_state(fixture *f) {
    assert_int_equal(truncate(at(f, state_file), 30), 0);
}
static void change_a_number(fixture *f) {
    replace_in_file(at(f, state_file), "\"seen\": 20", "\"seen\": 21");
}
static void change_the_step(fixture *f) {
    replace_in_file(at(f, state_file), "\"step\": 2", "\"step\": 3");
}
static void change_the_version(fixture *f) {
    replace_in_file(at(f, state_file), "\"version\": 1", "\"version\": 9");
}
static void lie_about_the_size(fixture *f) {
    replace_in_file(at(f, state_file), "\"tensors_bytes\": 8", "\"tensors_bytes\":-8");
}
static void state_of_another_type(fixture *f) {
    replace_in_file(at(f, state_file), "\"state\":", "\"stale\":");
}
static void a_checksum_that_is_none(fixture *f) {
    replace_in_file(at(f, state_file), "\"tensors_xxh64\": \"", "\"tensors_xxh64\":[\"");
}
static void a_file_for_a_folder(fixture *f) {
    remove_the_state(f);
    remove_the_tensors(f);
    assert_int_equal(rmdir(at(f, "step-00000002")), 0);
    char folder[700];
    (void)snprintf(folder, sizeof folder, "%s", at(f, ""));
    (void)mz_write_file(folder, "step-00000002", "x", 1);
}
static void deep_state(fixture *f) {
    static char text[200000];
    memset(text, '[', sizeof text);
    char folder[700];
    (void)snprintf(folder, sizeof folder, "%s", at(f, "step-00000002"));
    (void)mz_write_file(folder, "state.json", text, sizeof text);
}

static void a_damaged_one_is_passed_over(void **state) {
    static const struct {
        damage apply;
        const char *note;
    } cases[] = {
        {flip_a_bit, "state.safetensors: damaged: checksum "},
        {cut_the_tensors, "state.safetensors: damaged: 500 bytes, expected 80"},
        {empty_the_tensors, "state.safetensors: damaged: 0 bytes"},
        {remove_the_tensors, "state.safetensors: cannot open"},
        {remove_the_state, "state.json: cannot open"},
        {cut_the_state, "state.json: JSON, line"},
        {change_a_number, "state.json: damaged: state has the checksum "},
        {change_the_step, "state.json: damaged: step 3, expected 2"},
        {change_the_version, "state.json: version 9 of a checkpoint, expected 1"},
        {lie_about_the_size, "state.json: tensors_bytes is -8"},
        {state_of_another_type, "state.json: state is no object"},
        {a_checksum_that_is_none, "state.json: JSON, line"},
        {a_file_for_a_folder, "state.json: cannot open"},
        {deep_state, "state.json: JSON, line"},
    };
    fixture *f = *state;
    write_step(f, 1, 0);
    write_step(f, 2, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].apply(f);
        mz_checkpoint c;
        mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &c));
        assert_int_equal(c.step, 1);
        assert_non_null(c.note);
        if (strstr(c.note, cases[i].note) == NULL || strstr(c.note, "step-00000002") == NULL) {
            fail_msg("\"%s\" is not in: %s", cases[i].note, c.note);
        }
        mz_checkpoint_free(&f->ctx, &c);
        assert_latest(f, 1);
        write_step(f, 2, 0); /* the damaged one is replaced */
        assert_latest(f, 2);
        assert_names(f, "step-00000001 step-00000002");
    }
}

static void all_are_damaged(void **state) {
    fixture *f = *state;
    write_step(f, 1, 0);
    write_step(f, 2, 0);
    remove_the_state(f);
    assert_int_equal(truncate(at(f, "step-00000001/state.safetensors"), 100), 0);
    mz_checkpoint c = {.step = 42};
    assert_int_equal(mz_checkpoint_latest(&f->ctx, f->dir, &c), MZ_ERR_FORMAT);
    assert_message(f, "none of 2 checkpoints can be read; the newest: ");
    assert_message(f, "step-00000002/state.json: cannot open");
    assert_int_equal(c.step, 42);
    assert_int_equal(
        mz_checkpoint_read(&f->ctx, at(f, "step-00000001"), f->tensors, N_TENSORS, NULL, NULL),
        MZ_ERR_FORMAT);
    assert_message(f, "damaged: 100 bytes");
}

/* --- memory --- */

/* Writing, looking and reading in one, so that each allocation of all fails once. */
static mz_status whole_round(mz_context *ctx, fixture *f) {
    MZ_TRY(write_with(ctx, f, 2, 1));
    mz_checkpoint c = {0};
    MZ_TRY(mz_checkpoint_latest(ctx, f->dir, &c));
    json_t *document = NULL;
    const mz_status status =
        mz_checkpoint_read(ctx, c.path, f->tensors, N_TENSORS, NULL, &document);
    json_decref(document);
    mz_checkpoint_free(ctx, &c);
    return status;
}

static void every_allocation_may_fail(void **state) {
    fixture *f = *state;
    write_step(f, 1, 0);
    int64_t fail_at = 1;
    for (bool done = false; !done; fail_at++) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
        mz_context ctx;
        assert_int_equal(
            mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
            MZ_OK);
        const int64_t live = counter.n_live;
        counter.fail_at = counter.n_calls + fail_at;
        const mz_status status = whole_round(&ctx, f);
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(counter.n_live, live);
        done = status == MZ_OK && counter.n_calls < counter.fail_at;
        mz_context_close(&ctx);
        mz_checkpoint c;
        mz_assert_ok(&f->ctx, mz_checkpoint_latest(&f->ctx, f->dir, &c));
        assert_null(c.note);
        assert_true(c.step >= 1);
        assert_latest(f, c.step);
        mz_checkpoint_free(&f->ctx, &c);
    }
    assert_true(fail_at > 30);
    assert_names(f, "step-00000002");
}

static ino_t inode_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

/* When it was synced last, -1: never. */
static int when_synced(ino_t inode) {
    int when = -1;
    for (int i = 0; i < n_synced; i++) {
        when = synced[i] == inode ? i : when;
    }
    return when;
}

/* Files first, then the folder in which they got their names, then that in which it did. */
static void everything_is_synced(void **state) {
    fixture *f = *state;
    n_synced = 0;
    write_step(f, 1, 0);
    const int dir = when_synced(inode_of(f->dir));
    const int store = when_synced(inode_of(at(f, ".")));
    const int folder = when_synced(inode_of(at(f, "step-00000001")));
    const int tensors = when_synced(inode_of(at(f, "step-00000001/state.safetensors")));
    const int document = when_synced(inode_of(at(f, "step-00000001/state.json")));
    assert_true(dir >= 0 && tensors >= 0 && tensors < document);
    assert_true(document < folder && folder < store && store == n_synced - 1);
}

static void a_sync_that_fails_is_an_error(void **state) {
    fixture *f = *state;
    write_step(f, 1, 0);
    files_are_refused = true;
    assert_int_equal(write_with(&f->ctx, f, 2, 0), MZ_ERR_IO);
    files_are_refused = false;
    assert_names(f, "step-00000001");
    refused_folder = inode_of(at(f, "."));
    assert_int_equal(write_with(&f->ctx, f, 3, 1), MZ_ERR_IO);
    refused_folder = 0;
    assert_message(f, "cannot sync");
    assert_names(f, "step-00000001 step-00000003");
    assert_latest(f, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_the_newest, setup, teardown),
        cmocka_unit_test_setup_teardown(replaces_its_own_step, setup, teardown),
        cmocka_unit_test_setup_teardown(strided_rows_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(arguments_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_must_agree, setup, teardown),
        cmocka_unit_test_setup_teardown(leftovers_are_cleaned, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kill_at_any_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_in_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_one_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(all_are_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_is_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sync_that_fails_is_an_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
