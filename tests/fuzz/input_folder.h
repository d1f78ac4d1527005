/* A folder for the targets of readers that are given one. */
#ifndef MZ_TESTS_INPUT_FOLDER_H
#define MZ_TESTS_INPUT_FOLDER_H

#include <stddef.h>

enum { INPUT_PATH_BYTES = 256 };

/* Creates an empty folder under $TMPDIR or the system's. Ends the process on errors, as do the
 * others: without a folder nothing is tested. */
void input_folder_create(char path[INPUT_PATH_BYTES]);

/* Creates the folder DIR/NAME. */
void input_folder_make(const char *dir, const char *name);

/* Writes DIR/NAME anew; `path` receives its name, NULL: not wanted. */
void input_folder_write(const char *dir, const char *name, const void *data, size_t n_bytes,
                        char path[INPUT_PATH_BYTES]);

/* Removes the folder and all in it. */
void input_folder_remove(const char *path);

#endif
