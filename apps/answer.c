#include "apps/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

mz_status mz_answer_begin(mz_answer *a) {
    a->stream = open_memstream(&a->waiting, &a->waiting_bytes);
    return a->stream != NULL ? MZ_OK
                             : mz_fail(&a->ctx->error, MZ_ERR_NOMEM, "answer: out of memory");
}

mz_status mz_answer_open(mz_answer *a) {
    if (a->is_open) {
        return MZ_OK;
    }
    FILE *memory = a->stream;
    a->stream = NULL;
    if (fclose(memory) != 0) {
        return mz_fail(&a->ctx->error, MZ_ERR_NOMEM, "answer: out of memory");
    }
    MZ_TRY(mz_output_open(a->ctx, a->path, &a->output));
    a->is_open = true;
    a->stream = a->output.stream;
    (void)fwrite(a->waiting, 1, a->waiting_bytes, a->stream);
    return MZ_OK;
}

void mz_answer_check(mz_answer *a) {
    if (a->is_open && a->write_error == 0 && ferror(a->stream) != 0) {
        a->write_error = errno != 0 ? errno : EIO;
    }
}

mz_status mz_answer_flush(mz_answer *a) {
    if (!a->is_open || (a->write_error == 0 && fflush(a->stream) == 0 && ferror(a->stream) == 0)) {
        return MZ_OK;
    }
    a->write_error = a->write_error != 0 ? a->write_error : errno != 0 ? errno : EIO;
    return mz_fail(&a->ctx->error, MZ_ERR_IO, "%s: %s", a->output.shown, strerror(a->write_error));
}

mz_status mz_answer_commit(mz_answer *a) {
    MZ_TRY(mz_answer_flush(a));
    a->is_open = false;
    a->stream = NULL;
    return mz_output_commit(a->ctx, &a->output);
}

void mz_answer_abort(mz_answer *a) {
    if (a->is_open) {
        mz_output_abort(a->ctx, &a->output);
    } else if (a->stream != NULL) {
        (void)fclose(a->stream);
    }
    free(a->waiting);
    a->waiting = NULL;
    a->stream = NULL;
    a->is_open = false;
}
