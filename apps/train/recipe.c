#include "apps/train/recipe.h"

#include <string.h>

#include "apps/train/recipe_internal.h"
#include "core/file.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof *(table)))
#define AT(type, member) offsetof(type, member)

enum { MAX_STEPS = 100000000, MAX_WINDOW = 1 << 20 };

/* What the parts below share. */
typedef struct reader {
    mz_context *ctx;
    mz_train_recipe *r;
    size_t n_folder; /* bytes of the folder's part of the recipe's path, with its slash */
} reader;

/* ---- texts ---- */

/* *path as seen from the working folder. */
static mz_status resolve(reader *in, const char **path) {
    mz_train_recipe *r = in->r;
    if (*path == NULL || (*path)[0] == '/' || in->n_folder == 0) {
        return MZ_OK;
    }
    MZ_TRY(mz_grow(in->ctx, (void **)&r->owned, &r->owned_capacity, r->n_owned + 1, sizeof(char *),
                   "paths of a recipe"));
    void *text = NULL;
    const size_t bytes = in->n_folder + strlen(*path) + 1;
    MZ_TRY(mz_alloc(in->ctx, bytes, "path", &text));
    (void)snprintf(text, bytes, "%.*s%s", (int)in->n_folder, r->path, *path);
    r->owned[r->n_owned++] = text;
    *path = text;
    return MZ_OK;
}

/* ---- model ---- */

static mz_status read_targets(const mz_json_object *lora, mz_train_model *m) {
    const json_t *targets = NULL;
    MZ_TRY(mz_recipe_array(lora, "targets", MZ_TRAIN_MAX_TARGETS, &targets));
    if (json_array_size(targets) == 0) {
        return mz_fail(&lora->ctx->error, MZ_ERR_MISSING, "%s: targets: expected at least one",
                       lora->name);
    }
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const char *text = json_string_value(json_array_get(targets, i));
        if (text == NULL || text[0] == '\0') {
            return mz_fail(&lora->ctx->error, MZ_ERR_FORMAT,
                           "%s: targets.%zu: expected a pattern of names", lora->name, i);
        }
        m->lora_targets[m->n_lora_targets++] = text;
    }
    return MZ_OK;
}

static mz_status read_lora(const mz_json_object *model, mz_train_model *m) {
    static const mz_recipe_field fields[] = {
        {"rank", MZ_RECIPE_INT, AT(mz_train_model, lora_rank), 8, 1, 4096, NULL, false},
        {"alpha", MZ_RECIPE_NUMBER, AT(mz_train_model, lora_alpha), 16, 1e-6, 1e6, NULL, false},
        {"rslora", MZ_RECIPE_BOOL, AT(mz_train_model, lora_rslora), 0, 0, 0, NULL, false},
        {"seed", MZ_RECIPE_INT, AT(mz_train_model, seed), 0, 0, MZ_RECIPE_MAX_INT, NULL, false},
        {"targets", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
    };
    mz_recipe_section lora;
    MZ_TRY(mz_recipe_open_section(model, "lora", false, &lora));
    m->has_lora = lora.o.object != NULL;
    if (!m->has_lora) {
        return MZ_OK;
    }
    if (m->checkpoint == NULL) {
        return mz_fail(&model->ctx->error, MZ_ERR_FORMAT,
                       "%s: lora needs a checkpoint to be added to, not init", model->name);
    }
    MZ_TRY(mz_recipe_read(&lora.o, fields, COUNT(fields), m));
    return read_targets(&lora.o, m);
}

static mz_status read_model(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"init", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"checkpoint", MZ_RECIPE_TEXT, AT(mz_train_model, checkpoint), 0, 0, 0, NULL, false},
        {"lora", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
    };
    static const mz_recipe_field init_fields[] = {
        {"config", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"seed", MZ_RECIPE_INT, AT(mz_train_model, seed), 0, 0, MZ_RECIPE_MAX_INT, NULL, false},
        {"deviation", MZ_RECIPE_NUMBER, AT(mz_train_model, deviation), 0, 0, 1e3, NULL, false},
    };
    mz_train_model *m = &in->r->model;
    mz_recipe_section model;
    mz_recipe_section init;
    MZ_TRY(mz_recipe_open_section(top, "model", true, &model));
    MZ_TRY(mz_recipe_read(&model.o, fields, COUNT(fields), m));
    MZ_TRY(mz_recipe_open_section(&model.o, "init", false, &init));
    if ((init.o.object != NULL) == (m->checkpoint != NULL)) {
        return mz_fail(&in->ctx->error, MZ_ERR_FORMAT, "%s: expected init or checkpoint, there %s",
                       model.name, m->checkpoint != NULL ? "are both" : "is neither");
    }
    if (init.o.object != NULL) {
        mz_recipe_section config;
        MZ_TRY(mz_recipe_read(&init.o, init_fields, COUNT(init_fields), m));
        MZ_TRY(mz_recipe_open_section(&init.o, "config", true, &config));
        m->config = config.o.object;
    }
    MZ_TRY(read_lora(&model.o, m));
    return resolve(in, &m->checkpoint);
}

/* ---- data ---- */

static mz_status read_source(reader *in, const mz_json_object *data, const json_t *array,
                             size_t index) {
    static const mz_recipe_field fields[] = {
        {"kind", MZ_RECIPE_CHOICE, AT(mz_train_source, kind), 0, 0, 0,
         "jsonl|csv|time-moe|synthetic", true},
        {"path", MZ_RECIPE_TEXT, AT(mz_train_source, path), 0, 0, 0, NULL, false},
        {"columns", MZ_RECIPE_TEXT, AT(mz_train_source, columns), 0, 0, 0, NULL, false},
        {"id", MZ_RECIPE_TEXT, AT(mz_train_source, id), 0, 0, 0, NULL, false},
        {"time", MZ_RECIPE_TEXT, AT(mz_train_source, time), 0, 0, 0, NULL, false},
        {"value", MZ_RECIPE_TEXT, AT(mz_train_source, value), 0, 0, 0, NULL, false},
        {"weight", MZ_RECIPE_NUMBER, AT(mz_train_source, weight), 1, 1e-9, 1e9, NULL, false},
        {"weighting", MZ_RECIPE_CHOICE, AT(mz_train_source, weighting), 0, 0, 0,
         "sqrt-length|length|even", false},
        {"group_power", MZ_RECIPE_NUMBER, AT(mz_train_source, group_power), 0.5, 0, 1, NULL, false},
    };
    mz_train_source *source = &in->r->data.sources[index];
    mz_recipe_section item;
    MZ_TRY(mz_recipe_open_item(data, "sources", array, index, &item));
    MZ_TRY(mz_recipe_read(&item.o, fields, COUNT(fields), source));
    const bool is_made_up = source->kind == MZ_TRAIN_SYNTHETIC;
    if (is_made_up != (source->path == NULL)) {
        return mz_fail(&in->ctx->error, is_made_up ? MZ_ERR_FORMAT : MZ_ERR_MISSING, "%s: %s",
                       item.name,
                       is_made_up ? "path: a synthetic source has none" : "path is missing");
    }
    return resolve(in, &source->path);
}

static mz_status read_augment(const mz_json_object *data, mz_train_augment *out) {
    static const mz_recipe_field fields[] = {
        {"mix", MZ_RECIPE_NUMBER, AT(mz_train_augment, mix), 0.2, 0, 1, NULL, false},
        {"aggregate", MZ_RECIPE_NUMBER, AT(mz_train_augment, aggregate), 0.12, 0, 1, NULL, false},
        {"interpolate", MZ_RECIPE_NUMBER, AT(mz_train_augment, interpolate), 0.06, 0, 1, NULL,
         false},
        {"gain", MZ_RECIPE_NUMBER, AT(mz_train_augment, gain), 0.1, 0, 1, NULL, false},
        {"trend", MZ_RECIPE_NUMBER, AT(mz_train_augment, trend), 0.08, 0, 1, NULL, false},
        {"jump", MZ_RECIPE_NUMBER, AT(mz_train_augment, jump), 0.03, 0, 1, NULL, false},
        {"censor", MZ_RECIPE_NUMBER, AT(mz_train_augment, censor), 0.04, 0, 1, NULL, false},
        {"negate", MZ_RECIPE_NUMBER, AT(mz_train_augment, negate), 0.08, 0, 1, NULL, false},
        {"reverse", MZ_RECIPE_NUMBER, AT(mz_train_augment, reverse), 0.02, 0, 1, NULL, false},
    };
    mz_recipe_section augment;
    MZ_TRY(mz_recipe_open_section(data, "augment", false, &augment));
    return mz_recipe_read(&augment.o, fields, COUNT(fields), out);
}

static mz_status check_window(reader *in, const mz_recipe_section *data, const mz_train_data *d) {
    const int64_t n_points = d->context + d->horizon;
    if (n_points > MAX_WINDOW) {
        return mz_fail(&in->ctx->error, MZ_ERR_LIMIT,
                       "%s: context and horizon are %lld and %lld, together above %d", data->name,
                       (long long)d->context, (long long)d->horizon, (int)MAX_WINDOW);
    }
    if (d->min_points > n_points) {
        return mz_fail(&in->ctx->error, MZ_ERR_LIMIT,
                       "%s: min_points is %lld, above context and horizon together, %lld",
                       data->name, (long long)d->min_points, (long long)n_points);
    }
    return MZ_OK;
}

static mz_status read_data(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"sources", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"context", MZ_RECIPE_INT, AT(mz_train_data, context), 2048, 1, MAX_WINDOW, NULL, false},
        {"horizon", MZ_RECIPE_INT, AT(mz_train_data, horizon), 64, 1, MAX_WINDOW, NULL, false},
        {"min_points", MZ_RECIPE_INT, AT(mz_train_data, min_points), 8, 8, MAX_WINDOW, NULL, false},
        {"seed", MZ_RECIPE_INT, AT(mz_train_data, seed), 0, 0, MZ_RECIPE_MAX_INT, NULL, false},
        {"full_share", MZ_RECIPE_NUMBER, AT(mz_train_data, full_share), 0.5, 0, 1, NULL, false},
        {"late_share", MZ_RECIPE_NUMBER, AT(mz_train_data, late_share), 0.5, 0, 1, NULL, false},
        {"even_weights", MZ_RECIPE_BOOL, AT(mz_train_data, even_weights), 0, 0, 0, NULL, false},
        {"augment", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
    };
    mz_train_data *d = &in->r->data;
    mz_recipe_section data;
    const json_t *sources = NULL;
    MZ_TRY(mz_recipe_open_section(top, "data", true, &data));
    MZ_TRY(mz_recipe_read(&data.o, fields, COUNT(fields), d));
    MZ_TRY(check_window(in, &data, d));
    MZ_TRY(mz_recipe_array(&data.o, "sources", MZ_TRAIN_MAX_SOURCES, &sources));
    d->n_sources = (int)json_array_size(sources);
    if (d->n_sources == 0) {
        return mz_fail(&in->ctx->error, MZ_ERR_MISSING, "%s: sources: expected at least one",
                       data.name);
    }
    for (int i = 0; i < d->n_sources; i++) {
        MZ_TRY(read_source(in, &data.o, sources, (size_t)i));
    }
    return read_augment(&data.o, &d->augment);
}

/* ---- loss ---- */

static mz_status read_loss(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"kind", MZ_RECIPE_CHOICE, AT(mz_train_loss, kind), 0, 0, 0, "auto|huber|pinball", false},
        {"row_power", MZ_RECIPE_NUMBER, AT(mz_train_loss, row_power), 0, 0, 1, NULL, false},
        {"delta", MZ_RECIPE_NUMBER, AT(mz_train_loss, delta), 2, 1e-6, 1e6, NULL, false},
        {"balance", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"router_z", MZ_RECIPE_NUMBER, AT(mz_train_loss, router_z), 0, 0, 1e3, NULL, false},
    };
    static const mz_recipe_field balance_fields[] = {
        {"factor", MZ_RECIPE_NUMBER, AT(mz_train_loss, balance_factor), 0.02, 0, 1e3, NULL, false},
        {"per_layer", MZ_RECIPE_BOOL, AT(mz_train_loss, balance_per_layer), 1, 0, 0, NULL, false},
    };
    mz_recipe_section loss;
    mz_recipe_section balance;
    MZ_TRY(mz_recipe_open_section(top, "loss", false, &loss));
    MZ_TRY(mz_recipe_read(&loss.o, fields, COUNT(fields), &in->r->loss));
    MZ_TRY(mz_recipe_open_section(&loss.o, "balance", false, &balance));
    return mz_recipe_read(&balance.o, balance_fields, COUNT(balance_fields), &in->r->loss);
}

/* ---- optimizer and schedule ---- */

static mz_status read_betas(const mz_json_object *optimizer, mz_optimizer_config *out) {
    const json_t *betas = NULL;
    double values[2] = {0.9, 0.95};
    MZ_TRY(mz_recipe_array(optimizer, "betas", 2, &betas));
    for (size_t i = 0; i < 2 && betas != NULL; i++) {
        const json_t *value = json_array_get(betas, i);
        const double number = json_number_value(value);
        if (!json_is_number(value) || !(number >= 0 && number < 1)) {
            return mz_fail(&optimizer->ctx->error, MZ_ERR_FORMAT,
                           "%s: betas: expected two numbers from 0 to below 1", optimizer->name);
        }
        values[i] = number;
    }
    out->beta1 = values[0];
    out->beta2 = values[1];
    return MZ_OK;
}

static mz_status read_groups(const mz_json_object *optimizer, mz_train_recipe *r) {
    static const mz_recipe_field fields[] = {
        {"pattern", MZ_RECIPE_TEXT, AT(mz_optimizer_group, pattern), 0, 0, 0, NULL, true},
        {"train", MZ_RECIPE_BOOL, AT(mz_optimizer_group, train), 1, 0, 0, NULL, false},
        {"lr_factor", MZ_RECIPE_NUMBER, AT(mz_optimizer_group, lr_factor), 1, 0, 1e6, NULL, false},
        {"weight_decay", MZ_RECIPE_NUMBER, AT(mz_optimizer_group, weight_decay), 0, 0, 1e3, NULL,
         false},
    };
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = {{"train", MZ_GROUP_TRAIN},
                 {"lr_factor", MZ_GROUP_LR_FACTOR},
                 {"weight_decay", MZ_GROUP_WEIGHT_DECAY}};
    const json_t *groups = NULL;
    MZ_TRY(mz_recipe_array(optimizer, "groups", MZ_TRAIN_MAX_GROUPS, &groups));
    for (size_t i = 0; i < json_array_size(groups); i++) {
        mz_recipe_section item;
        mz_optimizer_group *group = &r->groups[i];
        MZ_TRY(mz_recipe_open_item(optimizer, "groups", groups, i, &item));
        MZ_TRY(mz_recipe_read(&item.o, fields, COUNT(fields), group));
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++) {
            const json_t *value = json_object_get(item.o.object, flags[k].key);
            group->sets |= value != NULL && !json_is_null(value) ? flags[k].flag : 0;
        }
    }
    r->optimizer.groups = r->groups;
    r->optimizer.n_groups = (int64_t)json_array_size(groups);
    return MZ_OK;
}

static mz_status read_optimizer(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"lr", MZ_RECIPE_NUMBER, AT(mz_train_recipe, schedule.lr), 1e-3, 1e-12, 1e3, NULL, false},
        {"betas", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"eps", MZ_RECIPE_NUMBER, AT(mz_train_recipe, optimizer.eps), 1e-8, 1e-30, 1, NULL, false},
        {"weight_decay", MZ_RECIPE_NUMBER, AT(mz_train_recipe, optimizer.weight_decay), 0.1, 0, 1e3,
         NULL, false},
        {"clip_norm", MZ_RECIPE_NUMBER, AT(mz_train_recipe, optimizer.clip_norm), 1, 0, 1e9, NULL,
         false},
        {"ema", MZ_RECIPE_NUMBER, AT(mz_train_recipe, optimizer.ema_decay), 0, 0, 0.9999999, NULL,
         false},
        {"groups", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
    };
    mz_recipe_section optimizer;
    MZ_TRY(mz_recipe_open_section(top, "optimizer", false, &optimizer));
    MZ_TRY(mz_recipe_read(&optimizer.o, fields, COUNT(fields), in->r));
    MZ_TRY(read_betas(&optimizer.o, &in->r->optimizer));
    return read_groups(&optimizer.o, in->r);
}

static mz_status read_schedule(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"kind", MZ_RECIPE_CHOICE, AT(mz_schedule, kind), MZ_SCHEDULE_COSINE, 0, 0,
         "constant|cosine|wsd", false},
        {"steps", MZ_RECIPE_INT, AT(mz_schedule, total_steps), 0, 1, MAX_STEPS, NULL, true},
        {"warmup_steps", MZ_RECIPE_INT, AT(mz_schedule, warmup_steps), 0, 0, MAX_STEPS, NULL,
         false},
        {"min_lr", MZ_RECIPE_NUMBER, AT(mz_schedule, min_lr), 0, 0, 1e3, NULL, false},
        {"decay_steps", MZ_RECIPE_INT, AT(mz_schedule, decay_steps), -1, 0, MAX_STEPS, NULL, false},
    };
    mz_schedule *s = &in->r->schedule;
    mz_recipe_section schedule;
    MZ_TRY(mz_recipe_open_section(top, "schedule", true, &schedule));
    MZ_TRY(mz_recipe_read(&schedule.o, fields, COUNT(fields), s));
    if (s->decay_steps < 0) {
        s->decay_steps = s->kind == MZ_SCHEDULE_WSD ? s->total_steps / 5 : 0;
    }
    if (s->warmup_steps + s->decay_steps > s->total_steps) {
        return mz_fail(&in->ctx->error, MZ_ERR_LIMIT,
                       "%s: warmup_steps and decay_steps are %lld and %lld, together above steps, "
                       "%lld",
                       schedule.name, (long long)s->warmup_steps, (long long)s->decay_steps,
                       (long long)s->total_steps);
    }
    if (s->min_lr > s->lr) {
        return mz_fail(&in->ctx->error, MZ_ERR_LIMIT, "%s: min_lr is %g, above optimizer.lr, %g",
                       schedule.name, s->min_lr, s->lr);
    }
    return MZ_OK;
}

/* ---- the rest ---- */

static mz_status read_batch(reader *in, const mz_json_object *top) {
    static const mz_recipe_field fields[] = {
        {"points", MZ_RECIPE_INT, AT(mz_train_recipe, batch_points), 0, 1, 1 << 30, NULL, false},
        {"tokens", MZ_RECIPE_INT, AT(mz_train_recipe, batch_tokens), 0, 1, 1 << 30, NULL, false},
        {"accumulate", MZ_RECIPE_INT, AT(mz_train_recipe, accumulate), 1, 1, 65536, NULL, false},
    };
    mz_recipe_section batch;
    MZ_TRY(mz_recipe_open_section(top, "batch", true, &batch));
    MZ_TRY(mz_recipe_read(&batch.o, fields, COUNT(fields), in->r));
    if ((in->r->batch_points > 0) == (in->r->batch_tokens > 0)) {
        return mz_fail(&in->ctx->error, MZ_ERR_FORMAT, "%s: expected points or tokens, there %s",
                       batch.name, in->r->batch_points > 0 ? "are both" : "is neither");
    }
    return MZ_OK;
}

static mz_status read_intervals(reader *in, const mz_json_object *top) {
    static const mz_recipe_field evaluation_fields[] = {
        {"every_steps", MZ_RECIPE_INT, AT(mz_train_recipe, evaluation_every), 0, 0, MAX_STEPS, NULL,
         false},
        {"examples", MZ_RECIPE_INT, AT(mz_train_recipe, evaluation_examples), 256, 0, 1 << 24, NULL,
         false},
    };
    static const mz_recipe_field checkpoint_fields[] = {
        {"every_steps", MZ_RECIPE_INT, AT(mz_train_recipe, checkpoint_every), 0, 0, MAX_STEPS, NULL,
         false},
        {"every_seconds", MZ_RECIPE_NUMBER, AT(mz_train_recipe, checkpoint_every_s), -1, 0, 1e7,
         NULL, false},
        {"keep", MZ_RECIPE_INT, AT(mz_train_recipe, checkpoint_keep), 1, 1, 1000, NULL, false},
    };
    mz_train_recipe *r = in->r;
    mz_recipe_section part;
    MZ_TRY(mz_recipe_open_section(top, "evaluation", false, &part));
    MZ_TRY(mz_recipe_read(&part.o, evaluation_fields, COUNT(evaluation_fields), r));
    MZ_TRY(mz_recipe_open_section(top, "checkpoint", false, &part));
    MZ_TRY(mz_recipe_read(&part.o, checkpoint_fields, COUNT(checkpoint_fields), r));
    if (r->checkpoint_every_s < 0) {
        r->checkpoint_every_s = r->checkpoint_every > 0 ? 0 : 600;
    }
    return MZ_OK;
}

static mz_status read_all(reader *in) {
    static const mz_recipe_field fields[] = {
        {"job", MZ_RECIPE_CHOICE, AT(mz_train_recipe, job), 0, 0, 0, "forecast", true},
        {"model", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"data", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"loss", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"optimizer", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"schedule", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"batch", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, true},
        {"precision", MZ_RECIPE_CHOICE, AT(mz_train_recipe, precision), 0, 0, 0, "f32|bf16", false},
        {"recompute", MZ_RECIPE_BOOL, AT(mz_train_recipe, recompute), 0, 0, 0, NULL, false},
        {"evaluation", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"checkpoint", MZ_RECIPE_OTHER, 0, 0, 0, 0, NULL, false},
        {"save_dtype", MZ_RECIPE_CHOICE, AT(mz_train_recipe, save_dtype), 1, 0, 0, "f32|bf16",
         false},
        {"output", MZ_RECIPE_TEXT, AT(mz_train_recipe, output), 0, 0, 0, NULL, false},
    };
    mz_train_recipe *r = in->r;
    const mz_json_object top = {.ctx = in->ctx, .object = r->document, .name = r->path};
    MZ_TRY(mz_recipe_read(&top, fields, COUNT(fields), r));
    MZ_TRY(resolve(in, &r->output));
    MZ_TRY(read_model(in, &top));
    MZ_TRY(read_data(in, &top));
    MZ_TRY(read_loss(in, &top));
    MZ_TRY(read_optimizer(in, &top));
    MZ_TRY(read_schedule(in, &top));
    MZ_TRY(read_batch(in, &top));
    return read_intervals(in, &top);
}

mz_status mz_train_recipe_load(mz_context *ctx, const char *path, const char *const *sets,
                               int n_sets, mz_train_recipe *out) {
    *out = (mz_train_recipe){0};
    const char *slash = strrchr(path, '/');
    reader in = {.ctx = ctx, .r = out, .n_folder = slash != NULL ? (size_t)(slash - path) + 1 : 0};
    mz_status status = mz_strdup(ctx, path, &out->path);
    if (status == MZ_OK) {
        status = mz_json_load(ctx, path, &out->document);
    }
    for (int i = 0; i < n_sets && status == MZ_OK; i++) {
        status = mz_recipe_set(ctx, out->document, sets[i]);
    }
    if (status == MZ_OK) {
        status = mz_recipe_check_depth(ctx, path, out->document, 0);
    }
    if (status == MZ_OK) {
        status = read_all(&in);
    }
    if (status != MZ_OK) {
        mz_train_recipe_free(ctx, out);
    }
    return status;
}

void mz_train_recipe_free(mz_context *ctx, mz_train_recipe *recipe) {
    for (size_t i = 0; i < recipe->n_owned; i++) {
        mz_free(ctx, recipe->owned[i]);
    }
    mz_free(ctx, recipe->owned);
    mz_free(ctx, recipe->path);
    json_decref(recipe->document);
    *recipe = (mz_train_recipe){0};
}
