/* Chat templates by name: how the turns of a conversation become one text with control tokens. */
#ifndef MZ_LLM_CHAT_TEMPLATE_H
#define MZ_LLM_CHAT_TEMPLATE_H

#include <stdbool.h>

#include "llm/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_chat_role { MZ_CHAT_SYSTEM = 0, MZ_CHAT_USER, MZ_CHAT_ASSISTANT } mz_chat_role;

typedef struct mz_chat_turn {
    mz_chat_role role;
    const char *text; /* UTF-8, NUL-terminated */
} mz_chat_turn;

/* One row of a const table: vicuna, chatml, phi, stablelm, llama-2, gemma, smollm2, and "none",
 * which gives the texts as they are. */
typedef struct mz_chat_template mz_chat_template;

/* By name. Errors: ARG, naming the known ones. */
mz_status mz_chat_template_find(mz_error *err, const char *name, const mz_chat_template **out);

/* The one that the checkpoint's Jinja text is, found by the control tokens that it writes; "none"
 * without one. Errors: UNSUPPORTED for a text that none of them is, naming the known ones and
 * --template. */
mz_status mz_chat_template_detect(mz_error *err, const char *jinja, const mz_chat_template **out);

const char *mz_chat_template_name(const mz_chat_template *t);

/* Name i of the table, NULL after the last. */
const char *mz_chat_template_name_at(int i);

/* Texts at which an answer ends besides the end-of-text token, as the template's authors stop:
 * NULL after the last. */
const char *mz_chat_template_stop(const mz_chat_template *t, int i);

/* Appends the ids of the conversation to *list, ready for the assistant's answer (its last turn
 * must be the user's). Control tokens of the template become themselves; those that a turn's text
 * spells do not: a user cannot forge a turn. `is_first`: the beginning of a conversation (BOS where
 * the tokenizer adds one, the template's default system text where there is no system turn);
 * otherwise what comes after an answer that is in the cache already without its end, which is
 * written first. Errors: those of mz_tokenizer_encode; ARG for turns in an order that the template
 * has no place for. */
mz_status mz_chat_template_encode(mz_context *ctx, const mz_chat_template *t,
                                  const mz_tokenizer *tokenizer, const mz_chat_turn *turns,
                                  int n_turns, bool is_first, mz_token_list *list);

#ifdef __cplusplus
}
#endif
#endif
