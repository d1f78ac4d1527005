#!/usr/bin/env python3
"""Measures the bands of moezoo forecast on series whose future is known.

    python3 scripts/check-bands.py WINDOWS

WINDOWS is a folder with
    SET__hH.jsonl   the past of each window: {"id": "7", "sequence": [...]}, forecast H steps ahead;
                    a set may have several files
    answers.json    {SET: {ID: {"future": [H numbers], "scale": number}}}; scale is the mean absolute
                    seasonal difference of the past, as in MASE

For each set and level it prints: windows; coverage, in per cent of all points; the points below and
above the band; the mean width and the mean interval score (Gneiting and Raftery 2007, section 6.2:
width + 2 / (1 - level) times what a point lies outside; lower is better), both over scale. "all
points" weighs every point alike, "mean of sets" every set. Only Python's own library is needed.
"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time

COLUMNS = ("windows", "covered", "below", "above", "width", "score")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", metavar="WINDOWS")
    parser.add_argument("--moezoo", metavar="PATH", default="build/moezoo",
                        help="default %(default)s")
    parser.add_argument("--levels", metavar="A,B", default="80,95", help="default %(default)s")
    parser.add_argument("--most", metavar="N", type=int, default=0,
                        help="windows of a set, evenly spaced (default: all)")
    parser.add_argument("--sets", metavar="A,B", default="", help="only these")
    parser.add_argument("--option", metavar="--X=Y", action="append", default=[],
                        help="passed to moezoo forecast; may be given several times")
    parser.add_argument("-o", metavar="FILE", dest="out", help="write the figures as JSON")
    arguments = parser.parse_args()
    arguments.levels = [float(text) for text in arguments.levels.split(",")]
    return arguments


def evenly(items, most):
    if not most or len(items) <= most:
        return set(items)
    return {items[i * (len(items) - 1) // max(most - 1, 1)] for i in range(most)}


def forecast(arguments, path, horizon, wanted):
    """{id: answer} of the wanted windows of one file."""
    with open(path, encoding="utf-8") as file, \
            tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as chosen:
        for line in file:
            if json.loads(line)["id"] in wanted:
                chosen.write(line)
        chosen.flush()
        if os.path.getsize(chosen.name) == 0:
            return {}
        command = [arguments.moezoo, "forecast", chosen.name, "--horizon", str(horizon),
                   "--level", ",".join(f"{level:g}" for level in arguments.levels), "--json",
                   "--quiet"] + arguments.option
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {series["id"]: series for series in json.loads(answer)["series"]}


def keys_of(level):
    return f"{(100 - level) / 200:.10g}", f"{(100 + level) / 200:.10g}"


def add_window(sums, answer, truth, level):
    """Sums over the points of one window."""
    low, high = (answer["quantiles"][key] for key in keys_of(level))
    sums["windows"] += 1
    for y, a, b in zip(truth["future"], low, high):
        if y is None:
            continue
        outside = max(a - y, y - b, 0)
        sums["points"] += 1
        sums["below"] += y < a
        sums["above"] += y > b
        sums["width"] += (b - a) / truth["scale"]
        sums["score"] += (b - a + 2 / (1 - level / 100) * outside) / truth["scale"]


def figures_of(sums):
    n = sums["points"]
    return {"windows": int(sums["windows"]), "points": int(n),
            "covered": 100 * (n - sums["below"] - sums["above"]) / n,
            "below": 100 * sums["below"] / n, "above": 100 * sums["above"] / n,
            "width": sums["width"] / n, "score": sums["score"] / n}


def total(figures):
    """The last two rows of one level."""
    n = sum(f["points"] for f in figures)
    windows = sum(f["windows"] for f in figures)
    every = {key: sum(f[key] * f["points"] for f in figures) / n for key in COLUMNS[1:]}
    mean = {key: sum(f[key] for f in figures) / len(figures) for key in COLUMNS[1:]}
    return {"all points": {**every, "windows": windows, "points": n},
            "mean of sets": {**mean, "windows": windows, "points": n}}


def measure(arguments):
    with open(os.path.join(arguments.windows, "answers.json"), encoding="utf-8") as file:
        answers = json.load(file)
    sums = {level: collections.defaultdict(lambda: collections.defaultdict(float))
            for level in arguments.levels}
    only = arguments.sets.split(",") if arguments.sets else list(answers)
    for name in sorted(os.listdir(arguments.windows)):
        if not name.endswith(".jsonl") or "__h" not in name:
            continue
        set_name, horizon = name[:-len(".jsonl")].rsplit("__h", 1)
        if set_name not in only:
            continue
        wanted = evenly(list(answers[set_name]), arguments.most)
        path = os.path.join(arguments.windows, name)
        for key, answer in forecast(arguments, path, int(horizon), wanted).items():
            if "error" in answer:
                print(f"{name}: {key}: {answer['error']}", file=sys.stderr)
                continue
            for level in arguments.levels:
                add_window(sums[level][set_name], answer, answers[set_name][key], level)
    return {level: {name: figures_of(s) for name, s in sets.items()}
            for level, sets in sums.items()}


def main():
    arguments = parse_arguments()
    start = time.monotonic()
    report = measure(arguments)
    for level, sets in report.items():
        sets.update(total(list(sets.values())))
        print(f"\nlevel {level:g} %\n\n| set | " + " | ".join(COLUMNS) + " |")
        print("| --- " * (len(COLUMNS) + 1) + "|")
        for name, f in sets.items():
            print(f"| {name} | {f['windows']} | {f['covered']:.1f} | {f['below']:.1f} | "
                  f"{f['above']:.1f} | {f['width']:.3g} | {f['score']:.3g} |")
    print(f"\n{time.monotonic() - start:.1f} s")
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
