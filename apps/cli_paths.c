#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/cli.h"
#include "core/file.h"

/* DIR/REST becomes the next place. */
static mz_status add_place(mz_context *ctx, mz_model_places *places, const char *dir,
                           const char *rest) {
    char *path = NULL;
    if (rest[0] == '\0') {
        MZ_TRY(mz_strdup(ctx, dir, &path));
    } else {
        MZ_TRY(mz_path_join(ctx, dir, rest, &path));
    }
    places->dirs[places->n++] = path;
    return MZ_OK;
}

/* An empty or relative XDG_DATA_HOME counts as unset, as its specification says. */
static mz_status add_user_place(mz_context *ctx, mz_model_places *places) {
    const char *xdg = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (xdg != NULL && xdg[0] == '/') {
        return add_place(ctx, places, xdg, "moezoo/models");
    }
    return home != NULL && home[0] == '/'
               ? add_place(ctx, places, home, ".local/share/moezoo/models")
               : MZ_OK;
}

static mz_status add_installed_place(mz_context *ctx, mz_model_places *places) {
    char program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) {
        return MZ_OK;
    }
    program[n] = '\0';
    for (int i = 0; i < 2; i++) { /* the program's name, then the folder it is in */
        char *slash = strrchr(program, '/');
        if (slash == NULL) {
            return MZ_OK;
        }
        *slash = '\0';
    }
    return add_place(ctx, places, program, "share/moezoo/models");
}

mz_status mz_model_places_open(mz_context *ctx, const char *models_dir, mz_model_places *out) {
    *out = (mz_model_places){0};
    if (models_dir != NULL) {
        MZ_TRY(add_place(ctx, out, models_dir, ""));
    }
    MZ_TRY(add_user_place(ctx, out));
    MZ_TRY(add_installed_place(ctx, out));
    return add_place(ctx, out, MOEZOO_SOURCE_DIR, "assets/models");
}

void mz_model_places_close(mz_context *ctx, mz_model_places *places) {
    for (int i = 0; i < places->n; i++) {
        mz_free(ctx, places->dirs[i]);
    }
    *places = (mz_model_places){0};
}

static mz_status not_found(mz_context *ctx, const char *name, const mz_model_places *places) {
    char list[MZ_ERROR_BYTES / 2] = "";
    size_t used = 0;
    for (int i = 0; i < places->n; i++) {
        const int n =
            snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", places->dirs[i]);
        used += n > 0 && (size_t)n < sizeof list - used ? (size_t)n : 0;
    }
    return mz_fail(&ctx->error, MZ_ERR_MISSING,
                   "model \"%s\": no such folder, and no model of that name in %s", name, list);
}

static bool is_gguf_name(const char *name) {
    const size_t n = strlen(name);
    return n > 5 && name[0] != '.' && strcmp(name + n - 5, ".gguf") == 0;
}

/* Whether it is a file, and no pipe that would be waited for, that begins as GGUF files do. */
static bool is_gguf_file(mz_context *ctx, const char *path) {
    mz_map map = {0};
    const bool is_gguf =
        mz_map_open(ctx, path, &map) == MZ_OK && map.bytes >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    mz_map_close(&map);
    return is_gguf;
}

/* The only GGUF file of the folder, or NULL where there is none or are several. */
static mz_status only_gguf_file(mz_context *ctx, const char *dir, char **out) {
    char *found = NULL;
    int n = 0;
    mz_status status = MZ_OK;
    DIR *entries = opendir(dir);
    if (entries == NULL) {
        return MZ_OK;
    }
    for (const struct dirent *e = readdir(entries); e != NULL && status == MZ_OK;
         e = readdir(entries)) {
        if (is_gguf_name(e->d_name) && ++n == 1) {
            status = mz_path_join(ctx, dir, e->d_name, &found);
        }
    }
    (void)closedir(entries);
    if (status != MZ_OK || n > 1) {
        mz_free(ctx, found);
        return status;
    }
    *out = found;
    return MZ_OK;
}

/* What stands for a model in the folder: itself, or its GGUF file. */
static mz_status resolve_dir(mz_context *ctx, const char *dir, char **out) {
    bool has_config = false;
    char *file = NULL;
    MZ_TRY(mz_dir_has_file(ctx, dir, "config.json", &has_config));
    if (!has_config) {
        MZ_TRY(only_gguf_file(ctx, dir, &file));
    }
    if (file == NULL) {
        return mz_strdup(ctx, dir, out);
    }
    *out = file;
    return MZ_OK;
}

/* PLACE/NAME or PLACE/NAME.gguf; *out stays NULL where there is neither. */
static mz_status find_in_place(mz_context *ctx, const char *place, const char *name, char **out) {
    char *path = NULL;
    char file[NAME_MAX + 1];
    MZ_TRY(mz_path_join(ctx, place, name, &path));
    mz_status status = mz_dir_exists(path) ? resolve_dir(ctx, path, out) : MZ_OK;
    mz_free(ctx, path);
    const int n = snprintf(file, sizeof file, "%s.gguf", name);
    if (status != MZ_OK || *out != NULL || n < 0 || (size_t)n >= sizeof file) {
        return status;
    }
    path = NULL;
    MZ_TRY(mz_path_join(ctx, place, file, &path));
    if (mz_file_exists(path)) {
        *out = path;
    } else {
        mz_free(ctx, path);
    }
    return MZ_OK;
}

static mz_status find_in_places(mz_context *ctx, const char *name, const mz_model_places *places,
                                char **out) {
    char *path = NULL;
    for (int i = 0; i < places->n && path == NULL; i++) {
        MZ_TRY(find_in_place(ctx, places->dirs[i], name, &path));
    }
    if (path == NULL) {
        return not_found(ctx, name, places);
    }
    *out = path;
    return MZ_OK;
}

mz_status mz_cli_model_of_entry(mz_context *ctx, const char *place, const char *entry, char **name,
                                char **path) {
    char *whole = NULL;
    char *found = NULL;
    bool has_config = false;
    *path = NULL;
    *name = NULL;
    if (entry[0] == '.') {
        return MZ_OK;
    }
    MZ_TRY(mz_path_join(ctx, place, entry, &whole));
    mz_status status = MZ_OK;
    if (mz_dir_exists(whole)) {
        status = resolve_dir(ctx, whole, &found);
        status = status == MZ_OK ? mz_dir_has_file(ctx, whole, "config.json", &has_config) : status;
    }
    const bool is_folder = found != NULL && (has_config || strcmp(found, whole) != 0);
    const bool is_file = is_gguf_name(entry) && mz_file_exists(whole);
    if (status == MZ_OK && (is_folder || is_file)) {
        status = mz_strdup(ctx, entry, name);
    }
    if (status == MZ_OK && is_file) {
        (*name)[strlen(entry) - 5] = '\0';
    }
    if (status == MZ_OK && *name != NULL) {
        *path = is_file ? whole : found;
    }
    mz_free(ctx, *path == whole ? NULL : whole);
    mz_free(ctx, *path == found ? NULL : found);
    return status;
}

static bool is_same(const char *a, const char *b) {
    return a != NULL && b != NULL && strcmp(a, "-") != 0 && strcmp(b, "-") != 0 &&
           mz_file_same(a, b);
}

int mz_cli_check_outputs(const mz_command *command, const char *input, const char *output,
                         const char *plot) {
    if (is_same(input, plot)) {
        return mz_cli_usage_error(command, "--plot %s would replace the input", plot);
    }
    if (is_same(output, plot)) {
        return mz_cli_usage_error(command, "--output and --plot both write %s", plot);
    }
    return MZ_EXIT_OK;
}

const char *mz_cli_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

mz_status mz_cli_find_model(mz_context *ctx, const char *name, const char *models_dir,
                            const char *fallback, char **out) {
    mz_model_places places = {0};
    if (name != NULL && mz_dir_exists(name)) {
        return resolve_dir(ctx, name, out);
    }
    if (name != NULL && is_gguf_file(ctx, name)) {
        return mz_strdup(ctx, name, out);
    }
    if (name != NULL && access(name, F_OK) == 0) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING,
                       "model \"%s\": a file, expected the folder that holds config.json and the "
                       "weights, or a GGUF file",
                       name);
    }
    mz_status status = mz_model_places_open(ctx, models_dir, &places);
    if (status == MZ_OK) {
        status = find_in_places(ctx, name != NULL ? name : fallback, &places, out);
    }
    mz_model_places_close(ctx, &places);
    return status;
}

mz_status mz_cli_model_name(mz_context *ctx, const char *dir, char **out) {
    char *real = realpath(dir, NULL);
    const char *path = real != NULL ? real : dir;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL && slash[1] != '\0' ? slash + 1 : path;
    const bool is_file = is_gguf_name(name) && !mz_dir_exists(path);
    const mz_status status = mz_strdup(ctx, name, out);
    if (status == MZ_OK && is_file) {
        (*out)[strlen(name) - 5] = '\0';
    }
    free(real);
    return status;
}
