#include "apps/model_options.h"

#include <errno.h>
#include <string.h>

mz_option mz_precision_option(int *target) {
    return (mz_option){.name = "precision",
                       .kind = MZ_OPTION_CHOICE,
                       .help = "arithmetic (default auto: 8 bits with block-quantised weights, "
                               "else f32)",
                       .choices = "auto|f32|bf16",
                       .target = target};
}

mz_option mz_kv_type_option(int *target) {
    return (mz_option){.name = "kv-type",
                       .kind = MZ_OPTION_CHOICE,
                       .help = "keys and values in memory (default f32)",
                       .choices = "f32|f16|q8_0",
                       .target = target};
}

mz_precision mz_precision_chosen(int index) {
    static const mz_precision precisions[] = {MZ_PRECISION_INT8, MZ_PRECISION_F32,
                                              MZ_PRECISION_BF16};
    return precisions[index];
}

mz_dtype mz_kv_type_chosen(int index) {
    static const mz_dtype types[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_Q8_0};
    return types[index];
}

mz_status mz_cli_read_stdin(mz_context *ctx, const char *what, size_t max_bytes, char **out,
                            size_t *n_bytes) {
    enum { PIECE = 1 << 16 };
    void *text = NULL;
    size_t capacity = 0;
    size_t n = 0;
    size_t got = 1;
    mz_status status = MZ_OK;
    while (status == MZ_OK && got > 0) {
        status = mz_grow(ctx, &text, &capacity, n + PIECE + 1, 1, what);
        if (status == MZ_OK) {
            got = fread((char *)text + n, 1, PIECE, stdin);
            n += got;
        }
        if (status == MZ_OK && n > max_bytes) {
            status = mz_fail(&ctx->error, MZ_ERR_LIMIT,
                             "standard input: a %s of more than %zu bytes", what, max_bytes);
        }
        if (status == MZ_OK && (ferror(stdin) != 0 || mz_cli_interrupted())) {
            status = mz_fail(&ctx->error, MZ_ERR_IO, "standard input: %s",
                             mz_cli_interrupted() ? "interrupted" : strerror(errno));
        }
    }
    if (status != MZ_OK) {
        mz_free(ctx, text);
        return status;
    }
    ((char *)text)[n] = '\0';
    *out = text;
    *n_bytes = n;
    return MZ_OK;
}
