/* The commands of the program; each is a file apps/cmd_NAME.c. */
#ifndef MZ_APPS_COMMANDS_H
#define MZ_APPS_COMMANDS_H

#include "apps/cli.h"

extern const mz_command mz_command_ask;
extern const mz_command mz_command_forecast;
extern const mz_command mz_command_forecast_evaluate;
extern const mz_command mz_command_forecast_backtest;
extern const mz_command mz_command_forecast_anomalies;
extern const mz_command mz_command_forecast_tune;
extern const mz_command mz_command_train;
extern const mz_command mz_command_models;
extern const mz_command mz_command_bench;
extern const mz_command mz_command_bench_train;
extern const mz_command mz_command_bench_llm;

#endif
