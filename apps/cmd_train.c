/* moezoo train: a model from a recipe, and on from where a training stopped. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/train/recipe.h"
#include "apps/train/train_dry_run.h"
#include "apps/train/train_job.h"
#include "apps/train/trainer.h"
#include "core/file.h"

/* What the line asked for. */
typedef struct request {
    const char *path, *output;
    mz_option_list sets;
    bool resume, dry_run, json, quiet;
} request;

typedef struct job {
    mz_context ctx;
    request request;
    mz_train_recipe recipe;
    mz_trainable *trainable;
    mz_trainer_summary summary;
    const char *output;
} job;

/* ---- report ---- */

static void write_number(const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)printf(",\"%s\":%s", key, number);
}

static void print_json(const job *j) {
    const mz_trainer_summary *s = &j->summary;
    (void)printf("{\"output\":");
    mz_cli_write_json_string(stdout, j->output);
    (void)printf(",\"first_step\":%" PRId64 ",\"steps\":%" PRId64 ",\"total_steps\":%" PRId64
                 ",\"finished\":%s",
                 s->first_step, s->n_steps, j->recipe.schedule.total_steps,
                 s->is_finished ? "true" : "false");
    write_number("loss", s->loss);
    write_number("evaluation", s->evaluation);
    write_number("seconds", s->seconds);
    (void)printf(",\"tokens\":%" PRId64 ",\"points\":%" PRId64 ",\"parameters\":%" PRId64 "}\n",
                 s->n_tokens, s->n_points, mz_parameters_n_values(j->trainable->parameters));
}

static void print_report(const job *j) {
    const mz_trainer_summary *s = &j->summary;
    const int64_t total = j->recipe.schedule.total_steps;
    if (s->was_finished) {
        (void)printf("finished before: %" PRId64 " of %" PRId64 " steps", s->n_steps, total);
    } else {
        (void)printf("%s: steps %" PRId64 " to %" PRId64 " of %" PRId64
                     " in %.3g s, last loss %.4g",
                     s->is_finished ? "finished" : "stopped; --resume goes on", s->first_step + 1,
                     s->n_steps, total, s->seconds, s->loss);
    }
    if (isfinite(s->evaluation)) {
        (void)printf(", evaluation %.4g", s->evaluation);
    }
    (void)printf("; the model is in ");
    mz_cli_write_plain(stdout, j->output);
    (void)fputc('\n', stdout);
}

/* ---- work ---- */

static bool is_stopped(void *arg) {
    (void)arg;
    return mz_cli_interrupted();
}

/* A checkpoint that a training has written can be tuned, but not in its own place: --resume would
 * take that training for this one. */
static mz_status refuse_base(job *j) {
    const char *dir = j->recipe.model.checkpoint;
    char *base = NULL;
    char *output = NULL;
    if (dir == NULL) {
        return MZ_OK;
    }
    mz_status status = mz_path_join(&j->ctx, dir, "config.json", &base);
    if (status == MZ_OK) {
        status = mz_path_join(&j->ctx, j->output, "config.json", &output);
    }
    if (status == MZ_OK && mz_file_same(base, output)) {
        status = mz_fail(&j->ctx.error, MZ_ERR_ARG,
                         "%s: is the checkpoint that is tuned; --output names another folder",
                         j->output);
    }
    mz_free(&j->ctx, base);
    mz_free(&j->ctx, output);
    return status;
}

static mz_status check_output(job *j) {
    j->output = j->request.output != NULL ? j->request.output : j->recipe.output;
    if (j->output == NULL) {
        return mz_fail(&j->ctx.error, MZ_ERR_MISSING,
                       "%s: output is missing, and so is --output DIR", j->recipe.path);
    }
    MZ_TRY(refuse_base(j));
    /* Said before the data is read; the trainer looks again when it holds the folder. */
    return mz_trainer_check_folder(&j->ctx, j->output, j->request.resume);
}

static mz_status work(job *j) {
    const request *r = &j->request;
    MZ_TRY(mz_train_recipe_load(&j->ctx, r->path, r->sets.items, r->sets.n, &j->recipe));
    if (!r->dry_run) {
        MZ_TRY(check_output(j));
    }
    MZ_TRY(mz_train_job_create(&j->ctx, &j->recipe, &j->trainable));
    if (r->dry_run) {
        return mz_train_dry_run(&j->ctx, &j->recipe, j->trainable, r->json, stdout);
    }
    const mz_trainer_config config = {.recipe = &j->recipe,
                                      .output = j->output,
                                      .resume = r->resume,
                                      .quiet = r->quiet,
                                      .stop = is_stopped};
    mz_cli_catch_interrupts();
    return mz_trainer_run(&j->ctx, j->trainable, &config, &j->summary);
}

static void close_job(job *j) {
    if (j->trainable != NULL) {
        j->trainable->destroy(j->trainable->self);
    }
    mz_train_recipe_free(&j->ctx, &j->recipe);
    mz_context_close(&j->ctx);
}

/* ---- command line ---- */

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    const mz_command *c = &mz_command_train;
    const mz_option options[] = {
        {"set", 0, MZ_OPTION_LIST, "KEY.KEY=VALUE",
         "change the recipe; VALUE is JSON or a bare text; may be given several times", 0, 0, NULL,
         &r->sets},
        {"resume", 0, MZ_OPTION_FLAG, NULL,
         "go on from the newest checkpoint of the output folder; without one, start", 0, 0, NULL,
         &r->resume},
        {"dry-run", 0, MZ_OPTION_FLAG, NULL,
         "say what would be trained, how long and with how much memory; change nothing", 0, 0, NULL,
         &r->dry_run},
        {"output", 'o', MZ_OPTION_STRING, "DIR", "output folder, in place of the recipe's", 0, 0,
         NULL, &r->output},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object at the end; times in seconds", 0, 0,
         NULL, &r->json},
    };
    mz_arguments arguments = {.options = options,
                              .n_options = sizeof options / sizeof options[0],
                              .positionals = &r->path,
                              .max_positionals = 1};
    if (!mz_cli_parse(c, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    r->quiet = common->quiet;
    if (arguments.n_positionals == 0) {
        *exit_code = mz_cli_usage_error(c, "RECIPE.json is missing; usage: %s", c->usage);
        return false;
    }
    return true;
}

static int run(int argc, char **argv) {
    job j = {0};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &j.request, &common, &exit_code) ||
        !mz_cli_context(&mz_command_train, &common, &j.ctx, &exit_code)) {
        return exit_code;
    }
    if (work(&j) != MZ_OK) {
        exit_code = mz_cli_fail(&mz_command_train, &j.ctx.error);
    } else if (j.request.json && !j.request.dry_run) {
        print_json(&j);
    } else if (!j.request.dry_run) {
        print_report(&j);
    }
    close_job(&j);
    return exit_code;
}

const mz_command mz_command_train = {
    .name = "train",
    .summary = "train or tune a model as a recipe says",
    .usage = "moezoo train RECIPE.json [options]",
    .examples = "  moezoo train recipe.json --dry-run\n"
                "  moezoo train recipe.json --output ./my-model\n"
                "  moezoo train recipe.json --resume\n"
                "  moezoo train recipe.json --set schedule.steps=2000 --set optimizer.lr=3e-4\n",
    .run = run,
};
