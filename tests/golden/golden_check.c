/* golden_check [--backend NAME] [--isa NAME] [--threads N] [--verbose] DIR...
 *
 * Runs every golden case folder and compares what it computes with what the original implementation
 * computed. Prints the first tensor that differs; exits 0 only if all agree, 1 if any differs, 2
 * for wrong usage. */
#include "tests/golden/golden_check.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "tests/testing.h"

typedef struct settings {
    const mz_backend *backend;
    mz_isa isa;
    int n_threads;
    bool verbose;
} settings;

static const struct {
    const char *name;
    mz_golden_family check;
} families[] = {
    {"time-moe", mz_golden_time_moe},
    {"llm", mz_golden_llm},
};

void mz_golden_fail(mz_golden *g, const char *name, const char *why) {
    if (g->n_failed++ == 0) {
        (void)snprintf(g->first_failure, sizeof g->first_failure, "%s", name);
    }
    printf("  DIFFERS %-44s %s\n", name, why);
}

void mz_golden_compare(mz_golden *g, const char *name, const float *actual, const float *expected,
                       int64_t n, double bound) {
    const mz_distance d = mz_distance_f32(actual, expected, n);
    char text[160];
    g->n_compared++;
    (void)snprintf(text, sizeof text,
                   "max abs %.3g, relative L2 %.3g (bound %.1g), %lld not finite", d.max_abs,
                   d.relative_l2, bound, (long long)d.n_nonfinite);
    if (d.n_nonfinite > 0 || !(d.relative_l2 <= bound)) {
        mz_golden_fail(g, name, text);
    } else if (g->verbose) {
        printf("  agrees  %-44s %s\n", name, text);
    }
}

bool mz_golden_find(mz_golden *g, const char *name, mz_tensor *out) {
    return mz_weights_find(g->io, name, out);
}

static mz_golden_family find_family(mz_context *ctx, const json_t *json, const char *dir) {
    const char *name = json_string_value(json_object_get(json, "family"));
    for (size_t i = 0; name != NULL && i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(name, families[i].name) == 0) {
            return families[i].check;
        }
    }
    (void)mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                  "%s: golden.json names family \"%s\", which has no checker", dir,
                  name != NULL ? name : "(none)");
    return NULL;
}

static bool has_file(mz_context *ctx, const char *dir, const char *name) {
    char *path = NULL;
    const bool found = mz_path_join(ctx, dir, name, &path) == MZ_OK && mz_file_exists(path);
    mz_free(ctx, path);
    return found;
}

/* Whether two folders hold the same config.json, byte for byte. */
static bool same_config(mz_context *ctx, const char *a, const char *b) {
    const char *const dirs[] = {a, b};
    char *text[2] = {NULL, NULL};
    size_t n_bytes[2] = {0, 0};
    bool same = true;
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        same = mz_path_join(ctx, dirs[i], "config.json", &path) == MZ_OK &&
               mz_file_read(ctx, path, 1 << 20, &text[i], &n_bytes[i]) == MZ_OK && same;
        mz_free(ctx, path);
    }
    same = same && n_bytes[0] == n_bytes[1] && memcmp(text[0], text[1], n_bytes[0]) == 0;
    mz_free(ctx, text[0]);
    mz_free(ctx, text[1]);
    return same;
}

/* golden.json and io.safetensors lie in the folder; where it holds only another form of a case's
 * checkpoint (sharded, .bin), they are those of the neighbouring folder that has the same
 * config.json. */
static mz_status find_answers(mz_context *ctx, const char *dir, char **out) {
    char *parent = NULL;
    char *candidate = NULL;
    mz_status status = MZ_OK;
    if (has_file(ctx, dir, "golden.json")) {
        return mz_strdup(ctx, dir, out);
    }
    MZ_TRY(mz_path_join(ctx, dir, "..", &parent));
    DIR *folder = opendir(parent);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder);
         entry != NULL && candidate == NULL && status == MZ_OK; entry = readdir(folder)) {
        status = mz_path_join(ctx, parent, entry->d_name, &candidate);
        if (status == MZ_OK &&
            (entry->d_name[0] == '.' || !has_file(ctx, candidate, "golden.json") ||
             !same_config(ctx, dir, candidate))) {
            mz_free(ctx, candidate);
            candidate = NULL;
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    mz_free(ctx, parent);
    MZ_TRY(status);
    if (candidate == NULL) {
        return mz_fail(
            &ctx->error, MZ_ERR_MISSING,
            "%s: no golden.json in it, and no neighbouring case with the same config.json", dir);
    }
    *out = candidate;
    return MZ_OK;
}

static mz_status check_with(mz_golden *g, const char *answers) {
    char *path = NULL;
    json_t *json = NULL;
    MZ_TRY(mz_path_join(g->ctx, answers, "golden.json", &path));
    mz_status status = mz_json_load(g->ctx, path, &json);
    mz_free(g->ctx, path);
    MZ_TRY(status);
    g->json = json;
    const mz_golden_family check = find_family(g->ctx, json, answers);
    status =
        check == NULL ? MZ_ERR_UNSUPPORTED : mz_path_join(g->ctx, answers, "io.safetensors", &path);
    if (status == MZ_OK) {
        status = mz_weights_open(g->ctx, path, &g->io);
        mz_free(g->ctx, path);
    }
    if (status == MZ_OK) {
        status = check(g);
        mz_weights_close(g->ctx, g->io);
    }
    json_decref(json);
    return status;
}

/* Returns whether the folder agrees. */
static bool check_folder(const settings *set, const char *dir) {
    mz_context ctx;
    char *answers = NULL;
    const mz_context_options options = {.n_threads = set->n_threads, .isa = set->isa};
    mz_status status = mz_context_init(&ctx, &options);
    mz_golden g = {.ctx = &ctx, .backend = set->backend, .dir = dir, .verbose = set->verbose};
    if (status == MZ_OK) {
        status = find_answers(&ctx, dir, &answers);
    }
    if (status == MZ_OK) {
        status = check_with(&g, answers);
        mz_free(&ctx, answers);
    }
    if (status != MZ_OK) {
        printf("%s: cannot run: %s\n", dir, ctx.error.message);
    } else if (g.n_compared == 0) {
        printf("%s: nothing was compared\n", dir);
    } else if (g.n_failed > 0) {
        printf("%s: %lld of %lld tensors differ, first %s\n", dir, (long long)g.n_failed,
               (long long)g.n_compared, g.first_failure);
    } else {
        printf("%s: all %lld tensors agree (%s, %s)\n", dir, (long long)g.n_compared,
               set->backend->name, mz_isa_name(ctx.isa));
    }
    mz_context_close(&ctx);
    return status == MZ_OK && g.n_compared > 0 && g.n_failed == 0;
}

enum { SKIPPED = 77 }; /* CTest's SKIP_RETURN_CODE */

static int usage(const char *why) {
    fprintf(stderr,
            "golden_check: %s\nusage: golden_check [--backend NAME] [--isa NAME] [--threads N] "
            "[--verbose] DIR...\n",
            why);
    return 2;
}

int main(int argc, char **argv) {
    settings set = {.backend = mz_backend_cpu(), .isa = MZ_ISA_AUTO};
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--verbose") == 0) {
            set.verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--backend") == 0) {
            set.backend = mz_backend_find(value);
        } else if (strcmp(argv[i], "--isa") == 0) {
            set.isa = mz_isa_parse(value);
        } else if (strcmp(argv[i], "--threads") == 0) {
            set.n_threads = (int)strtol(value, NULL, 10);
        } else {
            return usage("unknown option");
        }
        if (set.backend == NULL || set.isa == MZ_ISA_COUNT) {
            return usage("unknown backend or instruction set");
        }
        i++;
    }
    if (i >= argc) {
        return usage("no folder given");
    }
    if (set.isa != MZ_ISA_AUTO && set.isa > mz_isa_detect()) {
        printf("skipped: this machine has no %s\n", mz_isa_name(set.isa));
        return SKIPPED;
    }
    bool all = true;
    for (; i < argc; i++) {
        all = check_folder(&set, argv[i]) && all;
    }
    return all ? 0 : 1;
}
