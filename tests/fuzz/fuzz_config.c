#include "apps/zoo/zoo.h"
#include "tests/fuzz/fuzz_target.h"

/* config.json of every family. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    json_t *root = NULL;
    if (mz_json_parse(&ctx, (const char *)data, size, "config.json", &root) != MZ_OK) {
        return 0;
    }
    const mz_json_object config = {.ctx = &ctx, .name = "config.json", .object = root};
    for (const mz_family *family = mz_zoo_families(); family->model_type != NULL; family++) {
        mz_model_info info;
        mz_text_config text;
        int64_t n_parameters = 0;
        int64_t n_active = 0;
        if (family->read_text == NULL) {
            (void)family->describe(&ctx, &config, &info);
        } else if (family->read_text(&config, &text) == MZ_OK) {
            mz_text_count(&text, &n_parameters, &n_active);
        }
    }
    json_decref(root);
    return 0;
}
