/* make_checkpoint RECIPE_DIR OUT_DIR [f32|bf16]: a Time-MoE or patch-MoE checkpoint of
 * the sizes of RECIPE_DIR/config.json with made weights, for timing and for goldens of real size.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/golden/made_checkpoint.h"

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4 ||
        (argc == 4 && strcmp(argv[3], "f32") != 0 && strcmp(argv[3], "bf16") != 0)) {
        fputs("usage: make_checkpoint RECIPE_DIR OUT_DIR [f32|bf16]\n", stderr);
        return 2;
    }
    const mz_dtype dtype = argc == 4 && strcmp(argv[3], "f32") == 0 ? MZ_DTYPE_F32 : MZ_DTYPE_BF16;
    mz_context ctx;
    (void)mkdir(argv[2], 0777);
    mz_status status = mz_context_init(&ctx, NULL);
    if (status == MZ_OK) {
        status = mz_made_checkpoint_write(&ctx, argv[1], argv[2], dtype);
    }
    if (status != MZ_OK) {
        fprintf(stderr, "make_checkpoint: %s\n", ctx.error.message);
    }
    mz_context_close(&ctx);
    return status == MZ_OK ? 0 : 1;
}
