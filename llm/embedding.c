#include "llm/embedding.h"

mz_status mz_embedding_rows(mz_stream *s, const mz_tensor *y, const mz_embedding *embedding,
                            const int32_t *ids) {
    const size_t mark = mz_stream_mark(s);
    const size_t bytes = (size_t)y->shape[0] * sizeof *ids;
    void *rows = NULL;
    MZ_TRY(mz_stream_take_bytes(s, bytes, "token ids", &rows));
    if (!s->arena.measure) {
        MZ_TRY(s->backend->upload(s, rows, ids, bytes));
    }
    MZ_TRY(mz_op_gather_rows(s, y, &embedding->table.weight, rows, embedding->scale));
    mz_stream_release(s, mark);
    return MZ_OK;
}

mz_status mz_embedding_logits(mz_stream *s, const mz_tensor *y, const mz_embedding *embedding,
                              const mz_tensor *hidden) {
    return mz_op_linear(s, y, hidden, &embedding->head);
}
