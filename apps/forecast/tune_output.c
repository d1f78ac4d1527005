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

/* What the report of an earlier tuning says of the folder. */
typedef struct earlier_tuning {
    bool is_there;
    bool is_tuned;   /* it has written a model or an adapter */
    bool is_adapter; /* the latter */
} earlier_tuning;

static mz_status read_earlier(mz_context *ctx, const char *dir, earlier_tuning *out) {
    char *path = NULL;
    json_t *report = NULL;
    *out = (earlier_tuning){0};
    MZ_TRY(mz_path_join(ctx, dir, "report.json", &path));
    if (mz_file_exists(path) && mz_json_load(ctx, path, &report) == MZ_OK) {
        const json_t *tuned = json_object_get(report, "tuned");
        const char *method = json_string_value(json_object_get(report, "method"));
        out->is_there = json_is_boolean(tuned);
        out->is_tuned = json_is_true(tuned);
        out->is_adapter = method != NULL && strcmp(method, "lora") == 0 &&
                          !json_is_true(json_object_get(report, "merged"));
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
    earlier_tuning earlier;
    MZ_TRY(read_earlier(ctx, dir, &earlier));
    if (!is_free && !earlier.is_there && !force) {
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

static mz_status remove_file(const mz_tune_output *output, const char *name) {
    char *path = NULL;
    MZ_TRY(mz_path_join(output->ctx, output->dir, name, &path));
    const bool failed = unlink(path) != 0 && errno != ENOENT;
    const mz_status status = failed ? mz_fail(&output->ctx->error, MZ_ERR_IO,
                                              "%s: cannot remove: %s", path, strerror(errno))
                                    : MZ_OK;
    mz_free(output->ctx, path);
    return status;
}

mz_status mz_tune_output_remove(mz_tune_output *output, bool adapter) {
    MZ_TRY(remove_file(output, adapter ? "adapter_config.json" : "config.json"));
    return remove_file(output, adapter ? "adapter_model.safetensors" : "model.safetensors");
}

mz_status mz_tune_output_clear(mz_tune_output *output) {
    earlier_tuning earlier;
    MZ_TRY(read_earlier(output->ctx, output->dir, &earlier));
    if (earlier.is_tuned) {
        MZ_TRY(mz_tune_output_remove(output, earlier.is_adapter));
    }
    /* Last: while it is there the folder is known as a tuning's. */
    return earlier.is_there ? remove_file(output, "report.json") : MZ_OK;
}

void mz_tune_output_close(mz_tune_output *output) {
    if (output->ctx != NULL) {
        mz_dir_unlock(&output->lock);
    }
    *output = (mz_tune_output){0};
}
