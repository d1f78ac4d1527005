#include "tests/fuzz/input_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void require(int holds, const char *path) {
    if (!holds) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

static void join(char path[INPUT_PATH_BYTES], const char *dir, const char *name) {
    const int n = snprintf(path, INPUT_PATH_BYTES, "%s/%s", dir, name);
    require(n > 0 && n < INPUT_PATH_BYTES, dir);
}

void input_folder_create(char path[INPUT_PATH_BYTES]) {
    const char *parent = getenv("TMPDIR");
    join(path, parent != NULL ? parent : "/tmp", "moezoo-fuzz-XXXXXX");
    require(mkdtemp(path) != NULL, path);
}

void input_folder_make(const char *dir, const char *name) {
    char path[INPUT_PATH_BYTES];
    join(path, dir, name);
    require(mkdir(path, 0777) == 0, path);
}

void input_folder_write(const char *dir, const char *name, const void *data, size_t n_bytes,
                        char path[INPUT_PATH_BYTES]) {
    char own[INPUT_PATH_BYTES];
    join(own, dir, name);
    FILE *f = fopen(own, "wb");
    require(f != NULL && (n_bytes == 0 || fwrite(data, 1, n_bytes, f) == n_bytes), own);
    require(fclose(f) == 0, own);
    if (path != NULL) {
        memcpy(path, own, sizeof own);
    }
}

void input_folder_remove(const char *path) {
    DIR *dir = opendir(path);
    require(dir != NULL, path);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char inner[INPUT_PATH_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        join(inner, path, entry->d_name);
        if (unlink(inner) != 0) {
            input_folder_remove(inner);
        }
    }
    (void)closedir(dir);
    require(rmdir(path) == 0, path);
}
