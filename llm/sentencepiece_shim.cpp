#include "llm/sentencepiece_shim.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <new>
#include <string>
#include <vector>

struct mz_sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

mz_status failed(mz_error *err, const char *what, const char *reason) {
    return mz_fail(err, MZ_ERR_FORMAT, "%s: SentencePiece: %s", what, reason);
}

mz_status no_memory(mz_error *err) {
    return mz_fail(err, MZ_ERR_NOMEM, "SentencePiece: out of memory");
}

} // namespace

mz_status mz_sentencepiece_load(mz_error *err, const void *data, size_t n_bytes, const char *name,
                                mz_sentencepiece **out) {
    mz_sentencepiece *model = nullptr;
    try {
        model = new mz_sentencepiece;
        const auto status = model->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(data), n_bytes));
        if (status.ok()) {
            *out = model;
            return MZ_OK;
        }
        const mz_status code = failed(err, name, status.ToString().c_str());
        delete model;
        return code;
    } catch (const std::bad_alloc &) {
        delete model;
        return no_memory(err);
    } catch (const std::exception &e) {
        delete model;
        return failed(err, name, e.what());
    } catch (...) {
        delete model;
        return failed(err, name, "an unknown failure");
    }
}

void mz_sentencepiece_free(mz_sentencepiece *model) {
    delete model;
}

namespace {

/* Encodes into `items`, strings or ids, and hands each to `give`. */
template <typename Item, typename Give>
mz_status encode_with(mz_error *err, const mz_sentencepiece *model, const char *text,
                      size_t n_bytes, Give give) {
    try {
        std::vector<Item> items;
        const auto status = model->processor.Encode(absl::string_view(text, n_bytes), &items);
        if (!status.ok()) {
            return failed(err, "encoding", status.ToString().c_str());
        }
        for (const Item &item : items) {
            const mz_status given = give(item);
            if (given != MZ_OK) {
                return given;
            }
        }
        return MZ_OK;
    } catch (const std::bad_alloc &) {
        return no_memory(err);
    } catch (const std::exception &e) {
        return failed(err, "encoding", e.what());
    } catch (...) {
        return failed(err, "encoding", "an unknown failure");
    }
}

} // namespace

mz_status mz_sentencepiece_encode(mz_error *err, const mz_sentencepiece *model, const char *text,
                                  size_t n_bytes, mz_sentencepiece_take take, void *arg) {
    return encode_with<int>(err, model, text, n_bytes,
                            [take, arg](int id) { return take(arg, id); });
}

mz_status mz_sentencepiece_pieces(mz_error *err, const mz_sentencepiece *model, const char *text,
                                  size_t n_bytes, mz_sentencepiece_take_text take, void *arg) {
    return encode_with<std::string>(
        err, model, text, n_bytes,
        [take, arg](const std::string &piece) { return take(arg, piece.data(), piece.size()); });
}
