/* Runs a fuzz target once over each file of the folders that are given, where there is no
 * libFuzzer. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz_target.h"

static int run_file(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    FILE *f = fopen(path, "rb");
    /* Memory of exactly the file's size, so that the address sanitizer sees a read beyond it. */
    uint8_t *data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    if (f == NULL || data == NULL || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
        (void)fprintf(stderr, "%s: cannot read\n", path);
        exit(EXIT_FAILURE);
    }
    (void)fclose(f);
    (void)LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    return 1;
}

int main(int argc, char **argv) {
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (dir == NULL) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
            char path[4096];
            (void)snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            n_files += run_file(path);
        }
        (void)closedir(dir);
    }
    (void)printf("%d inputs\n", n_files);
    return n_files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
