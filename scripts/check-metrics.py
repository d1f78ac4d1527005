#!/usr/bin/env python3
"""Compares the scores of `moezoo forecast backtest` with those of utilsforecast (PyPI).

Runs the backtest of a file of JSON lines without gaps, takes the forecasts of its windows from the
JSON, and lets utilsforecast.losses score them:

    python scripts/check-metrics.py build/moezoo series.jsonl --horizon 6 --windows 3

Prints the largest relative difference of each metric over all series and methods; exit code 1 if
one is above --tolerance. utilsforecast's sMAPE and quantile losses are half of ours by definition.
MASE, RMSSE and SQL are means over the windows, as they are in fev.
"""
import argparse
import json
import subprocess
import sys

import numpy as np
import pandas as pd
from utilsforecast import losses

LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
METHODS = ["model", "naive", "seasonal_naive", "drift", "damped", "theta"]


def read_series(path):
    series = {}
    for number, line in enumerate(open(path), 1):
        item = json.loads(line)
        item = {"sequence": item} if isinstance(item, list) else item
        series[str(item.get("id", number))] = item["sequence"]
    return series


def run_backtest(args):
    command = [args.moezoo, "forecast", "backtest", args.file, "-n", str(args.horizon), "--windows", str(args.windows),
               "--season", args.season, "--quantiles", ",".join(map(str, LEVELS)), "--json", "--forecasts", "--quiet"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def frame_of(item, window, model, history):
    """One window as utilsforecast wants it, and the past that scales it."""
    data = {"unique_id": item["id"], "ds": np.arange(len(window["truth"])) + window["origin"], "y": window["truth"]}
    data.update({m: window[model if m == "model" else m] for m in METHODS})
    data.update({f"model-q{q}": window["quantiles"][str(q)] for q in LEVELS})
    past = pd.DataFrame({"unique_id": item["id"], "ds": np.arange(window["origin"]), "y": history[:window["origin"]]})
    return pd.DataFrame(data), past


def one(df, models=METHODS):
    """The only row of an answer as numbers."""
    return {m: float(df[m].iloc[0]) for m in models}


def scores_of(item, model, history):
    frames, scaled = [], []
    quantiles = {"model": [f"model-q{q}" for q in LEVELS]}
    for window in item["forecasts"]:
        df, past = frame_of(item, window, model, history)
        season = window["season"]
        frames.append(df)
        scaled.append({
            "mase": one(losses.mase(df, METHODS, season, past)),
            "rmsse": one(losses.rmsse(df, METHODS, season, past)),
            "sql": {"model": 2 * float(losses.scaled_mqloss(df, quantiles, np.array(LEVELS), season, past)["model"].iloc[0])},
        })
    df = pd.concat(frames)
    df["ds"] = np.arange(len(df))
    pinball = 2 * float(losses.mqloss(df, quantiles, np.array(LEVELS))["model"].iloc[0])
    df["model-lo-80"], df["model-hi-80"] = df["model-q0.1"], df["model-q0.9"]
    out = {
        "mae": one(losses.mae(df, METHODS)),
        "mse": one(losses.mse(df, METHODS)),
        "rmse": one(losses.rmse(df, METHODS)),
        "mape": one(losses.mape(df, METHODS)),
        "smape": {m: 2 * v for m, v in one(losses.smape(df, METHODS)).items()},
        "wape": one(losses.nd(df, METHODS)),
        "pinball": {"model": pinball},
        "wql": {"model": pinball / float(df["y"].abs().mean())},
        "coverage": one(losses.coverage(df, ["model"], 80), ["model"]),
        "width": {"model": float((df["model-hi-80"] - df["model-lo-80"]).mean())},
    }
    for key in ("mase", "rmsse", "sql"):
        out[key] = {m: float(np.mean([s[key][m] for s in scaled])) for m in scaled[0][key]}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moezoo")
    parser.add_argument("file")
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--season", default="auto")
    parser.add_argument("--tolerance", type=float, default=1e-9)
    args = parser.parse_args()
    answer = run_backtest(args)
    history = read_series(args.file)
    worst, n_series, n_compared = {}, 0, 0
    for item in answer["series"]:
        if "error" in item:
            print(f'{item["id"]}: {item["error"]}', file=sys.stderr)
            continue
        n_series += 1
        for key, values in scores_of(item, answer["model"], history[item["id"]]).items():
            for method, theirs in values.items():
                ours = item["scores"][answer["model"] if method == "model" else method][key]
                if ours is None or not np.isfinite(theirs):
                    if (ours is None) == bool(np.isfinite(theirs)):
                        print(f'{item["id"]}, {method}: {key} is {ours}, utilsforecast says {theirs}')
                    continue
                difference = abs(ours - theirs) / max(abs(theirs), 1e-12)
                n_compared += 1
                if difference >= worst.get(key, (-1,))[0]:
                    worst[key] = (difference, item["id"], method, ours, theirs)
    print(f"{n_series} series, {n_compared} scores")
    for key, (difference, name, method, ours, theirs) in worst.items():
        print(f"{key:9s} {difference:9.2e}  ({name}, {method}: {ours:.12g}, utilsforecast {theirs:.12g})")
    return int(max(w[0] for w in worst.values()) > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
