#include "llm/chat_template.h"

#include <string.h>

#include "llm/tokenizer_internal.h"
#include "llm/utf8.h"

enum { N_ROLES = 3, MAX_CONTROLS = 4, MAX_STOPS = 2, MAX_MARKS = 3 };

/* In these texts {bos} and {eos} stand for the tokenizer's tokens. */
struct mz_chat_template {
    const char *name;
    const char *before[N_ROLES]; /* what stands around a turn's text, by role */
    const char *after[N_ROLES];
    const char *answer;                 /* what asks for an answer */
    const char *answer_end;             /* what an answer ends with, before the next turn */
    const char *default_system;         /* NULL: none */
    const char *bos;                    /* "{bos}" where the template writes one of its own */
    const char *next_user;              /* in front of each user's turn but the first */
    bool system_in_user;                /* system text goes into the first user's turn */
    bool alternates;                    /* user, assistant, user, ... */
    bool trims;                         /* white space around a turn's text is left out */
    const char *controls[MAX_CONTROLS]; /* the control tokens it writes; NULL after the last */
    const char *stops[MAX_STOPS];       /* likewise */
    const char *marks[MAX_MARKS];       /* what its Jinja text has in it */
    const char *never;                  /* what it has not */
};

/* The first whose marks are all there is the one: special ones stand before general ones. */
static const mz_chat_template templates[] = {
    {
        /* FastChat's vicuna_v1.1, LLaVA's v1. */
        .name = "vicuna",
        .before = {"", "USER: ", "ASSISTANT: "},
        .after = {" ", " ", "{eos}"},
        .answer = "ASSISTANT:",
        .answer_end = "{eos}",
        .default_system = "A chat between a curious user and an artificial intelligence assistant. "
                          "The assistant gives helpful, detailed, and polite answers to the user's "
                          "questions.",
        .alternates = true,
        .stops = {"</s>"},
        .marks = {"USER:", "ASSISTANT:"},
    },
    {
        .name = "smollm2",
        .before = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
        .after = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
        .answer = "<|im_start|>assistant\n",
        .answer_end = "<|im_end|>\n",
        .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        .controls = {"<|im_start|>", "<|im_end|>"},
        .stops = {"<|im_end|>"},
        .marks = {"<|im_start|>", "assistant named SmolLM, trained by Hugging Face"},
    },
    {
        .name = "chatml",
        .before = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
        .after = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
        .answer = "<|im_start|>assistant\n",
        .answer_end = "<|im_end|>\n",
        .controls = {"<|im_start|>", "<|im_end|>"},
        .stops = {"<|im_end|>"},
        .marks = {"<|im_start|>", "<|im_end|>"},
    },
    {
        /* Phi-2's model card. */
        .name = "phi",
        .before = {"", "Instruct: ", "Output: "},
        .after = {"\n", "\n", "\n"},
        .answer = "Output:",
        .answer_end = "\n",
        .alternates = true,
        .stops = {"\nInstruct:"},
        .marks = {"Instruct:", "Output:"},
    },
    {
        /* StableLM-2-zephyr. */
        .name = "stablelm",
        .before = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
        .after = {"{eos}\n", "{eos}\n", "{eos}\n"},
        .answer = "<|assistant|>\n",
        .answer_end = "{eos}\n",
        .controls = {"<|system|>", "<|user|>", "<|assistant|>"},
        .stops = {"<|user|>"},
        .marks = {"<|user|>", "<|assistant|>", "eos_token"},
        .never = "<|end|>",
    },
    {
        .name = "llama-2",
        .before = {"<<SYS>>\n", "[INST] ", " "},
        .after = {"\n<</SYS>>\n\n", " [/INST]", " {eos}"},
        .answer = "",
        .answer_end = " {eos}",
        .bos = "{bos}",
        .next_user = "{bos}",
        .system_in_user = true,
        .alternates = true,
        .trims = true,
        .stops = {"</s>"},
        .marks = {"[INST]", "<<SYS>>"},
    },
    {
        .name = "gemma",
        .before = {"", "<start_of_turn>user\n", "<start_of_turn>model\n"},
        .after = {"\n\n", "<end_of_turn>\n", "<end_of_turn>\n"},
        .answer = "<start_of_turn>model\n",
        .answer_end = "<end_of_turn>\n",
        .bos = "{bos}",
        .system_in_user = true,
        .alternates = true,
        .trims = true,
        .controls = {"<start_of_turn>", "<end_of_turn>"},
        .stops = {"<end_of_turn>"},
        .marks = {"<start_of_turn>", "<end_of_turn>"},
    },
    {
        .name = "none",
        .before = {"", "", ""},
        .after = {"", "", ""},
        .answer = "",
        .answer_end = "",
    },
};
enum { N_TEMPLATES = sizeof templates / sizeof templates[0] };

const char *mz_chat_template_name(const mz_chat_template *t) {
    return t->name;
}

const char *mz_chat_template_name_at(int i) {
    return i >= 0 && i < N_TEMPLATES ? templates[i].name : NULL;
}

const char *mz_chat_template_stop(const mz_chat_template *t, int i) {
    return i >= 0 && i < MAX_STOPS ? t->stops[i] : NULL;
}

/* "vicuna, smollm2, ..." */
static const char *all_names(char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < N_TEMPLATES; i++) {
        const size_t length = strlen(templates[i].name);
        if (n + length + 3 > size) {
            break;
        }
        if (n > 0) {
            memcpy(out + n, ", ", 2);
            n += 2;
        }
        memcpy(out + n, templates[i].name, length + 1);
        n += length;
    }
    return out;
}

mz_status mz_chat_template_find(mz_error *err, const char *name, const mz_chat_template **out) {
    for (int i = 0; i < N_TEMPLATES; i++) {
        if (strcmp(templates[i].name, name) == 0) {
            *out = &templates[i];
            return MZ_OK;
        }
    }
    char names[160];
    return mz_fail(err, MZ_ERR_ARG, "chat template \"%s\" is unknown; known are %s", name,
                   all_names(names, sizeof names));
}

static bool is_it(const mz_chat_template *t, const char *jinja) {
    bool all = t->marks[0] != NULL;
    for (int i = 0; i < MAX_MARKS && t->marks[i] != NULL; i++) {
        all = all && strstr(jinja, t->marks[i]) != NULL;
    }
    return all && (t->never == NULL || strstr(jinja, t->never) == NULL);
}

mz_status mz_chat_template_detect(mz_error *err, const char *jinja, const mz_chat_template **out) {
    if (jinja == NULL || *jinja == '\0') {
        return mz_chat_template_find(err, "none", out);
    }
    for (int i = 0; i < N_TEMPLATES; i++) {
        if (is_it(&templates[i], jinja)) {
            *out = &templates[i];
            return MZ_OK;
        }
    }
    char names[160];
    return mz_fail(err, MZ_ERR_UNSUPPORTED,
                   "the checkpoint's chat template is none of the known ones (%s); choose one with "
                   "--template",
                   all_names(names, sizeof names));
}

/* --- Writing --------------------------------------------------------------------------------- */

/* Between two control tokens everything is one text, the template's words and the turns' alike, so
 * that it becomes the tokens that it becomes in the published tokenizer; nothing in it is parsed.
 */
typedef struct chat_writer {
    mz_context *ctx;
    const mz_chat_template *t;
    const mz_tokenizer *tokenizer;
    mz_token_list *list;
    mz_text_buffer text; /* what has not become tokens yet */
    bool continues;      /* something was written before it */
} chat_writer;

static mz_status flush(chat_writer *w) {
    if (w->text.n == 0) {
        return MZ_OK;
    }
    const mz_encode_options options = {.continues = w->continues};
    MZ_TRY(mz_tokenizer_encode(w->ctx, w->tokenizer, w->text.data, w->text.n, &options, w->list));
    w->text.n = 0;
    w->continues = true;
    return MZ_OK;
}

static mz_status put(chat_writer *w, const char *text, size_t n_bytes) {
    return mz_text_buffer_put(w->ctx, &w->text, text, n_bytes);
}

static mz_status put_token(chat_writer *w, int32_t id) {
    MZ_TRY(flush(w));
    w->continues = true;
    return mz_token_list_push(w->ctx, w->list, id);
}

/* The control token that a text begins with, and its length; -1: none that the tokenizer has. */
static int32_t control_at(const chat_writer *w, const char *text, size_t n_bytes, size_t *length) {
    const mz_vocabulary *v = &w->tokenizer->vocabulary;
    for (int i = 0; i < MAX_CONTROLS && w->t->controls[i] != NULL; i++) {
        *length = strlen(w->t->controls[i]);
        if (n_bytes < *length || memcmp(text, w->t->controls[i], *length) != 0) {
            continue;
        }
        const int32_t id = mz_tokenizer_find(w->tokenizer, text, *length);
        if (id >= 0 && (v->pieces[id].type == MZ_PIECE_CONTROL ||
                        v->pieces[id].type == MZ_PIECE_USER_DEFINED)) {
            return id;
        }
    }
    return -1;
}

/* A special token; where the tokenizer does not say which it is, the one that is written so, or the
 * text. */
static mz_status put_special(chat_writer *w, mz_special_token which, const char *otherwise) {
    int32_t id = mz_tokenizer_special(w->tokenizer, which);
    if (id < 0) {
        id = mz_tokenizer_find(w->tokenizer, otherwise, strlen(otherwise));
        id = mz_tokenizer_is_control(w->tokenizer, id) ? id : -1;
    }
    return id >= 0 ? put_token(w, id) : put(w, otherwise, strlen(otherwise));
}

/* The template's own words. */
static mz_status put_words(chat_writer *w, const char *words) {
    for (const char *c = words != NULL ? words : ""; *c != '\0';) {
        size_t length = 1;
        const int32_t id = control_at(w, c, strlen(c), &length);
        if (id >= 0) {
            MZ_TRY(put_token(w, id));
        } else if (strncmp(c, "{bos}", 5) == 0) {
            length = 5;
            MZ_TRY(put_special(w, MZ_TOKEN_BOS, ""));
        } else if (strncmp(c, "{eos}", 5) == 0) {
            length = 5;
            MZ_TRY(put_special(w, MZ_TOKEN_EOS, "</s>"));
        } else {
            length = 1;
            MZ_TRY(put(w, c, 1));
        }
        c += length;
    }
    return MZ_OK;
}

/* A turn's text. Control tokens in it are not parsed anyway, but a tokenizer may have the
 * template's as tokens that always are: those are cut in two. */
static mz_status put_text(chat_writer *w, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) {
        size_t length = 0;
        const int32_t id = control_at(w, text + i, n_bytes - i, &length);
        MZ_TRY(put(w, text + i, 1));
        if (id >= 0 && !mz_tokenizer_is_control(w->tokenizer, id)) {
            MZ_TRY(flush(w));
        }
    }
    return MZ_OK;
}

/* Without white space at the beginning, if `left`, and at the end, as Jinja's trim does it. */
static mz_status put_trimmed(chat_writer *w, const char *text, bool left) {
    size_t start = 0;
    size_t end = strlen(text);
    while (left && start < end) {
        uint32_t code = 0;
        const int n = mz_utf8_decode(text + start, end - start, &code);
        if (n == 0 || !(mz_utf8_is_space(code) || (code >= 0x1C && code <= 0x1F))) {
            break;
        }
        start += (size_t)n;
    }
    while (end > start) {
        size_t before = 0;
        const uint32_t code = mz_utf8_before(text, end, &before);
        if (!(mz_utf8_is_space(code) || (code >= 0x1C && code <= 0x1F))) {
            break;
        }
        end = before;
    }
    return put_text(w, text + start, end - start);
}

static mz_status put_turn(chat_writer *w, const mz_chat_turn *turn, const char *system) {
    const mz_chat_template *t = w->t;
    MZ_TRY(put_words(w, t->before[turn->role]));
    if (system != NULL) {
        MZ_TRY(put_words(w, t->before[MZ_CHAT_SYSTEM]));
        MZ_TRY(put_text(w, system, strlen(system)));
        MZ_TRY(put_words(w, t->after[MZ_CHAT_SYSTEM]));
    }
    /* What opens a system text keeps the white space that the user's text begins with. */
    const bool left = system == NULL || *t->before[MZ_CHAT_SYSTEM] == '\0';
    MZ_TRY(t->trims ? put_trimmed(w, turn->text, left)
                    : put_text(w, turn->text, strlen(turn->text)));
    return put_words(w, t->after[turn->role]);
}

/* BOS: as a part of the text where the template writes one, else as the tokenizer puts it in front
 * of a text, which begins after it. */
static mz_status put_beginning(chat_writer *w, bool has_system) {
    const mz_tokenizer *tokenizer = w->tokenizer;
    MZ_TRY(put_words(w, w->t->bos));
    for (int i = 0; i < tokenizer->n_before && w->t->bos == NULL; i++) {
        MZ_TRY(mz_token_list_push(w->ctx, w->list, tokenizer->before[i]));
    }
    if (has_system || w->t->default_system == NULL) {
        return MZ_OK;
    }
    return put_turn(w, &(mz_chat_turn){MZ_CHAT_SYSTEM, w->t->default_system}, NULL);
}

static mz_status check_turns(const chat_writer *w, const mz_chat_turn *turns, int n_turns,
                             bool is_first) {
    mz_error *err = &w->ctx->error;
    if (n_turns < 1 || turns[n_turns - 1].role != MZ_CHAT_USER) {
        return mz_fail(err, MZ_ERR_ARG, "a conversation's last turn must be the user's");
    }
    mz_chat_role expected = MZ_CHAT_USER;
    for (int i = 0; i < n_turns && w->t->alternates; i++) {
        if (i == 0 && is_first && turns[i].role == MZ_CHAT_SYSTEM) {
            continue;
        }
        if (turns[i].role != expected) {
            return mz_fail(err, MZ_ERR_ARG,
                           "chat template %s: turn %d is the %s's, expected the %s's", w->t->name,
                           i + 1,
                           turns[i].role == MZ_CHAT_SYSTEM ? "system"
                           : turns[i].role == MZ_CHAT_USER ? "user"
                                                           : "assistant",
                           expected == MZ_CHAT_USER ? "user" : "assistant");
        }
        expected = expected == MZ_CHAT_USER ? MZ_CHAT_ASSISTANT : MZ_CHAT_USER;
    }
    return MZ_OK;
}

static mz_status write_all(chat_writer *w, const mz_chat_turn *turns, int n_turns, bool is_first) {
    const bool has_system = turns[0].role == MZ_CHAT_SYSTEM;
    MZ_TRY(is_first ? put_beginning(w, has_system) : put_words(w, w->t->answer_end));
    const char *system = NULL;
    bool begun = !is_first;
    for (int i = 0; i < n_turns; i++) {
        if (turns[i].role == MZ_CHAT_SYSTEM && w->t->system_in_user) {
            system = turns[i].text;
            continue;
        }
        if (turns[i].role == MZ_CHAT_USER && begun) {
            MZ_TRY(put_words(w, w->t->next_user));
        }
        MZ_TRY(put_turn(w, &turns[i], system));
        system = NULL;
        begun = true;
    }
    MZ_TRY(put_words(w, w->t->answer));
    return flush(w);
}

mz_status mz_chat_template_encode(mz_context *ctx, const mz_chat_template *t,
                                  const mz_tokenizer *tokenizer, const mz_chat_turn *turns,
                                  int n_turns, bool is_first, mz_token_list *list) {
    chat_writer w = {
        .ctx = ctx, .t = t, .tokenizer = tokenizer, .list = list, .continues = !is_first};
    MZ_TRY(check_turns(&w, turns, n_turns, is_first));
    const mz_status status = write_all(&w, turns, n_turns, is_first);
    mz_free(ctx, w.text.data);
    return status;
}
