#include "apps/answer_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

mz_status mz_answer_begin(mz_context *ctx, mz_answer_sink *s) {
    *s = (mz_answer_sink){.ctx = ctx};
    s->stream = open_memstream(&s->waiting, &s->waiting_bytes);
    return s->stream != NULL ? MZ_OK : mz_fail(&ctx->error, MZ_ERR_NOMEM, "answer: out of memory");
}

mz_status mz_answer_open(mz_answer_sink *s, const char *path) {
    if (s->is_open) {
        return MZ_OK;
    }
    const int closed = fclose(s->stream);
    s->stream = NULL;
    if (closed != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_NOMEM, "answer: out of memory");
    }
    MZ_TRY(mz_output_open(s->ctx, path, &s->output));
    s->is_open = true;
    s->stream = s->output.stream;
    (void)fwrite(s->waiting, 1, s->waiting_bytes, s->stream);
    return MZ_OK;
}

mz_status mz_answer_flush(mz_answer_sink *s) {
    if (!s->is_open) {
        return MZ_OK;
    }
    /* The reason is still that of the write that failed: nothing was called since. */
    const int error = ferror(s->stream) != 0 ? errno : fflush(s->stream) != 0 ? errno : 0;
    if (error == 0 && ferror(s->stream) == 0) {
        return MZ_OK;
    }
    s->is_pipe_closed = s->is_pipe_closed || error == EPIPE;
    return mz_fail(&s->ctx->error, MZ_ERR_IO, "%s: %s", s->output.shown,
                   error != 0 ? strerror(error) : "an earlier write failed");
}

mz_status mz_answer_commit(mz_answer_sink *s) {
    MZ_TRY(mz_answer_flush(s));
    s->is_open = false;
    s->stream = NULL;
    return mz_output_commit(s->ctx, &s->output);
}

void mz_answer_abort(mz_answer_sink *s) {
    if (s->is_open) {
        mz_output_abort(s->ctx, &s->output);
    } else if (s->stream != NULL) {
        (void)fclose(s->stream);
    }
    free(s->waiting);
    *s = (mz_answer_sink){0};
}
