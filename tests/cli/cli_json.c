/* cli_json PATH: reads one JSON value from standard input and prints what lies at PATH
 * ("series.0.id"), compactly; arrays and objects print their number of elements. Exit code 1 if the
 * input is not valid JSON or has no such place. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *step(const json_t *value, const char *key, size_t length) {
    char name[64];
    if (length >= sizeof name) {
        return NULL;
    }
    memcpy(name, key, length);
    name[length] = '\0';
    if (json_is_array(value)) {
        return json_array_get(value, (size_t)strtoul(name, NULL, 10));
    }
    return json_object_get(value, name);
}

static void print(const json_t *value) {
    if (json_is_string(value)) {
        (void)printf("%s\n", json_string_value(value));
    } else if (json_is_array(value)) {
        (void)printf("%zu\n", json_array_size(value));
    } else if (json_is_object(value)) {
        (void)printf("%zu\n", json_object_size(value));
    } else {
        (void)json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        (void)printf("\n");
    }
}

int main(int argc, char **argv) {
    json_error_t error;
    json_t *root = json_loadf(stdin, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (root == NULL || argc != 2) {
        (void)fprintf(stderr, "cli_json: %s\n", root == NULL ? error.text : "usage: cli_json PATH");
        json_decref(root);
        return 1;
    }
    const json_t *value = root;
    for (const char *key = argv[1]; value != NULL && *key != '\0';) {
        const size_t n = strcspn(key, ".");
        value = step(value, key, n);
        key += key[n] == '.' ? n + 1 : n;
    }
    if (value != NULL) {
        print(value);
    }
    const int code = value != NULL ? 0 : 1;
    json_decref(root);
    return code;
}
