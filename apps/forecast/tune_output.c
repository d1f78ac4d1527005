#include "apps/forecast/tune_output.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"

static mz_status is_empty(mz_context *ctx, const char *dir, bool *out) {
    DIR *d = opendir(dir);
    if (d == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot read the folder: %s", dir,
                       strerror(errno));
    }
    *out = true;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        const char *name = e->d_name;
        *out = *out &&
               (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, ".lock") == 0);
    }
    (void)closedir(d);
    return MZ_OK;
}

/* Its report says so. */
static mz_status holds_tuning(mz_context *ctx, const char *dir, bool *out) {
    char *path = NULL;
    json_t *report = NULL;
    *out = false;
    MZ_TRY(mz_path_join(ctx, dir, "report.json", &path));
    if (mz_file_exists(path) && mz_json_load(ctx, path, &report) == MZ_OK) {
        *out = json_is_boolean(json_object_get(report, "tuned"));
        json_decref(report);
    }
    mz_free(ctx, path);
    return MZ_OK;
}

mz_status mz_tune_output_check(mz_context *ctx, const char *dir, const char *model, bool force) {
    struct stat own;
    struct stat base;
    bool is_free = false;
    if (dir[0] == '\0') {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "the output folder has no name");
    }
    if (stat(dir, &own) != 0) {
        return MZ_OK;
    }
    if (!S_ISDIR(own.st_mode)) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "%s: is no folder", dir);
    }
    if (stat(model, &base) == 0 && own.st_dev == base.st_dev && own.st_ino == base.st_ino) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "%s: is the folder of the model that is tuned, choose another", dir);
    }
    MZ_TRY(is_empty(ctx, dir, &is_free));
    if (!is_free) {
        MZ_TRY(holds_tuning(ctx, dir, &is_free));
    }
    if (!is_free && !force) {
        return mz_fail(&ctx->error, MZ_ERR_ARG,
                       "%s: is not empty and holds no earlier tuning; --force writes there "
                       "nevertheless",
                       dir);
    }
    return MZ_OK;
}

mz_status mz_tune_output_open(mz_context *ctx, const char *dir, const char *model, bool force,
                              mz_tune_output *out) {
    mz_tune_output output = {.ctx = ctx, .dir = dir};
    MZ_TRY(mz_tune_output_check(ctx, dir, model, force));
    MZ_TRY(mz_dir_make(ctx, dir));
    MZ_TRY(mz_dir_lock(ctx, dir, &output.lock));
    const mz_status status = mz_tune_output_check(ctx, dir, model, force);
    if (status != MZ_OK) {
        mz_dir_unlock(&output.lock);
        return status;
    }
    *out = output;
    return MZ_OK;
}

mz_status mz_tune_output_clear(mz_tune_output *output) {
    /* The report goes last: while it is there the folder is known as a tuning's. */
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "config.json", "model.safetensors", "report.json"};
    bool is_tuning = false;
    MZ_TRY(holds_tuning(output->ctx, output->dir, &is_tuning));
    for (size_t i = 0; is_tuning && i < sizeof names / sizeof names[0]; i++) {
        char *path = NULL;
        MZ_TRY(mz_path_join(output->ctx, output->dir, names[i], &path));
        const bool failed = unlink(path) != 0 && errno != ENOENT;
        const mz_status status = failed ? mz_fail(&output->ctx->error, MZ_ERR_IO,
                                                  "%s: cannot remove: %s", path, strerror(errno))
                                        : MZ_OK;
        mz_free(output->ctx, path);
        MZ_TRY(status);
    }
    return MZ_OK;
}

void mz_tune_output_close(mz_tune_output *output) {
    if (output->ctx != NULL) {
        mz_dir_unlock(&output->lock);
    }
    *output = (mz_tune_output){0};
}
